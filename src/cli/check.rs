//! `lanner check`: everything that is wrong with configuration and detectors, at once.

use std::path::PathBuf;

use clap::Args;

use super::{Exit, setup};
use crate::detect::load::Tests;

#[derive(Debug, Args)]
pub struct Arguments {
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let setup = match setup::load(arguments.config.as_deref(), Tests::Read) {
        Ok(setup) => setup,
        Err(exit) => return Ok(exit),
    };
    setup::print(&setup.warnings);
    let enabled = setup
        .detectors
        .iter()
        .filter(|detector| detector.enabled)
        .count();
    println!(
        "{enabled} detectors, {} of them off",
        setup.detectors.len() - enabled
    );
    for (name, hub) in &setup.config().eventhubs {
        println!("eventhubs.{name}: {} as {}", hub.hub, hub.consumer_group);
    }
    for receiver in setup.config().receivers() {
        println!("receiver {receiver}");
    }
    for detector in &setup.detectors {
        if let Some(when) = &detector.matching.when {
            println!("{}: condition of {} nodes", detector.id, when.nodes());
        }
    }
    println!("the configuration is right");
    Ok(Exit::Fine)
}
