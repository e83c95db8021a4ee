//! An alert waits for its confirmations, and is taken back where it was sent.

use lookout_test::{Receiver, TestApp};
use serde_json::json;

use super::scene::{
    SIM, Scene, TRANSFER, all, linked, rule, telegram, telegram_section, transfer, until, webhook,
};

/// Blocks on top of a match before its alert.
const CONFIRMATIONS: u64 = 3;

#[tokio::test]
async fn an_alert_is_sent_when_it_is_confirmed_and_retracted_once_where_it_was_sent() {
    let scene = Scene::new(1, 10, 0).await;
    let (receiver, telegram) = (Receiver::start().await.unwrap(), telegram().await);
    let app = scene.server().config_extra(&telegram_section(&telegram)).start().await.unwrap();
    let channels = [webhook(&app, &receiver).await, linked(&app, &telegram, 1).await];
    let greetings = telegram.journal().len();
    rule(
        &app,
        &json!({
            "name": "large", "chain": SIM, "watch": {"kind": "event", "event": TRANSFER},
            "condition": "value > 100", "confirmations": CONFIRMATIONS, "channels": channels,
            "template": "moved {{ value }}",
        }),
    )
    .await;

    // Gone one block before it would have been confirmed.
    scene.chain.push(vec![transfer(101)]);
    scene.chain.extend(CONFIRMATIONS - 1, 0);
    scene.settled(&app).await;
    let pending = all(&app, "/v1/alerts?state=pending").await;
    assert_eq!(pending.len(), 1, "{pending:?}");
    scene.chain.reorg(CONFIRMATIONS, CONFIRMATIONS + 1, 0);
    scene.settled(&app).await;
    assert_eq!(all(&app, "/v1/alerts").await, [json!(null); 0]);

    // Confirmed, sent, and gone after that.
    scene.chain.push(vec![transfer(202)]);
    scene.chain.extend(CONFIRMATIONS, 0);
    let sent = receiver.wait_for(1).await.unwrap()[0].json();
    assert_eq!(sent["type"], "alert.confirmed");
    assert_eq!(sent["data"]["text"], "moved 202");
    sent_rows(&app, 2).await;
    scene.chain.reorg(CONFIRMATIONS + 1, CONFIRMATIONS + 2, 0);
    let sent = receiver.wait_for(2).await.unwrap()[1].json();
    assert_eq!(sent["type"], "alert.retracted");
    sent_rows(&app, 4).await;

    // What comes last shows that nothing else came before it, on either channel.
    scene.chain.push(vec![transfer(303)]);
    scene.chain.extend(CONFIRMATIONS + 5, 0);
    sent_rows(&app, 6).await;
    let journal = receiver.accepted();
    let told: Vec<_> = journal
        .iter()
        .map(|received| {
            let body = received.json();
            (body["type"].clone(), body["data"]["text"].clone(), body["data"]["id"].clone())
        })
        .collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(told[0].2, told[1].2, "the retraction names the alert");
    assert_eq!((&told[2].0, &told[2].1), (&json!("alert.confirmed"), &json!("moved 303")));
    let chat = telegram.journal().split_off(greetings);
    assert_eq!(chat.len(), 3, "{chat:?}");
    assert!(chat[0].text.contains("moved 202"), "{chat:?}");
    assert_eq!(chat[1].reply_to, Some(chat[0].id), "the retraction answers what it takes back");
    assert!(chat[2].text.contains("moved 303"), "{chat:?}");
    assert_eq!(telegram.violations(), Vec::<String>::new());
    let states: Vec<_> =
        all(&app, "/v1/alerts").await.into_iter().map(|alert| alert["state"].clone()).collect();
    assert_eq!(states, ["confirmed", "retracted"]);
}

/// Waits until so many deliveries are sent, and asserts that there are no others.
async fn sent_rows(app: &TestApp, count: usize) {
    until("all deliveries are sent", async || {
        let rows = all(app, "/v1/deliveries").await;
        let sent = rows.iter().filter(|row| row["state"] == "sent").count();
        (sent == count && rows.len() == count).then_some(())
    })
    .await;
}
