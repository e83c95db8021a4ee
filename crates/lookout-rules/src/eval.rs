//! Evaluates a checked expression on a record.
//!
//! `&&` and `||` are CEL's: an error on one side does not matter when the other decides. That is
//! what lets the index skip a rule as soon as one of its conjuncts is false.

use std::cmp::Ordering;

use lookout_abi::I256;
use ruint::aliases::U256;

use crate::error::EvalError;
use crate::expr::{ConstSet, Datum, Expr, SearchOp};
use crate::syntax::{ArithmeticOp, CompareOp};
use crate::view::View;

type Answer<T> = Result<T, EvalError>;

/// Evaluates a condition.
pub(crate) fn holds(expr: &Expr, view: &View<'_>) -> Answer<bool> {
    match expr {
        Expr::All(parts) => decide(parts, view, false),
        Expr::Any(parts) => decide(parts, view, true),
        Expr::Not(part) => holds(part, view).map(|value| !value),
        Expr::Compare { op, left, right } => {
            Ok(compare(*op, &value(left, view)?, &value(right, view)?))
        }
        Expr::InSet { item, set } => {
            let item = value(item, view)?;
            Ok(match set.as_ref() {
                ConstSet::Keys(keys) => {
                    item.key().is_some_and(|key| keys.binary_search(&key).is_ok())
                }
                ConstSet::Bytes(all) => item
                    .bytes()
                    .is_some_and(|bytes| all.binary_search_by(|one| (**one).cmp(bytes)).is_ok()),
            })
        }
        Expr::InList { item, list } => {
            let item = value(item, view)?;
            let Datum::Values(values) = value(list, view)? else { return Ok(false) };
            Ok(values.iter().any(|other| compare(CompareOp::Equal, &item, &Datum::of(other))))
        }
        Expr::Search { op, of, needle } => {
            let (of, needle) = (value(of, view)?, value(needle, view)?);
            let (of, needle) = (required_bytes(&of)?, required_bytes(&needle)?);
            Ok(match op {
                SearchOp::StartsWith => of.starts_with(needle),
                SearchOp::EndsWith => of.ends_with(needle),
                // Linear in both, whatever the chain holds.
                SearchOp::Contains => memchr::memmem::find(of, needle).is_some(),
            })
        }
        Expr::Matches { of, pattern } => Ok(pattern.is_match(required_bytes(&value(of, view)?)?)),
        Expr::Has(field) => match view.read(field) {
            Ok(Datum::Absent(_)) | Err(EvalError::Absent(_) | EvalError::Unread(_)) => Ok(false),
            Ok(_) => Ok(true),
            Err(error) => Err(error),
        },
        _ => match value(expr, view)? {
            Datum::Bool(value) => Ok(value),
            Datum::Absent(name) => Err(EvalError::Absent(name)),
            _ => Ok(false),
        },
    }
}

/// `decisive` is the value that decides alone: false for `&&`, true for `||`.
fn decide(parts: &[Expr], view: &View<'_>, decisive: bool) -> Answer<bool> {
    let mut first_error = None;
    for part in parts {
        match holds(part, view) {
            Ok(value) if value == decisive => return Ok(decisive),
            Ok(_) => {}
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    first_error.map_or(Ok(!decisive), Err)
}

/// Evaluates to a value.
pub(crate) fn value<'v>(expr: &'v Expr, view: &'v View<'_>) -> Answer<Datum<'v>> {
    match expr {
        Expr::Const(constant) => Ok(constant.datum()),
        Expr::Field(field) => view.read(field),
        Expr::Member { of, position } => match value(of, view)? {
            Datum::Values(values) => {
                values.get(*position).map(Datum::of).ok_or(EvalError::OutOfRange)
            }
            _ => Err(EvalError::OutOfRange),
        },
        Expr::Item { of, index } => {
            let index = match value(index, view)? {
                Datum::Uint(index) => usize::try_from(index).ok(),
                Datum::Int(index) => index.to_unsigned().and_then(|i| usize::try_from(i).ok()),
                _ => None,
            };
            match (value(of, view)?, index) {
                (Datum::Values(values), Some(index)) => {
                    values.get(index).map(Datum::of).ok_or(EvalError::OutOfRange)
                }
                _ => Err(EvalError::OutOfRange),
            }
        }
        Expr::Choice { condition, yes, no } => {
            value(if holds(condition, view)? { yes } else { no }, view)
        }
        Expr::Arithmetic { op, left, right } => {
            arithmetic(*op, number(left, view)?, number(right, view)?)
        }
        Expr::Negate(of) => match number(of, view)? {
            Datum::Int(value) => value.checked_neg().map(Datum::Int).ok_or(EvalError::Overflow),
            other => to_int(other)
                .and_then(|value| value.checked_neg().map(Datum::Int).ok_or(EvalError::Overflow)),
        },
        Expr::ToInt(of) => number(of, view).and_then(to_int).map(Datum::Int),
        Expr::ToUint(of) => match number(of, view)? {
            Datum::Int(value) => value.to_unsigned().map(Datum::Uint).ok_or(EvalError::BelowZero),
            other => Ok(other),
        },
        Expr::Size(of) => size(&value(of, view)?).map(Datum::Uint),
        _ => holds(expr, view).map(Datum::Bool),
    }
}

fn number<'v>(expr: &'v Expr, view: &'v View<'_>) -> Answer<Datum<'v>> {
    match value(expr, view)? {
        Datum::Absent(name) => Err(EvalError::Absent(name)),
        number => Ok(number),
    }
}

fn to_int(number: Datum<'_>) -> Answer<I256> {
    match number {
        Datum::Uint(value) => I256::from_parts(false, value).ok_or(EvalError::Overflow),
        Datum::Int(value) => Ok(value),
        _ => Err(EvalError::Overflow),
    }
}

fn arithmetic<'v>(op: ArithmeticOp, left: Datum<'_>, right: Datum<'_>) -> Answer<Datum<'v>> {
    if let (Datum::Uint(left), Datum::Uint(right)) = (left, right) {
        return match op {
            ArithmeticOp::Add => left.checked_add(right).ok_or(EvalError::Overflow),
            ArithmeticOp::Subtract => left.checked_sub(right).ok_or(EvalError::BelowZero),
            ArithmeticOp::Multiply => left.checked_mul(right).ok_or(EvalError::Overflow),
            ArithmeticOp::Divide => left.checked_div(right).ok_or(EvalError::DivisionByZero),
            ArithmeticOp::Remainder => left.checked_rem(right).ok_or(EvalError::DivisionByZero),
        }
        .map(Datum::Uint);
    }
    let (left, right) = (to_int(left)?, to_int(right)?);
    if right == I256::ZERO && matches!(op, ArithmeticOp::Divide | ArithmeticOp::Remainder) {
        return Err(EvalError::DivisionByZero);
    }
    match op {
        ArithmeticOp::Add => left.checked_add(right),
        ArithmeticOp::Subtract => left.checked_sub(right),
        ArithmeticOp::Multiply => left.checked_mul(right),
        ArithmeticOp::Divide => left.checked_div(right),
        ArithmeticOp::Remainder => left.checked_rem(right),
    }
    .map(Datum::Int)
    .ok_or(EvalError::Overflow)
}

/// An absent value differs from every value, and is neither above nor below any.
fn compare(op: CompareOp, left: &Datum<'_>, right: &Datum<'_>) -> bool {
    if matches!(left, Datum::Absent(_)) || matches!(right, Datum::Absent(_)) {
        return op == CompareOp::NotEqual;
    }
    let order = match (left, right) {
        (Datum::Uint(a), Datum::Uint(b)) => a.cmp(b),
        (Datum::Int(a), Datum::Int(b)) => a.cmp(b),
        (Datum::Int(a), Datum::Uint(b)) => a.cmp_unsigned(b),
        (Datum::Uint(a), Datum::Int(b)) => b.cmp_unsigned(a).reverse(),
        (Datum::Address(a), Datum::Address(b)) => a.cmp(b),
        (Datum::Bool(a), Datum::Bool(b)) => a.cmp(b),
        _ => match (left.bytes(), right.bytes()) {
            (Some(a), Some(b)) => a.cmp(b),
            // The checker lets no other pair through.
            _ => Ordering::Less,
        },
    };
    op.holds(order)
}

fn required_bytes<'d>(datum: &'d Datum<'_>) -> Answer<&'d [u8]> {
    match datum {
        Datum::Absent(name) => Err(EvalError::Absent(name)),
        other => Ok(other.bytes().unwrap_or_default()),
    }
}

/// Characters of a string, bytes of bytes, items of a list.
fn size(datum: &Datum<'_>) -> Answer<U256> {
    let size = match datum {
        Datum::Text(text) => String::from_utf8_lossy(text).chars().count(),
        Datum::Values(values) => values.len(),
        Datum::Absent(name) => return Err(EvalError::Absent(name)),
        other => other.bytes().map_or(0, <[u8]>::len),
    };
    Ok(U256::from(size))
}
