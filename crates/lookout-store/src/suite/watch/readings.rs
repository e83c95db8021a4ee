//! Balances that rules are asked about, on every engine.

use super::{
    CHAIN, READING, alert, applied, block, commit, deliveries, done, states, tenant, told, watched,
};
use crate::suite::Rig;
use crate::testing::execute;
use crate::{
    FreshReadings, NewRuleFailure, ReadBalance, Store, TakenReadings, WatchChanges, WatchStep,
};

suite!(
    memory,
    crate::suite::on_memory,
    [
        readings_stand_and_fall_with_their_blocks,
        readings_wait_for_the_rules_once,
        readings_are_kept_to_compare_with,
    ]
);
suite!(
    postgres,
    crate::suite::on_postgres,
    [
        readings_stand_and_fall_with_their_blocks,
        readings_wait_for_the_rules_once,
        readings_are_kept_to_compare_with,
    ]
);

fn read(account: &str, balance: &str) -> ReadBalance {
    let (account, asset) = (account.to_owned(), "native".to_owned());
    ReadBalance { account, asset, balance: balance.to_owned() }
}

/// Leaves a balance of `0xa` that was read at a block.
async fn put(store: &Store, number: u64, fork: u8, balance: &str) -> bool {
    store.put_readings(CHAIN, block(number, fork), &[read("0xa", balance)], &[]).await.unwrap()
}

async fn fresh(store: &Store) -> FreshReadings {
    store.fresh_readings(CHAIN).await.unwrap().unwrap()
}

/// The step that takes readings over, with an alert of the rule when it is to match.
fn taken(fresh: &FreshReadings, head: u64, fork: u8, matches: bool) -> WatchStep {
    let block = fresh.block.block;
    let alerts = matches.then(|| alert("r1", block.number, fork, READING));
    WatchStep::Read(TakenReadings {
        batch: fresh.batch.clone(),
        block,
        head,
        balances: fresh.balances.iter().map(|(balance, _)| balance.clone()).collect(),
        alerts: alerts.into_iter().collect(),
    })
}

/// Height and balance of what was read before.
fn before(fresh: &FreshReadings) -> Vec<Option<(u64, &str)>> {
    let before = fresh.balances.iter().map(|(_, before)| before.as_ref());
    before.map(|before| before.map(|(height, balance)| (*height, balance.as_str()))).collect()
}

const KEPT: &str =
    "SELECT CAST(height AS TEXT), balance FROM balance_readings ORDER BY balance_readings.height";

async fn readings_stand_and_fall_with_their_blocks(rig: &Rig) {
    let store = rig.migrated().await;
    tenant(&store, "acme", "r1", &["a"], 0).await;
    done(&store, &commit(0, 2, block(2, 1), vec![applied(1..=2, 1, &[])])).await;
    assert!(put(&store, 2, 1, "2").await);
    let steps = vec![taken(&fresh(&store).await, 2, 1, true), applied(3..=4, 1, &[])];
    let changes = done(&store, &commit(2, 4, block(4, 1), steps)).await;
    assert_eq!((changes.matched, changes.confirmed, changes.queued), (1, 1, 1));
    assert!(put(&store, 4, 1, "4").await);
    let steps = vec![taken(&fresh(&store).await, 4, 1, true)];
    done(&store, &commit(4, 4, block(4, 1), steps)).await;
    execute(&store, "UPDATE deliveries SET state = 'sent', attempts = 1").await;
    store.reset_watch(CHAIN).await.unwrap();
    let changes = done(&store, &commit(0, 4, block(4, 1), vec![applied(1..=4, 1, &[])])).await;
    assert_eq!(changes, WatchChanges { rebuilt: true, ..Default::default() });
    assert_eq!(states(&store).await, ["2 confirmed 1", "4 confirmed 1"]);
    store.reset_watch(CHAIN).await.unwrap();
    let steps = vec![applied(1..=4, 1, &[]), WatchStep::Undone { from: 3 }, applied(3..=5, 2, &[])];
    let changes = done(&store, &commit(0, 9, block(5, 2), steps)).await;
    assert_eq!((changes.retracted, changes.queued), (1, 1));
    assert_eq!(states(&store).await, ["2 confirmed 1", "4 retracted 1"]);
    assert_eq!(told(&store, KEPT).await, ["2 2"]);
}

async fn readings_wait_for_the_rules_once(rig: &Rig) {
    let store = rig.migrated().await;
    tenant(&store, "acme", "r1", &["a"], 0).await;
    assert_eq!(store.readings_block(CHAIN).await.unwrap(), None);
    assert!(!put(&store, 1, 1, "1").await, "no block stands yet");
    done(&store, &commit(0, 3, block(3, 1), vec![applied(1..=3, 1, &[])])).await;
    assert_eq!(store.readings_block(CHAIN).await.unwrap(), Some(watched(3, 1)));
    let signal = store.signals().readings.listen();
    assert!(!put(&store, 3, 2, "1").await, "another block stands there");
    assert_eq!(
        (store.fresh_readings(CHAIN).await.unwrap(), signal.has_changed().ok()),
        (None, Some(false))
    );
    let failure = NewRuleFailure {
        rule_id: "r1".to_owned(),
        rule_version: 1,
        reason: "no token".to_owned(),
        count: 2,
        height: 3,
        record: "{}".to_owned(),
    };
    let balances = [read("0xa", "7"), read("0xb", "8")];
    let left = store.put_readings(CHAIN, block(3, 1), &balances, &[failure]).await.unwrap();
    assert!(left && signal.has_changed().unwrap());
    let failures = "SELECT rule_id, reason, CAST(count AS TEXT) FROM rule_failures";
    assert_eq!(told(&store, failures).await, ["r1 no token 2"]);
    let found = fresh(&store).await;
    assert_eq!((found.block, before(&found)), (watched(3, 1), vec![None, None]));

    // Two instances that stand at the same frame ask about them; one of them counts.
    let ask = commit(3, 3, block(3, 1), vec![taken(&found, 3, 1, true)]);
    assert_eq!(done(&store, &ask).await.matched, 1);
    assert_eq!(done(&store, &ask).await, WatchChanges::default());
    assert_eq!(deliveries(&store).await.len(), 1);
    assert_eq!(store.fresh_readings(CHAIN).await.unwrap(), None);

    // What was read at a block that is undone before anybody asked is gone with it.
    done(&store, &commit(3, 4, block(4, 1), vec![applied(4..=4, 1, &[])])).await;
    assert!(put(&store, 4, 1, "9").await);
    let steps = vec![WatchStep::Undone { from: 4 }, applied(4..=5, 2, &[])];
    done(&store, &commit(4, 7, block(5, 2), steps)).await;
    assert_eq!(store.fresh_readings(CHAIN).await.unwrap(), None);
    // A slow round ends after one at a later block: rules do not go back.
    assert!(put(&store, 5, 2, "5").await);
    let later = taken(&fresh(&store).await, 5, 2, false);
    done(&store, &commit(7, 7, block(5, 2), vec![later])).await;
    assert!(put(&store, 4, 2, "4").await);
    let late = fresh(&store).await;
    assert!(late.balances.is_empty());
    let late = taken(&late, 5, 2, false);
    done(&store, &commit(7, 7, block(5, 2), vec![late])).await;
    assert_eq!(store.fresh_readings(CHAIN).await.unwrap(), None);
    // No block is told while alerts are rebuilt.
    store.reset_watch(CHAIN).await.unwrap();
    done(&store, &commit(0, 1, block(1, 1), vec![applied(1..=1, 1, &[])])).await;
    assert_eq!(store.readings_block(CHAIN).await.unwrap(), None);
}

async fn readings_are_kept_to_compare_with(rig: &Rig) {
    let store = rig.migrated().await;
    tenant(&store, "acme", "r1", &[], 0).await;
    let mut sequence = 0;
    for (numbers, balance) in [(1..=1, "10"), (2..=7, "70"), (8..=1500, "5")] {
        let head = *numbers.end();
        let blocks = commit(sequence, head, block(head, 1), vec![applied(numbers, 1, &[])]);
        done(&store, &blocks).await;
        sequence = head;
        assert!(put(&store, head, 1, balance).await);
        let ask = vec![taken(&fresh(&store).await, head, 1, false)];
        done(&store, &commit(sequence, sequence, block(head, 1), ask)).await;
    }
    assert_eq!(told(&store, KEPT).await, ["1 10", "7 70", "1500 5"]);
    let steps = vec![WatchStep::Undone { from: 1500 }, applied(1500..=1501, 2, &[])];
    let mut reorg = commit(1500, 1503, block(1501, 2), steps);
    reorg.final_height = Some(8);
    done(&store, &reorg).await;
    assert_eq!(told(&store, KEPT).await, ["7 70"], "a newer one is final, and one is undone");
    assert!(put(&store, 1501, 2, "6").await);
    assert_eq!(before(&fresh(&store).await), [Some((7, "70"))]);
    store.reset_watch(CHAIN).await.unwrap();
    assert_eq!(told(&store, KEPT).await, ["7 70"], "it is not read again");
}
