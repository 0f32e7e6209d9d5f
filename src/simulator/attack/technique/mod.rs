//! Techniques: the single acts that intrusions are put together from.
//!
//! After the public lists: Microsoft's threat matrix for Kubernetes, Stratus Red Team's Kubernetes
//! techniques and MITRE ATT&CK's matrix for containers. Each has several variants, because a
//! detector that knows one client's way of doing it knows little.

mod credentials;
mod execution;
mod impact;
mod looking;
mod persistence;
mod rights;
mod workload;

use super::super::event::{Client, Target};
use super::Stage;

pub(super) use credentials::TECHNIQUES as CREDENTIALS;
pub(super) use execution::{LATERAL, TECHNIQUES as EXECUTION};
pub(super) use impact::{EVASION, TECHNIQUES as IMPACT};
pub(super) use looking::TECHNIQUES as LOOKING;
pub(super) use persistence::TECHNIQUES as PERSISTENCE;
pub(super) use rights::TECHNIQUES as RIGHTS;
pub(super) use workload::TECHNIQUES as WORKLOADS;

/// One act of an intrusion.
pub(super) struct Technique {
    /// What it is called, with its ATT&CK technique.
    pub name: &'static str,
    pub run: fn(&mut Stage<'_>, &mut Ground),
    /// Who can do it.
    pub by: &'static [Who],
}

/// What kind of identity the intruder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Person,
    Pipeline,
    Account,
    Node,
    LocalAdmin,
    Nobody,
}

pub(super) const ANYONE: &[Who] = &[Who::Person, Who::Pipeline, Who::Account, Who::LocalAdmin];
const NOT_A_PIPELINE: &[Who] = &[Who::Person, Who::Account, Who::LocalAdmin];

/// Where the intruder stands.
pub(super) struct Ground {
    pub who: Who,
    pub client: Client,
    /// Whether connections are upgraded by WebSocket.
    pub websocket: bool,
    /// The address outside of the site that it works from; empty where it is inside.
    pub address: String,
    pub agent: &'static str,
    /// An account that it has made or strengthened.
    pub account: Option<Account>,
}

/// A service account in an intruder's hands.
#[derive(Clone)]
pub(super) struct Account {
    pub namespace: String,
    pub name: String,
    /// The secret that a token of it lies in.
    pub secret: Option<String>,
}

impl Ground {
    fn upgrade(&self) -> &'static str {
        if self.websocket { "get" } else { "create" }
    }
}

/// A `create` whose object has its name in the body only.
fn create(s: &mut Stage<'_>, g: &Ground, target: Target, name: &str, body: String) -> super::Event {
    let query = match s.rng.below(3) {
        0 => "fieldManager=kubectl-create&fieldValidation=Strict",
        1 => "fieldManager=kubectl-client-side-apply&fieldValidation=Strict",
        _ => "",
    };
    let mut event = g.client.request(s.rng, s.now(), "create", target);
    if !query.is_empty() {
        event = event.query(query);
    }
    let mut event = event.writes(body);
    event.target.name = name.to_owned();
    event
}

/// The object by server-side apply, which creates it.
fn apply(s: &mut Stage<'_>, g: &Ground, target: Target, name: &str, body: String) -> super::Event {
    g.client
        .request(s.rng, s.now(), "patch", target.name(name))
        .query("fieldManager=kubectl&fieldValidation=Strict&force=false")
        .code(201)
        .writes(body)
}

/// One way or the other.
fn make(s: &mut Stage<'_>, g: &Ground, target: Target, name: &str, body: String) -> super::Event {
    if s.rng.chance(0.35) {
        apply(s, g, target, name, body)
    } else {
        create(s, g, target, name, body)
    }
}

/// Names as attackers choose them: dull.
fn dull(s: &mut Stage<'_>) -> String {
    let part = *s.rng.pick(&[
        "metrics-sync",
        "log-shipper",
        "cache-warmer",
        "health-check",
        "node-agent",
        "backup-helper",
        "image-puller",
        "debug",
        "test",
        "tmp",
        "nginx",
        "svc-monitor",
    ]);
    format!("{part}-{}", s.rng.suffix(4))
}

/// An image as attackers run: public, or one that the cluster has anyway.
fn image(s: &mut Stage<'_>) -> &'static str {
    s.rng.pick::<&str>(&[
        "alpine:3.21",
        "docker.io/library/ubuntu:24.04",
        "ghcr.io/helper-tools/toolkit:latest",
        "nicolaka/netshoot",
        "docker.io/library/python:3-slim",
        "quay.io/shellkit/base:1",
    ])
}
