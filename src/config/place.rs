//! Where each key of the configuration was set: in the file, or by an environment variable.
//!
//! Values are merged and deserialised without positions; an error's path is looked up here.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::diagnose::Diagnostic;

/// A path into the configuration: `route[0].severity`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Path(pub Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Segment {
    Key(String),
    Index(usize),
}

impl Path {
    pub fn of(keys: &[&str]) -> Path {
        Path(keys.iter().map(|k| Segment::Key((*k).to_owned())).collect())
    }

    pub fn key(&self, key: &str) -> Path {
        let mut path = self.clone();
        path.0.push(Segment::Key(key.to_owned()));
        path
    }

    pub fn index(&self, index: usize) -> Path {
        let mut path = self.clone();
        path.0.push(Segment::Index(index));
        path
    }

    pub fn join(&self, below: &Path) -> Path {
        Path(self.0.iter().chain(&below.0).cloned().collect())
    }

    pub fn starts_with(&self, other: &Path) -> bool {
        self.0.starts_with(&other.0)
    }

    pub fn parent(&self) -> Path {
        Path(self.0[..self.0.len().saturating_sub(1)].to_vec())
    }

    /// The last key; empty for the root.
    pub fn last_key(&self) -> &str {
        self.0
            .iter()
            .rev()
            .find_map(|segment| match segment {
                Segment::Key(key) => Some(key.as_str()),
                Segment::Index(_) => None,
            })
            .unwrap_or_default()
    }

    /// The value at this path.
    pub fn get<'v>(&self, root: &'v toml::Value) -> Option<&'v toml::Value> {
        self.0
            .iter()
            .try_fold(root, |value, segment| match segment {
                Segment::Key(key) => value.get(key),
                Segment::Index(index) => value.get(index),
            })
    }

    pub fn get_mut<'v>(&self, root: &'v mut toml::Value) -> Option<&'v mut toml::Value> {
        self.0
            .iter()
            .try_fold(root, |value, segment| match segment {
                Segment::Key(key) => value.get_mut(key),
                Segment::Index(index) => value.get_mut(index),
            })
    }

    /// Takes the value at this path out of `root`.
    pub fn remove(&self, root: &mut toml::Value) -> Option<toml::Value> {
        let (last, above) = self.0.split_last()?;
        match (Path(above.to_vec()).get_mut(root)?, last) {
            (toml::Value::Table(table), Segment::Key(key)) => table.remove(key),
            (toml::Value::Array(items), Segment::Index(index)) if *index < items.len() => {
                Some(items.remove(*index))
            }
            _ => None,
        }
    }
}

impl From<&serde_path_to_error::Path> for Path {
    fn from(path: &serde_path_to_error::Path) -> Path {
        use serde_path_to_error::Segment as Seg;
        Path(
            path.iter()
                .map_while(|segment| match segment {
                    Seg::Map { key } => Some(Segment::Key(key.clone())),
                    Seg::Seq { index } => Some(Segment::Index(*index)),
                    Seg::Enum { .. } | Seg::Unknown => None,
                })
                .collect(),
        )
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => {
                    if i > 0 {
                        f.write_str(".")?;
                    }
                    if key.is_empty() || key.contains('.') {
                        write!(f, "{key:?}")?;
                    } else {
                        f.write_str(key)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Positions of keys and values in a TOML text.
#[derive(Debug, Clone, Default)]
struct Node {
    /// Of the key; of a list's entry, that of the value.
    key: Range<usize>,
    value: Range<usize>,
    below: BTreeMap<Segment, Node>,
}

impl Node {
    fn of_table(table: &DeTable<'_>) -> BTreeMap<Segment, Node> {
        table
            .iter()
            .map(|(key, value)| {
                let node = Node {
                    key: key.span(),
                    value: value.span(),
                    below: Node::below(value.get_ref()),
                };
                (Segment::Key(key.get_ref().to_string()), node)
            })
            .collect()
    }

    fn below(value: &DeValue<'_>) -> BTreeMap<Segment, Node> {
        match value {
            DeValue::Table(table) => Node::of_table(table),
            DeValue::Array(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| {
                    let node = Node {
                        key: item.span(),
                        value: item.span(),
                        below: Node::below(item.get_ref()),
                    };
                    (Segment::Index(index), node)
                })
                .collect(),
            _ => BTreeMap::new(),
        }
    }
}

/// What a remark is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Key,
    Value,
}

/// The file's text with the position of every key, and the variables that set keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    pub file: String,
    pub text: String,
    root: Node,
    variables: BTreeMap<Path, String>,
}

impl Places {
    pub fn new(file: String, text: &str, document: &DeTable<'_>) -> Places {
        Places {
            file,
            text: text.to_owned(),
            root: Node {
                below: Node::of_table(document),
                ..Node::default()
            },
            variables: BTreeMap::new(),
        }
    }

    pub fn set_by_variable(&mut self, path: Path, variable: String) {
        self.variables.insert(path, variable);
    }

    /// The environment variable that set this key, or a table above it.
    pub fn variable(&self, path: &Path) -> Option<&str> {
        let mut variables = self.variables.iter();
        variables
            .find(|(set, _)| path.starts_with(set))
            .map(|(_, variable)| variable.as_str())
    }

    /// The keys that the file has below `path`.
    pub fn keys_below(&self, path: &Path) -> Vec<&str> {
        let (node, depth) = self.deepest(path);
        let below = if depth == path.0.len() {
            node.below.keys().collect()
        } else {
            Vec::new()
        };
        below
            .into_iter()
            .filter_map(|segment| match segment {
                Segment::Key(key) => Some(key.as_str()),
                Segment::Index(_) => None,
            })
            .collect()
    }

    /// The deepest node on the way to `path`, and how many segments led to it.
    fn deepest(&self, path: &Path) -> (&Node, usize) {
        let mut node = &self.root;
        for (depth, segment) in path.0.iter().enumerate() {
            match node.below.get(segment) {
                Some(below) => node = below,
                None => return (node, depth),
            }
        }
        (node, path.0.len())
    }

    /// An error about `path`, at the place that set it; for a key that is not there, at the table
    /// that ought to hold it.
    pub fn error(
        &self,
        path: &Path,
        part: Part,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Diagnostic {
        let key = path.to_string();
        if let Some(variable) = self.variable(path) {
            return Diagnostic::new(variable, key, message, help);
        }
        let (node, depth) = self.deepest(path);
        if depth < path.0.len() {
            // Not in the file: a variable may have made the table that lacks it.
            let made = Path(path.0[..=depth].to_vec());
            let mut variables = self.variables.iter();
            if let Some((_, variable)) = variables.find(|(set, _)| set.starts_with(&made)) {
                return Diagnostic::new(variable.clone(), key, message, help);
            }
        }
        if depth == 0 {
            return Diagnostic::new(self.file.clone(), key, message, help);
        }
        let span = match part {
            Part::Value if depth == path.0.len() => node.value.clone(),
            _ => node.key.clone(),
        };
        Diagnostic::at_span(&*self.file, &self.text, span, key, message, help)
    }
}
