//! A head below what was published: upstreams that are behind, or a branch that is shorter.
//!
//! A chain does not shrink. A head that is lower and on the published branch is the word of upstreams
//! that lag, are read in again, or lost their data, while better ones are away: nothing is taken back
//! for it, however long it lasts. Blocks are taken back only for others in their place, on a branch
//! that grows: an upstream that stopped on a branch which lost says the same block for ever.

use lookout_types::BlockRef;
use tokio::time::Instant;

use super::past::Standing;

/// A head below what was published, since it was first told.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) since: Instant,
    /// Whether the log has it.
    pub(super) told: bool,
    /// The head then.
    first: BlockRef,
    standing: Standing,
}

impl Behind {
    /// The same state of things with another head, or a new one.
    pub(super) fn go_on(before: Option<Self>, latest: BlockRef, standing: Standing) -> Self {
        before.filter(|before| before.standing == standing).unwrap_or_else(|| Self {
            since: Instant::now(),
            told: false,
            first: latest,
            standing,
        })
    }

    /// Whether the head is on another branch, and has moved there.
    pub(super) fn is_growing_branch(&self, latest: BlockRef) -> bool {
        self.standing == Standing::Other && latest != self.first
    }

    /// What is waited for.
    pub(super) fn reason(&self, head: BlockRef, latest: BlockRef) -> String {
        let (at, blocks, last) = (latest.number, head.number - latest.number, head.number);
        match self.standing {
            Standing::Published | Standing::Unknown => format!(
                "the upstreams are behind: their head is block {at}, {blocks} below block {last}, \
                 which is published; nothing is taken back for that"
            ),
            Standing::Other => format!(
                "the upstreams are at block {at} of another branch, {blocks} below block {last}, \
                 which is published; it is followed as it grows"
            ),
        }
    }
}
