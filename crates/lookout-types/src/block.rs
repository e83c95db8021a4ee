//! Which block is meant, and which block it turned out to be.

use std::fmt;
use std::str::FromStr;

use crate::Hash;

/// Position of a block on its chain; genesis is 0.
pub type Height = u64;

/// One particular block: a hash commits to all its ancestors, a height alone does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockRef {
    /// Its height.
    pub number: Height,
    /// Its hash.
    pub hash: Hash,
}

/// Which block a caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BlockSelector {
    /// The newest block that the pool agrees on.
    #[default]
    Latest,
    /// The newest block that the chain's consensus calls safe.
    Safe,
    /// The newest block that the chain's consensus calls final.
    Finalized,
    /// The block at a height on the followed chain.
    Number(Height),
    /// A block by hash, whether or not it is on the followed chain.
    Hash(Hash),
}

/// Why a text names no block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockSelectorError {
    /// Not a number, tag or hash.
    #[error(
        "`{0}` is not a block: expected latest, safe, finalized, a decimal or 0x-hex height, \
         or a 0x-prefixed 32-byte hash"
    )]
    Unknown(String),
    /// A number, but no height can be that high.
    #[error("`{0}` is not a block height: heights are below 2^64")]
    TooHigh(String),
}

/// Parses a decimal or 0x-hex height. `None` when it is neither; overflow is told apart.
///
/// # Errors
/// [`BlockSelectorError`] with the offending text, shortened to 80 characters.
pub fn parse_quantity(text: &str) -> Result<Height, BlockSelectorError> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(hex) => (hex, 16),
        None => (text, 10),
    };
    let shown = || text.chars().take(80).collect::<String>();
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(BlockSelectorError::Unknown(shown()));
    }
    Height::from_str_radix(digits, radix).map_err(|_| BlockSelectorError::TooHigh(shown()))
}

impl FromStr for BlockSelector {
    type Err = BlockSelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "latest" => Ok(Self::Latest),
            "safe" => Ok(Self::Safe),
            "finalized" => Ok(Self::Finalized),
            _ => match text.parse() {
                Ok(hash) => Ok(Self::Hash(hash)),
                Err(_) => parse_quantity(text).map(Self::Number),
            },
        }
    }
}

impl fmt::Display for BlockSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Safe => f.write_str("safe"),
            Self::Finalized => f.write_str("finalized"),
            Self::Number(height) => height.fmt(f),
            Self::Hash(hash) => hash.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_block_parses() {
        let hash = format!("0x{}", "ab".repeat(32));
        for (text, selector) in [
            ("latest", BlockSelector::Latest),
            ("safe", BlockSelector::Safe),
            ("finalized", BlockSelector::Finalized),
            ("0", BlockSelector::Number(0)),
            ("0x10", BlockSelector::Number(16)),
            ("18446744073709551615", BlockSelector::Number(u64::MAX)),
            (&hash, BlockSelector::Hash(Hash([0xab; 32]))),
        ] {
            assert_eq!(text.parse(), Ok(selector));
        }
    }

    #[test]
    fn wrong_blocks_are_refused_by_name() {
        for bad in ["", "-1", "1.5", "abc", "0x", "0xzz", "+1", "1 ", "pending", "Latest", "१"] {
            assert_eq!(
                bad.parse::<BlockSelector>(),
                Err(BlockSelectorError::Unknown(bad.to_owned())),
            );
        }
        for high in ["18446744073709551616", "0x10000000000000000"] {
            assert_eq!(
                high.parse::<BlockSelector>(),
                Err(BlockSelectorError::TooHigh(high.to_owned())),
            );
        }
    }
}
