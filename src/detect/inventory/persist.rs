//! The inventory on disk: blobs with a version of their own, so that a change of its form costs the
//! inventory and nothing else of the state.

use serde::{Deserialize, Serialize};

use super::grants::Grant;
use super::lesson::Lesson;
use super::meta::Meta;
use super::object::Key;
use super::shelf::Owner;
use super::state::{Entry, Inventory};

/// Of what is written. Another one is not read: the inventory begins anew, and that is said.
const VERSION: u8 = 1;

/// What was learnt since the last delta; empty where nothing was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta(Vec<u8>);

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot(Vec<u8>);

#[derive(Serialize, Deserialize)]
struct Whole {
    clusters: Vec<Meta>,
    entries: Vec<(u32, Key, Owner, Entry)>,
    grants: Vec<Grant>,
}

/// All of it, to be looked at: without the numbers of clusters, which follow from the order in which
/// these were first heard of.
#[derive(Debug)]
#[expect(dead_code, reason = "read by its Debug")]
pub struct Contents {
    clusters: Vec<Meta>,
    entries: Vec<(Box<str>, Key, Owner, Entry)>,
    grants: Vec<Grant>,
}

impl Delta {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Inventory {
    /// Takes in what waits: what is committed as read must have been learnt.
    pub fn take_delta(&mut self) -> Delta {
        if !self.has_news() {
            return Delta::default();
        }
        self.settle_all();
        let journal = self.take_journal();
        if journal.is_empty() {
            return Delta::default();
        }
        Delta(write(&journal))
    }

    pub fn apply(&mut self, delta: &Delta) {
        if delta.is_empty() {
            return;
        }
        match read::<Vec<Lesson>>(&delta.0) {
            Ok(lessons) => lessons.into_iter().for_each(|lesson| self.learn(lesson)),
            Err(error) => {
                tracing::warn!(%error, "a change of the inventory cannot be read; it is learnt anew");
            }
        }
        self.take_journal();
        self.late.clear();
    }

    fn whole(&self) -> Whole {
        let entries = self
            .shelf
            .by_age()
            .into_iter()
            .map(|((cluster, key), owner, _, entry)| (*cluster, key.clone(), owner, entry.clone()))
            .collect();
        Whole {
            clusters: self.metas.clone(),
            entries,
            grants: self.grants.iter().cloned().collect(),
        }
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot(write(&self.whole()))
    }

    pub fn contents(&self) -> Contents {
        let whole = self.whole();
        let name = |number: u32| whole.clusters[number as usize].name.clone();
        let entries = whole.entries.into_iter();
        Contents {
            entries: entries
                .map(|(cluster, key, owner, entry)| (name(cluster), key, owner, entry))
                .collect(),
            clusters: whole.clusters,
            grants: whole.grants,
        }
    }

    /// Puts a snapshot into an inventory that knows nothing.
    pub fn restore(&mut self, snapshot: &Snapshot) {
        if snapshot.0.is_empty() {
            return;
        }
        let whole = match read::<Whole>(&snapshot.0) {
            Ok(whole) => whole,
            Err(error) => {
                tracing::warn!(%error, "the inventory cannot be read; it is learnt anew");
                return;
            }
        };
        for meta in whole.clusters {
            if let Some(number) = self.enter(&meta.name) {
                self.set_meta(number, meta);
            }
        }
        for (cluster, key, owner, entry) in whole.entries {
            if (cluster as usize) < self.metas.len() {
                self.put((cluster, key), owner, entry);
            }
        }
        whole
            .grants
            .into_iter()
            .for_each(|grant| self.grants.add(grant));
    }
}

fn write<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![VERSION]).unwrap_or_else(|error| {
        tracing::error!(%error, "the inventory cannot be written");
        Vec::new()
    })
}

fn read<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Result<T, String> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|error| error.to_string()),
        Some((version, _)) => Err(format!("version {version} is not {VERSION}")),
        None => Err("it is empty".to_owned()),
    }
}
