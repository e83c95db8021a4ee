//! Lengths of time as people write them: `30s`, `5m`, `1h`, `7d`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The units, largest first, in seconds.
const UNITS: [(char, u64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];

/// A length of time in whole seconds. Prints in the largest unit that divides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DurationS(pub u64);

impl fmt::Display for DurationS {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, seconds)| self.0 > 0 && self.0.is_multiple_of(*seconds));
        let (letter, seconds) = unit.copied().unwrap_or(('s', 1));
        write!(f, "{}{letter}", self.0 / seconds)
    }
}

impl FromStr for DurationS {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let shown: String = text.chars().take(40).collect();
            format!("`{shown}` is not a length of time; write 30s, 5m, 1h or 7d")
        };
        let letter = text.chars().last().ok_or_else(wrong)?;
        let (_, unit) = UNITS.iter().find(|(unit, _)| *unit == letter).ok_or_else(wrong)?;
        let digits = text.strip_suffix(letter).unwrap_or_default();
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(*unit));
        seconds.map(Self).ok_or_else(wrong)
    }
}

impl Serialize for DurationS {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DurationS {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_read_and_print() {
        for (text, seconds, printed) in [
            ("30s", 30, "30s"),
            ("5m", 300, "5m"),
            ("60m", 3600, "1h"),
            ("1h", 3600, "1h"),
            ("7d", 604_800, "7d"),
            ("90s", 90, "90s"),
            ("0h", 0, "0s"),
        ] {
            let length: DurationS = text.parse().unwrap();
            assert_eq!((length.0, length.to_string().as_str()), (seconds, printed));
        }
        for wrong in ["", "s", "5", "5 m", "-1s", "+1s", "1.5h", "1w", "1ü", "99999999999999999d"]
        {
            let error = wrong.parse::<DurationS>().unwrap_err();
            assert!(error.contains("is not a length of time"), "{wrong}");
        }
    }
}
