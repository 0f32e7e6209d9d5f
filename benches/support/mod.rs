//! What the benchmarks share: an archive in memory, and rounds in which all contestants take turns.

#![allow(dead_code)] // Each benchmark uses a part of it.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lanner::simulator::{Campaigns, ClusterSpec, Scenario, Simulator};
use lanner::source::{Batch, Chunk, Framing, Partition, Position};

/// How much of a given archive is read.
const MAX_BYTES: usize = 256 << 20;
const ROUNDS: usize = 7;

/// The file that the command line names, one record a line; without one, what the simulator makes.
pub fn archive() -> std::io::Result<Vec<u8>> {
    let path = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let Some(path) = path else {
        return Ok(simulated());
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(MAX_BYTES as u64)
        .read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
    bytes.truncate(whole + 1);
    Ok(bytes)
}

/// A minute and a half of three clusters, with two attacks of each family.
pub fn simulated() -> Vec<u8> {
    let scenario = Scenario {
        seed: 1,
        start: "2026-11-20T10:00:00Z".parse().expect("a literal time"),
        duration: Duration::from_secs(90),
        clusters: ClusterSpec::three(300.0),
        clock: 0,
        campaigns: Campaigns {
            per_family: 2,
            intrusions: 0,
            quiet: std::time::Duration::ZERO,
            round: Duration::from_secs(90),
            window: (0.05, 0.7),
            notable: true,
        },
    };
    let mut bytes = Vec::new();
    for record in Simulator::new(scenario) {
        bytes.extend_from_slice(&record.bytes);
        bytes.push(b'\n');
    }
    bytes
}

/// Cut as sources cut archives.
pub fn chunks(bytes: &[u8]) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let end = bytes.len().min(at + (1 << 20));
        let end = bytes[end..]
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(bytes.len(), |found| end + found + 1);
        chunks.push(Chunk {
            bytes: Bytes::copy_from_slice(&bytes[at..end]),
            position: at as i64,
            framing: Framing::Lines,
            enqueued: None,
        });
        at = end;
    }
    chunks
}

/// Each chunk as a batch of one partition.
pub fn batches(bytes: &[u8]) -> Vec<Batch> {
    let partition = Arc::new(Partition {
        source: "bench".into(),
        id: "0".into(),
    });
    let mut from = 0;
    chunks(bytes)
        .into_iter()
        .map(|chunk| {
            let to = from + chunk.bytes.len() as i64;
            let batch = Batch {
                partition: Arc::clone(&partition),
                from: Position(from),
                to: Position(to),
                chunks: vec![chunk],
                at_end: false,
            };
            from = to;
            batch
        })
        .collect()
}

/// Medians of one contestant.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub wall: f64,
    /// Of this thread, in seconds: what the machine does beside it does not count.
    pub cpu: f64,
}

pub type Contestant<'w> = (String, Box<dyn FnMut() + 'w>);

/// Lets all run in turn, round by round, so that what else the machine does hits all alike.
pub fn contest(contestants: &mut [Contestant<'_>]) -> Vec<Cost> {
    let mut costs: Vec<Vec<(f64, f64)>> = vec![Vec::new(); contestants.len()];
    for _ in 0..ROUNDS {
        for ((_, run), costs) in contestants.iter_mut().zip(&mut costs) {
            let (start, cpu) = (Instant::now(), cpu_seconds());
            run();
            costs.push((start.elapsed().as_secs_f64(), cpu_seconds() - cpu));
        }
    }
    let median = |costs: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = costs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    costs
        .iter()
        .map(|costs| Cost {
            wall: median(costs, |cost| cost.0),
            cpu: median(costs, |cost| cost.1),
        })
        .collect()
}

pub fn header(bytes: usize) {
    println!("{} MB, {ROUNDS} rounds in turn, medians", bytes / 1_000_000);
}

/// CPU time of this thread. Where the kernel does not say, time by the clock on the wall.
fn cpu_seconds() -> f64 {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok())
        .map_or_else(|| START.elapsed().as_secs_f64(), |nanos| nanos / 1e9)
}
