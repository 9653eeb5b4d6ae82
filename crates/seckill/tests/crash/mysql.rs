//! MySQL comes back older, or as another database.

use std::time::Duration;

use seckill_core::SaleId;
use seckill_testkit::{PrivateMySql, eventually};
use serde_json::Value;

use crate::bed::{GATEWAY, HEALED, Servers, turn};
use crate::buyers::Buyers;
use crate::check::{check, clean};
use crate::process::{Urls, run, text};

const STOCK: u32 = 120;
const PAUSE: Duration = Duration::from_millis(5);

#[tokio::test(flavor = "multi_thread")]
async fn mysql_restored_from_an_older_copy() {
    let _turn = turn("mysql_restored_from_an_older_copy").await;
    let servers = Servers::start().await;
    let gateway = servers.urls.gateway(GATEWAY).await;
    let _worker = servers.urls.worker(&[]).await;
    let sale = gateway.open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    buyers.ordering(1..=40, PAUSE).await.unwrap();
    clean(&gateway, sale).await;
    let copy = servers.mysql.copy_data().await;
    buyers.ordering(41..=80, PAUSE).await.unwrap();
    // A sale that the copy lacks.
    let newer = gateway.open_sale(STOCK).await;
    let newer_buyers = Buyers::of(newer, &[&gateway]);
    newer_buyers.ordering(1..=20, PAUSE).await.unwrap();
    clean(&gateway, sale).await;
    clean(&gateway, newer).await;
    servers.mysql.restart_from(&copy).await;
    drop(copy);
    let committed = async |sale| {
        let backend = servers.urls.backend();
        backend.ledger.sale(SaleId(sale)).await.unwrap().map(|sale| sale.orders)
    };
    for (sale, orders) in [(sale, 80), (newer, 20)] {
        eventually(HEALED, async || match committed(sale).await {
            Some(seen) if seen == orders => Ok(()),
            seen => Err((sale, seen)),
        })
        .await;
    }
    buyers.ordering(81..=140, PAUSE).await.unwrap();
    buyers.retry_all().await;
    newer_buyers.retry_all().await;
    assert_eq!(check(&servers.urls, &gateway, sale, STOCK, &buyers).await, STOCK);
    assert_eq!(check(&servers.urls, &gateway, newer, STOCK, &newer_buyers).await, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_started_without_mysql_sells_what_its_peers_sold() {
    let _turn = turn("gateway_started_without_mysql_sells_what_its_peers_sold").await;
    let servers = Servers::start().await;
    let mut first = servers.urls.gateway(GATEWAY).await;
    let sale = first.open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&first]);
    buyers.ordering(1..=20, PAUSE).await.unwrap();
    // What a gateway knows is in the gate within a second.
    let backend = servers.urls.backend();
    eventually(HEALED, async || {
        let known = backend.gate.known_sales().await.unwrap();
        if known.is_some_and(|known| known.sales.iter().any(|known| known.id == SaleId(sale))) {
            Ok(())
        } else {
            Err("not yet")
        }
    })
    .await;
    servers.mysql.kill().await;
    first.kill().await;
    let second = servers.urls.gateway(GATEWAY).await;
    buyers.send_to(&[&second]);
    buyers.ordering(21..=60, PAUSE).await.unwrap();
    servers.mysql.start_again().await;
    let _worker = servers.urls.worker(&[]).await;
    buyers.ordering(61..=140, PAUSE).await.unwrap();
    buyers.retry_all().await;
    assert_eq!(check(&servers.urls, &second, sale, STOCK, &buyers).await, STOCK);
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_set_up_anew_beside_old_gates_and_messages() {
    let _turn = turn("mysql_set_up_anew_beside_old_gates_and_messages").await;
    let (redis, rabbit) = (seckill_testkit::redis().await, seckill_testkit::rabbit().await);
    let mysql = PrivateMySql::start().await;
    let urls = Urls { redis: redis.url.clone(), amqp: rabbit.url.clone(), mysql: mysql.url() };
    urls.migrate().await;
    let mut old = urls.gateway(GATEWAY).await;
    let sale = old.open_sale(30).await;
    let old_buyers = Buyers::of(sale, &[&old]);
    old_buyers.ordering(1..=30, PAUSE).await.unwrap();
    old.kill().await;
    mysql.restart_empty().await;
    urls.migrate().await;
    let gateway = urls.gateway(GATEWAY).await;
    let _worker = urls.worker(&[]).await;
    assert_eq!(gateway.open_sale(STOCK).await, sale);
    // The same users are new buyers, and the units of the new sale are all there.
    let buyers = Buyers::of(sale, &[&gateway]);
    buyers.ordering(1..=140, PAUSE).await.unwrap();
    assert_eq!(check(&urls, &gateway, sale, STOCK, &buyers).await, STOCK);
    let old_ids = old_buyers.promised();
    assert!(
        buyers.promised().keys().all(|id| !old_ids.contains_key(id)),
        "an order of the old sale is adopted"
    );
    let list = run(&["parked", "list", "--server", &gateway.url(), "--json"]).await;
    let list: Value = serde_json::from_slice(&list.stdout).unwrap_or_else(|_| panic!("{}", text(&list)));
    let messages = list["messages"].as_array().unwrap();
    assert!(!messages.is_empty());
    for message in messages {
        assert!(message["reason"].as_str().is_some_and(|why| why.contains("ledger")), "{message}");
    }
}
