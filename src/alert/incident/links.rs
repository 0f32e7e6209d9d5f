//! What holds one incident together: the stretches of time in which its findings left each trace.
//!
//! Traces come from [`crate::event::trace`]; [`super::state`] asks which of them are shared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ties::reach;
use crate::event::tie::Tie;

/// Stretches of traces that one incident keeps.
const MAX_LINKS: usize = 512;

/// A stretch of one trace, in one role, within an incident; seconds of event time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Link {
    pub tie: Tie,
    pub first: i64,
    pub last: i64,
    /// Findings in it.
    pub count: u64,
}

/// By the digest of their tie; of one trace, stretches that lie further apart than the window.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Links {
    by_tie: BTreeMap<u128, Vec<Link>>,
    count: usize,
    last: i64,
    /// What the ties hold in memory.
    #[serde(skip)]
    bytes: usize,
}

/// What a tie holds in memory, with its place in the map and in the table of all ties.
fn held(tie: &Tie) -> usize {
    2 * size_of::<Link>() + 128 + tie.trace.value.len()
}

impl Links {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Counts anew what a snapshot does not hold.
    pub fn count_bytes(&mut self) {
        self.bytes = self.iter().map(|(_, link)| held(&link.tie)).sum();
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// When the latest finding was; seconds of event time.
    pub fn last(&self) -> i64 {
        self.last
    }

    pub fn ties(&self) -> impl Iterator<Item = u128> {
        self.by_tie.keys().copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (u128, &Link)> {
        self.by_tie
            .iter()
            .flat_map(|(key, links)| links.iter().map(|link| (*key, link)))
    }

    /// Adds a tie at `now`; gives the stretch that it lies in, or `None` where there is no
    /// room for one more.
    pub fn add(&mut self, key: u128, tie: &Tie, now: i64, window: i64) -> Option<(i64, i64)> {
        self.last = self.last.max(now);
        let window = reach(tie.trace.kind, window);
        if let Some(links) = self.by_tie.get_mut(&key)
            && let [link] = links.as_mut_slice()
            && now >= link.first.saturating_sub(window)
            && now <= link.last.saturating_add(window)
        {
            link.first = link.first.min(now);
            link.last = link.last.max(now);
            link.count += 1;
            return Some((link.first, link.last));
        }
        let link = Link {
            tie: tie.clone(),
            first: now,
            last: now,
            count: 1,
        };
        self.put(key, link, window)
    }

    fn put(&mut self, key: u128, mut link: Link, window: i64) -> Option<(i64, i64)> {
        if self.count >= MAX_LINKS && !self.by_tie.contains_key(&key) {
            return None;
        }
        // Most have a single one ever.
        let links = self
            .by_tie
            .entry(key)
            .or_insert_with(|| Vec::with_capacity(1));
        let before = links.len();
        links.retain(|other| {
            let apart = link.last < other.first.saturating_sub(window)
                || link.first > other.last.saturating_add(window);
            if !apart {
                self.bytes -= held(&other.tie);
                link.first = link.first.min(other.first);
                link.last = link.last.max(other.last);
                link.count += other.count;
            }
            apart
        });
        self.count -= before - links.len();
        if self.count >= MAX_LINKS {
            return None;
        }
        let stretch = (link.first, link.last);
        self.bytes += held(&link.tie);
        links.push(link);
        self.count += 1;
        Some(stretch)
    }

    /// Takes over what held another incident together.
    pub fn absorb(&mut self, other: Links, window: i64) {
        self.last = self.last.max(other.last);
        for (key, links) in other.by_tie {
            for link in links {
                let window = reach(link.tie.trace.kind, window);
                self.put(key, link, window);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tie::{Role, Trace, TraceKind};

    fn tie(value: usize) -> Tie {
        Tie {
            trace: Trace {
                kind: TraceKind::Object,
                value: value.to_string(),
            },
            role: Role::Took,
        }
    }

    #[test]
    fn stretches_join_once_what_lies_between_has_come() {
        let mut links = Links::default();
        assert_eq!(links.add(7, &tie(7), 0, 10), Some((0, 0)));
        assert_eq!(links.add(7, &tie(7), 18, 10), Some((18, 18)));
        assert_eq!((links.len(), links.iter().count()), (2, 2));
        assert_eq!(links.add(7, &tie(7), 9, 10), Some((0, 18)));
        assert_eq!((links.len(), links.iter().count()), (1, 1));
        assert_eq!(links.iter().map(|(_, link)| link.count).sum::<u64>(), 3);
        assert_eq!(links.last(), 18);
    }

    #[test]
    fn a_full_incident_still_widens_the_stretches_that_it_has() {
        let mut links = Links::default();
        for at in 0..MAX_LINKS {
            assert!(links.add(at as u128, &tie(at), 0, 10).is_some());
        }
        assert_eq!(links.add(u128::MAX, &tie(0), 1, 10), None);
        assert_eq!(links.add(3, &tie(3), 1, 10), Some((0, 1)));
        assert_eq!(links.add(3, &tie(3), 100, 10), None);
        assert_eq!((links.len(), links.iter().count()), (MAX_LINKS, MAX_LINKS));
    }
}
