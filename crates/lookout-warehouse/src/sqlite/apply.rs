//! Committing frames: blocks in and out, the index, the cursor, in one transaction.

use lookout_types::{
    BlockRef, ChainId, Content, Cursor, Frame, Hash, Height, Step, UnixSeconds, transfers,
};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::keys::{EPOCH_BLOCKS, EPOCH_ENTRIES, EPOCHS_MAX, Entry, Key, keys_of};
use super::prepare::{Batch, Prepared, checked};
use super::schema::{self, ChainRow};
use super::writer::Writer;
use crate::{Applied, WarehouseError};

/// Frames whose identity is remembered, so that one that comes again can be compared. Repeats come
/// from a bus that resends what was under way in a crash: a few batches at most.
const FRAMES_REMEMBERED: u64 = 65_536;
/// Entries that wait to be written in order; a batch with more of them writes several times.
const ENTRIES_WAITING: usize = 1 << 20;

/// A chain between two frames.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChainState {
    row: ChainRow,
    tip: Option<Tip>,
}

/// The head's place in the index.
#[derive(Debug, Clone, Copy)]
struct Tip {
    /// The latest time of any block so far.
    time_max: UnixSeconds,
    epoch: u64,
    /// The epoch's first height.
    epoch_height: Height,
    /// Entries of the epoch so far.
    epoch_entries: u64,
}

impl Writer {
    /// Commits a batch, or leaves everything as it was.
    pub(super) fn apply(
        &mut self,
        chain: ChainId,
        batch: &Batch,
    ) -> Result<Applied, WarehouseError> {
        let known = self.chains.remove(&chain);
        let failed = WarehouseError::database("committing frames");
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(&failed)?;
        check_epoch(&transaction, self.epoch)?;
        let state = match known {
            Some(state) => state,
            None => load(&transaction, chain)?,
        };
        let mut work = Work { connection: &transaction, state, waiting: Vec::new() };
        let applied = work.batch(batch)?;
        let state = work.state;
        transaction.commit().map_err(&failed)?;
        // Only now: after an error the next batch reads the state from the database.
        self.chains.insert(chain, state);
        Ok(applied)
    }

    /// Forgets a chain.
    pub(super) fn truncate(&mut self, chain: ChainId) -> Result<(), WarehouseError> {
        self.chains.remove(&chain);
        let failed = WarehouseError::database("forgetting a chain");
        // Cached statements would keep the tables from being dropped.
        self.connection.flush_prepared_statement_cache();
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(&failed)?;
        check_epoch(&transaction, self.epoch)?;
        if let Some(row) = schema::chain_row(&transaction, chain)? {
            schema::drop_chain(&transaction, &row)?;
        }
        transaction.commit().map_err(&failed)
    }
}

/// Whether this instance is still the one that writes.
pub(super) fn check_epoch(connection: &Connection, epoch: i64) -> Result<(), WarehouseError> {
    let failed = WarehouseError::database("reading who writes");
    let mut statement = connection.prepare_cached("SELECT epoch FROM writer").map_err(&failed)?;
    let found: i64 = statement.query_row([], |row| row.get(0)).map_err(&failed)?;
    if found == epoch { Ok(()) } else { Err(WarehouseError::Fenced) }
}

fn load(connection: &Connection, chain: ChainId) -> Result<ChainState, WarehouseError> {
    let row = match schema::chain_row(connection, chain)? {
        Some(row) => row,
        None => schema::add_chain(connection, chain)?,
    };
    let tip = match row.head {
        Some(head) => Some(read_tip(connection, row.number, head.number)?.0),
        None => None,
    };
    Ok(ChainState { row, tip })
}

/// The tip that a block is, and the block's hash.
fn read_tip(
    connection: &Connection,
    number: i64,
    height: Height,
) -> Result<(Tip, Hash), WarehouseError> {
    let failed = WarehouseError::database("reading a block");
    let sql = format!(
        "SELECT time_max, b.epoch, e.height, epoch_entries, hash FROM blocks_{number} b
        JOIN epochs_{number} e ON e.epoch = b.epoch WHERE b.height = ?1"
    );
    let mut statement = connection.prepare_cached(&sql).map_err(&failed)?;
    statement
        .query_row([height.cast_signed()], |row| {
            let unsigned = |at| row.get::<_, i64>(at).map(i64::cast_unsigned);
            let tip = Tip {
                time_max: unsigned(0)?,
                epoch: unsigned(1)?,
                epoch_height: unsigned(2)?,
                epoch_entries: unsigned(3)?,
            };
            Ok((tip, Hash(row.get(4)?)))
        })
        .map_err(&failed)
}

/// A batch under way.
struct Work<'t> {
    connection: &'t Connection,
    state: ChainState,
    /// Entries to be written together, because writing them in order is several times faster.
    waiting: Vec<Entry>,
}

impl Work<'_> {
    fn batch(&mut self, batch: &Batch) -> Result<Applied, WarehouseError> {
        let (mut frames, mut repeated, mut odd_logs) = (0, 0, 0);
        for _ in 0..batch.count {
            let prepared = batch.prepared.recv().map_err(|_| WarehouseError::Closed)??;
            if prepared.sequence <= self.state.row.sequence {
                self.compare(&prepared)?;
                repeated += 1;
                continue;
            }
            self.frame(&prepared)?;
            frames += 1;
            odd_logs += prepared.odd_logs;
        }
        if frames > 0 {
            self.write_entries()?;
            self.forget_frames()?;
            schema::save_chain(self.connection, &self.state.row)?;
        }
        let row = &self.state.row;
        let cursor = Cursor { chain: row.chain, sequence: row.sequence, head: row.head };
        Ok(Applied { cursor, frames, repeated, odd_logs })
    }

    fn frame(&mut self, prepared: &Prepared) -> Result<(), WarehouseError> {
        let row = &self.state.row;
        if prepared.sequence != row.sequence + 1 {
            return Err(WarehouseError::Gap {
                chain: row.chain,
                cursor: row.sequence,
                given: prepared.sequence,
            });
        }
        match prepared.step {
            Step::Apply => self.add_block(prepared)?,
            Step::Undo => self.remove_head(prepared)?,
        }
        self.state.row.sequence = prepared.sequence;
        let failed = WarehouseError::database("remembering a frame");
        let sql = format!("INSERT INTO frames_{} VALUES (?1, ?2)", self.state.row.number);
        let mut statement = self.connection.prepare_cached(&sql).map_err(&failed)?;
        let identity = identity(prepared.step, &prepared.block);
        statement.execute((prepared.sequence.cast_signed(), identity)).map_err(&failed)?;
        Ok(())
    }

    fn unlinked(&self, prepared: &Prepared) -> WarehouseError {
        let head = self.state.row.head.map_or_else(
            || "no block at all".to_owned(),
            |head| format!("block {} {}", head.number, head.hash),
        );
        WarehouseError::Unlinked {
            chain: self.state.row.chain,
            sequence: prepared.sequence,
            step: prepared.step,
            block: prepared.block,
            head,
        }
    }

    fn add_block(&mut self, prepared: &Prepared) -> Result<(), WarehouseError> {
        let height = prepared.block.number;
        if let Some(head) = self.state.row.head
            && (head.number + 1 != height || head.hash != prepared.parent)
        {
            return Err(self.unlinked(prepared));
        }
        let tip = self.next_tip(prepared)?;
        let offset = height - tip.epoch_height;
        self.waiting.extend(prepared.keys.iter().map(|key| key.entry(tip.epoch, offset)));
        if self.waiting.len() > ENTRIES_WAITING {
            self.write_entries()?;
        }
        let failed = WarehouseError::database("writing a block");
        let sql =
            format!("INSERT INTO blocks_{} VALUES (?1, ?2, ?3, ?4, ?5, ?6)", self.state.row.number);
        let mut statement = self.connection.prepare_cached(&sql).map_err(&failed)?;
        statement
            .execute((
                height.cast_signed(),
                prepared.block.hash.0,
                tip.time_max.cast_signed(),
                tip.epoch.cast_signed(),
                tip.epoch_entries.cast_signed(),
                &prepared.content,
            ))
            .map_err(&failed)?;
        let row = &mut self.state.row;
        row.head = Some(prepared.block);
        row.disorder_s = row.disorder_s.max(tip.time_max - prepared.timestamp);
        self.state.tip = Some(tip);
        Ok(())
    }

    /// Where a block goes in the index. Depends on the blocks below it alone, so that a rebuild puts
    /// it in the same place.
    fn next_tip(&self, prepared: &Prepared) -> Result<Tip, WarehouseError> {
        let height = prepared.block.number;
        let mut tip = match self.state.tip {
            Some(tip)
                if tip.epoch_entries < EPOCH_ENTRIES
                    && height - tip.epoch_height < EPOCH_BLOCKS =>
            {
                tip
            }
            before => Tip {
                time_max: before.map_or(0, |before| before.time_max),
                epoch: before.map_or(0, |before| before.epoch + 1),
                epoch_height: height,
                epoch_entries: 0,
            },
        };
        if tip.epoch >= EPOCHS_MAX {
            return Err(WarehouseError::TooLarge(format!(
                "chain {} has outgrown the embedded warehouse at block {height}; set retention and rebuild it",
                self.state.row.chain
            )));
        }
        if tip.epoch_height == height {
            let failed = WarehouseError::database("starting an epoch");
            let sql = format!("INSERT INTO epochs_{} VALUES (?1, ?2)", self.state.row.number);
            let mut statement = self.connection.prepare_cached(&sql).map_err(&failed)?;
            statement.execute((tip.epoch.cast_signed(), height.cast_signed())).map_err(&failed)?;
        }
        tip.time_max = tip.time_max.max(prepared.timestamp);
        tip.epoch_entries += u64::try_from(prepared.keys.len()).expect("a length fits 64 bits");
        Ok(tip)
    }

    fn remove_head(&mut self, prepared: &Prepared) -> Result<(), WarehouseError> {
        let (Some(head), Some(tip)) = (self.state.row.head, self.state.tip) else {
            return Err(self.unlinked(prepared));
        };
        if head != prepared.block {
            return Err(self.unlinked(prepared));
        }
        // They may be the very ones to delete.
        self.write_entries()?;
        let row = self.state.row;
        let parent = remove_block(self.connection, &row, head.number, tip.epoch, tip.epoch_height)?;
        let failed = WarehouseError::database("removing a block");
        if tip.epoch_height == head.number {
            let sql = format!("DELETE FROM epochs_{} WHERE epoch = ?1", row.number);
            let mut statement = self.connection.prepare_cached(&sql).map_err(&failed)?;
            statement.execute([tip.epoch.cast_signed()]).map_err(&failed)?;
        }
        let below = match head.number.checked_sub(1) {
            Some(below) if has_block(self.connection, &row, below)? => Some(below),
            _ => None,
        };
        match below {
            Some(below) => {
                let (tip, hash) = read_tip(self.connection, row.number, below)?;
                if hash != parent {
                    return Err(WarehouseError::Corrupt {
                        chain: row.chain,
                        height: head.number,
                        reason: "the block below is not its parent".to_owned(),
                    });
                }
                self.state.row.head = Some(BlockRef { number: below, hash });
                self.state.tip = Some(tip);
            }
            None if row.retained => {
                return Err(WarehouseError::Retained { chain: row.chain, height: head.number });
            }
            None => {
                self.state.row.head = None;
                self.state.tip = None;
            }
        }
        Ok(())
    }

    fn write_entries(&mut self) -> Result<(), WarehouseError> {
        let failed = WarehouseError::database("writing the index");
        self.waiting.sort_unstable();
        let sql = format!("INSERT INTO entries_{} VALUES (?1)", self.state.row.number);
        let mut statement = self.connection.prepare_cached(&sql).map_err(&failed)?;
        for entry in self.waiting.drain(..) {
            statement.execute([entry.to_sql()]).map_err(&failed)?;
        }
        Ok(())
    }

    /// Compares a frame that comes again with the one that was committed.
    fn compare(&self, prepared: &Prepared) -> Result<(), WarehouseError> {
        let (number, chain) = (self.state.row.number, self.state.row.chain);
        let failed = WarehouseError::database("comparing a frame");
        let sql = format!("SELECT identity FROM frames_{number} WHERE sequence = ?1");
        let mut statement = self.connection.prepare_cached(&sql).map_err(&failed)?;
        let held: Option<Vec<u8>> = statement
            .query_row([prepared.sequence.cast_signed()], |row| row.get(0))
            .optional()
            .map_err(&failed)?;
        let given = identity(prepared.step, &prepared.block);
        match held {
            Some(held) if held == given => Ok(()),
            Some(held) => Err(WarehouseError::Differs {
                chain,
                sequence: prepared.sequence,
                held: shown(&held),
                given: shown(&given),
            }),
            None => {
                let sql = format!("SELECT min(sequence) FROM frames_{number}");
                let oldest: Option<i64> =
                    self.connection.query_row(&sql, [], |row| row.get(0)).map_err(&failed)?;
                let oldest = oldest.map_or(self.state.row.sequence, i64::cast_unsigned);
                Err(WarehouseError::TooOld { chain, sequence: prepared.sequence, oldest })
            }
        }
    }

    fn forget_frames(&self) -> Result<(), WarehouseError> {
        let row = &self.state.row;
        let Some(last) = row.sequence.checked_sub(FRAMES_REMEMBERED) else { return Ok(()) };
        let failed = WarehouseError::database("forgetting old frames");
        let sql = format!("DELETE FROM frames_{} WHERE sequence <= ?1", row.number);
        let mut statement = self.connection.prepare_cached(&sql).map_err(&failed)?;
        statement.execute([last.cast_signed()]).map_err(&failed)?;
        Ok(())
    }
}

fn has_block(
    connection: &Connection,
    row: &ChainRow,
    height: Height,
) -> Result<bool, WarehouseError> {
    let failed = WarehouseError::database("reading a block");
    let sql = format!("SELECT 1 FROM blocks_{} WHERE height = ?1", row.number);
    let mut statement = connection.prepare_cached(&sql).map_err(&failed)?;
    statement.exists([height.cast_signed()]).map_err(&failed)
}

/// Deletes a block and its entries, and returns its parent's hash.
pub(super) fn remove_block(
    connection: &Connection,
    row: &ChainRow,
    height: Height,
    epoch: u64,
    epoch_height: Height,
) -> Result<Hash, WarehouseError> {
    let failed = WarehouseError::database("removing a block");
    let sql = format!("DELETE FROM blocks_{} WHERE height = ?1 RETURNING content", row.number);
    let mut statement = connection.prepare_cached(&sql).map_err(&failed)?;
    let stored: Vec<u8> =
        statement.query_row([height.cast_signed()], |row| row.get(0)).map_err(&failed)?;
    let frame = decode(row.chain, height, &stored)?;
    let offset = height - epoch_height;
    let sql = format!("DELETE FROM entries_{} WHERE entry = ?1", row.number);
    let mut statement = connection.prepare_cached(&sql).map_err(&failed)?;
    for key in keys_of(&frame, &transfers(&frame)) {
        let entry: Key = key;
        statement.execute([entry.entry(epoch, offset).to_sql()]).map_err(&failed)?;
    }
    Ok(frame.parent)
}

fn decode(chain: ChainId, height: Height, stored: &[u8]) -> Result<Frame, WarehouseError> {
    let corrupt = |reason: String| WarehouseError::Corrupt { chain, height, reason };
    let content = checked(stored).map_err(|reason| corrupt(reason.to_owned()))?;
    Content::read(content)
        .and_then(|content| content.to_frame(chain, 0, Step::Apply))
        .map_err(|error| corrupt(error.to_string()))
}

/// What tells frames with one sequence apart: a block's hash commits to all that is in it.
fn identity(step: Step, block: &BlockRef) -> Vec<u8> {
    let step = match step {
        Step::Apply => 0,
        Step::Undo => 1,
    };
    [&[step][..], &block.hash.0].concat()
}

fn shown(identity: &[u8]) -> String {
    let (step, hash) = identity.split_at(identity.len().min(1));
    let step = if step == [0] { Step::Apply } else { Step::Undo };
    format!("{step} {}", const_hex::encode_prefixed(hash))
}
