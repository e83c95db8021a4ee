//! Which record of a block: as JSON for people, and as bytes for ids.

use lookout_abi::DecodeError;
use lookout_rules::RecordKey;
use lookout_types::Asset;
use serde::Serialize;

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum RecordJson {
    Log { transaction: String, log_index: u32 },
    Transaction { transaction: String },
    Transfer { transaction: String, log_index: Option<u32>, batch_index: u32 },
    Balance { account: String, asset: String },
    Block {},
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Undecoded {
    #[serde(flatten)]
    record: RecordJson,
    decode_error: String,
}

/// The record as a JSON object.
pub(super) fn json(record: &RecordKey) -> String {
    // Strings and numbers always have a JSON form.
    serde_json::to_string(&of(record)).unwrap_or_default()
}

fn of(record: &RecordKey) -> RecordJson {
    match *record {
        RecordKey::Log { transaction, log_index } => {
            RecordJson::Log { transaction: transaction.to_string(), log_index }
        }
        RecordKey::Transaction { hash } => {
            RecordJson::Transaction { transaction: hash.to_string() }
        }
        RecordKey::Transfer { transaction, log_index, batch_index } => {
            RecordJson::Transfer { transaction: transaction.to_string(), log_index, batch_index }
        }
        RecordKey::Balance { account, asset } => {
            RecordJson::Balance { account: account.to_string(), asset: asset_text(&asset) }
        }
        RecordKey::Block => RecordJson::Block {},
    }
}

/// A record that does not decode, with the reason, as the events route has it.
pub(super) fn undecoded(record: &RecordKey, error: &DecodeError) -> String {
    let json = Undecoded { record: of(record), decode_error: error.to_string() };
    serde_json::to_string(&json).unwrap_or_default()
}

/// Bytes that differ for any two records of a block. Ids are made of them, so they may not change.
pub(super) fn bytes(record: &RecordKey) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(48);
    match record {
        RecordKey::Log { transaction, log_index } => {
            bytes.push(1);
            bytes.extend(transaction.0);
            bytes.extend(log_index.to_be_bytes());
        }
        RecordKey::Transaction { hash } => {
            bytes.push(2);
            bytes.extend(hash.0);
        }
        RecordKey::Transfer { transaction, log_index, batch_index } => {
            bytes.push(3);
            bytes.extend(transaction.0);
            // A native transfer has no log: 0, and any other its position from 1.
            bytes.extend(log_index.map_or(0, |index| u64::from(index) + 1).to_be_bytes());
            bytes.extend(batch_index.to_be_bytes());
        }
        RecordKey::Balance { account, asset } => {
            bytes.push(4);
            bytes.extend(account.0);
            bytes.extend(asset_text(asset).into_bytes());
        }
        RecordKey::Block => bytes.push(5),
    }
    bytes
}

/// The asset in words: `native`, `erc20:0x…`, `erc721:0x…/7`.
pub(super) fn asset_text(asset: &Asset) -> String {
    match asset {
        Asset::Native => "native".to_owned(),
        Asset::Erc20(contract) => format!("erc20:{contract}"),
        Asset::Erc721 { contract, id } => format!("erc721:{contract}/{id}"),
        Asset::Erc1155 { contract, id } => format!("erc1155:{contract}/{id}"),
    }
}

/// The asset that [`asset_text`] gives this text, of those that have balances.
pub(super) fn asset_of(text: &str) -> Option<Asset> {
    match text.strip_prefix("erc20:") {
        Some(contract) => contract.parse().ok().map(Asset::Erc20),
        None => (text == "native").then_some(Asset::Native),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lookout_types::{Address, Amount, Hash};
    use serde_json::{Value, json as value};

    use super::*;

    #[test]
    fn records_read_well_and_their_bytes_differ() {
        let (transaction, account) = (Hash([7; 32]), Address([1; 20]));
        let hash = transaction.to_string();
        let transfer =
            |log_index, batch_index| RecordKey::Transfer { transaction, log_index, batch_index };
        let contract = Address([2; 20]);
        let asset = Asset::Erc721 { contract, id: Amount("7".parse().unwrap()) };
        let cases = [
            (
                RecordKey::Log { transaction, log_index: 0 },
                value!({"kind": "log", "transaction": hash, "logIndex": 0}),
            ),
            (
                RecordKey::Transaction { hash: transaction },
                value!({"kind": "transaction", "transaction": hash}),
            ),
            (
                transfer(None, 0),
                value!({"kind": "transfer", "transaction": hash, "logIndex": null, "batchIndex": 0}),
            ),
            (
                transfer(Some(0), 0),
                value!({"kind": "transfer", "transaction": hash, "logIndex": 0, "batchIndex": 0}),
            ),
            (
                RecordKey::Balance { account, asset },
                value!({"kind": "balance", "account": account.to_string(),
                        "asset": format!("erc721:{contract}/7")}),
            ),
            (
                RecordKey::Balance { account, asset: Asset::Native },
                value!({"kind": "balance", "account": account.to_string(), "asset": "native"}),
            ),
            (RecordKey::Block, value!({"kind": "block"})),
        ];
        for (record, expected) in &cases {
            assert_eq!(serde_json::from_str::<Value>(&json(record)).unwrap(), *expected);
        }
        for asset in [Asset::Native, Asset::Erc20(contract)] {
            assert_eq!(asset_of(&asset_text(&asset)), Some(asset));
        }
        assert_eq!((asset_of("erc20:x"), asset_of(&asset_text(&asset))), (None, None));
        let all: BTreeSet<_> = cases.iter().map(|(record, _)| bytes(record)).collect();
        assert_eq!(all.len(), cases.len());
    }
}
