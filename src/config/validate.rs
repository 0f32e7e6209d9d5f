//! What types cannot say: names that must exist, keys that need or exclude each other.

use std::collections::BTreeMap;

use globset::Glob;
use jiff::Timestamp;

use crate::deliver::ConfigError;

use super::diagnose::{Diagnostic, suggest};
use super::place::{Part, Path, Places};
use super::{Config, Receivers};

struct Checker<'c> {
    places: &'c Places,
    found: Vec<Diagnostic>,
}

impl Checker<'_> {
    fn error(&mut self, path: &Path, part: Part, message: impl Into<String>, help: &str) {
        let help = (!help.is_empty()).then(|| help.to_owned());
        self.found
            .push(self.places.error(path, part, message, help));
    }

    fn warning(&mut self, path: &Path, part: Part, message: impl Into<String>, help: &str) {
        self.error(path, part, message, help);
        let last = self.found.pop();
        self.found.extend(last.map(Diagnostic::warning));
    }
}

/// Everything that needs no knowledge of the detectors.
pub(super) fn all(config: &Config, places: &Places) -> Vec<Diagnostic> {
    let mut checker = Checker {
        places,
        found: Vec::new(),
    };
    hubs(config, &mut checker);
    receivers(config, &mut checker);
    clusters(config, &mut checker);
    routes(config, &mut checker);
    exceptions(config, &mut checker);
    checker.found
}

fn hubs(config: &Config, checker: &mut Checker<'_>) {
    for (name, hub) in &config.eventhubs {
        if let Some((key, problem)) = hub.problem() {
            let path = Path::of(&["eventhubs", name, key]);
            checker.error(&path, Part::Value, problem, "");
        }
    }
}

/// A receiver knows best what it can use: its constructor checks, and connects to nobody.
fn receivers(config: &Config, checker: &mut Checker<'_>) {
    for (name, table) in config.deliver.tables() {
        if let Err(error) = table.receiver(name) {
            receiver(&Path::of(&[table.kind(), name]), &error, checker);
        }
    }
}

fn receiver(section: &Path, error: &ConfigError, checker: &mut Checker<'_>) {
    let key = error.key.rsplit('.').next().unwrap_or_default();
    // `to[1]` is an entry of `to`.
    let (name, index) = match key.trim_end_matches(']').split_once('[') {
        Some((name, index)) => (name, index.parse().ok()),
        None => (key, None),
    };
    let path = match index {
        Some(index) => section.key(name).index(index),
        None => section.key(name),
    };
    let (problem, help) = error
        .problem
        .split_once("; ")
        .unwrap_or((&error.problem, ""));
    checker.error(&path, Part::Value, format!("`{key}` {problem}"), help);
}

fn clusters(config: &Config, checker: &mut Checker<'_>) {
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    for (name, cluster) in &config.cluster {
        let path = Path::of(&["cluster", name]);
        let id = cluster.arm_id.to_lowercase();
        let parts: Vec<&str> = id.trim_matches('/').split('/').collect();
        let well_formed = matches!(
            parts.as_slice(),
            [
                "subscriptions",
                _,
                "resourcegroups",
                _,
                "providers",
                "microsoft.containerservice",
                "managedclusters",
                _
            ]
        ) && id.starts_with('/')
            && !id.ends_with('/');
        if !well_formed {
            checker.error(
                &path.key("arm-id"),
                Part::Value,
                "this is no ARM id of an AKS cluster",
                "`az aks show --query id` prints it: /subscriptions/…/resourceGroups/…/providers/Microsoft.ContainerService/managedClusters/NAME",
            );
        }
        if let Some(first) = names.insert(id, name) {
            let message = format!("[cluster.{first}] has the same ARM id");
            checker.error(&path.key("arm-id"), Part::Value, message, "");
        }
        if !(-4..=4).contains(&cluster.severity_shift) {
            let message = format!("{} is out of range", cluster.severity_shift);
            checker.error(
                &path.key("severity-shift"),
                Part::Value,
                message,
                "there are five severities: -4 to 4",
            );
        }
    }
}

/// Receivers are checked against the file's tables, so that a receiver with an error of its own is
/// not said to be missing.
fn routes(config: &Config, checker: &mut Checker<'_>) {
    let mut receivers = config.receivers();
    for kind in Receivers::KINDS {
        let names = checker.places.keys_below(&Path::of(&[kind]));
        receivers.extend(names.iter().map(|name| format!("{kind}.{name}")));
    }
    receivers.sort();
    receivers.dedup();
    let known = || receivers.iter().map(String::as_str);
    for (index, route) in config.route.iter().enumerate() {
        let path = Path::of(&["route"]).index(index).key("receivers");
        if route.receivers.is_empty() {
            checker.error(&path, Part::Value, "the route leads to no receiver", "");
        }
        for (entry, receiver) in route.receivers.iter().enumerate() {
            let glob = match Glob::new(receiver) {
                Ok(glob) => glob.compile_matcher(),
                Err(_) => continue,
            };
            if receiver == "*" || known().any(|name| glob.is_match(name)) {
                continue;
            }
            let message = match receiver.as_str() {
                "stdout" => "`stdout` is not enabled".to_owned(),
                _ => format!("there is no receiver `{receiver}`"),
            };
            let unprefixed = known().find(|name| {
                name.split_once('.')
                    .is_some_and(|(_, short)| short == receiver)
            });
            let help = match unprefixed {
                _ if receiver == "stdout" => Some("set enabled = true in [stdout]".to_owned()),
                Some(name) => Some(format!("did you mean `{name}`?")),
                None => suggest(receiver, known()),
            };
            checker.error(
                &path.index(entry),
                Part::Value,
                message,
                &help.unwrap_or_else(|| "configure one, as [webhook.NAME]".to_owned()),
            );
        }
    }
    if receivers.is_empty() {
        checker.warning(
            &Path::of(&["stdout", "enabled"]),
            Part::Value,
            "there is no receiver: alerts are only kept in the store",
            "add [webhook.NAME] or [email.NAME]",
        );
    }
}

fn exceptions(config: &Config, checker: &mut Checker<'_>) {
    let now = Timestamp::now();
    for (id, detector) in &config.detectors {
        for (index, exception) in detector.exceptions.iter().enumerate() {
            if exception.expires.is_some_and(|end| end <= now) {
                let path = Path::of(&["detectors", id, "exception"]).index(index);
                checker.warning(
                    &path.key("expires"),
                    Part::Value,
                    "the exception has expired and holds no longer",
                    "take it out, or give it a new date",
                );
            }
        }
        if detector.count == Some(0) {
            let path = Path::of(&["detectors", id, "count"]);
            checker.error(&path, Part::Value, "zero matches are no threshold", "");
        }
    }
}

/// What names detectors: `[detectors.ID]` must exist; a route's glob that fits none is suspicious.
pub(super) fn detectors(config: &Config, places: &Places, known: &[&str]) -> Vec<Diagnostic> {
    let mut checker = Checker {
        places,
        found: Vec::new(),
    };
    for id in config.detectors.keys() {
        if !known.contains(&id.as_str()) {
            let help = suggest(id, known.iter().copied())
                .unwrap_or_else(|| "`lanner detectors list` has the ids".to_owned());
            let path = Path::of(&["detectors", id]);
            let message = format!("there is no detector `{id}`");
            checker.error(&path, Part::Key, message, &help);
        }
    }
    for (index, route) in config.route.iter().enumerate() {
        let Some(names) = &route.detectors else {
            continue;
        };
        if !known.iter().any(|id| names.contains(id)) {
            let path = Path::of(&["route"]).index(index).key("detectors");
            checker.warning(&path, Part::Value, "no detector has such an id", "");
        }
    }
    checker.found
}
