//! The tasks that jobs can run, besides those that need the store alone.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use lookout_chain::{Chains, Wants};
use lookout_ingest::consume::Rounds;
use lookout_ingest::publish::Limits;
use lookout_ingest::verify::verify_range;
use lookout_jobs::{Purge, Task, TaskContext, TaskError, Tasks};
use lookout_store::{Store, TENANT_DEFAULT};
use lookout_types::{ChainId, Height};
use lookout_warehouse::Warehouse;
use serde_json::{Map, Value, json};

use super::balances::{Balances, ChainBalances};
use crate::config::Settings;

/// Blocks that a verification reads again when its settings name no number.
const VERIFY_BLOCKS: u64 = 1_000;
/// Fewest blocks that retention leaves: more than chains reorganise, so that any undo finds its block.
const KEEP_BLOCKS_MIN: u64 = 10_000;

/// All tasks, by kind. Jobs are checked against them also where none runs.
pub(crate) fn tasks(
    settings: &Settings,
    chains: &Chains,
    store: &Store,
    warehouse: &Arc<dyn Warehouse>,
) -> Tasks {
    let followed = settings.follows.iter().map(|follow| {
        let (id, wants, name) = (follow.id, follow.wants.clone(), follow.chain.clone());
        let reader = Arc::new(ChainBalances { chains: chains.clone(), id });
        let rounds = Rounds::new(store.clone(), id, &name, reader);
        (name, Followed { id, chains: chains.clone(), wants, rounds })
    });
    let chains = Arc::new(followed.collect::<HashMap<_, _>>());
    let warehouse = || Arc::clone(warehouse);
    let tasks: [Arc<dyn Task>; 4] = [
        Arc::new(Purge::new(store.clone())),
        Arc::new(Balances { chains: Arc::clone(&chains) }),
        Arc::new(Verify { chains: Arc::clone(&chains), warehouse: warehouse() }),
        Arc::new(Retention { chains, warehouse: warehouse() }),
    ];
    Tasks::new(tasks)
}

/// A followed chain.
pub(super) struct Followed {
    id: ChainId,
    chains: Chains,
    wants: Wants,
    pub(super) rounds: Rounds,
}

pub(super) type FollowedChains = Arc<HashMap<String, Followed>>;

/// Reads the newest blocks of a chain again and compares them with what is held.
///
/// Settings: `chain`, its name; `blocks`, how many (1,000 where it is missing). The run fails when
/// something is missing or different, and says which heights.
struct Verify {
    chains: FollowedChains,
    warehouse: Arc<dyn Warehouse>,
}

#[async_trait]
impl Task for Verify {
    fn kind(&self) -> &'static str {
        "verify"
    }

    fn check(&self, settings: &Map<String, Value>) -> Result<(), String> {
        known(settings, &["chain", "blocks"])?;
        of_chain(&self.chains, settings)?;
        count(settings, "blocks", VERIFY_BLOCKS, 1).map(|_| ())
    }

    async fn run(&self, context: &TaskContext) -> Result<Value, TaskError> {
        let followed = of_chain(&self.chains, &context.settings).map_err(TaskError::Fail)?;
        let blocks =
            count(&context.settings, "blocks", VERIFY_BLOCKS, 1).map_err(TaskError::Fail)?;
        let held = self.warehouse.coverage(followed.id).await.map_err(retry)?;
        let Some(newest) = held.last() else {
            return Ok(json!({ "verified": 0, "note": "nothing of the chain is held yet" }));
        };
        let low = newest.end().saturating_sub(blocks - 1).max(*newest.start());
        let heights = low..=*newest.end();
        // Looked up by its id now: its upstreams may have changed since the start.
        let source = followed.chains.get(&followed.id.to_string()).map_err(retry)?.source();
        let report = |height: Height| context.report(json!({ "height": height }));
        let limits = Limits::default();
        let verify = verify_range(
            &*source,
            &followed.wants,
            &*self.warehouse,
            heights.clone(),
            &limits,
            &report,
        );
        let stopped = || TaskError::Retry("told to stop before the end".to_owned());
        let found = context.stop.run_until_cancelled(verify).await.ok_or_else(stopped)?;
        let found = found.map_err(retry)?;
        if found.is_clean() {
            return Ok(json!({
                "verified": found.ok, "from": heights.start(), "to": heights.end(),
            }));
        }
        // The chain may have moved on while it was read; if so, the next try finds it right.
        Err(TaskError::Retry(format!(
            "{} of {} blocks are as on the chain; missing: {:?}; different: {:?}; \
             `lookout backfill --verify` says more",
            found.ok,
            heights.end() - heights.start() + 1,
            found.missing,
            found.different,
        )))
    }
}

/// Lets go of the oldest events and transfers of a chain.
///
/// Settings: `chain`, its name; `keepBlocks`, how many stay (at least 10,000). All tenants share
/// them, so only jobs of the tenant `default` may.
struct Retention {
    chains: FollowedChains,
    warehouse: Arc<dyn Warehouse>,
}

#[async_trait]
impl Task for Retention {
    fn kind(&self) -> &'static str {
        "retention"
    }

    fn check(&self, settings: &Map<String, Value>) -> Result<(), String> {
        known(settings, &["chain", "keepBlocks"])?;
        of_chain(&self.chains, settings)?;
        required(settings, "keepBlocks")?;
        count(settings, "keepBlocks", 0, KEEP_BLOCKS_MIN).map(|_| ())
    }

    async fn run(&self, context: &TaskContext) -> Result<Value, TaskError> {
        if context.tenant != TENANT_DEFAULT {
            return Err(TaskError::Fail(format!(
                "events are shared by all tenants: only a job of tenant `{TENANT_DEFAULT}` removes them"
            )));
        }
        let followed = of_chain(&self.chains, &context.settings).map_err(TaskError::Fail)?;
        let keep = count(&context.settings, "keepBlocks", 0, KEEP_BLOCKS_MIN);
        let keep = keep.map_err(TaskError::Fail)?;
        let held = self.warehouse.coverage(followed.id).await.map_err(retry)?;
        let head = held.last().map_or(0, |newest| *newest.end());
        let below = (head + 1).saturating_sub(keep);
        let removed = self.warehouse.retain(followed.id, below).await.map_err(retry)?;
        Ok(json!({ "removedBlocks": removed, "below": below }))
    }
}

pub(super) fn retry(error: impl std::fmt::Display) -> TaskError {
    TaskError::Retry(error.to_string())
}

pub(super) fn known(settings: &Map<String, Value>, names: &[&str]) -> Result<(), String> {
    match settings.keys().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(unknown) => {
            let shown: String = unknown.escape_debug().take(80).collect();
            Err(format!("no setting `{shown}`; there are: `{}`", names.join("`, `")))
        }
    }
}

fn required(settings: &Map<String, Value>, name: &str) -> Result<(), String> {
    if settings.contains_key(name) { Ok(()) } else { Err(format!("`{name}` is missing")) }
}

pub(super) fn of_chain<'a>(
    chains: &'a FollowedChains,
    settings: &Map<String, Value>,
) -> Result<&'a Followed, String> {
    required(settings, "chain")?;
    let name = settings.get("chain").and_then(Value::as_str);
    let name = name.ok_or_else(|| "`chain` is the name of a followed chain".to_owned())?;
    chains.get(name).ok_or_else(|| {
        let mut names: Vec<_> = chains.keys().map(String::as_str).collect();
        names.sort_unstable();
        let shown: String = name.escape_debug().take(80).collect();
        format!("the chain `{shown}` is not followed; followed chains: {}", names.join(", "))
    })
}

fn count(
    settings: &Map<String, Value>,
    name: &str,
    default: u64,
    least: u64,
) -> Result<u64, String> {
    let Some(value) = settings.get(name) else { return Ok(default) };
    let number = value.as_u64().filter(|number| *number >= least);
    number.ok_or_else(|| format!("`{name}` is a number of at least {least}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_used_are_named() {
        let chains: FollowedChains = Arc::default();
        let settings = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap();
        let unknown = known(&settings(r#"{"chian": 1}"#), &["chain", "blocks"]).unwrap_err();
        assert_eq!(unknown, "no setting `chian`; there are: `chain`, `blocks`");
        let refused = |text: &str| of_chain(&chains, &settings(text)).err().unwrap();
        assert_eq!(refused("{}"), "`chain` is missing");
        assert_eq!(refused(r#"{"chain": 7}"#), "`chain` is the name of a followed chain");
        assert!(refused(r#"{"chain": "x"}"#).starts_with("the chain `x` is not followed"));
        let read = |text: &str| count(&settings(text), "blocks", 5, 2);
        assert_eq!(read("{}"), Ok(5));
        assert_eq!(read(r#"{"blocks": 2}"#), Ok(2));
        for wrong in [r#"{"blocks": 1}"#, r#"{"blocks": "9"}"#, r#"{"blocks": -1}"#] {
            assert_eq!(read(wrong), Err("`blocks` is a number of at least 2".to_owned()));
        }
    }
}
