//! The walker: a record read straight from its text as it came, its event's head from the still
//! escaped `properties.log`, each byte looked at once.
//!
//! Takes the text of a record from [`super::Decoder`] and gives what the full parse
//! ([`super::envelope`], [`super::audit`]) would give, borrowed; or gives up and says why
//! ([`Fallback`]), and the full parse has the record. It knows the spelling that Go and AKS write:
//! no white space between tokens, no escapes around the event but `\"` and `\\`. The order of keys is
//! free, and a value that is unusual is unescaped and parsed by itself.
//!
//! **Bodies** (`requestObject`, `responseObject`) are jumped over, and unescaped when a fact asks for
//! one. Of a body that is an object or array only its structure is checked, by both ways of reading:
//! its strings end, its brackets are balanced, and it is not nested 128 levels deep. So a record that
//! was cut off or spliced anywhere is damage, as is one with a control character or a broken escape
//! around the event. A flaw between the tokens of a body that leaves its structure whole (`{"a":}`)
//! is no damage of the record: such a body is text that does not parse, and when it is read, its
//! facts are unknown. Everything outside the bodies is held to the whole of JSON.
//!
//! Nothing is read beyond the record: a line's end is a control character, which ends every string
//! and every jump.

pub mod block;
mod cursor;
mod event;
pub mod jump;
mod spare;
mod time;

use std::borrow::Cow;

pub use event::Bodies;
pub use spare::Spare;

use cursor::{Cursor, ESCAPED, PLAIN, Step};

use super::audit::Parsed;
use super::envelope::{Route, route};
use super::wire::Time;
use crate::event::Category;

labels! {
    /// Why the walker left a record to the full parse; closed, for metrics.
    Fallback {
        /// Another shape than a record with its event as a string, or than a raw event.
        Form = "form",
        /// White space, a broken token, or the record's early end.
        Syntax = "syntax",
        /// An escape around the event other than `\"` and `\\`.
        Escape = "escape",
        /// A value of another type than the schema's, or one that takes more care.
        Value = "value",
        /// More text to unescape than there is room for.
        Room = "room",
    }
}

/// Bytes of the room for unescaped values; an event's head needs a few hundred.
pub const ROOM: usize = 64 * 1024;

/// A record, read.
pub struct Walked<'a> {
    /// The index behind its closing brace.
    pub end: usize,
    pub resource_id: Cow<'a, str>,
    pub category: Cow<'a, str>,
    pub time: Time,
    pub log: Found<'a>,
}

/// What the walker found in `properties.log`.
pub enum Found<'a> {
    Missing,
    /// An event: see [`Buffers::event`].
    Event,
    /// Text that is no event, or not for us: the inside of a string, still escaped.
    Text(&'a str),
}

/// Where unescaped text goes, and lists to use again.
pub struct Buffers<'a, 's> {
    pub room: &'a mut [u8],
    pub bodies: &'a Bodies,
    pub spare: &'s mut Spare,
    /// Where an event is read to: empty before.
    pub event: &'s mut Parsed<'a>,
}

/// Reads the diagnostic record at `at` of `text`.
pub fn record<'a>(
    text: &'a str,
    at: usize,
    buffers: Buffers<'a, '_>,
) -> Result<Walked<'a>, Fallback> {
    let Buffers {
        room,
        bodies,
        spare,
        event,
    } = buffers;
    let mut cursor = Cursor::new(text, at, room);
    let mut walked = Walked {
        end: at,
        resource_id: Cow::Borrowed(""),
        category: Cow::Borrowed(""),
        time: Time(None),
        log: Found::Missing,
    };
    // Only these two keys say that the object is a record; see `scan::shape`.
    let mut is_record = false;
    let mut payloads = 0;
    cursor.expect("{")?;
    loop {
        let key = cursor.key::<PLAIN>()?;
        match key.as_ref() {
            "time" | "TimeGenerated" => walked.time = cursor.time::<PLAIN>()?,
            "resourceId" | "ResourceId" | "_ResourceId" => {
                walked.resource_id = Cow::Borrowed(cursor.text::<PLAIN>()?);
            }
            "category" | "Category" => {
                is_record |= key == "category";
                walked.category = Cow::Borrowed(cursor.text::<PLAIN>()?);
            }
            "properties" => {
                is_record = true;
                payloads += 1;
                walked.log = properties(&mut cursor, &walked.category, bodies, spare, event)?;
            }
            "log_s" => {
                is_record = true;
                payloads += 1;
                walked.log = log(&mut cursor, &walked.category, bodies, spare, event)?;
            }
            "operationName" => cursor.pass::<PLAIN>()?,
            other if !is_record && decides_otherwise(other) => return Err(Fallback::Form),
            _ => cursor.pass::<PLAIN>()?,
        }
        if !cursor.more(b'}')? {
            break;
        }
    }
    if !is_record || payloads > 1 {
        return Err(Fallback::Form);
    }
    walked.end = cursor.at();
    Ok(walked)
}

/// Reads the raw event at `at` of `text`, and says where it ends.
pub fn raw_event<'a>(
    text: &'a str,
    at: usize,
    buffers: Buffers<'a, '_>,
) -> Result<usize, Fallback> {
    let mut cursor = Cursor::new(text, at, buffers.room);
    event::read::<PLAIN>(&mut cursor, buffers.bodies, buffers.spare, buffers.event)?;
    Ok(cursor.at())
}

/// Whether the object may be something else than a record, as [`super::scan::shape`] has it.
fn decides_otherwise(key: &str) -> bool {
    matches!(
        key,
        "records"
            | "items"
            | "kind"
            | "auditID"
            | "requestURI"
            | "objectRef"
            | "sourceIPs"
            | "impersonatedUser"
            | "requestReceivedTimestamp"
            | "stageTimestamp"
            | "AuditId"
            | "RequestUri"
            | "ObjectRef"
            | "SourceIps"
            | "RequestReceivedTime"
    )
}

fn properties<'a>(
    cursor: &mut Cursor<'a>,
    category: &str,
    bodies: &'a Bodies,
    spare: &mut Spare,
    event: &mut Parsed<'a>,
) -> Step<Found<'a>> {
    let mut found = Found::Missing;
    if cursor.skip("null") {
        return Ok(found);
    }
    if !cursor.skip("{") {
        return Err(Fallback::Form);
    }
    if cursor.empty(b'}') {
        return Ok(found);
    }
    let mut logs = 0;
    loop {
        let key = cursor.key::<PLAIN>()?;
        if key == "log" {
            logs += 1;
            found = log(cursor, category, bodies, spare, event)?;
        } else {
            cursor.pass::<PLAIN>()?;
        }
        if !cursor.more(b'}')? {
            break;
        }
    }
    // The last one counts, but what the first one left in the buffers does not.
    if logs > 1 {
        return Err(Fallback::Form);
    }
    Ok(found)
}

fn log<'a>(
    cursor: &mut Cursor<'a>,
    category: &str,
    bodies: &'a Bodies,
    spare: &mut Spare,
    event: &mut Parsed<'a>,
) -> Step<Found<'a>> {
    if cursor.skip("null") {
        return Ok(Found::Missing);
    }
    let audit = match route(category) {
        Route::Known(Category::KubeApiserver) | Route::Other => false,
        Route::Known(_) | Route::Unsaid => true,
    };
    if !(audit && cursor.rest().starts_with(b"\"{")) {
        return match cursor.peek() {
            b'"' => cursor.any_string().map(Found::Text),
            _ => Err(Fallback::Form),
        };
    }
    cursor.expect("\"")?;
    event::read::<ESCAPED>(cursor, bodies, spare, event)?;
    while cursor.skip("\\n") {}
    cursor.expect("\"")?;
    Ok(Found::Event)
}
