//! The real anvil node on a free port.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::part;
use crate::process::Process;
use crate::rpc::Rpc;
use crate::token::Token;

/// Names the anvil binary to use, before the PATH and the fetched one.
pub const BINARY: &str = "LOOKOUT_TEST_ANVIL";
/// anvil's chain id unless told otherwise.
pub const CHAIN_ID: u64 = 31_337;
/// anvil answers within a second even on a busy machine; beyond this it hangs.
const START_WITHIN: Duration = Duration::from_secs(30);
/// Block times in tests are at most seconds.
const MINED_WITHIN: Duration = Duration::from_secs(30);
/// Private keys of anvil's first accounts: public knowledge, worthless anywhere else.
pub const DEV_KEYS: [&str; 3] = [
    "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
    "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
    "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
];

/// Addresses of those keys in their EIP-55 form.
pub const DEV_ADDRESSES: [&str; 3] = [
    "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
    "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
];

/// A running anvil; it ends with this value.
pub struct Anvil {
    process: Process,
    rpc: Rpc,
    chain_id: u64,
    port: u16,
    accounts: Vec<String>,
}

/// Options of an anvil to start.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    chain_id: Option<u64>,
    arguments: Vec<String>,
}

impl Builder {
    /// Answers this chain id.
    #[must_use]
    pub fn chain_id(mut self, id: u64) -> Self {
        self.chain_id = Some(id);
        self.argument("--chain-id", id)
    }

    /// Mines a block at this interval instead of one for each transaction.
    #[must_use]
    pub fn block_time_seconds(self, seconds: u64) -> Self {
        self.argument("--block-time", seconds)
    }

    /// Mines only when asked to.
    #[must_use]
    pub fn no_mining(mut self) -> Self {
        self.arguments.push("--no-mining".into());
        self
    }

    /// Has this many funded accounts (10 unless told).
    #[must_use]
    pub fn accounts(self, count: u16) -> Self {
        self.argument("--accounts", count)
    }

    /// Follows the rules of this hardfork, for example `london`.
    #[must_use]
    pub fn hardfork(self, name: &str) -> Self {
        self.argument("--hardfork", name)
    }

    /// Listens on this port instead of a free one; only for people, never for tests.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        self.argument("--port", port)
    }

    /// Passes any other option.
    #[must_use]
    pub fn argument(mut self, name: &str, value: impl ToString) -> Self {
        self.arguments.extend([name.to_owned(), value.to_string()]);
        self
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// When there is no anvil or it does not come up.
    pub async fn start(self) -> Result<Anvil> {
        let binary = binary()?;
        let mut command = Command::new(&binary);
        if !self.arguments.iter().any(|argument| argument == "--port") {
            command.args(["--port", "0"]);
        }
        // One runtime thread each: many anvils share the test machine.
        command.args(["--threads", "1"]).args(&self.arguments);
        let process = Process::spawn("anvil", command)
            .with_context(|| format!("is {} anvil?", binary.display()))?;
        let port = process
            .line(START_WITHIN, |line| {
                line.strip_prefix("Listening on ")?.rsplit_once(':')?.1.trim().parse::<u16>().ok()
            })
            .await?;
        let rpc = Rpc::new(format!("http://127.0.0.1:{port}"));
        let accounts = rpc.call("eth_accounts", json!([])).await?;
        let accounts = serde_json::from_value(accounts).context("eth_accounts")?;
        let chain_id = self.chain_id.unwrap_or(CHAIN_ID);
        Ok(Anvil { process, rpc, chain_id, port, accounts })
    }
}

impl Anvil {
    /// Options for a new one.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A default anvil, or `None` after a loud skip; see [`part::require`].
    ///
    /// # Panics
    /// When there is an anvil that does not start, or none where all parts are required.
    pub async fn for_test() -> Option<Self> {
        Self::builder().for_test().await
    }

    /// The chain id it answers.
    pub fn chain_id(&self) -> u64 {
        self.chain_id
    }

    /// Its HTTP endpoint.
    pub fn url(&self) -> &str {
        self.rpc.url()
    }

    /// Its websocket endpoint.
    pub fn ws_url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// Its JSON-RPC.
    pub fn client(&self) -> &Rpc {
        &self.rpc
    }

    /// One of its funded, unlocked accounts.
    ///
    /// # Panics
    /// When it has fewer accounts.
    pub fn account(&self, index: usize) -> &str {
        self.accounts.get(index).unwrap_or_else(|| panic!("anvil has no account {index}"))
    }

    /// One call that is expected to work.
    ///
    /// # Errors
    /// When there is no answer, or an error.
    pub async fn rpc(&self, method: &str, params: Value) -> Result<Value> {
        self.rpc.call(method, params).await
    }

    /// The height of its head.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn height(&self) -> Result<u64> {
        self.rpc.number("eth_blockNumber", json!([])).await
    }

    /// The block at a height, with its transactions as objects.
    ///
    /// # Errors
    /// When it does not answer or has no such block.
    pub async fn block(&self, height: u64) -> Result<Value> {
        let block = self.rpc("eth_getBlockByNumber", json!([hex(height), true])).await?;
        ensure!(block.is_object(), "anvil has no block {height}");
        Ok(block)
    }

    /// Mines this many blocks.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn mine(&self, count: u64) -> Result<()> {
        self.rpc("anvil_mine", json!([hex(count)])).await.map(drop)
    }

    /// Replaces the last `depth` blocks by as many others, with these transactions in the first
    /// ones: pairs of a raw or request transaction and the index of its new block.
    ///
    /// # Errors
    /// When it does not answer or the chain is shorter.
    pub async fn reorg_with(&self, depth: u64, transactions: &[(Value, u64)]) -> Result<()> {
        let pairs: Vec<Value> = transactions.iter().map(|(tx, at)| json!([tx, at])).collect();
        self.rpc("anvil_reorg", json!([depth, pairs])).await.map(drop)
    }

    /// Replaces the last `depth` blocks by as many empty ones.
    ///
    /// # Errors
    /// When it does not answer or the chain is shorter.
    pub async fn reorg(&self, depth: u64) -> Result<()> {
        self.reorg_with(depth, &[]).await
    }

    /// Sets an address's balance, in wei as 0x-number of any size, from the next block on.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn set_balance(&self, address: &str, wei: &str) -> Result<()> {
        self.rpc("anvil_setBalance", json!([address, wei])).await.map(drop)
    }

    /// Sends wei between its own accounts and gives the receipt.
    ///
    /// # Errors
    /// When it does not answer or refuses.
    pub async fn transfer(&self, from: usize, to: &str, wei: &str) -> Result<Value> {
        let transaction = json!({"from": self.account(from), "to": to, "value": wei});
        self.send(transaction).await
    }

    /// Sends a transaction of one of its accounts and gives the receipt.
    ///
    /// # Errors
    /// When it does not answer, refuses, or does not mine it.
    pub async fn send(&self, transaction: Value) -> Result<Value> {
        let hash = self.rpc("eth_sendTransaction", json!([transaction])).await?;
        self.receipt(&hash).await
    }

    /// Waits for a transaction's receipt; anvil mines a moment after it has taken one.
    ///
    /// # Errors
    /// When it does not answer or does not mine the transaction in time.
    pub async fn receipt(&self, hash: &Value) -> Result<Value> {
        let mined = async {
            loop {
                let receipt = self.rpc("eth_getTransactionReceipt", json!([hash])).await?;
                if receipt.is_object() {
                    return Ok(receipt);
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let within = tokio::time::timeout(MINED_WITHIN, mined).await;
        within.with_context(|| format!("transaction {hash} is not mined"))?
    }

    /// Deploys the demo ERC-20; account 0 gets the whole supply, a thousand million tokens.
    ///
    /// # Errors
    /// When the deployment fails.
    pub async fn deploy_demo_token(&self) -> Result<Token> {
        Token::deploy(self).await
    }

    /// Kills it, as a power cut would.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }
}

impl Builder {
    /// Starts it for a test, or gives `None` after a loud skip; see [`part::require`].
    ///
    /// # Panics
    /// When there is an anvil that does not start, or none where all parts are required.
    pub async fn for_test(self) -> Option<Anvil> {
        part::require("anvil", binary())?;
        Some(self.start().await.expect("anvil is there and starts"))
    }
}

/// The anvil binary: named by the environment, on the PATH, or fetched by `dev/get-anvil`.
///
/// # Errors
/// When there is none.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = part::environment(BINARY) {
        let path = PathBuf::from(path);
        ensure!(path.is_file(), "{BINARY} names {}, which is no file", path.display());
        return Ok(path);
    }
    if let Ok(path) = part::on_path("anvil") {
        return Ok(path);
    }
    let packages = part::tool("anvil/node_modules/@foundry-rs", "dev/get-anvil")?;
    std::fs::read_dir(packages)?
        .filter_map(|entry| Some(entry.ok()?.path().join("bin/anvil")))
        .find(|path| path.is_file())
        .context("npm has no anvil for this machine; install Foundry")
}

/// A quantity as JSON-RPC writes it.
pub fn hex(number: u64) -> String {
    format!("{number:#x}")
}

#[cfg(test)]
mod tests;
