//! Paying an order: a saga, because one step of it is at a bank outside.
//!
//! 1. One transaction records the request under its key, takes what is paid from the balance or by coupon, and writes the saga.
//! 2. The bank charges the card under the saga's key.
//! 3. One transaction takes the bank's answer: the order is paid, with its entries and its event; or the bank refused, and everything
//!    is given back.
//!
//! A time-out at the bank is not a failure: the saga stays, and [`look_after`] asks the bank for what became of the key before it
//! charges again under the same key. It never gives up without an answer, because a charge that nobody knows of may still arrive.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use ring::digest;
use seckill_core::money::{self, Payment, Request, Saga, SagaKind, SagaState};
use seckill_core::{
    AbortPoint, Backend, Bank, BankAnswer, Charge, Dependency, Event, EventBody, EventOrder, Fault, LedgerId,
    LifecycleTransaction, OrderId, OrderRecord, OrderStatus, Orders, PaymentAnswer, PaymentRequest, Step,
    abort_point, now,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::change;
use crate::refund;
use crate::saga::body;

/// How long after a payment began somebody else looks after it.
const DUE: Duration = Duration::from_secs(10);
/// The longest time between two looks.
const LONGEST: Duration = Duration::from_secs(60);
/// How often due payments are looked for.
const LOOK: Duration = Duration::from_millis(500);
/// Payments that one look takes.
const LIMIT: u32 = 100;
/// Payments that the bank is asked about at the same time: one that it does not answer does not hold up the others.
const AT_ONCE: usize = 16;

/// What came of the first transaction.
enum Begun {
    /// It is answered.
    Answered(PaymentAnswer),
    /// The bank has to charge this.
    Charge(Charge),
}

/// Pays the order.
///
/// # Errors
/// [`Fault::Unavailable`]: nothing was charged. [`Fault::Unknown`]: it may be under way.
pub(crate) async fn pay(
    backend: &Backend,
    bank: Option<&Arc<dyn Bank>>,
    order: OrderId,
    request: &PaymentRequest,
) -> Result<PaymentAnswer, Fault> {
    let ledger = backend.ledger.id().await?;
    let needs_bank = request.parts.card_cents > 0;
    if needs_bank && bank.is_none() {
        return Err(Fault::unavailable(Dependency::Bank, "no bank is configured; give --bank-url"));
    }
    let begun = change::retried(|| begin(backend, ledger, order, request)).await?;
    abort_point(AbortPoint::PayBegun);
    let (charge, bank) = match (begun, bank) {
        (Begun::Answered(answer), _) => return Ok(answer),
        (Begun::Charge(_), None) => return Ok(PaymentAnswer::Processing),
        (Begun::Charge(charge), Some(bank)) => (charge, bank),
    };
    match bank.charge(&charge).await {
        Ok(answer) => {
            abort_point(AbortPoint::PayCharged);
            change::retried(|| settle(backend, ledger, order, charge.key, &answer)).await
        }
        Err(fault) => {
            tracing::warn!(order_id = %order, error = %fault, "a payment is asked for again later");
            Ok(PaymentAnswer::Processing)
        }
    }
}

async fn begin(
    backend: &Backend,
    ledger: LedgerId,
    id: OrderId,
    request: &PaymentRequest,
) -> Result<Begun, Fault> {
    let mut transaction = backend.lifecycle.begin().await?;
    let (user, key) = (request.user_id, request.key.as_str());
    match transaction.request(user, key, &hash(id, request)).await? {
        Request::New => {}
        Request::Differs => return Ok(Begun::Answered(PaymentAnswer::KeyReused)),
        Request::Repeated(None) => return Ok(Begun::Answered(PaymentAnswer::UnderWay)),
        Request::Repeated(Some(answer)) => return read(&answer).map(Begun::Answered),
    }
    let Some(order) = transaction.lock_orders(&[id], false).await?.pop() else {
        return Ok(Begun::Answered(PaymentAnswer::NoSuchOrder));
    };
    if order.state.status != OrderStatus::Committed {
        let answer = PaymentAnswer::NotPossible { status: order.state.status };
        transaction.answer_request(user, key, &written(&answer)).await?;
        transaction.commit().await?;
        return Ok(Begun::Answered(answer));
    }
    // Dropped from here on, the transaction takes the record of the request with it: a corrected request may use the key.
    if request.parts.total() != Some(order.amount_cents) {
        let amount_cents = order.amount_cents;
        return Ok(Begun::Answered(PaymentAnswer::WrongAmount { amount_cents }));
    }
    let earlier = transaction.saga(SagaKind::Payment, id).await?;
    if earlier.is_some_and(|saga| saga.state == SagaState::Running) {
        return Ok(Begun::Answered(PaymentAnswer::UnderWay));
    }
    if let Some(refusal) = take_parts(&mut *transaction, id, request).await? {
        return Ok(Begun::Answered(refusal));
    }
    let charge = Uuid::now_v7();
    let payment = Payment {
        sale_id: order.sale_id,
        user_id: user,
        request_key: request.key.clone(),
        currency: request.currency.clone(),
        parts: request.parts,
        card: request.card.clone(),
        coupon: request.coupon.clone(),
        charge,
        reason: None,
    };
    transaction.put_saga(&saga(id, SagaState::Running, &payment, Some(DUE), 0)).await?;
    let begun = if request.parts.card_cents > 0 {
        Begun::Charge(charge_of(id, &payment))
    } else {
        let done = take_answer(transaction.as_mut(), ledger, &order, payment, &BankAnswer::Succeeded).await?;
        Begun::Answered(done)
    };
    abort_point(AbortPoint::PayWritten);
    transaction.commit().await?;
    Ok(begun)
}

/// Takes the parts that are not charged by the bank; the answer where one of them is not there.
async fn take_parts(
    transaction: &mut dyn LifecycleTransaction,
    id: OrderId,
    request: &PaymentRequest,
) -> Result<Option<PaymentAnswer>, Fault> {
    let parts = request.parts;
    if parts.coupon_cents > 0 {
        let code = request.coupon.as_deref().unwrap_or_default();
        if transaction.use_coupon(code, id).await? != Some(parts.coupon_cents) {
            return Ok(Some(PaymentAnswer::BadCoupon));
        }
    }
    let taken = i64::try_from(parts.balance_cents).map(|cents| -cents);
    let Ok(taken) = taken else { return Ok(Some(PaymentAnswer::BalanceTooLow)) };
    if taken != 0 && !transaction.change_balance(request.user_id, taken).await? {
        return Ok(Some(PaymentAnswer::BalanceTooLow));
    }
    Ok(None)
}

/// Takes the bank's answer to the charge of this key, once: a payment that is settled already keeps its answer.
async fn settle(
    backend: &Backend,
    ledger: LedgerId,
    id: OrderId,
    charge: Uuid,
    answer: &BankAnswer,
) -> Result<PaymentAnswer, Fault> {
    let mut transaction = backend.lifecycle.begin().await?;
    let Some(order) = transaction.lock_orders(&[id], false).await?.pop() else {
        return Ok(PaymentAnswer::NoSuchOrder);
    };
    let saga = transaction.saga(SagaKind::Payment, id).await?;
    let Some(saga) = saga else { return Ok(PaymentAnswer::NotPossible { status: order.state.status }) };
    let payment: Payment = body(&saga)?;
    if saga.state != SagaState::Running || payment.charge != charge {
        return Ok(settled(&saga, &payment, &order));
    }
    let answer = take_answer(transaction.as_mut(), ledger, &order, payment, answer).await?;
    abort_point(AbortPoint::PaySettling);
    transaction.commit().await?;
    abort_point(AbortPoint::PaySettled);
    Ok(answer)
}

/// What a payment that has ended is answered with.
fn settled(saga: &Saga, payment: &Payment, order: &OrderRecord) -> PaymentAnswer {
    match saga.state {
        SagaState::Succeeded if order.cancelled.is_some() => {
            PaymentAnswer::TooLate { payment_id: payment.charge }
        }
        SagaState::Succeeded => PaymentAnswer::Paid { payment_id: payment.charge },
        SagaState::Failed => PaymentAnswer::Declined { reason: payment.reason.clone().unwrap_or_default() },
        SagaState::Running | SagaState::Held => PaymentAnswer::UnderWay,
    }
}

/// Writes what the bank's answer means: for the order, the money, the events, and the one who asked.
async fn take_answer(
    transaction: &mut dyn LifecycleTransaction,
    ledger: LedgerId,
    order: &OrderRecord,
    mut payment: Payment,
    answer: &BankAnswer,
) -> Result<PaymentAnswer, Fault> {
    let (id, user) = (order.claim.order_id, payment.user_id);
    let answer = match answer {
        BankAnswer::Succeeded => {
            let later = order.after(Step::Pay, None).ok_or_else(|| {
                let status = order.state.status.as_str();
                Fault::corrupt(
                    Dependency::Ledger,
                    format!("order {id} is {status} and its payment is running"),
                )
            })?;
            transaction.move_orders(std::slice::from_ref(order), std::slice::from_ref(&later)).await?;
            let lines = money::entries(payment.charge, id, payment.sale_id, user, payment.parts.ways(), 1);
            transaction.add_entries(&lines).await?;
            transaction.put_saga(&saga(id, SagaState::Succeeded, &payment, None, 0)).await?;
            let payment_id = payment.charge;
            if later.state.status == OrderStatus::Paid {
                let orders = vec![EventOrder::from(&later)];
                let paid = EventBody::OrderPaid(Orders { sale_id: later.sale_id, reason: None, orders });
                transaction.add_event(&Event::new(ledger, paid)).await?;
                PaymentAnswer::Paid { payment_id }
            } else {
                refund::begin(transaction, ledger, &later, &payment, refund::TOO_LATE).await?;
                PaymentAnswer::TooLate { payment_id }
            }
        }
        BankAnswer::Declined { reason } => {
            let balance = i64::try_from(payment.parts.balance_cents).unwrap_or(i64::MAX);
            if balance != 0 {
                transaction.change_balance(user, balance).await?;
            }
            if let Some(code) = &payment.coupon {
                transaction.free_coupon(code, id).await?;
            }
            payment.reason = Some(reason.clone());
            transaction.put_saga(&saga(id, SagaState::Failed, &payment, None, 0)).await?;
            PaymentAnswer::Declined { reason: reason.clone() }
        }
    };
    transaction.answer_request(user, &payment.request_key, &written(&answer)).await?;
    let outcome = match &answer {
        PaymentAnswer::Paid { .. } => "paid",
        PaymentAnswer::TooLate { .. } => "too-late",
        _ => "declined",
    };
    metrics::counter!("seckill_payments_total", "outcome" => outcome).increment(1);
    Ok(answer)
}

/// Looks after payments that nobody has heard of for a while, until `shutdown`, through every fault.
pub async fn look_after(backend: Backend, bank: Arc<dyn Bank>, shutdown: CancellationToken) {
    let looking = async {
        loop {
            match backend.lifecycle.due_sagas(SagaKind::Payment, LIMIT).await {
                Ok(due) => {
                    let looks = due.into_iter().map(|order| {
                        let (backend, bank) = (&backend, &bank);
                        async move {
                            if let Err(fault) = look_up(backend, bank, order).await {
                                tracing::warn!(order_id = %order, error = %fault, "a payment stays open");
                            }
                        }
                    });
                    stream::iter(looks).for_each_concurrent(AT_ONCE, |look| look).await;
                }
                Err(fault) => tracing::debug!(error = %fault, "payments cannot be looked after"),
            }
            sleep(LOOK).await;
        }
    };
    let _: Option<std::convert::Infallible> = shutdown.run_until_cancelled(looking).await;
}

/// Asks the bank what became of an order's payment, charges again under the same key where it knows nothing, and settles it.
pub(crate) async fn look_up(backend: &Backend, bank: &Arc<dyn Bank>, order: OrderId) -> Result<(), Fault> {
    let ledger = backend.ledger.id().await?;
    let Some(charge) = change::retried(|| put_off(backend, order)).await? else { return Ok(()) };
    let answer = match bank.charge_state(charge.key).await? {
        Some(answer) => answer,
        None => bank.charge(&charge).await?,
    };
    change::retried(|| settle(backend, ledger, order, charge.key, &answer)).await.map(drop)
}

/// Makes a running payment due again later, so that two who look do not ask the bank at once; its charge.
async fn put_off(backend: &Backend, order: OrderId) -> Result<Option<Charge>, Fault> {
    let mut transaction = backend.lifecycle.begin().await?;
    transaction.lock_orders(&[order], false).await?;
    let saga = transaction.saga(SagaKind::Payment, order).await?;
    let Some(saga) = saga.filter(|saga| saga.state == SagaState::Running) else { return Ok(None) };
    let payment: Payment = body(&saga)?;
    let attempts = saga.attempts + 1;
    let pause = DUE.saturating_mul(1 << attempts.min(8)).min(LONGEST);
    transaction.put_saga(&self::saga(order, SagaState::Running, &payment, Some(pause), attempts)).await?;
    transaction.commit().await?;
    Ok((payment.parts.card_cents > 0).then(|| charge_of(order, &payment)))
}

fn charge_of(order_id: OrderId, payment: &Payment) -> Charge {
    Charge {
        key: payment.charge,
        order_id,
        amount_cents: payment.parts.card_cents,
        currency: payment.currency.clone(),
        card: payment.card.clone().unwrap_or_default(),
    }
}

fn saga(
    order_id: OrderId,
    state: SagaState,
    payment: &Payment,
    due_in: Option<Duration>,
    attempts: u32,
) -> Saga {
    let due_at = due_in.and_then(|due| now().checked_add_signed(chrono::Duration::from_std(due).ok()?));
    let body = serde_json::to_string(payment).expect("a payment is plain JSON");
    Saga { kind: SagaKind::Payment, order_id, state, due_at, attempts, body }
}

/// Stands for all that the request asks for.
fn hash(order: OrderId, request: &PaymentRequest) -> [u8; 32] {
    let text = serde_json::to_vec(&(order, request)).expect("a request is plain JSON");
    let digest = digest::digest(&digest::SHA256, &text);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn written(answer: &PaymentAnswer) -> String {
    serde_json::to_string(answer).expect("an answer is plain JSON")
}

fn read(text: &str) -> Result<PaymentAnswer, Fault> {
    serde_json::from_str(text)
        .map_err(|error| Fault::corrupt(Dependency::Ledger, format!("the answer to a request: {error}")))
}
