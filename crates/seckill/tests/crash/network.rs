//! The network between the processes and one server: replies that are lost, and servers that do not answer for a while.

use std::time::Duration;

use seckill_testkit::eventually;
use seckill_testkit::proxy::{Direction, FaultProxy, Flow, Scope};
use tokio::time::sleep;

use crate::after;
use crate::bed::{Bed, GATEWAY, HEALED, turn};
use crate::buyers::Buyers;
use crate::check::{audit_now, check, ready};
use crate::process::Urls;

const STOCK: u32 = 300;
const USERS: u64 = 400;
const PAUSE: Duration = Duration::from_millis(10);

/// A server that has a proxy in front.
#[derive(Debug, Clone, Copy)]
enum Server {
    Redis,
    Rabbit,
    MySql,
}

/// A place where everything reaches one server through a proxy.
async fn behind(bed: &Bed, server: Server) -> (FaultProxy, Urls) {
    let mut urls = bed.urls.clone();
    let url = match server {
        Server::Redis => &mut urls.redis,
        Server::Rabbit => &mut urls.amqp,
        Server::MySql => &mut urls.mysql,
    };
    let proxy = FaultProxy::start(&*url).await;
    *url = proxy.url(&*url);
    (proxy, urls)
}

/// Every 200 ms the next reply of each connection is lost, and the connection with it.
async fn loses_replies(server: Server) {
    let bed = Bed::start().await;
    let (proxy, urls) = behind(&bed, server).await;
    let gateway = urls.gateway(GATEWAY).await;
    let _worker = urls.worker(&["--drain-rate", "200"]).await;
    let sale = gateway.open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    let load = buyers.ordering(1..=USERS, PAUSE);
    let before = proxy.counts().connections;
    for _ in 0..20 {
        proxy.set_for(Scope::Open, Direction::ToClient, Flow::CutAfter(0));
        sleep(Duration::from_millis(200)).await;
    }
    assert!(proxy.counts().connections > before, "{server:?}: no connection was lost");
    load.await.unwrap();
    buyers.retry_all().await;
    assert_eq!(check(&bed.urls, &gateway, sale, STOCK, &buyers).await, STOCK, "{server:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_of_redis_are_lost() {
    let _turn = turn("replies_of_redis_are_lost").await;
    loses_replies(Server::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn confirms_of_rabbitmq_are_lost() {
    let _turn = turn("confirms_of_rabbitmq_are_lost").await;
    loses_replies(Server::Rabbit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_of_mysql_to_commit_are_lost() {
    let _turn = turn("replies_of_mysql_to_commit_are_lost").await;
    loses_replies(Server::MySql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reply_of_mysql_to_commit_is_lost() {
    let _turn = turn("reply_of_mysql_to_commit_is_lost").await;
    let bed = Bed::start().await;
    let (proxy, urls) = behind(&bed, Server::MySql).await;
    let gateway = bed.urls.gateway(GATEWAY).await;
    let worker = urls.worker(&[]).await;
    let sale = gateway.open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    buyers.ordering(1..=10, PAUSE).await.unwrap();
    check(&bed.urls, &gateway, sale, STOCK, &buyers).await;
    assert!(!worker.log().contains("cannot go on"), "{}", worker.log());
    // The command that runs a text, and that text: the session's isolation level has the word in its name, too.
    proxy.set(Direction::ToServer, Flow::CutReplyTo("\u{3}COMMIT"));
    buyers.ordering(11..=11, PAUSE).await.unwrap();
    let unknown = "the ledger did not say how the call ended";
    // The same batch again finds its row, and the reply to that COMMIT is lost as well.
    eventually(HEALED, async || match worker.log().matches(unknown).count() {
        0 | 1 => Err(worker.log()),
        _ => Ok(()),
    })
    .await;
    assert!(!worker.log().contains("the ledger is unavailable"), "{}", worker.log());
    let backend = bed.urls.backend();
    let seen = backend.ledger.sale(seckill_core::SaleId(sale)).await.unwrap().unwrap();
    assert_eq!((seen.orders, seen.sold), (11, 11), "{seen:?}");
    proxy.set(Direction::ToServer, Flow::Pass);
    ready(&worker).await;
    // An audit may be a second old.
    eventually(HEALED, async || match audit_now(&gateway, sale).await {
        (_, report) if report.committed_orders == 11 => Ok(()),
        other => Err(other),
    })
    .await;
    assert_eq!(check(&bed.urls, &gateway, sale, STOCK, &buyers).await, 11);
    let metrics = worker.client().metrics().await.unwrap();
    assert!(metrics.lines().any(|line| line == "seckill_orders_redelivered_total 1"), "{metrics}");
    assert!(metrics.lines().any(|line| line == "seckill_orders_committed_total 10"), "{metrics}");
}

/// RabbitMQ has events of expired orders and its confirms never come: they are sent again until one does, and each has one effect.
#[tokio::test(flavor = "multi_thread")]
async fn confirms_of_events_are_lost() {
    let _turn = turn("confirms_of_events_are_lost").await;
    let bed = Bed::start().await;
    let (proxy, urls) = behind(&bed, Server::Rabbit).await;
    let gateway = bed.urls.gateway(GATEWAY).await;
    let worker = urls.worker(&[]).await;
    let metric = async |name: &str| {
        let metrics = worker.client().metrics().await.unwrap();
        let values = metrics
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.rsplit(' ').next()?.parse::<u64>().ok());
        values.sum::<u64>()
    };
    // The relay is connected, and its subscribers are, once the first event has gone through.
    let sale = after::open_sale(&gateway, 10, 100, Duration::from_secs(1)).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    buyers.ordering(1..=1, PAUSE).await.unwrap();
    let returned = format!("SELECT CAST(returned_orders AS SIGNED) FROM sales WHERE id = {sale}");
    after::until(&bed.urls, &returned, 1).await;
    proxy.set(Direction::ToServer, Flow::CutReplyTo(r#""type":"order.cancelled""#));
    buyers.ordering(2..=5, PAUSE).await.unwrap();
    eventually(HEALED, async || match metric("seckill_events_refused_total").await {
        refused if refused >= 2 => Ok(()),
        refused => Err((refused, worker.log())),
    })
    .await;
    proxy.set(Direction::ToServer, Flow::Pass);
    after::until(&bed.urls, &returned, 5).await;
    let report = after::at_rest(&bed.urls, &gateway, sale).await;
    assert_eq!((report.remaining, report.sold, report.returning), (Some(10), 0, 0), "{report:?}");
    after::until(&bed.urls, "SELECT COUNT(*) FROM notices", 5).await;
    let counted = format!(
        "SELECT CAST(SUM(orders) AS SIGNED) FROM funnel WHERE sale_id = {sale} AND stage = 'order.cancelled'"
    );
    after::until(&bed.urls, &counted, 5).await;
    // Somebody did get an event twice.
    let repeated = r#"seckill_events_taken_total{subscriber="restock",outcome="repeated"}"#;
    assert!(metric(repeated).await > 0, "no event came twice");
}

/// For 20 s connections stay open and nothing comes back.
async fn black_hole(server: Server) {
    let bed = Bed::start().await;
    let (proxy, urls) = behind(&bed, server).await;
    let gateway = urls.gateway(GATEWAY).await;
    let _worker = urls.worker(&["--drain-rate", "100"]).await;
    let sale = gateway.open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    let load = buyers.ordering(1..=USERS, PAUSE);
    eventually(HEALED, async || {
        let promised = buyers.promised().len();
        if promised >= 50 { Ok(()) } else { Err(promised) }
    })
    .await;
    proxy.set_both(Flow::Swallow);
    sleep(Duration::from_secs(20)).await;
    proxy.set_both(Flow::Pass);
    load.await.unwrap();
    buyers.retry_all().await;
    assert_eq!(check(&bed.urls, &gateway, sale, STOCK, &buyers).await, STOCK, "{server:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_does_not_answer_for_20_seconds() {
    let _turn = turn("redis_does_not_answer_for_20_seconds").await;
    black_hole(Server::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_does_not_answer_for_20_seconds() {
    let _turn = turn("rabbitmq_does_not_answer_for_20_seconds").await;
    black_hole(Server::Rabbit).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_does_not_answer_for_20_seconds() {
    let _turn = turn("mysql_does_not_answer_for_20_seconds").await;
    black_hole(Server::MySql).await;
}
