//! Signed 256-bit integers: Solidity's `int256`, with arithmetic that reports overflow.

use std::cmp::Ordering;
use std::fmt;

use ruint::aliases::U256;

/// A signed 256-bit integer in two's complement.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct I256(U256);

/// 2^255: the magnitude of the least value, one above that of the greatest.
const SIGN_BIT: U256 = U256::from_limbs([0, 0, 0, 1 << 63]);

impl I256 {
    /// The least value, -2^255.
    pub const MIN: Self = Self(SIGN_BIT);
    /// The greatest value, 2^255 - 1.
    pub const MAX: Self = Self(U256::from_limbs([u64::MAX, u64::MAX, u64::MAX, u64::MAX >> 1]));
    /// Zero.
    pub const ZERO: Self = Self(U256::ZERO);

    /// Takes the two's complement bits as they are.
    pub const fn from_bits(bits: U256) -> Self {
        Self(bits)
    }

    /// The two's complement bits.
    pub const fn to_bits(self) -> U256 {
        self.0
    }

    /// Whether it is below zero.
    pub fn is_negative(self) -> bool {
        self.0.bit(255)
    }

    /// The distance from zero.
    pub fn magnitude(self) -> U256 {
        if self.is_negative() { self.0.wrapping_neg() } else { self.0 }
    }

    /// From a sign and a distance from zero; `None` when out of range.
    pub fn from_parts(negative: bool, magnitude: U256) -> Option<Self> {
        if negative {
            (magnitude <= SIGN_BIT).then(|| Self(magnitude.wrapping_neg()))
        } else {
            (magnitude < SIGN_BIT).then_some(Self(magnitude))
        }
    }

    /// The value as an unsigned one; `None` when negative.
    pub fn to_unsigned(self) -> Option<U256> {
        (!self.is_negative()).then_some(self.0)
    }

    /// Sum; `None` on overflow.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        let sum = Self(self.0.wrapping_add(other.0));
        let overflows =
            self.is_negative() == other.is_negative() && sum.is_negative() != self.is_negative();
        (!overflows).then_some(sum)
    }

    /// Difference; `None` on overflow.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        let difference = Self(self.0.wrapping_sub(other.0));
        let overflows = self.is_negative() != other.is_negative()
            && difference.is_negative() != self.is_negative();
        (!overflows).then_some(difference)
    }

    /// Product; `None` on overflow.
    pub fn checked_mul(self, other: Self) -> Option<Self> {
        let magnitude = self.magnitude().checked_mul(other.magnitude())?;
        Self::from_parts(self.is_negative() != other.is_negative(), magnitude)
    }

    /// Quotient, rounded towards zero; `None` for a zero divisor or on overflow.
    pub fn checked_div(self, other: Self) -> Option<Self> {
        let magnitude = self.magnitude().checked_div(other.magnitude())?;
        Self::from_parts(self.is_negative() != other.is_negative(), magnitude)
    }

    /// Remainder, with the sign of the dividend; `None` for a zero divisor.
    pub fn checked_rem(self, other: Self) -> Option<Self> {
        let magnitude = self.magnitude().checked_rem(other.magnitude())?;
        Self::from_parts(self.is_negative(), magnitude)
    }

    /// Negation; `None` for the least value.
    pub fn checked_neg(self) -> Option<Self> {
        Self::from_parts(!self.is_negative(), self.magnitude())
            .or_else(|| (self == Self::ZERO).then_some(self))
    }

    /// Compares exactly with an unsigned value of any size.
    pub fn cmp_unsigned(self, other: &U256) -> Ordering {
        if self.is_negative() { Ordering::Less } else { self.0.cmp(other) }
    }
}

impl From<i64> for I256 {
    fn from(value: i64) -> Self {
        let magnitude = U256::from(value.unsigned_abs());
        Self(if value < 0 { magnitude.wrapping_neg() } else { magnitude })
    }
}

impl Ord for I256 {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.0 ^ SIGN_BIT).cmp(&(other.0 ^ SIGN_BIT))
    }
}

impl PartialOrd for I256 {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for I256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_negative() {
            f.write_str("-")?;
        }
        fmt::Display::fmt(&self.magnitude(), f)
    }
}

impl fmt::Debug for I256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
