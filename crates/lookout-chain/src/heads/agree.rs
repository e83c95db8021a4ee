//! Which block the upstreams agree on. Pure.

use std::time::Duration;

use lookout_types::{BlockRef, Height};

use crate::Level;

/// Time after which the higher of two heads is followed although the other upstream has not
/// confirmed it: with two upstreams, one frozen must not freeze the chain.
const PATIENCE: Duration = Duration::from_secs(4);

/// Age at which a head that stands still counts no more, if another one still moves.
const STALE: Duration = Duration::from_mins(1);

/// One upstream's word on the head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vote {
    pub(crate) block: BlockRef,
    /// How long it has had this head.
    pub(crate) age: Duration,
}

/// The outcome of a vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) block: BlockRef,
    pub(crate) level: Level,
}

/// Height against which lag is measured.
///
/// With three or more, the second highest: one upstream that claims an absurd height makes no
/// other one lag. With fewer there is no majority, and the highest counts.
pub(crate) fn reference_height(heights: &mut [Height]) -> Option<Height> {
    heights.sort_unstable_by(|a, b| b.cmp(a));
    heights.get(usize::from(heights.len() >= 3)).copied()
}

/// The highest block that `quorum` of the live upstreams support, as far as so many are live.
///
/// An upstream supports the block it is at. One at a greater height supports it too unless
/// `contradicts(upstream, block)`: it is known to have another block at that height.
pub(crate) fn agree(
    votes: &[Option<Vote>],
    quorum: usize,
    head_lag_max: u64,
    contradicts: impl Fn(usize, BlockRef) -> bool,
) -> Option<Agreed> {
    let youngest = votes.iter().flatten().map(|vote| vote.age).min()?;
    let moving = |vote: &Vote| vote.age < STALE || youngest > STALE / 4;
    let cast: Vec<(usize, Vote)> = votes
        .iter()
        .enumerate()
        .filter_map(|(i, vote)| vote.filter(moving).map(|v| (i, v)))
        .collect();
    let mut heights: Vec<_> = cast.iter().map(|(_, vote)| vote.block.number).collect();
    let reference = reference_height(&mut heights)?;
    let live: Vec<(usize, Vote)> = cast
        .into_iter()
        .filter(|(_, vote)| vote.block.number.saturating_add(head_lag_max) >= reference)
        .collect();
    let needed = quorum.clamp(1, live.len().max(1));
    let support = |block: BlockRef| {
        let supports = |&&(i, vote): &&(usize, Vote)| {
            vote.block == block || (vote.block.number > block.number && !contradicts(i, block))
        };
        live.iter().filter(supports).count()
    };
    let level = |count: usize| if count >= 2 { Level::Quorum } else { Level::Single };
    let mut candidates: Vec<Vote> = live.iter().map(|(_, vote)| *vote).collect();
    // At one height the branch with more support comes first, then the one seen for longer.
    candidates
        .sort_by_key(|vote| std::cmp::Reverse((vote.block.number, support(vote.block), vote.age)));
    // Waiting for a second word makes sense only while a majority could form without it.
    let impatient = |vote: &Vote| live.len() == 2 && vote.age >= PATIENCE;
    candidates
        .iter()
        .find(|vote| support(vote.block) >= needed || impatient(vote))
        .or_else(|| candidates.iter().max_by_key(|vote| (support(vote.block), vote.age)))
        .map(|vote| Agreed { block: vote.block, level: level(support(vote.block)) })
}

#[cfg(test)]
mod tests {
    use lookout_types::Hash;

    use super::*;

    fn block(number: Height, branch: u8) -> BlockRef {
        BlockRef { number, hash: Hash([branch; 32]) }
    }

    fn vote(number: Height, branch: u8) -> Option<Vote> {
        Some(Vote { block: block(number, branch), age: Duration::ZERO })
    }

    #[track_caller]
    fn check(votes: &[Option<Vote>], expected: Option<(BlockRef, Level)>) {
        let agreed = agree(votes, 2, 16, |_, _| false);
        assert_eq!(agreed.map(|a| (a.block, a.level)), expected);
    }

    #[test]
    fn two_of_three_decide() {
        check(&[vote(9, 1), vote(9, 1), vote(9, 1)], Some((block(9, 1), Level::Quorum)));
        check(&[vote(10, 2), vote(9, 1), vote(9, 1)], Some((block(9, 1), Level::Quorum)));
        check(&[vote(9, 2), vote(9, 1), vote(9, 1)], Some((block(9, 1), Level::Quorum)));
        check(&[vote(10, 2), vote(10, 2), vote(3, 1)], Some((block(10, 2), Level::Quorum)));
        check(&[vote(10, 1), vote(9, 1), None], Some((block(9, 1), Level::Quorum)));
    }

    #[test]
    fn an_absurd_height_sways_nobody() {
        let absurd = vote(u64::MAX, 7);
        check(&[absurd, vote(9, 1), vote(9, 1)], Some((block(9, 1), Level::Quorum)));
        check(&[absurd, vote(10, 2), vote(9, 1)], Some((block(10, 2), Level::Quorum)));
    }

    #[test]
    fn one_alone_is_followed_at_level_single() {
        check(&[vote(9, 1)], Some((block(9, 1), Level::Single)));
        check(&[None, vote(9, 1), None], Some((block(9, 1), Level::Single)));
        check(&[None, None], None);
    }

    #[test]
    fn a_frozen_second_upstream_does_not_freeze_the_chain() {
        let fresh = vote(12, 2);
        check(&[fresh, vote(9, 1)], Some((block(9, 1), Level::Quorum)));
        let waited = fresh.map(|v| Vote { age: PATIENCE, ..v });
        check(&[waited, vote(9, 1)], Some((block(12, 2), Level::Single)));
        check(&[vote(90, 2), vote(9, 1)], Some((block(90, 2), Level::Single)));
    }

    #[test]
    fn two_frozen_of_three_do_not_freeze_the_chain_for_good() {
        let old = |number| vote(number, 1).map(|v| Vote { age: 2 * STALE, ..v });
        check(&[vote(90, 2), old(9), old(9)], Some((block(90, 2), Level::Single)));
        check(&[old(9), old(9), old(9)], Some((block(9, 1), Level::Quorum)));
    }

    #[test]
    fn a_known_contradiction_withdraws_support() {
        let votes = [vote(10, 2), vote(9, 1), vote(9, 3)];
        let agreed = agree(&votes, 2, 16, |i, b| i == 0 && b == block(9, 1)).map(|a| a.block);
        assert_eq!(agreed, Some(block(9, 3)));
    }

    #[test]
    fn total_disagreement_still_gives_a_head() {
        let votes = [vote(9, 1), vote(9, 2), vote(9, 3)];
        assert!(agree(&votes, 2, 16, |_, _| false).is_some_and(|a| a.level == Level::Single));
    }
}
