//! Matches of a last step that may still become findings, should an earlier step come late.
//!
//! They are kept in memory only: after a restart the finding is of the step that came late, with the
//! same key.

use std::collections::VecDeque;

use crate::detect::matches::{Digest128, Match};

/// Matches kept at most: they hold what an alert will show, about a kilobyte each.
const LIMIT: usize = 1024;

#[derive(Debug, Default)]
pub struct Held(VecDeque<(Digest128, Match)>);

impl Held {
    /// Keeps the match under the key of its sequence.
    pub fn put(&mut self, key: Digest128, found: &Match) {
        if self.0.len() >= LIMIT {
            self.0.pop_front();
        }
        self.0.push_back((key, found.clone()));
    }

    /// The match by its key and the first 64 bits of its request's digest.
    pub fn take(&mut self, key: Digest128, request: u64) -> Option<Match> {
        let at = self.0.iter().position(|(held_by, held)| {
            *held_by == key && held.occurrence.request.0 as u64 == request
        })?;
        self.0.remove(at).map(|(_, held)| held)
    }
}
