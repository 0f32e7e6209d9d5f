//! Publishes payloads by the official producer client: what the demo and the tests send with.

use azure_messaging_eventhubs::models::EventData;
use azure_messaging_eventhubs::{EventDataBatchOptions, ProducerClient};
use bytes::Bytes;

use super::client::Connector;
use super::config::EventHubConfig;
use super::error::{Fault, HubError};

/// Attempts to send a batch, each with a new client after the first.
const ATTEMPTS: usize = 4;

/// Sends at least once: a batch whose answer got lost is sent again.
pub struct HubProducer {
    connector: Connector,
    client: Option<ProducerClient>,
}

/// Who decides on the partition.
#[derive(Clone, Copy)]
enum To<'a> {
    Any,
    Partition(&'a str),
    Key(&'a str),
}

impl HubProducer {
    pub async fn open(config: EventHubConfig) -> Result<HubProducer, HubError> {
        let connector = Connector::new(config);
        let client = Some(connector.producer().await?);
        Ok(HubProducer { connector, client })
    }

    /// Sends the payloads in order, each an event, to the partition or to any. They go in as few
    /// batches as the hub's limit on message size allows; a single payload above it is an error.
    pub async fn send(
        &mut self,
        partition: Option<&str>,
        payloads: &[Bytes],
    ) -> Result<(), HubError> {
        self.send_to(partition.map_or(To::Any, To::Partition), payloads)
            .await
    }

    /// As [`HubProducer::send`], to the partition that the hub chooses for the key (of 128 bytes at
    /// most), which is the same for every event with this key.
    pub async fn send_keyed(&mut self, key: &str, payloads: &[Bytes]) -> Result<(), HubError> {
        self.send_to(To::Key(key), payloads).await
    }

    async fn send_to(&mut self, to: To<'_>, payloads: &[Bytes]) -> Result<(), HubError> {
        let mut left = payloads;
        let mut attempts = ATTEMPTS;
        while !left.is_empty() {
            let client = match self.client.take() {
                Some(client) => client,
                None => self.connector.producer().await?,
            };
            match self.send_some(&client, to, left).await {
                Ok(sent) => {
                    left = &left[sent..];
                    attempts = ATTEMPTS;
                    self.client = Some(client);
                }
                Err(error) => {
                    attempts -= 1;
                    let passes = matches!(error.fault, Fault::Timeout | Fault::Unreachable);
                    if attempts == 0 || !passes {
                        return Err(error);
                    }
                    tracing::debug!(%error, "a batch is sent again by a new client");
                }
            }
        }
        Ok(())
    }

    pub async fn close(self) -> Result<(), HubError> {
        match self.client {
            Some(client) => self.connector.limited("close", client.close()).await,
            None => Ok(()),
        }
    }

    /// Sends as many of the payloads as fit into one batch; returns how many.
    async fn send_some(
        &self,
        client: &ProducerClient,
        to: To<'_>,
        payloads: &[Bytes],
    ) -> Result<usize, HubError> {
        let options = EventDataBatchOptions {
            partition_id: match to {
                To::Partition(id) => Some(id.to_owned()),
                To::Any | To::Key(_) => None,
            },
            partition_key: match to {
                To::Key(key) => Some(key.to_owned()),
                To::Any | To::Partition(_) => None,
            },
            ..EventDataBatchOptions::default()
        };
        let batch = self
            .connector
            .limited("create batch", client.create_batch(Some(options)))
            .await?;
        let mut count = 0;
        for payload in payloads {
            let event = EventData::builder().with_body(payload.to_vec()).build();
            let added = batch
                .try_add_event_data(event, None)
                .map_err(|error| HubError::from_client("add to batch", &error))?;
            if !added {
                break;
            }
            count += 1;
        }
        if count == 0 {
            let text = "the payload is larger than the hub takes in one message";
            return Err(HubError::new(Fault::Refused, text));
        }
        self.connector
            .limited("send", client.send_batch(batch, None))
            .await?;
        Ok(count)
    }
}
