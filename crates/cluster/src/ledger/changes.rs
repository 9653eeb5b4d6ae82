//! The statements of what happens to orders after their commit: one function a statement or a few. Runs alike on MySQL and
//! MariaDB. Statements as long as the number of orders are text, as in `statements`, and for the same reasons.
//!
//! Every statement finds its rows by the primary key, whatever the optimizer thinks of a small table: one that looks at other
//! rows, too, waits for the locks on them.

use std::collections::BTreeMap;
use std::fmt::Write;

use seckill_core::{
    CancelReason, Effect, EventMessage, FunnelCount, Notice, OrderId, OrderRecord, OrderState, OrderStatus,
    Overdue, SaleId, UserId,
};
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{Result, Row};
use uuid::Uuid;

use super::rows::{self, now_ms};
use super::server::{code, number};
use super::statements::{IDS_AT_ONCE, List, Text, execute, fetch, upsert, uuid};

/// Locks orders, which are sorted and each there once.
pub(super) async fn lock_orders(
    connection: &mut MySqlConnection,
    orders: Vec<OrderId>,
    skip_locked: bool,
) -> Result<Vec<OrderRecord>> {
    let how = if skip_locked { " SKIP LOCKED" } else { "" };
    let mut locked = Vec::with_capacity(orders.len());
    for some in orders.chunks(IDS_AT_ONCE) {
        let ids: Vec<_> = some.iter().map(uuid).collect();
        let sql = format!(
            "SELECT id, sale_id, user_id, quantity, amount_cents, status, active, cancel_reason, sequence, accepted_at, \
             committed_at FROM orders FORCE INDEX (PRIMARY) WHERE id IN ({}) ORDER BY id FOR UPDATE{how}",
            List(&ids)
        );
        for row in fetch(connection, sql).await? {
            locked.push(order_record(&row)?);
        }
    }
    Ok(locked)
}

fn order_record(row: &MySqlRow) -> Result<OrderRecord> {
    let active: Option<u8> = row.try_get("active")?;
    Ok(OrderRecord {
        sale_id: SaleId(row.try_get("sale_id")?),
        claim: rows::claim(row)?,
        amount_cents: row.try_get("amount_cents")?,
        state: OrderState { status: rows::order_status(row)?, active: active == Some(1) },
        cancelled: rows::cancel_reason(row)?,
        sequence: row.try_get("sequence")?,
        committed_at: row.try_get("committed_at")?,
    })
}

/// What orders have in common that one statement moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MoveOf {
    status: &'static str,
    active: bool,
    cancelled: Option<&'static str>,
    /// Before the move.
    sequence: u32,
}

impl MoveOf {
    pub(super) fn new(from: &OrderRecord, to: &OrderRecord) -> Self {
        Self {
            status: to.state.status.as_str(),
            active: to.state.active,
            cancelled: to.cancelled.map(CancelReason::as_str),
            sequence: from.sequence,
        }
    }

    /// Whether an order waits no longer to be paid.
    pub(super) fn ends_waiting(from: &OrderRecord, to: &OrderRecord) -> bool {
        from.state.status == OrderStatus::Committed && to.state.status != OrderStatus::Committed
    }
}

/// Moves orders, and forgets until when those in `waited` could be paid. Returns how many orders were as `moves` says.
pub(super) async fn move_orders(
    connection: &mut MySqlConnection,
    moves: BTreeMap<MoveOf, Vec<OrderId>>,
    waited: Vec<OrderId>,
) -> Result<u64> {
    let mut moved = 0;
    for (MoveOf { status, active, cancelled, sequence }, orders) in moves {
        let active = if active { "1" } else { "NULL" };
        let cancelled = cancelled.map_or_else(|| "NULL".to_owned(), |reason| format!("'{reason}'"));
        for some in orders.chunks(IDS_AT_ONCE) {
            let ids: Vec<_> = some.iter().map(uuid).collect();
            let sql = format!(
                "UPDATE orders FORCE INDEX (PRIMARY) SET status = '{status}', active = {active}, \
                 cancel_reason = {cancelled}, sequence = sequence + 1 \
                 WHERE id IN ({}) AND sequence = {sequence}",
                List(&ids)
            );
            moved += execute(connection, sql).await?;
        }
    }
    for some in waited.chunks(IDS_AT_ONCE) {
        let ids: Vec<_> = some.iter().map(uuid).collect();
        // In this form, because the other one takes no index.
        let sql = format!(
            "DELETE unpaid FROM unpaid FORCE INDEX (PRIMARY) WHERE unpaid.order_id IN ({})",
            List(&ids)
        );
        execute(connection, sql).await?;
    }
    Ok(moved)
}

/// Puts one event into the outbox. What a user wrote may be in it, so its values are bound.
pub(super) async fn insert_event(
    connection: &mut MySqlConnection,
    message: EventMessage,
    subject: String,
) -> Result<()> {
    let insert = sqlx::query(concat!(
        "INSERT INTO outbox (id, kind, subject, body, next_attempt_at, created_at) VALUES (?, ?, ?, ?, ",
        now_ms!(),
        ", ",
        now_ms!(),
        ")"
    ));
    let insert = insert.bind(message.id.as_bytes().as_slice()).bind(message.kind);
    insert.bind(subject).bind(message.text).execute(connection).await.map(drop)
}

/// Records that a consumer has taken in an event; false: it had before. The transaction goes on then: a duplicate ends only
/// its statement.
pub(super) async fn first_time(
    connection: &mut MySqlConnection,
    consumer: String,
    event: Uuid,
) -> Result<bool> {
    let insert = sqlx::query("INSERT INTO inbox (consumer, event_id) VALUES (?, ?)");
    match insert.bind(consumer).bind(event.as_bytes().as_slice()).execute(connection).await {
        Ok(_) => Ok(true),
        Err(error) if number(&error) == Some(code::DUPLICATE_ENTRY) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What is written with the commit.
#[derive(Default)]
pub(super) struct Later {
    notices: Vec<Notice>,
    points: BTreeMap<UserId, i64>,
    counts: BTreeMap<(SaleId, String), Counted>,
    sales: BTreeMap<SaleId, SaleChange>,
}

#[derive(Default)]
struct Counted {
    orders: u64,
    units: u64,
    amount_cents: u64,
}

/// What changes of a sale's totals.
#[derive(Default)]
struct SaleChange {
    ended_orders: u64,
    ended_units: u64,
    returned_orders: u64,
    returned_units: u64,
}

impl Later {
    /// An active order is not active any more.
    pub(super) fn ended(&mut self, order: &OrderRecord) {
        let change = self.sales.entry(order.sale_id).or_default();
        change.ended_orders += 1;
        change.ended_units += u64::from(order.claim.quantity);
    }

    pub(super) fn add(&mut self, effect: &Effect) {
        match effect {
            Effect::Returned { sale, orders, units } => {
                let change = self.sales.entry(*sale).or_default();
                change.returned_orders += orders;
                change.returned_units += units;
            }
            Effect::Points { user, points } => {
                let sum = self.points.entry(*user).or_default();
                *sum = sum.saturating_add(*points);
            }
            Effect::Notices(notices) => self.notices.extend_from_slice(notices),
            Effect::Counted { sale, count } => {
                let counted = self.counts.entry((*sale, count.stage.clone())).or_default();
                counted.orders += count.orders;
                counted.units += count.units;
                counted.amount_cents += count.amount_cents;
            }
        }
    }
}

/// Writes it: what others want most comes last, the sales at the very end.
pub(super) async fn write(connection: &mut MySqlConnection, later: Later) -> Result<()> {
    let Later { notices, points, counts, sales } = later;
    let columns = "notices (order_id, user_id, kind, sequence, at)";
    let row = |sql: &mut String, Notice { order_id, user_id, kind, sequence, at }: &Notice| {
        let (order, kind, at) = (uuid(order_id), Text(kind), at.timestamp_millis());
        write!(sql, "({order},{user_id},{kind},{sequence},{at})")
    };
    upsert(connection, columns, &notices, row, "").await?;

    let points: Vec<_> = points.into_iter().collect();
    let add = " ON DUPLICATE KEY UPDATE points = points + VALUES(points)";
    let row = |sql: &mut String, (user, points): &(UserId, i64)| write!(sql, "({user},{points})");
    upsert(connection, "points (user_id, points)", &points, row, add).await?;

    let counts: Vec<_> = counts.into_iter().collect();
    let add = " ON DUPLICATE KEY UPDATE orders = orders + VALUES(orders), units = units + VALUES(units), \
               amount_cents = amount_cents + VALUES(amount_cents)";
    let row = |sql: &mut String, ((sale, stage), counted): &((SaleId, String), Counted)| {
        let Counted { orders, units, amount_cents } = counted;
        write!(sql, "({sale},{},{orders},{units},{amount_cents})", Text(stage))
    };
    upsert(connection, "funnel (sale_id, stage, orders, units, amount_cents)", &counts, row, add).await?;

    for (sale, change) in sales {
        change_sale(connection, sale, &change).await?;
    }
    Ok(())
}

/// Changes the totals of a sale. One that does not exist has none; nothing happens then.
async fn change_sale(connection: &mut MySqlConnection, sale: SaleId, change: &SaleChange) -> Result<()> {
    // By the primary key only, as in a commit of orders.
    let update = sqlx::query(
        "UPDATE sales FORCE INDEX (PRIMARY) SET sold = sold - ?, orders = orders - ?, \
         ended_orders = ended_orders + ?, ended_units = ended_units + ?, \
         returned_orders = returned_orders + ?, returned_units = returned_units + ? WHERE id = ?",
    );
    let update = update.bind(change.ended_units).bind(change.ended_orders);
    let update = update.bind(change.ended_orders).bind(change.ended_units);
    let update = update.bind(change.returned_orders).bind(change.returned_units);
    update.bind(sale.0).execute(connection).await.map(drop)
}

pub(super) async fn overdue(
    connection: &mut MySqlConnection,
    after: Option<Overdue>,
    limit: u32,
) -> Result<Vec<Overdue>> {
    let found = sqlx::query(concat!(
        "SELECT pay_by, order_id FROM unpaid FORCE INDEX (unpaid_by_time) \
         WHERE pay_by >= ? AND pay_by <= ",
        now_ms!(),
        " AND (pay_by > ? OR order_id > ?) ORDER BY pay_by, order_id LIMIT ?"
    ));
    // An empty string of bytes comes before every id.
    let (pay_by, order) = after.map_or((0, Vec::new()), |Overdue { pay_by, order_id }| {
        (pay_by.timestamp_millis(), order_id.0.as_bytes().to_vec())
    });
    let found = found.bind(pay_by).bind(pay_by).bind(order).bind(limit).fetch_all(connection).await?;
    let read = |row: &MySqlRow| {
        Ok(Overdue {
            pay_by: rows::moment(row.try_get("pay_by")?)?,
            order_id: rows::order_id(row.try_get("order_id")?)?,
        })
    };
    found.iter().map(read).collect()
}

pub(super) async fn points(connection: &mut MySqlConnection, user: UserId) -> Result<i64> {
    let found = sqlx::query_scalar("SELECT points FROM points WHERE user_id = ?").bind(user.0);
    Ok(found.fetch_optional(connection).await?.unwrap_or_default())
}

pub(super) async fn notices(connection: &mut MySqlConnection, order: OrderId) -> Result<Vec<Notice>> {
    let found = sqlx::query(
        "SELECT order_id, user_id, kind, sequence, at FROM notices WHERE order_id = ? ORDER BY number",
    );
    let found = found.bind(order.0.as_bytes().as_slice()).fetch_all(connection).await?;
    let read = |row: &MySqlRow| {
        Ok(Notice {
            order_id: rows::order_id(row.try_get("order_id")?)?,
            user_id: UserId(row.try_get("user_id")?),
            kind: row.try_get("kind")?,
            sequence: row.try_get("sequence")?,
            at: rows::moment(row.try_get("at")?)?,
        })
    };
    found.iter().map(read).collect()
}

pub(super) async fn funnel(connection: &mut MySqlConnection, sale: SaleId) -> Result<Vec<FunnelCount>> {
    let found =
        sqlx::query("SELECT stage, orders, units, amount_cents FROM funnel WHERE sale_id = ? ORDER BY stage");
    let read = |row: &MySqlRow| {
        Ok(FunnelCount {
            stage: row.try_get("stage")?,
            orders: row.try_get("orders")?,
            units: row.try_get("units")?,
            amount_cents: row.try_get("amount_cents")?,
        })
    };
    found.bind(sale.0).fetch_all(connection).await?.iter().map(read).collect()
}
