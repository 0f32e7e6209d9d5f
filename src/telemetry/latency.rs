//! Latency quantiles, by hdrhistogram, over a rolling window and since the start.
//!
//! Recorded by the pipeline and by deliveries; shown by [`super::metrics`] and by the demo's summary.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Span {
    /// From the hub's taking a message in to the commit that makes its alerts durable.
    PublishToCommit,
    /// From there to a receiver's accepting the notification, failed attempts included.
    CommitToDelivery,
    /// The whole way, where both ends are known to one process.
    PublishToDelivery,
}

impl Span {
    pub const ALL: [Span; 3] = [
        Span::PublishToCommit,
        Span::CommitToDelivery,
        Span::PublishToDelivery,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Span::PublishToCommit => "publish_to_commit",
            Span::CommitToDelivery => "commit_to_delivery",
            Span::PublishToDelivery => "publish_to_delivery",
        }
    }
}

/// Quantiles of what was recorded; zero where nothing was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quantiles {
    /// Samples that these are of.
    pub count: u64,
    pub p50: Duration,
    pub p90: Duration,
    pub p99: Duration,
    pub p999: Duration,
    pub max: Duration,
}

impl Quantiles {
    /// With the value of the metrics' `quantile` label.
    pub(super) fn labelled(&self) -> [(&'static str, Duration); 5] {
        [
            ("0.5", self.p50),
            ("0.9", self.p90),
            ("0.99", self.p99),
            ("0.999", self.p999),
            ("1", self.max),
        ]
    }
}

/// The latencies of one [`Span`].
#[derive(Debug)]
pub struct Latency {
    window: Duration,
    recorded: Mutex<Recorded>,
}

/// In microseconds. The window slides by halves that alternate, so that a scrape sees between one
/// and two windows and never an empty one right after a turn.
#[derive(Debug)]
struct Recorded {
    current: Histogram<u64>,
    previous: Histogram<u64>,
    total: Histogram<u64>,
    turned: Instant,
}

/// Longer ones count as this.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

impl Latency {
    pub fn new(window: Duration) -> Latency {
        let empty = || {
            Histogram::new_with_bounds(1, LONGEST.as_micros() as u64, 2)
                .expect("the bounds are constant and valid")
        };
        Latency {
            window,
            recorded: Mutex::new(Recorded {
                current: empty(),
                previous: empty(),
                total: empty(),
                turned: Instant::now(),
            }),
        }
    }

    pub fn record(&self, latency: Duration) {
        self.record_many(latency, 1);
    }

    /// The same latency for several samples: the records of one batch.
    pub fn record_many(&self, latency: Duration, samples: u64) {
        let micros = u64::try_from(latency.min(LONGEST).as_micros()).unwrap_or(u64::MAX);
        let mut recorded = self.turned(Instant::now());
        recorded.current.saturating_record_n(micros.max(1), samples);
        recorded.total.saturating_record_n(micros.max(1), samples);
    }

    /// Over the last one to two windows.
    pub fn recent(&self) -> Quantiles {
        self.recent_at(Instant::now())
    }

    fn recent_at(&self, now: Instant) -> Quantiles {
        let recorded = self.turned(now);
        let mut both = recorded.previous.clone();
        both.add(&recorded.current)
            .expect("both histograms have the same bounds");
        quantiles(&both)
    }

    /// Since the start.
    pub fn total(&self) -> Quantiles {
        quantiles(&self.turned(Instant::now()).total)
    }

    fn turned(&self, now: Instant) -> std::sync::MutexGuard<'_, Recorded> {
        // Recording leaves nothing half done, so a poisoned lock is as good as another.
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        let age = now.saturating_duration_since(recorded.turned);
        if age >= self.window {
            let Recorded {
                current, previous, ..
            } = &mut *recorded;
            std::mem::swap(current, previous);
            current.reset();
            if age >= self.window * 2 {
                previous.reset();
            }
            recorded.turned = now;
        }
        recorded
    }
}

fn quantiles(histogram: &Histogram<u64>) -> Quantiles {
    let at = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
    Quantiles {
        count: histogram.len(),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: Duration::from_micros(histogram.max()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(actual: Duration, millis: u64) -> bool {
        let wanted = Duration::from_millis(millis);
        actual.abs_diff(wanted) <= wanted / 50
    }

    #[test]
    fn quantiles_are_of_the_samples() {
        let latency = Latency::new(Duration::from_secs(60));
        for millis in 1..=1000 {
            latency.record(Duration::from_millis(millis));
        }
        let recent = latency.recent();
        assert_eq!(recent.count, 1000);
        assert!(near(recent.p50, 500) && near(recent.p90, 900), "{recent:?}");
        assert!(
            near(recent.p99, 990) && near(recent.p999, 999),
            "{recent:?}"
        );
        assert!(near(recent.max, 1000), "{recent:?}");
        assert_eq!(latency.total(), recent);
    }

    #[test]
    fn what_is_older_than_two_windows_is_only_in_the_total() {
        let latency = Latency::new(Duration::from_secs(60));
        latency.record(Duration::MAX);
        latency.record(Duration::ZERO);
        let now = Instant::now();
        assert_eq!(latency.recent_at(now + Duration::from_secs(61)).count, 2);
        assert_eq!(latency.recent_at(now + Duration::from_secs(122)).count, 0);
        assert_eq!(latency.recent_at(now + Duration::from_secs(500)).count, 0);
        assert_eq!(latency.total().count, 2);
    }
}
