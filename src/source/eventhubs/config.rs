//! `[eventhubs.NAME]`: which hub to read, from where, and as whom.

use std::sync::Arc;
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
    /// Client id of a user-assigned identity, with `auth = "managed-identity"`, or in place of
    /// `AZURE_CLIENT_ID` with `auth = "workload-identity"`.
    #[serde(default)]
    pub client_id: Option<String>,
    /// `amqp://127.0.0.1:5672` for an emulator, or a private endpoint.
    #[serde(default)]
    pub endpoint: Option<String>,
    #[serde(default)]
    pub transport: Transport,
    /// The epoch of our receivers: one at least as high takes a partition from other readers of the
    /// consumer group, and they cannot read beside it. Without one, up to five read side by side.
    #[serde(default)]
    pub owner_level: Option<i64>,
    /// Messages under way for each partition, of up to 1 MiB each.
    #[serde(default = "default_prefetch")]
    pub prefetch: u32,
    /// No setting: tests shorten it.
    #[serde(skip)]
    pub pace: Pace,
}

/// How long calls may take, and how often the hub is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// For any one call into the client.
    pub call: Duration,
    /// Between questions for the partition's last sequence number.
    pub poll: Duration,
    /// For how long events may lie in the hub while none arrive, until a client is given up.
    pub stall: Duration,
    /// Between questions for new partitions.
    pub list: Duration,
    /// The longest wait before the next attempt after an error.
    pub backoff: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            call: CALL_TIMEOUT,
            poll: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            list: Duration::from_secs(60),
            backoff: Duration::from_secs(30),
        }
    }
}

impl EventHubConfig {
    /// What positions are kept under: `namespace/hub/consumer-group`, with the section's name where
    /// only the connection string says the namespace, so that it never depends on a secret.
    pub fn source(&self, section: &str) -> Arc<str> {
        let namespace = self.namespace.as_deref().unwrap_or(section);
        format!("{namespace}/{}/{}", self.hub, self.consumer_group).into()
    }

    /// The first key that does not fit with the others, and what would be right.
    pub fn problem(&self) -> Option<(&'static str, String)> {
        let has_string = self.connection_string.is_some() || self.connection_string_file.is_some();
        let problem = |key, text: &str| Some((key, text.to_owned()));
        if self.hub.is_empty() || self.hub.contains('/') {
            return problem("hub", "the name of one event hub, as `audit`");
        }
        if self.connection_string.is_some() && self.connection_string_file.is_some() {
            return problem(
                "connection-string",
                "give connection-string or connection-string-file, not both",
            );
        }
        if self.auth == Auth::ConnectionString && !has_string {
            return problem(
                "auth",
                "auth = \"connection-string\" needs connection-string or connection-string-file",
            );
        }
        if self.auth != Auth::ConnectionString && has_string {
            return problem(
                "auth",
                "a connection string is used with auth = \"connection-string\" only",
            );
        }
        if self.auth != Auth::ConnectionString && self.namespace.is_none() {
            return problem(
                "namespace",
                "the namespace's host is missing, as `NAME.servicebus.windows.net`",
            );
        }
        if self.client_id.is_some()
            && !matches!(self.auth, Auth::ManagedIdentity | Auth::WorkloadIdentity)
        {
            return problem(
                "client-id",
                "client-id is used with managed-identity and workload-identity only",
            );
        }
        if let Some(endpoint) = &self.endpoint
            && !(endpoint.starts_with("amqp://") || endpoint.starts_with("amqps://"))
        {
            return problem(
                "endpoint",
                "an endpoint is written as amqps://HOST[:PORT], or amqp:// without TLS",
            );
        }
        if self.transport == Transport::Websocket
            && let Some(endpoint) = &self.endpoint
            && endpoint.starts_with("amqp://")
        {
            return problem(
                "endpoint",
                "a WebSocket is always within TLS: write the endpoint as amqps://HOST[:PORT]",
            );
        }
        if self.prefetch == 0 {
            return problem("prefetch", "at least 1; 64 is a sound value");
        }
        None
    }
}

fn default_prefetch() -> u32 {
    64
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// AMQP over TLS on port 5671.
    #[default]
    Amqp,
    /// AMQP in a WebSocket on port 443, where nothing else is let out.
    Websocket,
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
