//! A detector's page: its file in words.

use std::fmt::Write;

use super::{Library, anchor, codes, inline, technique_link, values};
use crate::alert::Kind;
use crate::config::DEFAULT;
use crate::detect::spec::{Expect, Match, NewKey, Raise, Sequence, Spec};
use crate::event::Fact;

/// Text of `detectors/ID.md`.
pub fn of(library: &Library, spec: &Spec) -> String {
    let mut page = Page(String::new());
    let id = spec.id.get_ref();
    page.line(
        "<!-- Written by `lanner detectors docs` from the detector's file; change that one. -->",
    );
    page.line("");
    page.line(format!("# {}", inline(&spec.title)));
    page.line("");
    page.line(inline(&spec.description));
    page.line("");
    facts_of_the_file(&mut page, library, spec);

    page.heading("What it matches");
    if let Some(matching) = &spec.matching {
        matches(&mut page, matching);
    }
    memory(&mut page, spec);
    severity(&mut page, spec);

    page.heading("What the alert says");
    page.block("text", &spec.alert.summary.get_ref().replace('\n', " "));
    page.line("");
    page.line(format!(
        "Findings that agree in {} are one alert. It closes when none came for {}.",
        codes(values(&spec.alert.group_by), "and"),
        inline(spec.alert.quiet_for.get_ref()),
    ));

    page.heading("What to look at first");
    page.line(inline(&spec.triage));
    page.heading("When it is nothing");
    for case in &spec.false_positives {
        page.line(format!("- {}", inline(case)));
    }
    page.heading("What to do about it");
    page.line(inline(&spec.remedy));

    page.heading("Tuning");
    tuning(&mut page, spec);

    page.heading("Tests");
    page.line(format!("`lanner detectors test {id}` runs them."));
    page.line("");
    page.line("| test | row | expected |\n|---|---|---|");
    for test in &spec.test {
        let test = test.get_ref();
        let row = test.row.as_ref().map_or("", |row| row.get_ref());
        let mut expected = match test.expect {
            Expect::Alert => "alert".to_owned(),
            Expect::Quiet => "quiet".to_owned(),
        };
        if let Some(severity) = test.severity {
            write!(expected, ", {severity}").expect("a String takes any text");
        }
        page.line(format!("| {} | {row} | {expected} |", inline(&test.name)));
    }
    if !spec.references.is_empty() {
        page.heading("References");
        for reference in &spec.references {
            page.line(format!("- <{reference}>"));
        }
    }
    page.0
}

struct Page(String);

impl Page {
    fn line(&mut self, line: impl AsRef<str>) {
        self.0.push_str(line.as_ref());
        self.0.push('\n');
    }

    fn heading(&mut self, heading: &str) {
        self.line("");
        self.line(format!("## {heading}"));
        self.line("");
    }

    fn block(&mut self, language: &str, text: &str) {
        self.line(format!("```{language}"));
        self.line(text.trim());
        self.line("```");
    }
}

fn facts_of_the_file(page: &mut Page, library: &Library, spec: &Spec) {
    let id = spec.id.get_ref();
    let mut row = |name: &str, text: String| {
        if !text.is_empty() {
            page.line(format!("| {name} | {text} |"));
        }
    };
    row(
        "id",
        format!(
            "[`{id}`](../../detectors/{id}.toml), revision {}",
            spec.revision
        ),
    );
    row("---", "---".to_owned());
    let kind = match spec.kind {
        Kind::Threat => "threat: what an attacker does",
        Kind::Change => "change: it matters, whoever makes it",
        Kind::Hygiene => "hygiene: only with `--profile all`",
    };
    row("kind", kind.to_owned());
    match spec.signal {
        true => row("alerts", "none: sequences build on it".to_owned()),
        false => row("severity", spec.severity.to_string()),
    }
    row("needs", needs(spec));
    row("covers", {
        let rows = library.coverage.family.iter().flat_map(|family| {
            let link = anchor(&family.title);
            family
                .row
                .iter()
                .filter(|row| values(&spec.covers).any(|covered| covered == row.id))
                .map(move |row| {
                    format!("[{}](../coverage.md#{link}) {}", row.id, inline(&row.title))
                })
        });
        rows.collect::<Vec<_>>().join("<br>")
    });
    if !spec.guide.is_empty() {
        let link = anchor(&spec.guide);
        row(
            "guide",
            format!("[{}](../guide.md#{link})", inline(&spec.guide)),
        );
    }
    let techniques = values(&spec.attack).map(|id| technique_link(&library.attack, id));
    row("ATT&CK", techniques.collect::<Vec<_>>().join("<br>"));
}

fn needs(spec: &Spec) -> String {
    let categories = codes(values(&spec.requires), "or");
    let admin = values(&spec.requires).any(|category| category == "kube-audit-admin");
    let audit = values(&spec.requires).any(|category| category == "kube-audit");
    match (audit, admin) {
        (true, false) => {
            format!("{categories}: `kube-audit-admin` lacks `get` and `list`, and so some of this")
        }
        _ => categories,
    }
}

fn matches(page: &mut Page, matching: &Match) {
    page.line("Events of which all of this holds:");
    page.line("");
    let owned = |set: &Option<Vec<String>>, empty: &str| {
        set.as_ref().map(|set| {
            let names = set
                .iter()
                .map(|name| if name.is_empty() { empty } else { name });
            codes(names, "or")
        })
    };
    for (name, set) in [
        ("API group", owned(&matching.groups, "(core)")),
        ("resource", owned(&matching.resources, "(none)")),
        ("subresource", owned(&matching.subresources, "(none)")),
        ("verb", owned(&matching.verbs, "(none)")),
        (
            "stage",
            matching
                .stages
                .as_ref()
                .map(|stages| codes(values(stages), "or")),
        ),
        (
            "path",
            matching
                .nonresource
                .as_ref()
                .map(|paths| codes(values(paths), "or")),
        ),
    ] {
        if let Some(set) = set {
            page.line(format!("- {name} {set}"));
        }
    }
    for name in values(&matching.facts) {
        page.line(format!("- `{name}`: {}", meaning(name)));
    }
    for name in values(&matching.not) {
        page.line(format!("- **not** `{name}`: {}", meaning(name)));
    }
    if let Some(when) = &matching.when {
        page.line("- and this condition:");
        page.line("");
        page.block("cel", when.get_ref());
    }
}

fn meaning(fact: &str) -> String {
    Fact::parse(fact)
        .map(|fact| inline(fact.info().doc))
        .unwrap_or_default()
}

fn memory(page: &mut Page, spec: &Spec) {
    if let Some(habit) = &spec.habit {
        let of = match (habit.facts.is_empty(), habit.not.is_empty()) {
            (false, false) => format!(
                " Of findings with {} and without {}.",
                codes(values(&habit.facts), "and"),
                codes(values(&habit.not), "or")
            ),
            (false, true) => format!(" Of findings with {}.", codes(values(&habit.facts), "and")),
            (true, false) => format!(" Of findings without {}.", codes(values(&habit.not), "or")),
            (true, true) => String::new(),
        };
        page.line("");
        page.line(format!(
            "Low where the same {} did it on three of the 32 days before.{of}",
            codes(values(&habit.key), "and"),
        ));
    }
    if let Some(first) = &spec.first_seen {
        let first = first.get_ref();
        page.line("");
        let learned = match first.learn.get_ref().as_str() {
            "0s" => "from the start".to_owned(),
            learn => format!("after {} of learning", inline(learn)),
        };
        page.line(format!(
            "Raised when {} show a {} that they never showed before, {learned}.",
            codes(values(&first.key), "and"),
            codes(values(&first.value), "and"),
        ));
        if first.new_key == NewKey::Learn {
            page.line("What appears later is learned as well, in its first day, and is no finding by itself.");
        }
        if !first.teach.is_empty() {
            let verbs = codes(first.teach.iter().map(String::as_str), "and");
            page.line(format!("Events of {verbs} teach, and raise nothing."));
        }
    }
    if let Some(threshold) = &spec.threshold {
        let threshold = threshold.get_ref();
        let what = match &threshold.distinct {
            Some(field) => format!("different values of `{}`", field.get_ref()),
            None => "such events".to_owned(),
        };
        page.line("");
        page.line(format!(
            "Raised at {} {what} within {}, counted by {}.",
            threshold.count,
            inline(threshold.window.get_ref()),
            codes(values(&threshold.key), "and"),
        ));
    }
    if let Some(spike) = &spec.spike {
        let spike = spike.get_ref();
        let what = match &spike.distinct {
            Some(field) => format!("different values of `{}`", field.get_ref()),
            None => "such events".to_owned(),
        };
        page.line("");
        page.line(format!(
            "Raised at {} {what} within {}, counted by {}; at more where so many are usual for these, after {} of learning; at {} in any case.",
            spike.count,
            inline(spike.window.get_ref()),
            codes(values(&spike.key), "and"),
            inline(spike.learn.get_ref()),
            spike.limit,
        ));
        if !spike.new_to.is_empty() {
            page.line(format!(
                "Of the values, {} must be such as were never seen before with the same {}.",
                spike.count,
                codes(values(&spike.new_to), "and"),
            ));
        }
    }
    if let Some(sequence) = &spec.sequence {
        steps(page, sequence.get_ref());
    }
    if let Some(reuse) = &spec.reuse {
        page.line(format!(
            "Two requests of one cluster that have the same audit ID, the second within {} of the first, both of which other detectors want. The alert is of the one that comes second.",
            inline(reuse.get_ref().within.get_ref())
        ));
    }
    if let Some(absence) = &spec.absence {
        let absence = absence.get_ref();
        let after = inline(absence.after.get_ref());
        page.line(match absence.of.get_ref().as_str() {
            "network-policy" => format!("A namespace that was seen being made, or whose last network policy was seen being deleted, and that has had none for {after}."),
            "category" => format!("A category of a cluster that came steadily and has not come for {after}, while others of the cluster go on; and that `kube-audit` never came in {after} of others."),
            _ => format!("A cluster whose records came steadily and of which nothing has come for {after}."),
        });
        page.line("");
        page.line(format!("Steadily is without a pause of a third of that time, for at least {after}. `run` judges it by the clock, `replay` by the next record."));
    }
}

fn steps(page: &mut Page, sequence: &Sequence) {
    page.line(format!(
        "Findings of other detectors, one after the other within {}, joined by {}:",
        inline(sequence.within.get_ref()),
        codes(values(&sequence.key), "and"),
    ));
    page.line("");
    for (number, step) in (1..).zip(&sequence.step) {
        let step = step.get_ref();
        let links = values(&step.detectors).map(|id| format!("[`{id}`]({id}.md)"));
        let mut line = format!("{number}. {}", links.collect::<Vec<_>>().join(" or "));
        for name in values(&step.facts) {
            write!(line, ", with `{name}` ({})", meaning(name)).expect("a String takes any text");
        }
        for name in values(&step.not) {
            write!(line, ", without `{name}` ({})", meaning(name))
                .expect("a String takes any text");
        }
        if let Some(key) = &step.key {
            let key = codes(values(key.get_ref()), "and");
            write!(line, ", joined by its {key}").expect("a String takes any text");
        }
        page.line(line);
    }
    page.line("");
    page.line("What an exception covers is no step; what no profile notifies of is.");
}

fn severity(page: &mut Page, spec: &Spec) {
    if spec.raise.is_empty() && spec.lower.is_empty() {
        return;
    }
    page.heading("How grave it is");
    page.line(format!("{}, unless more is known:", spec.severity));
    page.line("");
    let where_all = |raise: &Raise| {
        let facts = values(&raise.facts).map(|name| format!("`{name}` ({})", meaning(name)));
        let not = values(&raise.not).map(|name| format!("not `{name}` ({})", meaning(name)));
        facts.chain(not).collect::<Vec<_>>().join(" and ")
    };
    for raise in &spec.raise {
        page.line(format!(
            "- **{}** where {}",
            raise.severity,
            where_all(raise)
        ));
    }
    for lower in &spec.lower {
        page.line(format!(
            "- no more than **{}** where {}",
            lower.severity,
            where_all(lower)
        ));
    }
}

fn tuning(page: &mut Page, spec: &Spec) {
    let mut keys = format!(
        "[detectors.{}]\nenabled = true\nseverity = \"{}\"\n",
        spec.id.get_ref(),
        spec.severity
    );
    let mut key = |name: &str, value: &str| {
        writeln!(keys, "{name} = {value}").expect("a String takes any text");
    };
    if let Some(threshold) = &spec.threshold {
        let threshold = threshold.get_ref();
        key("count", &threshold.count.to_string());
        key("window", &format!("{:?}", threshold.window.get_ref()));
    }
    if let Some(spike) = &spec.spike {
        let spike = spike.get_ref();
        key("count", &spike.count.to_string());
        key("limit", &spike.limit.to_string());
        key("window", &format!("{:?}", spike.window.get_ref()));
        key("learn", &format!("{:?}", spike.learn.get_ref()));
    }
    if let Some(first) = &spec.first_seen {
        key("learn", &format!("{:?}", first.get_ref().learn.get_ref()));
    }
    key(
        "quiet-for",
        &format!("{:?}", spec.alert.quiet_for.get_ref()),
    );
    page.line("In a site's configuration, with the values that it has by itself:");
    page.line("");
    page.block("toml", &keys);
    let lists = lists(spec);
    if !lists.is_empty() {
        page.line("");
        page.line(format!(
            "It reads {} in `[lists]`.",
            codes(lists.iter().map(String::as_str), "and")
        ));
    }
    page.line("");
    page.line("What is expected here is an [exception](../../README.md#exceptions).");
}

/// The lists of the configuration that the detector's facts say they read.
fn lists(spec: &Spec) -> Vec<String> {
    let defaults: toml::Table = DEFAULT
        .parse()
        .expect("the embedded defaults are loaded at every start");
    let names = defaults["lists"]
        .as_table()
        .expect("the defaults have [lists]")
        .keys();
    let raised = spec
        .raise
        .iter()
        .flat_map(|raise| values(&raise.facts).chain(values(&raise.not)));
    let matched = spec
        .matching
        .iter()
        .flat_map(|matching| values(&matching.facts).chain(values(&matching.not)));
    let texts: Vec<String> = matched.chain(raised).map(meaning).collect();
    names
        .filter(|name| texts.iter().any(|text| text.contains(name.as_str())))
        .cloned()
        .collect()
}
