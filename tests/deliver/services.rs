//! Services as a configuration's tables make them, each against a server on loopback.

use lanner::alert::{Severity, Status};
use lanner::config::load_text;
use lanner::deliver::{Attempt, FailureReason, Notification, Receiver};
use serde_json::Value;

use crate::common::alert;
use crate::http::{Reply, Server};

fn notification(status: Status) -> Notification {
    let mut alert = alert("5d1f0c-1", Severity::High);
    if status == Status::Closed {
        alert.notification_id = "5d1f0c-closed".to_owned();
        alert.status = status;
    }
    Notification {
        notification_id: alert.notification_id.clone(),
        severity: alert.severity,
        body: serde_json::to_string(&alert).unwrap(),
    }
}

/// The only receiver of a configuration, under the name that routes say.
fn receiver(text: &str) -> Box<dyn Receiver> {
    let loaded = load_text("lanner.toml", text, &[]).unwrap_or_else(|errors| {
        panic!("{}", errors[0]);
    });
    let mut receivers = loaded.config.deliver.make().unwrap();
    assert_eq!(receivers.len(), 1);
    receivers.remove(0).1
}

async fn attempt(text: &str, status: Status) -> Attempt {
    receiver(text).deliver(&notification(status)).await
}

#[tokio::test]
async fn each_service_gets_its_own_form_at_its_own_address() {
    let server = Server::start(Vec::new()).await;
    let at = |path: &str| server.url(path);
    let tables = [
        format!("[slack.a]\nurl = {:?}", at("/services/T0/B0/x")),
        format!("[teams.a]\nurl = {:?}", at("/workflows/x?sig=y")),
        format!(
            "[pagerduty.a]\nrouting-key = \"k\"\nurl = {:?}",
            at("/v2/enqueue")
        ),
        format!(
            "[alertmanager.a]\nbearer-token = \"t\"\nurl = {:?}",
            at("/prefix/")
        ),
        format!("[ocsf.a]\nurl = {:?}", at("/ocsf")),
        format!(
            "[webhook.a]\ncontent-type = \"text/plain\"\nbody = \"{{{{ subject }}}}\"\nurl = {:?}",
            at("/own")
        ),
    ];
    for table in &tables {
        let outcome = attempt(table, Status::Open).await;
        assert_eq!(outcome, Attempt::Delivered, "{table}");
    }
    let requests = server.requests();
    let uris: Vec<&str> = requests.iter().map(|request| &*request.uri).collect();
    let expected = [
        "/services/T0/B0/x",
        "/workflows/x?sig=y",
        "/v2/enqueue",
        "/prefix/api/v2/alerts",
        "/ocsf",
        "/own",
    ];
    assert_eq!(uris, expected);
    let marks = ["blocks", "attachments", "dedup_key", "0", "class_uid"];
    for (request, mark) in requests.iter().zip(marks) {
        assert_eq!(request.header("content-type"), "application/json");
        let body: Value = serde_json::from_str(&request.body).unwrap();
        let holds = match mark {
            "0" => body[0]["labels"]["alertname"] == "pod-exec",
            mark => !body[mark].is_null(),
        };
        assert!(holds, "{mark}: {body:#}");
    }
    assert_eq!(requests[3].header("authorization"), "Bearer t");
    assert_eq!(requests[4].header("webhook-id"), "5d1f0c-1");
    let own = &requests[5];
    assert_eq!(own.header("content-type"), "text/plain");
    assert!(own.body.starts_with("[HIGH] mallory@example.com ran"));
}

#[tokio::test]
async fn what_a_service_answers_decides_on_the_next_attempt() {
    let retry = |reason, seconds: Option<u64>| (Some(reason), seconds);
    let cases = [
        (Reply::status(202), (None, None)),
        (
            Reply::status(429).with("Retry-After", "30"),
            retry(FailureReason::RateLimited, Some(30)),
        ),
        (Reply::status(500), retry(FailureReason::ServerError, None)),
        (Reply::CloseEarly, retry(FailureReason::Connect, None)),
    ];
    for kind in ["slack", "teams", "pagerduty", "alertmanager", "ocsf"] {
        let replies = cases.iter().map(|(reply, _)| reply.clone());
        let refusal = Reply::status(400).body("invalid event");
        let server = Server::start(replies.chain([refusal]).collect()).await;
        let mut text = format!("[{kind}.a]\nurl = {:?}\n", server.url("/x"));
        if kind == "pagerduty" {
            text.push_str("routing-key = \"hush\"\n");
        }
        for (_, expected) in &cases {
            let found = match attempt(&text, Status::Open).await {
                Attempt::Delivered => (None, None),
                Attempt::Retry { reason, after, .. } => {
                    (Some(reason), after.map(|after| after.as_secs()))
                }
                rejected => panic!("{kind}: {rejected:?}"),
            };
            assert_eq!(found, *expected, "{kind}");
        }
        let Attempt::Rejected { reason, detail } = attempt(&text, Status::Open).await else {
            panic!("{kind}: is tried again after 400");
        };
        assert_eq!(reason, FailureReason::ClientError);
        assert!(detail.contains("invalid event") && !detail.contains("hush"));
    }
}

#[tokio::test]
async fn what_a_receiver_echoes_is_not_kept() {
    let echo =
        "no such hook: /services/T0/B0/hush-in-a-path?key=hush-in-a-query, Bearer hush-as-a-token";
    let server = Server::start(vec![Reply::status(404).body(echo)]).await;
    let url = server.url("/services/T0/B0/hush-in-a-path?key=hush-in-a-query");
    let text = format!("[webhook.a]\nurl = {url:?}\nbearer-token = \"hush-as-a-token\"\n");
    let Attempt::Rejected { detail, .. } = attempt(&text, Status::Open).await else {
        panic!("a 404 is final");
    };
    assert!(detail.contains("no such hook"), "{detail}");
    assert!(!detail.contains("hush"), "{detail}");
}

#[test]
fn closings_go_to_those_who_want_them() {
    let text = r#"
[slack.a]
url = "https://hooks.slack.com/services/x"
[slack.b]
url = "https://hooks.slack.com/services/x"
send-closed = true
[pagerduty.a]
routing-key = "k"
[pagerduty.b]
routing-key = "k"
send-closed = false
[alertmanager.a]
url = "https://alertmanager.example"
[ocsf.a]
url = "https://ocsf.example"
[email.a]
host = "smtp.example"
from = "a@b.example"
to = ["c@d.example"]
"#;
    let loaded = load_text("lanner.toml", text, &[]).unwrap_or_else(|e| panic!("{}", e[0]));
    let alert = alert("a", Severity::High);
    let closed = loaded.config.route_closed((&alert).into());
    assert_eq!(closed, ["slack.b", "pagerduty.a", "alertmanager.a"]);
    assert_eq!(loaded.config.route((&alert).into()).len(), 8);
}

#[cfg(feature = "emulator")]
mod hub {
    use std::collections::HashMap;
    use std::sync::Arc;
    use std::time::Duration;

    use lanner::deliver::eventhubs::{EventHubsOutput, EventHubsOutputConfig};
    use lanner::emulator::{Emulator, EmulatorConfig, HubConfig};
    use lanner::source::eventhubs::{EventHubConfig, HubStatus, read_hub};
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn events_of_one_cluster_come_to_one_partition() {
        let emulator = Emulator::start(EmulatorConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            hubs: vec![HubConfig::new("alerts", 4)],
        });
        let emulator = emulator.await.unwrap();
        let text = format!(
            "hub = \"alerts\"\nauth = \"connection-string\"\nconnection-string = {:?}",
            emulator.connection_string()
        );
        let config: EventHubsOutputConfig = toml::from_str(&text).unwrap();
        let output = EventHubsOutput::new("siem", &config).unwrap();
        for status in [Status::Open, Status::Closed] {
            let outcome = output.deliver(&notification(status)).await;
            assert_eq!(outcome, Attempt::Delivered);
        }
        let reader = "hub = \"alerts\"\nauth = \"connection-string\"";
        let mut reader: EventHubConfig = toml::from_str(reader).unwrap();
        reader.connection_string = config.connection_string.clone();
        let (batches_in, mut batches) = tokio::sync::mpsc::channel(16);
        let cancel = CancellationToken::new();
        let status = Arc::new(HubStatus::new("alerts"));
        let reading = read_hub(
            "alerts",
            reader,
            HashMap::new(),
            batches_in,
            status,
            cancel.clone(),
        );
        let reading = tokio::spawn(reading);
        let mut read = Vec::new();
        while read.len() < 2 {
            let batch = tokio::time::timeout(Duration::from_secs(60), batches.recv()).await;
            let batch = batch.expect("the events are read in time").unwrap();
            for chunk in batch.chunks {
                let body = String::from_utf8(chunk.bytes.to_vec()).unwrap();
                read.push((batch.partition.id.clone(), body));
            }
        }
        let expected = [Status::Open, Status::Closed].map(|status| notification(status).body);
        assert_eq!(read[0].1, expected[0]);
        assert_eq!(read[1].1, expected[1]);
        assert_eq!(read[0].0, read[1].0, "both lie in one partition");
        cancel.cancel();
        reading.await.unwrap();
        emulator.shutdown().await;
    }
}
