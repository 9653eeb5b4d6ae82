//! What is asked of the database outside a commit: one function a query. Runs alike on MySQL and MariaDB.
//!
//! Times are bound as `naive_utc()`, which goes as a DATETIME: a time with its zone goes as a TIMESTAMP, and of a
//! TIMESTAMP after 2038 MariaDB makes NULL.

use seckill_core::{
    Claim, Epoch, LedgerOrder, LedgerTotals, Mode, NewSale, Order, OrderId, RejectReason, Sale, SaleId,
    Timestamp, UserId,
};
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{Error, FromRow, Result, Row};
use uuid::Uuid;

/// Orders of one user in one sale, at the most.
const ORDERS_OF_USER: u32 = 100;

pub(super) async fn insert_sale(
    connection: &mut MySqlConnection,
    sale: NewSale,
    mode: Mode,
) -> Result<SaleId> {
    let inserted = sqlx::query(
        "INSERT INTO sales (name, product, stock, price_cents, currency, per_user_limit, starts_at, ends_at, epoch, \
         created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(3))",
    )
    .bind(&sale.name)
    .bind(sale.product())
    .bind(sale.stock)
    .bind(sale.price_cents)
    .bind(&sale.currency)
    .bind(sale.per_user_limit)
    .bind(sale.starts_at.naive_utc())
    .bind(sale.ends_at.naive_utc())
    .bind(mode.stored_epoch())
    .execute(connection)
    .await?;
    Ok(SaleId(inserted.last_insert_id()))
}

pub(super) async fn mark_opened(connection: &mut MySqlConnection, sale: SaleId, epoch: Epoch) -> Result<()> {
    let update = sqlx::query("UPDATE sales SET epoch = ? WHERE id = ? AND epoch < ?");
    update.bind(epoch).bind(sale.0).bind(epoch).execute(connection).await.map(drop)
}

pub(super) async fn sale(connection: &mut MySqlConnection, id: SaleId) -> Result<Option<Sale>> {
    let found =
        sqlx::query_as("SELECT * FROM sales WHERE id = ?").bind(id.0).fetch_optional(connection).await?;
    Ok(found.map(|SaleRow(sale)| sale))
}

pub(super) async fn sales(connection: &mut MySqlConnection, limit: u32) -> Result<Vec<Sale>> {
    let newest = sqlx::query_as("SELECT * FROM sales ORDER BY id DESC LIMIT ?").bind(limit);
    Ok(newest.fetch_all(connection).await?.into_iter().map(|SaleRow(sale)| sale).collect())
}

pub(super) async fn order(connection: &mut MySqlConnection, id: OrderId) -> Result<Option<LedgerOrder>> {
    // CAST: a plain 0 and an unsigned column would make a DECIMAL of both.
    let found = sqlx::query_as(
        "SELECT id, sale_id, user_id, quantity, amount_cents, NULL AS reason, accepted_at, committed_at AS recorded_at \
         FROM orders WHERE id = ? \
         UNION ALL \
         SELECT order_id, sale_id, user_id, quantity, CAST(0 AS UNSIGNED), reason, accepted_at, created_at \
         FROM rejections WHERE order_id = ?",
    );
    let id = id.0.as_bytes().as_slice();
    let found = found.bind(id).bind(id).fetch_optional(connection).await?;
    Ok(found.map(|OrderRow(order)| order))
}

pub(super) async fn orders_of(
    connection: &mut MySqlConnection,
    user: UserId,
    sale: SaleId,
) -> Result<Vec<LedgerOrder>> {
    let found = sqlx::query_as(
        "SELECT id, sale_id, user_id, quantity, amount_cents, NULL AS reason, accepted_at, committed_at AS recorded_at \
         FROM orders WHERE sale_id = ? AND user_id = ? \
         UNION ALL \
         SELECT order_id, sale_id, user_id, quantity, CAST(0 AS UNSIGNED), reason, accepted_at, created_at \
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
        "(SELECT id, sale_id, user_id, quantity, amount_cents, NULL AS reason, accepted_at, committed_at AS recorded_at \
          FROM orders FORCE INDEX (PRIMARY) WHERE sale_id = ? AND id > ? ORDER BY id LIMIT ?) \
         UNION ALL \
         (SELECT order_id, sale_id, user_id, quantity, CAST(0 AS UNSIGNED), reason, accepted_at, created_at \
          FROM rejections FORCE INDEX (PRIMARY) WHERE sale_id = ? AND order_id > ? ORDER BY order_id LIMIT ?) \
         ORDER BY id LIMIT ?",
    );
    // An empty string of bytes comes before every id.
    let after = after.map_or_else(Vec::new, |id| id.0.as_bytes().to_vec());
    let found = found.bind(sale.0).bind(&after).bind(limit).bind(sale.0).bind(&after).bind(limit).bind(limit);
    Ok(found.fetch_all(connection).await?.into_iter().map(|OrderRow(order)| order).collect())
}

/// One statement, so that all its counts are of one moment.
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

struct SaleRow(Sale);

impl FromRow<'_, MySqlRow> for SaleRow {
    fn from_row(row: &MySqlRow) -> Result<Self> {
        let (mode, epoch) = Mode::from_stored_epoch(row.try_get("epoch")?);
        Ok(Self(Sale {
            id: SaleId(row.try_get("id")?),
            name: row.try_get("name")?,
            product: row.try_get("product")?,
            stock: row.try_get("stock")?,
            sold: row.try_get("sold")?,
            orders: row.try_get("orders")?,
            rejected_orders: row.try_get("rejected_orders")?,
            price_cents: row.try_get("price_cents")?,
            currency: row.try_get("currency")?,
            per_user_limit: row.try_get("per_user_limit")?,
            starts_at: row.try_get("starts_at")?,
            ends_at: row.try_get("ends_at")?,
            mode,
            epoch,
            created_at: row.try_get("created_at")?,
        }))
    }
}

struct OrderRow(LedgerOrder);

impl FromRow<'_, MySqlRow> for OrderRow {
    fn from_row(row: &MySqlRow) -> Result<Self> {
        let claim = Claim {
            order_id: order_id(row.try_get("id")?)?,
            user_id: UserId(row.try_get("user_id")?),
            quantity: row.try_get("quantity")?,
            accepted_at: row.try_get::<Timestamp, _>("accepted_at")?,
        };
        let reason: Option<String> = row.try_get("reason")?;
        Ok(Self(LedgerOrder {
            order: Order { sale_id: SaleId(row.try_get("sale_id")?), claim },
            amount_cents: row.try_get("amount_cents")?,
            rejected: reason.as_deref().map(reject_reason).transpose()?,
            recorded_at: row.try_get("recorded_at")?,
        }))
    }
}

pub(super) fn order_id(bytes: &[u8]) -> Result<OrderId> {
    Uuid::from_slice(bytes).map(OrderId).map_err(|error| Error::Decode(error.into()))
}

pub(super) fn reject_reason(text: &str) -> Result<RejectReason> {
    RejectReason::parse(text)
        .ok_or_else(|| Error::Decode(format!("no reason for a rejection: {text:?}").into()))
}
