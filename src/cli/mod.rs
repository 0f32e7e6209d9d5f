//! The command line: one file a subcommand, data on standard output, everything else on standard
//! error.

mod check;
mod demo;
mod detectors;
mod emulator;
mod exit;
mod inventory;
mod outbox;
mod output;
mod replay;
mod run;
mod setup;
#[cfg(feature = "emulator")]
mod simulate;
mod status;
#[cfg(feature = "emulator")]
mod traffic;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use exit::Exit;

/// Watches the audit logs of Azure Kubernetes Service and alerts on what is worth waking for.
#[derive(Debug, Parser)]
#[command(name = "lanner", version, max_term_width = 100, after_help = exit::HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show Lanner at work: hub, traffic with attacks in it, daemon and receivers, in one process.
    Demo(demo::Arguments),
    /// Read event hubs and send alerts, until told to stop.
    Run(run::Arguments),
    /// Judge archived logs with the same engine, as fast as they can be read.
    Replay(replay::Arguments),
    /// Say what a daemon is doing: partitions, receivers, what is still learned.
    Status(status::Arguments),
    /// List what waits for receivers and what they never got; try it again, or drop it.
    Outbox(outbox::Arguments),
    /// Check configuration and detectors, and say everything that is wrong with them.
    Check(check::Arguments),
    /// List, show and test detectors, and print the words they are written in.
    Detectors(detectors::Arguments),
    /// What is remembered of clusters' objects: list and show it, or import what kubectl says.
    Inventory(inventory::Arguments),
    /// Write or publish the logs of simulated clusters with attacks in them, and score what is found.
    #[cfg(feature = "emulator")]
    Simulate(simulate::Arguments),
    /// Run an Event Hubs namespace on loopback, for trials and tests.
    Emulator(emulator::Arguments),
}

/// Runs the program on the process's arguments.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Fine
            };
            // Nothing can be done where even this cannot be printed.
            let _ = error.print();
            return code.into();
        }
    };
    let result = match arguments.command {
        Command::Demo(arguments) => demo::run(arguments),
        Command::Run(arguments) => run::run(arguments),
        Command::Replay(arguments) => replay::run(arguments),
        Command::Status(arguments) => status::run(arguments),
        Command::Outbox(arguments) => outbox::run(arguments),
        Command::Check(arguments) => check::run(arguments),
        Command::Detectors(arguments) => detectors::run(arguments),
        Command::Inventory(arguments) => inventory::run(arguments),
        #[cfg(feature = "emulator")]
        Command::Simulate(arguments) => simulate::run(arguments),
        Command::Emulator(arguments) => emulator::run(arguments),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) if output::is_broken_pipe(&error) => Exit::Fine.into(),
        Err(error) => {
            eprintln!("lanner: {error:#}");
            Exit::Unexpected.into()
        }
    }
}
