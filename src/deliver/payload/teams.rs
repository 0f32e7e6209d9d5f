//! Microsoft Teams' workflow webhooks: one Adaptive Card 1.5 in a message's attachments.
//!
//! Formats: <https://learn.microsoft.com/en-us/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using>
//! and <https://adaptivecards.io/explorer/RichTextBlock.html>. All text stands in text runs, which,
//! unlike text blocks, take no markdown: no name from the log can become a link or a picture,
//! whichever client shows the card. Teams refuses messages above 28 KB.

use serde_json::{Value, json};

use super::{links, mark, plain, tag};
use crate::alert::render::{self, Sheet};
use crate::alert::{Alert, Severity, Status};

/// Pieces of evidence; the alert's JSON has all.
const EVIDENCE: usize = 2;

/// The message for an alert.
pub fn teams(alert: &Alert) -> Value {
    let sheet = Sheet::new(alert);
    let title = format!("{} {}: {}", mark(alert), tag(alert), sheet.title);
    let mut body = vec![
        json!({
            "type": "Container",
            "style": style(alert),
            "bleed": true,
            "items": [rich(vec![sized(bold(&plain(&title, 150)), "Large")])],
        }),
        rich(vec![sized(run(&plain(&sheet.summary, 400)), "Medium")]),
    ];
    for (index, (label, value)) in sheet.rows.iter().enumerate() {
        let line = rich(vec![bold(&format!("{label}: ")), run(&plain(value, 200))]);
        body.push(spaced(line, if index == 0 { "Default" } else { "None" }));
    }
    let mut part = |label: &str, paragraphs: &[String], max: usize| {
        let mut left = max;
        for (index, paragraph) in paragraphs.iter().enumerate() {
            let text = plain(paragraph, left.max(1));
            left = left.saturating_sub(text.chars().count());
            if index == 0 {
                body.push(rich(vec![bold(label)]));
            }
            body.push(spaced(rich(vec![run(&text)]), "None"));
            if left == 0 {
                break;
            }
        }
    };
    let reason: Vec<String> = std::iter::once(sheet.reason.clone())
        .filter(|reason| !reason.is_empty())
        .collect();
    part("Why this is an alert", &reason, 700);
    part("Look at first", &sheet.triage, 1_200);
    let evidence: Vec<String> = sheet
        .evidence
        .iter()
        .take(EVIDENCE)
        .map(|piece| format!("{} {}", piece.when, plain(&piece.excerpt, 400)))
        .collect();
    part("Evidence", &evidence, 900);
    for piece in sheet.evidence.iter().take(1) {
        if !piece.kql.is_empty() {
            let mut kql = run(&plain(&piece.kql, 500));
            kql["fontType"] = json!("Monospace");
            body.push(spaced(rich(vec![kql]), "Small"));
        }
    }
    let mut part = |label: &str, text: &str| {
        if !text.is_empty() {
            body.push(rich(vec![bold(label)]));
            body.push(spaced(rich(vec![run(text)]), "None"));
        }
    };
    part("Remedy", &plain(&sheet.remedy.join(" "), 700));
    let about = format!("{} · {} · {}", sheet.kind, sheet.detector, sheet.id);
    let mut about = run(&plain(&about, 250));
    about["isSubtle"] = json!(true);
    body.push(rich(vec![sized(about, "Small")]));

    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.5",
        "fallbackText": plain(&render::subject(alert), 200),
        "msteams": {"width": "Full"},
        "body": body,
    });
    let actions: Vec<Value> = links(alert)
        .take(3)
        .map(|url| json!({"type": "Action.OpenUrl", "title": host(url), "url": url}))
        .collect();
    if !actions.is_empty() {
        card["actions"] = json!(actions);
    }
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": card,
        }],
    })
}

/// The colour of the title.
fn style(alert: &Alert) -> &'static str {
    match (alert.status, alert.severity) {
        (Status::Closed, _) => "good",
        (_, Severity::Critical | Severity::High) => "attention",
        (_, Severity::Medium) => "warning",
        (_, Severity::Low) => "accent",
        (_, Severity::Info) => "emphasis",
    }
}

fn rich(inlines: Vec<Value>) -> Value {
    json!({"type": "RichTextBlock", "inlines": inlines})
}

fn run(text: &str) -> Value {
    json!({"type": "TextRun", "text": text})
}

fn bold(text: &str) -> Value {
    json!({"type": "TextRun", "text": text, "weight": "Bolder"})
}

fn sized(mut run: Value, size: &str) -> Value {
    run["size"] = json!(size);
    run
}

fn spaced(mut block: Value, spacing: &str) -> Value {
    block["spacing"] = json!(spacing);
    block
}

fn host(url: &str) -> &str {
    let rest = url.trim_start_matches("https://");
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}
