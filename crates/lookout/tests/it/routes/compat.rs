//! The compatible routes answer in exactly the shapes that their clients read.

use lookout_test::anvil::DEV_ADDRESSES;
use serde_json::{Value, json};

use crate::{caught_up, rig};

#[tokio::test]
async fn block_number_and_blocks_are_json_rpc_envelopes() {
    let Some((anvil, app)) = rig().await else { return };
    anvil.mine(9).await.unwrap();
    anvil.transfer(0, anvil.account(1), "0x5").await.unwrap();
    caught_up(&app, &anvil).await;
    let number = app.get("/block/number").await;
    assert_eq!(number.status, 200);
    assert_eq!(number.header("content-type"), "application/json");
    assert_eq!(number.json(), json!({"jsonrpc": "2.0", "id": 1, "result": "0xa"}));
    for (height, path) in [
        (0, "/block/0"),
        (10, "/block/10"),
        (10, "/block/0xa"),
        (10, "/block/0xA"),
        (3, "/block/0x03"),
    ] {
        let answer = app.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let whole = anvil.block(height).await.unwrap();
        assert_eq!(answer.json(), json!({"jsonrpc": "2.0", "id": 1, "result": whole}), "{path}");
    }
    let block = app.get("/block/10").await.json();
    assert_eq!(block["result"]["transactions"][0]["value"], "0x5", "transactions are objects");
}

#[tokio::test]
async fn balances_are_right_to_the_wei() {
    let Some((anvil, app)) = rig().await else { return };
    let two_to_200 = format!("0x1{}", "0".repeat(50));
    let max = format!("0x{}", "f".repeat(64));
    let cases = [
        ("0x0", "0", "0"),
        ("0x1", "1", "0.000000000000000001"),
        ("0xde0b6b3a7640000", "1000000000000000000", "1"),
        ("0xde0b6b3a763ffff", "999999999999999999", "0.999999999999999999"),
        ("0x14d1120d7b160000", "1500000000000000000", "1.5"),
        (
            &two_to_200,
            "1606938044258990275541962092341162602522202993782792835301376",
            "1606938044258990275541962092341162602522202.993782792835301376",
        ),
        (
            &max,
            "115792089237316195423570985008687907853269984665640564039457584007913129639935",
            "115792089237316195423570985008687907853269984665640564039457.584007913129639935",
        ),
    ];
    for (wei, decimal, ether) in cases {
        anvil.set_balance(DEV_ADDRESSES[2], wei).await.unwrap();
        anvil.mine(1).await.unwrap();
        let height = caught_up(&app, &anvil).await;
        let answer = app.get(&format!("/address/balance/{}", DEV_ADDRESSES[2])).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let body = answer.json();
        assert_eq!(body["address"], DEV_ADDRESSES[2]);
        assert_eq!(body["network"], "anvil");
        assert_eq!(body["blockTag"], "latest");
        assert_eq!(body["balance"], ether);
        assert_eq!(body["balanceWei"], decimal);
        assert_eq!(body["headBlockNumber"], format!("{height:#x}"));
        assert!(body["rpcLatencyMs"].is_u64(), "{body}");
    }
}

#[tokio::test]
async fn balances_of_earlier_blocks() {
    let Some((anvil, app)) = rig().await else { return };
    let path = |block: &str| format!("/address/balance/{}?block={block}", DEV_ADDRESSES[1]);
    anvil.mine(70).await.unwrap();
    anvil.transfer(0, DEV_ADDRESSES[1], "0x2").await.unwrap();
    caught_up(&app, &anvil).await;
    let wei = async |block: &str| {
        let answer = app.get(&path(block)).await;
        assert_eq!(answer.status, 200, "{block}: {}", answer.text());
        answer.json()["balanceWei"].clone()
    };
    let (before, after) = ("10000000000000000000000", "10000000000000000000002");
    for (block, expected) in [
        ("latest", after),
        ("71", after),
        ("0x47", after),
        ("70", before),
        ("0", before),
        ("safe", before),
        ("finalized", before),
    ] {
        assert_eq!(wei(block).await, expected, "{block}");
    }
}

#[tokio::test]
async fn ethereum_is_called_mainnet() {
    let Some(anvil) = lookout_test::Anvil::builder().chain_id(1).for_test().await else { return };
    let app = lookout_test::TestApp::builder(crate::LOOKOUT)
        .chain("ethereum", 1, &[anvil.url()])
        .start()
        .await
        .unwrap();
    let answer = app.get(&format!("/address/balance/{}", DEV_ADDRESSES[0])).await.json();
    assert_eq!(answer["network"], "mainnet");
}

#[tokio::test]
async fn polygon_and_ethereum_are_the_usual_chains() {
    let Some(ethereum) = lookout_test::Anvil::builder().chain_id(1).for_test().await else {
        return;
    };
    let polygon = lookout_test::Anvil::builder().chain_id(137).for_test().await.unwrap();
    ethereum.mine(3).await.unwrap();
    polygon.mine(8).await.unwrap();
    let app = lookout_test::TestApp::builder(crate::LOOKOUT)
        .chain("ethereum", 1, &[ethereum.url()])
        .chain("polygon", 137, &[polygon.url()])
        .start()
        .await
        .unwrap();
    assert_eq!(app.get("/block/number").await.json()["result"], "0x8");
    let balance = app.get(&format!("/address/balance/{}", DEV_ADDRESSES[0])).await.json();
    assert_eq!(balance["headBlockNumber"], "0x3");
}

#[tokio::test]
async fn healthz_is_exactly_that() {
    let Some((_anvil, app)) = rig().await else { return };
    let answer = app.get("/healthz").await;
    assert_eq!((answer.status, answer.json()), (200, json!({"status": "ok"})));
    assert_eq!(answer.json().as_object().map(serde_json::Map::len), Some(1));
    assert_ne!(answer.json()["status"], Value::Null);
}
