//! Keys at an address: a JWKS that an identity provider publishes. Fetched at the start, then on an interval, and sooner for a token
//! that names an unknown key; never by two at a time, and never sooner than ten seconds after the last time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use seckill_token::Key;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::rustls::crypto::ring;
use url::Url;

use super::SourceError;

/// Bytes of an answer.
const MAX_BYTES: usize = 64 * 1024;
/// How long one answer may take, from the connection to the last byte.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a request whose token names an unknown key waits for a refresh.
const WAIT: Duration = Duration::from_secs(3);
/// Requests that wait so at the same time; more are refused.
const MAX_WAITING: usize = 256;

/// An address of keys, and how often it is asked.
#[derive(Debug, Clone)]
pub struct JwksConfig {
    /// `https`, or `http` in a network that you trust.
    pub url: Url,
    /// How long the keys are used before they are fetched again; sooner if the answer has a shorter `max-age`.
    pub refresh: Duration,
    /// The shortest time between two fetches.
    pub pause: Duration,
    /// How long the last keys stay valid while no fetch succeeds.
    pub keep: Duration,
}

impl JwksConfig {
    /// Every five minutes, ten seconds apart at the least; old keys stay valid for an hour.
    pub fn new(url: Url) -> Self {
        let (refresh, pause, keep) =
            (Duration::from_secs(300), Duration::from_secs(10), Duration::from_secs(3_600));
        Self { url, refresh, pause, keep }
    }
}

/// What has become of a wish for newer keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refreshed {
    /// They were fetched since.
    Done,
    /// They had been fetched less than the pause ago.
    JustBefore,
    /// They cannot be had at the moment.
    Away,
}

/// The newest fetch.
#[derive(Clone, Copy, Default)]
struct Round {
    began: Option<Instant>,
    under_way: bool,
    /// Fetches that have ended.
    ended: u64,
    succeeded: bool,
}

type Fetcher = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

pub(super) struct Jwks {
    config: JwksConfig,
    client: Fetcher,
    round: watch::Sender<Round>,
    wanted: Notify,
    waiting: Semaphore,
    known: AtomicBool,
}

impl Jwks {
    pub(super) fn new(config: JwksConfig) -> Result<Self, SourceError> {
        let url = &config.url;
        let wrong = |what: &str| Err(SourceError::Address(format!("--jwks-url {what}")));
        if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
            return wrong("is no https or http address; give one such as https://id.example.com/jwks.json");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return wrong("has a user or a password in it; a JWKS is public: give the address without them");
        }
        if url.scheme() == "http" {
            tracing::warn!(%url, "keys are fetched without TLS: whoever is on the way can put in keys of their own");
        }
        let connector = HttpsConnectorBuilder::new().with_provider_and_native_roots(ring::default_provider());
        let connector = connector.map_err(|error| {
            SourceError::Address(format!(
                "--jwks-url cannot be used: this machine's certificate authorities cannot be read: {error}; install \
                 ca-certificates, or name a file with SSL_CERT_FILE"
            ))
        })?;
        let connector = connector.https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self {
            config,
            client,
            round: watch::Sender::default(),
            wanted: Notify::new(),
            waiting: Semaphore::new(MAX_WAITING),
            known: AtomicBool::new(false),
        })
    }

    /// Whether there are keys of the address that are not too old.
    pub(super) fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// Waits until the keys are fetched again, if they may be.
    pub(super) async fn refresh(&self) -> Refreshed {
        let now = *self.round.borrow();
        if !now.under_way {
            if now.began.is_some_and(|began| began.elapsed() < self.config.pause) {
                return if now.succeeded { Refreshed::JustBefore } else { Refreshed::Away };
            }
            self.wanted.notify_one();
        }
        let Ok(_place) = self.waiting.try_acquire() else { return Refreshed::Away };
        let mut rounds = self.round.subscribe();
        let ended = timeout(WAIT, rounds.wait_for(|round| round.ended > now.ended)).await;
        match ended {
            Ok(Ok(round)) if round.succeeded => Refreshed::Done,
            _ => Refreshed::Away,
        }
    }

    /// Fetches at once and then again and again, and tells of the keys; never returns. Keys that are not in the newest answer are
    /// gone. While no fetch succeeds the last keys stay, for the time that the configuration allows.
    pub(super) async fn keep_current(&self, found: impl Fn(Vec<Key>)) {
        let counter = |outcome| metrics::counter!("seckill_jwks_fetches_total", "outcome" => outcome);
        let (fetched_well, failed) = (counter("fetched"), counter("failed"));
        let (mut last, mut failing) = (None, false);
        let mut known = String::new();
        loop {
            let began = Instant::now();
            self.round.send_modify(|round| (round.began, round.under_way) = (Some(began), true));
            let fetched = self.fetch().await;
            let succeeded = fetched.is_ok();
            let next = match fetched {
                Ok((text, keys, max_age)) => {
                    (last, failing) = (Some(Instant::now()), false);
                    if text != known || !self.is_known() {
                        found(keys);
                        known = text;
                    }
                    self.known.store(true, Ordering::Relaxed);
                    max_age.map_or(self.config.refresh, |age| age.min(self.config.refresh))
                }
                Err(why) => {
                    if !failing {
                        let url = self.config.url.as_str();
                        tracing::warn!(url, why, "the keys of buyers' tokens cannot be fetched; trying on");
                    }
                    failing = true;
                    let too_old = last.is_none_or(|last: Instant| last.elapsed() >= self.config.keep);
                    if too_old && self.known.swap(false, Ordering::Relaxed) {
                        tracing::error!(
                            "the fetched keys of buyers' tokens are too old, and not valid any more"
                        );
                        found(Vec::new());
                    }
                    Duration::ZERO
                }
            };
            if succeeded { &fetched_well } else { &failed }.increment(1);
            self.round.send_modify(|round| {
                *round = Round { under_way: false, ended: round.ended + 1, succeeded, ..*round };
            });
            self.wait(began, next.max(self.config.pause)).await;
        }
    }

    /// Waits for the time of the next fetch, or until somebody wants it and the pause is over.
    async fn wait(&self, began: Instant, next: Duration) {
        loop {
            tokio::select! {
                () = sleep_until(began + next) => return,
                // An older wish may still be here; the fetch that has just ended has answered it.
                () = self.wanted.notified() => if began.elapsed() >= self.config.pause { return },
            }
        }
    }

    async fn fetch(&self) -> Result<(String, Vec<Key>, Option<Duration>), String> {
        let answer = timeout(ANSWER, self.ask()).await;
        let (text, max_age) = answer.map_err(|_| "no whole answer within 5 s".to_owned())??;
        let keys = Key::from_jwks(&text).map_err(|error| format!("the answer {error}"))?;
        Ok((text, keys, max_age))
    }

    async fn ask(&self) -> Result<(String, Option<Duration>), String> {
        let request = Request::get(self.config.url.as_str())
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .header(header::USER_AGENT, "seckill")
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let answer = self.client.request(request).await.map_err(|error| causes(&error))?;
        if answer.status() != StatusCode::OK {
            // A redirect is not followed: the address is the operator's decision.
            return Err(format!("the answer was {}, not 200", answer.status()));
        }
        let max_age = max_age(answer.headers());
        let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
        let body =
            body.map_err(|error| format!("the answer ended early, or has more than 64 KiB: {error}"))?;
        let text =
            String::from_utf8(body.to_bytes().to_vec()).map_err(|_| "the answer is no text".to_owned())?;
        Ok((text, max_age))
    }
}

/// An error with its causes, which say more than it does.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let all = std::iter::successors(Some(error), |error| error.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// How long an answer may be used (RFC 9111).
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::CACHE_CONTROL)?.to_str().ok()?.to_ascii_lowercase();
    let mut directives = value.split(',').map(str::trim);
    if directives.clone().any(|directive| matches!(directive, "no-cache" | "no-store")) {
        return Some(Duration::ZERO);
    }
    let seconds = directives.find_map(|directive| directive.strip_prefix("max-age="))?;
    Some(Duration::from_secs(seconds.trim_matches('"').parse().ok()?))
}
