//! The envelope is no veil: whatever stands around an event, and however it is escaped, the event in
//! it is the one that the same text gives by itself.
//!
//! The first byte chooses the envelope, the rest is the payload.

use lanner::decode::{Content, Damage, Decoder, Payload, audit};
use lanner::source::Framing;
use serde_json::{Value, json};

use super::shared::chunk;

pub fn run(data: &[u8]) {
    // As a file or message by itself, nothing is assumed of it.
    for framing in [Framing::Lines, Framing::Value] {
        let mut end = 0;
        Decoder::full_parse().decode(&chunk(data, framing), &mut |record| {
            let start = record.position.offset as usize;
            assert!(start >= end, "records overlap");
            end = start + record.raw.len();
            assert_eq!(record.raw, &data[start..end]);
        });
    }
    let Some((choice, payload)) = data.split_first() else {
        return;
    };
    let Ok(log) = std::str::from_utf8(payload) else {
        return;
    };
    let log = log.trim_matches(|c: char| c.is_ascii_whitespace());
    if !log.starts_with('{') {
        return;
    }
    let (expected, damage) = audit::read(log);
    let text = enclose(*choice, log);
    for mut decoder in [Decoder::default(), Decoder::full_parse()] {
        let mut records = 0;
        decoder.decode(&chunk(text.as_bytes(), Framing::Value), &mut |record| {
            records += 1;
            match (&record.payload, &expected) {
                (Payload::Audit(found), Content::Event(expected)) => {
                    assert_eq!(*found, &**expected, "{text}");
                }
                (Payload::Nothing(_), Content::Nothing(_)) => {}
                (found, expected) => panic!("{found:?} in place of {expected:?} in {text}"),
            }
            assert_eq!(
                record.damage,
                damage.or(none(record.damage, damage)),
                "{text}"
            );
        });
        assert_eq!(records, 1, "{text}");
    }
}

/// Nothing is damaged by an envelope that is whole.
fn none(found: Option<Damage>, expected: Option<Damage>) -> Option<Damage> {
    assert_eq!(found.is_some(), expected.is_some());
    None
}

/// A record with `log` in it, as one of the ways in which Azure writes it.
fn enclose(choice: u8, log: &str) -> String {
    let before = json!({ "time": "2026-11-20T10:00:00.1Z", "resourceId": "/S/A" });
    let mut record = before.as_object().expect("it is an object").clone();
    record.insert("category".to_owned(), json!("kube-audit"));
    match choice % 4 {
        0 => {
            record.insert(
                "properties".to_owned(),
                json!({ "log": log, "stream": "stdout" }),
            );
        }
        1 => {
            let inner = json!({ "log": log, "pod": "p" }).to_string();
            record.insert("properties".to_owned(), json!(inner));
        }
        2 => {
            record.remove("category");
            record.insert("Category".to_owned(), json!("kube-audit"));
            record.insert("log_s".to_owned(), json!(log));
        }
        _ => {
            // Every character that may be escaped is.
            let escaped: String = log
                .encode_utf16()
                .map(|unit| format!("\\u{unit:04x}"))
                .collect();
            return format!(
                r#"{{"category":"kube-audit-admin","properties":{{"log":"{escaped}"}}}}"#
            );
        }
    }
    let record = Value::Object(record);
    match choice / 4 % 3 {
        0 => record.to_string(),
        1 => json!({ "records": [record] }).to_string(),
        _ => format!("[{record}]"),
    }
}
