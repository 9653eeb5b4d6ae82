//! An example of each kind of problem, for the API's document: made by the code that answers.

use seckill_core::{Dependency, FieldError, OrderId, OrderStatus, SaleId, Timestamp};
use seckill_token::admin::Scope;
use serde_json::{Value, json};

use super::{Kind, NotAdmitted, REBUILD_SECONDS, Refusal};
use crate::admission::proof::NoProof;

/// A problem of this kind, as it is answered.
pub(in crate::http) fn example(kind: &Kind) -> Value {
    let mut examples = examples().into_iter();
    let refusal = examples.find(|refusal| refusal.kind().slug == kind.slug);
    let mut example = match refusal {
        Some(refusal) => serde_json::to_value(refusal.body(None)).expect("a problem is plain JSON"),
        // The kinds of others than the gateway.
        None => json!({
            "type": format!("/problems/{}", kind.slug), "title": kind.title, "status": kind.status,
            "detail": kind.title,
        }),
    };
    example["request_id"] = json!("0192f8c4-3f6b-7d1a-9d52-6f4a8b1c2d3e");
    example
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
