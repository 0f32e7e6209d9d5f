//! The documents over all detectors: coverage, guide and index.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Library, Row, Section, inline, technique_link, values};
use crate::alert::Kind;
use crate::detect::spec::Spec;
use crate::detect::techniques;

const MARK: &str = "<!-- Written by `lanner detectors docs`; change the sources that it names. -->";

/// Text of `coverage.md`.
pub fn coverage(library: &Library) -> String {
    let rows = library.rows().count();
    let covered = library
        .rows()
        .filter(|row| library.covering(&row.id).next().is_some())
        .count();
    let hygiene = library
        .rows()
        .filter(|row| {
            let mut covering = library.covering(&row.id).peekable();
            covering.peek().is_some() && covering.all(|spec| spec.kind == Kind::Hygiene)
        })
        .count();
    let waiting = library.rows().filter(|row| row.waits.is_some()).count();
    let mut out = format!(
        "{MARK}\n\n# Coverage\n\n\
         What Lanner sets out to notice in the audit log, and by which detector it does. {rows} rows: \
         {covered} covered by {} detectors, {waiting} that wait for something that is not built, {} \
         that the audit log cannot show.\n\n\
         Rows come from coverage.toml, detectors from `covers` in their files, where every covered \
         row has a test that alerts. ◷ marks rows that need memory of earlier events, ○ detectors of \
         hygiene, which run with `--profile all` only; {hygiene} rows have no other.\n",
        library.detectors.len(),
        rows - covered - waiting,
    );
    let mut open = Vec::new();
    for family in &library.coverage.family {
        write!(
            out,
            "\n## {}\n\n{}\n\n| row | what happens | detectors |\n|---|---|---|\n",
            inline(&family.title),
            inline(&family.intro)
        )
        .expect("a String takes any text");
        for row in &family.row {
            let mark = if row.stateful { " ◷" } else { "" };
            out.push_str(&format!(
                "| {}{mark} | {} | {} |\n",
                row.id,
                inline(&row.title),
                answer(library, row)
            ));
            if row.waits.is_some() || row.reason.is_some() {
                open.push(row);
            }
        }
    }
    out.push_str("\n## What is not covered\n\n");
    for row in open {
        let (word, text) = match (&row.waits, &row.reason) {
            (Some(waits), _) => ("waits for", waits),
            (None, Some(reason)) => ("not in the audit log:", reason),
            (None, None) => unreachable!("only rows with one of the two were taken"),
        };
        out.push_str(&format!(
            "- **{}** {} — {word} {}\n",
            row.id,
            inline(&row.title),
            inline(text)
        ));
    }
    out
}

fn answer(library: &Library, row: &Row) -> String {
    let links: Vec<String> = library
        .covering(&row.id)
        .map(|spec| match spec.kind {
            Kind::Hygiene => format!("{} ○", link(spec, "detectors/")),
            Kind::Threat | Kind::Change => link(spec, "detectors/"),
        })
        .collect();
    match (&row.waits, &row.reason) {
        (Some(waits), _) => format!("*waits for {}*", inline(waits)),
        (None, Some(reason)) => format!("*not shown:* {}", inline(reason)),
        (None, None) => links.join("<br>"),
    }
}

/// Text of `guide.md`.
pub fn guide(library: &Library) -> String {
    let mut out = format!(
        "{MARK}\n\n# The hardening guide, section by section\n\n\
         Lanner was made from a guide: StackRox's *Definitive Guide to Azure Kubernetes Service (AKS) \
         Security*, of 2020. It tells how a cluster ought to be built. Lanner tells when a cluster \
         departs from it, as far as the API server's audit log shows it. This goes through the \
         guide's sections: what each asks for in short, what Lanner notices, and what it cannot, \
         because no audit log holds it.\n"
    );
    let mut chapter = "";
    for section in &library.guide.section {
        if section.chapter != chapter {
            chapter = &section.chapter;
            write!(out, "\n## {}\n", inline(chapter)).expect("a String takes any text");
        }
        write!(
            out,
            "\n### {}\n\n**The guide asks:** {}\n\n**Lanner notices:** {}\n\n**It cannot see:** {}\n\n",
            inline(&section.title),
            inline(&section.asks),
            inline(&section.notices),
            inline(&section.cannot),
        )
        .expect("a String takes any text");
        out.push_str(&section_table(library, section));
    }
    out
}

fn section_table(library: &Library, section: &Section) -> String {
    let mut out = String::from("| row | what happens | detectors |\n|---|---|---|\n");
    let mut named = Vec::new();
    let here = |row: &&Row| row.guide == section.title || section.also.contains(&row.id);
    for row in library.rows().filter(here) {
        named.extend(library.covering(&row.id).map(|spec| spec.id.get_ref()));
        out.push_str(&format!(
            "| {} | {} | {} |\n",
            row.id,
            inline(&row.title),
            answer(library, row)
        ));
    }
    let others: Vec<String> = library
        .detectors
        .iter()
        .filter(|spec| spec.guide == section.title && !named.contains(&spec.id.get_ref()))
        .map(|spec| link(spec, "detectors/"))
        .collect();
    if !others.is_empty() {
        out.push_str(&format!(
            "| | also of this section | {} |\n",
            others.join("<br>")
        ));
    }
    out
}

/// Text of `detectors/README.md`.
pub fn index(library: &Library) -> String {
    let mut out = format!(
        "{MARK}\n\n# The detectors\n\n\
         {} detectors, [by family](#by-family), [by section of the hardening guide]\
         (#by-section-of-the-guide) and [by ATT&CK technique](#by-attck-technique). A detector that \
         covers several rows stands in several places. How one is written: \
         [detectors/README.md](../../detectors/README.md).\n\n## By family\n",
        library.detectors.len()
    );
    for family in &library.coverage.family {
        let of_family = library
            .detectors
            .iter()
            .filter(|spec| values(&spec.covers).any(|row| family.row.iter().any(|r| r.id == row)));
        list(&mut out, &inline(&family.title), of_family);
    }
    out.push_str("\n## By section of the guide\n");
    for section in &library.guide.section {
        let of_section = library
            .detectors
            .iter()
            .filter(|spec| spec.guide == section.title);
        list(&mut out, &inline(&section.title), of_section);
    }
    let elsewhere = library
        .detectors
        .iter()
        .filter(|spec| spec.guide.is_empty());
    list(&mut out, "Of no section", elsewhere);

    let mut by_technique: BTreeMap<&str, Vec<&Spec>> = BTreeMap::new();
    for spec in &library.detectors {
        for id in values(&spec.attack) {
            by_technique.entry(id).or_default().push(spec);
        }
    }
    write!(
        out,
        "\n## By ATT&CK technique\n\nAs of ATT&CK {}.\n",
        techniques::VERSION
    )
    .expect("a String takes any text");
    for (id, specs) in by_technique {
        list(&mut out, &technique_link(&library.attack, id), specs);
    }
    out
}

fn list<'l>(out: &mut String, heading: &str, specs: impl IntoIterator<Item = &'l Spec>) {
    let mut specs = specs.into_iter().peekable();
    if specs.peek().is_none() {
        return;
    }
    out.push_str(&format!("\n### {heading}\n\n"));
    for spec in specs {
        out.push_str(&format!(
            "- {} {} ({}, {})\n",
            link(spec, ""),
            inline(&spec.title),
            spec.kind.as_str(),
            spec.severity
        ));
    }
}

fn link(spec: &Spec, folder: &str) -> String {
    let id = spec.id.get_ref();
    format!("[`{id}`]({folder}{id}.md)")
}
