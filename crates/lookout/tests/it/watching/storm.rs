//! Ten thousand matches in one block for one group on Telegram, whose limits are the real ones.

use std::collections::BTreeMap;

use serde_json::json;

use super::scene::{
    SIM, Scene, TRANSFER, all, linked, rule, telegram, telegram_section, transfer, until,
};

/// Matches in one block.
const MATCHES: u64 = 10_000;

#[tokio::test]
async fn ten_thousand_alerts_to_one_group_are_all_told_within_its_limits() {
    let scene = Scene::new(3, 5, 0).await;
    let telegram = telegram().await;
    let app = scene.server().config_extra(&telegram_section(&telegram)).start().await.unwrap();
    let channel = linked(&app, &telegram, -1).await;
    let greetings = telegram.journal().len();
    rule(
        &app,
        &json!({
            "name": "any", "chain": SIM, "watch": {"kind": "event", "event": TRANSFER},
            "channels": [channel], "template": "{{ value }} moved",
        }),
    )
    .await;
    scene.chain.push((0..MATCHES).map(transfer).collect());
    scene.settled(&app).await;
    until("nothing waits any more", async || {
        let waiting = app.get("/v1/deliveries?state=queued&limit=1").await.json();
        let sending = app.get("/v1/deliveries?state=sending&limit=1").await.json();
        let none = |list: &serde_json::Value| list["items"] == json!([]);
        (none(&waiting) && none(&sending)).then_some(())
    })
    .await;

    let rows = all(&app, &format!("/v1/deliveries?channel={channel}")).await;
    assert_eq!(u64::try_from(rows.len()).unwrap(), MATCHES);
    let mut told = BTreeMap::<String, u64>::new();
    for row in &rows {
        assert_eq!(row["state"], "sent", "{row}");
        *told.entry(row["messageId"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let journal = telegram.journal().split_off(greetings);
    let sent: BTreeMap<String, &str> =
        journal.iter().map(|sent| (sent.id.to_string(), sent.text.as_str())).collect();
    assert_eq!(journal.len(), sent.len());
    for (message, count) in &told {
        let text = sent.get(message).copied();
        let text = text.unwrap_or_else(|| panic!("message {message} was never sent"));
        assert_eq!(counted(text), *count, "{text}");
    }
    assert_eq!(told.values().sum::<u64>(), MATCHES);
    assert_eq!(told.len(), sent.len(), "a message that tells of nothing");
    assert_eq!(telegram.violations(), Vec::<String>::new());
}

/// How many alerts a message tells of: its first line says so where it is more than one.
fn counted(text: &str) -> u64 {
    let first = text.lines().next().unwrap_or_default();
    let Some(number) = first.strip_suffix(" alerts") else { return 1 };
    number.replace(',', "").parse().unwrap()
}
