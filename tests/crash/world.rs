//! A hub, receivers and a folder, in which the daemon is started, killed and started again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use lanner::alert::Alert;
use lanner::detect::order::Learning;
use lanner::emulator::{Emulator, EmulatorConfig, HubConfig};
use lanner::pipeline::memory::Memory;
use lanner::store::{Store, StoreConfig};
use serde_json::Value;
use tempfile::TempDir;

use crate::compare::{LeftOut, canonical, difference};
use crate::smtp;
use crate::stream::{PARTITIONS, Stream};
use crate::web::{get, serve};

/// How long a test waits for what must come; only a failure takes so long. `LANNER_PATIENCE` sets
/// other seconds, for a machine that is busy with other things.
pub static PATIENCE: LazyLock<Duration> = LazyLock::new(|| {
    let seconds = std::env::var("LANNER_PATIENCE");
    Duration::from_secs(seconds.map_or(60, |text| text.parse().expect("a number")))
});

/// Longer than incidents wait for further news, see the configuration below.
const DEBOUNCE: Duration = Duration::from_millis(1500);

/// Every message that a webhook took: its id in the header, and its body.
type Received = Arc<Mutex<Vec<(String, Value)>>>;

pub struct World {
    pub emulator: Emulator,
    pub alerts: Received,
    pub incidents: Received,
    mails: smtp::Server,
    down: Arc<AtomicBool>,
    pub folder: TempDir,
    published: usize,
}

impl World {
    pub async fn new(stream: &Stream) -> World {
        let hub = HubConfig::new("audit", PARTITIONS);
        let emulator = Emulator::start(EmulatorConfig {
            listen: "127.0.0.1:0".parse().expect("an address"),
            hubs: vec![hub],
        });
        let emulator = emulator.await.expect("the emulator starts");
        let down = Arc::new(AtomicBool::new(false));
        let (alerts, to_alerts) = receiver(&down).await;
        let (incidents, to_incidents) = receiver(&down).await;
        let mails = smtp::Server::start(|_, _| None).await;
        let world = World {
            emulator,
            alerts,
            incidents,
            mails,
            down,
            folder: TempDir::new().expect("a folder"),
            published: 0,
        };
        world.configure(&stream.site, to_alerts, to_incidents);
        world
    }

    fn configure(&self, site: &str, alerts: SocketAddr, incidents: SocketAddr) {
        let folder = self.folder.path().display();
        let port = self.mails.port;
        // Longer than the stream: what is forgotten with time would depend on when a run comes to it.
        let pipeline = match site.contains("[pipeline]") {
            true => "",
            false => "[pipeline]\nlateness = \"30m\"\nmax-ahead = \"20m\"",
        };
        let text = format!(
            r#"
[eventhubs.audit]
hub = "audit"
auth = "connection-string"
connection-string-file = "{folder}/hub"

[store]
path = "{folder}/store"

[telemetry]
listen = "127.0.0.1:0"

[alert]
incident-debounce = "1s"

[stdout]
enabled = false

[webhook.alerts]
url = "http://{alerts}/"

[webhook.incidents]
url = "http://{incidents}/"

[email.oncall]
host = "127.0.0.1"
port = {port}
tls = "none"
from = "Lanner <lanner@example.com>"
to = ["oncall@example.com"]

[[route]]
receivers = ["webhook.alerts"]
continue = true

[[route]]
severity = "critical"
receivers = ["email.oncall"]
continue = true

[[route]]
send = "incidents"
receivers = ["webhook.incidents"]

{site}

{pipeline}
"#
        );
        std::fs::write(self.path("hub"), self.emulator.connection_string()).expect("a file");
        std::fs::write(self.path("lanner.toml"), text).expect("a file");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Publishes the next messages of the stream; false where there are none.
    pub fn publish(&mut self, stream: &Stream, count: usize) -> bool {
        let rest = &stream.messages[self.published..];
        for (partition, body) in rest.iter().take(count) {
            let published = self.emulator.publish("audit", partition, body.clone());
            published.expect("the partition exists");
            self.published += 1;
        }
        !rest.is_empty()
    }

    /// As [`World::publish`], but not past the first `end` of the stream.
    pub fn publish_up_to(&mut self, stream: &Stream, end: usize, count: usize) {
        self.publish(stream, count.min(end.saturating_sub(self.published)));
    }

    /// Starts the daemon with `LANNER_FAIL_POINTS`.
    pub fn start(&self, fail_points: &str) -> Daemon {
        self.spawn(Command::new(env!("CARGO_BIN_EXE_lanner")), fail_points)
    }

    /// Starts the daemon by a command that takes the daemon's arguments.
    pub fn spawn(&self, mut command: Command, fail_points: &str) -> Daemon {
        let log = self.path("log");
        let mut options = File::options();
        let file = options
            .append(true)
            .create(true)
            .open(&log)
            .expect("a file");
        let from = file.metadata().expect("it is there").len() as usize;
        let child = command
            .args(["run", "--config"])
            .arg(self.path("lanner.toml"))
            .env("LANNER_FAIL_POINTS", fail_points)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("the program starts");
        Daemon { child, log, from }
    }

    /// How many alerts the webhook has, each counted once.
    pub fn told(&self) -> usize {
        let alerts = self.alerts.lock().expect("no panic");
        alerts
            .iter()
            .map(|(id, _)| id)
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// Lets the webhooks refuse everything, or take it again.
    pub fn is_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    /// Whether everything published is committed.
    pub fn is_read(&self) -> bool {
        self.look().is_some()
    }

    /// Whether everything published is committed and everything to be told is told.
    fn is_drained(&self) -> bool {
        self.look() == Some(0)
    }

    /// How many notifications wait, once everything published is committed.
    fn look(&self) -> Option<i64> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let database = self.path("store/lanner.db");
        let look = || -> rusqlite::Result<Option<i64>> {
            let database = rusqlite::Connection::open_with_flags(database, flags)?;
            for (partition, last) in self.last() {
                let query = "SELECT position FROM position WHERE id = ?1";
                let position: i64 = database.query_row(query, [&partition], |row| row.get(0))?;
                assert!(position <= last, "read past the end of {partition}");
                if position < last {
                    return Ok(None);
                }
            }
            database.query_row("SELECT count(*) FROM outbox", [], |row| {
                row.get(0).map(Some)
            })
        };
        look().ok().flatten()
    }

    /// The last sequence number of each partition.
    fn last(&self) -> Vec<(String, i64)> {
        (0..PARTITIONS)
            .map(|partition| {
                let partition = partition.to_string();
                let info = self.emulator.partition_info("audit", &partition);
                let last = info.expect("it exists").last_enqueued_sequence_number;
                (partition, last)
            })
            .collect()
    }

    /// Publishes what is left, lets the daemon come to its end and stops it.
    pub async fn finish(&mut self, stream: &Stream) {
        self.publish(stream, usize::MAX);
        self.finish_published().await;
    }

    /// Lets the daemon come to the end of what is published and stops it.
    pub async fn finish_published(&self) {
        let daemon = self.start("");
        daemon.started().await;
        for _ in 0..2 {
            let begun = Instant::now();
            while !self.is_drained() {
                let log = daemon.log();
                assert!(begun.elapsed() < *PATIENCE, "not drained; {log}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::time::sleep(DEBOUNCE).await;
        }
        daemon.signal(rustix::process::Signal::TERM);
        let status = daemon.ended().await;
        assert!(status.success(), "{status}; {}", self.log());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// What came out of it, after [`World::finish`].
    pub fn outcome(&self, stream: &Stream) -> Outcome {
        let mut alerts: BTreeMap<String, Value> = BTreeMap::new();
        for (id, body) in self.alerts.lock().expect("no panic").iter() {
            let body = without(body, &["detected_at", "evidence"]);
            if let Some(before) = alerts.insert(id.clone(), body.clone()) {
                assert_eq!(before, body, "{id} says two things");
            }
        }
        let mut incidents: BTreeMap<String, Value> = BTreeMap::new();
        let mut replaced = BTreeSet::new();
        let mut said: BTreeMap<&str, Value> = BTreeMap::new();
        for (message, body) in self.incidents.lock().expect("no panic").iter() {
            for id in body["replaces"].as_array().into_iter().flatten() {
                replaced.insert(id.as_str().expect("text").to_owned());
            }
            // How often each step was seen when it was told last depends on the clock on the wall;
            // that it was told does not.
            let steps = body["steps"].as_array().into_iter().flatten();
            let steps: BTreeSet<String> = steps
                .map(|step| format!("{} {}", step["alert"], step["severity"]))
                .collect();
            let told = serde_json::json!({ "severity": body["severity"], "steps": steps });
            if let Some(before) = said.insert(message, told.clone()) {
                assert_eq!(before, told, "{message} says two things");
            }
            let id = body["id"].as_str().expect("text").to_owned();
            incidents.insert(id, told);
        }
        incidents.retain(|id, _| !replaced.contains(id));
        let mails = self.mails.mails();
        let mails = mails.iter().map(|mail| mail.header("message-id")).collect();
        let (store, recovered) = Store::open(&StoreConfig {
            path: self.path("store"),
            receiver_quota: 1 << 30,
            quarantine_quota: 1 << 30,
        })
        .expect("the store opens");
        assert_eq!(recovered.damage, None);
        let dead: u64 = store
            .outbox_counts()
            .expect("it can be read")
            .iter()
            .map(|count| count.dead + count.pending)
            .sum();
        assert_eq!(dead, 0, "undelivered or dead notifications");
        let mut positions: Vec<_> = recovered
            .positions
            .iter()
            .map(|(partition, position)| (partition.id.to_string(), position.0))
            .collect();
        positions.sort();
        assert_eq!(positions, self.last());
        let (memory, is_whole) = Memory::recover(&recovered, Learning::Own, None);
        assert!(is_whole, "the state can be read");
        // What depends on the clock on the wall: when somebody was told, and so under which ids; and
        // what depends on where batches end: which events were left out as no news, and so which
        // requests are remembered, and whether a key's events were counted before it was known.
        let of_the_wall = [
            "detected_at",
            "at",
            "sequence",
            "ids",
            // The bytes of what is told, which follow those.
            "held",
            "bytes",
            "requests",
            "reused",
            "pending",
        ];
        let left_out = LeftOut {
            fields: &of_the_wall,
            but_in: "inventory",
        };
        Outcome {
            alerts,
            incidents,
            mails,
            state: canonical(&format!("{:#?}", memory.contents()), left_out),
            missed: stream.missed(&self.received()),
            quarantined: store.quarantine_count().expect("it can be read").0,
        }
    }

    pub fn received(&self) -> Vec<Alert> {
        let alerts = self.alerts.lock().expect("no panic");
        alerts
            .iter()
            .map(|(_, body)| serde_json::from_value(body.clone()).expect("an alert"))
            .collect()
    }
}

fn without(body: &Value, keys: &[&str]) -> Value {
    let mut body = body.clone();
    if let Some(object) = body.as_object_mut() {
        object.retain(|key, _| !keys.contains(&key.as_str()));
    }
    body
}

/// What a run told, and what it remembers in the end.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    /// By notification id.
    pub alerts: BTreeMap<String, Value>,
    /// The last that was said of each, by its id.
    incidents: BTreeMap<String, Value>,
    mails: BTreeSet<String>,
    state: String,
    pub quarantined: u64,
    /// Attacks that no alert shows.
    pub missed: Vec<String>,
}

impl Outcome {
    /// `self` must be as an undisturbed run's.
    pub fn assert_same(&self, undisturbed: &Outcome, log: &str) {
        let keys = |map: &BTreeMap<String, Value>| map.keys().cloned().collect::<BTreeSet<_>>();
        let pairs = [
            (keys(&self.alerts), keys(&undisturbed.alerts), "alerts"),
            (
                keys(&self.incidents),
                keys(&undisturbed.incidents),
                "incidents",
            ),
            (self.mails.clone(), undisturbed.mails.clone(), "mails"),
        ];
        for (here, there, what) in pairs {
            let lost: Vec<_> = there.difference(&here).collect();
            let more: Vec<_> = here.difference(&there).collect();
            assert!(
                lost.is_empty() && more.is_empty(),
                "{what}: lost {lost:?}, more {more:?}; {log}"
            );
        }
        for (what, here, there) in [
            ("alert", &self.alerts, &undisturbed.alerts),
            ("incident", &self.incidents, &undisturbed.incidents),
        ] {
            for (id, body) in here {
                let (here, there) = (format!("{body:#}"), format!("{:#}", there[id]));
                let difference = difference(&there, &here);
                assert!(difference.is_empty(), "{what} {id}:\n{difference}\n{log}");
            }
        }
        if self.state != undisturbed.state {
            let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
            for (name, state) in [("expected", &undisturbed.state), ("found", &self.state)] {
                std::fs::write(folder.join(name), state).expect("a file");
            }
            eprintln!("see the files expected and found in {}", folder.display());
        }
        let difference = difference(&undisturbed.state, &self.state);
        assert!(difference.is_empty(), "the state:\n{difference}\n{log}");
        assert!(
            self.state == undisturbed.state,
            "entries of the state are mixed up\n{log}"
        );
        assert_eq!(self.missed, undisturbed.missed, "{log}");
        assert_eq!(self.quarantined, undisturbed.quarantined, "{log}");
    }
}

pub struct Daemon {
    pub child: Child,
    log: PathBuf,
    from: usize,
}

impl Daemon {
    /// What this process has written to its log.
    pub fn log(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(log.get(self.from..).unwrap_or_default()).into_owned()
    }

    pub fn is_started(&self) -> bool {
        self.log().contains("health=127.0.0.1:")
    }

    pub fn is_reading(&self) -> bool {
        self.log().contains("reading the partition")
    }

    /// What `path` of its health listener answers: the status and the text.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let log = self.log();
        let address = log.split("health=").nth(1).expect("it is started");
        let address = address.split_whitespace().next().expect("an address");
        get(&format!("http://{address}{path}")).await
    }

    pub async fn started(&self) {
        let begun = Instant::now();
        while !self.is_started() {
            assert!(begun.elapsed() < *PATIENCE, "not started; {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it still runs");
    }

    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    pub async fn ended(mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.has_ended() {
                return status;
            }
            assert!(begun.elapsed() < *PATIENCE, "does not end; {}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Already gone where a test ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a process ended by SIGKILL.
pub fn is_killed(status: ExitStatus) -> bool {
    status.signal() == Some(9)
}

async fn receiver(down: &Arc<AtomicBool>) -> (Received, SocketAddr) {
    let received = Received::default();
    let app = Router::new()
        .route("/", post(take))
        .with_state((Arc::clone(&received), Arc::clone(down)));
    (received, serve(app).await)
}

async fn take(
    State((received, down)): State<(Received, Arc<AtomicBool>)>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    if down.load(Ordering::Relaxed) {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let id = headers["webhook-id"].to_str().expect("text").to_owned();
    let body = serde_json::from_slice(&body).expect("JSON");
    received.lock().expect("no panic").push((id, body));
    StatusCode::NO_CONTENT
}
