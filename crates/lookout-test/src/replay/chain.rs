//! The synthetic chain: templates of blocks that repeat, and a header for each height.

use super::ReplaySpec;
use super::filter::Wanted;
use super::rlp::{List, keccak};

/// Different blocks of logs; they repeat, with hashes and heights of their own.
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
/// Hash of the empty list: no uncles.
const NO_UNCLES: [u8; 32] = match const_hex::const_decode_to_array(
    b"1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347",
) {
    Ok(hash) => hash,
    Err(_) => panic!("64 hex digits"),
};
/// Root of a trie without leaves.
const NO_LEAVES: [u8; 32] = match const_hex::const_decode_to_array(
    b"56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421",
) {
    Ok(root) => root,
    Err(_) => panic!("64 hex digits"),
};
const GAS_LIMIT: u64 = 1_000_000_000;
const GAS_PER_TRANSFER: u64 = 50_000;
const BASE_FEE: u64 = 7;
/// Block time of the genesis: 2020-09-13, so that years of blocks are in the past.
const GENESIS_TIME: u64 = 1_600_000_000;
const SECONDS_PER_BLOCK: u64 = 12;

/// One transfer of a template, and its JSON up to the block's height.
struct Transfer {
    token: [u8; 20],
    topics: [[u8; 32]; 3],
    json: Vec<u8>,
}

struct Template {
    transfers: Vec<Transfer>,
    bloom: [u8; 256],
}

/// All blocks.
pub(super) struct Chain {
    pub(super) id: u64,
    seed: u64,
    templates: Vec<Template>,
    tokens: Vec<[u8; 20]>,
    /// By height.
    hashes: Vec<[u8; 32]>,
}

impl Chain {
    pub(super) fn make(spec: &ReplaySpec) -> Self {
        let mut random = fastrand::Rng::with_seed(spec.seed);
        let tokens: Vec<[u8; 20]> =
            (0..spec.tokens).map(|number| address("token", u64::from(number))).collect();
        let count = spec.blocks.clamp(1, TEMPLATES_MAX);
        let templates = (0..count)
            .map(|_| Template::make(spec.transfers_per_block, &tokens, &mut random))
            .collect();
        let mut chain =
            Self { id: spec.chain_id, seed: spec.seed, templates, tokens, hashes: Vec::new() };
        for height in 0..=spec.blocks {
            let hash = chain.hash(height);
            chain.hashes.push(hash);
        }
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
        self.hashes.iter().position(|own| *own == hash).map(|height| height as u64)
    }

    /// The genesis has no logs.
    fn template(&self, height: u64) -> Option<&Template> {
        let at = height.checked_sub(1)? % self.templates.len() as u64;
        self.templates.get(usize::try_from(at).ok()?)
    }

    fn transfers(&self, height: u64) -> &[Transfer] {
        self.template(height).map_or(&[], |template| &template.transfers)
    }

    fn bloom(&self, height: u64) -> [u8; 256] {
        self.template(height).map_or([0; 256], |template| template.bloom)
    }

    fn parent(&self, height: u64) -> [u8; 32] {
        let below = height.checked_sub(1).and_then(|below| usize::try_from(below).ok());
        below.and_then(|below| self.hashes.get(below)).copied().unwrap_or_default()
    }

    /// Roots that lead nowhere.
    fn root(&self, of: &str, height: u64) -> [u8; 32] {
        if self.transfers(height).is_empty() {
            NO_LEAVES
        } else {
            keccak(&[of.as_bytes(), &self.seed.to_be_bytes(), &height.to_be_bytes()].concat())
        }
    }

    fn gas_used(&self, height: u64) -> u64 {
        self.transfers(height).len() as u64 * GAS_PER_TRANSFER
    }

    /// The hash of a header whose parent is known.
    fn hash(&self, height: u64) -> [u8; 32] {
        List::default()
            .bytes(&self.parent(height))
            .bytes(&NO_UNCLES)
            .bytes(&[0; 20])
            .bytes(&self.state_root())
            .bytes(&self.root("transactions", height))
            .bytes(&self.root("receipts", height))
            .bytes(&self.bloom(height))
            .number(0)
            .number(height)
            .number(GAS_LIMIT)
            .number(self.gas_used(height))
            .number(GENESIS_TIME + SECONDS_PER_BLOCK * height)
            .bytes(&[])
            .bytes(&[0; 32])
            .bytes(&[0; 8])
            .number(BASE_FEE)
            .bytes(&NO_LEAVES)
            .hash()
    }

    fn state_root(&self) -> [u8; 32] {
        keccak(&[b"state".as_slice(), &self.seed.to_be_bytes()].concat())
    }

    /// Appends the block at a height below or at the head, its transactions as hashes.
    pub(super) fn write_block(&self, height: u64, into: &mut Vec<u8>) {
        let hash = usize::try_from(height).ok().and_then(|at| self.hashes.get(at));
        let hex = |bytes: &[u8]| const_hex::encode_prefixed(bytes);
        let header = format!(
            "{{\"hash\":\"{}\",\"parentHash\":\"{}\",\"sha3Uncles\":\"{}\",\"miner\":\"{}\",\
             \"stateRoot\":\"{}\",\"transactionsRoot\":\"{}\",\"receiptsRoot\":\"{}\",\
             \"logsBloom\":\"{}\",\"difficulty\":\"0x0\",\"number\":\"{height:#x}\",\
             \"gasLimit\":\"{GAS_LIMIT:#x}\",\"gasUsed\":\"{:#x}\",\"timestamp\":\"{:#x}\",\
             \"extraData\":\"0x\",\"mixHash\":\"{}\",\"nonce\":\"0x0000000000000000\",\
             \"baseFeePerGas\":\"{BASE_FEE:#x}\",\"withdrawalsRoot\":\"{}\",\"withdrawals\":[],\
             \"uncles\":[],\"size\":\"0x400\",\"transactions\":[",
            hex(hash.unwrap_or(&[0; 32])),
            hex(&self.parent(height)),
            hex(&NO_UNCLES),
            hex(&[0; 20]),
            hex(&self.state_root()),
            hex(&self.root("transactions", height)),
            hex(&self.root("receipts", height)),
            hex(&self.bloom(height)),
            self.gas_used(height),
            GENESIS_TIME + SECONDS_PER_BLOCK * height,
            hex(&[0; 32]),
            hex(&NO_LEAVES),
        );
        into.extend_from_slice(header.as_bytes());
        for at in 0..self.transfers(height).len() as u64 {
            into.extend_from_slice(if at > 0 { b",\"0x" } else { b"\"0x" });
            into.extend_from_slice(&self.transaction(height, at));
            into.push(b'"');
        }
        into.extend_from_slice(b"]}");
    }

    /// Appends the wanted logs of a block, each with a comma behind it.
    pub(super) fn write_logs(&self, height: u64, wanted: &Wanted, into: &mut Vec<u8>) {
        let Some(hash) = usize::try_from(height).ok().and_then(|at| self.hashes.get(at)) else {
            return;
        };
        let hash = hex_digits(hash);
        let number = format!("{height:x}");
        for (at, transfer) in (0_u64..).zip(self.transfers(height)) {
            if !wanted.takes(transfer) {
                continue;
            }
            into.extend_from_slice(&transfer.json);
            into.extend_from_slice(number.as_bytes());
            into.extend_from_slice(b"\",\"transactionHash\":\"0x");
            into.extend_from_slice(&self.transaction(height, at));
            into.extend_from_slice(b"\",\"transactionIndex\":\"0x");
            write_hex(at, into);
            into.extend_from_slice(b"\",\"blockHash\":\"0x");
            into.extend_from_slice(&hash);
            into.extend_from_slice(b"\",\"logIndex\":\"0x");
            write_hex(at, into);
            into.extend_from_slice(b"\",\"removed\":false},");
        }
    }

    /// Roughly how many bytes the logs of a block take.
    pub(super) fn logs_bytes(&self, height: u64) -> usize {
        self.transfers(height).iter().map(|transfer| transfer.json.len() + 260).sum()
    }

    /// The hash of a transaction in hex: mixed, not hashed, as that would cost more than the rest.
    fn transaction(&self, height: u64, at: u64) -> [u8; 64] {
        let mut bytes = [0; 32];
        let mut state = self.seed ^ height.wrapping_mul(1 << 20).wrapping_add(at);
        for word in bytes.chunks_exact_mut(8) {
            state = mix(state);
            word.copy_from_slice(&state.to_be_bytes());
        }
        hex_digits(&bytes)
    }
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
    fn make(transfers: u32, tokens: &[[u8; 20]], random: &mut fastrand::Rng) -> Self {
        let holder = |random: &mut fastrand::Rng| {
            let mut topic = [0; 32];
            topic[12..].copy_from_slice(&address("holder", random.u64(..HOLDERS)));
            topic
        };
        let mut bloom = [0; 256];
        let transfers = (0..transfers).map(|_| {
            let token = random.choice(tokens).copied().unwrap_or_default();
            let topics = [TRANSFER, holder(random), holder(random)];
            let amount = random.u64(1..1 << 40);
            accrue(&token, &mut bloom);
            topics.iter().for_each(|topic| accrue(topic, &mut bloom));
            let [event, from, to] = topics.map(const_hex::encode_prefixed);
            let json = format!(
                "{{\"address\":\"{}\",\"topics\":[\"{event}\",\"{from}\",\"{to}\"],\
                 \"data\":\"0x{amount:064x}\",\"blockNumber\":\"0x",
                const_hex::encode_prefixed(token),
            );
            Transfer { token, topics, json: json.into_bytes() }
        });
        Self { transfers: transfers.collect(), bloom }
    }
}

/// Sets the three bits of an address or topic (Yellow Paper, section 4.3.1).
fn accrue(bytes: &[u8], bloom: &mut [u8; 256]) {
    let hash = keccak(bytes);
    for pair in hash[..6].chunks_exact(2) {
        let bit = usize::from(pair[0]) << 8 | usize::from(pair[1]);
        bloom[255 - (bit & 2047) / 8] |= 1 << (bit & 7);
    }
}

fn address(of: &str, number: u64) -> [u8; 20] {
    let hash = keccak(&[of.as_bytes(), &number.to_be_bytes()].concat());
    *hash.last_chunk().expect("a hash is longer than an address")
}

fn hex_digits(bytes: &[u8; 32]) -> [u8; 64] {
    let mut digits = [0; 64];
    const_hex::encode_to_slice(bytes, &mut digits).expect("twice as many digits as bytes");
    digits
}

/// The number's hex digits without leading zeros, without the cost of a formatter.
fn write_hex(number: u64, into: &mut Vec<u8>) {
    let digits = (64 - number.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        into.push(b"0123456789abcdef"[usize::try_from(number >> (4 * place) & 15).unwrap_or(0)]);
    }
}

/// One step of `SplitMix64`.
fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
