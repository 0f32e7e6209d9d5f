//! Connections that break at every step of the protocol, and links, sessions and connections that
//! the service ends with a condition: everything is read, once, and readiness tells it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use lanner::emulator::{Break, Emulator, HubConfig, Step};
use lanner::source::eventhubs::{EventHubConfig, HubSnapshot, Pace};

use crate::reading::{HUB, Reading, config, emulator_with, events, publish};

/// Tests that run side by side: each has an emulator of its own, and there are few cores.
const AT_ONCE: usize = 20;

/// Larger than a frame.
const LARGE: usize = 200 * 1024;

/// Paces that show within seconds what takes minutes in earnest.
pub fn hasty(config: EventHubConfig) -> EventHubConfig {
    EventHubConfig {
        pace: Pace {
            call: Duration::from_secs(1),
            poll: Duration::from_millis(100),
            stall: Duration::from_millis(800),
            // The first listing is the only one, so that breaks come to the partition's client.
            list: Duration::from_secs(3600),
            backoff: Duration::from_millis(300),
        },
        ..config
    }
}

async fn one_partition() -> Emulator {
    emulator_with(HubConfig::new(HUB, 1)).await
}

fn publish_large(emulator: &Emulator) {
    emulator
        .publish(HUB, "0", Bytes::from(vec![b'x'; LARGE]))
        .expect("the partition exists");
}

/// What is to be read: ten small, one large, ten small.
fn all() -> Vec<String> {
    let mut all = events(0..10);
    all.push("x".repeat(LARGE));
    all.extend(events(10..20));
    all
}

/// Reads on a new connection that breaks at `step`, with what lies in the hub already; returns the
/// time from the break to the last event.
async fn break_on_return(step: Step, how: Break) -> Duration {
    let emulator = one_partition().await;
    publish(&emulator, "0", 0..10);
    let mut reading = Reading::start(hasty(config(&emulator)), HashMap::new());
    reading.until_count(10).await;
    reading.until_status(HubSnapshot::is_ready).await;
    emulator.faults().break_at(step, how);
    publish_large(&emulator);
    publish(&emulator, "0", 10..20);
    emulator.drop_connections();
    let begin = Instant::now();
    reading.until_count(21).await;
    let took = begin.elapsed();
    // What was delivered tells of a break after it only later.
    reading.until_status(HubSnapshot::is_ready).await;
    assert_eq!(emulator.faults().breaks(), 1, "{step:?} {how:?}");
    assert!(reading.read["0"] == all(), "{step:?} {how:?}");
    let snapshot = reading.status.snapshot();
    assert_eq!(snapshot.partitions[0].lost, 0);
    reading.stop().await;
    emulator.shutdown().await;
    took
}

/// Starts against a hub whose first connections break, of the listing and of the partition.
async fn break_at_start(step: Step, how: Break) -> Duration {
    let emulator = one_partition().await;
    publish(&emulator, "0", 0..10);
    publish_large(&emulator);
    publish(&emulator, "0", 10..20);
    emulator.faults().break_at(step, how);
    emulator.faults().break_after(step, 1, how);
    let begin = Instant::now();
    let mut reading = Reading::start(hasty(config(&emulator)), HashMap::new());
    reading.until_count(21).await;
    let took = begin.elapsed();
    assert!(emulator.faults().breaks() >= 1, "{step:?} {how:?}");
    assert!(reading.read["0"] == all(), "{step:?} {how:?}");
    reading.until_status(HubSnapshot::is_ready).await;
    reading.stop().await;
    emulator.shutdown().await;
    took
}

/// Runs a case for every step and says how long the slowest took.
async fn at_every_step<F: Future<Output = Duration>>(
    how: Break,
    what: &str,
    case: impl Fn(Step, Break) -> F,
) {
    let took: Vec<(Step, Duration)> = futures::stream::iter(Step::ALL)
        .map(|step| {
            let case = case(step, how);
            async move { (step, case.await) }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let (step, slowest) = took
        .into_iter()
        .max_by_key(|(_, took)| *took)
        .expect("there are steps");
    println!(
        "{how:?} at each of {} steps, {what}: read on within {:.1} s, slowest at {step:?}",
        Step::ALL.len(),
        slowest.as_secs_f64(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_at_any_step_of_a_return_loses_nothing() {
    at_every_step(Break::Reset, "on return", break_on_return).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_at_any_step_of_a_return_loses_nothing() {
    at_every_step(Break::Close, "on return", break_on_return).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_from_any_step_of_a_return_on_loses_nothing() {
    at_every_step(Break::Silence, "on return", break_on_return).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_at_any_step_of_the_start_loses_nothing() {
    at_every_step(Break::Reset, "at the start", break_at_start).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_from_any_step_of_the_start_on_loses_nothing() {
    at_every_step(Break::Silence, "at the start", break_at_start).await;
}

/// Conditions that the service ends links with, as its documentation and clients name them.
const CONDITIONS: [&str; 20] = [
    "amqp:link:stolen",
    "amqp:link:detach-forced",
    "amqp:link:message-size-exceeded",
    "amqp:link:redirect",
    "amqp:link:transfer-limit-exceeded",
    "amqp:connection:forced",
    "amqp:unauthorized-access",
    "amqp:not-found",
    "amqp:not-allowed",
    "amqp:not-implemented",
    "amqp:internal-error",
    "amqp:resource-limit-exceeded",
    "amqp:resource-locked",
    "com.microsoft:timeout",
    "com.microsoft:server-busy",
    "com.microsoft:entity-disabled",
    "com.microsoft:argument-error",
    "com.microsoft:argument-out-of-range",
    "com.microsoft:operation-cancelled",
    "com.microsoft:partition-not-owned",
];

async fn ended_with(condition: &'static str) -> Duration {
    let emulator = one_partition().await;
    let mut reading = Reading::start(hasty(config(&emulator)), HashMap::new());
    publish(&emulator, "0", 0..10);
    reading.until_count(10).await;

    // A link that stands is detached.
    let ended = emulator.detach_links(HUB, "0", condition);
    assert_eq!(ended.expect("it exists"), 1);
    let begin = Instant::now();
    publish(&emulator, "0", 10..20);
    reading.until_count(20).await;
    let took = begin.elapsed();

    // Links that attach are refused, for as long as it lasts.
    emulator.faults().refuse_receivers(Some(condition));
    emulator.drop_connections();
    publish(&emulator, "0", 20..30);
    let said = reading
        .until_status(|hub| {
            let error = hub.partitions[0].error.as_deref();
            error.is_some_and(|error| error.contains("ended on purpose"))
        })
        .await;
    assert!(!said.is_ready(), "{condition}");
    emulator.faults().refuse_receivers(None);
    reading.until_count(30).await;
    assert_eq!(reading.read["0"], events(0..30), "{condition}");
    reading.until_status(HubSnapshot::is_ready).await;
    reading.stop().await;
    emulator.shutdown().await;
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn links_ended_with_any_condition_are_attached_again() {
    let took: Vec<Duration> = futures::stream::iter(CONDITIONS)
        .map(ended_with)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let slowest = took.into_iter().max().expect("there are conditions");
    println!(
        "detached with each of {} conditions: read on within {:.1} s",
        CONDITIONS.len(),
        slowest.as_secs_f64(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_sessions_and_connections_are_begun_again() {
    let emulator = one_partition().await;
    let mut reading = Reading::start(hasty(config(&emulator)), HashMap::new());
    publish(&emulator, "0", 0..10);
    reading.until_count(10).await;
    for (round, condition) in (1..).zip([
        "amqp:connection:forced",
        "amqp:internal-error",
        "com.microsoft:server-busy",
    ]) {
        let next = 10 + (round - 1) * 20;
        assert!(emulator.end_sessions(condition) > 0);
        publish(&emulator, "0", next..next + 10);
        reading.until_count(next + 10).await;
        reading.until_status(HubSnapshot::is_ready).await;
        assert!(emulator.close_connections(condition) > 0);
        publish(&emulator, "0", next + 10..next + 20);
        reading.until_count(next + 20).await;
        reading.until_status(HubSnapshot::is_ready).await;
    }
    assert_eq!(reading.read["0"], events(0..70));
    reading.stop().await;
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_vanishes_is_noticed() {
    let emulator = one_partition().await;
    let mut hasty = hasty(config(&emulator));
    hasty.pace.call = Duration::from_millis(500);
    let mut reading = Reading::start(hasty, HashMap::new());
    // More often than a consumer group lets readers be: a reader that is left behind, with nobody
    // to hear its goodbye, would lock its successors out.
    const ROUNDS: usize = 6;
    let mut slowest = [Duration::ZERO; 2];
    for round in 0..ROUNDS {
        publish(&emulator, "0", round * 20..round * 20 + 10);
        reading.until_count(round * 20 + 10).await;
        reading.until_status(HubSnapshot::is_ready).await;
        emulator.faults().vanish();
        publish(&emulator, "0", round * 20 + 10..(round + 1) * 20);
        let begin = Instant::now();
        reading.until_status(|hub| !hub.is_ready()).await;
        slowest[0] = slowest[0].max(begin.elapsed());
        reading.until_count((round + 1) * 20).await;
        slowest[1] = slowest[1].max(begin.elapsed());
    }
    let [said, read] = slowest.map(|took| took.as_secs_f64());
    println!("peer vanished: said within {said:.1} s, read on within {read:.1} s");
    assert_eq!(reading.read["0"], events(0..ROUNDS * 20));
    reading.stop().await;
    emulator.shutdown().await;
}
