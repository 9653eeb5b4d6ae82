//! A request's id and its trace: in the answer, in problems, in the queue's message, and in the events of the commit.

use reqwest::Method;
use serde_json::json;
use tokio::time::timeout;

use crate::gateway::{ADMIN_TOKEN, Gateway, sale, sale_id, send};
use crate::test_bed::{SOON, TestBed};

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const NOT_RECORDED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

#[tokio::test]
async fn every_answer_has_the_id_of_its_request_and_a_problem_repeats_it() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let given = send(gateway.request(Method::GET, "/api/v1/sales/77").header("x-request-id", "mine-7")).await;
    let given = given.expect_problem(404, "not-found");
    assert_eq!((given.header("x-request-id"), &given.json["request_id"]), (Some("mine-7"), &json!("mine-7")));
    let made = gateway.get("/api/v1/sales/77").await.expect_problem(404, "not-found");
    let id = made.header("x-request-id").expect("an id");
    assert_eq!(made.json["request_id"], id);
    assert_ne!(gateway.get("/livez").await.expect(200).header("x-request-id"), Some(id));
    // Nobody writes what they like into the log.
    let long = "x".repeat(65);
    let forged = send(gateway.request(Method::GET, "/livez").header("x-request-id", &long)).await;
    assert_ne!(forged.header("x-request-id"), Some(long.as_str()));
}

#[tokio::test]
async fn the_trace_of_an_order_is_in_the_queues_message() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    let mut consumer = bed.real.queue.consumer(10).await.expect("a consumer");
    for (user, given, expected) in
        [(1, Some(TRACEPARENT), Some(TRACEPARENT)), (2, Some(NOT_RECORDED), None), (3, None, None)]
    {
        let request = gateway.buying(sale, user);
        let request = match given {
            Some(traceparent) => request.header("traceparent", traceparent),
            None => request,
        };
        send(request).await.expect(202);
        let delivery = timeout(SOON, consumer.next()).await.expect("a message").expect("the queue is there");
        assert_eq!(delivery.batch.traceparent, expected.map(|text| text.parse().expect("a traceparent")));
        consumer.ack(delivery.tag).await.expect("acknowledged");
    }
}

#[tokio::test]
async fn the_event_of_a_commit_names_the_trace_of_its_order() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let mut body = sale(10, -3_600, 3_600);
    body["payment_window_ms"] = json!(3_600_000);
    let sale = sale_id(&gateway.create_sale(&body).await.expect(201));
    send(gateway.buying(sale, 1).header("traceparent", TRACEPARENT)).await.expect(202);
    bed.drain().await;
    let admin = |path: &str| gateway.request(Method::GET, path).bearer_auth(ADMIN_TOKEN);
    let events = send(admin("/api/v1/outbox?state=pending")).await.expect(200);
    let id = events.json["events"][0]["id"].as_str().expect("an event").to_owned();
    let event = send(admin(&format!("/api/v1/outbox/{id}"))).await.expect(200);
    assert!(event.text.contains(TRACEPARENT), "{event:?}");
}
