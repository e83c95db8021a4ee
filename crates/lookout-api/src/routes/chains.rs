//! `/v1/chains`: blocks, transactions and balances, with provenance.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use lookout_chain::{
    AnswerMeta, Balance, Chain, ChainError, Heads, UpstreamState, UpstreamStatus, Verify,
};
use lookout_types::{Address, BlockSelector, Hash};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::compat::{selector, wrong_address};
use crate::body;
use crate::error::{ApiError, Code};
use crate::extract::{UrlPath, UrlQuery};
use crate::page::Items;
use crate::provenance::{
    BlockName, ChainName, Envelope, LevelName, NodeObject, Provenance, rfc3339_seconds,
};
use crate::state::Shared;

/// A chain.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ChainPath {
    /// Name, decimal id or CAIP-2 id of a configured chain.
    #[param(pattern = "^[A-Za-z0-9:._-]{1,64}$", example = "ethereum")]
    pub(crate) chain: String,
}

/// A block of a chain.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct BlockPath {
    /// Name, decimal id or CAIP-2 id of a configured chain.
    #[param(pattern = "^[A-Za-z0-9:._-]{1,64}$", example = "ethereum")]
    chain: String,
    /// `latest`, `safe`, `finalized`, a height (decimal or 0x-hex) or a block hash.
    #[param(
        pattern = "^(latest|safe|finalized|0|[1-9][0-9]{0,18}|0x[0-9a-fA-F]{1,16}|0x[0-9a-fA-F]{64})$",
        example = "latest"
    )]
    block: String,
}

/// A transaction of a chain.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct TransactionPath {
    /// Name, decimal id or CAIP-2 id of a configured chain.
    #[param(pattern = "^[A-Za-z0-9:._-]{1,64}$", example = "ethereum")]
    chain: String,
    /// Transaction hash.
    #[param(pattern = "^0x[0-9a-fA-F]{64}$")]
    hash: String,
}

/// An address on a chain.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct ChainAddressPath {
    /// Name, decimal id or CAIP-2 id of a configured chain.
    #[param(pattern = "^[A-Za-z0-9:._-]{1,64}$", example = "ethereum")]
    chain: String,
    /// Address: lowercase, uppercase, or mixed with a right EIP-55 checksum.
    #[param(
        pattern = "^0x([0-9a-f]{40}|[0-9A-F]{40})$",
        example = "0xc94770007dda54cf92009bff0de90c06f603a09f"
    )]
    address: String,
}

/// How to show a block.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct BlockQuery {
    /// `full`: transactions as objects; `hashes`: their hashes only.
    #[param(value_type = Transactions, required = false, inline)]
    transactions: Option<Transactions>,
}

/// How transactions appear in a block.
#[derive(Default, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(default = "full")]
pub(crate) enum Transactions {
    /// As objects.
    #[default]
    Full,
    /// As hashes.
    Hashes,
}

/// Which balance.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct BalanceQuery {
    /// Address of an ERC-20 token; without it, the chain's own coin.
    #[param(
        value_type = String, required = false,
        pattern = "^0x([0-9a-f]{40}|[0-9A-F]{40})$",
        example = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48"
    )]
    asset: Option<String>,
    /// `latest`, `safe`, `finalized`, a height (decimal or 0x-hex) or a block hash.
    #[param(
        pattern = "^(latest|safe|finalized|0|[1-9][0-9]{0,18}|0x[0-9a-fA-F]{1,16}|0x[0-9a-fA-F]{64})$",
        value_type = String, required = false, default = "latest"
    )]
    block: Option<String>,
    /// How hard to check: `quorum` asks until two upstreams agree, `proof` checks a Merkle proof
    /// against the header's state root.
    #[param(value_type = VerifyName, required = false, inline)]
    verify: Option<VerifyName>,
}

/// How hard to check.
#[derive(Default, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(default = "standard")]
pub(crate) enum VerifyName {
    /// The cheap checks that always run.
    #[default]
    Standard,
    /// Two upstreams must agree.
    Quorum,
    /// A Merkle proof must hold.
    Proof,
}

impl From<VerifyName> for Verify {
    fn from(name: VerifyName) -> Self {
        match name {
            VerifyName::Standard => Self::Standard,
            VerifyName::Quorum => Self::Quorum,
            VerifyName::Proof => Self::Proof,
        }
    }
}

/// A configured chain and how it is doing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChainInfo {
    /// Which chain.
    #[serde(flatten)]
    chain: ChainName,
    /// Its blocks; `null` until the first upstream has answered.
    head: Option<HeadInfo>,
    /// Its upstreams, counted.
    upstreams: UpstreamCount,
}

/// Upstreams, counted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UpstreamCount {
    /// Configured.
    pub(crate) total: usize,
    /// Taking calls and up to date.
    pub(crate) healthy: usize,
}

/// The blocks that the pool agrees on.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HeadInfo {
    /// The newest block.
    latest: BlockName,
    /// The newest safe block, where the chain has that notion.
    safe: Option<BlockName>,
    /// The newest final block, where the chain has that notion.
    finalized: Option<BlockName>,
    /// Time of `latest`.
    #[schema(example = "2026-01-31T12:00:00Z", format = DateTime)]
    timestamp: String,
    /// How far `latest` can be trusted.
    level: LevelName,
}

/// One upstream's health.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpstreamInfo {
    /// Its configured name.
    #[schema(example = "infura")]
    name: String,
    /// Scheme, host and port, without keys.
    #[schema(example = "https://mainnet.infura.io")]
    endpoint: String,
    /// `starting`, `healthy`, `lagging`, `broken` or `wrong_chain`.
    #[schema(example = "healthy")]
    state: &'static str,
    /// Its own newest block.
    head: Option<BlockName>,
    /// Whether new heads are subscribed to; otherwise it is polled.
    subscribed: bool,
    /// Moving average of its latency in milliseconds.
    #[schema(example = 41.5)]
    latency_ms: Option<f64>,
    /// Calls under way.
    in_flight: u32,
    /// Calls sent since the start.
    calls: u64,
    /// Calls that failed through its fault since the start.
    failures: u64,
    /// The last such failure.
    last_failure: Option<String>,
}

/// A transaction and, once mined, its receipt.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the answer that is spliced from node JSON")]
pub(crate) struct TransactionData {
    /// The transaction as the node wrote it.
    transaction: NodeObject,
    /// The receipt as the node wrote it; `null` while the transaction is not mined.
    receipt: Option<NodeObject>,
}

/// A balance.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BalanceData {
    /// The address in its EIP-55 form.
    address: String,
    /// The token's address in its EIP-55 form; `null` for the chain's own coin.
    asset: Option<String>,
    /// In the smallest unit.
    #[schema(example = "1500000000000000000", pattern = "^[0-9]+$")]
    amount: String,
    /// Decimals of the asset; `null` where the token does not say.
    #[schema(example = 18)]
    decimals: Option<u8>,
    /// `amount` with its decimal point, where the decimals are known.
    #[schema(example = "1.5")]
    formatted: Option<String>,
}

/// All chains
///
/// Every configured chain with its agreed head and the number of its healthy upstreams.
#[utoipa::path(
    get, path = "/v1/chains", tag = "chains", operation_id = "listChains",
    responses((status = 200, description = "The chains, by name", body = Items<ChainInfo>))
)]
pub(crate) async fn list(State(state): State<Shared>) -> Result<Response, ApiError> {
    let chains = state.chains.list();
    let items: Result<Vec<_>, _> = chains.iter().map(|chain| chain_info(chain)).collect();
    body::json_of(&Items::all(items?))
}

/// One chain
#[utoipa::path(
    get, path = "/v1/chains/{chain}", tag = "chains", operation_id = "getChain",
    params(ChainPath),
    responses((status = 200, description = "The chain", body = ChainInfo))
)]
pub(crate) async fn get(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<ChainPath>,
) -> Result<Response, ApiError> {
    body::json_of(&chain_info(&*state.chain(&path.chain)?)?)
}

fn chain_info(chain: &Chain) -> Result<ChainInfo, ApiError> {
    Ok(ChainInfo {
        chain: chain.into(),
        head: chain.heads().map(|heads| head_info(&heads)).transpose()?,
        upstreams: count(&chain.upstreams()),
    })
}

pub(crate) fn count(upstreams: &[UpstreamStatus]) -> UpstreamCount {
    let healthy = |upstream: &&UpstreamStatus| upstream.state == UpstreamState::Healthy;
    UpstreamCount { total: upstreams.len(), healthy: upstreams.iter().filter(healthy).count() }
}

fn head_info(heads: &Heads) -> Result<HeadInfo, ApiError> {
    Ok(HeadInfo {
        latest: heads.latest.into(),
        safe: heads.safe.map(BlockName::from),
        finalized: heads.finalized.map(BlockName::from),
        timestamp: rfc3339_seconds(heads.timestamp)?,
        level: heads.level.into(),
    })
}

/// The provenance of a head: followed all along, so no upstream was asked for this answer.
pub(crate) fn head_meta(heads: &Heads) -> AnswerMeta {
    AnswerMeta {
        block: Some(heads.latest),
        level: heads.level,
        note: None,
        upstream: None,
        cached: true,
        upstream_time: Duration::ZERO,
    }
}

/// The head
///
/// The newest, the safe and the final block that the pool agrees on.
#[utoipa::path(
    get, path = "/v1/chains/{chain}/head", tag = "chains", operation_id = "getHead",
    params(ChainPath),
    responses((status = 200, description = "The blocks", body = Envelope<HeadInfo>))
)]
pub(crate) async fn head(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<ChainPath>,
) -> Result<Response, ApiError> {
    let chain = state.chain(&path.chain)?;
    let heads = chain.wait_heads().await?;
    let provenance = Provenance::new((&*chain).into(), &head_meta(&heads));
    body::json_of(&Envelope { data: head_info(&heads)?, provenance })
}

/// A block
///
/// The block as the node wrote it, byte for byte, under `data`.
#[utoipa::path(
    get, path = "/v1/chains/{chain}/blocks/{block}", tag = "chains", operation_id = "getBlock",
    params(BlockPath, BlockQuery),
    responses(
        (status = 200, description = "The block", body = Envelope<NodeObject>),
        (status = 502, description = "No upstream could answer", body = crate::problem::Problem,
            content_type = "application/problem+json"),
    )
)]
pub(crate) async fn block(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<BlockPath>,
    UrlQuery(query): UrlQuery<BlockQuery>,
) -> Result<Response, ApiError> {
    let at = selector(Some(&path.block))?;
    let chain = state.chain(&path.chain)?;
    let full = query.transactions.unwrap_or_default() == Transactions::Full;
    let answer = chain.block(at, full).await?;
    Provenance::new((&*chain).into(), &answer.meta).around([answer.result])
}

/// A transaction
///
/// The transaction and, once it is mined, its receipt, both as the node wrote them.
#[utoipa::path(
    get, path = "/v1/chains/{chain}/transactions/{hash}", tag = "chains",
    operation_id = "getTransaction",
    params(TransactionPath),
    responses(
        (status = 200, description = "The transaction", body = Envelope<TransactionData>),
        (status = 502, description = "No upstream could answer", body = crate::problem::Problem,
            content_type = "application/problem+json"),
    )
)]
pub(crate) async fn transaction(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<TransactionPath>,
) -> Result<Response, ApiError> {
    let hash: Hash = path.hash.parse().map_err(|error| {
        let shown: String = path.hash.chars().take(80).collect();
        ApiError::new(Code::InvalidHash, format!("`{shown}` is not a hash: {error}"))
    })?;
    let chain = state.chain(&path.chain)?;
    let (transaction, receipt) = tokio::join!(chain.transaction(hash), chain.receipt(hash));
    let transaction = transaction?;
    // Not mined is an answer; a failure is not.
    let (receipt, meta) = match receipt {
        Ok(receipt) => {
            let meta = weaker(transaction.meta, receipt.meta);
            (receipt.result, meta)
        }
        Err(ChainError::NotFound(_)) => (Bytes::from_static(b"null"), transaction.meta),
        Err(error) => return Err(error.into()),
    };
    Provenance::new((&*chain).into(), &meta).around([
        Bytes::from_static(b"{\"transaction\":"),
        transaction.result,
        Bytes::from_static(b",\"receipt\":"),
        receipt,
        Bytes::from_static(b"}"),
    ])
}

/// The provenance of two answers together: no better than the weaker one.
fn weaker(transaction: AnswerMeta, receipt: AnswerMeta) -> AnswerMeta {
    let cached = transaction.cached && receipt.cached;
    let mut meta = if transaction.level < receipt.level { transaction } else { receipt };
    meta.cached = cached;
    meta
}

/// A balance
///
/// Of the chain's own coin, or of an ERC-20 token with `asset`. With `verify=proof` the amount is
/// proved against the state root of a recomputed header, and no single upstream can forge it.
#[utoipa::path(
    get, path = "/v1/chains/{chain}/addresses/{address}/balance", tag = "chains",
    operation_id = "getBalance",
    params(ChainAddressPath, BalanceQuery),
    responses(
        (status = 200, description = "The balance", body = Envelope<BalanceData>),
        (status = 502, description = "No upstream could answer or prove the value",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn balance(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<ChainAddressPath>,
    UrlQuery(query): UrlQuery<BalanceQuery>,
) -> Result<Response, ApiError> {
    let address = lenient(&path.address)?;
    let asset = query.asset.as_deref().map(lenient).transpose()?;
    let at: BlockSelector = selector(query.block.as_deref())?;
    let chain = state.chain(&path.chain)?;
    let verify = query.verify.unwrap_or_default().into();
    let balance = chain.balance(address, asset, at, verify).await?;
    let provenance = Provenance::new((&*chain).into(), &balance.meta);
    body::json_of(&Envelope { data: balance_data(address, asset, &balance), provenance })
}

fn balance_data(address: Address, asset: Option<Address>, balance: &Balance) -> BalanceData {
    BalanceData {
        address: address.to_string(),
        asset: asset.map(|asset| asset.to_string()),
        amount: balance.amount.to_string(),
        decimals: balance.decimals,
        formatted: balance.decimals.map(|decimals| balance.amount.to_units(decimals)),
    }
}

fn lenient(text: &str) -> Result<Address, ApiError> {
    Address::parse_lenient(text).map_err(|error| wrong_address(text, &error))
}

/// Upstreams of a chain
///
/// The health of each, as the pool sees it. Keys in URLs are never shown.
#[utoipa::path(
    get, path = "/v1/chains/{chain}/upstreams", tag = "chains", operation_id = "listUpstreams",
    params(ChainPath),
    responses((status = 200, description = "The upstreams", body = Items<UpstreamInfo>))
)]
pub(crate) async fn upstreams(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<ChainPath>,
) -> Result<Response, ApiError> {
    let upstreams = state.chain(&path.chain)?.upstreams();
    body::json_of(&Items::all(upstreams.into_iter().map(upstream_info).collect()))
}

fn upstream_info(status: UpstreamStatus) -> UpstreamInfo {
    UpstreamInfo {
        name: status.name.as_ref().to_owned(),
        endpoint: status.endpoint,
        state: status.state.as_str(),
        head: status.head.map(BlockName::from),
        subscribed: status.subscribed,
        // Whole microseconds, so that the number does not pretend to be finer.
        latency_ms: status.latency.map(|l| (l.as_secs_f64() * 1_000_000.0).round() / 1000.0),
        in_flight: status.in_flight,
        calls: status.calls,
        failures: status.failures,
        last_failure: status.last_failure,
    }
}
