//! `lanner detectors`: the library as a person reads it, and its tests.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::Exit;
use super::output::{Format, JsonWriter};
use super::setup::{self, Setup};
use crate::alert::{Kind, Severity};
use crate::detect::docs::{self, Library};
use crate::detect::load::Tests;
use crate::detect::mutate::{self, Survey};
use crate::detect::{Detector, Engine, load, selftest};
use crate::event::fact::FACTS;
use crate::event::field::FIELDS;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Configuration, for its tuning and its own detectors.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[arg(long, value_enum, global = true)]
    format: Option<Format>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One line a detector.
    List,
    /// All that one detector says.
    Show { id: String },
    /// Run detectors' own tests; all of them without an id.
    Test {
        ids: Vec<String>,
        /// Folder with files that tests name by `raw`.
        #[arg(long, value_name = "FOLDER")]
        fixtures: Option<PathBuf>,
        /// Change each detector in every small way, and report what its tests do not notice.
        #[arg(long)]
        mutate: bool,
    },
    /// Write the documents about the shipped detectors, from their files and the folder's own.
    #[command(hide = true)]
    Docs {
        /// Holds coverage.toml, guide.toml and attack.toml.
        #[arg(long, value_name = "FOLDER", default_value = "docs")]
        out: PathBuf,
    },
    /// The facts that `facts` and `not` may name.
    Facts,
    /// The fields that conditions, keys, exceptions and summaries may name.
    Fields,
}

pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let format = Format::or_default(arguments.format);
    match &arguments.command {
        Command::Facts => return facts(format),
        Command::Fields => return fields(format),
        Command::Docs { out } => return docs(out),
        _ => {}
    }
    let setup = match setup::load(arguments.config.as_deref(), Tests::Read) {
        Ok(setup) => setup,
        Err(exit) => return Ok(exit),
    };
    match arguments.command {
        Command::List => list(&setup, format),
        Command::Show { id } => show(&setup, &id, format),
        Command::Test {
            ids,
            fixtures,
            mutate,
        } => test(setup, &ids, fixtures.as_deref(), mutate.then_some(format)),
        Command::Facts | Command::Fields | Command::Docs { .. } => unreachable!("answered above"),
    }
}

/// What `list` says of a detector.
#[derive(Serialize)]
struct Row<'d> {
    id: &'d str,
    title: &'d str,
    kind: Kind,
    severity: Severity,
    covers: &'d [String],
    requires: Vec<&'static str>,
    attack: &'d [String],
    guide: &'d str,
    enabled: bool,
    revision: u32,
    hash: &'d str,
    file: &'d str,
    tests: usize,
}

impl<'d> From<&'d Detector> for Row<'d> {
    fn from(detector: &'d Detector) -> Row<'d> {
        Row {
            id: &detector.id,
            title: &detector.reference.title,
            kind: detector.reference.kind,
            severity: detector.severity,
            covers: &detector.covers,
            requires: detector
                .requires
                .iter()
                .map(|category| category.as_str())
                .collect(),
            attack: &detector.attack,
            guide: &detector.guide,
            enabled: detector.enabled,
            revision: detector.reference.revision,
            hash: &detector.reference.hash,
            file: &detector.file,
            tests: detector.tests.len(),
        }
    }
}

fn list(setup: &Setup, format: Format) -> anyhow::Result<Exit> {
    let mut out = io::stdout().lock();
    if format == Format::Table {
        writeln!(
            out,
            "{:<36} {:<8} {:<9} {:>5}  TITLE",
            "ID", "KIND", "SEVERITY", "TESTS"
        )?;
        for detector in &setup.detectors {
            writeln!(
                out,
                "{:<36} {:<8} {:<9} {:>5}  {}{}",
                detector.id,
                detector.reference.kind.as_str(),
                detector.severity,
                detector.tests.len(),
                detector.reference.title,
                if detector.enabled { "" } else { " (off)" },
            )?;
        }
    } else {
        let mut json = JsonWriter::new(out, format);
        for detector in &setup.detectors {
            json.write(&Row::from(detector))?;
        }
        json.finish()?;
    }
    Ok(Exit::Fine)
}

fn show(setup: &Setup, id: &str, format: Format) -> anyhow::Result<Exit> {
    let Some(detector) = setup.detectors.iter().find(|detector| detector.id == id) else {
        let ids = setup.detectors.iter().map(|detector| detector.id.as_str());
        let hint = crate::config::diagnose::nearest(id, ids)
            .map(|name| format!("; did you mean `{name}`?"))
            .unwrap_or_default();
        eprintln!("lanner: there is no detector `{id}`{hint}");
        return Ok(Exit::Usage);
    };
    let mut out = io::stdout().lock();
    if format == Format::Table {
        let covers = detector.covers.join(", ");
        let requires: Vec<&str> = detector.requires.iter().map(|c| c.as_str()).collect();
        writeln!(out, "{}\n", detector.reference.title)?;
        for (name, text) in [
            (
                "id",
                format!("{} (revision {})", detector.id, detector.reference.revision),
            ),
            ("kind", detector.reference.kind.as_str().to_owned()),
            ("severity", detector.severity.to_string()),
            ("covers", covers),
            ("guide", detector.guide.to_string()),
            ("ATT&CK", detector.attack.join(", ")),
            ("requires", requires.join(", ")),
            ("file", detector.file.clone()),
        ] {
            if !text.is_empty() {
                writeln!(out, "{name:<10} {text}")?;
            }
        }
        for (name, text) in [
            ("What it is", detector.description.as_str()),
            ("What to look at first", &*detector.triage),
            ("What to do about it", &*detector.remedy),
        ] {
            writeln!(out, "\n{name}\n  {}", text.trim())?;
        }
        writeln!(out, "\nWhen it is nothing")?;
        for case in &detector.false_positives {
            writeln!(out, "  - {case}")?;
        }
    } else {
        let mut json = JsonWriter::new(out, format);
        json.write(&Row::from(detector))?;
        json.finish()?;
    }
    Ok(Exit::Fine)
}

fn test(
    setup: Setup,
    ids: &[String],
    fixtures: Option<&Path>,
    mutate: Option<Format>,
) -> anyhow::Result<Exit> {
    for id in ids {
        if !setup.detectors.iter().any(|detector| &detector.id == id) {
            eprintln!("lanner: there is no detector `{id}`");
            return Ok(Exit::Usage);
        }
    }
    let shipped_fixtures = Path::new("tests/fixtures/envelopes");
    let mut folders: Vec<&Path> = vec![shipped_fixtures];
    folders.extend(fixtures);
    folders.extend(setup.loaded.config.detectors_dir.as_deref());
    let engine = Engine::new(setup.detectors, setup.loaded.config.sites());
    let wanted = |id: &str| ids.is_empty() || ids.iter().any(|wanted| wanted == id);
    if let Some(format) = mutate {
        return mutants(&mutate::run(&engine, wanted, &folders), format);
    }
    let report = selftest::run(&engine, wanted, &folders);
    for failure in &report.failures {
        eprintln!(
            "FAIL {}: {}: {}",
            failure.detector, failure.test, failure.message
        );
    }
    println!("{} passed, {} failed", report.passed, report.failures.len());
    Ok(if report.failures.is_empty() {
        Exit::Fine
    } else {
        Exit::TestsFailed
    })
}

/// Prints what the tests do not notice; the mutants themselves are named as in `[[equivalent]]`.
fn mutants(surveys: &[Survey], format: Format) -> anyhow::Result<Exit> {
    let mut out = io::stdout().lock();
    if format == Format::Table {
        for survey in surveys {
            for mutant in &survey.survivors {
                writeln!(out, "SURVIVED {}: {mutant}", survey.detector)?;
            }
            for error in &survey.errors {
                writeln!(out, "ERROR {}: {error}", survey.detector)?;
            }
        }
        let sum = |count: fn(&Survey) -> usize| surveys.iter().map(count).sum::<usize>();
        writeln!(
            out,
            "{} mutants of {} detectors: {} noticed, {} equivalent, {} survived, {} errors",
            sum(|survey| survey.mutants),
            surveys.len(),
            sum(Survey::noticed),
            sum(|survey| survey.equivalent.len()),
            sum(|survey| survey.survivors.len()),
            sum(|survey| survey.errors.len()),
        )?;
    } else {
        let mut json = JsonWriter::new(out, format);
        for survey in surveys {
            json.write(survey)?;
        }
        json.finish()?;
    }
    Ok(if surveys.iter().all(Survey::is_fine) {
        Exit::Fine
    } else {
        Exit::TestsFailed
    })
}

fn docs(folder: &Path) -> anyhow::Result<Exit> {
    let sources = load::shipped();
    if let Err(problems) = load::load(&sources, &[]) {
        setup::print(&problems);
        return Ok(Exit::Configuration);
    }
    let library = match Library::read(folder, &sources) {
        Ok(library) => library,
        Err(problems) => {
            eprintln!("{problems}");
            return Ok(Exit::Configuration);
        }
    };
    let mut out = io::stdout().lock();
    for path in docs::write(folder, &library.documents())? {
        writeln!(out, "{path}")?;
    }
    Ok(Exit::Fine)
}

/// A word of the detectors' vocabulary.
#[derive(Serialize)]
struct Word {
    name: &'static str,
    #[serde(rename = "type")]
    kind: String,
    meaning: &'static str,
}

fn facts(format: Format) -> anyhow::Result<Exit> {
    let words = FACTS.iter().map(|info| Word {
        name: info.name,
        kind: format!("{:?}", info.group).to_lowercase(),
        meaning: info.doc,
    });
    vocabulary(words, format)
}

fn fields(format: Format) -> anyhow::Result<Exit> {
    let words = FIELDS.iter().map(|info| Word {
        name: info.name,
        kind: format!("{:?}", info.kind).to_lowercase(),
        meaning: info.doc,
    });
    vocabulary(words, format)
}

fn vocabulary(words: impl Iterator<Item = Word>, format: Format) -> anyhow::Result<Exit> {
    let mut out = io::stdout().lock();
    if format == Format::Table {
        for word in words {
            writeln!(out, "{:<34} {}", word.name, word.meaning)?;
        }
    } else {
        let mut json = JsonWriter::new(out, format);
        for word in words {
            json.write(&word)?;
        }
        json.finish()?;
    }
    Ok(Exit::Fine)
}
