//! A random chain, and the answers about it by the plainest means.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use lookout_types::{
    Address, Amount, Asset, BlockRef, ChainId, Frame, Hash, Log, Outcome, Step, TRANSFER,
    TRANSFER_BATCH, TRANSFER_SINGLE, Transaction, transfers,
};
use ruint::aliases::U256;

use crate::{
    AssetClass, AssetFilter, Event, EventFilter, EventGroup, EventStat, OddEvent, Side, Span,
    Total, TransferEvent, TransferFilter, TransferStat,
};

/// The chain of the cases.
pub const CHAIN: ChainId = ChainId(31_337);

/// Makes the frames of a random chain that reorganises.
#[derive(Debug, Clone)]
pub struct World {
    random: fastrand::Rng,
    /// The chain as it is.
    pub blocks: Vec<Frame>,
    /// Branches that were undone, to come back to.
    undone: Vec<Vec<Frame>>,
    /// Every frame so far.
    pub frames: Vec<Arc<Frame>>,
}

impl World {
    /// A world that is a function of `seed`.
    pub fn new(seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { random, blocks: Vec::new(), undone: Vec::new(), frames: Vec::new() }
    }

    /// Adds `count` random blocks.
    pub fn extend(&mut self, count: usize) {
        for _ in 0..count {
            let logs = (0..self.random.u32(0..6)).map(|n| self.log(n)).collect();
            let transactions = (0..self.random.u32(0..3)).map(|n| self.transaction(n)).collect();
            self.block(transactions, logs);
        }
    }

    /// Adds a block with these logs, numbered anew.
    pub fn extend_with(&mut self, mut logs: Vec<Log>) {
        for (n, log) in (0..).zip(&mut logs) {
            log.log_index = n;
        }
        self.block(Vec::new(), logs);
    }

    /// Changes the time of the last block.
    pub fn set_time(&mut self, time: u64) {
        self.blocks.last_mut().unwrap().timestamp = time;
        let mut frame = Frame::clone(self.frames.last().unwrap());
        frame.timestamp = time;
        *self.frames.last_mut().unwrap() = Arc::new(frame);
    }

    /// Takes back `depth` blocks, and remembers them.
    pub fn undo(&mut self, depth: usize) {
        let mut branch = Vec::new();
        for _ in 0..depth {
            let Some(block) = self.blocks.pop() else { break };
            self.push(Step::Undo, block.clone());
            branch.insert(0, block);
        }
        self.undone.push(branch);
    }

    /// Goes back to a branch that was undone, if one fits the head.
    fn come_back(&mut self) {
        let head = self.blocks.last().map(|block| block.block.hash);
        let fits =
            |branch: &Vec<Frame>| branch.first().is_some_and(|first| Some(first.parent) == head);
        let Some(at) = self.undone.iter().position(fits) else { return };
        for block in self.undone.remove(at) {
            self.push(Step::Apply, block.clone());
            self.blocks.push(block);
        }
    }

    /// Extends, reorganises or comes back, until there are `count` frames more.
    pub fn run(&mut self, count: usize) {
        let end = self.frames.len() + count;
        while self.frames.len() < end {
            match self.random.u8(0..10) {
                0 | 1 => {
                    let depth = self.random.usize(1..8);
                    self.undo(depth);
                    // A to B to A again.
                    if self.random.bool() {
                        let count = self.random.usize(0..3);
                        self.extend(count);
                        let back = self.blocks.len().min(count);
                        self.undo(back);
                        self.come_back();
                    }
                }
                2 if self.random.u8(0..8) == 0 => self.undo(64),
                _ => {
                    let count = self.random.usize(1..6);
                    self.extend(count);
                }
            }
        }
    }

    fn block(&mut self, transactions: Vec<Transaction>, logs: Vec<Log>) {
        let number = self.blocks.last().map_or(7, |block| block.block.number + 1);
        let parent = self.blocks.last().map_or(Hash([0; 32]), |block| block.block.hash);
        let earlier = self.blocks.last().map_or(1_000, |block| block.timestamp);
        let frame = Frame {
            chain: CHAIN,
            sequence: 0,
            step: Step::Apply,
            block: BlockRef { number, hash: self.hash() },
            parent,
            timestamp: earlier + self.random.u64(0..30),
            transactions,
            logs,
        };
        self.push(Step::Apply, frame.clone());
        self.blocks.push(frame);
    }

    fn push(&mut self, step: Step, frame: Frame) {
        let sequence = u64::try_from(self.frames.len()).unwrap() + 1;
        self.frames.push(Arc::new(Frame { sequence, step, ..frame }));
    }

    fn hash(&mut self) -> Hash {
        let mut hash = [0; 32];
        self.random.fill(&mut hash);
        Hash(hash)
    }

    fn address(&mut self) -> Address {
        Address([self.random.u8(1..7); 20])
    }

    fn contract(&mut self) -> Address {
        Address([self.random.u8(0xa0..0xa4); 20])
    }

    fn amount(&mut self) -> Amount {
        Amount(U256::from(self.random.u64(..)))
    }

    fn log(&mut self, log_index: u32) -> Log {
        let (from, to) = (topic(self.address()), topic(self.address()));
        let word = |n: u64| U256::from(n).to_be_bytes::<32>();
        let id = self.random.u64(0..3);
        let small = Hash(word(id));
        let amount = word(self.random.u64(0..1000));
        let (topics, data) = match self.random.u8(0..10) {
            0..4 => (vec![TRANSFER, from, to], amount.to_vec()),
            4 => (vec![TRANSFER, from, to, small], Vec::new()),
            5 => (vec![TRANSFER_SINGLE, from, from, to], [word(id), amount].concat()),
            6 => {
                let words = [64, 160, 2, id, id + 1, 2, 5, 6].map(word);
                (vec![TRANSFER_BATCH, to, from, to], words.concat())
            }
            7 => (vec![TRANSFER, from, to], vec![1; self.random.usize(0..32)]),
            8 => (Vec::new(), vec![9; 70]),
            _ => (vec![Hash([self.random.u8(0..3); 32]), small, to], vec![0; 64]),
        };
        Log {
            address: self.contract(),
            topics,
            data: data.into(),
            transaction_hash: self.hash(),
            transaction_index: log_index / 2,
            log_index,
        }
    }

    fn transaction(&mut self, index: u32) -> Transaction {
        let value = if self.random.bool() { self.amount() } else { Amount::default() };
        let to = if self.random.u8(0..5) == 0 { None } else { Some(self.address()) };
        let success = self.random.u8(0..4) > 0;
        let outcome = Outcome {
            success,
            gas_used: 21_000,
            gas_price: self.amount(),
            created: to.is_none().then(|| self.contract()),
        };
        Transaction {
            hash: self.hash(),
            index,
            from: self.address(),
            to,
            value,
            nonce: self.random.u64(..),
            input: vec![1, 2, 3].into(),
            outcome: (self.random.u8(0..6) > 0).then_some(outcome),
        }
    }

    /// The frames of a run without reorgs.
    pub fn final_frames(&self) -> Vec<Frame> {
        (1..).zip(&self.blocks).map(|(sequence, b)| Frame { sequence, ..b.clone() }).collect()
    }

    /// Every log, oldest first.
    pub fn events(&self) -> Vec<Event> {
        let of = |frame: &Frame| {
            let (block, timestamp) = (frame.block, frame.timestamp);
            let logs = frame.logs.clone().into_iter();
            logs.map(move |log| Event { block, timestamp, log }).collect::<Vec<_>>()
        };
        self.blocks.iter().flat_map(of).collect()
    }

    /// Every transfer, oldest first.
    pub fn transfers(&self) -> Vec<TransferEvent> {
        let of = |frame: &Frame| {
            let (block, timestamp) = (frame.block, frame.timestamp);
            let found = transfers(frame).transfers.into_iter();
            found
                .map(move |transfer| TransferEvent { block, timestamp, transfer })
                .collect::<Vec<_>>()
        };
        self.blocks.iter().flat_map(of).collect()
    }

    /// Every log in quarantine, oldest first.
    pub fn odd(&self) -> Vec<OddEvent> {
        let mut all = Vec::new();
        for frame in &self.blocks {
            for odd in transfers(frame).odd {
                let log = frame.logs.iter().find(|log| log.log_index == odd.log_index).unwrap();
                let event =
                    Event { block: frame.block, timestamp: frame.timestamp, log: log.clone() };
                all.push(OddEvent { event, reason: odd.reason });
            }
        }
        all
    }

    /// Counts by the plainest means.
    pub fn event_stats(
        &self,
        filter: &EventFilter,
        bucket_s: Option<NonZeroU64>,
        group: EventGroup,
    ) -> Vec<EventStat> {
        let mut counts = BTreeMap::new();
        for event in self.events().iter().filter(|event| event_matches(filter, event)) {
            let bucket = bucket_s.map(|b| event.timestamp / b.get() * b.get());
            let address = matches!(group, EventGroup::Address | EventGroup::AddressEvent);
            let topic = matches!(group, EventGroup::Event | EventGroup::AddressEvent);
            let address = address.then_some(event.log.address);
            let topic0 = event.log.topics.first().copied().filter(|_| topic);
            *counts.entry((bucket, address, topic0)).or_insert(0) += 1;
        }
        let row =
            |((from_time, address, topic0), count)| EventStat { from_time, address, topic0, count };
        counts.into_iter().map(row).collect()
    }

    /// Counts and sums by the plainest means.
    pub fn transfer_stats(
        &self,
        filter: &TransferFilter,
        bucket_s: Option<NonZeroU64>,
    ) -> Vec<TransferStat> {
        let mut sums: BTreeMap<_, (u64, U256)> = BTreeMap::new();
        for event in self.transfers().iter().filter(|event| transfer_matches(filter, event)) {
            let bucket = bucket_s.map(|b| event.timestamp / b.get() * b.get());
            let (count, sum) =
                sums.entry((bucket, AssetClass::from(event.transfer.asset))).or_default();
            *count += 1;
            *sum += event.transfer.amount.0;
        }
        let row = |((from_time, asset), (count, sum))| TransferStat {
            from_time,
            asset,
            count,
            total: Total::Exact(Amount(sum)),
        };
        sums.into_iter().map(row).collect()
    }

    /// A filter that finds something as a rule.
    pub fn random_event_filter(&mut self, random: &mut fastrand::Rng) -> EventFilter {
        let mut filter = EventFilter::all(CHAIN);
        if random.bool() {
            filter.addresses = (0..random.usize(1..4)).map(|_| self.contract()).collect();
        }
        if random.bool() {
            let events = [TRANSFER, TRANSFER_SINGLE, Hash([1; 32]), Hash([77; 32])];
            filter.topics[0] = events[..random.usize(1..5)].to_vec();
        }
        for at in 1..4 {
            if random.u8(0..4) == 0 {
                let values = (0..random.usize(1..4)).map(|_| topic(self.address()));
                filter.topics[at] = values.collect();
            }
        }
        filter.span = self.random_span(random);
        filter
    }

    /// A filter that finds something as a rule.
    pub fn random_transfer_filter(&mut self, random: &mut fastrand::Rng) -> TransferFilter {
        let mut filter = TransferFilter::all(CHAIN);
        if random.bool() {
            filter.parties = (0..random.usize(1..3)).map(|_| self.address()).collect();
            filter.side = [Side::Either, Side::From, Side::To][random.usize(0..3)];
        }
        for _ in 0..random.usize(0..3) {
            let contract = self.contract();
            let id = Amount(U256::from(random.u64(0..3)));
            filter.assets.push(match random.u8(0..3) {
                0 => AssetFilter::Native,
                1 => AssetFilter::Contract(contract),
                _ => AssetFilter::Token { contract, id },
            });
        }
        filter.span = self.random_span(random);
        filter
    }

    fn random_span(&self, random: &mut fastrand::Rng) -> Span {
        let mut some = |from: u64, to: u64| random.bool().then(|| random.u64(from..=to));
        let (Some(first), Some(last)) = (self.blocks.first(), self.blocks.last()) else {
            return Span::default();
        };
        let (low, high) = (first.block.number, last.block.number);
        let middle = u64::midpoint(low, high);
        let noon = u64::midpoint(first.timestamp, last.timestamp);
        Span {
            from_height: some(low - 1, middle),
            to_height: some(middle, high + 1),
            from_time: some(first.timestamp - 1, noon),
            to_time: some(noon, last.timestamp + 1),
        }
    }
}

/// The topic that names an address.
pub(crate) fn topic(address: Address) -> Hash {
    let mut topic = [0; 32];
    topic[12..].copy_from_slice(&address.0);
    Hash(topic)
}

/// An ERC-20 transfer.
pub(crate) fn erc20(contract: Address, from: Address, to: Address, amount: Amount) -> Log {
    Log {
        address: contract,
        topics: vec![TRANSFER, topic(from), topic(to)],
        data: amount.0.to_be_bytes::<32>().to_vec().into(),
        transaction_hash: Hash([8; 32]),
        transaction_index: 0,
        log_index: 0,
    }
}

/// A log with any number of topics.
pub(super) fn odd_log(topics: usize) -> Log {
    let mut log = erc20(Address([1; 20]), Address([1; 20]), Address([1; 20]), Amount::default());
    log.topics = vec![TRANSFER; topics];
    log
}

fn in_span(span: &Span, block: &BlockRef, time: u64) -> bool {
    span.from_height.is_none_or(|from| block.number >= from)
        && span.to_height.is_none_or(|to| block.number <= to)
        && span.from_time.is_none_or(|from| time >= from)
        && span.to_time.is_none_or(|to| time < to)
}

/// Whether a log is asked for.
pub(crate) fn event_matches(filter: &EventFilter, event: &Event) -> bool {
    let topic = |at: usize| match (&filter.topics[at], event.log.topics.get(at)) {
        (wanted, _) if wanted.is_empty() => true,
        (wanted, Some(topic)) => wanted.contains(topic),
        (_, None) => false,
    };
    in_span(&filter.span, &event.block, event.timestamp)
        && (filter.addresses.is_empty() || filter.addresses.contains(&event.log.address))
        && (0..4).all(topic)
}

/// Whether a transfer is asked for.
pub(super) fn transfer_matches(filter: &TransferFilter, event: &TransferEvent) -> bool {
    let transfer = &event.transfer;
    let ends = match filter.side {
        Side::Either => vec![transfer.from, transfer.to],
        Side::From => vec![transfer.from],
        Side::To => vec![transfer.to],
    };
    let of = |wanted: &AssetFilter| match (transfer.asset, *wanted) {
        (Asset::Native, AssetFilter::Native) => true,
        (Asset::Erc20(contract), AssetFilter::Contract(wanted)) => contract == wanted,
        (
            Asset::Erc721 { contract, .. } | Asset::Erc1155 { contract, .. },
            AssetFilter::Contract(wanted),
        ) => contract == wanted,
        (
            Asset::Erc721 { contract, id } | Asset::Erc1155 { contract, id },
            AssetFilter::Token { contract: wanted, id: wanted_id },
        ) => (contract, id) == (wanted, wanted_id),
        _ => false,
    };
    in_span(&filter.span, &event.block, event.timestamp)
        && (filter.parties.is_empty() || ends.iter().any(|end| filter.parties.contains(end)))
        && (filter.assets.is_empty() || filter.assets.iter().any(of))
}
