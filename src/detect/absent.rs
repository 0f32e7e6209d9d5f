//! The match of something that did not come: there is no record, so one without content stands for
//! it, with the cluster, the category and the time.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;

use super::engine::{Engine, make_match};
use super::index::DetectorIndex;
use super::inventory::Bare;
use super::matches::{Digest128, Match, StateKey};
use super::occurrence::{Occurrence, Place};
use super::state::absence::Gap;
use crate::decode::RecordPosition;
use crate::event::clock::Clock;
use crate::event::{AuditEvent, Category, ObjectRef, Origin, View};
use crate::source::Partition;

/// Stands for the place of a record.
static NOWHERE: LazyLock<Arc<Partition>> = LazyLock::new(|| {
    Arc::new(Partition {
        source: "lanner".into(),
        id: "clock".into(),
    })
});

fn nowhere() -> Place<'static> {
    Place {
        partition: &NOWHERE,
        position: RecordPosition {
            chunk: 0,
            offset: 0,
        },
        clock: Clock::default(),
    }
}

impl Engine {
    /// What the detector at `index` makes of a gap.
    pub fn absent(&self, index: DetectorIndex, gap: &Gap) -> Match {
        let time = Timestamp::from_second(gap.to).ok();
        let origin = Origin {
            cluster: gap.cluster.as_str().into(),
            category: gap.category.unwrap_or(Category::KubeAudit),
            time,
        };
        let event = AuditEvent::default();
        let view = View::new(&event, &origin, self.sites.of(&origin.cluster));
        let detector = self.detector(index);
        let request = Digest128::of([
            &detector.digest.bytes()[..],
            gap.cluster.as_bytes(),
            origin.category.as_str().as_bytes(),
            &gap.from.to_le_bytes(),
        ]);
        let excerpt = match gap.category {
            Some(category) => format!("no record of {}", category.as_str()),
            None => "no record".to_owned(),
        };
        let occurrence = Occurrence::of_no_record(&view, time, nowhere(), request, &excerpt);
        make_match(
            detector,
            index,
            &view,
            StateKey::None,
            &Arc::new(occurrence),
        )
    }

    /// What the detector at `index` makes of a namespace without a network policy; `None` where the
    /// namespace is one that the site lets the platform guard.
    pub fn without_policy(&self, index: DetectorIndex, bare: &Bare) -> Option<Match> {
        let time = Timestamp::from_millisecond(bare.until).ok();
        let origin = Origin {
            cluster: bare.cluster.as_ref().into(),
            category: Category::KubeAudit,
            time,
        };
        let site = self.sites.of(&origin.cluster);
        if site.lists.protected_namespaces.contains(&bare.namespace) {
            return None;
        }
        let object = ObjectRef {
            resource: "namespaces".into(),
            namespace: Cow::Borrowed(&bare.namespace),
            name: Cow::Borrowed(&bare.namespace),
            ..ObjectRef::default()
        };
        let event = AuditEvent {
            object_ref: Some(object),
            ..AuditEvent::default()
        };
        let view = View::new(&event, &origin, site);
        let detector = self.detector(index);
        let request = Digest128::of([
            &detector.digest.bytes()[..],
            bare.cluster.as_bytes(),
            bare.namespace.as_bytes(),
            &bare.since.to_le_bytes(),
        ]);
        let excerpt = format!("no network policy in {}", bare.namespace);
        let occurrence = Occurrence::of_no_record(&view, time, nowhere(), request, &excerpt);
        let occurrence = Arc::new(occurrence);
        Some(make_match(
            detector,
            index,
            &view,
            StateKey::None,
            &occurrence,
        ))
    }
}
