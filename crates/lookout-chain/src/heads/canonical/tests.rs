//! The followed chain under reorgs: what it holds, what it drops, what it must never mix.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

/// A block on `branch`; its hash is a function of height and branch, so that branches differ.
fn hash(number: Height, branch: u16) -> Hash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes[8..10].copy_from_slice(&branch.to_be_bytes());
    bytes[31] = 1;
    Hash(bytes)
}

fn block(number: Height, branch: u16, parent: Hash) -> Followed {
    let json = format!(
        r#"{{"number":"{number:#x}","hash":"{}","parentHash":"{parent}","timestamp":"0x1",
            "stateRoot":"{z}","transactionsRoot":"{z}","receiptsRoot":"{z}","logsBloom":"0x{b}"}}"#,
        hash(number, branch),
        z = Hash::default(),
        b = "00".repeat(256),
    );
    let header = crate::verify::parse_header(json.as_bytes()).expect("a header");
    Followed { header: Arc::new(header), unverifiable: None, level: Level::Single }
}

/// A chain of `length` blocks from `start` on branch 0.
fn chain(start: Height, length: u64) -> Canonical {
    let mut canonical =
        Canonical::default().restarted_at(block(start, 0, hash(start.wrapping_sub(1), 0)));
    for number in start + 1..start + length {
        let next = block(number, 0, hash(number - 1, 0));
        canonical = canonical.with_branch(&[next]).expect("connects").0;
    }
    canonical
}

/// A branch from above `ancestor` to `head`, newest first.
fn branch(canonical: &Canonical, ancestor: Height, head: Height, id: u16) -> Vec<Followed> {
    let base = canonical.at(ancestor).expect("the ancestor is followed").block().hash;
    let mut parent = base;
    let mut blocks: Vec<_> = (ancestor + 1..=head)
        .map(|number| {
            let next = block(number, id, parent);
            parent = next.block().hash;
            next
        })
        .collect();
    blocks.reverse();
    blocks
}

/// Every block links to the one below and is found by its own hash and height.
#[track_caller]
fn assert_sound(canonical: &Canonical) {
    let blocks: Vec<_> = canonical.blocks.values().collect();
    for pair in blocks.windows(2) {
        assert_eq!(pair[1].header.parent, pair[0].block().hash);
        assert_eq!(pair[1].block().number, pair[0].block().number + 1);
    }
    assert_eq!(canonical.numbers.len(), blocks.len());
    for block in blocks {
        assert_eq!(
            canonical.by_hash(&block.block().hash).map(Followed::block),
            Some(block.block())
        );
        assert_eq!(canonical.standing(block.block()), Standing::Held);
    }
}

#[test]
fn a_reorg_repoints_numbers_and_forgets_the_old_branch() {
    let old = chain(100, 10);
    let (new, depth) = old.with_branch(&branch(&old, 105, 110, 1)).unwrap();
    assert_eq!(depth, 4);
    assert_sound(&new);
    assert_eq!(new.head().unwrap().block(), BlockRef { number: 110, hash: hash(110, 1) });
    let abandoned = BlockRef { number: 107, hash: hash(107, 0) };
    assert_eq!(new.standing(abandoned), Standing::Abandoned);
    assert!(new.by_hash(&abandoned.hash).is_none());
    assert_eq!(new.standing(BlockRef { number: 111, hash: hash(111, 0) }), Standing::Unknown);
    let (back, _) = new.with_branch(&branch(&new, 105, 112, 0)).unwrap();
    assert_eq!(back.standing(abandoned), Standing::Held, "A, B and A again");
}

#[test]
fn a_branch_that_does_not_connect_is_refused() {
    let canonical = chain(100, 5);
    assert!(canonical.with_branch(&[block(106, 1, hash(105, 9))]).is_none());
    assert!(canonical.with_branch(&[block(104, 1, hash(103, 7))]).is_none());
    assert!(canonical.with_branch(&[]).is_none());
}

#[test]
fn a_rollback_below_finality_voids_what_was_settled() {
    let at = |number| Some(BlockRef { number, hash: hash(number, 0) });
    let canonical = chain(100, 20).with_finality(at(115), at(110));
    assert_eq!(canonical.settled(), Some(110));
    let (shallow, _) = canonical.with_branch(&branch(&canonical, 111, 120, 1)).unwrap();
    assert_eq!(shallow.finalized, at(110));
    let (deep, _) = canonical.with_branch(&branch(&canonical, 108, 120, 1)).unwrap();
    assert_eq!(deep.finalized, None);
    let settled = BlockRef { number: 50, hash: hash(50, 0) };
    assert!(!deep.still_holds(settled, canonical.generation), "nothing below is settled now");
}

#[test]
fn finality_only_moves_forward_on_the_followed_chain() {
    let at = |number| Some(BlockRef { number, hash: hash(number, 0) });
    let canonical = chain(100, 20).with_finality(at(115), at(110));
    assert_eq!(canonical.with_finality(None, at(105)).finalized, at(110));
    assert_eq!(canonical.with_finality(None, None).finalized, at(110));
    let foreign = Some(BlockRef { number: 112, hash: hash(112, 9) });
    assert_eq!(canonical.with_finality(None, foreign).finalized, at(110));
    assert_eq!(canonical.with_finality(None, at(112)).finalized, at(112));
    let contradicting = Some(BlockRef { number: 110, hash: hash(110, 9) });
    let voided = canonical.with_finality(None, contradicting);
    let below = BlockRef { number: 50, hash: hash(50, 0) };
    assert!(canonical.still_holds(below, canonical.generation));
    assert!(!voided.still_holds(below, canonical.generation));
    assert!(voided.still_holds(below, voided.generation));
}

#[test]
fn settled_heights_below_the_window_hold() {
    let canonical = chain(1000, 2);
    assert_eq!(canonical.settled(), None, "1001 is not 1024 deep");
    let canonical = chain(5000, 2);
    assert_eq!(canonical.settled(), Some(5001 - SETTLED_DEPTH));
    let deep = BlockRef { number: 10, hash: Hash::default() };
    assert_eq!(canonical.standing(deep), Standing::Held);
    let gap = BlockRef { number: 4999, hash: hash(4999, 0) };
    assert_eq!(canonical.standing(gap), Standing::Unknown);
    let extended = canonical.with_ancestors(&[block(4999, 0, hash(4998, 0))]);
    assert_eq!(extended.standing(gap), Standing::Held);
    let wrong = canonical.with_ancestors(&[block(4999, 3, hash(4998, 0))]);
    assert_eq!(wrong.low(), Some(5000), "an ancestor that is none is not taken");
}

#[test]
fn an_abandoned_block_does_not_come_back_by_sliding_out_of_the_window() {
    let old = chain(1_000, 20);
    let (orphan, stable) = (old.at(1_015).unwrap().block(), old.at(1_005).unwrap().block());
    let kept_in = old.generation;
    let (mut canonical, _) = old.with_branch(&branch(&old, 1_010, 1_020, 1)).unwrap();
    for number in 1_021..1_021 + WINDOW + SETTLED_DEPTH {
        let parent = canonical.head().unwrap().block().hash;
        canonical = canonical.with_branch(&[block(number, 1, parent)]).unwrap().0;
    }
    assert!(canonical.low().unwrap() > orphan.number);
    assert_eq!(canonical.standing(orphan), Standing::Held, "by its height alone it would pass");
    assert!(!canonical.still_holds(orphan, kept_in));
    assert!(canonical.still_holds(stable, kept_in));
    assert!(canonical.still_holds(orphan, canonical.generation), "kept later, it was asked later");
}

#[test]
fn a_rolled_back_chain_is_cut() {
    let canonical = chain(100, 10).truncated_to(104);
    assert_sound(&canonical);
    assert_eq!(canonical.head().map(|h| h.block().number), Some(104));
}

proptest! {
    /// Any sequence of reorgs and extensions leaves exactly the chain that a fresh walk from the
    /// head would give, within the window.
    #[test]
    fn any_history_ends_in_the_chain_of_its_last_head(
        steps in prop::collection::vec((0_u64..70, 1_u64..70), 1..60)
    ) {
        let mut canonical = chain(1_000, 3);
        let mut model: BTreeMap<Height, Hash> =
            (1_000..1_003).map(|n| (n, hash(n, 0))).collect();
        for (id, (depth, length)) in steps.into_iter().enumerate() {
            let id = u16::try_from(id + 1).unwrap();
            let head = canonical.head().unwrap().block().number;
            let ancestor = head.saturating_sub(depth).max(canonical.low().unwrap());
            let tip = ancestor + length;
            let (next, abandoned) =
                canonical.with_branch(&branch(&canonical, ancestor, tip, id)).unwrap();
            prop_assert_eq!(abandoned, head - ancestor);
            model.split_off(&(ancestor + 1));
            model.extend((ancestor + 1..=tip).map(|n| (n, hash(n, id))));
            canonical = next;
            assert_sound(&canonical);
            let low = canonical.low().unwrap();
            prop_assert!(tip - low < WINDOW);
            for (number, expected) in model.range(low..) {
                prop_assert_eq!(canonical.at(*number).unwrap().block().hash, *expected);
            }
            prop_assert_eq!(canonical.head().unwrap().block().number, tip);
        }
    }
}
