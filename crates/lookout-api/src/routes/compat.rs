//! The routes that existing clients call, in the shapes they read.

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use lookout_chain::{Answer, Balance, Verify};
use lookout_types::{Address, AddressError, BlockSelector, ETHER_DECIMALS, Height, parse_quantity};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::body;
use crate::error::{ApiError, Code};
use crate::extract::{UrlPath, UrlQuery};
use crate::provenance::{self, LevelName, NodeObject};
use crate::state::Shared;

/// What clients call Ethereum, chain id 1.
const MAINNET: &str = "mainnet";
const MAINNET_ID: u64 = 1;

/// A JSON-RPC answer.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the answer that is spliced around node JSON")]
pub(crate) struct RpcEnvelope<T> {
    /// Always `2.0`.
    #[schema(example = "2.0", pattern = "^2\\.0$")]
    jsonrpc: String,
    /// Always 1.
    #[schema(example = 1)]
    id: u64,
    /// The answer.
    result: T,
}

/// A height as 0x-hex.
#[derive(ToSchema)]
#[schema(pattern = "^0x(0|[1-9a-f][0-9a-f]*)$", example = "0x121eac0")]
#[expect(dead_code, reason = "names a pattern in the OpenAPI document")]
pub(crate) struct Quantity(String);

/// A block by its height.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct HeightPath {
    /// Height, decimal or 0x-hex, below 2^64.
    #[param(pattern = "^(0|[1-9][0-9]{0,18}|0x[0-9a-fA-F]{1,16})$", example = "1000")]
    number: String,
}

/// An address that must carry its checksum.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct AddressPath {
    /// Address in its EIP-55 form; a wrong checksum is refused with the right form.
    #[param(
        pattern = "^0x[0-9a-fA-F]{40}$",
        example = "0xc94770007dda54cF92009BFF0dE90c06F603a09f"
    )]
    address: String,
}

/// At which block.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AtQuery {
    /// `latest`, `safe`, `finalized`, a height (decimal or 0x-hex) or a block hash.
    #[param(
        pattern = "^(latest|safe|finalized|0|[1-9][0-9]{0,18}|0x[0-9a-fA-F]{1,16}|0x[0-9a-fA-F]{64})$",
        value_type = String, required = false, default = "latest"
    )]
    block: Option<String>,
}

/// A balance of the chain's own coin.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BalanceAnswer {
    /// The address in its EIP-55 form.
    #[schema(example = "0xc94770007dda54cF92009BFF0dE90c06F603a09f")]
    address: String,
    /// `mainnet` for Ethereum, elsewhere the chain's name.
    #[schema(example = "mainnet")]
    network: String,
    /// The block as asked for.
    #[schema(example = "latest")]
    block_tag: String,
    /// In ether: a decimal without exponent or trailing zeros.
    #[schema(example = "1.5", pattern = "^[0-9]+(\\.[0-9]*[1-9])?$")]
    balance: String,
    /// In wei.
    #[schema(example = "1500000000000000000", pattern = "^[0-9]+$")]
    balance_wei: String,
    /// Milliseconds spent waiting for upstreams; 0 from the cache.
    #[schema(example = 12)]
    rpc_latency_ms: u64,
    /// The newest agreed block.
    #[schema(example = "0x121eac0", pattern = "^0x[0-9a-f]+$")]
    head_block_number: String,
    /// Height of the block that the balance is from.
    #[schema(example = 19_000_000)]
    block_number: Option<Height>,
    /// Its hash.
    block_hash: Option<String>,
    /// How far the balance can be trusted.
    level: LevelName,
    /// Why not further, where that is worth saying.
    note: Option<String>,
    /// The upstream that gave it.
    upstream: Option<String>,
    /// Whether it came from the cache.
    cached: bool,
}

/// Newest block number
///
/// The newest block that the pool agrees on, as 0x-hex in a JSON-RPC envelope. The chain is
/// `[compat] blocks_chain`, `polygon` by default. Where the answer comes from stands in the
/// `lookout-*` headers.
#[utoipa::path(
    get, path = "/block/number", tag = "compatible", operation_id = "blockNumber",
    responses(
        (status = 200, description = "The height", body = RpcEnvelope<Quantity>,
            headers(
                ("lookout-level" = String, description = "single, quorum or proof"),
                ("lookout-block-number" = u64, description = "Height of the answer's block"),
                ("lookout-block-hash" = String, description = "Hash of the answer's block"),
            )),
        (status = 502, description = "No upstream could answer", body = crate::problem::Problem,
            content_type = "application/problem+json"),
    )
)]
pub(crate) async fn block_number(State(state): State<Shared>) -> Result<Response, ApiError> {
    let live = state.live();
    let chain = state.chain(&live.config.blocks_chain)?;
    let heads = chain.wait_heads().await.map_err(ApiError::compat)?;
    let text = number_envelope(heads.latest.number);
    let mut response = body::json([Bytes::from(text)]);
    let meta = super::chains::head_meta(&heads);
    provenance::write_headers(response.headers_mut(), &meta);
    Ok(response)
}

fn number_envelope(height: Height) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"result":"{height:#x}"}}"#)
}

/// Block by height
///
/// The whole block as the node wrote it, transactions as objects, in a JSON-RPC envelope. The
/// chain is `[compat] blocks_chain`. A height above the head is a 404.
#[utoipa::path(
    get, path = "/block/{number}", tag = "compatible", operation_id = "block",
    params(HeightPath),
    responses(
        (status = 200, description = "The block", body = RpcEnvelope<NodeObject>,
            headers(
                ("lookout-level" = String, description = "single, quorum or proof"),
                ("lookout-block-number" = u64, description = "Height of the block"),
                ("lookout-block-hash" = String, description = "Hash of the block"),
                ("lookout-upstream" = String, description = "The upstream that gave it"),
                ("lookout-cache" = String, description = "hit or miss"),
            )),
        (status = 502, description = "No upstream could answer", body = crate::problem::Problem,
            content_type = "application/problem+json"),
    )
)]
pub(crate) async fn block(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<HeightPath>,
) -> Result<Response, ApiError> {
    let height = parse_quantity(&path.number).map_err(|error| match error {
        lookout_types::BlockSelectorError::Unknown(text) => ApiError::new(
            Code::InvalidBlock,
            format!("`{text}` is not a block number: expected a decimal or 0x-hex height"),
        ),
        too_high @ lookout_types::BlockSelectorError::TooHigh(_) => {
            ApiError::new(Code::InvalidBlock, too_high.to_string())
        }
    })?;
    let live = state.live();
    let chain = state.chain(&live.config.blocks_chain)?;
    let answer = chain.block(BlockSelector::Number(height), true).await;
    Ok(block_response(answer.map_err(ApiError::compat)?))
}

fn block_response(answer: Answer) -> Response {
    let head = Bytes::from_static(br#"{"jsonrpc":"2.0","id":1,"result":"#);
    let mut response = body::json([head, answer.result, Bytes::from_static(b"}")]);
    provenance::write_headers(response.headers_mut(), &answer.meta);
    response
}

/// Balance of an address
///
/// In ether and in wei, on the chain `[compat] balance_chain` (`ethereum` by default). The address
/// must carry its EIP-55 checksum: anything else is a 400 that says what is wrong and, when it is
/// only the checksum, gives the right form.
#[utoipa::path(
    get, path = "/address/balance/{address}", tag = "compatible", operation_id = "addressBalance",
    params(AddressPath, AtQuery),
    responses(
        (status = 200, description = "The balance", body = BalanceAnswer),
        (status = 502, description = "No upstream could answer", body = crate::problem::Problem,
            content_type = "application/problem+json"),
    )
)]
pub(crate) async fn balance(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<AddressPath>,
    UrlQuery(query): UrlQuery<AtQuery>,
) -> Result<Response, ApiError> {
    let address = Address::parse_checksummed(&path.address)
        .map_err(|error| wrong_address(&path.address, &error))?;
    let at = selector(query.block.as_deref())?;
    let live = state.live();
    let chain = state.chain(&live.config.balance_chain)?;
    let balance = chain.balance(address, None, at, Verify::Standard).await;
    let balance = balance.map_err(ApiError::compat)?;
    // A balance was read, so there is a head; it is at least the balance's own block.
    let own = balance.meta.block.map_or(0, |block| block.number);
    let head = chain.heads().map_or(own, |heads| heads.latest.number.max(own));
    let network = if chain.id().0 == MAINNET_ID { MAINNET } else { chain.name() };
    // Parsed as checksummed, so the text is the address's own form already.
    body::json_of(&balance_answer(path.address, network, at, &balance, head))
}

fn balance_answer(
    address: String,
    network: &str,
    at: BlockSelector,
    balance: &Balance,
    head: Height,
) -> BalanceAnswer {
    let meta = &balance.meta;
    let waited = if meta.cached { 0 } else { meta.upstream_time.as_millis() };
    BalanceAnswer {
        address,
        network: network.to_owned(),
        block_tag: at.to_string(),
        balance: balance.amount.to_units(ETHER_DECIMALS),
        balance_wei: balance.amount.to_string(),
        rpc_latency_ms: u64::try_from(waited).unwrap_or(u64::MAX),
        head_block_number: format!("{head:#x}"),
        block_number: meta.block.map(|block| block.number),
        block_hash: meta.block.map(|block| block.hash.to_string()),
        level: meta.level.into(),
        note: meta.note.as_deref().map(str::to_owned),
        upstream: meta.upstream.as_deref().map(str::to_owned),
        cached: meta.cached,
    }
}

/// The block of a `?block=`; `latest` when there is none.
pub(crate) fn selector(text: Option<&str>) -> Result<BlockSelector, ApiError> {
    let parsed = text.map(str::parse).transpose();
    parsed.map(Option::unwrap_or_default).map_err(|error: lookout_types::BlockSelectorError| {
        ApiError::new(Code::InvalidBlock, error.to_string())
    })
}

/// The problem of an address, with the text that was wrong.
pub(crate) fn wrong_address(text: &str, error: &AddressError) -> ApiError {
    let shown: String = text.chars().take(80).collect();
    let lowercase = !text.bytes().skip(2).any(|byte| byte.is_ascii_uppercase());
    let (code, detail) = match error {
        AddressError::Checksum { right } if lowercase => (
            Code::InvalidChecksum,
            format!("`{shown}` carries no EIP-55 checksum; the right form is {right}"),
        ),
        AddressError::Checksum { .. } => (Code::InvalidChecksum, format!("`{shown}`: {error}")),
        _ => (Code::InvalidAddress, format!("`{shown}` is not an address: {error}")),
    };
    ApiError::new(code, detail)
}

#[cfg(test)]
mod tests;
