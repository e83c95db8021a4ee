//! The chain as a node sees it whose head stands still at some height.

use std::io;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::behaviour::Behaviour;
use super::serve::ask;
use super::upstream::State;
use crate::anvil::hex;
use crate::rpc::parse_quantity;

/// Blocks behind the head that anvil calls safe; finalized is twice as many.
const SAFE_LAG: u64 = 32;

/// The height that the fake's view ends at; `None` for the whole chain.
pub(super) async fn height(state: &State, behaviours: &[Behaviour]) -> io::Result<Option<u64>> {
    let mut end = None;
    for behaviour in behaviours {
        let lag = match behaviour {
            Behaviour::FrozenHead { height } => {
                end = Some(end.unwrap_or(u64::MAX).min(*height));
                continue;
            }
            Behaviour::Lag { blocks } => *blocks,
            Behaviour::StaleThenFresh { blocks, calls } => {
                if state.calls_since_set.fetch_add(1, Ordering::SeqCst) >= *calls {
                    continue;
                }
                *blocks
            }
            _ => continue,
        };
        let head = state.node.number("eth_blockNumber", json!([])).await;
        let seen = head.map_err(io::Error::other)?.saturating_sub(lag);
        end = Some(end.unwrap_or(u64::MAX).min(seen));
    }
    Ok(end)
}

/// Answers a call as if no block above `height` existed.
pub(super) async fn answer(
    state: &State,
    method: &str,
    mut params: Value,
    height: u64,
) -> io::Result<Result<Value, Value>> {
    let beyond = match method {
        "eth_blockNumber" => return Ok(Ok(json!(hex(height)))),
        "eth_getLogs" => return logs(state, params, height).await,
        "eth_getBlockByNumber"
        | "eth_getBlockReceipts"
        | "eth_getBlockTransactionCountByNumber"
        | "eth_getTransactionByBlockNumberAndIndex"
        | "eth_getUncleCountByBlockNumber"
        | "eth_getUncleByBlockNumberAndIndex" => (0, Ok(Value::Null)),
        "eth_getBalance"
        | "eth_getCode"
        | "eth_getTransactionCount"
        | "eth_call"
        | "eth_estimateGas"
        | "eth_createAccessList"
        | "eth_feeHistory" => (1, Err(unknown_block())),
        "eth_getStorageAt" | "eth_getProof" => (2, Err(unknown_block())),
        _ => {
            let outcome = ask(state, method, params).await?;
            return Ok(outcome.map(|result| without_blocks_above(result, height)));
        }
    };
    let (position, refusal) = beyond;
    let Some(params) = params.as_array_mut() else { return ask(state, method, params).await };
    if params.len() == position {
        params.push(json!("latest"));
    }
    if let Some(block) = params.get_mut(position)
        && above(state, block, height).await?
    {
        return Ok(refusal);
    }
    let outcome = ask(state, method, json!(params)).await?;
    Ok(outcome.map(|result| without_blocks_above(result, height)))
}

async fn logs(state: &State, mut params: Value, height: u64) -> io::Result<Result<Value, Value>> {
    let Some(filter) = params.get_mut(0).and_then(Value::as_object_mut) else {
        return ask(state, "eth_getLogs", params).await;
    };
    if let Some(hash) = filter.get("blockHash") {
        let mut block = json!({"blockHash": hash});
        if above(state, &mut block, height).await? {
            return Ok(Err(unknown_block()));
        }
        return ask(state, "eth_getLogs", params).await;
    }
    let mut end = filter.get("toBlock").cloned().unwrap_or_else(|| json!("latest"));
    if above(state, &mut end, height).await? {
        end = json!(hex(height));
    }
    let mut start = filter.get("fromBlock").cloned().unwrap_or_else(|| json!("latest"));
    if above(state, &mut start, height).await? {
        return Ok(Ok(json!([])));
    }
    filter.insert("fromBlock".into(), start);
    filter.insert("toBlock".into(), end);
    ask(state, "eth_getLogs", params).await
}

/// Whether a block parameter lies above the view; tags are replaced by what they mean in it.
async fn above(state: &State, block: &mut Value, height: u64) -> io::Result<bool> {
    let tag = match block.as_str() {
        Some("latest" | "pending") => Some(height),
        Some("safe") => Some(height.saturating_sub(SAFE_LAG)),
        Some("finalized") => Some(height.saturating_sub(2 * SAFE_LAG)),
        _ => None,
    };
    if let Some(height) = tag {
        *block = json!(hex(height));
        return Ok(false);
    }
    let hash = block.get("blockHash").or(Some(&*block)).filter(|hash| is_hash(hash)).cloned();
    if let Some(hash) = hash {
        let found = ask(state, "eth_getBlockByHash", json!([hash, false])).await?;
        return Ok(found.is_ok_and(|block| is_above(&block["number"], height)));
    }
    Ok(is_above(block.get("blockNumber").unwrap_or(block), height))
}

fn is_hash(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.len() == 66)
}

fn is_above(number: &Value, height: u64) -> bool {
    parse_quantity(number).is_ok_and(|number| number > height)
}

/// Things found by hash: `null` where they belong to a block above the view.
fn without_blocks_above(result: Value, height: u64) -> Value {
    let first = result.get(0).unwrap_or(&result);
    let unseen = is_above(&first["number"], height) || is_above(&first["blockNumber"], height);
    if unseen { Value::Null } else { result }
}

fn unknown_block() -> Value {
    json!({"code": -32000, "message": "header not found"})
}
