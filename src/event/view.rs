//! A lazy look at one event: facts and fields are computed when first asked for, and kept.
//!
//! Made per event by [`crate::detect`], which asks only for what candidate detectors need. Each
//! group of facts is computed by the module it is named after; what several of them share (the
//! parsed bodies, the decoded query) is kept here.

use std::borrow::Cow;
use std::cell::{Cell, OnceCell};

use super::audit::{AuditEvent, Body, Level, ObjectRef, Origin};
use super::fact::{Bits, FactSet, GROUPS, Group, Truth};
use super::field::{Field, FieldValue};
use super::json::{self, Json};
use super::line::LineView;
use super::memo::Memo;
use super::site::Site;
use super::{Fact, actor, agent, binding, dashboard, exec, rbac, source_ip, target};
use super::{
    admission, csr, image, namespace, network, object, pod_security, secret, service, workload,
};

/// Where an object's name stands.
const NAME: [&str; 2] = ["metadata", "name"];

/// What can be said of the object that a request writes.
#[derive(Debug, Clone, Copy)]
pub enum Object<'v> {
    /// As stored (from the response), or as asked for where there is no response body. Of a patch
    /// without a response that is the delta, which may be an array (JSON Patch).
    Known(&'v Json<'v>),
    /// There was a body that cannot be read, or the level did not log it.
    Unknown,
    /// The request writes no object by its nature (`get`, `list`, `delete`, exec, …).
    None,
}

impl Object<'_> {
    /// The object, where it is known.
    pub fn known(&self) -> Option<&Json<'_>> {
        match self {
            Object::Known(object) => Some(object),
            Object::Unknown | Object::None => None,
        }
    }

    /// `facts` of the object: unknown where the object is, false where there is none.
    pub fn judge(&self, fact: impl FnOnce(&Json<'_>) -> bool) -> Truth {
        match self {
            Object::Known(object) => fact(object).into(),
            Object::Unknown => Truth::Unknown,
            Object::None => Truth::False,
        }
    }
}

pub struct View<'e> {
    pub event: &'e AuditEvent<'e>,
    pub origin: &'e Origin,
    pub site: &'e Site,
    /// Where the event was made of a line of the API server's own log.
    pub line: Option<LineView<'e>>,
    memo: Option<&'e Memo>,
    /// See [`View::told_apart`].
    told_apart: Cell<bool>,
    facts: Cell<FactSet>,
    /// A bit per [`Group`].
    computed: Cell<u32>,
    request: OnceCell<Option<Json<'e>>>,
    response: OnceCell<Option<Json<'e>>>,
    spread: OnceCell<Option<Json<'e>>>,
    /// The name that a created object was given.
    created: OnceCell<String>,
    query: OnceCell<Vec<(Cow<'e, str>, Cow<'e, str>)>>,
    client: OnceCell<Option<(usize, std::net::IpAddr)>>,
    family: OnceCell<agent::Family>,
    exec: OnceCell<exec::Exec>,
    role: OnceCell<rbac::Rules>,
    binding: OnceCell<binding::Binding>,
}

impl<'e> View<'e> {
    pub fn new(event: &'e AuditEvent<'e>, origin: &'e Origin, site: &'e Site) -> View<'e> {
        View {
            event,
            origin,
            site,
            line: None,
            memo: None,
            told_apart: Cell::new(false),
            facts: Cell::default(),
            computed: Cell::new(0),
            request: OnceCell::new(),
            response: OnceCell::new(),
            spread: OnceCell::new(),
            created: OnceCell::new(),
            query: OnceCell::new(),
            client: OnceCell::new(),
            family: OnceCell::new(),
            exec: OnceCell::new(),
            role: OnceCell::new(),
            binding: OnceCell::new(),
        }
    }

    /// As [`View::new`], with what was learned of identities at the same sites.
    pub fn with_memo(
        event: &'e AuditEvent<'e>,
        origin: &'e Origin,
        site: &'e Site,
        memo: Option<&'e Memo>,
    ) -> View<'e> {
        View {
            memo,
            ..View::new(event, origin, site)
        }
    }

    /// A look at a line: `event` is what [`super::line::event`] makes of it.
    pub fn of_line(
        event: &'e AuditEvent<'e>,
        line: LineView<'e>,
        origin: &'e Origin,
        site: &'e Site,
    ) -> View<'e> {
        View {
            line: Some(line),
            ..View::new(event, origin, site)
        }
    }

    pub fn fact(&self, fact: Fact) -> Truth {
        self.compute(fact.info().group);
        self.facts.get().get(fact)
    }

    /// Whether the fact is known to be true.
    pub fn is(&self, fact: Fact) -> bool {
        self.fact(fact) == Truth::True
    }

    /// As [`FactSet::test`], computing the groups that `facts` and `not` need.
    pub fn test(&self, facts: &Bits, not: &Bits) -> Truth {
        self.compute_all(facts.union(not).groups());
        self.facts.get().test(facts, not)
    }

    /// As [`View::test`], where `groups` are those of `facts` and `not`.
    pub(crate) fn test_groups(&self, groups: u32, facts: &Bits, not: &Bits) -> Truth {
        self.compute_all(groups);
        self.facts.get().test(facts, not)
    }

    /// Computes the facts of `groups`, and gives what is known of all so far.
    pub(crate) fn facts_of(&self, groups: u32) -> FactSet {
        self.compute_all(groups);
        self.facts.get()
    }

    fn compute_all(&self, groups: u32) {
        let mut missing = groups & !self.computed.get();
        while missing != 0 {
            self.compute(GROUPS[missing.trailing_zeros() as usize]);
            missing &= missing - 1;
        }
    }

    fn compute(&self, group: Group) {
        let bit = group.bit();
        if self.computed.get() & bit != 0 {
            return;
        }
        let mut facts = FactSet::default();
        match group {
            Group::Request => target::request_facts(self, &mut facts),
            Group::Change => target::change_facts(self, &mut facts),
            Group::Site => secret::site_facts(self, &mut facts),
            Group::Actor => actor::facts(self, &mut facts),
            Group::SourceIp => source_ip::facts(self, &mut facts),
            Group::Target => target::facts(self, &mut facts),
            Group::Dashboard => dashboard::facts(self, &mut facts),
            Group::Exec => exec::facts(self, &mut facts),
            Group::Role => rbac::facts(self, &mut facts),
            Group::Binding => binding::facts(self, &mut facts),
            Group::Agent => agent::facts(self, &mut facts),

            Group::Object => object::object_facts(self, &mut facts),
            Group::Lookalike => object::lookalike_facts(self, &mut facts),
            Group::PodSecurity => pod_security::pod_facts(self, &mut facts),
            Group::Image => image::image_facts(self, &mut facts),
            Group::Workload => workload::workload_facts(self, &mut facts),
            Group::Service => service::service_facts(self, &mut facts),
            Group::NetworkPolicy => network::network_policy_facts(self, &mut facts),
            Group::Admission => admission::admission_facts(self, &mut facts),
            Group::Namespace => namespace::namespace_facts(self, &mut facts),
            Group::Csr => csr::csr_facts(self, &mut facts),
            Group::Secret => secret::secret_facts(self, &mut facts),
            // Not of one event alone: see [`crate::detect::inventory::known`].
            Group::Known => {}
        }
        // Groups may ask for one another's facts meanwhile, so theirs are read again here.
        let mut all = self.facts.get();
        all.merge(&facts);
        self.facts.set(all);
        self.computed.set(self.computed.get() | bit);
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

    /// The object that a create, update or patch leaves behind or asks for.
    pub fn object(&self) -> Object<'_> {
        if !matches!(self.event.verb.as_ref(), "create" | "update" | "patch")
            || matches!(
                self.subresource(),
                "exec" | "attach" | "portforward" | "proxy"
            )
        {
            return Object::None;
        }
        if let Some(response) = self.response_object()
            && response.get("kind").str() != "Status"
            && !response.is_null()
        {
            return Object::Known(response);
        }
        // A patch's delta does not tell what the object holds besides it.
        if let Some(request) = self.request_object()
            && !request.is_null()
        {
            return Object::Known(request);
        }
        match (self.event.request_object, self.event.level) {
            (Body::Absent, Level::Request | Level::RequestResponse) => Object::None,
            _ => Object::Unknown,
        }
    }

    /// Whether a write may change `key`, a top-level key of the object: a patch that names others
    /// only does not.
    pub fn touches(&self, key: &str) -> bool {
        if self.event.verb != "patch" {
            return true;
        }
        match self.request_object() {
            Some(Json::Array(steps)) => steps.iter().any(|step| {
                let path = step.get("path").str();
                path.is_empty()
                    || path
                        .strip_prefix('/')
                        .and_then(|rest| rest.strip_prefix(key))
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }),
            Some(delta) => delta.entries().iter().any(|(name, _)| {
                // `$setElementOrder/subjects` and `$retainKeys` stand beside the key they serve.
                name == key || name.strip_prefix("$patch").is_some()
            }),
            None => true,
        }
    }

    /// `objectRef`; an empty one for non-resource URLs.
    pub fn object_ref(&self) -> &ObjectRef<'e> {
        static NONE: ObjectRef<'static> = ObjectRef {
            resource: Cow::Borrowed(""),
            namespace: Cow::Borrowed(""),
            name: Cow::Borrowed(""),
            uid: Cow::Borrowed(""),
            api_group: Cow::Borrowed(""),
            api_version: Cow::Borrowed(""),
            resource_version: Cow::Borrowed(""),
            subresource: Cow::Borrowed(""),
        };
        self.event.object_ref.as_ref().unwrap_or(&NONE)
    }

    pub fn resource(&self) -> &str {
        &self.object_ref().resource
    }

    pub fn subresource(&self) -> &str {
        &self.object_ref().subresource
    }

    pub fn namespace(&self) -> &str {
        &self.object_ref().namespace
    }

    /// The object's name; of a `generateName` create, from the response.
    pub fn name(&self) -> &str {
        let object = self.object_ref();
        let name = &object.name;
        // Reviews are answered and not stored, so they have no names.
        let review = matches!(
            object.api_group.as_ref(),
            "authorization.k8s.io" | "authentication.k8s.io"
        );
        if name.is_empty() && self.event.verb == "create" && !review {
            return self.created.get_or_init(|| {
                let name = |parsed: &OnceCell<Option<Json<'e>>>, body| match (parsed.get(), body) {
                    (Some(parsed), _) => {
                        let name = parsed.as_ref().map(|object| object.at(&NAME).str());
                        name.unwrap_or_default().to_owned()
                    }
                    // Not worth a parse of all that the body holds.
                    (None, Body::Text(text)) => {
                        json::text_at(text.get(), &NAME).unwrap_or_default()
                    }
                    (None, Body::Absent | Body::Unreadable) => String::new(),
                };
                let from_response = name(&self.response, self.event.response_object);
                match from_response.is_empty() {
                    true => name(&self.request, self.event.request_object),
                    false => from_response,
                }
            });
        }
        name
    }

    /// A JSON Patch in `requestObject` as the object it hints at: see [`object::spread`].
    pub(super) fn spread_patch(&self) -> Option<&Json<'e>> {
        self.spread
            .get_or_init(|| match self.request_object() {
                Some(Json::Array(steps)) => Some(object::spread(steps)),
                _ => None,
            })
            .as_ref()
    }

    /// The request's query, decoded, in the order sent. Names may repeat.
    pub fn query(&self) -> &[(Cow<'e, str>, Cow<'e, str>)] {
        self.query
            .get_or_init(|| target::decode_query(&self.event.request_uri))
    }

    /// The client's address: see [`source_ip::locate`].
    pub fn client(&self) -> Option<std::net::IpAddr> {
        self.located().map(|(_, address)| address)
    }

    /// The client's address and its place in `sourceIPs`.
    pub(super) fn located(&self) -> Option<(usize, std::net::IpAddr)> {
        *self.client.get_or_init(|| source_ip::locate(self))
    }

    /// What the user agent admits to be.
    pub(super) fn family(&self) -> agent::Family {
        *self.family.get_or_init(|| match self.memo {
            Some(memo) => memo.family(&self.event.user_agent),
            None => agent::Family::of(&self.event.user_agent),
        })
    }

    pub(super) fn memo(&self) -> Option<&'e Memo> {
        self.memo
    }

    /// What an exec, attach, port-forward or kubelet request asks for.
    pub fn exec(&self) -> &exec::Exec {
        self.exec.get_or_init(|| exec::Exec::of(self))
    }

    /// What the rules of a role that is written grant.
    pub(super) fn rules(&self) -> &rbac::Rules {
        self.role.get_or_init(|| rbac::Rules::of(self))
    }

    /// What a binding that is written binds to whom.
    pub(super) fn binding(&self) -> &binding::Binding {
        self.binding.get_or_init(|| binding::Binding::of(self))
    }

    /// The field's value; an empty string or list where the event has none.
    pub fn field(&self, field: Field) -> FieldValue<'_> {
        super::field::value(self, field)
    }

    /// Whether somebody asked for what tells an event from the next one like it: its audit ID. Of times,
    /// and of the object's uid and version, there is no field or fact.
    pub(crate) fn told_apart(&self) -> bool {
        self.told_apart.get()
    }

    pub(super) fn audit_id(&self) -> &str {
        self.told_apart.set(true);
        &self.event.audit_id
    }

    /// Gives `hasher` what the field's value is read from: equal texts of one field may differ here,
    /// different ones never agree.
    pub fn hash_field(&self, field: Field, hasher: &mut impl std::hash::Hasher) {
        super::field::hash(self, field, hasher);
    }
}

fn parse<'e>(body: Body<'e>) -> Option<Json<'e>> {
    match body {
        Body::Text(text) => Json::parse(text.get()).ok(),
        Body::Absent | Body::Unreadable => None,
    }
}
