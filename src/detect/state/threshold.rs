//! Counts in sliding windows of event time: many denials, many secrets, many networks.
//!
//! A match is a finding where some window that holds it holds the count, wherever in the order of
//! arrival it came: late events take their place in the window. Of a value that is distinct, what
//! comes again and again within an eighth of the window is kept as its first and last event: that
//! changes no answer to events in order, and bounds what a busy key costs.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::BoundedMap;
use crate::detect::matches::Digest128;

/// Keys kept at most over all detectors.
const KEY_LIMIT: usize = 1 << 17;

/// Events kept for a key beyond its count: enough to judge late ones, and a bound on a storm.
const KEPT_BEYOND_COUNT: usize = 64;

/// Share of the window within which events of one distinct value are as good as one.
pub const COALESCED_SHARE: i64 = 8;

#[derive(Debug)]
pub struct Thresholds {
    windows: BoundedMap<Window>,
    fresh: Option<Vec<Hit>>,
}

/// The latest events of a key, by time: milliseconds, and 64 bits of what is counted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Window {
    events: VecDeque<(i64, u64)>,
}

/// One counted event, for the state's delta.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Hit {
    pub key: u128,
    /// Milliseconds.
    pub at: i64,
    pub value: u64,
    /// The threshold's count and window (milliseconds), which bound what is kept.
    pub count: u32,
    pub window: i64,
    pub distinct: bool,
}

impl Hit {
    pub fn new(
        key: Digest128,
        value: u64,
        distinct: bool,
        time: Timestamp,
        count: u32,
        window: SignedDuration,
    ) -> Hit {
        let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX / 4);
        Hit {
            key: key.0,
            at: time.as_millisecond(),
            value,
            count,
            window,
            distinct,
        }
    }
}

impl Thresholds {
    /// With `durable`, what is counted is also kept for [`Thresholds::take_delta`].
    pub fn new(durable: bool) -> Thresholds {
        Thresholds {
            windows: BoundedMap::new(KEY_LIMIT),
            fresh: durable.then(Vec::new),
        }
    }

    /// How many the fullest window that holds the event now holds, exactly where that reaches the
    /// count; remembers the event.
    pub fn ask(&mut self, hit: Hit) -> u32 {
        self.refresh(hit);
        let window = self.windows.get(&Digest128(hit.key));
        window.map_or(1, |window| window.fullest_around(&hit))
    }

    /// Remembers an event that cannot be the one to reach the count.
    pub fn refresh(&mut self, hit: Hit) {
        self.apply(hit);
        if let Some(fresh) = &mut self.fresh {
            fresh.push(hit);
        }
    }

    pub fn apply(&mut self, hit: Hit) {
        let key = Digest128(hit.key);
        match self.windows.get_mut(&key) {
            Some(window) => window.insert(&hit),
            None => {
                let mut window = Window::default();
                window.insert(&hit);
                self.windows.insert(key, window);
            }
        }
    }

    /// What was counted since the last call.
    pub fn take_delta(&mut self) -> Vec<Hit> {
        self.fresh.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot(
            self.windows
                .iter()
                .map(|(key, window)| (key.0, window.clone()))
                .collect(),
        )
    }

    /// Puts a snapshot into a state that knows nothing.
    pub fn restore(&mut self, snapshot: Snapshot) {
        for (key, window) in snapshot.0 {
            self.windows.insert(Digest128(key), window);
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
pub struct Snapshot(Vec<(u128, Window)>);

impl Window {
    fn insert(&mut self, hit: &Hit) {
        let event = (hit.at, hit.value);
        let place = self.events.partition_point(|known| *known <= event);
        if hit.distinct && place == self.events.len() && place >= 2 {
            let (before, last) = (self.events[place - 2], self.events[place - 1]);
            let near = hit.at - before.0 <= hit.window / COALESCED_SHARE;
            if near && before.1 == hit.value && last.1 == hit.value {
                self.events[place - 1] = event;
                return;
            }
        }
        self.events.insert(place, event);
        // What no window can hold together with a new event, or with one that is a window late.
        let horizon = self
            .events
            .back()
            .map_or(i64::MIN, |(at, _)| at.saturating_sub(2 * hit.window));
        let keep = hit.count as usize + KEPT_BEYOND_COUNT;
        while self.events.len() > keep || self.events.front().is_some_and(|(at, _)| *at < horizon) {
            self.events.pop_front();
        }
    }

    /// Different values in the fullest window that holds an event at `hit.at`.
    fn fullest_around(&self, hit: &Hit) -> u32 {
        let from = self
            .events
            .partition_point(|(at, _)| *at < hit.at.saturating_sub(hit.window));
        let to = self
            .events
            .partition_point(|(at, _)| *at <= hit.at.saturating_add(hit.window));
        if to - from < hit.count as usize {
            return (to - from) as u32;
        }
        // A value's count within the window that slides from `from` to `to`.
        let mut held: Vec<(u64, u32)> = Vec::with_capacity(16);
        let (mut end, mut fullest) = (from, 0);
        for begin in from..to {
            let (start, value) = self.events[begin];
            if start > hit.at {
                break;
            }
            while end < to && self.events[end].0 - start <= hit.window {
                let entering = self.events[end].1;
                match held.iter_mut().find(|(value, _)| *value == entering) {
                    Some((_, count)) => *count += 1,
                    None => held.push((entering, 1)),
                }
                end += 1;
            }
            if start.saturating_add(hit.window) >= hit.at {
                fullest = fullest.max(held.len());
            }
            if let Some(place) = held.iter().position(|(held, _)| *held == value) {
                held[place].1 -= 1;
                if held[place].1 == 0 {
                    held.swap_remove(place);
                }
            }
        }
        fullest as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(state: &mut Thresholds, value: u64, seconds: i64) -> u32 {
        state.ask(Hit::new(
            Digest128(7),
            value,
            true,
            Timestamp::from_second(1_700_000_000 + seconds).expect("in range"),
            3,
            SignedDuration::from_secs(60),
        ))
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
            state.refresh(Hit::new(
                Digest128(7),
                1,
                true,
                Timestamp::from_millisecond(1_700_000_000_000 + tenth * 100).expect("in range"),
                3,
                SignedDuration::from_secs(60),
            ));
        }
        assert!(ask(&mut state, 2, 61) < 3);
        assert_eq!(ask(&mut state, 3, 62), 3);
    }
}
