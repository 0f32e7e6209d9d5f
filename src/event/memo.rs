//! What a worker remembers of the identities that it has met, so that their facts are not worked out
//! for each of their events.
//!
//! Filled and asked by [`super::View`]. Keys are keyed hashes of all that the facts are read from, so
//! that nobody who writes log content can make one identity be taken for another.

use std::cell::RefCell;
use std::hash::BuildHasher;

use ahash::RandomState;

use super::agent::Family;
use super::fact::{FactSet, Group};

/// Slots of each table: a power of two.
const SLOTS: usize = 1 << 12;

const _: () = assert!(
    Group::Actor.mask().fits_first_word(),
    "an actor's facts are kept in one word"
);

/// Belongs to one worker thread, and to one engine and its sites.
#[derive(Debug)]
pub struct Memo {
    hasher: RandomState,
    actors: RefCell<Vec<(u64, u64, u64)>>,
    agents: RefCell<Vec<(u64, Family)>>,
}

impl Default for Memo {
    fn default() -> Memo {
        Memo {
            hasher: RandomState::new(),
            actors: RefCell::new(vec![(0, 0, 0); SLOTS]),
            agents: RefCell::new(vec![(0, Family::Missing); SLOTS]),
        }
    }
}

impl Memo {
    pub(super) fn hasher(&self) -> ahash::AHasher {
        self.hasher.build_hasher()
    }

    /// The facts of the actor that `key` stands for, worked out if need be.
    pub(super) fn actor(&self, key: u64, facts: impl FnOnce() -> FactSet) -> FactSet {
        // Zero is an empty slot.
        let key = key | 1;
        let slot = (key >> 1) as usize % SLOTS;
        let (known, words) = {
            let (known, facts, truths) = self.actors.borrow()[slot];
            (known, (facts, truths))
        };
        if known == key {
            return FactSet::of_first_word(words);
        }
        let facts = facts();
        let (known, truths) = facts.first_word();
        self.actors.borrow_mut()[slot] = (key, known, truths);
        facts
    }

    /// The family of a user agent.
    pub(super) fn family(&self, user_agent: &str) -> Family {
        let key = self.hasher.hash_one(user_agent) | 1;
        let slot = (key >> 1) as usize % SLOTS;
        let (known, family) = self.agents.borrow()[slot];
        if known == key {
            return family;
        }
        let family = Family::of(user_agent);
        self.agents.borrow_mut()[slot] = (key, family);
        family
    }
}
