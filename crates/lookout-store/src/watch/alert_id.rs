//! The id of an alert: a function of what is matched, so that every rebuild gives it again.

use lookout_types::{ChainId, Hash, UnixSeconds};
use sha2::{Digest, Sha256};
use uuid::Builder;

/// Latest time that a version 7 id can hold: 48 bits of milliseconds.
const MILLIS_MAX: u64 = (1 << 48) - 1;

/// What an alert is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertKey {
    /// The rule's id.
    pub rule_id: String,
    /// The rule's version.
    pub rule_version: u32,
    /// The chain.
    pub chain: ChainId,
    /// The block's hash.
    pub block_hash: Hash,
    /// The block's time.
    pub block_time: UnixSeconds,
    /// Which record of the block: bytes that no other record of a block has.
    pub record: Vec<u8>,
}

/// A `UUIDv7` of the block's time and a SHA-256 over the rest of the key and the occurrence.
///
/// Ids sort by the time of their blocks. A time beyond the year 10889 counts as that year.
pub fn alert_id(key: &AlertKey, occurrence: u64) -> String {
    let mut hash = Sha256::new();
    hash.update(b"lookout alert 1");
    // Each part has a length of its own or one in front, so no two keys give the same bytes.
    for part in [key.rule_id.as_bytes(), &key.record] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.update(key.rule_version.to_be_bytes());
    hash.update(key.chain.0.to_be_bytes());
    hash.update(key.block_hash.0);
    hash.update(occurrence.to_be_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let mut random = [0; 10];
    random.copy_from_slice(&digest[..10]);
    let millis = key.block_time.saturating_mul(1000).min(MILLIS_MAX);
    Builder::from_unix_timestamp_millis(millis, &random).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn key() -> AlertKey {
        AlertKey {
            rule_id: "0192-rule".to_owned(),
            rule_version: 3,
            chain: ChainId(1),
            block_hash: Hash([7; 32]),
            block_time: 1_700_000_000,
            record: vec![1, 2, 3],
        }
    }

    #[test]
    fn an_id_is_fixed_for_good() {
        // Stored ids must be found again by every later version: this text may not change.
        assert_eq!(alert_id(&key(), 1), "018bcfe5-6800-73b2-a04c-50169251610a");
    }

    #[test]
    fn every_part_counts_but_the_time_only_sorts() {
        let changes: [fn(&mut AlertKey); 7] = [
            |_| {},
            |key| key.rule_id.push('x'),
            |key| key.rule_version = 4,
            |key| key.chain = ChainId(2),
            |key| key.block_hash.0[31] = 8,
            |key| key.record.push(0),
            |key| key.block_time += 1,
        ];
        let mut ids: BTreeSet<String> = BTreeSet::new();
        for change in changes {
            let mut key = key();
            change(&mut key);
            ids.insert(alert_id(&key, 1));
            ids.insert(alert_id(&key, 2));
        }
        assert_eq!(ids.len(), 14);
        let late = alert_id(&AlertKey { block_time: 1_700_000_001, ..key() }, 1);
        assert_eq!(ids.range(late..).count(), 2, "ids sort by the time of the block");
        let absurd = AlertKey { block_time: u64::MAX, ..key() };
        assert!(alert_id(&absurd, 1).starts_with("ffffffff-ffff-7"));
    }
}
