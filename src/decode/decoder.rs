//! The walk over a chunk: from its values to the records in them.

use std::collections::HashMap;
use std::sync::Arc;

use memchr::memchr;
use serde::de::IgnoredAny;

use super::envelope::{Envelope, Log, Properties, Route};
use super::scan::{Elements, End, Shape, close, shape, trim, value_end};
use super::{Damage, Form, Ignored, Payload, Record, RecordPosition};
use super::{apiserver, audit, envelope, row, unescape, wire};
use crate::event::{Category, Origin};
use crate::source::{Chunk, Framing};

/// What the decoder hands its records to.
pub type Sink<'s> = &'s mut dyn FnMut(Record<'_>);

/// Documents may hold documents (an array of `{"records":[…]}`), but not without end.
const MAX_NESTED_DOCUMENTS: usize = 4;

/// Decodes chunks; keeps its buffers and the names of clusters from one to the next. One a thread.
#[derive(Debug, Default)]
pub struct Decoder {
    clusters: Clusters,
    /// The unescaped payload of the record at hand.
    payload: String,
}

/// As [`Decoder::decode`], for a single chunk.
pub fn decode(chunk: &Chunk, sink: Sink<'_>) {
    Decoder::default().decode(chunk, sink);
}

impl Decoder {
    /// Calls `sink` with every record of `chunk`, in order.
    pub fn decode(&mut self, chunk: &Chunk, sink: Sink<'_>) {
        let mut walk = Walk {
            decoder: self,
            chunk: chunk.position,
            sink,
        };
        let bytes: &[u8] = &chunk.bytes;
        let start = if bytes.starts_with(BYTE_ORDER_MARK) {
            BYTE_ORDER_MARK.len()
        } else {
            0
        };
        match chunk.framing {
            Framing::Value => walk.value(&bytes[start..], start, Context::default()),
            Framing::Lines => {
                let mut at = start;
                while at < bytes.len() {
                    let end = memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |found| at + found);
                    walk.value(&bytes[at..end], at, Context::default());
                    at = end + 1;
                }
            }
        }
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What is known of a value before it is looked at.
#[derive(Debug, Clone, Copy, Default)]
struct Context {
    /// How many documents it lies in.
    nested: usize,
    /// Nothing follows it in its text.
    alone: bool,
}

struct Walk<'d, 's> {
    decoder: &'d mut Decoder,
    chunk: i64,
    sink: Sink<'s>,
}

/// A record's text and where it stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    raw: &'a [u8],
    offset: usize,
}

impl Walk<'_, '_> {
    /// `text` holds one value, or (which no format asks for, but files show) several.
    fn value(&mut self, text: &[u8], offset: usize, context: Context) {
        let (text, skipped) = trim(text);
        let offset = offset + skipped;
        match text.first() {
            None => {}
            Some(b'{') => match shape(text) {
                Shape::Document(at) => self.document(text, at, offset, context),
                shape => self.object(text, shape, offset, context),
            },
            Some(b'[') => self.document(text, 0, offset, context),
            Some(_) => self.nothing(text, offset, Damage::NotJson),
        }
    }

    /// The elements of the array at `at`.
    fn document(&mut self, text: &[u8], at: usize, offset: usize, context: Context) {
        if context.nested == MAX_NESTED_DOCUMENTS {
            let deep = value_end(text, 0).deep;
            let damage = if deep {
                Damage::TooLarge
            } else {
                Damage::WrongType
            };
            self.nothing(text, offset, damage);
            return;
        }
        let inner = Context {
            nested: context.nested + 1,
            alone: true,
        };
        let mut elements = Elements::new(&text[at..]);
        let mut last = at;
        let mut cut_inside = false;
        for (range, whole) in elements.by_ref() {
            last = at + range.start;
            cut_inside = !whole;
            self.value(&text[last..at + range.end], offset + last, inner);
        }
        let rest_at = at + elements.at();
        match elements.end() {
            // The element that is cut off has said so.
            End::Cut if cut_inside => {}
            End::Cut => self.nothing(&text[last..], offset + last, Damage::CutOff),
            End::Broken => self.nothing(&text[rest_at..], offset + rest_at, Damage::NotJson),
            End::Closed => {
                let close = if at == 0 {
                    Some(rest_at)
                } else {
                    let object = close(text, rest_at, 1);
                    object.whole.then_some(object.end)
                };
                match close {
                    None => self.nothing(&text[rest_at..], offset + rest_at, Damage::CutOff),
                    Some(end) if !context.alone => self.rest(text, end, offset, context),
                    Some(_) => {}
                }
            }
        }
    }

    /// What follows a value, if anything does.
    fn rest(&mut self, text: &[u8], mut at: usize, offset: usize, context: Context) {
        let alone = Context {
            alone: true,
            ..context
        };
        loop {
            let (rest, skipped) = trim(&text[at..]);
            let start = at + skipped;
            if !matches!(rest.first(), Some(b'{' | b'[')) {
                if !rest.is_empty() {
                    self.nothing(rest, offset + start, Damage::NotJson);
                }
                return;
            }
            at = value_end(text, start).end;
            self.value(&text[start..at], offset + start, alone);
        }
    }

    fn object(&mut self, raw: &[u8], shape: Shape, offset: usize, context: Context) {
        let place = Place { raw, offset };
        let lossy = String::from_utf8_lossy(raw);
        let text: &str = &lossy;
        let damage = match lossy {
            std::borrow::Cow::Borrowed(_) => None,
            std::borrow::Cow::Owned(_) => Some(Damage::NotUtf8),
        };
        let refusal = match shape {
            Shape::Envelope => match envelope::parse(text) {
                Ok(envelope) => return self.envelope(envelope, place, damage),
                Err(error) => error,
            },
            Shape::Event => match audit::parse(text) {
                Ok(parsed) => {
                    let payload = audit::finish(parsed);
                    return self.raw_event(payload, place, damage);
                }
                Err(error) => error,
            },
            Shape::Row | Shape::Unknown | Shape::Document(_) => {
                match serde_json::from_str::<IgnoredAny>(text) {
                    Ok(_) if shape == Shape::Row => return self.row(text, place, damage),
                    Ok(_) => {
                        let ignored = Payload::Nothing(Ignored::Unrelated);
                        return self.raw_event(ignored, place, damage);
                    }
                    Err(error) => error,
                }
            }
        };
        let extent = value_end(raw, 0);
        if !context.alone && extent.whole && extent.end < raw.len() {
            let alone = Context {
                alone: true,
                ..context
            };
            self.value(&raw[..extent.end], offset, alone);
            self.rest(raw, extent.end, offset, context);
            return;
        }
        match shape {
            Shape::Envelope => {
                let (envelope, found) = envelope::rescue(text, &refusal);
                self.envelope(envelope, place, damage.or(found));
            }
            Shape::Event => {
                let (payload, found) = audit::rescue(text, &refusal);
                self.raw_event(payload, place, damage.or(found));
            }
            Shape::Row => self.row(text, place, damage.or(Some(wire::reason(&refusal)))),
            Shape::Unknown | Shape::Document(_) => {
                let found = if extent.deep {
                    Damage::TooLarge
                } else {
                    wire::reason(&refusal)
                };
                self.nothing(raw, offset, damage.unwrap_or(found));
            }
        }
    }

    fn envelope(&mut self, envelope: Envelope<'_>, place: Place<'_>, damage: Option<Damage>) {
        let route = envelope::route(&envelope.category);
        let origin = Origin {
            cluster: self.decoder.clusters.intern(&envelope.resource_id),
            category: match route {
                Route::Known(category) => category,
                Route::Unsaid | Route::Other => Category::Raw,
            },
            time: envelope.time.0,
        };
        let (log, form, found) = match &envelope.properties {
            Properties::Log(log) => (*log, log.form(), None),
            Properties::Escaped(text) => {
                let (log, found) = envelope::inner_log(text);
                (log, Form::EscapedProperties, found)
            }
        };
        if route == Route::Other {
            let ignored = Payload::Nothing(Ignored::Category);
            self.emit(origin, place, form, ignored, None);
            return;
        }
        let mut scratch = std::mem::take(&mut self.decoder.payload);
        scratch.clear();
        let (payload, in_payload) = read_log(log, &origin, &mut scratch);
        let damage = damage.or(found).or(in_payload);
        self.emit(origin, place, form, payload, damage);
        self.decoder.payload = scratch;
    }

    fn row(&mut self, text: &str, place: Place<'_>, damage: Option<Damage>) {
        let row = row::read(text);
        let origin = Origin {
            cluster: self.decoder.clusters.intern(&row.resource_id),
            category: row.category,
            time: row.time,
        };
        let (payload, found) = audit::read(&row.event);
        let damage = damage.or(row.damage).or(found);
        self.emit(origin, place, Form::Row, payload, damage);
    }

    fn raw_event(&mut self, payload: Payload<'_>, place: Place<'_>, damage: Option<Damage>) {
        let origin = self.no_origin();
        self.emit(origin, place, Form::Raw, payload, damage);
    }

    /// Damage of which nothing can be salvaged.
    fn nothing(&mut self, raw: &[u8], offset: usize, damage: Damage) {
        let payload = Payload::Nothing(Ignored::Damaged);
        self.raw_event(payload, Place { raw, offset }, Some(damage));
    }

    fn no_origin(&mut self) -> Origin {
        Origin {
            cluster: self.decoder.clusters.intern(""),
            category: Category::Raw,
            time: None,
        }
    }

    fn emit(
        &mut self,
        origin: Origin,
        place: Place<'_>,
        form: Form,
        payload: Payload<'_>,
        damage: Option<Damage>,
    ) {
        let payload = match payload {
            Payload::Nothing(_) if damage.is_some() => Payload::Nothing(Ignored::Damaged),
            payload => payload,
        };
        (self.sink)(Record {
            origin,
            position: RecordPosition {
                chunk: self.chunk,
                offset: u32::try_from(place.offset).unwrap_or(u32::MAX),
            },
            form,
            payload,
            damage,
            raw: place.raw,
        });
    }
}

/// What the log of a record of ours holds; `scratch` takes its text if it has to be unescaped.
fn read_log<'a>(
    log: Log<'a>,
    origin: &Origin,
    scratch: &'a mut String,
) -> (Payload<'a>, Option<Damage>) {
    let (text, damage) = match log {
        Log::Missing => return (Payload::Nothing(Ignored::NoPayload), None),
        Log::Other => {
            let ignored = Payload::Nothing(Ignored::Damaged);
            return (ignored, Some(Damage::WrongType));
        }
        Log::Object(text) => (text, None),
        Log::Escaped(escaped) if memchr(b'\\', escaped.as_bytes()).is_none() => (escaped, None),
        Log::Escaped(escaped) => {
            let damage = unescape::unescape(escaped, scratch);
            (scratch.as_str(), damage)
        }
    };
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace());
    let (payload, found) = if text.is_empty() {
        (Payload::Nothing(Ignored::NoPayload), None)
    } else if origin.category == Category::KubeApiserver {
        let line = apiserver::Line::parse(text, origin.time);
        (Payload::ApiServer(line), None)
    } else if text.starts_with('{') {
        audit::read(text)
    } else if apiserver::has_header(text) || !text.contains("\":") {
        (Payload::Nothing(Ignored::Text), None)
    } else {
        // The rest of an event that was split in two: container runtimes do so at 16 KiB.
        (Payload::Nothing(Ignored::Damaged), Some(Damage::NotJson))
    };
    (payload, damage.or(found))
}

/// The clusters met, so that a record costs no allocation for its cluster's name.
#[derive(Debug, Default)]
struct Clusters {
    /// By the id as written, which is upper case in one place and lower in another.
    names: HashMap<Box<str>, Arc<str>, ahash::RandomState>,
    last: Option<(Box<str>, Arc<str>)>,
}

/// Beyond this many the cache starts again; sites have far fewer.
const MAX_CLUSTERS: usize = 1 << 16;

/// An ARM id is far shorter; what is longer is not kept.
const MAX_CACHED_ID: usize = 1024;

impl Clusters {
    /// `id` in lower case.
    fn intern(&mut self, id: &str) -> Arc<str> {
        if let Some((written, name)) = &self.last
            && **written == *id
        {
            return Arc::clone(name);
        }
        if id.len() > MAX_CACHED_ID {
            return id.to_ascii_lowercase().into();
        }
        let name = match self.names.get(id) {
            Some(name) => Arc::clone(name),
            None => {
                if self.names.len() >= MAX_CLUSTERS {
                    self.names.clear();
                }
                let name: Arc<str> = id.to_ascii_lowercase().into();
                self.names.insert(id.into(), Arc::clone(&name));
                name
            }
        };
        self.last = Some((id.into(), Arc::clone(&name)));
        name
    }
}
