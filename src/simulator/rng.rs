//! The simulator's random numbers: one seed gives the same traffic on every machine and release.
//!
//! SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA
//! 2014). Our own because general generators and their distributions may give other numbers in
//! another version, and a seed named in a benchmark has to stay valid. Nothing secret depends on it.

use std::fmt::Write as _;
use std::time::Duration;

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// What Kubernetes makes random names of: no vowels, so no words.
const SUFFIX: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Rng {
        Rng(mix(seed ^ GOLDEN))
    }

    /// An independent stream for one part, so that more numbers for it do not change other parts.
    pub fn stream(seed: u64, part: &str) -> Rng {
        let hash = part.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Rng::new(seed ^ hash)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number below `bound`, which is above 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// A number from 0 (included) to 1 (excluded).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + self.unit() * (high - low)
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// Seconds until the next of events that come by chance, `mean` apart.
    pub fn wait(&mut self, mean: f64) -> Duration {
        Duration::from_secs_f64(-(1.0 - self.unit()).ln() * mean)
    }

    /// The next turn of something regular: `period` seconds, and up to a tenth more or less.
    pub fn turn(&mut self, period: f64) -> Duration {
        Duration::from_secs_f64(period * self.between(0.9, 1.1))
    }

    pub fn uuid(&mut self) -> String {
        let (a, b) = (self.bits(), self.bits());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            0x8000 | ((b >> 48) & 0x3fff),
            b & 0xffff_ffff_ffff
        )
    }

    pub fn hex(&mut self, digits: usize) -> String {
        let mut text = String::with_capacity(digits + 16);
        while text.len() < digits {
            let _ = write!(text, "{:016x}", self.bits());
        }
        text.truncate(digits);
        text
    }

    /// As the random parts of pods' names.
    pub fn suffix(&mut self, length: usize) -> String {
        (0..length)
            .map(|_| char::from(*self.pick(SUFFIX)))
            .collect()
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_pinned_and_in_range() {
        // The stream may never change: benchmarks and reports name seeds.
        let mut rng = Rng::new(1);
        let first: Vec<u64> = (0..3).map(|_| rng.below(1_000_000) as u64).collect();
        assert_eq!(first, [366_242, 740_805, 510_562]);
        for _ in 0..1000 {
            assert!(rng.below(7) < 7);
            assert!((0.0..1.0).contains(&rng.unit()));
        }
        assert_eq!(rng.uuid().len(), 36);
        assert_eq!(rng.hex(40).len(), 40);
    }

    #[test]
    fn parts_have_streams_of_their_own() {
        let bits = |part| Rng::stream(9, part).bits();
        assert_ne!(bits("life"), bits("attack"));
        assert_eq!(bits("life"), bits("life"));
    }
}
