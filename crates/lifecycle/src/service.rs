//! The steps that buyers and operators ask for, behind the port that the gateway knows.

use std::sync::Arc;

use async_trait::async_trait;
use seckill_core::{
    Backend, Bank, Changed, Dependency, Fault, OrderId, OrderService, PaymentAnswer, PaymentRequest,
};

use crate::{cancel, pay, refund};

/// Takes orders a step on.
pub struct Service {
    backend: Backend,
    bank: Option<Arc<dyn Bank>>,
}

impl Service {
    /// Without a bank nothing can be paid by card.
    pub fn new(backend: Backend, bank: Option<Arc<dyn Bank>>) -> Self {
        Self { backend, bank }
    }
}

#[async_trait]
impl OrderService for Service {
    async fn cancel(&self, order: OrderId) -> Result<Changed, Fault> {
        cancel::by_buyer(&self.backend, order).await
    }

    async fn pay(&self, order: OrderId, request: &PaymentRequest) -> Result<PaymentAnswer, Fault> {
        pay::pay(&self.backend, self.bank.as_ref(), order, request).await
    }

    async fn request_refund(&self, order: OrderId, reason: &str) -> Result<Changed, Fault> {
        refund::request(&self.backend, order, reason).await
    }

    async fn decide_refund(&self, order: OrderId, approve: bool, decision: &str) -> Result<Changed, Fault> {
        refund::decide(&self.backend, order, approve, decision).await
    }

    async fn look_up_payment(&self, order: OrderId) -> Result<(), Fault> {
        let bank = self.bank.as_ref();
        let bank = bank.ok_or_else(|| Fault::unavailable(Dependency::Bank, "no bank is configured"))?;
        pay::look_up(&self.backend, bank, order).await
    }
}
