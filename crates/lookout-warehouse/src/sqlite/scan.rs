//! Walking over the blocks that can hold what a query asks for.

use lookout_types::{Content, Height, UnixSeconds};
use rusqlite::{CachedStatement, Connection, OptionalExtension};

use super::keys::{EPOCH_BLOCKS, Entry, Key};
use super::prepare::checked;
use super::schema::{self, ChainRow};
use crate::{Order, Span, WarehouseError};

/// What one look into the index counts as, in bytes read.
const SEEK_COST_BYTES: u64 = 512;

/// The blocks of a span that have a key of each set, in order. Keys collide, so a block found may
/// still hold nothing that matches.
pub(super) struct Scan<'c> {
    connection: &'c Connection,
    row: ChainRow,
    order: Order,
    /// Heights still to be searched; empty at the end.
    left: Option<(Height, Height)>,
    sets: Vec<Vec<Cached>>,
    /// The epoch that the cached entries are of.
    epoch: Option<Epoch>,
    seek: CachedStatement<'c>,
    /// Bytes read so far, roughly.
    pub(super) work_bytes: u64,
}

/// Where a walk has come to.
pub(super) enum Reached {
    /// A block that can match; it is passed over then.
    Block(Height),
    /// It has done the work that it may. This block and all before it, in the scan's order, are passed.
    Paused(Height),
    End,
}

/// Where the keys of an epoch meet.
enum Meeting {
    At(Height),
    /// At this block or behind it.
    Behind(Height),
    Nowhere,
}

/// A key with the nearest block that has it.
struct Cached {
    key: Key,
    nearest: Nearest,
}

#[derive(Clone, Copy)]
enum Nearest {
    Unknown,
    At(u64),
    None,
}

/// Part of the index.
#[derive(Debug, Clone, Copy)]
struct Epoch {
    epoch: u64,
    height: Height,
    /// Its last height.
    last: Height,
}

impl<'c> Scan<'c> {
    /// Starts at the end that `order` names.
    pub(super) fn new(
        connection: &'c Connection,
        row: ChainRow,
        span: &Span,
        sets: Vec<Vec<Key>>,
        order: Order,
    ) -> Result<Self, WarehouseError> {
        let direction = match order {
            Order::NewestFirst => "DESC",
            Order::OldestFirst => "ASC",
        };
        let sql = format!(
            "SELECT entry FROM entries_{} WHERE entry BETWEEN ?1 AND ?2
            ORDER BY entry {direction} LIMIT 1",
            row.number
        );
        let seek =
            connection.prepare_cached(&sql).map_err(WarehouseError::database("searching"))?;
        let cached = |key| Cached { key, nearest: Nearest::Unknown };
        let sets = sets.into_iter().map(|set| set.into_iter().map(cached).collect()).collect();
        let left = heights(connection, &row, span)?;
        Ok(Self { connection, row, order, left, sets, epoch: None, seek, work_bytes: 0 })
    }

    /// Leaves out everything before `height`, in the scan's order.
    pub(super) fn start_at(&mut self, height: Height) {
        self.left = self.left.and_then(|(low, high)| {
            let (low, high) = match self.order {
                Order::NewestFirst => (low, high.min(height)),
                Order::OldestFirst => (low.max(height), high),
            };
            (low <= high).then_some((low, high))
        });
    }

    /// As [`Scan::start_at`], and leaves out `height` itself.
    pub(super) fn start_after(&mut self, height: Height) {
        let next = match self.order {
            Order::NewestFirst => height.checked_sub(1),
            Order::OldestFirst => height.checked_add(1),
        };
        match next {
            Some(next) => self.start_at(next),
            None => self.left = None,
        }
    }

    /// The next block, however far it is; it is passed over then.
    pub(super) fn next_height(&mut self) -> Result<Option<Height>, WarehouseError> {
        match self.next(u64::MAX)? {
            Reached::Block(height) => Ok(Some(height)),
            Reached::Paused(_) | Reached::End => Ok(None),
        }
    }

    /// Goes to the next block, or some way towards it once more than `work_max` bytes were read.
    pub(super) fn next(&mut self, work_max: u64) -> Result<Reached, WarehouseError> {
        let begun = self.left;
        while let Some((low, high)) = self.left {
            if self.work_bytes > work_max && self.left != begun {
                return Ok(Reached::Paused(match self.order {
                    Order::NewestFirst => high + 1,
                    Order::OldestFirst => low - 1,
                }));
            }
            let from = match self.order {
                Order::NewestFirst => high,
                Order::OldestFirst => low,
            };
            let epoch = self.epoch_of(from)?;
            match self.meet(&epoch, from, work_max)? {
                Meeting::At(height) if (low..=high).contains(&height) => {
                    self.pass(height);
                    return Ok(Reached::Block(height));
                }
                Meeting::Behind(height) => self.start_at(height),
                Meeting::At(_) | Meeting::Nowhere => match self.order {
                    Order::NewestFirst => self.pass(epoch.height),
                    Order::OldestFirst => self.pass(epoch.last),
                },
            }
        }
        Ok(Reached::End)
    }

    fn pass(&mut self, height: Height) {
        self.left = self.left.and_then(|(low, high)| match self.order {
            Order::NewestFirst => {
                height.checked_sub(1).filter(|below| *below >= low).map(|below| (low, below))
            }
            Order::OldestFirst => (height < high).then(|| (height + 1, high)),
        });
    }

    /// The nearest block at or after `from` that has a key of each set. The sets take turns: each
    /// skips to where the one before it stands, until all stand at one block.
    fn meet(
        &mut self,
        epoch: &Epoch,
        from: Height,
        work_max: u64,
    ) -> Result<Meeting, WarehouseError> {
        let begun = from - epoch.height;
        let mut offset = begun;
        let mut agreed = 0;
        let sets = self.sets.len();
        let mut turn = 0;
        while agreed < sets {
            if self.work_bytes > work_max && offset != begun {
                return Ok(Meeting::Behind(epoch.height + offset));
            }
            let Some(nearest) = self.nearest_of(turn % sets, epoch, offset)? else {
                return Ok(Meeting::Nowhere);
            };
            agreed = if nearest == offset { agreed + 1 } else { 1 };
            offset = nearest;
            turn += 1;
        }
        Ok(Meeting::At(epoch.height + offset))
    }

    fn nearest_of(
        &mut self,
        set: usize,
        epoch: &Epoch,
        offset: u64,
    ) -> Result<Option<u64>, WarehouseError> {
        let mut best: Option<u64> = None;
        for cached in &mut self.sets[set] {
            let stale = match (cached.nearest, self.order) {
                (Nearest::Unknown, _) => true,
                (Nearest::At(at), Order::NewestFirst) => at > offset,
                (Nearest::At(at), Order::OldestFirst) => at < offset,
                (Nearest::None, _) => false,
            };
            if stale {
                let (low, high) = match self.order {
                    Order::NewestFirst => (0, offset),
                    Order::OldestFirst => (offset, EPOCH_BLOCKS - 1),
                };
                let range = [low, high].map(|at| cached.key.entry(epoch.epoch, at).to_sql());
                let found: Option<i64> = self
                    .seek
                    .query_row(range, |row| row.get(0))
                    .optional()
                    .map_err(WarehouseError::database("searching"))?;
                self.work_bytes += SEEK_COST_BYTES;
                cached.nearest =
                    found.map_or(Nearest::None, |entry| Nearest::At(Entry::offset_of(entry)));
            }
            if let Nearest::At(at) = cached.nearest {
                best = Some(match (best, self.order) {
                    (None, _) => at,
                    (Some(best), Order::NewestFirst) => best.max(at),
                    (Some(best), Order::OldestFirst) => best.min(at),
                });
            }
        }
        Ok(best)
    }

    /// The epoch that holds a height, with the cached entries emptied when it is another one.
    fn epoch_of(&mut self, height: Height) -> Result<Epoch, WarehouseError> {
        if let Some(epoch) = self.epoch
            && (epoch.height..=epoch.last).contains(&height)
        {
            return Ok(epoch);
        }
        let failed = WarehouseError::database("reading an epoch");
        let n = self.row.number;
        let sql = format!(
            "SELECT epoch, height, (SELECT height FROM epochs_{n} WHERE epoch = b.epoch + 1)
            FROM epochs_{n} b WHERE epoch = (SELECT epoch FROM blocks_{n} WHERE height = ?1)"
        );
        let mut statement = self.connection.prepare_cached(&sql).map_err(&failed)?;
        let epoch = statement
            .query_row([height.cast_signed()], |row| {
                let next: Option<i64> = row.get(2)?;
                Ok(Epoch {
                    epoch: row.get::<_, i64>(0)?.cast_unsigned(),
                    height: row.get::<_, i64>(1)?.cast_unsigned(),
                    last: next.map_or(Height::MAX, |next| next.cast_unsigned() - 1),
                })
            })
            .map_err(&failed)?;
        self.work_bytes += SEEK_COST_BYTES;
        self.epoch = Some(epoch);
        for cached in self.sets.iter_mut().flatten() {
            cached.nearest = Nearest::Unknown;
        }
        Ok(epoch)
    }

    /// Reads a block's content.
    pub(super) fn with_block<T>(
        &mut self,
        height: Height,
        read: impl FnOnce(&Content<'_>) -> Result<T, lookout_types::CodecError>,
    ) -> Result<T, WarehouseError> {
        let failed = WarehouseError::database("reading a block");
        let corrupt =
            |reason: String| WarehouseError::Corrupt { chain: self.row.chain, height, reason };
        let sql = format!("SELECT content FROM blocks_{} WHERE height = ?1", self.row.number);
        let mut statement = self.connection.prepare_cached(&sql).map_err(&failed)?;
        let mut rows = statement.query([height.cast_signed()]).map_err(&failed)?;
        let row = rows.next().map_err(&failed)?.ok_or_else(|| corrupt("it is gone".to_owned()))?;
        let stored = row.get_ref(0).map_err(&failed)?;
        let stored = stored.as_blob().map_err(|error| corrupt(error.to_string()))?;
        self.work_bytes += u64::try_from(stored.len()).expect("a length fits 64 bits");
        let content = checked(stored).map_err(|reason| corrupt(reason.to_owned()))?;
        Content::read(content)
            .and_then(|content| read(&content))
            .map_err(|e| corrupt(e.to_string()))
    }
}

/// The heights that a span can mean, among those held.
fn heights(
    connection: &Connection,
    row: &ChainRow,
    span: &Span,
) -> Result<Option<(Height, Height)>, WarehouseError> {
    let Some((mut low, mut high)) = schema::held(connection, row)? else { return Ok(None) };
    low = low.max(span.from_height.unwrap_or(0));
    high = high.min(span.to_height.unwrap_or(Height::MAX));
    if low > high {
        return Ok(None);
    }
    // A block's `time_max` is the latest time up to it, so it only grows; a block's own time is at
    // most `disorder_s` below it.
    if let Some(from) = span.from_time {
        low = first_reaching(connection, row, low, high, from)?;
    }
    if let Some(to) = span.to_time
        && low <= high
    {
        let end = first_reaching(connection, row, low, high, to.saturating_add(row.disorder_s))?;
        let Some(last) = end.checked_sub(1) else { return Ok(None) };
        high = high.min(last);
    }
    Ok((low <= high).then_some((low, high)))
}

/// The first height in the range whose `time_max` is `time` or later; the one after it when none is.
fn first_reaching(
    connection: &Connection,
    row: &ChainRow,
    mut low: Height,
    high: Height,
    time: UnixSeconds,
) -> Result<Height, WarehouseError> {
    let failed = WarehouseError::database("searching by time");
    let sql = format!("SELECT time_max FROM blocks_{} WHERE height = ?1", row.number);
    let mut statement = connection.prepare_cached(&sql).map_err(&failed)?;
    let mut end = high + 1;
    while low < end {
        let middle = low + (end - low) / 2;
        let reached: i64 =
            statement.query_row([middle.cast_signed()], |row| row.get(0)).map_err(&failed)?;
        if reached.cast_unsigned() < time {
            low = middle + 1;
        } else {
            end = middle;
        }
    }
    Ok(low)
}
