//! Checks one detector's file, name by name.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use jiff::SignedDuration;
use sha2::{Digest, Sha256};
use toml::Spanned;

use super::{SHIPPED_FILE, Source};
use crate::alert::DetectorRef;
use crate::config::Period;
use crate::config::diagnose::{Diagnostic, nearest};
use crate::detect::condition::Condition;
use crate::detect::detector::{Detector, Habit, Matcher, Raise};
use crate::detect::inventory::known::Asked;
use crate::detect::matches::Digest128;
use crate::detect::spec::{Match, Spec};
use crate::detect::summary::{Summary, SummaryError};
use crate::detect::techniques;
use crate::event::fact::{Bits, FACTS};
use crate::event::field::FIELDS;
use crate::event::site::Names;
use crate::event::{Category, Fact, Field, LineKind, Stage};

/// Checks one file, collecting every problem it finds.
pub(super) struct Check<'c> {
    pub(super) source: &'c Source,
    pub(super) problems: &'c mut Vec<Diagnostic>,
}

impl Check<'_> {
    pub(super) fn detector(&mut self, spec: Spec, shipped: bool) -> Detector {
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
        let of_others = spec
            .sequence
            .as_ref()
            .map(|sequence| ("sequence", sequence.span()))
            .or(spec
                .absence
                .as_ref()
                .map(|absence| ("absence", absence.span())))
            .or(spec.reuse.as_ref().map(|reuse| ("reuse", reuse.span())));
        let matching = match (&spec.matching, of_others) {
            (Some(matching), None) => self.matcher(matching),
            (None, Some(_)) => Matcher::nothing(),
            (None, None) => {
                let help = Some("say in [match] which events it is about".into());
                self.problem_at(0..0, "match", "is missing", help);
                Matcher::nothing()
            }
            (Some(_), Some((key, span))) => {
                let message = "stands beside [match], and is of no events of its own";
                self.problem_at(span, key, message, Some("remove [match]".into()));
                Matcher::nothing()
            }
        };
        let of_text = |name: &Spanned<String>| name.get_ref() == Category::KubeApiserver.as_str();
        if let Some(category) = spec
            .requires
            .iter()
            .filter(|_| {
                matching
                    .lines
                    .as_ref()
                    .is_none_or(|kinds| !kinds.is_empty())
            })
            .find(|category| of_text(category) != matching.lines.is_some())
        {
            let message = "does not go with what is matched: `lines` are in kube-apiserver alone, and nothing else is";
            self.problem(category, "requires", message, None);
        }
        let raise = spec
            .raise
            .iter()
            .map(|raise| {
                let (facts, not, known) = Asked::split(
                    self.facts(&raise.facts, "raise.facts"),
                    self.facts(&raise.not, "raise.not"),
                );
                Raise {
                    facts,
                    not,
                    known,
                    severity: raise.severity,
                }
            })
            .collect();
        let lower = spec
            .lower
            .iter()
            .map(|lower| {
                let (facts, not, known) = Asked::split(
                    self.facts(&lower.facts, "lower.facts"),
                    self.facts(&lower.not, "lower.not"),
                );
                if !known.is_empty() {
                    let message = "asks what is known from other events";
                    self.problem_at(0..0, "lower", message, Some("use [[raise]]".into()));
                }
                Raise {
                    facts,
                    not,
                    known,
                    severity: lower.severity,
                }
            })
            .collect();
        let habit = spec.habit.as_ref().map(|habit| Habit {
            key: self.fields(&habit.key, "habit.key"),
            facts: self.facts(&habit.facts, "habit.facts"),
            not: self.facts(&habit.not, "habit.not"),
        });
        let (state, state_text) = self.state(&spec);
        let summary = self.summary(&spec.alert.summary);
        let group_by = self.fields(&spec.alert.group_by, "alert.group_by");
        let quiet_for = self.duration(&spec.alert.quiet_for, "alert.quiet_for");
        self.tests(&spec);
        Detector {
            reference: Arc::new(DetectorRef {
                id: id.clone(),
                revision: spec.revision,
                hash: hex(&Sha256::digest(self.source.text.as_bytes())),
                title: spec.title,
                kind: spec.kind,
            }),
            file: if shipped {
                SHIPPED_FILE.to_owned()
            } else {
                self.source.file.clone()
            },
            severity: spec.severity,
            enabled: true,
            signal: spec.signal,
            covers: spec.covers.into_iter().map(Spanned::into_inner).collect(),
            guide: spec.guide.into(),
            attack: spec.attack.into_iter().map(Spanned::into_inner).collect(),
            requires,
            description: spec.description,
            false_positives: spec.false_positives,
            triage: spec.triage.into(),
            remedy: spec.remedy.into(),
            references: spec.references.into(),
            matching,
            raise,
            lower,
            habit,
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
        let (facts, not, known) = Asked::split(
            self.facts(&spec.facts, "match.facts"),
            self.facts(&spec.not, "match.not"),
        );
        Matcher {
            groups: spec.groups.clone(),
            resources: spec.resources.clone(),
            subresources: spec.subresources.clone(),
            verbs: spec.verbs.clone(),
            stages,
            nonresource,
            lines,
            facts,
            not,
            known,
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

    pub(super) fn facts(&mut self, list: &[Spanned<String>], key: &str) -> Bits {
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

    pub(super) fn fields(&mut self, list: &[Spanned<String>], key: &str) -> Vec<Field> {
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

    pub(super) fn field(&mut self, name: &Spanned<String>, key: &str) -> Option<Field> {
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

    pub(super) fn duration(&mut self, text: &Spanned<String>, key: &str) -> SignedDuration {
        text.get_ref()
            .parse::<Period>()
            .map(Period::signed)
            .unwrap_or_else(|message| {
                self.problem(text, key, message, None);
                SignedDuration::ZERO
            })
    }

    pub(super) fn unknown<'n>(
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

    pub(super) fn problem<T>(
        &mut self,
        at: &Spanned<T>,
        key: impl Into<String>,
        message: impl Into<String>,
        help: Option<String>,
    ) {
        self.problem_at(at.span(), key, message, help);
    }

    pub(super) fn problem_at(
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

fn nearest_field(name: &str) -> Option<String> {
    nearest(name, FIELDS.iter().map(|info| info.name)).map(|name| format!("did you mean `{name}`?"))
}

pub(super) fn names(list: &[Spanned<String>]) -> Vec<&str> {
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
