//! Reads detector files: the shipped ones, which are embedded, and a site's own folder over them.
//!
//! Every name in a file is checked here (facts, fields, categories, techniques, conditions,
//! templates), and all errors of all files are reported at once, with file, line, column and the
//! nearest valid name. Nothing runs with a detector that was not understood.

mod check;
mod state;
mod tune;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use include_dir::{Dir, include_dir};

use super::detector::{Detector, StateSpec};
use super::spec::{Override, Spec};
use crate::config::diagnose::{Diagnostic, nearest};
use check::Check;

pub use check::hex;
pub use tune::tune;

static SHIPPED: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/detectors");

/// What a detector's `file` says when it came with the program.
pub const SHIPPED_FILE: &str = "shipped";

/// A detector file's text and where it lies.
#[derive(Debug, Clone)]
pub struct Source {
    pub file: String,
    pub text: String,
}

/// The files that came with the program.
pub fn shipped() -> Vec<Source> {
    let mut sources: Vec<Source> = SHIPPED
        .files()
        .filter(|file| file.path().extension().is_some_and(|ext| ext == "toml"))
        .map(|file| Source {
            file: format!("detectors/{}", file.path().display()),
            text: file.contents_utf8().unwrap_or_default().to_owned(),
        })
        .collect();
    sources.sort_by(|a, b| a.file.cmp(&b.file));
    sources
}

/// The files in a site's folder, in the order of their names.
pub fn folder(path: &Path) -> std::io::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "toml") {
            sources.push(Source {
                file: path.display().to_string(),
                text: std::fs::read_to_string(&path)?,
            });
        }
    }
    sources.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(sources)
}

/// Whether shipped detectors come with their own tests, which are four fifths of their text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tests {
    Read,
    /// What runs does without them, and starts sooner.
    LeaveOut,
}

/// All detectors, in the order of their ids; or everything that is wrong with any file.
pub fn load(shipped: &[Source], site: &[Source]) -> Result<Vec<Detector>, Vec<Diagnostic>> {
    load_with(Tests::Read, shipped, site)
}

/// As [`load`], with or without the tests of the shipped ones; those of a site are always read.
pub fn load_with(
    tests: Tests,
    shipped: &[Source],
    site: &[Source],
) -> Result<Vec<Detector>, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let mut files: BTreeMap<String, Parsed> = BTreeMap::new();
    let mut shipped_text: BTreeMap<String, &str> = BTreeMap::new();
    for source in shipped {
        let text = match tests {
            Tests::Read => &source.text,
            Tests::LeaveOut => before_tests(&source.text),
        };
        if let Some(parsed) = parse(source, text, true, &mut problems) {
            shipped_text.insert(parsed.detector.id.clone(), &source.text);
            files.insert(parsed.detector.id.clone(), parsed);
        }
    }
    let mut of_site = BTreeSet::new();
    for source in site {
        let merged = merge_over_shipped(source, &shipped_text, &mut problems);
        let Some(parsed) = parse(&merged, &merged.text, false, &mut problems) else {
            continue;
        };
        let id = parsed.detector.id.clone();
        let at_id = |message: String, help: &str| {
            let span = key_span(&source.text, "id");
            Diagnostic::at_span(
                &source.file,
                &source.text,
                span,
                "id",
                message,
                Some(help.into()),
            )
        };
        if !of_site.insert(id.clone()) {
            problems.push(at_id(
                format!("`{id}` is the id of another file of this folder"),
                "give each detector an id of its own",
            ));
        } else if shipped_text.contains_key(&id) && parsed.relation.is_none() {
            problems.push(at_id(
                format!("`{id}` is a shipped detector"),
                "say override = \"merge\" or \"replace\", or choose another id",
            ));
        } else if !shipped_text.contains_key(&id) && parsed.relation.is_some() {
            let hint = nearest(&id, shipped_text.keys().map(String::as_str))
                .map_or("remove `override`".to_owned(), |name| {
                    format!("did you mean `{name}`?")
                });
            problems.push(at_id(
                format!("overrides `{id}`, which is no shipped detector"),
                &hint,
            ));
        }
        files.insert(id, parsed);
    }
    // A file that was not understood is missing here, and would make its name an unknown one.
    if problems.is_empty() {
        problems = files
            .values()
            .flat_map(|parsed| {
                let unknown = unknown_steps(parsed, &files);
                unknown.into_iter().chain(unused_signal(parsed, &files))
            })
            .collect();
    }
    if problems.is_empty() {
        Ok(files.into_values().map(|parsed| parsed.detector).collect())
    } else {
        Err(problems)
    }
}

/// What steps of a sequence name and is no detector, or is a sequence itself.
fn unknown_steps(parsed: &Parsed, files: &BTreeMap<String, Parsed>) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    for (id, span) in &parsed.steps {
        let (message, help) = match files.get(id).map(|named| &named.detector.state) {
            Some(StateSpec::Sequence { .. }) => (
                format!("`{id}` is a sequence itself"),
                Some("name the detectors of its last step".to_owned()),
            ),
            Some(_) => continue,
            None => (
                format!("`{id}` is no detector"),
                nearest(id, files.keys().map(String::as_str))
                    .map(|name| format!("did you mean `{name}`?")),
            ),
        };
        problems.push(Diagnostic::at_span(
            &parsed.source.file,
            &parsed.source.text,
            span.clone(),
            "sequence.step.detectors",
            message,
            help,
        ));
    }
    problems
}

/// A signal that no sequence builds on finds for nobody.
fn unused_signal(parsed: &Parsed, files: &BTreeMap<String, Parsed>) -> Option<Diagnostic> {
    let Detector { id, signal, .. } = &parsed.detector;
    let mut steps = files.values().flat_map(|parsed| &parsed.steps);
    if !signal || steps.any(|(step, _)| step == id) {
        return None;
    }
    let source = &parsed.source;
    Some(Diagnostic::at_span(
        &source.file,
        &source.text,
        key_span(&source.text, "signal"),
        "signal",
        "no sequence has it as a step, so that nobody would hear of it".to_owned(),
        Some("name it in a [[sequence.step]], or remove `signal`".to_owned()),
    ))
}

/// The text of a site's file, or with `override = "merge"` the shipped text with the file's keys
/// put over it.
fn merge_over_shipped(
    source: &Source,
    shipped: &BTreeMap<String, &str>,
    problems: &mut Vec<Diagnostic>,
) -> Source {
    let unchanged = || source.clone();
    let Ok(over) = source.text.parse::<toml::Table>() else {
        return unchanged();
    };
    if over.get("override").and_then(toml::Value::as_str) != Some("merge") {
        return unchanged();
    }
    let Some(base) = over
        .get("id")
        .and_then(toml::Value::as_str)
        .and_then(|id| shipped.get(id))
    else {
        return unchanged();
    };
    let Ok(mut merged) = base.parse::<toml::Table>() else {
        return unchanged();
    };
    merge_tables(&mut merged, over);
    match toml::to_string(&merged) {
        Ok(text) => Source {
            file: format!("{} (merged)", source.file),
            text,
        },
        Err(error) => {
            let message = format!("cannot be merged: {error}");
            problems.push(Diagnostic::at_span(
                &source.file,
                &source.text,
                0..0,
                "override",
                message,
                None,
            ));
            unchanged()
        }
    }
}

/// Puts `over` onto `base`: tables by key, everything else whole.
pub fn merge_tables(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(base)), toml::Value::Table(over)) => merge_tables(base, over),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Where `key` is set at the top of a TOML text; the start where it is not.
fn key_span(text: &str, key: &str) -> Range<usize> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if line
            .strip_prefix(key)
            .is_some_and(|rest| rest.trim_start().starts_with('='))
        {
            return start..start + line.trim_end().len();
        }
        start += line.len();
    }
    0..0
}

/// A file that was understood by itself.
struct Parsed {
    detector: Detector,
    relation: Option<Override>,
    /// Ids that the steps of a sequence name, and where.
    steps: Vec<(String, Range<usize>)>,
    source: Source,
}

/// A shipped detector without its tests, which stand behind everything else.
fn before_tests(text: &str) -> &str {
    text.find("\n[[test]]").map_or(text, |at| &text[..=at])
}

/// Understands `text`, which is all of the source's or its beginning.
fn parse(
    source: &Source,
    text: &str,
    shipped: bool,
    problems: &mut Vec<Diagnostic>,
) -> Option<Parsed> {
    let spec: Spec = match toml::from_str(text) {
        Ok(spec) => spec,
        Err(error) => {
            problems.push(Diagnostic::from_toml_error(
                &source.file,
                &source.text,
                &error,
            ));
            return None;
        }
    };
    let before = problems.len();
    let relation = spec.override_shipped;
    let steps = spec
        .sequence
        .iter()
        .flat_map(|sequence| &sequence.get_ref().step)
        .flat_map(|step| &step.get_ref().detectors)
        .map(|id| (id.get_ref().clone(), id.span()))
        .collect();
    let detector = Check { source, problems }.detector(spec, shipped);
    (problems.len() == before).then(|| Parsed {
        detector,
        relation,
        steps,
        source: source.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(id: &str, body: &str) -> Vec<String> {
        let text = format!(
            r#"id = "{id}"
revision = 1
title = "T"
kind = "threat"
severity = "high"
requires = ["kube-audit"]
description = "D"
false_positives = []
triage = "T"
remedy = "R"
{body}
[alert]
summary = "s"
group_by = ["cluster"]
quiet_for = "1h"
"#
        );
        let file = format!("{id}.toml");
        match load(&shipped(), &[Source { file, text }]) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        }
    }

    #[track_caller]
    fn refused(body: &str, at: &str, message: &str) {
        let problems = problems("own-sequence", body);
        assert!(
            problems.len() == 1 && problems[0].contains(at) && problems[0].contains(message),
            "{problems:#?}"
        );
    }

    #[test]
    fn tests_are_all_that_is_left_out() {
        let read = load(&shipped(), &[]).expect("they are right");
        let left_out = load_with(Tests::LeaveOut, &shipped(), &[]).expect("they are right");
        assert_eq!(read.len(), left_out.len());
        for (mut read, left_out) in read.into_iter().zip(left_out) {
            assert!(!read.tests.is_empty() && left_out.tests.is_empty());
            read.tests.clear();
            read.equivalent.clear();
            assert_eq!(format!("{read:?}"), format!("{left_out:?}"));
        }
    }

    const STEP: &str = "[[sequence.step]]\ndetectors = [\"pod-exec\"]\n";

    #[test]
    fn a_sequence_is_refused_where_it_is_wrong() {
        let key = "[sequence]\nkey = [\"cluster\", \"actor.user\"]\nwithin = \"1h\"\n";
        assert_eq!(
            problems("own-sequence", &format!("{key}{STEP}{STEP}")),
            [""; 0]
        );
        let step = |step: &str| format!("{key}{STEP}[[sequence.step]]\n{step}\n");
        let unknown = step("detectors = [\"pod-exek\"]");
        refused(&unknown, ":17:14", "did you mean `pod-exec`?");
        let nested = step("detectors = [\"self-grant-then-use\"]");
        refused(&nested, ":17:14", "is a sequence itself");
        let short = step("detectors = [\"pod-exec\"]\nkey = [\"cluster\"]");
        refused(&short, ":18:7", "not as many fields");
        let fact = step("detectors = [\"pod-exec\"]\nfacts = [\"suceeded\"]");
        refused(&fact, ":18:10", "did you mean `succeeded`?");
        refused(&format!("{key}{STEP}"), ":11:1", "has 1 steps");
        let long = format!("{key}{STEP}{STEP}").replace("1h", "8d");
        refused(&long, ":13:10", "from 1s to 7d");
        let both = format!("[match]\nverbs = [\"get\"]\n{key}{STEP}{STEP}");
        refused(&both, ":13:1", "stands beside [match]");
        refused("", "match", "is missing");
    }

    #[test]
    fn what_nobody_would_hear_of_or_nothing_could_be_new_to_is_refused() {
        let matching = "[match]\nverbs = [\"get\"]\n";
        let signal = format!("signal = true\n{matching}");
        refused(&signal, ":11:1", "no sequence has it as a step");
        let spike = "[spike]\nkey = [\"actor.user\"]\ncount = 5\nlimit = 50\nwindow = \"10m\"\n\
            learn = \"3d\"\nnew_to = [\"user_agent.family\"]\n";
        let spike = format!("{matching}{spike}");
        refused(&spike, ":19:11", "has no values that could be new");
        let distinct = spike.replace("count", "distinct = \"object.ref\"\ncount");
        assert_eq!(problems("own-sequence", &distinct), [""; 0]);
    }
}
