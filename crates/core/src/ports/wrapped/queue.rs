//! The queue, its publishers and its consumers with a hook around each call.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Around, Call, Wrapped};
use crate::ports::{
    Consumer, Delivery, DeliveryTag, OrderQueue, ParkedDepth, ParkedMessage, Publisher, QueueDepth,
};
use crate::{Fault, OrderBatch};

#[async_trait]
impl<A: Around> OrderQueue for Wrapped<Arc<dyn OrderQueue>, A> {
    async fn publisher(&self) -> Result<Box<dyn Publisher>, Fault> {
        let publisher = self.hook.call(Call::Publisher, 0, self.inner.publisher()).await?;
        Ok(Box::new(self.hook.wrap(publisher)))
    }

    async fn consumer(&self, prefetch: u16) -> Result<Box<dyn Consumer>, Fault> {
        let consumer = self.hook.call(Call::Consumer, 0, self.inner.consumer(prefetch)).await?;
        Ok(Box::new(self.hook.wrap(consumer)))
    }

    async fn depth(&self) -> Result<QueueDepth, Fault> {
        self.hook.call(Call::Depth, 0, self.inner.depth()).await
    }

    async fn consumers(&self) -> Result<u32, Fault> {
        self.hook.call(Call::Depth, 0, self.inner.consumers()).await
    }

    async fn return_newer(&self) -> Result<u64, Fault> {
        self.hook.call(Call::Parked, 0, self.inner.return_newer()).await
    }

    async fn parked(&self, limit: usize) -> Result<Vec<ParkedMessage>, Fault> {
        self.hook.call(Call::Parked, 0, self.inner.parked(limit)).await
    }

    async fn redrive(&self, id: &str) -> Result<bool, Fault> {
        self.hook.call(Call::Parked, 0, self.inner.redrive(id)).await
    }

    async fn discard(&self, id: &str) -> Result<bool, Fault> {
        self.hook.call(Call::Parked, 0, self.inner.discard(id)).await
    }

    async fn parked_depth(&self) -> Result<ParkedDepth, Fault> {
        self.hook.call(Call::Parked, 0, self.inner.parked_depth()).await
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.hook.call(Call::PingQueue, 0, self.inner.ping()).await
    }
}

#[async_trait]
impl<A: Around> Publisher for Wrapped<Box<dyn Publisher>, A> {
    fn accepting(&self) -> bool {
        self.hook.around.accepting() && self.inner.accepting()
    }

    async fn publish(&mut self, batch: &OrderBatch) -> Result<(), Fault> {
        let Self { inner, hook } = self;
        let publish = async {
            inner.publish(batch).await?;
            if hook.around.publishes_again() { inner.publish(batch).await } else { Ok(()) }
        };
        hook.call(Call::Publish, batch.orders.len(), publish).await
    }
}

#[async_trait]
impl<A: Around> Consumer for Wrapped<Box<dyn Consumer>, A> {
    async fn next(&mut self) -> Result<Delivery, Fault> {
        self.hook.call(Call::Next, 0, self.inner.next()).await
    }

    async fn ack(&mut self, tag: DeliveryTag) -> Result<(), Fault> {
        self.hook.call(Call::Ack, 0, self.inner.ack(tag)).await
    }

    async fn park(&mut self, delivery: Delivery, reason: &str) -> Result<(), Fault> {
        let orders = delivery.batch.orders.len();
        self.hook.call(Call::Park, orders, self.inner.park(delivery, reason)).await
    }
}
