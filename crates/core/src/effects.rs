//! Whether each refund event has had one effect at each subscriber that is part of seckill: what the ledger says has happened,
//! beside what the subscribers have written. Plain rules over counts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Cents of a paid order for one point of the subscriber `loyalty`.
pub const CENTS_PER_POINT: u64 = 100;

/// The parts that [`RefundEffects::set`] knows, beside the ledger itself: the subscribers that count by the type of the event.
const FUNNEL: &str = "funnel";
const NOTIFICATIONS: &str = "notifications";
const RESTOCK: &str = "restock";
const LOYALTY: &str = "loyalty";

const REQUESTED: &str = "refund.requested";
const TRANSFERRED: &str = "refund.transferred";
const SUCCEEDED: &str = "refund.succeeded";
const DENIED: &str = "refund.denied";

/// Points for an order of this amount, in hundredths. A part of a point counts as none.
pub fn points_for(amount_cents: u64) -> i64 {
    i64::try_from(amount_cents / CENTS_PER_POINT).unwrap_or(i64::MAX)
}

/// The counts of one sale with payments, all of one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RefundEffects {
    /// Parts of the money that have gone back, by the entries: one `refund.transferred` each.
    pub transfers: u64,
    /// Refunds that have come to their end: one `refund.succeeded` each.
    pub succeeded: u64,
    /// Refunds that run or wait for a human.
    pub open_refunds: u64,
    /// Orders that were active and were cancelled or refunded.
    pub ended_orders: u64,
    /// Of these, orders that `restock` has put back on sale.
    pub returned_orders: u64,
    /// Points for the orders that are paid and not refunded, in any sale, of all users with an order in this one.
    pub points_due: i64,
    /// The points that `loyalty` has counted for these users.
    pub points: i64,
    /// Orders that `funnel` has counted, by the type of the refund event.
    pub funnel: BTreeMap<String, u64>,
    /// Notices that `notifications` has written for the sale's orders, by the type of the refund event.
    pub notifications: BTreeMap<String, u64>,
}

/// One comparison: what a subscriber has done about events of one type, and what it must have done once no event is on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EffectCheck {
    /// The subscriber's name.
    pub subscriber: String,
    /// The type of the events; two types where their effects cannot be told apart.
    pub event: String,
    /// Effects that there must be. For `loyalty` these are points.
    pub expected: i64,
    /// Effects that there are.
    pub actual: i64,
}

impl RefundEffects {
    /// Takes in a count under the name of the field, with an empty `part`; or, where `part` is `funnel` or `notifications`, under the
    /// type of the event. `false`: there is no such count, or the number cannot be one. That is how the ledgers fill it.
    #[must_use]
    pub fn set(&mut self, part: &str, name: &str, number: i64) -> bool {
        let count = u64::try_from(number).ok();
        let field = match (part, name) {
            ("", "points_due") => return store(&mut self.points_due, Some(number)),
            ("", "points") => return store(&mut self.points, Some(number)),
            ("", "transfers") => &mut self.transfers,
            ("", "succeeded") => &mut self.succeeded,
            ("", "open_refunds") => &mut self.open_refunds,
            ("", "ended_orders") => &mut self.ended_orders,
            ("", "returned_orders") => &mut self.returned_orders,
            (FUNNEL, event) => self.funnel.entry(event.to_owned()).or_default(),
            (NOTIFICATIONS, event) => self.notifications.entry(event.to_owned()).or_default(),
            _ => return false,
        };
        store(field, count)
    }

    /// Every comparison. While events are on their way, fewer effects than expected are no fault. Once none is, all of them agree.
    ///
    /// A refund that was denied may be asked for again, and its saga is then written over. So the requests are those refunds that have
    /// ended or are open, and the denials, of which the subscriber's own count is the only one. That a refund was held, approved or
    /// denied leaves no lasting mark in the ledger, so there the two subscribers that count such events are compared with each other.
    pub fn checks(&self) -> Vec<EffectCheck> {
        let mut checks = Vec::new();
        for (subscriber, counts) in [(FUNNEL, &self.funnel), (NOTIFICATIONS, &self.notifications)] {
            let requested = self.succeeded + self.open_refunds + of(counts, DENIED);
            for (event, expected) in
                [(REQUESTED, requested), (TRANSFERRED, self.transfers), (SUCCEEDED, self.succeeded)]
            {
                checks.push(check(subscriber, event, signed(expected), signed(of(counts, event))));
            }
        }
        for event in ["refund.held", "refund.approved", DENIED] {
            let (expected, actual) = (of(&self.funnel, event), of(&self.notifications, event));
            checks.push(check(NOTIFICATIONS, event, signed(expected), signed(actual)));
        }
        let (ended, returned) = (signed(self.ended_orders), signed(self.returned_orders));
        checks.push(check(RESTOCK, "order.cancelled, refund.succeeded", ended, returned));
        checks.push(check(LOYALTY, "order.paid, refund.succeeded", self.points_due, self.points));
        checks
    }
}

fn store<T>(field: &mut T, value: Option<T>) -> bool {
    match value {
        Some(value) => {
            *field = value;
            true
        }
        None => false,
    }
}

fn of(counts: &BTreeMap<String, u64>, event: &str) -> u64 {
    counts.get(event).copied().unwrap_or_default()
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn check(subscriber: &str, event: &str, expected: i64, actual: i64) -> EffectCheck {
    EffectCheck { subscriber: subscriber.to_owned(), event: event.to_owned(), expected, actual }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three refunds have ended, one of them in two parts and one after it had been denied once; one more is held.
    fn settled() -> RefundEffects {
        let counts: BTreeMap<String, u64> = [
            (REQUESTED, 5),
            ("refund.held", 2),
            ("refund.approved", 3),
            (DENIED, 1),
            (TRANSFERRED, 4),
            (SUCCEEDED, 3),
        ]
        .map(|(event, count)| (event.to_owned(), count))
        .into();
        RefundEffects {
            transfers: 4,
            succeeded: 3,
            open_refunds: 1,
            ended_orders: 5,
            returned_orders: 5,
            points_due: 24,
            points: 24,
            funnel: counts.clone(),
            notifications: counts,
        }
    }

    /// The comparisons that fail: subscriber, event, by how many too many.
    fn wrong(effects: &RefundEffects) -> Vec<(String, String, i64)> {
        let checks = effects.checks().into_iter().filter(|check| check.actual != check.expected);
        checks.map(|check| (check.subscriber, check.event, check.actual - check.expected)).collect()
    }

    #[test]
    fn where_each_event_had_one_effect_nothing_is_wrong() {
        assert_eq!(wrong(&settled()), []);
        assert_eq!(wrong(&RefundEffects::default()), []);
        assert_eq!(settled().checks().len(), 11);
    }

    #[test]
    fn an_effect_twice_and_an_effect_too_few_are_both_seen() {
        for event in [REQUESTED, TRANSFERRED, SUCCEEDED] {
            for by in [1, -1] {
                let mut effects = settled();
                let count = effects.funnel.get_mut(event).unwrap();
                *count = count.checked_add_signed(by).unwrap();
                assert_eq!(wrong(&effects), [("funnel".to_owned(), event.to_owned(), by)]);
                let mut effects = settled();
                let count = effects.notifications.get_mut(event).unwrap();
                *count = count.checked_add_signed(by).unwrap();
                assert_eq!(wrong(&effects), [("notifications".to_owned(), event.to_owned(), by)]);
            }
        }
        let mut effects = settled();
        (effects.returned_orders, effects.points) = (6, 23);
        let seen: Vec<_> = wrong(&effects).into_iter().map(|(name, _, by)| (name, by)).collect();
        assert_eq!(seen, [("restock".to_owned(), 1), ("loyalty".to_owned(), -1)]);
    }

    #[test]
    fn a_decision_that_only_one_of_the_two_has_counted_is_seen() {
        for event in ["refund.held", "refund.approved", DENIED] {
            let mut effects = settled();
            *effects.notifications.get_mut(event).unwrap() += 1;
            let seen = ("notifications".to_owned(), event.to_owned(), 1);
            assert!(wrong(&effects).contains(&seen), "{event}: {:?}", wrong(&effects));
        }
    }

    #[test]
    fn counts_come_in_by_their_names() {
        let mut effects = RefundEffects::default();
        for (name, number) in [
            ("transfers", 4),
            ("succeeded", 3),
            ("open_refunds", 1),
            ("ended_orders", 5),
            ("returned_orders", 5),
            ("points_due", 24),
            ("points", 24),
        ] {
            assert!(effects.set("", name, number), "{name}");
        }
        for (event, count) in settled().funnel {
            assert!(effects.set("funnel", &event, count.cast_signed()));
            assert!(effects.set("notifications", &event, count.cast_signed()));
        }
        assert_eq!(effects, settled());
        assert!(effects.set("", "points", -3) && effects.points == -3);
        for (part, name, number) in [("", "transfers", -1), ("", "others", 1), ("crm", "refund.held", 1)] {
            assert!(!effects.set(part, name, number), "{part} {name} {number}");
        }
    }

    #[test]
    fn a_point_is_for_each_whole_hundred_cents() {
        assert_eq!([0, 99, 100, 1_999].map(points_for), [0, 0, 1, 19]);
    }
}
