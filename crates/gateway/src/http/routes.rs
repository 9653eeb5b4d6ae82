//! Every call of the gateway: its handler, who may make it, what it takes, and what it answers.

mod events;
mod of_others;

use seckill_api::{
    AuditView, BalanceView, ChallengeView, Coupon, EffectList, Gift, KindView, OrderList, OrderRequest,
    OrderView, ParkedList, PaymentBody, PaymentView, PlaceView, Placed, ReadinessReport, Reconciled,
    RefundBody, RefundList, RoomView, SaleList, SalePatch, SaleView, TicketRequest, TicketView, Timeline,
    WorkersBody, WorkersView,
};
use seckill_core::money::SagaState;
use seckill_core::{NewSale, OrderId, Sale, SaleId, UserId};
use utoipa::openapi::HttpMethod;

use super::contract::{Call, Contract};
use super::problem::{
    BAD_COUPON, BALANCE_TOO_LOW, CHANGE_UNKNOWN, CLOSED, CLOSED_OUT, INVALID, KEY_REUSED, MALFORMED,
    MISSING_SCOPE, NO_GATE, NO_PAYMENTS, NO_TICKETS, NO_WAITING_ROOM, NOT_ADMITTED, NOT_OPEN, ORDER_DIFFERS,
    ORDER_STATE, OUTCOME_UNKNOWN, OVERLOADED, PAID_TOO_LATE, PAUSED, PAYMENT_DECLINED, PAYMENT_UNDER_WAY,
    PROOF_INVALID, PROOF_REQUIRED, REBUILDING, REQUEST_UNDER_WAY, ROOM_FULL, ROOM_OPENS_LATER, SALE_UNKNOWN,
    SOLD_OUT, TICKET_INVALID, TICKET_REQUIRED, TICKETS_LATER, UNAUTHENTICATED, UNAVAILABLE,
};
use super::{
    audits, money, orders, problem, repair, sale_changes, sales, status, tickets, waiting_room, workers,
};

const SALES: &str = "Sales";
const ADMISSION: &str = "Admission";
const ORDERS: &str = "Orders";
const AFTER: &str = "After the order";
const REPAIRS: &str = "Repairs";
const OTHERS: &str = "Others";

/// The whole table.
pub(super) fn contract() -> Contract {
    let contract = after_the_order(orders(admission(changes(sales(Contract::new())))));
    of_others::describe(others(events::describe(repairs(contract))))
}

fn sales(contract: Contract) -> Contract {
    let of_one = |summary| {
        Call::new(SALES, summary).path::<SaleId>("id", "The sale").problems(&[&UNAVAILABLE, &REBUILDING])
    };
    contract
        .post(
            "/api/v1/sales",
            sales::create,
            Call::new(SALES, "Open a sale")
                .admin()
                .optional_header(
                    "Idempotency-Key",
                    "^[!#-~]{1,255}$",
                    "Names this request: the same key opens no second sale",
                )
                .body::<NewSale>()
                .answers::<SaleView>(201, "The sale; `Location` has its path")
                .problems(&[&KEY_REUSED, &REQUEST_UNDER_WAY, &SALE_UNKNOWN, &UNAVAILABLE]),
        )
        .get(
            "/api/v1/sales",
            sales::list,
            Call::new(SALES, "The newest sales, newest first; at most a second old")
                .answers::<SaleList>(200, "The sales"),
        )
        .get(
            "/api/v1/sales/{id}",
            sales::show,
            of_one("One sale, and what its gate has left; at most a tenth of a second old")
                .answers::<SaleView>(200, "The sale"),
        )
        .get(
            "/api/v1/sales/{id}/audit",
            audits::audit,
            of_one("The invariants of a sale, at most a second old")
                .query::<bool>("fresh", "Read anew; only with an admin token")
                .answers::<AuditView>(200, "The audit")
                .problems(&[&MALFORMED, &UNAUTHENTICATED, &MISSING_SCOPE]),
        )
        .get(
            "/api/v1/sales/{id}/audit/orders",
            audits::orders,
            of_one("Every order that has reached its end, by id").admin().answers_text(
                200,
                "text/csv",
                "A head and a line for each order",
            ),
        )
        .get(
            "/api/v1/sales/{id}/audit/effects",
            audits::effects,
            of_one("Whether each refund event had one effect at each built-in subscriber")
                .admin()
                .answers::<EffectList>(200, "The effects"),
        )
}

/// What operators change about a sale and about the workers.
fn changes(contract: Contract) -> Contract {
    let change = |summary| {
        Call::new(SALES, summary)
            .path::<SaleId>("id", "The sale")
            .admin()
            .answers::<SaleView>(200, "The sale as it is now")
            .answers::<SaleView>(202, "The sale as it is now; its gate will apply the change in a moment")
            .problems(&[&INVALID, &CLOSED_OUT, &CHANGE_UNKNOWN, &UNAVAILABLE, &REBUILDING])
    };
    contract
        .patch(
            "/api/v1/sales/{id}",
            sale_changes::patch,
            change("Change a sale's name, product or end, or raise its stock").body::<SalePatch>(),
        )
        .post("/api/v1/sales/{id}/pause", sale_changes::pause, change("Pause a sale"))
        .post("/api/v1/sales/{id}/resume", sale_changes::resume, change("Resume a paused sale"))
        .post("/api/v1/sales/{id}/close", sale_changes::close, change("End a sale now"))
        .get(
            "/api/v1/workers",
            workers::show,
            Call::new(REPAIRS, "The drain rate and pause of the workers")
                .admin()
                .answers::<WorkersView>(200, "What they are told, and what each of them does")
                .problems(&[&UNAVAILABLE]),
        )
        .put(
            "/api/v1/workers",
            workers::change,
            Call::new(REPAIRS, "Change the drain rate of the workers, pause or resume them")
                .admin()
                .body::<WorkersBody>()
                .answers::<WorkersView>(200, "What they are told, and what each of them does")
                .problems(&[&REQUEST_UNDER_WAY, &UNAVAILABLE]),
        )
}

/// Tickets, proof of work and the waiting room.
fn admission(contract: Contract) -> Contract {
    let of_sale = |summary| {
        Call::new(ADMISSION, summary).path::<SaleId>("id", "The sale").problems(&[&UNAVAILABLE, &REBUILDING])
    };
    let of_room = |summary| of_sale(summary).problems(&[&NO_WAITING_ROOM, &CLOSED]);
    contract
        .post(
            "/api/v1/sales/{id}/ticket",
            tickets::fetch,
            of_sale("Fetch a ticket")
                .buyer()
                .optional_body::<TicketRequest>()
                .answers::<TicketView>(200, "The ticket")
                .problems(&[&NO_TICKETS, &TICKETS_LATER, &CLOSED, &PROOF_REQUIRED, &PROOF_INVALID])
                .problems(&[&NO_WAITING_ROOM, &ROOM_OPENS_LATER, &NOT_ADMITTED]),
        )
        .get(
            "/api/v1/sales/{id}/challenge",
            tickets::challenge,
            of_sale("The work that a ticket costs now, by ALTCHA's protocol")
                .buyer()
                .answers::<ChallengeView>(200, "The challenge")
                .problems(&[&NO_TICKETS]),
        )
        .get(
            "/api/v1/sales/{id}/waiting-room",
            waiting_room::show,
            of_room("The waiting room, the same for everybody; at most a second old")
                .answers::<RoomView>(200, "The room"),
        )
        .post(
            "/api/v1/sales/{id}/waiting-room",
            waiting_room::enter,
            of_room("Enter the waiting room, once")
                .buyer()
                .answers::<PlaceView>(200, "The buyer's place")
                .problems(&[&ROOM_OPENS_LATER, &ROOM_FULL]),
        )
        .get(
            "/api/v1/sales/{id}/waiting-room/me",
            waiting_room::mine,
            of_room("The buyer's place")
                .buyer()
                .answers::<PlaceView>(200, "The place")
                .problems(&[&ROOM_OPENS_LATER, &NOT_ADMITTED]),
        )
        .get(
            "/api/v1/sales/{id}/waiting-room/events",
            waiting_room::events,
            of_room("The buyer's place as a stream: an event `place` whenever it changes")
                .buyer()
                .answers_text(200, "text/event-stream", "Events `place`, each with the place as JSON")
                .problems(&[&ROOM_OPENS_LATER, &NOT_ADMITTED, &OVERLOADED]),
        )
}

fn orders(contract: Contract) -> Contract {
    let of_one = |summary| {
        Call::new(ORDERS, summary)
            .path::<OrderId>("id", "The order")
            .buyer()
            .problems(&[&UNAVAILABLE, &REBUILDING])
    };
    contract
        .post(
            "/api/v1/sales/{id}/orders",
            orders::place,
            Call::new(ORDERS, "Order units")
                .path::<SaleId>("id", "The sale")
                .buyer()
                .optional_header("Seckill-Ticket", "^[!-~]{1,512}$", "The ticket, where the sale needs one")
                .optional_body::<OrderRequest>()
                .answers::<Placed>(202, "The order is queued; `Location` has its path")
                .answers::<Placed>(
                    200,
                    "The buyer has this order here already; the header `Idempotent-Replayed` is `true`",
                )
                .problems(&[
                    &NOT_OPEN,
                    &CLOSED,
                    &TICKET_REQUIRED,
                    &TICKET_INVALID,
                    &PAUSED,
                    &SOLD_OUT,
                    &ORDER_DIFFERS,
                    &OVERLOADED,
                ])
                .problems(&[&UNAVAILABLE, &REBUILDING, &OUTCOME_UNKNOWN]),
        )
        .get(
            "/api/v1/sales/{id}/orders/mine",
            status::mine,
            Call::new(ORDERS, "The buyer's orders in a sale")
                .path::<SaleId>("id", "The sale")
                .buyer()
                .answers::<OrderList>(200, "The orders, oldest first")
                .problems(&[&UNAVAILABLE, &REBUILDING]),
        )
        .get("/api/v1/orders/{id}", status::show, of_one("One order").answers::<OrderView>(200, "The order"))
        .get(
            "/api/v1/orders/{id}/events",
            status::events,
            of_one("The order as a stream: an event `status` at each change, until its end")
                .answers_text(200, "text/event-stream", "Events `status`, each with the order as JSON")
                .problems(&[&OVERLOADED]),
        )
        .post(
            "/api/v1/orders/{id}/cancel",
            orders::cancel,
            of_one("Give an unpaid order back")
                .answers::<OrderView>(200, "The order as it is now")
                .problems(&[&NO_PAYMENTS, &ORDER_STATE, &CHANGE_UNKNOWN]),
        )
}

fn after_the_order(contract: Contract) -> Contract {
    let of_one = |summary| Call::new(AFTER, summary).path::<OrderId>("id", "The order");
    let decision = |summary| {
        of_one(summary).admin().optional_body::<RefundBody>().answers_nothing(204, "Done").problems(&[
            &ORDER_STATE,
            &CHANGE_UNKNOWN,
            &UNAVAILABLE,
        ])
    };
    contract
        .post(
            "/api/v1/orders/{id}/payment",
            money::pay,
            of_one("Pay an order")
                .buyer()
                .header(
                    "Idempotency-Key",
                    "^[!-~]{1,255}$",
                    "Names this payment: 1 to 255 visible ASCII characters",
                )
                .body::<PaymentBody>()
                .answers::<PaymentView>(200, "It is paid")
                .answers::<PaymentView>(202, "The bank has not answered yet; send the request again")
                .problems(&[&PAYMENT_DECLINED, &PAID_TOO_LATE, &BALANCE_TOO_LOW, &BAD_COUPON])
                .problems(&[&PAYMENT_UNDER_WAY, &KEY_REUSED, &ORDER_STATE, &NO_PAYMENTS])
                .problems(&[&CHANGE_UNKNOWN, &UNAVAILABLE, &REBUILDING]),
        )
        .post(
            "/api/v1/orders/{id}/refund",
            money::request_refund,
            of_one("Ask for the money back")
                .buyer()
                .optional_body::<RefundBody>()
                .answers::<OrderView>(202, "The order, whose status shows how far the refund is")
                .problems(&[&ORDER_STATE, &CHANGE_UNKNOWN, &UNAVAILABLE, &REBUILDING]),
        )
        .get(
            "/api/v1/orders/{id}/timeline",
            money::timeline,
            of_one("What happened to an order, step by step")
                .buyer_or_admin()
                .answers::<Timeline>(200, "The steps, by time")
                .problems(&[&UNAVAILABLE, &REBUILDING]),
        )
        .get(
            "/api/v1/refunds",
            money::refunds,
            Call::new(AFTER, "Refunds by order id, 1,000 at the most")
                .admin()
                .query::<SagaState>("state", "Which refunds; by default those that are `held`")
                .answers::<RefundList>(200, "The refunds")
                .problems(&[&UNAVAILABLE]),
        )
        .post("/api/v1/refunds/{id}/approve", money::approve, decision("Let a refund go on that is held"))
        .post("/api/v1/refunds/{id}/deny", money::deny, decision("Refuse a refund that is held"))
        .post(
            "/api/v1/users/{id}/balance",
            money::add_balance,
            Call::new(AFTER, "Add to what a user has with us")
                .path::<UserId>("id", "The user")
                .admin()
                .body::<Gift>()
                .answers::<BalanceView>(200, "What the user has now")
                .problems(&[&UNAVAILABLE]),
        )
        .post(
            "/api/v1/coupons",
            money::add_coupon,
            Call::new(AFTER, "Make a coupon")
                .admin()
                .body::<Coupon>()
                .answers::<Coupon>(201, "The coupon")
                .problems(&[&UNAVAILABLE]),
        )
}

fn repairs(contract: Contract) -> Contract {
    let of_sale = |summary| {
        Call::new(REPAIRS, summary).path::<SaleId>("id", "The sale").admin().problems(&[
            &NO_GATE,
            &REBUILDING,
            &UNAVAILABLE,
        ])
    };
    let of_message = |summary| {
        Call::new(REPAIRS, summary)
            .path::<String>("id", "The message's id, as the list has it")
            .admin()
            .answers_nothing(204, "Done")
            .problems(&[&UNAVAILABLE])
    };
    contract
        .post(
            "/api/v1/sales/{id}/rebuild",
            repair::rebuild,
            of_sale("Have a worker fill the gate of a sale again")
                .answers::<Sale>(202, "The sale, whose `rebuild` shows how far it is"),
        )
        .post(
            "/api/v1/sales/{id}/reconcile",
            repair::reconcile,
            of_sale("Compare what the gate holds with the ledger, and send again what is missing")
                .answers::<Reconciled>(200, "What was found"),
        )
        .get(
            "/api/v1/parked",
            repair::parked,
            Call::new(REPAIRS, "Messages that wait for a human, oldest first, 1,000 at the most")
                .admin()
                .answers::<ParkedList>(200, "The messages")
                .problems(&[&UNAVAILABLE]),
        )
        .delete("/api/v1/parked/{id}", repair::discard, of_message("Remove a parked message for good"))
        .post(
            "/api/v1/parked/{id}/redrive",
            repair::redrive,
            of_message("Move a parked message back into the queue"),
        )
}

fn others(contract: Contract) -> Contract {
    contract
        .get(
            "/problems",
            problem::list,
            Call::new(OTHERS, "Every kind of problem").answers::<Vec<KindView>>(200, "The kinds"),
        )
        .get(
            "/problems/{slug}",
            problem::show,
            Call::new(OTHERS, "One kind of problem, and what to do about it")
                .path::<String>("slug", "The last part of a problem's `type`")
                .answers::<KindView>(200, "The kind"),
        )
        .describe(
            HttpMethod::Get,
            "/openapi.json",
            Call::new(OTHERS, "This document").answers::<serde_json::Value>(200, "OpenAPI 3.1"),
        )
        .describe(
            HttpMethod::Get,
            "/livez",
            Call::new(OTHERS, "Whether the process lives").answers_text(200, "text/plain", "It does"),
        )
        .describe(
            HttpMethod::Get,
            "/readyz",
            Call::new(OTHERS, "Whether the process can work, and if not, why")
                .answers::<ReadinessReport>(200, "It can")
                .answers::<ReadinessReport>(503, "It cannot, or is shutting down"),
        )
        .describe(
            HttpMethod::Get,
            "/metrics",
            Call::new(OTHERS, "Its metrics, for Prometheus").answers_text(200, "text/plain", "The metrics"),
        )
}
