//! The task `balances`: reads what balance rules watch, through the pools of the chains.

use std::sync::Arc;

use async_trait::async_trait;
use lookout_chain::{Chain, ChainError, Chains, Verify};
use lookout_ingest::consume::{BalanceReader, ReadError, Round, Unread};
use lookout_jobs::{Task, TaskContext, TaskError};
use lookout_store::TENANT_DEFAULT;
use lookout_types::{Address, Amount, Asset, BlockRef, BlockSelector, ChainId, ErrorKind, Height};
use serde_json::{Map, Value, json};

use super::tasks::{FollowedChains, known, of_chain, retry};

/// Kinds of failures that a run tells of; there are few, unless somebody watches many odd tokens.
const FAILED_MAX: usize = 50;
/// Characters of what exactly happened.
const DETAIL_CHARS: usize = 500;

/// Reads the balances that the rules of all tenants watch, at the newest block that they have seen.
///
/// Settings: `chain`, its name. All tenants share what is read, and how often it is read decides
/// what their rules compare, so only jobs of the tenant `default` may.
pub(super) struct Balances {
    pub(super) chains: FollowedChains,
}

#[async_trait]
impl Task for Balances {
    fn kind(&self) -> &'static str {
        "balances"
    }

    fn check(&self, settings: &Map<String, Value>) -> Result<(), String> {
        known(settings, &["chain"])?;
        of_chain(&self.chains, settings).map(|_| ())
    }

    async fn run(&self, context: &TaskContext) -> Result<Value, TaskError> {
        if context.tenant != TENANT_DEFAULT {
            return Err(TaskError::Fail(format!(
                "balances are read once for all tenants: only a job of tenant `{TENANT_DEFAULT}` \
                 reads them"
            )));
        }
        let followed = of_chain(&self.chains, &context.settings).map_err(TaskError::Fail)?;
        let stopped = || TaskError::Retry("told to stop before the end".to_owned());
        let round = context.stop.run_until_cancelled(followed.rounds.run()).await;
        let round = round.ok_or_else(stopped)?.map_err(retry)?;
        let told = told(&round);
        // Rules have heard of it; here it shows that no token but the chain is the trouble.
        let whose = |unread: &Unread| unread.own;
        if round.read == 0 && !round.failed.is_empty() && !round.failed.iter().any(whose) {
            return Err(TaskError::Retry(format!("no balance could be read: {told}")));
        }
        Ok(told)
    }
}

/// What a run tells. Whose balances failed only their rules tell: they are of any tenant.
fn told(round: &Round) -> Value {
    let failed: usize = round.failed.iter().map(|unread| unread.balances).sum();
    let mut told = json!({
        "watched": round.watched, "read": round.read, "failed": failed, "left": round.left,
    });
    if let Some(block) = round.block {
        told["block"] = json!({ "number": block.number, "hash": block.hash.to_string() });
    }
    if let Some(note) = &round.note {
        told["note"] = json!(note);
    }
    if failed > 0 {
        let failures = round.failed.iter().take(FAILED_MAX).map(|unread| {
            let detail: String = unread.detail.chars().take(DETAIL_CHARS).collect();
            let (asset, reason) = (&unread.asset, &unread.reason);
            json!({"asset": asset, "reason": reason, "detail": detail, "balances": unread.balances})
        });
        told["failures"] = failures.collect();
    }
    told
}

/// Reads balances of a chain, through whichever upstreams it has at the time.
#[derive(Debug)]
pub(super) struct ChainBalances {
    pub(super) chains: Chains,
    pub(super) id: ChainId,
}

impl ChainBalances {
    fn chain(&self) -> Result<Arc<Chain>, ChainError> {
        self.chains.get(&self.id.to_string())
    }
}

#[async_trait]
impl BalanceReader for ChainBalances {
    fn head(&self) -> Option<Height> {
        self.chain().ok()?.heads().map(|heads| heads.latest.number)
    }

    async fn read(
        &self,
        block: BlockRef,
        account: Address,
        asset: Asset,
    ) -> Result<Amount, ReadError> {
        let token = match asset {
            Asset::Native => None,
            Asset::Erc20(token) => Some(token),
            Asset::Erc721 { .. } | Asset::Erc1155 { .. } => {
                let reason = "only coins and ERC-20 tokens have balances".to_owned();
                return Err(ReadError { own: true, reason, detail: "not asked".to_owned() });
            }
        };
        let at = BlockSelector::Hash(block.hash);
        let chain = self.chain().map_err(|error| why(&error, token))?;
        let read = chain.balance(account, token, at, Verify::Standard).await;
        read.map(|balance| balance.amount).map_err(|error| why(&error, token))
    }
}

/// Why a balance could not be read, in one of few texts: what nodes say differs each time, and a
/// contract that reverts writes what it likes.
fn why(error: &ChainError, token: Option<Address>) -> ReadError {
    let own = error.kind() == ErrorKind::Invalid;
    let reason = match (error.kind(), token) {
        (ErrorKind::Invalid, Some(token)) => match error {
            ChainError::Node(_) => format!("`balanceOf` of `{token}` fails at that block"),
            _ => format!("`{token}` does not answer `balanceOf` as a token does"),
        },
        (ErrorKind::Invalid, None) => "the node refuses to tell the balance".to_owned(),
        (ErrorKind::NotFound, _) => "the block, or its state, is not there any more".to_owned(),
        (ErrorKind::Timeout, _) => "no answer in time".to_owned(),
        _ => "no upstream of the chain could answer".to_owned(),
    };
    ReadError { own, reason, detail: error.to_string() }
}

#[cfg(test)]
mod tests {
    use lookout_types::Hash;

    use super::*;

    #[test]
    fn reasons_are_few_whatever_nodes_and_contracts_say() {
        let chain = || "ethereum".to_owned();
        let token = Address([0x11; 20]);
        let timeout = ChainError::Timeout { chain: chain(), millis: 25_017 };
        let away = ChainError::Unavailable { chain: chain(), reason: "all gated off".to_owned() };
        let odd = ChainError::Invalid("31 bytes".to_owned());
        for (error, token, expected) in [
            (&timeout, None, "no answer in time"),
            (&away, Some(token), "no upstream of the chain could answer"),
            (
                &odd,
                Some(token),
                "`0x1111111111111111111111111111111111111111` does not answer `balanceOf` as a \
                 token does",
            ),
            (&odd, None, "the node refuses to tell the balance"),
        ] {
            let why = why(error, token);
            assert_eq!((why.reason.as_str(), why.detail), (expected, error.to_string()));
            assert_eq!(why.own, matches!(error, ChainError::Invalid(_)));
        }
    }

    #[test]
    fn a_run_tells_what_was_read_and_what_failed() {
        let idle = Round { watched: 2, note: Some("asleep".to_owned()), ..Round::default() };
        let expected = json!({"watched": 2, "read": 0, "failed": 0, "left": 0, "note": "asleep"});
        assert_eq!(told(&idle), expected);
        let unread = Unread {
            own: false,
            asset: "native".to_owned(),
            reason: "no answer in time".to_owned(),
            detail: "x".repeat(9_999),
            balances: 3,
        };
        let round = Round {
            block: Some(BlockRef { number: 7, hash: Hash([9; 32]) }),
            watched: 9,
            read: 4,
            failed: vec![unread; 2_000],
            left: 2,
            note: None,
        };
        let told = told(&round);
        assert_eq!(
            (&told["read"], &told["failed"], &told["left"]),
            (&json!(4), &json!(6_000), &json!(2))
        );
        assert_eq!(told["block"]["number"], 7);
        assert_eq!(told["failures"][0]["balances"], 3);
        // A run's result has 64 KiB.
        assert!(told.to_string().len() < 60_000);
    }
}
