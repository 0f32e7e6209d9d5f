//! Where bytes come in: event hubs and archives.
//!
//! A source yields [`Batch`]es of owned bytes, each with the partition it came from and the
//! positions it covers. A file is a partition and a byte offset is a position, so that archives and
//! hubs share one type and everything behind this module is the same for both. Batches go to
//! [`crate::decode`].

pub mod archive;
pub mod eventhubs;
pub mod pacing;

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

/// One ordered stream of bytes: a partition of a hub for one consumer group, or a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// What the partition belongs to: `namespace/hub/consumer-group`, or `archive`.
    pub source: Arc<str>,
    /// The partition's id in the hub, or the file's path (`-` for standard input).
    pub id: Arc<str>,
}

/// How far a partition has been read.
///
/// In a hub: the sequence number of the last message read, −1 before the first. In a file: the
/// number of (decompressed) bytes read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub i64);

impl Position {
    /// Before the first message of a hub's partition.
    pub const START: Position = Position(-1);
}

/// How the values in a [`Chunk`] lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// JSON values, one a line; a line that is no whole value is damage.
    Lines,
    /// One JSON value, which may hold line breaks between its tokens.
    Value,
}

/// Bytes that decode can read by themselves: no record spans two chunks.
#[derive(Debug, Clone)]
pub struct Chunk {
    pub bytes: Bytes,
    /// Sequence number of the message, or byte offset of the chunk in its (decompressed) file.
    pub position: i64,
    pub framing: Framing,
    /// When the hub took the message in; `None` for archives.
    pub enqueued: Option<Timestamp>,
}

/// A run of chunks of one partition, covering the positions `(from, to]`.
#[derive(Debug, Clone)]
pub struct Batch {
    pub partition: Arc<Partition>,
    pub from: Position,
    pub to: Position,
    pub chunks: Vec<Chunk>,
    /// The partition had nothing more when this batch was made; a batch may be empty to say so.
    pub at_end: bool,
}
