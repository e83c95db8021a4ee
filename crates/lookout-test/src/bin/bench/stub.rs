//! An upstream whose own time is small and steady: what it does not make up it has learnt before.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lookout_test::Rpc;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

/// What every address holds: 1 ether.
pub(crate) const BALANCE: &str = "\"0xde0b6b3a7640000\"";
/// What every call returns: one word.
const WORD: &str = "\"0x0000000000000000000000000000000000000000000000000000000000000001\"";

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    method: &'a str,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

/// Answers of the node behind, by method and parameters. The node's chain stands still.
struct Stub {
    node: Rpc,
    learnt: Mutex<HashMap<(String, String), Bytes>>,
}

/// Starts a stub in front of a node, on a thread of its own; it ends with the process.
pub(crate) fn start(node_url: &str) -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let node_url = node_url.to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("stub".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let stub = Arc::new(Stub { node: Rpc::new(node_url), learnt: Mutex::default() });
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stub.clone(), stream));
            }
        });
    })?;
    Ok(address)
}

async fn serve(stub: Arc<Stub>, stream: TcpStream) {
    // Without it answers would wait for more to send; a failure shows in the figures.
    drop(stream.set_nodelay(true));
    let service = service_fn(move |request| answer(stub.clone(), request));
    // An ended connection is the client's business.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

async fn answer(
    stub: Arc<Stub>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match stub.reply(request).await {
        Ok(body) => (StatusCode::OK, body),
        Err(error) => {
            let error = json!({"code": -32603, "message": format!("{error:#}")});
            (StatusCode::INTERNAL_SERVER_ERROR, json!({"id": null, "error": error}).to_string())
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

impl Stub {
    async fn reply(&self, request: Request<Incoming>) -> Result<String> {
        let body = request.into_body().collect().await?.to_bytes();
        let call: Call<'_> = serde_json::from_slice(&body).context("not a single call")?;
        let result = match call.method {
            "eth_getBalance" => BALANCE.into(),
            "eth_call" => WORD.into(),
            _ => self.learn(call.method, call.params.map_or("[]", RawValue::get)).await?,
        };
        let result = std::str::from_utf8(&result)?;
        Ok(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, call.id))
    }

    async fn learn(&self, method: &str, params: &str) -> Result<Bytes> {
        let key = (method.to_owned(), params.to_owned());
        if let Some(known) = self.learnt.lock().get(&key) {
            return Ok(known.clone());
        }
        let result = self.node.call(method, serde_json::from_str::<Value>(params)?).await?;
        let result = Bytes::from(result.to_string());
        self.learnt.lock().insert(key, result.clone());
        Ok(result)
    }
}
