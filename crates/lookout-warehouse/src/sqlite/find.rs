//! Filters: which keys to look for, and which records of a block match.

use lookout_types::{
    Address, Asset, ChainId, CodecError, Content, Frame, Hash, LogRef, Step, TRANSFER,
    TRANSFER_BATCH, TRANSFER_SINGLE, Transfer, TransfersOf, is_transfer_topic, transfers,
};

use super::keys::Key;
use crate::{
    AssetFilter, Event, EventFilter, FILTER_VALUES_MAX, OddEvent, Side, Span, TransferEvent,
    TransferFilter,
};

/// What pages are made of.
pub(super) trait Find: std::fmt::Debug {
    /// What is found.
    type Item;

    /// Blocks that match have a key of each set.
    fn key_sets(&self) -> Vec<Vec<Key>>;

    /// Where to look.
    fn span(&self) -> Span;

    /// Appends what matches in a block, with its position among all records of its kind there.
    fn in_block(
        &self,
        content: &Content<'_>,
        found: &mut Vec<(u32, Self::Item)>,
    ) -> Result<(), CodecError>;
}

/// The logs in quarantine of a chain.
#[derive(Debug)]
pub(super) struct OddFilter(pub(super) ChainId);

impl EventFilter {
    /// Calls `each` with the logs of a block that match.
    pub(super) fn each(
        &self,
        content: &Content<'_>,
        mut each: impl FnMut(u32, &LogRef<'_>) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        if !self.span.has_time(content.timestamp) || !self.can_match(content) {
            return Ok(());
        }
        for (position, log) in (0..).zip(content.logs()) {
            let log = log?;
            if self.matches(&log) {
                each(position, &log)?;
            }
        }
        Ok(())
    }

    /// Whether a block's tables hold what is asked for, before any log is read.
    fn can_match(&self, content: &Content<'_>) -> bool {
        let [topic0, ..] = &self.topics;
        let address = self.addresses.is_empty()
            || content.addresses().iter().any(|a| self.addresses.contains(&Address(*a)));
        let event =
            topic0.is_empty() || content.signatures().iter().any(|t| topic0.contains(&Hash(*t)));
        address && event
    }

    fn matches(&self, log: &LogRef<'_>) -> bool {
        let address = self.addresses.is_empty() || self.addresses.contains(&log.address);
        address
            && self.topics.iter().enumerate().all(|(at, wanted)| {
                wanted.is_empty() || log.topics().get(at).is_some_and(|t| wanted.contains(t))
            })
    }
}

impl Find for EventFilter {
    type Item = Event;

    fn key_sets(&self) -> Vec<Vec<Key>> {
        let [topic0, arguments @ ..] = &self.topics;
        let mut sets = Vec::new();
        let pairs = self.addresses.len().saturating_mul(topic0.len());
        if (1..=FILTER_VALUES_MAX).contains(&pairs) {
            let of = |address| topic0.iter().map(move |topic| Key::address_event(address, topic));
            sets.push(self.addresses.iter().flat_map(of).collect());
        } else {
            sets.push(self.addresses.iter().map(Key::address).collect());
            sets.push(topic0.iter().map(Key::event).collect());
        }
        sets.extend(arguments.iter().map(|set| set.iter().map(Key::topic).collect()));
        sets.retain(|set: &Vec<Key>| !set.is_empty());
        sets
    }

    fn span(&self) -> Span {
        self.span
    }

    fn in_block(
        &self,
        content: &Content<'_>,
        found: &mut Vec<(u32, Event)>,
    ) -> Result<(), CodecError> {
        let (block, timestamp) = (content.block, content.timestamp);
        self.each(content, |position, log| {
            found.push((position, Event { block, timestamp, log: log.to_log()? }));
            Ok(())
        })
    }
}

impl TransferFilter {
    /// Calls `each` with the transfers of a block that match.
    pub(super) fn each(
        &self,
        content: &Content<'_>,
        mut each: impl FnMut(u32, &Transfer),
    ) -> Result<(), CodecError> {
        if !self.span.has_time(content.timestamp) {
            return Ok(());
        }
        let found = derive(self.chain, content)?;
        for (position, transfer) in (0..).zip(&found.transfers) {
            if self.matches(transfer) {
                each(position, transfer);
            }
        }
        Ok(())
    }

    fn matches(&self, transfer: &Transfer) -> bool {
        let party = self.parties.is_empty() || {
            let from = self.side != Side::To && self.parties.contains(&transfer.from);
            from || (self.side != Side::From && self.parties.contains(&transfer.to))
        };
        party
            && (self.assets.is_empty()
                || self.assets.iter().any(|asset| is_of(&transfer.asset, asset)))
    }
}

fn is_of(asset: &Asset, wanted: &AssetFilter) -> bool {
    match (asset, wanted) {
        (Asset::Native, AssetFilter::Native) => true,
        (
            Asset::Erc20(contract)
            | Asset::Erc721 { contract, .. }
            | Asset::Erc1155 { contract, .. },
            AssetFilter::Contract(wanted),
        ) => contract == wanted,
        (
            Asset::Erc721 { contract, id } | Asset::Erc1155 { contract, id },
            AssetFilter::Token { contract: wanted, id: wanted_id },
        ) => contract == wanted && id == wanted_id,
        _ => false,
    }
}

impl Find for TransferFilter {
    type Item = TransferEvent;

    fn key_sets(&self) -> Vec<Vec<Key>> {
        let mut sets: Vec<Vec<Key>> = Vec::new();
        if !self.parties.is_empty() {
            sets.push(self.parties.iter().map(Key::party).collect());
        }
        let events = [TRANSFER, TRANSFER_SINGLE, TRANSFER_BATCH];
        if self.assets.is_empty() {
            let mut any = vec![Key::native()];
            any.extend(events.iter().map(Key::event));
            sets.push(any);
        } else {
            let of = |asset: &AssetFilter| match asset {
                AssetFilter::Native => vec![Key::native()],
                AssetFilter::Contract(contract) | AssetFilter::Token { contract, .. } => {
                    events.iter().map(|event| Key::address_event(contract, event)).collect()
                }
            };
            sets.push(self.assets.iter().flat_map(of).collect());
        }
        sets
    }

    fn span(&self) -> Span {
        self.span
    }

    fn in_block(
        &self,
        content: &Content<'_>,
        found: &mut Vec<(u32, TransferEvent)>,
    ) -> Result<(), CodecError> {
        let (block, timestamp) = (content.block, content.timestamp);
        self.each(content, |position, transfer| {
            found.push((position, TransferEvent { block, timestamp, transfer: *transfer }));
        })
    }
}

impl Find for OddFilter {
    type Item = OddEvent;

    fn key_sets(&self) -> Vec<Vec<Key>> {
        vec![vec![Key::odd()]]
    }

    fn span(&self) -> Span {
        Span::default()
    }

    fn in_block(
        &self,
        content: &Content<'_>,
        found: &mut Vec<(u32, OddEvent)>,
    ) -> Result<(), CodecError> {
        let frame = transfer_frame(self.0, content)?;
        for (position, odd) in (0..).zip(transfers(&frame).odd) {
            // Positions in a block are unique in what a node may answer, but nothing here relies on
            // it: the first such log stands for all.
            let log = frame.logs.iter().find(|log| log.log_index == odd.log_index);
            let log = log.ok_or(CodecError::Wrong("log index"))?.clone();
            let event = Event { block: content.block, timestamp: content.timestamp, log };
            found.push((position, OddEvent { event, reason: odd.reason }));
        }
        Ok(())
    }
}

fn derive(chain: ChainId, content: &Content<'_>) -> Result<TransfersOf, CodecError> {
    Ok(transfers(&transfer_frame(chain, content)?))
}

/// The part of a block that transfers are made of.
fn transfer_frame(chain: ChainId, content: &Content<'_>) -> Result<Frame, CodecError> {
    let mut logs = Vec::new();
    if content.signatures().iter().any(|topic| is_transfer_topic(&Hash(*topic))) {
        for log in content.logs() {
            let log = log?;
            if log.topics().first().is_some_and(is_transfer_topic) {
                logs.push(log.to_log()?);
            }
        }
    }
    Ok(Frame {
        chain,
        sequence: 0,
        step: Step::Apply,
        block: content.block,
        parent: content.parent,
        timestamp: content.timestamp,
        transactions: content.transactions()?,
        logs,
    })
}
