//! JSON as it came, members in their order, shortened for reading.

use std::fmt;

use anyhow::{Context, Result};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// Longest text shown whole: an address and a hash are, a bloom is not.
const TEXT_MAX: usize = 70;
/// Most items shown of a list.
const ITEMS_MAX: usize = 2;
/// Members shown of an object deep inside the answer that has more than a reader looks through.
const MEMBERS_SHOWN: usize = 4;
const MEMBERS_MAX: usize = 10;
/// Widest object that stays on one line: a block's name, number and hash, does.
const LINE_MAX: usize = 96;

/// A JSON value that keeps the order of its members, which `serde_json::Value` does not.
enum Json {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// The text, indented and shortened.
///
/// # Errors
/// When it is no JSON.
pub(crate) fn pretty(text: &str) -> Result<String> {
    let json: Json = serde_json::from_str(text).context("the answer is no JSON")?;
    Ok(json.show(0))
}

impl Json {
    fn show(&self, depth: usize) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => serde_json::Value::from(shortened(text)).to_string(),
            Self::List(items) => {
                let shown = items.iter().take(ITEMS_MAX).map(|item| item.show(depth + 1));
                enclosed(["[", "]"], shown.collect(), items.len(), depth)
            }
            Self::Object(members) => {
                let crowd = depth >= 2 && members.len() > MEMBERS_MAX;
                let most = if crowd { MEMBERS_SHOWN } else { usize::MAX };
                let shown = members.iter().take(most).map(|(name, value)| {
                    format!("{}: {}", serde_json::Value::from(name.as_str()), value.show(depth + 1))
                });
                enclosed(["{", "}"], shown.collect(), members.len(), depth)
            }
        }
    }
}

/// The parts between brackets: on one line where they fit, else one each.
fn enclosed(brackets: [&str; 2], mut parts: Vec<String>, total: usize, depth: usize) -> String {
    let [open, close] = brackets;
    if total > parts.len() {
        parts.push(format!("… {} more", total - parts.len()));
    }
    let one_line = parts.join(", ");
    if one_line.chars().count() + 2 * depth <= LINE_MAX && !one_line.contains('\n') {
        return format!("{open}{one_line}{close}");
    }
    let inner = "  ".repeat(depth + 1);
    let lines: Vec<String> = parts.iter().map(|part| format!("{inner}{part}")).collect();
    format!("{open}\n{}\n{}{close}", lines.join(",\n"), "  ".repeat(depth))
}

/// Long hex by its ends. Prose stays whole: it is there to be read.
fn shortened(text: &str) -> String {
    let count = text.chars().count();
    if count <= TEXT_MAX || text.contains(' ') {
        return text.to_owned();
    }
    let start: String = text.chars().take(18).collect();
    let end: String = text.chars().skip(count - 8).collect();
    format!("{start}…{end} ({count} characters)")
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        // JSON has no infinities, so there is always a number.
        Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_stays_and_length_goes() {
        let bloom = format!("0x{}", "0".repeat(512));
        for (text, expected) in [
            (
                r#"{"b":1,"a":[null,true,-2,0.5]}"#.to_owned(),
                r#"{"b": 1, "a": [null, true, … 2 more]}"#,
            ),
            (format!(r#"["{bloom}"]"#), r#"["0x0000000000000000…00000000 (514 characters)"]"#),
            (r#""a \"b\"""#.to_owned(), r#""a \"b\"""#),
            (
                r#"{"a":[{"c":1,"d":2,"e":3,"f":4,"g":5,"h":6,"i":7,"j":8,"k":9,"l":0,"m":1}]}"#
                    .to_owned(),
                r#"{"a": [{"c": 1, "d": 2, "e": 3, "f": 4, … 7 more}]}"#,
            ),
        ] {
            assert_eq!(pretty(&text).unwrap(), expected);
        }
        let wide = format!(r#"{{"a":"{0}","b":"{0}"}}"#, "x".repeat(60));
        assert_eq!(pretty(&wide).unwrap().lines().count(), 4);
        assert!(pretty("<html>").is_err());
    }
}
