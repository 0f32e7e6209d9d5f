//! `lanner status`: what a daemon is doing, from the daemon itself where it answers and from its
//! store.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Exit;
use super::outbox::WhichStore;
use super::output::{Format, JsonWriter};
use super::setup::{self, Setup};
use crate::alert::escape::{bounded, printable};
use crate::config::Config;
use crate::detect::load::Tests;
use crate::detect::order::Learning;
use crate::detect::{Detector, load};
use crate::pipeline::memory::Memory;
use crate::store::{Inspector, StoreConfig, StoreError};

/// How long the daemon is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    store: WhichStore,
    #[arg(long, value_enum)]
    format: Option<Format>,
}

/// One thing that is known; a line each.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Item {
    Daemon {
        address: SocketAddr,
        /// What `/readyz` says; absent where nobody answers.
        #[serde(skip_serializing_if = "Option::is_none")]
        ready: Option<bool>,
    },
    Component {
        name: String,
        state: String,
        since: Timestamp,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    Partition {
        hub: String,
        id: String,
        position: i64,
        #[serde(skip_serializing_if = "Option::is_none")]
        reading: Option<bool>,
        #[serde(skip_serializing_if = "Option::is_none")]
        lag_messages: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        lag_seconds: Option<f64>,
    },
    Receiver {
        name: String,
        pending: u64,
        pending_bytes: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        oldest: Option<Timestamp>,
        dead: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        last_error: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next_attempt: Option<Timestamp>,
    },
    Learning {
        detector: String,
        /// How many clusters it still learns.
        clusters: usize,
        until: Timestamp,
    },
    /// A detector whose memory begins anew: it is not the one that the last snapshot is of.
    Changed { detector: String },
    Quarantine {
        records: u64,
        bytes: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        newest: Option<Timestamp>,
    },
}

pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let (config, detectors, store) = match &arguments.store.store {
        Some(path) => {
            let store = StoreConfig {
                path: path.clone(),
                ..Config::defaults().store
            };
            let shipped = load::load(&load::shipped(), &[]).unwrap_or_default();
            (None, shipped, store)
        }
        None => match setup::load(arguments.store.config.as_deref(), Tests::LeaveOut) {
            Ok(Setup {
                loaded, detectors, ..
            }) => {
                let store = loaded.config.store.clone();
                (Some(loaded.config), detectors, store)
            }
            Err(exit) => return Ok(exit),
        },
    };
    let mut items = Vec::new();
    let live = match &config {
        Some(config) => {
            let address = reachable(config.telemetry.listen);
            let live = Live::ask(address)?;
            items.push(Item::Daemon {
                address,
                ready: live.as_ref().map(|live| live.report.ready),
            });
            live
        }
        None => None,
    };
    items.extend(live.iter().flat_map(Live::components));
    let stored = Inspector::open(&store)
        .and_then(|inspector| of_store(&inspector, config.as_ref(), &detectors, live.as_ref()));
    match stored {
        Ok(stored) => items.extend(stored),
        Err(error) => {
            eprintln!("lanner: {error}");
            if live.is_none() {
                return Ok(Exit::SourceUnavailable);
            }
        }
    }
    let format = Format::or_default(arguments.format);
    let mut out = io::stdout().lock();
    if format == Format::Table {
        table(&mut out, &items, Timestamp::now())?;
    } else {
        let mut json = JsonWriter::new(out, format);
        for item in &items {
            json.write(item)?;
        }
        json.finish()?;
    }
    Ok(Exit::Fine)
}

/// Where a listener of this machine is reached.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// What a running daemon says.
struct Live {
    report: Report,
    metrics: String,
}

#[derive(Deserialize)]
struct Report {
    ready: bool,
    components: BTreeMap<String, Component>,
}

#[derive(Deserialize)]
struct Component {
    state: String,
    since: Timestamp,
    reason: Option<String>,
}

impl Live {
    /// `None` where nobody answers, or somebody else does.
    fn ask(address: SocketAddr) -> anyhow::Result<Option<Live>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()?;
        let get = |path: &str| {
            let request = client.get(format!("http://{address}{path}"));
            async { request.send().await.ok()?.text().await.ok() }
        };
        Ok(runtime.block_on(async {
            let report = serde_json::from_str(&get("/readyz").await?).ok()?;
            let metrics = get("/metrics").await?;
            Some(Live { report, metrics })
        }))
    }

    fn components(&self) -> impl Iterator<Item = Item> {
        self.report
            .components
            .iter()
            .map(|(name, component)| Item::Component {
                name: name.clone(),
                state: component.state.clone(),
                since: component.since,
                reason: component.reason.clone(),
            })
    }

    /// A gauge of one partition.
    fn gauge(&self, name: &str, hub: &str, partition: &str) -> Option<f64> {
        let series = format!("{name}{{hub=\"{hub}\",partition=\"{partition}\"}} ");
        let mut lines = self.metrics.lines();
        let value = lines.find_map(|line| line.strip_prefix(&*series))?;
        value.parse().ok()
    }
}

fn of_store(
    inspector: &Inspector,
    config: Option<&Config>,
    detectors: &[Detector],
    live: Option<&Live>,
) -> Result<Vec<Item>, StoreError> {
    let recovered = inspector.recovered()?;
    let mut items = Vec::new();
    let mut positions: Vec<_> = recovered.positions.iter().collect();
    positions.sort();
    for (partition, position) in positions {
        let hubs = config.into_iter().flat_map(|config| &config.eventhubs);
        let mut named = hubs.filter(|(name, hub)| hub.source(name) == partition.source);
        let hub = named.next().map(|(name, _)| name.as_str());
        let gauge = |name: &str| live?.gauge(name, hub?, &partition.id);
        items.push(Item::Partition {
            hub: hub.unwrap_or(&partition.source).to_owned(),
            id: partition.id.to_string(),
            position: position.0,
            reading: gauge("lanner_partition_reading").map(|value| value > 0.0),
            lag_messages: gauge("lanner_partition_lag_messages").map(|value| value as u64),
            lag_seconds: gauge("lanner_partition_lag_seconds"),
        });
    }
    items.extend(receivers(inspector, config)?);
    let (memory, _) = Memory::recover(&recovered, Learning::Own, None);
    let learning = memory.judge.learning(detectors, Timestamp::now());
    items.extend(
        learning
            .into_iter()
            .map(|(detector, clusters, until)| Item::Learning {
                detector: detector.id.clone(),
                clusters,
                until,
            }),
    );
    let changed = Memory::changed(&recovered, detectors).into_iter();
    items.extend(changed.map(|detector| Item::Changed { detector }));
    let (records, bytes, newest) = inspector.quarantine()?;
    items.push(Item::Quarantine {
        records,
        bytes,
        newest,
    });
    Ok(items)
}

/// Every configured receiver, and others for which something is left.
fn receivers(inspector: &Inspector, config: Option<&Config>) -> Result<Vec<Item>, StoreError> {
    let counts = inspector.counts()?;
    let troubles = inspector.troubles()?;
    let mut names: Vec<String> = config.map(Config::receivers).unwrap_or_default();
    names.extend(counts.iter().map(|count| count.receiver.clone()));
    names.sort();
    names.dedup();
    let item = |name: String| {
        let count = counts.iter().find(|count| count.receiver == name);
        let trouble = troubles.iter().find(|(of, ..)| *of == name);
        Item::Receiver {
            pending: count.map_or(0, |count| count.pending),
            pending_bytes: count.map_or(0, |count| count.pending_bytes),
            oldest: count.and_then(|count| count.oldest),
            dead: count.map_or(0, |count| count.dead),
            last_error: trouble.map(|(_, error, _)| error.clone()),
            next_attempt: trouble.map(|(_, _, next)| *next),
            name,
        }
    };
    Ok(names.into_iter().map(item).collect())
}

fn table(out: &mut impl Write, items: &[Item], now: Timestamp) -> io::Result<()> {
    let mut section = "";
    for item in items {
        let (of, heading) = match item {
            Item::Daemon { .. } => ("daemon", ""),
            Item::Component { .. } => (
                "component",
                "\nCOMPONENT                 STATE     SINCE                 REASON",
            ),
            Item::Partition { .. } => (
                "partition",
                "\nHUB                       PARTITION      POSITION  READ       LAG",
            ),
            Item::Receiver { .. } => (
                "receiver",
                "\nRECEIVER                   PENDING       KIB      DEAD  OLDEST      LAST ERROR",
            ),
            Item::Learning { .. } => (
                "learning",
                "\nLEARNING                         CLUSTERS  UNTIL",
            ),
            Item::Changed { .. } => ("changed", "\nCHANGED SINCE THE LAST SNAPSHOT, LEARNS ANEW"),
            Item::Quarantine { .. } => ("quarantine", ""),
        };
        if of != section && !heading.is_empty() {
            writeln!(out, "{heading}")?;
        }
        section = of;
        row(out, item, now)?;
    }
    Ok(())
}

fn row(out: &mut impl Write, item: &Item, now: Timestamp) -> io::Result<()> {
    match item {
        Item::Daemon { address, ready } => {
            let says = match ready {
                Some(true) => "is ready",
                Some(false) => "is not ready",
                None => "does not answer; what follows is from its store",
            };
            writeln!(out, "The daemon at {address} {says}.")
        }
        Item::Component {
            name,
            state,
            since,
            reason,
        } => writeln!(
            out,
            "{:<24}  {:<8}  {:<20}  {}",
            printable(name),
            printable(state),
            second(*since),
            bounded(&printable(reason.as_deref().unwrap_or_default()), 200)
        ),
        Item::Partition {
            hub,
            id,
            position,
            reading,
            lag_messages,
            lag_seconds,
        } => {
            let read = reading.map_or("?", |reading| if reading { "yes" } else { "no" });
            let lag = lag_messages.map_or("?".to_owned(), |lag| format!("{lag} messages"));
            let behind = lag_seconds.filter(|behind| *behind > 0.0);
            let behind = behind.map_or(String::new(), |behind| format!(", {behind:.0} s"));
            let (hub, id) = (printable(hub), printable(id));
            writeln!(
                out,
                "{hub:<24}  {id:<9}  {position:>12}  {read:<4}  {lag:>8}{behind}"
            )
        }
        Item::Receiver {
            name,
            pending,
            pending_bytes,
            oldest,
            dead,
            last_error,
            ..
        } => {
            let age = oldest.map_or("-".to_owned(), |oldest| age(now, oldest));
            let error = printable(last_error.as_deref().unwrap_or_default()).into_owned();
            writeln!(
                out,
                "{:<24}  {pending:>8}  {:>8}  {dead:>8}  {age:<10}  {}",
                printable(name),
                pending_bytes.div_ceil(1024),
                bounded(&error, 200)
            )
        }
        Item::Learning {
            detector,
            clusters,
            until,
        } => writeln!(out, "{detector:<32} {clusters:>8}  {}", second(*until)),
        Item::Changed { detector } => writeln!(out, "{detector}"),
        Item::Quarantine {
            records,
            bytes,
            newest,
        } => {
            let newest = newest.map_or(String::new(), |newest| {
                format!(", the newest from {}", second(newest))
            });
            writeln!(
                out,
                "\nQuarantine: {records} damaged records, {} KiB{newest}.",
                bytes.div_ceil(1024)
            )
        }
    }
}

fn second(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn age(now: Timestamp, then: Timestamp) -> String {
    let seconds = (now.as_second() - then.as_second()).max(0);
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}
