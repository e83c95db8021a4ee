//! A seeded fleet of fake upstreams in front of one real node.
//!
//! Each fake forwards JSON-RPC to the node and behaves as told: late, behind, lying, failing, gone.
//! Behaviours are switched while it runs; chance comes from the fleet's seed.

mod behaviour;
mod lies;
mod serve;
mod socket;
mod upstream;
mod view;

pub use behaviour::Behaviour;
pub use upstream::FakeUpstream;

use anyhow::Result;

/// Fake upstreams in front of one node.
pub struct Fleet {
    upstreams: Vec<FakeUpstream>,
}

impl Fleet {
    /// Starts `count` healthy fakes in front of the node at this URL.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(node_url: &str, count: usize, seed: u64) -> Result<Self> {
        let mut upstreams = Vec::with_capacity(count);
        for index in 0..count {
            let own_seed = seed.wrapping_add(index as u64);
            upstreams.push(FakeUpstream::start(&format!("fake{index}"), node_url, own_seed).await?);
        }
        Ok(Self { upstreams })
    }

    /// Where they listen, in order.
    pub fn urls(&self) -> Vec<String> {
        self.upstreams.iter().map(FakeUpstream::url).collect()
    }

    /// All of them, in order.
    pub fn all(&self) -> &[FakeUpstream] {
        &self.upstreams
    }

    /// Makes all of them healthy; the dead stay dead.
    pub fn heal(&self) {
        for upstream in &self.upstreams {
            upstream.set([]);
        }
    }

    /// Calls of this method that any of them was asked.
    pub fn calls(&self, method: &str) -> u64 {
        self.upstreams.iter().map(|upstream| upstream.calls(method)).sum()
    }

    /// Forgets all counts.
    pub fn reset_counts(&self) {
        for upstream in &self.upstreams {
            upstream.reset_counts();
        }
    }
}

impl std::ops::Index<usize> for Fleet {
    type Output = FakeUpstream;

    fn index(&self, index: usize) -> &FakeUpstream {
        &self.upstreams[index]
    }
}

#[cfg(test)]
mod tests;
