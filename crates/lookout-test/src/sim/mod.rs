//! A simulated EVM chain behind JSON-RPC: its blocks come from a seed, its reorgs from the test.
//!
//! Its blocks are whole: signed transactions, receipts, roots, bloom filters and hashes recompute, so that
//! a client that checks everything finds nothing wrong. What is true of the chain is known beforehand,
//! without asking.

mod chain;
mod serve;

pub use chain::{SimBlock, SimChain, SimLog};
pub use serve::SimNode;

#[cfg(test)]
mod tests;
