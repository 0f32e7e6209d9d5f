//! The walker against the full parse: on any bytes, both give the same records.

use bytes::Bytes;
use lanner::decode::{Decoder, Fallback};
use lanner::source::{Chunk, Framing};

/// Everything that a record says, without borrows; and why the walker left it, if it did.
fn records(
    decoder: &mut Decoder,
    bytes: &[u8],
    framing: Framing,
) -> Vec<(String, Option<Fallback>)> {
    let chunk = Chunk {
        bytes: Bytes::copy_from_slice(bytes),
        position: 3,
        framing,
        enqueued: None,
    };
    let mut records = Vec::new();
    decoder.decode(&chunk, &mut |record| {
        let text = format!(
            "{:?} {:?} {:?} {:?} {:?} {:?}",
            record.position,
            record.origin,
            record.form,
            record.damage,
            record.payload,
            Bytes::copy_from_slice(record.raw),
        );
        records.push((text, record.fallback));
    });
    records
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
