//! The demo's course: starts everything, lets traffic flow, waits until it is judged and delivered.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Arguments;
use super::receivers::{Arrival, Receivers};
use super::report::Report;
use crate::cli::Exit;
use crate::cli::setup::{self, Setup};
use crate::cli::traffic::{self, Published};
use crate::config;
use crate::detect::load::Tests;
use crate::emulator::{Emulator, EmulatorConfig, HubConfig};
use crate::pipeline::daemon::{Daemon, Observers};
use crate::pipeline::live;
use crate::pipeline::tally::Tally;
use crate::simulator::site::Site;
use crate::simulator::{Campaigns, ClusterSpec, Scenario, Simulator};
use crate::source::Partition;
use crate::telemetry::logs;

const HUB: &str = "audit";
const PARTITIONS: u32 = 4;

/// How long the end waits for what was published to be read, judged and delivered.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often the demo says that it goes on.
const PROGRESS: Duration = Duration::from_secs(10);

/// Without an end, attacks come in rounds of this length.
const ROUND: Duration = Duration::from_secs(60);

/// Longer than anyone watches.
const ENDLESS: Duration = Duration::from_secs(30 * 24 * 3600);

pub async fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let began = Instant::now();
    let tasks = TaskTracker::new();
    let cancel = CancellationToken::new();
    let folder = tempfile()?;
    let emulator = Emulator::start(EmulatorConfig {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        hubs: vec![HubConfig::new(HUB, PARTITIONS)],
    })
    .await?;
    let (arrivals_in, arrivals) = mpsc::channel(1024);
    let receivers = Receivers::start(arrivals_in, &tasks, &cancel).await?;

    let seed = arguments
        .seed
        .unwrap_or_else(|| Timestamp::now().as_microsecond().unsigned_abs() % 1_000_000);
    let site = Site::new(seed).configuration();
    let text = configuration(&site, &folder.0, &emulator, &receivers);
    let setup = match config::load_text("demo.toml", &text, &[])
        .and_then(|loaded| setup::with_detectors(loaded, Tests::LeaveOut))
    {
        Ok(setup) => setup,
        Err(problems) => {
            setup::print(&problems);
            return Ok(Exit::Configuration);
        }
    };
    // A second demo in one process, as in tests, finds the logs set up already.
    let _ = logs::init(&setup.config().telemetry);
    let hub = setup.config().eventhubs.get("demo").cloned();
    let hub = hub.context("the demo's configuration names its hub")?;
    let mut report = Report::new(&setup.detectors, arguments.lasts);
    report.header(&emulator.endpoint(), &receivers, arguments, seed)?;

    let daemon = start(setup).await?;
    let producer = traffic::producer(hub).await?;
    let simulator = Simulator::new(scenario(arguments, seed));
    let published = Arc::new(Published::default());
    let stop = Arc::new(AtomicBool::new(false));
    let publishing = tokio::spawn(traffic::publish(
        simulator,
        producer,
        Arc::clone(&published),
        Arc::clone(&stop),
    ));
    report.begin(began.elapsed())?;
    let flow = Instant::now();
    let mut stage = Watching {
        report,
        arrivals,
        published: Arc::clone(&published),
        read: Arc::clone(&daemon.read),
    };
    stage.until_end(publishing, &stop).await?;
    let flowed = flow.elapsed();
    stage.until_read().await?;
    stage.while_stopping(daemon.daemon.stop()).await?;
    let passed = stage.report.summary(&published, flowed)?;

    cancel.cancel();
    tasks.close();
    // Clients that keep connections open do not hold up the end.
    let _ = tokio::time::timeout(Duration::from_secs(1), tasks.wait()).await;
    emulator.shutdown().await;
    Ok(if passed {
        Exit::Fine
    } else {
        Exit::TestsFailed
    })
}

/// What to simulate: three clusters of the asked rate, attacks of every family.
fn scenario(arguments: &Arguments, seed: u64) -> Scenario {
    let start = Timestamp::now();
    Scenario {
        seed,
        start,
        duration: arguments.lasts.unwrap_or(ENDLESS),
        clusters: ClusterSpec::three(f64::from(arguments.rate)),
        clock: Scenario::office_hours(start),
        campaigns: Campaigns {
            per_family: per_family(arguments.lasts),
            intrusions: 0,
            quiet: Duration::ZERO,
            round: arguments.lasts.unwrap_or(ROUND),
            window: (0.08, 0.7),
            notable: false,
        },
    }
}

/// What the simulated site's `lanner.toml` says.
fn configuration(site: &str, folder: &Path, emulator: &Emulator, receivers: &Receivers) -> String {
    format!(
        r#"
[eventhubs.demo]
hub = "{HUB}"
namespace = "demo"
auth = "connection-string"
connection-string = "{connection}"

[webhook.soc]
url = "http://{webhook}/alerts"

[email.oncall]
host = "127.0.0.1"
port = {port}
tls = "none"
from = "Lanner <lanner@example.com>"
to = ["oncall@example.com"]

[stdout]
enabled = false

[[route]]
severity = "medium"
kinds = ["threat", "change"]
receivers = ["webhook.soc", "email.oncall"]

[store]
path = {store:?}

[telemetry]
log-level = "error"

{site}"#,
        connection = emulator.connection_string(),
        webhook = receivers.webhook,
        port = receivers.mail.port(),
        store = folder.join("store"),
    )
}

/// The daemon, and how many records it has read.
struct Running {
    daemon: Daemon,
    read: Arc<AtomicU64>,
}

async fn start(setup: Setup) -> anyhow::Result<Running> {
    let read = Arc::new(AtomicU64::new(0));
    let observers = Observers {
        pipeline: Arc::new(Counter(Arc::clone(&read))),
        deliveries: Arc::new(()),
    };
    let daemon = Daemon::start(setup.into_settings(), observers).await?;
    let ready = async {
        while !daemon.hubs.iter().all(|hub| hub.snapshot().is_ready()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ready)
        .await
        .context("the daemon does not reach the emulator")?;
    Ok(Running { daemon, read })
}

struct Counter(Arc<AtomicU64>);

impl live::Observer for Counter {
    fn read(&self, _partition: &Partition, tally: &Tally) {
        self.0.fetch_add(tally.records, Ordering::Relaxed);
    }
}

/// Shows arrivals while something else goes on.
struct Watching {
    report: Report,
    arrivals: mpsc::Receiver<Arrival>,
    published: Arc<Published>,
    read: Arc<AtomicU64>,
}

impl Watching {
    fn show(&mut self, arrival: Option<Arrival>) -> anyhow::Result<()> {
        match arrival {
            Some(arrival) => Ok(self.report.arrived(arrival, &self.published)?),
            None => anyhow::bail!("the receivers ended"),
        }
    }

    /// To the end of the traffic, or Ctrl-C.
    async fn until_end(
        &mut self,
        mut publishing: tokio::task::JoinHandle<anyhow::Result<()>>,
        stop: &AtomicBool,
    ) -> anyhow::Result<()> {
        let mut interrupted = false;
        let mut ticks = tokio::time::interval(PROGRESS);
        ticks.tick().await;
        loop {
            tokio::select! {
                _ = ticks.tick() => self.report.progress(self.read.load(Ordering::Relaxed))?,
                arrival = self.arrivals.recv() => self.show(arrival)?,
                ended = &mut publishing => return ended?,
                _ = tokio::signal::ctrl_c() => {
                    if interrupted {
                        std::process::exit(130);
                    }
                    interrupted = true;
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// Until the daemon has read what was published.
    async fn until_read(&mut self) -> anyhow::Result<()> {
        let read = Arc::clone(&self.read);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while read.load(Ordering::Relaxed) < self.published.records.load(Ordering::Relaxed) {
            tokio::select! {
                arrival = self.arrivals.recv() => self.show(arrival)?,
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
                () = tokio::time::sleep_until(deadline) => break,
            }
        }
        self.report.read(read.load(Ordering::Relaxed));
        Ok(())
    }

    /// A stop delivers what is in the outbox.
    async fn while_stopping(&mut self, stopping: impl Future<Output = ()>) -> anyhow::Result<()> {
        tokio::pin!(stopping);
        loop {
            tokio::select! {
                biased;
                arrival = self.arrivals.recv() => self.show(arrival)?,
                () = &mut stopping => break,
            }
        }
        while let Ok(arrival) = self.arrivals.try_recv() {
            self.show(Some(arrival))?;
        }
        Ok(())
    }
}

/// A folder that goes with the demo.
struct Folder(std::path::PathBuf);

fn tempfile() -> anyhow::Result<Folder> {
    let name = format!(
        "lanner-demo-{}-{:x}",
        std::process::id(),
        Timestamp::now().as_nanosecond()
    );
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir(&path).with_context(|| format!("{} cannot be made", path.display()))?;
    Ok(Folder(path))
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is in the system's temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Attacks of each family in a round: more where there is more time.
pub fn per_family(lasts: Option<Duration>) -> usize {
    lasts.map_or(1, |lasts| (lasts.as_secs() / 15).clamp(1, 4) as usize)
}
