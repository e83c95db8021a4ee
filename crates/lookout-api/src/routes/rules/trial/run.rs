//! Steps a rule over held blocks: read a page, match it off the async workers, read the next.

use std::time::{Duration, Instant};

use lookout_rules::{Backtest, BacktestReport};
use lookout_types::ChainId;
use lookout_warehouse::Warehouse;
use tokio::sync::Semaphore;

use crate::error::{ApiError, Code};

/// Trials at once in this process: each keeps a core busy, and live matching comes first.
const TRIALS_AT_ONCE: usize = 2;
static TRIALS: Semaphore = Semaphore::const_new(TRIALS_AT_ONCE);

/// Longest wait for a turn.
const TURN_WAIT: Duration = Duration::from_secs(5);

/// What came of it, and whether all blocks were read.
pub(super) struct Ran {
    pub(super) report: BacktestReport,
    pub(super) complete: bool,
}

/// Runs for three quarters of a request's time at most, so that what was found by then is answered.
/// Indexing a rule takes a while, so `backtest` is made at its turn, off the async workers too.
pub(super) async fn run(
    warehouse: &dyn Warehouse,
    chain: ChainId,
    backtest: impl FnOnce() -> Backtest + Send + 'static,
    request_time: Duration,
) -> Result<Ran, ApiError> {
    let started = Instant::now();
    let wait = TURN_WAIT.min(request_time / 4);
    let Ok(Ok(_turn)) = tokio::time::timeout(wait, TRIALS.acquire()).await else {
        let detail = format!("{TRIALS_AT_ONCE} trials are running, the most at once; try again");
        return Err(ApiError::new(Code::Unavailable, detail));
    };
    let made = tokio::task::spawn_blocking(backtest);
    let mut backtest = made.await.map_err(ApiError::internal)?;
    let mut after = None;
    let mut complete = true;
    loop {
        if started.elapsed() > request_time / 4 * 3 {
            complete = false;
            break;
        }
        let frames = warehouse.frames(chain, backtest.reads(), after).await?;
        let Some(last) = frames.last() else { break };
        after = Some(last.block);
        let stepped = tokio::task::spawn_blocking(move || {
            frames.iter().try_for_each(|frame| backtest.step(frame)).map(|()| backtest)
        });
        let stepped = stepped.await.map_err(ApiError::internal)?;
        backtest = stepped.map_err(|error| {
            let detail = format!("the blocks changed while they were read ({error}); try again");
            ApiError::new(Code::Conflict, detail)
        })?;
    }
    Ok(Ran { report: backtest.finish(), complete })
}
