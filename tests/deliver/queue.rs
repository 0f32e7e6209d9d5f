//! Deliveries from outside: the outbox on one side, receivers on loopback on the other.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{Outbox, alert, eventually};
use crate::http::{Reply, Server};
use futures::future::BoxFuture;
use lanner::alert::{Alert, Severity};
use lanner::config::secret::Secret;
use lanner::deliver::webhook::{Webhook, WebhookConfig};
use lanner::deliver::{
    Attempt, Death, FailureReason, Notification, Observer, Options, Receiver, start,
};
use lanner::store::{Commit, NewNotification};
use tokio_util::sync::CancellationToken;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn quick() -> Options {
    Options {
        min_delay: Duration::from_millis(20),
        max_delay: Duration::from_millis(80),
        ..Options::default()
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Heard {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Observer for Heard {
    fn delivered(&self, receiver: &str, _waited: Duration, enqueued: Option<jiff::Timestamp>) {
        let of = enqueued
            .map(|time| format!(" of {time}"))
            .unwrap_or_default();
        let line = format!("{receiver} delivered{of}");
        self.0.lock().unwrap().push(line);
    }

    fn failed(&self, receiver: &str, reason: FailureReason) {
        let line = format!("{receiver} {}", reason.as_str());
        self.0.lock().unwrap().push(line);
    }

    fn died(&self, receiver: &str, death: Death, severity: Severity) {
        let line = format!("{receiver} {death:?} {severity}");
        self.0.lock().unwrap().push(line);
    }
}

/// Runs the queue of one receiver until the outbox holds `left` notifications for it.
async fn run_until(
    outbox: &Outbox,
    receiver: Box<dyn Receiver>,
    options: Options,
    left: u64,
) -> Arc<Heard> {
    let heard = Arc::new(Heard::default());
    let deliveries = start(
        Arc::clone(&outbox.store),
        vec![("r".to_owned(), receiver)],
        heard.clone(),
        options,
        &CancellationToken::new(),
    );
    eventually("the outbox drains", || outbox.pending("r") == left).await;
    deliveries.join(Duration::from_secs(5)).await;
    heard
}

pub fn webhook(url: &str) -> Box<dyn Receiver> {
    let config = WebhookConfig {
        timeout_secs: 1,
        signing_secret: Some(Secret::new(SECRET)),
        bearer_token: Some(Secret::new("t0ken")),
        ..WebhookConfig::to(url)
    };
    Box::new(Webhook::new("soc", &config).unwrap())
}

#[tokio::test]
async fn an_alert_arrives_whole_and_signed() {
    let server = Server::start(vec![Reply::status(204)]).await;
    let outbox = Outbox::new();
    outbox.add("r", "a-1", Severity::High);
    let heard = run_until(&outbox, webhook(&server.url("/hook?sig=hush")), quick(), 0).await;
    assert_eq!(heard.all(), ["r delivered"]);

    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!(request.uri, "/hook?sig=hush");
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("webhook-id"), "a-1");
    assert_eq!(request.header("idempotency-key"), "a-1");
    assert_eq!(request.header("authorization"), "Bearer t0ken");
    assert!(request.header("user-agent").starts_with("lanner/"));
    assert!(request.signature_holds(SECRET));
    let received: Alert = serde_json::from_str(&request.body).unwrap();
    assert_eq!(received, alert("a-1", Severity::High));
}

#[tokio::test]
async fn a_delivery_knows_when_its_cause_came_in() {
    let server = Server::start(vec![Reply::status(503)]).await;
    let outbox = Outbox::new();
    let enqueued = "2026-11-20T10:04:30.123Z";
    let commit = Commit {
        notifications: vec![NewNotification {
            notification_id: "a-1".to_owned(),
            receiver: "r".to_owned(),
            severity: Severity::High,
            body: "{}".to_owned(),
            enqueued: enqueued.parse().ok(),
        }],
        ..Commit::default()
    };
    outbox.store.commit(&commit).unwrap();
    let outbox = outbox.reopen();
    let heard = run_until(&outbox, webhook(&server.url("/")), quick(), 0).await;
    let delivered = format!("r delivered of {enqueued}");
    assert_eq!(heard.all(), ["r server_error", &delivered]);
}

#[tokio::test]
async fn a_failed_attempt_is_repeated_with_the_same_id_and_a_new_signature() {
    let server = Server::start(vec![
        Reply::status(500),
        Reply::CloseEarly,
        Reply::status(503),
        Reply::status(200),
    ])
    .await;
    let outbox = Outbox::new();
    outbox.add("r", "a-1", Severity::High);
    let heard = run_until(&outbox, webhook(&server.url("/")), quick(), 0).await;
    let expected = [
        "r server_error",
        "r connect",
        "r server_error",
        "r delivered",
    ];
    assert_eq!(heard.all(), expected);
    for request in server.requests() {
        assert_eq!(request.header("webhook-id"), "a-1");
        assert!(request.signature_holds(SECRET));
    }
    assert_eq!(outbox.dead("r"), 0);
}

#[tokio::test]
async fn a_receiver_says_when_to_come_again() {
    let server = Server::start(vec![Reply::status(429).with("retry-after", "1800")]).await;
    let outbox = Outbox::new();
    outbox.add("r", "a-1", Severity::High);
    let deliveries = start(
        Arc::clone(&outbox.store),
        vec![("r".to_owned(), webhook(&server.url("/")))],
        Arc::new(()),
        quick(),
        &CancellationToken::new(),
    );
    eventually("it was refused", || outbox.entries("r")[0].attempts == 1).await;
    let next = outbox.entries("r")[0].at;
    let wait = next.duration_since(jiff::Timestamp::now());
    assert!(wait > jiff::SignedDuration::from_mins(25), "{wait}");
    deliveries.join(Duration::from_secs(5)).await;
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_refused_notification_becomes_a_dead_letter_and_the_next_one_goes() {
    let server = Server::start(vec![
        Reply::status(400).body("no field `x`\x1b[2J password=hush"),
        Reply::status(200),
    ])
    .await;
    let outbox = Outbox::new();
    outbox.add("r", "a-1", Severity::High);
    outbox.add("r", "a-2", Severity::Low);
    let heard = run_until(&outbox, webhook(&server.url("/")), quick(), 0).await;
    let expected = ["r client_error", "r Rejected high", "r delivered"];
    assert_eq!(heard.all(), expected);
    let dead = outbox.entries("r");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].notification_id, "a-1");
    assert!(
        dead[0]
            .error
            .starts_with("HTTP 400 Bad Request: no field `x`\\x1b[2J")
    );
    assert!(!dead[0].error.contains("hush"), "{}", dead[0].error);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = Server::start(vec![]).await;
    let server = Server::start(vec![
        Reply::status(307).with("location", &other.url("/elsewhere")),
        Reply::status(200),
    ])
    .await;
    let outbox = Outbox::new();
    outbox.add("r", "a-1", Severity::High);
    let heard = run_until(&outbox, webhook(&server.url("/")), quick(), 0).await;
    assert_eq!(heard.all(), ["r redirect", "r delivered"]);
    assert!(other.requests().is_empty());
}

#[tokio::test]
async fn a_receiver_that_hangs_is_left_and_tried_again() {
    let server = Server::start(vec![Reply::Hang, Reply::status(200)]).await;
    let outbox = Outbox::new();
    outbox.add("r", "a-1", Severity::High);
    let heard = run_until(&outbox, webhook(&server.url("/")), quick(), 0).await;
    assert_eq!(heard.all(), ["r timeout", "r delivered"]);
}

#[tokio::test]
async fn errors_hold_no_secret() {
    let receiver = webhook("http://127.0.0.1:9/hook?sig=hush");
    let notification = Notification {
        notification_id: "a-1".to_owned(),
        severity: Severity::High,
        body: "{}".to_owned(),
    };
    let Attempt::Retry { reason, detail, .. } = receiver.deliver(&notification).await else {
        panic!("nothing listens there");
    };
    assert_eq!(reason, FailureReason::Connect);
    assert!(
        !detail.contains("hush") && !detail.contains("t0ken"),
        "{detail}"
    );
    let receiver = webhook("https://no-such-host.invalid/hook?sig=hush");
    let Attempt::Retry { reason, detail, .. } = receiver.deliver(&notification).await else {
        panic!("there is no such host");
    };
    // Where the resolver itself hangs, the time runs out first.
    let expected = [FailureReason::Dns, FailureReason::Timeout];
    assert!(expected.contains(&reason), "{detail}");
    assert!(!detail.contains("hush"), "{detail}");
}

#[tokio::test]
async fn an_answer_without_end_is_not_read() {
    let server = Server::start(vec![Reply::Endless(200), Reply::Endless(404)]).await;
    let outbox = Outbox::new();
    outbox.add("r", "a-1", Severity::High);
    outbox.add("r", "a-2", Severity::High);
    let heard = run_until(&outbox, webhook(&server.url("/")), quick(), 0).await;
    let expected = ["r delivered", "r client_error", "r Rejected high"];
    assert_eq!(heard.all(), expected);
}

/// Fails for the ids that it is told, or for all.
struct Picky {
    fails: fn(&str) -> bool,
    tried: Arc<Mutex<Vec<String>>>,
}

impl Receiver for Picky {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Attempt> {
        let id = notification.notification_id.clone();
        let fails = (self.fails)(&id);
        self.tried.lock().unwrap().push(id);
        Box::pin(async move {
            if fails {
                Attempt::Retry {
                    reason: FailureReason::ServerError,
                    after: None,
                    detail: "HTTP 500".to_owned(),
                }
            } else {
                Attempt::Delivered
            }
        })
    }
}

#[tokio::test]
async fn one_alert_that_upsets_a_receiver_does_not_hold_up_the_rest() {
    let outbox = Outbox::new();
    for id in ["poison", "b", "c", "d"] {
        outbox.add("r", id, Severity::High);
    }
    let tried = Arc::new(Mutex::new(Vec::new()));
    let receiver = Picky {
        fails: |id| id == "poison",
        tried: tried.clone(),
    };
    run_until(&outbox, Box::new(receiver), quick(), 1).await;
    let tried = tried.lock().unwrap().clone();
    assert_eq!(tried[..4], ["poison", "poison", "poison", "b"]);
    assert_eq!(outbox.entries("r")[0].notification_id, "poison");
}

/// Some of it has been tried in the place of the oldest.
#[tokio::test]
async fn after_an_outage_everything_arrives_in_its_order() {
    let outbox = Outbox::new();
    let ids = ["a", "b", "c", "d", "e"];
    for id in ids {
        outbox.add("r", id, Severity::High);
    }
    let down = 8;
    let server = Server::start(vec![Reply::status(503); down]).await;
    run_until(&outbox, webhook(&server.url("/")), quick(), 0).await;
    let requests = server.requests();
    let tried = |requests: &[crate::http::Request]| -> Vec<String> {
        let id = |request: &crate::http::Request| request.header("webhook-id").to_owned();
        requests.iter().map(id).collect()
    };
    assert_eq!(tried(&requests[..down])[3..], ["b", "a", "c", "a", "d"]);
    assert_eq!(tried(&requests[down..]), ids);
}

#[tokio::test]
async fn what_is_too_old_is_given_up() {
    let outbox = Outbox::new();
    outbox.add("r", "a-1", Severity::Critical);
    let receiver = Picky {
        fails: |_| true,
        tried: Arc::default(),
    };
    let options = Options {
        max_age: Duration::from_millis(100),
        ..quick()
    };
    let heard = run_until(&outbox, Box::new(receiver), options, 0).await;
    assert_eq!(heard.all().last().unwrap(), "r Expired critical");
    assert_eq!(outbox.dead("r"), 1);
}

#[tokio::test]
async fn receivers_do_not_wait_for_each_other() {
    let server = Server::start(vec![Reply::Hang; 20]).await;
    let outbox = Outbox::new();
    for n in 0..5 {
        outbox.add("stuck", &format!("a-{n}"), Severity::High);
        outbox.add("fine", &format!("a-{n}"), Severity::High);
    }
    let tried = Arc::new(Mutex::new(Vec::new()));
    let fine = Picky {
        fails: |_| false,
        tried: tried.clone(),
    };
    let deliveries = start(
        Arc::clone(&outbox.store),
        vec![
            ("stuck".to_owned(), webhook(&server.url("/"))),
            ("fine".to_owned(), Box::new(fine)),
        ],
        Arc::new(()),
        quick(),
        &CancellationToken::new(),
    );
    eventually("the other one has all", || outbox.pending("fine") == 0).await;
    assert_eq!(outbox.pending("stuck"), 5);
    assert_eq!(*tried.lock().unwrap(), ["a-0", "a-1", "a-2", "a-3", "a-4"]);
    // The one that hangs is aborted at the deadline.
    deliveries.join(Duration::from_millis(50)).await;
    assert_eq!(outbox.pending("stuck"), 5);
}

#[tokio::test]
async fn a_commit_wakes_the_queue_and_shutdown_drains_it() {
    let outbox = Outbox::new();
    let server = Server::start(vec![]).await;
    let cancel = CancellationToken::new();
    let deliveries = start(
        Arc::clone(&outbox.store),
        vec![("r".to_owned(), webhook(&server.url("/")))],
        Arc::new(()),
        quick(),
        &cancel,
    );
    outbox.add("r", "a-1", Severity::High);
    deliveries.wake().wake();
    eventually("it arrives", || server.requests().len() == 1).await;
    // Without waking: the shutdown finds it.
    outbox.add("r", "a-2", Severity::High);
    cancel.cancel();
    deliveries.join(Duration::from_secs(5)).await;
    assert_eq!(outbox.pending("r"), 0);
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn what_was_delivered_is_not_sent_again_after_a_restart() {
    let outbox = Outbox::new();
    let server = Server::start(vec![]).await;
    outbox.add("r", "a-1", Severity::High);
    run_until(&outbox, webhook(&server.url("/")), quick(), 0).await;
    let outbox = outbox.reopen();
    outbox.add("r", "a-1", Severity::High);
    outbox.add("r", "a-2", Severity::High);
    run_until(&outbox, webhook(&server.url("/")), quick(), 0).await;
    let ids: Vec<_> = server
        .requests()
        .iter()
        .map(|request| request.header("webhook-id").to_owned())
        .collect();
    assert_eq!(ids, ["a-1", "a-2"]);
}
