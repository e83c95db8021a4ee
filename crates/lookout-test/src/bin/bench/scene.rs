//! What the servers read: a node's chain that stands still, behind a fast upstream.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use lookout_test::Anvil;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::{Cores, Programs, Server};
use crate::stub;

/// Transactions of the large block; blocks of Ethereum held about 150 to 200 in 2025.
const LARGE_BLOCK_TRANSACTIONS: usize = 100;
/// So high that the limiter runs on every request and refuses none.
const RATE_MAX: u32 = 100_000_000;
/// Name of the chain in routes.
pub(crate) const CHAIN: &str = "bench";

/// The chain, the programs and a folder for everything written.
pub(crate) struct Scene {
    pub(crate) programs: Programs,
    /// Height of a block with one transaction.
    pub(crate) small: u64,
    /// Height of a block with [`LARGE_BLOCK_TRANSACTIONS`].
    pub(crate) large: u64,
    pub(crate) head: u64,
    pub(crate) upstream: std::net::SocketAddr,
    pub(crate) folder: TempDir,
    _node: Anvil,
}

impl Scene {
    pub(crate) async fn set(programs: Programs) -> Result<Self> {
        let node = Anvil::builder().no_mining().start().await?;
        node.mine(2).await?;
        let small = block_with(&node, 1).await?;
        let large = block_with(&node, LARGE_BLOCK_TRANSACTIONS).await?;
        node.mine(3).await?;
        let head = node.height().await?;
        let upstream = stub::start(node.url())?;
        let folder = TempDir::new()?;
        Ok(Self { programs, small, large, head, upstream, folder, _node: node })
    }

    /// Writes a configuration with a store of its own.
    pub(crate) fn configure(&self, name: &str) -> Result<PathBuf> {
        let store = self.folder.path().join(format!("{name}.db"));
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\n\
             [store]\nurl = \"sqlite:{store}\"\n\
             [limits]\nrequests_per_second_per_key = {RATE_MAX}\n\
             requests_per_second_per_address = {RATE_MAX}\nburst = {RATE_MAX}\n\
             [compat]\nblocks_chain = \"{CHAIN}\"\nbalance_chain = \"{CHAIN}\"\n\
             [chains.{CHAIN}]\nid = {id}\nupstreams = [{{ url = \"http://{upstream}\" }}]\n",
            store = store.display(),
            id = lookout_test::anvil::CHAIN_ID,
            upstream = self.upstream,
        );
        let file = self.folder.path().join(format!("{name}.toml"));
        std::fs::write(&file, text)?;
        Ok(file)
    }

    pub(crate) async fn start_lookout(&self, config: &Path, cores: Cores) -> Result<Server> {
        let mut command = cores.server(&self.programs.lookout);
        command.arg("serve").arg("--config").arg(config);
        Server::start("lookout", command).await
    }

    /// The bare handler that answers with these bytes.
    pub(crate) async fn start_bare(&self, body: &[u8], cores: Cores) -> Result<Server> {
        let file = self.folder.path().join("body");
        std::fs::write(&file, body)?;
        let mut command = cores.server(&self.programs.example("bare", "lookout-api")?);
        command.args(["--listen", "127.0.0.1:0", "--body-file"]).arg(&file);
        Server::start("bare", command).await
    }

    /// A new API key that may read chains.
    pub(crate) async fn make_key(&self, config: &Path) -> Result<String> {
        let mut command = Command::new(&self.programs.lookout);
        command.args(["keys", "create", "--scopes", "chains:read", "--config"]).arg(config);
        let output = command.output().await.context("cannot run lookout")?;
        let said = String::from_utf8(output.stdout)?;
        ensure!(
            output.status.success() && said.starts_with("lk_"),
            "no key: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(said.trim().to_owned())
    }
}

/// Mines a block with this many transfers; its height.
async fn block_with(node: &Anvil, transactions: usize) -> Result<u64> {
    let (from, to) = (node.account(0), node.account(1));
    for _ in 0..transactions {
        let transfer = json!({"from": from, "to": to, "value": "0x1"});
        node.rpc("eth_sendTransaction", json!([transfer])).await?;
    }
    node.mine(1).await?;
    let height = node.height().await?;
    let block = node.block(height).await?;
    let mined = block["transactions"].as_array().map_or(0, Vec::len);
    ensure!(mined == transactions, "block {height} holds {mined} of {transactions} transactions");
    Ok(height)
}
