//! The parallel half of detection: one record in, matches out, nothing remembered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;

use super::detector::{Detector, Matcher, StateSpec};
use super::index::{Candidates, DetectorIndex, Index};
use super::inventory::known::Query;
use super::inventory::lesson;
use super::matches::{Digest128, Match, Novelty, StateKey, elements, text};
use super::occurrence::{Occurrence, Place};
use super::scratch::Scratch;
use super::sequence::Followers;
use crate::alert::Severity;
use crate::decode::apiserver::Line;
use crate::event::line::{self, LineKind, LineView};
use crate::event::{AuditEvent, Body, Fact, Field, Origin, Sites, Stage, Truth, View};

/// The detector that speaks up where an unreadable body kept a grave one from deciding.
pub const UNVERIFIABLE_BODY: &str = "unverifiable-body";

/// All detectors and what the site says of itself; immutable, shared by all workers.
#[derive(Debug)]
pub struct Engine {
    pub detectors: Vec<Detector>,
    pub sites: Sites,
    index: Index,
    unverifiable: Option<DetectorIndex>,
    /// Those of audit IDs that stand for several requests.
    pub(super) of_reuse: Vec<DetectorIndex>,
    followers: Followers,
    /// By [`LineKind`]: the detectors that its lines interest.
    of_lines: Vec<Vec<DetectorIndex>>,
    /// By detector: the groups of the facts that its `facts` and `not` name.
    asked: Vec<u32>,
    number: u64,
}

/// Engines made so far, so that what is remembered of one is not taken for another's.
static ENGINES: AtomicU64 = AtomicU64::new(1);

impl Engine {
    /// Detectors that are not enabled are left out.
    pub fn new(detectors: Vec<Detector>, sites: Sites) -> Engine {
        let detectors: Vec<Detector> = detectors.into_iter().filter(|d| d.enabled).collect();
        let unverifiable = detectors
            .iter()
            .position(|detector| detector.id == UNVERIFIABLE_BODY)
            .map(|index| index as DetectorIndex);
        let of_lines = LineKind::ALL
            .iter()
            .map(|(kind, _, _)| {
                let wants = |detector: &Detector| {
                    detector
                        .matching
                        .lines
                        .as_ref()
                        .is_some_and(|kinds| kinds.contains(kind))
                };
                (0..)
                    .zip(&detectors)
                    .filter(|(_, detector)| wants(detector))
                    .map(|(index, _)| index)
                    .collect()
            })
            .collect();
        Engine {
            of_lines,
            index: Index::new(detectors.iter()),
            asked: detectors
                .iter()
                .map(|detector| {
                    detector
                        .matching
                        .facts
                        .union(&detector.matching.not)
                        .groups()
                })
                .collect(),
            followers: Followers::new(&detectors),
            number: ENGINES.fetch_add(1, Ordering::Relaxed),
            of_reuse: (0..)
                .zip(&detectors)
                .filter(|(_, detector)| matches!(detector.state, StateSpec::Reuse { .. }))
                .map(|(index, _)| index)
                .collect(),
            detectors,
            sites,
            unverifiable,
        }
    }

    /// Differs from every other engine's of this process.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The detectors that can want the event; see [`Index::candidates`].
    pub(super) fn candidates(&self, event: &AuditEvent<'_>) -> Arc<Candidates> {
        self.index.candidates(event)
    }

    pub fn detector(&self, index: DetectorIndex) -> &Detector {
        &self.detectors[usize::from(index)]
    }

    /// Puts every match of `event` to `out`, in the order of the detectors.
    pub fn detect(
        &self,
        event: &AuditEvent<'_>,
        origin: &Origin,
        place: Place<'_>,
        scratch: &mut Scratch,
        out: &mut Vec<Match>,
    ) {
        self.detect_at(&self.sites, event, origin, place, scratch, out);
    }

    /// As [`Engine::detect`], at other sites than the engine's own.
    pub fn detect_at(
        &self,
        sites: &Sites,
        event: &AuditEvent<'_>,
        origin: &Origin,
        place: Place<'_>,
        scratch: &mut Scratch,
        out: &mut Vec<Match>,
    ) {
        scratch.begin(self.number);
        let candidates = scratch.gate.candidates(self, event);
        if candidates.detectors.is_empty() && !candidates.teaches {
            return;
        }
        // Other sites come and go, and their facts with them.
        let memo = std::ptr::eq(sites, &self.sites).then(|| scratch.gate.take_memo());
        let site = sites.of(&origin.cluster);
        let view = View::with_memo(event, origin, site, memo.as_deref());
        let (matches, lessons) = (out.len(), scratch.lessons.len());
        if candidates.teaches {
            lesson::read(&view, place, &mut scratch.lessons);
        }
        self.detect_among(&candidates, &view, place, scratch, out);
        let came_to_nothing = out.len() == matches && scratch.lessons.len() == lessons;
        if !came_to_nothing || view.told_apart() || memo.is_none() {
            scratch.comes_to_more();
        }
        if let Some(memo) = memo {
            scratch.gate.put_memo(memo);
        }
    }

    fn detect_among(
        &self,
        candidates: &Candidates,
        view: &View<'_>,
        place: Place<'_>,
        scratch: &mut Scratch,
        out: &mut Vec<Match>,
    ) {
        let (event, origin) = (view.event, view.origin);
        let head = view.facts_of(candidates.head);
        let left = scratch.gate.left(self, candidates, head);
        if left.is_empty() {
            return;
        }
        let mut making = Making::new(view, event.time().or(origin.time), place);
        let mut blinded = Vec::new();
        let unreadable =
            event.request_object == Body::Unreadable || event.response_object == Body::Unreadable;
        let first = out.len();
        for &index in left.iter() {
            let detector = self.detector(index);
            if !admits(detector, event) {
                continue;
            }
            let Matcher {
                facts, not, when, ..
            } = &detector.matching;
            match view.test_groups(self.asked[usize::from(index)], facts, not) {
                Truth::False => continue,
                Truth::Unknown => {
                    let of_bodies = |fact: Fact| {
                        fact.info().group.reads_bodies() && view.fact(fact) == Truth::Unknown
                    };
                    let asked = facts.union(not);
                    if unreadable
                        && detector.worst() >= Severity::High
                        && asked.iter().any(of_bodies)
                    {
                        blinded.push(detector.id.as_str());
                    }
                    continue;
                }
                Truth::True => {}
            }
            if when.as_ref().is_some_and(|when| !when.holds(view)) {
                continue;
            }
            out.extend(making.of(detector, index, scratch));
        }
        self.unverifiable_body(&blinded, first, out);
        self.followers.add(self, view, first, out);
    }

    /// As [`Engine::detect`], for a line of the API server's own log.
    pub fn detect_line(
        &self,
        line: &Line<'_>,
        origin: &Origin,
        place: Place<'_>,
        scratch: &mut Scratch,
        out: &mut Vec<Match>,
    ) {
        self.detect_line_at(&self.sites, line, origin, place, scratch, out);
    }

    /// As [`Engine::detect_line`], at other sites than the engine's own.
    pub fn detect_line_at(
        &self,
        sites: &Sites,
        line: &Line<'_>,
        origin: &Origin,
        place: Place<'_>,
        scratch: &mut Scratch,
        out: &mut Vec<Match>,
    ) {
        scratch.begin(self.number);
        scratch.comes_to_more();
        let candidates = &self.of_lines[LineKind::of(line) as usize];
        if candidates.is_empty() {
            return;
        }
        let event = line::event(line);
        let of_line = LineView::new(line);
        let view = View::of_line(&event, of_line, origin, sites.of(&origin.cluster));
        let mut making = Making::new(&view, line::time(line, origin.time), place);
        for &index in candidates {
            let detector = self.detector(index);
            let Matcher {
                facts, not, when, ..
            } = &detector.matching;
            if view.test(facts, not) == Truth::True
                && when.as_ref().is_none_or(|when| when.holds(&view))
            {
                out.extend(making.of(detector, index, scratch));
            }
        }
    }

    /// Keeps the match of `unverifiable-body` only where a detector was blinded, and names those.
    fn unverifiable_body(&self, blinded: &[&str], first: usize, out: &mut Vec<Match>) {
        let Some(index) = self.unverifiable else {
            return;
        };
        let Some(at) = out[first..]
            .iter()
            .position(|found| found.detector == index)
        else {
            return;
        };
        if blinded.is_empty() {
            out.remove(first + at);
        } else {
            out[first + at].note = Some(format!(
                "The object could not be read; undecided: {}.",
                blinded.join(", ")
            ));
        }
    }
}

/// Makes the matches of one event, which share what they say of it.
struct Making<'v, 'e> {
    view: &'v View<'e>,
    told: Option<Timestamp>,
    place: Place<'v>,
    occurrence: Option<Arc<Occurrence>>,
}

impl<'v, 'e> Making<'v, 'e> {
    fn new(view: &'v View<'e>, told: Option<Timestamp>, place: Place<'v>) -> Making<'v, 'e> {
        Making {
            view,
            told,
            place,
            occurrence: None,
        }
    }

    /// A detector's match, unless its state knows the answer already.
    fn of(
        &mut self,
        detector: &Detector,
        index: DetectorIndex,
        scratch: &mut Scratch,
    ) -> Option<Match> {
        let state = state_key(detector, index, self.view, scratch)?;
        let occurrence = self.occurrence.get_or_insert_with(|| {
            let writer = &mut scratch.writer;
            Arc::new(Occurrence::new(self.view, self.told, self.place, writer))
        });
        Some(make_match(detector, index, self.view, state, occurrence))
    }
}

/// What the index leaves open: the stage and the path of requests that name no resource.
fn admits(detector: &Detector, event: &AuditEvent<'_>) -> bool {
    let stages = &detector.matching.stages;
    let stage = if stages.is_empty() {
        event.stage != Stage::RequestReceived
    } else {
        stages.contains(&event.stage)
    };
    stage
        && detector.matching.nonresource.as_ref().is_none_or(|paths| {
            let path = event.request_uri.split('?').next().unwrap_or_default();
            paths.contains(path)
        })
}

/// What distinguishes the uses of rights: of those that agree in all of it, a batch's first counts.
const USED: [Field; 8] = [
    Field::ActorUser,
    Field::ActorImpersonated,
    Field::SourceIpAddress,
    Field::Verb,
    Field::ObjectKind,
    Field::ObjectNs,
    Field::ObjectName,
    Field::DecisionReason,
];

/// What the state operator is to be asked with; `None` where the answer is known without asking, and
/// the event has been counted.
fn state_key(
    detector: &Detector,
    index: DetectorIndex,
    view: &View<'_>,
    scratch: &mut Scratch,
) -> Option<StateKey> {
    if detector
        .matching
        .known
        .facts
        .contains(Fact::KnownSelfGrantedUse)
    {
        let hash = scratch.hash(index, view, [&USED, &[]]);
        if !scratch.is_first(hash) {
            return None;
        }
    }
    match &detector.state {
        StateSpec::None
        | StateSpec::Sequence { .. }
        | StateSpec::Absence { .. }
        | StateSpec::Reuse { .. } => Some(StateKey::None),
        StateSpec::FirstSeen {
            key: fields, value, ..
        } => {
            let hash = scratch.hash(index, view, [fields, value]);
            if scratch.known(hash) {
                return None;
            }
            let scope = scratch.scope(index, detector.state_hash, &view.origin.cluster);
            let key = Digest128::of_fields(&scope.bytes(), view, fields);
            let values: Vec<(String, Digest128)> = elements(view, value)
                .into_iter()
                .map(|value| {
                    let pair = Digest128::of([&key.bytes()[..], value.as_bytes()]);
                    (value, pair)
                })
                .collect();
            if scratch.count(hash, key, values.iter().map(|(_, pair)| *pair)) {
                return None;
            }
            Some(StateKey::FirstSeen {
                scope,
                key,
                who: fields
                    .last()
                    .map_or(String::new(), |last| text(view, *last)),
                values,
            })
        }
        StateSpec::Threshold { .. } | StateSpec::Spike { .. } => {
            let (fields, distinct, _) = detector.state.counting()?;
            let hash = detector.state_hash.to_le_bytes();
            let value = distinct.map(|field| Digest128::of([view.field(field).text().as_bytes()]));
            let novelty = match &detector.state {
                StateSpec::Spike { new_to, .. } if !new_to.is_empty() => value.map(|value| {
                    let scope = scratch.scope(index, detector.state_hash, &view.origin.cluster);
                    let to = Digest128::of_fields(&scope.bytes(), view, new_to);
                    let pair = Digest128::of([&to.bytes()[..], &value.bytes()]);
                    Novelty { scope, to, pair }
                }),
                _ => None,
            };
            Some(StateKey::Count {
                key: Digest128::of_fields(&hash, view, fields),
                distinct: value.map(|value| value.0 as u64),
                novelty,
            })
        }
    }
}

/// Place in the detector's exceptions of the one that covers the event.
fn exception(detector: &Detector, view: &View<'_>, time: Option<Timestamp>) -> Option<u16> {
    detector
        .exceptions
        .iter()
        .position(|exception| exception.holds(time, |field| view.field(field)))
        .map(|at| at as u16)
}

pub(super) fn make_match(
    detector: &Detector,
    index: DetectorIndex,
    view: &View<'_>,
    state: StateKey,
    occurrence: &Arc<Occurrence>,
) -> Match {
    let raise = detector
        .raise
        .iter()
        .filter(|raise| raise.known.is_empty())
        .filter(|raise| view.test(&raise.facts, &raise.not) == Truth::True)
        .map(|raise| raise.severity)
        .max();
    let severity = raise.unwrap_or(detector.severity);
    let lowered = detector
        .lower
        .iter()
        .filter(|lower| view.test(&lower.facts, &lower.not) == Truth::True)
        .map(|lower| lower.severity)
        .fold(severity, Severity::min)
        .shifted(view.site.severity_shift);
    let known = Query::of(detector, view, raise.is_some()).map(Arc::new);
    Match {
        detector: index,
        severity: lowered,
        exception: exception(detector, view, occurrence.time),
        fingerprint: Digest128::of_fields(detector.id.as_bytes(), view, &detector.group_by),
        state,
        habit: detector
            .habit
            .as_ref()
            .filter(|habit| view.test(&habit.facts, &habit.not) == Truth::True)
            .map(|habit| {
                let mut scope = detector.digest.bytes().to_vec();
                scope.extend_from_slice(view.origin.cluster.as_bytes());
                Digest128::of_fields(&scope, view, &habit.key)
            }),
        usual: false,
        summary: detector.summary.render(|field| view.field(field)).into(),
        known,
        on_behalf_of: Vec::new(),
        note: None,
        occurrence: Arc::clone(occurrence),
    }
}
