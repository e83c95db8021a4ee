//! Durations counted in buckets of constant relative width, as in HDR histograms.

use std::time::Duration;

/// Buckets per power of two: a value is known to within 1/128, far below what a rerun changes.
const STEPS: u64 = 128;
const STEP_BITS: u32 = STEPS.trailing_zeros();

/// Counts of durations, by nanoseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: Duration,
}

impl Histogram {
    pub(crate) fn record(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = bucket_of(nanos);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.longest = self.longest.max(duration);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (own, more) in self.counts.iter_mut().zip(&other.counts) {
            *own += more;
        }
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    pub(crate) fn len(&self) -> u64 {
        self.total
    }

    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    /// The shortest duration that this many of a thousand did not exceed; zero without any.
    pub(crate) fn permille(&self, permille: u32) -> Duration {
        let wanted = (self.total * u64::from(permille)).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_nanos(end_of(bucket)).min(self.longest);
            }
        }
        self.longest
    }
}

/// The first [`STEPS`] buckets are one nanosecond wide, then each power of two has as many.
fn bucket_of(nanos: u64) -> usize {
    let power = nanos.checked_ilog2().unwrap_or(0).saturating_sub(STEP_BITS);
    let bucket = u64::from(power) * STEPS + (nanos >> power);
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

/// The largest value in a bucket.
fn end_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let power = (bucket / STEPS).saturating_sub(1);
    let step = bucket - power * STEPS;
    ((step + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_in_its_bucket_and_buckets_follow_each_other() {
        let mut last = 0;
        for nanos in (0..100_000_u64).chain((20..60).map(|bits| (1 << bits) + 12_345)) {
            let bucket = bucket_of(nanos);
            assert!(bucket >= last, "{nanos}");
            last = bucket;
            let end = end_of(bucket);
            assert!(end >= nanos && end - nanos <= nanos / STEPS, "{nanos} ends at {end}");
            assert_eq!(bucket_of(end), bucket);
            assert_eq!(bucket_of(end + 1), bucket + 1);
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let mut histogram = Histogram::default();
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros));
        }
        for (permille, micros) in [(1, 1), (500, 500), (990, 990), (999, 999), (1000, 1000)] {
            let found = histogram.permille(permille).as_nanos();
            let exact = Duration::from_micros(micros).as_nanos();
            assert!(found.abs_diff(exact) <= exact / 128, "{permille}: {found} for {exact}");
        }
        assert_eq!(histogram.longest(), Duration::from_millis(1));
    }

    #[test]
    fn merging_is_counting_both() {
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        a.record(Duration::from_nanos(10));
        b.record(Duration::from_secs(2));
        a.merge(&b);
        assert_eq!((a.len(), a.longest()), (2, Duration::from_secs(2)));
        assert_eq!(a.permille(500), Duration::from_nanos(10));
        assert_eq!(Histogram::default().permille(990), Duration::ZERO);
    }
}
