//! The daemon against the official client, over loopback, on the same records; and how long an alert
//! takes.
//!
//! `cargo bench --bench live [-- FILE]`, as `decode`; `-- --latency` leaves out the first part, `--
//! --throughput` the second. The event hub is the emulator in this process. What reads from it are
//! two other processes in turn: `lanner run` with everything it has, and the client alone, which
//! throws away what it receives. Only their own CPU time counts, from the moment at which they have
//! read the first quarter to the moment at which all was read: a daemon runs for years, and what it
//! has never seen costs it more.

mod support;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use azure_messaging_eventhubs::models::AmqpTransport;
use azure_messaging_eventhubs::{
    ConsumerClient, OpenReceiverOptions, StartLocation, StartPosition,
};
use bytes::Bytes;
use futures::StreamExt;
use hdrhistogram::Histogram;
use jiff::Timestamp;
use lanner::emulator::{Emulator, EmulatorConfig, HubConfig, Retention};
use lanner::simulator::record::Batcher;

/// As the daemon's, so that the client alone has no worse one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HUB: &str = "audit";
const PARTITIONS: u32 = 4;
const ROUNDS: usize = 3;
/// As the daemon's `prefetch`.
const PREFETCH: u32 = 64;
/// For anything to happen at all.
const PATIENCE: Duration = Duration::from_secs(300);

/// Of the second part.
const RATE: usize = 2000;
const LASTS: Duration = Duration::from_secs(60);
/// Records that make an alert, one in so many.
const PLANTED: usize = 80;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, connection, endpoint, warm, messages] = &arguments[..]
        && flag == "--receive"
    {
        return receive(connection, endpoint, warm.parse()?, messages.parse()?);
    }
    let only = |part: &str| arguments.iter().any(|argument| argument == part);
    let runtime = tokio::runtime::Runtime::new()?;
    if !only("--latency") {
        throughput(&runtime)?;
    }
    if !only("--throughput") {
        latency(&runtime)?;
    }
    Ok(())
}

// ---- The client alone --------------------------------------------------------------------------

/// Receives so many messages of all partitions from the earliest on, and throws them away; says when
/// it can begin, when it has the first `warm`, and when it has all.
#[tokio::main]
async fn receive(connection: &str, endpoint: &str, warm: u64, messages: u64) -> anyhow::Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    let (counted, mut counts) = tokio::sync::mpsc::channel::<u64>(1024);
    for partition in 0..PARTITIONS {
        let client = ConsumerClient::builder()
            .with_transport(AmqpTransport::Tcp)
            .with_custom_endpoint(endpoint.to_owned())
            .open_with_connection_string(connection, Some(HUB))
            .await?;
        let counted = counted.clone();
        tasks.spawn(async move {
            let options = OpenReceiverOptions {
                owner_level: None,
                prefetch: Some(PREFETCH),
                start_position: Some(StartPosition {
                    location: StartLocation::Earliest,
                    inclusive: false,
                }),
                receive_timeout: None,
            };
            let receiver = client
                .open_receiver_on_partition(partition.to_string(), Some(options))
                .await?;
            let mut events = Box::pin(receiver.stream_events());
            let _ = counted.send(0).await;
            while let Some(event) = events.next().await {
                std::hint::black_box(&event?);
                let _ = counted.send(1).await;
            }
            anyhow::Ok(())
        });
    }
    let (mut opened, mut received) = (0, 0);
    while let Some(count) = counts.recv().await {
        match count {
            0 => opened += 1,
            count => received += count,
        }
        if count == 0 && opened == PARTITIONS {
            println!("ready");
        }
        if count > 0 && received == warm {
            println!("warm");
        }
        if received == messages {
            println!("done");
            // Waits to be measured and ended.
            std::future::pending::<()>().await;
        }
    }
    bail!("the receivers ended early")
}

// ---- What is measured --------------------------------------------------------------------------

/// A process that reads; ended with this.
struct Reader {
    child: Child,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Reader {
    /// User and system seconds so far.
    fn cpu(&self) -> anyhow::Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name in parentheses may hold anything.
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<f64>().ok());
        let (user, system) = (ticks(11), ticks(12));
        // Linux counts a hundred ticks a second for all of its readers.
        Ok((user.context("no user time")? + system.context("no system time")?) / 100.0)
    }

    fn peak_mib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmHWM"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        Ok(kib.context("no peak")? / 1024.0)
    }
}

struct Hub {
    emulator: Emulator,
    messages: Vec<Bytes>,
    records: u64,
    /// Of these, what is read before anything is measured.
    warm: Warm,
}

#[derive(Clone, Copy, Default)]
struct Warm {
    messages: usize,
    records: u64,
}

fn start_hub(runtime: &tokio::runtime::Runtime, bytes: usize) -> anyhow::Result<Emulator> {
    let mut hub = HubConfig::new(HUB, PARTITIONS);
    hub.retention = Retention {
        events: 1 << 24,
        bytes: bytes.max(64 << 20) * 2,
    };
    let config = EmulatorConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        hubs: vec![hub],
    };
    Ok(runtime.block_on(Emulator::start(config))?)
}

fn throughput(runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
    let archive = support::archive()?;
    let mut messages = Vec::new();
    let mut batcher = Batcher::default();
    let (mut records, mut taken, mut warm) = (0, 0, Warm::default());
    for line in archive
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
    {
        if let Some(message) = batcher.add(line) {
            messages.push(message);
            if taken <= archive.len() / 4 {
                warm = Warm {
                    messages: messages.len(),
                    records,
                };
            }
        }
        taken += line.len();
        records += 1;
    }
    messages.extend(batcher.finish());
    ensure!(warm.messages > 0, "the archive is too small");
    let bytes_of = |messages: &[Bytes]| messages.iter().map(Bytes::len).sum::<usize>();
    let bytes = bytes_of(&messages[warm.messages..]);
    println!(
        "{} MB in {} messages after {} MB, {ROUNDS} rounds in turn, medians",
        bytes / 1_000_000,
        messages.len() - warm.messages,
        bytes_of(&messages[..warm.messages]) / 1_000_000,
    );
    drop(archive);

    let mut costs: [Vec<(f64, f64, f64)>; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (daemon, costs) in costs.iter_mut().enumerate() {
            let hub = Hub {
                emulator: start_hub(runtime, bytes_of(&messages))?,
                messages: messages.clone(),
                records,
                warm,
            };
            costs.push(match daemon {
                0 => run_client(&hub)?,
                _ => run_daemon(&hub)?,
            });
            runtime.block_on(hub.emulator.shutdown());
        }
    }
    let median = |costs: &[(f64, f64, f64)], of: fn(&(f64, f64, f64)) -> f64| {
        let mut values: Vec<f64> = costs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!(
        "{:8} {:>8} {:>14} {:>14} {:>9}",
        "", "MB/s", "MB/CPU-second", "of the client", "peak MiB"
    );
    let client = median(&costs[0], |cost| cost.1);
    for (name, costs) in ["client", "daemon"].iter().zip(&costs) {
        let (wall, cpu) = (median(costs, |cost| cost.0), median(costs, |cost| cost.1));
        println!(
            "{name:8} {:8.0} {:14.0} {:14.3} {:9.0}",
            bytes as f64 / 1e6 / wall,
            bytes as f64 / 1e6 / cpu,
            client / cpu,
            median(costs, |cost| cost.2),
        );
    }
    Ok(())
}

/// Publishes these messages, in turn to the partitions, as fast as the emulator takes them.
fn publish(hub: &Hub, messages: Range<usize>) -> anyhow::Result<()> {
    for number in messages {
        let partition = (number as u32 % PARTITIONS).to_string();
        let message = hub.messages[number].clone();
        hub.emulator.publish(HUB, &partition, message)?;
    }
    Ok(())
}

/// Wall and CPU seconds, and peak memory in MiB.
fn run_client(hub: &Hub) -> anyhow::Result<(f64, f64, f64)> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("--receive")
        .arg(hub.emulator.connection_string())
        .arg(hub.emulator.endpoint())
        .arg(hub.warm.messages.to_string())
        .arg(hub.messages.len().to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let reader = Reader { child };
    let mut await_line = |wanted: &str| -> anyhow::Result<()> {
        let line = lines.next().context("the client ended early")??;
        ensure!(line == wanted, "the client says {line}");
        Ok(())
    };
    await_line("ready")?;
    publish(hub, 0..hub.warm.messages)?;
    await_line("warm")?;
    let (start, before) = (Instant::now(), reader.cpu()?);
    publish(hub, hub.warm.messages..hub.messages.len())?;
    await_line("done")?;
    Ok((
        start.elapsed().as_secs_f64(),
        reader.cpu()? - before,
        reader.peak_mib()?,
    ))
}

fn run_daemon(hub: &Hub) -> anyhow::Result<(f64, f64, f64)> {
    let daemon = Daemon::start(&hub.emulator, "")?;
    publish(hub, 0..hub.warm.messages)?;
    daemon.await_records(hub.warm.records)?;
    // Its last commit is part of it.
    std::thread::sleep(Duration::from_millis(500));
    let (start, before) = (Instant::now(), daemon.reader.cpu()?);
    publish(hub, hub.warm.messages..hub.messages.len())?;
    daemon.await_records(hub.records)?;
    let (wall, cpu) = (start.elapsed(), daemon.reader.cpu()?);
    Ok((wall.as_secs_f64(), cpu - before, daemon.reader.peak_mib()?))
}

// ---- The daemon --------------------------------------------------------------------------------

struct Daemon {
    reader: Reader,
    telemetry: SocketAddr,
    folder: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Daemon {
    /// Starts it with everything it has, and waits until it reads all partitions.
    fn start(emulator: &Emulator, receivers: &str) -> anyhow::Result<Daemon> {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("live");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        // Nobody else takes it in so short a time.
        let telemetry = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        std::fs::write(folder.join("connection"), emulator.connection_string())?;
        let config = folder.join("lanner.toml");
        std::fs::write(&config, configuration(&folder, telemetry, receivers))?;
        let child = Command::new(env!("CARGO_BIN_EXE_lanner"))
            .arg("run")
            .arg("--config")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut daemon = Daemon {
            reader: Reader { child },
            telemetry,
            folder,
        };
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(50));
            if let Some(ended) = daemon.reader.child.try_wait()? {
                bail!("the daemon ended at once: {ended}");
            }
            let reading = daemon.metric("lanner_partition_reading");
            if reading.is_ok_and(|reading| reading >= f64::from(PARTITIONS)) {
                // What it does at the start is done.
                std::thread::sleep(Duration::from_millis(500));
                return Ok(daemon);
            }
        }
        bail!("the daemon does not read")
    }

    /// Waits until so many were read.
    fn await_records(&self, records: u64) -> anyhow::Result<()> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(50));
            // Those of other categories are none for us.
            let read = self.metric("lanner_records_total")?
                + self.metric("lanner_records_ignored_total{reason=\"category\"}")?;
            if read >= records as f64 {
                return Ok(());
            }
        }
        bail!("the daemon did not read {records} records in time")
    }

    /// The sum over all labels.
    fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let mut stream = TcpStream::connect(self.telemetry)?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: lanner\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text
            .lines()
            .filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }
}

fn configuration(folder: &Path, telemetry: SocketAddr, receivers: &str) -> String {
    format!(
        r#"
[eventhubs.bench]
hub = "{HUB}"
namespace = "bench"
auth = "connection-string"
connection-string-file = {connection:?}
prefetch = {PREFETCH}

[stdout]
enabled = false

[alert]
profile = "all"

[store]
path = {store:?}

[telemetry]
listen = "{telemetry}"
log-level = "error"
{receivers}
"#,
        connection = folder.join("connection"),
        store = folder.join("store"),
    )
}

// ---- From being published to the webhook --------------------------------------------------------

/// When planted records were published, by audit id, and how long their alerts took in microseconds.
struct Latency {
    published: HashMap<String, Instant>,
    taken: Histogram<u64>,
}

async fn hook(State(latency): State<Arc<Mutex<Latency>>>, body: Bytes) -> StatusCode {
    let at = Instant::now();
    let alert: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let id = alert["evidence"][0]["audit_id"]
        .as_str()
        .unwrap_or_default();
    let mut latency = latency.lock().expect("nobody panics with it");
    if let Some(published) = latency.published.remove(id) {
        let took = at.duration_since(published).as_micros();
        // It grows as needed, and nothing takes hours.
        let _ = latency.taken.record(took as u64);
    }
    StatusCode::NO_CONTENT
}

fn latency(runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
    let emulator = start_hub(runtime, 0)?;
    let state = Arc::new(Mutex::new(Latency {
        published: HashMap::new(),
        taken: Histogram::new(3)?,
    }));
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
    let webhook = listener.local_addr()?;
    let app = Router::new()
        .route("/", post(hook))
        .with_state(Arc::clone(&state));
    let serving = runtime.spawn(async move { axum::serve(listener, app).await });
    let receivers = format!(
        r#"
[webhook.bench]
url = "http://{webhook}/"

[[route]]
detectors = ["pod-exec"]
receivers = ["webhook.bench"]
"#
    );
    let daemon = Daemon::start(&emulator, &receivers)?;

    let ordinary = support::simulated();
    let mut ordinary = ordinary
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .cycle();
    let start = Instant::now();
    let mut batcher = Batcher::default();
    let (mut sent, mut planted, mut partition) = (0, 0, 0);
    while start.elapsed() < LASTS {
        // Every 20 ms what has come due, as one message; as Azure does, only oftener.
        let due = (start.elapsed().as_secs_f64() * RATE as f64) as usize;
        let mut ids = Vec::new();
        let mut messages = Vec::new();
        for number in sent..due {
            if number % PLANTED == 0 {
                let id = format!("00000000-0000-4000-8000-{number:012}");
                messages.extend(batcher.add(&planted_record(&id, number)));
                ids.push(id);
            } else if let Some(line) = ordinary.next() {
                messages.extend(batcher.add(line));
            }
        }
        messages.extend(batcher.finish());
        sent = due;
        planted += ids.len();
        let now = Instant::now();
        let mut latency = state.lock().expect("nobody panics with it");
        latency
            .published
            .extend(ids.into_iter().map(|id| (id, now)));
        drop(latency);
        for message in messages {
            emulator.publish(HUB, &(partition % PARTITIONS).to_string(), message)?;
            partition += 1;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let end = Instant::now();
    while end.elapsed() < Duration::from_secs(10) {
        if state
            .lock()
            .expect("nobody panics with it")
            .published
            .is_empty()
        {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let latency = state.lock().expect("nobody panics with it");
    println!(
        "published to webhook at {:.0} records/s: p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, longest {:.1} ms; {} alerts, {} missing",
        sent as f64 / LASTS.as_secs_f64(),
        latency.taken.value_at_quantile(0.5) as f64 / 1e3,
        latency.taken.value_at_quantile(0.99) as f64 / 1e3,
        latency.taken.value_at_quantile(0.999) as f64 / 1e3,
        latency.taken.max() as f64 / 1e3,
        planted,
        latency.published.len(),
    );
    drop(daemon);
    serving.abort();
    drop(latency);
    runtime.block_on(emulator.shutdown());
    Ok(())
}

/// A command in a pod, run by someone new each time, so that each makes an alert of its own.
fn planted_record(id: &str, number: usize) -> Vec<u8> {
    let now = Timestamp::now();
    let event = serde_json::json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Request", "auditID": id,
        "stage": "ResponseStarted",
        "requestURI": format!("/api/v1/namespaces/shop/pods/web-{number}/exec?command=uptime&container=web&stdout=true"),
        "verb": "create",
        "user": {"username": format!("person-{number}@example.com"), "groups": ["system:authenticated"]},
        "sourceIPs": ["198.51.100.7"], "userAgent": "kubectl/v1.34.1 (linux/amd64) kubernetes/93248f9",
        "objectRef": {"resource": "pods", "namespace": "shop", "name": format!("web-{number}"), "apiVersion": "v1", "subresource": "exec"},
        "responseStatus": {"metadata": {}, "code": 101},
        "requestReceivedTimestamp": now.to_string(), "stageTimestamp": now.to_string(),
        "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""},
    });
    serde_json::json!({
        "time": now.to_string(), "category": "kube-audit",
        "operationName": "Microsoft.ContainerService/managedClusters/diagnosticLogs/Read",
        "resourceId": "/SUBSCRIPTIONS/00000000-0000-4000-8000-00000000000A/RESOURCEGROUPS/RG-BENCH/PROVIDERS/MICROSOFT.CONTAINERSERVICE/MANAGEDCLUSTERS/BENCH",
        "properties": {"log": event.to_string(), "stream": "stdout", "pod": "kube-apiserver-0", "containerID": "0"},
    })
    .to_string()
    .into_bytes()
}
