//! Rate limits (the generic cell rate algorithm): one bucket per key and one per address.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{NotUntil, Quota, RateLimiter};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Limits;
use crate::error::{ApiError, Code};

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

type Governor<K> =
    RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock, StateInformationMiddleware>;

/// One bucket per key of a kind.
#[derive(Debug)]
struct Buckets<K: Hash + Eq + Clone> {
    governor: Governor<K>,
    clock: DefaultClock,
    per_second: NonZeroU32,
    burst: NonZeroU32,
    burst_header: HeaderValue,
    /// Whose rate, for the message.
    whose: &'static str,
}

/// All buckets. A bucket that is full again is dropped by [`Limiters::sweep`].
#[derive(Debug)]
pub(crate) struct Limiters {
    by_key: Option<Buckets<String>>,
    by_address: Option<Buckets<IpAddr>>,
}

/// What an answer says about its bucket.
#[derive(Debug, Clone)]
pub(crate) struct Allowance {
    limit: HeaderValue,
    remaining: u32,
    reset_seconds: u32,
}

impl Allowance {
    pub(crate) fn write(self, headers: &mut HeaderMap) {
        headers.insert(LIMIT, self.limit);
        headers.insert(REMAINING, self.remaining.into());
        headers.insert(RESET, self.reset_seconds.into());
    }

    /// The one that will be used up first.
    pub(crate) fn tighter(first: Option<Self>, second: Option<Self>) -> Option<Self> {
        match (first, second) {
            (Some(a), Some(b)) => Some(if b.remaining < a.remaining { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}

/// A refusal: the problem and the state of the bucket.
pub(crate) type Refused = Box<(ApiError, Allowance)>;

impl<K: Hash + Eq + Clone> Buckets<K> {
    fn new(per_second: u32, burst: u32, whose: &'static str) -> Option<Self> {
        let per_second = NonZeroU32::new(per_second)?;
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let governor = RateLimiter::dashmap(Quota::per_second(per_second).allow_burst(burst))
            .with_middleware::<StateInformationMiddleware>();
        let burst_header = burst.get().into();
        let clock = DefaultClock::default();
        Some(Self { governor, clock, per_second, burst, burst_header, whose })
    }

    fn allowance(&self, remaining: u32) -> Allowance {
        let missing = self.burst.get().saturating_sub(remaining);
        let reset_seconds = missing.div_ceil(self.per_second.get());
        Allowance { limit: self.burst_header.clone(), remaining, reset_seconds }
    }

    fn take(&self, key: &K, cells: NonZeroU32) -> Result<Allowance, Refused> {
        let outcome = if cells == NonZeroU32::MIN {
            self.governor.check_key(key)
        } else {
            let all = self.governor.check_key_n(key, cells);
            all.map_err(|_| {
                let detail = format!(
                    "{cells} calls at once are above the burst of {} for {}; send fewer at a time",
                    self.burst, self.whose
                );
                Box::new((ApiError::new(Code::RateLimited, detail), self.allowance(0)))
            })?
        };
        match outcome {
            Ok(state) => Ok(self.allowance(StateSnapshot::remaining_burst_capacity(&state))),
            Err(not_until) => Err(self.refusal(&not_until)),
        }
    }

    fn refusal(
        &self,
        until: &NotUntil<<DefaultClock as governor::clock::Clock>::Instant>,
    ) -> Refused {
        let wait = until.wait_time_from(self.clock.now());
        // Whole seconds, rounded up, so that a client that obeys is not refused again.
        let seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1);
        let detail = format!(
            "{} is limited to {} requests a second with bursts of {}; try again in {seconds} s",
            self.whose, self.per_second, self.burst
        );
        let mut error = ApiError::new(Code::RateLimited, detail);
        error.retry_after = Some(seconds);
        Box::new((error, self.allowance(0)))
    }
}

impl Limiters {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            by_key: Buckets::new(limits.per_key_per_second, limits.burst, "this key"),
            by_address: Buckets::new(limits.per_address_per_second, limits.burst, "this address"),
        }
    }

    /// Takes cells from a key's bucket; `None` where keys are not limited.
    pub(crate) fn take_key(
        &self,
        id: &String,
        cells: NonZeroU32,
    ) -> Result<Option<Allowance>, Refused> {
        self.by_key.as_ref().map(|buckets| buckets.take(id, cells)).transpose()
    }

    /// Takes cells from an address's bucket; `None` where addresses are not limited.
    pub(crate) fn take_address(
        &self,
        address: IpAddr,
        cells: NonZeroU32,
    ) -> Result<Option<Allowance>, Refused> {
        let bucket = bucket_of(address);
        self.by_address.as_ref().map(|buckets| buckets.take(&bucket, cells)).transpose()
    }

    /// Forgets buckets that are full again, which bounds the memory by what comes in between two
    /// sweeps.
    pub(crate) fn sweep(&self) {
        if let Some(buckets) = &self.by_key {
            buckets.governor.retain_recent();
            buckets.governor.shrink_to_fit();
        }
        if let Some(buckets) = &self.by_address {
            buckets.governor.retain_recent();
            buckets.governor.shrink_to_fit();
        }
    }
}

/// One IPv6 subscriber usually has a whole /64, so that is what is counted.
pub(crate) fn bucket_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NonZeroU32 = NonZeroU32::MIN;

    fn limiters(burst: u32) -> Limiters {
        // One a second: slow enough that no cell comes back while a test runs.
        Limiters::new(Limits { per_key_per_second: 1, per_address_per_second: 1, burst })
    }

    #[test]
    fn a_burst_is_allowed_and_the_next_is_told_when() {
        let limiters = limiters(3);
        let key = "k".to_owned();
        for remaining in [2, 1, 0] {
            let allowance = limiters.take_key(&key, ONE).unwrap().unwrap();
            assert_eq!((allowance.remaining, allowance.limit.to_str().unwrap()), (remaining, "3"));
        }
        let (error, allowance) = *limiters.take_key(&key, ONE).unwrap_err();
        assert_eq!(error.code, Code::RateLimited);
        assert_eq!(error.retry_after, Some(1));
        assert_eq!((allowance.remaining, allowance.reset_seconds), (0, 3));
        assert!(limiters.take_key(&"other".to_owned(), ONE).is_ok());
    }

    #[test]
    fn a_batch_above_the_burst_can_never_pass() {
        let (error, _) = *limiters(3)
            .take_address("10.0.0.1".parse().unwrap(), NonZeroU32::new(4).unwrap())
            .unwrap_err();
        assert!(error.detail.contains("above the burst of 3"));
    }

    #[test]
    fn an_ipv6_subnet_shares_a_bucket() {
        let limiters = limiters(1);
        assert!(limiters.take_address("2001:db8::1".parse().unwrap(), ONE).is_ok());
        assert!(limiters.take_address("2001:db8::2".parse().unwrap(), ONE).is_err());
        assert!(limiters.take_address("2001:db8:0:1::1".parse().unwrap(), ONE).is_ok());
        assert!(limiters.take_address("::ffff:10.0.0.1".parse().unwrap(), ONE).is_ok());
        assert!(limiters.take_address("10.0.0.1".parse().unwrap(), ONE).is_err());
    }

    #[test]
    fn zero_switches_a_limit_off() {
        let off = Limits { per_key_per_second: 0, per_address_per_second: 0, burst: 1 };
        let limiters = Limiters::new(off);
        for _ in 0..3 {
            assert!(limiters.take_key(&"k".to_owned(), ONE).unwrap().is_none());
        }
    }
}
