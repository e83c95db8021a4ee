//! Limits on work that lasts: how much of it one caller, and all of them together, have under way.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{ApiError, Code};
use crate::limit::bucket_of;
use crate::middleware::Visitor;

/// When a refused caller may come back, in seconds: such work ends by its own or its client's doing.
const RETRY_AFTER_SECONDS: u32 = 10;

/// Slots of one kind of work.
#[derive(Debug, Clone)]
pub(crate) struct Slots(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// What is limited, in the plural.
    what: &'static str,
    each_max: u32,
    all_max: u32,
    held: Mutex<HashMap<String, u32>>,
}

/// A slot; free again when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Slots,
    holder: String,
}

impl Slots {
    pub(crate) fn new(what: &'static str, each_max: u32, all_max: u32) -> Self {
        Self(Arc::new(Inner { what, each_max, all_max, held: Mutex::default() }))
    }

    /// Takes a slot for the caller: for their key, or their address where they have none.
    pub(crate) fn take(&self, visitor: &Visitor) -> Result<Slot, ApiError> {
        let of_address = || bucket_of(visitor.address).to_string();
        let holder = visitor.caller.bucket().cloned().unwrap_or_else(of_address);
        let Inner { what, each_max, all_max, held } = &*self.0;
        let mut held = held.lock();
        let all = held.values().fold(0_u32, |sum, count| sum.saturating_add(*count));
        let own = held.get(&holder).copied().unwrap_or(0);
        let detail = if own >= *each_max {
            format!(
                "this caller has {own} {what} under way, the most at once; end one of them first"
            )
        } else if all >= *all_max {
            format!("the server has {all} {what} under way, the most at once; try again later")
        } else {
            held.insert(holder.clone(), own + 1);
            return Ok(Slot { slots: self.clone(), holder });
        };
        let mut error = ApiError::new(Code::RateLimited, detail);
        error.retry_after = Some(RETRY_AFTER_SECONDS);
        Err(error)
    }

    /// How many are taken.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> u32 {
        self.0.held.lock().values().sum()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut held = self.slots.0.held.lock();
        match held.get_mut(&self.holder) {
            Some(count) if *count > 1 => *count -= 1,
            // Callers who hold none take no memory.
            _ => drop(held.remove(&self.holder)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::auth::Caller;

    fn visitor(address: &str) -> Visitor {
        let address: IpAddr = address.parse().unwrap();
        Visitor { caller: Caller::Open, address }
    }

    #[test]
    fn slots_are_limited_for_each_and_for_all_and_come_back() {
        let slots = Slots::new("exports", 2, 3);
        let (a, b) = (visitor("10.0.0.1"), visitor("10.0.0.2"));
        let first = slots.take(&a).unwrap();
        let _second = slots.take(&a).unwrap();
        let error = slots.take(&a).unwrap_err();
        assert_eq!((error.code, error.retry_after), (Code::RateLimited, Some(10)));
        assert!(error.detail.starts_with("this caller has 2 exports"), "{}", error.detail);
        let third = slots.take(&b).unwrap();
        let error = slots.take(&b).unwrap_err();
        assert!(error.detail.starts_with("the server has 3 exports"), "{}", error.detail);
        drop(first);
        let _fourth = slots.take(&b).unwrap();
        drop(third);
        assert_eq!(slots.taken(), 2);
    }
}
