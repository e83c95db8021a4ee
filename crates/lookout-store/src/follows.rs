//! What the held blocks of each chain were followed for.

use lookout_types::ChainId;
use sqlx::Row;

use crate::{Store, StoreError};

const READING: &str = "reading what a chain is followed for";
const WRITING: &str = "writing what a chain is followed for";

impl Store {
    /// What the held blocks of a chain were followed for, in the publisher's words; `None` before the
    /// first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn followed_wants(&self, chain: ChainId) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT wants FROM follows WHERE chain_id = $1")
            .bind(chain.0.cast_signed())
            .fetch_optional(self.pool())
            .await
            .map_err(StoreError::database(READING))?;
        row.map(|row| row.try_get("wants").map_err(StoreError::database(READING))).transpose()
    }

    /// Notes what the blocks of a chain are followed for from now on.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn set_followed_wants(&self, chain: ChainId, wants: &str) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO follows (chain_id, wants) VALUES ($1, $2) \
             ON CONFLICT (chain_id) DO UPDATE SET wants = excluded.wants",
        )
        .bind(chain.0.cast_signed())
        .bind(wants.to_owned())
        .execute(self.pool())
        .await
        .map_err(StoreError::database(WRITING))?;
        Ok(())
    }
}
