//! Keeps partitions near one another in event time while they catch up: the ones ahead are paused.
//!
//! Records of one cluster lie on all partitions of its hub. What detectors remember does not depend
//! on the order of events that lie nearer than the lateness; partitions that are read from far back
//! come at different speeds and would soon lie further apart. Readers ask before each batch whether
//! it is their turn; the judging thread says how far each partition has come.
//!
//! A pause always ends. Only a partition that moves on in event time is waited for: not one that is
//! read to its end, that tells no times, or that has not moved for a while. And nobody waits longer
//! than a bound, after which the reader goes on until it is near the others again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::{Batch, Partition};

/// Batches of one partition that may wait to be judged while others catch up: more would lie ahead
/// before anybody knows how far.
const UNJUDGED: u64 = 2;

/// How far apart partitions may come, and how long one waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// By how much a partition may be ahead of the one furthest behind.
    pub ahead: SignedDuration,
    /// How long a partition is paused at most, in one piece.
    pub pause: Duration,
    /// How long one that does not move on is waited for.
    pub patience: Duration,
    /// How long nothing is said to be quiet or absent for want of a hub or partition of which
    /// nothing was heard.
    pub unheard: Duration,
}

impl Limits {
    /// How long a partition that does not move on is waited for, if nothing else is said: longer
    /// than a reconnection takes that succeeds.
    pub const PATIENCE: Duration = Duration::from_secs(10);

    /// How long a hub or partition of which nothing was heard holds up the clock, if nothing else is
    /// said: longer than Azure takes to move a partition or to come back after its maintenance. One
    /// hub that was deleted must not keep the silence of all others from being noticed.
    pub const UNHEARD: Duration = Duration::from_secs(15 * 60);
}

/// Where readers put batches, and what they wait for before.
#[derive(Debug, Clone)]
pub struct Outlet {
    pub batches: mpsc::Sender<Batch>,
    /// Without one, no partition waits for another.
    pub pacing: Option<Arc<Pacing>>,
}

impl From<mpsc::Sender<Batch>> for Outlet {
    fn from(batches: mpsc::Sender<Batch>) -> Outlet {
        Outlet {
            batches,
            pacing: None,
        }
    }
}

/// How far every partition has come, shared by readers and the judging thread.
#[derive(Debug)]
pub struct Pacing {
    limits: Limits,
    lanes: Mutex<BTreeMap<Arc<Partition>, Lane>>,
    /// Hubs of which it is not known yet what partitions they have, since when.
    unlisted: Mutex<BTreeMap<Arc<str>, Instant>>,
    /// Counts what was judged.
    judged: watch::Sender<u64>,
}

#[derive(Debug)]
struct Lane {
    /// The latest event time judged, never ahead of the clock.
    latest: Option<Timestamp>,
    /// Batches sent and not judged.
    unjudged: u64,
    at_end: bool,
    /// When it was opened or last moved on in event time.
    moved: Instant,
    paused: Option<Instant>,
    opened: Instant,
    /// A batch of it, be it empty, was judged.
    heard: bool,
    /// Has waited long enough; until it is near the others again.
    exempt: bool,
}

/// Whether a reader may send its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Go,
    /// At this time everything may look different, even if nothing is judged until then.
    Wait(Instant),
}

/// What was heard of hubs and partitions; see [`Pacing::heard`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub is_complete: bool,
    /// What is waited for no more, since it was not heard of for [`Limits::unheard`].
    pub without: Vec<String>,
}

/// How a wait for one's turn went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    No,
    /// Until the others had come near.
    Yes,
    /// As long as it may.
    GivenUp,
}

impl Pacing {
    pub fn new(limits: Limits) -> Pacing {
        Pacing {
            limits,
            lanes: Mutex::default(),
            unlisted: Mutex::default(),
            judged: watch::Sender::new(0),
        }
    }

    /// A hub is going to be read; its partitions are still to be asked for.
    pub fn expect(&self, source: Arc<str>) {
        self.unlisted().insert(source, Instant::now());
    }

    /// All partitions that the hub has were opened.
    pub fn listed(&self, source: &str) {
        self.unlisted().remove(source);
    }

    /// Whether something of every partition of every hub was judged, if only that there is nothing,
    /// and what is waited for no more. Until it is complete nobody knows what may still come, however
    /// late.
    pub fn heard(&self) -> Heard {
        let now = Instant::now();
        let mut heard = Heard {
            is_complete: true,
            without: Vec::new(),
        };
        let mut wait = |since: Instant, name: &dyn Fn() -> String| match now
            .saturating_duration_since(since)
            < self.limits.unheard
        {
            true => heard.is_complete = false,
            false => heard.without.push(name()),
        };
        for (source, since) in self.unlisted().iter() {
            wait(*since, &|| source.to_string());
        }
        for (partition, lane) in self.lanes().iter().filter(|(_, lane)| !lane.heard) {
            wait(lane.opened, &|| {
                format!("{}/{}", partition.source, partition.id)
            });
        }
        heard
    }

    /// A reader begins; until its first batch is judged, others wait for it.
    pub fn open(&self, partition: &Arc<Partition>) {
        let lane = Lane {
            latest: None,
            unjudged: 0,
            at_end: false,
            moved: Instant::now(),
            paused: None,
            opened: Instant::now(),
            heard: false,
            exempt: false,
        };
        self.lanes().insert(Arc::clone(partition), lane);
    }

    /// A batch of the partition was judged; `latest` is the latest event time in it.
    pub fn judged(&self, partition: &Partition, latest: Option<Timestamp>, at_end: bool) {
        if let Some(lane) = self.lanes().get_mut(partition) {
            lane.unjudged = lane.unjudged.saturating_sub(1);
            lane.heard = true;
            // Told or not: one that delivers without times is not waited for as one that is new.
            if lane.latest.is_none() && latest.is_none() {
                lane.at_end = true;
            } else {
                lane.at_end = at_end;
            }
            // A clock that is ahead must not look like a partition that is.
            let latest = latest.map(|time| time.min(Timestamp::now()));
            if latest > lane.latest {
                lane.latest = latest;
                lane.moved = Instant::now();
            }
        }
        self.judged.send_modify(|count| *count += 1);
    }

    /// Counts a batch that is about to be sent.
    pub fn sent(&self, partition: &Partition) {
        if let Some(lane) = self.lanes().get_mut(partition) {
            lane.unjudged += 1;
        }
    }

    /// How much of the hub's time one batch may hold, so that a pause can come in between.
    pub fn span(&self) -> SignedDuration {
        self.limits.ahead / 2
    }

    /// Waits until the partition may send a batch. `pausing` is called when a wait for others begins.
    pub async fn turn(&self, partition: &Partition, pausing: impl FnOnce()) -> Waited {
        let mut judged = self.judged.subscribe();
        let mut pausing = Some(pausing);
        loop {
            judged.borrow_and_update();
            match self.ask(partition) {
                Turn::Go => break,
                Turn::Wait(until) => {
                    if self.is_paused(partition)
                        && let Some(pausing) = pausing.take()
                    {
                        pausing();
                    }
                    // The sender lives as long as this.
                    let _ = tokio::time::timeout_at(until, judged.changed()).await;
                }
            }
        }
        let mut lanes = self.lanes();
        let Some(lane) = lanes.get_mut(partition) else {
            return Waited::No;
        };
        match (lane.paused.take(), lane.exempt) {
            (None, _) => Waited::No,
            (Some(_), false) => Waited::Yes,
            (Some(_), true) => Waited::GivenUp,
        }
    }

    fn is_paused(&self, partition: &Partition) -> bool {
        let lanes = self.lanes();
        lanes
            .get(partition)
            .is_some_and(|lane| lane.paused.is_some())
    }

    fn ask(&self, partition: &Partition) -> Turn {
        let now = Instant::now();
        let mut lanes = self.lanes();
        let Some(lane) = lanes.get(partition) else {
            return Turn::Go;
        };
        let Some(here) = lane.latest else {
            // Nothing of it is judged yet: one batch tells where it is.
            return if lane.unjudged > 0 && !lane.at_end {
                Turn::Wait(now + self.limits.patience)
            } else {
                Turn::Go
            };
        };
        let others = lanes.iter().filter(|(other, lane)| {
            other.as_ref() != partition
                && other.source == partition.source
                && !lane.at_end
                && now.saturating_duration_since(lane.moved) < self.limits.patience
        });
        // The one furthest behind, and when the first of those behind is waited for no more.
        let (mut behind, mut until) = (false, now + self.limits.patience);
        let mut any = false;
        for (_, other) in others {
            any = true;
            let is_far = other
                .latest
                .is_none_or(|there| here.duration_since(there) > self.limits.ahead);
            if is_far {
                behind = true;
                until = until.min(other.moved + self.limits.patience);
            }
        }
        let lane = lanes
            .get_mut(partition)
            .expect("it was there under the same lock");
        if behind && !lane.exempt {
            let since = *lane.paused.get_or_insert(now);
            if now < since + self.limits.pause {
                return Turn::Wait(until.min(since + self.limits.pause));
            }
            lane.exempt = true;
        }
        if !behind {
            lane.exempt = false;
        }
        if any && !lane.exempt && lane.unjudged >= UNJUDGED {
            return Turn::Wait(now + self.limits.patience);
        }
        Turn::Go
    }

    fn unlisted(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Instant>> {
        self.unlisted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lanes(&self) -> MutexGuard<'_, BTreeMap<Arc<Partition>, Lane>> {
        // Nothing here panics while it holds the lock, so a poisoned one is still sound.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        ahead: SignedDuration::from_secs(60),
        pause: Duration::from_secs(3600),
        patience: Duration::from_secs(3600),
        unheard: Duration::from_secs(3600),
    };

    fn partition(id: usize) -> Arc<Partition> {
        Arc::new(Partition {
            source: "hub".into(),
            id: id.to_string().into(),
        })
    }

    fn at(second: i64) -> Option<Timestamp> {
        Timestamp::from_second(1_700_000_000 + second).ok()
    }

    /// Two partitions; the first has come this far, the second is at 0.
    fn two(limits: Limits, first: i64) -> (Pacing, Arc<Partition>, Arc<Partition>) {
        let pacing = Pacing::new(limits);
        let (ahead, behind) = (partition(0), partition(1));
        pacing.open(&ahead);
        pacing.open(&behind);
        pacing.judged(&ahead, at(first), false);
        pacing.judged(&behind, at(0), false);
        (pacing, ahead, behind)
    }

    fn goes(pacing: &Pacing, partition: &Partition) -> bool {
        pacing.ask(partition) == Turn::Go
    }

    #[test]
    fn one_that_is_ahead_waits_until_the_other_has_come_near() {
        let (pacing, ahead, behind) = two(LIMITS, 61);
        assert!(!goes(&pacing, &ahead));
        assert!(pacing.is_paused(&ahead));
        assert!(goes(&pacing, &behind));
        pacing.judged(&behind, at(1), false);
        assert!(goes(&pacing, &ahead));
    }

    #[test]
    fn one_that_is_new_is_waited_for() {
        let pacing = Pacing::new(LIMITS);
        let (first, second) = (partition(0), partition(1));
        pacing.open(&first);
        pacing.open(&second);
        // Nobody knows where anyone is: each may send one batch.
        assert!(goes(&pacing, &first));
        pacing.sent(&first);
        assert!(!goes(&pacing, &first));
        pacing.judged(&first, at(500), false);
        assert!(!goes(&pacing, &first));
        assert!(goes(&pacing, &second));
        pacing.judged(&second, at(480), false);
        assert!(goes(&pacing, &first));
    }

    #[test]
    fn nobody_waits_for_one_that_is_read_to_its_end_or_tells_no_times() {
        let (pacing, ahead, behind) = two(LIMITS, 500);
        pacing.judged(&behind, None, true);
        assert!(goes(&pacing, &ahead));

        let pacing = Pacing::new(LIMITS);
        let timeless = partition(2);
        pacing.open(&ahead);
        pacing.open(&timeless);
        pacing.judged(&ahead, at(500), false);
        assert!(!goes(&pacing, &ahead));
        pacing.judged(&timeless, None, false);
        assert!(goes(&pacing, &ahead));
        assert!(goes(&pacing, &timeless));
    }

    #[test]
    fn nobody_waits_for_one_that_does_not_move() {
        let stuck = Limits {
            patience: Duration::ZERO,
            ..LIMITS
        };
        let (pacing, ahead, behind) = two(stuck, 500);
        // It goes on delivering, always from the same time.
        pacing.judged(&behind, at(0), false);
        assert!(goes(&pacing, &ahead));
    }

    #[tokio::test]
    async fn a_pause_ends_and_is_not_begun_anew_before_the_others_are_near() {
        let short = Limits {
            pause: Duration::ZERO,
            ..LIMITS
        };
        let (pacing, ahead, behind) = two(short, 500);
        assert_eq!(pacing.turn(&ahead, || ()).await, Waited::GivenUp);
        assert_eq!(pacing.turn(&ahead, || ()).await, Waited::No);
        pacing.judged(&behind, at(450), false);
        assert_eq!(pacing.turn(&ahead, || ()).await, Waited::No);
        pacing.judged(&ahead, at(600), false);
        assert_eq!(pacing.turn(&ahead, || ()).await, Waited::GivenUp);
    }

    #[test]
    fn a_clock_that_is_ahead_does_not_make_its_partition_so() {
        let (pacing, ahead, behind) = two(LIMITS, 0);
        let day = Timestamp::now() + SignedDuration::from_hours(24);
        pacing.judged(&ahead, Some(day), false);
        pacing.judged(&behind, Some(Timestamp::now()), false);
        assert!(goes(&pacing, &ahead));
    }

    #[test]
    fn hubs_do_not_wait_for_each_other() {
        let (pacing, ahead, _) = two(LIMITS, 10);
        let other = Arc::new(Partition {
            source: "other".into(),
            id: "0".into(),
        });
        pacing.open(&other);
        pacing.judged(&other, at(5000), false);
        assert!(goes(&pacing, &other));
        assert!(goes(&pacing, &ahead));
    }

    proptest! {
        /// Whatever the steps in time of the partitions' batches, and whoever asks next, somebody
        /// may always go on, everything is read, and none gets further ahead than it may.
        #[test]
        fn somebody_always_goes_on(
            steps in proptest::collection::vec(proptest::collection::vec(0i64..50, 1..30), 1..5),
            asks in proptest::collection::vec(0usize..5, 1..50),
        ) {
            let pacing = Pacing::new(LIMITS);
            let lanes: Vec<_> = (0..steps.len()).map(partition).collect();
            lanes.iter().for_each(|lane| pacing.open(lane));
            let mut sent = vec![0; steps.len()];
            let mut clocks = vec![0i64; steps.len()];
            let mut asks = asks.iter().cycle();
            let is_done = |sent: &[usize]| sent.iter().zip(&steps).all(|(sent, steps)| *sent == steps.len());
            while !is_done(&sent) {
                let able: Vec<usize> = (0..steps.len())
                    .filter(|lane| sent[*lane] < steps[*lane].len() && goes(&pacing, &lanes[*lane]))
                    .collect();
                prop_assert!(!able.is_empty(), "nobody may go on: {sent:?}");
                let lane = able[asks.next().expect("a cycle") % able.len()];
                pacing.sent(&lanes[lane]);
                clocks[lane] += steps[lane][sent[lane]];
                sent[lane] += 1;
                let at_end = sent[lane] == steps[lane].len();
                pacing.judged(&lanes[lane], at(clocks[lane]), at_end);
                let open = (0..steps.len()).filter(|lane| sent[*lane] < steps[*lane].len());
                if let Some(least) = open.map(|lane| clocks[lane]).min() {
                    prop_assert!(clocks[lane] - least <= 60 + 50);
                }
            }
        }
    }

    #[test]
    fn it_is_complete_when_something_of_every_partition_was_judged() {
        let pacing = Pacing::new(LIMITS);
        pacing.expect("hub".into());
        assert!(!pacing.heard().is_complete);
        pacing.open(&partition(0));
        pacing.open(&partition(1));
        pacing.listed("hub");
        pacing.judged(&partition(0), Some(Timestamp::UNIX_EPOCH), false);
        assert!(!pacing.heard().is_complete);
        // An empty batch says that there is nothing.
        pacing.judged(&partition(1), None, true);
        let heard = pacing.heard();
        assert!(heard.is_complete && heard.without.is_empty());
    }

    #[test]
    fn what_is_not_heard_of_is_waited_for_only_so_long() {
        let unheard = |pacing: &Pacing| {
            pacing.expect("gone".into());
            pacing.open(&partition(0));
            pacing.open(&partition(1));
            pacing.judged(&partition(0), at(0), true);
            pacing.heard()
        };
        let heard = unheard(&Pacing::new(LIMITS));
        assert!(!heard.is_complete && heard.without.is_empty());

        let pacing = Pacing::new(Limits {
            unheard: Duration::ZERO,
            ..LIMITS
        });
        let heard = unheard(&pacing);
        assert!(heard.is_complete);
        assert_eq!(heard.without, ["gone", "hub/1"]);
        pacing.listed("gone");
        pacing.judged(&partition(1), None, true);
        assert!(pacing.heard().without.is_empty());
    }
}
