//! What every bus must do alike.
//!
//! Each case takes a [`Rig`] with an empty place of its own.
#![expect(clippy::unwrap_used, reason = "a failed case is a failed test")]

use std::sync::Arc;

use futures_util::StreamExt;
use lookout_types::{
    Address, Amount, BlockRef, ChainId, ErrorKind, Frame, Hash, Log, Step, Transaction,
};

use crate::{Bus, BusError, FrameStream};

/// The chain of the cases.
pub const CHAIN: ChainId = ChainId(31_337);

/// Opens the same bus again and again.
#[async_trait::async_trait]
pub trait Rig: Sync {
    /// Opens it; the instance before is closed or dropped.
    async fn open(&self) -> Arc<dyn Bus>;
}

/// Makes the frames of a random chain that reorganises.
#[derive(Debug)]
pub struct World {
    random: fastrand::Rng,
    blocks: Vec<Frame>,
    /// Every frame so far.
    pub frames: Vec<Arc<Frame>>,
}

impl World {
    /// A world that is a function of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), blocks: Vec::new(), frames: Vec::new() }
    }

    /// Extends the chain by `count` blocks.
    pub fn extend(&mut self, count: usize) {
        for _ in 0..count {
            let number = self.blocks.last().map_or(7, |block| block.block.number + 1);
            let parent = self.blocks.last().map_or(Hash([0; 32]), |block| block.block.hash);
            let frame = Frame {
                chain: CHAIN,
                sequence: 0,
                step: Step::Apply,
                block: BlockRef { number, hash: self.hash() },
                parent,
                timestamp: number * 12,
                transactions: (0..self.random.usize(0..2)).map(|_| self.transaction()).collect(),
                logs: (0..self.random.usize(0..4)).map(|_| self.log()).collect(),
            };
            self.step(Step::Apply, frame);
        }
    }

    /// Takes back `depth` blocks.
    pub fn undo(&mut self, depth: usize) {
        for _ in 0..depth {
            let Some(block) = self.blocks.pop() else { return };
            self.step(Step::Undo, block);
        }
    }

    /// Extends or reorganises at random until there are `count` frames or some more.
    pub fn run(&mut self, count: usize) {
        while self.frames.len() < count {
            if self.random.u8(0..4) == 0 {
                let depth = self.random.usize(1..6);
                self.undo(depth);
            }
            let count = self.random.usize(1..8);
            self.extend(count);
        }
    }

    fn step(&mut self, step: Step, frame: Frame) {
        let sequence = u64::try_from(self.frames.len()).unwrap() + 1;
        self.frames.push(Arc::new(Frame { sequence, step, ..frame.clone() }));
        if step == Step::Apply {
            self.blocks.push(frame);
        }
    }

    fn hash(&mut self) -> Hash {
        let mut hash = [0; 32];
        self.random.fill(&mut hash);
        Hash(hash)
    }

    fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; self.random.usize(0..100)];
        self.random.fill(&mut bytes);
        bytes
    }

    fn log(&mut self) -> Log {
        Log {
            address: Address([self.random.u8(0..5); 20]),
            topics: (0..self.random.usize(0..5)).map(|_| self.hash()).collect(),
            data: self.bytes().into(),
            transaction_hash: self.hash(),
            transaction_index: self.random.u32(0..9),
            log_index: self.random.u32(0..99),
        }
    }

    fn transaction(&mut self) -> Transaction {
        Transaction {
            hash: self.hash(),
            index: self.random.u32(0..9),
            from: Address([1; 20]),
            to: None,
            value: Amount::default(),
            nonce: self.random.u64(..),
            input: self.bytes().into(),
            outcome: None,
        }
    }
}

/// Reads frames until `count` are there.
pub async fn read(stream: &mut FrameStream, count: usize) -> Vec<Arc<Frame>> {
    let mut frames = Vec::new();
    while frames.len() < count {
        let batch = stream.next().await.unwrap().unwrap();
        assert!(!batch.is_empty());
        frames.extend(batch);
    }
    frames
}

/// The error that a stream ends with.
async fn refused(mut stream: FrameStream) -> BusError {
    stream.next().await.unwrap().unwrap_err()
}

/// What is published is what is read, from any cursor, before and after opening it again.
pub async fn frames_come_back(rig: &dyn Rig) {
    let mut world = World::new(1);
    world.run(300);
    let count = world.frames.len();
    let bus = rig.open().await;
    let claim = bus.claim(CHAIN).await.unwrap();
    assert_eq!(bus.tail(CHAIN).await.unwrap().sequence, 0);
    assert_eq!(bus.oldest(CHAIN).await.unwrap(), 1);
    for batch in world.frames.chunks(7) {
        let tail = bus.publish(&claim, batch.to_vec()).await.unwrap();
        assert_eq!(tail, bus.tail(CHAIN).await.unwrap());
        assert_eq!(tail.sequence, batch.last().unwrap().sequence);
    }
    let tail = bus.tail(CHAIN).await.unwrap();
    assert_eq!(tail.head, world.blocks.last().map(|block| block.block));
    bus.close().await;
    drop(bus);
    let bus = rig.open().await;
    assert_eq!(bus.tail(CHAIN).await.unwrap(), tail);
    for after in [0, 1, 6, 7, 8, 150, count - 1] {
        let mut stream = bus.subscribe(CHAIN, u64::try_from(after).unwrap());
        assert_eq!(read(&mut stream, count - after).await, world.frames[after..]);
    }
}

/// Subscribers at different cursors all see what comes, and another chain sees nothing of it.
pub async fn subscribers_follow(rig: &dyn Rig) {
    let mut world = World::new(2);
    world.run(50);
    let first = world.frames.len();
    let bus = rig.open().await;
    let claim = bus.claim(CHAIN).await.unwrap();
    let mut early = bus.subscribe(CHAIN, 0);
    bus.publish(&claim, world.frames.clone()).await.unwrap();
    let mut late = bus.subscribe(CHAIN, 20);
    let mut at_tail = bus.subscribe(CHAIN, u64::try_from(first).unwrap());
    assert_eq!(read(&mut early, first).await, world.frames);
    assert_eq!(read(&mut late, first - 20).await, world.frames[20..]);
    world.run(100);
    let rest = world.frames[first..].to_vec();
    let waiting = tokio::spawn(async move {
        let count = rest.len();
        assert_eq!(read(&mut at_tail, count).await, rest);
    });
    bus.publish(&claim, world.frames[first..].to_vec()).await.unwrap();
    waiting.await.unwrap();
    assert_eq!(read(&mut early, world.frames.len() - first).await, world.frames[first..]);
    assert_eq!(bus.tail(ChainId(1)).await.unwrap().sequence, 0);
    let mut ending = bus.subscribe(CHAIN, u64::try_from(world.frames.len()).unwrap());
    let ended = tokio::spawn(async move { ending.next().await.is_none() });
    bus.close().await;
    assert!(ended.await.unwrap());
    assert_eq!(bus.tail(CHAIN).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

/// Only frames that continue the chain are taken, and a wrong one takes none of those after it.
pub async fn only_what_follows_is_taken(rig: &dyn Rig) {
    let mut world = World::new(3);
    world.extend(5);
    let bus = rig.open().await;
    let claim = bus.claim(CHAIN).await.unwrap();
    let change = |at: usize, change: fn(&mut Frame)| {
        let mut frame = Frame::clone(&world.frames[at]);
        change(&mut frame);
        Arc::new(frame)
    };
    let error = bus.publish(&claim, vec![Arc::clone(&world.frames[1])]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "chain 31337: frame 2 does not follow the tail of the bus at frame 0"
    );
    let undo_first = change(0, |frame| frame.step = Step::Undo);
    let error = bus.publish(&claim, vec![undo_first]).await.unwrap_err();
    assert!(error.to_string().ends_with("the head is no block at all"), "{error}");
    bus.publish(&claim, world.frames[..3].to_vec()).await.unwrap();
    for wrong in [
        change(3, |frame| frame.parent = Hash([9; 32])),
        change(3, |frame| frame.block.number += 1),
        change(3, |frame| frame.step = Step::Undo),
        change(3, |frame| frame.chain = ChainId(1)),
        change(3, |frame| frame.sequence = 5),
        change(3, |frame| frame.sequence = 3),
        change(3, |frame| {
            let topics = vec![Hash([1; 32]); 5];
            frame.logs = vec![Log {
                address: Address([1; 20]),
                topics,
                data: Vec::new().into(),
                transaction_hash: Hash([1; 32]),
                transaction_index: 0,
                log_index: 0,
            }];
        }),
    ] {
        let error = bus.publish(&claim, vec![wrong]).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Invalid), "{error}");
        assert_eq!(bus.tail(CHAIN).await.unwrap().sequence, 3);
    }
    // The good ones in front of a wrong one are kept.
    let batch = vec![Arc::clone(&world.frames[3]), Arc::clone(&world.frames[3])];
    bus.publish(&claim, batch).await.unwrap_err();
    assert_eq!(bus.tail(CHAIN).await.unwrap().sequence, 4);
    bus.publish(&claim, world.frames[4..].to_vec()).await.unwrap();
    let mut stream = bus.subscribe(CHAIN, 0);
    assert_eq!(read(&mut stream, 5).await, world.frames);
}

/// Undoing everything leaves no head, and the chain can begin elsewhere.
pub async fn a_chain_can_be_undone_to_nothing(rig: &dyn Rig) {
    let mut world = World::new(4);
    world.extend(3);
    world.undo(3);
    let bus = rig.open().await;
    let claim = bus.claim(CHAIN).await.unwrap();
    let tail = bus.publish(&claim, world.frames.clone()).await.unwrap();
    assert_eq!((tail.sequence, tail.head), (6, None));
    bus.close().await;
    let bus = rig.open().await;
    assert_eq!(bus.tail(CHAIN).await.unwrap(), tail);
    let claim = bus.claim(CHAIN).await.unwrap();
    world.extend(2);
    bus.publish(&claim, world.frames[6..].to_vec()).await.unwrap();
}

/// The latest claim publishes; an earlier one is told so.
pub async fn an_earlier_claim_is_over(rig: &dyn Rig) {
    let mut world = World::new(5);
    world.extend(4);
    let bus = rig.open().await;
    let old = bus.claim(CHAIN).await.unwrap();
    bus.publish(&old, world.frames[..2].to_vec()).await.unwrap();
    let new = bus.claim(CHAIN).await.unwrap();
    let error = bus.publish(&old, world.frames[2..].to_vec()).await.unwrap_err();
    assert!(matches!(error, BusError::Fenced(CHAIN)), "{error}");
    assert!(matches!(bus.reset(&old).await, Err(BusError::Fenced(CHAIN))));
    bus.publish(&new, world.frames[2..].to_vec()).await.unwrap();
    assert_eq!(bus.tail(CHAIN).await.unwrap().sequence, 4);
}

/// A consumer that is further than the bus is told, and one of a bus that began anew too.
pub async fn consumers_ahead_are_told(rig: &dyn Rig) {
    let mut world = World::new(6);
    world.extend(4);
    let bus = rig.open().await;
    let claim = bus.claim(CHAIN).await.unwrap();
    bus.publish(&claim, world.frames.clone()).await.unwrap();
    let error = refused(bus.subscribe(CHAIN, 5)).await;
    assert!(matches!(error, BusError::Ahead { cursor: 5, tail: 4, .. }), "{error}");
    let mut at_tail = bus.subscribe(CHAIN, 2);
    read(&mut at_tail, 2).await;
    bus.reset(&claim).await.unwrap();
    let error = refused(at_tail).await;
    assert!(matches!(error, BusError::Ahead { cursor: 4, tail: 0, .. }), "{error}");
    bus.publish(&claim, world.frames[..1].to_vec()).await.unwrap();
    assert_eq!(read(&mut bus.subscribe(CHAIN, 0), 1).await, world.frames[..1]);
}

/// Random publications with the bus closed or dropped in between: what comes out is what went in.
pub async fn crashes_lose_nothing(rig: &dyn Rig, seed: u64) {
    let mut world = World::new(seed);
    world.run(120);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bus = rig.open().await;
    let mut claim = bus.claim(CHAIN).await.unwrap();
    loop {
        let tail = usize::try_from(bus.tail(CHAIN).await.unwrap().sequence).unwrap();
        if tail == world.frames.len() {
            break;
        }
        let end = world.frames.len().min(tail + random.usize(1..30));
        let publishing = bus.publish(&claim, world.frames[tail..end].to_vec());
        if random.u8(0..3) == 0 {
            // Not waited for: it may come to nothing, or to all, at its leisure.
            drop(futures_util::FutureExt::now_or_never(publishing));
        } else {
            match publishing.await {
                // One that was not waited for came first.
                Err(BusError::Gap { .. }) => continue,
                published => drop(published.unwrap()),
            }
        }
        if random.u8(0..3) == 0 {
            bus.close().await;
            bus = rig.open().await;
            claim = bus.claim(CHAIN).await.unwrap();
        }
        // A publication that was not waited for holds the log until it is done.
        let after = random.u64(..=bus.tail(CHAIN).await.unwrap().sequence);
        let mut stream = bus.subscribe(CHAIN, after);
        let tail = usize::try_from(bus.tail(CHAIN).await.unwrap().sequence).unwrap();
        let after = usize::try_from(after).unwrap();
        let frames = read(&mut stream, tail - after).await;
        assert_eq!(frames, world.frames[after..after + frames.len()]);
    }
}
