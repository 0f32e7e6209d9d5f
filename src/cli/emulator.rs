//! `lanner emulator`: an Event Hubs namespace on loopback.

use clap::Args;

use super::Exit;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5672")]
    listen: std::net::SocketAddr,
    /// A hub and its number of partitions; may be repeated.
    #[arg(long, value_name = "NAME=PARTITIONS", default_value = "audit=4")]
    hub: Vec<String>,
    /// A certificate chain in PEM: with it, TLS and WebSockets are taken on the same port.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<std::path::PathBuf>,
    /// The certificate's key in PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<std::path::PathBuf>,
}

#[cfg(feature = "emulator")]
pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    use tokio::signal::unix::{SignalKind, signal};
    use tokio_util::sync::CancellationToken;

    use anyhow::Context;

    use crate::emulator::{Certificate, HubConfig, run_cli};

    let mut hubs = Vec::new();
    for hub in &arguments.hub {
        let parsed = hub
            .split_once('=')
            .and_then(|(name, partitions)| Some((name, partitions.parse::<u32>().ok()?)))
            .filter(|(name, partitions)| !name.is_empty() && (1..=1024).contains(partitions));
        let Some((name, partitions)) = parsed else {
            eprintln!("lanner: `{hub}` is no hub; write one as audit=4");
            return Ok(Exit::Usage);
        };
        hubs.push(HubConfig::new(name, partitions));
    }
    let read = |path: &std::path::Path| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let certificate = match (&arguments.certificate, &arguments.key) {
        (Some(chain), Some(key)) => Some(Certificate {
            chain: read(chain)?,
            key: read(key)?,
        }),
        _ => None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            served = run_cli(arguments.listen, hubs, certificate, cancel) => served?,
            _ = tokio::signal::ctrl_c() => stop.cancel(),
            _ = terminate.recv() => stop.cancel(),
        }
        Ok(Exit::Fine)
    })
}

#[cfg(not(feature = "emulator"))]
pub fn run(_arguments: Arguments) -> anyhow::Result<Exit> {
    eprintln!("lanner: this build has no emulator; build it with the feature `emulator`");
    Ok(Exit::Usage)
}
