//! Faults on purpose, and how a caller finds out what has happened.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use seckill_bank::server::Faults;
use seckill_core::{Bank, BankAnswer, Fault};
use seckill_testkit::eventually;
use serde_json::json;

use crate::setup::{DEADLINE, TestBank, body, charge, give_back};

fn assert_unknown<T: std::fmt::Debug>(ended: &Result<T, Fault>) {
    assert!(matches!(ended, Err(Fault::Unknown { .. })), "{ended:?}");
}

#[tokio::test]
async fn a_time_out_after_the_effect_is_found_by_a_query() {
    let bank = TestBank::with_faults(Faults { timeout_after: 1.0, ..Faults::default() }).await;
    let (client, patient) = (bank.impatient(), bank.client());
    let charge = charge(500, "tok_1");
    assert_unknown(&client.charge(&charge).await);
    let found = eventually(DEADLINE, async || match patient.charge_state(charge.key).await {
        Ok(Some(answer)) => Ok(answer),
        other => Err(other),
    });
    assert_eq!(found.await, BankAnswer::Succeeded);
    let refund = give_back(&charge, 500);
    assert_unknown(&client.give_back(&refund).await);
    let found = eventually(DEADLINE, async || match patient.give_back_state(refund.key).await {
        Ok(Some(answer)) => Ok(answer),
        other => Err(other),
    });
    assert_eq!(found.await, BankAnswer::Succeeded);
    assert_eq!(bank.totals().await, [1, 500, 1, 500]);
    bank.stop().await.unwrap();
}

#[tokio::test]
async fn a_time_out_before_the_effect_leaves_nothing_behind() {
    let bank = TestBank::with_faults(Faults { timeout_before: 1.0, ..Faults::default() }).await;
    let charge = charge(500, "tok_1");
    assert_unknown(&bank.impatient().charge(&charge).await);
    assert_eq!(bank.client().charge_state(charge.key).await.unwrap(), None);
    let refund = give_back(&charge, 500);
    assert_unknown(&bank.impatient().give_back(&refund).await);
    assert_eq!(bank.client().give_back_state(refund.key).await.unwrap(), None);
    assert_eq!(bank.totals().await, [0, 0, 0, 0]);
    // The same key again, on a better day.
    assert_eq!(bank.set_faults(json!({})).await, StatusCode::OK);
    assert_eq!(bank.client().charge(&charge).await.unwrap(), BankAnswer::Succeeded);
    bank.stop().await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_not_answered_ends_with_its_connection() {
    let faults = Faults { timeout_before: 1.0, ..Faults::default() };
    let hold = Duration::from_millis(50);
    let config = seckill_bank::server::Config { faults, hold, ..Default::default() };
    let bank = TestBank::start(config).await;
    let charge = charge(500, "tok_1");
    let request = bank.http.post(bank.at("/v1/charges")).header("Idempotency-Key", charge.key.to_string());
    let error = request.json(&body(&charge)).send().await.unwrap_err();
    assert!(!error.is_timeout() && error.is_request(), "{error:?}");
}

#[tokio::test]
async fn an_error_has_no_effect() {
    let bank = TestBank::with_faults(Faults { errors: 1.0, ..Faults::default() }).await;
    let charge = charge(500, "tok_1");
    let answered = bank.client().charge(&charge).await;
    assert_unknown(&answered);
    assert_eq!(bank.client().charge_state(charge.key).await.unwrap(), None);
}

#[tokio::test]
async fn faults_are_read_and_changed_while_it_runs() {
    let bank = TestBank::in_memory().await;
    let (_, none) = bank.get("/v1/faults").await;
    assert_eq!(none["timeout_before"], 0.0);
    assert_eq!(bank.set_faults(json!({ "slow_ms": 150, "seed": 7 })).await, StatusCode::OK);
    let (_, set) = bank.get("/v1/faults").await;
    assert_eq!((&set["slow_ms"], &set["seed"], &set["errors"]), (&json!(150), &json!(7), &json!(0.0)));
    let begin = Instant::now();
    bank.client().charge(&charge(1, "tok_1")).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(150));
    for wrong in [json!({ "errors": 2 }), json!({ "timeout_befor": 0.1 }), json!({ "slow_ms": -1 })] {
        assert_eq!(bank.set_faults(wrong.clone()).await, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
    }
    let (_, kept) = bank.get("/v1/faults").await;
    assert_eq!(kept, set);
}

#[tokio::test]
async fn the_same_seed_meets_the_same_faults() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let bank = TestBank::with_faults(Faults { errors: 0.5, seed: 11, ..Faults::default() }).await;
        let mut met = Vec::new();
        for _ in 0..30 {
            let charge = charge(1, "tok_1");
            met.push(bank.post("/v1/charges", charge.key, &body(&charge)).await.status());
        }
        assert!(met.contains(&StatusCode::CREATED) && met.contains(&StatusCode::INTERNAL_SERVER_ERROR));
        runs.push(met);
    }
    assert_eq!(runs[0], runs[1]);
}
