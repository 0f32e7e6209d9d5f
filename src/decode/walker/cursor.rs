//! A place in a record's text, and how to read one JSON value there.
//!
//! Every method takes only what the strict parse takes, in the spelling that writers of audit events
//! use, and gives up ([`Fallback`]) at anything else. `ESCAPED` says that the text is the inside of
//! a JSON string: its quotes are `\"`, and its backslashes `\\`.

use std::borrow::Cow;

use serde::de::{Deserialize, IgnoredAny};

use super::Fallback;
use super::block::find_special;
use super::jump::jump;
use super::time::Minute;
use crate::decode::wire::{Int, Text, Texts, Time};

pub type Step<T> = Result<T, Fallback>;

/// How the text is written.
pub const PLAIN: bool = false;
pub const ESCAPED: bool = true;

pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
    /// Where unescaped values go; each byte of it is given out once.
    room: &'a mut [u8],
    pub minute: Minute,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str, at: usize, room: &'a mut [u8]) -> Cursor<'a> {
        Cursor {
            text,
            at,
            room,
            minute: Minute::default(),
        }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    pub fn slice(&self, from: usize, to: usize) -> Step<&'a str> {
        self.text.get(from..to).ok_or(Fallback::Syntax)
    }

    /// The text from its beginning.
    pub fn whole(&self) -> &'a str {
        self.text
    }

    /// Steps over bytes that are known to stand here, and to end at a character.
    pub fn skip_bytes(&mut self, length: usize) {
        self.at += length;
    }

    /// Bytes left for unescaped values.
    pub fn room(&self) -> usize {
        self.room.len()
    }

    pub fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    pub fn peek(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    /// Steps over `token` if it stands here.
    #[inline]
    pub fn skip(&mut self, token: &str) -> bool {
        let here = self.rest().starts_with(token.as_bytes());
        if here {
            self.at += token.len();
        }
        here
    }

    #[inline]
    pub fn expect(&mut self, token: &str) -> Step<()> {
        if self.skip(token) {
            Ok(())
        } else {
            Err(Fallback::Syntax)
        }
    }

    #[inline]
    fn quote<const E: bool>(&mut self) -> bool {
        self.skip(if E { "\\\"" } else { "\"" })
    }

    /// The key here and its colon.
    #[inline]
    pub fn key<const E: bool>(&mut self) -> Step<Cow<'a, str>> {
        if !self.quote::<E>() {
            return Err(Fallback::Syntax);
        }
        let key = self.inside::<E>()?;
        self.expect(":")?;
        Ok(Cow::Borrowed(key))
    }

    /// Steps over `key`, written with its quotes and colon, if it stands here.
    #[inline]
    pub fn skip_key<const E: bool>(&mut self, key: &str) -> bool {
        // Keys that differ mostly do so in their first letter.
        let first = if E { 2 } else { 1 };
        let letter = self.text.as_bytes().get(self.at + first);
        letter == key.as_bytes().get(first) && self.skip(key)
    }

    /// After a member or element: whether another one follows.
    #[inline]
    pub fn more(&mut self, close: u8) -> Step<bool> {
        let byte = self.peek();
        self.at += 1;
        match byte {
            b',' => Ok(true),
            _ if byte == close => Ok(false),
            _ => Err(Fallback::Syntax),
        }
    }

    /// Behind the opening bracket: whether it closes at once.
    #[inline]
    pub fn empty(&mut self, close: u8) -> bool {
        let closes = self.peek() == close;
        self.at += usize::from(closes);
        closes
    }

    /// A string, or `null`.
    #[inline]
    pub fn text<const E: bool>(&mut self) -> Step<&'a str> {
        if self.quote::<E>() {
            return self.inside::<E>();
        }
        match self.value::<Text, E>()?.0 {
            Cow::Borrowed(text) => Ok(text),
            Cow::Owned(_) => Err(Fallback::Value),
        }
    }

    /// Adds the strings of an array to `texts`; `null` adds none.
    pub fn texts<const E: bool>(&mut self, texts: &mut Vec<Cow<'a, str>>) -> Step<()> {
        if !self.skip("[") {
            texts.extend(self.value::<Texts, E>()?.0);
            return Ok(());
        }
        if self.empty(b']') {
            return Ok(());
        }
        loop {
            texts.push(Cow::Borrowed(self.text::<E>()?));
            if !self.more(b']')? {
                return Ok(());
            }
        }
    }

    pub fn int<const E: bool>(&mut self) -> Step<i64> {
        let digits = self.rest();
        let length = digits
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let ends = matches!(digits.get(length), Some(b',' | b'}'));
        if (1..=18).contains(&length) && ends && (digits[0] != b'0' || length == 1) {
            self.at += length;
            let number = |number, digit: &u8| number * 10 + i64::from(digit - b'0');
            return Ok(digits[..length].iter().fold(0, number));
        }
        Ok(self.value::<Int, E>()?.0)
    }

    pub fn time<const E: bool>(&mut self) -> Step<Time> {
        let text = self.text::<E>()?;
        match self.minute.parse(text) {
            Some(time) => Ok(Time(Some(time))),
            None => Time::parse(text).map_err(|_| Fallback::Value),
        }
    }

    /// Any value; a string that is plain is not looked at further.
    pub fn pass<const E: bool>(&mut self) -> Step<()> {
        if self.skip("{}") || self.skip("null") {
            return Ok(());
        }
        if self.quote::<E>() {
            return self.inside::<E>().map(|_| ());
        }
        self.value::<IgnoredAny, E>().map(|_| ())
    }

    /// The value here, as serde_json reads it by itself.
    pub fn value<T: Deserialize<'a>, const E: bool>(&mut self) -> Step<T> {
        let written = self.written::<E>()?;
        let plain = if E { self.unescape(written)? } else { written };
        serde_json::from_str(plain).map_err(|_| Fallback::Value)
    }

    /// The text of the value here.
    pub fn written<const E: bool>(&mut self) -> Step<&'a str> {
        let start = self.at;
        match self.peek() {
            b'{' | b'[' => self.jump::<E>()?,
            _ if self.quote::<E>() => while !self.closes::<E>()? {},
            _ => {
                let length = self
                    .rest()
                    .iter()
                    .take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
                    .count();
                self.at += length;
            }
        }
        self.slice(start, self.at)
    }

    /// Over the object or array here.
    pub fn jump<const E: bool>(&mut self) -> Step<()> {
        self.at = jump::<E>(self.text.as_bytes(), self.at + 1).ok_or(Fallback::Syntax)?;
        Ok(())
    }

    /// Within a string, to behind the next escape or the closing quote: whether that was it.
    fn closes<const E: bool>(&mut self) -> Step<bool> {
        let bytes = self.text.as_bytes();
        let special = find_special(bytes, self.at).ok_or(Fallback::Syntax)?;
        let next = |ahead: usize| bytes.get(special + ahead).copied().unwrap_or(0);
        let (length, closes) = match (bytes[special], next(1)) {
            (b'\\', b'"') if E => (2, true),
            // `\\\\`, `\\\"` or `\\n`.
            (b'\\', b'\\') if E && next(2) == b'\\' => match next(3) {
                b'\\' | b'"' => (4, false),
                _ => return Err(Fallback::Escape),
            },
            (b'\\', b'\\') if E && next(2) == b'"' => return Err(Fallback::Syntax),
            (b'\\', b'\\') if E => (3, false),
            (b'"', _) if !E => (1, true),
            (b'\\', _) if !E => (2, false),
            (b'\\', _) => return Err(Fallback::Escape),
            _ => return Err(Fallback::Syntax),
        };
        self.at = special + length;
        if self.at > bytes.len() {
            return Err(Fallback::Syntax);
        }
        Ok(closes)
    }

    /// The text of the string whose opening quote is behind us.
    #[inline]
    fn inside<const E: bool>(&mut self) -> Step<&'a str> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let special = find_special(bytes, start).ok_or(Fallback::Syntax)?;
        let plain = if E {
            bytes[special] == b'\\' && bytes.get(special + 1) == Some(&b'"')
        } else {
            bytes[special] == b'"'
        };
        if plain {
            self.at = special + if E { 2 } else { 1 };
            return self.slice(start, special);
        }
        self.inside_with_escapes::<E>(start)
    }

    #[cold]
    fn inside_with_escapes<const E: bool>(&mut self, start: usize) -> Step<&'a str> {
        let text = self.text;
        let mut length = 0;
        loop {
            let from = self.at;
            let closes = self.closes::<E>()?;
            let step = &text.as_bytes()[from..self.at];
            let escape = match (closes, E) {
                (true, true) => 2,
                (true, false) => 1,
                (false, _) => {
                    let slash = memchr::memchr(b'\\', step).ok_or(Fallback::Syntax)?;
                    step.len() - slash
                }
            };
            let (run, escape) = step.split_at(step.len() - escape);
            self.put(&mut length, run)?;
            if closes {
                return self.take(length);
            }
            let short = match escape[escape.len() - 1] {
                // In escaped text the last byte of `\\\"` and `\\\\` too is what they stand for.
                byte @ (b'"' | b'\\' | b'/') => byte,
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                b'b' => 8,
                b'f' => 12,
                b'u' => {
                    let slashes = if E { "\\\\u" } else { "\\u" };
                    let char = self.code_point(slashes)?;
                    self.put(&mut length, char.encode_utf8(&mut [0; 4]).as_bytes())?;
                    continue;
                }
                _ => return Err(Fallback::Value),
            };
            debug_assert!(from >= start);
            self.put(&mut length, &[short])?;
        }
    }

    /// What the digits here, behind the `u`, stand for.
    fn code_point(&mut self, slashes: &str) -> Step<char> {
        let first = self.unit()?;
        if let Some(char) = char::from_u32(first) {
            return Ok(char);
        }
        if first >= 0xDC00 || !self.skip(slashes) {
            return Err(Fallback::Value);
        }
        let second = self.unit()?;
        if !(0xDC00..0xE000).contains(&second) {
            return Err(Fallback::Value);
        }
        char::from_u32(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))
            .ok_or(Fallback::Value)
    }

    fn unit(&mut self) -> Step<u32> {
        let digits = self.rest().first_chunk::<4>().ok_or(Fallback::Syntax)?;
        self.at += 4;
        digits.iter().try_fold(0, |unit, digit| {
            let digit = char::from(*digit).to_digit(16).ok_or(Fallback::Value)?;
            Ok(unit << 4 | digit)
        })
    }

    /// Undoes `\"` and `\\`, the only escapes that get here.
    fn unescape(&mut self, written: &'a str) -> Step<&'a str> {
        if memchr::memchr(b'\\', written.as_bytes()).is_none() {
            return Ok(written);
        }
        let mut length = 0;
        let mut rest = written;
        while let Some((run, escape)) = rest.split_once('\\') {
            let (escaped, after) = escape.split_at_checked(1).ok_or(Fallback::Escape)?;
            if !matches!(escaped, "\"" | "\\") {
                return Err(Fallback::Escape);
            }
            self.put(&mut length, run.as_bytes())?;
            self.put(&mut length, escaped.as_bytes())?;
            rest = after;
        }
        self.put(&mut length, rest.as_bytes())?;
        self.take(length)
    }

    fn put(&mut self, length: &mut usize, bytes: &[u8]) -> Step<()> {
        let to = *length + bytes.len();
        self.room
            .get_mut(*length..to)
            .ok_or(Fallback::Room)?
            .copy_from_slice(bytes);
        *length = to;
        Ok(())
    }

    /// Gives out what has been put.
    fn take(&mut self, length: usize) -> Step<&'a str> {
        let (given, left) = std::mem::take(&mut self.room).split_at_mut(length);
        self.room = left;
        std::str::from_utf8(given).map_err(|_| Fallback::Value)
    }

    /// Over a string of an envelope, with any escapes that serde_json takes; its inside as written.
    pub fn any_string(&mut self) -> Step<&'a str> {
        self.expect("\"")?;
        let start = self.at;
        while !self.closes::<PLAIN>()? {
            match self.text.as_bytes()[self.at - 1] {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                b'u' => {
                    self.unit()?;
                }
                _ => return Err(Fallback::Value),
            }
        }
        self.slice(start, self.at - 1)
    }
}
