//! A worker that has seen much finds in a batch what one finds that has seen nothing.
#![cfg(feature = "emulator")]

#[path = "support/clusters.rs"]
mod clusters;

use std::sync::Arc;

use lanner::config::Config;
use lanner::detect::Engine;
use lanner::detect::load::{Source, load, shipped};
use lanner::detect::order::{Judge, Learning};
use lanner::pipeline::work::{TimeRange, Worker};
use lanner::source::{Batch, Chunk, Framing, Partition, Position};
use serde_json::json;

/// Ten minutes of three clusters with attacks in them.
fn batches() -> Vec<Batch> {
    let simulator = clusters::attacked(11, "2026-11-20T14:55:00Z", 10);
    let partition = partition();
    let records: Vec<Vec<u8>> = simulator.map(|record| record.bytes).collect();
    let parts = records.chunks(1000).zip(0..);
    parts
        .map(|(records, number)| batch(&partition, number, records))
        .collect()
}

fn partition() -> Arc<Partition> {
    Arc::new(Partition {
        source: "simulated".into(),
        id: "0".into(),
    })
}

/// A record a line.
fn batch(partition: &Arc<Partition>, number: i64, records: &[Vec<u8>]) -> Batch {
    Batch {
        partition: Arc::clone(partition),
        from: Position(number),
        to: Position(number + 1),
        chunks: vec![Chunk {
            bytes: records.join(&b'\n').into(),
            position: number,
            framing: Framing::Lines,
            enqueued: None,
        }],
        at_end: false,
    }
}

#[test]
fn what_a_worker_remembers_changes_nothing() {
    let detectors = load(&shipped(), &[]).expect("the shipped detectors are right");
    let engine = Engine::new(detectors, Config::defaults().sites());
    let batches = batches();
    let range = TimeRange::default();
    let mut judge = Judge::new(Learning::Archive);
    let recall = judge.recall();
    for every_match in [true, false] {
        let recall = || (!every_match).then(|| recall.clone());
        let mut seasoned = Worker::new(recall());
        let mut found = 0;
        // The first time through, the judge learns of it meanwhile.
        for pass in 0..3 {
            for batch in &batches {
                let output = seasoned.process(&engine, batch, range);
                let expected = Worker::new(recall()).process(&engine, batch, range);
                assert_eq!(format!("{output:?}"), format!("{expected:?}"));
                found += output.matches.len();
                if pass == 0 {
                    judge.count(output.counts);
                    for one in output.matches {
                        judge.judge(&engine, one);
                    }
                }
            }
        }
        assert!(found > 0);
    }
}

/// A request by a workload, which the binding named allows; the bodies were not logged.
fn request(id: u32, user: &str, verb: &str, resource: &str) -> String {
    let event = json!({
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": format!("{id}"),
        "stage": "ResponseComplete",
        "requestURI": format!("/api/v1/namespaces/shop/{resource}/web"),
        "verb": verb,
        "user": { "username": user, "groups": ["system:authenticated"] },
        "sourceIPs": ["10.224.0.7"],
        "userAgent": "web/v1.0",
        "objectRef": { "resource": resource, "namespace": "shop", "name": "web", "apiVersion": "v1" },
        "responseStatus": { "metadata": {}, "code": 200 },
        "requestReceivedTimestamp": format!("2026-11-20T10:00:{id:02}.000001Z"),
        "stageTimestamp": format!("2026-11-20T10:00:{id:02}.000002Z"),
        "annotations": {
            "authorization.k8s.io/decision": "allow",
            "authorization.k8s.io/reason": "RBAC: allowed by ClusterRoleBinding \"web\" of ClusterRole \"web\" to ServiceAccount \"web/shop\"",
        },
    });
    // In the order in which the API server writes them.
    let keys = [
        "kind",
        "apiVersion",
        "level",
        "auditID",
        "stage",
        "requestURI",
        "verb",
        "user",
        "sourceIPs",
        "userAgent",
        "objectRef",
        "responseStatus",
        "requestReceivedTimestamp",
        "stageTimestamp",
        "annotations",
    ];
    let members = keys.map(|key| format!("\"{key}\":{}", event[key]));
    let log = json!(format!("{{{}}}\n", members.join(",")));
    format!(
        r#"{{"time":"2026-11-20T10:00:00Z","resourceId":"/SUBSCRIPTIONS/A","category":"kube-audit","properties":{{"log":{log}}}}}"#
    )
}

/// What comes to something each time, or once a batch, though it looks the same.
#[test]
fn what_teaches_or_counts_once_is_read_each_time() {
    let detectors = load(&shipped(), &[]).expect("the shipped detectors are right");
    let engine = Engine::new(detectors, Config::defaults().sites());
    let (workload, platform) = (
        "system:serviceaccount:shop:web",
        "system:kube-controller-manager",
    );
    for (user, verb, resource) in [
        (workload, "get", "configmaps"),
        (workload, "delete", "pods"),
        (platform, "delete", "serviceaccounts"),
    ] {
        let mut judge = Judge::new(Learning::Archive);
        let recall = judge.recall();
        let mut seasoned = Worker::new(Some(recall.clone()));
        let (mut matches, mut lessons) = (0, 0);
        for number in 0..8 {
            let records: Vec<Vec<u8>> = (0..4)
                .map(|id| request(4 * number + id, user, verb, resource).into_bytes())
                .collect();
            let batch = batch(&partition(), i64::from(number), &records);
            let output = seasoned.process(&engine, &batch, TimeRange::default());
            let expected =
                Worker::new(Some(recall.clone())).process(&engine, &batch, TimeRange::default());
            assert_eq!(format!("{output:?}"), format!("{expected:?}"));
            matches = output.matches.len();
            lessons = output.counts.lessons.len();
            judge.count(output.counts);
            for one in output.matches {
                judge.judge(&engine, one);
            }
        }
        // Of the last batch, where everything else is known.
        assert!(matches > 0 || lessons > 0, "{user} {verb} {resource}");
    }
}

/// The first request that each user makes of each network.
const FIRST: &str = r#"
[first_seen]
key = ["cluster", "actor.user"]
value = ["source_ip.network"]
learn = "0s"
"#;

/// A detector of successful requests that `rest` admits or counts.
fn made(id: &str, rest: &str) -> Engine {
    let source = Source {
        file: format!("{id}.toml"),
        text: format!(
            r#"
id = "{id}"
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
facts = ["succeeded"]
{rest}

[alert]
summary = "made"
group_by = ["cluster"]
quiet_for = "1h"
"#
        ),
    };
    let detectors = load(&[], &[source]).unwrap_or_else(|problems| panic!("{}", problems[0]));
    Engine::new(detectors, Config::defaults().sites())
}

#[test]
fn what_one_detector_knows_is_news_to_the_next() {
    let batches = batches();
    let range = TimeRange::default();
    let mut judge = Judge::new(Learning::Archive);
    let mut worker = Worker::new(Some(judge.recall()));
    for engine in [made("one", FIRST), made("other", FIRST)] {
        let mut news = Vec::new();
        for _ in 0..2 {
            let mut found = 0;
            for batch in &batches {
                let output = worker.process(&engine, batch, range);
                judge.count(output.counts);
                found += output.matches.len();
                for one in output.matches {
                    judge.judge(&engine, one);
                }
            }
            news.push(found);
        }
        assert!(news[0] > 0 && news[1] == 0, "{news:?}");
    }
}

#[test]
fn another_engine_has_other_notes() {
    let engine = |kept: usize| {
        let mut detectors = load(&shipped(), &[]).expect("the shipped detectors are right");
        detectors.drain(..detectors.len().saturating_sub(kept));
        Engine::new(detectors, Config::defaults().sites())
    };
    let (all, fewer) = (engine(usize::MAX), engine(3));
    let batches = batches();
    let range = TimeRange::default();
    let mut judge = Judge::new(Learning::Archive);
    let mut worker = Worker::new(Some(judge.recall()));
    for engine in [&all, &fewer, &fewer, &fewer, &all] {
        for batch in &batches {
            let output = worker.process(engine, batch, range);
            let expected = Worker::new(Some(judge.recall())).process(engine, batch, range);
            assert_eq!(format!("{output:?}"), format!("{expected:?}"));
            judge.count(output.counts);
            for one in output.matches {
                judge.judge(engine, one);
            }
        }
    }
}

#[test]
fn what_a_condition_tells_apart_is_read_each_time() {
    for (when, expected) in [("", 40), ("when = 'audit_id.endsWith(\"3\")'", 4)] {
        let engine = made("made", when);
        let records: Vec<Vec<u8>> = (0..40)
            .map(|id| request(id, "ada@example.com", "get", "configmaps").into_bytes())
            .collect();
        let mut worker = Worker::new(Some(Judge::new(Learning::Archive).recall()));
        let output = worker.process(
            &engine,
            &batch(&partition(), 0, &records),
            TimeRange::default(),
        );
        assert_eq!(output.matches.len(), expected, "{when}");
    }
}
