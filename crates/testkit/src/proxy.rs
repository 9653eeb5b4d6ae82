//! A TCP proxy between the system and one real server, which makes the network between them fail on demand. How the
//! bytes of one connection move is in `pump`.

mod pump;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use url::Url;

/// Connections at the same time. Later ones wait in the kernel's backlog until one ends.
const MAX_CONNECTIONS: usize = 1_024;

/// How long the server may take to accept a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// One of the two directions in which bytes move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server: commands, statements, published messages.
    ToServer,
    /// From the server to the client: replies, confirms, deliveries.
    ToClient,
}

/// What the proxy does with the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Forwards them.
    Pass,
    /// Forwards each byte this long after it came, in order. At most 256 KiB are under way in one direction of a
    /// connection; the sender waits while that much is.
    Delay(Duration),
    /// Keeps them, as a network does that is interrupted for a while: the connection stays open, at most 256 KiB are
    /// taken, and all of them are forwarded once the direction passes again.
    Hold,
    /// Drops them, without a limit, and keeps the connection open. A connection that has lost bytes in this way is reset
    /// when the direction is set to anything else than [`Swallow`](Self::Swallow), because no real network leaves a gap
    /// in a stream.
    Swallow,
    /// Resets the connection at once. A new connection is accepted and then reset.
    Cut,
    /// Forwards this many more bytes of each connection, counted from the change to this flow, and cuts the connection
    /// in place of the next byte: the receiver reads exactly that many bytes and then the end of the stream, the sender
    /// sees a reset. With 0 the connection is cut when the next byte comes, and that byte is not forwarded: a command
    /// has its effect and its reply is lost.
    CutAfter(u64),
    /// For [`Direction::ToServer`]: forwards everything, and cuts the connection in place of the reply to the first request
    /// that contains this text. The server carries the request out. A request that comes in two reads is not recognised.
    CutReplyTo(&'static str),
}

/// Which connections a change of the flow applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Those that are open now, and those that are accepted from now on.
    All,
    /// Those that are open now.
    Open,
    /// Those that are accepted from now on.
    New,
}

/// What has passed through a proxy since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    pub connections: u64,
    /// Those of them that are open now.
    pub open: usize,
    pub to_server: Bytes,
    pub to_client: Bytes,
}

/// Bytes of one direction, all connections together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bytes {
    pub read: u64,
    pub forwarded: u64,
    /// Dropped by [`Flow::Swallow`].
    pub swallowed: u64,
}

/// A proxy on a port of its own of 127.0.0.1, in front of one server. Every connection is closed when it is dropped.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Holds the task that accepts, which holds those of the connections.
    _accept: JoinSet<()>,
}

impl FaultProxy {
    /// Starts a proxy in front of `upstream`: `host:port`, or an URL with the scheme `redis`, `rediss`, `amqp`,
    /// `amqps` or `mysql`. The server does not have to be up; while it is not, connections are accepted and then reset.
    ///
    /// # Panics
    /// When `upstream` names no server, or there is no port to listen on.
    pub async fn start(upstream: impl AsRef<str>) -> Self {
        let upstream = parse_upstream(upstream.as_ref());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.unwrap_or_else(|error| panic!("no port of 127.0.0.1 to listen on: {error}"));
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, upstream, Arc::clone(&shared)));
        Self { address, shared, _accept: tasks }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `url` with the proxy's address in place of the server's.
    ///
    /// # Panics
    /// When `url` is not the URL of a server.
    pub fn url(&self, url: impl AsRef<str>) -> String {
        let mut url = parse_url(url.as_ref());
        url.set_host(Some(&self.address.ip().to_string()))
            .unwrap_or_else(|error| panic!("{url} takes no other host: {error}"));
        url.set_port(Some(self.address.port())).unwrap_or_else(|()| panic!("{url} takes no port"));
        url.to_string()
    }

    /// Changes one direction of all connections, open and new.
    pub fn set(&self, direction: Direction, flow: Flow) {
        self.set_for(Scope::All, direction, flow);
    }

    /// Changes both directions of all connections, open and new.
    pub fn set_both(&self, flow: Flow) {
        self.set(Direction::ToServer, flow);
        self.set(Direction::ToClient, flow);
    }

    /// Changes one direction of the connections in `scope`.
    pub fn set_for(&self, scope: Scope, direction: Direction, flow: Flow) {
        let mut state = self.shared.state();
        if scope != Scope::Open {
            state.new.change(direction, flow);
        }
        if scope != Scope::New {
            for connection in state.open.values() {
                connection.send_modify(|flows| flows.change(direction, flow));
            }
        }
    }

    /// Resets every connection that is open now. New ones are not affected.
    pub fn cut_open(&self) {
        self.set_for(Scope::Open, Direction::ToServer, Flow::Cut);
    }

    /// What has passed so far.
    pub fn counts(&self) -> Counts {
        let state = self.shared.state();
        Counts {
            connections: state.accepted,
            open: state.open.len(),
            to_server: self.shared.to_server.read(),
            to_client: self.shared.to_client.read(),
        }
    }
}

/// The flow of both directions of a connection.
#[derive(Debug, Clone, Copy)]
struct Flows {
    to_server: Change,
    to_client: Change,
}

/// A flow, and the number of the change, so that the same flow set once more starts to count anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Change {
    flow: Flow,
    serial: u64,
}

impl Default for Flows {
    fn default() -> Self {
        let pass = Change { flow: Flow::Pass, serial: 0 };
        Self { to_server: pass, to_client: pass }
    }
}

impl Flows {
    fn of(&self, direction: Direction) -> Change {
        match direction {
            Direction::ToServer => self.to_server,
            Direction::ToClient => self.to_client,
        }
    }

    fn cut(&self) -> bool {
        self.to_server.flow == Flow::Cut || self.to_client.flow == Flow::Cut
    }

    fn change(&mut self, direction: Direction, flow: Flow) {
        let changed = match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        };
        *changed = Change { flow, serial: changed.serial + 1 };
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    to_server: Counter,
    to_client: Counter,
}

#[derive(Default)]
struct State {
    accepted: u64,
    new: Flows,
    open: HashMap<u64, watch::Sender<Flows>>,
}

#[derive(Default)]
struct Counter {
    read: AtomicU64,
    forwarded: AtomicU64,
    swallowed: AtomicU64,
}

impl Counter {
    fn read(&self) -> Bytes {
        let read = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        Bytes { read: read(&self.read), forwarded: read(&self.forwarded), swallowed: read(&self.swallowed) }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A test that failed while it held the lock has reported that already.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> (Entry, watch::Receiver<Flows>) {
        let mut state = self.state();
        state.accepted += 1;
        let id = state.accepted;
        let (sender, flows) = watch::channel(state.new);
        state.open.insert(id, sender);
        (Entry { id, shared: Arc::clone(self), _permit: permit }, flows)
    }
}

/// An open connection in the list of them; dropping it takes it out.
struct Entry {
    id: u64,
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.shared.state().open.remove(&self.id);
    }
}

async fn accept(listener: TcpListener, upstream: String, shared: Arc<Shared>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await.expect("nobody closes the semaphore");
        let Ok((client, _)) = listener.accept().await else {
            // Most likely too many open files; the next look may go better.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        let (entry, flows) = shared.open(permit);
        connections.spawn(serve(client, upstream.clone(), entry, flows));
    }
}

async fn serve(client: TcpStream, upstream: String, entry: Entry, flows: watch::Receiver<Flows>) {
    let connect = tokio::time::timeout(CONNECT_DEADLINE, TcpStream::connect(&upstream));
    match connect.await {
        Ok(Ok(server)) => pump::run(client, server, &entry.shared, &flows).await,
        // The server is away: whoever connected sees a connection that breaks.
        Ok(Err(_)) | Err(_) => pump::reset(client),
    }
    // Taken out of the list only after both sockets are closed.
    drop(entry);
}

fn parse_url(url: &str) -> Url {
    url.parse().unwrap_or_else(|error| panic!("{url} is not a URL: {error}"))
}

fn parse_upstream(upstream: &str) -> String {
    if !upstream.contains("://") {
        return upstream.to_owned();
    }
    let url = parse_url(upstream);
    let host = url.host_str().unwrap_or_else(|| panic!("{upstream} names no host"));
    let port = url.port().or(match url.scheme() {
        "redis" | "rediss" => Some(6379),
        "amqp" => Some(5672),
        "amqps" => Some(5671),
        "mysql" => Some(3306),
        _ => None,
    });
    let port = port.unwrap_or_else(|| panic!("{upstream} names no port"));
    format!("{host}:{port}")
}
