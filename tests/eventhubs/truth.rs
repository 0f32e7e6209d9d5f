//! What the daemon says of itself while its hub is in trouble: `/readyz` and the metrics tell the
//! truth at each moment, and afterwards everything was alerted on, once.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lanner::config::secret::Secret;
use lanner::detect::{Engine, load};
use lanner::emulator::{Emulator, HubConfig};
use lanner::pipeline::daemon::{Daemon, Observers};
use lanner::pipeline::live::Settings;
use lanner::telemetry::server::Server;
use lanner::telemetry::{Health, Metrics, Observer};
use tokio_util::sync::CancellationToken;

use crate::breaks::hasty;
use crate::process::exec;
use crate::reading::{HUB, PATIENCE, emulator_with};

/// A daemon within the test, whose pace can be set.
struct Running {
    daemon: Arc<Daemon>,
    base: String,
    end: CancellationToken,
    watch: tokio::task::JoinHandle<()>,
    server: Server,
}

impl Running {
    async fn start(emulator: &Emulator, folder: &Path) -> Running {
        let text = format!(
            "[eventhubs.main]\nhub = {HUB:?}\nauth = \"connection-string\"\n\
             connection-string = \"set below\"\n\
             [stdout]\nenabled = false\n\
             [store]\npath = {folder:?}\n"
        );
        let path = folder.join("lanner.toml");
        std::fs::write(&path, text).expect("a file");
        let mut config = lanner::config::load(Some(&path))
            .expect("it is right")
            .config;
        for hub in config.eventhubs.values_mut() {
            *hub = hasty(hub.clone());
            hub.connection_string = Some(Secret::new(emulator.connection_string()));
        }
        let detectors = load::load(&load::shipped(), &[]).expect("they are right");
        let engine = Arc::new(Engine::new(detectors, config.sites()));
        let metrics = Arc::new(Metrics::new(Duration::from_secs(60)));
        let observer = Arc::new(Observer::new(Arc::clone(&metrics), Health::new()));
        observer.expect(&config, &engine);
        let end = CancellationToken::new();
        let listen = "127.0.0.1:0".parse().expect("an address");
        let health = observer.health.clone();
        let server = Server::start(listen, metrics, health, end.clone())
            .await
            .expect("a port");
        let base = format!("http://{}", server.address());
        let observers = Observers {
            pipeline: observer.clone(),
            deliveries: observer.clone(),
        };
        let daemon = Daemon::start(Settings { config, engine }, observers).await;
        let daemon = Arc::new(daemon.unwrap_or_else(|error| panic!("{error}")));
        let (of_watch, until) = (Arc::clone(&daemon), end.clone());
        let watch = tokio::spawn(async move { observer.watch(&of_watch, until).await });
        Running {
            daemon,
            base,
            end,
            watch,
            server,
        }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("{}{path}", self.base))
            .await
            .expect("it listens");
        let status = answer.status().as_u16();
        (status, answer.text().await.expect("text"))
    }

    /// Waits for an answer of `/readyz`; returns how long it took.
    async fn until_ready(&self, done: impl Fn(u16, &str) -> bool) -> f64 {
        let begin = Instant::now();
        loop {
            let (status, body) = self.get("/readyz").await;
            if done(status, &body) {
                return begin.elapsed().as_secs_f64();
            }
            assert!(begin.elapsed() < PATIENCE, "{status} {body}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        let value = line.unwrap_or_else(|| panic!("{series} is not in\n{text}"));
        value.parse().expect("a number")
    }

    async fn until_metric(&self, series: &str, done: impl Fn(f64) -> bool) -> f64 {
        let begin = Instant::now();
        loop {
            let value = self.metric(series).await;
            if done(value) {
                return value;
            }
            assert!(begin.elapsed() < PATIENCE, "{series} {value}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn stop(self) {
        self.end.cancel();
        self.watch.await.expect("it does not panic");
        self.server.join().await;
        let daemon = Arc::into_inner(self.daemon).expect("nobody else has it");
        daemon.stop().await;
    }
}

const READING: &str = "lanner_partition_reading{hub=\"main\",partition=\"0\"}";
const LAG: &str = "lanner_partition_lag_messages{hub=\"main\",partition=\"0\"}";
const AGE: &str = "lanner_partition_lag_seconds{hub=\"main\",partition=\"0\"}";
const FINDINGS: &str = "lanner_detector_matches_total{detector=\"pod-exec\",outcome=\"alert\"}";

fn faults(kind: &str) -> String {
    format!("lanner_hub_faults_total{{hub=\"main\",fault=\"{kind}\"}}")
}

/// Publishes execs into pods of these numbers.
fn publish(emulator: &Emulator, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let body = exec(&format!("web-{number}"), Timestamp::now());
        emulator.publish(HUB, "0", body).expect("it exists");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_and_metrics_tell_each_fault_and_its_end() {
    let emulator = emulator_with(HubConfig::new(HUB, 1)).await;
    let folder = tempfile::tempdir().expect("a folder");
    let running = Running::start(&emulator, folder.path()).await;
    running.until_ready(|status, _| status == 200).await;
    publish(&emulator, 0..3);
    running.until_metric(FINDINGS, |count| count == 3.0).await;
    running.until_metric(READING, |value| value == 1.0).await;
    running.until_metric(AGE, |age| age == 0.0).await;

    let faults_of: [(&str, &str, &str); 5] = [
        ("connections refused", "unreachable", ""),
        ("tokens refused", "unauthorized", "401"),
        ("receivers refused", "not_found", "ended on purpose"),
        ("requests throttled", "throttled", "throttled"),
        ("answers never come", "timeout", "no answer within"),
    ];
    let switch = |what: &str, on: bool| match what {
        "connections refused" => emulator.faults().refuse_connections(on),
        "tokens refused" => emulator.faults().refuse_tokens(on),
        "receivers refused" => {
            let condition = on.then_some("amqp:not-found");
            emulator.faults().refuse_receivers(condition);
        }
        "requests throttled" => {
            let wait = on.then_some(Duration::from_secs(2));
            emulator.faults().throttle(wait);
        }
        _ => emulator.faults().stall_answers(on),
    };
    let mut published = 3;
    for (what, kind, said) in faults_of {
        let before = running.metric(&faults(kind)).await;
        switch(what, true);
        emulator.drop_connections();
        publish(&emulator, published..published + 3);
        let noticed = running
            .until_ready(|status, body| {
                status == 503 && body.contains("eventhubs.main") && body.contains(said)
            })
            .await;
        assert_eq!(running.metric(READING).await, 0.0, "{what}");
        assert_eq!(running.metric(FINDINGS).await, published as f64, "{what}");
        running
            .until_metric(&faults(kind), |count| count > before)
            .await;
        // Nothing is known of the partition's end, and what was read gets older.
        running.until_metric(AGE, |age| age > 0.0).await;
        let (alive, _) = running.get("/livez").await;
        assert_eq!(alive, 200, "{what}: a restart would not help");

        switch(what, false);
        let ready = running.until_ready(|status, _| status == 200).await;
        published += 3;
        running
            .until_metric(FINDINGS, |count| count == published as f64)
            .await;
        running.until_metric(AGE, |age| age == 0.0).await;
        running.until_metric(LAG, |lag| lag == 0.0).await;
        println!("{what}: said after {noticed:.1} s; ready {ready:.1} s after the end of it");
    }
    assert_eq!(running.metric(FINDINGS).await, published as f64);
    running.stop().await;
    emulator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watchdog_notices_a_partition_that_delivers_nothing() {
    let emulator = emulator_with(HubConfig::new(HUB, 1)).await;
    let folder = tempfile::tempdir().expect("a folder");
    let running = Running::start(&emulator, folder.path()).await;
    running.until_ready(|status, _| status == 200).await;
    emulator.faults().stall_deliveries(true);
    publish(&emulator, 0..3);
    let noticed = running
        .until_ready(|status, body| status == 503 && body.contains("delivers none"))
        .await;
    running.until_metric(LAG, |lag| lag == 3.0).await;
    running
        .until_metric(&faults("stalled"), |count| count >= 1.0)
        .await;
    emulator.faults().stall_deliveries(false);
    let begin = Instant::now();
    running.until_metric(FINDINGS, |count| count == 3.0).await;
    running.until_ready(|status, _| status == 200).await;
    println!(
        "a partition that delivers nothing: said after {noticed:.1} s, read on {:.1} s after the \
         end of it",
        begin.elapsed().as_secs_f64()
    );
    running.stop().await;
    emulator.shutdown().await;
}
