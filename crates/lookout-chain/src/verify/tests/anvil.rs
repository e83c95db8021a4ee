//! Anvil's own answers verify.

use lookout_types::Hash;

use super::super::*;
use super::data::{anvil, value};

#[test]
fn blocks_receipts_and_logs_verify() {
    let mut previous = None;
    for (block, receipts) in [("block1", "receipts1"), ("block2", "receipts2")] {
        let (block, receipts) = (anvil(block), anvil(receipts));
        let (header, finding) = check_block(&block).unwrap();
        assert_eq!(finding, Finding::Verified);
        assert_eq!(check_receipts(&receipts, &header), Ok(Finding::Verified));
        assert_eq!(check_receipts_in_block(&receipts, &block), Ok(Finding::Verified));
        let records = read_records(&block, &receipts).unwrap();
        assert!(records.transactions.iter().any(|own| own.outcome.is_some_and(|o| o.success)));
        let checked = read_block(&block).unwrap().with_receipts(&receipts);
        assert_eq!(checked, Ok((Finding::Verified, Some(records))));
        if let Some(parent) = previous.replace(header.reference) {
            check_parent(&header, parent).unwrap();
        }
    }
    let header = parse_header(&anvil("block2")).unwrap();
    check_receipt(&anvil("receipt_one"), Some(&header)).unwrap();
    assert_eq!(check_logs(&anvil("logs2"), &header, &[], &[]), Ok(LogsFinding::Consistent));
    let nobody = "0xa0Ee7A142d267C1f36714E4a8F75612F20a79720".parse().unwrap();
    let none = check_logs(&anvil("logs_none"), &header, &[nobody], &[]);
    assert_eq!(none, Ok(LogsFinding::Consistent));
    let by_hash = check_block(&anvil("hashes2")).unwrap();
    assert!(matches!(by_hash.1, Finding::Unverifiable(_)));
    assert_eq!(check_header(&anvil("hashes2")).unwrap(), (header, Finding::Verified));
}

#[test]
fn a_contract_is_created_by_creations_only() {
    let (block, receipts) = (anvil("block2"), anvil("receipts2"));
    for (i, said, is_right) in [
        (0, serde_json::json!("0x5fbdb2315678afecb367f032d93f642f64180aa3"), false),
        (2, serde_json::Value::Null, false),
        (3, serde_json::Value::Null, true),
    ] {
        let mut changed = value(&receipts);
        changed[i]["contractAddress"] = said;
        let result = check_receipts_in_block(&super::data::bytes(&changed), &block);
        assert_eq!(result.is_ok(), is_right, "{i}: {result:?}");
    }
}

#[test]
fn an_impersonated_sender_is_unverifiable_and_no_lie() {
    let (_, finding) = check_block(&anvil("block3")).unwrap();
    assert!(matches!(finding, Finding::Unverifiable(_)), "{finding:?}");
}

#[test]
fn proofs_of_accounts_there_and_not_there_verify() {
    let root = parse_header(&anvil("proof_root")).unwrap().state_root;
    let prove = |answer: &str| -> crate::verify::proof::ProvedAccount {
        let answer = anvil(answer);
        let address = value(&answer)["address"].as_str().unwrap().parse().unwrap();
        check_account_proof(&answer, address, root).unwrap()
    };
    let eoa = prove("proof_eoa");
    assert_eq!(format!("{:#x}", eoa.balance), value(&anvil("proof_eoa"))["balance"]);
    assert_eq!(eoa.nonce, 2);
    let slot = |last: u8| {
        let mut key = [0; 32];
        key[31] = last;
        Hash(key)
    };
    let contract = prove("proof_contract");
    let expected = [(slot(7), 42), (slot(8), 0)];
    assert_eq!(contract.storage, expected.map(|(key, v)| (key, alloy_primitives::U256::from(v))));
    let absent = prove("proof_absent");
    assert!(absent.balance.is_zero());
    assert_eq!(absent.nonce, 0);
}
