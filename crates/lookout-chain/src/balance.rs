//! Balances: native and ERC-20, on one upstream's word, on two, or proved.

use std::sync::Arc;

use alloy_primitives::U256;
use bytes::Bytes;
use lookout_types::{Address, Amount, BlockRef, BlockSelector, ETHER_DECIMALS, Hash};
use tokio::time::Instant;

use crate::check::{Check, Form};
use crate::core::{About, Core, Question};
use crate::methods;
use crate::params::array;
use crate::pool::{Call, Lost, Reject};
use crate::upstream::Request;
use crate::verify;
use crate::{Answer, AnswerMeta, Attempt, Balance, ChainError, Level, Verify};

/// First four bytes of keccak-256 of `balanceOf(address)` (EIP-20).
const BALANCE_OF: &str = "70a08231";
/// First four bytes of keccak-256 of `decimals()` (EIP-20).
const DECIMALS: &str = "313ce567";
/// Answers compared for `verify=quorum` before giving up on agreement.
const WORDS_MAX: usize = 4;

/// A state read at one block: what a balance is made of.
struct StateRead {
    method: &'static str,
    /// The parameters before the block.
    params: Vec<String>,
}

impl StateRead {
    fn native(address: Address) -> Self {
        // Lowercase, so that every spelling of an address shares one cache entry.
        let spelled = format!("\"{address:x}\"");
        Self { method: "eth_getBalance", params: vec![spelled] }
    }

    fn call(contract: Address, data: &str) -> Self {
        let call = format!("{{\"to\":\"{contract}\",\"data\":\"0x{data}\"}}");
        Self { method: "eth_call", params: vec![call] }
    }

    fn token(asset: Address, holder: Address) -> Self {
        let digits = format!("{holder:x}");
        Self::call(asset, &format!("{BALANCE_OF}{:0>64}", digits.trim_start_matches("0x")))
    }

    fn with_block(&self, block: &str) -> String {
        let mut parts: Vec<&str> = self.params.iter().map(String::as_str).collect();
        parts.push(block);
        array(&parts)
    }
}

impl Core {
    /// Native or ERC-20 balance of an address at a block.
    pub(crate) async fn balance(
        self: &Arc<Self>,
        address: Address,
        asset: Option<Address>,
        at: BlockSelector,
        verify: Verify,
    ) -> Result<Balance, ChainError> {
        if verify == Verify::Proof && asset.is_some() {
            return Err(ChainError::Invalid(
                "`verify=proof` proves native balances only: where a token keeps its balances is \
                 known to its contract alone; use `verify=quorum`"
                    .to_owned(),
            ));
        }
        let block = self.resolve(at).await?;
        let read = match asset {
            None => StateRead::native(address),
            Some(asset) => StateRead::token(asset, address),
        };
        let (amount, meta) = match verify {
            Verify::Standard => {
                let answer = self.read_state(&read, block).await?;
                (parse_amount(&answer.result, asset)?, answer.meta)
            }
            // Boxed: rare and large, and a future is moved several times on its way to be polled.
            Verify::Quorum => Box::pin(self.agreed_amount(&read, block, asset)).await?,
            Verify::Proof => Box::pin(self.proved_balance(address, block)).await?,
        };
        let decimals = match asset {
            None => Some(ETHER_DECIMALS),
            Some(asset) => Box::pin(self.token_decimals(asset, block)).await?,
        };
        let meta = AnswerMeta { block: Some(block), ..meta };
        Ok(Balance { amount: Amount(amount), decimals, meta })
    }

    /// One state read, kept under the block's hash.
    async fn read_state(
        self: &Arc<Self>,
        read: &StateRead,
        block: BlockRef,
    ) -> Result<Answer, ChainError> {
        let canonical = self.canonical();
        let about = match canonical.by_hash(&block.hash) {
            Some(known) => About::Followed(known.clone()),
            None => About::Hash(block.hash),
        };
        let params: Vec<&str> = read.params.iter().map(String::as_str).collect();
        let key = self.key(&about, read.method, &params);
        // Looked up before the question is spelled out, which costs more than the look.
        if let Some(kept) = self.kept(&key).await {
            return Ok(kept);
        }
        let question = Question {
            method: methods::known(read.method),
            params: read.with_block(&by_hash(&block.hash)),
            by_number: Some(read.with_block(&format!("\"{:#x}\"", block.number))),
            key,
            about,
            check: Check::State(Form::of(read.method)),
        };
        let fetched = Box::pin(self.fetch_shared(question)).await;
        fetched.map_err(|lost| self.state_missing(lost, block))
    }

    /// Why there is no state, as the upstreams' failure that it is: the block exists.
    fn state_missing(&self, lost: Lost, block: BlockRef) -> ChainError {
        let problem = format!("has no state of block {}", block.number);
        match lost {
            Lost::Absent(error) => ChainError::Node(error),
            Lost::Nothing(_, upstream) => ChainError::Upstreams {
                chain: self.name(),
                attempts: vec![Attempt { upstream: upstream.to_string(), problem }],
            },
            lost => lost.or_missing(|| self.unavailable()),
        }
    }

    /// Asks one upstream after another until two say the same.
    async fn agreed_amount(
        self: &Arc<Self>,
        read: &StateRead,
        block: BlockRef,
        asset: Option<Address>,
    ) -> Result<(U256, AnswerMeta), ChainError> {
        if self.pool.upstreams.len() < 2 {
            // No upstream is at fault and no retry helps: the question does not fit the chain.
            return Err(ChainError::Invalid(format!(
                "agreement needs two upstreams and chain `{}` has one; use `verify=proof`",
                self.pool.chain
            )));
        }
        let begun = Instant::now();
        let params = read.with_block(&by_hash(&block.hash));
        let mut words: Vec<(U256, Arc<str>)> = Vec::new();
        let mut asked: Vec<Arc<str>> = Vec::new();
        while asked.len() < WORDS_MAX.min(self.pool.upstreams.len()) {
            let call = Call {
                method: methods::known(read.method),
                params: &params,
                height: Some(block.number),
                request: Request::One,
                deadline: self.pool.deadline(),
                except: &asked,
            };
            let form = Check::State(Form::of(read.method));
            let accept = |json: &Bytes| form.run(json, &self.rules, &self.canonical());
            let won = self.pool.ask(call, accept).await;
            let won = won.map_err(|lost| self.state_missing(lost, block))?;
            let amount = parse_amount(&won.result, asset)?;
            asked.push(won.upstream.clone());
            if words.iter().any(|(other, _)| *other == amount) {
                return Ok((amount, self.meta(Level::Quorum, block, won.upstream, begun)));
            }
            words.push((amount, won.upstream));
        }
        Err(ChainError::Unproved {
            chain: self.name(),
            reason: format!("{0} upstreams gave {0} different answers", words.len()),
        })
    }

    fn meta(
        &self,
        level: Level,
        block: BlockRef,
        upstream: Arc<str>,
        begun: Instant,
    ) -> AnswerMeta {
        AnswerMeta {
            block: Some(block),
            level,
            note: None,
            upstream: Some(upstream),
            cached: false,
            upstream_time: begun.elapsed(),
        }
    }

    /// The balance as `eth_getProof` proves it against the state root of the block's header.
    async fn proved_balance(
        self: &Arc<Self>,
        address: Address,
        block: BlockRef,
    ) -> Result<(U256, AnswerMeta), ChainError> {
        let unproved = |reason: String| ChainError::Unproved { chain: self.name(), reason };
        let known = self.followed_header(block).await?;
        if let Some(why) = known.unverifiable {
            return Err(unproved(why.to_owned()));
        }
        let begun = Instant::now();
        let root = known.header.state_root;
        let spelled = format!("\"{address:x}\"");
        let read = StateRead { method: "eth_getProof", params: vec![spelled, "[]".to_owned()] };
        let by_hash = read.with_block(&by_hash(&block.hash));
        let by_number = read.with_block(&format!("\"{:#x}\"", block.number));
        let accept = |json: &Bytes| {
            if &json[..] == b"null" {
                return Err(Reject::Missing);
            }
            verify::check_account_proof(json, address, root)
                .map_err(|error| Reject::Lie(error.to_string()))
        };
        let mut last = None;
        // A proof by number proves as much: it must lead to the same state root.
        for params in [&by_hash, &by_number] {
            let call = Call {
                method: methods::known("eth_getProof"),
                params,
                height: Some(block.number),
                request: Request::One,
                deadline: self.pool.deadline(),
                except: &[],
            };
            match self.pool.ask(call, accept).await {
                Ok(won) => {
                    let meta = self.meta(Level::Proof, block, won.upstream, begun);
                    return Ok((won.value.balance, meta));
                }
                Err(lost) => last = Some(lost),
            }
        }
        let reason = match last {
            Some(Lost::Failed(ChainError::Node(error)) | Lost::Absent(error)) => error.message,
            Some(lost) => self.state_missing(lost, block).to_string(),
            None => "no upstream was asked".to_owned(),
        };
        Err(unproved(reason))
    }

    /// `decimals()` of a token; `None` when the contract does not tell.
    async fn token_decimals(
        self: &Arc<Self>,
        asset: Address,
        block: BlockRef,
    ) -> Result<Option<u8>, ChainError> {
        match self.read_state(&StateRead::call(asset, DECIMALS), block).await {
            Ok(answer) => Ok(parse_word(&answer.result).and_then(|word| u8::try_from(word).ok())),
            // `decimals()` is optional in EIP-20, so a revert is an answer.
            Err(ChainError::Node(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn by_hash(hash: &Hash) -> String {
    format!("{{\"blockHash\":\"{hash}\"}}")
}

/// A balance as `eth_getBalance` or `balanceOf` answers it.
fn parse_amount(json: &[u8], asset: Option<Address>) -> Result<U256, ChainError> {
    match asset {
        None => parse_quantity(json).ok_or_else(|| {
            ChainError::Invalid("the node's balance is not a quantity below 2^256".to_owned())
        }),
        Some(asset) => parse_word(json).ok_or_else(|| {
            ChainError::Invalid(format!(
                "`{asset}` does not answer `balanceOf` with a 32-byte word: no token there at \
                 that block"
            ))
        }),
    }
}

fn parse_quantity(json: &[u8]) -> Option<U256> {
    let text: &str = serde_json::from_slice(json).ok()?;
    text.parse::<Amount>().ok().filter(|_| text.starts_with("0x")).map(|amount| amount.0)
}

/// The first 32-byte word of call data that is whole words; `0x` is no word.
fn parse_word(json: &[u8]) -> Option<U256> {
    let text: &str = serde_json::from_slice(json).ok()?;
    let digits = text.strip_prefix("0x")?;
    let word = digits.get(..64).filter(|_| digits.len().is_multiple_of(64))?;
    U256::from_str_radix(word, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly() {
        assert_eq!(parse_quantity(b"\"0x0\""), Some(U256::ZERO));
        let big = format!("\"0x1{}\"", "0".repeat(50));
        assert_eq!(parse_quantity(big.as_bytes()), Some(U256::ONE << 200));
        for bad in ["\"0x\"", "\"12\"", "null", "7", "\"\"", "\"0xzz\""] {
            assert_eq!(parse_quantity(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn words_are_whole_or_nothing() {
        let word = format!("\"0x{:064x}\"", 42);
        assert_eq!(parse_word(word.as_bytes()), Some(U256::from(42)));
        for bad in ["\"0x\"", "\"0x2a\"", "null", &format!("\"0x{:062x}\"", 42)] {
            assert_eq!(parse_word(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn balance_of_is_encoded_as_the_abi_says() {
        let holder: Address = "0xc94770007dda54cF92009BFF0dE90c06F603a09f".parse().unwrap();
        let read = StateRead::token(Address([0x11; 20]), holder);
        assert_eq!(
            read.with_block("\"latest\""),
            "[{\"to\":\"0x1111111111111111111111111111111111111111\",\"data\":\"0x70a08231\
             000000000000000000000000c94770007dda54cf92009bff0de90c06f603a09f\"},\"latest\"]"
        );
    }
}
