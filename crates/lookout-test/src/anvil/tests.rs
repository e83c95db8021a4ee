//! The real node does what the tests rely on.

use super::*;

#[tokio::test]
async fn mines_reorganises_and_sets_balances() {
    let Some(anvil) = Anvil::builder().chain_id(4242).for_test().await else { return };
    assert_eq!(anvil.client().number("eth_chainId", json!([])).await.unwrap(), 4242);
    anvil.mine(10).await.unwrap();
    assert_eq!(anvil.height().await.unwrap(), 10);

    let before: Vec<Value> = blocks(&anvil, 5..=10).await;
    let transfer = json!({"from": anvil.account(0), "to": anvil.account(1), "value": "0x7"});
    anvil.reorg_with(3, &[(transfer, 0)]).await.unwrap();
    let after: Vec<Value> = blocks(&anvil, 5..=10).await;
    let same: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a["hash"] == b["hash"]).collect();
    assert_eq!(same, [true, true, true, false, false, false]);
    assert_eq!(after[3]["transactions"][0]["value"], "0x7");

    let address = "0x00000000000000000000000000000000000000aa";
    let huge = format!("0x1{}", "0".repeat(50));
    anvil.set_balance(address, &huge).await.unwrap();
    let balance = anvil.rpc("eth_getBalance", json!([address, "latest"])).await.unwrap();
    assert_eq!(balance, json!(huge));
}

#[tokio::test]
async fn the_demo_token_moves() {
    let Some(anvil) = Anvil::for_test().await else { return };
    let token = anvil.deploy_demo_token().await.unwrap();
    let receipt = token.transfer(&anvil, 0, anvil.account(1), 1_500_000).await.unwrap();
    assert_eq!(receipt["status"], "0x1");
    assert_eq!(receipt["logs"][0]["topics"][0], crate::token::TRANSFER_TOPIC);
    assert_eq!(token.balance_of(&anvil, anvil.account(1)).await.unwrap(), 1_500_000);
}

async fn blocks(anvil: &Anvil, heights: std::ops::RangeInclusive<u64>) -> Vec<Value> {
    let mut blocks = Vec::new();
    for height in heights {
        blocks.push(anvil.block(height).await.unwrap());
    }
    blocks
}
