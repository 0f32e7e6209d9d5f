//! A cluster's roles and bindings as a test makes them, and as an API server's audit log tells them.

use std::sync::Arc;

use lanner::decode::RecordPosition;
use lanner::detect::inventory::{Inventory, lesson};
use lanner::detect::occurrence::Place;
use lanner::event::{
    AuditEvent, Body, Category, Level, ObjectRef, Origin, ResponseStatus, Site, Stage, User, View,
};
use lanner::source::Partition;
use serde_json::{Value, json};

pub const CLUSTER: &str = "/subscriptions/1/managedclusters/prod";

/// A request as it is told.
#[derive(Debug, Clone)]
pub struct Told<'a> {
    pub verb: &'a str,
    pub group: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub code: i64,
    pub user: &'a str,
    pub groups: &'a [&'a str],
    /// What the answer holds; its resourceVersion stands in it.
    pub body: Option<Value>,
    /// Seconds.
    pub at: i64,
}

impl Default for Told<'_> {
    fn default() -> Self {
        Told {
            verb: "create",
            group: "",
            resource: "pods",
            subresource: "",
            namespace: "a",
            name: "web-0",
            code: 200,
            user: "root@example.com",
            groups: &["system:authenticated"],
            body: None,
            at: 1_000_000,
        }
    }
}

/// Tells the inventory, and gives the request's digest by which its effect is asked for.
pub fn tell(inventory: &mut Inventory, told: &Told<'_>) -> Option<u128> {
    let lessons = lessons(told);
    let request = lessons.first().map(|lesson| lesson.request);
    lessons
        .into_iter()
        .for_each(|lesson| inventory.learn(lesson));
    request
}

pub fn lessons(told: &Told<'_>) -> Vec<lanner::detect::inventory::Lesson> {
    let text = told.body.as_ref().map(Value::to_string);
    let time = jiff::Timestamp::from_second(told.at).expect("a time");
    let event = AuditEvent {
        level: Level::RequestResponse,
        stage: Stage::ResponseComplete,
        audit_id: format!("{}-{}-{}-{}", told.at, told.verb, told.resource, told.name).into(),
        verb: told.verb.into(),
        user: User {
            username: told.user.into(),
            groups: told.groups.iter().map(|group| (*group).into()).collect(),
            ..User::default()
        },
        object_ref: Some(ObjectRef {
            resource: told.resource.into(),
            subresource: told.subresource.into(),
            namespace: told.namespace.into(),
            name: told.name.into(),
            api_group: told.group.into(),
            ..ObjectRef::default()
        }),
        response_status: Some(ResponseStatus {
            code: told.code,
            ..ResponseStatus::default()
        }),
        response_object: match &text {
            Some(text) => Body::Text(text.as_str().into()),
            None => Body::Absent,
        },
        request_received: Some(time),
        stage_time: Some(time),
        ..AuditEvent::default()
    };
    let origin = Origin {
        cluster: CLUSTER.into(),
        category: Category::KubeAudit,
        time: Some(time),
    };
    let place = Place {
        partition: &Arc::new(Partition {
            source: "test".into(),
            id: "0".into(),
        }),
        position: RecordPosition {
            chunk: 0,
            offset: 0,
        },
        clock: Default::default(),
    };
    let mut lessons = Vec::new();
    let site = Site::default();
    if lesson::teaches(told.group, told.resource, told.subresource, told.verb) {
        lesson::read(&View::new(&event, &origin, &site), place, &mut lessons);
    }
    lessons
}

/// A binding's body.
pub fn binding(role_kind: &str, role: &str, subjects: &[Value], version: u64) -> Value {
    json!({
        "kind": "RoleBinding",
        "metadata": { "name": "b", "resourceVersion": version.to_string() },
        "roleRef": { "kind": role_kind, "name": role },
        "subjects": subjects,
    })
}

pub fn user(name: &str) -> Value {
    json!({ "kind": "User", "name": name })
}
