//! SIGTERM under load.

use std::time::Duration;

use loadtest::Outcome;
use seckill_core::SaleId;
use seckill_testkit::eventually;

use crate::fleet::{promised, send};
use crate::process::{SOON, Urls};

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_ends_under_load_answers_everyone_it_admitted_and_strands_nothing() {
    let cluster = seckill_testkit::cluster().await;
    let urls = Urls::from(&cluster);
    urls.migrate().await;
    let mut gateway = urls.gateway(&["--grace", "20s"]).await;
    let sale = gateway.open_sale(100_000).await;
    let server = gateway.url();
    let backend = urls.backend();
    let (run, status) = tokio::join!(send(&server, sale, 1, 20_000, Duration::from_secs(4)), async {
        eventually(SOON, async || match backend.gate.level(SaleId(sale)).await.unwrap() {
            Some(level) if level.orders >= 1_000 => Ok(()),
            other => Err(other),
        })
        .await;
        gateway.terminate().await;
        gateway.ended(Duration::from_secs(20)).await
    });
    assert!(status.success(), "{status}: {}", gateway.log());
    let level = backend.gate.level(SaleId(sale)).await.unwrap().unwrap();
    assert_eq!(level.pending_orders, 0, "reservations are stranded: {}", gateway.log());
    assert_every_answer_is_clear(&run);
    // Every reserved order was answered: no buyer has an order and a broken connection.
    assert_eq!(level.orders, promised(&[run]).len() as u64, "orders that no answer names");
}

/// Every answer is an order, or a refusal after which there is no order.
fn assert_every_answer_is_clear(run: &loadtest::Run) {
    for record in &run.records {
        let fine = match &record.outcome {
            Outcome::Accepted { .. } | Outcome::Replayed { .. } => true,
            // The listener is closed, or the connection was closed before the request was read.
            Outcome::ConnectionError => true,
            Outcome::Refused { status: 503, problem } => &**problem == "unavailable",
            _ => false,
        };
        assert!(fine, "{:?}", record.outcome);
    }
}
