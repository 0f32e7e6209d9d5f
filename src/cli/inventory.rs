//! `lanner inventory`: what the daemon remembers of clusters' objects, and what a person adds to it.
//!
//! Reads the store beside a running daemon; writes to it only while no daemon holds it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use super::Exit;
use super::output::{Format, JsonWriter};
use super::setup::{self, Setup};
use crate::alert::escape::printable;
use crate::config::Config;
use crate::detect::inventory::import::{Import, Imported};
use crate::detect::inventory::object::{Kind, Subject};
use crate::detect::inventory::show::{Reach, Row};
use crate::detect::inventory::{EVERY_CLUSTER, Inventory};
use crate::detect::load::Tests;
use crate::detect::order::Learning;
use crate::pipeline::memory::Memory;
use crate::store::{Commit, Store};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take in what `kubectl get -o json` says of a cluster, while the daemon is stopped.
    Import(ImportArguments),
    /// List what is known: roles, bindings, service accounts, pods, namespaces, network policies.
    List(ListArguments),
    /// Show an object, or what a subject can do: User:NAME, Group:NAME, ServiceAccount:NS/NAME.
    Show(ShowArguments),
}

#[derive(Debug, Args)]
struct ImportArguments {
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The cluster's name in the configuration, or its ARM id.
    #[arg(long, value_name = "CLUSTER")]
    cluster: String,
    /// When it was so (RFC 3339); default: now.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// The files hold every object of their kinds, and all network policies: others are gone.
    #[arg(long)]
    complete: bool,
    /// A List or single objects, as JSON; `-` for standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
struct ListArguments {
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only this cluster: its name in the configuration, or its ARM id.
    #[arg(long, value_name = "CLUSTER")]
    cluster: Option<String>,
    /// Only this kind: role, binding, serviceaccount, pod, namespace or networkpolicy.
    #[arg(long, value_name = "KIND", value_parser = parse_kind)]
    kind: Option<Kind>,
    #[arg(long, value_enum)]
    format: Option<Format>,
}

#[derive(Debug, Args)]
struct ShowArguments {
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[arg(long, value_name = "CLUSTER")]
    cluster: Option<String>,
    /// A subject, or an object's NAME or NAMESPACE/NAME.
    #[arg(value_name = "WHAT")]
    what: String,
    #[arg(long, value_enum)]
    format: Option<Format>,
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == text);
    kind.ok_or_else(|| {
        let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        format!("one of {}", names.join(", "))
    })
}

pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    match arguments.command {
        Command::Import(arguments) => import(&arguments),
        Command::List(arguments) => list(&arguments),
        Command::Show(arguments) => show(&arguments),
    }
}

/// A cluster as the inventory knows it: a configured name's ARM id, else the text itself.
fn cluster_id(config: &Config, cluster: &str) -> String {
    match config.cluster.get(cluster) {
        Some(cluster) => cluster.arm_id.to_lowercase(),
        None => cluster.to_lowercase(),
    }
}

/// What replay is given: `CLUSTER=FILE`, or `FILE` for every cluster of the archive.
pub fn for_replay(
    inventory: &mut Inventory,
    config: &Config,
    arguments: &[String],
) -> anyhow::Result<()> {
    for argument in arguments {
        let (cluster, file) = match argument.split_once('=') {
            Some((cluster, file)) => (cluster_id(config, cluster), file),
            None => (EVERY_CLUSTER.to_owned(), argument.as_str()),
        };
        let import = Import {
            cluster: &cluster,
            at: Timestamp::now(),
            complete: false,
            base: true,
        };
        let imported = take(inventory, config, Path::new(file), &import)?;
        eprintln!("{}: {}", printable(file), counted(&imported));
    }
    Ok(())
}

fn take(
    inventory: &mut Inventory,
    config: &Config,
    file: &Path,
    import: &Import<'_>,
) -> anyhow::Result<Imported> {
    let text = read(file)?;
    let sites = config.sites();
    inventory
        .import(&text, sites.of(import.cluster), import)
        .with_context(|| format!("{} is not what kubectl writes", file.display()))
}

/// The text of the file, or of standard input.
fn read(file: &Path) -> anyhow::Result<String> {
    let text = if file == Path::new("-") {
        io::read_to_string(io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    text.with_context(|| format!("{} cannot be read", file.display()))
}

fn counted(imported: &Imported) -> String {
    let mut parts: Vec<String> = Kind::ALL
        .iter()
        .zip(imported.taken)
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("{count} {}", kind.as_str()))
        .collect();
    if imported.passed > 0 {
        parts.push(format!("{} of other kinds passed over", imported.passed));
    }
    if parts.is_empty() {
        parts.push("no object".to_owned());
    }
    parts.join(", ")
}

fn load(config: Option<&Path>) -> Result<Setup, Exit> {
    setup::load(config, Tests::LeaveOut)
}

fn import(arguments: &ImportArguments) -> anyhow::Result<Exit> {
    let setup = match load(arguments.config.as_deref()) {
        Ok(setup) => setup,
        Err(exit) => return Ok(exit),
    };
    let config = setup.config();
    let cluster = cluster_id(config, &arguments.cluster);
    if !cluster.starts_with('/') {
        eprintln!(
            "lanner: `{}` is no cluster of the configuration, and no ARM id",
            printable(&arguments.cluster)
        );
        return Ok(Exit::Usage);
    }
    let (store, recovered) = Store::open(&config.store)
        .context("the store cannot be opened; the daemon must be stopped for an import")?;
    let (mut memory, is_whole) = Memory::recover(&recovered, Learning::Own, None);
    anyhow::ensure!(
        is_whole,
        "the state in the store cannot be read whole; let `lanner run` write it anew first"
    );
    let import = Import {
        cluster: &cluster,
        at: arguments.at.unwrap_or_else(Timestamp::now),
        complete: arguments.complete,
        base: false,
    };
    // One file after the other: what one lacks the next may have.
    let mut texts = Vec::new();
    for file in &arguments.files {
        texts.push(read(file)?);
    }
    let sites = config.sites();
    let inventory = memory.judge.inventory_mut();
    let imported = inventory
        .import(&texts.join("\n"), sites.of(&cluster), &import)
        .context("the files are not what kubectl writes; nothing was imported")?;
    let delta = memory.take_delta();
    store.commit(&Commit {
        delta,
        ..Commit::default()
    })?;
    println!("{}", counted(&imported));
    Ok(Exit::Fine)
}

/// What is in the store, also beside a running daemon, and the id of the cluster that is asked for.
fn recall(
    config: Option<&Path>,
    cluster: Option<&str>,
) -> anyhow::Result<Result<(Memory, Option<String>), Exit>> {
    let setup = match load(config) {
        Ok(setup) => setup,
        Err(exit) => return Ok(Err(exit)),
    };
    let config = setup.config();
    let recovered = Store::peek(&config.store)?;
    let (memory, is_whole) = Memory::recover(&recovered, Learning::Own, None);
    if !is_whole {
        eprintln!("lanner: the state in the store cannot be read whole; what could be is shown");
    }
    let cluster = cluster.map(|name| cluster_id(config, name));
    Ok(Ok((memory, cluster)))
}

/// What a command answers, in one object.
#[derive(Serialize)]
struct Answer<'a> {
    cluster: &'a Reach,
    #[serde(skip_serializing_if = "Option::is_none")]
    rights: Option<String>,
    objects: Vec<&'a Row>,
}

fn list(arguments: &ListArguments) -> anyhow::Result<Exit> {
    let (memory, cluster) = match recall(arguments.config.as_deref(), arguments.cluster.as_deref())?
    {
        Ok(recalled) => recalled,
        Err(exit) => return Ok(exit),
    };
    let inventory = memory.judge.inventory();
    let wanted = |name: &str| cluster.as_ref().is_none_or(|wanted| wanted == name);
    let (reaches, rows) = (
        inventory.reaches(wanted),
        inventory.rows(wanted, arguments.kind),
    );
    print(
        &reaches,
        &rows,
        |_| None,
        Format::or_default(arguments.format),
    )?;
    Ok(Exit::Fine)
}

fn show(arguments: &ShowArguments) -> anyhow::Result<Exit> {
    let (memory, cluster) = match recall(arguments.config.as_deref(), arguments.cluster.as_deref())?
    {
        Ok(recalled) => recalled,
        Err(exit) => return Ok(exit),
    };
    let inventory = memory.judge.inventory();
    let wanted = |name: &str| cluster.as_ref().is_none_or(|wanted| wanted == name);
    let what = arguments.what.as_str();
    let subject = match what.split_once(':') {
        Some(("User", name)) => Some(Subject::user(name)),
        Some(("Group", name)) => Some(Subject::Group(name.into())),
        Some(("ServiceAccount", account)) => account
            .split_once('/')
            .map(|(namespace, name)| Subject::ServiceAccount(namespace.into(), name.into())),
        _ => None,
    };
    let rows = match &subject {
        // The bindings of a subject say where its rights come from.
        Some(subject) => inventory.rows_to(wanted, subject),
        None => {
            let mut rows = inventory.rows(wanted, None);
            rows.retain(|row| {
                row.name == what || format!("{}/{}", row.namespace, row.name) == what
            });
            rows
        }
    };
    let reaches = inventory.reaches(wanted);
    let rights = |reach: &Reach| inventory.rights_text(&reach.cluster, subject.as_ref()?);
    print(
        &reaches,
        &rows,
        rights,
        Format::or_default(arguments.format),
    )?;
    Ok(Exit::Fine)
}

fn print(
    reaches: &[Reach],
    rows: &[Row],
    rights: impl Fn(&Reach) -> Option<String>,
    format: Format,
) -> anyhow::Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    if format != Format::Table {
        let mut json = JsonWriter::new(out, format);
        for reach in reaches {
            json.write(&Answer {
                cluster: reach,
                rights: rights(reach),
                objects: rows
                    .iter()
                    .filter(|row| row.cluster == reach.cluster)
                    .collect(),
            })?;
        }
        return Ok(json.finish()?);
    }
    for reach in reaches {
        writeln!(out, "{}", printable(&reach.text()))?;
        if let Some(rights) = rights(reach) {
            let rights = if rights.is_empty() {
                "nothing that is known"
            } else {
                &rights
            };
            writeln!(out, "  can {}", printable(rights))?;
        }
        for row in rows.iter().filter(|row| row.cluster == reach.cluster) {
            let name = match row.namespace.as_str() {
                "" => row.name.clone(),
                namespace => format!("{namespace}/{}", row.name),
            };
            let what = printable(&row.what);
            writeln!(out, "  {:<18} {:<44} {what}", row.kind, printable(&name))?;
        }
    }
    if reaches.is_empty() {
        writeln!(out, "nothing is known of such a cluster")?;
    }
    out.flush()?;
    Ok(())
}
