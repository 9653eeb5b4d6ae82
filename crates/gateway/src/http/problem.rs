//! Every refusal a client can meet, and the one place where it becomes an HTTP status, headers and a body (RFC 9457).

use std::sync::Arc;
mod admission;

use axum::Json;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use problem_details::ProblemDetails;
use seckill_core::{Dependency, Fault, FieldError, OrderId, OrderStatus, SaleId, Timestamp};
use seckill_token::admin::Scope;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

pub(crate) use self::admission::NotAdmitted;
use super::patience::Wait;
use crate::admission::proof::NoProof;

/// One kind of problem: `type` is `/problems/{slug}`, and a GET there gives this text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Kind {
    slug: &'static str,
    status: u16,
    title: &'static str,
    what_to_do: &'static str,
}

macro_rules! kinds {
    ($($name:ident: $slug:literal $status:literal $title:literal, $what_to_do:literal;)*) => {
        $(pub(super) const $name: Kind = Kind { slug: $slug, status: $status, title: $title, what_to_do: $what_to_do };)*
        /// Every kind there is.
        pub(crate) const KINDS: &[Kind] = &[$($name),*];
    };
}

kinds! {
    MALFORMED: "malformed" 400 "The request cannot be read", "Correct the request at the place that `detail` names.";
    UNAUTHENTICATED: "unauthenticated" 401 "A valid bearer token is needed",
        "Send `Authorization: Bearer <token>` with a token that is signed, not expired, and meant for this call.";
    NOT_OPEN: "not-open" 403 "The sale has not started", "Come back at `starts_at`; `Retry-After` has the seconds until then.";
    CLOSED: "closed" 403 "The sale is over", "Nothing more can be ordered in this sale.";
    NOT_FOUND: "not-found" 404 "There is no such thing", "Check the id. An order is shown to its own buyer only.";
    METHOD: "method-not-allowed" 405 "This method is not allowed here", "Use one of the methods named in `Allow`.";
    SOLD_OUT: "sold-out" 409 "Sold out", "Fewer units are left than wanted; `remaining` says how many.";
    ORDER_DIFFERS: "order-differs" 409 "You have a different order here",
        "This user has an order of another quantity in this sale; ask for `order_id`.";
    BODY_TOO_SLOW: "body-too-slow" 408 "The body did not come in time", "Nothing was done. Send the request again, with its whole body.";
    TOO_LARGE: "too-large" 413 "The body is too large", "Send at most 16 KiB.";
    MEDIA_TYPE: "media-type" 415 "The media type is not supported", "Send `Content-Type: application/json`.";
    INVALID: "invalid" 422 "The request is not allowed as it is", "Correct every field named in `errors`.";
    RATE_LIMITED: "rate-limited" 429 "Too many requests", "Wait for the seconds in `Retry-After`.";
    OVERLOADED: "overloaded" 503 "Too much at once", "Nothing was deducted. Try again after `Retry-After` seconds.";
    UNAVAILABLE: "unavailable" 503 "A part of the system is away",
        "Nothing was deducted. Try again after `Retry-After` seconds.";
    REBUILDING: "rebuilding" 503 "The sale's gate is being rebuilt",
        "Nothing was deducted. Orders that were accepted are safe. Try again after `Retry-After` seconds.";
    OUTCOME_UNKNOWN: "outcome-unknown" 503 "The order is not confirmed yet",
        "It may stand. Poll `/api/v1/orders/{order_id}`, or send the same request again: it takes no second unit.";
    NO_GATE: "no-gate" 409 "The sale has no gate", "Only a sale that was opened and is not closed out has one.";
    ORDER_STATE: "order-state" 409 "The order is not in a state for that", "Look at the order's `status`; nothing was changed.";
    NO_PAYMENTS: "no-payments" 409 "The sale has no payments",
        "Orders of a sale without a payment window stay as they are once they are committed.";
    PAYMENT_DECLINED: "payment-declined" 402 "The bank declined the payment", "Nothing was charged. Pay in another way, with a new key.";
    PAID_TOO_LATE: "paid-too-late" 409 "The money came too late", "The order had run out of time. The money goes back by itself.";
    BALANCE_TOO_LOW: "balance-too-low" 409 "The balance is too low", "Nothing was charged. Pay more by another way.";
    BAD_COUPON: "bad-coupon" 409 "The coupon cannot be used", "It does not exist, is used, or is worth another amount. Nothing was charged.";
    PAYMENT_UNDER_WAY: "payment-under-way" 409 "A payment is under way", "Nothing was charged by this request. Send it again after `Retry-After` seconds.";
    KEY_REUSED: "key-reused" 422 "The idempotency key was used for another request",
        "Nothing was done. Send a new key with a new request, and the same key only with the same request.";
    CHANGE_UNKNOWN: "change-unknown" 503 "The change is not confirmed yet",
        "It may have happened. Look at the order or the sale, or send the same request again: it has no second effect.";
    // What only the dashboard's controls answer with.
    CROSS_SITE: "cross-site" 403 "Another site cannot change anything here",
        "Use the gateway's own page, or send the admin token in `Authorization: Bearer <token>`.";
    BUSY: "busy" 409 "Something else is under way", "Wait for its end or stop it, then try again.";
    NO_WORKER: "no-worker" 409 "No worker is alive", "Start one, or wait until the one that crashed is back.";
    NO_BANK: "no-bank" 409 "This gateway has no bank", "Start it with `--bank-url`, then try again.";
    NEEDS_SERVERS: "needs-servers" 409 "Needs servers", "Use a gateway that runs on Redis, RabbitMQ and MySQL.";
    NO_LOAD: "no-load" 409 "No load run is under way", "There is nothing to stop.";
    MISSING_SCOPE: "missing-scope" 403 "This admin token may not do that", "Use an admin token with the scope that `detail` names.";
    TICKET_REQUIRED: "ticket-required" 403 "This sale needs a ticket",
        "Fetch one with `POST /api/v1/sales/{id}/ticket`, and send the order with the header `Seckill-Ticket`.";
    TICKET_INVALID: "ticket-invalid" 403 "The ticket is not valid", "Fetch a new one with `POST /api/v1/sales/{id}/ticket`. No place is lost.";
    TICKETS_LATER: "tickets-later" 403 "Tickets are handed out later", "Come back at `starts_at`; `Retry-After` has the seconds until then.";
    NO_TICKETS: "no-tickets" 409 "The sale has no tickets", "Send the order without one.";
    NO_WAITING_ROOM: "no-waiting-room" 409 "The sale has no waiting room", "Nobody has to wait for this sale.";
    ROOM_OPENS_LATER: "room-opens-later" 403 "The waiting room is not open yet", "Come back at `starts_at`; `Retry-After` has the seconds until then.";
    ROOM_FULL: "room-full" 503 "The waiting room is full", "Nobody else can come in. Try again after `Retry-After` seconds.";
    NOT_ADMITTED: "not-admitted" 403 "You have not been admitted",
        "Enter with `POST /api/v1/sales/{id}/waiting-room`, and wait until `/waiting-room/me` says `admitted`.";
    PROOF_REQUIRED: "proof-required" 403 "A ticket costs a proof of work here",
        "Solve the challenge of `GET /api/v1/sales/{id}/challenge`, and send the solution as `altcha` in the body.";
    PROOF_INVALID: "proof-invalid" 403 "The proof of work is not accepted", "Fetch a new challenge and solve it. Each solution is good once.";
    PAUSED: "paused" 503 "The sale is paused", "Nothing was deducted. Orders that were accepted are safe. Try again after `Retry-After` seconds.";
    // What only operators meet.
    SALE_UNKNOWN: "sale-unknown" 503 "The new sale is not confirmed yet",
        "It may exist. With an `Idempotency-Key`, send the same request again: it opens no second sale. Without one, list the sales first.";
    REQUEST_UNDER_WAY: "request-under-way" 409 "Such a request is under way", "Nothing was done by this one. Send it again after `Retry-After` seconds.";
    CLOSED_OUT: "closed-out" 409 "The sale is closed out", "It has been over for an hour or more and cannot be changed any more. Open a new sale.";
}

impl Kind {
    pub(super) fn slug(&self) -> &'static str {
        self.slug
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    pub(super) fn title(&self) -> &'static str {
        self.title
    }

    /// A problem of this kind, as it is answered.
    pub(super) fn example(&self) -> Value {
        let mut examples = examples().into_iter();
        let refusal = examples.find(|refusal| refusal.kind().slug == self.slug);
        let mut example = match refusal {
            Some(refusal) => serde_json::to_value(refusal.body()).expect("a problem is plain JSON"),
            // The kinds of others than the gateway.
            None => json!({
                "type": format!("/problems/{}", self.slug), "title": self.title, "status": self.status,
                "detail": self.title,
            }),
        };
        example["request_id"] = json!("0192f8c4-3f6b-7d1a-9d52-6f4a8b1c2d3e");
        example
    }
}

/// A refusal of each kind that the gateway knows.
fn examples() -> Vec<Refusal> {
    let order_id = OrderId(uuid::uuid!("0192f8c4-3f6b-7d1a-8000-000000000007"));
    let at: Timestamp = "2030-11-11T00:00:00Z".parse().expect("a time");
    vec![
        Refusal::Malformed("The body is not JSON: expected value at line 1 column 1.".into()),
        Refusal::Unauthenticated { detail: "The token has expired.".into(), token_was_given: true },
        Refusal::NotOpen { starts_at: at },
        Refusal::Closed { ends_at: at },
        Refusal::NoSuchSale(SaleId(7)),
        Refusal::MethodNotAllowed,
        Refusal::SoldOut { remaining: 0 },
        Refusal::OrderDiffers { order_id, quantity: 2 },
        Refusal::BodyTooSlow,
        Refusal::TooLarge,
        Refusal::MediaType("text/plain".into()),
        Refusal::Invalid(vec![FieldError::new("quantity", "is 3; allowed are 1 to 2 units")]),
        Refusal::RateLimited { seconds: 1 },
        Refusal::Overloaded,
        Refusal::away(Dependency::Queue),
        Refusal::Rebuilding { seconds: REBUILD_SECONDS },
        Refusal::OutcomeUnknown(order_id),
        Refusal::NoGate(SaleId(7)),
        Refusal::OrderState { order_id, status: OrderStatus::Paid },
        Refusal::NoPayments(SaleId(7)),
        Refusal::PaymentDeclined { order_id, reason: "insufficient funds".into() },
        Refusal::PaidTooLate(order_id),
        Refusal::BalanceTooLow(order_id),
        Refusal::BadCoupon(order_id),
        Refusal::PaymentUnderWay(order_id),
        Refusal::KeyReused,
        Refusal::ChangeUnknown(order_id),
        Refusal::MissingScope { admin: "reports".into(), scope: Scope::Sales },
        Refusal::Admission(NotAdmitted::TicketRequired(SaleId(7))),
        Refusal::Admission(NotAdmitted::TicketOld),
        Refusal::Admission(NotAdmitted::TicketsLater { from: at }),
        Refusal::Admission(NotAdmitted::NoTickets(SaleId(7))),
        Refusal::Admission(NotAdmitted::NoRoom(SaleId(7))),
        Refusal::Admission(NotAdmitted::RoomOpensLater { from: at }),
        Refusal::Admission(NotAdmitted::RoomFull),
        Refusal::Admission(NotAdmitted::StillWaiting { seconds: 5 }),
        Refusal::Admission(NotAdmitted::ProofRequired),
        Refusal::Admission(NotAdmitted::ProofInvalid(NoProof::Used)),
        Refusal::Paused,
        Refusal::SaleUnknown { has_key: true },
        Refusal::RequestUnderWay,
        Refusal::SaleClosedOut(SaleId(7)),
    ]
}

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
    /// The body, without headers.
    fn body(&self) -> ProblemDetails<Members> {
        let kind = self.kind();
        let status = StatusCode::from_u16(kind.status).expect("the statuses of the table are valid");
        let uri: Uri =
            format!("/problems/{}", kind.slug).parse().expect("the slugs of the table are plain words");
        let request_id = seckill_core::current_request().map(|id| id.to_string());
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
        let mut response = self.body().into_response();
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
pub(crate) async fn list() -> Json<&'static [Kind]> {
    Json(KINDS)
}

/// `GET /problems/{slug}`: what a problem's `type` leads to.
pub(crate) async fn show(Path(slug): Path<String>, uri: Uri) -> Result<Json<&'static Kind>, Refusal> {
    KINDS.iter().find(|kind| kind.slug == slug).map(Json).ok_or(Refusal::NoSuchPath(uri))
}
