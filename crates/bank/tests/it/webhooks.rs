//! Webhooks: signed, tried again, and doubled or reordered on request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use seckill_bank::server::{Config, Faults, WebhookTarget};
use seckill_bank::signature::{self, SignatureError};
use seckill_bank::{BankNotice, NoticeKind};
use seckill_core::Bank;
use seckill_testkit::eventually;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::setup::{DEADLINE, TestBank, charge, give_back};

const SECRET: &str = "the secret of the webhooks";

struct Got {
    timestamp: String,
    signature: String,
    body: Bytes,
}

impl Got {
    fn notice(&self) -> BankNotice {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn verified(&self, secret: &str) -> Result<(), SignatureError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        signature::verify(secret, &self.timestamp, &self.signature, &self.body, now.try_into().unwrap())
    }
}

/// Takes webhooks, after refusing the first few.
#[derive(Default)]
struct Receiver {
    got: Mutex<Vec<Got>>,
    refuse: Mutex<u32>,
}

impl Receiver {
    async fn take(State(this): State<Arc<Self>>, headers: HeaderMap, body: Bytes) -> StatusCode {
        let refuse = &mut *this.refuse.lock().unwrap();
        if *refuse > 0 {
            *refuse -= 1;
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        let header = |name: &str| headers[name].to_str().unwrap().to_owned();
        let (timestamp, signature) = (header("Bank-Timestamp"), header("Bank-Signature"));
        this.got.lock().unwrap().push(Got { timestamp, signature, body });
        StatusCode::NO_CONTENT
    }

    fn keys(&self) -> Vec<Uuid> {
        self.got.lock().unwrap().iter().map(|got| got.notice().key).collect()
    }

    /// The keys of the webhooks, once there are so many.
    async fn wait_for(&self, count: usize) -> Vec<Uuid> {
        let enough = async || Some(self.keys()).filter(|keys| keys.len() >= count).ok_or_else(|| self.keys());
        eventually(DEADLINE, enough).await
    }
}

async fn start(faults: Faults, refuse: u32) -> (TestBank, Arc<Receiver>) {
    let receiver = Arc::new(Receiver { refuse: Mutex::new(refuse), ..Receiver::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/bank", listener.local_addr().unwrap()).parse().unwrap();
    let routes = Router::new().route("/bank", post(Receiver::take)).with_state(Arc::clone(&receiver));
    tokio::spawn(axum::serve(listener, routes).into_future());
    let webhook = Some(WebhookTarget { url, secret: SECRET.into() });
    (TestBank::start(Config { webhook, faults, ..Config::default() }).await, receiver)
}

#[tokio::test]
async fn each_outcome_is_reported_and_signed() {
    let (bank, receiver) = start(Faults::default(), 0).await;
    let (paid, declined) = (charge(100, "tok_1"), charge(100, "tok_declined"));
    let (refund, too_much) = (give_back(&paid, 60), give_back(&paid, 60));
    let client = bank.client();
    client.charge(&paid).await.unwrap();
    client.charge(&declined).await.unwrap();
    client.give_back(&refund).await.unwrap();
    client.give_back(&too_much).await.unwrap();
    // Asking again is no new outcome.
    client.charge(&paid).await.unwrap();
    receiver.wait_for(4).await;
    bank.stop().await.unwrap();
    let got = receiver.got.lock().unwrap();
    let found: HashMap<_, _> = got.iter().map(|got| (got.notice().key, got.notice())).collect();
    assert_eq!((got.len(), found.len()), (4, 4));
    for (key, kind, order) in [
        (paid.key, NoticeKind::ChargeSucceeded, paid.order_id),
        (declined.key, NoticeKind::ChargeDeclined, declined.order_id),
        (refund.key, NoticeKind::RefundSucceeded, paid.order_id),
        (too_much.key, NoticeKind::RefundDeclined, paid.order_id),
    ] {
        assert_eq!(found[&key], BankNotice { kind, key, order_id: Some(order) });
    }
    for got in got.iter() {
        assert_eq!(got.verified(SECRET), Ok(()));
        assert_eq!(got.verified("another secret"), Err(SignatureError::Forged));
    }
    assert!(String::from_utf8_lossy(&got[0].body).contains("\"type\":\""));
}

#[tokio::test]
async fn a_webhook_is_tried_again() {
    let (bank, receiver) = start(Faults::default(), 2).await;
    let charge = charge(100, "tok_1");
    bank.client().charge(&charge).await.unwrap();
    assert_eq!(receiver.wait_for(1).await, [charge.key]);
}

#[tokio::test]
async fn webhooks_come_twice_on_request() {
    let (bank, receiver) = start(Faults { webhooks_doubled: true, ..Faults::default() }, 0).await;
    let charge = charge(100, "tok_1");
    bank.client().charge(&charge).await.unwrap();
    receiver.wait_for(2).await;
    bank.stop().await.unwrap();
    assert_eq!(receiver.keys(), [charge.key, charge.key]);
}

#[tokio::test]
async fn webhooks_come_out_of_order_on_request_and_the_last_one_comes_all_the_same() {
    let (bank, receiver) = start(Faults { webhooks_reordered: true, ..Faults::default() }, 0).await;
    let (client, lone) = (bank.client(), charge(100, "tok_1"));
    client.charge(&lone).await.unwrap();
    assert_eq!(receiver.wait_for(1).await, [lone.key]);
    // On a busy machine a pair may be half a second apart; then it stays in order, and the next pair is tried.
    let swapped = async || {
        let (first, second) = (charge(100, "tok_1"), charge(100, "tok_1"));
        let before = receiver.keys().len();
        client.charge(&first).await.unwrap();
        client.charge(&second).await.unwrap();
        let keys = receiver.wait_for(before + 2).await;
        if keys[before..] == [second.key, first.key] { Ok(()) } else { Err(keys) }
    };
    eventually(DEADLINE, swapped).await;
}

#[tokio::test]
async fn a_charge_that_is_never_answered_is_reported_all_the_same() {
    let (bank, receiver) = start(Faults { timeout_after: 1.0, ..Faults::default() }, 0).await;
    let charge = charge(100, "tok_1");
    bank.impatient().charge(&charge).await.unwrap_err();
    assert_eq!(receiver.wait_for(1).await, [charge.key]);
}
