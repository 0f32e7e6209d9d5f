//! Reads a whole hub: finds its partitions, also those that are added later, and runs one reader
//! for each.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::{Connector, close};
use super::config::EventHubConfig;
use super::confine::Confined;
use super::error::HubError;
use super::partition::PartitionReader;
use super::status::HubStatus;
use crate::source::pacing::Outlet;
use crate::source::{Partition, Position};

/// Reads every partition of the hub into `out` until cancelled or until nobody takes batches any more.
///
/// `name` is the section's name in the configuration; `positions` holds the last sequence number
/// of partitions that were read before, by id; the others begin where the configuration says.
///
/// Batches of a partition come in order and without gaps, except after a position that has fallen
/// out of the hub's retention. A change of `at_end` without events is said in an empty batch; it
/// falls to false while the partition cannot be read.
pub async fn read_hub(
    name: &str,
    config: EventHubConfig,
    positions: HashMap<String, Position>,
    out: impl Into<Outlet>,
    status: Arc<HubStatus>,
    cancel: CancellationToken,
) {
    let source = config.source(name);
    let out: Outlet = out.into();
    let connector = Arc::new(Connector::new(config));
    let readers = TaskTracker::new();
    // Ends the partitions' readers also if this future is dropped.
    let cancel = cancel.child_token();
    let _ends_readers = cancel.clone().drop_guard();

    let mut known = HashSet::new();
    let pace = connector.config().pace;
    let mut delays = connector.delays();
    loop {
        let listing = tokio::select! {
            () = cancel.cancelled() => break,
            () = out.batches.closed() => break,
            listing = list(Arc::clone(&connector)) => listing,
        };
        let wait = match listing {
            Ok(ids) => {
                delays = connector.delays();
                status.listed();
                let is_first = known.is_empty();
                for id in ids {
                    if !known.insert(id.clone()) {
                        continue;
                    }
                    // What lies in a partition that was added meanwhile came after the start.
                    let added = (!is_first).then_some(Position::START);
                    let position = positions.get(&id).copied().or(added);
                    let status = status.partition(&id);
                    let partition = Arc::new(Partition {
                        source: Arc::clone(&source),
                        id: id.into(),
                    });
                    if let Some(pacing) = &out.pacing {
                        pacing.open(&partition);
                    }
                    let reader = PartitionReader {
                        connector: Arc::clone(&connector),
                        position,
                        status,
                        partition,
                        out: out.clone(),
                        cancel: cancel.clone(),
                        at_end: false,
                    };
                    readers.spawn(reader.run());
                }
                if let Some(pacing) = &out.pacing {
                    pacing.listed(&source);
                }
                pace.list
            }
            Err(error) => {
                let delay = delays.next().unwrap_or(pace.backoff);
                let delay = delay.max(error.wait.unwrap_or_default().min(pace.backoff));
                status.listing_failed(&error);
                tracing::warn!(
                    source = %source,
                    fault = ?error.fault,
                    retry_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
                    %error,
                    "the hub's partitions could not be listed"
                );
                delay
            }
        };
        tokio::select! {
            () = cancel.cancelled() => break,
            () = out.batches.closed() => break,
            () = tokio::time::sleep(wait) => {}
        }
    }
    cancel.cancel();
    readers.close();
    readers.wait().await;
    status.stopped();
}

/// The ids of the hub's partitions.
async fn list(connector: Arc<Connector>) -> Result<Vec<String>, HubError> {
    let listing = async move {
        let client = connector.consumer().await?;
        let properties = connector
            .limited("hub properties", client.get_eventhub_properties())
            .await;
        close(client, connector.config().pace.call).await;
        Ok(properties?.partition_ids)
    };
    Confined::new("hub-list")?.run(listing).await?
}
