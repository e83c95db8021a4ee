//! What a chain wrote stays words, whatever it says.

use lookout_test::Receiver;
use lookout_test::sim::SimLog;
use serde_json::json;

use super::scene::{
    SIM, Scene, all, created, hex, linked, rule, telegram, telegram_section, until, webhook,
};

/// Bytes of the longest string.
const LONG: usize = 1 << 20;

fn note(bytes: &[u8]) -> SimLog {
    SimLog::noted([0x77; 20], bytes)
}

#[tokio::test]
async fn hostile_words_of_a_chain_arrive_as_inert_text() {
    let scene = Scene::new(10, 5, 0).await;
    let (receiver, telegram) = (Receiver::start().await.unwrap(), telegram().await);
    let app = scene.server().config_extra(&telegram_section(&telegram)).start().await.unwrap();
    let channels = [webhook(&app, &receiver).await, linked(&app, &telegram, 1).await];
    let greetings = telegram.journal().len();
    rule(
        &app,
        &json!({
            "name": "words", "chain": SIM, "template": "it says {{ words }}",
            "watch": {"kind": "event", "event": "event Noted(string words)"},
            "channels": channels,
        }),
    )
    .await;
    let hostile: [&[u8]; 9] = [
        b"<b>bold</b> *bold* [here](https://evil.com/x) `code` & <a href=x>",
        b"visit https://evil.com/claim or t.me/evil @admin #now /start x",
        "txt.\u{202e}gpj \u{200b}\u{2066}reversed\u{feff}".as_bytes(),
        b"zero \0 byte \x1b[31m bell \x07\r\n\r\nnew line",
        b"\xff\xfe not text \xc3\x28",
        &[b'A'; LONG],
        b"",
        "😀😀😀 ${{ words }} {{ value }} $(reboot) '; DROP TABLE alerts; --".as_bytes(),
        b"<!channel> <@U123> <https://evil.com|bank> @everyone",
    ];
    let logs: Vec<SimLog> = hostile.iter().map(|words| note(words)).collect();
    scene.chain.push(logs);
    scene.settled(&app).await;
    let count = hostile.len();
    until("all of it is sent", async || {
        let rows = all(&app, "/v1/deliveries").await;
        let sent = rows.iter().filter(|row| row["state"] == "sent").count();
        (sent == 2 * count && rows.len() == 2 * count).then_some(())
    })
    .await;

    let mut texts: Vec<String> = receiver
        .accepted()
        .iter()
        .map(|received| received.json()["data"]["text"].as_str().unwrap().to_owned())
        .collect();
    let chat = telegram.journal().split_off(greetings);
    let mut codes = 0;
    for sent in &chat {
        assert_eq!(sent.request["parse_mode"], json!(null), "plain text: {}", sent.request);
        assert_eq!(sent.request["link_preview_options"]["is_disabled"], true);
        for entity in sent.request["entities"].as_array().into_iter().flatten() {
            let kind = entity["type"].as_str().unwrap();
            assert!(["bold", "code"].contains(&kind), "{entity}");
            codes += usize::from(kind == "code");
        }
    }
    // As code, commands and hashtags are no links either; one of the strings is empty.
    assert_eq!(codes, count - 1, "{chat:?}");
    assert_eq!(texts.len(), count);
    texts.extend(chat.iter().map(|sent| sent.text.clone()));
    texts.iter().for_each(|text| inert(text));
    assert_eq!(telegram.violations(), Vec::<String>::new());

    // The event itself is kept as it was, and the pipeline goes on.
    scene.chain.extend(2, 1);
    scene.settled(&app).await;
    let path = format!("/v1/chains/{SIM}/events?topic0={}", hex(&note(b"").topics()[0]));
    let kept = all(&app, &path).await;
    assert_eq!(kept.len(), count);
}

/// Panics where a text does more than say something.
fn inert(text: &str) {
    let odd = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    assert!(!text.chars().any(odd), "{text:?}");
    for live in ["https://evil", "evil.com", "t.me/evil", "@admin", "@everyone"] {
        assert!(!text.contains(live), "{live} in {text:?}");
    }
    assert!(text.encode_utf16().count() <= 4096, "{text:?}");
    assert!(!text.contains(&"A".repeat(300)), "a value is cut");
}

#[tokio::test]
async fn logs_that_do_not_decode_are_counted_and_stop_nothing() {
    let scene = Scene::new(11, 5, 0).await;
    let app = scene.server().start().await.unwrap();
    scene.settled(&app).await;
    let noted = "event Noted(string words)";
    let watched = json!({"kind": "event", "event": noted});
    let words = rule(&app, &json!({"name": "words", "chain": SIM, "watch": watched})).await;
    // No string at all, one that claims to be longer than the log, and one that is right.
    let mut long = note(b"abc");
    long.note.as_mut().unwrap()[63] = 200;
    scene.chain.push(vec![SimLog { note: Some(vec![1, 2, 3]), ..note(b"") }, long, note(b"right")]);
    scene.settled(&app).await;
    let alerts = all(&app, &format!("/v1/alerts?rule={words}")).await;
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    let saved = app.get(&format!("/v1/rules/{words}")).await.json();
    let failures = saved["failures"].clone();
    assert_eq!(failures.as_array().unwrap().len(), 1, "{saved}");
    assert_eq!((&failures[0]["count"], &failures[0]["lastHeight"]), (&json!(2), &json!(6)));
    assert_eq!(failures[0]["reason"], "the record does not decode by the rule's ABI");
    let newest = &failures[0]["lastRecord"];
    assert_eq!((&newest["kind"], &newest["logIndex"]), (&json!("log"), &json!(1)), "{newest}");
    assert!(newest["decodeError"].as_str().unwrap().contains("`words`"), "{newest}");
    // A backtest over the same block says the same.
    let body = json!({"from": 6, "to": 6});
    let tried = app.post(&format!("/v1/rules/{words}/backtest"), &body).await.json();
    assert_eq!(tried["failures"], failures);
    // The meters count a log once, however many rules watch its event.
    let counted = app.get("/metrics").await.text();
    let counted: Vec<&str> =
        counted.lines().filter(|line| line.starts_with("lookout_rules_failures_total{")).collect();
    assert!(matches!(counted[..], [only] if only.ends_with(" 2")), "{counted:?}");
    created(&app.post("/v1/abis", &json!({"name": "noted", "abi": [noted]})).await);
    let path = format!("/v1/chains/{SIM}/events?abi=noted&event=Noted");
    let events = app.get(&path).await.json();
    assert_eq!(events["decodeErrors"], 2, "{events}");
    let errors =
        events["items"].as_array().unwrap().iter().filter(|item| item["decodeError"].is_string());
    assert_eq!(errors.count(), 2, "{events}");
    assert_eq!(events["items"].as_array().unwrap().len(), 3, "{events}");
}
