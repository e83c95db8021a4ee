//! Times as people write them on a command line: `90d`.

use std::time::Duration;

const UNITS: [(&str, u64); 6] = [
    ("s", 1),
    ("m", 60),
    ("h", 3_600),
    ("d", 86_400),
    ("w", 7 * 86_400),
    // A year as most contracts count it.
    ("y", 365 * 86_400),
];
/// Longest time: beyond a century a key is one that never ends.
const SECONDS_MAX: u64 = 100 * 365 * 86_400;

/// Reads a number and a unit.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time such as 90d, 12h, 30m, 45s, 2w or 1y");
    let (number, unit) = UNITS
        .iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, *seconds)))
        .ok_or_else(wrong)?;
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let number: u64 =
        if plain { number.parse().map_err(|_| wrong())? } else { return Err(wrong()) };
    match number.checked_mul(unit) {
        Some(seconds @ 1..=SECONDS_MAX) => Ok(Duration::from_secs(seconds)),
        Some(0) => Err("a time of 0 is over at once".to_owned()),
        _ => Err(format!("`{text}` is more than 100 years")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_parse_and_nothing_else() {
        for (text, seconds) in [
            ("45s", 45),
            ("30m", 1_800),
            ("12h", 43_200),
            ("90d", 7_776_000),
            ("2w", 1_209_600),
            ("1y", 31_536_000),
            ("100y", SECONDS_MAX),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "d", "90", "-1d", "+1d", "1.5h", "1 d", "101y", "0d", "1d2h"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("18446744073709551615y").is_err());
    }
}
