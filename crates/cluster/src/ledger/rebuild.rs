//! What a lost gate or a lost ledger asks of the database, one function a query. The lock under which a gate is filled
//! again is in `refill`.
//!
//! Updates find the sale by its primary key only: through the index of states they would lock in the other order than
//! whoever has the row locked and changes its state.

use std::collections::HashSet;
use std::time::Duration;

use seckill_core::{Epoch, Mode, OrderId, RebuildStep, RejectReason, Sale, SaleId, SaleState};
use sqlx::Result;
use sqlx::mysql::MySqlConnection;
use uuid::Uuid;

use super::rows::{self, SaleRow, sales_and};
use super::server::{code, number};
use super::statements::{self, IDS_AT_ONCE};
use super::{queries, sales};

pub(super) async fn unfinished_sales(
    connection: &mut MySqlConnection,
    after: Option<SaleId>,
    limit: u32,
) -> Result<Vec<Sale>> {
    // By the index of states, because closed sales become many and these stay few.
    let sql = concat!(
        sales_and!(),
        "FORCE INDEX (sales_by_state) WHERE state IN ('open', 'rebuilding') AND id > ? AND epoch <> ? \
         ORDER BY id LIMIT ?"
    );
    let after = after.map_or(0, |id| id.0);
    let found = sqlx::query_as(sql).bind(after).bind(Mode::Direct.stored_epoch()).bind(limit);
    Ok(found.fetch_all(connection).await?.into_iter().map(|SaleRow(sale)| sale).collect())
}

/// Inserts the sale unless there is one of its id, in one transaction with the count of its rejections; of one that is there,
/// records the changes that it lacks.
pub(super) async fn restore_sale(connection: &mut MySqlConnection, sale: Sale) -> Result<()> {
    statements::begin(connection).await?;
    let stored_epoch = match sale.mode {
        Mode::Queue => sale.epoch,
        Mode::Direct => sale.mode.stored_epoch(),
    };
    let rebuilding_since = (sale.state == SaleState::Rebuilding)
        .then(|| sale.rebuild.map_or_else(seckill_core::now, |rebuild| rebuild.since).naive_utc());
    let inserted = sqlx::query(
        "INSERT INTO sales (id, name, product, stock, price_cents, currency, per_user_limit, starts_at, ends_at, \
         epoch, state, rebuild_since, payment_window_ms, admission, created_at, paused, revision) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(sale.id.0)
    .bind(&sale.name)
    .bind(&sale.product)
    .bind(sale.stock)
    .bind(sale.price_cents)
    .bind(&sale.currency)
    .bind(sale.per_user_limit)
    .bind(sale.starts_at.naive_utc())
    .bind(sale.ends_at.naive_utc())
    .bind(stored_epoch)
    .bind(sale.state.as_str())
    .bind(rebuilding_since)
    .bind(sale.payment_window_ms)
    .bind(rows::admission_text(&sale.admission))
    .bind(sale.created_at.naive_utc())
    .bind(sale.paused)
    .bind(sale.revision)
    .execute(&mut *connection)
    .await;
    match inserted {
        Ok(_) => queries::count_earlier_rejections(connection, sale.id).await?,
        Err(error) if number(&error) == Some(code::DUPLICATE_ENTRY) => {
            sales::restore_changes(connection, &sale).await?;
        }
        Err(error) => return Err(error),
    }
    statements::commit(connection).await
}

pub(super) async fn begin_rebuild(
    connection: &mut MySqlConnection,
    sale: SaleId,
    (from, to, gate): (Epoch, Epoch, Epoch),
) -> Result<bool> {
    // A direct sale has the highest epoch, so that none is later.
    let update = sqlx::query(
        "UPDATE sales FORCE INDEX (PRIMARY) SET epoch = ?, state = 'rebuilding', open_epoch = GREATEST(open_epoch, ?), \
         rebuild_owner = NULL, rebuild_lease = NULL, \
         rebuild_step = NULL, rebuild_done = NULL, rebuild_total = NULL, rebuild_since = UTC_TIMESTAMP(3) \
         WHERE id = ? AND epoch = ? AND epoch < ? AND state <> 'closed_out'",
    );
    let update = update.bind(to).bind(gate).bind(sale.0).bind(from).bind(to);
    Ok(update.execute(connection).await?.rows_affected() == 1)
}

pub(super) async fn take_up_rebuild(
    connection: &mut MySqlConnection,
    seen: Sale,
    (to, gate): (Epoch, Epoch),
    owner: Uuid,
    lease: Duration,
) -> Result<bool> {
    lock_takeovers(connection).await?;
    let others: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM sales WHERE state = 'rebuilding' \
         AND rebuild_owner <> ? AND rebuild_lease > UTC_TIMESTAMP(3)",
    )
    .bind(owner.as_bytes().as_slice())
    .fetch_one(&mut *connection)
    .await?;
    let start = (RebuildStep::Waiting, 0, None);
    let taken = others == 0
        && is_as_seen(connection, &seen, owner).await?
        && begin_rebuild(connection, seen.id, (seen.epoch, to, gate)).await?
        && own_rebuild(connection, (seen.id, to), owner, lease, start).await?;
    statements::commit(connection).await?;
    Ok(taken)
}

/// Begins a transaction. Whoever takes a rebuild up locks this row first, so that of two at once the second one sees what the
/// first one has taken.
async fn lock_takeovers(connection: &mut MySqlConnection) -> Result<()> {
    statements::begin(connection).await?;
    sqlx::query("SELECT only_row FROM ledger_identity FOR UPDATE").execute(&mut *connection).await?;
    Ok(())
}

/// Locks the sale. Whoever fills its gate has it locked, and opens it meanwhile; an owner may have renewed its lease.
async fn is_as_seen(connection: &mut MySqlConnection, seen: &Sale, owner: Uuid) -> Result<bool> {
    let row = sqlx::query(
        "SELECT id FROM sales FORCE INDEX (PRIMARY) WHERE id = ? AND epoch = ? AND state = ? \
         AND (rebuild_owner IS NULL OR rebuild_owner = ? OR rebuild_lease <= UTC_TIMESTAMP(3)) FOR UPDATE",
    );
    let row = row.bind(seen.id.0).bind(seen.epoch).bind(seen.state.as_str());
    Ok(row.bind(owner.as_bytes().as_slice()).fetch_optional(connection).await?.is_some())
}

pub(super) async fn own_rebuild(
    connection: &mut MySqlConnection,
    (sale, epoch): (SaleId, Epoch),
    owner: Uuid,
    lease: Duration,
    (step, done, total): (RebuildStep, u64, Option<u64>),
) -> Result<bool> {
    let update = sqlx::query(
        "UPDATE sales FORCE INDEX (PRIMARY) SET rebuild_owner = ?, rebuild_lease = UTC_TIMESTAMP(3) + INTERVAL ? MICROSECOND, \
         rebuild_step = ?, rebuild_done = ?, rebuild_total = ? \
         WHERE id = ? AND epoch = ? AND state = 'rebuilding' \
         AND (rebuild_owner IS NULL OR rebuild_owner = ? OR rebuild_lease <= UTC_TIMESTAMP(3))",
    );
    let owner = owner.as_bytes().as_slice();
    let micros = i64::try_from(lease.as_micros()).unwrap_or(i64::MAX);
    let update = update.bind(owner).bind(micros).bind(step.as_str()).bind(done).bind(total);
    let update = update.bind(sale.0).bind(epoch).bind(owner);
    Ok(update.execute(connection).await?.rows_affected() == 1)
}

pub(super) async fn close_out(connection: &mut MySqlConnection, sale: SaleId, revision: u32) -> Result<bool> {
    // A sale that is closed out already counts as found: the call may be a second one.
    let update = sqlx::query(
        "UPDATE sales FORCE INDEX (PRIMARY) SET state = 'closed_out' \
         WHERE id = ? AND state IN ('open', 'closed_out') AND revision = ?",
    );
    Ok(update.bind(sale.0).bind(revision).execute(connection).await?.rows_affected() == 1)
}

pub(super) async fn missing_among(
    connection: &mut MySqlConnection,
    orders: Vec<OrderId>,
) -> Result<HashSet<OrderId>> {
    let mut missing: HashSet<_> = orders.iter().copied().collect();
    for some in orders.chunks(IDS_AT_ONCE) {
        for (id, reason) in statements::rejected_among(connection, some).await? {
            if reason != RejectReason::StaleEpoch {
                missing.remove(&id);
            }
        }
        for id in statements::committed_among(connection, some).await? {
            missing.remove(&id);
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use seckill_core::Ledger;
    use seckill_testkit::eventually;
    use seckill_testkit::fixtures::new_sale;

    use super::super::readers::{Effect, Readers};
    use super::super::server::{IDLE, Server};
    use super::super::{ANSWER, MySqlLedger};
    use super::*;

    /// A worker that is frozen between two statements of a takeover leaves its transaction open.
    #[tokio::test]
    async fn a_takeover_that_is_frozen_blocks_another_worker_for_half_a_minute_at_the_most() {
        let mysql = seckill_testkit::mysql().await;
        crate::migrate(&mysql.url).await.unwrap();
        let options = || crate::config::mysql(&mysql.url).unwrap();
        let frozen = Readers::new(Server::new(options(), Arc::default()), 1, ANSWER);
        let locked = frozen.run(Effect::Transaction, |connection| Box::pin(lock_takeovers(connection)));
        locked.await.unwrap();

        let ledger = MySqlLedger::new(options(), Arc::default());
        let sale = ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
        let (worker, lease) = (Uuid::now_v7(), Duration::from_secs(15));
        // The rest is for a busy machine.
        eventually(IDLE + Duration::from_secs(10), async || {
            match ledger.take_up_rebuild(&sale, (sale.epoch + 1, 0), worker, lease).await {
                Ok(true) => Ok(()),
                not_yet => Err(format!("{not_yet:?}")),
            }
        })
        .await;
        drop(frozen);
    }
}
