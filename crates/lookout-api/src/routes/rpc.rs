//! `/v1/rpc/{chain}`: JSON-RPC as a node answers it, single and in batches.

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::StatusCode;
use lookout_chain::{Answer, Chain, ChainError};
use lookout_store::Scope;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::chains::ChainPath;
use crate::body;
use crate::error::{
    ApiError, Code, RPC_INTERNAL, RPC_INVALID_REQUEST, RPC_LIMIT, RPC_METHOD, RPC_NOT_FOUND,
    RPC_PARAMS, RPC_UNAUTHORIZED,
};
use crate::extract::UrlPath;
use crate::middleware::{Visitor, charge};
use crate::provenance;
use crate::state::Shared;

/// Calls of one batch under way at once: enough to hide latency, few enough that one client
/// cannot take all upstream slots.
const BATCH_CONCURRENCY: usize = 16;
/// Largest answer to a batch; what would go beyond is answered with an error entry. Bounds the
/// memory of one request to a few full blocks.
const BATCH_ANSWER_BYTES_MAX: usize = 64 << 20;

/// A JSON-RPC 2.0 request.
#[derive(Serialize, ToSchema)]
pub(crate) struct RpcRequest {
    /// Always `2.0`.
    #[schema(example = "2.0", pattern = "^2\\.0$")]
    jsonrpc: String,
    /// Returned unchanged; a request without it is a notification and gets no answer.
    #[schema(required = false, example = 1)]
    id: serde_json::Value,
    /// A read method of the Ethereum execution API, or `eth_sendRawTransaction`.
    #[schema(example = "eth_blockNumber")]
    method: String,
    /// Its parameters.
    #[schema(example = json!([]))]
    params: Option<Vec<serde_json::Value>>,
}

/// A JSON-RPC 2.0 answer: `result` or `error`, as the node wrote it.
#[derive(Serialize, ToSchema)]
pub(crate) struct RpcAnswer {
    /// Always `2.0`.
    #[schema(example = "2.0")]
    jsonrpc: String,
    /// The request's id.
    id: serde_json::Value,
    /// The node's result; absent on an error.
    #[schema(required = false)]
    result: serde_json::Value,
    /// The node's error; absent on a result.
    #[schema(required = false)]
    error: RpcError,
}

/// A JSON-RPC 2.0 error.
#[derive(Serialize, ToSchema)]
pub(crate) struct RpcError {
    /// The node's code; -32601 for a method that is not served, -32603 when no upstream answers.
    #[schema(example = -32601)]
    code: i64,
    /// What is wrong.
    #[schema(example = "the method eth_mine does not exist/is not available")]
    message: String,
    /// More about it, for example revert data.
    #[schema(required = false)]
    data: serde_json::Value,
}

/// One request or several.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the body that `call` reads")]
pub(crate) enum RpcBody {
    /// A single request.
    One(RpcRequest),
    /// A batch.
    Many(Vec<RpcRequest>),
}

/// One answer or several.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the answer that is spliced around node JSON")]
pub(crate) enum RpcAnswers {
    /// To a single request.
    One(RpcAnswer),
    /// To a batch, in its order, without the notifications.
    Many(Vec<RpcAnswer>),
}

/// A request as far as it must be understood; the rest goes on as it came.
#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow, default)]
    jsonrpc: Option<&'a RawValue>,
    /// `Some("null")` for an explicit null, which is an id; `None` for a notification.
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<&'a RawValue>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(value).map(Some)
}

/// A request that can be sent on.
struct Valid<'a> {
    method: String,
    params: Option<&'a RawValue>,
}

/// A request that cannot; it is answered even without an id (JSON-RPC 2.0, section 5).
struct Invalid<'a> {
    id: &'a str,
    error: Box<RawValue>,
}

/// The outcome of one call. No id: a notification, which gets no answer.
struct Outcome<'a> {
    id: Option<&'a str>,
    result: Result<Answer, Box<RawValue>>,
}

/// JSON-RPC
///
/// Takes what a node takes: one request or a batch. Results and errors are the node's own, field
/// for field; the `id` comes back unchanged. Point ethers, viem or web3.py here.
///
/// A problem of one call is a JSON-RPC error with status 200, so that a batch can fail in part: a
/// method that is not served (-32601), an invalid request (-32600), no upstream (-32603). A problem
/// of the whole request is a problem document with an HTTP status that carries `jsonrpc`, `id` and
/// `error` as well. Notifications get no answer; nothing but notifications gets 204.
///
/// The answer to a single request has its provenance in `lookout-*` headers.
///
/// Needs scope `chains:read`; `eth_sendRawTransaction` needs `chains:send` instead.
#[utoipa::path(
    post, path = "/v1/rpc/{chain}", tag = "rpc", operation_id = "rpc",
    params(ChainPath),
    request_body(content = RpcBody, content_type = "application/json",
        example = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []})),
    responses(
        (status = 200, description = "The answer, or the answers in the batch's order",
            body = RpcAnswers,
            headers(
                ("lookout-level" = String, description = "single, quorum or proof"),
                ("lookout-block-number" = u64, description = "Height of the answer's block"),
                ("lookout-block-hash" = String, description = "Hash of the answer's block"),
                ("lookout-upstream" = String, description = "The upstream that gave it"),
                ("lookout-cache" = String, description = "hit or miss"),
            )),
        (status = 204, description = "There were only notifications"),
    )
)]
pub(crate) async fn call(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<ChainPath>,
    visitor: Visitor,
    request: Request,
) -> Result<Response, ApiError> {
    let chain = state.chain(&path.chain)?;
    let live = state.live();
    let body = body::read(request.into_body(), live.config.body_bytes_max).await?;
    let whole: &RawValue = serde_json::from_slice(&body).map_err(|error| {
        ApiError::new(Code::MalformedJson, format!("the body is not JSON: {error}"))
    })?;
    if !whole.get().starts_with('[') {
        return single(&chain, &visitor, whole).await;
    }
    let calls: Vec<&RawValue> = serde_json::from_str(whole.get()).map_err(ApiError::internal)?;
    let max = live.config.batch_max;
    match calls.len() {
        0 => return Err(ApiError::new(Code::EmptyBatch, "a batch holds at least one request")),
        many if many > max => {
            let detail = format!("a batch holds at most {max} requests, this one {many}");
            return Err(ApiError::new(Code::BatchTooLarge, detail));
        }
        some => charge(&live, &visitor, some - 1)?,
    }
    batch(&chain, &visitor, &calls).await
}

async fn single(chain: &Chain, visitor: &Visitor, raw: &RawValue) -> Result<Response, ApiError> {
    let outcome = match read(raw) {
        Ok((id, valid)) => {
            // Alone, a missing scope has a status of its own.
            visitor.caller.require(scope_of(&valid.method)).map_err(|mut error| {
                error.members.extend(
                    id.and_then(|id| Some(("id".to_owned(), serde_json::from_str(id).ok()?))),
                );
                error
            })?;
            Outcome { id, result: forward(chain, &valid).await }
        }
        Err(Invalid { id, error }) => Outcome { id: Some(id), result: Err(error) },
    };
    let Some(id) = outcome.id else { return Ok(StatusCode::NO_CONTENT.into_response()) };
    let mut response = body::json(entry(id, &outcome.result));
    if let Ok(answer) = &outcome.result {
        provenance::write_headers(response.headers_mut(), &answer.meta);
    }
    Ok(response)
}

async fn batch(
    chain: &Chain,
    visitor: &Visitor,
    calls: &[&RawValue],
) -> Result<Response, ApiError> {
    // Without either scope the whole batch is refused, as a single request would be.
    if !visitor.caller.scopes().allows(Scope::ChainsSend) {
        visitor.caller.require(Scope::ChainsRead)?;
    }
    let mut started = Vec::with_capacity(calls.len());
    for raw in calls {
        started.push(one(chain, visitor, raw));
    }
    let mut outcomes = stream::iter(started).buffered(BATCH_CONCURRENCY);
    let mut parts = Vec::with_capacity(calls.len() * 4 + 1);
    let mut size_bytes = 0;
    while let Some(Outcome { id, result }) = outcomes.next().await {
        let Some(id) = id else { continue };
        size_bytes += result.as_ref().map_or(0, |answer| answer.result.len());
        let result = if size_bytes > BATCH_ANSWER_BYTES_MAX {
            let message =
                format!("the answer to this batch is above {BATCH_ANSWER_BYTES_MAX} bytes");
            Err(error(RPC_LIMIT, &message))
        } else {
            result
        };
        parts.push(Bytes::from_static(if parts.is_empty() { b"[" } else { b"," }));
        parts.extend(entry(id, &result));
    }
    if parts.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    parts.push(Bytes::from_static(b"]"));
    Ok(body::json(parts))
}

/// One call of a batch.
async fn one<'a>(chain: &Chain, visitor: &Visitor, raw: &'a RawValue) -> Outcome<'a> {
    let (id, valid) = match read(raw) {
        Ok(read) => read,
        Err(Invalid { id, error }) => return Outcome { id: Some(id), result: Err(error) },
    };
    let result = match visitor.caller.require(scope_of(&valid.method)) {
        Ok(()) => forward(chain, &valid).await,
        Err(refused) => Err(error(RPC_UNAUTHORIZED, &refused.detail)),
    };
    Outcome { id, result }
}

/// Whatever changes a chain begins with `eth_send`; everything else reads.
fn scope_of(method: &str) -> Scope {
    if method.starts_with("eth_send") { Scope::ChainsSend } else { Scope::ChainsRead }
}

async fn forward(chain: &Chain, call: &Valid<'_>) -> Result<Answer, Box<RawValue>> {
    chain.rpc(&call.method, call.params).await.map_err(|error| chain_error(&error))
}

/// Checks a request's form.
fn read(raw: &RawValue) -> Result<(Option<&str>, Valid<'_>), Invalid<'_>> {
    let call: Call<'_> = serde_json::from_str(raw.get())
        .map_err(|error| invalid(None, &format!("not a JSON-RPC request: {error}")))?;
    let id = call.id.map(RawValue::get);
    if id.is_some_and(|id| id.starts_with(['{', '[', 't', 'f'])) {
        return Err(invalid(None, "`id` must be a string, a number or null"));
    }
    if call.jsonrpc.map(RawValue::get) != Some(r#""2.0""#) {
        return Err(invalid(id, "`jsonrpc` must be \"2.0\""));
    }
    let method = call.method.and_then(|method| serde_json::from_str(method.get()).ok());
    let Some(method) = method else {
        return Err(invalid(id, "`method` must be a string"));
    };
    let params = call.params.filter(|params| params.get() != "null");
    if params.is_some_and(|params| !params.get().starts_with(['[', '{'])) {
        return Err(invalid(id, "`params` must be an array"));
    }
    Ok((id, Valid { method, params }))
}

fn invalid<'a>(id: Option<&'a str>, message: &str) -> Invalid<'a> {
    Invalid { id: id.unwrap_or("null"), error: error(RPC_INVALID_REQUEST, message) }
}

/// The entry of one call: the client's id and the node's JSON, both as they came.
fn entry(id: &str, result: &Result<Answer, Box<RawValue>>) -> [Bytes; 3] {
    let (member, value) = match result {
        Ok(answer) => ("result", answer.result.clone()),
        Err(error) => ("error", Bytes::copy_from_slice(error.get().as_bytes())),
    };
    let head = format!(r#"{{"jsonrpc":"2.0","id":{id},"{member}":"#);
    [Bytes::from(head), value, Bytes::from_static(b"}")]
}

/// A failed call as a JSON-RPC error: the node's own as it is, ours by standard codes.
fn chain_error(failed: &ChainError) -> Box<RawValue> {
    let code = match failed {
        ChainError::Node(node) => return node.raw.clone(),
        // ethers recognises this very message and falls back to other methods.
        ChainError::Method(_) => RPC_METHOD,
        ChainError::Invalid(_) => RPC_PARAMS,
        ChainError::NotFound(_) | ChainError::UnknownChain { .. } => RPC_NOT_FOUND,
        ChainError::Unavailable { .. }
        | ChainError::Upstreams { .. }
        | ChainError::Unproved { .. }
        | ChainError::Timeout { .. } => RPC_INTERNAL,
    };
    error(code, &failed.to_string())
}

fn error(code: i64, message: &str) -> Box<RawValue> {
    let text = json!({ "code": code, "message": message }).to_string();
    // `json!` writes valid JSON, so the fallback is never taken.
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[cfg(test)]
mod tests;
