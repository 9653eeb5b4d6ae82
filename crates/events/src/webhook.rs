//! Webhooks: each event is posted to a URL as it is, signed, until the receiver takes it.
//!
//! At least once: a receiver whose answer is lost gets the event again, and tells by its id. In order, one at a time: the next event
//! waits until this one is taken or parked. What a receiver has to do with the signature is said at [`verify`].

mod address;
mod connection;
mod signature;
mod timing;

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, Response, StatusCode, header};
use ring::hmac;
use seckill_core::EventMessage;
use tokio::time::{sleep, timeout};
use url::{Position, Url};

use self::connection::{Receiver, Unreachable};
use crate::deliver::{Sink, Verdict};

pub use signature::{EVENT_ID_HEADER, MIN_SECRET, SIGNATURE_HEADER, TIMESTAMP_HEADER, sign, verify};
pub use timing::Timing;

/// How often an event is posted before it is parked.
pub const ATTEMPTS: u32 = 10;
/// How long is waited for the rest of an answer.
const REST: Duration = Duration::from_secs(2);
/// Bytes of an answer that are read. Nobody looks at them: a connection can be used again only when all was read.
const MAX_ANSWER: usize = 4 * 1024;

/// Posts events to one URL.
pub struct Webhook {
    receiver: Receiver,
    /// Path and query.
    target: String,
    /// The value of `Host`.
    host: String,
    key: hmac::Key,
    timing: Timing,
    /// From the last event, where the receiver keeps it open.
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Webhook {
    /// Posts to `url`, signed with `secret`. With `allow_private` the receiver may be at this machine or in its network.
    ///
    /// # Errors
    /// A sentence: the secret is too short, or nothing can or may be sent to such a URL.
    pub fn new(url: &Url, secret: &[u8], allow_private: bool) -> Result<Self, String> {
        check(url)?;
        Self::to(Receiver::of(url, allow_private)?, url, secret)
    }

    fn to(receiver: Receiver, url: &Url, secret: &[u8]) -> Result<Self, String> {
        if secret.len() < MIN_SECRET {
            let given = secret.len();
            return Err(format!("the secret that signs has {given} characters; give {MIN_SECRET} or more"));
        }
        Ok(Self {
            receiver,
            target: url[Position::BeforePath..Position::AfterQuery].to_owned(),
            host: url[Position::BeforeHost..Position::AfterPort].to_owned(),
            key: signature::key(secret),
            timing: Timing::default(),
            connection: None,
        })
    }

    /// With other pauses, and more or less patience.
    pub fn with_timing(self, timing: Timing) -> Self {
        Self { timing, ..self }
    }

    /// Looks once where the URL leads, before any event is sent. Being away is no fault: the receiver may come later.
    ///
    /// # Errors
    /// A sentence: nothing may be sent there.
    pub async fn check_address(&self) -> Result<(), String> {
        match timeout(self.timing.answer_within, self.receiver.addresses()).await {
            Ok(Err(Unreachable::Refused(reason))) => Err(reason),
            _ => Ok(()),
        }
    }

    /// Posts the event once.
    async fn post(&mut self, message: &EventMessage) -> Attempt {
        match timeout(self.timing.answer_within, self.exchange(message)).await {
            Ok(Ok((connection, response))) => {
                // What the answer says counts as soon as its head is there.
                let attempt = judge(&response);
                self.keep(connection, response.into_body()).await;
                attempt
            }
            Ok(Err(why)) => Attempt::failed(why),
            Err(_) => Attempt::failed(format!("no answer within {:?}", self.timing.answer_within)),
        }
    }

    async fn exchange(
        &mut self,
        message: &EventMessage,
    ) -> Result<(SendRequest<Full<Bytes>>, Response<Incoming>), String> {
        if let Some(mut kept) = self.connection.take()
            && kept.ready().await.is_ok()
            && let Ok(response) = kept.send_request(self.request(message)?).await
        {
            return Ok((kept, response));
        }
        // There is none, or the receiver has closed it meanwhile, which is its right.
        let mut new = self.receiver.connect().await?;
        let response = new.send_request(self.request(message)?).await.map_err(|error| error.to_string())?;
        Ok((new, response))
    }

    fn request(&self, message: &EventMessage) -> Result<Request<Full<Bytes>>, String> {
        let body = Bytes::copy_from_slice(message.text.as_bytes());
        // For each attempt anew: a receiver refuses what is old.
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let mut request = Request::post(&self.target);
        if let Some(parent) = message.event().ok().and_then(|event| event.traceparent) {
            request = request.header("traceparent", parent);
        }
        request
            .header(header::HOST, &self.host)
            .header(header::USER_AGENT, concat!("seckill/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, "application/cloudevents+json")
            .header(TIMESTAMP_HEADER, timestamp)
            .header(EVENT_ID_HEADER, message.id.to_string())
            .header(SIGNATURE_HEADER, signature::sign_with(&self.key, timestamp, &body))
            .body(Full::new(body))
            .map_err(|error| format!("the event cannot be posted: {error}"))
    }

    /// Keeps the connection for the next event, where all of the answer can be read.
    async fn keep(&mut self, connection: SendRequest<Full<Bytes>>, answer: Incoming) {
        let rest = timeout(REST, Limited::new(answer, MAX_ANSWER).collect());
        if matches!(rest.await, Ok(Ok(_))) {
            self.connection = Some(connection);
        }
    }
}

/// # Errors
/// A sentence: this is no URL that events can be posted to.
pub fn check(url: &Url) -> Result<(), String> {
    let example = "give an address such as https://example.com/events";
    if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
        return Err(format!("events are posted over https or http only; {example}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "an address with a user name or a password cannot be used: the signature says who posts; {example}"
        ));
    }
    Ok(())
}

/// How an attempt ended.
enum Attempt {
    Taken,
    /// The receiver wants no events any more.
    Gone,
    Failed {
        why: String,
        retry_after: Option<Duration>,
    },
}

impl Attempt {
    fn failed(why: String) -> Self {
        Self::Failed { why, retry_after: None }
    }
}

fn judge<B>(response: &Response<B>) -> Attempt {
    let status = response.status();
    if status.is_success() {
        return Attempt::Taken;
    }
    if status == StatusCode::GONE {
        return Attempt::Gone;
    }
    let why = match response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok()) {
        Some(to) if status.is_redirection() => {
            format!("the receiver answered {status} and sends on to {to:?}; redirects are not followed")
        }
        _ => format!("the receiver answered {status}"),
    };
    let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|value| timing::retry_after(value, chrono::Utc::now()));
    Attempt::Failed { why, retry_after }
}

#[async_trait]
impl Sink for Webhook {
    /// One, so that no other event grows old in this process while the receiver is away.
    fn prefetch(&self) -> u16 {
        1
    }

    async fn take(&mut self, message: &EventMessage) -> io::Result<Verdict> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.post(message).await {
                Attempt::Taken => return Ok(Verdict::Taken),
                Attempt::Gone => {
                    return Ok(Verdict::Park("the receiver answered 410 Gone: it takes no events".into()));
                }
                Attempt::Failed { why, .. } if attempt >= ATTEMPTS => {
                    return Ok(Verdict::Park(format!("posted {ATTEMPTS} times; at last {why}")));
                }
                Attempt::Failed { why, retry_after } => {
                    if attempt == 1 {
                        tracing::warn!(event = %message.id, %why, "an event was not taken and is posted again");
                    }
                    sleep(self.timing.pause_after(attempt, rand::random(), retry_after)).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
