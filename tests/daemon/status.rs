//! `lanner status` beside a daemon that runs: what it says is true, and the daemon does not mind.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use serde_json::Value;

use super::process::Daemon;
use super::{Health, configuration, emulator, exec, receiver, until};

/// What `lanner status` says, by kind.
fn status(config: &Path) -> (Vec<Value>, String) {
    let lanner = |format: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_lanner"))
            .args(["status", "--format", format, "--config"])
            .arg(config)
            .output()
            .expect("the program starts");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{errors}");
        String::from_utf8(output.stdout).expect("text")
    };
    let lines = lanner("ndjson");
    let items = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    (items.collect(), lanner("table"))
}

fn of_kind<'i>(items: &'i [Value], kind: &str) -> Vec<&'i Value> {
    items.iter().filter(|item| item["kind"] == kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn status_tells_of_a_daemon_that_runs_is_in_trouble_or_has_stopped() {
    let emulator = emulator().await;
    let (webhook, received) = receiver().await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = configuration(folder.path(), &emulator, webhook);
    let health = Health::configure(&config);
    let own = folder.path().join("own");
    std::fs::create_dir(&own).expect("a folder");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("detectors/pod-logs-bulk.toml");
    let detector = std::fs::read_to_string(shipped).expect("it is shipped");
    let detector = detector.replace("\"pod-logs-bulk\"", "\"own-logs\"");
    std::fs::write(own.join("own-logs.toml"), &detector).expect("a file");
    let text = std::fs::read_to_string(&config).expect("a file");
    let text = format!("detectors-dir = \"{}\"\n{text}", own.display());
    std::fs::write(&config, text).expect("a file");
    let daemon = Daemon::start(&config);
    health.ready().await;
    for number in 0..3 {
        let published = emulator.publish("audit", "0", exec(&format!("web-{number}"), number));
        published.expect("the partition exists");
    }
    emulator
        .publish("audit", "1", Bytes::from_static(b"{\"records\":[{"))
        .expect("the partition exists");
    until("three notifications", || {
        received.lock().expect("no panic").len() == 3
    })
    .await;
    let read = |items: &[Value]| {
        let partitions = of_kind(items, "partition");
        let at_end = |partition: &&&Value| partition["lag_messages"] == 0;
        partitions.iter().filter(at_end).count() == 2
    };
    let mut last = status(&config);
    until("both partitions are read to their end", || {
        last = status(&config);
        read(&last.0)
    })
    .await;
    let (items, table) = &last;
    assert_eq!(of_kind(items, "daemon")[0]["ready"], true);
    let positions: Vec<_> = of_kind(items, "partition")
        .iter()
        .map(|of| {
            (
                of["id"].clone(),
                of["position"].clone(),
                of["reading"].clone(),
            )
        })
        .collect();
    let expected = [("0", 2, true), ("1", 0, true)]
        .map(|(id, position, reading)| (id.into(), position.into(), reading.into()));
    assert_eq!(positions, expected);
    let receiver = of_kind(items, "receiver")[0];
    assert_eq!(
        (&receiver["name"], &receiver["pending"], &receiver["dead"]),
        (&"webhook.soc".into(), &0.into(), &0.into())
    );
    assert_eq!(of_kind(items, "quarantine")[0]["records"], 1);
    let states = of_kind(items, "component");
    assert!(states.iter().all(|of| of["state"] == "ready"), "{states:?}");
    assert!(table.contains("is ready."), "{table}");

    // The hub is gone: the daemon says so, and so does its status.
    emulator.shutdown().await;
    until("trouble is told", || {
        last = status(&config);
        of_kind(&last.0, "daemon")[0]["ready"] == false
    })
    .await;
    let hub = of_kind(&last.0, "component")
        .into_iter()
        .find(|of| of["name"] == "eventhubs.audit")
        .expect("it is told")
        .clone();
    assert_eq!(hub["state"], "failed", "{hub}");
    assert!(
        hub["reason"]
            .as_str()
            .is_some_and(|reason| !reason.is_empty())
    );
    assert!(last.1.contains("is not ready."), "{}", last.1);

    // The daemon is gone: what follows is from its store. A detector has changed meanwhile.
    daemon.kill();
    assert!(of_kind(&last.0, "changed").is_empty());
    let other = detector.replace("distinct = \"object.ref\"", "distinct = \"object.name\"");
    assert_ne!(other, detector);
    std::fs::write(own.join("own-logs.toml"), other).expect("a file");
    let (items, table) = status(&config);
    let changed: Vec<_> = of_kind(&items, "changed")
        .iter()
        .map(|of| of["detector"].clone())
        .collect();
    assert_eq!(changed, ["own-logs"]);
    assert!(table.contains("LEARNS ANEW"), "{table}");
    assert_eq!(of_kind(&items, "daemon")[0]["ready"], Value::Null);
    assert_eq!(of_kind(&items, "partition").len(), 2);
    assert!(table.contains("does not answer"), "{table}");
}
