//! Balances for the rules that watch them: read at the newest block, since frames have none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lookout_rules::{BalanceReading, Matcher, Rule};
use lookout_store::{KeptBalance, NewRuleFailure, Store};
use lookout_types::{
    Address, Amount, Asset, BlockRef, ChainId, Clock, Frame, Height, Step, UnixSeconds,
};

use super::record::asset_text;
use super::{ConsumeError, Meters};

/// Balances are read at every block whose height this divides. Rules compare with the reading
/// before, so at 1 no change is missed; a chain with very fast blocks is read as often as its
/// batches come anyway, because only the newest block of a batch is read.
const EVERY: Height = 1;
/// Most balances read at one block: some seconds of an upstream's batches.
const READS_MAX: usize = 2_000;
/// Balances of one request to the reader.
const READS_AT_ONCE: usize = 250;
/// Tries of one request; the next block reads again what failed.
const TRIES: u32 = 3;
/// Wait before another try: alerts of other rules wait as well.
const WAIT: Duration = Duration::from_millis(200);
/// Oldest block, by its time, whose state an upstream that is no archive is asked for: most keep
/// 128 blocks, on fast chains a few minutes.
const RECENT_S: u64 = 600;
/// Characters of a reader's reason that are stored.
const REASON_CHARS: usize = 300;

/// Reads balances at a block.
#[async_trait]
pub trait BalanceReader: Send + Sync + fmt::Debug {
    /// The balances of some accounts as they were after a block, which is named by its hash, in the
    /// order of the accounts.
    async fn read(
        &self,
        chain: ChainId,
        block: BlockRef,
        accounts: &[(Address, Asset)],
    ) -> Result<Vec<Amount>, ReadError>;
}

/// Why balances could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(pub String);

/// A reader, and what it can read.
#[derive(Debug, Clone)]
pub struct Balances {
    /// Where balances are read.
    pub reader: Arc<dyn BalanceReader>,
    /// Whether it has the state of old blocks; recent ones only are read otherwise.
    pub archive: bool,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

/// What was read at a block.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) readings: Vec<BalanceReading>,
    pub(super) kept: Vec<KeptBalance>,
    pub(super) failures: Vec<NewRuleFailure>,
}

impl Balances {
    /// Reads what the rules watch at a block, when it is one to read at. A reader that fails is a
    /// failure of the rules, and holds nothing up.
    pub(super) async fn read(
        &self,
        store: &Store,
        matcher: &mut Matcher,
        frame: &Frame,
        meters: &Meters,
    ) -> Result<Read, ConsumeError> {
        let block = frame.block;
        if frame.step == Step::Undo || !block.number.is_multiple_of(EVERY) {
            return Ok(Read::default());
        }
        let readers: Vec<Arc<Rule>> = matcher.readers(block.number).cloned().collect();
        if readers.is_empty() || !self.reaches(frame.timestamp) {
            return Ok(Read::default());
        }
        let wanted: BTreeSet<_> = readers.iter().flat_map(|rule| rule.reads()).collect();
        let accounts: Vec<_> = wanted.iter().copied().take(READS_MAX).collect();
        let mut balances = BTreeMap::new();
        let mut reason = (wanted.len() > READS_MAX).then(|| {
            format!("{} balances are watched, {READS_MAX} are read at a block", wanted.len())
        });
        for chunk in accounts.chunks(READS_AT_ONCE) {
            match self.read_some(frame.chain, block, chunk).await {
                Ok(read) => balances.extend(chunk.iter().copied().zip(read)),
                Err(error) => reason = Some(error.to_string()),
            }
        }
        meters.read(balances.len(), wanted.len() - balances.len());
        let failures = reason.map(|reason| failures(&readers, &balances, block.number, &reason));
        let mut read = Read { failures: failures.unwrap_or_default(), ..Read::default() };
        for ((account, asset), balance) in balances {
            let (name, asset_name) = (account.to_string(), asset_text(&asset));
            let previous =
                store.kept_balance(frame.chain, &name, &asset_name, block.number).await?;
            let previous = match previous {
                None => balance,
                Some(text) => text.parse().map_err(|error| {
                    ConsumeError::Fatal(format!("the kept balance of {name}: {error}"))
                })?,
            };
            read.readings.push(BalanceReading { account, asset, balance, previous });
            let balance = balance.to_string();
            read.kept.push(KeptBalance { account: name, asset: asset_name, block, balance });
        }
        Ok(read)
    }

    fn reaches(&self, time: UnixSeconds) -> bool {
        let now = u64::try_from(self.clock.now() / 1000).unwrap_or(0);
        self.archive || time.saturating_add(RECENT_S) >= now
    }

    async fn read_some(
        &self,
        chain: ChainId,
        block: BlockRef,
        accounts: &[(Address, Asset)],
    ) -> Result<Vec<Amount>, ReadError> {
        let mut tried = 0;
        loop {
            tried += 1;
            let read = match self.reader.read(chain, block, accounts).await {
                Ok(read) if read.len() == accounts.len() => return Ok(read),
                Ok(read) => ReadError(format!(
                    "{} balances were asked for, {} came",
                    accounts.len(),
                    read.len()
                )),
                Err(error) => error,
            };
            if tried == TRIES {
                return Err(read);
            }
            tokio::time::sleep(WAIT).await;
        }
    }
}

/// A failure for each rule of which a balance is missing.
fn failures(
    readers: &[Arc<Rule>],
    balances: &BTreeMap<(Address, Asset), Amount>,
    height: Height,
    reason: &str,
) -> Vec<NewRuleFailure> {
    let misses = |rule: &&Arc<Rule>| rule.reads().iter().any(|read| !balances.contains_key(read));
    let reason: String =
        format!("its balances could not be read: {reason}").chars().take(REASON_CHARS).collect();
    let failure = |rule: &Arc<Rule>| NewRuleFailure {
        rule_id: rule.id().to_string(),
        rule_version: rule.version(),
        reason: reason.clone(),
        count: 1,
        height,
        record: r#"{"kind":"balance"}"#.to_owned(),
    };
    readers.iter().filter(misses).map(failure).collect()
}
