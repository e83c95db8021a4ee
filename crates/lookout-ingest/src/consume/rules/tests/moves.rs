//! A rule that is moved from one chain to another, and back.

use lookout_types::ChainId;
use serde_json::json;

use super::super::{Consumer, RulesConsumer};
use super::rig::{CHAIN, Chain, Rig, document};

const OTHER: ChainId = ChainId(137);

/// Sends all frames of a chain, under an id, that the consumer has not seen.
async fn feed(consumer: &RulesConsumer, id: ChainId, chain: &Chain) {
    let cursor = consumer.cursor(id).await.unwrap();
    let frames = chain.after(cursor.sequence).iter().map(|frame| {
        let mut frame = (**frame).clone();
        frame.chain = id;
        frame.into()
    });
    let frames: Vec<_> = frames.collect();
    if !frames.is_empty() {
        consumer.apply(frames).await.unwrap();
    }
}

/// Alerts as `chain height version state`.
async fn told(rig: &Rig) -> Vec<String> {
    let query = "SELECT chain_id || ' ' || height || ' ' || rule_version || ' ' || state \
                 FROM alerts ORDER BY chain_id, height";
    rig.column(query).await
}

/// A chain of so many blocks; from the third on each has a match.
fn chain(blocks: u64, first_hash: u64) -> Chain {
    let mut chain = Chain { hashes: first_hash, ..Chain::default() };
    for number in 1..=blocks {
        chain.mine(12, if number > 2 { &[9] } else { &[] });
    }
    chain
}

/// Moves a rule from `CHAIN` to `OTHER`, whose consumers take the change up in either order.
async fn moved(blocks: [u64; 2], new_first: bool) {
    let name = format!("{blocks:?}, the new chain first: {new_first}");
    let mut rig = Rig::new().await;
    rig.channel(901).await;
    rig.rule(1, 0, &[901]).await;
    let rule = document("value > 5", json!({}));
    rig.version(1, 1, Some(&rule)).await;
    let (mut old, mut new) = (chain(2, 0), chain(blocks[1], 1_000_000));
    let consumer = rig.consumer();
    feed(&consumer, CHAIN, &old).await;
    feed(&consumer, OTHER, &new).await;
    while old.frames.len() < usize::try_from(blocks[0]).unwrap() {
        old.mine(12, &[9]);
    }
    feed(&consumer, CHAIN, &old).await;
    let watched = told(&rig).await;
    assert_eq!(watched.len(), old.frames.len() - 2, "{name}");

    rig.version_on(OTHER, 1, 2, Some(&rule)).await;
    let order = if new_first { [OTHER, CHAIN] } else { [CHAIN, OTHER] };
    for id in order {
        consumer.apply_to(id, Vec::new()).await.unwrap();
    }
    // What comes now is watched on the new chain alone, also after a restart.
    for consumer in [consumer, rig.consumer()] {
        old.mine(12, &[9]);
        new.mine(12, &[9]);
        feed(&consumer, CHAIN, &old).await;
        feed(&consumer, OTHER, &new).await;
    }
    let mut expected = watched.clone();
    expected.extend([1, 2].map(|more| format!("137 {} 2 confirmed", blocks[1] + more)));
    assert_eq!(told(&rig).await, expected, "{name}");

    // A rebuild finds what was found before, and takes nothing back.
    let consumer = rig.consumer();
    for (id, chain) in [(CHAIN, &old), (OTHER, &new)] {
        consumer.reset(id).await.unwrap();
        feed(&consumer, id, chain).await;
    }
    assert_eq!(told(&rig).await, expected, "{name}");

    // And back: the first chain goes on where it is now.
    rig.version_on(CHAIN, 1, 3, Some(&rule)).await;
    for id in [order[1], order[0]] {
        consumer.apply_to(id, Vec::new()).await.unwrap();
    }
    old.mine(12, &[9]);
    new.mine(12, &[9]);
    for consumer in [consumer, rig.consumer()] {
        for (id, chain) in [(CHAIN, &old), (OTHER, &new)] {
            consumer.reset(id).await.unwrap();
            feed(&consumer, id, chain).await;
        }
        let back = format!("1 {} 3 confirmed", old.frames.len());
        let mut found = told(&rig).await;
        let at = found.iter().position(|row| *row == back);
        found.remove(at.unwrap_or_else(|| panic!("{name}: no {back} in {found:?}")));
        assert_eq!(found, expected, "{name}");
    }
    let cancelled = "SELECT id FROM deliveries WHERE state <> 'queued' OR kind <> 'alert'";
    assert!(rig.column(cancelled).await.is_empty(), "{name}");
}

#[tokio::test]
async fn each_chain_watches_its_own_versions_of_a_moved_rule() {
    for blocks in [[5, 30], [30, 5]] {
        for new_first in [true, false] {
            moved(blocks, new_first).await;
        }
    }
}
