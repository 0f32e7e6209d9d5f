//! Reads detector files: the shipped ones, which are embedded, and a site's own folder over them.
//!
//! Every name in a file is checked here (facts, fields, categories, techniques, conditions,
//! templates), and all errors of all files are reported at once, with file, line, column and the
//! nearest valid name. Nothing runs with a detector that was not understood.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use include_dir::{Dir, include_dir};
use jiff::SignedDuration;
use sha2::{Digest, Sha256};
use toml::Spanned;

use super::condition::Condition;
use super::detector::{Detector, Matcher, Raise, StateSpec};
use super::matches::Digest128;
use super::spec::{Match, Override, Spec};
use super::summary::{Summary, SummaryError};
use super::techniques;
use crate::config::diagnose::{Diagnostic, nearest};
use crate::config::{DetectorConfig, Period, duration};
use crate::event::fact::{Bits, FACTS};
use crate::event::field::FIELDS;
use crate::event::site::Names;
use crate::event::{Category, Fact, Field, LineKind, Stage};

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

/// All detectors, in the order of their ids; or everything that is wrong with any file.
pub fn load(shipped: &[Source], site: &[Source]) -> Result<Vec<Detector>, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let mut detectors: BTreeMap<String, Detector> = BTreeMap::new();
    let mut shipped_text: BTreeMap<String, &str> = BTreeMap::new();
    for source in shipped {
        if let Some((detector, _)) = parse(source, true, &mut problems) {
            shipped_text.insert(detector.id.clone(), &source.text);
            detectors.insert(detector.id.clone(), detector);
        }
    }
    let mut of_site = BTreeSet::new();
    for source in site {
        let merged = merge_over_shipped(source, &shipped_text, &mut problems);
        let Some((detector, relation)) = parse(&merged, false, &mut problems) else {
            continue;
        };
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
        if !of_site.insert(detector.id.clone()) {
            problems.push(at_id(
                format!("`{}` is the id of another file of this folder", detector.id),
                "give each detector an id of its own",
            ));
        } else if shipped_text.contains_key(&detector.id) && relation.is_none() {
            problems.push(at_id(
                format!("`{}` is a shipped detector", detector.id),
                "say override = \"merge\" or \"replace\", or choose another id",
            ));
        } else if !shipped_text.contains_key(&detector.id) && relation.is_some() {
            let hint = nearest(&detector.id, shipped_text.keys().map(String::as_str))
                .map_or("remove `override`".to_owned(), |name| {
                    format!("did you mean `{name}`?")
                });
            problems.push(at_id(
                format!("overrides `{}`, which is no shipped detector", detector.id),
                &hint,
            ));
        }
        detectors.insert(detector.id.clone(), detector);
    }
    if problems.is_empty() {
        Ok(detectors.into_values().collect())
    } else {
        Err(problems)
    }
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

/// Puts the site's tuning onto a detector; gives what does not fit it.
pub fn tune(detector: &mut Detector, tuning: &DetectorConfig) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let mut misfit = |key: &str, what: &str| {
        problems.push(Diagnostic::new(
            "",
            format!("detectors.{}.{key}", detector.id),
            format!("`{}` has no {what}", detector.id),
            Some(format!(
                "remove `{key}`; `lanner detectors show {}` says what it has",
                detector.id
            )),
        ));
    };
    if let Some(enabled) = tuning.enabled {
        detector.enabled = enabled;
    }
    if let Some(severity) = tuning.severity {
        // What the site says of the detector as a whole lifts or lowers its graver cases alike.
        detector.severity = severity;
        for raise in &mut detector.raise {
            raise.severity = raise.severity.max(severity);
        }
    }
    if let Some(quiet_for) = tuning.quiet_for {
        detector.quiet_for = quiet_for.signed();
    }
    match &mut detector.state {
        StateSpec::Threshold { count, window, .. } => {
            if let Some(tuned) = tuning.count {
                *count = u32::try_from(tuned).unwrap_or(u32::MAX);
            }
            if let Some(tuned) = tuning.window {
                *window = tuned.signed();
            }
        }
        _ => {
            if tuning.count.is_some() {
                misfit("count", "threshold");
            }
            if tuning.window.is_some() {
                misfit("window", "threshold");
            }
        }
    }
    match (&mut detector.state, tuning.learn) {
        (StateSpec::FirstSeen { learn, .. }, Some(tuned)) => *learn = tuned.signed(),
        (_, Some(_)) => misfit("learn", "learning time"),
        (_, None) => {}
    }
    detector.exceptions = tuning.exceptions.clone();
    problems
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

fn parse(
    source: &Source,
    shipped: bool,
    problems: &mut Vec<Diagnostic>,
) -> Option<(Detector, Option<Override>)> {
    let spec: Spec = match toml::from_str(&source.text) {
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
    let detector = Check { source, problems }.detector(spec, shipped);
    (problems.len() == before).then_some((detector, relation))
}

/// Checks one file, collecting every problem it finds.
struct Check<'c> {
    source: &'c Source,
    problems: &'c mut Vec<Diagnostic>,
}

impl Check<'_> {
    fn detector(&mut self, spec: Spec, shipped: bool) -> Detector {
        let id = spec.id.get_ref().clone();
        let id_ok = !id.is_empty()
            && id
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !id_ok {
            self.problem(
                &spec.id,
                "id",
                "is not kebab-case",
                Some("as in `pod-exec`".into()),
            );
        }
        let stem = Path::new(self.source.file.trim_end_matches(" (merged)"))
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        if stem != id {
            let help = format!("rename the file to `{id}.toml`, or the id to `{stem}`");
            self.problem(&spec.id, "id", "is not the file's stem", Some(help));
        }
        for technique in &spec.attack {
            if !techniques::is_known(technique.get_ref()) {
                let help = nearest(technique.get_ref(), techniques::ids())
                    .map(|name| format!("did you mean `{name}`?"));
                let message = format!(
                    "`{}` is no technique of ATT&CK {}",
                    technique.get_ref(),
                    techniques::VERSION
                );
                self.problem(technique, "attack", message, help);
            }
        }
        let requires = spec
            .requires
            .iter()
            .filter_map(|name| self.category(name))
            .collect();
        let matching = self.matcher(&spec.matching);
        let of_text = |name: &Spanned<String>| name.get_ref() == Category::KubeApiserver.as_str();
        if let Some(category) = spec
            .requires
            .iter()
            .find(|category| of_text(category) != matching.lines.is_some())
        {
            let message = "does not go with what is matched: `lines` are in kube-apiserver alone, and nothing else is";
            self.problem(category, "requires", message, None);
        }
        let raise = spec
            .raise
            .iter()
            .map(|raise| Raise {
                facts: self.facts(&raise.facts, "raise.facts"),
                not: self.facts(&raise.not, "raise.not"),
                severity: raise.severity,
            })
            .collect();
        let (state, state_text) = self.state(&spec);
        let summary = self.summary(&spec.alert.summary);
        let group_by = self.fields(&spec.alert.group_by, "alert.group_by");
        let quiet_for = self.duration(&spec.alert.quiet_for, "alert.quiet_for");
        self.tests(&spec);
        Detector {
            hash: hex(&Sha256::digest(self.source.text.as_bytes())),
            file: if shipped {
                SHIPPED_FILE.to_owned()
            } else {
                self.source.file.clone()
            },
            revision: spec.revision,
            title: spec.title,
            kind: spec.kind,
            severity: spec.severity,
            enabled: true,
            covers: spec.covers.into_iter().map(Spanned::into_inner).collect(),
            guide: spec.guide,
            attack: spec.attack.into_iter().map(Spanned::into_inner).collect(),
            requires,
            description: spec.description,
            false_positives: spec.false_positives,
            triage: spec.triage,
            remedy: spec.remedy,
            references: spec.references,
            matching,
            raise,
            state,
            state_hash: hash64(&format!("{id}\n{state_text}")),
            digest: Digest128::of([id.as_bytes()]),
            summary,
            group_by,
            quiet_for,
            exceptions: Vec::new(),
            tests: spec.test.into_iter().map(Spanned::into_inner).collect(),
            equivalent: spec.equivalent,
            id,
        }
    }

    fn matcher(&mut self, spec: &Match) -> Matcher {
        for (set, key) in [
            (&spec.groups, "match.groups"),
            (&spec.resources, "match.resources"),
            (&spec.subresources, "match.subresources"),
            (&spec.verbs, "match.verbs"),
        ] {
            if set.as_ref().is_some_and(Vec::is_empty) {
                self.problem_at(
                    0..0,
                    key,
                    "is empty, so nothing matches",
                    Some("leave it out".into()),
                );
            }
        }
        if spec.nonresource.is_some() && spec.resources.is_some() {
            self.problem_at(
                0..0,
                "match.nonresource",
                "stands beside `resources`, and no request has both",
                Some("keep one of the two".into()),
            );
        }
        let mut stages = Vec::new();
        for stage in spec.stages.iter().flatten() {
            match Stage::parse(stage.get_ref()) {
                Stage::Unknown => {
                    let names = [
                        "RequestReceived",
                        "ResponseStarted",
                        "ResponseComplete",
                        "Panic",
                    ];
                    self.unknown(stage, "match.stages", "stage", names);
                }
                known => stages.push(known),
            }
        }
        let nonresource = spec.nonresource.as_ref().map(|globs| {
            for glob in globs {
                if let Err(error) = Names::new(&[glob.get_ref()]) {
                    self.problem(glob, "match.nonresource", error.to_string(), None);
                }
            }
            Names::new(&names(globs)).unwrap_or_default()
        });
        let lines = spec.lines.as_ref().map(|kinds| self.lines(spec, kinds));
        let when = spec.when.as_ref().and_then(|source| {
            Condition::compile(source.get_ref())
                .map_err(|error| {
                    let help = error.unknown_name.as_deref().and_then(nearest_field);
                    self.problem(source, "match.when", error.message, help);
                })
                .ok()
        });
        Matcher {
            groups: spec.groups.clone(),
            resources: spec.resources.clone(),
            subresources: spec.subresources.clone(),
            verbs: spec.verbs.clone(),
            stages,
            nonresource,
            lines,
            facts: self.facts(&spec.facts, "match.facts"),
            not: self.facts(&spec.not, "match.not"),
            when,
        }
    }

    fn lines(&mut self, spec: &Match, kinds: &[Spanned<String>]) -> Vec<LineKind> {
        let beside = [
            ("groups", spec.groups.is_some()),
            ("resources", spec.resources.is_some()),
            ("subresources", spec.subresources.is_some()),
            ("verbs", spec.verbs.is_some()),
            ("stages", spec.stages.is_some()),
            ("nonresource", spec.nonresource.is_some()),
        ];
        if let Some((key, _)) = beside.iter().find(|(_, set)| *set) {
            self.problem_at(
                0..0,
                format!("match.{key}"),
                "stands beside `lines`, and no line of the API server's log has it",
                Some("keep `lines`, `facts`, `not` and `when`".into()),
            );
        }
        if kinds.is_empty() {
            let help = Some("leave it out".into());
            self.problem_at(0..0, "match.lines", "is empty, so nothing matches", help);
        }
        kinds
            .iter()
            .filter_map(|name| {
                let kind = LineKind::parse(name.get_ref());
                if kind.is_none() {
                    let names = LineKind::ALL.iter().map(|(_, name, _)| *name);
                    self.unknown(name, "match.lines", "kind of line", names);
                }
                kind
            })
            .collect()
    }

    /// The state operator, and the text of what decides its meaning.
    fn state(&mut self, spec: &Spec) -> (StateSpec, String) {
        match (&spec.first_seen, &spec.threshold) {
            (Some(_), Some(threshold)) => {
                let message = "stands beside [first_seen]; a detector has one of them at most";
                self.problem(
                    threshold,
                    "threshold",
                    message,
                    Some("split the detector".into()),
                );
                (StateSpec::None, String::new())
            }
            (Some(first_seen), None) => {
                let first_seen = first_seen.get_ref();
                let state = StateSpec::FirstSeen {
                    key: self.fields(&first_seen.key, "first_seen.key"),
                    value: self.fields(&first_seen.value, "first_seen.value"),
                    learn: self.learning(&first_seen.learn),
                    teach: first_seen.teach.clone(),
                };
                (
                    state,
                    format!(
                        "first_seen {:?} {:?}",
                        names(&first_seen.key),
                        names(&first_seen.value)
                    ),
                )
            }
            (None, Some(spanned)) => {
                let threshold = spanned.get_ref();
                let window = self.duration(&threshold.window, "threshold.window");
                if !(SignedDuration::ZERO..=MAX_WINDOW).contains(&window) || window.is_zero() {
                    let help = Some("from 1s to 7d".into());
                    self.problem(
                        &threshold.window,
                        "threshold.window",
                        "is no possible window",
                        help,
                    );
                }
                if threshold.count < 2 {
                    let message = "is below 2, so every match would be a finding";
                    self.problem(
                        spanned,
                        "threshold.count",
                        message,
                        Some("leave [threshold] out".into()),
                    );
                }
                let state = StateSpec::Threshold {
                    key: self.fields(&threshold.key, "threshold.key"),
                    distinct: threshold
                        .distinct
                        .as_ref()
                        .and_then(|name| self.field(name, "threshold.distinct")),
                    count: threshold.count,
                    window,
                };
                let distinct = threshold.distinct.as_ref().map(|name| name.get_ref());
                (
                    state,
                    format!("threshold {:?} {distinct:?}", names(&threshold.key)),
                )
            }
            (None, None) => (StateSpec::None, String::new()),
        }
    }

    fn summary(&mut self, source: &Spanned<String>) -> Summary {
        match Summary::compile(source.get_ref()) {
            Ok(summary) => return summary,
            Err(SummaryError::Syntax(error)) => {
                let message = format!("does not parse: {error}");
                self.problem(source, "alert.summary", message, None);
            }
            Err(SummaryError::UnknownFields(names)) => {
                for name in names {
                    let message = format!("`{name}` is no field");
                    self.problem(source, "alert.summary", message, nearest_field(&name));
                }
            }
        }
        Summary::compile("").expect("the empty template compiles")
    }

    fn tests(&mut self, spec: &Spec) {
        for (index, test) in spec.test.iter().enumerate() {
            let body = test.get_ref();
            let given = [
                body.event.is_some(),
                body.events.is_some(),
                body.raw.is_some(),
            ];
            if given.iter().filter(|given| **given).count() != 1 {
                self.problem(
                    test,
                    format!("test[{index}]"),
                    format!("`{}` has not exactly one of event, events, raw", body.name),
                    Some("give the test one of them".into()),
                );
            }
            if let Some(row) = &body.row
                && !spec
                    .covers
                    .iter()
                    .any(|covered| covered.get_ref() == row.get_ref())
            {
                let help = Some(format!(
                    "add it to `covers`, or name one of {:?}",
                    names(&spec.covers)
                ));
                self.problem(
                    row,
                    format!("test[{index}].row"),
                    "is not in `covers`",
                    help,
                );
            }
        }
    }

    fn facts(&mut self, list: &[Spanned<String>], key: &str) -> Bits {
        list.iter()
            .filter_map(|name| {
                let fact = Fact::parse(name.get_ref());
                if fact.is_none() {
                    self.unknown(name, key, "fact", FACTS.iter().map(|info| info.name));
                }
                fact
            })
            .collect()
    }

    fn fields(&mut self, list: &[Spanned<String>], key: &str) -> Vec<Field> {
        if list.is_empty() {
            self.problem_at(
                0..0,
                key,
                "is empty",
                Some("name at least one field".into()),
            );
        }
        list.iter()
            .filter_map(|name| self.field(name, key))
            .collect()
    }

    fn field(&mut self, name: &Spanned<String>, key: &str) -> Option<Field> {
        let field = Field::parse(name.get_ref());
        if field.is_none() {
            self.unknown(name, key, "field", FIELDS.iter().map(|info| info.name));
        }
        field
    }

    fn category(&mut self, name: &Spanned<String>) -> Option<Category> {
        let known = [
            Category::KubeAudit,
            Category::KubeAuditAdmin,
            Category::KubeApiserver,
        ];
        let found = known
            .into_iter()
            .find(|category| category.as_str() == name.get_ref());
        if found.is_none() {
            self.unknown(name, "requires", "category", known.map(Category::as_str));
        }
        found
    }

    fn duration(&mut self, text: &Spanned<String>, key: &str) -> SignedDuration {
        text.get_ref()
            .parse::<Period>()
            .map(Period::signed)
            .unwrap_or_else(|message| {
                self.problem(text, key, message, None);
                SignedDuration::ZERO
            })
    }

    /// A learning time may be zero: then everything that was not seen is new.
    fn learning(&mut self, text: &Spanned<String>) -> SignedDuration {
        match duration::parse(text.get_ref()) {
            Ok(zero) if zero.is_zero() => zero,
            _ => self.duration(text, "first_seen.learn"),
        }
    }

    fn unknown<'n>(
        &mut self,
        name: &Spanned<String>,
        key: &str,
        what: &str,
        candidates: impl IntoIterator<Item = &'n str>,
    ) {
        let help =
            nearest(name.get_ref(), candidates).map(|name| format!("did you mean `{name}`?"));
        self.problem(
            name,
            key,
            format!("`{}` is no {what}", name.get_ref()),
            help,
        );
    }

    fn problem<T>(
        &mut self,
        at: &Spanned<T>,
        key: impl Into<String>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.problem_at(at.span(), key, message, help);
    }

    fn problem_at(
        &mut self,
        span: Range<usize>,
        key: impl Into<String>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.problems.push(Diagnostic::at_span(
            &self.source.file,
            &self.source.text,
            span,
            key,
            message,
            help,
        ));
    }
}

/// The longest window a threshold may have: every match within it is remembered.
const MAX_WINDOW: SignedDuration = SignedDuration::from_hours(7 * 24);

fn nearest_field(name: &str) -> Option<String> {
    nearest(name, FIELDS.iter().map(|info| info.name)).map(|name| format!("did you mean `{name}`?"))
}

fn names(list: &[Spanned<String>]) -> Vec<&str> {
    list.iter().map(|name| name.get_ref().as_str()).collect()
}

fn hash64(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    u64::from_le_bytes(
        digest[..8]
            .try_into()
            .expect("a SHA-256 digest has 32 bytes"),
    )
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            use std::fmt::Write;
            let _ = write!(text, "{byte:02x}");
            text
        })
}
