//! One HTTP/1.1 keep-alive connection, and a set of them.
//!
//! The task that uses a connection also drives it, so an answer costs one wake-up. That is why orders are not sent by the typed
//! client of the API: a load test needs most of its machine for buyers, must know when the first byte of a request leaves, and
//! must count an answer that no client can read. What is read beside the run, and what admins do, goes by the
//! [typed client](Clients::typed).

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper::header::RETRY_AFTER;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use crate::error::Error;
use crate::send::target::Target;

/// The longest body that is read; a longer one breaks the connection.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Connections that are made at one time, so that a server's accept queue does not overflow.
const CONNECT_AT_ONCE: usize = 64;
/// The time-out of a request, unless the caller sets another one.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

type Sending = Request<Full<Bytes>>;

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Whether it has `Idempotent-Replayed: true`.
    pub replayed: bool,
    /// The seconds of `Retry-After`.
    pub retry_after: Option<u64>,
    /// The body, 64 KiB at the most.
    pub body: Bytes,
}

/// Why there is no whole answer. The server may have acted on the request all the same.
#[derive(Debug)]
pub enum Failure {
    /// The time-out has passed.
    TimedOut,
    /// The connection could not be made, or it broke; with the reason.
    Connection(String),
}

/// One connection at a time. It is made when it is needed, and made again after it has broken.
pub struct Client {
    addresses: Arc<[SocketAddr]>,
    timeout: Duration,
    alarm: Alarm,
    link: Option<Link>,
}

impl Client {
    fn new(addresses: Arc<[SocketAddr]>) -> Self {
        Self { addresses, timeout: DEFAULT_TIMEOUT, alarm: Alarm::new(), link: None }
    }

    /// Connects now instead of with the next request, which will try again if this fails.
    pub(crate) async fn open(&mut self) {
        if self.link.is_none() {
            self.link = connect(&self.addresses, Instant::now() + self.timeout).await.ok();
        }
    }

    /// Sends one request and waits for its whole answer. When the idle connection was closed and no byte was written, the
    /// request is sent on a new connection. Otherwise it is sent once only, because the server may have acted on it. After a
    /// failure, or when this future is dropped, the connection is closed.
    ///
    /// # Errors
    /// The time-out covers connecting, sending and reading.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        let deadline = Instant::now() + self.timeout;
        let mut unsent = request;
        if let Some(link) = self.link.take() {
            match self.exchange(link, unsent, deadline).await {
                Err(Broken::Unsent(request, _)) => unsent = *request,
                Err(Broken::Failed(failure)) => return Err(failure),
                Ok(answer) => return Ok(answer),
            }
        }
        let link = connect(&self.addresses, deadline).await?;
        self.exchange(link, unsent, deadline).await.map_err(|broken| match broken {
            Broken::Unsent(_, reason) => Failure::Connection(reason),
            Broken::Failed(failure) => failure,
        })
    }

    /// Sends one request on a new connection, calls `take` with each piece of the answer's body, however long it is, and returns
    /// the status. The time-out applies to the time until the head has arrived, and then to each piece.
    ///
    /// # Errors
    /// The same as those of [`Self::send`]. `take` may have got a part of the body by then.
    pub async fn stream(
        &mut self,
        request: Request<Full<Bytes>>,
        mut take: impl FnMut(&[u8]),
    ) -> Result<u16, Failure> {
        let deadline = Instant::now() + self.timeout;
        let mut link = connect(&self.addresses, deadline).await?;
        let Link { sender, connection } = &mut link;
        let mut driver = Driver { connection, alarm: &mut self.alarm, deadline };
        let broken = |error: &dyn std::error::Error| Failure::Connection(chain(error));
        driver.until(poll_fn(|cx| sender.poll_ready(cx))).await?.map_err(|error| broken(&error))?;
        let response = driver.until(sender.send_request(request)).await?.map_err(|error| broken(&error))?;
        let (head, mut incoming) = response.into_parts();
        while !incoming.is_end_stream() {
            driver.deadline = Instant::now() + self.timeout;
            match driver.until(poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx))).await? {
                Some(frame) => {
                    let frame = frame.map_err(|error| broken(&error))?;
                    frame.into_data().iter().for_each(|data| take(data));
                }
                None => break,
            }
        }
        Ok(head.status.as_u16())
    }

    /// Keeps the link when the whole answer has arrived. In every other case the link is dropped, which closes it.
    async fn exchange(
        &mut self,
        mut link: Link,
        request: Sending,
        deadline: Instant,
    ) -> Result<Answer, Broken> {
        let answer = link.exchange(&mut self.alarm, request, deadline).await?;
        self.link = Some(link);
        Ok(answer)
    }
}

/// Clients of one target. Their connections stay open from one use to the next.
pub struct Clients {
    target: Target,
    addresses: Arc<[SocketAddr]>,
    timeout: Duration,
    count: usize,
    most: usize,
    idle: Vec<Client>,
}

impl Clients {
    /// Connects `count` times (at least once), with a time-out of 10 s for this and for every later request.
    ///
    /// # Errors
    /// [`Error::Connect`] when any connection cannot be made.
    pub async fn connect(target: Target, count: usize) -> Result<Self, Error> {
        Self::connect_with(target, count, DEFAULT_TIMEOUT).await
    }

    /// [`Self::connect`] with another time-out.
    ///
    /// # Errors
    /// [`Error::Connect`] when any connection cannot be made.
    // Boxed for the same reason as a session's `play_in_detail`.
    pub fn connect_with(
        target: Target,
        count: usize,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Self, Error>> {
        Box::pin(Self::connect_all(target, count, timeout))
    }

    async fn connect_all(target: Target, count: usize, timeout: Duration) -> Result<Self, Error> {
        let failed = |reason: String| Error::Connect { target: target.to_string(), reason };
        let addresses: Arc<[SocketAddr]> =
            target.resolve().await.map_err(|error| failed(error.to_string()))?.into();
        let count = count.max(1);
        let mut clients =
            Self { target: target.clone(), addresses, timeout, count, most: count, idle: Vec::new() };
        let mut idle = clients.take();
        for some in idle.chunks_mut(CONNECT_AT_ONCE) {
            let mut connecting = JoinSet::new();
            for _ in 0..some.len() {
                let addresses = clients.addresses.clone();
                connecting.spawn(async move { connect(&addresses, Instant::now() + timeout).await });
            }
            for (client, link) in some.iter_mut().zip(connecting.join_all().await) {
                client.link = Some(link.map_err(|failure| failed(failure.to_string()))?);
            }
        }
        clients.put_back(idle);
        Ok(clients)
    }

    /// Lets a run open more connections, up to `most`, while requests are due and every connection is busy. Without it requests
    /// wait for a free connection, and a slow server slows the load down.
    #[must_use]
    pub fn growing_to(mut self, most: usize) -> Self {
        self.most = self.count.max(most);
        self
    }

    /// Connections at the most.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Where the requests go.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// A client of the API's calls beside the measured ones, with connections and the time-out of its own.
    pub(crate) fn typed(&self) -> seckill_client::Client {
        let url = self.target.to_string().parse().expect("a target is a URL");
        let client = seckill_client::Client::new(url).expect("a target is plain http without a user name");
        client.with_timeout(self.timeout)
    }

    /// The clients one by one, for those who send requests of their own.
    pub fn into_clients(mut self) -> Vec<Client> {
        self.take()
    }

    /// Returns all clients. Those that are not put back are replaced by new ones at the next call.
    pub(crate) fn take(&mut self) -> Vec<Client> {
        let mut clients = std::mem::take(&mut self.idle);
        let count = self.count.max(clients.len());
        clients.resize_with(count, || self.another());
        clients.iter_mut().for_each(|client| client.timeout = self.timeout);
        clients
    }

    /// Returns an additional client. It connects with its first request.
    pub(crate) fn another(&self) -> Client {
        Client { timeout: self.timeout, ..Client::new(self.addresses.clone()) }
    }

    pub(crate) fn put_back(&mut self, clients: Vec<Client>) {
        self.idle = clients;
    }
}

async fn connect(addresses: &[SocketAddr], deadline: Instant) -> Result<Link, Failure> {
    let broken = |error: &dyn std::error::Error| Failure::Connection(chain(error));
    let stream = timeout_at(deadline, TcpStream::connect(addresses))
        .await
        .map_err(|_| Failure::TimedOut)?
        .map_err(|error| broken(&error))?;
    stream.set_nodelay(true).map_err(|error| broken(&error))?;
    let (sender, connection) = Builder::new()
        // Head and body together are a few hundred bytes: copying them is cheaper than a vectored write.
        .writev(false)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    Ok(Link { sender, connection: Some(connection) })
}

/// An open connection, and the sender for it.
struct Link {
    sender: SendRequest<Full<Bytes>>,
    /// `None` after it has ended.
    connection: Option<Connection<TokioIo<TcpStream>, Full<Bytes>>>,
}

/// Why an exchange gave no answer.
enum Broken {
    /// No byte of the request was written. Boxed, because it is rare and large.
    Unsent(Box<Sending>, String),
    /// The server may have seen a part or all of the request.
    Failed(Failure),
}

impl Link {
    async fn exchange(
        &mut self,
        alarm: &mut Alarm,
        request: Sending,
        deadline: Instant,
    ) -> Result<Answer, Broken> {
        let Self { sender, connection } = self;
        let mut driver = Driver { connection, alarm, deadline };
        match driver.until(poll_fn(|cx| sender.poll_ready(cx))).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Broken::Unsent(Box::new(request), chain(&error))),
            Err(Failure::Connection(reason)) => return Err(Broken::Unsent(Box::new(request), reason)),
            Err(failure) => return Err(Broken::Failed(failure)),
        }
        let sending = sender.try_send_request(request);
        let response = match driver.until(sending).await.map_err(Broken::Failed)? {
            Ok(response) => response,
            Err(mut error) => {
                return Err(match error.take_message() {
                    Some(request) => Broken::Unsent(Box::new(request), chain(error.error())),
                    None => Broken::Failed(Failure::Connection(chain(error.error()))),
                });
            }
        };
        driver.read(response).await.map_err(Broken::Failed)
    }
}

/// Polls the connection together with a future that waits for it.
struct Driver<'a> {
    connection: &'a mut Option<Connection<TokioIo<TcpStream>, Full<Bytes>>>,
    alarm: &'a mut Alarm,
    deadline: Instant,
}

impl Driver<'_> {
    async fn until<F: Future>(&mut self, future: F) -> Result<F::Output, Failure> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let ended = match self.connection.as_mut().map(|connection| Pin::new(connection).poll(cx)) {
                Some(Poll::Pending) => None,
                Some(Poll::Ready(Ok(()))) | None => Some("the server closed the connection".to_owned()),
                Some(Poll::Ready(Err(error))) => Some(chain(&error)),
            };
            if ended.is_some() {
                // The drop returns a request that the connection had not taken, and ends every future that waits for it.
                *self.connection = None;
            }
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            if let Some(reason) = ended {
                return Poll::Ready(Err(Failure::Connection(reason)));
            }
            self.alarm.poll(cx, self.deadline).map(|()| Err(Failure::TimedOut))
        })
        .await
    }

    async fn read(&mut self, response: Response<Incoming>) -> Result<Answer, Failure> {
        let (head, mut incoming) = response.into_parts();
        let mut body = Bytes::new();
        while !incoming.is_end_stream() {
            let frame = match self.until(poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx))).await? {
                Some(frame) => frame.map_err(|error| Failure::Connection(chain(&error)))?,
                None => break,
            };
            let Ok(data) = frame.into_data() else { continue };
            if body.len() + data.len() > MAX_BODY_BYTES {
                return Err(Failure::Connection(format!("the answer is longer than {MAX_BODY_BYTES} bytes")));
            }
            body = if body.is_empty() { data } else { join(&body, &data) };
        }
        let replayed = head.headers.get("idempotent-replayed").is_some_and(|value| value == "true");
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Answer { status: head.status.as_u16(), replayed, retry_after, body })
    }
}

fn join(front: &[u8], back: &[u8]) -> Bytes {
    let mut whole = BytesMut::with_capacity(front.len() + back.len());
    whole.extend_from_slice(front);
    whole.extend_from_slice(back);
    whole.freeze()
}

/// A deadline that moves with every request. The timer is not set for every request, only when it has fired or is too late:
/// thousands of requests share one entry in the runtime's timer wheel.
struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Alarm {
    fn new() -> Self {
        Self { sleep: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TimedOut => f.write_str("no whole answer within the time-out"),
            Self::Connection(reason) => f.write_str(reason),
        }
    }
}

/// An error with all its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
