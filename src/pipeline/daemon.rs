//! The daemon: hubs, pipeline, store and deliveries, started together and stopped in order.
//!
//! This is the one place that spawns what lives as long as the process. A stop goes with the flow:
//! first the sources, then the pipeline with what they had read, then deliveries for as long as the
//! drain allows; what is left waits in the outbox.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::live::{self, Live, Parts, Settings};
use crate::config::Config;
use crate::deliver::{self, ConfigError, Deliveries, Named};
use crate::failpoint::fail_point;
use crate::source::Position;
use crate::source::eventhubs::{HubStatus, Start, read_hub};
use crate::source::pacing::{Limits, Outlet, Pacing};
use crate::store::{Recovered, Store, StoreError};
use crate::wall::Wall;

/// A daemon at work.
pub struct Daemon {
    pub settings: Arc<ArcSwap<Settings>>,
    pub store: Arc<Store>,
    /// One for each `[eventhubs.NAME]`.
    pub hubs: Vec<Arc<HubStatus>>,
    cancel: CancellationToken,
    readers: TaskTracker,
    live: Live,
    deliveries: Deliveries,
}

/// Why a daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the store cannot be opened: {0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Receiver(#[from] ConfigError),
    #[error("a thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// Who hears what the daemon does.
pub struct Observers {
    pub pipeline: Arc<dyn live::Observer>,
    pub deliveries: Arc<dyn deliver::Observer>,
}

impl Daemon {
    /// Opens the store, goes on from what it holds, and starts everything.
    pub async fn start(settings: Settings, observers: Observers) -> Result<Daemon, StartError> {
        let config = settings.config.clone();
        let receivers = receivers(&config)?;
        let store_config = config.store.clone();
        let opened = tokio::task::spawn_blocking(move || Store::open(&store_config)).await;
        let (store, recovered) = match opened {
            Ok(opened) => opened?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        fail_point!("start.recovered");
        let store = Arc::new(store);
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let cancel = CancellationToken::new();
        // Deliveries outlive the sources: they are stopped by name, not by the common token.
        let wall = Arc::new(Wall::new());
        let options = deliver::Options {
            wall: Arc::clone(&wall),
            ..deliver::Options::default()
        };
        let deliveries = deliver::start(
            Arc::clone(&store),
            receivers,
            observers.deliveries,
            options,
            &CancellationToken::new(),
        );
        let (batches_in, batches) = mpsc::channel(config.pipeline.queue_batches.max(1) as usize);
        let pacing = Arc::new(Pacing::new(Limits {
            ahead: config.pipeline.max_ahead.signed(),
            pause: config.pipeline.max_pause.into(),
            patience: Limits::PATIENCE,
            unheard: Limits::UNHEARD,
        }));
        for (name, hub) in &config.eventhubs {
            pacing.expect(hub.source(name));
        }
        let parts = Parts {
            pacing: Arc::clone(&pacing),
            settings: Arc::clone(&settings),
            store: Arc::clone(&store),
            batches,
            wake: deliveries.wake(),
            wall,
            observer: observers.pipeline,
        };
        let live = Live::start(parts, &recovered)?;
        let readers = TaskTracker::new();
        let mut hubs = Vec::new();
        for (name, hub) in &config.eventhubs {
            let status = Arc::new(HubStatus::new(name.as_str()));
            hubs.push(Arc::clone(&status));
            let (name, mut hub) = (name.clone(), hub.clone());
            if recovered.damage.is_some() {
                // Where no position is known any more, one was: beginning at the latest would skip
                // what came since.
                hub.start = Start::Earliest;
            }
            let positions = positions_of(&recovered, &hub.source(&name));
            let cancel = cancel.clone();
            let outlet = Outlet {
                batches: batches_in.clone(),
                pacing: Some(Arc::clone(&pacing)),
            };
            readers.spawn(async move {
                read_hub(&name, hub, positions, outlet, status, cancel).await;
            });
        }
        readers.close();
        fail_point!("start.running");
        Ok(Daemon {
            settings,
            store,
            hubs,
            cancel,
            readers,
            live,
            deliveries,
        })
    }

    /// Whether the pipeline ended without being told to: nothing is read any more, and only a new
    /// start can change that.
    pub fn is_broken(&self) -> bool {
        self.live.has_ended()
    }

    /// Stops in the order of the flow. Each part has its own bound, so that a stop always ends.
    pub async fn stop(self) {
        let drain: Duration = self.settings.load().config.pipeline.drain_timeout.into();
        fail_point!("stop.before");
        self.cancel.cancel();
        if tokio::time::timeout(drain, self.readers.wait())
            .await
            .is_err()
        {
            tracing::warn!("a hub's reader did not stop in time");
        }
        fail_point!("stop.read");
        let live = self.live;
        let joined = tokio::task::spawn_blocking(move || live.join(drain)).await;
        if joined.is_err() {
            tracing::error!("the pipeline did not stop as it should");
        }
        fail_point!("stop.judged");
        self.deliveries.join(drain).await;
    }
}

fn positions_of(recovered: &Recovered, source: &str) -> HashMap<String, Position> {
    recovered
        .positions
        .iter()
        .filter(|(partition, _)| &*partition.source == source)
        .map(|(partition, position)| (partition.id.to_string(), *position))
        .collect()
}

/// Every configured receiver under the name that routes say.
pub fn receivers(config: &Config) -> Result<Vec<Named>, ConfigError> {
    let mut receivers = config.deliver.make()?;
    if config.stdout.enabled {
        receivers.push((
            "stdout".to_owned(),
            Box::new(deliver::stdout::Stdout::new()),
        ));
    }
    Ok(receivers)
}
