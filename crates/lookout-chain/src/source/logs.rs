//! Logs of a range or a block by `eth_getLogs`, held against the headers.

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use lookout_types::Height;

use super::collect::Found;
use super::decode::{self, Wrong};
use super::evm::{EvmSource, failed, told};
use super::filter::Filter;
use super::{SourceBlock, SourceError};
use crate::ChainError;
use crate::heads::Followed;
use crate::methods;
use crate::pool::{Call, LIMIT_EXCEEDED, Lost, Reject, Won};
use crate::upstream::{Request, range_refusal};

/// Answers up to this size are read where they come in; larger ones, which take over a
/// millisecond, on a thread that may be busy.
const READ_INLINE_BYTES_MAX: usize = 256 << 10;

/// The logs of a range from one upstream, block by block.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) found: Vec<Found>,
    pub(super) upstream: Arc<str>,
}

/// Headers of consecutive blocks, with the filter of their logs.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) headers: Arc<[Followed]>,
    pub(super) filter: Arc<Filter>,
}

impl Asked {
    pub(super) fn heights(&self) -> RangeInclusive<Height> {
        let of = |header: Option<&Followed>| header.map_or(0, |header| header.block().number);
        of(self.headers.first())..=of(self.headers.last())
    }
}

impl EvmSource {
    pub(super) async fn logs_of_range(
        &self,
        heights: RangeInclusive<Height>,
        filter: Arc<Filter>,
    ) -> Result<Vec<SourceBlock>, SourceError> {
        let reading =
            tokio::try_join!(self.headers(heights.clone()), self.raw_logs(heights, &filter, &[]));
        let (headers, first) = match reading {
            // There is no narrower range, but other ways: by the block's hash, or by its receipts.
            Err(SourceError::TooLarge { range, .. }) if range.start() == range.end() => {
                return Ok(vec![self.logs_at(*range.start(), filter).await?]);
            }
            read => read?,
        };
        let asked = Asked { headers: headers.into(), filter };
        let answer = self.answer(&asked, Vec::new(), Some(first)).await?;
        let found = self.settle(&asked, answer).await?;
        self.require_followed(&asked.headers)?;
        let blocks = asked.headers.iter().zip(found).map(|(header, logs)| SourceBlock {
            header: told(header),
            transactions: Vec::new(),
            logs,
        });
        Ok(blocks.collect())
    }

    /// The logs of the block at a height of the followed branch.
    async fn logs_at(
        &self,
        height: Height,
        filter: Arc<Filter>,
    ) -> Result<SourceBlock, SourceError> {
        let headers = self.headers(height..=height).await?;
        self.require_followed(&headers)?;
        let header = headers.into_iter().next();
        let header = header.ok_or_else(|| self.absent(format_args!("block {height}")))?;
        self.logs_of_block(header, filter).await
    }

    pub(super) async fn logs_of_block(
        &self,
        header: Followed,
        filter: Arc<Filter>,
    ) -> Result<SourceBlock, SourceError> {
        let told = told(&header);
        let asked = Asked { headers: [header].into(), filter };
        let logs = match self.logs_by_hash(&asked, &[0], &[]).await {
            Ok(words) => {
                let first = words.into_iter().next().map(|(_, found, upstream)| (found, upstream));
                let absent = || self.absent(format_args!("block {}", told.block.hash));
                let (found, upstream) = first.ok_or_else(absent)?;
                let answer = Answer { found: vec![found], upstream };
                self.settle(&asked, answer).await?.pop().unwrap_or_default()
            }
            Err(error) => self.proved(&asked, 0, &[]).await?.ok_or(error)?,
        };
        Ok(SourceBlock { header: told, transactions: Vec::new(), logs })
    }

    /// One `eth_getLogs` of a range, as it comes.
    async fn raw_logs(
        &self,
        heights: RangeInclusive<Height>,
        filter: &Filter,
        except: &[Arc<str>],
    ) -> Result<Won<()>, SourceError> {
        let (first, last) = (*heights.start(), *heights.end());
        let blocks = last - first + 1;
        let call = Call {
            method: methods::known("eth_getLogs"),
            params: &filter.on_range(first, last),
            height: Some(last),
            request: Request::Range(blocks),
            deadline: self.pool().deadline(),
            except,
        };
        let accept = |json: &Bytes| match json.first() {
            Some(b'[') => Ok(()),
            _ if &json[..] == b"null" => Err(Reject::Missing),
            _ => Err(Reject::Lie("not a list of logs".to_owned())),
        };
        self.pool().ask(call, accept).await.map_err(|lost| match too_large(&lost, blocks) {
            Some(narrower) => SourceError::TooLarge { range: heights, blocks: narrower },
            None => failed(lost, || self.absent(format_args!("logs of blocks {first} to {last}"))),
        })
    }

    /// The logs of a range from the first upstream whose answer holds against the headers.
    pub(super) async fn answer(
        &self,
        asked: &Asked,
        mut except: Vec<Arc<str>>,
        first: Option<Won<()>>,
    ) -> Result<Answer, SourceError> {
        let heights = asked.heights();
        let mut problem = None;
        let mut next = first;
        loop {
            let won = match next.take() {
                Some(won) => won,
                None => match self.raw_logs(heights.clone(), &asked.filter, &except).await {
                    Ok(won) => won,
                    Err(error) => return Err(problem.unwrap_or(error)),
                },
            };
            match read(asked, won.result).await {
                Ok(found) => return Ok(Answer { found, upstream: won.upstream }),
                Err(wrong) => problem = Some(self.book(wrong, &won.upstream, *heights.start())),
            }
            except.push(won.upstream);
        }
    }

    /// Books what is wrong with an upstream's answer, as the error if none has a better one.
    fn book(&self, wrong: Wrong, upstream: &Arc<str>, height: Height) -> SourceError {
        match wrong {
            Wrong::Moved(height) => SourceError::Moved {
                height,
                reason: format!("`{upstream}` has logs of another block there"),
            },
            Wrong::Lie(what) => {
                self.pool().note_lie(upstream, methods::known("eth_getLogs"), &what);
                SourceError::Unproved { height, reason: format!("`{upstream}`: {what}") }
            }
        }
    }
}

/// Reads an answer, where that takes long on a thread of its own.
async fn read(asked: &Asked, json: Bytes) -> Result<Vec<Found>, Wrong> {
    if json.len() <= READ_INLINE_BYTES_MAX {
        return decode::logs(&json, &asked.headers, &asked.filter);
    }
    let asked = asked.clone();
    let reading = move || decode::logs(&json, &asked.headers, &asked.filter);
    match tokio::task::spawn_blocking(reading).await {
        Ok(read) => read,
        Err(error) => Err(Wrong::Lie(format!("the answer could not be read: {error}"))),
    }
}

/// Whether the range was refused as too wide, and which width would pass where that was said.
fn too_large(lost: &Lost, blocks: u64) -> Option<Option<u64>> {
    match lost {
        Lost::Failed(ChainError::Node(error)) => match range_refusal(error) {
            Some(refusal) => Some(refusal.blocks_below(blocks)),
            None => (error.code == LIMIT_EXCEEDED).then_some(None),
        },
        // Whoever needs too long for a range may have time for a part of it.
        Lost::Failed(ChainError::Timeout { .. }) => Some(None),
        Lost::Refused(_) => Some(None),
        Lost::Failed(_)
        | Lost::Nothing(..)
        | Lost::Absent(_)
        | Lost::OffBranch(_)
        | Lost::SentBefore(_) => None,
    }
}
