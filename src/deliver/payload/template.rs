//! A webhook's body by a template of the site's own, in Jinja's language (minijinja).
//!
//! The template sees `alert` (`lanner/alert/v1`), `subject` (a mail's subject) and `text` (a mail's
//! plain text). For JSON, every value is written as JSON, quotes included, with or without the
//! filter `tojson`; for HTML and XML it is escaped; a name that does not exist is an error. All is
//! tried when the configuration is loaded, with an alert that has everything and one that has
//! nothing.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};

use crate::alert::{Actor, Alert, ObjectId, SourceIp, Status, render};

const NAME: &str = "body";

/// Instructions of a rendering: thousands of times what a body needs, and milliseconds.
const FUEL: u64 = 1_000_000;

/// A body's template that was found to be right.
pub struct Template {
    environment: Environment<'static>,
    json: bool,
}

impl Template {
    /// Tries the template; the error says what is wrong, and after a semicolon what would be right.
    pub fn new(source: &str, content_type: &str) -> Result<Template, String> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let essence = essence.to_ascii_lowercase();
        let json = essence.ends_with("/json") || essence.ends_with("+json");
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(move |_| match essence.as_str() {
            _ if json || essence.ends_with("ndjson") => AutoEscape::Json,
            "text/html" | "text/xml" | "application/xml" => AutoEscape::Html,
            _ => AutoEscape::None,
        });
        environment.set_fuel(Some(FUEL));
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| describe(&error))?;
        let template = Template { environment, json };
        for sample in [full(), bare()] {
            template.render(&sample)?;
        }
        Ok(template)
    }

    /// The body for an alert.
    pub fn render(&self, alert: &Alert) -> Result<String, String> {
        let context = context! {
            alert => Serde(alert),
            subject => render::subject(alert),
            text => render::mail_text(alert),
        };
        let template = self
            .environment
            .get_template(NAME)
            .expect("the template was added when this was made");
        let body = template.render(context).map_err(|error| describe(&error))?;
        if self.json
            && let Err(error) = serde_json::from_str::<serde_json::Value>(&body)
        {
            return Err(format!(
                "makes no JSON: {error}; values bring their own quotes, write {{{{ alert.summary }}}} without any around it"
            ));
        }
        Ok(body)
    }
}

fn describe(error: &minijinja::Error) -> String {
    let line = error.line().map(|line| format!("line {line}: "));
    let detail = error.detail().map(|detail| format!(": {detail}"));
    format!(
        "is no template that works: {}{}{}; names are those of the alert's JSON, as {{{{ alert.summary }}}}",
        line.unwrap_or_default(),
        error.kind(),
        detail.unwrap_or_default(),
    )
}

/// Something in every field, and texts that break what does not escape them.
fn full() -> Alert {
    Alert::sample(|| "a \"sample\" \\ of <text> & a\nsecond line".to_owned())
}

/// Nothing in any field that can be without.
fn bare() -> Alert {
    Alert {
        status: Status::Closed,
        first_seen: None,
        last_seen: None,
        detected_at: None,
        actor: Actor::default(),
        source_ip: SourceIp::default(),
        object: ObjectId::default(),
        attack: [].into(),
        references: [].into(),
        evidence: Vec::new(),
        summary: String::new(),
        reason: String::new(),
        cluster: String::new(),
        cluster_name: String::new(),
        user_agent: String::new(),
        guide: "".into(),
        triage: "".into(),
        remedy: "".into(),
        ..full()
    }
}
