//! How the ledger's rows become words, and words rows. A row that this program never writes is a fault here, not a panic.

use seckill_core::{
    Claim, Dependency, Fault, LedgerOrder, LedgerTotals, Mode, Order, OrderId, RejectReason, Sale, SaleId,
    Timestamp, UserId,
};
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Encode, QueryBuilder, Row, Sqlite, Type};
use uuid::Uuid;

/// A row of `sales`.
pub(super) fn sale(row: &SqliteRow) -> Result<Sale, Fault> {
    let (mode, epoch) = Mode::from_stored_epoch(number(row, "epoch")?);
    Ok(Sale {
        id: SaleId(get::<i64>(row, "id")?.cast_unsigned()),
        name: get(row, "name")?,
        product: get(row, "product")?,
        stock: number(row, "stock")?,
        sold: number(row, "sold")?,
        orders: number(row, "orders")?,
        rejected_orders: number(row, "rejected_orders")?,
        price_cents: number(row, "price_cents")?,
        currency: get(row, "currency")?,
        per_user_limit: number(row, "per_user_limit")?,
        starts_at: moment(row, "starts_at")?,
        ends_at: moment(row, "ends_at")?,
        mode,
        epoch,
        created_at: moment(row, "created_at")?,
    })
}

/// What rows of `orders` and of `rejections` have in common.
pub(super) fn order(row: &SqliteRow) -> Result<Order, Fault> {
    Ok(Order {
        sale_id: sale_id(row)?,
        claim: Claim {
            order_id: order_id(row)?,
            user_id: user_id(row)?,
            quantity: number(row, "quantity")?,
            accepted_at: moment(row, "accepted_at")?,
        },
    })
}

/// A row of either table with `amount_cents`, `reason` and `recorded_at`.
pub(super) fn ledger_order(row: &SqliteRow) -> Result<LedgerOrder, Fault> {
    let rejected = get::<Option<String>>(row, "reason")?;
    Ok(LedgerOrder {
        order: order(row)?,
        amount_cents: number(row, "amount_cents")?,
        rejected: rejected.as_deref().map(parse_reason).transpose()?,
        recorded_at: moment(row, "recorded_at")?,
    })
}

/// The one row of the totals.
pub(super) fn totals(row: &SqliteRow) -> Result<LedgerTotals, Fault> {
    Ok(LedgerTotals {
        orders: number(row, "orders")?,
        units: number(row, "units")?,
        rejected_orders: number(row, "rejected_orders")?,
        rejected_units: number(row, "rejected_units")?,
        duplicates: number(row, "duplicates")?,
    })
}

pub(super) fn order_id(row: &SqliteRow) -> Result<OrderId, Fault> {
    let bytes: &[u8] = get(row, "order_id")?;
    Uuid::from_slice(bytes).map(OrderId).map_err(corrupt)
}

pub(super) fn sale_id(row: &SqliteRow) -> Result<SaleId, Fault> {
    Ok(SaleId(get::<i64>(row, "sale_id")?.cast_unsigned()))
}

pub(super) fn user_id(row: &SqliteRow) -> Result<UserId, Fault> {
    Ok(UserId(get::<i64>(row, "user_id")?.cast_unsigned()))
}

pub(super) fn reason(row: &SqliteRow) -> Result<RejectReason, Fault> {
    parse_reason(get(row, "reason")?)
}

fn parse_reason(text: &str) -> Result<RejectReason, Fault> {
    RejectReason::parse(text).ok_or_else(|| corrupt(format!("{text:?} is no reason of a rejection")))
}

/// A number that is never negative and fits its type.
pub(super) fn number<T: TryFrom<i64>>(row: &SqliteRow, column: &str) -> Result<T, Fault> {
    let number: i64 = get(row, column)?;
    T::try_from(number).map_err(|_| corrupt(format!("{number} is out of the range of {column}")))
}

fn moment(row: &SqliteRow, column: &str) -> Result<Timestamp, Fault> {
    let millis: i64 = get(row, column)?;
    Timestamp::from_timestamp_millis(millis)
        .ok_or_else(|| corrupt(format!("{millis} in {column} is no moment in milliseconds")))
}

fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(row: &'r SqliteRow, column: &str) -> Result<T, Fault> {
    row.try_get(column).map_err(corrupt)
}

fn corrupt(reason: impl std::fmt::Display) -> Fault {
    Fault::corrupt(Dependency::Ledger, reason)
}

/// An order id as it is stored: 16 bytes, whose order is that of the ids.
pub(super) fn id_bytes(id: OrderId) -> Vec<u8> {
    id.0.as_bytes().to_vec()
}

/// An amount as it is stored. No sale that passed its check comes near the limit, [`seckill_core::NewSale::check`].
pub(super) fn cents(cents: u64) -> i64 {
    i64::try_from(cents).unwrap_or(i64::MAX)
}

/// Ends an `IN (` with a list of values and the closing bracket.
pub(super) fn push_list<T>(query: &mut QueryBuilder<Sqlite>, values: impl Iterator<Item = T>)
where
    T: for<'q> Encode<'q, Sqlite> + Type<Sqlite>,
{
    let mut list = query.separated(", ");
    for value in values {
        list.push_bind(value);
    }
    query.push(")");
}
