//! Where the rules stand, their alerts and what is put into the outbox, on every engine.

mod readings;

use lookout_types::{BlockRef, ChainId, Cursor, Hash};

mod rebuilds;

use super::Rig;
use crate::testing::{execute, rows};
use crate::{
    AlertKey, NewAlert, NewRuleFailure, Store, TakenUp, VersionsAfter, WATCHED_BLOCKS,
    WatchChanges, WatchCommit, WatchCommitted, WatchStep, WatchedBlock, alert_id,
};

const CHAIN: ChainId = ChainId(137);
/// The record of an alert on a balance.
const READING: u32 = 99;

suite!(
    memory,
    crate::suite::on_memory,
    [
        versions_are_read_in_the_order_of_their_changes,
        alerts_wait_are_confirmed_and_go,
        a_cursor_is_moved_by_one,
        what_is_read_again_is_not_told_again,
        what_other_frames_do_not_bring_is_retracted,
        failures_windows_and_blocks_are_kept,
        alerts_go_to_channels_of_their_own_tenant,
    ]
);
suite!(file, crate::suite::on_file, [alerts_wait_are_confirmed_and_go, a_cursor_is_moved_by_one]);
suite!(
    postgres,
    crate::suite::on_postgres,
    [
        versions_are_read_in_the_order_of_their_changes,
        alerts_wait_are_confirmed_and_go,
        a_cursor_is_moved_by_one,
        what_is_read_again_is_not_told_again,
        what_other_frames_do_not_bring_is_retracted,
        failures_windows_and_blocks_are_kept,
        alerts_go_to_channels_of_their_own_tenant,
    ]
);

async fn tenant(store: &Store, tenant: &str, rule: &str, channels: &[&str], confirmations: u64) {
    execute(store, &format!("INSERT INTO tenants (tenant_id, created_at) VALUES ('{tenant}', 0)"))
        .await;
    let named = serde_json::json!(channels);
    execute(
        store,
        &format!(
            "INSERT INTO rules (tenant_id, id, name, chain_id, document, version, paused, channels, \
             confirmations, created_at, updated_at) VALUES ('{tenant}', '{rule}', 'n', 137, '', 1, \
             0, '{named}', {confirmations}, 0, 0)"
        ),
    )
    .await;
    for channel in channels {
        execute(
            store,
            &format!(
                "INSERT INTO channels (tenant_id, id, name, kind, config, secrets, state, \
                 created_at, updated_at) VALUES ('{tenant}', '{channel}', 'c', 'webhook', '', '', \
                 'active', 0, 0) ON CONFLICT DO NOTHING"
            ),
        )
        .await;
    }
}

async fn version(store: &Store, rule: &str, version: u32, revision: i64) {
    execute(
        store,
        &format!(
            "INSERT INTO rule_versions (tenant_id, rule_id, version, chain_id, source, retired, \
             revision, created_at) VALUES ('acme', '{rule}', {version}, 137, 's', 0, {revision}, 0)"
        ),
    )
    .await;
}

fn block(number: u64, fork: u8) -> BlockRef {
    let mut hash = Hash([fork; 32]);
    hash.0[..8].copy_from_slice(&number.to_be_bytes());
    BlockRef { number, hash }
}

fn watched(number: u64, fork: u8) -> WatchedBlock {
    WatchedBlock { block: block(number, fork), time: 1_700_000_000 + number }
}

fn alert(rule: &str, number: u64, fork: u8, record: u32) -> NewAlert {
    NewAlert {
        key: AlertKey {
            rule_id: rule.to_owned(),
            rule_version: 1,
            chain: CHAIN,
            block_hash: block(number, fork).hash,
            block_time: 1_700_000_000 + number,
            record: record.to_be_bytes().to_vec(),
        },
        height: number,
        rule_name: "nüm".to_owned(),
        record: format!("{{\"n\":{record}}}"),
        is_reading: record == READING,
        text: "hello\nworld".to_owned(),
        spans: "[]".to_owned(),
        facts: r#"{"text":"\u0000"}"#.to_owned(),
    }
}

/// Blocks of a fork applied, with one alert of each rule in each.
fn applied(numbers: std::ops::RangeInclusive<u64>, fork: u8, rules: &[&str]) -> WatchStep {
    let alerts =
        numbers.clone().flat_map(|n| rules.iter().map(move |rule| alert(rule, n, fork, 0)));
    WatchStep::Applied {
        alerts: alerts.collect(),
        blocks: numbers.map(|number| watched(number, fork)).collect(),
    }
}

fn commit(after: u64, sequence: u64, head: BlockRef, steps: Vec<WatchStep>) -> WatchCommit {
    WatchCommit {
        after,
        cursor: Cursor { chain: CHAIN, sequence, head: Some(head) },
        base: None,
        steps,
        windows: None,
        taken_up: Vec::new(),
        failures: Vec::new(),
        final_height: None,
    }
}

async fn done(store: &Store, commit: &WatchCommit) -> WatchChanges {
    match store.commit_watch(commit).await.unwrap() {
        WatchCommitted::Done(changes) => changes,
        WatchCommitted::Elsewhere(found) => panic!("the cursor is at {found}"),
    }
}

/// The values of a query, joined by spaces.
async fn told(store: &Store, query: &str) -> Vec<String> {
    rows(store, query).await.into_iter().map(|row| row.join(" ")).collect()
}

async fn states(store: &Store) -> Vec<String> {
    let query = "SELECT CAST(height AS TEXT), state, CAST(occurrence AS TEXT) FROM alerts \
                 ORDER BY height, rule_id, occurrence";
    told(store, query).await
}

async fn deliveries(store: &Store) -> Vec<String> {
    let query = "SELECT d.channel_id, d.kind, d.state, CAST(a.height AS TEXT), \
                 CAST(a.occurrence AS TEXT) FROM deliveries d \
                 JOIN alerts a ON a.tenant_id = d.tenant_id AND a.id = d.alert_id \
                 ORDER BY a.height, a.occurrence, d.channel_id, d.kind";
    told(store, query).await
}

async fn versions_are_read_in_the_order_of_their_changes(rig: &Rig) {
    let store = rig.migrated().await;
    tenant(&store, "acme", "r1", &[], 0).await;
    assert_eq!(store.rules_revision().await.unwrap(), 0);
    for number in 0..1100 {
        version(&store, &format!("r{:04}", number % 700), number / 700 + 1, i64::from(number / 9))
            .await;
    }
    version(&store, "zz", 1, 500).await;
    let mut all = Vec::new();
    let mut after = VersionsAfter::default();
    loop {
        let page = store.rule_versions(CHAIN, &after, Some(10)).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page[0].place() > after && page.is_sorted_by_key(crate::RuleVersion::place));
        after = last.place();
        all.extend(page);
    }
    assert_eq!(all.len(), 1101);
    assert_eq!((all[1100].rule_id.as_str(), all[1100].from_height), ("zz", None));
    assert!(store.rule_versions(ChainId(1), &after, None).await.unwrap().is_empty());

    let whose = |version| ("acme".to_owned(), "r0000".to_owned(), version);
    let begins = |version, from| {
        let (tenant, rule_id, version) = whose(version);
        TakenUp::Begins { tenant, rule_id, version, from }
    };
    let ends = |version, until| {
        let (tenant, rule_id, version) = whose(version);
        TakenUp::Ends { tenant, rule_id, version, until }
    };
    let heights = "SELECT CAST(version AS TEXT), CAST(from_height AS TEXT), \
                   CAST(until_height AS TEXT) FROM rule_versions WHERE rule_id = 'r0000' \
                   ORDER BY version";
    let mut take_up = commit(0, 0, block(0, 0), Vec::new());
    take_up.cursor.head = None;
    for (taken_up, expected) in [
        (vec![begins(1, 0)], ["1 0 ", "2  "]),
        (vec![begins(1, 7), begins(2, 20), ends(1, 20)], ["1 0 20", "2 20 "]),
        // Ends move down only, and take earlier versions with them.
        (vec![ends(1, 30)], ["1 0 20", "2 20 "]),
        (vec![ends(2, 15)], ["1 0 15", "2 20 15"]),
    ] {
        take_up.taken_up = taken_up;
        done(&store, &take_up).await;
        assert_eq!(told(&store, heights).await, expected);
    }
    let state = store.watch_state(CHAIN).await.unwrap();
    assert_eq!((state.cursor, state.snapshot), (take_up.cursor, None));
    assert!(store.has_ended_versions(CHAIN, 14).await.unwrap());
    assert!(!store.has_ended_versions(CHAIN, 13).await.unwrap());
    let left = store.rule_versions(CHAIN, &VersionsAfter::default(), Some(14)).await.unwrap();
    assert!(left.iter().all(|version| version.rule_id != "r0000"));
    let none = store.rule_versions(CHAIN, &VersionsAfter::default(), Some(13)).await.unwrap();
    assert_eq!(none[0].until_height, Some(15));
}

async fn alerts_wait_are_confirmed_and_go(rig: &Rig) {
    let store = rig.migrated().await;
    tenant(&store, "acme", "r1", &["a", "b"], 2).await;
    let (alerts, queued) = (store.signals().alerts.listen(), store.signals().deliveries.listen());
    let changes = done(&store, &commit(0, 3, block(3, 1), vec![applied(1..=3, 1, &["r1"])])).await;
    let expected = WatchChanges { matched: 3, confirmed: 1, queued: 2, ..Default::default() };
    assert_eq!(changes, expected);
    assert!(alerts.has_changed().unwrap() && queued.has_changed().unwrap());
    assert_eq!(states(&store).await, ["1 confirmed 1", "2 pending 1", "3 pending 1"]);
    // A batch that goes back, and forth another way, and back to the first.
    let steps = vec![
        WatchStep::Undone { from: 2 },
        applied(2..=4, 2, &["r1"]),
        WatchStep::Undone { from: 2 },
        applied(2..=4, 1, &["r1"]),
    ];
    let changes = done(&store, &commit(3, 14, block(4, 1), steps)).await;
    let expected = WatchChanges {
        matched: 6,
        confirmed: 2,
        retracted: 1,
        dropped: 4,
        queued: 4,
        cancelled: 2,
        rebuilt: false,
    };
    assert_eq!(changes, expected);
    execute(&store, "UPDATE deliveries SET state = 'sent', attempts = 1 WHERE channel_id = 'a' AND state = 'queued'").await;
    execute(
        &store,
        "UPDATE deliveries SET state = 'sending' WHERE channel_id = 'b' AND state = 'queued'",
    )
    .await;
    let steps = vec![WatchStep::Undone { from: 1 }];
    let changes = done(&store, &commit(14, 18, block(0, 1), steps)).await;
    assert_eq!((changes.retracted, changes.queued, changes.cancelled), (2, 4, 0));
    let steps = vec![applied(1..=3, 1, &["r1"])];
    done(&store, &commit(18, 21, block(3, 1), steps)).await;
    let expected = [
        "1 retracted 1",
        "1 confirmed 2",
        "2 retracted 1",
        "2 retracted 1",
        "2 pending 2",
        "3 pending 1",
    ];
    assert_eq!(states(&store).await, expected);
    let again = alert_id(&alert("r1", 1, 1, 0).key, 2);
    let new = format!("SELECT channel_id, kind, state FROM deliveries WHERE alert_id = '{again}'");
    assert_eq!(
        told(&store, &format!("{new} ORDER BY 1")).await,
        ["a alert queued", "b alert queued"]
    );
    let text = "SELECT text, rule_name, facts FROM alerts WHERE height = 3";
    assert_eq!(told(&store, text).await, ["hello\nworld nüm {\"text\":\"\\u0000\"}"]);
}

async fn a_cursor_is_moved_by_one(rig: &Rig) {
    let store = rig.migrated().await;
    tenant(&store, "acme", "r1", &["a"], 0).await;
    let first = commit(0, 1, block(1, 1), vec![applied(1..=1, 1, &["r1"])]);
    done(&store, &first).await;
    for again in [&first, &commit(2, 3, block(3, 1), Vec::new())] {
        let elsewhere = store.commit_watch(again).await.unwrap();
        assert_eq!(elsewhere, WatchCommitted::Elsewhere(1));
    }
    let none = WatchStep::Applied { blocks: vec![], alerts: vec![] };
    done(&store, &commit(1, 2, block(2, 1), vec![none])).await;
    let huge = commit(2, 3, block(u64::MAX, 1), vec![applied(7..=7, 1, &["r1"])]);
    store.commit_watch(&huge).await.unwrap_err();
    assert_eq!(states(&store).await, ["1 confirmed 1"], "all or nothing");
    let state = store.watch_state(CHAIN).await.unwrap();
    assert_eq!(state.cursor, Cursor { chain: CHAIN, sequence: 2, head: Some(block(2, 1)) });
    let never = store.watch_state(ChainId(1)).await.unwrap();
    assert_eq!((never.cursor.sequence, never.cursor.head), (0, None));
}

async fn what_is_read_again_is_not_told_again(rig: &Rig) {
    let store = rig.migrated().await;
    tenant(&store, "acme", "r1", &["a", "b"], 1).await;
    // Forth, back, another way, and back to the first: an alert is told, retracted and told again.
    let story = [
        applied(1..=3, 1, &["r1"]),
        WatchStep::Undone { from: 2 },
        applied(2..=3, 2, &["r1"]),
        WatchStep::Undone { from: 2 },
        applied(2..=4, 1, &["r1"]),
    ];
    let frames: [(u64, BlockRef); 5] =
        [(3, block(3, 1)), (5, block(1, 1)), (7, block(3, 2)), (9, block(1, 1)), (12, block(4, 1))];
    let mut after = 0;
    for (step, (sequence, head)) in story.iter().zip(frames) {
        done(&store, &commit(after, sequence, head, vec![step.clone()])).await;
        after = sequence;
        let sent = "UPDATE deliveries SET state = 'sent', attempts = 1 WHERE channel_id = 'a' \
                    AND state = 'queued'";
        execute(&store, sent).await;
    }
    let before = (states(&store).await, deliveries(&store).await);
    assert_eq!(before.0.iter().filter(|state| state.starts_with("2 ")).count(), 3, "{before:?}");
    assert!(before.1.iter().any(|delivery| delivery.starts_with("a retraction sent 2 1")));
    for stop in 0..5 {
        rig.clock.advance(1000);
        execute(&store, "UPDATE rules SET channels = '[\"a\",\"b\",\"c\"]'").await;
        store.reset_watch(CHAIN).await.unwrap();
        let mut after = 0;
        for (at, (step, (sequence, head))) in story.iter().zip(frames).enumerate() {
            let changes = done(&store, &commit(after, sequence, head, vec![step.clone()])).await;
            assert_eq!((changes.queued, changes.cancelled), (0, 0));
            after = sequence;
            if at == stop && stop < 4 {
                // Interrupted, and begun once more.
                store.reset_watch(CHAIN).await.unwrap();
                break;
            }
        }
        if stop == 4 {
            assert_eq!((states(&store).await, deliveries(&store).await), before);
            assert_eq!(store.watch_state(CHAIN).await.unwrap().rebuilding, None);
        }
    }
    // From here on it is as it was: alert 4 is confirmed by the next block, and told.
    let changes = done(&store, &commit(12, 13, block(5, 1), vec![applied(5..=5, 1, &[])])).await;
    assert_eq!((changes.confirmed, changes.queued), (1, 2), "channel c is not there");
}

async fn what_other_frames_do_not_bring_is_retracted(rig: &Rig) {
    let store = rig.migrated().await;
    tenant(&store, "acme", "r1", &["a"], 0).await;
    done(&store, &commit(0, 4, block(4, 1), vec![applied(1..=4, 1, &["r1"])])).await;
    execute(&store, "UPDATE deliveries SET state = 'sent', attempts = 1").await;
    store.reset_watch(CHAIN).await.unwrap();
    // The frames begin at block 2 now, and from block 4 on the chain is another.
    let changes = done(&store, &commit(0, 77, block(3, 1), vec![applied(2..=3, 1, &["r1"])])).await;
    assert_eq!(changes, WatchChanges::default());
    let steps = vec![applied(4..=5, 2, &["r1"])];
    let changes = done(&store, &commit(77, 79, block(5, 2), steps)).await;
    let expected = WatchChanges {
        matched: 2,
        confirmed: 2,
        retracted: 1,
        queued: 3,
        rebuilt: true,
        ..Default::default()
    };
    assert_eq!(changes, expected);
    let mut found = deliveries(&store).await;
    found.sort();
    let expected = [
        "a alert queued 4 1",
        "a alert queued 5 1",
        "a alert sent 1 1",
        "a alert sent 2 1",
        "a alert sent 3 1",
        "a alert sent 4 1",
        "a retraction queued 4 1",
    ];
    assert_eq!(found, expected);
    let kept = states(&store).await;
    assert_eq!(kept[..3], ["1 confirmed 1", "2 confirmed 1", "3 confirmed 1"]);
    // What was never confirmed goes without a word.
    execute(&store, "UPDATE rules SET confirmations = 9").await;
    done(&store, &commit(79, 80, block(6, 2), vec![applied(6..=6, 2, &["r1"])])).await;
    store.reset_watch(CHAIN).await.unwrap();
    let steps =
        vec![applied(2..=3, 1, &["r1"]), applied(4..=5, 2, &["r1"]), applied(6..=7, 3, &[])];
    let changes = done(&store, &commit(0, 5, block(7, 3), steps)).await;
    assert_eq!((changes.queued, changes.retracted), (0, 0));
    assert!(!states(&store).await.iter().any(|state| state.starts_with("6 ")));
}

async fn failures_windows_and_blocks_are_kept(rig: &Rig) {
    let store = rig.migrated().await;
    tenant(&store, "acme", "r1", &[], 0).await;
    version(&store, "r1", 1, 1).await;
    let failure = |rule: &str, count, height| NewRuleFailure {
        rule_id: rule.to_owned(),
        rule_version: 1,
        reason: "division by zero".to_owned(),
        count,
        height,
        record: format!("{{\"at\":{height}}}"),
    };
    let step = WatchStep::Applied {
        blocks: (1..=1500).map(|number| watched(number, 1)).collect(),
        alerts: Vec::new(),
    };
    let mut first = commit(0, 1500, block(1500, 1), vec![step]);
    first.failures = vec![failure("r1", 2, 5), failure("gone", 1, 5), failure("r1", 3, 6)];
    first.windows = Some(rebuilds::parts(&[("0", 1), ("1", 2)], &[]));
    done(&store, &first).await;
    let query = "SELECT rule_id, reason, CAST(count AS TEXT), CAST(last_height AS TEXT), \
                 last_record FROM rule_failures";
    assert_eq!(told(&store, query).await, ["r1 division by zero 5 6 {\"at\":6}"]);
    let blocks = store.watched_blocks(CHAIN).await.unwrap();
    assert_eq!((blocks.len(), blocks[0]), (1024, watched(1500, 1)));
    assert_eq!(blocks.last().unwrap().block.number, 1500 + 1 - WATCHED_BLOCKS);
    let steps = vec![WatchStep::Undone { from: 1500 }, applied(1500..=1500, 2, &[])];
    let mut second = commit(1500, 1502, block(1500, 2), steps);
    second.failures = vec![failure("r1", 1, 1500)];
    second.final_height = Some(8);
    done(&store, &second).await;
    assert_eq!(told(&store, query).await, ["r1 division by zero 6 1500 {\"at\":1500}"]);
    assert_eq!(store.watched_blocks(CHAIN).await.unwrap()[0], watched(1500, 2));
    let snapshot = store.watch_state(CHAIN).await.unwrap().snapshot.unwrap();
    assert_eq!((snapshot.cursor, snapshot.parts.len()), (first.cursor, 2));
    store.reset_watch(CHAIN).await.unwrap();
    let state = store.watch_state(CHAIN).await.unwrap();
    assert_eq!((state.cursor.sequence, state.cursor.head), (0, None));
    assert_eq!((state.snapshot, state.rebuilding), (None, Some(1502)));
    assert!(told(&store, query).await.is_empty());
    assert!(store.watched_blocks(CHAIN).await.unwrap().is_empty());
}

async fn alerts_go_to_channels_of_their_own_tenant(rig: &Rig) {
    let store = rig.migrated().await;
    tenant(&store, "acme", "r1", &["a"], 0).await;
    // A rule that names another tenant's channel, twice its own, and one that never was.
    tenant(&store, "other", "r2", &["b"], 0).await;
    execute(&store, "UPDATE rules SET channels = '[\"a\",\"b\",\"b\",\"x\"]' WHERE id = 'r2'")
        .await;
    let step = applied(1..=1, 1, &["r1", "r2", "purged"]);
    let changes = done(&store, &commit(0, 1, block(1, 1), vec![step])).await;
    assert_eq!((changes.matched, changes.queued), (2, 2));
    let query = "SELECT d.tenant_id, d.channel_id, a.tenant_id, a.rule_id FROM deliveries d \
                 JOIN alerts a ON a.id = d.alert_id ORDER BY 1";
    assert_eq!(told(&store, query).await, ["acme a acme r1", "other b other r2"]);
    // Many rules and channels at once: more than one list holds.
    let many: Vec<String> = (0..130).map(|number| format!("m{number}")).collect();
    for (number, rule) in many.iter().enumerate() {
        let (tenant_id, channel) = (format!("t{number}"), format!("c{number}"));
        tenant(&store, &tenant_id, rule, &[&channel], 0).await;
    }
    let rules: Vec<&str> = many.iter().map(String::as_str).collect();
    let changes = done(&store, &commit(1, 2, block(2, 1), vec![applied(2..=2, 1, &rules)])).await;
    assert_eq!((changes.matched, changes.queued), (130, 130));
    let steps = vec![WatchStep::Undone { from: 2 }];
    let changes = done(&store, &commit(2, 3, block(1, 1), steps)).await;
    assert_eq!((changes.retracted, changes.cancelled, changes.queued), (130, 130, 0));
}
