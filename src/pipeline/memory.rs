//! Everything the pipeline remembers, and how it goes to disk and comes back.
//!
//! The detectors' state and the open alerts are written together: after each batch what changed,
//! now and then the whole. Both are postcard with a version in front. Of a snapshot that was written
//! by another program or for other detectors, what still means the same is kept.

use serde::{Deserialize, Serialize};

use crate::alert::group::{self, Groups};
use crate::detect::order::Learning;
use crate::detect::snapshot as judge;
use crate::detect::{Detector, Engine, Judge};
use crate::store::Recovered;

/// Versions of what is written. Another one is not read: the state is learned anew, and that is said.
/// A stop leaves a snapshot and no delta, so that a new version of deltas costs an upgrade nothing.
const SNAPSHOT: u8 = 9;
const DELTA: u8 = 10;

#[derive(Debug)]
pub struct Memory {
    pub judge: Judge,
    pub groups: Groups,
}

#[derive(Serialize, Deserialize)]
struct Delta {
    judge: judge::Delta,
    groups: group::Delta,
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    judge: judge::Snapshot,
    groups: group::Delta,
}

/// All that is remembered, to be looked at.
#[derive(Debug)]
pub struct Contents {
    /// Read by its `Debug`.
    pub judge: judge::Contents,
    pub groups: group::Delta,
}

impl Memory {
    pub fn new(learning: Learning) -> Memory {
        Memory {
            judge: Judge::durable(learning),
            groups: Groups::default(),
        }
    }

    /// As it was at the last commit, as far as what the store holds can be read; false where some of
    /// it cannot. Of `engine`, those detectors are named that now remember otherwise.
    pub fn recover(
        recovered: &Recovered,
        learning: Learning,
        engine: Option<&Engine>,
    ) -> (Memory, bool) {
        let mut memory = Memory::new(learning);
        let mut is_whole = true;
        if let Some(snapshot) = &recovered.snapshot {
            match read::<Snapshot>(SNAPSHOT, snapshot) {
                Ok(snapshot) => {
                    let changed = engine.map_or(Vec::new(), |engine| {
                        snapshot.judge.changed(&engine.detectors)
                    });
                    if !changed.is_empty() {
                        let detectors = changed.join(", ");
                        tracing::warn!(%detectors, "these detectors remember otherwise than before; they learn anew");
                    }
                    let lost = memory.judge.restore(&snapshot.judge);
                    if !lost.is_empty() {
                        let operators = lost.join(", ");
                        is_whole = false;
                        tracing::warn!(%operators, "the snapshot does not hold these as this version writes them; they learn anew");
                    }
                    memory.groups.apply(snapshot.groups);
                }
                Err(error) => {
                    is_whole = false;
                    tracing::warn!(%error, "the snapshot of the state cannot be read; learning anew");
                }
            }
        }
        for delta in &recovered.deltas {
            match read::<Delta>(DELTA, delta) {
                Ok(delta) => {
                    memory.judge.apply(delta.judge);
                    memory.groups.apply(delta.groups);
                }
                Err(error) => {
                    is_whole = false;
                    tracing::warn!(%error, "a change of the state cannot be read; learning it anew");
                }
            }
        }
        (memory, is_whole)
    }

    /// Of `detectors`, those that remember otherwise than when the snapshot was written.
    pub fn changed(recovered: &Recovered, detectors: &[Detector]) -> Vec<String> {
        let snapshot = recovered.snapshot.as_deref();
        let snapshot = snapshot.and_then(|snapshot| read::<Snapshot>(SNAPSHOT, snapshot).ok());
        snapshot.map_or(Vec::new(), |snapshot| snapshot.judge.changed(detectors))
    }

    /// What changed since the last call; `None` where nothing did.
    pub fn take_delta(&mut self) -> Option<Vec<u8>> {
        let delta = Delta {
            judge: self.judge.take_delta(),
            groups: self.groups.take_delta(),
        };
        if delta.judge.is_empty() && delta.groups.is_empty() {
            return None;
        }
        match write(DELTA, &delta) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                tracing::error!(%error, "a change of the state cannot be written");
                None
            }
        }
    }

    pub fn snapshot(&self, engine: &Engine) -> Result<Vec<u8>, postcard::Error> {
        let snapshot = Snapshot {
            judge: self.judge.snapshot(engine)?,
            groups: self.groups.snapshot(),
        };
        write(SNAPSHOT, &snapshot)
    }

    /// All that is remembered; entries come in no particular order.
    pub fn contents(&self) -> Contents {
        Contents {
            judge: self.judge.contents(),
            groups: self.groups.snapshot(),
        }
    }

    /// Entries remembered, by what they are.
    pub fn entries(&self) -> Vec<(&'static str, usize)> {
        let mut entries = self.judge.entries().to_vec();
        entries.push(("alerts", self.groups.len()));
        entries.push(("incidents", self.groups.incidents.len()));
        entries
    }

    /// Bytes held in memory, about, by what holds them, where that is bounded in bytes.
    pub fn bytes(&self) -> [(&'static str, usize); 2] {
        [
            ("alerts", self.groups.bytes()),
            ("incidents", self.groups.incidents.bytes()),
        ]
    }

    /// Matches that came later than what was expected.
    pub fn late(&self) -> u64 {
        self.judge.late()
    }

    /// Entries that a bound pushed out.
    pub fn evicted(&self) -> u64 {
        self.judge.evicted() + self.groups.evicted() + self.groups.incidents.evicted()
    }
}

fn write<T: Serialize>(version: u8, value: &T) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_extend(value, vec![version])
}

fn read<'b, T: Deserialize<'b>>(version: u8, bytes: &'b [u8]) -> Result<T, String> {
    match bytes.split_first() {
        Some((found, rest)) if *found == version => {
            postcard::from_bytes(rest).map_err(|error| error.to_string())
        }
        Some((found, _)) => Err(format!("version {found} is not {version}")),
        None => Err("it is empty".to_owned()),
    }
}
