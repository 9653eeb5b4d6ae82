//! The ledger on MySQL and MariaDB: the port's methods. What is asked of the database is in `queries`, how a batch is
//! committed in `writer`, `commit` and `statements`, how the server is reached in `server` and `readers`, what a lost gate
//! needs in `rebuild` and `refill`, what operators create and change in `sales`. What happens to orders after their commit is in `lifecycle`, `changes` and
//! `transactions`, the events that tell of it in `outbox`.

mod changes;
mod commit;
mod lifecycle;
mod money;
mod outbox;
mod queries;
mod readers;
mod rebuild;
mod refill;
mod rows;
mod sales;
mod schema;
mod server;
mod statements;
mod transactions;
mod writer;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use seckill_core::{
    CreatedOnce, Dependency, Epoch, Fates, Fault, Ledger, LedgerId, LedgerOrder, LedgerTotals, LedgerWriter,
    LockedSale, MAX_ORDERS_AT_ONCE, Mode, NewSale, OrderId, RebuildStep, RequestKey, Sale, SaleChange,
    SaleChanged, SaleId, UserId,
};
use sqlx::mysql::MySqlConnectOptions;
use uuid::Uuid;

use self::readers::{Effect, Readers};
use self::sales::Inserted;
use self::server::Server;
use self::transactions::Transactions;
use crate::identity::Identity;

pub(crate) use schema::migrate;

/// The longest wait for the answer to one question.
const ANSWER: Duration = Duration::from_secs(5);
/// The longest wait for all rows of a sale to be counted: millions of them take seconds.
const COUNT: Duration = Duration::from_secs(60);

/// Connections for questions, at the most.
const READERS: usize = 8;
/// Connections for questions about all rows of a sale, at the most.
const COUNTERS: usize = 4;

/// The ledger on MySQL or MariaDB.
pub(crate) struct MySqlLedger {
    server: Server,
    readers: Readers,
    counters: Readers,
    transactions: Arc<Transactions>,
    /// Who is told of what was written; `None`: nobody.
    fates: Option<Arc<dyn Fates>>,
}

impl MySqlLedger {
    pub(crate) fn new(options: MySqlConnectOptions, identity: Arc<Identity>) -> Self {
        let server = Server::new(options, identity);
        Self {
            readers: Readers::new(server.clone(), READERS, ANSWER),
            counters: Readers::new(server.clone(), COUNTERS, COUNT),
            transactions: Arc::new(Transactions::new(server.clone())),
            server,
            fates: None,
        }
    }

    async fn insert_sale(
        &self,
        sale: &NewSale,
        mode: Mode,
        key: Option<RequestKey>,
    ) -> Result<CreatedOnce, Fault> {
        let new = sale.clone();
        let insert = self.readers.run(Effect::Transaction, |c| Box::pin(sales::insert(c, new, mode, key)));
        let id = match insert.await? {
            Inserted::Sale(id) => id,
            Inserted::KeyTaken => return Ok(CreatedOnce::KeyTaken),
            Inserted::UnderWay => return Ok(CreatedOnce::UnderWay),
        };
        let unread =
            |why: String| Fault::unknown(Dependency::Ledger, format!("sale {id} is recorded, but {why}"));
        let found = self.sale(id).await.map_err(|fault| unread(fault.to_string()))?;
        let found = found.ok_or_else(|| unread("it cannot be found".to_owned()))?;
        Ok(CreatedOnce::Created(Box::new(found)))
    }

    /// The same, and whatever it commits is announced there.
    pub(crate) fn announcing(self, fates: Arc<dyn Fates>) -> Self {
        Self { fates: Some(fates), ..self }
    }
}

#[async_trait]
impl Ledger for MySqlLedger {
    async fn id(&self) -> Result<LedgerId, Fault> {
        let id = self.readers.run(Effect::Nothing, |c| Box::pin(queries::ledger_id(c))).await?;
        self.server.learn(id)?;
        Ok(id)
    }

    async fn create_sale(&self, sale: &NewSale, mode: Mode) -> Result<Sale, Fault> {
        match self.insert_sale(sale, mode, None).await? {
            CreatedOnce::Created(sale) => Ok(*sale),
            CreatedOnce::KeyTaken | CreatedOnce::UnderWay => Err(Fault::unavailable(
                Dependency::Ledger,
                "another transaction was in the way of a new sale",
            )),
        }
    }

    async fn create_sale_once(
        &self,
        sale: &NewSale,
        mode: Mode,
        key: &RequestKey,
    ) -> Result<CreatedOnce, Fault> {
        self.insert_sale(sale, mode, Some(key.clone())).await
    }

    async fn sale_of_key(&self, key: &str) -> Result<Option<(Sale, [u8; 32])>, Fault> {
        let key = key.to_owned();
        self.readers.run(Effect::Nothing, |c| Box::pin(sales::of_key(c, key))).await
    }

    async fn change_sale(&self, sale: SaleId, change: &SaleChange) -> Result<SaleChanged, Fault> {
        let change = change.clone();
        self.readers.run(Effect::Transaction, |c| Box::pin(sales::change(c, sale, change))).await
    }

    async fn mark_opened(&self, sale: SaleId, epoch: Epoch) -> Result<(), Fault> {
        self.readers.run(Effect::OneStatement, |c| Box::pin(queries::mark_opened(c, sale, epoch))).await
    }

    async fn sale(&self, id: SaleId) -> Result<Option<Sale>, Fault> {
        self.readers.run(Effect::Nothing, |c| Box::pin(queries::sale(c, id))).await
    }

    async fn sales(&self, limit: u32) -> Result<Vec<Sale>, Fault> {
        self.readers.run(Effect::Nothing, |c| Box::pin(queries::sales(c, limit))).await
    }

    async fn unfinished_sales(&self, after: Option<SaleId>, limit: u32) -> Result<Vec<Sale>, Fault> {
        let sales =
            self.readers.run(Effect::Nothing, |c| Box::pin(rebuild::unfinished_sales(c, after, limit)));
        sales.await
    }

    async fn restore_sale(&self, sale: &Sale) -> Result<(), Fault> {
        let sale = sale.clone();
        self.readers.run(Effect::Transaction, |c| Box::pin(rebuild::restore_sale(c, sale))).await
    }

    async fn begin_rebuild(&self, sale: SaleId, from: Epoch, to: Epoch, gate: Epoch) -> Result<bool, Fault> {
        self.readers
            .run(Effect::OneStatement, |c| Box::pin(rebuild::begin_rebuild(c, sale, (from, to, gate))))
            .await
    }

    async fn take_up_rebuild(
        &self,
        seen: &Sale,
        epochs: (Epoch, Epoch),
        owner: Uuid,
        lease: Duration,
    ) -> Result<bool, Fault> {
        let seen = seen.clone();
        self.readers
            .run(Effect::Transaction, |c| Box::pin(rebuild::take_up_rebuild(c, seen, epochs, owner, lease)))
            .await
    }

    async fn own_rebuild(
        &self,
        sale: SaleId,
        epoch: Epoch,
        owner: Uuid,
        lease: Duration,
        progress: (RebuildStep, u64, Option<u64>),
    ) -> Result<bool, Fault> {
        self.readers
            .run(Effect::OneStatement, |c| {
                Box::pin(rebuild::own_rebuild(c, (sale, epoch), owner, lease, progress))
            })
            .await
    }

    async fn lock_for_refill(
        &self,
        sale: SaleId,
        epoch: Epoch,
        owner: Uuid,
    ) -> Result<Option<Box<dyn LockedSale>>, Fault> {
        let locked = refill::lock(self.server.clone(), sale, epoch, owner).await?;
        Ok(locked.map(|locked| Box::new(locked) as Box<dyn LockedSale>))
    }

    async fn close_out(&self, sale: SaleId, revision: u32) -> Result<bool, Fault> {
        self.readers.run(Effect::OneStatement, |c| Box::pin(rebuild::close_out(c, sale, revision))).await
    }

    async fn missing_among(&self, orders: &[OrderId]) -> Result<HashSet<OrderId>, Fault> {
        let orders = orders.to_vec();
        self.readers.run(Effect::Nothing, |c| Box::pin(rebuild::missing_among(c, orders))).await
    }

    async fn order(&self, id: OrderId) -> Result<Option<LedgerOrder>, Fault> {
        self.readers.run(Effect::Nothing, |c| Box::pin(queries::order(c, id))).await
    }

    async fn orders(&self, ids: &[OrderId]) -> Result<Vec<LedgerOrder>, Fault> {
        let mut found = Vec::with_capacity(ids.len());
        for some in ids.chunks(MAX_ORDERS_AT_ONCE) {
            let some = some.to_vec();
            let read = self.readers.run(Effect::Nothing, |c| Box::pin(queries::orders(c, some)));
            found.extend(read.await?);
        }
        Ok(found)
    }

    async fn orders_of(&self, user: UserId, sale: SaleId) -> Result<Vec<LedgerOrder>, Fault> {
        self.readers.run(Effect::Nothing, |c| Box::pin(queries::orders_of(c, user, sale))).await
    }

    async fn orders_after(
        &self,
        sale: SaleId,
        after: Option<OrderId>,
        limit: u32,
    ) -> Result<Vec<LedgerOrder>, Fault> {
        let page =
            self.counters.run(Effect::Nothing, |c| Box::pin(queries::orders_after(c, sale, after, limit)));
        page.await
    }

    async fn totals(&self, sale: SaleId) -> Result<LedgerTotals, Fault> {
        self.counters.run(Effect::Nothing, |c| Box::pin(queries::totals(c, sale))).await
    }

    async fn writer(&self) -> Result<Box<dyn LedgerWriter>, Fault> {
        let writer = writer::MySqlWriter::connect(self.server.clone(), self.fates.clone());
        Ok(Box::new(writer.await?))
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.readers.run(Effect::Nothing, |c| Box::pin(queries::ping(c))).await?;
        self.server.takes_writes()
    }
}
