//! That the stand-in is as strict as the real thing.

use lookout_types::FixedClock;
use serde_json::{Value, json};

use super::*;
use crate::rpc::http_client;

const TOKEN: &str = "1:t";

struct Play {
    server: TelegramServer,
    clock: Arc<FixedClock>,
}

impl Play {
    async fn new() -> Self {
        let clock = Arc::new(FixedClock::at(1_000_000));
        let server = TelegramServer::start(Arc::<FixedClock>::clone(&clock)).await.unwrap();
        server.add_bot(TOKEN, "TestBot");
        for id in 1..=40 {
            server.add_chat(id, "private", "Ada");
        }
        server.add_chat(-1, "group", "ops");
        Self { server, clock }
    }

    async fn call(&self, token: &str, method: &str, body: &Value) -> (u16, Value) {
        let url = format!("{}/bot{token}/{method}", self.server.url());
        let request = http_client().post(url).body(body.to_string());
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null))
    }

    async fn send(&self, chat: i64) -> (u16, Value) {
        self.call(TOKEN, "sendMessage", &json!({ "chat_id": chat, "text": "x" })).await
    }
}

#[tokio::test]
async fn a_chat_takes_a_burst_then_one_a_second() {
    let play = Play::new().await;
    for _ in 0..3 {
        assert_eq!(play.send(1).await.0, 200);
    }
    let (status, body) = play.send(1).await;
    assert_eq!((status, &body["parameters"]["retry_after"]), (429, &json!(1)));
    play.clock.advance(999);
    assert_eq!(play.send(1).await.0, 429);
    play.clock.advance(1_000);
    assert_eq!(play.send(1).await.0, 200);
    assert_eq!(play.server.violations().len(), 2, "{:?}", play.server.violations());
    assert!(play.server.violations()[1].contains("1 ms too early"));
    assert_eq!(play.server.journal().len(), 4);
}

#[tokio::test]
async fn a_group_takes_twenty_a_minute_and_a_bot_thirty_a_second() {
    let play = Play::new().await;
    for _ in 0..20 {
        assert_eq!(play.send(-1).await.0, 200);
        play.clock.advance(2_000);
    }
    let (status, body) = play.send(-1).await;
    assert_eq!((status, &body["parameters"]["retry_after"]), (429, &json!(20)));
    for chat in 1..=30 {
        assert_eq!(play.send(chat).await.0, 200);
    }
    assert_eq!(play.send(31).await.0, 429);
}

#[tokio::test]
async fn texts_entities_chats_and_tokens_are_checked() {
    let play = Play::new().await;
    let long = "x".repeat(4097);
    for (text, entities, reason) in [
        ("", json!([]), "empty"),
        (" \n", json!([]), "empty"),
        (long.as_str(), json!([]), "too long"),
        ("abc", json!([{"type": "bold", "offset": 2, "length": 2}]), "BOUNDS"),
        ("a😀b", json!([{"type": "bold", "offset": 2, "length": 1}]), "surrogate"),
        ("a😀b", json!([{"type": "bold", "offset": 0, "length": 2}]), "surrogate"),
        ("abc", json!([{"type": "fancy", "offset": 0, "length": 1}]), "called"),
        ("abc", json!(vec![json!({"type": "bold", "offset": 0, "length": 1}); 101]), "too many"),
    ] {
        let body = json!({ "chat_id": 1, "text": text, "entities": entities });
        let (status, answer) = play.call(TOKEN, "sendMessage", &body).await;
        assert_eq!(status, 400);
        assert!(answer["description"].as_str().unwrap().contains(reason), "{answer}");
    }
    let fine = json!({ "chat_id": 1, "text": "a😀b",
        "entities": [{"type": "code", "offset": 1, "length": 2}] });
    assert_eq!(play.call(TOKEN, "sendMessage", &fine).await.0, 200);
    let edit = json!({ "chat_id": 1, "message_id": 1, "text": "new" });
    assert_eq!(play.call(TOKEN, "editMessageText", &edit).await.0, 200);
    assert_eq!(play.server.journal()[0].text, "new");
    assert_eq!(play.server.journal_from(0).len(), 1);
    assert_eq!(play.server.journal_from(1), []);
    assert_eq!(play.send(77).await.1["description"], "Bad Request: chat not found");
    assert_eq!(play.call("9:no", "getMe", &json!({})).await.0, 401);
    assert_eq!(play.call(TOKEN, "getMe", &json!({})).await.1["result"]["username"], "TestBot");
    play.server.forbid(-1);
    assert_eq!(play.send(-1).await.0, 403);
    play.server.migrate(-1, -100);
    assert_eq!(play.send(-1).await.1["parameters"]["migrate_to_chat_id"], -100);
}

#[tokio::test]
async fn updates_wait_and_are_done_by_their_offset() {
    let play = Play::new().await;
    let none = play.call(TOKEN, "getUpdates", &json!({ "timeout": 0 })).await;
    assert_eq!(none.1["result"], json!([]));
    let waiting = json!({ "timeout": 30 });
    let wait = play.call(TOKEN, "getUpdates", &waiting);
    let say = async {
        while play.server.calls("getUpdates") < 2 {
            tokio::task::yield_now().await;
        }
        play.server.say(TOKEN, 1, 9, "/start x");
    };
    let ((_, body), ()) = tokio::join!(wait, say);
    assert_eq!(body["result"][0]["message"]["text"], "/start x");
    let chat = &body["result"][0]["message"]["chat"];
    assert_eq!(*chat, json!({ "id": 1, "type": "private", "first_name": "Ada" }));
    let rest = play.call(TOKEN, "getUpdates", &json!({ "timeout": 0, "offset": 2 })).await;
    assert_eq!(rest.1["result"], json!([]));
}

#[tokio::test]
async fn faults_come_in_order() {
    let play = Play::new().await;
    play.server.fail_next([Fault::ServerError, Fault::AnswerLost, Fault::TooMany(7)]);
    assert_eq!(play.send(1).await.0, 502);
    let url = format!("{}/bot{TOKEN}/sendMessage", play.server.url());
    let body = json!({ "chat_id": 1, "text": "x" }).to_string();
    http_client().post(url).body(body).send().await.unwrap_err();
    assert_eq!(play.send(1).await.1["parameters"]["retry_after"], 7);
    assert_eq!(play.server.journal().len(), 1);
    play.clock.advance(7_000);
    assert_eq!(play.send(1).await.0, 200);
    assert_eq!(play.server.violations(), Vec::<String>::new());
}
