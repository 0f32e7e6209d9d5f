//! From a chunk's bytes to records: finds them, routes on category, borrows what it needs.
//!
//! Chunks come from [`crate::source`]; each [`Record`] goes to [`crate::detect`] while its bytes are
//! still borrowed. Nothing is dropped uncounted: what is no audit event says why ([`Ignored`]), and
//! what is damaged says how ([`Damage`]), with what could be salvaged of it.
//!
//! A value in a chunk may be a diagnostic record, a `{"records":[…]}` document, a raw audit event,
//! an `EventList`, an array of those, or a row exported from Log Analytics; [`scan`] tells them
//! apart by their keys. The [`walker`] reads a record in one pass; what it leaves, serde_json parses
//! ([`envelope`], [`audit`]), with the same result; and only what that refuses is walked over
//! leniently ([`wire`]).

/// A closed set of reasons, each with the name that it has as a metric's label.
macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $( $(#[$variant_doc:meta])* $variant:ident = $label:literal, )* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $( $(#[$variant_doc])* $variant, )* }

        impl $name {
            /// Every variant, so that counters can start at zero.
            pub const ALL: &[$name] = &[$( $name::$variant, )*];

            /// The label's value in metrics.
            pub fn as_str(self) -> &'static str {
                match self { $( $name::$variant => $label, )* }
            }
        }
    };
}

pub mod apiserver;
mod attempt;
pub mod audit;
mod clusters;
mod decoder;
pub mod envelope;
mod payload;
mod row;
pub mod scan;
pub mod unescape;
pub mod walker;
pub mod wire;

pub use decoder::{Decoder, decode};
pub use walker::Fallback;

use crate::event::{AuditEvent, Origin};

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
    pub form: Form,
    pub payload: Payload<'a>,
    /// Why the record goes to quarantine; its payload is then what could be salvaged.
    pub damage: Option<Damage>,
    /// Why the walker left the record to the full parse, if it did.
    pub fallback: Option<Fallback>,
    /// The record's text as received.
    pub raw: &'a [u8],
}

/// Takes what a decoder reads, and may spare it from reading the same again.
pub trait Receiver {
    fn record(&mut self, record: Record<'_>);

    /// What the last record, an audit event, came to, where every event comes to that which agrees with
    /// it in all but audit ID, times, the object's uid and version, and bodies; `None` where it may
    /// come to more. Bodies that were read are the decoder's to know of.
    fn note(&self) -> Option<&[u64]>;

    /// Whether such an event would still come to that.
    fn holds(&self, note: &[u64]) -> bool;

    /// There was such an event.
    fn again(&mut self, repeat: Repeat<'_>);
}

/// An audit event that was not read, because it comes to what one like it came to.
#[derive(Debug)]
pub struct Repeat<'a> {
    pub origin: Origin,
    pub form: Form,
    /// As [`AuditEvent::time`].
    pub time: Option<jiff::Timestamp>,
    pub note: &'a [u64],
}

#[derive(Debug, PartialEq)]
pub enum Payload<'a> {
    Audit(&'a AuditEvent<'a>),
    /// One line of the API server's own log.
    ApiServer(apiserver::Line<'a>),
    /// Nothing for us, or nothing left to judge.
    Nothing(Ignored),
}

/// A payload that is still ours.
#[derive(Debug, PartialEq)]
pub enum Content<'a> {
    Event(Box<AuditEvent<'a>>),
    Line(apiserver::Line<'a>),
    Nothing(Ignored),
}

labels! {
    /// Why a record that is whole is not judged; closed, for metrics.
    Ignored {
        /// Another category (`kube-scheduler`, `guard`, …).
        Category = "category",
        /// `{"kind":"Event"}` and nothing else.
        EmptyEvent = "empty-event",
        /// A record of ours without a `properties.log`, or with an empty one.
        NoPayload = "no-payload",
        /// klog text in a `kube-audit` record, or in one that names no category.
        Text = "text",
        /// JSON that is neither an envelope nor an audit event.
        Unrelated = "unrelated",
        /// Damaged, and nothing could be salvaged.
        Damaged = "damaged",
    }
}

labels! {
    /// Why a record is damaged; closed, for metrics.
    Damage {
        /// Not JSON at all, or broken inside.
        NotJson = "not-json",
        /// JSON that ends early.
        CutOff = "cut-off",
        /// A key holds a value of another type than the schema's.
        WrongType = "wrong-type",
        /// Nested 128 levels deep or more.
        TooLarge = "too-large",
        /// Not UTF-8, or an escaped lone surrogate.
        NotUtf8 = "not-utf8",
        /// Our own code failed on it; the text is that of the whole message.
        Defect = "defect",
    }
}

labels! {
    /// The shape in which the payload came; closed, for metrics.
    Form {
        /// `properties.log` is a string.
        Escaped = "escaped",
        /// `properties.log` is the event as an object.
        Object = "object",
        /// `properties` is itself an escaped string.
        EscapedProperties = "escaped-properties",
        /// No envelope.
        Raw = "raw",
        /// A row of Log Analytics' `AKSAudit` or `AKSAuditAdmin`.
        Row = "row",
    }
}
