//! How an order batch is written as a message of the queue, and read from one. The same in every back end.
//!
//! A message is JSON that anyone can read, with its version in front:
//!
//! ```json
//! {"version":3,"ledger_id":"…","batch_id":"…","sale_id":1,"epoch":1,"set_aside_ms":1764290000120,
//!  "orders":[["0198…",42,1,1764290000123]]}
//! ```
//!
//! An order is a row of its id, its user, its units, and when its request was taken, in milliseconds since 1970. Up to version 2 it
//! was an object with the names of [`Claim`]'s fields and a time as text, which took twice the bytes and several times the work.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::{
    Claim, Epoch, LedgerId, MAX_BATCH_ORDERS, Marker, OrderBatch, OrderId, SaleId, Timestamp, TraceParent,
    UserId,
};

/// The version of the messages that this program writes, and the newest that it reads. Version 1 names neither its version nor
/// a ledger; version 2 has an object for each order.
pub const MESSAGE_VERSION: u64 = 3;

/// Seconds from 1970 to the first moment that a column for times cannot hold.
const YEAR_10000: i64 = 253_402_300_800;

/// A message that has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Whose orders they are; `None`: the message does not say, and counts as ours.
    pub ledger_id: Option<LedgerId>,
    /// What it carries.
    pub batch: OrderBatch,
}

/// Why a message cannot be handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// A newer program wrote it, in this version. It is left to programs that know that version.
    Newer(u64),
    /// It is none of seckill's messages; the sentence says why.
    Unreadable(String),
}

#[derive(Serialize)]
struct Envelope<'a> {
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ledger_id: Option<LedgerId>,
    batch_id: Uuid,
    sale_id: SaleId,
    epoch: Epoch,
    #[serde(skip_serializing_if = "Option::is_none")]
    set_aside_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    marker: &'a Option<Marker>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: &'a Option<TraceParent>,
    #[serde(serialize_with = "rows")]
    orders: &'a [Claim],
}

/// An order as it is written.
#[derive(Serialize)]
struct Row(OrderId, UserId, u32, i64);

fn rows<S: Serializer>(orders: &[Claim], serializer: S) -> Result<S::Ok, S::Error> {
    let row = |order: &Claim| {
        Row(order.order_id, order.user_id, order.quantity, order.accepted_at.timestamp_millis())
    };
    serializer.collect_seq(orders.iter().map(row))
}

/// Reads the time of an order: milliseconds since 1970, or up to version 2 a text. A derived reader of orders takes rows as well as
/// objects.
pub(crate) fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    struct Time;
    impl Visitor<'_> for Time {
        type Value = Timestamp;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("milliseconds since 1970, or a time as RFC 3339 has it")
        }

        fn visit_u64<E: de::Error>(self, millis: u64) -> Result<Timestamp, E> {
            let time = i64::try_from(millis).ok().and_then(Timestamp::from_timestamp_millis);
            time.ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(millis), &self))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
            text.parse().map_err(E::custom)
        }
    }
    deserializer.deserialize_any(Time)
}

/// Only these fields, whatever else a newer version holds.
#[derive(Deserialize)]
struct Version {
    #[serde(default = "first_version")]
    version: u64,
}

/// All that a message of this version holds, read in one go.
#[derive(Deserialize)]
struct Whole {
    #[serde(default = "first_version")]
    version: u64,
    #[serde(default)]
    ledger_id: Option<LedgerId>,
    batch_id: Uuid,
    sale_id: SaleId,
    epoch: Epoch,
    orders: Vec<Claim>,
    #[serde(default)]
    set_aside_ms: Option<u64>,
    #[serde(default)]
    marker: Option<Marker>,
    #[serde(default)]
    traceparent: Option<TraceParent>,
}

fn first_version() -> u64 {
    1
}

impl Message {
    /// The JSON of a message that carries `batch`.
    pub fn write(batch: &OrderBatch, ledger_id: Option<LedgerId>) -> String {
        let envelope = Envelope {
            version: MESSAGE_VERSION,
            ledger_id,
            batch_id: batch.batch_id,
            sale_id: batch.sale_id,
            epoch: batch.epoch,
            set_aside_ms: batch.set_aside_ms,
            marker: &batch.marker,
            traceparent: &batch.traceparent,
            orders: &batch.orders,
        };
        serde_json::to_string(&envelope).expect("its keys are strings and its values can all be written")
    }

    /// Reads a message of this version or an older one.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn read(body: &[u8]) -> Result<Self, Unread> {
        let whole: Whole = serde_json::from_slice(body).map_err(|error| {
            // What a newer version holds may have any form.
            match serde_json::from_slice(body) {
                Ok(Version { version }) if version > MESSAGE_VERSION => Unread::Newer(version),
                _ => Unread::Unreadable(error.to_string()),
            }
        })?;
        let Whole { version, ledger_id, batch_id, sale_id, epoch, orders, set_aside_ms, marker, traceparent } =
            whole;
        if version > MESSAGE_VERSION {
            return Err(Unread::Newer(version));
        }
        let batch = OrderBatch { batch_id, sale_id, epoch, orders, set_aside_ms, marker, traceparent };
        check(&batch).map_err(Unread::Unreadable)?;
        Ok(Self { ledger_id, batch })
    }

    /// Why the message does not belong to `ours`; `None`: it does.
    pub fn foreign_to(&self, ours: LedgerId) -> Option<String> {
        self.ledger_id
            .filter(|theirs| *theirs != ours)
            .map(|theirs| format!("its orders are of the ledger {theirs}; this is the ledger {ours}"))
    }
}

fn check(batch: &OrderBatch) -> Result<(), String> {
    let orders = batch.orders.len();
    if batch.marker.is_some() && orders > 0 {
        return Err(format!("a marker has no orders; this one has {orders}"));
    }
    if batch.marker.is_none() && !(1..=MAX_BATCH_ORDERS).contains(&orders) {
        return Err(format!("a batch has 1 to {MAX_BATCH_ORDERS} orders; this one has {orders}"));
    }
    // A time that the ledger cannot hold would have the whole batch refused for ever.
    match batch.orders.iter().find(|order| !(0..YEAR_10000).contains(&order.accepted_at.timestamp())) {
        Some(order) => Err(format!("order {} was accepted at {}", order.order_id, order.accepted_at)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OrderId, UserId, now};

    fn batch(orders: usize) -> OrderBatch {
        let order =
            || Claim { order_id: OrderId::generate(), user_id: UserId(1), quantity: 1, accepted_at: now() };
        OrderBatch::new(SaleId(1), 1, (0..orders).map(|_| order()).collect())
    }

    fn read(text: &str) -> Result<Message, Unread> {
        Message::read(text.as_bytes())
    }

    #[test]
    fn what_is_written_is_read() {
        let ours = LedgerId(Uuid::now_v7());
        for batch in [
            batch(1),
            batch(MAX_BATCH_ORDERS).set_aside_at(u64::MAX),
            OrderBatch::marker(SaleId(9), 3, Marker::new(77)),
        ] {
            for ledger_id in [None, Some(ours)] {
                let text = Message::write(&batch, ledger_id);
                assert!(text.starts_with(r#"{"version":3,"#), "{text}");
                let message = read(&text).unwrap();
                assert_eq!(message, Message { ledger_id, batch: batch.clone() });
                assert_eq!(message.foreign_to(ours), None);
            }
        }
    }

    #[test]
    fn messages_of_older_versions_are_read() {
        let ours = LedgerId(Uuid::now_v7());
        let orders = |orders: &str| {
            let ids = r#""batch_id":"0198c0de-0000-7000-8000-000000000001","sale_id":9,"epoch":2"#;
            format!(r#"{ids},"orders":[{orders}]"#)
        };
        let as_object = r#"{"order_id":"0198c0de-0000-7000-8000-000000000002","user_id":42,"quantity":1,"accepted_at":"2026-11-11T00:00:00.123Z"}"#;
        let as_row = r#"["0198c0de-0000-7000-8000-000000000002",42,1,1794355200123]"#;
        let batch = |text: &str| read(text).unwrap();
        let first = batch(&format!("{{{}}}", orders(as_object)));
        let second = batch(&format!(r#"{{"version":2,"ledger_id":"{ours}",{}}}"#, orders(as_object)));
        let third = batch(&format!(r#"{{"version":3,"ledger_id":"{ours}",{}}}"#, orders(as_row)));
        assert_eq!((first.ledger_id, second.ledger_id, third.ledger_id), (None, Some(ours), Some(ours)));
        assert_eq!(first.batch, second.batch);
        assert_eq!(second, third);
        assert_eq!(third.batch.orders[0].accepted_at.to_rfc3339(), "2026-11-11T00:00:00.123+00:00");
    }

    #[test]
    fn a_message_is_read_by_whoever_shows_its_batch() {
        let batch = batch(2);
        assert_eq!(serde_json::from_str::<OrderBatch>(&Message::write(&batch, None)).unwrap(), batch);
    }

    #[test]
    fn a_newer_version_is_known_as_such_whatever_else_it_holds() {
        let written = Message::write(&batch(1), None).replace("\"version\":3", "\"version\":4");
        for text in
            [&*written, r#"{"version":4}"#, r#"{"orders":{"in":"another form"},"ledger_id":7,"version":5}"#]
        {
            assert!(matches!(read(text), Err(Unread::Newer(4 | 5))), "{text}");
        }
    }

    #[test]
    fn another_ledger_is_named() {
        let [ours, theirs] = [LedgerId(Uuid::now_v7()), LedgerId(Uuid::now_v7())];
        let reason = read(&Message::write(&batch(1), Some(theirs))).unwrap().foreign_to(ours).unwrap();
        assert!(reason.contains(&theirs.to_string()) && reason.contains(&ours.to_string()), "{reason}");
    }

    proptest::proptest! {
        /// Of what is no message nothing is taken in, and no text makes the reader panic.
        #[test]
        fn a_damaged_message_is_read_as_it_is_or_not_at_all(
            at in 0usize..400, with in proptest::prelude::any::<u8>(), noise in ".{0,80}",
        ) {
            let whole = Message::write(&batch(2), None);
            let mut damaged = whole.clone().into_bytes();
            let at = at % damaged.len();
            damaged[at] = with;
            if let Ok(message) = Message::read(&damaged) {
                proptest::prop_assert!(message.batch.orders.len() <= MAX_BATCH_ORDERS);
                proptest::prop_assert!(message.batch.orders.iter().all(|order| order.accepted_at.timestamp() < YEAR_10000));
            }
            proptest::prop_assert!(Message::read(&whole.as_bytes()[..at]).is_err());
            let no_object = !noise.starts_with('{');
            proptest::prop_assert!(!no_object || Message::read(noise.as_bytes()).is_err());
        }
    }

    #[test]
    fn only_what_seckill_writes_is_read() {
        let year_10000 = |time: &str| {
            let ids = r#""batch_id":"0198c0de-0000-7000-8000-000000000001","sale_id":9,"epoch":2"#;
            format!(r#"{{{ids},"orders":[["0198c0de-0000-7000-8000-000000000002",42,1,{time}]]}}"#)
        };
        let mut crowded_marker = OrderBatch::marker(SaleId(1), 1, Marker::new(1));
        crowded_marker.orders = batch(1).orders;
        for (text, told) in [
            (Message::write(&batch(0), None), "a batch has 1 to 256 orders; this one has 0"),
            (Message::write(&batch(MAX_BATCH_ORDERS + 1), None), "this one has 257"),
            (Message::write(&crowded_marker, None), "a marker has no orders"),
            ("no json".to_owned(), "expected"),
            (r#"{"version":"two"}"#.to_owned(), "invalid type"),
            (year_10000("253402300800000"), "was accepted at"),
            (year_10000("\"+12026-11-11T00:00:00Z\""), "was accepted at"),
            (year_10000("18446744073709551615"), "milliseconds since 1970"),
            (year_10000("-1"), "milliseconds since 1970"),
            (year_10000("\"yesterday\""), "input contains invalid characters"),
        ] {
            match read(&text) {
                Err(Unread::Unreadable(reason)) => assert!(reason.contains(told), "{reason}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
}
