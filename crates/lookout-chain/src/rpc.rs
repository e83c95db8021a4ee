//! A client's JSON-RPC call: which block it is about, what to ask, what to do when a reorg
//! comes between.

use std::sync::Arc;

use bytes::Bytes;
use lookout_types::{BlockSelector, Hash, Height};
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::check::{Check, Form};
use crate::core::{About, Core, Question, REFRESH_LIMIT, nothing};
use crate::heads::{Canonical, Followed};
use crate::methods::{self, Method, Shape};
use crate::params::{LogFilter, Params, array};
use crate::pool::{Call, Lost};
use crate::upstream::Request;
use crate::{Answer, AnswerMeta, ChainError, Heads};

/// Heights this far below the window are fetched so that they resolve from then on.
const EXTEND_MAX: u64 = 128;

/// What to do with a call.
enum Plan {
    Ask(Box<Question>),
    /// Only the node can judge it: pass it on unchanged.
    Pass,
}

impl Core {
    /// One call as a client sent it.
    pub(crate) async fn rpc(
        self: &Arc<Self>,
        name: &str,
        raw: Option<&RawValue>,
    ) -> Result<Answer, ChainError> {
        let method = methods::find(name).ok_or_else(|| ChainError::Method(name.to_owned()))?;
        let text = raw.map_or("[]", RawValue::get);
        let text = if text == "null" { "[]" } else { text };
        match method.shape {
            Shape::HeadNumber => self.head_number().await,
            Shape::Constant => Ok(self.constant(method)),
            // Boxed: a hit should not carry the space of these around.
            Shape::Live => Box::pin(self.pass(method, text)).await,
            Shape::Send => Box::pin(self.send(method, text)).await,
            _ => match Params::parse(raw) {
                Some(params) => self.ask(method, &params, text).await,
                None => Box::pin(self.pass(method, text)).await,
            },
        }
    }

    async fn head_number(&self) -> Result<Answer, ChainError> {
        let heads = self.wait_heads().await?;
        let result = Bytes::from(format!("\"{:#x}\"", heads.latest.number));
        let mut answer = nothing(result, "".into());
        answer.meta = AnswerMeta {
            block: Some(heads.latest),
            level: heads.level,
            upstream: None,
            ..answer.meta
        };
        Ok(answer)
    }

    fn constant(&self, method: &Method) -> Answer {
        let text = match method.name {
            "net_version" => format!("\"{}\"", self.id),
            _ => format!("\"{:#x}\"", self.id.0),
        };
        let mut answer = nothing(text.into(), "".into());
        answer.meta.upstream = None;
        answer
    }

    /// Plans the call against the followed chain; once more against a fresh one when the chain
    /// moved away meanwhile; at last leaves it to the node.
    async fn ask(
        self: &Arc<Self>,
        method: &'static Method,
        params: &Params<'_>,
        text: &str,
    ) -> Result<Answer, ChainError> {
        let heads = self.wait_heads().await?;
        let mut last = None;
        for attempt in 0..2 {
            if attempt > 0 {
                Box::pin(self.follower.refresh(REFRESH_LIMIT)).await;
            }
            let heads = self.follower.heads().unwrap_or(heads);
            let canonical = self.canonical();
            if attempt == 0
                && let Some(kept) = self.kept_state(method, params, &canonical, &heads).await
            {
                return Ok(kept);
            }
            let mut question = match self.plan(method, params, &canonical, &heads) {
                Plan::Ask(question) => *question,
                Plan::Pass => return Box::pin(self.pass(method, text)).await,
            };
            if let Check::Receipts { block, .. } = &mut question.check {
                let key = self.key(&question.about, "eth_getBlockByHash", &["true"]);
                *block = self.kept(&key).await.map(|kept| kept.result);
            }
            match self.answer(question).await {
                Ok(answer) => return Ok(self.caught_up(answer).await),
                Err(Lost::Failed(error)) => return Err(error),
                // Doubted emptiness that a second upstream shares is the truth.
                Err(Lost::Nothing(result, upstream)) if method.shape == Shape::Logs => {
                    return Ok(nothing(result, upstream));
                }
                Err(Lost::Nothing(result, upstream)) if may_be_unknown(method) => {
                    return Ok(nothing(result, upstream));
                }
                Err(lost) => last = Some(lost),
            }
        }
        match last {
            Some(Lost::OffBranch(error)) => Err(error),
            _ => Box::pin(self.pass(method, text)).await,
        }
    }

    /// Follows the chain up to the block of an answer, so that a client who has seen a receipt
    /// also sees its effects in the next read.
    async fn caught_up(&self, answer: Answer) -> Answer {
        if let Some(block) = answer.meta.block
            && self.follower.heads().is_some_and(|heads| block.number > heads.latest.number)
        {
            Box::pin(self.follower.refresh(REFRESH_LIMIT)).await;
        }
        answer
    }

    /// A kept state read, found without spelling out what would be asked.
    async fn kept_state(
        &self,
        method: &'static Method,
        params: &Params<'_>,
        canonical: &Canonical,
        heads: &Heads,
    ) -> Option<Answer> {
        let Shape::State { block_at } = method.shape else { return None };
        let about = self.about(params.block(block_at), canonical, heads)?;
        self.kept(&self.key(&about, method.name, &params.without(block_at))).await
    }

    /// A kept block, found without spelling out a call for it and reading that again.
    pub(crate) async fn kept_block(
        &self,
        at: BlockSelector,
        full: bool,
        heads: &Heads,
    ) -> Option<Answer> {
        let about = self.about(Some(at), &self.canonical(), heads)?;
        let method = match about {
            About::Settled(_) => "eth_getBlockByNumber",
            _ => "eth_getBlockByHash",
        };
        self.kept(&self.key(&about, method, &[if full { "true" } else { "false" }])).await
    }

    fn plan(
        &self,
        method: &'static Method,
        params: &Params<'_>,
        canonical: &Canonical,
        heads: &Heads,
    ) -> Plan {
        match method.shape {
            Shape::State { block_at } => {
                let about = self.about(params.block(block_at), canonical, heads);
                self.plan_state(method, params, block_at, about)
            }
            Shape::BlockByNumber => {
                let about = self.about(params.block_by_number(), canonical, heads);
                self.plan_block(params, about)
            }
            Shape::BlockByHash => {
                let about = self.about(params.block_by_hash(), canonical, heads);
                self.plan_block(params, about)
            }
            Shape::InBlockByNumber { twin } => {
                let about = self.about(params.block_by_number(), canonical, heads);
                self.plan_in_block(method, methods::known(twin), params, about)
            }
            Shape::InBlockByHash => {
                let about = self.about(params.block_by_hash(), canonical, heads);
                self.plan_in_block(method, method, params, about)
            }
            Shape::BlockReceipts => {
                let about = self.about(params.block(0), canonical, heads);
                self.plan_receipts(method, params, about)
            }
            Shape::Transaction | Shape::Receipt => self.plan_transaction(method, params),
            Shape::Logs => self.plan_logs(method, params, canonical, heads),
            Shape::HeadNumber | Shape::Constant | Shape::Live | Shape::Send => Plan::Pass,
        }
    }

    /// The block meant, as far as it can be told without asking.
    fn about(
        &self,
        selector: Option<BlockSelector>,
        canonical: &Canonical,
        heads: &Heads,
    ) -> Option<About> {
        let selector = selector?;
        if let BlockSelector::Hash(hash) = selector {
            return Some(match canonical.by_hash(&hash) {
                Some(block) => About::Followed(block.clone()),
                None => About::Hash(hash),
            });
        }
        let number = height_of(selector, heads)?;
        if let Some(block) = canonical.at(number) {
            return Some(About::Followed(block.clone()));
        }
        if canonical.settled().is_some_and(|settled| number <= settled) {
            return Some(About::Settled(number));
        }
        self.extend_towards(number, canonical);
        None
    }

    /// A height just below the window is worth knowing: whoever asks once asks again.
    fn extend_towards(&self, number: Height, canonical: &Canonical) {
        let Some(missing) = canonical.low().and_then(|low| low.checked_sub(number)) else { return };
        if (1..=EXTEND_MAX).contains(&missing) {
            let follower = self.follower.clone();
            tokio::spawn(async move { follower.extend_below(missing).await });
        }
    }

    fn question(
        &self,
        method: &'static Method,
        params: String,
        about: About,
        key_params: &[&str],
        check: Check,
    ) -> Box<Question> {
        let key = self.key(&about, method.name, key_params);
        Box::new(Question { method, params, by_number: None, about, key, check })
    }

    fn plan_state(
        &self,
        method: &'static Method,
        params: &Params<'_>,
        block_at: usize,
        about: Option<About>,
    ) -> Plan {
        let Some(about) = about else { return Plan::Pass };
        let by_hash = |hash: &Hash| params.with(block_at, &format!("{{\"blockHash\":\"{hash}\"}}"));
        let by_number = |number: Height| params.with(block_at, &format!("\"{number:#x}\""));
        let (sent, fallback) = match &about {
            About::Followed(block) => {
                let block = block.block();
                (by_hash(&block.hash), Some(by_number(block.number)))
            }
            About::Hash(hash) => (by_hash(hash), None),
            About::Settled(number) => (by_number(*number), None),
            About::Inclusion => return Plan::Pass,
        };
        let check = Check::State(Form::of(method.name));
        let mut question = self.question(method, sent, about, &params.without(block_at), check);
        question.by_number = fallback;
        Plan::Ask(question)
    }

    fn plan_block(&self, params: &Params<'_>, about: Option<About>) -> Plan {
        let full = match (params.get(1), params.0.len()) {
            (Some(full @ ("true" | "false")), 2) => full,
            _ => return Plan::Pass,
        };
        let by_hash = |hash: &Hash| array(&[&format!("\"{hash}\""), full]);
        let method = methods::known("eth_getBlockByHash");
        let ask =
            |params, about, check| Plan::Ask(self.question(method, params, about, &[full], check));
        match about {
            Some(About::Followed(known)) => {
                let hash = known.block().hash;
                let check =
                    Check::Block { hash: Some(hash), number: None, known: Some(known.clone()) };
                ask(by_hash(&hash), About::Followed(known), check)
            }
            Some(About::Hash(hash)) => {
                let check = Check::Block { hash: Some(hash), number: None, known: None };
                ask(by_hash(&hash), About::Hash(hash), check)
            }
            Some(About::Settled(number)) => {
                let check = Check::Block { hash: None, number: Some(number), known: None };
                let method = methods::known("eth_getBlockByNumber");
                let params = array(&[&format!("\"{number:#x}\""), full]);
                let about = About::Settled(number);
                Plan::Ask(self.question(method, params, about, &[full], check))
            }
            Some(About::Inclusion) | None => Plan::Pass,
        }
    }

    fn plan_in_block(
        &self,
        asked: &'static Method,
        by_hash: &'static Method,
        params: &Params<'_>,
        about: Option<About>,
    ) -> Plan {
        let rest = params.without(0);
        match about {
            Some(About::Followed(known)) => {
                let sent = params.with(0, &format!("\"{}\"", known.block().hash));
                let about = About::Followed(known);
                Plan::Ask(self.question(by_hash, sent, about, &rest, Check::Nothing))
            }
            Some(About::Settled(number)) if asked.name != by_hash.name => {
                let sent = params.with(0, &format!("\"{number:#x}\""));
                let about = About::Settled(number);
                Plan::Ask(self.question(asked, sent, about, &rest, Check::Nothing))
            }
            _ => Plan::Pass,
        }
    }

    fn plan_receipts(
        &self,
        method: &'static Method,
        params: &Params<'_>,
        about: Option<About>,
    ) -> Plan {
        let rest = params.without(0);
        let (sent, known) = match &about {
            Some(About::Followed(block)) => {
                (format!("\"{}\"", block.block().hash), Some(block.clone()))
            }
            Some(About::Settled(number)) => (format!("\"{number:#x}\""), None),
            _ => return Plan::Pass,
        };
        let Some(about) = about else { return Plan::Pass };
        let check = Check::Receipts { known, block: None };
        Plan::Ask(self.question(method, params.with(0, &sent), about, &rest, check))
    }

    fn plan_transaction(&self, method: &'static Method, params: &Params<'_>) -> Plan {
        let asked = params.get(0).and_then(|text| serde_json::from_str::<&str>(text).ok());
        let Some(hash) = asked.and_then(|text| text.parse::<Hash>().ok()) else {
            return Plan::Pass;
        };
        if params.0.len() != 1 {
            return Plan::Pass;
        }
        let check = match method.shape {
            Shape::Transaction => Check::Transaction(hash),
            _ => Check::Receipt(hash),
        };
        let spelled = format!("\"{hash}\"");
        let sent = array(&[&spelled]);
        Plan::Ask(self.question(method, sent, About::Inclusion, &[&spelled], check))
    }

    fn plan_logs(
        &self,
        method: &'static Method,
        params: &Params<'_>,
        canonical: &Canonical,
        heads: &Heads,
    ) -> Plan {
        let filter = match params.get(0).map(LogFilter::parse) {
            Some(Some(filter)) if params.0.len() == 1 => filter,
            _ => return Plan::Pass,
        };
        let question = filter.question();
        if let Some(hash) = filter.block {
            let Some(known) = canonical.by_hash(&hash) else { return Plan::Pass };
            return Plan::Ask(self.logs_of_block(method, &filter, known.clone()));
        }
        let (Some(from), Some(to)) = (height_of(filter.from, heads), height_of(filter.to, heads))
        else {
            return Plan::Pass;
        };
        let Some(about) = self.about(Some(BlockSelector::Number(to)), canonical, heads) else {
            return Plan::Pass;
        };
        match about {
            _ if from > to => Plan::Pass,
            About::Followed(known) if from == to => {
                Plan::Ask(self.logs_of_block(method, &filter, known))
            }
            about => {
                let key = [question.as_str(), &from.to_string()];
                let sent = filter.on_range(from, to);
                Plan::Ask(self.question(method, sent, about, &key, Check::LogsOfRange))
            }
        }
    }

    fn logs_of_block(
        &self,
        method: &'static Method,
        filter: &LogFilter,
        known: Followed,
    ) -> Box<Question> {
        let sent = filter.on_block(&known.block().hash);
        let check = Check::LogsOfBlock {
            known: known.clone(),
            addresses: filter.addresses.clone(),
            topics: filter.topics.clone(),
        };
        self.question(method, sent, About::Followed(known), &[&filter.question()], check)
    }

    /// Sends a transaction, then looks for its effects: on chains that seal at once, the sender's
    /// next read must see them.
    async fn send(&self, method: &'static Method, text: &str) -> Result<Answer, ChainError> {
        let call = Call {
            method,
            params: text,
            height: None,
            request: Request::One,
            deadline: self.pool.deadline(),
            except: &[],
        };
        let begun = Instant::now();
        let answer = match self.pool.ask(call, |_| Ok(())).await {
            Ok(won) => nothing(won.result, won.upstream),
            Err(Lost::SentBefore(error)) => match transaction_hash(text) {
                Some(hash) => nothing(format!("\"{hash}\"").into(), "".into()),
                None => return Err(ChainError::Node(error)),
            },
            Err(lost) => return Err(lost.or_missing(|| self.unavailable())),
        };
        self.follower.refresh(REFRESH_LIMIT / 3).await;
        let meta = AnswerMeta { upstream_time: begun.elapsed(), ..answer.meta };
        Ok(Answer { meta, ..answer })
    }
}

/// The hash of the signed transaction in the parameters of `eth_sendRawTransaction`.
fn transaction_hash(params: &str) -> Option<Hash> {
    let (raw,): (&str,) = serde_json::from_str(params).ok()?;
    let bytes: alloy_primitives::Bytes = raw.parse().ok()?;
    Some(Hash(alloy_primitives::keccak256(bytes).0))
}

/// The height that a number or tag means now.
fn height_of(selector: BlockSelector, heads: &Heads) -> Option<Height> {
    match selector {
        BlockSelector::Latest => Some(heads.latest.number),
        BlockSelector::Safe => heads.safe.map(|block| block.number),
        BlockSelector::Finalized => heads.finalized.map(|block| block.number),
        BlockSelector::Number(number) => Some(number),
        BlockSelector::Hash(_) => None,
    }
}

/// Whether the node may rightly know nothing of what was asked for.
fn may_be_unknown(method: &Method) -> bool {
    matches!(method.shape, Shape::Transaction | Shape::Receipt)
}
