//! The engine against a stand-in that enforces Telegram's limits.

mod webhooks;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use lookout_store::{ChannelConfig, ChatKind, StoreUrl, TestAlert, TestDelivery};
use lookout_test::rpc::http_client;
use lookout_test::telegram::{FastClock, Fault, SentMessage, TelegramServer};
use lookout_types::{Secret, SystemClock};
use tokio::task::JoinHandle;

use super::*;
use crate::send::SenderSettings;
use crate::telegram::{Telegram, TelegramSettings};

const TOKEN: &str = "1:server-token";
const GROUP: i64 = -100;
const ADA: i64 = 7;
/// How much faster time runs where limits are waited for.
const FAST: u32 = 40;
const NOW: i64 = 1_760_000_000_000;
/// As long as no sender is killed, none has to be in a hurry: half a minute of this machine's time
/// where the clock runs fastest.
const LONG_LEASE: Duration = Duration::from_secs(1_200);
/// Longest that a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(120);

/// A store on disk, a Telegram, and an engine that can be killed and started again.
struct Rig {
    folder: tempfile::TempDir,
    clock: Arc<dyn Clock>,
    telegram: TelegramServer,
    store: Store,
    /// Of the clock's time.
    lease: Duration,
    engine: Option<(JoinHandle<()>, CancellationToken)>,
}

impl Rig {
    async fn new(clock: Arc<dyn Clock>) -> Self {
        Self::leasing_for(clock, LONG_LEASE).await
    }

    async fn leasing_for(clock: Arc<dyn Clock>, lease: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let telegram = TelegramServer::start(Arc::clone(&clock)).await.unwrap();
        telegram.add_bot(TOKEN, "LookoutBot");
        telegram.add_chat(GROUP, "group", "ops");
        telegram.add_chat(ADA, "private", "Ada");
        let store = open(folder.path().join("x.db"), &clock).await;
        store.migrate().await.unwrap();
        let mut rig = Self { folder, clock, telegram, store, lease, engine: None };
        rig.start();
        rig
    }

    async fn fast() -> Self {
        Self::new(Arc::new(FastClock::new(NOW, FAST))).await
    }

    async fn real() -> Self {
        Self::new(Arc::new(SystemClock)).await
    }

    fn start(&mut self) {
        let token = Some(Secret::new(TOKEN));
        let settings = TelegramSettings { api_url: self.telegram.url(), token };
        let sender = Telegram::new(settings, http_client(), self.store.clone());
        // Stand-ins are on this machine.
        let allow_private = vec!["127.0.0.0/8".parse().unwrap()];
        let guard = lookout_store::GuardSettings { allow_private, allow_http: true };
        let settings = SenderSettings { guard, ..SenderSettings::default() };
        let senders = Senders::new(&settings, Arc::clone(&self.clock)).unwrap();
        let stop = CancellationToken::new();
        let parts = DelivererParts {
            store: self.store.clone(),
            senders: senders.with_telegram(Arc::new(sender)),
            clock: Arc::clone(&self.clock),
            stop: stop.clone(),
        };
        // Seconds pass in milliseconds here.
        let engine = Deliverer::new(parts).looking_every(Duration::from_millis(5));
        let engine = engine.leasing_for(self.lease);
        self.engine = Some((tokio::spawn(engine.run()), stop));
    }

    /// As `kill -9` would: nothing is finished, and a new process opens the store.
    async fn kill_and_restart(&mut self) {
        let (task, _) = self.engine.take().unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        self.store = open(self.folder.path().join("x.db"), &self.clock).await;
        self.start();
    }

    async fn channel(&self, id: &str, chat: i64, secrets: &str) {
        let kind = if chat > 0 { ChatKind::Private } else { ChatKind::Group };
        let config = ChannelConfig::Telegram {
            chat_id: Some(chat),
            chat_title: None,
            chat_kind: Some(kind),
        };
        self.store.put_channel(id, "telegram", &config, secrets).await.unwrap();
    }

    async fn alerts(&self, channel: &str, ids: &[&str]) {
        let alerts: Vec<_> =
            ids.iter().map(|id| TestAlert::new(id, "whale", &format!("text {id}"))).collect();
        self.store.put_alerts(&alerts).await.unwrap();
        self.store.put_deliveries(channel, "alert", ids).await.unwrap();
    }

    async fn deliveries(&self) -> BTreeMap<String, TestDelivery> {
        let all = self.store.all_deliveries().await.unwrap();
        all.into_iter().map(|delivery| (delivery.id.clone(), delivery)).collect()
    }

    /// Waits until a condition on all deliveries holds.
    async fn until(&self, holds: impl Fn(&BTreeMap<String, TestDelivery>) -> bool) {
        let wait = async {
            while !holds(&self.deliveries().await) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            let states: Vec<_> = self.deliveries().await.into_values().take(5).collect();
            panic!("it did not come; {:?} {states:?}", self.telegram.violations());
        }
    }

    async fn until_all(&self, state: &str) {
        self.until(|all| all.values().all(|delivery| delivery.state == state)).await;
    }

    async fn until_ended(&self, id: &str) -> TestDelivery {
        self.until(|all| !["queued", "sending"].contains(&all[id].state.as_str())).await;
        self.deliveries().await.remove(id).unwrap()
    }

    fn texts(&self) -> Vec<String> {
        self.telegram.journal().into_iter().map(|sent| sent.text).collect()
    }

    async fn state_of(&self, channel: &str) -> (String, Option<String>) {
        let server = lookout_store::BotKey { token: Secret::new(TOKEN), is_server: true };
        let own = lookout_store::BotKey { token: Secret::new("9:own-token"), is_server: false };
        for bot in [&server, &own] {
            for chat in [ADA, GROUP, -1_000] {
                let found = self.store.chat_channels(bot, chat).await.unwrap();
                if let Some(found) = found.into_iter().find(|found| found.id == channel) {
                    return (found.state, found.reason);
                }
            }
        }
        panic!("no channel {channel}");
    }
}

async fn open(path: PathBuf, clock: &Arc<dyn Clock>) -> Store {
    Store::open(&StoreUrl::SqliteFile(path), Arc::clone(clock)).await.unwrap()
}

fn none() -> Vec<String> {
    Vec::new()
}

#[tokio::test]
async fn an_alert_goes_out_at_once() {
    let rig = Rig::real().await;
    rig.channel("c", ADA, "{}").await;
    rig.alerts("c", &["a"]).await;
    let delivery = rig.until_ended("alert-c-a").await;
    assert_eq!((delivery.state.as_str(), delivery.attempts), ("sent", 1));
    assert_eq!(delivery.message_id.as_deref(), Some("1"));
    let sent = &rig.telegram.journal()[0];
    assert_eq!((sent.text.as_str(), sent.chat), ("text a", ADA));
    assert_eq!(sent.request["link_preview_options"]["is_disabled"], true);
    assert!(sent.request.get("parse_mode").is_none());
    rig.store.put_deliveries("c", "test", &[""]).await.unwrap();
    rig.until_all("sent").await;
    assert!(rig.texts()[1].starts_with("Test message"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_alerts_to_a_group_end_in_a_few_messages() {
    let rig = Rig::fast().await;
    rig.channel("c", GROUP, "{}").await;
    let ids: Vec<String> = (0..10_000).map(|n| format!("{n:05}")).collect();
    let alerts: Vec<_> =
        ids.iter().map(|id| TestAlert::new(id, "whale", &format!("moved {id}"))).collect();
    rig.store.put_alerts(&alerts).await.unwrap();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    rig.store.put_deliveries("c", "alert", &ids).await.unwrap();
    rig.until_all("sent").await;
    assert_eq!(rig.telegram.violations(), none());
    let journal = rig.telegram.journal();
    assert!(journal.len() <= 8, "{} messages", journal.len());
    // Every delivery points to a message that was sent, and the messages count them all.
    let carried = rig.deliveries().await;
    let mut by_message: BTreeMap<i64, usize> = BTreeMap::new();
    for delivery in carried.values() {
        let id = delivery.message_id.as_ref().unwrap().parse().unwrap();
        *by_message.entry(id).or_default() += 1;
    }
    assert_eq!(carried.len(), 10_000);
    for SentMessage { id, text, .. } in &journal {
        let counted = text.lines().next().unwrap().replace(',', "");
        let counted = counted.strip_suffix(" alerts").map(|count| count.parse::<usize>().unwrap());
        assert_eq!(counted, Some(by_message[id]), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_steady_stream_keeps_twenty_a_minute() {
    let rig = Rig::fast().await;
    rig.channel("c", GROUP, "{}").await;
    rig.channel("d", GROUP, "{}").await;
    rig.channel("e", ADA, "{}").await;
    // Over a minute of the fast clock.
    for n in 0..60 {
        let id = format!("{n:02}");
        rig.alerts(["c", "d", "e"][n % 3], &[&id]).await;
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    rig.until_all("sent").await;
    assert_eq!(rig.telegram.violations(), none());
    let texts = rig.texts().join("\n");
    for n in 0..60 {
        assert_eq!(texts.matches(&format!("text {n:02}")).count(), 1, "{n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_after_is_honoured_exactly() {
    let rig = Rig::fast().await;
    rig.channel("c", ADA, "{}").await;
    rig.telegram.fail_next([Fault::TooMany(30), Fault::TooMany(7)]);
    let began = rig.clock.now();
    rig.alerts("c", &["a", "b"]).await;
    rig.until_all("sent").await;
    assert_eq!(rig.telegram.violations(), none());
    let journal = rig.telegram.journal();
    assert!(journal[0].at - began >= 37_000, "{}", journal[0].at - began);
    // Waiting is no try.
    assert_eq!(rig.deliveries().await["alert-c-a"].attempts, 1);
    assert_eq!(rig.telegram.calls("sendMessage"), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_tried_again() {
    let rig = Rig::fast().await;
    rig.channel("c", ADA, "{}").await;
    rig.telegram.fail_next([Fault::ServerError]);
    rig.alerts("c", &["a"]).await;
    rig.until_all("sent").await;
    let delivery = &rig.deliveries().await["alert-c-a"];
    assert_eq!(delivery.attempts, 2);
    assert_eq!(rig.texts(), ["text a"]);
    // What Telegram took without saying so comes twice, and no oftener.
    rig.telegram.fail_next([Fault::AnswerLost]);
    rig.alerts("c", &["b"]).await;
    rig.until_all("sent").await;
    assert_eq!(rig.texts(), ["text a", "text b", "text b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_entities_cost_only_the_entities() {
    let rig = Rig::fast().await;
    rig.channel("c", ADA, "{}").await;
    rig.telegram.fail_next([Fault::EntitiesRefused]);
    rig.alerts("c", &["a"]).await;
    rig.until_all("sent").await;
    assert_eq!(rig.texts(), ["text a"]);
    assert!(rig.telegram.journal()[0].request.get("entities").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_dies_alone() {
    let rig = Rig::fast().await;
    rig.channel("c", ADA, "{}").await;
    // Both forms of: the pair, then the first of it alone.
    rig.telegram.fail_next([Fault::Refused, Fault::Refused, Fault::Refused, Fault::Refused]);
    rig.alerts("c", &["a", "b"]).await;
    rig.until(|all| all.values().all(|d| ["sent", "dead"].contains(&d.state.as_str()))).await;
    let all = rig.deliveries().await;
    assert_eq!(all["alert-c-a"].state, "dead");
    assert_eq!(
        all["alert-c-a"].error.as_deref(),
        Some("Telegram answers 400: Bad Request: PEER_FLOOD")
    );
    assert_eq!(all["alert-c-b"].state, "sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_nothing_and_repeat_one_message_at_most() {
    let mut rig = Rig::leasing_for(Arc::new(FastClock::new(NOW, FAST)), LEASE).await;
    rig.channel("c", GROUP, "{}").await;
    rig.channel("e", ADA, "{}").await;
    let mut kills = 0;
    for round in 0..6 {
        for n in 0..5 {
            rig.alerts(["c", "e"][n % 2], &[&format!("{round}{n}")]).await;
        }
        // Until something is on its way, so that some kills fall between sending and settling.
        let calls = rig.telegram.calls("sendMessage");
        while rig.telegram.calls("sendMessage") == calls {
            tokio::task::yield_now().await;
        }
        rig.kill_and_restart().await;
        kills += 1;
    }
    rig.until_all("sent").await;
    // A message that was on its way on each of two channels.
    let texts = rig.texts();
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for text in texts.iter().flat_map(|text| text.split("\n\n")) {
        *seen.entry(text).or_default() += 1;
    }
    assert_eq!(seen.len(), 30, "{seen:?}");
    let unique: BTreeSet<&String> = texts.iter().collect();
    let most = seen.values().max().unwrap();
    assert!(texts.len() - unique.len() <= 2 * kills && *most <= 1 + kills, "{texts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retraction_answers_its_alert_once() {
    let rig = Rig::fast().await;
    rig.channel("c", ADA, "{}").await;
    rig.alerts("c", &["a", "b"]).await;
    rig.until_all("sent").await;
    rig.store.run_sql("UPDATE alerts SET state = 'retracted' WHERE id = 'a'").await.unwrap();
    rig.store.put_deliveries("c", "retraction", &["a"]).await.unwrap();
    rig.until_all("sent").await;
    // One that is undone before it is told is told by neither.
    let mut undone = TestAlert::new("u", "whale", "never");
    undone.state = "retracted".to_owned();
    rig.store.put_alerts(&[undone]).await.unwrap();
    rig.store.put_deliveries("c", "alert", &["u"]).await.unwrap();
    rig.store.put_deliveries("c", "retraction", &["u"]).await.unwrap();
    assert_eq!(rig.until_ended("retraction-c-u").await.state, "cancelled");
    assert_eq!(rig.until_ended("alert-c-u").await.state, "cancelled");
    let journal = rig.telegram.journal();
    let last = journal.last().unwrap();
    assert!(last.text.starts_with("Retracted") && last.text.ends_with("text a"), "{}", last.text);
    let of_alert = journal.iter().find(|sent| sent.text.contains("text a")).unwrap().id;
    assert_eq!(last.reply_to, Some(of_alert));
    assert_eq!(journal.iter().filter(|sent| sent.text.starts_with("Retracted")).count(), 1);
    assert!(!rig.texts().join("").contains("never"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gone_chats_and_wrong_tokens_disable_their_channel_only() {
    let rig = Rig::fast().await;
    rig.channel("blocked", ADA, "{}").await;
    rig.telegram.forbid(ADA);
    rig.channel("token", GROUP, r#"{"token":"9:own-token"}"#).await;
    rig.channel("fine", GROUP, "{}").await;
    for channel in ["blocked", "token", "fine"] {
        rig.alerts(channel, &[channel]).await;
    }
    assert_eq!(rig.until_ended("alert-fine-fine").await.state, "sent");
    // They wait until their channel is enabled.
    let failed = |all: &BTreeMap<String, TestDelivery>, id: &str| {
        all[id].state == "queued" && all[id].error.is_some()
    };
    let ids = ["alert-blocked-blocked", "alert-token-token"];
    rig.until(|all| ids.iter().all(|id| failed(all, id))).await;
    let mut all = rig.deliveries().await;
    let blocked = &all["alert-blocked-blocked"];
    let reason = "Telegram answers 403: Forbidden: bot was blocked by the user";
    assert_eq!((blocked.attempts, blocked.error.as_deref()), (0, Some(reason)));
    assert_eq!(rig.state_of("blocked").await, ("disabled".into(), Some(reason.into())));
    let error = all.remove("alert-token-token").unwrap().error.unwrap();
    assert!(error.contains("401") && error.contains("token of the channel's bot"), "{error}");
    assert!(!error.contains("own-token"), "{error}");
    assert_eq!(rig.state_of("fine").await.0, "active");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_server_token_disables_nobody() {
    let rig = Rig::fast().await;
    rig.channel("c", ADA, "{}").await;
    rig.telegram.revoke(TOKEN);
    rig.alerts("c", &["a"]).await;
    rig.until(|all| all["alert-c-a"].error.is_some()).await;
    let error = rig.deliveries().await["alert-c-a"].error.clone().unwrap();
    assert!(error.contains("server's Telegram bot") && !error.contains("server-token"), "{error}");
    rig.telegram.add_bot(TOKEN, "LookoutBot");
    rig.until_all("sent").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_grows_is_followed() {
    let rig = Rig::fast().await;
    rig.channel("c", GROUP, "{}").await;
    rig.telegram.migrate(GROUP, -1_000);
    rig.alerts("c", &["a"]).await;
    rig.until_all("sent").await;
    assert_eq!(rig.telegram.journal()[0].chat, -1_000);
    assert_eq!(rig.state_of("c").await.0, "active");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mute_holds_back_and_loses_nothing() {
    let rig = Rig::fast().await;
    rig.channel("c", ADA, "{}").await;
    let bot = lookout_store::BotKey { token: Secret::new(TOKEN), is_server: true };
    let until = rig.clock.now() + 60_000;
    rig.store.mute_chat(&bot, ADA, Some(until), 1).await.unwrap();
    rig.alerts("c", &["a", "b"]).await;
    rig.until_all("sent").await;
    let journal = rig.telegram.journal();
    assert_eq!(journal.len(), 1, "{journal:?}");
    assert!(journal[0].at >= until);
}

#[tokio::test]
async fn a_stop_finishes_what_is_under_way() {
    let mut rig = Rig::real().await;
    rig.channel("c", ADA, "{}").await;
    rig.alerts("c", &["a"]).await;
    rig.until(|all| all["alert-c-a"].state != "queued").await;
    let (task, stop) = rig.engine.take().unwrap();
    stop.cancel();
    task.await.unwrap();
    assert_eq!(rig.deliveries().await["alert-c-a"].state, "sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_chats_share_the_bots_thirty_a_second() {
    // Slower, because a machine that stalls for a moment does not thin out what is on its way.
    let rig = Rig::new(Arc::new(FastClock::new(NOW, 10))).await;
    for chat in 1_000..1_100 {
        rig.telegram.add_chat(chat, "private", "x");
        rig.channel(&format!("c{chat}"), chat, "{}").await;
    }
    rig.store.put_alerts(&[TestAlert::new("a", "whale", "text")]).await.unwrap();
    for chat in 1_000..1_100 {
        rig.store.put_deliveries(&format!("c{chat}"), "alert", &["a"]).await.unwrap();
    }
    rig.until_all("sent").await;
    assert_eq!(rig.telegram.violations(), none());
    assert_eq!(rig.telegram.journal().len(), 100);
}
