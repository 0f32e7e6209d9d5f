//! The inventory itself: what the stream has told of each cluster's objects, and what follows from it.
//!
//! Lessons wait here until the ordered half has come to their time; they are taken in by their
//! resourceVersion where both sides tell one, else by time, so that lessons that change places agree
//! in the end. What goes stays for a while as gone, so that a late lesson does not bring it back.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use jiff::SignedDuration;

use super::effect::Effect;
use super::grants::Grants;
use super::lesson::{Lesson, What};
use super::meta::Meta;
use super::object::{Content, Key, Kind, Namespace, Subject};
use super::shelf::{Owner, Shelf};
use crate::detect::state::streams::Streams;

/// Bytes of all objects, about; some ten thousand objects of each of a dozen clusters.
const MAX_BYTES: usize = 64 << 20;

/// Bytes of an entry besides its texts: key, indexes, order.
const ENTRY_BYTES: usize = 320;

/// Clusters at most: they are named by envelopes, not by clients.
const MAX_CLUSTERS: usize = 1024;

/// Effects of changes that are kept for findings of the same request, and lessons that wait.
const MAX_EFFECTS: usize = 4096;
const MAX_PENDING: usize = 1 << 16;

/// How long something gone is remembered, milliseconds: longer than any sensible `lateness`.
const GONE_MILLIS: i64 = 15 * 60_000;

/// A lower resourceVersion that much later is of a cluster that was restored, and not late.
const RESTORED_MILLIS: i64 = 30 * 60_000;

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Entry {
    pub version: u64,
    pub at: i64,
    /// From what replay was given: events may be older than it.
    pub base: bool,
    pub gone: bool,
    pub content: Content,
}

pub(super) type Place = (u32, Key);

/// A namespace that is known to have been without a network policy, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bare {
    pub cluster: Box<str>,
    pub namespace: Box<str>,
    pub since: i64,
    /// When that was long enough.
    pub until: i64,
}

#[derive(Debug)]
pub struct Inventory {
    pub(super) shelf: Shelf<Place, Entry>,
    pub(super) metas: Vec<Meta>,
    numbers: HashMap<Box<str>, u32, ahash::RandomState>,
    /// The cluster that every other begins as: what replay was given without a cluster's name.
    template: Option<u32>,
    pub(super) by_role: BTreeMap<Place, BTreeSet<Key>>,
    pub(super) by_subject: BTreeMap<(u32, Subject), BTreeSet<Key>>,
    gone: BTreeSet<(i64, Place)>,
    /// Namespaces that are known to be without a policy, since when.
    pub(super) bare: BTreeMap<Place, i64>,
    pub(super) grants: Grants,
    effects: HashMap<u128, Arc<Effect>, ahash::RandomState>,
    effect_order: VecDeque<u128>,
    /// By time, version, and the order in which they were heard.
    pending: BTreeMap<(i64, u64, u64), Lesson>,
    heard: u64,
    /// Taken in since the last delta; kept only where somebody writes it to disk.
    journal: Option<Vec<Lesson>>,
    dropped: u64,
    /// Objects and authors that lessons were about which came later than they should.
    pub(super) late: Vec<Lesson>,
    clock: i64,
    /// When namespaces were last looked at for a detector, by its state's hash.
    checked: HashMap<u64, i64, ahash::RandomState>,
}

/// How often namespaces are looked at.
const BARE_GRAIN_MILLIS: i64 = 60_000;

/// The number of what replay was given for every cluster.
pub const EVERY_CLUSTER: &str = "*";

impl Inventory {
    pub fn new(durable: bool) -> Inventory {
        Inventory::with_limit(durable, MAX_BYTES)
    }

    pub fn with_limit(durable: bool, bytes: usize) -> Inventory {
        Inventory {
            shelf: Shelf::new(bytes),
            metas: Vec::new(),
            numbers: HashMap::default(),
            template: None,
            by_role: BTreeMap::new(),
            by_subject: BTreeMap::new(),
            gone: BTreeSet::new(),
            bare: BTreeMap::new(),
            grants: Grants::default(),
            effects: HashMap::default(),
            effect_order: VecDeque::new(),
            pending: BTreeMap::new(),
            heard: 0,
            journal: durable.then(Vec::new),
            dropped: 0,
            late: Vec::new(),
            clock: i64::MIN,
            checked: HashMap::default(),
        }
    }

    /// Puts lessons aside until the clock has come to them.
    pub fn hear(&mut self, lessons: Vec<Lesson>) {
        for lesson in lessons {
            self.heard += 1;
            let key = (lesson.at, lesson.version, self.heard);
            self.pending.insert(key, lesson);
        }
        while self.pending.len() > MAX_PENDING {
            let Some((_, lesson)) = self.pending.pop_first() else {
                break;
            };
            self.learn(lesson);
        }
    }

    /// Takes in what was heard up to `at`, milliseconds.
    pub fn advance(&mut self, at: i64) {
        while let Some(first) = self.pending.first_entry() {
            if first.key().0 > at {
                break;
            }
            let lesson = first.remove();
            self.learn(lesson);
        }
        if at < i64::MAX {
            self.clock = self.clock.max(at);
        }
    }

    /// How far each cluster's records have come.
    pub fn observe(&mut self, streams: &Streams) {
        for (cluster, _, spans) in streams.iter() {
            if let Some((_, latest)) = spans.as_slice().last() {
                self.has_come(cluster, *latest);
            }
        }
    }

    /// The cluster's records have come to `latest`, seconds.
    pub fn has_come(&mut self, cluster: &str, latest: i64) {
        if let Some(number) = self.enter(cluster) {
            let meta = &mut self.metas[number as usize];
            meta.latest = meta.latest.max(latest.saturating_mul(1000));
        }
    }

    pub(super) fn number(&self, cluster: &str) -> Option<u32> {
        self.numbers.get(cluster).copied()
    }

    /// The cluster's number, given if need be; `None` where there are too many.
    pub(super) fn enter(&mut self, cluster: &str) -> Option<u32> {
        if let Some(number) = self.numbers.get(cluster) {
            return Some(*number);
        }
        if self.metas.len() >= MAX_CLUSTERS {
            self.dropped += 1;
            return None;
        }
        let number = self.metas.len() as u32;
        self.metas.push(Meta::of(cluster));
        self.numbers.insert(cluster.into(), number);
        if cluster == EVERY_CLUSTER {
            self.template = Some(number);
        } else if let Some(template) = self.template {
            self.metas[number as usize].imported = self.metas[template as usize].imported;
            let copies: Vec<(Key, Entry)> = self
                .of_cluster(template)
                .map(|(key, entry)| (key.clone(), entry.clone()))
                .collect();
            for (key, entry) in copies {
                self.put((number, key), super::shelf::IMPORTED, entry);
            }
        }
        Some(number)
    }

    /// Takes one lesson in.
    pub fn learn(&mut self, lesson: Lesson) {
        let Some(cluster) = self.enter(&lesson.cluster) else {
            return;
        };
        let late = lesson.at < self.clock;
        self.clock = self.clock.max(lesson.at);
        let meta = &mut self.metas[cluster as usize];
        let mut earlier = false;
        if lesson.owner != super::shelf::IMPORTED {
            earlier = meta.since.is_none_or(|since| lesson.at < since);
            meta.since = Some(meta.since.map_or(lesson.at, |since| since.min(lesson.at)));
            meta.latest = meta.latest.max(lesson.at);
        } else if !matches!(lesson.what, What::Told(_)) {
            meta.imported = meta.imported.max(Some(lesson.at));
        }
        let older = matches!(lesson.what, What::Left { shown: false, .. })
            && meta.is_older(lesson.version, lesson.received);
        let marked = meta.mark(&lesson);
        let changed = match &lesson.what {
            What::AllGone => self.all_gone(cluster, &lesson),
            What::Gone => self.is_gone((cluster, lesson.key.clone()), lesson.at),
            What::Told(detector) => {
                self.namespace(&(cluster, lesson.key.clone()), |namespace| {
                    if !namespace.told.contains(detector) {
                        namespace.told.push(*detector);
                        namespace.told.truncate(8);
                    }
                });
                true
            }
            What::Whole => {
                self.namespace(&(cluster, lesson.key.clone()), |namespace| {
                    namespace.whole_since = Some(lesson.at);
                });
                true
            }
            What::Made(content) | What::Left { content, .. } => {
                let content = content.clone();
                self.is_there(cluster, &lesson, content, older)
            }
        };
        if late && matches!(lesson.key.kind, Kind::Pod | Kind::Role | Kind::Binding) {
            self.late.push(lesson.clone());
        }
        // What leaves its object as it was may still tell of the cluster.
        if let Some(journal) = &mut self.journal
            && (changed || marked || earlier)
        {
            journal.push(lesson);
        }
        let horizon = self.clock.saturating_sub(GONE_MILLIS);
        while let Some((at, _)) = self.gone.first() {
            if *at >= horizon {
                break;
            }
            if let Some((_, place)) = self.gone.pop_first() {
                self.shelf.remove(&place);
            }
        }
    }

    /// An object was written or shown; says whether that changed anything that is kept.
    fn is_there(&mut self, cluster: u32, lesson: &Lesson, content: Content, older: bool) -> bool {
        let place = (cluster, lesson.key.clone());
        let rbac = matches!(lesson.key.kind, Kind::Role | Kind::Binding);
        let shown = matches!(lesson.what, What::Left { shown: true, .. });
        if rbac && self.effects.contains_key(&lesson.request) && !shown {
            // Its copy in another category.
            return false;
        }
        let known = self.shelf.get(&place).cloned();
        let known = known.as_ref();
        let order = known.map(|entry| order(entry, lesson));
        let same = order == Some(Order::Same) && known.is_some_and(|entry| !entry.gone);
        let mut granted = false;
        if rbac && !shown {
            let before = match (known, order) {
                (Some(entry), Some(Order::Newer | Order::Same)) => match entry {
                    entry if entry.base && lesson.version < entry.version => None,
                    Entry { gone: true, .. } => Some(None),
                    Entry { content, .. } if *content != Content::Unknown => Some(Some(content)),
                    _ => None,
                },
                // What came with Kubernetes is as it came until somebody changes it.
                _ => None,
            };
            let unchanged = same || older;
            let (effect, grants) = self.effect(cluster, lesson, &content, before, unchanged);
            for grant in grants {
                self.grants.add(grant);
                granted = true;
            }
            self.keep_effect(lesson.request, effect);
        }
        match (known, order) {
            (Some(_), Some(Order::Older)) => return granted,
            // The same once more, from before; but what was imported is known by an event now.
            (Some(entry), Some(Order::Same)) if entry.at >= lesson.at && !entry.base => {
                return granted;
            }
            _ => {}
        }
        let mut content = content;
        if let Some(entry) = known {
            match (&entry.content, &mut content) {
                // A pod's rights over its node are fixed when it is made.
                (Content::Pod(pod), new @ Content::Unknown) if !entry.gone => {
                    *new = Content::Pod(*pod);
                }
                (Content::Namespace(old), Content::Namespace(new)) if !entry.gone => {
                    *new = Namespace {
                        labels: std::mem::take(&mut new.labels),
                        ..old.clone()
                    };
                }
                _ => {}
            }
        }
        if let (What::Made(_), Content::Namespace(namespace)) = (&lesson.what, &mut content) {
            namespace.whole_since = Some(lesson.at);
        }
        let entry = Entry {
            version: lesson.version,
            at: lesson.at,
            base: false,
            gone: false,
            content,
        };
        self.put(place, lesson.owner, entry);
        true
    }

    fn keep_effect(&mut self, request: u128, effect: Effect) {
        if self.effects.insert(request, Arc::new(effect)).is_none() {
            self.effect_order.push_back(request);
        }
        while self.effect_order.len() > MAX_EFFECTS {
            if let Some(oldest) = self.effect_order.pop_front() {
                self.effects.remove(&oldest);
            }
        }
    }

    /// What the request did to roles or bindings, if it wrote one and that is fresh in mind.
    pub fn effect_of(&self, request: u128) -> Option<&Arc<Effect>> {
        self.effects.get(&request)
    }

    fn is_gone(&mut self, place: Place, at: i64) -> bool {
        let known = self.shelf.get(&place);
        if known.is_some_and(|entry| entry.at > at || entry.gone) {
            return false;
        }
        let content = known.map_or(Content::Unknown, |entry| entry.content.clone());
        if place.1.kind == Kind::Policy {
            let namespace = (place.0, Key::new(Kind::Namespace, "", &place.1.namespace));
            self.namespace(&namespace, |of| {
                of.policy_gone = of.policy_gone.max(Some(at))
            });
        }
        let entry = Entry {
            version: 0,
            at,
            base: false,
            gone: true,
            content,
        };
        // Nobody owns what is gone; it goes by itself.
        self.put(place, super::shelf::IMPORTED, entry);
        true
    }

    fn all_gone(&mut self, cluster: u32, lesson: &Lesson) -> bool {
        let Key {
            kind, namespace, ..
        } = &lesson.key;
        let keys: Vec<Key> = self
            .of_kind(cluster, *kind, namespace)
            .filter(|(_, entry)| !entry.gone && entry.at <= lesson.at)
            .map(|(key, _)| key.clone())
            .collect();
        let any = !keys.is_empty();
        for key in keys {
            self.is_gone((cluster, key), lesson.at);
        }
        any
    }

    /// Changes what is kept of a namespace that is there.
    fn namespace(&mut self, place: &Place, change: impl FnOnce(&mut Namespace)) {
        let Some(entry) = self.shelf.get(place).filter(|entry| !entry.gone) else {
            return;
        };
        let mut entry = entry.clone();
        let mut namespace = match entry.content {
            Content::Namespace(namespace) => namespace,
            _ => Namespace::default(),
        };
        change(&mut namespace);
        entry.content = Content::Namespace(namespace);
        self.put(place.clone(), super::shelf::IMPORTED, entry);
    }

    /// Puts an entry in its place, with everything that points to it.
    pub(super) fn put(&mut self, place: Place, owner: Owner, entry: Entry) {
        self.unlink(&place);
        if entry.gone {
            self.gone.insert((entry.at, place.clone()));
        } else if let Content::Binding(binding) = &entry.content {
            let key = &place.1;
            let role = (place.0, binding.role.clone());
            self.by_role.entry(role).or_default().insert(key.clone());
            for subject in Inventory::subjects_of(binding) {
                let of = self
                    .by_subject
                    .entry((place.0, subject.clone()))
                    .or_default();
                of.insert(key.clone());
            }
        }
        let key = &place.1;
        let weight =
            ENTRY_BYTES + 2 * (key.namespace.len() + key.name.len()) + entry.content.weight();
        let namespace = match key.kind {
            Kind::Policy => Some((place.0, Key::new(Kind::Namespace, "", &key.namespace))),
            Kind::Namespace => Some(place.clone()),
            _ => None,
        };
        for (place, entry) in self.shelf.insert(place, owner, weight, entry) {
            self.unlink_entry(&place, &entry);
        }
        if let Some(namespace) = namespace {
            self.settle(namespace);
        }
    }

    fn unlink(&mut self, place: &Place) {
        if let Some(entry) = self.shelf.get(place).cloned() {
            self.unlink_entry(place, &entry);
        }
    }

    fn unlink_entry(&mut self, place: &Place, entry: &Entry) {
        self.bare.remove(place);
        if entry.gone {
            self.gone.remove(&(entry.at, place.clone()));
            return;
        }
        let Content::Binding(binding) = &entry.content else {
            return;
        };
        fn drop_from<K: Ord>(index: &mut BTreeMap<K, BTreeSet<Key>>, of: K, key: &Key) {
            if let Some(keys) = index.get_mut(&of) {
                keys.remove(key);
                if keys.is_empty() {
                    index.remove(&of);
                }
            }
        }
        drop_from(&mut self.by_role, (place.0, binding.role.clone()), &place.1);
        for subject in Inventory::subjects_of(binding) {
            drop_from(&mut self.by_subject, (place.0, subject.clone()), &place.1);
        }
    }

    /// Finds out whether the namespace is known to be without a policy.
    fn settle(&mut self, place: Place) {
        let since = match self.shelf.get(&place) {
            Some(Entry {
                gone: false,
                content: Content::Namespace(namespace),
                ..
            }) => namespace
                .whole_since
                .map(|whole| namespace.policy_gone.map_or(whole, |gone| gone.max(whole))),
            _ => None,
        };
        let policies = self
            .of_kind(place.0, Kind::Policy, &place.1.name)
            .any(|(_, entry)| !entry.gone);
        match since.filter(|_| !policies) {
            Some(since) => self.bare.insert(place, since),
            None => self.bare.remove(&place),
        };
    }

    /// Namespaces that have been without a policy for `after`, of which the detector whose state has
    /// this hash was not told yet; it is told now. `now` is in seconds, and counts beyond a cluster's
    /// last record only if `live`.
    pub fn take_bare(
        &mut self,
        detector: u64,
        after: SignedDuration,
        now: i64,
        live: bool,
    ) -> Vec<Bare> {
        let now = now.saturating_mul(1000);
        let after = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
        let checked = self.checked.entry(detector).or_insert(i64::MIN);
        if now.saturating_sub(*checked) < BARE_GRAIN_MILLIS {
            return Vec::new();
        }
        *checked = now;
        let mut found = Vec::new();
        for (place, since) in &self.bare {
            let meta = &self.metas[place.0 as usize];
            let until = since.saturating_add(after);
            let due = until <= if live { now } else { now.min(meta.latest) };
            let Some(Entry {
                content: Content::Namespace(namespace),
                ..
            }) = self.shelf.get(place).filter(|_| due)
            else {
                continue;
            };
            let own = place.1.name.starts_with("kube-");
            if !namespace.platform && !own && !namespace.told.contains(&detector) {
                found.push(Bare {
                    cluster: meta.name.clone(),
                    namespace: place.1.name.clone(),
                    since: *since,
                    until,
                });
            }
        }
        for bare in &found {
            let told = Lesson {
                cluster: bare.cluster.clone(),
                at: bare.until,
                received: bare.until,
                version: 0,
                owner: super::shelf::IMPORTED,
                request: 0,
                key: Key::new(Kind::Namespace, "", &bare.namespace),
                what: What::Told(detector),
                actor: None,
            };
            self.learn(told);
        }
        found
    }

    /// What was taken in since the last call.
    pub(super) fn take_journal(&mut self) -> Vec<Lesson> {
        self.journal
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Takes in everything that waits.
    pub fn settle_all(&mut self) {
        self.advance(i64::MAX);
    }

    pub(super) fn has_news(&self) -> bool {
        self.journal
            .as_ref()
            .is_some_and(|journal| !journal.is_empty())
            || !self.pending.is_empty()
    }

    pub fn len(&self) -> usize {
        self.shelf.len()
    }

    pub fn is_empty(&self) -> bool {
        self.shelf.is_empty()
    }

    /// Objects that the bound pushed out, and clusters that there was no place for.
    pub fn evicted(&self) -> u64 {
        self.shelf.evicted() + self.dropped
    }

    pub fn metas(&self) -> &[Meta] {
        &self.metas
    }

    pub(super) fn set_meta(&mut self, number: u32, meta: Meta) {
        self.metas[number as usize] = meta;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Newer,
    Same,
    Older,
}

/// What the lesson is to what is known.
fn order(entry: &Entry, lesson: &Lesson) -> Order {
    let versions = entry.version > 0 && lesson.version > 0;
    if entry.base {
        // What was exported after the event says nothing of what was there before it.
        return match versions && lesson.version == entry.version {
            true => Order::Same,
            false => Order::Newer,
        };
    }
    if versions && lesson.version == entry.version {
        return Order::Same;
    }
    let restored = lesson.at.saturating_sub(entry.at) > RESTORED_MILLIS;
    let newer = if versions && !restored {
        lesson.version > entry.version
    } else {
        lesson.at > entry.at
    };
    match newer {
        true => Order::Newer,
        false => Order::Older,
    }
}
