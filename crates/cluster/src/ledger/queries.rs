//! What is asked of the database outside a commit: one function a query. Runs alike on MySQL and MariaDB.
//!
//! Times are bound as `naive_utc()`, which goes as a DATETIME: a time with its zone goes as a TIMESTAMP, and of a
//! TIMESTAMP after 2038 MariaDB makes NULL.

use seckill_core::{
    CancelReason, Claim, Ended, Epoch, LedgerId, LedgerOrder, LedgerTotals, Mode, NewSale, OrderId,
    OrderStatus, Rebuild, RebuildStep, RejectReason, Sale, SaleId, SaleState, Timestamp, UserId,
};
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{Error, FromRow, Result, Row};
use uuid::Uuid;

use super::statements;

/// Orders of one user in one sale, at the most.
const ORDERS_OF_USER: u32 = 100;

/// All of a sale, and whether the lease on its rebuild holds; what follows says which sales.
macro_rules! sales_and {
    () => {
        "SELECT sales.*, rebuild_lease > UTC_TIMESTAMP(3) AS lease_holds FROM sales "
    };
}
pub(super) use sales_and;

/// The server's clock in milliseconds since 1970: what `UTC_TIMESTAMP(3)` says, also after 2038. A signed number.
macro_rules! now_ms {
    () => {
        "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)"
    };
}
pub(super) use now_ms;

pub(super) async fn ledger_id(connection: &mut MySqlConnection) -> Result<LedgerId> {
    let row = sqlx::raw_sql("SELECT id FROM ledger_identity").fetch_one(connection).await?;
    uuid(row.try_get("id")?).map(LedgerId)
}

/// In one transaction with the count of what was rejected before the sale existed.
pub(super) async fn insert_sale(
    connection: &mut MySqlConnection,
    sale: NewSale,
    mode: Mode,
) -> Result<SaleId> {
    statements::begin(connection).await?;
    let inserted = sqlx::query(
        "INSERT INTO sales (name, product, stock, price_cents, currency, per_user_limit, starts_at, ends_at, epoch, \
         payment_window_ms, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(3))",
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
    .bind(sale.payment_window_ms)
    .execute(&mut *connection)
    .await?;
    let id = SaleId(inserted.last_insert_id());
    count_earlier_rejections(connection, id).await?;
    statements::commit(connection).await?;
    Ok(id)
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
        "SELECT id, sale_id, user_id, quantity, amount_cents, status, NULL AS reason, cancel_reason, accepted_at, committed_at AS recorded_at \
         FROM orders WHERE id = ? \
         UNION ALL \
         SELECT order_id, sale_id, user_id, quantity, CAST(0 AS UNSIGNED), 'rejected', reason, NULL, accepted_at, created_at \
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
        "SELECT id, sale_id, user_id, quantity, amount_cents, status, NULL AS reason, cancel_reason, accepted_at, committed_at AS recorded_at \
         FROM orders WHERE sale_id = ? AND user_id = ? \
         UNION ALL \
         SELECT order_id, sale_id, user_id, quantity, CAST(0 AS UNSIGNED), 'rejected', reason, NULL, accepted_at, created_at \
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
        "(SELECT id, sale_id, user_id, quantity, amount_cents, status, NULL AS reason, cancel_reason, accepted_at, committed_at AS recorded_at \
          FROM orders FORCE INDEX (PRIMARY) WHERE sale_id = ? AND id > ? ORDER BY id LIMIT ?) \
         UNION ALL \
         (SELECT order_id, sale_id, user_id, quantity, CAST(0 AS UNSIGNED), 'rejected', reason, NULL, accepted_at, created_at \
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

pub(super) struct SaleRow(pub(super) Sale);

impl FromRow<'_, MySqlRow> for SaleRow {
    fn from_row(row: &MySqlRow) -> Result<Self> {
        let (mode, epoch) = Mode::from_stored_epoch(row.try_get("epoch")?);
        let state = sale_state(row.try_get("state")?)?;
        Ok(Self(Sale {
            id: SaleId(row.try_get("id")?),
            name: row.try_get("name")?,
            product: row.try_get("product")?,
            stock: row.try_get("stock")?,
            sold: row.try_get("sold")?,
            orders: row.try_get("orders")?,
            rejected_orders: row.try_get("rejected_orders")?,
            payment_window_ms: row.try_get("payment_window_ms")?,
            ended: Ended {
                orders: row.try_get("ended_orders")?,
                units: row.try_get("ended_units")?,
                returned_orders: row.try_get("returned_orders")?,
                returned_units: row.try_get("returned_units")?,
            },
            price_cents: row.try_get("price_cents")?,
            currency: row.try_get("currency")?,
            per_user_limit: row.try_get("per_user_limit")?,
            starts_at: row.try_get("starts_at")?,
            ends_at: row.try_get("ends_at")?,
            mode,
            epoch,
            state,
            rebuild: (state == SaleState::Rebuilding).then(|| rebuild(row)).transpose()?,
            open_epoch: row.try_get("open_epoch")?,
            created_at: row.try_get("created_at")?,
        }))
    }
}

/// How far a rebuild is. Without an owner whose lease holds, it waits for one.
fn rebuild(row: &MySqlRow) -> Result<Rebuild> {
    let since = row.try_get("rebuild_since")?;
    let owner: Option<Vec<u8>> = row.try_get("rebuild_owner")?;
    let holds = row.try_get::<Option<i64>, _>("lease_holds")? == Some(1);
    let Some(owner) = owner.filter(|_| holds) else {
        return Ok(Rebuild { step: RebuildStep::Waiting, done: 0, total: None, since, owner: None });
    };
    let step: String = row.try_get("rebuild_step")?;
    Ok(Rebuild {
        step: RebuildStep::parse(&step)
            .ok_or_else(|| Error::Decode(format!("no step of a rebuild: {step:?}").into()))?,
        done: row.try_get("rebuild_done")?,
        total: row.try_get("rebuild_total")?,
        since,
        owner: Some(uuid(&owner)?),
    })
}

struct OrderRow(LedgerOrder);

impl FromRow<'_, MySqlRow> for OrderRow {
    fn from_row(row: &MySqlRow) -> Result<Self> {
        let claim = claim(row)?;
        let reason: Option<String> = row.try_get("reason")?;
        let rejected = reason.as_deref().map(reject_reason).transpose()?;
        let status = match rejected {
            Some(_) => OrderStatus::Rejected,
            None => order_status(row)?,
        };
        Ok(Self(LedgerOrder {
            sale_id: SaleId(row.try_get("sale_id")?),
            claim,
            amount_cents: row.try_get("amount_cents")?,
            status,
            rejected,
            cancelled: cancel_reason(row)?,
            recorded_at: row.try_get("recorded_at")?,
        }))
    }
}

/// What rows of `orders` and of `rejections` have in common.
pub(super) fn claim(row: &MySqlRow) -> Result<Claim> {
    Ok(Claim {
        order_id: order_id(row.try_get("id")?)?,
        user_id: UserId(row.try_get("user_id")?),
        quantity: row.try_get("quantity")?,
        accepted_at: row.try_get::<Timestamp, _>("accepted_at")?,
    })
}

pub(super) fn order_status(row: &MySqlRow) -> Result<OrderStatus> {
    let text: String = row.try_get("status")?;
    OrderStatus::parse_committed(&text)
        .ok_or_else(|| Error::Decode(format!("no state of an order: {text:?}").into()))
}

pub(super) fn cancel_reason(row: &MySqlRow) -> Result<Option<CancelReason>> {
    let text: Option<String> = row.try_get("cancel_reason")?;
    let read = |text: String| {
        CancelReason::parse(&text)
            .ok_or_else(|| Error::Decode(format!("no reason for a cancellation: {text:?}").into()))
    };
    text.map(read).transpose()
}

/// A moment that is stored in milliseconds since 1970.
pub(super) fn moment(millis: u64) -> Result<Timestamp> {
    i64::try_from(millis)
        .ok()
        .and_then(Timestamp::from_timestamp_millis)
        .ok_or_else(|| Error::Decode(format!("no moment: {millis} ms since 1970").into()))
}

pub(super) fn order_id(bytes: &[u8]) -> Result<OrderId> {
    uuid(bytes).map(OrderId)
}

pub(super) fn uuid(bytes: &[u8]) -> Result<Uuid> {
    Uuid::from_slice(bytes).map_err(|error| Error::Decode(error.into()))
}

pub(super) fn reject_reason(text: &str) -> Result<RejectReason> {
    RejectReason::parse(text)
        .ok_or_else(|| Error::Decode(format!("no reason for a rejection: {text:?}").into()))
}

pub(super) fn sale_state(text: &str) -> Result<SaleState> {
    SaleState::parse(text).ok_or_else(|| Error::Decode(format!("no state of a sale: {text:?}").into()))
}
