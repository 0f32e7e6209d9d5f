//! `lanner run`: the daemon.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, setup};
use crate::alert::Kind;
use crate::config::{Config, Profile};
use crate::detect::{Detector, Engine};
use crate::pipeline::daemon::{Daemon, Observers, StartError};
use crate::pipeline::live::Settings;

#[derive(Debug, Args)]
pub struct Arguments {
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let setup = match setup::load(Some(&arguments.config)) {
        Ok(setup) => setup,
        Err(exit) => return Ok(exit),
    };
    setup::print(&setup.warnings);
    if setup.config.eventhubs.is_empty() {
        eprintln!(
            "lanner: {} names no hub; add [eventhubs.NAME] with `namespace` and `hub`",
            arguments.config.display()
        );
        return Ok(Exit::Configuration);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let exit = runtime.block_on(serve(setup, arguments.config));
    runtime.shutdown_timeout(Duration::from_secs(1));
    exit
}

/// What the daemon runs with, of a loaded set-up.
pub fn settings(setup: setup::Setup) -> Settings {
    let engine = engine(&setup.config, setup.detectors, setup.sites);
    Settings {
        config: setup.config,
        engine,
    }
}

fn engine(
    config: &Config,
    mut detectors: Vec<Detector>,
    sites: crate::event::Sites,
) -> Arc<Engine> {
    if config.alert.profile == Profile::Default {
        detectors.retain(|detector| detector.kind != Kind::Hygiene);
    }
    Arc::new(Engine::new(detectors, sites))
}

async fn serve(setup: setup::Setup, _path: PathBuf) -> anyhow::Result<Exit> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let observers = Observers {
        pipeline: Arc::new(Quiet),
        deliveries: Arc::new(Quiet),
    };
    let daemon = match Daemon::start(settings(setup), observers).await {
        Ok(daemon) => daemon,
        Err(error @ StartError::Receiver(_)) => {
            eprintln!("lanner: {error}");
            return Ok(Exit::Configuration);
        }
        Err(error) => return Err(error.into()),
    };
    tokio::select! {
        _ = terminate.recv() => tracing::info!("told to stop"),
        _ = interrupt.recv() => tracing::info!("interrupted"),
    }
    tokio::select! {
        () = daemon.stop() => {}
        _ = terminate.recv() => std::process::exit(143),
        _ = interrupt.recv() => std::process::exit(130),
    }
    Ok(Exit::Fine)
}

struct Quiet;
impl crate::pipeline::live::Observer for Quiet {}
impl crate::deliver::Observer for Quiet {}
