//! Rounds of reading the balances that rules watch, since frames have none: what a job does.
//!
//! A round reads at one block, named by its hash: the newest on which the rules stand. What it
//! reads it leaves in the store for them. Each account is a matter of its own: one that cannot be
//! read is a failure of the rules that watch it, and of no others.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use lookout_rules::RecordKey;
use lookout_store::{NewRuleFailure, ReadBalance, Store, StoreError};
use lookout_types::{Address, Amount, Asset, BlockRef, ChainId, Height};
use metrics::{Counter, counter};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};

use super::record;
use super::turns::{Account, Turns};

/// Balances asked for side by side: enough to hide a round trip, few enough for a public endpoint.
const AT_ONCE: usize = 8;
/// How far the rules may be behind the head: upstreams that are no archives keep the state of 128
/// blocks, and the chain goes on while a round reads.
const BEHIND_MAX: Height = 64;
/// Characters of a reason that is stored.
const REASON_CHARS: usize = 300;

/// Reads balances of one chain.
#[async_trait]
pub trait BalanceReader: Send + Sync + fmt::Debug {
    /// The height of the chain's head; `None` until an upstream has told.
    fn head(&self) -> Option<Height>;

    /// The balance of an account as it was after a block, which is named by its hash.
    async fn read(
        &self,
        block: BlockRef,
        account: Address,
        asset: Asset,
    ) -> Result<Amount, ReadError>;
}

/// Why a balance could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct ReadError {
    /// Whether it lies with the account or its token: others can be read all the same.
    pub own: bool,
    /// What the rule's owner is told. Equal ones are counted together, so it holds nothing that
    /// differs from block to block, nor anything that a contract wrote.
    pub reason: String,
    /// What exactly happened, for the operator.
    pub detail: String,
}

/// How much a round may do.
#[derive(Debug, Clone, Copy)]
pub struct RoundLimits {
    /// Most balances of a round; the next one begins with what was left out.
    pub reads: usize,
    /// Longest time for one balance: a slow token does not hold up the others for longer.
    pub read_within: Duration,
    /// Longest time for all.
    pub round_within: Duration,
}

impl Default for RoundLimits {
    fn default() -> Self {
        // Eight at once, 120 ms are left for each: what a public endpoint manages.
        let (read_within, round_within) = (Duration::from_secs(5), Duration::from_secs(30));
        Self { reads: 2_000, read_within, round_within }
    }
}

/// Reads the balances that the rules of one chain watch, round by round.
#[derive(Debug)]
pub struct Rounds {
    store: Store,
    chain: ChainId,
    reader: Arc<dyn BalanceReader>,
    limits: RoundLimits,
    /// Locked for a round: rounds go one at a time.
    turns: Mutex<Turns>,
    read: Counter,
    failed: Counter,
}

/// What came of a round.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Round {
    /// Where balances were read; `None` where none were to be.
    pub block: Option<BlockRef>,
    /// How many balances rules watch.
    pub watched: usize,
    /// How many were read.
    pub read: usize,
    /// What could not be read.
    pub failed: Vec<Unread>,
    /// How many the next round begins with, since this one was over.
    pub left: usize,
    /// Why nothing was read.
    pub note: Option<String>,
}

/// Balances of one asset that could not be read for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Whether it lies with the accounts or the asset.
    pub own: bool,
    /// The asset, as in a rule's `asset`.
    pub asset: String,
    /// What the rules' owners are told.
    pub reason: String,
    /// What exactly happened, the first time.
    pub detail: String,
    /// How many balances.
    pub balances: usize,
}

type Answers = BTreeMap<Account, Result<Amount, ReadError>>;

impl Rounds {
    /// Of the rules of a chain in a store. `name` is the chain's, for metrics.
    pub fn new(store: Store, chain: ChainId, name: &str, reader: Arc<dyn BalanceReader>) -> Self {
        let balances = |result: &'static str| counter!("lookout_rules_balances_total", "chain" => name.to_owned(), "result" => result);
        let (read, failed) = (balances("read"), balances("failed"));
        let (limits, turns) = (RoundLimits::default(), Mutex::default());
        Self { store, chain, reader, limits, turns, read, failed }
    }

    /// Keeps to other limits.
    #[must_use]
    pub fn with_limits(self, limits: RoundLimits) -> Self {
        Self { limits, ..self }
    }

    /// Reads once what is watched, or as much as there is time for.
    ///
    /// # Errors
    /// [`StoreError`]. Balances that cannot be read are none, but part of the round.
    pub async fn run(&self) -> Result<Round, StoreError> {
        let mut turns = self.turns.lock().await;
        turns.refresh(&self.store, self.chain).await?;
        let mut accounts = turns.accounts();
        let watched = accounts.len();
        let idle = |note: &str| {
            let note = Some(note.to_owned());
            Ok(Round { watched, note, ..Round::default() })
        };
        if watched == 0 {
            return idle("no rule watches a balance");
        }
        let Some(at) = self.store.readings_block(self.chain).await? else {
            return idle("the rules have seen no block yet, or are being rebuilt");
        };
        let block = at.block;
        if self.reader.head().is_some_and(|head| head > block.number.saturating_add(BEHIND_MAX)) {
            return idle("the rules are too far behind the chain's head for its state to be there");
        }
        // Nobody asks the rules for now; what is read piles up for nothing.
        if self.store.fresh_readings(self.chain).await?.is_some() {
            return idle("the rules have still to be asked about what was read last");
        }
        accounts.truncate(self.limits.reads);
        let answers = self.read_all(block, accounts).await;
        let balances: Vec<ReadBalance> = answers.iter().filter_map(balance).collect();
        let failures = failures(&turns, &answers, block.number);
        if !self.store.put_readings(self.chain, block, &balances, &failures).await? {
            return idle("the block at which was read is not on the followed chain any more");
        }
        let (read, failed) = (balances.len(), answers.len() - balances.len());
        self.read.increment(u64::try_from(read).unwrap_or(u64::MAX));
        self.failed.increment(u64::try_from(failed).unwrap_or(u64::MAX));
        turns.go_on(&answers.keys().copied().collect());
        let left = watched - answers.len();
        let (block, failed) = (Some(block), unread(&answers));
        Ok(Round { block, watched, read, failed, left, note: None })
    }

    /// Reads accounts until they are through or time is up; the answers that came.
    async fn read_all(&self, block: BlockRef, accounts: Vec<Account>) -> Answers {
        let within = self.limits.read_within;
        let reads = accounts.into_iter().map(|(account, asset)| {
            let reader = Arc::clone(&self.reader);
            async move {
                let read = timeout(within, reader.read(block, account, asset)).await;
                let read = read.unwrap_or_else(|_| {
                    let (reason, detail) = ("no answer in time".to_owned(), format!("{within:?}"));
                    Err(ReadError { own: false, reason, detail })
                });
                ((account, asset), read)
            }
        });
        let mut reads = pin!(stream::iter(reads).buffer_unordered(AT_ONCE));
        let until = Instant::now() + self.limits.round_within;
        let mut answers = Answers::new();
        while let Ok(Some((account, read))) = timeout_at(until, reads.next()).await {
            answers.insert(account, read);
        }
        answers
    }
}

fn balance(answer: (&Account, &Result<Amount, ReadError>)) -> Option<ReadBalance> {
    let ((account, asset), Ok(balance)) = answer else { return None };
    Some(ReadBalance {
        account: account.to_string(),
        asset: record::asset_text(asset),
        balance: balance.to_string(),
    })
}

/// What each rule is told of the accounts that it watches and that could not be read.
fn failures(turns: &Turns, answers: &Answers, height: Height) -> Vec<NewRuleFailure> {
    let unread: HashSet<&Account> =
        answers.iter().filter(|(_, read)| read.is_err()).map(|(account, _)| account).collect();
    let mut failures = Vec::new();
    if unread.is_empty() {
        return failures;
    }
    for (rule_id, rule_version, reads) in turns.versions() {
        let mut by_reason: BTreeMap<&str, (u64, Account)> = BTreeMap::new();
        for account in reads.iter().filter(|account| unread.contains(account)) {
            let Some(Err(error)) = answers.get(account) else { continue };
            by_reason.entry(&error.reason).or_insert((0, *account)).0 += 1;
        }
        for (reason, (count, (account, asset))) in by_reason {
            let reason = format!("a balance could not be read: {reason}");
            failures.push(NewRuleFailure {
                rule_id: rule_id.to_owned(),
                rule_version,
                reason: reason.chars().take(REASON_CHARS).collect(),
                count,
                height,
                record: record::json(&RecordKey::Balance { account, asset }),
            });
        }
    }
    failures
}

/// What could not be read, together by asset and reason.
fn unread(answers: &Answers) -> Vec<Unread> {
    let mut unread: BTreeMap<(String, &str), Unread> = BTreeMap::new();
    for ((_, asset), read) in answers {
        let Err(error) = read else { continue };
        let asset = record::asset_text(asset);
        let one = unread.entry((asset.clone(), &error.reason)).or_insert_with(|| {
            let ReadError { own, reason, detail } = error.clone();
            Unread { own, asset, reason, detail, balances: 0 }
        });
        one.balances += 1;
    }
    unread.into_values().collect()
}
