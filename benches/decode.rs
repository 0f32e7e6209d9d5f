//! Decode against `memcpy` and against the full parse, interleaved in one run, in memory, one thread.
//!
//! `cargo bench --bench decode [-- FILE]`: `FILE` is an archive of one record a line, of which at
//! most 256 MiB are read; without it the project's simulator makes one.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lanner::decode::{Decoder, Fallback, Payload};
use lanner::simulator::{Campaigns, ClusterSpec, Scenario, Simulator};
use lanner::source::{Chunk, Framing};

const MAX_BYTES: usize = 256 << 20;
const ROUNDS: usize = 7;

fn simulated() -> Vec<u8> {
    let scenario = Scenario {
        seed: 1,
        start: "2026-11-20T10:00:00Z".parse().expect("a literal time"),
        duration: Duration::from_secs(90),
        clusters: ClusterSpec::three(300.0),
        clock: 0,
        campaigns: Campaigns {
            per_family: 2,
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

fn archive(path: &str) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(MAX_BYTES as u64)
        .read_to_end(&mut bytes)?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
    bytes.truncate(whole);
    Ok(bytes)
}

/// As sources cut archives.
fn chunks(bytes: &[u8]) -> Vec<Chunk> {
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

/// Records, events, and something of each so that nothing is left out.
fn decode(decoder: &mut Decoder, chunks: &[Chunk]) -> (usize, usize, usize) {
    let mut seen = (0, 0, 0);
    for chunk in chunks {
        decoder.decode(chunk, &mut |record| {
            seen.0 += 1;
            if let Payload::Audit(event) = &record.payload {
                seen.1 += 1;
                seen.2 += event.annotations.len() + event.source_ips.len();
            }
        });
    }
    seen
}

fn main() -> std::io::Result<()> {
    let path = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let bytes = match &path {
        Some(path) => archive(path)?,
        None => simulated(),
    };
    let chunks = chunks(&bytes);
    let mut copy = vec![0; 2 << 20];
    let mut walker = Decoder::default();
    let mut full = Decoder::full_parse();
    type Work<'w> = (&'w str, Box<dyn FnMut() + 'w>);
    let mut work: [Work<'_>; 3] = [
        (
            "memcpy",
            Box::new(|| {
                for chunk in &chunks {
                    copy[..chunk.bytes.len()].copy_from_slice(&chunk.bytes);
                    black_box(&copy);
                }
            }),
        ),
        (
            "walker",
            Box::new(|| {
                black_box(decode(&mut walker, &chunks));
            }),
        ),
        (
            "full parse",
            Box::new(|| {
                black_box(decode(&mut full, &chunks));
            }),
        ),
    ];
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for ((_, run), times) in work.iter_mut().zip(&mut times) {
            let start = Instant::now();
            run();
            times.push(start.elapsed());
        }
    }
    let medians = times.map(|mut times| {
        times.sort();
        times[ROUNDS / 2].as_secs_f64()
    });
    println!("{} MB, {ROUNDS} rounds, medians", bytes.len() / 1_000_000);
    println!(
        "{:12} {:>8} {:>10} {:>14}",
        "", "MB/s", "of memcpy", "of full parse"
    );
    for ((name, _), seconds) in work.iter().zip(medians) {
        println!(
            "{name:12} {:8.0} {:10.3} {:14.2}",
            bytes.len() as f64 / seconds / 1e6,
            medians[0] / seconds,
            medians[2] / seconds
        );
    }
    drop(work);
    let (records, events, _) = decode(&mut full, &chunks);
    println!("{records} records, {events} events; left to the full parse:");
    for reason in Fallback::ALL {
        let mut count = 0;
        for chunk in &chunks {
            walker.decode(chunk, &mut |record| {
                count += usize::from(record.fallback == Some(*reason));
            });
        }
        println!("  {:8} {count}", reason.as_str());
    }
    Ok(())
}
