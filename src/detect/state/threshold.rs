//! Counts in sliding windows of event time: many denials, many secrets, many networks.
//!
//! A match is a finding where some window that holds it holds the count, wherever in the order of
//! arrival it came: late events take their place in the window.

use std::collections::{HashSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::BoundedMap;
use crate::detect::matches::Digest128;

/// Keys kept at most over all detectors.
const KEY_LIMIT: usize = 1 << 18;

/// Events kept for a key beyond its count: enough to judge late ones, and a bound on a storm.
const KEPT_BEYOND_COUNT: usize = 64;

#[derive(Debug)]
pub struct Thresholds {
    windows: BoundedMap<Window>,
    fresh: Vec<Hit>,
}

impl Default for Thresholds {
    fn default() -> Self {
        Thresholds {
            windows: BoundedMap::new(KEY_LIMIT),
            fresh: Vec::new(),
        }
    }
}

/// The latest events of a key, by time: milliseconds, and 64 bits of what is counted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Window {
    events: VecDeque<(i64, u64)>,
}

/// One counted event, for the state's delta.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Hit {
    key: u128,
    at: i64,
    value: u64,
    keep: u32,
}

/// How to count a match.
pub struct Ask<'a> {
    pub state_hash: u64,
    pub key: &'a [String],
    /// What is counted once only; `None` counts every event.
    pub distinct: Option<&'a str>,
    /// Stands for the event itself where nothing is distinct.
    pub request: Digest128,
    pub time: Timestamp,
    pub count: u32,
    pub window: SignedDuration,
}

impl Thresholds {
    /// How many the fullest window that holds the match now holds; remembers the match.
    pub fn ask(&mut self, ask: &Ask<'_>) -> u32 {
        let key = Digest128::of(
            std::iter::once(&ask.state_hash.to_le_bytes()[..])
                .chain(ask.key.iter().map(|part| part.as_bytes())),
        );
        let value = match ask.distinct {
            Some(text) => Digest128::of([text.as_bytes()]).0 as u64,
            None => ask.request.0 as u64,
        };
        let hit = Hit {
            key: key.0,
            at: ask.time.as_millisecond(),
            value,
            keep: ask.count,
        };
        self.apply(hit);
        self.fresh.push(hit);
        self.windows.get(&key).map_or(1, |window| {
            window.fullest_around(hit.at, ask.window.as_millis() as i64)
        })
    }

    pub fn apply(&mut self, hit: Hit) {
        let key = Digest128(hit.key);
        if !self.windows.contains(&key) {
            self.windows.insert(key, Window::default());
        }
        if let Some(window) = self.windows.get_mut(&key) {
            window.insert(hit.at, hit.value, hit.keep as usize + KEPT_BEYOND_COUNT);
        }
    }

    /// What was counted since the last call.
    pub fn take_delta(&mut self) -> Vec<Hit> {
        std::mem::take(&mut self.fresh)
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot(
            self.windows
                .iter()
                .map(|(key, window)| (key.0, window.clone()))
                .collect(),
        )
    }

    pub fn restore(snapshot: Snapshot) -> Thresholds {
        let mut state = Thresholds::default();
        for (key, window) in snapshot.0 {
            state.windows.insert(Digest128(key), window);
        }
        state
    }

    pub fn len(&self) -> usize {
        self.windows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    pub fn evicted(&self) -> u64 {
        self.windows.evicted()
    }
}

/// Every window, for a snapshot on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Snapshot(Vec<(u128, Window)>);

impl Window {
    fn insert(&mut self, at: i64, value: u64, keep: usize) {
        let place = self.events.partition_point(|event| *event <= (at, value));
        self.events.insert(place, (at, value));
        while self.events.len() > keep {
            self.events.pop_front();
        }
    }

    /// Different values in the fullest window of length `length` that holds an event at `at`.
    fn fullest_around(&self, at: i64, length: i64) -> u32 {
        let near: Vec<(i64, u64)> = self
            .events
            .iter()
            .copied()
            .filter(|(time, _)| (at - length..=at + length).contains(time))
            .collect();
        let mut fullest = 0;
        for (start, (begin, _)) in near.iter().enumerate() {
            if *begin > at {
                break;
            }
            let values: HashSet<u64> = near[start..]
                .iter()
                .take_while(|(time, _)| time - begin <= length)
                .map(|(_, value)| *value)
                .collect();
            if begin + length >= at {
                fullest = fullest.max(values.len());
            }
        }
        fullest as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(state: &mut Thresholds, value: &str, seconds: i64) -> u32 {
        state.ask(&Ask {
            state_hash: 1,
            key: &["k".to_owned()],
            distinct: Some(value),
            request: Digest128(0),
            time: Timestamp::from_second(1_700_000_000 + seconds).expect("in range"),
            count: 3,
            window: SignedDuration::from_secs(60),
        })
    }

    #[test]
    fn counts_different_values_within_the_window() {
        let mut state = Thresholds::default();
        assert_eq!(ask(&mut state, "a", 0), 1);
        assert_eq!(ask(&mut state, "a", 10), 1);
        assert_eq!(ask(&mut state, "b", 50), 2);
        assert_eq!(ask(&mut state, "c", 65), 3);
        assert_eq!(ask(&mut state, "d", 200), 1);
    }

    #[test]
    fn a_late_event_fills_the_window_it_belongs_to() {
        let mut state = Thresholds::default();
        ask(&mut state, "a", 0);
        ask(&mut state, "c", 50);
        assert_eq!(ask(&mut state, "b", 20), 3);
    }
}
