//! What is wrong with a configuration or detector file, where, and what would be right.
//!
//! Made by the loader of the configuration and by that of detector files; printed by `lanner check`
//! and at start. A line that holds a secret is shown without it.

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing starts with it.
    Error,
    Warning,
}

/// One remark about one place. `Display` renders it over several lines, with the source line and a
/// caret below the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub level: Level,
    /// Path of the file, or the environment variable that set the key.
    pub file: String,
    /// From 1; 0 where the remark is about no line.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// Full path of the key, as `webhook.soc.url` or `route[0].severity`; may be empty.
    pub key: String,
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    snippet: Option<Snippet>,
}

/// The source line without secrets and control characters, and what the carets mark, in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Snippet {
    line: String,
    start: usize,
    length: usize,
}

impl Diagnostic {
    /// An error that is about no place in a text: a file that cannot be read, an environment variable.
    pub fn new(
        file: impl Into<String>,
        key: impl Into<String>,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Diagnostic {
        Diagnostic {
            level: Level::Error,
            file: file.into(),
            line: 0,
            column: 0,
            key: key.into(),
            message: message.into(),
            help,
            snippet: None,
        }
    }

    /// An error at `span` (byte offsets, as [`toml::de::Error::span`] gives them) of `text`.
    pub fn at_span(
        file: impl Into<String>,
        text: &str,
        span: Range<usize>,
        key: impl Into<String>,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Diagnostic {
        let start = floor_char_boundary(text, span.start);
        let end = floor_char_boundary(text, span.end.max(start));
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[line_start..]
            .find('\n')
            .map_or(text.len(), |i| line_start + i);
        let column = text[line_start..start].chars().count();
        let length = text[start..end.min(line_end).max(start)].chars().count();
        let shown = if in_multi_line_string(&text[..line_start]) {
            "…".to_owned()
        } else {
            mask(text[line_start..line_end].trim_end_matches('\r'))
        };
        let shown = printable(&shown);
        let width = shown.chars().count();
        Diagnostic {
            line: text[..start].matches('\n').count() + 1,
            column: column + 1,
            snippet: Some(Snippet {
                start: column.min(width),
                length: length.min(width.saturating_sub(column)).max(1),
                line: shown,
            }),
            ..Diagnostic::new(file, key, message, help)
        }
    }

    /// As [`toml`] reports it, of text that it could not parse or deserialise.
    pub fn from_toml_error(
        file: impl Into<String>,
        text: &str,
        error: &toml::de::Error,
    ) -> Diagnostic {
        let (message, help) = explain(error.message());
        match error.span() {
            Some(span) => {
                let key = key_at(text, span.start);
                Diagnostic::at_span(file, text, span, key, message, help)
            }
            None => Diagnostic::new(file, "", message, help),
        }
    }

    pub fn warning(mut self) -> Diagnostic {
        self.level = Level::Warning;
        self
    }

    /// Shows nothing of the line behind the marked place: an unknown key may hold a secret.
    pub fn hide_rest(mut self) -> Diagnostic {
        if let Some(snippet) = &mut self.snippet {
            let end = snippet.start + snippet.length;
            if snippet.line.chars().count() > end {
                snippet.line = snippet.line.chars().take(end).collect();
                snippet.line.push_str(" …");
            }
        }
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Error => "error",
            Level::Warning => "warning",
        };
        write!(f, "{level}: {}", printable(&self.message))?;
        let number = self.line.to_string();
        let gutter = if self.line == 0 { 0 } else { number.len() };
        let variable = if self.file.starts_with(super::environment::PREFIX) {
            "environment variable "
        } else {
            ""
        };
        write!(f, "\n{:gutter$}--> {variable}{}", "", printable(&self.file))?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if let Some(snippet) = &self.snippet {
            let Snippet {
                line,
                start,
                length,
            } = snippet;
            write!(f, "\n{:gutter$} |\n{number} | {line}", "")?;
            write!(f, "\n{:gutter$} | {:start$}{:^<length$}", "", "", "")?;
        }
        if !self.key.is_empty() {
            write!(f, "\n{:gutter$} = key: {}", "", printable(&self.key))?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n{:gutter$} = help: {}", "", printable(help))?;
        }
        Ok(())
    }
}

/// The candidate most like `name`, if one is like it at all. `_`, `-` and case make no difference.
pub fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let plain = |text: &str| text.to_lowercase().replace('_', "-");
    let name = plain(name);
    let bound = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&name, &plain(candidate));
            (distance, candidate)
        })
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// "did you mean …?" where a candidate is near, else the candidates.
pub fn suggest<'c>(
    name: &str,
    candidates: impl IntoIterator<Item = &'c str> + Clone,
) -> Option<String> {
    if let Some(near) = nearest(name, candidates.clone()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let all: Vec<&str> = candidates.into_iter().collect();
    match all.as_slice() {
        [] => None,
        [one] => Some(format!("the only one is `{one}`")),
        _ if all.len() <= 24 => Some(format!("one of {}", all.join(", "))),
        _ => None,
    }
}

/// A message of serde or toml in this program's words, and the help in it.
pub(super) fn explain(message: &str) -> (String, Option<String>) {
    let names = || -> Vec<&str> { message.split('`').skip(1).step_by(2).collect() };
    if message.starts_with("unknown field `") || message.starts_with("unknown variant `") {
        let names = names();
        let (name, valid) = names.split_first().unwrap_or((&"", &[]));
        let what = if message.starts_with("unknown field") {
            format!("unknown key `{name}`")
        } else {
            format!("`{name}` is not one of the valid values")
        };
        return (what, suggest(name, valid.iter().copied()));
    }
    if let Some(name) = message.strip_prefix("missing field ") {
        return (format!("missing key {name}"), None);
    }
    let typed = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "));
    if let Some((found, wanted)) = typed {
        let wanted = match wanted {
            "u8" | "i8" | "u16" | "i16" => "a whole number, not so large",
            "u32" | "u64" | "usize" => "a whole number",
            "i32" | "i64" | "isize" => "an integer",
            "f32" | "f64" => "a number",
            "a boolean" => "true or false",
            "a sequence" => "a list",
            "a map" => "a table",
            "path string" => "a string",
            other if other.starts_with("struct ") => "a table",
            other if other.starts_with("enum ") => "a string",
            other => other,
        };
        let found = found
            .replace("sequence", "a list")
            .replace("map", "a table");
        return (format!("wanted {wanted}, found {found}"), None);
    }
    (message.to_owned(), None)
}

/// The path of the key at a byte offset of TOML text; empty where there is none.
fn key_at(text: &str, offset: usize) -> String {
    fn walk(table: &toml::de::DeTable<'_>, offset: usize, path: &mut String) -> bool {
        for (key, value) in table {
            let length = path.len();
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(key.get_ref());
            if into(value.get_ref(), offset, path)
                || key.span().contains(&offset)
                || value.span().contains(&offset)
            {
                return true;
            }
            path.truncate(length);
        }
        false
    }
    fn into(value: &toml::de::DeValue<'_>, offset: usize, path: &mut String) -> bool {
        match value {
            toml::de::DeValue::Table(table) => walk(table, offset, path),
            toml::de::DeValue::Array(items) => items.iter().enumerate().any(|(i, item)| {
                let length = path.len();
                write!(path, "[{i}]").expect("writing to a string cannot fail");
                let found = into(item.get_ref(), offset, path) || item.span().contains(&offset);
                if !found {
                    path.truncate(length);
                }
                found
            }),
            _ => false,
        }
    }
    let (document, _) = toml::de::DeTable::parse_recoverable(text);
    let mut path = String::new();
    walk(document.get_ref(), offset, &mut path);
    path
}

/// A key's name that says that its value is a secret. The patterns are wide, because misspelt keys
/// are what gets shown.
pub(super) fn names_secret(key: &str) -> bool {
    static SECRET: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(&format!("^{SECRET_WORD}$")).expect("the pattern is constant"));
    let key = key.to_lowercase().replace('_', "-");
    SECRET.is_match(&key) && !key.ends_with("-file")
}

const SECRET_WORD: &str = r"[\w.-]*(?:pas+w|pwd|passphrase|secret|secert|token|credential|connection-?_?string|(?:access|api|private|account|shared|signing|routing)[-_]?key)[\w.-]*";

/// `line` without what looks like a secret's value, and without the path of URLs: those of chat
/// services are secrets themselves.
fn mask(line: &str) -> String {
    static ASSIGNED: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(&format!(
            r#"(?i)(?:({SECRET_WORD})["']?\s*[=:]|^\s*({SECRET_WORD})\s)"#
        ))
        .expect("the pattern is constant")
    });
    static URL: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(://)(?:[^\s"'/@]*@)?([^\s"'/]*/)[^\s"']+"#).expect("the pattern is constant")
    });
    // A webhook's address without its scheme.
    static SCHEMELESS: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r#"(?i)^([^=]*\burl["']?\s*[=:])(?:[^:]|:[^/])*$"#)
            .expect("the pattern is constant")
    });
    static BARE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#"whsec_[^\s"']+"#).expect("the pattern is constant"));
    for captures in ASSIGNED.captures_iter(line) {
        let word = captures.get(1).or(captures.get(2));
        let plain_file = word.is_some_and(|word| {
            let word = word.as_str().to_lowercase();
            word.ends_with("-file") || word.ends_with("_file")
        });
        if plain_file {
            continue;
        }
        let end = captures.get(0).map_or(0, |whole| whole.end());
        return format!("{} …", line[..end].trim_end());
    }
    let line = SCHEMELESS.replace(line, "$1 …");
    let line = URL.replace_all(&line, "$1$2…");
    BARE.replace_all(&line, "…").into_owned()
}

fn in_multi_line_string(before: &str) -> bool {
    before.matches("\"\"\"").count() % 2 == 1 || before.matches("'''").count() % 2 == 1
}

fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\t' => out.push(' '),
            // Besides control characters, what reorders text on a terminal.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                out.extend(character.escape_unicode());
            }
            _ if character.is_control() => out.extend(character.escape_default()),
            _ => out.push(character),
        }
    }
    out
}

fn floor_char_boundary(text: &str, mut offset: usize) -> usize {
    offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_cut_from_lines_and_names_are_kept() {
        for (line, shown) in [
            ("password = \"hunter2\"", "password = …"),
            ("  pasword: hunter2", "  pasword: …"),
            ("password hunter2", "password …"),
            (
                "a = 1, 'signing-secret' = \"x\"",
                "a = 1, 'signing-secret' = …",
            ),
            ("password-file = \"/run/pw\"", "password-file = \"/run/pw\""),
            ("resources = [\"secrets\"]", "resources = [\"secrets\"]"),
            (
                "url = \"https://user:pw@hooks.example/T0/B1/x\"",
                "url = \"https://hooks.example/…\"",
            ),
            ("url = \"hooks.example/T0/B1/x\"", "url = …"),
            ("x = \"whsec_AAAA\"", "x = \"…\""),
        ] {
            assert_eq!(mask(line), shown);
        }
    }

    #[test]
    fn the_nearest_name_is_offered_and_no_far_one() {
        let names = ["timeout-secs", "url", "severity"];
        assert_eq!(nearest("timout_secs", names), Some("timeout-secs"));
        assert_eq!(nearest("Severty", names), Some("severity"));
        assert_eq!(nearest("bucket", names), None);
    }

    #[test]
    fn a_span_anywhere_in_any_text_can_be_shown() {
        let text = "é = \"\u{1b}[31m\r\nx = 'ü'";
        for start in 0..text.len() + 3 {
            for end in 0..text.len() + 3 {
                let shown = Diagnostic::at_span("f", text, start..end, "k", "m", None).to_string();
                assert!(!shown.contains('\u{1b}'));
            }
        }
    }

    #[test]
    fn an_error_of_toml_gets_its_key_and_the_nearest_name() {
        #[derive(serde::Deserialize, Debug)]
        #[serde(deny_unknown_fields)]
        struct Inner {
            #[serde(rename = "expect")]
            _expect: String,
        }
        #[derive(serde::Deserialize, Debug)]
        struct Outer {
            #[serde(rename = "test")]
            _test: Vec<Inner>,
        }
        let text = "[[test]]\nexpect = \"a\"\n[[test]]\nexpct = \"b\"\n";
        let error = toml::from_str::<Outer>(text).unwrap_err();
        let diagnostic = Diagnostic::from_toml_error("pod-exec.toml", text, &error);
        assert_eq!((diagnostic.line, diagnostic.column), (4, 1));
        assert_eq!(diagnostic.key, "test[1].expct");
        assert_eq!(diagnostic.message, "unknown key `expct`");
        assert_eq!(diagnostic.help.as_deref(), Some("did you mean `expect`?"));
    }
}
