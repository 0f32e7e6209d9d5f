//! Matches: what the parallel half of detection hands to the ordered half, owning its data.

use std::hash::Hasher;
use std::sync::{Arc, LazyLock};

use sha2::{Digest, Sha256};

use super::index::DetectorIndex;
use super::inventory::known::Query;
use super::occurrence::{MAX_TEXT, Occurrence, Whom, bounded};
use super::sequence::StepKey;
use crate::alert::Severity;
use crate::event::{Field, FieldValue, View};

/// 128 bits of SHA-256 over parts that cannot run into one another. Keys come from log content, so
/// they must not be possible to forge: to pass for what another did takes 2¹²⁸ trials, and a pair of
/// one's own choosing with the same digest 2⁶⁴. A key of ours would add nothing to that, and would
/// have to outlive restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest128(pub u128);

impl Digest128 {
    pub fn of<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Digest128 {
        let mut digester = Digester::default();
        parts.into_iter().for_each(|part| digester.part(part));
        digester.finish()
    }

    /// Of `scope` and the values of `fields` as texts.
    pub(super) fn of_fields(scope: &[u8], view: &View<'_>, fields: &[Field]) -> Digest128 {
        let mut digester = Digester::default();
        digester.part(scope);
        for field in fields {
            let value = view.field(*field);
            digester.part(bounded(&value.text(), MAX_TEXT).as_bytes());
        }
        digester.finish()
    }

    pub fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    pub fn hex(self) -> String {
        format!("{:032x}", self.0)
    }

    /// The hash by which tables in memory find the digest. Whoever writes log content can look for
    /// digests that agree in some bits, a million trials for each that shares a bucket; which bits
    /// make a bucket is therefore another matter in each process.
    pub fn spread(self) -> u64 {
        static KEYS: LazyLock<[u64; 2]> = LazyLock::new(|| {
            let random = ahash::RandomState::new();
            [random.hash_one(0), random.hash_one(1)]
        });
        let [low, high] = *KEYS;
        let product = u128::from(self.0 as u64 ^ low) * u128::from((self.0 >> 64) as u64 ^ high);
        product as u64 ^ (product >> 64) as u64
    }
}

/// A [`Digest128`] in the making.
#[derive(Default)]
struct Digester(Sha256);

impl Digester {
    fn part(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
    }

    fn finish(self) -> Digest128 {
        let digest = self.0.finalize();
        Digest128(u128::from_be_bytes(
            digest[..16]
                .try_into()
                .expect("a SHA-256 digest has 32 bytes"),
        ))
    }
}

/// Takes [`Digest128::spread`] for the hash: digests are random already.
#[derive(Debug, Default, Clone, Copy)]
pub struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, digest: u128) {
        self.0 = Digest128(digest).spread();
    }
}

/// One detector's match of one event.
#[derive(Debug, Clone)]
pub struct Match {
    pub detector: DetectorIndex,
    pub severity: Severity,
    /// Place in the detector's exceptions of the one that covers the event.
    pub exception: Option<u16>,
    /// Stands for the detector and the values of its `group_by`: findings that agree in it are one alert.
    pub fingerprint: Digest128,
    pub state: StateKey,
    /// Of the habit that the match may be.
    pub habit: Option<Digest128>,
    /// A finding that wakes nobody, of a kind that the actor had on days before, by the same program
    /// from the same place: see [`super::order::Judge`].
    pub usual: bool,
    /// The rendered summary.
    pub summary: Arc<str>,
    /// What the ordered half needs to ask the inventory, where the detector names facts of it.
    pub known: Option<Arc<Query>>,
    /// For whom the platform took the last step of a sequence: who took those before.
    pub on_behalf_of: Vec<Whom>,
    /// What the detector's own text cannot say: the detectors that an unreadable body blinded.
    pub note: Option<String>,
    pub occurrence: Arc<Occurrence>,
}

/// What a detector's state operator is asked with.
#[derive(Debug, Clone)]
pub enum StateKey {
    None,
    FirstSeen {
        /// The detector's state in this cluster.
        scope: Digest128,
        key: Digest128,
        /// The key's last value: whose habits these are.
        who: String,
        /// Each value and, with the key, its digest.
        values: Vec<(String, Digest128)>,
    },
    /// Of a threshold or spike.
    Count {
        key: Digest128,
        /// 64 bits of what is counted once only; `None` counts every request.
        distinct: Option<u64>,
        /// Where it matters what is new.
        novelty: Option<Novelty>,
    },
    /// The steps that the event may be, at least one.
    Sequence(Vec<StepKey>),
}

/// To what a counted value may be new, and both together.
#[derive(Debug, Clone, Copy)]
pub struct Novelty {
    /// The detector's state in this cluster.
    pub scope: Digest128,
    pub to: Digest128,
    pub pair: Digest128,
}

/// The value of `field` as a text.
pub(super) fn text(view: &View<'_>, field: Field) -> String {
    bounded(&view.field(field).text(), MAX_TEXT).into_owned()
}

/// The values of `fields` as texts.
fn texts(view: &View<'_>, fields: &[Field]) -> Vec<String> {
    fields.iter().map(|field| text(view, *field)).collect()
}

/// What a `first_seen` counts: of one list field each element, of several fields their combination.
pub(super) fn elements(view: &View<'_>, fields: &[Field]) -> Vec<String> {
    match fields {
        [field] => match view.field(*field) {
            FieldValue::List(items) => items
                .iter()
                .take(MAX_ELEMENTS)
                .map(|item| bounded(item, MAX_TEXT).into_owned())
                .collect(),
            other => vec![bounded(&other.text(), MAX_TEXT).into_owned()],
        },
        several => vec![texts(view, several).join(" ")],
    }
}

/// Elements of one list that are remembered of one event.
const MAX_ELEMENTS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_can_aim_at_a_bucket() {
        // Digests that agree in every bit but some high ones, as can be found by trying.
        let spread: std::collections::BTreeSet<u64> = (0..4096u128)
            .map(|high| Digest128(high << 64 | 0x5ead).spread() % 4096)
            .collect();
        // Of 4096 buckets, about 63 in 100 are met by chance.
        assert!(spread.len() > 2_000, "{}", spread.len());
        let digest = Digest128::of([b"a".as_slice()]);
        assert_eq!(digest.spread(), digest.spread());
    }
}
