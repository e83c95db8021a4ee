//! Chains with rules of their own: unverifiable where they differ, and never approved by mistake.

use alloy_primitives::{b256, keccak256};
use lookout_types::Hash;
use serde_json::{Value, json};

use super::super::*;
use super::data::{anvil, bytes, value};

fn block() -> Value {
    value(&anvil("block1"))
}

fn finding(block: &Value) -> Result<Finding, VerifyError> {
    check_block(&bytes(block)).map(|(_, finding)| finding)
}

#[track_caller]
fn assert_unverifiable(result: Result<Finding, VerifyError>) {
    assert!(matches!(result, Ok(Finding::Unverifiable(_))), "{result:?}");
}

/// Puts a transaction at the front or the end, and numbers them anew.
fn with_transaction(block: &Value, at: usize, transaction: Value) -> Value {
    let mut block = block.clone();
    let transactions = block["transactions"].as_array_mut().unwrap();
    transactions.insert(at, transaction);
    for (i, transaction) in transactions.iter_mut().enumerate() {
        transaction["transactionIndex"] = json!(format!("{i:#x}"));
    }
    let (hash, number) = (block["hash"].clone(), block["number"].clone());
    let inserted = &mut block["transactions"][at];
    inserted["blockHash"] = hash;
    inserted["blockNumber"] = number;
    block
}

/// The block with the hash that its fields now have.
fn rehashed(mut block: Value) -> Value {
    let claimed = block["hash"].clone();
    if let Err(VerifyError::HeaderHash { computed, .. }) = check_header(&bytes(&block)) {
        block["hash"] = json!(computed);
    }
    let hash = block["hash"].clone();
    assert_ne!(hash, claimed);
    for transaction in block["transactions"].as_array_mut().unwrap() {
        transaction["blockHash"] = hash.clone();
    }
    block
}

fn op_deposit() -> Value {
    json!({
        "type": "0x7e", "hash": Value::from(format!("0x{}", "7e".repeat(32))),
        "sourceHash": format!("0x{}", "01".repeat(32)), "mint": "0x0", "isSystemTx": false,
        "from": "0xdeaddeaddeaddeaddeaddeaddeaddeaddead0001",
        "to": "0x4200000000000000000000000000000000000015", "value": "0x0", "gas": "0xf4240",
        "gasPrice": "0x0", "input": "0x", "nonce": "0x1", "r": "0x0", "s": "0x0", "v": "0x0",
    })
}

#[test]
fn an_op_stack_block_is_unverifiable_and_its_parts_still_checked() {
    let block = with_transaction(&block(), 0, op_deposit());
    assert_unverifiable(finding(&block));
    assert_eq!(check_header(&bytes(&block)).unwrap().1, Finding::Verified);
    // Since Isthmus `withdrawalsRoot` is a storage root, and there are no withdrawals.
    let mut isthmus = block.clone();
    isthmus["withdrawalsRoot"] = json!(keccak256("message passer"));
    let isthmus = rehashed(isthmus);
    assert_unverifiable(finding(&isthmus));
    let mut by_hash = isthmus.clone();
    let hashes = isthmus["transactions"].as_array().unwrap().iter().map(|tx| tx["hash"].clone());
    by_hash["transactions"] = hashes.collect();
    assert_unverifiable(finding(&by_hash));
    // Its ordinary transactions hash as everywhere.
    let mut lie = block.clone();
    lie["transactions"][2]["value"] = json!("0x1234");
    assert!(matches!(finding(&lie), Err(VerifyError::TransactionHash { .. })));
    let mut moved = block;
    moved["transactions"][0]["transactionIndex"] = json!("0x1");
    assert!(finding(&moved).is_err());
    let asked = op_deposit()["hash"].as_str().unwrap().parse().unwrap();
    assert_unverifiable(check_transaction(&bytes(&op_deposit()), asked));
    assert!(check_transaction(&bytes(&op_deposit()), Hash::default()).is_err());
}

#[test]
fn types_of_any_shape_are_unverifiable() {
    let arbitrum = json!({
        "type": "0x6a", "hash": format!("0x{}", "6a".repeat(32)), "gas": "0x0", "input": "0x",
        "from": "0x00000000000000000000000000000000000a4b05", "requestId": "0x1",
    });
    assert_unverifiable(finding(&with_transaction(&block(), 0, arbitrum)));
    let strange = json!({
        "type": "0x76", "hash": format!("0x{}", "76".repeat(32)), "nonce": {"key": 1},
        "input": ["0x"], "v": -1,
    });
    assert_unverifiable(finding(&with_transaction(&block(), 0, strange.clone())));
    let mut known = strange;
    known["type"] = json!("0x2");
    let result = finding(&with_transaction(&block(), 0, known));
    let Err(VerifyError::Malformed { field, .. }) = result else { panic!("{result:?}") };
    assert!(field.starts_with("transactions[0]."), "{field}");
}

/// Bor lists the state syncs of a sprint as one more transaction that is under no root.
fn bor_transaction(block: &Value) -> Value {
    let number = lookout_types::parse_quantity(block["number"].as_str().unwrap()).unwrap();
    let hash = alloy_primitives::hex::decode(block["hash"].as_str().unwrap()).unwrap();
    let key = [b"matic-bor-receipt-".as_slice(), &number.to_be_bytes(), &hash].concat();
    json!({
        "type": "0x0", "hash": keccak256(key), "gas": "0x0", "gasPrice": "0x0", "input": "0x",
        "from": "0x0000000000000000000000000000000000000000", "nonce": "0x0", "value": "0x0",
        "to": "0x0000000000000000000000000000000000000000", "r": "0x0", "s": "0x0", "v": "0x0",
    })
}

#[test]
fn a_polygon_block_with_state_syncs_is_checked_without_them() {
    let plain = block();
    let end = plain["transactions"].as_array().unwrap().len();
    let block = with_transaction(&plain, end, bor_transaction(&plain));
    assert_unverifiable(finding(&block));
    // The rest must still lead to the root.
    let mut missing = block.clone();
    missing["transactions"].as_array_mut().unwrap().remove(end - 1);
    missing["transactions"][end - 1]["transactionIndex"] = json!(format!("{:#x}", end - 1));
    assert!(matches!(finding(&missing), Err(VerifyError::TransactionsRoot { .. })));
    // So must the receipts.
    let header = parse_header(&anvil("block1")).unwrap();
    let mut receipts = value(&anvil("receipts1"));
    let hash = bor_transaction(&plain)["hash"].clone();
    let mut log = value(&anvil("logs2"))[0].clone();
    for (key, value) in [
        ("blockHash", plain["hash"].clone()),
        ("blockNumber", plain["number"].clone()),
        ("blockTimestamp", plain["timestamp"].clone()),
        ("transactionHash", hash.clone()),
        ("transactionIndex", json!(format!("{end:#x}"))),
        ("logIndex", json!("0x0")),
    ] {
        log[key] = value;
    }
    receipts.as_array_mut().unwrap().push(json!({
        "type": "0x0", "status": "0x1", "cumulativeGasUsed": "0x0", "gasUsed": "0x0",
        "logs": [log], "logsBloom": null, "transactionHash": hash,
        "transactionIndex": format!("{end:#x}"), "blockHash": plain["hash"],
        "blockNumber": plain["number"],
    }));
    assert_unverifiable(check_receipts(&bytes(&receipts), &header));
    assert_unverifiable(check_receipts_in_block(&bytes(&receipts), &bytes(&block)));
    let mut lie = receipts.clone();
    lie[0]["status"] = json!("0x0");
    assert!(matches!(check_receipts(&bytes(&lie), &header), Err(VerifyError::ReceiptsRoot { .. })));
    // Its logs are in no bloom.
    let logs = check_logs(&bytes(&json!([log])), &header, &[], &[]);
    assert!(matches!(logs, Ok(LogsFinding::Suspicious(_))), "{logs:?}");
    log["transactionHash"] =
        json!(b256!("0x0000000000000000000000000000000000000000000000000000000000000001"));
    assert!(check_logs(&bytes(&json!([log])), &header, &[], &[]).is_err());
}

#[test]
fn foreign_header_fields_excuse_a_mismatch_and_nothing_else_does() {
    // Arbitrum adds fields to the answer but hashes as Ethereum does.
    let mut block = block();
    for key in ["l1BlockNumber", "sendCount", "sendRoot"] {
        block[key] = json!("0x1");
    }
    assert_eq!(finding(&block), Ok(Finding::Verified));
    // Avalanche hashes its own.
    let mut avalanche = self::block();
    avalanche["extDataHash"] = avalanche["parentHash"].clone();
    avalanche["hash"] = json!(keccak256("with extDataHash"));
    let (info, found) = check_header(&bytes(&avalanche)).unwrap();
    assert_unverifiable(Ok(found));
    assert_unverifiable(check_receipts(b"[]", &info));
    let mut older = avalanche.clone();
    older.as_object_mut().unwrap().remove("mixHash");
    assert_unverifiable(check_header(&bytes(&older)).map(|(_, found)| found));
    // Without such a field it is a lie, and fields that all nodes add are no excuse.
    avalanche.as_object_mut().unwrap().remove("extDataHash");
    avalanche["totalDifficulty"] = json!("0x1");
    avalanche["size"] = json!("0x1");
    assert!(matches!(check_header(&bytes(&avalanche)), Err(VerifyError::HeaderHash { .. })));
    avalanche.as_object_mut().unwrap().remove("mixHash");
    assert!(matches!(check_header(&bytes(&avalanche)), Err(VerifyError::Missing { .. })));
}

#[test]
fn a_field_cannot_pass_under_a_later_ones_name() {
    let mut shanghai = block();
    for later in ["blobGasUsed", "excessBlobGas", "parentBeaconBlockRoot", "requestsHash"] {
        shanghai.as_object_mut().unwrap().remove(later);
    }
    let shanghai = rehashed(shanghai);
    assert_eq!(finding(&shanghai), Ok(Finding::Verified));
    let mut renamed = shanghai;
    let root = renamed.as_object_mut().unwrap().remove("withdrawalsRoot").unwrap();
    renamed["parentBeaconBlockRoot"] = root;
    assert!(matches!(finding(&renamed), Err(VerifyError::HeaderGap { .. })));
}
