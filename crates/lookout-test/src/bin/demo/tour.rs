//! The tour: each step says why, what to type, and what comes back, and checks it.

use std::fmt::Display;

use anyhow::{Context, Result, ensure};
use lookout_test::anvil::hex;
use serde_json::{Value, json};

use crate::answer;
use crate::screen::Screen;
use crate::stage::{SHOP, Scene, Stage};

/// What of `/metrics` a first look wants.
const METRICS: &str = "^lookout_(chain_head|chain_reorgs|rules_alerts|deliveries_total)";
const METRIC_PREFIXES: [&str; 4] = [
    "lookout_chain_head",
    "lookout_chain_reorgs",
    "lookout_rules_alerts",
    "lookout_deliveries_total",
];

/// One answer: its status and its body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.text).context("the answer is no JSON")
    }
}

/// All steps, in order; the first that is not as it should be ends it.
pub(crate) async fn run(stage: &Stage, scene: &Scene, screen: &mut Screen) -> Result<()> {
    screen.note(&format!("anvil   {}\nLookout {}", stage.anvil.url(), stage.base))?;
    let mut tour = Tour { stage, screen };
    tour.blocks().await.context("step `blocks`")?;
    tour.balances().await.context("step `balances`")?;
    tour.head().await.context("step `head`")?;
    tour.token(scene).await.context("step `token`")?;
    tour.proof().await.context("step `proof`")?;
    tour.logs(scene).await.context("step `logs`")?;
    tour.watching(scene).await?;
    tour.upstreams().await.context("step `upstreams`")?;
    tour.metrics().await.context("step `metrics`")?;
    tour.pages().await.context("step `pages`")
}

/// Under way.
pub(crate) struct Tour<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) screen: &'a mut Screen,
}

impl Tour<'_> {
    async fn blocks(&mut self) -> Result<()> {
        self.screen.step("The newest block number, as JSON-RPC clients read it")?;
        let height = self.stage.anvil.height().await?;
        let answer = self.get("/block/number", 200).await?;
        same("the block number", &answer["result"], &json!(hex(height)))?;

        self.screen.step("A block by its number, with its transactions")?;
        let block = self.stage.anvil.block(1).await?;
        let answer = self.get("/block/1", 200).await?;
        same("the block", &answer["result"], &block)
    }

    async fn balances(&mut self) -> Result<()> {
        self.screen.step("A balance, in ether and in wei, from a block that is named")?;
        let wei = self.stage.wei_of(SHOP).await?;
        let answer = self.get(&format!("/address/balance/{SHOP}"), 200).await?;
        same("the balance", &answer["balanceWei"], &json!(wei.to_string()))?;
        same("the address", &answer["address"], &json!(SHOP))?;

        self.screen.step("The same again: from the cache, until there is a new block")?;
        let answer = self.get(&format!("/address/balance/{SHOP}"), 200).await?;
        same("`cached`", &answer["cached"], &json!(true))?;

        self.screen.step("The same address without its checksum: refused, with the right form")?;
        let lowercase = SHOP.to_lowercase();
        let answer = self.get(&format!("/address/balance/{lowercase}"), 400).await?;
        let detail = answer["detail"].as_str().unwrap_or_default();
        ensure!(detail.contains(SHOP), "the problem does not give {SHOP}: {answer}");
        Ok(())
    }

    async fn head(&mut self) -> Result<()> {
        self.screen.step("The head of the chain, with what is safe and what is final")?;
        let (height, hash) = self.stage.followed().await?;
        let answer = self.get("/v1/chains/anvil/head", 200).await?;
        let latest = json!({"number": height, "hash": hash});
        same("the head", &answer["data"]["latest"], &latest)
    }

    async fn token(&mut self, scene: &Scene) -> Result<()> {
        self.screen.step("A token balance (ERC-20)")?;
        let token = scene.token.address.to_lowercase();
        let answer = self.get(&format!("{}?asset={token}", balance_path()), 200).await?;
        same("the amount", &answer["data"]["amount"], &json!(scene.token_units.to_string()))?;
        same("the amount with its point", &answer["data"]["formatted"], &json!("1234.56"))
    }

    async fn proof(&mut self) -> Result<()> {
        self.screen
            .step("A balance that no node can lie about: proved against the block's header")?;
        let wei = self.stage.wei_of(SHOP).await?;
        let answer = self.get(&format!("{}?verify=proof", balance_path()), 200).await?;
        same("the amount", &answer["data"]["amount"], &json!(wei.to_string()))?;
        same("the level", &answer["verification"]["level"], &json!("proof"))
    }

    async fn logs(&mut self, scene: &Scene) -> Result<()> {
        self.screen.step("JSON-RPC, for ethers, viem and web3.py: the token's transfers")?;
        let filter = json!({"address": scene.token.address, "fromBlock": "0x0"});
        let url = format!("{}/v1/rpc/anvil", self.stage.base);
        let answer = self.call(&url, "eth_getLogs", json!([filter])).await?;
        let logs = answer["result"].as_array().context("no logs")?.len();
        ensure!(logs == scene.token_transfers, "{logs} logs, not {}", scene.token_transfers);
        Ok(())
    }

    async fn upstreams(&mut self) -> Result<()> {
        self.screen.step("How the nodes behind it are doing")?;
        let answer = self.get("/v1/chains/anvil/upstreams", 200).await?;
        same("the state", &answer["items"][0]["state"], &json!("healthy"))?;
        same("the failures", &answer["items"][0]["failures"], &json!(0))
    }

    async fn metrics(&mut self) -> Result<()> {
        self.screen.step("Metrics for Prometheus")?;
        let url = format!("{}/metrics", self.stage.base);
        self.screen.command(&format!("curl -s {url} | grep -E '{METRICS}'"))?;
        let answer = self.fetch(&url).await?;
        ensure!(answer.status == 200, "{url} answered {}", answer.status);
        let wanted = |line: &&str| METRIC_PREFIXES.iter().any(|prefix| line.starts_with(prefix));
        let mut lines: Vec<&str> = answer.text.lines().filter(wanted).collect();
        lines.sort_unstable();
        self.screen.answer(&lines.join("\n"))?;
        for wanted in [
            "lookout_chain_reorgs_total{chain=\"anvil\"} 1",
            "lookout_deliveries_total{kind=\"telegram\",outcome=\"sent\"} 2",
        ] {
            ensure!(lines.contains(&wanted), "the metrics do not say `{wanted}`");
        }
        Ok(())
    }

    async fn pages(&mut self) -> Result<()> {
        self.screen.step("For the browser")?;
        for (path, what) in [
            ("/", "dashboard"),
            ("/docs/", "the API, to try out"),
            ("/openapi.json", "the same for programs"),
        ] {
            let url = format!("{}{path}", self.stage.base);
            let answer = self.fetch(&url).await?;
            ensure!(answer.status == 200, "{url} answered {}", answer.status);
            self.screen.answer(&format!("{url:<36} {what}"))?;
        }
        Ok(())
    }

    /// A GET, shown with its answer; anything but the expected status is a failure.
    pub(crate) async fn get(&self, path: &str, expected: u16) -> Result<Value> {
        let url = format!("{}{path}", self.stage.base);
        // A shell would take `?` for a pattern and `&` for a command of its own.
        let shown = if path.contains(['?', '&']) { format!("'{url}'") } else { url.clone() };
        self.screen.command(&format!("curl -s {shown}"))?;
        let answer = self.fetch(&url).await?;
        if answer.status != 200 {
            self.screen.status(&format!("HTTP {}", answer.status))?;
        }
        let pretty = answer::pretty(&answer.text);
        self.screen.answer(pretty.as_deref().unwrap_or(&answer.text))?;
        ensure!(answer.status == expected, "{url} answered {}, not {expected}", answer.status);
        answer.json()
    }

    /// A POST of JSON that makes something, shown with its answer.
    pub(crate) async fn post(&self, path: &str, body: &str) -> Result<Value> {
        let url = format!("{}{path}", self.stage.base);
        self.screen.command(&format!("curl -s {url} \\\n    -d '{body}'"))?;
        // What curl says when it is told nothing else.
        let form = "application/x-www-form-urlencoded";
        let request = self.stage.http.post(&url).header("content-type", form);
        let answer = request.body(body.to_owned()).send().await;
        let answer = answer.with_context(|| format!("POST {url}"))?;
        let (status, text) = (answer.status().as_u16(), answer.text().await?);
        self.screen.answer(answer::pretty(&text).as_deref().unwrap_or(&text))?;
        ensure!(status == 201, "POST {url} answered {status}");
        Answer { status, text }.json()
    }

    /// A JSON-RPC call, shown with its answer.
    pub(crate) async fn call(
        &self,
        url: &str,
        method: &str,
        params: impl Display,
    ) -> Result<Value> {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        self.screen.command(&format!(
            "curl -s {url} -H 'content-type: application/json' \\\n    -d '{body}'"
        ))?;
        let request = self.stage.http.post(url).header("content-type", "application/json");
        let answer = request.body(body).send().await.with_context(|| format!("POST {url}"))?;
        let (status, text) = (answer.status().as_u16(), answer.text().await?);
        self.screen.answer(answer::pretty(&text).as_deref().unwrap_or(&text))?;
        let answer = Answer { status, text }.json()?;
        ensure!(status == 200 && answer.get("error").is_none(), "{method} failed: {answer}");
        Ok(answer)
    }

    pub(crate) async fn fetch(&self, url: &str) -> Result<Answer> {
        let answer = self.stage.http.get(url).send().await.with_context(|| format!("GET {url}"))?;
        Ok(Answer { status: answer.status().as_u16(), text: answer.text().await? })
    }
}

/// The newer route takes addresses in lowercase, too.
pub(crate) fn balance_path() -> String {
    format!("/v1/chains/anvil/addresses/{}/balance", SHOP.to_lowercase())
}

pub(crate) fn same(what: &str, answered: &Value, expected: &Value) -> Result<()> {
    ensure!(answered == expected, "{what} is {answered}, not {expected}");
    Ok(())
}
