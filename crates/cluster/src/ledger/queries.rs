//! What is asked of the database outside a commit: one function a query. Runs alike on MySQL and MariaDB.
//!
//! Times are bound as `naive_utc()`, which goes as a DATETIME: a time with its zone goes as a TIMESTAMP, and of a
//! TIMESTAMP after 2038 MariaDB makes NULL.

use seckill_core::{Claim, Epoch, LedgerId, LedgerOrder, LedgerTotals, OrderId, Sale, SaleId, UserId};
use sqlx::mysql::MySqlConnection;
use sqlx::{FromRow, Result, Row};

use super::rows::{OrderRow, SaleRow, claim, sales_and, uuid};
use super::statements;

/// Orders of one user in one sale, at the most.
const ORDERS_OF_USER: u32 = 100;

pub(super) async fn ledger_id(connection: &mut MySqlConnection) -> Result<LedgerId> {
    let row = sqlx::raw_sql("SELECT id FROM ledger_identity").fetch_one(connection).await?;
    uuid(row.try_get("id")?).map(LedgerId)
}

/// Counts the rejections of a sale that this transaction has inserted. A writer that rejects orders of the sale because it
/// did not find it is waited for; one that comes later finds the sale, and waits in its turn.
pub(super) async fn count_earlier_rejections(connection: &mut MySqlConnection, sale: SaleId) -> Result<()> {
    let count: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM rejections WHERE sale_id = ? LOCK IN SHARE MODE")
            .bind(sale.0)
            .fetch_one(&mut *connection)
            .await?;
    if count > 0 {
        let update = sqlx::query("UPDATE sales SET rejected_orders = ? WHERE id = ?");
        update.bind(count).bind(sale.0).execute(connection).await?;
    }
    Ok(())
}

pub(super) async fn mark_opened(connection: &mut MySqlConnection, sale: SaleId, epoch: Epoch) -> Result<()> {
    let update = sqlx::query("UPDATE sales SET epoch = ? WHERE id = ? AND epoch < ?");
    update.bind(epoch).bind(sale.0).bind(epoch).execute(connection).await.map(drop)
}

pub(super) async fn sale(connection: &mut MySqlConnection, id: SaleId) -> Result<Option<Sale>> {
    let found = sqlx::query_as(concat!(sales_and!(), "WHERE id = ?")).bind(id.0);
    Ok(found.fetch_optional(connection).await?.map(|SaleRow(sale)| sale))
}

pub(super) async fn sales(connection: &mut MySqlConnection, limit: u32) -> Result<Vec<Sale>> {
    let newest = sqlx::query_as(concat!(sales_and!(), "ORDER BY id DESC LIMIT ?")).bind(limit);
    Ok(newest.fetch_all(connection).await?.into_iter().map(|SaleRow(sale)| sale).collect())
}

pub(super) async fn order(connection: &mut MySqlConnection, id: OrderId) -> Result<Option<LedgerOrder>> {
    // CAST: a plain 0 and an unsigned column would make a DECIMAL of both.
    let found = sqlx::query_as(
        "SELECT id, sale_id, user_id, quantity, amount_cents, status, NULL AS reason, cancel_reason, sequence, accepted_at, committed_at AS recorded_at \
         FROM orders WHERE id = ? \
         UNION ALL \
         SELECT order_id, sale_id, user_id, quantity, CAST(0 AS UNSIGNED), 'rejected', reason, NULL, CAST(0 AS UNSIGNED), accepted_at, created_at \
         FROM rejections WHERE order_id = ?",
    );
    let id = id.0.as_bytes().as_slice();
    let found = found.bind(id).bind(id).fetch_optional(connection).await?;
    Ok(found.map(|OrderRow(order)| order))
}

/// As text, for the reasons that `statements` gives.
pub(super) async fn orders(connection: &mut MySqlConnection, ids: Vec<OrderId>) -> Result<Vec<LedgerOrder>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = ids.iter().map(statements::uuid).collect();
    let ids = statements::List(&ids);
    let sql = format!(
        "SELECT id, sale_id, user_id, quantity, amount_cents, status, NULL AS reason, cancel_reason, sequence, accepted_at, committed_at AS recorded_at \
         FROM orders WHERE id IN ({ids}) \
         UNION ALL \
         SELECT order_id, sale_id, user_id, quantity, CAST(0 AS UNSIGNED), 'rejected', reason, NULL, CAST(0 AS UNSIGNED), accepted_at, created_at \
         FROM rejections WHERE order_id IN ({ids})"
    );
    let rows = statements::fetch(connection, sql).await?;
    rows.iter().map(|row| OrderRow::from_row(row).map(|OrderRow(order)| order)).collect()
}

pub(super) async fn orders_of(
    connection: &mut MySqlConnection,
    user: UserId,
    sale: SaleId,
) -> Result<Vec<LedgerOrder>> {
    let found = sqlx::query_as(
        "SELECT id, sale_id, user_id, quantity, amount_cents, status, NULL AS reason, cancel_reason, sequence, accepted_at, committed_at AS recorded_at \
         FROM orders WHERE sale_id = ? AND user_id = ? \
         UNION ALL \
         SELECT order_id, sale_id, user_id, quantity, CAST(0 AS UNSIGNED), 'rejected', reason, NULL, CAST(0 AS UNSIGNED), accepted_at, created_at \
         FROM rejections WHERE sale_id = ? AND user_id = ? \
         ORDER BY accepted_at, id LIMIT ?",
    )
    .bind(sale.0)
    .bind(user.0)
    .bind(sale.0)
    .bind(user.0)
    .bind(ORDERS_OF_USER)
    .fetch_all(connection)
    .await?;
    Ok(found.into_iter().map(|OrderRow(order)| order).collect())
}

pub(super) async fn orders_after(
    connection: &mut MySqlConnection,
    sale: SaleId,
    after: Option<OrderId>,
    limit: u32,
) -> Result<Vec<LedgerOrder>> {
    // In the order of the primary key, so that a page costs its own rows; by the key of sale and user the server would
    // sort the whole sale for each page.
    let found = sqlx::query_as(
        "(SELECT id, sale_id, user_id, quantity, amount_cents, status, NULL AS reason, cancel_reason, sequence, accepted_at, committed_at AS recorded_at \
          FROM orders FORCE INDEX (PRIMARY) WHERE sale_id = ? AND id > ? ORDER BY id LIMIT ?) \
         UNION ALL \
         (SELECT order_id, sale_id, user_id, quantity, CAST(0 AS UNSIGNED), 'rejected', reason, NULL, CAST(0 AS UNSIGNED), accepted_at, created_at \
          FROM rejections FORCE INDEX (PRIMARY) WHERE sale_id = ? AND order_id > ? ORDER BY order_id LIMIT ?) \
         ORDER BY id LIMIT ?",
    );
    // An empty string of bytes comes before every id.
    let after = after.map_or_else(Vec::new, |id| id.0.as_bytes().to_vec());
    let found = found.bind(sale.0).bind(&after).bind(limit).bind(sale.0).bind(&after).bind(limit).bind(limit);
    Ok(found.fetch_all(connection).await?.into_iter().map(|OrderRow(order)| order).collect())
}

/// One statement, so that all its counts are of one moment.
pub(super) async fn active_orders(
    connection: &mut MySqlConnection,
    sale: SaleId,
    after: Option<OrderId>,
    limit: u32,
) -> Result<Vec<Claim>> {
    let found = sqlx::query(
        "SELECT id, user_id, quantity, accepted_at FROM orders FORCE INDEX (PRIMARY) \
         WHERE sale_id = ? AND active = 1 AND id > ? ORDER BY id LIMIT ?",
    );
    let after = after.map_or_else(Vec::new, |id| id.0.as_bytes().to_vec());
    let found = found.bind(sale.0).bind(after).bind(limit).fetch_all(connection).await?;
    found.iter().map(claim).collect()
}

/// Marks a sale that is locked as open.
pub(super) async fn finish_rebuild(connection: &mut MySqlConnection, sale: SaleId) -> Result<()> {
    let update = sqlx::query(
        "UPDATE sales SET state = 'open', open_epoch = epoch, rebuild_owner = NULL, rebuild_lease = NULL, rebuild_step = NULL, \
         rebuild_done = NULL, rebuild_total = NULL, rebuild_since = NULL WHERE id = ?",
    );
    update.bind(sale.0).execute(connection).await.map(drop)
}

pub(super) async fn totals(connection: &mut MySqlConnection, sale: SaleId) -> Result<LedgerTotals> {
    let counted = sqlx::query(
        "SELECT CAST(o.n AS UNSIGNED) AS orders, CAST(o.units AS UNSIGNED) AS units, \
                CAST(r.n AS UNSIGNED) AS rejected_orders, CAST(r.units AS UNSIGNED) AS rejected_units, \
                CAST(twice.n + both_ways.n AS UNSIGNED) AS duplicates \
         FROM (SELECT COUNT(*) AS n, COALESCE(SUM(quantity), 0) AS units \
               FROM orders WHERE sale_id = ? AND active = 1) AS o, \
              (SELECT COUNT(*) AS n, COALESCE(SUM(quantity), 0) AS units \
               FROM rejections WHERE sale_id = ?) AS r, \
              (SELECT COUNT(*) AS n \
               FROM (SELECT user_id FROM orders WHERE sale_id = ? AND active = 1 \
                     GROUP BY user_id HAVING COUNT(*) > 1) AS users) AS twice, \
              (SELECT COUNT(*) AS n \
               FROM rejections JOIN orders ON orders.id = rejections.order_id WHERE rejections.sale_id = ?) AS both_ways",
    )
    .bind(sale.0)
    .bind(sale.0)
    .bind(sale.0)
    .bind(sale.0)
    .fetch_one(connection)
    .await?;
    Ok(LedgerTotals {
        orders: counted.try_get("orders")?,
        units: counted.try_get("units")?,
        rejected_orders: counted.try_get("rejected_orders")?,
        rejected_units: counted.try_get("rejected_units")?,
        duplicates: counted.try_get("duplicates")?,
    })
}

/// Asks a question that only a database with the schema can answer.
pub(super) async fn ping(connection: &mut MySqlConnection) -> Result<()> {
    sqlx::query("SELECT 1 FROM sales LIMIT 1").fetch_optional(connection).await.map(drop)
}
