//! The outbox: events that were written in the transaction of what they tell of, until the bus has them.

use std::ops::RangeInclusive;
use std::time::Duration;

use async_trait::async_trait;
use seckill_core::{Event, EventMessage, Fault, Outbox, OutboxDepth, OutboxEvent, OutboxState, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};
use uuid::Uuid;

use super::{SqliteLedger, fault, money, rows};
use crate::sqlite::ROWS_A_STATEMENT;

/// What is kept of the bus's words.
const LONGEST_ERROR: usize = 500;
/// Events of one claim, at the most.
const MAX_CLAIM: u32 = 500;

/// Adds events that are due at once.
pub(super) async fn insert(connection: &mut SqliteConnection, events: &[Event]) -> Result<(), Fault> {
    let now = seckill_core::now().timestamp_millis();
    for chunk in events.chunks(ROWS_A_STATEMENT) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO outbox (id, kind, subject, body, next_attempt_at, created_at) ",
        );
        query.push_values(chunk, |mut row, event| {
            let EventMessage { id, kind, text } = event.message();
            row.push_bind(id.as_bytes().to_vec()).push_bind(kind).push_bind(&event.subject).push_bind(text);
            row.push(now).push(now);
        });
        query.build().persistent(false).execute(&mut *connection).await.map_err(fault)?;
    }
    Ok(())
}

#[async_trait]
impl Outbox for SqliteLedger {
    async fn claim(&self, limit: u32, lease: Duration) -> Result<Vec<OutboxEvent>, Fault> {
        // The list of due events is in the index, numbers included: no body is read to sort them.
        const DUE: &str = "SELECT * FROM outbox WHERE number IN (SELECT number FROM outbox INDEXED BY outbox_by_state \
                           WHERE state = 'pending' AND next_attempt_at <= ? ORDER BY number LIMIT ?) ORDER BY number";
        const ANY: &str = "SELECT 1 FROM outbox WHERE state = 'pending' AND next_attempt_at <= ? LIMIT 1";
        if !self.is_any(ANY, seckill_core::now().timestamp_millis()).await? {
            return Ok(Vec::new());
        }
        let mut connection = self.writing.connection.lock().await;
        let mut transaction = connection.begin().await?;
        let now = seckill_core::now();
        let query = sqlx::query(DUE).bind(now.timestamp_millis()).bind(limit.min(MAX_CLAIM));
        let found = query.fetch_all(transaction.connection()).await.map_err(fault)?;
        let mut claimed = found.iter().map(event).collect::<Result<Vec<_>, _>>()?;
        if claimed.is_empty() {
            return transaction.rollback().await.map(|()| claimed);
        }
        let until = later(now, lease);
        let mut query =
            QueryBuilder::<Sqlite>::new("UPDATE outbox SET attempts = attempts + 1, next_attempt_at = ");
        query.push_bind(until.timestamp_millis()).push(" WHERE id IN (");
        rows::push_list(&mut query, claimed.iter().map(|event| event.message.id.as_bytes().to_vec()));
        query.build().persistent(false).execute(transaction.connection()).await.map_err(fault)?;
        transaction.commit().await?;
        for event in &mut claimed {
            event.attempts += 1;
            event.next_attempt_at = until;
        }
        Ok(claimed)
    }

    async fn mark_sent(&self, events: &[Uuid]) -> Result<(), Fault> {
        for chunk in events.chunks(ROWS_A_STATEMENT) {
            // From now on the column says since when it has been sent.
            let mut query =
                QueryBuilder::<Sqlite>::new("UPDATE outbox SET state = 'sent', next_attempt_at = ");
            query.push_bind(seckill_core::now().timestamp_millis());
            query.push(" WHERE state = 'pending' AND id IN (");
            rows::push_list(&mut query, chunk.iter().map(|id| id.as_bytes().to_vec()));
            self.change(query.build().persistent(false)).await?;
        }
        Ok(())
    }

    async fn mark_failed(
        &self,
        event: Uuid,
        reason: &str,
        retry_after: Option<Duration>,
    ) -> Result<(), Fault> {
        const SQL: &str = "UPDATE outbox SET state = ?, next_attempt_at = ?, error = ? \
                           WHERE id = ? AND state = 'pending'";
        let state = if retry_after.is_some() { OutboxState::Pending } else { OutboxState::Parked };
        let due = later(seckill_core::now(), retry_after.unwrap_or_default());
        let update = sqlx::query(SQL)
            .bind(state.as_str())
            .bind(due.timestamp_millis())
            .bind(reason.chars().take(LONGEST_ERROR).collect::<String>())
            .bind(event.as_bytes().to_vec());
        self.change(update).await.map(drop)
    }

    async fn list(&self, state: OutboxState, limit: u32) -> Result<Vec<OutboxEvent>, Fault> {
        const SQL: &str = "SELECT * FROM outbox WHERE number IN (SELECT number FROM outbox INDEXED BY outbox_by_state \
                           WHERE state = ? ORDER BY number LIMIT ?) ORDER BY number";
        let query = sqlx::query(SQL).bind(state.as_str()).bind(limit);
        query.fetch_all(&self.readers).await.map_err(fault)?.iter().map(event).collect()
    }

    async fn find(&self, id: Uuid) -> Result<Option<OutboxEvent>, Fault> {
        let query = sqlx::query("SELECT * FROM outbox WHERE id = ?").bind(id.as_bytes().to_vec());
        query.fetch_optional(&self.readers).await.map_err(fault)?.as_ref().map(event).transpose()
    }

    async fn redrive(&self, event: Uuid) -> Result<bool, Fault> {
        const SQL: &str =
            "UPDATE outbox SET state = 'pending', attempts = 0, next_attempt_at = ? WHERE id = ?";
        let now = seckill_core::now().timestamp_millis();
        Ok(self.change(sqlx::query(SQL).bind(now).bind(event.as_bytes().to_vec())).await? == 1)
    }

    async fn discard(&self, event: Uuid) -> Result<bool, Fault> {
        let delete = sqlx::query("DELETE FROM outbox WHERE id = ? AND state = 'parked'");
        Ok(self.change(delete.bind(event.as_bytes().to_vec())).await? == 1)
    }

    async fn depth(&self) -> Result<OutboxDepth, Fault> {
        const SQL: &str = "SELECT (SELECT COUNT(*) FROM outbox WHERE state = 'pending') AS pending, \
                           (SELECT COUNT(*) FROM outbox WHERE state = 'parked') AS parked, \
                           (SELECT created_at FROM outbox WHERE number = (SELECT MIN(number) FROM outbox \
                           INDEXED BY outbox_by_state WHERE state = 'pending')) AS oldest";
        let row = sqlx::query(SQL).fetch_one(&self.readers).await.map_err(fault)?;
        let pending = rows::number(&row, "pending")?;
        let oldest_pending = (pending > 0).then(|| rows::moment(&row, "oldest")).transpose()?;
        let parked = rows::number(&row, "parked")?;
        Ok(OutboxDepth { pending, parked, oldest_pending, now: seckill_core::now() })
    }

    async fn not_taken_in(
        &self,
        consumer: &str,
        kinds: &[&str],
        ages: RangeInclusive<Duration>,
        limit: u32,
    ) -> Result<Vec<Uuid>, Fault> {
        let ago = |age: &Duration| seckill_core::now().timestamp_millis().saturating_sub(millis(*age));
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT id FROM outbox INDEXED BY outbox_by_state WHERE state = 'sent' AND next_attempt_at BETWEEN ",
        );
        query.push_bind(ago(ages.end())).push(" AND ").push_bind(ago(ages.start()));
        query.push(" AND NOT EXISTS (SELECT 1 FROM inbox WHERE consumer = ");
        query.push_bind(consumer.to_owned()).push(" AND event_id = outbox.id) AND kind IN (");
        rows::push_list(&mut query, kinds.iter().map(|kind| (*kind).to_owned()));
        query.push(" ORDER BY number LIMIT ").push_bind(limit);
        let found = query.build().fetch_all(&self.readers).await.map_err(fault)?;
        let id = |row: &SqliteRow| Uuid::from_slice(rows::get(row, "id")?).map_err(rows::corrupt);
        found.iter().map(id).collect()
    }

    async fn forget_sent(&self, age: Duration, limit: u32) -> Result<u64, Fault> {
        const SQL: &str = "DELETE FROM outbox WHERE number IN (SELECT number FROM outbox INDEXED BY outbox_by_state \
                           WHERE state = 'sent' AND next_attempt_at <= ? LIMIT ?)";
        const ANY: &str = "SELECT 1 FROM outbox WHERE state = 'sent' AND next_attempt_at <= ? LIMIT 1";
        let before = seckill_core::now().timestamp_millis().saturating_sub(millis(age));
        if self.is_any(money::OLD_REQUESTS, before).await? {
            self.change(money::forget_requests(before)).await?;
        }
        if !self.is_any(ANY, before).await? {
            return Ok(0);
        }
        self.change(sqlx::query(SQL).bind(before).bind(limit)).await
    }
}

impl SqliteLedger {
    /// Whether `sql` finds an event of up to `millis`. Whoever finds nothing to do keeps nobody from writing.
    async fn is_any(&self, sql: &'static str, millis: i64) -> Result<bool, Fault> {
        let found = sqlx::query(sql).bind(millis).fetch_optional(&self.readers).await;
        found.map(|row| row.is_some()).map_err(fault)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The moment `wait` from now. No wait that anybody means is longer than a year.
fn later(now: Timestamp, wait: Duration) -> Timestamp {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);
    let millis = millis(wait.min(YEAR)).unsigned_abs();
    now + Duration::from_millis(millis)
}

/// A row of `outbox`.
fn event(row: &SqliteRow) -> Result<OutboxEvent, Fault> {
    let id: &[u8] = rows::get(row, "id")?;
    let state: &str = rows::get(row, "state")?;
    let message = EventMessage {
        id: Uuid::from_slice(id).map_err(rows::corrupt)?,
        kind: rows::get(row, "kind")?,
        text: rows::get(row, "body")?,
    };
    Ok(OutboxEvent {
        message,
        subject: rows::get(row, "subject")?,
        state: OutboxState::parse(state)
            .ok_or_else(|| rows::corrupt(format!("{state:?} is no state of an event")))?,
        attempts: rows::number(row, "attempts")?,
        next_attempt_at: rows::moment(row, "next_attempt_at")?,
        created_at: rows::moment(row, "created_at")?,
        error: rows::get(row, "error")?,
    })
}
