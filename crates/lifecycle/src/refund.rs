//! Giving an order's money back: a chain of steps, each a transaction and an event, so that any process can go on with it after a
//! crash.
//!
//! `refund.requested` → risk control → `refund.approved` → one transfer for each way in which the order was paid, in parallel →
//! `refund.transferred` each → when all are there, `refund.succeeded`. Risk control may hold a refund for a human instead. Who calls
//! these steps for which event is not known here.

use std::sync::Arc;

use futures_util::future::try_join_all;
use seckill_core::money::{self, MoneyBack, Payment, Saga, SagaKind, SagaState, Transfer, Way};
use seckill_core::{
    AbortPoint, Backend, Bank, BankAnswer, Changed, Dependency, Event, EventBody, EventOrder, Fault,
    GiveBack, LedgerId, LifecycleTransaction, OrderId, OrderRecord, OrderStatus, Refund, Step, abort_point,
    now,
};
use uuid::Uuid;

use crate::change;
use crate::saga::body;

/// The reason of a refund that nobody asked for.
pub(crate) const TOO_LATE: &str = "the money came after the order had been cancelled";

/// Which refunds a human has to decide about.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Refunds of more than this, in hundredths, are held.
    pub hold_above_cents: u64,
}

impl Default for Rules {
    /// 1,000.00 of whatever currency.
    fn default() -> Self {
        Self { hold_above_cents: 100_000 }
    }
}

/// Writes a refund's first step into the transaction that has moved `order` to `refunding`.
pub(crate) async fn begin(
    transaction: &mut dyn LifecycleTransaction,
    ledger: LedgerId,
    order: &OrderRecord,
    payment: &Payment,
    reason: &str,
) -> Result<(), Fault> {
    let transfer = |(way, cents)| Transfer {
        way,
        key: Uuid::now_v7(),
        cents,
        coupon: payment.coupon.clone().filter(|_| way == Way::Coupon),
        done: false,
    };
    let back = MoneyBack {
        sale_id: order.sale_id,
        user_id: payment.user_id,
        reason: reason.to_owned(),
        returns_units: order.state.active,
        approved: false,
        decision: None,
        charge: payment.charge,
        transfers: payment.parts.ways().map(transfer).collect(),
    };
    transaction.put_saga(&saga(order.claim.order_id, SagaState::Running, &back)).await?;
    let told = EventBody::RefundRequested(told(order, &back, None));
    transaction.add_event(&Event::new(ledger, told)).await
}

/// A buyer wants the money back.
pub(crate) async fn request(backend: &Backend, id: OrderId, reason: &str) -> Result<Changed, Fault> {
    let ledger = backend.ledger.id().await?;
    change::retried(|| async move {
        let mut transaction = backend.lifecycle.begin().await?;
        let Some(order) = transaction.lock_orders(&[id], false).await?.pop() else {
            return Ok(Changed::NoSuchOrder);
        };
        let asked = matches!(
            order.state.status,
            OrderStatus::Refunding | OrderStatus::RefundHeld | OrderStatus::Refunded
        );
        if asked {
            return Ok(Changed::Done);
        }
        let payment = transaction.saga(SagaKind::Payment, id).await?;
        let (Some(later), Some(payment)) = (order.after(Step::RequestRefund, None), payment) else {
            return Ok(Changed::NotPossible(order.state.status));
        };
        let payment: Payment = body(&payment)?;
        transaction.move_orders(&[order], std::slice::from_ref(&later)).await?;
        begin(transaction.as_mut(), ledger, &later, &payment, reason).await?;
        abort_point(AbortPoint::RefundWritten);
        transaction.commit().await?;
        Ok(Changed::Done)
    })
    .await
}

/// Risk control, for the event `refund.requested` of this id: lets the refund go on, or holds it for a human; false: `consumer` has
/// taken the event in before.
///
/// # Errors
/// A part of the system is away; calling it again is safe. The same holds for the next two.
pub async fn assess(
    backend: &Backend,
    rules: Rules,
    consumer: &str,
    event: Uuid,
    id: OrderId,
) -> Result<bool, Fault> {
    let ledger = backend.ledger.id().await?;
    change::retried(|| async move {
        let mut transaction = backend.lifecycle.begin().await?;
        if !transaction.first_time(consumer, event).await? {
            return Ok(false);
        }
        let Some((order, mut back)) = running(transaction.as_mut(), id).await? else { return Ok(true) };
        // Money that came too late was never ours to keep.
        let hold = back.returns_units && order.amount_cents > rules.hold_above_cents;
        let told_of = if hold {
            let later = order.after(Step::HoldRefund, None).ok_or_else(|| stuck(&order))?;
            transaction.move_orders(&[order], std::slice::from_ref(&later)).await?;
            transaction.put_saga(&saga(id, SagaState::Held, &back)).await?;
            EventBody::RefundHeld(told(&later, &back, None))
        } else {
            back.approved = true;
            transaction.put_saga(&saga(id, SagaState::Running, &back)).await?;
            EventBody::RefundApproved(told(&order, &back, None))
        };
        transaction.add_event(&Event::new(ledger, told_of)).await?;
        abort_point(AbortPoint::RefundAssessed);
        transaction.commit().await?;
        Ok(true)
    })
    .await
}

/// A human's decision about a refund that is held.
pub(crate) async fn decide(
    backend: &Backend,
    id: OrderId,
    approve: bool,
    decision: &str,
) -> Result<Changed, Fault> {
    let ledger = backend.ledger.id().await?;
    change::retried(|| async move {
        let mut transaction = backend.lifecycle.begin().await?;
        let Some(order) = transaction.lock_orders(&[id], false).await?.pop() else {
            return Ok(Changed::NoSuchOrder);
        };
        let saga = transaction.saga(SagaKind::Refund, id).await?;
        let step = if approve { Step::ApproveRefund } else { Step::DenyRefund };
        let later = order.after(step, None);
        let (Some(saga), Some(later)) = (saga, later) else {
            return Ok(Changed::NotPossible(order.state.status));
        };
        let mut back: MoneyBack = body(&saga)?;
        back.decision = Some(decision.to_owned());
        back.approved = approve;
        let state = if approve { SagaState::Running } else { SagaState::Failed };
        transaction.move_orders(&[order], std::slice::from_ref(&later)).await?;
        transaction.put_saga(&self::saga(id, state, &back)).await?;
        let refund = told(&later, &back, None);
        let told_of =
            if approve { EventBody::RefundApproved(refund) } else { EventBody::RefundDenied(refund) };
        transaction.add_event(&Event::new(ledger, told_of)).await?;
        transaction.commit().await?;
        if !approve {
            metrics::counter!("seckill_refunds_denied_total").increment(1);
        }
        Ok(Changed::Done)
    })
    .await
}

/// The transfers, for the event `refund.approved`: all that are not there yet, side by side; false: all were there before.
///
/// # Errors
/// As [`assess`]. After a time-out the bank is asked what became of a transfer before it is asked for it again.
pub async fn transfer(backend: &Backend, bank: Option<&Arc<dyn Bank>>, id: OrderId) -> Result<bool, Fault> {
    let ledger = backend.ledger.id().await?;
    let saga = backend.lifecycle.find_saga(SagaKind::Refund, id).await?;
    let Some(saga) = saga.filter(|saga| saga.state == SagaState::Running) else { return Ok(false) };
    let back: MoneyBack = body(&saga)?;
    if !back.approved {
        return Ok(false);
    }
    let open: Vec<&Transfer> = back.transfers.iter().filter(|transfer| !transfer.done).collect();
    let any = !open.is_empty();
    let charge = back.charge;
    try_join_all(open.into_iter().map(|transfer| async move {
        if transfer.way == Way::Card {
            match give_back(bank, charge, transfer).await? {
                BankAnswer::Succeeded => {}
                BankAnswer::Declined { reason } => return hold_declined(backend, ledger, id, &reason).await,
            }
        }
        abort_point(AbortPoint::RefundGivenBack);
        change::retried(|| record(backend, ledger, id, transfer.key)).await
    }))
    .await?;
    Ok(any)
}

/// Has the bank give a part back. It may have been asked before, so it is asked what it knows first.
async fn give_back(
    bank: Option<&Arc<dyn Bank>>,
    charge: Uuid,
    transfer: &Transfer,
) -> Result<BankAnswer, Fault> {
    let bank =
        bank.ok_or_else(|| Fault::unavailable(Dependency::Bank, "no bank is configured; give --bank-url"))?;
    match bank.give_back_state(transfer.key).await? {
        Some(answer) => Ok(answer),
        None => bank.give_back(&GiveBack { key: transfer.key, charge, amount_cents: transfer.cents }).await,
    }
}

/// Records that a transfer is there, once: with its entries, what it puts into the balance, and its event.
async fn record(backend: &Backend, ledger: LedgerId, id: OrderId, key: Uuid) -> Result<(), Fault> {
    let mut transaction = backend.lifecycle.begin().await?;
    let Some((order, mut back)) = running(transaction.as_mut(), id).await? else { return Ok(()) };
    let (sale, user) = (back.sale_id, back.user_id);
    let transfer = back.transfers.iter_mut().find(|transfer| transfer.key == key && !transfer.done);
    let Some(transfer) = transfer else { return Ok(()) };
    transfer.done = true;
    let transfer = transfer.clone();
    match transfer.way {
        Way::Card => {}
        Way::Balance => {
            let cents = i64::try_from(transfer.cents).unwrap_or(i64::MAX);
            transaction.change_balance(user, cents).await?;
        }
        Way::Coupon => {
            if let Some(code) = &transfer.coupon {
                transaction.free_coupon(code, id).await?;
            }
        }
    }
    let ways = [(transfer.way, transfer.cents)].into_iter();
    transaction.add_entries(&money::entries(key, id, sale, user, ways, -1)).await?;
    transaction.put_saga(&saga(id, SagaState::Running, &back)).await?;
    let told = EventBody::RefundTransferred(told(&order, &back, Some(&transfer)));
    transaction.add_event(&Event::new(ledger, told)).await?;
    abort_point(AbortPoint::RefundRecorded);
    transaction.commit().await
}

/// The bank will not give the money back: a human has to find out why.
async fn hold_declined(backend: &Backend, ledger: LedgerId, id: OrderId, reason: &str) -> Result<(), Fault> {
    change::retried(|| async move {
        let mut transaction = backend.lifecycle.begin().await?;
        let Some((order, mut back)) = running(transaction.as_mut(), id).await? else { return Ok(()) };
        let later = order.after(Step::HoldRefund, None).ok_or_else(|| stuck(&order))?;
        back.approved = false;
        back.decision = Some(format!("the bank refused: {reason}"));
        transaction.move_orders(&[order], std::slice::from_ref(&later)).await?;
        transaction.put_saga(&saga(id, SagaState::Held, &back)).await?;
        let told = EventBody::RefundHeld(told(&later, &back, None));
        transaction.add_event(&Event::new(ledger, told)).await?;
        transaction.commit().await
    })
    .await
}

/// The end, for the event `refund.transferred` of this id: once all transfers are there, the order is refunded; false: `consumer` has
/// taken the event in before.
///
/// # Errors
/// As [`assess`].
pub async fn finish(backend: &Backend, consumer: &str, event: Uuid, id: OrderId) -> Result<bool, Fault> {
    let ledger = backend.ledger.id().await?;
    change::retried(|| async move {
        let mut transaction = backend.lifecycle.begin().await?;
        if !transaction.first_time(consumer, event).await? {
            return Ok(false);
        }
        let found = running(transaction.as_mut(), id).await?;
        if let Some((order, back)) =
            found.filter(|(_, back)| back.transfers.iter().all(|transfer| transfer.done))
        {
            let later = order.after(Step::FinishRefund, None).ok_or_else(|| stuck(&order))?;
            let ends = order.ends_with(&later);
            transaction.move_orders(&[order], std::slice::from_ref(&later)).await?;
            transaction.put_saga(&saga(id, SagaState::Succeeded, &back)).await?;
            let refund = Refund { returns_units: ends, ..told(&later, &back, None) };
            transaction.add_event(&Event::new(ledger, EventBody::RefundSucceeded(refund))).await?;
            metrics::counter!("seckill_refunds_total").increment(1);
        }
        abort_point(AbortPoint::RefundFinished);
        transaction.commit().await?;
        Ok(true)
    })
    .await
}

/// The order and its refund, where that is running; both are locked.
async fn running(
    transaction: &mut dyn LifecycleTransaction,
    id: OrderId,
) -> Result<Option<(OrderRecord, MoneyBack)>, Fault> {
    let Some(order) = transaction.lock_orders(&[id], false).await?.pop() else { return Ok(None) };
    let saga = transaction.saga(SagaKind::Refund, id).await?;
    match saga.filter(|saga| saga.state == SagaState::Running) {
        Some(saga) => Ok(Some((order, body(&saga)?))),
        None => Ok(None),
    }
}

fn saga(order_id: OrderId, state: SagaState, back: &MoneyBack) -> Saga {
    let body = serde_json::to_string(back).expect("a refund is plain JSON");
    // Its events carry it on, so nobody has to look after it by the clock; but a human has to, where it is held.
    let due_at = (state == SagaState::Held).then(now);
    Saga { kind: SagaKind::Refund, order_id, state, due_at, attempts: 0, body }
}

/// What the events say of a refund. One that is about a transfer says the transfer's amount.
fn told(order: &OrderRecord, back: &MoneyBack, transfer: Option<&Transfer>) -> Refund {
    let mut told = EventOrder::from(order);
    if let Some(transfer) = transfer {
        told.amount_cents = transfer.cents;
    }
    Refund {
        sale_id: order.sale_id,
        order: told,
        returns_units: false,
        reason: Some(back.decision.clone().unwrap_or_else(|| back.reason.clone())),
        way: transfer.map(|transfer| transfer.way.as_str().to_owned()),
    }
}

fn stuck(order: &OrderRecord) -> Fault {
    let (id, status) = (order.claim.order_id, order.state.status.as_str());
    Fault::corrupt(Dependency::Ledger, format!("order {id} is {status} and its refund is running"))
}
