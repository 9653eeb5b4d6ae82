//! A sale that is locked while its gate is filled again.

use std::time::Duration;

use async_trait::async_trait;
use seckill_core::{Claim, Dependency, Epoch, Fault, LockedSale, OrderId, Sale, SaleId, SaleState};
use sqlx::mysql::MySqlConnection;
use uuid::Uuid;

use super::queries;
use super::rows::{SaleRow, sales_and};
use super::server::{Failure, Purpose, Server, within};
use super::statements;

/// The longest wait for the lock, longer than the server's own.
const LOCK: Duration = Duration::from_secs(10);
/// The longest wait for a page of orders: those of other sales are passed over on the way.
const PAGE: Duration = Duration::from_secs(60);
/// The longest wait for the statement that marks the sale as open, and for COMMIT.
const OPEN: Duration = Duration::from_secs(10);

/// Owns a connection in a transaction that has the sale's row locked. When it is dropped, the connection ends and the server
/// rolls back. A process that is frozen loses the lock when the session has been idle for [`super::server::IDLE`].
pub(super) struct Locked {
    server: Server,
    connection: MySqlConnection,
    sale: Sale,
}

/// Locks the sale if `owner` rebuilds it on `epoch`. Its lease may be over, as long as nobody else has taken one.
pub(super) async fn lock(
    server: Server,
    sale: SaleId,
    epoch: Epoch,
    owner: Uuid,
) -> Result<Option<Locked>, Fault> {
    let mut connection = server.connect(Purpose::Transactions).await?;
    let found =
        within(LOCK, lock_row(&mut connection, sale)).await.map_err(|failure| fault(&server, &failure))?;
    let Some((sale, owner_now)) = found else { return Ok(None) };
    let is_mine = sale.state == SaleState::Rebuilding
        && sale.epoch == epoch
        && owner_now == Some(owner.into_bytes().to_vec());
    Ok(is_mine.then_some(Locked { server, connection, sale }))
}

/// The sale, and who owns its rebuild or owned it last.
async fn lock_row(
    connection: &mut MySqlConnection,
    sale: SaleId,
) -> sqlx::Result<Option<(Sale, Option<Vec<u8>>)>> {
    use sqlx::{FromRow, Row};
    statements::begin(connection).await?;
    let row = sqlx::query(concat!(sales_and!(), "WHERE id = ? FOR UPDATE")).bind(sale.0);
    let Some(row) = row.fetch_optional(connection).await? else { return Ok(None) };
    let SaleRow(sale) = SaleRow::from_row(&row)?;
    Ok(Some((sale, row.try_get("rebuild_owner")?)))
}

fn fault(server: &Server, failure: &Failure) -> Fault {
    if failure.is_unreadable() {
        return Fault::corrupt(Dependency::Ledger, server.sentence(failure));
    }
    server.unavailable(failure)
}

#[async_trait]
impl LockedSale for Locked {
    fn sale(&self) -> &Sale {
        &self.sale
    }

    async fn active_orders(&mut self, after: Option<OrderId>, limit: u32) -> Result<Vec<Claim>, Fault> {
        let page = queries::active_orders(&mut self.connection, self.sale.id, after, limit);
        within(PAGE, page).await.map_err(|failure| fault(&self.server, &failure))
    }

    async fn open(mut self: Box<Self>) -> Result<(), Fault> {
        let update = queries::finish_rebuild(&mut self.connection, self.sale.id);
        // COMMIT was not sent, so the connection's end is the transaction's end.
        within(OPEN, update).await.map_err(|failure| fault(&self.server, &failure))?;
        let committed = within(OPEN, statements::commit(&mut self.connection)).await;
        committed.map_err(|failure| self.server.unknown(&failure))
    }
}
