//! Delivers events to somebody outside: as lines of text, or by [webhook](crate::webhook).

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use seckill_core::{EventBus, EventMessage, EventPattern, Fault, SubscriberName};
use thiserror::Error;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Where events are delivered to.
#[async_trait]
pub trait Sink: Send {
    /// Events that may be in this process's hand at once.
    fn prefetch(&self) -> u16;

    /// Hands one event over; returns when whoever gets it has it, or when that is given up. Dropping the future gives the event
    /// back.
    ///
    /// # Errors
    /// Nothing can be handed over any more. `BrokenPipe`: nobody is there who wants it.
    async fn take(&mut self, message: &EventMessage) -> io::Result<Verdict>;
}

/// What is to become of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has been handed over.
    Taken,
    /// It waits for a human, with this reason.
    Park(String),
}

/// Writes each event as a line of JSON.
pub struct Lines<W>(pub W);

#[async_trait]
impl<W: AsyncWrite + Send + Unpin> Sink for Lines<W> {
    fn prefetch(&self) -> u16 {
        64
    }

    async fn take(&mut self, message: &EventMessage) -> io::Result<Verdict> {
        // The text has no line break: this program writes none, and in JSON one means nothing.
        let line = message.text.replace(['\r', '\n'], " ") + "\n";
        self.0.write_all(line.as_bytes()).await?;
        // Only what has left this process is acknowledged.
        self.0.flush().await?;
        Ok(Verdict::Taken)
    }
}

/// Whose events are delivered, and until when.
pub struct Delivery<'a> {
    /// The subscriber.
    pub name: &'a SubscriberName,
    /// The events that it wants.
    pub patterns: &'a [EventPattern],
    /// Ends after so many events, taken or parked; `None`: goes on.
    pub count: Option<u64>,
}

/// Why a delivery has ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Somebody asked for it.
    Shutdown,
    /// As many events as were wanted.
    Counted,
    /// Nobody reads any more.
    Closed,
}

/// Why a delivery has ended with an error.
#[derive(Debug, Error)]
pub enum DeliverError {
    /// The bus refuses what this program was told to use.
    #[error(transparent)]
    Bus(#[from] Fault),
    /// The events cannot be written.
    #[error("cannot write events: {0}")]
    Output(#[from] io::Error),
}

/// Delivers to `sink` until `shutdown`, in the order in which the events come, each until it is taken or parked. Goes on through
/// every fault of the bus, except where the bus cannot be used from the start. What is not acknowledged comes again: whoever gets
/// the events gets some of them twice.
///
/// # Errors
/// Waiting does not help: the bus refuses, or nothing can be written.
pub async fn deliver(
    bus: &dyn EventBus,
    delivery: Delivery<'_>,
    sink: &mut dyn Sink,
    shutdown: CancellationToken,
) -> Result<End, DeliverError> {
    let mut deliverer = Deliverer { left: delivery.count, delivery, sink, pauses: pauses(), outage: None };
    loop {
        let ended = shutdown.run_until_cancelled(deliverer.receive(bus)).await;
        let fault = match ended {
            None => return Ok(End::Shutdown),
            Some(Ok(end)) => return Ok(end),
            Some(Err(DeliverError::Bus(fault))) => fault,
            Some(Err(error)) => return Err(error),
        };
        let hopeless = matches!(fault, Fault::Misconfigured { .. } | Fault::Corrupt { .. });
        if hopeless && deliverer.outage.is_none() {
            return Err(fault.into());
        }
        if deliverer.outage != Some(true) {
            tracing::warn!(subscriber = %deliverer.delivery.name, error = %fault, "no events come; trying again until they do");
            deliverer.outage = Some(true);
        }
        let pause = deliverer.pauses.next().unwrap_or_default();
        if shutdown.run_until_cancelled(sleep(pause)).await.is_none() {
            return Ok(End::Shutdown);
        }
    }
}

struct Deliverer<'a> {
    delivery: Delivery<'a>,
    sink: &'a mut dyn Sink,
    left: Option<u64>,
    pauses: ExponentialBackoff,
    /// Whether the bus is away, and somebody was told so; `None`: it has never been there.
    outage: Option<bool>,
}

impl Deliverer<'_> {
    async fn receive(&mut self, bus: &dyn EventBus) -> Result<End, DeliverError> {
        let Delivery { name, patterns, .. } = self.delivery;
        // Nobody takes more into the hand than is wanted.
        let wanted = self.left.and_then(|left| u16::try_from(left).ok()).unwrap_or(u16::MAX);
        let mut subscription = bus.subscribe(name, patterns, self.sink.prefetch().min(wanted).max(1)).await?;
        match self.outage.replace(false) {
            None => tracing::info!(subscriber = %name, "subscribed; events are kept from now on"),
            Some(true) => tracing::warn!(subscriber = %name, "events come again"),
            Some(false) => {}
        }
        while self.left != Some(0) {
            let event = subscription.next().await?;
            match self.sink.take(&event.message).await {
                Ok(Verdict::Taken) => subscription.ack(event.tag).await?,
                Ok(Verdict::Park(reason)) => {
                    tracing::error!(subscriber = %name, event = %event.message.id, %reason, "an event is parked");
                    subscription.park(event, &reason).await?;
                }
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(End::Closed),
                Err(error) => return Err(error.into()),
            }
            // Not sooner: a bus that gives and does not take back would have the same event handed over again at once.
            self.pauses = pauses();
            self.left = self.left.map(|left| left.saturating_sub(1));
        }
        Ok(End::Counted)
    }
}

/// Pauses from 100 ms up to 10 s, jittered, without an end.
fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(10))
        .with_jitter()
        .without_max_times()
        .build()
}
