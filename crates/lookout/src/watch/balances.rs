//! Balances for rules, read through the pools of the chains.

use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use lookout_chain::{Chains, Verify};
use lookout_ingest::consume::{BalanceReader, ReadError};
use lookout_types::{Address, Amount, Asset, BlockRef, BlockSelector, ChainId};

/// Balances asked for side by side: enough to hide a round trip, few enough for a public endpoint.
const AT_ONCE: usize = 8;

/// Reads balances of any configured chain.
#[derive(Debug)]
pub(super) struct ChainBalances(Chains);

impl ChainBalances {
    pub(super) fn new(chains: Chains) -> Self {
        Self(chains)
    }
}

#[async_trait]
impl BalanceReader for ChainBalances {
    async fn read(
        &self,
        chain: ChainId,
        block: BlockRef,
        accounts: &[(Address, Asset)],
    ) -> Result<Vec<Amount>, ReadError> {
        let known = self.0.list().into_iter().find(|known| known.id() == chain);
        let known = known.ok_or_else(|| ReadError(format!("chain {chain} is not configured")))?;
        let accounts = accounts.to_vec();
        let reads = accounts.into_iter().map(|(account, asset)| {
            let chain = known.clone();
            async move {
                let token = match asset {
                    Asset::Native => None,
                    Asset::Erc20(token) => Some(token),
                    Asset::Erc721 { .. } | Asset::Erc1155 { .. } => {
                        return Err(ReadError("only coins and ERC-20 tokens have balances".into()));
                    }
                };
                let at = BlockSelector::Hash(block.hash);
                let read = chain.balance(account, token, at, Verify::Standard).await;
                read.map(|balance| balance.amount).map_err(|error| ReadError(error.to_string()))
            }
        });
        stream::iter(reads).buffered(AT_ONCE).try_collect().await
    }
}
