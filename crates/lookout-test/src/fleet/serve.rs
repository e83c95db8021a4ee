//! How a fake answers one HTTP request.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};

use super::behaviour::Behaviour;
use super::socket::ResetSwitch;
use super::upstream::State;
use super::{lies, view};

type Body = UnsyncBoxBody<Bytes, io::Error>;

const MEBIBYTE: usize = 1 << 20;
const HTML: &str = "<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>";
const NOT_JSON: &str = "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":";

/// Answers a request as the fake's behaviours want it; an error ends the connection.
pub(super) async fn answer(
    state: &State,
    request: Request<Incoming>,
    switch: &ResetSwitch,
) -> io::Result<Response<Body>> {
    let began = Instant::now();
    let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
    let calls = parse(&body);
    let methods: Vec<String> =
        calls.iter().filter_map(|call| Some(call["method"].as_str()?.to_owned())).collect();
    let behaviours = state.enter(&methods);

    wait(state, &behaviours).await;
    if behaviours.contains(&Behaviour::Silent) {
        std::future::pending::<()>().await;
    }
    if behaviours.contains(&Behaviour::ConnectionReset) {
        switch.pull();
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    let response = match canned(&behaviours, &calls) {
        Some(response) => response,
        None => respond(json_answer(state, &body, &calls, &behaviours).await?, &behaviours),
    };
    slow_down(began.elapsed(), &behaviours).await;
    Ok(response)
}

/// The calls of a body: one, a batch, or none where it is no JSON.
fn parse(body: &Bytes) -> Vec<Value> {
    match serde_json::from_slice(body) {
        Ok(Value::Array(calls)) => calls,
        Ok(call) => vec![call],
        Err(_) => Vec::new(),
    }
}

async fn wait(state: &State, behaviours: &[Behaviour]) {
    for behaviour in behaviours {
        if let Behaviour::Latency { fixed, jitter_max } = behaviour {
            let jitter = jitter_max.mul_f64(state.rng.lock().f64());
            tokio::time::sleep(*fixed + jitter).await;
        }
    }
}

async fn slow_down(took: Duration, behaviours: &[Behaviour]) {
    for behaviour in behaviours {
        if let Behaviour::Slower { factor } = behaviour {
            tokio::time::sleep(took * factor.saturating_sub(1)).await;
        }
    }
}

/// An answer that does not need the node.
fn canned(behaviours: &[Behaviour], calls: &[Value]) -> Option<Response<Body>> {
    behaviours.iter().find_map(|behaviour| match behaviour {
        Behaviour::Status { code, retry_after_seconds } => {
            let mut response = text(*code, "text/plain", "no");
            if let Some(seconds) = retry_after_seconds {
                response.headers_mut().insert(header::RETRY_AFTER, (*seconds).into());
            }
            Some(response)
        }
        Behaviour::Html => Some(text(200, "text/html", HTML)),
        Behaviour::NotJson => Some(text(200, "application/json", NOT_JSON)),
        Behaviour::EmptyResponse => Some(text(200, "application/json", "")),
        Behaviour::OversizedBody { megabytes } => Some(oversized(*megabytes, calls)),
        _ => None,
    })
}

/// The JSON-RPC answer to a body, with every lie that applies.
async fn json_answer(
    state: &State,
    body: &Bytes,
    calls: &[Value],
    behaviours: &[Behaviour],
) -> io::Result<Bytes> {
    if calls.is_empty() || behaviours.iter().all(is_about_time) {
        return forward(state, body.clone()).await;
    }
    let mut answers = Vec::with_capacity(calls.len());
    for call in calls {
        let answer = match answer_call(state, call, behaviours).await? {
            Ok(result) => json!({"jsonrpc": "2.0", "id": call["id"], "result": result}),
            Err(error) => json!({"jsonrpc": "2.0", "id": call["id"], "error": error}),
        };
        answers.push(answer);
    }
    let is_batch = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let whole = if is_batch { Value::Array(answers) } else { answers.remove(0) };
    Ok(Bytes::from(whole.to_string()))
}

fn is_about_time(behaviour: &Behaviour) -> bool {
    matches!(
        behaviour,
        Behaviour::Latency { .. } | Behaviour::Slower { .. } | Behaviour::TruncatedBody
    )
}

/// One call: refused, answered from a shortened view of the chain, or forwarded and falsified.
async fn answer_call(
    state: &State,
    call: &Value,
    behaviours: &[Behaviour],
) -> io::Result<Result<Value, Value>> {
    let method = call["method"].as_str().unwrap_or_default();
    for behaviour in behaviours {
        match behaviour {
            Behaviour::RpcRateLimit => {
                return Ok(Err(json!({"code": -32005, "message": "limit exceeded"})));
            }
            Behaviour::ErrorInside200 => {
                return Ok(Err(json!({"code": -32603, "message": "internal error"})));
            }
            Behaviour::NullResults => return Ok(Ok(Value::Null)),
            _ => {}
        }
    }
    let params = call.get("params").cloned().unwrap_or_else(|| json!([]));
    let height = view::height(state, behaviours).await?;
    let mut outcome = match height {
        None => ask(state, method, params).await?,
        Some(height) => view::answer(state, method, params, height).await?,
    };
    if let Ok(result) = &mut outcome {
        for behaviour in behaviours {
            lies::tell(behaviour, call, result);
        }
    }
    Ok(outcome)
}

/// Asks the node; outside, a node that does not answer is a broken connection.
pub(super) async fn ask(
    state: &State,
    method: &str,
    params: Value,
) -> io::Result<Result<Value, Value>> {
    state.node.outcome(method, params).await.map_err(io::Error::other)
}

async fn forward(state: &State, body: Bytes) -> io::Result<Bytes> {
    let request = state
        .http
        .post(state.node.url())
        .header(header::CONTENT_TYPE, "application/json")
        .body(body);
    let response = request.send().await.map_err(io::Error::other)?;
    response.bytes().await.map_err(io::Error::other)
}

fn respond(answer: Bytes, behaviours: &[Behaviour]) -> Response<Body> {
    if !behaviours.contains(&Behaviour::TruncatedBody) {
        return with_body(200, "application/json", full(answer));
    }
    let length = answer.len();
    let half = answer.slice(..length / 2);
    let broken = Err(io::Error::from(io::ErrorKind::ConnectionAborted));
    let frames = stream::iter([Ok(Frame::data(half)), broken]);
    let mut response =
        with_body(200, "application/json", BodyExt::boxed_unsync(StreamBody::new(frames)));
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response
}

/// A well-formed answer to the first call, of this size, made as it is sent.
fn oversized(megabytes: usize, calls: &[Value]) -> Response<Body> {
    let id = calls.first().map_or(Value::Null, |call| call["id"].clone());
    let start = Bytes::from(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":\"0x"));
    let chunk = Bytes::from(vec![b'0'; MEBIBYTE]);
    let chunks = std::iter::once(start)
        .chain(std::iter::repeat_n(chunk, megabytes))
        .chain(std::iter::once(Bytes::from_static(b"\"}")))
        .map(|chunk| Ok(Frame::data(chunk)));
    let body = StreamBody::new(stream::iter(chunks));
    with_body(200, "application/json", BodyExt::boxed_unsync(body))
}

fn text(status: u16, kind: &'static str, body: &'static str) -> Response<Body> {
    with_body(status, kind, full(Bytes::from_static(body.as_bytes())))
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn with_body(status: u16, kind: &'static str, body: Body) -> Response<Body> {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, kind)
        .body(body)
        .expect("tests set valid statuses")
}
