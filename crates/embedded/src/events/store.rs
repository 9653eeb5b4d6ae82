//! The statements of the event bus. Every function here is one transaction, or a row of short ones.

use std::time::Duration;

use seckill_core::{Dependency, EventMessage, EventPattern, Fault, SubscriberName, Waiting};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, SqlitePool};
use uuid::Uuid;

use super::{Shared, fault};
use crate::sqlite::{ROWS_A_STATEMENT, Transaction, WriteConnection};

/// How long a receiver that says nothing is taken for alive. One that is alive says so several times within it.
pub(super) const LEASE: Duration = Duration::from_secs(15);
/// Rows that one transaction throws away or gives back, at the most.
const BATCH: u32 = 500;

/// An event that is in the hand of a receiver.
pub(super) struct Taken {
    pub(super) number: i64,
    pub(super) message: EventMessage,
}

/// Whether any subscriber wants events of this type.
pub(super) async fn is_wanted(readers: &SqlitePool, kind: &str) -> Result<bool, Fault> {
    let mut reader = readers.acquire().await.map_err(fault)?;
    let subscribers = subscribers(&mut reader).await?;
    Ok(subscribers.iter().any(|(_, patterns)| patterns.iter().any(|pattern| pattern.matches(kind))))
}

/// Writes events, and a delivery of each for every subscriber that wants it.
pub(super) async fn publish(
    connection: &mut WriteConnection,
    events: impl Iterator<Item = &EventMessage> + Send,
) -> Result<(), Fault> {
    let mut transaction = connection.begin().await?;
    let subscribers = subscribers(transaction.connection()).await?;
    for EventMessage { id, kind, text } in events {
        let wants = |(_, patterns): &&(i64, Vec<EventPattern>)| patterns.iter().any(|one| one.matches(kind));
        let readers: Vec<_> = subscribers.iter().filter(wants).map(|(subscriber, _)| *subscriber).collect();
        if readers.is_empty() {
            continue;
        }
        let number = sqlx::query("INSERT INTO events (id, kind, body) VALUES (?, ?, ?)")
            .bind(id.as_bytes().to_vec())
            .bind(kind)
            .bind(text)
            .execute(transaction.connection())
            .await
            .map_err(fault)?
            .last_insert_rowid();
        for some in readers.chunks(ROWS_A_STATEMENT) {
            let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO deliveries (subscriber, number) ");
            query.push_values(some, |mut row, subscriber| {
                row.push_bind(*subscriber).push_bind(number);
            });
            query.build().execute(transaction.connection()).await.map_err(fault)?;
        }
    }
    transaction.commit().await
}

/// What waits for a subscriber, in hand or not.
pub(super) async fn waiting(readers: &SqlitePool, name: &SubscriberName) -> Result<Option<Waiting>, Fault> {
    const SQL: &str = "SELECT (SELECT COUNT(*) FROM deliveries WHERE subscriber = subscribers.id) AS events, \
                       (SELECT COUNT(*) FROM parked WHERE subscriber = subscribers.id) AS parked \
                       FROM subscribers WHERE name = ?";
    let row = sqlx::query(SQL).bind(name.as_str()).fetch_optional(readers).await.map_err(fault)?;
    let count = |row: &SqliteRow, column| Ok(row.try_get::<i64, _>(column).map_err(fault)?.unsigned_abs());
    row.map(|row| Ok(Waiting { events: count(&row, "events")?, parked: count(&row, "parked")? })).transpose()
}

impl Shared {
    /// Whether the file has the schema of this program: as many migrations as it knows.
    pub(super) async fn has_schema(&self, migrations: usize) -> bool {
        let done = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM _sqlx_migrations WHERE success = 1");
        let done = done.fetch_one(&self.readers).await;
        done.is_ok_and(|done| usize::try_from(done) == Ok(migrations))
    }

    /// Removes the receivers of the process that had the folder's lock before.
    pub(super) async fn forget_last_holder(&self) -> Result<(), Fault> {
        let mut connections = self.writing.lock().await;
        let mut transaction = connections.quick.begin().await?;
        let delete = sqlx::query("DELETE FROM receivers WHERE has_the_lock = 1");
        delete.execute(transaction.connection()).await.map_err(fault)?;
        transaction.commit().await
    }

    /// Makes or changes the subscriber, and a receiver of it; the ids of both.
    pub(super) async fn subscribe(
        &self,
        name: &SubscriberName,
        patterns: &[EventPattern],
    ) -> Result<(i64, i64), Fault> {
        const SUBSCRIBER: &str = "INSERT INTO subscribers (name, patterns) VALUES (?, ?) \
                                  ON CONFLICT (name) DO UPDATE SET patterns = excluded.patterns RETURNING id";
        const RECEIVER: &str =
            "INSERT INTO receivers (subscriber, alive_until, has_the_lock) VALUES (?, ?, ?)";
        let patterns: Vec<_> = patterns.iter().map(EventPattern::as_str).collect();
        let mut connections = self.writing.lock().await;
        let mut transaction = connections.durable.begin().await?;
        let subscriber: i64 = sqlx::query_scalar(SUBSCRIBER)
            .bind(name.as_str())
            .bind(patterns.join(" "))
            .fetch_one(transaction.connection())
            .await
            .map_err(fault)?;
        let receiver = sqlx::query(RECEIVER)
            .bind(subscriber)
            .bind(lease_end())
            .bind(self.folder.is_some())
            .execute(transaction.connection())
            .await
            .map_err(fault)?
            .last_insert_rowid();
        transaction.commit().await?;
        Ok((subscriber, receiver))
    }

    /// Keeps a receiver's row; false: it was taken for dead, and others may have what it has in hand.
    pub(super) async fn renew(&self, receiver: i64) -> Result<bool, Fault> {
        let mut connections = self.writing.lock().await;
        let mut transaction = connections.quick.begin().await?;
        let update = sqlx::query("UPDATE receivers SET alive_until = ? WHERE id = ?");
        let update = update.bind(lease_end()).bind(receiver).execute(transaction.connection()).await;
        let renewed = update.map_err(fault)?.rows_affected();
        transaction.commit().await?;
        Ok(renewed == 1)
    }

    /// Removes the rows of receivers that were dropped.
    pub(super) async fn forget_dropped(&self) -> Result<(), Fault> {
        let mut connections = self.writing.lock().await;
        if self.dropped().is_empty() {
            return Ok(());
        }
        let (transaction, dropped) = self.begin_without_dead(&mut connections.quick).await?;
        transaction.commit().await?;
        self.dropped().retain(|receiver| !dropped.contains(receiver));
        self.arrived.notify_waiters();
        Ok(())
    }

    /// Puts up to `room` events into the hand of a receiver, in order: all that it has room for where it is alone, otherwise one,
    /// so that others get some.
    pub(super) async fn take(
        &self,
        subscriber: i64,
        receiver: i64,
        room: usize,
    ) -> Result<Vec<Taken>, Fault> {
        // Whoever has nothing to do keeps nobody from writing.
        if !self.is_anything_free(subscriber).await? {
            return Ok(Vec::new());
        }
        let mut connections = self.writing.lock().await;
        let (mut transaction, dropped) = self.begin_without_dead(&mut connections.quick).await?;
        let receivers: Vec<i64> = sqlx::query_scalar("SELECT id FROM receivers WHERE subscriber = ?")
            .bind(subscriber)
            .fetch_all(transaction.connection())
            .await
            .map_err(fault)?;
        if !receivers.contains(&receiver) {
            return Err(silent());
        }
        let limit = if receivers.len() == 1 { room.min(ROWS_A_STATEMENT) } else { 1 };
        let taken = take(transaction.connection(), subscriber, receiver, limit).await?;
        transaction.commit().await?;
        self.dropped().retain(|receiver| !dropped.contains(receiver));
        Ok(taken)
    }

    async fn is_anything_free(&self, subscriber: i64) -> Result<bool, Fault> {
        const SQL: &str = "SELECT 1 FROM deliveries WHERE subscriber = ? AND receiver NOT IN \
                           (SELECT id FROM receivers WHERE alive_until > ?) LIMIT 1";
        let now = seckill_core::now().timestamp_millis();
        let found = sqlx::query(SQL).bind(subscriber).bind(now).fetch_optional(&self.readers).await;
        Ok(found.map_err(fault)?.is_some())
    }

    /// Removes an event from what waits for a subscriber.
    pub(super) async fn ack(&self, subscriber: i64, number: i64) -> Result<(), Fault> {
        let mut connections = self.writing.lock().await;
        let mut transaction = connections.quick.begin().await?;
        delete_delivery(transaction.connection(), subscriber, number).await?;
        delete_unneeded(transaction.connection(), &[number]).await?;
        transaction.commit().await
    }

    /// Moves an event of a subscriber to the parked ones.
    pub(super) async fn park(&self, subscriber: i64, number: i64, reason: &str) -> Result<(), Fault> {
        const SQL: &str = "INSERT INTO parked (subscriber, number, reason, parked_at) \
                           SELECT subscriber, number, ?, ? FROM deliveries WHERE subscriber = ? AND number = ?";
        let mut connections = self.writing.lock().await;
        let mut transaction = connections.quick.begin().await?;
        sqlx::query(SQL)
            .bind(reason)
            .bind(seckill_core::now().timestamp_millis())
            .bind(subscriber)
            .bind(number)
            .execute(transaction.connection())
            .await
            .map_err(fault)?;
        delete_delivery(transaction.connection(), subscriber, number).await?;
        transaction.commit().await
    }

    /// Gives back what is parked now, some at a time; how many.
    pub(super) async fn redrive(&self, name: &SubscriberName) -> Result<u64, Fault> {
        // What is parked again meanwhile stays parked.
        const NEWEST: &str = "SELECT COALESCE(MAX(id), 0) FROM parked";
        let newest: i64 = sqlx::query_scalar(NEWEST).fetch_one(&self.readers).await.map_err(fault)?;
        let mut redriven = 0;
        loop {
            let mut connections = self.writing.lock().await;
            let mut transaction = connections.durable.begin().await?;
            let some = redrive_some(transaction.connection(), name, newest).await?;
            transaction.commit().await?;
            redriven += some;
            if some < u64::from(BATCH) {
                return Ok(redriven);
            }
        }
    }

    /// Ends a subscriber; false: there is none. What waits for it is thrown away by [`Self::throw_away_ended`].
    pub(super) async fn unsubscribe(&self, name: &SubscriberName) -> Result<bool, Fault> {
        const RECEIVES: &str = "SELECT 1 FROM receivers WHERE subscriber = \
                                (SELECT id FROM subscribers WHERE name = ?) LIMIT 1";
        let mut connections = self.writing.lock().await;
        let (mut transaction, dropped) = self.begin_without_dead(&mut connections.durable).await?;
        let receives = sqlx::query(RECEIVES).bind(name.as_str());
        if receives.fetch_optional(transaction.connection()).await.map_err(fault)?.is_some() {
            let reason = format!("somebody receives under the name {name}; stop that first");
            return Err(Fault::unavailable(Dependency::Events, reason));
        }
        let update = sqlx::query("UPDATE subscribers SET name = NULL WHERE name = ?").bind(name.as_str());
        let ended = update.execute(transaction.connection()).await.map_err(fault)?.rows_affected();
        transaction.commit().await?;
        self.dropped().retain(|receiver| !dropped.contains(receiver));
        Ok(ended == 1)
    }

    /// Throws away what waits for subscribers that were ended, some at a time, so that nobody has to wait long.
    pub(super) async fn throw_away_ended(&self) -> Result<(), Fault> {
        loop {
            let ended = sqlx::query_scalar("SELECT id FROM subscribers WHERE name IS NULL LIMIT 1");
            let ended: Option<i64> = ended.fetch_optional(&self.readers).await.map_err(fault)?;
            let Some(subscriber) = ended else { return Ok(()) };
            let mut connections = self.writing.lock().await;
            let mut transaction = connections.quick.begin().await?;
            throw_away_some(transaction.connection(), subscriber).await?;
            transaction.commit().await?;
        }
    }

    /// Begins a transaction that has removed every receiver that is gone, and what was dropped until now. That is forgotten once
    /// the transaction is committed.
    async fn begin_without_dead<'c>(
        &self,
        connection: &'c mut WriteConnection,
    ) -> Result<(Transaction<&'c mut WriteConnection>, Vec<i64>), Fault> {
        let mut transaction = connection.begin().await?;
        let dropped = self.dropped().clone();
        for receiver in &dropped {
            let delete = sqlx::query("DELETE FROM receivers WHERE id = ?").bind(receiver);
            delete.execute(transaction.connection()).await.map_err(fault)?;
        }
        let delete = sqlx::query("DELETE FROM receivers WHERE alive_until <= ?");
        let now = seckill_core::now().timestamp_millis();
        delete.bind(now).execute(transaction.connection()).await.map_err(fault)?;
        Ok((transaction, dropped))
    }
}

/// What a receiver is told whose row is gone.
pub(super) fn silent() -> Fault {
    let reason = "this subscriber was silent for too long, and others may have what it had in hand";
    Fault::unavailable(Dependency::Events, reason)
}

fn lease_end() -> i64 {
    (seckill_core::now() + LEASE).timestamp_millis()
}

async fn subscribers(connection: &mut SqliteConnection) -> Result<Vec<(i64, Vec<EventPattern>)>, Fault> {
    let query = sqlx::query("SELECT id, patterns FROM subscribers WHERE name IS NOT NULL");
    let rows = query.fetch_all(connection).await.map_err(fault)?;
    let subscriber = |row: &SqliteRow| {
        let text: &str = row.try_get("patterns").map_err(fault)?;
        let patterns = text.split_whitespace().map(str::parse).collect::<Result<_, String>>();
        let patterns = patterns.map_err(|reason| Fault::corrupt(Dependency::Events, reason))?;
        Ok((row.try_get("id").map_err(fault)?, patterns))
    };
    rows.iter().map(subscriber).collect()
}

/// Puts the first events that nobody has in hand into the hand of `receiver`.
async fn take(
    connection: &mut SqliteConnection,
    subscriber: i64,
    receiver: i64,
    limit: usize,
) -> Result<Vec<Taken>, Fault> {
    const FREE: &str = "SELECT number, events.id, kind, body FROM deliveries JOIN events USING (number) \
                        WHERE subscriber = ? AND receiver NOT IN (SELECT id FROM receivers) \
                        ORDER BY number LIMIT ?";
    let query = sqlx::query(FREE).bind(subscriber).bind(i64::try_from(limit).unwrap_or(i64::MAX));
    let rows = query.fetch_all(&mut *connection).await.map_err(fault)?;
    let taken = |row: &SqliteRow| {
        let id: &[u8] = row.try_get("id").map_err(fault)?;
        let id = Uuid::from_slice(id).map_err(|error| Fault::corrupt(Dependency::Events, error))?;
        let kind = row.try_get("kind").map_err(fault)?;
        let message = EventMessage { id, kind, text: row.try_get("body").map_err(fault)? };
        Ok(Taken { number: row.try_get("number").map_err(fault)?, message })
    };
    let taken = rows.iter().map(taken).collect::<Result<Vec<_>, Fault>>()?;
    if !taken.is_empty() {
        let mut query = QueryBuilder::<Sqlite>::new("UPDATE deliveries SET receiver = ");
        query.push_bind(receiver).push(" WHERE subscriber = ").push_bind(subscriber);
        push_numbers(&mut query, &taken.iter().map(|one| one.number).collect::<Vec<_>>());
        query.build().persistent(false).execute(connection).await.map_err(fault)?;
    }
    Ok(taken)
}

async fn delete_delivery(
    connection: &mut SqliteConnection,
    subscriber: i64,
    number: i64,
) -> Result<(), Fault> {
    let delete = sqlx::query("DELETE FROM deliveries WHERE subscriber = ? AND number = ?");
    delete.bind(subscriber).bind(number).execute(connection).await.map(drop).map_err(fault)
}

/// Deletes those of the events that no subscriber needs any more.
async fn delete_unneeded(connection: &mut SqliteConnection, numbers: &[i64]) -> Result<(), Fault> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "DELETE FROM events WHERE NOT EXISTS (SELECT 1 FROM deliveries WHERE deliveries.number = events.number) \
         AND NOT EXISTS (SELECT 1 FROM parked WHERE parked.number = events.number)",
    );
    push_numbers(&mut query, numbers);
    query.build().persistent(numbers.len() == 1).execute(connection).await.map(drop).map_err(fault)
}

fn push_numbers(query: &mut QueryBuilder<Sqlite>, numbers: &[i64]) {
    query.push(" AND number IN (");
    let mut list = query.separated(", ");
    numbers.iter().for_each(|number| {
        list.push_bind(*number);
    });
    query.push(")");
}

/// Makes up to [`BATCH`] parked events with ids up to `newest` deliveries again; how many.
async fn redrive_some(
    connection: &mut SqliteConnection,
    name: &SubscriberName,
    newest: i64,
) -> Result<u64, Fault> {
    const SOME: &str = "SELECT id FROM parked WHERE subscriber = (SELECT id FROM subscribers WHERE name = ?) \
                        AND id <= ? ORDER BY id LIMIT ?";
    let some = sqlx::query_scalar(SOME).bind(name.as_str()).bind(newest).bind(BATCH);
    let ids: Vec<i64> = some.fetch_all(&mut *connection).await.map_err(fault)?;
    for id in &ids {
        const GIVE_BACK: &str = "INSERT INTO deliveries (subscriber, number) \
                                 SELECT subscriber, number FROM parked WHERE id = ? ON CONFLICT DO NOTHING";
        sqlx::query(GIVE_BACK).bind(id).execute(&mut *connection).await.map_err(fault)?;
        let delete = sqlx::query("DELETE FROM parked WHERE id = ?").bind(id);
        delete.execute(&mut *connection).await.map_err(fault)?;
    }
    Ok(ids.len() as u64)
}

/// Throws away some of what waits for a subscriber that was ended, and the subscriber when nothing is left.
async fn throw_away_some(connection: &mut SqliteConnection, subscriber: i64) -> Result<(), Fault> {
    let mut numbers = Vec::new();
    for sql in [
        "DELETE FROM deliveries WHERE subscriber = ?1 AND number IN \
         (SELECT number FROM deliveries WHERE subscriber = ?1 ORDER BY number LIMIT ?2) RETURNING number",
        "DELETE FROM parked WHERE id IN \
         (SELECT id FROM parked WHERE subscriber = ?1 ORDER BY id LIMIT ?2) RETURNING number",
    ] {
        let deleted = sqlx::query_scalar::<_, i64>(sql).bind(subscriber).bind(BATCH);
        numbers.extend(deleted.fetch_all(&mut *connection).await.map_err(fault)?);
    }
    if numbers.is_empty() {
        let delete = sqlx::query("DELETE FROM subscribers WHERE id = ?").bind(subscriber);
        return delete.execute(connection).await.map(drop).map_err(fault);
    }
    delete_unneeded(connection, &numbers).await
}
