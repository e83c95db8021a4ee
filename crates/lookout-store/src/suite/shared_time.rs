//! The time that instances share, as a test sets it.

use sqlx::Executor;

use super::Rig;
use crate::{Store, StoreUrl};

/// A store whose shared time is the rig's clock, also on Postgres: there the statement that asks
/// for the time finds a function of the test's own before the database's.
pub(super) async fn on_shared_clock(rig: &Rig) -> Store {
    let store = rig.migrated().await;
    if !matches!(rig.url, StoreUrl::Postgres { .. }) {
        return store;
    }
    for statement in [
        "CREATE TABLE test_clock (ms BIGINT NOT NULL)",
        "INSERT INTO test_clock VALUES (0)",
        "CREATE FUNCTION public.clock_timestamp() RETURNS TIMESTAMPTZ LANGUAGE SQL AS \
         'SELECT to_timestamp(ms / 1000.0) FROM public.test_clock'",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', \
         current_database()); END $$",
    ] {
        store.pool().execute(statement).await.unwrap();
    }
    store.close().await;
    let store = rig.open().await;
    advance(rig, &store, 0).await;
    store
}

pub(super) async fn advance(rig: &Rig, store: &Store, millis: i64) {
    rig.clock.advance(millis);
    show(rig, store).await;
}

/// Lets the database show what the rig's clock shows.
async fn show(rig: &Rig, store: &Store) {
    if matches!(rig.url, StoreUrl::Postgres { .. }) {
        let set = sqlx::query("UPDATE test_clock SET ms = $1").bind(store.now());
        set.execute(store.pool()).await.unwrap();
    }
}
