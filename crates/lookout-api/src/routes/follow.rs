//! `/v1/chains/{chain}/follow`: what of a chain is kept, and how far each part has come.

use axum::extract::State;
use axum::response::Response;
use lookout_chain::{Chain, Wants};
use lookout_store::Scope;
use lookout_types::{ChainId, Cursor};
use serde::Serialize;
use utoipa::ToSchema;

use super::chains::ChainPath;
use super::events::item::Held;
use crate::body;
use crate::error::{ApiError, Code};
use crate::extract::UrlPath;
use crate::middleware::Visitor;
use crate::progress::{ChainProgress, PublisherProgress};
use crate::provenance::{BlockName, ChainName};
use crate::state::{Shared, State as Parts};

/// How a chain is followed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Follow {
    /// The chain.
    chain: ChainName,
    /// Whether it is followed at all.
    followed: bool,
    /// What is kept of its blocks; `null` when it is not followed.
    wants: Option<WantsItem>,
    /// The heights that the warehouse holds.
    held: Vec<Held>,
    /// What reads its blocks and makes frames of them; `null` when it is not followed, or by another
    /// process.
    publisher: Option<Publisher>,
    /// Where its frames end; `null` when it is not followed.
    bus: Option<BusState>,
    /// Those who read the frames, and how far they have come.
    consumers: Vec<Consumer>,
}

/// What is kept of blocks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WantsItem {
    /// Whole blocks: transactions with their receipts, and all logs. Else logs alone.
    whole: bool,
    /// Only logs of these contracts; empty for all.
    addresses: Vec<String>,
    /// Only logs with one of these first topics; empty for all.
    topics: Vec<String>,
}

/// What makes frames of a chain's blocks.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Publisher {
    /// `backfilling` far below the head, `following` near it, `waiting` for what `problem` says, or
    /// `stopped` until what `problem` says is done.
    #[schema(example = "following")]
    state: &'static str,
    /// What it waits for, or what is wrong.
    problem: Option<String>,
    /// The height that it is going to.
    target: Option<u64>,
    /// Blocks published in the last second or so.
    #[schema(minimum = 0)]
    blocks_per_second: u64,
}

/// Where the frames of a chain end.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BusState {
    /// The last frame; 0 before the first.
    #[schema(minimum = 0)]
    sequence: u64,
    /// The oldest frame that is kept; one above `sequence` when none is.
    #[schema(minimum = 0)]
    oldest: u64,
    /// The head after the last frame.
    head: Option<BlockName>,
}

/// A reader of frames.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Consumer {
    /// Its name.
    #[schema(example = "warehouse")]
    name: String,
    /// The last frame that it has committed.
    #[schema(minimum = 0)]
    sequence: u64,
    /// How many frames it is behind.
    #[schema(minimum = 0)]
    lag: u64,
    /// The head after that frame.
    head: Option<BlockName>,
    /// `running`; `waiting` for what `problem` says; or `stopped` until what `problem` says is done.
    /// `null` when it runs in another process, if at all.
    #[schema(example = "running")]
    state: Option<&'static str>,
    /// What is wrong.
    problem: Option<String>,
}

/// Refuses a chain of which nothing is kept.
pub(super) fn require_followed(state: &Parts, chain: &Chain) -> Result<(), ApiError> {
    if state.follows.contains_key(&chain.id()) {
        return Ok(());
    }
    let name = chain.name();
    let detail = format!(
        "chain `{name}` is not followed, so nothing of it is kept; set `follow` in [chains.{name}]"
    );
    Err(ApiError::new(Code::ChainNotFollowed, detail))
}

/// The heights of a chain that the warehouse holds.
pub(super) async fn held(state: &Parts, chain: ChainId) -> Result<Vec<Held>, ApiError> {
    let ranges = state.warehouse.coverage(chain).await?;
    Ok(ranges.into_iter().map(Held::from).collect())
}

impl From<&Wants> for WantsItem {
    fn from(wants: &Wants) -> Self {
        Self {
            whole: wants.whole,
            addresses: wants.addresses.iter().map(ToString::to_string).collect(),
            topics: wants.topics.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<PublisherProgress> for Publisher {
    fn from(progress: PublisherProgress) -> Self {
        let PublisherProgress { activity, target, blocks_per_second } = progress;
        Self { state: activity.state, problem: activity.problem, target, blocks_per_second }
    }
}

fn consumer(name: String, cursor: Cursor, tail: Cursor, progress: &ChainProgress) -> Consumer {
    let activity = progress.consumers.iter().find(|(own, _)| *own == name);
    let activity = activity.map(|(_, activity)| activity.clone());
    Consumer {
        name,
        state: activity.as_ref().map(|activity| activity.state),
        problem: activity.and_then(|activity| activity.problem),
        sequence: cursor.sequence,
        // Read a moment later than the tail, it may be ahead of it.
        lag: tail.sequence.saturating_sub(cursor.sequence),
        head: cursor.head.map(BlockName::from),
    }
}

/// How a chain is followed
///
/// What of its blocks is kept, which heights are held, where the frames end, how far each reader of
/// them has come, and what keeps any of them from going on. Needs scope `events:read`.
#[utoipa::path(
    get, path = "/v1/chains/{chain}/follow", tag = "events", operation_id = "getFollow",
    params(ChainPath),
    responses((status = 200, description = "How it is followed", body = Follow))
)]
pub(crate) async fn get(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<ChainPath>,
    Visitor { caller, .. }: Visitor,
) -> Result<Response, ApiError> {
    caller.require(Scope::EventsRead)?;
    let chain = state.chain(&path.chain)?;
    let id = chain.id();
    let wants = state.follows.get(&id);
    let mut follow = Follow {
        chain: (&*chain).into(),
        followed: wants.is_some(),
        wants: wants.map(WantsItem::from),
        held: held(&state, id).await?,
        publisher: None,
        bus: None,
        consumers: Vec::new(),
    };
    if follow.followed {
        let progress = state.progress.of(id);
        follow.publisher = progress.publisher.clone().map(Publisher::from);
        let tail = state.bus.tail(id).await?;
        let oldest = state.bus.oldest(id).await?;
        let head = tail.head.map(BlockName::from);
        follow.bus = Some(BusState { sequence: tail.sequence, oldest, head });
        let warehouse = state.warehouse.cursor(id).await?;
        follow.consumers.push(consumer("warehouse".to_owned(), warehouse, tail, &progress));
        let others = state.store.consumer_cursors(id).await?.into_iter();
        follow
            .consumers
            .extend(others.map(|(name, cursor)| consumer(name, cursor, tail, &progress)));
    }
    body::json_of(&follow)
}
