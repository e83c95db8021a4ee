//! Rebuilds and forks below everything, on every engine.

use super::*;
use crate::KeptWindows;

suite!(
    memory,
    crate::suite::on_memory,
    [
        the_lowest_block_goes_with_its_block,
        windows_are_kept_in_parts,
        long_sources_are_read_a_few_at_a_time,
        what_waited_before_a_rebuild_waits_on,
        alerts_of_a_purged_rule_stand,
        what_windows_below_the_first_frame_brought_up_stands,
    ]
);
suite!(
    postgres,
    crate::suite::on_postgres,
    [
        the_lowest_block_goes_with_its_block,
        windows_are_kept_in_parts,
        long_sources_are_read_a_few_at_a_time,
        what_waited_before_a_rebuild_waits_on,
        alerts_of_a_purged_rule_stand,
        what_windows_below_the_first_frame_brought_up_stands,
    ]
);

async fn the_lowest_block_goes_with_its_block(rig: &Rig) {
    let store = rig.migrated().await;
    tenant(&store, "acme", "r1", &[], 0).await;
    let mut first = commit(0, 2, block(8, 1), vec![applied(7..=8, 1, &["r1"])]);
    (first.base, first.windows) = (Some(7), Some(parts(&[("0", 1)], &[])));
    done(&store, &first).await;
    // Nothing but rules taken up: what is there stays.
    done(&store, &commit(2, 2, block(8, 1), Vec::new())).await;
    let state = store.watch_state(CHAIN).await.unwrap();
    assert_eq!((state.base, state.snapshot.unwrap().base), (Some(7), Some(7)));
    let mut none = commit(2, 4, block(6, 1), vec![WatchStep::Undone { from: 7 }]);
    none.cursor.head = None;
    done(&store, &none).await;
    let state = store.watch_state(CHAIN).await.unwrap();
    assert_eq!((state.base, state.cursor.head), (None, None));
    assert_eq!(state.snapshot.unwrap().base, Some(7), "they are of before");
    let mut again = commit(4, 5, block(9, 2), vec![applied(9..=9, 2, &["r1"])]);
    again.base = Some(9);
    done(&store, &again).await;
    assert_eq!(store.watch_state(CHAIN).await.unwrap().base, Some(9));
    store.reset_watch(CHAIN).await.unwrap();
    assert_eq!(store.watch_state(CHAIN).await.unwrap().base, None);
}

/// Parts of windows, each a byte or a hundred of them, and those that are gone.
pub(super) fn parts(changed: &[(&str, u8)], gone: &[&str]) -> KeptWindows {
    let changed = changed.iter().map(|(name, byte)| ((*name).to_owned(), vec![*byte; 100]));
    let gone = gone.iter().map(|name| (*name).to_owned());
    KeptWindows { changed: changed.collect(), gone: gone.collect() }
}

async fn windows_are_kept_in_parts(rig: &Rig) {
    let store = rig.migrated().await;
    tenant(&store, "acme", "r1", &[], 0).await;
    let many: Vec<String> = (0..300).map(|number| format!("1/{number:03}")).collect();
    let named = |byte| many.iter().map(|name| (name.as_str(), byte)).collect::<Vec<_>>();
    let all: Vec<_> = many.iter().map(String::as_str).collect();
    let mut sequence = 0;
    for (windows, expected) in [
        (parts(&named(1), &[]), 300),
        (parts(&[("0", 2), ("1/299", 3)], &[]), 301),
        (parts(&[("2", 4)], &all[1..]), 3),
        (parts(&[], &["0", "1/000", "2"]), 0),
    ] {
        sequence += 1;
        let step = applied(sequence..=sequence, 1, &[]);
        let mut next = commit(sequence - 1, sequence, block(sequence, 1), vec![step]);
        next.windows = Some(windows);
        done(&store, &next).await;
        let snapshot = store.watch_state(CHAIN).await.unwrap().snapshot.unwrap();
        assert_eq!((snapshot.cursor, snapshot.parts.len()), (next.cursor, expected));
        assert!(snapshot.parts.is_sorted_by_key(|(name, _)| name.clone()));
        if sequence == 2 {
            let bytes: Vec<_> = [0, 1, 300].map(|at| snapshot.parts[at].1[99]).into();
            assert_eq!(bytes, [2, 1, 3]);
        }
    }
}

async fn long_sources_are_read_a_few_at_a_time(rig: &Rig) {
    let store = rig.migrated().await;
    tenant(&store, "acme", "r1", &[], 0).await;
    for number in 0..9_u32 {
        version(&store, "r1", number, i64::from(number)).await;
    }
    let length = "SELECT printf('%.*c', 7000000, 'x')";
    let length = match store.engine() {
        crate::engine::Engine::Sqlite => length,
        crate::engine::Engine::Postgres => "SELECT repeat('x', 7000000)",
    };
    let long =
        format!("UPDATE rule_versions SET source = ({length}) WHERE version IN (0, 1, 2, 4)");
    execute(&store, &long).await;
    let (mut after, mut pages) = (VersionsAfter { revision: -1, ..Default::default() }, Vec::new());
    loop {
        let page = store.rule_versions(CHAIN, &after, None).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.place();
        pages.push(page.iter().map(|version| version.version).collect::<Vec<_>>());
    }
    assert_eq!(pages, [vec![0, 1, 2], vec![3, 4, 5, 6, 7, 8]]);
}

/// A version whose windows are as long as some seconds.
async fn windowed(store: &Store, rule: &str, seconds: u64) {
    let source = serde_json::json!({"chain": 137, "document": {
        "name": "n", "chain": "137", "watch": {"kind": "transfer", "asset": "any"},
        "window": {"kind": "count", "over": format!("{seconds}s"), "condition": "count > 1"}}});
    execute(
        store,
        &format!(
            "INSERT INTO rule_versions (tenant_id, rule_id, version, chain_id, source, retired, \
             revision, created_at) VALUES ('acme', '{rule}', 1, 137, '{source}', 0, 1, 0)"
        ),
    )
    .await;
}

/// Blocks one by one, each a commit.
async fn one_by_one(store: &Store, first: u64, heights: std::ops::RangeInclusive<u64>) {
    for (height, sequence) in heights.zip(first..) {
        let step = applied(height..=height, 1, &["r1"]);
        done(store, &commit(sequence - 1, sequence, block(height, 1), vec![step])).await;
    }
}

async fn what_waited_before_a_rebuild_waits_on(rig: &Rig) {
    let store = rig.migrated().await;
    tenant(&store, "acme", "r1", &["a"], 2).await;
    one_by_one(&store, 1, 1..=4).await;
    let (before, told_before) = (states(&store).await, deliveries(&store).await);
    assert_eq!(before, ["1 confirmed 1", "2 confirmed 1", "3 pending 1", "4 pending 1"]);
    let changed = "SELECT id, CAST(changed AS TEXT) FROM alerts ORDER BY id";
    let changes = told(&store, changed).await;
    execute(&store, "UPDATE rules SET confirmations = 0").await;
    store.reset_watch(CHAIN).await.unwrap();
    // On its way the rebuild goes another way, and comes back.
    let steps =
        vec![applied(1..=4, 1, &["r1"]), WatchStep::Undone { from: 3 }, applied(3..=3, 1, &["r1"])];
    done(&store, &commit(0, 3, block(3, 1), steps)).await;
    done(&store, &commit(3, 4, block(4, 1), vec![applied(4..=4, 1, &["r1"])])).await;
    assert_eq!(store.watch_state(CHAIN).await.unwrap().rebuilding, None);
    assert_eq!((states(&store).await, deliveries(&store).await), (before, told_before));
    assert_eq!(told(&store, changed).await, changes, "nothing has changed for who follows changes");
    let step = applied(5..=6, 1, &[]);
    let changes = done(&store, &commit(4, 6, block(6, 1), vec![step])).await;
    assert_eq!((changes.confirmed, changes.queued), (2, 2), "they are told when it is time");
}

async fn alerts_of_a_purged_rule_stand(rig: &Rig) {
    let store = rig.migrated().await;
    tenant(&store, "acme", "r1", &["a"], 2).await;
    one_by_one(&store, 1, 1..=4).await;
    execute(&store, "UPDATE deliveries SET state = 'sent', attempts = 1").await;
    let before = (states(&store).await, deliveries(&store).await);
    execute(&store, "DELETE FROM rules").await;
    store.reset_watch(CHAIN).await.unwrap();
    one_by_one(&store, 1, 1..=4).await;
    assert_eq!(store.watch_state(CHAIN).await.unwrap().rebuilding, None);
    assert_eq!((states(&store).await, deliveries(&store).await), before);
    let left = "SELECT id FROM alerts WHERE replayed = 0";
    assert!(told(&store, left).await.is_empty());
    // A block that is not there any more takes them with it all the same.
    let steps = vec![WatchStep::Undone { from: 2 }];
    let changes = done(&store, &commit(4, 7, block(1, 1), steps)).await;
    assert_eq!((changes.retracted, changes.dropped, changes.queued), (1, 2, 1));
}

async fn what_windows_below_the_first_frame_brought_up_stands(rig: &Rig) {
    let store = rig.migrated().await;
    tenant(&store, "acme", "r1", &["a"], 1).await;
    windowed(&store, "r1", 3).await;
    done(&store, &commit(0, 8, block(8, 1), vec![applied(1..=8, 1, &["r1"])])).await;
    execute(&store, "UPDATE deliveries SET state = 'sent', attempts = 1").await;
    store.reset_watch(CHAIN).await.unwrap();
    // Blocks 4 to 6 are less than 3 s above the first; block 5 is another now.
    let steps = vec![applied(4..=8, 1, &[]), WatchStep::Undone { from: 5 }, applied(5..=8, 2, &[])];
    let mut other = commit(0, 20, block(8, 2), steps);
    other.base = Some(4);
    let changes = done(&store, &other).await;
    let expected = ["1 confirmed 1", "2 confirmed 1", "3 confirmed 1", "4 confirmed 1"];
    assert_eq!(states(&store).await[..4], expected);
    assert_eq!((changes.retracted, changes.rebuilt), (3, true), "{:?}", states(&store).await);

    // The same with the blocks that were there: only what the whole window was seen for goes.
    execute(&store, "DELETE FROM deliveries").await;
    execute(&store, "DELETE FROM alerts").await;
    done(&store, &commit(20, 24, block(12, 2), vec![applied(9..=12, 2, &["r1"])])).await;
    assert!(states(&store).await.contains(&"12 pending 1".to_owned()));
    for (first, retracted, left) in [(10, 0, 4), (9, 0, 3)] {
        store.reset_watch(CHAIN).await.unwrap();
        let step = applied(first..=12, 2, &[]);
        let changes = done(&store, &commit(0, 24, block(12, 2), vec![step])).await;
        assert_eq!((changes.retracted, changes.rebuilt), (retracted, true), "from {first}");
        assert_eq!(states(&store).await.len(), left, "from {first}");
    }
}
