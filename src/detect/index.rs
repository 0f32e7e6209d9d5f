//! Which detectors an event can interest, by API group, resource, subresource and verb.
//!
//! The four values are interned against what detectors name; each combination's candidates are
//! computed once and kept. An event that interests nobody costs one look-up, however many detectors
//! there are. Values no detector names share one id, so that an attacker cannot grow the table.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dashmap::DashMap;

use super::detector::{Detector, Matcher};
use super::inventory::lesson;
use crate::event::AuditEvent;
use crate::event::fact::head_groups;

/// A detector's place in [`crate::detect::Engine::detectors`].
pub type DetectorIndex = u16;

#[derive(Debug)]
pub struct Index {
    groups: Names,
    resources: Names,
    subresources: Names,
    verbs: Names,
    detectors: Vec<Sets>,
    memo: DashMap<Key, Arc<Candidates>, ahash::RandomState>,
    /// The next number of a [`Candidates`].
    next: AtomicU32,
}

/// The detectors that one combination can interest.
#[derive(Debug)]
pub struct Candidates {
    /// Differs between the combinations of one index.
    pub number: u32,
    /// In their order.
    pub detectors: Box<[DetectorIndex]>,
    /// The groups of facts that the detectors ask for and that are read from an event's head.
    pub head: u32,
    /// Such events may teach the inventory.
    pub teaches: bool,
}

/// Ids of the names that some detector asks for; 0 is every other name.
#[derive(Debug, Default)]
struct Names(HashMap<String, u16, ahash::RandomState>);

impl Names {
    fn add(&mut self, names: Option<&Vec<String>>) -> Option<Vec<u16>> {
        names.map(|names| {
            names
                .iter()
                .map(|name| {
                    let next = self.0.len() as u16 + 1;
                    *self.0.entry(name.clone()).or_insert(next)
                })
                .collect()
        })
    }

    fn id(&self, name: &str) -> u16 {
        self.0.get(name).copied().unwrap_or(0)
    }
}

/// One detector's sets as ids; `None` is any.
#[derive(Debug)]
struct Sets {
    groups: Option<Vec<u16>>,
    resources: Option<Vec<u16>>,
    subresources: Option<Vec<u16>>,
    verbs: Option<Vec<u16>>,
    nonresource: bool,
    /// The detector sees lines and no events.
    lines: bool,
    /// Groups of the facts that it asks for.
    asked: u32,
}

/// Group, resource and subresource are `None` for a request that names no resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    object: Option<(u16, u16, u16)>,
    verb: u16,
}

impl Index {
    pub fn new<'d>(detectors: impl Iterator<Item = &'d Detector>) -> Index {
        let mut index = Index {
            groups: Names::default(),
            resources: Names::default(),
            subresources: Names::default(),
            verbs: Names::default(),
            detectors: Vec::new(),
            memo: DashMap::default(),
            next: AtomicU32::new(0),
        };
        for (names, own) in [
            (&mut index.groups, lesson::GROUPS),
            (&mut index.resources, lesson::RESOURCES),
            (&mut index.subresources, lesson::SUBRESOURCES),
            (&mut index.verbs, lesson::VERBS),
        ] {
            // What the inventory learns of must not share an id with what it does not.
            names.add(Some(&own.iter().map(|name| (*name).to_owned()).collect()));
        }
        for Detector { matching, .. } in detectors {
            let Matcher {
                groups,
                resources,
                subresources,
                verbs,
                nonresource,
                lines,
                facts,
                not,
                ..
            } = matching;
            index.detectors.push(Sets {
                groups: index.groups.add(groups.as_ref()),
                resources: index.resources.add(resources.as_ref()),
                subresources: index.subresources.add(subresources.as_ref()),
                verbs: index.verbs.add(verbs.as_ref()),
                nonresource: nonresource.is_some(),
                lines: lines.is_some(),
                asked: facts.union(not).groups(),
            });
        }
        index
    }

    /// The detectors whose sets admit the event, in their order. Stages, `nonresource` globs and
    /// facts are still to be tried.
    pub fn candidates(&self, event: &AuditEvent<'_>) -> Arc<Candidates> {
        let key = Key {
            object: event.object_ref.as_ref().map(|object| {
                (
                    self.groups.id(&object.api_group),
                    self.resources.id(&object.resource),
                    self.subresources.id(&object.subresource),
                )
            }),
            verb: self.verbs.id(&event.verb),
        };
        if let Some(found) = self.memo.get(&key) {
            return Arc::clone(&found);
        }
        let admitted = || {
            (0..)
                .zip(&self.detectors)
                .filter(|(_, sets)| sets.admit(&key))
        };
        let asked = admitted().fold(0, |asked, (_, sets)| asked | sets.asked);
        let found = Arc::new(Candidates {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            detectors: admitted().map(|(index, _)| index).collect(),
            head: asked & head_groups(),
            teaches: event.object_ref.as_ref().is_some_and(|object| {
                lesson::teaches(
                    &object.api_group,
                    &object.resource,
                    &object.subresource,
                    &event.verb,
                )
            }),
        });
        self.memo.insert(key, Arc::clone(&found));
        found
    }
}

impl Sets {
    fn admit(&self, key: &Key) -> bool {
        let within =
            |set: &Option<Vec<u16>>, id: u16| set.as_ref().is_none_or(|set| set.contains(&id));
        !self.lines
            && within(&self.verbs, key.verb)
            && match key.object {
                Some((group, resource, subresource)) => {
                    !self.nonresource
                        && within(&self.groups, group)
                        && within(&self.resources, resource)
                        && within(&self.subresources, subresource)
                }
                None => {
                    self.groups.is_none() && self.resources.is_none() && self.subresources.is_none()
                }
            }
    }
}
