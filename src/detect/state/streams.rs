//! When each cluster's categories had records, to the minute: what absence is judged by.
//!
//! Workers fill one [`Streams`] a batch; the order in which they are put together does not matter.

use std::sync::Arc;

use jiff::Timestamp;

use crate::event::Category;

/// A pause shorter than this is none; seconds.
const GRAIN: i64 = 60;

/// Intervals kept however old they are: at least a quarter of an hour.
const KEPT: usize = 16;

/// Times of activity as closed intervals of seconds: sorted, apart by more than [`GRAIN`].
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Spans(Vec<(i64, i64)>);

impl Spans {
    pub fn add(&mut self, from: i64, to: i64) {
        if let Some(last) = self.0.last_mut()
            && from >= last.0
            && from <= last.1.saturating_add(GRAIN)
        {
            last.1 = last.1.max(to);
            return;
        }
        // Those that the new one touches become one with it.
        let begin = self
            .0
            .partition_point(|(_, end)| end.saturating_add(GRAIN) < from);
        let end = self
            .0
            .partition_point(|(start, _)| start.saturating_sub(GRAIN) <= to);
        let touched = &self.0[begin..end];
        let joined = (
            touched.first().map_or(from, |first| first.0.min(from)),
            touched.last().map_or(to, |last| last.1.max(to)),
        );
        self.0.splice(begin..end, [joined]);
    }

    pub fn merge(&mut self, other: &Spans) {
        for (from, to) in &other.0 {
            self.add(*from, *to);
        }
    }

    /// Those that are times, in their order: what is read from a disk may be anything.
    pub fn sound(&self) -> Spans {
        let times = Timestamp::MIN.as_second()..=Timestamp::MAX.as_second();
        let mut sound = Spans::default();
        for (from, to) in &self.0 {
            if from <= to && times.contains(from) && times.contains(to) {
                sound.add(*from, *to);
            }
        }
        sound
    }

    /// Forgets what ended before `horizon`, but for the last intervals: the end of a long pause is
    /// known only some time after it.
    pub fn forget_before(&mut self, horizon: i64) {
        let stale = self.0.partition_point(|(_, end)| *end < horizon);
        let old = self.0.len().saturating_sub(KEPT);
        self.0.drain(..stale.min(old));
    }

    pub fn as_slice(&self) -> &[(i64, i64)] {
        &self.0
    }
}

/// One batch's activity by cluster and category.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Streams {
    streams: Vec<(Arc<str>, Category, Spans)>,
    /// Where the last record was put: the next one is mostly of the same stream.
    recent: usize,
}

impl Streams {
    pub fn add(&mut self, cluster: &Arc<str>, category: Category, time: Timestamp) {
        let is_it = |stream: &(Arc<str>, Category, Spans)| {
            stream.1 == category && (Arc::ptr_eq(&stream.0, cluster) || stream.0 == *cluster)
        };
        if !self.streams.get(self.recent).is_some_and(is_it) {
            self.recent = self
                .streams
                .iter()
                .position(is_it)
                .unwrap_or(self.streams.len());
            if self.recent == self.streams.len() {
                let stream = (Arc::clone(cluster), category, Spans::default());
                self.streams.push(stream);
            }
        }
        let at = time.as_second();
        self.streams[self.recent].2.add(at, at);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Category, &Spans)> {
        self.streams
            .iter()
            .map(|(cluster, category, spans)| (cluster, *category, spans))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn spans_do_not_depend_on_the_order(
            times in proptest::collection::vec((0_i64..2_000, 0_i64..90), 0..40),
            by in any::<proptest::sample::Index>(),
        ) {
            let mut sorted = times.clone();
            sorted.sort_unstable();
            let mut turned = times;
            if !turned.is_empty() {
                let by = by.index(turned.len());
                turned.rotate_left(by);
            }
            let spans = |times: &[(i64, i64)]| {
                let mut spans = Spans::default();
                times.iter().for_each(|(from, more)| spans.add(*from, from + more));
                spans
            };
            let spans_of = spans(&sorted);
            prop_assert_eq!(&spans_of, &spans(&turned));
            let apart = spans_of.as_slice().windows(2).all(|two| two[1].0 - two[0].1 > GRAIN);
            prop_assert!(apart, "{spans_of:?}");
        }
    }
}
