//! The methods that clients may call, and how each depends on a block.
//!
//! Source: the Ethereum execution API specification; EIP-1898 for blocks by hash in parameters.

use std::collections::HashMap;
use std::sync::LazyLock;

/// How a method's answer depends on the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Answered from the followed head.
    HeadNumber,
    /// The same for the whole life of the chain.
    Constant,
    /// State at the block in parameter `block_at`, which may be given by hash (EIP-1898).
    State { block_at: usize },
    /// A block, by number or tag; asked by hash once the hash is known.
    BlockByNumber,
    /// A block by hash.
    BlockByHash,
    /// Something inside the block in parameter 0, given by number; `twin` takes the hash.
    InBlockByNumber { twin: &'static str },
    /// Something inside the block in parameter 0, given by hash.
    InBlockByHash,
    /// All receipts of the block in parameter 0, by number, tag or hash.
    BlockReceipts,
    /// A transaction by hash.
    Transaction,
    /// A receipt by transaction hash.
    Receipt,
    /// Logs by filter.
    Logs,
    /// Changes at any time; coalesced, never cached.
    Live,
    /// Sends something; never coalesced, hedged or cached.
    Send,
}

/// One method of the allow-list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Method {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    /// Position in per-method tables.
    pub(crate) index: usize,
}

/// Methods in the table.
pub(crate) const COUNT: usize = TABLE.len();

const TABLE: [(&str, Shape); 37] = [
    ("eth_blockNumber", Shape::HeadNumber),
    ("eth_chainId", Shape::Constant),
    ("net_version", Shape::Constant),
    ("eth_getBalance", Shape::State { block_at: 1 }),
    ("eth_getCode", Shape::State { block_at: 1 }),
    ("eth_getTransactionCount", Shape::State { block_at: 1 }),
    ("eth_getStorageAt", Shape::State { block_at: 2 }),
    ("eth_getProof", Shape::State { block_at: 2 }),
    ("eth_call", Shape::State { block_at: 1 }),
    ("eth_getBlockByNumber", Shape::BlockByNumber),
    ("eth_getBlockByHash", Shape::BlockByHash),
    (
        "eth_getBlockTransactionCountByNumber",
        Shape::InBlockByNumber { twin: "eth_getBlockTransactionCountByHash" },
    ),
    ("eth_getBlockTransactionCountByHash", Shape::InBlockByHash),
    (
        "eth_getTransactionByBlockNumberAndIndex",
        Shape::InBlockByNumber { twin: "eth_getTransactionByBlockHashAndIndex" },
    ),
    ("eth_getTransactionByBlockHashAndIndex", Shape::InBlockByHash),
    (
        "eth_getUncleCountByBlockNumber",
        Shape::InBlockByNumber { twin: "eth_getUncleCountByBlockHash" },
    ),
    ("eth_getUncleCountByBlockHash", Shape::InBlockByHash),
    (
        "eth_getUncleByBlockNumberAndIndex",
        Shape::InBlockByNumber { twin: "eth_getUncleByBlockHashAndIndex" },
    ),
    ("eth_getUncleByBlockHashAndIndex", Shape::InBlockByHash),
    ("eth_getBlockReceipts", Shape::BlockReceipts),
    ("eth_getTransactionByHash", Shape::Transaction),
    ("eth_getTransactionReceipt", Shape::Receipt),
    ("eth_getLogs", Shape::Logs),
    // These depend on a block too, but nodes disagree on whether it may be given by hash.
    ("eth_estimateGas", Shape::Live),
    ("eth_createAccessList", Shape::Live),
    ("eth_simulateV1", Shape::Live),
    ("eth_feeHistory", Shape::Live),
    ("eth_gasPrice", Shape::Live),
    ("eth_maxPriorityFeePerGas", Shape::Live),
    ("eth_blobBaseFee", Shape::Live),
    ("eth_syncing", Shape::Live),
    ("eth_accounts", Shape::Live),
    ("eth_config", Shape::Live),
    ("net_listening", Shape::Live),
    ("net_peerCount", Shape::Live),
    ("web3_clientVersion", Shape::Live),
    ("eth_sendRawTransaction", Shape::Send),
];

static METHODS: LazyLock<HashMap<&'static str, Method>> = LazyLock::new(|| {
    TABLE
        .iter()
        .enumerate()
        .map(|(index, (name, shape))| (*name, Method { name, shape: *shape, index }))
        .collect()
});

/// The method of that name, if it is allowed.
pub(crate) fn find(name: &str) -> Option<&'static Method> {
    METHODS.get(name)
}

/// A method that is known to be in the table.
pub(crate) fn known(name: &'static str) -> &'static Method {
    find(name).expect("callers name methods of the table")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_twin_is_in_the_table_and_takes_a_hash() {
        for (name, shape) in TABLE {
            if let Shape::InBlockByNumber { twin } = shape {
                assert_eq!(known(twin).shape, Shape::InBlockByHash, "{name}");
            }
        }
        assert_eq!(METHODS.len(), COUNT, "no name stands twice");
    }

    #[test]
    fn stateful_and_administrative_methods_are_not_offered() {
        for name in
            ["eth_newFilter", "eth_subscribe", "eth_sendTransaction", "admin_peers", "evm_mine"]
        {
            assert_eq!(find(name), None);
        }
    }
}
