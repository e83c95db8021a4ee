//! Whether what is kept of a chain is enough for a rule.

use std::sync::Arc;

use lookout_chain::{Chain, Wants};
use lookout_rules::{Rule, RuleDocument, RuleId, RuleSource, Watch, WatchedAsset};
use lookout_store::RuleInfo;
use lookout_types::{Address, Hash, TRANSFER, TRANSFER_BATCH, TRANSFER_SINGLE};

use crate::error::{ApiError, Code};
use crate::state::State;

/// The chain that a document names.
pub(super) fn chain_of(state: &State, document: &RuleDocument) -> Result<Arc<Chain>, ApiError> {
    // A wrong name in a body is a wrong body, not a missing page.
    state.chain(&document.chain).map_err(|error| ApiError::new(Code::InvalidRule, error.detail))
}

/// Compiles a document as it would be now, and refuses what its chain could never match.
pub(super) async fn require(
    state: &State,
    tenant: &str,
    chain: &Chain,
    document: &RuleDocument,
) -> Result<(RuleSource, Rule), ApiError> {
    let source = state.store.rule_source(tenant, chain.id(), document).await?;
    let rule = source.compile(RuleId(0), 1)?;
    let watch = source.watch()?;
    let Some(wants) = state.follows.get(&chain.id()) else {
        return Err(conflict(format!(
            "chain `{0}` is not followed, so nothing of it is matched; set chains.{0}.follow",
            chain.name()
        )));
    };
    require_kept(chain.name(), wants, &watch, &rule)?;
    Ok((source, rule))
}

/// The same for a rule that is saved.
pub(super) async fn require_saved(
    state: &State,
    tenant: &str,
    info: &RuleInfo,
) -> Result<(RuleSource, Rule), ApiError> {
    let chain = state.chain(&info.chain.to_string()).map_err(|_| {
        conflict(format!(
            "the rule watches chain {}, which is no longer configured; add it under chains",
            info.chain
        ))
    })?;
    require(state, tenant, &chain, &info.document).await
}

fn conflict(detail: String) -> ApiError {
    ApiError::new(Code::Conflict, detail)
}

pub(super) fn require_kept(
    chain: &str,
    wants: &Wants,
    watch: &Watch,
    rule: &Rule,
) -> Result<(), ApiError> {
    if wants.whole {
        return Ok(());
    }
    let needs = rule.needs();
    if needs.transactions || needs.receipts {
        return Err(conflict(format!(
            "the rule needs transactions{}, and chain `{chain}` is followed by its logs alone; \
             let chains.{chain}.follow take whole blocks",
            if needs.receipts { " and receipts" } else { "" }
        )));
    }
    match watch {
        Watch::Event { abi, event, addresses } => {
            require_addresses(chain, wants, addresses)?;
            let event = abi.event(event).map_err(lookout_rules::RuleError::from)?;
            if event.anonymous && !wants.topics.is_empty() {
                return Err(conflict(format!(
                    "`{}` is anonymous, and chain `{chain}` keeps named events alone; widen \
                     chains.{chain}.follow",
                    event.signature
                )));
            }
            require_topic(chain, wants, &event.topic0, &event.signature)
        }
        Watch::Transfer { asset } => {
            let tokens = match asset {
                WatchedAsset::Tokens(tokens) => tokens.as_slice(),
                WatchedAsset::Any | WatchedAsset::Native => &[],
            };
            require_addresses(chain, wants, tokens)?;
            for (topic, name) in [
                (TRANSFER, "Transfer"),
                (TRANSFER_SINGLE, "TransferSingle"),
                (TRANSFER_BATCH, "TransferBatch"),
            ] {
                require_topic(chain, wants, &topic, name)?;
            }
            Ok(())
        }
        // The first needs transactions, the second reads the chain itself.
        Watch::Transaction { .. } | Watch::Balance { .. } => Ok(()),
    }
}

fn require_addresses(chain: &str, wants: &Wants, watched: &[Address]) -> Result<(), ApiError> {
    if wants.addresses.is_empty() {
        return Ok(());
    }
    let kept = wants.addresses.len();
    if watched.is_empty() {
        return Err(conflict(format!(
            "the rule watches any contract, and chain `{chain}` keeps the logs of {kept} alone; \
             name some of these, or widen chains.{chain}.follow"
        )));
    }
    match watched.iter().find(|address| !wants.addresses.contains(address)) {
        None => Ok(()),
        Some(missing) => Err(conflict(format!(
            "the rule watches {missing}, and chain `{chain}` keeps the logs of {kept} other \
             contracts alone; add it to chains.{chain}.follow"
        ))),
    }
}

fn require_topic(chain: &str, wants: &Wants, topic: &Hash, name: &str) -> Result<(), ApiError> {
    if wants.topics.is_empty() || wants.topics.contains(topic) {
        return Ok(());
    }
    Err(conflict(format!(
        "the rule watches `{name}` ({topic}), and chain `{chain}` keeps other events alone; add it \
         to chains.{chain}.follow"
    )))
}
