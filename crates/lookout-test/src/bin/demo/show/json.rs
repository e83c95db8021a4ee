//! JSON as it came, members in their own order, shortened for a terminal.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

/// Longest text that is shown whole: a hash is.
const TEXT_MAX: usize = 72;
/// Most entries of a list that are shown.
const ITEMS_MAX: usize = 1;
/// What fits on a line stays on it.
const LINE_MAX: usize = 110;

/// A JSON value that keeps the order of members.
pub(super) enum Json {
    /// Anything without parts, as JSON text.
    Plain(String),
    /// A list.
    List(Vec<Json>),
    /// An object.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// The value in lines, indented from the second on.
    pub(super) fn pretty(&self, indent: usize) -> String {
        let line = self.line();
        if line.chars().count() + indent <= LINE_MAX {
            return line;
        }
        let (open, close, parts) = match self {
            Self::Plain(text) => return text.clone(),
            Self::List(items) => {
                let mut parts: Vec<String> =
                    items.iter().take(ITEMS_MAX).map(|item| item.pretty(indent + 2)).collect();
                parts.extend(more(items.len()));
                ('[', ']', parts)
            }
            Self::Object(members) => {
                let part = |(name, value): &(String, Self)| {
                    format!("\"{name}\": {}", value.pretty(indent + 2))
                };
                ('{', '}', members.iter().map(part).collect())
            }
        };
        let separator = format!(",\n{:width$}", "", width = indent + 2);
        let inside = parts.join(&separator);
        format!(
            "{open}\n{:in_width$}{inside}\n{:out_width$}{close}",
            "",
            "",
            in_width = indent + 2,
            out_width = indent
        )
    }

    fn line(&self) -> String {
        match self {
            Self::Plain(text) => text.clone(),
            Self::List(items) => {
                let mut parts: Vec<String> = items.iter().take(ITEMS_MAX).map(Self::line).collect();
                parts.extend(more(items.len()));
                format!("[{}]", parts.join(", "))
            }
            Self::Object(members) => {
                let part = |(name, value): &(String, Self)| format!("\"{name}\": {}", value.line());
                let parts: Vec<String> = members.iter().map(part).collect();
                format!("{{ {} }}", parts.join(", "))
            }
        }
    }
}

fn more(items: usize) -> Option<String> {
    items.checked_sub(ITEMS_MAX).filter(|more| *more > 0).map(|more| format!("… {more} more"))
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Plain(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Plain(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Plain(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Plain(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Plain("null".into()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        if text.starts_with("0x") && text.len() > TEXT_MAX {
            let start: String = text.chars().take(18).collect();
            return Ok(Json::Plain(format!("\"{start}…\" ({} bytes)", (text.len() - 2) / 2)));
        }
        Ok(Json::Plain(serde_json::Value::from(text).to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(member) = members.next_entry()? {
            object.push(member);
        }
        Ok(Json::Object(object))
    }
}
