//! Temporary.
use std::ops::Range;
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnostic {
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub key: String,
    pub message: String,
    pub help: Option<String>,
}
impl Diagnostic {
    pub fn at_span(
        file: &str,
        text: &str,
        span: Range<usize>,
        key: impl Into<String>,
        message: impl Into<String>,
        help: Option<String>,
    ) -> Diagnostic {
        let before = &text[..span.start.min(text.len())];
        Diagnostic {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.len() - before.rfind('\n').map_or(0, |i| i + 1) + 1,
            key: key.into(),
            message: message.into(),
            help,
        }
    }
}
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(name, c), c))
        .min()
        .filter(|(d, _)| *d <= 3)
        .map(|(_, c)| c)
}
impl Diagnostic {
    pub fn from_toml_error(file: &str, text: &str, error: &toml::de::Error) -> Diagnostic {
        Diagnostic::at_span(
            file,
            text,
            error.span().unwrap_or(0..0),
            "",
            error.message(),
            None,
        )
    }
}
