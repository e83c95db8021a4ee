//! What the tour is about: a node, Lookout on it, and something that happened.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use lookout_test::process::Process;
use lookout_test::rpc::{http_client, parse_quantity};
use lookout_test::{Anvil, Token};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::chat::{Chat, TOKEN};

/// Where the README says that Lookout is.
const PORT: u16 = 8000;
/// Lookout listens within a second; a first start on a busy machine takes longer.
const START_WITHIN: Duration = Duration::from_secs(30);
/// `serve` waits up to 8 seconds for requests under way.
const END_WITHIN: Duration = Duration::from_secs(12);
/// A new head is seen within one poll; beyond this Lookout is not following.
const FOLLOW_WITHIN: Duration = Duration::from_secs(20);
const FOLLOW_EVERY: Duration = Duration::from_millis(50);
/// Those who read the frames of a chain: the warehouse and the rules.
const CONSUMERS: usize = 2;

/// Who receives things in the tour, in EIP-55 form. Nobody's account on a fresh node.
pub(crate) const SHOP: &str = "0xc94770007dda54cF92009BFF0dE90c06F603a09f";
/// Units of the token that the blocks after the tour move, by turns; the largest are alerted.
const LATER_UNITS: [u64; 3] = [40_000_000, 250_000_000, 75_000_000];

/// The running parts.
pub(crate) struct Stage {
    pub(crate) anvil: Anvil,
    pub(crate) chat: Chat,
    pub(crate) base: String,
    pub(crate) http: reqwest::Client,
    lookout: Process,
    /// Lookout's working folder, with its configuration and its store; goes with this value.
    _folder: TempDir,
}

/// What has happened on the chain, to compare answers with.
pub(crate) struct Scene {
    pub(crate) token: Token,
    /// What the shop holds of the token, in its smallest unit.
    pub(crate) token_units: u64,
    /// Transfers of the token, the first issue included.
    pub(crate) token_transfers: usize,
}

impl Stage {
    /// Starts the node and Lookout on it, with the defaults of everything but the chain.
    pub(crate) async fn start(lookout: &Path, port: Option<u16>) -> Result<Self> {
        let anvil = Anvil::builder().start().await?;
        let chat = Chat::start().await?;
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let config = format!(
            "[chains.anvil]\nid = {}\nupstreams = [{{ name = \"anvil\", url = \"{}\" }}]\n\
             poll_interval_ms = 200\nfollow = \"blocks\"\nfollow_from = 0\n\n\
             [telegram]\ntoken = \"{TOKEN}\"\napi_url = \"{}\"\n",
            anvil.chain_id(),
            anvil.url(),
            chat.url()
        );
        std::fs::write(folder.path().join("lookout.toml"), config)?;
        let port = port.unwrap_or_else(preferred_port);
        let mut command = Command::new(lookout);
        command
            .args(["serve", "--listen", &format!("127.0.0.1:{port}")])
            .current_dir(folder.path())
            // Configuration of the person's own Lookout is not for this one.
            .env_clear();
        let lookout = Process::spawn("lookout", command)?;
        let base = lookout.line(START_WITHIN, |line| {
            let (_, rest) = line.split_once("listening on ")?;
            Some(rest.split_whitespace().next()?.to_owned())
        });
        let base = base.await?;
        Ok(Self { anvil, chat, base, http: http_client(), lookout, _folder: folder })
    }

    /// Makes things happen: coins, a token, blocks.
    pub(crate) async fn prepare(&self) -> Result<Scene> {
        let anvil = &self.anvil;
        // 1.5 ether in block 1, which the tour looks at.
        anvil.transfer(0, SHOP, "0x14d1120d7b160000").await?;
        anvil.mine(5).await?;
        let token = anvil.deploy_demo_token().await?;
        token.transfer(anvil, 0, SHOP, 1_200_000_000).await?;
        token.transfer(anvil, 0, anvil.account(1), 50_000_000).await?;
        token.transfer(anvil, 1, SHOP, 34_560_000).await?;
        anvil.mine(3).await?;
        self.followed().await?;
        Ok(Scene { token, token_units: 1_234_560_000, token_transfers: 4 })
    }

    /// Waits until Lookout's head is the node's, and all that is computed from blocks is there; gives
    /// its height and hash.
    pub(crate) async fn followed(&self) -> Result<(u64, String)> {
        let height = self.anvil.height().await?;
        let block = self.anvil.block(height).await?;
        let hash = block["hash"].as_str().context("a block has a hash")?.to_owned();
        let wait = async {
            loop {
                let head = self.get_json("/v1/chains/anvil/head").await?;
                let follow = self.get_json("/v1/chains/anvil/follow").await?;
                let consumers = follow["consumers"].as_array().context("no consumers")?;
                let read = consumers.iter().filter(|one| one["head"]["hash"] == hash.as_str());
                if head["data"]["latest"]["hash"] == hash.as_str() && read.count() == CONSUMERS {
                    return Ok::<_, anyhow::Error>(());
                }
                tokio::time::sleep(FOLLOW_EVERY).await;
            }
        };
        let late = |_| anyhow!("lookout is not at the node's block {height} ({hash}) yet");
        tokio::time::timeout(FOLLOW_WITHIN, wait).await.map_err(late)??;
        Ok((height, hash))
    }

    /// One more block with a transfer; says so in a line, once Lookout has it.
    pub(crate) async fn next_block(&self, scene: &Scene, count: usize) -> Result<String> {
        let units = LATER_UNITS[count % LATER_UNITS.len()];
        let receipt = scene.token.transfer(&self.anvil, 0, SHOP, units).await?;
        let height = parse_quantity(&receipt["blockNumber"])?;
        let (head, hash) = self.followed().await?;
        ensure!(head >= height, "the head {head} is below the transfer's block {height}");
        let token = scene.token.address.to_lowercase();
        let path = format!("/v1/chains/anvil/addresses/{}/balance", SHOP.to_lowercase());
        let balance = self.get_json(&format!("{path}?asset={token}")).await?;
        let balance = balance["data"]["formatted"].as_str().context("no balance in the answer")?;
        let hash = hash.get(..14).unwrap_or(&hash);
        let lkd = units / 1_000_000;
        Ok(format!("block {head}  {hash}…  {lkd} LKD to {SHOP}, which now has {balance}"))
    }

    /// What the node says that an address has, in wei.
    pub(crate) async fn wei_of(&self, address: &str) -> Result<u128> {
        let answer = self.anvil.rpc("eth_getBalance", json!([address, "latest"])).await?;
        let digits = answer.as_str().and_then(|text| text.strip_prefix("0x"));
        let digits = digits.with_context(|| format!("eth_getBalance answered {answer}"))?;
        Ok(u128::from_str_radix(digits, 16)?)
    }

    /// Lookout, then the node: asked to end, and waited for.
    pub(crate) async fn end(mut self) -> Result<()> {
        if self.lookout.is_running()? {
            self.lookout.signal("TERM").await?;
            let status = self.lookout.wait(END_WITHIN).await?;
            ensure!(status.success(), "lookout ended with {status}; {}", self.lookout.tail());
        } else {
            return Err(anyhow!("lookout ended by itself; {}", self.lookout.tail()));
        }
        self.anvil.kill().await
    }

    async fn get_json(&self, path: &str) -> Result<Value> {
        let url = format!("{}{path}", self.base);
        let answer = self.http.get(&url).send().await.with_context(|| format!("GET {url}"))?;
        let (status, bytes) = (answer.status(), answer.bytes().await?);
        ensure!(status == 200, "GET {url} answered {status}: {}", String::from_utf8_lossy(&bytes));
        serde_json::from_slice(&bytes).with_context(|| format!("GET {url} answered no JSON"))
    }
}

/// The port that people expect, or any free one.
fn preferred_port() -> u16 {
    if TcpListener::bind(("127.0.0.1", PORT)).is_ok() { PORT } else { 0 }
}
