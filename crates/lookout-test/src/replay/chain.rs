//! The synthetic chain: templates of blocks that repeat, and a header for each height.

use alloy_consensus::Header;
use alloy_primitives::keccak256;

use super::ReplaySpec;
use super::filter::Wanted;
use super::stencil::{Fill, HASH, NUMBER, PARENT, Stencil, TIMESTAMP};
use crate::block::{self, Body, Call, Detail, Event, Kind, Place, Signer, header, header_json};

/// Different blocks; they repeat, with hashes and heights of their own.
const TEMPLATES_MAX: u64 = 64;
/// Addresses that hold the tokens.
const HOLDERS: u64 = 4096;
/// `Transfer(address,address,uint256)`.
const TRANSFER: [u8; 32] = match const_hex::const_decode_to_array(
    b"ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef",
) {
    Ok(topic) => topic,
    Err(_) => panic!("64 hex digits"),
};
/// One transaction in so many is of the oldest type, as on Ethereum lately.
const LEGACY_EACH: usize = 4;
/// Block time of the genesis: 2020-09-13, so that years of blocks are in the past.
const GENESIS_TIME: u64 = 1_600_000_000;
const SECONDS_PER_BLOCK: u64 = 12;

/// One log of a template: what filters look at, and its text.
struct Transfer {
    token: [u8; 20],
    topics: [[u8; 32]; 3],
    json: Stencil,
}

/// A block without its place in the chain. Nothing that its transactions and receipts are hashed over
/// depends on that, so its roots hold wherever it stands.
struct Template {
    header: Header,
    transfers: Vec<Transfer>,
    by_hashes: Stencil,
    by_objects: Stencil,
    receipts: Stencil,
}

/// All blocks.
pub(super) struct Chain {
    pub(super) id: u64,
    templates: Vec<Template>,
    genesis: Template,
    tokens: Vec<[u8; 20]>,
    /// By height.
    hashes: Vec<[u8; 32]>,
    /// Heights, ordered by the hashes of their blocks.
    by_hash: Vec<u32>,
}

impl Chain {
    pub(super) fn make(spec: &ReplaySpec) -> Self {
        let mut random = fastrand::Rng::with_seed(spec.seed);
        let tokens: Vec<[u8; 20]> =
            (0..spec.tokens).map(|number| address("token", u64::from(number))).collect();
        let count = spec.blocks.clamp(1, TEMPLATES_MAX);
        let seed = spec.seed.to_be_bytes();
        let templates = (0..count).map(|number| {
            let calls = 0..spec.transfers_per_block as usize;
            let calls = calls.map(|at| transfer(at, &tokens, &mut random)).collect();
            Template::make(spec.chain_id, number, &seed, calls)
        });
        let templates = templates.collect();
        let genesis = Template::make(spec.chain_id, 0, &seed, Vec::new());
        let (id, hashes, by_hash) = (spec.chain_id, Vec::new(), Vec::new());
        let mut chain = Self { id, templates, genesis, tokens, hashes, by_hash };
        for height in 0..=u32::try_from(spec.blocks).unwrap_or(u32::MAX) {
            let hash = chain.hash(u64::from(height));
            chain.hashes.push(hash);
            chain.by_hash.push(height);
        }
        let hashes = &chain.hashes;
        chain.by_hash.sort_unstable_by_key(|height| hashes[*height as usize]);
        chain
    }

    pub(super) fn head(&self) -> u64 {
        self.hashes.len() as u64 - 1
    }

    pub(super) fn tokens(&self) -> Vec<String> {
        self.tokens.iter().map(const_hex::encode_prefixed).collect()
    }

    /// The height of the block with this hash.
    pub(super) fn height_of(&self, hash: [u8; 32]) -> Option<u64> {
        let own = |height: &u32| self.hashes[*height as usize];
        let at = self.by_hash.binary_search_by_key(&hash, own).ok()?;
        Some(u64::from(self.by_hash[at]))
    }

    fn template(&self, height: u64) -> &Template {
        let above = height.checked_sub(1).and_then(|above| usize::try_from(above).ok());
        above.map_or(&self.genesis, |above| &self.templates[above % self.templates.len()])
    }

    fn parent(&self, height: u64) -> [u8; 32] {
        let below = height.checked_sub(1).and_then(|below| usize::try_from(below).ok());
        below.and_then(|below| self.hashes.get(below)).copied().unwrap_or_default()
    }

    /// The hash of a header whose parent is known.
    fn hash(&self, height: u64) -> [u8; 32] {
        let template = &self.template(height).header;
        let (parent_hash, timestamp) = (self.parent(height).into(), time(height));
        let header = Header { parent_hash, number: height, timestamp, ..template.clone() };
        header.hash_slow().0
    }

    /// What stands in the stencils of a block below or at the head.
    fn fill(&self, height: u64) -> Fill {
        let own = usize::try_from(height).ok().and_then(|at| self.hashes.get(at));
        let hash = own.copied().unwrap_or_default();
        Fill::new(&hash, &self.parent(height), height, time(height))
    }

    /// Appends the block at a height below or at the head.
    pub(super) fn write_block(&self, height: u64, detail: Detail, into: &mut Vec<u8>) {
        let template = self.template(height);
        let stencil = match detail {
            Detail::Hashes => &template.by_hashes,
            Detail::Objects => &template.by_objects,
        };
        stencil.write(&self.fill(height), into);
    }

    /// Appends the receipts of the block at a height below or at the head.
    pub(super) fn write_receipts(&self, height: u64, into: &mut Vec<u8>) {
        self.template(height).receipts.write(&self.fill(height), into);
    }

    /// Appends the wanted logs of a block, each with a comma behind it.
    pub(super) fn write_logs(&self, height: u64, wanted: &Wanted, into: &mut Vec<u8>) {
        let fill = self.fill(height);
        for transfer in &self.template(height).transfers {
            if wanted.takes(transfer) {
                transfer.json.write(&fill, into);
                into.push(b',');
            }
        }
    }

    /// About how many bytes the logs of a block take.
    pub(super) fn logs_bytes(&self, height: u64) -> usize {
        self.template(height).transfers.iter().map(|transfer| transfer.json.bytes() + 1).sum()
    }
}

fn time(height: u64) -> u64 {
    GENESIS_TIME + SECONDS_PER_BLOCK * height
}

impl Wanted {
    fn takes(&self, transfer: &Transfer) -> bool {
        let has = |place: usize, any: &Option<Vec<[u8; 32]>>| {
            transfer
                .topics
                .get(place)
                .is_some_and(|topic| any.as_ref().is_none_or(|any| any.contains(topic)))
        };
        self.addresses.as_ref().is_none_or(|any| any.contains(&transfer.token))
            && self.topics.iter().enumerate().all(|(place, any)| has(place, any))
    }
}

impl Template {
    fn make(chain_id: u64, number: u64, seed: &[u8], calls: Vec<Call>) -> Self {
        // Each template has a sender of its own, whose nonces begin at 0.
        let body = Body::seal(&Signer::numbered(number), chain_id, 0, calls);
        let place = Place { number: NUMBER, hash: HASH };
        let header = header(PARENT, NUMBER, TIMESTAMP, seed, &body);
        let block = |detail| {
            let transactions = block::transactions_json(&body, place, detail);
            Stencil::cut(&header_json(&header, HASH, transactions))
        };
        let log_json = |at| Stencil::cut(&block::log_json(&body, place, at));
        let transfers = body.logs().filter_map(|(transaction, log)| {
            let event = &body.transactions[transaction].call.events[log];
            let topics = <[_; 3]>::try_from(event.topics.as_slice()).ok()?;
            Some(Transfer { token: event.address, topics, json: log_json((transaction, log)) })
        });
        Self {
            transfers: transfers.collect(),
            by_hashes: block(Detail::Hashes),
            by_objects: block(Detail::Objects),
            receipts: Stencil::cut(&block::receipts_json(&body, place)),
            header,
        }
    }
}

fn transfer(at: usize, tokens: &[[u8; 20]], random: &mut fastrand::Rng) -> Call {
    let token = random.choice(tokens).copied().unwrap_or_default();
    let [from, to] = [(); 2].map(|()| address("holder", random.u64(..HOLDERS)));
    let topic = |address: &[u8; 20]| {
        let mut topic = [0; 32];
        topic[12..].copy_from_slice(address);
        topic
    };
    let mut data = vec![0; 24];
    data.extend(random.u64(1..1 << 40).to_be_bytes());
    let kind = if at.is_multiple_of(LEGACY_EACH) { Kind::Legacy } else { Kind::DynamicFee };
    let event = Event { address: token, topics: vec![TRANSFER, topic(&from), topic(&to)], data };
    Call::transfer(kind, event, from, to)
}

fn address(of: &str, number: u64) -> [u8; 20] {
    let hash = keccak256([of.as_bytes(), &number.to_be_bytes()].concat());
    *hash.last_chunk().expect("a hash is longer than an address")
}
