//! Cases for balance rules in the consumer.

use std::sync::Arc;

use async_trait::async_trait;
use lookout_types::{Address, Amount, Asset, BlockRef, ChainId};
use parking_lot::Mutex;
use serde_json::json;

use super::super::{BalanceReader, Balances, Consumer, ReadError, RulesConsumer};
use super::rig::{CHAIN, Chain, Rig, document, feed};

/// Tells balances by block hash, and remembers what it was asked.
#[derive(Debug, Default)]
struct Ledger {
    asked: Mutex<Vec<(BlockRef, usize)>>,
    fails: Mutex<u32>,
}

#[async_trait]
impl BalanceReader for Ledger {
    async fn read(
        &self,
        _: ChainId,
        block: BlockRef,
        accounts: &[(Address, Asset)],
    ) -> Result<Vec<Amount>, ReadError> {
        self.asked.lock().push((block, accounts.len()));
        let mut fails = self.fails.lock();
        if *fails > 0 {
            *fails -= 1;
            return Err(ReadError("the node is away".to_owned()));
        }
        // 100 at the first block, 10 less with each hash.
        let hash = u64::from_be_bytes(*block.hash.0.last_chunk().unwrap());
        let balance: Amount = (110 - 10 * hash.min(11)).to_string().parse().unwrap();
        Ok(vec![balance; accounts.len()])
    }
}

async fn watching(condition: &str, archive: bool) -> (Rig, Arc<Ledger>, RulesConsumer) {
    let mut rig = Rig::new().await;
    rig.channel(901).await;
    rig.rule(1, 0, &[901]).await;
    let mut rule = document(condition, json!({}));
    rule["watch"] = json!({"kind": "balance",
        "addresses": ["0x00000000000000000000000000000000000000aa",
                      "0x00000000000000000000000000000000000000bb"]});
    rule["template"] = json!("{{ balance }} after {{ previous }}");
    rig.version(1, 1, Some(&rule)).await;
    let ledger = Arc::new(Ledger::default());
    let consumer = consumer(&rig, &ledger, archive);
    (rig, ledger, consumer)
}

fn consumer(rig: &Rig, ledger: &Arc<Ledger>, archive: bool) -> RulesConsumer {
    let (reader, clock) = (Arc::<Ledger>::clone(ledger), rig.clock.clone());
    rig.consumer().with_balances(Balances { reader, archive, clock })
}

async fn texts(rig: &Rig) -> Vec<String> {
    let query = "SELECT DISTINCT height || ' ' || state || ' ' || text FROM alerts ORDER BY 1";
    rig.column(query).await
}

#[tokio::test]
async fn balances_are_read_at_new_blocks_and_compared_with_the_reading_before() {
    let (rig, ledger, consumer) = watching("change < 0", true).await;
    let mut chain = Chain::default();
    for _ in 0..3 {
        chain.mine(12, &[]);
        feed(&consumer, &chain).await;
    }
    assert_eq!(texts(&rig).await, ["2 confirmed 90 after 100", "3 confirmed 80 after 90"]);
    assert_eq!(rig.deliveries().await.len(), 4);
    // Another block in place of the third compares with the second.
    chain.undo(1);
    chain.mine(12, &[]);
    feed(&consumer, &chain).await;
    let expected =
        ["2 confirmed 90 after 100", "3 confirmed 70 after 90", "3 retracted 80 after 90"];
    assert_eq!(texts(&rig).await, expected);
    // Of many blocks at once the newest is read; what was read is not read again.
    let asked = ledger.asked.lock().len();
    chain.mine(12, &[]);
    chain.mine(12, &[]);
    feed(&consumer, &chain).await;
    assert_eq!(ledger.asked.lock()[asked..], [(chain.frames.last().unwrap().block, 2)]);
    assert_eq!(texts(&rig).await[3], "5 confirmed 50 after 70");
    let before = (texts(&rig).await, rig.deliveries().await);
    consumer.reset(CHAIN).await.unwrap();
    feed(&consumer, &chain).await;
    assert_eq!(ledger.asked.lock().len(), asked + 1);
    assert_eq!((texts(&rig).await, rig.deliveries().await), before);
}

#[tokio::test]
async fn only_an_archive_is_asked_for_old_blocks() {
    // The blocks of the chain are years older than the clock of the rig.
    let (rig, ledger, consumer) = watching("", false).await;
    let mut chain = Chain::default();
    chain.mine(12, &[]);
    feed(&consumer, &chain).await;
    assert!(ledger.asked.lock().is_empty() && texts(&rig).await.is_empty());
    chain.mine(60_000_000 - 12 - 600, &[]);
    feed(&consumer, &chain).await;
    assert_eq!(ledger.asked.lock().len(), 1);
}

#[tokio::test]
async fn a_reader_that_fails_is_counted_and_holds_nothing_up() {
    let (mut rig, ledger, consumer) = watching("balance < 95", true).await;
    rig.rule(2, 0, &[]).await;
    rig.version(2, 1, Some(&document("", json!({})))).await;
    let mut chain = Chain::default();
    *ledger.fails.lock() = 2;
    chain.mine(12, &[1]);
    feed(&consumer, &chain).await;
    assert_eq!(ledger.asked.lock().len(), 3, "it is tried again");
    *ledger.fails.lock() = 3;
    chain.mine(12, &[1]);
    feed(&consumer, &chain).await;
    let failures = "SELECT count || ' ' || last_height || ' ' || reason FROM rule_failures";
    let expected = ["1 2 its balances could not be read: the node is away"];
    assert_eq!(rig.column(failures).await, expected);
    chain.mine(12, &[]);
    feed(&consumer, &chain).await;
    assert_eq!(
        texts(&rig).await,
        ["1 confirmed test 1", "2 confirmed test 2", "3 confirmed 80 after 100"]
    );
}
