//! What `kubectl get … -o json` says, as lessons: a List or single objects, one after the other.
//!
//! Each object is read as the audit log's answer to a create would be, so that both ways agree.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::lesson::{self, Lesson, What};
use super::object::{Content, Key, Kind};
use super::shelf::IMPORTED;
use super::state::{Entry, Inventory};
use crate::decode::RecordPosition;
use crate::detect::occurrence::Place;
use crate::event::clock::Clock;
use crate::event::{
    AuditEvent, Body, Category, Level, ObjectRef, Origin, ResponseStatus, Site, Stage, View,
};
use crate::source::Partition;

/// How an import is to be understood.
#[derive(Debug, Clone, Copy)]
pub struct Import<'a> {
    /// The cluster's ARM id, or [`super::EVERY_CLUSTER`].
    pub cluster: &'a str,
    /// When it was so.
    pub at: Timestamp,
    /// What is not in it is not there: of the kinds that it has, and network policies.
    pub complete: bool,
    /// Events may be older: what they say goes before what was imported.
    pub base: bool,
}

/// What became of the objects of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// By kind, in the order of [`Kind::ALL`].
    pub taken: [usize; 6],
    /// Of kinds that the inventory does not keep.
    pub passed: usize,
}

#[derive(Deserialize)]
struct Head<'t> {
    #[serde(default, borrow)]
    items: Option<Vec<&'t RawValue>>,
    #[serde(default)]
    kind: String,
    #[serde(default, rename = "apiVersion")]
    api_version: String,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
}

/// The resource of a kind, in the plural, where the inventory keeps it.
fn resource(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Role" => "roles",
        "ClusterRole" => "clusterroles",
        "RoleBinding" => "rolebindings",
        "ClusterRoleBinding" => "clusterrolebindings",
        "ServiceAccount" => "serviceaccounts",
        "Pod" => "pods",
        "Namespace" => "namespaces",
        "NetworkPolicy" => "networkpolicies",
        "CiliumNetworkPolicy" => "ciliumnetworkpolicies",
        _ => return None,
    })
}

impl Inventory {
    /// Takes in one file's text; nothing of it where it cannot be read.
    pub fn import(
        &mut self,
        text: &str,
        site: &Site,
        import: &Import<'_>,
    ) -> Result<Imported, serde_json::Error> {
        let mut objects = Vec::new();
        let mut imported = Imported::default();
        for value in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
            let value = value?;
            let head: Head<'_> = serde_json::from_str(value.get())?;
            match head.items {
                // A List of one kind may leave the kind out of its items.
                Some(items) => {
                    let of_list = head.kind.strip_suffix("List").unwrap_or_default();
                    for item in items {
                        let mut own: Head<'_> = serde_json::from_str(item.get())?;
                        if own.kind.is_empty() {
                            own.kind = of_list.to_owned();
                            own.api_version.clone_from(&head.api_version);
                        }
                        objects.push((own, item.get()));
                    }
                }
                None => objects.push((head, value.get())),
            }
        }
        let mut lessons = Vec::new();
        for (head, text) in &objects {
            let before = lessons.len();
            read(head, text, site, import, &mut lessons);
            match lessons.get(before).and_then(|lesson: &Lesson| {
                Kind::ALL.iter().position(|kind| *kind == lesson.key.kind)
            }) {
                Some(kind) => imported.taken[kind] += 1,
                None => imported.passed += 1,
            }
        }
        self.take_import(lessons, import);
        Ok(imported)
    }

    fn take_import(&mut self, lessons: Vec<Lesson>, import: &Import<'_>) {
        let at = import.at.as_millisecond();
        let Some(cluster) = self.enter(import.cluster) else {
            return;
        };
        if import.complete {
            self.forget_missing(cluster, &lessons, at);
        }
        let mut namespaces = Vec::new();
        for lesson in lessons {
            if lesson.key.kind == Kind::Namespace {
                namespaces.push(lesson.key.clone());
            }
            let place = (cluster, lesson.key.clone());
            match &lesson.what {
                What::Left { content, .. } if import.base => {
                    let entry = Entry {
                        version: lesson.version,
                        at,
                        base: true,
                        gone: false,
                        content: content.clone(),
                    };
                    self.put(place, IMPORTED, entry);
                }
                _ => self.learn(lesson),
            }
        }
        for key in namespaces.into_iter().filter(|_| import.complete) {
            self.learn(lesson_of(import, key, What::Whole));
        }
        let mut meta = self.metas()[cluster as usize].clone();
        meta.imported = Some(at);
        if import.base {
            meta.since = None;
            meta.latest = i64::MIN;
        }
        self.set_meta(cluster, meta);
    }

    /// Lets go what a complete import of some kinds does not have.
    fn forget_missing(&mut self, cluster: u32, lessons: &[Lesson], at: i64) {
        let kinds: Vec<Kind> = lessons.iter().map(|lesson| lesson.key.kind).collect();
        let missing: Vec<Key> = self
            .of_cluster(cluster)
            .filter(|(key, entry)| {
                !entry.gone
                    && entry.at <= at
                    && kinds.contains(&key.kind)
                    && !lessons.iter().any(|lesson| lesson.key == **key)
            })
            .map(|(key, _)| key.clone())
            .collect();
        let name = self.metas()[cluster as usize].name.to_string();
        for key in missing {
            let import = Import {
                cluster: &name,
                at: Timestamp::from_millisecond(at).unwrap_or_default(),
                complete: true,
                base: false,
            };
            self.learn(lesson_of(&import, key, What::Gone));
        }
    }
}

fn lesson_of(import: &Import<'_>, key: Key, what: What) -> Lesson {
    let at = import.at.as_millisecond();
    Lesson {
        cluster: import.cluster.into(),
        at,
        received: at,
        version: 0,
        owner: IMPORTED,
        request: 0,
        key,
        what,
        actor: None,
    }
}

/// The object as a create would have left it, and not as one that anybody made now.
fn read(head: &Head<'_>, text: &str, site: &Site, import: &Import<'_>, out: &mut Vec<Lesson>) {
    let Some(resource) = resource(&head.kind) else {
        return;
    };
    let group = head
        .api_version
        .split_once('/')
        .map_or("", |(group, _)| group);
    let event = AuditEvent {
        level: Level::RequestResponse,
        stage: Stage::ResponseComplete,
        verb: "create".into(),
        object_ref: Some(ObjectRef {
            resource: resource.into(),
            namespace: head.metadata.namespace.as_str().into(),
            name: head.metadata.name.as_str().into(),
            api_group: group.into(),
            ..ObjectRef::default()
        }),
        response_status: Some(ResponseStatus {
            code: 201,
            ..ResponseStatus::default()
        }),
        response_object: Body::Text(text.into()),
        request_received: Some(import.at),
        stage_time: Some(import.at),
        ..AuditEvent::default()
    };
    let origin = Origin {
        cluster: import.cluster.into(),
        category: Category::KubeAudit,
        time: Some(import.at),
    };
    let place = Place {
        partition: &Arc::new(Partition {
            source: "import".into(),
            id: "import".into(),
        }),
        position: RecordPosition {
            chunk: 0,
            offset: 0,
        },
        clock: Clock::default(),
    };
    let begin = out.len();
    lesson::read(&View::new(&event, &origin, site), place, out);
    for lesson in &mut out[begin..] {
        lesson.owner = IMPORTED;
        lesson.request = 0;
        lesson.actor = None;
        let content = match &mut lesson.what {
            What::Made(content) => std::mem::replace(content, Content::Unknown),
            _ => continue,
        };
        lesson.what = What::Left {
            content,
            shown: true,
        };
    }
}
