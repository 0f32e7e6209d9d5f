//! A hub being read, as the tests of this folder look at it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lanner::config::secret::Secret;
use lanner::emulator::{Emulator, EmulatorConfig, HubConfig};
use lanner::source::eventhubs::{EventHubConfig, HubSnapshot, HubStatus, State, read_hub};
use lanner::source::{Batch, Position};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must come; only a failure takes so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const HUB: &str = "audit";

pub async fn emulator(partitions: u32) -> Emulator {
    emulator_with(HubConfig::new(HUB, partitions)).await
}

pub async fn emulator_with(hub: HubConfig) -> Emulator {
    let config = EmulatorConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        hubs: vec![hub],
    };
    Emulator::start(config).await.expect("the emulator starts")
}

pub fn config(emulator: &Emulator) -> EventHubConfig {
    let text = format!("hub = {HUB:?}\nauth = \"connection-string\"");
    let mut config: EventHubConfig = toml::from_str(&text).expect("a configuration");
    config.connection_string = Some(Secret::new(emulator.connection_string()));
    assert_eq!(config.problem(), None);
    config
}

pub fn publish(emulator: &Emulator, partition: &str, payloads: std::ops::Range<usize>) {
    for number in payloads {
        let body = Bytes::from(format!("event {number}"));
        emulator
            .publish(HUB, partition, body)
            .expect("the partition exists");
    }
}

pub fn events(numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("event {number}")).collect()
}

/// A hub being read, and what came of it.
pub struct Reading {
    pub batches: mpsc::Receiver<Batch>,
    pub status: Arc<HubStatus>,
    pub cancel: CancellationToken,
    pub task: JoinHandle<()>,
    pub read: BTreeMap<String, Vec<String>>,
    pub positions: HashMap<String, Position>,
    pub at_end: BTreeMap<String, bool>,
}

impl Reading {
    pub fn start(config: EventHubConfig, positions: HashMap<String, Position>) -> Reading {
        let (out, batches) = mpsc::channel(4);
        let status = Arc::new(HubStatus::new("main"));
        let cancel = CancellationToken::new();
        let reading = read_hub(
            "main",
            config,
            positions.clone(),
            out,
            Arc::clone(&status),
            cancel.clone(),
        );
        Reading {
            batches,
            task: tokio::spawn(reading),
            status,
            cancel,
            read: BTreeMap::new(),
            positions,
            at_end: BTreeMap::new(),
        }
    }

    /// Takes one batch and checks what batches promise.
    pub async fn take(&mut self) {
        let batch = tokio::time::timeout(PATIENCE, self.batches.recv())
            .await
            .unwrap_or_else(|_| panic!("nothing came: {:#?}", self.status.snapshot()))
            .expect("the source runs");
        let id = batch.partition.id.to_string();
        assert_eq!(&*batch.partition.source, "main/audit/$Default");
        if let Some(position) = self.positions.get(&id) {
            assert!(batch.from >= *position, "{batch:?}");
        }
        let mut last = batch.from;
        for chunk in &batch.chunks {
            assert!(Position(chunk.position) > last, "{batch:?}");
            assert!(chunk.enqueued.is_some());
            last = Position(chunk.position);
        }
        assert_eq!(last, batch.to);
        let read = self.read.entry(id.clone()).or_default();
        for chunk in batch.chunks {
            read.push(String::from_utf8(chunk.bytes.to_vec()).expect("text"));
        }
        self.positions.insert(id.clone(), batch.to);
        self.at_end.insert(id, batch.at_end);
    }

    pub async fn until(&mut self, done: impl Fn(&Reading) -> bool) {
        while !done(self) {
            self.take().await;
        }
    }

    pub fn count(&self) -> usize {
        self.read.values().map(Vec::len).sum()
    }

    /// Takes batches until there are `count` events, and checks that no more come at once.
    pub async fn until_count(&mut self, count: usize) {
        self.until(|reading| reading.count() >= count).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        while let Ok(batch) = self.batches.try_recv() {
            assert!(
                batch.chunks.is_empty(),
                "more than {count} events: {batch:?}"
            );
            self.at_end
                .insert(batch.partition.id.to_string(), batch.at_end);
        }
        assert_eq!(self.count(), count);
    }

    pub async fn until_status(&self, done: impl Fn(&HubSnapshot) -> bool) -> HubSnapshot {
        let begin = std::time::Instant::now();
        loop {
            let snapshot = self.status.snapshot();
            if done(&snapshot) {
                return snapshot;
            }
            assert!(begin.elapsed() < PATIENCE, "{snapshot:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn stop(self) {
        self.cancel.cancel();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("the source ends")
            .expect("the source does not panic");
        let snapshot = self.status.snapshot();
        assert_eq!(snapshot.state, State::Stopped);
        assert!(
            snapshot
                .partitions
                .iter()
                .all(|p| p.state == State::Stopped)
        );
    }
}
