//! A worker that has seen much finds in a batch what one finds that has seen nothing.
#![cfg(feature = "emulator")]

use std::sync::Arc;
use std::time::Duration;

use lanner::config::Config;
use lanner::detect::Engine;
use lanner::detect::load::{load, shipped};
use lanner::detect::order::{Judge, Learning};
use lanner::pipeline::work::{TimeRange, Worker};
use lanner::simulator::{Campaigns, ClusterSpec, Scenario, Simulator};
use lanner::source::{Batch, Chunk, Framing, Partition, Position};

/// Ten minutes of three clusters with attacks in them, as the records of so many lines each.
fn batches() -> Vec<Batch> {
    let duration = Duration::from_secs(10 * 60);
    let simulator = Simulator::new(Scenario {
        seed: 11,
        start: "2026-11-20T14:55:00Z".parse().expect("a time"),
        duration,
        clusters: ClusterSpec::three(1.5),
        clock: 0,
        campaigns: Campaigns {
            per_family: 1,
            intrusions: 0,
            quiet: Duration::ZERO,
            round: duration,
            window: (0.1, 0.7),
            notable: true,
        },
    });
    let partition = Arc::new(Partition {
        source: "simulated".into(),
        id: "0".into(),
    });
    let records: Vec<Vec<u8>> = simulator.map(|record| record.bytes).collect();
    let batch = |(number, records): (usize, &[Vec<u8>])| Batch {
        partition: Arc::clone(&partition),
        from: Position(number as i64),
        to: Position(number as i64 + 1),
        chunks: vec![Chunk {
            bytes: records.join(&b'\n').into(),
            position: number as i64,
            framing: Framing::Lines,
            enqueued: None,
        }],
        at_end: false,
    };
    records.chunks(100).enumerate().map(batch).collect()
}

#[test]
fn what_a_worker_remembers_changes_nothing() {
    let detectors = load(&shipped(), &[]).expect("the shipped detectors are right");
    let engine = Engine::new(detectors, Config::defaults().sites());
    let batches = batches();
    let range = TimeRange::default();
    let mut judge = Judge::new(Learning::Archive);
    let recall = judge.recall();
    for every_match in [true, false] {
        let recall = || (!every_match).then(|| recall.clone());
        let mut seasoned = Worker::new(recall());
        let mut found = 0;
        // The first time through, the judge learns of it meanwhile.
        for pass in 0..3 {
            for batch in &batches {
                let output = seasoned.process(&engine, batch, range);
                let expected = Worker::new(recall()).process(&engine, batch, range);
                assert_eq!(format!("{output:?}"), format!("{expected:?}"));
                found += output.matches.len();
                if pass == 0 {
                    judge.count(output.counts);
                    for one in output.matches {
                        judge.judge(&engine, one);
                    }
                }
            }
        }
        assert!(found > 0);
    }
}

#[test]
fn another_engine_has_other_notes() {
    let engine = |skipped: usize| {
        let mut detectors = load(&shipped(), &[]).expect("the shipped detectors are right");
        detectors.drain(..skipped);
        Engine::new(detectors, Config::defaults().sites())
    };
    let (all, fewer) = (engine(0), engine(7));
    let batches = batches();
    let range = TimeRange::default();
    let mut judge = Judge::new(Learning::Archive);
    let mut worker = Worker::new(Some(judge.recall()));
    for engine in [&all, &fewer, &all] {
        for batch in &batches {
            let output = worker.process(engine, batch, range);
            let expected = Worker::new(Some(judge.recall())).process(engine, batch, range);
            assert_eq!(format!("{output:?}"), format!("{expected:?}"));
            judge.count(output.counts);
            for one in output.matches {
                judge.judge(engine, one);
            }
        }
    }
}
