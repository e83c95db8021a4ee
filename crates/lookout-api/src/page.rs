//! Lists in pages: `?limit=` and `?cursor=` in, `items` and `next` out.

use lookout_store::{PAGE_LIMIT_MAX, Page};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::error::{ApiError, Code};

/// Items on a page when the caller does not say.
const LIMIT_DEFAULT: u32 = 100;
/// Longest cursor: the hex form of the longest id.
const CURSOR_BYTES_MAX: usize = 256;

/// Which part of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// Most items to return.
    #[param(value_type = u32, required = false, minimum = 1, maximum = 1000, default = 100)]
    pub(crate) limit: Option<u32>,
    /// The `next` of the page before; leave it out for the first page.
    #[param(
        value_type = String, required = false, max_length = 256,
        pattern = "^([2-6][0-9a-f]|7[0-9a-e]){1,128}$"
    )]
    pub(crate) cursor: Option<String>,
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Items<T> {
    /// The items of this page.
    pub(crate) items: Vec<T>,
    /// Cursor of the next page; `null` on the last one.
    pub(crate) next: Option<String>,
}

impl PageQuery {
    pub(crate) fn page(self) -> Result<Page, ApiError> {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=PAGE_LIMIT_MAX).contains(&limit) {
            let detail = format!("`limit` is from 1 to {PAGE_LIMIT_MAX}, not {limit}");
            return Err(ApiError::new(Code::InvalidParameter, detail));
        }
        let after = self.cursor.map(|cursor| decode(&cursor)).transpose()?;
        Ok(Page { limit, after })
    }
}

fn decode(cursor: &str) -> Result<String, ApiError> {
    let bytes = Some(cursor).filter(|cursor| (1..=CURSOR_BYTES_MAX).contains(&cursor.len()));
    let id = bytes
        .and_then(|cursor| const_hex::decode(cursor).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        // Ids are printable ASCII; Postgres would refuse a NUL with an error of its own.
        .filter(|id| id.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    id.ok_or_else(|| {
        let detail = "`cursor` is none of ours; pass the `next` of the page before unchanged";
        ApiError::new(Code::InvalidParameter, detail)
    })
}

impl<T> Items<T> {
    /// The whole of a short list.
    pub(crate) fn all(items: Vec<T>) -> Self {
        Self { items, next: None }
    }

    /// A page read with `page`; a full one may have a successor.
    pub(crate) fn page(items: Vec<T>, page: &Page, id: impl Fn(&T) -> &str) -> Self {
        let full = items.len() >= usize::try_from(page.limit).unwrap_or(usize::MAX);
        let next = items.last().filter(|_| full).map(|last| const_hex::encode(id(last)));
        Self { items, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_the_id_it_was_made_of() {
        let page = PageQuery { limit: Some(2), cursor: None }.page().unwrap();
        assert_eq!(page, Page { limit: 2, after: None });
        let items = Items::page(vec!["a".to_owned(), "b".to_owned()], &page, |id| id);
        let page = PageQuery { limit: None, cursor: items.next }.page().unwrap();
        assert_eq!(page, Page { limit: LIMIT_DEFAULT, after: Some("b".into()) });
        assert_eq!(Items::page(vec!["c".to_owned()], &page, |id| id).next, None);
    }

    #[test]
    fn wrong_limits_and_cursors_are_refused() {
        for limit in [0, 1001, u32::MAX] {
            assert!(PageQuery { limit: Some(limit), cursor: None }.page().is_err());
        }
        for cursor in ["", "zz", "abc", "ff", "00", &"61".repeat(200)] {
            assert!(PageQuery { limit: None, cursor: Some(cursor.to_owned()) }.page().is_err());
        }
    }
}
