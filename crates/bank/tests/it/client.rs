//! What the client makes of each way in which a call can end.

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use seckill_bank::server::Faults;
use seckill_bank::{HttpBank, client};
use seckill_core::{Bank, BankAnswer, Dependency, Fault};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use url::Url;

use crate::setup::{DEADLINE, TestBank, charge, client_of, give_back};

/// A server that gives every request this answer.
async fn answering(status: StatusCode, body: &'static str) -> HttpBank {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let routes = Router::new().fallback(move || async move { (status, body) });
    tokio::spawn(axum::serve(listener, routes).into_future());
    client_of(&url, DEADLINE)
}

/// All four calls end like this.
async fn assert_each(bank: &HttpBank, expected: impl Fn(&Fault) -> bool) {
    let charge = charge(100, "tok_1");
    let refund = give_back(&charge, 100);
    let faults = [
        bank.charge(&charge).await.unwrap_err(),
        bank.charge_state(charge.key).await.unwrap_err(),
        bank.give_back(&refund).await.unwrap_err(),
        bank.give_back_state(refund.key).await.unwrap_err(),
    ];
    for fault in faults {
        assert!(expected(&fault), "{fault:?}");
    }
}

#[tokio::test]
async fn it_charges_asks_and_gives_back() {
    let server = TestBank::in_memory().await;
    let (bank, charge) = (server.client(), charge(100, "tok_1"));
    assert_eq!(bank.charge_state(charge.key).await.unwrap(), None);
    assert_eq!(bank.charge(&charge).await.unwrap(), BankAnswer::Succeeded);
    assert_eq!(bank.charge(&charge).await.unwrap(), BankAnswer::Succeeded);
    assert_eq!(bank.charge_state(charge.key).await.unwrap(), Some(BankAnswer::Succeeded));
    let refund = give_back(&charge, 100);
    assert_eq!(bank.give_back_state(refund.key).await.unwrap(), None);
    assert_eq!(bank.give_back(&refund).await.unwrap(), BankAnswer::Succeeded);
    assert_eq!(bank.give_back_state(refund.key).await.unwrap(), Some(BankAnswer::Succeeded));
    assert_eq!(server.totals().await, [1, 100, 1, 100]);
}

#[tokio::test]
async fn where_nobody_listens_nothing_has_happened() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}", free.local_addr().unwrap()).parse().unwrap();
    drop(free);
    let unavailable =
        |fault: &Fault| matches!(fault, Fault::Unavailable { dependency: Dependency::Bank, .. });
    assert_each(&client_of(&url, DEADLINE), unavailable).await;
}

#[tokio::test]
async fn without_an_answer_anything_may_have_happened() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            // Reads the request, or the most of it, and hangs up.
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
        }
    });
    assert_each(&client_of(&url, DEADLINE), Fault::may_have_happened).await;
}

#[tokio::test]
async fn a_server_error_does_not_say_what_has_happened() {
    let bank = answering(StatusCode::INTERNAL_SERVER_ERROR, "oh dear").await;
    assert_each(&bank, Fault::may_have_happened).await;
    let bank = answering(StatusCode::SERVICE_UNAVAILABLE, "").await;
    assert_each(&bank, Fault::may_have_happened).await;
}

#[tokio::test]
async fn another_server_is_not_taken_for_a_bank_that_knows_nothing() {
    for (status, body) in [
        (StatusCode::NOT_FOUND, "not found"),
        (StatusCode::NOT_FOUND, "{\"type\":\"/problems/no-such-path\"}"),
        (StatusCode::FORBIDDEN, "no"),
        (StatusCode::FOUND, ""),
    ] {
        let bank = answering(status, body).await;
        let expected = |fault: &Fault| match fault {
            Fault::Misconfigured { reason, .. } => reason.contains("is its address right?"),
            _ => false,
        };
        assert_each(&bank, expected).await;
    }
}

#[tokio::test]
async fn after_an_answer_that_cannot_be_read_money_may_have_moved() {
    for body in ["", "{}", "{\"key\":\"018f0000-0000-7000-8000-000000000000\",\"status\":\"succeeded\"}"] {
        let (bank, charge) = (answering(StatusCode::OK, body).await, charge(100, "tok_1"));
        let refund = give_back(&charge, 100);
        assert!(bank.charge(&charge).await.unwrap_err().may_have_happened());
        assert!(bank.give_back(&refund).await.unwrap_err().may_have_happened());
        // To ask changes nothing.
        for asked in [bank.charge_state(charge.key).await, bank.give_back_state(refund.key).await] {
            assert!(matches!(asked, Err(Fault::Corrupt { .. })), "{asked:?}");
        }
    }
    assert_each(&answering(StatusCode::ACCEPTED, "").await, Fault::may_have_happened).await;
}

#[tokio::test]
async fn a_refused_request_has_the_sentence_of_the_bank() {
    let server = TestBank::in_memory().await;
    let fault = server.client().charge(&charge(100, "4111111111111111")).await.unwrap_err();
    assert!(matches!(fault, Fault::Corrupt { .. }), "{fault:?}");
    assert!(fault.to_string().contains("`card` is not `tok_` and a name"), "{fault}");
    let mut reused = charge(100, "tok_1");
    server.client().charge(&reused).await.unwrap();
    reused.amount_cents = 101;
    let fault = server.client().charge(&reused).await.unwrap_err();
    assert!(fault.to_string().contains("was used with another body"), "{fault}");
}

#[tokio::test]
async fn calls_beyond_the_limit_are_not_sent() {
    let server = TestBank::with_faults(Faults { timeout_after: 1.0, ..Faults::default() }).await;
    let timeout = Duration::from_millis(300);
    let config = client::Config { timeout, calls: 1, ..client::Config::new(server.url.clone()) };
    let bank = HttpBank::new(config).unwrap();
    let charges = [(); 4].map(|()| charge(100, "tok_1"));
    let [a, b, c, d] = &charges;
    let ends = tokio::join!(bank.charge(a), bank.charge(b), bank.charge(c), bank.charge(d));
    let ends = [ends.0, ends.1, ends.2, ends.3];
    let unavailable: Vec<_> = ends
        .iter()
        .zip(&charges)
        .filter(|(end, _)| matches!(end, Err(Fault::Unavailable { .. })))
        .map(|(_, charge)| charge)
        .collect();
    assert!(!unavailable.is_empty(), "{ends:?}");
    for charge in unavailable {
        assert_eq!(server.client().charge_state(charge.key).await.unwrap(), None);
    }
}

#[test]
fn an_address_that_cannot_be_called_is_refused() {
    for wrong in ["https://127.0.0.1:8090", "ftp://127.0.0.1", "http://127.0.0.1:8090/?a=b"] {
        let fault = HttpBank::new(client::Config::new(wrong.parse().unwrap())).unwrap_err();
        assert!(matches!(fault, Fault::Misconfigured { .. }), "{fault:?}");
    }
}
