//! Recorded account and storage proofs verify; corrupted, foreign and forged ones do not.

use alloy_primitives::{B256, U256, hex, keccak256};
use alloy_rlp::Encodable;
use alloy_trie::Nibbles;
use alloy_trie::nodes::{ExtensionNode, LeafNode, RlpNode};
use lookout_types::{Address, Hash};
use serde_json::json;

use super::super::*;
use super::data::{anvil, bytes, recorded, texts, value};

/// Block, proof, address and balance of the two recorded proofs, and of anvil's.
fn proofs() -> Vec<(Hash, Vec<u8>, Address)> {
    let mut proofs = Vec::new();
    for (block, proof) in [
        ("proof_block.json", "storage_proof.json"),
        ("mainnet-21925176/block.json", "mainnet-21925176/proof.json"),
    ] {
        let (Some(block), Some(proof)) = (recorded(block), recorded(proof)) else { continue };
        proofs.push((check_header(&block).unwrap().0.state_root, proof));
    }
    let root = parse_header(&anvil("proof_root")).unwrap().state_root;
    proofs.extend(["proof_contract", "proof_absent", "proof_eoa"].map(|name| (root, anvil(name))));
    let address = |proof: &[u8]| value(proof)["address"].as_str().unwrap().parse().unwrap();
    proofs.into_iter().map(|(root, proof)| (root, proof.clone(), address(&proof))).collect()
}

#[test]
fn recorded_proofs_verify() {
    for (root, proof, address) in proofs() {
        let account = check_account_proof(&proof, address, root).unwrap();
        let json = value(&proof);
        assert_eq!(format!("{:#x}", account.balance), json["balance"]);
        assert_eq!(format!("{:#x}", account.nonce), json["nonce"]);
        assert_eq!(account.storage.len(), json["storageProof"].as_array().unwrap().len());
    }
    let weth = "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2".parse().unwrap();
    if let Some((root, proof, _)) = proofs().into_iter().find(|(.., address)| *address == weth) {
        let account = check_account_proof(&proof, weth, root).unwrap();
        assert_eq!(account.balance, U256::from(0x1_d663_f6a4_afc5_b01a_bb5d_u128));
    }
}

#[test]
fn every_digit_of_a_proof_is_committed() {
    for (root, proof, address) in proofs() {
        for text in texts(&proof) {
            for digit in 0..text.digits {
                let by = u32::try_from(digit % 15 + 1).unwrap();
                let copy = text.corrupt(&proof, digit, by);
                let result = check_account_proof(&copy, address, root);
                // One proof may show that several slots are empty; the answer says of which.
                let empty_slot = text.pattern() == "storageProof[].key";
                let Ok(account) = result else { continue };
                let genuine = check_account_proof(&proof, address, root).unwrap();
                let mut pairs = account.storage.iter().zip(&genuine.storage);
                let moved = pairs.find(|(said, asked)| said != asked);
                let is_empty = moved.is_some_and(|(said, asked)| {
                    said.0 != asked.0 && said.1.is_zero() && asked.1.is_zero()
                });
                assert!(empty_slot && is_empty, "{} {digit}", text.path);
            }
        }
    }
}

#[test]
fn a_proof_holds_only_for_its_address_and_root() {
    for (root, proof, address) in proofs() {
        let other = Address([0x11; 20]);
        assert!(check_account_proof(&proof, other, root).is_err());
        let mut anonymous = value(&proof);
        anonymous.as_object_mut().unwrap().remove("address");
        assert!(check_account_proof(&bytes(&anonymous), address, root).is_ok());
        assert!(check_account_proof(&bytes(&anonymous), other, root).is_err());
        assert!(check_account_proof(&proof, address, Hash([7; 32])).is_err());
        for cut in ["accountProof", "storageProof"] {
            let mut shorter = value(&proof);
            let list = shorter[cut].as_array_mut().unwrap();
            let list = match cut {
                "accountProof" => list,
                _ => match list.first_mut().map(|slot| slot["proof"].as_array_mut().unwrap()) {
                    // The empty storage of an account without one needs no nodes.
                    Some(nodes) if nodes[0] != "0x80" => nodes,
                    _ => continue,
                },
            };
            list.pop();
            assert!(check_account_proof(&bytes(&shorter), address, root).is_err(), "{cut}");
        }
        let mut longer = value(&proof);
        longer["accountProof"].as_array_mut().unwrap().push(json!("0x80"));
        assert!(check_account_proof(&bytes(&longer), address, root).is_err());
    }
}

#[test]
fn an_account_cannot_be_passed_off_as_absent_nor_the_other_way_round() {
    for (root, proof, address) in proofs() {
        for (balance, nonce) in [("0x0", "0x0"), ("0x1", "0x0"), ("0x0", "0x1")] {
            for code in [B256::ZERO, alloy_trie::KECCAK_EMPTY] {
                for storage in [B256::ZERO, alloy_trie::EMPTY_ROOT_HASH] {
                    let mut said = value(&proof);
                    said["balance"] = json!(balance);
                    said["nonce"] = json!(nonce);
                    said["codeHash"] = json!(code);
                    said["storageHash"] = json!(storage);
                    let result = check_account_proof(&bytes(&said), address, root);
                    let is_absent = address == Address([0x12; 20]);
                    let says_absent = (balance, nonce) == ("0x0", "0x0");
                    assert_eq!(result.is_ok(), is_absent && says_absent, "{address} {said}");
                    if let Ok(account) = result {
                        assert_eq!(account.code_hash.0, alloy_trie::KECCAK_EMPTY.0);
                        assert_eq!(account.storage_hash.0, alloy_trie::EMPTY_ROOT_HASH.0);
                    }
                }
            }
        }
    }
}

/// A node may make up a header and so a root, with paths longer than any key.
#[test]
fn a_forged_trie_is_refused_without_panic() {
    let address = Address([0x42; 20]);
    let key = Nibbles::unpack(keccak256(address.0));
    let encoded = |node: &dyn Encodable| {
        let mut bytes = Vec::new();
        node.encode(&mut bytes);
        bytes
    };
    let leaf = encoded(&LeafNode::new(key, vec![0xc0; 40]));
    let extension = encoded(&ExtensionNode::new(key, RlpNode::from_rlp(&leaf)));
    let empty_step = encoded(&ExtensionNode::new(Nibbles::new(), RlpNode::from_rlp(&leaf)));
    let mut branch = vec![0xf8, 33 + 16];
    branch.push(0xa0);
    branch.extend(keccak256(&leaf));
    branch.extend([0x80; 16]);
    let after_key = encoded(&ExtensionNode::new(key, RlpNode::from_rlp(&branch)));
    for nodes in [
        vec![extension, leaf.clone()],
        vec![empty_step, leaf],
        vec![after_key, branch],
        vec![vec![0x80]],
        vec![vec![0xc0]],
        vec![vec![0xf9, 0xff, 0xff]],
        vec![vec![0xc2, 0x80, 0x80]],
        vec![Vec::new()],
        vec![],
    ] {
        let root = nodes.first().map_or(B256::ZERO, keccak256);
        let nodes: Vec<_> = nodes.iter().map(hex::encode_prefixed).collect();
        let answer = json!({
            "address": address.to_string(), "accountProof": nodes, "balance": "0x1",
            "nonce": "0x0", "codeHash": alloy_trie::KECCAK_EMPTY,
            "storageHash": alloy_trie::EMPTY_ROOT_HASH, "storageProof": [],
        });
        let result = check_account_proof(&bytes(&answer), address, Hash(root.0));
        assert!(result.is_err(), "{answer}");
    }
}
