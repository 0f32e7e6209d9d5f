//! Renders the first sentence of an alert from its detector's template.

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
        })
    }

    /// The summary with `value` of each field; the template as it stands if it cannot be rendered.
    pub fn render<'v>(&self, value: impl Fn(Field) -> FieldValue<'v>) -> String {
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

fn shown(value: &FieldValue<'_>) -> Value {
    match value {
        FieldValue::Int(number) => Value::from(*number),
        other => {
            let text = other.text();
            if text.len() > MAX_FIELD {
                Value::from(format!("{}…", &text[..text.floor_char_boundary(MAX_FIELD)]))
            } else {
                Value::from(text.as_ref())
            }
        }
    }
}
