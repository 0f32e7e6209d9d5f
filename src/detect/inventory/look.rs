//! What the inventory holds, as the rest of it asks: objects by kind, the rules of a role, the bindings
//! of a role or to a subject, Kubernetes' own among them. [`super::state`] fills it; [`super::effect`],
//! [`super::known`] and [`super::show`] ask.

use super::builtin;
use super::object::{Binding, Content, Key, Kind, Role, Selector, Subject};
use super::rights::Rule;
use super::state::{Entry, Inventory};
use crate::event::Truth;

impl Inventory {
    /// Everything of a cluster, also what is gone.
    pub(super) fn of_cluster(&self, cluster: u32) -> impl Iterator<Item = (&Key, &Entry)> {
        let from = (cluster, Key::new(Kind::Role, "", ""));
        self.shelf
            .range(from)
            .take_while(move |((of, _), _)| *of == cluster)
            .map(|((_, key), entry)| (key, entry))
    }

    /// Objects of a kind in a namespace, also those that are gone.
    pub(super) fn of_kind<'i>(
        &'i self,
        cluster: u32,
        kind: Kind,
        namespace: &'i str,
    ) -> impl Iterator<Item = (&'i Key, &'i Entry)> {
        let from = (cluster, Key::new(kind, namespace, ""));
        self.shelf
            .range(from)
            .take_while(move |((of, key), _)| {
                *of == cluster && key.kind == kind && *key.namespace == *namespace
            })
            .map(|((_, key), entry)| (key, entry))
    }

    pub(super) fn entry(&self, cluster: u32, key: &Key) -> Option<&Entry> {
        self.shelf.get(&(cluster, key.clone()))
    }

    /// The ClusterRoles that are known, Kubernetes' own among them.
    pub(super) fn cluster_roles(&self, cluster: u32) -> impl Iterator<Item = (&str, &Role)> {
        let seen = self.of_kind(cluster, Kind::Role, "");
        let seen = seen.filter_map(|(key, entry)| match &entry.content {
            Content::Role(role) if !entry.gone => Some((&*key.name, role)),
            _ => None,
        });
        let built_in = builtin::roles().iter().filter(move |(name, _)| {
            self.entry(cluster, &Key::new(Kind::Role, "", name))
                .is_none()
        });
        seen.chain(built_in.map(|(name, role)| (&**name, role)))
    }

    fn role(&self, cluster: u32, key: &Key) -> Option<&Role> {
        match self.entry(cluster, key) {
            Some(entry) => match &entry.content {
                Content::Role(role) if !entry.gone => Some(role),
                _ => None,
            },
            None if key.namespace.is_empty() => builtin::roles().get(&key.name),
            None => None,
        }
    }

    /// The rules of a role, with those of the roles that it takes up; `None` where the role was never
    /// seen.
    pub(super) fn rules_of(&self, cluster: u32, key: &Key) -> Option<Vec<&Rule>> {
        let role = self.role(cluster, key)?;
        let mut rules: Vec<&Rule> = role.rules.iter().collect();
        rules.extend(self.taken(cluster, &role.takes, key));
        Some(rules)
    }

    /// The rules of all roles but `own` that the selectors take up.
    pub(super) fn taken(&self, cluster: u32, takes: &[Selector], own: &Key) -> Vec<&Rule> {
        if takes.is_empty() {
            return Vec::new();
        }
        self.cluster_roles(cluster)
            .filter(|(name, role)| {
                **name != *own.name && takes.iter().any(|selector| selector.admits(&role.labels))
            })
            .flat_map(|(_, role)| &role.rules)
            .collect()
    }

    pub(super) fn bindings_of<'i>(
        &'i self,
        cluster: u32,
        role: &Key,
    ) -> impl Iterator<Item = (&'i Key, &'i Binding)> {
        let keys = self.by_role.get(&(cluster, role.clone()));
        let role = role.clone();
        let seen = keys.into_iter().flatten();
        let seen = seen.filter_map(move |key| Some((key, self.binding(cluster, key)?)));
        let built_in = builtin::bindings().iter().filter(move |(key, binding)| {
            binding.role == role && self.entry(cluster, key).is_none()
        });
        seen.chain(built_in.map(|(key, binding)| (key, binding)))
    }

    pub(super) fn bindings_to<'i>(
        &'i self,
        cluster: u32,
        subject: &Subject,
    ) -> impl Iterator<Item = (&'i Key, &'i Binding)> {
        let keys = self.by_subject.get(&(cluster, subject.clone()));
        let subject = subject.clone();
        let seen = keys.into_iter().flatten();
        let seen = seen.filter_map(move |key| Some((key, self.binding(cluster, key)?)));
        let built_in = builtin::bindings().iter().filter(move |(key, binding)| {
            binding.subjects.contains(&subject) && self.entry(cluster, key).is_none()
        });
        seen.chain(built_in.map(|(key, binding)| (key, binding)))
    }

    fn binding(&self, cluster: u32, key: &Key) -> Option<&Binding> {
        match self.entry(cluster, key) {
            Some(Entry {
                gone: false,
                content: Content::Binding(binding),
                ..
            }) => Some(binding),
            _ => None,
        }
    }

    /// Whether a pod owns its node, at a time: what has gone since counts as it was.
    pub fn pod_privileged(&self, cluster: &str, namespace: &str, name: &str, at: i64) -> Truth {
        match self.pod(cluster, namespace, name, at) {
            Some(pod) => Truth::from(pod.0 != 0),
            None => Truth::Unknown,
        }
    }

    pub(super) fn pod(
        &self,
        cluster: &str,
        namespace: &str,
        name: &str,
        at: i64,
    ) -> Option<super::object::Pod> {
        let number = self.number(cluster)?;
        let entry = self.entry(number, &Key::new(Kind::Pod, namespace, name))?;
        match entry.content {
            Content::Pod(pod) if !entry.gone || entry.at >= at => Some(pod),
            _ => None,
        }
    }
}
