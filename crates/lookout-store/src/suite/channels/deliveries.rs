//! Deliveries as tenants see them: listed, tested, replayed, awaited.

use std::time::Duration;

use lookout_types::ErrorKind;
use sqlx::{Executor, Row};

use super::{actions, make, put, webhook};
use crate::suite::{NOW, Rig};
use crate::{Actor, DeliveryFilter, DeliveryKind, DeliveryState, Page, Store};

on_every_engine!([
    deliveries_are_listed_by_what_they_are,
    tests_are_queued_one_by_one,
    the_dead_are_replayed_but_for_the_retracted,
    the_end_of_a_delivery_is_awaited,
]);

async fn put_alert(store: &Store, tenant: &str, id: &str, state: &str) {
    sqlx::query(
        "INSERT INTO alerts (tenant_id, id, rule_id, rule_version, rule_name, chain_id, height, \
         block_hash, block_time, record, occurrence, text, spans, facts, confirms_at, state, \
         created_at) VALUES ($1, $2, 'r', 1, 'r', 1, 1, $3, 1, '{}', 1, 't', '[]', '{}', 1, $4, 1)",
    )
    .bind(tenant.to_owned())
    .bind(id.to_owned())
    .bind(vec![1_u8; 32])
    .bind(state.to_owned())
    .execute(store.pool())
    .await
    .unwrap();
}

async fn deliveries_are_listed_by_what_they_are(rig: &Rig) {
    let store = rig.migrated().await;
    let (a, b) = (make(&store, "acme", webhook()).await, make(&store, "acme", webhook()).await);
    let mut ids = Vec::new();
    for (channel, alert, kind, state) in [
        (&a, "1", "alert", "sent"),
        (&a, "1", "retraction", "queued"),
        (&a, "2", "alert", "dead"),
        (&b, "1", "alert", "sent"),
        (&b, "2", "alert", "silenced"),
    ] {
        ids.push(put(&store, channel, alert, kind, state).await);
    }
    let listed = |filter: DeliveryFilter, page: Page| {
        let (store, ids) = (store.clone(), ids.clone());
        async move {
            let found = store.list_deliveries("acme", &filter, &page).await.unwrap();
            let at = |id: &String| ids.iter().position(|known| known == id).unwrap();
            found.iter().map(|delivery| at(&delivery.id)).collect::<Vec<_>>()
        }
    };
    let all = DeliveryFilter::default;
    assert_eq!(listed(all(), Page::default()).await, [4, 3, 2, 1, 0]);
    let page = Page { limit: 2, after: Some(ids[3].clone()) };
    assert_eq!(listed(all(), page).await, [2, 1]);
    for (filter, expected) in [
        (DeliveryFilter { channel: Some(a.id.clone()), ..all() }, vec![2, 1, 0]),
        (DeliveryFilter { alert: Some("1".into()), ..all() }, vec![3, 1, 0]),
        (DeliveryFilter { state: Some(DeliveryState::Dead), ..all() }, vec![2]),
        (DeliveryFilter { kind: Some(DeliveryKind::Retraction), ..all() }, vec![1]),
        (
            DeliveryFilter {
                channel: Some(b.id.clone()),
                alert: Some("2".into()),
                state: Some(DeliveryState::Silenced),
                kind: Some(DeliveryKind::Alert),
            },
            vec![4],
        ),
        (DeliveryFilter { channel: Some("' OR '1'='1".into()), ..all() }, vec![]),
    ] {
        assert_eq!(listed(filter.clone(), Page::default()).await, expected, "{filter:?}");
    }
    let one = store.get_delivery("acme", &ids[2]).await.unwrap();
    assert_eq!((one.attempts, one.error.as_deref(), one.ended_at), (3, Some("no"), Some(2)));
    let error = DeliveryState::parse("ded").unwrap_err().to_string();
    assert!(error.contains("expected one of queued, sending, sent"), "{error}");
}

async fn tests_are_queued_one_by_one(rig: &Rig) {
    let store = rig.migrated().await;
    let made = make(&store, "acme", webhook()).await;
    for _ in 0..5 {
        let test = store.queue_test("acme", &made.id, &Actor::Cli).await.unwrap();
        assert_eq!((test.kind, test.state), (DeliveryKind::Test, DeliveryState::Queued));
        assert_eq!((test.alert_id, test.due_at, test.attempts), (None, NOW, 0));
    }
    let error = store.queue_test("acme", &made.id, &Actor::Cli).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    store.pool().execute("UPDATE deliveries SET state = 'sent'").await.unwrap();
    store.queue_test("acme", &made.id, &Actor::Cli).await.unwrap();
    store.delete_channel("acme", &made.id, &Actor::Cli).await.unwrap();
    let error = store.queue_test("acme", &made.id, &Actor::Cli).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

async fn the_dead_are_replayed_but_for_the_retracted(rig: &Rig) {
    let store = rig.migrated().await;
    let actor = Actor::Cli;
    let made = make(&store, "acme", webhook()).await;
    let other = make(&store, "acme", webhook()).await;
    for (alert, state) in [("1", "confirmed"), ("2", "retracted"), ("3", "confirmed")] {
        put_alert(&store, "acme", alert, state).await;
    }
    // Another tenant's alert of the same id says nothing about ours.
    make(&store, "rival", webhook()).await;
    put_alert(&store, "rival", "1", "retracted").await;
    let dead = put(&store, &made, "1", "alert", "dead").await;
    let retracted = put(&store, &made, "2", "alert", "dead").await;
    let retraction = put(&store, &made, "2", "retraction", "dead").await;
    let sent = put(&store, &made, "3", "alert", "sent").await;
    let elsewhere = put(&store, &other, "3", "alert", "dead").await;

    let again = store.replay_delivery("acme", &dead, &actor).await.unwrap();
    assert_eq!((again.state, again.attempts), (DeliveryState::Queued, 0));
    assert_eq!((again.due_at, again.ended_at, again.error.as_ref()), (NOW, None, None));
    assert!(!again.has_outcome());
    for (id, reason) in [
        (&dead, "this delivery is queued; only a dead one"),
        (&sent, "this delivery is sent"),
        (&retracted, "was retracted"),
    ] {
        let error = store.replay_delivery("acme", id, &actor).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().contains(reason), "{error}");
    }
    sqlx::query("UPDATE deliveries SET state = 'dead' WHERE id = $1")
        .bind(dead.clone())
        .execute(store.pool())
        .await
        .unwrap();
    let mut heard = store.signals().deliveries.listen();
    let done = store.replay_dead("acme", &made.id, &actor).await.unwrap();
    assert_eq!((done.queued, done.more), (2, false));
    assert!(heard.has_changed().unwrap());
    heard.mark_unchanged();
    for (id, state) in [
        (&dead, DeliveryState::Queued),
        (&retraction, DeliveryState::Queued),
        (&retracted, DeliveryState::Dead),
        (&elsewhere, DeliveryState::Dead),
    ] {
        assert_eq!(store.get_delivery("acme", id).await.unwrap().state, state, "{id}");
    }
    assert_eq!(store.replay_dead("acme", &made.id, &actor).await.unwrap().queued, 0);
    let told = actions(&store, "acme").await;
    let replays = told.iter().filter(|action| action.ends_with(".replay")).count();
    assert_eq!(replays, 2, "{told:?}");
}

async fn the_end_of_a_delivery_is_awaited(rig: &Rig) {
    let store = rig.migrated().await;
    let made = make(&store, "acme", webhook()).await;
    let test = store.queue_test("acme", &made.id, &Actor::Cli).await.unwrap();
    let queued = store.await_delivery("acme", &test.id, Duration::ZERO).await.unwrap();
    assert_eq!(queued, test, "nobody sends here");
    let waiting = {
        let (store, id) = (store.clone(), test.id.clone());
        tokio::spawn(async move {
            store.await_delivery("acme", &id, Duration::from_secs(60)).await.unwrap()
        })
    };
    let row = sqlx::query("UPDATE deliveries SET state = 'sent', ended_at = $1 RETURNING id")
        .bind(NOW)
        .fetch_one(store.pool())
        .await
        .unwrap();
    assert_eq!(row.get::<String, _>("id"), test.id);
    store.signals().deliveries.raise();
    assert_eq!(waiting.await.unwrap().state, DeliveryState::Sent);
    // A first try that failed is an outcome too.
    let again = store.queue_test("acme", &made.id, &Actor::Cli).await.unwrap();
    sqlx::query("UPDATE deliveries SET attempts = 1, error = 'refused' WHERE id = $1")
        .bind(again.id.clone())
        .execute(store.pool())
        .await
        .unwrap();
    let tried = store.await_delivery("acme", &again.id, Duration::from_secs(60)).await.unwrap();
    assert_eq!((tried.state, tried.error.as_deref()), (DeliveryState::Queued, Some("refused")));
    sqlx::query("UPDATE deliveries SET state = 'sending' WHERE id = $1")
        .bind(again.id.clone())
        .execute(store.pool())
        .await
        .unwrap();
    let under_way = store.await_delivery("acme", &again.id, Duration::ZERO).await.unwrap();
    assert!(!under_way.has_outcome(), "the next try is under way");
}
