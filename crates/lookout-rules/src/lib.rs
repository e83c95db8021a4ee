//! Rules on frames: which records of a chain somebody wants to hear about.
//!
//! Does: checks and compiles conditions, finds the rules that a record matches, keeps windows, fills messages.
//! Does not: read a chain, a store or a clock; send anything; decide when a match is confirmed.
//! Units: amounts in the asset's smallest unit as 256-bit integers; times in seconds of the blocks.
//! Errors: [`RuleError`] points at line and column; [`EvalError`] is counted and never a match; [`WindowError`] asks for a rebuild.
//! Source: CEL's syntax and its `&&` and `||`; Telegram's message entities for the spans of a message.

mod access;
mod backtest;
mod check;
mod document;
mod error;
mod eval;
mod evaluate;
mod expr;
mod import;
mod index;
mod kept;
mod matcher;
mod message;
mod reads;
mod rule;
mod scope;
mod syntax;
mod types;
mod view;
mod window;

pub use backtest::{Backtest, BacktestReport, ChannelPace, Pace, Sample, Unanswered};
pub use check::MAX_LABELLED;
pub use document::{
    DurationS, MAX_CHANNELS, MAX_CONFIRMATIONS, MAX_SIGNATURE_BYTES, RuleDocument, RuleSource,
    WatchDocument, WatchedAssetDocument, WindowDocument, builtin_abi,
};
pub use error::{EvalError, Part, RuleError};
pub use evaluate::{
    BalanceReading, Contribution, Evaluation, Failure, Match, RecordKey, Undecodable, evaluate,
    evaluate_balances,
};
pub use import::{
    Effect, Finding, ImportedChannel, ImportedRule, OzFiles, OzFolder, OzImport, import_oz,
};
pub use index::RuleSet;
pub use kept::{Kept, NotKept};
pub use matcher::{Matcher, Reading, Stepped};
pub use message::{
    MAX_MESSAGE_UNITS, MAX_TEMPLATE_BYTES, MAX_VALUE_CHARS, Message, Span, SpanKind, Template,
};
pub use reads::MAX_BALANCES;
pub use rule::{
    MAX_ADDRESSES, MAX_NAME_BYTES, MAX_WINDOW_S, Needs, Rule, RuleId, RuleSpec, Watch,
    WatchedAsset, Window,
};
pub use scope::Labels;
pub use syntax::{MAX_CONDITION_BYTES, MAX_DEPTH, MAX_LIST_ITEMS, MAX_NODES};
pub use window::{WindowError, WindowState};
