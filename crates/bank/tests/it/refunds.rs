//! Refunds: never more than the charge.

use futures_util::future::join_all;
use reqwest::StatusCode;
use seckill_core::{Bank, BankAnswer};
use serde_json::json;
use uuid::Uuid;

use crate::setup::{TestBank, charge, give_back, status_and_json};

fn reason(answer: &BankAnswer) -> &str {
    match answer {
        BankAnswer::Declined { reason } => reason,
        BankAnswer::Succeeded => panic!("it succeeded"),
    }
}

#[tokio::test]
async fn refunds_end_at_the_amount_of_the_charge() {
    let (server, charge) = (TestBank::in_memory().await, charge(1_000, "tok_1"));
    let bank = server.client();
    assert_eq!(bank.charge(&charge).await.unwrap(), BankAnswer::Succeeded);
    assert_eq!(bank.give_back(&give_back(&charge, 400)).await.unwrap(), BankAnswer::Succeeded);
    let too_much = give_back(&charge, 601);
    let declined = bank.give_back(&too_much).await.unwrap();
    assert!(reason(&declined).contains("600 cents left"), "{declined:?}");
    assert_eq!(bank.give_back(&give_back(&charge, 600)).await.unwrap(), BankAnswer::Succeeded);
    let declined_too = bank.give_back(&give_back(&charge, 1)).await.unwrap();
    assert!(reason(&declined_too).contains("0 cents left"), "{declined_too:?}");
    assert_eq!(bank.give_back_state(too_much.key).await.unwrap(), Some(declined));
    assert_eq!(server.totals().await, [1, 1_000, 2, 1_000]);
    assert!(server.text("/v1/charges.csv").await.ends_with(",1000,succeeded,1000\n"));
}

#[tokio::test]
async fn refunds_at_once_share_what_is_left() {
    let (server, charge) = (TestBank::in_memory().await, charge(1_000, "tok_1"));
    let bank = server.client();
    bank.charge(&charge).await.unwrap();
    let refunds: Vec<_> = (0..20).map(|_| give_back(&charge, 300)).collect();
    let answers = join_all(refunds.iter().map(|refund| bank.give_back(refund))).await;
    let given = answers.iter().filter(|answer| *answer.as_ref().unwrap() == BankAnswer::Succeeded).count();
    assert_eq!(given, 3);
    assert_eq!(server.totals().await, [1, 1_000, 3, 900]);
}

#[tokio::test]
async fn a_refund_is_given_once_a_key() {
    let (server, charge) = (TestBank::in_memory().await, charge(1_000, "tok_1"));
    server.client().charge(&charge).await.unwrap();
    let (key, wanted) = (Uuid::now_v7(), json!({ "charge": charge.key, "amount_cents": 300 }));
    let (status, first) = status_and_json(server.post("/v1/refunds", key, &wanted).await).await;
    assert_eq!(status, StatusCode::CREATED);
    let (status, second) = status_and_json(server.post("/v1/refunds", key, &wanted).await).await;
    assert_eq!((status, &second), (StatusCode::OK, &first));
    assert_eq!(server.get(&format!("/v1/refunds/{key}")).await, (StatusCode::OK, first));
    let other = json!({ "charge": charge.key, "amount_cents": 301 });
    assert_eq!(server.post("/v1/refunds", key, &other).await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(server.totals().await, [1, 1_000, 1, 300]);
}

#[tokio::test]
async fn what_was_never_charged_is_not_given_back() {
    let server = TestBank::in_memory().await;
    let bank = server.client();
    let (unknown, declined) = (charge(1_000, "tok_1"), charge(1_000, "tok_declined"));
    bank.charge(&declined).await.unwrap();
    let answer = bank.give_back(&give_back(&unknown, 1)).await.unwrap();
    assert!(reason(&answer).contains("There is no charge"), "{answer:?}");
    let answer = bank.give_back(&give_back(&declined, 1)).await.unwrap();
    assert!(reason(&answer).contains("0 cents left"), "{answer:?}");
    assert_eq!(server.totals().await, [0, 0, 0, 0]);
}
