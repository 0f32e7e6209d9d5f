//! A thin layer under AMQP that writes every performative at its full length.
//!
//! `fe2o3-amqp` leaves trailing nulls out of lists, which is legal; the Python client indexes
//! fields by position and fails on it. The lists of outgoing performatives are therefore padded
//! with nulls. Since frames grow by that, the peer's max-frame-size is lowered by [`PADDING`] while
//! its Open passes on the way in.
//!
//! Every frame is shown to the connection's [`Tap`], which may break the connection there.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use fe2o3_amqp_types::definitions::MIN_MAX_FRAME_SIZE;
use fe2o3_amqp_types::performatives::Open;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::steps::{Break, Keep, Tap};

/// More than padding can add to a frame: 13 nulls, and 6 bytes if the list needs a longer head.
const PADDING: u32 = 32;

/// Bytes that wait for the socket before a writer has to wait itself.
const OUT_BOUND: usize = 256 * 1024;

const PROTOCOL_HEADER_LEN: usize = 8;
const OPEN: u8 = 0x10;
const NULL: u8 = 0x40;
const LIST0: u8 = 0x45;
const LIST8: u8 = 0xc0;
const LIST32: u8 = 0xd0;

/// The number of fields of a performative, by descriptor code (AMQP 1.0, part 2.7).
fn fields_of(code: u8) -> Option<usize> {
    match code {
        0x10 => Some(10),
        0x11 => Some(8),
        0x12 => Some(14),
        0x13 | 0x14 => Some(11),
        0x15 => Some(6),
        0x16 => Some(3),
        0x17 | 0x18 => Some(1),
        _ => None,
    }
}

/// A stream that pads what is written through it; see the module.
#[derive(Debug)]
pub(super) struct PaddedStream<S> {
    inner: S,
    /// Read, and not yet a whole frame; `None` once the peer's Open has passed.
    opening: Option<BytesMut>,
    /// Read and ready to be handed on.
    ready: BytesMut,
    /// Written, and not yet a whole frame.
    partial: BytesMut,
    /// Padded, and not yet on the socket.
    out: BytesMut,
    tap: Option<Tap>,
    /// Set once the connection is to break; nothing more is passed on then.
    broken: Option<Break>,
}

impl<S> PaddedStream<S> {
    pub(super) fn new(inner: S, tap: Option<Tap>) -> PaddedStream<S> {
        PaddedStream {
            inner,
            tap,
            broken: None,
            opening: Some(BytesMut::new()),
            ready: BytesMut::new(),
            partial: BytesMut::new(),
            out: BytesMut::new(),
        }
    }

    fn pad_written(&mut self, written: &[u8]) {
        if self.partial.is_empty() {
            let mut left = written;
            while let Some(len) = frame_len(left).filter(|len| *len <= left.len()) {
                self.pass_written(&left[..len]);
                left = &left[len..];
            }
            self.partial.extend_from_slice(left);
            return;
        }
        self.partial.extend_from_slice(written);
        while let Some(len) = frame_len(&self.partial).filter(|len| *len <= self.partial.len()) {
            let frame = self.partial.split_to(len);
            self.pass_written(&frame);
        }
    }

    fn pass_written(&mut self, frame: &[u8]) {
        if self.is_broken() {
            return;
        }
        let cut = self.tap.as_mut().and_then(|tap| tap.outgoing(frame));
        let begin = self.out.len();
        let keep = cut.map_or(Keep::All, |cut| cut.keep);
        if keep != Keep::Nothing {
            pad_frame(frame, &mut self.out);
        }
        if keep == Keep::Half {
            self.out.truncate(begin + (self.out.len() - begin) / 2);
        }
        self.broken = cut.map(|cut| cut.how);
    }

    fn is_broken(&mut self) -> bool {
        if self.broken.is_none() && self.tap.as_ref().is_some_and(Tap::has_vanished) {
            self.broken = Some(Break::Silence);
            self.out.clear();
        }
        self.broken.is_some()
    }

    /// The error that ends the connection from our side, once it is broken.
    fn ended(&self) -> io::Result<()> {
        match self.broken {
            Some(Break::Reset | Break::Close) => Err(io::ErrorKind::ConnectionReset.into()),
            Some(Break::Silence) | None => Ok(()),
        }
    }

    /// Moves whole frames from `opening` to `ready`, lowering the max-frame-size of an Open.
    fn pass_opening(&mut self) {
        let Some(mut opening) = self.opening.take() else {
            return;
        };
        while let Some(len) = frame_len(&opening).filter(|len| *len <= opening.len()) {
            let frame = opening.split_to(len);
            if performative(&frame) == Some(OPEN) {
                match lower_max_frame_size(&frame) {
                    Some(lowered) => self.ready.extend_from_slice(&lowered),
                    None => self.ready.extend_from_slice(&frame),
                }
                self.ready.extend_from_slice(&opening);
                return;
            }
            self.ready.extend_from_slice(&frame);
        }
        self.opening = Some(opening);
    }
}

impl<S: AsyncWrite + Unpin> PaddedStream<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.out))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(written);
        }
        if self.broken.is_some() {
            ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        }
        Poll::Ready(self.ended())
    }
}

impl<S: AsyncRead + Unpin> PaddedStream<S> {
    /// Reads, shows it to the tap, and swallows it once the connection is silent.
    fn poll_tapped(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let begin = buf.filled().len();
            ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
            if buf.filled().len() == begin {
                return Poll::Ready(Ok(()));
            }
            if !self.is_broken()
                && let Some(tap) = &mut self.tap
            {
                self.broken = tap.incoming(&buf.filled()[begin..]);
            }
            self.ended()?;
            if self.broken != Some(Break::Silence) {
                return Poll::Ready(Ok(()));
            }
            buf.set_filled(begin);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PaddedStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            this.ended()?;
            if !this.ready.is_empty() {
                let len = this.ready.len().min(buf.remaining());
                buf.put_slice(&this.ready.split_to(len));
                return Poll::Ready(Ok(()));
            }
            if this.opening.is_none() {
                return this.poll_tapped(cx, buf);
            }
            let mut space = [0; 4096];
            let mut chunk = ReadBuf::new(&mut space);
            ready!(this.poll_tapped(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            if let Some(opening) = &mut this.opening {
                opening.extend_from_slice(chunk.filled());
                if opening.len() > OUT_BOUND {
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
            }
            this.pass_opening();
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PaddedStream<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.out.len() > OUT_BOUND {
            ready!(this.poll_drain(cx))?;
        }
        this.pad_written(buf);
        // What the socket does not take now goes with the next write or flush.
        if let Poll::Ready(drained) = this.poll_drain(cx) {
            drained?;
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

/// The length of the frame or protocol header that `bytes` begin with, if that is known yet.
pub(super) fn frame_len(bytes: &[u8]) -> Option<usize> {
    let head: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    if &head == b"AMQP" {
        return Some(PROTOCOL_HEADER_LEN);
    }
    // A frame shorter than its own head is malformed; passing on the head alone keeps moving.
    Some((u32::from_be_bytes(head) as usize).max(PROTOCOL_HEADER_LEN))
}

/// Offset of a frame's body, for AMQP frames that have one.
fn body_offset(frame: &[u8]) -> Option<usize> {
    let (data_offset, kind) = (*frame.get(4)? as usize * 4, *frame.get(5)?);
    (kind == 0 && !frame.starts_with(b"AMQP") && frame.len() > data_offset).then_some(data_offset)
}

/// The descriptor code of the performative in an AMQP frame.
fn performative(frame: &[u8]) -> Option<u8> {
    let body = &frame[body_offset(frame)?..];
    match body {
        [0x00, 0x53, code, ..] => Some(*code),
        [0x00, 0x80, 0, 0, 0, 0, 0, 0, 0, code, ..] => Some(*code),
        _ => None,
    }
}

/// Appends `frame` to `out`, its performative padded to full length. Any other frame is copied.
fn pad_frame(frame: &[u8], out: &mut BytesMut) {
    match split_performative(frame) {
        Some(parts) => {
            let begin = out.len();
            out.extend_from_slice(parts.before);
            let items_len = parts.items.len() + parts.missing + 4;
            out.extend_from_slice(&[LIST32]);
            out.extend_from_slice(&(items_len as u32).to_be_bytes());
            out.extend_from_slice(&parts.fields.to_be_bytes());
            out.extend_from_slice(parts.items);
            out.resize(out.len() + parts.missing, NULL);
            out.extend_from_slice(parts.payload);
            let len = (out.len() - begin) as u32;
            out[begin..begin + 4].copy_from_slice(&len.to_be_bytes());
        }
        None => out.extend_from_slice(frame),
    }
}

struct Parts<'a> {
    /// Frame head and descriptor.
    before: &'a [u8],
    items: &'a [u8],
    missing: usize,
    fields: u32,
    payload: &'a [u8],
}

/// The parts of a frame whose performative lacks trailing fields; `None` if nothing is to do.
fn split_performative(frame: &[u8]) -> Option<Parts<'_>> {
    let fields = fields_of(performative(frame)?)?;
    let body = body_offset(frame)?;
    let descriptor_len = if frame[body + 1] == 0x53 { 3 } else { 10 };
    let (before, list) = frame.split_at(body + descriptor_len);
    let (count, size_len, rest) = match *list.first()? {
        LIST0 => (0, 0, &list[1..]),
        LIST8 => (
            *list.get(2)? as usize,
            (*list.get(1)? as usize).checked_sub(1)?,
            &list[3..],
        ),
        LIST32 => {
            let number = |range: std::ops::Range<usize>| -> Option<usize> {
                Some(u32::from_be_bytes(list.get(range)?.try_into().ok()?) as usize)
            };
            (number(5..9)?, number(1..5)?.checked_sub(4)?, &list[9..])
        }
        _ => return None,
    };
    if count >= fields || rest.len() < size_len {
        return None;
    }
    let (items, payload) = rest.split_at(size_len);
    Some(Parts {
        before,
        items,
        missing: fields - count,
        fields: fields as u32,
        payload,
    })
}

fn lower_max_frame_size(frame: &[u8]) -> Option<Vec<u8>> {
    let body = body_offset(frame)?;
    let mut open: Open = serde_amqp::from_slice(&frame[body..]).ok()?;
    let lowered = open.max_frame_size.0.saturating_sub(PADDING);
    open.max_frame_size = lowered.max(MIN_MAX_FRAME_SIZE as u32).into();
    let mut changed = frame[..body].to_vec();
    changed.extend(serde_amqp::to_vec(&open).ok()?);
    let len = changed.len() as u32;
    changed[..4].copy_from_slice(&len.to_be_bytes());
    Some(changed)
}

#[cfg(test)]
mod tests {
    use fe2o3_amqp_types::definitions::{Error, LinkError};
    use fe2o3_amqp_types::performatives::{Detach, Transfer};
    use proptest::prelude::*;

    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut frame = ((body.len() + 8) as u32).to_be_bytes().to_vec();
        frame.extend([2, 0, 0, 1]);
        frame.extend(body);
        frame
    }

    fn transfer() -> Transfer {
        Transfer {
            handle: 0.into(),
            delivery_id: Some(7),
            delivery_tag: Some(vec![1, 2, 3, 4].into()),
            message_format: Some(0),
            settled: Some(true),
            more: false,
            rcv_settle_mode: None,
            state: None,
            resume: false,
            aborted: false,
            batchable: false,
        }
    }

    #[test]
    fn a_transfer_gets_all_its_fields_and_keeps_its_payload() {
        let mut body = serde_amqp::to_vec(&transfer()).expect("a transfer can be encoded");
        body.extend(b"payload");
        let mut out = BytesMut::new();
        pad_frame(&frame(&body), &mut out);
        assert_eq!(frame_len(&out), Some(out.len()));
        assert!(out.len() <= frame(&body).len() + PADDING as usize);
        assert!(out.ends_with(b"payload"));
        let padded = &out[8..out.len() - b"payload".len()];
        assert_eq!(&padded[8..12], &[0, 0, 0, 11]);
        let again: Transfer = serde_amqp::from_slice(padded).expect("padding keeps it readable");
        assert_eq!(again.delivery_id, Some(7));
        assert_eq!(again.settled, Some(true));
    }

    #[test]
    fn an_error_survives_the_padding() {
        let detach = Detach {
            handle: 3.into(),
            closed: true,
            error: Some(Error::new(LinkError::Stolen, "x".repeat(400), None)),
        };
        let body = serde_amqp::to_vec(&detach).expect("a detach can be encoded");
        let mut out = BytesMut::new();
        pad_frame(&frame(&body), &mut out);
        let again: Detach = serde_amqp::from_slice(&out[8..]).expect("it stays readable");
        assert_eq!(again.error, detach.error);
    }

    proptest! {
        /// However the writer cuts its bytes, the same frames come out.
        #[test]
        fn cuts_do_not_matter(cuts in proptest::collection::vec(1usize..40, 1..30)) {
            let mut bytes = b"AMQP\x00\x01\x00\x00".to_vec();
            for payload in [&b""[..], &[7; 300], b"end"] {
                let mut body = serde_amqp::to_vec(&transfer()).expect("a transfer can be encoded");
                body.extend(payload);
                bytes.extend(frame(&body));
            }
            let mut whole = PaddedStream::new((), None);
            whole.pad_written(&bytes);
            let mut cut = PaddedStream::new((), None);
            let mut left = &bytes[..];
            for len in cuts.iter().cycle() {
                if left.is_empty() {
                    break;
                }
                let (now, later) = left.split_at((*len).min(left.len()));
                cut.pad_written(now);
                left = later;
            }
            prop_assert_eq!(whole.out, cut.out);
        }

        /// Bytes that are no AMQP at all pass without a panic.
        #[test]
        fn any_bytes_pass(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut out = BytesMut::new();
            pad_frame(&bytes, &mut out);
            let mut stream = PaddedStream::new((), None);
            stream.pad_written(&bytes);
            stream.opening = Some(BytesMut::from(&bytes[..]));
            stream.pass_opening();
        }
    }
}
