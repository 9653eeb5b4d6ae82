//! The receiving half of the event bus.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use seckill_core::{DeliveryTag, Dependency, EventDelivery, Fault, Subscription};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::Shared;
use super::store::{self, Taken};

/// How soon a receiver sees what another process has published. Of its own process it is told at once.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often a receiver says that it is alive.
const RENEW_EVERY: Duration = store::LEASE.checked_div(5).expect("five is not zero");

/// Has up to `prefetch` events in hand. The tag of a delivery is the event's number.
pub(super) struct SqliteSubscription {
    shared: Arc<Shared>,
    subscriber: i64,
    receiver: i64,
    prefetch: usize,
    /// In hand, and not given out yet.
    taken: VecDeque<Taken>,
    given_out: HashSet<i64>,
    /// What is being taken. A task of its own, so that a wait that is cancelled in the midst of it loses nothing.
    taking: Option<JoinHandle<Result<Vec<Taken>, Fault>>>,
    renewing: JoinHandle<()>,
    runtime: Handle,
}

impl SqliteSubscription {
    pub(super) fn new(shared: Arc<Shared>, subscriber: i64, receiver: i64, prefetch: usize) -> Self {
        let renewing = tokio::spawn(renew(Arc::clone(&shared), receiver));
        Self {
            shared,
            subscriber,
            receiver,
            prefetch,
            taken: VecDeque::new(),
            given_out: HashSet::new(),
            taking: None,
            renewing,
            runtime: Handle::current(),
        }
    }

    async fn take(&mut self) -> Result<Vec<Taken>, Fault> {
        let taking = self.taking.get_or_insert_with(|| {
            let (subscriber, receiver) = (self.subscriber, self.receiver);
            let room = self.prefetch.saturating_sub(self.given_out.len());
            let shared = Arc::clone(&self.shared);
            tokio::spawn(async move { shared.take(subscriber, receiver, room).await })
        });
        let result = taking.await;
        self.taking = None;
        result.unwrap_or_else(|error| Err(Fault::unavailable(Dependency::Events, error)))
    }

    /// Whether the event of this tag was given out and is not given back yet.
    fn give_back(&mut self, tag: &DeliveryTag) -> Option<i64> {
        let number = tag.0.cast_signed();
        self.given_out.remove(&number).then_some(number)
    }
}

/// Says again and again that the receiver is alive, also while its events have their effect.
async fn renew(shared: Arc<Shared>, receiver: i64) {
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        match shared.renew(receiver).await {
            Ok(true) => {}
            // Whoever waits for an event sees that this has ended.
            Ok(false) => return,
            Err(fault) => tracing::warn!(%fault, "a subscriber could not say that it is alive"),
        }
    }
}

#[async_trait]
impl Subscription for SqliteSubscription {
    async fn next(&mut self) -> Result<EventDelivery, Fault> {
        loop {
            if let Some(Taken { number, message }) = self.taken.pop_front() {
                self.given_out.insert(number);
                return Ok(EventDelivery { message, tag: DeliveryTag(number.cast_unsigned()) });
            }
            if self.renewing.is_finished() {
                return Err(store::silent());
            }
            if self.given_out.len() >= self.prefetch {
                // An acknowledgement needs this subscription too, so nothing can change while this future is waited for.
                return std::future::pending().await;
            }
            let shared = Arc::clone(&self.shared);
            // Made before looking, so that what arrives in between is not missed.
            let arrived = shared.arrived.notified();
            let taken = self.take().await?;
            self.taken.extend(taken);
            if self.taken.is_empty() {
                // That the time is over is no failure: it is time to look again.
                let _ = tokio::time::timeout(LOOK_EVERY, arrived).await;
            }
        }
    }

    async fn ack(&mut self, tag: DeliveryTag) -> Result<(), Fault> {
        match self.give_back(&tag) {
            Some(number) => self.shared.ack(self.subscriber, number).await,
            None => Ok(()),
        }
    }

    async fn park(&mut self, delivery: EventDelivery, reason: &str) -> Result<(), Fault> {
        match self.give_back(&delivery.tag) {
            Some(number) => self.shared.park(self.subscriber, number, reason).await,
            None => Ok(()),
        }
    }
}

impl Drop for SqliteSubscription {
    /// What it had in hand is free once its row is gone. Should nobody be left to delete the row, nobody renews it either.
    fn drop(&mut self) {
        self.renewing.abort();
        self.shared.dropped().push(self.receiver);
        let shared = Arc::clone(&self.shared);
        self.runtime.spawn(async move {
            if let Err(fault) = shared.forget_dropped().await {
                tracing::warn!(%fault, "what a subscriber had in hand comes again after a while only");
            }
        });
    }
}
