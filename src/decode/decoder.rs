//! The walk over a chunk: from its values to the records in them.

use jiff::Timestamp;
use memchr::{memchr, memrchr};
use serde::de::IgnoredAny;

use super::attempt::Ends;
use super::clusters::Clusters;
use super::envelope::{Envelope, Log, Properties, Route};
use super::scan::{Elements, End, Shape, close, shape, trim, value_end};
use super::walker::{self, Memory, Spare};
use super::{
    Content, Damage, Fallback, Form, Ignored, Payload, Receiver, Record, RecordPosition, Repeat,
};
use super::{audit, envelope, payload, row, wire};
use crate::event::{Category, Origin};
use crate::source::{Chunk, Framing};

/// What the decoder hands its records to.
pub type Sink<'s> = &'s mut dyn FnMut(Record<'_>);

/// Wants every record.
struct Each<'s>(Sink<'s>);

impl Receiver for Each<'_> {
    fn record(&mut self, record: Record<'_>) {
        (self.0)(record);
    }

    fn note(&self) -> Option<&[u64]> {
        None
    }

    fn holds(&self, _note: &[u64]) -> bool {
        false
    }

    fn again(&mut self, _repeat: Repeat<'_>) {
        unreachable!("no note was given");
    }
}

/// Documents may hold documents (an array of `{"records":[…]}`), but not without end.
const MAX_NESTED_DOCUMENTS: usize = 4;

/// Decodes chunks; keeps its buffers and the names of clusters from one to the next. One a thread.
#[derive(Debug)]
pub struct Decoder {
    clusters: Clusters,
    /// The unescaped payload of the record at hand.
    payload: String,
    /// The walker's room for unescaped values.
    pub(super) room: Box<[u8]>,
    pub(super) spare: Spare,
    pub(super) memory: Memory,
    /// Whether records are tried with the walker first.
    pub(super) walks: bool,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder {
            clusters: Clusters::default(),
            payload: String::new(),
            room: vec![0; walker::ROOM].into(),
            spare: Spare::default(),
            memory: Memory::default(),
            walks: true,
        }
    }
}

/// As [`Decoder::decode`], for a single chunk.
pub fn decode(chunk: &Chunk, sink: Sink<'_>) {
    Decoder::default().decode(chunk, sink);
}

impl Decoder {
    /// One that reads every record by the full parse: what the walker is held against.
    pub fn full_parse() -> Decoder {
        Decoder {
            walks: false,
            ..Decoder::default()
        }
    }

    /// Calls `sink` with every record of `chunk`, in order.
    pub fn decode(&mut self, chunk: &Chunk, sink: Sink<'_>) {
        // Notes are another receiver's.
        self.forget_repeats();
        self.decode_for(chunk, &mut Each(sink));
    }

    /// Forgets what a receiver's notes were given for; to be called where they no longer hold.
    pub fn forget_repeats(&mut self) {
        self.memory.repeats.clear();
    }

    /// As [`Decoder::decode`], for a receiver that need not see what comes to the same again. The same
    /// one each time, unless [`Decoder::forget_repeats`] is called.
    pub fn decode_for(&mut self, chunk: &Chunk, sink: &mut dyn Receiver) {
        let mut walk = Walk {
            decoder: self,
            chunk: chunk.position,
            fallback: None,
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
            Framing::Lines => walk.lines(bytes, start),
        }
    }
}

/// Lines are checked to be UTF-8 so many bytes at once, which the processor's cache still holds when
/// they are read.
const BLOCK: usize = 64 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What is known of a value before it is looked at.
#[derive(Debug, Clone, Copy, Default)]
struct Context {
    /// How many documents it lies in.
    nested: usize,
    /// Nothing follows it in its text.
    alone: bool,
    /// The walker has left it.
    left: bool,
}

pub(super) struct Walk<'d, 's> {
    pub(super) decoder: &'d mut Decoder,
    chunk: i64,
    /// Why the walker left the record at hand.
    pub(super) fallback: Option<Fallback>,
    pub(super) sink: &'s mut dyn Receiver,
}

/// A record's text and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub raw: &'a [u8],
    pub offset: usize,
}

impl Walk<'_, '_> {
    fn lines(&mut self, bytes: &[u8], mut at: usize) {
        while at < bytes.len() {
            let least = bytes.len().min(at + BLOCK);
            let end = match memrchr(b'\n', &bytes[at..least]) {
                Some(last) => at + last + 1,
                None => memchr(b'\n', &bytes[least..]).map_or(bytes.len(), |next| least + next + 1),
            };
            let block = &bytes[at..end];
            let text = std::str::from_utf8(block).unwrap_or_default();
            let mut line = 0;
            while line < block.len() {
                if let Some(end) = self.walk(text, line, at, Ends::Line) {
                    let after = &block[end..];
                    line = end + usize::from(after.starts_with(b"\r")) + 1;
                    continue;
                }
                let rest = &block[line..];
                let length = memchr(b'\n', rest).unwrap_or(rest.len());
                let context = Context {
                    left: !text.is_empty(),
                    ..Context::default()
                };
                self.value(&rest[..length], at + line, context);
                line += length + 1;
            }
            at = end;
        }
    }

    /// `text` holds one value, or (which no format asks for, but files show) several.
    fn value(&mut self, text: &[u8], offset: usize, context: Context) {
        let (text, skipped) = trim(text);
        let offset = offset + skipped;
        match text.first() {
            None => {}
            Some(b'{') => match shape(text) {
                Shape::Document(at) => self.document(text, at, offset, context),
                shape => {
                    if !context.left
                        && let Ok(valid) = std::str::from_utf8(text)
                        && self.walk(valid, 0, offset, Ends::Text).is_some()
                    {
                        return;
                    }
                    self.object(text, shape, offset, context);
                }
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
            left: false,
        };
        // That the walker left the document says nothing of its elements.
        self.fallback = None;
        // The part that is UTF-8 is looked at by the walker.
        let valid = match std::str::from_utf8(text) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&text[..error.valid_up_to()]).unwrap_or_default(),
        };
        let mut elements = Elements::new(&text[at..]);
        // Where the last element ended.
        let mut after = at;
        let mut cut_inside = false;
        loop {
            let next = at + elements.peek();
            if let Some(end) = self.walk(valid, next, offset, Ends::Element) {
                after = end;
                elements.skip_to(end - at);
                cut_inside = false;
                continue;
            }
            let Some((range, whole)) = elements.next() else {
                break;
            };
            let inner = Context {
                left: next < valid.len(),
                ..inner
            };
            let start = at + range.start;
            after = at + range.end;
            cut_inside = !whole;
            self.value(&text[start..after], offset + start, inner);
        }
        let rest_at = at + elements.at();
        match elements.end() {
            // The element that is cut off has said so.
            End::Cut if cut_inside => {}
            End::Cut => self.nothing(&text[after..], offset + after, Damage::CutOff),
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
            left: false,
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
                Err(error) => match audit::parse_around_bodies(text, &error) {
                    Some(parsed) => {
                        let payload = audit::finish(parsed);
                        return self.raw_event(payload, place, damage);
                    }
                    None => error,
                },
            },
            Shape::Row | Shape::Unknown | Shape::Document(_) => {
                match serde_json::from_str::<IgnoredAny>(text) {
                    Ok(_) if shape == Shape::Row => return self.row(text, place, damage),
                    Ok(_) => {
                        let ignored = Content::Nothing(Ignored::Unrelated);
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
                left: false,
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
        let origin = self.origin(&envelope.resource_id, route, envelope.time.0);
        let (log, form, found) = match &envelope.properties {
            Properties::Log(log) => (*log, log.form(), None),
            Properties::Escaped(text) => {
                let (log, found) = envelope::inner_log(text);
                (log, Form::EscapedProperties, found)
            }
        };
        self.log(log, origin, route, place, form, damage.or(found));
    }

    pub(super) fn log(
        &mut self,
        log: Log<'_>,
        origin: Origin,
        route: Route,
        place: Place<'_>,
        form: Form,
        damage: Option<Damage>,
    ) {
        if route == Route::Other {
            let ignored = Content::Nothing(Ignored::Category);
            self.emit(origin, place, form, ignored, None);
            return;
        }
        let mut scratch = std::mem::take(&mut self.decoder.payload);
        scratch.clear();
        let (payload, in_payload) = payload::read(log, &origin, &mut scratch);
        self.emit(origin, place, form, payload, damage.or(in_payload));
        self.decoder.payload = scratch;
    }

    pub(super) fn origin(
        &mut self,
        resource_id: &str,
        route: Route,
        time: Option<Timestamp>,
    ) -> Origin {
        Origin {
            cluster: self.decoder.clusters.intern(resource_id),
            category: match route {
                Route::Known(category) => category,
                Route::Unsaid | Route::Other => Category::Raw,
            },
            time,
        }
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

    fn raw_event(&mut self, payload: Content<'_>, place: Place<'_>, damage: Option<Damage>) {
        let origin = self.no_origin();
        self.emit(origin, place, Form::Raw, payload, damage);
    }

    /// Damage of which nothing can be salvaged.
    fn nothing(&mut self, raw: &[u8], offset: usize, damage: Damage) {
        let payload = Content::Nothing(Ignored::Damaged);
        self.raw_event(payload, Place { raw, offset }, Some(damage));
    }

    pub(super) fn no_origin(&mut self) -> Origin {
        self.origin("", Route::Unsaid, None)
    }

    fn emit(
        &mut self,
        origin: Origin,
        place: Place<'_>,
        form: Form,
        content: Content<'_>,
        damage: Option<Damage>,
    ) {
        let event;
        let payload = match content {
            Content::Nothing(_) if damage.is_some() => Payload::Nothing(Ignored::Damaged),
            Content::Nothing(ignored) => Payload::Nothing(ignored),
            Content::Line(line) => Payload::ApiServer(line),
            Content::Event(read) => {
                event = read;
                Payload::Audit(&event)
            }
        };
        self.hand_on(origin, place, form, payload, damage);
    }

    pub(super) fn hand_on(
        &mut self,
        origin: Origin,
        place: Place<'_>,
        form: Form,
        payload: Payload<'_>,
        damage: Option<Damage>,
    ) {
        self.sink.record(Record {
            origin,
            position: RecordPosition {
                chunk: self.chunk,
                offset: u32::try_from(place.offset).unwrap_or(u32::MAX),
            },
            form,
            payload,
            damage,
            fallback: self.fallback.take(),
            raw: place.raw,
        });
    }
}
