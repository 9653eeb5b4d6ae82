//! A connection to RabbitMQ that is made on first use and made anew once it is broken, and the channels on it. The client's own
//! recovery stays off: what was in flight on a lost connection is unknown to the port's users, and must stay so.
//!
//! Failing is quick and is left to the caller to try again, who knows how long to wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::options::BasicAckOptions;
use lapin::uri::{AMQPAuthority, AMQPUri};
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind};
use seckill_core::{Dependency, Fault};
use tokio::sync::Mutex;

use super::step::{BLOCKED, STEP, step, unavailable, unknown};
use super::topology::{self, Declaring};
use super::wire::{self, Wire};

/// The longest that connecting may take, from the first packet to the declared topology.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a connection that is no longer wanted has for its goodbye, before it is cut.
const GOODBYE: Duration = Duration::from_secs(2);

/// Makes the connection for one purpose, when it is needed.
pub(crate) struct Link {
    broker: AMQPUri,
    purpose: &'static str,
    topology: Topology,
    slot: Mutex<Slot>,
}

/// What is declared on every new connection.
pub(crate) enum Topology {
    /// What carries orders. Shared by the links of a process: whoever finds the queue declared must not find it too new.
    Orders(Arc<Mutex<Declaring>>),
    /// What carries events.
    Events,
}

#[derive(Default)]
struct Slot {
    live: Option<Arc<Live>>,
    /// When the last attempt failed, and why.
    failure: Option<(Instant, Fault)>,
}

/// A channel, and the connection that carries it.
pub(crate) struct Lane {
    pub(crate) channel: Channel,
    live: Arc<Live>,
}

impl Lane {
    pub(crate) fn is_open(&self) -> bool {
        self.channel.status().connected() && self.live.connection.status().connected()
    }

    /// Acknowledges a delivery of the channel. After a fault it may come again.
    pub(crate) async fn ack(&self, tag: u64) -> Result<(), Fault> {
        if !self.is_open() {
            return Err(unavailable("the connection to RabbitMQ is lost; the delivery will come again"));
        }
        let ack = self.channel.basic_ack(tag, BasicAckOptions { multiple: false });
        match tokio::time::timeout(STEP, ack).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(unknown(format!("RabbitMQ was lost before it took an ack: {error}"))),
            Err(_) => Err(unknown(format!("RabbitMQ did not take an ack within {STEP:?}"))),
        }
    }

    /// Another channel on the same connection.
    pub(crate) async fn another(&self) -> Result<Self, Fault> {
        let channel = step("open a channel", self.live.connection.create_channel()).await?;
        Ok(Self { channel, live: Arc::clone(&self.live) })
    }

    /// The first number of the broker's version, such as 4; `None` where it has not said one.
    pub(crate) fn broker_version(&self) -> Option<u32> {
        self.live.wire.broker_version()
    }

    /// Whether the broker has told this connection to stop publishing: an alarm about memory or disk.
    pub(crate) fn is_blocked(&self) -> bool {
        self.live.connection.status().blocked()
    }
}

impl Link {
    pub(crate) fn new(broker: AMQPUri, purpose: &'static str, topology: Topology) -> Self {
        Self { broker, purpose, topology, slot: Mutex::default() }
    }

    /// Opens a channel; connects first where there is no connection.
    pub(crate) async fn open(&self) -> Result<Lane, Fault> {
        let live = self.live().await?;
        // Nothing goes out on a blocked connection, this request neither. It is not broken, though, and a new one would
        // not know that it is blocked before it had published something in vain.
        if live.connection.status().blocked() {
            return Err(unavailable(BLOCKED));
        }
        match step("open a channel", live.connection.create_channel()).await {
            Ok(channel) => Ok(Lane { channel, live }),
            Err(fault) => {
                self.discard_live(&live).await;
                Err(fault)
            }
        }
    }

    /// Whether the broker has blocked the connection, as far as is known at once: while a new one is made, it is not.
    pub(crate) fn is_blocked(&self) -> bool {
        let is_blocked = |live: &Arc<Live>| {
            let status = live.connection.status();
            status.connected() && status.blocked()
        };
        self.slot.try_lock().is_ok_and(|slot| slot.live.as_ref().is_some_and(is_blocked))
    }

    /// Has the next channel opened on a new connection. The channels of the old one live on.
    pub(crate) async fn discard(&self, lane: &Lane) {
        self.discard_live(&lane.live).await;
    }

    async fn discard_live(&self, live: &Arc<Live>) {
        let mut slot = self.slot.lock().await;
        if slot.live.as_ref().is_some_and(|current| Arc::ptr_eq(current, live)) {
            slot.live = None;
        }
    }

    /// One attempt to connect serves everyone who came while it was under way, whether it succeeds or fails. The lock is
    /// held for as long as one attempt takes, which has a deadline.
    async fn live(&self) -> Result<Arc<Live>, Fault> {
        let asked_at = Instant::now();
        let mut slot = self.slot.lock().await;
        if let Some(live) = slot.live.as_ref().filter(|live| live.connection.status().connected()) {
            return Ok(live.clone());
        }
        slot.live = None;
        if let Some((_, fault)) = slot.failure.as_ref().filter(|(failed_at, _)| *failed_at > asked_at) {
            return Err(fault.clone());
        }
        match self.connect().await {
            Ok(live) => Ok(slot.live.insert(Arc::new(live)).clone()),
            Err(fault) => {
                slot.failure = Some((Instant::now(), fault.clone()));
                Err(fault)
            }
        }
    }

    async fn connect(&self) -> Result<Live, Fault> {
        let error = match tokio::time::timeout(CONNECT, self.dial()).await {
            Ok(Ok(live)) => return Ok(live),
            Ok(Err(error)) => error,
            Err(_) => return Err(unavailable(self.sentence(&format!("no answer within {CONNECT:?}")))),
        };
        if let Some(advice) = advice(&error) {
            return Err(Fault::misconfigured(
                Dependency::Queue,
                self.sentence(&format!("{error}; {advice}")),
            ));
        }
        Err(unavailable(self.sentence(&error.to_string())))
    }

    fn sentence(&self, reason: &str) -> String {
        let AMQPUri { authority, vhost, .. } = &self.broker;
        let AMQPAuthority { host, port, userinfo } = authority;
        format!(
            "cannot use RabbitMQ at {host}:{port}, vhost {vhost:?}, as user {:?}: {reason}",
            userinfo.username
        )
    }

    async fn dial(&self) -> lapin::Result<Live> {
        let wire = Wire::default();
        let dialled = wire.clone();
        let open = async move |broker: AMQPUri, _| {
            // The client has no time-out of its own for this; without one its thread would stay.
            let connected = tokio::time::timeout(CONNECT, dialled.dial(&broker)).await;
            Ok(connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))?)
        };
        // If this future is dropped in the middle of the handshake, only cutting the wire ends the client's thread.
        let handshake = CutOnDrop(Some(wire.clone()));
        let properties = ConnectionProperties::default().with_connection_name(self.purpose.into());
        let connection =
            Connection::connector(self.broker.clone(), wire::runtime(), open, properties).await?;
        handshake.keep();
        let live = Live { connection, wire };
        match &self.topology {
            Topology::Orders(declaring) => {
                let mut declaring = declaring.lock().await;
                topology::declare(&live.connection, live.wire.broker_version(), &mut declaring).await?;
            }
            Topology::Events => topology::declare_events(&live.connection).await?,
        }
        Ok(live)
    }
}

/// What to do where the broker refused what we are set up to do; `None`: it did not. The numbers are AMQP 0-9-1's.
fn advice(error: &lapin::Error) -> Option<&'static str> {
    let ErrorKind::ProtocolError(error) = error.kind() else { return None };
    match error.get_id() {
        // A login or a vhost that it does not grant us.
        403 | 530 => Some("check user, password and vhost in the amqp url"),
        // A queue or an exchange that exists with other arguments.
        406 => Some(
            "a queue or an exchange of this name exists with other settings, so something else has made it. Use a vhost that only \
             seckill uses; or stop what uses the queue, save the messages in it, delete it, and start again",
        ),
        _ => None,
    }
}

/// A connection that is up, or was.
struct Live {
    connection: Connection,
    wire: Wire,
}

impl Drop for Live {
    /// The client says goodbye by itself, but waits for the answer without an end: a broker that has vanished would keep its
    /// thread and buffers for good.
    fn drop(&mut self) {
        let wire = self.wire.clone();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                tokio::time::sleep(GOODBYE).await;
                wire.cut();
            })),
            Err(_) => wire.cut(),
        }
    }
}

struct CutOnDrop(Option<Wire>);

impl CutOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        if let Some(wire) = &self.0 {
            wire.cut();
        }
    }
}

/// Every step of connecting is shorter than connecting.
const _: () = assert!(STEP.as_millis() < CONNECT.as_millis());
