//! The forms in which nodes write the same thing, and forms that are refused.

use alloy_consensus::transaction::RlpEcdsaEncodableTx;
use alloy_consensus::{SignableTransaction, TxLegacy};
use alloy_primitives::{Bytes, Signature, TxKind, U256, address, b256, keccak256};
use serde_json::{Value, json};

use super::super::*;
use super::data::{anvil, bytes, value};

fn transaction(index: usize) -> Value {
    value(&anvil("block1"))["transactions"][index].clone()
}

fn check(transaction: &Value) -> Result<Finding, VerifyError> {
    let asked = transaction["hash"].as_str().unwrap().parse().unwrap();
    check_transaction(&bytes(transaction), asked)
}

/// Each change keeps what the transaction says.
#[test]
fn other_forms_of_a_transaction_verify() {
    for i in 0..4 {
        assert_eq!(check(&transaction(i)), Ok(Finding::Verified));
        let typed = i != 1;
        let mut changes: Vec<(&str, Value)> = vec![
            ("data", transaction(i)["input"].clone()),
            ("maxFeePerBlobGas", Value::Null),
            ("authorizationList", json!([])),
            ("blockHash", Value::Null),
            ("publicKey", json!("0x00")),
            ("nonce", json!("0x00")),
        ];
        if typed {
            changes.push(("yParity", Value::Null));
            changes.push(("v", Value::Null));
            let parity = transaction(i)["v"] == "0x1";
            changes.push(("v", json!(if parity { "0x1c" } else { "0x1b" })));
        } else {
            changes.push(("chainId", Value::Null));
            changes.push(("accessList", json!([])));
            changes.push(("type", Value::Null));
            changes.push(("maxFeePerGas", transaction(i)["gasPrice"].clone()));
        }
        for (key, value) in changes {
            let mut changed = transaction(i);
            changed[key] = value;
            assert_eq!(check(&changed), Ok(Finding::Verified), "{i} {key}");
        }
        let mut renamed = transaction(i);
        let input = renamed.as_object_mut().unwrap().remove("input").unwrap();
        renamed["data"] = input;
        assert_eq!(check(&renamed), Ok(Finding::Verified));
    }
}

/// Each change adds what no hash commits to, or says two things at once.
#[test]
fn contradictions_inside_a_transaction_are_refused() {
    let contradictions = [
        (0, "data", json!("0x01")),
        (0, "v", json!("0x0")),
        (0, "v", json!("0x1b")),
        (0, "v", json!("0x5")),
        (0, "gasPrice", json!("0x77359401")),
        (0, "maxFeePerBlobGas", json!("0x1")),
        (0, "blobVersionedHashes", json!([keccak256("blob")])),
        (0, "authorizationList", json!([{}])),
        (0, "accessList", Value::Null),
        (0, "r", json!("0x1")),
        (1, "maxFeePerGas", json!("0x1")),
        (
            1,
            "accessList",
            json!([{"address": address!("0x0000000000000000000000000000000000000001"), "storageKeys": []}]),
        ),
        (1, "chainId", json!("0x1")),
        (1, "yParity", json!("0x1")),
        (1, "v", json!("0x1b")),
        (1, "v", json!("0x1e")),
        (1, "v", json!("0x0")),
        (1, "from", json!("0x0000000000000000000000000000000000000001")),
        (2, "to", Value::Null),
        (2, "input", json!("0x0x")),
        (2, "input", json!("0x0")),
        (2, "value", json!("2")),
        (2, "value", json!("0x")),
        (2, "value", json!("0x+2")),
        (2, "value", json!(2)),
        (2, "from", Value::Null),
        (2, "hash", Value::Null),
    ];
    for (i, key, value) in contradictions {
        let asked = transaction(i)["hash"].as_str().unwrap().parse().unwrap();
        let mut changed = transaction(i);
        changed[key] = value;
        let result = check_transaction(&bytes(&changed), asked);
        assert!(result.is_err(), "{i} {key}: {changed}");
    }
    // A repeated key reads one way here and another in a client.
    let text = String::from_utf8(bytes(&transaction(2))).unwrap();
    let repeated = text.replacen('{', r#"{"value":"0x64","#, 1);
    let asked = transaction(2)["hash"].as_str().unwrap().parse().unwrap();
    let result = check_transaction(repeated.as_bytes(), asked);
    assert!(matches!(result, Err(VerifyError::Malformed { .. })), "{result:?}");
}

/// Frontier transactions name no chain, and their signature may have a high `s`.
#[test]
fn a_signature_without_a_chain_verifies() {
    let tx = TxLegacy {
        chain_id: None,
        nonce: 9,
        gas_price: 50_000_000_000,
        gas_limit: 21_000,
        to: TxKind::Call(address!("0x3535353535353535353535353535353535353535")),
        value: U256::from(1),
        input: Bytes::new(),
    };
    let order = U256::from_be_bytes(
        b256!("0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141").0,
    );
    let r = U256::from_be_bytes(
        b256!("0x79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798").0,
    );
    for (s, parity) in [(U256::from(7), false), (order - U256::from(7), true)] {
        let signature = Signature::new(r, s, parity);
        let mut encoded = Vec::new();
        tx.eip2718_encode(&signature, &mut encoded);
        let from = signature.recover_address_from_prehash(&tx.signature_hash()).unwrap();
        let json = json!({
            "hash": keccak256(&encoded), "nonce": "0x9", "gasPrice": "0xba43b7400",
            "gas": "0x5208", "to": "0x3535353535353535353535353535353535353535", "value": "0x1",
            "input": "0x", "r": r, "s": s, "v": if parity { "0x1c" } else { "0x1b" }, "from": from,
        });
        assert_eq!(check(&json), Ok(Finding::Verified));
        for chain_id in ["0x0", "0x1"] {
            let mut with_chain = json.clone();
            with_chain["chainId"] = json!(chain_id);
            assert_eq!(check(&with_chain).is_ok(), chain_id == "0x0");
        }
    }
}

/// Receipts had a state root instead of a status before Byzantium.
#[test]
fn receipts_with_a_state_root_recompute() {
    let block = anvil("block1");
    let mut header = parse_header(&block).unwrap();
    let mut receipts = value(&anvil("receipts1"));
    for receipt in receipts.as_array_mut().unwrap() {
        receipt.as_object_mut().unwrap().remove("status");
        receipt["root"] = json!(keccak256("state"));
    }
    let Err(VerifyError::ReceiptsRoot { computed, .. }) =
        check_receipts(&bytes(&receipts), &header)
    else {
        panic!("another root");
    };
    header.receipts_root = lookout_types::Hash(computed.0);
    assert_eq!(check_receipts(&bytes(&receipts), &header), Ok(Finding::Verified));
    let mut both = receipts.clone();
    both[0]["status"] = json!("0x1");
    let result = check_receipts(&bytes(&both), &header);
    assert!(matches!(result, Ok(Finding::Unverifiable(_))), "{result:?}");
    for neither in [Value::Null, json!("0x"), json!("0x01")] {
        receipts[0]["root"] = neither;
        assert!(check_receipts(&bytes(&receipts), &header).is_err());
    }
}

#[test]
fn uncles_are_listed_if_and_only_if_there_are_some() {
    let mut block = value(&anvil("block1"));
    block["uncles"] = json!([keccak256("uncle")]);
    assert!(matches!(check_block(&bytes(&block)), Err(VerifyError::Uncles { .. })));
    block["sha3Uncles"] = json!(keccak256("uncles"));
    let Err(VerifyError::HeaderHash { computed, .. }) = check_header(&bytes(&block)) else {
        panic!("another hash");
    };
    block["hash"] = json!(computed);
    for tx in block["transactions"].as_array_mut().unwrap() {
        tx["blockHash"] = json!(computed);
    }
    let (_, finding) = check_block(&bytes(&block)).unwrap();
    assert!(matches!(finding, Finding::Unverifiable(_)));
    block["uncles"] = json!([]);
    assert!(matches!(check_block(&bytes(&block)), Err(VerifyError::Uncles { .. })));
}

#[test]
fn what_is_no_block_is_named() {
    for (json, expected) in [
        ("null", "malformed answer at ``: "),
        ("<html>", "malformed answer at ``: "),
        ("{}", "malformed answer: `number` is missing"),
        (r#"{"number":"0x"}"#, "malformed answer at `number`: expected a number below 2^64"),
        (r#"{"number":7}"#, "malformed answer at `number`: "),
        (r#"{"number":"0x10000000000000000"}"#, "malformed answer at `number`: "),
        (r#"{"logsBloom":"0x00"}"#, "malformed answer at `logsBloom`: "),
    ] {
        for result in [parse_header(json.as_bytes()), check_block(json.as_bytes()).map(|b| b.0)] {
            let message = result.unwrap_err().to_string();
            assert!(message.starts_with(expected), "{json}: {message}");
        }
    }
    let long = format!(r#"{{"hash":["{}"]}}"#, "x".repeat(10_000));
    assert!(parse_header(long.as_bytes()).unwrap_err().to_string().len() < 500);
}

#[test]
fn the_order_and_place_of_transactions_count() {
    let block = value(&anvil("block1"));
    let mut swapped = block.clone();
    let list = swapped["transactions"].as_array_mut().unwrap();
    list.swap(0, 1);
    assert!(check_block(&bytes(&swapped)).is_err());
    for (i, tx) in swapped["transactions"].as_array_mut().unwrap().iter_mut().enumerate() {
        tx["transactionIndex"] = json!(format!("{i:#x}"));
    }
    assert!(matches!(check_block(&bytes(&swapped)), Err(VerifyError::TransactionsRoot { .. })));
    let mut none = block.clone();
    none["transactions"] = json!([]);
    assert!(matches!(check_block(&bytes(&none)), Err(VerifyError::TransactionsRoot { .. })));
    none.as_object_mut().unwrap().remove("transactions");
    assert!(matches!(check_block(&bytes(&none)), Err(VerifyError::Missing { .. })));
    let mut withdrawn = block;
    withdrawn["withdrawals"] = json!([{
        "index": "0x0", "validatorIndex": "0x0", "amount": "0x1",
        "address": "0x3535353535353535353535353535353535353535",
    }]);
    assert!(matches!(check_block(&bytes(&withdrawn)), Err(VerifyError::WithdrawalsRoot { .. })));
}
