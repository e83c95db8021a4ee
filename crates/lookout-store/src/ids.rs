//! Row ids: `UUIDv7` from the clock of the store.

use lookout_types::UnixMillis;
use parking_lot::Mutex;
use uuid::{ContextV7, Timestamp, Uuid};

/// Makes ids that sort by time, also within one millisecond.
#[derive(Debug)]
pub(crate) struct Ids(Mutex<ContextV7>);

impl Ids {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(ContextV7::new()))
    }

    /// The next id at `now`; a clock before 1970 counts as 1970.
    pub(crate) fn next(&self, now: UnixMillis) -> String {
        let now = u64::try_from(now).unwrap_or(0);
        let nanos = u32::try_from(now % 1000).unwrap_or(0) * 1_000_000;
        let context = self.0.lock();
        Uuid::new_v7(Timestamp::from_unix(&*context, now / 1000, nanos)).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_millisecond_sort_in_order() {
        let ids = Ids::new();
        let made: Vec<_> = (0..1000).map(|_| ids.next(1_700_000_000_123)).collect();
        assert!(made.is_sorted());
        assert!(ids.next(1_700_000_000_124) > made[999]);
        assert!(made[0].starts_with("018bcfe5-687b-7"), "{}", made[0]);
    }
}
