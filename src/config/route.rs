//! Routes: which alert goes to which receivers.

use serde::{Deserialize, Deserializer};

use crate::alert::incident::Send;
use crate::alert::{Alert, Kind, Severity};
use crate::event::site::Names;

use super::Config;

/// `[[route]]`. A key left out matches everything; all that are there must match.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Route {
    /// The least severity.
    #[serde(default)]
    pub severity: Option<Severity>,
    #[serde(default)]
    pub kinds: Option<Vec<Kind>>,
    /// Globs over the configured name and over the ARM id in lower case.
    #[serde(default)]
    pub clusters: Option<Names>,
    #[serde(default)]
    pub namespaces: Option<Names>,
    #[serde(default)]
    pub detectors: Option<Names>,
    /// Globs over receivers' names: `webhook.soc`, `email.*`, `stdout`.
    #[serde(deserialize_with = "receiver_globs")]
    pub receivers: Vec<String>,
    /// What they are sent: alerts one by one, or the incidents that these belong to.
    #[serde(default)]
    pub send: Send,
    /// Whether the routes below are looked at too.
    #[serde(default, rename = "continue")]
    pub go_on: bool,
}

/// What routes look at.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub severity: Severity,
    pub kind: Kind,
    /// ARM id in lower case.
    pub cluster: &'a str,
    pub cluster_name: &'a str,
    pub namespace: &'a str,
    pub detector: &'a str,
}

impl<'a> From<&'a Alert> for Subject<'a> {
    fn from(alert: &'a Alert) -> Subject<'a> {
        Subject {
            severity: alert.severity,
            kind: alert.detector.kind,
            cluster: &alert.cluster,
            cluster_name: &alert.cluster_name,
            namespace: &alert.object.namespace,
            detector: &alert.detector.id,
        }
    }
}

impl Route {
    pub fn matches(&self, subject: Subject<'_>) -> bool {
        let name = |names: &Option<Names>, value: &str| {
            names.as_ref().is_none_or(|names| names.contains(value))
        };
        self.severity.is_none_or(|least| subject.severity >= least)
            && self
                .kinds
                .as_ref()
                .is_none_or(|kinds| kinds.contains(&subject.kind))
            && (name(&self.clusters, subject.cluster_name) || name(&self.clusters, subject.cluster))
            && name(&self.namespaces, subject.namespace)
            && name(&self.detectors, subject.detector)
    }
}

impl Config {
    /// The receivers of an alert, each once, in the order of [`Config::receivers`]: those of the
    /// first route that matches, and of later ones while routes say `continue`.
    pub fn route(&self, subject: Subject<'_>) -> Vec<String> {
        self.route_of(subject, Send::Alerts)
    }

    /// As [`Config::route`], of receivers that take the alert's incident in its place.
    pub fn route_incidents(&self, subject: Subject<'_>) -> Vec<String> {
        self.route_of(subject, Send::Incidents)
    }

    fn route_of(&self, subject: Subject<'_>, send: Send) -> Vec<String> {
        let mut wanted: Vec<&str> = Vec::new();
        for route in &self.route {
            if route.matches(subject) {
                if route.send == send {
                    wanted.extend(route.receivers.iter().map(String::as_str));
                }
                if !route.go_on {
                    break;
                }
            }
        }
        let Ok(wanted) = Names::new(&wanted) else {
            return Vec::new();
        };
        let mut receivers = self.receivers();
        receivers.retain(|name| wanted.contains(name));
        receivers
    }
}

impl Config {
    /// Those of an alert's receivers that are told when it closes.
    pub fn route_closed(&self, subject: Subject<'_>) -> Vec<String> {
        self.told_closing(self.route(subject))
    }

    /// Those of `receivers` that are told of closings.
    pub fn told_closing(&self, mut receivers: Vec<String>) -> Vec<String> {
        let told: Vec<String> = self
            .receivers_and_closing()
            .filter_map(|(name, closing)| closing.then_some(name))
            .collect();
        receivers.retain(|name| told.contains(name));
        receivers
    }
}

/// Globs are checked here, so that they are known to be right later.
fn receiver_globs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let receivers = Vec::<String>::deserialize(deserializer)?;
    Names::new(&receivers).map_err(serde::de::Error::custom)?;
    Ok(receivers)
}
