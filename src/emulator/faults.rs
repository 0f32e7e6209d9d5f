//! What goes wrong on purpose: switches that tests set while the emulator runs.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fe2o3_amqp_types::definitions::{Error, ErrorCondition};
use fe2o3_amqp_types::primitives::Symbol;
use tokio::sync::watch;

use super::steps::{Break, Step};

/// The switches of one emulator; all are off at the start.
#[derive(Debug)]
pub struct Faults {
    refuse_connections: AtomicBool,
    refuse_tokens: AtomicBool,
    stall_answers: watch::Sender<bool>,
    stall_deliveries: watch::Sender<bool>,
    refuse_receivers: Mutex<Option<Error>>,
    throttle: Mutex<Option<Duration>>,
    lose_answers: AtomicU32,
    armed: Mutex<Vec<Armed>>,
    are_armed: AtomicBool,
    hits: AtomicU64,
    vanished: AtomicU64,
}

/// A break that waits for its step.
#[derive(Debug)]
struct Armed {
    step: Step,
    how: Break,
    /// Times that the step still passes unharmed.
    after: usize,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            refuse_connections: AtomicBool::new(false),
            refuse_tokens: AtomicBool::new(false),
            stall_answers: watch::Sender::new(false),
            stall_deliveries: watch::Sender::new(false),
            refuse_receivers: Mutex::default(),
            throttle: Mutex::default(),
            lose_answers: AtomicU32::new(0),
            armed: Mutex::default(),
            are_armed: AtomicBool::new(false),
            hits: AtomicU64::new(0),
            vanished: AtomicU64::new(0),
        }
    }
}

impl Faults {
    /// Closes new connections at once; those that stand are left alone.
    pub fn refuse_connections(&self, on: bool) {
        self.refuse_connections.store(on, Ordering::Relaxed);
    }

    /// Answers every token with 401, as for a wrong key.
    pub fn refuse_tokens(&self, on: bool) {
        self.refuse_tokens.store(on, Ordering::Relaxed);
    }

    /// Accepts requests to `$cbs` and `$management` but answers none.
    pub fn stall_answers(&self, on: bool) {
        self.stall_answers.send_replace(on);
    }

    /// Keeps links open but delivers nothing to consumers.
    pub fn stall_deliveries(&self, on: bool) {
        self.stall_deliveries.send_replace(on);
    }

    /// Closes every consumer's link as it attaches, with a condition as `com.microsoft:timeout`;
    /// `None` lets them attach again.
    pub fn refuse_receivers(&self, condition: Option<&str>) {
        *lock(&self.refuse_receivers) = condition.map(on_purpose);
    }

    /// Answers `$management` and attaching consumers as the service does when it throttles: server
    /// busy, and when to come again, in whole seconds.
    pub fn throttle(&self, wait: Option<Duration>) {
        *lock(&self.throttle) = wait;
    }

    /// Takes so many of the next deliveries of producers in and does not say so.
    pub fn lose_answers(&self, count: u32) {
        self.lose_answers.store(count, Ordering::Relaxed);
    }

    /// Breaks a connection the next time that any comes to `step`.
    pub fn break_at(&self, step: Step, how: Break) {
        self.break_after(step, 0, how);
    }

    /// As [`Faults::break_at`], after the step has passed `after` times unharmed.
    pub fn break_after(&self, step: Step, after: usize, how: Break) {
        lock(&self.armed).push(Armed { step, how, after });
        self.are_armed.store(true, Ordering::Release);
    }

    /// Breaks that have come to their step.
    pub fn breaks(&self) -> u64 {
        self.hits.load(Ordering::Acquire)
    }

    /// Makes every connection that stands swallow all bytes from now on, without an end.
    pub fn vanish(&self) {
        self.vanished.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn refuses_connections(&self) -> bool {
        self.refuse_connections.load(Ordering::Relaxed)
    }

    pub(super) fn refuses_tokens(&self) -> bool {
        self.refuse_tokens.load(Ordering::Relaxed)
    }

    /// Why a consumer may not attach now.
    pub(super) fn refuses_receiver(&self) -> Option<Error> {
        let refusal = lock(&self.refuse_receivers).clone();
        refusal.or_else(|| {
            let condition = ErrorCondition::Custom(Symbol::from(SERVER_BUSY));
            Some(Error::new(condition, Some(self.throttled()?), None))
        })
    }

    /// What the service says while it throttles.
    pub(super) fn throttled(&self) -> Option<String> {
        let wait = (*lock(&self.throttle))?;
        Some(format!(
            "The request was terminated because the namespace is being throttled. Error code: \
             50009. Please wait {} seconds and try again.",
            wait.as_secs()
        ))
    }

    /// Whether the answer to a producer's delivery is to be lost.
    pub(super) fn takes_answer(&self) -> bool {
        let one_less = |left: u32| left.checked_sub(1);
        self.lose_answers
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok()
    }

    pub(super) fn are_armed(&self) -> bool {
        self.are_armed.load(Ordering::Acquire)
    }

    /// Takes the break that waits for this step, if it is its turn.
    pub(super) fn take(&self, step: Step) -> Option<Break> {
        if !self.are_armed() {
            return None;
        }
        let mut armed = lock(&self.armed);
        let at = armed.iter().position(|armed| armed.step == step)?;
        if armed[at].after > 0 {
            armed[at].after -= 1;
            return None;
        }
        let taken = armed.remove(at);
        self.are_armed.store(!armed.is_empty(), Ordering::Release);
        self.hits.fetch_add(1, Ordering::AcqRel);
        Some(taken.how)
    }

    pub(super) fn vanished(&self) -> u64 {
        self.vanished.load(Ordering::Acquire)
    }

    /// Returns once answers flow.
    pub(super) async fn answers_flow(&self) {
        wait_for_off(&self.stall_answers).await;
    }

    /// Returns once deliveries flow.
    pub(super) async fn deliveries_flow(&self) {
        wait_for_off(&self.stall_deliveries).await;
    }
}

/// What the service calls its throttling.
pub(super) const SERVER_BUSY: &str = "com.microsoft:server-busy";

/// An error with any condition, by its name on the wire.
pub(super) fn on_purpose(condition: &str) -> Error {
    let condition = ErrorCondition::Custom(Symbol::from(condition));
    Error::new(condition, Some("ended on purpose".to_owned()), None)
}

async fn wait_for_off(switch: &watch::Sender<bool>) {
    let mut state = switch.subscribe();
    state
        .wait_for(|stalled| !stalled)
        .await
        .expect("the switch outlives the borrow");
}

/// Nothing here panics while it holds a lock, so a poisoned one is still sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
