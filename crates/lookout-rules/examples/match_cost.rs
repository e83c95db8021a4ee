//! What a block costs with more and more rules: `cargo run --release -p lookout-rules --example match_cost`.
//!
//! The same blocks of 200 transactions and 500 logs for every number of rules, and the same few
//! matches: 20 rules match, the others are of the same kinds but for other values.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lookout_abi::Abi;
use lookout_rules::{Labels, Rule, RuleId, RuleSet, RuleSpec, Watch, WatchedAsset, evaluate};
use lookout_types::{
    Address, Amount, Asset, BlockRef, ChainId, Frame, Hash, Log, Outcome, Step, Transaction,
    Transfer,
};

const BLOCKS: u64 = 20;
const ROUNDS: u32 = 30;
const TRANSACTIONS: u32 = 200;
const LOGS: u32 = 500;
/// Contracts that emit, and that rules watch.
const CONTRACTS: u64 = 1000;

const ABI: &str = r#"[
    "event Transfer(address indexed from, address indexed to, uint256 value)",
    "event Swap(address indexed sender, uint256 in0, uint256 in1, uint256 out0, uint256 out1, address indexed to)",
    "event Note(address indexed who, string text)",
    "function transfer(address to, uint256 value)"
]"#;

/// A repeatable sequence; the same for every number of rules.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn address(kind: u8, number: u64) -> Address {
    let mut address = Address([kind; 20]);
    address.0[12..].copy_from_slice(&number.to_be_bytes());
    address
}

fn word(number: u64) -> [u8; 32] {
    let mut word = [0; 32];
    word[24..].copy_from_slice(&number.to_be_bytes());
    word
}

fn address_word(address: Address) -> Hash {
    let mut word = [0; 32];
    word[12..].copy_from_slice(&address.0);
    Hash(word)
}

fn transaction(number: u64, index: u32, from: Address) -> Transaction {
    Transaction {
        hash: Hash(word(number << 16 | u64::from(index))),
        index,
        from,
        to: Some(address(0xcc, u64::from(index * 5) % CONTRACTS)),
        value: Amount::default(),
        nonce: 1,
        input: vec![0x12, 0x34, 0x56, 0x78].into(),
        outcome: Some(Outcome {
            success: true,
            gas_used: 50_000,
            gas_price: Amount::default(),
            created: None,
        }),
    }
}

fn block(number: u64, abi: &Abi) -> (Frame, Vec<Transfer>) {
    let mut dice = Dice(number);
    let mut user = || address(0x11, dice.roll(50_000));
    let transfer = abi.event("Transfer").expect("it is there").topic0;
    let swap = abi.event("Swap").expect("it is there").topic0;
    let note = abi.event("Note").expect("it is there").topic0;
    let mut logs = Vec::new();
    let mut transfers = Vec::new();
    for log_index in 0..LOGS {
        let (from, to) = (user(), user());
        let contract = address(0xcc, u64::from(log_index * 7) % CONTRACTS);
        let (topic0, data) = match log_index % 10 {
            0..=6 => (transfer, word(u64::from(log_index) * 1000).to_vec()),
            7 | 8 => (swap, [word(1), word(2), word(u64::from(log_index)), word(4)].concat()),
            _ => (
                note,
                [
                    word(32),
                    word(5),
                    *b"hello\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
                ]
                .concat(),
            ),
        };
        let topics = match log_index % 10 {
            9 => vec![topic0, address_word(from)],
            _ => vec![topic0, address_word(from), address_word(to)],
        };
        let transaction_index = log_index * TRANSACTIONS / LOGS;
        let transaction_hash = Hash(word(number << 16 | u64::from(transaction_index)));
        if topic0 == transfer {
            transfers.push(Transfer {
                asset: Asset::Erc20(contract),
                from,
                to,
                amount: "5000".parse().expect("a number"),
                transaction_hash,
                transaction_index,
                log_index: Some(log_index),
                batch_index: 0,
            });
        }
        let address = contract;
        let data = data.into();
        logs.push(Log { address, topics, data, transaction_hash, transaction_index, log_index });
    }
    let frame = Frame {
        chain: ChainId(1),
        sequence: number,
        step: Step::Apply,
        block: BlockRef { number, hash: Hash(word(number)) },
        parent: Hash(word(number - 1)),
        timestamp: 1_700_000_000 + 12 * number,
        transactions: (0..TRANSACTIONS).map(|index| transaction(number, index, user())).collect(),
        logs,
    };
    (frame, transfers)
}

/// The first 20 rules match now and then; the rest are as real ones, for values that never come.
fn rule(number: u64, abi: &Arc<Abi>, labels: &Labels) -> Rule {
    let rare = number >= 20;
    let contract = address(0xcc, number % CONTRACTS);
    let who = if rare { address(0x99, number) } else { address(0x11, number * 100) };
    let least = if rare { 10_000_000 + number } else { 400_000 + number };
    let event = |name: &str, addresses| Watch::Event {
        abi: abi.clone(),
        event: name.to_owned(),
        addresses,
    };
    let (watch, condition) = match number % 10 {
        0 => (event("Transfer", vec![contract]), format!("value > {least}")),
        1 => (event("Transfer", vec![]), format!("from == \"{who}\"")),
        2 => (event("Transfer", vec![]), format!("to == \"{who}\" || from == \"{who}\"")),
        3 => (event("Transfer", vec![contract]), format!("to == \"{who}\" && value >= {least}")),
        4 => (event("Transfer", vec![]), format!("value >= units(\"{least}\", 0) && from != to")),
        5 => (event("Swap", vec![contract]), format!("out0 > {least} && in0 < out1")),
        6 => {
            (event("Note", vec![contract]), format!("who == \"{who}\" && text.contains(\"hell\")"))
        }
        7 => (
            Watch::Transaction { addresses: vec![], function: None },
            format!("from == \"{who}\" && status"),
        ),
        8 => (
            Watch::Transaction { addresses: vec![contract], function: None },
            format!("value > {least} && !status"),
        ),
        _ => (
            Watch::Transfer { asset: WatchedAsset::Any },
            format!("from in [\"{who}\", \"{contract}\"] && amount > 5"),
        ),
    };
    let spec = RuleSpec {
        id: RuleId(number.into()),
        version: 1,
        name: format!("rule {number}"),
        chain: ChainId(1),
        watch,
        condition,
        window: None,
        template: None,
    };
    Rule::compile(spec, labels).expect("the rule is right")
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn main() {
    let abi = Arc::new(Abi::parse(ABI).expect("the ABI is right"));
    let labels = Labels::new();
    let blocks: Vec<_> = (1..=BLOCKS).map(|number| block(number, &abi)).collect();
    let mut base = None;
    println!(
        "rules     block      ratio  matches candidates  compile   insert    clone  insert into a clone"
    );
    for count in [100, 1_000, 10_000, 100_000] {
        let started = Instant::now();
        let compiled: Vec<_> =
            (0..count).map(|number| Arc::new(rule(number, &abi, &labels))).collect();
        let compile = started.elapsed() / u32::try_from(count).unwrap_or(1);
        let started = Instant::now();
        let mut rules = RuleSet::new();
        for rule in &compiled {
            rules.insert(rule.clone());
        }
        let insert = started.elapsed() / u32::try_from(count).unwrap_or(1);
        let (mut matches, mut candidates) = (0, 0);
        // The best of some rounds, because other processes share the machine.
        let mut best = vec![Duration::MAX; blocks.len()];
        for round in 0..ROUNDS {
            for ((frame, transfers), best) in blocks.iter().zip(&mut best) {
                let started = Instant::now();
                let found = black_box(evaluate(&rules, black_box(frame), transfers));
                *best = started.elapsed().min(*best);
                if round == 0 {
                    matches += found.matches.len();
                    candidates += found.candidates;
                }
            }
        }
        let block = best.iter().sum::<Duration>() / u32::try_from(best.len()).unwrap_or(1);
        let changes: Vec<_> = (0..50u64)
            .map(|change| {
                let new = Arc::new(rule(change * 97 % count, &abi, &labels));
                let started = Instant::now();
                let mut next = rules.clone();
                let clone = started.elapsed();
                next.insert(new);
                let total = started.elapsed();
                black_box(next);
                (clone, total)
            })
            .collect();
        let clone = median(changes.iter().map(|(clone, _)| *clone).collect());
        let change = median(changes.iter().map(|(_, total)| *total).collect());
        let base = *base.get_or_insert(block);
        let ratio = block.as_nanos() * 100 / base.as_nanos().max(1);
        println!(
            "{count:>6} {:>9} ns  {:>2}.{:02}x {matches:>8} {candidates:>10} {compile:>8.1?} {insert:>8.1?} {clone:>8.1?} {change:>8.1?}",
            block.as_nanos(),
            ratio / 100,
            ratio % 100
        );
    }
}
