//! A process of a demonstration, put together from its parts: the controls over HTTP, injected faults between the embedded back end, a
//! real bank and what comes after an order.

use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use reqwest::{Client, Method, StatusCode};
use seckill_bank::server;
use seckill_bank::{HttpBank, client};
use seckill_core::money::Parts;
use seckill_core::{
    Backend, Bank, NewSale, OrderId, OrderService, PaymentAnswer, PaymentRequest, SaleId, UserId,
};
use seckill_dashboard::{Feed, Identity, Reporter, SettingsHandler};
use seckill_events::{relay, subscribers};
use seckill_lab::experiment::{OpenPlace, Places, Store};
use seckill_lab::load::{LoadCommand, LoadConfig};
use seckill_lab::{Controls, InjectedFaults, SettingsApplier, WorkerControl};
use seckill_lifecycle::Service;
use seckill_testkit::eventually;
use seckill_testkit::fixtures::{EPOCH, new_sale, open, order};
use seckill_token::admin::AdminTokens;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longer than the lease of an event that a dead relay has left.
pub(crate) const SOON: Duration = Duration::from_secs(60);
const ADMIN_TOKEN: &str = "the admin's token";

pub(crate) struct Demonstration {
    /// Without faults.
    pub(crate) backend: Backend,
    /// With faults between it and its user.
    pub(crate) faulty: Backend,
    pub(crate) sale: SaleId,
    pub(crate) bank: Arc<dyn Bank>,
    pub(crate) service: Service,
    http: Client,
    controls: String,
    bank_url: String,
    faults: Arc<InjectedFaults>,
    handler: Arc<SettingsApplier>,
    stop: CancellationToken,
    _stop_at_the_end: DropGuard,
    _folder: TempDir,
}

impl Demonstration {
    /// `has_bank` is what the controls are told.
    pub(crate) async fn new(has_bank: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backend = seckill_embedded::open(folder.path()).await.unwrap();
        let faults = Arc::new(InjectedFaults::default());
        let faulty = faults.wrap(&backend);
        let stop = CancellationToken::new();
        let bank_url = serve_bank(stop.clone()).await;
        let http_bank = HttpBank::new(client::Config::new(bank_url.parse().unwrap())).unwrap();
        let bank = faults.wrap_bank(Arc::new(http_bank));
        let (identity, no_worker) = (Identity::new("gateway"), None::<Arc<dyn WorkerControl>>);
        let handler = Arc::new(SettingsApplier::new(identity.process, Arc::clone(&faults), no_worker));
        let controls = serve_controls(&backend, identity, &handler, has_bank, stop.clone()).await;
        let new = NewSale { payment_window_ms: Some(3_600_000), ..new_sale(1_000, 1) };
        let sale = open(&backend, &new).await.id;
        let service = Service::new(faulty.clone(), Some(Arc::clone(&bank)));
        let (http, guard) = (Client::builder().no_proxy().build().unwrap(), stop.clone().drop_guard());
        Self {
            backend,
            faulty,
            sale,
            bank,
            service,
            http,
            controls,
            bank_url,
            faults,
            handler,
            stop,
            _stop_at_the_end: guard,
            _folder: folder,
        }
    }

    /// Starts the relay and the subscribers, with faults.
    pub(crate) fn start_events(&self) {
        let (faults, backend, stop) = (Arc::clone(&self.faults), self.faulty.clone(), self.stop.clone());
        let relay = async move {
            faults.keep_relay(|| relay::run(backend.clone(), stop.clone()), &stop).await;
        };
        let (backend, stop) = (self.faulty.clone(), self.stop.clone());
        tokio::spawn(seckill_events::run(backend, subscribers::all(), relay, stop));
    }

    /// A call of the controls.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let request = self.http.request(method, format!("{}/api/v1/control{path}", self.controls));
        let answer = request.json(&body).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap_or_default())
    }

    /// Switches a fault on and waits until this process makes it.
    pub(crate) async fn begin(&self, fault: &str, body: Value) {
        let (status, answer) = self.ask(Method::PUT, &format!("/faults/{fault}"), body).await;
        assert_eq!(status, 200, "{answer}");
        self.reported(fault, true).await;
    }

    pub(crate) async fn end(&self, fault: &str) {
        let (status, answer) = self.ask(Method::DELETE, &format!("/faults/{fault}"), Value::Null).await;
        assert_eq!(status, 200, "{answer}");
        self.reported(fault, false).await;
    }

    /// Waits until this process makes the fault, or does not.
    pub(crate) async fn reported(&self, fault: &str, on: bool) {
        eventually(SOON, async || {
            let active = self.handler.active_faults();
            if active.iter().any(|kind| json!(kind) == fault) == on { Ok(()) } else { Err(active) }
        })
        .await;
    }

    /// Orders of these users, committed.
    pub(crate) async fn orders(&self, users: std::ops::Range<u64>) -> Vec<OrderId> {
        let orders: Vec<_> = users.map(|user| order(self.sale, user)).collect();
        let claims: Vec<_> = orders.iter().map(|order| order.claim).collect();
        let reserved = self.backend.gate.reserve(self.sale, EPOCH, &[], &claims).await.unwrap();
        self.backend.gate.settle(self.sale, &[reserved.reservation.unwrap()]).await.unwrap();
        self.backend.ledger.writer().await.unwrap().commit(&orders).await.unwrap();
        orders.iter().map(|order| order.claim.order_id).collect()
    }

    /// Pays an order by card.
    pub(crate) async fn pay(&self, order: OrderId, user: u64) -> PaymentAnswer {
        let request = PaymentRequest {
            user_id: UserId(user),
            key: format!("pays {user}"),
            parts: Parts { card_cents: 12_345, ..Parts::default() },
            currency: "USD".to_owned(),
            card: Some("tok_1".to_owned()),
            coupon: None,
        };
        self.service.pay(order, &request).await.unwrap()
    }

    /// What the bank has done, without any fault in between.
    pub(crate) async fn bank_totals(&self) -> Value {
        let totals = self.http.get(format!("{}/v1/totals", self.bank_url)).send().await.unwrap();
        totals.json().await.unwrap()
    }

    /// Events that wait for a subscriber.
    pub(crate) async fn waiting(&self, name: &str) -> u64 {
        self.backend.events.waiting(&name.parse().unwrap()).await.unwrap().unwrap_or_default().events
    }

    pub(crate) async fn wait_until_none_waits(&self, name: &str) {
        eventually(SOON, async || match self.waiting(name).await {
            0 => Ok(()),
            waiting => Err(waiting),
        })
        .await;
    }
}

async fn serve_bank(stop: CancellationToken) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(server::run(listener, server::Config::default(), stop));
    url
}

async fn serve_controls(
    backend: &Backend,
    identity: Identity,
    handler: &Arc<SettingsApplier>,
    has_bank: bool,
    stop: CancellationToken,
) -> String {
    let prometheus = PrometheusBuilder::new().build_recorder().handle();
    let control = Arc::clone(&backend.control);
    let handler = Arc::clone(handler) as Arc<dyn SettingsHandler>;
    let reporter = Arc::new(Reporter::new(identity, true, control, prometheus, None, Some(handler)));
    let feed = Feed::new(backend.clone(), Arc::clone(&reporter));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let load = LoadConfig {
        target: url.clone(),
        direct: None,
        admin_token: ADMIN_TOKEN.into(),
        sign: Arc::new(|_| String::new()),
        kept_in: None,
        transactions: None,
        command: LoadCommand::default(),
    };
    let open: OpenPlace = Arc::new(|| Box::pin(async { Err("there is none here".to_owned()) }));
    let experiments = Places { store: Store::Embedded, open };
    let admins = AdminTokens::one(ADMIN_TOKEN);
    let controls = Controls { admins, loopback: true, has_bank, load, experiments };
    let router = seckill_lab::routes(backend, &feed, &reporter, controls, stop.clone());
    tokio::spawn(async move { stop.run_until_cancelled(reporter.run()).await });
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}
