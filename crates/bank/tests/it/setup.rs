//! A bank on a port of its own, and short ways to ask it.

use std::io;
use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use seckill_bank::server::{self, Config, Faults};
use seckill_bank::{HttpBank, client};
use seckill_core::{Charge, GiveBack, OrderId};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

/// Longer than anything here takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// What a call of [`TestBank::impatient`] may take.
pub(crate) const IMPATIENCE: Duration = Duration::from_millis(300);

pub(crate) struct TestBank {
    pub(crate) url: Url,
    pub(crate) http: Client,
    shutdown: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

impl TestBank {
    pub(crate) async fn start(config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(server::run(listener, config, shutdown.clone()));
        let http = Client::builder().timeout(DEADLINE).no_proxy().build().unwrap();
        Self { url, http, shutdown, task }
    }

    pub(crate) async fn in_memory() -> Self {
        Self::start(Config::default()).await
    }

    pub(crate) async fn with_faults(faults: Faults) -> Self {
        Self::start(Config { faults, ..Config::default() }).await
    }

    pub(crate) async fn in_folder(folder: &Path) -> Self {
        Self::start(Config { data_dir: Some(folder.to_owned()), ..Config::default() }).await
    }

    /// Ends it, and returns how it ended.
    pub(crate) async fn stop(self) -> io::Result<()> {
        self.shutdown.cancel();
        tokio::time::timeout(DEADLINE, self.task).await.unwrap().unwrap()
    }

    pub(crate) fn client(&self) -> HttpBank {
        client_of(&self.url, DEADLINE)
    }

    /// A client that soon takes silence for an answer.
    pub(crate) fn impatient(&self) -> HttpBank {
        client_of(&self.url, IMPATIENCE)
    }

    pub(crate) fn at(&self, path: &str) -> Url {
        self.url.join(path).unwrap()
    }

    pub(crate) async fn post(&self, path: &str, key: Uuid, body: &Value) -> Response {
        let request = self.http.post(self.at(path)).header("Idempotency-Key", key.to_string());
        request.json(body).send().await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        status_and_json(self.http.get(self.at(path)).send().await.unwrap()).await
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        self.http.get(self.at(path)).send().await.unwrap().text().await.unwrap()
    }

    pub(crate) async fn set_faults(&self, faults: Value) -> StatusCode {
        self.http.put(self.at("/v1/faults")).json(&faults).send().await.unwrap().status()
    }

    /// `[charges, charged_cents, refunds, refunded_cents]`
    pub(crate) async fn totals(&self) -> [u64; 4] {
        let (_, totals) = self.get("/v1/totals").await;
        ["charges", "charged_cents", "refunds", "refunded_cents"].map(|field| totals[field].as_u64().unwrap())
    }
}

pub(crate) fn client_of(url: &Url, timeout: Duration) -> HttpBank {
    HttpBank::new(client::Config { timeout, ..client::Config::new(url.clone()) }).unwrap()
}

pub(crate) async fn status_and_json(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    (status, response.json().await.unwrap())
}

pub(crate) fn charge(amount_cents: u64, card: &str) -> Charge {
    Charge {
        key: Uuid::now_v7(),
        order_id: OrderId::generate(),
        amount_cents,
        currency: "EUR".into(),
        card: card.into(),
    }
}

pub(crate) fn give_back(charge: &Charge, amount_cents: u64) -> GiveBack {
    GiveBack { key: Uuid::now_v7(), charge: charge.key, amount_cents }
}

/// The body of a request for a charge.
pub(crate) fn body(charge: &Charge) -> Value {
    let Charge { key: _, order_id, amount_cents, currency, card } = charge;
    json!({ "order_id": order_id, "amount_cents": amount_cents, "currency": currency, "card": card })
}
