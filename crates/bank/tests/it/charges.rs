//! Charges: one key, one effect.

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::json;
use uuid::Uuid;

use crate::setup::{TestBank, body, charge, status_and_json};

#[tokio::test]
async fn the_same_key_gets_the_same_answer_and_moves_money_once() {
    let bank = TestBank::in_memory().await;
    let charge = charge(1_250, "tok_1");
    let (status, first) = status_and_json(bank.post("/v1/charges", charge.key, &body(&charge)).await).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(first["status"], "succeeded");
    assert_eq!(first["key"], json!(charge.key));
    assert_eq!(first["order_id"], json!(charge.order_id));
    assert_eq!(first["amount_cents"], 1_250);
    assert_eq!(first["currency"], "EUR");
    assert!(first["created_at"].is_string(), "{first}");
    assert_eq!(first.get("card"), None);
    let (status, second) = status_and_json(bank.post("/v1/charges", charge.key, &body(&charge)).await).await;
    assert_eq!((status, &second), (StatusCode::OK, &first));
    let (status, state) = bank.get(&format!("/v1/charges/{}", charge.key)).await;
    assert_eq!((status, &state), (StatusCode::OK, &first));
    let (_, of_order) = bank.get(&format!("/v1/charges?order_id={}", charge.order_id)).await;
    assert_eq!(of_order, json!([first]));
    assert_eq!(bank.totals().await, [1, 1_250, 0, 0]);
    let csv = format!(
        "key,order_id,amount_cents,status,refunded_cents\n{},{},1250,succeeded,0\n",
        charge.key, charge.order_id
    );
    assert_eq!(bank.text("/v1/charges.csv").await, csv);
}

#[tokio::test]
async fn the_same_key_with_another_body_is_refused() {
    let bank = TestBank::in_memory().await;
    let charge = charge(1_250, "tok_1");
    bank.post("/v1/charges", charge.key, &body(&charge)).await;
    for (field, other) in [
        ("order_id", json!(Uuid::now_v7())),
        ("amount_cents", json!(1_251)),
        ("currency", json!("USD")),
        ("card", json!("tok_2")),
    ] {
        let mut changed = body(&charge);
        changed[field] = other;
        let response = bank.post("/v1/charges", charge.key, &changed).await;
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let (status, problem) = status_and_json(response).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{field}");
        assert_eq!(problem["type"], "/problems/key-reused", "{field}");
    }
    assert_eq!(bank.totals().await, [1, 1_250, 0, 0]);
}

#[tokio::test]
async fn fifty_requests_at_once_with_one_key_are_one_charge() {
    let folder = tempfile::tempdir().unwrap();
    let bank = TestBank::in_folder(folder.path()).await;
    let charge = charge(700, "tok_1");
    let body = body(&charge);
    let answers = join_all((0..50).map(|_| bank.post("/v1/charges", charge.key, &body))).await;
    let created = answers.iter().filter(|answer| answer.status() == StatusCode::CREATED).count();
    let known = answers.iter().filter(|answer| answer.status() == StatusCode::OK).count();
    assert_eq!((created, known), (1, 49));
    assert_eq!(bank.totals().await, [1, 700, 0, 0]);
}

#[tokio::test]
async fn a_declined_card_is_declined_for_good() {
    let bank = TestBank::in_memory().await;
    let charge = charge(1_250, "tok_declined");
    for expected in [StatusCode::CREATED, StatusCode::OK] {
        let (status, answer) =
            status_and_json(bank.post("/v1/charges", charge.key, &body(&charge)).await).await;
        assert_eq!(status, expected);
        assert_eq!(answer["status"], "declined");
        assert_eq!(answer["reason"], "The card was declined.");
    }
    assert_eq!(bank.totals().await, [0, 0, 0, 0]);
    assert!(bank.text("/v1/charges.csv").await.ends_with(",1250,declined,0\n"));
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_what_is_allowed() {
    let bank = TestBank::in_memory().await;
    let good = charge(1, "tok_1");
    for (field, wrong) in [
        ("card", json!("4111111111111111")),
        ("currency", json!("euro")),
        ("amount_cents", json!(u64::MAX)),
        ("amount_cents", json!(-1)),
        ("order_id", json!("7")),
        ("tip", json!(1)),
    ] {
        let mut changed = body(&good);
        changed[field] = wrong;
        let (status, problem) = status_and_json(bank.post("/v1/charges", good.key, &changed).await).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{field}");
        assert!(problem["detail"].as_str().unwrap().contains(field), "{problem}");
    }
    let without_key = bank.http.post(bank.at("/v1/charges")).json(&body(&good)).send().await.unwrap();
    assert_eq!(without_key.status(), StatusCode::BAD_REQUEST);
    let large = "x".repeat(17 * 1024);
    let large = bank.post("/v1/charges", good.key, &json!({ "card": large })).await;
    assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(bank.get("/v1/charges").await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(bank.get("/v1/nothing").await.0, StatusCode::NOT_FOUND);
    assert_eq!(bank.totals().await, [0, 0, 0, 0]);
}
