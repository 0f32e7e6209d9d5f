//! Text from a log record made harmless to look at; [`super::render`] and [`crate::deliver`] use it.
//!
//! User names, user agents and object names are the attacker's to choose. Control characters move
//! cursors and split headers, bidirectional overrides and invisible characters make one text look
//! like another: they are shown as what they are, on one line.

use std::borrow::Cow;
use std::fmt::Write;

/// `text` on one line, with every character that is not seen as itself written as an escape.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unseen) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if is_unseen(character) => {
                let code = u32::from(character);
                let written = if code < 0x100 {
                    write!(out, "\\x{code:02x}")
                } else {
                    write!(out, "\\u{{{code:x}}}")
                };
                written.expect("a string can be written to");
            }
            _ => out.push(character),
        }
    }
    Cow::Owned(out)
}

/// `text` cut to `max` characters, the last of which then is `…`.
pub fn bounded(text: &str, max: usize) -> Cow<'_, str> {
    match text.char_indices().nth(max) {
        None => Cow::Borrowed(text),
        Some(_) => {
            let keep = max.saturating_sub(1);
            let mut out: String = text.chars().take(keep).collect();
            out.push('…');
            Cow::Owned(out)
        }
    }
}

/// `text` for a mail's header: bounded, on one line, without anything unseen.
pub fn header(text: &str, max: usize) -> String {
    let words: Vec<&str> = text
        .split(|character: char| is_unseen(character) || character.is_whitespace())
        .filter(|word| !word.is_empty())
        .collect();
    bounded(&words.join(" "), max).into_owned()
}

/// JSON text, the same value, without characters that act on a terminal: JSON escapes only the first
/// 32 control characters by itself.
pub fn json_for_terminals(json: &str) -> Cow<'_, str> {
    let acts = |c: char| !c.is_ascii() && is_unseen(c) || c == '\u{7f}';
    if json.is_ascii() && !json.contains('\u{7f}') || !json.contains(acts) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if acts(character) {
            // Nothing but a string can hold it.
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}").expect("a string can be written to");
            }
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

/// Control characters, line and paragraph separators, bidirectional marks and overrides, zero-width,
/// blank and filler characters, tags.
fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{17b4}'
                | '\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{2800}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff9}'..='\u{fffc}'
                | '\u{13430}'..='\u{1343f}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_seen_stays_as_it_is() {
        for text in [
            "",
            "kubectl/v1.30 (linux/amd64)",
            "Jürgen Müller",
            "日本語 🦅",
        ] {
            assert!(matches!(printable(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn what_misleads_is_shown() {
        assert_eq!(printable("a\x1b[2Jb\r\nc"), "a\\x1b[2Jb\\r\\nc");
        assert_eq!(printable("user\u{202e}nimda"), "user\\u{202e}nimda");
        assert_eq!(printable("ad\u{200b}min\u{9b}1m"), "ad\\u{200b}min\\x9b1m");
    }

    #[test]
    fn a_header_is_one_bounded_line() {
        assert_eq!(
            header("alert\r\nBcc: mallory@example.com\u{202e}", 100),
            "alert Bcc: mallory@example.com"
        );
        assert_eq!(header("abcdef", 4), "abc…");
    }

    #[test]
    fn json_keeps_its_value_and_loses_its_power() {
        let value = serde_json::json!({"a": "é\u{9b}2J\u{202e}\u{7f}\u{e0001}\n", "日": [1, "🦅"]});
        let plain = value.to_string();
        let safe = json_for_terminals(&plain);
        assert!(!safe.chars().any(is_unseen), "{safe}");
        assert!(safe.contains("é\\u009b2J\\u202e\\u007f\\udb40\\udc01\\n") && safe.contains("🦅"));
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&safe).ok(),
            Some(value)
        );
        assert!(matches!(
            json_for_terminals("{\"a\":\"é\"}"),
            Cow::Borrowed(_)
        ));
    }

    proptest! {
        #[test]
        fn nothing_unseen_is_left(text in any::<String>(), max in 1usize..50) {
            prop_assert!(!printable(&text).chars().any(is_unseen));
            prop_assert!(!header(&text, max).chars().any(is_unseen));
            prop_assert!(bounded(&text, max).chars().count() <= max);
        }
    }
}
