//! The daemon for a while: simulated traffic with attacks in it, a receiver that fails now and then,
//! connections that break; what memory, descriptors and threads it takes meanwhile, and that nothing
//! of it is lost.
//!
//! `LANNER_SOAK_MINUTES=30 cargo test --test daemon soak -- --ignored --nocapture` for a longer look.
//! Writes `curve.tsv` and `curve.svg` into `LANNER_SOAK_OUT`, or below Cargo's folder for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use jiff::Timestamp;
use lanner::alert::Alert;
use lanner::detect::load;
use lanner::emulator::{Emulator, EmulatorConfig, HubConfig, Retention};
use lanner::simulator::record::Batcher;
use lanner::simulator::score::score;
use lanner::simulator::{Campaigns, ClusterSpec, Scenario, Simulator, Truth, Verdict};

use super::curve::{self, Sample};
use super::process::{Daemon, configure};
use super::web::{free_port, get, serve, sum};

/// What the last third may take beyond the second: a tenth and 16 MiB of memory, some descriptors of
/// connections that are on their way out.
const MORE_MEMORY: (u64, u64) = (10, 16 << 20);
const MORE_FILES: u64 = 4;
const MORE_THREADS: u64 = 2;

/// How long the rest may take once nothing more is published.
const PATIENCE: Duration = Duration::from_secs(60);

/// One notification in so many is refused for now.
const REFUSED: u64 = 10;

/// How long, and how much of what.
struct Plan {
    lasts: Duration,
    /// Records a second.
    rate: u64,
    /// Between two looks at the daemon.
    look: Duration,
    /// Looks between two breaks of all connections.
    breaks: usize,
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// Each break is of four connections, so that one descriptor or thread that stays behind with each is
/// more than may be. More often, and the daemon would wait ever longer before it connects again.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_minute_of_broken_connections_loses_nothing_and_leaves_nothing_behind() {
    soak(Plan {
        lasts: Duration::from_secs(27),
        rate: 300,
        look: Duration::from_millis(300),
        breaks: 15,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as LANNER_SOAK_MINUTES says"]
async fn memory_and_descriptors_stay_flat() {
    soak(Plan {
        lasts: Duration::from_secs(60 * setting("LANNER_SOAK_MINUTES", 3)),
        rate: setting("LANNER_SOAK_RATE", 300),
        look: Duration::from_secs(5),
        breaks: 12,
    })
    .await;
}

async fn soak(plan: Plan) {
    let out = std::env::var("LANNER_SOAK_OUT");
    let out = out.unwrap_or_else(|_| concat!(env!("CARGO_TARGET_TMPDIR"), "/soak").to_owned());
    let out = PathBuf::from(out);
    std::fs::create_dir_all(&out).expect("a folder");

    let emulator = emulator().await;
    let receiver = Arc::new(Receiver::default());
    let app = Router::new().route("/", post(take));
    let webhook = serve(app.with_state(Arc::clone(&receiver))).await;
    let simulator = simulator(&plan);
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let site = simulator.site().configuration();
    let rest = format!("[webhook.soc]\nurl = \"http://{webhook}/\"\n{site}");
    let config = configure(folder.path(), &emulator.connection_string(), port, &rest);
    let mut daemon = Daemon::start(&config);
    let traffic = {
        let emulator = Arc::clone(&emulator);
        std::thread::spawn(move || publish(&emulator, simulator))
    };

    let metrics = format!("http://127.0.0.1:{port}/metrics");
    let (began, mut samples) = (Instant::now(), Vec::new());
    let mut broken = 0;
    while began.elapsed() < plan.lasts {
        tokio::time::sleep(plan.look).await;
        let (status, text) = get(&metrics).await;
        if status != 200 {
            assert!(samples.is_empty(), "it has stopped answering");
            continue;
        }
        samples.push(sample(&daemon, began, &text));
        curve::write(&out, &samples).expect("the curves are written");
        if samples.len() % plan.breaks == 0 {
            broken += emulator.drop_connections();
        }
    }
    let (published, truth) = traffic.join().expect("no panic");

    let until = Instant::now();
    let last = loop {
        let (_, text) = get(&metrics).await;
        let told = receiver.waits_for().is_empty() && sum(&text, "lanner_outbox_pending") == 0.0;
        if told && read(&text) >= published {
            break text;
        }
        assert!(
            until.elapsed() < PATIENCE,
            "of {published} records:\n{text}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    println!(
        "{published} records, {broken} broken connections, {} notifications, {} of them refused once",
        receiver.count.load(Ordering::Relaxed),
        receiver.refused.lock().expect("no panic").len(),
    );
    assert_eq!(read(&last), published);
    for none in [
        "lanner_hub_lost_messages_total",
        "lanner_records_quarantined_total",
        "lanner_notifications_dead_total",
    ] {
        assert!(last.contains(none), "{none} is not told");
        assert_eq!(sum(&last, none), 0.0, "{none}");
    }
    assert!(broken > 0, "no connection was broken");
    assert_eq!(missed(&truth, &receiver), [""; 0]);
    assert_eq!(daemon.stop().code(), Some(0));
    assert_flat(&samples);
}

/// Records that came whole, those of categories that are not for us among them.
fn read(metrics: &str) -> u64 {
    let of = ["lanner_records_total", "lanner_records_ignored_total"];
    of.map(|name| sum(metrics, name) as u64).iter().sum()
}

fn sample(daemon: &Daemon, began: Instant, metrics: &str) -> Sample {
    Sample {
        second: began.elapsed().as_secs_f64(),
        resident: daemon.resident(),
        files: daemon.descriptors(),
        threads: daemon.number("Threads"),
        lag: sum(metrics, "lanner_partition_lag_messages") as u64,
        pending: sum(metrics, "lanner_outbox_pending") as u64,
        state: sum(metrics, "lanner_state_entries") as u64,
        records: read(metrics),
    }
}

/// The last third of the looks against the second.
fn assert_flat(samples: &[Sample]) {
    let thirds = samples.len() / 3;
    let (second, third) = (&samples[thirds..2 * thirds], &samples[2 * thirds..]);
    let grown = |of: fn(&Sample) -> u64| (middle(second, of), middle(third, of));
    let memory = grown(|sample| sample.resident);
    let files = grown(|sample| sample.files);
    let threads = grown(|sample| sample.threads);
    println!(
        "second and last third: memory {} and {} MiB, descriptors {files:?}, threads {threads:?}",
        memory.0 >> 20,
        memory.1 >> 20
    );
    assert!(memory.1 <= memory.0 + memory.0 / MORE_MEMORY.0 + MORE_MEMORY.1);
    assert!(files.1 <= files.0 + MORE_FILES);
    assert!(threads.1 <= threads.0 + MORE_THREADS);
}

fn middle(samples: &[Sample], of: fn(&Sample) -> u64) -> u64 {
    let mut values: Vec<u64> = samples.iter().map(of).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// A hub that keeps little, so that the test's own memory stays small.
async fn emulator() -> Arc<Emulator> {
    let retention = Retention {
        events: 20_000,
        bytes: 32 << 20,
    };
    let config = EmulatorConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        hubs: vec![HubConfig {
            retention,
            ..HubConfig::new("audit", 4)
        }],
    };
    Arc::new(Emulator::start(config).await.expect("the emulator starts"))
}

/// Takes alerts, and refuses one notification in ten the first time that it comes.
#[derive(Default)]
struct Receiver {
    count: AtomicU64,
    refused: Mutex<BTreeSet<String>>,
    /// By the notification's id.
    taken: Mutex<BTreeMap<String, Alert>>,
    /// Ids of what was refused and has not come again.
    owed: Mutex<BTreeSet<String>>,
}

impl Receiver {
    fn waits_for(&self) -> BTreeSet<String> {
        self.owed.lock().expect("no panic").clone()
    }
}

async fn take(
    State(receiver): State<Arc<Receiver>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let id = headers["webhook-id"].to_str().expect("text").to_owned();
    let mut owed = receiver.owed.lock().expect("no panic");
    if !owed.remove(&id) && receiver.count.fetch_add(1, Ordering::Relaxed) % REFUSED == 0 {
        receiver
            .refused
            .lock()
            .expect("no panic")
            .insert(id.clone());
        owed.insert(id);
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let alert: Alert = serde_json::from_slice(&body).expect("an alert");
    receiver.taken.lock().expect("no panic").insert(id, alert);
    StatusCode::NO_CONTENT
}

/// Attacks that no alert shows, in words.
fn missed(truth: &Truth, receiver: &Receiver) -> Vec<String> {
    let covers: BTreeMap<String, Vec<String>> = load::load(&load::shipped(), &[])
        .expect("the shipped detectors load")
        .into_iter()
        .map(|detector| (detector.id, detector.covers))
        .collect();
    let rows = |detector: &str| covers.get(detector).map_or(&[][..], Vec::as_slice);
    let alerts: Vec<Alert> = {
        let taken = receiver.taken.lock().expect("no panic");
        taken.values().cloned().collect()
    };
    let score = score(truth, &alerts, rows, |campaign| {
        campaign.verdict == Verdict::Attack
    });
    let name = |id: &u32| format!("{} ({id})", truth.campaigns[*id as usize].name);
    assert!(!score.found.is_empty(), "there are attacks in the stream");
    score.missed.iter().map(name).collect()
}

fn simulator(plan: &Plan) -> Simulator {
    let start = Timestamp::now();
    Simulator::new(Scenario {
        seed: 11,
        start,
        duration: plan.lasts,
        clusters: ClusterSpec::three(plan.rate as f64),
        clock: Scenario::office_hours(start),
        campaigns: Campaigns {
            per_family: 1,
            intrusions: 0,
            quiet: Duration::ZERO,
            round: plan.lasts.min(Duration::from_secs(60)),
            window: (0.1, 0.8),
            notable: true,
        },
    })
}

/// Publishes each record when its time has come; gives how many there were, and what they were.
fn publish(emulator: &Emulator, mut simulator: Simulator) -> (u64, Truth) {
    let mut batchers: BTreeMap<usize, Batcher> = BTreeMap::new();
    let mut messages = 0_u64;
    let mut send = |payload| {
        let partition = (messages % 4).to_string();
        messages += 1;
        emulator
            .publish("audit", &partition, payload)
            .expect("the partition exists");
    };
    let (mut flushed, mut records) = (Instant::now(), 0);
    for record in simulator.by_ref() {
        while record.time > Timestamp::now() {
            std::thread::sleep(Duration::from_millis(20));
        }
        records += 1;
        let full = batchers
            .entry(record.cluster)
            .or_default()
            .add(&record.bytes);
        full.into_iter().for_each(&mut send);
        if flushed.elapsed() > Duration::from_millis(200) {
            flushed = Instant::now();
            let rest = batchers.values_mut().filter_map(Batcher::finish);
            rest.for_each(&mut send);
        }
    }
    let rest = batchers.values_mut().filter_map(Batcher::finish);
    rest.for_each(&mut send);
    (records, simulator.truth().clone())
}
