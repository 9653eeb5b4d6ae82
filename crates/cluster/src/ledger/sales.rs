//! What operators create and change: a sale under its idempotency key, and the changes of a sale. Runs alike on MySQL and
//! MariaDB.
//!
//! Updates find the sale by its primary key only, as in `rebuild`.

use seckill_core::{Mode, NewSale, RequestKey, Sale, SaleChange, SaleChanged, SaleId};
use sqlx::mysql::MySqlConnection;
use sqlx::{Error, FromRow, Result, Row};

use super::rows::{self, SaleRow, sales_and};
use super::server::{code, number};
use super::{queries, statements};

/// What became of an insertion.
pub(super) enum Inserted {
    Sale(SaleId),
    /// There is a sale of this key.
    KeyTaken,
    /// Another transaction has inserted the key and has not ended.
    UnderWay,
}

/// In one transaction with the count of what was rejected before the sale existed. Another transaction that has inserted the same
/// key is waited for.
pub(super) async fn insert(
    connection: &mut MySqlConnection,
    sale: NewSale,
    mode: Mode,
    key: Option<RequestKey>,
) -> Result<Inserted> {
    statements::begin(connection).await?;
    let inserted = sqlx::query(
        "INSERT INTO sales (name, product, stock, price_cents, currency, per_user_limit, starts_at, ends_at, epoch, \
         payment_window_ms, admission, created_at, request_key, request_hash) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(3), ?, ?)",
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
    .bind(rows::admission_text(&sale.admission()))
    .bind(key.as_ref().map(|key| key.key.as_str()))
    .bind(key.as_ref().map(|key| key.hash.as_slice()))
    .execute(&mut *connection)
    .await;
    let id = match inserted {
        Ok(inserted) => SaleId(inserted.last_insert_id()),
        Err(error) => {
            let taken = match number(&error) {
                Some(code::DUPLICATE_ENTRY) => Inserted::KeyTaken,
                Some(code::LOCK_WAIT_TIMEOUT) => Inserted::UnderWay,
                _ => return Err(error),
            };
            statements::roll_back(connection).await?;
            return Ok(taken);
        }
    };
    queries::count_earlier_rejections(connection, id).await?;
    statements::commit(connection).await?;
    Ok(Inserted::Sale(id))
}

/// The sale that was created under a key, and the hash of that request.
pub(super) async fn of_key(
    connection: &mut MySqlConnection,
    key: String,
) -> Result<Option<(Sale, [u8; 32])>> {
    let found = sqlx::query(concat!(sales_and!(), "WHERE request_key = ?")).bind(key);
    let Some(row) = found.fetch_optional(connection).await? else { return Ok(None) };
    let hash: &[u8] = row.try_get("request_hash")?;
    let hash = hash.try_into().map_err(|_| Error::Decode("a hash of a request has 32 bytes".into()))?;
    let SaleRow(sale) = SaleRow::from_row(&row)?;
    Ok(Some((sale, hash)))
}

/// Changes a sale as the rule decides, under a lock on its row.
pub(super) async fn change(
    connection: &mut MySqlConnection,
    id: SaleId,
    change: SaleChange,
) -> Result<SaleChanged> {
    statements::begin(connection).await?;
    let found = sqlx::query_as(concat!(sales_and!(), "WHERE id = ? FOR UPDATE")).bind(id.0);
    let changed = match found.fetch_optional(&mut *connection).await? {
        None => SaleChanged::NoSuchSale,
        Some(SaleRow(sale)) => match change.apply(&sale, seckill_core::now()) {
            Err(why) => SaleChanged::Refused(why),
            Ok(next) => {
                if next.revision != sale.revision {
                    restore_changes(connection, &next).await?;
                }
                SaleChanged::Done(Box::new(next))
            }
        },
    };
    statements::commit(connection).await?;
    Ok(changed)
}

/// Records what `sale` says that can be changed, where the ledger has the sale on an earlier revision. Its stock never gets less.
pub(super) async fn restore_changes(connection: &mut MySqlConnection, sale: &Sale) -> Result<()> {
    let update = sqlx::query(
        "UPDATE sales FORCE INDEX (PRIMARY) SET name = ?, product = ?, stock = GREATEST(stock, ?), ends_at = ?, paused = ?, \
         revision = ? WHERE id = ? AND created_at = ? AND revision < ?",
    );
    let update = update.bind(&sale.name).bind(&sale.product).bind(sale.stock).bind(sale.ends_at.naive_utc());
    let update = update.bind(sale.paused).bind(sale.revision).bind(sale.id.0);
    let update = update.bind(sale.created_at.naive_utc()).bind(sale.revision);
    update.execute(connection).await.map(drop)
}
