//! Starts Redis, RabbitMQ and MySQL as the tests do: private, on free ports. Prints where they are, as variables of `seckill`, and
//! stops them when its standard input ends. `scripts/bench.sh` uses it.

use std::io::{copy, sink, stdin};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let cluster = seckill_testkit::cluster().await;
    println!("SECKILL_REDIS_URL={}", cluster.redis_url);
    println!("SECKILL_AMQP_URL={}", cluster.amqp_url);
    println!("SECKILL_MYSQL_URL={}", cluster.mysql_url);
    copy(&mut stdin(), &mut sink())?;
    Ok(())
}
