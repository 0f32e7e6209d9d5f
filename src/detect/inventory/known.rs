//! The facts `known.*`: what the inventory says of the event at hand.
//!
//! The parallel half cannot know them; it makes a match on everything else, and the ordered half
//! ([`crate::detect::order`]) asks here whether the rest holds.

use super::grants::{Grant, LINKED_MILLIS, Use};
use super::object::{Content, Key, Kind, Labels, Namespace};
use super::rights::Request;
use super::state::Inventory;
use super::{effect, lesson::Lesson};
use crate::alert::Severity;
use crate::detect::Detector;
use crate::detect::occurrence::Occurrence;
use crate::event::fact::{Bits, FactSet};
use crate::event::{Fact, Truth, View};

/// Labels by which people tell the environment, and what they call production.
const ENVIRONMENT: &[&str] = &["env", "environment", "stage", "tier", "lifecycle"];
const PRODUCTION: &[&str] = &["prod", "production", "prd", "live"];

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// What a detector leaves to be asked of the inventory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    pub facts: Bits,
    pub not: Bits,
}

impl Asked {
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty() && self.not.is_empty()
    }

    /// Divides facts and `not` into what one event tells and what only the inventory can.
    pub fn split(facts: Bits, not: Bits) -> (Bits, Bits, Asked) {
        let mask = crate::event::fact::Group::Known.mask();
        let asked = Asked {
            facts: facts.within(&mask),
            not: not.within(&mask),
        };
        (facts.without(&mask), not.without(&mask), asked)
    }
}

/// What of the event the inventory's answers need besides its [`Occurrence`].
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// The binding that the authorizer's reason names: `RoleBinding "name/namespace"`.
    pub by: Box<str>,
    /// Places in the detector's `[[raise]]` of those that hold but for what is known, with what they
    /// would raise to at the site.
    pub raises: Vec<(u8, Severity)>,
    /// The match has its severity by another `[[raise]]`.
    pub raised: bool,
}

impl Query {
    /// What the match of the event has to ask; `None` where the detector names nothing that is known.
    pub(crate) fn of(detector: &Detector, view: &View<'_>, raised: bool) -> Option<Query> {
        let asks = !detector.matching.known.is_empty()
            || detector.raise.iter().any(|raise| !raise.known.is_empty());
        if !asks {
            return None;
        }
        let raises = (0..)
            .zip(&detector.raise)
            .filter(|(_, raise)| !raise.known.is_empty())
            .filter(|(_, raise)| view.test(&raise.facts, &raise.not) == Truth::True)
            .map(|(at, raise)| (at, raise.severity.shifted(view.site.severity_shift)));
        let reason = view.event.annotation("authorization.k8s.io/reason");
        Some(Query {
            by: binding_of(reason.unwrap_or_default()).into(),
            raises: raises.collect(),
            raised,
        })
    }
}

/// `RBAC: allowed by RoleBinding "a/b" of …` names the binding.
pub fn binding_of(reason: &str) -> &str {
    let Some(rest) = reason.strip_prefix("RBAC: allowed by ") else {
        return "";
    };
    match rest.match_indices('"').nth(1) {
        Some((end, _)) => &rest[..=end],
        None => "",
    }
}

impl Inventory {
    /// The facts among `wanted`, of the event behind `occurrence`.
    pub fn facts(&self, wanted: &Bits, occurrence: &Occurrence, query: &Query) -> FactSet {
        let mut facts = FactSet::default();
        let object = occurrence.object();
        let at = occurrence.clock().as_millisecond();
        for fact in wanted.iter() {
            let effect = || self.effect_of(occurrence.request.0);
            let truth = match fact {
                Fact::KnownPodPrivileged if object.resource == "pods" => {
                    self.pod_privileged(&occurrence.cluster, object.namespace, object.name, at)
                }
                Fact::KnownPodPrivileged => Truth::False,
                Fact::KnownUnchanged => effect().is_some_and(|effect| effect.unchanged).into(),
                Fact::KnownSubjectAdded => effect().map_or(Truth::Unknown, |e| e.subject_added),
                Fact::KnownSubjectsKept => effect()
                    .is_some_and(|effect| effect.subject_added == Truth::False)
                    .into(),
                Fact::KnownRightsAdded => effect().map_or(Truth::Unknown, |e| e.rights_added),
                Fact::KnownSelfGrant => effect().map_or(Truth::Unknown, |e| e.self_grant),
                Fact::KnownSelfGrantedUse => self.grant_used(occurrence, query).is_some().into(),
                Fact::KnownNamespaceWithoutPolicy => self.without_policy(occurrence),
                Fact::KnownNamespaceProduction => self.labels(occurrence, |labels| {
                    labels.iter().any(|(key, value)| {
                        let key = key.rsplit('/').next().unwrap_or_default();
                        let is = |list: &[&str], text: &str| {
                            list.iter().any(|of| of.eq_ignore_ascii_case(text))
                        };
                        is(ENVIRONMENT, key) && is(PRODUCTION, value)
                    })
                }),
                Fact::KnownNamespaceRestricted => self.labels(occurrence, |labels| {
                    labels.iter().any(|(key, value)| {
                        **key == *ENFORCE && matches!(&**value, "baseline" | "restricted")
                    })
                }),
                _ => Truth::Unknown,
            };
            facts.set(fact, truth);
        }
        facts
    }

    fn namespace_of(&self, occurrence: &Occurrence) -> Option<(u32, Key, &Namespace)> {
        let object = occurrence.object();
        let name = match object.resource {
            "namespaces" => object.name,
            _ => object.namespace,
        };
        let cluster = self.number(&occurrence.cluster)?;
        let key = Key::new(Kind::Namespace, "", name);
        let entry = self.entry(cluster, &key).filter(|entry| !entry.gone)?;
        match &entry.content {
            Content::Namespace(namespace) => Some((cluster, key, namespace)),
            _ => None,
        }
    }

    fn labels(&self, occurrence: &Occurrence, test: impl Fn(&Labels) -> bool) -> Truth {
        self.namespace_of(occurrence)
            .map_or(Truth::Unknown, |(_, _, namespace)| {
                test(&namespace.labels).into()
            })
    }

    fn without_policy(&self, occurrence: &Occurrence) -> Truth {
        let object = occurrence.object();
        if let Some(cluster) = self.number(&occurrence.cluster) {
            let mut policies = self.of_kind(cluster, Kind::Policy, object.namespace);
            if policies.any(|(_, entry)| !entry.gone) {
                return Truth::False;
            }
        }
        match self.namespace_of(occurrence) {
            Some((cluster, key, _)) if self.bare.contains_key(&(cluster, key.clone())) => {
                Truth::True
            }
            _ => Truth::Unknown,
        }
    }

    /// The grant that the request uses, if its actor gave itself the right for it.
    pub fn grant_used(&self, occurrence: &Occurrence, query: &Query) -> Option<&Grant> {
        let object = occurrence.object();
        let name = match (occurrence.verb(), object.subresource) {
            // The name of what is made is in the body, which authorization does not see.
            ("create", "") => "",
            _ => object.name,
        };
        self.grants.used(&Use {
            cluster: &occurrence.cluster,
            user: occurrence.user(),
            impersonated: occurrence.impersonated(),
            address: occurrence.address().unwrap_or_default(),
            namespace: object.namespace,
            request: Request::Resource {
                verb: occurrence.verb(),
                group: object.group,
                resource: object.resource,
                subresource: object.subresource,
                name,
            },
            by: &query.by,
            at: occurrence.clock().as_millisecond(),
        })
    }

    /// What a person should hear of the facts that made a finding.
    pub fn explain(&self, wanted: &Bits, occurrence: &Occurrence, query: &Query) -> Option<String> {
        let object = occurrence.object();
        if wanted.contains(Fact::KnownSelfGrantedUse)
            && let Some(grant) = self.grant_used(occurrence, query)
        {
            let time = |millis: i64| {
                jiff::Timestamp::from_millisecond(millis)
                    .map(|time| format!("{time:.0}"))
                    .unwrap_or_default()
            };
            let whom = match &grant.user {
                super::grants::Holder::Author(_) => "themselves".to_owned(),
                super::grants::Holder::Account(account) => account.to_string(),
            };
            return Some(format!(
                "{} gave {whom} the right at {} by {} (audit id {}): {}.",
                grant.author,
                time(grant.at),
                grant.object,
                grant.audit_id,
                effect::gained(&grant.gains),
            ));
        }
        if wanted.contains(Fact::KnownPodPrivileged) && object.resource == "pods" {
            let at = occurrence.clock().as_millisecond();
            let pod = self.pod(&occurrence.cluster, object.namespace, object.name, at)?;
            return (pod.0 != 0).then(|| format!("The pod is known to be so: {}.", pod.words()));
        }
        None
    }

    /// What late lessons may have changed for matches that were already judged: tells whether a match
    /// of that event is to be judged again.
    pub fn take_late(&mut self) -> Vec<Lesson> {
        std::mem::take(&mut self.late)
    }
}

/// Whether a late lesson could change the answer for the event.
pub fn concerns(lesson: &Lesson, occurrence: &Occurrence) -> bool {
    let at = occurrence.clock().as_millisecond();
    if *lesson.cluster != *occurrence.cluster || lesson.at > at {
        return false;
    }
    match lesson.key.kind {
        Kind::Pod => {
            *lesson.key.namespace == *occurrence.object().namespace
                && *lesson.key.name == *occurrence.object().name
        }
        Kind::Role | Kind::Binding => {
            at - lesson.at <= LINKED_MILLIS
                && lesson.actor.as_ref().is_some_and(|author| {
                    *author.user == *occurrence.user()
                        || Some(&*author.address) == occurrence.address()
                })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::binding_of;

    #[test]
    fn the_authorizers_reason_names_the_binding() {
        for (reason, expected) in [
            (
                "RBAC: allowed by ClusterRoleBinding \"a b\" of ClusterRole \"c\" to User \"d\"",
                "ClusterRoleBinding \"a b\"",
            ),
            (
                "RBAC: allowed by RoleBinding \"dev/shop\" of Role \"dev\" to Group \"g\"",
                "RoleBinding \"dev/shop\"",
            ),
            ("access granted by Azure RBAC", ""),
            ("RBAC: allowed by RoleBinding \"x", ""),
            ("", ""),
        ] {
            assert_eq!(binding_of(reason), expected);
        }
    }
}
