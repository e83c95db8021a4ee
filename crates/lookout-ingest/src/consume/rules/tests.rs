//! Cases for the rules consumer.

mod balances;
mod moves;
mod random;
mod rebuilds;
mod rig;

use lookout_types::{Address, Cursor, Step};
use serde_json::json;

use self::rig::{ALERT, CHAIN, Chain, Rig, document, feed, uuid};
use super::*;

/// One rule with a channel, taken up before the first block.
async fn watching(condition: &str, confirmations: u64, more: serde_json::Value) -> Rig {
    let mut rig = Rig::new().await;
    rig.channel(901).await;
    rig.channel(902).await;
    rig.rule(1, confirmations, &[901, 902]).await;
    rig.version(1, 1, Some(&document(condition, more))).await;
    rig
}

#[tokio::test]
async fn an_alert_is_confirmed_when_the_head_is_high_enough() {
    let rig = watching("value > 5", 3, json!({})).await;
    let (consumer, mut chain) = (rig.consumer(), Chain::default());
    for values in [&[9][..], &[1], &[]] {
        chain.mine(12, values);
        feed(&consumer, &chain).await;
        assert_eq!(rig.states().await, ["1 pending"]);
        assert!(rig.deliveries().await.is_empty());
    }
    chain.mine(12, &[]);
    feed(&consumer, &chain).await;
    assert_eq!(rig.states().await, ["1 confirmed"]);
    assert_eq!(rig.deliveries().await, ["901 alert queued", "902 alert queued"]);
    let [row] = &rig.rows(&format!("SELECT {ALERT} FROM alerts")).await[..] else { panic!() };
    assert_eq!(row[4], "test");
    assert_eq!(row[9], "test 1");
    assert_eq!(row[11], r#"{"block.number":"1","rule.name":"test"}"#);
    assert!(row[8].contains(r#""kind":"log""#) && row[10].starts_with('['), "{row:?}");
    let due = rig.column("SELECT CAST(due_at AS TEXT) FROM deliveries").await;
    assert_eq!(due, ["1760000000000", "1760000000000"]);
}

#[tokio::test]
async fn what_is_reorged_out_before_it_is_confirmed_is_never_sent() {
    let rig = watching("value > 5", 3, json!({})).await;
    let (consumer, mut chain) = (rig.consumer(), Chain::default());
    chain.mine(12, &[]);
    chain.mine(12, &[9]);
    chain.mine(12, &[]);
    feed(&consumer, &chain).await;
    assert_eq!(rig.states().await, ["2 pending"]);
    chain.undo(2);
    for _ in 0..9 {
        chain.mine(12, &[]);
    }
    feed(&consumer, &chain).await;
    assert!(rig.states().await.is_empty() && rig.deliveries().await.is_empty());
}

#[tokio::test]
async fn what_is_reorged_out_later_is_retracted_once_where_it_was_told() {
    let rig = watching("value > 5", 0, json!({})).await;
    let (consumer, mut chain) = (rig.consumer(), Chain::default());
    chain.mine(12, &[9]);
    feed(&consumer, &chain).await;
    assert_eq!(rig.states().await, ["1 confirmed"]);
    let sent = format!(
        "UPDATE deliveries SET state = 'sent', attempts = 1 WHERE channel_id = '{}'",
        uuid(901)
    );
    rig.execute(&sent).await;
    let block = chain.undo(1);
    feed(&consumer, &chain).await;
    assert_eq!(rig.states().await, ["1 retracted"]);
    let told = ["901 alert sent", "901 retraction queued", "902 alert cancelled"];
    assert_eq!(rig.deliveries().await, told);
    // It comes back: a new alert, told on every channel.
    chain.apply(block[0].clone());
    feed(&consumer, &chain).await;
    let occurrences =
        rig.column("SELECT state || ' ' || occurrence FROM alerts ORDER BY occurrence").await;
    assert_eq!(occurrences, ["retracted 1", "confirmed 2"]);
    assert_eq!(rig.deliveries().await.len(), 5);
    // And goes again, untold.
    chain.undo(1);
    feed(&consumer, &chain).await;
    let cancelled = rig.column("SELECT id FROM deliveries WHERE state = 'cancelled'").await;
    let retractions = rig.column("SELECT id FROM deliveries WHERE kind = 'retraction'").await;
    assert_eq!((cancelled.len(), retractions.len()), (3, 1));
}

#[tokio::test]
async fn a_delivery_that_waits_for_another_try_is_withdrawn_and_retracted() {
    let rig = watching("value > 5", 0, json!({})).await;
    let (consumer, mut chain) = (rig.consumer(), Chain::default());
    chain.mine(12, &[9]);
    feed(&consumer, &chain).await;
    rig.execute("UPDATE deliveries SET attempts = 2, maybe_told = 1").await;
    let dead = format!(
        "UPDATE deliveries SET state = 'dead', attempts = 0, maybe_told = 0 WHERE channel_id = '{}'",
        uuid(902)
    );
    rig.execute(&dead).await;
    chain.undo(1);
    feed(&consumer, &chain).await;
    let told = ["901 alert cancelled", "901 retraction queued", "902 alert dead"];
    assert_eq!(rig.deliveries().await, told);
}

#[tokio::test]
async fn rules_are_taken_up_between_frames_and_watch_from_there() {
    let mut rig = watching("value > 5", 0, json!({})).await;
    let (consumer, mut chain) = (rig.consumer(), Chain::default());
    chain.mine(12, &[9]);
    feed(&consumer, &chain).await;
    rig.version(1, 2, Some(&document("value > 100", json!({})))).await;
    // No frame comes, and yet it is live.
    consumer.apply_to(CHAIN, Vec::new()).await.unwrap();
    let heights = "SELECT version || ' ' || from_height || ' ' || COALESCE(until_height, 'open') \
                   FROM rule_versions ORDER BY version";
    assert_eq!(rig.column(heights).await, ["1 0 2", "2 2 open"]);
    chain.mine(12, &[9, 200]);
    feed(&consumer, &chain).await;
    rig.version(1, 2, None).await;
    chain.mine(12, &[200]);
    feed(&consumer, &chain).await;
    assert_eq!(rig.column(heights).await, ["1 0 2", "2 2 3"]);
    assert_eq!(rig.states().await, ["1 confirmed", "2 confirmed"]);
    // Lower down the earlier version watches still, and the later one does not yet.
    chain.undo(3);
    chain.mine(12, &[9, 200]);
    chain.mine(12, &[9, 200]);
    feed(&rig.consumer(), &chain).await;
    let live = "SELECT height || ' ' || rule_version FROM alerts WHERE state = 'confirmed' \
                ORDER BY height";
    assert_eq!(rig.column(live).await, ["1 1", "1 1", "2 2"]);
}

#[tokio::test]
async fn a_version_that_does_not_compile_is_a_visible_failure() {
    let mut rig = watching("value > 5", 0, json!({})).await;
    rig.version(1, 2, Some(&document("valeu > 5", json!({})))).await;
    rig.rule(2, 0, &[]).await;
    rig.version(2, 1, Some(&document("1000 / (value - 7) > 0", json!({})))).await;
    let (consumer, mut chain) = (rig.consumer(), Chain::default());
    chain.mine(12, &[9, 7]);
    chain.mine(12, &[7, 1, 9]);
    feed(&consumer, &chain).await;
    let failures = "SELECT rule_version || ' ' || count || ' ' || last_height || ' ' || reason \
                    FROM rule_failures ORDER BY reason";
    let failures = rig.column(failures).await;
    assert_eq!(
        failures[0],
        "1 1 2 an unsigned difference is below zero; convert with int(…) first"
    );
    assert_eq!(failures[1], "1 2 2 division by zero");
    let compile = "2 1 0 the rule cannot be watched, save it again: condition, line 1, column 1";
    assert!(failures[2].starts_with(compile) && failures[2].contains("value"), "{failures:?}");
    assert_eq!(rig.states().await, ["1 confirmed", "2 confirmed"]);
}

#[tokio::test]
async fn what_does_not_decode_is_counted_once_for_each_rule_on_its_event() {
    let mut rig = watching("value > 5", 0, json!({})).await;
    rig.rule(2, 0, &[]).await;
    rig.version(2, 1, Some(&document("value > 500", json!({})))).await;
    let failures = "SELECT count || ' ' || last_height || ' ' || reason || ' ' || last_record \
                    FROM rule_failures ORDER BY rule_id";
    let check = async |count: u32, height: u32, log: u32| {
        let rows = rig.column(failures).await;
        assert_eq!(rows.len(), 2, "{rows:?}");
        let start = format!("{count} {height} the record does not decode by the rule's ABI {{");
        let end = format!(
            r#","logIndex":{log},"decodeError":"argument `value` reaches beyond the 3 bytes of data"}}"#
        );
        assert!(rows.iter().all(|row| row.starts_with(&start) && row.ends_with(&end)), "{rows:?}");
    };
    let (consumer, mut chain) = (rig.consumer(), Chain::default());
    chain.mine(12, &[9, 600]);
    chain.spoil();
    feed(&consumer, &chain).await;
    check(2, 1, 1).await;
    // Another consumer goes on from what is committed.
    chain.mine(12, &[9]);
    let consumer = rig.consumer();
    feed(&consumer, &chain).await;
    check(2, 1, 1).await;
    assert_eq!(rig.states().await, ["2 confirmed"]);
    // A running total: the undone block takes nothing back.
    chain.undo(2);
    chain.mine(12, &[9]);
    chain.spoil();
    feed(&consumer, &chain).await;
    check(3, 1, 0).await;
    consumer.reset(CHAIN).await.unwrap();
    feed(&consumer, &chain).await;
    check(3, 1, 0).await;
}

#[tokio::test]
async fn a_rule_that_can_match_nothing_is_a_visible_failure_until_it_can() {
    let mut rig = watching("value > 5", 0, json!({})).await;
    rig.rule(2, 0, &[]).await;
    let mut other = document("", json!({}));
    other["watch"]["addresses"] = json!(["0x00000000000000000000000000000000000000aa"]);
    rig.version(2, 1, Some(&other)).await;
    let kept = |last: u8| {
        let mut address = [0; 20];
        address[19] = last;
        let (chain, addresses) = ("eth".to_owned(), vec![Address(address)]);
        let kept = Kept { chain, whole: false, addresses, topics: Vec::new() };
        rig.consumer().with_kept([(CHAIN, kept)])
    };
    let failures = "SELECT CAST(CAST(substr(rule_id, -3) AS INTEGER) AS TEXT) || ' ' || count \
                    || ' ' || reason FROM rule_failures ORDER BY 1";
    let mut chain = Chain::default();
    chain.mine(12, &[9]);
    for _ in 0..2 {
        let consumer = kept(0xbb);
        feed(&consumer, &chain).await;
        chain.mine(12, &[]);
        feed(&consumer, &chain).await;
        let found = rig.column(failures).await;
        let expected = [
            "1 1 the rule can match nothing: the rule watches any contract, and chain `eth`",
            "2 1 the rule can match nothing: the rule watches 0x0000",
        ];
        assert_eq!(found.len(), 2);
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
        }
    }
    let consumer = kept(0xaa);
    chain.mine(12, &[]);
    feed(&consumer, &chain).await;
    assert_eq!(rig.column(failures).await.len(), 1, "the second one can now");
    feed(&rig.consumer(), &chain).await;
    consumer.cursor(CHAIN).await.unwrap();
    rig.consumer().cursor(CHAIN).await.unwrap();
    assert!(rig.column(failures).await.is_empty());
}

#[tokio::test]
async fn deleted_rules_and_channels_are_not_told() {
    let mut rig = watching("value > 5", 1, json!({})).await;
    rig.rule(2, 1, &[901]).await;
    rig.version(2, 1, Some(&document("value > 5", json!({})))).await;
    let (consumer, mut chain) = (rig.consumer(), Chain::default());
    chain.mine(12, &[9]);
    feed(&consumer, &chain).await;
    let channel = format!("UPDATE channels SET deleted_at = 1 WHERE id = '{}'", uuid(902));
    rig.execute(&channel).await;
    rig.execute(&format!("UPDATE rules SET deleted_at = 1 WHERE id = '{}'", uuid(2))).await;
    chain.mine(12, &[]);
    feed(&consumer, &chain).await;
    assert_eq!(rig.states().await, ["1 confirmed", "1 confirmed"]);
    assert_eq!(rig.deliveries().await, ["901 alert queued"]);
}

#[tokio::test]
async fn another_instance_is_noticed() {
    let rig = watching("value > 5", 0, json!({})).await;
    let (one, two, mut chain) = (rig.consumer(), rig.consumer(), Chain::default());
    chain.mine(12, &[9]);
    one.cursor(CHAIN).await.unwrap();
    two.cursor(CHAIN).await.unwrap();
    feed(&one, &chain).await;
    let error = two.apply(chain.frames.clone()).await.unwrap_err();
    assert!(matches!(&error, ConsumeError::Retry(reason) if reason.contains("another instance")));
    assert_eq!(two.cursor(CHAIN).await.unwrap().sequence, 1);
    assert_eq!(rig.states().await, ["1 confirmed"]);
}

#[tokio::test]
async fn frames_that_do_not_follow_ask_for_a_rebuild() {
    let rig = watching("value > 5", 0, json!({})).await;
    let (consumer, mut chain) = (rig.consumer(), Chain::default());
    chain.mine(12, &[9]);
    chain.mine(12, &[]);
    feed(&consumer, &chain).await;
    let stranger = rig::Block { number: 3, hash: 77, parent: 66, time: 1, values: vec![] };
    for frame in [
        stranger.frame(3, Step::Apply),
        stranger.frame(3, Step::Undo),
        chain.branch[1].frame(4, Step::Undo),
    ] {
        let error = consumer.apply(vec![frame]).await.unwrap_err();
        assert!(matches!(error, ConsumeError::Rebuild(_)), "{error}");
    }
    // What came before the odd one is committed.
    chain.mine(12, &[9]);
    let frames = vec![chain.frames[2].clone(), stranger.frame(9, Step::Apply)];
    consumer.apply(frames).await.unwrap_err();
    assert_eq!(rig.states().await, ["1 confirmed", "3 confirmed"]);
    let cursor = consumer.cursor(CHAIN).await.unwrap();
    let head = Some(chain.frames[2].block);
    assert_eq!(cursor, Cursor { chain: CHAIN, sequence: 3, head });
}

#[tokio::test]
async fn a_block_full_of_matches_is_written_whole() {
    let rig = watching("", 0, json!({})).await;
    let (consumer, mut chain) = (rig.consumer(), Chain::default());
    chain.mine(12, &vec![1; 2_357]);
    feed(&consumer, &chain).await;
    assert_eq!(rig.column("SELECT CAST(COUNT(*) AS TEXT) FROM alerts").await, ["2357"]);
    assert_eq!(rig.column("SELECT CAST(COUNT(*) AS TEXT) FROM deliveries").await, ["4714"]);
    chain.undo(1);
    feed(&consumer, &chain).await;
    let cancelled = "SELECT CAST(COUNT(*) AS TEXT) FROM deliveries WHERE state = 'cancelled'";
    assert_eq!(rig.column(cancelled).await, ["4714"]);
}

#[tokio::test]
async fn windows_are_caught_up_with_after_a_restart() {
    let window = json!({"window": {"kind": "count", "over": "1h", "condition": "count >= 3"}});
    let rig = watching("value > 5", 0, window).await;
    let mut chain = Chain::default();
    for _ in 0..2 {
        chain.mine(12, &[9]);
    }
    feed(&rig.consumer(), &chain).await;
    chain.mine(12, &[9]);
    let consumer = rig.consumer();
    let error = consumer.apply(chain.after(2).to_vec()).await.unwrap_err();
    assert!(matches!(error, ConsumeError::Retry(_)), "{error}");
    assert_eq!(consumer.cursor(CHAIN).await.unwrap().sequence, 0, "the windows are not kept yet");
    feed(&consumer, &chain).await;
    assert_eq!(rig.states().await, ["3 confirmed"]);
    // Windows that cannot be read are built again.
    for _ in 0..80 {
        chain.mine(12, &[]);
    }
    feed(&consumer, &chain).await;
    assert_eq!(rig.consumer().cursor(CHAIN).await.unwrap().sequence, 83);
    rig.execute("UPDATE window_parts SET state = x'ff'").await;
    let consumer = rig.consumer();
    assert_eq!(consumer.cursor(CHAIN).await.unwrap().sequence, 0);
    chain.mine(12, &[9]);
    feed(&consumer, &chain).await;
    assert_eq!(rig.states().await, ["3 confirmed"]);
}

#[tokio::test]
async fn blocks_that_were_replaced_behind_the_windows_are_no_mere_repetition() {
    let window = json!({"window": {"kind": "count", "over": "1h", "condition": "count >= 2"}});
    let rig = watching("value > 5", 0, window).await;
    let mut chain = Chain::default();
    for _ in 0..80 {
        chain.mine(12, &[]);
    }
    feed(&rig.consumer(), &chain).await;
    // The same frames from here on, of other blocks: the bus was built again meanwhile.
    let mut other = chain.clone();
    other.hashes += 1_000;
    for _ in 0..5 {
        chain.mine(12, &[]);
        other.mine(12, &[9]);
    }
    feed(&rig.consumer(), &chain).await;
    assert!(rig.states().await.is_empty());
    let consumer = rig.consumer();
    assert_eq!(consumer.cursor(CHAIN).await.unwrap().sequence, 80);
    let error = consumer.apply(other.after(80).to_vec()).await.unwrap_err();
    assert!(matches!(error, ConsumeError::Rebuild(_)), "{error}");
    consumer.reset(CHAIN).await.unwrap();
    feed(&consumer, &other).await;
    assert_eq!(rig.states().await.len(), 1);
}

#[tokio::test]
async fn changed_rules_are_followed_without_frames() {
    let mut rig = watching("value > 5", 0, json!({})).await;
    let (consumer, mut chain) = (Arc::new(rig.consumer()), Chain::default());
    chain.mine(12, &[9]);
    feed(&consumer, &chain).await;
    let stop = CancellationToken::new();
    let following = tokio::spawn({
        let (consumer, stop) = (Arc::clone(&consumer), stop.clone());
        async move { consumer.follow_rules(CHAIN, stop).await }
    });
    rig.version(1, 2, Some(&document("value > 7", json!({})))).await;
    let taken_up = "SELECT version || ' ' || from_height FROM rule_versions WHERE version = 2";
    let reached = async {
        while rig.column(taken_up).await != ["2 2"] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached).await.expect("it is not taken up");
    stop.cancel();
    following.await.unwrap();
}
