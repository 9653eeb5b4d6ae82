//! How the rows of the ledger are read. Runs alike on MySQL and MariaDB.

use seckill_core::{
    Admission, CancelReason, Claim, Ended, LedgerOrder, Mode, OrderId, OrderStatus, Rebuild, RebuildStep,
    RejectReason, Sale, SaleId, SaleState, Timestamp, UserId,
};
use sqlx::mysql::MySqlRow;
use sqlx::{Error, FromRow, Result, Row};
use uuid::Uuid;

/// All of a sale, and whether the lease on its rebuild holds; what follows says which sales.
macro_rules! sales_and {
    () => {
        "SELECT sales.*, rebuild_lease > UTC_TIMESTAMP(3) AS lease_holds FROM sales "
    };
}
pub(super) use sales_and;

/// The server's clock in milliseconds since 1970: what `UTC_TIMESTAMP(3)` says, also after 2038. A signed number.
macro_rules! now_ms {
    () => {
        "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(3)) DIV 1000)"
    };
}
pub(super) use now_ms;

pub(super) struct SaleRow(pub(super) Sale);

impl FromRow<'_, MySqlRow> for SaleRow {
    fn from_row(row: &MySqlRow) -> Result<Self> {
        let (mode, epoch) = Mode::from_stored_epoch(row.try_get("epoch")?);
        let state = sale_state(row.try_get("state")?)?;
        Ok(Self(Sale {
            id: SaleId(row.try_get("id")?),
            name: row.try_get("name")?,
            product: row.try_get("product")?,
            stock: row.try_get("stock")?,
            sold: row.try_get("sold")?,
            orders: row.try_get("orders")?,
            rejected_orders: row.try_get("rejected_orders")?,
            payment_window_ms: row.try_get("payment_window_ms")?,
            ended: Ended {
                orders: row.try_get("ended_orders")?,
                units: row.try_get("ended_units")?,
                returned_orders: row.try_get("returned_orders")?,
                returned_units: row.try_get("returned_units")?,
            },
            admission: admission(row)?,
            price_cents: row.try_get("price_cents")?,
            currency: row.try_get("currency")?,
            per_user_limit: row.try_get("per_user_limit")?,
            starts_at: row.try_get("starts_at")?,
            ends_at: row.try_get("ends_at")?,
            mode,
            epoch,
            state,
            rebuild: (state == SaleState::Rebuilding).then(|| rebuild(row)).transpose()?,
            open_epoch: row.try_get("open_epoch")?,
            created_at: row.try_get("created_at")?,
            paused: row.try_get::<u8, _>("paused")? != 0,
            revision: row.try_get("revision")?,
        }))
    }
}

/// Who may order, as it is stored; `None`: everyone.
pub(super) fn admission_text(admission: &Admission) -> Option<String> {
    let text = || serde_json::to_string(admission).expect("plain fields can be written as JSON");
    (!admission.is_open()).then(text)
}

/// Reads what [`admission_text`] writes.
fn admission(row: &MySqlRow) -> Result<Admission> {
    let text: Option<String> = row.try_get("admission")?;
    let parse = |text: String| serde_json::from_str(&text).map_err(|error| Error::Decode(Box::new(error)));
    text.map_or_else(|| Ok(Admission::default()), parse)
}

/// How far a rebuild is. Without an owner whose lease holds, it waits for one.
fn rebuild(row: &MySqlRow) -> Result<Rebuild> {
    let since = row.try_get("rebuild_since")?;
    let owner: Option<Vec<u8>> = row.try_get("rebuild_owner")?;
    let holds = row.try_get::<Option<i64>, _>("lease_holds")? == Some(1);
    let Some(owner) = owner.filter(|_| holds) else {
        return Ok(Rebuild { step: RebuildStep::Waiting, done: 0, total: None, since, owner: None });
    };
    let step: String = row.try_get("rebuild_step")?;
    Ok(Rebuild {
        step: RebuildStep::parse(&step)
            .ok_or_else(|| Error::Decode(format!("no step of a rebuild: {step:?}").into()))?,
        done: row.try_get("rebuild_done")?,
        total: row.try_get("rebuild_total")?,
        since,
        owner: Some(uuid(&owner)?),
    })
}

pub(super) struct OrderRow(pub(super) LedgerOrder);

impl FromRow<'_, MySqlRow> for OrderRow {
    fn from_row(row: &MySqlRow) -> Result<Self> {
        let claim = claim(row)?;
        let reason: Option<String> = row.try_get("reason")?;
        let rejected = reason.as_deref().map(reject_reason).transpose()?;
        let status = match rejected {
            Some(_) => OrderStatus::Rejected,
            None => order_status(row)?,
        };
        Ok(Self(LedgerOrder {
            sale_id: SaleId(row.try_get("sale_id")?),
            claim,
            amount_cents: row.try_get("amount_cents")?,
            status,
            rejected,
            cancelled: cancel_reason(row)?,
            sequence: row.try_get("sequence")?,
            recorded_at: row.try_get("recorded_at")?,
        }))
    }
}

/// What rows of `orders` and of `rejections` have in common.
pub(super) fn claim(row: &MySqlRow) -> Result<Claim> {
    Ok(Claim {
        order_id: order_id(row.try_get("id")?)?,
        user_id: UserId(row.try_get("user_id")?),
        quantity: row.try_get("quantity")?,
        accepted_at: row.try_get::<Timestamp, _>("accepted_at")?,
    })
}

pub(super) fn order_status(row: &MySqlRow) -> Result<OrderStatus> {
    let text: String = row.try_get("status")?;
    OrderStatus::parse_committed(&text)
        .ok_or_else(|| Error::Decode(format!("no state of an order: {text:?}").into()))
}

pub(super) fn cancel_reason(row: &MySqlRow) -> Result<Option<CancelReason>> {
    let text: Option<String> = row.try_get("cancel_reason")?;
    let read = |text: String| {
        CancelReason::parse(&text)
            .ok_or_else(|| Error::Decode(format!("no reason for a cancellation: {text:?}").into()))
    };
    text.map(read).transpose()
}

/// A moment that is stored in milliseconds since 1970.
pub(super) fn moment(millis: u64) -> Result<Timestamp> {
    i64::try_from(millis)
        .ok()
        .and_then(Timestamp::from_timestamp_millis)
        .ok_or_else(|| Error::Decode(format!("no moment: {millis} ms since 1970").into()))
}

pub(super) fn order_id(bytes: &[u8]) -> Result<OrderId> {
    uuid(bytes).map(OrderId)
}

pub(super) fn uuid(bytes: &[u8]) -> Result<Uuid> {
    Uuid::from_slice(bytes).map_err(|error| Error::Decode(error.into()))
}

pub(super) fn reject_reason(text: &str) -> Result<RejectReason> {
    RejectReason::parse(text)
        .ok_or_else(|| Error::Decode(format!("no reason for a rejection: {text:?}").into()))
}

pub(super) fn sale_state(text: &str) -> Result<SaleState> {
    SaleState::parse(text).ok_or_else(|| Error::Decode(format!("no state of a sale: {text:?}").into()))
}
