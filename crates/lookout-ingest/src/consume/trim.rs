//! Lets the bus go of frames that every consumer has committed.

use std::sync::Arc;
use std::time::Duration;

use lookout_bus::Bus;
use lookout_types::ChainId;
use tokio_util::sync::CancellationToken;

use super::{ConsumeError, Consumer};

/// Frames kept below the slowest consumer: reorgs as deep as any that happened on a chain in
/// production are undone from the bus alone.
pub const KEEP_FRAMES: u64 = 1_024;

/// What trimming is made of.
#[derive(Debug)]
pub struct TrimParts {
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// The chain.
    pub chain: ChainId,
    /// The chain's configured name.
    pub name: Arc<str>,
    /// Everyone who reads it. One that is left out may find frames gone.
    pub consumers: Vec<Arc<dyn Consumer>>,
    /// Frames kept below the slowest of them; at least [`KEEP_FRAMES`] makes sense.
    pub keep_frames: u64,
    /// How often it is looked at.
    pub interval: Duration,
    /// Ends it.
    pub stop: CancellationToken,
}

/// Trims the bus now and again, until it is told to stop.
pub async fn trim(parts: TrimParts) {
    let mut warned = false;
    loop {
        let sleep = tokio::time::sleep(parts.interval);
        if parts.stop.run_until_cancelled(sleep).await.is_none() {
            return;
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
        for consumer in &self.consumers {
            slowest = slowest.min(consumer.cursor(self.chain).await?.sequence);
        }
        // The frame at the cursor stays too.
        let below = slowest.saturating_sub(self.keep_frames);
        Ok(self.bus.trim(self.chain, below).await?)
    }
}
