//! What can go wrong when reading a chain, by what the caller can do about it.

use lookout_types::ErrorKind;
use serde_json::value::RawValue;

use crate::upstream::{Fault, NodeVerdict, judge};

/// A JSON-RPC error object, exactly as the node wrote it.
#[derive(Debug, Clone)]
pub struct NodeError {
    /// The `code` member.
    pub code: i64,
    /// The `message` member.
    pub message: String,
    /// The whole `error` member, byte for byte.
    pub raw: Box<RawValue>,
}

/// One upstream's failure within a request that then went on to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The upstream's name.
    pub upstream: String,
    /// What happened, in words, without keys.
    pub problem: String,
}

/// Why a read failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChainError {
    /// The node answered with an error about the request itself.
    #[error("the node answered: {} (code {})", .0.message, .0.code)]
    Node(NodeError),
    /// No chain of that name is configured.
    #[error("no chain `{name}`; known chains: {known}")]
    UnknownChain {
        /// The name asked for.
        name: String,
        /// The known names, comma-separated.
        known: String,
    },
    /// The method is not on the allow-list.
    #[error("the method {0} does not exist/is not available")]
    Method(String),
    /// The block, transaction or height is not there.
    #[error("{0}")]
    NotFound(String),
    /// The request cannot be understood.
    #[error("{0}")]
    Invalid(String),
    /// No upstream can take the call now (none reached yet, all gated off).
    #[error("chain `{chain}` is not available: {reason}")]
    Unavailable {
        /// The chain's name.
        chain: String,
        /// Why, in words.
        reason: String,
    },
    /// Every upstream that was tried failed.
    #[error("no upstream of chain `{chain}` could answer: {}", attempts_text(.attempts))]
    Upstreams {
        /// The chain's name.
        chain: String,
        /// Each try, in order.
        attempts: Vec<Attempt>,
    },
    /// No upstream could prove the value.
    #[error("the value could not be proved on chain `{chain}`: {reason}")]
    Unproved {
        /// The chain's name.
        chain: String,
        /// Why, in words.
        reason: String,
    },
    /// The request's time ran out.
    #[error("chain `{chain}` did not answer within {millis} ms")]
    Timeout {
        /// The chain's name.
        chain: String,
        /// The request's time limit in milliseconds.
        millis: u128,
    },
}

fn attempts_text(attempts: &[Attempt]) -> String {
    let each: Vec<_> = attempts.iter().map(|a| format!("`{}` {}", a.upstream, a.problem)).collect();
    each.join("; ")
}

impl ChainError {
    /// What the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Node(error) => match judge(error) {
                NodeVerdict::Client => ErrorKind::Invalid,
                NodeVerdict::Fault(Fault::Missing) => ErrorKind::NotFound,
                NodeVerdict::Fault(Fault::Wide(_)) => ErrorKind::Invalid,
                NodeVerdict::Fault(_) => ErrorKind::Upstream,
            },
            Self::Method(_) | Self::Invalid(_) => ErrorKind::Invalid,
            Self::UnknownChain { .. } | Self::NotFound(_) => ErrorKind::NotFound,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::Upstreams { .. } | Self::Unproved { .. } => ErrorKind::Upstream,
            Self::Timeout { .. } => ErrorKind::Timeout,
        }
    }
}
