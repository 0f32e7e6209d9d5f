//! Whether the daemon lives and is ready, by component, with reasons.
//!
//! Components say their state when it changes; a loop that must not stall beats. Shown by
//! [`super::server`] as `/livez` and `/readyz`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

/// How a component is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not ready yet, with what it waits for.
    Starting(String),
    Ready,
    /// It works, and something wants a look: a receiver that does not answer.
    Degraded(String),
    /// It does not work, and the daemon is not ready for it.
    Failed(String),
}

impl State {
    fn is_ready(&self) -> bool {
        matches!(self, State::Ready | State::Degraded(_))
    }

    fn name(&self) -> &'static str {
        match self {
            State::Starting(_) => "starting",
            State::Ready => "ready",
            State::Degraded(_) => "degraded",
            State::Failed(_) => "failed",
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            State::Ready => None,
            State::Starting(reason) | State::Degraded(reason) | State::Failed(reason) => {
                Some(reason)
            }
        }
    }
}

/// The states of all components; clones share them.
#[derive(Debug, Clone)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    components: Mutex<BTreeMap<String, Component>>,
    beats: Mutex<BTreeMap<&'static str, Arc<Beat>>>,
}

#[derive(Debug)]
struct Component {
    state: State,
    since: Timestamp,
}

#[derive(Debug)]
struct Beat {
    /// Milliseconds since `Inner::began`.
    last: AtomicU64,
    at_most: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Health::new()
    }
}

impl Health {
    /// Without components; that is not ready.
    pub fn new() -> Health {
        Health(Arc::new(Inner {
            began: Instant::now(),
            components: Mutex::default(),
            beats: Mutex::default(),
        }))
    }

    /// Says how a component (`store`, `eventhubs.prod`, `webhook.soc`) is.
    pub fn set(&self, component: &str, state: State) {
        let mut components = self.components();
        match components.get_mut(component) {
            Some(known) if known.state == state => {}
            Some(known) => {
                // A new reason does not begin a new state.
                if known.state.name() != state.name() {
                    known.since = Timestamp::now();
                }
                known.state = state;
            }
            None => {
                let since = Timestamp::now();
                components.insert(component.to_owned(), Component { state, since });
            }
        }
    }

    /// What was starting is ready; of what has failed since, nothing changes.
    pub fn started(&self, component: &str) {
        if let Some(known) = self.components().get_mut(component)
            && matches!(known.state, State::Starting(_))
        {
            *known = Component {
                state: State::Ready,
                since: Timestamp::now(),
            };
        }
    }

    pub fn is_ready(&self) -> bool {
        let components = self.components();
        !components.is_empty() && components.values().all(|c| c.state.is_ready())
    }

    /// A loop that must beat at least every `at_most`, or the daemon counts as dead. It stops
    /// counting when the [`Heartbeat`] is dropped.
    pub fn heartbeat(&self, name: &'static str, at_most: Duration) -> Heartbeat {
        let beat = Arc::new(Beat {
            last: AtomicU64::new(self.millis()),
            at_most,
        });
        lock(&self.0.beats).insert(name, beat.clone());
        Heartbeat {
            health: self.clone(),
            name,
            beat,
        }
    }

    /// The loops that stall, with the time since their last beat.
    pub fn stalled(&self) -> Vec<(&'static str, Duration)> {
        let now = self.millis();
        lock(&self.0.beats)
            .iter()
            .filter_map(|(name, beat)| {
                let silent = now.saturating_sub(beat.last.load(Ordering::Relaxed));
                let silent = Duration::from_millis(silent);
                (silent > beat.at_most).then_some((*name, silent))
            })
            .collect()
    }

    /// For `/readyz`.
    pub(super) fn report(&self) -> Report {
        let components: BTreeMap<String, Entry> = self
            .components()
            .iter()
            .map(|(name, component)| {
                let entry = Entry {
                    state: component.state.name(),
                    since: component.since,
                    reason: component.state.reason().map(bounded),
                };
                (name.clone(), entry)
            })
            .collect();
        Report {
            ready: self.is_ready(),
            components,
        }
    }

    fn millis(&self) -> u64 {
        let since = Instant::now().saturating_duration_since(self.0.began);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn components(&self) -> MutexGuard<'_, BTreeMap<String, Component>> {
        lock(&self.0.components)
    }
}

/// Kept by a loop that must not stall.
#[derive(Debug)]
pub struct Heartbeat {
    health: Health,
    name: &'static str,
    beat: Arc<Beat>,
}

impl Heartbeat {
    pub fn beat(&self) {
        self.beat
            .last
            .store(self.health.millis(), Ordering::Relaxed);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        lock(&self.health.0.beats).remove(self.name);
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub ready: bool,
    components: BTreeMap<String, Entry>,
}

#[derive(Debug, Serialize)]
struct Entry {
    state: &'static str,
    since: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Reasons may quote what a server said.
fn bounded(reason: &str) -> String {
    const LONGEST: usize = 500;
    match reason.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason.to_owned(),
    }
}

/// Nothing is left half done under these locks, so a poisoned one is as good as another.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
