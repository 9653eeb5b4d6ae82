//! What everybody may ask.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::redirect::Policy;
use seckill_api::{AuditView, KindView, ReadinessReport, RoomView, SaleList, SaleView};
use seckill_core::SaleId;
use secrecy::SecretString;
use url::Url;

use crate::admin::Admin;
use crate::buyer::Buyer;
use crate::calls;
use crate::error::Error;
use crate::http::Http;

/// How long a request may take, unless a client is told otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long making a connection may take. Shorter than [`TIMEOUT`], so that it is known that nothing was sent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may be silent. A gateway's event stream has a comment every 45 s.
const SILENCE: Duration = Duration::from_secs(120);

/// A client of one gateway, without a token. A clone shares its connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: Http,
}

impl Client {
    /// A client of the gateway at `server`, such as `http://127.0.0.1:8080`. It connects with its first request.
    ///
    /// # Errors
    /// [`Error::Server`] for an address that is none of a gateway.
    pub fn new(server: Url) -> Result<Self, Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE)
            .redirect(Policy::none())
            .no_proxy()
            .build();
        match http {
            Ok(http) => Self::over(http, server),
            Err(error) => Err(Error::Server { server: shown(server), reason: error.to_string() }),
        }
    }

    /// A client that sends by `http`, for who needs TLS, a proxy, or limits of their own. Have it follow no redirects: the request
    /// would become another one.
    ///
    /// # Errors
    /// [`Error::Server`] for an address that is none of a gateway.
    pub fn over(http: reqwest::Client, server: Url) -> Result<Self, Error> {
        let reason = if !matches!(server.scheme(), "http" | "https") {
            format!("{} is not spoken here", server.scheme())
        } else if !server.username().is_empty() || server.password().is_some() {
            "it has a user name or a password, and a gateway takes tokens".to_owned()
        } else if server.query().is_some() || server.fragment().is_some() {
            "it has more than a host, a port and a path".to_owned()
        } else {
            return Ok(Self { http: Http { client: http, server, token: None, timeout: TIMEOUT } });
        };
        Err(Error::Server { server: shown(server), reason })
    }

    /// The same client, with requests that may take so long, and 120 s at the most without a byte. Streams may go on for longer.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.http.timeout = timeout;
        self
    }

    /// The address of the gateway.
    pub fn server(&self) -> &Url {
        &self.http.server
    }

    /// The calls of a buyer with this token, a JSON Web Token whose `sub` is the user id.
    pub fn buyer(&self, token: SecretString) -> Buyer {
        Buyer { http: self.with(token) }
    }

    /// The calls of an admin with this token.
    pub fn admin(&self, token: SecretString) -> Admin {
        Admin { http: self.with(token) }
    }

    fn with(&self, token: SecretString) -> Http {
        Http { token: Some(token), ..self.http.clone() }
    }

    /// The newest sales, newest first; at most a second old.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn sales(&self) -> Result<SaleList, Error> {
        self.http.request(calls::SALES, &[]).read().await
    }

    /// One sale, and what its gate has left; at most a tenth of a second old.
    ///
    /// # Errors
    /// There is no such sale, or no answer.
    pub async fn sale(&self, sale: SaleId) -> Result<SaleView, Error> {
        self.http.request(calls::SALE, &[&sale]).read().await
    }

    /// The invariants of a sale, at most a second old, or a little more where counting takes longer.
    ///
    /// # Errors
    /// There is no such sale, or no answer.
    pub async fn audit(&self, sale: SaleId) -> Result<AuditView, Error> {
        self.http.request(calls::AUDIT, &[&sale]).read().await
    }

    /// The waiting room of a sale, the same for everybody; at most a second old.
    ///
    /// # Errors
    /// The sale has no room, or there is no answer.
    pub async fn waiting_room(&self, sale: SaleId) -> Result<RoomView, Error> {
        self.http.request(calls::WAITING_ROOM, &[&sale]).read().await
    }

    /// Every kind of problem that the gateway may answer with.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn problems(&self) -> Result<Vec<KindView>, Error> {
        self.http.request(calls::PROBLEMS, &[]).read().await
    }

    /// One kind of problem, and what to do about it. `slug` is the last part of a problem's `type`.
    ///
    /// # Errors
    /// There is no such kind, or no answer.
    pub async fn problem(&self, slug: &str) -> Result<KindView, Error> {
        self.http.request(calls::PROBLEM, &[&slug]).read().await
    }

    /// The API's document, OpenAPI 3.1.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn openapi(&self) -> Result<serde_json::Value, Error> {
        self.http.request(calls::OPENAPI, &[]).read().await
    }

    /// Asks whether the process lives.
    ///
    /// # Errors
    /// It does not, or does not answer.
    pub async fn alive(&self) -> Result<(), Error> {
        self.http.request(calls::ALIVE, &[]).done().await
    }

    /// Whether the process can work, and if not, why. That it cannot is an answer, too.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn readiness(&self) -> Result<ReadinessReport, Error> {
        let answer = self.http.request(calls::READINESS, &[]).send_for_any().await?;
        match answer.status {
            StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE => answer.read(),
            _ => Err(answer.refusal()),
        }
    }

    /// The metrics of the process, as Prometheus reads them.
    ///
    /// # Errors
    /// There is no answer, or metrics are served at another address.
    pub async fn metrics(&self) -> Result<String, Error> {
        Ok(self.http.request(calls::METRICS, &[]).send().await?.text())
    }
}

/// An address without a password.
fn shown(mut server: Url) -> String {
    // An address that has no place for them has none.
    let _none_left = server.set_password(None).and_then(|()| server.set_username(""));
    server.to_string()
}
