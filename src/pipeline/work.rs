//! The parallel half on one batch: decode its records, try each event against the detectors.
//!
//! A [`Worker`] belongs to one thread and keeps only buffers; what it finds depends on the batch
//! alone.

use std::sync::Arc;

use jiff::Timestamp;

use super::tally::Tally;
use crate::decode::{Damage, Decoder, Payload, RecordPosition};
use crate::detect::matches::Place;
use crate::detect::scratch::Counts;
use crate::detect::state::recall::Recall;
use crate::detect::{Engine, Match, Scratch};
use crate::event::line;
use crate::source::Batch;

/// Bytes kept of a damaged record.
const QUARANTINE_EXCERPT: usize = 64 * 1024;

/// What a batch gave.
#[derive(Debug, Default)]
pub struct Output {
    /// In the order of the records.
    pub matches: Vec<Match>,
    pub tally: Tally,
    pub damaged: Vec<DamagedRecord>,
    /// Events that were only counted.
    pub counts: Counts,
}

/// A record for quarantine.
#[derive(Debug, Clone)]
pub struct DamagedRecord {
    pub reason: Damage,
    pub position: RecordPosition,
    /// The record as received, up to a bound.
    pub text: Vec<u8>,
}

/// Events outside are read and not judged.
#[derive(Debug, Clone, Copy, Default)]
pub struct TimeRange {
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
}

impl TimeRange {
    /// An event that tells no time is within every range.
    fn contains(&self, time: Option<Timestamp>) -> bool {
        time.is_none_or(|time| {
            self.from.is_none_or(|from| time >= from) && self.to.is_none_or(|to| time < to)
        })
    }
}

#[derive(Debug)]
pub struct Worker {
    decoder: Decoder,
    scratch: Scratch,
}

impl Worker {
    /// With `recall`, events that are no news are counted and make no match.
    pub fn new(recall: Option<Recall>) -> Worker {
        Worker {
            decoder: Decoder::default(),
            scratch: Scratch::new(recall),
        }
    }

    pub fn process(&mut self, engine: &Engine, batch: &Batch, range: TimeRange) -> Output {
        let mut output = Output::default();
        let Output {
            matches,
            tally,
            damaged,
            ..
        } = &mut output;
        let scratch = &mut self.scratch;
        for chunk in &batch.chunks {
            tally.bytes += chunk.bytes.len() as u64;
            self.decoder.decode(chunk, &mut |record| {
                tally.add_record(&record);
                if let Some(reason) = record.damage {
                    damaged.push(DamagedRecord {
                        reason,
                        position: record.position,
                        text: record.raw[..record.raw.len().min(QUARANTINE_EXCERPT)].to_vec(),
                    });
                }
                let time = match &record.payload {
                    Payload::Audit(event) => event.time().or(record.origin.time),
                    Payload::ApiServer(line) => line::time(line, record.origin.time),
                    Payload::Nothing(_) => return,
                };
                if let Some(time) = time {
                    tally.add_time(time);
                }
                if !range.contains(time) {
                    return;
                }
                let origin = &record.origin;
                if let Some(time) = time {
                    tally.streams.add(&origin.cluster, origin.category, time);
                }
                let place = Place {
                    partition: &batch.partition,
                    position: record.position,
                };
                match &record.payload {
                    Payload::Audit(event) => {
                        engine.detect(event, origin, place, scratch, matches);
                    }
                    Payload::ApiServer(line) => {
                        engine.detect_line(line, origin, place, scratch, matches);
                    }
                    Payload::Nothing(_) => {}
                }
            });
        }
        output.counts = self.scratch.take();
        output
    }
}

/// The engine and range that all workers of a run share.
#[derive(Debug, Clone)]
pub struct Task {
    pub engine: Arc<Engine>,
    pub range: TimeRange,
}
