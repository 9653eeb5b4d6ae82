//! The two ways to bring a batch into the ledger, each from the beginning of a transaction up to, not including, its
//! COMMIT. The statements are in `statements`.
//!
//! Rows are inserted in one order everywhere, and the row of the sale, which every batch wants, is locked as late as
//! possible, so that batches seldom wait for each other.

use std::collections::{BTreeMap, HashMap};

use seckill_core::{
    AbortPoint, Event, EventBody, EventOrder, Fate, FateNews, Known, LedgerId, Order, RejectReason, Room,
    SaleId, Timestamp, abort_point, decide, decided_anew,
};
use sqlx::mysql::MySqlConnection;

use super::statements::{self, Added, IDS_AT_ONCE, Terms};

/// A batch that is written and not committed yet.
pub(super) struct Written {
    pub(super) fates: Vec<Fate>,
    /// What to announce once it is committed.
    pub(super) news: FateNews,
}

impl Written {
    fn new(orders: &[Order], fates: Vec<Fate>, sales: &HashMap<SaleId, Terms>, at: Timestamp) -> Self {
        let amount = |order: &Order| {
            sales.get(&order.sale_id).map_or(0, |terms| terms.amount_cents(order.claim.quantity))
        };
        Self { news: FateNews::of_commit(orders, &fates, amount, at), fates }
    }
}

/// Why nothing was written. The transaction is still open.
pub(super) enum NotWritten {
    /// The rules do not let every order be committed as it is.
    DoesNotFit,
    /// A statement failed.
    Sql(sqlx::Error),
}

impl From<sqlx::Error> for NotWritten {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

/// Writes all orders as they are, or finds out that this cannot be. The unique keys find redelivered orders and second
/// orders of a user; the condition of the update finds what would oversell.
pub(super) async fn write_whole(
    connection: &mut MySqlConnection,
    ledger: LedgerId,
    orders: &[Order],
) -> Result<Written, NotWritten> {
    statements::begin(connection).await?;
    abort_point(AbortPoint::LedgerBegun);
    let (sales, at) = statements::read_sales(connection, &sale_ids(orders)).await?;
    let at = at.ok_or(NotWritten::DoesNotFit)?;
    let rows = sorted(orders.iter());
    let added = add_up(&rows, &sales).ok_or(NotWritten::DoesNotFit)?;
    statements::insert_orders(connection, &rows, &sales, at).await?;
    await_payment(connection, ledger, &rows, &sales).await?;
    abort_point(AbortPoint::LedgerInserted);
    for (id, added) in &added {
        if !statements::add_if_it_fits(connection, *id, added, &sales[id]).await? {
            return Err(NotWritten::DoesNotFit);
        }
    }
    abort_point(AbortPoint::LedgerUpdated);
    Ok(Written::new(orders, vec![Fate::Committed; orders.len()], &sales, at))
}

/// Adds up what the batch takes from each sale; `None` where an order needs a closer look.
fn add_up(rows: &[&Order], sales: &HashMap<SaleId, Terms>) -> Option<BTreeMap<SaleId, Added>> {
    let same_id = |pair: &[&Order]| pair[0].claim.order_id == pair[1].claim.order_id;
    if rows.windows(2).any(same_id) {
        return None;
    }
    let mut added: BTreeMap<SaleId, Added> = BTreeMap::new();
    for Order { sale_id, epoch, claim } in rows {
        let sale = sales.get(sale_id)?;
        if *epoch < sale.oldest_epoch() {
            return None;
        }
        if claim.quantity == 0 || claim.quantity > sale.per_user_limit || sale.rejected_orders > 0 {
            return None;
        }
        let added = added.entry(*sale_id).or_default();
        added.orders += 1;
        added.units += u64::from(claim.quantity);
        if u64::from(sale.sold) + added.units > u64::from(sale.stock) {
            return None;
        }
    }
    Some(added)
}

/// Sorts each order into committed, there already, or rejected, by the rule of [`decide`], and records that.
///
/// Of two batches that share a sale the second waits at the sale's lock until the first has ended. Only a batch that is
/// being written whole may have rows in the making, and those cannot be committed behind this lock: its update of the
/// sale waits for the lock, too, and then finds the sale changed, or one of the two ends in a deadlock and tries again.
pub(super) async fn write_sorted(
    connection: &mut MySqlConnection,
    ledger: LedgerId,
    orders: &[Order],
) -> Result<Written, NotWritten> {
    statements::begin(connection).await?;
    abort_point(AbortPoint::LedgerBegun);
    let sales = statements::lock_sales(connection, &sale_ids(orders)).await?;
    // Read after the wait for the lock.
    let at = statements::clock(connection).await?;
    let known = read_known(connection, orders, &sales).await?;
    let stale = known.stale();
    let fates = decide(orders, known);
    let anew = decided_anew(orders, &fates, &stale);
    statements::forget_rejections(connection, &anew).await?;

    let mut committed = Vec::new();
    let mut rejected: Vec<(&Order, RejectReason)> = Vec::new();
    let mut added: BTreeMap<SaleId, Added> = BTreeMap::new();
    for (order, fate) in orders.iter().zip(&fates) {
        match fate {
            Fate::Committed => {
                committed.push(order);
                let added = added.entry(order.sale_id).or_default();
                added.orders += 1;
                added.units += u64::from(order.claim.quantity);
            }
            Fate::Rejected(reason) => {
                rejected.push((order, *reason));
                added.entry(order.sale_id).or_default().rejected_orders += 1;
            }
            Fate::AlreadyCommitted | Fate::AlreadyRejected(_) => {}
        }
    }
    let rows = sorted(committed.into_iter());
    statements::insert_orders(connection, &rows, &sales, at).await?;
    await_payment(connection, ledger, &rows, &sales).await?;
    statements::insert_rejections(connection, &rejected, at).await?;
    for (id, added) in &added {
        statements::add(connection, *id, added).await?;
    }
    Ok(Written::new(orders, fates, &sales, at))
}

/// Records until when each of `rows`, which are committed, can be paid, and writes the events that tell of them; for sales
/// without a payment window nothing.
async fn await_payment(
    connection: &mut MySqlConnection,
    ledger: LedgerId,
    rows: &[&Order],
    sales: &HashMap<SaleId, Terms>,
) -> sqlx::Result<()> {
    let mut events = Vec::new();
    for rows in rows.chunk_by(|one, other| one.sale_id == other.sale_id) {
        let terms = &sales[&rows[0].sale_id];
        let Some(window) = terms.payment_window_ms else { continue };
        let ids: Vec<_> = rows.iter().map(|order| order.claim.order_id).collect();
        statements::insert_unpaid(connection, &ids, window).await?;
        let in_event = |Order { claim, .. }: &&Order| EventOrder {
            order_id: claim.order_id,
            user_id: claim.user_id,
            quantity: claim.quantity,
            amount_cents: terms.amount_cents(claim.quantity),
            sequence: 1,
        };
        let orders: Vec<_> = rows.iter().map(in_event).collect();
        events.extend(Event::of_orders(ledger, rows[0].sale_id, None, &orders, EventBody::OrderCommitted));
    }
    statements::insert_events(connection, &events).await
}

/// Reads what the ledger has of the batch's orders and buyers. The sales are locked, so it stays that way.
async fn read_known(
    connection: &mut MySqlConnection,
    orders: &[Order],
    sales: &HashMap<SaleId, Terms>,
) -> sqlx::Result<Known> {
    let room = |sale: &Terms| Room {
        units: sale.stock.saturating_sub(sale.sold),
        per_user_limit: sale.per_user_limit,
        oldest_epoch: sale.oldest_epoch(),
    };
    let rooms = sales.iter().map(|(id, sale)| (*id, room(sale))).collect();
    let mut known = Known { rooms, ..Known::default() };
    let mut buyers: BTreeMap<SaleId, Vec<u64>> = BTreeMap::new();
    for some in orders.chunks(IDS_AT_ONCE) {
        let ids: Vec<_> = some.iter().map(|order| order.claim.order_id).collect();
        known.committed.extend(statements::committed_among(connection, &ids).await?);
        known.rejected.extend(statements::rejected_among(connection, &ids).await?);
        for order in some {
            buyers.entry(order.sale_id).or_default().push(order.claim.user_id.0);
        }
    }
    for (sale, users) in buyers {
        for some in users.chunks(IDS_AT_ONCE) {
            let holders = statements::holders_among(connection, sale, some).await?;
            known.holders.extend(holders.into_iter().map(|user| (sale, user)));
        }
    }
    Ok(known)
}

/// The batch's sales, each once, in the order in which all batches lock them.
fn sale_ids(orders: &[Order]) -> Vec<u64> {
    let mut ids: Vec<_> = orders.iter().map(|order| order.sale_id.0).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Rows in the order of the primary key: the same for every batch, against deadlocks.
fn sorted<'a>(orders: impl Iterator<Item = &'a Order>) -> Vec<&'a Order> {
    let mut rows: Vec<_> = orders.collect();
    rows.sort_unstable_by_key(|order| (order.sale_id, order.claim.order_id));
    rows
}
