//! The ledger on MySQL and MariaDB: the port's methods. What is asked of the database is in `queries`, how a batch is
//! committed in `writer`, `commit` and `statements`, how the server is reached in `server` and `readers`.

mod commit;
mod queries;
mod readers;
mod schema;
mod server;
mod statements;
mod writer;

use std::time::Duration;

use async_trait::async_trait;
use seckill_core::{
    Dependency, Epoch, Fault, Ledger, LedgerOrder, LedgerTotals, LedgerWriter, Mode, NewSale, OrderId, Sale,
    SaleId, UserId,
};
use sqlx::mysql::MySqlConnectOptions;

use readers::{Effect, Readers};
use server::Server;

pub(crate) use schema::migrate;

/// The longest wait for the answer to one question.
const ANSWER: Duration = Duration::from_secs(5);
/// The longest wait for all rows of a sale to be counted: millions of them take seconds.
const COUNT: Duration = Duration::from_secs(60);

/// The ledger on MySQL or MariaDB.
pub(crate) struct MySqlLedger {
    server: Server,
    readers: Readers,
}

impl MySqlLedger {
    pub(crate) fn new(options: MySqlConnectOptions) -> Self {
        let server = Server::new(options);
        Self { readers: Readers::new(server.clone()), server }
    }
}

#[async_trait]
impl Ledger for MySqlLedger {
    async fn create_sale(&self, sale: &NewSale, mode: Mode) -> Result<Sale, Fault> {
        let new = sale.clone();
        let insert =
            self.readers.run(Effect::OneStatement, ANSWER, |c| Box::pin(queries::insert_sale(c, new, mode)));
        let id = insert.await?;
        let unread =
            |why: String| Fault::unknown(Dependency::Ledger, format!("sale {id} is recorded, but {why}"));
        let found = self.sale(id).await.map_err(|fault| unread(fault.to_string()))?;
        found.ok_or_else(|| unread("it cannot be found".to_owned()))
    }

    async fn mark_opened(&self, sale: SaleId, epoch: Epoch) -> Result<(), Fault> {
        self.readers
            .run(Effect::OneStatement, ANSWER, |c| Box::pin(queries::mark_opened(c, sale, epoch)))
            .await
    }

    async fn sale(&self, id: SaleId) -> Result<Option<Sale>, Fault> {
        self.readers.run(Effect::Nothing, ANSWER, |c| Box::pin(queries::sale(c, id))).await
    }

    async fn sales(&self, limit: u32) -> Result<Vec<Sale>, Fault> {
        self.readers.run(Effect::Nothing, ANSWER, |c| Box::pin(queries::sales(c, limit))).await
    }

    async fn order(&self, id: OrderId) -> Result<Option<LedgerOrder>, Fault> {
        self.readers.run(Effect::Nothing, ANSWER, |c| Box::pin(queries::order(c, id))).await
    }

    async fn orders_of(&self, user: UserId, sale: SaleId) -> Result<Vec<LedgerOrder>, Fault> {
        self.readers.run(Effect::Nothing, ANSWER, |c| Box::pin(queries::orders_of(c, user, sale))).await
    }

    async fn orders_after(
        &self,
        sale: SaleId,
        after: Option<OrderId>,
        limit: u32,
    ) -> Result<Vec<LedgerOrder>, Fault> {
        let page = self
            .readers
            .run(Effect::Nothing, COUNT, |c| Box::pin(queries::orders_after(c, sale, after, limit)));
        page.await
    }

    async fn totals(&self, sale: SaleId) -> Result<LedgerTotals, Fault> {
        self.readers.run(Effect::Nothing, COUNT, |c| Box::pin(queries::totals(c, sale))).await
    }

    async fn writer(&self) -> Result<Box<dyn LedgerWriter>, Fault> {
        Ok(Box::new(writer::MySqlWriter::connect(self.server.clone()).await?))
    }

    async fn ping(&self) -> Result<(), Fault> {
        self.readers.run(Effect::Nothing, ANSWER, |c| Box::pin(queries::ping(c))).await
    }
}
