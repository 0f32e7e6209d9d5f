//! The documents say what the program does: generated ones are up to date, links lead somewhere, the
//! README's configurations load, and alerts have the shape of their schema.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use lanner::config::diagnose::Level;
use lanner::config::load_text;
use lanner::detect::docs::{self, Library};
use lanner::detect::{Detector, load};
use regex::Regex;
use serde_json::Value;

const UPDATE: &str = "run `cargo run -- detectors docs`";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shipped() -> Vec<Detector> {
    load::load(&load::shipped(), &[]).expect("the shipped detectors load")
}

#[test]
fn generated_documents_are_up_to_date() {
    let folder = root().join("docs");
    let library = match Library::read(&folder, &load::shipped()) {
        Ok(library) => library,
        Err(problems) => panic!("{problems}"),
    };
    let documents = library.documents();
    let stale: Vec<&String> = documents
        .iter()
        .filter(|(path, text)| fs::read_to_string(folder.join(path)).ok().as_ref() != Some(text))
        .map(|(path, _)| path)
        .collect();
    assert!(stale.is_empty(), "not up to date, {UPDATE}: {stale:?}");
    let strangers = docs::strangers(&folder, &documents).expect("the folder can be read");
    assert!(
        strangers.is_empty(),
        "of no detector, {UPDATE}: {strangers:?}"
    );
}

/// Reads the table as a person does, and not by the code that wrote it.
#[test]
fn the_coverage_table_names_what_detectors_cover() {
    let line = Regex::new(r"^\| ([A-Z0-9]+-[0-9]+)(?: ◷)? \| .+? \| (.*) \|$").expect("a pattern");
    let name = Regex::new(r"\[`([a-z0-9-]+)`\]").expect("a pattern");
    let mut told: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for text in read("docs/coverage.md").lines() {
        if let Some(row) = line.captures(text) {
            let names = name.captures_iter(&row[2]).map(|name| name[1].to_owned());
            let before = told.insert(row[1].to_owned(), names.collect());
            assert!(before.is_none(), "{} is there twice", &row[1]);
        }
    }
    let mut covered: BTreeMap<String, BTreeSet<String>> = told
        .keys()
        .map(|row| (row.clone(), BTreeSet::new()))
        .collect();
    for detector in shipped() {
        for row in detector.covers {
            let names = covered
                .get_mut(&row)
                .unwrap_or_else(|| panic!("{} covers {row}, which is no row", detector.id));
            names.insert(detector.id.clone());
        }
    }
    assert_eq!(told, covered);
    assert!(told.len() >= 156, "{} rows", told.len());
}

/// Every Markdown file of the project that a reader may open.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = [
        "README.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "detectors/README.md",
    ]
    .iter()
    .map(PathBuf::from)
    .collect();
    for folder in ["docs", "docs/detectors"] {
        for entry in fs::read_dir(root().join(folder)).expect("the folder is there") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|ext| ext == "md") {
                pages.push(
                    path.strip_prefix(root())
                        .expect("below the root")
                        .to_owned(),
                );
            }
        }
    }
    pages
}

/// The anchors that GitHub gives a page's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let link = Regex::new(r"\[([^\]]*)\]\([^)]*\)").expect("a pattern");
    text.lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|line| {
            let heading = link
                .replace_all(line.trim_start_matches('#').trim(), "$1")
                .to_lowercase();
            heading
                .chars()
                .filter_map(|c| match c {
                    ' ' => Some('-'),
                    c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
                    _ => None,
                })
                .collect()
        })
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").expect("a pattern");
    let mut broken = Vec::new();
    let mut checked = 0;
    for page in pages() {
        let text = read(&page);
        for target in link.captures_iter(&text).map(|link| link[1].to_owned()) {
            if target.contains("://") {
                continue;
            }
            checked += 1;
            let (path, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = match path {
                "" => page.clone(),
                _ => page.parent().expect("a file has a folder").join(path),
            };
            if !root().join(&file).exists() {
                broken.push(format!("{}: {target}", page.display()));
            } else if !anchor.is_empty() && !anchors(&read(&file)).contains(anchor) {
                broken.push(format!("{}: {target}: no such heading", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(checked > 100, "only {checked} links were found");
}

/// The blocks of a page that are marked as being of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}");
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line == fence {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(block.join("\n") + "\n");
        }
    }
    blocks
}

#[test]
fn configurations_in_the_readme_load() {
    let secrets = tempfile::tempdir().expect("a folder");
    for (name, text) in [
        ("soc", "whsec_bGFubmVyLWxhbm5lci1sYW5uZXItbGFubmVyLWxhbm4="),
        ("smtp", "a password"),
    ] {
        fs::write(secrets.path().join(name), text).expect("a file");
    }
    let ids: Vec<String> = shipped().into_iter().map(|detector| detector.id).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let examples = blocks(&read("README.md"), "toml");
    assert!(
        examples.len() >= 5,
        "{} examples were found",
        examples.len()
    );
    for example in examples {
        let text = example.replace("/run/secrets", &secrets.path().display().to_string());
        let problems = match load_text("README.md", &text, &[]) {
            Ok(loaded) => loaded.check_detectors(&ids),
            Err(problems) => problems,
        };
        let errors: Vec<String> = problems
            .iter()
            .filter(|problem| problem.level == Level::Error)
            .map(ToString::to_string)
            .collect();
        assert!(
            errors.is_empty(),
            "{}\n\nin\n{example}",
            errors.join("\n\n")
        );
    }
}

/// What the schema finds wrong with a value. Knows the keywords that the schema uses, refuses
/// others, and takes keys that the schema does not name as wrong: the schema is to name them all.
fn violations(schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    for (keyword, rule) in schema.as_object().expect("a schema is an object") {
        let holds = match keyword.as_str() {
            "$schema" | "title" | "description" => true,
            "type" => {
                let types = rule
                    .as_array()
                    .map_or(vec![rule], |types| types.iter().collect());
                types.iter().any(|name| match name.as_str() {
                    Some("object") => value.is_object(),
                    Some("array") => value.is_array(),
                    Some("string") => value.is_string(),
                    Some("integer") => value.is_i64() || value.is_u64(),
                    Some("null") => value.is_null(),
                    other => panic!("type {other:?} is not known here"),
                })
            }
            "const" => value == rule,
            "enum" => rule.as_array().expect("a list").contains(value),
            "pattern" => value.as_str().is_none_or(|text| {
                Regex::new(rule.as_str().expect("text"))
                    .expect("a pattern")
                    .is_match(text)
            }),
            "format" => value
                .as_str()
                .is_none_or(|text| text.parse::<jiff::Timestamp>().is_ok()),
            "minimum" => value
                .as_i64()
                .is_none_or(|number| number >= rule.as_i64().expect("a number")),
            "required" => {
                let names = rule.as_array().expect("a list").iter();
                names
                    .into_iter()
                    .all(|name| value.get(name.as_str().expect("a name")).is_some())
            }
            "properties" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    match rule.get(name) {
                        Some(rule) => violations(rule, value, &format!("{at}.{name}"), found),
                        None => found.push(format!("{at}.{name}: not in the schema")),
                    }
                }
                true
            }
            "items" => {
                for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                    violations(rule, value, &format!("{at}[{index}]"), found);
                }
                true
            }
            other => panic!("keyword `{other}` is not known here"),
        };
        if !holds {
            found.push(format!("{at}: {keyword} {rule}: {value}"));
        }
    }
}

/// Alerts, or matches with `--each`, of the fixtures.
fn replayed(arguments: &[&str]) -> Vec<Value> {
    let output = Command::cargo_bin("lanner")
        .expect("the program is built")
        .current_dir(root())
        .args(["replay", "--format", "ndjson"])
        .args(arguments)
        .arg("tests/fixtures/envelopes")
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn alerts_have_the_shape_of_their_schema() {
    let schema: Value = serde_json::from_str(&read("docs/alert.schema.json")).expect("JSON");
    let mut values = replayed(&[]);
    assert!(values.len() > 3, "{} alerts", values.len());
    for mut each in replayed(&["--each", "--profile", "all"]) {
        let keys = each.as_object_mut().expect("an object");
        for more in ["outcome", "covers"] {
            assert!(keys.remove(more).is_some(), "no `{more}` with --each");
        }
        values.push(each);
    }
    for value in &values {
        let mut found = Vec::new();
        violations(&schema, value, "alert", &mut found);
        assert!(found.is_empty(), "{found:#?}");
    }
}

#[test]
fn the_schema_refuses_what_is_no_alert() {
    let schema: Value = serde_json::from_str(&read("docs/alert.schema.json")).expect("JSON");
    let alert = replayed(&[]).swap_remove(0);
    let wrong = |change: fn(&mut Value)| {
        let mut alert = alert.clone();
        change(&mut alert);
        let mut found = Vec::new();
        violations(&schema, &alert, "alert", &mut found);
        assert_eq!(found.len(), 1, "{found:#?}");
    };
    wrong(|alert| alert["schema"] = "lanner/alert/v2".into());
    wrong(|alert| alert["severity"] = "grave".into());
    wrong(|alert| alert["count"] = 0.into());
    wrong(|alert| alert["first_seen"] = "yesterday".into());
    wrong(|alert| alert["actor"]["groups"] = "all".into());
    wrong(|alert| alert["evidence"][0]["more"] = true.into());
    wrong(|alert| drop(alert.as_object_mut().map(|keys| keys.remove("id"))));
}

/// Every row of the table of faults names tests, and these exist.
#[test]
fn tests_that_the_reliability_table_names_exist() {
    let name = Regex::new(r"`([^`]+)`").expect("a pattern");
    let mut wrong = Vec::new();
    let mut rows = 0;
    for line in read("docs/reliability.md").lines() {
        let Some(row) = line.strip_prefix("| ").and_then(|l| l.strip_suffix('|')) else {
            continue;
        };
        let cells: Vec<&str> = row.split(" | ").map(str::trim).collect();
        if cells[0] == "fault" {
            continue;
        }
        rows += 1;
        let &[_, _, tests, _] = cells.as_slice() else {
            wrong.push(format!("not four cells: {line}"));
            continue;
        };
        let mut named = name.captures_iter(tests).map(|name| name[1].to_owned());
        let mut any = false;
        for test in named.by_ref() {
            any = true;
            let (file, function) = test.split_once("::").unwrap_or((&test, ""));
            let text = fs::read_to_string(root().join(file)).unwrap_or_default();
            if text.is_empty() || !function.is_empty() && !text.contains(&format!("fn {function}("))
            {
                wrong.push(format!("there is no {test}"));
            }
        }
        if !any {
            wrong.push(format!("names no test: {line}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(rows >= 10, "{rows} rows were found");
}
