//! Loads the configuration: defaults, then the file, then the environment; all errors in one go.
//!
//! The three are merged as values without positions and deserialised section by section. When a key
//! is wrong it is noted with its place ([`super::place`]), replaced by its default, and the section
//! is read again, so that one run finds every error. Nothing of a configuration with errors is used.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Value;
use toml::de::DeTable;

use crate::alert::Severity;
use crate::event::Lists;

use super::diagnose::{Diagnostic, Level, explain, names_secret, suggest};
use super::place::{Part, Path, Places, Segment};
use super::{
    ClusterConfig, Config, DetectorConfig, Period, environment, exception, secret, validate,
};

/// `config/default.toml`: every key, its default and the reason.
pub const DEFAULT: &str = include_str!("../../config/default.toml");

const SECTIONS: [&str; 19] = [
    "detectors-dir",
    "eventhubs",
    "webhook",
    "email",
    "slack",
    "teams",
    "pagerduty",
    "alertmanager",
    "ocsf",
    "eventhubs-output",
    "stdout",
    "store",
    "telemetry",
    "pipeline",
    "alert",
    "lists",
    "cluster",
    "detectors",
    "route",
];

/// A valid configuration and what is remarkable about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: Config,
    pub warnings: Vec<Diagnostic>,
    /// The files that it came from: the configuration and the secrets.
    pub files: Vec<PathBuf>,
    places: Places,
}

impl Loaded {
    /// Errors and warnings about detectors that are named but do not exist. `known` holds the ids
    /// of the shipped detectors and of those in `detectors-dir`.
    pub fn check_detectors(&self, known: &[&str]) -> Vec<Diagnostic> {
        validate::detectors(&self.config, &self.places, known)
    }
}

/// Loads the file, or the defaults alone where there is none, and the process's environment.
pub fn load(path: Option<&FilePath>) -> Result<Loaded, Vec<Diagnostic>> {
    let (variables, mut errors) = environment::of_process();
    let Some(path) = path else {
        return with_errors(load_text("", "", &variables), errors);
    };
    let file = path.display().to_string();
    let text = match std::fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(_)) => {
            errors.push(Diagnostic::new(file, "", "the file is not UTF-8", None));
            return Err(errors);
        }
        Err(error) => {
            let message = format!("the configuration cannot be read: {error}");
            errors.push(Diagnostic::new(file, "", message, None));
            return Err(errors);
        }
    };
    let mut loaded = with_errors(load_text(&file, &text, &variables), errors)?;
    loaded.files.insert(0, path.to_owned());
    Ok(loaded)
}

fn with_errors(
    loaded: Result<Loaded, Vec<Diagnostic>>,
    mut errors: Vec<Diagnostic>,
) -> Result<Loaded, Vec<Diagnostic>> {
    match loaded {
        Ok(loaded) if errors.is_empty() => Ok(loaded),
        Ok(_) => Err(errors),
        Err(more) => {
            errors.extend(more);
            Err(errors)
        }
    }
}

/// Loads `text`, the content of `file`; relative paths in it are relative to the file's folder.
/// Fails with every error and warning found, in the order of the file.
pub fn load_text(
    file: &str,
    text: &str,
    variables: &[(String, String)],
) -> Result<Loaded, Vec<Diagnostic>> {
    let (document, syntax) = DeTable::parse_recoverable(text);
    let merged = text.parse::<toml::Table>();
    if !syntax.is_empty() || merged.is_err() {
        return Err(syntax
            .iter()
            .chain(merged.as_ref().err().filter(|_| syntax.is_empty()))
            .map(|error| Diagnostic::from_toml_error(file, text, error))
            .collect());
    }
    let places = Places::new(file.to_owned(), text, document.get_ref());
    let defaults = Value::Table(DEFAULT.parse().expect("a test loads the embedded defaults"));
    let mut reader = Reader {
        merged: defaults.clone(),
        defaults,
        places,
        folder: FilePath::new(file)
            .parent()
            .unwrap_or(FilePath::new(""))
            .to_owned(),
        files: Vec::new(),
        diagnostics: Vec::new(),
    };
    merge(&mut reader.merged, Value::Table(merged.unwrap_or_default()));
    environment::apply(
        variables,
        &mut reader.merged,
        &mut reader.places,
        &mut reader.diagnostics,
    );
    let config = reader.config();
    let Reader {
        places,
        files,
        mut diagnostics,
        ..
    } = reader;
    if let Some(config) = &config {
        diagnostics.extend(validate::all(config, &places));
    }
    diagnostics.sort_by_key(|d| (d.level, d.line == 0, d.line, d.column, d.file.clone()));
    diagnostics.dedup();
    match config {
        Some(config) if diagnostics.iter().all(|d| d.level == Level::Warning) => Ok(Loaded {
            config,
            warnings: diagnostics,
            files,
            places,
        }),
        _ => Err(diagnostics),
    }
}

/// Tables key by key; anything else, lists among it, is replaced.
fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Table(base), Value::Table(over)) => {
            for (key, value) in over {
                match base.get_mut(&key) {
                    Some(below) => merge(below, value),
                    None => {
                        base.insert(key, value);
                    }
                }
            }
        }
        (base, over) => *base = over,
    }
}

struct Reader {
    merged: Value,
    defaults: Value,
    places: Places,
    /// Of the configuration file.
    folder: PathBuf,
    files: Vec<PathBuf>,
    diagnostics: Vec<Diagnostic>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawCluster {
    arm_id: String,
    #[serde(default)]
    environment: String,
    #[serde(default)]
    private_api: bool,
    #[serde(default)]
    severity_shift: i8,
    #[serde(default)]
    lists: Option<toml::Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawDetector {
    enabled: Option<bool>,
    severity: Option<Severity>,
    count: Option<u64>,
    limit: Option<u64>,
    window: Option<Period>,
    learn: Option<Period>,
    quiet_for: Option<Period>,
    #[serde(default)]
    exception: Vec<toml::Table>,
}

/// The keys of `[cluster.NAME]` and `[detectors.ID]`, for the test of the reference.
#[cfg(test)]
pub(super) fn raw_fields() -> [(&'static str, &'static [&'static str]); 2] {
    [
        ("cluster", super::fields::fields_of::<RawCluster>()),
        ("detectors", super::fields::fields_of::<RawDetector>()),
    ]
}

impl Reader {
    /// `None` where a section is so wrong that there is nothing to validate further.
    fn config(&mut self) -> Option<Config> {
        self.unknown_sections();
        self.absolute(&Path::of(&["detectors-dir"]));
        self.absolute(&Path::of(&["store", "path"]));
        let eventhubs = self.named("eventhubs");
        let deliver = super::Receivers {
            webhook: self.named("webhook"),
            email: self.named("email"),
            slack: self.named("slack"),
            teams: self.named("teams"),
            pagerduty: self.named("pagerduty"),
            alertmanager: self.named("alertmanager"),
            ocsf: self.named("ocsf"),
            eventhubs_output: self.named("eventhubs-output"),
        };
        let stdout = self.section("stdout");
        let store = self.section("store");
        let telemetry = self.section("telemetry");
        let pipeline = self.section("pipeline");
        let alert = self.section("alert");
        let lists = self.section("lists").map(Arc::new);
        let cluster = self.clusters();
        let detectors = self.detectors();
        let route = self.routes();
        let detectors_dir = match Path::of(&["detectors-dir"]).get(&self.merged) {
            None => None,
            Some(_) => self.at::<PathBuf>(&Path::of(&["detectors-dir"])),
        };
        Some(Config {
            eventhubs,
            deliver,
            stdout: stdout?,
            store: store?,
            telemetry: telemetry?,
            pipeline: pipeline?,
            alert: alert?,
            lists: lists?,
            cluster,
            detectors,
            detectors_dir,
            route,
        })
    }

    fn error(&mut self, path: &Path, part: Part, message: &str, help: Option<String>) {
        let error = self.places.error(path, part, message, help);
        self.diagnostics.push(error);
    }

    fn unknown_sections(&mut self) {
        let keys: Vec<String> = match &self.merged {
            Value::Table(table) => table.keys().cloned().collect(),
            _ => Vec::new(),
        };
        for key in keys.iter().filter(|key| !SECTIONS.contains(&key.as_str())) {
            let message = format!("unknown key or section `{key}`");
            let path = Path::of(&[key]);
            let error = self
                .places
                .error(&path, Part::Key, message, suggest(key, SECTIONS));
            self.diagnostics.push(error.hide_rest());
        }
    }

    fn section<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        self.at(&Path::of(&[name]))
    }

    fn at<T: DeserializeOwned>(&mut self, path: &Path) -> Option<T> {
        let value = path.get(&self.merged)?.clone();
        self.read(path, value)
    }

    /// Deserialises `value`, which stands at `path`. Each error is noted, and the wrong key is
    /// replaced by its default, until the rest can be read.
    fn read<T: DeserializeOwned>(&mut self, path: &Path, mut value: Value) -> Option<T> {
        let original = value.clone();
        let mut removed: BTreeSet<Path> = BTreeSet::new();
        loop {
            let error = match serde_path_to_error::deserialize(value.clone()) {
                Ok(section) => return Some(section),
                Err(error) => error,
            };
            let below = Path::from(error.path());
            let text = error.inner().message();
            let full = path.join(&below);
            if let Some(retyped) = self.retype(&full, below.get(&value), text)
                && removed.insert(below.clone())
                && let Some(place) = below.get_mut(&mut value)
            {
                *place = retyped;
                continue;
            }
            if let Some(missing) = text.strip_prefix("missing field `") {
                let missing = below.key(missing.trim_end_matches('`'));
                if !removed.contains(&missing) {
                    let (message, help) = explain(text);
                    self.error(&path.join(&missing), Part::Key, &message, help);
                }
                return None;
            }
            let (wrong, shown) = narrow(&below, text, &value, &original);
            let unknown = text.starts_with("unknown field");
            let (mut message, help) = explain(text);
            if names_secret(full.last_key()) && !unknown {
                message = match message.split_once(", found ") {
                    Some((wanted, _)) => wanted.to_owned(),
                    None => "the secret is malformed".to_owned(),
                };
            }
            let part = if unknown { Part::Key } else { Part::Value };
            let mut diagnostic = self.places.error(&path.join(&shown), part, message, help);
            if unknown {
                diagnostic = diagnostic.hide_rest();
            }
            self.diagnostics.push(diagnostic);
            wrong.remove(&mut value)?;
            removed.insert(wrong.clone());
            let default = path.join(&wrong).get(&self.defaults).cloned();
            if let (Some(default), Some(Segment::Key(key))) = (default, wrong.0.last())
                && let Some(Value::Table(table)) = wrong.parent().get_mut(&mut value)
            {
                table.insert(key.clone(), default);
            }
        }
    }

    /// What the string that a variable set may be instead, where the key wants no string.
    fn retype(&self, path: &Path, value: Option<&Value>, error: &str) -> Option<Value> {
        self.places.variable(path)?;
        if !error.starts_with("invalid type: string") {
            return None;
        }
        environment::retyped(value?.as_str()?, error.ends_with("expected a sequence"))
    }

    /// The entries of a section of named tables, as `[webhook.soc]`: paths of those that are tables.
    fn entries(&mut self, section: &str) -> Vec<(String, Path)> {
        let path = Path::of(&[section]);
        let names: Vec<(String, bool)> = match path.get(&self.merged) {
            None => return Vec::new(),
            Some(Value::Table(table)) => table
                .iter()
                .map(|(name, value)| (name.clone(), value.is_table()))
                .collect(),
            Some(_) => {
                let message = format!("`{section}` holds named tables");
                let help = Some(format!("write [{section}.NAME]"));
                self.error(&path, Part::Key, &message, help);
                return Vec::new();
            }
        };
        let mut entries = Vec::new();
        for (name, is_table) in names {
            let entry = path.key(&name);
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if !is_table {
                let message = format!("`{section}` holds named tables, and `{name}` is none");
                let help = Some(format!("write the key below a header, as [{section}.NAME]"));
                let error = self.places.error(&entry, Part::Key, message, help);
                self.diagnostics.push(error.hide_rest());
            } else if name.is_empty() || name.len() > 63 || !name.chars().all(plain) {
                let message = format!("`{name}` is no name");
                let help = "use letters, digits, `-` and `_`, at most 63 of them".to_owned();
                self.error(&entry, Part::Key, &message, Some(help));
            } else {
                entries.push((name, entry));
            }
        }
        entries
    }

    fn named<T: DeserializeOwned>(&mut self, section: &str) -> BTreeMap<String, T> {
        let mut named = BTreeMap::new();
        for (name, path) in self.entries(section) {
            let Some(Value::Table(table)) = path.get(&self.merged) else {
                continue;
            };
            let files: Vec<String> = table
                .keys()
                .filter(|key| key.ends_with("-file"))
                .cloned()
                .collect();
            for key in &files {
                self.absolute(&path.key(key));
            }
            let mut value = Value::Table(table_of(path.get(&self.merged)));
            let mut unread = false;
            for key in super::fields::secrets_of::<T>() {
                let resolved = secret::resolve(&mut value, &path, key, &self.places);
                unread |= resolved.unread;
                self.files.extend(resolved.file);
                self.diagnostics.extend(resolved.diagnostics);
            }
            let entry = self.read(&path, value);
            // What misses its secret would only be found wrong once more.
            if let Some(entry) = entry.filter(|_| !unread) {
                named.insert(name, entry);
            }
        }
        named
    }

    /// Makes the path in a string relative to the configuration's folder.
    fn absolute(&mut self, path: &Path) {
        let folder = self.folder.clone();
        if let Some(Value::String(text)) = path.get_mut(&mut self.merged)
            && !text.is_empty()
        {
            *text = folder.join(&text).to_string_lossy().into_owned();
        }
    }

    fn clusters(&mut self) -> BTreeMap<String, ClusterConfig> {
        let mut clusters = BTreeMap::new();
        for (name, path) in self.entries("cluster") {
            let Some(raw) = self.at::<RawCluster>(&path) else {
                continue;
            };
            let lists = raw.lists.and_then(|own| {
                let own = Value::Table(own);
                // Alone first, for the errors; then over the global lists, which have their own.
                self.read::<Lists>(&path.key("lists"), own.clone())?;
                let mut lists = Path::of(&["lists"]).get(&self.merged)?.clone();
                merge(&mut lists, own);
                lists.try_into().ok().map(Arc::new)
            });
            let cluster = ClusterConfig {
                arm_id: raw.arm_id,
                environment: raw.environment,
                private_api: raw.private_api,
                severity_shift: raw.severity_shift,
                lists,
            };
            clusters.insert(name, cluster);
        }
        clusters
    }

    fn detectors(&mut self) -> BTreeMap<String, DetectorConfig> {
        let mut detectors = BTreeMap::new();
        for (id, path) in self.entries("detectors") {
            let Some(raw) = self.at::<RawDetector>(&path) else {
                continue;
            };
            let mut exceptions = Vec::new();
            for (index, table) in raw.exception.iter().enumerate() {
                let place = path.key("exception").index(index);
                let (exception, wrong) = exception::parse(table);
                for wrong in wrong {
                    let mut path = place.clone();
                    path.0.extend(wrong.path.into_iter().map(Segment::Key));
                    let part = if wrong.about_key {
                        Part::Key
                    } else {
                        Part::Value
                    };
                    self.error(&path, part, &wrong.message, wrong.help);
                }
                exceptions.push(exception);
            }
            let detector = DetectorConfig {
                enabled: raw.enabled,
                severity: raw.severity,
                count: raw.count,
                limit: raw.limit,
                window: raw.window,
                learn: raw.learn,
                quiet_for: raw.quiet_for,
                exceptions,
            };
            detectors.insert(id, detector);
        }
        detectors
    }

    fn routes(&mut self) -> Vec<super::Route> {
        let path = Path::of(&["route"]);
        match path.get(&self.merged) {
            Some(Value::Array(routes)) => (0..routes.len())
                .filter_map(|index| self.at(&path.index(index)))
                .collect(),
            None => Vec::new(),
            Some(_) => {
                let help = Some("write [[route]]".to_owned());
                self.error(&path, Part::Key, "`route` is a list of tables", help);
                Vec::new()
            }
        }
    }
}

fn table_of(value: Option<&Value>) -> toml::Table {
    value.and_then(Value::as_table).cloned().unwrap_or_default()
}

/// The path of what is wrong within `value`, and the path of the same in `original`, from which
/// entries of lists may have been taken. Where the error is of a list and quotes one of its strings,
/// it is that entry.
fn narrow(below: &Path, error: &str, value: &Value, original: &Value) -> (Path, Path) {
    let wrong = match below.get(value) {
        Some(Value::Array(items)) => items
            .iter()
            .position(|item| {
                item.as_str()
                    .is_some_and(|text| error.contains(&format!("`{text}`")))
            })
            .map_or_else(|| below.clone(), |index| below.index(index)),
        _ => below.clone(),
    };
    let shown = match (wrong.0.last(), wrong.parent().get(original)) {
        (Some(Segment::Index(_)), Some(Value::Array(items))) => items
            .iter()
            .position(|item| Some(item) == wrong.get(value))
            .map_or_else(|| wrong.clone(), |index| wrong.parent().index(index)),
        _ => wrong.clone(),
    };
    (wrong, shown)
}
