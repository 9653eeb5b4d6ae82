//! What comes after the order on the page: its faults and the refunds that run.

use reqwest::{Client, Method};
use seckill_client::{PaymentBody, PaymentStatus};
use seckill_core::{OrderId, OrderStatus, Verdict};
use serde_json::{Value, json};
use uuid::Uuid;

use super::demonstration::{Demonstration, Frame, On};
use super::page::{assert_quiet, click, fill, number, open};
use crate::process::{SOON, accepted};

/// Refunds of more than this, in hundredths, are held for a person.
const HELD_ABOVE: u64 = 100_000;

/// A shop on the gateway of a demonstration.
struct Shop<'a> {
    demonstration: &'a Demonstration,
    http: Client,
}

impl Shop<'_> {
    fn new(demonstration: &Demonstration) -> Shop<'_> {
        Shop { demonstration, http: Client::new() }
    }

    /// Opens a sale whose orders are to be paid.
    async fn sale(&self, price_cents: u64) -> u64 {
        let sale = json!({
            "name": "paid", "stock": 100, "price_cents": price_cents, "payment_window_ms": 3_600_000,
            "ends_at": "2999-01-01T00:00:00Z",
        });
        let sale = serde_json::from_value(sale).unwrap();
        self.demonstration.gateway.admin().create_sale_once(&sale, None).await.unwrap().value.sale.id.0
    }

    /// An order that is in the ledger.
    async fn order(&self, sale: u64, user: u64) -> OrderId {
        let gateway = &self.demonstration.gateway;
        let order = accepted(gateway.order(sale, user).await);
        let buyer = gateway.buyer(user);
        seckill_testkit::eventually(SOON, async || match buyer.order_status(order).await {
            Ok(shown) if shown.status == OrderStatus::Committed => Ok(()),
            other => Err(other),
        })
        .await;
        order
    }

    /// Pays by card; true: the bank has said so already.
    async fn pay(&self, order: OrderId, user: u64) -> bool {
        let payment = PaymentBody { card: Some("tok_1".to_owned()), ..PaymentBody::default() };
        let key = Uuid::now_v7().to_string();
        let paid = self.demonstration.gateway.buyer(user).pay(order, &payment, &key).await.unwrap();
        paid.status == PaymentStatus::Paid
    }

    async fn refund(&self, order: OrderId, user: u64) {
        self.demonstration.gateway.buyer(user).refund(order, "a secret of the buyer").await.unwrap();
    }

    async fn bank_totals(&self) -> Value {
        let bank = self.demonstration.bank.as_ref().unwrap().url();
        self.http.get(format!("{bank}/v1/totals")).send().await.unwrap().json().await.unwrap()
    }
}

/// What waits for a built-in subscriber.
fn waiting(frame: &Frame, name: &str) -> u64 {
    let subscribers = frame.data["after"]["subscribers"].as_array().into_iter().flatten();
    let waiting = subscribers.filter(|subscriber| subscriber["name"] == name);
    waiting.filter_map(|subscriber| subscriber["waiting_events"].as_u64()).sum()
}

async fn switch_on(demonstration: &Demonstration, faults: &[(&str, Value)]) {
    for (fault, body) in faults {
        let (status, answer) = demonstration.ask(Method::PUT, &format!("/faults/{fault}"), body).await;
        assert_eq!(status, 200, "{answer}");
    }
    let all_injected = |frame: &Frame| {
        frame.processes().iter().all(|process| {
            let injected = process["faults"].as_array().unwrap();
            faults.iter().all(|(fault, _)| injected.contains(&json!(fault)))
        })
    };
    demonstration.frame(all_injected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_faults_after_the_order_show_and_break_no_promise() {
    for on in [On::Embedded, On::Cluster] {
        let demonstration = Demonstration::with_bank(on).await;
        let shop = Shop::new(&demonstration);
        demonstration.frame(|frame| !frame.drain_rates().is_empty()).await;
        let sale = shop.sale(999).await;
        let faults = [
            ("slow_bank", json!({"amount": 100, "seconds": 300})),
            ("bank_timeouts", json!({"amount": 50, "seconds": 300})),
            ("doubled_events", json!({"amount": 100, "seconds": 300})),
            ("subscriber_away", json!({"seconds": 300})),
        ];
        switch_on(&demonstration, &faults).await;
        let mut paid_at_once = 0;
        for user in 1..=12 {
            let order = shop.order(sale, user).await;
            paid_at_once += u64::from(shop.pay(order, user).await);
        }
        assert!(paid_at_once < 12, "no answer was lost");
        // Those whose answer was lost are paid once the bank was asked, also while the faults last.
        demonstration.frame(|frame| frame.data["totals"]["paid"] == 12).await;
        let lag = demonstration.frame(|frame| waiting(frame, "notifications") >= 24).await;
        assert_eq!(lag.data["settings"]["faults"]["subscriber_away"]["amount"], 1);
        demonstration.frame(|frame| waiting(frame, "loyalty") == 0).await;
        demonstration.frame(|frame| frame.data["totals"]["repeated_events"].as_u64() >= Some(12)).await;
        for (fault, _) in &faults {
            demonstration.ask(Method::DELETE, &format!("/faults/{fault}"), &Value::Null).await;
        }
        demonstration.frame(|frame| waiting(frame, "notifications") == 0).await;

        switch_on(&demonstration, &[("relay_killed", json!({"seconds": 5}))]).await;
        for user in 13..=15 {
            let order = shop.order(sale, user).await;
            assert!(shop.pay(order, user).await);
        }
        let pending = |frame: &Frame| frame.data["after"]["outbox_pending"].as_u64();
        demonstration.frame(|frame| pending(frame) > Some(0)).await;
        let ended = |frame: &Frame| frame.data["settings"]["faults"]["relay_killed"].is_null();
        demonstration.frame(|frame| ended(frame) && pending(frame) == Some(0)).await;
        demonstration.frame(|frame| waiting(frame, "notifications") == 0).await;

        let done = json!({"charges": 15, "charged_cents": 15 * 999, "refunds": 0, "refunded_cents": 0});
        assert_eq!(shop.bank_totals().await, done);
        let audit = demonstration.gateway.audit_at_rest(sale).await;
        assert_eq!(audit.verdict, Verdict::Clean, "{audit:?}");
        assert_eq!(audit.money.unwrap().findings(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_a_bank_leaves_the_faults_of_the_bank_out() {
    let demonstration = Demonstration::new(On::Embedded).await;
    let (status, refused) = demonstration.ask(Method::PUT, "/faults/slow_bank", &json!({})).await;
    assert_eq!((status, &refused["type"]), (409, &json!("/problems/no-bank")), "{refused}");
    let browser = open(&demonstration).await;
    browser
        .wait_for("document.querySelector('[data-group=after_the_order] [data-fault=relay_killed]')")
        .await;
    for (fault, there) in [("slow_bank", false), ("bank_timeouts", false), ("slow_commits", true)] {
        let found = browser.get(&format!("!!document.querySelector('[data-fault={fault}]')")).await;
        assert_eq!(found, json!(there), "{fault}");
    }
    assert_eq!(browser.get("document.getElementById('no-bank').hidden").await, false);
    assert_quiet(&browser, &demonstration).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_shows_the_steps_of_refunds_and_has_the_faults_in_a_group() {
    for on in [On::Embedded, On::Cluster] {
        let demonstration = Demonstration::with_bank(on).await;
        let shop = Shop::new(&demonstration);
        let browser = open(&demonstration).await;
        assert_eq!(browser.get("document.getElementById('refunds').hidden").await, true);
        let (dear, cheap) = (shop.sale(2 * HELD_ABOVE).await, shop.sale(999).await);
        let (held, running) = (shop.order(dear, 1).await, shop.order(cheap, 2).await);
        assert!(shop.pay(held, 1).await && shop.pay(running, 2).await);

        // Switched on by hand, after which the group is open.
        assert_eq!(browser.get("document.getElementById('faults-after').open").await, false);
        fill(&browser, "fault-slow_bank-amount", "5000").await;
        click(&browser, "fault-slow_bank").await;
        browser.wait_for("document.getElementById('faults-after').open").await;
        demonstration
            .frame(|frame| frame.processes().iter().all(|one| one["faults"] == json!(["slow_bank"])))
            .await;
        shop.refund(held, 1).await;
        shop.refund(running, 2).await;
        let step = |order: OrderId, step: &str| {
            format!("document.querySelector('[data-order=\"{order}\"]')?.dataset.step === {step:?}")
        };
        browser.wait_for(&step(running, "transfers")).await;
        browser.wait_for(&step(held, "held")).await;
        let shown = browser.get("document.getElementById('refunds').innerText").await;
        for part in ["risk control", "transfers 0/1", "9.99", "2,000.00", "held for a person"] {
            assert!(shown.as_str().unwrap().contains(part), "{part:?} is missing in {shown}");
        }
        browser.assert_accessible("with refunds under way").await;
        let frame = demonstration.frame(|frame| frame.data["refunds"]["held"] == 1).await;
        let text = frame.data["refunds"].to_string();
        assert!(!text.contains("user") && !text.contains("secret"), "{text}");

        fill(&browser, "language", "zh").await;
        browser.wait_for("document.getElementById('refunds').innerText.includes('风控')").await;
        browser.resize(360, 740).await;
        let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        browser.wait_for(&format!("{overflow} === 0")).await;

        click(&browser, "fault-slow_bank").await;
        browser.wait_for(&format!("{} === 1", number("[data-step=refunded] b"))).await;
        demonstration.gateway.admin().deny_refund(held, "").await.unwrap();
        browser.wait_for("document.querySelectorAll('#refunds [data-order]').length === 0").await;
        demonstration.frame(|frame| frame.data["totals"]["refunds_denied"] == 1).await;
        assert_quiet(&browser, &demonstration).await;
    }
}
