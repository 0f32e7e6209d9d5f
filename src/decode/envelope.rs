//! The record around a payload: its cluster, category and time, and where the payload lies in it.
//!
//! Reads what `{"records":[…]}` holds and, because it has the same keys under other names, a row of
//! Log Analytics' `AzureDiagnostics`. Nothing of the payload is unescaped here: [`Log`] shows where
//! it lies, and [`super::Decoder`] routes on the category before it looks.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::unescape::unescape;
use super::wire::{self, Fields, Found, Object, Source, Text, Time, Wire};
use super::{Damage, Form};
use crate::event::Category;

/// A record's own keys.
#[derive(Debug, Default)]
pub struct Envelope<'a> {
    pub time: Time,
    pub resource_id: Cow<'a, str>,
    pub category: Cow<'a, str>,
    pub properties: Properties<'a>,
}

/// `properties`, as far as it matters.
#[derive(Debug)]
pub enum Properties<'a> {
    Log(Log<'a>),
    /// `properties` was itself an escaped string; this is its text, unescaped.
    Escaped(String),
}

impl Default for Properties<'_> {
    fn default() -> Self {
        Properties::Log(Log::Missing)
    }
}

/// `properties.log`, as written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Log<'a> {
    #[default]
    Missing,
    /// The inside of a string, still escaped; it may lack its end if the record was cut off.
    Escaped(&'a str),
    /// The text of an object.
    Object(&'a str),
    /// Another kind of value.
    Other,
}

impl Log<'_> {
    pub fn form(self) -> Form {
        match self {
            Log::Object(_) => Form::Object,
            Log::Missing | Log::Escaped(_) | Log::Other => Form::Escaped,
        }
    }
}

/// Whose a record is, by its category.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Known(Category),
    /// The record does not say.
    Unsaid,
    /// Another part of the control plane.
    Other,
}

pub fn route(category: &str) -> Route {
    const KNOWN: [Category; 3] = [
        Category::KubeAudit,
        Category::KubeAuditAdmin,
        Category::KubeApiserver,
    ];
    if category.is_empty() {
        return Route::Unsaid;
    }
    KNOWN
        .into_iter()
        .find(|known| category.eq_ignore_ascii_case(known.as_str()))
        .map_or(Route::Other, Route::Known)
}

/// The strict parse.
pub fn parse(text: &str) -> Result<Envelope<'_>, serde_json::Error> {
    wire::strict(text)
}

/// What can be salvaged of a record that [`parse`] refused.
pub fn rescue<'a>(text: &'a str, error: &serde_json::Error) -> (Envelope<'a>, Option<Damage>) {
    let (envelope, found) = wire::salvage(text, error);
    (envelope, found.damage)
}

/// `properties` that were a string: where the log lies in their unescaped text.
pub fn inner_log(properties: &str) -> (Log<'_>, Option<Damage>) {
    match wire::strict::<Inner>(properties) {
        Ok(inner) => (inner.0, None),
        Err(error) => {
            let (inner, found) = wire::salvage::<Inner>(properties.trim_start(), &error);
            (inner.0, found.damage)
        }
    }
}

impl<'a> Fields<'a> for Envelope<'a> {
    fn set<S: Source<'a>>(&mut self, key: Cow<'a, str>, source: S) -> Result<(), S::Error> {
        match key.as_ref() {
            "time" | "TimeGenerated" => self.time = source.get()?,
            "resourceId" | "ResourceId" | "_ResourceId" => {
                self.resource_id = source.get::<Text>()?.0;
            }
            "category" | "Category" => self.category = source.get::<Text>()?.0,
            "properties" => self.properties = source.get()?,
            "log_s" => self.properties = Properties::Log(source.get()?),
            _ => source.skip()?,
        }
        Ok(())
    }
}

/// The members of `properties`.
#[derive(Default)]
struct Inner<'a>(Log<'a>);

impl<'a> Fields<'a> for Inner<'a> {
    fn set<S: Source<'a>>(&mut self, key: Cow<'a, str>, source: S) -> Result<(), S::Error> {
        match key.as_ref() {
            "log" => self.0 = source.get()?,
            _ => source.skip()?,
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Properties<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PropertiesVisitor;
        impl<'de> Visitor<'de> for PropertiesVisitor {
            type Value = Properties<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object, or a string that holds one")
            }

            fn visit_unit<E>(self) -> Result<Properties<'de>, E> {
                Ok(Properties::default())
            }

            fn visit_str<E>(self, value: &str) -> Result<Properties<'de>, E> {
                Ok(Properties::Escaped(value.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Properties<'de>, A::Error> {
                let map = serde::de::value::MapAccessDeserializer::new(map);
                let inner = Object::<Inner>::deserialize(map)?.0.unwrap_or_default();
                Ok(Properties::Log(inner.0))
            }
        }
        deserializer.deserialize_any(PropertiesVisitor)
    }
}

impl<'a> Wire<'a> for Properties<'a> {
    fn salvage(text: &'a str, whole: bool, found: &mut Found) -> Self {
        let Some(rest) = text.strip_prefix('"') else {
            let inner = Object::<Inner>::salvage(text, whole, found).0;
            return Properties::Log(inner.unwrap_or_default().0);
        };
        let mut out = String::new();
        if let Some(damage) = unescape(inside(rest, whole), &mut out) {
            found.note(damage);
        }
        if !whole {
            found.note(Damage::CutOff);
        }
        Properties::Escaped(out)
    }
}

/// Without the closing quote, where the string has one.
fn inside(rest: &str, whole: bool) -> &str {
    match rest.strip_suffix('"') {
        Some(inner) if whole => inner,
        _ => rest,
    }
}

impl<'de> Deserialize<'de> for Log<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Option::<&'de RawValue>::deserialize(deserializer)?;
        Ok(raw.map_or(Log::Missing, |raw| Log::of(raw.get(), true)))
    }
}

impl<'a> Wire<'a> for Log<'a> {
    fn salvage(text: &'a str, whole: bool, found: &mut Found) -> Self {
        if !whole {
            found.note(Damage::CutOff);
        }
        Log::of(text, whole)
    }
}

impl<'a> Log<'a> {
    fn of(text: &'a str, whole: bool) -> Log<'a> {
        match text.as_bytes().first() {
            Some(b'"') => Log::Escaped(inside(&text[1..], whole)),
            Some(b'{') => Log::Object(text),
            Some(b'n') => Log::Missing,
            _ => Log::Other,
        }
    }
}
