//! A source that is faster than the CPU: what waits stays in the hub, and all of it is read in the end.
//!
//! `LANNER_LOAD_MIB=2000 cargo test --release --test daemon faster -- --nocapture` for a longer look.

use std::time::{Duration, Instant};

use bytes::Bytes;
use lanner::emulator::{Emulator, EmulatorConfig, HubConfig, Retention};
use serde_json::json;

use super::process::Daemon;
use super::web::sum;
use super::{Health, by_pod, configuration, receiver};

/// Records in a message, and bytes of each record's body.
const RECORDS: usize = 20;
const BODY: usize = 5_000;

/// How long nothing may go forward.
const PATIENCE: Duration = Duration::from_secs(60);

/// Stands in a message for its number.
const NUMBER: &str = "00000000000";

/// A message of what nobody alerts on, but for one command in a pod of its own.
fn message() -> String {
    let hour_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(1);
    let record = |at: usize| {
        let (verb, name, subresource, code) = match at {
            0 => ("create", format!("web-{NUMBER}"), "exec", 101),
            _ => ("update", format!("web-{NUMBER}-{at}"), "", 200),
        };
        let event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse",
            "auditID": format!("a0000000-0000-4000-8{at:03}-0{NUMBER}"),
            "stage": "ResponseComplete", "verb": verb,
            "requestURI": format!("/api/v1/namespaces/shop/pods/{name}/{subresource}"),
            "user": { "username": "ada@example.com", "groups": ["system:authenticated"] },
            "sourceIPs": ["203.0.113.7"], "userAgent": "kubectl/v1.34.1",
            "objectRef": {
                "resource": "pods", "namespace": "shop", "name": name, "apiVersion": "v1",
                "subresource": subresource,
            },
            "responseStatus": { "metadata": {}, "code": code },
            "responseObject": { "kind": "Status", "message": "m".repeat(BODY) },
            "requestReceivedTimestamp": hour_ago, "stageTimestamp": hour_ago,
            "annotations": { "authorization.k8s.io/decision": "allow" },
        });
        json!({
            "category": "kube-audit",
            "time": hour_ago,
            "resourceId": "/SUBSCRIPTIONS/0/RESOURCEGROUPS/RG/PROVIDERS/MICROSOFT.CONTAINERSERVICE/MANAGEDCLUSTERS/WEST",
            "properties": { "log": event.to_string() },
        })
    };
    let records: Vec<_> = (0..RECORDS).map(record).collect();
    json!({ "records": records }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_faster_than_the_cpu_waits_in_the_hub_and_is_read_whole() {
    let mib = std::env::var("LANNER_LOAD_MIB").map_or(20, |text| text.parse().expect("a number"));
    let message = message();
    let messages = (mib << 20) / message.len();
    let emulator = Emulator::start(EmulatorConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        hubs: vec![HubConfig {
            retention: Retention {
                events: 1 << 20,
                bytes: usize::MAX >> 1,
            },
            ..HubConfig::new("audit", 2)
        }],
    });
    let emulator = emulator.await.expect("the emulator starts");
    let (webhook, received) = receiver().await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = configuration(folder.path(), &emulator, webhook);
    let text = std::fs::read_to_string(&config).expect("a file");
    let text = text.replace("hub = \"audit\"", "hub = \"audit\"\nprefetch = 4");
    let text = format!("{text}\n[pipeline]\nqueue-batches = 2\n");
    std::fs::write(&config, text).expect("a file");
    let health = Health::configure(&config);
    for number in 0..messages {
        let message = Bytes::from(message.replace(NUMBER, &format!("{number:011}")));
        let published = emulator.publish("audit", &(number % 2).to_string(), message);
        published.expect("the partition exists");
    }

    let daemon = Daemon::start(&config);
    health.ready().await;
    let begun = Instant::now();
    let (mut read, mut went) = (0.0, Instant::now());
    let (mut lag, mut behind, mut looks) = (0.0_f64, 0.0_f64, Vec::new());
    let metrics = loop {
        let (_, metrics) = health.get("/metrics").await;
        let now = sum(&metrics, "lanner_records_total");
        if now > read {
            (read, went) = (now, Instant::now());
            looks.push(daemon.resident());
        }
        lag = lag.max(sum(&metrics, "lanner_partition_lag_messages"));
        behind = behind.max(sum(&metrics, "lanner_partition_lag_seconds"));
        let at_end = read > 0.0 && sum(&metrics, "lanner_partition_lag_messages") == 0.0;
        if at_end && by_pod(&received).len() >= messages {
            break metrics;
        }
        assert!(
            went.elapsed() < PATIENCE,
            "nothing goes forward:\n{metrics}"
        );
        let (ready, why) = health.get("/readyz").await;
        assert_eq!(ready, 200, "it is busy, not broken: {why}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let (first, most) = (looks[0], *looks.iter().max().expect("it was looked at"));
    println!(
        "{messages} messages of {mib} MiB in {:.1} s; lag up to {lag} messages, {behind:.0} s; resident {} MiB at first, {} MiB at most",
        begun.elapsed().as_secs_f64(),
        first >> 20,
        most >> 20
    );
    assert!(lag > messages as f64 / 4.0, "it was not behind: {lag}");
    assert!(behind > 3000.0, "{behind}");
    let grown = most.saturating_sub(first);
    assert!(grown < (mib as u64) << 20, "{grown} bytes of {mib} MiB");
    assert_eq!(read as usize, messages * RECORDS);
    for none in [
        "lanner_hub_lost_messages_total",
        "lanner_records_quarantined_total",
        "lanner_records_ignored_total",
    ] {
        assert_eq!(sum(&metrics, none), 0.0, "{none}");
    }
    for (pod, ids) in by_pod(&received) {
        assert_eq!(ids.len(), 1, "{pod}: {ids:?}");
    }
    emulator.shutdown().await;
}
