//! An audit event, key by key; the bodies are located and jumped over.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::Fallback;
use super::cursor::{Cursor, Step};
use super::spare::Spare;
use crate::decode::audit::{Parsed, SKIPPED};
use crate::event::{AuditEvent, Body, BodyText, Level, ObjectRef, ResponseStatus, Stage, User};

/// What an escaped body's text goes to when it is asked for.
#[derive(Debug, Default)]
pub struct Bodies {
    pub request: OnceCell<String>,
    pub response: OnceCell<String>,
}

/// Reads the event whose opening brace is at `cursor` to `parsed`, which is large, is empty before,
/// and is not moved after.
pub fn read<'a, const E: bool>(
    cursor: &mut Cursor<'a>,
    bodies: &'a Bodies,
    spare: &mut Spare,
    parsed: &mut Parsed<'a>,
) -> Step<()> {
    let event = &mut parsed.event;
    let mut seen = [false; 2];
    members::<E>(cursor, |cursor, key| {
        match key.as_ref() {
            "kind" => parsed.kind = text::<E>(cursor)?,
            "apiVersion" => parsed.api_version = text::<E>(cursor)?,
            "level" => event.level = Level::parse(cursor.text::<E>()?),
            "auditID" => event.audit_id = text::<E>(cursor)?,
            "stage" => event.stage = Stage::parse(cursor.text::<E>()?),
            "requestURI" => event.request_uri = text::<E>(cursor)?,
            "verb" => event.verb = text::<E>(cursor)?,
            "user" => {
                let user = user::<E>(cursor, spare)?;
                spare.keep_user(std::mem::replace(&mut event.user, user.unwrap_or_default()));
            }
            "impersonatedUser" => event.impersonated_user = user::<E>(cursor, spare)?,
            "sourceIPs" => {
                let mut list = spare.list();
                cursor.texts::<E>(&mut list)?;
                spare.keep_list(std::mem::replace(&mut event.source_ips, list));
            }
            "userAgent" => event.user_agent = text::<E>(cursor)?,
            "objectRef" => event.object_ref = object_ref::<E>(cursor)?,
            "responseStatus" => event.response_status = response_status::<E>(cursor)?,
            "requestObject" => {
                let once = !std::mem::replace(&mut seen[0], true);
                event.request_object = body::<E>(cursor, once.then_some(&bodies.request))?;
            }
            "responseObject" => {
                let once = !std::mem::replace(&mut seen[1], true);
                event.response_object = body::<E>(cursor, once.then_some(&bodies.response))?;
            }
            "requestReceivedTimestamp" => event.request_received = cursor.time::<E>()?.0,
            "stageTimestamp" => event.stage_time = cursor.time::<E>()?.0,
            "annotations" => annotations::<E>(cursor, event, spare)?,
            _ => cursor.pass::<E>()?,
        }
        Ok(())
    })
}

#[inline]
fn text<'a, const E: bool>(cursor: &mut Cursor<'a>) -> Step<Cow<'a, str>> {
    cursor.text::<E>().map(Cow::Borrowed)
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

fn user<'a, const E: bool>(cursor: &mut Cursor<'a>, spare: &mut Spare) -> Step<Option<User<'a>>> {
    if cursor.skip("null") {
        return Ok(None);
    }
    let mut user = User::default();
    members::<E>(cursor, |cursor, key| {
        match key.as_ref() {
            "username" => user.username = text::<E>(cursor)?,
            "uid" => user.uid = text::<E>(cursor)?,
            "groups" => {
                let mut list = spare.list();
                cursor.texts::<E>(&mut list)?;
                spare.keep_list(std::mem::replace(&mut user.groups, list));
            }
            "extra" if cursor.skip("null") => user.extra = Vec::new(),
            "extra" => {
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
    Ok(Some(user))
}

fn object_ref<'a, const E: bool>(cursor: &mut Cursor<'a>) -> Step<Option<ObjectRef<'a>>> {
    if cursor.skip("null") {
        return Ok(None);
    }
    let mut object = ObjectRef::default();
    members::<E>(cursor, |cursor, key| {
        let field = match key.as_ref() {
            "resource" => &mut object.resource,
            "namespace" => &mut object.namespace,
            "name" => &mut object.name,
            "uid" => &mut object.uid,
            "apiGroup" => &mut object.api_group,
            "apiVersion" => &mut object.api_version,
            "resourceVersion" => &mut object.resource_version,
            "subresource" => &mut object.subresource,
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
    let mut status = ResponseStatus::default();
    members::<E>(cursor, |cursor, key| {
        match key.as_ref() {
            "code" => status.code = cursor.int::<E>()?,
            "status" => status.status = text::<E>(cursor)?,
            "reason" => status.reason = text::<E>(cursor)?,
            "message" => status.message = text::<E>(cursor)?,
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
