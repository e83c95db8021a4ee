//! Logs that are no event anybody knows, or that look like one and are another.

use lookout_test::SimChain;
use lookout_test::sim::SimLog;
use serde_json::{Value, json};

use super::faults::same;
use super::scene::{SIM, Scene, TRANSFER, all, rule, transfer};

/// ERC-721 has the same signature, and indexes the last argument too.
const TRANSFER_721: &str =
    "event Transfer(address indexed from, address indexed to, uint256 indexed tokenId)";
/// A contract with anonymous events.
const PINGS: [u8; 20] = [0x77; 20];
/// Bytes of a very long log.
const LONG: usize = 1 << 20;

fn word(number: u8) -> [u8; 32] {
    let mut word = [0; 32];
    word[31] = number;
    word
}

fn address(bytes: [u8; 20]) -> String {
    super::scene::hex(&bytes)
}

/// An ERC-721 transfer.
fn moved(contract: [u8; 20], id: u8) -> SimLog {
    let mut topics = transfer(0).topics();
    topics.push(word(id));
    SimLog::raw(contract, topics, Vec::new())
}

fn push_odd_logs(chain: &SimChain) {
    let erc20 = transfer(7);
    let signature = erc20.topics()[0];
    let mut long = word(9).to_vec();
    long.resize(LONG, 0xee);
    chain.push(vec![
        erc20.clone(),
        moved([0x21; 20], 3),
        // On a contract that a rule names as an ERC-20: it is none, or not only.
        moved(erc20.token, 4),
        // LOG0 of watched contracts.
        SimLog::raw(erc20.token, Vec::new(), vec![1, 2, 3]),
        SimLog::raw(PINGS, Vec::new(), word(5).to_vec()),
        SimLog::raw(PINGS, Vec::new(), vec![1, 2, 3]),
        SimLog::raw(PINGS, Vec::new(), Vec::new()),
        // The signature and nothing else.
        SimLog::raw([0x22; 20], vec![signature], Vec::new()),
        // Right, with a megabyte behind it; and a megabyte of nothing known.
        SimLog::raw([0x22; 20], erc20.topics(), long.clone()),
        SimLog::raw([0x22; 20], vec![word(1), word(2), word(3), word(4)], long),
    ]);
}

/// The positions in the block of what a rule has matched.
async fn matched(app: &lookout_test::TestApp, rule: &str) -> Vec<u64> {
    let alerts = all(app, &format!("/v1/alerts?rule={rule}")).await;
    let mut positions: Vec<u64> =
        alerts.iter().map(|alert| alert["record"]["logIndex"].as_u64().unwrap()).collect();
    positions.sort_unstable();
    positions
}

#[tokio::test]
async fn odd_logs_match_what_they_are_and_are_kept_as_they_are() {
    let scene = Scene::new(51, 5, 0).await;
    let app = scene.server().start().await.unwrap();
    scene.settled(&app).await;
    let named = |name: &str, watch: Value| json!({"name": name, "chain": SIM, "watch": watch});
    let erc20 = json!({"kind": "event", "event": TRANSFER});
    let erc721 = json!({"kind": "event", "event": TRANSFER_721});
    let ping = "event Ping(uint256 n) anonymous";
    let pings = json!({"kind": "event", "event": ping, "addresses": [address(PINGS)]});
    let one = json!({"kind": "event", "event": TRANSFER, "addresses": [address([0x10; 20])]});
    let nowhere = json!({"kind": "event", "event": ping});
    let refused = app.post("/v1/rules", &named("x", nowhere)).await;
    assert_eq!(refused.status, 400);
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("is anonymous") && detail.contains("name the contracts"), "{detail}");
    let mut rules = Vec::new();
    for (name, watch) in [("erc20", erc20), ("erc721", erc721), ("pings", pings), ("one", one)] {
        rules.push(rule(&app, &named(name, watch)).await);
    }
    push_odd_logs(&scene.chain);
    scene.settled(&app).await;

    for (rule, expected) in rules.iter().zip([vec![0, 8], vec![1, 2], vec![4], vec![0]]) {
        assert_eq!(matched(&app, rule).await, expected, "{rule}");
    }
    // The named contract said something that is not what the rule's ABI says of it: that is counted.
    // To a rule on any contract these are other events.
    let metrics = app.get("/metrics").await.text();
    let counted: Vec<&str> =
        metrics.lines().filter(|line| line.starts_with("lookout_rules_failures_total{")).collect();
    assert!(matches!(counted[..], [only] if only.ends_with(" 1")), "{counted:?}");

    same(&scene, &app, "odd logs").await;
    let transfers = all(&app, &format!("/v1/chains/{SIM}/transfers?order=asc")).await;
    let kinds: Vec<_> = transfers
        .iter()
        .map(|transfer| (transfer["asset"]["kind"].clone(), transfer["logIndex"].clone()))
        .collect();
    let expected: Vec<_> = [("erc20", 0), ("erc721", 1), ("erc721", 2)]
        .map(|(kind, at)| (json!(kind), json!(at)))
        .into();
    assert_eq!(kinds, expected, "{transfers:#?}");
    // What has the topic of a transfer and not its form is set apart: no topics, more than a word.
    let odd = all(&app, &format!("/v1/chains/{SIM}/events/odd")).await;
    let mut odd: Vec<_> = odd.iter().map(|log| log["logIndex"].as_u64().unwrap()).collect();
    odd.sort_unstable();
    assert_eq!(odd, [7, 8]);
    let path = format!("/v1/chains/{SIM}/events?abi=erc20&event=Transfer&order=asc");
    let events = app.get(&path).await.json();
    let items = events["items"].as_array().unwrap();
    let decoded = items.iter().filter(|item| item["decodeError"].is_null()).count();
    assert_eq!(u64::try_from(items.len() - decoded).unwrap(), events["decodeErrors"], "{events}");
    assert_eq!(decoded, 2, "{events}");
    scene.chain.extend(3, 4);
    scene.settled(&app).await;
    same(&scene, &app, "after odd logs").await;
}
