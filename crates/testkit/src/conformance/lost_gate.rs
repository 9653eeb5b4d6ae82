//! What a gate has to do so that it can be lost and filled again: it fails closed, gives out what it holds, takes a new filling
//! in one step, and knows how far the queue has got. How its data is lost is tested in the crate of each back end.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use seckill_core::{
    Backend, Claim, Decision, Epoch, Fault, GateCondition, GateLevel, Holder, KnownSales, Marker, Mode,
    OrderId, QueueProgress, Release, Sale, SaleId,
};
use uuid::Uuid;

use super::support::{DEADLINE, Subject, reserve};
use crate::eventually;
use crate::fixtures::{EPOCH, claim_of as claim, claims, level, new_sale, open_sale};

/// No pause between two markers.
const AT_ONCE: Duration = Duration::ZERO;
const LATER: Epoch = EPOCH + 1;

/// Whoever wants to know whether a gate can be used gets the reason why not.
pub async fn the_condition_says_what_is_wrong(Subject { backend, .. }: Subject) {
    let sale = backend.ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
    assert_eq!(condition(&backend, &sale, EPOCH).await, GateCondition::Missing);
    backend.gate.open(&sale, 2).await.unwrap();
    assert_eq!(condition(&backend, &sale, 2).await, GateCondition::Sound);
    for other in [1, 3] {
        assert_eq!(
            condition(&backend, &sale, other).await,
            GateCondition::OtherEpoch { epoch: 2, fenced: 0 }
        );
    }
}

/// A rebuild begins by stopping reservations of the old epoch; what the old gate holds is still there to be sent again.
pub async fn a_fence_stops_reservations_and_keeps_what_is_held(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 5, 1).await;
    let batch = claims(0..3);
    let pending = reserve(&backend, &sale, &batch).await.reservation.unwrap();
    let before = level(&backend, sale.id).await;
    // A fence for this epoch or an earlier one stops nothing.
    backend.gate.fence(sale.id, EPOCH).await.unwrap();
    assert_eq!(condition(&backend, &sale, EPOCH).await, GateCondition::Sound);

    backend.gate.fence(sale.id, LATER).await.unwrap();
    backend.gate.fence(sale.id, EPOCH).await.unwrap();
    // It stays on its epoch: its holders were set aside in that one.
    let fenced = GateCondition::OtherEpoch { epoch: EPOCH, fenced: LATER };
    assert_eq!(condition(&backend, &sale, EPOCH).await, fenced);
    assert_eq!(condition(&backend, &sale, LATER).await, fenced);
    for epoch in [EPOCH, LATER] {
        assert_lost(&backend.gate.reserve(sale.id, epoch, &[pending], &[claim(9, 1)]).await);
    }
    assert_eq!(level(&backend, sale.id).await, before);
    assert_eq!(orders(&holders(&backend, &sale, 100).await), by_order(&batch));
    assert_eq!(backend.gate.stranded(sale.id, Duration::ZERO, 10).await.unwrap()[0].id, pending);
    backend.gate.settle(sale.id, &[pending]).await.unwrap();
    assert_eq!(level(&backend, sale.id).await, GateLevel { pending_orders: 0, ..before });

    let unknown = SaleId(sale.id.0 + 1_000);
    backend.gate.fence(unknown, LATER).await.unwrap();
    assert_eq!(backend.gate.level(unknown).await.unwrap(), None);
}

/// Page by page everyone is seen, with all that is needed to send an order again.
pub async fn pages_of_holders_show_everyone(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 10_000, 2).await;
    let nobody = backend.gate.holders(sale.id, None, 10).await.unwrap();
    assert_eq!((nobody.holders, nobody.next), (vec![], None));
    let unknown = backend.gate.holders(SaleId(sale.id.0 + 1_000), None, 10).await.unwrap();
    assert_eq!((unknown.holders, unknown.next), (vec![], None));
    let mut expected = HashMap::new();
    for batch in 0..10 {
        let mut batch: Vec<_> = (batch * 200..batch * 200 + 200).map(|user| claim(user, 2)).collect();
        batch[0].user_id.0 = u64::MAX - batch[0].user_id.0;
        let id = reserve(&backend, &sale, &batch).await.reservation.unwrap();
        expected.extend(
            batch.into_iter().map(|claim| (claim.order_id, Holder { claim, set_aside_ms: id.millis })),
        );
    }
    let found = holders(&backend, &sale, 70).await;
    assert_eq!(found, expected);
    assert_eq!(orders(&holders(&backend, &sale, 1).await).len(), 2_000);
}

/// A new filling takes the place of the old one in one step. Buyers keep their orders, and what is left is what is sold.
pub async fn a_refilled_gate_knows_its_holders_and_sells_the_rest(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 10, 2).await;
    reserve(&backend, &sale, &claims(100..104)).await;
    let settled: Vec<_> = (0..700).map(|user| claim(user, 1)).collect();
    stage(&backend, &sale, LATER, &settled).await;
    let before = level(&backend, sale.id).await;
    assert_eq!((before.epoch, before.orders), (EPOCH, 4), "what is staged is not used yet");

    backend.gate.finish_refill(&sale, LATER, 3, 700).await.unwrap();
    let refilled = GateLevel { epoch: LATER, remaining: 3, orders: 700, pending_orders: 0 };
    assert_eq!(level(&backend, sale.id).await, refilled);
    assert_eq!(condition(&backend, &sale, LATER).await, GateCondition::Sound);
    assert_eq!(backend.gate.stranded(sale.id, Duration::ZERO, 10).await.unwrap(), []);
    assert_eq!(orders(&holders(&backend, &sale, 100).await), by_order(&settled));
    assert_lost(&backend.gate.reserve(sale.id, EPOCH, &[], &[claim(1, 1)]).await);

    let batch = [claim(7, 2), settled[8], claim(800, 2), claim(801, 2), claim(802, 1)];
    let reserved = backend.gate.reserve(sale.id, LATER, &[], &batch).await.unwrap();
    let Claim { order_id, quantity, accepted_at, .. } = settled[7];
    let replayed = Decision::Replayed { order_id, quantity, pending: false, accepted_at };
    assert_eq!(
        reserved.decisions,
        [
            replayed,
            Decision::Reserved,
            Decision::Reserved,
            Decision::SoldOut { remaining: 1 },
            Decision::Reserved
        ]
    );
    let used = GateLevel { remaining: 0, orders: 702, pending_orders: 2, ..refilled };
    assert_eq!(level(&backend, sale.id).await, used);
    // Again, as after an answer that was lost; also where somebody staged anew meanwhile.
    backend.gate.finish_refill(&sale, LATER, 3, 700).await.unwrap();
    stage(&backend, &sale, LATER, &settled[..1]).await;
    backend.gate.finish_refill(&sale, LATER, 9, 1).await.unwrap();
    assert_eq!(level(&backend, sale.id).await, used);
}

/// A filling that is not whole is never used, and one for another epoch neither.
pub async fn a_refill_that_is_not_whole_changes_nothing(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 10, 1).await;
    reserve(&backend, &sale, &claims(0..2)).await;
    let before = level(&backend, sale.id).await;
    let settled = claims(0..5);
    assert_lost(&backend.gate.finish_refill(&sale, LATER, 5, 5).await);
    stage(&backend, &sale, LATER, &settled[..4]).await;
    assert_lost(&backend.gate.finish_refill(&sale, LATER, 5, 5).await);
    assert_lost(&backend.gate.stage_refill(sale.id, LATER + 1, false, &settled).await);
    assert_lost(&backend.gate.finish_refill(&sale, LATER + 1, 5, 4).await);
    assert_eq!(level(&backend, sale.id).await, before);

    // The first page throws away what somebody else staged, and the same holders may come twice.
    stage(&backend, &sale, LATER, &claims(50..90)).await;
    stage(&backend, &sale, LATER, &settled).await;
    backend.gate.stage_refill(sale.id, LATER, false, &settled[3..]).await.unwrap();
    backend.gate.finish_refill(&sale, LATER, 5, 5).await.unwrap();
    assert_eq!(orders(&holders(&backend, &sale, 100).await), by_order(&settled));

    // One who comes late does not put an earlier filling back.
    stage(&backend, &sale, EPOCH, &[]).await;
    assert_lost(&backend.gate.finish_refill(&sale, EPOCH, 10, 0).await);
    assert_eq!(level(&backend, sale.id).await.epoch, LATER);
}

/// A gate that lost everything is filled from nothing, also where nobody has an order.
pub async fn an_empty_gate_is_refilled(Subject { backend, .. }: Subject) {
    let sale = backend.ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
    stage(&backend, &sale, LATER, &[]).await;
    backend.gate.finish_refill(&sale, LATER, 5, 0).await.unwrap();
    let full = GateLevel { epoch: LATER, remaining: 5, orders: 0, pending_orders: 0 };
    assert_eq!(level(&backend, sale.id).await, full);
    let reserved = backend.gate.reserve(sale.id, LATER, &[], &[claim(1, 1)]).await.unwrap();
    assert_eq!(reserved.decisions, [Decision::Reserved]);
}

/// An order that the ledger has rejected is forgotten, and its units come back once, unless the ledger was full.
pub async fn a_rejected_order_comes_back_once(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 10, 2).await;
    let batch = [claim(1, 2), claim(2, 2), claim(3, 1)];
    let entry = reserve(&backend, &sale, &batch).await.reservation.unwrap();
    backend.gate.settle(sale.id, &[entry]).await.unwrap();
    let release = |claim: &Claim, returns_units| Release {
        order_id: claim.order_id,
        user_id: claim.user_id,
        returns_units,
    };
    let not_held = release(&claim(3, 1), true);
    let released = [release(&batch[0], true), release(&batch[1], false), not_held, release(&batch[0], true)];
    for _ in 0..2 {
        backend.gate.release(sale.id, &released).await.unwrap();
        let now = GateLevel { epoch: EPOCH, remaining: 7, orders: 1, pending_orders: 0 };
        assert_eq!(level(&backend, sale.id).await, now);
    }
    assert_eq!(orders(&holders(&backend, &sale, 10).await), by_order(&batch[2..]));
    assert_eq!(backend.gate.holdings(batch[0].user_id, &[sale.id]).await.unwrap(), []);
    // The user may have another order, which the late news of the first one does not touch.
    let again = claim(1, 1);
    assert_eq!(reserve(&backend, &sale, &[again]).await.decisions, [Decision::Reserved]);
    backend.gate.release(sale.id, &released).await.unwrap();
    assert_eq!(backend.gate.holdings(again.user_id, &[sale.id]).await.unwrap()[0].order_id, again.order_id);
    let unknown = SaleId(sale.id.0 + 1_000);
    backend.gate.release(unknown, &released).await.unwrap();
    assert_eq!(backend.gate.level(unknown).await.unwrap(), None);
}

/// An order that is released while its entry is pending does not make another order of that user look settled.
pub async fn a_user_may_order_again_while_the_released_order_is_pending(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 10, 1).await;
    let first = claim(1, 1);
    let entry = reserve(&backend, &sale, &[first, claim(2, 1)]).await.reservation.unwrap();
    let released = Release { order_id: first.order_id, user_id: first.user_id, returns_units: true };
    backend.gate.release(sale.id, &[released]).await.unwrap();
    let second = claim(1, 1);
    reserve(&backend, &sale, &[second]).await;
    backend.gate.settle(sale.id, &[entry]).await.unwrap();
    let decisions = reserve(&backend, &sale, &[claim(1, 1)]).await.decisions;
    assert!(
        matches!(decisions[..], [Decision::Replayed { order_id, pending: true, .. }] if order_id == second.order_id),
        "{decisions:?}"
    );
    let now = GateLevel { epoch: EPOCH, remaining: 8, orders: 2, pending_orders: 1 };
    assert_eq!(level(&backend, sale.id).await, now);
}

/// Markers are made while something may be on its way, not more often than asked for, and by one caller at a time.
pub async fn markers_are_made_while_orders_may_be_on_their_way(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 10, 1).await;
    let make = async |every| backend.gate.make_marker(sale.id, every).await.unwrap();
    assert_eq!(make(AT_ONCE).await, None, "nothing was ever set aside");
    let entry = reserve(&backend, &sale, &[claim(1, 1)]).await.reservation.unwrap();
    let first = make(AT_ONCE).await.expect("an order was set aside");
    assert!(first.made_ms > entry.millis);
    assert_eq!(make(Duration::from_secs(3_600)).await, None, "one was made a moment ago");
    let second = make(AT_ONCE).await.expect("the first may be lost");
    assert!(second.made_ms >= first.made_ms && second.id != first.id);

    backend.gate.settle(sale.id, &[entry]).await.unwrap();
    backend.gate.marker_passed(sale.id, &second).await.unwrap();
    // It was settled after the marker was made, so it may have been published after it.
    assert!(!progress(&backend, &sale).await.nothing_can_arrive());
    let third = make(AT_ONCE).await.expect("the order may be behind the second marker");
    backend.gate.marker_passed(sale.id, &third).await.unwrap();
    assert_eq!(make(AT_ONCE).await, None, "nothing was set aside since the last one came through");

    let later = reserve(&backend, &sale, &[claim(2, 1)]).await.reservation.unwrap();
    assert!(later.millis >= third.made_ms, "what is set aside after a marker is not older than it");
    assert!(make(AT_ONCE).await.is_some());
    let unknown = backend.gate.make_marker(SaleId(sale.id.0 + 1_000), AT_ONCE).await.unwrap();
    assert_eq!(unknown, None);
}

/// What is sent again makes a new marker necessary.
pub async fn orders_that_are_sent_again_may_arrive(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 10, 1).await;
    let entry = reserve(&backend, &sale, &[claim(1, 1)]).await.reservation.unwrap();
    backend.gate.settle(sale.id, &[entry]).await.unwrap();
    let marker = backend.gate.make_marker(sale.id, AT_ONCE).await.unwrap().unwrap();
    backend.gate.marker_passed(sale.id, &marker).await.unwrap();
    assert_eq!(backend.gate.make_marker(sale.id, AT_ONCE).await.unwrap(), None);
    backend.gate.mark_resending(sale.id).await.unwrap();
    assert!(progress(&backend, &sale).await.last_set_aside_ms >= marker.made_ms);
    assert!(backend.gate.make_marker(sale.id, AT_ONCE).await.unwrap().is_some());
}

/// The newest marker, the oldest order in a worker's hands and the moment of the last comparison only go forward.
pub async fn progress_goes_forward_only(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 10, 1).await;
    let fresh = progress(&backend, &sale).await;
    assert_eq!(fresh, QueueProgress { now_ms: fresh.now_ms, ..Default::default() });
    assert!(fresh.now_ms > 0 && fresh.nothing_can_arrive());
    let entry = reserve(&backend, &sale, &[claim(1, 1)]).await.reservation.unwrap();
    assert_eq!(progress(&backend, &sale).await.last_set_aside_ms, entry.millis);

    backend.gate.marker_passed(sale.id, &Marker::new(2_000)).await.unwrap();
    let (made, came) = progress(&backend, &sale).await.marker.unwrap();
    assert!(made == 2_000 && came >= fresh.now_ms);
    for older in [1_999, 2_000] {
        backend.gate.marker_passed(sale.id, &Marker::new(older)).await.unwrap();
        assert_eq!(progress(&backend, &sale).await.marker, Some((made, came)));
    }
    for (before, reconciled) in [(500, 500), (400, 500), (600, 600)] {
        backend.gate.mark_reconciled(sale.id, before).await.unwrap();
        assert_eq!(progress(&backend, &sale).await.reconciled_ms, reconciled);
    }
    let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
    for (worker, holds, oldest) in [
        (one, Some(20), Some(20)),
        (two, Some(10), Some(10)),
        (two, Some(30), Some(20)),
        (one, None, Some(30)),
        (one, None, Some(30)),
        (two, None, None),
    ] {
        backend.gate.report_held(sale.id, worker, holds).await.unwrap();
        assert_eq!(progress(&backend, &sale).await.oldest_held_ms, oldest);
    }
}

/// A worker that is gone does not keep its orders open for ever.
pub async fn what_a_silent_worker_holds_is_forgotten(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 10, 1).await;
    backend.gate.report_held(sale.id, Uuid::now_v7(), Some(10)).await.unwrap();
    assert_eq!(progress(&backend, &sale).await.oldest_held_ms, Some(10));
    eventually(DEADLINE, async || match progress(&backend, &sale).await.oldest_held_ms {
        None => Ok(()),
        held => Err(held),
    })
    .await;
}

/// Of a sale that is removed nothing is left, and late news of it leave nothing behind.
pub async fn a_removed_sale_leaves_nothing_behind(Subject { backend, .. }: Subject) {
    let (sale, other) = (open_sale(&backend, 10, 1).await, open_sale(&backend, 10, 1).await);
    for sale in [&sale, &other] {
        reserve(&backend, sale, &[claim(1, 1)]).await;
    }
    stage(&backend, &sale, LATER, &claims(0..1)).await;
    backend.gate.remove(sale.id).await.unwrap();
    backend.gate.remove(sale.id).await.unwrap();
    backend.gate.marker_passed(sale.id, &Marker::new(2_000)).await.unwrap();
    backend.gate.mark_reconciled(sale.id, 2_000).await.unwrap();
    backend.gate.mark_resending(sale.id).await.unwrap();
    backend.gate.report_held(sale.id, Uuid::now_v7(), Some(1)).await.unwrap();
    assert_eq!(condition(&backend, &sale, EPOCH).await, GateCondition::Missing);
    assert_eq!(backend.gate.level(sale.id).await.unwrap(), None);
    assert_eq!(backend.gate.progress(sale.id).await.unwrap(), None);
    assert_eq!(holders(&backend, &sale, 10).await, HashMap::new());
    assert_lost(&backend.gate.finish_refill(&sale, LATER, 9, 1).await);
    assert_eq!(level(&backend, other.id).await.orders, 1);
    backend.gate.open(&sale, EPOCH).await.unwrap();
    assert_eq!(progress(&backend, &sale).await.marker, None);
}

/// A database that was restored gives out an id a second time: the new sale inherits nothing of the old one.
pub async fn a_new_sale_of_the_same_id_inherits_nothing(Subject { backend, .. }: Subject) {
    let old = open_sale(&backend, 10, 1).await;
    backend.gate.open(&old, 5).await.unwrap();
    backend.gate.reserve(old.id, 5, &[], &claims(0..9)).await.unwrap();
    let later = old.created_at + chrono::Duration::seconds(1);
    let new = Sale { stock: 7, created_at: later, epoch: 0, ..old.clone() };
    backend.gate.open(&new, EPOCH).await.unwrap();
    let fresh = GateLevel { epoch: EPOCH, remaining: 7, orders: 0, pending_orders: 0 };
    assert_eq!(level(&backend, new.id).await, fresh);
    assert_eq!(reserve(&backend, &new, &[claim(1, 1)]).await.decisions, [Decision::Reserved]);
    assert_lost(&backend.gate.reserve(new.id, 5, &[], &[claim(2, 1)]).await);
}

/// What gateways know of the sales is kept as it was written last.
pub async fn known_sales_come_back_as_they_were_kept(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 10, 1).await;
    let mut known = backend.gate.known_sales().await.unwrap();
    assert_eq!(known, None);
    let ledger_id = backend.ledger.id().await.unwrap();
    for sales in [vec![sale.clone(), Sale { id: SaleId(99), ..sale }], vec![]] {
        let kept = KnownSales { ledger_id, sales };
        backend.gate.keep_known_sales(&kept).await.unwrap();
        known = backend.gate.known_sales().await.unwrap();
        assert_eq!(known, Some(kept));
    }
}

async fn condition(backend: &Backend, sale: &Sale, epoch: Epoch) -> GateCondition {
    backend.gate.condition(sale.id, epoch).await.unwrap()
}

async fn progress(backend: &Backend, sale: &Sale) -> QueueProgress {
    backend.gate.progress(sale.id).await.unwrap().expect("the gate was opened for this sale")
}

/// Stages holders as a rebuild does, page by page.
async fn stage(backend: &Backend, sale: &Sale, epoch: Epoch, holders: &[Claim]) {
    backend.gate.stage_refill(sale.id, epoch, true, &[]).await.unwrap();
    for page in holders.chunks(600) {
        backend.gate.stage_refill(sale.id, epoch, false, page).await.unwrap();
    }
}

/// Everyone, page by page, by order.
async fn holders(backend: &Backend, sale: &Sale, limit: usize) -> HashMap<OrderId, Holder> {
    let (mut found, mut cursor, mut seen) = (HashMap::new(), None, HashSet::new());
    loop {
        let page = backend.gate.holders(sale.id, cursor, limit).await.unwrap();
        found.extend(page.holders.iter().map(|holder| (holder.claim.order_id, *holder)));
        cursor = page.next;
        let Some(next) = cursor else { return found };
        assert!(seen.insert(next), "the pages go round in a circle at {next}");
    }
}

fn orders(holders: &HashMap<OrderId, Holder>) -> Vec<Claim> {
    let claims: Vec<_> = holders.values().map(|holder| holder.claim).collect();
    by_order(&claims)
}

fn by_order(claims: &[Claim]) -> Vec<Claim> {
    let mut claims = claims.to_vec();
    claims.sort_by_key(|claim| claim.order_id);
    claims
}

fn assert_lost<T: std::fmt::Debug>(answer: &Result<T, Fault>) {
    assert!(matches!(answer, Err(Fault::Lost { .. })), "{answer:?}");
}
