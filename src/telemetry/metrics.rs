//! Metrics, as Prometheus scrapes them.
//!
//! Stages call the methods of [`Metrics`], usually once a batch. Names and labels stand here only;
//! label values are names of the configuration, ids of detectors, and closed enumerations, so that
//! nothing in a log record can add a series. Series of closed sets exist from the start, at zero.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::alert::Severity;
use crate::alert::group::Cause;
use crate::decode::{Damage, Form, Ignored};
use crate::deliver::FailureReason;
use crate::detect::Outcome;
use crate::event::Category;
use crate::source::eventhubs::Fault;

use super::latency::{Latency, Span};
use super::process::Process;

/// A label's value: of a closed enumeration, or a name of the configuration.
type Value = Cow<'static, str>;

macro_rules! labels {
    ($($name:ident { $($label:ident),* })*) => {
        $(
            #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
            struct $name { $( $label: Value, )* }
        )*
    };
}

labels! {
    CategoryForm { category, form }
    Reason { reason }
    Hub { hub }
    HubPartition { hub, partition }
    HubFault { hub, fault }
    DetectorOutcome { detector, outcome }
    DetectorSeverity { detector, severity }
    Receiver { receiver }
    ReceiverReason { receiver, reason }
    Operator { operator }
    CauseOnly { cause }
}

/// Why a notification became a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeadLetter {
    Rejected,
    Expired,
    /// The receiver's quota was full.
    Quota,
}

impl DeadLetter {
    pub const ALL: [DeadLetter; 3] = [DeadLetter::Rejected, DeadLetter::Expired, DeadLetter::Quota];

    pub fn as_str(self) -> &'static str {
        match self {
            DeadLetter::Rejected => "rejected",
            DeadLetter::Expired => "expired",
            DeadLetter::Quota => "quota",
        }
    }
}

type Seconds = Gauge<f64, AtomicU64>;

/// Every metric of the daemon. Cheap to share; made once.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    records: Family<CategoryForm, Counter>,
    ignored: Family<Reason, Counter>,
    quarantined: Family<Reason, Counter>,
    misdated: Family<Reason, Counter>,
    bytes: Family<Hub, Counter>,
    batches: Family<Hub, Counter>,
    matches: Family<DetectorOutcome, Counter>,
    alerts: Family<DetectorSeverity, Counter>,
    sent: Family<Receiver, Counter>,
    failed: Family<ReceiverReason, Counter>,
    dead: Family<ReceiverReason, Counter>,
    pending: Family<Receiver, Gauge>,
    oldest: Family<Receiver, Seconds>,
    lag_messages: Family<HubPartition, Gauge>,
    lag_seconds: Family<HubPartition, Seconds>,
    watermark: Seconds,
    unheard: Gauge,
    commits: Histogram,
    commit_failures: Counter,
    state_entries: Family<Operator, Gauge>,
    state_bytes: Family<Operator, Gauge>,
    state_evicted: Counter,
    state_late: Counter,
    notified: Family<CauseOnly, Counter>,
    hub_counts: [Family<Hub, Counter>; HUB_COUNTS.len()],
    hub_faults: Family<HubFault, Counter>,
    partition_reading: Family<HubPartition, Gauge>,
    partition_paused: Family<HubPartition, Gauge>,
    reloads: Family<Reason, Counter>,
    latencies: Arc<Latencies>,
}

#[derive(Debug)]
struct Latencies([Latency; Span::ALL.len()]);

/// In the order of [`Metrics::hub_counts`].
const HUB_COUNTS: [(&str, &str); 6] = [
    (
        "hub_lost_messages",
        "Messages that fell out of the hub's retention before they were read",
    ),
    ("hub_reconnects", "Connections opened after the first"),
    (
        "hub_repeated_messages",
        "Repeated or out-of-order messages that were dropped",
    ),
    (
        "hub_rewinds",
        "Times that a partition's numbers lay before our position, as after it was made anew",
    ),
    (
        "hub_pauses",
        "Times that a partition waited for others that were behind in event time",
    ),
    (
        "hub_pauses_given_up",
        "Times that a partition waited as long as it may, and went on",
    ),
];

const CATEGORIES: [Category; 4] = [
    Category::KubeAudit,
    Category::KubeAuditAdmin,
    Category::KubeApiserver,
    Category::Raw,
];

impl Metrics {
    /// `latency_window` is the least time that latency quantiles are taken over.
    pub fn new(latency_window: Duration) -> Metrics {
        let latencies = Span::ALL.map(|_| Latency::new(latency_window));
        let mut metrics = Metrics {
            registry: Registry::default(),
            records: Family::default(),
            ignored: Family::default(),
            quarantined: Family::default(),
            misdated: Family::default(),
            bytes: Family::default(),
            batches: Family::default(),
            matches: Family::default(),
            alerts: Family::default(),
            sent: Family::default(),
            failed: Family::default(),
            dead: Family::default(),
            pending: Family::default(),
            oldest: Family::default(),
            lag_messages: Family::default(),
            lag_seconds: Family::default(),
            watermark: Seconds::default(),
            unheard: Gauge::default(),
            // From 0.5 ms, a commit on a fast disk, to 16 s, a disk in trouble.
            commits: Histogram::new(exponential_buckets(0.0005, 2.0, 16)),
            commit_failures: Counter::default(),
            state_entries: Family::default(),
            state_bytes: Family::default(),
            state_evicted: Counter::default(),
            state_late: Counter::default(),
            notified: Family::default(),
            hub_counts: Default::default(),
            hub_faults: Family::default(),
            partition_reading: Family::default(),
            partition_paused: Family::default(),
            reloads: Family::default(),
            latencies: Arc::new(Latencies(latencies)),
        };
        metrics.register();
        metrics.initialise();
        metrics
    }

    fn register(&mut self) {
        let root = &mut self.registry;
        root.register_collector(Box::new(Process::new()));
        let r = root.sub_registry_with_prefix("lanner");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        r.register("build", "The program that runs", version);
        r.register(
            "records",
            "Records for us, by category and by the form that the payload came in",
            self.records.clone(),
        );
        r.register(
            "records_ignored",
            "Whole records that were not judged, by reason",
            self.ignored.clone(),
        );
        r.register(
            "records_quarantined",
            "Damaged records kept for a look, by damage",
            self.quarantined.clone(),
        );
        r.register(
            "records_misdated",
            "Records that count as of when the hub took them in: dated later, or without a time",
            self.misdated.clone(),
        );
        r.register_with_unit(
            "received",
            "Bytes received, decompressed",
            Unit::Bytes,
            self.bytes.clone(),
        );
        r.register("batches", "Batches received", self.batches.clone());
        r.register(
            "detector_matches",
            "Matches of detectors, by what became of them; `alert` is a finding",
            self.matches.clone(),
        );
        r.register("alerts", "Alerts opened", self.alerts.clone());
        r.register(
            "notifications_sent",
            "Notifications that a receiver accepted",
            self.sent.clone(),
        );
        r.register(
            "notifications_failed",
            "Attempts that failed; most are repeated",
            self.failed.clone(),
        );
        r.register(
            "notifications_dead",
            "Notifications given up and kept as dead letters",
            self.dead.clone(),
        );
        r.register(
            "outbox_pending",
            "Notifications that wait for delivery",
            self.pending.clone(),
        );
        r.register_with_unit(
            "outbox_oldest_age",
            "Age of the notification that waits longest; 0 where none waits",
            Unit::Seconds,
            self.oldest.clone(),
        );
        r.register(
            "partition_lag_messages",
            "Messages in the partition that were not yet read",
            self.lag_messages.clone(),
        );
        r.register_with_unit(
            "partition_lag",
            "Age of the newest record read, by event time; 0 at the partition's end",
            Unit::Seconds,
            self.lag_seconds.clone(),
        );
        r.register_with_unit(
            "watermark_timestamp",
            "Event time up to which everything was judged, as Unix time",
            Unit::Seconds,
            self.watermark.clone(),
        );
        r.register(
            "watermark_without",
            "Hubs and partitions not heard of since the start, for which the watermark waits no more",
            self.unheard.clone(),
        );
        r.register_with_unit(
            "store_commit_duration",
            "Duration of the store's commits",
            Unit::Seconds,
            self.commits.clone(),
        );
        r.register(
            "store_commit_failures",
            "Commits that failed and were tried again",
            self.commit_failures.clone(),
        );
        r.register(
            "state_entries",
            "Entries that detectors remember",
            self.state_entries.clone(),
        );
        r.register(
            "state_bytes",
            "Bytes that open alerts and incidents hold in memory, about",
            self.state_bytes.clone(),
        );
        r.register(
            "state_evicted",
            "Entries that a bound pushed out of the detectors' memory",
            self.state_evicted.clone(),
        );
        r.register(
            "state_late",
            "Matches that came later than the lateness allows, to detectors that remember",
            self.state_late.clone(),
        );
        r.register(
            "alert_notifications",
            "Notifications made, by cause, before routing",
            self.notified.clone(),
        );
        r.register(
            "hub_faults",
            "Errors of reading a hub, by kind; `stalled` is the watchdog's",
            self.hub_faults.clone(),
        );
        r.register(
            "partition_reading",
            "1 while the partition is read, 0 while it is not; its lag is then as last known",
            self.partition_reading.clone(),
        );
        r.register(
            "partition_paused",
            "1 while the partition waits for others that are behind in event time",
            self.partition_paused.clone(),
        );
        for ((name, help), family) in HUB_COUNTS.iter().zip(&self.hub_counts) {
            r.register(*name, *help, family.clone());
        }
        r.register(
            "config_reloads",
            "Reloads of the configuration: accepted or refused",
            self.reloads.clone(),
        );
        r.register_collector(Box::new(self.latencies.clone()));
    }

    fn initialise(&self) {
        for category in CATEGORIES {
            for form in Form::ALL {
                self.records(category, *form, 0);
            }
        }
        for reason in Ignored::ALL {
            self.ignored(*reason, 0);
        }
        for damage in Damage::ALL {
            self.quarantined(*damage, 0);
        }
        self.misdated(0, 0);
        for cause in [
            Cause::Opened,
            Cause::SeverityRose,
            Cause::AnotherActor,
            Cause::Repeated,
        ] {
            self.notified(cause, 0);
        }
        for reason in ["accepted", "refused"] {
            let reason = reason.into();
            drop(self.reloads.get_or_create(&Reason { reason }));
        }
    }

    /// Makes the series of these hubs, receivers and detectors, at zero. To be called at
    /// start, and again after a reload.
    pub fn expect<'h, 'r, 'd>(
        &self,
        hubs: impl IntoIterator<Item = &'h str>,
        receivers: impl IntoIterator<Item = &'r str>,
        detectors: impl IntoIterator<Item = &'d str>,
    ) {
        for hub in hubs {
            self.received(hub, 0, 0);
            self.hub_counts(hub, [0; HUB_COUNTS.len()]);
            self.hub_faults(hub, [0; Fault::ALL.len()]);
        }
        for receiver in receivers {
            self.sent.get_or_create(&of_receiver(receiver)).inc_by(0);
            for why in DeadLetter::ALL {
                self.dead(receiver, why, 0);
            }
            self.outbox(receiver, 0, Duration::ZERO);
            for reason in FailureReason::ALL {
                self.failed(receiver, reason, 0);
            }
        }
        for detector in detectors {
            for outcome in Outcome::ALL {
                self.matched(detector, outcome, 0);
            }
        }
    }

    /// Records for us, judged or damaged.
    pub fn records(&self, category: Category, form: Form, count: u64) {
        let labels = CategoryForm {
            category: category.as_str().into(),
            form: form.as_str().into(),
        };
        self.records.get_or_create(&labels).inc_by(count);
    }

    pub fn ignored(&self, reason: Ignored, count: u64) {
        let reason = reason.as_str().into();
        self.ignored.get_or_create(&Reason { reason }).inc_by(count);
    }

    pub fn quarantined(&self, damage: Damage, count: u64) {
        let reason = damage.as_str().into();
        self.quarantined
            .get_or_create(&Reason { reason })
            .inc_by(count);
    }

    /// Records dated after the hub took them in, and records without a time.
    pub fn misdated(&self, future: u64, untold: u64) {
        for (reason, count) in [("future", future), ("none", untold)] {
            let reason = reason.into();
            self.misdated
                .get_or_create(&Reason { reason })
                .inc_by(count);
        }
    }

    /// `hub` is the name in `[eventhubs.NAME]`.
    pub fn received(&self, hub: &str, batches: u64, bytes: u64) {
        let labels = Hub { hub: name(hub) };
        self.batches.get_or_create(&labels).inc_by(batches);
        self.bytes.get_or_create(&labels).inc_by(bytes);
    }

    pub fn matched(&self, detector: &str, outcome: Outcome, count: u64) {
        let labels = DetectorOutcome {
            detector: name(detector),
            outcome: outcome.as_str().into(),
        };
        self.matches.get_or_create(&labels).inc_by(count);
    }

    pub fn alert_opened(&self, detector: &str, severity: Severity) {
        let labels = DetectorSeverity {
            detector: name(detector),
            severity: severity.as_str().into(),
        };
        self.alerts.get_or_create(&labels).inc();
    }

    /// A notification was made; counted before routes multiply it.
    pub fn notified(&self, cause: Cause, count: u64) {
        let cause = match cause {
            Cause::Opened => "opened",
            Cause::SeverityRose => "severity_rose",
            Cause::AnotherActor => "another_actor",
            Cause::Repeated => "repeated",
        };
        let cause = cause.into();
        self.notified
            .get_or_create(&CauseOnly { cause })
            .inc_by(count);
    }

    /// A receiver accepted a notification.
    pub fn sent(&self, receiver: &str) {
        self.sent.get_or_create(&of_receiver(receiver)).inc();
    }

    pub fn failed(&self, receiver: &str, reason: FailureReason, count: u64) {
        let labels = ReceiverReason {
            receiver: name(receiver),
            reason: reason.as_str().into(),
        };
        self.failed.get_or_create(&labels).inc_by(count);
    }

    /// Notifications that became dead letters.
    pub fn dead(&self, receiver: &str, why: DeadLetter, count: u64) {
        let labels = ReceiverReason {
            receiver: name(receiver),
            reason: why.as_str().into(),
        };
        self.dead.get_or_create(&labels).inc_by(count);
    }

    pub fn outbox(&self, receiver: &str, pending: u64, oldest: Duration) {
        let labels = of_receiver(receiver);
        self.pending.get_or_create(&labels).set(whole(pending));
        self.oldest.get_or_create(&labels).set(oldest.as_secs_f64());
    }

    /// Messages between the last one read and the last one in the partition, by their numbers.
    pub fn partition_lag(&self, hub: &str, partition: &str, messages: u64) {
        self.lag_messages
            .get_or_create(&of_partition(hub, partition))
            .set(whole(messages));
    }

    /// By event time, now.
    pub fn partition_age(&self, hub: &str, partition: &str, age: Duration) {
        self.lag_seconds
            .get_or_create(&of_partition(hub, partition))
            .set(age.as_secs_f64());
    }

    /// What a partition's reader does.
    pub fn partition_state(&self, hub: &str, partition: &str, reading: bool, paused: bool) {
        let labels = of_partition(hub, partition);
        self.partition_reading
            .get_or_create(&labels)
            .set(reading.into());
        self.partition_paused
            .get_or_create(&labels)
            .set(paused.into());
    }

    /// Errors of the hub since the start, in the order of [`Fault::ALL`].
    pub fn hub_faults(&self, hub: &str, counts: [u64; Fault::ALL.len()]) {
        for (fault, count) in Fault::ALL.into_iter().zip(counts) {
            let labels = HubFault {
                hub: name(hub),
                fault: fault.as_str().into(),
            };
            raise(&self.hub_faults.get_or_create(&labels), count);
        }
    }

    /// Messages lost, reconnects, messages repeated, rewinds, pauses, pauses given up: of the hub
    /// since the start.
    pub fn hub_counts(&self, hub: &str, counts: [u64; 6]) {
        let labels = Hub { hub: name(hub) };
        for (family, count) in self.hub_counts.iter().zip(counts) {
            raise(&family.get_or_create(&labels), count);
        }
    }

    pub fn unheard(&self, count: usize) {
        self.unheard.set(count as i64);
    }

    pub fn watermark(&self, time: Timestamp) {
        self.watermark.set(time.as_millisecond() as f64 / 1000.0);
    }

    pub fn committed(&self, duration: Duration) {
        self.commits.observe(duration.as_secs_f64());
    }

    pub fn commit_failed(&self) {
        self.commit_failures.inc();
    }

    /// Counts since the start, of all operators together.
    pub fn state_evicted(&self, evicted: u64) {
        raise(&self.state_evicted, evicted);
    }

    /// Counts since the start.
    pub fn state_late(&self, late: u64) {
        raise(&self.state_late, late);
    }

    /// `operator` is of a closed set.
    pub fn state_entries(&self, operator: &'static str, entries: u64) {
        let operator = operator.into();
        self.state_entries
            .get_or_create(&Operator { operator })
            .set(whole(entries));
    }

    /// `operator` is of a closed set.
    pub fn state_bytes(&self, operator: &'static str, bytes: u64) {
        let operator = operator.into();
        self.state_bytes
            .get_or_create(&Operator { operator })
            .set(whole(bytes));
    }

    pub fn reloaded(&self, accepted: bool) {
        let reason = if accepted { "accepted" } else { "refused" };
        let reason = reason.into();
        self.reloads.get_or_create(&Reason { reason }).inc();
    }

    pub fn latency(&self, span: Span) -> &Latency {
        &self.latencies.0[span as usize]
    }

    /// Everything, in the OpenMetrics text format.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::with_capacity(16 * 1024);
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }

    /// The media type of [`Metrics::encode`].
    pub const MEDIA_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";
}

impl Collector for Latencies {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let recent = Span::ALL.map(|span| (span.as_str(), self.0[span as usize].recent()));
        let mut metric = encoder.encode_descriptor(
            "latency",
            "Latency quantiles over the last window or two; 1 is the longest.",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        for (span, quantiles) in &recent {
            for (quantile, value) in quantiles.labelled() {
                let labels = [("span", *span), ("quantile", quantile)];
                ConstGauge::new(value.as_secs_f64()).encode(metric.encode_family(&labels)?)?;
            }
        }
        let mut metric = encoder.encode_descriptor(
            "latency_samples",
            "Samples that the latency quantiles are of.",
            None,
            MetricType::Gauge,
        )?;
        for (span, quantiles) in &recent {
            let labels = [("span", *span)];
            let count = ConstGauge::new(whole(quantiles.count));
            count.encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

/// Raises a counter to what another one counts.
fn raise(counter: &Counter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

fn of_partition(hub: &str, partition: &str) -> HubPartition {
    HubPartition {
        hub: name(hub),
        partition: name(partition),
    }
}

fn of_receiver(receiver: &str) -> Receiver {
    Receiver {
        receiver: name(receiver),
    }
}

/// A name of the configuration as a label's value. What is none (a hub may call its partitions as it
/// likes) is shown as `other`.
fn name(text: &str) -> Value {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match text.len() <= 80 && !text.is_empty() && text.chars().all(plain) {
        true => Cow::Owned(text.to_owned()),
        false => Cow::Borrowed("other"),
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
