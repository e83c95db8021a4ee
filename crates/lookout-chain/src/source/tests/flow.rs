//! Logs of ranges and blocks over HTTP, from honest nodes and others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lookout_types::{Address, BlockRef, Hash, Log};
use serde_json::{Value, json};

use super::node::{Node, Served, over, source};
use super::scene::{Block, chain, token_address, transfer};
use crate::{ChainError, SourceBlock, SourceError, Wants};

/// Forty blocks from height 1: the i-th has i % 4 transfers of the tokens 1 and 2.
fn scene() -> Vec<Block> {
    let logs: Vec<Vec<alloy_primitives::Log>> = (1..=40_u64)
        .map(|i| {
            (0..i % 4).map(|j| transfer(1 + u8::from(j == 1), i * 8 + j, i * 8 + 5, i)).collect()
        })
        .collect();
    chain(1, 0, &logs)
}

fn by_token(number: u8) -> Wants {
    Wants { addresses: vec![Address(token_address(number).0.0)], ..Wants::default() }
}

fn reference(block: &Block) -> BlockRef {
    BlockRef { number: block.number, hash: block.hash.parse().unwrap() }
}

/// Log indices by block, as they should be for these wants.
fn expected(blocks: &[Block], wants: &Wants) -> Vec<(BlockRef, Vec<u32>)> {
    let wanted = |log: &&Value| {
        let address = log["address"].as_str().unwrap();
        let address = Address::parse_lenient(address).unwrap();
        wants.addresses.is_empty() || wants.addresses.contains(&address)
    };
    let index = |log: &Value| {
        let index = lookout_types::parse_quantity(log["logIndex"].as_str().unwrap()).unwrap();
        u32::try_from(index).unwrap()
    };
    blocks
        .iter()
        .map(|b| (reference(b), b.logs.iter().filter(wanted).map(index).collect()))
        .collect()
}

fn found(blocks: &[SourceBlock]) -> Vec<(BlockRef, Vec<u32>)> {
    let indices = |logs: &[Log]| logs.iter().map(|log| log.log_index).collect();
    blocks.iter().map(|block| (block.header.block, indices(&block.logs))).collect()
}

#[track_caller]
fn check(blocks: &[SourceBlock], scene: &[Block], wants: &Wants) {
    assert_eq!(found(blocks), expected(scene, wants));
    for pair in blocks.windows(2) {
        assert_eq!(pair[1].header.parent, pair[0].header.block.hash);
    }
}

/// Drops a log from every answer with more than one block, or from all.
fn skips(only_ranges: bool) -> impl Fn(&str, &Value, &mut Value) + Send + Sync {
    move |method, params, answer| {
        let range = params[0]["blockHash"].is_null();
        if method == "eth_getLogs" && (range || !only_ranges) {
            answer["result"].as_array_mut().map(Vec::pop);
        }
    }
}

#[tokio::test]
async fn a_range_takes_one_call_for_logs_and_one_request_for_headers() {
    let scene = scene();
    let node = Node::start(Served::honest(&scene)).await;
    let (source, _chain) = source(&[&node]).await;
    let blocks = source.range(3..=30, &Wants::default()).await.unwrap();
    check(&blocks, &scene[2..30], &Wants::default());
    assert_eq!(blocks[0].header.timestamp, 1_700_000_000 + 12 * 3);
    assert_eq!(node.calls("eth_getLogs"), 1);
    for wants in [by_token(1), by_token(2), by_token(3)] {
        let blocks = source.range(1..=40, &wants).await.unwrap();
        check(&blocks, &scene, &wants);
    }
    assert_eq!(
        source.range(std::ops::RangeInclusive::new(5, 4), &Wants::default()).await.unwrap(),
        []
    );
    let one = source.block(reference(&scene[6]), &by_token(1)).await.unwrap();
    check(&[one], &scene[6..7], &by_token(1));
    let header = source.header(reference(&scene[6])).await.unwrap();
    assert_eq!(header, source.header_at(7).await.unwrap());
    assert_eq!(header.parent, reference(&scene[5]).hash);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let node = Node::start(Served::honest(&scene())).await;
    let (source, _chain) = source(&[&node]).await;
    let stranger = BlockRef { number: 7, hash: Hash([7; 32]) };
    let not_found = |error: SourceError| {
        assert!(matches!(error, SourceError::Chain(ChainError::NotFound(_))), "{error}");
    };
    not_found(source.range(30..=41, &Wants::default()).await.unwrap_err());
    not_found(source.header_at(41).await.unwrap_err());
    not_found(source.header(stranger).await.unwrap_err());
    not_found(source.block(stranger, &Wants::default()).await.unwrap_err());
}

/// The source's word for the range is right although one of the nodes answers so.
async fn outdoes(tamper: impl Fn(&str, &Value, &mut Value) + Send + Sync + 'static) {
    let scene = scene();
    let liar = Node::start(Served::honest(&scene).with(tamper)).await;
    let honest = Node::start(Served::honest(&scene)).await;
    let (source, _chain) = source(&[&liar, &honest]).await;
    // Whichever is asked first: after some rounds both were.
    for _ in 0..4 {
        let blocks = source.range(1..=40, &Wants::default()).await.unwrap();
        check(&blocks, &scene, &Wants::default());
        let one = source.block(reference(&scene[2]), &Wants::default()).await.unwrap();
        check(&[one], &scene[2..3], &Wants::default());
    }
}

fn logs_of(answer: &mut Value) -> Option<&mut Vec<Value>> {
    answer["result"].as_array_mut().filter(|logs| logs.len() > 1)
}

#[tokio::test]
async fn upstreams_that_lie_about_logs_are_outdone_by_one_that_does_not() {
    outdoes(skips(false)).await;
    outdoes(|method, _, answer| {
        if method == "eth_getLogs"
            && let Some(logs) = logs_of(answer)
        {
            logs[1]["blockHash"] = json!(format!("0x{}", "5".repeat(64)));
        }
    })
    .await;
    outdoes(|method, _, answer| {
        if method == "eth_getLogs"
            && let Some(logs) = logs_of(answer)
        {
            logs.insert(1, logs[0].clone());
        }
    })
    .await;
    outdoes(|method, _, answer| {
        if method == "eth_getLogs"
            && let Some(logs) = logs_of(answer)
        {
            logs.reverse();
        }
    })
    .await;
    outdoes(|method, _, answer| {
        if method == "eth_getLogs"
            && let Some(logs) = logs_of(answer)
        {
            logs[0]["topics"] = json!([]);
        }
    })
    .await;
    outdoes(|method, _, answer| {
        if method == "eth_getLogs" {
            *answer = json!({"result": []});
        }
    })
    .await;
}

#[tokio::test]
async fn upstreams_that_lie_about_headers_are_outdone_by_one_that_does_not() {
    for field in ["logsBloom", "parentHash", "hash", "timestamp"] {
        outdoes(move |method, params, answer| {
            if method == "eth_getBlockByNumber" && params[0] != "latest" {
                let text = answer["result"][field].as_str().unwrap_or("0x0").to_owned();
                let other = if text.ends_with('1') { '2' } else { '1' };
                let start: String = text.chars().take(text.len() - 1).collect();
                answer["result"][field] = json!(format!("{start}{other}"));
            }
        })
        .await;
    }
}

#[tokio::test]
async fn one_upstream_is_asked_again_by_hash() {
    let scene = scene();
    let node = Node::start(Served::honest(&scene).with(skips(true))).await;
    let (source, chain) = source(&[&node]).await;
    let blocks = source.range(1..=40, &Wants::default()).await.unwrap();
    check(&blocks, &scene, &Wants::default());
    assert!(chain.upstreams()[0].failures > 0, "the lie is counted");
}

#[tokio::test]
async fn what_an_only_upstream_leaves_out_everywhere_comes_from_receipts_or_not_at_all() {
    let scene = scene();
    let node = Node::start(Served::honest(&scene).with(skips(false))).await;
    let (own, _chain) = source(&[&node]).await;
    let blocks = own.range(1..=40, &Wants::default()).await.unwrap();
    check(&blocks, &scene, &Wants::default());
    let one = own.block(reference(&scene[2]), &Wants::default()).await.unwrap();
    check(&[one], &scene[2..3], &Wants::default());
    let skips = skips(false);
    let node = Node::start(Served::honest(&scene).with(move |method, params, answer| {
        skips(method, params, answer);
        if method == "eth_getBlockReceipts" {
            *answer = json!({"error": {"code": -32000, "message": "no"}});
        }
    }))
    .await;
    let (own, _chain) = source(&[&node]).await;
    let error = own.range(1..=40, &Wants::default()).await.unwrap_err();
    assert!(matches!(error, SourceError::Unproved { height: 39, .. }), "{error}");
}

/// Token 1 is in blocks 1 to 3; of 2 the range answers leave it out. With a filter, no bloom
/// proves it, so only asking elsewhere finds it.
#[tokio::test]
async fn a_wanted_log_that_a_range_leaves_out_is_found_elsewhere() {
    let scene = scene();
    let hides = |method: &str, _: &Value, answer: &mut Value| {
        if method == "eth_getLogs"
            && let Some(logs) = answer["result"].as_array_mut()
        {
            logs.retain(|log| log["blockNumber"] != "0x2");
        }
    };
    let liar = Node::start(Served::honest(&scene).with(hides)).await;
    let honest = Node::start(Served::honest(&scene)).await;
    let (two, _chain) = source(&[&liar, &honest]).await;
    for _ in 0..6 {
        check(&two.range(1..=40, &by_token(1)).await.unwrap(), &scene, &by_token(1));
        let one = two.block(reference(&scene[1]), &by_token(1)).await.unwrap();
        check(&[one], &scene[1..2], &by_token(1));
    }
    // Alone, its receipts give it away.
    let (alone, chain) = source(&[&liar]).await;
    check(&alone.range(1..=40, &by_token(1)).await.unwrap(), &scene, &by_token(1));
    assert!(liar.calls("eth_getBlockReceipts") >= 1 && chain.upstreams()[0].failures > 0);
}

/// A bloom of many logs may contain what is in none of them.
#[tokio::test]
async fn a_false_positive_of_the_bloom_is_settled_by_a_second_word() {
    let logs: Vec<_> = (0..300).map(|i| transfer(1, 2 * i, 2 * i + 1, 1)).collect();
    let scene = chain(1, 0, &[logs, Vec::new()]);
    let bloom = scene[0].header["logsBloom"].as_str().unwrap().parse().unwrap();
    let absent = (2..=255)
        .find(|token| {
            super::super::bloom::Bits::of(token_address(*token).as_slice()).may_be_in(&bloom)
        })
        .unwrap();
    let nodes =
        [Node::start(Served::honest(&scene)).await, Node::start(Served::honest(&scene)).await];
    let (two, _chain) = source(&[&nodes[0], &nodes[1]]).await;
    check(&two.range(1..=2, &by_token(absent)).await.unwrap(), &scene, &by_token(absent));
    let both = |method| [nodes[0].calls(method), nodes[1].calls(method)];
    assert_eq!(both("eth_getLogs"), [1, 1]);
    assert_eq!(both("eth_getBlockReceipts"), [0, 0]);
    // With one upstream receipts settle it, as long as the budget lasts.
    let (one, _chain) = source(&[&nodes[0]]).await;
    for _ in 0..40 {
        check(&one.range(1..=2, &by_token(absent)).await.unwrap(), &scene, &by_token(absent));
    }
    let receipts = nodes[0].calls("eth_getBlockReceipts");
    assert!((16..=22).contains(&receipts), "{receipts}");
}

#[tokio::test]
async fn a_range_that_is_too_wide_is_narrowed_by_the_upstreams_words() {
    let scene = scene();
    let limited = |method: &str, params: &Value, answer: &mut Value| {
        let height = |name: &str| {
            lookout_types::parse_quantity(params[0][name].as_str().unwrap_or("0x0")).unwrap()
        };
        if method != "eth_getLogs" || params[0]["blockHash"].is_string() {
            return;
        }
        let message = match height("toBlock") - height("fromBlock") + 1 {
            31.. => "query returned more than 10000 results",
            11.. => "eth_getLogs is limited to a 10 range",
            _ => return,
        };
        *answer = json!({"error": {"code": -32005, "message": message}});
    };
    let node = Node::start(Served::honest(&scene).with(limited)).await;
    let (own, chain) = source(&[&node]).await;
    let narrowed = |error: SourceError| match error {
        SourceError::TooLarge { range, blocks } => (range, blocks),
        other => panic!("{other}"),
    };
    let error = own.range(1..=40, &Wants::default()).await.unwrap_err();
    assert_eq!(narrowed(error), (1..=40, None));
    let error = own.range(1..=20, &Wants::default()).await.unwrap_err();
    assert_eq!(narrowed(error), (1..=20, Some(10)));
    let blocks = own.range(1..=10, &Wants::default()).await.unwrap();
    check(&blocks, &scene[..10], &Wants::default());
    assert_eq!(chain.upstreams()[0].failures, 0, "a limit is no failure");
    // Another without the limit takes the range, and after its word the limited one is spared.
    let free = Node::start(Served::honest(&scene)).await;
    let (two, _chain) = source(&[&node, &free]).await;
    let before = node.calls("eth_getLogs");
    for _ in 0..12 {
        check(
            &two.range(1..=20, &Wants::default()).await.unwrap(),
            &scene[..20],
            &Wants::default(),
        );
    }
    assert!(node.calls("eth_getLogs") <= before + 1);
}

#[tokio::test]
async fn an_answer_over_our_own_cap_is_too_large_and_a_single_block_is_not() {
    let scene = scene();
    let node = Node::start(Served::honest(&scene)).await;
    let settings = crate::PoolSettings {
        poll_interval: std::time::Duration::from_millis(50),
        response_bytes_max: 8000,
        ..crate::PoolSettings::default()
    };
    let (own, _chain) = over(&[&node], settings, lookout_types::ChainId(1)).await;
    let error = own.range(1..=3, &Wants::default()).await;
    check(&error.unwrap(), &scene[..3], &Wants::default());
    let error = own.range(1..=40, &Wants::default()).await.unwrap_err();
    assert!(matches!(error, SourceError::TooLarge { blocks: None, .. }), "{error}");
}

#[tokio::test]
async fn one_block_that_is_too_large_for_a_range_comes_by_its_hash_or_its_receipts() {
    let scene = scene();
    for by_hash in [true, false] {
        let refuses = move |method: &str, params: &Value, answer: &mut Value| {
            if method == "eth_getLogs" && !(by_hash && params[0]["blockHash"].is_string()) {
                let message = "query returned more than 10000 results";
                *answer = json!({"error": {"code": -32005, "message": message}});
            }
        };
        let node = Node::start(Served::honest(&scene).with(refuses)).await;
        let (own, _chain) = source(&[&node]).await;
        for wants in [Wants::default(), by_token(1)] {
            for at in [3, 7, 40] {
                let blocks = own.range(at..=at, &wants).await.unwrap();
                let index = usize::try_from(at).unwrap() - 1;
                check(&blocks, &scene[index..=index], &wants);
            }
            let error = own.range(1..=2, &wants).await.unwrap_err();
            assert!(matches!(error, SourceError::TooLarge { .. }), "{error}");
        }
        assert_eq!(node.calls("eth_getBlockReceipts") > 0, !by_hash);
    }
    // Where nothing gives them, the reason is told.
    let refuses = |method: &str, _: &Value, answer: &mut Value| {
        if method == "eth_getLogs" || method == "eth_getBlockReceipts" {
            let message = "query returned more than 10000 results";
            *answer = json!({"error": {"code": -32005, "message": message}});
        }
    };
    let node = Node::start(Served::honest(&scene).with(refuses)).await;
    let (own, _chain) = source(&[&node]).await;
    let error = own.range(3..=3, &Wants::default()).await.unwrap_err();
    assert!(error.to_string().contains("more than 10000 results"), "{error}");
}

#[tokio::test]
async fn an_upstream_that_takes_no_batches_is_asked_one_by_one() {
    let scene = scene();
    for batch_max in [0, 7] {
        let node = Node::start(Served { batch_max, ..Served::honest(&scene) }).await;
        let (own, chain) = source(&[&node]).await;
        check(
            &own.range(1..=38, &Wants::default()).await.unwrap(),
            &scene[..38],
            &Wants::default(),
        );
        check(
            &own.range(1..=38, &Wants::default()).await.unwrap(),
            &scene[..38],
            &Wants::default(),
        );
        assert_eq!(chain.upstreams()[0].failures, 0);
    }
}

#[tokio::test]
async fn an_upstream_below_the_range_is_not_asked_for_its_logs() {
    let scene = scene();
    let behind = Node::start(Served::honest(&scene[..30])).await;
    let ahead = Node::start(Served::honest(&scene)).await;
    let settings = crate::PoolSettings {
        poll_interval: std::time::Duration::from_millis(50),
        quorum: 1,
        ..crate::PoolSettings::default()
    };
    let (own, _chain) = over(&[&behind, &ahead], settings, lookout_types::ChainId(1)).await;
    let mut heads = own.heads();
    heads.wait_for(|heads| heads.is_some_and(|heads| heads.latest.number == 40)).await.unwrap();
    for _ in 0..8 {
        let blocks = own.range(25..=40, &by_token(1)).await.unwrap();
        check(&blocks, &scene[24..], &by_token(1));
    }
    assert_eq!(behind.calls("eth_getLogs"), 0);
}

/// The headers come from one branch, the logs from another: that is a reorg, not a lie.
#[tokio::test]
async fn logs_of_another_branch_are_a_move() {
    let scene = scene();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let node = Node::start(Served::honest(&scene).with(move |method, params, answer| {
        if method == "eth_getLogs" && params[0]["blockHash"].is_null() {
            counted.fetch_add(1, Ordering::SeqCst);
            for log in answer["result"].as_array_mut().unwrap() {
                log["blockHash"] = json!(format!("0x{}", "6".repeat(64)));
            }
        }
    }))
    .await;
    let (own, chain) = source(&[&node]).await;
    let error = own.range(1..=20, &Wants::default()).await.unwrap_err();
    assert!(matches!(error, SourceError::Moved { height: 1, .. }), "{error}");
    assert_eq!((count.load(Ordering::SeqCst), chain.upstreams()[0].failures), (1, 0));
}

/// Two nodes on two branches give no range that mixes them.
#[tokio::test]
async fn headers_of_two_branches_do_not_mix() {
    let scene = scene();
    let fork = |from: usize| {
        let logs = vec![Vec::new(); 40 - from];
        let mut other = chain(from as u64 + 1, 9, &logs);
        let mut blocks = scene[..from].to_vec();
        blocks.append(&mut other);
        blocks
    };
    // The branch's first block does not even name ours as its parent.
    let node = Node::start(Served::honest(&fork(10))).await;
    let (own, _chain) = source(&[&node]).await;
    let error = own.range(5..=20, &Wants::default()).await.unwrap_err();
    assert!(matches!(error, SourceError::Moved { height: 11, .. }), "{error}");
}
