//! From the log in an envelope to what it holds: an audit event, a line, or nothing for us.
//!
//! Comes from [`super::decoder`], where the walker has left the log; the text is unescaped once, and
//! read by [`super::audit`] or [`super::apiserver`].

use memchr::memchr;

use super::envelope::Log;
use super::{Content, Damage, Ignored, apiserver, audit, unescape};
use crate::event::{Category, Origin};

/// What the log of a record of ours holds; `scratch` takes its text if it has to be unescaped.
pub(super) fn read<'a>(
    log: Log<'a>,
    origin: &Origin,
    scratch: &'a mut String,
) -> (Content<'a>, Option<Damage>) {
    let (text, damage) = match log {
        Log::Missing => return (Content::Nothing(Ignored::NoPayload), None),
        Log::Other => {
            let ignored = Content::Nothing(Ignored::Damaged);
            return (ignored, Some(Damage::WrongType));
        }
        Log::Object(text) => (text, None),
        Log::Escaped(escaped) if memchr(b'\\', escaped.as_bytes()).is_none() => (escaped, None),
        Log::Escaped(escaped) => {
            let damage = unescape::unescape(escaped, scratch);
            (scratch.as_str(), damage)
        }
    };
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace());
    let (payload, found) = if text.is_empty() {
        (Content::Nothing(Ignored::NoPayload), None)
    } else if origin.category == Category::KubeApiserver {
        let line = apiserver::Line::parse(text, origin.time);
        (Content::Line(line), None)
    } else if text.starts_with('{') {
        audit::read(text)
    } else if apiserver::has_header(text) || !text.contains("\":") {
        (Content::Nothing(Ignored::Text), None)
    } else {
        // The rest of an event that was split in two: container runtimes do so at 16 KiB.
        (Content::Nothing(Ignored::Damaged), Some(Damage::NotJson))
    };
    (payload, damage.or(found))
}
