//! Networks: which chain a slug is, and how many confirmations it asks for.

use lookout_types::ChainId;
use serde_json::{Map, Value};

use super::{Effect, Notes, text};
use crate::MAX_CONFIRMATIONS;

#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) chain: ChainId,
    /// As documents name it.
    pub(super) chain_name: String,
    /// As people know it.
    pub(super) name: String,
    pub(super) confirmations: u64,
}

/// What only a program that polls and skips needs.
const NOT_NEEDED: [&str; 6] = [
    "block_time_ms",
    "cron_schedule",
    "max_past_blocks",
    "recovery_config",
    "rpc_urls",
    "store_blocks",
];

pub(super) fn read(
    object: &Map<String, Value>,
    chain_name: &dyn Fn(ChainId) -> Option<String>,
    notes: &mut Notes<'_>,
) -> Option<Network> {
    let kind = text(object, "network_type");
    if kind != "EVM" {
        notes.add(Effect::Dropped, format!("networks of type `{kind}` have no equivalent"));
        return None;
    }
    let Some(id) = object.get("chain_id").and_then(Value::as_u64) else {
        notes.add(Effect::Dropped, "the network has no `chain_id`");
        return None;
    };
    let chain = ChainId(id);
    let configured = chain_name(chain);
    let known = ["network_type", "slug", "name", "chain_id", "confirmation_blocks"];
    let read: Vec<_> = known.into_iter().chain(NOT_NEEDED).collect();
    notes.unread(object, &read);
    let unneeded: Vec<_> = NOT_NEEDED
        .into_iter()
        .filter(|name| *name != "rpc_urls" && object.contains_key(*name))
        .map(|name| format!("`{name}`"))
        .collect();
    if !unneeded.is_empty() {
        let list = unneeded.join(", ");
        notes.add(
            Effect::Dropped,
            format!("{list}: heads are followed as they come and no block is skipped"),
        );
    }
    if configured.is_none() {
        notes.add(
            Effect::Manual,
            format!(
                "chain {id} is not configured; add chains.NAME with its id, upstreams and follow"
            ),
        );
    } else if object.contains_key("rpc_urls") {
        notes.add(Effect::Manual, "`rpc_urls`: upstreams stand in the configuration, under chains");
    }
    let asked = object.get("confirmation_blocks").and_then(Value::as_u64).unwrap_or(0);
    if asked > MAX_CONFIRMATIONS {
        notes.add(Effect::Changed, format!("{asked} confirmations become {MAX_CONFIRMATIONS}"));
    }
    let name = match text(object, "name") {
        "" => text(object, "slug"),
        name => name,
    };
    Some(Network {
        chain,
        chain_name: configured.unwrap_or_else(|| chain.caip2()),
        name: name.to_owned(),
        confirmations: asked.min(MAX_CONFIRMATIONS),
    })
}
