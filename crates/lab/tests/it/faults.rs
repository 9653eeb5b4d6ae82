//! The faults of what comes after the order: each does what it says, ends by itself, and leaves nothing behind.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use reqwest::Method;
use seckill_core::{Charge, Dependency, Fault, OrderId, OrderService, PaymentAnswer, Subscription, UserId};
use seckill_lifecycle::refund;
use seckill_testkit::{eventually, fixtures};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::demonstration::{Demonstration, SOON};

const AFTER_THE_ORDER: [&str; 5] =
    ["slow_bank", "bank_timeouts", "relay_killed", "subscriber_away", "doubled_events"];

#[tokio::test]
async fn each_fault_is_offered_within_bounds_and_ends_when_asked_or_by_itself() {
    let demonstration = Demonstration::new(true).await;
    let (status, shown) = demonstration.ask(Method::GET, "", Value::Null).await;
    assert_eq!(status, 200);
    let offered = shown["faults"].as_array().unwrap().iter();
    let offered: HashMap<_, _> = offered.map(|fault| (fault["name"].as_str().unwrap(), fault)).collect();
    assert_eq!(offered["slow_commits"]["group"], "order");
    for name in AFTER_THE_ORDER {
        let (fault, path) = (offered[name], format!("/faults/{name}"));
        assert_eq!(
            (&fault["group"], &fault["available"]),
            (&json!("after_the_order"), &json!(true)),
            "{fault}"
        );
        let too_much = fault["max"].as_u64().unwrap() + 1;
        for (wrong, field) in [(json!({"amount": too_much}), "amount"), (json!({"seconds": 301}), "seconds")]
        {
            let (status, refused) = demonstration.ask(Method::PUT, &path, wrong).await;
            assert_eq!((status.as_u16(), &refused["errors"][0]["field"]), (422, &json!(field)), "{refused}");
        }
        let (status, settings) = demonstration.ask(Method::PUT, &path, json!({})).await;
        assert_eq!(
            (status.as_u16(), &settings["faults"][name]["amount"]),
            (200, &fault["default"]),
            "{settings}"
        );
        demonstration.reported(name, true).await;
        let (status, settings) = demonstration.ask(Method::DELETE, &path, Value::Null).await;
        assert_eq!((status.as_u16(), &settings["faults"][name]), (200, &Value::Null), "{settings}");
        demonstration.reported(name, false).await;
        demonstration.begin(name, json!({"seconds": 1})).await;
        demonstration.reported(name, false).await;
    }
}

#[tokio::test]
async fn a_gateway_without_a_bank_has_no_faults_of_the_bank() {
    let demonstration = Demonstration::new(false).await;
    let (_, shown) = demonstration.ask(Method::GET, "", Value::Null).await;
    for fault in shown["faults"].as_array().unwrap() {
        let of_the_bank = ["slow_bank", "bank_timeouts"].contains(&fault["name"].as_str().unwrap());
        assert_eq!(fault["available"], !of_the_bank, "{fault}");
    }
    let (status, refused) = demonstration.ask(Method::PUT, "/faults/slow_bank", json!({})).await;
    assert_eq!((status.as_u16(), &refused["type"]), (409, &json!("/problems/no-bank")), "{refused}");
}

#[tokio::test]
async fn every_call_to_a_slow_bank_takes_longer() {
    let demonstration = Demonstration::new(true).await;
    demonstration.begin("slow_bank", json!({"amount": 400, "seconds": 60})).await;
    let order = demonstration.orders(1..2).await[0];
    let began = Instant::now();
    assert!(matches!(demonstration.pay(order, 1).await, PaymentAnswer::Paid { .. }));
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    let began = Instant::now();
    assert_eq!(demonstration.bank.charge_state(Uuid::now_v7()).await.unwrap(), None);
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_charge_whose_answer_is_lost_is_made_once_and_so_is_its_refund() {
    let demonstration = Demonstration::new(true).await;
    demonstration.begin("bank_timeouts", json!({"amount": 100, "seconds": 60})).await;
    let order = demonstration.orders(1..2).await[0];
    assert_eq!(demonstration.pay(order, 1).await, PaymentAnswer::Processing);
    assert_eq!(demonstration.bank_totals().await["charges"], 1);
    // The bank is asked what became of it, also while its answers to new requests are lost.
    demonstration.service.look_up_payment(order).await.unwrap();
    assert!(matches!(demonstration.pay(order, 1).await, PaymentAnswer::Paid { .. }));

    demonstration.service.request_refund(order, "too large").await.unwrap();
    let (backend, event) = (&demonstration.faulty, Uuid::now_v7());
    assert!(refund::assess(backend, refund::Rules::default(), "risk-control", event, order).await.unwrap());
    let lost = refund::transfer(backend, Some(&demonstration.bank), order).await.unwrap_err();
    assert!(matches!(lost, Fault::Unknown { dependency: Dependency::Bank, .. }), "{lost}");
    assert!(refund::transfer(backend, Some(&demonstration.bank), order).await.unwrap());
    assert!(refund::finish(backend, "refund-end", Uuid::now_v7(), order).await.unwrap());
    let done = json!({"charges": 1, "charged_cents": 12_345, "refunds": 1, "refunded_cents": 12_345});
    assert_eq!(demonstration.bank_totals().await, done);
    assert_money_is_right(&demonstration).await;
}

#[tokio::test]
async fn the_same_key_is_charged_once_however_many_answers_are_lost() {
    let demonstration = Demonstration::new(true).await;
    demonstration.begin("bank_timeouts", json!({"amount": 100, "seconds": 60})).await;
    let charge = Charge {
        key: Uuid::now_v7(),
        order_id: OrderId::generate(),
        amount_cents: 100,
        currency: "USD".to_owned(),
        card: "tok_1".to_owned(),
    };
    for _ in 0..3 {
        let lost = demonstration.bank.charge(&charge).await.unwrap_err();
        assert!(lost.may_have_happened(), "{lost}");
    }
    demonstration.end("bank_timeouts").await;
    demonstration.bank.charge(&charge).await.unwrap();
    assert_eq!(demonstration.bank_totals().await["charges"], 1);
}

#[tokio::test]
async fn events_that_are_doubled_have_one_effect() {
    let demonstration = Demonstration::new(true).await;
    let mut probe = probe(&demonstration).await;
    demonstration.begin("doubled_events", json!({"amount": 100, "seconds": 60})).await;
    demonstration.start_events();
    let orders = pay_all(&demonstration, 1..6).await;
    let seen =
        seen_until(&mut *probe, |seen| seen.len() == 5 && seen.values().all(|times| *times == 2)).await;
    assert_eq!(seen.values().sum::<u64>(), 10, "{seen:?}");
    assert_one_effect_each(&demonstration, &orders).await;
}

#[tokio::test]
async fn a_relay_that_was_killed_publishes_again_and_nothing_happens_twice() {
    let demonstration = Demonstration::new(true).await;
    let mut probe = probe(&demonstration).await;
    demonstration.begin("relay_killed", json!({"seconds": 300})).await;
    demonstration.start_events();
    let orders = pay_all(&demonstration, 1..6).await;
    // It dies with its first events, which are on the bus, and the outbox does not know that.
    let first = seen_until(&mut *probe, |seen| !seen.is_empty()).await;
    assert!(demonstration.backend.outbox.depth().await.unwrap().pending > 0);
    let (status, settings) = demonstration.ask(Method::DELETE, "/faults/relay_killed", Value::Null).await;
    assert_eq!(status, 200, "{settings}");
    demonstration.reported("relay_killed", false).await;
    eventually(SOON, async || match demonstration.backend.outbox.depth().await.unwrap().pending {
        0 => Ok(()),
        pending => Err(pending),
    })
    .await;
    // What was on the bus already comes once more.
    seen_until(&mut *probe, |seen| first.keys().all(|event| seen.contains_key(event))).await;
    assert_one_effect_each(&demonstration, &orders).await;
}

#[tokio::test]
async fn what_waits_for_a_subscriber_that_is_away_grows_and_shrinks() {
    let demonstration = Demonstration::new(true).await;
    demonstration.start_events();
    let mut orders = pay_all(&demonstration, 1..3).await;
    assert_one_effect_each(&demonstration, &orders).await;
    demonstration.begin("subscriber_away", json!({"seconds": 300})).await;
    orders.extend(pay_all(&demonstration, 3..9).await);
    for (name, wanted) in [("notifications", 6), ("loyalty", 0)] {
        eventually(SOON, async || match demonstration.waiting(name).await {
            waiting if waiting == wanted => Ok(()),
            waiting => Err((name, waiting)),
        })
        .await;
    }
    // Another subscriber has taken all of it in meanwhile.
    for user in 3..9 {
        eventually(SOON, async || {
            match demonstration.backend.lifecycle.points(UserId(user)).await.unwrap() {
                123 => Ok(()),
                points => Err(points),
            }
        })
        .await;
    }
    assert_eq!(demonstration.waiting("notifications").await, 6);
    demonstration.end("subscriber_away").await;
    assert_one_effect_each(&demonstration, &orders).await;
}

/// A subscriber of its own, which sees what is on the bus.
async fn probe(demonstration: &Demonstration) -> Box<dyn Subscription> {
    let (name, paid) = ("probe".parse().unwrap(), "order.paid".parse().unwrap());
    demonstration.backend.events.subscribe(&name, &[paid], 100).await.unwrap()
}

/// How often each event has come, once that is as `enough` wants it.
async fn seen_until(
    probe: &mut dyn Subscription,
    enough: impl Fn(&HashMap<Uuid, u64>) -> bool,
) -> HashMap<Uuid, u64> {
    let mut seen = HashMap::new();
    let taking = async {
        while !enough(&seen) {
            let delivery = probe.next().await.unwrap();
            *seen.entry(delivery.message.id).or_default() += 1;
            probe.ack(delivery.tag).await.unwrap();
        }
    };
    let in_time = tokio::time::timeout(SOON, taking).await;
    assert!(in_time.is_ok(), "{seen:?}");
    seen
}

/// The orders of these users, paid.
async fn pay_all(demonstration: &Demonstration, users: std::ops::Range<u64>) -> Vec<(OrderId, UserId)> {
    let orders = demonstration.orders(users.clone()).await;
    let mut paid = Vec::new();
    for (order, user) in orders.into_iter().zip(users) {
        assert!(matches!(demonstration.pay(order, user).await, PaymentAnswer::Paid { .. }));
        paid.push((order, UserId(user)));
    }
    paid
}

/// Every event is taken in, and each buyer has the points and the notice of one payment.
async fn assert_one_effect_each(demonstration: &Demonstration, orders: &[(OrderId, UserId)]) {
    let lifecycle = &demonstration.backend.lifecycle;
    for (order, user) in orders {
        eventually(SOON, async || match lifecycle.notices(*order).await.unwrap().len() {
            0 => Err("no notice"),
            _ => Ok(()),
        })
        .await;
        eventually(SOON, async || match lifecycle.points(*user).await.unwrap() {
            0 => Err("no points"),
            _ => Ok(()),
        })
        .await;
    }
    demonstration.wait_until_none_waits("notifications").await;
    demonstration.wait_until_none_waits("loyalty").await;
    for (order, user) in orders {
        assert_eq!(lifecycle.notices(*order).await.unwrap().len(), 1);
        assert_eq!(lifecycle.points(*user).await.unwrap(), 123);
    }
    assert_money_is_right(demonstration).await;
}

async fn assert_money_is_right(demonstration: &Demonstration) {
    let audit = fixtures::audit(&demonstration.backend, demonstration.sale).await;
    assert_eq!(audit.money.unwrap().findings(), Vec::<String>::new());
    assert!(!audit.verdict.is_bad(), "{audit:?}");
}
