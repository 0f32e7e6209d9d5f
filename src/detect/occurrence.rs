//! An event that matched, as alerts will show it: made by the parallel half, owning its data.
//!
//! Most matches come to nothing, and wait for that among a minute's others. So an event's texts lie
//! together in memory, and become an alert's values only where a finding needs them.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::matches::Digest128;
use super::state::fair::Owner;
use crate::alert::{Actor, ObjectId, SourceIp};
use crate::decode::RecordPosition;
use crate::event::clock::Clock;
use crate::event::tie::{self, Role, TieRef, Ties};
use crate::event::trace;
use crate::event::{Category, Field, Stage, View};
use crate::source::Partition;

/// Where a record was read.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub partition: &'a Arc<Partition>,
    pub position: RecordPosition,
    pub clock: Clock,
}

/// An event that matched; shared by the matches of one event.
#[derive(Debug)]
pub struct Occurrence {
    /// Cluster, auditID, verb, URI, user and time of receipt together: an auditID alone is the
    /// client's to choose. Without an auditID, the record's own position.
    pub request: Digest128,
    pub has_audit_id: bool,
    /// Whether all is there that the request is known by; of an event that was cut off, the time of
    /// receipt is not.
    pub is_known_whole: bool,
    /// Whose the event is, for the fair bounds of the state operators.
    pub owner: Owner,
    /// When it happened, as far as that can be believed; `None` where nobody tells a time.
    pub time: Option<Timestamp>,
    /// What the record itself says, for the evidence.
    pub told: Option<Timestamp>,
    pub stage: Stage,
    pub cluster: Arc<str>,
    pub category: Category,
    /// Where the address is, in words.
    pub came_from: &'static str,
    pub partition: Arc<Partition>,
    pub position: RecordPosition,
    words: Words,
    /// What the event may share with others of its incident.
    ties: Ties,
}

/// The texts of an event that are kept, in the order in which they lie; one that is not known is empty.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Word {
    Verb,
    AuditId,
    ClusterName,
    User,
    Impersonated,
    /// `namespace/name`, where the user is a service account.
    ServiceAccount,
    Address,
    Network,
    Class,
    UserAgent,
    Group,
    Resource,
    Subresource,
    Namespace,
    Name,
    /// Verb, URI and code, on one line.
    Excerpt,
}

const WORDS: usize = Word::Excerpt as usize + 1;

/// The values of [`Word`] and the groups of the user, bounded.
#[derive(Debug)]
struct Words {
    text: Box<str>,
    /// Where each word ends, behind the one before.
    ends: [u32; WORDS],
    /// Where each group ends; they lie behind the words.
    groups: Box<[u32]>,
}

impl Words {
    fn get(&self, word: Word) -> &str {
        let at = word as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start as usize..self.ends[at] as usize]
    }

    fn groups(&self) -> impl Iterator<Item = &str> {
        let mut start = self.ends[WORDS - 1];
        self.groups.iter().map(move |end| {
            let group = start as usize..*end as usize;
            start = *end;
            &self.text[group]
        })
    }
}

/// Puts an occurrence's texts together; one that is used again needs no memory of its own.
#[derive(Debug, Default)]
pub struct Writer {
    text: String,
    ends: Vec<u32>,
    ties: tie::Writer,
}

impl Writer {
    fn end(&mut self) {
        // All of them together are a few tens of thousands of bytes at most.
        self.ends.push(self.text.len() as u32);
    }

    /// The next word, or group: at most `max` bytes of it.
    fn put(&mut self, text: &str, max: usize) {
        push_bounded(&mut self.text, text, max);
        self.end();
    }

    fn finish(&mut self) -> Words {
        let (ends, groups) = self.ends.split_at(WORDS);
        let words = Words {
            text: self.text.as_str().into(),
            ends: ends.try_into().expect("split there"),
            groups: groups.into(),
        };
        self.text.clear();
        self.ends.clear();
        words
    }
}

/// The object of an event: an [`ObjectId`], borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object<'o> {
    pub group: &'o str,
    pub resource: &'o str,
    pub subresource: &'o str,
    pub namespace: &'o str,
    pub name: &'o str,
}

impl From<Object<'_>> for ObjectId {
    fn from(object: Object<'_>) -> ObjectId {
        ObjectId {
            group: object.group.to_owned(),
            resource: object.resource.to_owned(),
            subresource: object.subresource.to_owned(),
            namespace: object.namespace.to_owned(),
            name: object.name.to_owned(),
        }
    }
}

/// Someone, and where they came from; an address that is not known is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whom {
    pub user: String,
    pub address: String,
}

impl Occurrence {
    /// Event time for the state operators' clock.
    pub fn clock(&self) -> Timestamp {
        self.time.unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Who did it. The platform does everyone's work, and acts as nobody.
    pub fn someone(&self) -> Option<Whom> {
        let acted = |tie: TieRef<'_>| matches!(tie.role, Role::Acts | Role::Bears);
        let known = !self.user().is_empty() && self.ties().any(acted);
        known.then(|| Whom {
            user: self.user().to_owned(),
            address: self.address().unwrap_or_default().to_owned(),
        })
    }

    /// About how many bytes it holds in memory.
    pub fn held(&self) -> usize {
        size_of::<Occurrence>()
            + self.words.text.len()
            + size_of_val(&*self.words.groups)
            + self.ties.held()
    }

    fn optional(&self, word: Word) -> Option<&str> {
        Some(self.words.get(word)).filter(|text| !text.is_empty())
    }

    pub fn verb(&self) -> &str {
        self.words.get(Word::Verb)
    }

    pub fn audit_id(&self) -> &str {
        self.words.get(Word::AuditId)
    }

    pub fn cluster_name(&self) -> &str {
        self.words.get(Word::ClusterName)
    }

    /// The authenticated user.
    pub fn user(&self) -> &str {
        self.words.get(Word::User)
    }

    /// The user that they acted as, if any.
    pub fn impersonated(&self) -> Option<&str> {
        self.optional(Word::Impersonated)
    }

    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.words.groups()
    }

    pub fn actor(&self) -> Actor {
        Actor {
            user: self.user().to_owned(),
            groups: self.groups().map(str::to_owned).collect(),
            impersonated: self.impersonated().map(str::to_owned),
            service_account: self.optional(Word::ServiceAccount).map(str::to_owned),
        }
    }

    /// The client's address, where one is known.
    pub fn address(&self) -> Option<&str> {
        self.optional(Word::Address)
    }

    pub fn source_ip(&self) -> SourceIp {
        SourceIp {
            address: self.address().map(str::to_owned),
            network: self.optional(Word::Network).map(str::to_owned),
            class: self.words.get(Word::Class).to_owned(),
        }
    }

    pub fn user_agent(&self) -> &str {
        self.words.get(Word::UserAgent)
    }

    pub fn object(&self) -> Object<'_> {
        Object {
            group: self.words.get(Word::Group),
            resource: self.words.get(Word::Resource),
            subresource: self.words.get(Word::Subresource),
            namespace: self.words.get(Word::Namespace),
            name: self.words.get(Word::Name),
        }
    }

    /// Verb, URI and code, on one line.
    pub fn excerpt(&self) -> &str {
        self.words.get(Word::Excerpt)
    }

    /// What the event may share with others of its incident.
    pub fn ties(&self) -> impl Iterator<Item = TieRef<'_>> {
        self.ties.iter()
    }

    /// `told` is the time that the record tells.
    pub(super) fn new(
        view: &View<'_>,
        told: Option<Timestamp>,
        place: Place<'_>,
        writer: &mut Writer,
    ) -> Occurrence {
        Occurrence::made(view, told, place, writer, request(view, place), None)
    }

    /// Of something that no record tells of: what stands for its request, and for its excerpt.
    pub(super) fn of_no_record(
        view: &View<'_>,
        told: Option<Timestamp>,
        place: Place<'_>,
        request: Digest128,
        excerpt: &str,
    ) -> Occurrence {
        let writer = &mut Writer::default();
        Occurrence::made(view, told, place, writer, request, Some(excerpt))
    }

    fn made(
        view: &View<'_>,
        told: Option<Timestamp>,
        place: Place<'_>,
        writer: &mut Writer,
        request: Digest128,
        excerpt: Option<&str>,
    ) -> Occurrence {
        let Place {
            partition,
            position,
            clock,
        } = place;
        let event = view.event;
        let has_audit_id = !event.audit_id.is_empty();
        trace::traces(view, &mut writer.ties);
        Occurrence {
            request,
            has_audit_id,
            is_known_whole: has_audit_id && view.line.is_none() && event.request_received.is_some(),
            owner: owner(&view.origin.cluster, &event.user.username),
            time: clock.time(told),
            told,
            stage: event.stage,
            cluster: Arc::clone(&view.origin.cluster),
            category: view.origin.category,
            came_from: trace::place(view),
            partition: Arc::clone(partition),
            position,
            ties: writer.ties.finish(),
            words: words(view, writer, excerpt),
        }
    }
}

fn words(view: &View<'_>, writer: &mut Writer, excerpt: Option<&str>) -> Words {
    let event = view.event;
    writer.put(&event.verb, MAX_VERB);
    writer.put(&event.audit_id, MAX_AUDIT_ID);
    // In the order of `Word`.
    for field in [
        Field::ClusterName,
        Field::ActorUser,
        Field::ActorImpersonated,
        Field::ActorServiceAccount,
        Field::SourceIpAddress,
        Field::SourceIpNetwork,
        Field::SourceIpClass,
        Field::UserAgent,
        Field::ObjectGroup,
        Field::ObjectResource,
        Field::ObjectSubresource,
        Field::ObjectNs,
        Field::ObjectName,
    ] {
        writer.put(&view.field(field).text(), MAX_TEXT);
    }
    match excerpt {
        Some(excerpt) => writer.text.push_str(excerpt),
        None => push_excerpt(view, &mut writer.text),
    }
    writer.end();
    for group in event.user.groups.iter().take(MAX_GROUPS) {
        writer.put(group, MAX_TEXT);
    }
    writer.finish()
}

fn push_excerpt(view: &View<'_>, text: &mut String) {
    let event = view.event;
    let message = view.line.map_or("", |line| line.message);
    if !message.is_empty() {
        // Of a panic, the stack follows its first line.
        let first = message.lines().next().unwrap_or_default();
        return push_bounded(text, first, MAX_EXCERPT);
    }
    push_bounded(text, &event.verb, MAX_VERB);
    text.push(' ');
    push_bounded(text, &event.request_uri, MAX_EXCERPT);
    let status = event.response_status.as_ref();
    let code = status.map_or(0, |status| status.code);
    if code != 0 {
        text.push_str(" → ");
        text.push_str(&code.to_string());
    }
}

/// See [`Occurrence::request`].
pub(super) fn request(view: &View<'_>, place: Place<'_>) -> Digest128 {
    let event = view.event;
    if event.audit_id.is_empty() {
        return Digest128::of([
            place.partition.source.as_bytes(),
            place.partition.id.as_bytes(),
            &place.position.chunk.to_le_bytes(),
            &place.position.offset.to_le_bytes(),
        ]);
    }
    let received = event
        .request_received
        .map(|time| time.as_nanosecond())
        .unwrap_or_default();
    Digest128::of([
        view.origin.cluster.as_bytes(),
        event.audit_id.as_bytes(),
        event.verb.as_bytes(),
        event.request_uri.as_bytes(),
        event.user.username.as_bytes(),
        &received.to_le_bytes(),
    ])
}

/// Stands for cluster and authenticated user.
pub(super) fn owner(cluster: &str, user: &str) -> Owner {
    Digest128::of([cluster.as_bytes(), user.as_bytes()]).0 as Owner
}

/// Bytes of one text of an alert, of an excerpt and other texts, and groups of an actor: enough for
/// every honest event, and a bound on what a hostile one can make us keep.
pub(super) const MAX_TEXT: usize = 512;
const MAX_EXCERPT: usize = 1024;
const MAX_VERB: usize = 64;
const MAX_AUDIT_ID: usize = 128;
const MAX_GROUPS: usize = 64;

/// At most `max` bytes of `text`, cut at a character and marked.
pub(super) fn bounded(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("{}…", &text[..text.floor_char_boundary(max)]))
    }
}

fn push_bounded(to: &mut String, text: &str, max: usize) {
    to.push_str(&bounded(text, max));
}

#[cfg(test)]
impl Occurrence {
    /// Of a made event, with these ties instead of its own.
    pub(crate) fn tied(
        event: &crate::event::AuditEvent<'_>,
        cluster: &str,
        time: Timestamp,
        ties: &[(Role, tie::TraceKind, &str)],
    ) -> Occurrence {
        let origin = crate::event::Origin {
            cluster: cluster.into(),
            category: Category::KubeAudit,
            time: Some(time),
        };
        let site = crate::event::Site::default();
        let view = View::new(event, &origin, &site);
        let partition = Partition {
            source: "s".into(),
            id: "0".into(),
        };
        let place = Place {
            partition: &Arc::new(partition),
            position: RecordPosition {
                chunk: 0,
                offset: 0,
            },
            clock: Clock::default(),
        };
        let mut writer = tie::Writer::default();
        for (role, kind, value) in ties {
            writer.add(*role, *kind, &[value]);
        }
        Occurrence {
            request: Digest128::of([event.audit_id.as_bytes()]),
            ties: writer.finish(),
            ..Occurrence::new(&view, Some(time), place, &mut Writer::default())
        }
    }

    /// Puts another text in the place of a word.
    pub(crate) fn set(&mut self, word: Word, text: &str) {
        let start = self.words.get(word).as_ptr() as usize - self.words.text.as_ptr() as usize;
        let end = self.words.ends[word as usize] as usize;
        let mut whole = String::from(&*self.words.text);
        whole.replace_range(start..end, text);
        let moved = |at: &mut u32| *at = (*at as usize + text.len() + start - end) as u32;
        self.words.ends[word as usize..].iter_mut().for_each(moved);
        self.words.groups.iter_mut().for_each(moved);
        self.words.text = whole.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tie::TraceKind;
    use crate::event::{AuditEvent, ObjectRef, User};

    #[test]
    fn every_text_is_found_in_its_place() {
        let user = |name: &'static str, groups: &[&'static str]| User {
            username: name.into(),
            groups: groups.iter().map(|group| (*group).into()).collect(),
            ..User::default()
        };
        let long = "é".repeat(MAX_TEXT);
        let event = AuditEvent {
            verb: "get".into(),
            audit_id: "id".into(),
            user: user("system:serviceaccount:shop:web", &["one", "", "other"]),
            impersonated_user: Some(user("eve", &[])),
            source_ips: vec!["203.0.113.9".into()],
            user_agent: long.as_str().into(),
            request_uri: "/uri".into(),
            object_ref: Some(ObjectRef {
                api_group: "apps".into(),
                resource: "deployments".into(),
                subresource: "scale".into(),
                namespace: "shop".into(),
                name: "web".into(),
                ..ObjectRef::default()
            }),
            ..AuditEvent::default()
        };
        let ties = [
            (Role::Made, TraceKind::Pod, "b"),
            (Role::Acts, TraceKind::Pod, "b"),
            (Role::Acts, TraceKind::Identity, "z"),
            (Role::Made, TraceKind::Pod, "b"),
            (Role::Acts, TraceKind::Object, ""),
        ];
        let occurrence = Occurrence::tied(&event, "/a/b", Timestamp::UNIX_EPOCH, &ties);
        let actor = Actor {
            user: "system:serviceaccount:shop:web".to_owned(),
            groups: ["one", "", "other"].map(str::to_owned).to_vec(),
            impersonated: Some("eve".to_owned()),
            service_account: Some("shop/web".to_owned()),
        };
        assert_eq!(occurrence.actor(), actor);
        let source_ip = SourceIp {
            address: Some("203.0.113.9".to_owned()),
            network: Some("203.0.113.0/24".to_owned()),
            class: "public".to_owned(),
        };
        assert_eq!(occurrence.source_ip(), source_ip);
        let object = Object {
            group: "apps",
            resource: "deployments",
            subresource: "scale",
            namespace: "shop",
            name: "web",
        };
        assert_eq!(occurrence.object(), object);
        let texts = [
            occurrence.verb(),
            occurrence.audit_id(),
            occurrence.cluster_name(),
            occurrence.excerpt(),
        ];
        assert_eq!(texts, ["get", "id", "b", "get /uri"]);
        let half = "é".repeat(MAX_TEXT / 2);
        assert_eq!(occurrence.user_agent(), format!("{half}…"));
        let ties: Vec<_> = occurrence
            .ties()
            .map(|tie| (tie.kind, tie.value, tie.role))
            .collect();
        let expected = [
            (TraceKind::Identity, "z", Role::Acts),
            (TraceKind::Pod, "b", Role::Acts),
            (TraceKind::Pod, "b", Role::Made),
        ];
        assert_eq!(ties, expected);
    }
}
