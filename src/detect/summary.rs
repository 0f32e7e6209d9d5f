//! Renders the first sentence of an alert from its detector's template.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use minijinja::{Environment, UndefinedBehavior, Value};

use crate::event::{Field, FieldValue};

/// Bytes that one field may add to a summary.
const MAX_FIELD: usize = 400;

/// The template of an alert's first sentence.
#[derive(Clone)]
pub struct Summary {
    template: String,
    fields: Vec<Field>,
    environment: Arc<Environment<'static>>,
    /// The template's parts, where it is text and fields and nothing else, as nearly all are.
    plain: Option<Vec<Part>>,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Field(Field),
}

impl fmt::Debug for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Summary").field(&self.template).finish()
    }
}

/// Why a template is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SummaryError {
    Syntax(String),
    UnknownFields(Vec<String>),
}

/// Templates are compiled once, when a detector is loaded.
const NAME: &str = "summary";

/// The environment that templates are checked and rendered in: an unknown name is an error, and
/// nothing is escaped, because each medium escapes for itself.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment
}

impl Summary {
    /// Compiles a template; the fields that it names, or the names in it that are none, or why it
    /// does not parse.
    pub fn compile(template: &str) -> Result<Summary, SummaryError> {
        let mut environment = environment();
        environment
            .add_template_owned(NAME, template.to_owned())
            .map_err(|error| SummaryError::Syntax(error.to_string()))?;
        let mut used: Vec<String> = environment
            .get_template(NAME)
            .map(|template| template.undeclared_variables(true).into_iter().collect())
            .unwrap_or_default();
        used.sort();
        let (fields, unknown): (Vec<_>, Vec<_>) = used
            .into_iter()
            .map(|name| Field::parse(&name).ok_or(name))
            .partition(Result::is_ok);
        let unknown: Vec<String> = unknown.into_iter().filter_map(Result::err).collect();
        if !unknown.is_empty() {
            return Err(SummaryError::UnknownFields(unknown));
        }
        let fields = fields.into_iter().filter_map(Result::ok).collect();
        Ok(Summary {
            template: template.to_owned(),
            fields,
            environment: Arc::new(environment),
            plain: plain(template),
        })
    }

    /// The summary with `value` of each field; the template as it stands if it cannot be rendered.
    pub fn render<'v>(&self, value: impl Fn(Field) -> FieldValue<'v>) -> String {
        if let Some(parts) = &self.plain {
            let mut summary = String::with_capacity(160);
            for part in parts {
                match part {
                    Part::Text(text) => summary.push_str(text),
                    Part::Field(field) => summary.push_str(&bounded(&value(*field).text())),
                }
            }
            return summary;
        }
        self.render_template(value)
    }

    fn render_template<'v>(&self, value: impl Fn(Field) -> FieldValue<'v>) -> String {
        let mut plain: BTreeMap<&str, Value> = BTreeMap::new();
        let mut nested: BTreeMap<&str, BTreeMap<&str, Value>> = BTreeMap::new();
        for field in &self.fields {
            let text = shown(&value(*field));
            match field.name().split_once('.') {
                Some((parent, child)) => {
                    nested.entry(parent).or_default().insert(child, text);
                }
                None => {
                    plain.insert(field.name(), text);
                }
            }
        }
        for (parent, children) in nested {
            plain.insert(parent, Value::from_pairs(children));
        }
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(Value::from_pairs(plain)))
            .unwrap_or_else(|_| self.template.clone())
    }
}

/// The parts of a template that holds nothing but text and `{{ field }}`.
fn plain(template: &str) -> Option<Vec<Part>> {
    if template.contains(['\n', '\r']) {
        return None;
    }
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let (text, tag) = rest.split_at(start);
        let (name, after) = tag.strip_prefix("{{")?.split_once("}}")?;
        parts.push(Part::Text(text.to_owned()));
        parts.push(Part::Field(Field::parse(name.trim())?));
        rest = after;
    }
    parts.push(Part::Text(rest.to_owned()));
    Some(parts)
}

fn bounded(text: &str) -> Cow<'_, str> {
    if text.len() > MAX_FIELD {
        Cow::Owned(format!("{}…", &text[..text.floor_char_boundary(MAX_FIELD)]))
    } else {
        Cow::Borrowed(text)
    }
}

fn shown(value: &FieldValue<'_>) -> Value {
    match value {
        FieldValue::Int(number) => Value::from(*number),
        other => Value::from(bounded(&other.text()).as_ref()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::field::FIELDS;

    fn value(field: Field) -> FieldValue<'static> {
        match field {
            Field::ResponseCode => FieldValue::Int(403),
            Field::ActorGroups => FieldValue::List(vec!["a".into(), "b".into()]),
            other => FieldValue::from(other.name()),
        }
    }

    proptest! {
        /// Without the template engine, the text is the same.
        #[test]
        fn plain_templates_render_as_the_engine_does(
            parts in prop::collection::vec(("[ a-z.,:%#'\"-]{0,9}", prop::sample::select(FIELDS.iter().map(|info| info.name).collect::<Vec<_>>())), 0..6),
            end in "[ a-z.]{0,9}",
        ) {
            let template: String = parts
                .iter()
                .map(|(text, name)| format!("{text}{{{{ {name} }}}}"))
                .chain([end])
                .collect();
            // A dotted name and its parent cannot stand in one template.
            let Ok(summary) = Summary::compile(&template) else { return Ok(()) };
            prop_assert!(summary.plain.is_some());
            let parents = parts.iter().any(|(_, name)| {
                FIELDS.iter().any(|other| other.name.starts_with(&format!("{name}.")))
            });
            if !parents {
                prop_assert_eq!(summary.render(value), summary.render_template(value));
            }
        }
    }

    #[test]
    fn filters_and_tags_go_to_the_engine() {
        for template in [
            "{{ verb | upper }}",
            "{% if verb %}x{% endif %}",
            "{{ verb }}\nx",
        ] {
            let summary = Summary::compile(template).expect("a template");
            assert!(summary.plain.is_none(), "{template}");
        }
        assert_eq!(
            Summary::compile("{{ verb | upper }}")
                .expect("a template")
                .render(value),
            "VERB"
        );
    }
}
