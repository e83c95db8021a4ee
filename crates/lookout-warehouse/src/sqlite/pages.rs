//! Pages of what filters find.

use std::ops::RangeInclusive;

use lookout_types::{BlockRef, ChainId, Frame, Hash, Height, Step};
use rusqlite::{Connection, OptionalExtension};

use super::find::Find;
use super::scan::{Reached, Scan};
use super::schema::{self, ChainRow};
use crate::page::{Position, fingerprint};
use crate::{Order, Page, PageRequest, Span, WarehouseError};

/// Most bytes that one page searches, so that a query for what is rare answers in a fraction of a
/// second with less, and says where to go on.
const PAGE_WORK_BYTES: u64 = 32 << 20;
/// About how many bytes of contents one answer of frames holds, and at most how many frames.
const FRAMES_BYTES: u64 = 4 << 20;
const FRAMES_AT_ONCE: usize = 4096;

/// Reads one page.
pub(super) fn page<F: Find>(
    connection: &Connection,
    chain: ChainId,
    find: &F,
    request: &PageRequest,
) -> Result<Page<F::Item>, WarehouseError> {
    page_within(connection, chain, find, request, PAGE_WORK_BYTES)
}

/// Reads one page, searching about so many bytes.
pub(super) fn page_within<F: Find>(
    connection: &Connection,
    chain: ChainId,
    find: &F,
    request: &PageRequest,
    work_max: u64,
) -> Result<Page<F::Item>, WarehouseError> {
    let limit = request.check_limit()?;
    let (order, made_for) = (request.order, fingerprint(&(chain, find)));
    let cursor = request
        .cursor
        .as_deref()
        .map(|cursor| Position::decode(cursor, order, made_for))
        .transpose()?;
    let Some(row) = schema::chain_row(connection, chain)? else {
        return Ok(Page { items: Vec::new(), next: None });
    };
    let mut scan = Scan::new(connection, row, &find.span(), find.key_sets(), order)?;
    let mut resume = None;
    if let Some(at) = cursor {
        resume = resume_at(connection, &row, order, &at)?;
        match resume {
            Some(at) if at.is_done(order) => scan.start_after(at.height),
            _ => scan.start_at(at.height),
        }
    }
    let mut items = Vec::new();
    let mut found = Vec::new();
    loop {
        let height = match scan.next(work_max)? {
            Reached::Block(height) => height,
            Reached::Paused(height) => {
                let hash = hash_at(connection, &row, height)?;
                let hash = hash.ok_or(WarehouseError::Stale(height))?;
                let at = Position::behind(height, &hash, order);
                return Ok(Page { items, next: Some(at.encode(order, made_for)) });
            }
            Reached::End => return Ok(Page { items, next: None }),
        };
        let block = scan.with_block(height, |content| {
            find.in_block(content, &mut found)?;
            Ok(content.block)
        })?;
        if let Some(at) = resume.filter(|at| at.height == height) {
            found.retain(|(record, _)| match order {
                Order::NewestFirst => *record < at.record,
                Order::OldestFirst => *record >= at.record,
            });
        }
        if order == Order::NewestFirst {
            found.reverse();
        }
        let room = limit - items.len();
        let cut = found.len() > room;
        let mut last = None;
        items.extend(found.drain(..).take(room).map(|(record, item)| {
            last = Some(record);
            item
        }));
        let full = items.len() == limit || scan.work_bytes > work_max;
        if full {
            let done = Position::behind(height, &block.hash, order);
            let at = match (order, last.filter(|_| cut)) {
                (Order::NewestFirst, Some(last)) => Position { record: last, ..done },
                (Order::OldestFirst, Some(last)) => Position { record: last + 1, ..done },
                (_, None) => done,
            };
            return Ok(Page { items, next: Some(at.encode(order, made_for)) });
        }
    }
}

/// Whether the block that a cursor stands in is still the one that was read.
///
/// Newest first, a replaced block is read anew: what was read before it is gone from the chain, and
/// what lies below is still to come. Oldest first, blocks that were read may have been replaced with
/// it, and their replacements would be missing.
fn resume_at(
    connection: &Connection,
    row: &ChainRow,
    order: Order,
    at: &Position,
) -> Result<Option<Position>, WarehouseError> {
    match (hash_at(connection, row, at.height)?, order) {
        (Some(hash), _) if Position::mark(&hash) == at.block => Ok(Some(*at)),
        (_, Order::NewestFirst) => Ok(None),
        // Retention took what was read, and nothing that was still to come.
        (None, Order::OldestFirst)
            if at.is_done(order) && is_last_retained_away(connection, row, at.height)? =>
        {
            Ok(None)
        }
        (_, Order::OldestFirst) => Err(WarehouseError::Stale(at.height)),
    }
}

/// Whether retention left all but this block and those below.
fn is_last_retained_away(
    connection: &Connection,
    row: &ChainRow,
    height: Height,
) -> Result<bool, WarehouseError> {
    let held = schema::held(connection, row)?;
    Ok(row.retained && held.is_some_and(|(low, _)| height.checked_add(1) == Some(low)))
}

fn hash_at(
    connection: &Connection,
    row: &ChainRow,
    height: Height,
) -> Result<Option<Hash>, WarehouseError> {
    let failed = WarehouseError::database("reading a block");
    let sql = format!("SELECT hash FROM blocks_{} WHERE height = ?1", row.number);
    let mut statement = connection.prepare_cached(&sql).map_err(&failed)?;
    let Ok(height) = i64::try_from(height) else { return Ok(None) };
    statement.query_row([height], |row| row.get(0).map(Hash)).optional().map_err(&failed)
}

/// Some blocks as frames, oldest first.
pub(super) fn frames(
    connection: &Connection,
    chain: ChainId,
    heights: &RangeInclusive<Height>,
    after: Option<BlockRef>,
) -> Result<Vec<Frame>, WarehouseError> {
    let Some(row) = schema::chain_row(connection, chain)? else { return Ok(Vec::new()) };
    let Some((lowest, _)) = schema::held(connection, &row)? else {
        return match after {
            Some(after) => Err(WarehouseError::Stale(after.number)),
            None => Ok(Vec::new()),
        };
    };
    let mut from = *heights.start();
    if let Some(after) = after {
        if hash_at(connection, &row, after.number)? != Some(after.hash) {
            return Err(WarehouseError::Stale(after.number));
        }
        from = from.max(after.number + 1);
    }
    let span = Span { from_height: Some(from), to_height: Some(*heights.end()), ..Span::default() };
    let mut scan = Scan::new(connection, row, &span, Vec::new(), Order::OldestFirst)?;
    let mut frames = Vec::new();
    while frames.len() < FRAMES_AT_ONCE && scan.work_bytes < FRAMES_BYTES {
        let Some(height) = scan.next_height()? else { break };
        let sequence = height - lowest + 1;
        frames.push(
            scan.with_block(height, |content| content.to_frame(chain, sequence, Step::Apply))?,
        );
    }
    Ok(frames)
}
