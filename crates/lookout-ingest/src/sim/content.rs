//! What the blocks of a simulated chain hold: transfers of all kinds, and what only looks like one.

use lookout_chain::{SourceBlock, SourceHeader};
use lookout_types::{Address, Amount, Hash, Log, Outcome, TRANSFER, TRANSFER_SINGLE, Transaction};

use super::Shape;

/// Addresses that take part: few, so that each has a history.
const PARTIES: u8 = 12;
/// Contracts that emit logs.
const CONTRACTS: u8 = 4;

pub(super) fn block(
    random: &mut fastrand::Rng,
    header: SourceHeader,
    shape: &Shape,
) -> SourceBlock {
    let transactions: Vec<_> =
        (0..random.usize(0..=shape.transactions_max)).map(|at| transaction(random, at)).collect();
    let logs = (0..random.usize(0..=shape.logs_max))
        .map(|at| {
            let of = if transactions.is_empty() { 0 } else { at % transactions.len() };
            let hash = transactions.get(of).map_or(Hash([7; 32]), |transaction| transaction.hash);
            log(random, at, of, hash)
        })
        .collect();
    SourceBlock { header, transactions, logs }
}

fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn amount(value: u64) -> Amount {
    value.to_string().parse().expect("digits are an amount")
}

fn word(last: u64) -> Hash {
    let mut word = [0; 32];
    word[24..].copy_from_slice(&last.to_be_bytes());
    Hash(word)
}

fn party(random: &mut fastrand::Rng) -> Address {
    Address([random.u8(1..=PARTIES); 20])
}

fn party_word(random: &mut fastrand::Rng) -> Hash {
    let mut word = [0; 32];
    word[12..].copy_from_slice(&party(random).0);
    Hash(word)
}

fn hash(random: &mut fastrand::Rng) -> Hash {
    let mut hash = [0; 32];
    random.fill(&mut hash);
    Hash(hash)
}

fn transaction(random: &mut fastrand::Rng, at: usize) -> Transaction {
    Transaction {
        hash: hash(random),
        index: index(at),
        from: party(random),
        to: if random.u8(0..8) == 0 { None } else { Some(party(random)) },
        value: amount(random.u64(0..3) * 1_000),
        nonce: random.u64(0..1_000),
        input: vec![random.u8(..); random.usize(0..40)].into(),
        outcome: Some(Outcome {
            success: random.u8(0..6) > 0,
            gas_used: random.u64(21_000..90_000),
            gas_price: amount(random.u64(1..100)),
            created: None,
        }),
    }
}

fn log(random: &mut fastrand::Rng, at: usize, of: usize, transaction_hash: Hash) -> Log {
    let (topics, data) = match random.u8(0..10) {
        0..=4 => {
            let topics = vec![TRANSFER, party_word(random), party_word(random)];
            (topics, word(random.u64(..)).0.to_vec())
        }
        5 => {
            let id = word(random.u64(0..9));
            (vec![TRANSFER, party_word(random), party_word(random), id], Vec::new())
        }
        6 => {
            let parties = [party_word(random), party_word(random), party_word(random)];
            let data = [word(random.u64(0..9)).0, word(random.u64(..)).0].concat();
            ([&[TRANSFER_SINGLE][..], &parties].concat(), data)
        }
        // It looks like a transfer and is none.
        7 => (vec![TRANSFER, party_word(random), party_word(random)], vec![1; 31]),
        8 => (Vec::new(), vec![random.u8(..); random.usize(0..70)]),
        _ => (vec![Hash([random.u8(0..5); 32])], vec![random.u8(..); 32]),
    };
    Log {
        address: Address([0xc0 | random.u8(0..CONTRACTS); 20]),
        topics,
        data: data.into(),
        transaction_hash,
        transaction_index: index(of),
        log_index: index(at),
    }
}
