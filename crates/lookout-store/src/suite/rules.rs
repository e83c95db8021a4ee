//! Rules, labels and alerts.

use lookout_rules::{RuleDocument, RuleSource};
use lookout_types::{Address, ChainId};
use sqlx::Row;

use super::*;
use crate::{AlertFilter, AlertState, RuleFilter, RuleInfo, RuleState};

const CHAIN: ChainId = ChainId(1);

pub(super) fn document(condition: &str) -> RuleDocument {
    serde_json::from_value(json!({
        "name": "big", "chain": "ethereum",
        "watch": {"kind": "event", "abi": "erc20", "event": "Transfer"}, "condition": condition,
    }))
    .unwrap()
}

async fn create(store: &Store, tenant: &str, condition: &str) -> RuleInfo {
    store.create_rule(tenant, CHAIN, &document(condition), &Actor::Cli).await.unwrap()
}

/// Version, whether it is retired, and revision of each version of a rule.
async fn versions(store: &Store, rule: &str) -> Vec<(i64, bool, i64)> {
    let rows = sqlx::query(
        "SELECT version, retired, revision FROM rule_versions WHERE rule_id = $1 ORDER BY version",
    )
    .bind(rule.to_owned())
    .fetch_all(store.pool())
    .await
    .unwrap();
    rows.iter().map(|row| (row.get(0), row.get::<i16, _>(1) != 0, row.get(2))).collect()
}

async fn source(store: &Store, rule: &str, version: i64) -> RuleSource {
    let row = sqlx::query("SELECT source FROM rule_versions WHERE rule_id = $1 AND version = $2")
        .bind(rule.to_owned())
        .bind(version)
        .fetch_one(store.pool())
        .await
        .unwrap();
    serde_json::from_str(&row.get::<String, _>(0)).unwrap()
}

async fn insert(store: &Store, sql: &'static str) {
    sqlx::query(sql).execute(store.pool()).await.unwrap();
}

pub(super) async fn rules_live_and_end(rig: &Rig) {
    let store = rig.migrated().await;
    let mut signal = store.signals().rules.listen();
    let rule = create(&store, "acme", "value > 5").await;
    assert!(signal.has_changed().unwrap());
    assert_eq!((rule.version, rule.state(), rule.from_height), (1, RuleState::Active, None));
    assert_eq!(rule.document, document("value > 5"));
    assert_eq!(store.get_rule("acme", &rule.id).await.unwrap(), rule);
    let spelled = source(&store, &rule.id, 1).await;
    assert!(spelled.abi.unwrap().contains("event Transfer"), "the ABI is spelled out");

    signal.mark_unchanged();
    rig.clock.advance(5);
    let paused = store.pause_rule("acme", &rule.id, &Actor::Cli).await.unwrap();
    assert_eq!(
        (paused.version, paused.state(), paused.updated_at),
        (1, RuleState::Paused, NOW + 5)
    );
    assert!(signal.has_changed().unwrap());
    let again = store.pause_rule("acme", &rule.id, &Actor::Cli).await.unwrap();
    assert_eq!(again, paused);
    assert_eq!(versions(&store, &rule.id).await, [(1, true, 2)]);

    let resumed = store.resume_rule("acme", &rule.id, &Actor::Cli).await.unwrap();
    assert_eq!((resumed.version, resumed.state()), (2, RuleState::Active));
    let deleted = store.delete_rule("acme", &rule.id, &Actor::Cli).await.unwrap();
    assert_eq!((deleted.state(), deleted.deleted_at), (RuleState::Deleted, Some(NOW + 5)));
    store.delete_rule("acme", &rule.id, &Actor::Cli).await.unwrap();
    assert_eq!(versions(&store, &rule.id).await, [(1, true, 2), (2, true, 4)]);
    for error in [
        store.pause_rule("acme", &rule.id, &Actor::Cli).await.unwrap_err(),
        store.resume_rule("acme", &rule.id, &Actor::Cli).await.unwrap_err(),
        store.update_rule("acme", &rule.id, CHAIN, &document(""), &Actor::Cli).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.to_string().ends_with("is deleted; restore it first"), "{error}");
    }
    let restored = store.restore_rule("acme", &rule.id, &Actor::Cli).await.unwrap();
    assert_eq!((restored.version, restored.state()), (3, RuleState::Active));
    let log = store.audit_log("acme", &Page::default()).await.unwrap();
    let actions: Vec<_> = log.iter().map(|entry| entry.action.as_str()).collect();
    assert_eq!(
        actions,
        [
            "rule.restore",
            "rule.delete",
            "rule.resume",
            "rule.pause",
            "rule.create",
            "tenant.create"
        ]
    );
}

pub(super) async fn what_is_watched_makes_a_version(rig: &Rig) {
    let store = rig.migrated().await;
    insert(&store, "INSERT INTO tenants (tenant_id, created_at) VALUES ('acme', 0)").await;
    insert(
        &store,
        "INSERT INTO channels (tenant_id, id, name, kind, config, secrets, state, created_at, \
         updated_at) VALUES ('acme', 'c1', 'c', 'slack', '{}', '{}', 'active', 0, 0)",
    )
    .await;
    let rule = create(&store, "acme", "value > 5").await;
    let update = async |document: &RuleDocument| {
        store.update_rule("acme", &rule.id, CHAIN, document, &Actor::Cli).await
    };
    let same = update(&document("value > 5")).await.unwrap();
    assert_eq!(same, rule, "nothing changed");
    let mut told = document("value > 5");
    (told.channels, told.confirmations) = (vec!["c1".to_owned()], 7);
    let after = update(&told).await.unwrap();
    assert_eq!((after.version, &after.document), (1, &told));
    let other = update(&document("value > 6")).await.unwrap();
    assert_eq!(other.version, 2);
    assert_eq!(versions(&store, &rule.id).await, [(1, true, 2), (2, false, 3)]);
    // A paused rule watches nothing, so there is no version until it is resumed.
    store.pause_rule("acme", &rule.id, &Actor::Cli).await.unwrap();
    let changed = update(&document("value > 7")).await.unwrap();
    assert_eq!((changed.version, changed.state()), (2, RuleState::Paused));
    let resumed = store.resume_rule("acme", &rule.id, &Actor::Cli).await.unwrap();
    assert_eq!(resumed.version, 3);
    assert_eq!(source(&store, &rule.id, 3).await.document.condition, "value > 7");
    assert_eq!(source(&store, &rule.id, 2).await.document.condition, "value > 6");

    told.channels = vec!["c2".to_owned()];
    let error = update(&told).await.unwrap_err();
    assert!(error.to_string().starts_with("there is no channel `c2`"), "{error}");
    told.channels = vec!["c\0".to_owned()];
    assert_eq!(update(&told).await.unwrap_err().kind(), ErrorKind::Invalid);
    let error = update(&document("valu > 7")).await.unwrap_err();
    assert!(error.to_string().contains("column 1"), "{error}");
    assert_eq!(store.get_rule("acme", &rule.id).await.unwrap(), resumed);
}

pub(super) async fn rules_see_the_abi_of_their_tenant(rig: &Rig) {
    let store = rig.migrated().await;
    for tenant in ["acme", "other"] {
        store.create_key(new_key(tenant, "k"), &Actor::Cli).await.unwrap();
    }
    insert(
        &store,
        "INSERT INTO abis (tenant_id, id, name, abi, created_at) \
         VALUES ('acme', 'i1', 'mine', '[\"event Sent(uint256 a)\"]', 0)",
    )
    .await;
    let mut wanted = document("a > 1");
    wanted.watch =
        serde_json::from_value(json!({"kind": "event", "abi": "mine", "event": "Sent"})).unwrap();
    let rule = store.create_rule("acme", CHAIN, &wanted, &Actor::Cli).await.unwrap();
    let error = store.create_rule("other", CHAIN, &wanted, &Actor::Cli).await.unwrap_err();
    assert!(error.to_string().starts_with("there is no ABI `mine`; upload it first"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    // A replaced ABI is taken up by saving the same document again.
    insert(&store, "UPDATE abis SET abi = '[\"event Sent(uint256 a, bool b)\"]'").await;
    let again = store.update_rule("acme", &rule.id, CHAIN, &wanted, &Actor::Cli).await.unwrap();
    assert_eq!(again.version, 2);
    insert(&store, "UPDATE abis SET deleted_at = 1").await;
    store.pause_rule("acme", &rule.id, &Actor::Cli).await.unwrap();
    let error = store.resume_rule("acme", &rule.id, &Actor::Cli).await.unwrap_err();
    assert!(error.to_string().contains("no ABI `mine`"), "{error}");
}

pub(super) async fn other_tenants_rules_are_not_found(rig: &Rig) {
    let store = rig.migrated().await;
    let ours = create(&store, "acme", "").await;
    let theirs = create(&store, "other", "").await;
    let a = &Actor::Cli;
    for id in [theirs.id.as_str(), "01990000-0000-7000-8000-000000000000", "x"] {
        for error in [
            store.get_rule("acme", id).await.unwrap_err(),
            store.update_rule("acme", id, CHAIN, &document("value > 1"), a).await.unwrap_err(),
            store.pause_rule("acme", id, a).await.unwrap_err(),
            store.resume_rule("acme", id, a).await.unwrap_err(),
            store.delete_rule("acme", id, a).await.unwrap_err(),
            store.restore_rule("acme", id, a).await.unwrap_err(),
        ] {
            assert_eq!(error.to_string(), format!("no rule `{id}`"));
        }
    }
    assert_eq!(store.get_rule("other", &theirs.id).await.unwrap(), theirs);
    let all = RuleFilter::default();
    assert_eq!(store.list_rules("acme", &all, &Page::default()).await.unwrap(), [ours]);
}

pub(super) async fn rule_lists_are_filtered_and_paged(rig: &Rig) {
    let store = rig.migrated().await;
    let mut made = Vec::new();
    for n in 0..5 {
        let chain = ChainId(1 + n % 2);
        let rule = store.create_rule("acme", chain, &document(""), &Actor::Cli).await.unwrap();
        made.push(rule.id);
    }
    store.pause_rule("acme", &made[0], &Actor::Cli).await.unwrap();
    store.delete_rule("acme", &made[1], &Actor::Cli).await.unwrap();
    let ids = async |chain: Option<u64>, state, page: Page| {
        let filter = RuleFilter { chain: chain.map(ChainId), state };
        let rules = store.list_rules("acme", &filter, &page).await.unwrap();
        let place = |rule: &RuleInfo| made.iter().position(|id| *id == rule.id).unwrap();
        rules.iter().map(place).collect::<Vec<_>>()
    };
    assert_eq!(ids(None, None, Page::default()).await, [4, 3, 2, 0]);
    assert_eq!(ids(Some(1), None, Page::default()).await, [4, 2, 0]);
    assert_eq!(ids(None, Some(RuleState::Active), Page::default()).await, [4, 3, 2]);
    assert_eq!(ids(None, Some(RuleState::Paused), Page::default()).await, [0]);
    assert_eq!(ids(None, Some(RuleState::Deleted), Page::default()).await, [1]);
    let page = Page { limit: 2, after: Some(made[4].clone()) };
    assert_eq!(ids(None, None, page).await, [3, 2]);
    let huge = store.create_rule("acme", ChainId(u64::MAX), &document(""), &Actor::Cli).await;
    assert_eq!(huge.unwrap_err().kind(), ErrorKind::Invalid);
}

pub(super) async fn failures_are_those_of_the_newest_version(rig: &Rig) {
    let store = rig.migrated().await;
    let rule = create(&store, "acme", "").await;
    for (version, reason, count) in [(1, "b", 2), (2, "a", 3), (1, "a", 5)] {
        sqlx::query(
            "INSERT INTO rule_failures (tenant_id, rule_id, rule_version, reason, count, \
             last_height, last_record) VALUES ('acme', $1, $2, $3, $4, 9, '{\"kind\":\"log\"}')",
        )
        .bind(rule.id.clone())
        .bind(version)
        .bind(reason)
        .bind(count)
        .execute(store.pool())
        .await
        .unwrap();
    }
    let failures = store.rule_failures("acme", &rule.id, &rule.id).await.unwrap();
    let told: Vec<_> = failures.iter().map(|f| (f.reason.as_str(), f.count)).collect();
    assert_eq!(told, [("a", 5), ("b", 2)]);
    assert_eq!((failures[0].last_height, &failures[0].last_record), (9, &json!({"kind": "log"})));
    assert_eq!(store.rule_failures("other", &rule.id, &rule.id).await.unwrap(), []);
}

pub(super) async fn a_label_renews_the_rules_that_use_it(rig: &Rig) {
    let store = rig.migrated().await;
    let (one, two) = (Address([1; 20]), Address([2; 20]));
    let set = async |name: &str, addresses: &[Address]| {
        store.set_label("acme", name, addresses, &Actor::Cli).await
    };
    let made = set("friends", &[two, one, two]).await.unwrap();
    assert_eq!((made.addresses.as_slice(), made.rules), ([one, two].as_slice(), 0));
    set("others", &[one]).await.unwrap();
    let uses = create(&store, "acme", "from in labels[\"friends\"]").await;
    let paused = create(&store, "acme", "to in labels[\"friends\"]").await;
    store.pause_rule("acme", &paused.id, &Actor::Cli).await.unwrap();
    let unrelated = create(&store, "acme", "from in labels[\"others\"]").await;
    let error = store.create_rule("other", CHAIN, &uses.document, &Actor::Cli).await.unwrap_err();
    assert!(error.to_string().contains("there is no label `friends`"), "{error}");

    let before = versions(&store, &uses.id).await;
    let kept = set("friends", &[one, two]).await.unwrap();
    assert_eq!(kept.rules, 2);
    assert_eq!(versions(&store, &uses.id).await, before, "nothing changed");
    set("friends", &[two]).await.unwrap();
    assert_eq!(store.get_rule("acme", &uses.id).await.unwrap().version, 2);
    assert_eq!(source(&store, &uses.id, 2).await.labels["friends"], [two]);
    assert_eq!(source(&store, &uses.id, 1).await.labels["friends"], [one, two]);
    assert_eq!(versions(&store, &paused.id).await.len(), 1);
    assert_eq!(versions(&store, &unrelated.id).await.len(), 1);
    store.resume_rule("acme", &paused.id, &Actor::Cli).await.unwrap();
    assert_eq!(source(&store, &paused.id, 2).await.labels["friends"], [two]);

    let error = store.delete_label("acme", "friends", &Actor::Cli).await.unwrap_err();
    assert!(
        error.to_string().starts_with("label `friends` is used by 2 rules, such as"),
        "{error}"
    );
    assert_eq!(error.kind(), ErrorKind::Conflict);
    // A rule that no longer uses it lets it go, and one that is deleted does too.
    store.update_rule("acme", &paused.id, CHAIN, &document(""), &Actor::Cli).await.unwrap();
    store.delete_rule("acme", &uses.id, &Actor::Cli).await.unwrap();
    store.delete_label("acme", "friends", &Actor::Cli).await.unwrap();
    let error = store.restore_rule("acme", &uses.id, &Actor::Cli).await.unwrap_err();
    assert!(error.to_string().contains("there is no label `friends`"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

pub(super) async fn labels_have_limits_and_tenants(rig: &Rig) {
    let store = rig.migrated().await;
    let many: Vec<_> = (0..=10_000_u32)
        .map(|n| {
            let mut address = Address::default();
            address.0[..4].copy_from_slice(&n.to_be_bytes());
            address
        })
        .collect();
    let cli = &Actor::Cli;
    let error = store.set_label("acme", "x", &many, cli).await.unwrap_err();
    assert!(error.to_string().contains("at most 10000 addresses, this one has 10001"), "{error}");
    store.set_label("acme", "x", &many[1..], cli).await.unwrap();
    for name in ["", "a\0", &"x".repeat(101)] {
        let error = store.set_label("acme", name, &[], cli).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{name}");
        assert!(store.delete_label("acme", name, cli).await.is_err());
    }
    for name in ["b", "é", "B"] {
        store.set_label("acme", name, &[], cli).await.unwrap();
    }
    let error = store.delete_label("other", "b", cli).await.unwrap_err();
    assert_eq!(error.to_string(), "no label `b`");
    let mut page = Page::first(2);
    let mut names = Vec::new();
    loop {
        let labels = store.list_labels("acme", &page).await.unwrap();
        let Some(last) = labels.last() else { break };
        page.after = Some(last.name.clone());
        names.extend(labels.into_iter().map(|label| label.name));
    }
    assert_eq!(names, ["B", "b", "x", "é"]);
}

pub(super) async fn revisions_come_in_order(rig: &Rig) {
    let store = rig.migrated().await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..4 {
        let store = store.clone();
        tasks.spawn(async move {
            for _ in 0..5 {
                let rule = create(&store, ["a", "b"][n % 2], "").await;
                store.pause_rule(["a", "b"][n % 2], &rule.id, &Actor::Cli).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let rows = sqlx::query("SELECT revision FROM rule_versions ORDER BY revision")
        .fetch_all(store.pool())
        .await
        .unwrap();
    let revisions: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(revisions.len(), 20);
    assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
    let rules = store.list_rules("a", &RuleFilter::default(), &Page::first(100)).await.unwrap();
    assert_eq!(rules.len(), 10);
}

/// One alert; its id begins with the time of its block, as the matcher makes it.
pub(super) async fn insert_alert(store: &Store, tenant: &str, n: u64, state: &str) -> String {
    let time = 1_700_000_000 + n;
    let id =
        Uuid::from_u128(u128::from(time * 1000) << 80 | 0x7000_8000_0000_0000_0000 | u128::from(n));
    sqlx::query(
        "INSERT INTO alerts (tenant_id, id, rule_id, rule_version, rule_name, chain_id, height, \
         block_hash, block_time, record, occurrence, text, spans, facts, confirms_at, state, \
         created_at) VALUES ($1, $2, $3, 1, 'big', $4, $5, $6, $7, '{\"kind\":\"log\"}', 1, 'big', \
         '[]', '{}', $5, $8, 5)",
    )
    .bind(tenant.to_owned())
    .bind(id.to_string())
    .bind(format!("r{}", n % 2))
    .bind(i64::try_from(1 + n % 3).unwrap())
    .bind(i64::try_from(n).unwrap())
    .bind(vec![7_u8; 32])
    .bind(i64::try_from(time).unwrap())
    .bind(state.to_owned())
    .execute(store.pool())
    .await
    .unwrap();
    id.to_string()
}

pub(super) async fn alerts_are_found_by_what_they_are(rig: &Rig) {
    let store = rig.migrated().await;
    let mut ids = Vec::new();
    for n in 0..6 {
        let state = ["pending", "confirmed"][usize::from(n > 3)];
        ids.push(insert_alert(&store, "acme", n, state).await);
    }
    insert_alert(&store, "other", 3, "retracted").await;
    let list = async |filter: AlertFilter| {
        let alerts = store.list_alerts("acme", &filter, &Page::default()).await.unwrap();
        alerts.iter().map(|alert| alert.block.number).collect::<Vec<_>>()
    };
    let all = AlertFilter::default();
    assert_eq!(list(all.clone()).await, [5, 4, 3, 2, 1, 0]);
    assert_eq!(list(AlertFilter { rule: Some("r1".to_owned()), ..all.clone() }).await, [5, 3, 1]);
    assert_eq!(list(AlertFilter { chain: Some(ChainId(2)), ..all.clone() }).await, [4, 1]);
    let confirmed = Some(AlertState::Confirmed);
    assert_eq!(list(AlertFilter { state: confirmed, ..all.clone() }).await, [5, 4]);
    let (from, to) = (Some(1_700_000_001), Some(1_700_000_004));
    assert_eq!(list(AlertFilter { from, to, ..all.clone() }).await, [3, 2, 1]);
    let to = Some(u64::MAX);
    assert_eq!(list(AlertFilter { from: to, to, ..all.clone() }).await, Vec::<u64>::new());
    let page = Page { limit: 2, after: Some(ids[4].clone()) };
    let alerts = store.list_alerts("acme", &all, &page).await.unwrap();
    assert_eq!(alerts.iter().map(|a| a.id.as_str()).collect::<Vec<_>>(), [&ids[3], &ids[2]]);
    let one = store.get_alert("acme", &ids[2]).await.unwrap();
    assert_eq!((one.block_time, one.state), (1_700_000_002, AlertState::Pending));
    assert_eq!((&one.record, &one.spans), (&json!({"kind": "log"}), &Vec::new()));
    for id in ["x", "01990000-0000-7000-8000-000000000000"] {
        let error = store.get_alert("acme", id).await.unwrap_err();
        assert_eq!(error.to_string(), format!("no alert `{id}`"));
    }
    assert!(store.get_alert("other", &ids[0]).await.is_err());
}
