//! Creating a sale once, with an idempotency key, whatever happens to the first request.

use reqwest::{Method, RequestBuilder};
use seckill_testkit::eventually;
use seckill_testkit::faults::{Call, Mishap};
use serde_json::{Value, json};

use crate::gateway::{ADMIN_TOKEN, Gateway, sale, sale_id, send};
use crate::reply::Reply;
use crate::test_bed::{SOON, TestBed};

fn creating(gateway: &Gateway, key: &str, body: &Value) -> RequestBuilder {
    let create = gateway.request(Method::POST, "/api/v1/sales").bearer_auth(ADMIN_TOKEN);
    create.header("idempotency-key", key).json(body)
}

async fn create(gateway: &Gateway, key: &str, body: &Value) -> Reply {
    send(creating(gateway, key, body)).await
}

#[tokio::test]
async fn the_same_key_gets_the_same_sale_from_every_gateway() {
    let bed = TestBed::new().await;
    let (here, there) = tokio::join!(Gateway::start(&bed.backend), Gateway::start(&bed.backend));
    let body = sale(10, -1, 60);
    let first = create(&here, "key-1", &body).await.expect(201);
    assert_eq!(first.header("idempotent-replayed"), None);
    // The same request, written in another way.
    let same: Value = serde_json::from_str(&serde_json::to_string_pretty(&body).unwrap()).unwrap();
    for (gateway, key) in [(&here, "key-1"), (&there, "\"key-1\"")] {
        let again = create(gateway, key, &same).await.expect(201);
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(again.header("location"), first.header("location"));
        assert_eq!(sale_id(&again), sale_id(&first));
    }
    assert_ne!(sale_id(&create(&here, "key-2", &body).await.expect(201)), sale_id(&first));
    assert_eq!(bed.real.ledger.sales(10).await.unwrap().len(), 2);
    here.buy(sale_id(&first), 7).await.expect(202);
}

#[tokio::test]
async fn a_key_with_another_body_is_refused() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let body = sale(10, -1, 60);
    create(&gateway, "key", &body).await.expect(201);
    let mut other = body.clone();
    other["stock"] = json!(11);
    create(&gateway, "key", &other).await.expect_problem(422, "key-reused");
    assert_eq!(bed.real.ledger.sales(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_that_cannot_be_read_is_refused() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let body = sale(10, -1, 60);
    let long = "k".repeat(256);
    for key in ["", "\"open", "two words", "\"a\";q=1", long.as_str()] {
        let refused = create(&gateway, key, &body).await.expect_problem(400, "malformed");
        assert!(refused.json["detail"].as_str().unwrap().contains("Idempotency-Key"), "{refused:?}");
    }
    let twice = creating(&gateway, "a", &body).header("idempotency-key", "b");
    send(twice).await.expect_problem(400, "malformed");
    assert_eq!(bed.real.ledger.sales(10).await.unwrap(), []);
}

#[tokio::test]
async fn a_key_whose_first_request_is_under_way_has_to_wait() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let body = sale(10, -1, 60);
    bed.faults.always(Call::WriteSale, Mishap::Held);
    let first = tokio::spawn(creating(&gateway, "key", &body).send());
    let second = eventually(SOON, async || {
        if bed.faults.asked(Call::WriteSale) > 0 { Ok(()) } else { Err("the first has not come that far") }
    });
    second.await;
    let refused = create(&gateway, "key", &body).await.expect_problem(409, "request-under-way");
    assert!((1..=2).contains(&refused.retry_after()), "{refused:?}");
    // Somebody who hangs up leaves the request going on.
    first.abort();
    create(&gateway, "key", &body).await.expect_problem(409, "request-under-way");
    bed.faults.heal(Call::WriteSale);
    let again = eventually(SOON, async || {
        let again = create(&gateway, "key", &body).await;
        if again.status == 201 { Ok(again) } else { Err(again) }
    })
    .await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(bed.real.ledger.sales(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn after_a_lost_answer_the_same_key_finds_the_one_sale() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let body = sale(10, -1, 60);
    for (key, mishap, replayed) in
        [("lost", Mishap::AnswerLost, Some("true")), ("never", Mishap::NeverArrived, None)]
    {
        bed.faults.next(Call::WriteSale, [mishap]);
        let unknown = create(&gateway, key, &body).await.expect_problem(503, "sale-unknown");
        assert!(unknown.json["detail"].as_str().unwrap().contains("same key is safe"), "{unknown:?}");
        assert!((1..=2).contains(&unknown.retry_after()), "{unknown:?}");
        let again = create(&gateway, key, &body).await.expect(201);
        assert_eq!(again.header("idempotent-replayed"), replayed);
        // Its gate was filled by the refresh, or is now.
        let sale = sale_id(&again);
        eventually(SOON, async || {
            let bought = gateway.buy(sale, 7).await;
            if matches!(bought.status, 200 | 202) { Ok(()) } else { Err(bought) }
        })
        .await;
    }
    assert_eq!(bed.real.ledger.sales(10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn without_a_key_a_lost_answer_says_that_the_sale_may_exist() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    bed.faults.next(Call::WriteSale, [Mishap::AnswerLost]);
    let unknown = gateway.create_sale(&sale(10, -1, 60)).await.expect(503);
    assert_eq!(unknown.json["type"], "/problems/sale-unknown");
    let detail = unknown.json["detail"].as_str().unwrap();
    assert!(detail.contains("may exist") && detail.contains("List the sales"), "{detail}");
    // A client that repeats by itself would open a second sale.
    assert_eq!(unknown.header("retry-after"), None);
    assert_eq!(bed.real.ledger.sales(10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_request_that_comes_again_after_the_end_of_its_sale_gets_it() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let body = sale(10, -60, 1);
    let first = sale_id(&create(&gateway, "key", &body).await.expect(201));
    eventually(SOON, async || {
        let shown = gateway.get(&format!("/api/v1/sales/{first}")).await.expect(200);
        if shown.json["phase"] == "closed" { Ok(()) } else { Err(shown) }
    })
    .await;
    assert_eq!(sale_id(&create(&gateway, "key", &body).await.expect(201)), first);
    create(&gateway, "another", &body).await.expect_problem(422, "invalid");
}
