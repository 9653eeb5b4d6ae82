//! The steps that buyers ask for, behind the port that the gateway knows.

use async_trait::async_trait;
use seckill_core::{Backend, Changed, Fault, OrderId, OrderService};

use crate::cancel;

/// Takes orders a step on for their buyers.
pub struct Service {
    backend: Backend,
}

impl Service {
    pub fn new(backend: Backend) -> Self {
        Self { backend }
    }
}

#[async_trait]
impl OrderService for Service {
    async fn cancel(&self, order: OrderId) -> Result<Changed, Fault> {
        cancel::by_buyer(&self.backend, order).await
    }
}
