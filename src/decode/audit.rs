//! The full parse of an audit event: strict first, and by salvage where that refuses it.
//!
//! Takes the event's JSON text from [`super::envelope`] or straight from a file and gives the
//! [`AuditEvent`] that borrows from it. [`read`] is the boundary: a faster way to read an event
//! takes its place there and has to give the same answer.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::value::RawValue;

use super::scan::{Members, key_text, value_end};
use super::wire::{Fields, Found, Int, Object, Source, Text, Texts, Time, Wire, salvage, strict};
use super::{Content, Damage, Ignored};
use crate::event::{AuditEvent, Body, Level, ObjectRef, ResponseStatus, Stage, User};

/// What the API server writes in place of a body that is too big for it.
pub const SKIPPED: &str = "\"skipped-too-big-size-object\"";

/// An event with the two keys that say what it is.
#[derive(Debug, Default, PartialEq)]
pub struct Parsed<'a> {
    pub event: AuditEvent<'a>,
    pub(super) kind: Cow<'a, str>,
    pub(super) api_version: Cow<'a, str>,
}

/// Reads the event `text`, in full; the payload is what can be judged, the damage what was wrong.
pub fn read(text: &str) -> (Content<'_>, Option<Damage>) {
    match parse(text) {
        Ok(parsed) => (finish(parsed), None),
        Err(error) => match parse_around_bodies(text, &error) {
            Some(parsed) => (finish(parsed), None),
            None => rescue(text, &error),
        },
    }
}

/// The strict parse.
pub fn parse(text: &str) -> Result<Parsed<'_>, serde_json::Error> {
    strict(text)
}

/// What can be salvaged of an event that [`parse`] refused.
pub fn rescue<'a>(text: &'a str, error: &serde_json::Error) -> (Content<'a>, Option<Damage>) {
    if !text.starts_with('{') {
        return (
            Content::Nothing(Ignored::Damaged),
            Some(super::wire::reason(error)),
        );
    }
    let (mut parsed, found) = salvage::<Parsed>(text, error);
    if found.unfinished {
        bodies_may_be_missing(&mut parsed.event);
    }
    let payload = match finish(parsed) {
        Content::Nothing(_) => Content::Nothing(Ignored::Damaged),
        payload => payload,
    };
    (payload, found.damage)
}

/// An event that [`parse`] refused for nothing but what stands in its bodies, of which only the
/// structure counts; see [`super::walker`].
pub fn parse_around_bodies<'a>(text: &'a str, error: &serde_json::Error) -> Option<Parsed<'a>> {
    if !text.starts_with('{') {
        return None;
    }
    let mut without = String::with_capacity(text.len());
    let mut kept = 0;
    for member in Members::new(text.as_bytes()) {
        let key = key_text(text[member.key].as_bytes());
        let body = &text[member.value.clone()];
        if matches!(key.as_ref(), "requestObject" | "responseObject")
            && body.starts_with(['{', '['])
        {
            if !member.whole || is_too_deep(body) {
                return None;
            }
            without.push_str(&text[kept..member.value.start]);
            without.push_str("null");
            kept = member.value.end;
        }
    }
    without.push_str(&text[kept..]);
    if kept == 0 {
        return None;
    }
    parse(&without).ok()?;
    Some(salvage(text, error).0)
}

/// A parsed object as a payload: an event, or why it is none.
pub fn finish(mut parsed: Parsed<'_>) -> Content<'_> {
    match judge(&mut parsed) {
        None => Content::Event(Box::new(parsed.event)),
        Some(ignored) => Content::Nothing(ignored),
    }
}

/// Completes the event, or says why it is none.
pub(super) fn judge(parsed: &mut Parsed<'_>) -> Option<Ignored> {
    let event = &mut parsed.event;
    let says_nothing = event.verb.is_empty()
        && event.request_uri.is_empty()
        && event.audit_id.is_empty()
        && event.object_ref.is_none()
        && event.user.username.is_empty();
    let other_api =
        !parsed.api_version.is_empty() && !parsed.api_version.starts_with("audit.k8s.io/");
    if other_api || !(parsed.kind.is_empty() || parsed.kind == "Event") {
        return Some(Ignored::Unrelated);
    }
    if says_nothing {
        return Some(if parsed.kind.is_empty() {
            Ignored::Unrelated
        } else {
            Ignored::EmptyEvent
        });
    }
    if event.annotation("audit.k8s.io/truncated") == Some("true") {
        bodies_may_be_missing(event);
    }
    None
}

/// Marks the bodies that are not there, and that the event's level would have logged.
fn bodies_may_be_missing(event: &mut AuditEvent) {
    let (request, response) = match event.level {
        Level::Metadata => (false, false),
        Level::Request => (true, false),
        Level::RequestResponse | Level::Unknown => (true, true),
    };
    if request && event.request_object == Body::Absent {
        event.request_object = Body::Unreadable;
    }
    if response && event.response_object == Body::Absent {
        event.response_object = Body::Unreadable;
    }
}

impl<'a> Fields<'a> for Parsed<'a> {
    fn set<S: Source<'a>>(&mut self, key: Cow<'a, str>, source: S) -> Result<(), S::Error> {
        let event = &mut self.event;
        match key.as_ref() {
            "kind" => self.kind = source.get::<Text>()?.0,
            "apiVersion" => self.api_version = source.get::<Text>()?.0,
            "level" => event.level = Level::parse(&source.get::<Text>()?.0),
            "auditID" => event.audit_id = source.get::<Text>()?.0,
            "stage" => event.stage = Stage::parse(&source.get::<Text>()?.0),
            "requestURI" => event.request_uri = source.get::<Text>()?.0,
            "verb" => event.verb = source.get::<Text>()?.0,
            "user" => event.user = source.get::<Object<_>>()?.0.unwrap_or_default(),
            "impersonatedUser" => event.impersonated_user = source.get::<Object<_>>()?.0,
            "sourceIPs" => event.source_ips = source.get::<Texts>()?.0,
            "userAgent" => event.user_agent = source.get::<Text>()?.0,
            "objectRef" => event.object_ref = source.get::<Object<_>>()?.0,
            "responseStatus" => event.response_status = source.get::<Object<_>>()?.0,
            "requestObject" => event.request_object = source.get::<RawBody>()?.0,
            "responseObject" => event.response_object = source.get::<RawBody>()?.0,
            "requestReceivedTimestamp" => event.request_received = source.get::<Time>()?.0,
            "stageTimestamp" => event.stage_time = source.get::<Time>()?.0,
            "annotations" => {
                let annotations = source.get::<Object<Annotations>>()?.0;
                event.annotations = annotations.unwrap_or_default().0;
            }
            _ => source.skip()?,
        }
        Ok(())
    }
}

impl<'a> Fields<'a> for User<'a> {
    fn set<S: Source<'a>>(&mut self, key: Cow<'a, str>, source: S) -> Result<(), S::Error> {
        match key.as_ref() {
            "username" => self.username = source.get::<Text>()?.0,
            "uid" => self.uid = source.get::<Text>()?.0,
            "groups" => self.groups = source.get::<Texts>()?.0,
            "extra" => self.extra = source.get::<Object<Extra>>()?.0.unwrap_or_default().0,
            _ => source.skip()?,
        }
        Ok(())
    }
}

impl<'a> Fields<'a> for ObjectRef<'a> {
    fn set<S: Source<'a>>(&mut self, key: Cow<'a, str>, source: S) -> Result<(), S::Error> {
        let field = match key.as_ref() {
            "resource" => &mut self.resource,
            "namespace" => &mut self.namespace,
            "name" => &mut self.name,
            "uid" => &mut self.uid,
            "apiGroup" => &mut self.api_group,
            "apiVersion" => &mut self.api_version,
            "resourceVersion" => &mut self.resource_version,
            "subresource" => &mut self.subresource,
            _ => return source.skip(),
        };
        *field = source.get::<Text>()?.0;
        Ok(())
    }
}

impl<'a> Fields<'a> for ResponseStatus<'a> {
    fn set<S: Source<'a>>(&mut self, key: Cow<'a, str>, source: S) -> Result<(), S::Error> {
        match key.as_ref() {
            "code" => self.code = source.get::<Int>()?.0,
            "status" => self.status = source.get::<Text>()?.0,
            "reason" => self.reason = source.get::<Text>()?.0,
            "message" => self.message = source.get::<Text>()?.0,
            _ => source.skip()?,
        }
        Ok(())
    }
}

#[derive(Default)]
struct Annotations<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Fields<'a> for Annotations<'a> {
    fn set<S: Source<'a>>(&mut self, key: Cow<'a, str>, source: S) -> Result<(), S::Error> {
        let value = source.get::<Text>()?.0;
        self.0.push((key, value));
        Ok(())
    }
}

#[derive(Default)]
struct Extra<'a>(Vec<(Cow<'a, str>, Vec<Cow<'a, str>>)>);

impl<'a> Fields<'a> for Extra<'a> {
    fn set<S: Source<'a>>(&mut self, key: Cow<'a, str>, source: S) -> Result<(), S::Error> {
        let values = source.get::<Texts>()?.0;
        self.0.push((key, values));
        Ok(())
    }
}

/// A body as written. One that is nested too deep for any later parse is damage here, where it is
/// counted, and not there.
struct RawBody<'a>(Body<'a>);

impl<'a> RawBody<'a> {
    fn of(text: &'a str) -> Body<'a> {
        match text {
            "null" => Body::Absent,
            SKIPPED => Body::Unreadable,
            _ => Body::Text(text.into()),
        }
    }
}

fn is_too_deep(text: &str) -> bool {
    // Most bodies have too few brackets for it, and counting them is fast.
    memchr::memchr2_iter(b'{', b'[', text.as_bytes())
        .nth(super::scan::DEPTH_LIMIT - 1)
        .is_some()
        && value_end(text.as_bytes(), 0).deep
}

impl<'de> Deserialize<'de> for RawBody<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Some(raw) = Option::<&'de RawValue>::deserialize(deserializer)? else {
            return Ok(RawBody(Body::Absent));
        };
        if is_too_deep(raw.get()) {
            return Err(D::Error::custom("nested too deep"));
        }
        Ok(RawBody(RawBody::of(raw.get())))
    }
}

impl<'a> Wire<'a> for RawBody<'a> {
    fn salvage(text: &'a str, whole: bool, found: &mut Found) -> Self {
        let damage = if is_too_deep(text) {
            Damage::TooLarge
        } else if !whole {
            Damage::CutOff
        } else if !text.starts_with(['{', '['])
            && let Err(error) = serde_json::from_str::<&RawValue>(text)
        {
            super::wire::reason(&error)
        } else {
            return RawBody(RawBody::of(text));
        };
        found.note(damage);
        RawBody(Body::Unreadable)
    }
}
