//! Accepts connections, a bounded number of them, and ends them gracefully. `axum::serve` has neither a limit on
//! connections nor a time-out for clients that never finish their headers.

mod activity;
mod stalled;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use crate::peer::{Connected, Peer, TrustedProxies};
use crate::shares::Shares;
use crate::tls::Tls;
pub(crate) use activity::Holding;
use activity::{Activity, Answering};
use stalled::Stalled;

/// The usual time for the head of a request. Longer than the 60 s for which proxies keep idle connections: the proxy closes them
/// first, and sends no request on one that is being closed here.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// The usual time for which a client may read nothing of what is sent to it.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// While no connection is free, those on which no request has been under way for so long are closed.
const IDLE_WHEN_FULL: Duration = Duration::from_secs(2);
/// How long a connection without a request may still be used once the server ends.
const LAST_REQUEST: Duration = Duration::from_secs(1);

/// The largest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;
/// Requests that may be under way on one HTTP/2 connection.
const MAX_STREAMS: u32 = 64;
/// Streams of an HTTP/2 connection that the client has reset and the server has yet to forget; more end the connection
/// (CVE-2023-44487).
const MAX_RESETS: usize = 32;
/// How often an HTTP/2 client is asked whether it is still there, and how long it may take to answer.
const PING: Duration = Duration::from_secs(20);

/// What connections may cost.
pub struct Limits {
    /// At the same time; more wait to be accepted.
    pub connections: usize,
    /// Of these, from one address; more are closed at once. 0: no limit. Trusted proxies have none.
    pub per_peer: usize,
    /// How long one may take to send the head of its next request; idle ones end by it too.
    pub head: Duration,
    /// For how long a client may read nothing of what is sent to it.
    pub write: Duration,
    /// The proxies that are trusted.
    pub proxies: TrustedProxies,
    /// `None`: plain HTTP.
    pub tls: Option<Arc<Tls>>,
    /// Once cancelled, connections take no new requests, HTTP/1.1 ones after the next: their clients come back on new ones, which a
    /// balancer gives to another gateway.
    pub leave: CancellationToken,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            per_peer: 0,
            head: HEAD_TIMEOUT,
            write: WRITE_TIMEOUT,
            proxies: TrustedProxies::default(),
            tls: None,
            leave: CancellationToken::new(),
        }
    }
}

/// What answers requests; each has its own copy.
pub trait Respond: Clone + Send + Sync + 'static {
    /// Answers one request, which has the address at the other end of its connection among its extensions.
    fn respond(self, request: Request) -> impl Future<Output = Response> + Send + 'static;
}

impl Respond for Router {
    async fn respond(mut self, request: Request) -> Response {
        self.call(request).await.unwrap_or_else(|never| match never {})
    }
}

/// Serves until `shutdown`, then lets every connection finish the request it is on. Returns once the last one
/// is closed. Boxed for the same reason as [`run`](crate::run).
pub fn serve(
    listener: TcpListener,
    responder: impl Respond,
    limits: Limits,
    shutdown: CancellationToken,
) -> BoxFuture<'static, ()> {
    Box::pin(serve_until(listener, responder, limits, shutdown))
}

async fn serve_until(
    listener: TcpListener,
    responder: impl Respond,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    let by_peer = Shares::new(limits.per_peer);
    let connections = TaskTracker::new();
    // Changes while no connection is free.
    let full = watch::Sender::new(());
    let accept = async {
        loop {
            // The permit before the accept: what is above the limit waits in the kernel's backlog.
            let permit = match Arc::clone(&permits).try_acquire_owned() {
                Ok(permit) => permit,
                Err(_) => {
                    full.send_replace(());
                    let free = Arc::clone(&permits).acquire_owned();
                    let Ok(permit) = timeout(IDLE_WHEN_FULL / 2, free).await else { continue };
                    permit.expect("the semaphore is never closed")
                }
            };
            match listener.accept().await {
                Ok((stream, address)) => {
                    let address = address.ip();
                    let share = if limits.proxies.has(address) {
                        None
                    } else if let Some(share) = by_peer.take(&Peer::from(address)) {
                        Some(share)
                    } else {
                        metrics::counter!("seckill_connections_refused_total").increment(1);
                        continue;
                    };
                    let ends = Ends {
                        head: limits.head,
                        write: limits.write,
                        shutdown: shutdown.clone(),
                        leave: limits.leave.clone(),
                        full: full.subscribe(),
                    };
                    let (tls, responder) = (limits.tls.clone(), responder.clone());
                    connections.spawn(async move {
                        // Made where it is awaited: it would be held twice otherwise, for as long as the connection lasts.
                        connection(stream, address, tls, responder, ends).await;
                        drop((permit, share));
                    });
                }
                Err(error) => {
                    // Mostly out of file descriptors: a pause lets connections end.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    let keep_certificate = async {
        match &limits.tls {
            Some(tls) => tls.keep_current().await,
            None => std::future::pending().await,
        }
    };
    let both = async { tokio::join!(accept, keep_certificate) };
    let _: Option<(Infallible, ())> = shutdown.run_until_cancelled(both).await;
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// What ends a connection.
struct Ends {
    head: Duration,
    write: Duration,
    shutdown: CancellationToken,
    leave: CancellationToken,
    full: watch::Receiver<()>,
}

/// Why a connection ends.
enum Reason {
    /// Nothing came on it for too long.
    Idle,
    Shutdown,
    /// No new requests on an HTTP/2 connection; on HTTP/1.1 the answers say so.
    Leave,
}

impl Ends {
    /// Waits until the connection should end. `left`: it has been told to leave.
    async fn wait(mut self, activity: Arc<Activity>, left: bool) -> (Reason, Self) {
        let reason = loop {
            // Also for what hyper has no time-out for: a client that has not said yet which HTTP it speaks, or an idle HTTP/2 one.
            let rest = self.head.saturating_sub(activity.idle());
            tokio::select! {
                () = self.shutdown.cancelled() => break Reason::Shutdown,
                () = self.leave.cancelled(), if !left => break Reason::Leave,
                Ok(()) = self.full.changed() => {
                    if activity.idle() >= IDLE_WHEN_FULL {
                        break Reason::Idle;
                    }
                }
                () = tokio::time::sleep(rest) => {
                    if activity.idle() >= self.head {
                        break Reason::Idle;
                    }
                }
            }
        };
        (reason, self)
    }
}

async fn connection(
    stream: TcpStream,
    address: IpAddr,
    tls: Option<Arc<Tls>>,
    responder: impl Respond,
    ends: Ends,
) {
    // Answers are small and wanted at once.
    let _ = stream.set_nodelay(true);
    match tls {
        None => talk(TokioIo::new(stream), Connected { address, scheme: "http" }, responder, ends).await,
        // Boxed, so that a connection without TLS has no room for it.
        Some(tls) => Box::pin(encrypted(stream, address, tls, responder, ends)).await,
    }
}

async fn encrypted(stream: TcpStream, address: IpAddr, tls: Arc<Tls>, responder: impl Respond, ends: Ends) {
    // An error is a client that went away or spoke no TLS.
    if let Ok(Ok(stream)) = timeout(HANDSHAKE, tls.acceptor.accept(stream)).await {
        talk(TokioIo::new(stream), Connected { address, scheme: "https" }, responder, ends).await;
    }
}

/// HTTP/1.1, or HTTP/2 where the client begins with that.
async fn talk<Io>(io: Io, connected: Connected, responder: impl Respond, ends: Ends)
where
    Io: Read + Write + Unpin + Send + 'static,
{
    let activity = Activity::new();
    let requests = Arc::clone(&activity);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let version = request.version();
        let under_way = requests.begin(version);
        request.extensions_mut().insert(connected);
        Answering::new(responder.clone().respond(request.map(Body::new)), version, under_way)
    });
    let server = protocols(ends.head);
    let io = Stalled::new(io, ends.write);
    let mut connection = Box::pin(server.serve_connection(io, service));
    // Polled when something in it has happened, and not with every packet: what it waits for is shared by all connections.
    let mut reasons = FuturesUnordered::from_iter([ends.wait(Arc::clone(&activity), false)]);
    loop {
        tokio::select! {
            biased;
            // An error here is a client that went away or spoke no HTTP.
            _ = connection.as_mut() => return,
            Some((reason, ends)) = reasons.next() => match reason {
                Reason::Idle => return,
                Reason::Shutdown => break,
                Reason::Leave => {
                    // On HTTP/1.1 the next answer asks for the connection's end.
                    activity.leave();
                    if activity.is_http2() {
                        connection.as_mut().graceful_shutdown();
                    }
                    reasons.push(ends.wait(Arc::clone(&activity), true));
                }
            },
        }
    }
    connection.as_mut().graceful_shutdown();
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = tokio::time::sleep(LAST_REQUEST) => {
                if activity.idle() >= LAST_REQUEST {
                    return;
                }
            }
        }
    }
}

fn protocols(head: Duration) -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .pipeline_flush(true)
        .max_buf_size(MAX_HEAD);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .max_header_list_size(u32::try_from(MAX_HEAD).expect("16 KiB are less than 4 GiB"))
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    server
}
