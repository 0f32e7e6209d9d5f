//! Temporary.
pub fn redact(text: &str) -> std::borrow::Cow<'_, str> {
    text.into()
}
