//! How one value is written.

use lookout_abi::Value;
use lookout_types::format_units;
use ruint::aliases::U256;

use super::neutral::chain_text;
use super::{MAX_VALUE_CHARS, is_number};
use crate::types::Type;

/// Most decimals; as many as a `uint8` can say.
const MAX_DECIMALS: u8 = 77;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Format {
    Plain,
    /// With the decimal point moved, and a symbol behind.
    Units(u8, String),
    /// `0x1234…cdef`
    Short,
    /// Seconds since 1970 as an RFC 3339 time.
    Time,
}

const FORMATS: &str = "units(6), units(6, USDC), ether, short, time, bold";

impl Format {
    pub(super) fn parse(text: &str, ty: &Type) -> Result<Self, String> {
        let needs = |fits: bool, what: &str| {
            if fits { Ok(()) } else { Err(format!("`{text}` shows {what}, this is {ty}")) }
        };
        match text {
            "short" => {
                let fits = matches!(ty, Type::Address | Type::Bytes(_));
                needs(fits, "an address or bytes").map(|()| Self::Short)
            }
            "time" => needs(*ty == Type::Uint, "a time in seconds").map(|()| Self::Time),
            "ether" => needs(is_number(ty), "a number").map(|()| Self::Units(18, "ETH".to_owned())),
            _ => {
                let inner = text.strip_prefix("units(").and_then(|rest| rest.strip_suffix(')'));
                let Some(inner) = inner else {
                    return Err(format!("no format is called `{text}`; there are {FORMATS}"));
                };
                needs(is_number(ty), "a number")?;
                let (decimals, symbol) = inner.split_once(',').unwrap_or((inner, ""));
                let decimals = decimals.trim().parse().ok().filter(|d| *d <= MAX_DECIMALS);
                let Some(decimals) = decimals else {
                    return Err(format!("the decimals are a number from 0 to {MAX_DECIMALS}"));
                };
                let symbol = symbol.trim().trim_matches('"');
                if symbol.chars().count() > 16 {
                    return Err("the symbol is longer than 16 characters".to_owned());
                }
                Ok(Self::Units(decimals, super::neutral::own_text(symbol)))
            }
        }
    }

    /// The text of a value, and whether it is shown verbatim.
    pub(super) fn apply(&self, value: &Value) -> (String, bool) {
        match (self, value) {
            (Self::Units(decimals, symbol), Value::Uint(value)) => {
                (with_units("", *value, *decimals, symbol), false)
            }
            (Self::Units(decimals, symbol), Value::Int(value)) => {
                let sign = if value.is_negative() { "-" } else { "" };
                (with_units(sign, value.magnitude(), *decimals, symbol), false)
            }
            (Self::Time, Value::Uint(seconds)) => {
                let time = i64::try_from(*seconds).ok();
                let time = time.and_then(|s| jiff::Timestamp::from_second(s).ok());
                match time {
                    Some(time) => (time.to_string(), false),
                    None => (seconds.to_string(), false),
                }
            }
            (Self::Short, Value::Address(address)) => (short(&address.to_string()), true),
            (Self::Short, Value::Hash(hash)) => (short(&hash.to_string()), true),
            (Self::Short, Value::Bytes(bytes)) => (short(&hex(bytes)), true),
            (Self::Short, Value::FixedBytes(bytes)) => (short(&hex(bytes.as_slice())), true),
            _ => plain(value),
        }
    }
}

fn with_units(sign: &str, value: U256, decimals: u8, symbol: &str) -> String {
    let amount = format_units(value, decimals);
    let space = if symbol.is_empty() { "" } else { " " };
    format!("{sign}{amount}{space}{symbol}")
}

fn short(text: &str) -> String {
    let characters = text.chars().count();
    if characters <= 13 {
        return text.to_owned();
    }
    let start: String = text.chars().take(6).collect();
    let end: String = text.chars().skip(characters - 4).collect();
    format!("{start}…{end}")
}

/// Hex of at most as many bytes as a value may show.
fn hex(bytes: &[u8]) -> String {
    let shown = bytes.get(..MAX_VALUE_CHARS / 2).unwrap_or(bytes);
    let mark = if shown.len() < bytes.len() { "…" } else { "" };
    format!("{}{mark}", const_hex::encode_prefixed(shown))
}

fn plain(value: &Value) -> (String, bool) {
    match value {
        Value::Bool(value) => (value.to_string(), false),
        Value::Uint(value) => (value.to_string(), false),
        Value::Int(value) => (value.to_string(), false),
        Value::Address(value) => (value.to_string(), true),
        Value::Hash(value) => (value.to_string(), true),
        Value::FixedBytes(value) => (hex(value.as_slice()), true),
        Value::Bytes(value) => (hex(value), true),
        Value::String(text) => {
            // A megabyte of text is not read to the end to show its beginning.
            let cut = text.0.get(..8 * MAX_VALUE_CHARS).unwrap_or(&text.0);
            (chain_text(&String::from_utf8_lossy(cut), MAX_VALUE_CHARS), true)
        }
        Value::Array(values) | Value::Tuple(values) => {
            (chain_text(&list(values, 0), MAX_VALUE_CHARS), true)
        }
    }
}

/// `[1, 2]`, no longer than can be shown.
fn list(values: &[Value], depth: usize) -> String {
    let mut text = String::from("[");
    for (position, value) in values.iter().enumerate() {
        if position > 0 {
            text.push_str(", ");
        }
        match value {
            Value::Array(inner) | Value::Tuple(inner) if depth < 4 => {
                text.push_str(&list(inner, depth + 1));
            }
            Value::Array(_) | Value::Tuple(_) => text.push_str("[…]"),
            other => text.push_str(&plain(other).0),
        }
        if text.len() > 4 * MAX_VALUE_CHARS {
            break;
        }
    }
    text.push(']');
    text
}
