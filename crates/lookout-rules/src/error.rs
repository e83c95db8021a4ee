//! What is wrong with a rule, and what can go wrong when one is evaluated.

use std::fmt;

use lookout_abi::AbiError;
use lookout_types::ErrorKind;

use crate::syntax::{Fault, Span};

/// Characters of the offending text that an error repeats.
const SHOWN_CHARS: usize = 60;

/// Which text of a rule an error points into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The condition on a record.
    Condition,
    /// The value that a window sums.
    WindowSum,
    /// The condition on a window's count and sum.
    WindowCondition,
    /// The message template.
    Template,
}

/// Why a rule was refused when it was saved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A text of the rule is wrong at one place.
    #[error("{part}, line {line}, column {column}{}: {reason}", at_clause(.offending))]
    At {
        /// Which text.
        part: Part,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// The text there, shortened.
        offending: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The ABI does not have what the rule watches.
    #[error(transparent)]
    Abi(#[from] AbiError),
    /// Another part of the rule is wrong.
    #[error("{0}")]
    Invalid(String),
}

/// Why a rule had no answer for a record. Counted, never a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EvalError {
    /// A result outside the 256 bits of its type.
    Overflow,
    /// An unsigned result below zero.
    BelowZero,
    /// A division by zero.
    DivisionByZero,
    /// An index beyond the end of a list.
    OutOfRange,
    /// A value that this record does not have, such as the recipient of a contract creation.
    Absent(&'static str),
    /// A value that was not read: the chain is followed without transactions or receipts.
    Unread(&'static str),
    /// The record does not decode by the rule's ABI.
    Undecodable,
}

impl RuleError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Abi(error) => error.kind(),
            Self::At { .. } | Self::Invalid(_) => ErrorKind::Invalid,
        }
    }

    /// Adds line, column and text to a fault.
    pub(crate) fn at(part: Part, source: &str, fault: Fault) -> Self {
        let Fault { span: Span { start, end }, reason } = fault;
        let before = source.get(..start).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let offending: String = source
            .get(start..end)
            .unwrap_or_default()
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(SHOWN_CHARS)
            .collect();
        Self::At {
            part,
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
            offending,
            reason,
        }
    }
}

fn at_clause(offending: &str) -> String {
    if offending.is_empty() { String::new() } else { format!(", at `{offending}`") }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Condition => "condition",
            Self::WindowSum => "summed value",
            Self::WindowCondition => "window condition",
            Self::Template => "message template",
        })
    }
}

impl fmt::Display for EvalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overflow => f.write_str("a result does not fit into 256 bits"),
            Self::BelowZero => {
                f.write_str("an unsigned difference is below zero; convert with int(…) first")
            }
            Self::DivisionByZero => f.write_str("division by zero"),
            Self::OutOfRange => f.write_str("an index is beyond the end of its list"),
            Self::Absent(name) => {
                write!(f, "this record has no `{name}`; guard it with has({name})")
            }
            Self::Unread(name) => {
                write!(f, "`{name}` was not read; follow the chain with transactions and receipts")
            }
            Self::Undecodable => f.write_str("the record does not decode by the rule's ABI"),
        }
    }
}

impl std::error::Error for EvalError {}
