//! Money on MySQL: sagas, entries, balances, coupons and requests, one function a statement. What users wrote is among the
//! values, so all of them are bound.

use std::time::Duration;

use seckill_core::effects::{CENTS_PER_POINT, RefundEffects};
use seckill_core::money::{Entry, Money, OpenRefunds, Request, Saga, SagaKind, SagaState, sale_account};
use seckill_core::{OrderId, SaleId, UserId};
use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::{Error, Result, Row};

use super::rows::{self, now_ms};
use super::server::{code, number};

/// The saga, and where `lock` says so a lock on it until the transaction ends.
pub(super) async fn saga(
    connection: &mut MySqlConnection,
    kind: SagaKind,
    order: OrderId,
    lock: bool,
) -> Result<Option<Saga>> {
    const FIND: &str = "SELECT kind, order_id, state, due_at, attempts, body FROM sagas \
                        WHERE kind = ? AND order_id = ?";
    const LOCK: &str = "SELECT kind, order_id, state, due_at, attempts, body FROM sagas \
                        WHERE kind = ? AND order_id = ? FOR UPDATE";
    let query = sqlx::query(if lock { LOCK } else { FIND });
    let row = query.bind(kind.as_str()).bind(bytes(&order)).fetch_optional(connection).await?;
    row.as_ref().map(read_saga).transpose()
}

pub(super) async fn sagas(
    connection: &mut MySqlConnection,
    kind: SagaKind,
    state: SagaState,
    limit: u32,
) -> Result<Vec<Saga>> {
    let found = sqlx::query(
        "SELECT kind, order_id, state, due_at, attempts, body FROM sagas WHERE kind = ? AND state = ? \
         ORDER BY order_id LIMIT ?",
    );
    let found = found.bind(kind.as_str()).bind(state.as_str()).bind(limit).fetch_all(connection).await?;
    found.iter().map(read_saga).collect()
}

pub(super) async fn open_refunds(connection: &mut MySqlConnection, limit: u32) -> Result<OpenRefunds> {
    let row = sqlx::query(concat!("SELECT CAST(", now_ms!(), " AS UNSIGNED) AS now"));
    let now = row.fetch_one(&mut *connection).await?.try_get("now")?;
    let mut open =
        OpenRefunds { running: 0, held: 0, oldest_held: None, now: rows::moment(now)?, newest: Vec::new() };
    for state in [SagaState::Running, SagaState::Held] {
        let count = sqlx::query(
            "SELECT CAST(COUNT(*) AS UNSIGNED) AS refunds, MIN(due_at) AS since \
             FROM sagas FORCE INDEX (sagas_by_state) WHERE kind = 'refund' AND state = ?",
        );
        let row = count.bind(state.as_str()).fetch_one(&mut *connection).await?;
        let (refunds, since): (u64, Option<u64>) = (row.try_get("refunds")?, row.try_get("since")?);
        if state == SagaState::Held {
            (open.held, open.oldest_held) = (refunds, since.map(rows::moment).transpose()?);
        } else {
            open.running = refunds;
        }
        let newest = sqlx::query(
            "SELECT kind, order_id, state, due_at, attempts, body FROM sagas FORCE INDEX (sagas_by_state) \
             WHERE kind = 'refund' AND state = ? ORDER BY order_id DESC LIMIT ?",
        );
        let newest = newest.bind(state.as_str()).bind(limit).fetch_all(&mut *connection).await?;
        for row in &newest {
            open.newest.push(read_saga(row)?);
        }
    }
    Ok(open)
}

pub(super) async fn due(
    connection: &mut MySqlConnection,
    kind: SagaKind,
    limit: u32,
) -> Result<Vec<OrderId>> {
    let due = sqlx::query(concat!(
        "SELECT order_id FROM sagas FORCE INDEX (sagas_by_state) WHERE kind = ? AND state = 'running' AND due_at <= ",
        now_ms!(),
        " ORDER BY due_at LIMIT ?"
    ));
    let due = due.bind(kind.as_str()).bind(limit).fetch_all(connection).await?;
    due.iter().map(|row| rows::order_id(row.try_get(0)?)).collect()
}

fn read_saga(row: &MySqlRow) -> Result<Saga> {
    let (kind, state): (String, String) = (row.try_get("kind")?, row.try_get("state")?);
    let due_at: Option<u64> = row.try_get("due_at")?;
    Ok(Saga {
        kind: SagaKind::parse(&kind).ok_or_else(|| unreadable(format!("no kind of saga: {kind:?}")))?,
        order_id: rows::order_id(row.try_get("order_id")?)?,
        state: SagaState::parse(&state)
            .ok_or_else(|| unreadable(format!("no state of a saga: {state:?}")))?,
        due_at: due_at.map(rows::moment).transpose()?,
        attempts: row.try_get("attempts")?,
        body: row.try_get("body")?,
    })
}

fn unreadable(what: String) -> Error {
    Error::Decode(what.into())
}

pub(super) async fn put_saga(connection: &mut MySqlConnection, saga: Saga) -> Result<()> {
    let put = sqlx::query(
        "INSERT INTO sagas (kind, order_id, state, due_at, attempts, body) VALUES (?, ?, ?, ?, ?, ?) \
         ON DUPLICATE KEY UPDATE state = VALUES(state), due_at = VALUES(due_at), attempts = VALUES(attempts), \
         body = VALUES(body)",
    );
    let put = put.bind(saga.kind.as_str()).bind(bytes(&saga.order_id)).bind(saga.state.as_str());
    let put = put.bind(saga.due_at.map(|due| due.timestamp_millis())).bind(saga.attempts);
    put.bind(saga.body).execute(connection).await.map(drop)
}

pub(super) async fn add_entries(connection: &mut MySqlConnection, entries: Vec<Entry>) -> Result<()> {
    for Entry { transfer, order_id, sale_id, account, cents } in entries {
        let insert = sqlx::query(concat!(
            "INSERT INTO entries (transfer, order_id, sale_id, account, cents, at) VALUES (?, ?, ?, ?, ?, ",
            now_ms!(),
            ")"
        ));
        let insert = insert.bind(transfer.as_bytes().as_slice()).bind(bytes(&order_id)).bind(sale_id.0);
        match insert.bind(&account).bind(cents).execute(&mut *connection).await {
            Err(error) if number(&error) == Some(code::DUPLICATE_ENTRY) => {
                return Err(unreadable(format!("transfer {transfer} has an entry for {account} already")));
            }
            other => other?,
        };
    }
    Ok(())
}

pub(super) async fn balance(connection: &mut MySqlConnection, user: UserId) -> Result<u64> {
    let found = sqlx::query_scalar("SELECT cents FROM balances WHERE user_id = ?").bind(user.0);
    Ok(found.fetch_optional(connection).await?.unwrap_or_default())
}

/// Adds to a balance or takes from it; false: there is not so much.
pub(super) async fn change_balance(
    connection: &mut MySqlConnection,
    user: UserId,
    cents: i64,
) -> Result<bool> {
    let amount = cents.unsigned_abs();
    if cents >= 0 {
        let add = sqlx::query(
            "INSERT INTO balances (user_id, cents) VALUES (?, ?) ON DUPLICATE KEY UPDATE cents = cents + VALUES(cents)",
        );
        return add.bind(user.0).bind(amount).execute(connection).await.map(|_| true);
    }
    let take = sqlx::query("UPDATE balances SET cents = cents - ? WHERE user_id = ? AND cents >= ?");
    let taken = take.bind(amount).bind(user.0).bind(amount).execute(connection).await?;
    Ok(taken.rows_affected() == 1)
}

pub(super) async fn add_coupon(connection: &mut MySqlConnection, code: String, cents: u64) -> Result<bool> {
    let insert = sqlx::query("INSERT INTO coupons (code, cents) VALUES (?, ?)").bind(code).bind(cents);
    is_new(insert.execute(connection).await)
}

/// Whether a row was inserted; otherwise there is one of its key. A duplicate ends only its statement.
fn is_new<T>(inserted: Result<T>) -> Result<bool> {
    match inserted {
        Ok(_) => Ok(true),
        Err(error) if number(&error) == Some(code::DUPLICATE_ENTRY) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) async fn use_coupon(
    connection: &mut MySqlConnection,
    code: String,
    order: OrderId,
) -> Result<Option<u64>> {
    let update = sqlx::query("UPDATE coupons SET order_id = ? WHERE code = ? AND order_id IS NULL");
    let used = update.bind(bytes(&order)).bind(&code).execute(&mut *connection).await?;
    if used.rows_affected() == 0 {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT cents FROM coupons WHERE code = ?").bind(code).fetch_optional(connection).await
}

pub(super) async fn free_coupon(
    connection: &mut MySqlConnection,
    code: String,
    order: OrderId,
) -> Result<()> {
    let update = sqlx::query("UPDATE coupons SET order_id = NULL WHERE code = ? AND order_id = ?");
    update.bind(code).bind(bytes(&order)).execute(connection).await.map(drop)
}

/// Records a request. One that is recorded at the same time waits for the other transaction's end.
pub(super) async fn request(
    connection: &mut MySqlConnection,
    user: UserId,
    key: String,
    hash: [u8; 32],
) -> Result<Request> {
    let insert = sqlx::query(concat!(
        "INSERT INTO requests (user_id, request_key, hash, at) VALUES (?, ?, ?, ",
        now_ms!(),
        ")"
    ));
    let insert = insert.bind(user.0).bind(&key).bind(hash.as_slice());
    if is_new(insert.execute(&mut *connection).await)? {
        return Ok(Request::New);
    }
    let found = sqlx::query("SELECT hash, answer FROM requests WHERE user_id = ? AND request_key = ?");
    let row = found.bind(user.0).bind(key).fetch_one(connection).await?;
    let first: Vec<u8> = row.try_get("hash")?;
    Ok(if first == hash { Request::Repeated(row.try_get("answer")?) } else { Request::Differs })
}

pub(super) async fn answer_request(
    connection: &mut MySqlConnection,
    user: UserId,
    key: String,
    answer: String,
) -> Result<()> {
    let update = sqlx::query("UPDATE requests SET answer = ? WHERE user_id = ? AND request_key = ?");
    update.bind(answer).bind(user.0).bind(key).execute(connection).await.map(drop)
}

/// Removes requests that are older than `age`.
pub(super) async fn forget_requests(connection: &mut MySqlConnection, age: Duration) -> Result<()> {
    let delete = sqlx::query(concat!("DELETE FROM requests WHERE at <= ", now_ms!(), " - ?"));
    let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    delete.bind(age).execute(connection).await.map(drop)
}

/// One statement, so that all of it is read at one moment.
pub(super) async fn money(connection: &mut MySqlConnection, sale: SaleId) -> Result<Money> {
    let sums = sqlx::query(
        "SELECT \
         (SELECT CAST(COALESCE(-SUM(cents), 0) AS UNSIGNED) FROM entries \
            WHERE sale_id = ? AND account = ? AND cents < 0) AS charged, \
         (SELECT CAST(COALESCE(SUM(cents), 0) AS UNSIGNED) FROM entries \
            WHERE sale_id = ? AND account = ? AND cents > 0) AS refunded, \
         (SELECT CAST(COALESCE(SUM(cents), 0) AS SIGNED) FROM entries WHERE sale_id = ?) AS entries_sum, \
         (SELECT COUNT(*) FROM (SELECT 1 FROM entries WHERE sale_id = ? GROUP BY transfer HAVING SUM(cents) <> 0) t) \
            AS unbalanced, \
         (SELECT CAST(COALESCE(SUM(amount_cents), 0) AS UNSIGNED) FROM orders \
            WHERE sale_id = ? AND status = 'paid') AS paid, \
         (SELECT CAST(COALESCE(SUM(amount_cents), 0) AS UNSIGNED) FROM orders \
            WHERE sale_id = ? AND status IN ('refunding', 'refund_held')) AS refunding",
    );
    let (id, account) = (sale.0, sale_account(sale));
    let sums = sums.bind(id).bind(&account).bind(id).bind(&account).bind(id).bind(id).bind(id).bind(id);
    let row = sums.fetch_one(connection).await?;
    let unbalanced: i64 = row.try_get("unbalanced")?;
    Ok(Money {
        charged_cents: row.try_get("charged")?,
        refunded_cents: row.try_get("refunded")?,
        paid_cents: row.try_get("paid")?,
        refunding_cents: row.try_get("refunding")?,
        entries_sum: row.try_get("entries_sum")?,
        unbalanced: unbalanced.unsigned_abs(),
    })
}

/// One statement, so that all of it is read at one moment. A sale's orders and a user's active order are found by the unique key.
pub(super) async fn refund_effects(connection: &mut MySqlConnection, sale: SaleId) -> Result<RefundEffects> {
    let counts = sqlx::query(
        "SELECT '' AS part, 'transfers' AS name, CAST(COUNT(*) AS SIGNED) AS number FROM entries \
            WHERE sale_id = ? AND account = ? AND cents > 0 \
         UNION ALL SELECT '', 'succeeded', CAST(COUNT(*) AS SIGNED) FROM orders \
            JOIN sagas ON sagas.kind = 'refund' AND sagas.order_id = orders.id \
            WHERE orders.sale_id = ? AND sagas.state = 'succeeded' \
         UNION ALL SELECT '', 'open_refunds', CAST(COUNT(*) AS SIGNED) FROM orders \
            JOIN sagas ON sagas.kind = 'refund' AND sagas.order_id = orders.id \
            WHERE orders.sale_id = ? AND sagas.state IN ('running', 'held') \
         UNION ALL SELECT '', 'ended_orders', CAST(ended_orders AS SIGNED) FROM sales WHERE id = ? \
         UNION ALL SELECT '', 'returned_orders', CAST(returned_orders AS SIGNED) FROM sales WHERE id = ? \
         UNION ALL SELECT '', 'points_due', CAST(COALESCE(SUM(amount_cents DIV ?), 0) AS SIGNED) FROM orders \
            WHERE sale_id IN (SELECT id FROM sales WHERE payment_window_ms IS NOT NULL) \
            AND user_id IN (SELECT user_id FROM orders WHERE sale_id = ?) AND active = 1 \
            AND status IN ('paid', 'refunding', 'refund_held') \
         UNION ALL SELECT '', 'points', CAST(COALESCE(SUM(points), 0) AS SIGNED) FROM points \
            WHERE user_id IN (SELECT user_id FROM orders WHERE sale_id = ?) \
         UNION ALL SELECT 'funnel', stage, CAST(orders AS SIGNED) FROM funnel \
            WHERE sale_id = ? AND stage LIKE 'refund.%' \
         UNION ALL SELECT 'notifications', notices.kind, CAST(COUNT(*) AS SIGNED) FROM orders \
            JOIN notices ON notices.order_id = orders.id \
            WHERE orders.sale_id = ? AND notices.kind LIKE 'refund.%' GROUP BY notices.kind",
    );
    let id = sale.0;
    let counts = counts.bind(id).bind(sale_account(sale)).bind(id).bind(id).bind(id).bind(id);
    let counts = counts.bind(CENTS_PER_POINT).bind(id).bind(id).bind(id).bind(id);
    let mut effects = RefundEffects::default();
    for row in counts.fetch_all(connection).await? {
        let (part, name): (String, String) = (row.try_get("part")?, row.try_get("name")?);
        let number = row.try_get("number")?;
        if !effects.set(&part, &name, number) {
            return Err(unreadable(format!("the count of {name} is {number}")));
        }
    }
    Ok(effects)
}

fn bytes(order: &OrderId) -> &[u8] {
    order.0.as_bytes().as_slice()
}
