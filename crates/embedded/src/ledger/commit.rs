//! How orders become true: in one transaction, most of the time by two statements. What does not fit in one piece is
//! sorted order by order, by the rule that every ledger shares. Orders of a sale with a payment window wait to be paid from
//! then on, and an event tells of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use seckill_core::{
    Dependency, Epoch, Event, EventBody, EventOrder, Fate, FateNews, Fates, Fault, Known, LedgerId,
    LedgerWriter, Mode, Order, RejectReason, Room, SaleId, SaleState, Timestamp, decide, decided_anew,
};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection};

use super::{Writing, fault, outbox, rows};
use crate::sqlite::{ROWS_A_STATEMENT, WriteConnection};

/// A worker lane's way in. All of them share one connection and take turns.
pub(super) struct SqliteWriter {
    writing: Arc<Writing>,
}

impl SqliteWriter {
    pub(super) fn new(writing: Arc<Writing>) -> Self {
        Self { writing }
    }
}

#[async_trait]
impl LedgerWriter for SqliteWriter {
    async fn commit(&mut self, orders: &[Order]) -> Result<Vec<Fate>, Fault> {
        if orders.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.writing.connection.lock().await;
        let ledger = self.writing.ledger;
        let Written { fates, terms, at } = match commit_as_one(&mut connection, ledger, orders).await? {
            Some(written) => written,
            None => commit_one_by_one(&mut connection, ledger, orders).await?,
        };
        let amount = |order: &Order| amount_cents(order, &terms);
        self.writing.fates.announce(FateNews::of_commit(orders, &fates, amount, at));
        Ok(fates)
    }
}

/// What the write of a batch needs to know of each of its sales.
struct Terms {
    stock: u32,
    sold: u32,
    price_cents: u64,
    per_user_limit: u32,
    /// How long its orders can be paid; `None`: the sale has no payments.
    payment_window_ms: Option<i64>,
    /// Orders of earlier epochs are stale; 0 while the gate is being rebuilt.
    oldest_epoch: Epoch,
    /// Whether an order of this sale was ever rejected: then an order of the batch may be one that was.
    has_rejections: bool,
}

impl Terms {
    fn amount_cents(&self, quantity: u32) -> u64 {
        self.price_cents.saturating_mul(quantity.into())
    }
}

/// A batch that is committed.
struct Written {
    fates: Vec<Fate>,
    terms: HashMap<SaleId, Terms>,
    /// The moment that its rows say.
    at: Timestamp,
}

/// What an order costs; 0 where its sale does not exist.
fn amount_cents(order: &Order, terms: &HashMap<SaleId, Terms>) -> u64 {
    terms.get(&order.sale_id).map_or(0, |terms| terms.amount_cents(order.claim.quantity))
}

/// Commits the whole batch, or, when that is not possible, nothing of it: `None`.
async fn commit_as_one(
    connection: &mut WriteConnection,
    ledger: LedgerId,
    orders: &[Order],
) -> Result<Option<Written>, Fault> {
    let mut transaction = connection.begin().await?;
    let terms = read_terms(transaction.connection(), orders).await?;
    let plain = |order: &Order| {
        terms.get(&order.sale_id).is_some_and(|terms| {
            !terms.has_rejections
                && order.epoch >= terms.oldest_epoch
                && (1..=terms.per_user_limit).contains(&order.claim.quantity)
        })
    };
    let now = seckill_core::now();
    let committed = orders.iter().all(plain)
        && insert_orders(transaction.connection(), orders.iter().collect(), &terms, now).await?
        && add_to_sales(transaction.connection(), sum_up(orders.iter())).await?;
    if committed {
        await_payment(transaction.connection(), ledger, orders.iter().collect(), &terms, now).await?;
        transaction.commit().await?;
    } else {
        transaction.rollback().await?;
    }
    Ok(committed.then(|| Written { fates: vec![Fate::Committed; orders.len()], terms, at: now }))
}

/// Commits what is new and fits, records the rest as rejected, and tells what had come before.
async fn commit_one_by_one(
    connection: &mut WriteConnection,
    ledger: LedgerId,
    orders: &[Order],
) -> Result<Written, Fault> {
    let mut transaction = connection.begin().await?;
    let terms = read_terms(transaction.connection(), orders).await?;
    let known = read_known(transaction.connection(), orders, &terms).await?;
    let stale = known.stale();
    let fates = decide(orders, known);
    forget_rejections(transaction.connection(), &decided_anew(orders, &fates, &stale)).await?;
    let with_fates = || orders.iter().zip(&fates);
    let committed: Vec<_> =
        with_fates().filter(|(_, fate)| **fate == Fate::Committed).map(|(order, _)| order).collect();
    let rejected: Vec<_> = with_fates()
        .filter_map(|(order, fate)| match fate {
            Fate::Rejected(reason) => Some((order, *reason)),
            _ => None,
        })
        .collect();
    let sums = sum_up(committed.iter().copied());
    let now = seckill_core::now();
    let fits = insert_orders(transaction.connection(), committed.clone(), &terms, now).await?
        && add_to_sales(transaction.connection(), sums).await?;
    if !fits {
        // It was decided under the write lock, so only a file that contradicts itself gets here.
        transaction.rollback().await?;
        let reason = "its sales do not agree with its orders; run the audit";
        return Err(Fault::corrupt(Dependency::Ledger, reason));
    }
    await_payment(transaction.connection(), ledger, committed, &terms, now).await?;
    insert_rejections(transaction.connection(), &rejected, now).await?;
    transaction.commit().await?;
    Ok(Written { fates, terms, at: now })
}

async fn read_terms(
    connection: &mut SqliteConnection,
    orders: &[Order],
) -> Result<HashMap<SaleId, Terms>, Fault> {
    let sales: BTreeSet<_> = orders.iter().map(|order| order.sale_id).collect();
    let mut found = HashMap::with_capacity(sales.len());
    for sale in sales {
        // The rows are asked, not the running total: an order may have been rejected before its sale existed.
        const SQL: &str = "SELECT stock, sold, price_cents, per_user_limit, payment_window_ms, epoch, open_epoch, state, \
                           EXISTS (SELECT 1 FROM rejections WHERE sale_id = sales.id) AS has_rejections \
                           FROM sales WHERE id = ?";
        let query = sqlx::query(SQL).bind(sale.0.cast_signed());
        if let Some(row) = query.fetch_optional(&mut *connection).await.map_err(fault)? {
            let terms = Terms {
                stock: rows::number(&row, "stock")?,
                sold: rows::number(&row, "sold")?,
                price_cents: rows::number(&row, "price_cents")?,
                per_user_limit: rows::number(&row, "per_user_limit")?,
                payment_window_ms: rows::optional_number(&row, "payment_window_ms")?,
                oldest_epoch: oldest_epoch(&row)?,
                has_rejections: row.try_get("has_rejections").map_err(fault)?,
            };
            found.insert(sale, terms);
        }
    }
    Ok(found)
}

fn oldest_epoch(row: &SqliteRow) -> Result<Epoch, Fault> {
    Ok(match rows::state(row)? {
        // A straggler from before the epoch that was open last must not take the unit of an order promised since.
        SaleState::Rebuilding => rows::number(row, "open_epoch")?,
        SaleState::Open | SaleState::ClosedOut => Mode::from_stored_epoch(rows::number(row, "epoch")?).1,
    })
}

async fn read_known(
    connection: &mut SqliteConnection,
    orders: &[Order],
    terms: &HashMap<SaleId, Terms>,
) -> Result<Known, Fault> {
    let room = |terms: &Terms| Room {
        units: terms.stock.saturating_sub(terms.sold),
        per_user_limit: terms.per_user_limit,
        oldest_epoch: terms.oldest_epoch,
    };
    let rooms = terms.iter().map(|(sale, terms)| (*sale, room(terms))).collect();
    let mut known = Known { rooms, ..Known::default() };
    for chunk in orders.chunks(ROWS_A_STATEMENT) {
        let ids = || chunk.iter().map(|order| rows::id_bytes(order.claim.order_id));
        let mut query = QueryBuilder::<Sqlite>::new("SELECT id AS order_id FROM orders WHERE id IN (");
        rows::push_list(&mut query, ids());
        for row in query.build().persistent(false).fetch_all(&mut *connection).await.map_err(fault)? {
            known.committed.insert(rows::order_id(&row)?);
        }
        let mut query =
            QueryBuilder::<Sqlite>::new("SELECT order_id, reason FROM rejections WHERE order_id IN (");
        rows::push_list(&mut query, ids());
        for row in query.build().persistent(false).fetch_all(&mut *connection).await.map_err(fault)? {
            known.rejected.insert(rows::order_id(&row)?, rows::reason(&row)?);
        }
        for sale in chunk.iter().map(|order| order.sale_id).collect::<BTreeSet<_>>() {
            let mut query = QueryBuilder::<Sqlite>::new(
                "SELECT sale_id, user_id FROM orders WHERE active = 1 AND sale_id = ",
            );
            query.push_bind(sale.0.cast_signed()).push(" AND user_id IN (");
            let of_sale = chunk.iter().filter(|order| order.sale_id == sale);
            rows::push_list(&mut query, of_sale.map(|order| order.claim.user_id.0.cast_signed()));
            for row in query.build().persistent(false).fetch_all(&mut *connection).await.map_err(fault)? {
                known.holders.insert((rows::sale_id(&row)?, rows::user_id(&row)?));
            }
        }
    }
    Ok(known)
}

/// Inserts rows in the order of their key; `false` when one of them breaks a unique constraint. Some may be inserted then.
async fn insert_orders(
    connection: &mut SqliteConnection,
    mut orders: Vec<&Order>,
    terms: &HashMap<SaleId, Terms>,
    now: Timestamp,
) -> Result<bool, Fault> {
    orders.sort_unstable_by_key(|order| order.claim.order_id);
    let now = now.timestamp_millis();
    for chunk in orders.chunks(ROWS_A_STATEMENT) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO orders (id, sale_id, user_id, quantity, amount_cents, status, active, accepted_at, \
             committed_at) ",
        );
        query.push_values(chunk, |mut row, order @ Order { sale_id, claim, .. }| {
            let amount = amount_cents(order, terms);
            row.push_bind(rows::id_bytes(claim.order_id))
                .push_bind(sale_id.0.cast_signed())
                .push_bind(claim.user_id.0.cast_signed())
                .push_bind(claim.quantity)
                .push_bind(rows::cents(amount))
                .push("'committed', 1")
                .push_bind(claim.accepted_at.timestamp_millis())
                .push(now);
        });
        match query.build().persistent(false).execute(&mut *connection).await {
            Ok(_) => {}
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => return Ok(false),
            Err(error) => return Err(fault(error)),
        }
    }
    Ok(true)
}

/// Notes until when the orders that were committed `now` can be paid, and tells of them. Without a payment window there is
/// nothing to do.
async fn await_payment(
    connection: &mut SqliteConnection,
    ledger: LedgerId,
    mut orders: Vec<&Order>,
    terms: &HashMap<SaleId, Terms>,
    now: Timestamp,
) -> Result<(), Fault> {
    orders.retain(|order| terms.get(&order.sale_id).is_some_and(|terms| terms.payment_window_ms.is_some()));
    if orders.is_empty() {
        return Ok(());
    }
    orders.sort_unstable_by_key(|order| (order.sale_id, order.claim.order_id));
    let mut events = Vec::new();
    for of_sale in orders.chunk_by(|one, other| one.sale_id == other.sale_id) {
        let sale = of_sale[0].sale_id;
        let Some(terms) = terms.get(&sale) else { continue };
        let pay_by = now.timestamp_millis().saturating_add(terms.payment_window_ms.unwrap_or_default());
        for chunk in of_sale.chunks(ROWS_A_STATEMENT) {
            let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO unpaid (order_id, pay_by) ");
            query.push_values(chunk, |mut row, order| {
                row.push_bind(rows::id_bytes(order.claim.order_id)).push(pay_by);
            });
            query.build().persistent(false).execute(&mut *connection).await.map_err(fault)?;
        }
        let told = |order: &&Order| EventOrder {
            order_id: order.claim.order_id,
            user_id: order.claim.user_id,
            quantity: order.claim.quantity,
            amount_cents: terms.amount_cents(order.claim.quantity),
            sequence: 1,
        };
        let told: Vec<_> = of_sale.iter().map(told).collect();
        events.extend(Event::of_orders(ledger, sale, None, &told, EventBody::OrderCommitted));
    }
    outbox::insert(connection, &events).await
}

/// Removes the rows of stale orders that are decided anew, and takes them off the totals of their sales.
async fn forget_rejections(connection: &mut SqliteConnection, orders: &[&Order]) -> Result<(), Fault> {
    for order in orders {
        let removed = sqlx::query("DELETE FROM rejections WHERE order_id = ?")
            .bind(rows::id_bytes(order.claim.order_id))
            .execute(&mut *connection)
            .await
            .map_err(fault)?
            .rows_affected();
        sqlx::query("UPDATE sales SET rejected_orders = rejected_orders - ? WHERE id = ?")
            .bind(removed.cast_signed())
            .bind(order.sale_id.0.cast_signed())
            .execute(&mut *connection)
            .await
            .map_err(fault)?;
    }
    Ok(())
}

async fn insert_rejections(
    connection: &mut SqliteConnection,
    rejected: &[(&Order, RejectReason)],
    now: Timestamp,
) -> Result<(), Fault> {
    for chunk in rejected.chunks(ROWS_A_STATEMENT) {
        insert_rejection_rows(connection, chunk, now).await?;
    }
    let mut counts = BTreeMap::<_, i64>::new();
    for (order, _) in rejected {
        *counts.entry(order.sale_id).or_default() += 1;
    }
    for (sale, count) in counts {
        // A sale that does not exist has no total to keep.
        sqlx::query("UPDATE sales SET rejected_orders = rejected_orders + ? WHERE id = ?")
            .bind(count)
            .bind(sale.0.cast_signed())
            .execute(&mut *connection)
            .await
            .map_err(fault)?;
    }
    Ok(())
}

async fn insert_rejection_rows(
    connection: &mut SqliteConnection,
    rejected: &[(&Order, RejectReason)],
    now: Timestamp,
) -> Result<(), Fault> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO rejections (order_id, sale_id, user_id, quantity, reason, accepted_at, created_at) ",
    );
    query.push_values(rejected, |mut row, (Order { sale_id, claim, .. }, reason)| {
        row.push_bind(rows::id_bytes(claim.order_id))
            .push_bind(sale_id.0.cast_signed())
            .push_bind(claim.user_id.0.cast_signed())
            .push_bind(claim.quantity)
            .push_bind(reason.as_str())
            .push_bind(claim.accepted_at.timestamp_millis())
            .push_bind(now.timestamp_millis());
    });
    query.build().persistent(false).execute(connection).await.map(drop).map_err(fault)
}

fn sum_up<'a>(orders: impl Iterator<Item = &'a Order>) -> BTreeMap<SaleId, (i64, i64)> {
    let mut sums = BTreeMap::<_, (i64, i64)>::new();
    for order in orders {
        let (units, count) = sums.entry(order.sale_id).or_default();
        *units += i64::from(order.claim.quantity);
        *count += 1;
    }
    sums
}

/// Adds to the sales' running totals, and this is where a sale that would be oversold is caught: `false`.
async fn add_to_sales(
    connection: &mut SqliteConnection,
    sums: BTreeMap<SaleId, (i64, i64)>,
) -> Result<bool, Fault> {
    const SQL: &str =
        "UPDATE sales SET sold = sold + ?1, orders = orders + ?2 WHERE id = ?3 AND sold + ?1 <= stock";
    for (sale, (units, count)) in sums {
        let update = sqlx::query(SQL).bind(units).bind(count).bind(sale.0.cast_signed());
        if update.execute(&mut *connection).await.map_err(fault)?.rows_affected() == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}
