//! The bus: carries events from the relay to subscribers that nobody on the sending side knows.

use async_trait::async_trait;

use crate::{DeliveryTag, EventMessage, EventPattern, Fault, SubscriberName};

/// Carries events to whoever wants them.
#[async_trait]
pub trait EventBus: Send + Sync {
    /// A publisher of its own.
    async fn publisher(&self) -> Result<Box<dyn EventPublisher>, Fault>;

    /// Subscribes under `name` to events of the types in `patterns`, in place of what the name was subscribed to before. From
    /// now on such events are kept for the name until they are acknowledged, also while nobody receives them. Several may
    /// receive under one name: each event goes to one of them. At most `prefetch` events are in hand at once.
    async fn subscribe(
        &self,
        name: &SubscriberName,
        patterns: &[EventPattern],
        prefetch: u16,
    ) -> Result<Box<dyn Subscription>, Fault>;

    /// Ends what `name` is subscribed to and throws away what waits for it; false: there is no such subscriber. Fails while
    /// somebody receives under the name.
    async fn unsubscribe(&self, name: &SubscriberName) -> Result<bool, Fault>;

    /// What waits for `name`; `None`: there is no such subscriber. Changes nothing.
    async fn waiting(&self, name: &SubscriberName) -> Result<Option<Waiting>, Fault>;

    /// Gives all parked events of `name` to it again; how many. Killed in between, an event comes twice.
    async fn redrive_parked(&self, name: &SubscriberName) -> Result<u64, Fault>;
}

/// What waits for one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Events that nobody has acknowledged; where the bus cannot tell, without those in hand.
    pub events: u64,
    /// Events that it could not take in, and that wait for a human.
    pub parked: u64,
}

/// The sending half of the bus. After any fault drop it and ask the bus for a new one.
#[async_trait]
pub trait EventPublisher: Send {
    /// Hands one event over. When it returns, the bus has it durably for every subscriber that wants it. After
    /// [`Fault::Unknown`] it may have it, or get it later. Publishing it again is always safe: a subscriber takes an event id
    /// once.
    async fn publish(&mut self, event: &EventMessage) -> Result<(), Fault>;
}

/// One event, given to a subscriber.
#[derive(Debug)]
pub struct EventDelivery {
    /// The event.
    pub message: EventMessage,
    /// Gives the delivery back.
    pub tag: DeliveryTag,
}

/// The receiving half of the bus. Dropping it gives back what is not acknowledged. After any fault drop it and subscribe again.
#[async_trait]
pub trait Subscription: Send {
    /// Waits for the next event. May be cancelled without losing one.
    async fn next(&mut self) -> Result<EventDelivery, Fault>;

    /// Confirms that the event has had its effect. After a fault it may come again.
    async fn ack(&mut self, tag: DeliveryTag) -> Result<(), Fault>;

    /// Parks the event for a human, with a reason, instead of acknowledging it. Killed in between, it is parked and comes again.
    async fn park(&mut self, delivery: EventDelivery, reason: &str) -> Result<(), Fault>;
}
