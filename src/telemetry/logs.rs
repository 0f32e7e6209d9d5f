//! Structured logs on standard error.
//!
//! Every event is one line, whatever its fields hold: control characters, and what reorders text,
//! are written as escapes, so that nothing that an attacker wrote acts on a terminal or makes lines
//! of its own. [`crate::warn_limited!`] is for warnings that may repeat without end.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, TelemetryConfig};

/// Sends the process's logs to standard error. Fails where another subscriber is set already.
pub fn init(config: &TelemetryConfig) -> Result<(), String> {
    subscriber(config, io::stderr)
        .try_init()
        .map_err(|error| error.to_string())
}

/// A subscriber that writes to `writer`, one write an event.
pub fn subscriber<W>(
    config: &TelemetryConfig,
    writer: W,
) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // A filter that the configuration accepted parses; another falls back to its level.
    let filter = EnvFilter::try_new(&config.log_level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        // It would be said where it cannot be written, and that is a panic.
        .log_internal_errors(false)
        .with_writer(Escaping(writer));
    match config.log_format {
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
        LogFormat::Text => Box::new(builder.finish()),
    }
}

/// Escapes what is written, line break at the end excepted.
struct Escaping<W>(W);

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for Escaping<W> {
    type Writer = EscapingWriter<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        EscapingWriter(self.0.make_writer())
    }
}

struct EscapingWriter<W>(W);

impl<W: Write> Write for EscapingWriter<W> {
    /// The subscriber writes each event whole, so `line` ends where a character ends.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let body = text.strip_suffix('\n').unwrap_or(&text);
        let mut out = String::with_capacity(text.len() + 1);
        for character in body.chars() {
            if character.is_control() || is_bidirectional(character) {
                // The form that JSON has, for both formats.
                out.push_str(&format!("\\u{:04x}", u32::from(character)));
            } else {
                out.push(character);
            }
        }
        out.push('\n');
        self.0.write_all(out.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn is_bidirectional(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}' | '\u{2066}'..='\u{2069}')
}

/// How long a repeated warning is silent after it was written.
const WINDOW: Duration = Duration::from_secs(10);

/// Lets each key through once a window. Keys are places in the code, so there are few.
#[derive(Debug)]
pub struct Limiter {
    window: Duration,
    keys: Mutex<HashMap<&'static str, Passed>>,
}

#[derive(Debug)]
struct Passed {
    at: Instant,
    suppressed: u64,
}

impl Limiter {
    pub fn new(window: Duration) -> Limiter {
        Limiter {
            window,
            keys: Mutex::default(),
        }
    }

    /// How many were held back since the last that passed, if this one may pass.
    pub fn pass(&self, key: &'static str, now: Instant) -> Option<u64> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        match keys.get_mut(key) {
            Some(passed) if now.saturating_duration_since(passed.at) < self.window => {
                passed.suppressed += 1;
                None
            }
            Some(passed) => {
                passed.at = now;
                Some(std::mem::take(&mut passed.suppressed))
            }
            None => {
                let passed = Passed {
                    at: now,
                    suppressed: 0,
                };
                keys.insert(key, passed);
                Some(0)
            }
        }
    }
}

/// Asked by [`crate::warn_limited!`].
pub fn pass(key: &'static str) -> Option<u64> {
    static LIMITER: LazyLock<Limiter> = LazyLock::new(|| Limiter::new(WINDOW));
    LIMITER.pass(key, Instant::now())
}

/// As [`tracing::warn!`], at most once in ten seconds for each place in the code; `suppressed` says
/// how many were held back before.
#[macro_export]
macro_rules! warn_limited {
    ($($field:tt)+) => {
        if let Some(suppressed) = $crate::telemetry::logs::pass(concat!(file!(), ":", line!())) {
            ::tracing::warn!(suppressed, $($field)+);
        }
    };
}
