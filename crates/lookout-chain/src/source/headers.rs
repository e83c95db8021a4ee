//! Checked headers of a range, in batches.

use std::ops::RangeInclusive;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use lookout_types::Height;

use super::SourceError;
use super::evm::{self, EvmSource, failed};
use crate::ChainError;
use crate::heads::Followed;
use crate::methods::{self, Method};
use crate::pool::{Call, Lost, Reject, Won};
use crate::upstream::Request;
use crate::verify;
use crate::wire::{self, BatchError};

/// Headers that one task fetches, and how many such tasks run at once for a range.
const HEADERS_PER_TASK: u64 = 100;
const TASKS_AT_ONCE: usize = 4;

/// Several calls of one method, each with its parameters as a JSON array.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch<'a> {
    pub(super) method: &'static Method,
    pub(super) params: &'a [String],
    /// The answers need an upstream that has at least this block.
    pub(super) height: Option<Height>,
    /// Upstreams that are not asked.
    pub(super) except: &'a [std::sync::Arc<str>],
}

impl EvmSource {
    /// The headers at these heights, each hash recomputed, each the parent of the next: out of the
    /// followed window as far as that reaches, the rest from upstreams.
    pub(super) async fn headers(
        &self,
        heights: RangeInclusive<Height>,
    ) -> Result<Vec<Followed>, SourceError> {
        let (first, last) = heights.into_inner();
        let canonical = self.core().canonical();
        // The window is contiguous up to the head, so it holds an end of the range.
        let held: Vec<Followed> =
            (first..=last).rev().map_while(|height| canonical.at(height).cloned()).collect();
        let missing = last + 1 - first - u64::try_from(held.len()).unwrap_or(0);
        let starts = (0..missing).step_by(usize::try_from(HEADERS_PER_TASK).unwrap_or(1));
        let tasks = starts.map(|start| {
            let end = (start + HEADERS_PER_TASK).min(missing);
            self.fetch_headers(first + start..first + end)
        });
        // Collected first: a borrowing iterator inside the stream is not general enough for `Send`.
        let tasks: Vec<_> = tasks.collect();
        let mut headers: Vec<Followed> =
            stream::iter(tasks).buffered(TASKS_AT_ONCE).try_concat().await?;
        headers.extend(held.into_iter().rev());
        for pair in headers.windows(2) {
            let [parent, child] = pair else { continue };
            verify::check_parent(&child.header, parent.block()).map_err(|error| {
                let height = child.block().number;
                SourceError::Moved { height, reason: error.to_string() }
            })?;
        }
        Ok(headers)
    }

    async fn fetch_headers(
        &self,
        heights: std::ops::Range<Height>,
    ) -> Result<Vec<Followed>, SourceError> {
        let params: Vec<String> =
            heights.clone().map(|height| format!("[\"{height:#x}\",false]")).collect();
        let batch = Batch {
            method: methods::known("eth_getBlockByNumber"),
            params: &params,
            height: heights.end.checked_sub(1),
            except: &[],
        };
        let rules = &self.core().rules;
        let accept = |at: usize, json: &Bytes| {
            if &json[..] == b"null" {
                return Err(Reject::Missing);
            }
            let header = rules.check(json).map_err(|error| Reject::Lie(error.to_string()))?;
            let asked = heights.start + u64::try_from(at).unwrap_or(u64::MAX);
            if header.block().number != asked {
                return Err(Reject::Lie("another block than the one asked for".to_owned()));
            }
            Ok(header)
        };
        let absent = || self.absent(format_args!("block of {}..{}", heights.start, heights.end));
        let fetched = self.batched(batch, accept).await.map_err(|lost| failed(lost, absent))?;
        Ok(fetched.into_iter().map(|(header, _)| header).collect())
    }

    /// Makes the calls of a batch, in as few requests as the upstreams take; gives with each
    /// answer the upstream that it is from.
    pub(super) async fn batched<T>(
        &self,
        batch: Batch<'_>,
        accept: impl Fn(usize, &Bytes) -> Result<T, Reject>,
    ) -> Result<Vec<(T, std::sync::Arc<str>)>, Lost> {
        let mut done = Vec::with_capacity(batch.params.len());
        let (mut size_max, mut refused) = (usize::MAX, None);
        while done.len() < batch.params.len() {
            let size = self.batch.get().min(size_max).min(batch.params.len() - done.len());
            let piece = &batch.params[done.len()..done.len() + size];
            let accept = |at: usize, json: &Bytes| accept(done.len() + at, json);
            match self.request(Batch { params: piece, ..batch }, accept).await {
                Ok(Won { value, upstream, .. }) => {
                    // Only now it is known that it was the size: whatever fails at every size
                    // says nothing about it.
                    match refused.take() {
                        Some(size) => self.batch.refused(size),
                        None => self.batch.passed(),
                    }
                    done.extend(value.into_iter().map(|answer| (answer, upstream.clone())));
                }
                Err(lost) if size > 1 && is_refusal(&lost) => {
                    size_max = evm::smaller_batch(size);
                    refused = Some(size);
                }
                Err(lost) => return Err(lost),
            }
        }
        Ok(done)
    }

    /// Makes all calls in one request.
    async fn request<T>(
        &self,
        batch: Batch<'_>,
        accept: impl Fn(usize, &Bytes) -> Result<T, Reject>,
    ) -> Result<Won<Vec<T>>, Lost> {
        let single = batch.params.len() == 1;
        let call = Call {
            method: batch.method,
            params: &batch.params.join("\n"),
            height: batch.height,
            request: if single { Request::One } else { Request::Batch },
            deadline: self.pool().deadline(),
            except: batch.except,
        };
        let accept_all = |json: &Bytes| {
            if single {
                return Ok(vec![accept(0, json)?]);
            }
            let results = match wire::parse_batch(json, batch.params.len()) {
                Ok(results) => results,
                Err(BatchError::Node(error)) => return Err(Reject::Error(error)),
                Err(BatchError::Wire(wrong)) => return Err(Reject::Lie(wrong.to_string())),
            };
            results.iter().enumerate().map(|(at, json)| accept(at, json)).collect()
        };
        self.pool().ask(call, accept_all).await
    }
}

/// Whether fewer calls in one request may pass.
fn is_refusal(lost: &Lost) -> bool {
    match lost {
        Lost::Refused(_) => true,
        Lost::Failed(error) => {
            matches!(error, ChainError::Node(_) | ChainError::Timeout { .. })
        }
        Lost::Nothing(..) | Lost::Absent(_) | Lost::OffBranch(_) | Lost::SentBefore(_) => false,
    }
}
