//! `lanner outbox` and `lanner status` as a person uses them, on the store of a daemon that is stopped.

use std::path::Path;
use std::process::{Command, Output};

use jiff::Timestamp;
use lanner::alert::Severity;
use lanner::store::{Commit, NewNotification, Quarantined, Store, StoreConfig};
use serde_json::{Value, json};

/// Three notifications: one that failed, one that was refused for good, one that nobody tried.
fn filled(folder: &Path) {
    let config = StoreConfig {
        path: folder.to_owned(),
        receiver_quota: 1 << 20,
        quarantine_quota: 1 << 20,
    };
    let (store, _) = Store::open(&config).expect("opens");
    let new = |number: usize, receiver: &str, severity, summary: &str| NewNotification {
        notification_id: format!("a{number}-1"),
        receiver: receiver.to_owned(),
        severity,
        body: json!({ "summary": summary }).to_string(),
        enqueued: None,
    };
    let commit = Commit {
        positions: vec![(
            std::sync::Arc::new(lanner::source::Partition {
                source: "ns/audit/$Default".into(),
                id: "0".into(),
            }),
            lanner::source::Position(41),
        )],
        notifications: vec![
            new(
                1,
                "webhook.soc",
                Severity::High,
                "eve ran `sh` in shop/web-0",
            ),
            new(
                2,
                "webhook.soc",
                Severity::Low,
                "a name \u{1b}[2J\u{202e} of an attacker's\nchoice",
            ),
            new(
                3,
                "email.oncall",
                Severity::Critical,
                "mona bound cluster-admin",
            ),
        ],
        quarantine: vec![Quarantined {
            source: "ns/audit/$Default/0".to_owned(),
            position: "41#0".to_owned(),
            reason: "cut-off".to_owned(),
            raw: b"{".to_vec(),
        }],
        ..Commit::default()
    };
    store.commit(&commit).expect("is written");
    let later = Timestamp::now() + jiff::SignedDuration::from_hours(1);
    store
        .retry_at(1, later, "HTTP 503 Service Unavailable")
        .expect("is written");
    store
        .dead(2, "HTTP 400 Bad Request: no field `x`")
        .expect("is written");
}

fn lanner(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lanner"))
        .args(arguments)
        .arg("--store")
        .arg(folder)
        .output()
        .expect("the program starts")
}

/// Standard output with times made equal.
fn shown(output: &Output) -> String {
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    let time = regex::Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z").expect("a pattern");
    let age = regex::Regex::new(r"  \d+ s  ").expect("a pattern");
    age.replace_all(&time.replace_all(&text, "TIME"), "  AGE  ")
        .into_owned()
}

fn rows(folder: &Path, arguments: &[&str]) -> Vec<Value> {
    let mut list = vec!["outbox", "list", "--format", "ndjson"];
    list.extend(arguments);
    let output = lanner(folder, &list);
    let lines = String::from_utf8(output.stdout).expect("text");
    lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn what_waits_and_what_died_is_listed() {
    let folder = tempfile::tempdir().expect("a folder");
    filled(folder.path());
    let table = lanner(folder.path(), &["outbox", "list", "--format", "table"]);
    insta::assert_snapshot!("outbox_table", shown(&table));
    let lines = lanner(folder.path(), &["outbox", "list", "--format", "ndjson"]);
    insta::assert_snapshot!("outbox_ndjson", shown(&lines));
    assert_eq!(rows(folder.path(), &["--dead"]).len(), 1);
    assert_eq!(rows(folder.path(), &["--pending"]).len(), 2);
    assert_eq!(
        rows(folder.path(), &["--pending", "--receiver", "email.oncall"]).len(),
        1
    );
    assert_eq!(rows(folder.path(), &["--limit", "1"]).len(), 1);
}

#[test]
fn dead_letters_live_again_and_what_nobody_wants_is_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    filled(folder.path());
    let code = |arguments: &[&str]| lanner(folder.path(), arguments).status.code();
    assert_eq!(
        code(&["outbox", "retry", "--dead", "--receiver", "webhook.soc"]),
        Some(0)
    );
    assert_eq!(rows(folder.path(), &["--pending"]).len(), 3);
    assert_eq!(code(&["outbox", "drop", "3"]), Some(0));
    assert_eq!(
        code(&["outbox", "drop", "3"]),
        Some(1),
        "it is not there any more"
    );
    assert_eq!(code(&["outbox", "retry", "1", "77"]), Some(1));
    assert_eq!(code(&["outbox", "drop", "--pending"]), Some(0));
    assert!(rows(folder.path(), &[]).is_empty());
    // Neither may be meant for everything by mistake.
    assert_eq!(code(&["outbox", "drop"]), Some(2));
    assert_eq!(code(&["outbox", "drop", "1", "--dead"]), Some(2));
}

#[test]
fn a_store_that_is_not_there_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = lanner(folder.path(), &["outbox", "list"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("there is no store in"), "{said}");
    assert_eq!(lanner(folder.path(), &["status"]).status.code(), Some(69));
}

#[test]
fn the_status_of_a_stopped_daemon_is_that_of_its_store() {
    let folder = tempfile::tempdir().expect("a folder");
    filled(folder.path());
    let table = lanner(folder.path(), &["status", "--format", "table"]);
    insta::assert_snapshot!("status_table", shown(&table));
    let lines = lanner(folder.path(), &["status", "--format", "ndjson"]);
    insta::assert_snapshot!("status_ndjson", shown(&lines));
}
