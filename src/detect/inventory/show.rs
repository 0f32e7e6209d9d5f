//! The inventory for people: rows of what is known, and since when.

use jiff::Timestamp;
use serde::Serialize;

use super::effect::{Gain, Identity, gained};
use super::meta::Meta;
use super::object::{Content, Key, Kind, Labels, Subject};
use super::rights;
use super::state::{Entry, Inventory};

/// One object as it is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    pub cluster: String,
    pub kind: &'static str,
    /// Empty for what belongs to the cluster.
    pub namespace: String,
    pub name: String,
    /// In words; empty where nothing more is known than that it is there.
    pub what: String,
    /// When that was last seen.
    pub seen: Option<Timestamp>,
}

/// How far what is known of a cluster can be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reach {
    pub cluster: String,
    /// Changes before this time were not seen.
    pub since: Option<Timestamp>,
    pub latest: Option<Timestamp>,
    pub imported: Option<Timestamp>,
}

fn time(millis: i64) -> Option<Timestamp> {
    Timestamp::from_millisecond(millis)
        .ok()
        .filter(|_| millis > i64::MIN)
}

impl Reach {
    fn of(meta: &Meta) -> Reach {
        Reach {
            cluster: meta.name.to_string(),
            since: meta.since.and_then(time),
            latest: time(meta.latest),
            imported: meta.imported.and_then(time),
        }
    }

    /// As a sentence.
    pub fn text(&self) -> String {
        let name = match self.cluster.as_str() {
            "" => "(no cluster named)",
            name => name,
        };
        let since = match self.since {
            Some(since) => format!("as far as seen since {since:.0}"),
            None => "nothing was seen yet".to_owned(),
        };
        match self.imported {
            Some(imported) => format!("{name}: {since}, and as imported at {imported:.0}"),
            None => format!("{name}: {since}; what was there before and not touched is not known"),
        }
    }
}

impl Inventory {
    /// The clusters whose name `wanted` admits, in the order of their names.
    pub fn reaches(&self, wanted: impl Fn(&str) -> bool) -> Vec<Reach> {
        let mut reaches: Vec<Reach> = self
            .metas
            .iter()
            .filter(|meta| wanted(&meta.name))
            .map(Reach::of)
            .collect();
        reaches.sort_by(|a, b| a.cluster.cmp(&b.cluster));
        reaches
    }

    /// What is there in the clusters whose name `wanted` admits, by cluster, kind, namespace and name.
    pub fn rows(&self, wanted: impl Fn(&str) -> bool, kind: Option<Kind>) -> Vec<Row> {
        self.rows_of(wanted, |key, _| kind.is_none_or(|kind| key.kind == kind))
    }

    /// The bindings that name the subject.
    pub fn rows_to(&self, wanted: impl Fn(&str) -> bool, subject: &Subject) -> Vec<Row> {
        self.rows_of(wanted, |_, entry| match &entry.content {
            Content::Binding(binding) => binding.subjects.contains(subject),
            _ => false,
        })
    }

    fn rows_of(
        &self,
        wanted: impl Fn(&str) -> bool,
        shown: impl Fn(&Key, &Entry) -> bool,
    ) -> Vec<Row> {
        let mut rows = Vec::new();
        for (number, meta) in (0..)
            .zip(&self.metas)
            .filter(|(_, meta)| wanted(&meta.name))
        {
            let entries = self
                .of_cluster(number)
                .filter(|(key, entry)| !entry.gone && shown(key, entry));
            rows.extend(entries.map(|(key, entry)| Row {
                cluster: meta.name.to_string(),
                kind: name_of(key),
                namespace: key.namespace.to_string(),
                name: key.name.to_string(),
                what: self.words(number, key, entry),
                seen: time(entry.at),
            }));
        }
        rows.sort_by(|a, b| {
            (&a.cluster, a.kind, &a.namespace, &a.name).cmp(&(
                &b.cluster,
                b.kind,
                &b.namespace,
                &b.name,
            ))
        });
        rows
    }

    fn words(&self, cluster: u32, key: &Key, entry: &Entry) -> String {
        match &entry.content {
            Content::Unknown => "content not known".to_owned(),
            Content::Role(role) => {
                let mut words: Vec<String> = role.rules.iter().map(rights::words).collect();
                if !role.takes.is_empty() {
                    words.push("what it takes up by labels".to_owned());
                }
                rights::listed(&words, "; ", 6)
            }
            Content::Binding(binding) => {
                let subjects: Vec<String> = binding.subjects.iter().map(Subject::text).collect();
                format!(
                    "{} to {}",
                    binding.role.text(),
                    rights::listed(&subjects, ", ", 6)
                )
            }
            Content::Pod(pod) => pod.words(),
            Content::Namespace(namespace) => {
                let mut words = label_words(&namespace.labels);
                if self.bare.contains_key(&(cluster, key.clone())) {
                    words.push("no network policy".to_owned());
                }
                words.join(", ")
            }
            Content::Plain => String::new(),
        }
    }

    /// What a subject can do in a cluster, as far as is known.
    pub fn rights_text(&self, cluster: &str, subject: &Subject) -> Option<String> {
        let number = self.number(cluster)?;
        let identity = Identity::of(subject);
        if identity
            .groups
            .iter()
            .any(|group| **group == *"system:masters")
        {
            return Some(format!("{} in the whole cluster", rights::EVERYTHING));
        }
        let gains: Vec<Gain> = self
            .rights_of(number, &identity)
            .into_iter()
            .map(|(namespace, rule)| Gain {
                namespace: namespace.map(Box::from),
                rule: rule.clone(),
            })
            .collect();
        Some(gained(&gains))
    }
}

fn name_of(key: &Key) -> &'static str {
    match (key.kind, &*key.namespace) {
        (Kind::Role, "") => "clusterrole",
        (Kind::Binding, "") => "clusterrolebinding",
        (Kind::Binding, _) => "rolebinding",
        (kind, _) => kind.as_str(),
    }
}

/// The labels that say something of a namespace's guard or purpose.
fn label_words(labels: &Labels) -> Vec<String> {
    labels
        .iter()
        .filter(|(key, _)| !key.starts_with("kubernetes.io/"))
        .take(8)
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}
