//! The senders against stand-ins that keep the rules of the real services.

mod groups;
mod hostile;
mod mail;
mod mail_tls;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use lookout_store::{AlertState, SignatureScheme, SigningKey};
use lookout_test::Receiver;
use lookout_test::receiver::Fault;
use lookout_types::{BlockRef, ChainId, FixedClock, Hash, Secret};
use serde_json::json;

use super::*;

const NOW: i64 = 1_760_000_000_000;
/// A `UUIDv7` of 2025-10-09T08:53:20.123Z.
const ID: &str = "0199c82c-c07b-7000-8000-000000000001";

/// Names as a test wants them.
#[derive(Debug, Default)]
struct FakeNames(HashMap<&'static str, Vec<IpAddr>>);

#[async_trait]
impl Names for FakeNames {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.0.get(name).cloned().ok_or_else(|| io::Error::other("no such name"))
    }
}

fn names(list: &[(&'static str, &[&str])]) -> Arc<FakeNames> {
    let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Arc::new(FakeNames(list.iter().map(|(name, to)| (*name, parse(to))).collect()))
}

/// A server whose operator allows loopback, so that stand-ins can be reached.
fn loopback() -> lookout_store::GuardSettings {
    let allow_private = vec!["127.0.0.0/8".parse().unwrap()];
    lookout_store::GuardSettings { allow_private, allow_http: true }
}

fn sender(settings: lookout_store::GuardSettings, names: Arc<FakeNames>) -> Webhook {
    let guard = Guard::new(settings, names).unwrap();
    Webhook::new(guard, Arc::new(FixedClock::at(NOW)))
}

fn alert(n: u64) -> Alert {
    Alert {
        id: format!("alert-{n}"),
        rule_id: "rule".into(),
        rule_name: "Large transfer".into(),
        rule_version: 3,
        chain: ChainId(1),
        block: BlockRef { number: 19_000_000, hash: Hash([7; 32]) },
        block_time: 1_700_000_000,
        record: json!({ "log": 4 }),
        occurrence: 1,
        facts: json!({ "value": "1500000" }),
        text: format!("Large transfer {n}"),
        spans: Vec::new(),
        confirms_at: 19_000_003,
        state: AlertState::Confirmed,
        created_at: 1_700_000_001_000,
        confirmed_at: Some(1_700_000_002_000),
        retracted_at: None,
    }
}

fn parcel(kind: ParcelKind, alerts: impl IntoIterator<Item = Option<Alert>>) -> Parcel {
    let items = alerts.into_iter().enumerate();
    let items = items.map(|(n, alert)| Item { delivery: format!("d{n}"), alert }).collect();
    Parcel { id: ID.into(), kind, items, reply_to: None }
}

fn one(alert: Alert) -> Parcel {
    parcel(ParcelKind::Alert, [Some(alert)])
}

fn signing(schemes: &[SignatureScheme]) -> ChannelSecrets {
    let signing = schemes.iter().map(|scheme| SigningKey::generate(*scheme, NOW).unwrap());
    ChannelSecrets { signing: signing.collect(), ..ChannelSecrets::default() }
}

fn to(url: impl Into<String>) -> ChannelConfig {
    ChannelConfig::Webhook { url: url.into() }
}

fn public(key: &SigningKey) -> String {
    let seed: [u8; 32] = key.bytes().unwrap().try_into().unwrap();
    let public = ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key();
    let text =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, public.as_bytes());
    format!("whpk_{text}")
}

#[tokio::test]
async fn webhooks_arrive_signed_and_whole() {
    let receiver = Receiver::start().await.unwrap();
    let webhook = sender(loopback(), names(&[]));
    let secrets = signing(&[SignatureScheme::Hmac, SignatureScheme::Ed25519]);
    let (old, new) = (secrets.signing[0].key.expose().to_owned(), public(&secrets.signing[1]));
    let config = to(receiver.url("/hook?a=b"));
    let send = |parcel: Parcel| {
        let (webhook, config, secrets) = (&webhook, &config, &secrets);
        async move { webhook.send(config, secrets, &parcel).await }
    };
    // During a rotation either key alone is enough for the receiver.
    for keys in [vec![old.clone()], vec![new.clone()], vec![old, new]] {
        receiver.trust(keys.clone());
        send(one(alert(1))).await.unwrap();
        let got = receiver.journal().pop().unwrap();
        assert_eq!(got.signatures.len(), 2);
        assert_eq!(got.signatures.iter().filter(|good| **good).count(), keys.len());
    }
    let got = receiver.journal().pop().unwrap();
    assert_eq!(got.violations, [] as [String; 0]);
    assert_eq!((got.path.as_str(), got.headers["webhook-id"].as_str()), ("/hook?a=b", ID));
    assert_eq!(got.headers["webhook-timestamp"], "1760000000");
    assert!(got.headers["user-agent"].starts_with("Lookout/"));
    let expected = json!({
        "type": "alert.confirmed",
        // Of the delivery, so that every try has the same body.
        "timestamp": "2025-10-09T08:53:20.123Z",
        "data": alert(1),
    });
    assert_eq!(got.json(), expected);
    let retracted =
        Alert { state: AlertState::Retracted, retracted_at: Some(1_700_000_003_000), ..alert(1) };
    send(parcel(ParcelKind::Retraction, [Some(retracted.clone())])).await.unwrap();
    let got = receiver.journal().pop().unwrap().json();
    assert_eq!((&got["type"], &got["data"]), (&json!("alert.retracted"), &json!(retracted)));
    // A first message says what it said when it was first tried.
    send(one(retracted)).await.unwrap();
    assert_eq!(receiver.journal().pop().unwrap().json(), expected);
    send(parcel(ParcelKind::Test, [None])).await.unwrap();
    assert_eq!(receiver.journal().pop().unwrap().json()["type"], "channel.test");
    assert_eq!(webhook.items_max(&config), 1);
    let two = parcel(ParcelKind::Alert, [Some(alert(1)), Some(alert(2))]);
    assert!(matches!(send(two).await, Err(SendError::Refused { .. })));
}

#[tokio::test]
async fn answers_decide_about_another_try() {
    let receiver = Receiver::start().await.unwrap();
    let webhook = sender(loopback(), names(&[]));
    let (config, secrets) = (to(receiver.url("/")), signing(&[SignatureScheme::Hmac]));
    let answered = |fault: Fault| {
        receiver.next([fault]);
        let (webhook, config, secrets) = (&webhook, &config, &secrets);
        async move { webhook.send(config, secrets, &one(alert(1))).await }
    };
    let status = |code: u16, after: Option<&str>| Fault::Status {
        code,
        retry_after: after.map(str::to_owned),
    };
    let seconds = |seconds: u64| Some(Duration::from_secs(seconds));
    for (fault, expected) in [
        (status(429, Some("7")), seconds(7)),
        (status(429, Some("0")), None),
        (status(503, Some("0")), None),
        (status(503, Some("Thu, 09 Oct 2025 08:00:00 GMT")), None),
        (status(503, Some("Thu, 09 Oct 2025 08:54:20 GMT")), seconds(60)),
        (status(502, None), None),
        (status(500, None), None),
        (status(404, None), None),
        (status(400, Some("soon")), None),
    ] {
        let error = answered(fault.clone()).await.unwrap_err();
        let (after, reason) = match &error {
            // Only one that says that it has not taken the message costs no try.
            SendError::Wait { after, reason } => {
                assert_eq!(fault, status(429, Some("7")));
                (Some(*after), reason)
            }
            SendError::Retry { after, reason } => (*after, reason),
            other => panic!("{fault:?}: {other}"),
        };
        assert_eq!(after, expected, "{fault:?}");
        assert!(reason.ends_with(": not now"), "{reason}");
    }
    let gone = answered(status(410, None)).await.unwrap_err();
    assert!(matches!(gone, SendError::ChannelGone { .. }), "{gone}");
    let lost = answered(Fault::DropAfterAccepting).await.unwrap_err();
    assert!(matches!(lost, SendError::Retry { .. }), "{lost}");
    assert!(!lost.to_string().contains("http"), "{lost}");
    answered(Fault::LongAnswer(10 << 20)).await.unwrap();
    let closed = to("http://127.0.0.1:1/");
    let error = webhook.send(&closed, &secrets, &one(alert(1))).await.unwrap_err();
    assert!(error.to_string().starts_with("cannot connect to the receiver"), "{error}");
    assert!(matches!(error, SendError::Retry { .. }));
    let ended = ChannelSecrets::default();
    let error = webhook.send(&config, &ended, &one(alert(1))).await.unwrap_err();
    assert!(error.to_string().contains("no signing key"), "{error}");
}

#[tokio::test]
async fn a_silent_receiver_is_given_up_in_time() {
    let receiver = Receiver::start().await.unwrap();
    receiver.set([Fault::Silent]);
    let guard = Guard::within(loopback(), names(&[]), Duration::from_millis(50)).unwrap();
    let webhook = Webhook::new(guard, Arc::new(FixedClock::at(NOW)));
    let secrets = signing(&[SignatureScheme::Hmac]);
    let sent = webhook.send(&to(receiver.url("/")), &secrets, &one(alert(1))).await;
    let error = sent.unwrap_err();
    assert_eq!(error.to_string(), "the receiver did not answer in time");
    assert!(matches!(error, SendError::Retry { .. }), "{error}");
}

#[tokio::test]
async fn redirects_lead_nowhere() {
    let (first, second) = (Receiver::start().await.unwrap(), Receiver::start().await.unwrap());
    let webhook = sender(loopback(), names(&[]));
    let secrets = signing(&[SignatureScheme::Hmac]);
    for target in [second.url("/inside"), "http://169.254.169.254/".into(), "file:///etc".into()] {
        first.next([Fault::Redirect(target)]);
        let sent = webhook.send(&to(first.url("/")), &secrets, &one(alert(1))).await;
        let error = sent.unwrap_err();
        assert!(matches!(error, SendError::Refused { .. }), "{error}");
        assert!(error.to_string().contains("answered 307, and redirects are not followed"));
    }
    assert!(second.journal().is_empty());
}

#[tokio::test]
async fn names_that_lead_inside_are_refused() {
    let receiver = Receiver::start().await.unwrap();
    let names = names(&[
        ("inside.example", &["127.0.0.1"]),
        ("mapped.example", &["::ffff:127.0.0.1"]),
        ("metadata.example", &["169.254.169.254", "fd00:ec2::254"]),
        ("mixed.example", &["10.0.0.1", "127.0.0.1"]),
    ]);
    let secrets = signing(&[SignatureScheme::Hmac]);
    let strict = lookout_store::GuardSettings { allow_private: Vec::new(), allow_http: true };
    let webhook = sender(strict, names.clone());
    for host in ["inside.example", "mapped.example", "metadata.example", "mixed.example"] {
        let url = format!("http://{host}:{}/", receiver.port());
        let error = webhook.send(&to(url), &secrets, &one(alert(1))).await.unwrap_err();
        assert!(matches!(error, SendError::Refused { .. }), "{host}: {error}");
        let expected = format!("`{host}` leads to a forbidden address: ");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    // Hosts that are addresses are never resolved.
    let port = receiver.port();
    for url in [format!("http://127.0.0.1:{port}/"), format!("http://[::ffff:7f00:1]:{port}/")] {
        let error = webhook.send(&to(url), &secrets, &one(alert(1))).await.unwrap_err();
        assert!(matches!(error, SendError::Refused { .. }), "{error}");
    }
    let error = webhook.send(&to("http://nowhere.example/"), &secrets, &one(alert(1))).await;
    assert!(matches!(error, Err(SendError::Retry { .. })), "a name may come back: {error:?}");
    assert!(receiver.journal().is_empty());
    // Of several addresses only those that were checked are connected to.
    let allowed = sender(loopback(), names);
    let url = format!("http://mixed.example:{port}/");
    allowed.send(&to(url), &secrets, &one(alert(1))).await.unwrap();
    assert_eq!(receiver.accepted().len(), 1);
}

#[tokio::test]
async fn the_registry_knows_every_kind_and_says_what_is_missing() {
    let clock = Arc::new(FixedClock::at(NOW));
    let senders = Senders::new(&SenderSettings::default(), clock).unwrap();
    for config in [to("https://example.com/"), ChannelConfig::Slack {}, ChannelConfig::Discord {}] {
        senders.of(&config).unwrap();
    }
    let chat = ChannelConfig::Telegram { chat_id: Some(1), chat_title: None, chat_kind: None };
    let mail = ChannelConfig::Email { to: vec!["a@example.com".into()] };
    for config in [&chat, &mail] {
        let error = senders.of(config).unwrap_err();
        assert!(error.to_string().contains("not set up to send to"), "{error}");
    }
    let webhook = senders.of(&to("https://example.com/")).unwrap().clone();
    let senders = senders.with_telegram(webhook);
    let (sender, none, parcel) =
        (senders.of(&chat).unwrap(), ChannelSecrets::default(), one(alert(1)));
    let error = sender.send(&chat, &none, &parcel).await.unwrap_err();
    assert_eq!(error.to_string(), "a telegram channel came to the wrong sender");
}

#[test]
fn paces_are_shared_by_destination_and_show_no_secret() {
    let clock = Arc::new(FixedClock::at(NOW));
    let senders = Senders::new(&SenderSettings::default(), clock).unwrap();
    let secrets =
        |url: &str| ChannelSecrets { url: Some(Secret::new(url)), ..ChannelSecrets::default() };
    let paces = |config: &ChannelConfig, secrets: &ChannelSecrets| {
        senders.of(config).unwrap().paces(config, secrets)
    };
    let slack = ChannelConfig::Slack {};
    let (a, b) = (
        secrets("https://hooks.slack.com/services/a"),
        secrets("https://hooks.slack.com/services/b"),
    );
    assert_eq!(paces(&slack, &a), paces(&slack, &a));
    assert_ne!(paces(&slack, &a), paces(&slack, &b));
    assert!(!paces(&slack, &a)[0].destination.contains("services"));
    assert_eq!(paces(&slack, &a)[0].every, Duration::from_secs(1));
    assert_eq!(paces(&ChannelConfig::Discord {}, &a)[0].every, Duration::from_secs(2));
    // All channels on one host count together, whatever their paths.
    let none = ChannelSecrets::default();
    let host = |url: &str| paces(&to(url), &none);
    assert_eq!(host("https://example.com/a?x"), host("https://example.com/b"));
    assert_ne!(host("https://example.com/"), host("https://example.com:8443/"));
}
