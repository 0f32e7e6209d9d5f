//! The walker against the full parse: on any bytes, both give the same records and the same matches.

use std::fmt::Write;

use lanner::decode::{Decoder, Fallback};
use lanner::detect::Scratch;
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
    }
    walked
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
