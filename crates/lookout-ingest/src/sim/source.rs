//! The simulated chain as ingest sees it.

use std::ops::RangeInclusive;
use std::sync::Arc;

use async_trait::async_trait;
use lookout_chain::{ChainError, Heads, Source, SourceBlock, SourceError, SourceHeader, Wants};
use lookout_types::{BlockRef, ChainId, Hash, Height};
use tokio::sync::watch;

use super::{SimSource, State};

impl SimSource {
    /// Lets others go first, then fails or goes on, as the faults say.
    async fn luck(&self, height: Height) -> Result<(), SourceError> {
        let yields = {
            let mut state = self.0.state.lock();
            let most = state.faults.yields;
            state.luck.u8(0..=most)
        };
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        let mut state = self.0.state.lock();
        let (faults, chance) = (state.faults, state.luck.u8(0..100));
        let reason = || "the simulation says so".to_owned();
        if chance < faults.away {
            return Err(away(reason()).into());
        }
        if chance < faults.away.saturating_add(faults.moved) {
            return Err(SourceError::Moved { height, reason: reason() });
        }
        if chance < faults.away.saturating_add(faults.moved).saturating_add(faults.unproved) {
            return Err(SourceError::Unproved { height, reason: reason() });
        }
        Ok(())
    }
}

fn away(reason: String) -> ChainError {
    ChainError::Unavailable { chain: "simulated".to_owned(), reason }
}

impl State {
    fn get(
        &self,
        hash: Option<Hash>,
        what: impl FnOnce() -> String,
    ) -> Result<Arc<SourceBlock>, SourceError> {
        let block = hash.and_then(|hash| self.blocks.get(&hash));
        block.cloned().ok_or_else(|| ChainError::NotFound(what()).into())
    }

    /// Refuses a range that is too large.
    fn refuse(&self, heights: &RangeInclusive<Height>) -> Result<(), SourceError> {
        let count = heights.end() - heights.start() + 1;
        let too_large = |blocks: u64| {
            let blocks = self.faults.suggests.then_some(blocks.max(1));
            Err(SourceError::TooLarge { range: heights.clone(), blocks })
        };
        if let Some(max) = self.faults.range_blocks_max
            && count > max
        {
            return too_large(max);
        }
        if let Some(max) = self.faults.range_records_max
            && count > 1
        {
            let blocks = heights.clone().filter_map(|height| self.blocks.get(&self.at(height)?));
            let records: usize = blocks.map(|b| b.logs.len() + b.transactions.len()).sum();
            if records > max {
                return too_large(count / 2);
            }
        }
        Ok(())
    }

    /// Spoils an answer as no checked source should: what asks must notice.
    fn spoil(&mut self, blocks: &mut Vec<SourceBlock>) {
        if blocks.is_empty() || self.luck.u8(0..100) >= self.faults.wrong {
            return;
        }
        let at = self.luck.usize(0..blocks.len());
        match self.luck.u8(0..3) {
            0 => drop(blocks.remove(at)),
            1 if at > 0 => blocks[at].header.parent = Hash([0xee; 32]),
            _ => blocks.insert(at, blocks[at].clone()),
        }
    }
}

fn wanted(block: &SourceBlock, wants: &Wants) -> SourceBlock {
    if wants.whole {
        return block.clone();
    }
    let is_wanted = |log: &&lookout_types::Log| {
        (wants.addresses.is_empty() || wants.addresses.contains(&log.address))
            && (wants.topics.is_empty()
                || log.topics.first().is_some_and(|topic| wants.topics.contains(topic)))
    };
    let logs = block.logs.iter().filter(is_wanted).cloned().collect();
    SourceBlock { header: block.header, transactions: Vec::new(), logs }
}

#[async_trait]
impl Source for SimSource {
    fn chain(&self) -> ChainId {
        self.0.chain
    }

    fn heads(&self) -> watch::Receiver<Option<Heads>> {
        self.0.heads.subscribe()
    }

    async fn header_at(&self, height: Height) -> Result<SourceHeader, SourceError> {
        self.luck(height).await?;
        let mut state = self.0.state.lock();
        state.calls.headers += 1;
        Ok(state.get(state.at(height), || format!("no block {height}"))?.header)
    }

    async fn header(&self, block: BlockRef) -> Result<SourceHeader, SourceError> {
        self.luck(block.number).await?;
        let mut state = self.0.state.lock();
        state.calls.headers += 1;
        Ok(state.get(Some(block.hash), || format!("no block {}", block.hash))?.header)
    }

    async fn block(&self, block: BlockRef, wants: &Wants) -> Result<SourceBlock, SourceError> {
        self.luck(block.number).await?;
        let mut state = self.0.state.lock();
        state.calls.blocks += 1;
        let block = state.get(Some(block.hash), || format!("no block {}", block.hash))?;
        Ok(wanted(&block, wants))
    }

    async fn range(
        &self,
        heights: RangeInclusive<Height>,
        wants: &Wants,
    ) -> Result<Vec<SourceBlock>, SourceError> {
        let refused = {
            let mut state = self.0.state.lock();
            state.calls.ranges += 1;
            let refused = state.refuse(&heights);
            state.calls.refused += u64::from(refused.is_err());
            refused
        };
        self.luck(*heights.start()).await?;
        refused?;
        let mut state = self.0.state.lock();
        let mut blocks = Vec::new();
        for height in heights {
            let block = state.get(state.at(height), || format!("no block {height}"))?;
            blocks.push(wanted(&block, wants));
        }
        state.calls.blocks += u64::try_from(blocks.len()).unwrap_or(0);
        state.spoil(&mut blocks);
        Ok(blocks)
    }
}
