//! What a test may do to a server of its own: lose its data, put an older state in place, freeze it, make it refuse.

use std::time::Duration;

use deadpool_redis::redis;
use seckill_testkit::{Alarm, FaultProxy, PrivateMySql, PrivateRabbit, PrivateRedis, eventually};
use serde_json::{Value, json};
use sqlx::{Connection, MySqlConnection};

const DEADLINE: Duration = Duration::from_secs(60);

async fn run<T: redis::FromRedisValue>(server: &PrivateRedis, words: &[&str]) -> redis::RedisResult<T> {
    let mut connection = redis::Client::open(server.url())?.get_multiplexed_async_connection().await?;
    redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await
}

async fn add(server: &PrivateRedis) -> redis::RedisResult<i64> {
    run(server, &["INCR", "counter"]).await
}

async fn counter(server: &PrivateRedis) -> i64 {
    run::<Option<i64>>(server, &["GET", "counter"]).await.unwrap().unwrap_or(0)
}

#[tokio::test]
async fn redis_loses_what_the_test_wants() {
    let server = PrivateRedis::start().await;
    assert_eq!(add(&server).await.unwrap(), 1);
    let copy = server.copy_data().await;
    let before = server.append_only_bytes();
    assert_eq!(add(&server).await.unwrap(), 2);
    server.restart().await;
    assert_eq!(counter(&server).await, 2);

    // Its last second.
    server.kill().await;
    server.cut_append_only_file(server.append_only_bytes() - before);
    server.start_again().await;
    assert_eq!(counter(&server).await, 1);
    assert_eq!(add(&server).await.unwrap(), 2);

    // A command that was written in part.
    server.kill().await;
    server.cut_append_only_file(1);
    server.start_again().await;
    assert_eq!(counter(&server).await, 1);

    add(&server).await.unwrap();
    server.restart_empty().await;
    assert_eq!(counter(&server).await, 0);
    server.restart_from(&copy).await;
    assert_eq!(counter(&server).await, 1);
}

#[tokio::test]
async fn redis_refuses_writes_while_the_test_wants_it() {
    let server = PrivateRedis::start().await;
    add(&server).await.unwrap();
    server.set_max_memory(1).await;
    assert_eq!(add(&server).await.unwrap_err().code(), Some("OOM"));
    assert_eq!(counter(&server).await, 1);
    server.set_max_memory(0).await;
    assert_eq!(add(&server).await.unwrap(), 2);

    server.set_read_only(true).await;
    assert_eq!(add(&server).await.unwrap_err().code(), Some("READONLY"));
    assert_eq!(counter(&server).await, 2);
    server.set_read_only(false).await;
    assert_eq!(add(&server).await.unwrap(), 3);
}

#[tokio::test]
async fn a_frozen_redis_answers_later() {
    let server = PrivateRedis::start().await;
    server.freeze().await;
    assert!(tokio::time::timeout(Duration::from_millis(200), add(&server)).await.is_err());
    server.thaw().await;
    add(&server).await.unwrap();
}

async fn mysql(server: &PrivateMySql, sql: &'static str) -> u64 {
    let mut connection = MySqlConnection::connect(&server.url()).await.unwrap();
    let done = sqlx::raw_sql(sql).execute(&mut connection).await.unwrap().rows_affected();
    connection.close().await.unwrap();
    done
}

async fn rows(server: &PrivateMySql) -> i64 {
    let mut connection = MySqlConnection::connect(&server.url()).await.unwrap();
    let rows = sqlx::query_scalar("SELECT COUNT(*) FROM `lines`").fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    rows
}

#[tokio::test]
async fn mysql_goes_back_to_a_copy_or_to_nothing() {
    let server = PrivateMySql::start().await;
    let url = server.url();
    mysql(&server, "CREATE TABLE `lines` (id INT PRIMARY KEY) ENGINE=InnoDB").await;
    mysql(&server, "INSERT INTO `lines` VALUES (1)").await;
    let copy = server.copy_data().await;
    mysql(&server, "INSERT INTO `lines` VALUES (2)").await;
    server.restart().await;
    assert_eq!(rows(&server).await, 2);
    server.restart_from(&copy).await;
    assert_eq!(rows(&server).await, 1);
    server.restart_empty().await;
    mysql(&server, "CREATE TABLE `lines` (id INT PRIMARY KEY) ENGINE=InnoDB").await;
    assert_eq!(rows(&server).await, 0);
    // The copy is still what it was.
    server.restart_from(&copy).await;
    assert_eq!(rows(&server).await, 1);
    assert_eq!(server.url(), url);
}

/// RabbitMQ over its HTTP API, which is enough to see messages.
struct Api {
    url: String,
    client: reqwest::Client,
}

impl Api {
    fn of(server: &PrivateRabbit) -> Self {
        Self { url: server.management_url(), client: reqwest::Client::new() }
    }

    async fn declare(&self) {
        let arguments = json!({"durable": true, "arguments": {"x-queue-type": "quorum"}});
        let queue = self.client.put(format!("{}/api/queues/%2f/orders", self.url)).json(&arguments);
        queue.send().await.unwrap().error_for_status().unwrap();
    }

    /// Published and confirmed; `Err` with the status of a message that was nacked.
    async fn publish(&self) -> Result<(), u16> {
        let message = json!({
            "properties": {"delivery_mode": 2},
            "routing_key": "orders",
            "payload": "order",
            "payload_encoding": "string",
        });
        let publish = self.client.post(format!("{}/api/exchanges/%2f/amq.default/publish", self.url));
        let answer = publish.json(&message).send().await.unwrap();
        if answer.status().is_success() { Ok(()) } else { Err(answer.status().as_u16()) }
    }

    /// Takes a message and gives it back; counts those that a look can get.
    async fn messages(&self) -> Result<usize, String> {
        let look = json!({"count": 100, "ackmode": "ack_requeue_true", "encoding": "auto"});
        let get = self.client.post(format!("{}/api/queues/%2f/orders/get", self.url)).json(&look);
        let answer = get.send().await.and_then(reqwest::Response::error_for_status);
        let messages: Vec<Value> =
            answer.map_err(|error| error.to_string())?.json().await.map_err(|error| error.to_string())?;
        Ok(messages.len())
    }

    async fn has(&self, expected: usize) {
        eventually(DEADLINE, async || match self.messages().await {
            Ok(seen) if seen == expected => Ok(()),
            other => Err(other),
        })
        .await;
    }
}

#[tokio::test]
async fn rabbitmq_goes_back_to_a_copy_or_to_nothing() {
    let server = PrivateRabbit::start().await;
    let api = Api::of(&server);
    api.declare().await;
    // A new queue is written down with a delay; killed before that, it comes back empty.
    tokio::time::sleep(Duration::from_secs(1)).await;
    api.publish().await.unwrap();
    let copy = server.copy_data().await;
    api.publish().await.unwrap();
    server.restart().await;
    api.has(2).await;
    server.restart_from(&copy).await;
    api.has(1).await;
    server.restart_empty().await;
    api.messages().await.unwrap_err();
    api.declare().await;
    api.has(0).await;
}

#[tokio::test]
async fn rabbitmq_refuses_and_forgets_while_the_test_wants_it() {
    let server = PrivateRabbit::start().await;
    let (api, vhost) = (Api::of(&server), server.vhost());
    api.declare().await;
    vhost.limit_queue("orders", 1).await;
    // The limit is reached after a few more messages than it says.
    eventually(DEADLINE, async || match api.publish().await {
        Ok(()) => Err("taken"),
        Err(_) => Ok(()),
    })
    .await;
    vhost.unlimit_queue("orders").await;
    eventually(DEADLINE, async || api.publish().await).await;
    vhost.purge_queue("orders").await;
    api.has(0).await;
    api.publish().await.unwrap();
    vhost.delete_queue("orders").await;
    api.messages().await.unwrap_err();

    for alarm in [Alarm::Memory, Alarm::Disk] {
        server.set_alarm(alarm, true).await;
        server.set_alarm(alarm, false).await;
    }
}

#[tokio::test]
async fn a_proxy_outlives_restarts_of_its_server() {
    let server = PrivateRedis::start().await;
    let proxy = FaultProxy::start(server.url()).await;
    let client = redis::Client::open(proxy.url(server.url())).unwrap();
    let ping = async || {
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("PING").query_async::<String>(&mut connection).await
    };
    assert_eq!(ping().await.unwrap(), "PONG");
    server.kill().await;
    ping().await.unwrap_err();
    server.start_again().await;
    assert_eq!(ping().await.unwrap(), "PONG");
}
