//! Over an object or array without looking at more than its strings and brackets.
//!
//! This is [`super::super::scan::close`] at a block of 64 bytes a step, on text as it stands in a
//! file (`plain`) or once more escaped, as in `properties.log`. It gives up (`None`) rather than
//! say something else than that would: at an escape other than `\"` and `\\` around the escaped
//! text, a backslash outside of a string, a control character, or deep nesting.
//!
//! In escaped text a run of `n` backslashes before a quote says what the quote is: `n` even, the end
//! of the text that holds it all; 1 modulo 4, the start or end of a string; 3 modulo 4, a quote
//! within a string.

#[cfg(target_arch = "x86_64")]
use super::block::Wide;
use super::block::{BLOCK, Common, Lanes, Masks};

/// Deeper than any object the API server takes; far enough from where depth is damage.
const MAX_DEPTH: u32 = 100;

/// The index behind the bracket that closes the one before `at`.
#[inline]
pub fn jump<const ESCAPED: bool>(bytes: &[u8], at: usize) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    if let Some(wide) = Wide::here() {
        // SAFETY: a `Wide` is proof that the processor has all that is enabled there.
        return unsafe { jump_wide::<ESCAPED>(wide, bytes, at) };
    }
    jump_by::<ESCAPED, _>(Common, bytes, at)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,pclmulqdq")]
fn jump_wide<const ESCAPED: bool>(wide: Wide, bytes: &[u8], at: usize) -> Option<usize> {
    jump_by::<ESCAPED, _>(wide, bytes, at)
}

/// As [`jump`], by these lanes.
#[inline(always)]
pub fn jump_by<const ESCAPED: bool, L: Lanes>(
    lanes: L,
    bytes: &[u8],
    mut at: usize,
) -> Option<usize> {
    let mut depth = 1;
    // All ones inside of a string.
    let mut inside = 0u64;
    loop {
        let padded;
        let block = match bytes.get(at..)?.first_chunk::<BLOCK>() {
            Some(block) => block,
            None => {
                let rest = &bytes[at..];
                let mut copy = [0; BLOCK];
                copy[..rest.len()].copy_from_slice(rest);
                padded = copy;
                &padded
            }
        };
        let masks = lanes.masks(block);
        // A run of backslashes that the block cuts is left to the next one.
        let limit = BLOCK - masks.backslash.leading_ones() as usize;
        if limit == 0 {
            return None;
        }
        let quotes = quotes::<ESCAPED>(&masks, below(limit));
        let strings = lanes.parity(quotes.bounds) ^ inside;
        let wrong = (quotes.wrong | masks.control | quotes.within & !strings) & below(limit);
        let good = (wrong.trailing_zeros() as usize).min(limit);
        let outside = !strings & below(good);
        let (open, close) = (masks.open & outside, masks.close & outside);
        let closing = close.count_ones();
        if closing < depth {
            depth += open.count_ones();
            if depth > MAX_DEPTH {
                return None;
            }
            depth -= closing;
        } else {
            let mut brackets = open | close;
            while brackets != 0 {
                let lowest = brackets & brackets.wrapping_neg();
                if close & lowest == 0 {
                    depth += 1;
                } else {
                    depth -= 1;
                    if depth == 0 {
                        return Some(at + lowest.trailing_zeros() as usize + 1);
                    }
                }
                brackets ^= lowest;
            }
            if depth > MAX_DEPTH {
                return None;
            }
        }
        if good < limit {
            return None;
        }
        inside = ((strings << (BLOCK - limit)) as i64 >> 63) as u64;
        at += limit;
    }
}

/// Ones in the bits below `index`.
fn below(index: usize) -> u64 {
    if index >= BLOCK {
        u64::MAX
    } else {
        (1 << index) - 1
    }
}

struct Quotes {
    /// The quotes that start or end a string.
    bounds: u64,
    /// What may only stand inside of a string.
    within: u64,
    /// Where the text is not as this reads it.
    wrong: u64,
}

/// Every fourth bit, from the lowest on.
const FOURTH: u64 = 0x1111_1111_1111_1111;

/// `limit` are the bits of which the block tells all: no run of backslashes reaches its end.
#[inline(always)]
fn quotes<const ESCAPED: bool>(masks: &Masks, limit: u64) -> Quotes {
    let backslash = masks.backslash & limit;
    let starts = backslash & !(backslash << 1);
    // Added to a run, its start becomes the bit behind it. By where it starts and ends follows its
    // length modulo 4: bits of `lengths[n]` are behind runs of that length.
    let mut lengths = [0; 4];
    for class in 0..4 {
        let ends = (starts & FOURTH << class).wrapping_add(backslash) & !backslash;
        for (length, behind) in lengths.iter_mut().enumerate() {
            *behind |= ends & FOURTH << ((class + length) % 4);
        }
    }
    let odd = lengths[1] | lengths[3];
    if ESCAPED {
        Quotes {
            bounds: masks.quote & lengths[1],
            within: starts & (backslash >> 1),
            wrong: masks.quote ^ odd,
        }
    } else {
        Quotes {
            bounds: masks.quote & !odd,
            within: starts,
            wrong: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::scan::close;
    use proptest::prelude::*;

    const ALPHABET: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        "\"",
        "\\",
        "\\\"",
        "\\\\",
        "a",
        "é",
        ",",
        ":",
        "\"b\"",
        "\"\\u0026\"",
        "        ",
        "\"{\\\"\"",
        "0123456789abcdef0123456789",
        "\n",
    ];

    fn text() -> impl Strategy<Value = String> {
        proptest::collection::vec(proptest::sample::select(ALPHABET), 0..60)
            .prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn every_processor_ends_at_the_same_place(text in text()) {
            let escaped = serde_json::to_string(&text).unwrap();
            for text in [text.as_bytes(), &escaped.as_bytes()[1..]] {
                prop_assert_eq!(jump::<true>(text, 0), jump_by::<true, _>(Common, text, 0));
                prop_assert_eq!(jump::<false>(text, 0), jump_by::<false, _>(Common, text, 0));
            }
        }

        #[test]
        fn ends_where_the_slow_walk_ends(text in text()) {
            if let Some(end) = jump::<false>(text.as_bytes(), 0) {
                let slow = close(text.as_bytes(), 0, 1);
                prop_assert!(slow.whole);
                prop_assert_eq!(end, slow.end);
            }
        }

        #[test]
        fn ends_in_escaped_text_where_it_ends_in_the_plain_one(text in text(), tail in text()) {
            let escaped = serde_json::to_string(&text).unwrap();
            let escaped = format!("{}\"{tail}", &escaped[1..escaped.len() - 1]);
            let jumped = jump::<true>(escaped.as_bytes(), 0);
            let slow = close(text.as_bytes(), 0, 1);
            if let Some(end) = jumped {
                prop_assert!(slow.whole);
                let mut plain = String::new();
                crate::decode::unescape::unescape(&escaped[..end], &mut plain);
                prop_assert_eq!(plain, &text[..slow.end]);
            } else if let Some(end) = jump::<false>(text.as_bytes(), 0) {
                prop_assert!(false, "gave up before {end}: {escaped}");
            }
        }

        #[test]
        fn anything_escaped_is_read_as_the_unescaped(escaped in text()) {
            if let Some(end) = jump::<true>(escaped.as_bytes(), 0) {
                let mut plain = String::new();
                prop_assert_eq!(crate::decode::unescape::unescape(&escaped[..end], &mut plain), None);
                let slow = close(plain.as_bytes(), 0, 1);
                prop_assert!(slow.whole);
                prop_assert_eq!(slow.end, plain.len());
            }
        }
    }

    #[test]
    fn jumps_over_what_is_common() {
        let text = format!("{}}}, rest", r#""a":{"b":[1,"}\"{"]}"#.repeat(20));
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
        assert_eq!(jump::<false>(text.as_bytes(), 0), Some(text.len() - 6));
        assert_eq!(jump::<true>(escaped.as_bytes(), 0), Some(escaped.len() - 6));
        assert_eq!(
            jump::<true>(&escaped.as_bytes()[..escaped.len() - 7], 0),
            None
        );
    }
}
