//! Upstreams that skip, repeat, go back and mix up: what is kept is the chain all the same.

use std::time::Duration;

use lookout_test::{Behaviour, FakeUpstream, TestApp};
use serde_json::Value;

use super::scene::{SIM, Scene, all, follow, hex};

const LOGS_MAX: usize = 5;

#[tokio::test]
async fn faulty_upstreams_change_nothing_of_what_is_kept() {
    let scene = Scene::new(6, 0, LOGS_MAX).await;
    // A lost log that repeats others of its block is beyond bloom filters.
    scene.chain.vary();
    scene.chain.extend(30, LOGS_MAX);
    let [good, faulty] =
        ["good", "faulty"].map(|name| FakeUpstream::start(name, scene.node.url(), 6));
    let (good, faulty) = (good.await.unwrap(), faulty.await.unwrap());
    // The quicker one is asked first: let that be the faulty one, not chance.
    good.set([Behaviour::latency(Duration::from_millis(5))]);
    faulty.set([Behaviour::MissingLogs]);
    let app = follow(&[good.url(), faulty.url()]).start().await.unwrap();
    scene.settled(&app).await;
    same(&scene, &app, "from the start").await;
    let logs: &'static [&'static str] = &["eth_getLogs"];
    let faults = [
        ("skips logs", "eth_getLogs", Behaviour::MissingLogs),
        ("names another block", "eth_getLogs", Behaviour::LogsOfAnotherBlock),
        ("repeats blocks", "", Behaviour::Lag { blocks: 2 }.sometimes(0.5)),
        ("goes back", "", Behaviour::StaleThenFresh { blocks: 12, calls: 40 }),
        ("stands still", "", Behaviour::FrozenHead { height: 20 }),
        ("has no logs yet", "eth_getLogs", Behaviour::NullResults.only(logs)),
        ("breaks headers", "", Behaviour::FlippedDigit { field: "logsBloom" }),
        ("breaks hashes", "", Behaviour::WrongBlockHash.sometimes(0.5)),
    ];
    for (what, asked, fault) in faults {
        faulty.reset_counts();
        faulty.set([fault]);
        scene.chain.extend(4, LOGS_MAX);
        scene.settled(&app).await;
        same(&scene, &app, what).await;
        scene.chain.reorg(5, 6, LOGS_MAX);
        scene.settled(&app).await;
        same(&scene, &app, what).await;
        let calls = if asked.is_empty() { faulty.requests() } else { faulty.calls(asked) };
        assert!(calls > 0, "{what}: never asked");
    }
}

/// Compares every log that is kept with the chain.
async fn same(scene: &Scene, app: &TestApp, what: &str) {
    let kept = all(app, &format!("/v1/chains/{SIM}/events?order=asc")).await;
    let kept: Vec<_> = kept
        .iter()
        .map(|event| {
            let field = |name: &str| event[name].as_str().unwrap_or_default().to_lowercase();
            let place = |name: &str| event[name].as_u64().unwrap();
            (
                (place("blockNumber"), field("blockHash"), place("logIndex")),
                (field("transactionHash"), field("address"), event["topics"].clone()),
                field("data"),
            )
        })
        .collect();
    let mut truth = Vec::new();
    for block in scene.chain.canonical() {
        for (at, log) in block.logs.iter().enumerate() {
            let topics: Vec<_> = log.topics().iter().map(|topic| hex(topic)).collect();
            truth.push((
                (block.number, hex(&block.hash), u64::try_from(at).unwrap()),
                (hex(&block.transaction_hash(at)), hex(&log.token), Value::from(topics)),
                hex(&log.data()),
            ));
        }
    }
    assert_eq!(kept.len(), truth.len(), "{what}");
    for (kept, truth) in kept.iter().zip(&truth) {
        assert_eq!(kept, truth, "{what}");
    }
}
