//! When the daemon's state is written anew, in place of the deltas since, and how its copy is made.
//!
//! The judging thread of [`super::live`] asks after each commit. It puts the state into the database
//! itself; the second copy, a file beside it, is written by a thread of its own.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::memory::Memory;
use crate::detect::Engine;
use crate::failpoint::{self, fail_point};
use crate::store::{Store, StoreError};

/// Bytes of deltas after which the state is written anew; where it is large, half its own.
const DELTAS_PER_SNAPSHOT: u64 = 16 << 20;

/// Time after which the state is written anew where it changed at all: a damaged database costs what
/// came after the last snapshot, which must lie well within the hub's retention.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(60 * 60);

/// Pause after a snapshot could not be written.
const SNAPSHOT_PAUSE: Duration = Duration::from_secs(60);

pub(super) struct Snapshots {
    next: Instant,
    /// After a failure there is a pause, however much is due.
    not_before: Instant,
    /// Bytes of the last one.
    size: u64,
    /// The thread that writes the last one's second copy, which the next waits for.
    copying: Option<JoinHandle<Result<(), StoreError>>>,
}

impl Snapshots {
    /// `last`: bytes of the snapshot that the state comes from. Without a whole one, a damaged database
    /// would cost everything, so that the next is due at once.
    pub fn new(last: Option<u64>) -> Snapshots {
        let now = Instant::now();
        Snapshots {
            next: last.map_or(now, |_| now + SNAPSHOT_EVERY),
            not_before: now,
            size: last.unwrap_or_default(),
            copying: None,
        }
    }

    /// With `deltas` bytes written since the last.
    pub fn is_due(&mut self, deltas: u64) -> bool {
        if self.copying.as_ref().is_some_and(JoinHandle::is_finished) {
            self.finish();
        }
        if self.copying.is_some() {
            return false;
        }
        let now = Instant::now();
        let due = deltas > DELTAS_PER_SNAPSHOT.max(self.size / 2) || deltas > 0 && now >= self.next;
        due && now >= self.not_before || failpoint::is_forced("snapshot.due")
    }

    /// Puts the state into the database. Its second copy needs nothing of this thread, which has events
    /// to judge.
    pub fn take(&mut self, memory: &Memory, engine: &Engine, store: &Store) {
        fail_point!("snapshot.before");
        let started = Instant::now();
        let copy = match memory.snapshot(engine) {
            Ok(state) => {
                self.size = state.len() as u64;
                store.replace(state).map_err(|error| {
                    tracing::error!(%error, "the snapshot cannot be written; the deltas are kept");
                })
            }
            Err(error) => {
                tracing::error!(%error, "the state cannot be written as a snapshot");
                Err(())
            }
        };
        match copy {
            Ok(copy) => {
                let writing = std::thread::Builder::new()
                    .name("snapshot".to_owned())
                    .spawn(move || copy.write());
                match writing {
                    Ok(writing) => self.copying = Some(writing),
                    Err(error) => self.copied(Err(&error)),
                }
            }
            Err(()) => self.not_before = Instant::now() + SNAPSHOT_PAUSE,
        }
        let (bytes, took) = (self.size, started.elapsed().as_millis());
        tracing::debug!(bytes, took, "judging waited for a snapshot");
        fail_point!("snapshot.after");
    }

    /// Waits for the second copy of the last one, if it is being written.
    pub fn finish(&mut self) {
        let Some(copying) = self.copying.take() else {
            return;
        };
        match copying.join() {
            Ok(Ok(())) => self.copied(Ok(())),
            Ok(Err(error)) => self.copied(Err(&error)),
            Err(_) => self.copied(Err(&"its thread ended badly")),
        }
    }

    fn copied(&mut self, written: Result<(), &dyn std::fmt::Display>) {
        let now = Instant::now();
        match written {
            Ok(()) => self.next = now + SNAPSHOT_EVERY,
            Err(error) => {
                tracing::error!(%error, "the second copy of the snapshot cannot be written");
                self.not_before = now + SNAPSHOT_PAUSE;
            }
        }
    }
}
