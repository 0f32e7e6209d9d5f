//! `lanner replay`: archives through the same engine, on every core.

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::Exit;
use super::output::{Format, JsonWriter, colour};
use super::setup::{self, Setup};
use crate::alert::escape::printable;
use crate::alert::group::{Groups, alert_of};
use crate::alert::incident::{Incident, Step};
use crate::alert::{Alert, Severity, render};
use crate::config::{Period, Profile};
use crate::detect::Engine;
use crate::detect::order::{Judge, Judgement, Learning, Outcome};
use crate::event::Category;
use crate::pipeline::replay::{self, Observer, Options, Summary};
use crate::pipeline::work::{Task, TimeRange};
use crate::source::archive;

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
    let setup = match setup::load(arguments.config.as_deref()) {
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
    let mut printer = Printer {
        engine: &engine,
        out: io::BufWriter::with_capacity(1 << 16, io::stdout().lock()),
        format,
        each: arguments.each,
        incidents: arguments.incidents,
        first: true,
        groups,
        closed: Vec::new(),
        stories: Vec::new(),
        worst: None,
        failed: None,
        progress: Progress::new(),
    };
    let started = Instant::now();
    let mut judge = Judge::new(learning);
    let summary = replay::replay(&task, &mut judge, inputs, &options, &mut printer);
    let elapsed = started.elapsed();
    let worst = printer.finish()?;
    report(&summary, &engine, elapsed);

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
    id: &'a str,
    fingerprint: &'a str,
    notification_id: &'a str,
    incident: Option<&'a str>,
    detector: &'a crate::alert::DetectorRef,
    covers: &'a [String],
    severity: Severity,
    status: crate::alert::Status,
    summary: &'a str,
    reason: &'a str,
    cluster: &'a str,
    cluster_name: &'a str,
    first_seen: Option<Timestamp>,
    last_seen: Option<Timestamp>,
    detected_at: Option<Timestamp>,
    count: u64,
    actor: &'a crate::alert::Actor,
    source_ip: &'a crate::alert::SourceIp,
    user_agent: &'a str,
    object: &'a crate::alert::ObjectId,
    attack: &'a [String],
    guide: &'a str,
    triage: &'a str,
    remedy: &'a str,
    references: &'a [String],
    evidence: &'a [crate::alert::Evidence],
}

struct Printer<'e, W: Write> {
    engine: &'e Engine,
    out: W,
    format: Format,
    each: bool,
    incidents: bool,
    first: bool,
    groups: Groups,
    closed: Vec<Alert>,
    /// Incidents that nothing can join any more.
    stories: Vec<Incident>,
    worst: Option<Severity>,
    failed: Option<anyhow::Error>,
    progress: Progress,
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
            self.closed.extend(self.groups.close_quiet(time));
            let stories = self.groups.incidents.close_quiet(time);
            self.stories
                .extend(stories.into_iter().map(|closing| closing.incident));
            self.groups
                .add(self.engine, &judgement, time, SignedDuration::MAX);
        }
    }

    fn progress(&mut self, bytes: u64) {
        self.progress.show(bytes);
    }

    fn stopped(&self) -> bool {
        self.failed.is_some()
    }
}

impl<W: Write> Printer<'_, W> {
    fn print_each(&mut self, judgement: &Judgement) -> anyhow::Result<()> {
        let detector = self.engine.detector(judgement.found.detector);
        let alert = alert_of(detector, judgement, judgement.found.occurrence.clock());
        if self.format == Format::Table {
            writeln!(
                self.out,
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
            id: &alert.id,
            fingerprint: &alert.fingerprint,
            notification_id: &alert.notification_id,
            incident: alert.incident.as_deref(),
            detector: &alert.detector,
            covers: &detector.covers,
            severity: alert.severity,
            status: alert.status,
            summary: &alert.summary,
            reason: &alert.reason,
            cluster: &alert.cluster,
            cluster_name: &alert.cluster_name,
            first_seen: alert.first_seen,
            last_seen: alert.last_seen,
            detected_at: alert.detected_at,
            count: alert.count,
            actor: &alert.actor,
            source_ip: &alert.source_ip,
            user_agent: &alert.user_agent,
            object: &alert.object,
            attack: &alert.attack,
            guide: &alert.guide,
            triage: &alert.triage,
            remedy: &alert.remedy,
            references: &alert.references,
            evidence: &alert.evidence,
        };
        if self.format == Format::Json {
            self.out
                .write_all(if self.first { b"[\n" } else { b",\n" })?;
        }
        self.first = false;
        serde_json::to_writer(&mut self.out, &each)?;
        if self.format == Format::Ndjson {
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Prints the alerts in the order in which they opened; gives the gravest severity.
    fn finish(mut self) -> anyhow::Result<Option<Severity>> {
        self.progress.clear();
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.each {
            if self.format == Format::Json {
                self.out
                    .write_all(if self.first { b"[]\n" } else { b"\n]\n" })?;
            }
            self.out.flush()?;
            return Ok(self.worst);
        }
        self.closed.extend(self.groups.close_all());
        let stories = self.groups.incidents.close_all();
        self.stories
            .extend(stories.into_iter().map(|closing| closing.incident));
        let Printer {
            mut out,
            format,
            closed: mut alerts,
            stories: mut incidents,
            ..
        } = self;
        settle(&mut alerts, &mut incidents);
        if format == Format::Table {
            let colour = colour();
            let several = incidents.iter().filter(|incident| incident.steps.len() > 1);
            for incident in several {
                writeln!(out, "{}", render::incident(incident, colour))?;
            }
            for alert in alerts.iter().filter(|_| !self.incidents) {
                writeln!(out, "{}", render::terminal(alert, colour))?;
            }
            out.flush()?;
        } else if self.incidents {
            let mut json = JsonWriter::new(out, format);
            for incident in &incidents {
                json.write(incident)?;
            }
            json.finish()?;
        } else {
            let mut json = JsonWriter::new(out, format);
            for alert in &alerts {
                json.write(alert)?;
            }
            json.finish()?;
        }
        Ok(self.worst)
    }
}

/// Puts both in the order of time, and names in each alert its incident as it turned out to be.
fn settle(alerts: &mut [Alert], incidents: &mut [Incident]) {
    incidents.sort_by(|a, b| (a.first_seen, &a.id).cmp(&(b.first_seen, &b.id)));
    let mut steps: HashMap<&str, Vec<(&Step, &str)>> = HashMap::new();
    for incident in incidents.iter() {
        for step in &incident.steps {
            let of = steps.entry(&step.fingerprint).or_default();
            of.push((step, &incident.id));
        }
    }
    for alert in alerts.iter_mut() {
        let of = steps.get(alert.fingerprint.as_str());
        let mut of = of.into_iter().flatten();
        let within =
            |step: &Step| step.first_seen <= alert.first_seen && alert.first_seen <= step.last_seen;
        if let Some((_, incident)) = of.find(|(step, _)| within(step)) {
            alert.incident = Some((*incident).to_owned());
        }
    }
    alerts.sort_by(|a, b| (a.first_seen, &a.id).cmp(&(b.first_seen, &b.id)));
}

/// A line on a terminal's standard error that shows how far the reading has got.
struct Progress {
    visible: bool,
    started: Instant,
    shown: Option<Instant>,
}

impl Progress {
    fn new() -> Progress {
        let visible = io::stderr().is_terminal() && !io::stdout().is_terminal();
        Progress {
            visible,
            started: Instant::now(),
            shown: None,
        }
    }

    fn show(&mut self, bytes: u64) {
        let due = self
            .shown
            .is_none_or(|shown| shown.elapsed() > Duration::from_millis(200));
        if self.visible && due {
            let rate = bytes as f64 / 1e6 / self.started.elapsed().as_secs_f64().max(1e-3);
            eprint!("\r{:.1} GB read, {rate:.0} MB/s ", bytes as f64 / 1e9);
            self.shown = Some(Instant::now());
        }
    }

    fn clear(&self) {
        if self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
    }
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
