//! `lanner replay`: archives through the same engine, on every core.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::Exit;
use super::output::{Format, JsonWriter, colour};
use super::setup::{self, Setup};
use crate::alert::escape::printable;
use crate::alert::group::{Groups, alert_of};
use crate::alert::parts::{Advice, Identity, Middle, Rest};
use crate::alert::shelf::Shelf;
use crate::alert::{Severity, render};
use crate::config::{Period, Profile};
use crate::detect::Engine;
use crate::detect::load::Tests;
use crate::detect::order::{Judge, Judgement, Learning, Outcome};
use crate::event::Category;
use crate::pipeline::replay::{self, Observer, Options, Summary};
use crate::pipeline::work::{Task, TimeRange};
use crate::source::archive::{self, Input};

#[derive(Debug, Args)]
pub struct Arguments {
    /// Configuration: lists, clusters, tuning, detectors of one's own.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Threads that read, decode and match; default: one for each core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Judge events from this time on (RFC 3339).
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Judge events before this time.
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// How long first-seen detectors learn; without it, novelty is "new within this archive".
    #[arg(long, value_name = "DURATION")]
    learn: Option<Period>,
    /// Which kinds of detectors to run; default: as configured, else threats and changes.
    #[arg(long, value_enum)]
    profile: Option<Profile>,
    /// Print every match with its outcome instead of alerts.
    #[arg(long)]
    each: bool,
    /// Print incidents, which are alerts that belong together, instead of alerts.
    #[arg(long, conflicts_with = "each")]
    incidents: bool,
    /// What `kubectl get -o json` said before the archive begins, of one cluster (a configured name or
    /// an ARM id) or of every cluster in it; may be given several times.
    #[arg(long, value_name = "[CLUSTER=]FILE")]
    inventory: Vec<String>,
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Exit with code 3 if an alert is at least this grave.
    #[arg(long, value_name = "SEVERITY")]
    fail_on: Option<Severity>,
    /// Files, folders, globs, or `-` for standard input.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
}

pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let setup = match setup::load(arguments.config.as_deref(), Tests::LeaveOut) {
        Ok(setup) => setup,
        Err(exit) => return Ok(exit),
    };
    let inputs = match archive::inputs(&arguments.paths) {
        Ok(inputs) => inputs,
        Err(error) => {
            eprintln!("lanner: {error}");
            return Ok(Exit::SourceUnavailable);
        }
    };
    let learning = arguments
        .learn
        .map_or(Learning::Archive, |learn| Learning::For(learn.signed()));
    let config = setup.loaded.config;
    let lateness = config.pipeline.lateness.signed();
    let profile = arguments.profile.unwrap_or(config.alert.profile);
    let engine = Arc::new(Setup::engine(setup.detectors, &config, profile));
    let task = Task {
        engine: Arc::clone(&engine),
        range: TimeRange {
            from: arguments.from,
            to: arguments.to,
        },
    };
    let threads = arguments
        .threads
        .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1)
        .max(1);
    let options = Options {
        threads,
        lateness,
        archive: archive::ArchiveOptions::default(),
        every_match: arguments.each,
    };

    let format = Format::or_default(arguments.format);
    let mut groups = Groups::default();
    groups
        .incidents
        .set_window(config.alert.incident_window.signed());
    groups.set_quota(config.alert.memory_quota);
    let mut printer = Printer {
        engine: &engine,
        out: JsonWriter::new(
            io::BufWriter::with_capacity(1 << 16, io::stdout().lock()),
            format,
        ),
        format,
        each: arguments.each,
        incidents: arguments.incidents,
        groups,
        shelf: Shelf::new()?,
        worst: None,
        failed: None,
        progress: progress_bar(inputs.iter().map(Input::size).sum()),
    };
    let started = Instant::now();
    let mut judge = Judge::new(learning);
    super::inventory::for_replay(judge.inventory_mut(), &config, &arguments.inventory)?;
    let summary = replay::replay(&task, &mut judge, inputs, &options, &mut printer);
    let elapsed = started.elapsed();
    let groups = &printer.groups;
    let early = (groups.evicted(), groups.incidents.evicted());
    let worst = printer.finish()?;
    report(&summary, &engine, elapsed);
    if early != (0, 0) {
        eprintln!(
            "closed early to make room: {} alerts, {} incidents; what came of these later counts anew (memory-quota in [alert])",
            early.0, early.1
        );
    }

    if summary.inputs == summary.broken.len() {
        return Ok(Exit::SourceUnavailable);
    }
    Ok(match (arguments.fail_on, worst) {
        (Some(least), Some(worst)) if worst >= least => Exit::FailOn,
        _ => Exit::Fine,
    })
}

/// A match as `--each` prints it: an alert of its own, and what became of it.
#[derive(Serialize)]
struct Each<'a> {
    outcome: Outcome,
    schema: &'a str,
    #[serde(flatten)]
    identity: Identity<'a>,
    incident: Option<&'a str>,
    detector: &'a crate::alert::DetectorRef,
    covers: &'a [String],
    #[serde(flatten)]
    middle: Middle<'a>,
    #[serde(flatten)]
    advice: Advice<'a>,
    #[serde(flatten)]
    rest: Rest<'a>,
}

struct Printer<'e, W: Write> {
    engine: &'e Engine,
    out: JsonWriter<W>,
    format: Format,
    each: bool,
    incidents: bool,
    groups: Groups,
    shelf: Shelf,
    worst: Option<Severity>,
    failed: Option<anyhow::Error>,
    progress: ProgressBar,
}

impl<W: Write> Observer for Printer<'_, W> {
    fn judged(&mut self, judgement: Judgement) {
        if judgement.outcome == Outcome::Alert {
            self.worst = self.worst.max(Some(judgement.found.severity));
        }
        if self.each {
            if let Err(error) = self.print_each(&judgement) {
                self.failed.get_or_insert(error);
            }
        } else if judgement.outcome == Outcome::Alert {
            let time = judgement.found.occurrence.clock();
            if let Err(error) = self.shelve(time) {
                self.failed.get_or_insert(error.into());
            }
            self.groups
                .add(self.engine, &judgement, time, SignedDuration::MAX);
        }
    }

    fn progress(&mut self, taken: u64) {
        self.progress.set_position(taken);
    }

    fn stopped(&self) -> bool {
        self.failed.is_some()
    }
}

impl<W: Write> Printer<'_, W> {
    /// Puts aside what has closed before `time`.
    fn shelve(&mut self, time: Timestamp) -> io::Result<()> {
        while let Some(alert) = self.groups.close_one(time) {
            if !self.incidents {
                self.shelf.put(&alert)?;
            }
        }
        // What is not printed need not be told.
        let stories = self.incidents || self.format == Format::Table;
        while let Some(mut closing) = self.groups.incidents.close_one(time) {
            match stories {
                true => self.shelf.put_incident(&closing.incident())?,
                false => self.shelf.put_steps(&mut closing)?,
            }
        }
        self.groups.forget_delta();
        Ok(())
    }

    fn print_each(&mut self, judgement: &Judgement) -> anyhow::Result<()> {
        let detector = self.engine.detector(judgement.found.detector);
        let alert = alert_of(detector, judgement, judgement.found.occurrence.clock());
        if self.format == Format::Table {
            writeln!(
                self.out.text(),
                "{:<9} {:<8} {:<32} {}",
                judgement.outcome.as_str(),
                alert.severity.as_str(),
                alert.detector.id,
                printable(&alert.summary)
            )?;
            return Ok(());
        }
        let each = Each {
            outcome: judgement.outcome,
            schema: &alert.schema,
            identity: Identity::of(&alert),
            incident: alert.incident.as_deref(),
            detector: &alert.detector,
            covers: &detector.covers,
            middle: Middle::of(&alert),
            advice: Advice::of(&alert),
            rest: Rest::of(&alert),
        };
        Ok(self.out.write(&each)?)
    }

    /// Prints the alerts in the order in which they opened; gives the gravest severity.
    fn finish(mut self) -> anyhow::Result<Option<Severity>> {
        self.progress.finish_and_clear();
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.each {
            self.out.finish()?;
            return Ok(self.worst);
        }
        self.shelve(Timestamp::MAX)?;
        let Printer {
            mut out,
            format,
            mut shelf,
            incidents,
            worst,
            ..
        } = self;
        if format == Format::Table {
            let colour = colour();
            shelf.incidents(|json, several| {
                if several {
                    writeln!(
                        out.text(),
                        "{}",
                        render::incident(&serde_json::from_slice(json)?, colour)
                    )?;
                }
                Ok(())
            })?;
            if !incidents {
                shelf.alerts(|json| {
                    writeln!(
                        out.text(),
                        "{}",
                        render::terminal(&serde_json::from_slice(json)?, colour)
                    )
                })?;
            }
        } else if incidents {
            shelf.incidents(|incident, _| out.write_raw(incident))?;
        } else {
            shelf.alerts(|alert| out.write_raw(alert))?;
        }
        out.finish()?;
        Ok(worst)
    }
}

/// How far the reading has got, on standard error: shown only on a terminal that the results do not
/// go to as well. `total` are the bytes of all inputs, where these tell.
fn progress_bar(total: Option<u64>) -> ProgressBar {
    if io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match total {
        Some(total) => (
            ProgressBar::new(total),
            "{wide_bar} {percent:>3} %  {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left",
        ),
        None => (
            ProgressBar::no_length(),
            "{spinner} {decimal_bytes}, {decimal_bytes_per_sec}",
        ),
    };
    let style = ProgressStyle::with_template(template).expect("the templates are constant");
    bar.with_style(style)
}

/// What was read and what was not, on standard error.
fn report(summary: &Summary, engine: &Engine, elapsed: Duration) {
    let tally = &summary.tally;
    let seconds = elapsed.as_secs_f64().max(1e-9);
    eprintln!(
        "read {} records, {:.1} MB from {} inputs in {seconds:.2} s ({:.0} MB/s)",
        tally.records,
        tally.bytes as f64 / 1e6,
        summary.inputs,
        tally.bytes as f64 / 1e6 / seconds,
    );
    if let Some((from, to)) = tally.span {
        eprintln!("events from {from} to {to}");
    }
    for (reason, count) in &tally.ignored {
        eprintln!("not judged: {count} ({})", reason.as_str());
    }
    for (reason, count) in &tally.damaged {
        eprintln!(
            "damaged: {count} ({}); what could be salvaged was judged",
            reason.as_str()
        );
    }
    for broken in summary.broken.iter().chain(&summary.skipped) {
        eprintln!(
            "{}: {}",
            printable(&broken.input),
            printable(&broken.message)
        );
    }
    if tally.saw(Category::KubeAuditAdmin) && !tally.saw(Category::KubeAudit) {
        let blind = engine
            .detectors
            .iter()
            .filter(|detector| {
                detector.requires.contains(&Category::KubeAudit)
                    && !detector.requires.contains(&Category::KubeAuditAdmin)
            })
            .count();
        eprintln!(
            "only kube-audit-admin was found, which has no get and list: {blind} detectors are blind or half blind"
        );
    }
}
