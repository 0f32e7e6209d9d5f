//! Partitions that catch up at different speeds: the ones ahead in event time wait, and never for
//! ever.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use lanner::emulator::{Break, Emulator, HubConfig, Step};
use lanner::source::eventhubs::{HubStatus, PartitionSnapshot, read_hub};
use lanner::source::pacing::{Limits, Outlet, Pacing};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::breaks::hasty;
use crate::reading::{HUB, PATIENCE, config, emulator_with};

const AHEAD: SignedDuration = SignedDuration::from_mins(10);

/// Minutes of event time that lie in each partition.
const MINUTES: i64 = 600;

fn minute(number: i64) -> Timestamp {
    let begin: Timestamp = "2026-11-20T00:00:00Z".parse().expect("a time");
    begin + SignedDuration::from_mins(number)
}

/// An emulator with a message a minute in each of two partitions.
async fn two_partitions() -> Emulator {
    let emulator = emulator_with(HubConfig::new(HUB, 2)).await;
    for number in 0..MINUTES {
        for partition in ["0", "1"] {
            let body = Bytes::from(number.to_string());
            emulator
                .publish_at(HUB, partition, body, minute(number))
                .expect("the partition exists");
        }
    }
    emulator
}

/// Reads all of partition 0 and as much of the other as comes meanwhile, or `both` to their end;
/// `time` says which event time a message's minute stands for.
async fn read(
    emulator: &Emulator,
    limits: Limits,
    both: bool,
    time: impl Fn(&str, i64) -> Option<Timestamp>,
) -> (Vec<(String, i64)>, Vec<PartitionSnapshot>) {
    let pacing = Arc::new(Pacing::new(limits));
    let (batches_in, mut batches) = mpsc::channel(4);
    let status = Arc::new(HubStatus::new("main"));
    let cancel = CancellationToken::new();
    let outlet = Outlet {
        batches: batches_in,
        pacing: Some(Arc::clone(&pacing)),
    };
    let reading = tokio::spawn(read_hub(
        "main",
        hasty(config(emulator)),
        HashMap::new(),
        outlet,
        Arc::clone(&status),
        cancel.clone(),
    ));
    let mut order = Vec::new();
    let mut read: BTreeMap<String, i64> = BTreeMap::new();
    let is_done = |read: &BTreeMap<String, i64>| {
        let of = |id: &str| read.get(id).copied().unwrap_or(-1);
        of("0") == MINUTES - 1 && (!both || of("1") == MINUTES - 1)
    };
    while !is_done(&read) {
        let batch = tokio::time::timeout(PATIENCE, batches.recv())
            .await
            .unwrap_or_else(|_| panic!("nothing came: {:#?}", status.snapshot()))
            .expect("the source runs");
        let id = batch.partition.id.to_string();
        let mut latest = None;
        for chunk in &batch.chunks {
            let text = std::str::from_utf8(&chunk.bytes).expect("text");
            let number: i64 = text.parse().expect("a number");
            let last = read.insert(id.clone(), number).unwrap_or(-1);
            assert_eq!(number, last + 1, "in order and without gaps");
            order.push((id.clone(), number));
            latest = latest.max(time(&id, number));
        }
        pacing.judged(&batch.partition, latest, batch.at_end);
    }
    let snapshot = status.snapshot().partitions;
    cancel.cancel();
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("the source ends")
        .expect("it does not panic");
    (order, snapshot)
}

/// The furthest that any message lay ahead of the other partition's last, in minutes.
fn skew(order: &[(String, i64)]) -> i64 {
    let mut last: BTreeMap<&str, i64> = BTreeMap::from([("0", -1), ("1", -1)]);
    let mut skew = 0;
    for (id, number) in order {
        last.insert(id, *number);
        let least = last.values().min().expect("there are two");
        skew = skew.max(number - least);
    }
    skew
}

fn limits() -> Limits {
    Limits {
        ahead: AHEAD,
        pause: PATIENCE,
        patience: PATIENCE,
        unheard: PATIENCE,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_comes_late_is_waited_for() {
    let emulator = two_partitions().await;
    // Whichever attaches first hears nothing until its call is given up.
    emulator
        .faults()
        .break_at(Step::ReceiverAttach, Break::Silence);
    let (order, partitions) =
        read(&emulator, limits(), true, |_, number| Some(minute(number))).await;
    assert_eq!(emulator.faults().breaks(), 1);
    // The limit, a batch of half of it that is judged too late, and one under way.
    let skew = skew(&order);
    assert!(skew <= 10 + 3 * 6, "{skew} minutes apart");
    assert!(partitions.iter().any(|partition| partition.pauses > 0));
    assert!(partitions.iter().all(|p| p.pauses_given_up == 0));
    println!("two partitions of {MINUTES} minutes were never more than {skew} apart");
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_without_times_is_not_waited_for() {
    let emulator = two_partitions().await;
    let time = |id: &str, number| (id == "0").then(|| minute(number));
    let (order, _) = read(&emulator, limits(), false, time).await;
    assert!(order.len() >= MINUTES as usize);
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_stuck_in_the_past_is_waited_for_only_so_long() {
    let emulator = two_partitions().await;
    let patience = Limits {
        patience: Duration::from_millis(300),
        ..limits()
    };
    let time = |id: &str, number| Some(minute(if id == "0" { number + 60 } else { 0 }));
    let (order, partitions) = read(&emulator, patience, false, time).await;
    assert!(order.len() >= MINUTES as usize);
    assert!(partitions[0].pauses > 0);
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stays_far_behind_is_waited_for_only_so_long() {
    let emulator = two_partitions().await;
    let pause = Limits {
        pause: Duration::from_millis(100),
        ..limits()
    };
    // It moves on, slowly, and remains days behind.
    let time = |id: &str, number| {
        let is_slow = id == "1";
        if is_slow {
            std::thread::sleep(Duration::from_millis(2));
        }
        Some(minute(if is_slow { number } else { number + 6000 }))
    };
    let (_, partitions) = read(&emulator, pause, true, time).await;
    assert_eq!(partitions[0].pauses_given_up, 1);
    assert!(!partitions[0].paused);
    emulator.shutdown().await;
}
