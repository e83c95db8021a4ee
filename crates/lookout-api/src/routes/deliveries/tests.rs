//! Deliveries over HTTP: listed, looked at, replayed.

use http::Method;
use lookout_store::{Actor, ChannelConfig, ChannelSecrets, GuardSettings, NewChannel};
use serde_json::json;

use crate::testing::{TestApi, config};

async fn channel(api: &TestApi, tenant: &str) -> String {
    let config = ChannelConfig::Webhook { url: "https://example.com/".into() };
    let secrets = ChannelSecrets::default();
    let new = NewChannel { tenant: tenant.into(), name: "x".into(), config, secrets };
    api.store.create_channel(new, &GuardSettings::default(), &Actor::Cli).await.unwrap().0.id
}

#[tokio::test]
async fn deliveries_are_listed_in_pages_and_found_by_id() {
    let api = TestApi::start(config()).await;
    let (one, two) = (channel(&api, "default").await, channel(&api, "default").await);
    let mut ids = Vec::new();
    for channel in [&one, &two, &one] {
        ids.push(api.store.queue_test("default", channel, &Actor::Cli).await.unwrap().id);
    }
    let listed = |query: String| {
        let api = &api;
        async move {
            let page = api.get(&format!("/v1/deliveries?{query}")).await.json();
            let items = page["items"].as_array().unwrap().iter();
            let ids: Vec<_> = items.map(|item| item["id"].as_str().unwrap().to_owned()).collect();
            (ids, page["next"].as_str().map(str::to_owned))
        }
    };
    let newest_first: Vec<_> = ids.iter().rev().cloned().collect();
    assert_eq!(listed(String::new()).await, (newest_first.clone(), None));
    let (first, next) = listed("limit=2".into()).await;
    assert_eq!(first, newest_first[..2]);
    let rest = listed(format!("limit=2&cursor={}", next.unwrap())).await;
    assert_eq!(rest, (newest_first[2..].to_vec(), None));
    assert_eq!(listed(format!("channel={two}")).await.0, [ids[1].clone()]);
    assert_eq!(listed("state=dead".into()).await.0, [] as [String; 0]);
    assert_eq!(listed(format!("kind=test&state=queued&channel={one}")).await.0.len(), 2);
    let got = api.get(&format!("/v1/deliveries/{}", ids[0])).await.json();
    assert_eq!((&got["channelId"], &got["attempts"]), (&json!(one), &json!(0)));
    assert_eq!((&got["dueAt"], &got["endedAt"]), (&json!("2025-10-09T08:53:20Z"), &json!(null)));
    for query in ["state=ded", "kind=sms", "channel=x", "alert=%00", "limit=0"] {
        let path = format!("/v1/deliveries?{query}");
        api.get(&path).await.problem(400, "invalid_parameter");
    }
    api.get("/v1/deliveries?chanel=x").await.problem(400, "unknown_parameter");
}

#[tokio::test]
async fn only_the_dead_of_the_own_tenant_are_replayed() {
    let api = TestApi::start(config()).await;
    let (ours, theirs) = (channel(&api, "default").await, channel(&api, "other").await);
    let ours = api.store.queue_test("default", &ours, &Actor::Cli).await.unwrap().id;
    let theirs = api.store.queue_test("other", &theirs, &Actor::Cli).await.unwrap().id;
    let replay = |id: String| {
        let api = &api;
        async move { api.call(Method::POST, &format!("/v1/deliveries/{id}/replay"), &[], "").await }
    };
    let detail = replay(ours).await.problem(409, "conflict");
    assert_eq!(detail, "this delivery is queued; only a dead one is replayed");
    for id in [theirs.clone(), "x".into(), "0198c0de-0000-7000-8000-000000000000".into()] {
        replay(id.clone()).await.problem(404, "not_found");
        api.get(&format!("/v1/deliveries/{id}")).await.problem(404, "not_found");
    }
}
