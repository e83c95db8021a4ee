//! Evaluates a frame: which rules match which of its records.

mod undecodable;

use std::collections::BTreeMap;
use std::sync::Arc;

use lookout_abi::{DecodeError, Value};
use lookout_types::{
    Address, Amount, Asset, BlockRef, ChainId, Frame, Hash, Log, Transaction, Transfer,
};
use ruint::aliases::U256;

pub use self::undecodable::Undecodable;

use self::undecodable::Broken;
use crate::access::MAX_JOINED;
use crate::error::EvalError;
use crate::eval;
use crate::expr::{Datum, Key, bytes_key};
use crate::index::{FieldSet, Group, GroupKey, LayoutGroup, RecordKind, RuleSet};
use crate::rule::{CompiledWindow, Layout, Rule, RuleId};
use crate::view::{Subject, View, token};

/// Which record of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordKey {
    /// A log.
    Log {
        /// Its transaction.
        transaction: Hash,
        /// Its position in the block.
        log_index: u32,
    },
    /// A transaction.
    Transaction {
        /// Its hash.
        hash: Hash,
    },
    /// A transfer.
    Transfer {
        /// Its transaction.
        transaction: Hash,
        /// Its log; `None` for a native transfer.
        log_index: Option<u32>,
        /// Its position in an ERC-1155 batch.
        batch_index: u32,
    },
    /// A balance.
    Balance {
        /// Whose.
        account: Address,
        /// Of what.
        asset: Asset,
    },
    /// No record: the block at which a silence became too long.
    Block,
}

/// A balance read at a block, with the one read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BalanceReading {
    /// Whose.
    pub account: Address,
    /// Of what.
    pub asset: Asset,
    /// The balance now.
    pub balance: Amount,
    /// The balance at the reading before; equal at the first.
    pub previous: Amount,
}

/// A rule that matched a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// The rule.
    pub rule: RuleId,
    /// Its version.
    pub version: u32,
    /// The chain.
    pub chain: ChainId,
    /// The block.
    pub block: BlockRef,
    /// The record.
    pub record: RecordKey,
    /// The values for the rule's template, in its order.
    pub values: Vec<Value>,
}

/// A record that counts towards a rule's window.
#[derive(Debug, Clone)]
pub struct Contribution {
    pub(crate) rule: Arc<Rule>,
    pub(crate) amount: U256,
    pub(crate) record: RecordKey,
    pub(crate) values: Vec<Value>,
}

/// Why records got no answer; equal ones are counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The rule and its version; `None` when the record failed for all rules on it.
    pub rule: Option<(RuleId, u32)>,
    /// What went wrong.
    pub error: EvalError,
    /// Why the record does not decode, if that is it.
    pub decode: Option<DecodeError>,
    /// The first record.
    pub first: RecordKey,
    /// How many records.
    pub count: u64,
}

/// What came of a frame.
#[derive(Debug, Clone, Default)]
pub struct Evaluation {
    /// Matches of rules without a window: by record in the frame's order, then by rule.
    pub matches: Vec<Match>,
    /// What [`crate::WindowState::apply`] takes.
    pub contributions: Vec<Contribution>,
    /// Counted errors, by rule.
    pub failures: Vec<Failure>,
    /// The failures to decode again, each for every rule that it concerns; by rule.
    pub undecodable: Vec<Undecodable>,
    /// How many rules were looked at, over all records: what the index could not exclude.
    pub candidates: u64,
}

/// Evaluates all rules of a frame's chain on its records.
///
/// Pure: rules and frame alone decide. A frame that undoes a block gives what its apply gave.
pub fn evaluate(rules: &RuleSet, frame: &Frame, transfers: &[Transfer]) -> Evaluation {
    let mut run = Run::new(rules, frame);
    for log in &frame.logs {
        run.log(log);
    }
    for transaction in &frame.transactions {
        run.transaction(transaction);
    }
    for transfer in transfers {
        run.transfer(transfer);
    }
    run.finish()
}

/// Evaluates the balance rules on readings taken at a frame's block.
pub fn evaluate_balances(
    rules: &RuleSet,
    frame: &Frame,
    readings: &[BalanceReading],
) -> Evaluation {
    let mut run = Run::new(rules, frame);
    for reading in readings {
        let record = RecordKey::Balance { account: reading.account, asset: reading.asset };
        run.record(
            record,
            Subject::Balance(reading),
            [(RecordKind::Balance, Some(reading.account), None), (RecordKind::Balance, None, None)],
        );
    }
    run.finish()
}

type Probe = (RecordKind, Option<Address>, Option<Key>);
type FailureKey = (Option<(RuleId, u32)>, EvalError);

struct Run<'a> {
    rules: &'a RuleSet,
    frame: &'a Frame,
    evaluation: Evaluation,
    failures: BTreeMap<FailureKey, Failure>,
    broken: Broken<'a>,
}

/// A record while its groups are evaluated.
struct Current<'a> {
    record: RecordKey,
    view: View<'a>,
}

impl<'a> Run<'a> {
    fn new(rules: &'a RuleSet, frame: &'a Frame) -> Self {
        let (evaluation, failures) = (Evaluation::default(), BTreeMap::new());
        Self { rules, frame, evaluation, failures, broken: Broken::default() }
    }

    fn finish(mut self) -> Evaluation {
        self.evaluation.undecodable = self.broken.of_rules(self.rules);
        self.evaluation.failures = self.failures.into_values().collect();
        self.evaluation
    }

    fn log(&mut self, log: &'a Log) {
        let record = RecordKey::Log { transaction: log.transaction_hash, log_index: log.log_index };
        let topic0 = log.topics.first().map(|topic| topic.0);
        let address = Some(log.address);
        // A log without topics has no signature to probe by, but the anonymous group is the same.
        let named = topic0.map(|topic0| {
            [(RecordKind::Log, address, Some(topic0)), (RecordKind::Log, None, Some(topic0))]
        });
        let anonymous = (RecordKind::Log, address, None);
        let probes = named.into_iter().flatten().chain([anonymous]);
        self.record(record, Subject::Log(log), probes);
    }

    fn transaction(&mut self, transaction: &'a Transaction) {
        let record = RecordKey::Transaction { hash: transaction.hash };
        let selector = transaction.input.get(..4).and_then(bytes_key);
        let kind = RecordKind::Transaction;
        let to = transaction.to;
        let probes = [
            Some((kind, None, None)),
            selector.map(|_| (kind, None, selector)),
            to.map(|_| (kind, to, None)),
            to.and(selector).map(|_| (kind, to, selector)),
        ];
        let probes = probes.into_iter().flatten();
        self.record(record, Subject::Transaction(transaction), probes);
    }

    fn transfer(&mut self, transfer: &'a Transfer) {
        let record = RecordKey::Transfer {
            transaction: transfer.transaction_hash,
            log_index: transfer.log_index,
            batch_index: transfer.batch_index,
        };
        let narrow = match token(&transfer.asset) {
            Some(token) => (RecordKind::Transfer, Some(token), None),
            None => (RecordKind::NativeTransfer, None, None),
        };
        let any = (RecordKind::Transfer, None, None);
        self.record(record, Subject::Transfer(transfer), [narrow, any]);
    }

    fn record(
        &mut self,
        record: RecordKey,
        subject: Subject<'a>,
        probes: impl IntoIterator<Item = Probe>,
    ) {
        let chain = self.frame.chain;
        let rules = self.rules;
        let first_match = self.evaluation.matches.len();
        let first_contribution = self.evaluation.contributions.len();
        for (kind, address, selector) in probes {
            let key = GroupKey { chain, kind, address, selector };
            if let Some(group) = rules.group(&key) {
                self.group(&key, group, record, subject);
            }
        }
        // A rule that several alternatives led to has matched once. Groups come in any order.
        let Evaluation { matches, contributions, .. } = &mut self.evaluation;
        if matches.len() > first_match + 1 {
            let mut own = matches.split_off(first_match);
            own.sort_by_key(|found| found.rule);
            own.dedup_by_key(|found| found.rule);
            matches.append(&mut own);
        }
        if contributions.len() > first_contribution + 1 {
            let mut own = contributions.split_off(first_contribution);
            own.sort_by_key(|found| found.rule.id());
            own.dedup_by_key(|found| found.rule.id());
            contributions.append(&mut own);
        }
    }

    fn group(&mut self, key: &GroupKey, group: &'a Group, record: RecordKey, subject: Subject<'a>) {
        for layout in &group.layouts {
            match decode(layout, key, subject) {
                Ok(Decoded::Fits) => {
                    let view = View::new(self.frame, subject);
                    self.layout(layout, Current { record, view });
                }
                Ok(Decoded::Values(values)) => {
                    let mut view = View::new(self.frame, subject);
                    view.values = Some(&values);
                    self.layout(layout, Current { record, view });
                }
                Ok(Decoded::OtherRecord) => {}
                Err(error) => {
                    self.fail(None, EvalError::Undecodable, record, Some(error.clone()));
                    self.broken.add(key, &layout.layout, record, error);
                }
            }
        }
    }

    fn layout<'v>(&mut self, layout: &'a LayoutGroup, mut current: Current<'v>)
    where
        'a: 'v,
    {
        for set in &layout.sets {
            match keys(set, &current.view) {
                Ok(Some(keys)) => self.node(set, keys, &mut current),
                Ok(None) => {}
                Err(error) => self.fail(None, error, current.record, None),
            }
        }
    }

    fn node<'v>(&mut self, set: &FieldSet, keys: [Key; MAX_JOINED], current: &mut Current<'v>)
    where
        'a: 'v,
    {
        let rules = self.rules;
        let Some(node) = rules.node(set, keys) else { return };
        for rule in &node.always {
            self.candidate(rule, current);
        }
        for bound in &node.bounds {
            match current.view.key(&bound.field) {
                Ok(Some(key)) => {
                    for rule in bound.kept_by(&key) {
                        self.candidate(rule, current);
                    }
                }
                Ok(None) => {}
                Err(error) => self.fail(None, error, current.record, None),
            }
        }
    }

    fn candidate<'v>(&mut self, rule: &'a Arc<Rule>, current: &mut Current<'v>)
    where
        'a: 'v,
    {
        self.evaluation.candidates += 1;
        let answer = match &rule.residual {
            None => Ok(true),
            Some(residual) => eval::holds(residual, &current.view),
        };
        match answer {
            Ok(false) => {}
            Ok(true) => self.matched(rule, current),
            Err(error) => self.fail(Some(rule), error, current.record, None),
        }
    }

    fn matched<'v>(&mut self, rule: &'a Arc<Rule>, current: &mut Current<'v>)
    where
        'a: 'v,
    {
        let record = current.record;
        current.view.rule_name = rule.name();
        let Some(window) = &rule.window else {
            self.evaluation.matches.push(Match {
                rule: rule.id(),
                version: rule.version(),
                chain: self.frame.chain,
                block: self.frame.block,
                record,
                values: rule.template.capture(&current.view),
            });
            return;
        };
        let amount = match window {
            CompiledWindow::Tally { of: Some(of), .. } => match eval::value(of, &current.view) {
                Ok(Datum::Uint(amount)) => Ok(amount),
                Ok(Datum::Absent(name)) => Err(EvalError::Absent(name)),
                Ok(_) => Err(EvalError::Overflow),
                Err(error) => Err(error),
            },
            _ => Ok(U256::ZERO),
        };
        match amount {
            Ok(amount) => {
                let values = rule.template.capture(&current.view);
                let rule = rule.clone();
                self.evaluation.contributions.push(Contribution { rule, amount, record, values });
            }
            Err(error) => self.fail(Some(rule), error, record, None),
        }
    }

    fn fail(
        &mut self,
        rule: Option<&Rule>,
        error: EvalError,
        first: RecordKey,
        decode: Option<DecodeError>,
    ) {
        let rule = rule.map(|rule| (rule.id(), rule.version()));
        let failure = self.failures.entry((rule, error)).or_insert_with(|| Failure {
            rule,
            error,
            decode,
            first,
            count: 0,
        });
        failure.count += 1;
    }
}

enum Decoded {
    /// All arguments are words, read where they lie.
    Fits,
    Values(Vec<Value>),
    /// Not a record of this layout, which is no fault of it.
    OtherRecord,
}

fn decode(
    layout: &LayoutGroup,
    key: &GroupKey,
    subject: Subject<'_>,
) -> Result<Decoded, DecodeError> {
    match (&layout.layout, subject) {
        (Layout::Event(event), Subject::Log(log)) => {
            // ERC-20 and ERC-721 share the signature of `Transfer` and differ in what is indexed:
            // to a rule on any contract, the other's logs are other events.
            let other = !event.fits(log) && (key.address.is_none() || event.anonymous);
            let decoded = if other {
                return Ok(Decoded::OtherRecord);
            } else if event.is_plain() {
                event.check(log).map(|()| Decoded::Fits)
            } else {
                event.decode(log).map(Decoded::Values)
            };
            // Nothing says that a log is an anonymous event but that it decodes as one.
            if event.anonymous { Ok(decoded.unwrap_or(Decoded::OtherRecord)) } else { decoded }
        }
        (Layout::Function(function), Subject::Transaction(tx)) => {
            let decoded = function.decode(&tx.input);
            // Four bytes are easily another function's: only named contracts are held to the ABI.
            match (decoded, key.address) {
                (Ok(values), _) => Ok(Decoded::Values(values)),
                (Err(_), None) => Ok(Decoded::OtherRecord),
                (Err(error), Some(_)) => Err(error),
            }
        }
        _ => Ok(Decoded::Fits),
    }
}

/// The keys of a set's fields; `None` when the record does not have one.
fn keys(set: &FieldSet, view: &View<'_>) -> Result<Option<[Key; MAX_JOINED]>, EvalError> {
    let mut keys = [[0; 32]; MAX_JOINED];
    for (slot, field) in keys.iter_mut().zip(set.fields.iter()) {
        match view.key(field)? {
            Some(key) => *slot = key,
            None => return Ok(None),
        }
    }
    Ok(Some(keys))
}

#[cfg(test)]
pub(crate) mod tests;
