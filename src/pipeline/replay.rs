//! Replays archives: every core reads, one thread judges in the order of event time.
//!
//! Each input is a partition. Workers take its next block, decode it and find matches; the judging
//! thread takes blocks in an order that follows from the archive alone: always of the input that is
//! furthest behind in event time. Matches wait until every input is past them by `lateness`, and are
//! judged sorted by (event time, cluster, auditID, stage). So the same archive gives the same
//! answers whatever the number of threads, and memory holds no more than blocks in work and the
//! matches of a window.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex};

use jiff::{SignedDuration, Timestamp};

use super::tally::Tally;
use super::work::{Output, Task, Worker};
use crate::decode::{Payload, decode};
use crate::detect::matches::Match;
use crate::detect::occurrence::Occurrence;
use crate::detect::order::{Judge, Judgement};
use crate::detect::state::recall::Recall;
use crate::event::Stage;
use crate::source::Batch;
use crate::source::archive::{ArchiveError, ArchiveOptions, Input, Reader};

/// How far ahead of the judging thread each input may be read, in blocks.
const BLOCKS_AHEAD: usize = 4;

#[derive(Debug, Clone)]
pub struct Options {
    pub threads: usize,
    /// How far events of one cluster may lie out of order.
    pub lateness: SignedDuration,
    pub archive: ArchiveOptions,
    /// Make a match of every event that a detector wants, also where it is no news.
    pub every_match: bool,
}

/// An input that could not be read to its end; what had been read was judged.
#[derive(Debug, Clone)]
pub struct Broken {
    pub input: String,
    pub message: String,
}

#[derive(Debug, Default)]
pub struct Summary {
    pub tally: Tally,
    pub inputs: usize,
    pub broken: Vec<Broken>,
    /// What was passed over within inputs that could be read on.
    pub skipped: Vec<Broken>,
}

/// Told while a replay goes on.
pub trait Observer {
    /// A match was judged. Called in the order of event time.
    fn judged(&mut self, judgement: Judgement);
    /// So many bytes of the inputs have been read so far, compressed as they are.
    fn progress(&mut self, _taken: u64) {}
    /// Whether to stop early, as when nobody reads the output any more.
    fn stopped(&self) -> bool {
        false
    }
}

/// Replays `inputs` in one pass, each begun when those that start earlier have come to its start.
pub fn replay(
    task: &Task,
    judge: &mut Judge,
    inputs: Vec<Input>,
    options: &Options,
    observer: &mut dyn Observer,
) -> Summary {
    let mut inputs: Vec<(Option<Timestamp>, Input)> = inputs
        .into_iter()
        .map(|input| (start_of(&input, options), input))
        .collect();
    inputs.sort_by_key(|(start, _)| *start);
    let (starts, inputs): (Vec<_>, Vec<_>) = inputs.into_iter().unzip();
    let shared = Shared::new(&inputs);
    let (results_in, results) = channel();
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            let results_in = results_in.clone();
            let shared = &shared;
            let recall = (!options.every_match).then(|| judge.recall());
            scope.spawn(move || shared.work(task, &options.archive, recall, &results_in));
        }
        drop(results_in);
        let summary = Merge::new(&shared, starts, options).run(task, judge, observer, &results);
        shared.stop();
        summary
    })
}

/// Bytes looked at for an input's first event time.
const START_BLOCK: usize = 64 << 10;

/// The least time in the first part that tells any; `None` for standard input, which cannot be read
/// twice, and where the beginning tells no time.
fn start_of(input: &Input, options: &Options) -> Option<Timestamp> {
    if input.is_stdin() {
        return None;
    }
    let archive = ArchiveOptions {
        block: START_BLOCK,
        ..options.archive.clone()
    };
    let batch = input.open(&archive).ok()?.next_batch().ok()??;
    let mut start = None;
    for chunk in &batch.chunks {
        decode(chunk, &mut |record| {
            let time = match &record.payload {
                Payload::Audit(event) => event.time().or(record.origin.time),
                _ => record.origin.time,
            };
            start = [start, time].into_iter().flatten().min();
        });
        if start.is_some() {
            break;
        }
    }
    start
}

/// What workers and the judging thread share: which inputs may be read on, and their readers.
struct Shared<'i> {
    inputs: &'i [Input],
    readers: Vec<Mutex<Open>>,
    queue: Mutex<VecDeque<usize>>,
    wake: Condvar,
    stopped: AtomicBool,
    /// Bytes read of all inputs.
    taken: AtomicU64,
}

/// An input's reader: opened by the first worker that gets it.
enum Open {
    NotYet,
    Reading(Box<Reader>, u64),
    Ended(u64),
}

/// A block's result, numbered within its input.
struct Block {
    input: usize,
    number: u64,
    content: Content,
}

enum Content {
    Read(Box<Output>),
    /// Something of the input was passed over; it goes on.
    Skipped(String),
    /// The input has ended, with what went wrong if anything did.
    End(Option<String>),
}

impl<'i> Shared<'i> {
    fn new(inputs: &'i [Input]) -> Shared<'i> {
        Shared {
            inputs,
            readers: inputs.iter().map(|_| Mutex::new(Open::NotYet)).collect(),
            queue: Mutex::new(VecDeque::new()),
            wake: Condvar::new(),
            stopped: AtomicBool::new(false),
            taken: AtomicU64::new(0),
        }
    }

    fn ask(&self, input: usize) {
        lock(&self.queue).push_back(input);
        self.wake.notify_one();
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake.notify_all();
    }

    fn next_job(&self) -> Option<usize> {
        let mut queue = lock(&self.queue);
        loop {
            if self.stopped.load(Ordering::Acquire) {
                return None;
            }
            if let Some(input) = queue.pop_front() {
                return Some(input);
            }
            queue = self
                .wake
                .wait(queue)
                .unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    fn work(
        &self,
        task: &Task,
        archive: &ArchiveOptions,
        recall: Option<Recall>,
        results: &Sender<Block>,
    ) {
        let mut worker = Worker::new(recall);
        let mut done = None;
        while let Some(input) = self.next_job() {
            let (number, read) = self.read(input, archive, done.take());
            let content = match read {
                Ok(Some(batch)) => {
                    let output = worker.process(&task.engine, &batch, task.range);
                    done = Some(batch);
                    Content::Read(Box::new(output))
                }
                Ok(None) => Content::End(None),
                Err(error @ ArchiveError::RecordTooLong { .. }) => {
                    Content::Skipped(error.to_string())
                }
                Err(error) => Content::End(Some(error.to_string())),
            };
            if results
                .send(Block {
                    input,
                    number,
                    content,
                })
                .is_err()
            {
                return;
            }
        }
    }

    /// The input's next block and its number; after the end, the end again. `done` is a block that
    /// the worker has no more use for.
    fn read(
        &self,
        input: usize,
        archive: &ArchiveOptions,
        done: Option<Batch>,
    ) -> (u64, Result<Option<Batch>, ArchiveError>) {
        let mut open = lock(&self.readers[input]);
        if matches!(*open, Open::NotYet) {
            match self.inputs[input].open(archive) {
                Ok(reader) => *open = Open::Reading(Box::new(reader), 0),
                Err(error) => {
                    *open = Open::Ended(1);
                    return (0, Err(error));
                }
            }
        }
        match &mut *open {
            Open::NotYet => unreachable!("opened above"),
            Open::Ended(number) => {
                *number += 1;
                (*number - 1, Ok(None))
            }
            Open::Reading(reader, next) => {
                let number = *next;
                *next += 1;
                if let Some(done) = done {
                    reader.recycle(done);
                }
                let before = reader.taken();
                let read = reader.next_batch();
                self.taken
                    .fetch_add(reader.taken() - before, Ordering::Relaxed);
                if !matches!(read, Ok(Some(_)) | Err(ArchiveError::RecordTooLong { .. })) {
                    *open = Open::Ended(number + 1);
                }
                (number, read)
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A worker that panicked takes the whole scope down when it is joined; what it held is sound.
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The judging thread's picture of one input.
#[derive(Default)]
struct Progress {
    /// Blocks asked for and not yet taken.
    asked: usize,
    next: u64,
    arrived: BTreeMap<u64, Content>,
    /// Where the input has got to in event time, by the blocks taken.
    frontier: Option<Timestamp>,
    ended: bool,
}

struct Merge<'s, 'i> {
    shared: &'s Shared<'i>,
    lateness: SignedDuration,
    ahead: usize,
    progress: Vec<Progress>,
    /// Inputs below this one have been begun.
    begun: usize,
    starts: Vec<Option<Timestamp>>,
    waiting: BinaryHeap<Reverse<Waiting>>,
    arrivals: u64,
    summary: Summary,
}

impl<'s, 'i> Merge<'s, 'i> {
    fn new(
        shared: &'s Shared<'i>,
        starts: Vec<Option<Timestamp>>,
        options: &Options,
    ) -> Merge<'s, 'i> {
        let inputs = shared.inputs;
        Merge {
            shared,
            lateness: options.lateness,
            ahead: if inputs.len() == 1 {
                BLOCKS_AHEAD.max(2 * options.threads)
            } else {
                BLOCKS_AHEAD
            },
            progress: inputs.iter().map(|_| Progress::default()).collect(),
            begun: 0,
            starts,
            waiting: BinaryHeap::new(),
            arrivals: 0,
            summary: Summary {
                inputs: inputs.len(),
                ..Summary::default()
            },
        }
    }

    fn run(
        mut self,
        task: &Task,
        judge: &mut Judge,
        observer: &mut dyn Observer,
        results: &Receiver<Block>,
    ) -> Summary {
        while let Some(input) = self.furthest_behind() {
            if observer.stopped() {
                break;
            }
            self.ask_ahead(input);
            let Some(content) = self.wait_for(input, results) else {
                break;
            };
            self.take(input, content, judge);
            observer.progress(self.shared.taken.load(Ordering::Relaxed));
            self.judge_until(self.watermark(), task, judge, observer);
        }
        if !observer.stopped() {
            self.judge_until(Some(Timestamp::MAX), task, judge, observer);
        }
        self.summary
    }

    /// The input to take a block of: the one whose event time is least; among those that are level,
    /// the first. Inputs are begun in their order, as soon as those before have come to their start.
    fn furthest_behind(&mut self) -> Option<usize> {
        loop {
            let open = (0..self.begun)
                .filter(|input| !self.progress[*input].ended)
                .min_by_key(|input| (self.progress[*input].frontier, *input));
            let next = (self.begun < self.progress.len()).then_some(self.begun);
            match (open, next) {
                (Some(open), Some(next)) => {
                    let here = self.progress[open].frontier;
                    let due = match (here, self.starts[next]) {
                        (Some(here), Some(start)) => start <= here,
                        (Some(_), None) => true,
                        (None, _) => false,
                    };
                    if !due {
                        return Some(open);
                    }
                    self.begun += 1;
                }
                (Some(open), None) => return Some(open),
                (None, Some(_)) => self.begun += 1,
                (None, None) => return None,
            }
        }
    }

    fn ask_ahead(&mut self, input: usize) {
        let progress = &mut self.progress[input];
        while progress.asked < self.ahead {
            self.shared.ask(input);
            progress.asked += 1;
        }
    }

    fn wait_for(&mut self, input: usize, results: &Receiver<Block>) -> Option<Content> {
        loop {
            let progress = &mut self.progress[input];
            if let Some(content) = progress.arrived.remove(&progress.next) {
                progress.next += 1;
                progress.asked -= 1;
                return Some(content);
            }
            let block = results.recv().ok()?;
            self.progress[block.input]
                .arrived
                .insert(block.number, block.content);
        }
    }

    fn take(&mut self, input: usize, content: Content, judge: &mut Judge) {
        match content {
            Content::End(problem) => {
                self.progress[input].ended = true;
                if let Some(message) = problem {
                    self.summary.broken.push(self.broken(input, message));
                }
            }
            Content::Skipped(message) => {
                let broken = self.broken(input, message);
                self.summary.skipped.push(broken);
            }
            Content::Read(output) => {
                let frontier = &mut self.progress[input].frontier;
                *frontier = (*frontier).max(output.frontier);
                self.summary.tally.merge(&output.tally);
                judge.observe(&output.tally.streams);
                judge.count(output.counts);
                let mut matches = output.matches.into_iter().peekable();
                while let Some(first) = matches.next() {
                    let occurrence = Arc::clone(&first.occurrence);
                    let mut found = vec![first];
                    while let Some(next) =
                        matches.next_if(|next| Arc::ptr_eq(&next.occurrence, &occurrence))
                    {
                        found.push(next);
                    }
                    self.arrivals += 1;
                    self.waiting.push(Reverse(Waiting {
                        clock: occurrence.clock(),
                        occurrence,
                        found,
                        arrival: self.arrivals,
                    }));
                }
            }
        }
    }

    fn broken(&self, input: usize, message: String) -> Broken {
        Broken {
            input: self.shared.inputs[input].partition.id.to_string(),
            message,
        }
    }

    /// Event time before which nothing more is expected; `None` where some input tells no time yet.
    fn watermark(&self) -> Option<Timestamp> {
        let open = self.progress[..self.begun]
            .iter()
            .filter(|progress| !progress.ended)
            .map(|progress| progress.frontier);
        let next = self.starts.get(self.begun).copied();
        let least = open.chain(next).min().unwrap_or(Some(Timestamp::MAX))?;
        Some(least.checked_sub(self.lateness).unwrap_or(Timestamp::MIN))
    }

    fn judge_until(
        &mut self,
        watermark: Option<Timestamp>,
        task: &Task,
        judge: &mut Judge,
        observer: &mut dyn Observer,
    ) {
        let Some(watermark) = watermark else { return };
        while let Some(Reverse(first)) = self.waiting.peek() {
            if first.clock > watermark {
                break;
            }
            let Some(Reverse(next)) = self.waiting.pop() else {
                break;
            };
            for found in next.found {
                observer.judged(judge.judge(&task.engine, found));
                while let Some(raised) = judge.raised() {
                    observer.judged(raised);
                }
            }
        }
        judge.tick(&task.engine, watermark, false);
        while let Some(raised) = judge.raised() {
            observer.judged(raised);
        }
    }
}

/// The matches of an event, which wait for their turn.
struct Waiting {
    clock: Timestamp,
    occurrence: Arc<Occurrence>,
    found: Vec<Match>,
    /// The order of arrival, which follows from the archive, settles what is otherwise equal.
    arrival: u64,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        fn rest(waiting: &Waiting) -> (&str, &str, Stage, u64) {
            let occurrence = &waiting.occurrence;
            (
                &occurrence.cluster,
                occurrence.audit_id(),
                occurrence.stage,
                waiting.arrival,
            )
        }
        self.clock
            .cmp(&other.clock)
            .then_with(|| rest(self).cmp(&rest(other)))
    }
}
