//! The statements of a commit: one function a statement. Runs alike on MySQL and MariaDB.
//!
//! Statements that are as long as the batch are sent as text, their values written in as literals. All of these are
//! numbers, UUIDs, times or words of our own; nothing that a user wrote gets here. Prepared statements of ever new
//! lengths would cost a second round trip, a description of each of thousands of parameters, and a farewell without an
//! answer. sqlx leaves Nagle's algorithm on: what follows a write that is not answered waits for 40 ms. So no statement
//! is longer than one TLS record either, which goes out as one write. Together: 6 ms instead of 55 ms for 500 orders.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::{self, Display, Write};

use chrono::{Datelike, Timelike};
use seckill_core::{
    Epoch, Event, EventMessage, Mode, Order, OrderId, RejectReason, SaleId, SaleState, Timestamp, UserId,
};
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{AssertSqlSafe, Result, Row};
use uuid::Uuid;

use super::rows::{self, now_ms};

/// Rows of one INSERT: at some 130 bytes each they fit the 16 KiB of one TLS record.
const ROWS_AT_ONCE: usize = 100;

/// The longest statement, with some bytes left for what the protocol puts before it.
const LONGEST: usize = 16 * 1_024 - 16;

/// Ids of one lookup: at up to 36 bytes each they fit, too.
pub(super) const IDS_AT_ONCE: usize = 400;

/// What a commit needs to know of a sale.
pub(super) struct Terms {
    pub(super) stock: u32,
    pub(super) sold: u32,
    price_cents: u64,
    pub(super) per_user_limit: u32,
    pub(super) rejected_orders: u64,
    pub(super) payment_window_ms: Option<u64>,
    stored_epoch: Epoch,
    open_epoch: Epoch,
    state: SaleState,
}

impl Terms {
    /// Orders of earlier epochs are stale. While the gate is being rebuilt that is measured by the epoch that was open last: a
    /// straggler from before it must not take the unit of an order that was promised since.
    pub(super) fn oldest_epoch(&self) -> Epoch {
        match self.state {
            SaleState::Rebuilding => self.open_epoch,
            SaleState::Open | SaleState::ClosedOut => Mode::from_stored_epoch(self.stored_epoch).1,
        }
    }

    /// What so many units cost.
    pub(super) fn amount_cents(&self, quantity: u32) -> u64 {
        self.price_cents.saturating_mul(u64::from(quantity))
    }
}

/// What a batch adds to one sale.
#[derive(Default)]
pub(super) struct Added {
    pub(super) units: u64,
    pub(super) orders: u64,
    pub(super) rejected_orders: u64,
}

pub(super) async fn begin(connection: &mut MySqlConnection) -> Result<()> {
    sqlx::raw_sql("START TRANSACTION").execute(connection).await.map(drop)
}

pub(super) async fn commit(connection: &mut MySqlConnection) -> Result<()> {
    sqlx::raw_sql("COMMIT").execute(connection).await.map(drop)
}

pub(super) async fn roll_back(connection: &mut MySqlConnection) -> Result<()> {
    sqlx::raw_sql("ROLLBACK").execute(connection).await.map(drop)
}

/// The server's clock.
pub(super) async fn clock(connection: &mut MySqlConnection) -> Result<Timestamp> {
    sqlx::raw_sql("SELECT UTC_TIMESTAMP(3)").fetch_one(connection).await?.try_get(0)
}

/// The sales, and the server's clock, which saves a round trip; `None` where there is none of the sales.
pub(super) async fn read_sales(
    connection: &mut MySqlConnection,
    ids: &[u64],
) -> Result<(HashMap<SaleId, Terms>, Option<Timestamp>)> {
    let sales = format!("SELECT sales.*, UTC_TIMESTAMP(3) AS clock FROM sales WHERE id IN ({})", List(ids));
    let rows = fetch(connection, sales).await?;
    let clock = rows.first().map(|row| row.try_get("clock")).transpose()?;
    Ok((rows.iter().map(terms).collect::<Result<_>>()?, clock))
}

/// Also waits until no other transaction has any of the sales locked, and locks them itself.
pub(super) async fn lock_sales(
    connection: &mut MySqlConnection,
    ids: &[u64],
) -> Result<HashMap<SaleId, Terms>> {
    let sales = format!("SELECT * FROM sales WHERE id IN ({}) ORDER BY id FOR UPDATE", List(ids));
    fetch(connection, sales).await?.iter().map(terms).collect()
}

fn terms(row: &MySqlRow) -> Result<(SaleId, Terms)> {
    let terms = Terms {
        stock: row.try_get("stock")?,
        sold: row.try_get("sold")?,
        price_cents: row.try_get("price_cents")?,
        per_user_limit: row.try_get("per_user_limit")?,
        rejected_orders: row.try_get("rejected_orders")?,
        payment_window_ms: row.try_get("payment_window_ms")?,
        stored_epoch: row.try_get("epoch")?,
        open_epoch: row.try_get("open_epoch")?,
        state: rows::sale_state(row.try_get("state")?)?,
    };
    Ok((SaleId(row.try_get("id")?), terms))
}

pub(super) async fn committed_among(
    connection: &mut MySqlConnection,
    ids: &[OrderId],
) -> Result<HashSet<OrderId>> {
    let ids: Vec<_> = ids.iter().map(uuid).collect();
    let rows = fetch(connection, format!("SELECT id FROM orders WHERE id IN ({})", List(&ids))).await?;
    rows.iter().map(|row| rows::order_id(row.try_get(0)?)).collect()
}

pub(super) async fn rejected_among(
    connection: &mut MySqlConnection,
    ids: &[OrderId],
) -> Result<HashMap<OrderId, RejectReason>> {
    let ids: Vec<_> = ids.iter().map(uuid).collect();
    let rejected = format!("SELECT order_id, reason FROM rejections WHERE order_id IN ({})", List(&ids));
    let rows = fetch(connection, rejected).await?;
    let read = |row: &MySqlRow| Ok((rows::order_id(row.try_get(0)?)?, rows::reject_reason(row.try_get(1)?)?));
    rows.iter().map(read).collect()
}

/// Which of `users` have an active order in the sale. One sale at a time: every server finds a list of values of one
/// column by an index, but only some a list of pairs.
pub(super) async fn holders_among(
    connection: &mut MySqlConnection,
    sale: SaleId,
    users: &[u64],
) -> Result<Vec<UserId>> {
    let holders = format!(
        "SELECT user_id FROM orders WHERE sale_id = {sale} AND active = 1 AND user_id IN ({})",
        List(users)
    );
    fetch(connection, holders).await?.iter().map(|row| Ok(UserId(row.try_get(0)?))).collect()
}

pub(super) async fn insert_orders(
    connection: &mut MySqlConnection,
    rows: &[&Order],
    sales: &HashMap<SaleId, Terms>,
    at: Timestamp,
) -> Result<()> {
    let at = Time(at).to_string();
    let row = |sql: &mut String, Order { sale_id, claim, .. }: &Order| {
        let (id, user, quantity) = (claim.order_id.0.simple(), claim.user_id, claim.quantity);
        let amount_cents = sales[sale_id].amount_cents(quantity);
        let accepted_at = Time(claim.accepted_at);
        write!(sql, "(x'{id}',{sale_id},{user},{quantity},{amount_cents},'committed',1,{accepted_at},{at})")
    };
    let columns =
        "orders (id, sale_id, user_id, quantity, amount_cents, status, active, accepted_at, committed_at)";
    insert(connection, columns, rows, |sql, order| row(sql, order)).await
}

/// Records how long orders can be paid that were just inserted: `window` milliseconds from the moment that their rows say.
pub(super) async fn insert_unpaid(
    connection: &mut MySqlConnection,
    orders: &[OrderId],
    window: u64,
) -> Result<()> {
    for some in orders.chunks(IDS_AT_ONCE) {
        let ids: Vec<_> = some.iter().map(uuid).collect();
        let sql = format!(
            "INSERT INTO unpaid (order_id, pay_by) \
             SELECT id, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', committed_at) DIV 1000 + {window} \
             FROM orders FORCE INDEX (PRIMARY) WHERE id IN ({})",
            List(&ids)
        );
        execute(connection, sql).await?;
    }
    Ok(())
}

/// Puts events into the outbox whose texts are made of numbers, ids and words of our own.
pub(super) async fn insert_events(connection: &mut MySqlConnection, events: &[Event]) -> Result<()> {
    for sql in event_inserts(events) {
        execute(connection, sql).await?;
    }
    Ok(())
}

/// As few statements as the limit allows.
fn event_inserts(events: &[Event]) -> Vec<String> {
    const INSERT: &str = "INSERT INTO outbox (id, kind, subject, body, next_attempt_at, created_at) VALUES ";
    let mut statements: Vec<String> = Vec::new();
    for event in events {
        let EventMessage { id, kind, text } = event.message();
        let (id, subject, text) = (binary(&id), Text(&event.subject), Text(&text));
        let row =
            format!(concat!("({},'{}',{},{},", now_ms!(), ",", now_ms!(), ")"), id, kind, subject, text);
        match statements.last_mut() {
            Some(sql) if sql.len() + 1 + row.len() <= LONGEST => {
                sql.push(',');
                sql.push_str(&row);
            }
            _ => statements.push(format!("{INSERT}{row}")),
        }
    }
    statements
}

pub(super) async fn insert_rejections(
    connection: &mut MySqlConnection,
    rows: &[(&Order, RejectReason)],
    at: Timestamp,
) -> Result<()> {
    let at = Time(at).to_string();
    let row = |sql: &mut String, (Order { sale_id, claim, .. }, reason): &(&Order, RejectReason)| {
        let (id, user, quantity, reason) =
            (uuid(&claim.order_id), claim.user_id, claim.quantity, reason.as_str());
        let accepted_at = Time(claim.accepted_at);
        write!(sql, "({id},{sale_id},{user},{quantity},'{reason}',{accepted_at},{at})")
    };
    let columns = "rejections (order_id, sale_id, user_id, quantity, reason, accepted_at, created_at)";
    insert(connection, columns, rows, row).await
}

/// Removes the rows of stale orders that are decided anew, and takes them off the totals of their sales, which are locked.
pub(super) async fn forget_rejections(connection: &mut MySqlConnection, orders: &[&Order]) -> Result<()> {
    let mut of_sales: BTreeMap<SaleId, Vec<String>> = BTreeMap::new();
    for order in orders {
        of_sales.entry(order.sale_id).or_default().push(uuid(&order.claim.order_id));
    }
    for (sale, ids) in of_sales {
        for some in ids.chunks(IDS_AT_ONCE) {
            let sql = format!("DELETE FROM rejections WHERE order_id IN ({})", List(some));
            let removed = execute(connection, sql).await?;
            sqlx::query("UPDATE sales SET rejected_orders = rejected_orders - ? WHERE id = ?")
                .bind(removed)
                .bind(sale.0)
                .execute(&mut *connection)
                .await?;
        }
    }
    Ok(())
}

/// Adds the batch's units to the sale unless that would oversell it, or since the sale was read as `as_read` an order was
/// rejected, which may be among the batch's, or a rebuild began or ended, which may have made some stale. Says whether it
/// did.
pub(super) async fn add_if_it_fits(
    connection: &mut MySqlConnection,
    sale: SaleId,
    added: &Added,
    as_read: &Terms,
) -> Result<bool> {
    // By the primary key only: through the index of states it would lock that index before the sale's row, in the other
    // order than whoever changes the state.
    let update = sqlx::query(
        "UPDATE sales FORCE INDEX (PRIMARY) SET sold = sold + ?, orders = orders + ? \
         WHERE id = ? AND sold + ? <= stock AND rejected_orders = ? AND epoch = ? AND state = ?",
    );
    let update = update.bind(added.units).bind(added.orders).bind(sale.0).bind(added.units);
    let update = update.bind(as_read.rejected_orders).bind(as_read.stored_epoch).bind(as_read.state.as_str());
    let done = update.execute(connection).await?;
    // The driver counts rows found, so this says whether the condition held.
    Ok(done.rows_affected() == 1)
}

/// Adds to the totals of a sale that is locked. A sale that does not exist has none; nothing happens then.
pub(super) async fn add(connection: &mut MySqlConnection, sale: SaleId, added: &Added) -> Result<()> {
    let update = sqlx::query(
        "UPDATE sales SET sold = sold + ?, orders = orders + ?, rejected_orders = rejected_orders + ? WHERE id = ?",
    );
    let update = update.bind(added.units).bind(added.orders).bind(added.rejected_orders).bind(sale.0);
    update.execute(connection).await.map(drop)
}

/// A time as a literal, to the millisecond. Chrono's formatting reads its pattern anew for each time, which was a sixth of a
/// worker's work.
struct Time(Timestamp);

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, time) = (self.0.date_naive(), self.0.time());
        let (year, month, day) = (day.year(), day.month(), day.day());
        let (hour, minute, second) = (time.hour(), time.minute(), time.second());
        // A leap second has more than a thousand.
        let millis = self.0.timestamp_subsec_millis().min(999);
        write!(f, "'{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{millis:03}'")
    }
}

pub(super) fn uuid(id: &OrderId) -> String {
    binary(&id.0)
}

pub(super) fn binary(id: &Uuid) -> String {
    format!("x'{}'", id.simple())
}

pub(super) async fn execute(connection: &mut MySqlConnection, sql: String) -> Result<u64> {
    Ok(sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await?.rows_affected())
}

pub(super) async fn fetch(connection: &mut MySqlConnection, sql: String) -> Result<Vec<MySqlRow>> {
    sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await
}

/// Inserts rows of literals, which `write_row` writes, in as few statements as the limit allows.
async fn insert<T>(
    connection: &mut MySqlConnection,
    table_and_columns: &str,
    rows: &[T],
    write_row: impl Fn(&mut String, &T) -> fmt::Result,
) -> Result<()> {
    upsert(connection, table_and_columns, rows, write_row, "").await
}

/// The same, with what is to be done where a row of the same key exists.
pub(super) async fn upsert<T>(
    connection: &mut MySqlConnection,
    table_and_columns: &str,
    rows: &[T],
    write_row: impl Fn(&mut String, &T) -> fmt::Result,
    on_duplicate: &str,
) -> Result<()> {
    for some in rows.chunks(ROWS_AT_ONCE) {
        let mut sql = String::with_capacity(LONGEST);
        write!(sql, "INSERT INTO {table_and_columns} VALUES ").expect("a string takes everything");
        for (at, row) in some.iter().enumerate() {
            if at > 0 {
                sql.push(',');
            }
            write_row(&mut sql, row).expect("a string takes everything");
        }
        sql += on_duplicate;
        execute(connection, sql).await?;
    }
    Ok(())
}

/// A text as a literal. The session's mode has a backslash escape what follows it.
pub(super) struct Text<'a>(pub(super) &'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.replace('\\', "\\\\").replace('\'', "''"))
    }
}

/// Literals with commas between them.
pub(super) struct List<'a, T>(pub(super) &'a [T]);

impl<T: Display> Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, value) in self.0.iter().enumerate() {
            write!(f, "{}{value}", if at > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use seckill_core::{EventBody, EventOrder, LedgerId, MAX_EVENT_ORDERS};

    use super::*;

    fn events(orders: usize) -> Vec<Event> {
        let order = EventOrder {
            order_id: OrderId(Uuid::max()),
            user_id: UserId(u64::MAX),
            quantity: 1_000,
            amount_cents: 100_000_000_000_000,
            sequence: 1,
        };
        let (ledger, sale) = (LedgerId(Uuid::max()), SaleId(u64::MAX));
        Event::of_orders(ledger, sale, None, &vec![order; orders], EventBody::OrderCommitted)
    }

    #[test]
    fn a_time_is_written_as_the_column_has_it() {
        for millis in [0, 1, 999, 951_782_399_999, 1_796_083_200_120, 253_402_300_799_999] {
            let time = Timestamp::from_timestamp_millis(millis).expect("a time");
            assert_eq!(Time(time).to_string(), time.format("'%Y-%m-%d %H:%M:%S%.3f'").to_string());
        }
    }

    #[test]
    fn no_statement_for_events_is_longer_than_one_write() {
        let full = event_inserts(&events(3 * MAX_EVENT_ORDERS));
        assert_eq!(full.len(), 3);
        let small: Vec<_> = (0..40).flat_map(|_| events(1)).collect();
        let packed = event_inserts(&small);
        assert!(packed.len() < 4, "{}", packed.len());
        assert_eq!(packed.iter().map(|sql| sql.matches("specversion").count()).sum::<usize>(), 40);
        for sql in full.iter().chain(&packed) {
            assert!(sql.len() <= LONGEST, "{}", sql.len());
        }
        assert!(event_inserts(&[]).is_empty());
    }

    #[test]
    fn a_text_cannot_end_its_literal() {
        assert_eq!(Text(r"it's \' -- 秒").to_string(), r"'it''s \\'' -- 秒'");
    }
}
