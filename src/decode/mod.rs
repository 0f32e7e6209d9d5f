//! From a chunk's bytes to records: finds them, routes on category, borrows what it needs.
//!
//! Chunks come from [`crate::source`]; each [`Record`] goes to [`crate::detect`] while its bytes are
//! still borrowed. Nothing is dropped uncounted: what is no audit event says why.

pub mod apiserver;
pub mod audit;
pub mod envelope;

use crate::event::{AuditEvent, Origin};
use crate::source::Chunk;

/// Where a record lies: the chunk's position and the record's byte offset in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordPosition {
    pub chunk: i64,
    pub offset: u32,
}

/// One record, borrowed from its chunk or from the unescaped payload.
#[derive(Debug)]
pub struct Record<'a> {
    pub origin: Origin,
    pub position: RecordPosition,
    pub payload: Payload<'a>,
    /// Why the record goes to quarantine; its payload is then what could be salvaged.
    pub damage: Option<Damage>,
    /// The record's text as received.
    pub raw: &'a [u8],
}

#[derive(Debug)]
pub enum Payload<'a> {
    Audit(Box<AuditEvent<'a>>),
    /// One line of the API server's own log.
    ApiServer(apiserver::Line<'a>),
    /// Nothing for us, or nothing left to judge.
    Nothing(Ignored),
}

/// Why a record that is whole is not judged; closed, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ignored {
    /// Another category (`kube-scheduler`, `guard`, …).
    Category,
    /// `{"kind":"Event"}` and nothing else.
    EmptyEvent,
    /// klog text in a `kube-audit` record, or text that is no request line.
    Text,
    /// JSON that is neither an envelope nor an audit event.
    Unrelated,
    /// Damaged, and nothing could be salvaged.
    Damaged,
}

/// Why a record is damaged; closed, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Damage {
    /// Not JSON at all.
    NotJson,
    /// JSON that ends early.
    CutOff,
    /// A key holds a value of another type than the schema's.
    WrongType,
    /// Nested deeper than 128 levels, or longer than the bound.
    TooLarge,
    /// Not UTF-8.
    NotUtf8,
}

/// The shape in which the payload came; closed, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// `properties.log` is a string that holds the event.
    Escaped,
    /// `properties.log` is the event as an object.
    Object,
    /// `properties` is itself an escaped string.
    EscapedProperties,
    /// No envelope.
    Raw,
}

/// Calls `sink` with every record of `chunk`, in order.
pub fn decode(_chunk: &Chunk, _sink: &mut dyn FnMut(Record<'_>)) {}
