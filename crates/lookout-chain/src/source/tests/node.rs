//! Nodes over HTTP that serve a scene, honestly or as told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lookout_types::ChainId;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::scene::Block;
use crate::cache::MemoryCache;
use crate::{Chain, ChainSpec, PoolSettings, Source, UpstreamSpec};

/// How a node answers a call instead of, or besides, the truth.
pub(super) type Tamper = Arc<dyn Fn(&str, &Value, &mut Value) + Send + Sync>;

/// A running node.
pub(super) struct Node {
    url: url::Url,
    calls: Arc<Mutex<BTreeMap<String, usize>>>,
}

/// What a node serves.
#[derive(Clone)]
pub(super) struct Served {
    pub(super) blocks: Vec<Block>,
    /// Changes an answer, which is `{"result": …}` or `{"error": …}`.
    pub(super) tamper: Tamper,
    /// The largest batch that it takes.
    pub(super) batch_max: usize,
}

impl Served {
    pub(super) fn honest(blocks: &[Block]) -> Self {
        Self { blocks: blocks.to_vec(), tamper: Arc::new(|_, _, _| ()), batch_max: usize::MAX }
    }

    pub(super) fn with(
        self,
        tamper: impl Fn(&str, &Value, &mut Value) + Send + Sync + 'static,
    ) -> Self {
        Self { tamper: Arc::new(tamper), ..self }
    }
}

impl Node {
    pub(super) async fn start(served: Served) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let calls = Arc::new(Mutex::new(BTreeMap::new()));
        let counted = calls.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(converse(socket, served.clone(), counted.clone()));
            }
        });
        Self { url, calls }
    }

    pub(super) fn calls(&self, method: &str) -> usize {
        self.calls.lock().get(method).copied().unwrap_or(0)
    }
}

/// A source over these nodes, once each of them is known to be at its head.
pub(super) async fn source(nodes: &[&Node]) -> (Arc<dyn Source>, Arc<Chain>) {
    let settings = PoolSettings {
        poll_interval: Duration::from_millis(50),
        call_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(10),
        response_bytes_max: 1 << 20,
        ..PoolSettings::default()
    };
    over(nodes, settings, ChainId(1)).await
}

pub(super) async fn over(
    nodes: &[&Node],
    settings: PoolSettings,
    id: ChainId,
) -> (Arc<dyn Source>, Arc<Chain>) {
    let upstreams = nodes.iter().enumerate().map(|(i, node)| UpstreamSpec {
        name: format!("u{i}"),
        url: node.url.clone(),
        requests_per_second: None,
    });
    let spec = ChainSpec { name: "test".into(), id, upstreams: upstreams.collect(), settings };
    let chain = Arc::new(Chain::start(spec, Arc::new(MemoryCache::new(1 << 20))));
    let ready = async {
        chain.wait_heads().await.unwrap();
        while chain.upstreams().iter().any(|upstream| upstream.head.is_none()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ready).await.expect("the nodes are followed");
    (chain.source(), chain)
}

fn answer(served: &Served, method: &str, params: &Value) -> Value {
    let block = |wanted: &Value| {
        let text = wanted.as_str().unwrap_or_default();
        let found = served.blocks.iter().find(|block| match text {
            "latest" => block.number == served.blocks.last().unwrap().number,
            text if text.len() == 66 => block.hash == text,
            text => format!("{:#x}", block.number) == text,
        });
        found.cloned()
    };
    let mut answer = match method {
        "eth_chainId" => json!({"result": "0x1"}),
        "eth_getBlockByNumber" | "eth_getBlockByHash" => {
            json!({"result": block(&params[0]).map(|block| block.header)})
        }
        "eth_getBlockReceipts" => {
            json!({"result": block(&params[0]).map(|block| block.receipts)})
        }
        "eth_getLogs" => logs(served, &params[0], block),
        _ => json!({"error": {"code": -32601, "message": "unknown method"}}),
    };
    (served.tamper)(method, params, &mut answer);
    answer
}

fn logs(served: &Served, filter: &Value, block: impl Fn(&Value) -> Option<Block>) -> Value {
    let height = |text: &Value| lookout_types::parse_quantity(text.as_str().unwrap()).unwrap();
    let blocks: Vec<Block> = match &filter["blockHash"] {
        Value::Null => {
            let range = height(&filter["fromBlock"])..=height(&filter["toBlock"]);
            served.blocks.iter().filter(|block| range.contains(&block.number)).cloned().collect()
        }
        hash => match block(hash) {
            Some(block) => vec![block],
            None => return json!({"error": {"code": -32000, "message": "unknown block"}}),
        },
    };
    let any = |wanted: &Value, own: &Value| wanted.as_array().is_none_or(|any| any.contains(own));
    let logs = blocks.into_iter().flat_map(|block| block.logs).filter(|log| {
        any(&filter["address"], &log["address"]) && any(&filter["topics"][0], &log["topics"][0])
    });
    json!({"result": logs.collect::<Vec<_>>()})
}

async fn converse(
    mut socket: TcpStream,
    served: Served,
    calls: Arc<Mutex<BTreeMap<String, usize>>>,
) {
    let mut buffer = Vec::new();
    loop {
        let body = loop {
            if let Some(request) = whole_request(&mut buffer) {
                break request;
            }
            let mut piece = [0; 4096];
            match socket.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(read) => buffer.extend_from_slice(&piece[..read]),
            }
        };
        let one = |call: &Value| {
            let method = call["method"].as_str().unwrap();
            *calls.lock().entry(method.to_owned()).or_default() += 1;
            let mut answer = answer(&served, method, &call["params"]);
            answer["jsonrpc"] = json!("2.0");
            answer["id"] = call["id"].clone();
            answer
        };
        let body = match serde_json::from_slice(&body).unwrap() {
            Value::Array(batch) if batch.len() > served.batch_max => {
                json!({"error": {"code": -32600, "message": "batch too large"}})
            }
            // A batch may be answered in any order.
            Value::Array(batch) => Value::Array(batch.iter().rev().map(one).collect()),
            call => one(&call),
        };
        let body = body.to_string();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        if socket.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Takes one request's body from the buffer, if it is there whole.
fn whole_request(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
    let length: usize =
        head.split("content-length: ").nth(1)?.lines().next()?.trim().parse().ok()?;
    (buffer.len() >= end + length).then(|| buffer.drain(..end + length).skip(end).collect())
}
