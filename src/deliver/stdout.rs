//! Alerts on standard output: as blocks on a terminal, as one JSON object a line elsewhere.

use std::io::{self, IsTerminal, Write};

use futures::future::BoxFuture;

use super::setup::describe;
use super::{Attempt, FailureReason, Notification, Receiver};
use crate::alert::escape::json_for_terminals;
use crate::alert::render;

/// A receiver that prints.
#[derive(Debug)]
pub struct Stdout {
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Lines,
    Blocks { colour: bool },
}

impl Stdout {
    /// Looks at standard output, `NO_COLOR` and `CLICOLOR_FORCE` for how to print.
    pub fn new() -> Stdout {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let form = match io::stdout().is_terminal() {
            true => Form::Blocks {
                colour: set("CLICOLOR_FORCE") || !set("NO_COLOR"),
            },
            false => Form::Lines,
        };
        Stdout { form }
    }
}

impl Default for Stdout {
    fn default() -> Self {
        Stdout::new()
    }
}

impl Receiver for Stdout {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Attempt> {
        let text = match (self.form, notification.alert()) {
            (Form::Blocks { colour }, Ok(alert)) => render::terminal(&alert, colour),
            // An alert of another version is still JSON on one line.
            _ => json_for_terminals(&notification.body).into_owned(),
        };
        Box::pin(async move {
            // A pipe that nobody reads blocks: that is for a thread of its own.
            let printed = tokio::task::spawn_blocking(move || print(&text)).await;
            match printed.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
                Ok(()) => Attempt::Delivered,
                Err(error) => Attempt::Retry {
                    reason: FailureReason::Other,
                    after: None,
                    detail: describe(&error),
                },
            }
        })
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}
