//! The parallel half on one batch: decode its records, try each event against the detectors.
//!
//! A [`Worker`] belongs to one thread and keeps only buffers; what it finds depends on the batch
//! alone.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use jiff::Timestamp;

use super::tally::Tally;
use crate::alert::redact;
use crate::decode::{Damage, Decoder, Payload, Receiver, Record, RecordPosition, Repeat};
use crate::detect::occurrence::Place;
use crate::detect::scratch::Counts;
use crate::detect::state::recall::Recall;
use crate::detect::{Engine, Match, Scratch};
use crate::event::Origin;
use crate::event::clock::Clock;
use crate::event::line;
use crate::failpoint::fail_point;
use crate::source::{Batch, Partition};

/// Bytes kept of a damaged record.
const QUARANTINE_EXCERPT: usize = 64 * 1024;

/// Bytes behind them that are looked at for credentials, so that none is cut where it cannot be told.
const MARGIN: usize = 4 * 1024;

/// What a batch gave.
#[derive(Debug, Default)]
pub struct Output {
    /// In the order of the records.
    pub matches: Vec<Match>,
    pub tally: Tally,
    pub damaged: Vec<DamagedRecord>,
    /// Events that were only counted.
    pub counts: Counts,
    /// Where the batch has got to in event time: what half of its records lie before. Their latest
    /// time would let a single record that is dated in the future decide.
    pub frontier: Option<Timestamp>,
}

/// A record for quarantine.
#[derive(Debug, Clone)]
pub struct DamagedRecord {
    pub reason: Damage,
    pub position: RecordPosition,
    /// The record as received, up to a bound and what redaction needs behind it.
    pub text: Vec<u8>,
}

impl DamagedRecord {
    /// The text for quarantine: what looks like a credential is looked for before it is cut.
    pub fn to_keep(&self) -> Vec<u8> {
        let text = String::from_utf8_lossy(&self.text);
        let redacted = redact::redact(&text);
        let end = redacted.floor_char_boundary(QUARANTINE_EXCERPT);
        redacted[..end].as_bytes().to_vec()
    }
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
    recall: Option<Recall>,
    times: Vec<Timestamp>,
    /// Whose notes the decoder keeps.
    engine: u64,
}

impl Worker {
    /// With `recall`, events that are no news are counted and make no match.
    pub fn new(recall: Option<Recall>) -> Worker {
        Worker {
            decoder: Decoder::default(),
            scratch: Scratch::new(recall.clone()),
            recall,
            times: Vec::new(),
            engine: 0,
        }
    }

    pub fn process(&mut self, engine: &Engine, batch: &Batch, range: TimeRange) -> Output {
        if self.engine != engine.number() {
            self.engine = engine.number();
            self.decoder.forget_repeats();
        }
        let mut output = Output::default();
        let mut before = None;
        for chunk in &batch.chunks {
            output.tally.bytes += chunk.bytes.len() as u64;
            let mut reading = Reading {
                engine,
                partition: &batch.partition,
                range,
                clock: Clock::new(chunk.enqueued, before),
                output: &mut output,
                scratch: &mut self.scratch,
                times: &mut self.times,
                noted: false,
            };
            self.decoder.decode_for(chunk, &mut reading);
            before = reading.clock.before();
        }
        output.frontier = middle(&mut self.times);
        output.counts = self.scratch.take();
        output
    }
}

/// What a worker does with the records of one chunk.
struct Reading<'w> {
    engine: &'w Engine,
    partition: &'w Arc<Partition>,
    range: TimeRange,
    clock: Clock,
    output: &'w mut Output,
    scratch: &'w mut Scratch,
    times: &'w mut Vec<Timestamp>,
    /// The last record was an event that detectors have seen.
    noted: bool,
}

impl Reading<'_> {
    /// Counts an event or line, and says whether it is to be judged.
    fn count(&mut self, origin: &Origin, told: Option<Timestamp>) -> bool {
        let tally = &mut self.output.tally;
        if let Some(why) = self.clock.misdated(told) {
            tally.add_misdated(why);
        }
        let time = self.clock.time(told);
        if let Some(time) = time {
            tally.add_time(time);
            self.times.push(time);
        }
        let within = self.range.contains(time);
        if within && let Some(time) = time {
            tally.streams.add(&origin.cluster, origin.category, time);
        }
        within
    }
}

impl Receiver for Reading<'_> {
    fn record(&mut self, record: Record<'_>) {
        self.noted = false;
        self.output.tally.add_record(&record);
        if let Some(reason) = record.damage {
            let kept = record.raw.len().min(QUARANTINE_EXCERPT + MARGIN);
            self.output.damaged.push(DamagedRecord {
                reason,
                position: record.position,
                text: record.raw[..kept].to_vec(),
            });
        }
        let origin = &record.origin;
        let told = match &record.payload {
            Payload::Audit(event) => event.time().or(origin.time),
            Payload::ApiServer(line) => line::time(line, origin.time),
            Payload::Nothing(_) => return,
        };
        if self.count(origin, told) {
            let place = Place {
                partition: self.partition,
                position: record.position,
                clock: self.clock,
            };
            let (engine, scratch, matches) =
                (self.engine, &mut *self.scratch, &mut self.output.matches);
            match &record.payload {
                Payload::Audit(event) => {
                    engine.detect(event, origin, place, scratch, matches);
                    self.noted = true;
                }
                Payload::ApiServer(line) => {
                    engine.detect_line(line, origin, place, scratch, matches);
                }
                Payload::Nothing(_) => {}
            }
        }
        self.clock.passed(told);
    }

    fn note(&self) -> Option<&[u64]> {
        self.noted.then(|| self.scratch.note()).flatten()
    }

    fn holds(&self, note: &[u64]) -> bool {
        self.scratch.holds(note)
    }

    fn again(&mut self, repeat: Repeat<'_>) {
        self.output.tally.add_repeat(&repeat);
        let told = repeat.time.or(repeat.origin.time);
        if self.count(&repeat.origin, told) {
            self.scratch.again(repeat.note);
        }
        self.clock.passed(told);
    }
}

impl Worker {
    /// As [`Worker::process`], but a message on which our own code fails goes to quarantine, and the
    /// others of its batch are judged: one that ends the thread would end the reading.
    pub fn endure(&mut self, engine: &Engine, batch: &Batch, range: TimeRange) -> Output {
        if let Some(output) = self.attempt(engine, batch, range) {
            return output;
        }
        let part = |chunks| Batch {
            chunks,
            ..batch.clone()
        };
        let (sound, mut broken): (Vec<_>, Vec<_>) =
            batch.chunks.iter().cloned().partition(|chunk| {
                let alone = part(vec![chunk.clone()]);
                self.attempt(engine, &alone, range).is_some()
            });
        let sound = part(sound);
        let mut output = match self.attempt(engine, &sound, range) {
            Some(output) => output,
            None => {
                broken.clone_from(&batch.chunks);
                Output::default()
            }
        };
        for chunk in broken {
            tracing::error!(
                source = %batch.partition.source,
                partition = %batch.partition.id,
                position = chunk.position,
                "reading a message failed; it is in quarantine"
            );
            output.tally.bytes += chunk.bytes.len() as u64;
            output.tally.records += 1;
            *output.tally.damaged.entry(Damage::Defect).or_default() += 1;
            output.damaged.push(DamagedRecord {
                reason: Damage::Defect,
                position: RecordPosition {
                    chunk: chunk.position,
                    offset: 0,
                },
                text: chunk.bytes[..chunk.bytes.len().min(QUARANTINE_EXCERPT)].to_vec(),
            });
        }
        output
    }

    /// `None` where our own code panicked.
    fn attempt(&mut self, engine: &Engine, batch: &Batch, range: TimeRange) -> Option<Output> {
        let attempt = panic::catch_unwind(AssertUnwindSafe(|| {
            fail_point!("work.decoding");
            self.process(engine, batch, range)
        }));
        if attempt.is_err() {
            // What it was at is left half done.
            *self = Worker::new(self.recall.clone());
        }
        attempt.ok()
    }
}

/// The middle of the times, of two the earlier; empties the list.
fn middle(times: &mut Vec<Timestamp>) -> Option<Timestamp> {
    let at = times.len().checked_sub(1)? / 2;
    let middle = *times.select_nth_unstable(at).1;
    times.clear();
    Some(middle)
}

/// The engine and range that all workers of a run share.
#[derive(Debug, Clone)]
pub struct Task {
    pub engine: Arc<Engine>,
    pub range: TimeRange,
}
