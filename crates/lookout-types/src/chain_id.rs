//! Chain ids in the two forms the field uses.

use std::fmt;
use std::str::FromStr;

/// An EIP-155 chain id. Prints as the bare number; [`ChainId::caip2`] gives `eip155:1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainId(pub u64);

/// Text that is no chain id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a chain id: expected a decimal number or `eip155:<number>`")]
pub struct ChainIdError(String);

impl ChainId {
    /// The CAIP-2 form, `eip155:<id>`.
    pub fn caip2(self) -> String {
        format!("eip155:{}", self.0)
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ChainId {
    type Err = ChainIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.strip_prefix("eip155:").unwrap_or(text);
        let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if !plain {
            return Err(ChainIdError(text.to_owned()));
        }
        digits.parse().map(Self).map_err(|_| ChainIdError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_parse_and_nothing_else() {
        assert_eq!("137".parse(), Ok(ChainId(137)));
        assert_eq!("eip155:1".parse(), Ok(ChainId(1)));
        for bad in ["", "eip155:", "-1", "+1", "0x1", "1.0", "bip122:1", "18446744073709551616"] {
            assert!(bad.parse::<ChainId>().is_err(), "{bad}");
        }
        assert_eq!(ChainId(10).caip2(), "eip155:10");
    }
}
