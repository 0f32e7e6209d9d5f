//! A site's own body for a webhook: refused, or what it makes of a hostile alert is what it should.
//!
//! The first byte chooses the content type, the rest is the template.

use lanner::deliver::payload::Template;

use super::alert;

const TYPES: [&str; 4] = [
    "application/json",
    "text/html",
    "text/plain",
    "application/x-ndjson",
];

pub fn run(data: &[u8]) {
    let Some((choice, source)) = data.split_first() else {
        return;
    };
    let Ok(source) = std::str::from_utf8(source) else {
        return;
    };
    let content_type = TYPES[usize::from(*choice) % TYPES.len()];
    let Ok(template) = Template::new(source, content_type) else {
        return;
    };
    let alert = alert::of(&["\"},{\"<script>\u{202e}", "\\\"\n\r\u{0}'{{ x }}"]);
    // That an alert cannot be rendered is said; that it is rendered wrongly is not allowed.
    if let Ok(body) = template.render(&alert)
        && content_type == "application/json"
    {
        serde_json::from_str::<serde_json::Value>(&body).expect("it is checked to be JSON");
    }
}
