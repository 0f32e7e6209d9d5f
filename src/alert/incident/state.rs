//! The open incidents: findings joined by shared traces, converging whatever order they come in.
//!
//! Of each trace and role the stretches of time are kept in which no two uses lie further apart than the
//! window; an incident is what hangs together over such stretches. A finding within the window of any
//! use of a stretch is within the window of the stretch, and the other way round, so that neither the
//! union of stretches nor what joins them depends on the order of their parts; nor do the steps, which
//! are kept by alert and actor. Everything is bounded: what no longer fits is counted.

use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasherDefault;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Incident;
use super::open::{Closing, Open};
use super::ties::{digest, joining, of_role, reach};
use crate::alert::{Alert, Kind};
use crate::detect::matches::{Digest128, DigestHasher, Match};
use crate::event::tie::{Role, Tie, TraceKind};

/// Open incidents kept at most; beyond, the one longest without a finding closes.
const MAX_OPEN: usize = 10_000;

type Digests<V> = HashMap<Digest128, V, BuildHasherDefault<DigestHasher>>;

/// A finding as it joins: its match, the alert it went to, and what the account shows of it.
#[derive(Debug)]
pub struct Finding<'f> {
    pub found: &'f Match,
    pub alert: &'f Alert,
}

/// All open incidents.
#[derive(Debug)]
pub struct Incidents {
    /// Seconds of event time.
    window: i64,
    /// Bytes that open incidents hold at most.
    quota: usize,
    /// What they hold: the sum of [`Open::bytes`].
    bytes: usize,
    open: Digests<Open>,
    /// By tie: stretches of time and whose they are.
    ties: Digests<Vec<Stretch>>,
    /// By the time at which they close if nothing more comes.
    by_end: BTreeSet<(i64, Digest128)>,
    changed: BTreeSet<Digest128>,
    closed: Vec<Digest128>,
    /// To be told to receivers of incidents.
    due: BTreeSet<Digest128>,
    displaced: Vec<Closing>,
    evicted: u64,
}

impl Default for Incidents {
    fn default() -> Incidents {
        Incidents::new(SignedDuration::from_hours(6))
    }
}

#[derive(Debug, Clone, Copy)]
struct Stretch {
    first: i64,
    last: i64,
    incident: Digest128,
}

/// Whether others must have gone before the first of the acts: whoever reaches into a pod whose token
/// is abroad already has not carried it off.
fn must_precede(tie: &Tie) -> bool {
    tie.trace.kind == TraceKind::CarriedOff
}

impl Incidents {
    /// Findings further apart than `window` (event time) are not joined by what they share.
    pub fn new(window: SignedDuration) -> Incidents {
        Incidents {
            window: window.as_secs().max(1),
            quota: usize::MAX,
            bytes: 0,
            open: Digests::default(),
            ties: Digests::default(),
            by_end: BTreeSet::new(),
            changed: BTreeSet::new(),
            closed: Vec::new(),
            due: BTreeSet::new(),
            displaced: Vec::new(),
            evicted: 0,
        }
    }

    /// Open incidents are to hold no more than `bytes`, about.
    pub fn set_quota(&mut self, bytes: usize) {
        self.quota = bytes;
    }

    /// Bytes that open incidents hold, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Another window, as after a reload; what is joined stays joined.
    pub fn set_window(&mut self, window: SignedDuration) {
        let window = window.as_secs().max(1);
        if window != self.window {
            self.window = window;
            self.by_end = self
                .open
                .iter()
                .map(|(key, open)| (open.links.last().saturating_add(window), *key))
                .collect();
        }
    }

    /// Adds a finding; gives the key and the id of its incident. Hygiene is part of none.
    pub fn add(&mut self, finding: &Finding<'_>) -> Option<(Digest128, &str)> {
        if finding.alert.detector.kind == Kind::Hygiene {
            return None;
        }
        let occurrence = &finding.found.occurrence;
        let now = occurrence.clock().as_second();
        let ties = joining(finding);
        let keyed: Vec<(Digest128, &Tie)> = ties
            .iter()
            .map(|tie| (digest(&occurrence.cluster, &tie.trace), tie))
            .collect();
        let window = self.window;
        let mut touched: BTreeSet<Digest128> = BTreeSet::new();
        for (trace, tie) in &keyed {
            let window = reach(tie.trace.kind, window);
            let begun = self.begun(*trace, tie, now);
            for other in Role::ALL {
                let (before, after) = (other.leads_to(tie.role), tie.role.leads_to(other));
                if !before && !after {
                    continue;
                }
                let near = |stretch: &&Stretch| {
                    let Stretch { first, last, .. } = **stretch;
                    let (now, last) = match (tie.role, other) {
                        (Role::Acts, Role::Acts) => (now, last),
                        (Role::Acts, _) => (begun.unwrap_or(now), last),
                        (_, Role::Acts) if must_precede(tie) => (now, first),
                        _ => (now, last),
                    };
                    let before = before && now >= first && now <= last.saturating_add(window);
                    let after = after && now <= last && now >= first.saturating_sub(window);
                    before || after
                };
                let stretches = self.ties.get(&of_role(*trace, other)).into_iter().flatten();
                touched.extend(stretches.filter(near).map(|stretch| stretch.incident));
            }
        }
        // Of several that turn out to be one, the one with most to move stays where it is.
        let key = touched
            .iter()
            .copied()
            .max_by_key(|key| self.open.get(key).map_or(0, |open| open.links.len()))
            .unwrap_or_else(|| {
                Digest128::of([
                    &finding.found.fingerprint.bytes()[..],
                    &occurrence.request.bytes(),
                    &now.to_be_bytes(),
                ])
            });
        if touched.len() > 1 {
            self.join(key, touched);
        }
        let open = self
            .open
            .entry(key)
            .or_insert_with(|| Open::new(occurrence));
        let before = open.links.last();
        // A new one counts nothing yet.
        let bytes_before = match open.steps.is_empty() {
            true => 0,
            false => open.bytes(),
        };
        for (trace, tie) in keyed {
            let tie_key = of_role(trace, tie.role);
            let Some((first, last)) = open.links.add(tie_key.0, tie, now, window) else {
                continue;
            };
            let stretches = self.ties.entry(tie_key).or_default();
            stretches
                .retain(|other| other.incident != key || other.last < first || other.first > last);
            stretches.push(Stretch {
                first,
                last,
                incident: key,
            });
        }
        let end = open.links.last();
        if open.steps.is_empty() || end != before {
            self.by_end.remove(&(before.saturating_add(window), key));
            self.by_end.insert((end.saturating_add(window), key));
        }
        open.add(finding);
        self.bytes = self.bytes - bytes_before + open.bytes();
        if open.owed {
            self.due.insert(key);
        }
        self.changed.insert(key);
        while (self.open.len() > MAX_OPEN || self.bytes > self.quota && self.open.len() > 1)
            && let Some((_, first)) = self.by_end.first().copied()
        {
            let displaced = self.close(first);
            self.displaced.extend(displaced);
            self.evicted += 1;
        }
        self.open.get_mut(&key).map(|open| (key, open.current_id()))
    }

    /// When the acts began that a finding at `now` goes on with, where that matters.
    fn begun(&self, trace: Digest128, tie: &Tie, now: i64) -> Option<i64> {
        if tie.role != Role::Acts || !must_precede(tie) {
            return None;
        }
        let acts = self.ties.get(&of_role(trace, Role::Acts));
        let near = |stretch: &&Stretch| {
            now >= stretch.first.saturating_sub(self.window)
                && now <= stretch.last.saturating_add(self.window)
        };
        let firsts = acts.into_iter().flatten().filter(near);
        firsts.map(|stretch| stretch.first).chain([now]).min()
    }

    /// Makes one of the incidents that a finding has turned out to join.
    fn join(&mut self, key: Digest128, parts: BTreeSet<Digest128>) {
        let Some(mut open) = self.take(key) else {
            return;
        };
        for other in parts.into_iter().filter(|other| *other != key) {
            self.due.remove(&other);
            if let Some(absorbed) = self.take(other) {
                self.closed.push(other);
                self.changed.remove(&other);
                open.absorb(absorbed, self.window);
            }
        }
        self.put(key, open);
    }

    /// `receivers` take the incident in place of an alert of it, which is to be told now.
    pub fn tell(&mut self, key: Digest128, receivers: Vec<String>) {
        if let Some(open) = self.open.get_mut(&key)
            && !receivers.is_empty()
        {
            open.receivers.extend(receivers);
            open.owed = true;
            self.due.insert(key);
            self.changed.insert(key);
        }
    }

    /// Incidents to tell at `now` (wall time), with their receivers: new ones and ones that became
    /// graver at once, others when `debounce` has passed since they were last told.
    pub fn take_due(
        &mut self,
        now: Timestamp,
        debounce: SignedDuration,
    ) -> Vec<(Incident, Vec<String>)> {
        let mut told = Vec::new();
        let due = std::mem::take(&mut self.due);
        for key in due {
            let Some(open) = self.open.get_mut(&key) else {
                continue;
            };
            let severity = open.severity();
            let waits = open.told.sequence > 0
                && severity <= open.told.severity
                // A clock that was set back must not silence anybody.
                && (0..debounce.as_secs()).contains(&(now.as_second() - open.told.at));
            if waits {
                self.due.insert(key);
                continue;
            }
            let mut incident = open.tell(severity, now);
            incident.detected_at = Some(now);
            told.push((incident, open.receivers.iter().cloned().collect()));
            self.changed.insert(key);
        }
        told
    }

    /// Closes the incidents that nothing can join any more at `now` (event time), and gives them.
    pub fn close_quiet(&mut self, now: Timestamp) -> Vec<Closing> {
        std::iter::from_fn(|| self.close_one(now)).collect()
    }

    /// The next of [`Incidents::close_quiet`].
    pub fn close_one(&mut self, now: Timestamp) -> Option<Closing> {
        if let Some(displaced) = self.displaced.pop() {
            return Some(displaced);
        }
        let (end, key) = self.by_end.first().copied()?;
        (end < now.as_second()).then(|| self.close(key)).flatten()
    }

    /// Closes what is still open, as at the end of an archive.
    pub fn close_all(&mut self) -> Vec<Closing> {
        self.close_quiet(Timestamp::MAX)
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Incidents that closed because of the bound.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn close(&mut self, key: Digest128) -> Option<Closing> {
        let open = self.take(key)?;
        self.changed.remove(&key);
        self.due.remove(&key);
        self.closed.push(key);
        Some(Closing { open })
    }

    fn take(&mut self, key: Digest128) -> Option<Open> {
        let open = self.open.remove(&key)?;
        self.bytes -= open.bytes();
        self.by_end
            .remove(&(open.links.last().saturating_add(self.window), key));
        for tie in open.links.ties() {
            let tie = Digest128(tie);
            if let Some(stretches) = self.ties.get_mut(&tie) {
                stretches.retain(|stretch| stretch.incident != key);
                if stretches.is_empty() {
                    self.ties.remove(&tie);
                }
            }
        }
        Some(open)
    }

    fn put(&mut self, key: Digest128, mut open: Open) {
        open.count_bytes();
        self.bytes += open.bytes();
        for (tie, link) in open.links.iter() {
            self.ties.entry(Digest128(tie)).or_default().push(Stretch {
                first: link.first,
                last: link.last,
                incident: key,
            });
        }
        self.by_end
            .insert((open.links.last().saturating_add(self.window), key));
        self.open.insert(key, open);
    }

    /// What changed since the last call.
    pub fn take_delta(&mut self) -> Delta {
        let changed = std::mem::take(&mut self.changed);
        Delta {
            closed: std::mem::take(&mut self.closed)
                .into_iter()
                .map(|key| key.0)
                .collect(),
            changed: changed
                .into_iter()
                .filter_map(|key| self.open.get(&key).map(|open| (key.0, open.clone())))
                .collect(),
        }
    }

    /// As [`Incidents::take_delta`], for a process that keeps nothing.
    pub fn forget_delta(&mut self) {
        self.changed.clear();
        self.closed.clear();
    }

    /// Puts back what [`Incidents::take_delta`] gave. What was to be told and was not is due.
    pub fn apply(&mut self, delta: Delta) {
        for key in delta.closed {
            self.take(Digest128(key));
            self.due.remove(&Digest128(key));
        }
        for (key, open) in delta.changed {
            let key = Digest128(key);
            self.take(key);
            match open.owed {
                true => self.due.insert(key),
                false => self.due.remove(&key),
            };
            self.put(key, open);
        }
        self.closed.clear();
    }

    pub fn snapshot(&self) -> Delta {
        Delta {
            closed: Vec::new(),
            changed: self
                .open
                .iter()
                .map(|(key, open)| (key.0, open.clone()))
                .collect(),
        }
    }
}

/// What one batch of findings did to the open incidents; a snapshot is the delta from nothing.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Delta {
    closed: Vec<u128>,
    changed: Vec<(u128, Open)>,
}

impl Delta {
    pub fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.changed.is_empty()
    }
}
