//! The chain itself: blocks from a seed, branches on demand.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use alloy_consensus::Header;
use alloy_primitives::keccak256;
use parking_lot::RwLock;

use crate::block::{Body, Call, Event, Kind, Place, Signer, header};

/// Time of block 0; the present would make runs differ.
const GENESIS_TIME: u64 = 1_700_000_000;
/// Seconds between blocks.
const BLOCK_TIME: u64 = 12;
/// Keccak-256 of `Transfer(address,address,uint256)`.
pub(super) const TRANSFER: &str =
    "ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef";

/// The event of a log with a note.
const NOTED: &[u8] = b"Noted(string)";
/// Gas of a transaction that only moves value.
const MOVE_GAS: u64 = 21_000;

/// Sends all transactions of all simulated chains.
static SIGNER: LazyLock<Signer> = LazyLock::new(|| Signer::numbered(0));

/// A log of a simulated block: an ERC-20 transfer, or words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimLog {
    /// The token.
    pub token: [u8; 20],
    /// Sender.
    pub from: [u8; 20],
    /// Recipient.
    pub to: [u8; 20],
    /// Amount in the token's smallest unit.
    pub amount: u64,
    /// Makes it a `Noted(string)` instead, with this data.
    pub note: Option<Vec<u8>>,
    /// Makes it any log, with these topics and the data of `note`.
    pub raw_topics: Option<Vec<[u8; 32]>>,
}

/// A block.
#[derive(Debug, Clone)]
pub struct SimBlock {
    /// Its height.
    pub number: u64,
    /// Its hash.
    pub hash: [u8; 32],
    /// Its parent's hash.
    pub parent: [u8; 32],
    /// Its time, in seconds since 1970 UTC.
    pub timestamp: u64,
    /// Its logs in order.
    pub logs: Vec<SimLog>,
    pub(super) header: Header,
    pub(super) body: Body,
    /// The sender's next nonce after it.
    nonce: u64,
}

/// A chain with all branches that it ever had.
#[derive(Debug)]
pub struct SimChain {
    /// Its chain id.
    pub id: u64,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    id: u64,
    rng: fastrand::Rng,
    salt: u64,
    /// Whether each log has a recipient of its own.
    varied: bool,
    blocks: HashMap<[u8; 32], Arc<SimBlock>>,
    /// The branch that is served, by height.
    canonical: Vec<Arc<SimBlock>>,
}

impl SimChain {
    /// A chain of nothing but block 0.
    pub fn new(id: u64, seed: u64) -> Arc<Self> {
        let genesis = Arc::new(SimBlock::seal(id, None, id, Vec::new()));
        let state = State {
            id,
            rng: fastrand::Rng::with_seed(seed),
            salt: 1,
            varied: false,
            blocks: [(genesis.hash, genesis.clone())].into(),
            canonical: vec![genesis],
        };
        Arc::new(Self { id, state: RwLock::new(state) })
    }

    /// From now on each transfer goes to somebody else, so that no log can be left out without its
    /// block's bloom filter showing it. Where few parties repeat, as else, it often does not.
    pub fn vary(&self) {
        self.state.write().varied = true;
    }

    /// Adds blocks on the head, each with up to `logs_max` transfers.
    pub fn extend(&self, count: u64, logs_max: usize) {
        let mut state = self.state.write();
        for _ in 0..count {
            let block = state.next(logs_max);
            state.canonical.push(block);
        }
    }

    /// Adds a block with these logs.
    pub fn push(&self, logs: Vec<SimLog>) {
        let mut state = self.state.write();
        let block = state.add(logs);
        state.canonical.push(block);
    }

    /// Replaces the last `depth` blocks by `count` new ones; block 0 stays. Returns the old head.
    pub fn reorg(&self, depth: u64, count: u64, logs_max: usize) -> [u8; 32] {
        let mut state = self.state.write();
        let old = state.head().hash;
        let keep =
            state.canonical.len().saturating_sub(usize::try_from(depth).unwrap_or(usize::MAX));
        state.canonical.truncate(keep.max(1));
        for _ in 0..count {
            let block = state.next(logs_max);
            state.canonical.push(block);
        }
        old
    }

    /// Makes the branch of a block that was once the head the one that is served.
    ///
    /// # Panics
    /// When there never was such a block.
    pub fn switch_to(&self, head: [u8; 32]) {
        let mut state = self.state.write();
        let mut branch = Vec::new();
        let mut hash = head;
        loop {
            let block = state.blocks.get(&hash).expect("a head that was served before").clone();
            let (number, parent) = (block.number, block.parent);
            branch.push(block);
            if number == 0 {
                break;
            }
            hash = parent;
        }
        branch.reverse();
        state.canonical = branch;
    }

    /// The head.
    pub fn head(&self) -> Arc<SimBlock> {
        self.state.read().head().clone()
    }

    /// The served branch, from block 0.
    pub fn canonical(&self) -> Vec<Arc<SimBlock>> {
        self.state.read().canonical.clone()
    }

    /// A block of the served branch.
    pub fn at(&self, number: u64) -> Option<Arc<SimBlock>> {
        self.state.read().canonical.get(usize::try_from(number).ok()?).cloned()
    }

    /// Any block that ever was.
    pub fn by_hash(&self, hash: &[u8; 32]) -> Option<Arc<SimBlock>> {
        self.state.read().blocks.get(hash).cloned()
    }
}

impl State {
    fn head(&self) -> &Arc<SimBlock> {
        self.canonical.last().expect("block 0 always stays")
    }

    fn next(&mut self, logs_max: usize) -> Arc<SimBlock> {
        let count = self.rng.usize(0..=logs_max);
        let (rng, varied) = (&mut self.rng, self.varied);
        // Few parties and tokens, so that filters and windows meet the same ones again.
        let party = |n: u8| [0xa0 + n; 20];
        let logs = (0..count).map(|_| SimLog {
            token: [0x10 + rng.u8(0..3); 20],
            from: party(rng.u8(0..6)),
            to: if varied { std::array::from_fn(|_| rng.u8(..)) } else { party(rng.u8(0..6)) },
            amount: rng.u64(0..1_000_000),
            note: None,
            raw_topics: None,
        });
        let logs = logs.collect();
        self.add(logs)
    }

    /// The next block, with these logs.
    fn add(&mut self, logs: Vec<SimLog>) -> Arc<SimBlock> {
        self.salt += 1;
        let block = Arc::new(SimBlock::seal(self.id, Some(self.head()), self.salt, logs));
        self.blocks.insert(block.hash, block.clone());
        block
    }
}

impl SimBlock {
    fn seal(chain_id: u64, parent: Option<&Self>, salt: u64, logs: Vec<SimLog>) -> Self {
        let (number, parent, nonce) =
            parent.map_or((0, [0; 32], 0), |block| (block.number + 1, block.hash, block.nonce));
        let calls = if number == 0 { Vec::new() } else { calls(salt, &logs) };
        let body = Body::seal(&SIGNER, chain_id, nonce, calls);
        let nonce = nonce + body.transactions.len() as u64;
        let timestamp = GENESIS_TIME + number * BLOCK_TIME;
        let header = header(parent, number, timestamp, &salt.to_be_bytes(), &body);
        let hash = header.hash_slow().0;
        Self { number, hash, parent, timestamp, logs, header, body, nonce }
    }

    pub(super) fn place(&self) -> Place {
        Place { number: self.number, hash: self.hash }
    }

    /// Hash of the transaction that a log is of.
    ///
    /// # Panics
    /// When the block has no such log.
    pub fn transaction_hash(&self, log: usize) -> [u8; 32] {
        let (transaction, _) = self.body.logs().nth(log).expect("a log of the block");
        self.body.transactions[transaction].hash
    }
}

/// Transactions that emit these logs, one or two each, and some without logs behind them.
fn calls(salt: u64, logs: &[SimLog]) -> Vec<Call> {
    let kinds = [Kind::DynamicFee, Kind::Legacy, Kind::AccessList];
    let mut kinds = kinds.into_iter().cycle().skip(usize::try_from(salt % 3).unwrap_or(0));
    let mut kind = || kinds.next().unwrap_or(Kind::Legacy);
    let together = if salt.is_multiple_of(3) { 2 } else { 1 };
    let mut calls = Vec::new();
    for logs in logs.chunks(together) {
        let mut events = logs.iter().map(SimLog::event);
        let Some((log, event)) = logs.first().zip(events.next()) else { continue };
        let mut call = Call::transfer(kind(), event, log.from, log.to);
        call.events.extend(events);
        if log.note.is_some() {
            call.input.clear();
        }
        calls.push(call);
    }
    let other = |kind, to, succeeds| {
        let (input, events) = (Vec::new(), Vec::new());
        Call { kind, to, value: salt + 1, input, succeeds, gas_used: MOVE_GAS, events }
    };
    if salt.is_multiple_of(2) {
        calls.push(other(kind(), Some([0xa0; 20]), true));
    }
    if salt.is_multiple_of(5) {
        calls.push(other(kind(), Some([0xa1; 20]), false));
    }
    if salt.is_multiple_of(7) {
        calls.push(other(kind(), None, true));
    }
    calls
}

impl SimLog {
    /// A `Noted(string)` with these bytes as the string, whatever they are.
    pub fn noted(token: [u8; 20], words: &[u8]) -> Self {
        let mut data = [word(32), word(words.len() as u64)].concat();
        data.extend(words);
        data.resize(data.len().next_multiple_of(32), 0);
        Self { token, from: [0; 20], to: [0; 20], amount: 0, note: Some(data), raw_topics: None }
    }

    /// Any log: with no topics, with topics that mean nothing, with data of any size.
    pub fn raw(address: [u8; 20], topics: Vec<[u8; 32]>, data: Vec<u8>) -> Self {
        Self { raw_topics: Some(topics), note: Some(data), ..Self::noted(address, b"") }
    }

    /// Its topics.
    pub fn topics(&self) -> Vec<[u8; 32]> {
        if let Some(topics) = &self.raw_topics {
            return topics.clone();
        }
        if self.note.is_some() {
            return vec![keccak256(NOTED).0];
        }
        let mut signature = [0; 32];
        const_hex::decode_to_slice(TRANSFER, &mut signature).unwrap_or_default();
        let word = |address: &[u8; 20]| {
            let mut word = [0; 32];
            word[12..].copy_from_slice(address);
            word
        };
        vec![signature, word(&self.from), word(&self.to)]
    }

    /// Its data.
    pub fn data(&self) -> Vec<u8> {
        self.note.clone().unwrap_or_else(|| word(self.amount).to_vec())
    }

    fn event(&self) -> Event {
        Event { address: self.token, topics: self.topics(), data: self.data() }
    }
}

fn word(number: u64) -> [u8; 32] {
    let mut word = [0; 32];
    word[24..].copy_from_slice(&number.to_be_bytes());
    word
}
