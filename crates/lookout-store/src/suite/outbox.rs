//! The outbox on every engine.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, Row};

use super::shared_time::on_shared_clock;
use super::{NOW, Rig, on_file, on_memory, on_postgres};
use crate::{
    Actor, AlertState, DeliveryKind, LeaseAsk, Leased, LeasedParcel, Outcome, Page, QueueDepth,
    SpanKind, Store, TENANT_DEFAULT, TestAlert, Turn,
};

mod fairness;
mod waits;

suite!(
    memory,
    super::on_memory,
    [
        what_is_due_goes_together,
        a_lease_is_fenced_and_ends,
        paces_hold_across_channels,
        retries_wait_and_end,
        a_gone_channel_is_disabled,
        silences_end_and_mutes_hold_back,
        retractions_follow_their_alerts,
        unreadable_rows_hold_nothing_up,
        a_deep_queue_is_cheap_to_look_at,
    ]
);
suite!(
    file,
    super::on_file,
    [
        what_is_due_goes_together,
        a_lease_is_fenced_and_ends,
        paces_hold_across_channels,
        retries_wait_and_end,
        a_gone_channel_is_disabled,
        silences_end_and_mutes_hold_back,
        retractions_follow_their_alerts,
        unreadable_rows_hold_nothing_up,
        instances_share_the_work,
    ]
);
suite!(
    postgres,
    super::on_postgres,
    [
        what_is_due_goes_together,
        a_lease_is_fenced_and_ends,
        paces_hold_across_channels,
        retries_wait_and_end,
        a_gone_channel_is_disabled,
        silences_end_and_mutes_hold_back,
        retractions_follow_their_alerts,
        unreadable_rows_hold_nothing_up,
        instances_share_the_work,
    ]
);

/// How long a sender may take here.
const LEASE_MS: i64 = 45_000;

/// A store with a tenant, filled by hand: what writes these rows lives elsewhere.
pub(super) struct Filled {
    pub(super) store: Store,
    rig: Rig,
}

impl Filled {
    pub(super) async fn new(rig: &Rig) -> Self {
        let made = Self::on(rig, &on_shared_clock(rig).await);
        made.run("INSERT INTO tenants (tenant_id, created_at) VALUES ('default', 0)").await;
        made
    }

    fn on(rig: &Rig, store: &Store) -> Self {
        let (url, clock) = (rig.url.clone(), Arc::clone(&rig.clock));
        Self { store: store.clone(), rig: Rig { url, clock } }
    }

    pub(super) async fn advance(&self, millis: i64) {
        super::shared_time::advance(&self.rig, &self.store, millis).await;
    }

    pub(super) async fn run(&self, sql: &str) -> u64 {
        let done = sqlx::query(AssertSqlSafe(sql)).execute(self.store.pool()).await.unwrap();
        done.rows_affected()
    }

    pub(super) async fn channel(&self, id: &str, config: &str, secrets: &str) {
        self.run(&format!(
            "INSERT INTO channels (tenant_id, id, name, kind, config, secrets, state, \
             created_at, updated_at) VALUES ('default', '{id}', 'ops', 'telegram', '{config}', \
             '{secrets}', 'active', 0, 0)"
        ))
        .await;
    }

    async fn plain_channel(&self, id: &str) {
        let config = r#"{"kind":"telegram","chatId":7,"chatTitle":"x","chatKind":"private"}"#;
        self.channel(id, config, "{}").await;
    }

    async fn alert(&self, id: &str, rule: &str, state: &str) {
        let spans = r#"[{"offset":0,"length":4,"kind":"bold"}]"#.to_owned();
        let alert = TestAlert {
            spans,
            state: state.to_owned(),
            ..TestAlert::new(id, rule, &format!("text {id}"))
        };
        self.store.put_alerts(&[alert]).await.unwrap();
    }

    async fn queue(&self, id: &str, channel: &str, alert: &str, kind: &str) {
        self.run(&format!(
            "INSERT INTO deliveries (tenant_id, id, channel_id, alert_id, kind, state, attempts, \
             due_at, created_at) VALUES ('default', '{id}', '{channel}', '{alert}', '{kind}', \
             'queued', 0, {NOW}, {NOW})"
        ))
        .await;
    }

    /// An alert and its delivery on channel `c`.
    async fn queued(&self, id: &str) {
        self.alert(&format!("a{id}"), "r", "confirmed").await;
        self.queue(&format!("d{id}"), "c", &format!("a{id}"), "alert").await;
    }

    async fn lease(&self, channel: &str) -> Leased {
        self.lease_with(channel, 10, &[]).await
    }

    async fn lease_with(&self, channel: &str, items_max: usize, turns: &[Turn]) -> Leased {
        let tenant = TENANT_DEFAULT;
        let (chars_max, lease_ms) = (100_000, LEASE_MS);
        let ask = LeaseAsk { tenant, channel, items_max, chars_max, lease_ms, turns };
        self.store.lease_parcel(ask).await.unwrap().leased
    }

    async fn parcel(&self) -> LeasedParcel {
        parcel(self.lease("c").await)
    }

    async fn settle(&self, parcel: &LeasedParcel, outcome: Outcome) -> u64 {
        self.store.settle_parcel(&parcel.lease, &outcome, &[]).await.unwrap()
    }

    /// state, attempts, due from now on, message, error
    async fn row(&self, id: &str) -> (String, i64, i64, Option<String>, Option<String>) {
        let sql = "SELECT state, attempts, due_at, message_id, error FROM deliveries WHERE id = $1";
        let row = sqlx::query(sql).bind(id.to_owned()).fetch_one(self.store.pool()).await.unwrap();
        let due: i64 = row.get("due_at");
        (row.get("state"), row.get("attempts"), due - NOW, row.get("message_id"), row.get("error"))
    }

    async fn state(&self, id: &str) -> String {
        self.row(id).await.0
    }
}

fn parcel(leased: Leased) -> LeasedParcel {
    match leased {
        Leased::Parcel(parcel) => *parcel,
        other => panic!("no parcel but {other:?}"),
    }
}

fn ids(parcel: &LeasedParcel) -> Vec<&str> {
    parcel.items.iter().map(|item| item.delivery.as_str()).collect()
}

fn sent(message: &str) -> Outcome {
    Outcome::Sent { message_id: Some(message.to_owned()) }
}

fn turn(destination: &str, every_ms: i64) -> Turn {
    Turn { destination: destination.to_owned(), every_ms }
}

async fn what_is_due_goes_together(rig: &Rig) {
    let b = Filled::new(rig).await;
    b.plain_channel("c").await;
    assert!(b.store.due_channels().await.unwrap().channels.is_empty());
    for id in ["3", "1", "2"] {
        b.queued(id).await;
    }
    b.run("UPDATE deliveries SET due_at = due_at + 50 WHERE id = 'd3'").await;
    let due = b.store.due_channels().await.unwrap().channels;
    assert_eq!((due.len(), due[0].due_at, due[0].kind.as_str()), (1, NOW, "telegram"));
    assert!(due[0].settings.is_ok());
    let first = b.parcel().await;
    assert_eq!((ids(&first), first.kind), (vec!["d1", "d2"], DeliveryKind::Alert));
    let alert = first.items[0].alert.as_ref().unwrap();
    assert_eq!((alert.text.as_str(), alert.spans[0].kind), ("text a1", SpanKind::Bold));
    assert_eq!((alert.block.number, alert.record["log"].as_i64()), (5, Some(1)));
    assert_eq!(b.settle(&first, sent("m1")).await, 2);
    assert_eq!(b.row("d1").await, ("sent".into(), 1, 0, Some("m1".into()), None));
    assert_eq!(b.lease("c").await, Leased::Nothing);
    b.advance(50).await;
    let second = b.parcel().await;
    assert_eq!(ids(&second), ["d3"]);
    b.settle(&second, Outcome::Dead { reason: "no\nway".into() }).await;
    assert_eq!(b.row("d3").await.4, Some("noway".into()));
    assert!(b.store.due_channels().await.unwrap().channels.is_empty());
}

async fn a_lease_is_fenced_and_ends(rig: &Rig) {
    let b = Filled::new(rig).await;
    b.plain_channel("c").await;
    b.queued("1").await;
    let first = b.parcel().await;
    b.queued("2").await;
    // One parcel at a time on a channel.
    assert_eq!(b.lease("c").await, Leased::NotBefore(NOW + LEASE_MS));
    assert_eq!(b.store.requeue_expired().await.unwrap(), 0);
    b.advance(LEASE_MS).await;
    assert_eq!(b.store.requeue_expired().await.unwrap(), 1);
    let second = b.parcel().await;
    assert_eq!(ids(&second), ["d2", "d1"]);
    assert_eq!(second.items[1].attempts, 2);
    // Whoever comes back too late changes nothing.
    assert_eq!(b.settle(&first, sent("late")).await, 0);
    assert_eq!(b.state("d1").await, "sending");
    assert_eq!(b.settle(&second, sent("m")).await, 2);
    // A delivery whose sender always vanishes ends.
    b.queued("3").await;
    b.run("UPDATE deliveries SET attempts = 9 WHERE id = 'd3'").await;
    b.advance(1).await;
    b.parcel().await;
    b.advance(LEASE_MS).await;
    b.store.requeue_expired().await.unwrap();
    assert_eq!(b.state("d3").await, "dead");
}

async fn paces_hold_across_channels(rig: &Rig) {
    let b = Filled::new(rig).await;
    for channel in ["c", "e"] {
        b.plain_channel(channel).await;
    }
    b.queued("1").await;
    b.queue("x1", "e", "a1", "alert").await;
    let (bot, chat) = (turn("bot", 34), turn("chat", 3_000));
    let first = parcel(b.lease_with("c", 1, &[bot.clone(), chat.clone()]).await);
    assert_eq!(b.lease_with("e", 1, std::slice::from_ref(&bot)).await, Leased::NotBefore(NOW + 34));
    b.advance(34).await;
    // None is taken when one is not ready.
    assert_eq!(
        b.lease_with("e", 1, &[bot.clone(), chat.clone()]).await,
        Leased::NotBefore(NOW + 3_000)
    );
    assert_eq!(b.store.take_turn(std::slice::from_ref(&bot)).await.unwrap(), None);
    assert_eq!(b.store.take_turn(std::slice::from_ref(&bot)).await.unwrap(), Some(34));
    let ready = [("chat".to_owned(), 9_000), ("bot".to_owned(), 0)];
    b.store.settle_parcel(&first.lease, &sent("m"), &ready).await.unwrap();
    b.advance(5_000).await;
    assert_eq!(b.store.take_turn(&[chat]).await.unwrap(), Some(4_000));
    // Holding back never makes ready sooner, and an idle look paces nothing.
    assert_eq!(b.lease_with("c", 1, std::slice::from_ref(&bot)).await, Leased::Nothing);
    parcel(b.lease_with("e", 1, &[bot]).await);
    b.advance(100_000_000).await;
    assert_eq!(b.store.purge_pacing().await.unwrap(), 2);
}

async fn retries_wait_and_end(rig: &Rig) {
    let b = Filled::new(rig).await;
    b.plain_channel("c").await;
    for id in ["1", "2", "3"] {
        b.queued(id).await;
    }
    let first = b.parcel().await;
    let tries = vec![("d1".into(), Some(5)), ("d2".into(), Some(5)), ("d3".into(), None)];
    let outcome = Outcome::Retry { reason: "503".into(), tries, counts: true, wait_ms: Some(2) };
    assert_eq!(b.settle(&first, outcome).await, 3);
    assert_eq!(b.row("d1").await, ("queued".into(), 1, 5, None, Some("503".into())));
    assert_eq!(b.state("d3").await, "dead");
    b.advance(5).await;
    let again = b.parcel().await;
    assert_eq!(ids(&again), ["d1", "d2"]);
    let tries = vec![("d1".into(), Some(4)), ("d2".into(), Some(4))];
    let outcome = Outcome::Retry { reason: "429".into(), tries, counts: false, wait_ms: Some(4) };
    b.settle(&again, outcome).await;
    assert_eq!(b.row("d1").await.1, 1, "being asked to wait is no try");
    assert_eq!(b.store.queue_depth().await.unwrap(), QueueDepth { queued: 2, due: 0 });
}

async fn a_gone_channel_is_disabled(rig: &Rig) {
    let b = Filled::new(rig).await;
    b.plain_channel("c").await;
    b.queued("1").await;
    let parcel = b.parcel().await;
    b.queued("2").await;
    b.settle(&parcel, Outcome::Gone { reason: "the bot was blocked".into() }).await;
    // What was tried is no worse off than what was not.
    assert_eq!(
        b.row("d1").await,
        ("queued".into(), 0, 0, None, Some("the bot was blocked".into()))
    );
    assert_eq!(b.row("d2").await, ("queued".into(), 0, 0, None, None));
    b.queued("3").await;
    assert!(b.store.due_channels().await.unwrap().channels.is_empty());
    assert_eq!(b.lease("c").await, Leased::Nothing);
    let log = b.store.audit_log(TENANT_DEFAULT, &Page::default()).await.unwrap();
    assert_eq!(
        (log[0].action.as_str(), log[0].actor.as_str()),
        ("channel.disable", "system:deliver")
    );
    b.store.enable_channel(TENANT_DEFAULT, "c", &Actor::Cli).await.unwrap();
    assert_eq!(ids(&b.parcel().await), ["d1", "d2", "d3"]);
}

async fn silences_end_and_mutes_hold_back(rig: &Rig) {
    let b = Filled::new(rig).await;
    b.plain_channel("c").await;
    b.run(&format!(
        "INSERT INTO silences (tenant_id, id, matcher, comment, starts_at, ends_at, created_at) \
         VALUES ('default', 's', '{{\"rules\":[\"r\"],\"chains\":[1]}}', '', 0, {}, 0)",
        NOW + 10
    ))
    .await;
    b.queued("1").await;
    assert_eq!(b.lease("c").await, Leased::Again);
    assert_eq!(b.row("d1").await.4, Some("silence s".into()));
    assert_eq!(b.state("d1").await, "silenced");
    b.alert("other", "q", "confirmed").await;
    b.queue("d0", "c", "other", "alert").await;
    let parcel = b.parcel().await;
    assert_eq!(ids(&parcel), ["d0"]);
    b.settle(&parcel, sent("m")).await;
    // What was silenced stays so when the silence is over.
    b.advance(10).await;
    assert_eq!(b.lease("c").await, Leased::Nothing);
    b.queued("2").await;
    b.run(&format!("UPDATE channels SET muted_until = {}", NOW + 1_000)).await;
    assert_eq!(b.lease("c").await, Leased::Nothing);
    assert_eq!(b.store.due_channels().await.unwrap().channels[0].due_at, NOW + 1_000);
    b.advance(1_000).await;
    assert_eq!(ids(&b.parcel().await), ["d2"]);
}

async fn retractions_follow_their_alerts(rig: &Rig) {
    let b = Filled::new(rig).await;
    b.plain_channel("c").await;
    b.plain_channel("e").await;
    for id in ["1", "2", "3"] {
        b.queued(id).await;
    }
    let told = b.parcel().await;
    b.settle(&told, sent("m7")).await;
    b.queued("4").await;
    b.run("UPDATE alerts SET state = 'retracted'").await;
    for id in ["1", "2", "3", "4"] {
        b.queue(&format!("x{id}"), "c", &format!("a{id}"), "retraction").await;
        // Never told there.
        b.queue(&format!("y{id}"), "e", &format!("a{id}"), "retraction").await;
    }
    let parcel = b.parcel().await;
    assert_eq!((ids(&parcel), parcel.kind), (vec!["x1", "x2", "x3"], DeliveryKind::Retraction));
    assert_eq!(parcel.reply_to.as_deref(), Some("m7"));
    assert_eq!(parcel.items[0].alert.as_ref().unwrap().state, AlertState::Retracted);
    assert_eq!(
        (b.state("d4").await, b.state("x4").await),
        ("cancelled".into(), "cancelled".into())
    );
    b.settle(&parcel, sent("m8")).await;
    assert_eq!(b.lease("c").await, Leased::Nothing);
    assert_eq!(b.lease("e").await, Leased::Again);
    assert_eq!(b.state("y1").await, "cancelled");
}

async fn unreadable_rows_hold_nothing_up(rig: &Rig) {
    let b = Filled::new(rig).await;
    b.plain_channel("c").await;
    b.channel("bad", "{}", r#"{"token":{"hidden":1}}"#).await;
    b.queued("1").await;
    b.queued("2").await;
    b.queue("d3", "c", "nowhere", "alert").await;
    b.queue("d4", "bad", "a1", "alert").await;
    b.run("UPDATE alerts SET spans = 'x' WHERE id = 'a1'").await;
    assert_eq!(ids(&b.parcel().await), ["d2"]);
    let row = b.row("d1").await;
    assert_eq!(row.0, "dead");
    assert!(row.4.as_ref().unwrap().starts_with("its alert cannot be read: spans of"), "{row:?}");
    assert_eq!(b.state("d3").await, "cancelled");
    let due = b.store.due_channels().await.unwrap().channels;
    assert_eq!(due.len(), 1);
    let error = due[0].settings.as_ref().unwrap_err().to_string();
    assert!(error.contains("channel `bad`") && !error.contains("hidden"), "{error}");
}

/// That the queue is read by its index, whatever is in it.
async fn a_deep_queue_is_cheap_to_look_at(rig: &Rig) {
    let b = Filled::new(rig).await;
    let plan = sqlx::query(
        "EXPLAIN QUERY PLAN SELECT id, (SELECT MIN(due_at) FROM deliveries d \
         WHERE d.channel_id = c.id AND d.state = 'queued') AS due_at FROM channels c",
    );
    let rows = plan.fetch_all(b.store.pool()).await.unwrap();
    let steps: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
    let steps = steps.join("; ");
    assert!(steps.contains("COVERING INDEX deliveries_due (channel_id=?)"), "{steps}");
}

async fn instances_share_the_work(rig: &Rig) {
    let b = Filled::new(rig).await;
    b.plain_channel("c").await;
    for id in 100..140 {
        b.queued(&id.to_string()).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = rig.open().await;
        let other = Filled::on(rig, &store);
        tasks.spawn(async move {
            let mut seen = Vec::new();
            loop {
                match other.lease_with("c", 3, &[]).await {
                    Leased::Parcel(parcel) => {
                        assert_eq!(
                            other.settle(&parcel, sent("m")).await,
                            parcel.items.len() as u64
                        );
                        seen.extend(parcel.items.into_iter().map(|item| item.delivery));
                    }
                    Leased::Nothing => return seen,
                    Leased::NotBefore(_) | Leased::Again => tokio::task::yield_now().await,
                }
            }
        });
    }
    let mut seen: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    seen.sort();
    let expected: Vec<_> = (100..140).map(|id| format!("d{id}")).collect();
    assert_eq!(seen, expected, "each once");
}
