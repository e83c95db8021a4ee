//! Whether what is kept of a chain is enough for a rule.

use std::sync::Arc;

use lookout_chain::{Chain, Wants};
use lookout_rules::{Kept, Rule, RuleDocument, RuleId, RuleSource};
use lookout_store::RuleInfo;

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
    let Some(wants) = state.follows.get(&chain.id()) else {
        return Err(conflict(format!(
            "chain `{0}` is not followed, so nothing of it is matched; set chains.{0}.follow",
            chain.name()
        )));
    };
    require_kept(chain.name(), wants, &rule)?;
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

pub(super) fn require_kept(chain: &str, wants: &Wants, rule: &Rule) -> Result<(), ApiError> {
    let kept = Kept {
        chain: chain.to_owned(),
        whole: wants.whole,
        addresses: wants.addresses.clone(),
        topics: wants.topics.clone(),
    };
    kept.require(rule).map_err(|reason| conflict(reason.to_string()))
}
