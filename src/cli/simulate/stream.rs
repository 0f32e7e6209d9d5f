//! `lanner simulate stream`: simulated logs into an emulator, as they come due.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use jiff::Timestamp;

use crate::cli::Exit;
use crate::cli::traffic::{self, Published};
use crate::simulator::{Campaigns, ClusterSpec, Scenario, Simulator};
use crate::source::eventhubs::EventHubConfig;

/// Longer than anyone watches.
const ENDLESS: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Debug, Args)]
pub struct Arguments {
    /// The emulator's connection string, as `lanner emulator` prints it.
    #[arg(long, value_name = "CONNECTION_STRING")]
    to: String,
    #[arg(long, value_name = "NAME", default_value = "audit")]
    hub: String,
    /// How long, as 30s or 2m; without it, until Ctrl-C.
    #[arg(long = "for", value_name = "TIME")]
    lasts: Option<crate::config::Period>,
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// Records a second, of all clusters together.
    #[arg(long, value_name = "N", default_value = "300", value_parser = clap::value_parser!(u32).range(10..=50_000))]
    rate: u32,
    /// Where to write the truth at the end.
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// Where to write the simulated site's lists, for Lanner's configuration.
    #[arg(long, value_name = "FILE")]
    site: Option<PathBuf>,
}

pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    // Made-up logs have no business in a real hub.
    if !arguments.to.contains("UseDevelopmentEmulator=true") {
        eprintln!("lanner: simulated logs go to an emulator only (UseDevelopmentEmulator=true)");
        return Ok(Exit::Usage);
    }
    let lasts = match arguments
        .lasts
        .map(|lasts| Duration::try_from(lasts.signed()))
    {
        None => ENDLESS,
        Some(Ok(lasts)) if lasts >= Duration::from_secs(5) => lasts,
        Some(_) => {
            eprintln!("lanner: too short to show anything; 5s at least");
            return Ok(Exit::Usage);
        }
    };
    let start = Timestamp::now();
    let simulator = Simulator::new(Scenario {
        seed: arguments.seed,
        start,
        duration: lasts,
        clusters: ClusterSpec::three(f64::from(arguments.rate)),
        clock: Scenario::office_hours(start),
        campaigns: Campaigns {
            per_family: 1,
            intrusions: 1,
            quiet: Duration::ZERO,
            round: lasts.min(Duration::from_secs(300)),
            window: (0.02, 0.5),
            notable: true,
        },
    });
    if let Some(file) = &arguments.site {
        std::fs::write(file, simulator.site().configuration())
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let hub = hub(&arguments)?;
    let published = Arc::new(Published::default());
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let producer = traffic::producer(hub).await?;
        let publishing = traffic::publish(
            simulator,
            producer,
            Arc::clone(&published),
            Arc::clone(&stop),
        );
        tokio::pin!(publishing);
        loop {
            tokio::select! {
                ended = &mut publishing => return ended,
                interrupted = tokio::signal::ctrl_c() => {
                    interrupted?;
                    if stop.swap(true, Ordering::Relaxed) {
                        std::process::exit(130);
                    }
                }
            }
        }
    })?;
    let truth = published.truth();
    if let Some(file) = &arguments.truth {
        std::fs::write(file, serde_json::to_vec_pretty(&truth)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    eprintln!(
        "published {} records, {:.1} MB, with {} campaigns",
        published.records.load(Ordering::Relaxed),
        published.bytes.load(Ordering::Relaxed) as f64 / 1e6,
        truth.campaigns.len(),
    );
    Ok(Exit::Fine)
}

/// As a site's configuration would name the hub.
fn hub(arguments: &Arguments) -> anyhow::Result<EventHubConfig> {
    let table: toml::Table = [
        ("hub", arguments.hub.as_str()),
        ("namespace", "emulator"),
        ("auth", "connection-string"),
        ("connection-string", arguments.to.as_str()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.into()))
    .collect();
    Ok(table.try_into()?)
}
