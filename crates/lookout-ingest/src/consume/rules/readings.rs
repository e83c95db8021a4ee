//! Asks rules about balances that a job has read.
//!
//! Between two frames, never in the middle of a batch: what is committed is the very branch on
//! which a reading stands and with whose earlier readings it is compared. No upstream is asked here.

use std::time::Instant;

use lookout_rules::Reading;
use lookout_store::{FreshReadings, ReadBalance, Store};
use lookout_types::{Amount, Height};

use super::plan::Plan;
use super::state::ChainState;
use super::{ConsumeError, LOOK, Meters, record};

impl ChainState {
    /// Asks about what was read since the last time, each round in a commit of its own; gives the
    /// plan to go on with.
    pub(super) async fn take_readings(
        &mut self,
        store: &Store,
        depth: u64,
        mut plan: Plan,
        meters: &Meters,
    ) -> Result<Plan, ConsumeError> {
        // While it catches up or rebuilds, the matcher is not where the readings are.
        if self.rebuilding.is_some() || self.seen != self.committed {
            return Ok(plan);
        }
        // The sender lives in the store, which outlives this.
        let signalled = self.readings.has_changed().unwrap_or(false);
        if !signalled && self.readings_looked.elapsed() < LOOK {
            return Ok(plan);
        }
        self.readings.mark_unchanged();
        self.readings_looked = Instant::now();
        while let Some(fresh) = store.fresh_readings(self.committed.chain).await? {
            let readings =
                fresh.balances.iter().map(|(read, before)| reading(read, before.as_ref()));
            let readings: Vec<Reading> = readings.collect::<Result<_, _>>()?;
            self.ask(fresh, &readings, &mut plan, meters);
            let next = Plan::new(self.committed);
            self.commit(store, std::mem::replace(&mut plan, next), depth, meters).await?;
        }
        Ok(plan)
    }

    fn ask(&self, fresh: FreshReadings, readings: &[Reading], plan: &mut Plan, meters: &Meters) {
        let begun = Instant::now();
        let stepped = self.matcher.read(fresh.block.block, fresh.block.time, readings);
        meters.evaluated(begun.elapsed(), &stepped);
        plan.add_read(fresh, &stepped, &self.matcher);
    }
}

/// A reading as the store has it, which wrote it itself.
fn reading(read: &ReadBalance, before: Option<&(Height, String)>) -> Result<Reading, ConsumeError> {
    let wrong = || {
        let ReadBalance { account, asset, balance } = read;
        let reading = format!("account `{account}`, asset `{asset}`, balance `{balance}`");
        ConsumeError::Fatal(format!("the store has a reading that is none: {reading}, {before:?}"))
    };
    let amount = |text: &str| text.parse::<Amount>().map_err(|_| wrong());
    let before = match before {
        Some((height, text)) => Some((*height, amount(text)?)),
        None => None,
    };
    Ok(Reading {
        account: read.account.parse().map_err(|_| wrong())?,
        asset: record::asset_of(&read.asset).ok_or_else(wrong)?,
        balance: amount(&read.balance)?,
        before,
    })
}
