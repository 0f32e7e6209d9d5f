//! The selector filters by which a consumer says where to begin.
//!
//! Clients write them with and without a blank before the quoted value:
//! `amqp.annotation.x-opt-offset > '-1'`, `amqp.annotation.x-opt-sequence-number >='12'`.

use fe2o3_amqp_types::messaging::Source;
use fe2o3_amqp_types::primitives::Value;

/// Where a consumer begins. `inclusive` means that an event at the very value is delivered too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selector {
    Earliest,
    Latest,
    Offset { value: i64, inclusive: bool },
    SequenceNumber { value: i64, inclusive: bool },
    EnqueuedTime { millis: i64, inclusive: bool },
}

/// The key under which the filter lies, and its descriptor as a symbol.
const SELECTOR: &str = "apache.org:selector-filter:string";

impl Selector {
    /// The selector of a link's source; without a filter the service delivers from the beginning.
    pub(super) fn of_source(source: &Source) -> Result<Selector, String> {
        let Some(filter) = &source.filter else {
            return Ok(Selector::Earliest);
        };
        let Some((_, value)) = filter.iter().find(|(key, _)| key.as_str() == SELECTOR) else {
            return Ok(Selector::Earliest);
        };
        let text = match value {
            Value::Described(described) => &described.value,
            other => other,
        };
        match text {
            Value::String(text) => Selector::parse(text),
            other => Err(format!("a selector filter is a string, not {other:?}")),
        }
    }

    pub(super) fn parse(text: &str) -> Result<Selector, String> {
        let refused = || format!("the selector filter {text:?} is not understood");
        let text_left = text
            .trim()
            .strip_prefix("amqp.annotation.")
            .ok_or_else(refused)?;
        let (name, comparison) = text_left.split_once('>').ok_or_else(refused)?;
        let (inclusive, quoted) = match comparison.strip_prefix('=') {
            Some(rest) => (true, rest),
            None => (false, comparison),
        };
        let value = quoted
            .trim()
            .strip_prefix('\'')
            .and_then(|rest| rest.strip_suffix('\''))
            .ok_or_else(refused)?;
        let number = || value.parse::<i64>().map_err(|_| refused());
        match (name.trim(), value) {
            ("x-opt-offset", "-1") => Ok(Selector::Earliest),
            ("x-opt-offset", "@latest") => Ok(Selector::Latest),
            ("x-opt-offset", _) => Ok(Selector::Offset {
                value: number()?,
                inclusive,
            }),
            ("x-opt-sequence-number", _) => Ok(Selector::SequenceNumber {
                value: number()?,
                inclusive,
            }),
            ("x-opt-enqueued-time", _) => Ok(Selector::EnqueuedTime {
                millis: number()?,
                inclusive,
            }),
            _ => Err(refused()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_that_clients_write_is_read() {
        let cases = [
            ("amqp.annotation.x-opt-offset > '-1'", Selector::Earliest),
            ("amqp.annotation.x-opt-offset > '@latest'", Selector::Latest),
            (
                "amqp.annotation.x-opt-offset >'256'",
                Selector::Offset {
                    value: 256,
                    inclusive: false,
                },
            ),
            (
                "amqp.annotation.x-opt-sequence-number >='12'",
                Selector::SequenceNumber {
                    value: 12,
                    inclusive: true,
                },
            ),
            (
                "amqp.annotation.x-opt-enqueued-time >'1700000000000'",
                Selector::EnqueuedTime {
                    millis: 1_700_000_000_000,
                    inclusive: false,
                },
            ),
        ];
        for (text, selector) in cases {
            assert_eq!(Selector::parse(text), Ok(selector), "{text}");
        }
        for text in [
            "",
            "amqp.annotation.x-opt-offset >'ten'",
            "amqp.annotation.x-opt-offset < '1'",
            "x",
        ] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
    }
}
