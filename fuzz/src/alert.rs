//! An alert with texts of an attacker's choice, in every medium: no text leaves its place.
//!
//! The bytes, cut at each zero, become the alert's texts in turn.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lanner::alert::redact::redact;
use lanner::alert::{Alert, DetectorRef, render};
use lanner::config::secret::Secret;
use lanner::deliver::payload;
use serde_json::Value;

pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let parts: Vec<&str> = text.split('\0').collect();
    for part in &parts {
        let once = redact(part);
        assert_eq!(redact(&once), once, "redaction does not settle: {part:?}");
    }
    check(&of(&parts));
}

/// An alert with `parts`, over and over, in all of its texts.
pub fn of(parts: &[&str]) -> Alert {
    let mut next = parts.iter().cycle();
    let mut text = || {
        next.next()
            .map(|part| (*part).to_owned())
            .unwrap_or_default()
    };
    let sample = Alert::sample(&mut text);
    Alert {
        // A detector's author is no attacker.
        detector: Arc::new(DetectorRef {
            title: "Sample".to_owned(),
            ..DetectorRef::clone(&sample.detector)
        }),
        last_seen: Some(Timestamp::MAX),
        detected_at: None,
        ..sample
    }
}

/// Renders `alert` everywhere and panics where a text did what only we may.
pub fn check(alert: &Alert) {
    let lines = render::terminal(alert, false);
    let one = render::one_line(alert);
    let mail = render::mail_text(alert);
    let subject = render::subject(alert);
    for text in [&lines, &mail] {
        assert!(!text.chars().any(acts_on_a_terminal), "{text:?}");
    }
    for text in [&one, &subject] {
        assert!(
            !text.contains('\n') && !text.chars().any(acts_on_a_terminal),
            "{text:?}"
        );
    }
    assert!(subject.chars().count() <= 200, "{subject}");

    let html = render::mail_html(alert);
    let plain = render::mail_html(&of(&["x"]));
    let tags = |text: &str| {
        [
            "<a ", "<img", "<script", "<style", "<iframe", "<form", "onerror=",
        ]
        .map(|tag| text.matches(tag).count())
    };
    let (found, expected) = (tags(&html), tags(&plain));
    // References may become links; nothing else may become anything.
    assert!(
        found[0] <= expected[0].max(alert.references.len()) + expected[0],
        "{html}"
    );
    assert_eq!(found[1..6], expected[1..6], "{html}");
    assert!(!html.chars().any(acts_on_a_terminal));

    let slack = payload::slack(alert);
    each_text(&slack, "", &mut |_, text| {
        assert!(text.chars().count() <= 3_000, "{text}");
        let mentions = ["<!", "<@", "<#"];
        assert!(
            !mentions.iter().any(|mention| text.contains(mention)),
            "{text}"
        );
        for link in text.match_indices('<') {
            assert!(text[link.0..].starts_with("<https://"), "{text}");
        }
    });
    let teams = payload::teams(alert);
    assert!(
        teams.to_string().len() < 28_000,
        "{}",
        teams.to_string().len()
    );
    each_text(&teams, "", &mut |kind, text| {
        assert!(kind != "TextBlock", "markdown is read in {text}");
        assert!(!text.chars().any(acts_on_a_terminal), "{text:?}");
    });
    let key = Secret::new("hush-hush-hush");
    for body in [
        payload::ocsf(alert),
        payload::pagerduty(alert, &key),
        payload::alertmanager(alert, Timestamp::UNIX_EPOCH, Duration::from_secs(60)),
    ] {
        serde_json::to_string(&body).expect("a value can be written");
    }
    let json = serde_json::to_string(alert).expect("an alert can be written");
    assert!(!json.contains('\n'), "one line an alert");
    let read: Alert = serde_json::from_str(&json).expect("an alert can be read");
    assert_eq!(&read, alert);
}

/// Controls, but for line breaks, and what turns the direction of text.
fn acts_on_a_terminal(c: char) -> bool {
    c != '\n' && c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Calls `see` with every string in `value` and the type of the object that it stands in.
fn each_text<'v>(value: &'v Value, kind: &'v str, see: &mut dyn FnMut(&str, &str)) {
    match value {
        Value::String(text) => see(kind, text),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, kind, see)),
        Value::Object(members) => {
            let kind = members.get("type").and_then(Value::as_str).unwrap_or(kind);
            members
                .values()
                .for_each(|value| each_text(value, kind, see));
        }
        _ => {}
    }
}
