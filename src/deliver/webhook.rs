//! Alerts by HTTP POST, signed after the Standard Webhooks specification.

use std::time::Duration;

use serde::Deserialize;

use crate::config::secret::Secret;

/// `[webhook.NAME]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WebhookConfig {
    pub url: String,
    /// `whsec_…` (base64); without one, notifications are not signed.
    #[serde(default)]
    pub signing_secret: Option<Secret>,
    #[serde(default)]
    pub signing_secret_file: Option<std::path::PathBuf>,
    /// Sent as `Authorization: Bearer …`.
    #[serde(default)]
    pub bearer_token: Option<Secret>,
    #[serde(default)]
    pub bearer_token_file: Option<std::path::PathBuf>,
    /// PEM file of a private certificate authority to trust beside the system's.
    #[serde(default)]
    pub ca_file: Option<std::path::PathBuf>,
    /// Plain http to other hosts than loopback.
    #[serde(default)]
    pub allow_insecure: bool,
    #[serde(default = "default_timeout_secs")]
    pub timeout_secs: u64,
}

fn default_timeout_secs() -> u64 {
    10
}

impl WebhookConfig {
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_secs)
    }
}
