//! The table of calls. A line here without a method that uses it is a warning of the compiler, and a call of the API's document
//! without a line here fails a test of the gateway, unless it is one of the bank or of the page.

use std::fmt;

/// One call of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call {
    /// Such as `POST`.
    pub method: &'static str,
    /// As in the API's document: with the names of its parameters, such as `/api/v1/sales/{id}`.
    pub path: &'static str,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

macro_rules! calls {
    ($($name:ident = $method:ident $path:literal;)*) => {
        $(pub(crate) const $name: Call = Call { method: stringify!($method), path: $path };)*

        /// Every call that this client can make.
        pub const CALLS: &[Call] = &[$(Call { method: stringify!($method), path: $path }),*];
    };
}

calls! {
    // Sales.
    CREATE_SALE = POST "/api/v1/sales";
    SALES = GET "/api/v1/sales";
    SALE = GET "/api/v1/sales/{id}";
    AUDIT = GET "/api/v1/sales/{id}/audit";
    AUDIT_ORDERS = GET "/api/v1/sales/{id}/audit/orders";
    EFFECTS = GET "/api/v1/sales/{id}/audit/effects";
    CHANGE_SALE = PATCH "/api/v1/sales/{id}";
    PAUSE = POST "/api/v1/sales/{id}/pause";
    RESUME = POST "/api/v1/sales/{id}/resume";
    CLOSE = POST "/api/v1/sales/{id}/close";
    // Tickets, proof of work and the waiting room.
    TICKET = POST "/api/v1/sales/{id}/ticket";
    CHALLENGE = GET "/api/v1/sales/{id}/challenge";
    WAITING_ROOM = GET "/api/v1/sales/{id}/waiting-room";
    ENTER = POST "/api/v1/sales/{id}/waiting-room";
    PLACE = GET "/api/v1/sales/{id}/waiting-room/me";
    PLACE_EVENTS = GET "/api/v1/sales/{id}/waiting-room/events";
    // Orders.
    ORDER = POST "/api/v1/sales/{id}/orders";
    MY_ORDERS = GET "/api/v1/sales/{id}/orders/mine";
    ORDER_STATUS = GET "/api/v1/orders/{id}";
    ORDER_EVENTS = GET "/api/v1/orders/{id}/events";
    CANCEL = POST "/api/v1/orders/{id}/cancel";
    // After the order.
    PAY = POST "/api/v1/orders/{id}/payment";
    REFUND = POST "/api/v1/orders/{id}/refund";
    TIMELINE = GET "/api/v1/orders/{id}/timeline";
    REFUNDS = GET "/api/v1/refunds";
    APPROVE_REFUND = POST "/api/v1/refunds/{id}/approve";
    DENY_REFUND = POST "/api/v1/refunds/{id}/deny";
    GIVE_BALANCE = POST "/api/v1/users/{id}/balance";
    ADD_COUPON = POST "/api/v1/coupons";
    // Repairs.
    WORKERS = GET "/api/v1/workers";
    CHANGE_WORKERS = PUT "/api/v1/workers";
    REBUILD = POST "/api/v1/sales/{id}/rebuild";
    RECONCILE = POST "/api/v1/sales/{id}/reconcile";
    PARKED = GET "/api/v1/parked";
    DISCARD_PARKED = DELETE "/api/v1/parked/{id}";
    REDRIVE_PARKED = POST "/api/v1/parked/{id}/redrive";
    // Events.
    OUTBOX = GET "/api/v1/outbox";
    OUTBOX_EVENT = GET "/api/v1/outbox/{id}";
    DISCARD_EVENT = DELETE "/api/v1/outbox/{id}";
    REDRIVE_EVENT = POST "/api/v1/outbox/{id}/redrive";
    SUBSCRIBER = GET "/api/v1/subscribers/{name}";
    UNSUBSCRIBE = DELETE "/api/v1/subscribers/{name}";
    REDRIVE_SUBSCRIBER = POST "/api/v1/subscribers/{name}/redrive";
    // Others.
    PROBLEMS = GET "/problems";
    PROBLEM = GET "/problems/{slug}";
    OPENAPI = GET "/openapi.json";
    ALIVE = GET "/livez";
    READINESS = GET "/readyz";
    METRICS = GET "/metrics";
}
