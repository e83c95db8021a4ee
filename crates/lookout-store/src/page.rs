//! Keyset pages.

use crate::StoreError;

/// Most items of one page: enough for tools, small enough for one answer in memory.
pub const PAGE_LIMIT_MAX: u32 = 1000;

/// Which part of a list to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Most items to return, from 1 to [`PAGE_LIMIT_MAX`].
    pub limit: u32,
    /// The id of the last item of the page before; `None` for the first page.
    pub after: Option<String>,
}

impl Page {
    /// The first page of `limit` items.
    pub fn first(limit: u32) -> Self {
        Self { limit, after: None }
    }

    /// The limit as the database takes it.
    pub(crate) fn limit(&self) -> Result<i64, StoreError> {
        if !(1..=PAGE_LIMIT_MAX).contains(&self.limit) {
            return Err(StoreError::Invalid(format!(
                "a page holds from 1 to {PAGE_LIMIT_MAX} items, not {}",
                self.limit
            )));
        }
        Ok(i64::from(self.limit))
    }

    /// The id to stay below in a list that runs from newest to oldest.
    pub(crate) fn below(&self) -> &str {
        // Above every UUIDv7, so that the first page needs no statement of its own.
        self.after.as_deref().unwrap_or("ffffffff-ffff-ffff-ffff-ffffffffffff")
    }

    /// The id to stay above in a list in ascending order.
    pub(crate) fn above(&self) -> &str {
        self.after.as_deref().unwrap_or("")
    }
}

impl Default for Page {
    fn default() -> Self {
        Self::first(100)
    }
}
