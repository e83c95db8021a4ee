//! Simulated chains, faulty upstreams before them, and a server that follows all of them.

use std::collections::HashSet;
use std::sync::Arc;

use lookout_test::app::{Answer, Builder};
use lookout_test::{Behaviour, FakeUpstream, SimChain, SimNode, TestApp};
use serde_json::{Value, json};

use crate::LOOKOUT;

/// Most transfers of a block.
const LOGS_MAX: usize = 3;
/// The deepest reorg.
const DEPTH_MAX: u64 = 64;
/// First chain id; one for each seed.
const CHAIN_IDS: u64 = 100_000;
/// Longest that everything may take to settle, in looks of [`LOOK`] each.
const LOOKS: usize = 3000;
/// Between two looks at something that is to come.
const LOOK: std::time::Duration = std::time::Duration::from_millis(20);

/// How a chain is followed, and so what its upstreams may lie about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Whole blocks: roots show every lie.
    Whole,
    /// Logs that two upstreams must have alike.
    Quorum,
    /// Logs that are held against bloom filters. These do not show the loss of a log that repeats
    /// others of its block: there is none.
    Bloom,
}

/// One chain with its upstreams.
pub(crate) struct World {
    pub(crate) name: String,
    pub(crate) id: u64,
    pub(crate) sim: Arc<SimChain>,
    /// Hashes of blocks that were ever off the chain.
    pub(crate) lost: HashSet<[u8; 32]>,
    mode: Mode,
    node: SimNode,
    /// The way to the node, where that is cut off now and then.
    good: Option<FakeUpstream>,
    faulty: Vec<FakeUpstream>,
    /// Heads of branches that were left, to come back to.
    left: Vec<[u8; 32]>,
    rng: fastrand::Rng,
}

impl World {
    /// A chain of a few blocks behind one good upstream and one that is faulty.
    pub(crate) async fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let id = CHAIN_IDS + seed;
        let sim = SimChain::new(id, seed);
        let mode = match seed % 3 {
            0 => Mode::Whole,
            1 => Mode::Quorum,
            _ => Mode::Bloom,
        };
        if mode == Mode::Bloom {
            sim.vary();
        }
        // Long enough for the deepest reorg, in some; short in the others, for its end at block 0.
        let long = rng.u8(0..4) == 0;
        sim.extend(rng.u64(1..=if long { DEPTH_MAX + 10 } else { 20 }), LOGS_MAX);
        let node = SimNode::start(sim.clone()).await.unwrap();
        let mut faulty = Vec::new();
        // Alone, an upstream may fail but not lie: nobody could tell. Two in three have both.
        if rng.u8(0..3) > 0 {
            let fake = FakeUpstream::start("faulty", node.url(), rng.u64(..)).await.unwrap();
            fake.set(behaviours(&mut rng));
            faulty.push(fake);
        }
        // Half of those go on with the faulty one alone at times.
        let mut good = None;
        if !faulty.is_empty() && rng.bool() {
            good = Some(FakeUpstream::start("good", node.url(), rng.u64(..)).await.unwrap());
        }
        let name = format!("sim-{seed}");
        let (lost, left) = (HashSet::new(), Vec::new());
        Self { name, id, sim, lost, mode, node, good, faulty, left, rng }
    }

    /// The upstreams as they are for the tortured server.
    pub(crate) fn urls(&self) -> Vec<String> {
        let good = self.good.as_ref().map(FakeUpstream::url);
        let mut urls = vec![good.unwrap_or_else(|| self.node.url().to_owned())];
        urls.extend(self.faulty.iter().map(FakeUpstream::url));
        urls
    }

    /// One thing happens to the chain.
    pub(crate) fn step(&mut self) {
        let before = self.sim.canonical();
        self.change();
        let now: HashSet<_> = self.sim.canonical().iter().map(|block| block.hash).collect();
        let gone = before.iter().map(|block| block.hash).filter(|hash| !now.contains(hash));
        self.lost.extend(gone);
    }

    fn change(&mut self) {
        match self.rng.u8(0..10) {
            0..4 => self.sim.extend(self.rng.u64(1..4), LOGS_MAX),
            4..7 => {
                // Most reorgs are shallow, some are not.
                let deep = self.rng.u8(0..3) == 0;
                let depth = self.rng.u64(1..=if deep { DEPTH_MAX } else { 4 });
                let depth = depth.min(self.sim.head().number.saturating_sub(1));
                let old = self.sim.reorg(depth, depth + self.rng.u64(1..3), LOGS_MAX);
                self.left.push(old);
            }
            7 => {
                // The same branch again, one block longer, so that it is the one to follow.
                let Some(old) = self.left.pop() else { return };
                let now = self.sim.head();
                self.sim.switch_to(old);
                let behind = now.number.saturating_sub(self.sim.head().number);
                self.sim.extend(behind + 1, LOGS_MAX);
                self.left.push(now.hash);
            }
            8 => {
                let calm = self.rng.bool();
                let next = if calm { Vec::new() } else { behaviours(&mut self.rng) };
                self.faulty.iter().for_each(|fake| fake.set(next.clone()));
            }
            _ => self.cut_off(),
        }
    }

    /// The good upstream goes away, or comes back; the other one stands still meanwhile, somewhere.
    fn cut_off(&mut self) {
        let Some(good) = &self.good else { return };
        let height = self.rng.u64(0..=self.sim.head().number);
        let away = self.rng.u8(0..3) > 0;
        let frozen = [Behaviour::FrozenHead { height }];
        good.set(if away { vec![Behaviour::status(503)] } else { Vec::new() });
        self.faulty
            .iter()
            .for_each(|fake| fake.set(if away { frozen.to_vec() } else { Vec::new() }));
    }

    /// Grows until everything of the random part is confirmed, and faults end.
    pub(crate) fn calm(&mut self) {
        self.faulty.iter().chain(&self.good).for_each(|fake| fake.set(Vec::new()));
        self.sim.extend(5, 0);
    }
}

/// What a faulty upstream does, for a share of its requests.
fn behaviours(rng: &mut fastrand::Rng) -> Vec<Behaviour> {
    let logs: &'static [&'static str] = &["eth_getLogs"];
    let all = [
        Behaviour::MissingLogs,
        Behaviour::WrongBlockHash,
        Behaviour::status(503),
        Behaviour::ErrorInside200,
        Behaviour::NullResults,
        Behaviour::Lag { blocks: 3 },
        Behaviour::NotJson,
        Behaviour::NullResults.only(logs),
        Behaviour::LogsOfAnotherBlock,
        Behaviour::FlippedDigit { field: "logsBloom" },
        Behaviour::NullResults.only(&["eth_getBlockReceipts"]),
        Behaviour::FlippedReceipt { field: "logs.0.data" },
        Behaviour::FlippedReceipt { field: "status" },
        Behaviour::FlippedDigit { field: "transactions.0.value" },
    ];
    let count = rng.usize(1..3);
    (0..count).map(|_| all[rng.usize(..all.len())].clone().sometimes(0.3)).collect()
}

/// The rules of the test, by name.
fn rules(chain: &str, channel: &str) -> Vec<Value> {
    let transfer = "event Transfer(address indexed from, address indexed to, uint256 value)";
    let watch = json!({"kind": "event", "event": transfer});
    let of_one_token = json!({
        "kind": "event", "event": transfer,
        "addresses": ["0x1010101010101010101010101010101010101010"],
    });
    vec![
        json!({"name": "large", "chain": chain, "watch": watch, "condition": "value > 950000",
            "confirmations": 0, "channels": [channel]}),
        json!({"name": "one token", "chain": chain, "watch": of_one_token,
            "condition": "value < 120000", "confirmations": 3, "channels": [channel]}),
        json!({"name": "many", "chain": chain, "watch": watch, "confirmations": 1,
            "window": {"kind": "count", "over": "1m", "condition": "count >= 9"},
            "channels": [channel]}),
    ]
}

/// A server that follows all chains with rules on each and one webhook channel. One that is not
/// tortured has good upstreams only, and tells nobody.
pub(crate) async fn server(worlds: &[World], receiver: &str, tortured: bool) -> TestApp {
    let mut builder = TestApp::builder(LOOKOUT)
        .config_extra("[webhooks]\nallow_http = true\nallow_private = [\"127.0.0.0/8\"]");
    for world in worlds {
        let urls = if tortured { world.urls() } else { vec![world.node.url().to_owned()] };
        builder = follow(builder, world, &urls);
    }
    let mut app = builder.roles("api").start().await.unwrap();
    let channel = json!({"name": "hook", "kind": "webhook", "url": receiver});
    let channel = created(app.post("/v1/channels", &channel).await);
    let channel = channel["channel"]["id"].as_str().unwrap().to_owned();
    for world in worlds {
        for rule in rules(&world.name, &channel) {
            created(app.post("/v1/rules", &rule).await);
        }
    }
    // From here on it follows; the rules were there before the first block.
    app.set_roles((!tortured).then_some("api,ingest,rules"));
    app.restart().await.unwrap();
    app
}

fn follow(builder: Builder, world: &World, urls: &[String]) -> Builder {
    let what = match world.mode {
        Mode::Whole => "follow = \"blocks\"",
        // Alone there is nobody to agree with.
        Mode::Quorum if urls.len() > 1 => "follow = \"logs\"\nfollow_quorum = 2",
        Mode::Quorum | Mode::Bloom => "follow = \"logs\"",
    };
    let extra = format!("{what}\nfollow_from = 0\nquorum = 1");
    builder.chain(&world.name, world.id, urls).chain_extra(&extra)
}

fn created(answer: Answer) -> Value {
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

/// All items of a list, page by page.
pub(crate) async fn all(app: &TestApp, path: &str) -> Vec<Value> {
    let mut items = Vec::new();
    let mut next = None::<String>;
    loop {
        let sign = if path.contains('?') { '&' } else { '?' };
        let cursor = next.map(|next| format!("&cursor={next}")).unwrap_or_default();
        let answer = app.get(&format!("{path}{sign}limit=1000{cursor}")).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let mut page = answer.json();
        items.append(page["items"].as_array_mut().unwrap());
        match page["next"].as_str() {
            Some(cursor) => next = Some(cursor.to_owned()),
            None => return items,
        }
    }
}

/// Waits until the condition holds.
pub(crate) async fn until<F: Future<Output = Result<(), String>>>(mut done: impl FnMut() -> F) {
    let mut reason = String::new();
    for _ in 0..LOOKS {
        match done().await {
            Ok(()) => return,
            Err(why) => reason = why,
        }
        tokio::time::sleep(LOOK).await;
    }
    panic!("not settled: {reason}");
}
