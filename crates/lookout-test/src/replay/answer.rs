//! JSON-RPC in, JSON-RPC out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::chain::Chain;
use super::filter::{Filter, Wanted};
use crate::block::Detail;

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

/// An error's code and message.
type Refusal = (i64, &'static str);

const INVALID: Refusal = (-32602, "invalid parameters");

/// The answer to a body: one call or a batch.
pub(super) fn answer(chain: &Chain, body: &[u8], counts: &Mutex<BTreeMap<String, u64>>) -> Vec<u8> {
    let is_batch = body.trim_ascii_start().first() == Some(&b'[');
    let calls = if is_batch {
        serde_json::from_slice::<Vec<Call<'_>>>(body)
    } else {
        serde_json::from_slice::<Call<'_>>(body).map(|call| vec![call])
    };
    let Ok(calls) = calls else {
        return br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"parse error"}}"#
            .to_vec();
    };
    let mut out = Vec::new();
    if is_batch {
        out.push(b'[');
    }
    for (at, call) in calls.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        *counts.lock().entry(call.method.clone().into_owned()).or_default() += 1;
        write_answer(chain, call, &mut out);
    }
    if is_batch {
        out.push(b']');
    }
    out
}

fn write_answer(chain: &Chain, call: &Call<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    out.extend_from_slice(call.id.get().as_bytes());
    let opened = out.len();
    out.extend_from_slice(b",\"result\":");
    if let Err((code, message)) = write_result(chain, call, out) {
        out.truncate(opened);
        let error = format!(",\"error\":{{\"code\":{code},\"message\":\"{message}\"}}");
        out.extend_from_slice(error.as_bytes());
    }
    out.push(b'}');
    debug_assert!(out.len() > start);
}

fn write_result(chain: &Chain, call: &Call<'_>, out: &mut Vec<u8>) -> Result<(), Refusal> {
    let params = call.params.map_or("[]", RawValue::get);
    let quantity = |number: u64| format!("\"{number:#x}\"").into_bytes();
    match &*call.method {
        "eth_chainId" => out.extend(quantity(chain.id)),
        "net_version" => out.extend(format!("\"{}\"", chain.id).into_bytes()),
        "eth_blockNumber" => out.extend(quantity(chain.head())),
        "eth_syncing" => out.extend_from_slice(b"false"),
        "web3_clientVersion" => out.extend_from_slice(b"\"replay\""),
        "eth_getBlockByNumber" => {
            let (block, full): (Cow<'_, str>, bool) = parse(params)?;
            write_block(chain, height(chain, &block)?, full, out);
        }
        "eth_getBlockByHash" => {
            let (hash, full): (Cow<'_, str>, bool) = parse(params)?;
            let hash = const_hex::decode_to_array(&*hash).map_err(|_| INVALID)?;
            write_block(chain, chain.height_of(hash), full, out);
        }
        "eth_getBlockReceipts" => {
            let (block,): (Cow<'_, str>,) = parse(params)?;
            write_receipts(chain, &block, out)?;
        }
        "eth_getLogs" => {
            let (filter,): (Filter<'_>,) = parse(params)?;
            let wanted = filter.wanted().ok_or(INVALID)?;
            write_logs(chain, blocks(chain, &filter)?, &wanted, out);
        }
        _ => return Err((-32601, "the method does not exist or is not replayed")),
    }
    Ok(())
}

fn parse<'a, T: Deserialize<'a>>(params: &'a str) -> Result<T, Refusal> {
    serde_json::from_str(params).map_err(|_| INVALID)
}

fn write_block(chain: &Chain, height: Option<u64>, full: bool, out: &mut Vec<u8>) {
    let detail = if full { Detail::Objects } else { Detail::Hashes };
    match height {
        Some(height) => chain.write_block(height, detail, out),
        None => out.extend_from_slice(b"null"),
    }
}

fn write_receipts(chain: &Chain, block: &str, out: &mut Vec<u8>) -> Result<(), Refusal> {
    let height = match const_hex::decode_to_array(block) {
        Ok(hash) => chain.height_of(hash),
        Err(_) => height(chain, block)?,
    };
    match height {
        Some(height) => chain.write_receipts(height, out),
        None => out.extend_from_slice(b"null"),
    }
    Ok(())
}

fn write_logs(chain: &Chain, blocks: RangeInclusive<u64>, wanted: &Wanted, out: &mut Vec<u8>) {
    let bytes: usize = match wanted {
        // Room for everything at once: growing a buffer of megabytes costs as much as filling it.
        Wanted { addresses: None, .. } => blocks.clone().map(|h| chain.logs_bytes(h)).sum(),
        Wanted { .. } => blocks.clone().take(1).map(|h| chain.logs_bytes(h)).sum(),
    };
    out.reserve(bytes);
    out.push(b'[');
    for height in blocks {
        chain.write_logs(height, wanted, out);
    }
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.push(b']');
}

/// The blocks that a filter is about, cut at the head.
fn blocks(chain: &Chain, filter: &Filter<'_>) -> Result<RangeInclusive<u64>, Refusal> {
    if let Some(hash) = &filter.block_hash {
        let hash = const_hex::decode_to_array(&**hash).map_err(|_| INVALID)?;
        let height = chain.height_of(hash).ok_or((-32000, "unknown block"))?;
        return Ok(height..=height);
    }
    let end = |text: &Option<Cow<'_, str>>| match text {
        Some(text) => number(chain, text),
        None => Ok(chain.head()),
    };
    Ok(end(&filter.from_block)?..=end(&filter.to_block)?.min(chain.head()))
}

/// The height of a block that exists.
fn height(chain: &Chain, block: &str) -> Result<Option<u64>, Refusal> {
    Ok(Some(number(chain, block)?).filter(|height| *height <= chain.head()))
}

fn number(chain: &Chain, block: &str) -> Result<u64, Refusal> {
    match block {
        "latest" | "safe" | "finalized" | "pending" => Ok(chain.head()),
        "earliest" => Ok(0),
        _ => {
            let digits = block.strip_prefix("0x").ok_or(INVALID)?;
            u64::from_str_radix(digits, 16).map_err(|_| INVALID)
        }
    }
}
