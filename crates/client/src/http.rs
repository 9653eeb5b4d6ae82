//! Sending one request, and reading one answer.

use std::fmt::Display;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::calls::Call;
use crate::error::{Error, Problem};

/// The largest answer that is held, in bytes: a list of parked messages has 1,000 of up to 64 KiB each. Streams may be longer.
const MAX_ANSWER: usize = 256 * 1024 * 1024;
/// How much of an answer that cannot be read is shown, in characters.
const SHOWN: usize = 200;

/// One server, one token or none, and the connections.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    pub(crate) client: reqwest::Client,
    pub(crate) server: Url,
    pub(crate) token: Option<SecretString>,
    pub(crate) timeout: Duration,
}

impl Http {
    /// A request, with one of `ids` for each parameter of the path.
    pub(crate) fn request(&self, call: Call, ids: &[&(dyn Display + Sync)]) -> Request<'_> {
        let mut ids = ids.iter();
        let mut url = self.server.clone();
        let segments = call.path.split('/').skip(1).map(|segment| match segment.starts_with('{') {
            true => ids.next().map_or_else(String::new, |id| id.to_string()),
            false => segment.to_owned(),
        });
        // An address without segments was refused when the client was made. Whatever an id holds, it stays one segment; `.` and
        // `..`, which are none, are left out, and no call that changes anything is at what is left.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        let method = Method::from_bytes(call.method.as_bytes()).expect("the table has methods");
        Request { http: self, call, method, url, headers: Vec::new(), body: None }
    }
}

/// A request that has yet to be sent.
pub(crate) struct Request<'a> {
    http: &'a Http,
    call: Call,
    method: Method,
    url: Url,
    headers: Vec<(&'static str, String)>,
    body: Option<serde_json::Result<Vec<u8>>>,
}

impl Request<'_> {
    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.url.query_pairs_mut().append_pair(name, value);
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn json(self, body: &impl Serialize) -> Self {
        Self { body: Some(serde_json::to_vec(body)), ..self }
    }

    /// Sends it, and reads the JSON of the answer.
    pub(crate) async fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        self.send().await?.read()
    }

    /// Sends it, and expects no body.
    pub(crate) async fn done(self) -> Result<(), Error> {
        self.send().await.map(drop)
    }

    /// The whole answer, which is no refusal. Not generic, so that it is compiled once and not for each kind of answer.
    pub(crate) async fn send(self) -> Result<Answer, Error> {
        let answer = self.send_for_any().await?;
        if answer.status.is_success() { Ok(answer) } else { Err(answer.refusal()) }
    }

    /// The whole answer, whatever its status.
    pub(crate) async fn send_for_any(self) -> Result<Answer, Error> {
        let (call, server, timeout) = (self.call, self.http.server.to_string(), self.http.timeout);
        let response = self.start(Some(timeout)).await?;
        whole(call, server, response).await
    }

    /// The head of an answer whose body comes bit by bit and is no refusal.
    pub(crate) async fn stream(self) -> Result<Source, Error> {
        let (call, server, timeout) = (self.call, self.http.server.to_string(), self.http.timeout);
        let late = Error::AnswerLost {
            call,
            server: server.clone(),
            reason: format!("there was none within {} s", timeout.as_secs_f64()),
        };
        let head = async {
            let response = self.start(None).await?;
            if response.status().is_success() {
                return Ok(Source { call, server, response });
            }
            Err(whole(call, server, response).await?.refusal())
        };
        tokio::time::timeout(timeout, head).await.unwrap_or(Err(late))
    }

    async fn start(self, timeout: Option<Duration>) -> Result<Response, Error> {
        let call = self.call;
        let unsendable = |reason: String| Error::Unsendable { call, reason };
        let mut request = self.http.client.request(self.method, self.url);
        if let Some(timeout) = timeout {
            request = request.timeout(timeout);
        }
        if let Some(token) = &self.http.token {
            request = bearer(request, token).ok_or_else(|| {
                unsendable("the token is empty or has a character other than printable ASCII".to_owned())
            })?;
        }
        for (name, value) in self.headers {
            let value = HeaderValue::try_from(value).map_err(|_| {
                unsendable(format!("the header {name} would have a character that none can have"))
            })?;
            request = request.header(HeaderName::from_static(name), value);
        }
        if let Some(body) = self.body {
            let body = body.map_err(|error| unsendable(error.to_string()))?;
            request = request.header("content-type", "application/json").body(body);
        }
        let server = &self.http.server;
        request.send().await.map_err(|error| {
            if error.is_connect() {
                Error::NoConnection { server: server.to_string(), reason: chain(error) }
            } else if error.is_builder() {
                unsendable(chain(error))
            } else {
                lost(call, server.as_str(), error)
            }
        })
    }
}

/// Reads an answer to its end.
async fn whole(call: Call, server: String, mut response: Response) -> Result<Answer, Error> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| lost(call, &server, error))? {
        if body.len() + piece.len() > MAX_ANSWER {
            let (status, reason) =
                (response.status().as_u16(), format!("it is longer than {MAX_ANSWER} bytes"));
            return Err(Error::Unreadable { call, server, status, reason });
        }
        body.extend_from_slice(&piece);
    }
    let headers = response.headers();
    Ok(Answer {
        call,
        server,
        status: response.status(),
        replayed: headers.get("idempotent-replayed").is_some_and(|value| value == "true"),
        retry_after: headers.get(RETRY_AFTER).and_then(seconds),
        body,
    })
}

/// Adds a token; `None`: no header can carry it.
fn bearer(request: RequestBuilder, token: &SecretString) -> Option<RequestBuilder> {
    let token = token.expose_secret();
    let plain = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    // It marks the header as sensitive.
    plain.then(|| request.bearer_auth(token))
}

/// A body that comes bit by bit.
pub(crate) struct Source {
    call: Call,
    server: String,
    response: Response,
}

impl Source {
    /// The next piece; `None`: the end of the whole.
    pub(crate) async fn piece(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let piece = self.response.chunk().await.map_err(|error| lost(self.call, &self.server, error))?;
        Ok(piece.map(Vec::from))
    }

    /// The error of a body that is not what it should be.
    pub(crate) fn unreadable(&self, reason: String) -> Error {
        let (call, server, status) = (self.call, self.server.clone(), self.response.status().as_u16());
        Error::Unreadable { call, server, status, reason }
    }
}

/// A whole answer.
pub(crate) struct Answer {
    call: Call,
    server: String,
    pub(crate) status: StatusCode,
    /// Whether it says that an earlier request has done it.
    pub(crate) replayed: bool,
    retry_after: Option<Duration>,
    pub(crate) body: Vec<u8>,
}

/// What a request has made, or an earlier one that asked for the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made<T> {
    /// What was made.
    pub value: T,
    /// Whether an earlier request has made it.
    pub replayed: bool,
}

impl Answer {
    pub(crate) fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        serde_json::from_slice(&self.body).map_err(|error| self.unreadable(error.to_string()))
    }

    pub(crate) fn made<T: DeserializeOwned>(self) -> Result<Made<T>, Error> {
        let replayed = self.replayed;
        Ok(Made { value: self.read()?, replayed })
    }

    pub(crate) fn text(self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn refusal(self) -> Error {
        match Problem::read(self.status, self.retry_after, &self.body) {
            Some(problem) => Error::Refused { call: self.call, problem: Box::new(problem) },
            None => {
                let start: String = String::from_utf8_lossy(&self.body).chars().take(SHOWN).collect();
                self.unreadable(format!("{start:?} is no problem of RFC 9457"))
            }
        }
    }

    fn unreadable(&self, reason: String) -> Error {
        let (call, server, status) = (self.call, self.server.clone(), self.status.as_u16());
        Error::Unreadable { call, server, status, reason }
    }
}

fn seconds(value: &HeaderValue) -> Option<Duration> {
    value.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

fn lost(call: Call, server: &str, error: reqwest::Error) -> Error {
    Error::AnswerLost { call, server: server.to_owned(), reason: chain(error) }
}

/// An error with all its causes, in one line and without the address, which the caller names.
fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
