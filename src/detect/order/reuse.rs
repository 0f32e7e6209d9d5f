//! The match of a request whose audit ID stood for another one before.
//!
//! Asked of every matched event by [`Judge::judge`], whichever detectors matched it. Whoever tells
//! events apart by their audit ID alone takes the second request for a copy of the first.

use std::borrow::Cow;
use std::sync::Arc;

use super::Judge;
use crate::detect::detector::StateSpec;
use crate::detect::engine::{Engine, make_match};
use crate::detect::explain;
use crate::detect::index::DetectorIndex;
use crate::detect::matches::{Digest128, Match, StateKey};
use crate::detect::occurrence::Occurrence;
use crate::event::{AuditEvent, ObjectRef, Origin, User, View};

impl Judge {
    /// To be asked once for each event; the findings are raised.
    pub(super) fn reuse(&mut self, engine: &Engine, occurrence: &Arc<Occurrence>) {
        if !occurrence.is_known_whole {
            return;
        }
        for &index in &engine.of_reuse {
            let detector = engine.detector(index);
            let StateSpec::Reuse { within } = detector.state else {
                continue;
            };
            let key = Digest128::of([
                &detector.state_hash.to_le_bytes()[..],
                occurrence.cluster.as_bytes(),
                occurrence.audit_id().as_bytes(),
            ]);
            let (owner, time) = (occurrence.owner, occurrence.clock());
            let request = occurrence.request;
            let Some(before) = self.reused.ask(key, owner, request, time, within) else {
                continue;
            };
            // Its later stages and its copies are no further uses.
            let stage = occurrence.stage;
            let is_duplicate =
                self.requests
                    .is_duplicate(detector.digest, request, owner, stage, time);
            if is_duplicate {
                continue;
            }
            let found = engine.reused(index, occurrence);
            let reason = explain::reuse(occurrence.audit_id(), before);
            self.raise(detector, found, reason);
        }
    }
}

impl Engine {
    /// The event is no longer at hand, but all that summaries, groups and exceptions name of it.
    fn reused(&self, index: DetectorIndex, occurrence: &Arc<Occurrence>) -> Match {
        let origin = Origin {
            cluster: Arc::clone(&occurrence.cluster),
            category: occurrence.category,
            time: occurrence.time,
        };
        let object = occurrence.object();
        let user = |name| User {
            username: Cow::Borrowed(name),
            ..User::default()
        };
        let event = AuditEvent {
            audit_id: Cow::Borrowed(occurrence.audit_id()),
            stage: occurrence.stage,
            verb: Cow::Borrowed(occurrence.verb()),
            user: User {
                groups: occurrence.groups().map(Cow::from).collect(),
                ..user(occurrence.user())
            },
            impersonated_user: occurrence.impersonated().map(user),
            source_ips: occurrence.address().into_iter().map(Cow::from).collect(),
            user_agent: Cow::Borrowed(occurrence.user_agent()),
            object_ref: (!object.resource.is_empty()).then(|| ObjectRef {
                resource: Cow::Borrowed(object.resource),
                subresource: Cow::Borrowed(object.subresource),
                api_group: Cow::Borrowed(object.group),
                namespace: Cow::Borrowed(object.namespace),
                name: Cow::Borrowed(object.name),
                ..ObjectRef::default()
            }),
            ..AuditEvent::default()
        };
        let view = View::new(&event, &origin, self.sites.of(&origin.cluster));
        let detector = self.detector(index);
        make_match(detector, index, &view, StateKey::None, occurrence)
    }
}
