//! Alerts by e-mail, through lettre: text and HTML, STARTTLS, implicit TLS, or plain on loopback.

use serde::Deserialize;

use crate::config::secret::Secret;

/// `[email.NAME]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EmailConfig {
    pub host: String,
    /// Default by `tls`: 587 for starttls, 465 for implicit, 25 for none.
    #[serde(default)]
    pub port: Option<u16>,
    #[serde(default)]
    pub tls: Tls,
    #[serde(default)]
    pub username: Option<String>,
    #[serde(default)]
    pub password: Option<Secret>,
    #[serde(default)]
    pub password_file: Option<std::path::PathBuf>,
    /// PEM file of a private certificate authority to trust beside the system's.
    #[serde(default)]
    pub ca_file: Option<std::path::PathBuf>,
    pub from: String,
    pub to: Vec<String>,
    #[serde(default = "default_timeout_secs")]
    pub timeout_secs: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tls {
    /// Refused where the server does not offer it.
    #[default]
    Starttls,
    Implicit,
    /// On loopback only.
    None,
}

fn default_timeout_secs() -> u64 {
    30
}
