//! Cases where the chain goes back further than usual, and where alerts are rebuilt.

use serde_json::json;

use super::super::{ConsumeError, Consumer};
use super::rig::{ALERT, CHAIN, Chain, Rig, document, feed};
use super::watching;

const HEIGHTS: &str = "SELECT version || ' ' || from_height || ' ' || COALESCE(until_height, 'open') \
                       FROM rule_versions ORDER BY version";

/// A rule on five blocks of which each has a match that was told.
async fn told() -> (Rig, Chain) {
    let rig = watching("value > 5", 0, json!({})).await;
    let mut chain = Chain::default();
    (0..5).for_each(|_| chain.mine(12, &[9]));
    feed(&rig.consumer(), &chain).await;
    rig.execute("UPDATE deliveries SET state = 'sent', attempts = 1").await;
    (rig, chain)
}

#[tokio::test]
async fn an_undo_deeper_than_what_is_kept_is_reached_by_rebuilding() {
    let window = json!({"window": {"kind": "count", "over": "1h", "condition": "count >= 2"}});
    let rig = watching("value > 5", 0, window).await;
    let (consumer, mut chain) = (rig.consumer(), Chain::default());
    for number in 0..1200 {
        chain.mine(12, if number % 400 < 3 { &[9] } else { &[] });
    }
    feed(&consumer, &chain).await;
    let before = rig.states().await;
    chain.undo(1150);
    chain.mine(12, &[9]);
    let error = consumer.apply(chain.after(1200).to_vec()).await.unwrap_err();
    let ConsumeError::Rebuild(reason) = &error else { panic!("{error}") };
    assert!(reason.contains("older than what the windows remember"), "{reason}");
    assert_ne!(rig.states().await, before, "what could be undone is undone");
    consumer.reset(CHAIN).await.unwrap();
    feed(&consumer, &chain).await;
    let twin = rig.twin().await;
    let mut fresh = Chain::default();
    chain.branch.iter().for_each(|block| fresh.apply(block.clone()));
    feed(&twin.consumer(), &fresh).await;
    let live = format!("SELECT {ALERT} FROM alerts WHERE state <> 'retracted' ORDER BY id");
    assert_eq!(rig.rows(&live).await, twin.rows(&live).await);
}

#[tokio::test]
async fn a_fork_below_the_first_block_is_followed() {
    let window = json!({"window": {"kind": "count", "over": "1h", "condition": "count >= 2"}});
    for (more, restart) in
        [(json!({}), false), (json!({}), true), (window.clone(), false), (window, true)]
    {
        let rig = watching("value > 5", 0, more).await;
        let (mut consumer, mut chain) = (rig.consumer(), Chain::default());
        for height in [10, 8, 8, 12] {
            chain.begin_above(height);
            for _ in 0..3 {
                chain.mine(12, &[9]);
            }
            feed(&consumer, &chain).await;
            chain.undo(3);
            feed(&consumer, &chain).await;
            assert_eq!(consumer.cursor(CHAIN).await.unwrap().head, None);
            if restart {
                consumer = rig.consumer();
            }
        }
        // Within one batch as well.
        for _ in 0..2 {
            chain.begin_above(9);
            chain.mine(12, &[9, 9]);
            chain.undo(1);
        }
        chain.begin_above(9);
        chain.mine(12, &[9, 9]);
        feed(&consumer, &chain).await;
        let standing = "SELECT height || ' ' || state FROM alerts WHERE state <> 'retracted'";
        assert_eq!(rig.column(standing).await.last().unwrap(), "10 confirmed");
    }
}

#[tokio::test]
async fn rules_changed_during_a_rebuild_are_taken_up_at_its_end() {
    for (progress, new) in [(0, true), (2, true), (0, false), (3, false)] {
        let (mut rig, mut chain) = told().await;
        let consumer = rig.consumer();
        consumer.reset(CHAIN).await.unwrap();
        if progress > 0 {
            consumer.apply(chain.frames[..progress].to_vec()).await.unwrap();
        }
        let document = document("value > 7", json!({}));
        rig.version(1, 2, new.then_some(&document)).await;
        consumer.apply_to(CHAIN, Vec::new()).await.unwrap();
        assert_eq!(rig.column(HEIGHTS).await[0], "1 0 open", "not in the middle");
        // A restart changes nothing about it.
        let consumer = rig.consumer();
        feed(&consumer, &chain).await;
        consumer.apply_to(CHAIN, Vec::new()).await.unwrap();
        let expected: &[&str] = if new { &["1 0 6", "2 6 open"] } else { &["1 0 6"] };
        assert_eq!(rig.column(HEIGHTS).await, expected);
        chain.mine(12, &[6]);
        chain.mine(12, &[9]);
        feed(&consumer, &chain).await;
        let versions =
            "SELECT height || ' ' || rule_version || ' ' || state FROM alerts ORDER BY height";
        let mut expected: Vec<_> = (1..=5).map(|height| format!("{height} 1 confirmed")).collect();
        expected.extend(new.then(|| "7 2 confirmed".to_owned()));
        assert_eq!(rig.column(versions).await, expected);
        let deliveries = rig.deliveries().await;
        assert!(!deliveries.iter().any(|told| told.contains("retraction")), "{deliveries:?}");
        assert_eq!(deliveries.len(), 2 * expected.len());
    }
}
