//! Exceptions: a site's standing rules that an event is expected.
//!
//! Written under `[[detectors.ID.exception]]` in the configuration, with a reason. They are tried on
//! the event itself, so that any field may be named, and their hits are counted.

use std::net::IpAddr;

use globset::GlobMatcher;
use ipnet::IpNet;
use jiff::Timestamp;

use crate::event::{Field, FieldValue, View};

/// One exception: all conditions hold, and it has not expired.
#[derive(Debug, Clone)]
pub struct Exception {
    pub conditions: Vec<(Field, Pattern)>,
    pub reason: String,
    /// Event time from which the exception holds no more.
    pub expires: Option<Timestamp>,
}

/// What a field's value is compared with. A list agrees where one element does.
#[derive(Debug, Clone)]
pub enum Pattern {
    Exact(String),
    Glob(GlobMatcher),
    Network(IpNet),
}

impl Pattern {
    /// A network where `text` is one and `field` holds addresses, a glob where it has wildcards.
    pub fn parse(field: Field, text: &str) -> Result<Pattern, String> {
        if matches!(field, Field::SourceIpAddress | Field::SourceIpNetwork) {
            return text
                .parse::<IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                .map(Pattern::Network)
                .map_err(|_| format!("`{text}` is no network; write one as 203.0.113.0/24"));
        }
        if text.contains(['*', '?', '[', '{']) {
            return globset::Glob::new(text)
                .map(|glob| Pattern::Glob(glob.compile_matcher()))
                .map_err(|error| format!("`{text}` is no glob: {error}"));
        }
        Ok(Pattern::Exact(text.to_owned()))
    }

    fn matches(&self, value: &str) -> bool {
        match self {
            Pattern::Exact(text) => text == value,
            Pattern::Glob(glob) => glob.is_match(value),
            // A network field (`203.0.113.0/24`) lies in a network if its own address range does.
            Pattern::Network(network) => match value.parse::<IpNet>() {
                Ok(inner) => network.contains(&inner),
                Err(_) => value
                    .parse::<IpAddr>()
                    .is_ok_and(|address| network.contains(&address.to_canonical())),
            },
        }
    }
}

impl Exception {
    /// Whether the event is excepted at its own time.
    pub fn covers(&self, view: &View<'_>, time: Timestamp) -> bool {
        if self.expires.is_some_and(|expires| time >= expires) {
            return false;
        }
        self.conditions
            .iter()
            .all(|(field, pattern)| match view.field(*field) {
                FieldValue::Str(text) => pattern.matches(&text),
                FieldValue::Int(number) => pattern.matches(&number.to_string()),
                FieldValue::List(items) => items.iter().any(|item| pattern.matches(item)),
            })
    }
}
