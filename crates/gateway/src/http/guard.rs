//! What a request meets before its handler: how many may be under way, over all and for each token, and how fast an address may
//! send before a token says who is there. All of it is decided in memory.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use metrics::Counter;
use percent_encoding::percent_decode_str;
use seckill_core::SaleId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::patience::Patience;
use super::problem::Refusal;
use super::{App, limit};
use crate::peer::{Connected, Peer, TrustedProxies};
use crate::server::Holding;
use crate::shares::{Share, Shares};
use limit::RateLimit;

/// What a crowd may cost. 0 always means: no limit.
#[derive(Debug, Clone)]
pub struct CrowdConfig {
    /// Orders that may be under way at the same time; more are refused as `overloaded`.
    pub orders_under_way: usize,
    /// The same for all other requests; event streams do not count once they are open.
    pub reads_under_way: usize,
    /// Requests with the same token that may be under way at the same time.
    pub requests_per_token: usize,
    /// Event streams with the same token that may be open at the same time.
    pub streams_per_token: usize,
    /// Requests a second from one address that come without a token or need none, and twice as many at once.
    pub anonymous_rate_limit: u32,
    /// Requests a second from one address that name a sale, an order or a path that there is not, or come with a bad token; twice
    /// as many at once.
    pub miss_rate_limit: u32,
    /// The proxies that say whom they speak for.
    pub proxies: TrustedProxies,
}

impl Default for CrowdConfig {
    fn default() -> Self {
        Self {
            orders_under_way: 16_384,
            reads_under_way: 8_192,
            requests_per_token: 32,
            streams_per_token: 8,
            anonymous_rate_limit: 1_000,
            miss_rate_limit: 50,
            proxies: TrustedProxies::default(),
        }
    }
}

/// What a request asks for, as far as its cost goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Order,
    Stream,
    /// What needs no token, so that having one says nothing.
    Public,
    Other,
}

impl Kind {
    /// `route`: `None` where there is nothing at the path.
    fn of(route: Option<&str>, method: &Method) -> Self {
        match route {
            Some("/api/v1/sales/{id}/orders") if *method == Method::POST => Self::Order,
            Some("/api/v1/orders/{id}/events" | "/api/v1/sales/{id}/waiting-room/events") => Self::Stream,
            Some(
                "/api/v1/sales"
                | "/api/v1/sales/{id}"
                | "/api/v1/sales/{id}/audit"
                | "/api/v1/sales/{id}/waiting-room"
                | "/problems"
                | "/problems/{slug}",
            ) if matches!(*method, Method::GET | Method::HEAD) => Self::Public,
            Some(_) => Self::Other,
            None => Self::Public,
        }
    }
}

/// What a request asks for, by its head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    kind: Kind,
    /// The sale that its path names.
    sale: Option<SaleId>,
}

impl Asked {
    /// `route`: `None` where there is nothing at the path.
    pub(crate) fn of(route: Option<&str>, request: &Request) -> Self {
        Self { kind: Kind::of(route, request.method()), sale: named_sale(request.uri().path()) }
    }

    /// Whether it may be an admin's change: placing an order is none.
    pub(crate) fn may_be_change(self) -> bool {
        self.kind != Kind::Order
    }

    /// The sale that it orders in.
    pub(crate) fn order(self) -> Option<SaleId> {
        self.sale.filter(|_| self.kind == Kind::Order)
    }
}

/// What all requests of a gateway share.
pub(crate) struct Guard {
    orders: Cap,
    others: Cap,
    requests: Shares<u64>,
    streams: Shares<u64>,
    anonymous: RateLimit<Peer>,
    misses: RateLimit<Peer>,
    proxies: TrustedProxies,
    /// Tokens are remembered as hashes that nobody outside can predict.
    hasher: RandomState,
    patience: Patience,
    order_requests: Counter,
}

/// How many may be under way.
struct Cap {
    most: usize,
    free: Arc<Semaphore>,
}

impl Cap {
    fn new(most: usize) -> Self {
        let most = if most == 0 { Semaphore::MAX_PERMITS } else { most.min(Semaphore::MAX_PERMITS) };
        Self { most, free: Arc::new(Semaphore::new(most)) }
    }

    fn take(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.free).try_acquire_owned().ok()
    }

    /// The part of it that is under way, 0 to 1.
    fn load(&self) -> f64 {
        1.0 - self.free.available_permits() as f64 / self.most as f64
    }
}

/// What a request holds while it is under way.
struct Admitted {
    _cap: OwnedSemaphorePermit,
    _request: Option<Share<u64>>,
    /// Held until the stream ends.
    stream: Option<Share<u64>>,
    /// Whether the address has paid for a miss already.
    paid: bool,
}

impl Guard {
    pub(crate) fn new(config: &CrowdConfig) -> Self {
        Self {
            orders: Cap::new(config.orders_under_way),
            others: Cap::new(config.reads_under_way),
            requests: Shares::new(config.requests_per_token),
            streams: Shares::new(config.streams_per_token),
            anonymous: RateLimit::new("anonymous", config.anonymous_rate_limit),
            misses: RateLimit::new("misses", config.miss_rate_limit),
            proxies: config.proxies.clone(),
            hasher: RandomState::new(),
            patience: Patience::default(),
            order_requests: metrics::counter!("seckill_order_requests_total"),
        }
    }

    /// Keeps what the limits remember bounded; never returns.
    pub(crate) async fn tidy(&self) {
        tokio::join!(self.anonymous.forget_the_idle(), self.misses.forget_the_idle());
    }

    /// `None` where the connection is not known: then there is nothing to limit by.
    fn peer(&self, request: &Request) -> Option<Peer> {
        let Connected { address, .. } = *request.extensions().get()?;
        Some(self.proxies.peer(address, request.headers()))
    }

    /// The token alone, so that no other spelling of the scheme and no space makes it another one.
    fn token(&self, headers: &HeaderMap) -> Option<u64> {
        let value = headers.get(header::AUTHORIZATION)?.as_bytes();
        let space = value.iter().position(|byte| *byte == b' ').unwrap_or_default();
        Some(self.hasher.hash_one(value[space..].trim_ascii()))
    }

    /// Lets a request in, or refuses it before any work. `unknown`: it names a sale that this gateway does not know.
    fn admit(
        &self,
        kind: Kind,
        peer: Option<Peer>,
        token: Option<u64>,
        unknown: bool,
    ) -> Result<Admitted, Refusal> {
        if let Some(peer) = peer.filter(|_| token.is_none() || kind == Kind::Public) {
            self.anonymous.count(&peer).map_err(|seconds| Refusal::PeerLimited { seconds })?;
        }
        if let (Some(peer), true) = (peer, unknown) {
            self.misses.count(&peer).map_err(|seconds| Refusal::PeerLimited { seconds })?;
        }
        // A token's own share before the share of all: one user cannot take that.
        let mut admitted = Admitted {
            _request: match token {
                Some(token) => Some(self.requests.take(&token).ok_or(Refusal::TooManyAtOnce("requests"))?),
                None => None,
            },
            stream: None,
            paid: unknown,
            _cap: match kind {
                Kind::Order => self.orders.take(),
                _ => self.others.take(),
            }
            .ok_or(Refusal::TooBusy("as many requests are under way as this gateway takes on"))?,
        };
        if let (Kind::Stream, Some(token)) = (kind, token) {
            let stream = self.streams.take(&token).ok_or(Refusal::TooManyAtOnce("event streams"))?;
            admitted.stream = Some(stream);
        }
        Ok(admitted)
    }

    /// Counts an answer that says "no such thing" or "bad token" against its address; the refusal takes its place where those
    /// are too many.
    fn count_miss(&self, peer: Option<Peer>, status: StatusCode) -> Result<(), Refusal> {
        match (peer, status) {
            (Some(peer), StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED) => {
                self.misses.count(&peer).map_err(|seconds| Refusal::PeerLimited { seconds })
            }
            _ => Ok(()),
        }
    }

    fn load(&self, kind: Kind) -> f64 {
        match kind {
            Kind::Order => self.orders.load(),
            _ => self.others.load(),
        }
    }
}

/// [`guarded`], for what is at no route of the gateway.
pub(crate) async fn guard_missing(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let asked = Asked::of(None, &request);
    guarded(&app, asked, request, |request| next.run(request)).await
}

/// Lets a request through to its handler, or refuses it.
pub(crate) async fn guarded<F: Future<Output = Response>>(
    app: &App,
    Asked { kind, sale }: Asked,
    request: Request,
    handle: impl FnOnce(Request) -> F,
) -> Response {
    let guard = &app.guard;
    // Counted before anything is decided: answers come in bursts where arrivals do not.
    if kind == Kind::Order && !app.direct {
        guard.order_requests.increment(1);
    }
    let (peer, token) = (guard.peer(&request), guard.token(request.headers()));
    // Before the directory was filled for the first time it knows nothing, whoever asks.
    let unknown = app.directory.is_filled() && sale.is_some_and(|sale| app.directory.get(sale).is_none());
    let answer = async move || {
        let admitted = match guard.admit(kind, peer, token, unknown) {
            Ok(admitted) => admitted,
            Err(refusal) => return refusal.into_response(),
        };
        let response = handle(request).await;
        if !admitted.paid
            && let Err(refusal) = guard.count_miss(peer, response.status())
        {
            return refusal.into_response();
        }
        match admitted.stream {
            Some(stream) => response.map(|body| Body::new(Holding::new(body, stream))),
            None => response,
        }
    };
    let mut response = limit::told(answer).await;
    guard.patience.set(&mut response, guard.load(kind));
    response
}

/// The sale in a path, read as the router reads it: a digit may come percent-encoded. What is no id names none, and costs nothing.
fn named_sale(path: &str) -> Option<SaleId> {
    let id = path.strip_prefix("/api/v1/sales/")?.split('/').next()?;
    percent_decode_str(id).decode_utf8().ok()?.parse().ok().map(SaleId)
}
