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
use crate::decode::{Damage, Form, Ignored};
use crate::detect::Outcome;
use crate::event::Category;

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
    DetectorOutcome { detector, outcome }
    DetectorSeverity { detector, severity }
    Receiver { receiver }
    ReceiverReason { receiver, reason }
    Operator { operator }
}

/// What keeps state between events, for the size of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StateOperator {
    /// Requests seen, by which later stages are known.
    Requests,
    FirstSeen,
    Threshold,
    /// Open alerts.
    Alerts,
}

impl StateOperator {
    pub const ALL: [StateOperator; 4] = [
        StateOperator::Requests,
        StateOperator::FirstSeen,
        StateOperator::Threshold,
        StateOperator::Alerts,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            StateOperator::Requests => "requests",
            StateOperator::FirstSeen => "first_seen",
            StateOperator::Threshold => "threshold",
            StateOperator::Alerts => "alerts",
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
    bytes: Family<Hub, Counter>,
    batches: Family<Hub, Counter>,
    matches: Family<DetectorOutcome, Counter>,
    alerts: Family<DetectorSeverity, Counter>,
    sent: Family<Receiver, Counter>,
    failed: Family<ReceiverReason, Counter>,
    dead: Family<Receiver, Counter>,
    pending: Family<Receiver, Gauge>,
    oldest: Family<Receiver, Seconds>,
    lag_messages: Family<HubPartition, Gauge>,
    lag_seconds: Family<HubPartition, Seconds>,
    watermark: Seconds,
    commits: Histogram,
    commit_failures: Counter,
    state_entries: Family<Operator, Gauge>,
    reloads: Family<Reason, Counter>,
    latencies: Arc<Latencies>,
}

#[derive(Debug)]
struct Latencies([Latency; Span::ALL.len()]);

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
            // From 0.5 ms, a commit on a fast disk, to 16 s, a disk in trouble.
            commits: Histogram::new(exponential_buckets(0.0005, 2.0, 16)),
            commit_failures: Counter::default(),
            state_entries: Family::default(),
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
            "Time since the last message read was enqueued; 0 at the partition's end",
            Unit::Seconds,
            self.lag_seconds.clone(),
        );
        r.register_with_unit(
            "watermark_timestamp",
            "Event time up to which everything was judged, as Unix time",
            Unit::Seconds,
            self.watermark.clone(),
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
        for operator in StateOperator::ALL {
            self.state_entries(operator, 0);
        }
        for reason in ["accepted", "refused"] {
            let reason = reason.into();
            drop(self.reloads.get_or_create(&Reason { reason }));
        }
    }

    /// Makes the series of these hubs, receivers and detectors, at zero. `reasons` are all that an
    /// attempt may fail for. To be called at start, and again after a reload.
    pub fn expect<'n>(
        &self,
        hubs: impl IntoIterator<Item = &'n str>,
        receivers: impl IntoIterator<Item = &'n str>,
        detectors: impl IntoIterator<Item = &'n str>,
        reasons: &[&'static str],
    ) {
        for hub in hubs {
            self.received(hub, 0, 0);
        }
        for receiver in receivers {
            self.sent.get_or_create(&of_receiver(receiver)).inc_by(0);
            self.dead(receiver, 0);
            self.outbox(receiver, 0, Duration::ZERO);
            for reason in reasons {
                let labels = ReceiverReason {
                    receiver: name(receiver),
                    reason: (*reason).into(),
                };
                drop(self.failed.get_or_create(&labels));
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

    /// A receiver accepted a notification; `latency` is from the hub's enqueuing, where it is known.
    pub fn sent(&self, receiver: &str, latency: Option<Duration>) {
        self.sent.get_or_create(&of_receiver(receiver)).inc();
        if let Some(latency) = latency {
            self.latency(Span::PublishToDelivery).record(latency);
        }
    }

    /// `reason` is of a closed enumeration.
    pub fn failed(&self, receiver: &str, reason: &'static str) {
        let labels = ReceiverReason {
            receiver: name(receiver),
            reason: reason.into(),
        };
        self.failed.get_or_create(&labels).inc();
    }

    pub fn dead(&self, receiver: &str, count: u64) {
        self.dead
            .get_or_create(&of_receiver(receiver))
            .inc_by(count);
    }

    pub fn outbox(&self, receiver: &str, pending: u64, oldest: Duration) {
        let labels = of_receiver(receiver);
        self.pending.get_or_create(&labels).set(whole(pending));
        self.oldest.get_or_create(&labels).set(oldest.as_secs_f64());
    }

    /// `messages` by sequence numbers, `age` since the last message read was enqueued.
    pub fn partition_lag(&self, hub: &str, partition: &str, messages: u64, age: Duration) {
        let labels = HubPartition {
            hub: name(hub),
            partition: name(partition),
        };
        self.lag_messages
            .get_or_create(&labels)
            .set(whole(messages));
        self.lag_seconds
            .get_or_create(&labels)
            .set(age.as_secs_f64());
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

    pub fn state_entries(&self, operator: StateOperator, entries: u64) {
        let operator = operator.as_str().into();
        self.state_entries
            .get_or_create(&Operator { operator })
            .set(whole(entries));
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
