//! `lanner run`: the daemon.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Exit;
use super::setup::{self, Setup};
use crate::config::reload::Watcher;
use crate::config::{Diagnostic, Loaded};
use crate::detect::load::Tests;
use crate::failpoint::fail_point;
use crate::pipeline::daemon::{Daemon, Observers, StartError};
use crate::telemetry::server::Server;
use crate::telemetry::{Health, Metrics, Observer, logs};

/// How often it is seen whether the pipeline still is there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub struct Arguments {
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let setup = match setup::load(Some(&arguments.config), Tests::LeaveOut) {
        Ok(setup) => setup,
        Err(exit) => return Ok(exit),
    };
    setup::print(&setup.warnings);
    if setup.loaded.config.eventhubs.is_empty() {
        eprintln!(
            "lanner: {} names no hub; add [eventhubs.NAME] with `namespace` and `hub`",
            arguments.config.display()
        );
        return Ok(Exit::Configuration);
    }
    if let Err(error) = logs::init(&setup.config().telemetry) {
        eprintln!("lanner: {error}");
        return Ok(Exit::Configuration);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let exit = runtime.block_on(serve(setup, &arguments.config));
    runtime.shutdown_timeout(Duration::from_secs(1));
    exit
}

async fn serve(setup: Setup, path: &Path) -> anyhow::Result<Exit> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut watcher = Watcher::new(path, &setup.loaded)?;
    let telemetry = setup.loaded.config.telemetry.clone();
    let metrics = Arc::new(Metrics::new(telemetry.latency_window.into()));
    let observer = Arc::new(Observer::new(Arc::clone(&metrics), Health::new()));
    let settings = setup.into_settings();
    observer.expect(&settings.config, &settings.engine);
    observer.starting(&settings.config);

    let end = CancellationToken::new();
    let health = observer.health.clone();
    let server = Server::start(telemetry.listen, metrics, health, end.clone()).await;
    let server = server.with_context(|| format!("telemetry.listen = {}", telemetry.listen))?;
    let observers = Observers {
        pipeline: observer.clone(),
        deliveries: observer.clone(),
    };
    let daemon = match Daemon::start(settings, observers).await {
        Ok(daemon) => daemon,
        Err(error @ StartError::Receiver(_)) => {
            eprintln!("lanner: {error}");
            return Ok(Exit::Configuration);
        }
        Err(error) => return Err(error.into()),
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), health = %server.address(), "started");
    {
        let watch = observer.watch(&daemon, end.clone());
        tokio::pin!(watch);
        loop {
            tokio::select! {
                () = &mut watch => break,
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                changed = watcher.changed() => reload(&daemon, &observer, changed),
                () = broken(&daemon) => break,
            }
        }
    }
    let is_broken = daemon.is_broken();
    tracing::info!("stopping; a second signal ends at once");
    tokio::select! {
        () = daemon.stop() => {}
        _ = terminate.recv() => std::process::exit(143),
        _ = interrupt.recv() => std::process::exit(130),
    }
    end.cancel();
    server.join().await;
    tracing::info!("stopped");
    if is_broken {
        anyhow::bail!(
            "the pipeline cannot go on; what it had committed is safe, and a new start reads on from there"
        );
    }
    Ok(Exit::Fine)
}

/// Waits until the pipeline has ended by itself.
async fn broken(daemon: &Daemon) {
    while !daemon.is_broken() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Takes over detectors, lists, routes and exceptions of a changed configuration, or none of it.
/// Hubs, receivers and the store are kept as they were started: those need a restart, and are said.
fn reload(daemon: &Daemon, observer: &Observer, changed: Result<Box<Loaded>, Vec<Diagnostic>>) {
    let setup = match changed.and_then(|loaded| setup::with_detectors(*loaded, Tests::LeaveOut)) {
        Ok(setup) => setup,
        Err(problems) => {
            observer.metrics.reloaded(false);
            for problem in &problems {
                tracing::error!("the changed configuration is refused: {problem}");
            }
            return;
        }
    };
    fail_point!("reload.before");
    let running = daemon.settings.load();
    let mut settings = setup.into_settings();
    if settings.config.needs_restart(&running.config) {
        tracing::warn!(
            "hubs, receivers, store, pipeline and listeners stay as they are until a restart"
        );
        settings.config.keep_started(&running.config);
    }
    observer.expect(&settings.config, &settings.engine);
    daemon.settings.store(Arc::new(settings));
    observer.metrics.reloaded(true);
    fail_point!("reload.after");
    tracing::info!("the changed configuration is in use");
}
