//! What no longer comes: a cluster that falls silent, a category that stops or never was there.
//!
//! Only what was steady can be missed: before a gap, records must have come for as long as the gap
//! has to be, without a pause of a third of it, and such pauses must be rare. So a few events of an
//! archive, or of a category that speaks now and then, make no alert. While an archive is read, a gap
//! is judged by what comes after it; live, it is judged as soon as the clock says so.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::streams::{Spans, Streams};
use crate::detect::detector::Absent;
use crate::event::Category;

/// Clusters kept at most; they are named by Azure, not by whoever uses them.
const CLUSTER_LIMIT: usize = 4096;

/// Activity kept for judging whether a stream was steady; longer than any `after` may be.
pub const KEPT_SECS: i64 = 3 * 24 * 3600;

#[derive(Debug, Default)]
pub struct Absence {
    clusters: BTreeMap<String, Cluster>,
    /// By [`Cluster::last`]: at the bound, the first goes.
    by_last: BTreeSet<(i64, String)>,
    /// When this process first looked at the clock: before that, it may just not have read on.
    since: Option<i64>,
    /// Clusters that changed since the last delta; `None` where nothing is kept on disk.
    changed: Option<BTreeSet<String>>,
    evicted: u64,
}

/// What is known of a cluster's streams; times in seconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Cluster {
    /// By the number of the category in [`WATCHED`].
    streams: BTreeMap<u8, Spans>,
    /// The gap last told, by the detector's state hash and the category: where it began.
    told: BTreeMap<(u64, u8), i64>,
    /// What was before is not wholly known any more.
    forgotten: Option<i64>,
    /// The end of the latest span of any stream, as [`Absence::by_last`] has it.
    #[serde(skip)]
    last: i64,
}

/// Categories that detectors may require; a raw audit log is as good as `kube-audit`.
const WATCHED: [Category; 4] = [
    Category::KubeAudit,
    Category::KubeAuditAdmin,
    Category::KubeApiserver,
    Category::Raw,
];

const DAY: i64 = 24 * 3600;

/// Pauses within a day that make a stream one that speaks now and then; fewer may be outages.
const OFTEN: usize = 3;

/// Stands for the cluster as a whole in [`Cluster::told`].
const WHOLE: u8 = u8::MAX;

/// Something that ought to have come and did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    pub cluster: String,
    /// `None` where it is the whole cluster.
    pub category: Option<Category>,
    /// Last record before it; of a category that never was there, the cluster's first.
    pub from: i64,
    /// First record after it, or the moment at which it was noticed.
    pub to: i64,
    pub never: bool,
    /// It goes on.
    pub open: bool,
}

/// How to judge.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Event time before which nothing more is expected; seconds.
    pub now: i64,
    /// Whether silence up to now is a gap, or only one that has an end.
    pub live: bool,
}

impl Absence {
    pub fn new(durable: bool) -> Absence {
        Absence {
            changed: durable.then(BTreeSet::new),
            ..Absence::default()
        }
    }

    pub fn observe(&mut self, streams: &Streams) {
        for (name, category, spans) in streams.iter() {
            let Some(number) = WATCHED.iter().position(|watched| *watched == category) else {
                continue;
            };
            if !self.clusters.contains_key(&**name) {
                if self.clusters.len() >= CLUSTER_LIMIT {
                    self.evict();
                }
                self.put(name.to_string(), Cluster::default());
            }
            if let Some(cluster) = self.clusters.get_mut(&**name) {
                let known = cluster.streams.entry(number as u8).or_default();
                known.merge(spans);
                let last = cluster.latest();
                if last > cluster.last {
                    let place = (cluster.last, name.to_string());
                    self.by_last.remove(&place);
                    self.by_last.insert((last, place.1));
                    cluster.last = last;
                }
            }
            self.mark(name);
        }
    }

    fn put(&mut self, name: String, mut cluster: Cluster) {
        cluster.last = cluster.latest();
        self.by_last.insert((cluster.last, name.clone()));
        let last = cluster.last;
        if let Some(before) = self.clusters.insert(name.clone(), cluster)
            && before.last != last
        {
            self.by_last.remove(&(before.last, name));
        }
    }

    fn mark(&mut self, cluster: &str) {
        if let Some(changed) = &mut self.changed
            && !changed.contains(cluster)
        {
            changed.insert(cluster.to_owned());
        }
    }

    /// The cluster that has been silent for longest goes.
    fn evict(&mut self) {
        if let Some((_, name)) = self.by_last.pop_first() {
            self.clusters.remove(&name);
            self.evicted += 1;
        }
    }

    /// The gaps that have become known, each once. `state` is the detector's state hash.
    pub fn gaps(&mut self, state: u64, absent: Absent, after: i64, clock: Clock) -> Vec<Gap> {
        let since = *self.since.get_or_insert(clock.now);
        let mut gaps = Vec::new();
        for (name, cluster) in &mut self.clusters {
            let found = match absent {
                Absent::Cluster => cluster.silent(after, clock, since),
                Absent::Category => cluster.missing(after, clock),
                // The inventory knows of those.
                Absent::NetworkPolicy => continue,
            };
            let judged = cluster.forgotten.map(|horizon| horizon + DAY);
            for (number, mut gap) in found {
                // Whether it was steady before is not known any more, and was asked in time.
                if !gap.never && judged.is_some_and(|judged| gap.from < judged) {
                    continue;
                }
                let told = cluster.told.entry((state, number)).or_insert(i64::MIN);
                if gap.from > *told {
                    *told = gap.from;
                    gap.cluster.clone_from(name);
                    gaps.push(gap);
                }
            }
        }
        for gap in &gaps {
            let cluster = gap.cluster.clone();
            self.mark(&cluster);
        }
        gaps
    }

    /// Waits before it misses anything, as a process does that has just started.
    pub fn begin_anew(&mut self) {
        self.since = None;
    }

    /// Forgets what can no longer decide anything.
    pub fn forget_before(&mut self, horizon: i64) {
        for cluster in self.clusters.values_mut() {
            for spans in cluster.streams.values_mut() {
                let known = spans.as_slice().len();
                spans.forget_before(horizon);
                if spans.as_slice().len() < known {
                    cluster.forgotten = cluster.forgotten.max(Some(horizon));
                }
            }
        }
    }

    /// Clusters that changed since the last call.
    pub fn take_delta(&mut self) -> Snapshot {
        let changed = self.changed.as_mut().map(std::mem::take);
        let known = |name: String| Some((name.clone(), self.clusters.get(&name)?.clone()));
        Snapshot(changed.into_iter().flatten().filter_map(known).collect())
    }

    pub fn snapshot(&self) -> Snapshot {
        let clusters = self.clusters.iter();
        Snapshot(
            clusters
                .map(|(name, cluster)| (name.clone(), cluster.clone()))
                .collect(),
        )
    }

    pub fn apply(&mut self, snapshot: Snapshot) {
        for (name, mut cluster) in snapshot.0 {
            // Another version may watch more.
            let is_known = |number: &u8| usize::from(*number) < WATCHED.len();
            cluster.streams.retain(|number, _| is_known(number));
            for spans in cluster.streams.values_mut() {
                *spans = spans.sound();
            }
            self.put(name, cluster);
        }
    }

    /// The clusters known, by their ids.
    pub fn clusters(&self) -> impl Iterator<Item = &str> {
        self.clusters.keys().map(String::as_str)
    }

    /// Clusters known.
    pub fn len(&self) -> usize {
        self.clusters.len()
    }

    pub fn is_empty(&self) -> bool {
        self.clusters.is_empty()
    }

    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

/// Clusters as they are, for a delta or a snapshot on disk.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Snapshot(Vec<(String, Cluster)>);

impl Snapshot {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How far each cluster has come, seconds.
    pub fn latest(&self) -> impl Iterator<Item = (&str, i64)> {
        let latest = self.0.iter();
        latest.map(|(name, cluster)| (name.as_str(), cluster.latest()))
    }
}

impl Cluster {
    fn whole(&self) -> Spans {
        let mut whole = Spans::default();
        self.streams.values().for_each(|spans| whole.merge(spans));
        whole
    }

    fn latest(&self) -> i64 {
        let ends = self.streams.values();
        let ends = ends.filter_map(|spans| spans.as_slice().last());
        ends.map(|span| span.1).max().unwrap_or(i64::MIN)
    }

    fn silent(&self, after: i64, clock: Clock, since: i64) -> Vec<(u8, Gap)> {
        let whole = self.whole();
        let spans = believed(whole.as_slice(), after, clock);
        let mut gaps = closed(spans, after, clock.now);
        if let Some((_, last)) = spans.last()
            && clock.live
            && clock.now - (*last).max(since) >= after
            && steady(spans, after)
        {
            gaps.push(gap(*last, clock.now, true));
        }
        gaps.into_iter().map(|gap| (WHOLE, gap)).collect()
    }

    fn missing(&self, after: i64, clock: Clock) -> Vec<(u8, Gap)> {
        let mut missing = Vec::new();
        for (number, spans) in &self.streams {
            let spans = believed(spans.as_slice(), after, clock);
            let mut others = Spans::default();
            for (other, spans) in &self.streams {
                if other != number {
                    others.merge(spans);
                }
            }
            // The others must go on, or it is the cluster that is silent.
            let flows = |from: i64, to: i64| {
                let others = others.as_slice();
                others.iter().any(|span| span.0 <= to && span.1 >= from)
            };
            let goes_on =
                |from: i64| clock.now >= from + after && flows(from + after / 2, from + after);
            let mut gaps = closed(spans, after, clock.now);
            if let Some((_, last)) = spans.last()
                && steady(spans, after)
            {
                gaps.push(gap(*last, last.saturating_add(after), true));
            }
            gaps.retain(|gap| goes_on(gap.from));
            missing.extend(gaps.into_iter().map(|mut gap| {
                gap.category = Some(WATCHED[usize::from(*number)]);
                (*number, gap)
            }));
        }
        let complete = |number: &u8| {
            matches!(
                WATCHED[usize::from(*number)],
                Category::KubeAudit | Category::Raw
            )
        };
        let whole = self.whole();
        let spans = believed(whole.as_slice(), after, clock);
        if !self.streams.keys().any(complete)
            && let Some((_, last)) = spans.last()
            && *last <= clock.now
            && steady(spans, after)
        {
            let mut never = gap(spans[0].0, *last, true);
            never.never = true;
            never.category = Some(Category::KubeAudit);
            // Told once for a cluster, whatever is forgotten of its beginning.
            never.from = i64::MIN + 1;
            missing.push((0, never));
        }
        missing
    }
}

fn gap(from: i64, to: i64, open: bool) -> Gap {
    Gap {
        cluster: String::new(),
        category: None,
        from,
        to,
        never: false,
        open,
    }
}

/// The activity without what looks like a return after a gap and is too short for one. In an archive
/// nobody knows when a record was taken in, and a single one may be dated years after all others.
fn believed(spans: &[(i64, i64)], after: i64, clock: Clock) -> &[(i64, i64)] {
    let mut spans = spans;
    while let Some((_, end)) = spans.last()
        && !clock.live
    {
        let (first, start) = run(spans, after);
        let is_return = first > 0 && start - spans[first - 1].1 >= after;
        if !is_return || end - start >= after / 3 {
            break;
        }
        spans = &spans[..first];
    }
    spans
}

/// Gaps between records, both of which are at hand.
fn closed(spans: &[(i64, i64)], after: i64, now: i64) -> Vec<Gap> {
    (1..spans.len())
        .filter(|at| {
            let pause = spans[*at].0 - spans[at - 1].1;
            pause >= after && spans[*at].0 <= now && steady(&spans[..*at], after)
        })
        .map(|at| gap(spans[at - 1].1, spans[at].0, false))
        .collect()
}

/// Whether records came for `after` without a pause of a third of it, up to the last of `spans`, and
/// not often with one on the day before.
fn steady(spans: &[(i64, i64)], after: i64) -> bool {
    let Some((_, end)) = spans.last() else {
        return false;
    };
    let day = spans.partition_point(|(start, _)| *start < end - DAY);
    let pauses = spans[day..]
        .windows(2)
        .filter(|pair| pair[1].0 - pair[0].1 > after / 3);
    end - run(spans, after).1 >= after && pauses.count() < OFTEN
}

/// Where the last activity without a pause of a third of `after` begins: the span and its start.
fn run(spans: &[(i64, i64)], after: i64) -> (usize, i64) {
    let mut first = spans.len().saturating_sub(1);
    while first > 0 && spans[first].0 - spans[first - 1].1 <= after / 3 {
        first -= 1;
    }
    (first, spans.get(first).map_or(0, |span| span.0))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::*;

    const AFTER: i64 = 900;

    fn observe(state: &mut Absence, category: Category, from: i64, to: i64) {
        let cluster: Arc<str> = "c".into();
        let mut streams = Streams::default();
        for at in (from..=to).step_by(30) {
            let time = Timestamp::from_second(at).expect("in range");
            streams.add(&cluster, category, time);
        }
        state.observe(&streams);
    }

    fn look(state: &mut Absence, absent: Absent, now: i64, live: bool) -> Vec<Gap> {
        state.gaps(1, absent, AFTER, Clock { now, live })
    }

    #[test]
    fn live_silence_is_told_once_and_again_the_next_time() {
        let mut state = Absence::new(true);
        assert!(look(&mut state, Absent::Cluster, 0, true).is_empty());
        observe(&mut state, Category::KubeAudit, 0, 1_200);
        assert!(look(&mut state, Absent::Cluster, 1_800, true).is_empty());
        let gaps = look(&mut state, Absent::Cluster, 2_100, true);
        assert_eq!(
            (gaps[0].from, gaps[0].to, gaps[0].open),
            (1_200, 2_100, true)
        );
        assert!(look(&mut state, Absent::Cluster, 2_200, true).is_empty());
        let mut restarted = Absence::new(true);
        restarted.apply(state.take_delta());
        observe(&mut restarted, Category::KubeAudit, 3_000, 4_200);
        assert!(look(&mut restarted, Absent::Cluster, 4_200, true).is_empty());
        assert_eq!(look(&mut restarted, Absent::Cluster, 5_100, true).len(), 1);
    }

    #[test]
    fn a_process_that_has_just_started_waits_before_it_misses_anything() {
        let mut state = Absence::new(false);
        observe(&mut state, Category::KubeAudit, 0, 1_200);
        assert!(look(&mut state, Absent::Cluster, 90_000, true).is_empty());
        assert!(look(&mut state, Absent::Cluster, 90_600, true).is_empty());
        assert_eq!(look(&mut state, Absent::Cluster, 90_900, true).len(), 1);
    }

    #[test]
    fn what_was_not_steady_is_not_missed() {
        let mut state = Absence::new(false);
        look(&mut state, Absent::Cluster, 0, true);
        observe(&mut state, Category::KubeAudit, 0, 600);
        observe(&mut state, Category::KubeAudit, 1_200, 1_800);
        assert!(look(&mut state, Absent::Cluster, 90_000, true).is_empty());
    }

    #[test]
    fn what_pauses_often_is_not_missed_and_what_was_out_twice_is() {
        for (pauses, missed) in [(2, 1), (3, 0)] {
            let mut state = Absence::new(false);
            look(&mut state, Absent::Cluster, 0, true);
            let end = 1_600 * pauses;
            for from in (0..end).step_by(1_600) {
                observe(&mut state, Category::KubeAudit, from, from + 1_200);
            }
            observe(&mut state, Category::KubeAudit, end, end + 1_200);
            let gaps = look(&mut state, Absent::Cluster, end + 90_000, true);
            assert_eq!(gaps.len(), missed, "{pauses} pauses");
        }
    }

    #[test]
    fn what_is_forgotten_makes_nothing_steady() {
        let mut state = Absence::new(false);
        look(&mut state, Absent::Cluster, 0, true);
        // Now and then half an hour without a longer pause, and then one that is long.
        for hour in 0..24 * 6 {
            let begin = hour * 3_600;
            observe(&mut state, Category::KubeAudit, begin, begin + 1_200);
            let now = begin + 3_600;
            let gaps = look(&mut state, Absent::Cluster, now, false);
            // The first could be outages.
            assert!(hour <= OFTEN as i64 || gaps.is_empty(), "{hour}: {gaps:?}");
            state.forget_before(now - KEPT_SECS);
            if hour == 24 * 4 {
                let mut restarted = Absence::new(false);
                restarted.apply(state.snapshot());
                state = restarted;
            }
        }
    }

    #[test]
    fn at_the_bound_the_longest_silent_goes_also_after_a_restart() {
        let name = |number: usize| format!("c{number:04}");
        let seen = |state: &mut Absence, number: usize, at: i64| {
            let mut streams = Streams::default();
            let time = Timestamp::from_second(at).expect("in range");
            streams.add(&name(number).into(), Category::KubeAudit, time);
            state.observe(&streams);
        };
        let mut first = Absence::new(true);
        for number in 0..CLUSTER_LIMIT {
            seen(&mut first, number, number as i64);
        }
        // The two that spoke first speak again; the third is then the longest silent.
        seen(&mut first, 0, 10_000);
        seen(&mut first, 1, 10_000);
        let mut state = Absence::new(true);
        state.apply(first.take_delta());
        state.apply(first.snapshot());
        seen(&mut state, CLUSTER_LIMIT, 10_001);
        seen(&mut state, CLUSTER_LIMIT + 1, 10_002);
        assert_eq!((state.len(), state.evicted()), (CLUSTER_LIMIT, 2));
        let known: BTreeSet<&str> = state.clusters().collect();
        let gone: Vec<usize> = (0..CLUSTER_LIMIT)
            .filter(|number| !known.contains(&*name(*number)))
            .collect();
        assert_eq!(gone, [2, 3]);
        assert_eq!(state.by_last.len(), state.clusters.len());
    }

    #[test]
    fn in_an_archive_a_gap_has_an_end() {
        let mut state = Absence::new(false);
        observe(&mut state, Category::KubeAudit, 0, 1_200);
        assert!(look(&mut state, Absent::Cluster, 90_000, false).is_empty());
        observe(&mut state, Category::KubeAudit, 2_400, 2_690);
        assert!(look(&mut state, Absent::Cluster, 2_690, false).is_empty());
        observe(&mut state, Category::KubeAudit, 2_700, 2_700);
        assert!(look(&mut state, Absent::Cluster, 2_000, false).is_empty());
        let gaps = look(&mut state, Absent::Cluster, 2_700, false);
        assert_eq!(
            (gaps[0].from, gaps[0].to, gaps[0].open),
            (1_200, 2_400, false)
        );
    }

    #[test]
    fn records_from_the_future_end_no_gap_of_an_archive() {
        const YEARS: i64 = 2_000_000_000;
        let mut state = Absence::new(false);
        observe(&mut state, Category::KubeAudit, 0, 1_200);
        observe(&mut state, Category::KubeAuditAdmin, 0, 3_000);
        for at in [YEARS, 2 * YEARS, 2 * YEARS + 7_200] {
            observe(&mut state, Category::KubeAudit, at, at);
        }
        assert!(look(&mut state, Absent::Cluster, i64::MAX, false).is_empty());
        // Nor do they hide one.
        let gaps = look(&mut state, Absent::Category, 2_200, false);
        assert_eq!(gaps.len(), 1);
        assert_eq!((gaps[0].from, gaps[0].to), (1_200, 2_100));
    }

    #[test]
    fn a_gap_of_days_is_known_until_its_end_is() {
        const DAYS: i64 = 10 * 24 * 3600;
        let mut state = Absence::new(false);
        for at in (0..=1_200).step_by(150) {
            observe(&mut state, Category::KubeAudit, at, at);
        }
        for at in (DAYS..=DAYS + 400).step_by(100) {
            observe(&mut state, Category::KubeAudit, at, at);
            let gaps = look(&mut state, Absent::Cluster, at, false);
            assert_eq!(gaps.len(), usize::from(at == DAYS + 300), "{at}");
            state.forget_before(at - KEPT_SECS);
        }
    }

    #[test]
    fn a_category_stops_while_others_flow() {
        let mut state = Absence::new(false);
        observe(&mut state, Category::KubeAudit, 0, 1_200);
        observe(&mut state, Category::KubeAuditAdmin, 0, 3_000);
        assert!(look(&mut state, Absent::Category, 2_000, true).is_empty());
        let gaps = look(&mut state, Absent::Category, 2_100, true);
        assert_eq!(gaps.len(), 1);
        assert_eq!(gaps[0].category, Some(Category::KubeAudit));
        assert!(!gaps[0].never);
        assert!(look(&mut state, Absent::Category, 3_000, true).is_empty());
    }

    #[test]
    fn a_silent_cluster_lacks_no_category() {
        let mut state = Absence::new(false);
        for category in [Category::KubeAudit, Category::KubeAuditAdmin] {
            observe(&mut state, category, 0, 1_200);
            observe(&mut state, category, 3_600, 3_660);
        }
        assert!(look(&mut state, Absent::Category, 4_000, true).is_empty());
        assert_eq!(look(&mut state, Absent::Cluster, 4_000, true).len(), 1);
    }

    #[test]
    fn a_category_that_never_was_there_is_told_once() {
        let mut state = Absence::new(false);
        observe(&mut state, Category::KubeAuditAdmin, 0, 800);
        assert!(look(&mut state, Absent::Category, 800, true).is_empty());
        observe(&mut state, Category::KubeAuditAdmin, 800, 1_200);
        let gaps = look(&mut state, Absent::Category, 1_200, true);
        assert!(gaps.len() == 1 && gaps[0].never, "{gaps:?}");
        assert!(look(&mut state, Absent::Category, 9_200, true).is_empty());
    }
}
