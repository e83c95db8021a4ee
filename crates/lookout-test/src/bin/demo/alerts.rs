//! The part of the tour that watches: decoded events, a chat, a rule, an alert and its retraction.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::{Buf, BytesMut};
use lookout_test::Token;
use lookout_test::anvil::hex;
use serde_json::{Value, json};

use crate::stage::{SHOP, Scene};
use crate::tour::{Tour, balance_path, same};

/// A stream tells of an alert as soon as it is committed.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// Blocks that the reorg replaces: the transfer's, and the one that confirmed it.
const REORG_DEPTH: u64 = 2;
/// What is shown of the events, of alerts in a list, and of alerts in the stream.
const JQ_EVENTS: &str = "jq -c '.items[] | [.blockNumber, .event.args]'";
const JQ_PENDING: &str = "jq -c '.items[] | [.state, .text]'";
const JQ_ALERTS: &str = "sed -un 's/^data: //p' | jq -c '[.state, .text]'";

/// A stream of alerts that is open.
struct Alerts {
    answer: reqwest::Response,
    read: BytesMut,
}

impl Tour<'_> {
    /// Everything from the events to the retraction.
    pub(crate) async fn watching(&mut self, scene: &Scene) -> Result<()> {
        self.events(scene).await.context("step `events`")?;
        let channel = self.channel().await.context("step `channel`")?;
        self.rule(scene, &channel).await.context("step `rule`")?;
        let mut alerts = self.stream().await.context("step `stream`")?;
        let message = self.alert(scene, &mut alerts).await.context("step `alert`")?;
        self.reorg(scene, &mut alerts, message).await.context("step `reorg`")
    }

    async fn events(&mut self, scene: &Scene) -> Result<()> {
        self.screen.step("The same transfers, decoded, from what Lookout keeps of the chain")?;
        let token = scene.token.address.to_lowercase();
        let path = "/v1/chains/anvil/events?abi=erc20&event=Transfer";
        let url = format!("{}{path}&address={token}&order=asc", self.stage.base);
        self.screen.command(&format!("curl -s '{url}' \\\n    | {JQ_EVENTS}"))?;
        let answer = self.fetch(&url).await?;
        ensure!(answer.status == 200, "{url} answered {}: {}", answer.status, answer.text);
        let answer = answer.json()?;
        let items = answer["items"].as_array().context("no items")?;
        for item in items {
            self.screen.answer(&json!([item["blockNumber"], item["event"]["args"]]).to_string())?;
        }
        let count = items.len();
        ensure!(count == scene.token_transfers, "{count} events, not {}", scene.token_transfers);
        let value = &items.last().context("no event")?["event"]["args"]["value"];
        same("the last transfer's value", value, &json!("34560000"))
    }

    /// Makes a channel and links it; gives its id.
    async fn channel(&mut self) -> Result<String> {
        self.screen.step("A Telegram channel for alerts, with a code that links a chat to it")?;
        self.screen.note("(This Telegram is a stand-in on this machine; nothing leaves it.)")?;
        let body = r#"{"name":"shop","kind":"telegram"}"#;
        let answer = self.post("/v1/channels", body).await?;
        let id = answer["channel"]["id"].as_str().context("no id")?.to_owned();
        same("the state", &answer["channel"]["state"], &json!("unlinked"))?;
        let command = answer["link"]["command"].as_str().context("no command")?;

        self.screen
            .step("Somebody sends the code to the bot. From now on this chat hears alerts")?;
        self.screen.said("you", command)?;
        self.stage.chat.say(command);
        let reply = self.stage.chat.next().await?;
        self.screen.said("bot", &reply.text)?;
        ensure!(reply.text.starts_with("Linked"), "the bot said {:?}", reply.text);
        Ok(id)
    }

    async fn rule(&mut self, scene: &Scene, channel: &str) -> Result<()> {
        self.screen.step("A rule: tell that chat of transfers above 100 LKD, one block later")?;
        let token = &scene.token.address;
        let body = format!(
            r#"{{"name": "Large transfers", "chain": "anvil",
     "watch": {{"kind": "event", "abi": "erc20", "event": "Transfer",
               "addresses": ["{token}"]}},
     "condition": "value > units(\"100\", 6)", "confirmations": 1,
     "template": "{{{{ value | units(6, LKD) | bold }}}} from {{{{ from | short }}}} to {{{{ to | short }}}} in block {{{{ block.number }}}}",
     "channels": ["{channel}"]}}"#
        );
        let answer = self.post("/v1/rules", &body).await?;
        same("the state", &answer["state"], &json!("active"))
    }

    /// Listens to alerts as a program would.
    async fn stream(&mut self) -> Result<Alerts> {
        self.screen.step("Programs listen, too: alerts as server-sent events")?;
        let url = format!("{}/v1/stream?topics=alerts", self.stage.base);
        self.screen.command(&format!("curl -sN '{url}' \\\n    | {JQ_ALERTS} &"))?;
        let answer =
            self.stage.http.get(&url).send().await.with_context(|| format!("GET {url}"))?;
        ensure!(answer.status() == 200, "{url} answered {}", answer.status());
        Ok(Alerts { answer, read: BytesMut::new() })
    }

    /// Makes the transfer that the rule is about; gives the number of its alert in the chat.
    async fn alert(&mut self, scene: &Scene, alerts: &mut Alerts) -> Result<i64> {
        self.screen.step("250 LKD move. Their block alone tells nobody: it may still vanish")?;
        let node = self.stage.anvil.url().to_owned();
        let from = self.stage.anvil.account(0);
        let data = Token::transfer_data(SHOP, 250_000_000)?;
        let token = &scene.token.address;
        let transaction = format!(r#"[{{"from":"{from}","to":"{token}","data":"{data}"}}]"#);
        let sent = self.call(&node, "eth_sendTransaction", transaction).await?;
        let receipt = self.stage.anvil.receipt(&sent["result"]).await?;
        let height = lookout_test::rpc::parse_quantity(&receipt["blockNumber"])?;
        self.stage.followed().await?;
        self.pending().await?;
        let early = self.stage.chat.arrived();
        ensure!(early.is_empty(), "an alert came unconfirmed: {early:?}");

        self.screen.step("The next block confirms it, and the alert is there")?;
        self.call(&node, "anvil_mine", json!([hex(1)])).await?;
        let alert = self.stage.chat.next().await?;
        self.screen.said("bot", &alert.text)?;
        let block = format!("in block {height}");
        let right = ["250", "LKD", &block].iter().all(|part| alert.text.contains(part));
        ensure!(right, "the alert of block {height} is {:?}", alert.text);
        self.told(alerts, "confirmed").await?;
        let balance = self.token_balance(scene).await?;
        same("the shop's balance", &balance, &json!("1484.56"))?;
        Ok(alert.id)
    }

    /// The alert is there already, and waits.
    async fn pending(&self) -> Result<()> {
        let url = format!("{}/v1/alerts?chain=anvil", self.stage.base);
        self.screen.command(&format!("curl -s '{url}' | {JQ_PENDING}"))?;
        let alerts = self.fetch(&url).await?.json()?;
        let alert = &alerts["items"][0];
        self.screen.answer(&json!([alert["state"], alert["text"]]).to_string())?;
        same("the state", &alert["state"], &json!("pending"))
    }

    async fn reorg(&mut self, scene: &Scene, alerts: &mut Alerts, message: i64) -> Result<()> {
        let (height, hash) = self.stage.followed().await?;
        self.screen
            .step("A reorganisation: the node drops both blocks, and the transfer with them")?;
        let node = self.stage.anvil.url().to_owned();
        self.call(&node, "anvil_reorg", json!([REORG_DEPTH, []])).await?;
        let retraction = self.stage.chat.next().await?;
        self.screen.said("bot", &format!("in reply to its alert:\n{}", retraction.text))?;
        let reply_to = retraction.reply_to;
        ensure!(reply_to == Some(message), "it answers {reply_to:?}, not message {message}");
        ensure!(retraction.text.starts_with("Retracted"), "it says {:?}", retraction.text);
        self.told(alerts, "retracted").await?;

        self.screen.step("Lookout is on the new branch, and nothing of the old one is answered")?;
        let (new_height, new_hash) = self.stage.followed().await?;
        ensure!(new_height == height, "the new head is at {new_height}, not {height}");
        ensure!(new_hash != hash, "the head is still {hash}");
        let after = self.get("/v1/chains/anvil/head", 200).await?;
        same("the head's hash", &after["data"]["latest"]["hash"], &json!(new_hash))?;
        let token = scene.token.address.to_lowercase();
        let balance = self.get(&format!("{}?asset={token}", balance_path()), 200).await?;
        same("the shop's balance", &balance["data"]["formatted"], &json!("1234.56"))?;
        let violations = self.stage.chat.violations();
        ensure!(violations.is_empty(), "Telegram's limits were broken: {violations:?}");
        Ok(())
    }

    /// The stream's next message, shown.
    async fn told(&mut self, alerts: &mut Alerts, state: &str) -> Result<()> {
        let told = tokio::time::timeout(TOLD_WITHIN, alerts.next()).await;
        let alert = told.with_context(|| format!("the stream did not tell of `{state}`"))??;
        self.screen.answer(&json!([alert["state"], alert["text"]]).to_string())?;
        same("the state in the stream", &alert["state"], &json!(state))
    }

    async fn token_balance(&self, scene: &Scene) -> Result<Value> {
        let token = scene.token.address.to_lowercase();
        let url = format!("{}{}?asset={token}", self.stage.base, balance_path());
        Ok(self.fetch(&url).await?.json()?["data"]["formatted"].clone())
    }
}

impl Alerts {
    /// The data of the next event.
    async fn next(&mut self) -> Result<Value> {
        loop {
            while let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(end);
                self.read.advance(1);
                if let Some(data) = line.strip_prefix(b"data: ") {
                    return serde_json::from_slice(data).context("an event's data is no JSON");
                }
            }
            let bytes = self.answer.chunk().await?.context("the stream ended")?;
            self.read.extend_from_slice(&bytes);
        }
    }
}
