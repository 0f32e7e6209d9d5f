//! `lanner demo`: everything in one process, with nothing installed.
//!
//! ```text
//! simulator → producer (AMQP) → emulator → daemon (AMQP) → webhook, e-mail → terminal
//!     └──────────────────── truth ───────────────────────────────→ compared ──┘
//! ```
//!
//! The daemon is the one that `lanner run` starts; only the hub and the receivers are ours, on
//! loopback. The demo ends with 0 only if every attack was alerted, each notification came once to
//! each receiver, and ordinary traffic raised nothing.

use std::time::Duration;

use clap::Args;

use super::Exit;

#[cfg(feature = "emulator")]
mod receivers;
#[cfg(feature = "emulator")]
mod report;
#[cfg(feature = "emulator")]
mod run;

/// Records a second: what a release build on two cores takes with much to spare; a debug build is
/// slower by far.
const RATE: &str = if cfg!(debug_assertions) {
    "800"
} else {
    "3000"
};

#[derive(Debug, Args)]
pub struct Arguments {
    /// How long traffic flows, as 30s or 2m; without it, until Ctrl-C.
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    lasts: Option<Duration>,
    /// Chooses clusters, people, traffic and attacks; the same number gives the same ones.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Records a second, of all clusters together.
    #[arg(long, value_name = "N", default_value = RATE, value_parser = clap::value_parser!(u32).range(50..=50_000))]
    rate: u32,
}

/// Attacks need some seconds to unfold.
fn time(text: &str) -> Result<Duration, String> {
    let lasts = Duration::try_from(crate::config::duration::parse(text)?)
        .map_err(|_| "a time cannot be negative".to_owned())?;
    if lasts < Duration::from_secs(5) {
        return Err("too short to show anything; 5s at least".to_owned());
    }
    Ok(lasts)
}

#[cfg(feature = "emulator")]
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let exit = runtime.block_on(run::run(&arguments));
    runtime.shutdown_timeout(Duration::from_secs(1));
    exit
}

#[cfg(not(feature = "emulator"))]
pub fn run(_arguments: Arguments) -> anyhow::Result<Exit> {
    eprintln!("lanner: this build has no demo; build it with the feature `emulator`");
    Ok(Exit::Usage)
}
