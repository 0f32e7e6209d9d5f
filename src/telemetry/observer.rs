//! Turns what the pipeline, the deliveries and the hubs say into metrics and health.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::health::Heartbeat;
use super::metrics::StateOperator;
use super::{Health, Metrics, Span, State};
use crate::alert::Alert;
use crate::alert::Severity;
use crate::alert::group::Cause;
use crate::config::Config;
use crate::deliver::{self, Death, FailureReason};
use crate::detect::{Engine, Outcome};
use crate::pipeline::daemon::Daemon;
use crate::pipeline::live;
use crate::pipeline::tally::Tally;
use crate::source::Partition;
use crate::source::eventhubs::{HubSnapshot, State as HubState};
use crate::store::{Evicted, StoreError};

/// How long the judging thread may be silent before `/livez` says that it stalls. A commit may wait
/// for a disk that hangs, which a restart does not mend, but which should be seen.
const JUDGE_SILENCE: Duration = Duration::from_secs(60);

/// How often gauges are brought up to date.
const EVERY: Duration = Duration::from_secs(1);

/// Metrics and health of one daemon.
#[derive(Debug)]
pub struct Observer {
    pub metrics: Arc<Metrics>,
    pub health: Health,
    judge: Heartbeat,
}

impl Observer {
    pub fn new(metrics: Arc<Metrics>, health: Health) -> Observer {
        let judge = health.heartbeat("judge", JUDGE_SILENCE);
        health.set("store", State::Ready);
        Observer {
            metrics,
            health,
            judge,
        }
    }

    /// Makes the series that the configuration names.
    pub fn expect(&self, config: &Config, engine: &Engine) {
        let receivers = config.receivers();
        let reasons = FailureReason::ALL.map(FailureReason::as_str);
        self.metrics.expect(
            config.eventhubs.keys().map(String::as_str),
            receivers.iter().map(String::as_str),
            engine.detectors.iter().map(|detector| detector.id.as_str()),
            &reasons,
        );
    }

    /// Keeps gauges and the hubs' health up to date until cancelled.
    pub async fn watch(&self, daemon: &Daemon, cancel: CancellationToken) {
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = ticks.tick() => {}
            }
            for hub in &daemon.hubs {
                self.hub(&hub.snapshot());
            }
            let store = Arc::clone(&daemon.store);
            let counts = tokio::task::spawn_blocking(move || store.outbox_counts()).await;
            if let Ok(Ok(counts)) = counts {
                let now = Timestamp::now();
                for count in counts {
                    let oldest = count
                        .oldest
                        .and_then(|time| Duration::try_from(now.duration_since(time)).ok())
                        .unwrap_or_default();
                    self.metrics.outbox(&count.receiver, count.pending, oldest);
                }
            }
        }
    }

    fn hub(&self, hub: &HubSnapshot) {
        let now = Timestamp::now();
        for partition in &hub.partitions {
            let age = match (partition.lag(), partition.last_received) {
                // What is read to its end is not behind, however long ago that was.
                (Some(0), _) | (_, None) => Duration::ZERO,
                (_, Some(received)) => {
                    Duration::try_from(now.duration_since(received)).unwrap_or_default()
                }
            };
            self.metrics
                .partition_lag(&hub.name, &partition.id, partition.lag().unwrap_or(0), age);
        }
        let state = if hub.is_ready() {
            State::Ready
        } else {
            let waiting: Vec<String> = hub
                .partitions
                .iter()
                .filter(|partition| partition.state != HubState::Reading)
                .map(|partition| {
                    let error = partition.error.as_deref().unwrap_or("no error");
                    format!("partition {}: {:?}: {error}", partition.id, partition.state)
                })
                .collect();
            match &hub.error {
                Some(error) => State::Failed(error.clone()),
                None if !hub.listed => State::Starting("asking for the partitions".to_owned()),
                None => State::Starting(waiting.join("; ")),
            }
        };
        self.health.set(&format!("eventhubs.{}", hub.name), state);
    }
}

impl live::Observer for Observer {
    fn alive(&self) {
        self.judge.beat();
    }

    fn read(&self, partition: &Partition, tally: &Tally) {
        let hub = partition.source.split('/').next().unwrap_or_default();
        self.metrics.received(hub, 1, tally.bytes);
        for ((category, form), count) in &tally.by_form {
            self.metrics.records(*category, *form, *count);
        }
        for (reason, count) in &tally.ignored {
            self.metrics.ignored(*reason, *count);
        }
        for (damage, count) in &tally.damaged {
            self.metrics.quarantined(*damage, *count);
        }
    }

    fn judged(&self, detector: &str, outcome: Outcome) {
        self.metrics.matched(detector, outcome, 1);
    }

    fn notified(&self, alert: &Alert, cause: Cause, receivers: usize) {
        if cause == Cause::Opened {
            self.metrics
                .alert_opened(&alert.detector.id, alert.severity);
        }
        tracing::info!(
            detector = %alert.detector.id,
            severity = alert.severity.as_str(),
            id = %alert.id,
            receivers,
            "alert"
        );
    }

    fn committed(&self, took: Duration, enqueued: Option<Timestamp>) {
        self.metrics.committed(took);
        self.health.set("store", State::Ready);
        if let Some(enqueued) = enqueued
            && let Ok(latency) = Duration::try_from(Timestamp::now().duration_since(enqueued))
        {
            self.metrics.latency(Span::ReceiveToCommit).record(latency);
        }
    }

    fn watermark(&self, time: Timestamp) {
        self.metrics.watermark(time);
    }

    fn store_failed(&self, error: &StoreError) {
        self.metrics.commit_failed();
        self.health.set("store", State::Failed(error.to_string()));
    }

    fn evicted(&self, evicted: &Evicted) {
        tracing::error!(
            receiver = %evicted.receiver,
            count = evicted.notifications,
            "notifications became dead letters: the receiver's quota is full"
        );
    }

    fn state(&self, entries: &[(&'static str, usize)], _evicted: u64) {
        for operator in StateOperator::ALL {
            let found = entries.iter().find(|(name, _)| *name == operator.as_str());
            let count = found.map_or(0, |(_, count)| *count as u64);
            self.metrics.state_entries(operator, count);
        }
    }
}

impl deliver::Observer for Observer {
    fn delivered(&self, receiver: &str, waited: Duration) {
        self.metrics.sent(receiver, Some(waited));
        self.health.set(receiver, State::Ready);
    }

    fn failed(&self, receiver: &str, reason: FailureReason) {
        self.metrics.failed(receiver, reason.as_str());
        let reason = format!("the last attempt failed: {}", reason.as_str());
        self.health.set(receiver, State::Degraded(reason));
    }

    fn died(&self, receiver: &str, _death: Death, _severity: Severity) {
        self.metrics.dead(receiver, 1);
    }
}
