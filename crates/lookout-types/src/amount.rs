//! Amounts in an asset's smallest unit, never through a float.

use std::fmt;
use std::str::FromStr;

use ruint::aliases::U256;

/// Decimals of ether: 1 ether is 10^18 wei.
pub const ETHER_DECIMALS: u8 = 18;

/// An unsigned 256-bit amount in the asset's smallest unit (wei for ether).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(pub U256);

/// Text that is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount: expected decimal digits, or 0x and hex digits, below 2^256")]
pub struct AmountError(String);

impl Amount {
    /// The amount with the decimal point `decimals` places from the right.
    ///
    /// No exponent and no trailing zeros: 1 wei in ether is `0.000000000000000001`.
    pub fn to_units(self, decimals: u8) -> String {
        format_units(self.0, decimals)
    }
}

impl From<U256> for Amount {
    fn from(value: U256) -> Self {
        Self(value)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = match text.strip_prefix("0x") {
            Some(hex) if !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
                U256::from_str_radix(hex, 16).ok()
            }
            None if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                U256::from_str_radix(text, 10).ok()
            }
            _ => None,
        };
        parsed.map(Self).ok_or_else(|| AmountError(text.chars().take(90).collect()))
    }
}

/// `value` / 10^`decimals` as an exact decimal without exponent or trailing zeros.
pub fn format_units(value: U256, decimals: u8) -> String {
    let digits = value.to_string();
    let places = usize::from(decimals);
    let padded = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = padded.split_at(padded.len() - places);
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wei_become_ether_exactly() {
        for (wei, ether) in [
            ("0", "0"),
            ("1", "0.000000000000000001"),
            ("1000000000000000000", "1"),
            ("1500000000000000000", "1.5"),
            ("10000000000000000000", "10"),
            (
                "1606938044258990275541962092341162602522202993782792835301376",
                "1606938044258990275541962092341162602522202.993782792835301376",
            ),
        ] {
            assert_eq!(wei.parse::<Amount>().unwrap().to_units(ETHER_DECIMALS), ether);
        }
        assert_eq!(format_units(U256::from(7), 0), "7");
        assert_eq!(Amount(U256::MAX).to_units(255).len(), 2 + 255);
    }

    #[test]
    fn only_whole_numbers_below_2_256_parse() {
        assert_eq!("0xff".parse(), Ok(Amount(U256::from(255))));
        let over = format!("0x1{}", "0".repeat(64));
        for bad in ["", "0x", "-1", "1.5", "1e3", "0x1g", " 1", over.as_str()] {
            assert!(bad.parse::<Amount>().is_err(), "{bad}");
        }
    }
}
