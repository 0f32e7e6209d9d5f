//! The daemon's pipeline: batches of hubs in, committed positions and notifications out.
//!
//! Worker threads take batches from one bounded queue and find matches; one thread judges them in
//! the order in which the batches came, and commits positions, notifications and what the state
//! learned in one transaction. Commits grow with the load: everything that is ready goes into the
//! next one. CPU and disk so press back on the sources; receivers never do.

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::Timestamp;

use super::memory::Memory;
use super::notify::{notification, notify};
use super::snapshots::Snapshots;
use super::tally::Tally;
use super::work::{Output, TimeRange, Worker};
use crate::alert::group::Cause;
use crate::alert::own::Losses;
use crate::alert::{Alert, redact};
use crate::config::{Config, Subject};
use crate::decode::Damage;
use crate::deliver::Wake;
use crate::detect::order::{Judgement, Learning};
use crate::detect::state::recall::Recall;
use crate::detect::{Engine, Match, Outcome};
use crate::failpoint::fail_point;
use crate::source::pacing::Pacing;
use crate::source::{Batch, Partition, Position};
use crate::store::{Commit, Evicted, Quarantined, Recovered, Store, StoreError};
use crate::wall::Wall;

/// Batches judged before a commit, at most: bounds what a crash has to read again.
const BATCHES_PER_COMMIT: usize = 256;

/// Matches that may wait for the judging thread before it takes no more batches: each holds a few
/// kilobytes of what was logged, and in a storm of findings all events are matches.
const MATCHES_WAITING: usize = 8192;

/// How often time is looked at where nothing comes in.
const TICK: Duration = Duration::from_millis(500);

/// First and longest pause after the store refused a commit.
const STORE_PAUSE: Duration = Duration::from_millis(100);
const STORE_PAUSE_MAX: Duration = Duration::from_secs(5);

/// What a reload replaces, all at once.
#[derive(Debug)]
pub struct Settings {
    pub config: Config,
    pub engine: Arc<Engine>,
}

/// Hears what happens; for metrics and health.
pub trait Observer: Send + Sync {
    /// The judging thread goes on; called at least every tick.
    fn alive(&self) {}
    /// Event time up to which every partition has come.
    fn watermark(&self, _time: Timestamp) {}
    /// So many hubs and partitions were never heard of, and are waited for no more.
    fn unheard(&self, _count: usize) {}
    fn read(&self, _partition: &Partition, _tally: &Tally) {}
    fn judged(&self, _detector: &str, _outcome: Outcome) {}
    fn notified(&self, _alert: &Alert, _cause: Cause, _receivers: usize) {}
    fn committed(&self, _took: Duration, _enqueued: Option<Timestamp>) {}
    fn store_failed(&self, _error: &StoreError) {}
    fn evicted(&self, _evicted: &Evicted) {}
    /// Our own code failed on a match, which is in quarantine.
    fn failed_on_match(&self) {}
    fn state(&self, _memory: &Memory) {}
}

/// The running pipeline; ends when the senders of its queue are gone.
#[derive(Debug)]
pub struct Live {
    workers: Vec<JoinHandle<()>>,
    judge: JoinHandle<()>,
    abandon: Arc<AtomicBool>,
}

/// What the pipeline works with.
pub struct Parts {
    pub settings: Arc<ArcSwap<Settings>>,
    pub store: Arc<Store>,
    /// Hears how far each partition has come.
    pub pacing: Arc<Pacing>,
    pub batches: tokio::sync::mpsc::Receiver<Batch>,
    pub wake: Wake,
    pub wall: Arc<Wall>,
    pub observer: Arc<dyn Observer>,
}

impl Live {
    /// Starts the threads, from what the store recovered.
    pub fn start(parts: Parts, recovered: &Recovered) -> std::io::Result<Live> {
        let Parts {
            settings,
            store,
            pacing,
            batches,
            wake,
            wall,
            observer,
        } = parts;
        let count = settings.load().config.pipeline.worker_count();
        let (memory, is_whole) =
            Memory::recover(recovered, Learning::Own, Some(&settings.load().engine));
        let last = recovered.snapshot.as_ref().filter(|_| is_whole);
        let queue = Arc::new(Mutex::new(Queue { batches, next: 0 }));
        let (results_in, results) = mpsc::sync_channel(2 * count);
        let mut workers = Vec::with_capacity(count);
        for index in 0..count {
            let queue = Arc::clone(&queue);
            let settings = Arc::clone(&settings);
            let results_in = results_in.clone();
            let recall = memory.judge.recall();
            let worker = std::thread::Builder::new()
                .name(format!("work-{index}"))
                .spawn(move || work(&queue, &settings, recall, &results_in))?;
            workers.push(worker);
        }
        let abandon = Arc::new(AtomicBool::new(false));
        let judging = Judging {
            memory,
            settings,
            store,
            pacing,
            wake,
            corrections: wall.corrections(),
            wall,
            observer,
            abandon: Arc::clone(&abandon),
            waiting: BTreeMap::new(),
            next: 0,
            progress: BTreeMap::new(),
            without: Vec::new(),
            snapshots: Snapshots::new(last.map(|state| state.len() as u64)),
            losses: Losses::default(),
        };
        let judge = std::thread::Builder::new()
            .name("judge".to_owned())
            .spawn(move || judging.run(&results))?;
        Ok(Live {
            workers,
            judge,
            abandon,
        })
    }

    /// Whether the judging thread has ended, which it does by itself only when it cannot go on.
    pub fn has_ended(&self) -> bool {
        self.judge.is_finished()
    }

    /// Waits for the threads, after the sources have stopped. What they had read is judged and
    /// committed. A store that refuses is given up after `patience`: what was not committed will be
    /// read again.
    pub fn join(self, patience: Duration) {
        let started = Instant::now();
        while !self.judge.is_finished() && started.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.abandon.store(true, Ordering::Release);
        for thread in self.workers.into_iter().chain([self.judge]) {
            if thread.join().is_err() {
                tracing::error!("a thread of the pipeline ended badly");
            }
        }
    }
}

/// Where workers take batches from, each with its number in the order of arrival.
struct Queue {
    batches: tokio::sync::mpsc::Receiver<Batch>,
    next: u64,
}

/// A batch's result; its bytes are gone.
struct Done {
    number: u64,
    engine: Arc<Engine>,
    partition: Arc<Partition>,
    to: Position,
    at_end: bool,
    enqueued: Option<Timestamp>,
    output: Output,
}

fn work(
    queue: &Mutex<Queue>,
    settings: &ArcSwap<Settings>,
    recall: Recall,
    results: &mpsc::SyncSender<Done>,
) {
    let mut worker = Worker::new(Some(recall));
    loop {
        let (number, batch) = {
            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(batch) = queue.batches.blocking_recv() else {
                return;
            };
            queue.next += 1;
            (queue.next - 1, batch)
        };
        let engine = Arc::clone(&settings.load().engine);
        let output = worker.endure(&engine, &batch, TimeRange::default());
        fail_point!("work.decoded");
        let done = Done {
            number,
            engine,
            to: batch.to,
            at_end: batch.at_end,
            enqueued: batch.chunks.iter().filter_map(|chunk| chunk.enqueued).min(),
            partition: batch.partition,
            output,
        };
        if results.send(done).is_err() {
            return;
        }
    }
}

/// How far a partition has come on the event clock.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    latest: Option<Timestamp>,
    at_end: bool,
}

struct Judging {
    memory: Memory,
    settings: Arc<ArcSwap<Settings>>,
    store: Arc<Store>,
    pacing: Arc<Pacing>,
    wake: Wake,
    wall: Arc<Wall>,
    /// Of the clock, as far as the memory knows.
    corrections: u64,
    observer: Arc<dyn Observer>,
    abandon: Arc<AtomicBool>,
    waiting: BTreeMap<u64, Done>,
    next: u64,
    progress: BTreeMap<Arc<Partition>, Progress>,
    /// Hubs and partitions that the clock goes on without, as last said.
    without: Vec<String>,
    snapshots: Snapshots,
    losses: Losses,
}

impl Judging {
    fn run(mut self, results: &mpsc::Receiver<Done>) {
        loop {
            match results.recv_timeout(TICK) {
                Ok(done) => {
                    self.waiting.insert(done.number, done);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let matches = |done: &Done| done.output.matches.len();
            let mut waiting: usize = self.waiting.values().map(matches).sum();
            while self.waiting.len() < BATCHES_PER_COMMIT
                && waiting < MATCHES_WAITING
                && let Ok(done) = results.try_recv()
            {
                waiting += matches(&done);
                self.waiting.insert(done.number, done);
            }
            if !self.judge_and_commit() {
                self.snapshots.finish();
                return;
            }
            if self.snapshots.is_due(self.store.deltas_size()) {
                self.snapshot();
            }
        }
        let is_committed = self.judge_and_commit();
        self.snapshots.finish();
        if is_committed {
            self.snapshot();
            self.snapshots.finish();
        }
    }

    /// Judges the batches whose turn it is and makes it durable; false where that was given up.
    fn judge_and_commit(&mut self) -> bool {
        self.observer.alive();
        let mut commit = Commit::default();
        let mut positions: BTreeMap<Arc<Partition>, Position> = BTreeMap::new();
        let mut enqueued = None;
        while let Some(done) = self.waiting.remove(&self.next) {
            self.next += 1;
            positions.insert(Arc::clone(&done.partition), done.to);
            enqueued = [enqueued, done.enqueued].into_iter().flatten().min();
            fail_point!("judge.before");
            self.judge(done, &mut commit);
            fail_point!("judge.after");
        }
        if self.corrections != self.wall.corrections() {
            self.corrections = self.wall.corrections();
            self.memory.judge.clock_was_set();
        }
        let watermark = self.watermark();
        let mut absent = false;
        // Where it is not known yet, alerts close only to make room.
        let mut quiet_before = Timestamp::MIN;
        if let Some(watermark) = watermark {
            quiet_before = watermark;
            self.observer.watermark(watermark);
            let engine = Arc::clone(&self.settings.load().engine);
            self.memory.judge.tick(&engine, watermark, true);
            while let Some(raised) = self.memory.judge.raised() {
                absent = true;
                self.tell(&engine, &raised, None, &mut commit);
            }
        }
        let closed = self.memory.groups.close_quiet(quiet_before);
        let told = self.tell_incidents(quiet_before, enqueued, &mut commit)
            | self.tell_losses(&mut commit);
        if positions.is_empty() && closed.is_empty() && !told && !absent {
            return true;
        }
        self.tell_closed(closed, &mut commit);
        commit.positions = positions.into_iter().collect();
        commit.delta = self.memory.take_delta();
        self.commit(&commit, enqueued)
    }

    fn judge(&mut self, done: Done, commit: &mut Commit) {
        let progress = self
            .progress
            .entry(Arc::clone(&done.partition))
            .or_default();
        progress.at_end = done.at_end;
        if let Some((_, latest)) = done.output.tally.span {
            progress.latest = progress.latest.max(Some(latest));
        }
        let latest = done.output.tally.span.map(|(_, latest)| latest);
        self.pacing.judged(&done.partition, latest, done.at_end);
        self.observer.read(&done.partition, &done.output.tally);
        for record in done.output.damaged {
            commit.quarantine.push(Quarantined {
                source: format!("{}/{}", done.partition.source, done.partition.id),
                position: format!("{}#{}", record.position.chunk, record.position.offset),
                reason: record.reason.as_str().to_owned(),
                raw: record.to_keep(),
            });
        }
        self.memory.judge.observe(&done.output.tally.streams);
        self.memory.judge.count(done.output.counts);
        for found in done.output.matches {
            let occurrence = Arc::clone(&found.occurrence);
            // A panic must not make the same batch end every process that reads it.
            let judged = panic::catch_unwind(AssertUnwindSafe(|| {
                self.judge_match(&done.engine, found, done.enqueued, commit);
            }));
            if judged.is_err() {
                tracing::error!("judging a match failed; it is in quarantine");
                self.observer.failed_on_match();
                let position = occurrence.position;
                commit.quarantine.push(Quarantined {
                    source: format!("{}/{}", done.partition.source, done.partition.id),
                    position: format!("{}#{}", position.chunk, position.offset),
                    reason: Damage::Defect.as_str().to_owned(),
                    raw: redact::redact(occurrence.excerpt()).into_owned().into(),
                });
            }
        }
    }

    fn judge_match(
        &mut self,
        engine: &Engine,
        found: Match,
        enqueued: Option<Timestamp>,
        commit: &mut Commit,
    ) {
        fail_point!("judge.match");
        let judgement = self.memory.judge.judge(engine, found);
        self.tell(engine, &judgement, enqueued, commit);
        while let Some(raised) = self.memory.judge.raised() {
            self.tell(engine, &raised, enqueued, commit);
        }
    }

    /// Makes an alert of a finding, or adds it to one, and notifies of it.
    fn tell(
        &mut self,
        engine: &Engine,
        judgement: &Judgement,
        enqueued: Option<Timestamp>,
        commit: &mut Commit,
    ) {
        let settings = self.settings.load();
        let detector = engine.detector(judgement.found.detector);
        self.observer.judged(&detector.id, judgement.outcome);
        if judgement.outcome != Outcome::Alert {
            return;
        }
        let now = self.wall.now();
        let repeat = settings.config.alert.repeat_interval.signed();
        let groups = &mut self.memory.groups;
        let added = groups.add(engine, judgement, now, repeat);
        let Some(cause) = added.cause else {
            return;
        };
        let Some(alert) = groups.shown(added.fingerprint) else {
            return;
        };
        let mut receivers = settings.config.route(Subject::from(&alert));
        let of_incidents = settings.config.route_incidents(Subject::from(&alert));
        match added.incident {
            Some(incident) => groups.incidents.tell(incident, of_incidents),
            // What belongs to no incident is told by itself.
            None => {
                receivers.extend(of_incidents);
                receivers.sort();
                receivers.dedup();
            }
        }
        self.observer.notified(&alert, cause, receivers.len());
        notify(&alert, receivers, enqueued, commit);
    }

    /// For the receivers that want it: PagerDuty resolves the incident.
    fn tell_closed(&self, closed: Vec<Alert>, commit: &mut Commit) {
        let settings = self.settings.load();
        for mut alert in closed {
            let receivers = settings.config.route_closed(Subject::from(&alert));
            alert.notification_id = format!("{}-closed", alert.id);
            alert.detected_at = Some(self.wall.now());
            notify(&alert, receivers, None, commit);
        }
    }

    /// Incidents with news, and ones that closed, to the receivers that take incidents. Says whether
    /// anything is to be written.
    fn tell_incidents(
        &mut self,
        quiet_before: Timestamp,
        enqueued: Option<Timestamp>,
        commit: &mut Commit,
    ) -> bool {
        let settings = self.settings.load();
        let alert = &settings.config.alert;
        let now = self.wall.now();
        self.memory.groups.set_quota(alert.memory_quota);
        let incidents = &mut self.memory.groups.incidents;
        incidents.set_window(alert.incident_window.signed());
        let due = incidents.take_due(now, alert.incident_debounce.signed());
        let closed = incidents.close_quiet(quiet_before);
        let news = !due.is_empty() || !closed.is_empty();
        for (incident, receivers) in due {
            let id = &incident.notification_id;
            notification(
                id,
                incident.severity,
                &incident,
                receivers,
                enqueued,
                commit,
            );
        }
        for closing in closed {
            let mut incident = closing.incident();
            incident.notification_id = format!("{}-closed", incident.id);
            incident.detected_at = Some(now);
            let receivers = match closing.is_owed() {
                true => closing.receivers(),
                false => settings.config.told_closing(closing.receivers()),
            };
            let id = &incident.notification_id;
            notification(id, incident.severity, &incident, receivers, None, commit);
        }
        news
    }

    /// Receivers that lose notifications, to all others. Says whether there are any.
    fn tell_losses(&mut self, commit: &mut Commit) -> bool {
        let settings = self.settings.load();
        let repeat = settings.config.alert.repeat_interval.signed();
        let due = self.losses.take_due(self.wall.now(), repeat);
        for (loser, alert) in &due {
            let mut others = settings.config.receivers();
            others.retain(|receiver| receiver != loser);
            notify(alert, others, None, commit);
        }
        !due.is_empty()
    }

    /// Event time that no partition will fall behind; wall time where all are read to their end, so
    /// that alerts close although nothing comes in. Not known after a start until something is known
    /// of every partition, or it was waited for long enough: what came while nobody read may be of
    /// any time since.
    fn watermark(&mut self) -> Option<Timestamp> {
        let heard = self.pacing.heard();
        if heard.without != self.without {
            self.observer.unheard(heard.without.len());
            if !heard.without.is_empty() {
                let without = heard.without.join(", ");
                tracing::warn!(%without, "nothing was heard of these since the start; what is quiet or absent is told without them");
            }
            self.without = heard.without;
        }
        if !heard.is_complete {
            return None;
        }
        let lateness = self.settings.load().config.pipeline.lateness.signed();
        let now = self.wall.now();
        let least = self
            .progress
            .values()
            .map(|progress| {
                if progress.at_end {
                    now
                } else {
                    progress.latest.map_or(now, |latest| latest.min(now))
                }
            })
            .min()
            .unwrap_or(now);
        Some(least.checked_sub(lateness).unwrap_or(Timestamp::MIN))
    }

    fn snapshot(&mut self) {
        let engine = Arc::clone(&self.settings.load().engine);
        self.snapshots.take(&self.memory, &engine, &self.store);
    }

    /// Writes until the store takes it: nothing is read on past what is not durable. False where it
    /// never will.
    fn commit(&mut self, commit: &Commit, enqueued: Option<Timestamp>) -> bool {
        fail_point!("commit.before");
        let mut pause = STORE_PAUSE;
        loop {
            let started = Instant::now();
            match self.store.commit(commit) {
                Ok(committed) => {
                    self.observer.committed(started.elapsed(), enqueued);
                    for evicted in &committed.evicted {
                        self.observer.evicted(evicted);
                        self.losses.add(evicted, self.wall.now());
                    }
                    self.observer.state(&self.memory);
                    fail_point!("commit.after");
                    if committed.notifications > 0 {
                        self.wake.wake();
                    }
                    return true;
                }
                Err(error) => {
                    self.observer.store_failed(&error);
                    if !error.is_transient() {
                        tracing::error!(%error, "the store cannot go on; the next start mends it");
                        return false;
                    }
                    tracing::error!(%error, "the store refuses a commit; reading waits for it");
                    self.observer.alive();
                    if self.abandon.load(Ordering::Acquire) {
                        return false;
                    }
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(STORE_PAUSE_MAX);
                }
            }
        }
    }
}
