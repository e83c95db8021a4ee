//! Windows of rules: how much they may remember, and that those of before are found again.

use lookout_rules::RuleDocument;
use lookout_types::ChainId;

use super::Rig;
use crate::engine::Engine;
use crate::testing::{execute, rows};
use crate::{Actor, Store, StoreError};

macro_rules! old_schema {
    ($engine:literal) => {
        [
            include_str!(concat!("../../migrations/", $engine, "/0001_tenants_keys_audit.sql")),
            include_str!(concat!("../../migrations/", $engine, "/0002_rules.sql")),
            include_str!(concat!("../../migrations/", $engine, "/0003_alerts.sql")),
        ]
    };
}
macro_rules! changes {
    ($engine:literal) => {
        [
            include_str!(concat!("../../migrations/", $engine, "/0010_rules_base.sql")),
            include_str!(concat!("../../migrations/", $engine, "/0011_window_parts.sql")),
        ]
    };
}

suite!(
    memory,
    crate::suite::on_memory,
    [windows_of_a_tenant_have_a_limit, windows_kept_as_one_become_a_part]
);
suite!(
    postgres,
    crate::suite::on_postgres,
    [windows_of_a_tenant_have_a_limit, windows_kept_as_one_become_a_part]
);

fn document(days: u64, silence: bool) -> RuleDocument {
    let window = if silence {
        serde_json::json!({"kind": "silence", "for": format!("{days}d")})
    } else {
        serde_json::json!({"kind": "count", "over": format!("{days}d"), "condition": "count > 5"})
    };
    serde_json::from_value(serde_json::json!({
        "name": "n", "chain": "1", "watch": {"kind": "transfer", "asset": "any"}, "window": window,
    }))
    .unwrap()
}

async fn create(store: &Store, tenant: &str, days: u64) -> Result<String, StoreError> {
    let document = document(days, false);
    store.create_rule(tenant, ChainId(1), &document, &Actor::Cli).await.map(|info| info.id)
}

async fn windows_of_a_tenant_have_a_limit(rig: &Rig) {
    let store = rig.migrated().await;
    let mut last = String::new();
    for _ in 0..11 {
        last = create(&store, "acme", 31).await.unwrap();
    }
    let small = create(&store, "acme", 25).await.unwrap();
    let error = create(&store, "acme", 1).await.unwrap_err();
    assert!(matches!(&error, StoreError::Limit(_)), "{error}");
    let expected = "with this rule the windows of tenant `acme` on its chain would last 367 days \
                    together, the limit is 366; shorten them, or pause rules";
    assert_eq!(error.to_string(), expected);
    let longer = document(26, false);
    let error = store.update_rule("acme", &small, ChainId(1), &longer, &Actor::Cli);
    assert_eq!(error.await.unwrap_err().to_string(), expected);
    // Others, other chains and what remembers nothing are free.
    create(&store, "other", 31).await.unwrap();
    for (chain, silence) in [(2, false), (1, true)] {
        let document = document(31, silence);
        store.create_rule("acme", ChainId(chain), &document, &Actor::Cli).await.unwrap();
    }
    // What does not watch does not count, until it is to watch again.
    store.pause_rule("acme", &last, &Actor::Cli).await.unwrap();
    create(&store, "acme", 1).await.unwrap();
    let error = store.resume_rule("acme", &last, &Actor::Cli).await.unwrap_err();
    assert_eq!(error.to_string(), expected);
    store.pause_rule("acme", &small, &Actor::Cli).await.unwrap();
    store.resume_rule("acme", &last, &Actor::Cli).await.unwrap();
}

async fn windows_kept_as_one_become_a_part(rig: &Rig) {
    let store = rig.open().await;
    let (old, new, bytes) = match store.engine() {
        Engine::Sqlite => (old_schema!("sqlite"), changes!("sqlite"), "x'0102'"),
        Engine::Postgres => (old_schema!("postgres"), changes!("postgres"), "'\\x0102'::bytea"),
    };
    let run = async |sql: &'static str| {
        sqlx::raw_sql(sql).execute(store.pool()).await.unwrap();
    };
    for sql in old {
        run(sql).await;
    }
    for (chain, state, head) in [(1, bytes, "9"), (2, "''", "NULL")] {
        let consumer = format!(
            "INSERT INTO consumers (name, chain_id, sequence, first_height, head_height) \
             VALUES ('rules', {chain}, 10, 7, {head})"
        );
        execute(&store, &consumer).await;
        let snapshot = format!(
            "INSERT INTO window_snapshots (chain_id, sequence, head_height, state) \
             VALUES ({chain}, 10, {head}, {state})"
        );
        execute(&store, &snapshot).await;
    }
    for sql in new {
        run(sql).await;
    }
    let found = "SELECT CAST(s.chain_id AS TEXT), COALESCE(p.part, 'none'), \
                 COALESCE(CAST(s.base_height AS TEXT), 'none'), \
                 COALESCE(CAST(c.base_height AS TEXT), 'none') FROM window_snapshots s \
                 JOIN consumers c ON c.chain_id = s.chain_id \
                 LEFT JOIN window_parts p ON p.chain_id = s.chain_id ORDER BY 1";
    let found: Vec<_> = rows(&store, found).await.iter().map(|row| row.join(" ")).collect();
    assert_eq!(found, ["1 0 7 7", "2 none none none"]);
    let state = store.watch_state(ChainId(1)).await.unwrap();
    assert_eq!(state.snapshot.unwrap().parts, [("0".to_owned(), vec![1, 2])]);
}
