//! What has become of an order: asked for, listed, and sent as it happens.

use seckill_core::{Dependency, OrderId, SaleId};
use serde_json::{Value, json};

use crate::gateway::{Gateway, config, forgetful, token};
use crate::test_bed::{SOON, TestBed};

#[tokio::test]
async fn an_order_is_queued_until_it_is_committed() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    let id = gateway.buy_with(sale, 7, json!({"quantity": 2})).await.expect(202).order_id();
    let queued = gateway.order(7, id).await.expect(200).json;
    let accepted_at = queued["accepted_at"].clone();
    let common = json!({"order_id": id, "sale_id": sale, "quantity": 2, "accepted_at": accepted_at});
    let with = |more: Value| {
        let mut whole = common.clone();
        whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        whole
    };
    assert_eq!(queued, with(json!({"status": "queued"})));
    bed.drain().await;
    let row = bed.ledger_order(id).await.expect("it is in the ledger");
    let committed = with(json!({"status": "committed", "amount_cents": 500, "recorded_at": row.recorded_at}));
    assert_eq!(gateway.order(7, id).await.expect(200).json, committed);
    let mine = gateway.get_as(7, &format!("/api/v1/sales/{sale}/orders/mine")).await.expect(200);
    assert_eq!(mine.json, json!({"orders": [committed]}));
}

#[tokio::test]
async fn a_user_sees_the_orders_of_one_sale() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let (here, there) = (gateway.open_sale(10).await, gateway.open_sale(10).await);
    let id = gateway.buy(here, 7).await.expect(202).order_id();
    gateway.buy(there, 7).await.expect(202);
    gateway.buy(here, 8).await.expect(202);
    for status in ["queued", "committed"] {
        let mine = gateway.get_as(7, &format!("/api/v1/sales/{here}/orders/mine")).await.expect(200);
        let orders = mine.json["orders"].as_array().unwrap();
        assert_eq!(orders.len(), 1, "{mine:?}");
        assert_eq!((&orders[0]["order_id"], &orders[0]["status"]), (&json!(id), &json!(status)));
        bed.drain().await;
    }
}

#[tokio::test]
async fn what_names_no_order_or_no_sale_is_not_found() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    for id in [OrderId::generate().to_string(), "1".into(), "not-an-id".into()] {
        gateway.get_as(7, &format!("/api/v1/orders/{id}")).await.expect_problem(404, "not-found");
        gateway.get_as(7, &format!("/api/v1/orders/{id}/events")).await.expect_problem(404, "not-found");
    }
    for id in ["99", "none"] {
        gateway.get_as(7, &format!("/api/v1/sales/{id}/orders/mine")).await.expect_problem(404, "not-found");
    }
}

/// 404 would say that gate and ledger agree.
#[tokio::test]
async fn while_gate_or_ledger_is_away_no_order_is_called_unknown() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&bed.backend, forgetful()).await;
    let sale = gateway.open_sale(10).await;
    let id = gateway.buy(sale, 7).await.expect(202).order_id();
    bed.faults.away(Dependency::Ledger);
    gateway.order(7, id).await.expect_problem(503, "unavailable");
    gateway.order(7, OrderId::generate_for(sale)).await.expect_problem(503, "unavailable");
    bed.faults.back(Dependency::Ledger);
    bed.drain().await;
    bed.faults.away(Dependency::Gate);
    assert_eq!(gateway.order(7, id).await.expect(200).json["status"], "committed");
    gateway.order(7, OrderId::generate_for(sale)).await.expect_problem(503, "unavailable");
    gateway.order(7, OrderId::generate()).await.expect_problem(503, "unavailable");
    bed.faults.back(Dependency::Gate);
    gateway.order(7, OrderId::generate_for(sale)).await.expect_problem(404, "not-found");
}

/// The events of an order, read as they come.
pub(crate) struct Events {
    response: reqwest::Response,
    text: String,
}

impl Events {
    pub(crate) async fn open(gateway: &Gateway, user: u64, order: OrderId) -> Self {
        let path = format!("/api/v1/orders/{order}/events");
        let request = gateway.request(reqwest::Method::GET, &path).bearer_auth(token(user));
        let response = request.send().await.expect("the gateway answers");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    /// The next event: its name and its data. `None`: the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    event
                        .lines()
                        .find_map(|line| line.strip_prefix(name))
                        .unwrap_or_default()
                        .trim()
                        .to_owned()
                };
                let data = serde_json::from_str(&field("data:")).expect("the data is JSON");
                let read = (field("event:"), data);
                self.text = rest.to_owned();
                return Some(read);
            }
            let chunk = tokio::time::timeout(SOON, self.response.chunk()).await;
            let chunk = chunk.expect("an event comes, or the end").expect("the stream does not break")?;
            self.text.push_str(std::str::from_utf8(&chunk).expect("the stream is text"));
        }
    }

    pub(crate) async fn expect_status(&mut self, order: OrderId, status: &str) {
        let (name, data) = self.next().await.expect("the stream goes on");
        let seen = (name.as_str(), &data["order_id"], &data["status"]);
        assert_eq!(seen, ("status", &json!(order), &json!(status)));
    }
}

async fn queued_order(gateway: &Gateway) -> (SaleId, OrderId) {
    let sale = gateway.open_sale(10).await;
    (sale, gateway.buy(sale, 7).await.expect(202).order_id())
}

#[tokio::test]
async fn the_events_of_an_order_go_from_queued_to_committed_and_end() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let (_, order) = queued_order(&gateway).await;
    let mut events = Events::open(&gateway, 7, order).await;
    events.expect_status(order, "queued").await;
    bed.drain().await;
    events.expect_status(order, "committed").await;
    assert_eq!(events.next().await, None);
    let mut late = Events::open(&gateway, 7, order).await;
    late.expect_status(order, "committed").await;
    assert_eq!(late.next().await, None);
}

#[tokio::test]
async fn a_shutdown_ends_event_streams() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let (_, order) = queued_order(&gateway).await;
    let mut events = Events::open(&gateway, 7, order).await;
    events.expect_status(order, "queued").await;
    gateway.stop().await;
    assert_eq!(events.next().await, None, "the stream ends, and does not break");
}

#[tokio::test]
async fn there_are_only_so_many_event_streams_at_once() {
    let bed = TestBed::new().await;
    let gateway =
        Gateway::with(&bed.backend, seckill_gateway::Config { max_event_streams: 1, ..config() }).await;
    let (_, order) = queued_order(&gateway).await;
    let mut first = Events::open(&gateway, 7, order).await;
    first.expect_status(order, "queued").await;
    let path = format!("/api/v1/orders/{order}/events");
    gateway.get_as(7, &path).await.expect_problem(503, "overloaded");
    drop(first);
    // The gateway learns that the client has gone when it has something to send.
    bed.drain().await;
    seckill_testkit::eventually(SOON, async || {
        let reply = gateway.get_as(7, &path).await;
        if reply.status == 200 { Ok(()) } else { Err(reply) }
    })
    .await;
}
