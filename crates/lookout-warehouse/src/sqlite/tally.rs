//! Counts and sums over the records that filters find.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};

use lookout_types::{Address, ChainId, CodecError, Content, Hash, UnixSeconds};
use rusqlite::Connection;

use super::find::Find;
use super::scan::{Reached, Scan};
use super::schema;
use crate::stats::bucket_of;
use crate::{
    AssetClass, EventFilter, EventGroup, EventStat, Order, STATS_ROWS_MAX, Total, TransferFilter,
    TransferStat, WarehouseError,
};

/// Bytes searched between two looks whether anybody still waits: some milliseconds.
const LOOK_BYTES: u64 = 1 << 20;

/// Counts events.
pub(super) fn events(
    connection: &Connection,
    filter: &EventFilter,
    bucket_s: Option<NonZeroU64>,
    group: EventGroup,
    gone: &AtomicBool,
) -> Result<Vec<EventStat>, WarehouseError> {
    type Place = (Option<UnixSeconds>, Option<Address>, Option<Hash>);
    let (by_address, by_event) = match group {
        EventGroup::All => (false, false),
        EventGroup::Address => (true, false),
        EventGroup::Event => (false, true),
        EventGroup::AddressEvent => (true, true),
    };
    let mut counts: BTreeMap<Place, u64> = BTreeMap::new();
    each_block(connection, filter.chain, filter, gone, |content| {
        let bucket = bucket_of(content.timestamp, bucket_s.map(NonZeroU64::get));
        filter.each(content, |_, log| {
            let topic0 = log.topics().first().filter(|_| by_event).copied();
            *counts.entry((bucket, by_address.then_some(log.address), topic0)).or_default() += 1;
            Ok(())
        })?;
        Ok(counts.len())
    })?;
    let row =
        |((from_time, address, topic0), count)| EventStat { from_time, address, topic0, count };
    Ok(counts.into_iter().map(row).collect())
}

/// Counts and sums transfers.
pub(super) fn transfers(
    connection: &Connection,
    filter: &TransferFilter,
    bucket_s: Option<NonZeroU64>,
    gone: &AtomicBool,
) -> Result<Vec<TransferStat>, WarehouseError> {
    let mut sums: BTreeMap<(Option<UnixSeconds>, AssetClass), (u64, Total)> = BTreeMap::new();
    each_block(connection, filter.chain, filter, gone, |content| {
        let bucket = bucket_of(content.timestamp, bucket_s.map(NonZeroU64::get));
        filter.each(content, |_, transfer| {
            let place = (bucket, AssetClass::from(transfer.asset));
            let (count, total) = sums.entry(place).or_insert((0, Total::ZERO));
            *count += 1;
            *total = total.plus(transfer.amount);
        })?;
        Ok(sums.len())
    })?;
    let row =
        |((from_time, asset), (count, total))| TransferStat { from_time, asset, count, total };
    Ok(sums.into_iter().map(row).collect())
}

/// Calls `tally` with each block that can match; it returns how many rows it has.
fn each_block(
    connection: &Connection,
    chain: ChainId,
    find: &impl Find,
    gone: &AtomicBool,
    mut tally: impl FnMut(&Content<'_>) -> Result<usize, CodecError>,
) -> Result<(), WarehouseError> {
    let Some(row) = schema::chain_row(connection, chain)? else { return Ok(()) };
    let mut scan = Scan::new(connection, row, &find.span(), find.key_sets(), Order::OldestFirst)?;
    loop {
        if gone.load(Ordering::Relaxed) {
            // Nobody reads this answer.
            return Err(WarehouseError::Closed);
        }
        let height = match scan.next(scan.work_bytes.saturating_add(LOOK_BYTES))? {
            Reached::Block(height) => height,
            Reached::Paused(_) => continue,
            Reached::End => return Ok(()),
        };
        if scan.with_block(height, &mut tally)? > STATS_ROWS_MAX {
            return Err(WarehouseError::TooLarge(format!(
                "the statistics have more than {STATS_ROWS_MAX} rows; ask for longer buckets, fewer groups or a shorter span"
            )));
        }
    }
}
