//! Retention: deleting old blocks, some at a time.

use lookout_types::{ChainId, Height};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::apply::{check_epoch, remove_block};
use super::keys::{EPOCH_BLOCKS, Key};
use super::schema::{self, ChainRow};
use super::writer::Writer;
use crate::WarehouseError;

/// Blocks deleted one by one in a transaction, where their epoch is not deleted whole: some tens of
/// milliseconds on full mainnet blocks, for which frames wait.
const BLOCKS_AT_ONCE: u64 = 256;

/// An epoch as its rows describe it.
struct Epoch {
    epoch: u64,
    /// Its first height when it began; some of its blocks may be gone.
    height: Height,
    /// The first height of the next one.
    next: Option<Height>,
}

impl Writer {
    /// Deletes some blocks below `height`, oldest first, and returns how many; 0 when none is left.
    pub(super) fn retain_some(
        &mut self,
        chain: ChainId,
        height: Height,
    ) -> Result<u64, WarehouseError> {
        let failed = WarehouseError::database("deleting old blocks");
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(&failed)?;
        check_epoch(&transaction, self.epoch)?;
        let Some(mut row) = schema::chain_row(&transaction, chain)? else { return Ok(0) };
        let Some((low, head)) = schema::held(&transaction, &row)? else { return Ok(0) };
        let end = height.min(head);
        if low >= end {
            return Ok(0);
        }
        let epoch = lowest_epoch(&transaction, &row)?;
        let deleted = match epoch.next {
            Some(next) if next <= end => drop_epoch(&transaction, &row, &epoch, next)?,
            _ => {
                let end = end.min(low + BLOCKS_AT_ONCE);
                for height in low..end {
                    remove_block(&transaction, &row, height, epoch.epoch, epoch.height)?;
                }
                end - low
            }
        };
        row.retained = true;
        schema::save_chain(&transaction, &row)?;
        transaction.commit().map_err(&failed)?;
        // It does not know yet that blocks are gone.
        self.chains.remove(&chain);
        Ok(deleted)
    }
}

fn lowest_epoch(connection: &Connection, row: &ChainRow) -> Result<Epoch, WarehouseError> {
    let failed = WarehouseError::database("reading an epoch");
    let n = row.number;
    let sql = format!("SELECT epoch, height FROM epochs_{n} ORDER BY epoch LIMIT 1");
    let (epoch, height): (i64, i64) =
        connection.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?))).map_err(&failed)?;
    let sql = format!("SELECT height FROM epochs_{n} WHERE epoch = ?1");
    let next: Option<i64> =
        connection.query_row(&sql, [epoch + 1], |row| row.get(0)).optional().map_err(&failed)?;
    Ok(Epoch {
        epoch: epoch.cast_unsigned(),
        height: height.cast_unsigned(),
        next: next.map(i64::cast_unsigned),
    })
}

/// Deletes an epoch with all its blocks and entries, without looking at them.
fn drop_epoch(
    connection: &Connection,
    row: &ChainRow,
    epoch: &Epoch,
    next: Height,
) -> Result<u64, WarehouseError> {
    let failed = WarehouseError::database("deleting an old epoch");
    let n = row.number;
    let blocks = connection
        .execute(&format!("DELETE FROM blocks_{n} WHERE height < ?1"), [next.cast_signed()])
        .map_err(&failed)?;
    let (first, last) = (
        Key::LOWEST.entry(epoch.epoch, 0).to_sql(),
        Key::HIGHEST.entry(epoch.epoch, EPOCH_BLOCKS - 1).to_sql(),
    );
    let sql = format!("DELETE FROM entries_{n} WHERE entry BETWEEN ?1 AND ?2");
    connection.execute(&sql, [first, last]).map_err(&failed)?;
    let sql = format!("DELETE FROM epochs_{n} WHERE epoch = ?1");
    connection.execute(&sql, [epoch.epoch.cast_signed()]).map_err(&failed)?;
    Ok(u64::try_from(blocks).expect("a count fits 64 bits"))
}
