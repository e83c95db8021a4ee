//! With three upstreams and a steady load, no fault of any one of them reaches a client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lookout_test::{Anvil, Behaviour, FakeUpstream, Fleet, TestApp, part};
use serde_json::{Value, json};

use crate::{CHAIN, LOOKOUT};

const SEED: u64 = 3;
const UPSTREAMS: usize = 3;
/// Clients that ask all the time.
const CLIENTS: u64 = 4;
/// Requests of each client under each fault; enough that every upstream is tried many times.
const REQUESTS: u64 = 60;
/// A new block comes this often, so that heads move while upstreams fail.
const BLOCK_INTERVAL: Duration = Duration::from_millis(150);
/// What an upstream takes when it is well.
const LATENCY: Duration = Duration::from_millis(4);

#[derive(Debug, Clone, Copy)]
enum Fault {
    Killed,
    TenfoldSlower,
    FrozenHead,
    Corrupted,
    Silent,
    RateLimited,
}

const FAULTS: [Fault; 6] = [
    Fault::Killed,
    Fault::TenfoldSlower,
    Fault::FrozenHead,
    Fault::Corrupted,
    Fault::Silent,
    Fault::RateLimited,
];

impl Fault {
    async fn strike(self, victim: &FakeUpstream, anvil: &Anvil) {
        let well = Behaviour::latency(LATENCY);
        match self {
            Self::Killed => victim.die(),
            Self::TenfoldSlower => victim.set([well, Behaviour::Slower { factor: 10 }]),
            Self::FrozenHead => {
                let height = anvil.height().await.unwrap();
                victim.set([well, Behaviour::FrozenHead { height }]);
            }
            Self::Corrupted => victim.set([
                well,
                Behaviour::FlippedDigit { field: "stateRoot" },
                Behaviour::FlippedDigit { field: "transactions.0.value" },
                Behaviour::MissingLogs,
            ]),
            Self::Silent => victim.set([Behaviour::Silent]),
            Self::RateLimited => {
                victim.set([Behaviour::Status { code: 429, retry_after_seconds: Some(1) }]);
            }
        }
    }

    async fn end(self, victim: &FakeUpstream) {
        victim.set([Behaviour::latency(LATENCY)]);
        victim.revive().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_of_one_upstream_reaches_a_client() {
    let Some(anvil) = Anvil::for_test().await else { return };
    let anvil = Arc::new(anvil);
    for _ in 0..30 {
        anvil.transfer(0, anvil.account(1), "0x1").await.unwrap();
    }
    let fleet = Fleet::start(anvil.url(), UPSTREAMS, part::seed(SEED)).await.unwrap();
    for fake in fleet.all() {
        fake.set([Behaviour::latency(LATENCY)]);
    }
    let app = TestApp::builder(LOOKOUT)
        .chain(CHAIN, anvil.chain_id(), &fleet.urls())
        .chain_extra("call_timeout_ms = 1000\nrequest_timeout_ms = 10000")
        .config_extra("[limits]\nrequests_per_second_per_address = 0")
        .start()
        .await
        .unwrap();
    let app = Arc::new(app);
    let stop = Arc::new(AtomicBool::new(false));
    let miner = tokio::spawn(mine(Arc::clone(&anvil), Arc::clone(&stop)));

    let mut failures: BTreeMap<String, u64> = BTreeMap::new();
    for fault in FAULTS {
        for victim in fleet.all() {
            fault.strike(victim, &anvil).await;
            for failure in load(&app, &anvil).await {
                *failures.entry(format!("{fault:?} {}: {failure}", victim.name())).or_default() +=
                    1;
            }
            fault.end(victim).await;
        }
    }
    stop.store(true, Ordering::SeqCst);
    miner.await.unwrap();
    assert!(failures.is_empty(), "{failures:#?}");
    // The load did go through the fakes, and through all of them.
    for fake in fleet.all() {
        assert!(fake.requests() > 100, "{} was hardly asked: {:?}", fake.name(), fake.all_calls());
    }
}

async fn mine(anvil: Arc<Anvil>, stop: Arc<AtomicBool>) {
    let mut ticks = tokio::time::interval(BLOCK_INTERVAL);
    while !stop.load(Ordering::SeqCst) {
        ticks.tick().await;
        anvil.transfer(0, anvil.account(1), "0x1").await.unwrap();
    }
}

/// All clients at once, each with its own requests; what went wrong, in words.
async fn load(app: &Arc<TestApp>, anvil: &Arc<Anvil>) -> Vec<String> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (app, anvil) = (Arc::clone(app), Arc::clone(anvil));
            tokio::spawn(async move {
                let mut failures = Vec::new();
                for _ in 0..REQUESTS {
                    let number = NEXT.fetch_add(1, Ordering::SeqCst);
                    failures.extend(request(&app, &anvil, number).await.err());
                }
                failures
            })
        })
        .collect();
    let mut failures = Vec::new();
    for client in clients {
        failures.extend(client.await.unwrap());
    }
    failures
}

/// One request of the mix; the error says what was wrong with the answer.
async fn request(app: &TestApp, anvil: &Anvil, number: u64) -> Result<(), String> {
    match number % 5 {
        0 => {
            let answer = answered(app, "/block/number").await?;
            answer["result"].as_str().map(drop).ok_or_else(|| format!("no height: {answer}"))
        }
        1 => {
            // A recent block: not in the cache yet, and truly the node's.
            let head = app.rpc(CHAIN).number("eth_blockNumber", json!([])).await;
            let height = head.map_err(|error| format!("{error:#}"))?.saturating_sub(number % 7);
            let answer = answered(app, &format!("/block/{height}")).await?;
            let truth = anvil.block(height).await.unwrap();
            (answer["result"] == truth).then_some(()).ok_or_else(|| "a false block".to_owned())
        }
        2 => {
            let path = format!("/v1/chains/{CHAIN}/addresses/0x{number:040x}/balance");
            let answer = answered(app, &path).await?;
            let right = answer["data"]["amount"].is_string();
            right.then_some(()).ok_or_else(|| format!("no amount: {answer}"))
        }
        3 => {
            let call = json!({"to": anvil.account(2), "data": format!("0x{number:064x}")});
            rpc(app, "eth_call", json!([call, "latest"])).await
        }
        _ => {
            let address = format!("0x{number:040x}");
            rpc(app, "eth_getTransactionCount", json!([address, "latest"])).await
        }
    }
}

async fn answered(app: &TestApp, path: &str) -> Result<Value, String> {
    let answer = app.get(path).await;
    if answer.status == 200 { Ok(answer.json()) } else { Err(generic(&answer.text())) }
}

async fn rpc(app: &TestApp, method: &str, params: Value) -> Result<(), String> {
    match app.rpc(CHAIN).outcome(method, params).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(generic(&error.to_string())),
        Err(error) => Err(format!("{error:#}")),
    }
}

/// The text without the request's own id, so that equal failures are counted together.
fn generic(text: &str) -> String {
    let mut problem: Value = serde_json::from_str(text).unwrap_or_else(|_| json!(text));
    if let Some(members) = problem.as_object_mut() {
        members.remove("requestId");
        members.remove("instance");
    }
    problem.to_string()
}
