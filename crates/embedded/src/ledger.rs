//! The ledger in a SQLite file: the port, its reads, and the writes of sales. How orders are committed is in `commit`, what
//! a lost gate needs in `rebuild`, what becomes of orders afterwards in `lifecycle`, the events that tell of it in `outbox`, how
//! rows become words in `rows`, what operators create and change in `sales`.

mod commit;
mod lifecycle;
mod money;
mod outbox;
mod rebuild;
mod rows;
mod sales;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use seckill_core::{
    Claim, CreatedOnce, Dependency, Epoch, Fault, Ledger, LedgerId, LedgerOrder, LedgerTotals, LedgerWriter,
    LockedSale, Mode, NewSale, OrderId, RebuildStep, RequestKey, Sale, SaleChange, SaleChanged, SaleId,
    UserId,
};
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{QueryBuilder, Sqlite, SqlitePool};
use tokio::sync::Mutex;
use uuid::Uuid;

use self::commit::SqliteWriter;
use crate::OpenError;
use crate::fates::LocalFates;
use crate::folder::Folder;
use crate::sqlite::{self, WriteConnection};

const FILE: &str = "ledger.db";
const READERS: u32 = 4;
/// Every version of the schema: what it is called and its SQL.
const MIGRATIONS: &[(&str, &str)] = &[
    ("ledger", include_str!("../../../migrations/sqlite/ledger/0001_ledger.sql")),
    ("names as on mysql", include_str!("../../../migrations/sqlite/ledger/0002_names_as_on_mysql.sql")),
    ("identity and rebuild", include_str!("../../../migrations/sqlite/ledger/0003_identity_and_rebuild.sql")),
    ("after the order", include_str!("../../../migrations/sqlite/ledger/0004_after_the_order.sql")),
    ("money", include_str!("../../../migrations/sqlite/ledger/0005_money.sql")),
    ("sale administration", include_str!("../../../migrations/sqlite/ledger/0006_sale_administration.sql")),
    ("admission", include_str!("../../../migrations/sqlite/ledger/0007_admission.sql")),
];
/// Rows of one read when all orders are gone through.
const PAGE: i64 = 4_096;

/// The ledger's file.
pub(crate) struct SqliteLedger {
    readers: SqlitePool,
    writing: Arc<Writing>,
}

/// An order that has a unit of its sale.
pub(crate) struct ActiveOrder {
    pub(crate) sale_id: SaleId,
    pub(crate) claim: Claim,
}

/// What every writer shares. SQLite writes one transaction at a time, so a second connection would gain nothing.
struct Writing {
    /// Whose events are written.
    ledger: LedgerId,
    connection: Arc<Mutex<WriteConnection>>,
    /// Who is told of what was written.
    fates: Arc<LocalFates>,
    /// Held until the last write is done, also one whose caller did not wait for it.
    _folder: Arc<Folder>,
}

impl SqliteLedger {
    /// Opens the file and brings it to this version's schema.
    pub(crate) async fn open(folder: Arc<Folder>, fates: Arc<LocalFates>) -> Result<Self, OpenError> {
        let path = folder.file(FILE);
        sqlite::migrate(&path, MIGRATIONS).await?;
        let connection = Arc::new(Mutex::new(WriteConnection::new(&path, Dependency::Ledger)));
        let readers = sqlite::readers(&path, READERS);
        let row = sqlx::query("SELECT id FROM ledger_identity").fetch_one(&readers).await.map_err(fault)?;
        let ledger = rows::ledger_id(&row)?;
        Ok(Self { readers, writing: Arc::new(Writing { ledger, connection, fates, _folder: folder }) })
    }

    /// The ledger's id, read when the file was opened.
    pub(crate) fn ledger_id(&self) -> LedgerId {
        self.writing.ledger
    }

    /// Every sale whose gate has been opened and not been removed since.
    pub(crate) async fn opened_sales(&self) -> Result<Vec<Sale>, Fault> {
        let query =
            sqlx::query("SELECT * FROM sales WHERE epoch > 0 AND epoch < ? AND state <> 'closed_out'")
                .bind(Mode::Direct.stored_epoch());
        let rows = query.fetch_all(&self.readers).await.map_err(fault)?;
        rows.iter().map(rows::sale).collect()
    }

    /// Goes through all active orders in the order of their ids, a page at a time.
    pub(crate) async fn for_each_active_order(
        &self,
        mut each: impl FnMut(ActiveOrder) + Send,
    ) -> Result<(), Fault> {
        const SQL: &str = "SELECT id AS order_id, sale_id, user_id, quantity, accepted_at FROM orders \
                           WHERE id > ? AND active = 1 ORDER BY id LIMIT ?";
        // A blob that is empty comes before all others.
        let mut after = Vec::new();
        loop {
            let page =
                sqlx::query(SQL).bind(&after).bind(PAGE).fetch_all(&self.readers).await.map_err(fault)?;
            for row in &page {
                each(ActiveOrder { sale_id: rows::sale_id(row)?, claim: rows::claim(row)? });
            }
            let Some(last) = page.last() else { return Ok(()) };
            after = rows::id_bytes(rows::order_id(last)?);
        }
    }

    /// Runs one statement that changes sales, and returns how many it changed.
    async fn change(&self, statement: Query<'_, Sqlite, SqliteArguments>) -> Result<u64, Fault> {
        let mut connection = self.writing.connection.lock().await;
        let mut transaction = connection.begin().await?;
        let changed = statement.execute(transaction.connection()).await.map_err(fault)?.rows_affected();
        transaction.commit().await?;
        Ok(changed)
    }

    async fn insert_sale(
        &self,
        sale: &NewSale,
        mode: Mode,
        key: Option<&RequestKey>,
    ) -> Result<CreatedOnce, Fault> {
        let mut connection = self.writing.connection.lock().await;
        let mut transaction = connection.begin().await?;
        let Some(created) = sales::insert(transaction.connection(), sale, mode, key).await? else {
            transaction.rollback().await?;
            return Ok(CreatedOnce::KeyTaken);
        };
        transaction.commit().await?;
        Ok(CreatedOnce::Created(Box::new(created)))
    }

    /// Which of these orders are recorded and have no units: rejected, or not active any more; for the orders of one batch.
    pub(crate) async fn without_units_of(
        &self,
        ids: impl Iterator<Item = OrderId> + Clone,
    ) -> Result<HashSet<OrderId>, Fault> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT order_id FROM rejections WHERE order_id IN (");
        rows::push_list(&mut query, ids.clone().map(rows::id_bytes));
        query.push(" UNION ALL SELECT id FROM orders WHERE active IS NULL AND id IN (");
        rows::push_list(&mut query, ids.map(rows::id_bytes));
        let rows = query.build().fetch_all(&self.readers).await.map_err(fault)?;
        rows.iter().map(rows::order_id).collect()
    }
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn id(&self) -> Result<LedgerId, Fault> {
        Ok(self.ledger_id())
    }

    async fn create_sale(&self, sale: &NewSale, mode: Mode) -> Result<Sale, Fault> {
        match self.insert_sale(sale, mode, None).await? {
            CreatedOnce::Created(sale) => Ok(*sale),
            CreatedOnce::KeyTaken | CreatedOnce::UnderWay => {
                Err(rows::corrupt("a key was taken that was not given"))
            }
        }
    }

    async fn create_sale_once(
        &self,
        sale: &NewSale,
        mode: Mode,
        key: &RequestKey,
    ) -> Result<CreatedOnce, Fault> {
        self.insert_sale(sale, mode, Some(key)).await
    }

    async fn sale_of_key(&self, key: &str) -> Result<Option<(Sale, [u8; 32])>, Fault> {
        sales::of_key(&self.readers, key).await
    }

    async fn change_sale(&self, sale: SaleId, change: &SaleChange) -> Result<SaleChanged, Fault> {
        let mut connection = self.writing.connection.lock().await;
        let mut transaction = connection.begin().await?;
        let changed = sales::change(transaction.connection(), sale, change).await?;
        transaction.commit().await?;
        Ok(changed)
    }

    async fn mark_opened(&self, sale: SaleId, epoch: Epoch) -> Result<(), Fault> {
        let update = sqlx::query("UPDATE sales SET epoch = ? WHERE id = ? AND epoch < ?")
            .bind(epoch)
            .bind(sale.0.cast_signed())
            .bind(epoch);
        self.change(update).await.map(drop)
    }

    async fn sale(&self, id: SaleId) -> Result<Option<Sale>, Fault> {
        let query = sqlx::query("SELECT * FROM sales WHERE id = ?").bind(id.0.cast_signed());
        let row = query.fetch_optional(&self.readers).await.map_err(fault)?;
        row.as_ref().map(rows::sale).transpose()
    }

    async fn sales(&self, limit: u32) -> Result<Vec<Sale>, Fault> {
        let query = sqlx::query("SELECT * FROM sales ORDER BY id DESC LIMIT ?").bind(limit);
        let rows = query.fetch_all(&self.readers).await.map_err(fault)?;
        rows.iter().map(rows::sale).collect()
    }

    async fn unfinished_sales(&self, after: Option<SaleId>, limit: u32) -> Result<Vec<Sale>, Fault> {
        const SQL: &str = "SELECT * FROM sales INDEXED BY sales_by_state \
                           WHERE state IN ('open', 'rebuilding') AND id > ? AND epoch <> ? ORDER BY id LIMIT ?";
        let query = sqlx::query(SQL)
            .bind(after.map_or(0, |id| id.0.cast_signed()))
            .bind(Mode::Direct.stored_epoch())
            .bind(limit);
        let rows = query.fetch_all(&self.readers).await.map_err(fault)?;
        rows.iter().map(rows::sale).collect()
    }

    async fn restore_sale(&self, sale: &Sale) -> Result<(), Fault> {
        let mut connection = self.writing.connection.lock().await;
        let mut transaction = connection.begin().await?;
        rebuild::restore_sale(transaction.connection(), sale).await?;
        transaction.commit().await
    }

    async fn begin_rebuild(&self, sale: SaleId, from: Epoch, to: Epoch, gate: Epoch) -> Result<bool, Fault> {
        Ok(self.change(rebuild::begin(sale, (from, to, gate))).await? == 1)
    }

    async fn take_up_rebuild(
        &self,
        seen: &Sale,
        epochs: (Epoch, Epoch),
        owner: Uuid,
        lease: Duration,
    ) -> Result<bool, Fault> {
        let mut connection = self.writing.connection.lock().await;
        let mut transaction = connection.begin().await?;
        let taken = rebuild::take_up(transaction.connection(), seen, epochs, owner, lease).await?;
        transaction.commit().await?;
        Ok(taken)
    }

    async fn own_rebuild(
        &self,
        sale: SaleId,
        epoch: Epoch,
        owner: Uuid,
        lease: Duration,
        progress: (RebuildStep, u64, Option<u64>),
    ) -> Result<bool, Fault> {
        // Under the write lock, so that the wait for it takes nothing from the lease.
        let mut connection = self.writing.connection.lock().await;
        let mut transaction = connection.begin().await?;
        let update = rebuild::own(sale, epoch, owner, lease, progress);
        let changed = update.execute(transaction.connection()).await.map_err(fault)?.rows_affected();
        transaction.commit().await?;
        Ok(changed == 1)
    }

    async fn lock_for_refill(
        &self,
        sale: SaleId,
        epoch: Epoch,
        owner: Uuid,
    ) -> Result<Option<Box<dyn LockedSale>>, Fault> {
        let locked = rebuild::lock(Arc::clone(&self.writing), sale, epoch, owner).await?;
        Ok(locked.map(|locked| Box::new(locked) as Box<dyn LockedSale>))
    }

    async fn close_out(&self, sale: SaleId, revision: u32) -> Result<bool, Fault> {
        Ok(self.change(rebuild::close_out(sale, revision)).await? == 1)
    }

    async fn missing_among(&self, orders: &[OrderId]) -> Result<HashSet<OrderId>, Fault> {
        let mut missing: HashSet<_> = orders.iter().copied().collect();
        for some in orders.chunks(sqlite::ROWS_A_STATEMENT) {
            for id in rebuild::recorded_among(&self.readers, some).await? {
                missing.remove(&id);
            }
        }
        Ok(missing)
    }

    async fn order(&self, id: OrderId) -> Result<Option<LedgerOrder>, Fault> {
        const SQL: &str = "SELECT id AS order_id, sale_id, user_id, quantity, amount_cents, status, cancel_reason, \
                           sequence, NULL AS reason, accepted_at, committed_at AS recorded_at FROM orders WHERE id = ?1 \
                           UNION ALL \
                           SELECT order_id, sale_id, user_id, quantity, 0, NULL, NULL, 0, reason, accepted_at, created_at \
                           FROM rejections WHERE order_id = ?1 LIMIT 1";
        let query = sqlx::query(SQL).bind(rows::id_bytes(id));
        let row = query.fetch_optional(&self.readers).await.map_err(fault)?;
        row.as_ref().map(rows::ledger_order).transpose()
    }

    async fn orders(&self, ids: &[OrderId]) -> Result<Vec<LedgerOrder>, Fault> {
        let mut found = Vec::with_capacity(ids.len());
        for some in ids.chunks(sqlite::ROWS_A_STATEMENT) {
            let some = || some.iter().copied().map(rows::id_bytes);
            let mut query = QueryBuilder::<Sqlite>::new(
                "SELECT id AS order_id, sale_id, user_id, quantity, amount_cents, status, cancel_reason, sequence, \
                 NULL AS reason, accepted_at, committed_at AS recorded_at FROM orders WHERE id IN (",
            );
            rows::push_list(&mut query, some());
            query.push(
                " UNION ALL SELECT order_id, sale_id, user_id, quantity, 0, NULL, NULL, 0, reason, accepted_at, created_at \
                 FROM rejections WHERE order_id IN (",
            );
            rows::push_list(&mut query, some());
            let page = query.build().persistent(false).fetch_all(&self.readers).await.map_err(fault)?;
            for row in &page {
                found.push(rows::ledger_order(row)?);
            }
        }
        Ok(found)
    }

    async fn orders_of(&self, user: UserId, sale: SaleId) -> Result<Vec<LedgerOrder>, Fault> {
        const SQL: &str = "SELECT id AS order_id, sale_id, user_id, quantity, amount_cents, status, cancel_reason, \
                           sequence, NULL AS reason, accepted_at, committed_at AS recorded_at FROM orders WHERE sale_id = ?1 AND user_id = ?2 \
                           UNION ALL \
                           SELECT order_id, sale_id, user_id, quantity, 0, NULL, NULL, 0, reason, accepted_at, created_at \
                           FROM rejections WHERE sale_id = ?1 AND user_id = ?2 \
                           ORDER BY accepted_at, order_id LIMIT 100";
        let query = sqlx::query(SQL).bind(sale.0.cast_signed()).bind(user.0.cast_signed());
        let rows = query.fetch_all(&self.readers).await.map_err(fault)?;
        rows.iter().map(rows::ledger_order).collect()
    }

    async fn orders_after(
        &self,
        sale: SaleId,
        after: Option<OrderId>,
        limit: u32,
    ) -> Result<Vec<LedgerOrder>, Fault> {
        // The plus sign keeps SQLite on the primary key, in whose order a page costs its own rows only.
        const SQL: &str = "SELECT * FROM (SELECT id AS order_id, sale_id, user_id, quantity, amount_cents, status, \
                           cancel_reason, sequence, NULL AS reason, accepted_at, committed_at AS recorded_at \
                           FROM orders WHERE +sale_id = ?1 AND id > ?2 ORDER BY id LIMIT ?3) \
                           UNION ALL \
                           SELECT * FROM (SELECT order_id, sale_id, user_id, quantity, 0, NULL, NULL, 0, reason, accepted_at, created_at \
                           FROM rejections WHERE +sale_id = ?1 AND order_id > ?2 ORDER BY order_id LIMIT ?3) \
                           ORDER BY order_id LIMIT ?3";
        // An empty blob comes before every id.
        let after = after.map_or_else(Vec::new, rows::id_bytes);
        let query = sqlx::query(SQL).bind(sale.0.cast_signed()).bind(after).bind(limit);
        let rows = query.fetch_all(&self.readers).await.map_err(fault)?;
        rows.iter().map(rows::ledger_order).collect()
    }

    async fn totals(&self, sale: SaleId) -> Result<LedgerTotals, Fault> {
        // One statement, so that all of it is read at one moment. Users are counted in their index. Units are not in it:
        // where the sale is most of what there is, going through the whole table is some twenty times as fast as
        // looking up each row, which is what the plus sign keeps SQLite from doing. The running totals only choose.
        const SQL: &str = "\
            SELECT a.orders, a.users + b.ids AS duplicates, r.rejected_orders, r.rejected_units, COALESCE( \
                CASE WHEN 16 * (SELECT orders FROM sales WHERE id = ?1) > (SELECT SUM(orders) FROM sales) \
                THEN (SELECT SUM(quantity) FROM orders WHERE +sale_id = ?1 AND active = 1) \
                ELSE (SELECT SUM(quantity) FROM orders WHERE sale_id = ?1 AND active = 1) END, 0) AS units FROM \
            (SELECT COALESCE(SUM(n), 0) AS orders, COALESCE(SUM(n > 1), 0) AS users FROM \
                (SELECT COUNT(*) AS n FROM orders WHERE sale_id = ?1 AND active = 1 GROUP BY user_id)) a, \
            (SELECT COUNT(*) AS rejected_orders, COALESCE(SUM(quantity), 0) AS rejected_units \
                FROM rejections WHERE sale_id = ?1) r, \
            (SELECT COUNT(*) AS ids FROM rejections JOIN orders ON orders.id = rejections.order_id \
                WHERE rejections.sale_id = ?1) b";
        let query = sqlx::query(SQL).bind(sale.0.cast_signed());
        let row = query.fetch_one(&self.readers).await.map_err(fault)?;
        rows::totals(&row)
    }

    async fn writer(&self) -> Result<Box<dyn LedgerWriter>, Fault> {
        Ok(Box::new(SqliteWriter::new(Arc::clone(&self.writing))))
    }

    async fn ping(&self) -> Result<(), Fault> {
        sqlx::query("SELECT 1 FROM sales LIMIT 1")
            .fetch_optional(&self.readers)
            .await
            .map(drop)
            .map_err(fault)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn fault(error: sqlx::Error) -> Fault {
    sqlite::fault(Dependency::Ledger, &error)
}
