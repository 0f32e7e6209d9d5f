//! How results are written: as a table on a terminal, else one JSON value a line.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::alert::escape::json_for_terminals;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people; the default on a terminal.
    Table,
    /// One JSON object a line; the default elsewhere.
    Ndjson,
    /// One JSON array.
    Json,
}

impl Format {
    pub fn or_default(format: Option<Format>) -> Format {
        format.unwrap_or(if io::stdout().is_terminal() {
            Format::Table
        } else {
            Format::Ndjson
        })
    }
}

/// Writes values one after the other as [`Format::Ndjson`] or [`Format::Json`].
pub struct JsonWriter<W: Write> {
    out: W,
    array: bool,
    any: bool,
}

impl<W: Write> JsonWriter<W> {
    pub fn new(out: W, format: Format) -> JsonWriter<W> {
        JsonWriter {
            out,
            array: format == Format::Json,
            any: false,
        }
    }

    /// For what is no JSON, as the lines of a [`Format::Table`].
    pub fn text(&mut self) -> &mut W {
        &mut self.out
    }

    pub fn write(&mut self, value: &impl Serialize) -> io::Result<()> {
        self.write_raw(&serde_json::to_vec(value)?)
    }

    /// Writes a value that is JSON already.
    pub fn write_raw(&mut self, json: &[u8]) -> io::Result<()> {
        if self.array {
            self.out.write_all(if self.any { b",\n" } else { b"[\n" })?;
        }
        self.any = true;
        match std::str::from_utf8(json) {
            Ok(text) => self.out.write_all(json_for_terminals(text).as_bytes())?,
            Err(_) => self.out.write_all(json)?,
        }
        if !self.array {
            self.out.write_all(b"\n")?;
        }
        Ok(())
    }

    pub fn finish(mut self) -> io::Result<()> {
        if self.array {
            self.out
                .write_all(if self.any { b"\n]\n" } else { b"[]\n" })?;
        }
        self.out.flush()
    }
}

/// Whether whoever read our output has gone, which is no error of ours.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
            || cause
                .downcast_ref::<serde_json::Error>()
                .is_some_and(|error| error.io_error_kind() == Some(io::ErrorKind::BrokenPipe))
    })
}

/// Whether to colour standard output: on a terminal, unless `NO_COLOR` says otherwise.
pub fn colour() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    set("CLICOLOR_FORCE") || (io::stdout().is_terminal() && !set("NO_COLOR"))
}
