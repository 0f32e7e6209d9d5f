//! One table of keys for two ways to read an object: strictly, by serde_json, and by salvage.
//!
//! A type says once ([`Fields`]) which key fills which field. [`strict`] reads it in one pass of
//! serde_json, which refuses any syntax error, wrong type or early end. [`salvage`] then walks the
//! same object member by member, keeps what is whole and of the right type, and says what was
//! wrong. Both take the last of duplicate keys, as Go does, and `null` as if the key were missing.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;

use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Damage;
use super::scan::{Elements, End, Members, key_text};
use super::unescape::unescape;
use crate::event::json::CowStr;

/// An object whose members fill `self`.
pub trait Fields<'a>: Default {
    /// Takes the value of `key` from `source`, or lets it skip it.
    fn set<S: Source<'a>>(&mut self, key: Cow<'a, str>, source: S) -> Result<(), S::Error>;
}

/// Where the value of a member comes from; exactly one of the two is to be called.
pub trait Source<'a> {
    type Error;
    fn get<T: Wire<'a>>(self) -> Result<T, Self::Error>;
    fn skip(self) -> Result<(), Self::Error>;
}

/// A value that can be read both ways.
pub trait Wire<'a>: Deserialize<'a> {
    /// What can be kept of `text`, the value as written; `whole` says that the text did not end
    /// before the value did.
    fn salvage(text: &'a str, whole: bool, found: &mut Found) -> Self;
}

/// What was wrong with a salvaged object.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The first thing that was wrong.
    pub damage: Option<Damage>,
    /// The walk did not reach the object's end, so keys that were not met may have followed.
    pub unfinished: bool,
}

impl Found {
    pub fn note(&mut self, damage: Damage) {
        self.damage.get_or_insert(damage);
    }
}

/// What serde_json's refusal means.
pub fn reason(error: &serde_json::Error) -> Damage {
    match error.classify() {
        serde_json::error::Category::Eof => Damage::CutOff,
        serde_json::error::Category::Data => Damage::WrongType,
        _ => Damage::NotJson,
    }
}

/// Reads the object `text`, or refuses it.
pub fn strict<'a, T: Fields<'a>>(text: &'a str) -> Result<T, serde_json::Error> {
    serde_json::from_str::<Object<T>>(text)?
        .0
        .ok_or_else(|| serde_json::Error::custom("not an object"))
}

/// Reads what can be read of the object that `text` begins with, which serde_json refused with
/// `error`.
pub fn salvage<'a, T: Fields<'a>>(text: &'a str, error: &serde_json::Error) -> (T, Found) {
    let mut found = Found::default();
    let object = Object::<T>::salvage(text, true, &mut found).0;
    found.note(reason(error));
    (object.unwrap_or_default(), found)
}

struct Strict<'m, A>(&'m mut A);

impl<'de, A: MapAccess<'de>> Source<'de> for Strict<'_, A> {
    type Error = A::Error;

    fn get<T: Wire<'de>>(self) -> Result<T, A::Error> {
        self.0.next_value()
    }

    fn skip(self) -> Result<(), A::Error> {
        self.0.next_value::<IgnoredAny>().map(|_| ())
    }
}

struct Lenient<'f, 'a> {
    text: &'a str,
    whole: bool,
    found: &'f mut Found,
}

impl<'a> Source<'a> for Lenient<'_, 'a> {
    type Error = Infallible;

    fn get<T: Wire<'a>>(self) -> Result<T, Infallible> {
        Ok(T::salvage(self.text, self.whole, self.found))
    }

    fn skip(self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// An object, or `None` for `null`.
pub struct Object<T>(pub Option<T>);

impl<'de, T: Fields<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Fields<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_unit<E>(self) -> Result<Object<T>, E> {
                Ok(Object(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<T>, A::Error> {
                let mut object = T::default();
                while let Some(key) = map.next_key::<CowStr>()? {
                    object.set(key.0, Strict(&mut map))?;
                }
                Ok(Object(Some(object)))
            }
        }
        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

impl<'a, T: Fields<'a>> Wire<'a> for Object<T> {
    fn salvage(text: &'a str, whole: bool, found: &mut Found) -> Self {
        if !text.starts_with('{') {
            if text != "null" {
                found.note(if whole {
                    Damage::WrongType
                } else {
                    Damage::CutOff
                });
            }
            return Object(None);
        }
        let mut object = T::default();
        let mut members = Members::new(text.as_bytes());
        for member in members.by_ref() {
            let key = key_text(text[member.key].as_bytes());
            let source = Lenient {
                text: &text[member.value],
                whole: member.whole,
                found,
            };
            let Ok(()) = object.set(key, source);
        }
        match members.end() {
            End::Closed => {}
            End::Cut => found.note(Damage::CutOff),
            End::Broken => found.note(Damage::NotJson),
        }
        // The outermost object's word is the last.
        found.unfinished = members.end() != End::Closed;
        Object(Some(object))
    }
}

/// What serde_json makes of a value by itself; says what was wrong with one that it refuses or that
/// is cut off.
fn leaf<'a, T: Deserialize<'a>>(text: &'a str, whole: bool, found: &mut Found) -> Option<T> {
    if !whole {
        found.note(Damage::CutOff);
        return None;
    }
    serde_json::from_str(text)
        .inspect_err(|error| found.note(reason(error)))
        .ok()
}

/// A string; `null` is empty.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Text<'a>(pub Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_unit<E>(self) -> Result<Text<'de>, E> {
                Ok(Text::default())
            }

            fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(value)))
            }

            fn visit_str<E>(self, value: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(value.to_owned())))
            }
        }
        deserializer.deserialize_any(TextVisitor)
    }
}

impl<'a> Wire<'a> for Text<'a> {
    fn salvage(text: &'a str, whole: bool, found: &mut Found) -> Self {
        match text
            .strip_prefix('"')
            .and_then(|rest| rest.strip_suffix('"'))
        {
            Some(inner) if whole => {
                if let Ok(text) = serde_json::from_str(text) {
                    return text;
                }
                let mut out = String::new();
                let damage = unescape(inner, &mut out);
                found.note(damage.unwrap_or(Damage::NotJson));
                Text(Cow::Owned(out))
            }
            _ => leaf(text, whole, found).unwrap_or_default(),
        }
    }
}

/// An array of strings; `null` is empty.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Texts<'a>(pub Vec<Cow<'a, str>>);

impl<'de> Deserialize<'de> for Texts<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextsVisitor;
        impl<'de> Visitor<'de> for TextsVisitor {
            type Value = Texts<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an array of strings")
            }

            fn visit_unit<E>(self) -> Result<Texts<'de>, E> {
                Ok(Texts::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Texts<'de>, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = seq.next_element::<Text>()? {
                    texts.push(text.0);
                }
                Ok(Texts(texts))
            }
        }
        deserializer.deserialize_any(TextsVisitor)
    }
}

impl<'a> Wire<'a> for Texts<'a> {
    /// A list that is cut off is dropped: the end of `sourceIPs` tells the client.
    fn salvage(text: &'a str, whole: bool, found: &mut Found) -> Self {
        if !whole || !text.starts_with('[') {
            return leaf(text, whole, found).unwrap_or_default();
        }
        let mut texts = Vec::new();
        let mut elements = Elements::new(text.as_bytes());
        for (range, whole) in elements.by_ref() {
            let element = &text[range];
            if element.starts_with('"') || element == "null" {
                texts.push(Text::salvage(element, whole, found).0);
            } else {
                found.note(Damage::WrongType);
            }
        }
        if elements.end() != End::Closed {
            found.note(Damage::NotJson);
        }
        Texts(texts)
    }
}

/// A whole number; `null` is 0.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Int(pub i64);

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(|number| Int(number.unwrap_or(0)))
    }
}

impl<'a> Wire<'a> for Int {
    fn salvage(text: &'a str, whole: bool, found: &mut Found) -> Self {
        leaf(text, whole, found).unwrap_or_default()
    }
}

/// A time as RFC 3339 with up to nine fraction digits, or (as exports write it) without an offset,
/// which then is UTC. `null` and the empty string are none.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Time(pub Option<Timestamp>);

impl Time {
    pub fn parse(text: &str) -> Result<Time, jiff::Error> {
        if text.is_empty() {
            return Ok(Time(None));
        }
        text.parse::<Timestamp>()
            .or_else(|error| {
                text.parse::<jiff::civil::DateTime>()
                    .and_then(|local| jiff::tz::TimeZone::UTC.to_timestamp(local))
                    .map_err(|_| error)
            })
            .map(|time| Time(Some(time)))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?;
        Time::parse(&text.0).map_err(D::Error::custom)
    }
}

impl<'a> Wire<'a> for Time {
    fn salvage(text: &'a str, whole: bool, found: &mut Found) -> Self {
        leaf(text, whole, found).unwrap_or_default()
    }
}
