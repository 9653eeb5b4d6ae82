//! The port `Bank` over HTTP.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{RequestBuilder, Response, StatusCode};
use seckill_core::{Bank, BankAnswer, Charge, Dependency, Fault, GiveBack};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use url::Url;
use uuid::Uuid;

use crate::protocol::{KEY_HEADER, UNKNOWN_KEY};

/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Which bank, and with what patience.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its address, such as `http://127.0.0.1:8090`. Calls go to paths below it.
    pub url: Url,
    /// How long a call may take.
    pub timeout: Duration,
    /// Calls that may be under way at the same time, 1 or more. What is above waits as long as a call may take.
    pub calls: usize,
}

impl Config {
    /// The usual patience.
    pub fn new(url: Url) -> Self {
        Self { url, timeout: Duration::from_secs(3), calls: 64 }
    }
}

/// A bank that is reached over HTTP.
#[derive(Debug)]
pub struct HttpBank {
    client: reqwest::Client,
    /// Without a slash at the end.
    base: String,
    patience: Duration,
    calls: Semaphore,
}

impl HttpBank {
    /// Does not call the bank yet.
    ///
    /// # Errors
    /// The address is none that can be called.
    pub fn new(config: Config) -> Result<Self, Fault> {
        let Config { url, timeout, calls } = config;
        if url.scheme() != "http" || url.query().is_some() || url.fragment().is_some() {
            let reason = "its address has another form than http://127.0.0.1:8090";
            return Err(Fault::misconfigured(Dependency::Bank, reason));
        }
        let client = reqwest::Client::builder()
            .timeout(timeout)
            // Ends before the time-out of the call, so that "never connected" is not taken for "sent, and no answer".
            .connect_timeout((timeout / 2).min(Duration::from_secs(1)))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| Fault::misconfigured(Dependency::Bank, said(&error)))?;
        let base = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { client, base, patience: timeout, calls: Semaphore::new(calls.max(1)) })
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>, Fault> {
        match timeout(self.patience, self.calls.acquire()).await {
            Ok(permit) => Ok(permit.expect("the semaphore is never closed")),
            Err(_) => Err(unavailable("too many calls are under way, and none has ended in time")),
        }
    }

    async fn post(&self, path: &str, key: Uuid, body: &serde_json::Value) -> Result<BankAnswer, Fault> {
        let _permit = self.permit().await?;
        let request = self.client.post(format!("{}{path}", self.base));
        let response = send(request.header(KEY_HEADER, key.to_string()).json(body)).await?;
        match response.status() {
            // It has done something. What, it could not say so that this program understands it.
            StatusCode::OK | StatusCode::CREATED => answer(key, &read(response).await?).map_err(unknown),
            status => Err(refused(status, &read(response).await?)),
        }
    }

    async fn state(&self, path: &str, key: Uuid) -> Result<Option<BankAnswer>, Fault> {
        let _permit = self.permit().await?;
        let response = send(self.client.get(format!("{}{path}/{key}", self.base))).await?;
        let status = response.status();
        let body = read(response).await?;
        match status {
            StatusCode::OK => {
                let answer = answer(key, &body);
                answer.map(Some).map_err(|reason| Fault::corrupt(Dependency::Bank, reason))
            }
            // Any server answers 404 to a path that it does not know. Only a bank can say that it does not know a key.
            StatusCode::NOT_FOUND if problem(&body).kind == UNKNOWN_KEY => Ok(None),
            _ => Err(refused(status, &body)),
        }
    }
}

#[async_trait]
impl Bank for HttpBank {
    async fn charge(&self, charge: &Charge) -> Result<BankAnswer, Fault> {
        let Charge { key, order_id, amount_cents, currency, card } = charge;
        let body =
            json!({ "order_id": order_id, "amount_cents": amount_cents, "currency": currency, "card": card });
        self.post("/v1/charges", *key, &body).await
    }

    async fn charge_state(&self, key: Uuid) -> Result<Option<BankAnswer>, Fault> {
        self.state("/v1/charges", key).await
    }

    async fn give_back(&self, refund: &GiveBack) -> Result<BankAnswer, Fault> {
        let GiveBack { key, charge, amount_cents } = refund;
        self.post("/v1/refunds", *key, &json!({ "charge": charge, "amount_cents": amount_cents })).await
    }

    async fn give_back_state(&self, key: Uuid) -> Result<Option<BankAnswer>, Fault> {
        self.state("/v1/refunds", key).await
    }
}

async fn send(request: RequestBuilder) -> Result<Response, Fault> {
    request.send().await.map_err(|error| {
        // Until it is connected, nothing has been sent.
        if error.is_connect() || error.is_builder() {
            unavailable(said(&error))
        } else {
            unknown(said(&error))
        }
    })
}

/// The body. Without all of it, nobody knows what the answer was.
async fn read(mut response: Response) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|error| unknown(said(&error)))? {
        body.extend_from_slice(&part);
        if body.len() > MAX_ANSWER {
            return Err(unknown(format!("its answer is longer than {MAX_ANSWER} bytes")));
        }
    }
    Ok(body)
}

#[derive(Deserialize)]
struct Answered {
    key: Uuid,
    #[serde(flatten)]
    answer: BankAnswer,
}

/// What the bank answered, or why that cannot be read.
fn answer(key: Uuid, body: &[u8]) -> Result<BankAnswer, String> {
    let answered: Answered =
        serde_json::from_slice(body).map_err(|error| format!("its answer for {key}: {error}"))?;
    if answered.key == key {
        Ok(answered.answer)
    } else {
        Err(format!("asked for {key}, it answered for {}", answered.key))
    }
}

/// What a problem (RFC 9457) says; nothing, if it is none.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    #[serde(rename = "type")]
    kind: String,
    detail: String,
}

fn problem(body: &[u8]) -> Problem {
    serde_json::from_slice(body).unwrap_or_default()
}

fn refused(status: StatusCode, body: &[u8]) -> Fault {
    let reason = format!("it answered {status}: {}", problem(body).detail);
    let reason = reason.trim_end_matches(": ").to_owned();
    match status {
        _ if status.is_server_error() || status.is_success() => unknown(reason),
        StatusCode::REQUEST_TIMEOUT => unknown(reason),
        // It reads the request and does not like it: the same request will be refused again.
        StatusCode::BAD_REQUEST
        | StatusCode::CONFLICT
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNPROCESSABLE_ENTITY => Fault::corrupt(Dependency::Bank, reason),
        StatusCode::TOO_MANY_REQUESTS => unavailable(reason),
        // No such path, not allowed, or moved: this is not the bank that was meant.
        _ => Fault::misconfigured(Dependency::Bank, format!("{reason}; is its address right?")),
    }
}

fn unavailable(reason: impl std::fmt::Display) -> Fault {
    Fault::unavailable(Dependency::Bank, reason)
}

fn unknown(reason: impl std::fmt::Display) -> Fault {
    Fault::unknown(Dependency::Bank, reason)
}

/// An error with its causes, which say what really happened.
fn said(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
