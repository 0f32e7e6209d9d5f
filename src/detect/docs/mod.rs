//! The library as documents: coverage table, hardening guide, and a page for each detector.
//!
//! In come the detectors' files and, from the folder of the documents, `coverage.toml`, `guide.toml`
//! and `attack.toml`; out go the Markdown files that `lanner detectors docs` writes there. What a
//! detector's file says of itself is the only place where it is said.

mod page;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::spec::Spec;
use crate::detect::load::Source;

/// `coverage.toml`: what is to be noticed, in families.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coverage {
    pub family: Vec<Family>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Family {
    pub title: String,
    pub intro: String,
    pub row: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// As `covers` in detectors' files names it.
    pub id: String,
    pub title: String,
    /// A section of `guide.toml`; empty where the guide has none.
    #[serde(default)]
    pub guide: String,
    /// It takes memory of earlier events.
    #[serde(default)]
    pub stateful: bool,
    /// What a row without a detector needs that is not built.
    pub waits: Option<String>,
    /// Why the audit log cannot show it.
    pub reason: Option<String>,
}

/// `guide.toml`: the hardening guide, section by section.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guide {
    pub section: Vec<Section>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    pub chapter: String,
    /// As `guide` in detectors' files names it.
    pub title: String,
    pub asks: String,
    pub notices: String,
    pub cannot: String,
    /// Rows of other sections that belong here too.
    #[serde(default)]
    pub also: Vec<String>,
}

/// `attack.toml`: names of ATT&CK techniques; one that is not there stands as its id alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attack {
    pub techniques: BTreeMap<String, String>,
}

/// Everything that the documents are made of, checked against each other.
#[derive(Debug)]
pub struct Library {
    coverage: Coverage,
    guide: Guide,
    attack: Attack,
    /// In the order of their ids.
    detectors: Vec<Spec>,
}

impl Library {
    /// Reads `folder`'s sources, and `sources`, which [`super::load::load`] has accepted. The error
    /// lists everything that does not fit together, one a line.
    pub fn read(folder: &Path, sources: &[Source]) -> Result<Library, String> {
        let mut detectors = Vec::new();
        for source in sources {
            let spec: Spec = toml::from_str(&source.text)
                .map_err(|error| format!("{}: {error}", source.file))?;
            detectors.push(spec);
        }
        detectors.sort_by(|a, b| a.id.get_ref().cmp(b.id.get_ref()));
        let library = Library {
            coverage: table(folder, "coverage.toml")?,
            guide: table(folder, "guide.toml")?,
            attack: table(folder, "attack.toml")?,
            detectors,
        };
        let problems = library.problems();
        if problems.is_empty() {
            Ok(library)
        } else {
            Err(problems.join("\n"))
        }
    }

    /// The documents: path below the folder, and text.
    pub fn documents(&self) -> BTreeMap<String, String> {
        let mut documents = BTreeMap::from([
            ("coverage.md".to_owned(), tables::coverage(self)),
            ("guide.md".to_owned(), tables::guide(self)),
            ("detectors/README.md".to_owned(), tables::index(self)),
        ]);
        for spec in &self.detectors {
            documents.insert(
                format!("detectors/{}.md", spec.id.get_ref()),
                page::of(self, spec),
            );
        }
        documents
    }

    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.coverage.family.iter().flat_map(|family| &family.row)
    }

    /// The detectors that cover a row.
    fn covering<'l>(&'l self, row: &'l str) -> impl Iterator<Item = &'l Spec> {
        self.detectors
            .iter()
            .filter(move |spec| values(&spec.covers).any(|covered| covered == row))
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let sections: BTreeSet<&str> = self.guide.section.iter().map(|s| &*s.title).collect();
        let mut rows = BTreeSet::new();
        for row in self.rows() {
            if !rows.insert(&*row.id) {
                problems.push(format!("coverage.toml: `{}` is there twice", row.id));
            }
            if !row.guide.is_empty() && !sections.contains(&*row.guide) {
                problems.push(format!(
                    "coverage.toml: {}: `{}` is no section of guide.toml",
                    row.id, row.guide
                ));
            }
            let excuses = usize::from(row.waits.is_some()) + usize::from(row.reason.is_some());
            match (self.covering(&row.id).next(), excuses) {
                (None, 1) | (Some(_), 0) => {}
                (None, _) => problems.push(format!(
                    "coverage.toml: {}: no detector covers it; say either `waits` or `reason`",
                    row.id
                )),
                (Some(spec), _) => problems.push(format!(
                    "coverage.toml: {}: `{}` covers it; remove `waits` and `reason`",
                    row.id,
                    spec.id.get_ref()
                )),
            }
        }
        for section in &self.guide.section {
            for row in section.also.iter().filter(|row| !rows.contains(&***row)) {
                problems.push(format!("guide.toml: {}: no row `{row}`", section.title));
            }
        }
        for spec in &self.detectors {
            let id = spec.id.get_ref();
            for row in values(&spec.covers).filter(|row| !rows.contains(row)) {
                problems.push(format!("{id}: covers `{row}`, no row of coverage.toml"));
            }
            if !spec.guide.is_empty() && !sections.contains(&*spec.guide) {
                problems.push(format!(
                    "{id}: `{}` is no section of guide.toml",
                    spec.guide
                ));
            }
        }
        problems
    }
}

/// Writes the documents below `folder` and removes pages of detectors that are gone; gives the paths
/// that changed.
pub fn write(folder: &Path, documents: &BTreeMap<String, String>) -> io::Result<Vec<String>> {
    let mut changed = Vec::new();
    fs::create_dir_all(folder.join("detectors"))?;
    for (path, text) in documents {
        let file = folder.join(path);
        if fs::read_to_string(&file).is_ok_and(|present| present == *text) {
            continue;
        }
        fs::write(&file, text)?;
        changed.push(path.clone());
    }
    for path in strangers(folder, documents)? {
        fs::remove_file(folder.join(&path))?;
        changed.push(path);
    }
    Ok(changed)
}

/// Pages in the folder of detectors that no detector has.
pub fn strangers(folder: &Path, documents: &BTreeMap<String, String>) -> io::Result<Vec<String>> {
    let mut strangers = Vec::new();
    for entry in fs::read_dir(folder.join("detectors"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let path = format!("detectors/{name}");
        if name.ends_with(".md") && !documents.contains_key(&path) {
            strangers.push(path);
        }
    }
    strangers.sort();
    Ok(strangers)
}

fn table<T: for<'de> Deserialize<'de>>(folder: &Path, name: &str) -> Result<T, String> {
    let path = folder.join(name);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn values(list: &[Spanned<String>]) -> impl Iterator<Item = &str> {
    list.iter().map(|item| item.get_ref().as_str())
}

/// Text for Markdown, on one line: what would be markup is escaped, except in code spans.
fn inline(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut out = String::with_capacity(line.len());
    let mut code = false;
    for character in line.chars() {
        match character {
            '`' => {
                code = !code;
                out.push('`');
            }
            '|' => out.push_str("\\|"),
            '*' | '[' | ']' if !code => {
                out.push('\\');
                out.push(character);
            }
            '<' if !code => out.push_str("&lt;"),
            '>' if !code => out.push_str("&gt;"),
            _ => out.push(character),
        }
    }
    out
}

/// `` `a`, `b` and `c` ``, or what `join` says in place of "and".
fn codes<'t>(items: impl IntoIterator<Item = &'t str>, join: &str) -> String {
    let items: Vec<String> = items.into_iter().map(|item| format!("`{item}`")).collect();
    match items.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} {join} {last}", rest.join(", ")),
    }
}

/// A technique's page at MITRE.
fn technique_link(attack: &Attack, id: &str) -> String {
    let url = format!(
        "https://attack.mitre.org/techniques/{}/",
        id.replace('.', "/")
    );
    match attack.techniques.get(id) {
        Some(name) => format!("[{id}]({url}) {}", inline(name)),
        None => format!("[{id}]({url})"),
    }
}

/// What GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{anchor, codes, inline};

    #[test]
    fn markup_is_escaped_outside_of_code() {
        assert_eq!(
            inline("a *  b <c> | `d*<e>`\n f"),
            "a \\* b &lt;c&gt; \\| `d*<e>` f"
        );
    }

    #[test]
    fn lists_read_like_sentences() {
        assert_eq!(codes(["a"], "or"), "`a`");
        assert_eq!(codes(["a", "b", "c"], "or"), "`a`, `b` or `c`");
    }

    #[test]
    fn anchors_are_those_of_github() {
        assert_eq!(anchor("Namespaces!"), "namespaces");
        assert_eq!(anchor("Limit Node SSH Access"), "limit-node-ssh-access");
    }
}
