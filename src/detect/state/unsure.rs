//! Matches that were no findings because the inventory did not know enough, or knew otherwise; should
//! the lesson come late, they are judged again.
//!
//! Kept in memory only: a restart within the lateness of a record costs what waits here.

use std::collections::VecDeque;

use crate::detect::Match;
use crate::detect::matches::Digest128;

/// Matches kept at most: they hold what an alert will show, about a kilobyte each.
const LIMIT: usize = 1024;

#[derive(Debug, Default)]
pub struct Unsure(VecDeque<(Digest128, Match)>);

impl Unsure {
    /// With the digest of the detector's id.
    pub fn put(&mut self, detector: Digest128, found: Match) {
        if self.0.len() >= LIMIT {
            self.0.pop_front();
        }
        self.0.push_back((detector, found));
    }

    /// Takes out those that `wanted` admits.
    pub fn take(&mut self, wanted: impl Fn(&Match) -> bool) -> Vec<(Digest128, Match)> {
        if !self.0.iter().any(|(_, found)| wanted(found)) {
            return Vec::new();
        }
        let (taken, kept) = self.0.drain(..).partition(|(_, found)| wanted(found));
        let taken: VecDeque<_> = taken;
        self.0 = kept;
        taken.into()
    }
}
