//! The five transaction types as nodes write them, and as they are hashed.

use alloy_consensus::transaction::RlpEcdsaEncodableTx;
use alloy_consensus::{
    SignableTransaction, Transaction, TxEip1559, TxEip2930, TxEip4844, TxEip7702, TxLegacy,
};
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_eips::eip7702::{Authorization, SignedAuthorization};
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256};

use super::VerifyError;
use super::json::{Hex, Seconds, join, json_object, need, require};

json_object! {
    /// A transaction as nodes give it, of any type.
    TransactionJson {
        hash: Hex<B256> = "hash",
        kind: Hex<u64> = "type",
        chain_id: Hex<u64> = "chainId",
        nonce: Hex<u64> = "nonce",
        from: Hex<Address> = "from",
        to: Hex<Address> = "to",
        value: Hex<U256> = "value",
        gas: Hex<u64> = "gas",
        gas_price: Hex<u128> = "gasPrice",
        max_fee_per_gas: Hex<u128> = "maxFeePerGas",
        max_priority_fee_per_gas: Hex<u128> = "maxPriorityFeePerGas",
        max_fee_per_blob_gas: Hex<u128> = "maxFeePerBlobGas",
        blob_versioned_hashes: Vec<Hex<B256>> = "blobVersionedHashes",
        access_list: Vec<AccessJson<'a>> = "accessList",
        authorization_list: Vec<AuthorizationJson<'a>> = "authorizationList",
        input: Hex<Bytes> = "input",
        data: Hex<Bytes> = "data",
        v: Hex<u128> = "v",
        y_parity: Hex<u128> = "yParity",
        r: Hex<U256> = "r",
        s: Hex<U256> = "s",
        block_hash: Hex<B256> = "blockHash",
        block_number: Hex<u64> = "blockNumber",
        block_timestamp: Seconds = "blockTimestamp",
        transaction_index: Hex<u64> = "transactionIndex",
    }
    // Added by OpenEthereum and its heirs; nothing commits to them.
    harmless { "condition", "creates", "publicKey", "raw", "standardV" }
}

json_object! {
    /// An entry of an EIP-2930 access list.
    AccessJson {
        address: Hex<Address> = "address",
        storage_keys: Vec<Hex<B256>> = "storageKeys",
    }
    harmless {}
}

json_object! {
    /// An entry of an EIP-7702 authorization list.
    AuthorizationJson {
        chain_id: Hex<U256> = "chainId",
        address: Hex<Address> = "address",
        authority: Hex<Address> = "authority",
        nonce: Hex<u64> = "nonce",
        v: Hex<u8> = "v",
        y_parity: Hex<u8> = "yParity",
        r: Hex<U256> = "r",
        s: Hex<U256> = "s",
    }
    harmless {}
}

json_object! {
    /// What can be read of a transaction whose type, and so its shape, is not known.
    AnyTransactionJson {
        hash: Hex<B256> = "hash",
        kind: Hex<u64> = "type",
        block_hash: Hex<B256> = "blockHash",
        block_number: Hex<u64> = "blockNumber",
        transaction_index: Hex<u64> = "transactionIndex",
    }
    harmless {}
}

/// Fields of other types are under no hash, so a client must not be led to read them.
pub(super) fn require_own_fields(
    tx: &TransactionJson<'_>,
    kind: u64,
    path: &str,
) -> Result<(), VerifyError> {
    let absent = |field: &str, present: bool| {
        if present { require(&"present", &"absent", path, field) } else { Ok(()) }
    };
    if kind < 2 {
        // The price under another name is no lie.
        let price = tx.gas_price.as_ref();
        let other = |fee: &Option<Hex<u128>>| fee.is_some() && fee.as_ref() != price;
        absent("maxFeePerGas", other(&tx.max_fee_per_gas))?;
        absent("maxPriorityFeePerGas", other(&tx.max_priority_fee_per_gas))?;
    }
    let filled = |length: Option<usize>| length.is_some_and(|length| length > 0);
    if kind == 0 {
        absent("accessList", filled(tx.access_list.as_ref().map(Vec::len)))?;
    }
    if kind != 3 {
        absent("maxFeePerBlobGas", tx.max_fee_per_blob_gas.as_ref().is_some_and(|fee| fee.0 > 0))?;
        absent("blobVersionedHashes", filled(tx.blob_versioned_hashes.as_ref().map(Vec::len)))?;
    }
    if kind != 4 {
        absent("authorizationList", filled(tx.authorization_list.as_ref().map(Vec::len)))?;
    }
    Ok(())
}

/// A transaction's EIP-2718 bytes, and what recovers its sender.
pub(super) struct Encoded {
    pub(super) bytes: Vec<u8>,
    pub(super) signing_hash: B256,
    pub(super) signature: Signature,
    pub(super) value: U256,
    pub(super) input: Bytes,
    pub(super) gas: u64,
}

fn seal<T>(tx: &T, signature: Signature) -> Encoded
where
    T: Transaction + RlpEcdsaEncodableTx + SignableTransaction<Signature>,
{
    let mut bytes = Vec::with_capacity(tx.eip2718_encoded_length(&signature));
    tx.eip2718_encode(&signature, &mut bytes);
    Encoded {
        bytes,
        signing_hash: tx.signature_hash(),
        signature,
        value: tx.value(),
        input: tx.input().clone(),
        gas: tx.gas_limit(),
    }
}

/// Encodes a transaction of a known `kind`.
pub(super) fn encode(
    tx: TransactionJson<'_>,
    kind: u64,
    path: &str,
) -> Result<Encoded, VerifyError> {
    let (signature, signed_chain_id) = signature(&tx, kind, path)?;
    let nonce = need(tx.nonce, path, "nonce")?.0;
    let gas_limit = need(tx.gas, path, "gas")?.0;
    let value = need(tx.value, path, "value")?.0;
    let input = input(tx.input, tx.data, path)?;
    let to = tx.to.map_or(TxKind::Create, |to| TxKind::Call(to.0));
    let gas_price = || Ok(need(tx.gas_price.as_ref(), path, "gasPrice")?.0);
    if kind == 0 {
        // Some nodes write 0 where the signature names no chain.
        let said = tx.chain_id.or(signed_chain_id.map(Hex)).map_or(0, |id| id.0);
        require(&said, &signed_chain_id.unwrap_or(0), path, "chainId")?;
        let (chain_id, gas_price) = (signed_chain_id, gas_price()?);
        let tx = TxLegacy { chain_id, nonce, gas_price, gas_limit, to, value, input };
        return Ok(seal(&tx, signature));
    }
    let chain_id = need(tx.chain_id, path, "chainId")?.0;
    let access_list = access_list(need(tx.access_list, path, "accessList")?, path)?;
    if kind == 1 {
        let gas_price = gas_price()?;
        let tx = TxEip2930 { chain_id, nonce, gas_price, gas_limit, to, value, access_list, input };
        return Ok(seal(&tx, signature));
    }
    let max_fee_per_gas = need(tx.max_fee_per_gas, path, "maxFeePerGas")?.0;
    let max_priority_fee_per_gas =
        need(tx.max_priority_fee_per_gas, path, "maxPriorityFeePerGas")?.0;
    let dynamic = TxEip1559 {
        chain_id,
        nonce,
        gas_limit,
        max_fee_per_gas,
        max_priority_fee_per_gas,
        to,
        value,
        access_list,
        input,
    };
    match kind {
        2 => Ok(seal(&dynamic, signature)),
        3 => {
            let hashes = need(tx.blob_versioned_hashes, path, "blobVersionedHashes")?;
            let fee = need(tx.max_fee_per_blob_gas, path, "maxFeePerBlobGas")?.0;
            let hashes = hashes.into_iter().map(|hash| hash.0).collect();
            Ok(seal(&blob_carrier(dynamic, hashes, fee, path)?, signature))
        }
        _ => {
            let list = need(tx.authorization_list, path, "authorizationList")?;
            let list = authorization_list(list, path)?;
            Ok(seal(&delegation(dynamic, list, path)?, signature))
        }
    }
}

fn blob_carrier(
    tx: TxEip1559,
    blob_versioned_hashes: Vec<B256>,
    max_fee_per_blob_gas: u128,
    path: &str,
) -> Result<TxEip4844, VerifyError> {
    Ok(TxEip4844 {
        chain_id: tx.chain_id,
        nonce: tx.nonce,
        gas_limit: tx.gas_limit,
        max_fee_per_gas: tx.max_fee_per_gas,
        max_priority_fee_per_gas: tx.max_priority_fee_per_gas,
        to: *need(tx.to.to(), path, "to")?,
        value: tx.value,
        access_list: tx.access_list,
        blob_versioned_hashes,
        max_fee_per_blob_gas,
        input: tx.input,
    })
}

fn delegation(
    tx: TxEip1559,
    authorization_list: Vec<SignedAuthorization>,
    path: &str,
) -> Result<TxEip7702, VerifyError> {
    Ok(TxEip7702 {
        chain_id: tx.chain_id,
        nonce: tx.nonce,
        gas_limit: tx.gas_limit,
        max_fee_per_gas: tx.max_fee_per_gas,
        max_priority_fee_per_gas: tx.max_priority_fee_per_gas,
        to: *need(tx.to.to(), path, "to")?,
        value: tx.value,
        access_list: tx.access_list,
        authorization_list,
        input: tx.input,
    })
}

/// The signature, and the chain id that a legacy one carries inside `v` (EIP-155).
fn signature(
    tx: &TransactionJson<'_>,
    kind: u64,
    path: &str,
) -> Result<(Signature, Option<u64>), VerifyError> {
    let (r, s) = (need(tx.r.as_ref(), path, "r")?.0, need(tx.s.as_ref(), path, "s")?.0);
    let v = tx.v.as_ref().map(|v| v.0);
    let y_parity = tx.y_parity.as_ref().map(|parity| parity.0);
    let (parity, chain_id) = match (kind, v) {
        (0, Some(v @ (27 | 28))) => (v - 27, None),
        (0, Some(v @ 35..)) => ((v - 35) % 2, u64::try_from((v - 35) / 2).ok()),
        (0, v) => {
            let said = need(v, path, "v")?.to_string();
            let known = "27, 28 or at least 35".to_owned();
            return Err(VerifyError::Disagrees { field: join(path, "v"), said, known });
        }
        // Some nodes write the legacy form for typed transactions.
        (1.., Some(v @ (27 | 28))) => (v - 27, None),
        (_, v) => (need(y_parity.or(v), path, "yParity")?, None),
    };
    require(&y_parity.unwrap_or(parity), &parity, path, "yParity")?;
    if kind > 0 {
        let said = v.map_or(parity, |v| if v >= 27 { v - 27 } else { v });
        require(&said, &parity, path, "v")?;
    }
    require(&(parity <= 1), &true, path, "yParity")?;
    Ok((Signature::new(r, s, parity == 1), chain_id))
}

/// Nodes name the call data `input`, `data` or both.
fn input(
    input: Option<Hex<Bytes>>,
    data: Option<Hex<Bytes>>,
    path: &str,
) -> Result<Bytes, VerifyError> {
    if let (Some(input), Some(data)) = (&input, &data) {
        require(data, input, path, "data")?;
    }
    Ok(need(input.or(data), path, "input")?.0)
}

fn access_list(list: Vec<AccessJson<'_>>, path: &str) -> Result<AccessList, VerifyError> {
    let path = join(path, "accessList[]");
    let item = |item: AccessJson<'_>| {
        let keys = need(item.storage_keys, &path, "storageKeys")?;
        Ok(AccessListItem {
            address: need(item.address, &path, "address")?.0,
            storage_keys: keys.into_iter().map(|key| key.0).collect(),
        })
    };
    list.into_iter().map(item).collect::<Result<_, _>>().map(AccessList)
}

fn authorization_list(
    list: Vec<AuthorizationJson<'_>>,
    path: &str,
) -> Result<Vec<SignedAuthorization>, VerifyError> {
    let path = join(path, "authorizationList[]");
    let item = |item: AuthorizationJson<'_>| {
        if let (Some(v), Some(y_parity)) = (&item.v, &item.y_parity) {
            require(v, y_parity, &path, "v")?;
        }
        // Any byte may stand here: an authorization with a wrong one is skipped, not refused.
        let parity = need(item.y_parity.or(item.v), &path, "yParity")?;
        let inner = Authorization {
            chain_id: need(item.chain_id, &path, "chainId")?.0,
            address: need(item.address, &path, "address")?.0,
            nonce: need(item.nonce, &path, "nonce")?.0,
        };
        let (r, s) = (need(item.r, &path, "r")?.0, need(item.s, &path, "s")?.0);
        let signed = SignedAuthorization::new_unchecked(inner, parity.0, r, s);
        // Some nodes add who signed.
        if let Some(said) = item.authority {
            require(&Some(said.0), &signed.recover_authority().ok(), &path, "authority")?;
        }
        Ok(signed)
    };
    list.into_iter().map(item).collect()
}
