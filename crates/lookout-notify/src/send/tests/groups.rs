//! Slack and Discord: many alerts in one message, within the limits of the services.

use lookout_types::Secret;

use super::*;

const SLACK: &str = "https://hooks.slack.com/services/T0/B0/hidden";
const DISCORD: &str = "https://discord.com/api/webhooks/12/hidden?thread_id=5";

pub(super) struct Scene {
    pub(super) receiver: Receiver,
    pub(super) senders: Senders,
}

impl Scene {
    pub(super) async fn start() -> Self {
        let receiver = Receiver::start().await.unwrap();
        let url: Url = receiver.url("/").parse().unwrap();
        let settings = SenderSettings {
            slack_url: Some(url.clone()),
            discord_url: Some(url),
            ..SenderSettings::default()
        };
        let senders = Senders::new(&settings, Arc::new(FixedClock::at(NOW))).unwrap();
        Self { receiver, senders }
    }

    pub(super) async fn slack(&self, parcel: &Parcel) -> Result<Receipt, SendError> {
        self.send(&ChannelConfig::Slack {}, SLACK, parcel).await
    }

    pub(super) async fn discord(&self, parcel: &Parcel) -> Result<Receipt, SendError> {
        self.send(&ChannelConfig::Discord {}, DISCORD, parcel).await
    }

    async fn send(
        &self,
        config: &ChannelConfig,
        url: &str,
        parcel: &Parcel,
    ) -> Result<Receipt, SendError> {
        let secrets = ChannelSecrets { url: Some(Secret::new(url)), ..ChannelSecrets::default() };
        self.senders.of(config).unwrap().send(config, &secrets, parcel).await
    }
}

fn many(count: u64, text: &str) -> Parcel {
    let alerts = (0..count).map(|n| {
        let text = format!("{n} {text}");
        Some(Alert { rule_id: format!("r{}", n % 3), text, ..alert(n) })
    });
    parcel(ParcelKind::Alert, alerts)
}

#[tokio::test]
async fn slack_gets_one_message_for_many_alerts() {
    let scene = Scene::start().await;
    scene.slack(&many(3, "a & <b>")).await.unwrap();
    let got = scene.receiver.journal().pop().unwrap();
    assert_eq!(got.path, "/services/T0/B0/hidden");
    let message = got.json();
    let texts: Vec<_> = message["blocks"].as_array().unwrap().iter().map(|b| &b["text"]).collect();
    assert_eq!(texts.len(), 4);
    assert_eq!(*texts[0], json!({ "type": "plain_text", "text": "3 alerts", "emoji": false }));
    assert_eq!(texts[1]["text"], "0 a &amp; &lt;b&gt;");
    assert_eq!(message["text"], "3 alerts");
    for off in ["mrkdwn", "link_names", "unfurl_links", "unfurl_media"] {
        assert_eq!(message[off], false, "{off}");
    }
    // The second within a second is one too many; what Slack says is passed on.
    let error = scene.slack(&many(1, "a")).await.unwrap_err();
    let SendError::Wait { after, .. } = error else { panic!("{error}") };
    assert_eq!(after, Duration::from_secs(1));
}

#[tokio::test]
async fn discord_gets_one_message_and_names_it() {
    let scene = Scene::start().await;
    let receipt = scene.discord(&many(3, "*a*")).await.unwrap();
    assert_eq!(receipt.message_id.as_deref(), Some("1000000000000000001"));
    let got = scene.receiver.journal().pop().unwrap();
    assert_eq!(got.path, "/api/webhooks/12/hidden?thread_id=5&wait=true");
    let message = got.json();
    assert_eq!(message["content"], "3 alerts\n\n0 \\*a\\*\n\n1 \\*a\\*\n\n2 \\*a\\*");
    assert_eq!(message["allowed_mentions"], json!({ "parse": [] }));
    assert_eq!(message["flags"], 4);
    for _ in 0..4 {
        scene.discord(&many(1, "a")).await.unwrap();
    }
    let error = scene.discord(&many(1, "a")).await.unwrap_err();
    let SendError::Wait { after, .. } = error else { panic!("{error}") };
    assert!(after > Duration::ZERO && after <= Duration::from_secs(2), "{after:?}");
}

#[tokio::test]
async fn what_does_not_fit_becomes_a_summary() {
    for (count, text, discord, slack) in [
        // Whole texts, then lines, then counts.
        (2, "short".to_owned(), "0 short", "0 short"),
        (10, "x".repeat(300), "Large transfer, chain 1, block 19000000", "0 xxx"),
        (20, "x".repeat(900), "Large transfer, chain 1, block 19000000", "Large transfer, chain 1"),
    ] {
        let scene = Scene::start().await;
        scene.discord(&many(count, &text)).await.unwrap();
        let content = scene.receiver.journal().pop().unwrap().json()["content"].clone();
        let content = content.as_str().unwrap();
        assert!(content.starts_with(&format!("{count} alerts\n\n{discord}")), "{content}");
        scene.slack(&many(count, &text)).await.unwrap();
        let blocks = scene.receiver.journal().pop().unwrap().json()["blocks"].clone();
        let second = blocks[1]["text"]["text"].as_str().unwrap();
        assert!(second.starts_with(slack), "{second}");
    }
    // Long names leave no room for lines, and hardly for counts.
    let scene = Scene::start().await;
    let mut parcel = many(20, &"x".repeat(900));
    for (n, item) in parcel.items.iter_mut().enumerate() {
        let alert = item.alert.as_mut().unwrap();
        (alert.rule_name, alert.rule_id) = ("*".repeat(500), format!("r{}", n % 2));
    }
    scene.discord(&parcel).await.unwrap();
    let content = scene.receiver.journal().pop().unwrap().json()["content"].clone();
    assert!(content.as_str().unwrap().ends_with("…\\: 10"), "{content}");
}

#[tokio::test]
async fn retractions_name_their_alert() {
    let scene = Scene::start().await;
    let retraction = parcel(ParcelKind::Retraction, [Some(alert(7))]);
    scene.discord(&retraction).await.unwrap();
    let content = scene.receiver.journal().pop().unwrap().json()["content"].clone();
    let content = content.as_str().unwrap().replace('\\', "");
    let expected = "Retracted, because its block was undone: Large transfer, chain 1, block \
                    19000000 (alert alert-7)\nLarge transfer 7";
    assert_eq!(content, expected);
    scene.slack(&retraction).await.unwrap();
    let message = scene.receiver.journal().pop().unwrap().json();
    assert_eq!(message["text"], "Retracted: Large transfer");
    assert_eq!(message["blocks"][0]["text"]["text"], expected);
}

#[tokio::test]
async fn services_that_are_gone_disable_the_channel() {
    let scene = Scene::start().await;
    let status = |code: u16| Fault::Status { code, retry_after: None };
    let parcel = one(alert(1));
    for (code, slack, discord) in [
        (400, "refused", "refused"),
        (401, "refused", "gone"),
        (403, "gone", "gone"),
        (404, "gone", "gone"),
        (410, "gone", "refused"),
        (307, "refused", "refused"),
        (500, "retry", "retry"),
        (503, "retry", "retry"),
    ] {
        scene.receiver.set([status(code)]);
        let named = |outcome: Result<Receipt, SendError>| match outcome.unwrap_err() {
            SendError::Wait { .. } => "wait",
            SendError::Retry { .. } => "retry",
            SendError::Refused { .. } => "refused",
            SendError::ChannelGone { .. } => "gone",
        };
        assert_eq!(named(scene.slack(&parcel).await), slack, "Slack, {code}");
        assert_eq!(named(scene.discord(&parcel).await), discord, "Discord, {code}");
    }
    // Whatever is in the store, it leads to the services alone.
    let elsewhere = ChannelSecrets {
        url: Some(Secret::new("https://evil.example/services/hidden")),
        ..ChannelSecrets::default()
    };
    for config in [ChannelConfig::Slack {}, ChannelConfig::Discord {}] {
        let sent = scene.senders.of(&config).unwrap().send(&config, &elsewhere, &parcel).await;
        let error = sent.unwrap_err();
        assert!(matches!(error, SendError::Refused { .. }), "{error}");
        assert!(!error.to_string().contains("hidden"), "{error}");
    }
}
