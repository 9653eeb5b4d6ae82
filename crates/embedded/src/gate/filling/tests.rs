//! The decisions of one filling: case by case, and against a model that only keeps a list.

use proptest::prelude::*;
use seckill_core::{Mode, SaleId};
use uuid::Uuid;

use super::*;

const LIMIT: u32 = 2;

fn moment(second: i64) -> Timestamp {
    Timestamp::from_timestamp_millis(1_700_000_000_000 + second * 1_000).unwrap()
}

/// Open from second 0 up to, not including, second 10.
fn filling(stock: u32) -> Filling {
    let sale = Sale {
        id: SaleId(1),
        name: "phone".into(),
        product: "phone".into(),
        stock,
        sold: 0,
        orders: 0,
        rejected_orders: 0,
        payment_window_ms: None,
        admission: seckill_core::Admission::default(),
        ended: seckill_core::Ended::default(),
        price_cents: 1,
        currency: "USD".into(),
        per_user_limit: LIMIT,
        starts_at: moment(0),
        ends_at: moment(10),
        mode: Mode::Queue,
        epoch: 0,
        state: seckill_core::SaleState::Open,
        rebuild: None,
        open_epoch: 0,
        created_at: moment(0),
        paused: false,
        revision: 0,
    };
    Filling::new(&sale, 1)
}

fn claim(order: u128, user: u64, quantity: u32) -> Claim {
    let order_id = OrderId(Uuid::from_u128(order));
    Claim { order_id, user_id: UserId(user), quantity, accepted_at: moment(1) }
}

fn id(millis: u64) -> ReservationId {
    ReservationId { millis, sequence: 0 }
}

fn replayed(claim: &Claim, pending: bool) -> Decision {
    let Claim { order_id, quantity, accepted_at, .. } = *claim;
    Decision::Replayed { order_id, quantity, pending, accepted_at }
}

#[test]
fn every_claim_is_decided_in_order() {
    let mut filling = filling(3);
    let first = claim(1, 1, 2);
    let claims = [first, claim(2, 1, 1), claim(3, 2, 3), claim(4, 3, 2), claim(5, 4, 1), claim(6, 5, 1)];
    let reserved = filling.reserve(id(1), moment(0), &claims);
    let expected = [
        Decision::Reserved,
        replayed(&first, false),
        Decision::OverLimit { limit: LIMIT },
        Decision::SoldOut { remaining: 1 },
        Decision::Reserved,
        Decision::SoldOut { remaining: 0 },
    ];
    assert_eq!((reserved.decisions.as_slice(), reserved.reservation), (&expected[..], Some(id(1))));
    assert_eq!(filling.level(), GateLevel { epoch: 1, remaining: 0, orders: 2, pending_orders: 2 });
    let pending = filling.pending_since(1, 9);
    assert_eq!(pending, [Reservation { id: id(1), claims: vec![first, claim(5, 4, 1)] }]);
}

#[test]
fn a_call_that_comes_twice_deducts_once_and_writes_one_entry() {
    let mut filling = filling(5);
    let claims = [claim(1, 1, 1), claim(2, 2, 2)];
    let first = filling.reserve(id(1), moment(0), &claims);
    let level = filling.level();
    let second = filling.reserve(id(2), moment(0), &claims);
    assert_eq!(second, Reserved { decisions: first.decisions, reservation: None });
    assert_eq!((filling.level(), filling.pending_since(9, 9).len()), (level, 1));
}

#[test]
fn a_buyer_is_told_of_the_first_order_at_any_hour() {
    let mut filling = filling(5);
    let first = claim(1, 1, 1);
    filling.reserve(id(1), moment(9), std::slice::from_ref(&first));
    let late = [claim(2, 1, 2), claim(3, 2, 1)];
    let after = filling.reserve(id(2), moment(10), &late);
    assert_eq!(after.decisions, [replayed(&first, true), Decision::Closed]);
    filling.settle(1, &[id(1), id(7)]);
    let before = filling.reserve(id(3), moment(-1), &late);
    assert_eq!(before.decisions, [replayed(&first, false), Decision::NotOpen]);
    assert_eq!(before.reservation, None);
}

#[test]
fn only_old_entries_are_stranded_and_the_oldest_come_first() {
    let mut filling = filling(9);
    for at in [10, 20, 30] {
        filling.reserve(id(at), moment(0), &[claim(at.into(), at, 1)]);
    }
    let ids = |entries: Vec<Reservation>| entries.iter().map(|entry| entry.id.millis).collect::<Vec<_>>();
    assert_eq!(ids(filling.pending_since(9, 9)), [0_u64; 0]);
    assert_eq!(ids(filling.pending_since(20, 9)), [10, 20]);
    assert_eq!(ids(filling.pending_since(99, 2)), [10, 20]);
    filling.settle(99, &[id(10)]);
    assert_eq!(ids(filling.pending_since(99, 9)), [20, 30]);
}

#[test]
fn what_is_restored_is_set_aside_and_not_pending() {
    let mut filling = filling(9);
    filling.restore(&claim(1, 1, 2));
    filling.restore(&claim(2, 2, 3));
    assert_eq!(filling.level(), GateLevel { epoch: 1, remaining: 4, orders: 2, pending_orders: 0 });
    assert_eq!(filling.buyer(UserId(1)).map(|buyer| buyer.quantity), Some(2));
    filling.restore(&claim(3, 3, u32::MAX));
    assert_eq!(filling.level().remaining, 0);
}

#[test]
fn a_buyer_takes_little_memory() {
    assert!(size_of::<(UserId, Buyer)>() <= 40, "{}", size_of::<(UserId, Buyer)>());
}

/// What a filling does, told by a list of the orders that were reserved and whether their entry is settled.
#[derive(Default)]
struct Model {
    orders: Vec<(Claim, u64, bool)>,
}

impl Model {
    fn decide(&mut self, stock: u32, at: u64, now: Timestamp, claim: &Claim) -> Decision {
        let sold: u32 = self.orders.iter().map(|(order, ..)| order.quantity).sum();
        match self.orders.iter().find(|(order, ..)| order.user_id == claim.user_id) {
            Some((order, ..)) if order.order_id == claim.order_id => Decision::Reserved,
            Some((order, entry, settled)) => replayed(order, !settled && *entry != at),
            None if now < moment(0) => Decision::NotOpen,
            None if now >= moment(10) => Decision::Closed,
            None if claim.quantity > LIMIT => Decision::OverLimit { limit: LIMIT },
            None if sold + claim.quantity > stock => Decision::SoldOut { remaining: stock - sold },
            None => {
                self.orders.push((*claim, at, false));
                Decision::Reserved
            }
        }
    }
}

proptest! {
    #[test]
    fn a_filling_does_what_the_model_does(
        stock in 0_u32..12,
        calls in proptest::collection::vec(
            (
                proptest::collection::vec(1_u64..20, 0..3),
                -1_i64..12,
                proptest::collection::vec((0_u128..3, 0_u64..8, 1_u32..4), 0..6),
            ),
            1..20,
        ),
    ) {
        let mut filling = filling(stock);
        let mut model = Model::default();
        for (at, (settled, second, wishes)) in (1_u64..).zip(calls) {
            let settled: Vec<_> = settled.into_iter().filter(|entry| *entry < at).map(id).collect();
            // An order id belongs to one user.
            let claims: Vec<_> =
                wishes.iter().map(|&(nth, user, quantity)| claim(u128::from(user) * 10 + nth, user, quantity)).collect();
            for (_, entry, done) in &mut model.orders {
                *done |= settled.contains(&id(*entry));
            }
            let expected: Vec<_> =
                claims.iter().map(|claim| model.decide(stock, at, moment(second), claim)).collect();

            filling.settle(at, &settled);
            let reserved = filling.reserve(id(at), moment(second), &claims);

            prop_assert_eq!(reserved.decisions, expected);
            let of_entry = |wanted: u64| model.orders.iter().filter(move |(_, entry, _)| *entry == wanted);
            prop_assert_eq!(reserved.reservation, of_entry(at).next().map(|_| id(at)));
            let sold: u32 = model.orders.iter().map(|(order, ..)| order.quantity).sum();
            let pending: Vec<_> = model.orders.iter().filter(|(.., done)| !done).collect();
            let level = GateLevel {
                epoch: 1,
                remaining: stock - sold,
                orders: model.orders.len() as u64,
                pending_orders: pending.len() as u64,
            };
            prop_assert_eq!(filling.level(), level);
            let logged: Vec<_> =
                filling.pending_since(u64::MAX, usize::MAX).into_iter().flat_map(|entry| entry.claims).collect();
            let expected: Vec<_> = pending.iter().map(|(order, ..)| *order).collect();
            prop_assert_eq!(logged, expected);
        }
    }
}
