//! What stands where in 64 bytes at once, one bit a byte.
//!
//! SSE2 on x86-64, which every such processor has; elsewhere loops that a compiler can vectorise.

/// The bytes of a block that matter to JSON; bit `i` is byte `i`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Masks {
    pub quote: u64,
    pub backslash: u64,
    /// `{` and `[`.
    pub open: u64,
    /// `}` and `]`.
    pub close: u64,
    /// Below 0x20.
    pub control: u64,
}

pub const BLOCK: usize = 64;

/// Bytes looked at together in search of a string's end.
const RUN: usize = 16;

#[cfg(target_arch = "x86_64")]
mod lanes {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x,
        _mm_set1_epi8,
    };

    use super::{Masks, RUN};

    #[target_feature(enable = "sse2")]
    fn load(bytes: &[u8; RUN]) -> __m128i {
        let both = u128::from_le_bytes(*bytes);
        _mm_set_epi64x((both >> 64) as i64, both as i64)
    }

    #[target_feature(enable = "sse2")]
    fn bits(lanes: __m128i) -> u64 {
        u64::from(_mm_movemask_epi8(lanes) as u32)
    }

    #[target_feature(enable = "sse2")]
    fn equal(lanes: __m128i, byte: u8) -> __m128i {
        _mm_cmpeq_epi8(lanes, _mm_set1_epi8(byte as i8))
    }

    #[target_feature(enable = "sse2")]
    fn control(lanes: __m128i) -> __m128i {
        _mm_cmpeq_epi8(_mm_min_epu8(lanes, _mm_set1_epi8(0x1f)), lanes)
    }

    #[target_feature(enable = "sse2")]
    fn masks_by_lanes(bytes: &[u8; RUN]) -> Masks {
        let lanes = load(bytes);
        // `[` and `{`, and `]` and `}`, differ in this bit only.
        let folded = _mm_or_si128(lanes, _mm_set1_epi8(0x20));
        Masks {
            quote: bits(equal(lanes, b'"')),
            backslash: bits(equal(lanes, b'\\')),
            open: bits(equal(folded, b'{')),
            close: bits(equal(folded, b'}')),
            control: bits(control(lanes)),
        }
    }

    #[target_feature(enable = "sse2")]
    fn special_by_lanes(bytes: &[u8; RUN]) -> u64 {
        let lanes = load(bytes);
        let ends = _mm_or_si128(equal(lanes, b'"'), equal(lanes, b'\\'));
        bits(_mm_or_si128(ends, control(lanes)))
    }

    #[inline]
    pub fn masks(bytes: &[u8; RUN]) -> Masks {
        // SAFETY: every x86-64 processor has SSE2.
        unsafe { masks_by_lanes(bytes) }
    }

    #[inline]
    pub fn special(bytes: &[u8; RUN]) -> u64 {
        // SAFETY: every x86-64 processor has SSE2.
        unsafe { special_by_lanes(bytes) }
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod portable {
    use super::{Masks, RUN};

    fn bits(bytes: &[u8; RUN], is: impl Fn(u8) -> bool) -> u64 {
        bytes.iter().enumerate().fold(0, |bits, (index, byte)| {
            bits | u64::from(is(*byte)) << index
        })
    }

    pub fn masks(bytes: &[u8; RUN]) -> Masks {
        Masks {
            quote: bits(bytes, |byte| byte == b'"'),
            backslash: bits(bytes, |byte| byte == b'\\'),
            open: bits(bytes, |byte| byte | 0x20 == b'{'),
            close: bits(bytes, |byte| byte | 0x20 == b'}'),
            control: bits(bytes, |byte| byte < 0x20),
        }
    }

    pub fn special(bytes: &[u8; RUN]) -> u64 {
        bits(bytes, super::is_special)
    }
}

#[cfg(not(target_arch = "x86_64"))]
use portable as lanes;

fn is_special(byte: u8) -> bool {
    (byte == b'"') | (byte == b'\\') | (byte < 0x20)
}

/// The masks of `block`.
#[inline]
pub fn masks(block: &[u8; BLOCK]) -> Masks {
    let mut all = Masks {
        quote: 0,
        backslash: 0,
        open: 0,
        close: 0,
        control: 0,
    };
    let (runs, _) = block.as_chunks::<RUN>();
    for (index, run) in runs.iter().enumerate() {
        let part = lanes::masks(run);
        let at = index * RUN;
        all.quote |= part.quote << at;
        all.backslash |= part.backslash << at;
        all.open |= part.open << at;
        all.close |= part.close << at;
        all.control |= part.control << at;
    }
    all
}

/// The index of the first quote, backslash or control character at or after `at`.
#[inline]
pub fn find_special(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let Some(run) = bytes.get(at..).and_then(<[u8]>::first_chunk::<RUN>) else {
            return bytes
                .get(at..)?
                .iter()
                .position(|byte| is_special(*byte))
                .map(|found| at + found);
        };
        let special = lanes::special(run);
        if special != 0 {
            return Some(at + special.trailing_zeros() as usize);
        }
        at += RUN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lanes_see_what_loops_see(bytes in any::<[u8; RUN]>(), json in proptest::array::uniform16(proptest::sample::select(b"{}[]\"\\\n\x1f \x7f;=".as_slice()))) {
            for run in [bytes, json] {
                prop_assert_eq!(lanes::masks(&run), portable::masks(&run));
                prop_assert_eq!(lanes::special(&run), portable::special(&run));
            }
        }

        #[test]
        fn finds_the_first_special_byte(bytes in proptest::collection::vec(proptest::sample::select(b"abcdef\"\\\n\xc3".as_slice()), 0..80), at in 0usize..90) {
            let expected = (at..bytes.len()).find(|index| is_special(bytes[*index]));
            prop_assert_eq!(find_special(&bytes, at), expected);
        }
    }
}
