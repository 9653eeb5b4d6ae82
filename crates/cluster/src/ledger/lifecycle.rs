//! What becomes of orders after their commit, on MySQL: the port's methods. The statements are in `changes`.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use seckill_core::effects::RefundEffects;
use seckill_core::money::{Entry, Money, OpenRefunds, Request, Saga, SagaKind, SagaState};
use seckill_core::{
    Announcement, Dependency, Effect, Event, Fates, Fault, FunnelCount, Lifecycle, LifecycleTransaction,
    Notice, OrderId, OrderRecord, Overdue, SaleId, UserId,
};
use uuid::Uuid;

use super::changes::{self, Later, MoveOf};
use super::transactions::Transaction;
use super::{MySqlLedger, money, readers};

#[async_trait]
impl Lifecycle for MySqlLedger {
    async fn begin(&self) -> Result<Box<dyn LifecycleTransaction>, Fault> {
        let transaction = self.transactions.begin().await?;
        Ok(Box::new(MySqlTransaction {
            transaction,
            later: Later::default(),
            moved: Vec::new(),
            fates: self.fates.clone(),
        }))
    }

    async fn overdue(&self, after: Option<Overdue>, limit: u32) -> Result<Vec<Overdue>, Fault> {
        self.readers.run(readers::Effect::Nothing, |c| Box::pin(changes::overdue(c, after, limit))).await
    }

    async fn points(&self, user: UserId) -> Result<i64, Fault> {
        self.readers.run(readers::Effect::Nothing, |c| Box::pin(changes::points(c, user))).await
    }

    async fn notices(&self, order: OrderId) -> Result<Vec<Notice>, Fault> {
        self.readers.run(readers::Effect::Nothing, |c| Box::pin(changes::notices(c, order))).await
    }

    async fn funnel(&self, sale: SaleId) -> Result<Vec<FunnelCount>, Fault> {
        self.readers.run(readers::Effect::Nothing, |c| Box::pin(changes::funnel(c, sale))).await
    }

    async fn due_sagas(&self, kind: SagaKind, limit: u32) -> Result<Vec<OrderId>, Fault> {
        self.readers.run(readers::Effect::Nothing, |c| Box::pin(money::due(c, kind, limit))).await
    }

    async fn sagas(&self, kind: SagaKind, state: SagaState, limit: u32) -> Result<Vec<Saga>, Fault> {
        self.readers.run(readers::Effect::Nothing, |c| Box::pin(money::sagas(c, kind, state, limit))).await
    }

    async fn open_refunds(&self, limit: u32) -> Result<OpenRefunds, Fault> {
        self.counters.run(readers::Effect::Nothing, |c| Box::pin(money::open_refunds(c, limit))).await
    }

    async fn find_saga(&self, kind: SagaKind, order: OrderId) -> Result<Option<Saga>, Fault> {
        self.readers.run(readers::Effect::Nothing, |c| Box::pin(money::saga(c, kind, order, false))).await
    }

    async fn balance(&self, user: UserId) -> Result<u64, Fault> {
        self.readers.run(readers::Effect::Nothing, |c| Box::pin(money::balance(c, user))).await
    }

    async fn money(&self, sale: SaleId) -> Result<Money, Fault> {
        self.counters.run(readers::Effect::Nothing, |c| Box::pin(money::money(c, sale))).await
    }

    async fn refund_effects(&self, sale: SaleId) -> Result<RefundEffects, Fault> {
        self.counters.run(readers::Effect::Nothing, |c| Box::pin(money::refund_effects(c, sale))).await
    }
}

/// One transaction. Rows that many transactions want are written with the commit: their locks are held for a moment only, and
/// are taken in one order everywhere.
struct MySqlTransaction {
    transaction: Transaction,
    later: Later,
    /// Orders as they are once it is committed.
    moved: Vec<OrderRecord>,
    /// Who is told of them.
    fates: Option<Arc<dyn Fates>>,
}

#[async_trait]
impl LifecycleTransaction for MySqlTransaction {
    async fn lock_orders(
        &mut self,
        orders: &[OrderId],
        skip_locked: bool,
    ) -> Result<Vec<OrderRecord>, Fault> {
        let mut orders = orders.to_vec();
        orders.sort_unstable();
        orders.dedup();
        self.transaction.run(|c| Box::pin(changes::lock_orders(c, orders, skip_locked))).await
    }

    async fn move_orders(&mut self, from: &[OrderRecord], to: &[OrderRecord]) -> Result<(), Fault> {
        let mut moves: BTreeMap<MoveOf, Vec<OrderId>> = BTreeMap::new();
        let (mut payable, mut expected) = (Vec::new(), 0);
        for (from, to) in from.iter().zip(to) {
            moves.entry(MoveOf::new(from, to)).or_default().push(from.claim.order_id);
            expected += 1;
            if MoveOf::ends_waiting(from, to) {
                payable.push(from.claim.order_id);
            }
        }
        let moved = self.transaction.run(|c| Box::pin(changes::move_orders(c, moves, payable))).await?;
        if moved != expected {
            let reason = format!("{moved} of {expected} orders were as they had been read under a lock");
            return Err(self.fail(reason));
        }
        for (from, to) in from.iter().zip(to) {
            if from.ends_with(to) {
                self.later.ended(from);
            }
        }
        self.moved.extend_from_slice(to);
        Ok(())
    }

    async fn add_event(&mut self, event: &Event) -> Result<(), Fault> {
        let (message, subject) = (event.message(), event.subject.clone());
        self.transaction.run(|c| Box::pin(changes::insert_event(c, message, subject))).await
    }

    async fn first_time(&mut self, consumer: &str, event: Uuid) -> Result<bool, Fault> {
        let consumer = consumer.to_owned();
        self.transaction.run(|c| Box::pin(changes::first_time(c, consumer, event))).await
    }

    async fn apply(&mut self, effect: &Effect) -> Result<(), Fault> {
        self.later.add(effect);
        Ok(())
    }

    async fn saga(&mut self, kind: SagaKind, order: OrderId) -> Result<Option<Saga>, Fault> {
        self.transaction.run(|c| Box::pin(money::saga(c, kind, order, true))).await
    }

    async fn put_saga(&mut self, saga: &Saga) -> Result<(), Fault> {
        let saga = saga.clone();
        self.transaction.run(|c| Box::pin(money::put_saga(c, saga))).await
    }

    async fn add_entries(&mut self, entries: &[Entry]) -> Result<(), Fault> {
        let entries = entries.to_vec();
        self.transaction.run(|c| Box::pin(money::add_entries(c, entries))).await
    }

    async fn change_balance(&mut self, user: UserId, cents: i64) -> Result<bool, Fault> {
        self.transaction.run(|c| Box::pin(money::change_balance(c, user, cents))).await
    }

    async fn add_coupon(&mut self, code: &str, cents: u64) -> Result<bool, Fault> {
        let code = code.to_owned();
        self.transaction.run(|c| Box::pin(money::add_coupon(c, code, cents))).await
    }

    async fn use_coupon(&mut self, code: &str, order: OrderId) -> Result<Option<u64>, Fault> {
        let code = code.to_owned();
        self.transaction.run(|c| Box::pin(money::use_coupon(c, code, order))).await
    }

    async fn free_coupon(&mut self, code: &str, order: OrderId) -> Result<(), Fault> {
        let code = code.to_owned();
        self.transaction.run(|c| Box::pin(money::free_coupon(c, code, order))).await
    }

    async fn request(&mut self, user: UserId, key: &str, hash: &[u8; 32]) -> Result<Request, Fault> {
        let (key, hash) = (key.to_owned(), *hash);
        self.transaction.run(|c| Box::pin(money::request(c, user, key, hash))).await
    }

    async fn answer_request(&mut self, user: UserId, key: &str, answer: &str) -> Result<(), Fault> {
        let (key, answer) = (key.to_owned(), answer.to_owned());
        self.transaction.run(|c| Box::pin(money::answer_request(c, user, key, answer))).await
    }

    async fn commit(self: Box<Self>) -> Result<(), Fault> {
        let Self { mut transaction, later, moved, fates } = *self;
        transaction.run(|c| Box::pin(changes::write(c, later))).await?;
        let announcement = fates.map(|fates| Announcement::before_commit(fates, &moved));
        let ended = transaction.commit().await;
        if let Some(announcement) = announcement {
            announcement.after_commit(&ended);
        }
        ended
    }
}

impl MySqlTransaction {
    /// What was written in this transaction must not be committed.
    fn fail(&mut self, reason: String) -> Fault {
        self.transaction.spoil();
        Fault::corrupt(Dependency::Ledger, reason)
    }
}
