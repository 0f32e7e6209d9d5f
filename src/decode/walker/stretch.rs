//! What a worker remembers of the envelopes that it has read: a cluster writes the same text around
//! its events again and again, and text that was read once need not be read again.
//!
//! An envelope is read in stretches, each from where a value that always differs (the time, the log)
//! has ended to where the next one begins. What reading a stretch comes to depends on its text and on
//! the state before it, and on nothing else, so that a stretch that was read is found by comparing.

use std::ops::Range;

use super::few::Few;

/// What follows a stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Time,
    Log,
    /// Nothing: the record has been closed.
    End,
}

/// What has been met of a record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct State {
    /// A key said that the object is a record; see `scan::shape`.
    pub is_record: bool,
    /// Within `properties`, which has had so many logs.
    pub properties: Option<u8>,
    pub payloads: u8,
    /// The record's first brace is behind.
    pub open: bool,
}

/// The values that a stretch gave, and what it came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    pub after: State,
    pub next: Next,
    /// Where in the stretch they stand, without their quotes.
    pub resource_id: Option<Range<usize>>,
    pub category: Option<Range<usize>>,
}

#[derive(Debug)]
struct Known {
    before: State,
    text: Box<str>,
    read: Read,
}

/// Belongs to one worker thread.
#[derive(Debug, Default)]
pub struct Stretches {
    known: Few<Known, MAX_KNOWN, RARELY>,
}

/// A category, a cluster and a kind of API server pod make one of each; sites with more are read.
const MAX_KNOWN: usize = 24;

/// Honest stretches are shorter.
const MAX_LENGTH: usize = 1024;

/// Of what is not known where there is no more room, one in so many is put in another's place.
const RARELY: usize = 64;

impl Stretches {
    /// The stretch that `rest` begins with, read from `before`: its length, and what it came to.
    #[inline]
    pub fn find(&self, before: State, rest: &[u8]) -> Option<(usize, &Read)> {
        let fits =
            |known: &Known| known.before == before && rest.starts_with(known.text.as_bytes());
        let known = self.known.find(fits)?;
        Some((known.text.len(), &known.read))
    }

    pub fn put(&mut self, before: State, text: &str, read: Read) {
        if text.len() > MAX_LENGTH {
            return;
        }
        self.known.put(|| {
            let text = text.into();
            Some(Known { before, text, read })
        });
    }
}
