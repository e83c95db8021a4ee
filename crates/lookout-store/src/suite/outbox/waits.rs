//! Channels that wait, tries that are not clear, channels that go while they are sent to.

use super::super::{NOW, Rig};
use super::{Filled, LEASE_MS, ids, parcel, sent};
use crate::{
    Actor, ChannelChange, ChannelConfig, DeliveryState, GuardSettings, Leased, LeasedParcel,
    Outcome, QUEUE_WAITS_MS, Swept, TENANT_DEFAULT,
};

suite!(
    memory,
    crate::suite::on_memory,
    [
        a_wait_is_the_channels_own_and_ends_with_a_change,
        a_test_goes_out_in_spite_of_a_wait,
        asking_to_wait_counts_from_its_first_time,
        who_may_have_been_told_is_told_of_a_retraction,
        what_a_sender_learns_of_an_older_setting_is_not_about_the_newer,
        nothing_waits_for_a_deleted_channel,
        queues_of_inactive_channels_end,
    ]
);
suite!(
    file,
    crate::suite::on_file,
    [
        a_wait_is_the_channels_own_and_ends_with_a_change,
        who_may_have_been_told_is_told_of_a_retraction,
        nothing_waits_for_a_deleted_channel,
        queues_of_inactive_channels_end,
    ]
);
suite!(
    postgres,
    crate::suite::on_postgres,
    [
        a_wait_is_the_channels_own_and_ends_with_a_change,
        a_test_goes_out_in_spite_of_a_wait,
        asking_to_wait_counts_from_its_first_time,
        who_may_have_been_told_is_told_of_a_retraction,
        what_a_sender_learns_of_an_older_setting_is_not_about_the_newer,
        nothing_waits_for_a_deleted_channel,
        queues_of_inactive_channels_end,
        clocks_that_differ_change_nothing,
    ]
);

const DAY: i64 = 86_400_000;

/// Asked to wait for a time.
fn throttled(parcel: &LeasedParcel, wait_ms: i64) -> Outcome {
    let tries = ids(parcel).into_iter().map(|id| (id.to_owned(), Some(wait_ms))).collect();
    Outcome::Retry { reason: "429".into(), tries, counts: false, wait_ms: Some(wait_ms) }
}

/// No clear answer.
fn failed(parcel: &LeasedParcel, next: Option<i64>) -> Outcome {
    let tries = ids(parcel).into_iter().map(|id| (id.to_owned(), next)).collect();
    Outcome::Retry { reason: "timeout".into(), tries, counts: true, wait_ms: Some(1_000) }
}

impl Filled {
    /// Changes a channel as its owner does.
    async fn rename(&self, channel: &str) {
        let change = ChannelChange {
            name: "renamed".into(),
            config: ChannelConfig::Telegram { chat_id: None, chat_title: None, chat_kind: None },
            token: None,
            url: None,
        };
        let guard = GuardSettings::default();
        let done = self.store.update_channel(TENANT_DEFAULT, channel, change, &guard, &Actor::Cli);
        done.await.unwrap();
    }

    async fn due_at(&self, channel: &str) -> Option<i64> {
        let due = self.store.due_channels().await.unwrap().channels;
        due.iter().find(|due| due.id == channel).map(|due| due.due_at)
    }
}

async fn a_wait_is_the_channels_own_and_ends_with_a_change(rig: &Rig) {
    let b = Filled::new(rig).await;
    for channel in ["c", "e"] {
        b.plain_channel(channel).await;
    }
    b.queued("1").await;
    b.queue("x1", "e", "a1", "alert").await;
    let first = b.parcel().await;
    b.settle(&first, throttled(&first, DAY)).await;
    b.queued("2").await;
    // All of the channel waits, and nobody else.
    assert_eq!(b.lease("c").await, Leased::Nothing);
    assert_eq!((b.due_at("c").await, b.due_at("e").await), (Some(NOW + DAY), Some(NOW)));
    let other = parcel(b.lease("e").await);
    b.settle(&other, sent("m")).await;
    // Whoever changes the channel wants to know at once.
    b.rename("c").await;
    assert_eq!(b.due_at("c").await, Some(NOW));
    let again = b.parcel().await;
    assert_eq!((ids(&again), again.lease.failures), (vec!["d1", "d2"], 0));
    // A wait grows and ends with a success.
    b.settle(&again, throttled(&again, 10)).await;
    b.advance(10).await;
    let again = b.parcel().await;
    assert_eq!(again.lease.failures, 1);
    b.queued("3").await;
    b.settle(&again, sent("m")).await;
    let last = b.parcel().await;
    assert_eq!((ids(&last), last.lease.failures), (vec!["d3"], 0));
}

async fn a_test_goes_out_in_spite_of_a_wait(rig: &Rig) {
    let b = Filled::new(rig).await;
    b.plain_channel("c").await;
    b.queued("1").await;
    let first = b.parcel().await;
    b.settle(&first, throttled(&first, DAY)).await;
    b.queued("2").await;
    let test = b.store.queue_test(TENANT_DEFAULT, "c", &Actor::Cli).await.unwrap();
    assert_eq!(b.due_at("c").await, Some(NOW));
    let alone = b.parcel().await;
    assert_eq!(ids(&alone), [test.id.as_str()]);
    b.settle(&alone, sent("m")).await;
    // It works again.
    assert_eq!(ids(&b.parcel().await), ["d2"]);
}

async fn asking_to_wait_counts_from_its_first_time(rig: &Rig) {
    let b = Filled::new(rig).await;
    b.plain_channel("c").await;
    b.queued("1").await;
    b.advance(30 * DAY).await;
    let first = b.parcel().await;
    assert_eq!(first.items[0].throttled_since, None, "however old it is");
    let since = Some(NOW + 30 * DAY);
    b.settle(&first, throttled(&first, 1_000)).await;
    b.advance(1_000).await;
    let again = b.parcel().await;
    assert_eq!(again.items[0].throttled_since, since);
    b.settle(&again, throttled(&again, 1_000)).await;
    b.advance(1_000).await;
    let again = b.parcel().await;
    assert_eq!(again.items[0].throttled_since, since, "the first time counts");
    let tries = vec![("d1".to_owned(), None)];
    let ended = Outcome::Retry { reason: "429".into(), tries, counts: false, wait_ms: Some(5) };
    b.settle(&again, ended).await;
    assert_eq!(b.state("d1").await, "dead");
    b.store.replay_delivery(TENANT_DEFAULT, "d1", &Actor::Cli).await.unwrap();
    b.advance(1_000).await;
    let again = b.parcel().await;
    assert_eq!(again.items[0].throttled_since, None, "a replay begins anew");
    b.settle(&again, throttled(&again, 1_000)).await;
    b.store.disable_channel(TENANT_DEFAULT, "c", "by hand", &Actor::Cli).await.unwrap();
    b.advance(8 * DAY).await;
    b.store.enable_channel(TENANT_DEFAULT, "c", &Actor::Cli).await.unwrap();
    assert_eq!(b.parcel().await.items[0].throttled_since, None, "it was not the receiver");
}

async fn who_may_have_been_told_is_told_of_a_retraction(rig: &Rig) {
    let b = Filled::new(rig).await;
    b.plain_channel("c").await;
    for id in ["1", "2", "3", "4"] {
        b.queued(id).await;
    }
    // Without a clear answer to the last try; with one; replayed since; its sender killed.
    let end = async |id: &str, outcome: fn(&LeasedParcel) -> Outcome| {
        b.run(&format!("UPDATE deliveries SET due_at = {} WHERE id <> 'd{id}'", NOW + DAY)).await;
        b.run(&format!("UPDATE deliveries SET due_at = {NOW} WHERE id = 'd{id}'")).await;
        b.run("UPDATE channels SET wait_until = NULL").await;
        let parcel = b.parcel().await;
        assert_eq!(ids(&parcel), [format!("d{id}").as_str()]);
        b.settle(&parcel, outcome(&parcel)).await;
    };
    end("1", |parcel| failed(parcel, None)).await;
    end("2", |parcel| throttled(parcel, DAY)).await;
    end("3", |parcel| failed(parcel, None)).await;
    b.store.replay_delivery(TENANT_DEFAULT, "d3", &Actor::Cli).await.unwrap();
    b.run(&format!("UPDATE deliveries SET due_at = {} WHERE id <> 'd4'", NOW + DAY)).await;
    b.run(&format!("UPDATE deliveries SET due_at = {NOW} WHERE id = 'd4'")).await;
    b.run("UPDATE channels SET wait_until = NULL").await;
    assert_eq!(ids(&b.parcel().await), ["d4"]);
    b.advance(LEASE_MS).await;
    b.store.requeue_expired().await.unwrap();
    let dead = b.store.get_delivery(TENANT_DEFAULT, "d1").await.unwrap();
    assert_eq!(dead.state, DeliveryState::Dead);
    assert_eq!(b.row("d3").await.1, 0, "a replay counts its tries anew");
    b.run("UPDATE alerts SET state = 'retracted'").await;
    for id in ["1", "2", "3", "4"] {
        b.queue(&format!("x{id}"), "c", &format!("a{id}"), "retraction").await;
    }
    let told = b.parcel().await;
    assert_eq!(ids(&told), ["x1", "x3", "x4"]);
    assert_eq!(b.state("x2").await, "cancelled");
}

async fn what_a_sender_learns_of_an_older_setting_is_not_about_the_newer(rig: &Rig) {
    let b = Filled::new(rig).await;
    b.plain_channel("c").await;
    b.queued("1").await;
    for outcome in [
        |_: &LeasedParcel| Outcome::Gone { reason: "410".into() },
        |parcel: &LeasedParcel| throttled(parcel, DAY),
        |parcel: &LeasedParcel| failed(parcel, None),
    ] {
        let sending = b.parcel().await;
        b.rename("c").await;
        b.settle(&sending, outcome(&sending)).await;
        assert_eq!(b.state("d1").await, "queued");
        assert_eq!(b.due_at("c").await, Some(NOW), "tried with the new setting at once");
    }
    let sending = b.parcel().await;
    b.settle(&sending, Outcome::Gone { reason: "410".into() }).await;
    assert_eq!(b.due_at("c").await, None);
}

async fn nothing_waits_for_a_deleted_channel(rig: &Rig) {
    let b = Filled::new(rig).await;
    for outcome in [
        |_: &LeasedParcel| Some(Outcome::Gone { reason: "410".into() }),
        |parcel: &LeasedParcel| Some(failed(parcel, Some(5))),
        // Its sender is killed.
        |_: &LeasedParcel| None,
    ] {
        b.run("DELETE FROM deliveries").await;
        b.run("DELETE FROM alerts").await;
        b.run("DELETE FROM channels").await;
        b.plain_channel("c").await;
        b.queued("1").await;
        let sending = b.parcel().await;
        b.store.delete_channel(TENANT_DEFAULT, "c", &Actor::Cli).await.unwrap();
        match outcome(&sending) {
            Some(outcome) => {
                b.settle(&sending, outcome).await;
            }
            None => {
                b.advance(LEASE_MS).await;
                b.store.requeue_expired().await.unwrap();
            }
        }
        assert_eq!(b.state("d1").await, "cancelled");
    }
    b.run("UPDATE deliveries SET state = 'dead'").await;
    let refused = b.store.replay_delivery(TENANT_DEFAULT, "d1", &Actor::Cli).await.unwrap_err();
    assert!(refused.to_string().contains("its channel is deleted"), "{refused}");
    // One that came in between all the same.
    b.run("UPDATE deliveries SET state = 'queued', ended_at = NULL").await;
    assert_eq!(b.store.sweep_queues().await.unwrap(), Swept { cancelled: 1, dead: 0 });
    assert_eq!(b.row("d1").await.4.as_deref(), Some("the channel was deleted"));
}

async fn queues_of_inactive_channels_end(rig: &Rig) {
    let b = Filled::new(rig).await;
    for channel in ["c", "e", "f"] {
        b.plain_channel(channel).await;
        b.queue(&format!("d{channel}"), channel, "a", "alert").await;
    }
    b.run("UPDATE channels SET state = 'disabled' WHERE id = 'c'").await;
    b.run("UPDATE channels SET state = 'unlinked' WHERE id = 'e'").await;
    b.advance(QUEUE_WAITS_MS).await;
    assert_eq!(b.store.sweep_queues().await.unwrap(), Swept::default());
    b.advance(1).await;
    assert_eq!(b.store.sweep_queues().await.unwrap(), Swept { cancelled: 0, dead: 2 });
    for id in ["dc", "de"] {
        let (state, .., error) = b.row(id).await;
        assert_eq!(state, "dead");
        assert!(error.unwrap().starts_with("its channel was disabled or without a chat"));
    }
    assert_eq!(b.state("df").await, "queued");
    let again = b.store.replay_delivery(TENANT_DEFAULT, "dc", &Actor::Cli).await.unwrap();
    assert_eq!(again.state, DeliveryState::Queued);
}

/// Two instances half a minute before and behind the database.
async fn clocks_that_differ_change_nothing(rig: &Rig) {
    let b = Filled::new(rig).await;
    b.plain_channel("c").await;
    b.queued("1").await;
    let other = |skew_ms: i64| {
        let clock = std::sync::Arc::new(lookout_types::FixedClock::at(NOW + skew_ms));
        Filled { store: b.store.with_clock(clock), ..Filled::on(rig, &b.store) }
    };
    let (ahead, behind) = (other(30_000), other(-30_000));
    let turn = [super::turn("bot", 1_000)];
    let sending = parcel(behind.lease_with("c", 1, &turn).await);
    assert_eq!(sending.lease.until, NOW + LEASE_MS);
    b.advance(20_000).await;
    assert_eq!(ahead.store.requeue_expired().await.unwrap(), 0);
    assert_eq!(ahead.store.take_turn(&turn).await.unwrap(), None);
    assert_eq!(behind.store.take_turn(&turn).await.unwrap(), Some(1_000));
    assert_eq!(ahead.settle(&sending, throttled(&sending, 5_000)).await, 1);
    assert_eq!(b.row("d1").await.2, 25_000);
    assert_eq!(behind.store.due_channels().await.unwrap().now, NOW + 20_000);
    // What an instance queues whose clock is ahead is due at once.
    ahead.store.queue_test(TENANT_DEFAULT, "c", &Actor::Cli).await.unwrap();
    assert!(matches!(b.lease("c").await, Leased::Parcel(_)));
}
