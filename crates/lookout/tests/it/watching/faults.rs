//! Upstreams that skip, repeat, go back and mix up: what is kept is the chain all the same.
//! Where nobody can tell what is right, nothing is kept, and that is said.

use std::time::Duration;

use lookout_test::{Behaviour, FakeUpstream, TestApp};
use serde_json::Value;

use super::scene::{SIM, Scene, all, follow, hex, until};

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
    let mut app = follow(&[good.url(), faulty.url()]).start().await.unwrap();
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
        // What it did before is held against it until a restart.
        app.restart().await.unwrap();
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

/// With nobody to compare with, what cannot be proved complete is waited for, in plain sight.
#[tokio::test]
async fn an_upstream_that_skips_logs_alone_is_waited_for_and_named() {
    let scene = Scene::new(41, 0, LOGS_MAX).await;
    scene.chain.vary();
    scene.chain.extend(12, LOGS_MAX);
    let alone = FakeUpstream::start("alone", scene.node.url(), 41).await.unwrap();
    let app = follow(&[alone.url()]).start().await.unwrap();
    scene.settled(&app).await;
    for fault in [Behaviour::MissingLogs, Behaviour::LogsOfAnotherBlock] {
        let before = all(&app, &format!("/v1/chains/{SIM}/events")).await.len();
        alone.set([fault.clone()]);
        // The first of them has logs for certain.
        scene.chain.push(vec![super::scene::transfer(1)]);
        scene.chain.extend(3, LOGS_MAX);
        let waits = until("it is said what is waited for", async || {
            let follow = app.get(&format!("/v1/chains/{SIM}/follow")).await.json();
            follow["publisher"]["problem"].as_str().map(str::to_owned)
        })
        .await;
        assert!(waits.contains("sim-0") || waits.contains("block"), "{fault:?}: {waits}");
        let held = all(&app, &format!("/v1/chains/{SIM}/events")).await.len();
        assert_eq!(held, before, "{fault:?}: kept what is not complete");
        alone.set([]);
        scene.settled(&app).await;
        same(&scene, &app, "after it has recovered").await;
    }
}

/// A node that was restored from an older snapshot has fewer blocks, and then others.
#[tokio::test]
async fn a_chain_that_goes_back_for_good_and_grows_anew_is_kept_as_it_is_in_the_end() {
    let scene = Scene::new(42, 40, LOGS_MAX).await;
    let app = scene.server().start().await.unwrap();
    scene.settled(&app).await;
    for lost in [3, 20] {
        scene.chain.reorg(lost, 0, LOGS_MAX);
        let head = hex(&scene.chain.head().hash);
        app.wait_head(SIM, &head).await.unwrap();
        // It grows past where it was, with other blocks.
        scene.chain.extend(lost + 5, LOGS_MAX);
        scene.settled(&app).await;
        same(&scene, &app, "grown anew").await;
    }
    // The same blocks come again.
    let full = scene.chain.head().hash;
    scene.chain.reorg(6, 0, LOGS_MAX);
    app.wait_head(SIM, &hex(&scene.chain.head().hash)).await.unwrap();
    scene.chain.switch_to(full);
    scene.chain.extend(1, LOGS_MAX);
    scene.settled(&app).await;
    same(&scene, &app, "the same again").await;
}

/// Compares every log that is kept with the chain.
pub(super) async fn same(scene: &Scene, app: &TestApp, what: &str) {
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
