//! What types cannot say: names that must exist, keys that need or exclude each other.

use std::collections::BTreeMap;

use globset::Glob;
use jiff::Timestamp;

use crate::deliver::ConfigError;
use crate::deliver::email::Tls;
use crate::deliver::webhook::Webhook;

use super::Config;
use super::diagnose::{Diagnostic, suggest};
use super::place::{Part, Path, Places};

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
    webhooks(config, &mut checker);
    emails(config, &mut checker);
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
fn webhooks(config: &Config, checker: &mut Checker<'_>) {
    for (name, webhook) in &config.webhook {
        if let Err(error) = Webhook::new(name, webhook) {
            receiver(&Path::of(&["webhook", name]), &error, checker);
        }
    }
}

fn receiver(section: &Path, error: &ConfigError, checker: &mut Checker<'_>) {
    let key = error.key.rsplit('.').next().unwrap_or_default();
    let (problem, help) = error
        .problem
        .split_once("; ")
        .unwrap_or((&error.problem, ""));
    checker.error(
        &section.key(key),
        Part::Value,
        format!("`{key}` {problem}"),
        help,
    );
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn emails(config: &Config, checker: &mut Checker<'_>) {
    let is_mailbox = |text: &str| text.parse::<lettre::message::Mailbox>().is_ok();
    for (name, email) in &config.email {
        let path = Path::of(&["email", name]);
        let help = "write one as oncall@example.com or On call <oncall@example.com>";
        if !is_mailbox(&email.from) {
            let message = format!("`{}` is no e-mail address", email.from);
            checker.error(&path.key("from"), Part::Value, message, help);
        }
        for (index, to) in email.to.iter().enumerate() {
            if !is_mailbox(to) {
                let message = format!("`{to}` is no e-mail address");
                checker.error(&path.key("to").index(index), Part::Value, message, help);
            }
        }
        if email.to.is_empty() {
            checker.error(&path.key("to"), Part::Value, "nobody to write to", help);
        }
        if email.tls == Tls::None && !is_loopback(&email.host) {
            checker.error(
                &path.key("tls"),
                Part::Value,
                "mail without TLS is for loopback only",
                "use starttls or implicit",
            );
        }
        if email.username.is_some() != email.password.is_some() {
            let (has, lacks) = match email.username {
                Some(_) => ("username", "password-file"),
                None => ("password", "username"),
            };
            checker.error(
                &path.key(has),
                Part::Key,
                format!("`{has}` needs `{lacks}` beside it"),
                "",
            );
        }
        if email.timeout_secs == 0 {
            let message = "zero; a timeout is longer than that";
            checker.error(&path.key("timeout-secs"), Part::Value, message, "");
        }
    }
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
    for kind in ["webhook", "email"] {
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
