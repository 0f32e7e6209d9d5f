//! Everything the pipeline remembers, and how it goes to disk and comes back.
//!
//! The detectors' state and the open alerts are written together: after each batch what changed,
//! now and then the whole. Both are postcard with a version in front.

use serde::{Deserialize, Serialize};

use crate::alert::group::{self, Groups};
use crate::detect::Judge;
use crate::detect::order::{self, Learning};
use crate::store::Recovered;

/// Version of what is written. Another one is not read: the state is learned anew, and that is said.
const VERSION: u8 = 6;

#[derive(Debug)]
pub struct Memory {
    pub judge: Judge,
    pub groups: Groups,
}

#[derive(Serialize, Deserialize)]
struct Delta {
    judge: order::Delta,
    groups: group::Delta,
}

/// All that is remembered.
#[derive(Debug, Serialize, Deserialize)]
pub struct Snapshot {
    judge: order::Snapshot,
    groups: group::Delta,
}

impl Memory {
    pub fn new(learning: Learning) -> Memory {
        Memory {
            judge: Judge::durable(learning),
            groups: Groups::default(),
        }
    }

    /// As it was at the last commit, as far as what the store holds can be read; false where some of
    /// it cannot.
    pub fn recover(recovered: &Recovered, learning: Learning) -> (Memory, bool) {
        let mut memory = Memory::new(learning);
        let mut is_whole = true;
        if let Some(snapshot) = &recovered.snapshot {
            match read::<Snapshot>(snapshot) {
                Ok(snapshot) => {
                    memory.judge.restore(snapshot.judge);
                    memory.groups.apply(snapshot.groups);
                }
                Err(error) => {
                    is_whole = false;
                    tracing::warn!(%error, "the snapshot of the state cannot be read; learning anew");
                }
            }
        }
        for delta in &recovered.deltas {
            match read::<Delta>(delta) {
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

    /// What changed since the last call; `None` where nothing did.
    pub fn take_delta(&mut self) -> Option<Vec<u8>> {
        let delta = Delta {
            judge: self.judge.take_delta(),
            groups: self.groups.take_delta(),
        };
        if delta.judge.is_empty() && delta.groups.is_empty() {
            return None;
        }
        match write(&delta) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                tracing::error!(%error, "a change of the state cannot be written");
                None
            }
        }
    }

    pub fn snapshot(&self) -> Result<Vec<u8>, postcard::Error> {
        write(&self.contents())
    }

    /// Entries come in no particular order.
    pub fn contents(&self) -> Snapshot {
        Snapshot {
            judge: self.judge.snapshot(),
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

    /// Entries that a bound pushed out.
    pub fn evicted(&self) -> u64 {
        self.judge.evicted()
    }
}

fn write<T: Serialize>(value: &T) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_extend(value, vec![VERSION])
}

fn read<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Result<T, String> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|error| error.to_string()),
        Some((version, _)) => Err(format!("version {version} is not {VERSION}")),
        None => Err("it is empty".to_owned()),
    }
}
