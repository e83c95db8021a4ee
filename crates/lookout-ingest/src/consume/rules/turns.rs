//! Whose balances are read next: those that rules watch, tenants by turns.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use lookout_rules::{RuleSource, WatchDocument};
use lookout_store::{RuleVersion, Store, StoreError, VersionsAfter};
use lookout_types::{Address, Asset, ChainId};

use super::state::{compile, rule_id};

/// A balance: whose, and of what.
pub(super) type Account = (Address, Asset);

/// The versions of rules that watch balances of a chain, and where the next round begins.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The change of rules seen last.
    after: VersionsAfter,
    revision: i64,
    versions: BTreeMap<(String, u32), Watching>,
    /// Where each tenant's next turn begins. Kept in memory: after a restart all begin anew.
    next: BTreeMap<String, Account>,
}

/// One version.
#[derive(Debug)]
struct Watching {
    tenant: String,
    reads: Vec<Account>,
}

impl Turns {
    /// Reads the versions that changed since the last time.
    pub(super) async fn refresh(
        &mut self,
        store: &Store,
        chain: ChainId,
    ) -> Result<(), StoreError> {
        let revision = store.rules_revision().await?;
        if revision == self.revision {
            return Ok(());
        }
        loop {
            let page = store.rule_versions(chain, &self.after, None).await?;
            let Some(last) = page.last() else { break };
            self.after = last.place();
            for version in &page {
                self.take(version);
                // Compiling takes microseconds; many take a while.
                tokio::task::yield_now().await;
            }
        }
        self.revision = revision;
        Ok(())
    }

    fn take(&mut self, version: &RuleVersion) {
        let key = (version.rule_id.clone(), version.version);
        let ends = version.retired || version.until_height.is_some();
        match reads(version).filter(|reads| !ends && !reads.is_empty()) {
            Some(reads) => {
                let tenant = version.tenant.clone();
                self.versions.insert(key, Watching { tenant, reads });
            }
            None => {
                self.versions.remove(&key);
            }
        }
    }

    /// The versions, each with its rule and what it watches.
    pub(super) fn versions(&self) -> impl Iterator<Item = (&str, u32, &[Account])> {
        self.versions.iter().map(|((rule, version), of)| (rule.as_str(), *version, &of.reads[..]))
    }

    /// Every account once, in the order in which they are to be read: one of each tenant, and again,
    /// so that no tenant waits for another that watches more.
    pub(super) fn accounts(&self) -> Vec<Account> {
        let queues = self.queues();
        let longest = queues.values().map(Vec::len).max().unwrap_or(0);
        let (mut accounts, mut seen) = (Vec::new(), HashSet::new());
        for at in 0..longest {
            let turn = queues.values().filter_map(|queue| queue.get(at));
            accounts.extend(turn.filter(|account| seen.insert(**account)));
        }
        accounts
    }

    /// The accounts of each tenant, from where its turn begins and around.
    fn queues(&self) -> BTreeMap<&str, Vec<Account>> {
        let mut watched: BTreeMap<&str, BTreeSet<Account>> = BTreeMap::new();
        for version in self.versions.values() {
            watched.entry(&version.tenant).or_default().extend(version.reads.iter().copied());
        }
        let turn = |(tenant, mut accounts): (_, BTreeSet<Account>)| {
            let mut queue = match self.next.get(tenant) {
                Some(next) => accounts.split_off(next),
                None => BTreeSet::new(),
            }
            .into_iter()
            .collect::<Vec<_>>();
            queue.extend(accounts);
            (tenant, queue)
        };
        watched.into_iter().map(turn).collect()
    }

    /// A round has come to these accounts: the next begins with the first that it left out.
    pub(super) fn go_on(&mut self, tried: &HashSet<Account>) {
        let next = self.queues().into_iter().filter_map(|(tenant, queue)| {
            let left = queue.into_iter().find(|account| !tried.contains(account))?;
            Some((tenant.to_owned(), left))
        });
        self.next = next.collect();
    }
}

/// What a version has read; `None` when it watches no balances. One that does not compile reads
/// nothing: the consumer counts that as a failure of the rule.
fn reads(stored: &RuleVersion) -> Option<Vec<Account>> {
    let id = rule_id(&stored.rule_id)?;
    let source: RuleSource = serde_json::from_str(&stored.source).ok()?;
    // Looked at first: compiling the other kinds would cost far more than all else here.
    if !matches!(source.document.watch, WatchDocument::Balance { .. }) {
        return None;
    }
    compile(stored, id).ok().map(|rule| rule.reads())
}
