//! What a lying upstream says is never answered where it can be checked.

use std::time::Duration;

use lookout_test::{Anvil, Behaviour, Fleet, TestApp};
use serde_json::{Value, json};

use crate::{CHAIN, LOOKOUT};

const SEED: u64 = 21;
const READS: u64 = 30;

async fn fleet(count: usize) -> Option<(Anvil, Fleet, TestApp)> {
    let anvil = Anvil::for_test().await?;
    anvil.mine(10).await.unwrap();
    anvil.transfer(0, anvil.account(1), "0x5").await.unwrap();
    let fleet = Fleet::start(anvil.url(), count, SEED).await.unwrap();
    let app = TestApp::builder(LOOKOUT)
        .chain(CHAIN, anvil.chain_id(), &fleet.urls())
        .start()
        .await
        .unwrap();
    Some((anvil, fleet, app))
}

fn balance_path(address: &str) -> String {
    format!("/v1/chains/{CHAIN}/addresses/{address}/balance?verify=proof")
}

async fn truth(anvil: &Anvil, address: &str) -> String {
    let balance = anvil.rpc("eth_getBalance", json!([address, "latest"])).await.unwrap();
    let digits = balance.as_str().unwrap().trim_start_matches("0x");
    u128::from_str_radix(digits, 16).unwrap().to_string()
}

#[tokio::test]
async fn a_lone_liar_gets_no_number_through_at_level_proof() {
    let Some((anvil, fleet, app)) = fleet(1).await else { return };
    let honest = app.get(&balance_path(anvil.account(1))).await.json();
    assert_eq!(honest["verification"]["level"], "proof", "{honest}");
    assert_eq!(honest["data"]["amount"], truth(&anvil, anvil.account(1)).await);
    fleet[0].set([Behaviour::WrongBalance { delta: 1 }]);
    for address in
        [anvil.account(2), anvil.account(3), "0x00000000000000000000000000000000000000bb"]
    {
        let answer = app.get(&balance_path(address)).await;
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert_eq!(answer.json()["data"], Value::Null);
    }
}

#[tokio::test]
async fn beside_an_honest_one_the_liar_is_passed_over() {
    let Some((anvil, fleet, app)) = fleet(2).await else { return };
    fleet[0].set([Behaviour::WrongBalance { delta: 1_000_000 }]);
    // Of two upstreams the quicker one is asked: let that be the liar, not chance.
    fleet[1].set([Behaviour::latency(Duration::from_millis(20))]);
    for n in 0..READS {
        let address = anvil.account(usize::try_from(n % 10).unwrap());
        anvil.mine(1).await.unwrap();
        crate::caught_up(&app, &anvil).await;
        let answer = app.get(&balance_path(address)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = answer.json();
        assert_eq!(answer["verification"]["level"], "proof");
        assert_eq!(answer["data"]["amount"], truth(&anvil, address).await);
    }
    assert!(fleet[0].calls("eth_getProof") > 0, "the liar was never asked");
}

#[tokio::test]
async fn false_blocks_receipts_and_logs_are_passed_over() {
    let Some((anvil, fleet, app)) = fleet(2).await else { return };
    let token = anvil.deploy_demo_token().await.unwrap();
    for lie in [
        Behaviour::WrongBlockHash,
        Behaviour::FlippedDigit { field: "stateRoot" },
        Behaviour::FlippedDigit { field: "timestamp" },
        Behaviour::FlippedDigit { field: "transactions.0.value" },
        Behaviour::MissingLogs,
    ] {
        for units in 1..6 {
            token.transfer(&anvil, 0, anvil.account(1), units).await.unwrap();
        }
        let head = crate::caught_up(&app, &anvil).await;
        fleet[0].set([lie.clone()]);
        for height in head - 4..=head {
            let at = format!("{height:#x}");
            for (method, params) in [
                ("eth_getBlockByNumber", json!([at, true])),
                ("eth_getBlockReceipts", json!([at])),
                ("eth_getLogs", json!([{"fromBlock": at, "toBlock": at}])),
            ] {
                let ours = app.call(CHAIN, method, params.clone()).await;
                let node = anvil.rpc(method, params.clone()).await.unwrap();
                assert_eq!(ours.unwrap(), node, "{lie:?}: {method} {params}");
            }
        }
        fleet.heal();
    }
}

#[tokio::test]
async fn another_chain_is_never_used() {
    let Some(anvil) = Anvil::for_test().await else { return };
    anvil.mine(3).await.unwrap();
    let fleet = Fleet::start(anvil.url(), 2, SEED).await.unwrap();
    fleet[0].set([Behaviour::WrongChainId { id: 5 }]);
    let app = TestApp::builder(LOOKOUT)
        .chain(CHAIN, anvil.chain_id(), &fleet.urls())
        .start()
        .await
        .unwrap();
    app.wait_for(&format!("/v1/chains/{CHAIN}/upstreams"), |answer| {
        answer.json()["items"][0]["state"] == "wrong_chain"
    })
    .await
    .unwrap();
    fleet.reset_counts();
    for height in 0..=3 {
        assert_eq!(app.get(&format!("/block/{height}")).await.status, 200);
    }
    let asked: Vec<String> =
        fleet[0].all_calls().into_keys().filter(|method| method != "eth_chainId").collect();
    assert!(asked.is_empty(), "the other chain was asked {asked:?}");
}
