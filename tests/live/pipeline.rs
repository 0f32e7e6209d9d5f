//! A pipeline that runs, and records to put into it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use lanner::alert::Alert;
use lanner::alert::group::Cause;
use lanner::config;
use lanner::deliver::{self, Attempt, Deliveries, Notification, Receiver};
use lanner::detect::order::Learning;
use lanner::detect::{Engine, load};
use lanner::pipeline::live::{Live, Observer, Parts, Settings};
use lanner::pipeline::memory::Memory;
use lanner::pipeline::tally::Tally;
use lanner::source::pacing::{Limits, Pacing};
use lanner::source::{Batch, Chunk, Framing, Partition, Position};
use lanner::store::{Store, StoreConfig};
use lanner::wall::Wall;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must come; only a failure takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// When tests begin.
pub const BEGIN: &str = "2026-11-20T10:00:00Z";

pub fn begin() -> Timestamp {
    BEGIN.parse().expect("a time")
}

/// What the pipeline said.
#[derive(Default)]
pub struct Heard {
    pub notified: Mutex<Vec<(Cause, Alert)>>,
    pub tally: Mutex<Tally>,
    pub entries: Mutex<BTreeMap<&'static str, usize>>,
    pub evicted: AtomicU64,
    batches: AtomicU64,
    beats: AtomicU64,
    watermark: AtomicI64,
}

impl Observer for Heard {
    fn alive(&self) {
        self.beats.fetch_add(1, Ordering::SeqCst);
    }

    fn watermark(&self, time: Timestamp) {
        self.watermark.store(time.as_second(), Ordering::SeqCst);
    }

    fn read(&self, _: &Partition, tally: &Tally) {
        self.tally.lock().unwrap().merge(tally);
        self.batches.fetch_add(1, Ordering::SeqCst);
    }

    fn notified(&self, alert: &Alert, cause: Cause, _: usize) {
        self.notified.lock().unwrap().push((cause, alert.clone()));
    }

    fn state(&self, memory: &Memory) {
        self.entries.lock().unwrap().extend(memory.entries());
        self.evicted.store(memory.evicted(), Ordering::SeqCst);
    }
}

/// Takes everything at once, and keeps it.
struct Taker(Arc<Mutex<Vec<Value>>>);

impl Receiver for Taker {
    fn deliver<'a>(
        &'a self,
        notification: &'a Notification,
    ) -> futures::future::BoxFuture<'a, Attempt> {
        let body = serde_json::from_str(&notification.body).expect("JSON");
        self.0.lock().unwrap().push(body);
        Box::pin(async { Attempt::Delivered })
    }
}

pub struct Pipeline {
    folder: tempfile::TempDir,
    text: String,
    live: Option<Live>,
    batches: Option<mpsc::Sender<Batch>>,
    deliveries: Option<Deliveries>,
    pub heard: Arc<Heard>,
    /// Notifications that the receiver took.
    pub delivered: Arc<Mutex<Vec<Value>>>,
    /// Seconds that the machine's clock shows, and that its steady clock has counted, since the begin.
    wall: Arc<AtomicI64>,
    steady: Arc<AtomicI64>,
    sent: u64,
}

impl Pipeline {
    pub fn start(text: &str) -> Pipeline {
        let pipeline = Pipeline {
            folder: tempfile::tempdir().unwrap(),
            text: format!("[eventhubs.h]\nnamespace = \"n\"\nhub = \"audit\"\n{text}"),
            live: None,
            batches: None,
            deliveries: None,
            heard: Arc::default(),
            delivered: Arc::default(),
            wall: Arc::default(),
            steady: Arc::default(),
            sent: 0,
        };
        pipeline.restart()
    }

    fn store(&self) -> StoreConfig {
        let loaded = config::load_text("lanner.toml", &self.text, &[]).expect("is right");
        StoreConfig {
            path: self.folder.path().to_owned(),
            ..loaded.config.store
        }
    }

    fn restart(mut self) -> Pipeline {
        let loaded = config::load_text("lanner.toml", &self.text, &[]).expect("is right");
        let config = loaded.config;
        let detectors = load::load(&load::shipped(), &[]).expect("are right");
        let engine = Arc::new(Engine::new(detectors, config.sites()));
        let (store, recovered) = Store::open(&self.store()).expect("opens");
        let store = Arc::new(store);
        let (batches_in, batches) = mpsc::channel(config.pipeline.queue_batches as usize);
        let deliveries = deliver::start(
            Arc::clone(&store),
            vec![(
                "stdout".to_owned(),
                Box::new(Taker(Arc::clone(&self.delivered))),
            )],
            Arc::new(()),
            deliver::Options::default(),
            &CancellationToken::new(),
        );
        let (wall, steady) = (Arc::clone(&self.wall), Arc::clone(&self.steady));
        let wall = Wall::with(move || {
            let wall = SignedDuration::from_secs(wall.load(Ordering::SeqCst));
            let steady = steady.load(Ordering::SeqCst).unsigned_abs();
            (begin() + wall, Duration::from_secs(steady))
        });
        let pacing = Pacing::new(Limits {
            ahead: SignedDuration::from_hours(24 * 365),
            pause: Duration::from_secs(1),
            patience: Duration::from_secs(1),
            unheard: Limits::UNHEARD,
        });
        // As readers do that go on from where they were.
        for partition in recovered.positions.keys() {
            pacing.open(&Arc::new(partition.clone()));
        }
        let parts = Parts {
            settings: Arc::new(ArcSwap::from_pointee(Settings { config, engine })),
            store,
            pacing: Arc::new(pacing),
            batches,
            wake: deliveries.wake(),
            wall: Arc::new(wall),
            observer: self.heard.clone(),
        };
        self.live = Some(Live::start(parts, &recovered).expect("threads start"));
        self.batches = Some(batches_in);
        self.deliveries = Some(deliveries);
        self
    }

    /// Puts in a batch of records that the hub took in at `received`; seconds after the begin.
    pub async fn send(&mut self, received: i64, at_end: bool, records: &[Value]) {
        self.send_to("0", received, at_end, records).await;
    }

    pub async fn send_to(&mut self, id: &str, received: i64, at_end: bool, records: &[Value]) {
        let position = self.sent as i64;
        self.sent += 1;
        let batch = Batch {
            partition: Arc::new(Partition {
                source: "n/audit/$Default".into(),
                id: id.into(),
            }),
            from: Position(position - 1),
            to: Position(position),
            chunks: vec![Chunk {
                bytes: Bytes::from(json!({ "records": records }).to_string()),
                position,
                framing: Framing::Lines,
                enqueued: Some(at(received)),
            }],
            at_end,
        };
        let batches = self.batches.as_ref().expect("it runs");
        batches.send(batch).await.expect("it runs");
    }

    /// Waits until everything sent was judged, and one look at the clock more.
    pub async fn judged(&self) {
        let sent = self.sent;
        self.until("all is judged", |heard| {
            heard.batches.load(Ordering::SeqCst) >= sent
        })
        .await;
        self.ticks(2).await;
    }

    /// Waits for so many looks at the clock.
    pub async fn ticks(&self, count: u64) {
        let beats = self.heard.beats.load(Ordering::SeqCst);
        self.until("the clock is looked at", |heard| {
            heard.beats.load(Ordering::SeqCst) >= beats + count
        })
        .await;
    }

    pub async fn until(&self, what: &str, mut reached: impl FnMut(&Heard) -> bool) {
        let started = Instant::now();
        while !reached(&self.heard) {
            assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Time passes, by both clocks.
    pub fn pass(&self, seconds: i64) {
        self.steady.fetch_add(seconds, Ordering::SeqCst);
        self.wall.fetch_add(seconds, Ordering::SeqCst);
    }

    /// The machine's clock jumps.
    pub fn jump(&self, seconds: i64) {
        self.wall.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Seconds after the begin up to which all partitions have come.
    pub fn watermark(&self) -> i64 {
        self.heard.watermark.load(Ordering::SeqCst) - begin().as_second()
    }

    /// The notifications of a detector.
    pub fn told(&self, detector: &str) -> Vec<(Cause, Alert)> {
        let notified = self.heard.notified.lock().unwrap();
        let of = notified
            .iter()
            .filter(|(_, alert)| alert.detector.id == detector);
        of.cloned().collect()
    }

    /// Stops as SIGTERM does.
    pub async fn stop(mut self) -> Pipeline {
        drop(self.batches.take());
        let live = self.live.take().expect("it runs");
        tokio::task::spawn_blocking(move || live.join(PATIENCE))
            .await
            .unwrap();
        let deliveries = self.deliveries.take().expect("it runs");
        deliveries.join(PATIENCE).await;
        self
    }

    pub async fn stop_and_restart(self) -> Pipeline {
        self.stop().await.restart()
    }

    /// The alerts that a stopped pipeline left open in its store.
    pub async fn open_alerts(self) -> Vec<Alert> {
        let stopped = self.stop().await;
        let (_store, recovered) = Store::open(&stopped.store()).expect("opens");
        let (mut memory, _) = Memory::recover(&recovered, Learning::Own, None);
        memory.groups.close_quiet(Timestamp::MAX)
    }
}

pub fn at(seconds: i64) -> Timestamp {
    begin() + SignedDuration::from_secs(seconds)
}

/// What differs between records.
pub struct Event<'a> {
    pub cluster: &'a str,
    pub user: &'a str,
    /// Seconds after the begin.
    pub at: i64,
    /// In place of `at`, as the record has it.
    pub time: Option<&'a str>,
    pub number: usize,
}

impl Default for Event<'_> {
    fn default() -> Self {
        Event {
            cluster: "west",
            user: "ada@example.com",
            at: 0,
            time: None,
            number: 0,
        }
    }
}

impl Event<'_> {
    fn record(&self, mut event: Value) -> Value {
        let time = match self.time {
            Some(time) => time.to_owned(),
            None => at(self.at).to_string(),
        };
        let base = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse",
            "auditID": format!("a0000000-0000-4000-8000-{:012}", self.number),
            "user": { "username": self.user, "groups": ["system:authenticated"] },
            "sourceIPs": ["203.0.113.7", "172.31.4.5"],
            "userAgent": "kubectl/v1.34.1",
            "requestReceivedTimestamp": time, "stageTimestamp": time,
            "annotations": { "authorization.k8s.io/decision": "allow" },
        });
        let fields = event.as_object_mut().expect("an object");
        for (name, value) in base.as_object().expect("an object") {
            fields.entry(name).or_insert_with(|| value.clone());
        }
        json!({
            "category": "kube-audit",
            "time": time,
            "resourceId": format!(
                "/SUBSCRIPTIONS/0/RESOURCEGROUPS/RG/PROVIDERS/MICROSOFT.CONTAINERSERVICE/MANAGEDCLUSTERS/{}",
                self.cluster.to_uppercase()
            ),
            "properties": { "log": format!("{event}\n"), "stream": "stdout" },
        })
    }

    /// A command run in a pod.
    pub fn exec(&self, pod: &str) -> Value {
        self.record(json!({
            "stage": "ResponseStarted", "verb": "get",
            "requestURI": format!("/api/v1/namespaces/shop/pods/{pod}/exec?command=id&stdout=true"),
            "objectRef": { "resource": "pods", "namespace": "shop", "name": pod, "apiVersion": "v1", "subresource": "exec" },
            "responseStatus": { "metadata": {}, "code": 101 },
        }))
    }

    /// A pod's log, asked for at `received` seconds after the begin.
    pub fn log(&self, pod: &str, stage: &str, received: i64) -> Value {
        self.record(json!({
            "stage": stage, "verb": "get",
            "requestURI": format!("/api/v1/namespaces/shop/pods/{pod}/log?follow=true"),
            "objectRef": { "resource": "pods", "namespace": "shop", "name": pod, "apiVersion": "v1", "subresource": "log" },
            "responseStatus": { "metadata": {}, "code": 200 },
            "requestReceivedTimestamp": at(received).to_string(),
        }))
    }

    /// A secret that was refused.
    pub fn denied(&self, secret: &str) -> Value {
        self.record(json!({
            "stage": "ResponseComplete", "verb": "get",
            "requestURI": format!("/api/v1/namespaces/shop/secrets/{secret}"),
            "objectRef": { "resource": "secrets", "namespace": "shop", "name": secret, "apiVersion": "v1" },
            "responseStatus": { "metadata": {}, "code": 403 },
        }))
    }

    /// A privileged pod made.
    pub fn privileged(&self, pod: &str) -> Value {
        self.record(json!({
            "stage": "ResponseComplete", "verb": "create",
            "requestURI": "/api/v1/namespaces/shop/pods",
            "objectRef": { "resource": "pods", "namespace": "shop", "name": pod, "apiVersion": "v1" },
            "responseStatus": { "metadata": {}, "code": 201 },
            "requestObject": {
                "kind": "Pod", "apiVersion": "v1", "metadata": { "name": pod, "namespace": "shop" },
                "spec": { "containers": [{ "name": "c", "image": "contoso.azurecr.io/web:1", "securityContext": { "privileged": true } }] },
            },
        }))
    }

    /// A secret made; of what is in it, nothing is logged.
    pub fn secret(&self, secret: &str) -> Value {
        self.record(json!({
            "level": "Metadata", "stage": "ResponseComplete", "verb": "create",
            "requestURI": "/api/v1/namespaces/shop/secrets",
            "objectRef": { "resource": "secrets", "namespace": "shop", "name": secret, "apiVersion": "v1" },
            "responseStatus": { "metadata": {}, "code": 201 },
        }))
    }

    /// A token put into a secret by the platform.
    pub fn filled(&self, secret: &str) -> Value {
        self.record(json!({
            "level": "Metadata", "stage": "ResponseComplete", "verb": "update",
            "requestURI": format!("/api/v1/namespaces/shop/secrets/{secret}"),
            "user": { "username": "system:kube-controller-manager", "groups": ["system:authenticated"] },
            "sourceIPs": ["172.31.24.9"],
            "userAgent": "kube-controller-manager/v1.34.1 (linux/amd64) kubernetes/32cc146/tokens-controller",
            "objectRef": { "resource": "secrets", "namespace": "shop", "name": secret, "apiVersion": "v1" },
            "responseStatus": { "metadata": {}, "code": 200 },
        }))
    }

    /// Nothing that anybody alerts on.
    pub fn quiet(&self) -> Value {
        self.record(json!({
            "stage": "ResponseComplete", "verb": "get",
            "requestURI": "/api/v1/namespaces/shop/pods/web-0",
            "objectRef": { "resource": "pods", "namespace": "shop", "name": "web-0", "apiVersion": "v1" },
            "responseStatus": { "metadata": {}, "code": 200 },
        }))
    }
}
