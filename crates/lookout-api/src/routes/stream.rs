//! `/v1/stream`: blocks, events and alerts as they come, resumable without a gap or a repeat.
//!
//! A cursor says how far each chain's frames and the tenant's alerts were told. Frames are the bus's
//! own, so that a stream that resumes tells exactly what one that was never cut would have told.

mod cursor;
mod message;
mod source;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, SelectAll};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use lookout_store::{ChangedAlert, Scope};
use lookout_types::{ChainId, Frame};
use serde::Deserialize;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use utoipa::IntoParams;

use super::events::ask::{addresses, hashes, invalid, words};
use super::follow::require_followed;
use crate::auth::Caller;
use crate::error::{ApiError, Code};
use crate::extract::UrlQuery;
use crate::middleware::Visitor;
use crate::piped::{self, Gone, Pipe};
use crate::slots::Slot;
use crate::state::{self, Shared};
use cursor::Cursor;
use message::Watched;
use source::Found;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Longest silence: below the idle timeouts of common proxies (60 s).
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long a client may read nothing before it is cut off.
const STALL: Duration = Duration::from_secs(30);
/// How often the key of a stream is looked at again.
const RECHECK: Duration = Duration::from_secs(60);
/// Oldest that a stream gets, so that its credentials are checked as a whole again. Clients come
/// back by themselves.
const AGE_MAX: Duration = Duration::from_secs(3600);
/// What a client waits before it comes back, in milliseconds.
const RETRY_MS: u32 = 2000;
/// Size of the pieces that are written, about.
const PIECE_BYTES: usize = 64 << 10;

/// What to follow.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct StreamQuery {
    /// `heads`, `events`, `alerts`, or several of them, separated by commas.
    #[param(
        value_type = String, required = false, default = "heads", example = "heads,alerts",
        pattern = "^(heads|events|alerts)(,(heads|events|alerts)){0,2}$"
    )]
    topics: Option<String>,
    /// Only these chains, by name, id or CAIP-2 id, separated by commas; else all that are followed.
    #[param(value_type = String, required = false, example = "ethereum")]
    chain: Option<String>,
    /// Only events of these contracts, separated by commas.
    #[param(
        value_type = String, required = false, example = "0xa0b86991c6218b36c1d19d4a2e9eb0ce3606eb48",
        pattern = "^0x([0-9a-f]{40}|[0-9A-F]{40})(,0x([0-9a-f]{40}|[0-9A-F]{40}))*$"
    )]
    address: Option<String>,
    /// Only events with one of these first topics, separated by commas.
    #[param(
        value_type = String, required = false,
        pattern = "^0x[0-9a-fA-F]{64}(,0x[0-9a-fA-F]{64})*$"
    )]
    topic0: Option<String>,
    /// Only alerts of these rules, by id, separated by commas.
    #[param(value_type = String, required = false)]
    rule: Option<String>,
    /// The `id` of the last message that was read; `Last-Event-ID` goes before it.
    #[param(value_type = String, required = false, pattern = "^01[0-9a-f]{2,4094}$")]
    cursor: Option<String>,
}

/// Live stream
///
/// Server-sent events. `topics` says what is told:
///
/// * `heads` — `event: head` for a block that is on the chain from here on, `event: undo` for one
///   that no longer is.
/// * `events` — `event: event` for each log, again with `removed: true` when its block is undone.
/// * `alerts` — `event: alert` when an alert is confirmed or retracted: the object of
///   `GET /v1/alerts/{id}` as it is then; one that changes twice at once is told in its newer state.
///
/// Each message carries an `id` that stands for everything told so far, on all chains. Send it back
/// as `Last-Event-ID` (browsers do) or `?cursor=` to go on where it was read: nothing is missing and
/// nothing comes twice, also after a restart of the server. Without one, the stream begins now. A
/// cursor that reaches further back than frames are kept gets 410 `cursor_expired`; a stream that
/// fails ends with `event: error`. Silence is broken every 15 seconds. After an hour, and when the
/// server ends, the stream ends; come back with the last `id`. Needs scope `events:read` for `heads`
/// and `events`, `alerts:read` for `alerts`.
#[utoipa::path(
    get, path = "/v1/stream", tag = "events", operation_id = "stream",
    params(
        StreamQuery,
        ("Last-Event-ID" = Option<String>, Header,
            description = "The `id` of the last message that was read"),
    ),
    responses(
        (status = 200, description = "The stream; `data` of its messages is a JSON object",
            body = String, content_type = "text/event-stream"),
        (status = 404, description = "No such chain", body = crate::problem::Problem,
            content_type = "application/problem+json"),
        (status = 409, description = "A chain is not followed", body = crate::problem::Problem,
            content_type = "application/problem+json"),
        (status = 410, description = "The cursor reaches further back than frames are kept",
            body = crate::problem::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn open(
    State(state): State<Shared>,
    visitor: Visitor,
    UrlQuery(query): UrlQuery<StreamQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let topics = Topics::parse(query.topics.as_deref())?;
    topics.require(&visitor.caller)?;
    let from = resumed(&headers, query.cursor.as_deref())?;
    let watched = watched(&state, &topics, &query)?;
    let slot = state.streams.take(&visitor)?;
    let (cursor, found) = start(&state, &topics, &watched, &visitor.caller, from).await?;
    let telling = Telling { state, watched, cursor, found, caller: visitor.caller, _slot: slot };
    let body = piped::body(STALL, |pipe| telling.run(pipe));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would collect the messages otherwise.
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// What a stream is about.
#[derive(Debug, Default, PartialEq, Eq)]
struct Topics {
    heads: bool,
    events: bool,
    alerts: bool,
}

impl Topics {
    fn parse(text: Option<&str>) -> Result<Self, ApiError> {
        let mut topics = Self::default();
        for topic in text.unwrap_or("heads").split(',') {
            match topic {
                "heads" => topics.heads = true,
                "events" => topics.events = true,
                "alerts" => topics.alerts = true,
                other => {
                    let shown: String = other.chars().take(40).collect();
                    let detail = format!("no topic `{shown}`; topics are: heads, events, alerts");
                    return Err(invalid(detail));
                }
            }
        }
        Ok(topics)
    }

    fn of_chains(&self) -> bool {
        self.heads || self.events
    }

    fn require(&self, caller: &Caller) -> Result<(), ApiError> {
        if self.of_chains() {
            caller.require(Scope::EventsRead)?;
        }
        if self.alerts { caller.require(Scope::AlertsRead) } else { Ok(()) }
    }
}

/// What is to be told, with its chains.
fn watched(
    state: &state::State,
    topics: &Topics,
    query: &StreamQuery,
) -> Result<Watched, ApiError> {
    if !topics.events && (query.address.is_some() || query.topic0.is_some()) {
        return Err(invalid("`address` and `topic0` are about events; add `events` to `topics`"));
    }
    if !topics.alerts && query.rule.is_some() {
        return Err(invalid("`rule` is about alerts; add `alerts` to `topics`"));
    }
    let addresses = addresses("address", query.address.as_deref())?.into_iter().collect();
    let topic0 = hashes("topic0", query.topic0.as_deref())?.into_iter().collect();
    let mut chains = HashMap::new();
    for name in words("chain", query.chain.as_deref())? {
        let chain = state.chain(&name)?;
        // Alerts can be of a chain that is no longer followed.
        if topics.of_chains() {
            require_followed(state, &chain)?;
        }
        chains.insert(chain.id(), chain.name().to_owned());
    }
    if query.chain.is_none() && topics.of_chains() {
        let all = state.chains.list().into_iter();
        let all = all.filter(|chain| state.follows.contains_key(&chain.id()));
        chains = all.map(|chain| (chain.id(), chain.name().to_owned())).collect();
        if chains.is_empty() {
            let detail =
                "no chain is followed, so there is nothing to tell; set `follow` in a chain";
            return Err(ApiError::new(Code::ChainNotFollowed, detail));
        }
    }
    Ok(Watched {
        heads: topics.heads,
        events: topics.events,
        addresses,
        topic0,
        rules: words("rule", query.rule.as_deref())?.into_iter().collect(),
        chains,
        only_chains: query.chain.is_some(),
    })
}

/// The cursor that the client sends, if any.
fn resumed(headers: &HeaderMap, cursor: Option<&str>) -> Result<Option<Cursor>, ApiError> {
    let header = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or("?"));
    // A browser that never got an id sends none; one that was told an empty one sends that.
    let Some(text) = header.filter(|id| !id.is_empty()).or(cursor) else { return Ok(None) };
    let wrong = "the cursor is none of ours; pass the `id` of the last message unchanged";
    Cursor::decode(text).map(Some).ok_or_else(|| invalid(wrong))
}

/// Everything that is found from a cursor on, or from now on.
async fn start(
    state: &Shared,
    topics: &Topics,
    watched: &Watched,
    caller: &Caller,
    from: Option<Cursor>,
) -> Result<(Cursor, SelectAll<BoxStream<'static, Found>>), ApiError> {
    let from = from.unwrap_or_default();
    let mut cursor = Cursor { chains: BTreeMap::new(), alerts: None };
    let mut found = SelectAll::new();
    let chains: Vec<ChainId> =
        watched.chains.keys().copied().filter(|_| topics.of_chains()).collect();
    for chain in chains {
        let at = from.chains.get(&chain).copied();
        let (at, frames) = source::frames(&*state.bus, chain, at).await?;
        cursor.chains.insert(chain, at);
        found.push(frames);
    }
    if topics.alerts {
        let tenant = caller.tenant();
        let after = match from.alerts {
            Some(after) => after,
            None => state.store.alerts_tail(tenant).await?,
        };
        cursor.alerts = Some(after.clone());
        found.push(source::alerts(state.store.clone(), tenant.to_owned(), after));
    }
    Ok((cursor, found))
}

/// A stream under way.
struct Telling {
    state: Shared,
    watched: Watched,
    cursor: Cursor,
    found: SelectAll<BoxStream<'static, Found>>,
    caller: Caller,
    _slot: Slot,
}

/// Why a stream ends.
enum Ended {
    /// The client left or reads no more.
    Left,
    /// The client may come back at once.
    Over,
    /// The client is told why.
    Failed(Box<ApiError>),
}

impl From<Gone> for Ended {
    fn from(_: Gone) -> Self {
        Self::Left
    }
}

impl<E: Into<ApiError>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Failed(Box::new(error.into()))
    }
}

impl Telling {
    async fn run(mut self, pipe: Pipe) {
        match self.tell(&pipe).await {
            Ended::Left => tracing::debug!("the client of a stream left"),
            Ended::Over => pipe.end().await,
            Ended::Failed(error) => {
                if error.code.status().is_server_error() {
                    let cause = error.internal.as_deref().unwrap_or(&error.detail);
                    tracing::warn!(cause, "a stream failed");
                }
                if pipe.send(message::failure(&error)).await.is_ok() {
                    pipe.end().await;
                }
            }
        }
    }

    async fn tell(&mut self, pipe: &Pipe) -> Ended {
        let ended = self.tell_on(pipe).await;
        ended.err().unwrap_or(Ended::Over)
    }

    async fn tell_on(&mut self, pipe: &Pipe) -> Result<(), Ended> {
        pipe.send(format!("retry: {RETRY_MS}\n{}", message::place(&self.cursor))).await?;
        let end = Instant::now() + AGE_MAX;
        let mut rechecks = every(RECHECK);
        // Also while messages come: their ids do not move where none of them is wanted.
        let mut signs = every(KEEP_ALIVE);
        let stopping = self.state.stopping.clone();
        loop {
            tokio::select! {
                found = self.found.next() => match found {
                    Some(Found::Frames(chain, frames)) => {
                        let frames = frames.map_err(|error| source::of_bus(error, chain))?;
                        self.tell_frames(&frames, pipe).await?;
                    }
                    Some(Found::Alerts(alerts)) => self.tell_alerts(&alerts?, pipe).await?,
                    Some(Found::Closed) | None => return Ok(()),
                },
                _ = signs.tick() => {
                    pipe.send(format!(": still here\n{}", message::place(&self.cursor))).await?;
                }
                _ = rechecks.tick() => recheck(&self.state, &self.caller).await?,
                () = stopping.cancelled() => return Ok(()),
                () = tokio::time::sleep_until(end) => return Ok(()),
            }
        }
    }

    async fn tell_frames(&mut self, frames: &[Arc<Frame>], pipe: &Pipe) -> Result<(), Ended> {
        let mut text = String::new();
        for frame in frames {
            self.watched.frame(frame, &mut self.cursor, &mut text)?;
            if text.len() >= PIECE_BYTES {
                pipe.send(std::mem::take(&mut text)).await?;
            }
        }
        if !text.is_empty() {
            pipe.send(text).await?;
        }
        Ok(())
    }

    async fn tell_alerts(&mut self, alerts: &[ChangedAlert], pipe: &Pipe) -> Result<(), Ended> {
        let mut text = String::new();
        for alert in alerts {
            self.watched.alert(alert, &mut self.cursor, &mut text)?;
        }
        if !text.is_empty() {
            pipe.send(text).await?;
        }
        Ok(())
    }
}

/// Ticks from one period on.
fn every(period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Ends the stream of a key that was revoked or has expired since.
async fn recheck(state: &state::State, caller: &Caller) -> Result<(), ApiError> {
    let Caller::Key(key) = caller else { return Ok(()) };
    let key = state.store.get_key(&key.tenant, &key.id).await?;
    if key.is_active(state.clock.now()) {
        return Ok(());
    }
    Err(ApiError::new(Code::Unauthenticated, "this API key is expired or revoked"))
}

#[cfg(test)]
mod tests;
