//! What the tests of watching share: a simulated chain, a server that follows it, receivers.

use std::sync::Arc;
use std::time::Duration;

use lookout_test::app::{Answer, Builder};
use lookout_test::sim::SimLog;
use lookout_test::{Receiver, SimChain, SimNode, TelegramServer, TestApp};
use lookout_types::SystemClock;
use serde_json::{Value, json};

use crate::LOOKOUT;

/// The simulated chain's name.
pub(crate) const SIM: &str = "sim";
/// Its id.
pub(crate) const SIM_ID: u64 = 4242;
/// The event that simulated logs are.
pub(crate) const TRANSFER: &str =
    "event Transfer(address indexed from, address indexed to, uint256 value)";
/// The token of the stand-in's bot.
pub(crate) const BOT: &str = "123456:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0";
/// Longest that anything may take: a lease of a killed server is 45 seconds, a machine may be slow.
const SETTLED_WITHIN: Duration = Duration::from_secs(100);
/// Between two looks at something that is to come.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A chain and its node.
pub(crate) struct Scene {
    pub(crate) chain: Arc<SimChain>,
    pub(crate) node: SimNode,
}

impl Scene {
    /// A chain of so many blocks.
    pub(crate) async fn new(seed: u64, blocks: u64, logs_max: usize) -> Self {
        let chain = SimChain::new(SIM_ID, seed);
        chain.extend(blocks, logs_max);
        let node = SimNode::start(chain.clone()).await.unwrap();
        Self { chain, node }
    }

    /// A server that follows it from block 0, not started yet.
    pub(crate) fn server(&self) -> Builder {
        follow(&[self.node.url()])
    }

    /// Waits until everything of the served branch is stored and checked by the rules.
    pub(crate) async fn settled(&self, app: &TestApp) {
        let head = hex(&self.chain.head().hash);
        until("everything is followed", async || {
            let answer = app.get(&format!("/v1/chains/{SIM}/follow")).await;
            let follow = answer.json();
            let consumers = follow["consumers"].as_array().cloned().unwrap_or_default();
            let there = consumers.len() == 2
                && follow["bus"]["head"]["hash"] == head.as_str()
                && consumers.iter().all(|c| c["head"]["hash"] == head.as_str() && c["lag"] == 0);
            there.then_some(())
        })
        .await;
    }
}

/// A server that follows the chain from these upstreams, not started yet.
pub(crate) fn follow<U: AsRef<str>>(urls: &[U]) -> Builder {
    TestApp::builder(LOOKOUT)
        .chain(SIM, SIM_ID, urls)
        .chain_extra("follow = \"logs\"\nfollow_from = 0")
        .config_extra("[webhooks]\nallow_http = true\nallow_private = [\"127.0.0.0/8\"]")
        .config_extra("[limits]\nrequests_per_second_per_address = 0")
}

/// A stand-in for Telegram with a bot, a private chat (1) and a group (-1).
pub(crate) async fn telegram() -> TelegramServer {
    let telegram = TelegramServer::start(Arc::new(SystemClock)).await.unwrap();
    telegram.add_bot(BOT, "LookoutBot");
    telegram.add_chat(1, "private", "Ada");
    telegram.add_chat(-1, "group", "ops");
    telegram
}

/// The section that names the stand-in.
pub(crate) fn telegram_section(telegram: &TelegramServer) -> String {
    format!("[telegram]\ntoken = \"{BOT}\"\napi_url = \"{}\"", telegram.url())
}

/// A webhook channel to the receiver; its id.
pub(crate) async fn webhook(app: &TestApp, receiver: &Receiver) -> String {
    let body = json!({"kind": "webhook", "name": "hook", "url": receiver.url("/hook")});
    let made = created(&app.post("/v1/channels", &body).await);
    made["channel"]["id"].as_str().unwrap().to_owned()
}

/// A Telegram channel, linked to the chat by the code; its id.
pub(crate) async fn linked(app: &TestApp, telegram: &TelegramServer, chat: i64) -> String {
    let before = telegram.journal().len();
    let body = json!({"kind": "telegram", "name": "chat"});
    let made = created(&app.post("/v1/channels", &body).await);
    let id = made["channel"]["id"].as_str().unwrap().to_owned();
    telegram.say(BOT, chat, 9, made["link"]["command"].as_str().unwrap());
    until("the chat is linked and greeted", async || {
        let channel = app.get(&format!("/v1/channels/{id}")).await.json();
        (channel["state"] == "active" && telegram.journal().len() > before).then_some(())
    })
    .await;
    id
}

/// Saves a rule; its id.
pub(crate) async fn rule(app: &TestApp, rule: &Value) -> String {
    let made = created(&app.post("/v1/rules", rule).await);
    made["id"].as_str().unwrap().to_owned()
}

/// What a 201 holds.
pub(crate) fn created(answer: &Answer) -> Value {
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

/// Looks again until there is something, and gives it.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(SETTLED_WITHIN, looking).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// A transfer of this amount.
pub(crate) fn transfer(amount: u64) -> SimLog {
    SimLog {
        token: [0x10; 20],
        from: [0xa0; 20],
        to: [0xa1; 20],
        amount,
        note: None,
        raw_topics: None,
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}

/// Runs a job now; what the run tells.
pub(crate) async fn run_job(app: &TestApp, job: &str) -> Value {
    let answer = app.post(&format!("/v1/jobs/{job}/runs"), &json!({})).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    until("the run ends", async || {
        let run = app.get(&format!("/v1/jobs/{job}/runs/{id}")).await.json();
        assert_ne!(run["state"], "failed", "{run}");
        (run["state"] == "done").then(|| run["result"].clone())
    })
    .await
}
