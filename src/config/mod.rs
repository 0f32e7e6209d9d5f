//! The configuration: one TOML file over `config/default.toml`, checked before anything starts.
//!
//! Each component owns the struct of its section; this module composes them, reads files and
//! environment, and reports errors with file, line, column, key and nearest valid name. [`load`]
//! gives a [`Loaded`] configuration or every error found; [`reload::Watcher`] does so again when a
//! file changes.

pub mod diagnose;
pub mod duration;
mod environment;
pub mod exception;
mod fields;
mod load;
mod place;
mod receivers;
pub mod reload;
pub mod route;
pub mod secret;
mod validate;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Deserializer};

use crate::alert::Severity;
use crate::event::{Lists, Site, Sites};
use crate::source::eventhubs::EventHubConfig;
use crate::store::StoreConfig;

pub use diagnose::{Diagnostic, nearest};
pub use duration::Period;
pub use exception::ExceptionConfig;
pub use load::{DEFAULT, Loaded, load, load_text};
pub use receivers::Receivers;
pub use route::{Route, Subject};

/// The whole configuration, valid, with secrets read from their files.
#[derive(Debug, Clone)]
pub struct Config {
    pub eventhubs: BTreeMap<String, EventHubConfig>,
    pub deliver: Receivers,
    pub stdout: StdoutConfig,
    pub store: StoreConfig,
    pub telemetry: TelemetryConfig,
    pub pipeline: PipelineConfig,
    pub alert: AlertConfig,
    pub lists: Arc<Lists>,
    pub cluster: BTreeMap<String, ClusterConfig>,
    /// By detector id. Whether the ids exist: [`Loaded::check_detectors`].
    pub detectors: BTreeMap<String, DetectorConfig>,
    /// Folder of the site's own detector files.
    pub detectors_dir: Option<PathBuf>,
    /// In the order of the file.
    pub route: Vec<Route>,
}

impl Config {
    /// `config/default.toml` alone.
    pub fn defaults() -> Config {
        load_text("default.toml", "", &[])
            .expect("a test loads the embedded defaults")
            .config
    }

    /// What facts need to know of each cluster.
    pub fn sites(&self) -> Sites {
        let site = |cluster: &ClusterConfig, name: &str| Site {
            name: name.to_owned(),
            environment: cluster.environment.clone(),
            private_api: cluster.private_api,
            severity_shift: cluster.severity_shift,
            lists: cluster.lists.clone().unwrap_or_else(|| self.lists.clone()),
        };
        Sites {
            default: Arc::new(Site {
                lists: self.lists.clone(),
                ..Site::default()
            }),
            by_cluster: self
                .cluster
                .iter()
                .map(|(name, cluster)| {
                    (cluster.arm_id.to_lowercase(), Arc::new(site(cluster, name)))
                })
                .collect(),
        }
    }

    /// Whether this differs from `running` in what is only read at the start.
    pub fn needs_restart(&self, running: &Config) -> bool {
        self.eventhubs != running.eventhubs
            || self.deliver != running.deliver
            || self.stdout != running.stdout
            || self.store != running.store
            || self.telemetry != running.telemetry
            || self.pipeline != running.pipeline
    }

    /// Takes what is only read at the start from `running`.
    pub fn keep_started(&mut self, running: &Config) {
        self.eventhubs.clone_from(&running.eventhubs);
        self.deliver.clone_from(&running.deliver);
        self.stdout.clone_from(&running.stdout);
        self.store.clone_from(&running.store);
        self.telemetry.clone_from(&running.telemetry);
        self.pipeline.clone_from(&running.pipeline);
    }

    /// Every receiver's name, as routes say it: `webhook.soc`, `email.oncall`, `stdout`.
    pub fn receivers(&self) -> Vec<String> {
        self.receivers_and_closing().map(|(name, _)| name).collect()
    }

    /// With each receiver, whether it is told when an alert closes.
    fn receivers_and_closing(&self) -> impl Iterator<Item = (String, bool)> {
        let stdout = &self.stdout;
        let stdout = stdout
            .enabled
            .then(|| ("stdout".to_owned(), stdout.send_closed));
        let named = self.deliver.tables().into_iter().map(|(name, table)| {
            let full = format!("{}.{name}", table.kind());
            (full, table.send_closed())
        });
        named.chain(stdout)
    }
}

/// `[stdout]`: alerts on standard output, one JSON object a line.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StdoutConfig {
    pub enabled: bool,
    /// Whether to tell when an alert closes.
    pub send_closed: bool,
}

/// `[telemetry]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TelemetryConfig {
    /// Of `/livez`, `/readyz` and `/metrics`.
    #[serde(deserialize_with = "listen_address")]
    pub listen: SocketAddr,
    pub log_format: LogFormat,
    /// A filter as of `RUST_LOG`: `info`, `lanner=debug,warn`.
    #[serde(deserialize_with = "log_filter")]
    pub log_level: String,
    /// Over which the latency quantiles are taken.
    pub latency_window: Period,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    Json,
    Text,
}

/// `[pipeline]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PipelineConfig {
    /// Threads that decode and match; 0 for one a CPU.
    pub workers: u16,
    /// Batches that wait for a worker at most, all sources together.
    pub queue_batches: u32,
    /// How far records may be out of order without changing what is found.
    pub lateness: Period,
    /// By how much a partition may be ahead of the others in event time before it is paused.
    pub max_ahead: Period,
    /// How long it is paused at most, in one piece.
    pub max_pause: Period,
    /// How long a stop waits for what is in flight.
    pub drain_timeout: Period,
}

impl PipelineConfig {
    /// At least 1.
    pub fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers.into(),
        }
    }
}

/// `[alert]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AlertConfig {
    pub profile: Profile,
    /// An alert that stays open and goes on is notified again after this time.
    pub repeat_interval: Period,
    /// Alerts with something in common, no further apart than this, are one incident.
    pub incident_window: Period,
    /// The least time between two notifications of one incident that got no graver.
    pub incident_debounce: Period,
    /// Bytes that open alerts hold in memory at most, and open incidents as many again.
    pub memory_quota: u64,
}

/// Which kinds of detectors raise alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// Threats and changes.
    Default,
    /// Hygiene too.
    All,
}

/// `[cluster.NAME]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterConfig {
    /// As written.
    pub arm_id: String,
    pub environment: String,
    pub private_api: bool,
    /// Steps by which severities rise (or fall) in this cluster, −4 to 4.
    pub severity_shift: i8,
    /// `[lists]` with this cluster's own lists in place of the global ones; `None` where it has none.
    pub lists: Option<Arc<Lists>>,
}

/// `[detectors.ID]`: what a site changes of a detector. `None` leaves the detector's own value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DetectorConfig {
    pub enabled: Option<bool>,
    pub severity: Option<Severity>,
    /// Matches that make a finding, of a threshold; of a spike the fewest that may.
    pub count: Option<u64>,
    /// Matches that are a spike whatever was before.
    pub limit: Option<u64>,
    /// Of a threshold, spike or sequence.
    pub window: Option<Period>,
    /// How long a first-seen detector or a spike learns.
    pub learn: Option<Period>,
    pub quiet_for: Option<Period>,
    pub exceptions: Vec<ExceptionConfig>,
}

fn listen_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        serde::de::Error::custom(format!(
            "`{text}` is no listen address; write address and port as 127.0.0.1:9464 or [::]:9464"
        ))
    })
}

fn log_filter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match tracing_subscriber::EnvFilter::try_new(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(serde::de::Error::custom(format!(
            "`{text}` is no log filter; write a level (error, warn, info, debug, trace), or module=level pairs as lanner=debug,warn"
        ))),
    }
}
