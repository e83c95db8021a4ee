//! The bot's ear, and what may never be told.

use std::collections::BTreeMap;
use std::sync::Arc;

use lookout_store::{StoreUrl, TENANT_DEFAULT};
use lookout_test::rpc::http_client;
use lookout_test::telegram::{FastClock, TelegramServer};
use lookout_types::{Clock, SystemClock};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::send::Item;

const TOKEN: &str = "1:server-token";
const OWN: &str = "2:own-token";
const ADA: i64 = 7;
const GROUP: i64 = -5;
const NOW: i64 = 1_760_000_000_000;
const PATIENCE: Duration = Duration::from_secs(60);

struct Rig {
    folder: tempfile::TempDir,
    clock: Arc<dyn Clock>,
    server: TelegramServer,
    store: Store,
    ears: Vec<(JoinHandle<()>, CancellationToken)>,
}

impl Rig {
    async fn new() -> Self {
        Self::at(Arc::new(FastClock::new(NOW, 40))).await
    }

    async fn at(clock: Arc<dyn Clock>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = TelegramServer::start(Arc::clone(&clock)).await.unwrap();
        server.add_bot(TOKEN, "LookoutBot");
        server.add_chat(ADA, "private", "Ada");
        server.add_chat(GROUP, "group", "ops");
        let url = StoreUrl::SqliteFile(folder.path().join("x.db"));
        let store = Store::open(&url, Arc::clone(&clock)).await.unwrap();
        store.migrate().await.unwrap();
        Self { folder, clock, server, store, ears: Vec::new() }
    }

    async fn listen(&mut self) {
        let url = StoreUrl::SqliteFile(self.folder.path().join("x.db"));
        let store = Store::open(&url, Arc::clone(&self.clock)).await.unwrap();
        let stop = CancellationToken::new();
        let parts = BotsParts {
            store,
            telegram: Arc::new(self.sender()),
            clock: Arc::clone(&self.clock),
            stop: stop.clone(),
        };
        self.ears.push((tokio::spawn(Bots::new(parts).run()), stop));
    }

    async fn stop(&mut self) {
        for (task, stop) in self.ears.drain(..) {
            stop.cancel();
            task.await.unwrap();
        }
    }

    fn sender(&self) -> Telegram {
        let settings =
            TelegramSettings { api_url: self.server.url(), token: Some(Secret::new(TOKEN)) };
        Telegram::new(settings, http_client(), self.store.clone())
    }

    async fn channel(&self, id: &str, chat_id: Option<i64>, secrets: &str) {
        let config = ChannelConfig::Telegram { chat_id, chat_title: None, chat_kind: None };
        self.store.put_channel(id, "telegram", &config, secrets).await.unwrap();
    }

    /// Waits until a chat was told so many things; the last of them.
    async fn told(&self, chat: i64, count: usize) -> String {
        let all = || {
            let journal = self.server.journal().into_iter();
            journal.filter(|sent| sent.chat == chat).map(|sent| sent.text).collect::<Vec<_>>()
        };
        let wait = async {
            while all().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{count}: {:?}", all());
        assert_eq!(all().len(), count, "{:?}", all());
        all().pop().unwrap()
    }

    async fn channels(&self, chat: i64) -> Vec<(String, String)> {
        let bot = BotKey { token: Secret::new(TOKEN), is_server: true };
        let found = self.store.chat_channels(&bot, chat).await.unwrap();
        found.into_iter().map(|channel| (channel.id, channel.state)).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_is_linked_and_asks() {
    let mut rig = Rig::new().await;
    rig.channel("c", None, "{}").await;
    rig.listen().await;
    rig.server.say(TOKEN, ADA, 1, "/rules");
    assert!(rig.told(ADA, 1).await.starts_with("This chat is not linked."));
    rig.server.say(TOKEN, ADA, 1, "/start nonsense");
    assert!(rig.told(ADA, 2).await.starts_with("This code is not known"));
    let code = rig.store.make_link_code(TENANT_DEFAULT, "c").await.unwrap();
    rig.server.say(TOKEN, ADA, 1, &format!("/start {code}"));
    assert!(rig.told(ADA, 3).await.starts_with("Linked: alerts of channel ops arrive here"));
    assert_eq!(rig.channels(ADA).await, [("c".into(), "active".into())]);
    rig.store
        .run_sql(
            "INSERT INTO rules (tenant_id, id, name, chain_id, document, version, paused, \
             channels, confirmations, created_at, updated_at) VALUES ('default', 'r', \
             'Whales \u{202e}', 137, '', 1, 0, '[\"c\"]', 0, 0, 0)",
        )
        .await
        .unwrap();
    rig.server.say(TOKEN, ADA, 1, "/rules");
    assert_eq!(rig.told(ADA, 4).await, "Whales \u{fffd} (chain 137): watching");
    rig.server.say(TOKEN, ADA, 1, "/mute forever");
    assert!(rig.told(ADA, 5).await.starts_with("For how long?"));
    rig.server.say(TOKEN, ADA, 1, "/mute 1h");
    assert!(rig.told(ADA, 6).await.starts_with("Alerts are held back until 2025-10-09T"));
    rig.server.say(TOKEN, ADA, 1, "/status");
    let status = rig.told(ADA, 7).await;
    assert!(status.starts_with("Channel ops: muted until 2025-10-09T"), "{status}");
    assert!(status.contains("\nwaiting: 0\nlast message: never\nchain 137: not followed yet"));
    rig.server.say(TOKEN, ADA, 1, "/unmute");
    assert_eq!(rig.told(ADA, 8).await, "Alerts are sent again.");
    rig.server.say(TOKEN, ADA, 1, "hello?");
    assert!(rig.told(ADA, 9).await.starts_with("I send alerts of Lookout."));
    assert_eq!(rig.server.violations(), Vec::<String>::new());
    assert_eq!(rig.server.calls("setMyCommands"), 1);
    let url = rig.store.link_url(TENANT_DEFAULT, "c", "x").await.unwrap();
    assert_eq!(url.as_deref(), Some("https://t.me/LookoutBot?start=x"));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_link_move_and_remove_the_bot() {
    let mut rig = Rig::new().await;
    rig.channel("c", None, "{}").await;
    rig.listen().await;
    let code = rig.store.make_link_code(TENANT_DEFAULT, "c").await.unwrap();
    // None of this is for this bot.
    for text in ["good morning", "/start@OtherBot x", "/weather", "/rules@OtherBot"] {
        rig.server.say(TOKEN, GROUP, 1, text);
    }
    rig.server.say(TOKEN, GROUP, 1, &format!("/start@lookoutbot {code}"));
    assert!(rig.told(GROUP, 1).await.starts_with("Linked"));
    rig.server.push_update(
        TOKEN,
        json!({ "message": { "chat": { "id": GROUP, "type": "group" },
            "migrate_to_chat_id": -1_005 } }),
    );
    rig.server.push_update(TOKEN, json!({ "message": "not a message" }));
    let removed = json!({ "chat": { "id": -1_005, "type": "supergroup", "title": "ops" },
        "new_chat_member": { "status": "kicked" } });
    rig.server.push_update(TOKEN, json!({ "my_chat_member": removed }));
    let wait = async {
        while rig.channels(-1_005).await != [("c".to_owned(), "disabled".to_owned())] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap();
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_answered_twice_and_one_instance_listens() {
    // The right to listen is renewed with every poll, which takes as long as it takes.
    let mut rig = Rig::at(Arc::new(SystemClock)).await;
    rig.listen().await;
    rig.server.say(TOKEN, ADA, 1, "/help");
    rig.told(ADA, 1).await;
    // Both wait for the first to stop, and only one of them listens then.
    rig.listen().await;
    rig.listen().await;
    rig.server.say(TOKEN, ADA, 1, "/help");
    rig.told(ADA, 2).await;
    rig.stop().await;
    rig.listen().await;
    rig.server.say(TOKEN, ADA, 1, "/help");
    rig.told(ADA, 3).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channels_own_bot_listens_too() {
    let mut rig = Rig::new().await;
    rig.server.add_bot(OWN, "OwnBot");
    rig.channel("c", None, &json!({ "token": OWN }).to_string()).await;
    rig.listen().await;
    let code = rig.store.make_link_code(TENANT_DEFAULT, "c").await.unwrap();
    rig.server.say(TOKEN, ADA, 1, &format!("/start {code}"));
    assert!(rig.told(ADA, 1).await.starts_with("This code is not known"));
    rig.server.say(OWN, ADA, 1, &format!("/start {code}"));
    assert!(rig.told(ADA, 2).await.starts_with("Linked"));
    assert_eq!(rig.server.journal()[1].token, OWN);
    rig.stop().await;
}

fn parcel() -> Parcel {
    let item = Item { delivery: "d".into(), alert: None };
    Parcel { id: "d".into(), kind: ParcelKind::Test, items: vec![item], reply_to: None }
}

fn to_ada() -> ChannelConfig {
    let chat_kind = Some(ChatKind::Private);
    ChannelConfig::Telegram { chat_id: Some(ADA), chat_title: None, chat_kind }
}

#[tokio::test]
async fn no_error_and_no_debug_shows_a_token() {
    let rig = Rig::new().await;
    let secrets = |token: &str| ChannelSecrets {
        token: Some(Secret::new(token)),
        ..ChannelSecrets::default()
    };
    let mut shown: BTreeMap<&str, String> = BTreeMap::new();
    let sender = rig.sender();
    for (case, token) in [
        ("unknown", "9:hidden-token"),
        ("path", "../hidden-token"),
        ("url", "9:hidden-token@evil.example/x?y#z"),
        ("lines", "9:hidden-token\r\nx: y"),
    ] {
        let error = sender.send(&to_ada(), &secrets(token), &parcel()).await.unwrap_err();
        assert!(matches!(error, SendError::ChannelGone { .. }), "{error:?}");
        shown.insert(case, format!("{error} {error:?}"));
    }
    let closed = TelegramSettings {
        api_url: "http://127.0.0.1:9/".into(),
        token: Some(Secret::new("9:hidden-token")),
    };
    let closed = Telegram::new(closed, http_client(), rig.store.clone());
    let none = ChannelSecrets::default();
    let error = closed.send(&to_ada(), &none, &parcel()).await.unwrap_err();
    assert!(matches!(error, SendError::Retry { after: None, .. }), "{error:?}");
    shown.insert("closed", format!("{error} {error:?}"));
    shown.insert("sender", format!("{closed:?}"));
    let paces = closed.paces(&to_ada(), &none);
    assert_eq!(paces.len(), 2);
    shown.insert("paces", format!("{paces:?} {}", closed.bot(&none).unwrap().id()));
    for (case, text) in shown {
        assert!(!text.contains("hidden"), "{case}: {text}");
    }
}

#[tokio::test]
async fn paces_are_those_of_the_kind_of_chat() {
    let rig = Rig::new().await;
    let sender = rig.sender();
    let none = ChannelSecrets::default();
    for (chat, kind, every) in [
        (7, Some(ChatKind::Private), PRIVATE_EVERY),
        (7, None, PRIVATE_EVERY),
        (-7, None, GROUP_EVERY),
        (-7, Some(ChatKind::Group), GROUP_EVERY),
        (-7, Some(ChatKind::Supergroup), GROUP_EVERY),
        (-7, Some(ChatKind::Channel), GROUP_EVERY),
    ] {
        let config =
            ChannelConfig::Telegram { chat_id: Some(chat), chat_title: None, chat_kind: kind };
        let paces = sender.paces(&config, &none);
        assert_eq!((paces[0].every, paces[1].every), (BOT_EVERY, every), "{chat} {kind:?}");
    }
    let unlinked = ChannelConfig::Telegram { chat_id: None, chat_title: None, chat_kind: None };
    assert_eq!(sender.paces(&unlinked, &none), []);
    let error = sender.send(&unlinked, &none, &parcel()).await.unwrap_err();
    assert!(error.to_string().contains("no chat is linked"), "{error}");
}
