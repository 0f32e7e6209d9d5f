//! Conditions in CEL (`when`), checked when a detector is loaded and cheap when it runs.
//!
//! A dotted field name is one variable here: `object.ns` is not a lookup in `object`, so a missing
//! key cannot be an error at run time. Comprehensions (`all`, `exists`, `map`, `filter`) are refused:
//! a condition's cost must not depend on a list that an attacker filled. So is `matches` but on a
//! field with a pattern that stands there: CEL would compile the pattern for every event, and from a
//! field it would be the attacker's.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue};
use cel::common::types::{CelBool, CelInt, CelString};
use cel::common::value::CowVal;
use cel::context::VariableResolver;
use cel::{Context, Env, Program, Value};
use regex::{Regex, RegexBuilder};

use crate::event::field::{FIELDS, FieldType};
use crate::event::{Field, FieldValue, View};

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// Nodes that an expression may have; a longer one wants a fact.
const MAX_NODES: usize = 200;

/// Bytes of an expression's text.
const MAX_SOURCE: usize = 4096;

/// Levels of an expression: evaluation recurses, on whatever stack a worker has.
const MAX_DEPTH: usize = 32;

/// Characters by which an expression nests, in its texts too: the parser recurses.
const MAX_NESTING: usize = 64;
const NESTING: &[u8] = b"([{!-?";

/// Bytes of stack for parsing: ten times what the limits above ask for in a debug build.
const DEEP_STACK: usize = 64 << 20;

/// Bytes that a compiled pattern may take: a few hundred are usual.
const MAX_PATTERN: usize = 1 << 20;

/// Bytes of a field that a condition sees. Values beyond are cut: no field that a detector reads
/// is longer in an honest event.
const MAX_VALUE: usize = 16 * 1024;

/// A checked condition.
#[derive(Clone)]
pub struct Condition {
    expression: IdedExpr,
    fields: Vec<Field>,
    patterns: Vec<Pattern>,
    source: String,
    nodes: usize,
}

/// `field.matches("…")`; in the expression it is a variable by its own name.
#[derive(Clone)]
struct Pattern {
    variable: String,
    field: Field,
    regex: Regex,
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
        if source.len() > MAX_SOURCE {
            return Err(ConditionError::new(format!(
                "is longer than {MAX_SOURCE} bytes; split the detector, or ask for a fact"
            )));
        }
        let nesting = source.bytes().filter(|byte| NESTING.contains(byte));
        if nesting.count() > MAX_NESTING {
            return Err(ConditionError::new(format!(
                "has more than {MAX_NESTING} of `( [ {{ ! - ?`; split the detector, or ask for a fact"
            )));
        }
        let walk = on_a_deep_stack(|| Walk::parse(source))?;
        let condition = Condition {
            expression: walk.expression,
            fields: walk.fields.into_iter().collect(),
            patterns: walk.patterns,
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
            evaluate(&self.expression, &self.with(values)),
            Ok(Value::Bool(true))
        )
    }

    fn with<'v>(&'v self, fields: Vec<(&'static str, FieldValue<'v>)>) -> Values<'v> {
        Values {
            fields,
            patterns: &self.patterns,
        }
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
            let value = |kind| match kind {
                FieldType::Str => FieldValue::from(text),
                FieldType::Int => FieldValue::Int(number),
                FieldType::List => FieldValue::List(vec![text.into()]),
            };
            let fields = FIELDS.iter().map(|info| (info.name, value(info.kind)));
            self.with(fields.collect())
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

/// The parser goes down a dozen calls for each level of nesting; what it returns is small.
fn on_a_deep_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(DEEP_STACK)
            .spawn_scoped(scope, work)
            .expect("there is memory for a thread, of which only what is used is taken")
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
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

struct Values<'v> {
    fields: Vec<(&'static str, FieldValue<'v>)>,
    patterns: &'v [Pattern],
}

impl Values<'_> {
    fn field(&self, name: &str) -> Option<&FieldValue<'_>> {
        let found = self.fields.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value)
    }
}

impl VariableResolver for Values<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let pattern = self.patterns.iter().find(|p| p.variable == variable);
        if let Some(Pattern { field, regex, .. }) = pattern {
            let holds = regex.is_match(&self.field(field.name())?.text());
            return Some(CowVal::owned(CelBool::from(holds)));
        }
        Some(match self.field(variable)? {
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
    expression: IdedExpr,
    fields: BTreeSet<Field>,
    patterns: Vec<Pattern>,
    nodes: usize,
    depth: usize,
    error: Option<ConditionError>,
}

impl Walk {
    fn parse(source: &str) -> Result<Walk, ConditionError> {
        let program = Program::compile(source)
            .map_err(|error| ConditionError::new(format!("does not parse: {error}")))?;
        let mut walk = Walk {
            expression: IdedExpr::default(),
            fields: BTreeSet::new(),
            patterns: Vec::new(),
            nodes: 0,
            depth: 0,
            error: None,
        };
        let mut expression = program.expression().clone();
        walk.visit(&mut expression);
        walk.expression = expression;
        if walk.nodes > MAX_NODES {
            return Err(ConditionError::new(format!(
                "has {} nodes, more than {MAX_NODES}; split the detector, or ask for a fact",
                walk.nodes
            )));
        }
        match walk.error.take() {
            Some(error) => Err(error),
            None => Ok(walk),
        }
    }

    fn visit(&mut self, node: &mut IdedExpr) {
        self.nodes += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            self.fail(ConditionError::new(format!(
                "nests more than {MAX_DEPTH} levels deep; split the detector, or ask for a fact"
            )));
        } else {
            self.visit_parts(node);
        }
        self.depth -= 1;
    }

    fn visit_parts(&mut self, node: &mut IdedExpr) {
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
            Expr::Call(call) if call.func_name == "matches" => match self.pattern(call) {
                Ok(variable) => node.expr = Expr::Ident(variable),
                Err(error) => self.fail(error),
            },
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

    /// The variable that stands for a call of `matches`.
    fn pattern(&mut self, call: &CallExpr) -> Result<String, ConditionError> {
        let mut arguments = call.target.as_deref().into_iter().chain(&call.args);
        let field = arguments.next().and_then(|target| path_of(&target.expr));
        let (Some(path), Some(pattern), None) = (field, arguments.next(), arguments.next()) else {
            return Err(ConditionError::new(
                "asks `matches` of something else than a field; write field.matches(\"pattern\")",
            ));
        };
        let Expr::Literal(LiteralValue::String(pattern)) = &pattern.expr else {
            return Err(ConditionError::new(
                "has a pattern that is no text; write field.matches(\"pattern\")",
            ));
        };
        let Some(field) = Field::parse(&path) else {
            return Err(ConditionError {
                message: format!("names no field: `{path}`"),
                unknown_name: Some(path),
            });
        };
        if field.info().kind != FieldType::Str {
            return Err(ConditionError::new(format!(
                "asks `matches` of `{path}`, which is no text"
            )));
        }
        let regex = RegexBuilder::new(pattern.inner())
            .size_limit(MAX_PATTERN)
            .dfa_size_limit(MAX_PATTERN)
            .build()
            .map_err(|error| ConditionError::new(format!("has a pattern that {error}")))?;
        self.fields.insert(field);
        // A name that no field has.
        let variable = format!("matches {}", self.patterns.len());
        self.patterns.push(Pattern {
            variable: variable.clone(),
            field,
            regex,
        });
        Ok(variable)
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
    fn costs_are_bounded() {
        for source in [
            format!("verb == \"{}\"", "a".repeat(MAX_SOURCE)),
            format!("{}verb == 'a'{}", "(".repeat(1_000), ")".repeat(1_000)),
            format!("{}true", "!".repeat(1_001)),
            format!("verb{}", ".a".repeat(1_000)),
            format!("{}1 == 1", "1 + ".repeat(1_000)),
            format!("verb in [{}]", vec!["'a'"; MAX_NODES].join(",")),
            vec!["verb == 'a'"; 100].join(" || "),
        ] {
            Condition::compile(&source).expect_err(&source);
        }
        // What the limits leave is not too much for the parser, nor for us.
        for source in [
            format!("{}verb == 'a'{}", "(".repeat(60), ")".repeat(60)),
            format!("{}true", "!".repeat(60)),
            format!("{}1 == 1", "1 + ".repeat(29)),
        ] {
            Condition::compile(&source).ok();
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
            "user_agent.matches(object.name)",
            "user_agent.matches('a' + 'b')",
            "(user_agent + verb).matches('a')",
            "actor.groups.matches('a')",
            "user_agent.matches('a', 'b')",
            r"user_agent.matches('(\\w{1000}){1000}')",
            "verb ==",
        ] {
            assert!(Condition::compile(source).is_err(), "{source}");
        }
    }
}
