//! `lanner outbox`: what waits for receivers and what they never got, and a person's say in it.
//!
//! Works on the store of a daemon that runs as on that of one that does not: SQLite keeps them apart,
//! and the daemon looks every half minute, and with each new alert, for what was changed.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use super::Exit;
use super::output::{Format, JsonWriter};
use super::setup;
use crate::alert::Severity;
use crate::alert::escape::{bounded, printable};
use crate::config;
use crate::store::{Entry, Inspector, Place, StoreConfig};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    store: WhichStore,
    #[arg(long, value_enum, global = true)]
    format: Option<Format>,
    #[command(subcommand)]
    command: Command,
}

/// Where the store lies.
#[derive(Debug, Args)]
pub struct WhichStore {
    /// Configuration, for `store.path`.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// The store's folder, in place of a configuration.
    #[arg(long, value_name = "FOLDER", global = true, conflicts_with = "config")]
    pub store: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One line a notification, oldest first: those that wait, and dead letters.
    List {
        /// Of this receiver alone: `webhook.soc`.
        #[arg(long, value_name = "NAME")]
        receiver: Option<String>,
        /// Only what waits.
        #[arg(long, conflicts_with = "dead")]
        pending: bool,
        /// Only dead letters.
        #[arg(long)]
        dead: bool,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 1000)]
        limit: usize,
    },
    /// Try notifications now, whatever their receiver's pauses; dead letters live again.
    Retry(Which),
    /// Delete notifications and dead letters for good.
    Drop(Which),
}

#[derive(Debug, Args)]
struct Which {
    /// Numbers, as `list` shows them.
    #[arg(value_name = "ID", required_unless_present_any = ["pending", "dead"], conflicts_with_all = ["pending", "dead", "receiver"])]
    ids: Vec<i64>,
    /// All that wait.
    #[arg(long)]
    pending: bool,
    /// All dead letters.
    #[arg(long)]
    dead: bool,
    /// Of this receiver alone.
    #[arg(long, value_name = "NAME")]
    receiver: Option<String>,
}

pub fn run(arguments: Arguments) -> anyhow::Result<Exit> {
    let mut inspector = match open(&arguments.store)? {
        Ok(inspector) => inspector,
        Err(exit) => return Ok(exit),
    };
    let format = Format::or_default(arguments.format);
    match arguments.command {
        Command::List {
            receiver,
            pending,
            dead,
            limit,
        } => {
            // Which of both is wanted is not the store's to know, so that the bound comes after.
            let all = inspector.list(receiver.as_deref(), usize::MAX >> 1)?;
            let wanted = all.into_iter().filter(|entry| match entry.place {
                Place::Pending => !dead,
                Place::Dead => !pending,
            });
            print(wanted.take(limit), format)?;
            Ok(Exit::Fine)
        }
        Command::Retry(which) => {
            let (ids, asked) = which.numbers(&inspector)?;
            let done = inspector.retry_all(&ids)?;
            eprintln!("{done} due now; a daemon that runs tries them within half a minute");
            Ok(verdict(done, asked))
        }
        Command::Drop(which) => {
            let (ids, asked) = which.numbers(&inspector)?;
            let done = inspector.drop_all(&ids)?;
            eprintln!("{done} deleted");
            Ok(verdict(done, asked))
        }
    }
}

/// The store that is asked for, or the exit code after saying what is wrong.
pub fn open(which: &WhichStore) -> anyhow::Result<Result<Inspector, Exit>> {
    let store = match &which.store {
        Some(path) => StoreConfig {
            path: path.clone(),
            ..config::Config::defaults().store
        },
        None => match config::load(which.config.as_deref()) {
            Ok(loaded) => loaded.config.store,
            Err(problems) => {
                setup::print(&problems);
                return Ok(Err(Exit::Configuration));
            }
        },
    };
    Ok(Ok(Inspector::open(&store)?))
}

impl Which {
    /// The notifications meant, and whether they were named one by one.
    fn numbers(self, inspector: &Inspector) -> anyhow::Result<(Vec<i64>, Option<usize>)> {
        if !self.ids.is_empty() {
            let asked = self.ids.len();
            return Ok((self.ids, Some(asked)));
        }
        let receiver = self.receiver.as_deref();
        let mut ids = Vec::new();
        if self.pending {
            ids.extend(inspector.numbers(Place::Pending, receiver)?);
        }
        if self.dead {
            ids.extend(inspector.numbers(Place::Dead, receiver)?);
        }
        Ok((ids, None))
    }
}

/// One that is named and not there was delivered, or never was.
fn verdict(done: usize, asked: Option<usize>) -> Exit {
    match asked {
        Some(asked) if done < asked => {
            eprintln!("lanner: {} are not there (any more)", asked - done);
            Exit::Unexpected
        }
        _ => Exit::Fine,
    }
}

/// What `list` says of a notification.
#[derive(Serialize)]
struct Row<'e> {
    id: i64,
    state: &'static str,
    receiver: &'e str,
    notification_id: &'e str,
    severity: Severity,
    summary: &'e str,
    created: Timestamp,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    died: Option<Timestamp>,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'e str,
}

impl<'e> Row<'e> {
    fn new(entry: &'e Entry, summary: &'e str) -> Row<'e> {
        let is_dead = entry.place == Place::Dead;
        Row {
            id: entry.seq,
            state: if is_dead { "dead" } else { "pending" },
            receiver: &entry.receiver,
            notification_id: &entry.notification_id,
            severity: entry.severity,
            summary,
            created: entry.created,
            attempts: entry.attempts,
            next_attempt: (!is_dead).then_some(entry.at),
            died: is_dead.then_some(entry.at),
            error: &entry.error,
        }
    }
}

fn print(entries: impl Iterator<Item = Entry>, format: Format) -> io::Result<()> {
    #[derive(serde::Deserialize)]
    struct Body {
        summary: String,
    }
    let mut out = io::stdout().lock();
    let table = format == Format::Table;
    if table {
        writeln!(
            out,
            "{:>6}  {:<7}  {:<20}  {:<8}  {:<20}  {:>5}  SUMMARY",
            "ID", "STATE", "RECEIVER", "SEVERITY", "CREATED", "TRIED"
        )?;
    }
    let mut json = (!table).then(|| JsonWriter::new(&mut out, format));
    for entry in entries {
        let body: Option<Body> = serde_json::from_str(&entry.body).ok();
        let summary = body.map_or(String::new(), |body| body.summary);
        let row = Row::new(&entry, &summary);
        match &mut json {
            Some(json) => json.write(&row)?,
            None => line(&mut io::stdout().lock(), &row)?,
        }
    }
    json.map_or(Ok(()), JsonWriter::finish)
}

fn line(out: &mut impl Write, row: &Row<'_>) -> io::Result<()> {
    writeln!(
        out,
        "{:>6}  {:<7}  {:<20}  {:<8}  {:<20}  {:>5}  {}",
        row.id,
        row.state,
        printable(row.receiver),
        row.severity,
        row.created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        row.attempts,
        bounded(&printable(row.summary), 120)
    )?;
    if !row.error.is_empty() {
        writeln!(out, "{:>6}  {}", "", printable(row.error))?;
    }
    Ok(())
}
