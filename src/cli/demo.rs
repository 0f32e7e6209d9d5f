//! `lanner run`.

use clap::Args;

use super::Exit;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Where to listen.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1")]
    listen: std::net::SocketAddr,
}

pub fn run(_arguments: Arguments) -> anyhow::Result<Exit> {
    anyhow::bail!("not built")
}
