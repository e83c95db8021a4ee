//! Messages of a live stream, in the form of server-sent events.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use lookout_store::{Alert, ChangedAlert};
use lookout_types::{Address, ChainId, Frame, Hash, Log, Step};
use serde::Serialize;
use utoipa::ToSchema;

use super::cursor::{ChainAt, Cursor, mark_of};
use crate::error::ApiError;
use crate::provenance::rfc3339_seconds;
use crate::routes::events::item::{EventItem, raw_item};

/// What is to be told.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) heads: bool,
    pub(super) events: bool,
    /// Contracts and first topics of the events; empty for all.
    pub(super) addresses: HashSet<Address>,
    pub(super) topic0: HashSet<Hash>,
    /// Rules of the alerts; empty for all.
    pub(super) rules: HashSet<String>,
    /// The names of the chains, by id.
    pub(super) chains: HashMap<ChainId, String>,
    /// Whether alerts of other chains are left out.
    pub(super) only_chains: bool,
}

/// `event: head` and `event: undo`: a block that is on the chain from here on, or no more.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HeadMessage<'a> {
    /// Name of the chain.
    #[schema(example = "ethereum")]
    chain: &'a str,
    /// Its EIP-155 id.
    chain_id: u64,
    /// Height of the block.
    number: u64,
    /// Hash of the block.
    hash: String,
    /// Hash of its parent: after an `undo`, the head.
    parent_hash: String,
    /// Time of the block.
    #[schema(format = DateTime)]
    timestamp: String,
}

/// `event: event`: a log, or one that is taken back.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EventMessage<'a> {
    /// Name of the chain.
    #[schema(example = "ethereum")]
    chain: &'a str,
    /// Its EIP-155 id.
    chain_id: u64,
    /// Whether its block was undone: what was told before is no longer so.
    removed: bool,
    /// The log.
    #[serde(flatten)]
    event: EventItem,
}

/// One thing that a frame tells.
enum Entry<'a> {
    Block,
    Log(&'a Log),
}

/// Everything that a frame tells, in order: a block before its logs; backwards where it is undone.
fn entries(frame: &Frame) -> Vec<Entry<'_>> {
    let mut entries = vec![Entry::Block];
    entries.extend(frame.logs.iter().map(Entry::Log));
    if frame.step == Step::Undo {
        entries.reverse();
    }
    entries
}

impl Watched {
    fn wants_log(&self, log: &Log) -> bool {
        let address = self.addresses.is_empty() || self.addresses.contains(&log.address);
        let topic = || log.topics.first().is_some_and(|topic| self.topic0.contains(topic));
        self.events && address && (self.topic0.is_empty() || topic())
    }

    fn wants_alert(&self, alert: &Alert) -> bool {
        (self.rules.is_empty() || self.rules.contains(&alert.rule_id))
            && (!self.only_chains || self.chains.contains_key(&alert.chain))
    }

    /// Writes what of a frame is to be told, and moves the cursor behind it.
    pub(super) fn frame(
        &self,
        frame: &Frame,
        cursor: &mut Cursor,
        text: &mut String,
    ) -> Result<(), ApiError> {
        let before = cursor.chains.get(&frame.chain);
        let told = before.filter(|at| at.sequence == frame.sequence).map_or(0, |at| at.told);
        let entries = entries(frame);
        let whole = ChainAt::behind(frame.sequence, mark_of(frame));
        for (after, entry) in (1_u32..).zip(&entries).skip_while(|(after, _)| *after <= told) {
            let last = usize::try_from(after).is_ok_and(|after| after == entries.len());
            let at = if last { whole } else { ChainAt { told: after, ..whole } };
            cursor.chains.insert(frame.chain, at);
            match entry {
                Entry::Block if self.heads => {
                    let kind = if frame.step == Step::Apply { "head" } else { "undo" };
                    message(kind, cursor, &self.head(frame)?, text)?;
                }
                Entry::Log(log) if self.wants_log(log) => {
                    message("event", cursor, &self.event(frame, log)?, text)?;
                }
                _ => {}
            }
        }
        cursor.chains.insert(frame.chain, whole);
        Ok(())
    }

    fn name(&self, chain: ChainId) -> &str {
        self.chains.get(&chain).map_or("", String::as_str)
    }

    fn head(&self, frame: &Frame) -> Result<HeadMessage<'_>, ApiError> {
        Ok(HeadMessage {
            chain: self.name(frame.chain),
            chain_id: frame.chain.0,
            number: frame.block.number,
            hash: frame.block.hash.to_string(),
            parent_hash: frame.parent.to_string(),
            timestamp: rfc3339_seconds(frame.timestamp)?,
        })
    }

    fn event(&self, frame: &Frame, log: &Log) -> Result<EventMessage<'_>, ApiError> {
        Ok(EventMessage {
            chain: self.name(frame.chain),
            chain_id: frame.chain.0,
            removed: frame.step == Step::Undo,
            event: raw_item(frame.block, frame.timestamp, log)?,
        })
    }

    /// Writes an alert if it is to be told, and moves the cursor behind it.
    pub(super) fn alert(
        &self,
        told: &ChangedAlert,
        cursor: &mut Cursor,
        text: &mut String,
    ) -> Result<(), ApiError> {
        cursor.alerts = Some(told.position());
        if !self.wants_alert(&told.alert) {
            return Ok(());
        }
        message("alert", cursor, &told.alert, text)
    }
}

/// Writes one message. JSON has no line breaks of its own, so it fits one `data` line.
fn message(
    kind: &str,
    cursor: &Cursor,
    data: &impl Serialize,
    text: &mut String,
) -> Result<(), ApiError> {
    let data = serde_json::to_string(data).map_err(ApiError::internal)?;
    write!(text, "event: {kind}\nid: {}\ndata: {data}\n\n", cursor.encode())
        .map_err(ApiError::internal)
}

/// Tells where the stream stands, without an event: clients keep the id and show nothing.
pub(super) fn place(cursor: &Cursor) -> String {
    format!("id: {}\n\n", cursor.encode())
}

/// The last message of a stream that fails.
pub(super) fn failure(error: &ApiError) -> String {
    let data = serde_json::json!({ "code": error.code.name(), "detail": error.detail });
    format!("event: error\ndata: {data}\n\n")
}
