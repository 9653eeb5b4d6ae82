//! MySQL takes no writes for a while, and comes back older, or as another database.

use std::time::Duration;

use seckill_core::SaleId;
use seckill_testkit::{PrivateMySql, eventually};
use serde_json::Value;
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::bed::{GATEWAY, HEALED, Servers, turn};
use crate::buyers::Buyers;
use crate::check::{check, clean, ready, unready};
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
    let (redis, amqp) = (redis.url.clone(), rabbit.url.clone());
    let urls = Urls { redis, amqp, mysql: mysql.url(), queue_redis: None };
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

/// Makes the server refuse everybody's writes, or take them again.
async fn set_read_only(admin: &mut MySqlConnection, read_only: bool) {
    let version: String = sqlx::query_scalar("SELECT VERSION()").fetch_one(&mut *admin).await.unwrap();
    let names =
        if version.contains("MariaDB") { &["read_only"][..] } else { &["read_only", "super_read_only"] };
    for name in names {
        let set = format!("SET GLOBAL {name} = {}", u8::from(read_only));
        admin.execute(sqlx::raw_sql(AssertSqlSafe(set))).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_is_read_only_for_a_while() {
    let _turn = turn("mysql_is_read_only_for_a_while").await;
    let servers = Servers::start().await;
    let mut admin = MySqlConnection::connect(&servers.urls.mysql).await.unwrap();
    // MariaDB lets a user with every right write all the same.
    for statement in [
        "CREATE USER 'shop'@'127.0.0.1' IDENTIFIED BY 'shop'",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON seckill.* TO 'shop'@'127.0.0.1'",
    ] {
        admin.execute(statement).await.unwrap();
    }
    let mysql = servers.urls.mysql.replace("seckill:seckill@", "shop:shop@");
    let urls = Urls { mysql, ..servers.urls.clone() };
    let gateway = urls.gateway(GATEWAY).await;
    let worker = urls.worker(&[]).await;
    let sale = gateway.open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    buyers.ordering(1..=40, PAUSE).await.unwrap();
    clean(&gateway, sale).await;
    set_read_only(&mut admin, true).await;
    buyers.ordering(41..=80, PAUSE).await.unwrap();
    let promised = buyers.promised();
    assert_eq!((promised.len(), buyers.refusals("unavailable")), (80, 0));
    let report = unready(&worker).await;
    let reason = report["dependencies"]["ledger"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("read-only"), "{report}");
    for (order, user) in promised.into_iter().filter(|(_, user)| *user > 40) {
        let (status, shown) = buyers.look_up(&gateway.url(), user, order).await;
        assert_eq!((status, &shown["status"]), (200, &"queued".into()), "{shown}");
    }
    set_read_only(&mut admin, false).await;
    ready(&worker).await;
    buyers.ordering(81..=140, PAUSE).await.unwrap();
    buyers.retry_all().await;
    assert_eq!(check(&urls, &gateway, sale, STOCK, &buyers).await, STOCK);
}
