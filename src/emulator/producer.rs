//! One producer's link: takes messages and batches into a hub or one of its partitions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::Receiver;
use fe2o3_amqp::link::delivery::DeliveryInfo;
use fe2o3_amqp_types::definitions::{AmqpError, Error};
use fe2o3_amqp_types::messaging::Body;
use fe2o3_amqp_types::messaging::message::__private::Deserializable;
use fe2o3_amqp_types::primitives::Value;
use tokio_util::task::TaskTracker;

use super::faults::Faults;
use super::hub::{AmqpMessage, Hub, Partition, partition_key};

/// The message-format of a batch: its data sections are encoded messages.
const BATCH: u32 = 0x8001_3700;

/// How long an accepted delivery waits for its disposition. `fe2o3-amqp` clients note a delivery
/// only after they have written it; an answer that is faster gets lost and the client hangs. On a busy
/// machine that still happens, and the client has to give up.
pub(super) const ANSWER_DELAY: Duration = Duration::from_millis(10);

/// Serves the link until either side detaches it or the connection goes.
pub(super) async fn serve(
    mut receiver: Receiver,
    hub: Arc<Hub>,
    partition: Option<Arc<Partition>>,
    faults: Arc<Faults>,
    tracker: TaskTracker,
) {
    // An error is a detach, which `recv` has answered, or the end of the session.
    while let Ok(delivery) = receiver.recv::<Body<Value>>().await {
        let is_batch = *delivery.message_format() == Some(BATCH);
        let (info, message) = delivery.into_parts();
        match unpack(message, is_batch) {
            Ok(messages) => {
                append(&hub, partition.as_deref(), messages);
                if faults.takes_answer() {
                    continue;
                }
                let disposer = receiver.disposer();
                tracker.spawn(async move {
                    tokio::time::sleep(ANSWER_DELAY).await;
                    let _ = disposer.accept(info).await;
                });
            }
            Err(error) => reject(&receiver, info, error).await,
        }
    }
}

async fn reject(receiver: &Receiver, info: DeliveryInfo, error: Error) {
    tokio::time::sleep(ANSWER_DELAY).await;
    let _ = receiver.reject(info, error).await;
}

/// The events in a delivery, each with its partition key; a batch has one key for all.
fn unpack(
    message: AmqpMessage,
    is_batch: bool,
) -> Result<Vec<(AmqpMessage, Option<String>)>, Error> {
    let key = partition_key(&message);
    if !is_batch {
        return Ok(vec![(message, key)]);
    }
    let malformed = |what: String| Error::new(AmqpError::DecodeError, Some(what), None);
    let Body::Data(parts) = message.body else {
        return Err(malformed("a batch has data sections only".to_owned()));
    };
    parts
        .into_iter()
        .map(|part| {
            let Deserializable(message) =
                serde_amqp::from_slice::<Deserializable<AmqpMessage>>(&part.0)
                    .map_err(|error| malformed(format!("a message of the batch: {error}")))?;
            let key = partition_key(&message).or_else(|| key.clone());
            Ok((message, key))
        })
        .collect()
}

fn append(hub: &Hub, partition: Option<&Partition>, messages: Vec<(AmqpMessage, Option<String>)>) {
    if let Some(partition) = partition {
        return partition.append(messages);
    }
    // The messages of a delivery without a key go to one partition together, as in the service.
    let mut by_partition: BTreeMap<String, (Arc<Partition>, Vec<_>)> = BTreeMap::new();
    let mut unkeyed: Option<Arc<Partition>> = None;
    for (message, key) in messages {
        let target = match &key {
            Some(key) => hub.partition_for(Some(key)),
            None => Arc::clone(unkeyed.get_or_insert_with(|| hub.partition_for(None))),
        };
        by_partition
            .entry(target.id.clone())
            .or_insert_with(|| (target, Vec::new()))
            .1
            .push((message, key));
    }
    for (target, messages) in by_partition.into_values() {
        target.append(messages);
    }
}
