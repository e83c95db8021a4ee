//! Killed at any moment, it goes on where it was: nothing is missing, nothing is told twice.

use std::collections::{BTreeMap, BTreeSet};

use lookout_test::{Receiver, part};
use serde_json::json;

use super::scene::{SIM, Scene, TRANSFER, all, hex, rule, until, webhook};

/// How often it is killed.
const KILLS: usize = 5;
const LOGS_MAX: usize = 6;
/// Transfers above this are told.
const ABOVE: u64 = 400_000;
const CONFIRMATIONS: u64 = 2;

#[tokio::test]
async fn a_server_that_is_killed_again_and_again_misses_nothing_and_repeats_nothing() {
    let mut rng = fastrand::Rng::with_seed(part::seed(5));
    let scene = Scene::new(5, 5, LOGS_MAX).await;
    let receiver = Receiver::start().await.unwrap();
    let mut app = scene.server().roles("api").start().await.unwrap();
    let channel = webhook(&app, &receiver).await;
    rule(
        &app,
        &json!({
            "name": "large", "chain": SIM, "watch": {"kind": "event", "event": TRANSFER},
            "condition": format!("value > {ABOVE}"), "confirmations": CONFIRMATIONS,
            "channels": [channel], "template": "{{ value }}",
        }),
    )
    .await;
    app.set_roles(None);
    app.restart().await.unwrap();
    for _ in 0..KILLS {
        scene.chain.extend(rng.u64(4..10), LOGS_MAX);
        // Somewhere between the next block and the messages about it.
        let more = receiver.accepted().len() + rng.usize(0..8);
        let blocks = rng.u64(0..4);
        until("it gets on", async || {
            let told = receiver.accepted().len() >= more;
            let follow = app.get(&format!("/v1/chains/{SIM}/follow")).await.json();
            let height = follow["bus"]["head"]["number"].as_u64().unwrap_or(0);
            (told || height + blocks >= scene.chain.head().number).then_some(())
        })
        .await;
        app.restart().await.unwrap();
    }
    scene.chain.extend(CONFIRMATIONS, 0);
    scene.settled(&app).await;
    until("everything is sent", async || {
        let rows = all(&app, "/v1/deliveries").await;
        rows.iter().all(|row| row["state"] == "sent").then_some(())
    })
    .await;

    let truth: BTreeSet<(String, u64, String)> = scene
        .chain
        .canonical()
        .iter()
        .flat_map(|block| {
            block.logs.iter().enumerate().filter(|(_, log)| log.amount > ABOVE).map(|(at, log)| {
                (hex(&block.hash), u64::try_from(at).unwrap(), log.amount.to_string())
            })
        })
        .collect();
    let alerts = all(&app, "/v1/alerts").await;
    assert_eq!(alerts.len(), truth.len());
    let mut told = BTreeSet::new();
    let mut deliveries = BTreeMap::<String, BTreeSet<String>>::new();
    for received in receiver.accepted() {
        let body = received.json();
        assert_eq!(body["type"], "alert.confirmed", "{body}");
        let data = &body["data"];
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        told.insert((
            text(&data["block"]["hash"]),
            data["record"]["logIndex"].as_u64().unwrap(),
            text(&data["text"]),
        ));
        let id = received.headers["webhook-id"].clone();
        deliveries.entry(text(&data["id"])).or_default().insert(id);
    }
    assert_eq!(told, truth);
    assert_eq!(deliveries.len(), truth.len());
    // A try that a kill cut short may be made again, under the name by which receivers drop it.
    assert!(deliveries.values().all(|ids| ids.len() == 1), "{deliveries:?}");
}
