//! Idempotency keys: taken once, answered once, forgotten in time.

use super::{NOW, Rig, on_file, on_memory, on_postgres};
use crate::{Answer, Begun, IDEMPOTENCY_MAX_AGE_MS, RequestTicket, Store};

suite!(
    memory,
    super::on_memory,
    [answers_are_replayed, failures_free_the_key, keys_are_forgotten, one_of_many_begins]
);
suite!(
    file,
    super::on_file,
    [answers_are_replayed, failures_free_the_key, keys_are_forgotten, one_of_many_begins]
);
suite!(
    postgres,
    super::on_postgres,
    [answers_are_replayed, failures_free_the_key, keys_are_forgotten, one_of_many_begins]
);

const HASH: [u8; 32] = [7; 32];

async fn begin(store: &Store) -> Begun {
    store.begin_request("acme", "k", &HASH).await.unwrap()
}

fn new(begun: Begun) -> RequestTicket {
    let Begun::New(ticket) = begun else { panic!("{begun:?}") };
    ticket
}

fn answer(body: &[u8]) -> Answer {
    Answer { status: 201, content: Some(("{\"a\":\"ü\"}".to_owned(), body.to_vec())) }
}

async fn answers_are_replayed(rig: &Rig) {
    let store = rig.migrated().await;
    let ticket = new(begin(&store).await);
    rig.clock.advance(7);
    assert_eq!(begin(&store).await, Begun::UnderWay { age_ms: 7 });
    store.keep_answer(&ticket, answer(b"\0\xff")).await.unwrap();
    assert_eq!(begin(&store).await, Begun::Answered(answer(b"\0\xff")));
    assert_eq!(store.begin_request("acme", "k", &[8; 32]).await.unwrap(), Begun::Other);
    // The key of another tenant is another key.
    new(store.begin_request("other", "k", &[8; 32]).await.unwrap());
    // An answer that is not kept still ends the request.
    let ticket = new(store.begin_request("acme", "k2", &HASH).await.unwrap());
    let unkept = Answer { status: 204, content: None };
    store.keep_answer(&ticket, unkept.clone()).await.unwrap();
    let begun = store.begin_request("acme", "k2", &HASH).await.unwrap();
    assert_eq!(begun, Begun::Answered(unkept));
}

async fn failures_free_the_key(rig: &Rig) {
    let store = rig.migrated().await;
    let ticket = new(begin(&store).await);
    store.forget_request(&ticket).await.unwrap();
    // Free for any request, also another one.
    new(store.begin_request("acme", "k", &[8; 32]).await.unwrap());
}

async fn keys_are_forgotten(rig: &Rig) {
    let store = rig.migrated().await;
    let old = new(begin(&store).await);
    rig.clock.advance(IDEMPOTENCY_MAX_AGE_MS - 1);
    let age_ms = IDEMPOTENCY_MAX_AGE_MS - 1;
    assert_eq!(begin(&store).await, Begun::UnderWay { age_ms });
    rig.clock.advance(1);
    new(store.begin_request("acme", "k", &[8; 32]).await.unwrap());
    // What comes late of the first is nobody's any more.
    store.keep_answer(&old, answer(b"old")).await.unwrap();
    store.forget_request(&old).await.unwrap();
    let begun = store.begin_request("acme", "k", &[8; 32]).await.unwrap();
    assert_eq!(begun, Begun::UnderWay { age_ms: 0 });
}

async fn one_of_many_begins(rig: &Rig) {
    let store = rig.migrated().await;
    for round in 0..3 {
        // In the last round all take over the same old key.
        rig.clock.advance(if round == 2 { IDEMPOTENCY_MAX_AGE_MS } else { 1 });
        let key = format!("{}", round.min(1));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (store, key) = (store.clone(), key.clone());
            tasks.spawn(async move { store.begin_request("acme", &key, &HASH).await.unwrap() });
        }
        let begun = tasks.join_all().await;
        let begins = begun.iter().filter(|begun| matches!(begun, Begun::New(_))).count();
        assert_eq!(begins, 1, "{round}: {begun:?}");
    }
    assert!(store.now() > NOW);
}
