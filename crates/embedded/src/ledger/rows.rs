//! How the ledger's rows become words, and words rows. A row that this program never writes is a fault here, not a panic.

use seckill_core::{
    Admission, CancelReason, Claim, Dependency, Ended, Fault, LedgerId, LedgerOrder, LedgerTotals, Mode,
    OrderId, OrderRecord, OrderState, OrderStatus, Rebuild, RebuildStep, RejectReason, Sale, SaleId,
    SaleState, Timestamp, UserId,
};
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Encode, QueryBuilder, Row, Sqlite, Type};
use uuid::Uuid;

/// A row of `sales`.
pub(super) fn sale(row: &SqliteRow) -> Result<Sale, Fault> {
    let (mode, epoch) = Mode::from_stored_epoch(number(row, "epoch")?);
    let state = state(row)?;
    Ok(Sale {
        id: SaleId(get::<i64>(row, "id")?.cast_unsigned()),
        name: get(row, "name")?,
        product: get(row, "product")?,
        stock: number(row, "stock")?,
        sold: number(row, "sold")?,
        orders: number(row, "orders")?,
        rejected_orders: number(row, "rejected_orders")?,
        payment_window_ms: optional_number(row, "payment_window_ms")?,
        ended: Ended {
            orders: number(row, "ended_orders")?,
            units: number(row, "ended_units")?,
            returned_orders: number(row, "returned_orders")?,
            returned_units: number(row, "returned_units")?,
        },
        admission: admission(row)?,
        price_cents: number(row, "price_cents")?,
        currency: get(row, "currency")?,
        per_user_limit: number(row, "per_user_limit")?,
        starts_at: moment(row, "starts_at")?,
        ends_at: moment(row, "ends_at")?,
        mode,
        epoch,
        state,
        rebuild: (state == SaleState::Rebuilding).then(|| rebuild(row)).transpose()?,
        open_epoch: number(row, "open_epoch")?,
        created_at: moment(row, "created_at")?,
        paused: get(row, "paused")?,
        revision: number(row, "revision")?,
    })
}

/// Who may order, as it is stored; `None`: everyone.
pub(super) fn admission_text(admission: &Admission) -> Option<String> {
    let text = || serde_json::to_string(admission).expect("plain fields can be written as JSON");
    (!admission.is_open()).then(text)
}

/// Reads what [`admission_text`] writes.
fn admission(row: &SqliteRow) -> Result<Admission, Fault> {
    let text: Option<&str> = get(row, "admission")?;
    text.map_or_else(|| Ok(Admission::default()), |text| serde_json::from_str(text).map_err(corrupt))
}

/// The state of a row of `sales`.
pub(super) fn state(row: &SqliteRow) -> Result<SaleState, Fault> {
    let text: &str = get(row, "state")?;
    SaleState::parse(text).ok_or_else(|| corrupt(format!("{text:?} is no state of a sale")))
}

/// Who owns the rebuild of a row of `sales`, or owned it last.
pub(super) fn owner(row: &SqliteRow) -> Result<Option<Uuid>, Fault> {
    let bytes: Option<&[u8]> = get(row, "rebuild_owner")?;
    bytes.map(|bytes| Uuid::from_slice(bytes).map_err(corrupt)).transpose()
}

/// How far a rebuild is. Without an owner whose lease holds, it waits for one.
fn rebuild(row: &SqliteRow) -> Result<Rebuild, Fault> {
    let since = moment(row, "rebuild_since")?;
    let lease: Option<i64> = get(row, "rebuild_lease")?;
    let holds = lease.is_some_and(|until| until > seckill_core::now().timestamp_millis());
    let Some(owner) = owner(row)?.filter(|_| holds) else {
        return Ok(Rebuild { step: RebuildStep::Waiting, done: 0, total: None, since, owner: None });
    };
    let step: &str = get(row, "rebuild_step")?;
    Ok(Rebuild {
        step: RebuildStep::parse(step).ok_or_else(|| corrupt(format!("{step:?} is no step of a rebuild")))?,
        done: number(row, "rebuild_done")?,
        total: optional_number(row, "rebuild_total")?,
        since,
        owner: Some(owner),
    })
}

pub(super) fn ledger_id(row: &SqliteRow) -> Result<LedgerId, Fault> {
    let bytes: &[u8] = get(row, "id")?;
    Uuid::from_slice(bytes).map(LedgerId).map_err(corrupt)
}

/// What rows of `orders` and of `rejections` have in common.
pub(super) fn claim(row: &SqliteRow) -> Result<Claim, Fault> {
    Ok(Claim {
        order_id: order_id(row)?,
        user_id: user_id(row)?,
        quantity: number(row, "quantity")?,
        accepted_at: moment(row, "accepted_at")?,
    })
}

/// A row of either table with `amount_cents`, `status`, `cancel_reason`, `sequence`, `reason` and `recorded_at`.
pub(super) fn ledger_order(row: &SqliteRow) -> Result<LedgerOrder, Fault> {
    let rejected = get::<Option<&str>>(row, "reason")?.map(parse_reason).transpose()?;
    let status = if rejected.is_some() { OrderStatus::Rejected } else { status(row)? };
    Ok(LedgerOrder {
        sale_id: sale_id(row)?,
        claim: claim(row)?,
        amount_cents: number(row, "amount_cents")?,
        status,
        rejected,
        cancelled: cancel_reason(row)?,
        sequence: number(row, "sequence")?,
        recorded_at: moment(row, "recorded_at")?,
    })
}

/// A whole row of `orders`.
pub(super) fn order_record(row: &SqliteRow) -> Result<OrderRecord, Fault> {
    let active = get::<Option<i64>>(row, "active")?.is_some();
    Ok(OrderRecord {
        sale_id: sale_id(row)?,
        claim: claim(row)?,
        amount_cents: number(row, "amount_cents")?,
        state: OrderState { status: status(row)?, active },
        cancelled: cancel_reason(row)?,
        sequence: number(row, "sequence")?,
        committed_at: moment(row, "committed_at")?,
    })
}

fn status(row: &SqliteRow) -> Result<OrderStatus, Fault> {
    let text: &str = get(row, "status")?;
    OrderStatus::parse_committed(text)
        .ok_or_else(|| corrupt(format!("{text:?} is no status of a committed order")))
}

fn cancel_reason(row: &SqliteRow) -> Result<Option<CancelReason>, Fault> {
    let parse = |text| {
        CancelReason::parse(text).ok_or_else(|| corrupt(format!("{text:?} is no reason of a cancellation")))
    };
    get::<Option<&str>>(row, "cancel_reason")?.map(parse).transpose()
}

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

/// The same, where there may be none.
pub(super) fn optional_number<T: TryFrom<i64>>(row: &SqliteRow, column: &str) -> Result<Option<T>, Fault> {
    let is_there = get::<Option<i64>>(row, column)?.is_some();
    is_there.then(|| number(row, column)).transpose()
}

pub(super) fn moment(row: &SqliteRow, column: &str) -> Result<Timestamp, Fault> {
    let millis: i64 = get(row, column)?;
    Timestamp::from_timestamp_millis(millis)
        .ok_or_else(|| corrupt(format!("{millis} in {column} is no moment in milliseconds")))
}

pub(super) fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(
    row: &'r SqliteRow,
    column: &str,
) -> Result<T, Fault> {
    row.try_get(column).map_err(corrupt)
}

pub(super) fn corrupt(reason: impl std::fmt::Display) -> Fault {
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

/// A number as it is stored. Nothing that is counted comes near the limit.
pub(super) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
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
