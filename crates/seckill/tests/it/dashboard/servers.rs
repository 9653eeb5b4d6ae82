//! The station of a server that does not do its work is red with the reason, and the chart has marks of what happened to it.

use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Connection as AmqpConnection, ConnectionProperties};
use seckill_testkit::{Alarm, Browser, PrivateMySql, PrivateRabbit, PrivateRedis};
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::demonstration::{Demonstration, On};
use super::page::{assert_quiet, fill, marked, open};
use super::trouble::{banner, health, reason};
use crate::process::{Role, Urls, accepted};

const DEMO: (&str, &str) = ("SECKILL_DEMO", "1");

/// A server refuses to write, and the station says so until it writes again.
async fn assert_red(browser: &Browser, station: &str, why: &str) {
    browser.wait_for(&health(station, "bad")).await;
    let said = reason(browser, station).await;
    assert!(said.contains(why), "{station}: {said}");
}

/// Makes MySQL refuse everybody's writes but those of users with every right, or take them again.
async fn set_read_only(admin: &mut MySqlConnection, read_only: bool) {
    let set = format!("SET GLOBAL read_only = {}", u8::from(read_only));
    admin.execute(sqlx::raw_sql(AssertSqlSafe(set))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_station_of_a_server_that_is_away_blocked_or_read_only_is_red_with_the_reason() {
    let (redis, rabbit, mysql) =
        tokio::join!(PrivateRedis::start(), PrivateRabbit::start(), PrivateMySql::start());
    let urls = Urls { redis: redis.url(), amqp: rabbit.url(), mysql: mysql.url(), queue_redis: None };
    urls.migrate().await;
    let mut admin = MySqlConnection::connect(&urls.mysql).await.unwrap();
    for statement in [
        "CREATE USER 'shop'@'127.0.0.1' IDENTIFIED BY 'shop'",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON seckill.* TO 'shop'@'127.0.0.1'",
    ] {
        admin.execute(statement).await.unwrap();
    }
    let urls = Urls { mysql: urls.mysql.replace("seckill:seckill@", "shop:shop@"), ..urls };
    let environment: Vec<_> = urls.environment().into_iter().chain([DEMO]).collect();
    let gateway = Role::start("gateway", &[], &environment).await;
    let _worker = Role::start("worker", &[], &environment).await;
    let sale = gateway.open_sale(100).await;
    let browser = Browser::start().await;
    browser.goto(&gateway.url()).await;
    for station in ["gate", "queue", "database", "worker"] {
        browser.wait_for(&health(station, "ok")).await;
    }
    browser.wait_for("document.querySelectorAll('[data-process]').length === 2").await;

    // Its answer to questions stays as it was: the worker hears of it by the first order.
    set_read_only(&mut admin, true).await;
    accepted(gateway.order(sale, 1).await);
    assert_red(&browser, "database", "read-only").await;
    set_read_only(&mut admin, false).await;
    browser.wait_for(&health("database", "ok")).await;
    drop(admin);
    mysql.stop().await;
    assert_red(&browser, "database", "Cannot be used").await;
    browser.wait_for(&banner("down ledger")).await;
    browser.assert_accessible("without MySQL").await;
    mysql.start_again().await;
    browser.wait_for(&health("database", "ok")).await;
    browser.wait_for("document.querySelector('[data-code=server_up]')").await;

    // RabbitMQ blocks a connection once something is published on it. That order's outcome is not known.
    rabbit.set_alarm(Alarm::Memory, true).await;
    let _ = gateway.order(sale, 2).await;
    assert_red(&browser, "queue", "short of memory or disk").await;
    rabbit.set_alarm(Alarm::Memory, false).await;
    browser.wait_for(&health("queue", "ok")).await;
    rabbit.stop().await;
    browser.wait_for(&health("queue", "bad")).await;
    rabbit.start_again().await;
    browser.wait_for(&health("queue", "ok")).await;

    redis.set_read_only(true).await;
    assert_red(&browser, "gate", "read only replica").await;
    redis.set_read_only(false).await;
    browser.wait_for(&health("gate", "ok")).await;
    // Without Redis no process hears of another. The page is told by its own gateway, and nobody counts as gone.
    redis.stop().await;
    browser.wait_for(&health("gate", "bad")).await;
    browser.wait_for(&banner("cut off")).await;
    fill(&browser, "theme", "dark").await;
    browser.assert_accessible("without Redis, dark").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(browser.get("document.querySelectorAll('[data-process]').length").await, 2);
    redis.start_again().await;
    browser.wait_for(&health("gate", "ok")).await;
    browser.wait_for(&format!("!{}", banner("cut off"))).await;
    browser.wait_for("document.getElementById('banners').hidden").await;
    assert_eq!(browser.get("document.querySelectorAll('[data-code=process_vanished]').length").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rebuilds_parked_messages_and_workers_that_join_are_marked() {
    let mut demonstration = Demonstration::new(On::Cluster).await;
    let sale = demonstration.gateway.open_sale(10).await;
    accepted(demonstration.gateway.order(sale, 1).await);
    let browser = open(&demonstration).await;
    browser.wait_for("document.querySelectorAll('[data-process]').length === 3").await;
    browser.get("document.querySelector('#window input[value=\"120\"]').click()").await;

    let cluster = demonstration.cluster.as_ref().unwrap();
    let connection =
        AmqpConnection::connect(&cluster.amqp_url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let sent = channel.basic_publish("".into(), "seckill.orders".into(), options, b"no order", properties);
    sent.await.unwrap().await.unwrap();
    browser.wait_for(&marked("1 parked")).await;

    cluster.flush_redis().await;
    browser.wait_for(&banner("rebuilding")).await;
    assert_red(&browser, "gate", "Being rebuilt").await;
    browser.wait_for(&marked("Rebuild")).await;
    demonstration.add_worker().await;
    browser.wait_for(&marked("worker joined")).await;
    browser.wait_for(&marked("Rebuilt")).await;
    browser.wait_for(&health("gate", "ok")).await;
    assert_quiet(&browser, &demonstration).await;
}
