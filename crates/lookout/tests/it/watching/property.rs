//! Whatever happens to the chains, the upstreams and the process: what is kept and what is told in
//! the end is what a server tells that saw nothing but the final chains.

use std::collections::{BTreeMap, BTreeSet};

use lookout_test::{Receiver, TestApp};
use serde_json::{Value, json};

use super::world::{World, all, server, until};

/// Chains that one server follows, each with a seed of its own.
const CHAINS: u64 = 20;
/// Seeds when nothing else is said.
const SEEDS: u64 = 200;
/// Things that happen to each chain.
const STEPS: usize = 14;

/// `LOOKOUT_TEST_SEEDS` asks for more, as `make soak` does; `LOOKOUT_TEST_SEED` for where to begin.
#[expect(clippy::disallowed_methods, reason = "how long a test run may take")]
fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        Err(_) => default,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reorgs_crashes_and_faults_end_in_the_state_of_a_fresh_run() {
    let first = number("LOOKOUT_TEST_SEED", 1);
    let seeds = number("LOOKOUT_TEST_SEEDS", SEEDS);
    for begin in (first..first + seeds).step_by(usize::try_from(CHAINS).unwrap()) {
        let end = (begin + CHAINS).min(first + seeds);
        round(begin..end).await;
    }
}

async fn round(seeds: std::ops::Range<u64>) {
    let mut rng = fastrand::Rng::with_seed(seeds.start);
    let mut worlds = Vec::new();
    for seed in seeds.clone() {
        worlds.push(World::new(seed).await);
    }
    let receiver = Receiver::start().await.unwrap();
    let mut app = server(&worlds, &receiver.url("/hook"), true).await;
    for _ in 0..STEPS {
        worlds.iter_mut().for_each(World::step);
        pass(&mut rng, 250).await;
        // One time in two it is killed, one in four again before it has caught up.
        for _ in 0..[0, 0, 1, 2][rng.usize(0..4)] {
            app.kill().await.unwrap();
            app.begin_restart().await.unwrap();
            pass(&mut rng, 150).await;
        }
    }
    worlds.iter_mut().for_each(World::calm);
    settle(&app, &worlds, &seeds, &["queued", "sending"]).await;

    let fresh = server(&worlds, &receiver.url("/other"), false).await;
    settle(&fresh, &worlds, &seeds, &[]).await;
    for world in &worlds {
        compare(world, &app, &fresh).await;
    }
    check_deliveries(&all(&app, "/v1/alerts").await, &receiver);
}

/// Lets some time pass. How much is part of what is random here; nothing is waited for.
async fn pass(rng: &mut fastrand::Rng, millis_max: u64) {
    tokio::time::sleep(std::time::Duration::from_millis(rng.u64(0..millis_max))).await;
}

/// Waits until everything of the final chains is kept, decided and told.
async fn settle(app: &TestApp, worlds: &[World], seeds: &std::ops::Range<u64>, unsettled: &[&str]) {
    until(|| async {
        for world in worlds {
            let head = world.sim.head();
            let hash = format!("0x{}", hex(&head.hash));
            let answer = app.get(&format!("/v1/chains/{}/follow", world.name)).await;
            let follow = answer.json();
            let consumers = follow["consumers"].as_array().cloned().unwrap_or_default();
            let there = |name: &str| {
                consumers.iter().any(|c| c["name"] == name && c["head"]["hash"] == hash.as_str())
            };
            if !there("warehouse") || !there("rules") {
                return Err(format!("{} of {seeds:?}, head {}: {follow}", world.name, head.number));
            }
        }
        for state in unsettled {
            let waiting = app.get(&format!("/v1/deliveries?state={state}&limit=1")).await.json();
            if waiting["items"].as_array().is_none_or(|items| !items.is_empty()) {
                return Err(format!("{seeds:?}: deliveries are {state}: {waiting}"));
            }
        }
        Ok(())
    })
    .await;
}

async fn compare(world: &World, app: &TestApp, fresh: &TestApp) {
    let name = &world.name;
    let events = format!("/v1/chains/{name}/events?order=asc");
    let kept = all(app, &events).await;
    assert_eq!(kept, all(fresh, &events).await, "events of {name}");
    let truth: Vec<_> = world
        .sim
        .canonical()
        .iter()
        .flat_map(|block| (0..block.logs.len()).map(|at| (hex(&block.hash), at as u64)))
        .collect();
    let read = |event: &Value| {
        let hash = event["block"]["hash"].as_str().or(event["blockHash"].as_str()).unwrap();
        (hash.trim_start_matches("0x").to_owned(), event["logIndex"].as_u64().unwrap())
    };
    assert_eq!(kept.iter().map(read).collect::<Vec<_>>(), truth, "logs of {name}");
    let transfers = format!("/v1/chains/{name}/transfers?order=asc");
    assert_eq!(all(app, &transfers).await, all(fresh, &transfers).await, "transfers of {name}");
    let alerts = format!("/v1/alerts?chain={name}");
    let (ours, theirs) = (all(app, &alerts).await, all(fresh, &alerts).await);
    assert_eq!(standing(&ours), standing(&theirs), "alerts of {name}");
    for alert in ours.iter().filter(|alert| alert["state"] == "retracted") {
        // One whose block was on the chain all the time is taken back for nothing.
        let block = alert["block"]["hash"].as_str().unwrap_or_else(|| panic!("no block: {alert}"));
        let was_off = world.lost.iter().any(|hash| hex(hash) == block.trim_start_matches("0x"));
        assert!(was_off, "retracted, and its block never left {name}: {alert}");
    }
    assert!(
        theirs.iter().all(|alert| alert["state"] != "retracted"),
        "a calm chain retracts nothing"
    );
}

/// The alerts that stand, without what differs between any two servers.
pub(super) fn standing(alerts: &[Value]) -> BTreeMap<String, Value> {
    let standing = alerts.iter().filter(|alert| alert["state"] != "retracted");
    let known = standing.map(|alert| {
        let key = json!([alert["ruleName"], alert["block"], alert["record"]]).to_string();
        let told = ["state", "text", "spans", "facts", "confirmsAt", "blockTime"];
        let told: Value = told.iter().map(|name| alert[*name].clone()).collect();
        (key, told)
    });
    let mut found = BTreeMap::new();
    for (key, told) in known {
        assert!(found.insert(key.clone(), told).is_none(), "twice: {key}");
    }
    found
}

/// Each confirmed alert was told once, each retracted one that was told was taken back once, no other
/// at all; repeats after a crash come under the same id.
pub(super) fn check_deliveries(alerts: &[Value], receiver: &Receiver) {
    let mut told: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for message in receiver.accepted() {
        let body = message.json();
        let alert = body["data"]["id"].as_str().unwrap_or_else(|| panic!("no alert: {body}"));
        let kind = body["type"].as_str().unwrap().to_owned();
        let id = message.headers["webhook-id"].clone();
        told.entry((alert.to_owned(), kind)).or_default().insert(id);
    }
    let mut expected = BTreeSet::new();
    for alert in alerts {
        let id = alert["id"].as_str().unwrap().to_owned();
        match alert["state"].as_str().unwrap() {
            "pending" => {}
            "confirmed" => {
                expected.insert((id, "alert.confirmed".to_owned()));
            }
            "retracted" => {
                // Taken back before anybody tried to tell it: then neither is told. A kill on the way
                // to the receiver leaves open whether it was, and the retraction is told to be safe.
                let [confirmed, retracted] = ["alert.confirmed", "alert.retracted"]
                    .map(|kind| (id.clone(), kind.to_owned()));
                if told.contains_key(&confirmed) {
                    expected.extend([confirmed, retracted]);
                } else if told.contains_key(&retracted) {
                    expected.insert(retracted);
                }
            }
            other => panic!("an alert is {other}"),
        }
    }
    let told_keys: BTreeSet<_> = told.keys().cloned().collect();
    assert_eq!(told_keys, expected, "what was told");
    for (key, ids) in told {
        assert_eq!(ids.len(), 1, "{key:?} was told under several ids");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
