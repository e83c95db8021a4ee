//! Lets the bus go of frames that every consumer has committed.
//!
//! A consumer that is not here, or has ended, finds frames gone when it runs again, and is built again
//! from the warehouse. So frames stay until the warehouse has them, whoever fills it, and the bus grows no
//! further than that.

use std::sync::Arc;
use std::time::Duration;

use lookout_bus::Bus;
use lookout_types::ChainId;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{ConsumeError, Consumer, ConsumerState};

/// Frames kept below the slowest consumer: reorgs as deep as any that happened on a chain in
/// production are undone from the bus alone.
pub const KEEP_FRAMES: u64 = 1_024;

/// Someone who reads the bus.
#[derive(Debug)]
pub struct Reader {
    /// Who.
    pub consumer: Arc<dyn Consumer>,
    /// Its run, once which has ended no frame is kept for it; `None` for one that frames are kept for
    /// whatever comes.
    pub run: Option<watch::Receiver<ConsumerState>>,
}

impl Reader {
    /// Whether its run is over: what tells how far it is, is gone then.
    fn has_ended(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.has_changed().is_err())
    }
}

/// What trimming is made of.
#[derive(Debug)]
pub struct TrimParts {
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// The chain.
    pub chain: ChainId,
    /// The chain's configured name.
    pub name: Arc<str>,
    /// Everyone who reads it. The warehouse must be among them; others that are left out may find frames
    /// gone, and be built again from it.
    pub readers: Vec<Reader>,
    /// Frames kept below the slowest of them; at least [`KEEP_FRAMES`] makes sense.
    pub keep_frames: u64,
    /// How often it is looked at.
    pub interval: Duration,
    /// Ends it.
    pub stop: CancellationToken,
}

/// Trims the bus now and again, until it is told to stop.
pub async fn trim(parts: TrimParts) {
    let (mut warned, mut told) = (false, Vec::new());
    loop {
        let sleep = tokio::time::sleep(parts.interval);
        if parts.stop.run_until_cancelled(sleep).await.is_none() {
            return;
        }
        for reader in parts.readers.iter().filter(|reader| reader.has_ended()) {
            let consumer = reader.consumer.name();
            if !told.contains(&consumer) && !parts.stop.is_cancelled() {
                tracing::warn!(chain = %parts.name, consumer,
                    "the consumer has ended: frames are no longer kept for it, and when it runs again it is built from the warehouse");
                told.push(consumer);
            }
        }
        match parts.trim_once().await {
            Ok(_) => warned = false,
            Err(error) => {
                if !warned {
                    tracing::warn!(chain = %parts.name, %error, "the bus is not trimmed; trying on");
                }
                warned = true;
            }
        }
    }
}

impl TrimParts {
    /// Trims once, and returns the oldest frame kept. While a consumer cannot be asked, nothing goes.
    ///
    /// # Errors
    /// What a consumer or the bus says.
    pub async fn trim_once(&self) -> Result<u64, ConsumeError> {
        let mut slowest = self.bus.tail(self.chain).await?.sequence;
        for reader in &self.readers {
            if !reader.has_ended() {
                slowest = slowest.min(reader.consumer.cursor(self.chain).await?.sequence);
            } else if self.stop.is_cancelled() {
                // It was told to end, and goes on after the next start.
                return Ok(self.bus.oldest(self.chain).await?);
            }
        }
        // The frame at the cursor stays too.
        let below = slowest.saturating_sub(self.keep_frames);
        Ok(self.bus.trim(self.chain, below).await?)
    }
}
