//! Money: sagas, entries, balances, coupons and requests, one function a statement. Reads go by a pool, writes belong to a
//! transaction of `lifecycle`.

use seckill_core::effects::{CENTS_PER_POINT, RefundEffects};
use seckill_core::money::{Entry, Money, OpenRefunds, Request, Saga, SagaKind, SagaState};
use seckill_core::{Fault, OrderId, SaleId, UserId};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Sqlite, SqliteConnection, SqliteExecutor, SqlitePool};

use super::{fault, rows};

pub(super) async fn saga(
    executor: impl SqliteExecutor<'_>,
    kind: SagaKind,
    order: OrderId,
) -> Result<Option<Saga>, Fault> {
    let query = sqlx::query("SELECT * FROM sagas WHERE kind = ? AND order_id = ?");
    let row = query.bind(kind.as_str()).bind(rows::id_bytes(order)).fetch_optional(executor).await;
    row.map_err(fault)?.as_ref().map(read_saga).transpose()
}

pub(super) async fn sagas(
    readers: &SqlitePool,
    kind: SagaKind,
    state: SagaState,
    limit: u32,
) -> Result<Vec<Saga>, Fault> {
    let query = sqlx::query("SELECT * FROM sagas WHERE kind = ? AND state = ? ORDER BY order_id LIMIT ?");
    let found = query.bind(kind.as_str()).bind(state.as_str()).bind(limit).fetch_all(readers).await;
    found.map_err(fault)?.iter().map(read_saga).collect()
}

pub(super) async fn open_refunds(readers: &SqlitePool, limit: u32) -> Result<OpenRefunds, Fault> {
    const COUNT: &str = "SELECT COUNT(*) AS refunds, MIN(due_at) AS since FROM sagas INDEXED BY sagas_by_state \
                         WHERE kind = 'refund' AND state = ?";
    const NEWEST: &str = "SELECT * FROM sagas INDEXED BY sagas_by_state WHERE kind = 'refund' AND state = ? \
                          ORDER BY order_id DESC LIMIT ?";
    let mut open =
        OpenRefunds { running: 0, held: 0, oldest_held: None, now: seckill_core::now(), newest: Vec::new() };
    for state in [SagaState::Running, SagaState::Held] {
        let row = sqlx::query(COUNT).bind(state.as_str()).fetch_one(readers).await.map_err(fault)?;
        let refunds = rows::number(&row, "refunds")?;
        if state == SagaState::Held {
            let since: Option<i64> = rows::get(&row, "since")?;
            (open.held, open.oldest_held) =
                (refunds, since.map(|_| rows::moment(&row, "since")).transpose()?);
        } else {
            open.running = refunds;
        }
        let newest = sqlx::query(NEWEST).bind(state.as_str()).bind(limit).fetch_all(readers).await;
        for row in newest.map_err(fault)? {
            open.newest.push(read_saga(&row)?);
        }
    }
    Ok(open)
}

pub(super) async fn due(readers: &SqlitePool, kind: SagaKind, limit: u32) -> Result<Vec<OrderId>, Fault> {
    const SQL: &str = "SELECT order_id FROM sagas WHERE kind = ? AND state = 'running' AND due_at <= ? \
                       ORDER BY due_at LIMIT ?";
    let now = seckill_core::now().timestamp_millis();
    let found = sqlx::query(SQL).bind(kind.as_str()).bind(now).bind(limit).fetch_all(readers).await;
    found.map_err(fault)?.iter().map(rows::order_id).collect()
}

fn read_saga(row: &SqliteRow) -> Result<Saga, Fault> {
    let (kind, state): (&str, &str) = (rows::get(row, "kind")?, rows::get(row, "state")?);
    let due_at: Option<i64> = rows::get(row, "due_at")?;
    Ok(Saga {
        kind: SagaKind::parse(kind).ok_or_else(|| rows::corrupt(format!("{kind:?} is no kind of saga")))?,
        order_id: rows::order_id(row)?,
        state: SagaState::parse(state)
            .ok_or_else(|| rows::corrupt(format!("{state:?} is no state of a saga")))?,
        due_at: due_at.map(|_| rows::moment(row, "due_at")).transpose()?,
        attempts: rows::number(row, "attempts")?,
        body: rows::get(row, "body")?,
    })
}

pub(super) async fn put_saga(connection: &mut SqliteConnection, saga: &Saga) -> Result<(), Fault> {
    const SQL: &str = "INSERT INTO sagas (kind, order_id, state, due_at, attempts, body) VALUES (?, ?, ?, ?, ?, ?) \
                       ON CONFLICT (kind, order_id) DO UPDATE SET state = excluded.state, due_at = excluded.due_at, \
                       attempts = excluded.attempts, body = excluded.body";
    let put = sqlx::query(SQL)
        .bind(saga.kind.as_str())
        .bind(rows::id_bytes(saga.order_id))
        .bind(saga.state.as_str())
        .bind(saga.due_at.map(|due| due.timestamp_millis()))
        .bind(saga.attempts)
        .bind(&saga.body);
    put.execute(connection).await.map(drop).map_err(fault)
}

pub(super) async fn add_entries(connection: &mut SqliteConnection, entries: &[Entry]) -> Result<(), Fault> {
    const SQL: &str =
        "INSERT INTO entries (transfer, order_id, sale_id, account, cents, at) VALUES (?, ?, ?, ?, ?, ?)";
    let now = seckill_core::now().timestamp_millis();
    for entry in entries {
        let insert = sqlx::query(SQL)
            .bind(entry.transfer.as_bytes().to_vec())
            .bind(rows::id_bytes(entry.order_id))
            .bind(entry.sale_id.0.cast_signed())
            .bind(&entry.account)
            .bind(entry.cents)
            .bind(now);
        insert.execute(&mut *connection).await.map_err(fault)?;
    }
    Ok(())
}

pub(super) async fn balance(readers: &SqlitePool, user: UserId) -> Result<u64, Fault> {
    let query = sqlx::query("SELECT cents FROM balances WHERE user_id = ?").bind(user.0.cast_signed());
    let row = query.fetch_optional(readers).await.map_err(fault)?;
    row.as_ref().map_or(Ok(0), |row| rows::number(row, "cents"))
}

pub(super) async fn change_balance(
    connection: &mut SqliteConnection,
    user: UserId,
    cents: i64,
) -> Result<bool, Fault> {
    const ADD: &str = "INSERT INTO balances (user_id, cents) VALUES (?, ?) \
                       ON CONFLICT (user_id) DO UPDATE SET cents = cents + excluded.cents";
    const TAKE: &str = "UPDATE balances SET cents = cents + ?2 WHERE user_id = ?1 AND cents + ?2 >= 0";
    let change = sqlx::query(if cents < 0 { TAKE } else { ADD });
    let done = change.bind(user.0.cast_signed()).bind(cents).execute(connection).await.map_err(fault)?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn add_coupon(
    connection: &mut SqliteConnection,
    code: &str,
    cents: u64,
) -> Result<bool, Fault> {
    let insert = sqlx::query("INSERT INTO coupons (code, cents) VALUES (?, ?) ON CONFLICT DO NOTHING");
    let done = insert.bind(code).bind(rows::cents(cents)).execute(connection).await.map_err(fault)?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn use_coupon(
    connection: &mut SqliteConnection,
    code: &str,
    order: OrderId,
) -> Result<Option<u64>, Fault> {
    const SQL: &str = "UPDATE coupons SET order_id = ? WHERE code = ? AND order_id IS NULL RETURNING cents";
    let update = sqlx::query(SQL).bind(rows::id_bytes(order)).bind(code);
    let row = update.fetch_optional(connection).await.map_err(fault)?;
    row.as_ref().map(|row| rows::number(row, "cents")).transpose()
}

pub(super) async fn free_coupon(
    connection: &mut SqliteConnection,
    code: &str,
    order: OrderId,
) -> Result<(), Fault> {
    let update = sqlx::query("UPDATE coupons SET order_id = NULL WHERE code = ? AND order_id = ?");
    update.bind(code).bind(rows::id_bytes(order)).execute(connection).await.map(drop).map_err(fault)
}

pub(super) async fn request(
    connection: &mut SqliteConnection,
    user: UserId,
    key: &str,
    hash: &[u8; 32],
) -> Result<Request, Fault> {
    const INSERT: &str =
        "INSERT INTO requests (user_id, request_key, hash, at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING";
    const FIND: &str = "SELECT hash, answer FROM requests WHERE user_id = ? AND request_key = ?";
    let now = seckill_core::now().timestamp_millis();
    let insert = sqlx::query(INSERT).bind(user.0.cast_signed()).bind(key).bind(hash.to_vec()).bind(now);
    if insert.execute(&mut *connection).await.map_err(fault)?.rows_affected() == 1 {
        return Ok(Request::New);
    }
    let found = sqlx::query(FIND).bind(user.0.cast_signed()).bind(key).fetch_one(connection).await;
    let row = found.map_err(fault)?;
    let first: &[u8] = rows::get(&row, "hash")?;
    Ok(if first == hash { Request::Repeated(rows::get(&row, "answer")?) } else { Request::Differs })
}

pub(super) async fn answer_request(
    connection: &mut SqliteConnection,
    user: UserId,
    key: &str,
    answer: &str,
) -> Result<(), Fault> {
    let update = sqlx::query("UPDATE requests SET answer = ? WHERE user_id = ? AND request_key = ?");
    update
        .bind(answer)
        .bind(user.0.cast_signed())
        .bind(key)
        .execute(connection)
        .await
        .map(drop)
        .map_err(fault)
}

/// Whether there is a request of up to a moment.
pub(super) const OLD_REQUESTS: &str = "SELECT 1 FROM requests WHERE at <= ? LIMIT 1";

/// Removes requests of up to `before`, in milliseconds since 1970.
pub(super) fn forget_requests(before: i64) -> Query<'static, Sqlite, SqliteArguments> {
    sqlx::query("DELETE FROM requests WHERE at <= ?").bind(before)
}

pub(super) async fn money(readers: &SqlitePool, sale: SaleId) -> Result<Money, Fault> {
    // One statement, so that all of it is read at one moment.
    const SQL: &str = "SELECT \
        (SELECT COALESCE(-SUM(cents), 0) FROM entries WHERE sale_id = ?1 AND account = ?2 AND cents < 0) AS charged, \
        (SELECT COALESCE(SUM(cents), 0) FROM entries WHERE sale_id = ?1 AND account = ?2 AND cents > 0) AS refunded, \
        (SELECT COALESCE(SUM(cents), 0) FROM entries WHERE sale_id = ?1) AS entries_sum, \
        (SELECT COUNT(*) FROM (SELECT 1 FROM entries WHERE sale_id = ?1 GROUP BY transfer HAVING SUM(cents) <> 0)) \
            AS unbalanced, \
        (SELECT COALESCE(SUM(amount_cents), 0) FROM orders WHERE sale_id = ?1 AND status = 'paid') AS paid, \
        (SELECT COALESCE(SUM(amount_cents), 0) FROM orders WHERE sale_id = ?1 \
            AND status IN ('refunding', 'refund_held')) AS refunding";
    let account = seckill_core::money::sale_account(sale);
    let query = sqlx::query(SQL).bind(sale.0.cast_signed()).bind(account);
    let row = query.fetch_one(readers).await.map_err(fault)?;
    Ok(Money {
        charged_cents: rows::number(&row, "charged")?,
        refunded_cents: rows::number(&row, "refunded")?,
        paid_cents: rows::number(&row, "paid")?,
        refunding_cents: rows::number(&row, "refunding")?,
        entries_sum: rows::get(&row, "entries_sum")?,
        unbalanced: rows::number(&row, "unbalanced")?,
    })
}

pub(super) async fn refund_effects(readers: &SqlitePool, sale: SaleId) -> Result<RefundEffects, Fault> {
    // One statement, so that all of it is read at one moment. A sale's orders and a user's active order are found by the unique key.
    const SQL: &str = "\
        SELECT '' AS part, 'transfers' AS name, COUNT(*) AS number FROM entries \
            WHERE sale_id = ?1 AND account = ?2 AND cents > 0 \
        UNION ALL SELECT '', 'succeeded', COUNT(*) FROM orders JOIN sagas ON order_id = orders.id \
            WHERE sale_id = ?1 AND kind = 'refund' AND state = 'succeeded' \
        UNION ALL SELECT '', 'open_refunds', COUNT(*) FROM orders JOIN sagas ON order_id = orders.id \
            WHERE sale_id = ?1 AND kind = 'refund' AND state IN ('running', 'held') \
        UNION ALL SELECT '', 'ended_orders', ended_orders FROM sales WHERE id = ?1 \
        UNION ALL SELECT '', 'returned_orders', returned_orders FROM sales WHERE id = ?1 \
        UNION ALL SELECT '', 'points_due', COALESCE(SUM(amount_cents / ?3), 0) FROM orders \
            WHERE sale_id IN (SELECT id FROM sales WHERE payment_window_ms IS NOT NULL) \
            AND user_id IN (SELECT user_id FROM orders WHERE sale_id = ?1) AND active = 1 \
            AND status IN ('paid', 'refunding', 'refund_held') \
        UNION ALL SELECT '', 'points', COALESCE(SUM(points), 0) FROM points \
            WHERE user_id IN (SELECT user_id FROM orders WHERE sale_id = ?1) \
        UNION ALL SELECT 'funnel', stage, orders FROM funnel WHERE sale_id = ?1 AND stage LIKE 'refund.%' \
        UNION ALL SELECT 'notifications', kind, COUNT(*) FROM orders JOIN notices ON order_id = orders.id \
            WHERE sale_id = ?1 AND kind LIKE 'refund.%' GROUP BY kind";
    let account = seckill_core::money::sale_account(sale);
    let query = sqlx::query(SQL).bind(sale.0.cast_signed()).bind(account);
    let found = query.bind(CENTS_PER_POINT.cast_signed()).fetch_all(readers).await.map_err(fault)?;
    let mut effects = RefundEffects::default();
    for row in &found {
        let (part, name, number) =
            (rows::get(row, "part")?, rows::get(row, "name")?, rows::get(row, "number")?);
        if !effects.set(part, name, number) {
            return Err(rows::corrupt(format!("the count of {name} is {number}")));
        }
    }
    Ok(effects)
}
