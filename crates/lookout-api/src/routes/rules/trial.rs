//! Trying rules out: dry runs and backtests over the blocks that the warehouse holds.

mod answer;
mod range;
mod run;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use lookout_chain::Chain;
use lookout_rules::{Backtest, Rule as Compiled, RuleDocument, RuleSource, WatchDocument};
use lookout_store::Scope;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::shapes::Rule;
use super::{RulePath, checked, fit, read};
use crate::body;
use crate::error::{ApiError, Code};
use crate::extract::{UrlPath, UrlQuery};
use crate::middleware::Visitor;
use crate::state::{Shared, State as Parts};

use answer::{BacktestAnswer, CheckAnswer};
use range::Asked;

/// Most blocks of a dry run: an answer within a second or two.
const CHECK_BLOCKS_MAX: u64 = 1_000;
/// Most blocks of a backtest: four months of Ethereum, what a minute of reading holds.
const BACKTEST_BLOCKS_MAX: u64 = 1_000_000;
/// Matches that a backtest shows, unless asked for fewer or more.
const MATCHES_DEFAULT: u32 = 100;
/// Most matches that a backtest shows: each may carry a message of 4,096 characters.
const MATCHES_MAX: u32 = 1_000;

/// Over which blocks a dry run goes; over none when left out.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CheckQuery {
    /// One block by its height.
    #[param(value_type = u64, required = false, minimum = 0)]
    block: Option<u64>,
    /// The first height.
    #[param(value_type = u64, required = false, minimum = 0)]
    from: Option<u64>,
    /// The last height; the newest held when left out.
    #[param(value_type = u64, required = false, minimum = 0)]
    to: Option<u64>,
}

/// Over which blocks a saved rule is tried.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BacktestRange {
    /// The first height; or `fromTime`.
    from: Option<u64>,
    /// The last height; the newest held when left out. Or `toTime`.
    to: Option<u64>,
    /// From the first block of this time or later (RFC 3339).
    #[schema(format = DateTime)]
    from_time: Option<String>,
    /// Up to the last block before this time (RFC 3339).
    #[schema(format = DateTime)]
    to_time: Option<String>,
    /// Most matches to show; all are counted.
    #[schema(maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// A rule, and over which blocks it is tried.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BacktestRequest {
    /// The rule; nothing of it is saved.
    #[schema(value_type = Rule)]
    rule: RuleDocument,
    /// The first height; or `fromTime`.
    from: Option<u64>,
    /// The last height; the newest held when left out. Or `toTime`.
    to: Option<u64>,
    /// From the first block of this time or later (RFC 3339).
    #[schema(format = DateTime)]
    from_time: Option<String>,
    /// Up to the last block before this time (RFC 3339).
    #[schema(format = DateTime)]
    to_time: Option<String>,
    /// Most matches to show; all are counted.
    #[schema(maximum = 1000, default = 100)]
    limit: Option<u32>,
}

/// Check a rule
///
/// Compiles it and saves nothing: what it watches, what it needs, and what you should know. With
/// `block`, or `from` and `to`, it also tells what it matches in these blocks, at most 1,000. Needs
/// scope `rules:read`.
#[utoipa::path(
    post, path = "/v1/rules/check", tag = "rules", operation_id = "checkRule",
    params(CheckQuery),
    request_body(content = Rule, content_type = "application/json"),
    responses(
        (status = 200, description = "What the rule is", body = CheckAnswer),
        (status = 409, description = "What is kept of the chain is not enough",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn check(
    State(state): State<Shared>,
    Visitor { caller, .. }: Visitor,
    UrlQuery(query): UrlQuery<CheckQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    caller.require(Scope::RulesRead)?;
    let document: RuleDocument = read(&state, request, "rule").await?;
    let chain = fit::chain_of(&state, &document)?;
    let (source, rule) = fit::require(&state, caller.tenant(), &chain, &document).await?;
    let asked = match query {
        CheckQuery { block: None, from: None, to: None } => None,
        CheckQuery { block: Some(block), from: None, to: None } => {
            Some(Asked::heights(block, Some(block)))
        }
        CheckQuery { block: None, from: Some(from), to } => Some(Asked::heights(from, to)),
        CheckQuery { .. } => {
            let detail = "name one `block`, or `from` and perhaps `to`";
            return Err(ApiError::new(Code::InvalidParameter, detail));
        }
    };
    let mut answer = CheckAnswer::of(&source, &rule)?;
    if let Some(asked) = asked {
        let sizes = Sizes { blocks_max: CHECK_BLOCKS_MAX, matches: MATCHES_DEFAULT };
        answer.trial = Some(over(&state, &chain, (source, rule), asked, sizes).await?);
    }
    body::json_of(&answer)
}

/// Backtest a rule
///
/// Runs a rule that is not saved over blocks that are held, with the code of live following, as if it
/// had been saved before the first of them: its matches, the alerts made of them, and the limits that
/// these would have met on each kind of channel. At most 1,000,000 blocks; when the time of a request
/// runs out before, the answer is of the blocks so far and says so (`complete`). Needs scope
/// `rules:read`.
#[utoipa::path(
    post, path = "/v1/rules/backtest", tag = "rules", operation_id = "backtestRule",
    request_body(content = BacktestRequest, content_type = "application/json"),
    responses(
        (status = 200, description = "What the rule would have found", body = BacktestAnswer),
        (status = 409, description = "What is kept of the chain is not enough, or a reorg replaced blocks meanwhile",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn backtest(
    State(state): State<Shared>,
    Visitor { caller, .. }: Visitor,
    request: Request,
) -> Result<Response, ApiError> {
    caller.require(Scope::RulesRead)?;
    let BacktestRequest { rule: document, from, to, from_time, to_time, limit } =
        read(&state, request, "backtest").await?;
    let limit = checked_limit(limit)?;
    let asked = Asked::parse(from, to, from_time.as_deref(), to_time.as_deref())?;
    let chain = fit::chain_of(&state, &document)?;
    let rule = fit::require(&state, caller.tenant(), &chain, &document).await?;
    let sizes = Sizes { blocks_max: BACKTEST_BLOCKS_MAX, matches: limit };
    body::json_of(&over(&state, &chain, rule, asked, sizes).await?)
}

/// Backtest a saved rule
///
/// The same for a rule as it is saved, with the labels and the ABI of now. Needs scope `rules:read`.
#[utoipa::path(
    post, path = "/v1/rules/{id}/backtest", tag = "rules", operation_id = "backtestSavedRule",
    params(RulePath),
    request_body(content = BacktestRange, content_type = "application/json"),
    responses(
        (status = 200, description = "What the rule would have found", body = BacktestAnswer),
        (status = 409, description = "What is kept of the chain is not enough, or a reorg replaced blocks meanwhile",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn backtest_saved(
    State(state): State<Shared>,
    UrlPath(path): UrlPath<RulePath>,
    Visitor { caller, .. }: Visitor,
    request: Request,
) -> Result<Response, ApiError> {
    caller.require(Scope::RulesRead)?;
    let info = state.store.get_rule(caller.tenant(), checked(&path.id)?).await?;
    let BacktestRange { from, to, from_time, to_time, limit } =
        read(&state, request, "backtest").await?;
    let limit = checked_limit(limit)?;
    let asked = Asked::parse(from, to, from_time.as_deref(), to_time.as_deref())?;
    let rule = fit::require_saved(&state, caller.tenant(), &info).await?;
    let chain = state.chain(&info.chain.to_string())?;
    let sizes = Sizes { blocks_max: BACKTEST_BLOCKS_MAX, matches: limit };
    body::json_of(&over(&state, &chain, rule, asked, sizes).await?)
}

/// How much a trial reads and shows.
struct Sizes {
    blocks_max: u64,
    matches: u32,
}

fn checked_limit(limit: Option<u32>) -> Result<u32, ApiError> {
    let limit = limit.unwrap_or(MATCHES_DEFAULT);
    if limit <= MATCHES_MAX {
        return Ok(limit);
    }
    let detail = format!("`limit` is at most {MATCHES_MAX}, not {limit}");
    Err(ApiError::new(Code::InvalidBody, detail))
}

async fn over(
    state: &Parts,
    chain: &Chain,
    (source, rule): (RuleSource, Compiled),
    asked: Asked,
    sizes: Sizes,
) -> Result<BacktestAnswer, ApiError> {
    if matches!(source.document.watch, WatchDocument::Balance { .. }) {
        let detail = "a balance rule cannot be tried on held blocks: balances are read from the \
                      chain by a job, and blocks do not hold them; watch transfers instead";
        return Err(ApiError::new(Code::InvalidRule, detail));
    }
    let warehouse = state.warehouse.as_ref();
    let (held, range) = range::resolve(warehouse, chain, &asked, sizes.blocks_max).await?;
    let time = state.live().config.request_timeout;
    let confirmations = source.document.confirmations;
    let matches = usize::try_from(sizes.matches).unwrap_or(usize::MAX);
    let (id, over) = (chain.id(), range.clone());
    let backtest = move || Backtest::new(Arc::new(rule), id, over, confirmations, matches);
    let ran = run::run(warehouse, id, backtest, time).await?;
    BacktestAnswer::of(chain, held, range, ran)
}
