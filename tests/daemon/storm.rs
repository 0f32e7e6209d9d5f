//! A storm of findings from one identity: one notification, an exact count, memory that stays.
//!
//! `LANNER_STORM=1000000 cargo test --release --test daemon storm -- --nocapture` for its rate.

use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use lanner::emulator::{Emulator, EmulatorConfig, HubConfig, Retention};

use super::process::Daemon;
use super::web::sum;
use super::{Health, configuration, receiver, record};

/// Findings in a message: so few that most messages wait in the hub while the first are judged.
const EACH: usize = 20;

/// How long nothing may go forward.
const PATIENCE: Duration = Duration::from_secs(60);

/// Stands in a record for its number.
const NUMBER: &str = "00c0ffee0000";

/// The series that counts the findings.
const FOUND: &str = "lanner_detector_matches_total{detector=\"pod-exec\",outcome=\"alert\"}";

/// A command, always in the same pod, each a request of its own.
fn message(record: &str, first: usize) -> Bytes {
    let records: Vec<String> = (first..first + EACH)
        .map(|number| record.replace(NUMBER, &format!("{number:012x}")))
        .collect();
    Bytes::from(format!("{{\"records\":[{}]}}", records.join(",")))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_is_one_notification_counted_exactly_and_memory_stays() {
    let findings = std::env::var("LANNER_STORM");
    let findings: usize = findings.map_or(5_000, |text| text.parse().expect("a number"));
    let hub = HubConfig {
        retention: Retention {
            events: 1 << 20,
            bytes: usize::MAX >> 1,
        },
        ..HubConfig::new("audit", 2)
    };
    let emulator = Emulator::start(EmulatorConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        hubs: vec![hub],
    });
    let emulator = emulator.await.expect("the emulator starts");
    let hour_ago = Timestamp::now() - SignedDuration::from_hours(1);
    let number = i64::from_str_radix(NUMBER, 16).expect("a number");
    let one = record::exec("web-0", number, hour_ago);
    let one: serde_json::Value = serde_json::from_slice(&one).expect("JSON");
    let one = one["records"][0].to_string();
    for at in 0..findings / EACH {
        let published = emulator.publish("audit", &(at % 2).to_string(), message(&one, at * EACH));
        published.expect("the partition exists");
    }
    let (webhook, received) = receiver().await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = configuration(folder.path(), &emulator, webhook);
    // What is read ahead is no part of what a storm takes.
    let text = std::fs::read_to_string(&config).expect("a file");
    let text = text.replace("hub = \"audit\"", "hub = \"audit\"\nprefetch = 8");
    let text = format!("{text}\n[pipeline]\nqueue-batches = 2\n");
    std::fs::write(&config, text).expect("a file");
    let health = Health::configure(&config);

    let daemon = Daemon::start(&config);
    health.ready().await;
    let (begun, mut read, mut went) = (Instant::now(), 0, Instant::now());
    let (mut lag, mut looks) = (0.0_f64, Vec::new());
    let metrics = loop {
        let (_, metrics) = health.get("/metrics").await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(FOUND));
        let now: usize = line.map_or(0, |count| count.trim().parse().expect("a number"));
        if now > read {
            (read, went) = (now, Instant::now());
            looks.push(daemon.resident() >> 20);
        }
        lag = lag.max(sum(&metrics, "lanner_partition_lag_messages"));
        if read >= findings {
            break metrics;
        }
        assert!(went.elapsed() < PATIENCE, "it stands still:\n{metrics}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let (took, busy) = (begun.elapsed().as_secs_f64(), daemon.busy());
    println!(
        "{findings} findings in {took:.1} s, {busy:.1} s of CPU: {:.0} a second, {:.0} a CPU-second; lag up to {lag} messages; resident {} MiB at first, {} MiB at half, {} MiB at most",
        findings as f64 / took,
        findings as f64 / busy,
        looks[0],
        looks[looks.len() / 2],
        looks.iter().max().expect("it was looked at"),
    );
    assert_eq!(read, findings, "each is counted once");
    assert!(lag > 0.0, "it was never behind");
    for none in [
        "lanner_hub_lost_messages_total",
        "lanner_records_quarantined_total",
        "lanner_notifications_dead_total",
    ] {
        assert!(metrics.contains(none), "{none} is not told");
        assert_eq!(sum(&metrics, none), 0.0, "{none}");
    }
    super::until("the notification", || {
        !received.lock().expect("no panic").is_empty()
    })
    .await;
    assert_eq!(received.lock().expect("no panic").len(), 1);
    emulator.shutdown().await;
}
