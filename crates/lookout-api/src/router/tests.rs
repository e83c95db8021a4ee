//! The whole router, called in process.

use std::collections::BTreeSet;
use std::path::Path;

use lookout_store::Scopes;
use serde_json::Value;

use super::*;
use crate::ApiConfig;
use crate::testing::{TestApi, config};

fn document() -> Value {
    serde_json::from_str(&crate::openapi_json()).unwrap()
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems() {
    let api = TestApi::start(config()).await;
    let detail = api.get("/v2/anything?x=1").await.problem(404, "unknown_route");
    assert!(detail.contains("/v2/anything"));
    let got = api.call(Method::PUT, "/v1/keys", &[], "").await;
    got.problem(405, "method_not_allowed");
    let allow: BTreeSet<&str> = got.header("allow").split(',').collect();
    assert_eq!(allow, BTreeSet::from(["GET", "HEAD", "POST"]));
    let got = api.call(Method::OPTIONS, "/block/number", &[], "").await;
    assert_eq!(got.status, 204);
    assert_eq!(got.header("allow"), "GET,HEAD");
    api.get("/v1/chains/%ff").await.problem(400, "invalid_path");
}

#[tokio::test]
async fn unknown_query_parameters_are_named_with_the_nearest() {
    let api = TestApi::start(config()).await;
    let address = "0xc94770007dda54cF92009BFF0dE90c06F603a09f";
    let got = api.get(&format!("/v1/chains/1/addresses/{address}/balance?blok=1")).await;
    assert!(got.problem(400, "unknown_parameter").contains("did you mean `block`?"));
    let got = api.get("/v1/keys?zzzzzzzzz").await;
    assert!(got.problem(400, "unknown_parameter").contains("takes: cursor, limit"));
    for path in ["/block/number?a=1", "/healthz?a=1", "/v1/chains?limit=1", "/block/1?&b"] {
        let detail = api.get(path).await.problem(400, "unknown_parameter");
        assert!(detail.contains("takes none"), "{path}: {detail}");
    }
    let got = api.get("/v1/keys?limit=5&limit=6").await;
    got.problem(400, "invalid_parameter");
    let got = api.get(&format!("/v1/chains/1/addresses/{address}/balance?verify=hard")).await;
    assert!(got.problem(400, "invalid_parameter").contains("`standard`, `quorum`, `proof`"));
    assert_eq!(api.get("/v1/keys?").await.status, 200);
}

#[tokio::test]
async fn a_url_above_the_limit_is_refused() {
    let api = TestApi::start(config()).await;
    let path = format!("/v1/keys?cursor={}", "a".repeat(9000));
    assert!(api.get(&path).await.problem(414, "url_too_long").contains("8192"));
}

#[tokio::test]
async fn chains_are_found_by_name_id_and_caip_2() {
    let api = TestApi::start(config()).await;
    for name in ["polygon", "137", "eip155:137", "eip155%3A137"] {
        let got = api.get(&format!("/v1/chains/{name}")).await;
        assert_eq!(got.status, 200, "{}", got.text);
        let body = got.json();
        assert_eq!((&body["name"], &body["caip2"]), (&"polygon".into(), &"eip155:137".into()));
        assert_eq!(body["head"], Value::Null);
        assert_eq!(body["upstreams"]["total"], 1);
    }
    for name in ["etherium", "2", "bip122:000000000019d6689c085ae165831e93"] {
        let got = api.get(&format!("/v1/chains/{name}/head")).await;
        let detail = got.problem(404, "unknown_chain");
        assert!(detail.contains("ethereum") && detail.contains("polygon"), "{detail}");
    }
    let items = api.get("/v1/chains").await.json();
    assert_eq!(items["items"].as_array().unwrap().len(), 2);
    assert_eq!(items["next"], Value::Null);
}

#[tokio::test]
async fn upstreams_are_shown_without_their_paths() {
    let api = TestApi::start(config()).await;
    let body = api.get("/v1/chains/ethereum/upstreams").await.json();
    assert_eq!(body["items"][0]["name"], "nobody");
    assert_eq!(body["items"][0]["endpoint"], "http://127.0.0.1:9");
}

#[tokio::test]
async fn unavailable_chains_are_503_under_v1_and_502_on_compatible_routes() {
    let api = TestApi::start(config()).await;
    for path in ["/v1/chains/ethereum/head", "/v1/chains/ethereum/blocks/latest"] {
        let got = api.get(path).await;
        assert!(matches!(got.status.as_u16(), 503 | 504), "{}", got.text);
        if got.status == 503 {
            assert!(!got.header("retry-after").is_empty());
        }
    }
    let balance = "/address/balance/0xc94770007dda54cF92009BFF0dE90c06F603a09f";
    for path in ["/block/number", "/block/1", balance] {
        api.get(path).await.problem(502, "upstream_failed");
    }
}

#[tokio::test]
async fn probes_answer_whatever_else_is_wrong() {
    let limits = crate::Limits { per_key_per_second: 1, per_address_per_second: 1, burst: 1 };
    let api = TestApi::start(ApiConfig { limits, ..config() }).await;
    let foreign = [("host", "evil.example"), ("authorization", "Bearer lk_wrong")];
    for _ in 0..5 {
        let got = api.call(Method::GET, "/healthz", &foreign, "").await;
        assert_eq!((got.status.as_u16(), got.text.as_str()), (200, r#"{"status":"ok"}"#));
        assert_eq!(got.header("ratelimit-limit"), "");
    }
    let got = api.get("/readyz").await;
    assert!(got.problem(503, "unavailable").contains("no chain has a head"));
    assert_eq!(got.json()["store"]["status"], "ok");
    assert_eq!(got.json()["chains"].as_array().unwrap().len(), 2);
    let got = api.get("/metrics").await;
    assert_eq!(
        (got.status.as_u16(), got.header("content-type")),
        (200, "text/plain; version=0.0.4; charset=utf-8")
    );
}

#[tokio::test]
async fn limits_are_told_and_enforced_per_address_behind_trusted_proxies_only() {
    let limits = crate::Limits { per_key_per_second: 0, per_address_per_second: 1, burst: 2 };
    let trusted_proxies = vec!["127.0.0.0/8".to_owned()];
    let api = TestApi::start(ApiConfig { limits, trusted_proxies, ..config() }).await;
    let from = |forwarded: &'static str| {
        let headers = [("x-forwarded-for", forwarded)];
        let api = &api;
        async move { api.call(Method::GET, "/v1/chains", &headers, "").await }
    };
    let got = from("198.51.100.1").await;
    assert_eq!(got.status, 200);
    assert_eq!((got.header("ratelimit-limit"), got.header("ratelimit-remaining")), ("2", "1"));
    assert_eq!(got.header("ratelimit-reset"), "1");
    assert_eq!(from("198.51.100.1").await.status, 200);
    // What the client itself wrote in front does not make it another one.
    let got = from("203.0.113.7, 198.51.100.1").await;
    got.problem(429, "rate_limited");
    assert_eq!(got.header("retry-after"), "1");
    assert_eq!(got.header("ratelimit-remaining"), "0");
    // A trusted hop in between is skipped.
    from("198.51.100.1, 127.0.0.5").await.problem(429, "rate_limited");
    assert_eq!(from("198.51.100.2").await.status, 200);
    api.api.reload(ApiConfig { limits, ..config() });
    assert_eq!(from("198.51.100.3").await.status, 200);
    assert_eq!(from("198.51.100.4").await.status, 200);
    from("198.51.100.5").await.problem(429, "rate_limited");
}

#[tokio::test]
async fn without_keys_only_this_machine_is_served_and_the_first_key_closes_the_door() {
    let api = TestApi::start(config()).await;
    assert_eq!(api.get("/v1/keys").await.status, 200);
    let rebound = [("host", "evil.example:8000")];
    let got = api.call(Method::GET, "/v1/keys", &rebound, "").await;
    assert!(got.problem(421, "host_not_loopback").contains("evil.example"));
    let page = [("host", "localhost:8000"), ("origin", "https://evil.example")];
    let got = api.call(Method::POST, "/v1/keys", &page, "{}").await;
    got.problem(403, "foreign_origin");
    let wrong = [("x-api-key", "lk_wrong")];
    api.call(Method::GET, "/v1/keys", &wrong, "").await.problem(401, "unauthenticated");

    let key = api.key("default", "keys:read").await;
    let got = api.get("/v1/keys").await;
    got.problem(401, "unauthenticated");
    assert_eq!(got.header("www-authenticate"), r#"Bearer realm="lookout""#);
    let bearer = format!("Bearer {key}");
    // With a key, the host is the proxy's business.
    let headers = [("authorization", bearer.as_str()), ("host", "api.example")];
    assert_eq!(api.call(Method::GET, "/v1/keys", &headers, "").await.status, 200);
    let got = api.call(Method::GET, "/v1/chains", &headers, "").await;
    assert!(got.problem(403, "missing_scope").contains("`chains:read`"));
    assert!(got.header("www-authenticate").contains("insufficient_scope"));
}

#[tokio::test]
async fn anonymous_callers_get_exactly_their_scopes() {
    let anonymous = Scopes::from(Scope::ChainsRead);
    let api = TestApi::start(ApiConfig { anonymous, ..config() }).await;
    let public = [("host", "api.example")];
    assert_eq!(api.call(Method::GET, "/v1/chains", &public, "").await.status, 200);
    api.call(Method::GET, "/v1/keys", &public, "").await.problem(401, "unauthenticated");
    let wrong = [("x-api-key", "lk_wrong")];
    api.call(Method::GET, "/v1/chains", &wrong, "").await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn browsers_get_cors_and_compression_when_they_ask() {
    let cors_origins = vec!["https://app.example".to_owned()];
    let api = TestApi::start(ApiConfig { cors_origins, ..config() }).await;
    let origin = ("origin", "https://app.example");
    let preflight = [origin, ("access-control-request-method", "POST")];
    let got = api.call(Method::OPTIONS, "/v1/rpc/1", &preflight, "").await;
    assert_eq!((got.status.as_u16(), got.header("access-control-allow-origin")), (200, origin.1));
    assert!(got.header("access-control-allow-headers").contains("x-api-key"));
    let got = api.call(Method::GET, "/v1/chains/nope", &[origin], "").await;
    assert_eq!((got.status.as_u16(), got.header("access-control-allow-origin")), (404, origin.1));
    let other = [("origin", "https://other.example"), ("host", "localhost")];
    let got = api.call(Method::GET, "/healthz", &other, "").await;
    assert_eq!(got.header("access-control-allow-origin"), "");

    let gzip = Request::builder().uri("/openapi.json").header("accept-encoding", "gzip");
    let gzip = gzip.body(axum::body::Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(api.api.router(), gzip).await.unwrap();
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let small = [("accept-encoding", "gzip")];
    let got = api.call(Method::GET, "/healthz", &small, "").await;
    assert_eq!(got.header("content-encoding"), "");

    let plain = TestApi::start(config()).await;
    let got = plain.call(Method::OPTIONS, "/healthz", &preflight, "").await;
    assert_eq!((got.status.as_u16(), got.header("access-control-allow-origin")), (204, ""));
}

#[tokio::test]
async fn request_ids_come_back_and_head_has_no_body() {
    let api = TestApi::start(config()).await;
    let got = api.call(Method::GET, "/healthz", &[("x-request-id", "abc-1")], "").await;
    assert_eq!(got.header("x-request-id"), "abc-1");
    let got = api.call(Method::HEAD, "/healthz", &[], "").await;
    assert_eq!((got.status.as_u16(), got.text.as_str()), (200, ""));
    assert_eq!(got.header("content-length"), "15");
    assert_eq!(got.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn pages_come_from_the_binary() {
    let api = TestApi::start(config()).await;
    let got = api.get("/").await;
    assert!(got.text.contains("<title>Lookout</title>"));
    assert!(got.header("content-security-policy").starts_with("default-src 'none'"));
    for (path, kind) in [
        ("/assets/style.css", "text/css; charset=utf-8"),
        ("/assets/script.js", "text/javascript; charset=utf-8"),
        ("/docs/", "text/html"),
        ("/docs/swagger-initializer.js", "text/javascript"),
        ("/openapi.json", "application/json"),
    ] {
        let got = api.get(path).await;
        assert_eq!((got.status.as_u16(), got.header("content-type")), (200, kind), "{path}");
    }
    let got = api.get("/docs").await;
    assert_eq!((got.status.as_u16(), got.header("location")), (308, "/docs/"));
    api.get("/docs/nothing.js").await.problem(404, "not_found");
    api.get("/assets/nothing.js").await.problem(404, "not_found");
    let got = api.get("/docs/swagger-initializer.js").await;
    assert!(got.text.contains("/openapi.json"));
}

#[tokio::test]
async fn every_documented_route_is_served_by_its_methods_and_no_other() {
    let api = TestApi::start(config()).await;
    let document = document();
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 66, "a route was added or removed: update docs/api.md and this count");
    for (path, item) in paths {
        let url = path.replace("{chain}", "ethereum").replace("{number}", "x");
        let url = url.replace("{address}", "x").replace("{block}", "x").replace("{hash}", "x");
        let url = url.replace("{id}", "x").replace("{file}", "x").replace("{name}", "x");
        // A stream would have no end.
        let url = url.replace("/v1/stream", "/v1/stream?topics=x");
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
            let got = api.call(method.clone(), &url, &[], "").await;
            let code = serde_json::from_str::<Value>(&got.text).unwrap_or_default()["code"].clone();
            assert_ne!(code, "unknown_route", "{method} {path}");
            let documented = &item[method.as_str().to_ascii_lowercase()];
            assert_eq!(documented.is_null(), got.status == 405, "{method} {path}: {}", got.text);
            let status = got.status.as_u16().to_string();
            if !documented.is_null() {
                assert!(!documented["responses"][&status].is_null(), "{method} {path}: {status}");
            }
        }
    }
}

#[test]
fn every_operation_is_described_and_lists_its_problems() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let what = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{what} has no summary");
            assert!(ids.insert(operation["operationId"].to_string()), "{what} has another's id");
            for status in ["405", "500"] {
                assert!(!operation["responses"][status].is_null(), "{what} lacks {status}");
            }
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(parameter["description"].is_string(), "{what}: {parameter}");
            }
        }
    }
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#/components/").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        let target = document.pointer(&format!("/components/{pointer}"));
        assert!(target.is_some(), "dangling reference {pointer}");
    }
}

#[test]
fn the_document_lists_exactly_the_scopes_there_are() {
    let document = document();
    let listed = document["components"]["schemas"]["ScopeName"].to_string();
    for scope in Scope::ALL {
        assert!(listed.contains(&format!("\"{scope}\"")), "{scope} is not in {listed}");
    }
    let named = Scope::ALL.iter().filter(|s| !s.as_str().ends_with(":send")).count();
    assert_eq!(
        listed.matches(":read").count() + listed.matches(":write").count(),
        named,
        "{listed}"
    );
}

#[test]
fn the_manual_names_every_route_and_problem() {
    let manual = std::fs::read_to_string(root().join("docs/api.md")).unwrap();
    for (path, item) in document()["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let route = format!("`{} {path}`", method.to_ascii_uppercase());
            assert!(manual.contains(&route), "docs/api.md lacks {route}");
        }
    }
    for code in Code::ALL {
        assert!(
            manual.contains(&format!("`{}`", code.name())),
            "docs/api.md lacks {}",
            code.name()
        );
    }
}

/// A change of the API shows in the review as a change of this file. After an intended one:
/// `LOOKOUT_UPDATE_OPENAPI=1 cargo test -p lookout-api openapi`.
#[test]
fn the_committed_openapi_document_is_the_current_one() {
    let path = root().join("docs/openapi.json");
    let current = crate::openapi_json() + "\n";
    if std::env::var_os("LOOKOUT_UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, &current).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(
        committed == current,
        "docs/openapi.json is not what the handlers say; if the change is intended and breaks no \
         client of /v1, run with LOOKOUT_UPDATE_OPENAPI=1"
    );
}

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
