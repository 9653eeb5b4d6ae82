//! The outbox on MySQL: events that wait to be published. They are written with what they tell of, in `statements` and
//! `changes`.
//!
//! `next_attempt_at` says of a pending event when it is due, of a sent one when it was sent, of a parked one when it was parked.

use std::ops::RangeInclusive;
use std::time::Duration;

use async_trait::async_trait;
use seckill_core::{EventMessage, Fault, Outbox, OutboxDepth, OutboxEvent, OutboxState};
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Error, Result as SqlResult, Row};
use uuid::Uuid;

use super::readers::Effect;
use super::rows::{self, now_ms};
use super::statements::{IDS_AT_ONCE, List, binary, execute};
use super::{MySqlLedger, money};

/// The longest text about an error that is kept, in characters.
const LONGEST_ERROR: usize = 500;

/// All of an event; what follows says which events.
macro_rules! events_and {
    () => {
        "SELECT number, id, kind, subject, body, state, attempts, next_attempt_at, created_at, error FROM outbox "
    };
}

#[async_trait]
impl Outbox for MySqlLedger {
    async fn claim(&self, limit: u32, lease: Duration) -> Result<Vec<OutboxEvent>, Fault> {
        // Mostly nothing is due, and then no transaction is begun.
        if !self.readers.run(Effect::Nothing, |c| Box::pin(something_is_due(c))).await? {
            return Ok(Vec::new());
        }
        let mut transaction = self.transactions.begin().await?;
        let claimed = transaction.run(|c| Box::pin(claim(c, limit, lease))).await?;
        transaction.commit().await?;
        Ok(claimed)
    }

    async fn mark_sent(&self, events: &[Uuid]) -> Result<(), Fault> {
        for some in events.chunks(IDS_AT_ONCE) {
            let some = some.to_vec();
            self.readers.run(Effect::OneStatement, |c| Box::pin(mark_sent(c, some))).await?;
        }
        Ok(())
    }

    async fn mark_failed(
        &self,
        event: Uuid,
        reason: &str,
        retry_after: Option<Duration>,
    ) -> Result<(), Fault> {
        let reason: String = reason.chars().take(LONGEST_ERROR).collect();
        let mark =
            self.readers.run(Effect::OneStatement, |c| Box::pin(mark_failed(c, event, reason, retry_after)));
        mark.await
    }

    async fn list(&self, state: OutboxState, limit: u32) -> Result<Vec<OutboxEvent>, Fault> {
        self.counters.run(Effect::Nothing, |c| Box::pin(list(c, state, limit))).await
    }

    async fn find(&self, event: Uuid) -> Result<Option<OutboxEvent>, Fault> {
        self.readers.run(Effect::Nothing, |c| Box::pin(find(c, event))).await
    }

    async fn redrive(&self, event: Uuid) -> Result<bool, Fault> {
        self.readers.run(Effect::OneStatement, |c| Box::pin(redrive(c, event))).await
    }

    async fn discard(&self, event: Uuid) -> Result<bool, Fault> {
        self.readers.run(Effect::OneStatement, |c| Box::pin(discard(c, event))).await
    }

    async fn depth(&self) -> Result<OutboxDepth, Fault> {
        self.counters.run(Effect::Nothing, |c| Box::pin(depth(c))).await
    }

    async fn not_taken_in(
        &self,
        consumer: &str,
        kinds: &[&str],
        ages: RangeInclusive<Duration>,
        limit: u32,
    ) -> Result<Vec<Uuid>, Fault> {
        let (consumer, kinds) = (consumer.to_owned(), kinds.iter().map(|kind| format!("'{kind}'")).collect());
        self.counters.run(Effect::Nothing, |c| Box::pin(not_taken_in(c, consumer, kinds, ages, limit))).await
    }

    async fn forget_sent(&self, age: Duration, limit: u32) -> Result<u64, Fault> {
        self.counters.run(Effect::OneStatement, |c| Box::pin(forget_sent(c, age, limit))).await
    }
}

async fn something_is_due(connection: &mut MySqlConnection) -> SqlResult<bool> {
    let due = sqlx::query(concat!(
        "SELECT 1 FROM outbox FORCE INDEX (outbox_by_state) WHERE state = 'pending' AND next_attempt_at <= ",
        now_ms!(),
        " LIMIT 1"
    ));
    Ok(due.fetch_optional(connection).await?.is_some())
}

/// Claims events that nobody else is claiming or marking. Rows are locked by the index of states first; whoever has one of
/// them locked is passed over and never waited for, so nobody waits in a circle. They are read in the order of that index:
/// sorted otherwise, more rows would be locked than are claimed.
async fn claim(connection: &mut MySqlConnection, limit: u32, lease: Duration) -> SqlResult<Vec<OutboxEvent>> {
    let due = sqlx::query(concat!(
        "SELECT number, id, kind, subject, body, state, attempts, next_attempt_at, created_at, error, ",
        now_ms!(),
        " AS now FROM outbox FORCE INDEX (outbox_by_state) WHERE state = 'pending' AND next_attempt_at <= ",
        now_ms!(),
        " ORDER BY next_attempt_at LIMIT ? FOR UPDATE SKIP LOCKED"
    ));
    let mut rows = due.bind(limit).fetch_all(&mut *connection).await?;
    let Some(first) = rows.first() else { return Ok(Vec::new()) };
    let until = first.try_get::<i64, _>("now")?.saturating_add(millis(lease));
    let numbers: Vec<u64> = rows.iter().map(|row| row.try_get("number")).collect::<SqlResult<_>>()?;
    for some in numbers.chunks(IDS_AT_ONCE) {
        let sql = format!(
            "UPDATE outbox FORCE INDEX (PRIMARY) SET next_attempt_at = {until}, attempts = attempts + 1 \
             WHERE number IN ({})",
            List(some)
        );
        execute(connection, sql).await?;
    }
    // Those that are due first were chosen; of these the oldest come first.
    rows.sort_by_cached_key(|row| row.try_get::<u64, _>("number").ok());
    let claimed = |row: &MySqlRow| {
        let event = event(row)?;
        let next_attempt_at = rows::moment(u64::try_from(until).unwrap_or_default())?;
        Ok(OutboxEvent { attempts: event.attempts + 1, next_attempt_at, ..event })
    };
    rows.iter().map(claimed).collect()
}

async fn mark_sent(connection: &mut MySqlConnection, events: Vec<Uuid>) -> SqlResult<()> {
    let ids: Vec<_> = events.iter().map(binary).collect();
    let sql = format!(
        concat!(
            "UPDATE outbox FORCE INDEX (one_event) SET state = 'sent', next_attempt_at = ",
            now_ms!(),
            " WHERE id IN ({}) AND state <> 'sent'"
        ),
        List(&ids)
    );
    execute(connection, sql).await.map(drop)
}

/// What was parked meanwhile, or what the bus has taken, stays as it is.
async fn mark_failed(
    connection: &mut MySqlConnection,
    event: Uuid,
    reason: String,
    retry_after: Option<Duration>,
) -> SqlResult<()> {
    let update = sqlx::query(concat!(
        "UPDATE outbox FORCE INDEX (one_event) SET state = ?, next_attempt_at = ",
        now_ms!(),
        " + ?, error = ? WHERE id = ? AND state = 'pending'"
    ));
    let state = if retry_after.is_some() { OutboxState::Pending } else { OutboxState::Parked };
    let update = update.bind(state.as_str()).bind(millis(retry_after.unwrap_or_default()));
    update.bind(reason).bind(event.as_bytes().as_slice()).execute(connection).await.map(drop)
}

async fn list(
    connection: &mut MySqlConnection,
    state: OutboxState,
    limit: u32,
) -> SqlResult<Vec<OutboxEvent>> {
    // Their numbers first, from the index alone: the events' texts are long.
    let found = sqlx::query(concat!(
        events_and!(),
        "JOIN (SELECT number AS found FROM outbox FORCE INDEX (outbox_by_state) WHERE state = ? \
               ORDER BY number LIMIT ?) AS oldest ON outbox.number = oldest.found \
         ORDER BY number"
    ));
    let found = found.bind(state.as_str()).bind(limit).fetch_all(connection).await?;
    found.iter().map(event).collect()
}

async fn find(connection: &mut MySqlConnection, id: Uuid) -> SqlResult<Option<OutboxEvent>> {
    let found = sqlx::query(concat!(events_and!(), "WHERE id = ?")).bind(id.as_bytes().as_slice());
    found.fetch_optional(connection).await?.as_ref().map(event).transpose()
}

async fn redrive(connection: &mut MySqlConnection, event: Uuid) -> SqlResult<bool> {
    let update = sqlx::query(concat!(
        "UPDATE outbox FORCE INDEX (one_event) SET state = 'pending', attempts = 0, next_attempt_at = ",
        now_ms!(),
        " WHERE id = ?"
    ));
    // The driver counts rows found, also those that were due already.
    Ok(update.bind(event.as_bytes().as_slice()).execute(connection).await?.rows_affected() == 1)
}

async fn discard(connection: &mut MySqlConnection, event: Uuid) -> SqlResult<bool> {
    let delete = sqlx::query("DELETE FROM outbox WHERE id = ? AND state = 'parked'");
    Ok(delete.bind(event.as_bytes().as_slice()).execute(connection).await?.rows_affected() == 1)
}

async fn depth(connection: &mut MySqlConnection) -> SqlResult<OutboxDepth> {
    // All from the index of states, but for the one row of the oldest event.
    let counted = sqlx::query(concat!(
        "SELECT CAST(pending.n AS UNSIGNED) AS pending, \
                CAST((SELECT COUNT(*) FROM outbox FORCE INDEX (outbox_by_state) WHERE state = 'parked') AS UNSIGNED) \
                    AS parked, \
                (SELECT created_at FROM outbox WHERE number = pending.oldest) AS oldest_pending, ",
        now_ms!(),
        " AS now \
         FROM (SELECT COUNT(*) AS n, MIN(number) AS oldest \
               FROM outbox FORCE INDEX (outbox_by_state) WHERE state = 'pending') AS pending"
    ));
    let row = counted.fetch_one(connection).await?;
    let oldest: Option<u64> = row.try_get("oldest_pending")?;
    let now: i64 = row.try_get("now")?;
    Ok(OutboxDepth {
        pending: row.try_get("pending")?,
        parked: row.try_get("parked")?,
        oldest_pending: oldest.map(rows::moment).transpose()?,
        now: rows::moment(u64::try_from(now).unwrap_or_default())?,
    })
}

/// Finds the events by the index of states without locking them, and removes them by their numbers.
async fn not_taken_in(
    connection: &mut MySqlConnection,
    consumer: String,
    kinds: Vec<String>,
    ages: RangeInclusive<Duration>,
    limit: u32,
) -> SqlResult<Vec<Uuid>> {
    let sql = format!(
        "SELECT id FROM outbox FORCE INDEX (outbox_by_state) WHERE state = 'sent' \
         AND next_attempt_at BETWEEN {now} - ? AND {now} - ? AND kind IN ({}) AND NOT EXISTS (SELECT 1 FROM inbox WHERE consumer = ? AND event_id = outbox.id) \
         ORDER BY number LIMIT ?",
        List(&kinds),
        now = now_ms!(),
    );
    let found = sqlx::query(AssertSqlSafe(sql))
        .bind(millis(*ages.end()))
        .bind(millis(*ages.start()))
        .bind(consumer)
        .bind(limit);
    let read = |row: &MySqlRow| {
        let id: Vec<u8> = row.try_get(0)?;
        Uuid::from_slice(&id).map_err(|error| Error::Decode(error.into()))
    };
    found.fetch_all(connection).await?.iter().map(read).collect()
}

async fn forget_sent(connection: &mut MySqlConnection, age: Duration, limit: u32) -> SqlResult<u64> {
    money::forget_requests(connection, age).await?;
    let old = sqlx::query_scalar(concat!(
        "SELECT number FROM outbox FORCE INDEX (outbox_by_state) WHERE state = 'sent' AND next_attempt_at <= ",
        now_ms!(),
        " - ? ORDER BY next_attempt_at LIMIT ?"
    ));
    let numbers: Vec<u64> = old.bind(millis(age)).bind(limit).fetch_all(&mut *connection).await?;
    let mut forgotten = 0;
    for some in numbers.chunks(IDS_AT_ONCE) {
        // One that was made due again meanwhile stays.
        let sql = format!(
            "DELETE outbox FROM outbox FORCE INDEX (PRIMARY) WHERE outbox.number IN ({}) AND outbox.state = 'sent'",
            List(some)
        );
        forgotten += execute(connection, sql).await?;
    }
    Ok(forgotten)
}

fn event(row: &MySqlRow) -> SqlResult<OutboxEvent> {
    let state: String = row.try_get("state")?;
    let state = OutboxState::parse(&state)
        .ok_or_else(|| Error::Decode(format!("no state of an event: {state:?}").into()))?;
    Ok(OutboxEvent {
        message: EventMessage {
            id: rows::uuid(row.try_get("id")?)?,
            kind: row.try_get("kind")?,
            text: row.try_get("body")?,
        },
        subject: row.try_get("subject")?,
        state,
        attempts: row.try_get("attempts")?,
        next_attempt_at: rows::moment(row.try_get("next_attempt_at")?)?,
        created_at: rows::moment(row.try_get("created_at")?)?,
        error: row.try_get("error")?,
    })
}

/// As many milliseconds as a lease, a pause or an age has; a hundred years at the most.
fn millis(duration: Duration) -> i64 {
    const LONGEST: i64 = 100 * 365 * 24 * 3_600_000;
    i64::try_from(duration.as_millis()).unwrap_or(LONGEST).min(LONGEST)
}
