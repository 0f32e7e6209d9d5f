//! A lazy look at one event: facts and fields are computed when first asked for, and kept.
//!
//! Made per event by [`crate::detect`], which asks only for what candidate detectors need. Each
//! group of facts is computed by the module it is named after; what several of them share (the
//! parsed bodies, the decoded query) is kept here.

use std::cell::{Cell, OnceCell};

use super::audit::{AuditEvent, Body, Level, Origin};
use super::fact::{Bits, FactSet, GROUPS, Group, Truth};
use super::field::{Field, FieldValue};
use super::json::Json;
use super::site::Site;
use super::{Fact, actor, exec, source_ip, target};
use super::{admission, csr, image, namespace, network, object, pod, secret, service, workload};

/// What can be said of the object that a request is about.
#[derive(Debug, Clone, Copy)]
pub enum Object<'v> {
    /// As stored (from the response), or as asked for where there is no response body.
    Known(&'v Json<'v>),
    /// There was a body that cannot be read, or the level did not log it.
    Unknown,
    /// The request has no body by its nature (`get`, `list`, `exec`, …).
    None,
}

pub struct View<'e> {
    pub event: &'e AuditEvent<'e>,
    pub origin: &'e Origin,
    pub site: &'e Site,
    facts: Cell<FactSet>,
    /// A bit per [`Group`].
    computed: Cell<u32>,
    request: OnceCell<Option<Json<'e>>>,
    response: OnceCell<Option<Json<'e>>>,
    pub(super) query: OnceCell<Vec<(String, String)>>,
    pub(super) client: OnceCell<Option<std::net::IpAddr>>,
}

impl<'e> View<'e> {
    pub fn new(event: &'e AuditEvent<'e>, origin: &'e Origin, site: &'e Site) -> View<'e> {
        View {
            event,
            origin,
            site,
            facts: Cell::default(),
            computed: Cell::new(0),
            request: OnceCell::new(),
            response: OnceCell::new(),
            query: OnceCell::new(),
            client: OnceCell::new(),
        }
    }

    pub fn fact(&self, fact: Fact) -> Truth {
        self.compute(fact.info().group);
        self.facts.get().get(fact)
    }

    /// As [`FactSet::test`], computing the groups that `facts` and `not` need.
    pub fn test(&self, facts: &Bits, not: &Bits) -> Truth {
        let wanted = facts.union(not);
        for group in GROUPS {
            if wanted.intersects(&group.mask()) {
                self.compute(*group);
            }
        }
        self.facts.get().test(facts, not)
    }

    fn compute(&self, group: Group) {
        let bit = 1 << group as u32;
        if self.computed.get() & bit != 0 {
            return;
        }
        let mut facts = FactSet::default();
        match group {
            Group::Request => target::request_facts(self, &mut facts),

            Group::Object => object::object_facts(self, &mut facts),
            Group::PodSecurity => pod::pod_facts(self, &mut facts),
            Group::Image => image::image_facts(self, &mut facts),
            Group::Workload => workload::workload_facts(self, &mut facts),
            Group::Service => service::service_facts(self, &mut facts),
            Group::NetworkPolicy => network::network_policy_facts(self, &mut facts),
            Group::Admission => admission::admission_facts(self, &mut facts),
            Group::Namespace => namespace::namespace_facts(self, &mut facts),
            Group::Csr => csr::csr_facts(self, &mut facts),
            Group::Secret => secret::secret_facts(self, &mut facts),
        }
        // Groups may ask for one another's facts meanwhile, so theirs are read again here.
        let mut all = self.facts.get();
        all.merge(&facts);
        self.facts.set(all);
        self.computed.set(self.computed.get() | bit);
    }

    /// The field's value; an empty string or list where the event has none.
    pub fn field(&self, field: Field) -> FieldValue<'_> {
        match field {
            Field::Cluster => FieldValue::from(self.origin.cluster.as_ref()),
            _ => FieldValue::from(""),
        }
    }

    /// `requestObject`, parsed; `None` where it is absent or cannot be read.
    pub fn request_object(&self) -> Option<&Json<'e>> {
        self.request
            .get_or_init(|| parse(self.event.request_object))
            .as_ref()
    }

    /// `responseObject`, parsed; `None` where it is absent or cannot be read.
    pub fn response_object(&self) -> Option<&Json<'e>> {
        self.response
            .get_or_init(|| parse(self.event.response_object))
            .as_ref()
    }

    /// The request's query, decoded, in the order sent. Names may repeat.
    pub fn query(&self) -> &[(String, String)] {
        self.query
            .get_or_init(|| target::decode_query(&self.event.request_uri))
    }
}

fn parse<'e>(body: Body<'e>) -> Option<Json<'e>> {
    match body {
        Body::Text(text) => Json::parse(text).ok(),
        Body::Absent | Body::Unreadable => None,
    }
}
