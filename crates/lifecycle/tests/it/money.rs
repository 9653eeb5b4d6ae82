//! Paying and giving money back, with a bank over real HTTP that fails on request.

use std::sync::Arc;
use std::time::Duration;

use seckill_bank::client::{self, HttpBank};
use seckill_bank::server;
use seckill_core::money::{Parts, SagaKind, SagaState};
use seckill_core::{
    Backend, Bank, Changed, Event, EventBody, OrderId, OrderService, OrderStatus, PaymentAnswer,
    PaymentRequest, SaleId, UserId, Verdict,
};
use seckill_lifecycle::{Service, pay, refund};
use seckill_testkit::eventually;
use seckill_testkit::fixtures::audit;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{SOON, back_end, commit, sale};

const USER: UserId = UserId(0);
/// The price of an order.
const PRICE: u64 = 12_345;

/// A back end, a bank, and an order that waits to be paid.
struct Bed {
    backend: Backend,
    bank: Arc<dyn Bank>,
    service: Service,
    sale: SaleId,
    order: OrderId,
    bank_url: Url,
    stop: CancellationToken,
    _folder: TempDir,
}

impl Bed {
    async fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let bank_url: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let stop = CancellationToken::new();
        let config = server::Config { hold: Duration::from_secs(1), ..server::Config::default() };
        tokio::spawn(server::run(listener, config, stop.clone()));
        let timeout = Duration::from_millis(500);
        let client = client::Config { timeout, ..client::Config::new(bank_url.clone()) };
        let bank: Arc<dyn Bank> = Arc::new(HttpBank::new(client).unwrap());
        let (folder, backend) = back_end().await;
        let sale = sale(&backend, SOON * 100).await.id;
        let order = commit(&backend, sale, 0..1).await[0];
        let service = Service::new(backend.clone(), Some(Arc::clone(&bank)));
        Self { backend, bank, service, sale, order, bank_url, stop, _folder: folder }
    }

    async fn faults(&self, faults: Value) {
        let url = self.bank_url.join("/v1/faults").unwrap();
        let answer = reqwest::Client::new().put(url).json(&faults).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// Charges, and what was given back, as the bank has them.
    async fn bank_totals(&self) -> (u64, u64, u64) {
        let url = self.bank_url.join("/v1/totals").unwrap();
        let totals: Value = reqwest::get(url).await.unwrap().json().await.unwrap();
        let number = |name: &str| totals[name].as_u64().unwrap();
        (number("charges"), number("charged_cents"), number("refunded_cents"))
    }

    async fn pay(&self, key: &str, request: PaymentRequest) -> PaymentAnswer {
        let request = PaymentRequest { key: key.to_owned(), ..request };
        self.service.pay(self.order, &request).await.unwrap()
    }

    async fn status(&self) -> OrderStatus {
        self.backend.ledger.order(self.order).await.unwrap().unwrap().status
    }

    /// Gives the user a balance and makes a coupon.
    async fn gifts(&self, balance: i64, coupon: u64) {
        let mut transaction = self.backend.lifecycle.begin().await.unwrap();
        assert!(transaction.change_balance(USER, balance).await.unwrap());
        assert!(transaction.add_coupon("SPRING", coupon).await.unwrap());
        transaction.commit().await.unwrap();
    }

    /// Looks after due payments until this one has ended.
    async fn looked_after(&self) {
        let stop = CancellationToken::new();
        let looking =
            tokio::spawn(pay::look_after(self.backend.clone(), Arc::clone(&self.bank), stop.clone()));
        eventually(SOON, async || {
            let saga = self.backend.lifecycle.find_saga(SagaKind::Payment, self.order).await.unwrap();
            match saga.map(|saga| saga.state) {
                Some(SagaState::Running) => Err("the payment runs"),
                _ => Ok(()),
            }
        })
        .await;
        stop.cancel();
        looking.await.unwrap();
    }

    /// Takes every event of the outbox to the step that it is for, each three times, the newest first; until none is left.
    async fn run_refunds(&self, rules: refund::Rules) {
        loop {
            let due = self.backend.outbox.claim(100, SOON).await.unwrap();
            if due.is_empty() {
                return;
            }
            for event in due.iter().rev() {
                let event = event.message.event().unwrap();
                for _ in 0..3 {
                    self.step(rules, &event).await;
                }
            }
            let ids: Vec<_> = due.iter().map(|event| event.message.id).collect();
            self.backend.outbox.mark_sent(&ids).await.unwrap();
        }
    }

    async fn step(&self, rules: refund::Rules, event: &Event) {
        let id = event.id;
        match &event.body {
            EventBody::RefundRequested(told) => {
                refund::assess(&self.backend, rules, "risk", id, told.order.order_id).await.unwrap();
            }
            EventBody::RefundApproved(told) => loop {
                // As a subscriber does: whatever fails is tried again.
                match refund::transfer(&self.backend, Some(&self.bank), told.order.order_id).await {
                    Ok(_) => break,
                    Err(_) => self.faults(json!({})).await,
                }
            },
            EventBody::RefundTransferred(told) => {
                refund::finish(&self.backend, "end", id, told.order.order_id).await.unwrap();
            }
            _ => {}
        }
    }

    /// The sale is clean in stock and in money, and this much of it is ours.
    async fn assert_money(&self, charged: u64, refunded: u64) {
        let money = self.backend.lifecycle.money(self.sale).await.unwrap();
        assert_eq!((money.charged_cents, money.refunded_cents), (charged, refunded), "{money:?}");
        assert_eq!(money.findings(), [] as [String; 0]);
        assert_ne!(audit(&self.backend, self.sale).await.verdict, Verdict::Violated);
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn by_card() -> PaymentRequest {
    parts(Parts { card_cents: PRICE, ..Parts::default() })
}

fn parts(parts: Parts) -> PaymentRequest {
    PaymentRequest {
        user_id: USER,
        key: String::new(),
        parts,
        currency: "USD".to_owned(),
        card: (parts.card_cents > 0).then(|| "tok_visa".to_owned()),
        coupon: (parts.coupon_cents > 0).then(|| "SPRING".to_owned()),
    }
}

fn three_ways() -> PaymentRequest {
    parts(Parts { card_cents: PRICE - 2_500, balance_cents: 2_000, coupon_cents: 500 })
}

/// Which events of the outbox tell of the order.
async fn told(backend: &Backend) -> Vec<&'static str> {
    let mut told = Vec::new();
    for state in [seckill_core::OutboxState::Sent, seckill_core::OutboxState::Pending] {
        for event in backend.outbox.list(state, 100).await.unwrap() {
            told.push(event.message.event().unwrap().body.kind());
        }
    }
    told
}

#[tokio::test]
async fn an_order_is_charged_once_however_often_its_payment_is_asked_for() {
    let bed = Bed::new().await;
    let first = bed.pay("key", by_card()).await;
    assert!(matches!(first, PaymentAnswer::Paid { .. }), "{first:?}");
    assert_eq!(bed.pay("key", by_card()).await, first);
    let other = PaymentRequest { card: Some("tok_other".to_owned()), ..by_card() };
    assert_eq!(bed.pay("key", other).await, PaymentAnswer::KeyReused);
    assert_eq!(bed.pay("key-2", by_card()).await, PaymentAnswer::NotPossible { status: OrderStatus::Paid });
    assert_eq!(bed.bank_totals().await, (1, PRICE, 0));
    assert_eq!(told(&bed.backend).await, ["order.committed", "order.paid"]);
    bed.assert_money(PRICE, 0).await;
}

#[tokio::test]
async fn a_declined_payment_gives_everything_back_and_the_next_one_may_succeed() {
    let bed = Bed::new().await;
    bed.gifts(2_000, 500).await;
    let declined = PaymentRequest { card: Some("tok_declined".to_owned()), ..three_ways() };
    let answer = bed.pay("key", declined.clone()).await;
    assert!(matches!(answer, PaymentAnswer::Declined { .. }), "{answer:?}");
    assert_eq!(bed.pay("key", declined).await, answer);
    assert_eq!(bed.backend.lifecycle.balance(USER).await.unwrap(), 2_000);
    bed.assert_money(0, 0).await;
    let answer = bed.pay("key-2", three_ways()).await;
    assert!(matches!(answer, PaymentAnswer::Paid { .. }), "{answer:?}");
    assert_eq!(bed.backend.lifecycle.balance(USER).await.unwrap(), 0);
    bed.assert_money(PRICE, 0).await;
}

/// The bank charges, and its answer is lost: nobody calls that a failure.
#[tokio::test]
async fn a_time_out_after_the_charge_is_looked_up_and_not_charged_again() {
    let bed = Bed::new().await;
    bed.faults(json!({"timeout_after": 1.0})).await;
    assert_eq!(bed.pay("key", by_card()).await, PaymentAnswer::Processing);
    assert_eq!(bed.pay("key", by_card()).await, PaymentAnswer::UnderWay);
    assert_eq!(bed.pay("key-2", by_card()).await, PaymentAnswer::UnderWay);
    assert_eq!(bed.status().await, OrderStatus::Committed);
    bed.looked_after().await;
    assert!(matches!(bed.pay("key", by_card()).await, PaymentAnswer::Paid { .. }));
    assert_eq!(bed.bank_totals().await, (1, PRICE, 0));
    bed.assert_money(PRICE, 0).await;
}

/// The request never came to the bank: it is sent again under the same key.
#[tokio::test]
async fn a_time_out_before_the_charge_is_charged_later() {
    let bed = Bed::new().await;
    bed.faults(json!({"timeout_before": 1.0})).await;
    assert_eq!(bed.pay("key", by_card()).await, PaymentAnswer::Processing);
    assert_eq!(bed.bank_totals().await, (0, 0, 0));
    bed.faults(json!({})).await;
    bed.looked_after().await;
    assert!(matches!(bed.pay("key", by_card()).await, PaymentAnswer::Paid { .. }));
    assert_eq!(bed.bank_totals().await, (1, PRICE, 0));
}

/// The order ran out of time while the bank was silent: its units are on sale again, and the money goes back by itself.
#[tokio::test]
async fn money_that_comes_after_the_order_was_cancelled_goes_back() {
    let bed = Bed::new().await;
    bed.faults(json!({"timeout_after": 1.0})).await;
    assert_eq!(bed.pay("key", by_card()).await, PaymentAnswer::Processing);
    assert_eq!(bed.service.cancel(bed.order).await.unwrap(), Changed::Done);
    bed.faults(json!({})).await;
    bed.looked_after().await;
    assert!(matches!(bed.pay("key", by_card()).await, PaymentAnswer::TooLate { .. }));
    assert_eq!(bed.status().await, OrderStatus::Refunding);
    // Not even the strictest rule holds it.
    bed.run_refunds(refund::Rules { hold_above_cents: 0 }).await;
    assert_eq!(bed.status().await, OrderStatus::Refunded);
    assert_eq!(bed.bank_totals().await, (1, PRICE, PRICE));
    bed.assert_money(PRICE, PRICE).await;
    let sale = bed.backend.ledger.sale(bed.sale).await.unwrap().unwrap();
    assert_eq!((sale.sold, sale.ended.orders), (0, 1), "its units came back once");
}

/// All three ways at once, with a bank that loses answers and events that come three times.
#[tokio::test]
async fn money_goes_back_the_ways_it_came_and_once() {
    let bed = Bed::new().await;
    bed.gifts(2_000, 500).await;
    assert!(matches!(bed.pay("key", three_ways()).await, PaymentAnswer::Paid { .. }));
    for _ in 0..3 {
        assert_eq!(bed.service.request_refund(bed.order, "it is blue").await.unwrap(), Changed::Done);
    }
    bed.faults(json!({"timeout_after": 1.0})).await;
    bed.run_refunds(refund::Rules::default()).await;
    assert_eq!(bed.status().await, OrderStatus::Refunded);
    assert_eq!(bed.bank_totals().await, (1, PRICE - 2_500, PRICE - 2_500));
    assert_eq!(bed.backend.lifecycle.balance(USER).await.unwrap(), 2_000);
    let mut transaction = bed.backend.lifecycle.begin().await.unwrap();
    assert_eq!(transaction.use_coupon("SPRING", OrderId::generate()).await.unwrap(), Some(500));
    drop(transaction);
    bed.assert_money(PRICE, PRICE).await;
    let told = told(&bed.backend).await;
    let times = |kind| told.iter().filter(|told| **told == kind).count();
    assert_eq!(
        ["refund.requested", "refund.approved", "refund.transferred", "refund.succeeded"].map(times),
        [1, 1, 3, 1]
    );
}

#[tokio::test]
async fn a_large_refund_waits_for_a_human() {
    let bed = Bed::new().await;
    assert!(matches!(bed.pay("key", by_card()).await, PaymentAnswer::Paid { .. }));
    let rules = refund::Rules { hold_above_cents: PRICE - 1 };
    assert_eq!(bed.service.request_refund(bed.order, "it is blue").await.unwrap(), Changed::Done);
    bed.run_refunds(rules).await;
    assert_eq!(bed.status().await, OrderStatus::RefundHeld);
    let open = bed.backend.lifecycle.open_refunds(8).await.unwrap();
    let held_for = (open.now - open.oldest_held.unwrap()).num_seconds();
    assert_eq!((open.held, (0..60).contains(&held_for)), (1, true), "{open:?}");
    assert_eq!(bed.bank_totals().await, (1, PRICE, 0));
    assert_eq!(bed.service.decide_refund(bed.order, false, "no reason").await.unwrap(), Changed::Done);
    bed.run_refunds(rules).await;
    assert_eq!(bed.status().await, OrderStatus::Paid);
    // The buyer asks again, and this time somebody agrees.
    assert_eq!(bed.service.request_refund(bed.order, "it is broken").await.unwrap(), Changed::Done);
    bed.run_refunds(rules).await;
    assert_eq!(bed.service.decide_refund(bed.order, true, "it is").await.unwrap(), Changed::Done);
    let open = bed.backend.lifecycle.open_refunds(8).await.unwrap();
    assert_eq!((open.running, open.held, open.oldest_held), (1, 0, None));
    let again = bed.service.decide_refund(bed.order, false, "too late").await.unwrap();
    assert_eq!(again, Changed::NotPossible(OrderStatus::Refunding));
    bed.run_refunds(rules).await;
    assert_eq!(bed.status().await, OrderStatus::Refunded);
    assert_eq!(bed.bank_totals().await, (1, PRICE, PRICE));
    bed.assert_money(PRICE, PRICE).await;
}
