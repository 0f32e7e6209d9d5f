//! Slack's incoming webhooks: Block Kit, with text as `mrkdwn`.
//!
//! Formats and limits: <https://docs.slack.dev/reference/block-kit/blocks> (50 blocks, 3,000
//! characters in a section, 150 in a header) and
//! <https://docs.slack.dev/messaging/formatting-message-text> (`&`, `<` and `>` are all that can
//! begin a mention or a link). Slack also refuses messages of about 13,000 characters as a whole,
//! which it does not document, so that all parts together stay below 12,000.

use serde_json::{Value, json};

use super::{links, mark, plain, tag};
use crate::alert::Alert;
use crate::alert::render::{self, Sheet};

/// Longest text of a header block.
const MAX_HEADER: usize = 150;

/// Pieces of evidence; the alert's JSON has all.
const EVIDENCE: usize = 2;

/// The message for an alert.
pub fn slack(alert: &Alert) -> Value {
    let sheet = Sheet::new(alert);
    let title = format!("{} {}: {}", mark(alert), tag(alert), sheet.title);
    let mut blocks = vec![
        json!({
            "type": "header",
            "text": {"type": "plain_text", "text": plain(&title, MAX_HEADER), "emoji": false},
        }),
        section(escaped(&sheet.summary, 800)),
    ];
    let rows: Vec<String> = sheet
        .rows
        .iter()
        .map(|(label, value)| format!("*{}:* {}", escaped(label, 40), escaped(value, 280)))
        .collect();
    if !rows.is_empty() {
        blocks.push(section(rows.join("\n")));
    }
    let mut part = |label: &str, text: &str, max: usize| {
        if !text.is_empty() {
            blocks.push(section(format!("*{label}*\n{}", escaped(text, max))));
        }
    };
    part("Why this is an alert", &sheet.reason, 1_400);
    part("Look at first", &sheet.triage.join("\n"), 2_400);
    for (index, piece) in sheet.evidence.iter().take(EVIDENCE).enumerate() {
        let excerpt = escaped(&piece.excerpt, 600);
        let mut text = format!("{} {excerpt}", escaped(&piece.when, 40));
        if index == 0 {
            text = format!("*Evidence*\n{text}");
        }
        blocks.push(section(text));
        if !piece.kql.is_empty() {
            // A code block, which can hold anything but its own end, is easy to copy.
            let kql = escaped(&piece.kql.replace('`', "'"), 600);
            blocks.push(section(format!("```{kql}```")));
        }
    }
    if !sheet.remedy.is_empty() {
        let remedy = escaped(&sheet.remedy.join("\n"), 1_200);
        blocks.push(section(format!("*Remedy*\n{remedy}")));
    }
    let links: Vec<String> = links(alert)
        .take(3)
        .map(|url| format!("<{}>", url.replace('&', "&amp;")))
        .collect();
    if !links.is_empty() {
        blocks.push(section(links.join("\n")));
    }
    let about = format!("{} · {} · {}", sheet.kind, sheet.detector, sheet.id);
    blocks.push(json!({"type": "context", "elements": [mrkdwn(escaped(&about, 300))]}));
    json!({
        // What phones show of the message before it is opened.
        "text": escaped(&render::subject(alert), 400),
        "blocks": blocks,
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

fn section(text: String) -> Value {
    json!({"type": "section", "text": mrkdwn(text)})
}

/// `verbatim` keeps Slack from making links of what looks like an address or a channel.
fn mrkdwn(text: String) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

/// `text` with Slack's three control characters escaped, cut to `max` characters between escapes.
fn escaped(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len());
    let mut length = 0;
    for character in text.chars() {
        let escape = match character {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            _ => "",
        };
        length += escape.len().max(1);
        if length >= max {
            out.push('…');
            break;
        }
        match escape {
            "" => out.push(character),
            escape => out.push_str(escape),
        }
    }
    out
}
