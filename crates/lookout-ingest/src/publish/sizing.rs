//! How many blocks to ask for at once: as many as upstreams answer fast, and rarely one too many.

use std::time::Duration;

use super::Limits;

/// Accepted ranges that pay for one refused: at most one call in a hundred is refused.
const REFUSAL_COST: i64 = 100;
/// Sizes are compared in thousandths.
const THOUSAND: u64 = 1_000;

/// What a range held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Load {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// The size of the next range.
///
/// A size that is larger than any accepted so far is tried by one range at a time, and not before the
/// last refusal has been paid for.
#[derive(Debug)]
pub(crate) struct Sizing {
    max: u64,
    target: Load,
    target_time: Duration,
    /// What the ranges should have by what they hold.
    size: u64,
    /// What upstreams are known to refuse more than.
    ceiling: u64,
    /// The largest size accepted since the last refusal; 0 for none.
    proven: u64,
    /// Whether a range larger than that is under way.
    probing: bool,
    /// Accepted ranges since a refusal, less what that costs; at most 0.
    credit: i64,
    /// Bytes of a block, lately.
    block_bytes: u64,
}

impl Sizing {
    pub(crate) fn new(limits: &Limits, whole: bool) -> Self {
        let max = if whole { limits.range_whole_blocks_max } else { limits.range_blocks_max };
        Self {
            max,
            target: Load { records: limits.range_records, bytes: limits.range_bytes },
            target_time: limits.range_time,
            size: limits.range_blocks_start.min(max).max(1),
            ceiling: max,
            proven: 0,
            probing: false,
            credit: 0,
            block_bytes: 0,
        }
    }

    /// The size of the next range, and whether it is a probe. `None`: wait for the one under way.
    pub(crate) fn take(&mut self) -> Option<(u64, bool)> {
        if self.size <= self.proven {
            return Some((self.size, false));
        }
        if !self.probing {
            self.probing = true;
            return Some((self.size, true));
        }
        (self.proven > 0).then_some((self.proven, false))
    }

    /// A range was dropped without an answer.
    pub(crate) fn dropped(&mut self, probe: bool) {
        if probe {
            self.probing = false;
        }
    }

    pub(crate) fn accepted(&mut self, blocks: u64, probe: bool, load: Load, took: Duration) {
        self.dropped(probe);
        self.credit = (self.credit + 1).min(0);
        self.proven = self.proven.max(blocks);
        self.ceiling = self.ceiling.max(blocks);
        self.block_bytes = load.bytes.div_ceil(blocks.max(1)).max(self.block_bytes * 3 / 4);
        // A short rest of a range says little.
        if blocks.saturating_mul(2) < self.size {
            return;
        }
        let share = |value: u64, target: u64| value.saturating_mul(THOUSAND) / target.max(1);
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let filled = share(load.records, self.target.records)
            .max(share(load.bytes, self.target.bytes))
            .max(share(millis(took), millis(self.target_time)));
        let wanted = blocks.saturating_mul(THOUSAND) / filled.max(THOUSAND / 2);
        let most = match self.credit {
            0 if self.ceiling < self.max => self.ceiling + self.ceiling / 4 + 1,
            0 => self.max,
            _ => self.ceiling,
        };
        self.size = wanted.min(most).clamp(1, self.max);
    }

    /// `suggestion`: how many blocks would pass, where the upstream said so.
    pub(crate) fn refused(&mut self, blocks: u64, probe: bool, suggestion: Option<u64>) {
        self.dropped(probe);
        self.credit -= REFUSAL_COST;
        let smaller = suggestion.filter(|s| (1..blocks).contains(s)).unwrap_or(blocks / 2).max(1);
        self.ceiling = self.ceiling.min(smaller);
        self.size = self.size.min(self.ceiling);
        self.proven = 0;
    }

    /// Most blocks that are not expected to be refused.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// About how many bytes a range will hold.
    pub(crate) fn bytes_of(&self, blocks: u64) -> u64 {
        self.block_bytes.saturating_mul(blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An upstream that refuses what is over its limits; counts what it was asked.
    struct Upstream {
        blocks_max: u64,
        records_max: u64,
        suggests: bool,
        calls: u64,
        refused: u64,
    }

    impl Upstream {
        /// Asks for `blocks` of `density` records each, one range after the other.
        fn read(&mut self, sizing: &mut Sizing, mut blocks: u64, density: u64) {
            while blocks > 0 {
                let (size, probe) = sizing.take().unwrap();
                let size = size.min(blocks);
                self.calls += 1;
                if size > 1 && (size > self.blocks_max || size * density > self.records_max) {
                    self.refused += 1;
                    let passes = self.blocks_max.min(self.records_max / density.max(1));
                    sizing.refused(size, probe, self.suggests.then_some(passes));
                } else {
                    let load = Load { records: size * density, bytes: size * density * 200 };
                    sizing.accepted(size, probe, load, Duration::from_millis(20));
                    blocks -= size;
                }
            }
        }
    }

    fn upstream(blocks_max: u64, records_max: u64, suggests: bool) -> Upstream {
        Upstream { blocks_max, records_max, suggests, calls: 0, refused: 0 }
    }

    #[test]
    fn ranges_grow_to_the_target_and_follow_the_density() {
        let mut sizing = Sizing::new(&Limits::default(), false);
        let mut free = upstream(u64::MAX, u64::MAX, false);
        free.read(&mut sizing, 20_000, 0);
        assert_eq!(sizing.size(), 2_000);
        free.read(&mut sizing, 20_000, 100);
        assert_eq!(sizing.size(), 80);
        free.read(&mut sizing, 100, 20_000);
        assert_eq!(sizing.size(), 1);
        let mut whole = Sizing::new(&Limits::default(), true);
        free.read(&mut whole, 1_000, 1);
        assert_eq!(whole.size(), 32);
    }

    #[test]
    fn a_slow_upstream_gets_small_ranges() {
        let mut sizing = Sizing::new(&Limits::default(), false);
        for _ in 0..20 {
            let (size, probe) = sizing.take().unwrap();
            let took = Duration::from_millis(100) * u32::try_from(size).unwrap();
            sizing.accepted(size, probe, Load::default(), took);
        }
        assert_eq!(sizing.size(), 10);
    }

    #[test]
    fn of_a_hundred_calls_one_is_refused_at_most() {
        let mut random = fastrand::Rng::with_seed(1);
        for seed in 0..200 {
            let (blocks_max, suggests) = (random.u64(1..3_000), seed % 2 == 0);
            let mut upstream = upstream(blocks_max, u64::MAX, suggests);
            let mut sizing = Sizing::new(&Limits::default(), false);
            // To begin with the limit has to be found.
            upstream.read(&mut sizing, 200 * blocks_max, 1);
            let found = upstream.refused;
            assert!(found <= 12, "{blocks_max}: {found} refused of {}", upstream.calls);
            (upstream.calls, upstream.refused) = (0, 0);
            upstream.read(&mut sizing, 1_000 * blocks_max.min(80), 100);
            let Upstream { calls, refused, .. } = upstream;
            assert!(refused <= calls / 100 + 1, "{blocks_max}: {refused} refused of {calls}");
            assert!(calls <= 4_000, "{blocks_max}: {calls} calls");
        }
    }

    #[test]
    fn a_limit_on_records_is_found_anew_where_the_blocks_are_full() {
        let mut upstream = upstream(u64::MAX, 1_000, false);
        let mut sizing = Sizing::new(&Limits::default(), false);
        for round in 0..200 {
            upstream.read(&mut sizing, 3_000, if round % 20 == 0 { 50 } else { 1 });
        }
        let Upstream { calls, refused, .. } = upstream;
        assert!(refused * 100 <= calls + 1_000, "{refused} refused of {calls}");
    }

    #[test]
    fn larger_ranges_are_tried_one_at_a_time() {
        let mut sizing = Sizing::new(&Limits::default(), false);
        assert_eq!(sizing.take(), Some((50, true)));
        assert_eq!(sizing.take(), None);
        sizing.accepted(50, true, Load::default(), Duration::ZERO);
        assert_eq!(sizing.take(), Some((100, true)));
        assert_eq!(sizing.take(), Some((50, false)));
        sizing.refused(100, true, Some(70));
        assert_eq!(sizing.take(), Some((70, true)));
        sizing.accepted(70, true, Load::default(), Duration::ZERO);
        assert_eq!(sizing.take(), Some((70, false)));
        for _ in 0..98 {
            sizing.accepted(70, false, Load::default(), Duration::ZERO);
        }
        assert_eq!(sizing.take(), Some((70, false)));
        sizing.accepted(70, false, Load::default(), Duration::ZERO);
        assert_eq!(sizing.take(), Some((88, true)));
        sizing.dropped(true);
        assert_eq!(sizing.take(), Some((88, true)));
    }
}
