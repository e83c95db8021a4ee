//! `[cache]`: answers of upstreams, kept by block hash.

use std::fmt;
use std::str::FromStr;

use super::section::{Check, Kind, Setting, section};
use super::setting::{parsed, quoted};
use super::tree::{Entry, Problem};

section! {
    /// Answers of upstreams.
    CacheSection {
        /// `memory:`. Later also `redis://HOST:PORT`, shared by many instances.
        url: CacheUrl = CacheUrl::Memory,
        /// Most memory for cached answers, in bytes.
        bytes_max: u64 = 256 << 20,
    }
}

impl Check for CacheSection {}

/// Where cached answers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheUrl {
    /// In this process.
    Memory,
}

impl FromStr for CacheUrl {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("redis" | "rediss", _)) => {
                Err("a Redis cache is not supported yet; use `memory:`")
            }
            _ => Err("not a cache URL; expected `memory:`"),
        }
    }
}

impl fmt::Display for CacheUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("memory:")
    }
}

impl Setting for CacheUrl {
    const KIND: Kind = Kind::Value("URL");

    fn read(entry: &Entry) -> Result<Self, Problem> {
        parsed(entry, "a URL")
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}
