//! Logs of which a header's bloom says that more may be, or must be: asked for again, elsewhere.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use lookout_types::Log;

use super::SourceError;
use super::collect::{self, Found, Standing};
use super::decode::{self, Wrong};
use super::evm::EvmSource;
use super::headers::Batch;
use super::logs::{Answer, Asked};
use crate::methods;
use crate::pool::Reject;
use crate::upstream::Identity;

/// Doubted blocks that are asked for one by one; for more of them one call for the range between
/// the first and the last costs less.
const ONE_BY_ONE_MAX: usize = 8;

/// Blocks whose logs are asked for in one request: their answers are read where they come in.
const BLOCKS_PER_REQUEST: usize = 20;

/// A second word on a block's logs, and whose it is.
type Second = (Found, Arc<str>);

impl EvmSource {
    /// The logs of each block, once all doubts are settled.
    pub(super) async fn settle(
        &self,
        asked: &Asked,
        answer: Answer,
    ) -> Result<Vec<Vec<Log>>, SourceError> {
        let Answer { found, upstream } = answer;
        let doubted: Vec<usize> = found
            .iter()
            .enumerate()
            .filter(|(_, found)| asked.filter.confirmed || found.standing != Standing::Whole)
            .map(|(at, _)| at)
            .collect();
        let mut logs = Vec::with_capacity(found.len());
        if doubted.is_empty() {
            logs.extend(found.into_iter().map(|found| found.logs));
            return Ok(logs);
        }
        let mut seconds = self.second_words(asked, &doubted, &upstream).await;
        for (at, first) in found.into_iter().enumerate() {
            let second = seconds.remove(&at);
            logs.push(match first.standing {
                _ if asked.filter.confirmed => {
                    self.agree(asked, at, (first, upstream.clone()), second).await?
                }
                Standing::Whole => first.logs,
                _ => self.decide(asked, at, (first, upstream.clone()), second).await?,
            });
        }
        Ok(logs)
    }

    /// What another upstream says of the doubted blocks, or else the same one by another way.
    async fn second_words(
        &self,
        asked: &Asked,
        doubted: &[usize],
        first: &Arc<str>,
    ) -> HashMap<usize, Second> {
        let except = [first.clone()];
        let is_other = |name: &Arc<str>| name != first;
        let upstreams = &self.pool().upstreams;
        let has_other =
            upstreams.iter().any(|u| is_other(&u.name) && u.identity() == Identity::Right);
        if let (true, Some((&low, &high))) =
            (has_other && doubted.len() > ONE_BY_ONE_MAX, doubted.first().zip(doubted.last()))
        {
            let part = Asked {
                headers: asked.headers.get(low..=high).unwrap_or_default().into(),
                filter: asked.filter.clone(),
            };
            if let Ok(answer) = self.answer(&part, except.to_vec(), None).await {
                let found = answer.found.into_iter().enumerate();
                let found = found.map(|(at, found)| (low + at, (found, answer.upstream.clone())));
                return found.filter(|(at, _)| doubted.binary_search(at).is_ok()).collect();
            }
        }
        let mut words = Err(());
        if has_other {
            words = self.logs_by_hash(asked, doubted, &except).await.map_err(|_| ());
        }
        if words.is_err() {
            words = self.logs_by_hash(asked, doubted, &[]).await.map_err(|error| {
                tracing::debug!(chain = %self.pool().chain, "no second word on logs: {error}");
            });
        }
        let words = words.unwrap_or_default().into_iter();
        words.map(|(at, found, upstream)| (at, (found, upstream))).collect()
    }

    /// The logs of single blocks by their hashes; answers that lack logs for certain are refused.
    pub(super) async fn logs_by_hash(
        &self,
        asked: &Asked,
        positions: &[usize],
        except: &[Arc<str>],
    ) -> Result<Vec<(usize, Found, Arc<str>)>, SourceError> {
        let mut words = Vec::with_capacity(positions.len());
        for positions in positions.chunks(BLOCKS_PER_REQUEST) {
            words.extend(self.logs_in_one_request(asked, positions, except).await?);
        }
        Ok(words)
    }

    async fn logs_in_one_request(
        &self,
        asked: &Asked,
        positions: &[usize],
        except: &[Arc<str>],
    ) -> Result<Vec<(usize, Found, Arc<str>)>, SourceError> {
        let headers: Vec<_> =
            positions.iter().filter_map(|at| Some((*at, asked.headers.get(*at)?))).collect();
        let params: Vec<String> =
            headers.iter().map(|(_, header)| asked.filter.on_block(&header.block().hash)).collect();
        let batch = Batch {
            method: methods::known("eth_getLogs"),
            params: &params,
            height: headers.last().map(|(_, header)| header.block().number),
            except,
        };
        let accept = |at: usize, json: &Bytes| {
            if &json[..] == b"null" {
                return Err(Reject::Missing);
            }
            let header = headers.get(at).map(|(_, header)| std::slice::from_ref(*header));
            let read = decode::logs(json, header.unwrap_or_default(), &asked.filter);
            match read.map(|mut found| found.pop()) {
                Ok(Some(Found { standing: Standing::Lacking(what), .. })) => {
                    Err(Reject::Lie(format!("logs are missing: {what}")))
                }
                Ok(Some(found)) => Ok(found),
                Ok(None) | Err(Wrong::Moved(_)) => {
                    Err(Reject::Lie("logs of another block than the one asked for".to_owned()))
                }
                Err(Wrong::Lie(what)) => Err(Reject::Lie(what)),
            }
        };
        let absent = || self.absent("such block");
        let lost = |lost| super::evm::failed(lost, absent);
        let answers = self.batched(batch, accept).await.map_err(lost)?;
        let positions = headers.iter().map(|(at, _)| *at);
        Ok(positions.zip(answers).map(|(at, (found, upstream))| (at, found, upstream)).collect())
    }

    /// The logs of a doubted block.
    async fn decide(
        &self,
        asked: &Asked,
        at: usize,
        (first, upstream): Second,
        second: Option<Second>,
    ) -> Result<Vec<Log>, SourceError> {
        let Some((second, other)) = second else {
            return self
                .proved(asked, at, &[(first, upstream)])
                .await?
                .ok_or_else(|| self.unproved(asked, at, "no second upstream or receipts to ask"));
        };
        let covers = asked.filter.is_everything() || includes(&second.logs, &first.logs);
        if second.standing == Standing::Whole && covers {
            self.meters.completed.increment(1);
            if let Standing::Lacking(what) = first.standing {
                let height = asked.headers[at].block().number;
                let what = format!("left out logs of block {height}: {what}");
                self.pool().note_lie(&upstream, methods::known("eth_getLogs"), &what);
            }
            return Ok(second.logs);
        }
        let certainly_lacking = matches!(first.standing, Standing::Lacking(_));
        if first.logs == second.logs && !certainly_lacking {
            if other != upstream {
                self.meters.confirmed.increment(1);
                return Ok(first.logs);
            }
            let provable = first.standing == Standing::InDoubt && self.proofs.take();
            let logs = first.logs.clone();
            let proved = match provable {
                true => self.proved(asked, at, &[(first, upstream)]).await?,
                false => None,
            };
            return Ok(proved.unwrap_or_else(|| {
                self.note_unproved(
                    "its bloom may contain wanted logs that the only upstream does not have",
                );
                logs
            }));
        }
        let words = [(first, upstream), (second, other)];
        if let Some(logs) = self.proved(asked, at, &words).await? {
            return Ok(logs);
        }
        let [(first, _), (second, _)] = words;
        let in_doubt = first.standing == Standing::InDoubt && second.standing != Standing::Foreign;
        if in_doubt && includes(&second.logs, &first.logs) {
            return Ok(self.larger(second.logs));
        }
        if in_doubt && includes(&first.logs, &second.logs) {
            return Ok(self.larger(first.logs));
        }
        Err(self.unproved(asked, at, "the upstreams disagree on its logs"))
    }

    /// The logs that two upstreams have alike; where they differ, or no second one answers, those of
    /// the receipts.
    async fn agree(
        &self,
        asked: &Asked,
        at: usize,
        (first, upstream): Second,
        second: Option<Second>,
    ) -> Result<Vec<Log>, SourceError> {
        let lacking = |found: &Found| matches!(found.standing, Standing::Lacking(_));
        let second = second.filter(|(_, other)| *other != upstream);
        let reason = match &second {
            Some((second, _)) if second.logs == first.logs && !lacking(&first) => {
                self.meters.confirmed.increment(1);
                return Ok(first.logs);
            }
            Some((_, other)) => {
                format!(
                    "`{upstream}` and `{other}` disagree on its logs, and none has its receipts"
                )
            }
            None => format!("no upstream besides `{upstream}` tells its logs, nor its receipts"),
        };
        let words: Vec<Second> = [Some((first, upstream)), second].into_iter().flatten().collect();
        self.proved(asked, at, &words).await?.ok_or_else(|| self.unproved(asked, at, &reason))
    }

    /// The larger of two answers that nothing refutes.
    fn larger(&self, logs: Vec<Log>) -> Vec<Log> {
        self.meters.completed.increment(1);
        self.note_unproved("an upstream has fewer of its logs than another");
        logs
    }

    /// The logs by the block's receipts, where these lead to the header's root; books a lie on
    /// each of `words` that is another.
    pub(super) async fn proved(
        &self,
        asked: &Asked,
        at: usize,
        words: &[Second],
    ) -> Result<Option<Vec<Log>>, SourceError> {
        let Some(header) = asked.headers.get(at) else { return Ok(None) };
        let Some(mut logs) = self.logs_by_receipts(header).await else { return Ok(None) };
        logs.retain(|log| asked.filter.wants(log.address, &log.topics));
        let bloom = collect::bloom_of(logs.iter());
        if !matches!(
            collect::standing(header, &asked.filter, &logs, bloom),
            Ok(Standing::Whole | Standing::InDoubt)
        ) {
            return Ok(None);
        }
        self.meters.proved.increment(1);
        for (found, upstream) in words {
            if found.logs != logs {
                let height = header.block().number;
                let what = format!("its logs of block {height} are not those of the receipts");
                self.pool().note_lie(upstream, methods::known("eth_getLogs"), &what);
            }
        }
        Ok(Some(logs))
    }

    fn unproved(&self, asked: &Asked, at: usize, reason: &str) -> SourceError {
        let height = asked.headers.get(at).map_or(0, |header| header.block().number);
        SourceError::Unproved { height, reason: reason.to_owned() }
    }
}

/// Whether all of `part` is in `whole`; both are in order.
fn includes(whole: &[Log], part: &[Log]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|log| rest.any(|own| own == log))
}
