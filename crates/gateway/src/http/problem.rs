//! Every refusal a client can meet, and the one place where it becomes an HTTP status, headers and a body (RFC 9457).

mod admission;
mod examples;
mod sold_out;

use std::sync::Arc;

use axum::Json;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use problem_details::ProblemDetails;
use seckill_core::{Dependency, Fault, FieldError, OrderId, OrderStatus, SaleId, Timestamp};
use seckill_token::admin::Scope;
use serde::Serialize;
use uuid::Uuid;

pub(crate) use seckill_api::problem::*;

pub(crate) use self::admission::NotAdmitted;
pub(super) use self::examples::example;
use super::patience::Wait;

/// Why a request is refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    Malformed(String),
    Unauthenticated {
        detail: String,
        token_was_given: bool,
    },
    NoSuchSale(SaleId),
    NoSuchOrder(OrderId),
    NoSuchMessage(String),
    NoGate(SaleId),
    NoSuchPath(Uri),
    MethodNotAllowed,
    BodyTooSlow,
    TooLarge,
    MediaType(String),
    Invalid(Vec<FieldError>),
    RateLimited {
        seconds: u64,
    },
    NotOpen {
        starts_at: Timestamp,
    },
    Closed {
        ends_at: Timestamp,
    },
    SoldOut {
        remaining: u32,
    },
    OrderDiffers {
        order_id: OrderId,
        quantity: u32,
    },
    OrderState {
        order_id: OrderId,
        status: OrderStatus,
    },
    NoPayments(SaleId),
    ChangeUnknown(OrderId),
    PaymentDeclined {
        order_id: OrderId,
        reason: String,
    },
    PaidTooLate(OrderId),
    BalanceTooLow(OrderId),
    BadCoupon(OrderId),
    PaymentUnderWay(OrderId),
    KeyReused,
    NoSuchEvent(Uuid),
    NoSuchSubscriber(String),
    Overloaded,
    Unavailable(String),
    MissingScope {
        /// The name of the token.
        admin: Arc<str>,
        scope: Scope,
    },
    /// The gate has lost the sale; the whole seconds after which to come back.
    Rebuilding {
        seconds: u64,
    },
    OutcomeUnknown(OrderId),
    Paused,
    /// A sale may have been created, under an idempotency key or without one.
    SaleUnknown {
        has_key: bool,
    },
    SaleChangeUnknown(SaleId),
    SaleClosedOut(SaleId),
    RequestUnderWay,
    /// More of this kind of work is under way than the gateway does at once.
    TooBusy(&'static str),
    /// The address, not the user, sends too fast.
    PeerLimited {
        seconds: u64,
    },
    /// One token has too many requests or event streams under way.
    TooManyAtOnce(&'static str),
    /// More orders are asked for than the ledger may be asked.
    TooManyReads,
    /// Of tickets, proof of work and the waiting room.
    Admission(NotAdmitted),
}

/// A fault's own words name servers, for operators. They go to the log; clients get the part of the system that is away.
impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        tracing::warn!(error = %fault, "a request was refused");
        match fault {
            Fault::Lost { .. } => Self::Rebuilding { seconds: REBUILD_SECONDS },
            Fault::Unavailable { dependency, .. }
            | Fault::Misconfigured { dependency, .. }
            | Fault::Unknown { dependency, .. }
            | Fault::Corrupt { dependency, .. } => Self::away(dependency),
        }
    }
}

/// What a rebuild takes at the least: the time within which an order of the old gate may still be confirmed, and some more.
pub(crate) const REBUILD_SECONDS: u64 = 15;

/// When buyers of a paused sale look again: nobody knows when an operator resumes it.
const PAUSE_SECONDS: u64 = 5;

/// The members of the body beside those of RFC 9457.
#[derive(Debug, Default, Serialize)]
struct Members {
    /// For those who look for the request in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<OrderId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    starts_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

impl Refusal {
    /// A part of the system does not work.
    pub(crate) fn away(dependency: Dependency) -> Self {
        let what = match dependency {
            Dependency::Gate => "the gate, which keeps the stock, cannot be used",
            Dependency::Queue => "the queue takes no orders at the moment",
            Dependency::Ledger => "the database cannot be used",
            Dependency::Bank => "the bank does not answer",
            Dependency::Events => "the event bus cannot be used",
            Dependency::ControlPlane => "the control plane cannot be used",
            Dependency::WaitingRooms => "the waiting room cannot be used",
            Dependency::CapacityLeases => "the budget of the drain rate cannot be used",
        };
        Self::Unavailable(what.to_owned())
    }

    fn kind(&self) -> &'static Kind {
        match self {
            Self::Malformed(_) => &MALFORMED,
            Self::Unauthenticated { .. } => &UNAUTHENTICATED,
            Self::NoSuchSale(_)
            | Self::NoSuchOrder(_)
            | Self::NoSuchMessage(_)
            | Self::NoSuchEvent(_)
            | Self::NoSuchSubscriber(_)
            | Self::NoSuchPath(_) => &NOT_FOUND,
            Self::OrderState { .. } => &ORDER_STATE,
            Self::NoPayments(_) => &NO_PAYMENTS,
            Self::ChangeUnknown(_) | Self::SaleChangeUnknown(_) => &CHANGE_UNKNOWN,
            Self::PaymentDeclined { .. } => &PAYMENT_DECLINED,
            Self::PaidTooLate(_) => &PAID_TOO_LATE,
            Self::BalanceTooLow(_) => &BALANCE_TOO_LOW,
            Self::BadCoupon(_) => &BAD_COUPON,
            Self::PaymentUnderWay(_) => &PAYMENT_UNDER_WAY,
            Self::KeyReused => &KEY_REUSED,
            Self::NoGate(_) => &NO_GATE,
            Self::MissingScope { .. } => &MISSING_SCOPE,
            Self::MethodNotAllowed => &METHOD,
            Self::BodyTooSlow => &BODY_TOO_SLOW,
            Self::TooLarge => &TOO_LARGE,
            Self::MediaType(_) => &MEDIA_TYPE,
            Self::Invalid(_) => &INVALID,
            Self::RateLimited { .. } | Self::PeerLimited { .. } | Self::TooManyAtOnce(_) => &RATE_LIMITED,
            Self::NotOpen { .. } => &NOT_OPEN,
            Self::Closed { .. } => &CLOSED,
            Self::SoldOut { .. } => &SOLD_OUT,
            Self::OrderDiffers { .. } => &ORDER_DIFFERS,
            Self::Overloaded | Self::TooBusy(_) | Self::TooManyReads => &OVERLOADED,
            Self::Unavailable(_) => &UNAVAILABLE,
            Self::Rebuilding { .. } => &REBUILDING,
            Self::OutcomeUnknown(_) => &OUTCOME_UNKNOWN,
            Self::Paused => &PAUSED,
            Self::SaleUnknown { .. } => &SALE_UNKNOWN,
            Self::SaleClosedOut(_) => &CLOSED_OUT,
            Self::RequestUnderWay => &REQUEST_UNDER_WAY,
            Self::Admission(why) => why.kind(),
        }
    }

    /// The outcome label of `seckill_claims_total`.
    pub(crate) fn outcome(&self) -> &'static str {
        self.kind().slug
    }

    fn detail(&self) -> String {
        match self {
            Self::Malformed(detail) | Self::Unauthenticated { detail, .. } => detail.clone(),
            Self::NoSuchSale(id) => format!("There is no sale {id}."),
            Self::NoSuchOrder(id) => format!("You have no order {id}."),
            Self::NoSuchMessage(id) => format!("No message {id} is parked."),
            Self::NoSuchEvent(id) => format!("The outbox has no event {id} for which that can be done."),
            Self::NoSuchSubscriber(name) => format!("There is no subscriber {name}."),
            Self::OrderState { order_id, status } => {
                format!("Order {order_id} is {}; nothing was changed.", status.as_str())
            }
            Self::NoPayments(id) => format!("Sale {id} has no payment window; nothing was changed."),
            Self::PaymentDeclined { reason, .. } => format!("The bank declined the payment: {reason}."),
            Self::PaidTooLate(id) => format!("Order {id} was cancelled before the money came."),
            Self::BalanceTooLow(_) => "You have less with us than you want to pay that way.".into(),
            Self::BadCoupon(_) => "There is no unused coupon of this code and worth.".into(),
            Self::PaymentUnderWay(id) => format!("A payment of order {id} has not ended yet."),
            Self::KeyReused => "This key came with another request before.".into(),
            Self::ChangeUnknown(id) => {
                format!("The database did not say whether order {id} was changed.")
            }
            Self::NoGate(id) => {
                format!("Sale {id} has no gate: it is direct, not opened yet, or closed out.")
            }
            Self::MissingScope { admin, scope } => {
                format!("The admin token {admin} lacks the scope `{scope}`; nothing was changed.")
            }
            Self::NoSuchPath(uri) => format!("There is nothing at {}.", uri.path()),
            Self::MethodNotAllowed => "This path knows other methods.".into(),
            Self::BodyTooSlow => "The body did not come within 10 s.".into(),
            Self::TooLarge => "The body is larger than 16 KiB.".into(),
            Self::MediaType(given) => format!("The body is {given}, not application/json."),
            Self::Invalid(errors) => {
                let each: Vec<_> = errors.iter().map(|e| format!("{} {}", e.field, e.message)).collect();
                format!("{}.", each.join("; "))
            }
            Self::RateLimited { seconds } => format!("This user sends too fast; wait {seconds} s."),
            Self::PeerLimited { seconds } => {
                format!("Too many requests of this kind come from this address; wait {seconds} s.")
            }
            Self::TooManyAtOnce(what) => {
                format!("This token has as many {what} open as it may; wait until one has ended.")
            }
            Self::NotOpen { starts_at } => format!("The sale starts at {}.", starts_at.to_rfc3339()),
            Self::Closed { ends_at } => format!("The sale ended at {}.", ends_at.to_rfc3339()),
            Self::SoldOut { remaining: 0 } => "No unit is left.".into(),
            Self::SoldOut { remaining } => format!("Only {remaining} units are left."),
            Self::OrderDiffers { quantity, .. } => {
                format!("Your order in this sale has quantity {quantity}.")
            }
            Self::Overloaded => {
                "More orders are waiting than this gateway holds; nothing was deducted.".into()
            }
            Self::TooBusy(why) => format!("Nothing was done: {why}."),
            Self::Unavailable(why) => format!("Nothing was deducted: {why}."),
            Self::Rebuilding { .. } => {
                "The gate has lost this sale and is filled again; nothing was deducted.".into()
            }
            Self::TooManyReads => {
                "More orders are asked for than the database is asked; yours is as it was.".into()
            }
            Self::OutcomeUnknown(id) => format!("The queue has not confirmed order {id}; it may stand."),
            Self::Paused => "An operator has paused the sale; nothing was deducted.".into(),
            Self::SaleUnknown { has_key: true } => {
                "The database did not say whether the sale was recorded: it may exist. The same key is safe to send again.".into()
            }
            Self::SaleUnknown { has_key: false } => {
                "The database did not say whether the sale was recorded: it may exist. List the sales before you try again.".into()
            }
            Self::SaleChangeUnknown(id) => format!("The database did not say whether sale {id} was changed."),
            Self::SaleClosedOut(id) => format!("Sale {id} is closed out; nothing was changed."),
            Self::RequestUnderWay => {
                "Another request that asks for the same, or changes the same, has not ended.".into()
            }
            Self::Admission(why) => why.detail(),
        }
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::RateLimited { seconds } | Self::PeerLimited { seconds } | Self::Rebuilding { seconds } => {
                Some(*seconds)
            }
            Self::NotOpen { starts_at } => Some(seconds_until(*starts_at)),
            Self::Admission(why) => why.retry_after(),
            Self::Paused => Some(PAUSE_SECONDS),
            _ => self.wait().map(|_| 1),
        }
    }

    /// For what `Retry-After` depends on the state of the system.
    fn wait(&self) -> Option<Wait> {
        match self {
            Self::Overloaded | Self::TooBusy(_) | Self::TooManyReads => Some(Wait::Overloaded),
            Self::Unavailable(_) => Some(Wait::Away),
            Self::OutcomeUnknown(_)
            | Self::ChangeUnknown(_)
            | Self::PaymentUnderWay(_)
            | Self::SaleUnknown { has_key: true }
            | Self::SaleChangeUnknown(_)
            | Self::RequestUnderWay
            | Self::TooManyAtOnce(_) => Some(Wait::Moment),
            _ => None,
        }
    }
}

/// The whole seconds until a moment, 1 at the least.
fn seconds_until(moment: Timestamp) -> u64 {
    let left = (moment - seckill_core::now()).num_milliseconds().max(0);
    u64::try_from(left).unwrap_or_default().div_ceil(1_000).max(1)
}

impl Refusal {
    /// The body of the answer to the request of this id, without headers.
    fn body(&self, request_id: Option<String>) -> ProblemDetails<Members> {
        let kind = self.kind();
        let status = StatusCode::from_u16(kind.status).expect("the statuses of the table are valid");
        let uri: Uri =
            format!("/problems/{}", kind.slug).parse().expect("the slugs of the table are plain words");
        ProblemDetails::new()
            .with_type(uri)
            .with_title(kind.title)
            .with_status(status)
            .with_detail(self.detail())
            .with_extensions(Members { request_id, ..self.members() })
    }

    fn members(&self) -> Members {
        match self {
            Self::OrderDiffers { order_id, .. }
            | Self::OrderState { order_id, .. }
            | Self::ChangeUnknown(order_id)
            | Self::PaymentDeclined { order_id, .. }
            | Self::PaidTooLate(order_id)
            | Self::BalanceTooLow(order_id)
            | Self::BadCoupon(order_id)
            | Self::PaymentUnderWay(order_id)
            | Self::OutcomeUnknown(order_id) => Members { order_id: Some(*order_id), ..Members::default() },
            Self::SoldOut { remaining } => Members { remaining: Some(*remaining), ..Members::default() },
            Self::NotOpen { starts_at } => Members { starts_at: Some(*starts_at), ..Members::default() },
            Self::Admission(why) => Members { starts_at: why.starts_at(), ..Members::default() },
            Self::Invalid(errors) => Members { errors: errors.clone(), ..Members::default() },
            _ => Members::default(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let request_id = seckill_core::current_request();
        if let (Self::SoldOut { remaining: 0 }, Some(id)) = (&self, &request_id) {
            return sold_out::answer(id);
        }
        let mut response = self.body(request_id.map(|id| id.to_string())).into_response();
        if let Some(wait) = self.wait() {
            response.extensions_mut().insert(wait);
        }
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        let challenge = match self {
            Self::Unauthenticated { token_was_given: true, .. } => {
                Some("Bearer realm=\"seckill\", error=\"invalid_token\"")
            }
            Self::Unauthenticated { .. } => Some("Bearer realm=\"seckill\""),
            Self::MissingScope { .. } => Some("Bearer realm=\"seckill\", error=\"insufficient_scope\""),
            _ => None,
        };
        if let Some(challenge) = challenge {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        response
    }
}

/// `GET /problems`: every kind of problem.
pub(crate) async fn list() -> Json<Vec<KindView>> {
    Json(KINDS.iter().map(KindView::from).collect())
}

/// `GET /problems/{slug}`: what a problem's `type` leads to.
pub(crate) async fn show(Path(slug): Path<String>, uri: Uri) -> Result<Json<KindView>, Refusal> {
    let kind = KINDS.iter().find(|kind| kind.slug == slug);
    kind.map(|kind| Json(kind.into())).ok_or(Refusal::NoSuchPath(uri))
}
