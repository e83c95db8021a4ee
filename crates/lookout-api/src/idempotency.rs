//! `Idempotency-Key`: a write that comes again is answered as it was the first time, and not done
//! again.
//!
//! The key is taken in the store before the handler runs and answered after it. The handler runs
//! in a task of its own: a client that goes away and comes back finds the answer, not a key that
//! is taken for good. Only when the server itself dies in between does nobody know whether the
//! write took effect; the key then stays refused, for doing it twice is what it is to prevent.

use std::future::Future;
use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use lookout_store::{Answer, Begun, RequestTicket, Store};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::auth::Caller;
use crate::body;
use crate::error::{ApiError, Code};
use crate::problem::{self, Occasion};
use crate::router::{Access, RouteInfo};
use crate::state::State;

/// The request header.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// On an answer that was given before.
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Longest key, in characters: four UUIDs and their separators.
pub(crate) const KEY_CHARACTERS_MAX: usize = 255;
/// Longest body that is kept, in bytes: answers to writes describe one thing.
const KEPT_BYTES_MAX: u64 = 256 << 10;
/// Headers that are kept with a body.
const KEPT_HEADERS: [HeaderName; 2] = [CONTENT_TYPE, LOCATION];
/// After this many milliseconds without an answer a request is no longer expected to get one.
const UNDER_WAY_MAX_MS: i64 = 60_000;
/// When a client that was too early should come again, in seconds.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Whether the route's writes take a key: all under `/v1` but JSON-RPC, which has ids of its own.
pub(crate) fn is_taken_by(path: &str) -> bool {
    path.starts_with("/v1/") && !path.starts_with("/v1/rpc/")
}

/// The key of a request; `None` when it has none, or is no write.
pub(crate) fn key_of(route: &RouteInfo, request: &Parts) -> Result<Option<String>, ApiError> {
    let writes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    if !route.keyed || !writes.contains(&request.method) || !route.takes(&request.method) {
        return Ok(None);
    }
    let mut values = request.headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| {
        (1..=KEY_CHARACTERS_MAX).contains(&key.len())
            && key.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    });
    match key.filter(|_| values.next().is_none()) {
        Some(key) => Ok(Some(key.to_owned())),
        None => {
            let detail = format!(
                "the Idempotency-Key header is sent once and has from 1 to {KEY_CHARACTERS_MAX} \
                 printable ASCII characters"
            );
            Err(ApiError::new(Code::InvalidRequest, detail))
        }
    }
}

/// A request that has a key.
pub(crate) struct Keyed {
    pub(crate) key: String,
    pub(crate) caller: Caller,
    pub(crate) parts: Parts,
    pub(crate) body: Body,
    pub(crate) request_id: HeaderValue,
}

/// Answers a request by its key: from the store, or by `run`, once.
pub(crate) async fn once<F>(
    state: &State,
    route: &Arc<RouteInfo>,
    keyed: Keyed,
    run: impl FnOnce(Request) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = Response> + Send + 'static,
{
    let Keyed { key, caller, parts, body, request_id } = keyed;
    let bytes_max = state.live().config.body_bytes_max;
    let body = match body::read(body, bytes_max).await {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let hash = hash(route, &caller, &parts, &body);
    let ticket = match state.store.begin_request(caller.tenant(), &key, &hash).await {
        Ok(Begun::New(ticket)) => ticket,
        Ok(Begun::Answered(answer)) => return replay(answer).into_response(),
        Ok(Begun::UnderWay { age_ms }) => return under_way(age_ms).into_response(),
        Ok(Begun::Other) => {
            let detail = "this Idempotency-Key was sent with another request before; a new \
                          request needs a new key";
            return ApiError::new(Code::IdempotencyKeyReused, detail).into_response();
        }
        Err(error) => return ApiError::from(error).into_response(),
    };
    let (store, route) = (state.store.clone(), Arc::clone(route));
    let task = tokio::spawn(async move {
        let path = parts.uri.path().to_owned();
        let response = run(Request::from_parts(parts, Body::from(body))).await;
        let id = request_id.to_str().ok();
        let occasion = Occasion { path: Some(&path), request_id: id, rpc: route.rpc };
        keep(&store, &ticket, response, &occasion).await
    });
    task.await.unwrap_or_else(|error| ApiError::internal(error).into_response())
}

/// Which request this is. Where the handler looks at the caller's scopes itself, the caller is part
/// of it: an answer is not replayed to one who might not have got it.
fn hash(route: &RouteInfo, caller: &Caller, request: &Parts, body: &[u8]) -> [u8; 32] {
    let actor = match route.access {
        Access::Caller => caller.actor().to_string(),
        _ => String::new(),
    };
    let mut hash = Sha256::new();
    for part in [
        request.method.as_str(),
        request.uri.path(),
        request.uri.query().unwrap_or_default(),
        &actor,
    ] {
        // With its length, so that no two requests are written alike.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(body);
    hash.finalize().into()
}

/// Keeps an answer under its key and passes it on.
async fn keep(
    store: &Store,
    ticket: &RequestTicket,
    mut response: Response,
    occasion: &Occasion<'_>,
) -> Response {
    if let Some(error) = response.extensions().get::<ApiError>().cloned() {
        problem::complete(&mut response, &error, occasion);
    }
    let status = response.status();
    let kept = if status.is_server_error() {
        store.forget_request(ticket).await
    } else {
        let (answer, passed_on) = copy(response).await;
        response = passed_on;
        store.keep_answer(ticket, answer).await
    };
    if let Err(error) = kept {
        // The client still gets its answer; only a repeat will be refused.
        tracing::warn!(%error, "an answer could not be kept under its idempotency key");
    }
    response
}

/// The answer as it is kept, without its body where that is secret or long.
async fn copy(response: Response) -> (Answer, Response) {
    let status = response.status().as_u16();
    let secret = response
        .headers()
        .get(CACHE_CONTROL)
        .is_some_and(|value| value.to_str().is_ok_and(|text| text.contains("no-store")));
    let long = response.body().size_hint().exact().is_none_or(|bytes| bytes > KEPT_BYTES_MAX);
    if secret || long {
        return (Answer { status, content: None }, response);
    }
    let (parts, body) = response.into_parts();
    let body: Bytes = match axum::body::to_bytes(body, usize::MAX).await {
        Ok(body) => body,
        Err(error) => {
            let answer = Answer { status, content: None };
            return (answer, ApiError::internal(error).into_response());
        }
    };
    let content = Some((headers_text(&parts.headers), body.to_vec()));
    (Answer { status, content }, Response::from_parts(parts, Body::from(body)))
}

fn headers_text(headers: &HeaderMap) -> String {
    let kept = KEPT_HEADERS.iter().filter_map(|name| {
        let value = headers.get(name)?.to_str().ok()?;
        Some((name.as_str().to_owned(), Value::from(value)))
    });
    Value::Object(kept.collect()).to_string()
}

/// The answer that was given before.
fn replay(answer: Answer) -> Result<Response, ApiError> {
    let Some((headers, body)) = answer.content else {
        let detail = format!(
            "this request was done before and answered with {}; the answer was secret or too long \
             to be kept, and the request is not done again",
            answer.status
        );
        return Err(ApiError::new(Code::IdempotencyKeyInUse, detail));
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(answer.status).map_err(ApiError::internal)?;
    let headers: Map<String, Value> = serde_json::from_str(&headers).map_err(ApiError::internal)?;
    for (name, value) in &headers {
        let name: HeaderName = name.parse().map_err(ApiError::internal)?;
        let value = value.as_str().unwrap_or_default();
        let value = HeaderValue::from_str(value).map_err(ApiError::internal)?;
        response.headers_mut().insert(name, value);
    }
    response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

fn under_way(age_ms: i64) -> ApiError {
    if age_ms < UNDER_WAY_MAX_MS {
        let detail = "the first request with this Idempotency-Key is still under way";
        let mut error = ApiError::new(Code::IdempotencyKeyInUse, detail);
        error.retry_after = Some(RETRY_AFTER_SECONDS);
        return error;
    }
    let detail = format!(
        "the first request with this Idempotency-Key began {} s ago and has no answer; if the \
         server was stopped meanwhile it may or may not have taken effect: look, and send it again \
         with a new key if it has not",
        age_ms / 1_000
    );
    ApiError::new(Code::IdempotencyKeyInUse, detail)
}

#[cfg(test)]
mod tests;
