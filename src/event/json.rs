//! A JSON value borrowed from its text, for request and response bodies.
//!
//! Parsed by serde_json, so its depth limit (128) holds. Unlike [`serde_json::Value`] it borrows
//! strings without escapes and drops `managedFields`, which no fact reads and which is often half
//! of a body. Of duplicate keys the last counts, as for Go's decoder.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Cow<'a, str>),
    Array(Vec<Json<'a>>),
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

/// What lookups of missing keys give, so that they chain.
static NULL: Json<'static> = Json::Null;

impl<'a> Json<'a> {
    pub fn parse(text: &'a str) -> Result<Json<'a>, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The value under `key`; [`Json::Null`] where there is none or this is no object.
    pub fn get(&self, key: &str) -> &Json<'a> {
        match self {
            Json::Object(entries) => entries
                .iter()
                .rev()
                .find(|(name, _)| name == key)
                .map_or(null(), |(_, value)| value),
            _ => null(),
        }
    }

    /// As [`Json::get`], one key after the other.
    pub fn at(&self, path: &[&str]) -> &Json<'a> {
        path.iter().fold(self, |value, key| value.get(key))
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Json::Null)
    }

    /// The string, or `""` where this is none.
    pub fn str(&self) -> &str {
        self.as_str().unwrap_or("")
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::Str(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Json::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub fn is_true(&self) -> bool {
        matches!(self, Json::Bool(true))
    }

    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Json::Int(value) => Some(*value),
            _ => None,
        }
    }

    /// The elements; none where this is no array.
    pub fn items(&self) -> &[Json<'a>] {
        match self {
            Json::Array(items) => items,
            _ => &[],
        }
    }

    /// The entries; none where this is no object.
    pub fn entries(&self) -> &[(Cow<'a, str>, Json<'a>)] {
        match self {
            Json::Object(entries) => entries,
            _ => &[],
        }
    }

    /// The strings among the elements.
    pub fn strings(&self) -> impl Iterator<Item = &str> {
        self.items().iter().filter_map(Json::as_str)
    }
}

fn null<'s, 'a>() -> &'s Json<'a> {
    // `Json` is covariant in its lifetime, so the static serves every caller.
    &NULL
}

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(i64::try_from(value).map_or(Json::Float(value as f64), Json::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json<'de>, E> {
        Ok(Json::Float(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Str(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::Str(Cow::Owned(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Json<'de>, E> {
        Ok(Json::Str(Cow::Owned(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<CowStr>()? {
            if key.0 == "managedFields" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            entries.push((key.0, map.next_value()?));
        }
        Ok(Json::Object(entries))
    }
}

/// The string at `path` of the object `text`, as [`Json::at`] finds it, without keeping what else is
/// there; `None` where the text does not parse.
pub fn text_at(text: &str, path: &[&str]) -> Option<String> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let found = At(path).deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    Some(found)
}

/// Seeks the string at a path; of duplicate keys the last counts.
struct At<'p>(&'p [&'p str]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<String, E> {
        Ok(String::new())
    }

    fn visit_bool<E>(self, _: bool) -> Result<String, E> {
        Ok(String::new())
    }

    fn visit_i64<E>(self, _: i64) -> Result<String, E> {
        Ok(String::new())
    }

    fn visit_u64<E>(self, _: u64) -> Result<String, E> {
        Ok(String::new())
    }

    fn visit_f64<E>(self, _: f64) -> Result<String, E> {
        Ok(String::new())
    }

    fn visit_str<E>(self, text: &str) -> Result<String, E> {
        let here = self.0.is_empty();
        Ok(if here { text.to_owned() } else { String::new() })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<String, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(String::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        let mut found = String::new();
        while let Some(key) = map.next_key::<CowStr>()? {
            match self.0 {
                [first, rest @ ..] if key.0 == *first => found = map.next_value_seed(At(rest))?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// A string that borrows from the input where it can; serde's own `Cow` always copies.
pub struct CowStr<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for CowStr<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StrVisitor;
        impl<'de> Visitor<'de> for StrVisitor {
            type Value = CowStr<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, value: &'de str) -> Result<CowStr<'de>, E> {
                Ok(CowStr(Cow::Borrowed(value)))
            }

            fn visit_str<E>(self, value: &str) -> Result<CowStr<'de>, E> {
                Ok(CowStr(Cow::Owned(value.to_owned())))
            }

            fn visit_string<E>(self, value: String) -> Result<CowStr<'de>, E> {
                Ok(CowStr(Cow::Owned(value)))
            }
        }
        deserializer.deserialize_str(StrVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_where_the_whole_parse_finds_it() {
        for text in [
            r#"{"metadata":{"name":"a"}}"#,
            r#"{"metadata":{"name":"a","name":"b"},"spec":{"name":[1,{"name":"c"}]}}"#,
            r#"{"metadata":{"name":"a"},"metadata":{"labels":{}}}"#,
            r#"{"metadata":{"name":7}}"#,
            r#"{"metadata":{"name":{"name":"x"}}}"#,
            r#"{"metadata":[{"name":"x"}]}"#,
            r#"{"metadata":"x"}"#,
            r#"{"metadata":null,"name":"x"}"#,
            r#"{"metadata":{"n\u0061me":"\u00e4\n"}}"#,
            r#"[{"metadata":{"name":"x"}}]"#,
            r#""name""#,
            "{}",
            "1.5",
            "true",
            r#"{"metadata":{"name":"a"}"#,
            r#"{"metadata":{"name":"a"}} x"#,
            "",
        ] {
            let path = ["metadata", "name"];
            let whole = Json::parse(text).ok();
            let whole = whole.map(|object| object.at(&path).str().to_owned());
            assert_eq!(text_at(text, &path), whole, "{text}");
        }
    }
}
