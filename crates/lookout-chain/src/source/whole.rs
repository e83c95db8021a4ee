//! Whole blocks: transactions with their outcomes, and all logs, recomputed to the header's roots.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use lookout_types::{BlockRef, Hash, Height, Log};

use super::evm::{EvmSource, failed, told as told_header};
use super::headers::Batch;
use super::{SourceBlock, SourceError};
use crate::ChainError;
use crate::heads::Followed;
use crate::methods;
use crate::pool::{Call, Lost, Reject, Won};
use crate::upstream::{Fault, NodeVerdict, Request, judge};
use crate::verify::{self, Finding, Records, VerifyError};

/// Whole blocks of a range that are fetched at once; each takes two calls of up to some megabytes.
const BLOCKS_AT_ONCE: usize = 4;

/// Which block is fetched.
#[derive(Debug, Clone, Copy)]
enum Which {
    At(Height),
    Exactly(BlockRef),
}

/// A block's two answers, and who gave them.
struct Told {
    header: Followed,
    block: Bytes,
    block_from: Arc<str>,
    receipts: Bytes,
    receipts_from: Arc<str>,
}

/// What of a block's two answers is wrong.
pub(super) enum Culprit {
    Block(VerifyError),
    Receipts(VerifyError),
}

impl EvmSource {
    pub(super) async fn whole_block(&self, block: BlockRef) -> Result<SourceBlock, SourceError> {
        Ok(self.whole(Which::Exactly(block)).await?.1)
    }

    pub(super) async fn whole_range(
        &self,
        heights: RangeInclusive<Height>,
    ) -> Result<Vec<SourceBlock>, SourceError> {
        let canonical = self.core().canonical();
        let tasks: Vec<_> = heights
            .map(|height| match canonical.at(height) {
                Some(followed) => Which::Exactly(followed.block()),
                None => Which::At(height),
            })
            .map(|which| self.whole(which))
            .collect();
        let whole: Vec<(Followed, SourceBlock)> =
            stream::iter(tasks).buffered(BLOCKS_AT_ONCE).try_collect().await?;
        let (headers, blocks): (Vec<_>, Vec<_>) = whole.into_iter().unzip();
        for pair in headers.windows(2) {
            let [parent, child] = pair else { continue };
            verify::check_parent(&child.header, parent.block()).map_err(|error| {
                let height = child.block().number;
                SourceError::Moved { height, reason: error.to_string() }
            })?;
        }
        self.require_followed(&headers)?;
        Ok(blocks)
    }

    /// One block, from whichever upstreams have one that recomputes.
    async fn whole(&self, which: Which) -> Result<(Followed, SourceBlock), SourceError> {
        let (mut not_block, mut not_receipts) = (Vec::new(), Vec::new());
        let mut problem = None;
        loop {
            let told = match self.told_by(which, &not_block, &not_receipts).await {
                Ok(told) => told,
                Err(error) => return Err(problem.unwrap_or(error)),
            };
            let Told { header, block_from, receipts_from, .. } = &told;
            let header = header.clone();
            let (culprit, method, refused, error) = match told.recompute().await? {
                Ok((finding, Records { transactions, logs })) => {
                    if let Finding::Unverifiable(why) = finding {
                        self.note_unproved(why);
                    }
                    let block = SourceBlock { header: told_header(&header), transactions, logs };
                    return Ok((header, block));
                }
                // Without transactions nobody was asked for receipts: then the block says too little.
                Err(Culprit::Receipts(error)) if receipts_from.is_empty() => {
                    (block_from, "eth_getBlockByHash", &mut not_block, error)
                }
                Err(Culprit::Block(error)) => {
                    (block_from, "eth_getBlockByHash", &mut not_block, error)
                }
                Err(Culprit::Receipts(error)) => {
                    (receipts_from, "eth_getBlockReceipts", &mut not_receipts, error)
                }
            };
            self.pool().note_lie(culprit, methods::known(method), &error.to_string());
            let reason = format!("`{culprit}`: {error}");
            let unproved = SourceError::Unproved { height: header.block().number, reason };
            if refused.contains(culprit) {
                return Err(unproved);
            }
            problem = Some(unproved);
            refused.push(culprit.clone());
        }
    }

    /// What upstreams say of a block: the block with a checked header, and its receipts.
    async fn told_by(
        &self,
        which: Which,
        not_block: &[Arc<str>],
        not_receipts: &[Arc<str>],
    ) -> Result<Told, SourceError> {
        let Won { result: block, value: header, upstream: block_from } =
            self.full_block(which, not_block).await?;
        let reference = header.block();
        let absent = || self.absent(format_args!("receipts of block {}", reference.hash));
        let receipts = self.receipts(&header, &block, not_receipts).await;
        let receipts = receipts.map_err(|lost| failed(lost, absent))?;
        let (receipts, receipts_from) = (receipts.result, receipts.upstream);
        Ok(Told { header, block, block_from, receipts, receipts_from })
    }

    /// A block with its transactions as objects; its header is checked.
    async fn full_block(
        &self,
        which: Which,
        except: &[Arc<str>],
    ) -> Result<Won<Followed>, SourceError> {
        let (method, params, height) = match which {
            Which::At(height) => {
                ("eth_getBlockByNumber", format!("[\"{height:#x}\",true]"), height)
            }
            Which::Exactly(block) => {
                ("eth_getBlockByHash", format!("[\"{}\",true]", block.hash), block.number)
            }
        };
        let call = Call {
            method: methods::known(method),
            params: &params,
            height: Some(height),
            request: Request::One,
            deadline: self.pool().deadline(),
            except,
        };
        let accept = |json: &Bytes| {
            if &json[..] == b"null" {
                return Err(Reject::Missing);
            }
            let lie = |what: &str| Err(Reject::Lie(what.to_owned()));
            let rules = &self.core().rules;
            let header = rules.check(json).map_err(|error| Reject::Lie(error.to_string()))?;
            let block = header.block();
            let right = match which {
                Which::At(height) => block.number == height,
                Which::Exactly(asked) => block == asked,
            };
            if !right {
                return lie("another block than the one asked for");
            }
            let canonical = self.core().canonical();
            let sound =
                canonical.by_hash(&block.hash).is_some_and(|own| own.unverifiable.is_none());
            if sound && header.unverifiable.is_some() {
                return lie("a header that recomputed before and now does not");
            }
            Ok(header)
        };
        let lost = |lost| {
            failed(lost, || match which {
                Which::At(height) => self.absent(format_args!("block {height}")),
                Which::Exactly(block) => self.absent(format_args!("block {}", block.hash)),
            })
        };
        self.pool().ask(call, accept).await.map_err(lost)
    }

    /// All receipts of a block as one JSON list; nothing is checked yet.
    async fn receipts(
        &self,
        header: &Followed,
        block_json: &[u8],
        except: &[Arc<str>],
    ) -> Result<Won<()>, Lost> {
        // Where its list of transactions cannot be read, the block is what is wrong, and found out later.
        let hashes = || verify::read_transaction_hashes(block_json).unwrap_or_default();
        let block = header.block();
        if header.header.has_no_transactions() && hashes().is_empty() {
            return Ok(Won { result: Bytes::from_static(b"[]"), value: (), upstream: "".into() });
        }
        match self.block_receipts(block, except).await? {
            Some(receipts) => Ok(receipts),
            None => self.receipts_one_by_one(block, &hashes(), except).await,
        }
    }

    /// The answer to `eth_getBlockReceipts`; `None` where no upstream offers it.
    async fn block_receipts(
        &self,
        block: BlockRef,
        except: &[Arc<str>],
    ) -> Result<Option<Won<()>>, Lost> {
        if !self.has_block_receipts() {
            return Ok(None);
        }
        let call = Call {
            method: methods::known("eth_getBlockReceipts"),
            params: &format!("[\"{}\"]", block.hash),
            height: Some(block.number),
            request: Request::One,
            deadline: self.pool().deadline(),
            except,
        };
        let accept = |json: &Bytes| match json.first() {
            Some(b'[') => Ok(()),
            _ if &json[..] == b"null" => Err(Reject::Missing),
            _ => Err(Reject::Lie("not a list of receipts".to_owned())),
        };
        match self.pool().ask(call, accept).await {
            Ok(receipts) => Ok(Some(receipts)),
            Err(Lost::Failed(ChainError::Node(error)))
                if judge(&error) == NodeVerdict::Fault(Fault::Unsupported) =>
            {
                self.note_no_block_receipts();
                Ok(None)
            }
            Err(lost) => Err(lost),
        }
    }

    async fn receipts_one_by_one(
        &self,
        block: BlockRef,
        transactions: &[Hash],
        except: &[Arc<str>],
    ) -> Result<Won<()>, Lost> {
        let params: Vec<String> = transactions.iter().map(|hash| format!("[\"{hash}\"]")).collect();
        let batch = Batch {
            method: methods::known("eth_getTransactionReceipt"),
            params: &params,
            height: Some(block.number),
            except,
        };
        let accept = |_: usize, json: &Bytes| match &json[..] {
            b"null" => Err(Reject::Missing),
            _ => Ok(json.clone()),
        };
        let receipts = self.batched(batch, accept).await?;
        let upstream = receipts.first().map_or_else(|| "".into(), |(_, upstream)| upstream.clone());
        let list: Vec<&[u8]> = receipts.iter().map(|(json, _)| &json[..]).collect();
        let result = [b"[".as_slice(), &list.join(&b","[..]), b"]"].concat().into();
        Ok(Won { result, value: (), upstream })
    }

    /// All logs of a block out of its receipts, where these lead to the header's root.
    pub(super) async fn logs_by_receipts(&self, header: &Followed) -> Option<Vec<Log>> {
        let block = header.block();
        let mut except = Vec::new();
        loop {
            let receipts = match self.block_receipts(block, &except).await.ok()? {
                Some(receipts) => receipts,
                None => {
                    let full = self.full_block(Which::Exactly(block), &[]).await.ok()?;
                    self.receipts(header, &full.result, &except).await.ok()?
                }
            };
            match verify::check_receipts(&receipts.result, &header.header) {
                Ok(Finding::Verified) => return verify::read_logs(&receipts.result).ok(),
                Ok(Finding::Unverifiable(_)) => return None,
                Err(error) => {
                    let method = methods::known("eth_getBlockReceipts");
                    self.pool().note_lie(&receipts.upstream, method, &error.to_string());
                    if except.contains(&receipts.upstream) {
                        return None;
                    }
                    except.push(receipts.upstream);
                }
            }
        }
    }
}

impl Told {
    /// Recomputes it on a thread that may be busy: a signature alone takes 45 us.
    async fn recompute(&self) -> Result<Result<(Finding, Records), Culprit>, SourceError> {
        let (header, block, receipts) =
            (self.header.clone(), self.block.clone(), self.receipts.clone());
        let work = move || recompute(&header, &block, &receipts);
        tokio::task::spawn_blocking(work).await.map_err(|error| {
            SourceError::Chain(ChainError::Invalid(format!("a block could not be read: {error}")))
        })
    }
}

/// Recomputes a block of which the header was checked, and reads its records.
pub(super) fn recompute(
    header: &Followed,
    block: &[u8],
    receipts: &[u8],
) -> Result<(Finding, Records), Culprit> {
    let records = |receipts| verify::read_records(block, receipts).map_err(Culprit::Receipts);
    if let Some(why) = header.unverifiable.filter(|_| !header.header.foreign) {
        // Its hash is the chain's own affair, so only what is below it can be checked.
        return match verify::check_receipts(receipts, &header.header) {
            // These receipts lead to the header's root: where the two do not fit, it is the block.
            Ok(_) => {
                let found = verify::read_records(block, receipts).map_err(Culprit::Block)?;
                Ok((Finding::Unverifiable(why), found))
            }
            Err(error) => Err(Culprit::Receipts(error)),
        };
    }
    let checked = verify::read_block(block).map_err(|error| match header.unverifiable {
        None => Culprit::Block(error),
        Some(_) => Culprit::Receipts(error),
    })?;
    match checked.with_receipts(receipts).map_err(Culprit::Receipts)? {
        (finding, Some(found)) => Ok((finding, found)),
        (finding, None) => Ok((finding, records(receipts)?)),
    }
}
