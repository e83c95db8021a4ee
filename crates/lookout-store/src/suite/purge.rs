//! Purging: what is old goes, what something still needs stays.

use sqlx::{Executor, Row};

use super::{NOW, Rig, on_file, on_memory, on_postgres};
use crate::{Actor, Answer, Begun, Page, PurgeAges, Store};

suite!(memory, super::on_memory, [what_is_old_goes, a_purge_ends_when_told]);
suite!(file, super::on_file, [what_is_old_goes, a_purge_ends_when_told]);
suite!(postgres, super::on_postgres, [what_is_old_goes, a_purge_ends_when_told]);

const DAY: i64 = 86_400_000;

const AGES: PurgeAges =
    PurgeAges { deleted_ms: 30 * DAY, runs_ms: 30 * DAY, deliveries_ms: None, alerts_ms: None };

/// Rows of every table: `old` ones were deleted or ended 31 days ago.
const ROWS: &[&str] = &[
    "INSERT INTO tenants (tenant_id, created_at) VALUES ('acme', 0), ('other', 0)",
    "INSERT INTO rules (tenant_id, id, name, chain_id, document, version, paused, channels, \
     confirmations, created_at, updated_at, deleted_at) VALUES \
     ('acme', 'r-live', '', 1, '', 1, 0, '', 0, 0, 0, NULL), \
     ('acme', 'r-old', '', 1, '', 1, 0, '', 0, 0, 0, $1), \
     ('acme', 'r-new', '', 1, '', 1, 0, '', 0, 0, 0, $2), \
     ('acme', 'r-watched', '', 1, '', 1, 0, '', 0, 0, 0, $1), \
     ('acme', 'r-told', '', 1, '', 1, 0, '', 0, 0, 0, $1), \
     ('other', 'r-theirs', '', 1, '', 1, 0, '', 0, 0, 0, $1)",
    "INSERT INTO rule_versions (tenant_id, rule_id, version, chain_id, source, from_height, \
     until_height, retired, revision, created_at) VALUES \
     ('acme', 'r-live', 1, 1, '', 5, NULL, 0, 1, 0), ('acme', 'r-old', 1, 1, '', 5, 9, 1, 2, 0), \
     ('acme', 'r-watched', 1, 1, '', 5, NULL, 1, 3, 0), ('acme', 'r-told', 1, 1, '', 5, 9, 1, 4, 0)",
    "INSERT INTO rule_failures (tenant_id, rule_id, rule_version, reason, count, last_height, \
     last_record) VALUES ('acme', 'r-old', 1, '', 1, 1, ''), ('acme', 'r-told', 1, '', 1, 1, '')",
    "INSERT INTO alerts (tenant_id, id, rule_id, rule_version, rule_name, chain_id, height, \
     block_hash, block_time, record, occurrence, text, spans, facts, confirms_at, state, \
     created_at) VALUES \
     ('acme', 'a-told', 'r-told', 1, '', 1, 1, $3, 0, '', 1, '', '', '', 1, 'confirmed', $1), \
     ('acme', 'a-pending', 'r-told', 1, '', 1, 1, $3, 0, '', 1, '', '', '', 1, 'pending', $1), \
     ('acme', 'a-queued', 'r-told', 1, '', 1, 1, $3, 0, '', 1, '', '', '', 1, 'confirmed', $1)",
    "INSERT INTO channels (tenant_id, id, name, kind, config, secrets, state, created_at, \
     updated_at, deleted_at) VALUES ('acme', 'c-old', '', '', '', '', '', 0, 0, $1), \
     ('acme', 'c-used', '', '', '', '', '', 0, 0, $1), \
     ('acme', 'c-live', '', '', '', '', '', 0, 0, NULL)",
    "INSERT INTO deliveries (tenant_id, id, channel_id, alert_id, kind, state, attempts, due_at, \
     created_at, ended_at) VALUES ('acme', 'd-sent', 'c-old', 'a-told', 'alert', 'sent', 1, 0, 0, $1), \
     ('acme', 'd-queued', 'c-used', 'a-queued', 'alert', 'queued', 1, 0, 0, NULL)",
    "INSERT INTO silences (tenant_id, id, matcher, comment, starts_at, ends_at, created_at, \
     deleted_at) VALUES ('acme', 's-old', '', '', 0, 0, 0, $1), \
     ('acme', 's-live', '', '', 0, 0, 0, NULL)",
    "INSERT INTO abis (tenant_id, id, name, abi, created_at, deleted_at) VALUES \
     ('acme', 'b-old', '', '', 0, $1), ('acme', 'b-new', '', '', 0, $2), \
     ('other', 'b-theirs', '', '', 0, $1)",
    "INSERT INTO jobs (tenant_id, name, kind, settings, schedule, zone, misfire, catch_up_max, \
     timeout_ms, retries, paused, missed, created_at, updated_at, deleted_at) VALUES \
     ('acme', 'j-old', '', '{}', '', '', 'skip', 0, 1, 0, 0, 0, 0, 0, $1), \
     ('acme', 'j-live', '', '{}', '', '', 'skip', 0, 1, 0, 0, 0, 0, 0, NULL)",
    "INSERT INTO job_runs (tenant_id, job, scheduled_at, id, cause, state, attempt, failures, \
     losses, created_at, finished_at) VALUES \
     ('acme', 'j-old', 1, 'u-1', '', 'done', 1, 0, 0, 0, $2), \
     ('acme', 'j-live', 1, 'u-2', '', 'done', 1, 0, 0, 0, $1), \
     ('acme', 'j-live', 2, 'u-3', '', 'done', 1, 0, 0, 0, $2), \
     ('acme', 'j-live', 3, 'u-4', '', 'queued', 1, 0, 0, 0, NULL)",
];

async fn filled(rig: &Rig) -> Store {
    let store = rig.migrated().await;
    for statement in ROWS {
        // Every parameter must be there for the engines to bind; not every statement has three.
        let mut query = sqlx::query(*statement);
        if statement.contains("$1") {
            query = query.bind(NOW - 31 * DAY);
        }
        if statement.contains("$2") {
            query = query.bind(NOW - 29 * DAY);
        } else if statement.contains("$3") {
            query = query.bind(NOW);
        }
        if statement.contains("$3") {
            query = query.bind(vec![0_u8; 32]);
        }
        query.execute(store.pool()).await.unwrap();
    }
    store
}

async fn left(store: &Store, query: &'static str) -> Vec<String> {
    let rows = store.pool().fetch_all(query).await.unwrap();
    rows.iter().map(|row| row.try_get::<String, _>(0).unwrap()).collect()
}

async fn what_is_old_goes(rig: &Rig) {
    let store = filled(rig).await;
    rig.clock.advance(-2 * DAY);
    let Begun::New(ticket) = store.begin_request("other", "old", &[1; 32]).await.unwrap() else {
        panic!("not new");
    };
    let answer = Answer { status: 200, content: Some(("{}".into(), b"x".to_vec())) };
    store.keep_answer(&ticket, answer).await.unwrap();
    rig.clock.advance(2 * DAY);
    store.begin_request("other", "new", &[1; 32]).await.unwrap();

    let actor = Actor::Job("purge".into());
    let purged = store.purge("acme", &AGES, &actor, |_| true).await.unwrap();
    let counts: Vec<_> = purged.counts().iter().filter(|(_, rows)| *rows > 0).collect();
    assert_eq!(
        counts,
        [
            &("channels", 1),
            &("silences", 1),
            &("rules", 2),
            &("rule_versions", 1),
            &("rule_failures", 1),
            &("abis", 1),
            &("job_runs", 1),
            &("jobs", 2),
            &("idempotency", 1),
        ]
    );
    for (query, expected) in [
        ("SELECT id FROM rules ORDER BY id", &["r-live", "r-new", "r-theirs", "r-watched"][..]),
        ("SELECT rule_id FROM rule_versions ORDER BY 1", &["r-live", "r-told", "r-watched"]),
        ("SELECT rule_id FROM rule_failures", &["r-told"]),
        ("SELECT id FROM channels ORDER BY id", &["c-live", "c-used"]),
        ("SELECT id FROM silences", &["s-live"]),
        ("SELECT id FROM abis ORDER BY id", &["b-new", "b-theirs"]),
        ("SELECT name FROM jobs", &["j-live"]),
        ("SELECT id FROM job_runs ORDER BY id", &["u-3", "u-4"]),
        ("SELECT id FROM alerts ORDER BY id", &["a-pending", "a-queued", "a-told"]),
        ("SELECT id FROM deliveries ORDER BY id", &["d-queued", "d-sent"]),
        ("SELECT key FROM idempotency", &["new"]),
    ] {
        assert_eq!(left(&store, query).await, expected, "{query}");
    }
    let log = store.audit_log("acme", &Page::default()).await.unwrap();
    assert_eq!(log.len(), 8);
    assert!(log.iter().all(|entry| entry.action == "purge" && entry.actor == "job:purge"));
    assert_eq!((log[0].target.as_str(), &log[0].detail["rows"]), ("jobs", &2.into()));
    assert_eq!(store.purge("acme", &AGES, &actor, |_| true).await.unwrap().total(), 0);

    // With a retention, history goes as well, and then what it held on to.
    let ages = PurgeAges { deliveries_ms: Some(DAY), alerts_ms: Some(DAY), ..AGES };
    let purged = store.purge("acme", &ages, &actor, |_| true).await.unwrap();
    let counts: Vec<_> = purged.counts().iter().filter(|(_, rows)| *rows > 0).collect();
    assert_eq!(counts, [&("deliveries", 1), &("alerts", 1)]);
    let alerts = left(&store, "SELECT id FROM alerts ORDER BY id").await;
    assert_eq!(alerts, ["a-pending", "a-queued"]);
}

async fn a_purge_ends_when_told(rig: &Rig) {
    let store = filled(rig).await;
    for n in 0..1_200 {
        let row = sqlx::query(
            "INSERT INTO silences (tenant_id, id, matcher, comment, starts_at, ends_at, \
             created_at, deleted_at) VALUES ('acme', $1, '', '', 0, 0, 0, 1)",
        );
        row.bind(format!("x-{n}")).execute(store.pool()).await.unwrap();
    }
    let actor = Actor::Job("purge".into());
    let mut chunks = 0;
    let purged = store.purge("acme", &AGES, &actor, |so_far| {
        chunks += 1;
        so_far.total() < 900
    });
    let total = purged.await.unwrap().total();
    assert!((900..1_201).contains(&total), "{total}");
    let purged = store.purge("acme", &AGES, &actor, |_| true).await.unwrap();
    assert!(purged.total() >= 1_201 - total);
    assert_eq!(left(&store, "SELECT id FROM silences").await, ["s-live"]);
    assert!(chunks > 2);
}
