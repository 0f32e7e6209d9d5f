//! The process's own figures, read from `/proc` at each scrape, under Prometheus' usual names.

use std::fmt;
use std::sync::OnceLock;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Where there is no `/proc`, only the start time is shown.
#[derive(Debug)]
pub(super) struct Process {
    started: Timestamp,
}

impl Process {
    pub fn new() -> Process {
        static STARTED: OnceLock<Timestamp> = OnceLock::new();
        Process {
            started: *STARTED.get_or_init(Timestamp::now),
        }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: f64| {
            let metric = ConstGauge::new(value);
            let encoder = encoder.encode_descriptor(name, help, unit, metric.metric_type())?;
            metric.encode(encoder)
        };
        gauge(
            "process_start_time",
            "When the process started, as Unix time.",
            Some(&Unit::Seconds),
            self.started.as_millisecond() as f64 / 1000.0,
        )?;
        if let Some(bytes) = resident_bytes() {
            gauge(
                "process_resident_memory",
                "Resident memory.",
                Some(&Unit::Bytes),
                bytes as f64,
            )?;
        }
        if let Some(open) = open_files() {
            gauge(
                "process_open_fds",
                "Open file descriptors.",
                None,
                open as f64,
            )?;
        }
        if let Some(threads) = status("Threads:") {
            gauge("process_threads", "Threads.", None, threads as f64)?;
        }
        if let Some(seconds) = cpu_seconds() {
            let metric = ConstCounter::new(seconds);
            let encoder = encoder.encode_descriptor(
                "process_cpu",
                "Processor time used.",
                Some(&Unit::Seconds),
                metric.metric_type(),
            )?;
            metric.encode(encoder)?;
        }
        Ok(())
    }
}

/// Resident memory of this process in bytes.
pub(super) fn resident_bytes() -> Option<u64> {
    status("VmRSS:").map(|kibibytes| kibibytes * 1024)
}

fn open_files() -> Option<usize> {
    std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count)
}

fn status(key: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Fields 14 and 15 of proc_pid_stat(5), counted behind the program's name, which may hold spaces.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    // The kernel shows user space 100 ticks a second on every platform that Rust runs on.
    Some(ticks as f64 / 100.0)
}
