//! Every kind of problem: its status, its title, and what to do about it.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One kind of problem: `type` is `/problems/{slug}`, and a GET there gives the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The last part of `type`.
    pub slug: &'static str,
    /// The HTTP status that it comes with.
    pub status: u16,
    /// What has happened, in a few words.
    pub title: &'static str,
    /// What to do about it.
    pub what_to_do: &'static str,
}

/// A kind of problem, as `/problems` describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KindView {
    /// The last part of `type`.
    pub slug: String,
    /// The HTTP status that it comes with.
    pub status: u16,
    /// What has happened, in a few words.
    pub title: String,
    /// What to do about it.
    pub what_to_do: String,
}

impl From<&Kind> for KindView {
    fn from(kind: &Kind) -> Self {
        let Kind { slug, status, title, what_to_do } = *kind;
        Self { slug: slug.to_owned(), status, title: title.to_owned(), what_to_do: what_to_do.to_owned() }
    }
}

macro_rules! kinds {
    ($($name:ident $variant:ident: $slug:literal $status:literal $title:literal, $what_to_do:literal;)*) => {
        $(
            #[doc = concat!("`", $slug, "`: ", $title, ".")]
            pub const $name: Kind = Kind { slug: $slug, status: $status, title: $title, what_to_do: $what_to_do };
        )*
        /// Every kind there is.
        pub const KINDS: &[Kind] = &[$($name),*];

        /// What a problem is about, by the last part of its `type`.
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ProblemKind {
            $(
                #[doc = concat!("`", $slug, "`: ", $title, ".")]
                $variant,
            )*
            /// A kind that this version does not know: a newer gateway's, or that of something in front of it.
            Other(String),
        }

        impl ProblemKind {
            /// As it stands at the end of `type`.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $slug,)*
                    Self::Other(slug) => slug,
                }
            }

            /// What to do about it; `None` for a kind that this version does not know.
            pub fn what_to_do(&self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => Some($what_to_do),)*
                    Self::Other(_) => None,
                }
            }
        }

        impl From<&str> for ProblemKind {
            fn from(slug: &str) -> Self {
                match slug {
                    $($slug => Self::$variant,)*
                    other => Self::Other(other.to_owned()),
                }
            }
        }
    };
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

kinds! {
    MALFORMED Malformed: "malformed" 400 "The request cannot be read", "Correct the request at the place that `detail` names.";
    UNAUTHENTICATED Unauthenticated: "unauthenticated" 401 "A valid bearer token is needed",
        "Send `Authorization: Bearer <token>` with a token that is signed, not expired, and meant for this call.";
    NOT_OPEN NotOpen: "not-open" 403 "The sale has not started", "Come back at `starts_at`; `Retry-After` has the seconds until then.";
    CLOSED Closed: "closed" 403 "The sale is over", "Nothing more can be ordered in this sale.";
    NOT_FOUND NotFound: "not-found" 404 "There is no such thing", "Check the id. An order is shown to its own buyer only.";
    METHOD MethodNotAllowed: "method-not-allowed" 405 "This method is not allowed here", "Use one of the methods named in `Allow`.";
    SOLD_OUT SoldOut: "sold-out" 409 "Sold out", "Fewer units are left than wanted; `remaining` says how many.";
    ORDER_DIFFERS OrderDiffers: "order-differs" 409 "You have a different order here",
        "This user has an order of another quantity in this sale; ask for `order_id`.";
    BODY_TOO_SLOW BodyTooSlow: "body-too-slow" 408 "The body did not come in time", "Nothing was done. Send the request again, with its whole body.";
    TOO_LARGE TooLarge: "too-large" 413 "The body is too large", "Send at most 16 KiB.";
    MEDIA_TYPE MediaType: "media-type" 415 "The media type is not supported", "Send `Content-Type: application/json`.";
    INVALID Invalid: "invalid" 422 "The request is not allowed as it is", "Correct every field named in `errors`.";
    RATE_LIMITED RateLimited: "rate-limited" 429 "Too many requests", "Wait for the seconds in `Retry-After`.";
    OVERLOADED Overloaded: "overloaded" 503 "Too much at once", "Nothing was deducted. Try again after `Retry-After` seconds.";
    UNAVAILABLE Unavailable: "unavailable" 503 "A part of the system is away",
        "Nothing was deducted. Try again after `Retry-After` seconds.";
    REBUILDING Rebuilding: "rebuilding" 503 "The sale's gate is being rebuilt",
        "Nothing was deducted. Orders that were accepted are safe. Try again after `Retry-After` seconds.";
    OUTCOME_UNKNOWN OutcomeUnknown: "outcome-unknown" 503 "The order is not confirmed yet",
        "It may stand. Poll `/api/v1/orders/{order_id}`, or send the same request again: it takes no second unit.";
    NO_GATE NoGate: "no-gate" 409 "The sale has no gate", "Only a sale that was opened and is not closed out has one.";
    ORDER_STATE OrderState: "order-state" 409 "The order is not in a state for that", "Look at the order's `status`; nothing was changed.";
    NO_PAYMENTS NoPayments: "no-payments" 409 "The sale has no payments",
        "Orders of a sale without a payment window stay as they are once they are committed.";
    PAYMENT_DECLINED PaymentDeclined: "payment-declined" 402 "The bank declined the payment", "Nothing was charged. Pay in another way, with a new key.";
    PAID_TOO_LATE PaidTooLate: "paid-too-late" 409 "The money came too late", "The order had run out of time. The money goes back by itself.";
    BALANCE_TOO_LOW BalanceTooLow: "balance-too-low" 409 "The balance is too low", "Nothing was charged. Pay more by another way.";
    BAD_COUPON BadCoupon: "bad-coupon" 409 "The coupon cannot be used", "It does not exist, is used, or is worth another amount. Nothing was charged.";
    PAYMENT_UNDER_WAY PaymentUnderWay: "payment-under-way" 409 "A payment is under way", "Nothing was charged by this request. Send it again after `Retry-After` seconds.";
    KEY_REUSED KeyReused: "key-reused" 422 "The idempotency key was used for another request",
        "Nothing was done. Send a new key with a new request, and the same key only with the same request.";
    CHANGE_UNKNOWN ChangeUnknown: "change-unknown" 503 "The change is not confirmed yet",
        "It may have happened. Look at the order or the sale, or send the same request again: it has no second effect.";
    // What only the dashboard's controls answer with.
    CROSS_SITE CrossSite: "cross-site" 403 "Another site cannot change anything here",
        "Use the gateway's own page, or send the admin token in `Authorization: Bearer <token>`.";
    BUSY Busy: "busy" 409 "Something else is under way", "Wait for its end or stop it, then try again.";
    NO_WORKER NoWorker: "no-worker" 409 "No worker is alive", "Start one, or wait until the one that crashed is back.";
    NO_BANK NoBank: "no-bank" 409 "This gateway has no bank", "Start it with `--bank-url`, then try again.";
    NEEDS_SERVERS NeedsServers: "needs-servers" 409 "Needs servers", "Use a gateway that runs on Redis, RabbitMQ and MySQL.";
    NO_LOAD NoLoad: "no-load" 409 "No load run is under way", "There is nothing to stop.";
    MISSING_SCOPE MissingScope: "missing-scope" 403 "This admin token may not do that", "Use an admin token with the scope that `detail` names.";
    TICKET_REQUIRED TicketRequired: "ticket-required" 403 "This sale needs a ticket",
        "Fetch one with `POST /api/v1/sales/{id}/ticket`, and send the order with the header `Seckill-Ticket`.";
    TICKET_INVALID TicketInvalid: "ticket-invalid" 403 "The ticket is not valid", "Fetch a new one with `POST /api/v1/sales/{id}/ticket`. No place is lost.";
    TICKETS_LATER TicketsLater: "tickets-later" 403 "Tickets are handed out later", "Come back at `starts_at`; `Retry-After` has the seconds until then.";
    NO_TICKETS NoTickets: "no-tickets" 409 "The sale has no tickets", "Send the order without one.";
    NO_WAITING_ROOM NoWaitingRoom: "no-waiting-room" 409 "The sale has no waiting room", "Nobody has to wait for this sale.";
    ROOM_OPENS_LATER RoomOpensLater: "room-opens-later" 403 "The waiting room is not open yet", "Come back at `starts_at`; `Retry-After` has the seconds until then.";
    ROOM_FULL RoomFull: "room-full" 503 "The waiting room is full", "Nobody else can come in. Try again after `Retry-After` seconds.";
    NOT_ADMITTED NotAdmitted: "not-admitted" 403 "You have not been admitted",
        "Enter with `POST /api/v1/sales/{id}/waiting-room`, and wait until `/waiting-room/me` says `admitted`.";
    PROOF_REQUIRED ProofRequired: "proof-required" 403 "A ticket costs a proof of work here",
        "Solve the challenge of `GET /api/v1/sales/{id}/challenge`, and send the solution as `altcha` in the body.";
    PROOF_INVALID ProofInvalid: "proof-invalid" 403 "The proof of work is not accepted", "Fetch a new challenge and solve it. Each solution is good once.";
    PAUSED Paused: "paused" 503 "The sale is paused", "Nothing was deducted. Orders that were accepted are safe. Try again after `Retry-After` seconds.";
    // What only operators meet.
    SALE_UNKNOWN SaleUnknown: "sale-unknown" 503 "The new sale is not confirmed yet",
        "It may exist. With an `Idempotency-Key`, send the same request again: it opens no second sale. Without one, list the sales first.";
    REQUEST_UNDER_WAY RequestUnderWay: "request-under-way" 409 "Such a request is under way", "Nothing was done by this one. Send it again after `Retry-After` seconds.";
    CLOSED_OUT ClosedOut: "closed-out" 409 "The sale is closed out", "It has been over for an hour or more and cannot be changed any more. Open a new sale.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_reads_back_as_written() {
        for kind in KINDS {
            let read = ProblemKind::from(kind.slug);
            assert!(!matches!(read, ProblemKind::Other(_)), "{read:?}");
            assert_eq!((read.as_str(), read.what_to_do()), (kind.slug, Some(kind.what_to_do)));
        }
        assert_eq!(ProblemKind::from("a-newer-one").as_str(), "a-newer-one");
    }
}
