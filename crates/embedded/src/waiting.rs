//! Waiting rooms in memory, each change of which is written to a SQLite file before it is answered: after a restart everyone has
//! the place that they had.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use seckill_core::waiting::{Demand, InletClock, RoomSpec, RoomState};
use seckill_core::{Arrival, Dependency, Fault, MAX_ARRIVALS, SaleId, UserId, WaitingRooms};
use sqlx::{Row, SqliteConnection};
use tokio::sync::Mutex;

use crate::OpenError;
use crate::folder::Folder;
use crate::sqlite::{self, WriteConnection};

const FILE: &str = "waiting.db";
const MIGRATIONS: &[(&str, &str)] =
    &[("waiting", include_str!("../../../migrations/sqlite/waiting/0001_waiting.sql"))];

pub(crate) struct SqliteRooms {
    /// Held across the write of a change, so that changes are written in the order in which they are made.
    all: Mutex<All>,
    _folder: Arc<Folder>,
}

struct All {
    rooms: HashMap<SaleId, Room>,
    connection: WriteConnection,
}

struct Room {
    state: RoomState,
    clock: InletClock,
    numbers: HashMap<UserId, u64>,
}

impl SqliteRooms {
    /// Opens the file, forgets the rooms whose time is over, and reads the others.
    pub(crate) async fn open(folder: Arc<Folder>) -> Result<Self, OpenError> {
        let path = folder.file(FILE);
        sqlite::migrate(&path, MIGRATIONS).await?;
        // A place in a queue may be lost when the whole machine goes down; waiting for the disk at each arrival would cost more.
        let mut connection = WriteConnection::without_flush(&path, Dependency::WaitingRooms);
        let mut transaction = connection.begin().await?;
        forget(transaction.connection()).await?;
        let rooms = read(transaction.connection()).await?;
        transaction.commit().await?;
        Ok(Self { all: Mutex::new(All { rooms, connection }), _folder: folder })
    }
}

async fn forget(connection: &mut SqliteConnection) -> Result<(), Fault> {
    for sql in [
        "DELETE FROM rooms WHERE keep_until < ?",
        "DELETE FROM arrivals WHERE ? > 0 AND sale_id NOT IN (SELECT sale_id FROM rooms)",
        "DELETE FROM spent WHERE until < ?",
    ] {
        sqlx::query(sql).bind(now_ms().cast_signed()).execute(&mut *connection).await.map_err(fault)?;
    }
    Ok(())
}

async fn read(connection: &mut SqliteConnection) -> Result<HashMap<SaleId, Room>, Fault> {
    let mut rooms = HashMap::new();
    let found = sqlx::query("SELECT sale_id, body FROM rooms").fetch_all(&mut *connection).await;
    for row in found.map_err(fault)? {
        let body: String = row.try_get("body").map_err(fault)?;
        let state: RoomState = serde_json::from_str(&body)
            .map_err(|error| Fault::corrupt(Dependency::WaitingRooms, format!("{FILE}: {error}")))?;
        let room = Room { state, clock: InletClock(now_us()), numbers: HashMap::new() };
        rooms.insert(sale_id(&row)?, room);
    }
    let found = sqlx::query("SELECT sale_id, user_id, number FROM arrivals").fetch_all(connection).await;
    for row in found.map_err(fault)? {
        let number = |name| row.try_get::<i64, _>(name).map(i64::cast_unsigned).map_err(fault);
        if let Some(room) = rooms.get_mut(&sale_id(&row)?) {
            let number_of_user = number("number")?;
            room.numbers.insert(UserId(number("user_id")?), number_of_user);
            // The count is written with the room, and so later than an arrival.
            room.state.arrivals = room.state.arrivals.max(number_of_user);
        }
    }
    Ok(rooms)
}

fn sale_id(row: &sqlx::sqlite::SqliteRow) -> Result<SaleId, Fault> {
    row.try_get::<i64, _>("sale_id").map(|id| SaleId(id.cast_unsigned())).map_err(fault)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn fault(error: sqlx::Error) -> Fault {
    sqlite::fault(Dependency::WaitingRooms, &error)
}

impl All {
    async fn write_room(&mut self, sale: SaleId, state: &RoomState) -> Result<(), Fault> {
        const SQL: &str = "INSERT INTO rooms (sale_id, body, keep_until) VALUES (?, ?, ?) \
                           ON CONFLICT (sale_id) DO UPDATE SET body = excluded.body";
        let body = serde_json::to_string(state).expect("plain fields can be written as JSON");
        let keep_until = i64::try_from(state.spec.keep_until_ms).unwrap_or(i64::MAX);
        let mut transaction = self.connection.begin().await?;
        let insert = sqlx::query(SQL).bind(sale.0.cast_signed()).bind(body).bind(keep_until);
        insert.execute(transaction.connection()).await.map_err(fault)?;
        transaction.commit().await
    }

    async fn write_number(&mut self, sale: SaleId, user: UserId, number: u64) -> Result<(), Fault> {
        const SQL: &str = "INSERT INTO arrivals (sale_id, user_id, number) VALUES (?, ?, ?) \
                           ON CONFLICT (sale_id, user_id) DO UPDATE SET number = excluded.number";
        let mut transaction = self.connection.begin().await?;
        let insert =
            sqlx::query(SQL).bind(sale.0.cast_signed()).bind(user.0.cast_signed()).bind(number.cast_signed());
        insert.execute(transaction.connection()).await.map_err(fault)?;
        transaction.commit().await
    }
}

#[async_trait]
impl WaitingRooms for SqliteRooms {
    async fn open_room(&self, sale: SaleId, spec: &RoomSpec) -> Result<RoomState, Fault> {
        let mut all = self.all.lock().await;
        if let Some(room) = all.rooms.get(&sale) {
            return Ok(RoomState { now_ms: now_ms(), ..room.state.clone() });
        }
        let state = RoomState::new(spec.clone(), now_ms());
        all.write_room(sale, &state).await?;
        let room = Room { state: state.clone(), clock: InletClock(now_us()), numbers: HashMap::new() };
        all.rooms.insert(sale, room);
        Ok(state)
    }

    async fn room(&self, sale: SaleId) -> Result<Option<RoomState>, Fault> {
        let all = self.all.lock().await;
        Ok(all.rooms.get(&sale).map(|room| RoomState { now_ms: now_ms(), ..room.state.clone() }))
    }

    async fn arrive(&self, sale: SaleId, user: UserId, instead_of: Option<u64>) -> Result<Arrival, Fault> {
        let mut all = self.all.lock().await;
        let Some(room) = all.rooms.get(&sale) else { return Ok(Arrival::NoRoom) };
        if let Some(number) = room.numbers.get(&user).filter(|number| instead_of != Some(**number)) {
            return Ok(Arrival::Number(*number));
        }
        if room.state.arrivals >= MAX_ARRIVALS {
            return Ok(Arrival::Full);
        }
        let mut state = room.state.clone();
        state.draw_when_due(now_ms());
        if state.drawn != room.state.drawn {
            // Before the arrival, which must not be counted among those who are drawn.
            all.write_room(sale, &state).await?;
        }
        let number = state.arrivals + 1;
        all.write_number(sale, user, number).await?;
        if let Some(room) = all.rooms.get_mut(&sale) {
            room.state.drawn = state.drawn;
            room.state.arrivals = number;
            room.numbers.insert(user, number);
        }
        Ok(Arrival::Number(number))
    }

    async fn number(&self, sale: SaleId, user: UserId) -> Result<Option<u64>, Fault> {
        let all = self.all.lock().await;
        Ok(all.rooms.get(&sale).and_then(|room| room.numbers.get(&user).copied()))
    }

    async fn advance(&self, sale: SaleId, demand: Demand) -> Result<Option<RoomState>, Fault> {
        let mut all = self.all.lock().await;
        let Some(room) = all.rooms.get(&sale) else { return Ok(None) };
        let (mut state, mut clock) = (room.state.clone(), room.clock);
        state.advance(&mut clock, now_us(), demand);
        let same = RoomState { now_ms: room.state.now_ms, ..state.clone() } == room.state;
        if !same {
            all.write_room(sale, &state).await?;
        }
        if let Some(room) = all.rooms.get_mut(&sale) {
            (room.state, room.clock) = (state.clone(), clock);
        }
        Ok(Some(state))
    }

    async fn spend(&self, sale: SaleId, word: &str, ttl: Duration) -> Result<bool, Fault> {
        let ttl = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let until = i64::try_from(now_ms().saturating_add(ttl)).unwrap_or(i64::MAX);
        let mut all = self.all.lock().await;
        let mut transaction = all.connection.begin().await?;
        let forget = sqlx::query("DELETE FROM spent WHERE until < ?").bind(now_ms().cast_signed());
        forget.execute(transaction.connection()).await.map_err(fault)?;
        let insert = sqlx::query("INSERT OR IGNORE INTO spent (sale_id, word, until) VALUES (?, ?, ?)")
            .bind(sale.0.cast_signed())
            .bind(word)
            .bind(until);
        let inserted = insert.execute(transaction.connection()).await.map_err(fault)?.rows_affected();
        transaction.commit().await?;
        Ok(inserted == 1)
    }
}

fn now_us() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

fn now_ms() -> u64 {
    now_us() / 1_000
}
