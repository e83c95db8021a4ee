//! Something to look at: blocks, transfers, an ERC-20.

use std::time::Duration;

use anyhow::Result;
use lookout_test::anvil::DEV_ADDRESSES;
use lookout_test::{Anvil, Token};

/// Pause between two blocks once the tour is over.
const BLOCK_INTERVAL: Duration = Duration::from_secs(3);
/// 1.5 ether.
const PAYMENT_WEI: &str = "0x14d1120d7b160000";
/// 250 tokens of 6 decimals.
const TOKEN_UNITS: u64 = 250_000_000;

/// What the tour looks at.
pub(crate) struct Scene {
    /// Who was paid.
    pub(crate) receiver: &'static str,
    /// The token that was deployed.
    pub(crate) token: Token,
}

/// Mines, pays, deploys and pays again.
pub(crate) async fn play(node: &Anvil) -> Result<Scene> {
    let receiver = DEV_ADDRESSES[1];
    node.mine(20).await?;
    for _ in 0..3 {
        node.transfer(0, receiver, PAYMENT_WEI).await?;
    }
    let token = node.deploy_demo_token().await?;
    token.transfer(node, 0, receiver, TOKEN_UNITS).await?;
    token.transfer(node, 0, DEV_ADDRESSES[2], TOKEN_UNITS).await?;
    println!("20 empty blocks, 3 transfers, an ERC-20 at {}, 2 of its transfers", token.address);
    Ok(Scene { receiver, token })
}

/// Keeps the chain moving until the program ends.
pub(crate) async fn go_on(node: &Anvil, scene: &Scene) -> Result<()> {
    let mut ticks = tokio::time::interval(BLOCK_INTERVAL);
    for units in 1.. {
        ticks.tick().await;
        if units % 2 == 0 {
            scene.token.transfer(node, 0, scene.receiver, units).await?;
        } else {
            node.transfer(0, scene.receiver, &lookout_test::anvil::hex(units)).await?;
        }
    }
    Ok(())
}
