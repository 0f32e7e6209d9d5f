//! Receivers in every kind of trouble, and what the queue makes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use lanner::alert::Severity;
use lanner::deliver::email::{Email, EmailConfig, Tls};
use lanner::deliver::{Attempt, FailureReason, Notification, Options, Receiver, start};
use lanner::wall::Wall;
use tokio_util::sync::CancellationToken;

use crate::common::{Outbox, alert, eventually};
use crate::http::{Reply, Server};
use crate::queue::webhook;
use crate::smtp;

fn notification() -> Notification {
    Notification {
        notification_id: "a-1".to_owned(),
        severity: Severity::High,
        body: serde_json::to_string(&alert("a-1", Severity::High)).unwrap(),
    }
}

async fn one(reply: Reply) -> Attempt {
    let server = Server::start(vec![reply]).await;
    webhook(&server.url("/")).deliver(&notification()).await
}

#[tokio::test]
async fn every_status_is_taken_for_what_it_says() {
    for status in [200, 201, 202, 204, 299] {
        assert_eq!(
            one(Reply::status(status)).await,
            Attempt::Delivered,
            "{status}"
        );
    }
    for status in [
        400, 401, 402, 403, 404, 405, 406, 409, 410, 413, 415, 422, 431, 451,
    ] {
        let attempt = one(Reply::status(status)).await;
        assert!(
            matches!(attempt, Attempt::Rejected { .. }),
            "{status}: {attempt:?}"
        );
    }
    for status in [
        301, 302, 303, 307, 308, 408, 425, 429, 500, 501, 502, 503, 504, 507, 599, 600, 999,
    ] {
        let attempt = one(Reply::status(status)).await;
        assert!(
            matches!(attempt, Attempt::Retry { .. }),
            "{status}: {attempt:?}"
        );
    }
}

#[tokio::test]
async fn answers_that_are_none_are_tried_again() {
    let broken: [&'static [u8]; 6] = [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 20",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/9.9 200 OK\r\n\r\n",
        &[0xff; 4096],
    ];
    for bytes in broken {
        let attempt = one(Reply::Raw(bytes)).await;
        assert!(
            matches!(attempt, Attempt::Retry { .. }),
            "{bytes:?}: {attempt:?}"
        );
    }
    // It has said that it has it: what else it wanted to say does not matter.
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nthan";
    assert_eq!(one(Reply::Raw(cut)).await, Attempt::Delivered);
    let cut = b"HTTP/1.1 503 Busy\r\ncontent-length: 100\r\n\r\nlat";
    let attempt = one(Reply::Raw(cut)).await;
    let expected = FailureReason::ServerError;
    assert!(
        matches!(attempt, Attempt::Retry { reason, .. } if reason == expected),
        "{attempt:?}"
    );
}

#[tokio::test]
async fn one_that_drips_is_left_at_the_time_limit() {
    let attempt = one(Reply::Drip).await;
    let expected = FailureReason::Timeout;
    assert!(
        matches!(attempt, Attempt::Retry { reason, .. } if reason == expected),
        "{attempt:?}"
    );
}

#[tokio::test]
async fn no_receiver_asks_for_more_than_an_hour() {
    for absurd in [
        "18446744073709551615",
        "31536000",
        "Fri, 01 Jan 9999 00:00:00 GMT",
    ] {
        let server = Server::start(vec![Reply::status(429).with("retry-after", absurd)]).await;
        let outbox = Outbox::new();
        outbox.add("r", "a-1", Severity::High);
        let deliveries = start(
            Arc::clone(&outbox.store),
            vec![("r".to_owned(), webhook(&server.url("/")))],
            Arc::new(()),
            Options::default(),
            &CancellationToken::new(),
        );
        eventually("it was refused", || outbox.entries("r")[0].attempts == 1).await;
        let wait = outbox.entries("r")[0].at.duration_since(Timestamp::now());
        assert!(wait > SignedDuration::from_mins(55), "{absurd}: {wait}");
        assert!(wait <= SignedDuration::from_mins(60), "{absurd}: {wait}");
        deliveries.join(Duration::from_secs(5)).await;
    }
    // What is no time at all is not followed either: the usual pause.
    for garbage in ["soon", "-5", "99999999999999999999999", "1e9", ""] {
        let reply = Reply::status(429).with("retry-after", garbage);
        let Attempt::Retry { after, .. } = one(reply).await else {
            panic!("{garbage}");
        };
        assert_eq!(after, None, "{garbage}");
    }
}

#[tokio::test]
async fn one_that_is_down_for_two_days_gets_everything_in_order() {
    // Time passes by both clocks, faster than it does.
    let hours = Arc::new(AtomicU64::new(0));
    let (passed, began) = (
        Arc::clone(&hours),
        (Timestamp::now(), std::time::Instant::now()),
    );
    let wall = Wall::with(move || {
        let gone = Duration::from_secs(3600 * passed.load(Ordering::SeqCst)) + began.1.elapsed();
        (began.0 + SignedDuration::try_from(gone).unwrap(), gone)
    });
    let server = Server::start(vec![Reply::CloseEarly; 48]).await;
    let outbox = Outbox::new();
    for number in 0..5 {
        outbox.add("r", &format!("a-{number}"), Severity::High);
    }
    let options = Options {
        min_delay: Duration::from_millis(10),
        max_delay: Duration::from_millis(20),
        wall: Arc::new(wall),
        ..Options::default()
    };
    let deliveries = start(
        Arc::clone(&outbox.store),
        vec![("r".to_owned(), webhook(&server.url("/")))],
        Arc::new(()),
        options,
        &CancellationToken::new(),
    );
    for hour in 1..=48 {
        let tried = hour as usize;
        eventually("it fails", || server.requests().len() >= tried).await;
        hours.store(hour, Ordering::SeqCst);
        deliveries.wake().wake();
    }
    eventually("all arrive", || outbox.pending("r") == 0).await;
    deliveries.join(Duration::from_secs(5)).await;
    assert_eq!(outbox.dead("r"), 0);
    let mut arrived: Vec<String> = server.requests()[48..]
        .iter()
        .map(|request| request.header("webhook-id").to_owned())
        .collect();
    arrived.sort();
    assert_eq!(arrived, ["a-0", "a-1", "a-2", "a-3", "a-4"]);
}

#[tokio::test]
async fn a_person_who_asks_is_not_kept_waiting_by_a_pause() {
    let server = Server::start(vec![Reply::status(429).with("retry-after", "3000")]).await;
    let outbox = Outbox::new();
    outbox.add("r", "a-1", Severity::High);
    let deliveries = start(
        Arc::clone(&outbox.store),
        vec![("r".to_owned(), webhook(&server.url("/")))],
        Arc::new(()),
        Options::default(),
        &CancellationToken::new(),
    );
    eventually("it was refused", || outbox.entries("r")[0].attempts == 1).await;
    let seq = outbox.entries("r")[0].seq;
    let retried = outbox.inspector().retry(seq).unwrap();
    assert_eq!(retried, lanner::store::Released::Done);
    deliveries.wake().wake();
    eventually("it arrives", || outbox.pending("r") == 0).await;
    deliveries.join(Duration::from_secs(5)).await;
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_mail_server_that_hangs_at_any_step_is_left() {
    let scripts: [smtp::Script; 4] = [
        |line, _| line.starts_with("EHLO").then_some(smtp::HANG),
        |line, _| line.starts_with("MAIL").then_some(smtp::HANG),
        |line, _| line.starts_with("RCPT").then_some(smtp::HANG),
        |line, _| line.starts_with("DATA").then_some(smtp::HANG),
    ];
    for (step, script) in scripts.into_iter().enumerate() {
        let server = smtp::Server::start(script).await;
        let config = EmailConfig {
            port: Some(server.port),
            tls: Tls::None,
            timeout_secs: 1,
            ..EmailConfig::to("127.0.0.1", "lanner@example.com", &["oncall@example.com"])
        };
        let email = Email::new("oncall", &config).unwrap();
        let attempt = email.deliver(&notification()).await;
        let expected = FailureReason::Timeout;
        assert!(
            matches!(attempt, Attempt::Retry { reason, .. } if reason == expected),
            "{step}: {attempt:?}"
        );
        assert!(server.mails().is_empty());
    }
}
