//! Archives: files, folders, globs and standard input, plain or compressed, told by their content.
//!
//! [`inputs`] lists what a command line names, in order. [`Input::open`] looks into one and gives a
//! [`Reader`], whose batches go to [`crate::decode`]: blocks of whole lines where a file holds a
//! record a line, single values where it is a document. Both are read as a stream, so that memory
//! does not grow with the file. A file that cannot be read on is said and ends; the others go on.

mod inflate;
mod inputs;
mod reader;
mod split;

use std::fmt;
use std::io;

pub use inputs::{Input, inputs};
pub use reader::Reader;

/// Bounds on what a file may ask of us.
#[derive(Debug, Clone, PartialEq)]
pub struct ArchiveOptions {
    /// How many bytes a batch has, about.
    pub block: usize,
    /// The longest record, in bytes; a longer one is skipped, but for its first `block` bytes,
    /// which are still judged.
    pub max_record: usize,
    /// How many bytes a compressed file may inflate to.
    pub max_inflated: u64,
    /// How many times its own size a compressed file may inflate to, once it has passed
    /// `ratio_from`.
    pub max_ratio: u64,
    /// In bytes, inflated.
    pub ratio_from: u64,
}

impl Default for ArchiveOptions {
    fn default() -> Self {
        ArchiveOptions {
            block: 1 << 20,
            // The API server drops events far smaller than this.
            max_record: 64 << 20,
            // An hour of the busiest cluster is some ten gigabytes.
            max_inflated: 1 << 40,
            // Audit logs shrink 10 to 60 times; nothing but a bomb comes near zlib's limit of 1032.
            // Memory is flat either way: what the bound saves is time, so that small files, however
            // monotonous, never meet it.
            max_ratio: 400,
            ratio_from: 1 << 30,
        }
    }
}

/// What went wrong with an archive. After all but [`ArchiveError::RecordTooLong`] the reader ends.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("no file or folder matches `{0}`")]
    NoMatch(String),
    #[error("`{pattern}` is no glob: {reason}")]
    BadGlob { pattern: String, reason: String },
    #[error("cannot open {input}: {error}")]
    Open { input: String, error: io::Error },
    #[error("cannot read {input} beyond byte {position}: {error}")]
    Read {
        input: String,
        /// In the inflated stream.
        position: u64,
        error: io::Error,
    },
    #[error(
        "{input} is {found}, which cannot be read; give JSON lines or a JSON document, plain, gzip or zstd"
    )]
    Unsupported { input: String, found: Content },
    #[error("{input} inflates to more than {limit} bytes; it was read up to there")]
    InflatesTooFar { input: String, limit: u64 },
    #[error("{input} inflates more than {limit} times; it was read up to byte {position}")]
    InflatesTooMuch {
        input: String,
        limit: u64,
        position: u64,
    },
    #[error("{input} holds a record of more than {limit} bytes at byte {position}; it was skipped")]
    RecordTooLong {
        input: String,
        limit: usize,
        position: u64,
    },
    #[error("{input} ends at byte {position} within a JSON document")]
    CutOff { input: String, position: u64 },
}

impl ArchiveError {
    /// The kind of error, as a metric's label.
    pub fn as_str(&self) -> &'static str {
        match self {
            ArchiveError::NoMatch(_) => "no-match",
            ArchiveError::BadGlob { .. } => "bad-glob",
            ArchiveError::Open { .. } => "open",
            ArchiveError::Read { .. } => "read",
            ArchiveError::Unsupported { .. } => "unsupported",
            ArchiveError::InflatesTooFar { .. } | ArchiveError::InflatesTooMuch { .. } => "bomb",
            ArchiveError::RecordTooLong { .. } => "record-too-long",
            ArchiveError::CutOff { .. } => "cut-off",
        }
    }
}

/// What a file that we cannot read seems to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    Avro,
    Parquet,
    Utf16,
    Binary,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Content::Avro => "an Avro container",
            Content::Parquet => "a Parquet file",
            Content::Utf16 => "UTF-16 text",
            Content::Binary => "a binary file",
        })
    }
}
