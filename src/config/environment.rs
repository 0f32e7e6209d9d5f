//! Overrides by environment variables: `LANNER__STORE__PATH` sets `path` in `[store]`.
//!
//! `__` parts keys, `_` stands for `-`, case makes no difference. Variables are applied over the
//! file before anything is deserialised, as strings; [`retyped`] gives what else a string may mean
//! where the key wants another type.

use super::diagnose::Diagnostic;
use super::place::{Path, Places, Segment};

pub(super) const PREFIX: &str = "LANNER__";

/// The process's variables with the prefix; errors for those that are not UTF-8.
pub(super) fn of_process() -> (Vec<(String, String)>, Vec<Diagnostic>) {
    let mut variables = Vec::new();
    let mut errors = Vec::new();
    for (name, value) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if !name.starts_with(PREFIX) {
            continue;
        }
        match value.into_string() {
            Ok(value) => variables.push((name, value)),
            Err(_) => errors.push(Diagnostic::new(
                name,
                "",
                "the variable's value is not UTF-8",
                None,
            )),
        }
    }
    variables.sort();
    (variables, errors)
}

/// Sets in `merged` what the variables say, and notes in `places` who set it.
pub(super) fn apply(
    variables: &[(String, String)],
    merged: &mut toml::Value,
    places: &mut Places,
    diagnostics: &mut Vec<Diagnostic>,
) {
    for (name, text) in variables {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let parts: Vec<&str> = rest.split("__").collect();
        if parts.iter().any(|part| part.is_empty()) {
            diagnostics.push(Diagnostic::new(
                name,
                "",
                "the variable names no key",
                Some(format!(
                    "write {PREFIX}SECTION__KEY, as {PREFIX}STORE__PATH"
                )),
            ));
            continue;
        }
        if text.is_empty() {
            let ignored = Diagnostic::new(
                name,
                "",
                "the variable is empty and was ignored",
                Some("unset it".to_owned()),
            );
            diagnostics.push(ignored.warning());
            continue;
        }
        match set(&parts, text, merged) {
            Ok(path) => {
                drop_counterpart(&path, merged, places);
                places.set_by_variable(path, name.clone());
            }
            Err(path) => diagnostics.push(Diagnostic::new(
                name,
                path.to_string(),
                format!("`{path}` is no table, so it holds no keys that a variable could set"),
                None,
            )),
        }
    }
}

/// Sets a string; gives the path of what is in the way if that is no table.
fn set(parts: &[&str], text: &str, merged: &mut toml::Value) -> Result<Path, Path> {
    let mut path = Path::default();
    let mut value = merged;
    for part in parts {
        let toml::Value::Table(table) = value else {
            return Err(path);
        };
        let key = existing_key(table, part);
        path = path.key(&key);
        value = table
            .entry(key)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()));
    }
    *value = toml::Value::String(text.to_owned());
    Ok(path)
}

fn existing_key(table: &toml::Table, part: &str) -> String {
    let plain = part.to_lowercase().replace('_', "-");
    table
        .keys()
        .find(|key| key.to_lowercase().replace('_', "-") == plain)
        .cloned()
        .unwrap_or(plain)
}

/// A variable for `x` outweighs `x-file` of the file, and the reverse; two variables contradict
/// each other and are left for the error that says so.
fn drop_counterpart(path: &Path, merged: &mut toml::Value, places: &Places) {
    let Some(Segment::Key(key)) = path.0.last() else {
        return;
    };
    let other = match key.strip_suffix("-file") {
        Some(stem) => stem.to_owned(),
        None => format!("{key}-file"),
    };
    let other = path.parent().key(&other);
    if places.variable(&other).is_none() {
        other.remove(merged);
    }
}

/// What a variable's text is where its key wants no string: a TOML value, or a comma-separated list.
pub(super) fn retyped(text: &str, wants_list: bool) -> Option<toml::Value> {
    let parsed = format!("value = {text}")
        .parse::<toml::Table>()
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"));
    match parsed {
        Some(toml::Value::String(_)) | None if wants_list => {
            let items = text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty());
            let items = items.map(|item| toml::Value::String(item.to_owned()));
            Some(toml::Value::Array(items.collect()))
        }
        Some(toml::Value::String(_)) | None => None,
        value => value,
    }
}
