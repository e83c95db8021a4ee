//! Recorded blocks, receipts and logs recompute.

use alloy_primitives::Bloom;
use lookout_types::{BlockRef, Hash};
use serde_json::{Value, json};

use super::super::*;
use super::data::{MAINNET, bytes, full_blocks, mainnet_block, recorded, value};

fn hash(text: &str) -> Hash {
    text.parse().unwrap()
}

#[test]
fn blocks_recompute_with_every_transaction_and_sender() {
    let mut transactions = 0;
    for block in full_blocks() {
        let (info, finding) = check_block(&block).unwrap();
        assert_eq!(finding, Finding::Verified);
        assert_eq!(check_header(&block).unwrap(), (info.clone(), Finding::Verified));
        assert_eq!(parse_header(&block).unwrap(), info);
        check_asked(&info, info.reference.hash).unwrap();
        assert!(check_asked(&info, info.parent).is_err());
        let block = value(&block);
        assert_eq!(info.reference.hash, hash(block["hash"].as_str().unwrap()));
        assert_eq!(info.state_root, hash(block["stateRoot"].as_str().unwrap()));
        transactions += block["transactions"].as_array().unwrap().len();
    }
    let expected = if mainnet_block(*MAINNET.start()).is_some() { 1479 + 372 } else { 0 };
    assert_eq!(transactions, expected);
}

#[test]
fn transactions_of_all_types_recompute_one_by_one() {
    let mut of_type = [0; 5];
    for block in full_blocks() {
        for tx in value(&block)["transactions"].as_array().unwrap() {
            let asked = hash(tx["hash"].as_str().unwrap());
            assert_eq!(check_transaction(&bytes(tx), asked), Ok(Finding::Verified));
            assert!(matches!(
                check_transaction(&bytes(tx), Hash::default()),
                Err(VerifyError::WrongTransaction { .. })
            ));
            let kind = tx["type"].as_str().unwrap();
            of_type[usize::try_from(lookout_types::parse_quantity(kind).unwrap()).unwrap()] += 1;
        }
    }
    if mainnet_block(*MAINNET.start()).is_some() {
        assert!(of_type.iter().all(|count| *count > 0), "{of_type:?}");
    }
}

#[test]
fn parents_link_and_strangers_do_not() {
    let headers: Vec<_> =
        MAINNET.filter_map(mainnet_block).map(|block| parse_header(&block).unwrap()).collect();
    for pair in headers.windows(2) {
        check_parent(&pair[1], pair[0].reference).unwrap();
        assert!(check_parent(&pair[0], pair[1].reference).is_err());
        let moved = BlockRef { number: pair[0].reference.number - 1, ..pair[0].reference };
        assert!(check_parent(&pair[1], moved).is_err(), "the hash is right, the height is not");
    }
}

#[test]
fn receipts_recompute_and_a_block_of_hashes_says_what_it_is() {
    let Some(block) = recorded("mainnet-21925176/block.json") else { return };
    let Some(receipts) = recorded("mainnet-21925176/receipts.json") else { return };
    let (header, finding) = check_block(&block).unwrap();
    assert!(matches!(finding, Finding::Unverifiable(_)), "hashes alone lead to no root");
    assert_eq!(check_header(&block).unwrap().1, Finding::Verified);
    assert_eq!(check_receipts(&receipts, &header), Ok(Finding::Verified));
    let in_block = check_receipts_in_block(&receipts, &block).unwrap();
    assert!(matches!(in_block, Finding::Unverifiable(_)));
    for receipt in value(&receipts).as_array().unwrap() {
        let finding = check_receipt(&bytes(receipt), Some(&header)).unwrap();
        assert!(matches!(finding, Finding::Unverifiable(_)), "one receipt proves nothing");
        check_receipt(&bytes(receipt), None).unwrap();
    }
    let mut fewer = value(&receipts);
    fewer.as_array_mut().unwrap().pop();
    assert!(matches!(
        check_receipts(&bytes(&fewer), &header),
        Err(VerifyError::ReceiptsRoot { .. })
    ));
}

#[test]
fn logs_of_a_block_fit_its_header_and_its_filter() {
    let Some(block) = recorded("mainnet-21925176/block.json") else { return };
    let Some(receipts) = recorded("mainnet-21925176/receipts.json") else { return };
    let Some(deposit) = recorded("mainnet-21925176/logs.json") else { return };
    let header = parse_header(&block).unwrap();
    let contract = "0x00000000219ab540356cbb839cbe05303d7705fa".parse().unwrap();
    let topic = hash("0x649bbc62d0e31342afea4e5cd82d4049e7e1ee912fc0889aa790803be39038c5");
    let consistent = Ok(LogsFinding::Consistent);
    assert_eq!(check_logs(&deposit, &header, &[contract], &[vec![topic]]), consistent);
    assert_eq!(check_logs(&deposit, &header, &[contract], &[]), consistent);
    assert!(check_logs(&deposit, &header, &[], &[vec![], vec![]]).is_err());
    for (addresses, topics) in
        [(vec![Default::default()], vec![]), (vec![], vec![vec![Hash::default()]])]
    {
        assert!(matches!(
            check_logs(&deposit, &header, &addresses, &topics),
            Err(VerifyError::Filter { .. })
        ));
    }
    // All logs are all of the bloom; all but one contract's are not.
    let all: Vec<Value> = value(&receipts)
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|receipt| receipt["logs"].as_array().unwrap().clone())
        .collect();
    assert_eq!(check_logs(&bytes(&json!(all)), &header, &[], &[]), consistent);
    assert!(matches!(check_logs(&deposit, &header, &[], &[]), Ok(LogsFinding::Suspicious(_))));
    // Nothing, where the bloom has the contract, and where it has not.
    let suspicious = check_logs(b"[]", &header, &[contract], &[vec![topic]]);
    assert!(matches!(suspicious, Ok(LogsFinding::Suspicious(_))));
    assert!(matches!(check_logs(b"[]", &header, &[], &[]), Ok(LogsFinding::Suspicious(_))));
    let absent = (0..=255)
        .map(|byte| Hash([byte; 32]))
        .find(|topic| {
            !header.logs_bloom.contains_input(alloy_primitives::BloomInput::Raw(&topic.0))
        })
        .unwrap();
    assert_eq!(check_logs(b"[]", &header, &[], &[vec![absent]]), consistent);
    let mut reversed = all.clone();
    reversed.reverse();
    assert!(check_logs(&bytes(&json!(reversed)), &header, &[], &[]).is_err());
    let empty = HeaderInfo { logs_bloom: Bloom::ZERO, ..header };
    assert_eq!(check_logs(b"[]", &empty, &[], &[]), consistent);
    assert!(matches!(check_logs(&deposit, &empty, &[], &[]), Err(VerifyError::NotInBloom { .. })));
}

/// The exported form of blocks 17173049 and 17173050 lacks signatures and `mixHash`, but their
/// receipts can be put together from it.
#[test]
fn exported_receipts_recompute() {
    let file = |name: &str| {
        let text = recorded(&format!("mainnet-17173049/{name}.json"))?;
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        Some(lines.map(value).collect::<Vec<_>>())
    };
    let (Some(blocks), Some(transactions), Some(logs)) =
        (file("blocks"), file("transactions"), file("logs"))
    else {
        return;
    };
    assert_eq!(blocks.len(), 2);
    let hex = |number: &Value| json!(format!("{:#x}", number.as_u64().unwrap()));
    for block in blocks {
        let field = |name: &str| hash(block[name].as_str().unwrap());
        let header = HeaderInfo {
            reference: BlockRef { number: block["number"].as_u64().unwrap(), hash: field("hash") },
            parent: field("parent_hash"),
            timestamp: block["timestamp"].as_u64().unwrap(),
            state_root: field("state_root"),
            transactions_root: field("transactions_root"),
            receipts_root: field("receipts_root"),
            logs_bloom: block["logs_bloom"].as_str().unwrap().parse().unwrap(),
            foreign: false,
        };
        let log = |log: &Value| {
            json!({
                "address": log["address"], "topics": log["topics"], "data": log["data"],
                "blockHash": log["block_hash"], "blockNumber": hex(&log["block_number"]),
                "transactionHash": log["transaction_hash"],
                "transactionIndex": hex(&log["transaction_index"]),
                "logIndex": hex(&log["log_index"]),
            })
        };
        let receipt = |tx: &Value| {
            let own = logs.iter().filter(|log| log["transaction_hash"] == tx["hash"]).map(log);
            json!({
                "type": hex(&tx["transaction_type"]), "status": hex(&tx["receipt_status"]),
                "cumulativeGasUsed": hex(&tx["receipt_cumulative_gas_used"]),
                "gasUsed": hex(&tx["receipt_gas_used"]),
                "logs": own.collect::<Vec<_>>(), "logsBloom": null,
                "transactionHash": tx["hash"],
                "transactionIndex": hex(&tx["transaction_index"]),
                "blockHash": tx["block_hash"], "blockNumber": hex(&tx["block_number"]),
            })
        };
        let receipts: Vec<_> = transactions
            .iter()
            .filter(|tx| tx["block_hash"] == block["hash"])
            .map(receipt)
            .collect();
        assert!(receipts.len() > 100);
        assert_eq!(check_receipts(&bytes(&json!(receipts)), &header), Ok(Finding::Verified));
    }
}
