//! The condition language's grammar: CEL without maps, messages, floats and comprehensions.
//!
//! The parser is ours, not the `cel` crate's: that one refuses integers beyond 64 bits, and keeps
//! positions only with a much slower grammar. Tests hold ours against it on what both accept.

mod lex;
mod parse;

use ruint::aliases::U256;

pub(crate) use parse::parse;

/// Longest condition, in bytes. Lists that do not fit belong into a label.
pub const MAX_CONDITION_BYTES: usize = 64 << 10;
/// Deepest nesting; bounds the recursion of parser, checker and evaluation.
pub const MAX_DEPTH: usize = 40;
/// Most operators, names and constants, list items left aside.
pub const MAX_NODES: usize = 2048;
/// Most items of a list, and most addresses of a label.
pub const MAX_LIST_ITEMS: usize = 10_000;

/// A stretch of the source, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Span {
    pub(crate) fn to(self, end: Self) -> Self {
        Self { start: self.start, end: end.end }
    }
}

/// What is wrong, where, and what to do about it; lines and columns are added later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) span: Span,
    pub(crate) reason: String,
}

impl Fault {
    pub(crate) fn new(span: Span, reason: impl Into<String>) -> Self {
        Self { span, reason: reason.into() }
    }
}

/// A node of the syntax tree.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) kind: NodeKind,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum NodeKind {
    Bool(bool),
    Number(U256),
    Text(String),
    Bytes(Vec<u8>),
    Null,
    Name(String),
    Select { of: Box<Node>, member: String, member_span: Span },
    Index { of: Box<Node>, index: Box<Node> },
    Call { target: Option<Box<Node>>, name: String, name_span: Span, arguments: Vec<Node> },
    List(Vec<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Compare { op: CompareOp, left: Box<Node>, right: Box<Node> },
    In { item: Box<Node>, list: Box<Node> },
    Arithmetic { op: ArithmeticOp, left: Box<Node>, right: Box<Node> },
    All(Vec<Node>),
    Any(Vec<Node>),
    Choice { condition: Box<Node>, yes: Box<Node>, no: Box<Node> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CompareOp {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl CompareOp {
    /// The operator with its sides swapped.
    pub(crate) fn flipped(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            same => same,
        }
    }

    pub(crate) fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Self::Equal => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArithmeticOp {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[cfg(test)]
mod tests;
