//! What a lost gate or a lost ledger needs: the changes of a sale's state, and the lock under which a gate is filled
//! again.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use seckill_core::{Claim, Epoch, Fault, LockedSale, Mode, OrderId, RebuildStep, Sale, SaleId, SaleState};
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, SqlitePool};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use super::{Writing, fault, rows, sales};
use crate::sqlite::{Transaction, WriteConnection};

/// Counts the rejections of a sale that this transaction has inserted; the sale with that count.
pub(super) async fn count_earlier_rejections(
    connection: &mut SqliteConnection,
    id: i64,
) -> Result<Sale, Fault> {
    const SQL: &str = "UPDATE sales SET rejected_orders = (SELECT COUNT(*) FROM rejections WHERE sale_id = ?1) \
                       WHERE id = ?1 RETURNING *";
    let row = sqlx::query(SQL).bind(id).fetch_one(connection).await.map_err(fault)?;
    rows::sale(&row)
}

/// Inserts the sale unless there is one of its id; of that one, records the changes that it lacks.
pub(super) async fn restore_sale(connection: &mut SqliteConnection, sale: &Sale) -> Result<(), Fault> {
    const SQL: &str = "INSERT INTO sales (id, name, product, stock, price_cents, currency, per_user_limit, starts_at, \
                       ends_at, payment_window_ms, admission, epoch, state, rebuild_since, created_at, paused, revision) \
                       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING";
    let stored_epoch = match sale.mode {
        Mode::Queue => sale.epoch,
        Mode::Direct => sale.mode.stored_epoch(),
    };
    let rebuilding_since = (sale.state == SaleState::Rebuilding)
        .then(|| sale.rebuild.map_or_else(seckill_core::now, |rebuild| rebuild.since).timestamp_millis());
    let id = sale.id.0.cast_signed();
    let inserted = sqlx::query(SQL)
        .bind(id)
        .bind(&sale.name)
        .bind(&sale.product)
        .bind(sale.stock)
        .bind(rows::cents(sale.price_cents))
        .bind(&sale.currency)
        .bind(sale.per_user_limit)
        .bind(sale.starts_at.timestamp_millis())
        .bind(sale.ends_at.timestamp_millis())
        .bind(sale.payment_window_ms.map(rows::count))
        .bind(rows::admission_text(&sale.admission))
        .bind(stored_epoch)
        .bind(sale.state.as_str())
        .bind(rebuilding_since)
        .bind(sale.created_at.timestamp_millis())
        .bind(sale.paused)
        .bind(sale.revision)
        .execute(&mut *connection)
        .await
        .map_err(fault)?;
    if inserted.rows_affected() == 1 {
        count_earlier_rejections(connection, id).await?;
        return Ok(());
    }
    sales::restore_changes(connection, sale).await
}

pub(super) fn begin(
    sale: SaleId,
    (from, to, gate): (Epoch, Epoch, Epoch),
) -> Query<'static, Sqlite, SqliteArguments> {
    // A direct sale has the highest epoch, so that none is later.
    const SQL: &str = "UPDATE sales SET epoch = ?1, state = 'rebuilding', open_epoch = MAX(open_epoch, ?5), \
                       rebuild_owner = NULL, rebuild_lease = NULL, \
                       rebuild_step = NULL, rebuild_done = NULL, rebuild_total = NULL, rebuild_since = ?2 \
                       WHERE id = ?3 AND epoch = ?4 AND epoch < ?1 AND state <> 'closed_out'";
    let now = seckill_core::now().timestamp_millis();
    sqlx::query(SQL).bind(to).bind(now).bind(sale.0.cast_signed()).bind(from).bind(gate)
}

pub(super) async fn take_up(
    connection: &mut SqliteConnection,
    seen: &Sale,
    (to, gate): (Epoch, Epoch),
    owner: Uuid,
    lease: Duration,
) -> Result<bool, Fault> {
    // Whoever fills the gate of a sale has the write lock, and opens the sale meanwhile.
    const AS_SEEN: &str = "SELECT COUNT(*) FROM sales WHERE id = ? AND epoch = ? AND state = ?";
    const OTHERS: &str =
        "SELECT COUNT(*) FROM sales WHERE state = 'rebuilding' AND rebuild_owner <> ? AND rebuild_lease > ?";
    let others: i64 = sqlx::query_scalar(OTHERS)
        .bind(owner.as_bytes().to_vec())
        .bind(seckill_core::now().timestamp_millis())
        .fetch_one(&mut *connection)
        .await
        .map_err(fault)?;
    let as_seen: i64 = sqlx::query_scalar(AS_SEEN)
        .bind(seen.id.0.cast_signed())
        .bind(seen.epoch)
        .bind(seen.state.as_str())
        .fetch_one(&mut *connection)
        .await
        .map_err(fault)?;
    if others > 0 || as_seen == 0 {
        return Ok(false);
    }
    let start = (RebuildStep::Waiting, 0, None);
    for update in [begin(seen.id, (seen.epoch, to, gate)), own(seen.id, to, owner, lease, start)] {
        if update.execute(&mut *connection).await.map_err(fault)?.rows_affected() == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn own(
    sale: SaleId,
    epoch: Epoch,
    owner: Uuid,
    lease: Duration,
    (step, done, total): (RebuildStep, u64, Option<u64>),
) -> Query<'static, Sqlite, SqliteArguments> {
    const SQL: &str = "UPDATE sales SET rebuild_owner = ?1, rebuild_lease = ?2, rebuild_step = ?3, rebuild_done = ?4, \
                       rebuild_total = ?5 WHERE id = ?6 AND epoch = ?7 AND state = 'rebuilding' \
                       AND (rebuild_owner IS NULL OR rebuild_owner = ?1 OR rebuild_lease <= ?8)";
    let now = seckill_core::now().timestamp_millis();
    let until = now.saturating_add(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX));
    sqlx::query(SQL)
        .bind(owner.as_bytes().to_vec())
        .bind(until)
        .bind(step.as_str())
        .bind(rows::count(done))
        .bind(total.map(rows::count))
        .bind(sale.0.cast_signed())
        .bind(epoch)
        .bind(now)
}

pub(super) fn close_out(sale: SaleId, revision: u32) -> Query<'static, Sqlite, SqliteArguments> {
    // A sale that is closed out already counts as found: the call may be a second one.
    const SQL: &str = "UPDATE sales SET state = 'closed_out' \
                       WHERE id = ? AND state IN ('open', 'closed_out') AND revision = ?";
    sqlx::query(SQL).bind(sale.0.cast_signed()).bind(revision)
}

/// Which of these orders are committed or rejected; for as many as one statement takes.
pub(super) async fn recorded_among(readers: &SqlitePool, orders: &[OrderId]) -> Result<Vec<OrderId>, Fault> {
    let ids = || orders.iter().copied().map(rows::id_bytes);
    let mut query = QueryBuilder::<Sqlite>::new("SELECT id AS order_id FROM orders WHERE id IN (");
    rows::push_list(&mut query, ids());
    query.push(" UNION ALL SELECT order_id FROM rejections WHERE reason <> 'stale_epoch' AND order_id IN (");
    rows::push_list(&mut query, ids());
    let found = query.build().persistent(false).fetch_all(readers).await.map_err(fault)?;
    found.iter().map(rows::order_id).collect()
}

/// Has the write lock of the whole file, so that nothing at all is written meanwhile.
pub(super) struct Locked {
    transaction: Transaction<OwnedMutexGuard<WriteConnection>>,
    sale: Sale,
    _writing: Arc<Writing>,
}

/// Locks the sale if `owner` rebuilds it on `epoch`. Its lease may be over, as long as nobody else has taken one.
pub(super) async fn lock(
    writing: Arc<Writing>,
    sale: SaleId,
    epoch: Epoch,
    owner: Uuid,
) -> Result<Option<Locked>, Fault> {
    let guard = Arc::clone(&writing.connection).lock_owned().await;
    let mut transaction = Transaction::begin(guard).await?;
    let query = sqlx::query("SELECT * FROM sales WHERE id = ?").bind(sale.0.cast_signed());
    if let Some(row) = query.fetch_optional(transaction.connection()).await.map_err(fault)? {
        let sale = rows::sale(&row)?;
        let is_mine = sale.state == SaleState::Rebuilding && rows::owner(&row)? == Some(owner);
        if is_mine && sale.epoch == epoch {
            return Ok(Some(Locked { transaction, sale, _writing: writing }));
        }
    }
    transaction.rollback().await?;
    Ok(None)
}

#[async_trait]
impl LockedSale for Locked {
    fn sale(&self) -> &Sale {
        &self.sale
    }

    async fn active_orders(&mut self, after: Option<OrderId>, limit: u32) -> Result<Vec<Claim>, Fault> {
        // The plus sign keeps SQLite on the primary key, in whose order a page costs its own rows only.
        const SQL: &str = "SELECT id AS order_id, user_id, quantity, accepted_at FROM orders \
                           WHERE +sale_id = ? AND active = 1 AND id > ? ORDER BY id LIMIT ?";
        // An empty blob comes before every id.
        let after = after.map_or_else(Vec::new, rows::id_bytes);
        let query = sqlx::query(SQL).bind(self.sale.id.0.cast_signed()).bind(after).bind(limit);
        let found = query.fetch_all(self.transaction.connection()).await.map_err(fault)?;
        found.iter().map(rows::claim).collect()
    }

    async fn open(mut self: Box<Self>) -> Result<(), Fault> {
        const SQL: &str = "UPDATE sales SET state = 'open', open_epoch = epoch, rebuild_owner = NULL, rebuild_lease = NULL, \
                           rebuild_step = NULL, rebuild_done = NULL, rebuild_total = NULL, rebuild_since = NULL \
                           WHERE id = ?";
        let update = sqlx::query(SQL).bind(self.sale.id.0.cast_signed());
        update.execute(self.transaction.connection()).await.map_err(fault)?;
        self.transaction.commit().await
    }
}
