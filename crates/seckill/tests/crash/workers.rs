//! Workers that crash again and again.

use std::time::Duration;

use seckill_core::UserId;
use seckill_testkit::eventually;
use sqlx::mysql::MySqlConnection;
use sqlx::{Connection, Executor};

use crate::bed::{Bed, GATEWAY, HEALED, turn};
use crate::buyers::Buyers;
use crate::check::check;
use crate::process::{run, text};

/// Processes that are killed with full hands; RabbitMQ 4 would park after 20 if the queue had its default limit.
const KILLED: usize = 22;
/// Consumers that are dropped with full hands.
const DROPPED: usize = 101;

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_crash_again_and_again_park_nothing() {
    let _turn = turn("workers_that_crash_again_and_again_park_nothing").await;
    let bed = Bed::start().await;
    let gateway = bed.urls.gateway(GATEWAY).await;
    let sale = gateway.open_sale(100).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    buyers.ordering(1..=100, Duration::from_millis(3)).await.unwrap();
    let backend = bed.urls.backend();
    backend.ledger.id().await.unwrap();
    let ready = async || backend.queue.depth().await.unwrap().ready_batches;
    let taken = async || match ready().await {
        0 => Ok(()),
        ready => Err(ready),
    };
    for _ in 0..KILLED {
        let mut worker = bed.urls.worker(&["--drain-rate", "paused"]).await;
        eventually(HEALED, taken).await;
        worker.kill().await;
        eventually(HEALED, async || if ready().await > 0 { Ok(()) } else { Err("nothing came back") }).await;
    }
    for _ in 0..DROPPED {
        let mut consumer = backend.queue.consumer(256).await.unwrap();
        consumer.next().await.unwrap();
    }
    let parked = backend.queue.parked_depth().await.unwrap();
    assert_eq!((parked.parked, parked.unrouted), (0, 0));
    let _worker = bed.urls.worker(&[]).await;
    assert_eq!(check(&bed.urls, &gateway, sale, 100, &buyers).await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn order_that_the_ledger_cannot_take_is_parked_alone() {
    let _turn = turn("order_that_the_ledger_cannot_take_is_parked_alone").await;
    let bed = Bed::start().await;
    let gateway = bed.urls.gateway(GATEWAY).await;
    let sale = gateway.open_sale(100).await;
    let mut mysql = MySqlConnection::connect(&bed.urls.mysql).await.unwrap();
    mysql.execute("ALTER TABLE orders ADD CONSTRAINT not_13 CHECK (user_id <> 13)").await.unwrap();
    let buyers = Buyers::of(sale, &[&gateway]);
    buyers.ordering(1..=100, Duration::from_millis(3)).await.unwrap();
    let _worker = bed.urls.worker(&[]).await;
    let backend = bed.urls.backend();
    backend.ledger.id().await.unwrap();
    let parked = eventually(HEALED, async || {
        let parked = backend.queue.parked(10).await.unwrap();
        let committed = backend.ledger.sale(seckill_core::SaleId(sale)).await.unwrap().unwrap().orders;
        if (parked.len(), committed) == (1, 99) { Ok(parked) } else { Err((parked, committed)) }
    })
    .await;
    let orders = &parked[0].batch.as_ref().unwrap().orders;
    assert!(orders.iter().any(|order| order.user_id == UserId(13)), "{parked:?}");
    assert!(parked[0].reason.contains("not_13"), "{parked:?}");
    mysql.execute("ALTER TABLE orders DROP CONSTRAINT not_13").await.unwrap();
    let redriven = run(&["parked", "redrive", &parked[0].id, "--server", &gateway.url()]).await;
    assert!(redriven.status.success(), "{}", text(&redriven));
    assert_eq!(check(&bed.urls, &gateway, sale, 100, &buyers).await, 100);
}
