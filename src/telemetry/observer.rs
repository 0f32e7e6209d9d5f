//! Turns what the pipeline, the deliveries and the hubs say into metrics and health.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::health::Heartbeat;
use super::metrics::DeadLetter;
use super::{Health, Metrics, Span, State};
use crate::alert::Alert;
use crate::alert::Severity;
use crate::alert::group::Cause;
use crate::config::Config;
use crate::decode::Damage;
use crate::deliver::{self, Death, FailureReason};
use crate::detect::{Engine, Outcome};
use crate::pipeline::daemon::Daemon;
use crate::pipeline::live;
use crate::pipeline::memory::Memory;
use crate::pipeline::tally::Tally;
use crate::source::Partition;
use crate::source::eventhubs::{HubSnapshot, PartitionSnapshot, State as HubState};
use crate::store::{Evicted, OutboxCount, StoreError};

/// How long the judging thread may be silent before `/livez` says that it stalls. A commit may wait
/// for a disk that hangs, which a restart does not mend, but which should be seen.
const JUDGE_SILENCE: Duration = Duration::from_secs(60);

/// What the store is called among the components.
const STORE: &str = "store";

/// How often gauges are brought up to date.
const EVERY: Duration = Duration::from_secs(1);

/// Metrics and health of one daemon.
#[derive(Debug)]
pub struct Observer {
    pub metrics: Arc<Metrics>,
    pub health: Health,
    judge: Heartbeat,
    /// The name in `[eventhubs.NAME]` by [`Partition::source`].
    hubs: ArcSwap<HashMap<String, String>>,
    receivers: ArcSwap<Vec<String>>,
    /// The latest event time judged, by hub and partition.
    latest: Mutex<HashMap<String, HashMap<String, Timestamp>>>,
}

impl Observer {
    pub fn new(metrics: Arc<Metrics>, health: Health) -> Observer {
        let judge = health.heartbeat("judge", JUDGE_SILENCE);
        health.set(STORE, State::Starting("it is being opened".to_owned()));
        Observer {
            metrics,
            health,
            judge,
            hubs: ArcSwap::default(),
            receivers: ArcSwap::default(),
            latest: Mutex::default(),
        }
    }

    /// Says of what a start waits for that it is not there yet. Until then nothing is ready.
    pub fn starting(&self, config: &Config) {
        for name in config.eventhubs.keys() {
            let reason = "the store is being opened".to_owned();
            self.health.set(&component(name), State::Starting(reason));
        }
    }

    /// Makes the series that the configuration names.
    pub fn expect(&self, config: &Config, engine: &Engine) {
        let receivers = config.receivers();
        self.metrics.expect(
            config.eventhubs.keys().map(String::as_str),
            receivers.iter().map(String::as_str),
            engine.detectors.iter().map(|detector| detector.id.as_str()),
        );
        let hubs = config.eventhubs.iter();
        let names = hubs.map(|(name, hub)| (hub.source(name).to_string(), name.clone()));
        self.hubs.store(Arc::new(names.collect()));
        self.receivers.store(Arc::new(receivers));
    }

    /// Keeps gauges and the hubs' health up to date until cancelled.
    pub async fn watch(&self, daemon: &Daemon, cancel: CancellationToken) {
        self.health.started(STORE);
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = ticks.tick() => {}
            }
            for hub in &daemon.hubs {
                self.hub(&hub.snapshot());
            }
            let store = Arc::clone(&daemon.store);
            match tokio::task::spawn_blocking(move || store.outbox_counts()).await {
                Ok(Ok(counts)) => self.outbox(&counts),
                Ok(Err(error)) => crate::warn_limited!(%error, "the outbox cannot be counted"),
                Err(_) => crate::warn_limited!("counting the outbox was broken off"),
            }
        }
    }

    /// Receivers for which nothing waits are at zero, not forgotten.
    fn outbox(&self, counts: &[OutboxCount]) {
        for receiver in self.receivers.load().iter() {
            let count = counts.iter().find(|count| count.receiver == *receiver);
            let pending = count.map_or(0, |count| count.pending);
            let oldest = count.and_then(|count| count.oldest);
            let age = oldest.map_or(Duration::ZERO, age_of);
            self.metrics.outbox(receiver, pending, age);
        }
    }

    fn hub(&self, hub: &HubSnapshot) {
        let mut counts = [0; 6];
        let mut faults = hub.faults;
        for partition in &hub.partitions {
            let of_partition = [
                partition.lost,
                partition.reconnects,
                partition.repeats,
                partition.rewinds,
                partition.pauses,
                partition.pauses_given_up,
            ];
            for (count, more) in counts.iter_mut().zip(of_partition) {
                *count += more;
            }
            for (count, more) in faults.iter_mut().zip(partition.faults) {
                *count += more;
            }
            self.partition(&hub.name, partition);
        }
        self.metrics.hub_counts(&hub.name, counts);
        self.metrics.hub_faults(&hub.name, faults);
        self.health.set(&component(&hub.name), state_of(hub));
    }

    fn partition(&self, hub: &str, partition: &PartitionSnapshot) {
        let is_read = partition.state == HubState::Reading;
        self.metrics
            .partition_state(hub, &partition.id, is_read, partition.paused);
        let lag = partition.lag();
        if let Some(lag) = lag {
            self.metrics.partition_lag(hub, &partition.id, lag);
        }
        // What is read to its end is not behind, however long ago that was; but nobody knows the
        // end of what is not read.
        let age = if is_read && lag == Some(0) {
            Some(Duration::ZERO)
        } else {
            let latest = lock(&self.latest);
            let latest = latest.get(hub).and_then(|of| of.get(&partition.id));
            latest.copied().map(age_of)
        };
        if let Some(age) = age {
            self.metrics.partition_age(hub, &partition.id, age);
        }
    }
}

/// What a hub is called among the components.
fn component(hub: &str) -> String {
    format!("eventhubs.{hub}")
}

fn state_of(hub: &HubSnapshot) -> State {
    if hub.is_ready() {
        return State::Ready;
    }
    if !hub.listed {
        return match &hub.error {
            Some(error) => State::Failed(error.clone()),
            None => State::Starting("asking for the partitions".to_owned()),
        };
    }
    let waiting: Vec<_> = hub
        .partitions
        .iter()
        .filter(|partition| partition.state != HubState::Reading)
        .collect();
    let which = format!(
        "{} of {} partitions are not read",
        waiting.len(),
        hub.partitions.len()
    );
    // One error stands for all: they mostly have the same.
    let error = waiting.iter().find_map(|partition| {
        let error = partition.error.as_deref()?;
        Some(format!("{which}; partition {}: {error}", partition.id))
    });
    match error {
        Some(reason) => State::Failed(reason),
        None => State::Starting(which),
    }
}

/// Nothing here panics while it holds a lock, so a poisoned one is still sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Zero for times to come: clocks of other machines may be ahead.
fn age_of(time: Timestamp) -> Duration {
    Duration::try_from(Timestamp::now().duration_since(time)).unwrap_or(Duration::ZERO)
}

impl live::Observer for Observer {
    fn alive(&self) {
        self.judge.beat();
    }

    fn read(&self, partition: &Partition, tally: &Tally) {
        let hubs = self.hubs.load();
        let hub = hubs.get(&*partition.source).map_or("other", String::as_str);
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
        self.metrics.misdated(tally.future, tally.untold);
        if tally.future > 0 {
            crate::warn_limited!(
                hub,
                partition = %partition.id,
                records = tally.future,
                "records are dated after the hub took them in; they count as of then"
            );
        }
        if let Some((_, latest)) = tally.span {
            let mut known = lock(&self.latest);
            let of_hub = known.entry(hub.to_owned()).or_default();
            let known = of_hub.entry(partition.id.to_string()).or_insert(latest);
            *known = latest.max(*known);
        }
    }

    fn judged(&self, detector: &str, outcome: Outcome) {
        self.metrics.matched(detector, outcome, 1);
    }

    fn notified(&self, alert: &Alert, cause: Cause, receivers: usize) {
        self.metrics.notified(cause, 1);
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
        self.health.set(STORE, State::Ready);
        if let Some(enqueued) = enqueued {
            self.metrics
                .latency(Span::PublishToCommit)
                .record(age_of(enqueued));
        }
    }

    fn watermark(&self, time: Timestamp) {
        self.metrics.watermark(time);
    }

    fn unheard(&self, count: usize) {
        self.metrics.unheard(count);
    }

    fn store_failed(&self, error: &StoreError) {
        self.metrics.commit_failed();
        self.health.set(STORE, State::Failed(error.to_string()));
    }

    fn failed_on_match(&self) {
        self.metrics.quarantined(Damage::Defect, 1);
    }

    fn evicted(&self, evicted: &Evicted) {
        self.metrics
            .dead(&evicted.receiver, DeadLetter::Quota, evicted.notifications);
        tracing::error!(
            receiver = %evicted.receiver,
            count = evicted.notifications,
            "notifications became dead letters: the receiver's quota is full"
        );
    }

    fn state(&self, memory: &Memory) {
        for (operator, count) in memory.entries() {
            self.metrics.state_entries(operator, count as u64);
        }
        for (operator, bytes) in memory.bytes() {
            self.metrics.state_bytes(operator, bytes as u64);
        }
        self.metrics.state_evicted(memory.evicted());
        self.metrics.state_late(memory.late());
    }
}

impl deliver::Observer for Observer {
    fn delivered(&self, receiver: &str, waited: Duration, enqueued: Option<Timestamp>) {
        self.metrics.sent(receiver);
        self.metrics.latency(Span::CommitToDelivery).record(waited);
        if let Some(enqueued) = enqueued {
            self.metrics
                .latency(Span::PublishToDelivery)
                .record(age_of(enqueued));
        }
        self.health.set(receiver, State::Ready);
    }

    fn failed(&self, receiver: &str, reason: FailureReason) {
        self.metrics.failed(receiver, reason, 1);
        let reason = format!("the last attempt failed: {}", reason.as_str());
        self.health.set(receiver, State::Degraded(reason));
    }

    fn died(&self, receiver: &str, death: Death, _severity: Severity) {
        let why = match death {
            Death::Rejected => DeadLetter::Rejected,
            Death::Expired => DeadLetter::Expired,
        };
        self.metrics.dead(receiver, why, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::eventhubs::PartitionSnapshot;

    fn partition(id: &str, state: HubState, error: Option<&str>) -> PartitionSnapshot {
        PartitionSnapshot {
            id: id.to_owned(),
            state,
            error: error.map(str::to_owned),
            ..PartitionSnapshot::default()
        }
    }

    #[test]
    fn a_hub_is_ready_when_all_its_partitions_are_read() {
        let mut hub = HubSnapshot {
            faults: Default::default(),
            name: "prod".to_owned(),
            state: HubState::Connecting,
            error: None,
            listed: false,
            partitions: Vec::new(),
        };
        let asking = "asking for the partitions";
        assert_eq!(state_of(&hub), State::Starting(asking.to_owned()));
        let refused = "the hub refuses the credentials";
        hub.error = Some(refused.to_owned());
        assert_eq!(state_of(&hub), State::Failed(refused.to_owned()));
        (hub.listed, hub.error) = (true, None);
        hub.partitions = vec![
            partition("0", HubState::Reading, None),
            partition("1", HubState::Connecting, None),
        ];
        let missing = "1 of 2 partitions are not read";
        assert_eq!(state_of(&hub), State::Starting(missing.to_owned()));
        hub.partitions[1] = partition("1", HubState::Stolen, Some("another reader has it"));
        let stolen = format!("{missing}; partition 1: another reader has it");
        assert_eq!(state_of(&hub), State::Failed(stolen));
        hub.partitions[1] = partition("1", HubState::Reading, None);
        assert_eq!(state_of(&hub), State::Ready);
    }

    /// With a hub called `prod`.
    fn configuration() -> Config {
        let mut config = Config::defaults();
        let hub = "namespace = \"ns\"\nhub = \"audit\"";
        let hub = toml::from_str(hub).expect("the keys are those of a hub");
        config.eventhubs.insert("prod".to_owned(), hub);
        config
    }

    #[test]
    fn a_start_is_not_ready_before_the_store_is_open_and_every_hub_is_read() {
        let (metrics, health) = (Arc::new(Metrics::new(EVERY)), Health::new());
        let observer = Observer::new(metrics, health.clone());
        assert!(!health.is_ready(), "the store is not open");
        observer.starting(&configuration());
        health.started(STORE);
        assert!(!health.is_ready(), "the hub is not read");
        let mut hub = crate::source::eventhubs::HubStatus::new("prod").snapshot();
        hub.listed = true;
        hub.partitions = vec![partition("0", HubState::Reading, None)];
        observer.hub(&hub);
        assert!(health.is_ready());
        live::Observer::store_failed(&observer, &StoreError::Full);
        health.started(STORE);
        assert!(!health.is_ready(), "what has failed is not taken for open");
    }

    #[test]
    fn what_stages_tell_is_counted_under_configured_names() {
        let config = configuration();
        let (metrics, health) = (Arc::new(Metrics::new(EVERY)), Health::new());
        let observer = Observer::new(Arc::clone(&metrics), health.clone());
        observer.expect(&config, &Engine::new(Vec::new(), config.sites()));
        let source = config.eventhubs["prod"].source("prod");
        let id = "0".into();
        let tally = Tally {
            bytes: 100,
            ..Tally::default()
        };
        live::Observer::read(&observer, &Partition { source, id }, &tally);
        live::Observer::committed(&observer, EVERY, Some(Timestamp::MAX));
        deliver::Observer::failed(&observer, "stdout", FailureReason::Timeout);
        assert!(
            health.is_ready(),
            "a receiver in trouble does not stop the rest"
        );
        deliver::Observer::died(&observer, "stdout", Death::Expired, Severity::Low);
        observer.outbox(&[]);
        let text = metrics.encode().expect("text can be written to a string");
        for line in [
            "lanner_received_bytes_total{hub=\"prod\"} 100",
            "lanner_notifications_failed_total{receiver=\"stdout\",reason=\"timeout\"} 1",
            "lanner_notifications_dead_total{receiver=\"stdout\",reason=\"expired\"} 1",
            "lanner_latency_samples{span=\"publish_to_commit\"} 1",
            "lanner_outbox_pending{receiver=\"stdout\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
