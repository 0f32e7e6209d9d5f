//! What is usual for a key: a level and a spread of counts that no burst can move far.
//!
//! On the scale of Anscombe's transform (1948), on which counts of any size scatter alike, an
//! exponentially weighted level and spread follow the counts of the key's spans. Each is first
//! clipped to two spreads around the level, and the spread follows a bounded loss, as in robust
//! exponential smoothing (Gelper, Fried and Croux 2010). So a burst of whatever size moves the
//! estimate no more than a span that was a little busy; the first spans weigh more than later ones,
//! and are believed no further than from a single event on.

use serde::{Deserialize, Serialize};

/// Spreads around the level to which a number is clipped, and above it from which it is a spike.
const CLIP: f32 = 2.0;
const SPIKE: f32 = 3.0;

/// Weight of the latest span in the long run.
const GAIN: f32 = 0.05;

/// Bounds of the spread: one is that of counts that come by chance alone.
const SPREADS: (f32, f32) = (0.25, 2.0);

/// Makes the bounded loss give 1 on the average for numbers that scatter normally, at a clip of 2.
const CONSISTENCY: f32 = 2.52;

/// The estimate from the spans that have settled.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Past {
    /// Spans in which the key did anything.
    pub spans: u32,
    /// Number of the first of them.
    pub first: i64,
    level: f32,
    spread: f32,
}

impl Past {
    /// Takes in what a span held; more than `limit` is as good as `limit`.
    pub fn learn(&mut self, span: i64, count: u32, limit: u32) {
        let seen = transformed(count.min(limit));
        if self.spans == 0 {
            // What comes first is believed no further than one event.
            *self = Past {
                spans: 0,
                first: span,
                level: transformed(1),
                spread: 1.0,
            };
        }
        self.spans = self.spans.saturating_add(1);
        self.first = self.first.min(span);
        let gain = GAIN.max(1.0 / (self.spans as f32 + 1.0));
        let off = (seen - self.level) / self.spread;
        self.level += gain * self.spread * off.clamp(-CLIP, CLIP);
        let rest = 1.0 - (off / CLIP).powi(2).min(1.0);
        let loss = CONSISTENCY * (1.0 - rest.powi(3));
        let variance = self.spread.powi(2) * (1.0 - gain + gain * loss);
        self.spread = variance.sqrt().clamp(SPREADS.0, SPREADS.1);
    }

    /// What a span usually holds.
    pub fn usual(&self) -> u32 {
        counted(self.level).round().max(1.0) as u32
    }

    /// From here on, a span holds more than chance explains.
    pub fn bar(&self) -> u32 {
        counted(self.level + SPIKE * self.spread).floor() as u32 + 1
    }
}

/// Anscombe's transform: the variance of a Poisson count becomes one.
fn transformed(count: u32) -> f32 {
    2.0 * (count as f32 + 0.375).sqrt()
}

fn counted(transformed: f32) -> f32 {
    (transformed.max(0.0) / 2.0).powi(2) - 0.375
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u32 = 1_000;

    fn past(counts: impl IntoIterator<Item = u32>) -> Past {
        let mut past = Past::default();
        for (span, count) in (0..).zip(counts) {
            past.learn(span, count, LIMIT);
        }
        past
    }

    #[test]
    fn follows_what_is_usual() {
        let steady = past(vec![40; 60]);
        assert!((35..=40).contains(&steady.usual()), "{steady:?}");
        assert!((45..=80).contains(&steady.bar()), "{steady:?}");
        let quiet = past([1, 2, 1, 1].repeat(15));
        assert!(quiet.usual() == 1 && quiet.bar() <= 5, "{quiet:?}");
        let varied = past([5, 9, 3, 12, 7, 6].repeat(10));
        assert!((13..=30).contains(&varied.bar()), "{varied:?}");
    }

    #[test]
    fn a_burst_moves_it_no_further_than_a_busy_span() {
        let calm = past(vec![3; 60]);
        let with = |count| {
            let mut past = calm;
            past.learn(60, count, u32::MAX);
            past
        };
        let (busy, burst) = (with(8), with(u32::MAX));
        assert!(
            (burst.level - busy.level).abs() < 0.01,
            "{busy:?} {burst:?}"
        );
        assert!(burst.bar() <= calm.bar() + 1, "{calm:?} {burst:?}");
    }

    #[test]
    fn the_first_spans_are_not_believed_whatever_they_hold() {
        let burst = past([1_000]);
        assert!(burst.usual() <= 3, "{burst:?}");
    }
}
