//! Cases for balances: rounds that read them, and rules that are asked about them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lookout_store::testing::execute;
use lookout_types::{Address, Amount, Asset, BlockRef};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::super::{BalanceReader, Consumer, ReadError, Round, RoundLimits, Rounds, RulesConsumer};
use super::rig::{CHAIN, Chain, Rig, document, feed, uuid};

/// Tells balances by block hash, and remembers what it was asked.
#[derive(Debug, Default)]
struct Ledger {
    asked: Mutex<Vec<(u64, Address)>>,
    /// Accounts that cannot be read, and those that are never answered for.
    bad: Mutex<BTreeSet<u8>>,
    silent: Mutex<BTreeSet<u8>>,
    head: Mutex<Option<u64>>,
}

#[async_trait]
impl BalanceReader for Ledger {
    fn head(&self) -> Option<u64> {
        *self.head.lock()
    }

    async fn read(&self, block: BlockRef, account: Address, _: Asset) -> Result<Amount, ReadError> {
        self.asked.lock().push((block.number, account));
        let last = account.0[19];
        if self.silent.lock().contains(&last) {
            std::future::pending::<()>().await;
        }
        if self.bad.lock().contains(&last) {
            let (reason, detail) = ("it is no token".to_owned(), format!("asked for {account}"));
            return Err(ReadError { own: true, reason, detail });
        }
        // 100 at the first block, 10 less with each hash.
        let hash = u64::from_be_bytes(*block.hash.0.last_chunk().unwrap());
        Ok((110 - 10 * hash.min(11)).to_string().parse().unwrap())
    }
}

/// A rule on the balances of some accounts, by their last byte.
fn of_accounts(condition: &str, accounts: &[u8]) -> Value {
    let mut rule = document(condition, json!({}));
    let addresses: Vec<_> = accounts.iter().map(|last| format!("0x{last:040x}")).collect();
    rule["watch"] = json!({"kind": "balance", "addresses": addresses});
    rule["template"] = json!("{{ balance }} after {{ previous }}");
    rule
}

async fn watching(condition: &str) -> (Rig, Arc<Ledger>, RulesConsumer, Rounds) {
    let mut rig = Rig::new().await;
    rig.channel(901).await;
    rig.rule(1, 0, &[901]).await;
    rig.version(1, 1, Some(&of_accounts(condition, &[0xaa, 0xbb]))).await;
    let ledger = Arc::new(Ledger::default());
    let (consumer, rounds) = (rig.consumer(), rounds(&rig, &ledger));
    (rig, ledger, consumer, rounds)
}

fn rounds(rig: &Rig, ledger: &Arc<Ledger>) -> Rounds {
    Rounds::new(rig.store.clone(), CHAIN, "test", Arc::<Ledger>::clone(ledger) as _)
}

/// A round, and the rules asked about it while no frames come.
async fn round(rounds: &Rounds, consumer: &RulesConsumer) -> Round {
    let round = rounds.run().await.unwrap();
    consumer.apply_to(CHAIN, Vec::new()).await.unwrap();
    round
}

async fn texts(rig: &Rig) -> Vec<String> {
    let query = "SELECT DISTINCT height || ' ' || state || ' ' || text FROM alerts ORDER BY 1";
    rig.column(query).await
}

async fn failures(rig: &Rig) -> Vec<String> {
    let query = "SELECT CAST(CAST(substr(rule_id, -3) AS INTEGER) AS TEXT) || ' ' || count || ' ' \
                 || last_height || ' ' || reason FROM rule_failures ORDER BY 1";
    rig.column(query).await
}

#[tokio::test]
async fn balances_are_read_at_the_newest_block_and_compared_with_the_reading_before() {
    let (rig, ledger, consumer, rounds) = watching("change < 0").await;
    let mut chain = Chain::default();
    for _ in 0..3 {
        chain.mine(12, &[]);
        feed(&consumer, &chain).await;
        assert_eq!(round(&rounds, &consumer).await.read, 2);
    }
    assert_eq!(texts(&rig).await, ["2 confirmed 90 after 100", "3 confirmed 80 after 90"]);
    assert_eq!(rig.deliveries().await.len(), 4);
    // Another block in place of the third compares with the second.
    chain.undo(1);
    chain.mine(12, &[]);
    feed(&consumer, &chain).await;
    round(&rounds, &consumer).await;
    let expected =
        ["2 confirmed 90 after 100", "3 confirmed 70 after 90", "3 retracted 80 after 90"];
    assert_eq!(texts(&rig).await, expected);
    // Of many blocks the newest is read; a rebuild reads nothing again.
    let asked = ledger.asked.lock().len();
    chain.mine(12, &[]);
    chain.mine(12, &[]);
    feed(&consumer, &chain).await;
    round(&rounds, &consumer).await;
    assert_eq!(ledger.asked.lock()[asked..].iter().map(|(n, _)| *n).collect::<Vec<_>>(), [5, 5]);
    assert_eq!(texts(&rig).await[3], "5 confirmed 50 after 70");
    let before = (texts(&rig).await, rig.deliveries().await);
    consumer.reset(CHAIN).await.unwrap();
    feed(&consumer, &chain).await;
    assert_eq!(ledger.asked.lock().len(), asked + 2);
    assert_eq!((texts(&rig).await, rig.deliveries().await), before);
}

#[tokio::test]
async fn a_reading_compares_with_its_own_branch_however_the_frames_come() {
    let (rig, _, consumer, rounds) = watching("change < -15").await;
    let mut chain = Chain::default();
    for _ in 0..3 {
        chain.mine(12, &[]);
    }
    feed(&consumer, &chain).await;
    round(&rounds, &consumer).await;
    for _ in 0..2 {
        chain.mine(12, &[]);
    }
    feed(&consumer, &chain).await;
    round(&rounds, &consumer).await;
    assert_eq!(texts(&rig).await, ["5 confirmed 60 after 80"]);
    // One batch undoes the block that was read and brings two others, on which the change is back.
    chain.undo(1);
    chain.mine(12, &[]);
    chain.mine(12, &[]);
    feed(&consumer, &chain).await;
    round(&rounds, &consumer).await;
    assert_eq!(texts(&rig).await, ["5 retracted 60 after 80", "6 confirmed 40 after 80"]);
}

#[tokio::test]
async fn what_was_read_before_a_rule_began_is_nothing_to_it() {
    let (mut rig, _, consumer, rounds) = watching("change < 0").await;
    let mut chain = Chain::default();
    let step = async |rig: &Rig, chain: &mut Chain| {
        chain.mine(12, &[]);
        feed(&consumer, chain).await;
        round(&rounds, &consumer).await;
        texts(rig).await.len()
    };
    assert_eq!(step(&rig, &mut chain).await, 0);
    assert_eq!(step(&rig, &mut chain).await, 1);
    // Paused and resumed, and another rule on the account, of another tenant as well may be.
    rig.version(1, 1, None).await;
    assert_eq!(step(&rig, &mut chain).await, 1);
    rig.rule(2, 0, &[]).await;
    rig.version(2, 1, Some(&of_accounts("change < 0", &[0xaa]))).await;
    rig.version(1, 2, Some(&of_accounts("change < 0", &[0xaa]))).await;
    assert_eq!(step(&rig, &mut chain).await, 1, "{:?}", texts(&rig).await);
    assert_eq!(step(&rig, &mut chain).await, 2, "{:?}", texts(&rig).await);
    assert_eq!(texts(&rig).await[1], "5 confirmed 60 after 70");
}

#[tokio::test]
async fn nothing_is_read_far_behind_the_head() {
    let (rig, ledger, consumer, rounds) = watching("").await;
    let mut chain = Chain::default();
    let note = async || rounds.run().await.unwrap().note.unwrap();
    assert!(note().await.contains("no block yet"));
    chain.mine(12, &[]);
    feed(&consumer, &chain).await;
    *ledger.head.lock() = Some(66);
    assert!(note().await.contains("too far behind"));
    assert!(ledger.asked.lock().is_empty() && texts(&rig).await.is_empty());
    *ledger.head.lock() = Some(65);
    let read = rounds.run().await.unwrap();
    assert_eq!((read.watched, read.read, read.left, read.note), (2, 2, 0, None));
    assert!(note().await.contains("still to be asked"));
    assert_eq!(round(&rounds, &consumer).await.read, 0);
    assert_eq!(ledger.asked.lock().len(), 2);
    assert_eq!(texts(&rig).await, ["1 confirmed 100 after 100"]);
}

#[tokio::test]
async fn an_account_that_fails_is_told_to_its_rules_and_holds_nothing_up() {
    let (mut rig, ledger, consumer, rounds) = watching("balance < 105").await;
    for (number, accounts) in [(2, &[0xbb, 0xcc][..]), (3, &[0xcc]), (4, &[0xdd, 0xbb, 0xee])] {
        rig.rule(number, 0, &[]).await;
        rig.version(number, 1, Some(&of_accounts("balance < 105", accounts))).await;
    }
    rig.rule(5, 0, &[]).await;
    rig.version(5, 1, Some(&document("", json!({})))).await;
    *ledger.bad.lock() = BTreeSet::from([0xbb, 0xee]);
    *ledger.silent.lock() = BTreeSet::from([0xdd]);
    let rounds = rounds.with_limits(RoundLimits {
        read_within: Duration::from_millis(1),
        ..RoundLimits::default()
    });
    let mut chain = Chain::default();
    chain.mine(12, &[1]);
    feed(&consumer, &chain).await;
    let read = round(&rounds, &consumer).await;
    assert_eq!((read.watched, read.read, read.left), (5, 2, 0));
    let told: Vec<_> =
        read.failed.iter().map(|unread| (unread.reason.as_str(), unread.balances)).collect();
    assert_eq!(told, [("it is no token", 2), ("no answer in time", 1)]);
    assert!(read.failed.iter().all(|unread| unread.asset == "native"));
    let matched = "SELECT CAST(CAST(substr(rule_id, -3) AS INTEGER) AS TEXT) FROM alerts \
                   ORDER BY 1";
    assert_eq!(rig.column(matched).await, ["1", "2", "3", "5"]);
    let unread = "1 a balance could not be read: it is no token";
    let expected = [
        format!("1 1 {unread}"),
        format!("2 1 {unread}"),
        "4 1 1 a balance could not be read: no answer in time".to_owned(),
        "4 2 1 a balance could not be read: it is no token".to_owned(),
    ];
    assert_eq!(failures(&rig).await, expected);
    let record = "SELECT last_record FROM rule_failures WHERE rule_id LIKE '%001'";
    let record: Value = serde_json::from_str(&rig.column(record).await[0]).unwrap();
    assert_eq!(record["kind"], "balance");
    assert_eq!(record["asset"], "native");
    assert!(record["account"].as_str().unwrap().to_lowercase().ends_with("bb"));
}

#[tokio::test]
async fn tenants_have_their_turns_and_what_is_left_out_comes_next() {
    let mut rig = Rig::new().await;
    execute(&rig.store, "INSERT INTO tenants (tenant_id, created_at) VALUES ('small', 0)").await;
    let many: Vec<u8> = (1..=20).collect();
    for (number, accounts) in [(1, &many[..]), (2, &[0xf1, 0xf2])] {
        rig.rule(number, 0, &[]).await;
        rig.version(number, 1, Some(&of_accounts("", accounts))).await;
    }
    for table in ["rules", "rule_versions"] {
        let column = if table == "rules" { "id" } else { "rule_id" };
        let statement =
            format!("UPDATE {table} SET tenant_id = 'small' WHERE {column} = '{}'", uuid(2));
        rig.execute(&statement).await;
    }
    let ledger = Arc::new(Ledger::default());
    // One that fails every time is passed on the way as any other.
    *ledger.bad.lock() = BTreeSet::from([1]);
    let limits = RoundLimits { reads: 6, ..RoundLimits::default() };
    let rounds = rounds(&rig, &ledger).with_limits(limits);
    let (consumer, mut chain) = (rig.consumer(), Chain::default());
    let mut reads = Vec::new();
    for _ in 0..6 {
        chain.mine(12, &[]);
        feed(&consumer, &chain).await;
        let read = round(&rounds, &consumer).await;
        assert_eq!((read.watched, read.left), (22, 16));
        let asked: BTreeSet<u8> =
            std::mem::take(&mut *ledger.asked.lock()).iter().map(|(_, of)| of.0[19]).collect();
        assert_eq!(asked.len(), 6);
        assert!(asked.is_superset(&BTreeSet::from([0xf1, 0xf2])), "{asked:?}");
        reads.extend(asked.into_iter().filter(|last| *last < 0xf0));
    }
    // 24 turns of the large tenant: all of its accounts, and the first four again.
    let expected: Vec<u8> = (1..=20).chain(1..=4).collect();
    assert_eq!(reads, expected);
    // A rule that ends is read no longer.
    rig.version(1, 1, None).await;
    assert_eq!(round(&rounds, &consumer).await.watched, 2);
}

#[tokio::test]
async fn rules_are_asked_without_frames_and_before_those_that_undo_what_was_read() {
    let (rig, _, consumer, rounds) = watching("").await;
    let (consumer, mut chain) = (Arc::new(consumer), Chain::default());
    chain.mine(12, &[]);
    feed(&consumer, &chain).await;
    // What was read is asked about on the branch where it was read, then the branch goes.
    rounds.run().await.unwrap();
    chain.undo(1);
    chain.mine(12, &[]);
    feed(&consumer, &chain).await;
    assert_eq!(texts(&rig).await, ["1 retracted 100 after 100"]);
    let stop = tokio_util::sync::CancellationToken::new();
    let following = tokio::spawn({
        let (consumer, stop) = (Arc::clone(&consumer), stop.clone());
        async move { consumer.follow_rules(CHAIN, stop).await }
    });
    rounds.run().await.unwrap();
    while texts(&rig).await.len() < 2 {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    following.await.unwrap();
    assert_eq!(texts(&rig).await[0], "1 confirmed 90 after 90");
}
