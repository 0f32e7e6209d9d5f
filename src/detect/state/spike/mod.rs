//! Far more than an identity ever does: counts against the key's own past.
//!
//! A span is a stretch of the event clock as long as the detector's window. Of each span in which a
//! key did anything, one number is learned: how many events, or different values, it held; see
//! [`past`] for how.
//!
//! From three spreads above the level on, a count is a spike; but never below the detector's
//! `count`, however quiet the key was, and always from its `limit` on, whatever the key did before:
//! that is all that patient poisoning can gain. A key of which too little is known is held to
//! `count` alone.
//!
//! What a window is held to depends only on spans that ended well before it, so that events which
//! change places within `lateness` are held to the same.

mod past;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use self::past::Past;
use super::fair::{FairMap, Owner};
use super::window::{Hit, Window, without_repeats};
use crate::detect::matches::Digest128;

/// Keys kept at most over all detectors, and events of them: 16 bytes each.
const KEY_LIMIT: usize = 1 << 17;
const EVENT_LIMIT: usize = 1 << 22;

/// How long after its end a span may still be told of late events; more than any sensible
/// `lateness`; milliseconds.
const SETTLED_MILLIS: i64 = 15 * 60 * 1000;

/// Spans that must be known before they count.
pub const LEAST_SPANS: u32 = 12;

#[derive(Debug)]
pub struct Spikes {
    keys: FairMap<Habit>,
    events: usize,
    /// The pipeline's time, in milliseconds.
    clock: i64,
    fresh: Option<Vec<Hit>>,
}

/// What is known of a key.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Habit {
    recent: Window,
    /// The detector's window; with another one, the past is another's.
    window: i64,
    /// Numbers of spans that have not settled, and what they held.
    open: Vec<(i64, u32)>,
    /// Spans up to this one have settled.
    settled: i64,
    past: Past,
}

/// How to read a match.
pub struct Ask {
    /// Its count is the detector's limit.
    pub hit: Hit,
    /// The detector's `count`: fewer are never a spike.
    pub least: u32,
    /// How far back a key's first span must lie before its past counts.
    pub learn: SignedDuration,
}

/// What a match is held to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Answer {
    /// In the fullest window that holds the event, exactly where it is a spike.
    pub reached: u32,
    /// From here on it is one.
    pub bar: u32,
    pub known: Known,
}

/// On what evidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Known {
    Enough {
        spans: u32,
        over: SignedDuration,
        usual: u32,
    },
    TooLittle {
        spans: u32,
    },
}

impl Answer {
    pub fn is_spike(&self) -> bool {
        self.reached >= self.bar
    }
}

impl Spikes {
    /// With `durable`, what is counted is also kept for [`Spikes::take_delta`].
    pub fn new(durable: bool) -> Spikes {
        Spikes {
            keys: FairMap::new(KEY_LIMIT),
            events: 0,
            clock: i64::MIN,
            fresh: durable.then(Vec::new),
        }
    }

    /// Nothing that matters comes from before `clock`, milliseconds.
    pub fn tick(&mut self, clock: i64) {
        self.clock = self.clock.max(clock);
    }

    /// What the match means, given all before it; remembers it.
    pub fn ask(&mut self, ask: &Ask) -> Answer {
        let hit = &ask.hit;
        self.apply(*hit);
        if let Some(fresh) = &mut self.fresh {
            fresh.push(*hit);
        }
        let unknown = Habit::default();
        let habit = self.keys.get(&Digest128(hit.key)).unwrap_or(&unknown);
        // A window is held to what was before the span that it starts in: so the answer is the same
        // whichever of its events comes last.
        let span = span_of(hit);
        let earlier = habit.compare(ask, span - 1);
        match earlier.is_spike() {
            true => earlier,
            false => habit.compare(ask, span),
        }
    }

    pub fn apply(&mut self, hit: Hit) {
        let key = Digest128(hit.key);
        match self.keys.get_mut(&key) {
            Some(habit) => {
                self.events -= habit.recent.len();
                habit.add(&hit, self.clock);
                self.events += habit.recent.len();
            }
            None => {
                let mut habit = Habit::default();
                habit.add(&hit, self.clock);
                self.put(key, Owner::from(hit.owner), habit);
            }
        }
    }

    fn put(&mut self, key: Digest128, owner: Owner, habit: Habit) {
        self.events += habit.recent.len();
        if let Some(gone) = self.keys.insert(key, owner, habit) {
            self.events -= gone.recent.len();
        }
        while self.events > EVENT_LIMIT
            && let Some(gone) = self.keys.evict()
        {
            self.events -= gone.recent.len();
        }
    }

    /// What was counted since the last call.
    pub fn take_delta(&mut self) -> Vec<Hit> {
        without_repeats(self.fresh.as_mut().map(std::mem::take).unwrap_or_default())
    }

    pub fn snapshot(&self) -> Snapshot {
        let keys = self.keys.iter();
        Snapshot(
            keys.map(|(key, owner, habit)| (key.0, owner, habit.clone()))
                .collect(),
        )
    }

    /// Puts a snapshot into a state that knows nothing.
    pub fn restore(&mut self, snapshot: Snapshot) {
        for (key, owner, habit) in snapshot.0 {
            self.put(Digest128(key), owner, habit);
        }
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn evicted(&self) -> u64 {
        self.keys.evicted()
    }
}

/// Every key, for a snapshot on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Snapshot(Vec<(u128, Owner, Habit)>);

fn span_of(hit: &Hit) -> i64 {
    hit.at.div_euclid(hit.window.max(1))
}

/// Spans after its own in which an event may still be late.
fn lag(window: i64) -> i64 {
    1 + SETTLED_MILLIS.div_euclid(window.max(1)) + i64::from(SETTLED_MILLIS % window.max(1) > 0)
}

impl Habit {
    fn add(&mut self, hit: &Hit, clock: i64) {
        if self.window != hit.window {
            *self = Habit {
                window: hit.window,
                settled: i64::MIN,
                ..Habit::default()
            };
        }
        let span = span_of(hit);
        let (from, to) = (span * hit.window, (span + 1) * hit.window);
        let again = hit.distinct && self.recent.has(hit.value, from, to);
        self.recent.insert(hit, clock);
        if again || span <= self.settled {
            return;
        }
        match self.open.binary_search_by_key(&span, |(span, _)| *span) {
            Ok(place) => self.open[place].1 = self.open[place].1.saturating_add(1),
            Err(place) => self.open.insert(place, (span, 1)),
        }
        // A single event from the future settles nothing.
        let Some((latest, _)) = self.open.len().checked_sub(2).map(|at| self.open[at]) else {
            return;
        };
        // As long again, so that a late event is compared with what it would have been.
        let horizon = latest - 2 * lag(hit.window);
        let settling = self.open.partition_point(|(span, _)| *span <= horizon);
        for (span, count) in self.open.drain(..settling) {
            self.past.learn(span, count, hit.count);
        }
        if settling > 0 {
            self.settled = self.settled.max(horizon);
        }
    }

    /// The fullest window around the event of those that start in `span`, with what it is held to.
    fn compare(&self, ask: &Ask, span: i64) -> Answer {
        let hit = &ask.hit;
        let past = self.past_before(span, hit);
        let spans = span.saturating_sub(past.first);
        let over = SignedDuration::from_millis(spans.saturating_mul(hit.window));
        let known = match past.spans >= LEAST_SPANS && over >= ask.learn {
            true => Known::Enough {
                spans: past.spans,
                over,
                usual: past.usual(),
            },
            false => Known::TooLittle { spans: past.spans },
        };
        let bar = match known {
            Known::Enough { .. } => past.bar().min(hit.count).max(ask.least),
            Known::TooLittle { .. } => ask.least,
        };
        let starts = span * hit.window..(span + 1) * hit.window;
        Answer {
            reached: self.recent.fullest(hit, starts, bar),
            bar,
            known,
        }
    }

    /// The estimate that a window which starts in `span` is held to.
    fn past_before(&self, span: i64, hit: &Hit) -> Past {
        let horizon = span - lag(hit.window);
        let mut past = self.past;
        for (span, count) in &self.open {
            if *span <= horizon {
                past.learn(*span, *count, hit.count);
            }
        }
        past
    }
}

#[cfg(test)]
mod tests;
