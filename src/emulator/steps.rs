//! Faults at a chosen step of the protocol: watches the frames of one connection in both
//! directions, knows what its links are for, and says where the connection is to break.
//!
//! [`super::frames`] shows it every frame; what is armed lies in [`super::faults`].

use std::collections::HashMap;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp_types::definitions::Role;
use fe2o3_amqp_types::messaging::TargetArchetype;
use fe2o3_amqp_types::performatives::{Attach, Transfer};

use super::address::Address;
use super::faults::Faults;

/// A moment in the life of a consumer's connection. Unless said otherwise, the fault comes in place
/// of the frame that the emulator would have sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// The connection is accepted; before any byte.
    Connect,
    /// The SASL mechanisms.
    Sasl,
    SaslOutcome,
    Open,
    /// A session begins.
    Begin,
    CbsAttach,
    /// The answer to a token.
    CbsAnswer,
    ManagementAttach,
    ManagementAnswer,
    ReceiverAttach,
    /// After a consumer's flow has come in.
    Credit,
    /// A transfer to a consumer.
    Transfer,
    /// After half of the bytes of a transfer to a consumer.
    WithinTransfer,
    /// After the first frame of a message that takes several.
    WithinMessage,
}

impl Step {
    /// In the order in which a consumer comes to them.
    pub const ALL: [Step; 14] = [
        Step::Connect,
        Step::Sasl,
        Step::SaslOutcome,
        Step::Open,
        Step::Begin,
        Step::CbsAttach,
        Step::CbsAnswer,
        Step::ManagementAttach,
        Step::ManagementAnswer,
        Step::ReceiverAttach,
        Step::Credit,
        Step::Transfer,
        Step::WithinTransfer,
        Step::WithinMessage,
    ];
}

/// What happens to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Break {
    /// TCP RST.
    Reset,
    /// TCP FIN, without a word of AMQP.
    Close,
    /// Everything is swallowed from now on, as if the peer had vanished behind a firewall.
    Silence,
}

/// Where a frame breaks the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) how: Break,
    pub(super) keep: Keep,
}

/// How much of the frame still goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Nothing,
    Half,
    All,
}

/// What a link is for, as far as faults tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Cbs,
    Management,
    Consumer,
    Other,
}

/// The links of one direction, by channel and handle.
type Links = HashMap<(u16, u32), Purpose>;

/// Watches one connection.
#[derive(Debug)]
pub(super) struct Tap {
    faults: Arc<Faults>,
    /// A second handle on the connection's socket.
    socket: Option<Arc<TcpStream>>,
    /// How often peers had vanished when the connection was made.
    vanished: u64,
    sent: Links,
    received: Links,
    incoming: Scanner,
}

impl Tap {
    pub(super) fn new(faults: Arc<Faults>, socket: Option<Arc<TcpStream>>) -> Tap {
        Tap {
            vanished: faults.vanished(),
            faults,
            socket,
            sent: Links::new(),
            received: Links::new(),
            incoming: Scanner::default(),
        }
    }

    /// Whether all connections of this one's time have gone silent.
    pub(super) fn has_vanished(&self) -> bool {
        self.faults.vanished() != self.vanished
    }

    /// Looks at a whole frame on its way out.
    pub(super) fn outgoing(&mut self, frame: &[u8]) -> Option<Cut> {
        let cut = self.cut(frame)?;
        self.prepare(cut.how);
        Some(cut)
    }

    /// Looks at bytes on their way in, however they are cut.
    pub(super) fn incoming(&mut self, bytes: &[u8]) -> Option<Break> {
        let how = self.credit(bytes)?;
        self.prepare(how);
        Some(how)
    }

    fn prepare(&self, how: Break) {
        if how == Break::Reset
            && let Some(socket) = &self.socket
        {
            reset_when_dropped(socket);
        }
    }

    fn cut(&mut self, frame: &[u8]) -> Option<Cut> {
        let head = Head::of(frame)?;
        let step = |step: Step, keep: Keep| {
            let how = self.faults.take(step)?;
            Some(Cut { how, keep })
        };
        match head.kind {
            Kind::Sasl(SASL_MECHANISMS) => step(Step::Sasl, Keep::Nothing),
            Kind::Sasl(SASL_OUTCOME) => step(Step::SaslOutcome, Keep::Nothing),
            Kind::Amqp(OPEN) => step(Step::Open, Keep::Nothing),
            Kind::Amqp(BEGIN) => step(Step::Begin, Keep::Nothing),
            Kind::Amqp(ATTACH) => {
                let purpose = note_attach(&mut self.sent, &head);
                match purpose {
                    Purpose::Cbs => step(Step::CbsAttach, Keep::Nothing),
                    Purpose::Management => step(Step::ManagementAttach, Keep::Nothing),
                    Purpose::Consumer => step(Step::ReceiverAttach, Keep::Nothing),
                    Purpose::Other => None,
                }
            }
            Kind::Amqp(TRANSFER) => {
                let purpose = self.sent.get(&(head.channel, head.handle()?))?;
                match purpose {
                    Purpose::Cbs => step(Step::CbsAnswer, Keep::Nothing),
                    Purpose::Management => step(Step::ManagementAnswer, Keep::Nothing),
                    Purpose::Consumer => step(Step::Transfer, Keep::Nothing)
                        .or_else(|| step(Step::WithinTransfer, Keep::Half))
                        .or_else(|| {
                            let goes_on = self.faults.are_armed() && head.goes_on();
                            goes_on.then(|| step(Step::WithinMessage, Keep::All))?
                        }),
                    Purpose::Other => None,
                }
            }
            _ => None,
        }
    }

    fn credit(&mut self, bytes: &[u8]) -> Option<Break> {
        let Tap {
            faults,
            received,
            incoming,
            ..
        } = self;
        let mut broken = None;
        incoming.push(bytes, |frame| {
            let Some(head) = Head::of(frame) else { return };
            match head.kind {
                Kind::Amqp(ATTACH) => {
                    note_attach(received, &head);
                }
                Kind::Amqp(FLOW) => {
                    let handle = head.flow_handle();
                    let link = handle.and_then(|handle| received.get(&(head.channel, handle)));
                    if link == Some(&Purpose::Consumer) && broken.is_none() {
                        broken = faults.take(Step::Credit);
                    }
                }
                _ => {}
            }
        });
        broken
    }
}

/// Lets the socket end with RST instead of FIN once its last handle is gone.
pub(super) fn reset_when_dropped(socket: &TcpStream) {
    // A socket that refuses the option ends with FIN, which breaks the connection as well.
    let _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

fn note_attach(links: &mut Links, head: &Head<'_>) -> Purpose {
    let Ok(attach) = serde_amqp::from_reader::<Attach>(head.body) else {
        return Purpose::Other;
    };
    // The node is the side that the emulator stands on, whoever sends the attach.
    let source = attach.source.as_ref().and_then(|s| s.address.as_deref());
    let target = match attach.target.as_deref() {
        Some(TargetArchetype::Target(target)) => target.address.as_deref(),
        _ => None,
    };
    let ours = match attach.role {
        Role::Sender => [source, target],
        Role::Receiver => [target, source],
    };
    let purpose = ours
        .into_iter()
        .flatten()
        .find_map(|address| match Address::parse(address)? {
            Address::Cbs => Some(Purpose::Cbs),
            Address::Management => Some(Purpose::Management),
            Address::Consumer { .. } => Some(Purpose::Consumer),
            Address::Hub { .. } => None,
        })
        .unwrap_or(Purpose::Other);
    links.insert((head.channel, attach.handle.0), purpose);
    purpose
}

const OPEN: u8 = 0x10;
const BEGIN: u8 = 0x11;
const ATTACH: u8 = 0x12;
const FLOW: u8 = 0x13;
const TRANSFER: u8 = 0x14;
const SASL_MECHANISMS: u8 = 0x40;
const SASL_OUTCOME: u8 = 0x44;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The performative's descriptor code.
    Amqp(u8),
    Sasl(u8),
}

/// The beginning of a frame (AMQP 1.0, part 2.3).
#[derive(Debug)]
struct Head<'f> {
    kind: Kind,
    channel: u16,
    /// From the performative on.
    body: &'f [u8],
}

impl<'f> Head<'f> {
    /// `None` for protocol headers, heartbeats and what is no frame.
    fn of(frame: &'f [u8]) -> Option<Head<'f>> {
        if frame.starts_with(b"AMQP") {
            return None;
        }
        let offset = usize::from(*frame.get(4)?) * 4;
        let channel = u16::from_be_bytes([*frame.get(6)?, *frame.get(7)?]);
        let body = frame.get(offset..)?;
        let code = match body {
            [0x00, 0x53, code, ..] => *code,
            [0x00, 0x80, 0, 0, 0, 0, 0, 0, 0, code, ..] => *code,
            _ => return None,
        };
        let kind = match *frame.get(5)? {
            0 => Kind::Amqp(code),
            1 => Kind::Sasl(code),
            _ => return None,
        };
        Some(Head {
            kind,
            channel,
            body,
        })
    }

    /// The fields of the performative's list.
    fn fields(&self) -> Option<&'f [u8]> {
        let list = self
            .body
            .get(if self.body.get(1)? == &0x53 { 3 } else { 10 }..)?;
        match list.first()? {
            0xc0 => list.get(3..),
            0xd0 => list.get(9..),
            _ => None,
        }
    }

    /// The handle, which is the first field of a transfer.
    fn handle(&self) -> Option<u32> {
        Some(unsigned(self.fields()?)?.0)
    }

    /// The handle of a flow: its fifth field; `None` for a session's flow.
    fn flow_handle(&self) -> Option<u32> {
        let mut fields = self.fields()?;
        for _ in 0..4 {
            fields = match fields.first()? {
                0x40 => fields.get(1..)?,
                _ => unsigned(fields)?.1,
            };
        }
        Some(unsigned(fields)?.0)
    }

    /// Whether more frames of the same message follow.
    fn goes_on(&self) -> bool {
        serde_amqp::from_reader::<Transfer>(self.body).is_ok_and(|transfer| transfer.more)
    }
}

/// A `uint` in any of its encodings, and what follows it.
fn unsigned(bytes: &[u8]) -> Option<(u32, &[u8])> {
    match *bytes.first()? {
        0x43 => Some((0, &bytes[1..])),
        0x52 => Some((u32::from(*bytes.get(1)?), bytes.get(2..)?)),
        0x70 => {
            let number = bytes.get(1..5)?.try_into().ok()?;
            Some((u32::from_be_bytes(number), &bytes[5..]))
        }
        _ => None,
    }
}

/// Finds the beginnings of frames in a stream of bytes.
#[derive(Debug, Default)]
struct Scanner {
    /// The beginning of a frame that has not come whole.
    partial: Vec<u8>,
    /// Bytes of the present frame that nobody wants to see.
    skip: usize,
}

impl Scanner {
    /// Bytes of a frame that are looked at; every performative but a transfer's payload fits.
    const SEEN: usize = 4096;

    fn push(&mut self, mut bytes: &[u8], mut seen: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let wanted = match super::frames::frame_len(&self.partial) {
                Some(len) => len.min(Scanner::SEEN),
                None => 4,
            };
            let taken = (wanted - self.partial.len()).min(bytes.len());
            self.partial.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if let Some(len) = super::frames::frame_len(&self.partial)
                && self.partial.len() >= len.min(Scanner::SEEN)
            {
                seen(&self.partial);
                self.skip = len - self.partial.len();
                self.partial.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(code: u8, fields: &[u8], payload: usize) -> Vec<u8> {
        let mut body = vec![0x00, 0x53, code, 0xc0, fields.len() as u8 + 1, 11];
        body.extend(fields);
        body.resize(body.len() + payload, 7);
        let mut frame = ((body.len() + 8) as u32).to_be_bytes().to_vec();
        frame.extend([2, 0, 0, 3]);
        frame.extend(body);
        frame
    }

    #[test]
    fn handles_are_read_in_every_encoding() {
        for (fields, handle) in [
            (&[0x43][..], 0),
            (&[0x52, 9][..], 9),
            (&[0x70, 0, 0, 1, 0][..], 256),
        ] {
            let transfer = frame(TRANSFER, fields, 20);
            let head = Head::of(&transfer).expect("a frame");
            assert_eq!(head.kind, Kind::Amqp(TRANSFER));
            assert_eq!((head.channel, head.handle()), (3, Some(handle)));
        }
        let flow = frame(FLOW, &[0x40, 0x43, 0x52, 1, 0x70, 0, 0, 8, 0, 0x52, 4], 0);
        assert_eq!(Head::of(&flow).expect("a frame").flow_handle(), Some(4));
        let of_session = frame(FLOW, &[0x40, 0x43, 0x43, 0x43, 0x40], 0);
        assert_eq!(Head::of(&of_session).expect("a frame").flow_handle(), None);
    }

    proptest! {
        /// However the bytes are cut, the same frames are seen, and hostile ones do no harm.
        #[test]
        fn cuts_do_not_matter(cuts in proptest::collection::vec(1usize..50, 1..20)) {
            let mut bytes = b"AMQP\x00\x01\x00\x00".to_vec();
            for payload in [0, 9000, 17] {
                bytes.extend(frame(TRANSFER, &[0x52, 1], payload));
            }
            let mut lens = Vec::new();
            let mut scanner = Scanner::default();
            let mut left = &bytes[..];
            for len in cuts.iter().cycle() {
                if left.is_empty() {
                    break;
                }
                let (now, later) = left.split_at((*len).min(left.len()));
                scanner.push(now, |frame| lens.push(frame.len()));
                left = later;
            }
            prop_assert_eq!(lens, vec![8, 16, Scanner::SEEN, 33]);
        }

        #[test]
        fn any_bytes_pass(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut tap = Tap::new(Arc::default(), None);
            tap.outgoing(&bytes);
            tap.incoming(&bytes);
        }
    }
}
