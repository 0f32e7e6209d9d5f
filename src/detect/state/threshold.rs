//! Counts in sliding windows of event time: many denials, many secrets, many networks.
//!
//! A match is a finding where some window that holds it holds the count, wherever in the order of
//! arrival it came: late events take their place in the window. Whatever the order, a key has a
//! finding if and only if one of its windows reaches the count.

use serde::{Deserialize, Serialize};

use super::fair::{FairMap, Owner};
use super::window::{Hit, Window, without_repeats};
use crate::detect::matches::Digest128;

/// Keys kept at most over all detectors, and events of them: 16 bytes each.
const KEY_LIMIT: usize = 1 << 17;
const EVENT_LIMIT: usize = 1 << 22;

#[derive(Debug)]
pub struct Thresholds {
    windows: FairMap<Window>,
    events: usize,
    /// The pipeline's time, in milliseconds.
    clock: i64,
    fresh: Option<Vec<Hit>>,
}

impl Thresholds {
    /// With `durable`, what is counted is also kept for [`Thresholds::take_delta`].
    pub fn new(durable: bool) -> Thresholds {
        Thresholds {
            windows: FairMap::new(KEY_LIMIT),
            events: 0,
            clock: i64::MIN,
            fresh: durable.then(Vec::new),
        }
    }

    /// Nothing that matters comes from before `clock`, milliseconds.
    pub fn tick(&mut self, clock: i64) {
        self.clock = self.clock.max(clock);
    }

    /// How many the fullest window that holds the event now holds, exactly where that reaches the
    /// count; remembers the event.
    pub fn ask(&mut self, hit: Hit) -> u32 {
        self.apply(hit);
        if let Some(fresh) = &mut self.fresh {
            fresh.push(hit);
        }
        let window = self.windows.get(&Digest128(hit.key));
        window.map_or(1, |window| window.fullest_around(&hit, hit.count))
    }

    /// As [`Thresholds::ask`], of an event that does not count itself.
    pub fn around(&self, hit: &Hit) -> u32 {
        let window = self.windows.get(&Digest128(hit.key));
        window.map_or(0, |window| window.fullest_around(hit, hit.count))
    }

    pub fn apply(&mut self, hit: Hit) {
        let key = Digest128(hit.key);
        match self.windows.get_mut(&key) {
            Some(window) => {
                self.events -= window.len();
                window.insert(&hit, self.clock);
                self.events += window.len();
            }
            None => {
                let mut window = Window::default();
                window.insert(&hit, self.clock);
                self.put(key, Owner::from(hit.owner), window);
            }
        }
    }

    fn put(&mut self, key: Digest128, owner: Owner, window: Window) {
        self.events += window.len();
        if let Some(gone) = self.windows.insert(key, owner, window) {
            self.events -= gone.len();
        }
        while self.events > EVENT_LIMIT
            && let Some(gone) = self.windows.evict()
        {
            self.events -= gone.len();
        }
    }

    /// What was counted since the last call.
    pub fn take_delta(&mut self) -> Vec<Hit> {
        without_repeats(self.fresh.as_mut().map(std::mem::take).unwrap_or_default())
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot(
            self.windows
                .iter()
                .map(|(key, owner, window)| (key.0, owner, window.clone()))
                .collect(),
        )
    }

    /// Puts a snapshot into a state that knows nothing.
    pub fn restore(&mut self, snapshot: Snapshot) {
        for (key, owner, window) in snapshot.0 {
            self.put(Digest128(key), owner, window);
        }
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
pub struct Snapshot(Vec<(u128, Owner, Window)>);

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::super::window::Counting;
    use super::*;

    fn hit(value: u64, millis: i64) -> Hit {
        let counting = Counting {
            count: 3,
            window: SignedDuration::from_secs(60),
            distinct: true,
            spike: false,
        };
        let time = Timestamp::from_millisecond(1_700_000_000_000 + millis).expect("in range");
        counting.hit(Digest128(7), 1, value, time)
    }

    fn ask(state: &mut Thresholds, value: u64, seconds: i64) -> u32 {
        state.ask(hit(value, seconds * 1_000))
    }

    #[test]
    fn counts_different_values_within_the_window() {
        let mut state = Thresholds::new(false);
        ask(&mut state, 1, 0);
        assert!(ask(&mut state, 1, 10) < 3);
        assert!(ask(&mut state, 2, 50) < 3);
        assert_eq!(ask(&mut state, 3, 60), 3);
        assert!(ask(&mut state, 4, 200) < 3);
    }

    #[test]
    fn keys_without_number_push_out_the_greediest_and_are_counted() {
        let mut state = Thresholds::new(false);
        let keys = 2 * KEY_LIMIT;
        ask(&mut state, 1, 0);
        for key in 0..keys {
            state.apply(Hit {
                key: 1 << 100 | key as u128,
                owner: 99,
                ..hit(1, 0)
            });
        }
        assert_eq!(state.len(), KEY_LIMIT);
        assert_eq!(state.evicted() as usize, keys + 1 - KEY_LIMIT);
        // Who made one key keeps it.
        ask(&mut state, 2, 1);
        assert_eq!(ask(&mut state, 3, 2), 3);
    }

    #[test]
    fn a_late_event_fills_the_window_it_belongs_to() {
        let mut state = Thresholds::new(false);
        ask(&mut state, 1, 0);
        ask(&mut state, 3, 50);
        assert_eq!(ask(&mut state, 2, 20), 3);
    }

    #[test]
    fn a_busy_value_neither_fills_the_window_nor_leaves_it() {
        let mut state = Thresholds::new(false);
        for tenth in 0..600 {
            state.apply(hit(1, tenth * 100));
        }
        assert!(ask(&mut state, 2, 61) < 3);
        assert_eq!(ask(&mut state, 3, 62), 3);
    }
}
