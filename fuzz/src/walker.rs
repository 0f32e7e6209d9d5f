//! The walker against the full parse: on any bytes, both give the same records and the same matches; and
//! an event that is not read because one like it was is in truth like it.

use std::fmt::Write;

use lanner::decode::{Decoder, Fallback, Payload, Receiver, Record, Repeat};
use lanner::detect::Scratch;
use lanner::event::{AuditEvent, Body};
use lanner::source::Framing;

use super::shared::{ENGINE, chunk, matches};

pub fn run(data: &[u8]) {
    compare(data);
    for framing in [Framing::Lines, Framing::Value] {
        let mut scratch = Scratch::new(None);
        let mut ask = |mut decoder| {
            let found = matches(&ENGINE, &mut decoder, &mut scratch, data, framing);
            let mut text = String::new();
            for found in &found {
                writeln!(text, "{found:?}").expect("a string can be written to");
            }
            text
        };
        let expected = ask(Decoder::full_parse());
        // Now the scratch remembers the identities and the kinds of events.
        assert_eq!(ask(Decoder::default()), expected);
    }
}

/// Decodes `bytes` both ways and panics where they differ; says how many records the walker read.
pub fn compare(bytes: &[u8]) -> usize {
    let mut walker = Decoder::default();
    let mut full = Decoder::full_parse();
    let mut walked = 0;
    for framing in [Framing::Lines, Framing::Value] {
        let found = records(&mut walker, bytes, framing);
        let expected = records(&mut full, bytes, framing);
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.0, expected.0, "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(
            found.len(),
            expected.len(),
            "{}",
            String::from_utf8_lossy(bytes)
        );
        walked += found.iter().filter(|record| record.1.is_none()).count();
        repeats(bytes, framing);
    }
    walked
}

/// Decodes `bytes` twice for one who need not see an event again, and panics where one that is said to be
/// like another one differs from it by the full parse; says how many were said to be.
pub fn repeats(bytes: &[u8], framing: Framing) -> usize {
    let chunk = chunk(bytes, framing);
    let mut expected = Vec::new();
    Decoder::full_parse().decode(&chunk, &mut |record| {
        let told = match &record.payload {
            Payload::Audit(event) => Some([likeness(event), format!("{:?}", event.time())]),
            _ => None,
        };
        expected.push((format!("{:?}", record.origin), told));
    });
    let mut decoder = Decoder::default();
    let mut witness = Witness::default();
    for _ in 0..2 {
        witness.at = 0;
        witness.expected.clone_from(&expected);
        decoder.decode_for(&chunk, &mut witness);
        assert_eq!(witness.at, expected.len());
    }
    witness.repeats
}

/// An event without what may differ where it comes to the same; nothing of a body is read.
fn likeness(event: &AuditEvent<'_>) -> String {
    let mut event = event.clone();
    for text in [&mut event.audit_id].into_iter().chain(
        event
            .object_ref
            .iter_mut()
            .flat_map(|object| [&mut object.uid, &mut object.resource_version]),
    ) {
        if !text.is_empty() {
            *text = "some".into();
        }
    }
    for body in [&mut event.request_object, &mut event.response_object] {
        if let Body::Text(text) = body {
            *text = "some".into();
        }
    }
    for time in [&mut event.request_received, &mut event.stage_time] {
        *time = time.map(|_| Default::default());
    }
    format!("{event:?}")
}

/// Gives each audit event a note that says which one it was.
#[derive(Default)]
struct Witness {
    /// Of each record its origin and, of an event, likeness and time.
    expected: Vec<(String, Option<[String; 2]>)>,
    /// Records so far.
    at: usize,
    seen: Vec<(String, String)>,
    note: Option<[u64; 1]>,
    /// Of which a body was read.
    judged: Vec<bool>,
    repeats: usize,
}

impl Receiver for Witness {
    fn record(&mut self, record: Record<'_>) {
        self.at += 1;
        self.note = None;
        if let Payload::Audit(event) = &record.payload {
            self.note = Some([self.seen.len() as u64]);
            let names = format!("{:?} {:?}", record.origin.cluster, record.origin.category);
            self.seen.push((likeness(event), names));
            // What a body says may differ in the next event like it.
            let bodies = [event.request_object, event.response_object];
            let asks = self.seen.len() % 4 == 2;
            let mut read = false;
            for body in bodies.iter().filter(|_| asks) {
                if let Body::Text(text) = body {
                    read |= !text.get().is_empty();
                }
            }
            self.judged.push(read);
        }
    }

    fn note(&self) -> Option<&[u64]> {
        self.note.as_ref().map(<[u64; 1]>::as_slice)
    }

    fn holds(&self, note: &[u64]) -> bool {
        // Now and then one has to be read after all.
        note[0] % 5 != 4
    }

    fn again(&mut self, repeat: Repeat<'_>) {
        let (origin, told) = &self.expected[self.at];
        let (seen, names) = &self.seen[repeat.note[0] as usize];
        assert!(!self.judged[repeat.note[0] as usize]);
        assert_eq!(&format!("{:?}", repeat.origin), origin);
        let of_repeat = format!("{:?} {:?}", repeat.origin.cluster, repeat.origin.category);
        assert_eq!(&of_repeat, names);
        let of_repeat = [seen.clone(), format!("{:?}", repeat.time)];
        assert_eq!(told.as_ref(), Some(&of_repeat));
        self.at += 1;
        self.repeats += 1;
    }
}

/// Everything that a record says, without borrows; and why the walker left it, if it did.
fn records(
    decoder: &mut Decoder,
    bytes: &[u8],
    framing: Framing,
) -> Vec<(String, Option<Fallback>)> {
    let mut records = Vec::new();
    let chunk = chunk(bytes, framing);
    decoder.decode(&chunk, &mut |record| {
        let start = record.position.offset as usize;
        assert_eq!(record.raw, &bytes[start..start + record.raw.len()]);
        let text = format!(
            "{:?} {:?} {:?} {:?} {:?} {}",
            record.position,
            record.origin,
            record.form,
            record.damage,
            record.payload,
            record.raw.len(),
        );
        records.push((text, record.fallback));
    });
    records
}
