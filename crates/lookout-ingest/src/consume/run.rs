//! Runs a consumer: from its cursor, in batches, through failures.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lookout_bus::{Bus, FrameStream};
use lookout_types::{BlockRef, ChainId, Clock, Cursor, Frame, Step};
use lookout_warehouse::Warehouse;
use metrics::{Counter, Gauge, counter, gauge};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::rebuild::rebuild;
use super::{ConsumeError, Consumer};
use crate::backoff::Backoff;

/// Rebuilds in a row, without a batch committed in between, after which another would not help.
const REBUILDS_MAX: u32 = 5;

/// Bounds of a consumer's run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumeLimits {
    /// Most frames of a batch: one transaction, whose work is lost when it fails.
    pub batch_frames: usize,
    /// About how many records of a batch: ten megabytes, and as much is read ahead.
    pub batch_records: usize,
    /// Longest first wait after a failure; it doubles with each further one.
    pub backoff_base: Duration,
    /// Longest wait after a failure.
    pub backoff_max: Duration,
}

impl Default for ConsumeLimits {
    fn default() -> Self {
        Self {
            batch_frames: 1_024,
            batch_records: 32_000,
            backoff_base: Duration::from_millis(250),
            backoff_max: Duration::from_secs(10),
        }
    }
}

/// How far a consumer is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConsumerState {
    /// Its cursor; `None` before it was read.
    pub cursor: Option<Cursor>,
    /// Frames on the bus that it has not committed.
    pub lag_frames: u64,
    /// Age of the last block that it has committed, in seconds by the block's time.
    pub age_s: Option<u64>,
    /// What it waits for, where something is wrong.
    pub problem: Option<String>,
    /// Whether it has stopped for good, because of that problem.
    pub stopped: bool,
}

/// What a consumer's run is made of.
#[derive(Debug)]
pub struct RunParts {
    /// What consumes.
    pub consumer: Arc<dyn Consumer>,
    /// Where frames come from.
    pub bus: Arc<dyn Bus>,
    /// The chain.
    pub chain: ChainId,
    /// The chain's configured name.
    pub name: Arc<str>,
    /// Where blocks that the bus has let go of are read for a rebuild. `None` for the consumer that
    /// fills it: it can be built from the bus alone.
    pub archive: Option<Arc<dyn Warehouse>>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Bounds.
    pub limits: ConsumeLimits,
    /// Told how far it is; make one with `watch::Sender::default()`.
    pub state: watch::Sender<ConsumerState>,
    /// Ends it.
    pub stop: CancellationToken,
}

/// What a run remembers besides its parts.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) parts: RunParts,
    meters: Meters,
}

#[derive(Debug)]
struct Meters {
    /// 0 once it has stopped because something is wrong.
    up: Gauge,
    frames: Counter,
    retries: Counter,
    rebuilds: Counter,
    lag_frames: Gauge,
    age: Gauge,
}

/// Runs a consumer until it is told to stop or the bus is closed.
///
/// Dropping the future is like a crash: the consumer stands at what it has committed.
///
/// # Errors
/// [`ConsumeError::Fatal`] when something must be done before it can go on; the message says what.
pub async fn run(parts: RunParts) -> Result<(), ConsumeError> {
    let stop = parts.stop.clone();
    let meters = Meters::new(&parts.name, parts.consumer.name());
    meters.up.set(1.0);
    let running = Running { parts, meters };
    let ended = stop.run_until_cancelled(running.run()).await.unwrap_or(Ok(()));
    if let Err(error) = &ended {
        let (chain, consumer) = (&running.parts.name, running.parts.consumer.name());
        tracing::error!(%chain, consumer, %error, "a consumer has stopped");
        running.meters.up.set(0.0);
        running.parts.state.send_modify(|state| {
            state.problem = Some(error.to_string());
            state.stopped = true;
        });
    }
    ended
}

impl Meters {
    fn new(chain: &str, consumer: &'static str) -> Self {
        let chain = || chain.to_owned();
        Self {
            up: gauge!("lookout_consumer_up", "chain" => chain(), "consumer" => consumer),
            frames: counter!("lookout_consumer_frames_total", "chain" => chain(), "consumer" => consumer),
            retries: counter!("lookout_consumer_retries_total", "chain" => chain(), "consumer" => consumer),
            rebuilds: counter!("lookout_consumer_rebuilds_total", "chain" => chain(), "consumer" => consumer),
            lag_frames: gauge!("lookout_consumer_lag_frames", "chain" => chain(), "consumer" => consumer),
            age: gauge!("lookout_consumer_lag_seconds", "chain" => chain(), "consumer" => consumer),
        }
    }
}

impl Running {
    async fn run(&self) -> Result<(), ConsumeError> {
        let limits = &self.parts.limits;
        let mut backoff = Backoff::new(limits.backoff_base, limits.backoff_max);
        let (mut warned, mut rebuilt) = (false, 0);
        loop {
            let mut committed = false;
            let followed = self.follow(&mut committed).await;
            if committed {
                backoff.reset();
                (warned, rebuilt) = (false, 0);
            }
            let error = match followed {
                Ok(()) => return Ok(()),
                Err(ConsumeError::Rebuild(reason)) if rebuilt >= REBUILDS_MAX => {
                    let reason = format!("it was rebuilt {rebuilt} times and still: {reason}");
                    return Err(ConsumeError::Fatal(reason));
                }
                Err(ConsumeError::Rebuild(reason)) => match rebuild(self, &reason).await {
                    Ok(()) => {
                        rebuilt += 1;
                        continue;
                    }
                    // It begins again from the start.
                    Err(ConsumeError::Rebuild(reason)) => {
                        rebuilt += 1;
                        ConsumeError::Retry(reason)
                    }
                    // What passes by itself is no rebuild that did not help.
                    Err(error) => error,
                },
                Err(error) => error,
            };
            let ConsumeError::Retry(reason) = error else { return Err(error) };
            self.meters.retries.increment(1);
            if !warned {
                let (chain, consumer) = (&self.parts.name, self.parts.consumer.name());
                tracing::warn!(%chain, consumer, reason, "a consumer waits, and tries on");
                warned = true;
            }
            self.parts.state.send_modify(|state| state.problem = Some(reason));
            backoff.wait().await;
        }
    }

    /// Forgets what the consumer holds; from here on it is built again.
    pub(super) async fn reset(&self) -> Result<(), ConsumeError> {
        self.meters.rebuilds.increment(1);
        self.parts.consumer.reset(self.parts.chain).await
    }

    /// Applies frames from the cursor on, until the bus is closed or something is wrong.
    async fn follow(&self, committed: &mut bool) -> Result<(), ConsumeError> {
        let RunParts { consumer, bus, chain, .. } = &self.parts;
        let mut cursor = consumer.cursor(*chain).await?;
        self.tell(cursor, None).await;
        let mut input = Input::new(bus.subscribe(*chain, cursor.sequence), &self.parts.limits);
        // What is read, while the batch before is being committed.
        while input.fill().await? {
            let batch = input.batch();
            if let Some(first) = batch.first() {
                check_seam(&cursor, first)?;
            }
            let time = batch.last().map(|frame| frame.timestamp);
            let count = batch.len();
            let applying = consumer.apply(batch);
            cursor = input.fill_while(applying).await?;
            *committed = true;
            self.meters.frames.increment(u64::try_from(count).unwrap_or(0));
            self.tell(cursor, time).await;
        }
        Ok(())
    }

    pub(super) async fn tell(&self, cursor: Cursor, time: Option<u64>) {
        // A bus that does not answer is told of where it is read.
        let tail = self.parts.bus.tail(self.parts.chain).await.map_or(0, |tail| tail.sequence);
        let lag_frames = tail.saturating_sub(cursor.sequence);
        let now_s = u64::try_from(self.parts.clock.now() / 1_000).unwrap_or(0);
        self.meters.lag_frames.set(meter(lag_frames));
        if let Some(time) = time {
            self.meters.age.set(meter(now_s.saturating_sub(time)));
        }
        self.parts.state.send_modify(|state| {
            state.cursor = Some(cursor);
            state.lag_frames = lag_frames;
            // A cursor that was only read says nothing about whether it gets on.
            if time.is_some() || lag_frames == 0 {
                state.problem = None;
            }
            state.age_s = time.map(|time| now_s.saturating_sub(time)).or(state.age_s);
        });
    }
}

/// Frames read ahead of the consumer.
struct Input {
    stream: FrameStream,
    frames: VecDeque<Arc<Frame>>,
    records: usize,
    frames_max: usize,
    records_max: usize,
    ended: bool,
}

impl Input {
    fn new(stream: FrameStream, limits: &ConsumeLimits) -> Self {
        Self {
            stream,
            frames: VecDeque::new(),
            records: 0,
            frames_max: limits.batch_frames.max(1),
            records_max: limits.batch_records,
            ended: false,
        }
    }

    fn is_full(&self) -> bool {
        self.frames.len() >= self.frames_max || self.records >= self.records_max
    }

    fn add(
        &mut self,
        frames: Option<Result<Vec<Arc<Frame>>, lookout_bus::BusError>>,
    ) -> Result<(), ConsumeError> {
        match frames {
            Some(frames) => {
                for frame in frames? {
                    self.records += records_of(&frame);
                    self.frames.push_back(frame);
                }
            }
            None => self.ended = true,
        }
        Ok(())
    }

    /// Waits for frames, and takes what else is there; false once the bus is closed.
    async fn fill(&mut self) -> Result<bool, ConsumeError> {
        while !self.is_full() && !self.ended {
            let next = if self.frames.is_empty() {
                self.stream.next().await
            } else {
                match self.stream.next().now_or_never() {
                    Some(next) => next,
                    None => break,
                }
            };
            self.add(next)?;
        }
        Ok(!self.frames.is_empty())
    }

    /// The next batch: at least one frame.
    fn batch(&mut self) -> Vec<Arc<Frame>> {
        let (mut batch, mut records) = (Vec::new(), 0);
        while let Some(frame) = self.frames.front() {
            let more = records_of(frame);
            let full = batch.len() >= self.frames_max || records + more > self.records_max;
            if full && !batch.is_empty() {
                break;
            }
            records += more;
            batch.extend(self.frames.pop_front());
        }
        self.records -= records;
        batch
    }

    /// Reads on while `applying` is under way.
    async fn fill_while(
        &mut self,
        applying: impl Future<Output = Result<Cursor, ConsumeError>>,
    ) -> Result<Cursor, ConsumeError> {
        let mut applying = std::pin::pin!(applying);
        while !self.is_full() && !self.ended {
            tokio::select! {
                biased;
                cursor = &mut applying => return cursor,
                next = self.stream.next() => {
                    if let Err(error) = self.add(next) {
                        // What is being applied was right, and is committed first.
                        applying.await?;
                        return Err(error);
                    }
                }
            }
        }
        applying.await
    }
}

/// Records of a frame; each frame counts for one itself.
fn records_of(frame: &Frame) -> usize {
    1 + frame.transactions.len() + frame.logs.len()
}

/// Refuses a frame that does not follow the cursor: the bus and the consumer then hold different
/// histories. Frames of the bus follow each other, so the first of a batch is enough.
pub(super) fn check_seam(cursor: &Cursor, frame: &Frame) -> Result<(), ConsumeError> {
    let below = frame.block.number.checked_sub(1);
    let below = below.map(|number| BlockRef { number, hash: frame.parent });
    let follows = match (frame.step, cursor.head) {
        (Step::Apply, Some(head)) => below == Some(head),
        (Step::Apply, None) => true,
        (Step::Undo, head) => head == Some(frame.block),
    };
    if follows && frame.sequence == cursor.sequence + 1 {
        return Ok(());
    }
    let head = cursor.head.map_or_else(
        || "no block at all".to_owned(),
        |head| format!("block {} {}", head.number, head.hash),
    );
    Err(ConsumeError::Rebuild(format!(
        "frame {} ({} block {} {}) does not follow what was consumed: frame {}, {head}",
        frame.sequence, frame.step, frame.block.number, frame.block.hash, cursor.sequence
    )))
}

/// A number for a meter.
#[expect(clippy::cast_precision_loss, reason = "meters are floats; counts are far below 2^53")]
fn meter(value: u64) -> f64 {
    value as f64
}
