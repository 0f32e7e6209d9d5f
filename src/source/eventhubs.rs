//! Event hubs, by Microsoft's client: one task a partition, resumed from our own position.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use crate::config::secret::Secret;

/// `[eventhubs.NAME]`: one hub and the consumer group to read it with.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EventHubConfig {
    /// `NAME.servicebus.windows.net`; may be left out where the connection string says it.
    #[serde(default)]
    pub namespace: Option<String>,
    pub hub: String,
    #[serde(default = "default_consumer_group")]
    pub consumer_group: String,
    #[serde(default)]
    pub start: Start,
    #[serde(default)]
    pub auth: Auth,
    /// With `auth = "connection-string"`.
    #[serde(default)]
    pub connection_string: Option<Secret>,
    #[serde(default)]
    pub connection_string_file: Option<std::path::PathBuf>,
    /// Client id of a user-assigned identity, with `auth = "managed-identity"`.
    #[serde(default)]
    pub client_id: Option<String>,
    /// `amqp://127.0.0.1:5672` for an emulator, or a private endpoint.
    #[serde(default)]
    pub endpoint: Option<String>,
}

fn default_consumer_group() -> String {
    "$Default".to_owned()
}

/// Where to begin a partition that has no stored position.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Start {
    #[default]
    Earliest,
    Latest,
    Time(Timestamp),
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "earliest" => Ok(Start::Earliest),
            "latest" => Ok(Start::Latest),
            _ => text.parse().map(Start::Time).map_err(|_| {
                serde::de::Error::custom(format!(
                    "`{text}` is no start; write earliest, latest, or a time as 2026-11-20T10:00:00Z"
                ))
            }),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    #[default]
    WorkloadIdentity,
    ManagedIdentity,
    /// `az login` and its like.
    DeveloperTools,
    ConnectionString,
}

/// How long any one call into the client may take.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);
