//! The latest events of one key by time, and how many of them any window holds.
//!
//! Of a value that is counted once, the first and the last event of each half window of the clock are
//! kept: every window that holds one between them holds one of them. So noise pushes nothing out, no
//! answer changes, and what is kept does not depend on the order of arrival.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::fair::Owner;
use super::pack::digest;
use crate::detect::matches::Digest128;

/// Events kept for a key beyond its count: enough to judge late ones, and a bound on a storm.
const KEPT_BEYOND_COUNT: usize = 64;

/// Events kept of each distinct value, where there are too many: of a window and half of the next.
const KEPT_OF_VALUE: usize = 6;

/// Number of the half window of the clock in which a time lies; both in milliseconds.
fn stretch(at: i64, window: i64) -> i64 {
    at.div_euclid((window / 2).max(1))
}

/// One counted event, for the state's delta.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Hit {
    #[serde(with = "digest")]
    pub key: u128,
    pub owner: u32,
    /// Milliseconds.
    pub at: i64,
    /// 64 bits of what is counted.
    pub value: u64,
    /// The largest count of interest, and the window in milliseconds; they bound what is kept.
    pub count: u32,
    pub window: i64,
    pub distinct: bool,
    /// For a spike, and not a threshold.
    pub spike: bool,
}

/// Leaves out those that [`Window::insert`] would make redundant again: of a distinct value the first and
/// the last event of a half window are enough, however often it came.
pub fn without_repeats(mut hits: Vec<Hit>) -> Vec<Hit> {
    let of = |hit: &Hit| (hit.key, hit.value, stretch(hit.at, hit.window));
    let mut ends: HashMap<(u128, u64, i64), Vec<i64>> = HashMap::new();
    for hit in hits.iter().filter(|hit| hit.distinct) {
        let ends = ends.entry(of(hit)).or_insert_with(|| vec![hit.at; 2]);
        ends[0] = ends[0].min(hit.at);
        ends[1] = ends[1].max(hit.at);
    }
    hits.retain(|hit| {
        let Some(ends) = ends.get_mut(&of(hit)).filter(|_| hit.distinct) else {
            return true;
        };
        // Each end once.
        let left = ends.len();
        ends.retain(|end| *end != hit.at);
        ends.len() < left
    });
    hits
}

/// What a detector counts, and in which window.
#[derive(Debug, Clone, Copy)]
pub struct Counting {
    pub count: u32,
    pub window: SignedDuration,
    pub distinct: bool,
    pub spike: bool,
}

impl Counting {
    pub fn hit(&self, key: Digest128, owner: Owner, value: u64, time: Timestamp) -> Hit {
        Hit {
            key: key.0,
            owner: owner as u32,
            at: time.as_millisecond(),
            value,
            count: self.count,
            window: i64::try_from(self.window.as_millis()).unwrap_or(i64::MAX / 4),
            distinct: self.distinct,
            spike: self.spike,
        }
    }
}

/// Milliseconds and what is counted, by time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Window {
    events: VecDeque<(i64, u64)>,
}

impl Window {
    /// Adds the event. What ended two windows before it and before `clock` (milliseconds) is
    /// forgotten: that is the pipeline's time, and the event's own may lie in the future.
    pub fn insert(&mut self, hit: &Hit, clock: i64) {
        let event = (hit.at, hit.value);
        let place = self.events.partition_point(|known| *known <= event);
        let is_there = place > 0 && self.events[place - 1] == event;
        let place = match hit.distinct {
            // As the copy of an event in the other category.
            true if is_there => None,
            true => self.make_way(hit, place),
            false => Some(place),
        };
        if let Some(place) = place {
            self.events.insert(place, event);
        }
        let horizon = clock.min(hit.at).saturating_sub(2 * hit.window);
        while self.events.front().is_some_and(|(at, _)| *at < horizon) {
            self.events.pop_front();
        }
        let of_values = if hit.distinct { KEPT_OF_VALUE } else { 1 };
        let keep = hit.count as usize * of_values + KEPT_BEYOND_COUNT;
        while self.events.len() > keep {
            self.drop_farthest(hit.at);
        }
    }

    /// Where an event at `place` goes once the one of its value and half window that it makes
    /// redundant is gone; `None` where it is redundant itself.
    fn make_way(&mut self, hit: &Hit, place: usize) -> Option<usize> {
        let stretch = |at: i64| stretch(at, hit.window);
        let of_stretch = |at: &usize| stretch(self.events[*at].0) == stretch(hit.at);
        let same = |at: &usize| self.events[*at].1 == hit.value;
        let before = (0..place).rev().take_while(of_stretch).filter(same);
        let after = (place..self.events.len())
            .take_while(of_stretch)
            .filter(same);
        let (before, after): (Vec<usize>, Vec<usize>) = (before.collect(), after.collect());
        match (&before[..], &after[..]) {
            ([_, ..], [_, ..]) => None,
            ([last, _, ..], []) => {
                self.events.remove(*last);
                Some(place - 1)
            }
            ([], [next, _, ..]) => {
                self.events.remove(*next);
                Some(place)
            }
            _ => Some(place),
        }
    }

    /// Storms, and events far from the time at hand, make room for what is near it.
    fn drop_farthest(&mut self, from: i64) {
        let away = |event: Option<&(i64, u64)>| event.map_or(0, |(at, _)| at.abs_diff(from));
        if away(self.events.back()) > away(self.events.front()) {
            self.events.pop_back();
        } else {
            self.events.pop_front();
        }
    }

    /// Whether an event of this value lies in `[from, to)`, milliseconds.
    pub fn has(&self, value: u64, from: i64, to: i64) -> bool {
        let begin = self.events.partition_point(|(at, _)| *at < from);
        let events = self.events.iter().skip(begin);
        events
            .take_while(|(at, _)| *at < to)
            .any(|event| event.1 == value)
    }

    pub fn len(&self) -> usize {
        self.events.len()
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Different values in the fullest window that holds `hit.at`; exactly where that reaches `least`.
    pub fn fullest_around(&self, hit: &Hit, least: u32) -> u32 {
        self.fullest(hit, i64::MIN..i64::MAX, least)
    }

    /// As [`Window::fullest_around`], of the windows that start within `starts`, milliseconds.
    pub fn fullest(&self, hit: &Hit, starts: Range<i64>, least: u32) -> u32 {
        let from = self
            .events
            .partition_point(|(at, _)| *at < hit.at.saturating_sub(hit.window));
        let to = self
            .events
            .partition_point(|(at, _)| *at <= hit.at.saturating_add(hit.window));
        if to - from < least as usize {
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
            if start.saturating_add(hit.window) >= hit.at && starts.contains(&start) {
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
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const WINDOW: i64 = 60_000;

    fn hit(value: u64, at: i64) -> Hit {
        Hit {
            key: 7,
            owner: 1,
            at,
            value,
            count: 40,
            window: WINDOW,
            distinct: true,
            spike: false,
        }
    }

    /// Different values of any window of the whole history, by its definition.
    fn fullest(events: &[(u64, i64)]) -> usize {
        let of_window = |start: i64| {
            let within = |(_, at): &&(u64, i64)| (start..=start + WINDOW).contains(at);
            let values = events.iter().filter(within).map(|(value, _)| *value);
            values.collect::<BTreeSet<u64>>().len()
        };
        events
            .iter()
            .map(|(_, at)| of_window(*at))
            .max()
            .unwrap_or(0)
    }

    #[test]
    fn an_event_and_its_copy_are_kept_once() {
        let mut window = Window::default();
        for at in [10, 20, 10, 20] {
            window.insert(&hit(1, at), i64::MIN);
        }
        assert_eq!(window.events, [(10, 1), (20, 1)]);
    }

    proptest! {
        /// In every order of arrival, some event sees the fullest window there is, and none more.
        #[test]
        fn the_fullest_window_is_found_in_any_order(
            events in proptest::collection::vec((0_u64..8, 0_i64..400_000), 1..60)
                .prop_shuffle(),
        ) {
            let mut window = Window::default();
            let mut most = 0;
            for (value, at) in &events {
                let hit = hit(*value, *at);
                window.insert(&hit, i64::MIN);
                most = most.max(window.fullest_around(&hit, 1));
            }
            prop_assert_eq!(most as usize, fullest(&events));
        }
    }

    proptest! {
        #[test]
        fn repeats_that_are_left_out_change_nothing(
            events in proptest::collection::vec((0_u64..3, 0_i64..90_000), 1..60),
        ) {
            let hits: Vec<Hit> = events.iter().map(|(value, at)| hit(*value, *at)).collect();
            let kept = |hits: &[Hit]| {
                let mut window = Window::default();
                for hit in hits {
                    window.insert(hit, i64::MIN);
                }
                window.events
            };
            let fewer = without_repeats(hits.clone());
            prop_assert_eq!(kept(&fewer), kept(&hits));
            // Three values, each with two ends in each of four half windows.
            prop_assert!(fewer.len() <= 24);
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_does_not_depend_on_the_order_of_arrival(
            events in proptest::collection::vec((0_u64..4, 0_i64..300_000), 1..60).prop_shuffle(),
        ) {
            let kept = |events: &[(u64, i64)]| {
                let mut window = Window::default();
                for (value, at) in events {
                    window.insert(&hit(*value, *at), i64::MIN);
                }
                window.events
            };
            let mut sorted = events.clone();
            sorted.sort_by_key(|(_, at)| *at);
            prop_assert_eq!(kept(&events), kept(&sorted));
        }
    }

    #[test]
    fn noise_pushes_nothing_out() {
        let mut window = Window::default();
        window.insert(&hit(1, 0), 0);
        for tenth in 0..590 {
            window.insert(&hit(2 + tenth % 5, tenth as i64 * 100), 0);
        }
        assert!(window.len() < 30, "{}", window.len());
        let last = hit(99, WINDOW);
        window.insert(&last, 0);
        assert_eq!(window.fullest_around(&last, 1), 7);
    }

    #[test]
    fn events_from_the_future_hide_nothing() {
        let mut window = Window::default();
        for hour in 1..10_000 {
            window.insert(&hit(hour as u64, hour * 3_600_000), 0);
        }
        let mut reached = 0;
        for value in 0..40 {
            let hit = hit(1_000_000 + value, value as i64 * 1_000);
            window.insert(&hit, 0);
            reached = window.fullest_around(&hit, 40);
        }
        assert_eq!(reached, 40);
    }
}
