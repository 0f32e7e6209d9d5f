//! Exceptions: a site's standing word that some finding of a detector is expected.
//!
//! `[[detectors.ID.exception]]` holds `reason`, perhaps `expires`, and any field of
//! [`crate::event::field`] with what it must be. [`crate::alert`] asks them after the match.

use std::net::IpAddr;

use globset::{GlobBuilder, GlobMatcher};
use ipnet::IpNet;
use jiff::{Timestamp, civil::Date, tz::TimeZone};

use crate::event::field::{FIELDS, Field, FieldType, FieldValue};

use super::diagnose::suggest;

/// One exception. It holds where every field matches and it has not expired.
#[derive(Debug, Clone, PartialEq)]
pub struct ExceptionConfig {
    pub reason: String,
    pub expires: Option<Timestamp>,
    pub fields: Vec<(Field, Vec<Pattern>)>,
}

impl ExceptionConfig {
    /// `now` is event time, so that a replay judges as the daemon did.
    pub fn holds<'e>(
        &self,
        now: Option<Timestamp>,
        mut field: impl FnMut(Field) -> FieldValue<'e>,
    ) -> bool {
        let expired = matches!((self.expires, now), (Some(end), Some(now)) if now >= end);
        !expired
            && self.fields.iter().all(|(name, patterns)| {
                let value = field(*name);
                patterns.iter().any(|pattern| pattern.matches(&value))
            })
    }
}

/// What a field must be; of a list, what one of its items must be.
#[derive(Debug, Clone)]
pub enum Pattern {
    Exact(String),
    Glob(GlobMatcher),
    Network(IpNet),
    Number(i64),
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Pattern::Exact(a), Pattern::Exact(b)) => a == b,
            (Pattern::Glob(a), Pattern::Glob(b)) => a.glob() == b.glob(),
            (Pattern::Network(a), Pattern::Network(b)) => a == b,
            (Pattern::Number(a), Pattern::Number(b)) => a == b,
            _ => false,
        }
    }
}

impl Pattern {
    pub fn matches(&self, value: &FieldValue<'_>) -> bool {
        match (self, value) {
            (Pattern::Number(wanted), FieldValue::Int(number)) => wanted == number,
            (Pattern::Number(_), _) | (_, FieldValue::Int(_)) => false,
            (_, FieldValue::Str(text)) => self.matches_text(text),
            (_, FieldValue::List(items)) => items.iter().any(|item| self.matches_text(item)),
        }
    }

    fn matches_text(&self, text: &str) -> bool {
        match self {
            Pattern::Exact(wanted) => wanted == text,
            Pattern::Glob(glob) => glob.is_match(text),
            Pattern::Network(network) => match text.parse::<IpAddr>() {
                Ok(address) => network.contains(&address.to_canonical()),
                Err(_) => text
                    .parse::<IpNet>()
                    .is_ok_and(|inner| network.contains(&inner)),
            },
            Pattern::Number(_) => false,
        }
    }

    fn parse(field: Field, value: &toml::Value) -> Result<Pattern, String> {
        let wanted = field.info().kind;
        match (value, wanted) {
            (toml::Value::Integer(number), FieldType::Int) => Ok(Pattern::Number(*number)),
            (toml::Value::String(_), FieldType::Int) => {
                Err("wanted an integer, found a string".to_owned())
            }
            (toml::Value::String(text), _) => Pattern::parse_text(field, text),
            (other, _) => Err(format!("wanted a string, found {}", type_of(other))),
        }
    }

    fn parse_text(field: Field, text: &str) -> Result<Pattern, String> {
        let glob = text.contains(['*', '?', '[', '{']);
        if matches!(field, Field::SourceIpAddress | Field::SourceIpNetwork) && !glob {
            return text
                .parse::<IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                .map(Pattern::Network)
                .map_err(|_| {
                    format!("`{text}` is no network; write one as 203.0.113.0/24 or 2001:db8::/32")
                });
        }
        if !glob {
            return Ok(Pattern::Exact(text.to_owned()));
        }
        GlobBuilder::new(text)
            .build()
            .map(|glob| Pattern::Glob(glob.compile_matcher()))
            .map_err(|error| format!("`{text}` is no glob: {}", error.kind()))
    }
}

/// An error at a key below the exception: its path, the message, and what would be right.
pub(super) struct Wrong {
    pub path: Vec<String>,
    pub about_key: bool,
    pub message: String,
    pub help: Option<String>,
}

/// Reads an exception, whose keys are fields' names; `object.ns = "x"` and `"object.ns" = "x"` are
/// the same. Gives what could be read, and everything that is wrong.
pub(super) fn parse(table: &toml::Table) -> (ExceptionConfig, Vec<Wrong>) {
    let mut wrong = Vec::new();
    let mut exception = ExceptionConfig {
        reason: String::new(),
        expires: None,
        fields: Vec::new(),
    };
    let mut leaves = Vec::new();
    flatten(table, &mut Vec::new(), &mut leaves);
    for (path, value) in leaves {
        let name = path.join(".");
        let mut refuse = |about_key: bool, message: String, help: Option<String>| {
            wrong.push(Wrong {
                path: path.clone(),
                about_key,
                message,
                help,
            });
        };
        match (name.as_str(), Field::parse(&name)) {
            ("reason", _) => match value.as_str() {
                Some(text) if !text.trim().is_empty() => exception.reason = text.to_owned(),
                Some(_) => refuse(false, "the reason is empty".to_owned(), None),
                None => refuse(
                    false,
                    format!("wanted a string, found {}", type_of(value)),
                    None,
                ),
            },
            ("expires", _) => match expiry(value) {
                Ok(time) => exception.expires = Some(time),
                Err(message) => refuse(false, message, None),
            },
            (_, Some(field)) => {
                let items = match value {
                    toml::Value::Array(items) => items.as_slice(),
                    one => std::slice::from_ref(one),
                };
                let mut patterns = Vec::new();
                for item in items {
                    match Pattern::parse(field, item) {
                        Ok(pattern) => patterns.push(pattern),
                        Err(message) => refuse(false, message, None),
                    }
                }
                if items.is_empty() {
                    refuse(false, "an empty list matches nothing".to_owned(), None);
                }
                exception.fields.push((field, patterns));
            }
            (_, None) => {
                let names: Vec<&str> = ["reason", "expires"]
                    .into_iter()
                    .chain(FIELDS.iter().map(|info| info.name))
                    .collect();
                let help = suggest(&name, names.iter().copied())
                    .unwrap_or_else(|| "`lanner detectors fields` lists the fields".to_owned());
                refuse(true, format!("unknown field `{name}`"), Some(help));
            }
        }
    }
    if !table.contains_key("reason") {
        wrong.push(Wrong {
            path: Vec::new(),
            about_key: true,
            message: "missing key `reason`".to_owned(),
            help: Some("say why this is expected, for those who read it later".to_owned()),
        });
    }
    if exception.fields.is_empty() && wrong.is_empty() {
        wrong.push(Wrong {
            path: Vec::new(),
            about_key: true,
            message: "the exception names no field, so it would hold for everything".to_owned(),
            help: Some("name a field, or set `enabled = false` for the detector".to_owned()),
        });
    }
    (exception, wrong)
}

fn flatten<'t>(
    table: &'t toml::Table,
    path: &mut Vec<String>,
    leaves: &mut Vec<(Vec<String>, &'t toml::Value)>,
) {
    for (key, value) in table {
        path.push(key.clone());
        match value {
            toml::Value::Table(inner) => flatten(inner, path, leaves),
            leaf => leaves.push((path.clone(), leaf)),
        }
        path.pop();
    }
}

/// A date holds through its last second, in UTC.
fn expiry(value: &toml::Value) -> Result<Timestamp, String> {
    let text = match value {
        toml::Value::Datetime(time) => time.to_string(),
        toml::Value::String(text) => text.clone(),
        other => return Err(format!("wanted a date or time, found {}", type_of(other))),
    };
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    text.parse::<Date>()
        .ok()
        .filter(|_| text.len() == "2026-12-31".len())
        .and_then(|date| {
            TimeZone::UTC
                .to_timestamp(date.tomorrow().ok()?.at(0, 0, 0, 0))
                .ok()
        })
        .ok_or_else(|| {
            format!("`{text}` is no date or time; write 2026-12-31 or 2026-12-31T18:00:00Z")
        })
}

fn type_of(value: &toml::Value) -> &'static str {
    match value {
        toml::Value::String(_) => "a string",
        toml::Value::Integer(_) => "an integer",
        toml::Value::Float(_) => "a float",
        toml::Value::Boolean(_) => "true or false",
        toml::Value::Datetime(_) => "a date or time",
        toml::Value::Array(_) => "a list",
        toml::Value::Table(_) => "a table",
    }
}
