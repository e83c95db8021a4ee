//! The reorg-safe cache of answers.
//!
//! Keys carry the hash of the block that an answer is about. A hash commits to its ancestry, so
//! a reorg never makes a key wrong; it only makes numbers point to other keys.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use lookout_types::{BlockRef, ChainId, Hash};

use crate::Level;

/// What an answer is kept under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheKey {
    /// The chain.
    pub chain: ChainId,
    /// The block that the answer is about; zero for what a transaction's hash alone determines.
    pub block: Hash,
    /// BLAKE3-256 of the method, a zero byte, and the parameters without the block.
    pub question: [u8; 32],
}

impl CacheKey {
    pub(crate) fn new(chain: ChainId, block: Hash, method: &str, params: &[&str]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(method.as_bytes());
        for param in params {
            // JSON text holds no raw zero byte, so parameters cannot run into each other.
            hasher.update(&[0]);
            hasher.update(param.as_bytes());
        }
        Self { chain, block, question: *hasher.finalize().as_bytes() }
    }
}

/// A kept answer.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The JSON of the result, byte for byte.
    pub result: Bytes,
    /// The block it is about, checked against the followed chain at each read.
    pub block: BlockRef,
    /// How far it could be trusted when it was stored.
    pub level: Level,
    /// Why the level is not higher.
    pub note: Option<Arc<str>>,
    /// Who gave it.
    pub upstream: Arc<str>,
    /// How many reorgs the chain had seen when it was stored.
    pub generation: u64,
}

/// A cache that could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the cache failed: {0}")]
pub struct CacheError(pub String);

/// Where answers are kept. Losing entries is allowed, changing them is not.
#[async_trait]
pub trait Cache: Send + Sync + std::fmt::Debug {
    /// The entry under a key.
    ///
    /// # Errors
    /// [`CacheError`] when the backend fails; the caller then asks an upstream.
    async fn get(&self, key: &CacheKey) -> Result<Option<Entry>, CacheError>;

    /// Keeps an entry.
    ///
    /// # Errors
    /// [`CacheError`] when the backend fails; the answer is served all the same.
    async fn put(&self, key: CacheKey, entry: Entry) -> Result<(), CacheError>;
}

/// Entries in this process, bounded by their bytes.
#[derive(Debug)]
pub struct MemoryCache(moka::sync::Cache<CacheKey, Entry>);

/// Bookkeeping of an entry besides its bytes: key, pointers, the cache's own nodes.
const ENTRY_OVERHEAD_BYTES: u32 = 320;

impl MemoryCache {
    /// A cache of at most `bytes_max` bytes.
    pub fn new(bytes_max: u64) -> Self {
        let weigh = |_: &CacheKey, entry: &Entry| {
            u32::try_from(entry.result.len())
                .unwrap_or(u32::MAX)
                .saturating_add(ENTRY_OVERHEAD_BYTES)
        };
        Self(moka::sync::Cache::builder().max_capacity(bytes_max).weigher(weigh).build())
    }
}

#[async_trait]
impl Cache for MemoryCache {
    async fn get(&self, key: &CacheKey) -> Result<Option<Entry>, CacheError> {
        Ok(self.0.get(key))
    }

    async fn put(&self, key: CacheKey, mut entry: Entry) -> Result<(), CacheError> {
        // An answer is a slice of the whole response; keeping it must not keep the rest.
        entry.result = Bytes::copy_from_slice(&entry.result);
        self.0.insert(key, entry);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &'static str) -> Entry {
        Entry {
            result: Bytes::from_static(text.as_bytes()),
            block: BlockRef { number: 1, hash: Hash([1; 32]) },
            level: Level::Single,
            note: None,
            upstream: "a".into(),
            generation: 0,
        }
    }

    /// What every backend must do.
    async fn suite(cache: &dyn Cache) {
        let key = |block: u8, params: &[&str]| {
            CacheKey::new(ChainId(1), Hash([block; 32]), "eth_call", params)
        };
        cache.put(key(1, &["a", "b"]), entry("one")).await.unwrap();
        let found = cache.get(&key(1, &["a", "b"])).await.unwrap().unwrap();
        assert_eq!(found.result, "one");
        for other in [key(2, &["a", "b"]), key(1, &["ab"]), key(1, &["a"]), key(1, &["a", "b", ""])]
        {
            assert!(cache.get(&other).await.unwrap().is_none());
        }
        let other_chain = CacheKey { chain: ChainId(2), ..key(1, &["a", "b"]) };
        assert!(cache.get(&other_chain).await.unwrap().is_none());
        cache.put(key(1, &["a", "b"]), entry("two")).await.unwrap();
        assert_eq!(cache.get(&key(1, &["a", "b"])).await.unwrap().unwrap().result, "two");
    }

    #[tokio::test]
    async fn memory_passes_the_suite() {
        suite(&MemoryCache::new(1 << 20)).await;
    }

    #[tokio::test]
    async fn memory_stays_within_its_bytes() {
        let cache = MemoryCache::new(100_000);
        for i in 0..10_000_u32 {
            let key = CacheKey::new(ChainId(1), Hash::default(), "m", &[&i.to_string()]);
            cache.put(key, entry("x")).await.unwrap();
        }
        cache.0.run_pending_tasks();
        assert!(cache.0.weighted_size() <= 100_000);
    }
}
