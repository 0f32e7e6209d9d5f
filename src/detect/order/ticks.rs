//! What follows from the time that passes without a match: absences become findings.

use jiff::{SignedDuration, Timestamp};

use super::Judge;
use crate::detect::detector::{Absent, StateSpec};
use crate::detect::engine::Engine;
use crate::detect::explain;
use crate::detect::index::DetectorIndex;
use crate::detect::state::absence;

impl Judge {
    /// The clock has come to `now`, before which nothing more is expected: what is absent becomes a
    /// finding, to be asked for with [`Judge::raised`]. `live` says that silence up to now counts.
    pub fn tick(&mut self, engine: &Engine, now: Timestamp, live: bool) {
        self.inventory.advance(now.as_millisecond());
        self.judge_unsure(engine);
        let now = now.as_second();
        // It may go back: to a partition that is behind, or with the machine's clock.
        if self.ticked == Some(now) {
            return;
        }
        self.ticked = Some(now);
        let millis = now.saturating_mul(1000);
        self.thresholds.tick(millis);
        self.spikes.tick(millis);
        for (index, detector) in (0..).zip(&engine.detectors) {
            let StateSpec::Absence { of, after } = detector.state else {
                continue;
            };
            if of == Absent::NetworkPolicy {
                self.miss_policies(engine, index, after, now, live);
                continue;
            }
            let clock = absence::Clock { now, live };
            for gap in self
                .absence
                .gaps(detector.state_hash, of, after.as_secs(), clock)
            {
                let found = engine.absent(index, &gap);
                let reason = explain::absence(&gap, &engine.detectors);
                self.raise(detector, found, reason);
            }
        }
        self.absence
            .forget_before(now.saturating_sub(absence::KEPT_SECS));
    }

    /// Namespaces that are without a network policy for too long.
    fn miss_policies(
        &mut self,
        engine: &Engine,
        index: DetectorIndex,
        after: SignedDuration,
        now: i64,
        live: bool,
    ) {
        let detector = engine.detector(index);
        let bare = self
            .inventory
            .take_bare(detector.state_hash, after, now, live);
        for bare in bare {
            let Some(found) = engine.without_policy(index, &bare) else {
                continue;
            };
            self.raise(detector, found, explain::without_policy(&bare));
        }
    }

    /// The machine's clock was wrong until now, or is from now on: what is silent by it is silent
    /// from now.
    pub fn clock_was_set(&mut self) {
        self.absence.begin_anew();
    }
}
