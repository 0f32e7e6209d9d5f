//! Reads one partition: opens a client after the last sequence number, batches what comes, and
//! starts over after any error.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use azure_core_amqp::AmqpValue;
use azure_core_amqp::message::AmqpMessageBody;
use azure_messaging_eventhubs::models::{EventHubPartitionProperties, ReceivedEventData};
use azure_messaging_eventhubs::{
    ConsumerClient, EventHubsError, OpenReceiverOptions, StartLocation, StartPosition,
};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::{Fuse, FusedFuture, FutureExt};
use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::client::{Connector, Delays, close};
use super::config::Start;
use super::confine::Confined;
use super::error::{Fault, HubError};
use super::status::{PartitionStatus, State};
use crate::failpoint::fail_point;
use crate::source::pacing::{Outlet, Waited};
use crate::source::{Batch, Chunk, Framing, Partition, Position};

const BATCH_MESSAGES: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;
/// How long a batch waits for more.
const LINGER: Duration = Duration::from_millis(20);
/// How long nothing must come until a partition counts as quiet.
const QUIET: Duration = Duration::from_secs(1);

/// One partition's reader; lives as long as the hub's.
#[derive(Clone)]
pub(super) struct PartitionReader {
    pub(super) connector: Arc<Connector>,
    pub(super) partition: Arc<Partition>,
    /// The last sequence number read; `None` until the start is known.
    pub(super) position: Option<Position>,
    pub(super) out: Outlet,
    pub(super) status: Arc<PartitionStatus>,
    pub(super) cancel: CancellationToken,
    /// What the last batch said; a change is said in an empty batch.
    pub(super) at_end: bool,
}

/// Why a reading ended without an error.
struct Stopped;

type Reading = Result<Stopped, HubError>;

impl PartitionReader {
    /// Reads until cancelled or until nobody takes batches any more.
    pub(super) async fn run(mut self) {
        let connector = Arc::clone(&self.connector);
        let mut delays = connector.delays();
        let name = format!("hub-{}", self.partition.id);
        let status = Arc::clone(&self.status);
        loop {
            let again;
            match Confined::new(&name) {
                Ok(confined) => {
                    let before = self.clone();
                    let attempt = async move {
                        let again = self.attempt(&mut delays).await;
                        (self, delays, again)
                    };
                    match confined.run(attempt).await {
                        Ok(after) => (self, delays, again) = after,
                        Err(error) => {
                            (self, delays) = (before, connector.delays());
                            self.position = status.position().or(self.position);
                            again = self.pause_long(&error).await.is_ok();
                        }
                    }
                }
                Err(error) => again = self.pause_long(&error).await.is_ok(),
            }
            if again {
                status.update(|status| {
                    status.state = State::Connecting;
                    status.reconnects += 1;
                });
            } else {
                break;
            }
        }
        status.update(|status| status.state = State::Stopped);
    }

    /// For what has nothing to do with the hub, and will hardly be better soon.
    async fn pause_long(&mut self, error: &HubError) -> Result<(), Stopped> {
        let delay = self.connector.config().pace.backoff;
        self.pause(error, delay, async {}).await
    }

    /// Reads with one client and pauses after its error; says whether to go on.
    async fn attempt(&mut self, delays: &mut Delays) -> bool {
        let connector = Arc::clone(&self.connector);
        let pace = connector.config().pace;
        let (began, from) = (Instant::now(), self.position);
        let (client, reading) = self.connect_and_read().await;
        let goodbye = async {
            if let Some(client) = client {
                close(client, pace.call).await;
            }
        };
        let Err(error) = reading else {
            goodbye.await;
            return false;
        };
        // What was read has earned a quick next attempt, but not a race with who takes the partition.
        let has_read = self.position != from && error.fault != Fault::Stolen;
        if has_read || began.elapsed() > pace.stall {
            *delays = connector.delays();
        }
        let delay = delays.next().unwrap_or(pace.backoff);
        let asked = error.wait.unwrap_or_default().min(pace.backoff);
        let delay = delay.max(asked);
        self.pause(&error, delay, goodbye).await.is_ok()
    }

    /// Says the error and waits; a peer that has vanished takes no goodbye, so that the wait goes on
    /// meanwhile.
    async fn pause(
        &mut self,
        error: &HubError,
        delay: Duration,
        goodbye: impl Future<Output = ()>,
    ) -> Result<(), Stopped> {
        self.report(error, delay);
        // While nothing can be read, the partition's end is not known.
        self.say_at_end(false).await?;
        let pause = async { tokio::join!(goodbye, tokio::time::sleep(delay)) };
        let cancel = self.cancel.clone();
        match cancel.run_until_cancelled(pause).await {
            Some(_) => Ok(()),
            None => Err(Stopped),
        }
    }

    fn report(&self, error: &HubError, delay: Duration) {
        let state = State::from(error.fault);
        self.status.update(|status| {
            status.state = state;
            status.error = Some(error.text.clone());
            status.paused = false;
            status.faults[error.fault as usize] += 1;
        });
        tracing::warn!(
            source = %self.partition.source,
            partition = %self.partition.id,
            fault = ?error.fault,
            retry_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            %error,
            "reading the partition failed"
        );
    }

    /// The client is left to be closed, which can take its time, after the error has been said.
    async fn connect_and_read(&mut self) -> (Option<ConsumerClient>, Reading) {
        let cancel = self.cancel.clone();
        match cancel.run_until_cancelled(self.connector.consumer()).await {
            None => (None, Ok(Stopped)),
            Some(Err(error)) => (None, Err(error)),
            Some(Ok(client)) => {
                let reading = self.read(&client).await;
                (Some(client), reading)
            }
        }
    }

    async fn read(&mut self, client: &ConsumerClient) -> Reading {
        let cancel = self.cancel.clone();
        let connector = Arc::clone(&self.connector);
        let pace = connector.config().pace;
        let id = Arc::clone(&self.partition.id);
        let Some(properties) = cancel
            .run_until_cancelled(poll(&connector, client, &id))
            .await
        else {
            return Ok(Stopped);
        };
        let properties = properties?;
        let options = OpenReceiverOptions {
            owner_level: connector.config().owner_level,
            prefetch: Some(connector.config().prefetch),
            start_position: Some(self.start(&properties)),
            receive_timeout: None,
        };
        let opening = client.open_receiver_on_partition(id.to_string(), Some(options));
        let receiver = connector.limited("open receiver", opening).await?;
        let mut events = Box::pin(receiver.stream_events());

        let mut last_enqueued = properties.last_enqueued_sequence_number;
        let mut progress = Instant::now();
        let mut is_reading = false;
        let mut polls = tokio::time::interval_at(progress + pace.poll, pace.poll);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut polling = Box::pin(Fuse::terminated());
        let mut pending = Pending::default();
        loop {
            let at_end = has_reached(pending.last.or(self.position), last_enqueued);
            let quiet_from = match pending.since {
                Some(since) => since + LINGER,
                None => progress + QUIET,
            };
            let has_to_say = !pending.chunks.is_empty() || !is_reading || at_end != self.at_end;
            tokio::select! {
                () = cancel.cancelled() => return Ok(Stopped),
                event = events.next() => {
                    let event = match event {
                        Some(Ok(event)) => event,
                        other => {
                            // What came before the error is good.
                            if self.deliver(&mut pending, false).await.is_err() {
                                return Ok(Stopped);
                            }
                            return Err(stream_error(other.and_then(Result::err)));
                        }
                    };
                    self.take(event, &mut pending);
                    if !std::mem::replace(&mut is_reading, true) {
                        self.reading();
                    }
                    if self.is_full(&pending) && self.deliver(&mut pending, false).await.is_err() {
                        return Ok(Stopped);
                    }
                    progress = Instant::now();
                }
                properties = &mut polling => {
                    let properties: EventHubPartitionProperties = properties?;
                    last_enqueued = properties.last_enqueued_sequence_number;
                    self.status.update(|status| status.last_enqueued = Some(last_enqueued));
                    let reached = pending.last.or(self.position);
                    if !has_reached(reached, last_enqueued) && progress.elapsed() > pace.stall {
                        let text = format!(
                            "the hub holds events up to {last_enqueued} but delivers none since {} s",
                            progress.elapsed().as_secs()
                        );
                        return Err(HubError::new(Fault::Stalled, text));
                    }
                }
                _ = polls.tick(), if polling.is_terminated() => {
                    polling = Box::pin(poll(&connector, client, &id).fuse());
                }
                () = tokio::time::sleep_until(quiet_from), if has_to_say => {
                    if !std::mem::replace(&mut is_reading, true) {
                        self.reading();
                    }
                    let said = if pending.chunks.is_empty() {
                        self.say_at_end(at_end).await
                    } else {
                        let said = self.deliver(&mut pending, at_end).await;
                        // Delivering may have waited, which is not the hub's fault.
                        progress = Instant::now();
                        said
                    };
                    if said.is_err() {
                        return Ok(Stopped);
                    }
                }
            }
        }
    }

    fn reading(&self) {
        tracing::info!(
            source = %self.partition.source,
            partition = %self.partition.id,
            after = self.position.map(|position| position.0),
            "reading the partition"
        );
        self.status.update(|status| {
            status.state = State::Reading;
            status.error = None;
        });
    }

    /// Where to begin, given what the hub says of the partition; corrects a position that the hub
    /// has no events for.
    fn start(&mut self, properties: &EventHubPartitionProperties) -> StartPosition {
        let begin = properties.beginning_sequence_number;
        let last = properties.last_enqueued_sequence_number;
        let before_first = Position(begin - 1);
        self.status
            .update(|status| status.last_enqueued = Some(last));
        if let Some(position) = self.position {
            if position < before_first {
                self.count_lost(before_first.0 - position.0);
                self.position = Some(before_first);
            } else if position.0 > last {
                tracing::warn!(
                    source = %self.partition.source,
                    partition = %self.partition.id,
                    position = position.0,
                    last,
                    "the hub's sequence numbers lie before our position, as if it was made anew; reading from the earliest"
                );
                self.status.update(|status| status.rewinds += 1);
                self.position = Some(before_first);
            }
        } else {
            self.position = match self.connector.config().start {
                Start::Earliest => Some(before_first),
                Start::Latest => Some(Position(last)),
                // Where the time lies is known if it is after everything in the hub.
                Start::Time(time) => {
                    let newest = properties
                        .last_enqueued_time_utc
                        .and_then(|newest| Timestamp::try_from(newest).ok());
                    let is_after =
                        properties.is_empty || newest.is_some_and(|newest| newest < time);
                    is_after.then_some(Position(last))
                }
            };
        }
        if let Some(position) = self.position {
            self.status
                .update(|status| status.last_sequence_number = Some(position.0));
        }
        match (self.position, self.connector.config().start) {
            (Some(position), _) if position < Position(0) => StartPosition {
                location: StartLocation::Earliest,
                inclusive: false,
            },
            (Some(position), _) => StartPosition {
                location: StartLocation::SequenceNumber(position.0),
                inclusive: false,
            },
            (None, Start::Time(time)) if time >= Timestamp::UNIX_EPOCH => {
                let millis = u64::try_from(time.as_millisecond()).unwrap_or(0);
                let time = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
                StartPosition {
                    location: StartLocation::EnqueuedTime(time),
                    inclusive: true,
                }
            }
            (None, _) => StartPosition {
                location: StartLocation::Earliest,
                inclusive: false,
            },
        }
    }

    /// Says that events between what was read and what can be read are gone.
    fn count_lost(&self, lost: i64) {
        let lost = u64::try_from(lost).unwrap_or(0);
        tracing::warn!(
            source = %self.partition.source,
            partition = %self.partition.id,
            lost,
            "events fell out of the hub's retention before they were read; reading on from the earliest"
        );
        self.status.update(|status| status.lost += lost);
    }

    /// Adds an event to what is to be delivered, unless it was read already.
    fn take(&mut self, event: ReceivedEventData, pending: &mut Pending) {
        let last = pending.last.or(self.position);
        // The service gives every event a number; one without could not be resumed after.
        let Some(number) = event.sequence_number() else {
            self.status.update(|status| status.repeats += 1);
            return;
        };
        if last.is_some_and(|last| number <= last.0) {
            self.status.update(|status| status.repeats += 1);
            return;
        }
        if let Some(last) = last
            && number > last.0 + 1
        {
            self.count_lost(number - last.0 - 1);
        }
        pending
            .before
            .get_or_insert(last.unwrap_or(Position(number - 1)));
        pending.last = Some(Position(number));
        pending.since.get_or_insert_with(Instant::now);
        let enqueued = event
            .enqueued_time()
            .and_then(|time| Timestamp::try_from(time).ok());
        let bytes = body(event);
        pending.bytes += bytes.len();
        pending.chunks.push(Chunk {
            bytes,
            position: number,
            framing: Framing::Value,
            enqueued,
        });
    }

    /// Hands the pending events on; the position moves only with them.
    async fn deliver(&mut self, pending: &mut Pending, at_end: bool) -> Result<(), Stopped> {
        let Pending {
            before: Some(from),
            last: Some(to),
            chunks,
            ..
        } = std::mem::take(pending)
        else {
            return Ok(());
        };
        fail_point!("source.received");
        self.send(from, to, chunks, at_end).await?;
        fail_point!("source.sent");
        self.status.update(|status| {
            status.last_sequence_number = Some(to.0);
            status.last_enqueued = status.last_enqueued.max(Some(to.0));
            status.last_received = Some(Timestamp::now());
        });
        Ok(())
    }

    /// Waits while the partition is too far ahead of others in event time.
    async fn wait_for_others(&mut self) -> Result<(), Stopped> {
        let Some(pacing) = &self.out.pacing else {
            return Ok(());
        };
        let pausing = || {
            self.status.update(|status| {
                status.paused = true;
                status.pauses += 1;
            });
        };
        let turn = pacing.turn(&self.partition, pausing);
        let Some(waited) = self.cancel.run_until_cancelled(turn).await else {
            return Err(Stopped);
        };
        if waited != Waited::No {
            self.status.update(|status| status.paused = false);
        }
        if waited == Waited::GivenUp {
            self.status.update(|status| status.pauses_given_up += 1);
            tracing::warn!(
                source = %self.partition.source,
                partition = %self.partition.id,
                "other partitions are still far behind in event time; reading on, and what detectors learn meanwhile may be out of order"
            );
        }
        Ok(())
    }

    /// Whether what is pending makes a batch: by number, size, or the hub's time that it spans.
    fn is_full(&self, pending: &Pending) -> bool {
        let spans = || {
            let span = self.out.pacing.as_ref()?.span();
            let first = pending.chunks.first()?.enqueued?;
            let last = pending.chunks.last()?.enqueued?;
            Some(last.duration_since(first) > span)
        };
        pending.is_full() || spans().unwrap_or(false)
    }

    /// Says in an empty batch whether the partition is read to its end, if that has changed.
    async fn say_at_end(&mut self, at_end: bool) -> Result<(), Stopped> {
        match self.position {
            Some(position) if at_end != self.at_end => {
                self.send(position, position, Vec::new(), at_end).await
            }
            _ => Ok(()),
        }
    }

    async fn send(
        &mut self,
        from: Position,
        to: Position,
        chunks: Vec<Chunk>,
        at_end: bool,
    ) -> Result<(), Stopped> {
        if !chunks.is_empty() {
            self.wait_for_others().await?;
        }
        let batch = Batch {
            partition: Arc::clone(&self.partition),
            from,
            to,
            chunks,
            at_end,
        };
        if let Some(pacing) = &self.out.pacing {
            pacing.sent(&self.partition);
        }
        let sending = self
            .cancel
            .run_until_cancelled(self.out.batches.send(batch));
        let Some(Ok(())) = sending.await else {
            return Err(Stopped);
        };
        self.position = Some(to);
        self.at_end = at_end;
        Ok(())
    }
}

/// Events taken from the client and not yet handed on.
#[derive(Default)]
struct Pending {
    /// The position before the first of them.
    before: Option<Position>,
    last: Option<Position>,
    since: Option<Instant>,
    chunks: Vec<Chunk>,
    bytes: usize,
}

impl Pending {
    fn is_full(&self) -> bool {
        self.chunks.len() >= BATCH_MESSAGES || self.bytes >= BATCH_BYTES
    }
}

async fn poll(
    connector: &Connector,
    client: &ConsumerClient,
    id: &str,
) -> Result<EventHubPartitionProperties, HubError> {
    let asking = client.get_partition_properties(id);
    connector.limited("partition properties", asking).await
}

fn has_reached(position: Option<Position>, sequence_number: i64) -> bool {
    position.is_some_and(|position| position.0 >= sequence_number)
}

/// The error that ended a stream; a stream that ends without one was closed under us.
fn stream_error(error: Option<EventHubsError>) -> HubError {
    match error {
        Some(error) => HubError::from_client("receive", &error),
        None => HubError::new(Fault::Unreachable, "receive: the link was closed"),
    }
}

/// The body of an event, which stays where the client has put it unless it came in several parts.
fn body(event: ReceivedEventData) -> Bytes {
    match &event.raw_amqp_message().body {
        AmqpMessageBody::Binary(parts) if parts.len() == 1 => Bytes::from_owner(SingleBody(event)),
        AmqpMessageBody::Binary(parts) => parts.concat().into(),
        AmqpMessageBody::Value(AmqpValue::Binary(bytes)) => bytes.clone().into(),
        AmqpMessageBody::Value(AmqpValue::String(text)) => text.clone().into(),
        AmqpMessageBody::Value(_) | AmqpMessageBody::Sequence(_) | AmqpMessageBody::Empty => {
            Bytes::new()
        }
    }
}

/// An event whose body is a single binary part.
struct SingleBody(ReceivedEventData);

impl AsRef<[u8]> for SingleBody {
    fn as_ref(&self) -> &[u8] {
        match &self.0.raw_amqp_message().body {
            AmqpMessageBody::Binary(parts) => parts.first().map_or(&[], Vec::as_slice),
            _ => &[],
        }
    }
}
