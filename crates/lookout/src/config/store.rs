//! `[store]`: the database of tenants, keys and everything they own.

use lookout_store::StoreUrl;

use super::section::{Check, section};
use super::setting::FromFile;
use super::tree::{Entry, Problem};

section! {
    /// The database.
    StoreSection {
        /// `sqlite:FILE`, relative to the working directory, or
        /// `postgres://USER:PASSWORD@HOST/DATABASE`.
        url: StoreUrl = StoreUrl::SqliteFile("lookout.db".into()),
        /// File that holds the URL, instead of `url`.
        url_file: Option<FromFile<StoreUrl>> = None,
    }
}

impl Check for StoreSection {
    fn check(&self, entry: &Entry) -> Result<(), Problem> {
        if entry.get("url").is_some() && self.url_file.is_some() {
            return Err(entry.problem_at("url_file", "`url` is set too; keep one of the two"));
        }
        Ok(())
    }
}

impl StoreSection {
    /// Where the store is.
    pub(crate) fn location(&self) -> &StoreUrl {
        self.url_file.as_ref().map_or(&self.url, |file| &file.value)
    }
}
