//! A file's bytes, inflated where its first bytes say that it is compressed, up to a bound.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use super::ArchiveOptions;
use super::inputs::From;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// `0x184D2A50` to `0x184D2A5F`, little-endian: a zstd frame to be skipped.
const ZSTD_SKIPPABLE: &[u8] = &[0x2a, 0x4d, 0x18];

/// How much of a compressed file is read at once.
const COMPRESSED_BUFFER: usize = 256 << 10;

/// How much is inflated at once. A corrupt stream loses what its last read would have given.
const READ: usize = 32 << 10;

/// The bytes of `from` as a stream, and how many were taken of it so far, compressed as they are.
pub(super) fn open(
    from: &From,
    options: &ArchiveOptions,
) -> io::Result<(Box<dyn Read + Send>, Arc<AtomicU64>)> {
    let taken = Arc::new(AtomicU64::new(0));
    let raw: Box<dyn Read + Send> = match from {
        From::Stdin => Box::new(io::stdin()),
        From::File(path) => Box::new(File::open(path)?),
        From::Unlisted(kind) => return Err((*kind).into()),
    };
    let mut raw = Counted {
        inner: raw,
        taken: Arc::clone(&taken),
    };
    let mut magic = [0; 4];
    let length = fill(&mut raw, &mut magic)?;
    let magic = &magic[..length];
    let is_gzip = magic.starts_with(GZIP);
    let is_zstd = magic.starts_with(ZSTD)
        || magic.len() == 4 && magic[0] & 0xf0 == 0x50 && magic[1..] == *ZSTD_SKIPPABLE;
    let whole = Cursor::new(magic.to_vec()).chain(raw);
    if !is_gzip && !is_zstd {
        return Ok((Box::new(whole), taken));
    }
    let counted = BufReader::with_capacity(COMPRESSED_BUFFER, whole);
    let inflated: Box<dyn Read + Send> = if is_gzip {
        Box::new(MultiGzDecoder::new(counted))
    } else {
        Box::new(zstd::stream::read::Decoder::with_buffer(counted)?)
    };
    let capped = Capped {
        inner: inflated,
        taken: Arc::clone(&taken),
        given: 0,
        max_inflated: options.max_inflated,
        max_ratio: options.max_ratio.max(1),
        ratio_from: options.ratio_from,
    };
    Ok((Box::new(capped), taken))
}

/// Reads until `buffer` is full or the stream ends; how many bytes it has then.
fn fill(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

struct Counted<R> {
    inner: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.taken.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Which bound an inflating file has passed; comes as the source of an [`io::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bomb {
    TooFar,
    TooMuch,
}

impl fmt::Display for Bomb {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("inflates beyond the bound")
    }
}

impl std::error::Error for Bomb {}

struct Capped<R> {
    inner: R,
    /// Compressed bytes read.
    taken: Arc<AtomicU64>,
    /// Inflated bytes given.
    given: u64,
    max_inflated: u64,
    max_ratio: u64,
    ratio_from: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(READ);
        let read = self.inner.read(&mut buffer[..wanted])?;
        self.given += read as u64;
        if self.given > self.max_inflated {
            return Err(io::Error::other(Bomb::TooFar));
        }
        let taken = self.taken.load(Ordering::Relaxed);
        if self.given > self.ratio_from && self.given / self.max_ratio > taken {
            return Err(io::Error::other(Bomb::TooMuch));
        }
        Ok(read)
    }
}
