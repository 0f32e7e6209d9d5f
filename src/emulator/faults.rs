//! What goes wrong on purpose: switches that tests set while the emulator runs.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// The switches of one emulator; all are off at the start.
#[derive(Debug)]
pub struct Faults {
    refuse_connections: AtomicBool,
    refuse_tokens: AtomicBool,
    stall_answers: watch::Sender<bool>,
    stall_deliveries: watch::Sender<bool>,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            refuse_connections: AtomicBool::new(false),
            refuse_tokens: AtomicBool::new(false),
            stall_answers: watch::Sender::new(false),
            stall_deliveries: watch::Sender::new(false),
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

    pub(super) fn refuses_connections(&self) -> bool {
        self.refuse_connections.load(Ordering::Relaxed)
    }

    pub(super) fn refuses_tokens(&self) -> bool {
        self.refuse_tokens.load(Ordering::Relaxed)
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

async fn wait_for_off(switch: &watch::Sender<bool>) {
    let mut state = switch.subscribe();
    state
        .wait_for(|stalled| !stalled)
        .await
        .expect("the switch outlives the borrow");
}
