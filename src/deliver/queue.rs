//! One task a receiver: takes the due notifications from the outbox in order, one at a time, and
//! writes back what became of each.
//!
//! While a receiver fails, only its oldest notification is tried, at growing intervals. If the
//! failure may lie in that one notification, every other attempt after the third is made with
//! another one, so that a single alert that upsets a receiver does not hold up the rest. Apart from such
//! an alert, a receiver gets everything in the order in which it was written, also after a restart: that
//! an incident is over must not arrive before that it began.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Attempt, Death, FailureReason, Named, Notification, Observer, Receiver};
use crate::failpoint::fail_point;
use crate::store::{Pending, Store, StoreError};
use crate::wall::Wall;

/// Longest sleep: how soon a change by another process (`lanner outbox`) or of the clock is seen.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Pause after an error of the store.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Attempts with the oldest notification before another one is tried in its place.
const BEFORE_ANOTHER: u32 = 3;

/// Attempts that fail before a notification is given up, however old it is.
const LEAST_FAILURES: u32 = 8;

/// How patient deliveries are.
#[derive(Debug, Clone)]
pub struct Options {
    /// First delay after a failure; doubled after each, with jitter.
    pub min_delay: Duration,
    pub max_delay: Duration,
    /// Longest delay that a receiver can ask for.
    pub max_retry_after: Duration,
    /// A notification older than this becomes a dead letter at its next failure.
    pub max_age: Duration,
    pub wall: Arc<Wall>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            min_delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(5 * 60),
            max_retry_after: Duration::from_secs(60 * 60),
            max_age: Duration::from_secs(3 * 24 * 60 * 60),
            wall: Arc::default(),
        }
    }
}

/// Tells the queues that a commit wrote notifications.
#[derive(Debug, Clone)]
pub struct Wake(Arc<[Notify]>);

impl Wake {
    pub fn wake(&self) {
        for queue in &*self.0 {
            queue.notify_one();
        }
    }
}

/// The running queues; to be joined at shutdown.
#[derive(Debug)]
pub struct Deliveries {
    tasks: JoinSet<()>,
    wake: Wake,
    stop: CancellationToken,
    abort: CancellationToken,
}

impl Deliveries {
    pub fn wake(&self) -> Wake {
        self.wake.clone()
    }

    /// Delivers what is due and can be delivered at once, for at most `drain`, and ends all tasks.
    /// What is left waits in the outbox; a notification on its way may be sent again, with its id.
    pub async fn join(mut self, drain: Duration) {
        self.stop.cancel();
        let drained = tokio::time::timeout(drain, join_all(&mut self.tasks)).await;
        if drained.is_err() {
            self.abort.cancel();
            join_all(&mut self.tasks).await;
        }
    }
}

async fn join_all(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a delivery task ended badly");
        }
    }
}

/// Starts one task for each receiver; they end after `cancel`, see [`Deliveries::join`].
pub fn start(
    store: Arc<Store>,
    receivers: Vec<Named>,
    observer: Arc<dyn Observer>,
    options: Options,
    cancel: &CancellationToken,
) -> Deliveries {
    let stop = cancel.child_token();
    let abort = CancellationToken::new();
    let wake = Wake(receivers.iter().map(|_| Notify::new()).collect());
    let mut tasks = JoinSet::new();
    let names: Vec<String> = receivers.iter().map(|(name, _)| name.clone()).collect();
    tasks.spawn(warn_of_orphans(Arc::clone(&store), names));
    for (index, (name, receiver)) in receivers.into_iter().enumerate() {
        let queue = Queue {
            name,
            receiver,
            store: Arc::clone(&store),
            observer: Arc::clone(&observer),
            options: options.clone(),
            stop: stop.clone(),
            abort: abort.clone(),
            trouble: None,
        };
        let wake = wake.clone();
        tasks.spawn(async move { queue.run(&wake.0[index]).await });
    }
    Deliveries {
        tasks,
        wake,
        stop,
        abort,
    }
}

/// Notifications for a receiver that is configured no more would wait unseen.
async fn warn_of_orphans(store: Arc<Store>, names: Vec<String>) {
    let counts = tokio::task::spawn_blocking(move || store.outbox_counts()).await;
    for count in counts.into_iter().flatten().flatten() {
        if count.pending > 0 && !names.contains(&count.receiver) {
            tracing::warn!(
                receiver = count.receiver,
                pending = count.pending,
                "notifications wait for a receiver that is not configured"
            );
        }
    }
}

struct Queue {
    name: String,
    receiver: Box<dyn Receiver>,
    store: Arc<Store>,
    observer: Arc<dyn Observer>,
    options: Options,
    stop: CancellationToken,
    abort: CancellationToken,
    trouble: Option<Trouble>,
}

/// A receiver that fails, since its last success.
struct Trouble {
    delays: ExponentialBackoff,
    next: Timestamp,
    /// How long before `next` the last attempt failed.
    delay: Duration,
    /// The last error, to say only what is new.
    detail: String,
    reason: FailureReason,
    /// The last attempt was made with another notification than the oldest.
    with_another: bool,
}

enum Step {
    Again,
    Wait(Option<Timestamp>),
    Aborted,
}

impl Queue {
    async fn run(mut self, wake: &Notify) {
        let mut last_error = String::new();
        while !self.abort.is_cancelled() {
            // Read before the look at the outbox, so that what was committed before the stop is seen.
            let stopping = self.stop.is_cancelled();
            let pause = match self.step().await {
                Ok(Step::Again) => {
                    last_error.clear();
                    continue;
                }
                Ok(Step::Aborted) => return,
                Ok(Step::Wait(until)) => until.map_or(LOOK_AGAIN, |until| {
                    let pause = until.duration_since(self.options.wall.now());
                    pause.try_into().unwrap_or_default()
                }),
                Err(error) => {
                    let text = error.to_string();
                    if text != last_error {
                        tracing::error!(
                            receiver = self.name,
                            error = text,
                            "cannot use the outbox"
                        );
                        last_error = text;
                    }
                    STORE_PAUSE
                }
            };
            if stopping {
                return;
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = wake.notified() => {}
                () = tokio::time::sleep(pause.min(LOOK_AGAIN)) => {}
            }
        }
    }

    async fn step(&mut self) -> Result<Step, StoreError> {
        let now = self.options.wall.now();
        let name = self.name.clone();
        let pending = match &self.trouble {
            // The clock may have been set back: never wait longer than was meant.
            Some(trouble) if now < trouble.next && !clock_went_back(trouble, now) => {
                let next = trouble.next;
                match self.blocking(move |store| store.asked_for(&name)).await? {
                    Some(pending) => Some(pending),
                    None => return Ok(Step::Wait(Some(next))),
                }
            }
            Some(trouble) => {
                let another = trouble.reason.may_be_the_content() && !trouble.with_another;
                self.blocking(move |store| choose(store, &name, another))
                    .await?
            }
            None => {
                let longest = self.options.max_delay.max(self.options.max_retry_after);
                let latest = now.saturating_add(longest).unwrap_or(Timestamp::MAX);
                self.blocking(move |store| due(store, &name, now, latest))
                    .await?
            }
        };
        let Some(pending) = pending else {
            self.trouble = None;
            let name = self.name.clone();
            let next = self.blocking(move |store| store.next_due(&name)).await?;
            return Ok(Step::Wait(next));
        };
        self.attempt(pending).await
    }

    async fn attempt(&mut self, pending: Pending) -> Result<Step, StoreError> {
        let notification = Notification {
            notification_id: pending.notification_id,
            severity: pending.severity,
            body: pending.body,
        };
        let (seq, created, enqueued) = (pending.seq, pending.created, pending.enqueued);
        fail_point!("deliver.before");
        let failures = pending.attempts + 1;
        let delivery = AssertUnwindSafe(self.receiver.deliver(&notification)).catch_unwind();
        let attempt = tokio::select! {
            attempt = delivery => attempt.unwrap_or_else(|_| Attempt::Retry {
                reason: FailureReason::Other,
                after: None,
                detail: "the receiver's code failed".to_owned(),
            }),
            () = self.abort.cancelled() => return Ok(Step::Aborted),
        };
        fail_point!("deliver.after");
        let now = self.options.wall.now();
        let waited = now.duration_since(created);
        match attempt {
            Attempt::Delivered => {
                self.insist(move |store| store.delivered(seq)).await;
                fail_point!("deliver.stored");
                if self.trouble.take().is_some() {
                    tracing::info!(receiver = self.name, "delivers again");
                }
                let waited = waited.try_into().unwrap_or_default();
                self.observer.delivered(&self.name, waited, enqueued);
                Ok(Step::Again)
            }
            Attempt::Rejected { reason, detail } => {
                tracing::error!(
                    receiver = self.name,
                    notification = notification.notification_id,
                    error = detail,
                    "refused a notification, which is now a dead letter"
                );
                self.observer.failed(&self.name, reason);
                self.observer
                    .died(&self.name, Death::Rejected, notification.severity);
                self.insist(move |store| store.dead(seq, &detail).map(drop))
                    .await;
                // A refusal is an answer: the receiver is up.
                self.trouble = None;
                Ok(Step::Again)
            }
            Attempt::Retry {
                reason,
                after,
                detail,
            } => {
                self.observer.failed(&self.name, reason);
                let name = self.name.clone();
                let oldest = self.blocking(move |store| store.oldest(&name)).await?;
                let is_oldest = oldest.is_none_or(|oldest| oldest.seq == seq);
                let delay = self.note_failure(now, reason, after, &detail, is_oldest);
                let max_age = SignedDuration::try_from(self.options.max_age);
                // Its age alone may be an error of the clock that it was written by.
                if failures >= LEAST_FAILURES && max_age.is_ok_and(|max_age| waited > max_age) {
                    tracing::error!(
                        receiver = self.name,
                        notification = notification.notification_id,
                        error = detail,
                        "gave up a notification, which is now a dead letter"
                    );
                    self.observer
                        .died(&self.name, Death::Expired, notification.severity);
                    let reason = format!("tried for too long: {detail}");
                    self.insist(move |store| store.dead(seq, &reason).map(drop))
                        .await;
                } else {
                    let when = now.saturating_add(delay).unwrap_or(Timestamp::MAX);
                    self.insist(move |store| store.retry_at(seq, when, &detail))
                        .await;
                }
                Ok(Step::Wait(
                    self.trouble.as_ref().map(|trouble| trouble.next),
                ))
            }
        }
    }

    /// Notes a failure, says it if it is new, and returns the delay until the next attempt.
    fn note_failure(
        &mut self,
        now: Timestamp,
        reason: FailureReason,
        after: Option<Duration>,
        detail: &str,
        is_oldest: bool,
    ) -> Duration {
        let options = &self.options;
        let trouble = self.trouble.get_or_insert_with(|| Trouble {
            delays: ExponentialBuilder::new()
                .with_min_delay(options.min_delay)
                .with_max_delay(options.max_delay)
                .without_max_times()
                .with_jitter()
                .build(),
            next: now,
            delay: Duration::ZERO,
            detail: String::new(),
            reason,
            with_another: false,
        });
        let backoff = trouble.delays.next().unwrap_or(options.max_delay);
        let delay = match after {
            Some(after) => after.min(options.max_retry_after).max(options.min_delay),
            None => backoff,
        };
        trouble.next = now.saturating_add(delay).unwrap_or(Timestamp::MAX);
        trouble.delay = delay;
        trouble.reason = reason;
        trouble.with_another = !is_oldest;
        if trouble.detail != detail {
            detail.clone_into(&mut trouble.detail);
            tracing::warn!(
                receiver = self.name,
                reason = reason.as_str(),
                error = detail,
                retry_in = ?delay,
                "cannot deliver; trying on"
            );
        }
        delay
    }

    /// Writes an outcome until it is written: forgetting it would send the notification again. At
    /// shutdown one failure is enough.
    async fn insist(
        &self,
        write: impl Fn(&Store) -> Result<(), StoreError> + Send + Sync + 'static,
    ) {
        let write = Arc::new(write);
        let mut said = false;
        loop {
            let once = Arc::clone(&write);
            match self.blocking(move |store| once(store)).await {
                Ok(()) => return,
                Err(error) => {
                    if !said {
                        tracing::error!(receiver = self.name, %error, "cannot write to the outbox");
                        said = true;
                    }
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(STORE_PAUSE) => {}
            }
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = Arc::clone(&self.store);
        match tokio::task::spawn_blocking(move || call(&store)).await {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// What is to be tried at `now`, also where it waits for longer than anything is put off: then the
/// clock was another when it was.
fn due(
    store: &Store,
    name: &str,
    now: Timestamp,
    latest: Timestamp,
) -> Result<Option<Pending>, StoreError> {
    if let Some(pending) = store.due(name, now, 1)?.pop() {
        return Ok(Some(pending));
    }
    match store.next_due(name)? {
        Some(next) if next > latest => store.oldest(name),
        _ => Ok(None),
    }
}

fn clock_went_back(trouble: &Trouble, now: Timestamp) -> bool {
    let meant = SignedDuration::try_from(trouble.delay).unwrap_or(SignedDuration::MAX);
    trouble.next.duration_since(now) > meant
}

/// What to try with while the receiver fails.
fn choose(store: &Store, name: &str, another: bool) -> Result<Option<Pending>, StoreError> {
    let Some(oldest) = store.oldest(name)? else {
        return Ok(None);
    };
    if another
        && oldest.attempts >= BEFORE_ANOTHER
        && let Some(pending) = store.least_tried(name, oldest.seq)?
    {
        return Ok(Some(pending));
    }
    Ok(Some(oldest))
}
