//! How fast an upstream is now, and how slow is slow.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Time in which an old peak loses most of its weight.
const DECAY: Duration = Duration::from_secs(10);
/// Assumed before the first sample: neither favoured nor shunned.
const UNSEEN: Duration = Duration::from_millis(50);

/// Peak-sensitive exponentially weighted moving average: a slow answer counts at once, a fast
/// one only gradually (as in Finagle's and Tower's balancers).
#[derive(Debug, Default)]
pub(crate) struct PeakEwma(Mutex<Option<(f64, Instant)>>);

impl PeakEwma {
    pub(crate) fn record(&self, took: Duration, now: Instant) {
        let mut state = self.0.lock();
        let sample = took.as_secs_f64();
        let next = match *state {
            Some((average, at)) if sample < average => {
                let elapsed = now.saturating_duration_since(at).as_secs_f64();
                let keep = (-elapsed / DECAY.as_secs_f64()).exp();
                average * keep + sample * (1.0 - keep)
            }
            _ => sample,
        };
        *state = Some((next, now));
    }

    /// The average; `None` before the first sample.
    pub(crate) fn get(&self) -> Option<Duration> {
        self.0.lock().map(|(average, _)| Duration::from_secs_f64(average))
    }

    /// The average, or the assumption for an upstream not seen yet.
    pub(crate) fn or_unseen(&self) -> Duration {
        self.get().unwrap_or(UNSEEN)
    }
}

/// Answers remembered for the quantile.
const SAMPLES: usize = 128;
/// New answers between two computations of the quantile.
const REFRESH: usize = 16;

/// The 95th percentile of the last successful answers.
#[derive(Debug, Default)]
pub(crate) struct TailLatency(Mutex<Tail>);

#[derive(Debug, Default)]
struct Tail {
    micros: Vec<u32>,
    next: usize,
    since_refresh: usize,
    p95: Option<Duration>,
}

impl TailLatency {
    pub(crate) fn record(&self, took: Duration) {
        let mut tail = self.0.lock();
        let sample = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        if tail.micros.len() < SAMPLES {
            tail.micros.push(sample);
        } else {
            let at = tail.next;
            tail.micros[at] = sample;
        }
        tail.next = (tail.next + 1) % SAMPLES;
        tail.since_refresh += 1;
        if tail.since_refresh >= REFRESH {
            tail.since_refresh = 0;
            let mut sorted = tail.micros.clone();
            sorted.sort_unstable();
            let at = sorted.len() * 95 / 100;
            tail.p95 = Some(Duration::from_micros(u64::from(sorted[at.min(sorted.len() - 1)])));
        }
    }

    /// `None` until enough answers were seen.
    pub(crate) fn p95(&self) -> Option<Duration> {
        self.0.lock().p95
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let (ewma, start) = (PeakEwma::default(), Instant::now());
        ewma.record(Duration::from_millis(10), start);
        ewma.record(Duration::from_millis(500), start);
        assert_eq!(ewma.get(), Some(Duration::from_millis(500)));
        ewma.record(Duration::from_millis(10), start + Duration::from_millis(1));
        assert!(ewma.get() > Some(Duration::from_millis(490)));
        ewma.record(Duration::from_millis(10), start + 5 * DECAY);
        assert!(ewma.get() < Some(Duration::from_millis(15)));
    }

    #[test]
    fn the_tail_is_the_95th_percentile() {
        let tail = TailLatency::default();
        assert_eq!(tail.p95(), None);
        for i in 1..=112 {
            tail.record(Duration::from_millis(i));
        }
        assert_eq!(tail.p95(), Some(Duration::from_millis(107)));
    }
}
