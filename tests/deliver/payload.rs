//! What each kind of receiver is sent: against its published format, with kind and hostile texts.

use std::time::Duration;

use jiff::Timestamp;
use lanner::alert::{Alert, Severity, Status};
use lanner::config::secret::Secret;
use lanner::deliver::payload;
use serde_json::{Value, json};

use crate::common::{alert, bare, hostile};

const SLACK: &str = include_str!("schema/slack.json");
const TEAMS: &str = include_str!("schema/teams.json");
const PAGERDUTY: &str = include_str!("schema/pagerduty.json");
const ALERTMANAGER: &str = include_str!("schema/alertmanager.json");
const OCSF: &str = include_str!("schema/ocsf.json");

type Renderer = fn(&Alert) -> Value;

fn now() -> Timestamp {
    "2026-11-20T10:05:00Z".parse().unwrap()
}

fn key() -> Secret {
    Secret::new("routing-key-of-32-characters-0000")
}

fn alertmanager(alert: &Alert) -> Value {
    payload::alertmanager(alert, now(), Duration::from_secs(24 * 3600))
}

fn pagerduty(alert: &Alert) -> Value {
    payload::pagerduty(alert, &key())
}

/// Alerts with something everywhere, with nothing, with hostile texts, later ones, closed ones.
fn all() -> Vec<Alert> {
    let mut alerts = Vec::new();
    for severity in Severity::ALL {
        alerts.push(alert("5d1f0c-1", severity));
        alerts.push(alert("5d1f0c-2", severity));
        alerts.push(bare(severity));
        alerts.push(hostile(severity));
    }
    let closed = alerts.clone().into_iter().map(|alert| Alert {
        status: Status::Closed,
        notification_id: format!("{}-closed", alert.id),
        ..alert
    });
    let closed: Vec<_> = closed.collect();
    alerts.extend(closed);
    alerts
}

#[test]
fn every_payload_follows_its_published_format() {
    let renderers: [(&str, &str, Renderer); 5] = [
        ("slack", SLACK, payload::slack),
        ("teams", TEAMS, payload::teams),
        ("pagerduty", PAGERDUTY, pagerduty),
        ("alertmanager", ALERTMANAGER, alertmanager),
        ("ocsf", OCSF, payload::ocsf),
    ];
    for (name, schema, render) in renderers {
        let schema: Value = serde_json::from_str(schema).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        assert!(!validator.is_valid(&json!({})), "{name} takes anything");
        for alert in all() {
            let payload = render(&alert);
            let errors: Vec<String> = validator
                .iter_errors(&payload)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{name}: {errors:#?}\n{payload:#}");
        }
    }
}

/// Every text within, with its key.
fn texts(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(map) => map.values().for_each(|item| texts(item, found)),
        _ => {}
    }
}

fn texts_of(value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    texts(value, &mut found);
    found
}

#[test]
fn slack_shows_hostile_text_as_text() {
    for alert in all() {
        let message = payload::slack(&alert);
        let texts = texts_of(&message);
        let total: usize = texts.iter().map(|text| text.chars().count()).sum();
        assert!(total < 13_000, "{total} characters");
        // The header is no mrkdwn: nothing in it means anything.
        let header = message["blocks"][0]["text"]["text"].as_str().unwrap();
        for text in texts.iter().filter(|text| *text != header) {
            let reference = text.starts_with("<https://kubernetes.io/") && text.ends_with('>');
            assert!(reference || !text.contains(['<', '>']), "{text}");
            let mut parts = text.split('&');
            parts.next();
            for part in parts {
                let escape = ["amp;", "lt;", "gt;"].iter().any(|e| part.starts_with(e));
                assert!(escape, "{text}");
            }
            assert!(
                !text.contains(|c: char| c.is_control() && c != '\n'),
                "{text:?}"
            );
            if let Some(code) = text
                .strip_prefix("```")
                .and_then(|text| text.strip_suffix("```"))
            {
                assert!(!code.contains('`'), "{text}");
            }
        }
    }
}

#[test]
fn teams_shows_hostile_text_in_runs_alone() {
    for alert in all() {
        let message = payload::teams(&alert);
        let size = message.to_string().len();
        assert!(size < 28_000, "{size} bytes");
        // Text blocks and facts take markdown: there are none.
        let text = message.to_string();
        for element in ["\"TextBlock\"", "\"FactSet\"", "\"Image\""] {
            assert!(!text.contains(element));
        }
        for text in texts_of(&message) {
            assert!(!text.contains(char::is_control), "{text:?}");
            assert!(!text.starts_with("javascript:"));
        }
    }
}

#[test]
fn slack_as_a_person_reads_it() {
    let message = payload::slack(&alert("5d1f0c-1", Severity::High));
    let types = ["header", "section", "context", "plain_text", "mrkdwn"];
    let mut texts = texts_of(&message);
    texts.retain(|text| !types.contains(&text.as_str()));
    insta::assert_snapshot!(texts.join("\n\n"));
    insta::assert_snapshot!("slack", format!("{message:#}"));
}

#[test]
fn teams_as_a_person_reads_it() {
    let message = payload::teams(&alert("5d1f0c-1", Severity::High));
    let card = &message["attachments"][0]["content"];
    let mut lines = Vec::new();
    let mut elements: Vec<&Value> = card["body"].as_array().unwrap().iter().collect();
    elements.reverse();
    while let Some(element) = elements.pop() {
        if let Some(items) = element["items"].as_array() {
            elements.extend(items.iter().rev());
        }
        if let Some(inlines) = element["inlines"].as_array() {
            let runs = inlines.iter().filter_map(|run| run["text"].as_str());
            lines.push(runs.collect::<String>());
        }
    }
    insta::assert_snapshot!(lines.join("\n"));
    insta::assert_snapshot!("teams", format!("{message:#}"));
}

#[test]
fn pagerduty_triggers_and_resolves_one_incident() {
    let open = pagerduty(&alert("5d1f0c-1", Severity::High));
    insta::assert_snapshot!("pagerduty", format!("{open:#}"));
    let mut closed = alert("5d1f0c-closed", Severity::High);
    closed.status = Status::Closed;
    let expected = json!({
        "routing_key": key().expose(),
        "event_action": "resolve",
        "dedup_key": open["dedup_key"],
    });
    assert_eq!(pagerduty(&closed), expected);
    let severities: Vec<Value> = Severity::ALL
        .into_iter()
        .map(|severity| pagerduty(&alert("a", severity))["payload"]["severity"].clone())
        .collect();
    assert_eq!(severities, ["info", "info", "warning", "error", "critical"]);
}

#[test]
fn alertmanager_ends_what_is_closed_and_what_became_graver() {
    let posts = alertmanager(&alert("5d1f0c-1", Severity::High));
    insta::assert_snapshot!("alertmanager", format!("{posts:#}"));
    assert_eq!(posts.as_array().unwrap().len(), 1);
    assert_eq!(posts[0]["endsAt"], "2026-11-21T10:05:00Z");

    let posts = alertmanager(&alert("5d1f0c-2", Severity::High));
    let ends = |posts: &Value| -> Vec<(String, bool)> {
        let posts = posts.as_array().unwrap().iter();
        posts
            .map(|post| {
                let severity = post["labels"]["severity"].as_str().unwrap().to_owned();
                (severity, post["endsAt"] == now().to_string())
            })
            .collect()
    };
    let severity = |name: &str, ended| (name.to_owned(), ended);
    let lower = ["info", "low", "medium"].map(|name| severity(name, true));
    let mut expected = vec![severity("high", false)];
    expected.extend(lower.clone());
    assert_eq!(ends(&posts), expected);

    let mut closed = alert("5d1f0c-closed", Severity::High);
    closed.status = Status::Closed;
    // Clocks differ: an alert must not end before it begins.
    closed.first_seen = "2026-11-20T10:06:00Z".parse().ok();
    let posts = alertmanager(&closed);
    expected[0] = severity("high", true);
    assert_eq!(ends(&posts), expected);
    assert_eq!(posts[0]["startsAt"], posts[0]["endsAt"]);
}

#[test]
fn an_ocsf_finding_is_created_updated_and_closed() {
    let created = payload::ocsf(&alert("5d1f0c-1", Severity::High));
    let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    let shown = format!("{created:#}").replace(&version, "\"version\": \"VERSION\"");
    insta::assert_snapshot!("ocsf", shown);
    let updated = payload::ocsf(&alert("5d1f0c-2", Severity::High));
    let mut alert = alert("5d1f0c-closed", Severity::High);
    alert.status = Status::Closed;
    alert.attack = ["T1552.007".to_owned()].into();
    let closed = payload::ocsf(&alert);
    for (finding, activity) in [(&created, 1), (&updated, 2), (&closed, 3)] {
        assert_eq!(finding["activity_id"], activity);
        assert_eq!(finding["type_uid"], 200_400 + activity);
        assert_eq!(
            finding["finding_info"]["uid"],
            created["finding_info"]["uid"]
        );
    }
    assert_eq!(
        (&created["is_alert"], &closed["is_alert"]),
        (&json!(true), &json!(false))
    );
    let attack = &closed["finding_info"]["attacks"][0];
    assert_eq!(attack["technique"]["uid"], "T1552");
    assert_eq!(attack["sub_technique"]["uid"], "T1552.007");
}

#[test]
fn a_template_of_ones_own_cannot_be_broken_out_of() {
    let source = r#"{"title": {{ subject }}, "who": {{ alert.actor.user|tojson }},
        "all": {{ alert }}, "what": {{ alert.detector.title ~ ": " ~ alert.summary }},
        "evidence": [{% for one in alert.evidence %}{{ one.excerpt }}{% if not loop.last %},{% endif %}{% endfor %}]}"#;
    let template = payload::Template::new(source, "application/json").unwrap();
    for alert in all() {
        let body: Value = serde_json::from_str(&template.render(&alert).unwrap()).unwrap();
        assert_eq!(body["who"], json!(alert.actor.user));
        assert_eq!(body["all"], serde_json::to_value(&alert).unwrap());
        assert_eq!(body.as_object().unwrap().len(), 5);
    }
    let html = payload::Template::new("<p>{{ alert.summary }}</p>", "text/html").unwrap();
    let html = html.render(&hostile(Severity::High)).unwrap();
    assert_eq!(html.matches('<').count(), 2, "{html}");
}

#[test]
fn a_wrong_template_is_refused_when_loaded() {
    let refused =
        |source: &str, content_type: &str| match payload::Template::new(source, content_type) {
            Ok(_) => panic!("{source} is taken"),
            Err(error) => error,
        };
    let cases = [
        ("{{ alert.sumary }}", "text/plain"),
        ("{{ alert.summary", "text/plain"),
        ("{% for x in alert.evidence %}", "text/plain"),
        ("{{ alert.summary|shout }}", "text/plain"),
        ("{% include 'secrets' %}", "text/plain"),
        ("{\"title\": \"{{ alert.summary }}\"}", "application/json"),
        (
            "{\"who\": {{ alert.evidence[0].excerpt }}}",
            "application/json",
        ),
        (
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ b }}{% endfor %}{% endfor %}",
            "text/plain",
        ),
    ];
    let shown: Vec<String> = cases
        .iter()
        .map(|(source, content_type)| format!("{source}\n  {}", refused(source, content_type)))
        .collect();
    insta::assert_snapshot!(shown.join("\n\n"));
}
