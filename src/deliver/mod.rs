//! From the outbox to people: one queue a receiver, retries with backoff, dead letters.
//!
//! Notifications come from [`crate::store`]'s outbox; a receiver's trouble delays no other receiver
//! and never the source. [`start`] runs one task a receiver; a [`Receiver`] makes one attempt at a
//! time and says what came of it.

pub mod email;
pub mod eventhubs;
mod http;
pub mod payload;
mod queue;
pub mod service;
mod setup;
pub mod stdout;
pub mod webhook;

use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::alert::incident::{self, Incident};
use crate::alert::{Alert, Severity};

pub use queue::{Deliveries, Options, Wake, start};
pub use setup::ConfigError;

/// One message about an alert, as a receiver gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The idempotency key, the same at every attempt.
    pub notification_id: String,
    pub severity: Severity,
    /// The alert or incident as JSON.
    pub body: String,
}

impl Notification {
    /// The alert, or the incident in an alert's shape.
    pub fn alert(&self) -> Result<Alert, serde_json::Error> {
        match self.incident() {
            Some(incident) => Ok(incident?.to_alert()),
            None => serde_json::from_str(&self.body),
        }
    }

    /// The incident; `None` of an alert.
    pub fn incident(&self) -> Option<Result<Incident, serde_json::Error>> {
        #[derive(serde::Deserialize)]
        struct Kind {
            schema: String,
        }
        let kind: Kind = serde_json::from_str(&self.body).ok()?;
        (kind.schema == incident::SCHEMA).then(|| serde_json::from_str(&self.body))
    }
}

/// What came of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    Delivered,
    /// Worth another attempt.
    Retry {
        reason: FailureReason,
        /// When the receiver wants the next one.
        after: Option<Duration>,
        /// One line; holds no secret.
        detail: String,
    },
    /// The receiver will never take it.
    Rejected {
        reason: FailureReason,
        /// One line; holds no secret.
        detail: String,
    },
}

impl Attempt {
    /// Nothing that the receiver takes can be made of the notification.
    fn unfit(error: &str) -> Attempt {
        Attempt::Rejected {
            reason: FailureReason::Other,
            detail: format!("no message can be made of it: {}", setup::one_line(error)),
        }
    }
}

/// Why an attempt failed; closed, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureReason {
    Timeout,
    Connect,
    Tls,
    Dns,
    Auth,
    RateLimited,
    ClientError,
    ServerError,
    Redirect,
    TooLarge,
    Other,
}

impl FailureReason {
    pub const ALL: [FailureReason; 11] = [
        FailureReason::Timeout,
        FailureReason::Connect,
        FailureReason::Tls,
        FailureReason::Dns,
        FailureReason::Auth,
        FailureReason::RateLimited,
        FailureReason::ClientError,
        FailureReason::ServerError,
        FailureReason::Redirect,
        FailureReason::TooLarge,
        FailureReason::Other,
    ];

    /// The value of the metrics' `reason` label.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureReason::Timeout => "timeout",
            FailureReason::Connect => "connect",
            FailureReason::Tls => "tls",
            FailureReason::Dns => "dns",
            FailureReason::Auth => "auth",
            FailureReason::RateLimited => "rate_limited",
            FailureReason::ClientError => "client_error",
            FailureReason::ServerError => "server_error",
            FailureReason::Redirect => "redirect",
            FailureReason::TooLarge => "too_large",
            FailureReason::Other => "other",
        }
    }

    /// Whether the notification itself may be what the receiver fails at, so that another one could
    /// pass. An attacker who chooses a name that upsets a receiver must not block its queue.
    fn may_be_the_content(self) -> bool {
        !matches!(
            self,
            FailureReason::Dns
                | FailureReason::Tls
                | FailureReason::Auth
                | FailureReason::RateLimited
                | FailureReason::Redirect
        )
    }
}

/// Why a notification became a dead letter; closed, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Death {
    /// The receiver refused it.
    Rejected,
    /// Tried for longer than [`Options::max_age`].
    Expired,
}

/// Where alerts go. One attempt at a time; what an implementation needs to bound an attempt's
/// duration is its own.
pub trait Receiver: Send + Sync {
    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Attempt>;
}

/// A receiver under the name that routes say: `webhook.soc`.
pub type Named = (String, Box<dyn Receiver>);

/// A table of the configuration that makes a receiver: `[webhook.NAME]` and the like.
pub trait Table {
    /// `webhook`.
    fn kind(&self) -> &'static str;

    /// Checks everything and reads the files that are named; connects to nobody.
    fn receiver(&self, name: &str) -> Result<Box<dyn Receiver>, ConfigError>;

    /// Whether the receiver is told when an alert closes.
    fn send_closed(&self) -> bool;
}

/// [`Table`] for a configuration: its kind, and what makes a receiver of a name and it.
macro_rules! table {
    ($config:ty, $kind:expr, $receiver:path) => {
        impl $crate::deliver::Table for $config {
            fn kind(&self) -> &'static str {
                $kind
            }

            fn receiver(
                &self,
                name: &str,
            ) -> Result<Box<dyn $crate::deliver::Receiver>, $crate::deliver::ConfigError> {
                Ok(Box::new($receiver(name, self)?))
            }

            fn send_closed(&self) -> bool {
                self.send_closed
            }
        }
    };
}
use table;

/// What metrics hear of deliveries; `receiver` is the configured name.
pub trait Observer: Send + Sync {
    /// `waited` is the time since the notification was written to the outbox; `enqueued` is when
    /// the hub took in the messages that caused it, where that is known.
    fn delivered(&self, receiver: &str, waited: Duration, enqueued: Option<Timestamp>) {
        let _ = (receiver, waited, enqueued);
    }

    fn failed(&self, receiver: &str, reason: FailureReason) {
        let _ = (receiver, reason);
    }

    fn died(&self, receiver: &str, death: Death, severity: Severity) {
        let _ = (receiver, death, severity);
    }
}

/// Hears nothing.
impl Observer for () {}
