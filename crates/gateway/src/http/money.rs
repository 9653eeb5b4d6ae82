//! Paying an order and giving its money back: what buyers ask for, what operators decide, and the bank's news.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use seckill_api::{
    BalanceView, Coupon, Gift, PaymentBody, PaymentStatus, PaymentView, RefundBody, RefundList, RefundView,
    Timeline, TimelineStep,
};
use seckill_core::money::{Parts, Saga, SagaKind, SagaState};
use seckill_core::{
    Changed, FieldError, Notice, OrderId, OrderStatus, PaymentAnswer, PaymentRequest, UserId,
};
use serde::Deserialize;

use super::auth::{Admin, Buyer, Operate, Viewer};
use super::body::{self, OrDefault};
use super::problem::Refusal;
use super::{App, Id, idempotency, status};

/// Characters of a reason.
const REASON: usize = 200;
/// Refunds that one list shows.
const LIMIT: u32 = 1_000;

/// `POST /api/v1/orders/{id}/payment`
pub(super) async fn pay(
    State(app): State<Arc<App>>,
    Id(id): Id<OrderId>,
    Buyer(user): Buyer,
    headers: HeaderMap,
    body::Json(body): body::Json<PaymentBody>,
) -> Result<Response, Refusal> {
    app.order_limit.check(user)?;
    let key = idempotency::needed(&headers)?;
    let order = status::find_now(&app, id, user).await?;
    let sale = app.directory.desk(order.sale_id).await?.ok_or(Refusal::NoSuchSale(order.sale_id))?;
    if sale.sale.payment_window_ms.is_none() {
        return Err(Refusal::NoPayments(order.sale_id));
    }
    let amount = order.amount_cents.filter(|_| order.status != OrderStatus::Queued);
    let Some(amount) = amount else {
        return Err(Refusal::OrderState { order_id: id, status: order.status });
    };
    let request = request(body, user, key, &sale.sale.currency, amount)?;
    let answer = app.orders.pay(id, &request).await.map_err(|fault| unknown_or(fault, id))?;
    let view = |status, payment_id| Json(PaymentView { order_id: id, status, payment_id });
    match answer {
        PaymentAnswer::Paid { payment_id } => Ok(view(PaymentStatus::Paid, Some(payment_id)).into_response()),
        PaymentAnswer::Processing => {
            let wait = [(header::RETRY_AFTER, HeaderValue::from(2))];
            Ok((StatusCode::ACCEPTED, wait, view(PaymentStatus::Processing, None)).into_response())
        }
        PaymentAnswer::Declined { reason } => Err(Refusal::PaymentDeclined { order_id: id, reason }),
        PaymentAnswer::TooLate { .. } => Err(Refusal::PaidTooLate(id)),
        PaymentAnswer::NotPossible { status } => Err(Refusal::OrderState { order_id: id, status }),
        PaymentAnswer::WrongAmount { amount_cents } => {
            let wrong = format!("and the other parts must add up to {amount_cents}, the order's amount");
            Err(Refusal::Invalid(vec![FieldError::new("card_cents", wrong)]))
        }
        PaymentAnswer::BalanceTooLow => Err(Refusal::BalanceTooLow(id)),
        PaymentAnswer::BadCoupon => Err(Refusal::BadCoupon(id)),
        PaymentAnswer::UnderWay => Err(Refusal::PaymentUnderWay(id)),
        PaymentAnswer::KeyReused => Err(Refusal::KeyReused),
        PaymentAnswer::NoSuchOrder => Err(Refusal::NoSuchOrder(id)),
    }
}

fn request(
    body: PaymentBody,
    user_id: UserId,
    key: String,
    currency: &str,
    amount: u64,
) -> Result<PaymentRequest, Refusal> {
    let mut wrong = Vec::new();
    let others = body.balance_cents.saturating_add(body.coupon_cents);
    let rest = amount.saturating_sub(others);
    let card_cents = body.card_cents.unwrap_or(if body.card.is_some() { rest } else { 0 });
    if (card_cents > 0) != body.card.is_some() {
        wrong.push(FieldError::new("card", "and card_cents are given together, or neither of them"));
    }
    if (body.coupon_cents > 0) != body.coupon.is_some() {
        wrong.push(FieldError::new("coupon", "and coupon_cents are given together, or neither of them"));
    }
    for (field, text) in [("card", &body.card), ("coupon", &body.coupon)] {
        if text.as_ref().is_some_and(|text| !is_plain(text, 64)) {
            wrong.push(FieldError::new(field, "has 1 to 64 visible ASCII characters"));
        }
    }
    if card_cents.checked_add(others) != Some(amount) {
        let sum = format!("and the other parts must add up to {amount}, the order's amount");
        wrong.push(FieldError::new("card_cents", sum));
    }
    if !wrong.is_empty() {
        return Err(Refusal::Invalid(wrong));
    }
    let parts = Parts { card_cents, balance_cents: body.balance_cents, coupon_cents: body.coupon_cents };
    let currency = currency.to_owned();
    Ok(PaymentRequest { user_id, key, parts, currency, card: body.card, coupon: body.coupon })
}

fn is_plain(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn unknown_or(fault: seckill_core::Fault, order: OrderId) -> Refusal {
    if fault.may_have_happened() {
        tracing::warn!(error = %fault, "nobody knows whether an order was changed");
        Refusal::ChangeUnknown(order)
    } else {
        fault.into()
    }
}

/// Why a buyer wants the money back, or an operator decides so; where nothing is said, `default`.
fn reason(body: RefundBody, default: &str) -> Result<String, Refusal> {
    let chars = body.reason.chars().count();
    if chars > REASON {
        let message = format!("has {chars} characters; allowed are {REASON} at the most");
        return Err(Refusal::Invalid(vec![FieldError::new("reason", message)]));
    }
    Ok(if body.reason.trim().is_empty() { default.to_owned() } else { body.reason })
}

/// `POST /api/v1/orders/{id}/refund`: 202 and the order, whose status shows how far the refund is.
pub(super) async fn request_refund(
    State(app): State<Arc<App>>,
    Id(id): Id<OrderId>,
    Buyer(user): Buyer,
    OrDefault(body): OrDefault<RefundBody>,
) -> Result<impl IntoResponse, Refusal> {
    app.order_limit.check(user)?;
    let reason = reason(body, "the buyer wants the money back")?;
    status::find_now(&app, id, user).await?;
    let changed = app.orders.request_refund(id, &reason).await.map_err(|fault| unknown_or(fault, id))?;
    done(changed, id)?;
    Ok((StatusCode::ACCEPTED, Json(status::find_now(&app, id, user).await?)))
}

fn done(changed: Changed, order_id: OrderId) -> Result<(), Refusal> {
    match changed {
        Changed::Done => Ok(()),
        Changed::NotPossible(status) => Err(Refusal::OrderState { order_id, status }),
        Changed::NoSuchOrder => Err(Refusal::NoSuchOrder(order_id)),
    }
}

/// Which refunds to list.
#[derive(Deserialize)]
pub(super) struct Which {
    #[serde(default = "held")]
    state: SagaState,
}

fn held() -> SagaState {
    SagaState::Held
}

/// `GET /api/v1/refunds?state=held|running|succeeded|failed`: by order id, 1,000 at the most.
pub(super) async fn refunds(
    State(app): State<Arc<App>>,
    _admin: Admin<Operate>,
    which: Result<Query<Which>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<RefundList>, Refusal> {
    let allowed = "is none of these: held, running, succeeded, failed";
    let Query(which) = which.map_err(|_| Refusal::Invalid(vec![FieldError::new("state", allowed)]))?;
    let sagas = app.backend.lifecycle.sagas(SagaKind::Refund, which.state, LIMIT).await?;
    let view = |saga: Saga| {
        let refund = serde_json::from_str(&saga.body).ok()?;
        Some(RefundView { order_id: saga.order_id, state: saga.state, refund })
    };
    Ok(Json(RefundList { refunds: sagas.into_iter().filter_map(view).collect() }))
}

/// `POST /api/v1/refunds/{order}/approve`: lets a refund go on that is held.
pub(super) async fn approve(
    State(app): State<Arc<App>>,
    Id(id): Id<OrderId>,
    _admin: Admin<Operate>,
    OrDefault(body): OrDefault<RefundBody>,
) -> Result<StatusCode, Refusal> {
    decide(&app, id, true, &reason(body, "approved by an operator")?).await
}

/// `POST /api/v1/refunds/{order}/deny`: refuses a refund that is held; the order stays paid.
pub(super) async fn deny(
    State(app): State<Arc<App>>,
    Id(id): Id<OrderId>,
    _admin: Admin<Operate>,
    OrDefault(body): OrDefault<RefundBody>,
) -> Result<StatusCode, Refusal> {
    decide(&app, id, false, &reason(body, "denied by an operator")?).await
}

async fn decide(app: &App, id: OrderId, approve: bool, reason: &str) -> Result<StatusCode, Refusal> {
    let changed = app.orders.decide_refund(id, approve, reason).await;
    done(changed.map_err(|fault| unknown_or(fault, id))?, id)?;
    Ok(StatusCode::NO_CONTENT)
}

/// The largest amount that is given at once, in hundredths.
const LARGEST: u64 = 100_000_000_000;

fn gift(cents: u64) -> Result<i64, Refusal> {
    let allowed = i64::try_from(cents).ok().filter(|_| (1..=LARGEST).contains(&cents));
    allowed.ok_or_else(|| {
        let message = format!("is {cents}; allowed are 1 to {LARGEST}");
        Refusal::Invalid(vec![FieldError::new("cents", message)])
    })
}

/// `POST /api/v1/users/{id}/balance`: adds to what a user has with us.
pub(super) async fn add_balance(
    State(app): State<Arc<App>>,
    Id(user): Id<UserId>,
    _admin: Admin<Operate>,
    body::Json(Gift { cents }): body::Json<Gift>,
) -> Result<Json<BalanceView>, Refusal> {
    let cents = gift(cents)?;
    let mut transaction = app.backend.lifecycle.begin().await?;
    transaction.change_balance(user, cents).await?;
    transaction.commit().await?;
    Ok(Json(BalanceView { user_id: user, balance_cents: app.backend.lifecycle.balance(user).await? }))
}

/// `POST /api/v1/coupons`
pub(super) async fn add_coupon(
    State(app): State<Arc<App>>,
    _admin: Admin<Operate>,
    body::Json(coupon): body::Json<Coupon>,
) -> Result<impl IntoResponse, Refusal> {
    gift(coupon.cents)?;
    if !is_plain(&coupon.code, 64) {
        let allowed = "has 1 to 64 visible ASCII characters";
        return Err(Refusal::Invalid(vec![FieldError::new("code", allowed)]));
    }
    let mut transaction = app.backend.lifecycle.begin().await?;
    if !transaction.add_coupon(&coupon.code, coupon.cents).await? {
        return Err(Refusal::Invalid(vec![FieldError::new("code", "is that of another coupon")]));
    }
    transaction.commit().await?;
    Ok((StatusCode::CREATED, Json(coupon)))
}

/// `GET /api/v1/orders/{id}/timeline`: for its buyer, and for operators.
pub(super) async fn timeline(
    State(app): State<Arc<App>>,
    Id(id): Id<OrderId>,
    viewer: Viewer,
) -> Result<Json<Timeline>, Refusal> {
    let order = match viewer {
        Viewer::Buyer(user) => {
            app.read_limit.check(user)?;
            status::find(&app, id, user).await?
        }
        Viewer::Admin => {
            status::recorded(&app.backend.ledger.order(id).await?.ok_or(Refusal::NoSuchOrder(id))?)
        }
    };
    let step = |at, what: &str| TimelineStep { at, since_previous_ms: None, what: what.to_owned() };
    let mut steps = vec![step(order.accepted_at, "order.accepted")];
    if let Some(at) = order.recorded_at {
        let rejected = order.status == OrderStatus::Rejected;
        steps.push(step(at, if rejected { "order.rejected" } else { "order.committed" }));
    }
    // Before these states nothing has been written, and a crowd that watches its orders costs the ledger nothing.
    let early = [OrderStatus::Queued, OrderStatus::Committed, OrderStatus::Rejected];
    if !early.contains(&order.status) {
        if matches!(viewer, Viewer::Buyer(_)) {
            app.statuses.ledger_turn().await?;
        }
        // As the subscriber `notifications` has written them: a moment later than they happened.
        let notices = app.backend.lifecycle.notices(id).await?;
        steps.extend(notices.iter().map(|Notice { at, kind, .. }| step(*at, kind)));
    }
    steps.sort_by_key(|step| step.at);
    let before: Vec<_> = steps.iter().map(|step| step.at).collect();
    for (step, before) in steps.iter_mut().skip(1).zip(before) {
        step.since_previous_ms = Some((step.at - before).num_milliseconds());
    }
    Ok(Json(Timeline { order_id: id, status: order.status, steps }))
}
