//! Decode against `memcpy` and against the full parse, in memory, one thread.
//!
//! `cargo bench --bench decode [-- FILE]`: `FILE` is an archive of one record a line, of which at
//! most 256 MiB are read; without it the project's simulator makes one.

mod support;

use std::hint::black_box;

use lanner::decode::walker::block::Common;
use lanner::decode::walker::jump::{jump, jump_by};
use lanner::decode::{Decoder, Fallback, Payload};
use lanner::source::Chunk;
use memchr::memmem;
use support::{Contestant, contest};

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

/// Jumps over all bodies by the lanes that every processor has, and by what is here.
fn jumps(bytes: &[u8]) {
    let bodies: Vec<usize> = memmem::find_iter(bytes, br#"Object\":{"#)
        .map(|found| found + br#"Object\":{"#.len())
        .collect();
    let mut contestants: [Contestant<'_>; 2] = [
        (
            "all lanes".to_owned(),
            Box::new(|| {
                for at in &bodies {
                    black_box(jump_by::<true, _>(Common, bytes, *at));
                }
            }),
        ),
        (
            "as here".to_owned(),
            Box::new(|| {
                for at in &bodies {
                    black_box(jump::<true>(bytes, *at));
                }
            }),
        ),
    ];
    let costs = contest(&mut contestants);
    let jumped: usize = bodies
        .iter()
        .filter_map(|at| Some(jump::<true>(bytes, *at)? - at))
        .sum();
    println!(
        "over {} bodies, {:.0} MB: {:.0} MB/CPU-second by the lanes that all processors have, {:.2} times that as here",
        bodies.len(),
        jumped as f64 / 1e6,
        jumped as f64 / costs[0].cpu / 1e6,
        costs[0].cpu / costs[1].cpu
    );
}

fn main() -> std::io::Result<()> {
    let bytes = support::archive()?;
    let chunks = support::chunks(&bytes);
    let mut copy = vec![0; 2 << 20];
    let mut walker = Decoder::default();
    let mut full = Decoder::full_parse();
    let mut contestants: [Contestant<'_>; 3] = [
        (
            "memcpy".to_owned(),
            Box::new(|| {
                for chunk in &chunks {
                    copy[..chunk.bytes.len()].copy_from_slice(&chunk.bytes);
                    black_box(&copy);
                }
            }),
        ),
        (
            "walker".to_owned(),
            Box::new(|| {
                black_box(decode(&mut walker, &chunks));
            }),
        ),
        (
            "full parse".to_owned(),
            Box::new(|| {
                black_box(decode(&mut full, &chunks));
            }),
        ),
    ];
    let costs = contest(&mut contestants);
    support::header(bytes.len());
    println!(
        "{:12} {:>14} {:>10} {:>14}",
        "", "MB/CPU-second", "of memcpy", "of full parse"
    );
    for ((name, _), cost) in contestants.iter().zip(&costs) {
        println!(
            "{name:12} {:14.0} {:10.3} {:14.2}",
            bytes.len() as f64 / cost.cpu / 1e6,
            costs[0].cpu / cost.cpu,
            costs[2].cpu / cost.cpu
        );
    }
    drop(contestants);
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
    jumps(&bytes);
    Ok(())
}
