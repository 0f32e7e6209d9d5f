//! Services that take alerts in a JSON of their own by POST: Slack, Microsoft Teams, PagerDuty,
//! Alertmanager.
//!
//! What they are sent is made by [`super::payload`]; attempts and their outcomes are those of every
//! receiver over HTTP.

use std::path::{Path, PathBuf};

use futures::future::BoxFuture;
use jiff::Timestamp;
use reqwest::header::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::Value;

use super::http::{Http, Settings, default_timeout_secs};
use super::setup::Section;
use super::{Attempt, ConfigError, Notification, Receiver, payload, table};
use crate::alert::Alert;
use crate::config::Period;
use crate::config::secret::Secret;

/// `[slack.NAME]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SlackConfig {
    /// Whoever has it may write to the channel.
    pub url: Secret,
    /// Read into `url` when the configuration is loaded.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// PEM file of a private certificate authority to trust beside the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    #[serde(default = "default_timeout_secs")]
    pub timeout_secs: u64,
    /// Whether to tell when an alert closes.
    #[serde(default)]
    pub send_closed: bool,
}

/// `[teams.NAME]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TeamsConfig {
    /// Of a workflow that posts what it is sent; whoever has it may write to the channel.
    pub url: Secret,
    /// Read into `url` when the configuration is loaded.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    #[serde(default = "default_timeout_secs")]
    pub timeout_secs: u64,
    #[serde(default)]
    pub send_closed: bool,
}

/// `[pagerduty.NAME]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PagerDutyConfig {
    /// Of an integration of the kind Events API v2.
    #[serde(default)]
    pub routing_key: Option<Secret>,
    #[serde(default)]
    pub routing_key_file: Option<PathBuf>,
    /// Another one for accounts in the EU.
    #[serde(default = "pagerduty_url")]
    pub url: String,
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    #[serde(default = "default_timeout_secs")]
    pub timeout_secs: u64,
    /// Whether an alert that closes resolves its incident.
    #[serde(default = "yes")]
    pub send_closed: bool,
}

fn pagerduty_url() -> String {
    "https://events.pagerduty.com/v2/enqueue".to_owned()
}

fn yes() -> bool {
    true
}

/// `[alertmanager.NAME]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AlertmanagerConfig {
    /// Where its page is; `/api/v2/alerts` is added.
    pub url: Secret,
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// Sent as `Authorization: Bearer …`.
    #[serde(default)]
    pub bearer_token: Option<Secret>,
    #[serde(default)]
    pub bearer_token_file: Option<PathBuf>,
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Plain http to other hosts than loopback.
    #[serde(default)]
    pub allow_insecure: bool,
    #[serde(default = "default_timeout_secs")]
    pub timeout_secs: u64,
    /// When an alert ends there of which nothing more is said.
    #[serde(default = "default_resolve_after")]
    pub resolve_after: Period,
    #[serde(default = "yes")]
    pub send_closed: bool,
}

fn default_resolve_after() -> Period {
    "1d".parse().expect("the default is a period")
}

const ALERTS: &str = "/api/v2/alerts";

type Render = dyn Fn(&Alert, Timestamp) -> Value + Send + Sync;

/// A receiver that posts JSON.
pub struct Service {
    http: Http,
    render: Box<Render>,
}

impl Service {
    /// Checks `[slack.NAME]` and reads the files it names, as the others do; connects to nobody.
    pub fn slack(name: &str, config: &SlackConfig) -> Result<Service, ConfigError> {
        let section = Section {
            kind: "slack",
            name,
        };
        let settings = plain(
            config.url.expose(),
            config.ca_file.as_deref(),
            config.timeout_secs,
        );
        Service::new(section, settings, |alert, _| payload::slack(alert))
    }

    pub fn teams(name: &str, config: &TeamsConfig) -> Result<Service, ConfigError> {
        let section = Section {
            kind: "teams",
            name,
        };
        let settings = plain(
            config.url.expose(),
            config.ca_file.as_deref(),
            config.timeout_secs,
        );
        Service::new(section, settings, |alert, _| payload::teams(alert))
    }

    pub fn pagerduty(name: &str, config: &PagerDutyConfig) -> Result<Service, ConfigError> {
        let section = Section {
            kind: "pagerduty",
            name,
        };
        let (given, file) = (&config.routing_key, &config.routing_key_file);
        let key = section
            .secret("routing-key", given.as_ref(), file.as_deref())?
            .ok_or_else(|| {
                section.error(
                    "routing-key-file",
                    "is missing; PagerDuty shows the key with the integration",
                )
            })?;
        let settings = plain(&config.url, config.ca_file.as_deref(), config.timeout_secs);
        Service::new(section, settings, move |alert, _| {
            payload::pagerduty(alert, &key)
        })
    }

    pub fn alertmanager(name: &str, config: &AlertmanagerConfig) -> Result<Service, ConfigError> {
        let section = Section {
            kind: "alertmanager",
            name,
        };
        let base = config.url.expose().trim_end_matches('/');
        let url = match base.ends_with(ALERTS) {
            true => base.to_owned(),
            false => format!("{base}{ALERTS}"),
        };
        let settings = Settings {
            bearer_token: config.bearer_token.as_ref(),
            bearer_token_file: config.bearer_token_file.as_deref(),
            allow_insecure: Some(config.allow_insecure),
            ..plain(&url, config.ca_file.as_deref(), config.timeout_secs)
        };
        let resolve_after = config.resolve_after.into();
        Service::new(section, settings, move |alert, now| {
            payload::alertmanager(alert, now, resolve_after)
        })
    }

    fn new(
        section: Section<'_>,
        settings: Settings<'_>,
        render: impl Fn(&Alert, Timestamp) -> Value + Send + Sync + 'static,
    ) -> Result<Service, ConfigError> {
        Ok(Service {
            http: Http::new(section, settings)?,
            render: Box::new(render),
        })
    }

    async fn post(&self, notification: &Notification) -> Attempt {
        let alert = match notification.alert() {
            Ok(alert) => alert,
            Err(error) => return Attempt::unfit(&error.to_string()),
        };
        let body = (self.render)(&alert, Timestamp::now()).to_string();
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        self.http.post(headers, body).await
    }
}

/// Of a service on the internet: https, and its secret in the address or the body.
fn plain<'a>(url: &'a str, ca_file: Option<&'a Path>, timeout_secs: u64) -> Settings<'a> {
    Settings {
        url,
        bearer_token: None,
        bearer_token_file: None,
        ca_file,
        allow_insecure: None,
        timeout_secs,
    }
}

impl Receiver for Service {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Attempt> {
        Box::pin(self.post(notification))
    }
}

table!(SlackConfig, "slack", Service::slack);
table!(TeamsConfig, "teams", Service::teams);
table!(PagerDutyConfig, "pagerduty", Service::pagerduty);
table!(AlertmanagerConfig, "alertmanager", Service::alertmanager);
