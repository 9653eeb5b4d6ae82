//! Events on their way: from the outbox to the bus ([`relay`]), and from the bus to one effect at each subscriber
//! ([`subscriber`], [`inbox`]). [`gauges`] shows what waits. The relay does not know who reads, and the subscribers do not know who wrote.

pub mod gauges;
pub mod inbox;
pub mod relay;
pub mod subscriber;
pub mod subscribers;
