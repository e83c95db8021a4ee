//! Which blocks a trial goes over: heights or times, cut to what is held.

use std::ops::RangeInclusive;

use jiff::Timestamp;
use lookout_chain::Chain;
use lookout_types::{ChainId, Height, UnixSeconds};
use lookout_warehouse::Warehouse;

use crate::error::{ApiError, Code};

/// The blocks that a caller asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    from: Bound,
    to: Option<Bound>,
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    Height(Height),
    Time(UnixSeconds),
}

impl Asked {
    pub(super) fn heights(from: Height, to: Option<Height>) -> Self {
        Self { from: Bound::Height(from), to: to.map(Bound::Height) }
    }

    pub(super) fn parse(
        from: Option<Height>,
        to: Option<Height>,
        from_time: Option<&str>,
        to_time: Option<&str>,
    ) -> Result<Self, ApiError> {
        let one = |name: &str, height: Option<Height>, time: Option<&str>| match (height, time) {
            (Some(_), Some(_)) => {
                let detail = format!("name `{name}` or `{name}Time`, not both");
                Err(ApiError::new(Code::InvalidBody, detail))
            }
            (Some(height), None) => Ok(Some(Bound::Height(height))),
            (None, Some(time)) => seconds(name, time).map(|time| Some(Bound::Time(time))),
            (None, None) => Ok(None),
        };
        let Some(from) = one("from", from, from_time)? else {
            let detail = "name the first block: `from`, a height, or `fromTime`, an RFC 3339 time";
            return Err(ApiError::new(Code::InvalidBody, detail));
        };
        Ok(Self { from, to: one("to", to, to_time)? })
    }
}

impl Asked {
    /// Whether both ends are heights, so that their order is the caller's own.
    fn by_height(&self) -> bool {
        matches!(self.from, Bound::Height(_)) && !matches!(self.to, Some(Bound::Time(_)))
    }
}

fn seconds(name: &str, text: &str) -> Result<UnixSeconds, ApiError> {
    let time: Timestamp = text.parse().map_err(|_| {
        let detail = format!("`{name}Time` is a time such as 2026-01-01T00:00:00Z (RFC 3339)");
        ApiError::new(Code::InvalidBody, detail)
    })?;
    let up = i64::from(time.subsec_nanosecond() > 0);
    Ok(u64::try_from(time.as_second().saturating_add(up)).unwrap_or(0))
}

/// What is held of a chain, and the part of it that was asked for.
pub(super) async fn resolve(
    warehouse: &dyn Warehouse,
    chain: &Chain,
    asked: &Asked,
    blocks_max: u64,
) -> Result<(RangeInclusive<Height>, RangeInclusive<Height>), ApiError> {
    let name = chain.name();
    // Held blocks are without gaps: more than one range would be a defect of the warehouse.
    let Some(held) = warehouse.coverage(chain.id()).await?.pop() else {
        let detail = format!("no block of chain `{name}` is held yet; backfill it first");
        return Err(ApiError::new(Code::Conflict, detail));
    };
    let (low, high) = (*held.start(), *held.end());
    let from = match asked.from {
        Bound::Height(height) => height,
        Bound::Time(time) => first_at(warehouse, chain.id(), &held, time).await?,
    };
    let to = match asked.to {
        None => high.max(from),
        Some(Bound::Height(height)) => height,
        Some(Bound::Time(time)) => {
            let after = first_at(warehouse, chain.id(), &held, time).await?;
            if after == low {
                return Err(none_held(name, low, high));
            }
            after - 1
        }
    };
    if from > to && asked.by_height() {
        let detail = format!("`from` is {from}, above `to`, which is {to}");
        return Err(ApiError::new(Code::InvalidRequest, detail));
    }
    if from > to || from > high || to < low {
        return Err(none_held(name, low, high));
    }
    let (from, to) = (from.max(low), to.min(high));
    let blocks = to - from + 1;
    if blocks > blocks_max {
        return Err(ApiError::new(
            Code::InvalidRequest,
            format!("{blocks} blocks are too many, the limit here is {blocks_max}"),
        ));
    }
    Ok((held, from..=to))
}

fn none_held(chain: &str, low: Height, high: Height) -> ApiError {
    let detail = format!(
        "no block of what was asked for is held: of chain `{chain}`, blocks {low} to {high} are"
    );
    ApiError::new(Code::Conflict, detail)
}

/// The first held height of a time or later, by bisection: times never run backwards. One above the
/// highest when there is none.
async fn first_at(
    warehouse: &dyn Warehouse,
    chain: ChainId,
    held: &RangeInclusive<Height>,
    time: UnixSeconds,
) -> Result<Height, ApiError> {
    let (mut low, mut high) = (*held.start(), held.end().saturating_add(1));
    while low < high {
        let middle = low + (high - low) / 2;
        let frames = warehouse.frames(chain, middle..=middle, None).await?;
        let Some(frame) = frames.first() else {
            let detail = format!("block {middle} is no longer held; try again");
            return Err(ApiError::new(Code::Conflict, detail));
        };
        if frame.timestamp < time { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}
