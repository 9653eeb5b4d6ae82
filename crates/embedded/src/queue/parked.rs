//! Parked batches: reading them, and setting those aside that belong to another ledger. Unlike RabbitMQ this queue has nothing
//! unrouted.

use seckill_core::{Fault, LedgerId, OrderBatch, ParkedMessage, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection, SqlitePool};

use super::fault;
use crate::sqlite::WriteConnection;

/// A longer body is cut off where batches are listed.
const LONGEST_BODY: usize = 64 * 1_024;

/// Notes that the file belongs to `ledger`. Where it belonged to another ledger, all its batches are parked first, and those
/// of the oldest versions, which name no ledger, too.
pub(super) async fn adopt(connection: &mut WriteConnection, ledger: LedgerId) -> Result<(), Fault> {
    let mut transaction = connection.begin().await?;
    let before: Option<String> = sqlx::query_scalar("SELECT ledger_id FROM owner")
        .fetch_optional(transaction.connection())
        .await
        .map_err(|error| fault(&error))?;
    let ours = ledger.to_string();
    if before.as_ref() == Some(&ours) {
        return transaction.rollback().await;
    }
    let parked =
        change_owner(transaction.connection(), before, &ours).await.map_err(|error| fault(&error))?;
    transaction.commit().await?;
    if parked > 0 {
        metrics::counter!("seckill_parked_messages_total").increment(parked);
        tracing::error!(batches = parked, "the queue had batches of another ledger, and they were parked");
    }
    Ok(())
}

async fn change_owner(
    connection: &mut SqliteConnection,
    before: Option<String>,
    ours: &str,
) -> sqlx::Result<u64> {
    let mut parked = 0;
    if let Some(theirs) = before {
        let reason = format!("its orders are of the ledger {theirs}; this is the ledger {ours}");
        let park = "INSERT INTO parked (id, orders, body, reason, parked_at) \
                    SELECT id, orders, body, ?, ? FROM batches";
        let now = seckill_core::now().timestamp_millis();
        parked = sqlx::query(park).bind(reason).bind(now).execute(&mut *connection).await?.rows_affected();
        sqlx::query("DELETE FROM batches").execute(&mut *connection).await?;
        sqlx::query("DELETE FROM owner").execute(&mut *connection).await?;
    }
    sqlx::query("INSERT INTO owner (ledger_id) VALUES (?)").bind(ours).execute(&mut *connection).await?;
    Ok(parked)
}

/// Up to `limit` parked batches, oldest first.
pub(super) async fn list(reader: &SqlitePool, limit: usize) -> Result<Vec<ParkedMessage>, Fault> {
    // As bytes: a body that is no text at all must not hide the others.
    const SQL: &str =
        "SELECT id, reason, parked_at, CAST(body AS BLOB) FROM parked ORDER BY parked_at, id LIMIT ?";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = sqlx::query(SQL).bind(limit).fetch_all(reader).await;
    rows.and_then(|rows| rows.iter().map(read).collect()).map_err(|error| fault(&error))
}

fn read(row: &SqliteRow) -> sqlx::Result<ParkedMessage> {
    let body: Vec<u8> = row.try_get(3)?;
    let batch: Option<OrderBatch> = serde_json::from_slice(&body).ok();
    let text = String::from_utf8_lossy(&body);
    Ok(ParkedMessage {
        id: row.try_get::<i64, _>(0)?.to_string(),
        reason: row.try_get(1)?,
        parked_at: Timestamp::from_timestamp_millis(row.try_get(2)?),
        unrouted: false,
        batch,
        body: text[..text.floor_char_boundary(LONGEST_BODY)].to_owned(),
    })
}

pub(super) async fn count(reader: &SqlitePool) -> Result<u64, Fault> {
    let count = sqlx::query_scalar("SELECT COUNT(*) FROM parked").fetch_one(reader).await;
    count.map(i64::unsigned_abs).map_err(|error| fault(&error))
}

/// The row of an id that [`list`] has shown.
pub(super) fn row_of(id: &str) -> Option<i64> {
    id.parse().ok()
}
