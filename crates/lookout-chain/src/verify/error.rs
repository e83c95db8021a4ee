//! What is wrong with a node's answer, by name.

use alloy_primitives::{Address, B256};

/// Why a node's answer cannot be true. Each means that the node is faulty or lies, never that the
/// caller asked wrongly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VerifyError {
    #[error("malformed answer at `{field}`: {problem}")]
    Malformed { field: String, problem: String },
    #[error("malformed answer: `{field}` is missing")]
    Missing { field: String },
    #[error("the header has `{later}` but not `{earlier}`, which every fork with it has")]
    HeaderGap { earlier: &'static str, later: &'static str },
    #[error("the header hashes to {computed}, not to {claimed} as claimed")]
    HeaderHash { claimed: B256, computed: B256 },
    #[error("block {asked} was asked for, but the answer is block {got}")]
    WrongBlock { asked: B256, got: B256 },
    #[error(
        "block {child} names {claimed} at height {claimed_height} as its parent, not {parent} at \
         height {parent_height}"
    )]
    ParentLink { child: B256, claimed: B256, claimed_height: u64, parent: B256, parent_height: u64 },
    #[error("`{field}` is {said}, but {known} follows from the rest")]
    Disagrees { field: String, said: String, known: String },
    #[error("the transactions lead to the root {computed}, but the header says {claimed}")]
    TransactionsRoot { claimed: B256, computed: B256 },
    #[error("the withdrawals lead to the root {computed}, but the header says {claimed}")]
    WithdrawalsRoot { claimed: B256, computed: B256 },
    #[error("the block lists {listed} uncles, which does not fit its `sha3Uncles` {claimed}")]
    Uncles { listed: usize, claimed: B256 },
    #[error("the receipts lead to the root {computed}, but the header says {claimed}")]
    ReceiptsRoot { claimed: B256, computed: B256 },
    #[error("the logs of {of} do not make up its bloom")]
    Bloom { of: String },
    #[error("`{field}` is not in the header's bloom")]
    NotInBloom { field: String },
    #[error("transaction {asked} was asked for, but the answer is transaction {got}")]
    WrongTransaction { asked: B256, got: B256 },
    #[error("the transaction hashes to {computed}, not to {claimed} as claimed")]
    TransactionHash { claimed: B256, computed: B256 },
    #[error("transaction {transaction} is signed by {signer}, not by {claimed} as claimed")]
    Sender { transaction: B256, claimed: Address, signer: Address },
    #[error("the signature of transaction {transaction} is not valid")]
    Signature { transaction: B256 },
    #[error("`{field}` does not match the filter that was asked for")]
    Filter { field: String },
    #[error("the proof of {of} does not lead to the root {root}")]
    Proof { of: String, root: B256 },
}
