//! Where a live stream's messages come from: frames of the bus from a cursor on, and changed alerts.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, future};
use lookout_bus::{Bus, BusError, FrameStream};
use lookout_store::{AlertPosition, ChangedAlert, Store, StoreError};
use lookout_types::{ChainId, Frame};

use super::cursor::{ChainAt, Mark, mark_of};
use crate::error::{ApiError, Code};

/// Alerts read at once.
const ALERTS_AT_ONCE: u32 = 100;
/// How often changed alerts are looked for without being told: those of other instances.
const ALERTS_POLL: Duration = Duration::from_secs(2);

/// Something to tell.
pub(super) enum Found {
    Frames(ChainId, Result<Vec<Arc<Frame>>, BusError>),
    Alerts(Result<Vec<ChangedAlert>, StoreError>),
    /// The bus is closed.
    Closed,
}

/// The frames of a chain after a place, or after the newest one.
///
/// The frame at the place is looked at again: when it is another one by now, the bus holds another
/// history, and what was missed cannot be told.
pub(super) async fn frames(
    bus: &dyn Bus,
    chain: ChainId,
    from: Option<ChainAt>,
) -> Result<(ChainAt, BoxStream<'static, Found>), ApiError> {
    let (tail, oldest) = (bus.tail(chain).await?, bus.oldest(chain).await?);
    let (sequence, known) = match from {
        Some(at) if at.sequence > tail.sequence => {
            return Err(expired(chain, "it is ahead of the chain's frames, which were replaced"));
        }
        Some(at) => (at.sequence, Some(at)),
        None => (tail.sequence, None),
    };
    let whole = known.is_none_or(|at| at.is_whole());
    if sequence >= oldest && sequence > 0 {
        let mut stream = bus.subscribe(chain, sequence - 1);
        let mut first = first(&mut stream, chain).await?;
        let mark = first.first().map(|frame| mark_of(frame)).unwrap_or_default();
        if known.is_some_and(|at| at.mark != mark && at.mark != Mark::default()) {
            return Err(expired(chain, "the chain's frames were replaced since"));
        }
        if whole {
            first.remove(0);
        }
        let at = known.map_or(ChainAt::behind(sequence, mark), |at| ChainAt { mark, ..at });
        let first = stream::iter((!first.is_empty()).then_some(Ok(first)));
        return Ok((at, tagged(chain, first.chain(stream).boxed())));
    }
    // Nothing was missed when all that was trimmed had been told.
    if !whole || sequence.saturating_add(1) < oldest {
        return Err(expired(chain, "its frames are no longer kept"));
    }
    let at = known.unwrap_or(ChainAt::behind(sequence, Mark::default()));
    Ok((at, tagged(chain, bus.subscribe(chain, sequence))))
}

async fn first(stream: &mut FrameStream, chain: ChainId) -> Result<Vec<Arc<Frame>>, ApiError> {
    match stream.next().await {
        Some(Ok(frames)) => Ok(frames),
        Some(Err(error)) => Err(of_bus(error, chain)),
        None => Err(ApiError::new(Code::Unavailable, "the bus is closed")),
    }
}

fn tagged(chain: ChainId, stream: FrameStream) -> BoxStream<'static, Found> {
    let found = stream.map(move |frames| Found::Frames(chain, frames));
    found.chain(stream::once(future::ready(Found::Closed))).boxed()
}

/// An error of the bus, as those who resume meet it.
pub(super) fn of_bus(error: BusError, chain: ChainId) -> ApiError {
    match error {
        BusError::Trimmed { .. } => expired(chain, "its frames are no longer kept"),
        BusError::Ahead { .. } => expired(chain, "the chain's frames were replaced since"),
        error => error.into(),
    }
}

fn expired(chain: ChainId, reason: &str) -> ApiError {
    let detail = format!(
        "the cursor cannot be resumed on chain {chain}: {reason}; connect without it, and read what \
         was missed from /v1/chains/{chain}/events"
    );
    ApiError::new(Code::CursorExpired, detail)
}

/// A tenant's alerts that change after a position.
pub(super) fn alerts(
    store: Store,
    tenant: String,
    after: AlertPosition,
) -> BoxStream<'static, Found> {
    let signal = store.signals().alerts.listen();
    stream::unfold(
        (store, tenant, after, signal),
        |(store, tenant, after, mut signal)| async move {
            loop {
                // Before looking, so that what changes while looking is looked for again.
                signal.mark_unchanged();
                let changed = store.alerts_changed(&tenant, &after, ALERTS_AT_ONCE).await;
                let after = match &changed {
                    Ok(alerts) => alerts.last().map(ChangedAlert::position),
                    Err(_) => Some(after.clone()),
                };
                if let Some(after) = after {
                    return Some((Found::Alerts(changed), (store, tenant, after, signal)));
                }
                // Either way it looks again.
                drop(tokio::time::timeout(ALERTS_POLL, signal.changed()).await);
            }
        },
    )
    .boxed()
}
