//! The one integration-test binary: the real `lookout` against real parts.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, also in its helpers")]

mod auth;
mod clients;
mod crash;
mod demo;
mod fidelity;
mod liar;
mod outage;
mod reload;
mod reorg;
mod routes;
mod schemathesis;
mod sharing;
mod simulated;
mod subscription;
mod tidy;
mod watching;

use lookout_test::app::Builder;
use lookout_test::{Anvil, TestApp};

/// The binary under test.
pub(crate) const LOOKOUT: &str = env!("CARGO_BIN_EXE_lookout");
/// The chain that tests read.
pub(crate) const CHAIN: &str = "anvil";

/// A server on one anvil, not started yet.
pub(crate) fn on(anvil: &Anvil) -> Builder {
    TestApp::builder(LOOKOUT).chain(CHAIN, anvil.chain_id(), &[anvil.url()])
}

/// A fresh anvil and a server on it, or `None` after a loud skip.
pub(crate) async fn rig() -> Option<(Anvil, TestApp)> {
    let anvil = Anvil::for_test().await?;
    let app = on(&anvil).start().await.unwrap();
    Some((anvil, app))
}

/// Waits until the server follows anvil's head, and gives its height.
pub(crate) async fn caught_up(app: &TestApp, anvil: &Anvil) -> u64 {
    let height = anvil.height().await.unwrap();
    let head = anvil.block(height).await.unwrap();
    app.wait_head(CHAIN, head["hash"].as_str().unwrap()).await.unwrap();
    height
}
