//! Alerts as JSON events into an event hub, by Microsoft's producer: for Sentinel, Data Explorer, and
//! whoever else reads hubs.
//!
//! Events of one cluster have one partition key, its ARM id, so that they stay in order.

use std::path::PathBuf;

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use super::setup::{Section, one_line};
use super::{Attempt, ConfigError, FailureReason, Notification, Receiver, table};
use crate::config::secret::Secret;
use crate::source::eventhubs::{
    Auth, EventHubConfig, Fault, HubError, HubProducer, Pace, Start, Transport,
};

const KIND: &str = "eventhubs-output";

/// Longest partition key that Event Hubs takes, in bytes.
const MAX_KEY: usize = 128;

/// `[eventhubs-output.NAME]`; the keys mean what they mean in `[eventhubs.NAME]`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EventHubsOutputConfig {
    #[serde(default)]
    pub namespace: Option<String>,
    pub hub: String,
    #[serde(default)]
    pub auth: Auth,
    #[serde(default)]
    pub connection_string: Option<Secret>,
    #[serde(default)]
    pub connection_string_file: Option<PathBuf>,
    #[serde(default)]
    pub client_id: Option<String>,
    #[serde(default)]
    pub endpoint: Option<String>,
    #[serde(default)]
    pub transport: Transport,
    /// What an event holds.
    #[serde(default)]
    pub format: Format,
    /// Whether to tell when an alert closes.
    #[serde(default)]
    pub send_closed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `lanner/alert/v1`.
    #[default]
    Alert,
    /// A Detection Finding.
    Ocsf,
}

/// A receiver that publishes alerts.
pub struct EventHubsOutput {
    config: EventHubConfig,
    format: Format,
    /// Opened with the first alert, and anew after an error.
    producer: Mutex<Option<HubProducer>>,
}

impl EventHubsOutput {
    /// Checks `[eventhubs-output.NAME]`; connects to nobody.
    pub fn new(name: &str, config: &EventHubsOutputConfig) -> Result<EventHubsOutput, ConfigError> {
        let section = Section { kind: KIND, name };
        let format = config.format;
        let config = EventHubConfig {
            namespace: config.namespace.clone(),
            hub: config.hub.clone(),
            auth: config.auth,
            connection_string: config.connection_string.clone(),
            connection_string_file: config.connection_string_file.clone(),
            client_id: config.client_id.clone(),
            endpoint: config.endpoint.clone(),
            transport: config.transport,
            // What only readers have.
            consumer_group: String::new(),
            start: Start::default(),
            owner_level: None,
            prefetch: 1,
            pace: Pace::default(),
        };
        match config.problem() {
            Some((key, problem)) => Err(section.error(key, format!("does not fit: {problem}"))),
            None => Ok(EventHubsOutput {
                config,
                format,
                producer: Mutex::default(),
            }),
        }
    }

    async fn publish(&self, notification: &Notification) -> Attempt {
        let alert = match notification.alert() {
            Ok(alert) => alert,
            Err(error) => return Attempt::unfit(&error.to_string()),
        };
        let body = match self.format {
            Format::Alert => notification.body.clone(),
            Format::Ocsf => super::payload::ocsf(&alert).to_string(),
        };
        let mut producer = self.producer.lock().await;
        match self.send(producer.take(), &alert.cluster, body).await {
            Ok(used) => {
                *producer = Some(used);
                Attempt::Delivered
            }
            Err(error) => judge(&error),
        }
    }

    async fn send(
        &self,
        producer: Option<HubProducer>,
        cluster: &str,
        body: String,
    ) -> Result<HubProducer, HubError> {
        let mut producer = match producer {
            Some(producer) => producer,
            None => HubProducer::open(self.config.clone()).await?,
        };
        let payload = [Bytes::from(body)];
        match partition_key(cluster) {
            Some(key) => producer.send_keyed(&key, &payload).await?,
            None => producer.send(None, &payload).await?,
        }
        Ok(producer)
    }
}

impl Receiver for EventHubsOutput {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Attempt> {
        Box::pin(self.publish(notification))
    }
}

table!(EventHubsOutputConfig, KIND, EventHubsOutput::new);

/// The cluster's id, or the SHA-256 of one that is too long for a key.
fn partition_key(cluster: &str) -> Option<String> {
    match cluster.len() {
        0 => None,
        1..=MAX_KEY => Some(cluster.to_owned()),
        _ => Some(format!("{:x}", Sha256::digest(cluster))),
    }
}

/// All but what cannot be taken may pass: a right may be given, a hub be made.
fn judge(error: &HubError) -> Attempt {
    let detail = one_line(&error.text);
    let reason = match error.fault {
        Fault::Refused => {
            return Attempt::Rejected {
                reason: FailureReason::TooLarge,
                detail,
            };
        }
        Fault::Unauthorized => FailureReason::Auth,
        Fault::NotFound => FailureReason::ClientError,
        Fault::Timeout | Fault::Stalled => FailureReason::Timeout,
        Fault::Unreachable => FailureReason::Connect,
        Fault::Throttled => FailureReason::RateLimited,
        Fault::Stolen => FailureReason::Other,
    };
    Attempt::Retry {
        reason,
        after: error.wait,
        detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_cluster_and_fits() {
        assert_eq!(partition_key(""), None);
        assert_eq!(
            partition_key("/subscriptions/0"),
            Some("/subscriptions/0".to_owned())
        );
        let long = partition_key(&"x".repeat(200)).expect("a key");
        assert_eq!((long.len(), long.contains('x')), (64, false));
    }
}
