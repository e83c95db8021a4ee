//! The steps of the tour: each a command and its real answer.

use anyhow::{Result, ensure};
use lookout_test::{Anvil, TestApp};
use serde_json::{Value, json};

use crate::CHAIN;
use crate::activity::Scene;
use crate::show;

/// Lines of `/metrics` that the tour shows.
const METRIC_LINES_MAX: usize = 8;

/// Walks through all of it; an answer that is not as expected ends the tour.
pub(crate) async fn run(app: &TestApp, node: &Anvil, scene: &Scene) -> Result<()> {
    let head = node.block(node.height().await?).await?;
    app.wait_head(CHAIN, head["hash"].as_str().unwrap_or_default()).await?;
    let mut guide = Guide { app, step: 0 };
    compatible(&mut guide, scene).await?;
    versioned(&mut guide, scene).await?;
    operation(&mut guide).await
}

async fn compatible(guide: &mut Guide<'_>, scene: &Scene) -> Result<()> {
    let receiver = scene.receiver;
    guide.get("The newest block number", "/block/number", 200).await?;
    guide.get("A block, as its node wrote it", "/block/1", 200).await?;
    guide
        .get("A balance, in ether and in wei", &format!("/address/balance/{receiver}"), 200)
        .await?;
    let wrong = receiver.replacen("C51812dc", "c51812DC", 1);
    guide
        .get("A typing error is caught by its checksum", &format!("/address/balance/{wrong}"), 400)
        .await
}

async fn versioned(guide: &mut Guide<'_>, scene: &Scene) -> Result<()> {
    let balance = format!("/v1/chains/{CHAIN}/addresses/{}/balance", scene.receiver);
    let token = &scene.token.address;
    let head = format!("/v1/chains/{CHAIN}/head");
    guide.get("The head that the upstreams agree on", &head, 200).await?;
    guide.get("The balance of an ERC-20", &format!("{balance}?asset={token}"), 200).await?;
    let proved = format!("{balance}?verify=proof");
    guide.get("A balance proved against the block's state root", &proved, 200).await?;
    let logs = json!({
        "jsonrpc": "2.0", "id": 1, "method": "eth_getLogs",
        "params": [{"address": token, "fromBlock": "0x0", "toBlock": "latest"}],
    });
    guide.post("JSON-RPC, for ethers, viem and web3.py", &format!("/v1/rpc/{CHAIN}"), &logs).await
}

async fn operation(guide: &mut Guide<'_>) -> Result<()> {
    let upstreams = format!("/v1/chains/{CHAIN}/upstreams");
    guide.get("The health of the upstreams", &upstreams, 200).await?;
    guide.metrics("Metrics for Prometheus").await
}

struct Guide<'a> {
    app: &'a TestApp,
    step: usize,
}

impl Guide<'_> {
    async fn get(&mut self, title: &str, path: &str, status: u16) -> Result<()> {
        self.announce(title);
        let url = self.app.url(path);
        let quoted = if url.contains('?') { format!("'{url}'") } else { url };
        show::command(&format!("curl {quoted}"));
        let answer = self.app.get(path).await;
        show::answer(&answer.text());
        ensure!(answer.status == status, "{path} answered {}, not {status}", answer.status);
        Ok(())
    }

    async fn post(&mut self, title: &str, path: &str, body: &Value) -> Result<()> {
        self.announce(title);
        let url = self.app.url(path);
        show::command(&format!("curl {url} -H 'content-type: application/json' -d '{body}'"));
        let answer = self.app.post(path, body).await;
        show::answer(&answer.text());
        ensure!(answer.status == 200, "{path} answered {}", answer.status);
        ensure!(answer.json().get("error").is_none(), "{path} answered an error");
        Ok(())
    }

    async fn metrics(&mut self, title: &str) -> Result<()> {
        self.announce(title);
        show::command(&format!("curl -s {} | grep ^lookout_", self.app.url("/metrics")));
        let answer = self.app.get("/metrics").await;
        let text = answer.text();
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("lookout_") && !line.contains("_bucket"))
            .collect();
        ensure!(!lines.is_empty(), "/metrics holds nothing of ours: {text}");
        show::answer(&lines[..lines.len().min(METRIC_LINES_MAX)].join("\n"));
        Ok(())
    }

    fn announce(&mut self, title: &str) {
        self.step += 1;
        show::heading(self.step, title);
    }
}
