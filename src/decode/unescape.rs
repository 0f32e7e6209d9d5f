//! What the inside of a JSON string stands for, run by run.
//!
//! Lenient, so that a damaged record still gives up what it holds: what cannot be read becomes
//! U+FFFD and is said. A lone surrogate is such a thing: it is no text, serde_json refuses it, and
//! Go, which writes audit events, never writes one.

use memchr::memchr;

use super::Damage;

/// Appends the text that `escaped` (without its quotes) stands for to `out`, and says the first
/// thing that was wrong with it.
pub fn unescape(escaped: &str, out: &mut String) -> Option<Damage> {
    out.reserve(escaped.len());
    let bytes = escaped.as_bytes();
    let mut damage = None;
    let mut at = 0;
    while let Some(found) = memchr(b'\\', &bytes[at..]) {
        let slash = at + found;
        out.push_str(&escaped[at..slash]);
        at = slash + 2;
        let plain = match bytes.get(slash + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'n') => '\n',
            Some(b't') => '\t',
            Some(b'r') => '\r',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'u') => match code_point(&bytes[slash..]) {
                Ok((char, length)) => {
                    at = slash + length;
                    char
                }
                Err(Damage::CutOff) => return damage.or(Some(Damage::CutOff)),
                Err(reason) => {
                    damage = damage.or(Some(reason));
                    // A lone surrogate is six bytes; of a malformed escape only the slash is dropped.
                    at = slash + if reason == Damage::NotUtf8 { 6 } else { 1 };
                    '\u{fffd}'
                }
            },
            Some(_) => {
                damage = damage.or(Some(Damage::NotJson));
                at = slash + 1;
                '\u{fffd}'
            }
            None => return damage.or(Some(Damage::CutOff)),
        };
        out.push(plain);
    }
    out.push_str(&escaped[at..]);
    damage
}

/// The character that `\uXXXX`, or a surrogate pair of two such, stands for, and its length in
/// bytes.
fn code_point(escape: &[u8]) -> Result<(char, usize), Damage> {
    let first = unit(escape)?;
    if let Some(char) = char::from_u32(first) {
        return Ok((char, 6));
    }
    if first < 0xDC00 {
        let rest = &escape[6..];
        if rest.is_empty() || rest == b"\\" {
            return Err(Damage::CutOff);
        }
        if rest.starts_with(b"\\u") {
            let second = unit(rest)?;
            if (0xDC00..0xE000).contains(&second) {
                let scalar = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                return char::from_u32(scalar)
                    .map(|char| (char, 12))
                    .ok_or(Damage::NotUtf8);
            }
        }
    }
    Err(Damage::NotUtf8)
}

/// The UTF-16 unit of the `\uXXXX` that `escape` begins with.
fn unit(escape: &[u8]) -> Result<u32, Damage> {
    let digits = escape.get(2..escape.len().min(6)).unwrap_or(&[]);
    let mut unit = 0;
    for digit in digits {
        let value = char::from(*digit).to_digit(16).ok_or(Damage::NotJson)?;
        unit = unit << 4 | value;
    }
    if digits.len() < 4 {
        return Err(Damage::CutOff);
    }
    Ok(unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(escaped: &str) -> (String, Option<Damage>) {
        let mut out = String::new();
        let damage = unescape(escaped, &mut out);
        (out, damage)
    }

    #[test]
    fn reads_every_escape() {
        let escapes = r#"\"\\\/\n\t\r\b\f\u0026\u00e9\ud83d\ude00 é"#;
        assert_eq!(
            run(escapes),
            ("\"\\/\n\t\r\u{8}\u{c}&é😀 é".to_owned(), None)
        );
    }

    #[test]
    fn replaces_what_is_no_text_and_says_so() {
        let text = |text: &str| text.to_owned();
        assert_eq!(
            run(r"a\ud800b"),
            (text("a\u{fffd}b"), Some(Damage::NotUtf8))
        );
        assert_eq!(
            run(r"a\ud800\u0041b"),
            (text("a\u{fffd}Ab"), Some(Damage::NotUtf8))
        );
        assert_eq!(run(r"\udc00"), (text("\u{fffd}"), Some(Damage::NotUtf8)));
        assert_eq!(run(r"a\xb"), (text("a\u{fffd}xb"), Some(Damage::NotJson)));
        assert_eq!(run(r"a\é"), (text("a\u{fffd}é"), Some(Damage::NotJson)));
        assert_eq!(
            run(r"\u00zzb"),
            (text("\u{fffd}u00zzb"), Some(Damage::NotJson))
        );
    }

    #[test]
    fn stops_at_an_escape_that_is_cut_off() {
        for cut in [
            r"a\",
            r"a\u",
            r"a\u00e",
            r"a\ud83d",
            r"a\ud83d\",
            r"a\ud83d\u00",
        ] {
            assert_eq!(run(cut), ("a".to_owned(), Some(Damage::CutOff)), "{cut}");
        }
    }

    proptest! {
        #[test]
        fn undoes_what_serde_json_writes(text in any::<String>()) {
            let written = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(run(&written[1..written.len() - 1]), (text, None));
        }

        #[test]
        fn agrees_with_serde_json_on_anything(inner in r#"([a-zé ]|\\["\\/bfnrtu]|\\u[0-9a-fA-F]{3,4}|\\ud[89a-f][0-9a-f]{2}){0,12}"#) {
            let (text, damage) = run(&inner);
            match serde_json::from_str::<String>(&format!("\"{inner}\"")) {
                Ok(expected) => prop_assert_eq!((text, damage), (expected, None)),
                Err(_) => prop_assert!(damage.is_some()),
            }
        }
    }
}
