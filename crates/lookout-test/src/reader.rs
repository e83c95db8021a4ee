//! The strictest reader of made-up chains: Lookout's own.

use std::sync::Arc;
use std::time::Duration;

use lookout_chain::{Chain, ChainSpec, Chains, PoolSettings, UpstreamSpec};
use lookout_types::ChainId;

/// A chain that reads these upstreams, once all of them are known to be at this head.
pub(crate) async fn reader(urls: &[String], id: u64, head: u64) -> (Chains, Arc<Chain>) {
    let upstreams = urls.iter().enumerate().map(|(at, url)| UpstreamSpec {
        name: format!("u{at}"),
        url: url.parse().unwrap(),
        requests_per_second: None,
    });
    let settings =
        PoolSettings { poll_interval: Duration::from_millis(50), ..PoolSettings::default() };
    let (name, id) = ("made-up".to_owned(), ChainId(id));
    let spec = ChainSpec { name, id, upstreams: upstreams.collect(), settings };
    let chains = Chains::start(vec![spec], 1 << 20);
    let chain = chains.get("made-up").unwrap();
    let ready = async {
        while chain.upstreams().iter().any(|u| u.head.is_none_or(|h| h.number < head)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ready).await.unwrap();
    (chains, chain)
}
