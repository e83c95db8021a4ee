//! How far the consumers that commit to the store have come, for those who watch them.

use lookout_types::{BlockRef, ChainId, Cursor, Hash};
use sqlx::Row;
use sqlx::any::AnyRow;

use crate::{Store, StoreError};

const READING: &str = "reading the consumers";

impl Store {
    /// The consumers of a chain by name, each with the last frame whose effects it has committed.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn consumer_cursors(
        &self,
        chain: ChainId,
    ) -> Result<Vec<(String, Cursor)>, StoreError> {
        let id = i64::try_from(chain.0).map_err(|_| {
            StoreError::Invalid(format!("chain {chain} is above what the store keeps"))
        })?;
        let rows = sqlx::query(
            "SELECT name, sequence, head_height, head_hash FROM consumers \
             WHERE chain_id = $1 ORDER BY name",
        )
        .bind(id)
        .fetch_all(self.pool())
        .await
        .map_err(StoreError::database(READING))?;
        rows.iter().map(|row| read(row, chain)).collect()
    }
}

fn read(row: &AnyRow, chain: ChainId) -> Result<(String, Cursor), StoreError> {
    let failed = StoreError::database(READING);
    let name: String = row.try_get("name").map_err(&failed)?;
    let sequence: i64 = row.try_get("sequence").map_err(&failed)?;
    let height: Option<i64> = row.try_get("head_height").map_err(&failed)?;
    let hash: Option<Vec<u8>> = row.try_get("head_hash").map_err(&failed)?;
    let cursor = || {
        let head = match (height, hash) {
            (Some(height), Some(hash)) => Some(BlockRef {
                number: u64::try_from(height).ok()?,
                hash: Hash(hash.try_into().ok()?),
            }),
            _ => None,
        };
        Some(Cursor { chain, sequence: u64::try_from(sequence).ok()?, head })
    };
    let corrupt = || StoreError::Corrupt(format!("consumer `{name}` of chain {chain}"));
    Ok((name.clone(), cursor().ok_or_else(corrupt)?))
}
