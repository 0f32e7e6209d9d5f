//! The time of day, without the jumps of this machine's clock.
//!
//! Backoff, the ages of notifications, and the clock of hubs that are read to their end are measured
//! here. A clock that is set wrong for a while, by a hypervisor or a time server, changes none of
//! them: time goes on at the monotonic clock's pace. What the clock says for ten minutes on end is
//! taken to be right. What others check by their own clock, as the timestamp that a webhook is signed
//! with, is read from the machine's.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// What a clock is moved by while it is kept right; more is a jump.
const DRIFT: SignedDuration = SignedDuration::from_secs(5);

/// How long a clock that has jumped must stay where it is to be believed.
const BELIEVED: Duration = Duration::from_secs(10 * 60);

/// Wall time and the time since some moment, as a machine's two clocks tell them.
type Read = dyn Fn() -> (Timestamp, Duration) + Send + Sync;

/// The time of day. Shared by what lives as long as the process.
pub struct Wall {
    read: Box<Read>,
    steady: Mutex<Steady>,
}

#[derive(Debug)]
struct Steady {
    /// When both clocks were last believed.
    wall: Timestamp,
    elapsed: Duration,
    /// When the clock was first found elsewhere.
    jumped: Option<Duration>,
    corrections: u64,
}

impl Default for Wall {
    fn default() -> Wall {
        Wall::new()
    }
}

impl Wall {
    /// The machine's clocks.
    pub fn new() -> Wall {
        let began = Instant::now();
        Wall::with(move || (Timestamp::now(), began.elapsed()))
    }

    /// Other clocks: the time of day, which may jump, and one that does not.
    pub fn with(read: impl Fn() -> (Timestamp, Duration) + Send + Sync + 'static) -> Wall {
        let (wall, elapsed) = read();
        Wall {
            read: Box::new(read),
            steady: Mutex::new(Steady {
                wall,
                elapsed,
                jumped: None,
                corrections: 0,
            }),
        }
    }

    pub fn now(&self) -> Timestamp {
        let (wall, elapsed) = (self.read)();
        self.steady
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .now(wall, elapsed)
    }

    /// How often the clock was believed after it had jumped.
    pub fn corrections(&self) -> u64 {
        self.steady
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .corrections
    }
}

impl Steady {
    fn now(&mut self, wall: Timestamp, elapsed: Duration) -> Timestamp {
        let gone = elapsed.saturating_sub(self.elapsed);
        let expected = self.wall.saturating_add(gone).unwrap_or(Timestamp::MAX);
        let off = wall.duration_since(expected);
        if off.abs() <= DRIFT {
            self.jumped = None;
        } else {
            let jumped = *self.jumped.get_or_insert_with(|| {
                tracing::warn!(
                    by = %off,
                    "this machine's clock has jumped; going on without it for ten minutes"
                );
                elapsed
            });
            if elapsed.saturating_sub(jumped) < BELIEVED {
                return expected;
            }
            self.jumped = None;
            self.corrections += 1;
            tracing::warn!(by = %off, "this machine's clock stays where it is; going by it");
        }
        (self.wall, self.elapsed) = (wall, elapsed);
        wall
    }
}

impl fmt::Debug for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wall").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steady time in seconds after the begin, and the corrections, when the two clocks say so.
    fn run(clocks: &[(i64, u64)]) -> (Vec<i64>, u64) {
        let begin: Timestamp = "2026-11-20T10:00:00Z".parse().expect("a time");
        let mut steady = Steady {
            wall: begin,
            elapsed: Duration::ZERO,
            jumped: None,
            corrections: 0,
        };
        let times = clocks.iter().map(|(wall, elapsed)| {
            let wall = begin + SignedDuration::from_secs(*wall);
            let now = steady.now(wall, Duration::from_secs(*elapsed));
            now.as_second() - begin.as_second()
        });
        (times.collect(), steady.corrections)
    }

    #[test]
    fn a_clock_that_is_kept_right_is_followed() {
        let clocks = [(10, 10), (24, 20), (31, 30), (200, 196)];
        assert_eq!(run(&clocks), (vec![10, 24, 31, 200], 0));
    }

    #[test]
    fn a_jump_that_is_taken_back_changes_nothing() {
        const YEARS: i64 = 10 * 365 * 86_400;
        for jump in [YEARS, -YEARS, 3_600, -3_600] {
            let clocks = [
                (10, 10),
                (jump + 20, 20),
                (jump + 500, 500),
                (jump + 615, 615),
                (620, 620),
                (jump + 630, 630),
                (640, 640),
            ];
            assert_eq!(run(&clocks), (vec![10, 20, 500, 615, 620, 630, 640], 0));
        }
    }

    #[test]
    fn a_clock_that_stays_is_believed() {
        for jump in [7_200, -7_200] {
            let clocks = [
                (10, 10),
                (jump + 20, 20),
                (jump + 620, 620),
                (jump + 630, 630),
            ];
            assert_eq!(run(&clocks), (vec![10, 20, jump + 620, jump + 630], 1));
        }
    }
}
