//! Rows of Log Analytics' `AKSAudit` and `AKSAuditAdmin`, as exported to JSON lines.
//!
//! Such a row has the audit event's keys as columns under other names, and its nested values either
//! as JSON or as strings that hold JSON. A row is rewritten as the event that it was, for
//! [`super::audit`] to read.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::de::IgnoredAny;

use super::Damage;
use super::audit::SKIPPED;
use super::scan::{Members, key_text};
use super::unescape::unescape;
use super::wire::Time;
use crate::event::Category;

pub struct Row {
    pub resource_id: String,
    pub category: Category,
    pub time: Option<Timestamp>,
    /// The audit event's JSON text.
    pub event: String,
    /// A cell that was to hold JSON does not.
    pub damage: Option<Damage>,
}

/// Columns and the event's keys; of the columns marked so, a string holds JSON.
const COLUMNS: &[(&str, &str, bool)] = &[
    ("AuditId", "auditID", false),
    ("Level", "level", false),
    ("Stage", "stage", false),
    ("Verb", "verb", false),
    ("RequestUri", "requestURI", false),
    ("User", "user", true),
    ("ImpersonatedUser", "impersonatedUser", true),
    ("SourceIps", "sourceIPs", true),
    ("UserAgent", "userAgent", false),
    ("ObjectRef", "objectRef", true),
    ("ResponseStatus", "responseStatus", true),
    ("RequestObject", "requestObject", true),
    ("ResponseObject", "responseObject", true),
    ("Annotations", "annotations", true),
    ("RequestReceivedTime", "requestReceivedTimestamp", false),
    ("StageReceivedTime", "stageTimestamp", false),
];

/// Reads the row that `text`, an object, is. A row that is cut off gives an event that is cut off.
pub fn read(text: &str) -> Row {
    let mut row = Row {
        resource_id: String::new(),
        category: Category::Raw,
        time: None,
        event: String::with_capacity(text.len()),
        damage: None,
    };
    row.event.push_str(r#"{"kind":"Event""#);
    let mut unfinished = false;
    for member in Members::new(text.as_bytes()) {
        let key = key_text(text[member.key.clone()].as_bytes());
        let value = &text[member.value.clone()];
        unfinished |= !member.whole;
        match key.as_ref() {
            "_ResourceId" | "ResourceId" => row.resource_id = string(value).into_owned(),
            "TimeGenerated" => {
                row.time = Time::parse(&string(value)).ok().and_then(|time| time.0);
            }
            "Type" => match string(value).as_ref() {
                "AKSAudit" => row.category = Category::KubeAudit,
                "AKSAuditAdmin" => row.category = Category::KubeAuditAdmin,
                _ => {}
            },
            name => {
                if let Some((_, key, nested)) = COLUMNS.iter().find(|column| column.0 == name) {
                    push(&mut row, key, value, *nested);
                }
            }
        }
    }
    if !unfinished {
        row.event.push('}');
    }
    row
}

fn push(row: &mut Row, key: &str, value: &str, nested: bool) {
    let held = if nested {
        string(value)
    } else {
        Cow::Borrowed("")
    };
    let value = if nested && value == "\"\"" {
        "null"
    } else if !held.starts_with(['{', '[']) {
        value
    } else if serde_json::from_str::<IgnoredAny>(&held).is_ok() {
        held.trim_end()
    } else {
        // Log Analytics cuts cells at 32 KiB.
        row.damage = Some(Damage::CutOff);
        if key.ends_with("Object") {
            SKIPPED
        } else {
            "null"
        }
    };
    row.event.push_str(",\"");
    row.event.push_str(key);
    row.event.push_str("\":");
    row.event.push_str(value);
}

/// A string's text; anything else is empty.
fn string(value: &str) -> Cow<'_, str> {
    match value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
    {
        Some(inner) if inner.contains('\\') => {
            let mut out = String::new();
            unescape(inner, &mut out);
            Cow::Owned(out)
        }
        Some(inner) => Cow::Borrowed(inner),
        None => Cow::Borrowed(""),
    }
}
