//! The Event Hubs source against the emulator on loopback, through Microsoft's own clients.
#![cfg(feature = "emulator")]

mod breaks;
mod edges;
mod pacing;
mod process;
mod reading;
mod transport;
mod truth;

#[path = "../support/record.rs"]
mod record;
#[path = "../support/web.rs"]
#[expect(dead_code, reason = "these tests have no receiver")]
mod web;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lanner::emulator::{HubConfig, Retention};
use lanner::source::Position;
use lanner::source::eventhubs::{
    EventHubConfig, Fault, HubProducer, HubSnapshot, HubStatus, Pace, Start, State, read_hub,
};
use reading::{HUB, PATIENCE, Reading, config, emulator, emulator_with, events, publish};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

fn start_of(partition: &str, position: i64) -> HashMap<String, Position> {
    HashMap::from([(partition.to_owned(), Position(position))])
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_from_the_earliest_and_goes_on() {
    let emulator = emulator(1).await;
    publish(&emulator, "0", 0..10);
    let mut reading = Reading::start(config(&emulator), HashMap::new());
    reading.until_count(10).await;
    publish(&emulator, "0", 10..15);
    reading.until_count(15).await;
    assert_eq!(reading.read["0"], events(0..15));
    reading.until(|reading| reading.at_end["0"]).await;
    let snapshot = reading.until_status(HubSnapshot::is_ready).await;
    assert_eq!(snapshot.partitions[0].last_sequence_number, Some(14));
    assert_eq!(snapshot.partitions[0].lag(), Some(0));
    reading.stop().await;
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_on_after_the_stored_position() {
    let emulator = emulator(1).await;
    publish(&emulator, "0", 0..10);
    let mut reading = Reading::start(config(&emulator), start_of("0", 6));
    reading.until_count(3).await;
    assert_eq!(reading.read["0"], events(7..10));
    reading.stop().await;
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_from_the_latest() {
    let emulator = emulator(1).await;
    publish(&emulator, "0", 0..10);
    let start = EventHubConfig {
        start: Start::Latest,
        ..config(&emulator)
    };
    let mut reading = Reading::start(start, HashMap::new());
    reading
        .until(|reading| reading.at_end.contains_key("0"))
        .await;
    assert_eq!(reading.positions["0"], Position(9));
    publish(&emulator, "0", 10..12);
    reading.until_count(2).await;
    assert_eq!(reading.read["0"], events(10..12));
    reading.stop().await;
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_from_a_time() {
    let emulator = emulator(1).await;
    publish(&emulator, "0", 0..5);
    // Enqueued times are in milliseconds.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let time = jiff::Timestamp::now();
    tokio::time::sleep(Duration::from_millis(20)).await;
    publish(&emulator, "0", 5..8);
    let start = EventHubConfig {
        start: Start::Time(time),
        ..config(&emulator)
    };
    let mut reading = Reading::start(start, HashMap::new());
    reading.until_count(3).await;
    assert_eq!(reading.read["0"], events(5..8));
    reading.stop().await;

    // A time after everything in the hub: what comes later is read.
    let start = EventHubConfig {
        start: Start::Time(jiff::Timestamp::now() + Duration::from_millis(5)),
        ..config(&emulator)
    };
    let mut reading = Reading::start(start, HashMap::new());
    reading
        .until(|reading| reading.at_end.contains_key("0"))
        .await;
    publish(&emulator, "0", 8..10);
    reading.until_count(2).await;
    assert_eq!(reading.read["0"], events(8..10));
    reading.stop().await;
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_connections_lose_nothing_and_repeat_nothing() {
    let emulator = emulator(2).await;
    let mut reading = Reading::start(config(&emulator), HashMap::new());
    for round in 0..3 {
        let numbers = round * 50..(round + 1) * 50;
        publish(&emulator, "0", numbers.clone());
        reading.until(|reading| reading.count() > round * 100).await;
        emulator.drop_connections();
        publish(&emulator, "1", numbers);
        reading.until_count((round + 1) * 100).await;
    }
    assert_eq!(reading.read["0"], events(0..150));
    assert_eq!(reading.read["1"], events(0..150));
    let snapshot = reading.until_status(HubSnapshot::is_ready).await;
    assert!(snapshot.partitions.iter().all(|p| p.reconnects > 0));
    reading.stop().await;
    emulator.shutdown().await;
}

/// A line that breaks again and again costs a short pause each time, as long as something was read.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_keep_breaking_are_opened_anew_without_growing_pauses() {
    let emulator = emulator(1).await;
    let mut config = config(&emulator);
    // The tenth pause would be of two minutes, which nobody waits for here.
    config.pace.backoff = Duration::from_secs(600);
    let mut reading = Reading::start(config, HashMap::new());
    for round in 0..12 {
        publish(&emulator, "0", round * 5..(round + 1) * 5);
        reading.until_count((round + 1) * 5).await;
        emulator.drop_connections();
    }
    assert_eq!(reading.read["0"], events(0..60));
    reading.stop().await;
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_link_is_said_and_read_on() {
    let emulator = emulator(1).await;
    publish(&emulator, "0", 0..3);
    let mut reading = Reading::start(config(&emulator), HashMap::new());
    reading.until_count(3).await;
    assert_eq!(emulator.steal_links(HUB, "0").expect("it exists"), 1);
    reading
        .until_status(|hub| hub.partitions[0].state == State::Stolen)
        .await;
    publish(&emulator, "0", 3..6);
    reading.until_count(6).await;
    assert_eq!(reading.read["0"], events(0..6));
    reading.until_status(HubSnapshot::is_ready).await;
    reading.stop().await;
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_higher_owner_level_takes_the_partition() {
    let emulator = emulator(1).await;
    publish(&emulator, "0", 0..3);
    let with_level = |level| EventHubConfig {
        owner_level: Some(level),
        ..config(&emulator)
    };
    let mut first = Reading::start(with_level(1), HashMap::new());
    first.until_count(3).await;
    let mut second = Reading::start(with_level(2), HashMap::new());
    second.until_count(3).await;
    first
        .until_status(|hub| hub.partitions[0].state == State::Stolen)
        .await;
    publish(&emulator, "0", 3..5);
    second.until_count(5).await;
    second.stop().await;
    // The lower level gets the partition back, and goes on where it was.
    first.until_count(5).await;
    assert_eq!(first.read["0"], events(0..5));
    first.stop().await;
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_whose_answer_is_lost_waits_its_limit_and_sends_again() {
    let emulator = emulator(1).await;
    let limit = Duration::from_millis(500);
    let mut config = config(&emulator);
    config.pace.call = limit;
    let producer = HubProducer::open(config).await;
    let mut producer = producer.expect("the producer connects");
    emulator.faults().lose_answers(2);
    let begun = std::time::Instant::now();
    let sent = producer.send(None, &[Bytes::from_static(b"event 0")]).await;
    sent.expect("it is sent");
    let took = begun.elapsed();
    assert!(took >= 2 * limit, "{took:?}");
    assert!(took < PATIENCE / 4, "{took:?}");
    let published = emulator.partition_info(HUB, "0").expect("it exists");
    assert_eq!(
        published.last_enqueued_sequence_number, 2,
        "at least once: {published:?}"
    );
    producer.close().await.expect("it closes");
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_official_producer_sends_is_read() {
    let emulator = emulator(4).await;
    let mut producer = HubProducer::open(config(&emulator))
        .await
        .expect("the producer connects");
    let mut reading = Reading::start(config(&emulator), HashMap::new());
    for partition in ["0", "1", "2", "3"] {
        let payloads: Vec<Bytes> = events(0..20).into_iter().map(Bytes::from).collect();
        producer
            .send(Some(partition), &payloads)
            .await
            .expect("they are sent");
    }
    // More than one message may hold.
    let large = vec![Bytes::from(vec![b'x'; 400 * 1024]); 4];
    producer
        .send(Some("2"), &large)
        .await
        .expect("they are sent");
    producer
        .send(None, &[Bytes::from_static(b"anywhere")])
        .await
        .expect("it is sent");
    reading.until_count(85).await;
    for partition in ["0", "1", "2", "3"] {
        assert_eq!(reading.read[partition][..20], events(0..20));
    }
    let lengths: Vec<usize> = reading.read["2"].iter().map(String::len).collect();
    assert_eq!(lengths.iter().filter(|len| **len == 400 * 1024).count(), 4);
    assert!(
        reading
            .read
            .values()
            .flatten()
            .any(|text| text == "anywhere")
    );
    let too_large = Bytes::from(vec![b'x'; 2 << 20]);
    assert!(producer.send(Some("0"), &[too_large]).await.is_err());
    producer.close().await.expect("it closes");
    reading.stop().await;
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_out_of_retention_is_counted_and_left() {
    let emulator = emulator_with(HubConfig {
        retention: Retention {
            events: 5,
            bytes: usize::MAX,
        },
        ..HubConfig::new(HUB, 1)
    })
    .await;
    publish(&emulator, "0", 0..20);
    let mut reading = Reading::start(config(&emulator), start_of("0", 3));
    reading.until_count(5).await;
    assert_eq!(reading.read["0"], events(15..20));
    assert_eq!(reading.status.snapshot().partitions[0].lost, 11);
    reading.stop().await;
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_made_anew_is_read_from_its_begin() {
    let emulator = emulator(1).await;
    publish(&emulator, "0", 0..4);
    let (out, mut batches) = mpsc::channel(4);
    let status = Arc::new(HubStatus::new("main"));
    let cancel = CancellationToken::new();
    let reading = tokio::spawn(read_hub(
        "main",
        config(&emulator),
        start_of("0", 1000),
        out,
        Arc::clone(&status),
        cancel.clone(),
    ));
    let batch = tokio::time::timeout(PATIENCE, batches.recv())
        .await
        .expect("in time")
        .expect("a batch");
    assert_eq!((batch.from, batch.to), (Position::START, Position(3)));
    assert_eq!(status.snapshot().partitions[0].rewinds, 1);
    cancel.cancel();
    reading.await.expect("it ends");
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_told_from_an_unreachable_hub() {
    let emulator = emulator(1).await;
    emulator.faults().refuse_tokens(true);
    let reading = Reading::start(config(&emulator), HashMap::new());
    let snapshot = reading
        .until_status(|hub| hub.state == State::Unauthorized)
        .await;
    let error = snapshot.error.expect("there is an error");
    assert!(error.contains("401"), "{error}");
    assert!(!error.contains("bGFubmVy"), "{error}");
    assert!(!snapshot.listed);
    emulator.faults().refuse_tokens(false);
    reading.until_status(HubSnapshot::is_ready).await;
    reading.stop().await;
    let mut unreachable = config(&emulator);
    emulator.shutdown().await;

    unreachable.start = Start::Earliest;
    let reading = Reading::start(unreachable, HashMap::new());
    let snapshot = reading.until_status(|hub| hub.error.is_some()).await;
    assert_eq!(snapshot.state, State::Backoff);
    let error = snapshot.error.expect("there is an error");
    assert!(error.contains("refused"), "{error}");
    reading.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_hub_is_said() {
    let emulator = emulator(1).await;
    let other = EventHubConfig {
        hub: "other".to_owned(),
        ..config(&emulator)
    };
    let reading = Reading::start(other, HashMap::new());
    let snapshot = reading.until_status(|hub| hub.error.is_some()).await;
    assert_eq!(snapshot.state, State::Backoff);
    let error = snapshot.error.expect("there is an error");
    assert!(error.contains("could not be found"), "{error}");
    reading.stop().await;
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_consumer_group_is_said() {
    let emulator = emulator_with(HubConfig {
        consumer_groups: vec!["$Default".to_owned()],
        ..HubConfig::new(HUB, 1)
    })
    .await;
    let other = EventHubConfig {
        consumer_group: "other".to_owned(),
        ..config(&emulator)
    };
    let reading = Reading::start(other, HashMap::new());
    let has_error = |hub: &HubSnapshot| hub.partitions.iter().any(|p| p.error.is_some());
    let snapshot = reading.until_status(has_error).await;
    let error = snapshot.partitions[0].error.clone().expect("there is one");
    assert!(error.contains("could not be found"), "{error}");
    reading.stop().await;
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_of_an_unknown_hub_is_refused() {
    let emulator = emulator(1).await;
    let other = EventHubConfig {
        hub: "other".to_owned(),
        ..config(&emulator)
    };
    let mut producer = HubProducer::open(other).await.expect("it connects");
    let sent = producer.send(None, &[Bytes::from_static(b"x")]).await;
    assert_eq!(
        sent.expect_err("there is no such hub").fault,
        Fault::NotFound
    );
    emulator.shutdown().await;
}

/// Paces that show within seconds what takes minutes in earnest.
fn hasty(config: EventHubConfig) -> EventHubConfig {
    EventHubConfig {
        pace: Pace {
            call: Duration::from_secs(3),
            poll: Duration::from_millis(200),
            stall: Duration::from_secs(1),
            list: Duration::from_millis(200),
            backoff: Duration::from_secs(1),
        },
        ..config
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_added_later_is_read_from_its_begin() {
    let emulator = emulator(1).await;
    let latest = EventHubConfig {
        start: Start::Latest,
        ..hasty(config(&emulator))
    };
    let mut reading = Reading::start(latest, HashMap::new());
    reading
        .until(|reading| reading.at_end.contains_key("0"))
        .await;
    emulator.grow(HUB, 2).expect("the hub exists");
    publish(&emulator, "1", 0..3);
    reading.until_count(3).await;
    assert_eq!(reading.read["1"], events(0..3));
    reading.stop().await;
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_delivers_nothing_is_opened_anew() {
    let emulator = emulator(1).await;
    let mut reading = Reading::start(hasty(config(&emulator)), HashMap::new());
    publish(&emulator, "0", 0..3);
    reading.until_count(3).await;
    emulator.faults().stall_deliveries(true);
    publish(&emulator, "0", 3..6);
    let snapshot = reading
        .until_status(|hub| {
            let partition = &hub.partitions[0];
            partition
                .error
                .as_ref()
                .is_some_and(|error| error.contains("delivers none"))
        })
        .await;
    assert_eq!(snapshot.partitions[0].lag(), Some(3));
    emulator.faults().stall_deliveries(false);
    reading.until_count(6).await;
    assert_eq!(reading.read["0"], events(0..6));
    reading.stop().await;
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_never_answered_time_out() {
    let emulator = emulator(1).await;
    publish(&emulator, "0", 0..3);
    emulator.faults().stall_answers(true);
    let mut reading = Reading::start(hasty(config(&emulator)), HashMap::new());
    reading
        .until_status(|hub| {
            hub.error
                .as_ref()
                .is_some_and(|e| e.contains("no answer within"))
        })
        .await;
    emulator.faults().stall_answers(false);
    reading.until_count(3).await;
    // While it reads, the question for the last sequence number finds a dead connection.
    emulator.faults().stall_answers(true);
    reading
        .until_status(|hub| hub.partitions[0].state == State::Backoff)
        .await;
    publish(&emulator, "0", 3..6);
    emulator.faults().stall_answers(false);
    reading.until_count(6).await;
    assert_eq!(reading.read["0"], events(0..6));
    reading.stop().await;
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_detached_with_an_error_is_attached_again() {
    let emulator = emulator(1).await;
    let mut reading = Reading::start(config(&emulator), HashMap::new());
    for round in 0..3 {
        publish(&emulator, "0", round * 10..(round + 1) * 10);
        reading.until_count((round + 1) * 10).await;
        let ended = emulator.detach_links(HUB, "0", "amqp:internal-error");
        assert_eq!(ended.expect("it exists"), 1);
    }
    assert_eq!(reading.read["0"], events(0..30));
    reading.stop().await;
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_taker_loses_nothing() {
    let emulator = emulator(2).await;
    for partition in ["0", "1"] {
        publish(&emulator, partition, 0..5000);
    }
    let (out, mut batches) = mpsc::channel(1);
    let cancel = CancellationToken::new();
    let reading = tokio::spawn(read_hub(
        "main",
        hasty(config(&emulator)),
        HashMap::new(),
        out,
        Arc::new(HubStatus::new("main")),
        cancel.clone(),
    ));
    let mut next: HashMap<String, i64> = HashMap::new();
    while next.values().sum::<i64>() < 10_000 {
        let batch = tokio::time::timeout(PATIENCE, batches.recv())
            .await
            .expect("in time")
            .expect("a batch");
        let next = next.entry(batch.partition.id.to_string()).or_default();
        for chunk in &batch.chunks {
            assert_eq!(chunk.position, *next);
            assert_eq!(chunk.bytes, format!("event {next}"));
            *next += 1;
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    cancel.cancel();
    reading.await.expect("it ends");
    emulator.shutdown().await;
}

/// Run by `tests/real.sh`, with `LANNER_WITNESS_PYTHON` naming a Python with azure-eventhub.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs LANNER_WITNESS_PYTHON"]
async fn the_python_client_agrees() {
    let python = std::env::var_os("LANNER_WITNESS_PYTHON").expect("LANNER_WITNESS_PYTHON is set");
    let emulator = emulator(4).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("records.txt");
    let lines = events(0..300);
    std::fs::write(&file, lines.join("\n")).expect("a file");
    let connection = emulator.connection_string();
    let witness = async |arguments: &[&str]| {
        let output = tokio::process::Command::new(&python)
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/real/hub_witness.py"
            ))
            .arg(arguments[0])
            .args([&connection, HUB])
            .args(&arguments[1..])
            .output()
            .await
            .expect("Python runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let file = file.to_str().expect("a path in UTF-8");

    // What our producer publishes, the Python client reads.
    let mut producer = HubProducer::open(config(&emulator))
        .await
        .expect("it connects");
    let payloads: Vec<Bytes> = lines.iter().cloned().map(Bytes::from).collect();
    producer
        .send(Some("1"), &payloads)
        .await
        .expect("they are sent");
    producer.close().await.expect("it closes");
    let read = witness(&["read", "all"]).await;
    let bodies: Vec<&str> = read
        .lines()
        .filter_map(|line| line.split('\t').nth(4))
        .collect();
    assert_eq!(bodies, lines);

    // What the Python client publishes, we read.
    witness(&["publish", file, "--partition", "2"]).await;
    let mut reading = Reading::start(config(&emulator), HashMap::new());
    reading.until_count(600).await;
    assert_eq!(reading.read["2"], lines);
    assert_eq!(reading.read["1"], lines);
    reading.stop().await;

    // What it publishes itself it reads back from everywhere.
    assert_eq!(witness(&["check", file]).await, "witness: ok\n");
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_comes_up_late_is_found() {
    let emulator = emulator(1).await;
    emulator.faults().refuse_connections(true);
    publish(&emulator, "0", 0..2);
    let mut reading = Reading::start(config(&emulator), HashMap::new());
    reading.until_status(|hub| hub.error.is_some()).await;
    emulator.faults().refuse_connections(false);
    reading.until_count(2).await;
    reading.stop().await;
    emulator.shutdown().await;
}
