//! The walker: a record read straight from its text as it came, its event's head from the still
//! escaped `properties.log`, in one pass.
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
//! What is written around every event, and each user, is the same text again and again: it is compared
//! with what was read before ([`Memory`]), which comes to the same as reading it. An event like one that
//! came to nothing is not read at all, but for the places where they may differ (`repeats`).
//!
//! Nothing is read beyond the record: a line's end is a control character, which ends every string
//! and every jump.

pub mod block;
mod cursor;
mod event;
mod few;
pub mod jump;
mod repeats;
mod spare;
mod stretch;
mod time;
mod users;

use std::borrow::Cow;
use std::ops::Range;

use jiff::Timestamp;

pub use event::Bodies;
pub use repeats::Again;
pub use spare::Spare;

use cursor::{Cursor, ESCAPED, PLAIN, Step};
use repeats::Repeats;
use stretch::{Next, Read, State, Stretches};
use time::Minute;
use users::Users;

use super::audit::Parsed;
use super::envelope::{Route, route};
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
    pub around: Around<'a>,
    pub log: Found<'a>,
}

/// What a record says around its event.
pub struct Around<'a> {
    pub resource_id: Cow<'a, str>,
    pub category: Cow<'a, str>,
    pub time: Option<Timestamp>,
    /// A hash of `resource_id` and `category`, where there is a log.
    pub names: u64,
}

/// What the walker found in `properties.log`.
pub enum Found<'a> {
    Missing,
    /// An event: see [`Buffers::event`].
    Event,
    /// An event that agrees with one that came to nothing; it was not read.
    Again(Again),
    /// Text that is no event, or not for us: the inside of a string, still escaped.
    Text(&'a str),
}

/// What was read before and need not be read again. Belongs to one worker thread.
#[derive(Debug, Default)]
pub struct Memory {
    stretches: Stretches,
    users: Users,
    pub(super) repeats: Repeats,
    minute: Minute,
}

/// Where unescaped text goes, and lists to use again.
pub struct Buffers<'a, 's> {
    pub room: &'a mut [u8],
    pub bodies: &'a Bodies,
    pub spare: &'s mut Spare,
    pub memory: &'s mut Memory,
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
        memory,
    } = buffers;
    let Memory {
        stretches,
        users,
        repeats,
        minute,
    } = memory;
    let mut cursor = Cursor::new(text, at, room);
    cursor.minute = *minute;
    let mut around = Around {
        resource_id: Cow::Borrowed(""),
        category: Cow::Borrowed(""),
        time: None,
        names: 0,
    };
    let mut found = Found::Missing;
    // The names that `around.names` is of.
    let mut named = None;
    let mut state = State::default();
    loop {
        let start = cursor.at();
        let next = match stretches.find(state, cursor.rest()) {
            Some((length, read)) => {
                let value = |range: &Range<usize>| {
                    cursor
                        .slice(start + range.start, start + range.end)
                        .map(Cow::Borrowed)
                };
                if let Some(range) = &read.resource_id {
                    around.resource_id = value(range)?;
                }
                if let Some(range) = &read.category {
                    around.category = value(range)?;
                }
                state = read.after;
                let next = read.next;
                cursor.skip_bytes(length);
                next
            }
            None => {
                let before = state;
                let room = cursor.room();
                let mut values = Values::default();
                let next = stretch(&mut cursor, &mut state, &mut values)?;
                let within = |value: Option<(&str, usize)>| {
                    value.map(|(text, at)| at - start..at - start + text.len())
                };
                let read = Read {
                    after: state,
                    next,
                    resource_id: within(values.resource_id),
                    category: within(values.category),
                };
                // What was unescaped, or is no string, does not stand in the text.
                if cursor.room() == room && !values.missing {
                    stretches.put(before, cursor.slice(start, cursor.at())?, read);
                }
                if let Some((text, _)) = values.resource_id {
                    around.resource_id = Cow::Borrowed(text);
                }
                if let Some((text, _)) = values.category {
                    around.category = Cow::Borrowed(text);
                }
                next
            }
        };
        match next {
            Next::Time => around.time = cursor.time::<PLAIN>()?.0,
            Next::Log => {
                around.names = repeats.names(&around.resource_id, &around.category);
                named = Some(places_of(&around));
                found = log(
                    &mut cursor,
                    &around.category,
                    bodies,
                    spare,
                    users,
                    (repeats, around.names),
                    event,
                )?;
            }
            Next::End => break,
        }
    }
    if !state.is_record || state.payloads > 1 {
        return Err(Fallback::Form);
    }
    if named.is_some_and(|named| named != places_of(&around)) {
        around.names = repeats.names(&around.resource_id, &around.category);
    }
    *minute = cursor.minute;
    Ok(Walked {
        end: cursor.at(),
        around,
        log: found,
    })
}

/// Where the names stand: texts of one record that stand in one place are the same.
fn places_of(around: &Around<'_>) -> [(*const u8, usize); 2] {
    [&around.resource_id, &around.category].map(|name| (name.as_ptr(), name.len()))
}

/// The last of each key in a stretch, and where it begins.
#[derive(Default)]
struct Values<'a> {
    resource_id: Option<(&'a str, usize)>,
    category: Option<(&'a str, usize)>,
    /// One of them was `null`.
    missing: bool,
}

impl<'a> Values<'a> {
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Step<Option<(&'a str, usize)>> {
        self.missing |= cursor.peek() != b'"';
        let start = cursor.at() + 1;
        Ok(Some((cursor.text::<PLAIN>()?, start)))
    }
}

/// To the next time, log, or the record's end.
fn stretch<'a>(cursor: &mut Cursor<'a>, state: &mut State, values: &mut Values<'a>) -> Step<Next> {
    // Whether the key of a member is next, without a comma before it.
    let mut first = false;
    if !state.open {
        cursor.expect("{")?;
        state.open = true;
        first = true;
    }
    loop {
        let close = !std::mem::take(&mut first) && !cursor.more(b'}')?;
        match state.properties {
            Some(logs) if close => {
                // The last one counts, but what the first one left in the buffers does not.
                if logs > 1 {
                    return Err(Fallback::Form);
                }
                state.properties = None;
            }
            None if close => return Ok(Next::End),
            Some(logs) => {
                if cursor.key::<PLAIN>()? == "log" {
                    state.properties = Some(logs.saturating_add(1));
                    return Ok(Next::Log);
                }
                cursor.pass::<PLAIN>()?;
            }
            None => {
                let key = cursor.key::<PLAIN>()?;
                match key.as_ref() {
                    "time" | "TimeGenerated" => return Ok(Next::Time),
                    "resourceId" | "ResourceId" | "_ResourceId" => {
                        values.resource_id = values.read(cursor)?;
                    }
                    "category" | "Category" => {
                        state.is_record |= key == "category";
                        values.category = values.read(cursor)?;
                    }
                    "properties" => {
                        state.is_record = true;
                        state.payloads = state.payloads.saturating_add(1);
                        if cursor.skip("null") {
                            continue;
                        }
                        if !cursor.skip("{") {
                            return Err(Fallback::Form);
                        }
                        if !cursor.empty(b'}') {
                            state.properties = Some(0);
                            first = true;
                        }
                    }
                    "log_s" => {
                        state.is_record = true;
                        state.payloads = state.payloads.saturating_add(1);
                        return Ok(Next::Log);
                    }
                    "operationName" => cursor.pass::<PLAIN>()?,
                    other if !state.is_record && decides_otherwise(other) => {
                        return Err(Fallback::Form);
                    }
                    _ => cursor.pass::<PLAIN>()?,
                }
            }
        }
    }
}

/// Reads the raw event at `at` of `text`, and says where it ends.
pub fn raw_event<'a>(
    text: &'a str,
    at: usize,
    buffers: Buffers<'a, '_>,
) -> Result<usize, Fallback> {
    let mut cursor = Cursor::new(text, at, buffers.room);
    event::read::<PLAIN>(
        &mut cursor,
        buffers.bodies,
        buffers.spare,
        &mut buffers.memory.users,
        &mut buffers.memory.repeats.gaps,
        buffers.event,
    )?;
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

fn log<'a>(
    cursor: &mut Cursor<'a>,
    category: &str,
    bodies: &'a Bodies,
    spare: &mut Spare,
    users: &mut Users,
    (repeats, about): (&mut Repeats, u64),
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
    let start = cursor.at();
    let again = repeats.find(cursor.whole(), start, about, &mut cursor.minute);
    let found = match again {
        Some(again) => {
            cursor.skip_bytes(again.length);
            Found::Again(again)
        }
        None => {
            let gaps = &mut repeats.gaps;
            event::read::<ESCAPED>(cursor, bodies, spare, users, gaps, event)?;
            gaps.end(cursor.at());
            Found::Event
        }
    };
    while cursor.skip("\\n") {}
    cursor.expect("\"")?;
    Ok(found)
}
