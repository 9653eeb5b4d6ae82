//! Events: what has become of orders, for whoever wants to know. CloudEvents 1.0 in JSON, so that readers in any language have
//! a library for the envelope. What each event carries is in `docs/events.md`.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{CancelReason, LedgerId, OrderId, OrderRecord, SaleId, Timestamp, UserId};

/// Orders in one event of many orders, at the most. The event's text then fits one write of the database connection.
pub const MAX_EVENT_ORDERS: usize = 100;

/// One event, as it is stored and published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    specversion: SpecVersion,
    /// Names the event; a UUIDv7. A reader that has seen it before has seen the same event before.
    pub id: Uuid,
    /// Whose event it is: `/seckill/` and the ledger id.
    pub source: String,
    /// What it is about: `sales/7` or `orders/` and the order id.
    pub subject: String,
    /// When the state was changed, by the clock of the process that changed it.
    pub time: Timestamp,
    datacontenttype: ContentType,
    /// The trace in which the state was changed, in the W3C's form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum SpecVersion {
    #[serde(rename = "1.0")]
    V1,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum ContentType {
    #[serde(rename = "application/json")]
    Json,
}

/// What happened: the event's type and its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum EventBody {
    /// Orders of a sale with a payment window are in the ledger.
    #[serde(rename = "order.committed")]
    OrderCommitted(Orders),
    /// An order is paid.
    #[serde(rename = "order.paid")]
    OrderPaid(Orders),
    /// Orders were cancelled; their units go back on sale.
    #[serde(rename = "order.cancelled")]
    OrderCancelled(Orders),
    /// A buyer wants money back, or it came too late.
    #[serde(rename = "refund.requested")]
    RefundRequested(Refund),
    /// A human is to decide.
    #[serde(rename = "refund.held")]
    RefundHeld(Refund),
    /// The money may go back.
    #[serde(rename = "refund.approved")]
    RefundApproved(Refund),
    /// A human refused.
    #[serde(rename = "refund.denied")]
    RefundDenied(Refund),
    /// One part of the money has gone back.
    #[serde(rename = "refund.transferred")]
    RefundTransferred(Refund),
    /// All of the money has gone back.
    #[serde(rename = "refund.succeeded")]
    RefundSucceeded(Refund),
}

impl EventBody {
    /// Every type of event.
    pub const KINDS: [&str; 9] = [
        "order.committed",
        "order.paid",
        "order.cancelled",
        "refund.requested",
        "refund.held",
        "refund.approved",
        "refund.denied",
        "refund.transferred",
        "refund.succeeded",
    ];

    /// The event's type, such as `order.paid`. The relay publishes under it, and subscribers choose by it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::OrderCommitted(_) => "order.committed",
            Self::OrderPaid(_) => "order.paid",
            Self::OrderCancelled(_) => "order.cancelled",
            Self::RefundRequested(_) => "refund.requested",
            Self::RefundHeld(_) => "refund.held",
            Self::RefundApproved(_) => "refund.approved",
            Self::RefundDenied(_) => "refund.denied",
            Self::RefundTransferred(_) => "refund.transferred",
            Self::RefundSucceeded(_) => "refund.succeeded",
        }
    }

    fn subject(&self) -> String {
        match self {
            Self::OrderCommitted(orders) | Self::OrderPaid(orders) | Self::OrderCancelled(orders) => {
                match orders.orders.as_slice() {
                    [one] => format!("orders/{}", one.order_id),
                    _ => format!("sales/{}", orders.sale_id),
                }
            }
            Self::RefundRequested(refund)
            | Self::RefundHeld(refund)
            | Self::RefundApproved(refund)
            | Self::RefundDenied(refund)
            | Self::RefundTransferred(refund)
            | Self::RefundSucceeded(refund) => format!("orders/{}", refund.order.order_id),
        }
    }
}

/// Orders of one sale that were changed in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// Their sale.
    pub sale_id: SaleId,
    /// Why they were cancelled, where they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<CancelReason>,
    /// 1 to [`MAX_EVENT_ORDERS`].
    pub orders: Vec<EventOrder>,
}

/// One order in an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventOrder {
    /// The order.
    pub order_id: OrderId,
    /// Whose it is.
    pub user_id: UserId,
    /// Its units.
    pub quantity: u32,
    /// Price of all its units in hundredths.
    pub amount_cents: u64,
    /// Which of the order's states this is, counted from 1. A reader that has seen a higher one is late for this.
    pub sequence: u32,
}

/// One step of giving an order's money back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refund {
    /// The sale of the order.
    pub sale_id: SaleId,
    /// The order.
    #[serde(flatten)]
    pub order: EventOrder,
    /// Whether the order's units go back on sale with this event.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub returns_units: bool,
    /// Why, in words of the one who asked or decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Which way the money went: `card`, `balance` or `coupon`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<String>,
}

impl From<&OrderRecord> for EventOrder {
    fn from(record: &OrderRecord) -> Self {
        Self {
            order_id: record.claim.order_id,
            user_id: record.claim.user_id,
            quantity: record.claim.quantity,
            amount_cents: record.amount_cents,
            sequence: record.sequence,
        }
    }
}

impl Event {
    /// A new event of this ledger, under a new id.
    pub fn new(ledger: LedgerId, body: EventBody) -> Self {
        Self {
            specversion: SpecVersion::V1,
            id: Uuid::now_v7(),
            source: source(ledger),
            subject: body.subject(),
            time: crate::now(),
            datacontenttype: ContentType::Json,
            traceparent: crate::current_trace().map(String::from),
            body,
        }
    }

    /// Events for orders of one sale, as many as the limit on orders asks for.
    pub fn of_orders(
        ledger: LedgerId,
        sale_id: SaleId,
        reason: Option<CancelReason>,
        orders: &[EventOrder],
        body: impl Fn(Orders) -> EventBody,
    ) -> Vec<Self> {
        let event = |orders: &[EventOrder]| {
            Self::new(ledger, body(Orders { sale_id, reason, orders: orders.to_vec() }))
        };
        orders.chunks(MAX_EVENT_ORDERS).map(event).collect()
    }

    /// What the bus carries.
    pub fn message(&self) -> EventMessage {
        EventMessage {
            id: self.id,
            kind: self.body.kind().to_owned(),
            text: serde_json::to_string(self).expect("an event is plain JSON"),
        }
    }
}

/// How the events of a ledger name their source.
fn source(ledger: LedgerId) -> String {
    format!("/seckill/{ledger}")
}

/// An event on its way: the text is carried as it is, so that a subscriber may read events that this program does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventMessage {
    /// The event's id.
    pub id: Uuid,
    /// The event's type.
    pub kind: String,
    /// The CloudEvent in JSON.
    pub text: String,
}

impl EventMessage {
    /// Reads the event.
    ///
    /// # Errors
    /// A sentence, where this program does not know such an event.
    pub fn event(&self) -> Result<Event, String> {
        serde_json::from_str(&self.text)
            .map_err(|error| format!("event {} of type {} cannot be read: {error}", self.id, self.kind))
    }
}

/// Which types of event a subscriber wants: `order.paid`, `refund.*`, `*.paid`, or `*` for all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EventPattern(String);

impl EventPattern {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether events of type `kind` are wanted.
    pub fn matches(&self, kind: &str) -> bool {
        let mut parts = kind.split('.');
        self.0 == "*"
            || self
                .0
                .split('.')
                .all(|wanted| parts.next().is_some_and(|part| wanted == "*" || wanted == part))
                && parts.next().is_none()
    }
}

impl std::str::FromStr for EventPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let word = |part: &str| {
            part == "*" || (!part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase()))
        };
        let parts: Vec<_> = text.split('.').collect();
        if text == "*" || (parts.len() == 2 && parts.iter().all(|part| word(part))) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("{text:?} is no pattern of event types; write one like order.paid, refund.* or *"))
    }
}

/// The name of a subscriber: what keeps its events while it is away.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SubscriberName(String);

impl SubscriberName {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for SubscriberName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=40).contains(&text.len()) && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("{text:?} is no name; allowed are 1 to 40 of the characters a-z, 0-9 and -"))
    }
}

impl std::fmt::Display for SubscriberName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paid() -> Event {
        let order = EventOrder {
            order_id: OrderId(Uuid::nil()),
            user_id: UserId(7),
            quantity: 2,
            amount_cents: 500,
            sequence: 2,
        };
        let orders = Orders { sale_id: SaleId(3), reason: None, orders: vec![order] };
        Event::new(LedgerId(Uuid::nil()), EventBody::OrderPaid(orders))
    }

    #[test]
    fn the_text_is_the_cloud_event_that_the_docs_show() {
        let event = paid();
        let message = event.message();
        let json: serde_json::Value = serde_json::from_str(&message.text).unwrap();
        let order = serde_json::json!({"order_id": Uuid::nil(), "user_id": 7, "quantity": 2, "amount_cents": 500, "sequence": 2});
        assert_eq!(
            json,
            serde_json::json!({
                "specversion": "1.0", "id": event.id, "source": format!("/seckill/{}", Uuid::nil()),
                "type": "order.paid", "subject": format!("orders/{}", Uuid::nil()), "time": event.time,
                "datacontenttype": "application/json", "data": {"sale_id": 3, "orders": [order]},
            })
        );
        assert_eq!(message.event().unwrap(), event);
        assert_eq!(message.kind, "order.paid");
    }

    #[test]
    fn many_orders_become_several_events() {
        let orders = vec![EventOrder::from(&record()); MAX_EVENT_ORDERS + 1];
        let events =
            Event::of_orders(LedgerId(Uuid::nil()), SaleId(1), None, &orders, EventBody::OrderCommitted);
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].subject, "sales/1");
        assert!(events[0].message().text.len() < 16_000, "{}", events[0].message().text.len());
    }

    fn record() -> OrderRecord {
        OrderRecord {
            sale_id: SaleId(1),
            claim: crate::Claim {
                order_id: OrderId(Uuid::max()),
                user_id: UserId(u64::MAX),
                quantity: 1_000,
                accepted_at: crate::now(),
            },
            amount_cents: 100_000_000_000_000,
            state: crate::OrderState::COMMITTED,
            cancelled: None,
            sequence: 1,
            committed_at: crate::now(),
        }
    }

    #[test]
    fn an_unknown_event_is_refused_with_its_type() {
        let mut message = paid().message();
        message.text = message.text.replace("order.paid", "order.shipped");
        message.kind = "order.shipped".into();
        assert!(message.event().unwrap_err().contains("order.shipped"));
    }

    #[test]
    fn patterns_choose_by_type() {
        let pattern = |text: &str| text.parse::<EventPattern>().unwrap();
        assert!(pattern("*").matches("order.paid"));
        assert!(pattern("refund.*").matches("refund.held"));
        assert!(!pattern("refund.*").matches("order.paid"));
        assert!(pattern("*.paid").matches("order.paid"));
        assert!(!pattern("order.paid").matches("order.paid.late"));
        for wrong in ["", "order", "order.", "order.#", "Order.paid", "a.b.c", "#"] {
            assert!(wrong.parse::<EventPattern>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_are_plain() {
        assert!("loyalty-2".parse::<SubscriberName>().is_ok());
        for wrong in ["", "Loyalty", "a b", "a.b", &"x".repeat(41)] {
            assert!(wrong.parse::<SubscriberName>().is_err(), "{wrong}");
        }
    }
}
