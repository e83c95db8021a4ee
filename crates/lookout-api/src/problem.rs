//! `application/problem+json` (RFC 9457), the body of every answer that is no success.

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::error::ApiError;

/// The media type of a problem.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// What went wrong (RFC 9457).
///
/// Tell problems apart by `code`; `detail` is for people. Answers of `/v1/rpc` carry
/// the JSON-RPC members `jsonrpc`, `id` and `error` as well.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body that `render` writes")]
pub(crate) struct Problem {
    /// A URN of the code.
    #[schema(example = "urn:lookout:problem:unknown_chain")]
    r#type: String,
    /// The code in words.
    #[schema(example = "Unknown chain")]
    title: String,
    /// The HTTP status, repeated.
    #[schema(example = 404, minimum = 400, maximum = 599)]
    status: u16,
    /// What exactly is wrong and what to do about it.
    #[schema(example = "no chain `etherium`; known chains: ethereum, polygon")]
    detail: String,
    /// The path that was called.
    #[schema(example = "/v1/chains/etherium")]
    instance: Option<String>,
    /// Stable name of the problem.
    #[schema(example = "unknown_chain")]
    code: String,
    /// The `x-request-id` of this answer, under which the server logs.
    #[schema(example = "0198c0de-0000-7000-8000-000000000000")]
    request_id: Option<String>,
}

/// Which request a problem belongs to.
#[derive(Default)]
pub(crate) struct Occasion<'a> {
    pub(crate) path: Option<&'a str>,
    pub(crate) request_id: Option<&'a str>,
    /// Whether JSON-RPC clients read the answer.
    pub(crate) rpc: bool,
}

/// The answer as handlers give it. The middleware finds the error in the extensions and renders
/// the body again with the request's id and path.
pub(crate) fn response(error: ApiError) -> Response {
    let mut response = Response::new(Body::from(render(&error, &Occasion::default())));
    *response.status_mut() = error.code.status();
    set_headers(response.headers_mut(), &error);
    response.extensions_mut().insert(error);
    response
}

/// Renders the body again, now that the occasion is known.
pub(crate) fn complete(response: &mut Response, error: &ApiError, occasion: &Occasion<'_>) {
    *response.body_mut() = Body::from(render(error, occasion));
}

fn set_headers(headers: &mut HeaderMap, error: &ApiError) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    if let Some(seconds) = error.retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    if let Some(challenge) = error.challenge {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
}

fn render(error: &ApiError, occasion: &Occasion<'_>) -> String {
    let code = error.code;
    let mut body = Map::new();
    body.insert("type".into(), format!("urn:lookout:problem:{}", code.name()).into());
    body.insert("title".into(), code.title().into());
    body.insert("status".into(), code.status().as_u16().into());
    body.insert("detail".into(), error.detail.as_ref().into());
    if let Some(path) = occasion.path {
        body.insert("instance".into(), path.into());
    }
    body.insert("code".into(), code.name().into());
    if let Some(id) = occasion.request_id {
        body.insert("requestId".into(), id.into());
    }
    body.extend(error.members.clone());
    if occasion.rpc {
        body.insert("jsonrpc".into(), "2.0".into());
        body.entry("id").or_insert(Value::Null);
        let rpc = json!({ "code": code.rpc(), "message": error.detail });
        body.insert("error".into(), rpc);
    }
    Value::Object(body).to_string()
}
