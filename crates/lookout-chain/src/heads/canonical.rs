//! The followed chain near its head, as an immutable snapshot. Pure.
//!
//! A reorg replaces the snapshot, so a reader sees one branch or the other and never a mixture,
//! and nothing cached needs a purge: numbers point to other hashes from then on.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use lookout_types::{BlockRef, Hash, Height};

use crate::Level;
use crate::verify::HeaderInfo;

/// Blocks kept below the head: deeper reorgs than this have not been seen on any EVM chain that
/// reports finality, and the window costs about 1 kB a block.
pub(crate) const WINDOW: u64 = 512;
/// Depth at which a block of a chain without a `finalized` tag counts as settled.
const SETTLED_DEPTH: u64 = 1024;

/// Reorgs remembered; what was kept before the oldest of them is asked for again.
const REORGS_MAX: usize = 1024;

/// A block of the followed chain, with the header fields that checks need.
#[derive(Debug, Clone)]
pub(crate) struct Followed {
    pub(crate) header: Arc<HeaderInfo>,
    /// Why the header could not be recomputed, where it could not.
    pub(crate) unverifiable: Option<&'static str>,
    /// `Quorum` when enough upstreams agreed on this block or on a descendant of it.
    pub(crate) level: Level,
}

impl Followed {
    pub(crate) fn block(&self) -> BlockRef {
        self.header.reference
    }
}

/// What is known of a block's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// On the followed chain, or deep enough to be settled.
    Held,
    /// Another block has its height on the followed chain.
    Abandoned,
    /// Above the head, or between the window and finality.
    Unknown,
}

/// A snapshot of the followed chain: a contiguous run of blocks up to the head.
#[derive(Debug, Clone, Default)]
pub(crate) struct Canonical {
    blocks: BTreeMap<Height, Followed>,
    numbers: HashMap<Hash, Height>,
    pub(crate) safe: Option<BlockRef>,
    pub(crate) finalized: Option<BlockRef>,
    /// Counts reorgs; an answer is kept with the generation it was true in.
    pub(crate) generation: u64,
    /// The last reorgs, oldest first: the generation each began, and the highest block it left.
    reorgs: VecDeque<(u64, Height)>,
}

impl Canonical {
    pub(crate) fn head(&self) -> Option<&Followed> {
        self.blocks.last_key_value().map(|(_, block)| block)
    }

    /// Lowest height of the window.
    pub(crate) fn low(&self) -> Option<Height> {
        self.blocks.first_key_value().map(|(height, _)| *height)
    }

    pub(crate) fn at(&self, height: Height) -> Option<&Followed> {
        self.blocks.get(&height)
    }

    pub(crate) fn by_hash(&self, hash: &Hash) -> Option<&Followed> {
        self.numbers.get(hash).and_then(|height| self.at(*height))
    }

    /// Highest height that counts as settled: the `finalized` one, or far below the head.
    pub(crate) fn settled(&self) -> Option<Height> {
        let head = self.head()?.block().number;
        match self.finalized {
            Some(block) => Some(block.number.min(head)),
            None => head.checked_sub(SETTLED_DEPTH),
        }
    }

    pub(crate) fn standing(&self, block: BlockRef) -> Standing {
        match self.at(block.number) {
            Some(own) if own.block() == block => Standing::Held,
            Some(_) => Standing::Abandoned,
            None if self.settled().is_some_and(|height| block.number <= height) => Standing::Held,
            None => Standing::Unknown,
        }
    }

    /// Whether something kept about `block` in `generation` is still true.
    ///
    /// Within the window that is a comparison. Below it, no reorg since may have reached the
    /// block: an abandoned block must not come back to life by sliding out of the window.
    pub(crate) fn still_holds(&self, block: BlockRef, generation: u64) -> bool {
        if let Some(own) = self.at(block.number) {
            return own.block() == block;
        }
        let since = self.reorgs.iter().filter(|(began, _)| *began > generation);
        let untouched = since.map(|(_, left)| *left).min().is_none_or(|left| block.number <= left);
        let remembered = self.reorgs.len() < REORGS_MAX
            || self.reorgs.front().is_some_and(|(oldest, _)| *oldest <= generation + 1);
        untouched && remembered && self.standing(block) == Standing::Held
    }

    /// A chain that starts at `block`, for the first head and after a gap too long to walk. What
    /// was not settled before the gap is in doubt.
    pub(crate) fn restarted_at(&self, block: Followed) -> Self {
        let mut next = Self {
            generation: self.generation,
            reorgs: self.reorgs.clone(),
            safe: self.safe,
            finalized: self.finalized,
            ..Self::default()
        };
        if self.head().is_some() {
            next.note_reorg(self.settled().unwrap_or(0));
        }
        next.insert(block);
        next
    }

    fn note_reorg(&mut self, left: Height) {
        self.generation += 1;
        self.reorgs.push_back((self.generation, left));
        if self.reorgs.len() > REORGS_MAX {
            self.reorgs.pop_front();
        }
    }

    /// The chain after `branch`, given newest first, whose oldest block's parent is on this one.
    ///
    /// Returns the new chain and how many blocks of this one it abandons; `None` when the branch
    /// does not connect.
    pub(crate) fn with_branch(&self, branch: &[Followed]) -> Option<(Self, u64)> {
        let oldest = branch.last()?;
        let ancestor = oldest.block().number.checked_sub(1)?;
        if self.at(ancestor)?.block().hash != oldest.header.parent {
            return None;
        }
        let mut next = self.clone();
        let abandoned = next.blocks.split_off(&(ancestor + 1));
        for block in abandoned.values() {
            next.numbers.remove(&block.block().hash);
        }
        if !abandoned.is_empty() {
            next.note_reorg(ancestor);
        }
        if self.finalized.is_some_and(|finalized| finalized.number > ancestor) {
            // Finality was rolled back, as on Polygon in September 2025.
            next.finalized = None;
            next.safe = None;
        }
        for block in branch.iter().rev() {
            next.insert(block.clone());
        }
        next.trim();
        let depth = u64::try_from(abandoned.len()).unwrap_or(u64::MAX);
        Some((next, depth))
    }

    /// The chain with older blocks added below, given newest first.
    pub(crate) fn with_ancestors(&self, ancestors: &[Followed]) -> Self {
        let mut next = self.clone();
        for block in ancestors {
            let links = next
                .blocks
                .first_key_value()
                .is_some_and(|(_, lowest)| lowest.header.parent == block.block().hash);
            if !links {
                break;
            }
            next.insert(block.clone());
        }
        next
    }

    /// The chain cut back to `height`, for a chain that was rolled back without a new branch.
    pub(crate) fn truncated_to(&self, height: Height) -> Self {
        let mut next = self.clone();
        for (_, block) in next.blocks.split_off(&(height + 1)) {
            next.numbers.remove(&block.block().hash);
        }
        next.note_reorg(height);
        next
    }

    /// The chain with new `safe` and `finalized` blocks. A final block that contradicts the
    /// followed chain is a rollback of finality: it voids what was kept as settled.
    pub(crate) fn with_finality(&self, safe: Option<BlockRef>, fin: Option<BlockRef>) -> Self {
        let mut next = self.clone();
        let contradicted = |old: BlockRef| match fin {
            Some(new) => new.number == old.number && new.hash != old.hash,
            None => false,
        };
        if self.finalized.is_some_and(contradicted) {
            next.note_reorg(0);
        }
        let fits = |block: &BlockRef| next.standing(*block) != Standing::Abandoned;
        let (safe, fin) = (safe.filter(fits), fin.filter(fits));
        next.safe = safe.or(next.safe);
        next.finalized = match (self.finalized, fin) {
            // Finality moves forward only; an upstream that is behind does not pull it back.
            (Some(old), Some(new)) if new.number < old.number => Some(old),
            (old, new) => new.or(old),
        };
        next
    }

    /// Marks the head and its ancestors as agreed.
    pub(crate) fn with_level(&self, level: Level) -> Self {
        let mut next = self.clone();
        for block in next.blocks.values_mut().rev() {
            if block.level >= level {
                break;
            }
            block.level = level;
        }
        next
    }

    fn insert(&mut self, block: Followed) {
        self.numbers.insert(block.block().hash, block.block().number);
        self.blocks.insert(block.block().number, block);
    }

    fn trim(&mut self) {
        let Some(head) = self.head().map(|h| h.block().number) else { return };
        while let Some(low) = self.low().filter(|low| low + WINDOW <= head) {
            if let Some(block) = self.blocks.remove(&low) {
                self.numbers.remove(&block.block().hash);
            }
        }
    }
}

#[cfg(test)]
mod tests;
