//! What becomes of orders after their commit: transactions that hold the ledger's one write connection, and the reads that
//! go with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use seckill_core::effects::RefundEffects;
use seckill_core::money::{Entry, Money, OpenRefunds, Request, Saga, SagaKind, SagaState};
use seckill_core::{
    Announcement, CancelReason, Dependency, Effect, Event, Fault, FunnelCount, Lifecycle,
    LifecycleTransaction, Notice, OrderId, OrderRecord, OrderStatus, Overdue, SaleId, UserId,
};
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{QueryBuilder, Sqlite};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

use super::{SqliteLedger, Writing, fault, money, outbox, rows};
use crate::sqlite::{ROWS_A_STATEMENT, Transaction, WriteConnection};

#[async_trait]
impl Lifecycle for SqliteLedger {
    /// Waits for every other writer of the ledger, and holds all of them up until the transaction ends.
    async fn begin(&self) -> Result<Box<dyn LifecycleTransaction>, Fault> {
        let guard = Arc::clone(&self.writing.connection).lock_owned().await;
        let transaction = Transaction::begin(guard).await?;
        let writing = Arc::clone(&self.writing);
        Ok(Box::new(SqliteTransaction { transaction, ended: BTreeMap::new(), moved: Vec::new(), writing }))
    }

    async fn overdue(&self, after: Option<Overdue>, limit: u32) -> Result<Vec<Overdue>, Fault> {
        const SQL: &str = "SELECT order_id, pay_by FROM unpaid WHERE pay_by <= ? AND (pay_by, order_id) > (?, ?) \
                           ORDER BY pay_by, order_id LIMIT ?";
        // An empty blob comes before every id.
        let (pay_by, order_id) = after.map_or((i64::MIN, Vec::new()), |after| {
            (after.pay_by.timestamp_millis(), rows::id_bytes(after.order_id))
        });
        let now = seckill_core::now().timestamp_millis();
        let query = sqlx::query(SQL).bind(now).bind(pay_by).bind(order_id).bind(limit);
        let found = query.fetch_all(&self.readers).await.map_err(fault)?;
        found
            .iter()
            .map(|row| Ok(Overdue { pay_by: rows::moment(row, "pay_by")?, order_id: rows::order_id(row)? }))
            .collect()
    }

    async fn points(&self, user: UserId) -> Result<i64, Fault> {
        let query = sqlx::query_scalar("SELECT points FROM points WHERE user_id = ?");
        let points = query.bind(user.0.cast_signed()).fetch_optional(&self.readers).await;
        points.map(Option::unwrap_or_default).map_err(fault)
    }

    async fn notices(&self, order: OrderId) -> Result<Vec<Notice>, Fault> {
        let query = sqlx::query("SELECT * FROM notices WHERE order_id = ? ORDER BY number");
        let found = query.bind(rows::id_bytes(order)).fetch_all(&self.readers).await.map_err(fault)?;
        found
            .iter()
            .map(|row| {
                Ok(Notice {
                    order_id: rows::order_id(row)?,
                    user_id: rows::user_id(row)?,
                    kind: rows::get(row, "kind")?,
                    sequence: rows::number(row, "sequence")?,
                    at: rows::moment(row, "at")?,
                })
            })
            .collect()
    }

    async fn funnel(&self, sale: SaleId) -> Result<Vec<FunnelCount>, Fault> {
        let query = sqlx::query("SELECT * FROM funnel WHERE sale_id = ? ORDER BY stage");
        let found = query.bind(sale.0.cast_signed()).fetch_all(&self.readers).await.map_err(fault)?;
        found
            .iter()
            .map(|row| {
                Ok(FunnelCount {
                    stage: rows::get(row, "stage")?,
                    orders: rows::number(row, "orders")?,
                    units: rows::number(row, "units")?,
                    amount_cents: rows::number(row, "amount_cents")?,
                })
            })
            .collect()
    }

    async fn due_sagas(&self, kind: SagaKind, limit: u32) -> Result<Vec<OrderId>, Fault> {
        money::due(&self.readers, kind, limit).await
    }

    async fn sagas(&self, kind: SagaKind, state: SagaState, limit: u32) -> Result<Vec<Saga>, Fault> {
        money::sagas(&self.readers, kind, state, limit).await
    }

    async fn open_refunds(&self, limit: u32) -> Result<OpenRefunds, Fault> {
        money::open_refunds(&self.readers, limit).await
    }

    async fn find_saga(&self, kind: SagaKind, order: OrderId) -> Result<Option<Saga>, Fault> {
        money::saga(&self.readers, kind, order).await
    }

    async fn balance(&self, user: UserId) -> Result<u64, Fault> {
        money::balance(&self.readers, user).await
    }

    async fn money(&self, sale: SaleId) -> Result<Money, Fault> {
        money::money(&self.readers, sale).await
    }

    async fn refund_effects(&self, sale: SaleId) -> Result<RefundEffects, Fault> {
        money::refund_effects(&self.readers, sale).await
    }
}

/// Has the write lock of the whole file, so that every order is locked, and what it has read stays as it is.
struct SqliteTransaction {
    transaction: Transaction<OwnedMutexGuard<WriteConnection>>,
    /// Orders and units that it has taken off each sale's active ones.
    ended: BTreeMap<SaleId, (u64, u64)>,
    /// Orders as they are once it is committed.
    moved: Vec<OrderRecord>,
    writing: Arc<Writing>,
}

#[async_trait]
impl LifecycleTransaction for SqliteTransaction {
    /// No other transaction can have locked anything, so there is nothing to skip.
    async fn lock_orders(
        &mut self,
        orders: &[OrderId],
        _skip_locked: bool,
    ) -> Result<Vec<OrderRecord>, Fault> {
        let mut orders = orders.to_vec();
        orders.sort_unstable();
        orders.dedup();
        let mut found = Vec::with_capacity(orders.len());
        for some in orders.chunks(ROWS_A_STATEMENT) {
            let mut query = QueryBuilder::<Sqlite>::new(
                "SELECT id AS order_id, sale_id, user_id, quantity, amount_cents, status, active, cancel_reason, sequence, \
                 accepted_at, committed_at FROM orders WHERE id IN (",
            );
            rows::push_list(&mut query, some.iter().copied().map(rows::id_bytes));
            query.push(" ORDER BY id");
            let page = query.build().persistent(false).fetch_all(self.transaction.connection()).await;
            for row in &page.map_err(fault)? {
                found.push(rows::order_record(row)?);
            }
        }
        Ok(found)
    }

    async fn move_orders(&mut self, from: &[OrderRecord], to: &[OrderRecord]) -> Result<(), Fault> {
        let follows = |(from, to): (&OrderRecord, &OrderRecord)| {
            from.claim.order_id == to.claim.order_id && from.sequence.checked_add(1) == Some(to.sequence)
        };
        if from.len() != to.len() || !from.iter().zip(to).all(follows) {
            let reason = "the orders after a step are not those before it";
            return Err(Fault::unavailable(Dependency::Ledger, reason));
        }
        // They are in one state, and may have different reasons why they were cancelled.
        let written = |order: &OrderRecord| (order.state, order.cancelled);
        let mut groups: Vec<Vec<&OrderRecord>> = Vec::new();
        for order in to {
            match groups.iter_mut().find(|group| written(group[0]) == written(order)) {
                Some(group) => group.push(order),
                None => groups.push(vec![order]),
            }
        }
        for chunk in groups.iter().flat_map(|group| group.chunks(ROWS_A_STATEMENT)) {
            self.write_state(chunk).await?;
        }
        let is_unpaid = |order: &OrderRecord| order.state.status == OrderStatus::Committed;
        let pairs = || from.iter().zip(to);
        let settled: Vec<_> = pairs()
            .filter(|(from, to)| is_unpaid(from) && !is_unpaid(to))
            .map(|(from, _)| from.claim.order_id)
            .collect();
        for chunk in settled.chunks(ROWS_A_STATEMENT) {
            let mut query = QueryBuilder::<Sqlite>::new("DELETE FROM unpaid WHERE order_id IN (");
            rows::push_list(&mut query, chunk.iter().copied().map(rows::id_bytes));
            self.change(query.build().persistent(false)).await?;
        }
        for (from, _) in pairs().filter(|(from, to)| from.ends_with(to)) {
            let (orders, units) = self.ended.entry(from.sale_id).or_default();
            *orders += 1;
            *units += u64::from(from.claim.quantity);
        }
        self.moved.extend_from_slice(to);
        Ok(())
    }

    async fn add_event(&mut self, event: &Event) -> Result<(), Fault> {
        outbox::insert(self.transaction.connection(), std::slice::from_ref(event)).await
    }

    async fn first_time(&mut self, consumer: &str, event: Uuid) -> Result<bool, Fault> {
        let insert =
            sqlx::query("INSERT INTO inbox (consumer, event_id) VALUES (?, ?) ON CONFLICT DO NOTHING")
                .bind(consumer)
                .bind(event.as_bytes().to_vec());
        Ok(self.change(insert).await? == 1)
    }

    async fn apply(&mut self, effect: &Effect) -> Result<(), Fault> {
        for statement in statements(effect) {
            self.change(statement).await?;
        }
        Ok(())
    }

    async fn saga(&mut self, kind: SagaKind, order: OrderId) -> Result<Option<Saga>, Fault> {
        money::saga(self.transaction.connection(), kind, order).await
    }

    async fn put_saga(&mut self, saga: &Saga) -> Result<(), Fault> {
        money::put_saga(self.transaction.connection(), saga).await
    }

    async fn add_entries(&mut self, entries: &[Entry]) -> Result<(), Fault> {
        money::add_entries(self.transaction.connection(), entries).await
    }

    async fn change_balance(&mut self, user: UserId, cents: i64) -> Result<bool, Fault> {
        money::change_balance(self.transaction.connection(), user, cents).await
    }

    async fn add_coupon(&mut self, code: &str, cents: u64) -> Result<bool, Fault> {
        money::add_coupon(self.transaction.connection(), code, cents).await
    }

    async fn use_coupon(&mut self, code: &str, order: OrderId) -> Result<Option<u64>, Fault> {
        money::use_coupon(self.transaction.connection(), code, order).await
    }

    async fn free_coupon(&mut self, code: &str, order: OrderId) -> Result<(), Fault> {
        money::free_coupon(self.transaction.connection(), code, order).await
    }

    async fn request(&mut self, user: UserId, key: &str, hash: &[u8; 32]) -> Result<Request, Fault> {
        money::request(self.transaction.connection(), user, key, hash).await
    }

    async fn answer_request(&mut self, user: UserId, key: &str, answer: &str) -> Result<(), Fault> {
        money::answer_request(self.transaction.connection(), user, key, answer).await
    }

    async fn commit(mut self: Box<Self>) -> Result<(), Fault> {
        const SQL: &str = "UPDATE sales SET sold = sold - ?1, orders = orders - ?2, ended_units = ended_units + ?1, \
                           ended_orders = ended_orders + ?2 WHERE id = ?3";
        for (sale, (orders, units)) in std::mem::take(&mut self.ended) {
            let update = sqlx::query(SQL)
                .bind(rows::count(units))
                .bind(rows::count(orders))
                .bind(sale.0.cast_signed());
            if self.change(update).await? == 0 {
                return Err(rows::corrupt(format!("it has orders of sale {sale} and no such sale")));
            }
        }
        let fates = Arc::clone(&self.writing.fates) as _;
        let announcement = Announcement::before_commit(fates, &self.moved);
        let ended = self.transaction.commit().await;
        announcement.after_commit(&ended);
        ended
    }
}

impl SqliteTransaction {
    async fn change(&mut self, statement: Query<'_, Sqlite, SqliteArguments>) -> Result<u64, Fault> {
        let done = statement.execute(self.transaction.connection()).await.map_err(fault)?;
        Ok(done.rows_affected())
    }

    /// Writes orders that are all in one state; as many as one statement takes.
    async fn write_state(&mut self, orders: &[&OrderRecord]) -> Result<(), Fault> {
        let Some(OrderRecord { state, cancelled, .. }) = orders.first() else { return Ok(()) };
        let mut query = QueryBuilder::<Sqlite>::new("UPDATE orders SET sequence = sequence + 1, status = ");
        query.push_bind(state.status.as_str()).push(", active = ").push_bind(state.active.then_some(1));
        query.push(", cancel_reason = ").push_bind(cancelled.map(CancelReason::as_str));
        query.push(" WHERE id IN (");
        rows::push_list(&mut query, orders.iter().map(|order| rows::id_bytes(order.claim.order_id)));
        if self.change(query.build().persistent(false)).await? != orders.len() as u64 {
            return Err(rows::corrupt("an order that was locked is not there"));
        }
        Ok(())
    }
}

fn notice_statement(notice: &Notice) -> Query<'_, Sqlite, SqliteArguments> {
    sqlx::query("INSERT INTO notices (order_id, user_id, kind, sequence, at) VALUES (?, ?, ?, ?, ?)")
        .bind(rows::id_bytes(notice.order_id))
        .bind(notice.user_id.0.cast_signed())
        .bind(&notice.kind)
        .bind(notice.sequence)
        .bind(notice.at.timestamp_millis())
}

fn statements(effect: &Effect) -> Vec<Query<'_, Sqlite, SqliteArguments>> {
    let one = match effect {
        Effect::Notices(notices) => return notices.iter().map(notice_statement).collect(),
        Effect::Returned { sale, orders, units } => sqlx::query(
            "UPDATE sales SET returned_orders = returned_orders + ?, returned_units = returned_units + ? WHERE id = ?",
        )
        .bind(rows::count(*orders))
        .bind(rows::count(*units))
        .bind(sale.0.cast_signed()),
        Effect::Points { user, points } => sqlx::query(
            "INSERT INTO points (user_id, points) VALUES (?, ?) \
             ON CONFLICT (user_id) DO UPDATE SET points = points + excluded.points",
        )
        .bind(user.0.cast_signed())
        .bind(points),
        Effect::Counted { sale, count } => sqlx::query(
            "INSERT INTO funnel (sale_id, stage, orders, units, amount_cents) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT (sale_id, stage) DO UPDATE SET orders = orders + excluded.orders, \
             units = units + excluded.units, amount_cents = amount_cents + excluded.amount_cents",
        )
        .bind(sale.0.cast_signed())
        .bind(&count.stage)
        .bind(rows::count(count.orders))
        .bind(rows::count(count.units))
        .bind(rows::cents(count.amount_cents)),
    };
    vec![one]
}
