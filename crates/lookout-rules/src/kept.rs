//! Whether what is kept of a chain is enough for a rule: what is not kept can never match.

use lookout_types::{Address, Hash, TRANSFER, TRANSFER_BATCH, TRANSFER_SINGLE};

use crate::index::RecordKind;
use crate::rule::{Layout, Rule};

/// What is kept of the blocks of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The chain's configured name, for the reason.
    pub chain: String,
    /// Everything, transactions and receipts included; logs alone otherwise.
    pub whole: bool,
    /// Only logs of these contracts; empty for all.
    pub addresses: Vec<Address>,
    /// Only logs with these first topics; empty for all.
    pub topics: Vec<Hash>,
}

/// Why a rule could never match.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotKept(String);

impl Kept {
    /// # Errors
    /// [`NotKept`] says what the rule needs and where to add it.
    pub fn require(&self, rule: &Rule) -> Result<(), NotKept> {
        if self.whole {
            return Ok(());
        }
        let (chain, needs) = (&self.chain, rule.needs());
        if needs.transactions || needs.receipts {
            return Err(NotKept(format!(
                "the rule needs transactions{}, and chain `{chain}` is followed by its logs alone; \
                 let chains.{chain}.follow take whole blocks",
                if needs.receipts { " and receipts" } else { "" }
            )));
        }
        for group in &rule.groups {
            match group.kind {
                RecordKind::Log | RecordKind::Transfer => self.require_address(group.address)?,
                // The first two need transactions, the last reads the chain itself.
                RecordKind::Transaction | RecordKind::NativeTransfer | RecordKind::Balance => {}
            }
        }
        match &rule.layout {
            Layout::Event(event) if event.anonymous && !self.topics.is_empty() => {
                Err(NotKept(format!(
                    "`{}` is anonymous, and chain `{chain}` keeps named events alone; widen \
                     chains.{chain}.follow",
                    event.signature
                )))
            }
            Layout::Event(event) => self.require_topic(&event.topic0, &event.signature),
            Layout::None if rule.groups.iter().any(|group| group.kind == RecordKind::Transfer) => {
                self.require_topic(&TRANSFER, "Transfer")?;
                self.require_topic(&TRANSFER_SINGLE, "TransferSingle")?;
                self.require_topic(&TRANSFER_BATCH, "TransferBatch")
            }
            Layout::None | Layout::Function(_) => Ok(()),
        }
    }

    fn require_address(&self, watched: Option<Address>) -> Result<(), NotKept> {
        let (chain, kept) = (&self.chain, self.addresses.len());
        match watched {
            _ if kept == 0 => Ok(()),
            Some(watched) if self.addresses.contains(&watched) => Ok(()),
            Some(missing) => Err(NotKept(format!(
                "the rule watches {missing}, and chain `{chain}` keeps the logs of {kept} other \
                 contracts alone; add it to chains.{chain}.follow"
            ))),
            None => Err(NotKept(format!(
                "the rule watches any contract, and chain `{chain}` keeps the logs of {kept} alone; \
                 name some of these, or widen chains.{chain}.follow"
            ))),
        }
    }

    fn require_topic(&self, topic: &Hash, name: &str) -> Result<(), NotKept> {
        if self.topics.is_empty() || self.topics.contains(topic) {
            return Ok(());
        }
        let chain = &self.chain;
        Err(NotKept(format!(
            "the rule watches `{name}` ({topic}), and chain `{chain}` keeps other events alone; add \
             it to chains.{chain}.follow"
        )))
    }
}
