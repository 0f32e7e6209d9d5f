//! How reading a hub goes, shared with readiness, metrics and the status page.
//!
//! The tasks of the hub write it at state changes and once a batch; readers take snapshots.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::error::{Fault, HubError};
use crate::source::Position;

/// What a hub or a partition is doing; closed, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum State {
    #[default]
    Connecting,
    Reading,
    /// Waits before the next attempt, after any other error than the next two.
    Backoff,
    /// Waits because another reader holds the partition.
    Stolen,
    /// Waits because the hub refused the credentials.
    Unauthorized,
    Stopped,
}

impl From<Fault> for State {
    fn from(fault: Fault) -> State {
        match fault {
            Fault::Stolen => State::Stolen,
            Fault::Unauthorized => State::Unauthorized,
            Fault::NotFound
            | Fault::Timeout
            | Fault::Stalled
            | Fault::Throttled
            | Fault::Refused
            | Fault::Unreachable => State::Backoff,
        }
    }
}

/// One hub's status.
#[derive(Debug)]
pub struct HubStatus {
    name: String,
    listing: Mutex<Listing>,
    partitions: Mutex<BTreeMap<String, Arc<PartitionStatus>>>,
}

/// How finding out the hub's partitions goes.
#[derive(Debug, Clone, Default)]
struct Listing {
    state: State,
    error: Option<String>,
    listed: bool,
    faults: [u64; Fault::ALL.len()],
}

/// A partition's status, as its task writes it.
#[derive(Debug)]
pub(super) struct PartitionStatus(Mutex<PartitionSnapshot>);

#[derive(Debug, Clone)]
pub struct HubSnapshot {
    /// The section's name in the configuration.
    pub name: String,
    /// Of asking the hub for its partitions.
    pub state: State,
    pub error: Option<String>,
    /// The hub has said at least once which partitions it has.
    pub listed: bool,
    /// Errors of asking, in the order of [`Fault::ALL`].
    pub faults: [u64; Fault::ALL.len()],
    /// In the order of their ids as text.
    pub partitions: Vec<PartitionSnapshot>,
}

impl HubSnapshot {
    /// The partitions are known and all are being read.
    pub fn is_ready(&self) -> bool {
        self.listed && self.partitions.iter().all(|p| p.state == State::Reading)
    }
}

#[derive(Debug, Clone, Default)]
pub struct PartitionSnapshot {
    pub id: String,
    pub state: State,
    /// The last error, kept until the partition is read again.
    pub error: Option<String>,
    pub last_sequence_number: Option<i64>,
    /// As the hub said last; asked for every 10 s.
    pub last_enqueued: Option<i64>,
    pub last_received: Option<Timestamp>,
    /// Clients opened after the first.
    pub reconnects: u64,
    /// Events that fell out of retention before they were read.
    pub lost: u64,
    /// Times that the hub's sequence numbers lay before our position, as after it was made anew.
    pub rewinds: u64,
    /// Repeated or out-of-order events that were dropped.
    pub repeats: u64,
    /// Errors, in the order of [`Fault::ALL`].
    pub faults: [u64; Fault::ALL.len()],
    /// Waits now for partitions that are behind in event time.
    pub paused: bool,
    /// Times that it had to.
    pub pauses: u64,
    /// Times that it waited as long as it may, and went on.
    pub pauses_given_up: u64,
}

impl PartitionSnapshot {
    /// Events in the hub that are not read yet, as far as the hub has said.
    pub fn lag(&self) -> Option<u64> {
        let lag = self
            .last_enqueued?
            .saturating_sub(self.last_sequence_number?);
        Some(u64::try_from(lag).unwrap_or(0))
    }
}

impl HubStatus {
    pub fn new(name: impl Into<String>) -> HubStatus {
        HubStatus {
            name: name.into(),
            listing: Mutex::default(),
            partitions: Mutex::default(),
        }
    }

    pub fn snapshot(&self) -> HubSnapshot {
        let listing = lock(&self.listing).clone();
        let partitions = lock(&self.partitions)
            .values()
            .map(|partition| lock(&partition.0).clone())
            .collect();
        HubSnapshot {
            name: self.name.clone(),
            state: listing.state,
            error: listing.error,
            listed: listing.listed,
            faults: listing.faults,
            partitions,
        }
    }

    pub(super) fn listed(&self) {
        let mut listing = lock(&self.listing);
        listing.state = State::Reading;
        listing.error = None;
        listing.listed = true;
    }

    pub(super) fn listing_failed(&self, error: &HubError) {
        let mut listing = lock(&self.listing);
        listing.state = error.fault.into();
        listing.error = Some(error.text.clone());
        listing.faults[error.fault as usize] += 1;
    }

    pub(super) fn stopped(&self) {
        lock(&self.listing).state = State::Stopped;
    }

    /// The partition's status, made at the first call.
    pub(super) fn partition(&self, id: &str) -> Arc<PartitionStatus> {
        let mut partitions = lock(&self.partitions);
        let partition = partitions.entry(id.to_owned()).or_insert_with(|| {
            Arc::new(PartitionStatus(Mutex::new(PartitionSnapshot {
                id: id.to_owned(),
                ..PartitionSnapshot::default()
            })))
        });
        Arc::clone(partition)
    }
}

impl PartitionStatus {
    /// The last sequence number that was handed on.
    pub(super) fn position(&self) -> Option<Position> {
        lock(&self.0).last_sequence_number.map(Position)
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut PartitionSnapshot)) {
        change(&mut lock(&self.0));
    }
}

/// Nothing here panics while it holds a lock, so a poisoned one is still sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
