//! Checks what a detector remembers: the one operator that its file may name.

use std::ops::RangeInclusive;

use jiff::SignedDuration;
use toml::Spanned;

use super::check::{Check, names};
use crate::config::duration;
use crate::detect::detector::{Absent, StateSpec, Step};
use crate::detect::spec::{Absence, FirstSeen, Sequence, Spec, Spike, Threshold};
use crate::event::fact::{Bits, Group};

/// The longest window a detector may have: every match within it is remembered.
const MAX_WINDOW: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Spans that a key's past is cut into; those of a quarter of an hour are kept one by one.
const SPANS: RangeInclusive<SignedDuration> =
    SignedDuration::from_mins(1)..=SignedDuration::from_hours(24);

/// Streams are known to the minute, and for three days.
const SHORTEST_ABSENCE: SignedDuration = SignedDuration::from_mins(3);
const LONGEST_ABSENCE: SignedDuration = SignedDuration::from_hours(24);

/// Steps of a sequence at most.
const MAX_STEPS: usize = 8;

impl Check<'_> {
    /// The state operator, and the text of what decides its meaning.
    pub(super) fn state(&mut self, spec: &Spec) -> (StateSpec, String) {
        let operators: Vec<_> = [
            ("first_seen", spec.first_seen.as_ref().map(Spanned::span)),
            ("threshold", spec.threshold.as_ref().map(Spanned::span)),
            ("spike", spec.spike.as_ref().map(Spanned::span)),
            ("sequence", spec.sequence.as_ref().map(Spanned::span)),
            ("absence", spec.absence.as_ref().map(Spanned::span)),
            ("reuse", spec.reuse.as_ref().map(Spanned::span)),
        ]
        .into_iter()
        .filter_map(|(name, span)| Some((name, span?)))
        .collect();
        if let [(first, _), (second, span), ..] = &operators[..] {
            let message = format!("stands beside [{first}]; a detector has one of them at most");
            let help = Some("split the detector".into());
            self.problem_at(span.clone(), *second, message, help);
            return (StateSpec::None, String::new());
        }
        if let Some(first_seen) = &spec.first_seen {
            self.first_seen(first_seen.get_ref())
        } else if let Some(threshold) = &spec.threshold {
            self.threshold(threshold)
        } else if let Some(spike) = &spec.spike {
            self.spike(spike)
        } else if let Some(sequence) = &spec.sequence {
            self.sequence(sequence)
        } else if let Some(absence) = &spec.absence {
            self.absence(absence.get_ref())
        } else if let Some(reuse) = &spec.reuse {
            let within = self.window(&reuse.get_ref().within, "reuse.within");
            (StateSpec::Reuse { within }, "reuse".to_owned())
        } else {
            (StateSpec::None, String::new())
        }
    }

    fn first_seen(&mut self, first_seen: &FirstSeen) -> (StateSpec, String) {
        let state = StateSpec::FirstSeen {
            key: self.fields(&first_seen.key, "first_seen.key"),
            value: self.fields(&first_seen.value, "first_seen.value"),
            learn: self.learning(&first_seen.learn, "first_seen.learn"),
            teach: first_seen.teach.clone(),
            new_key: first_seen.new_key,
        };
        let (key, value) = (names(&first_seen.key), names(&first_seen.value));
        (state, format!("first_seen {key:?} {value:?}"))
    }

    fn threshold(&mut self, spanned: &Spanned<Threshold>) -> (StateSpec, String) {
        let threshold = spanned.get_ref();
        if threshold.count < 2 {
            let message = "is below 2, so every match would be a finding";
            let help = Some("leave [threshold] out".into());
            self.problem(spanned, "threshold.count", message, help);
        }
        let state = StateSpec::Threshold {
            key: self.fields(&threshold.key, "threshold.key"),
            distinct: threshold
                .distinct
                .as_ref()
                .and_then(|name| self.field(name, "threshold.distinct")),
            count: threshold.count,
            window: self.window(&threshold.window, "threshold.window"),
        };
        let distinct = threshold.distinct.as_ref().map(|name| name.get_ref());
        let key = names(&threshold.key);
        (state, format!("threshold {key:?} {distinct:?}"))
    }

    fn spike(&mut self, spanned: &Spanned<Spike>) -> (StateSpec, String) {
        let spike = spanned.get_ref();
        if spike.count < 2 || spike.limit <= spike.count {
            let message =
                "leaves nothing to be a spike: `limit` must be above `count`, and that above 1";
            self.problem(spanned, "spike.limit", message, None);
        }
        let window = self.window(&spike.window, "spike.window");
        if !SPANS.contains(&window) {
            let help = Some("from 1m to 24h".into());
            self.problem(&spike.window, "spike.window", "is no possible span", help);
        }
        if let Some(first) = spike.new_to.first().filter(|_| spike.distinct.is_none()) {
            let help = Some("say with `distinct` which values are counted".into());
            self.problem(
                first,
                "spike.new_to",
                "has no values that could be new",
                help,
            );
        }
        let state = StateSpec::Spike {
            key: self.fields(&spike.key, "spike.key"),
            distinct: spike
                .distinct
                .as_ref()
                .and_then(|name| self.field(name, "spike.distinct")),
            count: spike.count,
            limit: spike.limit,
            window,
            learn: self.learning(&spike.learn, "spike.learn"),
            new_to: match spike.new_to.as_slice() {
                [] => Vec::new(),
                named => self.fields(named, "spike.new_to"),
            },
        };
        let distinct = spike.distinct.as_ref().map(|name| name.get_ref());
        let key = names(&spike.key);
        let mut text = format!("spike {key:?} {distinct:?}");
        if !spike.new_to.is_empty() {
            text = format!("{text} new to {:?}", names(&spike.new_to));
        }
        (state, text)
    }

    fn sequence(&mut self, spanned: &Spanned<Sequence>) -> (StateSpec, String) {
        let sequence = spanned.get_ref();
        let key = self.fields(&sequence.key, "sequence.key");
        if !(2..=MAX_STEPS).contains(&sequence.step.len()) {
            let message = format!("has {} steps", sequence.step.len());
            let help = Some(format!("from 2 to {MAX_STEPS}"));
            self.problem(spanned, "sequence.step", message, help);
        }
        let mut text = format!("sequence {:?}", names(&sequence.key));
        let mut steps = Vec::new();
        for step in &sequence.step {
            let step = step.get_ref();
            if step.detectors.is_empty() {
                let help = Some("name at least one detector".into());
                self.problem(spanned, "sequence.step.detectors", "is empty", help);
            }
            let key = match &step.key {
                None => key.clone(),
                Some(own) => {
                    if own.get_ref().len() != sequence.key.len() {
                        let message = "has not as many fields as the sequence's key";
                        let help = Some(format!("one for each of {:?}", names(&sequence.key)));
                        self.problem(own, "sequence.step.key", message, help);
                    }
                    text.push_str(&format!(" {:?}", names(own.get_ref())));
                    self.fields(own.get_ref(), "sequence.step.key")
                }
            };
            text.push_str(&format!(" then {:?}", names(&step.detectors)));
            steps.push(Step {
                detectors: step
                    .detectors
                    .iter()
                    .map(|id| id.get_ref().clone())
                    .collect(),
                key,
                facts: self.step_facts(&step.facts, "sequence.step.facts"),
                not: self.step_facts(&step.not, "sequence.step.not"),
            });
        }
        let within = self.window(&sequence.within, "sequence.within");
        (StateSpec::Sequence { within, steps }, text)
    }

    /// A step is known by its event alone; what the inventory says of it, its detector asks.
    fn step_facts(&mut self, list: &[Spanned<String>], key: &str) -> Bits {
        let facts = self.facts(list, key);
        if facts.intersects(&Group::Known.mask()) {
            let message = "names a fact of the inventory, which steps cannot ask for";
            let help = Some("name it in a detector, and that one as the step's".into());
            let at = list
                .iter()
                .find(|name| name.get_ref().starts_with("known."));
            let span = at.map_or(0..0, Spanned::span);
            self.problem_at(span, key, message, help);
        }
        facts
    }

    fn absence(&mut self, absence: &Absence) -> (StateSpec, String) {
        let of = match absence.of.get_ref().as_str() {
            "cluster" => Absent::Cluster,
            "category" => Absent::Category,
            "network-policy" => Absent::NetworkPolicy,
            _ => {
                let names = ["cluster", "category", "network-policy"];
                self.unknown(&absence.of, "absence.of", "kind of absence", names);
                Absent::Cluster
            }
        };
        let after = self.duration(&absence.after, "absence.after");
        if !(SHORTEST_ABSENCE..=LONGEST_ABSENCE).contains(&after) {
            let help = Some("from 3m to 24h".into());
            let message = "is no time to wait before something is missed";
            self.problem(&absence.after, "absence.after", message, help);
        }
        let text = format!("absence {:?}", absence.of.get_ref());
        (StateSpec::Absence { of, after }, text)
    }

    fn window(&mut self, text: &Spanned<String>, key: &str) -> SignedDuration {
        let window = self.duration(text, key);
        if window <= SignedDuration::ZERO || window > MAX_WINDOW {
            let help = Some("from 1s to 7d".into());
            self.problem(text, key, "is no possible window", help);
        }
        window
    }

    /// A learning time may be zero: then everything that was not seen is new.
    fn learning(&mut self, text: &Spanned<String>, key: &str) -> SignedDuration {
        match duration::parse(text.get_ref()) {
            Ok(zero) if zero.is_zero() => zero,
            _ => self.duration(text, key),
        }
    }
}
