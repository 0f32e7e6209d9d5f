//! Where the values of a JSON document lie in a window of its bytes, and whether a file is such a
//! document at all or holds a value a line.

use std::ops::Range;

use super::Content;
use crate::decode::scan::{Members, close, is_space, key_text, skip_space, value_end};

/// How the bytes of a file are to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Lines,
    Document,
}

/// Tells a file's layout from its first bytes, `sample`.
///
/// A value that is complete on its line means lines. One that goes on in the next line is a
/// document, if the next line can follow; else it is a damaged line.
pub(super) fn layout(sample: &[u8]) -> Result<Layout, Content> {
    if let Some(content) = foreign(sample) {
        return Err(content);
    }
    let start = skip_space(sample, 0);
    if !matches!(sample.get(start), Some(b'{' | b'[')) {
        return Ok(Layout::Lines);
    }
    let newline = memchr::memchr(b'\n', &sample[start..]).map(|found| start + found);
    let line = &sample[start..newline.unwrap_or(sample.len())];
    if value_end(line, 0).whole {
        return Ok(Layout::Lines);
    }
    if line[0] == b'[' || array_of(line).is_some() {
        return Ok(Layout::Document);
    }
    match newline {
        Some(newline) if can_follow(line, &sample[newline + 1..]) => Ok(Layout::Document),
        _ => Ok(Layout::Lines),
    }
}

fn foreign(sample: &[u8]) -> Option<Content> {
    let text_start = skip_space(sample, 0);
    if sample.starts_with(b"Obj\x01") {
        Some(Content::Avro)
    } else if sample.starts_with(b"PAR1") {
        Some(Content::Parquet)
    } else if sample.starts_with(b"\xff\xfe") || sample.starts_with(b"\xfe\xff") {
        Some(Content::Utf16)
    } else if !matches!(sample.get(text_start), Some(b'{' | b'['))
        && sample.iter().take(1024).any(|byte| *byte == 0)
    {
        Some(Content::Binary)
    } else {
        None
    }
}

/// The index of the bracket of the array that the object `text` is a list of.
fn array_of(text: &[u8]) -> Option<usize> {
    Members::new(text)
        .find(|member| {
            text[member.value.start] == b'['
                && matches!(
                    key_text(&text[member.key.clone()]).as_ref(),
                    "records" | "items"
                )
        })
        .map(|member| member.value.start)
}

/// Whether JSON that breaks off behind `line`, outside of a string, can go on with `next`.
fn can_follow(line: &[u8], next: &[u8]) -> bool {
    let mut open = Vec::new();
    let mut index = 0;
    let mut last = 0;
    while let Some(byte) = line.get(index) {
        match byte {
            b'"' => match crate::decode::scan::string_end(line, index) {
                Some(end) => index = end - 1,
                None => return false,
            },
            b'{' | b'[' => open.push(*byte),
            b'}' | b']' => {
                open.pop();
            }
            _ => {}
        }
        if !is_space(*byte) {
            last = *byte;
        }
        index += 1;
    }
    let Some(first) = next.get(skip_space(next, 0)) else {
        return true;
    };
    // A record at the start of a line is the next record.
    if next.starts_with(b"{") {
        return false;
    }
    let starts_value = matches!(
        first,
        b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n'
    );
    match last {
        b'{' => matches!(first, b'"' | b'}'),
        b'[' => starts_value || *first == b']',
        b',' if open.last() == Some(&b'{') => *first == b'"',
        b',' | b':' => starts_value,
        _ => matches!(first, b',' | b':' | b'}' | b']'),
    }
}

/// What the values that are cut out lie in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Within {
    /// Nothing: they are top-level values.
    #[default]
    Top,
    /// A top-level array.
    Array,
    /// The array `records` or `items` of a top-level object.
    Member,
}

/// Where in a document we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Between(Within),
    /// Behind `records` or `items`, in the object that holds it.
    Behind,
    /// In something that is too long and is passed over.
    Skipping(Skip, Within),
}

impl Place {
    /// The place for passing over what begins here.
    pub(super) fn skip(self) -> Place {
        match self {
            Place::Between(within) => Place::Skipping(Skip::default(), within),
            Place::Behind => Place::Skipping(Skip::within_object(), Within::Top),
            Place::Skipping(..) => self,
        }
    }
}

/// What [`values`] found in a window.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Cut {
    /// The values; what cannot begin a value is among them, up to its line's end, to be counted as
    /// damage by who reads it.
    pub values: Vec<Range<usize>>,
    /// The bytes before this index are done with; behind it something begins that needs more bytes.
    pub done: usize,
}

/// Cuts the values out of `window`, from `place` on, which is moved along.
pub(super) fn values(window: &[u8], place: &mut Place) -> Cut {
    let mut cut = Cut::default();
    loop {
        match *place {
            Place::Between(within) => {
                let mut at = skip_space(window, cut.done);
                while window.get(at) == Some(&b',') {
                    at = skip_space(window, at + 1);
                }
                cut.done = at;
                let Some(byte) = window.get(at) else {
                    return cut;
                };
                match (within, byte) {
                    (Within::Top, b'[') => {
                        *place = Place::Between(Within::Array);
                        cut.done = at + 1;
                    }
                    (Within::Array, b']') => {
                        *place = Place::Between(Within::Top);
                        cut.done = at + 1;
                    }
                    (Within::Member, b']') => {
                        *place = Place::Behind;
                        cut.done = at + 1;
                    }
                    (Within::Top, b'{') if let Some(array) = array_of(&window[at..]) => {
                        *place = Place::Between(Within::Member);
                        cut.done = at + array + 1;
                    }
                    _ => {
                        let extent = value_end(window, at);
                        if !extent.whole {
                            return cut;
                        }
                        cut.done = if extent.end > at {
                            extent.end
                        } else {
                            memchr::memchr(b'\n', &window[at..])
                                .map_or(window.len(), |found| at + found + 1)
                        };
                        cut.values.push(at..cut.done);
                    }
                }
            }
            Place::Behind => {
                let rest = close(window, cut.done, 1);
                if !rest.whole {
                    return cut;
                }
                cut.done = rest.end;
                *place = Place::Between(Within::Top);
            }
            Place::Skipping(mut skip, within) => match skip.feed(&window[cut.done..]) {
                Some(length) => {
                    cut.done += length;
                    *place = Place::Between(within);
                }
                None => {
                    cut.done = window.len();
                    *place = Place::Skipping(skip, within);
                    return cut;
                }
            },
        }
    }
}

/// A walk to the end of a value that remembers where it is between windows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Skip {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Skip {
    fn within_object() -> Skip {
        Skip {
            depth: 1,
            ..Skip::default()
        }
    }

    /// The length of what belongs to the value; `None` if all does and the value goes on.
    fn feed(&mut self, bytes: &[u8]) -> Option<usize> {
        for (index, byte) in bytes.iter().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
            } else {
                match byte {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
            }
            if self.depth == 0 && !self.in_string {
                return Some(index + 1);
            }
        }
        None
    }
}
