//! Renders the first sentence of an alert from its detector's template.

use std::collections::BTreeMap;

use minijinja::{Environment, UndefinedBehavior, Value};

use super::detector::Summary;
use crate::event::{Field, FieldValue};

/// Bytes that one field may add to a summary.
const MAX_FIELD: usize = 400;

/// The environment that templates are checked and rendered in: an unknown name is an error, and
/// nothing is escaped, because each medium escapes for itself.
pub fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment
}

impl Summary {
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
        environment()
            .render_str(&self.template, Value::from_pairs(plain))
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
