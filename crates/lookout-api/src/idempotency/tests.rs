//! Idempotency keys over HTTP: replays, refusals, and what is never done twice.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::routing::{delete, post};
use http::Request as HttpRequest;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tower::ServiceExt;

use super::*;
use crate::middleware::Front;
use crate::testing::{Got, TestApi, config};

const LOCAL: [(&str, &str); 1] = [("host", "localhost")];

async fn send(api: &TestApi, method: Method, path: &str, key: &str, body: &Value) -> Got {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    api.call(method, path, &[("idempotency-key", key)], &body).await
}

async fn make(api: &TestApi, key: &str, name: &str) -> Got {
    let job = json!({ "name": name, "kind": "count", "schedule": "@daily" });
    send(api, Method::POST, "/v1/jobs", key, &job).await
}

fn replayed(got: &Got) -> bool {
    got.header("idempotency-replayed") == "true"
}

#[tokio::test]
async fn a_repeated_write_is_answered_as_before_and_not_done_again() {
    let api = TestApi::start(config()).await;
    let first = make(&api, "k1", "a").await;
    assert_eq!((first.status.as_u16(), replayed(&first)), (201, false), "{}", first.text);
    api.clock.advance(60_000);
    let again = make(&api, "k1", "a").await;
    assert_eq!((again.status.as_u16(), replayed(&again)), (201, true));
    assert_eq!(again.text, first.text);
    for name in ["content-type", "location"] {
        assert_eq!(again.header(name), first.header(name), "{name}");
    }
    // Without the key, or with another, it is another request.
    let job = json!({ "name": "a", "kind": "count", "schedule": "@daily" });
    api.call(Method::POST, "/v1/jobs", &[], &job.to_string()).await.problem(409, "conflict");
    let refused = make(&api, "k2", "a").await;
    refused.problem(409, "conflict");
    // A refusal is an answer too: the same one, also after what it was for is gone.
    send(&api, Method::DELETE, "/v1/jobs/a", "k3", &Value::Null).await;
    let again = make(&api, "k2", "a").await;
    assert!(replayed(&again));
    assert_eq!(again.text, refused.text);
    let gone = send(&api, Method::DELETE, "/v1/jobs/a", "k3", &Value::Null).await;
    assert_eq!((gone.status.as_u16(), replayed(&gone), gone.text.as_str()), (204, true, ""));
}

#[tokio::test]
async fn a_key_belongs_to_one_request_of_one_tenant() {
    let api = TestApi::start(config()).await;
    assert_eq!(make(&api, "k", "a").await.status, 201);
    let job = json!({ "name": "a", "kind": "count", "schedule": "@daily" });
    for (method, path, body) in [
        (Method::POST, "/v1/jobs", json!({ "name": "b" })),
        (Method::POST, "/v1/jobs/a/pause", job.clone()),
        (Method::PUT, "/v1/jobs/a", job.clone()),
        (Method::DELETE, "/v1/jobs/a", Value::Null),
    ] {
        let got = send(&api, method, path, "k", &body).await;
        assert!(got.problem(422, "idempotency_key_reused").contains("a new key"), "{path}");
    }
    assert_eq!(make(&api, "k", "a").await.status, 201);
    let theirs = api.key("other", "*").await;
    let headers = [("idempotency-key", "k"), ("x-api-key", theirs.as_str())];
    let got = api.call(Method::POST, "/v1/jobs", &headers, &job.to_string()).await;
    assert_eq!((got.status.as_u16(), replayed(&got)), (201, false));
    // Of one tenant, but another caller, who might not have got the answer.
    let reader = api.key("other", "jobs:read").await;
    let headers = [("idempotency-key", "k"), ("x-api-key", reader.as_str())];
    let got = api.call(Method::POST, "/v1/jobs", &headers, &job.to_string()).await;
    got.problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn wrong_keys_are_refused_and_reads_have_none() {
    let api = TestApi::start(config()).await;
    let long = "k".repeat(256);
    for key in ["", long.as_str(), "a\tb", "é"] {
        let got = make(&api, key, "a").await;
        assert!(got.problem(400, "invalid_request").contains("1 to 255 printable"), "{key:?}");
    }
    let twice = [("idempotency-key", "a"), ("idempotency-key", "b")];
    let got = api.call(Method::POST, "/v1/jobs", &twice, "{}").await;
    got.problem(400, "invalid_request");
    assert_eq!(make(&api, &"k".repeat(255), "a").await.status, 201);
    for (method, path) in [(Method::GET, "/v1/jobs"), (Method::HEAD, "/v1/jobs")] {
        assert_eq!(send(&api, method, path, &long, &Value::Null).await.status, 200);
    }
    // JSON-RPC has ids of its own.
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "web3_nothing" });
    for _ in 0..2 {
        let got = send(&api, Method::POST, "/v1/rpc/ethereum", "k", &call).await;
        assert_eq!((got.status.as_u16(), replayed(&got)), (200, false));
    }
}

#[tokio::test]
async fn secrets_are_not_kept_but_not_given_twice_either() {
    let api = TestApi::start(config()).await;
    let wanted = json!({ "name": "x", "scopes": ["*"] });
    let got = send(&api, Method::POST, "/v1/keys", "k", &wanted).await;
    assert_eq!(got.status, 201, "{}", got.text);
    let made = got.json()["key"].as_str().unwrap().to_owned();
    let headers = [("idempotency-key", "k2"), ("x-api-key", made.as_str())];
    for status in [201, 409] {
        let body = wanted.to_string();
        let got = api.call(Method::POST, "/v1/keys", &headers, &body).await;
        assert_eq!(got.status, status, "{}", got.text);
        if status == 409 {
            let detail = got.problem(409, "idempotency_key_in_use");
            assert!(detail.contains("answered with 201") && detail.contains("secret"), "{detail}");
        }
    }
    let keys = api.call(Method::GET, "/v1/keys", &headers[1..], "").await.json();
    assert_eq!(keys["items"].as_array().unwrap().len(), 2);
}

/// A route of the test's own with the middleware around it.
struct Rig {
    api: TestApi,
    router: axum::Router,
}

impl Rig {
    async fn new(router: axum::routing::MethodRouter) -> Self {
        let api = TestApi::start(config()).await;
        let front = Front { state: api.api.state.clone(), route: Arc::new(Self::route()) };
        let router = axum::Router::new().route("/v1/test", router.layer(front));
        Self { api, router }
    }

    fn route() -> RouteInfo {
        let mut route = RouteInfo::new("/v1/test", Access::Scope(lookout_store::Scope::JobsWrite));
        route.operations =
            [Method::POST, Method::DELETE].map(|method| (method, BTreeSet::new())).into();
        route
    }

    async fn call(&self, method: Method, key: &str) -> Got {
        let mut request = HttpRequest::builder().method(method).uri("/v1/test");
        for (name, value) in LOCAL.into_iter().chain([("idempotency-key", key)]) {
            request = request.header(name, value);
        }
        let response =
            self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Got { status: parts.status, headers: parts.headers, text }
    }
}

static DONE: [AtomicUsize; 4] = [const { AtomicUsize::new(0) }; 4];

#[tokio::test]
async fn failures_of_the_server_are_not_kept() {
    let rig = Rig::new(post(|| async {
        match DONE[0].fetch_add(1, Ordering::SeqCst) {
            0 => ApiError::internal("by chance").into_response(),
            1 => panic!("by chance"),
            _ => StatusCode::CREATED.into_response(),
        }
    }))
    .await;
    rig.call(Method::POST, "k").await.problem(500, "internal");
    rig.call(Method::POST, "k").await.problem(500, "internal");
    for again in [false, true] {
        let got = rig.call(Method::POST, "k").await;
        assert_eq!((got.status.as_u16(), replayed(&got)), (201, again));
    }
    assert_eq!(DONE[0].load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn long_answers_are_not_kept_and_not_made_twice() {
    let rig = Rig::new(delete(|| async {
        DONE[1].fetch_add(1, Ordering::SeqCst);
        "x".repeat(300_000)
    }))
    .await;
    assert_eq!(rig.call(Method::DELETE, "k").await.text.len(), 300_000);
    let detail = rig.call(Method::DELETE, "k").await.problem(409, "idempotency_key_in_use");
    assert!(detail.contains("too long"), "{detail}");
    assert_eq!(DONE[1].load(Ordering::SeqCst), 1);
}

static GATE: Semaphore = Semaphore::const_new(0);
static ENTERED: Semaphore = Semaphore::const_new(0);

#[tokio::test]
async fn of_many_at_once_one_is_done_even_if_its_client_leaves() {
    let rig = Rig::new(post(|| async {
        ENTERED.add_permits(1);
        GATE.acquire().await.unwrap().forget();
        DONE[2].fetch_add(1, Ordering::SeqCst).to_string()
    }))
    .await;
    let rig = Arc::new(rig);
    let mut first = tokio::spawn({
        let rig = Arc::clone(&rig);
        async move { rig.call(Method::POST, "k").await }
    });
    tokio::select! {
        entered = ENTERED.acquire() => entered.unwrap().forget(),
        early = &mut first => panic!("answered without the handler: {}", early.unwrap().text),
    }
    let mut others = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let rig = Arc::clone(&rig);
        others.spawn(async move { rig.call(Method::POST, "k").await });
    }
    for got in others.join_all().await {
        got.problem(409, "idempotency_key_in_use");
        assert_eq!(got.header("retry-after"), "1");
    }
    // The client goes away; the work goes on and its answer is there for the next try.
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    GATE.add_permits(1);
    let got = loop {
        let got = rig.call(Method::POST, "k").await;
        if got.status != 409 {
            break got;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((got.text.as_str(), replayed(&got)), ("0", true));
    assert_eq!(DONE[2].load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_request_that_a_crash_cut_off_is_not_done_again() {
    let rig = Rig::new(post(|| async {
        DONE[3].fetch_add(1, Ordering::SeqCst);
    }))
    .await;
    let mut parts = HttpRequest::post("/v1/test").body(()).unwrap().into_parts().0;
    parts.headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_static("k"));
    let hash = hash(&Rig::route(), &Caller::Open, &parts, b"");
    // As left behind by a process that died between the key and the answer.
    rig.api.store.begin_request("default", "k", &hash).await.unwrap();
    let early = rig.call(Method::POST, "k").await;
    early.problem(409, "idempotency_key_in_use");
    assert_eq!(early.header("retry-after"), "1");
    rig.api.clock.advance(UNDER_WAY_MAX_MS);
    let late = rig.call(Method::POST, "k").await;
    assert!(late.problem(409, "idempotency_key_in_use").contains("may or may not have taken"));
    assert_eq!(late.header("retry-after"), "");
    assert_eq!(DONE[3].load(Ordering::SeqCst), 0);
    rig.api.clock.advance(lookout_store::IDEMPOTENCY_MAX_AGE_MS);
    assert_eq!(rig.call(Method::POST, "k").await.status, 200);
    assert_eq!(DONE[3].load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn nothing_is_done_while_the_store_cannot_be_asked() {
    async fn handler() {
        panic!("done without a key");
    }
    let rig = Rig::new(post(handler)).await;
    // The caller is known from before.
    rig.api.store.has_keys().await.unwrap();
    rig.api.store.close().await;
    rig.call(Method::POST, "k").await.problem(503, "unavailable");
}

#[test]
fn every_write_is_documented_with_its_key() {
    let document: Value = serde_json::from_str(&crate::openapi_json()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let documented = parameters.into_iter().any(|p| p["name"] == "Idempotency-Key");
            let writes = ["post", "put", "patch", "delete"].contains(&method.as_str());
            assert_eq!(documented, writes && is_taken_by(path), "{method} {path}");
            if documented {
                let responses = &operation["responses"];
                assert!(responses["409"].is_object() && responses["422"].is_object(), "{path}");
            }
        }
    }
}
