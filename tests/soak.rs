//! The daemon for a long time: simulated traffic, a receiver that fails now and then, connections that
//! break; and what memory, descriptors and threads it takes meanwhile.
//!
//! `LANNER_SOAK_MINUTES=30 cargo test --test soak -- --ignored` writes `curve.tsv` and `curve.svg` into
//! `LANNER_SOAK_OUT` (or `target/soak`), and fails where the last third took more than the second.
#![cfg(all(feature = "emulator", target_os = "linux"))]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use jiff::Timestamp;
use lanner::emulator::{Emulator, EmulatorConfig, HubConfig, Retention};
use lanner::simulator::record::Batcher;
use lanner::simulator::{Campaigns, ClusterSpec, Scenario, Simulator};

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(5);

/// What the last third may take beyond the second: a tenth and 16 MiB of memory, some descriptors of
/// connections that are on their way out.
const MORE_MEMORY: (u64, u64) = (10, 16 << 20);
const MORE_FILES: u64 = 4;
const MORE_THREADS: u64 = 2;

/// One look at the daemon.
#[derive(Debug, Clone, Default)]
struct Sample {
    second: u64,
    resident: u64,
    files: u64,
    threads: u64,
    lag: u64,
    pending: u64,
    state: u64,
    records: u64,
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes as long as LANNER_SOAK_MINUTES says"]
async fn memory_and_descriptors_stay_flat() {
    let minutes = setting("LANNER_SOAK_MINUTES", 3);
    let rate = setting("LANNER_SOAK_RATE", 300);
    let out = std::env::var("LANNER_SOAK_OUT").map_or("target/soak".into(), PathBuf::from);
    std::fs::create_dir_all(&out).expect("a folder");
    let duration = Duration::from_secs(minutes * 60);

    let emulator = emulator().await;
    let receiver = receiver().await;
    let folder = tempfile::tempdir().expect("a folder");
    let port = free_port();
    let config = configuration(folder.path(), &emulator, receiver, port);
    let daemon = Daemon::start(&config);
    let stop = Arc::new(AtomicBool::new(false));
    let published = Arc::new(AtomicU64::new(0));
    let traffic = {
        let (emulator, stop) = (emulator.clone(), Arc::clone(&stop));
        let published = Arc::clone(&published);
        std::thread::spawn(move || publish(&emulator, duration, rate as f64, &stop, &published))
    };

    let (began, mut samples) = (Instant::now(), Vec::new());
    while began.elapsed() < duration {
        tokio::time::sleep(EVERY).await;
        if let Some(sample) = daemon.sample(began, port).await {
            samples.push(sample);
            std::fs::write(out.join("curve.tsv"), table(&samples)).expect("a file");
            std::fs::write(out.join("curve.svg"), picture(&samples)).expect("a file");
        }
        if samples.len() % 12 == 11 {
            emulator.drop_connections();
        }
    }
    stop.store(true, Ordering::Relaxed);
    traffic.join().expect("no panic");

    let last = samples.last().expect("it was looked at").clone();
    println!(
        "{} published, last look {last:?}",
        published.load(Ordering::Relaxed)
    );
    let thirds = samples.len() / 3;
    let (second, third) = (&samples[thirds..2 * thirds], &samples[2 * thirds..]);
    let grown = |of: fn(&Sample) -> u64| (middle(second, of), middle(third, of));
    let (memory, files, threads) = (
        grown(|sample| sample.resident),
        grown(|sample| sample.files),
        grown(|sample| sample.threads),
    );
    println!(
        "second and last third: memory {memory:?}, descriptors {files:?}, threads {threads:?}"
    );
    assert!(last.records > 0, "nothing was read");
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

/// Refuses one notification in ten for now.
async fn receiver() -> std::net::SocketAddr {
    async fn take(State(count): State<Arc<AtomicU64>>) -> StatusCode {
        match count.fetch_add(1, Ordering::Relaxed) % 10 {
            9 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::NO_CONTENT,
        }
    }
    let app = Router::new()
        .route("/", post(take))
        .with_state(Arc::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn configuration(
    folder: &Path,
    emulator: &Emulator,
    receiver: std::net::SocketAddr,
    port: u16,
) -> PathBuf {
    let path = folder.join("lanner.toml");
    std::fs::write(folder.join("hub"), emulator.connection_string()).expect("a file");
    let text = format!(
        r#"
[eventhubs.audit]
hub = "audit"
auth = "connection-string"
connection-string-file = "{folder}/hub"

[store]
path = "{folder}/store"

[webhook.soc]
url = "http://{receiver}/"

[stdout]
enabled = false

[telemetry]
listen = "127.0.0.1:{port}"
"#,
        folder = folder.display(),
    );
    std::fs::write(&path, text).expect("a file");
    path
}

fn publish(
    emulator: &Emulator,
    duration: Duration,
    rate: f64,
    stop: &AtomicBool,
    published: &AtomicU64,
) {
    let start = Timestamp::now();
    let simulator = Simulator::new(Scenario {
        seed: 11,
        start,
        duration,
        clusters: ClusterSpec::three(rate),
        clock: Scenario::office_hours(start),
        campaigns: Campaigns {
            per_family: 1,
            intrusions: 0,
            quiet: Duration::ZERO,
            round: Duration::from_secs(60),
            window: (0.1, 0.9),
            notable: true,
        },
    });
    let mut batchers: BTreeMap<usize, Batcher> = BTreeMap::new();
    let mut messages = 0_u64;
    let mut send = |payload| {
        let partition = (messages % 4).to_string();
        messages += 1;
        emulator
            .publish("audit", &partition, payload)
            .expect("the partition exists");
    };
    let mut flushed = Instant::now();
    for record in simulator {
        while record.time > Timestamp::now() && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
        published.fetch_add(1, Ordering::Relaxed);
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
}

struct Daemon(Child);

impl Daemon {
    fn start(config: &Path) -> Daemon {
        let child = Command::new(env!("CARGO_BIN_EXE_lanner"))
            .args(["run", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        Daemon(child)
    }

    /// What the system and the daemon itself say; `None` while it does not answer.
    async fn sample(&self, began: Instant, port: u16) -> Option<Sample> {
        let pid = self.0.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let number = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            let word = line.and_then(|line| line.split_whitespace().nth(1));
            word.and_then(|word| word.parse::<u64>().ok())
                .expect("Linux says so")
        };
        let answer = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await;
        let metrics = answer.ok()?.text().await.ok()?;
        let sum = |name: &str| {
            let of =
                |line: &str| line.starts_with(name) && line[name.len()..].starts_with(['{', ' ']);
            let values = metrics.lines().filter(|line| of(line));
            values
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .sum::<f64>() as u64
        };
        Some(Sample {
            second: began.elapsed().as_secs(),
            resident: number("VmRSS:") << 10,
            files: std::fs::read_dir(format!("/proc/{pid}/fd"))
                .expect("it runs")
                .count() as u64,
            threads: number("Threads:"),
            lag: sum("lanner_partition_lag_messages"),
            pending: sum("lanner_outbox_pending"),
            state: sum("lanner_state_entries"),
            records: sum("lanner_records_total"),
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Nothing to be done where it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn table(samples: &[Sample]) -> String {
    let mut text =
        "second\tresident_mib\tdescriptors\tthreads\tlag_messages\tpending\tstate_entries\trecords\n".to_owned();
    for sample in samples {
        let Sample {
            second,
            resident,
            files,
            threads,
            lag,
            pending,
            state,
            records,
        } = sample;
        let mib = *resident as f64 / f64::from(1 << 20);
        let _ = writeln!(
            text,
            "{second}\t{mib:.1}\t{files}\t{threads}\t{lag}\t{pending}\t{state}\t{records}"
        );
    }
    text
}

/// Each curve against its own highest value.
fn picture(samples: &[Sample]) -> String {
    const WIDTH: f64 = 800.0;
    const HEIGHT: f64 = 300.0;
    let end = samples.last().map_or(1, |sample| sample.second.max(1)) as f64;
    type Curve = (&'static str, &'static str, fn(&Sample) -> u64);
    let curves: [Curve; 4] = [
        ("resident bytes", "#1f6feb", |sample| sample.resident),
        ("descriptors", "#bf3989", |sample| sample.files),
        ("threads", "#8a6d00", |sample| sample.threads),
        ("lag, messages", "#6e7781", |sample| sample.lag),
    ];
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {}\" font-family=\"sans-serif\" font-size=\"12\">\n",
        HEIGHT + 40.0
    );
    for (at, (name, colour, of)) in curves.iter().enumerate() {
        let highest = samples.iter().map(of).max().unwrap_or(0).max(1);
        let points: Vec<String> = samples
            .iter()
            .map(|sample| {
                let x = sample.second as f64 / end * WIDTH;
                let y = HEIGHT * (1.05 - of(sample) as f64 / highest as f64) / 1.05;
                format!("{x:.1},{y:.1}")
            })
            .collect();
        let _ = writeln!(
            text,
            "<polyline fill=\"none\" stroke=\"{colour}\" points=\"{}\"/>\n<text x=\"{}\" y=\"{}\" fill=\"{colour}\">{name}, at most {highest}</text>",
            points.join(" "),
            10 + at * 200,
            HEIGHT + 25.0,
        );
    }
    let _ = writeln!(
        text,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{end} s</text>\n</svg>",
        WIDTH - 5.0,
        HEIGHT + 38.0
    );
    text
}
