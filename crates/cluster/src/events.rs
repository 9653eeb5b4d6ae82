//! The event bus on RabbitMQ: the port's methods. What is declared there is in `topology`, the two halves are in `publisher` and
//! `subscription`. Connections are the queue's kind, with the same split: what a broker that is short of memory or disk stops is
//! what publishes.
//!
//! Routing keys begin with the ledger's id, so that several ledgers can share a broker and never see each other's events.

mod parked;
mod publisher;
mod subscription;
mod topology;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use lapin::uri::AMQPUri;
use seckill_core::{
    Dependency, EventBus, EventPattern, EventPublisher, Fault, Ledger, LedgerId, SubscriberName,
    Subscription, Waiting,
};
use tokio::sync::Mutex as AsyncMutex;

use crate::identity::Identity;
use crate::queue::connection::{Lane, Link, Topology};
use crate::queue::step::{step, unavailable};
use topology::{Lock, Names};

/// The longest that the steps of subscribing, or of ending that, may take together. Shorter than the lock lasts.
const WORK: Duration = Duration::from_secs(15);

pub(crate) struct RabbitEvents {
    shared: Arc<Shared>,
    consuming: Link,
    /// Asked for its id where that is not known yet; `None`: it is known.
    ledger: Option<Arc<dyn Ledger>>,
    /// For each name: held by the one call that changes what it is subscribed to. Against other processes there is a lock at the
    /// broker, which does not tell calls of one connection apart. A process knows few names, so none is ever removed.
    changing: Mutex<HashMap<String, Arc<AsyncMutex<()>>>>,
}

/// What the bus has in common with its publishers and subscriptions.
struct Shared {
    identity: Arc<Identity>,
    /// Subscriptions use it too, to park events.
    publishing: Link,
}

impl RabbitEvents {
    pub(crate) fn new(broker: AMQPUri, identity: Arc<Identity>, ledger: Option<Arc<dyn Ledger>>) -> Self {
        let publishing = Link::new(broker.clone(), "seckill publishing events", Topology::Events);
        Self {
            shared: Arc::new(Shared { identity, publishing }),
            consuming: Link::new(broker, "seckill consuming events", Topology::Events),
            ledger,
            changing: Mutex::default(),
        }
    }

    /// Whose events this bus carries.
    async fn ledger_id(&self) -> Result<LedgerId, Fault> {
        match (self.shared.identity.known(Dependency::Events)?, &self.ledger) {
            (Some(id), _) => Ok(id),
            (None, Some(ledger)) => ledger.id().await,
            (None, None) => {
                Err(Fault::unavailable(Dependency::Events, "it is not known whose events they are"))
            }
        }
    }

    async fn names(&self, name: &SubscriberName) -> Result<Names, Fault> {
        Ok(Names::new(name, self.ledger_id().await?))
    }

    /// Changes what `names` is subscribed to while no other process does.
    async fn change<T>(
        &self,
        names: &Names,
        work: impl AsyncFnOnce(&Lane) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let turn = {
            let mut changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(changing.entry(names.queue.clone()).or_default())
        };
        let _turn = turn.lock().await;
        let lane = self.consuming.open().await?;
        let lock = Lock::take(&lane, names).await?;
        let done = tokio::time::timeout(WORK, work(&lane)).await;
        lock.release().await;
        let done = done.unwrap_or_else(|_| Err(unavailable(format!("RabbitMQ took longer than {WORK:?}"))));
        if done.is_err() {
            // Perhaps the exchange was deleted; a new connection declares it again.
            self.consuming.discard(&lane).await;
        }
        done
    }
}

#[async_trait]
impl EventBus for RabbitEvents {
    async fn publisher(&self) -> Result<Box<dyn EventPublisher>, Fault> {
        let ledger = self.ledger_id().await?;
        let shared = Arc::clone(&self.shared);
        let publisher = publisher::RabbitEventPublisher::open(shared, ledger).await.map_err(of_events)?;
        Ok(Box::new(publisher))
    }

    async fn subscribe(
        &self,
        name: &SubscriberName,
        patterns: &[EventPattern],
        prefetch: u16,
    ) -> Result<Box<dyn Subscription>, Fault> {
        let names = self.names(name).await?;
        let subscribed = self.change(&names, async |lane| {
            topology::declare_subscriber(lane, &names).await?;
            let bind = topology::bind(&lane.channel, &names, patterns);
            step("bind a subscriber's queue", bind).await?;
            let shared = Arc::clone(&self.shared);
            subscription::RabbitSubscription::open(lane.another().await?, shared, names.clone(), prefetch)
                .await
        });
        Ok(Box::new(subscribed.await.map_err(of_events)?))
    }

    async fn unsubscribe(&self, name: &SubscriberName) -> Result<bool, Fault> {
        let names = self.names(name).await?;
        let removed = self.change(&names, async |lane| {
            let queue = topology::find(lane, &names.queue).await?;
            // RabbitMQ itself does not refuse to delete a quorum queue that is in use. Nobody subscribes behind this lock.
            if queue.as_ref().is_some_and(|queue| queue.consumer_count() > 0) {
                return Ok(None);
            }
            step("remove a subscriber", topology::remove(&lane.channel, &names)).await?;
            Ok(Some(queue.is_some()))
        });
        removed.await.map_err(of_events)?.ok_or_else(|| {
            let reason = format!("somebody receives under the name {name}; end that first");
            Fault::unavailable(Dependency::Events, reason)
        })
    }

    async fn waiting(&self, name: &SubscriberName) -> Result<Option<Waiting>, Fault> {
        let names = self.names(name).await?;
        let count = async {
            let lane = self.consuming.open().await?;
            let Some(queue) = topology::find(&lane, &names.queue).await? else { return Ok(None) };
            let parked = topology::find(&lane, &names.parked).await?;
            let parked = parked.map_or(0, |parked| parked.message_count());
            Ok(Some(Waiting { events: queue.message_count().into(), parked: parked.into() }))
        };
        count.await.map_err(of_events)
    }

    async fn redrive_parked(&self, name: &SubscriberName) -> Result<u64, Fault> {
        let names = self.names(name).await?;
        let lane = self.consuming.open().await.map_err(of_events)?;
        parked::redrive(&lane, &self.shared.publishing, &names).await.map_err(of_events)
    }
}

/// What failed on a connection of the bus is a fault of the bus, not of the queue that has the same kind of connection.
fn of_events(fault: Fault) -> Fault {
    const EVENTS: Dependency = Dependency::Events;
    match fault {
        Fault::Unavailable { dependency: Dependency::Queue, reason } => Fault::unavailable(EVENTS, reason),
        Fault::Misconfigured { dependency: Dependency::Queue, reason } => {
            Fault::misconfigured(EVENTS, reason)
        }
        Fault::Unknown { dependency: Dependency::Queue, reason } => Fault::unknown(EVENTS, reason),
        other => other,
    }
}
