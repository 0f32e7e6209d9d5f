//! An audit event, key by key; the bodies are located and jumped over.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::Fallback;
use super::cursor::{Cursor, Step};
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

/// An object's keys, in the order in which the API server writes them.
struct Keys<const N: usize> {
    names: [&'static str; N],
    /// As they stand in the text, with quotes and colon.
    plain: [&'static str; N],
    escaped: [&'static str; N],
}

macro_rules! keys {
    ($($name:literal),+ $(,)?) => {
        Keys {
            names: [$($name),+],
            plain: [$(concat!("\"", $name, "\":")),+],
            escaped: [$(concat!("\\\"", $name, "\\\":")),+],
        }
    };
}

/// Reads the event whose opening brace is at `cursor` to `parsed`, which is large, is empty before,
/// and is not moved after.
pub fn read<'a, const E: bool>(
    cursor: &mut Cursor<'a>,
    bodies: &'a Bodies,
    spare: &mut Spare,
    users: &mut Users,
    parsed: &mut Parsed<'a>,
) -> Step<()> {
    const KEYS: Keys<18> = keys![
        "kind",
        "apiVersion",
        "level",
        "auditID",
        "stage",
        "requestURI",
        "verb",
        "user",
        "impersonatedUser",
        "sourceIPs",
        "userAgent",
        "objectRef",
        "responseStatus",
        "requestObject",
        "responseObject",
        "requestReceivedTimestamp",
        "stageTimestamp",
        "annotations",
    ];
    let event = &mut parsed.event;
    let mut seen = [false; 2];
    members_of::<E, _>(cursor, &KEYS, |cursor, key| {
        match key {
            0 => parsed.kind = text::<E>(cursor)?,
            1 => parsed.api_version = text::<E>(cursor)?,
            2 => event.level = Level::parse(cursor.text::<E>()?),
            3 => event.audit_id = text::<E>(cursor)?,
            4 => event.stage = Stage::parse(cursor.text::<E>()?),
            5 => event.request_uri = text::<E>(cursor)?,
            6 => event.verb = text::<E>(cursor)?,
            7 => {
                let user = user::<E>(cursor, spare, users)?.unwrap_or_default();
                let before = std::mem::replace(&mut event.user, user);
                // Of a key that comes twice the last one counts.
                if before.groups.capacity() + before.extra.capacity() > 0 {
                    spare.keep_user(before);
                }
            }
            8 => event.impersonated_user = user::<E>(cursor, spare, users)?,
            9 => {
                let mut list = spare.list();
                cursor.texts::<E>(&mut list)?;
                spare.keep_list(std::mem::replace(&mut event.source_ips, list));
            }
            10 => event.user_agent = text::<E>(cursor)?,
            11 => event.object_ref = object_ref::<E>(cursor)?,
            12 => event.response_status = response_status::<E>(cursor)?,
            13 => {
                let once = !std::mem::replace(&mut seen[0], true);
                event.request_object = body::<E>(cursor, once.then_some(&bodies.request))?;
            }
            14 => {
                let once = !std::mem::replace(&mut seen[1], true);
                event.response_object = body::<E>(cursor, once.then_some(&bodies.response))?;
            }
            15 => event.request_received = cursor.time::<E>()?.0,
            16 => event.stage_time = cursor.time::<E>()?.0,
            17 => annotations::<E>(cursor, event, spare)?,
            _ => cursor.pass::<E>()?,
        }
        Ok(())
    })
}

#[inline]
fn text<'a, const E: bool>(cursor: &mut Cursor<'a>) -> Step<Cow<'a, str>> {
    cursor.text::<E>().map(Cow::Borrowed)
}

/// The members of the object here, each with its key's place in `keys`, or `N`. Keys that come in
/// their order are not looked for.
#[inline]
fn members_of<'a, const E: bool, const N: usize>(
    cursor: &mut Cursor<'a>,
    keys: &Keys<N>,
    mut member: impl FnMut(&mut Cursor<'a>, usize) -> Step<()>,
) -> Step<()> {
    let written = if E { &keys.escaped } else { &keys.plain };
    let mut next = 0;
    cursor.expect("{")?;
    if cursor.empty(b'}') {
        return Ok(());
    }
    loop {
        let ahead = written[next..].iter();
        let place = match ahead.into_iter().position(|key| cursor.skip_key::<E>(key)) {
            Some(ahead) => next + ahead,
            None => {
                let key = cursor.key::<E>()?;
                let name = |name: &&str| *name == key;
                keys.names.iter().position(name).unwrap_or(N)
            }
        };
        if place < N {
            next = place + 1;
        }
        member(cursor, place)?;
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
    cursor.expect("{")?;
    if cursor.empty(b'}') {
        return Ok(());
    }
    loop {
        let key = cursor.key::<E>()?;
        member(cursor, key)?;
        if !cursor.more(b'}')? {
            return Ok(());
        }
    }
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
    let rest = cursor.rest();
    const KEYS: Keys<4> = keys!["username", "uid", "groups", "extra"];
    let mut user = User::default();
    members_of::<E, _>(cursor, &KEYS, |cursor, key| {
        match key {
            0 => user.username = text::<E>(cursor)?,
            1 => user.uid = text::<E>(cursor)?,
            2 => {
                let mut list = spare.list();
                cursor.texts::<E>(&mut list)?;
                spare.keep_list(std::mem::replace(&mut user.groups, list));
            }
            3 if cursor.skip("null") => user.extra = Vec::new(),
            3 => {
                let mut extra = spare.extra();
                members::<E>(cursor, |cursor, key| {
                    let mut list = spare.list();
                    cursor.texts::<E>(&mut list)?;
                    extra.push((key, list));
                    Ok(())
                })?;
                user.extra = extra;
            }
            _ => cursor.pass::<E>()?,
        }
        Ok(())
    })?;
    users.put(cursor.slice(start, cursor.at())?, rest, &user);
    Ok(Some(user))
}

fn object_ref<'a, const E: bool>(cursor: &mut Cursor<'a>) -> Step<Option<ObjectRef<'a>>> {
    if cursor.skip("null") {
        return Ok(None);
    }
    const KEYS: Keys<8> = keys![
        "resource",
        "namespace",
        "name",
        "uid",
        "apiGroup",
        "apiVersion",
        "resourceVersion",
        "subresource",
    ];
    let mut object = ObjectRef::default();
    members_of::<E, _>(cursor, &KEYS, |cursor, key| {
        let field = match key {
            0 => &mut object.resource,
            1 => &mut object.namespace,
            2 => &mut object.name,
            3 => &mut object.uid,
            4 => &mut object.api_group,
            5 => &mut object.api_version,
            6 => &mut object.resource_version,
            7 => &mut object.subresource,
            _ => return cursor.pass::<E>(),
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
    const KEYS: Keys<5> = keys!["metadata", "status", "message", "reason", "code"];
    let mut status = ResponseStatus::default();
    members_of::<E, _>(cursor, &KEYS, |cursor, key| {
        match key {
            1 => status.status = text::<E>(cursor)?,
            2 => status.message = text::<E>(cursor)?,
            3 => status.reason = text::<E>(cursor)?,
            4 => status.code = cursor.int::<E>()?,
            _ => cursor.pass::<E>()?,
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
    plain: Option<&'a OnceCell<String>>,
) -> Step<Body<'a>> {
    if matches!(cursor.peek(), b'{' | b'[') {
        let start = cursor.at();
        cursor.jump::<E>()?;
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
