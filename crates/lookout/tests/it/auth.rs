//! Keys, scopes, and secrets that stay secret.

use std::process::Output;

use http::Method;
use lookout_test::app::Answer;
use lookout_test::{Anvil, Behaviour, Fleet, TestApp};
use serde_json::{Value, json};

use crate::{CHAIN, LOOKOUT, on, rig};

async fn make_key(app: &TestApp, scopes: &str) -> String {
    let made = app.run(&["keys", "create", "--scopes", scopes]).await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    assert!(key.starts_with("lk_") && !key.contains(char::is_whitespace), "{key}");
    key
}

async fn get_with(app: &TestApp, path: &str, key: &str) -> Answer {
    let bearer = format!("Bearer {key}");
    app.send(Method::GET, path, &[("authorization", &bearer)], None).await.unwrap()
}

#[tokio::test]
async fn keys_open_what_their_scopes_name() {
    let Some((_anvil, app)) = rig().await else { return };
    let head = format!("/v1/chains/{CHAIN}/head");
    assert_eq!(app.get(&head).await.status, 200, "open while there is no key");

    let reader = make_key(&app, "chains:read").await;
    let admin = make_key(&app, "*").await;
    app.wait_for(&head, |answer| answer.status == 401).await.unwrap();
    let refused = app.get(&head).await;
    assert!(refused.header("www-authenticate").starts_with("Bearer"), "{:?}", refused.headers);
    assert_eq!(refused.json()["code"], "unauthenticated");
    assert_eq!(app.get("/healthz").await.status, 200);

    assert_eq!(get_with(&app, &head, &reader).await.status, 200);
    assert_eq!(get_with(&app, "/v1/keys", &reader).await.status, 403);
    let listed = get_with(&app, "/v1/keys", &admin).await;
    assert_eq!(listed.json()["items"].as_array().unwrap().len(), 2);
    assert!(!listed.text().contains(&reader) && !listed.text().contains(&admin));
    let mut changed: String = reader.clone();
    changed.pop();
    changed.push(if reader.ends_with('A') { 'B' } else { 'A' });
    assert_eq!(get_with(&app, &head, &changed).await.status, 401);

    let start: String = reader.chars().take(15).collect();
    let revoked = app.run(&["keys", "revoke", &start]).await.unwrap();
    assert!(revoked.status.success(), "{}", String::from_utf8_lossy(&revoked.stderr));
    let gone = async {
        while get_with(&app, &head, &reader).await.status != 401 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(lookout_test::app::DONE_WITHIN, gone).await.unwrap();
    let audit = get_with(&app, "/v1/audit", &admin).await.json();
    let actions: Vec<&Value> =
        audit["items"].as_array().unwrap().iter().map(|change| &change["action"]).collect();
    assert!(actions.contains(&&json!("key.revoke")), "{audit}");
    for line in app.logs() {
        assert!(!line.contains(&reader) && !line.contains(&admin), "a key in the log: {line}");
    }
}

#[tokio::test]
async fn without_access_control_other_machines_are_refused() {
    let Some(anvil) = Anvil::for_test().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let open = on(&anvil).listen("0.0.0.0:0");
    std::fs::write(folder.path().join("lookout.toml"), open.config()).unwrap();
    let ended = open.run(folder.path(), &["serve"]).await.unwrap();
    let Output { status, stderr, .. } = ended;
    let said = String::from_utf8_lossy(&stderr);
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("keys create") && said.contains("anonymous"), "{said}");
}

#[tokio::test]
async fn keys_in_upstream_urls_stay_secret() {
    let Some(anvil) = Anvil::for_test().await else { return };
    let fleet = Fleet::start(anvil.url(), 1, 1).await.unwrap();
    let address = fleet[0].url().replace("http://", "");
    let url = format!("http://hiddenuser:hiddenword@{address}/hiddenpath?key=hiddenquery");
    let app = TestApp::builder(LOOKOUT)
        .chain(CHAIN, anvil.chain_id(), &[url])
        .chain_extra("call_timeout_ms = 300\nrequest_timeout_ms = 600")
        .env("LOOKOUT_LOG", "debug")
        .start()
        .await
        .unwrap();
    let mut said = String::new();
    for behaviour in
        [Behaviour::status(500), Behaviour::Html, Behaviour::Silent, Behaviour::ConnectionReset]
    {
        fleet[0].set([behaviour]);
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "eth_gasPrice", "params": []});
        said += &app.post(&format!("/v1/rpc/{CHAIN}"), &call).await.text();
        said += &app
            .get(&format!("/address/balance/{}", lookout_test::anvil::DEV_ADDRESSES[2]))
            .await
            .text();
        said += &app.get(&format!("/v1/chains/{CHAIN}/upstreams")).await.text();
    }
    fleet[0].die();
    said += &app.get("/block/0").await.text();
    said += &app.get("/readyz").await.text();
    said += &app.get("/metrics").await.text();
    let check = app.run(&["config", "check"]).await.unwrap();
    said += &String::from_utf8_lossy(&check.stdout);
    said += &app.logs().join("\n");
    assert!(said.contains(&address), "nothing was said of the upstream at all");
    assert!(!said.contains("hidden"), "{said}");
}
