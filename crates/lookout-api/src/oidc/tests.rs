//! Tokens against an issuer on loopback.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::*;
use crate::testing::{NOW_MS, TestApi, config};

const NOW: i64 = NOW_MS / 1000;

/// Made for these tests; opens nothing.
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIHzrC2RLkCPW9SZ6vi2F0m2ysqm2LZXSgc8C6XS1ra7o
-----END PRIVATE KEY-----";

struct Issuer {
    url: String,
    fetches: Arc<AtomicUsize>,
}

fn signing_key() -> EncodingKey {
    // PKCS #8 of an Ed25519 key is this prefix and its 32 bytes.
    let body: String = KEY.lines().filter(|line| !line.starts_with('-')).collect();
    EncodingKey::from_ed_der(&decode_base64(&body))
}

fn decode_base64(text: &str) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits = 0u32;
    let mut held = 0;
    let mut out = Vec::new();
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let value = alphabet.iter().position(|letter| *letter == byte).unwrap();
        bits = bits << 6 | u32::try_from(value).unwrap();
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from(bits >> held & 0xff).unwrap());
        }
    }
    out
}

async fn issuer(document: Value) -> Issuer {
    let fetches = Arc::new(AtomicUsize::new(0));
    let counted = fetches.clone();
    let answer = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        let text = document.to_string();
        async move { text }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    let router = Router::new().route("/jwks", get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Issuer { url, fetches }
}

fn keys() -> Value {
    let mut jwk = Jwk::from_encoding_key(&signing_key(), Algorithm::EdDSA).unwrap();
    jwk.common.key_id = Some("one".into());
    json!({ "keys": [jwk] })
}

fn settings(jwks_url: &str) -> OidcConfig {
    OidcConfig {
        issuer: "https://issuer.example".into(),
        audience: "lookout".into(),
        jwks_url: jwks_url.into(),
    }
}

fn claims() -> Value {
    json!({
        "iss": "https://issuer.example", "aud": "lookout", "sub": "ann", "exp": NOW + 300,
        "scope": "openid chains:read keys:write *", "tenant": "acme",
    })
}

fn token(kid: &str, claims: &Value) -> String {
    let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::EdDSA) };
    encode(&header, claims, &signing_key()).unwrap()
}

fn with(change: Value) -> Value {
    let mut claims = claims();
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

#[tokio::test]
async fn a_right_token_gives_its_tenant_and_known_scopes() {
    TestApi::start(config()).await;
    let issuer = issuer(keys()).await;
    let verifier = Verifier::new(settings(&issuer.url));
    let caller = verifier.verify(&token("one", &claims()), NOW).await.unwrap();
    assert_eq!((caller.tenant.as_str(), caller.subject.as_str()), ("acme", "ann"));
    assert_eq!(caller.scopes.names(), ["chains:read", "keys:write"]);
    let mut without = claims();
    without.as_object_mut().unwrap().remove("tenant");
    without["scope"] = json!(["chains:read"]);
    let caller = verifier.verify(&token("one", &without), NOW).await.unwrap();
    assert_eq!((caller.tenant.as_str(), caller.scopes.names()), ("ann", vec!["chains:read"]));
    assert_eq!(issuer.fetches.load(Ordering::SeqCst), 1, "keys are kept");
}

#[tokio::test]
async fn wrong_tokens_are_refused_by_what_is_wrong() {
    TestApi::start(config()).await;
    let issuer = issuer(keys()).await;
    let verifier = Verifier::new(settings(&issuer.url));
    let mut forged = token("one", &claims());
    forged.pop();
    forged.push(if forged.ends_with('A') { 'B' } else { 'A' });
    let symmetric = EncodingKey::from_secret(b"public key bytes");
    let symmetric = encode(&Header::new(Algorithm::HS256), &claims(), &symmetric).unwrap();
    for (token, says) in [
        (token("one", &with(json!({ "exp": NOW - 61 }))), "expired"),
        (token("one", &with(json!({ "nbf": NOW + 61 }))), "not valid yet"),
        (token("one", &with(json!({ "iss": "https://other.example" }))), "another issuer"),
        (token("one", &with(json!({ "aud": "other" }))), "another audience"),
        (token("one", &with(json!({ "tenant": "" }))), "tenant"),
        (token("two", &claims()), "no such key"),
        (symmetric, "not RS256, ES256 or EdDSA"),
        ("a.b.c".to_owned(), "malformed"),
        (String::new(), "malformed"),
    ] {
        let error = verifier.verify(&token, NOW).await.unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
    let error = verifier.verify(&forged, NOW).await.unwrap_err().to_string();
    assert!(error.contains("signature") || error.contains("malformed"), "{error}");
    assert!(verifier.verify(&token("one", &with(json!({ "exp": NOW - 59 }))), NOW).await.is_ok());
    assert!(issuer.fetches.load(Ordering::SeqCst) <= 2, "unknown key ids do not flood the issuer");
}

#[tokio::test]
async fn an_issuer_that_fails_is_unavailable_not_refused() {
    TestApi::start(config()).await;
    let huge = issuer(json!({ "keys": [], "pad": "x".repeat(KEYS_BYTES_MAX) })).await;
    for url in ["http://127.0.0.1:9/jwks", huge.url.as_str()] {
        let verifier = Verifier::new(settings(url));
        let error = verifier.verify(&token("one", &claims()), NOW).await.unwrap_err();
        let problem = error.into_problem("");
        assert_eq!(problem.code, Code::Unavailable);
        assert!(!problem.detail.contains("127.0.0.1"));
    }
}

#[tokio::test]
async fn a_token_opens_routes_and_its_absence_closes_them() {
    let issuer = issuer(keys()).await;
    let oidc = Some(settings(&issuer.url));
    let api = TestApi::start(crate::ApiConfig { oidc, ..config() }).await;
    api.get("/v1/chains").await.problem(401, "unauthenticated");
    let bearer = format!("Bearer {}", token("one", &claims()));
    let headers = [("authorization", bearer.as_str())];
    let got = api.call(http::Method::GET, "/v1/chains", &headers, "").await;
    assert_eq!(got.status, 200, "{}", got.text);
    let got = api.call(http::Method::GET, "/v1/audit", &headers, "").await;
    got.problem(403, "missing_scope");
    let wanted = r#"{"name":"x","scopes":["chains:read"]}"#;
    let got = api.call(http::Method::POST, "/v1/keys", &headers, wanted).await;
    assert_eq!((got.status.as_u16(), &got.json()["tenant"]), (201, &"acme".into()));
}
