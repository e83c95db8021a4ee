//! Balances as rules saw them.

use lookout_types::{BlockRef, ChainId, Height};
use sqlx::{AnyConnection, Row};

use super::rows::Insert;
use super::to_number;
use crate::{Store, StoreError};

const READING: &str = "reading balances kept";
const KEEPING: &str = "keeping balances";

/// A balance read at a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptBalance {
    /// The account, as text.
    pub account: String,
    /// The asset, as text.
    pub asset: String,
    /// The block.
    pub block: BlockRef,
    /// The balance in smallest units, decimal.
    pub balance: String,
}

impl Store {
    /// The balance of an account at its newest reading below a height; `None` before the first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn kept_balance(
        &self,
        chain: ChainId,
        account: &str,
        asset: &str,
        below: Height,
    ) -> Result<Option<String>, StoreError> {
        let failed = StoreError::database(READING);
        let row = sqlx::query(
            "SELECT balance FROM balance_readings \
             WHERE chain_id = $1 AND account = $2 AND asset = $3 AND height < $4 \
             ORDER BY height DESC LIMIT 1",
        )
        .bind(to_number(chain.0)?)
        .bind(account.to_owned())
        .bind(asset.to_owned())
        .bind(to_number(below)?)
        .fetch_optional(self.pool())
        .await
        .map_err(&failed)?;
        row.map(|row| row.try_get("balance").map_err(&failed)).transpose()
    }
}

pub(super) async fn keep(
    store: &Store,
    connection: &mut AnyConnection,
    chain: ChainId,
    balances: &[KeptBalance],
) -> Result<(), StoreError> {
    let insert = Insert {
        before: "INSERT INTO balance_readings \
                 (chain_id, account, asset, height, block_hash, balance)",
        columns: 6,
        after: "ON CONFLICT (chain_id, account, asset, height) \
                DO UPDATE SET block_hash = excluded.block_hash, balance = excluded.balance",
        doing: KEEPING,
    };
    let chain = to_number(chain.0)?;
    let bind = |query: super::rows::Bound, kept: &KeptBalance| {
        Ok(query
            .bind(chain)
            .bind(kept.account.clone())
            .bind(kept.asset.clone())
            .bind(to_number(kept.block.number)?)
            .bind(kept.block.hash.0.to_vec())
            .bind(kept.balance.clone()))
    };
    insert.run(store.engine(), connection, balances, bind).await.map(|_| ())
}

/// Forgets readings from a height on.
pub(super) async fn undo(
    connection: &mut AnyConnection,
    chain: ChainId,
    from: Height,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM balance_readings WHERE chain_id = $1 AND height >= $2")
        .bind(to_number(chain.0)?)
        .bind(to_number(from)?)
        .execute(connection)
        .await
        .map_err(StoreError::database(KEEPING))
        .map(|_| ())
}

/// Forgets readings that no undo can bring back: those with a newer one that is final.
pub(super) async fn prune(
    connection: &mut AnyConnection,
    chain: ChainId,
    final_height: Height,
) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM balance_readings WHERE chain_id = $1 AND height < $2 AND EXISTS \
         (SELECT 1 FROM balance_readings newer WHERE newer.chain_id = balance_readings.chain_id \
          AND newer.account = balance_readings.account AND newer.asset = balance_readings.asset \
          AND newer.height > balance_readings.height AND newer.height <= $2)",
    )
    .bind(to_number(chain.0)?)
    .bind(to_number(final_height)?)
    .execute(connection)
    .await
    .map_err(StoreError::database(KEEPING))
    .map(|_| ())
}
