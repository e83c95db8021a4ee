//! Ingest: follows and backfills chains into frames, and runs the consumers of frames.
//!
//! Does: publish one frame per block in order, undo on reorgs, run each consumer from its cursor.
//! Does not: speak JSON-RPC, decide what a rule means, send anything.
//! Units: heights in blocks, times in seconds since 1970 UTC from block headers.
//! Errors: what can heal is tried again with backoff; what cannot stops that chain, by name.
//! Source: one writer per chain, leases with fencing tokens.

mod backoff;
pub mod consume;
pub mod publish;
#[cfg(any(test, feature = "testing"))]
pub mod sim;
#[cfg(test)]
mod tests;
pub mod verify;
