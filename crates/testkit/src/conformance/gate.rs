//! What a [`StockGate`](seckill_core::StockGate) has to do, one sale and one lane at a time, and under a crowd.

use std::time::Duration;

use seckill_core::{
    Claim, Decision, Fault, GateLevel, Holding, MAX_BATCH_ORDERS, Mode, NewSale, Reservation, ReservationId,
    Reserved, SaleId, UserId,
};

use super::support::{DEADLINE, Subject, reserve};
use crate::eventually;
use crate::fixtures::{EPOCH, claim, claim_of, claims, level, new_sale, open, open_sale};

/// A gate that knows nothing of a sale says so.
pub async fn an_empty_gate_has_no_level(Subject { backend, .. }: Subject) {
    let sale = backend.ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
    backend.gate.ping().await.unwrap();
    assert_eq!(backend.gate.level(sale.id).await.unwrap(), None);
    assert_eq!(backend.gate.holdings(UserId(1), &[sale.id]).await.unwrap(), []);
}

/// Opening is idempotent: it never gives sold units back.
pub async fn opening_again_fills_once(Subject { backend, .. }: Subject) {
    let sale = backend.ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
    backend.gate.open(&sale, EPOCH).await.unwrap();
    let fresh = GateLevel { epoch: EPOCH, remaining: 5, orders: 0, pending_orders: 0 };
    assert_eq!(level(&backend, sale.id).await, fresh);
    reserve(&backend, &sale, &claims(0..2)).await;
    backend.gate.open(&sale, EPOCH).await.unwrap();
    let used = GateLevel { remaining: 3, orders: 2, pending_orders: 2, ..fresh };
    assert_eq!(level(&backend, sale.id).await, used);
}

/// A later opening fills the gate, an earlier one that comes late leaves it alone.
pub async fn an_older_opening_changes_nothing(Subject { backend, .. }: Subject) {
    let sale = backend.ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
    backend.gate.open(&sale, 2).await.unwrap();
    backend.gate.reserve(sale.id, 2, &[], &claims(0..2)).await.unwrap();
    backend.gate.open(&sale, 1).await.unwrap();
    let before = level(&backend, sale.id).await;
    assert_eq!((before.epoch, before.remaining), (2, 3));
    backend.gate.open(&sale, 3).await.unwrap();
    let after = level(&backend, sale.id).await;
    assert_eq!((after.epoch, after.remaining), (3, 5));
    let reserved = backend.gate.reserve(sale.id, 3, &[], &[claim(9)]).await.unwrap();
    assert_eq!(reserved.decisions, [Decision::Reserved]);
}

/// Every claim of a batch sees what the ones before it have left.
pub async fn claims_are_decided_in_order(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 5, 2).await;
    let batch =
        [claim_of(1, 2), claim_of(2, 2), claim(1), claim_of(3, 3), claim_of(4, 2), claim(5), claim(6)];
    let Reserved { decisions, reservation } = reserve(&backend, &sale, &batch).await;
    assert_eq!(decisions.len(), batch.len());
    assert_eq!(decisions[..2], [Decision::Reserved, Decision::Reserved]);
    let Decision::Replayed { order_id, quantity, accepted_at, .. } = decisions[2] else {
        panic!("the second claim of a user was {:?}", decisions[2]);
    };
    assert_eq!((order_id, quantity, accepted_at), (batch[0].order_id, 2, batch[0].accepted_at));
    assert_eq!(
        decisions[3..],
        [
            Decision::OverLimit { limit: 2 },
            Decision::SoldOut { remaining: 1 },
            Decision::Reserved,
            Decision::SoldOut { remaining: 0 },
        ]
    );
    let now = GateLevel { epoch: EPOCH, remaining: 0, orders: 3, pending_orders: 3 };
    assert_eq!(level(&backend, sale.id).await, now);
    let stranded = backend.gate.stranded(sale.id, Duration::ZERO, 10).await.unwrap();
    assert_eq!(stranded.iter().map(|entry| Some(entry.id)).collect::<Vec<_>>(), [reservation]);
    assert_eq!(by_id(&stranded[0].claims), by_id(&[batch[0], batch[1], batch[5]]));
}

/// Too early and too late are two decisions, and neither deducts anything.
pub async fn nothing_is_reserved_outside_the_window(Subject { backend, .. }: Subject) {
    let hour = chrono::Duration::hours(1);
    let early = new_sale(5, 1);
    let early = NewSale { starts_at: early.starts_at + hour * 2, ends_at: early.ends_at + hour * 2, ..early };
    let late = new_sale(5, 1);
    let late = NewSale { starts_at: late.starts_at - hour * 2, ends_at: late.ends_at - hour * 2, ..late };
    for (new, decision) in [(early, Decision::NotOpen), (late, Decision::Closed)] {
        let sale = open(&backend, &new).await;
        let reserved = reserve(&backend, &sale, &[claim(1)]).await;
        assert_eq!(reserved, Reserved { decisions: vec![decision], reservation: None });
        let untouched = GateLevel { epoch: EPOCH, remaining: 5, orders: 0, pending_orders: 0 };
        assert_eq!(level(&backend, sale.id).await, untouched);
    }
}

/// Same request, same answer, also when the sale has ended in between.
pub async fn after_the_close_a_buyer_still_gets_the_order(Subject { backend, .. }: Subject) {
    let mine = claim(1);
    // The window has to be short, for the sake of the test, and long enough to get in, on whatever machine this is.
    let mut window = chrono::Duration::seconds(1);
    let sale = loop {
        let new = NewSale { ends_at: seckill_core::now() + window, ..new_sale(5, 1) };
        let sale = open(&backend, &new).await;
        if reserve(&backend, &sale, &[mine]).await.decisions == [Decision::Reserved] {
            break sale;
        }
        window = window * 2;
    };
    // Wants more than one may have, so that nothing is sold to it meanwhile.
    let outsider = claim_of(2, 2);
    eventually(DEADLINE, async || match reserve(&backend, &sale, &[outsider]).await.decisions[..] {
        [Decision::Closed] => Ok(()),
        ref other => Err(other.to_vec()),
    })
    .await;
    let before = level(&backend, sale.id).await;
    let decisions = reserve(&backend, &sale, &[claim(1), mine]).await.decisions;
    assert_eq!(decisions, [replayed(&mine, true), Decision::Reserved]);
    assert_eq!(level(&backend, sale.id).await, before);
}

/// A lane that did not hear the answer asks again.
pub async fn the_same_call_again_deducts_once(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 5, 2).await;
    let batch = [claim_of(1, 2), claim_of(2, 2), claim_of(3, 2)];
    let first = reserve(&backend, &sale, &batch).await;
    let before = level(&backend, sale.id).await;
    let again = reserve(&backend, &sale, &batch).await;
    assert_eq!(again.decisions, first.decisions);
    assert!(
        again.reservation.is_none_or(|id| Some(id) == first.reservation),
        "the pending entry is the one of the first call"
    );
    assert_eq!(level(&backend, sale.id).await, before);
    let stranded = backend.gate.stranded(sale.id, Duration::ZERO, 10).await.unwrap();
    assert_eq!(stranded.iter().map(|entry| Some(entry.id)).collect::<Vec<_>>(), [first.reservation]);

    backend.gate.settle(sale.id, &[stranded[0].id]).await.unwrap();
    let late = reserve(&backend, &sale, &batch).await;
    assert_eq!(late.decisions, first.decisions);
    let settled = level(&backend, sale.id).await;
    assert_eq!(settled, GateLevel { pending_orders: 0, ..before }, "what is settled is not pending again");
}

/// However it came there, an order id is one order.
pub async fn an_order_id_twice_in_a_batch_deducts_once(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 5, 2).await;
    let twice = claim_of(1, 2);
    let reserved = reserve(&backend, &sale, &[twice, claim(2), twice]).await;
    assert_eq!(reserved.decisions, [Decision::Reserved; 3]);
    let now = GateLevel { epoch: EPOCH, remaining: 2, orders: 2, pending_orders: 2 };
    assert_eq!(level(&backend, sale.id).await, now);
}

/// Whatever the retry wants, the user gets the first order; it is called pending until it is settled.
pub async fn a_retry_gets_the_first_order(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 2, 2).await;
    let first = claim(1);
    let reservation = reserve(&backend, &sale, &[first]).await.reservation.unwrap();
    for retry in [claim(1), claim_of(1, 2)] {
        let reserved = reserve(&backend, &sale, &[retry]).await;
        let expected = Reserved { decisions: vec![replayed(&first, true)], reservation: None };
        assert_eq!(reserved, expected);
    }
    backend.gate.settle(sale.id, &[reservation]).await.unwrap();
    assert_eq!(reserve(&backend, &sale, &[claim(2)]).await.decisions, [Decision::Reserved]);
    let sold_out = reserve(&backend, &sale, &[claim(3), claim(1)]).await;
    assert_eq!(sold_out.decisions, [Decision::SoldOut { remaining: 0 }, replayed(&first, false)]);
}

/// No data, no order: neither invented nor refused for good.
pub async fn an_unknown_sale_fails_closed(Subject { backend, .. }: Subject) {
    let sale = backend.ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
    let refused = backend.gate.reserve(sale.id, EPOCH, &[], &[claim(1)]).await;
    assert!(matches!(refused, Err(Fault::Lost { .. })), "{refused:?}");
    assert_eq!(backend.gate.level(sale.id).await.unwrap(), None, "the refusal has left something behind");
}

/// A gateway that missed a filling of the gate, or a gate that lost its latest one, sells nothing.
pub async fn another_epoch_fails_closed(Subject { backend, .. }: Subject) {
    let sale = backend.ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
    backend.gate.open(&sale, 2).await.unwrap();
    let mine = claim(1);
    let reservation = backend.gate.reserve(sale.id, 2, &[], &[mine]).await.unwrap().reservation.unwrap();
    let before = level(&backend, sale.id).await;
    for epoch in [1, 3] {
        let refused = backend.gate.reserve(sale.id, epoch, &[reservation], &[claim(2), mine]).await;
        assert!(matches!(refused, Err(Fault::Lost { .. })), "{refused:?}");
        assert_eq!(level(&backend, sale.id).await, before);
    }
}

/// Settling takes exactly the named entries out of the log, and nothing from the stock or the buyers.
pub async fn settling_empties_the_pending_log(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 5, 1).await;
    let (one, two) = (claim(1), claim(2));
    let first = reserve(&backend, &sale, &[one]).await.reservation.unwrap();
    let second = reserve(&backend, &sale, &[two]).await.reservation.unwrap();
    let unknown = ReservationId { millis: 1, sequence: 0 };
    backend.gate.settle(sale.id, &[first, unknown]).await.unwrap();
    // Again, as after an answer that was lost; and nothing at all.
    backend.gate.settle(sale.id, &[first]).await.unwrap();
    backend.gate.settle(sale.id, &[]).await.unwrap();
    let stranded = backend.gate.stranded(sale.id, Duration::ZERO, 10).await.unwrap();
    assert_eq!(stranded, [Reservation { id: second, claims: vec![two] }]);
    let now = GateLevel { epoch: EPOCH, remaining: 3, orders: 2, pending_orders: 1 };
    assert_eq!(level(&backend, sale.id).await, now);
    let decisions = reserve(&backend, &sale, &[claim(1), claim(2)]).await.decisions;
    assert_eq!(decisions, [replayed(&one, false), replayed(&two, true)]);
}

/// The lane's usual way to settle.
pub async fn settled_entries_ride_along_with_a_reserve(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 5, 1).await;
    let first = claim(1);
    let settled = reserve(&backend, &sale, &[first]).await.reservation.unwrap();
    let second = claim(2);
    let reserved = backend.gate.reserve(sale.id, EPOCH, &[settled], &[claim(1), second]).await.unwrap();
    assert_eq!(reserved.decisions, [replayed(&first, false), Decision::Reserved]);
    let stranded = backend.gate.stranded(sale.id, Duration::ZERO, 10).await.unwrap();
    assert_eq!(stranded, [Reservation { id: reserved.reservation.unwrap(), claims: vec![second] }]);

    let nothing = backend.gate.reserve(sale.id, EPOCH, &[stranded[0].id], &[]).await.unwrap();
    assert_eq!(nothing, Reserved { decisions: vec![], reservation: None });
    let now = GateLevel { epoch: EPOCH, remaining: 3, orders: 2, pending_orders: 0 };
    assert_eq!(level(&backend, sale.id).await, now);
}

/// The recoverer reads the log from its old end, in bites, and reading changes nothing.
pub async fn stranded_reservations_come_oldest_first(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 100, 1).await;
    let mut entries = Vec::new();
    for user in 0..5 {
        let claims = vec![claim(2 * user), claim(2 * user + 1)];
        let id = reserve(&backend, &sale, &claims).await.reservation.unwrap();
        entries.push(Reservation { id, claims });
    }
    let before = level(&backend, sale.id).await;
    assert_eq!(before.pending_orders, 10);
    for limit in [3, 5, 100] {
        let stranded = backend.gate.stranded(sale.id, Duration::ZERO, limit).await.unwrap();
        let ids: Vec<_> = stranded.iter().map(|entry| entry.id).collect();
        let expected: Vec<_> = entries.iter().take(limit).map(|entry| entry.id).collect();
        assert_eq!(ids, expected);
        for (entry, expected) in stranded.iter().zip(&entries) {
            assert_eq!(by_id(&entry.claims), by_id(&expected.claims));
        }
    }
    assert_eq!(level(&backend, sale.id).await, before);
}

/// A reservation whose lane is still at work is left to it.
pub async fn a_reservation_is_stranded_once_it_is_old_enough(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 5, 1).await;
    let id = reserve(&backend, &sale, &[claim(1)]).await.reservation.unwrap();
    let hour = Duration::from_secs(3600);
    assert_eq!(backend.gate.stranded(sale.id, hour, 10).await.unwrap(), []);
    let age = Duration::from_millis(500);
    let stranded = eventually(DEADLINE, async || {
        let stranded = backend.gate.stranded(sale.id, age, 10).await.map_err(|fault| fault.to_string())?;
        if stranded.is_empty() { Err("no stranded reservation".to_owned()) } else { Ok(stranded) }
    })
    .await;
    assert_eq!(stranded.iter().map(|entry| entry.id).collect::<Vec<_>>(), [id]);
    let unknown = backend.gate.stranded(SaleId(sale.id.0 + 1_000), Duration::ZERO, 10).await.unwrap();
    assert_eq!(unknown, []);
}

/// A poll for an order finds it at the gate before the ledger has it.
pub async fn holdings_are_listed_by_user_and_sale(Subject { backend, .. }: Subject) {
    let (one, two) = (open_sale(&backend, 5, 2).await, open_sale(&backend, 5, 2).await);
    let unopened = backend.ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
    let (in_one, in_two, other) = (claim_of(1, 2), claim(1), claim(2));
    let settled = reserve(&backend, &one, &[in_one, other]).await.reservation.unwrap();
    reserve(&backend, &two, &[in_two]).await;
    backend.gate.settle(one.id, &[settled]).await.unwrap();
    let holding = |sale_id, claim: &Claim| Holding {
        sale_id,
        order_id: claim.order_id,
        quantity: claim.quantity,
        accepted_at: claim.accepted_at,
    };
    let holdings = async |user, sales: &[SaleId]| {
        let mut holdings = backend.gate.holdings(UserId(user), sales).await.unwrap();
        holdings.sort_by_key(|holding| holding.sale_id);
        holdings
    };
    let mine = [holding(one.id, &in_one), holding(two.id, &in_two)];
    assert_eq!(holdings(1, &[one.id, two.id, unopened.id]).await, mine);
    assert_eq!(holdings(1, &[two.id]).await, mine[1..]);
    assert_eq!(holdings(2, &[one.id, two.id]).await, [holding(one.id, &other)]);
    assert_eq!(holdings(3, &[one.id, two.id]).await, []);
    assert_eq!(holdings(1, &[]).await, []);
}

/// One user may hold an order in each of two sales, and one sale's stock is its own.
pub async fn sales_do_not_touch_each_other(Subject { backend, .. }: Subject) {
    let (one, two) = (open_sale(&backend, 1, 1).await, open_sale(&backend, 2, 1).await);
    for sale in [&one, &two] {
        assert_eq!(reserve(&backend, sale, &[claim(1)]).await.decisions, [Decision::Reserved]);
    }
    assert_eq!((level(&backend, one.id).await.remaining, level(&backend, two.id).await.remaining), (0, 1));
}

/// The ends of the ranges: 64-bit user ids, the largest stock, the largest batch.
pub async fn the_largest_values_come_back_as_they_went_in(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, NewSale::MAX_STOCK, NewSale::MAX_PER_USER_LIMIT).await;
    let users = u64::MAX - (MAX_BATCH_ORDERS as u64 - 1)..=u64::MAX;
    let batch: Vec<_> = users.map(|user| claim_of(user, NewSale::MAX_PER_USER_LIMIT)).collect();
    let reserved = reserve(&backend, &sale, &batch).await;
    assert_eq!(reserved.decisions, vec![Decision::Reserved; MAX_BATCH_ORDERS]);
    let taken = NewSale::MAX_PER_USER_LIMIT * u32::try_from(MAX_BATCH_ORDERS).unwrap();
    assert_eq!(level(&backend, sale.id).await.remaining, NewSale::MAX_STOCK - taken);
    let stranded = backend.gate.stranded(sale.id, Duration::ZERO, 10).await.unwrap();
    assert_eq!(stranded.len(), 1);
    assert_eq!(by_id(&stranded[0].claims), by_id(&batch));
    let retry = reserve(&backend, &sale, &[claim(u64::MAX)]).await;
    assert_eq!(retry.decisions, [replayed(&batch[MAX_BATCH_ORDERS - 1], true)]);
    let holdings = backend.gate.holdings(UserId(u64::MAX), &[sale.id]).await.unwrap();
    assert_eq!(
        holdings.iter().map(|holding| holding.order_id).collect::<Vec<_>>(),
        [batch[MAX_BATCH_ORDERS - 1].order_id]
    );
}

fn replayed(first: &Claim, pending: bool) -> Decision {
    Decision::Replayed {
        order_id: first.order_id,
        quantity: first.quantity,
        pending,
        accepted_at: first.accepted_at,
    }
}

fn by_id(claims: &[Claim]) -> Vec<Claim> {
    let mut claims = claims.to_vec();
    claims.sort_by_key(|claim| claim.order_id);
    claims
}
