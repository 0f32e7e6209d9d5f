//! What stands where in 64 bytes at once, one bit a byte.
//!
//! SSE2 on x86-64, which every such processor has, and AVX2 where it is found at run time; elsewhere
//! loops that a compiler can vectorise. `cargo bench --bench decode` shows what each is worth.

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

/// A processor's way to look at a block. Each gives the same.
pub trait Lanes: Copy {
    fn masks(self, block: &[u8; BLOCK]) -> Masks;

    /// Each bit is the parity of the bits up to it.
    fn parity(self, bits: u64) -> u64;
}

/// What every processor of the architecture can do.
#[derive(Debug, Clone, Copy)]
pub struct Common;

impl Lanes for Common {
    #[inline(always)]
    fn masks(self, block: &[u8; BLOCK]) -> Masks {
        masks(block)
    }

    #[inline(always)]
    fn parity(self, mut bits: u64) -> u64 {
        for shift in [1, 2, 4, 8, 16, 32] {
            bits ^= bits << shift;
        }
        bits
    }
}

#[cfg(target_arch = "x86_64")]
pub use wide::Wide;

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

/// For processors since 2013 or so.
#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::{
        __m256i, _mm_clmulepi64_si128, _mm_cvtsi64_si128, _mm_cvtsi128_si64, _mm_set1_epi8,
        _mm256_cmpeq_epi8, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256,
        _mm256_set_epi64x, _mm256_set1_epi8,
    };
    use std::sync::LazyLock;

    use super::{BLOCK, Lanes, Masks};

    /// There is one only where the processor has AVX2, BMI1, BMI2, LZCNT, POPCNT and PCLMULQDQ.
    #[derive(Debug, Clone, Copy)]
    pub struct Wide(());

    impl Wide {
        #[inline]
        pub fn here() -> Option<Wide> {
            static HERE: LazyLock<Option<Wide>> = LazyLock::new(|| {
                let all = is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("bmi1")
                    && is_x86_feature_detected!("bmi2")
                    && is_x86_feature_detected!("lzcnt")
                    && is_x86_feature_detected!("popcnt")
                    && is_x86_feature_detected!("pclmulqdq");
                all.then_some(Wide(()))
            });
            *HERE
        }
    }

    impl Lanes for Wide {
        #[inline(always)]
        fn masks(self, block: &[u8; BLOCK]) -> Masks {
            // SAFETY: `self` is proof that the processor has AVX2.
            unsafe { masks(block) }
        }

        #[inline(always)]
        fn parity(self, bits: u64) -> u64 {
            // SAFETY: `self` is proof that the processor has PCLMULQDQ.
            unsafe { parity(bits) }
        }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn load(bytes: &[u8; 32]) -> __m256i {
        let (words, _) = bytes.as_chunks::<8>();
        let [a, b, c, d] = [words[0], words[1], words[2], words[3]].map(i64::from_le_bytes);
        _mm256_set_epi64x(d, c, b, a)
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn equal(lanes: __m256i, byte: u8) -> u64 {
        bits(_mm256_cmpeq_epi8(lanes, _mm256_set1_epi8(byte as i8)))
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn bits(lanes: __m256i) -> u64 {
        u64::from(_mm256_movemask_epi8(lanes) as u32)
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn masks(block: &[u8; BLOCK]) -> Masks {
        let (halves, _) = block.as_chunks::<32>();
        let (low, high) = (load(&halves[0]), load(&halves[1]));
        let both = |low: u64, high: u64| low | high << 32;
        // `[` and `{`, and `]` and `}`, differ in this bit only.
        let fold = _mm256_set1_epi8(0x20);
        let (low_folded, high_folded) = (_mm256_or_si256(low, fold), _mm256_or_si256(high, fold));
        let top = _mm256_set1_epi8(0x1f);
        let control = |lanes| _mm256_cmpeq_epi8(_mm256_min_epu8(lanes, top), lanes);
        Masks {
            quote: both(equal(low, b'"'), equal(high, b'"')),
            backslash: both(equal(low, b'\\'), equal(high, b'\\')),
            open: both(equal(low_folded, b'{'), equal(high_folded, b'{')),
            close: both(equal(low_folded, b'}'), equal(high_folded, b'}')),
            control: both(bits(control(low)), bits(control(high))),
        }
    }

    /// A product without carries with all ones.
    #[target_feature(enable = "sse2,pclmulqdq")]
    #[inline]
    fn parity(bits: u64) -> u64 {
        let product = _mm_clmulepi64_si128(_mm_cvtsi64_si128(bits as i64), _mm_set1_epi8(-1), 0);
        _mm_cvtsi128_si64(product) as u64
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

#[inline(always)]
fn masks(block: &[u8; BLOCK]) -> Masks {
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
        #[cfg(target_arch = "x86_64")]
        fn wide_lanes_see_what_all_see(bytes in proptest::collection::vec(any::<u8>(), BLOCK), json in proptest::collection::vec(proptest::sample::select(b"{}[]\"\\\n\x1f \x7f;=".as_slice()), BLOCK), bits in any::<u64>()) {
            // A processor without them has nothing to test.
            if let Some(wide) = Wide::here() {
                for block in [&bytes, &json] {
                    let block = block.first_chunk().expect("a block's length");
                    prop_assert_eq!(wide.masks(block), Common.masks(block));
                }
                prop_assert_eq!(wide.parity(bits), Common.parity(bits));
            }
        }

        #[test]
        fn finds_the_first_special_byte(bytes in proptest::collection::vec(proptest::sample::select(b"abcdef\"\\\n\xc3".as_slice()), 0..80), at in 0usize..90) {
            let expected = (at..bytes.len()).find(|index| is_special(bytes[*index]));
            prop_assert_eq!(find_special(&bytes, at), expected);
        }
    }
}
