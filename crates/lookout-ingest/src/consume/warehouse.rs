//! The consumer that keeps frames in the warehouse.

use std::sync::Arc;

use async_trait::async_trait;
use lookout_types::{ChainId, Cursor, Frame, Height};
use lookout_warehouse::Warehouse;

use super::{ConsumeError, Consumer};

/// Keeps frames in the warehouse.
#[derive(Debug, Clone)]
pub struct WarehouseConsumer(Arc<dyn Warehouse>);

impl WarehouseConsumer {
    /// Keeps them in this one.
    pub fn new(warehouse: Arc<dyn Warehouse>) -> Self {
        Self(warehouse)
    }
}

#[async_trait]
impl Consumer for WarehouseConsumer {
    fn name(&self) -> &'static str {
        "warehouse"
    }

    async fn cursor(&self, chain: ChainId) -> Result<Cursor, ConsumeError> {
        Ok(self.0.cursor(chain).await?)
    }

    async fn apply(&self, frames: Vec<Arc<Frame>>) -> Result<Cursor, ConsumeError> {
        Ok(self.0.apply(frames).await?.cursor)
    }

    async fn reset(&self, chain: ChainId) -> Result<(), ConsumeError> {
        Ok(self.0.truncate(chain).await?)
    }

    async fn lowest(&self, chain: ChainId) -> Result<Option<Height>, ConsumeError> {
        let held = self.0.coverage(chain).await?;
        Ok(held.first().map(|range| *range.start()))
    }
}
