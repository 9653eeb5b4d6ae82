//! Processes that stop answering and go on later: no other process waits for them for ever, and nobody promises what is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use seckill_core::SaleId;
use seckill_testkit::eventually;
use seckill_testkit::proxy::{Direction, FaultProxy, Flow};
use sqlx::Connection;
use sqlx::mysql::MySqlConnection;

use crate::bed::{Bed, GATEWAY, HEALED, say, turn};
use crate::buyers::{Answer, Buyers};
use crate::check::check;
use crate::process::{Role, Urls};

const PAUSE: Duration = Duration::from_millis(5);

#[tokio::test(flavor = "multi_thread")]
async fn worker_frozen_inside_a_transaction() {
    let _turn = turn("worker_frozen_inside_a_transaction").await;
    let bed = Bed::start().await;
    let stock = 400;
    let gateway = bed.urls.gateway(GATEWAY).await;
    let sale = gateway.open_sale(stock).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    let proxy = FaultProxy::start(&bed.urls.mysql).await;
    let behind = Urls { mysql: proxy.url(&bed.urls.mysql), ..bed.urls.clone() };
    let frozen = behind.worker(&[]).await;
    buyers.ordering(1..=20, PAUSE).await.unwrap();
    check(&bed.urls, &gateway, sale, stock, &buyers).await;
    // Every answer takes half a second, so that it is found inside a transaction, with the sale's row locked.
    proxy.set(Direction::ToClient, Flow::Delay(Duration::from_millis(500)));
    let mut mysql = MySqlConnection::connect(&bed.urls.mysql).await.unwrap();
    let load = buyers.ordering(21..=450, PAUSE);
    eventually(HEALED, async || {
        let lock = sqlx::query("SELECT id FROM sales WHERE id = ? FOR UPDATE NOWAIT").bind(sale);
        match lock.fetch_one(&mut mysql).await {
            Err(sqlx::Error::Database(_)) => Ok(()),
            other => Err(other.map(drop)),
        }
    })
    .await;
    frozen.freeze().await;
    let begin = Instant::now();
    let _other = bed.urls.worker(&[]).await;
    load.await.unwrap();
    assert_eq!(check(&bed.urls, &gateway, sale, stock, &buyers).await, stock);
    say(&format!("the other worker had committed everything after {:.1} s", begin.elapsed().as_secs_f64()));
    // What the frozen one had in hand is there already; it changes nothing when it wakes up.
    proxy.set(Direction::ToClient, Flow::Pass);
    frozen.thaw().await;
    eventually(HEALED, async || match frozen.get("/readyz").await {
        (200, _) => Ok(()),
        other => Err(other),
    })
    .await;
    assert_eq!(check(&bed.urls, &gateway, sale, stock, &buyers).await, stock);
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_frozen_with_full_hands() {
    let _turn = turn("worker_frozen_with_full_hands").await;
    let bed = Bed::start().await;
    let stock = 100;
    let gateway = bed.urls.gateway(GATEWAY).await;
    let sale = gateway.open_sale(stock).await;
    let frozen = bed.urls.worker(&["--drain-rate", "paused"]).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    buyers.ordering(1..=stock.into(), PAUSE).await.unwrap();
    let backend = bed.urls.backend();
    backend.ledger.id().await.unwrap();
    eventually(HEALED, async || match backend.queue.depth().await.unwrap().ready_batches {
        0 => Ok(()),
        ready => Err(ready),
    })
    .await;
    frozen.freeze().await;
    let _other = bed.urls.worker(&[]).await;
    assert_eq!(check(&bed.urls, &gateway, sale, stock, &buyers).await, stock);
    frozen.thaw().await;
}

/// A gateway that reaches RabbitMQ through a proxy and is frozen later, one that is not, a worker, and a sale of which the first
/// gateway has sold ten units.
struct TwoGateways {
    bed: Bed,
    proxy: FaultProxy,
    frozen: Role,
    gateway: Role,
    _worker: Role,
    sale: u64,
    buyers: Arc<Buyers>,
}

impl TwoGateways {
    async fn start(stock: u32) -> Self {
        let bed = Bed::start().await;
        let proxy = FaultProxy::start(&bed.urls.amqp).await;
        let behind = Urls { amqp: proxy.url(&bed.urls.amqp), ..bed.urls.clone() };
        let frozen = behind.gateway(GATEWAY).await;
        let gateway = bed.urls.gateway(GATEWAY).await;
        let _worker = bed.urls.worker(&[]).await;
        let sale = gateway.open_sale(stock).await;
        let buyers = Buyers::of(sale, &[&frozen]);
        buyers.ordering(1..=10, PAUSE).await.unwrap();
        Self { bed, proxy, frozen, gateway, _worker, sale, buyers }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_frozen_between_reserving_and_answering() {
    let _turn = turn("gateway_frozen_between_reserving_and_answering").await;
    let stock = 20;
    let TwoGateways { bed, proxy, frozen, gateway, _worker, sale, buyers } = TwoGateways::start(stock).await;
    // The queue has the order, and its confirm is on the way.
    proxy.set(Direction::ToClient, Flow::Hold);
    let late = Arc::clone(&buyers);
    let late = tokio::spawn(async move { late.try_once(100, 0).await.0 });
    let backend = bed.urls.backend();
    eventually(HEALED, async || {
        let sold = backend.ledger.sale(SaleId(sale)).await.unwrap().unwrap().sold;
        if sold == 11 { Ok(()) } else { Err(sold) }
    })
    .await;
    frozen.freeze().await;
    // The promise must be over when it wakes up: only time does that.
    tokio::time::sleep(seckill_core::PROMISE_WINDOW + Duration::from_secs(1)).await;
    proxy.set(Direction::ToClient, Flow::Pass);
    frozen.thaw().await;
    let answer = late.await.unwrap();
    assert_eq!(answer, Answer::Refused("outcome-unknown".to_owned()));
    assert!(buyers.order(100).await.is_some(), "a retry gets the order");
    assert_eq!(check(&bed.urls, &gateway, sale, stock, &buyers).await, 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn owner_of_a_rebuild_frozen() {
    let _turn = turn("owner_of_a_rebuild_frozen").await;
    let bed = Bed::start().await;
    let stock = 100;
    let gateway = bed.urls.gateway(GATEWAY).await;
    let owner = bed.urls.worker(&[]).await;
    let sale = gateway.open_sale(stock).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    buyers.ordering(1..=50, PAUSE).await.unwrap();
    bed.cluster.flush_redis().await;
    let backend = bed.urls.backend();
    let shown = async || backend.ledger.sale(SaleId(sale)).await.unwrap().unwrap();
    eventually(HEALED, async || {
        let sale = shown().await;
        if sale.rebuild.is_some_and(|rebuild| rebuild.owner.is_some()) { Ok(()) } else { Err(sale) }
    })
    .await;
    owner.freeze().await;
    let _other = bed.urls.worker(&[]).await;
    let epoch = eventually(HEALED, async || {
        let sale = shown().await;
        if sale.open_epoch > 1 { Ok(sale.open_epoch) } else { Err(sale) }
    })
    .await;
    assert_eq!(epoch, 3, "another worker has taken it over");
    let load = buyers.ordering(51..=130, PAUSE);
    owner.thaw().await;
    load.await.unwrap();
    buyers.retry_all().await;
    assert_eq!(check(&bed.urls, &gateway, sale, stock, &buyers).await, stock);
    assert_eq!(shown().await.open_epoch, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_frozen_across_a_rebuild() {
    let _turn = turn("gateway_frozen_across_a_rebuild").await;
    let stock = 50;
    let TwoGateways { bed, proxy, frozen, gateway, _worker, sale, buyers } = TwoGateways::start(stock).await;
    check(&bed.urls, &gateway, sale, stock, &buyers).await;
    // Reserved, and on its way to the queue.
    proxy.set(Direction::ToServer, Flow::Hold);
    let late = Arc::clone(&buyers);
    let late = tokio::spawn(async move { late.try_once(100, 0).await.0 });
    let backend = bed.urls.backend();
    backend.ledger.id().await.unwrap();
    eventually(HEALED, async || {
        let level = backend.gate.level(SaleId(sale)).await.unwrap().unwrap();
        if level.orders == 11 { Ok(()) } else { Err(level) }
    })
    .await;
    frozen.freeze().await;
    bed.cluster.flush_redis().await;
    let epoch = eventually(HEALED, async || {
        let sale = backend.ledger.sale(SaleId(sale)).await.unwrap().unwrap();
        if sale.open_epoch > 1 { Ok(sale.open_epoch) } else { Err(sale) }
    })
    .await;
    // The whole stock is sold on the new epoch, and only then the old order arrives.
    let others = Buyers::of(sale, &[&gateway]);
    others.ordering(201..=240, PAUSE).await.unwrap();
    proxy.set(Direction::ToServer, Flow::Pass);
    frozen.thaw().await;
    let answer = late.await.unwrap();
    assert!(!matches!(answer, Answer::Promised(_)), "an order of the old gate was promised: {answer:?}");
    assert!(epoch > 1);
    assert_eq!(others.promised().len(), 40);
    buyers.send_to(&[&gateway]);
    assert_eq!(buyers.order(100).await, None, "the sale is sold out");
    let all = check(&bed.urls, &gateway, sale, stock, &buyers).await;
    assert_eq!(all, stock);
    check(&bed.urls, &gateway, sale, stock, &others).await;
}
