//! Real parts and fakes for tests: a node, lying upstreams in front of it, receivers of alerts, the
//! running binary.
//!
//! Does: starts anvil, the `lookout` binary and a fleet of faulty upstreams on free ports, and ends
//! them with the test. Does not: ship; only tests, the demo and the benchmark use it.
//! Units: amounts in wei or the token's smallest unit, heights in blocks, durations as `Duration`.
//! Errors: `anyhow`, with what to do about a missing part; see [`part::require`].
//! Source: Ethereum JSON-RPC (execution-apis), anvil's own `anvil_*` and `evm_*` methods.

pub mod anvil;
pub mod app;
pub mod authority;
mod block;
pub mod disk;
pub mod fleet;
pub mod part;
pub mod process;
#[cfg(test)]
mod reader;
pub mod receiver;
pub mod replay;
pub mod rpc;
pub mod sim;
pub mod smtp;
pub mod telegram;
pub mod token;

pub use anvil::Anvil;
pub use app::TestApp;
pub use authority::Authority;
pub use disk::SmallDisk;
pub use fleet::{Behaviour, FakeUpstream, Fleet};
pub use receiver::Receiver;
pub use replay::{Replay, ReplaySpec};
pub use rpc::Rpc;
pub use sim::{SimChain, SimNode};
pub use smtp::SmtpServer;
pub use telegram::{FastClock, TelegramServer};
pub use token::Token;
