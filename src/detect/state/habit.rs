//! Habits: on how many days something was seen before, so that what a cluster does all the time is
//! listed and wakes nobody.
//!
//! Of each key the last [`DAYS`] days are kept as bits. Days end late for those who ask, by an hour or
//! more, so that events out of order about midnight change no answer.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::fair::{FairMap, Owner};
use crate::detect::matches::Digest128;

/// How far back a habit goes.
const DAYS: i64 = 32;

/// On so many different days before, and it is a habit: whoever wants to teach one is told of on
/// each of them.
pub const HABIT: u32 = 3;

/// Keys kept at most over all detectors.
const LIMIT: usize = 1 << 17;

const DAY_SECS: i64 = 86_400;
/// How late days end for those who ask of habits.
pub const MARGIN_SECS: i64 = 3_600;
/// And for those who ask whether it is everyday work: one intrusion may have an evening and the
/// morning after it.
pub const NIGHT_SECS: i64 = 12 * 3_600;

#[derive(Debug)]
pub struct Habits {
    keys: FairMap<Days>,
    fresh: Option<Vec<Seen>>,
}

/// The days on which a key was seen: bit `i` is `i` days before `last`.
#[derive(Debug, Clone, Copy, Default)]
struct Days {
    last: i64,
    bits: u32,
}

/// A key on its days; for the state's delta, and all of it for a snapshot.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Seen {
    key: u128,
    owner: Owner,
    last: i64,
    bits: u32,
}

impl Habits {
    /// With `durable`, what is remembered is also kept for [`Habits::take_delta`].
    pub fn new(durable: bool) -> Habits {
        Habits {
            keys: FairMap::new(LIMIT),
            fresh: durable.then(Vec::new),
        }
    }

    /// On how many days before that of `time` the key was seen, where days end `margin` seconds late;
    /// remembers it.
    pub fn ask(&mut self, key: Digest128, owner: Owner, time: Timestamp, margin: i64) -> u32 {
        let now = time.as_second();
        let before = now.saturating_sub(margin).div_euclid(DAY_SECS);
        let known = self.keys.get(&key).map_or(0, |days| days.before(before));
        let seen = Seen {
            key: key.0,
            owner,
            last: now.div_euclid(DAY_SECS),
            bits: 1,
        };
        if self.apply(seen)
            && let Some(fresh) = &mut self.fresh
        {
            fresh.push(seen);
        }
        known
    }

    /// Adds days to a key, in any order; whether that was news.
    pub fn apply(&mut self, seen: Seen) -> bool {
        let key = Digest128(seen.key);
        let new = Days {
            last: seen.last,
            bits: seen.bits,
        };
        let old = self.keys.get(&key).copied();
        let joined = old.map_or(new, |old| old.join(new));
        let news = old.is_none_or(|old| (old.last, old.bits) != (joined.last, joined.bits));
        if news {
            self.keys.insert(key, seen.owner, joined);
        }
        news
    }

    /// What was remembered since the last call.
    pub fn take_delta(&mut self) -> Vec<Seen> {
        self.fresh.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub fn all(&self) -> Vec<Seen> {
        self.keys
            .iter()
            .map(|(key, owner, days)| Seen {
                key: key.0,
                owner,
                last: days.last,
                bits: days.bits,
            })
            .collect()
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.len() == 0
    }

    pub fn evicted(&self) -> u64 {
        self.keys.evicted()
    }
}

impl Days {
    /// How many of the days lie before `day`.
    fn before(self, day: i64) -> u32 {
        let skip = self.last - day + 1;
        match u32::try_from(skip) {
            // All of them; what is older than the habit goes with the next day that is added.
            Err(_) => self.bits.count_ones(),
            Ok(skip) => self.bits.checked_shr(skip).unwrap_or(0).count_ones(),
        }
    }

    fn join(self, other: Days) -> Days {
        let (late, early) = if self.last >= other.last {
            (self, other)
        } else {
            (other, self)
        };
        let apart = late.last - early.last;
        let moved = if apart < DAYS { early.bits << apart } else { 0 };
        Days {
            last: late.last,
            bits: late.bits | moved,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_700_006_400 - 1_700_006_400 % DAY_SECS + hours * 3600)
            .expect("in range")
    }

    #[test]
    fn days_count_once_and_todays_not() {
        let mut habits = Habits::new(false);
        let key = Digest128(1);
        for (hours, before) in [(2, 0), (3, 0), (26, 1), (50, 2), (51, 2), (74, 3), (98, 4)] {
            assert_eq!(
                habits.ask(key, 1, at(hours), MARGIN_SECS),
                before,
                "{hours}"
            );
        }
        // A month later nothing of it is a habit any more, from the second day on.
        habits.ask(key, 1, at(24 * 60 + 2), MARGIN_SECS);
        assert_eq!(habits.ask(key, 1, at(24 * 61 + 2), MARGIN_SECS), 1);
        assert_eq!(habits.ask(Digest128(2), 1, at(98), MARGIN_SECS), 0);
    }

    #[test]
    fn an_evening_and_the_morning_after_it_are_one_day() {
        let mut habits = Habits::new(false);
        let key = Digest128(1);
        for (hours, before) in [(22, 0), (25, 0), (35, 0), (36, 1), (60, 2)] {
            assert_eq!(habits.ask(key, 1, at(hours), NIGHT_SECS), before, "{hours}");
        }
    }

    #[test]
    fn order_about_midnight_changes_nothing() {
        let times = [at(2), at(24) - jiff::SignedDuration::from_secs(30), at(24)];
        let answers = |order: [usize; 3]| {
            let mut habits = Habits::new(false);
            let key = Digest128(1);
            habits.ask(key, 1, at(-70), MARGIN_SECS);
            habits.ask(key, 1, at(-46), MARGIN_SECS);
            let mut told = order.map(|at| (at, habits.ask(key, 1, times[at], MARGIN_SECS)));
            told.sort_unstable();
            told
        };
        assert_eq!(answers([0, 1, 2]), answers([0, 2, 1]));
    }

    #[test]
    fn a_delta_gives_the_same_state() {
        let mut habits = Habits::new(true);
        let key = Digest128(7);
        for day in 0..5 {
            habits.ask(key, 1, at(24 * day + 5), MARGIN_SECS);
        }
        let mut again = Habits::new(false);
        for seen in habits.take_delta().into_iter().rev() {
            again.apply(seen);
        }
        let mut restored = Habits::new(false);
        for seen in habits.all() {
            restored.apply(seen);
        }
        for mut state in [habits, again, restored] {
            assert_eq!(state.ask(key, 1, at(24 * 5 + 5), MARGIN_SECS), 5);
        }
    }
}
