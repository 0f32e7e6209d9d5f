//! What a change of roles and bindings does: who can now do what that they could not before, and
//! whether its own author is among them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::grants::{Grant, Holder};
use super::lesson::{Author, Lesson, What};
use super::object::{Binding, Content, Key, Kind, Role, Subject};
use super::rights::{self, Budget, Request, Rule};
use super::state::Inventory;
use crate::event::Truth;

/// Comparisons that one change may cost: some milliseconds.
const BUDGET: u64 = 300_000;

/// Subjects whose rights are worked out, and rules shown of each.
const MAX_SUBJECTS: usize = 64;
const SHOWN_SUBJECTS: usize = 3;
const SHOWN_RULES: usize = 4;

/// Bytes of the account of one change.
const MAX_TEXT: usize = 700;

/// A right in its scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gain {
    /// `None` in the whole cluster.
    pub namespace: Option<Box<str>>,
    pub rule: Rule,
}

impl Gain {
    pub fn allows(&self, namespace: &str, request: &Request<'_>) -> bool {
        self.namespace
            .as_ref()
            .is_none_or(|own| **own == *namespace && matches!(request, Request::Resource { .. }))
            && self.rule.allows(request)
    }
}

/// What one change of a role or binding did.
#[derive(Debug, Clone)]
pub struct Effect {
    /// It is known to have left the object as it was.
    pub unchanged: bool,
    /// Whether a binding has a subject that it had not before; unknown where it was not seen before.
    pub subject_added: Truth,
    /// By subject, what it can do now and could not before. None of them is empty.
    pub gains: Vec<(Subject, Vec<Gain>)>,
    pub rights_added: Truth,
    pub self_grant: Truth,
    /// What the object was before is known; else `gains` may have been there already.
    pub certain: bool,
}

/// The names and groups by which someone's rights are found.
#[derive(Debug, Clone)]
pub struct Identity {
    pub user: Option<Subject>,
    pub groups: Vec<Box<str>>,
}

impl Identity {
    /// What is certain of a subject: the groups that the authenticator adds by itself.
    pub fn of(subject: &Subject) -> Identity {
        let mut groups: Vec<Box<str>> = Vec::new();
        let user = match subject {
            Subject::Group(name) => {
                groups.push(name.clone());
                None
            }
            other => Some(other.clone()),
        };
        let everyone = "system:authenticated";
        match subject {
            Subject::User(name) if **name == *"system:anonymous" => {
                groups.push("system:unauthenticated".into());
            }
            Subject::User(_) => groups.push(everyone.into()),
            Subject::ServiceAccount(namespace, _) => {
                groups.push("system:serviceaccounts".into());
                groups.push(format!("system:serviceaccounts:{namespace}").into());
                groups.push(everyone.into());
            }
            Subject::Group(name) if name.starts_with("system:serviceaccounts:") => {
                groups.push("system:serviceaccounts".into());
                groups.push(everyone.into());
            }
            Subject::Group(name) if **name == *everyone || **name == *"system:unauthenticated" => {}
            Subject::Group(_) => groups.push(everyone.into()),
        }
        Identity { user, groups }
    }

    fn of_author(author: &Author) -> Identity {
        let user = Subject::user(&author.effective);
        let mut identity = Identity::of(&user);
        identity.groups.extend(author.groups.iter().cloned());
        identity.groups.sort();
        identity.groups.dedup();
        identity
    }

    /// To whom RBAC does not apply.
    fn is_master(&self) -> bool {
        self.groups.iter().any(|group| **group == *"system:masters")
    }

    fn is(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Group(name) => self.groups.contains(name),
            other => self.user.as_ref() == Some(other),
        }
    }
}

/// A binding that the change makes count, and the rules that it gives then.
struct Given<'i> {
    key: Key,
    subjects: Vec<&'i Subject>,
    rules: Vec<&'i Rule>,
}

impl Inventory {
    /// Asked before the lesson is taken in. `before` is the object as it was known right before;
    /// `None` where that is not known, `Some(None)` where it is known that there was none.
    pub(super) fn effect(
        &self,
        cluster: u32,
        lesson: &Lesson,
        content: &Content,
        before: Option<Option<&Content>>,
        unchanged: bool,
    ) -> (Effect, Vec<Grant>) {
        let mut effect = Effect {
            unchanged,
            subject_added: Truth::Unknown,
            gains: Vec::new(),
            rights_added: Truth::Unknown,
            self_grant: Truth::Unknown,
            certain: false,
        };
        if unchanged {
            effect.subject_added = Truth::False;
            effect.rights_added = Truth::False;
            effect.self_grant = Truth::False;
            return (effect, Vec::new());
        }
        let made = matches!(lesson.what, What::Made(_));
        let certain = made || before.is_some();
        effect.certain = certain;
        let mut known;
        let given = match content {
            Content::Binding(binding) => {
                effect.subject_added = match before {
                    Some(Some(Content::Binding(old))) => binding
                        .subjects
                        .iter()
                        .any(|subject| !old.subjects.contains(subject))
                        .into(),
                    Some(None) => Truth::from(!binding.subjects.is_empty()),
                    _ if made => Truth::from(!binding.subjects.is_empty()),
                    _ => Truth::Unknown,
                };
                let rules = self.rules_of(cluster, &binding.role);
                known = rules.is_some() && certain;
                vec![Given {
                    key: lesson.key.clone(),
                    subjects: binding.subjects.iter().collect(),
                    rules: rules.unwrap_or_default(),
                }]
            }
            Content::Role(role) => {
                known = certain;
                self.given_by_role(cluster, &lesson.key, role)
            }
            _ => return (effect, Vec::new()),
        };
        let author = lesson.actor.as_deref();
        let identity = author.map(Identity::of_author);
        let mut budget = Budget::new(BUDGET);
        let mut grants = Vec::new();
        let mut subjects: Vec<&Subject> = given.iter().flat_map(|g| g.subjects.clone()).collect();
        subjects.sort();
        subjects.dedup();
        known &= subjects.len() <= MAX_SUBJECTS;
        let mut bindings: Vec<Box<str>> = given
            .iter()
            .map(|given| binding_in_reason(&given.key))
            .collect();
        bindings.truncate(MAX_SUBJECTS);
        for subject in subjects.into_iter().take(MAX_SUBJECTS) {
            let own: Vec<&Given<'_>> = given
                .iter()
                .filter(|given| given.subjects.contains(&subject))
                .collect();
            let Some(gains) = self.gains(cluster, &Identity::of(subject), &own, &mut budget) else {
                known = false;
                break;
            };
            if gains.is_empty() {
                continue;
            }
            if let (Some(author), Some(identity)) = (author, &identity) {
                let holder = if identity.is(subject) {
                    Some(Holder::Author(author.effective.clone()))
                } else {
                    self.usable(cluster, identity, subject).map(Holder::Account)
                };
                // What the author may do by other means is no news to it.
                let news = holder.and_then(|holder| {
                    let gains = self.gains(cluster, identity, &own, &mut budget)?;
                    (!gains.is_empty()).then_some((holder, gains))
                });
                if let Some((user, gains)) = news {
                    grants.push(Grant {
                        cluster: lesson.cluster.clone(),
                        author: author.user.clone(),
                        address: author.address.clone(),
                        owner: lesson.owner,
                        user,
                        gains,
                        bindings: bindings.clone(),
                        at: lesson.at,
                        request: lesson.request,
                        audit_id: author.audit_id.clone(),
                        object: lesson.key.text().into(),
                    });
                }
            }
            effect.gains.push((subject.clone(), gains));
        }
        if !certain {
            // All of it may have been so before.
            return (effect, Vec::new());
        }
        let told = |any: bool| match (any, known) {
            (true, _) => Truth::True,
            (false, true) => Truth::False,
            (false, false) => Truth::Unknown,
        };
        effect.rights_added = told(!effect.gains.is_empty());
        effect.self_grant = told(!grants.is_empty());
        (effect, grants)
    }

    /// The bindings that a role counts in: by itself, and by what takes it up.
    fn given_by_role<'i>(&'i self, cluster: u32, key: &Key, role: &'i Role) -> Vec<Given<'i>> {
        let mut roles = vec![key.clone()];
        if key.namespace.is_empty() {
            roles.extend(
                self.cluster_roles(cluster)
                    .filter(|(_, other)| other.takes.iter().any(|s| s.admits(&role.labels)))
                    .map(|(name, _)| Key::new(Kind::Role, "", name)),
            );
        }
        // What the role itself takes up counts in its own bindings as well.
        let taken: Vec<&Rule> = self.taken(cluster, &role.takes, key);
        roles
            .iter()
            .flat_map(|of| {
                let own = of == key;
                let rules: Vec<&Rule> = role
                    .rules
                    .iter()
                    .chain(taken.iter().copied().filter(|_| own))
                    .collect();
                self.bindings_of(cluster, of)
                    .map(move |(key, binding)| Given {
                        key: key.clone(),
                        subjects: binding.subjects.iter().collect(),
                        rules: rules.clone(),
                    })
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// What the identity gains by the bindings, over what it has; `None` where that costs too much.
    fn gains(
        &self,
        cluster: u32,
        identity: &Identity,
        given: &[&Given<'_>],
        budget: &mut Budget,
    ) -> Option<Vec<Gain>> {
        if identity.is_master() {
            return Some(Vec::new());
        }
        let had = self.rights_of(cluster, identity);
        let mut gains: Vec<Gain> = Vec::new();
        for given in given {
            let namespace = Some(&given.key.namespace).filter(|namespace| !namespace.is_empty());
            let old: Vec<&Rule> = had
                .iter()
                .filter(|(scope, _)| scope.is_none() || *scope == namespace.map(|n| &**n))
                .map(|(_, rule)| *rule)
                .collect();
            // URLs belong to no namespace.
            let in_scope: Vec<Rule>;
            let new: Vec<&Rule> = match namespace {
                None => given.rules.clone(),
                Some(_) => {
                    in_scope = given
                        .rules
                        .iter()
                        .filter(|rule| !rule.resources.is_empty())
                        .map(|rule| Rule {
                            urls: Vec::new(),
                            ..(*rule).clone()
                        })
                        .collect();
                    in_scope.iter().collect()
                }
            };
            for rule in rights::beyond(&new, &old, budget)? {
                let gain = Gain {
                    namespace: namespace.cloned(),
                    rule,
                };
                if !gains.contains(&gain) {
                    gains.push(gain);
                }
            }
        }
        Some(gains)
    }

    /// All rules that the identity has, with their namespaces. Of group `system:masters`, nothing:
    /// it needs none.
    pub(super) fn rights_of<'i>(
        &'i self,
        cluster: u32,
        identity: &Identity,
    ) -> Vec<(Option<&'i str>, &'i Rule)> {
        let groups = identity.groups.iter().cloned().map(Subject::Group);
        let mut rights = Vec::new();
        // Many bindings of one role give no more than one.
        let mut seen: BTreeSet<(Option<&str>, &Key)> = BTreeSet::new();
        for subject in identity.user.iter().cloned().chain(groups) {
            for (key, binding) in self.bindings_to(cluster, &subject) {
                let namespace = Some(&*key.namespace).filter(|namespace| !namespace.is_empty());
                if !seen.insert((namespace, &binding.role)) {
                    continue;
                }
                let rules = self.rules_of(cluster, &binding.role).unwrap_or_default();
                rights.extend(rules.into_iter().map(|rule| (namespace, rule)));
            }
        }
        rights
    }

    /// Whether RBAC, as far as it is known, allows it.
    pub fn allows(
        &self,
        cluster: u32,
        identity: &Identity,
        namespace: &str,
        request: &Request<'_>,
    ) -> bool {
        identity.is_master()
            || self
                .rights_of(cluster, identity)
                .iter()
                .any(|(scope, rule)| {
                    scope.is_none_or(|scope| {
                        !scope.is_empty()
                            && scope == namespace
                            && matches!(request, Request::Resource { .. })
                    }) && rule.allows(request)
                })
    }

    /// The user name of a service account that the author can act as, through its tokens, a pod or
    /// impersonation, if the subject is one or all of a namespace's.
    fn usable(&self, cluster: u32, author: &Identity, subject: &Subject) -> Option<Box<str>> {
        let (namespace, name) = match subject {
            Subject::ServiceAccount(namespace, name) => (&**namespace, &**name),
            Subject::Group(group) => (group.strip_prefix("system:serviceaccounts:")?, "default"),
            Subject::User(_) => return None,
        };
        let ask = |verb, group, resource, subresource, name| {
            let request = Request::Resource {
                verb,
                group,
                resource,
                subresource,
                name,
            };
            self.allows(cluster, author, namespace, &request)
        };
        let can = ask("create", "", "serviceaccounts", "token", name)
            || ask("impersonate", "", "serviceaccounts", "", name)
            || ask("create", "", "pods", "", "")
            || ask("create", "", "pods", "exec", "")
            || ask("get", "", "pods", "exec", "")
            || ask("create", "apps", "deployments", "", "")
            || ask("create", "apps", "daemonsets", "", "")
            || ask("create", "apps", "statefulsets", "", "")
            || ask("create", "batch", "jobs", "", "")
            || ask("create", "batch", "cronjobs", "", "");
        can.then(|| format!("system:serviceaccount:{namespace}:{name}").into())
    }

    pub(super) fn subjects_of(binding: &Binding) -> impl Iterator<Item = &Subject> {
        binding.subjects.iter()
    }
}

/// As the authorizer's reason names a binding.
fn binding_in_reason(key: &Key) -> Box<str> {
    match &*key.namespace {
        "" => format!("ClusterRoleBinding \"{}\"", key.name).into(),
        namespace => format!("RoleBinding \"{}/{namespace}\"", key.name).into(),
    }
}

impl Effect {
    /// Who can now do what, for people; empty where nobody is known to have gained anything.
    pub fn text(&self) -> String {
        let mut people: Vec<String> = self
            .gains
            .iter()
            .take(SHOWN_SUBJECTS)
            .map(|(subject, gains)| {
                let now = if self.certain { "now" } else { "by it" };
                format!("{} can {now} {}", subject.text(), gained(gains))
            })
            .collect();
        if self.gains.len() > SHOWN_SUBJECTS {
            people.push(format!("so can {} more", self.gains.len() - SHOWN_SUBJECTS));
        }
        let mut text = people.join("; ");
        if text.is_empty() {
            return text;
        }
        if text.len() > MAX_TEXT {
            text.truncate(text.floor_char_boundary(MAX_TEXT));
            text.push('…');
        }
        text.push_str(match self.certain {
            true => ", and could not before as far as is known.",
            false => "; what was so before is not known.",
        });
        text
    }
}

/// Gains for people, those of one namespace together, the widest first.
pub fn gained(gains: &[Gain]) -> String {
    let mut scopes: Vec<Option<&Box<str>>> = gains.iter().map(|g| g.namespace.as_ref()).collect();
    scopes.sort();
    scopes.dedup();
    let parts: Vec<String> = scopes
        .iter()
        .take(SHOWN_SUBJECTS)
        .map(|scope| {
            let mut words: Vec<String> = gains
                .iter()
                .filter(|gain| gain.namespace.as_ref() == *scope)
                .map(|gain| rights::words(&gain.rule))
                .collect();
            words.sort_by_key(|words| words != rights::EVERYTHING);
            if words.first().is_some_and(|word| word == rights::EVERYTHING) {
                words.truncate(1);
            }
            let place = match scope {
                None => "in the whole cluster".to_owned(),
                Some(namespace) => format!("in {namespace}"),
            };
            format!("{} {place}", rights::listed(&words, ", ", SHOWN_RULES))
        })
        .collect();
    parts.join("; ")
}
