//! All configured chains, swapped as a whole on reload.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::cache::{Cache, MemoryCache};
use crate::{Chain, ChainError, ChainSpec, meters};

/// All configured chains; cheap to clone.
#[derive(Clone, Debug)]
pub struct Chains(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    chains: ArcSwap<BTreeMap<String, Arc<Chain>>>,
    cache: Arc<dyn Cache>,
}

impl Chains {
    /// Starts a pool for each spec. Never waits for an upstream: an unreachable one is retried.
    pub fn start(specs: Vec<ChainSpec>, cache_bytes_max: u64) -> Self {
        meters::describe();
        let cache: Arc<dyn Cache> = Arc::new(MemoryCache::new(cache_bytes_max));
        let chains = Self(Arc::new(Shared { chains: ArcSwap::default(), cache }));
        chains.reload(specs);
        chains
    }

    /// Applies a new set of specs. Chains whose spec is unchanged keep running untouched; requests
    /// under way on others finish on the old pool.
    pub fn reload(&self, specs: Vec<ChainSpec>) {
        let old = self.0.chains.load_full();
        let keep = |spec: &ChainSpec| old.get(&spec.name).filter(|chain| chain.spec == *spec);
        let next = specs
            .into_iter()
            .map(|spec| {
                let name = spec.name.clone();
                let chain = match keep(&spec) {
                    Some(chain) => chain.clone(),
                    None => Arc::new(Chain::start(spec, self.0.cache.clone())),
                };
                (name, chain)
            })
            .collect();
        self.0.chains.store(Arc::new(next));
    }

    /// The chain of that name, or of that id in decimal or CAIP-2 form.
    ///
    /// # Errors
    /// [`ChainError::UnknownChain`], listing the known names.
    pub fn get(&self, name: &str) -> Result<Arc<Chain>, ChainError> {
        let chains = self.0.chains.load();
        if let Some(chain) = chains.get(name) {
            return Ok(chain.clone());
        }
        let by_id = name.parse().ok().and_then(|id| chains.values().find(|c| c.id() == id));
        by_id.cloned().ok_or_else(|| ChainError::UnknownChain {
            name: name.chars().take(80).collect(),
            known: chains.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    /// All chains, by name.
    pub fn list(&self) -> Vec<Arc<Chain>> {
        self.0.chains.load().values().cloned().collect()
    }

    /// Ends all background tasks once requests under way are done.
    pub fn stop(&self) {
        self.0.chains.store(Arc::default());
    }
}
