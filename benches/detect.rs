//! What more detectors cost: 10, 150 and 1,500 of them, and the shipped library, on the same records.
//!
//! `cargo bench --bench detect [-- FILE]`, as `decode`. The detectors that are made for it name real
//! resources and verbs and are rejected by their facts, without conditions; the shipped ones find
//! what they find. "decode" is the same work with no detector at all.

mod support;

use std::fmt::Write as _;
use std::hint::black_box;

use lanner::detect::{Engine, load};
use lanner::event::Sites;
use lanner::pipeline::work::{TimeRange, Worker};
use lanner::source::Batch;
use support::{Contestant, contest};

const COUNTS: [usize; 3] = [10, 150, 1500];

/// What an audit log is made of, and a few that it rarely has.
const RESOURCES: [(&str, &str); 30] = [
    ("coordination.k8s.io", "leases"),
    ("", "pods"),
    ("", "nodes"),
    ("", "configmaps"),
    ("", "secrets"),
    ("", "endpoints"),
    ("", "services"),
    ("", "events"),
    ("", "namespaces"),
    ("", "serviceaccounts"),
    ("", "persistentvolumes"),
    ("", "persistentvolumeclaims"),
    ("", "resourcequotas"),
    ("discovery.k8s.io", "endpointslices"),
    ("authorization.k8s.io", "subjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("apps", "daemonsets"),
    ("apps", "statefulsets"),
    ("batch", "jobs"),
    ("batch", "cronjobs"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "roles"),
    ("networking.k8s.io", "networkpolicies"),
    ("networking.k8s.io", "ingresses"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
];

const VERBS: [&str; 5] = [
    r#"["get", "list", "watch"]"#,
    r#"["create"]"#,
    r#"["update", "patch"]"#,
    r#"["delete", "deletecollection"]"#,
    r#"["get", "list", "watch", "create", "update", "patch"]"#,
];

/// Pairs that do not hold together: nobody anonymous is a node.
const FACTS: [&str; 5] = [
    r#"["succeeded", "actor.anonymous", "actor.node"]"#,
    r#"["actor.human", "actor.control_plane"]"#,
    r#"["forbidden", "succeeded"]"#,
    r#"["source_ip.public", "source_ip.private"]"#,
    r#"["actor.static_admin", "actor.service_account"]"#,
];

fn made(count: usize) -> Engine {
    let sources: Vec<load::Source> = (0..count)
        .map(|number| {
            let (group, resource) = RESOURCES[number % RESOURCES.len()];
            let turn = number / RESOURCES.len();
            let verbs = VERBS[turn % VERBS.len()];
            let facts = FACTS[(turn / VERBS.len() + number) % FACTS.len()];
            let mut text = String::new();
            let _ = write!(
                text,
                r#"
id = "made-{number}"
revision = 1
title = "Made"
kind = "threat"
severity = "low"
requires = ["kube-audit"]
description = ""
false_positives = []
triage = ""
remedy = ""

[match]
groups = ["{group}"]
resources = ["{resource}"]
verbs = {verbs}
facts = {facts}

[alert]
summary = "made"
group_by = ["cluster"]
quiet_for = "1h"
"#
            );
            load::Source {
                file: format!("made-{number}.toml"),
                text,
            }
        })
        .collect();
    engine(&[], &sources)
}

fn engine(shipped: &[load::Source], site: &[load::Source]) -> Engine {
    match load::load(shipped, site) {
        Ok(detectors) => Engine::new(detectors, Sites::default()),
        Err(problems) => panic!("{}", problems[0]),
    }
}

fn matches(worker: &mut Worker, engine: &Engine, batches: &[Batch]) -> usize {
    batches
        .iter()
        .map(|batch| {
            worker
                .process(engine, batch, TimeRange::default())
                .matches
                .len()
        })
        .sum()
}

fn main() -> std::io::Result<()> {
    let bytes = support::archive()?;
    let batches = support::batches(&bytes);
    let mut engines = vec![("decode".to_owned(), engine(&[], &[]))];
    for count in COUNTS {
        engines.push((count.to_string(), made(count)));
    }
    let library = engine(&load::shipped(), &[]);
    engines.push((format!("library, {}", library.detectors.len()), library));

    let mut contestants: Vec<Contestant<'_>> = engines
        .iter()
        .map(|(name, engine)| {
            let batches = &batches;
            let run: Box<dyn FnMut()> = Box::new(move || {
                black_box(matches(&mut Worker::new(None), engine, batches));
            });
            (name.clone(), run)
        })
        .collect();
    let costs = contest(&mut contestants);
    support::header(bytes.len());
    println!(
        "{:14} {:>14} {:>10} {:>10}",
        "detectors", "MB/CPU-second", "of 150", "matches"
    );
    for ((name, engine), cost) in engines.iter().zip(&costs) {
        println!(
            "{name:14} {:14.0} {:10.3} {:10}",
            bytes.len() as f64 / cost.cpu / 1e6,
            cost.cpu / costs[2].cpu,
            matches(&mut Worker::new(None), engine, &batches),
        );
    }
    Ok(())
}
