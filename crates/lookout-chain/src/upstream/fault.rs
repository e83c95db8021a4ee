//! Whose fault it was: the client's, the upstream's, or nobody's.

use std::time::Duration;

use super::refusal::{Refusal, range_refusal};
use crate::NodeError;
use crate::wire::WireError;

/// Something an upstream did wrong; the request goes on to another one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("could not be reached")]
    Connect,
    #[error("broke the connection")]
    Broken,
    #[error("did not answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error("answered HTTP status {0}")]
    Status(u16),
    #[error("refused the request's form or size with HTTP status {0}")]
    Refused(u16),
    #[error("takes no range of so many blocks or results")]
    Wide(Refusal),
    #[error("is rate limiting")]
    RateLimited { retry_after: Option<Duration> },
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error("answered more than {0} bytes")]
    TooLarge(usize),
    #[error("answered an internal error")]
    Internal,
    #[error("does not offer the method")]
    Unsupported,
    #[error("does not have the block")]
    Missing,
    #[error("answered about a block that is not on the followed chain")]
    OffBranch,
    #[error("answered something that does not verify: {0}")]
    Lie(String),
}

impl Fault {
    /// The label used in metrics.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Self::Connect | Self::Broken => "connection",
            Self::Timeout(_) => "timeout",
            Self::Status(_) | Self::Refused(_) => "status",
            Self::Wide(_) => "range",
            Self::RateLimited { .. } => "rate_limit",
            Self::Wire(_) => "garbage",
            Self::TooLarge(_) => "too_large",
            Self::Internal => "internal",
            Self::Unsupported => "unsupported",
            Self::Missing => "not_found",
            Self::OffBranch => "off_branch",
            Self::Lie(_) => "lie",
        }
    }

    /// Whether the whole upstream is suspect, rather than this method or block on it.
    pub(crate) fn condemns_upstream(&self) -> bool {
        matches!(
            self,
            Self::Connect | Self::Broken | Self::Timeout(_) | Self::Status(_) | Self::Wire(_)
        )
    }

    /// Whether the breaker of the method counts it.
    pub(crate) fn counts(&self) -> bool {
        !matches!(
            self,
            Self::RateLimited { .. }
                | Self::Missing
                | Self::Unsupported
                | Self::OffBranch
                | Self::Refused(_)
                | Self::Wide(_)
        )
    }
}

/// What a node's error object means for routing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NodeVerdict {
    /// About the request itself: the client gets it as it is.
    Client,
    /// The upstream's trouble: others may do better; if none does, the client gets it as it is.
    Fault(Fault),
}

/// Message parts by which providers tell rate limits apart; each seen in a provider's answers.
const RATE_LIMITS: [&str; 10] = [
    "rate limit",
    "rate-limit",
    "ratelimit",
    "too many requests",
    "request limit",
    "requests per second",
    "compute units",
    "exceeded its throughput",
    "daily request count",
    "capacity exceeded",
];

/// Message parts of nodes that lack the block or its state (behind, pruned, or on another fork).
const MISSING: [&str; 14] = [
    "header not found",
    "block not found",
    "unknown block",
    "could not find block",
    "cannot find block",
    "missing trie node",
    "resource not found",
    "state not available",
    "state is not available",
    "pruned",
    "historical state",
    "blockoutofrange",
    "after last accepted block",
    "hash is not currently canonical",
];

/// Message parts of a node's own trouble behind a generic code.
const INTERNAL: [&str; 9] = [
    "timed out",
    "timeout",
    "temporarily unavailable",
    "service unavailable",
    "bad gateway",
    "no available upstream",
    "connection refused",
    "backend",
    "unhealthy",
];

/// Sorts a node's error object. Codes come from EIP-1474 and the JSON-RPC specification; where
/// providers overload `-32000`, the message decides.
pub(crate) fn judge(error: &NodeError) -> NodeVerdict {
    let text = error.message.to_ascii_lowercase();
    let says = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    // A revert may quote anything a contract's author wrote, so its text decides nothing.
    if error.code == 3 || text.starts_with("execution reverted") {
        return NodeVerdict::Client;
    }
    // Before rate limits: providers use -32005 for both.
    if let Some(refusal) = range_refusal(error) {
        return NodeVerdict::Fault(Fault::Wide(refusal));
    }
    if matches!(error.code, -32005 | 429) || says(&RATE_LIMITS) {
        return NodeVerdict::Fault(Fault::RateLimited { retry_after: None });
    }
    match error.code {
        -32601 | -32004 => NodeVerdict::Fault(Fault::Unsupported),
        -32001 => NodeVerdict::Fault(Fault::Missing),
        _ if says(&MISSING) => NodeVerdict::Fault(Fault::Missing),
        -32603 | -32002 => NodeVerdict::Fault(Fault::Internal),
        -32000 | -32099..=-32010 if says(&INTERNAL) => NodeVerdict::Fault(Fault::Internal),
        _ => NodeVerdict::Client,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: i64, message: &str, expected: NodeVerdict) {
        let raw = serde_json::value::RawValue::from_string("{}".into()).unwrap();
        let error = NodeError { code, message: message.into(), raw };
        assert_eq!(judge(&error), expected, "{code} {message}");
    }

    #[test]
    fn errors_about_the_request_reach_the_client() {
        for (code, message) in [
            (3, "execution reverted: rate limit exceeded"),
            (-32000, "execution reverted"),
            (-32000, "nonce too low"),
            (-32000, "insufficient funds for gas * price + value"),
            (-32602, "invalid argument 0: hex string without 0x prefix"),
            (-32000, "already known"),
        ] {
            check(code, message, NodeVerdict::Client);
        }
    }

    #[test]
    fn an_upstreams_own_trouble_goes_to_another_one() {
        let limited = || NodeVerdict::Fault(Fault::RateLimited { retry_after: None });
        check(-32005, "limit exceeded", limited());
        check(429, "slow down", limited());
        check(-32000, "Your app has exceeded its compute units per second capacity", limited());
        check(-32601, "the method debug_x does not exist", NodeVerdict::Fault(Fault::Unsupported));
        check(-32000, "header not found", NodeVerdict::Fault(Fault::Missing));
        check(-32000, "missing trie node 12ab", NodeVerdict::Fault(Fault::Missing));
        check(-32603, "Internal error", NodeVerdict::Fault(Fault::Internal));
        check(-32000, "request timed out", NodeVerdict::Fault(Fault::Internal));
        let wide = NodeVerdict::Fault(Fault::Wide(Refusal::default()));
        check(-32005, "query returned more than 10000 results", wide);
    }
}
