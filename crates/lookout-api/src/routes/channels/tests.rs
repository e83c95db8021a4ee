//! Channels over HTTP: made, changed, tested, rotated, and never another tenant's.

use http::Method;
use lookout_store::{Actor, DeliveryFilter, Page};
use serde_json::{Value, json};

use crate::testing::{Got, TestApi, config};
use crate::{ApiConfig, ChannelSettings};

const SLACK: &str = "https://hooks.slack.com/services/T0/B0/hidden";
const TOKEN: &str = "123456:hidden-AAHdqTcvCH1vGWJxfSeofSAs0K5P";

async fn start() -> TestApi {
    let channels = ChannelSettings {
        telegram_bot: Some("lookout_bot".into()),
        mail: true,
        test_patience: std::time::Duration::ZERO,
        ..ChannelSettings::default()
    };
    TestApi::start(ApiConfig { channels, ..config() }).await
}

async fn post(api: &TestApi, path: &str, body: &Value) -> Got {
    api.call(Method::POST, path, &[], &body.to_string()).await
}

async fn make(api: &TestApi, body: Value) -> Value {
    let got = post(api, "/v1/channels", &body).await;
    assert_eq!(got.status, 201, "{}", got.text);
    assert_eq!(got.header("cache-control"), "no-store");
    got.json()
}

fn webhook() -> Value {
    json!({ "kind": "webhook", "name": "hook", "url": "https://example.com/hook" })
}

fn path_of(made: &Value) -> String {
    format!("/v1/channels/{}", made["channel"]["id"].as_str().unwrap())
}

#[tokio::test]
async fn every_kind_is_made_and_shown_without_its_secrets() {
    let api = start().await;
    let hook = make(&api, webhook()).await;
    assert!(hook["signingKey"].as_str().unwrap().starts_with("whsec_"));
    assert_eq!(hook["link"], Value::Null);
    let shown = &hook["channel"];
    assert_eq!(
        (&shown["url"], &shown["state"]),
        (&"https://example.com/hook".into(), &"active".into())
    );
    assert_eq!(
        shown["keys"],
        json!([{
            "signature": "v1", "publicKey": null, "createdAt": "2025-10-09T08:53:20Z", "endsAt": null,
        }])
    );
    let signed = make(
        &api,
        json!({
            "kind": "webhook", "name": "x", "url": "https://example.com/", "signature": "v1a",
        }),
    );
    let signed = signed.await;
    assert_eq!(signed["signingKey"], Value::Null);
    assert!(signed["channel"]["keys"][0]["publicKey"].as_str().unwrap().starts_with("whpk_"));
    make(&api, json!({ "kind": "slack", "name": "s", "url": SLACK })).await;
    let url = "https://discord.com/api/webhooks/12/hidden";
    make(&api, json!({ "kind": "discord", "name": "d", "url": url })).await;
    let to = json!(["ops@example.com"]);
    let mail = make(&api, json!({ "kind": "email", "name": "m", "to": to })).await;
    assert_eq!(mail["channel"]["to"], to);
    let own = json!({ "kind": "telegram", "name": "t", "token": TOKEN, "chatId": -100_123 });
    let own = make(&api, own).await;
    assert_eq!(
        (&own["channel"]["ownBot"], &own["channel"]["chatId"]),
        (&true.into(), &json!(-100_123))
    );
    assert_eq!((&own["link"], &own["channel"]["state"]), (&Value::Null, &"active".into()));

    let list = api.get("/v1/channels").await;
    assert_eq!(list.json()["items"].as_array().unwrap().len(), 6);
    let audit = api.get("/v1/audit").await;
    for got in [&list, &audit] {
        let (hidden, key) = ("hidden", hook["signingKey"].as_str().unwrap());
        assert!(!got.text.contains(hidden) && !got.text.contains(key), "{}", got.text);
    }
    assert_eq!(api.get(&path_of(&hook)).await.json(), hook["channel"]);
}

#[tokio::test]
async fn telegram_chats_are_linked_by_a_code() {
    let api = start().await;
    let made = make(&api, json!({ "kind": "telegram", "name": "t" })).await;
    assert_eq!(made["channel"]["state"], "unlinked");
    let command = made["link"]["command"].as_str().unwrap();
    let code = command.strip_prefix("/start ").unwrap();
    assert!(code.len() >= 20 && code.len() <= 64, "a deep link carries 64 characters: {code}");
    assert_eq!(made["link"]["url"], format!("https://t.me/lookout_bot?start={code}"));
    assert_eq!(made["link"]["groupUrl"], format!("https://t.me/lookout_bot?startgroup={code}"));
    let path = path_of(&made);
    let again = post(&api, &format!("{path}/link"), &Value::Null).await;
    assert_eq!(again.header("cache-control"), "no-store");
    assert_ne!(again.json()["command"], *command);
    let detail = post(&api, &format!("{path}/test"), &Value::Null).await.problem(409, "conflict");
    assert!(detail.contains("no chat is linked"), "{detail}");
    // Whose bot it is, the server does not know; then the command alone has to do.
    let own = make(&api, json!({ "kind": "telegram", "name": "t", "token": TOKEN })).await;
    assert_eq!((&own["link"]["url"], &own["link"]["groupUrl"]), (&Value::Null, &Value::Null));
    assert!(own["link"]["command"].is_string());
    let hook = path_of(&make(&api, webhook()).await);
    post(&api, &format!("{hook}/link"), &Value::Null).await.problem(409, "conflict");
}

#[tokio::test]
async fn wrong_channels_are_refused_by_what_is_wrong() {
    let api = start().await;
    let hook = |url: &str| json!({ "kind": "webhook", "name": "x", "url": url });
    let slack = |url: &str| json!({ "kind": "slack", "name": "x", "url": url });
    let chat = |id: Value| json!({ "kind": "telegram", "name": "x", "token": TOKEN, "chatId": id });
    for (body, reason) in [
        (hook("https://127.0.0.1/hook"), "127.0.0.1 is not on the public internet"),
        (hook("https://10.1.2.3/hook"), "10.1.2.3 is not on the public internet"),
        (hook("https://[::1]/"), "::1 is not on the public internet"),
        (hook("https://169.254.169.254/"), "169.254.169.254 is not"),
        (hook("https://localhost/"), "this server's own machine"),
        (hook("http://example.com/hook"), "must begin with https://"),
        (hook("https://user:pass@example.com/"), "no user name or password"),
        (hook("nowhere"), "cannot be read"),
        (slack("https://evil.example/services/x"), "begins with https://hooks.slack.com"),
        (slack("https://hooks.slack.com.evil.example/services/x"), "begins with https://hooks"),
        (json!({ "kind": "slack", "name": "x" }), "url of the Slack webhook is missing"),
        (json!({ "kind": "telegram", "name": "x", "token": "12:34" }), "not one of a Telegram bot"),
        (json!({ "kind": "telegram", "name": "x", "chatId": 5 }), "linked by /start"),
        (chat("abc".into()), "`chatId`: invalid type: string \"abc\", expected i64"),
        (chat(json!(1.5)), "`chatId`: invalid type"),
        (
            json!({ "kind": "sms", "name": "x" }),
            "`kind` is one of telegram, slack, discord, webhook, email",
        ),
        (json!({ "name": "x" }), "`kind` is one of"),
        (json!({ "kind": "webhook", "name": "x" }), "missing field `url`"),
        (json!({ "kind": "slack", "name": "x", "url": SLACK, "to": [] }), "unknown field `to`"),
        (
            json!({ "kind": "email", "name": "x", "to": ["a@b.c\r\nBcc: d@e.f"] }),
            "is no mail address",
        ),
        (json!({ "kind": "email", "name": "x", "to": [5] }), "`to[0]`: invalid type"),
        (
            json!({ "kind": "webhook", "name": "x", "url": "https://e.com/", "signature": "v2" }),
            "`signature`: unknown variant `v2`",
        ),
        (json!({ "kind": "slack", "name": "x".repeat(101), "url": SLACK }), "from 1 to 100 bytes"),
        (json!({ "kind": "slack", "name": "", "url": SLACK }), "from 1 to 100 bytes"),
        (json!({ "kind": "slack", "name": "a\u{0}b", "url": SLACK }), "no control characters"),
        (json!([]), "`kind` is one of"),
        (json!(null), "`kind` is one of"),
    ] {
        let detail = post(&api, "/v1/channels", &body).await.problem(400, "invalid_body");
        assert!(detail.contains(reason), "{body}: {detail}");
        assert!(!detail.contains("hidden"), "{detail}");
    }
    let got = api.call(Method::POST, "/v1/channels", &[], "{").await;
    got.problem(400, "malformed_json");
    assert_eq!(api.get("/v1/channels").await.json()["items"], json!([]));
    // A server without a mail server says so.
    let plain = TestApi::start(config()).await;
    let mail = json!({ "kind": "email", "name": "x", "to": ["a@example.com"] });
    let detail = post(&plain, "/v1/channels", &mail).await.problem(400, "invalid_body");
    assert!(detail.contains("this server sends no mail"), "{detail}");
}

#[tokio::test]
async fn channels_are_changed_deleted_and_restored() {
    let api = start().await;
    let path = path_of(&make(&api, json!({ "kind": "slack", "name": "s", "url": SLACK })).await);
    let put = |body: Value| {
        let (api, path) = (&api, &path);
        async move { api.call(Method::PUT, path, &[], &body.to_string()).await }
    };
    let got = put(json!({ "kind": "slack", "name": "renamed" })).await;
    assert_eq!(
        (got.status.as_u16(), &got.json()["name"]),
        (200, &"renamed".into()),
        "{}",
        got.text
    );
    for (body, reason) in [
        (webhook(), "keeps its kind"),
        (
            json!({ "kind": "slack", "name": "x", "url": "https://evil.example/" }),
            "hooks.slack.com",
        ),
        (
            json!({ "kind": "webhook", "name": "x", "url": "https://e.com/", "signature": "v1" }),
            "rotate",
        ),
    ] {
        let detail = put(body).await.problem(400, "invalid_body");
        assert!(detail.contains(reason), "{detail}");
    }
    for _ in 0..2 {
        assert_eq!(api.call(Method::DELETE, &path, &[], "").await.status, 204);
    }
    api.get(&path).await.problem(404, "not_found");
    put(json!({ "kind": "slack", "name": "x" })).await.problem(404, "not_found");
    assert_eq!(api.get("/v1/channels").await.json()["items"], json!([]));
    let deleted = api.get("/v1/channels?deleted=true").await.json();
    assert_eq!(deleted["items"][0]["deletedAt"], "2025-10-09T08:53:20Z");
    let back = post(&api, &format!("{path}/restore"), &Value::Null).await.json();
    assert_eq!((&back["name"], &back["deletedAt"]), (&"renamed".into(), &Value::Null));
    api.get("/v1/channels?deleted=perhaps").await.problem(400, "invalid_parameter");
}

#[tokio::test]
async fn keys_are_rotated_beside_each_other() {
    let api = start().await;
    let made = make(&api, webhook()).await;
    let path = format!("{}/rotate", path_of(&made));
    let rotated = api.call(Method::POST, &path, &[], "").await;
    assert_eq!((rotated.status.as_u16(), rotated.header("cache-control")), (200, "no-store"));
    let rotated = rotated.json();
    assert!(rotated["signingKey"].as_str().unwrap().starts_with("whsec_"));
    assert_ne!(rotated["signingKey"], made["signingKey"]);
    let keys = rotated["channel"]["keys"].as_array().unwrap();
    assert_eq!(
        (&keys[0]["endsAt"], &keys[1]["endsAt"]),
        (&"2025-10-10T08:53:20Z".into(), &Value::Null)
    );
    let body = json!({ "signature": "v1a", "keepSeconds": 60 });
    let rotated = post(&api, &path, &body).await.json();
    assert_eq!(rotated["signingKey"], Value::Null);
    let keys = rotated["channel"]["keys"].as_array().unwrap();
    assert_eq!((keys.len(), &keys[0]["endsAt"]), (3, &"2025-10-09T08:54:20Z".into()));
    for (body, reason) in [
        (json!({ "keepSeconds": 2_592_001 }), "at most 30 days"),
        (json!({ "keepSeconds": -1 }), "`keepSeconds`: invalid value"),
        (json!({ "keep": 1 }), "unknown field `keep`"),
    ] {
        let detail = post(&api, &path, &body).await.problem(400, "invalid_body");
        assert!(detail.contains(reason), "{detail}");
    }
    let slack = make(&api, json!({ "kind": "slack", "name": "s", "url": SLACK })).await;
    let got = post(&api, &format!("{}/rotate", path_of(&slack)), &Value::Null).await;
    assert!(got.problem(400, "invalid_body").contains("a slack channel signs nothing"));
}

#[tokio::test]
async fn a_test_tells_what_became_of_it() {
    let api = start().await;
    let made = make(&api, webhook()).await;
    let (path, id) = (path_of(&made), made["channel"]["id"].as_str().unwrap().to_owned());
    // Nobody delivers here, so that nothing is known yet.
    let got = post(&api, &format!("{path}/test"), &Value::Null).await;
    assert_eq!(got.status, 202, "{}", got.text);
    let test = got.json();
    assert_eq!(
        (&test["kind"], &test["state"], &test["alertId"]),
        (&"test".into(), &"queued".into(), &Value::Null)
    );
    let listed = api.get(&format!("/v1/deliveries?channel={id}&state=queued&kind=test")).await;
    assert_eq!(listed.json()["items"], json!([test]));
    // With patience, the answer comes as soon as there is one.
    let channels = ChannelSettings {
        test_patience: std::time::Duration::from_secs(60),
        ..ChannelSettings::default()
    };
    api.api.reload(ApiConfig { channels, ..config() });
    let mut changes = api.store.signals().deliveries.listen();
    let end = async {
        loop {
            changes.changed().await.unwrap();
            let all = DeliveryFilter::default();
            let queued =
                api.store.list_deliveries("default", &all, &Page::default()).await.unwrap();
            if queued.len() == 2 {
                break api.store.delete_channel("default", &id, &Actor::Cli).await.unwrap();
            }
        }
    };
    let test_path = format!("{path}/test");
    let (got, ()) = tokio::join!(post(&api, &test_path, &Value::Null), end);
    assert_eq!(got.status, 200, "{}", got.text);
    let ended = got.json();
    assert_eq!(
        (&ended["state"], &ended["error"]),
        (&"cancelled".into(), &"the channel was deleted".into())
    );
}

#[tokio::test]
async fn disabled_channels_say_why_until_they_are_enabled() {
    let api = start().await;
    let made = make(&api, webhook()).await;
    let (path, id) = (path_of(&made), made["channel"]["id"].as_str().unwrap());
    api.store
        .disable_channel("default", id, "the receiver answered 410", &Actor::Cli)
        .await
        .unwrap();
    let shown = api.get(&path).await.json();
    assert_eq!(
        (&shown["state"], &shown["reason"]),
        (&"disabled".into(), &"the receiver answered 410".into())
    );
    let detail = post(&api, &format!("{path}/test"), &Value::Null).await.problem(409, "conflict");
    assert!(detail.contains("answered 410") && detail.contains("enable it first"), "{detail}");
    let shown = post(&api, &format!("{path}/enable"), &Value::Null).await.json();
    assert_eq!((&shown["state"], &shown["reason"]), (&"active".into(), &Value::Null));
    let replayed = post(&api, &format!("{path}/replay"), &Value::Null).await.json();
    assert_eq!(replayed, json!({ "queued": 0, "more": false }));
}

#[tokio::test]
async fn scopes_and_tenants_are_kept_apart() {
    let api = start().await;
    let made = make(&api, webhook()).await;
    let path = path_of(&made);
    let reader = api.key("default", "channels:read").await;
    let other = api.key("other", "*").await;
    let as_reader = [("x-api-key", reader.as_str())];
    let as_other = [("x-api-key", other.as_str())];
    assert_eq!(api.call(Method::GET, &path, &as_reader, "").await.status, 200);
    api.call(Method::GET, "/v1/deliveries", &as_reader, "").await.problem(403, "missing_scope");
    let body = webhook().to_string();
    let acts = ["restore", "test", "link", "enable", "rotate", "replay"];
    for act in acts {
        let path = format!("{path}/{act}");
        api.call(Method::POST, &path, &as_reader, "").await.problem(403, "missing_scope");
        api.call(Method::POST, &path, &as_other, "").await.problem(404, "not_found");
        let none = format!("/v1/channels/x/{act}");
        api.call(Method::POST, &none, &as_other, "").await.problem(404, "not_found");
    }
    for (method, body) in [(Method::PUT, body.as_str()), (Method::DELETE, "")] {
        api.call(method.clone(), &path, &as_reader, body).await.problem(403, "missing_scope");
        api.call(method, &path, &as_other, body).await.problem(404, "not_found");
    }
    api.call(Method::GET, &path, &as_other, "").await.problem(404, "not_found");
    let list = api.call(Method::GET, "/v1/channels", &as_other, "").await.json();
    assert_eq!(list["items"], json!([]));
}
