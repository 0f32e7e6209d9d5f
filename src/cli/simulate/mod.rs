//! `lanner simulate`: the logs of a company's clusters with attacks in them, as an archive or as a
//! stream into the emulator, and what Lanner finds of it.

mod score;
mod stream;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::Exit;
use super::output::Format;
use crate::simulator::{Campaigns, ClusterSpec, Scenario, Simulator, archive};

const DAY: u64 = 24 * 3600;

/// Clusters of which the smallest archive is made: records a second of each, which machines make
/// more or less often; people and deployments do not depend on it.
const RATE: &str = "0.4";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    archive: Archive,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Replay a simulated archive and compare what is found with its truth.
    Score(score::Arguments),
    /// Publish simulated logs to an emulator as they come due, until Ctrl-C.
    Stream(stream::Arguments),
}

#[derive(Debug, Args)]
struct Archive {
    /// Chooses clusters, people, traffic and attacks; the same number gives the same archive.
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,
    /// Days with attacks in them.
    #[arg(long, value_name = "D", default_value = "7", value_parser = clap::value_parser!(u64).range(1..=365))]
    days: u64,
    /// Days before them without any, for detectors to learn.
    #[arg(long, value_name = "D", default_value = "7", value_parser = clap::value_parser!(u64).range(0..=90))]
    learn: u64,
    /// Where to write `logs/`, `truth.json` and the site's `lanner.toml`; must not exist or be empty.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// When it begins (RFC 3339).
    #[arg(long, value_name = "TIME", default_value = "2026-11-02T00:00:00Z")]
    start: Timestamp,
    /// Of the company's three clusters, the first so many.
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u8).range(1..=3))]
    clusters: u8,
    /// Records a second of each cluster, about.
    #[arg(long, value_name = "R", default_value = RATE)]
    rate: f64,
    /// Attacks of each of the six families a day, over all clusters.
    #[arg(long, value_name = "N", default_value = "1")]
    attacks: usize,
    /// Intrusions of several acts a day, over all clusters.
    #[arg(long, value_name = "N", default_value = "4")]
    intrusions: usize,
}

pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    match arguments.command {
        Some(Command::Score(arguments)) => score::run(arguments),
        Some(Command::Stream(arguments)) => stream::run(arguments),
        None => write(arguments.archive),
    }
}

fn write(arguments: Archive) -> anyhow::Result<Exit> {
    let Some(out) = &arguments.out else {
        eprintln!("lanner: say with --out where the archive is to be written");
        return Ok(Exit::Usage);
    };
    if !(0.05..=10_000.0).contains(&arguments.rate) {
        eprintln!("lanner: a rate is from 0.05 to 10000 records a second");
        return Ok(Exit::Usage);
    }
    let refused = |error: std::io::Error| format!("cannot write to {}: {error}", out.display());
    fs::create_dir_all(out).map_err(|error| anyhow::anyhow!(refused(error)))?;
    if fs::read_dir(out)
        .map_err(|error| anyhow::anyhow!(refused(error)))?
        .next()
        .is_some()
    {
        eprintln!("lanner: {} is not empty", out.display());
        return Ok(Exit::Usage);
    }
    let mut simulator = Simulator::new(Scenario {
        seed: arguments.seed,
        start: arguments.start,
        duration: Duration::from_secs((arguments.days + arguments.learn) * DAY),
        clusters: ClusterSpec::company(arguments.rate)
            .into_iter()
            .take(usize::from(arguments.clusters))
            .collect(),
        clock: 0,
        campaigns: Campaigns {
            per_family: arguments.attacks,
            intrusions: arguments.intrusions,
            quiet: Duration::from_secs(arguments.learn * DAY),
            round: Duration::from_secs(DAY),
            window: (0.0, 0.95),
            notable: true,
        },
    });
    let (records, bytes) = archive::write(&mut simulator, &out.join("logs"))
        .with_context(|| format!("cannot write to {}", out.display()))?;
    let truth = out.join("truth.json");
    fs::rename(out.join("logs/truth.json"), &truth)?;
    fs::write(out.join("lanner.toml"), simulator.site().reviewed())?;
    eprintln!(
        "wrote {records} records, {:.1} MB, of {} clusters over {} days, with {} campaigns; the truth is in {}",
        bytes as f64 / 1e6,
        simulator.truth().clusters.len(),
        arguments.days + arguments.learn,
        simulator.truth().campaigns.len(),
        truth.display(),
    );
    Ok(Exit::Fine)
}

/// As other subcommands: a table on a terminal, else JSON.
fn is_table(format: Option<Format>) -> bool {
    Format::or_default(format) == Format::Table
}
