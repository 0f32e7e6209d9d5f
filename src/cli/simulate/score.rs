//! `lanner simulate score`: replays a simulated archive with its site's configuration, and says what
//! was found of it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use jiff::{SignedDuration, Timestamp};

use super::is_table;
use crate::alert::Alert;
use crate::alert::escape::printable;
use crate::alert::group::{Groups, alert_of};
use crate::alert::incident::{Closing, Incident};
use crate::cli::Exit;
use crate::cli::output::Format;
use crate::cli::setup::{self, Setup};
use crate::detect::Engine;
use crate::detect::load::Tests;
use crate::detect::order::{Judge, Judgement, Learning, Outcome};
use crate::pipeline::replay::{self, Observer, Options};
use crate::pipeline::work::{Task, TimeRange};
use crate::simulator::Truth;
use crate::simulator::evaluate::{Finding, HELD, Report, STRANGERS, evaluate};
use crate::source::archive;

#[derive(Debug, Args)]
pub struct Arguments {
    /// A folder that `lanner simulate --out` wrote.
    dir: PathBuf,
    /// Configuration in place of the folder's own.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Threads that read, decode and match; default: one for each core.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    #[arg(long, value_enum)]
    format: Option<Format>,
}

pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let truth = arguments.dir.join("truth.json");
    let truth: Truth = std::fs::read(&truth)
        .map_err(anyhow::Error::from)
        .and_then(|text| Ok(serde_json::from_slice(&text)?))
        .with_context(|| format!("{} holds no truth", truth.display()))?;
    let config = arguments.config.clone();
    let config = config.unwrap_or_else(|| arguments.dir.join("lanner.toml"));
    let setup = match setup::load(Some(&config), Tests::LeaveOut) {
        Ok(setup) => setup,
        Err(exit) => return Ok(exit),
    };
    let logs = arguments.dir.join("logs").display().to_string();
    let inputs = match archive::inputs(&[logs]) {
        Ok(inputs) => inputs,
        Err(error) => {
            eprintln!("lanner: {error}");
            return Ok(Exit::SourceUnavailable);
        }
    };
    let learned = truth.attacked_from.zip(truth.start);
    let learned = learned.map(|(from, start)| from.duration_since(start));
    let learning = match learned {
        Some(learned) if !learned.is_zero() => Learning::For(learned),
        _ => Learning::Archive,
    };
    let config = setup.loaded.config;
    let engine = Arc::new(Setup::engine(
        setup.detectors,
        &config,
        config.alert.profile,
    ));
    let mut found = Found {
        engine: &engine,
        groups: Groups::default(),
        findings: Vec::new(),
        alerts: Vec::new(),
        incidents: Vec::new(),
    };
    let window = config.alert.incident_window.signed();
    found.groups.incidents.set_window(window);
    found.groups.set_quota(config.alert.memory_quota);
    let task = Task {
        engine: Arc::clone(&engine),
        range: TimeRange {
            from: None,
            to: None,
        },
    };
    let cores = || std::thread::available_parallelism().ok().map(usize::from);
    let options = Options {
        threads: arguments.threads.or_else(cores).unwrap_or(1).max(1),
        lateness: config.pipeline.lateness.signed(),
        archive: archive::ArchiveOptions::default(),
        every_match: false,
    };
    let mut judge = Judge::new(learning);
    replay::replay(&task, &mut judge, inputs, &options, &mut found);
    found
        .alerts
        .extend(found.groups.close_quiet(Timestamp::MAX));
    let stories = found.groups.incidents.close_all();
    found
        .incidents
        .extend(stories.iter().map(Closing::incident));
    let report = evaluate(&truth, &found.findings, &found.alerts, &found.incidents);
    let mut out = io::stdout().lock();
    if is_table(arguments.format) {
        table(&mut out, &report)?;
    } else {
        serde_json::to_writer(&mut out, &report)?;
        writeln!(out)?;
    }
    out.flush()?;
    Ok(Exit::Fine)
}

/// Everything that the replay says.
struct Found<'e> {
    engine: &'e Engine,
    groups: Groups,
    findings: Vec<Finding>,
    alerts: Vec<Alert>,
    incidents: Vec<Incident>,
}

impl Observer for Found<'_> {
    fn judged(&mut self, judgement: Judgement) {
        if judgement.outcome != Outcome::Alert {
            return;
        }
        let occurrence = &judgement.found.occurrence;
        let time = occurrence.clock();
        self.alerts.extend(self.groups.close_quiet(time));
        let stories = self.groups.incidents.close_quiet(time);
        let stories = stories.iter().map(Closing::incident);
        self.incidents.extend(stories);
        let detector = self.engine.detector(judgement.found.detector);
        let alert = alert_of(detector, &judgement, time);
        let added = self
            .groups
            .add(self.engine, &judgement, time, SignedDuration::MAX);
        self.findings.push(Finding {
            cluster: alert.cluster,
            audit_id: occurrence.audit_id().to_owned(),
            kind: alert.detector.kind,
            severity: alert.severity,
            time,
            fingerprint: alert.fingerprint,
            notified: added.cause.is_some(),
        });
    }
}

fn table(out: &mut impl Write, report: &Report) -> io::Result<()> {
    writeln!(out, "{:<58} {:>5} {:>5}", "technique", "acts", "told")?;
    for (name, recall) in &report.techniques {
        let listed = match recall.listed {
            0 => String::new(),
            listed => format!("  ({listed} below what is told)"),
        };
        let (acts, told) = (recall.acts, recall.told);
        writeln!(out, "{:<58} {acts:>5} {told:>5}{listed}", printable(name))?;
    }
    for missed in &report.missed {
        writeln!(
            out,
            "missed: {} ({}, campaign {}: {}), {}",
            printable(&missed.technique),
            printable(&missed.action),
            missed.campaign,
            printable(&missed.name),
            missed.audit_id,
        )?;
    }
    for alarm in &report.false_alarms {
        let time = alarm.time.map_or(String::new(), |time| time.to_string());
        writeln!(
            out,
            "false: {} {} {} {}: {}",
            alarm.severity,
            alarm.detector,
            printable(&alarm.cluster),
            time,
            printable(&alarm.summary),
        )?;
    }
    for held in &report.incidents {
        if held.held < HELD || held.strangers > STRANGERS {
            writeln!(
                out,
                "incident: campaign {} ({}): {:.0} % of {} acts, {:.0} % strangers of {} steps {:?}",
                held.campaign,
                printable(&held.name),
                held.held * 100.0,
                held.acts,
                held.strangers * 100.0,
                held.steps,
                held.who,
            )?;
        }
    }
    writeln!(out)?;
    writeln!(
        out,
        "recall      {:.2} %: {} of {} acts in {} campaigns",
        report.recall() * 100.0,
        report.told,
        report.acts,
        report.campaigns,
    )?;
    writeln!(
        out,
        "false       {:.2} a cluster-day: {} in {:.0} cluster-days; {} more below what is told, {} of what is notable",
        report.false_alarms_per_cluster_day(),
        report.false_alarms.len(),
        report.cluster_days,
        report.false_listed,
        report.notable,
    )?;
    let seconds = |part| report.time_to_alert(part).unwrap_or_default();
    writeln!(
        out,
        "alerted     p50 {} s, p95 {} s, at most {} s after the first act that shows it",
        seconds(0.5),
        seconds(0.95),
        seconds(1.0),
    )?;
    writeln!(
        out,
        "incidents   {} of {} campaigns of several acts: at least {:.0} % of the acts, at most {:.0} % strangers",
        report.well_held(),
        report.incidents.len(),
        HELD * 100.0,
        STRANGERS * 100.0,
    )
}
