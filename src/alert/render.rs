//! Alerts as people read them: in a terminal, and as a mail's subject, text and HTML.
//!
//! Every medium shows the same [`Sheet`], whose texts are bounded and printable; the HTML template
//! escapes mark-up on its own. Nothing in a mail is loaded from elsewhere.

use std::fmt::Write;
use std::sync::LazyLock;

use jiff::Timestamp;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

pub use super::escape::printable;

use super::escape::{bounded, header};
use super::incident::Incident;
use super::{Alert, Evidence, Kind, Severity, Status};
use crate::detect::techniques::tactic_name;

/// Pieces of evidence that are shown; the alert's JSON has all.
const MAX_EVIDENCE: usize = 5;

/// Longest subject, in characters; phones show less.
const MAX_SUBJECT: usize = 150;

/// What a person needs of an alert, in the order in which they need it.
#[derive(Debug, Serialize)]
pub(crate) struct Sheet {
    pub severity: &'static str,
    pub colour: &'static str,
    pub status: &'static str,
    pub kind: &'static str,
    pub title: String,
    pub summary: String,
    pub reason: String,
    /// Label and value; only what is known.
    pub rows: Vec<(&'static str, String)>,
    pub triage: Vec<String>,
    pub remedy: Vec<String>,
    pub guide: String,
    pub references: Vec<String>,
    pub evidence: Vec<Piece>,
    /// Pieces of evidence that are not shown.
    pub more: usize,
    pub detector: String,
    pub id: String,
    pub notification_id: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct Piece {
    pub when: String,
    pub excerpt: String,
    pub place: String,
    pub kql: String,
}

impl Sheet {
    pub fn new(alert: &Alert) -> Sheet {
        Sheet {
            severity: alert.severity.as_str(),
            colour: colour(alert.severity),
            status: match alert.status {
                Status::Open => "open",
                Status::Closed => "closed",
            },
            kind: match alert.detector.kind {
                Kind::Threat => "Threat",
                Kind::Change => "Change",
                Kind::Hygiene => "Hygiene",
            },
            title: text(&alert.detector.title, 120),
            summary: text(&alert.summary, 400),
            reason: text(&alert.reason, 1_000),
            rows: rows(alert),
            triage: paragraphs(&alert.triage),
            remedy: paragraphs(&alert.remedy),
            guide: text(&alert.guide, 120),
            references: alert
                .references
                .iter()
                .filter(|reference| reference.starts_with("https://"))
                .map(|reference| text(reference, 300))
                .collect(),
            evidence: alert
                .evidence
                .iter()
                .take(MAX_EVIDENCE)
                .map(piece)
                .collect(),
            more: alert.evidence.len().saturating_sub(MAX_EVIDENCE),
            detector: format!(
                "{} revision {}",
                text(&alert.detector.id, 80),
                alert.detector.revision
            ),
            id: text(&alert.id, 120),
            notification_id: text(&alert.notification_id, 140),
        }
    }
}

fn rows(alert: &Alert) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    let mut row = |label, value: String| {
        if !value.is_empty() {
            rows.push((label, value));
        }
    };
    let actor = &alert.actor;
    let mut who = text(&actor.user, 200);
    if let Some(impersonated) = &actor.impersonated {
        let _ = write!(who, " acting as {}", text(impersonated, 200));
    }
    row("Who", who);
    row("From", source(alert));
    row("Client", text(&alert.user_agent, 200));
    row("Cluster", cluster(alert));
    row("Object", object(alert));
    row("When", when(alert));
    let techniques: Vec<_> = alert.attack.iter().map(|id| text(id, 20)).collect();
    row("ATT&CK", techniques.join(", "));
    rows
}

fn source(alert: &Alert) -> String {
    let source = &alert.source_ip;
    let Some(address) = &source.address else {
        return String::new();
    };
    let network = source
        .network
        .as_deref()
        .filter(|network| network != address);
    let details: Vec<_> = [Some(&*source.class), network]
        .into_iter()
        .flatten()
        .filter(|detail| !detail.is_empty())
        .map(|detail| text(detail, 60))
        .collect();
    match details.is_empty() {
        true => text(address, 60),
        false => format!("{} ({})", text(address, 60), details.join(", ")),
    }
}

/// The name, or the last part of the ARM id.
pub(crate) fn cluster(alert: &Alert) -> String {
    let name = match alert.cluster_name.is_empty() {
        true => alert.cluster.rsplit('/').next().unwrap_or_default(),
        false => &alert.cluster_name,
    };
    text(name, 120)
}

pub(crate) fn object(alert: &Alert) -> String {
    let object = &alert.object;
    let mut kind = object.resource.clone();
    if !object.subresource.is_empty() {
        let _ = write!(kind, "/{}", object.subresource);
    }
    if !object.group.is_empty() {
        let _ = write!(kind, ".{}", object.group);
    }
    let name = match (object.namespace.is_empty(), object.name.is_empty()) {
        (_, true) if object.namespace.is_empty() => String::new(),
        (_, true) => format!("in {}", object.namespace),
        (true, false) => object.name.clone(),
        (false, false) => format!("{}/{}", object.namespace, object.name),
    };
    text(format!("{kind} {name}").trim(), 300)
}

/// First and last time in UTC, and how often.
fn when(alert: &Alert) -> String {
    let (Some(first), Some(last)) = (alert.first_seen, alert.last_seen) else {
        return alert
            .first_seen
            .or(alert.last_seen)
            .map(utc)
            .unwrap_or_default();
    };
    let mut text = utc(first);
    if last != first {
        let same_day = day(first) == day(last);
        let until = match same_day {
            true => last.strftime("%H:%M:%S UTC").to_string(),
            false => utc(last),
        };
        text = format!("{} to {until}", text.trim_end_matches(" UTC"));
    }
    if alert.count > 1 {
        let _ = write!(text, ", {} times", alert.count);
    }
    text
}

fn utc(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn day(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d").to_string()
}

fn piece(evidence: &Evidence) -> Piece {
    Piece {
        when: evidence.time.map(utc).unwrap_or_default(),
        excerpt: text(&evidence.excerpt, 800),
        place: text(
            format!("{} {}", evidence.source, evidence.position).trim(),
            200,
        ),
        kql: text(&evidence.kql(), 800),
    }
}

fn text(text: &str, max: usize) -> String {
    // Cut first: an attacker's 64 KiB are not worth escaping.
    printable(&bounded(text.trim(), max)).into_owned()
}

/// A detector's own prose: its lines belong together, an empty line parts them.
fn paragraphs(prose: &str) -> Vec<String> {
    let flowed = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    prose
        .split("\n\n")
        .map(|paragraph| text(&flowed(paragraph), 2_000))
        .filter(|paragraph| !paragraph.is_empty())
        .collect()
}

/// Dark enough for white text on it.
fn colour(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "#7f1d1d",
        Severity::High => "#c2261d",
        Severity::Medium => "#b45309",
        Severity::Low => "#1d5fa8",
        Severity::Info => "#52606d",
    }
}

/// The alert on one line: when, where, which detector, what.
pub fn one_line(alert: &Alert) -> String {
    let mut line = String::new();
    if let Some(time) = alert.last_seen.or(alert.first_seen) {
        let _ = write!(line, "{} ", time.strftime("%Y-%m-%dT%H:%M:%SZ"));
    }
    for part in [cluster(alert), text(&alert.detector.id, 80)] {
        if !part.is_empty() {
            let _ = write!(line, "{part} ");
        }
    }
    line.push_str(&text(&alert.summary, 400));
    line
}

/// The alert as a block of lines for a terminal, with an empty line at its end.
pub fn terminal(alert: &Alert, colour: bool) -> String {
    let sheet = Sheet::new(alert);
    let paint = |codes: &str, text: &str| match colour {
        true => format!("\x1b[{codes}m{text}\x1b[0m"),
        false => text.to_owned(),
    };
    let codes = severity_codes(alert.severity);
    let mut out = paint(codes, &sheet.severity.to_uppercase());
    let _ = writeln!(out, "  {}", paint("1", &sheet.summary));
    let mut line = |label: &str, value: &str| {
        if !value.is_empty() {
            let label = paint("2", &format!("{label:<9}"));
            let _ = writeln!(out, "  {label}{value}");
        }
    };
    line("why", &sheet.reason);
    for (label, value) in &sheet.rows {
        line(&label.to_lowercase(), value);
    }
    line("detector", &format!("{} ({})", sheet.detector, sheet.title));
    for paragraph in &sheet.triage {
        line("look at", paragraph);
    }
    for paragraph in &sheet.remedy {
        line("remedy", paragraph);
    }
    for piece in &sheet.evidence {
        line("evidence", &piece.excerpt);
        line("", &format!("{} {}", piece.when, piece.place));
        line("", &piece.kql);
    }
    if sheet.more > 0 {
        line("", &format!("and {} more", sheet.more));
    }
    out
}

/// The incident as a block of lines for a terminal, with an empty line at its end.
pub fn incident(incident: &Incident, colour: bool) -> String {
    let paint = |codes: &str, text: &str| match colour {
        true => format!("\x1b[{codes}m{text}\x1b[0m"),
        false => text.to_owned(),
    };
    let tag = format!(
        "INCIDENT {} {}",
        &incident.id[..incident.id.len().min(8)],
        incident.severity.as_str().to_uppercase()
    );
    let mut out = paint(severity_codes(incident.severity), &tag);
    let _ = writeln!(out, "  {}", paint("1", &text(&incident.summary, 400)));
    let _ = writeln!(out, "  {}", text(&incident.account, 6_000));
    for step in &incident.steps {
        let when = step.first_seen.map(utc).unwrap_or_default();
        let tactics: Vec<&str> = step.tactics.iter().map(|t| tactic_name(t)).collect();
        let _ = writeln!(
            out,
            "  {when}  {:<8}  {:<20}  {}",
            step.severity.as_str(),
            text(&tactics.join(", "), 40),
            text(&step.summary, 300),
        );
    }
    out
}

fn severity_codes(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "1;37;41",
        Severity::High => "1;31",
        Severity::Medium => "1;33",
        Severity::Low => "1;36",
        Severity::Info => "1",
    }
}

/// A mail's subject: `[HIGH] what happened (cluster)`.
pub fn subject(alert: &Alert) -> String {
    let tag = match alert.status {
        Status::Open => alert.severity.as_str().to_uppercase(),
        Status::Closed => format!("{}, closed", alert.severity),
    };
    let cluster = header(&cluster(alert), 40);
    let tail = match cluster.is_empty() {
        true => String::new(),
        false => format!(" ({cluster})"),
    };
    let room = MAX_SUBJECT.saturating_sub(tag.len() + 3 + tail.chars().count());
    format!("[{tag}] {}{tail}", header(&alert.summary, room))
}

/// A mail's plain text.
pub fn mail_text(alert: &Alert) -> String {
    render("mail.txt", alert)
}

/// A mail's HTML: one document without images, scripts or links to anything but the references.
pub fn mail_html(alert: &Alert) -> String {
    render("mail.html", alert)
}

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_syntax(
        SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .expect("only whitespace differs from the default syntax"),
    );
    environment.set_auto_escape_callback(|name| match name.ends_with(".html") {
        true => AutoEscape::Html,
        false => AutoEscape::None,
    });
    let templates = [
        ("mail.html", include_str!("mail.html")),
        ("mail.txt", include_str!("mail.txt")),
    ];
    for (name, source) in templates {
        environment
            .add_template(name, source)
            .expect("the templates are constant and rendered in tests");
    }
    environment
});

fn render(name: &str, alert: &Alert) -> String {
    TEMPLATES
        .get_template(name)
        .and_then(|template| template.render(Serde(Sheet::new(alert))))
        .expect("the templates use fields of the sheet alone, all of which are always there")
}
