//! One chain, as the API sees it.

use std::sync::Arc;

use lookout_types::{Address, BlockRef, BlockSelector, ChainId, Hash};
use serde_json::value::RawValue;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::cache::Cache;
use crate::core::Core;
use crate::heads::Followed;
use crate::methods;
use crate::pool::{Call, Reject};
use crate::upstream::Request;
use crate::{Answer, Balance, ChainError, ChainSpec, Heads, UpstreamStatus, Verify};

/// One chain and its pool of upstreams. Dropping the last handle ends its background tasks.
#[derive(Debug)]
pub struct Chain {
    pub(crate) spec: ChainSpec,
    pub(crate) core: Arc<Core>,
    _tasks: DropGuard,
}

impl Chain {
    /// Starts following a chain. Does not wait for any upstream.
    pub(crate) fn start(spec: ChainSpec, cache: Arc<dyn Cache>) -> Self {
        let stop = CancellationToken::new();
        let core = Arc::new(Core::start(&spec, cache, &stop));
        Self { spec, core, _tasks: stop.drop_guard() }
    }

    /// Its configured name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its EIP-155 id.
    pub fn id(&self) -> ChainId {
        self.spec.id
    }

    /// The agreed heads; `None` until the first upstream has answered.
    pub fn heads(&self) -> Option<Heads> {
        self.core.follower.heads()
    }

    /// The agreed heads, waiting for the first ones up to the call timeout.
    ///
    /// # Errors
    /// [`ChainError::Unavailable`] when no upstream has reported any.
    pub async fn wait_heads(&self) -> Result<Heads, ChainError> {
        self.core.wait_heads().await
    }

    /// Which block a selector means now.
    ///
    /// # Errors
    /// [`ChainError::NotFound`] for a height above the head, an unknown hash, or a tag that the
    /// chain does not have.
    pub async fn resolve(&self, at: BlockSelector) -> Result<BlockRef, ChainError> {
        self.core.resolve(at).await
    }

    /// The block as the node's own JSON. `full`: transactions as objects instead of hashes.
    ///
    /// # Errors
    /// [`ChainError::NotFound`] for a height above the head or an unknown hash.
    pub async fn block(&self, at: BlockSelector, full: bool) -> Result<Answer, ChainError> {
        self.core.block(at, full).await
    }

    /// The transaction as the node's own JSON.
    ///
    /// # Errors
    /// [`ChainError::NotFound`] when the upstreams do not know it.
    pub async fn transaction(&self, hash: Hash) -> Result<Answer, ChainError> {
        self.core.by_transaction("eth_getTransactionByHash", hash).await
    }

    /// The receipt as the node's own JSON.
    ///
    /// # Errors
    /// [`ChainError::NotFound`] while the transaction is not in a block.
    pub async fn receipt(&self, hash: Hash) -> Result<Answer, ChainError> {
        self.core.by_transaction("eth_getTransactionReceipt", hash).await
    }

    /// Native (`asset` = `None`) or ERC-20 balance of an address at a block.
    ///
    /// # Errors
    /// [`ChainError::Unproved`] when `verify` asks for more than the upstreams can show.
    pub async fn balance(
        &self,
        address: Address,
        asset: Option<Address>,
        at: BlockSelector,
        verify: Verify,
    ) -> Result<Balance, ChainError> {
        self.core.balance(address, asset, at, verify).await
    }

    /// One JSON-RPC call as a client sent it.
    ///
    /// # Errors
    /// [`ChainError::Method`] for a method that is not offered; [`ChainError::Node`] with the
    /// node's own error.
    pub async fn rpc(&self, method: &str, params: Option<&RawValue>) -> Result<Answer, ChainError> {
        self.core.rpc(method, params).await
    }

    /// Health of each upstream.
    pub fn upstreams(&self) -> Vec<UpstreamStatus> {
        self.core.pool.upstreams.iter().map(|upstream| upstream.status()).collect()
    }
}

impl Core {
    pub(crate) async fn resolve(
        self: &Arc<Self>,
        at: BlockSelector,
    ) -> Result<BlockRef, ChainError> {
        let heads = self.wait_heads().await?;
        let no_tag = |tag| {
            let chain = &self.pool.chain;
            ChainError::NotFound(format!("chain `{chain}` has no `{tag}` block now"))
        };
        let number = match at {
            BlockSelector::Latest => return Ok(heads.latest),
            BlockSelector::Safe => return heads.safe.ok_or_else(|| no_tag("safe")),
            BlockSelector::Finalized => return heads.finalized.ok_or_else(|| no_tag("finalized")),
            BlockSelector::Number(number) => number,
            BlockSelector::Hash(hash) => {
                if let Some(known) = self.canonical().by_hash(&hash) {
                    return Ok(known.block());
                }
                return self.reference(at).await;
            }
        };
        match self.canonical().at(number) {
            Some(known) => Ok(known.block()),
            None => self.reference(BlockSelector::Number(number)).await,
        }
    }

    async fn reference(self: &Arc<Self>, at: BlockSelector) -> Result<BlockRef, ChainError> {
        let answer = self.block(at, false).await?;
        match answer.meta.block {
            Some(block) => Ok(block),
            None => crate::verify::parse_header(&answer.result)
                .map(|header| header.reference)
                .map_err(|error| ChainError::Invalid(format!("block {at}: {error}"))),
        }
    }

    pub(crate) async fn block(
        self: &Arc<Self>,
        at: BlockSelector,
        full: bool,
    ) -> Result<Answer, ChainError> {
        let heads = self.wait_heads().await?;
        let absent = || {
            ChainError::NotFound(match at {
                BlockSelector::Number(height) => format!(
                    "block {height} is above the head of chain `{}`, which is {}",
                    self.pool.chain, heads.latest.number
                ),
                at => format!("chain `{}` has no block {at}", self.pool.chain),
            })
        };
        if matches!(at, BlockSelector::Number(height) if height > heads.latest.number) {
            return Err(absent());
        }
        if let Some(kept) = self.kept_block(at, full, &heads).await {
            return Ok(kept);
        }
        let (method, block) = match at {
            BlockSelector::Hash(hash) => ("eth_getBlockByHash", hash.to_string()),
            BlockSelector::Number(height) => ("eth_getBlockByNumber", format!("{height:#x}")),
            tag => ("eth_getBlockByNumber", tag.to_string()),
        };
        let params = RawValue::from_string(format!("[\"{block}\",{full}]"))
            .map_err(|error| ChainError::Invalid(error.to_string()))?;
        let answer = Box::pin(self.rpc(method, Some(&params))).await?;
        if &answer.result[..] == b"null" { Err(absent()) } else { Ok(answer) }
    }

    async fn by_transaction(
        self: &Arc<Self>,
        method: &'static str,
        hash: Hash,
    ) -> Result<Answer, ChainError> {
        let params = RawValue::from_string(format!("[\"{hash}\"]"))
            .map_err(|error| ChainError::Invalid(error.to_string()))?;
        let answer = self.rpc(method, Some(&params)).await?;
        if &answer.result[..] == b"null" {
            let chain = &self.pool.chain;
            return Err(ChainError::NotFound(format!("chain `{chain}` has no transaction {hash}")));
        }
        Ok(answer)
    }

    /// The checked header of a block: of the followed window, else fetched by hash.
    pub(crate) async fn followed_header(&self, block: BlockRef) -> Result<Followed, ChainError> {
        if let Some(known) = self.canonical().by_hash(&block.hash) {
            return Ok(known.clone());
        }
        let params = format!("[\"{}\",false]", block.hash);
        let call = Call {
            method: methods::known("eth_getBlockByHash"),
            params: &params,
            height: Some(block.number),
            request: Request::One,
            deadline: self.pool.deadline(),
            except: &[],
        };
        let accept = |json: &bytes::Bytes| match self.rules.check(json) {
            _ if &json[..] == b"null" => Err(Reject::Missing),
            Ok(header) if header.block() == block => Ok(header),
            Ok(_) => Err(Reject::Lie("another block than the one asked for".to_owned())),
            Err(error) => Err(Reject::Lie(error.to_string())),
        };
        let won = self.pool.ask(call, accept).await;
        let absent = || {
            ChainError::NotFound(format!("chain `{}` has no block {}", self.pool.chain, block.hash))
        };
        Ok(won.map_err(|lost| lost.or_missing(absent))?.value)
    }
}
