//! Reads EVM chains through a pool of upstreams.
//!
//! Does: route, hedge, coalesce, verify and cache calls; follow the head through reorgs.
//! Does not: write to a store, know tenants, or speak HTTP to clients.
//! Units: amounts in wei or the token's smallest unit; block times in seconds since 1970 UTC.
//! Errors: [`ChainError`], by what the caller can do; upstream URLs never appear in them.
//! Source: the Ethereum execution API, EIP-1898 (block by hash), EIP-1186 (`eth_getProof`).

mod balance;
mod cache;
mod chain;
mod chains;
mod check;
mod coalesce;
mod core;
mod error;
mod heads;
mod meters;
mod methods;
mod model;
mod params;
mod pool;
mod rpc;
mod source;
mod upstream;
mod verify;
mod wire;

pub use cache::{Cache, CacheError, CacheKey, Entry, MemoryCache};
pub use chain::Chain;
pub use chains::Chains;
pub use error::{Attempt, ChainError, NodeError};
pub use model::{
    Answer, AnswerMeta, Balance, ChainSpec, Heads, Level, PoolSettings, UpstreamSpec,
    UpstreamState, UpstreamStatus, Verify, redact,
};
#[doc(hidden)]
pub use source::stage;
pub use source::{Source, SourceBlock, SourceError, SourceHeader, Wants};
