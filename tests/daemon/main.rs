//! The daemon as its user runs it: over AMQP, with a webhook, killed and started again.
#![cfg(feature = "emulator")]

#[cfg(target_os = "linux")]
mod curve;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod soak;
mod status;
#[cfg(target_os = "linux")]
mod storm;

#[path = "../support/process.rs"]
mod process;
#[path = "../support/record.rs"]
mod record;
#[path = "../support/web.rs"]
mod web;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bytes::Bytes;
use lanner::emulator::{Emulator, EmulatorConfig, HubConfig};
use process::{Daemon, configure};
use serde_json::{Value, json};
use web::{free_port, get, serve};

/// How long a test waits for what must come; only a failure takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Every notification a webhook received: its id in the header, and its body.
type Received = Arc<Mutex<Vec<(String, Value)>>>;

async fn receiver() -> (SocketAddr, Received) {
    let received = Received::default();
    let app = Router::new()
        .route("/", post(take))
        .route("/v2/enqueue", post(take_incident))
        .with_state(Arc::clone(&received));
    (serve(app).await, received)
}

async fn take(State(received): State<Received>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let id = headers["webhook-id"].to_str().expect("text").to_owned();
    let body = serde_json::from_slice(&body).expect("JSON");
    received.lock().expect("no panic").push((id, body));
    StatusCode::NO_CONTENT
}

async fn take_incident(State(received): State<Received>, body: Bytes) -> StatusCode {
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    let action = body["event_action"].as_str().expect("text").to_owned();
    received.lock().expect("no panic").push((action, body));
    StatusCode::ACCEPTED
}

async fn emulator() -> Emulator {
    let config = EmulatorConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        hubs: vec![HubConfig::new("audit", 2)],
    };
    Emulator::start(config).await.expect("the emulator starts")
}

/// A command in `pod` in a second of an hour long ago.
fn exec(pod: &str, second: usize) -> Bytes {
    let (minute, of_minute) = (second / 60, second % 60);
    let time = format!("2026-11-20T10:{minute:02}:{of_minute:02}.000000Z");
    record::exec(pod, second as i64, time)
}

/// Tells commands in pods to the webhook, and nothing else.
fn configuration(folder: &Path, emulator: &Emulator, webhook: SocketAddr) -> PathBuf {
    let rest = format!(
        "[webhook.soc]\nurl = \"http://{webhook}/\"\n\
         [[route]]\ndetectors = [\"pod-exec\"]\nreceivers = [\"webhook.soc\"]\n"
    );
    configure(folder, &emulator.connection_string(), 0, &rest)
}

/// Where a daemon says how it is.
struct Health(u16);

impl Health {
    /// Gives the configuration a port that is free now.
    fn configure(config: &Path) -> Health {
        let port = free_port();
        let text = std::fs::read_to_string(config).expect("a file");
        let text = text.replace("127.0.0.1:0\"", &format!("127.0.0.1:{port}\""));
        std::fs::write(config, text).expect("a file");
        Health(port)
    }

    async fn get(&self, path: &str) -> (u16, String) {
        get(&format!("http://127.0.0.1:{}{path}", self.0)).await
    }

    async fn ready(&self) {
        let started = Instant::now();
        loop {
            let (status, text) = self.get("/readyz").await;
            if status == 200 {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "not ready: {text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let started = Instant::now();
    while !reached() {
        assert!(started.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Notification ids by the pod that they are about.
fn by_pod(received: &Received) -> BTreeMap<String, BTreeSet<String>> {
    let mut pods: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (id, body) in received.lock().expect("no panic").iter() {
        let pod = body["object"]["name"].as_str().expect("a name").to_owned();
        pods.entry(pod).or_default().insert(id.clone());
    }
    pods
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_started_again_it_skips_nothing_and_renames_nothing() {
    const PODS: usize = 120;
    const KILLS: usize = 4;

    let emulator = emulator().await;
    let (webhook, received) = receiver().await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = configuration(folder.path(), &emulator, webhook);

    let mut published = 0;
    for round in 0..=KILLS {
        let daemon = Daemon::start(&config);
        while published < PODS * (round + 1) / (KILLS + 1) {
            let partition = (published % 2).to_string();
            let body = exec(&format!("web-{published}"), published);
            emulator
                .publish("audit", &partition, body)
                .expect("the partition exists");
            published += 1;
        }
        if round < KILLS {
            // Somewhere in the middle of its work: after the first of this round's notifications.
            let before = PODS * round / (KILLS + 1);
            until("a notification", || by_pod(&received).len() > before).await;
            daemon.kill();
        } else {
            until("all notifications", || by_pod(&received).len() == PODS).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    for (pod, ids) in by_pod(&received) {
        assert_eq!(
            ids.len(),
            1,
            "{pod} was notified under several ids: {ids:?}"
        );
    }
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn says_how_it_is_and_stops_when_told() {
    let emulator = emulator().await;
    let (webhook, received) = receiver().await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = configuration(folder.path(), &emulator, webhook);
    let health = Health::configure(&config);

    let mut daemon = Daemon::start(&config);
    let get = |path| health.get(path);
    health.ready().await;
    assert_eq!(get("/livez").await.0, 200);
    emulator
        .publish("audit", "0", exec("web-0", 0))
        .expect("the partition exists");
    until("a notification", || {
        !received.lock().expect("no panic").is_empty()
    })
    .await;
    let (_, metrics) = get("/metrics").await;
    for series in [
        "lanner_records_total{category=\"kube-audit\",form=\"escaped\"} 1",
        "lanner_detector_matches_total{detector=\"pod-exec\",outcome=\"alert\"} 1",
    ] {
        assert!(metrics.contains(series), "{series} is not in\n{metrics}");
    }

    // The server hears of a notification before the daemon hears that it was taken.
    let measured = "lanner_latency_samples{span=\"publish_to_delivery\"} 1";
    let started = Instant::now();
    while !get("/metrics").await.1.contains(measured) {
        assert!(started.elapsed() < PATIENCE, "{measured} is not there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    assert_eq!(daemon.stop().code(), Some(0));
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_that_closes_resolves_its_incident_and_tells_nobody_else() {
    let emulator = emulator().await;
    let (webhook, received) = receiver().await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = configuration(folder.path(), &emulator, webhook);
    let text = std::fs::read_to_string(&config).expect("a file");
    let pagerduty = format!(
        "[detectors.pod-exec]\nquiet-for = \"1s\"\n[pagerduty.oncall]\nrouting-key = \"k\"\nurl = \"http://{webhook}/v2/enqueue\"\n[store]"
    );
    let text = text.replace("[store]", &pagerduty);
    let text = text.replace("[\"webhook.soc\"]", "[\"webhook.soc\", \"pagerduty.*\"]");
    std::fs::write(&config, text).expect("a file");

    let _daemon = Daemon::start(&config);
    // However long ago it was, the alert is open for as long as its `quiet-for` from when it came.
    let days_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(72);
    let minute = days_ago.strftime("%Y-%m-%dT%H:%M").to_string();
    let record = String::from_utf8(exec("web-0", 0).to_vec()).expect("text");
    let record = record.replace("2026-11-20T10:00", &minute);
    emulator
        .publish("audit", "0", Bytes::from(record))
        .expect("the partition exists");
    until("the incident is resolved", || {
        let received = received.lock().expect("no panic");
        received.len() == 3 && received.iter().any(|(id, _)| id == "resolve")
    })
    .await;
    let received = received.lock().expect("no panic").clone();
    let incident: Vec<_> = received
        .iter()
        .filter(|(_, body)| body["routing_key"] == "k")
        .collect();
    let actions: Vec<&str> = incident.iter().map(|(action, _)| &**action).collect();
    assert_eq!(actions, ["trigger", "resolve"]);
    assert_eq!(incident[0].1["dedup_key"], incident[1].1["dedup_key"]);
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_of_incidents_gets_each_step_in_one_story() {
    let emulator = emulator().await;
    let (webhook, received) = receiver().await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = configuration(folder.path(), &emulator, webhook);
    let text = std::fs::read_to_string(&config).expect("a file");
    let text = text.replace("[[route]]", "[[route]]\nsend = \"incidents\"");
    let text = format!("[alert]\nincident-debounce = \"1s\"\n{text}");
    std::fs::write(&config, text).expect("a file");

    let hour = jiff::Timestamp::now().strftime("%Y-%m-%dT%H").to_string();
    let mut daemon = Daemon::start(&config);
    for (step, pod) in ["web-0", "web-1", "web-2"].into_iter().enumerate() {
        if step == 2 {
            // What it was before, it still is after.
            daemon.kill();
            daemon = Daemon::start(&config);
        }
        let record = String::from_utf8(exec(pod, step).to_vec()).expect("text");
        let record = record.replace("2026-11-20T10", &hour);
        emulator
            .publish("audit", "0", Bytes::from(record))
            .expect("the partition exists");
        until("the incident has the step", || {
            let received = received.lock().expect("no panic");
            received
                .iter()
                .any(|(_, body)| body["steps"][step]["object"]["name"] == *pod)
        })
        .await;
    }
    let received = received.lock().expect("no panic").clone();
    let first = &received[0].1;
    let last = &received.last().expect("there are some").1;
    assert_eq!(first["schema"], "lanner/incident/v1");
    assert_eq!(first["steps"].as_array().map(Vec::len), Some(1));
    assert_eq!(last["id"], first["id"]);
    assert_eq!(last["actors"], json!(["ada@example.com"]));
    assert!(
        last["account"].as_str().expect("text").contains("then"),
        "{last}"
    );
    let ids: BTreeSet<&String> = received.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 3, "{ids:?}");
    emulator.shutdown().await;
}

#[test]
fn a_wrong_configuration_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("lanner.toml");
    std::fs::write(&path, "[eventhubs.audit]\nhubb = \"audit\"\n").expect("a file");
    let output = Command::new(env!("CARGO_BIN_EXE_lanner"))
        .args(["run", "--config"])
        .arg(&path)
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(78));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("lanner.toml:2:1"), "{stderr}");
    assert!(stderr.contains("did you mean `hub`?"), "{stderr}");
}
