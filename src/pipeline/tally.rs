//! Counts of what was read: records by category and form, what was ignored and what was damaged.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::decode::{Damage, Form, Ignored, Payload, Record, Repeat};
use crate::detect::state::streams::Streams;
use crate::event::Category;
use crate::event::clock::Misdated;

/// Counts of one batch, or of all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub bytes: u64,
    pub records: u64,
    pub by_form: BTreeMap<(Category, Form), u64>,
    pub ignored: BTreeMap<Ignored, u64>,
    pub damaged: BTreeMap<Damage, u64>,
    /// Records that count at another time than their own: dated after the hub took them in, and
    /// without a time.
    pub future: u64,
    pub untold: u64,
    /// Event times, earliest and latest.
    pub span: Option<(Timestamp, Timestamp)>,
    /// When each cluster's categories had records; of one batch only, a sum has none.
    pub streams: Streams,
}

impl Tally {
    pub fn add_record(&mut self, record: &Record<'_>) {
        self.records += 1;
        match &record.payload {
            Payload::Nothing(reason) => *self.ignored.entry(*reason).or_default() += 1,
            Payload::Audit(_) | Payload::ApiServer(_) => {
                *self
                    .by_form
                    .entry((record.origin.category, record.form))
                    .or_default() += 1;
            }
        }
        if let Some(damage) = record.damage {
            *self.damaged.entry(damage).or_default() += 1;
        }
    }

    pub fn add_repeat(&mut self, repeat: &Repeat<'_>) {
        self.records += 1;
        let form = (repeat.origin.category, repeat.form);
        *self.by_form.entry(form).or_default() += 1;
    }

    pub fn add_misdated(&mut self, why: Misdated) {
        match why {
            Misdated::Future => self.future += 1,
            Misdated::Untold => self.untold += 1,
        }
    }

    pub fn add_time(&mut self, time: Timestamp) {
        let (from, to) = self.span.unwrap_or((time, time));
        self.span = Some((from.min(time), to.max(time)));
    }

    pub fn merge(&mut self, other: &Tally) {
        self.bytes += other.bytes;
        self.records += other.records;
        self.future += other.future;
        self.untold += other.untold;
        add_counts(&mut self.by_form, &other.by_form);
        add_counts(&mut self.ignored, &other.ignored);
        add_counts(&mut self.damaged, &other.damaged);
        if let Some((from, to)) = other.span {
            self.add_time(from);
            self.add_time(to);
        }
    }

    pub fn damaged_total(&self) -> u64 {
        self.damaged.values().sum()
    }

    /// Whether records of this category were among those read.
    pub fn saw(&self, category: Category) -> bool {
        self.by_form.keys().any(|(seen, _)| *seen == category)
    }
}

fn add_counts<K: Ord + Copy>(into: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
    for (key, count) in from {
        *into.entry(*key).or_default() += count;
    }
}
