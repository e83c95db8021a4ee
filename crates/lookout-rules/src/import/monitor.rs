//! Monitors as rules: one for each event, function or kind of transaction that they match.

use std::collections::BTreeMap;

use lookout_types::Address;
use serde_json::{Map, Value};

use super::expression::{Names, translate};
use super::message::{Subject, Text, template};
use super::network::Network;
use super::spelled::{Argument, Entry, find};
use super::{Effect, ImportedRule, Notes, items, text};
use crate::document::{RuleDocument, RuleSource, WatchDocument};
use crate::rule::{MAX_NAME_BYTES, RuleId};

/// What monitors refer to.
pub(super) struct Known<'a> {
    pub(super) networks: &'a BTreeMap<String, Network>,
    pub(super) messages: &'a BTreeMap<String, Text>,
}

/// One part of a monitor, before it is made a rule of each network.
struct Part {
    /// What tells it from the others of its monitor.
    title: String,
    watch: WatchDocument,
    condition: String,
    entry: Option<Entry>,
    group: &'static str,
}

pub(super) fn read(
    monitor: &Map<String, Value>,
    known: &Known<'_>,
    notes: &mut Notes<'_>,
) -> Vec<ImportedRule> {
    notes.unread(
        monitor,
        &[
            "name",
            "paused",
            "networks",
            "addresses",
            "match_conditions",
            "trigger_conditions",
            "triggers",
        ],
    );
    if !items(monitor, "trigger_conditions").is_empty() {
        notes.add(
            Effect::Changed,
            "`trigger_conditions` run scripts, which has no equivalent: what they held back is alerted",
        );
    }
    let mut channels = Vec::new();
    for trigger in notes.texts(monitor, "triggers").unwrap_or_default() {
        if known.messages.contains_key(trigger) {
            channels.push(trigger.to_owned());
        } else {
            notes.add(Effect::Dropped, format!("the trigger `{trigger}` did not become a channel"));
        }
    }
    let mut texts = channels.iter().filter_map(|slug| known.messages.get(slug));
    let message = texts.next().cloned().unwrap_or_default();
    if texts.any(|other| *other != message) {
        notes.add(
            Effect::Changed,
            "its triggers have different messages; a rule has one, that of the first",
        );
    }
    let parts = parts(monitor, notes).unwrap_or_default();
    if parts.len() > 1 {
        notes.add(
            Effect::Changed,
            format!(
                "it becomes {} rules, and a transaction that several match alerts several times",
                parts.len()
            ),
        );
    }
    let mut rules = Vec::new();
    let networks = notes.texts(monitor, "networks").unwrap_or_default();
    if networks.is_empty() {
        notes.add(Effect::Dropped, "the monitor names no network");
    }
    for slug in &networks {
        let slug = *slug;
        let Some(network) = known.networks.get(slug) else {
            notes.add(Effect::Dropped, format!("the network `{slug}` is not among those imported"));
            continue;
        };
        for part in &parts {
            let suffix = (networks.len() > 1).then_some(network.name.as_str());
            let title = (parts.len() > 1).then_some(part.title.as_str());
            let name = name(text(monitor, "name"), title, suffix);
            let paused = monitor.get("paused").and_then(Value::as_bool).unwrap_or_default();
            let draft = Draft { name, channels: &channels, message: &message, network };
            rules.extend(draft.rule(part, paused, notes));
        }
    }
    rules
}

fn name(monitor: &str, title: Option<&str>, network: Option<&str>) -> String {
    let mut name = monitor.to_owned();
    for more in [title, network].into_iter().flatten() {
        name.push_str(": ");
        name.push_str(more);
    }
    let plain: String = name.chars().filter(|c| !c.is_control()).collect();
    let mut end = plain.len().min(MAX_NAME_BYTES);
    while !plain.is_char_boundary(end) {
        end -= 1;
    }
    plain.get(..end).unwrap_or_default().to_owned()
}

struct Draft<'a> {
    name: String,
    channels: &'a [String],
    message: &'a Text,
    network: &'a Network,
}

impl Draft<'_> {
    /// The rule, once it compiles.
    fn rule(self, part: &Part, paused: bool, notes: &mut Notes<'_>) -> Option<ImportedRule> {
        let arguments: &[Argument] = part.entry.as_ref().map_or(&[], |entry| &entry.arguments);
        let subject = Subject {
            group: part.group,
            signature: part.entry.as_ref().map_or("", |entry| &entry.signature),
            arguments,
            network: &self.network.name,
        };
        let mut document = RuleDocument {
            name: self.name,
            chain: self.network.chain_name.clone(),
            watch: part.watch.clone(),
            condition: part.condition.clone(),
            window: None,
            confirmations: self.network.confirmations,
            template: template(self.message, subject, notes),
            channels: self.channels.to_vec(),
        };
        let chain = self.network.chain;
        let compiled = |document: &RuleDocument| {
            let document = document.clone();
            let source = RuleSource { chain, document, abi: None, labels: BTreeMap::new() };
            source.compile(RuleId(0), 1).map(drop)
        };
        let mut told = compiled(&document);
        if told.is_err() && document.template.is_some() {
            let template = document.template.take();
            let without = compiled(&document);
            if let (Ok(()), Err(error)) = (&without, &told) {
                let reason =
                    format!("{error}; a message that lists everything stands in its place");
                notes.add(Effect::Changed, reason);
            } else {
                document.template = template;
            }
            told = without;
        }
        match told {
            Ok(()) => {
                let file = notes.file.to_owned();
                Some(ImportedRule { file, document, chain, paused })
            }
            Err(error) => {
                notes.add(Effect::Dropped, format!("`{}`: {error}", part.title));
                None
            }
        }
    }
}

/// The parts of a monitor; `None` when it cannot be read, because a condition that is left out would
/// make the rest match more than was meant.
fn parts(monitor: &Map<String, Value>, notes: &mut Notes<'_>) -> Option<Vec<Part>> {
    let Some(conditions) = monitor.get("match_conditions").and_then(Value::as_object) else {
        notes.add(Effect::Dropped, "the monitor has no `match_conditions`");
        return None;
    };
    notes.unread(conditions, &["events", "functions", "transactions"]);
    let contracts = contracts(monitor, notes)?;
    let transactions = transactions(&notes.objects(conditions, "transactions")?, notes);
    let mut parts = Vec::new();
    let mut none = true;
    for (kind, group) in [("event", "events"), ("function", "functions")] {
        for condition in notes.objects(conditions, group)? {
            none = false;
            notes.unread(condition, &["signature", "expression"]);
            parts.extend(logs_or_calls(kind, group, condition, &contracts, &transactions, notes));
        }
    }
    let Ok(transactions) = transactions else { return Some(parts) };
    if none {
        if !contracts.is_empty() {
            notes.add(
                Effect::Changed,
                "transactions from or to its addresses match; those that only emit a log there do not",
            );
        }
        let list: Vec<_> = contracts.iter().map(|c| format!("\"{:x}\"", c.address)).collect();
        let list = list.join(", ");
        let touched =
            (!contracts.is_empty()).then(|| format!("(tx.from in [{list}] || tx.to in [{list}])"));
        parts.push(Part {
            title: "transactions".to_owned(),
            watch: WatchDocument::Transaction { addresses: Vec::new(), abi: None, function: None },
            condition: all([touched, transactions]),
            entry: None,
            group: "",
        });
    }
    Some(parts)
}

struct Contract<'a> {
    address: Address,
    abi: &'a [Value],
}

/// `None` when there are addresses and none can be read: no address would mean any.
fn contracts<'a>(
    monitor: &'a Map<String, Value>,
    notes: &mut Notes<'_>,
) -> Option<Vec<Contract<'a>>> {
    let mut contracts = Vec::new();
    let objects = notes.objects(monitor, "addresses")?;
    for object in &objects {
        notes.unread(object, &["address", "contract_spec"]);
        let shown = text(object, "address");
        // Capitals mean nothing there; here mixed ones claim a checksum.
        match shown.to_ascii_lowercase().parse() {
            Ok(address) => {
                contracts.push(Contract { address, abi: items(object, "contract_spec") })
            }
            Err(error) => notes.add(Effect::Dropped, format!("address `{shown}`: {error}")),
        }
    }
    (contracts.is_empty() == objects.is_empty()).then_some(contracts)
}

/// The conditions on transactions as one; `None` for all transactions, an error when one of them
/// could not be translated.
fn transactions(
    conditions: &[&Map<String, Value>],
    notes: &mut Notes<'_>,
) -> Result<Option<String>, ()> {
    let mut any = Vec::new();
    for condition in conditions {
        notes.unread(condition, &["status", "expression"]);
        let status = match notes.text(condition, "status").ok_or(())? {
            "" | "Any" => None,
            "Success" => Some("tx.status".to_owned()),
            "Failure" => Some("!tx.status".to_owned()),
            other => {
                notes.add(Effect::Dropped, format!("the status `{other}` has no equivalent"));
                return Err(());
            }
        };
        let expression = notes.text(condition, "expression").ok_or(())?;
        let expression = match expression.trim() {
            "" => None,
            source => match translate(source, Names::Transaction) {
                Ok(expression) => Some(format!("({expression})")),
                Err(reason) => {
                    notes.add(Effect::Dropped, format!("`{source}`: {reason}"));
                    return Err(());
                }
            },
        };
        any.push(all([status, expression]));
    }
    // One without any condition lets every transaction through.
    if any.is_empty() || any.iter().any(String::is_empty) {
        return Ok(None);
    }
    let alone = any.len() == 1;
    let joined = any.join(") || (");
    Ok(Some(if alone { joined } else { format!("(({joined}))") }))
}

fn all(conditions: [Option<String>; 2]) -> String {
    conditions.into_iter().flatten().collect::<Vec<_>>().join(" && ")
}

/// The rules of one event or function: one for each way in which its contracts declare it.
fn logs_or_calls(
    kind: &str,
    group: &'static str,
    condition: &Map<String, Value>,
    contracts: &[Contract<'_>],
    transactions: &Result<Option<String>, ()>,
    notes: &mut Notes<'_>,
) -> Vec<Part> {
    let signature = text(condition, "signature");
    let Some(expression) = notes.text(condition, "expression") else { return Vec::new() };
    let Ok(transactions) = transactions else {
        notes.add(Effect::Dropped, format!("`{signature}`: its conditions on transactions were"));
        return Vec::new();
    };
    let mut declared: Vec<(Entry, Vec<Address>)> = Vec::new();
    for contract in contracts {
        let Some(entry) = find(contract.abi, kind, signature) else { continue };
        match declared.iter_mut().find(|(known, _)| *known == entry) {
            Some((_, addresses)) => addresses.push(contract.address),
            None => declared.push((entry, vec![contract.address])),
        }
    }
    if declared.is_empty() {
        let reason = format!("no `contract_spec` of the monitor has the {kind} `{signature}`");
        notes.add(Effect::Dropped, reason);
    }
    let mut parts = Vec::new();
    for (entry, addresses) in declared {
        let source = expression.trim();
        let own = match source {
            "" => None,
            source => match translate(source, Names::Arguments(&entry.arguments)) {
                Ok(expression) => Some(expression),
                Err(reason) => {
                    notes.add(Effect::Dropped, format!("`{signature}`, `{source}`: {reason}"));
                    continue;
                }
            },
        };
        let own = match (own, transactions) {
            (Some(own), Some(_)) => Some(format!("({own})")),
            (own, _) => own,
        };
        let human = entry.human.clone();
        let watch = if kind == "event" {
            WatchDocument::Event { abi: None, event: human, addresses }
        } else {
            WatchDocument::Transaction { addresses, abi: None, function: Some(human) }
        };
        let title = entry.signature.clone();
        let condition = all([own, transactions.clone()]);
        parts.push(Part { title, watch, condition, entry: Some(entry), group });
    }
    if !parts.is_empty() && kind == "event" {
        notes.add(Effect::Changed, "an event rule alerts once per log, not once per transaction");
    }
    parts
}
