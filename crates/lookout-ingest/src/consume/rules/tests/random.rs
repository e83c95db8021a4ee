//! Random chains, cuts, restarts, rule changes and readings of balances: what stands in the end is
//! what a fresh run over the final chain gives, with the readings that stand.

use std::collections::BTreeMap;

use fastrand::Rng;
use lookout_store::ReadBalance;
use lookout_types::Hash;
use serde_json::{Value, json};

use super::super::{Consumer, RulesConsumer};
use super::rig::{ALERT, Block, CHAIN, Chain, Rig, document, uuid};

/// Accounts whose balances are read.
const ACCOUNTS: u64 = 3;

const SEEDS: u64 = 220;
/// Every so many seeds the consumer is also rebuilt, twice; as often, the chain and the rules move
/// meanwhile.
const REBUILD_EVERY: u64 = 5;
const RULES: u64 = 5;

/// One of the forms that a rule may take, windows among them.
fn form(rng: &mut Rng) -> Value {
    match rng.u8(..9) {
        0 => document("value > 3", json!({})),
        1 => document("value % 2 == 0", json!({"template": "{{ value }} of {{ rule.name }}"})),
        2 => document("value < 2", json!({"name": "small"})),
        3 => document(
            "",
            json!({"window": {"kind": "sum", "over": "40s", "of": "value", "condition": "sum >= 9"}}),
        ),
        4 => document(
            "value < 6",
            json!({"window": {"kind": "count", "over": "5m", "condition": "count >= 4"}}),
        ),
        7 | 8 => {
            let condition = ["change < 0", "balance < 40", "balance > previous && change > 30"];
            let mut balance = document(rng.choice(condition).unwrap(), json!({}));
            let accounts: Vec<_> = (1..=rng.u64(1..=ACCOUNTS)).map(account).collect();
            balance["watch"] = json!({"kind": "balance", "addresses": accounts});
            balance["template"] = json!("{{ account }}: {{ balance }} after {{ previous }}");
            balance
        }
        5 => document("value == 5", json!({"window": {"kind": "silence", "for": "90s"}})),
        _ => {
            let mut transfer = document("amount > 4", json!({}));
            transfer["watch"] = json!({"kind": "transfer", "asset": "any"});
            transfer
        }
    }
}

/// An account as text.
fn account(number: u64) -> String {
    format!("0x{number:040x}")
}

/// Its balance at a block.
fn balance(block: Hash, number: u64) -> u64 {
    let hash = u64::from_be_bytes(*block.0.last_chunk().unwrap());
    (hash * 37 + number * 53) % 100
}

struct World {
    rng: Rng,
    rig: Rig,
    chain: Chain,
    versions: BTreeMap<u64, u32>,
    consumer: RulesConsumer,
    /// Blocks that were undone, to come back perhaps.
    gone: Vec<Block>,
    highest: u64,
}

impl World {
    async fn new(seed: u64) -> Self {
        let rig = Rig::new().await;
        for number in [901, 902] {
            rig.channel(number).await;
        }
        for number in 1..=RULES {
            let confirmations = [0, 0, 1, 3, 12][usize::try_from(number - 1).unwrap()];
            rig.rule(number, confirmations, &[901, 902][..usize::try_from(number % 3).unwrap()])
                .await;
        }
        let consumer = rig.consumer();
        let (chain, versions, gone) = (Chain::default(), BTreeMap::new(), Vec::new());
        let rng = Rng::with_seed(seed);
        let mut world = Self { rng, rig, chain, versions, consumer, gone, highest: 0 };
        for number in 1..=RULES {
            world.change(number, true).await;
        }
        world
    }

    async fn change(&mut self, number: u64, new: bool) {
        let version = self.versions.entry(number).or_default();
        if new {
            *version += 1;
            let form = form(&mut self.rng);
            self.rig.version(number, *version, Some(&form)).await;
        } else {
            self.rig.version(number, *version, None).await;
        }
    }

    /// Makes some frames: new blocks, or a reorg, with blocks of before or others.
    fn grow(&mut self) {
        let reorg = self.rng.u8(..10) < 4 && !self.chain.branch.is_empty();
        if reorg {
            let most = self.chain.branch.len().min(64);
            let depth = if self.rng.bool() { self.rng.usize(1..=most) } else { 1.min(most) };
            let gone = self.chain.undo(depth);
            // Below the first block anything may be, or the same as before.
            if self.chain.branch.is_empty() && self.rng.bool() {
                self.chain.begin_above(self.rng.u64(..3));
            }
            if !std::mem::replace(&mut self.gone, gone).is_empty() && self.rng.bool() {
                return;
            }
        }
        let hash = self.chain.branch.last().map_or(self.chain.below.1, |head| head.hash);
        let back: Vec<_> =
            self.gone.iter().skip_while(|block| block.parent != hash).cloned().collect();
        if !back.is_empty() && self.rng.u8(..3) == 0 {
            let count = self.rng.usize(1..=back.len());
            back.into_iter().take(count).for_each(|block| self.chain.apply(block));
        } else {
            for _ in 0..self.rng.usize(1..7) {
                let count = self.rng.usize(..3);
                let values: Vec<_> = (0..count).map(|_| self.rng.u64(..8)).collect();
                let seconds = self.rng.u64(1..30);
                self.chain.mine(seconds, &values);
            }
        }
        self.highest = self.highest.max(self.chain.branch.last().map_or(0, |head| head.number));
    }

    /// Lets the consumer take some of the frames that there are, cut anywhere.
    async fn consume(&mut self, all: bool) {
        let mut cursor = self.consumer.cursor(CHAIN).await.unwrap();
        loop {
            let left = self.chain.after(cursor.sequence);
            if left.is_empty() || (!all && self.rng.u8(..4) == 0) {
                break;
            }
            let count = self.rng.usize(1..=left.len().min(30));
            cursor = self.consumer.apply(left[..count].to_vec()).await.unwrap();
        }
    }

    /// Reads some balances at the newest block that the rules have seen.
    async fn read(&mut self) {
        let Some(at) = self.rig.store.readings_block(CHAIN).await.unwrap() else { return };
        let accounts: Vec<_> = (1..=ACCOUNTS).filter(|_| self.rng.u8(..4) > 0).collect();
        let balances = accounts.into_iter().map(|number| ReadBalance {
            account: account(number),
            asset: "native".to_owned(),
            balance: balance(at.block.hash, number).to_string(),
        });
        let balances: Vec<_> = balances.collect();
        assert!(self.rig.store.put_readings(CHAIN, at.block, &balances, &[]).await.unwrap());
    }

    /// Asks the rules about what was read, though there are no frames.
    async fn ask(&self) {
        self.consumer.apply_to(CHAIN, Vec::new()).await.unwrap();
    }

    /// Some deliveries are sent meanwhile, or tried.
    async fn deliver(&mut self) {
        let statement = match self.rng.u8(..4) {
            0 => "UPDATE deliveries SET state = 'sent', maybe_told = 1 WHERE state = 'queued'",
            1 => "UPDATE deliveries SET maybe_told = 1 WHERE state = 'queued' AND kind = 'alert'",
            _ => return,
        };
        self.rig.execute(statement).await;
    }

    /// The last branch outgrows all others, as the followed one does.
    async fn outgrow(&mut self) {
        while self.chain.branch.last().is_none_or(|head| head.number < self.highest + 3) {
            self.chain.mine(13, &[5, 1]);
        }
        self.highest += 3;
        self.consume(true).await;
    }

    async fn run(&mut self) {
        // Some chains are long before it begins, so that reorgs can be deep.
        if self.rng.u8(..4) == 0 {
            (0..70)
                .for_each(|number| self.chain.mine(10, if number % 9 == 0 { &[5] } else { &[] }));
        }
        for _ in 0..self.rng.usize(4..12) {
            self.grow();
            match self.rng.u8(..12) {
                0 => {
                    let number = self.rng.u64(1..=RULES);
                    self.change(number, true).await;
                }
                1 => {
                    let number = self.rng.u64(1..=RULES);
                    self.change(number, false).await;
                }
                2 | 3 => self.consumer = self.rig.consumer(),
                _ => {}
            }
            for _ in 0..2 {
                self.consume(false).await;
                self.read().await;
                if self.rng.bool() {
                    self.ask().await;
                }
            }
            self.deliver().await;
        }
        self.outgrow().await;
        self.read().await;
        self.ask().await;
    }

    /// The alerts that stand, without what tells how often they came back.
    async fn standing(rig: &Rig) -> Vec<Vec<String>> {
        let query = format!("SELECT {ALERT} FROM alerts WHERE state <> 'retracted'");
        let mut rows = rig.rows(&query).await;
        for row in &mut rows {
            if row.pop().unwrap() != "1" {
                row[1].clear();
            }
        }
        rows.sort();
        rows
    }
}

async fn check_against_fresh(world: &World, seed: u64) {
    let twin = world.rig.twin().await;
    let mut fresh = Chain::default();
    world.chain.branch.iter().for_each(|block| fresh.apply(block.clone()));
    let readings = "SELECT CAST(height AS TEXT), lower(hex(block_hash)), account, asset, balance \
                    FROM balance_readings ORDER BY height, account";
    let readings = world.rig.rows(readings).await;
    let consumer = twin.consumer();
    let mut batch = Vec::new();
    for frame in fresh.frames {
        let (block, height) = (frame.block, frame.block.number.to_string());
        batch.push(frame);
        let here: Vec<_> = readings.iter().filter(|row| row[0] == height).collect();
        if here.is_empty() {
            continue;
        }
        consumer.apply(std::mem::take(&mut batch)).await.unwrap();
        let balances = here.iter().map(|row| {
            assert_eq!(format!("0x{}", row[1]), block.hash.to_string(), "seed {seed}");
            let [_, _, account, asset, balance] = &row[..] else { panic!() };
            let (account, asset) = (account.clone(), asset.clone());
            ReadBalance { account, asset, balance: balance.clone() }
        });
        let balances: Vec<_> = balances.collect();
        assert!(twin.store.put_readings(CHAIN, block, &balances, &[]).await.unwrap());
        consumer.apply_to(CHAIN, Vec::new()).await.unwrap();
    }
    if !batch.is_empty() {
        consumer.apply(batch).await.unwrap();
    }
    assert_eq!(readings.len(), twin.rows("SELECT account FROM balance_readings").await.len());
    let (mut found, mut expected) =
        (World::standing(&world.rig).await, World::standing(&twin).await);
    // An id differs from the fresh one's where the alert came back after it was retracted.
    let again: Vec<Vec<String>> =
        found.iter().filter(|row| row[1].is_empty()).map(|row| row[2..].to_vec()).collect();
    for row in &mut expected {
        if again.contains(&row[2..].to_vec()) {
            row[1].clear();
        }
    }
    found.sort();
    expected.sort();
    assert_same(&found, &expected, &format!("seed {seed}"));
}

/// Each alert has told each channel what it should have, once. In a rebuild a version may also watch
/// blocks that were there before it was taken up, and gone: what it finds in them nobody is told.
async fn check_deliveries(world: &World, seed: u64, rebuilt: bool) {
    let per_alert = "SELECT a.id, a.state, r.channels, \
        CAST((SELECT COUNT(*) FROM deliveries d WHERE d.alert_id = a.id AND d.kind = 'alert') AS TEXT), \
        CAST((SELECT COUNT(*) FROM deliveries d WHERE d.alert_id = a.id AND d.kind = 'alert' \
              AND (d.maybe_told = 1 OR d.state = 'sent')) AS TEXT), \
        CAST((SELECT COUNT(*) FROM deliveries d WHERE d.alert_id = a.id AND d.kind = 'retraction') AS TEXT), \
        CAST((SELECT COUNT(*) FROM deliveries d WHERE d.alert_id = a.id AND d.kind = 'alert' \
              AND d.state = 'queued') AS TEXT), \
        CAST(a.occurrence - 1 - (SELECT COUNT(*) FROM alerts b WHERE b.rule_id = a.rule_id \
              AND b.rule_version = a.rule_version AND b.block_hash = a.block_hash \
              AND b.record = a.record AND b.state = 'retracted' AND b.occurrence < a.occurrence) AS TEXT) \
        FROM alerts a JOIN rules r ON r.id = a.rule_id";
    for row in world.rig.rows(per_alert).await {
        let channels: Vec<String> = serde_json::from_str(&row[2]).unwrap();
        let number = |at: usize| row[at].parse::<usize>().unwrap();
        let (alerts, told, retractions, queued) = (number(3), number(4), number(5), number(6));
        match row[1].as_str() {
            "pending" => assert_eq!((alerts, retractions), (0, 0), "seed {seed}: {row:?}"),
            "confirmed" => {
                assert_eq!((alerts, retractions), (channels.len(), 0), "seed {seed}: {row:?}");
            }
            _ => {
                let untold = rebuilt && alerts == 0;
                assert!(untold || alerts == channels.len(), "seed {seed}: {row:?}");
                assert_eq!((retractions, queued), (told, 0), "seed {seed}: {row:?}");
            }
        }
        assert_eq!(row[7], "0", "seed {seed}: occurrences are counted through: {row:?}");
    }
    let lost = "SELECT id FROM deliveries WHERE alert_id NOT IN (SELECT id FROM alerts)";
    assert!(world.rig.column(lost).await.is_empty(), "seed {seed}");
}

/// Fails with what only one of two tables has.
fn assert_same(found: &[Vec<String>], expected: &[Vec<String>], what: &str) {
    let only = |a: &[Vec<String>], b: &[Vec<String>]| -> Vec<Vec<String>> {
        a.iter().filter(|row| !b.contains(row)).take(5).cloned().collect()
    };
    let (more, less) = (only(found, expected), only(expected, found));
    let same = more.is_empty() && less.is_empty() && found.len() == expected.len();
    assert!(same, "{what}: {} rows\ntoo much {more:#?}\nmissing {less:#?}", found.len());
}

/// After a reset the frames bring back the same alerts, and nothing is queued again; nor is it when
/// there are other frames for the same blocks.
async fn check_rebuild(world: &mut World, seed: u64) {
    let standing = format!("SELECT {ALERT} FROM alerts WHERE state <> 'retracted' ORDER BY id");
    let retracted = "SELECT id, CAST(retracted_at AS TEXT) FROM alerts \
                     WHERE state = 'retracted' AND confirmed_at IS NOT NULL ORDER BY id";
    let deliveries = "SELECT alert_id, channel_id, kind, state FROM deliveries ORDER BY 1, 2, 3";
    // A channel added since then is not told of history.
    let more = format!("UPDATE rules SET channels = '[\"{}\",\"{}\"]'", uuid(901), uuid(902));
    world.rig.execute(&more).await;
    for other_frames in [false, true] {
        let name = format!("seed {seed}, other frames: {other_frames}");
        if other_frames {
            let mut fresh = Chain::default();
            world.chain.branch.iter().for_each(|block| fresh.apply(block.clone()));
            fresh.hashes = world.chain.hashes;
            world.chain = fresh;
        }
        world.rig.clock.advance(1000);
        let before = world.rig.rows(&standing).await;
        let retracted_before = world.rig.rows(retracted).await;
        let told = world.rig.rows(deliveries).await;
        world.consumer.reset(CHAIN).await.unwrap();
        world.consume(false).await;
        world.consumer = world.rig.consumer();
        if world.rng.bool() {
            world.consumer.reset(CHAIN).await.unwrap();
        }
        world.consume(true).await;
        assert_same(&world.rig.rows(&standing).await, &before, &name);
        assert_same(&world.rig.rows(deliveries).await, &told, &name);
        // The next block ends a rebuild that came another way.
        world.chain.mine(1, &[]);
        world.consume(true).await;
        let now = world.rig.rows(retracted).await;
        let lost: Vec<_> = retracted_before.iter().filter(|row| !now.contains(row)).collect();
        assert!(lost.is_empty(), "{name}: {lost:?}");
        check_ended(world, &name).await;
    }
}

/// Nothing is left of a rebuild.
async fn check_ended(world: &World, name: &str) {
    let rebuilding = "SELECT name FROM consumers WHERE rebuild_sequence IS NOT NULL";
    assert!(world.rig.column(rebuilding).await.is_empty(), "{name}");
    // Of heights below its first block nothing can be said.
    let left = "SELECT id FROM alerts WHERE replayed = 0 \
                AND height >= (SELECT first_height FROM consumers)";
    let left = world.rig.column(left).await;
    assert!(left.is_empty(), "{name}: {left:?}");
}

/// While alerts are rebuilt the chain moves, rules change and the consumer restarts.
async fn check_moving_rebuild(world: &mut World, seed: u64) {
    for round in 0..2 {
        world.consumer.reset(CHAIN).await.unwrap();
        for _ in 0..world.rng.usize(1..5) {
            world.consume(false).await;
            let number = world.rng.u64(1..=RULES);
            match world.rng.u8(..4) {
                0 => world.change(number, true).await,
                1 => world.change(number, false).await,
                2 => world.consumer = world.rig.consumer(),
                _ => world.grow(),
            }
            world.deliver().await;
        }
        world.outgrow().await;
        // What waited for the end of the rebuild is taken up, without a frame if need be.
        world.consumer.apply_to(CHAIN, Vec::new()).await.unwrap();
        check_ended(world, &format!("seed {seed}, round {round}")).await;
        check_against_fresh(world, seed).await;
        check_deliveries(world, seed, true).await;
    }
}

#[tokio::test]
async fn alerts_are_those_of_a_fresh_run_over_the_final_chain() {
    let (mut standing, mut retracted, mut again, mut of_balances) = (0, 0, 0, [0, 0]);
    for seed in 0..SEEDS {
        let mut world = World::new(seed).await;
        world.run().await;
        check_against_fresh(&world, seed).await;
        check_deliveries(&world, seed, false).await;
        let states = world.rig.rows("SELECT state, CAST(occurrence AS TEXT) FROM alerts").await;
        standing += states.iter().filter(|row| row[0] != "retracted").count();
        retracted += states.iter().filter(|row| row[0] == "retracted").count();
        for (of, state) in of_balances.iter_mut().zip(["<>", "="]) {
            let query =
                format!("SELECT id FROM alerts WHERE is_reading = 1 AND state {state} 'retracted'");
            *of += world.rig.rows(&query).await.len();
        }
        again += states.iter().filter(|row| row[1] != "1").count();
        match seed % REBUILD_EVERY {
            0 => check_rebuild(&mut world, seed).await,
            1 => check_moving_rebuild(&mut world, seed).await,
            _ => {}
        }
    }
    // The runs have to be about something.
    assert!(standing > 1000 && retracted > 1000 && again > 100, "{standing} {retracted} {again}");
    assert!(of_balances.iter().all(|alerts| *alerts > 100), "{of_balances:?}");
}
