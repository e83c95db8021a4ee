//! What a match says, in forms of bounded size: the message's spans, and its values by name.

use lookout_abi::Value;
use lookout_rules::{MAX_VALUE_CHARS, Span, SpanKind};
use serde::Serialize;
use serde_json::{Map, Value as Json};

/// Longest values of one alert together, in characters: a block may hold thousands of alerts, and
/// what is cut here is on the chain.
const FACTS_CHARS: usize = 8 << 10;
/// Most items of a list that are kept.
const LIST_ITEMS: usize = 32;
/// What stands for what is cut.
const CUT: &str = "…";

#[derive(Serialize)]
struct SpanJson {
    kind: &'static str,
    offset: usize,
    length: usize,
}

/// The spans as a JSON array, in UTF-16 units.
pub(super) fn spans(spans: &[Span]) -> String {
    let json = spans.iter().map(|span| SpanJson {
        kind: match span.kind {
            SpanKind::Bold => "bold",
            SpanKind::Code => "code",
        },
        offset: span.offset,
        length: span.length,
    });
    // Words and numbers always have a JSON form.
    serde_json::to_string(&json.collect::<Vec<_>>()).unwrap_or_default()
}

/// The values by name as a JSON object: numbers as decimal strings, bytes as 0x-hex. What is long
/// is cut and ends with `…`.
pub(super) fn facts<'a>(names: impl Iterator<Item = &'a str>, values: &[Value]) -> String {
    let mut left = FACTS_CHARS;
    let mut facts = Map::new();
    for (name, value) in names.zip(values) {
        if !facts.contains_key(name) {
            facts.insert(name.to_owned(), bounded(value, &mut left));
        }
    }
    Json::Object(facts).to_string()
}

fn bounded(value: &Value, left: &mut usize) -> Json {
    match value {
        Value::Array(items) | Value::Tuple(items) => {
            let mut kept = Vec::new();
            for item in items {
                if kept.len() == LIST_ITEMS || *left == 0 {
                    kept.push(Json::from(CUT));
                    break;
                }
                kept.push(bounded(item, left));
            }
            *left = left.saturating_sub(2);
            Json::Array(kept)
        }
        // Cut before it is spelled out: a string on a chain may have a megabyte.
        Value::Bytes(bytes) => {
            let shown = bytes.get(..MAX_VALUE_CHARS / 2).unwrap_or(bytes);
            let cut = if shown.len() < bytes.len() { CUT } else { "" };
            text(&format!("{}{cut}", const_hex::encode_prefixed(shown)), left)
        }
        Value::String(string) => {
            let bytes = &string.0;
            let shown = bytes.get(..MAX_VALUE_CHARS * 4).unwrap_or(bytes);
            match std::str::from_utf8(bytes) {
                Ok(_) => text(&String::from_utf8_lossy(shown), left),
                Err(_) => {
                    let shown = bytes.get(..MAX_VALUE_CHARS / 2).unwrap_or(bytes);
                    let mut object = Map::new();
                    let hex = text(&const_hex::encode_prefixed(shown), left);
                    object.insert("invalidUtf8".to_owned(), hex);
                    Json::Object(object)
                }
            }
        }
        Value::Bool(value) => {
            *left = left.saturating_sub(1);
            Json::from(*value)
        }
        _ => {
            let json = value.to_plain_json();
            let length = json.as_str().map_or(0, str::len);
            *left = left.saturating_sub(length);
            json
        }
    }
}

/// A text of at most [`MAX_VALUE_CHARS`] characters, fewer when the alert has said much already.
fn text(full: &str, left: &mut usize) -> Json {
    let most = MAX_VALUE_CHARS.min(*left);
    let mut characters = full.chars();
    let mut shown: String = characters.by_ref().take(most).collect();
    *left = left.saturating_sub(most.min(shown.chars().count()));
    if characters.next().is_some() {
        shown.push_str(CUT);
    }
    Json::from(shown)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lookout_abi::AbiText;

    use super::*;

    fn one(value: Value) -> Json {
        let json: Json = serde_json::from_str(&facts(["x"].into_iter(), &[value])).unwrap();
        json["x"].clone()
    }

    #[test]
    fn short_values_are_whole() {
        assert_eq!(one(Value::Bool(true)), Json::from(true));
        assert_eq!(one(Value::String("Grüße \0".into())), Json::from("Grüße \0"));
        assert_eq!(one(Value::Bytes(Bytes::from_static(&[1, 255]))), Json::from("0x01ff"));
        let uint = Value::Uint("115792089237316195423570985008687907853".parse().unwrap());
        assert_eq!(one(uint), Json::from("115792089237316195423570985008687907853"));
        let bad = Value::String(AbiText(Bytes::from_static(&[0xff])));
        assert_eq!(one(bad), serde_json::json!({"invalidUtf8": "0xff"}));
    }

    #[test]
    fn a_megabyte_is_cut_wherever_it_is() {
        let long = "ü".repeat(1 << 20);
        let text = Value::String(long.as_str().into());
        let bytes = Value::Bytes(vec![7; 1 << 20].into());
        let broken = Value::String(AbiText(vec![0xff; 1 << 20].into()));
        let list = Value::Array(vec![text.clone(); 10_000]);
        let deep = Value::Tuple(vec![list.clone(), Value::Array(vec![list.clone(); 100])]);
        for value in [&text, &bytes, &broken, &list, &deep] {
            let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
            let json = facts(names.into_iter(), &vec![value.clone(); 8]);
            assert!(json.len() < 4 * FACTS_CHARS, "{}", json.len());
            assert!(json.contains('…') || json.contains("invalidUtf8"));
        }
        let shown = one(text);
        assert_eq!(shown.as_str().unwrap().chars().count(), MAX_VALUE_CHARS + 1);
        assert_eq!(one(list).as_array().unwrap().len(), LIST_ITEMS + 1);
    }

    #[test]
    fn spans_are_objects() {
        let span = Span { offset: 2, length: 5, kind: SpanKind::Code };
        assert_eq!(spans(&[span]), r#"[{"kind":"code","offset":2,"length":5}]"#);
        assert_eq!(spans(&[]), "[]");
    }
}
