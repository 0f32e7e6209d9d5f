//! A lenient look at JSON text: where values end, which members an object has, what shape it is.
//!
//! It serves to tell shapes apart and to split documents before any parse, and to walk over damaged
//! records after serde_json has refused them. It never decides that something is valid JSON, keeps
//! no stack (so that no depth of nesting can exhaust ours) and reads each byte at most once.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;

use super::unescape::unescape;

/// From this many levels on serde_json refuses a value.
pub const DEPTH_LIMIT: usize = 128;

/// Where a value ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The index behind the value's last byte.
    pub end: usize,
    /// The text did not end before the value did.
    pub whole: bool,
    /// The value nests [`DEPTH_LIMIT`] levels or more.
    pub deep: bool,
}

/// The index of the first byte at or after `at` that is no JSON whitespace.
pub fn skip_space(text: &[u8], at: usize) -> usize {
    text[at..]
        .iter()
        .position(|byte| !is_space(*byte))
        .map_or(text.len(), |found| at + found)
}

pub fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Without JSON whitespace at both ends, and how many bytes went at the start.
pub fn trim(text: &[u8]) -> (&[u8], usize) {
    let start = skip_space(text, 0);
    let end = text
        .iter()
        .rposition(|byte| !is_space(*byte))
        .map_or(start, |last| last + 1);
    (&text[start..end.max(start)], start)
}

/// The index behind the closing quote of the string that opens at `at`; `None` if it never closes.
pub fn string_end(text: &[u8], at: usize) -> Option<usize> {
    let mut from = at + 1;
    loop {
        let found = from + memchr2(b'"', b'\\', text.get(from..)?)?;
        if text[found] == b'"' {
            return Some(found + 1);
        }
        from = found + 2;
    }
}

/// Where the brackets that are open at `at`, `depth` of them, are closed.
pub fn close(text: &[u8], at: usize, mut depth: usize) -> Extent {
    let mut deep = false;
    let mut index = at;
    while let Some(byte) = text.get(index) {
        match byte {
            b'"' => match string_end(text, index) {
                Some(end) => {
                    index = end;
                    continue;
                }
                None => break,
            },
            b'{' | b'[' => {
                depth += 1;
                deep |= depth >= DEPTH_LIMIT;
            }
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Extent {
                        end: index + 1,
                        whole: true,
                        deep,
                    };
                }
            }
            _ => {}
        }
        index += 1;
    }
    Extent {
        end: text.len(),
        whole: false,
        deep,
    }
}

/// Where the value that begins at `at` ends. Brackets are counted, not matched by kind.
pub fn value_end(text: &[u8], at: usize) -> Extent {
    let len = text.len();
    let extent = |end: Option<usize>| Extent {
        end: end.unwrap_or(len),
        whole: end.is_some(),
        deep: false,
    };
    match text.get(at) {
        None => extent(None),
        Some(b'"') => extent(string_end(text, at)),
        Some(b'{' | b'[') => close(text, at + 1, 1),
        Some(_) => extent(
            text[at..]
                .iter()
                .position(|byte| is_space(*byte) || matches!(byte, b',' | b'}' | b']' | b':'))
                .map(|found| at + found),
        ),
    }
}

/// How a walk over an object or array ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// At its closing bracket.
    Closed,
    /// The text ended first.
    Cut,
    /// At something that cannot stand there.
    Broken,
}

/// One member of an object; ranges are into the walked text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The key as written, without its quotes.
    pub key: Range<usize>,
    pub value: Range<usize>,
    /// The text did not end before the value did.
    pub whole: bool,
}

/// Walks the members of the object that `text` begins with.
pub struct Members<'a> {
    text: &'a [u8],
    at: usize,
    end: Option<End>,
}

impl<'a> Members<'a> {
    pub fn new(text: &'a [u8]) -> Members<'a> {
        debug_assert_eq!(text.first(), Some(&b'{'));
        Members {
            text,
            at: 1,
            end: None,
        }
    }

    /// How the walk ended; [`End::Cut`] while it has not.
    pub fn end(&self) -> End {
        self.end.unwrap_or(End::Cut)
    }

    fn stop<T>(&mut self, end: End) -> Option<T> {
        self.end = Some(end);
        None
    }

    /// The next member as its key and where its value begins; the value is still to be walked over.
    fn next_key(&mut self) -> Option<(Range<usize>, usize)> {
        if self.end.is_some() {
            return None;
        }
        self.at = skip_space(self.text, self.at);
        if self.at > 1 && self.text.get(self.at) == Some(&b',') {
            self.at = skip_space(self.text, self.at + 1);
        }
        match self.text.get(self.at) {
            Some(b'"') => {}
            Some(b'}') => return self.stop(End::Closed),
            Some(_) => return self.stop(End::Broken),
            None => return self.stop(End::Cut),
        }
        let Some(key_end) = string_end(self.text, self.at) else {
            return self.stop(End::Cut);
        };
        let key = self.at + 1..key_end - 1;
        self.at = key_end;
        self.expect(b':')?;
        self.at = skip_space(self.text, self.at);
        Some((key, self.at))
    }

    /// The value after [`Members::next_key`], and whether all of it is there.
    fn next_value(&mut self) -> Option<(Range<usize>, bool)> {
        let extent = value_end(self.text, self.at);
        if extent.whole && extent.end == self.at {
            return self.stop(End::Broken);
        }
        if !extent.whole && self.at == self.text.len() {
            return self.stop(End::Cut);
        }
        let value = self.at..extent.end;
        self.at = extent.end;
        if !extent.whole {
            self.end = Some(End::Cut);
        }
        Some((value, extent.whole))
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.at = skip_space(self.text, self.at);
        match self.text.get(self.at) {
            Some(found) if *found == byte => {
                self.at += 1;
                Some(())
            }
            Some(_) => {
                self.end = Some(End::Broken);
                None
            }
            None => {
                self.end = Some(End::Cut);
                None
            }
        }
    }
}

impl Iterator for Members<'_> {
    type Item = Member;

    fn next(&mut self) -> Option<Member> {
        let (key, _) = self.next_key()?;
        let (value, whole) = self.next_value()?;
        Some(Member { key, value, whole })
    }
}

/// A key's text from what stands between its quotes.
pub fn key_text(written: &[u8]) -> Cow<'_, str> {
    match String::from_utf8_lossy(written) {
        text if text.contains('\\') => {
            let mut out = String::new();
            unescape(&text, &mut out);
            Cow::Owned(out)
        }
        text => text,
    }
}

/// Walks the elements of the array that `text` begins with, as ranges and whether each is whole.
pub struct Elements<'a> {
    text: &'a [u8],
    at: usize,
    end: Option<End>,
}

impl<'a> Elements<'a> {
    pub fn new(text: &'a [u8]) -> Elements<'a> {
        debug_assert_eq!(text.first(), Some(&b'['));
        Elements {
            text,
            at: 1,
            end: None,
        }
    }

    pub fn end(&self) -> End {
        self.end.unwrap_or(End::Cut)
    }

    /// The index behind what has been walked over.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The index at which the next element would begin.
    pub fn peek(&self) -> usize {
        let next = skip_space(self.text, self.at);
        if self.at > 1 && self.text.get(next) == Some(&b',') {
            return skip_space(self.text, next + 1);
        }
        next
    }

    /// Takes the next element, which another has read, to end at `at`.
    pub fn skip_to(&mut self, at: usize) {
        self.at = at;
    }
}

impl Iterator for Elements<'_> {
    type Item = (Range<usize>, bool);

    fn next(&mut self) -> Option<(Range<usize>, bool)> {
        if self.end.is_some() {
            return None;
        }
        self.at = self.peek();
        match self.text.get(self.at) {
            None => {
                self.end = Some(End::Cut);
                return None;
            }
            Some(b']') => {
                self.at += 1;
                self.end = Some(End::Closed);
                return None;
            }
            Some(_) => {}
        }
        let extent = value_end(self.text, self.at);
        if extent.whole && extent.end == self.at {
            self.end = Some(End::Broken);
            return None;
        }
        let range = self.at..extent.end;
        self.at = extent.end;
        if !extent.whole {
            self.end = Some(End::Cut);
        }
        Some((range, extent.whole))
    }
}

/// What an object is, told by its top-level keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A diagnostic record: what `records` holds, or an `AzureDiagnostics` row (which has the same
    /// keys with other names).
    Envelope,
    /// `{"records":[…]}` or a list of audit events; the index of the array's bracket.
    Document(usize),
    /// An audit event.
    Event,
    /// A row of `AKSAudit` or `AKSAuditAdmin`.
    Row,
    Unknown,
}

/// Tells the shape of the object that `text` begins with by the first key that decides; usually the
/// first of all. Of the array of a document nothing is looked at but its bracket.
pub fn shape(text: &[u8]) -> Shape {
    let mut weak = Shape::Unknown;
    let mut members = Members::new(text);
    while let Some((key, start)) = members.next_key() {
        let key = key_text(&text[key]);
        if matches!(key.as_ref(), "records" | "items") && text.get(start) == Some(&b'[') {
            return Shape::Document(start);
        }
        let Some((value, _)) = members.next_value() else {
            break;
        };
        match key.as_ref() {
            "properties" | "category" | "log_s" => return Shape::Envelope,
            "auditID"
            | "requestURI"
            | "objectRef"
            | "sourceIPs"
            | "impersonatedUser"
            | "requestReceivedTimestamp"
            | "stageTimestamp" => return Shape::Event,
            "kind" if &text[value] == b"\"Event\"" => return Shape::Event,
            "AuditId" | "RequestUri" | "ObjectRef" | "SourceIps" | "RequestReceivedTime" => {
                return Shape::Row;
            }
            "time" | "resourceId" | "operationName" | "Category" if weak == Shape::Unknown => {
                weak = Shape::Envelope;
            }
            "verb" | "stage" if weak == Shape::Unknown => weak = Shape::Event,
            _ => {}
        }
    }
    weak
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_of(text: &str) -> (usize, bool) {
        let extent = value_end(text.as_bytes(), 0);
        (extent.end, extent.whole)
    }

    #[test]
    fn finds_the_ends_of_values() {
        assert_eq!(end_of(r#""a\"b",1"#), (6, true));
        assert_eq!(end_of(r#"{"a":"}]"} "#), (10, true));
        assert_eq!(end_of(r#"{"a":"}"#), (7, false));
        assert_eq!(end_of(r#"[[],{}]x"#), (7, true));
        assert_eq!(end_of("12,"), (2, true));
        assert_eq!(end_of("12"), (2, false));
        assert_eq!(end_of(r#""a\"#), (3, false));
        assert_eq!(end_of(""), (0, false));
    }

    #[test]
    fn notices_depth_where_serde_json_does() {
        for depth in [DEPTH_LIMIT - 1, DEPTH_LIMIT] {
            let text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            let extent = value_end(text.as_bytes(), 0);
            assert!(extent.whole);
            assert_eq!(
                extent.deep,
                serde_json::from_str::<serde_json::Value>(&text).is_err()
            );
        }
    }

    #[test]
    fn walks_members_until_the_text_ends_or_breaks() {
        let walk = |text: &str| {
            let mut members = Members::new(text.as_bytes());
            let found: Vec<(String, String, bool)> = members
                .by_ref()
                .map(|member| {
                    (
                        text[member.key].to_owned(),
                        text[member.value].to_owned(),
                        member.whole,
                    )
                })
                .collect();
            (found, members.end())
        };
        let member = |key: &str, value: &str, whole| (key.to_owned(), value.to_owned(), whole);
        assert_eq!(walk("{}"), (vec![], End::Closed));
        assert_eq!(walk("{"), (vec![], End::Cut));
        assert_eq!(walk(r#"{"a"#), (vec![], End::Cut));
        assert_eq!(walk(r#"{"a": "#), (vec![], End::Cut));
        assert_eq!(walk(r#"{"a":,"#), (vec![], End::Broken));
        assert_eq!(walk("{1}"), (vec![], End::Broken));
        assert_eq!(
            walk(r#"{"a":1,"b":[2"#),
            (
                vec![member("a", "1", true), member("b", "[2", false)],
                End::Cut
            )
        );
        assert_eq!(
            walk(r#"{ "a" : 1 , "b" : "x" }"#),
            (
                vec![member("a", "1", true), member("b", "\"x\"", true)],
                End::Closed
            )
        );
    }

    #[test]
    fn tells_shapes_apart() {
        for (text, expected) in [
            (r#"{"time":"x","properties":{}}"#, Shape::Envelope),
            (r#"{"time":"x","resourceId":"y"}"#, Shape::Envelope),
            (r#"{"TimeGenerated":"x","log_s":"y"}"#, Shape::Envelope),
            (r#"{"records":[]}"#, Shape::Document(11)),
            (r#"{"kind":"EventList","items":[]}"#, Shape::Document(28)),
            (r#"{"kind":"Event"}"#, Shape::Event),
            (r#"{"level":"Metadata","verb":"get"}"#, Shape::Event),
            (r#"{"level":"Metadata","audit\u0049D":"x"}"#, Shape::Event),
            (r#"{"TenantId":"x","AuditId":"y"}"#, Shape::Row),
            (r#"{"kind":"Pod","spec":{"items":[]}}"#, Shape::Unknown),
            ("{", Shape::Unknown),
        ] {
            assert_eq!(shape(text.as_bytes()), expected, "{text}");
        }
    }
}
