//! What every engine must do alike: one set of cases, run on each of them.

mod leases;
mod rules;

use std::io::Write;
use std::sync::Arc;

use lookout_types::{ErrorKind, FixedClock, Secret};
use serde_json::json;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};
use uuid::Uuid;

use crate::{
    AUTH_CACHE_TTL_MS, Actor, KeyInfo, NewKey, Page, Scope, Scopes, Store, StoreError, StoreUrl,
    TENANT_DEFAULT,
};

use self::rules::{
    a_label_renews_the_rules_that_use_it, alerts_are_found_by_what_they_are,
    failures_are_those_of_the_newest_version, labels_have_limits_and_tenants,
    other_tenants_rules_are_not_found, revisions_come_in_order, rule_lists_are_filtered_and_paged,
    rules_live_and_end, rules_see_the_abi_of_their_tenant, what_is_watched_makes_a_version,
};
use leases::{
    a_holder_that_comes_again_fences_itself, an_ended_lease_is_taken_over, of_many_one_takes_it,
    one_holder_at_a_time, what_a_chain_is_followed_for_is_kept,
};

const NOW: i64 = 1_760_000_000_000;

/// Opens further instances on the same empty database.
struct Rig {
    url: StoreUrl,
    clock: Arc<FixedClock>,
}

impl Rig {
    fn at(url: StoreUrl) -> Self {
        Self { url, clock: Arc::new(FixedClock::at(NOW)) }
    }

    async fn open(&self) -> Store {
        Store::open(&self.url, Arc::<FixedClock>::clone(&self.clock)).await.unwrap()
    }

    async fn migrated(&self) -> Store {
        let store = self.open().await;
        store.migrate().await.unwrap();
        store
    }
}

fn new_key(tenant: &str, name: &str) -> NewKey {
    let scopes = Scopes::from(Scope::ChainsRead).with(Scope::KeysRead);
    NewKey { tenant: tenant.into(), name: name.into(), scopes, expires_at: None }
}

async fn make(store: &Store, tenant: &str, name: &str) -> (KeyInfo, Secret) {
    store.create_key(new_key(tenant, name), &Actor::Cli).await.unwrap()
}

async fn whose(store: &Store, key: &Secret) -> Option<KeyInfo> {
    store.authenticate(key.expose()).await.unwrap().map(|info| info.as_ref().clone())
}

/// Runs every case, each on a database of its own; `shared` for engines where two instances can
/// open the same one.
macro_rules! suite {
    ($engine:ident, $with:path, [$($case:ident),* $(,)?]) => {
        mod $engine {
            $(#[tokio::test]
            async fn $case() {
                $with(|rig| async move { super::$case(&rig).await }).await;
            })*
        }
    };
}

mod abis;
mod alert_changes;
mod channels;
mod consumer_cursors;
mod files;
mod idempotency;
mod jobs;
mod moves;
mod outbox;
mod purge;
mod shared_time;
mod telegram;
mod watch;
mod windows;

suite!(
    memory,
    super::on_memory,
    [
        migrates_once,
        keys_live_and_end,
        wrong_keys_open_nothing,
        tenants_are_apart,
        pages_cover_all,
        changes_are_audited,
        bad_input_is_refused,
        has_keys_never_falls_back,
        tenant_deletion_ends_keys,
        rules_live_and_end,
        what_is_watched_makes_a_version,
        rules_see_the_abi_of_their_tenant,
        other_tenants_rules_are_not_found,
        rule_lists_are_filtered_and_paged,
        failures_are_those_of_the_newest_version,
        a_label_renews_the_rules_that_use_it,
        labels_have_limits_and_tenants,
        revisions_come_in_order,
        alerts_are_found_by_what_they_are,
    ]
);
suite!(
    file,
    super::on_file,
    [
        migrates_once,
        keys_live_and_end,
        wrong_keys_open_nothing,
        tenants_are_apart,
        pages_cover_all,
        changes_are_audited,
        bad_input_is_refused,
        has_keys_never_falls_back,
        tenant_deletion_ends_keys,
        rules_live_and_end,
        what_is_watched_makes_a_version,
        rules_see_the_abi_of_their_tenant,
        other_tenants_rules_are_not_found,
        rule_lists_are_filtered_and_paged,
        failures_are_those_of_the_newest_version,
        a_label_renews_the_rules_that_use_it,
        labels_have_limits_and_tenants,
        revisions_come_in_order,
        alerts_are_found_by_what_they_are,
        instances_migrate_at_once,
        newer_and_other_schemas_are_refused,
        other_instances_see_revocations,
        writers_do_not_fail_each_other,
        a_failed_change_leaves_nothing,
    ]
);
suite!(
    postgres,
    super::on_postgres,
    [
        migrates_once,
        keys_live_and_end,
        wrong_keys_open_nothing,
        tenants_are_apart,
        pages_cover_all,
        changes_are_audited,
        bad_input_is_refused,
        has_keys_never_falls_back,
        tenant_deletion_ends_keys,
        rules_live_and_end,
        what_is_watched_makes_a_version,
        rules_see_the_abi_of_their_tenant,
        other_tenants_rules_are_not_found,
        rule_lists_are_filtered_and_paged,
        failures_are_those_of_the_newest_version,
        a_label_renews_the_rules_that_use_it,
        labels_have_limits_and_tenants,
        revisions_come_in_order,
        alerts_are_found_by_what_they_are,
        instances_migrate_at_once,
        newer_and_other_schemas_are_refused,
        other_instances_see_revocations,
        writers_do_not_fail_each_other,
        a_failed_change_leaves_nothing,
    ]
);

suite!(
    leases_memory,
    super::on_memory,
    [
        one_holder_at_a_time,
        an_ended_lease_is_taken_over,
        a_holder_that_comes_again_fences_itself,
        what_a_chain_is_followed_for_is_kept
    ]
);
suite!(
    leases_file,
    super::on_file,
    [
        one_holder_at_a_time,
        an_ended_lease_is_taken_over,
        a_holder_that_comes_again_fences_itself,
        what_a_chain_is_followed_for_is_kept,
        of_many_one_takes_it,
    ]
);
suite!(
    leases_postgres,
    super::on_postgres,
    [
        one_holder_at_a_time,
        an_ended_lease_is_taken_over,
        a_holder_that_comes_again_fences_itself,
        what_a_chain_is_followed_for_is_kept,
        of_many_one_takes_it,
    ]
);

async fn on_memory<F: Future<Output = ()>>(case: impl FnOnce(Rig) -> F) {
    case(Rig::at(StoreUrl::SqliteMemory)).await;
}

async fn on_file<F: Future<Output = ()>>(case: impl FnOnce(Rig) -> F) {
    let folder = tempfile::tempdir().unwrap();
    // A name with everything that a URL would read differently.
    let path = folder.path().join("a b%20#é&.db");
    case(Rig::at(StoreUrl::SqliteFile(path))).await;
}

#[expect(clippy::disallowed_methods, reason = "which servers a test run may use")]
async fn on_postgres<F: Future<Output = ()>>(case: impl FnOnce(Rig) -> F) {
    let Ok(server) = std::env::var("LOOKOUT_TEST_POSTGRES_URL") else {
        // Past the test harness, which would swallow it: a skipped test must say so.
        let note = "SKIPPED: no Postgres; set LOOKOUT_TEST_POSTGRES_URL to run this case on one\n";
        std::io::stderr().write_all(note.as_bytes()).unwrap();
        return;
    };
    sqlx::any::install_default_drivers();
    let name = format!("lookout_test_{}", Uuid::now_v7().simple());
    let mut admin = AnyConnection::connect(&server).await.unwrap();
    admin.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    let mut url: url::Url = server.parse().unwrap();
    url.set_path(&name);
    case(Rig::at(url.as_str().parse().unwrap())).await;
    admin.execute(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).await.unwrap();
}

async fn migrates_once(rig: &Rig) {
    let store = rig.open().await;
    store.ping().await.unwrap();
    let pending = store.pending_migrations().await.unwrap().len();
    let applied = store.migrate().await.unwrap();
    assert_eq!(applied.len(), pending);
    assert_eq!(applied[0].version, 1);
    assert_eq!(applied[0].name, "tenants_keys_audit");
    assert_eq!(store.pending_migrations().await.unwrap(), []);
    assert_eq!(store.migrate().await.unwrap(), []);
}

async fn keys_live_and_end(rig: &Rig) {
    let store = rig.migrated().await;
    let mut new = new_key("acme", "ci");
    new.expires_at = Some(NOW + 10_000);
    let (info, secret) = store.create_key(new, &Actor::Cli).await.unwrap();
    assert!(secret.expose().starts_with(&info.prefix));
    assert_eq!((info.created_at, info.expires_at), (NOW, Some(NOW + 10_000)));
    assert_eq!(whose(&store, &secret).await, Some(info.clone()));
    assert_eq!(store.get_key("acme", &info.id).await.unwrap(), info);
    assert_eq!(store.find_key(&info.prefix).await.unwrap(), info);
    assert_eq!(store.find_key(&info.id).await.unwrap(), info);
    // It ends on the millisecond, also while its answer is kept.
    rig.clock.advance(9_999);
    assert!(whose(&store, &secret).await.is_some());
    rig.clock.advance(1);
    assert_eq!(whose(&store, &secret).await, None);

    let (info, secret) = make(&store, "acme", "").await;
    assert!(whose(&store, &secret).await.is_some());
    for _ in 0..2 {
        store.revoke_key("acme", &info.id, &Actor::Cli).await.unwrap();
        assert_eq!(whose(&store, &secret).await, None);
    }
    let revoked = store.get_key("acme", &info.id).await.unwrap().revoked_at;
    assert_eq!(revoked, Some(NOW + 10_000));
}

async fn wrong_keys_open_nothing(rig: &Rig) {
    let store = rig.migrated().await;
    let (_, a) = make(&store, "acme", "a").await;
    let (_, b) = make(&store, "acme", "b").await;
    let (head, tail) = (a.expose().split_at(15).0, b.expose().split_at(15).1);
    let mut wrong: Vec<String> = vec![format!("{head}{tail}"), "lk_".into(), String::new()];
    // Every single wrong letter counts, in the public part as in the secret one.
    for at in 3..58 {
        let mut bytes = a.expose().as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
        wrong.push(String::from_utf8(bytes).unwrap());
    }
    for key in wrong {
        // Twice: the second answer comes from memory.
        assert_eq!(store.authenticate(&key).await.unwrap(), None, "{key}");
        assert_eq!(store.authenticate(&key).await.unwrap(), None, "{key}");
    }
    assert!(whose(&store, &a).await.is_some());
}

async fn tenants_are_apart(rig: &Rig) {
    let store = rig.migrated().await;
    let (ours, secret) = make(&store, "acme", "a").await;
    let (theirs, _) = make(&store, "other", "b").await;
    for id in [theirs.id.as_str(), "01990000-0000-7000-8000-000000000000", "x"] {
        let error = store.revoke_key("acme", id, &Actor::Cli).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{id}");
        assert_eq!(error.to_string(), format!("no key `{id}`"));
        assert!(store.get_key("acme", id).await.is_err());
    }
    assert_eq!(store.list_keys(Some("acme"), &Page::default()).await.unwrap(), [ours]);
    assert_eq!(store.get_key("other", &theirs.id).await.unwrap().revoked_at, None);
    assert!(whose(&store, &secret).await.is_some());
    let tenants = store.list_tenants(&Page::default()).await.unwrap();
    assert_eq!(tenants.iter().map(|t| t.id.as_str()).collect::<Vec<_>>(), ["acme", "other"]);
    // The audit log too.
    let entries = store.audit_log("other", &Page::default()).await.unwrap();
    assert_eq!(entries.len(), 2);
    assert!(entries.iter().all(|entry| entry.tenant == "other"));
}

async fn pages_cover_all(rig: &Rig) {
    let store = rig.migrated().await;
    let mut made = Vec::new();
    for n in 0..7 {
        made.push(make(&store, ["b", "a-c", "a_c", "ab"][n % 4], &format!("{n}")).await.0);
    }
    made.reverse();
    for limit in [1, 2, 3, 7, 1000] {
        let (mut all, mut page) = (Vec::new(), Page::first(limit));
        loop {
            let items = store.list_keys(None, &page).await.unwrap();
            let Some(last) = items.last() else { break };
            page.after = Some(last.id.clone());
            all.extend(items);
        }
        assert_eq!(all, made, "{limit}");
    }
    // Tenants sort by bytes on every engine: `-` < `_` < `b`.
    let mut tenants = Vec::new();
    let mut page = Page::first(1);
    while let Some(tenant) = store.list_tenants(&page).await.unwrap().pop() {
        page.after = Some(tenant.id.clone());
        tenants.push(tenant.id);
    }
    assert_eq!(tenants, ["a-c", "a_c", "ab", "b"]);
    for limit in [0, 1001] {
        let error = store.list_keys(None, &Page::first(limit)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

async fn changes_are_audited(rig: &Rig) {
    let store = rig.migrated().await;
    let (info, _) = make(&store, "acme", "ci").await;
    rig.clock.advance(5);
    for _ in 0..2 {
        store.revoke_key("acme", &info.id, &Actor::Key("k1".into())).await.unwrap();
    }
    let detail = json!({"from": 1, "to": null, "ü": "\u{1F600}\""});
    store.record_audit("acme", &Actor::Open, "x.change", "y", &detail).await.unwrap();
    let log = store.audit_log("acme", &Page::default()).await.unwrap();
    let told: Vec<_> =
        log.iter().map(|e| (e.at - NOW, e.actor.as_str(), e.action.as_str())).collect();
    assert_eq!(
        told,
        [
            (5, "open", "x.change"),
            (5, "key:k1", "key.revoke"),
            (0, "cli", "key.create"),
            (0, "cli", "tenant.create"),
        ]
    );
    assert_eq!(log[0].detail, detail);
    assert_eq!(log[1].target, info.id);
    assert_eq!(log[2].detail["scopes"], "chains:read,keys:read");
    let page = Page { limit: 2, after: Some(log[1].id.clone()) };
    assert_eq!(store.audit_log("acme", &page).await.unwrap(), log[2..]);
    let long = json!("x".repeat(20_000));
    let error = store.record_audit("acme", &Actor::Cli, "a", "b", &long).await.unwrap_err();
    assert_eq!(error.to_string(), "the detail of an audit entry is longer than 16384 bytes");
}

async fn bad_input_is_refused(rig: &Rig) {
    let store = rig.migrated().await;
    for (change, reason) in [
        ((|n| n.tenant = "Acme".into()) as fn(&mut NewKey), "`Acme` is not a tenant name"),
        (|n| n.tenant = String::new(), "is not a tenant name"),
        (|n| n.tenant = "x".repeat(64), "is not a tenant name"),
        (|n| n.tenant = "a\nb".into(), "`a\\nb` is not a tenant name"),
        (|n| n.name = "x".repeat(101), "at most 100 bytes"),
        (|n| n.name = "a\u{1b}[2J".into(), "no control characters"),
        (|n| n.scopes = Scopes::NONE, "at least one scope"),
        (|n| n.expires_at = Some(NOW), "in the future"),
    ] {
        let mut new = new_key("acme", "x");
        change(&mut new);
        let error = store.create_key(new, &Actor::Cli).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert_eq!(store.list_tenants(&Page::default()).await.unwrap(), []);
    // SQL in a name is a name.
    let name = "'; DROP TABLE api_keys; --";
    assert_eq!(make(&store, TENANT_DEFAULT, name).await.0.name, name);
}

async fn has_keys_never_falls_back(rig: &Rig) {
    let store = rig.migrated().await;
    assert!(!store.has_keys().await.unwrap());
    let (info, _) = make(&store, "acme", "x").await;
    // At once, although "no keys" was kept.
    assert!(store.has_keys().await.unwrap());
    store.revoke_key("acme", &info.id, &Actor::Cli).await.unwrap();
    rig.clock.advance(AUTH_CACHE_TTL_MS);
    assert!(store.has_keys().await.unwrap());
}

async fn tenant_deletion_ends_keys(rig: &Rig) {
    let store = rig.migrated().await;
    let (_, secret) = make(&store, "acme", "x").await;
    assert!(whose(&store, &secret).await.is_some());
    store.pool().execute("UPDATE tenants SET deleted_at = 5").await.unwrap();
    rig.clock.advance(AUTH_CACHE_TTL_MS);
    assert_eq!(whose(&store, &secret).await, None);
    let error = store.create_key(new_key("acme", "y"), &Actor::Cli).await.unwrap_err();
    assert_eq!(error.to_string(), "no tenant `acme`");
}

async fn instances_migrate_at_once(rig: &Rig) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = rig.open().await;
        tasks.spawn(async move { store.migrate().await.unwrap().len() });
    }
    let applied = tasks.join_all().await;
    let idle = applied.iter().filter(|count| **count == 0).count();
    assert_eq!(idle, 3, "exactly one applies them: {applied:?}");
}

async fn newer_and_other_schemas_are_refused(rig: &Rig) {
    let store = rig.open().await;
    let known = store.migrate().await.unwrap().len();
    store.pool().execute("INSERT INTO lookout_migrations VALUES (77, 'x', 'y', 0)").await.unwrap();
    let error = rig.open().await.migrate().await.unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "the store's schema is at version 77, but this lookout knows only up to {known}; run a newer lookout"
        )
    );
    store.pool().execute("DELETE FROM lookout_migrations WHERE version = 77").await.unwrap();
    store.pool().execute("UPDATE lookout_migrations SET checksum = 'y'").await.unwrap();
    let error = rig.open().await.migrate().await.unwrap_err();
    assert!(matches!(error, StoreError::SchemaDiffers { version: 1 }), "{error}");
}

async fn other_instances_see_revocations(rig: &Rig) {
    let (here, there) = (rig.migrated().await, rig.open().await);
    let (info, secret) = make(&here, "acme", "x").await;
    assert!(whose(&there, &secret).await.is_some());
    here.revoke_key("acme", &info.id, &Actor::Cli).await.unwrap();
    assert_eq!(whose(&here, &secret).await, None);
    rig.clock.advance(AUTH_CACHE_TTL_MS - 1);
    assert!(whose(&there, &secret).await.is_some(), "answered from memory");
    rig.clock.advance(1);
    assert_eq!(whose(&there, &secret).await, None);
}

async fn writers_do_not_fail_each_other(rig: &Rig) {
    rig.migrated().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..4 {
        let store = rig.open().await;
        tasks.spawn(async move {
            for m in 0..10 {
                make(&store, "acme", &format!("{n}.{m}")).await;
            }
        });
    }
    tasks.join_all().await;
    let store = rig.open().await;
    assert_eq!(store.list_keys(Some("acme"), &Page::first(1000)).await.unwrap().len(), 40);
    let log = store.audit_log("acme", &Page::first(1000)).await.unwrap();
    assert_eq!(log.iter().filter(|entry| entry.action == "tenant.create").count(), 1);
    assert_eq!(log.len(), 41);
}

async fn a_failed_change_leaves_nothing(rig: &Rig) {
    let store = rig.migrated().await;
    // Too long for the audit log, so the key may not come to be either.
    let actor = Actor::Token("x".repeat(600));
    store.create_key(new_key("acme", "x"), &actor).await.unwrap_err();
    assert_eq!(store.list_keys(None, &Page::default()).await.unwrap(), []);
    assert_eq!(store.list_tenants(&Page::default()).await.unwrap(), []);
    assert!(!store.has_keys().await.unwrap());
}
