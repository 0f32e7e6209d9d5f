//! An audit event, key by key; the bodies are located and jumped over.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::Fallback;
use super::cursor::{Cursor, Step};
use super::repeats::{Gap, Gaps};
use super::spare::Spare;
use super::users::Users;
use crate::decode::audit::{Parsed, SKIPPED};
use crate::event::{AuditEvent, Body, BodyText, Level, ObjectRef, ResponseStatus, Stage, User};

/// What an escaped body's text goes to when it is asked for.
#[derive(Debug, Default)]
pub struct Bodies {
    pub request: OnceCell<String>,
    pub response: OnceCell<String>,
}

/// A key of an object as the API server writes it, with quotes and colon.
struct Spelling<K> {
    key: K,
    name: &'static str,
    plain: &'static str,
    escaped: &'static str,
}

/// An object's keys, in the order in which the API server writes them.
macro_rules! keys {
    ($keys:ident { $($key:ident = $name:literal),+ $(,)? }) => {
        #[derive(Clone, Copy)]
        enum $keys {
            $($key),+
        }

        impl $keys {
            const ALL: &[Spelling<$keys>] = &[$(Spelling {
                key: $keys::$key,
                name: $name,
                plain: concat!("\"", $name, "\":"),
                escaped: concat!("\\\"", $name, "\\\":"),
            }),+];
        }
    };
}

keys!(EventKey {
    Kind = "kind",
    ApiVersion = "apiVersion",
    Level = "level",
    AuditId = "auditID",
    Stage = "stage",
    RequestUri = "requestURI",
    Verb = "verb",
    User = "user",
    ImpersonatedUser = "impersonatedUser",
    SourceIps = "sourceIPs",
    UserAgent = "userAgent",
    ObjectRef = "objectRef",
    ResponseStatus = "responseStatus",
    RequestObject = "requestObject",
    ResponseObject = "responseObject",
    RequestReceived = "requestReceivedTimestamp",
    StageTime = "stageTimestamp",
    Annotations = "annotations",
});

keys!(UserKey {
    Username = "username",
    Uid = "uid",
    Groups = "groups",
    Extra = "extra",
});

keys!(ObjectKey {
    Resource = "resource",
    Namespace = "namespace",
    Name = "name",
    Uid = "uid",
    ApiGroup = "apiGroup",
    ApiVersion = "apiVersion",
    ResourceVersion = "resourceVersion",
    Subresource = "subresource",
});

keys!(StatusKey {
    Metadata = "metadata",
    Status = "status",
    Message = "message",
    Reason = "reason",
    Code = "code",
});

/// Reads the event whose opening brace is at `cursor` to `parsed`, which is large, is empty before,
/// and is not moved after.
pub fn read<'a, const E: bool>(
    cursor: &mut Cursor<'a>,
    bodies: &'a Bodies,
    spare: &mut Spare,
    users: &mut Users,
    gaps: &mut Gaps,
    parsed: &mut Parsed<'a>,
) -> Step<()> {
    let event = &mut parsed.event;
    let mut seen = [false; 2];
    members_of::<E, _>(cursor, EventKey::ALL, |cursor, key| {
        use EventKey as Key;
        match key {
            Some(Key::Kind) => parsed.kind = text::<E>(cursor)?,
            Some(Key::ApiVersion) => parsed.api_version = text::<E>(cursor)?,
            Some(Key::Level) => event.level = Level::parse(cursor.text::<E>()?),
            Some(Key::AuditId) => {
                event.audit_id = gap::<E, _>(cursor, gaps, Gap::Text, text::<E>)?;
            }
            Some(Key::Stage) => event.stage = Stage::parse(cursor.text::<E>()?),
            Some(Key::RequestUri) => event.request_uri = text::<E>(cursor)?,
            Some(Key::Verb) => event.verb = text::<E>(cursor)?,
            Some(Key::User) => {
                let user = user::<E>(cursor, spare, users)?;
                spare.keep_user(std::mem::replace(&mut event.user, user.unwrap_or_default()));
            }
            Some(Key::ImpersonatedUser) => {
                event.impersonated_user = user::<E>(cursor, spare, users)?
            }
            Some(Key::SourceIps) => {
                let mut list = spare.list();
                cursor.texts::<E>(&mut list)?;
                spare.keep_list(std::mem::replace(&mut event.source_ips, list));
            }
            Some(Key::UserAgent) => event.user_agent = text::<E>(cursor)?,
            Some(Key::ObjectRef) => event.object_ref = object_ref::<E>(cursor, gaps)?,
            Some(Key::ResponseStatus) => event.response_status = response_status::<E>(cursor)?,
            Some(Key::RequestObject) => {
                let once = !std::mem::replace(&mut seen[0], true);
                event.request_object = body::<E>(cursor, gaps, once.then_some(&bodies.request))?;
            }
            Some(Key::ResponseObject) => {
                let once = !std::mem::replace(&mut seen[1], true);
                event.response_object = body::<E>(cursor, gaps, once.then_some(&bodies.response))?;
            }
            Some(Key::RequestReceived) => {
                let time = gap::<E, _>(cursor, gaps, Gap::Received, Cursor::time::<E>)?;
                event.request_received = time.0;
            }
            Some(Key::StageTime) => {
                event.stage_time = gap::<E, _>(cursor, gaps, Gap::StageTime, Cursor::time::<E>)?.0;
            }
            Some(Key::Annotations) => annotations::<E>(cursor, event, spare)?,
            None => cursor.pass::<E>()?,
        }
        Ok(())
    })
}

#[inline]
fn text<'a, const E: bool>(cursor: &mut Cursor<'a>) -> Step<Cow<'a, str>> {
    cursor.text::<E>().map(Cow::Borrowed)
}

/// Reads a value that makes no difference to whether its event is the same again.
#[inline]
fn gap<'a, const E: bool, T>(
    cursor: &mut Cursor<'a>,
    gaps: &mut Gaps,
    gap: Gap,
    read: impl FnOnce(&mut Cursor<'a>) -> Step<T>,
) -> Step<T> {
    let start = cursor.at();
    let value = read(cursor)?;
    if E {
        gaps.value(cursor.whole(), start..cursor.at(), gap);
    }
    Ok(value)
}

/// The object here, member by member.
#[inline]
fn object<'a>(
    cursor: &mut Cursor<'a>,
    mut member: impl FnMut(&mut Cursor<'a>) -> Step<()>,
) -> Step<()> {
    cursor.expect("{")?;
    if cursor.empty(b'}') {
        return Ok(());
    }
    loop {
        member(cursor)?;
        if !cursor.more(b'}')? {
            return Ok(());
        }
    }
}

/// The members of the object here.
#[inline]
fn members<'a, const E: bool>(
    cursor: &mut Cursor<'a>,
    mut member: impl FnMut(&mut Cursor<'a>, Cow<'a, str>) -> Step<()>,
) -> Step<()> {
    object(cursor, |cursor| {
        let key = cursor.key::<E>()?;
        member(cursor, key)
    })
}

/// As [`members`], each with which of `keys` it has, if any. Keys that come in their order are not
/// looked for.
#[inline]
fn members_of<'a, const E: bool, K: Copy>(
    cursor: &mut Cursor<'a>,
    keys: &[Spelling<K>],
    mut member: impl FnMut(&mut Cursor<'a>, Option<K>) -> Step<()>,
) -> Step<()> {
    let mut next = 0;
    object(cursor, |cursor| {
        let here =
            |key: &Spelling<K>| cursor.skip_key::<E>(if E { key.escaped } else { key.plain });
        let place = match keys[next..].iter().position(here) {
            Some(ahead) => Some(next + ahead),
            None => {
                let name = cursor.key::<E>()?;
                keys.iter().position(|key| key.name == name)
            }
        };
        if let Some(place) = place {
            next = place + 1;
        }
        member(cursor, place.map(|place| keys[place].key))
    })
}

fn user<'a, const E: bool>(
    cursor: &mut Cursor<'a>,
    spare: &mut Spare,
    users: &mut Users,
) -> Step<Option<User<'a>>> {
    if cursor.skip("null") {
        return Ok(None);
    }
    let start = cursor.at();
    if let Some((user, length)) = users.find(cursor.whole(), start, spare) {
        cursor.skip_bytes(length);
        return Ok(Some(user));
    }
    let mut user = User::default();
    members_of::<E, _>(cursor, UserKey::ALL, |cursor, key| {
        match key {
            Some(UserKey::Username) => user.username = text::<E>(cursor)?,
            Some(UserKey::Uid) => user.uid = text::<E>(cursor)?,
            Some(UserKey::Groups) => {
                let mut list = spare.list();
                cursor.texts::<E>(&mut list)?;
                spare.keep_list(std::mem::replace(&mut user.groups, list));
            }
            Some(UserKey::Extra) if cursor.skip("null") => user.extra = Vec::new(),
            Some(UserKey::Extra) => {
                let mut extra = spare.extra();
                members::<E>(cursor, |cursor, key| {
                    let mut list = spare.list();
                    cursor.texts::<E>(&mut list)?;
                    extra.push((key, list));
                    Ok(())
                })?;
                user.extra = extra;
            }
            None => cursor.pass::<E>()?,
        }
        Ok(())
    })?;
    users.put(cursor.whole(), start..cursor.at(), &user);
    Ok(Some(user))
}

fn object_ref<'a, const E: bool>(
    cursor: &mut Cursor<'a>,
    gaps: &mut Gaps,
) -> Step<Option<ObjectRef<'a>>> {
    if cursor.skip("null") {
        return Ok(None);
    }
    let mut object = ObjectRef::default();
    members_of::<E, _>(cursor, ObjectKey::ALL, |cursor, key| {
        let field = match key {
            Some(ObjectKey::Resource) => &mut object.resource,
            Some(ObjectKey::Namespace) => &mut object.namespace,
            Some(ObjectKey::Name) => &mut object.name,
            Some(ObjectKey::Uid) => {
                object.uid = gap::<E, _>(cursor, gaps, Gap::Text, text::<E>)?;
                return Ok(());
            }
            Some(ObjectKey::ApiGroup) => &mut object.api_group,
            Some(ObjectKey::ApiVersion) => &mut object.api_version,
            Some(ObjectKey::ResourceVersion) => {
                object.resource_version = gap::<E, _>(cursor, gaps, Gap::Text, text::<E>)?;
                return Ok(());
            }
            Some(ObjectKey::Subresource) => &mut object.subresource,
            None => return cursor.pass::<E>(),
        };
        *field = text::<E>(cursor)?;
        Ok(())
    })?;
    Ok(Some(object))
}

fn response_status<'a, const E: bool>(cursor: &mut Cursor<'a>) -> Step<Option<ResponseStatus<'a>>> {
    if cursor.skip("null") {
        return Ok(None);
    }
    let mut status = ResponseStatus::default();
    members_of::<E, _>(cursor, StatusKey::ALL, |cursor, key| {
        match key {
            Some(StatusKey::Status) => status.status = text::<E>(cursor)?,
            Some(StatusKey::Message) => status.message = text::<E>(cursor)?,
            Some(StatusKey::Reason) => status.reason = text::<E>(cursor)?,
            Some(StatusKey::Code) => status.code = cursor.int::<E>()?,
            Some(StatusKey::Metadata) | None => cursor.pass::<E>()?,
        }
        Ok(())
    })?;
    Ok(Some(status))
}

fn annotations<'a, const E: bool>(
    cursor: &mut Cursor<'a>,
    event: &mut AuditEvent<'a>,
    spare: &mut Spare,
) -> Step<()> {
    let mut annotations = spare.annotations();
    if !cursor.skip("null") {
        members::<E>(cursor, |cursor, key| {
            annotations.push((key, text::<E>(cursor)?));
            Ok(())
        })?;
    }
    event.annotations = annotations;
    Ok(())
}

/// A body; `plain` is `None` for the second of two with the same key.
fn body<'a, const E: bool>(
    cursor: &mut Cursor<'a>,
    gaps: &mut Gaps,
    plain: Option<&'a OnceCell<String>>,
) -> Step<Body<'a>> {
    if matches!(cursor.peek(), b'{' | b'[') {
        let start = cursor.at();
        gap::<E, _>(cursor, gaps, Gap::Body, Cursor::jump::<E>)?;
        let written = cursor.slice(start, cursor.at())?;
        return Ok(Body::Text(if E {
            BodyText::escaped(written, plain.ok_or(Fallback::Value)?)
        } else {
            written.into()
        }));
    }
    let raw = cursor.value::<&serde_json::value::RawValue, E>()?;
    Ok(match raw.get() {
        "null" => Body::Absent,
        SKIPPED => Body::Unreadable,
        other => Body::Text(other.into()),
    })
}
