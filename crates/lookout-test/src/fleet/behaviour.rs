//! What can be wrong with an upstream.

use std::time::Duration;

/// One thing wrong with an upstream; several apply at once, in this order of groups: time,
/// connection, answer as a whole, view of the chain, content.
#[derive(Debug, Clone, PartialEq)]
pub enum Behaviour {
    /// Waits before it answers: a fixed time and a random one up to a limit.
    Latency {
        /// Always waited.
        fixed: Duration,
        /// Largest random addition.
        jitter_max: Duration,
    },
    /// Takes this many times as long as it would otherwise.
    Slower {
        /// How many times.
        factor: u32,
    },

    /// Accepts the request and never answers.
    Silent,
    /// Resets the connection instead of answering.
    ConnectionReset,

    /// Answers this HTTP status, with `Retry-After` where given.
    Status {
        /// For example 429 or 503.
        code: u16,
        /// Seconds for the `Retry-After` header.
        retry_after_seconds: Option<u64>,
    },
    /// Answers 200 with a page of HTML, as captive portals and proxies do.
    Html,
    /// Answers 200 with something that is almost JSON.
    NotJson,
    /// Answers 200 with no body at all.
    EmptyResponse,
    /// Promises the whole answer and closes after half of it.
    TruncatedBody,
    /// Answers with a valid result of this size.
    OversizedBody {
        /// In units of 2^20 bytes.
        megabytes: usize,
    },

    /// Answers 200 with JSON-RPC error -32005, as vendors do over their limit.
    RpcRateLimit,
    /// Answers 200 with JSON-RPC error -32603.
    ErrorInside200,
    /// Answers `null` to everything.
    NullResults,

    /// Knows no block above this height.
    FrozenHead {
        /// The last height it knows.
        height: u64,
    },
    /// Is this many blocks behind the node.
    Lag {
        /// How many.
        blocks: u64,
    },
    /// Is behind for its next calls and then no more.
    StaleThenFresh {
        /// How far behind.
        blocks: u64,
        /// For how many calls, counted since the behaviour was set.
        calls: u64,
    },

    /// Is on another chain.
    WrongChainId {
        /// The id it answers.
        id: u64,
    },
    /// Adds to every balance: of accounts, in their proofs, and in `balanceOf` answers.
    WrongBalance {
        /// What it adds.
        delta: u64,
    },
    /// Gives blocks a hash that is not theirs.
    WrongBlockHash,
    /// Flips one hex digit in a field of every block. A path like `transactions.0.value` reaches
    /// into the block; blocks without the field stay as they are.
    FlippedDigit {
        /// Which field.
        field: &'static str,
    },
    /// Flips one hex digit in a field of every receipt. A path like `logs.0.data` reaches into it.
    FlippedReceipt {
        /// Which field.
        field: &'static str,
    },
    /// Leaves logs out of log answers and receipts.
    MissingLogs,
    /// Answers log queries with logs that name another block than their own.
    LogsOfAnotherBlock,

    /// The inner behaviour, for this share of the requests.
    Sometimes {
        /// From 0 to 1.
        share: f64,
        /// What then happens.
        behaviour: Box<Behaviour>,
    },
    /// The inner behaviour, for requests with one of these methods only.
    Only {
        /// Names of JSON-RPC methods.
        methods: &'static [&'static str],
        /// What then happens.
        behaviour: Box<Behaviour>,
    },
}

impl Behaviour {
    /// A fixed wait.
    pub fn latency(fixed: Duration) -> Self {
        Self::Latency { fixed, jitter_max: Duration::ZERO }
    }

    /// A bare HTTP status.
    pub fn status(code: u16) -> Self {
        Self::Status { code, retry_after_seconds: None }
    }

    /// This behaviour for a share of the requests.
    #[must_use]
    pub fn sometimes(self, share: f64) -> Self {
        Self::Sometimes { share, behaviour: Box::new(self) }
    }

    /// This behaviour for some methods only.
    #[must_use]
    pub fn only(self, methods: &'static [&'static str]) -> Self {
        Self::Only { methods, behaviour: Box::new(self) }
    }

    /// What applies to one request: dice thrown, methods matched, wrappers gone.
    pub(super) fn apply(&self, methods: &[String], rng: &mut fastrand::Rng) -> Option<Self> {
        match self {
            Self::Sometimes { share, behaviour } => {
                // The die is thrown for every request, so that later throws do not depend on it.
                let hit = rng.f64() < *share;
                behaviour.apply(methods, rng).filter(|_| hit)
            }
            Self::Only { methods: only, behaviour } => {
                let hit = methods.iter().any(|method| only.contains(&method.as_str()));
                behaviour.apply(methods, rng).filter(|_| hit)
            }
            plain => Some(plain.clone()),
        }
    }
}
