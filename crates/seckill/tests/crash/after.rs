//! Processes that die after the order: while orders expire, while events are on their way, while money comes and goes.

use std::time::Duration;

use seckill_client::{Buyer, Error, PaymentBody, PaymentStatus, PaymentView};
use seckill_core::{AbortPoint, AuditReport, OrderId, OrderStatus, RETURN_HOLD, Verdict};
use seckill_testkit::eventually;
use serde_json::{Value, json};
use sqlx::mysql::MySqlConnection;
use sqlx::{Connection, Row};
use tokio::time::sleep;

use crate::bed::{Bed, GATEWAY, HEALED, Servers, died, turn};
use crate::buyers::Buyers;
use crate::check::audit_now;
use crate::process::{Role, Urls};

const STOCK: u32 = 30;
const PRICE: u64 = 1_234;
const PAUSE: Duration = Duration::from_millis(5);
/// A payment window that nobody pays in, and one that nobody misses.
const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(3_600);

/// Opens a sale whose orders can be paid for `window`.
pub(crate) async fn open_sale(gateway: &Role, stock: u64, price: u64, window: Duration) -> u64 {
    let sale = json!({
        "name": "after", "stock": stock, "price_cents": price, "payment_window_ms": window.as_millis() as u64,
        "ends_at": "2999-01-01T00:00:00Z",
    });
    let sale = serde_json::from_value(sale).unwrap();
    gateway.admin().create_sale_once(&sale, None).await.unwrap().value.sale.id.0
}

/// What a statement counts or sums; a sum of no rows is 0.
async fn count(urls: &Urls, sql: &str) -> u64 {
    let mut mysql = MySqlConnection::connect(&urls.mysql).await.unwrap();
    let row = sqlx::query(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(&mut mysql).await.unwrap();
    row.get::<Option<i64>, _>(0).unwrap_or(0).unsigned_abs()
}

/// Waits until a count in SQL is so many.
pub(crate) async fn until(urls: &Urls, sql: &str, expected: u64) {
    eventually(HEALED, async || {
        let found = count(urls, sql).await;
        if found == expected { Ok(()) } else { Err(format!("{found} instead of {expected}: {sql}")) }
    })
    .await;
}

/// Waits until nothing is on its way any more and the audit is clean, in stock and in money.
pub(crate) async fn at_rest(urls: &Urls, gateway: &Role, sale: u64) -> AuditReport {
    until(urls, "SELECT COUNT(*) FROM outbox WHERE state <> 'sent'", 0).await;
    eventually(HEALED, async || match audit_now(gateway, sale).await.1 {
        report if report.verdict == Verdict::Clean && report.pending_orders == Some(0) => Ok(report),
        report => Err(report),
    })
    .await
}

/// A worker dies while orders run out of time and their units go back on sale: everything ends, and each effect is there once.
pub(crate) async fn worker_dies_while_orders_expire(point: AbortPoint) {
    let bed = Bed::start().await;
    let gateway = bed.urls.gateway(GATEWAY).await;
    let mut victim = bed.urls.armed("worker", &[], point, 1).await;
    let sale = open_sale(&gateway, STOCK.into(), PRICE, SHORT).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    let load = buyers.ordering(1..=u64::from(STOCK), PAUSE);
    died(&mut victim, point).await;
    let _fresh = bed.urls.worker(&[]).await;
    load.await.unwrap();
    let ended = format!("SELECT CAST(returned_orders AS SIGNED) FROM sales WHERE id = {sale}");
    until(&bed.urls, &ended, u64::from(STOCK)).await;
    let report = at_rest(&bed.urls, &gateway, sale).await;
    assert_eq!((report.remaining, report.sold, report.returning), (Some(STOCK), 0, 0), "{report:?}");
    let counted = |stage: &str| {
        format!("SELECT CAST(SUM(orders) AS SIGNED) FROM funnel WHERE sale_id = {sale} AND stage = '{stage}'")
    };
    for stage in ["order.committed", "order.cancelled"] {
        until(&bed.urls, &counted(stage), u64::from(STOCK)).await;
    }
    let notices = "SELECT COUNT(*) FROM notices";
    until(&bed.urls, notices, u64::from(STOCK)).await;
    // All units are sold again, to others and to the same, once the gate no longer withholds those that came back last.
    sleep(RETURN_HOLD).await;
    let again = Buyers::of(sale, &[&gateway]);
    again.ordering(1..=u64::from(STOCK), PAUSE).await.unwrap();
    assert_eq!(again.promised().len(), STOCK as usize);
}

/// RabbitMQ loses everything between its confirm of an event and the subscribers: the outbox knows what nobody has taken in.
#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_emptied_while_events_are_under_way() {
    let _turn = turn("rabbitmq_emptied_while_events_are_under_way").await;
    let servers = Servers::start().await;
    let urls = &servers.urls;
    let gateway = urls.gateway(GATEWAY).await;
    // It publishes the events of the expired orders, records that, and dies before it takes the first of them in.
    let mut victim = urls.armed("worker", &[], AbortPoint::RestockReleased, 1).await;
    let sale = open_sale(&gateway, STOCK.into(), PRICE, SHORT).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    buyers.ordering(1..=u64::from(STOCK), PAUSE).await.unwrap();
    died(&mut victim, AbortPoint::RestockReleased).await;
    servers.rabbit.restart_empty().await;
    let _fresh = urls.worker(&[]).await;
    let returned = format!("SELECT CAST(returned_orders AS SIGNED) FROM sales WHERE id = {sale}");
    until(urls, &returned, u64::from(STOCK)).await;
    let report = at_rest(urls, &gateway, sale).await;
    assert_eq!((report.remaining, report.sold), (Some(STOCK), 0), "{report:?}");
    let notices = "SELECT COUNT(*) FROM notices";
    until(urls, notices, u64::from(STOCK)).await;
}

/// Redis loses everything while orders are cancelled: the gate is rebuilt without them, and no unit is on sale twice.
#[tokio::test(flavor = "multi_thread")]
async fn redis_emptied_while_units_are_returning() {
    let _turn = turn("redis_emptied_while_units_are_returning").await;
    let servers = Servers::start().await;
    let urls = &servers.urls;
    let gateway = urls.gateway(GATEWAY).await;
    let _worker = urls.worker(&[]).await;
    let sale = open_sale(&gateway, STOCK.into(), PRICE, SHORT).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    let load = buyers.ordering(1..=u64::from(STOCK), PAUSE);
    until(urls, &format!("SELECT CAST(ended_orders > 0 AS SIGNED) FROM sales WHERE id = {sale}"), 1).await;
    servers.redis.restart_empty().await;
    load.await.unwrap();
    let report = at_rest(urls, &gateway, sale).await;
    assert_eq!(report.remaining.map(u64::from).unwrap() + report.sold, u64::from(STOCK), "{report:?}");
    // Whatever else was ordered meanwhile expires, too, and comes back.
    let left = format!("SELECT CAST(orders AS SIGNED) FROM sales WHERE id = {sale}");
    until(urls, &left, 0).await;
    let report = at_rest(urls, &gateway, sale).await;
    assert_eq!((report.remaining, report.sold, report.returning), (Some(STOCK), 0, 0), "{report:?}");
}

/// An order that is committed, and its buyer's id.
async fn committed(gateway: &Role, sale: u64, user: u64) -> OrderId {
    let order = OrderId(Buyers::of(sale, &[gateway]).order(user).await.unwrap());
    until_it_is(OrderStatus::Committed, &gateway.buyer(user), order).await;
    order
}

/// Waits until a buyer's order stands so.
async fn until_it_is(status: OrderStatus, buyer: &Buyer, order: OrderId) {
    eventually(HEALED, async || match buyer.order_status(order).await {
        Ok(found) if found.status == status => Ok(()),
        other => Err(other),
    })
    .await;
}

/// Pays by card.
async fn pay(gateway: &Role, user: u64, order: OrderId, key: &str) -> Result<PaymentView, Error> {
    let payment = PaymentBody { card: Some("tok_visa".to_owned()), ..PaymentBody::default() };
    gateway.buyer(user).pay(order, &payment, key).await
}

/// Sends the same request until it has an answer that stands.
async fn paid(gateway: &Role, user: u64, order: OrderId, key: &str) -> PaymentView {
    eventually(HEALED, async || match pay(gateway, user, order, key).await {
        Ok(answer) if answer.status == PaymentStatus::Paid => Ok(answer),
        other => Err(other),
    })
    .await
}

async fn bank(urls: &Urls) -> Role {
    Role::start("bank", &[], &urls.environment()).await
}

async fn bank_totals(bank: &Role) -> Value {
    bank.get("/v1/totals").await.1
}

/// A gateway dies while an order is paid: the buyer asks again with the same key, and the card is charged once.
pub(crate) async fn gateway_dies_while_an_order_is_paid(point: AbortPoint) {
    let bed = Bed::start().await;
    let bank = bank(&bed.urls).await;
    let url = bank.url();
    let with_bank = ["--bank-url", url.as_str()];
    let gateway_args = [GATEWAY, &with_bank[..]].concat();
    let mut victim = bed.urls.armed("gateway", &gateway_args, point, 1).await;
    let _worker = bed.urls.worker(&with_bank).await;
    let sale = open_sale(&victim, STOCK.into(), PRICE, LONG).await;
    let order = committed(&victim, sale, 1).await;
    let answered = pay(&victim, 1, order, "key-1").await;
    assert!(matches!(answered, Err(Error::AnswerLost { .. })), "{}: {answered:?}", point.name());
    died(&mut victim, point).await;
    let fresh = bed.urls.gateway(&gateway_args).await;
    let first = paid(&fresh, 1, order, "key-1").await;
    assert_eq!(paid(&fresh, 1, order, "key-1").await, first);
    let report = at_rest(&bed.urls, &fresh, sale).await;
    let money = report.money.unwrap();
    assert_eq!((money.charged_cents, money.refunded_cents, money.paid_cents), (PRICE, 0, PRICE));
    let totals = bank_totals(&bank).await;
    assert_eq!((totals["charges"].as_u64(), totals["charged_cents"].as_u64()), (Some(1), Some(PRICE)));
    until(&bed.urls, "SELECT CAST(SUM(points) AS SIGNED) FROM points", PRICE / 100).await;
}

/// A process dies while money goes back: all of it arrives, once.
pub(crate) async fn somebody_dies_while_money_goes_back(point: AbortPoint) {
    let bed = Bed::start().await;
    let bank = bank(&bed.urls).await;
    let url = bank.url();
    let with_bank = ["--bank-url", url.as_str()];
    let gateway_args = [GATEWAY, &with_bank[..]].concat();
    let in_gateway = point == AbortPoint::RefundWritten;
    let role = if in_gateway { "gateway" } else { "worker" };
    let args: &[&str] = if in_gateway { &gateway_args } else { &with_bank };
    let mut victim = bed.urls.armed(role, args, point, 1).await;
    let other = match in_gateway {
        true => bed.urls.worker(&with_bank).await,
        false => bed.urls.gateway(&gateway_args).await,
    };
    let gateway = if in_gateway { &victim } else { &other };
    let sale = open_sale(gateway, STOCK.into(), PRICE, LONG).await;
    let order = committed(gateway, sale, 1).await;
    paid(gateway, 1, order, "key-1").await;
    let asked = gateway.buyer(1).refund(order, "").await;
    assert_eq!(asked.is_err(), in_gateway, "{asked:?}");
    died(&mut victim, point).await;
    let fresh = if in_gateway { bed.urls.gateway(&gateway_args).await } else { bed.urls.worker(args).await };
    let gateway = if in_gateway { &fresh } else { &other };
    gateway.buyer(1).refund(order, "").await.unwrap();
    until_it_is(OrderStatus::Refunded, &gateway.buyer(1), order).await;
    let report = at_rest(&bed.urls, gateway, sale).await;
    assert_eq!((report.remaining, report.sold), (Some(STOCK), 0), "{report:?}");
    let money = report.money.unwrap();
    assert_eq!((money.charged_cents, money.refunded_cents, money.paid_cents), (PRICE, PRICE, 0));
    let totals = bank_totals(&bank).await;
    let refunded = (totals["refunds"].as_u64(), totals["refunded_cents"].as_u64());
    assert_eq!(refunded, (Some(1), Some(PRICE)), "{totals}");
    until(&bed.urls, "SELECT CAST(SUM(points) AS SIGNED) FROM points", 0).await;
}
