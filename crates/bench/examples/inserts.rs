//! `inserts ORDERS`: the least that writing orders into MySQL can be. As many connections as a worker has lanes put rows of a worker's
//! size into a table like `orders`, 500 in a statement, and nothing else. Prints how many a second. `scripts/bench.sh` measures a
//! worker's drain beside it. The database is that of SECKILL_MYSQL_URL, which has seckill's schema.

use std::fmt::Write as _;
use std::time::Instant;

use seckill_core::OrderId;
use sqlx::{Connection, Executor, MySqlConnection};

const CONNECTIONS: u64 = 2;
/// Rows in a statement, which is a transaction of its own. A worker has 100 in a statement and up to 2,000 in a transaction, which is
/// about as fast here.
const ROWS: u64 = 500;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("SECKILL_MYSQL_URL")?;
    let orders: u64 = std::env::args().nth(1).ok_or("how many orders?")?.parse()?;
    let mut connection = MySqlConnection::connect(&url).await?;
    connection.execute("DROP TABLE IF EXISTS bench_orders").await?;
    connection.execute("CREATE TABLE bench_orders LIKE orders").await?;
    let begin = Instant::now();
    let writers: Vec<_> = (0..CONNECTIONS)
        .map(|writer| tokio::spawn(write(url.clone(), writer * orders, orders / CONNECTIONS)))
        .collect();
    for writer in writers {
        writer.await??;
    }
    println!("{:.0}", orders as f64 / begin.elapsed().as_secs_f64());
    connection.execute("DROP TABLE bench_orders").await?;
    Ok(())
}

/// Writes orders of as many users, from `first` on.
async fn write(url: String, first: u64, orders: u64) -> Result<(), sqlx::Error> {
    let mut connection = MySqlConnection::connect(&url).await?;
    let mut users = first..first + orders;
    while !users.is_empty() {
        let mut sql = String::from(
            "INSERT INTO bench_orders (id, sale_id, user_id, quantity, amount_cents, status, active, accepted_at, committed_at) VALUES ",
        );
        for (at, user) in users.by_ref().take(ROWS as usize).enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let id = OrderId::generate().0.simple();
            write!(sql, "{comma}(0x{id},1,{user},1,0,'committed',1,NOW(6),NOW(6))").expect("a string");
        }
        connection.execute(sqlx::AssertSqlSafe(sql)).await?;
    }
    Ok(())
}
