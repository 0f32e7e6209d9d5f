//! Simulated records, published by the official client as they come due.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::simulator::record::Batcher;
use crate::simulator::{Mark, Record, Simulator, Truth};
use crate::source::eventhubs::{EventHubConfig, HubError, HubProducer};

/// How long records wait for company before they are sent, as in Azure's pipeline, only shorter.
const LINGER: Duration = Duration::from_millis(50);

/// Batches under way to the hub; behind them the simulator waits.
const QUEUE: usize = 64;

/// How long an answer of the emulator is waited for. It is beside us; but on a busy machine the client
/// may miss an answer, and then waits for it and holds up everything behind it.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A producer for an emulator's hub.
pub async fn producer(mut hub: EventHubConfig) -> Result<HubProducer, HubError> {
    hub.pace.call = ANSWER_LIMIT;
    HubProducer::open(hub).await
}

/// What has been published so far.
#[derive(Default)]
pub struct Published {
    pub records: AtomicU64,
    /// Of the records, without what envelops the batches.
    pub bytes: AtomicU64,
    /// When each request of a campaign was handed to the client, by its audit ID.
    marks: Mutex<HashMap<String, Instant>>,
    /// Of every round that has begun.
    truth: Mutex<Truth>,
}

impl Published {
    pub fn at(&self, audit_id: &str) -> Option<Instant> {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.get(audit_id).copied()
    }

    pub fn truth(&self) -> Truth {
        let truth = self.truth.lock().unwrap_or_else(PoisonError::into_inner);
        truth.clone()
    }
}

struct Batch {
    payload: Bytes,
    marks: Vec<Mark>,
    records: u64,
    bytes: u64,
}

/// Publishes the simulator's records until its end or until `stop` is set.
pub async fn publish(
    simulator: Simulator,
    mut producer: HubProducer,
    published: Arc<Published>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<()> {
    let (batches_in, mut batches) = mpsc::channel(QUEUE);
    let progress = Arc::clone(&published);
    let generator =
        tokio::task::spawn_blocking(move || generate(simulator, &batches_in, &progress, &stop));
    let mut ready = Vec::new();
    while batches.recv_many(&mut ready, QUEUE).await > 0 {
        let now = Instant::now();
        {
            let mut marks = published
                .marks
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            for mark in ready.iter().flat_map(|batch: &Batch| &batch.marks) {
                marks.entry(mark.audit_id.clone()).or_insert(now);
            }
        }
        // Each batch for itself, so that they spread over the partitions as Azure's do.
        for batch in ready.drain(..) {
            producer.send(None, &[batch.payload]).await?;
            published
                .records
                .fetch_add(batch.records, Ordering::Relaxed);
            published.bytes.fetch_add(batch.bytes, Ordering::Relaxed);
        }
    }
    generator.await?;
    producer.close().await?;
    Ok(())
}

/// Makes records when their time has come, and batches of each cluster's.
fn generate(
    mut simulator: Simulator,
    batches: &mpsc::Sender<Batch>,
    published: &Published,
    stop: &AtomicBool,
) {
    let mut clusters: Vec<Gathering> = Vec::new();
    let mut flushed = Instant::now();
    let mut campaigns = 0;
    while let Some(record) = simulator.next() {
        if simulator.truth().campaigns.len() != campaigns {
            campaigns = simulator.truth().campaigns.len();
            let truth = simulator.truth().clone();
            *published
                .truth
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = truth;
        }
        loop {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            if flushed.elapsed() >= LINGER {
                flushed = Instant::now();
                let full = clusters.iter_mut().filter_map(Gathering::finish);
                for batch in full {
                    if batches.blocking_send(batch).is_err() {
                        return;
                    }
                }
            }
            let ahead = record.time.duration_since(Timestamp::now());
            match Duration::try_from(ahead) {
                Ok(wait) if !wait.is_zero() => std::thread::sleep(wait.min(LINGER / 5)),
                _ => break,
            }
        }
        if clusters.len() <= record.cluster {
            clusters.resize_with(record.cluster + 1, Gathering::default);
        }
        let full = clusters[record.cluster].add(record);
        if full.is_some_and(|batch| batches.blocking_send(batch).is_err()) {
            return;
        }
    }
    for batch in clusters.iter_mut().filter_map(Gathering::finish) {
        if batches.blocking_send(batch).is_err() {
            return;
        }
    }
}

/// A cluster's records on their way into a batch.
#[derive(Default)]
struct Gathering {
    batcher: Batcher,
    marks: Vec<Mark>,
    records: u64,
    bytes: u64,
}

impl Gathering {
    fn add(&mut self, record: Record) -> Option<Batch> {
        let full = self.batcher.add(&record.bytes);
        let full = full.map(|payload| self.batch(payload));
        self.records += 1;
        self.bytes += record.bytes.len() as u64;
        self.marks.extend(record.mark);
        full
    }

    fn finish(&mut self) -> Option<Batch> {
        let payload = self.batcher.finish()?;
        Some(self.batch(payload))
    }

    fn batch(&mut self, payload: Bytes) -> Batch {
        Batch {
            payload,
            marks: std::mem::take(&mut self.marks),
            records: std::mem::take(&mut self.records),
            bytes: std::mem::take(&mut self.bytes),
        }
    }
}
