//! `eth_getProof` (EIP-1186): from an account's fields to the state root of a header.

use alloy_primitives::{B256, Bytes, U256, keccak256};
use alloy_rlp::{Decodable, EMPTY_STRING_CODE};
use alloy_trie::nodes::{RlpNode, TrieNode};
use alloy_trie::{EMPTY_ROOT_HASH, KECCAK_EMPTY, Nibbles, TrieAccount};
use lookout_types::{Address, Hash};

use super::VerifyError;
use super::json::{Hex, json_object, need, parse, require};

json_object! {
    /// An `eth_getProof` result.
    AccountProofJson {
        address: Hex<alloy_primitives::Address> = "address",
        account_proof: Vec<Hex<Bytes>> = "accountProof",
        balance: Hex<U256> = "balance",
        nonce: Hex<u64> = "nonce",
        code_hash: Hex<B256> = "codeHash",
        storage_hash: Hex<B256> = "storageHash",
        storage_proof: Vec<SlotProofJson<'a>> = "storageProof",
    }
    harmless {}
}

json_object! {
    /// The proof of one storage slot.
    SlotProofJson {
        key: Hex<U256> = "key",
        value: Hex<U256> = "value",
        proof: Vec<Hex<Bytes>> = "proof",
    }
    harmless {}
}

/// An account as a state root commits to it; all zero and empty where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProvedAccount {
    /// In wei.
    pub(crate) balance: U256,
    /// Transactions sent, or contracts created.
    pub(crate) nonce: u64,
    /// Keccak-256 of its code.
    pub(crate) code_hash: Hash,
    /// Root of its storage.
    pub(crate) storage_hash: Hash,
    /// Each slot of the answer, with its value.
    pub(crate) storage: Vec<(Hash, U256)>,
}

/// Checks the proof of an account, or of its absence, and of all storage slots in the answer.
///
/// Which slots were asked for is the caller's to compare with [`ProvedAccount::storage`].
///
/// # Errors
/// [`VerifyError::Proof`] says of what; otherwise names the field that is wrong.
pub(crate) fn check_account_proof(
    proof_json: &[u8],
    address: Address,
    state_root: Hash,
) -> Result<ProvedAccount, VerifyError> {
    let answer: AccountProofJson<'_> = parse(proof_json, "")?;
    if let Some(said) = answer.address {
        require(&said.0.into_array(), &address.0, "", "address")?;
    }
    let said = TrieAccount {
        balance: need(answer.balance, "", "balance")?.0,
        nonce: need(answer.nonce, "", "nonce")?.0,
        code_hash: need(answer.code_hash, "", "codeHash")?.0,
        storage_root: need(answer.storage_hash, "", "storageHash")?.0,
    };
    let proof = need(answer.account_proof, "", "accountProof")?;
    let root = B256::new(state_root.0);
    let account = prove_account(said, &proof, address, root)?;
    let mut storage = Vec::new();
    for (i, slot) in answer.storage_proof.unwrap_or_default().into_iter().enumerate() {
        storage.push(prove_slot(slot, account.storage_root, &format!("storageProof[{i}]"))?);
    }
    Ok(ProvedAccount {
        balance: account.balance,
        nonce: account.nonce,
        code_hash: Hash(account.code_hash.0),
        storage_hash: Hash(account.storage_root.0),
        storage,
    })
}

fn prove_account(
    said: TrieAccount,
    proof: &[Hex<Bytes>],
    address: Address,
    root: B256,
) -> Result<TrieAccount, VerifyError> {
    let wrong = || VerifyError::Proof { of: format!("account {address}"), root };
    let proved = value_at(root, keccak256(address.0), proof).ok_or_else(wrong)?;
    if let Some(leaf) = proved {
        return if leaf == alloy_rlp::encode(said) { Ok(said) } else { Err(wrong()) };
    }
    // Where there is no account, nodes write hashes of nothing or no hashes.
    let nothing = |hash: B256, of_nothing: B256| hash.is_zero() || hash == of_nothing;
    let absent = said.balance.is_zero()
        && said.nonce == 0
        && nothing(said.code_hash, KECCAK_EMPTY)
        && nothing(said.storage_root, EMPTY_ROOT_HASH);
    if absent { Ok(TrieAccount::default()) } else { Err(wrong()) }
}

fn prove_slot(
    slot: SlotProofJson<'_>,
    storage_root: B256,
    path: &str,
) -> Result<(Hash, U256), VerifyError> {
    let key = B256::from(need(slot.key, path, "key")?.0);
    let value = need(slot.value, path, "value")?.0;
    let proof = need(slot.proof, path, "proof")?;
    // A slot of zero is not in the trie.
    let leaf = (!value.is_zero()).then(|| alloy_rlp::encode(value));
    if value_at(storage_root, keccak256(key), &proof) == Some(leaf) {
        return Ok((Hash(key.0), value));
    }
    Err(VerifyError::Proof { of: format!("{path}, storage slot {key}"), root: storage_root })
}

/// What the proof shows to be at a key: `Some(None)` for nothing, `None` if it shows neither.
///
/// Alloy's `verify_proof` (0.9) panics on nodes whose paths together are longer than a key. Only a
/// forged root has such nodes, but a root may come from the node that is being checked.
fn value_at(root: B256, key: B256, proof: &[Hex<Bytes>]) -> Option<Option<Vec<u8>>> {
    let mut unread = proof.iter().map(|node| node.0.as_ref());
    if root == EMPTY_ROOT_HASH {
        // Nodes send the empty root itself, or nothing.
        return unread.all(|node| node == [EMPTY_STRING_CODE]).then_some(None);
    }
    let key = Nibbles::unpack(key);
    let (mut walked, mut next) = (0, RlpNode::word_rlp(&root));
    let value = loop {
        let node = match next.as_hash() {
            Some(hash) => unread.next().filter(|node| keccak256(node) == hash)?,
            // A node shorter than its hash stands inside its parent.
            None => next.as_slice(),
        };
        let rest = key.slice(walked..);
        next = match TrieNode::decode(&mut &*node).ok()? {
            TrieNode::Branch(branch) => {
                let nibble = rest.get(0)?;
                walked += 1;
                match branch.as_ref().children().find(|(at, _)| *at == nibble)?.1 {
                    Some(child) => child.clone(),
                    None => break None,
                }
            }
            TrieNode::Extension(extension) => {
                if extension.key.is_empty() {
                    return None;
                }
                if !rest.starts_with(&extension.key) {
                    break None;
                }
                walked += extension.key.len();
                extension.child
            }
            TrieNode::Leaf(leaf) => break (leaf.key == rest).then_some(leaf.value),
            TrieNode::EmptyRoot => return None,
        };
    };
    // Nodes beyond the end would be under no hash.
    unread.next().is_none().then_some(value)
}
