//! A simulated EVM chain behind JSON-RPC: its blocks come from a seed, its reorgs from the test.
//!
//! Headers hash to their hashes and their bloom filters fit their logs, so that a client that checks
//! everything finds nothing wrong. What is true of the chain is known beforehand, without asking.

mod chain;
mod header;
mod serve;

pub use chain::{SimBlock, SimChain, SimLog};
pub use serve::SimNode;
