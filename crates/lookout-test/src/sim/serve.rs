//! The chain as a JSON-RPC node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::chain::{SimBlock, SimChain, SimLog};
use crate::block::{self, Detail, quantity};

/// Blocks below the head that count as final; deeper than any reorg of the tests.
const FINAL_BELOW: u64 = 100;
/// Most blocks of one `eth_getLogs`, as providers have it.
const RANGE_MAX: u64 = 2000;
/// JSON-RPC code of a parameter that makes no sense.
const INVALID_PARAMS: i64 = -32602;

/// When each height was first told as the head.
type Told = Mutex<BTreeMap<u64, Instant>>;

/// A node that serves a simulated chain until it is dropped.
#[derive(Debug)]
pub struct SimNode {
    url: String,
    told: Arc<Told>,
    task: JoinHandle<()>,
}

impl SimNode {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(chain: Arc<SimChain>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port")?;
        let url = format!("http://{}", listener.local_addr()?);
        let told = Arc::<Told>::default();
        let telling = Arc::clone(&told);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (chain, told) = (chain.clone(), Arc::clone(&telling));
                let service = service_fn(move |request| {
                    let (chain, told) = (chain.clone(), Arc::clone(&told));
                    async move { answer(&chain, &told, request).await }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                // A client that goes away ends its connection, and nothing else.
                tokio::spawn(async move { connection.await.unwrap_or_default() });
            }
        });
        Ok(Self { url, told, task })
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// When a client was first told that the head is at this height.
    pub fn told_at(&self, height: u64) -> Option<Instant> {
        self.told.lock().get(&height).copied()
    }
}

impl Drop for SimNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    chain: &SimChain,
    told: &Told,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let reply = match serde_json::from_slice(&body) {
        Ok(Value::Array(calls)) => calls.iter().map(|call| one(chain, told, call)).collect(),
        Ok(call) => one(chain, told, &call),
        Err(_) => {
            json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": "parse error"}})
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(reply.to_string())));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    Ok(response)
}

fn one(chain: &SimChain, told: &Told, call: &Value) -> Value {
    let method = call["method"].as_str().unwrap_or_default();
    if method == "eth_blockNumber" || call["params"][0] == "latest" {
        told.lock().entry(chain.head().number).or_insert_with(Instant::now);
    }
    match result(chain, method, &call["params"]) {
        Ok(result) => json!({"jsonrpc": "2.0", "id": call["id"], "result": result}),
        Err((code, message)) => {
            let error = json!({"code": code, "message": message});
            json!({"jsonrpc": "2.0", "id": call["id"], "error": error})
        }
    }
}

fn result(chain: &SimChain, method: &str, params: &Value) -> Result<Value, (i64, String)> {
    match method {
        "eth_chainId" => Ok(json!(quantity(chain.id))),
        "net_version" => Ok(json!(chain.id.to_string())),
        "eth_blockNumber" => Ok(json!(quantity(chain.head().number))),
        "eth_getBlockByNumber" => {
            let block = number(chain, &params[0])?.and_then(|number| chain.at(number));
            Ok(block.map_or(Value::Null, |block| block_json(&block, &params[1])))
        }
        "eth_getBlockByHash" => {
            let block = hash(&params[0]).and_then(|hash| chain.by_hash(&hash));
            Ok(block.map_or(Value::Null, |block| block_json(&block, &params[1])))
        }
        "eth_getLogs" => logs(chain, &params[0]),
        "eth_getBlockReceipts" => {
            let block = match hash(&params[0]) {
                Some(hash) => chain.by_hash(&hash),
                None => number(chain, &params[0])?.and_then(|number| chain.at(number)),
            };
            Ok(block.map_or(Value::Null, |block| block::receipts_json(&block.body, block.place())))
        }
        "eth_getTransactionReceipt" => Ok(receipt(chain, &params[0])),
        _ => Err((-32601, format!("the method {method} does not exist"))),
    }
}

fn number(chain: &SimChain, tag: &Value) -> Result<Option<u64>, (i64, String)> {
    let head = chain.head().number;
    match tag.as_str() {
        Some("latest" | "pending") => Ok(Some(head)),
        Some("safe" | "finalized") => Ok(Some(head.saturating_sub(FINAL_BELOW))),
        Some("earliest") => Ok(Some(0)),
        Some(text) => {
            let digits = text.strip_prefix("0x").unwrap_or(text);
            let number = u64::from_str_radix(digits, 16);
            number.map(Some).map_err(|_| (INVALID_PARAMS, format!("not a block: {text}")))
        }
        None => Err((INVALID_PARAMS, "no block".to_owned())),
    }
}

fn logs(chain: &SimChain, filter: &Value) -> Result<Value, (i64, String)> {
    // One branch for the whole answer, whatever happens meanwhile.
    let canonical = chain.canonical();
    let blocks: Vec<Arc<SimBlock>> = if let Some(hash) = hash(&filter["blockHash"]) {
        let block = chain.by_hash(&hash).ok_or((-32000, "unknown block".to_owned()))?;
        vec![block]
    } else {
        let from = number(chain, &filter["fromBlock"])?.unwrap_or(0);
        let to = number(chain, &filter["toBlock"])?.unwrap_or(0);
        if to.saturating_sub(from) >= RANGE_MAX {
            return Err((-32005, format!("query exceeds max block range {RANGE_MAX}")));
        }
        let inside = canonical.iter().filter(|block| (from..=to).contains(&block.number));
        inside.cloned().collect()
    };
    let found = blocks.iter().flat_map(|block| {
        let logs = block.body.logs().zip(&block.logs);
        let wanted = logs.filter(|(_, log)| wanted(filter, log));
        wanted.map(|(at, _)| block::log_json(&block.body, block.place(), at))
    });
    Ok(Value::Array(found.collect()))
}

fn wanted(filter: &Value, log: &SimLog) -> bool {
    let among = |wanted: &Value, value: &str| match wanted {
        Value::Null => true,
        Value::Array(options) => {
            options.is_empty()
                || options.iter().any(|o| o.as_str().is_some_and(|o| o.eq_ignore_ascii_case(value)))
        }
        Value::String(only) => only.eq_ignore_ascii_case(value),
        _ => false,
    };
    let topics = log.topics();
    // A log with fewer topics than the filter has positions is no answer to it.
    let position = |i: usize| match topics.get(i) {
        Some(topic) => among(&filter["topics"][i], &hex(topic)),
        None => filter["topics"].get(i).is_none(),
    };
    among(&filter["address"], &hex(&log.token)) && (0..3).all(position)
}

/// A block of the served branch has the receipt, if any has: on another one the transaction may be too.
fn receipt(chain: &SimChain, asked: &Value) -> Value {
    let Some(asked) = hash(asked) else { return Value::Null };
    let found = chain.canonical().into_iter().rev().find_map(|block| {
        let at = block.body.transactions.iter().position(|sealed| sealed.hash == asked)?;
        Some(block::receipt_json(&block.body, block.place(), at))
    });
    found.unwrap_or(Value::Null)
}

fn block_json(block: &SimBlock, full: &Value) -> Value {
    let detail = if full == &Value::Bool(true) { Detail::Objects } else { Detail::Hashes };
    let transactions = block::transactions_json(&block.body, block.place(), detail);
    block::header_json(&block.header, block.hash, transactions)
}

fn hash(value: &Value) -> Option<[u8; 32]> {
    const_hex::decode_to_array(value.as_str()?).ok()
}

fn hex(bytes: &[u8]) -> String {
    const_hex::encode_prefixed(bytes)
}
