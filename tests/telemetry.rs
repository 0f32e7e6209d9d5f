//! What Prometheus, Kubernetes' probes and a log collector get from the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lanner::alert::Severity;
use lanner::alert::group::Cause;
use lanner::config::{LogFormat, TelemetryConfig};
use lanner::decode::{Damage, Form, Ignored};
use lanner::deliver::FailureReason;
use lanner::detect::Outcome;
use lanner::event::Category;
use lanner::telemetry::logs::Limiter;
use lanner::telemetry::metrics::DeadLetter;
use lanner::telemetry::server::Server;
use lanner::telemetry::{Health, Metrics, Span, State, logs};
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

const WINDOW: Duration = Duration::from_secs(60);

/// Samples by name and labels, of a text that keeps the rules of OpenMetrics: metadata before
/// samples, families in one piece, no series twice, `_total` for counters only, an end mark.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let body = text.strip_suffix("# EOF\n").expect("an end mark");
    let mut types: BTreeMap<&str, &str> = BTreeMap::new();
    let mut family = "";
    let mut closed = BTreeSet::new();
    let mut samples = BTreeMap::new();
    for line in body.lines() {
        if let Some(meta) = line.strip_prefix("# ") {
            let mut words = meta.splitn(3, ' ');
            let (what, name) = (words.next().unwrap(), words.next().unwrap());
            let rest = words.next().expect("metadata is never empty");
            if name != family {
                assert!(closed.insert(family), "{family} is in two pieces");
                family = name;
            }
            match what {
                "TYPE" => assert_eq!(types.insert(name, rest), None, "{name} twice"),
                "UNIT" => assert!(name.ends_with(&format!("_{rest}")), "{line}"),
                "HELP" => assert!(rest.ends_with('.'), "{line}"),
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("name and value");
        let name = series.split('{').next().unwrap();
        let suffix = name.strip_prefix(family).expect("metadata comes first");
        let allowed: &[&str] = match types[family] {
            "counter" => &["_total"],
            "gauge" => &[""],
            "histogram" => &["_bucket", "_sum", "_count"],
            "info" => &["_info"],
            other => panic!("{other}"),
        };
        assert!(allowed.contains(&suffix), "{line}");
        if let Some(labels) = series.strip_prefix(name).filter(|rest| !rest.is_empty()) {
            let labels = labels.strip_prefix('{').and_then(|l| l.strip_suffix('}'));
            for label in labels.expect("braces").split(',') {
                let (key, value) = label.split_once('=').expect("key and value");
                assert!(key.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
                let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
                let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
                assert!(value.expect("quotes").chars().all(plain), "{line}");
            }
        }
        let value = value.parse().expect("a number");
        assert_eq!(
            samples.insert(series.to_owned(), value),
            None,
            "{series} twice"
        );
    }
    samples
}

#[test]
fn series_of_closed_sets_begin_at_zero() {
    let metrics = Metrics::new(WINDOW);
    metrics.expect(["prod"], ["webhook.soc"], ["pod-exec"]);
    let samples = parse(&metrics.encode().unwrap());
    for series in [
        "lanner_records_total{category=\"kube-audit\",form=\"escaped\"}",
        "lanner_records_ignored_total{reason=\"category\"}",
        "lanner_records_quarantined_total{reason=\"cut-off\"}",
        "lanner_received_bytes_total{hub=\"prod\"}",
        "lanner_batches_total{hub=\"prod\"}",
        "lanner_detector_matches_total{detector=\"pod-exec\",outcome=\"alert\"}",
        "lanner_notifications_sent_total{receiver=\"webhook.soc\"}",
        "lanner_notifications_failed_total{receiver=\"webhook.soc\",reason=\"auth\"}",
        "lanner_notifications_dead_total{receiver=\"webhook.soc\",reason=\"rejected\"}",
        "lanner_outbox_pending{receiver=\"webhook.soc\"}",
        "lanner_outbox_oldest_age_seconds{receiver=\"webhook.soc\"}",
        "lanner_hub_reconnects_total{hub=\"prod\"}",
        "lanner_alert_notifications_total{cause=\"opened\"}",
        "lanner_config_reloads_total{reason=\"refused\"}",
        "lanner_store_commit_duration_seconds_count",
        "lanner_latency_samples{span=\"publish_to_delivery\"}",
    ] {
        assert_eq!(samples.get(series), Some(&0.0), "{series}");
    }
    assert_eq!(
        samples[&format!(
            "lanner_build_info{{version=\"{}\"}}",
            env!("CARGO_PKG_VERSION")
        )],
        1.0
    );
    assert!(samples["process_start_time_seconds"] > 1.6e9);
    if cfg!(target_os = "linux") {
        assert!(samples["process_resident_memory_bytes"] > 1e6);
        assert!(samples["process_open_fds"] >= 3.0);
        assert!(samples["process_threads"] >= 1.0);
        assert!(samples["process_cpu_seconds_total"] >= 0.0);
    }
}

#[test]
fn counts_arrive_in_their_series() {
    let metrics = Metrics::new(WINDOW);
    metrics.records(Category::KubeAudit, Form::Escaped, 7);
    metrics.ignored(Ignored::Category, 3);
    metrics.quarantined(Damage::CutOff, 1);
    metrics.received("prod", 2, 4096);
    metrics.matched("pod-exec", Outcome::Duplicate, 5);
    metrics.alert_opened("pod-exec", Severity::High);
    metrics.sent("webhook.soc");
    metrics.notified(Cause::Repeated, 2);
    metrics
        .latency(Span::PublishToDelivery)
        .record(Duration::from_millis(250));
    metrics.failed("webhook.soc", FailureReason::RateLimited, 1);
    metrics.dead("webhook.soc", DeadLetter::Quota, 4);
    metrics.outbox("webhook.soc", 9, Duration::from_secs(30));
    metrics.partition_lag("prod", "3", 120);
    metrics.partition_age("prod", "3", Duration::from_millis(1500));
    metrics.hub_counts("prod", [1, 2, 3, 4, 0, 0]);
    metrics.hub_counts("prod", [1, 2, 3, 5, 7, 1]);
    metrics.hub_faults("prod", [0, 0, 1, 0, 2, 0, 0, 9]);
    metrics.partition_state("prod", "3", true, false);
    metrics.watermark("2026-11-20T10:00:00Z".parse().unwrap());
    metrics.committed(Duration::from_millis(3));
    metrics.commit_failed();
    metrics.state_entries("requests", 11);
    metrics.state_evicted(6);
    metrics.reloaded(true);
    metrics
        .latency(Span::PublishToCommit)
        .record_many(Duration::from_millis(10), 100);
    let samples = parse(&metrics.encode().unwrap());
    for (series, value) in [
        (
            "lanner_records_total{category=\"kube-audit\",form=\"escaped\"}",
            7.0,
        ),
        ("lanner_records_ignored_total{reason=\"category\"}", 3.0),
        ("lanner_records_quarantined_total{reason=\"cut-off\"}", 1.0),
        ("lanner_received_bytes_total{hub=\"prod\"}", 4096.0),
        ("lanner_batches_total{hub=\"prod\"}", 2.0),
        (
            "lanner_detector_matches_total{detector=\"pod-exec\",outcome=\"duplicate\"}",
            5.0,
        ),
        (
            "lanner_alerts_total{detector=\"pod-exec\",severity=\"high\"}",
            1.0,
        ),
        (
            "lanner_notifications_sent_total{receiver=\"webhook.soc\"}",
            1.0,
        ),
        (
            "lanner_notifications_failed_total{receiver=\"webhook.soc\",reason=\"rate_limited\"}",
            1.0,
        ),
        (
            "lanner_notifications_dead_total{receiver=\"webhook.soc\",reason=\"quota\"}",
            4.0,
        ),
        ("lanner_outbox_pending{receiver=\"webhook.soc\"}", 9.0),
        (
            "lanner_outbox_oldest_age_seconds{receiver=\"webhook.soc\"}",
            30.0,
        ),
        (
            "lanner_partition_lag_messages{hub=\"prod\",partition=\"3\"}",
            120.0,
        ),
        (
            "lanner_partition_lag_seconds{hub=\"prod\",partition=\"3\"}",
            1.5,
        ),
        ("lanner_hub_pauses_total{hub=\"prod\"}", 7.0),
        ("lanner_hub_pauses_given_up_total{hub=\"prod\"}", 1.0),
        (
            "lanner_hub_faults_total{hub=\"prod\",fault=\"stalled\"}",
            2.0,
        ),
        (
            "lanner_partition_reading{hub=\"prod\",partition=\"3\"}",
            1.0,
        ),
        ("lanner_partition_paused{hub=\"prod\",partition=\"3\"}", 0.0),
        ("lanner_watermark_timestamp_seconds", 1_795_168_800.0),
        ("lanner_store_commit_duration_seconds_count", 1.0),
        (
            "lanner_store_commit_duration_seconds_bucket{le=\"0.004\"}",
            1.0,
        ),
        (
            "lanner_store_commit_duration_seconds_bucket{le=\"0.002\"}",
            0.0,
        ),
        ("lanner_store_commit_failures_total", 1.0),
        ("lanner_state_evicted_total", 6.0),
        ("lanner_hub_lost_messages_total{hub=\"prod\"}", 1.0),
        ("lanner_hub_rewinds_total{hub=\"prod\"}", 5.0),
        ("lanner_alert_notifications_total{cause=\"repeated\"}", 2.0),
        ("lanner_state_entries{operator=\"requests\"}", 11.0),
        ("lanner_config_reloads_total{reason=\"accepted\"}", 1.0),
        ("lanner_latency_samples{span=\"publish_to_commit\"}", 100.0),
    ] {
        assert_eq!(samples.get(series), Some(&value), "{series}");
    }
    for (span, seconds) in [("publish_to_delivery", 0.25), ("publish_to_commit", 0.01)] {
        for quantile in ["0.5", "0.9", "0.99", "0.999", "1"] {
            let series =
                format!("lanner_latency_seconds{{span=\"{span}\",quantile=\"{quantile}\"}}");
            let off = (samples[&series] - seconds).abs();
            assert!(off < seconds / 50.0, "{series} {}", samples[&series]);
        }
    }
}

proptest! {
    #[test]
    fn no_name_makes_a_label_that_could_break_the_text(name in ".{0,100}", partition in ".*") {
        let metrics = Metrics::new(WINDOW);
        metrics.expect([name.as_str()], [name.as_str()], [name.as_str()]);
        metrics.partition_lag(&name, &partition, 1);
        parse(&metrics.encode().unwrap());
    }
}

async fn get(server: &Server, path: &str) -> (u16, String, String) {
    let url = format!("http://{}{path}", server.address());
    let answer = reqwest::get(url).await.unwrap();
    let kind = answer.headers().get("content-type").cloned();
    let kind = kind.map_or(String::new(), |kind| kind.to_str().unwrap().to_owned());
    (answer.status().as_u16(), kind, answer.text().await.unwrap())
}

#[tokio::test]
async fn probes_and_scrapes_are_answered_until_the_stop() {
    let (health, stop) = (Health::new(), CancellationToken::new());
    let listen = "127.0.0.1:0".parse().unwrap();
    let metrics = Arc::new(Metrics::new(WINDOW));
    let server = Server::start(listen, metrics, health.clone(), stop.clone())
        .await
        .unwrap();

    let (status, kind, text) = get(&server, "/metrics").await;
    assert_eq!((status, kind.as_str()), (200, Metrics::MEDIA_TYPE));
    parse(&text);
    assert_eq!(get(&server, "/").await.0, 404);

    assert_eq!(
        get(&server, "/readyz").await.0,
        503,
        "nothing has said that it is ready"
    );
    health.set("store", State::Ready);
    health.set("eventhubs.prod", State::Starting("connecting".into()));
    let hostile = format!("refused:\r\n\u{1b}[31m\"{}", "x".repeat(10_000));
    health.set("webhook.soc", State::Degraded(hostile));
    let (status, kind, text) = get(&server, "/readyz").await;
    assert_eq!((status, kind.as_str()), (503, "application/json"));
    assert!(text.len() < 2000 && !text.trim_end().contains(char::is_control));
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["ready"], false);
    assert_eq!(report["components"]["eventhubs.prod"]["state"], "starting");
    assert_eq!(
        report["components"]["eventhubs.prod"]["reason"],
        "connecting"
    );
    assert_eq!(
        report["components"]["store"]["reason"],
        serde_json::Value::Null
    );

    health.set("eventhubs.prod", State::Ready);
    assert_eq!(get(&server, "/readyz").await.0, 200, "degraded is ready");
    health.set("store", State::Failed("disk full".into()));
    assert_eq!(get(&server, "/readyz").await.0, 503);
    health.started("store");
    let failed = "what has failed is not started";
    assert_eq!(get(&server, "/readyz").await.0, 503, "{failed}");
    health.set("store", State::Ready);
    assert_eq!(get(&server, "/readyz").await.0, 200);

    assert_eq!(
        get(&server, "/livez").await,
        (200, "text/plain; charset=utf-8".into(), "ok\n".into())
    );
    let heartbeat = health.heartbeat("pipeline", Duration::ZERO);
    std::thread::sleep(Duration::from_millis(5));
    let (status, _, text) = get(&server, "/livez").await;
    assert_eq!((status, text.contains("pipeline")), (503, true));
    drop(heartbeat);
    assert_eq!(get(&server, "/livez").await.0, 200);

    let address = server.address();
    // A client that never asks anything does not hold the stop up.
    let idle = tokio::net::TcpStream::connect(address).await.unwrap();
    stop.cancel();
    server.join().await;
    drop(idle);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn an_address_in_use_is_an_error() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let started = Server::start(
        taken.local_addr().unwrap(),
        Arc::new(Metrics::new(WINDOW)),
        Health::new(),
        CancellationToken::new(),
    );
    assert!(started.await.is_err());
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn logged(log_format: LogFormat, log: impl FnOnce()) -> String {
    let config = TelemetryConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        log_format,
        log_level: "info".into(),
        latency_window: "1m".parse().unwrap(),
    };
    let out = Shared::default();
    let writer = out.clone();
    let subscriber = logs::subscriber(&config, move || writer.clone());
    tracing::subscriber::with_default(subscriber, log);
    String::from_utf8(out.0.lock().unwrap().clone()).unwrap()
}

const HOSTILE: &str = "jane\r\n2026-11-20 INFO forged\u{1b}[2J\u{9b}31m\u{202e}\0";

#[test]
fn fields_cannot_forge_lines_or_act_on_a_terminal() {
    for format in [LogFormat::Text, LogFormat::Json] {
        let out = logged(format, || {
            tracing::warn!(user = %HOSTILE, agent = ?HOSTILE, "user {HOSTILE}");
            tracing::debug!("not at this level");
        });
        assert_eq!(out.lines().count(), 1, "{out}");
        assert!(
            !out.trim_end_matches('\n').contains(char::is_control),
            "{out:?}"
        );
        assert!(!out.contains('\u{202e}') && out.contains("jane"), "{out:?}");
        if format == LogFormat::Json {
            let line: serde_json::Value = serde_json::from_str(&out).unwrap();
            assert_eq!(line["level"], "WARN");
            assert_eq!(line["user"], HOSTILE);
        }
    }
}

#[test]
fn repeated_warnings_are_counted_and_held_back() {
    let limiter = Limiter::new(Duration::from_secs(10));
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    assert_eq!(limiter.pass("a", at(0)), Some(0));
    assert_eq!(limiter.pass("a", at(1)), None);
    assert_eq!(limiter.pass("b", at(1)), Some(0));
    assert_eq!(limiter.pass("a", at(9)), None);
    assert_eq!(limiter.pass("a", at(10)), Some(2));
    assert_eq!(limiter.pass("a", at(20)), Some(0));

    let out = logged(LogFormat::Text, || {
        for attempt in 0..5 {
            lanner::warn_limited!(attempt, "the receiver does not answer");
        }
    });
    assert_eq!(out.lines().count(), 1, "{out}");
    assert!(
        out.contains("attempt=0") && out.contains("suppressed=0"),
        "{out}"
    );
}
