//! What each kind of receiver is sent, made of an alert: pure functions, checked in `tests/deliver`
//! against the formats that the receivers' makers publish.
//!
//! Text from the log is the attacker's to choose: every function bounds it and escapes it for the
//! medium that shows it. `docs/receivers.md` says where each format comes from.

mod alertmanager;
mod ocsf;
mod pagerduty;
mod slack;
mod teams;
mod template;

use crate::alert::escape::{bounded, printable};
use crate::alert::{Alert, Severity, Status};

pub use alertmanager::alertmanager;
pub use ocsf::{OCSF_VERSION, ocsf};
pub use pagerduty::pagerduty;
pub use slack::slack;
pub use teams::teams;
pub use template::Template;

/// `text` on one line of at most `max` characters, with nothing unseen in it.
fn plain(text: &str, max: usize) -> String {
    // Cut before, because long texts are not worth escaping, and after, because escapes are longer.
    bounded(&printable(&bounded(text.trim(), max)), max).into_owned()
}

/// The first words of a message: how grave it is, or that it is over.
fn tag(alert: &Alert) -> String {
    match alert.status {
        Status::Open => alert.severity.as_str().to_uppercase(),
        Status::Closed => "Closed".to_owned(),
    }
}

/// A sign that is seen before the text is read.
fn mark(alert: &Alert) -> &'static str {
    match (alert.status, alert.severity) {
        (Status::Closed, _) => "\u{2705}",
        (_, Severity::Critical) => "\u{1f6a8}",
        (_, Severity::High) => "\u{1f534}",
        (_, Severity::Medium) => "\u{1f7e0}",
        (_, Severity::Low) => "\u{1f535}",
        (_, Severity::Info) => "\u{26aa}",
    }
}

/// The references that can be made links without leaving the link's own syntax.
fn links(alert: &Alert) -> impl Iterator<Item = &str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?#@!$&+,;=%".contains(&byte);
    alert
        .references
        .iter()
        .map(String::as_str)
        .filter(move |url| url.starts_with("https://") && url.len() <= 300)
        .filter(move |url| url.bytes().all(is_plain))
}
