//! Matches: what the parallel half of detection hands to the ordered half, owning its data.

use std::hash::Hasher;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::index::DetectorIndex;
use super::inventory::known::Query;
use super::sequence::StepKey;
use super::state::fair::Owner;
use crate::alert::{Actor, ObjectId, Severity, SourceIp};
use crate::decode::RecordPosition;
use crate::event::clock::Clock;
use crate::event::trace::{self, Role, Tie};
use crate::event::{Category, Field, FieldValue, Stage, View};
use crate::source::Partition;

/// 128 bits of SHA-256 over parts that cannot run into one another. Keys come from log content, so
/// they must not be possible to forge: to pass for what another did takes 2¹²⁸ trials, and a pair of
/// one's own choosing with the same digest 2⁶⁴. A key of ours would add nothing to that, and would
/// have to outlive restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest128(pub u128);

impl Digest128 {
    pub fn of<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Digest128 {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let digest = hasher.finalize();
        Digest128(u128::from_be_bytes(
            digest[..16]
                .try_into()
                .expect("a SHA-256 digest has 32 bytes"),
        ))
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

/// Where a record was read.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub partition: &'a Arc<Partition>,
    pub position: RecordPosition,
    pub clock: Clock,
}

/// An event that matched, as alerts will show it; shared by the matches of one event.
#[derive(Debug)]
pub struct Occurrence {
    /// Cluster, auditID, verb, URI, user and time of receipt together: an auditID alone is the
    /// client's to choose. Without an auditID, the record's own position.
    pub request: Digest128,
    pub has_audit_id: bool,
    /// Whether all is there that the request is known by; of an event that was cut off, the time of
    /// receipt is not.
    pub is_known_whole: bool,
    /// Whose the event is, for the fair bounds of the state operators.
    pub owner: Owner,
    /// When it happened, as far as that can be believed; `None` where nobody tells a time.
    pub time: Option<Timestamp>,
    /// What the record itself says, for the evidence.
    pub told: Option<Timestamp>,
    pub stage: Stage,
    pub verb: String,
    pub audit_id: String,
    pub cluster: Arc<str>,
    pub cluster_name: String,
    pub category: Category,
    pub actor: Actor,
    pub source_ip: SourceIp,
    pub user_agent: String,
    pub object: ObjectId,
    /// What the event may share with others of its incident.
    pub traces: Vec<Tie>,
    /// Where the address is, in words.
    pub came_from: &'static str,
    /// Verb, URI and code, on one line.
    pub excerpt: String,
    pub partition: Arc<Partition>,
    pub position: RecordPosition,
}

impl Occurrence {
    /// Event time for the state operators' clock.
    pub fn clock(&self) -> Timestamp {
        self.time.unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// Who did it. The platform does everyone's work, and acts as nobody.
    pub fn someone(&self) -> Option<Whom> {
        let acted = |tie: &Tie| matches!(tie.role, Role::Acts | Role::Bears);
        let known = !self.actor.user.is_empty() && self.traces.iter().any(acted);
        known.then(|| Whom {
            user: self.actor.user.clone(),
            address: self.source_ip.address.clone().unwrap_or_default(),
        })
    }

    /// About how many bytes it holds in memory.
    pub fn held(&self) -> usize {
        let own = [
            &self.verb,
            &self.audit_id,
            &self.cluster_name,
            &self.actor.user,
            &self.user_agent,
            &self.object.name,
            &self.object.namespace,
            &self.excerpt,
        ];
        let traces = self.traces.iter();
        size_of::<Occurrence>()
            + own.into_iter().map(String::len).sum::<usize>()
            + self.actor.groups.iter().map(String::len).sum::<usize>()
            + traces
                .map(|tie| size_of::<Tie>() + tie.trace.value.len())
                .sum::<usize>()
    }

    /// `told` is the time that the record tells.
    pub(super) fn new(view: &View<'_>, told: Option<Timestamp>, place: Place<'_>) -> Occurrence {
        let Place {
            partition,
            position,
            clock,
        } = place;
        let event = view.event;
        let text = |field: Field| bounded(&view.field(field).text(), MAX_TEXT);
        let optional = |field: Field| Some(text(field)).filter(|text| !text.is_empty());
        let has_audit_id = !event.audit_id.is_empty();
        let request = request(view, place);
        let code = event
            .response_status
            .as_ref()
            .map_or(0, |status| status.code);
        let uri = bounded(&event.request_uri, MAX_EXCERPT);
        let message = view.line.map_or("", |line| line.message);
        let excerpt = if !message.is_empty() {
            // Of a panic, the stack follows its first line.
            bounded(message.lines().next().unwrap_or_default(), MAX_EXCERPT)
        } else if code == 0 {
            format!("{} {uri}", bounded(&event.verb, 64))
        } else {
            format!("{} {uri} → {code}", bounded(&event.verb, 64))
        };
        Occurrence {
            request,
            has_audit_id,
            is_known_whole: has_audit_id && view.line.is_none() && event.request_received.is_some(),
            owner: owner(&view.origin.cluster, &event.user.username),
            time: clock.time(told),
            told,
            stage: event.stage,
            verb: bounded(&event.verb, 64),
            audit_id: bounded(&event.audit_id, 128),
            cluster: Arc::clone(&view.origin.cluster),
            cluster_name: text(Field::ClusterName),
            category: view.origin.category,
            actor: Actor {
                user: text(Field::ActorUser),
                groups: event
                    .user
                    .groups
                    .iter()
                    .take(MAX_GROUPS)
                    .map(|g| bounded(g, MAX_TEXT))
                    .collect(),
                impersonated: optional(Field::ActorImpersonated),
                service_account: optional(Field::ActorServiceAccount),
            },
            source_ip: SourceIp {
                address: optional(Field::SourceIpAddress),
                network: optional(Field::SourceIpNetwork),
                class: text(Field::SourceIpClass),
            },
            user_agent: text(Field::UserAgent),
            object: ObjectId {
                group: text(Field::ObjectGroup),
                resource: text(Field::ObjectResource),
                subresource: text(Field::ObjectSubresource),
                namespace: text(Field::ObjectNs),
                name: text(Field::ObjectName),
            },
            traces: trace::traces(view),
            came_from: trace::place(view),
            excerpt,
            partition: Arc::clone(partition),
            position,
        }
    }
}

/// See [`Occurrence::request`].
pub(super) fn request(view: &View<'_>, place: Place<'_>) -> Digest128 {
    let event = view.event;
    if event.audit_id.is_empty() {
        return Digest128::of([
            place.partition.source.as_bytes(),
            place.partition.id.as_bytes(),
            &place.position.chunk.to_le_bytes(),
            &place.position.offset.to_le_bytes(),
        ]);
    }
    let received = event
        .request_received
        .map(|time| time.as_nanosecond())
        .unwrap_or_default();
    Digest128::of([
        view.origin.cluster.as_bytes(),
        event.audit_id.as_bytes(),
        event.verb.as_bytes(),
        event.request_uri.as_bytes(),
        event.user.username.as_bytes(),
        &received.to_le_bytes(),
    ])
}

/// Stands for cluster and authenticated user.
pub(super) fn owner(cluster: &str, user: &str) -> Owner {
    Digest128::of([cluster.as_bytes(), user.as_bytes()]).0 as Owner
}

/// Bytes of one text of an alert, of an excerpt, and groups of an actor: enough for every honest
/// event, and a bound on what a hostile one can make us keep.
const MAX_TEXT: usize = 512;
const MAX_EXCERPT: usize = 1024;
const MAX_GROUPS: usize = 64;

/// At most `max` bytes of `text`, cut at a character and marked.
pub fn bounded(text: &str, max: usize) -> String {
    if text.len() <= max {
        text.to_owned()
    } else {
        format!("{}…", &text[..text.floor_char_boundary(max)])
    }
}

/// Someone, and where they came from; an address that is not known is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whom {
    pub user: String,
    pub address: String,
}

/// One detector's match of one event.
#[derive(Debug, Clone)]
pub struct Match {
    pub detector: DetectorIndex,
    pub severity: Severity,
    /// Place in the detector's exceptions of the one that covers the event.
    pub exception: Option<u16>,
    /// Values of the detector's `group_by`.
    pub group: Vec<String>,
    pub state: StateKey,
    /// Of the habit that the match may be.
    pub habit: Option<Digest128>,
    /// A finding that wakes nobody, of a kind that the actor had on days before, by the same program
    /// from the same place: see [`super::order::Judge`].
    pub usual: bool,
    /// The rendered summary.
    pub summary: String,
    /// What the ordered half needs to ask the inventory, where the detector names facts of it.
    pub known: Option<Box<Query>>,
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

/// The values of `fields` as texts.
pub(super) fn texts(view: &View<'_>, fields: &[Field]) -> Vec<String> {
    fields
        .iter()
        .map(|field| bounded(&view.field(*field).text(), MAX_TEXT))
        .collect()
}

/// What a `first_seen` counts: of one list field each element, of several fields their combination.
pub(super) fn elements(view: &View<'_>, fields: &[Field]) -> Vec<String> {
    match fields {
        [field] => match view.field(*field) {
            FieldValue::List(items) => items
                .iter()
                .take(MAX_ELEMENTS)
                .map(|item| bounded(item, MAX_TEXT))
                .collect(),
            other => vec![bounded(&other.text(), MAX_TEXT)],
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
