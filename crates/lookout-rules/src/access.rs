//! By which of its parts the index finds a rule, and what is left to evaluate then.

use crate::check::{equal_keys, key_for, keyed};
use crate::expr::{Expr, Key};
use crate::scope::{Field, WordKind};
use crate::syntax::CompareOp;

/// Most fields that join one hash key. More make the key larger, and hardly more selective.
pub(crate) const MAX_JOINED: usize = 3;
/// Most alternatives of an `||` that are indexed one by one.
const MAX_ALTERNATIVES: usize = 16;
/// Most entries of the index that one rule takes, of about 250 bytes each: a list that would take
/// more is looked up once the rule is found by something else.
pub(crate) const MAX_ENTRIES: usize = 20_000;

/// One way to a rule: the values that some fields must have, then a bound on another.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Access {
    /// Sorted by field; each with its values, of which only one field has more than one.
    pub(crate) equal: Vec<(Field, Vec<Key>)>,
    pub(crate) bound: Option<Bound>,
}

impl Access {
    /// How many entries it takes in one group.
    fn entries(&self) -> usize {
        self.equal.iter().map(|(_, keys)| keys.len()).product()
    }
}

/// A limit on the key of a field, itself included.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bound {
    pub(crate) field: Field,
    pub(crate) side: Side,
    pub(crate) key: Key,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    AtLeast,
    AtMost,
}

/// How the index finds a rule. Found by any access, a rule matches if its residual holds.
pub(crate) struct Plan {
    pub(crate) accesses: Vec<Access>,
    pub(crate) residual: Option<Expr>,
}

/// Plans the condition of a rule that is entered into some groups.
pub(crate) fn plan(condition: Option<&Expr>, groups: usize) -> Plan {
    let keys_max = MAX_ENTRIES / groups.max(1);
    let Some(condition) = condition else {
        return Plan { accesses: vec![Access { equal: Vec::new(), bound: None }], residual: None };
    };
    let conjuncts = match condition {
        Expr::All(parts) => parts.as_slice(),
        single => std::slice::from_ref(single),
    };
    let (access, used) = best(conjuncts, keys_max);
    if access.equal.is_empty()
        && let Some(accesses) = conjuncts.iter().find_map(|part| alternatives(part, keys_max))
    {
        return Plan { accesses, residual: Some(condition.clone()) };
    }
    let left: Vec<_> = conjuncts
        .iter()
        .enumerate()
        .filter(|(position, _)| !used.contains(position))
        .map(|(_, conjunct)| conjunct.clone())
        .collect();
    let residual = match left.len() {
        0 => None,
        1 => left.into_iter().next(),
        _ => Some(Expr::All(left)),
    };
    Plan { accesses: vec![access], residual }
}

/// The accesses of an `||`, if each of its sides is an equality with something.
fn alternatives(expr: &Expr, keys_max: usize) -> Option<Vec<Access>> {
    let Expr::Any(parts) = expr else { return None };
    if parts.len() > MAX_ALTERNATIVES {
        return None;
    }
    let accesses = parts.iter().map(|part| {
        let conjuncts = match part {
            Expr::All(parts) => parts.as_slice(),
            single => std::slice::from_ref(single),
        };
        let (access, _) = best(conjuncts, keys_max);
        (!access.equal.is_empty()).then_some(access)
    });
    let accesses: Vec<_> = accesses.collect::<Option<_>>()?;
    (accesses.iter().map(Access::entries).sum::<usize>() <= keys_max).then_some(accesses)
}

/// The most selective access of some conjuncts that takes at most `keys_max` entries in a group,
/// with the positions of those that it replaces.
fn best(conjuncts: &[Expr], keys_max: usize) -> (Access, Vec<usize>) {
    let mut candidates: Vec<_> = conjuncts
        .iter()
        .enumerate()
        .filter_map(|(position, conjunct)| {
            let (field, keys) = equal_keys(conjunct)?;
            (selective(field) && keys.len() <= keys_max).then(|| (field.clone(), keys, position))
        })
        .collect();
    // Single values first: they can all join; of the lists only the shortest does.
    candidates.sort_by(|a, b| a.1.len().cmp(&b.1.len()).then_with(|| a.2.cmp(&b.2)));
    let mut equal: Vec<(Field, Vec<Key>)> = Vec::new();
    let mut used = Vec::new();
    for (field, keys, position) in candidates {
        let lists = equal.iter().any(|(_, keys)| keys.len() != 1);
        let known = equal.iter().any(|(known, _)| *known == field);
        if equal.len() < MAX_JOINED && !known && !lists {
            equal.push((field, keys));
            used.push(position);
        }
    }
    equal.sort_by(|a, b| a.0.cmp(&b.0));
    let bound = conjuncts
        .iter()
        .enumerate()
        .find_map(|(position, conjunct)| bound(conjunct).map(|bound| (bound, position)));
    let bound = bound.map(|(bound, position)| {
        used.push(position);
        bound
    });
    (Access { equal, bound }, used)
}

/// A bool halves the rules at best.
fn selective(field: &Field) -> bool {
    match field {
        Field::Word(_, kind) => *kind != WordKind::Bool,
        Field::Builtin(builtin) => builtin.ty() != crate::types::Type::Bool,
        Field::Argument(_) => false,
    }
}

/// `value > c` is `value >= c + 1`: one comparison with a sorted key.
fn bound(expr: &Expr) -> Option<Bound> {
    let Expr::Compare { op, left, right } = expr else { return None };
    let (Expr::Field(field), Expr::Const(constant)) = (&**left, &**right) else { return None };
    if !keyed(field) || !is_number(field) {
        return None;
    }
    let key = key_for(field, constant)?;
    let (side, key) = match op {
        CompareOp::GreaterOrEqual => (Side::AtLeast, key),
        CompareOp::Greater => (Side::AtLeast, next(key)?),
        CompareOp::LessOrEqual => (Side::AtMost, key),
        CompareOp::Less => (Side::AtMost, previous(key)?),
        CompareOp::Equal | CompareOp::NotEqual => return None,
    };
    Some(Bound { field: field.clone(), side, key })
}

fn is_number(field: &Field) -> bool {
    match field {
        Field::Word(_, kind) => matches!(kind, WordKind::Uint | WordKind::Int),
        Field::Builtin(builtin) => builtin.ty().is_number(),
        Field::Argument(_) => false,
    }
}

fn next(mut key: Key) -> Option<Key> {
    for byte in key.iter_mut().rev() {
        let (sum, carried) = byte.overflowing_add(1);
        *byte = sum;
        if !carried {
            return Some(key);
        }
    }
    None
}

fn previous(mut key: Key) -> Option<Key> {
    for byte in key.iter_mut().rev() {
        let (difference, borrowed) = byte.overflowing_sub(1);
        *byte = difference;
        if !borrowed {
            return Some(key);
        }
    }
    None
}
