//! What operators create and change: a sale under its idempotency key, and the changes of a sale.

use seckill_core::{Fault, Mode, NewSale, RequestKey, Sale, SaleChange, SaleChanged, SaleId};
use sqlx::{Row, SqliteConnection, SqlitePool};

use super::{fault, rebuild, rows};

/// Inserts a new sale; `None`: the key was used before, and the transaction has to be undone.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    sale: &NewSale,
    mode: Mode,
    key: Option<&RequestKey>,
) -> Result<Option<Sale>, Fault> {
    const SQL: &str = "INSERT INTO sales (name, product, stock, price_cents, currency, per_user_limit, starts_at, \
                       ends_at, payment_window_ms, admission, epoch, created_at, request_key, request_hash) \
                       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id";
    let inserted = sqlx::query_scalar(SQL)
        .bind(&sale.name)
        .bind(sale.product())
        .bind(sale.stock)
        .bind(rows::cents(sale.price_cents))
        .bind(&sale.currency)
        .bind(sale.per_user_limit)
        .bind(sale.starts_at.timestamp_millis())
        .bind(sale.ends_at.timestamp_millis())
        .bind(sale.payment_window_ms.map(rows::count))
        .bind(rows::admission_text(&sale.admission()))
        .bind(mode.stored_epoch())
        .bind(seckill_core::now().timestamp_millis())
        .bind(key.map(|key| key.key.as_str()))
        .bind(key.map(|key| key.hash.to_vec()))
        .fetch_one(&mut *connection)
        .await;
    match inserted {
        Ok(id) => rebuild::count_earlier_rejections(connection, id).await.map(Some),
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(None),
        Err(error) => Err(fault(error)),
    }
}

/// The sale that was created under a key, and the hash of that request.
pub(super) async fn of_key(readers: &SqlitePool, key: &str) -> Result<Option<(Sale, [u8; 32])>, Fault> {
    let query = sqlx::query("SELECT * FROM sales WHERE request_key = ?").bind(key);
    let Some(row) = query.fetch_optional(readers).await.map_err(fault)? else { return Ok(None) };
    let hash: &[u8] = row.try_get("request_hash").map_err(rows::corrupt)?;
    Ok(Some((rows::sale(&row)?, hash.try_into().map_err(rows::corrupt)?)))
}

/// Changes a sale as the rule decides. The transaction has the write lock, so nothing changes meanwhile.
pub(super) async fn change(
    connection: &mut SqliteConnection,
    id: SaleId,
    change: &SaleChange,
) -> Result<SaleChanged, Fault> {
    let query = sqlx::query("SELECT * FROM sales WHERE id = ?").bind(id.0.cast_signed());
    let Some(row) = query.fetch_optional(&mut *connection).await.map_err(fault)? else {
        return Ok(SaleChanged::NoSuchSale);
    };
    let sale = rows::sale(&row)?;
    let next = match change.apply(&sale, seckill_core::now()) {
        Ok(next) => next,
        Err(why) => return Ok(SaleChanged::Refused(why)),
    };
    if next.revision != sale.revision {
        restore_changes(connection, &next).await?;
    }
    Ok(SaleChanged::Done(Box::new(next)))
}

/// Records what `sale` says that can be changed, where the ledger has the sale on an earlier revision. Its stock never gets less.
pub(super) async fn restore_changes(connection: &mut SqliteConnection, sale: &Sale) -> Result<(), Fault> {
    const SQL: &str = "UPDATE sales SET name = ?1, product = ?2, stock = MAX(stock, ?3), ends_at = ?4, paused = ?5, \
                       revision = ?6 WHERE id = ?7 AND created_at = ?8 AND revision < ?6";
    let update = sqlx::query(SQL)
        .bind(&sale.name)
        .bind(&sale.product)
        .bind(sale.stock)
        .bind(sale.ends_at.timestamp_millis())
        .bind(sale.paused)
        .bind(sale.revision)
        .bind(sale.id.0.cast_signed())
        .bind(sale.created_at.timestamp_millis());
    update.execute(connection).await.map(drop).map_err(fault)
}
