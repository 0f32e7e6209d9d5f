//! The stream of one input, cut into batches.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read};
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use memchr::{memchr, memrchr};

use super::inflate::{self, Bomb};
use super::split::{self, Layout, Place, Within};
use super::{ArchiveError, ArchiveOptions, Input};
use crate::source::{Batch, Chunk, Framing, Partition, Position};

/// How much of a file is looked at, at least, to tell its layout.
const SAMPLE: usize = 64 << 10;

/// Yields the batches of one input; `Send`, so that workers can take turns at it.
pub struct Reader {
    partition: Arc<Partition>,
    options: ArchiveOptions,
    stream: Box<dyn Read + Send>,
    /// Bytes read of the file, compressed as they are.
    taken: Arc<AtomicU64>,
    /// Bytes that are read and not yet given out.
    window: Window,
    /// Becomes the next window.
    spare: Vec<u8>,
    /// The position of the window's first byte in the stream.
    position: u64,
    /// The stream has ended, or failed.
    ended: bool,
    state: State,
    /// To be said next.
    errors: VecDeque<ArchiveError>,
    /// Why the stream ended early; to be said once everything before has been given out.
    failure: Option<ArchiveError>,
}

/// The first bytes of a buffer that is not made empty in between: to fill it with zeros for every
/// block would take a good part of the time that it takes to read one.
#[derive(Default)]
struct Window {
    buffer: Vec<u8>,
    filled: usize,
}

impl Deref for Window {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

impl Window {
    /// Reads `missing` bytes, fewer at the stream's end; what was read before an error is kept.
    fn read(&mut self, stream: &mut dyn Read, missing: usize) -> io::Result<usize> {
        let start = self.filled;
        let end = start + missing;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        while self.filled < end {
            match stream.read(&mut self.buffer[self.filled..end]) {
                Ok(0) => break,
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.filled - start)
    }

    /// Gives out the bytes up to the last; those from `at` on stay, in `buffer`.
    fn split(&mut self, at: usize, buffer: Vec<u8>) -> Vec<u8> {
        let mut whole = std::mem::replace(&mut self.buffer, buffer);
        whole.truncate(self.filled);
        let rest = &whole[at..];
        if self.buffer.len() < rest.len() {
            self.buffer.resize(rest.len(), 0);
        }
        self.buffer[..rest.len()].copy_from_slice(rest);
        self.filled = rest.len();
        whole
    }

    fn drop_front(&mut self, length: usize) {
        self.buffer.copy_within(length..self.filled, 0);
        self.filled -= length;
    }
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// Nothing has been looked at.
    Fresh,
    Lines,
    /// In a line that is too long, which is passed over.
    LongLine,
    Document(Place),
    Done,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Reader")
            .field("partition", &self.partition)
            .field("position", &self.position)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Reader {
    pub(super) fn open(input: &Input, options: &ArchiveOptions) -> Result<Reader, ArchiveError> {
        let (stream, taken) =
            inflate::open(&input.from, options).map_err(|error| ArchiveError::Open {
                input: input.partition.id.to_string(),
                error,
            })?;
        Ok(Reader {
            partition: Arc::clone(&input.partition),
            options: options.clone(),
            stream,
            taken,
            window: Window::default(),
            spare: Vec::new(),
            position: 0,
            ended: false,
            state: State::Fresh,
            errors: VecDeque::new(),
            failure: None,
        })
    }

    /// Bytes read of the file so far, compressed as they are.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// The next batch, or `None` at the end. After an error the reader may be asked again: it goes
    /// on behind a record that was too long, and else has ended.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, ArchiveError> {
        loop {
            if let Some(error) = self.errors.pop_front() {
                return Err(error);
            }
            let wanted = self.options.block.max(1);
            match self.state {
                State::Done => return self.failure.take().map_or(Ok(None), Err),
                State::Fresh => self.fill(wanted.max(SAMPLE)),
                State::Lines | State::LongLine | State::Document(_) => self.fill(wanted),
            }
            if let Some(batch) = self.take() {
                return Ok(Some(batch));
            }
        }
    }

    /// Gives back the bytes of a batch that nobody needs any more, so that reading on costs no new
    /// memory.
    pub fn recycle(&mut self, batch: Batch) {
        if let [chunk] = &mut { batch.chunks }[..]
            && chunk.bytes.is_unique()
        {
            let spare = Vec::from(std::mem::take(&mut chunk.bytes));
            if spare.capacity() <= 2 * self.options.block {
                self.spare = spare;
            }
        }
    }

    /// Reads until the window has `wanted` bytes or the stream ends.
    fn fill(&mut self, wanted: usize) {
        if self.ended || self.window.len() >= wanted {
            return;
        }
        let missing = wanted - self.window.len();
        match self.window.read(&mut self.stream, missing) {
            Ok(read) => self.ended = read < missing,
            Err(error) => {
                self.ended = true;
                let position = self.position + self.window.len() as u64;
                self.failure = Some(self.read_error(error, position));
            }
        }
    }

    fn read_error(&self, error: io::Error, position: u64) -> ArchiveError {
        let input = self.partition.id.to_string();
        let bomb = error
            .get_ref()
            .and_then(|source| source.downcast_ref::<Bomb>());
        match bomb {
            Some(Bomb::TooFar) => ArchiveError::InflatesTooFar {
                input,
                limit: self.options.max_inflated,
            },
            Some(Bomb::TooMuch) => ArchiveError::InflatesTooMuch {
                input,
                limit: self.options.max_ratio,
                position,
            },
            None => ArchiveError::Read {
                input,
                position,
                error,
            },
        }
    }

    /// What can be given out of the window; grows it where that is nothing.
    fn take(&mut self) -> Option<Batch> {
        match self.state {
            State::Done => None,
            State::Fresh => {
                if self.window.starts_with(b"\xef\xbb\xbf") {
                    self.drop_front(3);
                }
                match split::layout(&self.window) {
                    Ok(Layout::Lines) => self.state = State::Lines,
                    Ok(Layout::Document) => {
                        self.state = State::Document(Place::Between(Within::Top));
                    }
                    Err(found) => {
                        self.state = State::Done;
                        self.errors.push_back(ArchiveError::Unsupported {
                            input: self.partition.id.to_string(),
                            found,
                        });
                    }
                }
                None
            }
            State::Lines => self.take_lines(),
            State::LongLine => {
                match memchr(b'\n', &self.window) {
                    Some(newline) => {
                        self.drop_front(newline + 1);
                        self.state = State::Lines;
                    }
                    None => {
                        self.drop_front(self.window.len());
                        if self.ended {
                            self.state = State::Done;
                        }
                    }
                }
                None
            }
            State::Document(place) => self.take_values(place),
        }
    }

    fn take_lines(&mut self) -> Option<Batch> {
        if self.ended {
            self.state = State::Done;
            let whole = 0..self.window.len();
            return self.batch(&[whole], Framing::Lines, self.window.len());
        }
        match memrchr(b'\n', &self.window) {
            Some(newline) => {
                let lines = 0..newline + 1;
                self.batch(&[lines], Framing::Lines, newline + 1)
            }
            None if self.window.len() >= self.options.max_record => {
                self.state = State::LongLine;
                self.give_head(self.head())
            }
            None => self.grow(),
        }
    }

    fn take_values(&mut self, mut place: Place) -> Option<Batch> {
        let mut cut = split::values(&self.window, &mut place);
        self.state = State::Document(place);
        if self.ended {
            self.state = State::Done;
            let rest = cut.done..self.window.len();
            let is_value = matches!(place, Place::Between(_)) && !rest.is_empty();
            if is_value {
                // The value that is cut off is judged as far as it goes, and is damage.
                cut.values.push(rest);
            } else if place != Place::Between(Within::Top) && self.failure.is_none() {
                self.errors.push_back(ArchiveError::CutOff {
                    input: self.partition.id.to_string(),
                    position: self.position + self.window.len() as u64,
                });
            }
            return self.batch(&cut.values, Framing::Value, self.window.len());
        }
        if !cut.values.is_empty() {
            return self.batch(&cut.values, Framing::Value, cut.done);
        }
        self.drop_front(cut.done);
        if self.window.len() >= self.options.max_record {
            let head = self.head();
            let mut place = place.skip();
            split::values(&self.window[..head], &mut place);
            self.state = State::Document(place);
            return self.give_head(head);
        }
        self.grow()
    }

    /// Makes room for a record that is longer than the window.
    fn grow(&mut self) -> Option<Batch> {
        let wanted = (self.window.len() * 2).max(self.options.block);
        self.fill(
            wanted
                .min(self.options.max_record.max(1))
                .max(self.window.len() + 1),
        );
        None
    }

    /// How much is judged of a record that is too long.
    fn head(&self) -> usize {
        self.window.len().min(self.options.block.max(1))
    }

    /// The first `head` bytes of a record that is too long, to be judged as one that was cut off.
    fn give_head(&mut self, head: usize) -> Option<Batch> {
        self.errors.push_back(ArchiveError::RecordTooLong {
            input: self.partition.id.to_string(),
            limit: self.options.max_record,
            position: self.position,
        });
        // A copy, so that the batch does not keep the whole window alive.
        let bytes = Bytes::copy_from_slice(&self.window[..head]);
        let spare = std::mem::take(&mut self.spare);
        self.window.split(head, spare);
        Some(self.give(vec![(0, bytes)], Framing::Value, head))
    }

    /// The `ranges` of the window as a batch, if there are any; drops the window's first `done`
    /// bytes.
    fn batch(&mut self, ranges: &[Range<usize>], framing: Framing, done: usize) -> Option<Batch> {
        let spare = std::mem::take(&mut self.spare);
        let bytes = Bytes::from(self.window.split(done, spare));
        let values: Vec<(usize, Bytes)> = ranges
            .iter()
            .filter(|range| !range.is_empty())
            .map(|range| (range.start, bytes.slice(range.clone())))
            .collect();
        if values.is_empty() {
            self.position += done as u64;
            return None;
        }
        Some(self.give(values, framing, done))
    }

    fn give(&mut self, values: Vec<(usize, Bytes)>, framing: Framing, done: usize) -> Batch {
        let from = self.position;
        self.position += done as u64;
        Batch {
            partition: Arc::clone(&self.partition),
            from: position(from),
            to: position(self.position),
            chunks: values
                .into_iter()
                .map(|(start, bytes)| Chunk {
                    bytes,
                    position: position(from + start as u64).0,
                    framing,
                    enqueued: None,
                })
                .collect(),
            at_end: matches!(self.state, State::Done),
        }
    }

    fn drop_front(&mut self, length: usize) {
        self.window.drop_front(length);
        self.position += length as u64;
    }
}

fn position(bytes: u64) -> Position {
    Position(i64::try_from(bytes).unwrap_or(i64::MAX))
}
