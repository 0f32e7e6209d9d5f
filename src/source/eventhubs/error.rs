//! What can go wrong between us and a hub, told apart by what a person has to do about it.

use std::error::Error;
use std::time::Duration;

use azure_core::error::ErrorKind as AzureErrorKind;
use azure_core_amqp::AmqpError;
use azure_core_amqp::error::{AmqpErrorCondition, AmqpErrorKind};
use azure_messaging_eventhubs::EventHubsError;
use azure_messaging_eventhubs::error::ErrorKind;

/// The kind of an error; closed, for metrics and readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Token, key or role are wrong or missing.
    Unauthorized,
    /// There is no such hub, consumer group or partition.
    NotFound,
    /// Another reader holds the partition with a higher owner level.
    Stolen,
    /// A call was not answered in time.
    Timeout,
    /// Events lie in the hub, but none are delivered.
    Stalled,
    /// The hub has too much to do and says when to come again.
    Throttled,
    /// What we sent cannot be taken, however often it is sent.
    Refused,
    /// The network, the service, or anything else that passes by itself.
    Unreachable,
}

impl Fault {
    pub const ALL: [Fault; 8] = [
        Fault::Unauthorized,
        Fault::NotFound,
        Fault::Stolen,
        Fault::Timeout,
        Fault::Stalled,
        Fault::Throttled,
        Fault::Refused,
        Fault::Unreachable,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Fault::Unauthorized => "unauthorized",
            Fault::NotFound => "not_found",
            Fault::Stolen => "stolen",
            Fault::Timeout => "timeout",
            Fault::Stalled => "stalled",
            Fault::Throttled => "throttled",
            Fault::Refused => "refused",
            Fault::Unreachable => "unreachable",
        }
    }
}

/// An error with its kind and a text without secrets, of bounded length.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub struct HubError {
    pub fault: Fault,
    pub text: String,
    /// The hub asked to be left alone for so long.
    pub wait: Option<Duration>,
}

/// The longest error text that is kept.
const TEXT_BOUND: usize = 300;

/// How deep a chain of sources is followed.
const CHAIN_BOUND: usize = 16;

impl HubError {
    pub(super) fn new(fault: Fault, text: impl Into<String>) -> HubError {
        let text: String = text.into();
        let text: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(TEXT_BOUND)
            .collect();
        let wait = (fault == Fault::Throttled).then(|| asked_wait(&text));
        HubError { fault, text, wait }
    }

    pub(super) fn timeout(call: &str, after: Duration) -> HubError {
        let text = format!("{call}: no answer within {} s", after.as_secs());
        HubError::new(Fault::Timeout, text)
    }

    /// Reads an error of the client: the hub's own condition where there is one, else the innermost
    /// cause.
    pub(super) fn from_client(call: &str, error: &EventHubsError) -> HubError {
        let (fault, cause) = classify(error);
        HubError::new(fault, format!("{call}: {cause}"))
    }

    pub(super) fn from_credential(error: &azure_core::Error) -> HubError {
        let text = format!("no credential: {}", innermost(error));
        HubError::new(Fault::Unauthorized, text)
    }
}

/// How long to wait where the hub says "Please wait 4 seconds and try again", as it does when it
/// throttles; within bounds, because it is the peer's to say.
fn asked_wait(text: &str) -> Duration {
    const DEFAULT: u64 = 4;
    const LONGEST: u64 = 60;
    let seconds = text
        .split_once("wait ")
        .and_then(|(_, rest)| rest.split_once(" second"))
        .and_then(|(number, _)| number.trim().parse().ok());
    Duration::from_secs(seconds.unwrap_or(DEFAULT).min(LONGEST))
}

fn classify(error: &EventHubsError) -> (Fault, String) {
    if let ErrorKind::ConsumerDisconnected(described) = &error.kind {
        let why = described.as_ref().and_then(|d| d.description.clone());
        let why = why.unwrap_or_else(|| "another reader took the partition".to_owned());
        return (Fault::Stolen, why);
    }
    let mut fault = Fault::Unreachable;
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    for _ in 0..CHAIN_BOUND {
        let Some(error) = cause else { break };
        if let Some(amqp) = error.downcast_ref::<AmqpError>()
            && let Some(found) = classify_amqp(amqp)
        {
            return found;
        }
        if let Some(azure) = error.downcast_ref::<azure_core::Error>()
            // The client reports a connection string that it cannot read as a failed conversion.
            && matches!(
                azure.kind(),
                AzureErrorKind::Credential | AzureErrorKind::DataConversion
            )
        {
            fault = Fault::Unauthorized;
        }
        cause = error.source();
    }
    (fault, innermost(error))
}

/// What the hub itself said, if this error carries it.
fn classify_amqp(error: &AmqpError) -> Option<(Fault, String)> {
    match error.kind() {
        AmqpErrorKind::AmqpDescribedError(described) => {
            let fault = match described.condition {
                AmqpErrorCondition::UnauthorizedAccess => Fault::Unauthorized,
                AmqpErrorCondition::NotFound => Fault::NotFound,
                AmqpErrorCondition::LinkStolen => Fault::Stolen,
                AmqpErrorCondition::ServerBusyError => Fault::Throttled,
                _ => Fault::Unreachable,
            };
            let text = match &described.description {
                Some(description) => description.clone(),
                None => format!("{:?}", described.condition),
            };
            Some((fault, text))
        }
        AmqpErrorKind::ManagementStatusCode(code, description) => {
            let fault = match u16::from(*code) {
                401 | 403 => Fault::Unauthorized,
                404 => Fault::NotFound,
                429 | 503 => Fault::Throttled,
                _ => Fault::Unreachable,
            };
            let description = description.as_deref().unwrap_or("no description");
            Some((fault, format!("{} {description}", u16::from(*code))))
        }
        _ => None,
    }
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    for _ in 0..CHAIN_BOUND {
        match innermost.source() {
            Some(source) => innermost = source,
            None => break,
        }
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hubs_own_words_are_found_inside_of_wrappers() {
        let refused = AmqpError::from(AmqpErrorKind::ManagementStatusCode(
            401.into(),
            Some("InvalidSignature".into()),
        ));
        let wrapped = AmqpError::from(azure_core::Error::with_error(
            AzureErrorKind::Other,
            refused,
            "error authorizing management path",
        ));
        let error = HubError::from_client("open", &EventHubsError::from(wrapped));
        assert_eq!(error.fault, Fault::Unauthorized);
        assert_eq!(error.text, "open: 401 InvalidSignature");
    }

    #[test]
    fn texts_are_bounded_and_without_control_characters() {
        let error = HubError::new(Fault::Unreachable, "a\u{1b}[31m\n".repeat(200));
        assert_eq!(error.text.chars().count(), TEXT_BOUND);
        assert!(!error.text.chars().any(char::is_control));
    }
}
