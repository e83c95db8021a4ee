//! Constants: arithmetic on them, and bringing them to the type of what they meet.

use lookout_abi::{AbiType, I256};
use lookout_types::{Address, AddressError};
use ruint::aliases::U256;

use super::{Checker, Typed};
use crate::expr::{Const, Expr, Key, int_key, uint_key};
use crate::scope::{Field, WordKind};
use crate::syntax::{ArithmeticOp, Fault};
use crate::types::Type;

/// Sign and distance from zero.
fn parts(constant: &Const) -> Option<(bool, U256)> {
    match constant {
        Const::Uint(value) => Some((false, *value)),
        Const::Int(value) => Some((value.is_negative(), value.magnitude())),
        _ => None,
    }
}

/// Numbers from zero up are unsigned, those below signed.
fn number(negative: bool, magnitude: U256) -> Option<Const> {
    if negative && !magnitude.is_zero() {
        I256::from_parts(true, magnitude).map(Const::Int)
    } else {
        Some(Const::Uint(magnitude))
    }
}

pub(super) fn is_zero(constant: &Const) -> bool {
    parts(constant).is_some_and(|(_, magnitude)| magnitude.is_zero())
}

pub(super) fn negate(constant: &Const) -> Option<Const> {
    let (negative, magnitude) = parts(constant)?;
    number(!negative, magnitude)
}

/// Exact arithmetic on two constants.
pub(super) fn arithmetic(op: ArithmeticOp, a: &Const, b: &Const) -> Result<Const, &'static str> {
    const TOO_BIG: &str = "this constant is outside -2^255 to 2^256 - 1";
    let ((a_negative, a), (b_negative, b)) = parts(a).zip(parts(b)).ok_or(TOO_BIG)?;
    let add = |b_negative: bool| {
        if a_negative == b_negative {
            a.checked_add(b).map(|sum| (a_negative, sum))
        } else if a >= b {
            Some((a_negative, a - b))
        } else {
            Some((b_negative, b - a))
        }
    };
    let divides = matches!(op, ArithmeticOp::Divide | ArithmeticOp::Remainder);
    if divides && b.is_zero() {
        return Err("division by zero; the rule could never match");
    }
    let result = match op {
        ArithmeticOp::Add => add(b_negative),
        ArithmeticOp::Subtract => add(!b_negative),
        ArithmeticOp::Multiply => a.checked_mul(b).map(|p| (a_negative != b_negative, p)),
        ArithmeticOp::Divide => a.checked_div(b).map(|q| (a_negative != b_negative, q)),
        ArithmeticOp::Remainder => a.checked_rem(b).map(|r| (a_negative, r)),
    };
    result.and_then(|(negative, magnitude)| number(negative, magnitude)).ok_or(TOO_BIG)
}

/// The type of a constant that was brought to `wanted`.
pub(super) fn type_of(constant: &Const, wanted: &Type) -> Type {
    match constant {
        Const::Uint(_) => Type::Uint,
        Const::Int(_) => Type::Int,
        _ => wanted.clone(),
    }
}

/// The key of a constant in the order of a field's own keys; `None` outside the field's range.
pub(crate) fn key_for(field: &Field, constant: &Const) -> Option<Key> {
    let signed = match field {
        Field::Word(_, kind) => *kind == WordKind::Int,
        Field::Builtin(builtin) => builtin.ty() == Type::Int,
        Field::Argument(_) => return None,
    };
    match (constant, signed) {
        (Const::Uint(value), true) => I256::from_parts(false, *value).map(int_key),
        (Const::Int(value), false) => value.to_unsigned().as_ref().map(uint_key),
        _ => constant.key(),
    }
}

impl Checker<'_> {
    /// Brings a constant to the type of the value that it meets.
    pub(super) fn coerce(
        &self,
        constant: &Const,
        at: &Typed,
        wanted: &Type,
        hashed: Option<&AbiType>,
    ) -> Result<Const, Fault> {
        let fault = |reason: String| Err(Fault::new(at.span, reason));
        if let Some(ty) = hashed
            && matches!(constant, Const::Text(text) if !text.starts_with("0x"))
        {
            return fault(format!(
                "the argument is an indexed {ty}, so the log has only its hash; compare it with \
                 keccak256(\"…\")"
            ));
        }
        match (wanted, constant) {
            (Type::Uint, Const::Int(_)) => fault(
                "this is negative, and what it is compared with never is; remove the comparison, \
                 or convert with int(…)"
                    .to_owned(),
            ),
            (Type::Int, Const::Uint(value)) => match I256::from_parts(false, *value) {
                Some(value) => Ok(Const::Int(value)),
                None => fault("this constant is above 2^255 - 1, the greatest int256".to_owned()),
            },
            (Type::Uint | Type::Int, Const::Uint(_) | Const::Int(_)) => Ok(constant.clone()),
            (Type::Uint | Type::Int, Const::Text(text)) => {
                let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                let remedy = if digits {
                    format!("write {text} without quotes")
                } else {
                    "write a number without quotes, or units(\"1.5\", 6)".to_owned()
                };
                fault(format!("this is a string, and it meets {wanted}; {remedy}"))
            }
            (Type::Address, Const::Text(text)) => parse_address(text, at).map(Const::Address),
            (Type::Address, Const::Uint(_)) if self.is_hex(at) => {
                parse_address(self.text(at), at).map(Const::Address)
            }
            (Type::Address, Const::Uint(_)) => fault(
                "this is a number, and it meets an address; write 0x and 40 digits".to_owned(),
            ),
            (Type::Bytes(size), Const::Text(text)) => self.hex_bytes(text, *size, at),
            (Type::Bytes(size), Const::Uint(_)) if self.is_hex(at) => {
                self.hex_bytes(self.text(at), *size, at)
            }
            (Type::Bytes(Some(size)), Const::Bytes(bytes)) if bytes.len() != usize::from(*size) => {
                fault(format!("this has {} bytes, and it meets bytes{size}", bytes.len()))
            }
            (Type::Text, Const::Text(_))
            | (Type::Bytes(_), Const::Bytes(_))
            | (Type::Bool, Const::Bool(_))
            | (Type::Address, Const::Address(_)) => Ok(constant.clone()),
            _ => fault(format!("this is {}, and it meets {wanted}; use one type", at.ty)),
        }
    }

    fn text(&self, at: &Typed) -> &str {
        self.source.get(at.span.start..at.span.end).unwrap_or_default()
    }

    /// Whether a number was written in hex, so that its digits may mean an address or bytes.
    fn is_hex(&self, at: &Typed) -> bool {
        matches!(at.expr, Expr::Const(Const::Uint(_))) && self.text(at).starts_with("0x")
    }

    fn hex_bytes(&self, text: &str, size: Option<u8>, at: &Typed) -> Result<Const, Fault> {
        let wanted = match size {
            Some(size) => format!("`0x` and {} hex digits", 2 * usize::from(size)),
            None => "`0x` and an even number of hex digits".to_owned(),
        };
        let bytes = text.strip_prefix("0x").and_then(|digits| const_hex::decode(digits).ok());
        match bytes {
            Some(bytes) if size.is_none_or(|size| bytes.len() == usize::from(size)) => {
                Ok(Const::Bytes(bytes.into()))
            }
            _ => Err(Fault::new(at.span, format!("bytes are written as {wanted}"))),
        }
    }
}

/// An address in any capitalisation that claims no wrong checksum.
pub(super) fn parse_address(text: &str, at: &Typed) -> Result<Address, Fault> {
    Address::parse_lenient(text).map_err(|error| {
        let reason = match error {
            AddressError::Checksum { .. } => error.to_string(),
            other => format!("this meets an address: {other}"),
        };
        Fault::new(at.span, reason)
    })
}
