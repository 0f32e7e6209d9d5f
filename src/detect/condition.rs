//! Conditions in CEL (`when`), checked when a detector is loaded and cheap when it runs.
//!
//! A dotted field name is one variable here: `object.ns` is not a lookup in `object`, so a missing
//! key cannot be an error at run time. Comprehensions (`all`, `exists`, `map`, `filter`) are refused:
//! a condition's cost must not depend on a list that an attacker filled.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{Expr, IdedExpr};
use cel::common::types::{CelInt, CelString};
use cel::common::value::CowVal;
use cel::context::VariableResolver;
use cel::{Context, Env, Program, Value};

use crate::event::field::{FIELDS, FieldType};
use crate::event::{Field, FieldValue, View};

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// Nodes that an expression may have; a longer one wants a fact.
const MAX_NODES: usize = 200;

/// Bytes of a field that a condition sees. Values beyond are cut: no field that a detector reads
/// is longer in an honest event.
const MAX_VALUE: usize = 16 * 1024;

/// A checked condition.
#[derive(Clone)]
pub struct Condition {
    expression: IdedExpr,
    fields: Vec<Field>,
    source: String,
    nodes: usize,
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Condition").field(&self.source).finish()
    }
}

/// What is wrong with a condition; `name` is what was looked for where a name is wrong.
#[derive(Debug, PartialEq)]
pub struct ConditionError {
    pub message: String,
    pub unknown_name: Option<String>,
}

impl ConditionError {
    fn new(message: impl Into<String>) -> ConditionError {
        ConditionError {
            message: message.into(),
            unknown_name: None,
        }
    }
}

impl Condition {
    /// Parses `source` and checks names, types, cost, and that the result is a boolean.
    pub fn compile(source: &str) -> Result<Condition, ConditionError> {
        let program = Program::compile(source)
            .map_err(|error| ConditionError::new(format!("does not parse: {error}")))?;
        let mut expression = program.expression().clone();
        let mut walk = Walk {
            fields: BTreeSet::new(),
            nodes: 0,
            error: None,
        };
        walk.visit(&mut expression);
        if let Some(error) = walk.error {
            return Err(error);
        }
        if walk.nodes > MAX_NODES {
            return Err(ConditionError::new(format!(
                "has {} nodes, more than {MAX_NODES}; split the detector, or ask for a fact",
                walk.nodes
            )));
        }
        let condition = Condition {
            expression,
            fields: walk.fields.into_iter().collect(),
            source: source.to_owned(),
            nodes: walk.nodes,
        };
        condition.check_types()?;
        Ok(condition)
    }

    /// Whether the condition holds. An error while it runs counts as not.
    pub fn holds(&self, view: &View<'_>) -> bool {
        let values = self
            .fields
            .iter()
            .map(|field| (field.name(), bound(view.field(*field))))
            .collect();
        matches!(
            evaluate(&self.expression, &Values(values)),
            Ok(Value::Bool(true))
        )
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// Nodes of the expression: what `lanner check` shows as its cost.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// Runs every part of the expression on sample values. Without comprehensions each part stands
    /// by itself, so a wrong type shows even behind a short circuit.
    fn check_types(&self) -> Result<(), ConditionError> {
        let samples = |text: &'static str, number: i64| {
            Values(
                FIELDS
                    .iter()
                    .map(|info| {
                        let value = match info.kind {
                            FieldType::Str => FieldValue::from(text),
                            FieldType::Int => FieldValue::Int(number),
                            FieldType::List => FieldValue::List(vec![text.into()]),
                        };
                        (info.name, value)
                    })
                    .collect(),
            )
        };
        for values in [samples("", 0), samples("sample", 200)] {
            let mut error = None;
            each_node(&self.expression, &mut |node| {
                if error.is_none()
                    && let Err(cause) = evaluate(node, &values)
                {
                    error = Some(ConditionError::new(format!("cannot be evaluated: {cause}")));
                }
            });
            if let Some(error) = error {
                return Err(error);
            }
            match evaluate(&self.expression, &values) {
                Ok(Value::Bool(_)) => {}
                _ => return Err(ConditionError::new("gives no true or false")),
            }
        }
        Ok(())
    }
}

fn evaluate(expression: &IdedExpr, values: &Values<'_>) -> Result<Value, cel::ExecutionError> {
    let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
    context.set_variable_resolver(values);
    context.resolve(expression)
}

fn bound(value: FieldValue<'_>) -> FieldValue<'_> {
    match value {
        FieldValue::Str(text) if text.len() > MAX_VALUE => FieldValue::Str(
            text[..text.floor_char_boundary(MAX_VALUE)]
                .to_owned()
                .into(),
        ),
        other => other,
    }
}

struct Values<'v>(Vec<(&'static str, FieldValue<'v>)>);

impl VariableResolver for Values<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let (_, value) = self.0.iter().find(|(name, _)| *name == variable)?;
        Some(match value {
            FieldValue::Str(text) => CowVal::owned(CelString::from(text.as_ref())),
            FieldValue::Int(number) => CowVal::owned(CelInt::from(*number)),
            FieldValue::List(items) => {
                let items: Vec<Value> = items
                    .iter()
                    .map(|item| Value::from(item.as_ref()))
                    .collect();
                CowVal::Owned(Value::from(items).try_into().ok()?)
            }
        })
    }
}

/// Replaces field paths by single names, and collects what the expression uses.
struct Walk {
    fields: BTreeSet<Field>,
    nodes: usize,
    error: Option<ConditionError>,
}

impl Walk {
    fn visit(&mut self, node: &mut IdedExpr) {
        self.nodes += 1;
        if let Some(path) = path_of(&node.expr) {
            match Field::parse(&path) {
                Some(field) => {
                    self.fields.insert(field);
                    node.expr = Expr::Ident(field.name().to_owned());
                }
                None => self.fail(ConditionError {
                    message: format!("names no field: `{path}`"),
                    unknown_name: Some(path),
                }),
            }
            return;
        }
        match &mut node.expr {
            Expr::Call(call) => {
                if let Some(target) = &mut call.target {
                    self.visit(target);
                }
                call.args.iter_mut().for_each(|arg| self.visit(arg));
            }
            Expr::List(list) => list.elements.iter_mut().for_each(|item| self.visit(item)),
            Expr::Literal(_) => {}
            Expr::Comprehension(_) => self.fail(ConditionError::new(
                "loops over a list (all, exists, map, filter); use `\"x\" in field`, or a fact",
            )),
            _ => self.fail(ConditionError::new(
                "uses more of CEL than fields, literals, lists, operators and functions",
            )),
        }
    }

    fn fail(&mut self, error: ConditionError) {
        self.error.get_or_insert(error);
    }
}

/// `a.b.c` where the expression spells one.
fn path_of(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => Some(format!(
            "{}.{}",
            path_of(&select.operand.expr)?,
            select.field
        )),
        _ => None,
    }
}

fn each_node(node: &IdedExpr, visit: &mut dyn FnMut(&IdedExpr)) {
    visit(node);
    match &node.expr {
        Expr::Call(call) => {
            if let Some(target) = &call.target {
                each_node(target, visit);
            }
            call.args.iter().for_each(|arg| each_node(arg, visit));
        }
        Expr::List(list) => list.elements.iter().for_each(|item| each_node(item, visit)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_conditions_compile() {
        for source in [
            r#"object.ns.startsWith("prod-")"#,
            r#"response.code >= 400 && "system:masters" in actor.groups"#,
            r#"user_agent.matches("^kubectl/") || !(object.ns in ["a", "b"])"#,
        ] {
            Condition::compile(source).unwrap_or_else(|e| panic!("{source}: {}", e.message));
        }
    }

    #[test]
    fn wrong_names_types_and_loops_are_refused() {
        let error = Condition::compile("object.namespace == 'x'").unwrap_err();
        assert_eq!(error.unknown_name.as_deref(), Some("object.namespace"));
        for source in [
            "evnt.verb == 'get'",
            "response.code == 'x' || response.code.startsWith('2')",
            "object.ns",
            "verb == 'get' || object.ns + 1 == 2",
            "actor.groups.exists(g, g == 'x')",
            "user_agent.matches('(')",
            "verb ==",
        ] {
            assert!(Condition::compile(source).is_err(), "{source}");
        }
    }
}
