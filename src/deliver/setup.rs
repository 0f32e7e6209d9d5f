//! What receivers share: checking their configuration, and putting errors into words and reasons.

use std::error::Error;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::FailureReason;
use crate::alert::escape::{bounded, printable};
use crate::alert::redact::redact;
use crate::config::secret::Secret;

/// Longest error text that is kept and logged, in characters.
const MAX_DETAIL: usize = 300;

/// Longest secret or certificate file.
const MAX_FILE: u64 = 1 << 20;

/// A key of a receiver's configuration that cannot be used, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct ConfigError {
    /// The whole key: `webhook.soc.url`.
    pub key: String,
    /// Holds no secret.
    pub problem: String,
}

/// The section of one receiver, for naming its keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct Section<'a> {
    /// `webhook`, `email`, and the like.
    pub kind: &'static str,
    pub name: &'a str,
}

impl Section<'_> {
    pub fn error(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError {
            key: format!("{}.{}.{key}", self.kind, self.name),
            problem: problem.into(),
        }
    }

    /// A secret given as such or as a file's name, not both; a file's last line break is not part
    /// of it.
    pub fn secret(
        &self,
        key: &str,
        given: Option<&Secret>,
        file: Option<&Path>,
    ) -> Result<Option<Secret>, ConfigError> {
        let secret = match (given, file) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                let problem = format!("given twice; keep either `{key}` or `{key}-file`");
                return Err(self.error(&format!("{key}-file"), problem));
            }
            (Some(secret), None) => secret.clone(),
            (None, Some(path)) => {
                let key = format!("{key}-file");
                let text = String::from_utf8(self.read(&key, path)?)
                    .map_err(|_| self.error(&key, "the file is not text"))?;
                Secret::new(text.trim_end_matches(['\r', '\n']))
            }
        };
        if secret.expose().is_empty() {
            return Err(self.error(key, "is empty"));
        }
        Ok(Some(secret))
    }

    /// A text given as such or as a file's name, not both.
    pub fn text(
        &self,
        key: &str,
        given: Option<&str>,
        file: Option<&Path>,
    ) -> Result<Option<String>, ConfigError> {
        let given = given.map(Secret::new);
        let text = self.secret(key, given.as_ref(), file)?;
        Ok(text.map(|text| text.expose().to_owned()))
    }

    pub fn read(&self, key: &str, path: &Path) -> Result<Vec<u8>, ConfigError> {
        let problem =
            |error: io::Error| self.error(key, format!("cannot read {}: {error}", path.display()));
        let size = fs::metadata(path).map_err(problem)?.len();
        if size > MAX_FILE {
            return Err(self.error(key, format!("{} is longer than 1 MiB", path.display())));
        }
        fs::read(path).map_err(problem)
    }

    pub fn timeout(&self, seconds: u64) -> Result<Duration, ConfigError> {
        if !(1..=600).contains(&seconds) {
            return Err(self.error("timeout-secs", "must be 1 to 600 seconds"));
        }
        Ok(Duration::from_secs(seconds))
    }
}

/// Whether a host as written in a configuration is this machine without asking anybody.
pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    match address.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// An error and its causes on one line, each said once.
pub(super) fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    one_line(&text)
}

/// A text from elsewhere, fit for a log line: redacted, printable, bounded.
pub(super) fn one_line(text: &str) -> String {
    bounded(&printable(&redact(text.trim())), MAX_DETAIL).into_owned()
}

/// The reason that an error's causes tell, where they tell one.
pub(super) fn reason_in(error: &(dyn Error + 'static)) -> Option<FailureReason> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if cause.is::<rustls::Error>() {
            return Some(FailureReason::Tls);
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            // An I/O error's `source` passes over the error that it wraps.
            if let Some(reason) = io.get_ref().and_then(|inner| reason_in(inner)) {
                return Some(reason);
            }
            match io.kind() {
                io::ErrorKind::TimedOut => return Some(FailureReason::Timeout),
                io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable => return Some(FailureReason::Connect),
                // The resolver's errors have no kind of their own.
                _ if io.to_string().contains("failed to lookup address") => {
                    return Some(FailureReason::Dns);
                }
                _ => {}
            }
        }
        next = cause.source();
    }
    None
}
