//! Checks on recorded mainnet blocks, on anvil's own answers, and on corrupted copies of both.

mod anvil;
mod chains;
mod corruption;
pub(crate) mod data;
mod proofs;
mod quirks;
mod recorded;
