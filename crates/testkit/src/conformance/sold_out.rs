//! What a gate has to do so that gateways may answer "sold out" from memory: it says when nothing is left, counts what comes
//! back, and withholds it for a moment.

use std::time::Instant;

use seckill_core::{
    Backend, Claim, Decision, Epoch, NewSale, Release, SOLD_OUT_LEASE, Sale, SaleId, SoldOutSince, now,
};

use super::support::{DEADLINE, Subject, reserve};
use crate::eventually;
use crate::fixtures::{EPOCH, claim, claim_of, claims, level, new_sale, open, open_sale};

const LATER: Epoch = EPOCH + 1;

/// Only the last unit makes a sale sold out.
pub async fn a_sale_without_units_is_sold_out(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 3, 2).await;
    assert_eq!(asked(&backend, &sale, EPOCH).await, None);
    reserve(&backend, &sale, &[claim_of(1, 2)]).await;
    let refused = reserve(&backend, &sale, &[claim_of(2, 2)]).await.decisions;
    assert_eq!(refused, [Decision::SoldOut { remaining: 1 }]);
    assert_eq!(asked(&backend, &sale, EPOCH).await, None, "a unit is left");
    reserve(&backend, &sale, &[claim(2)]).await;
    let sold_out = sold_out(&backend, &sale, EPOCH).await;
    assert_eq!(sold_out.holders, 2);
    // Neither a refusal nor a replay changes anything.
    reserve(&backend, &sale, &[claim(1), claim(3)]).await;
    assert_eq!(self::sold_out(&backend, &sale, EPOCH).await, sold_out);
}

/// After its end a sale is closed, and not sold out.
pub async fn a_sale_that_is_over_is_not_sold_out(Subject { backend, .. }: Subject) {
    // Short for the sake of the test, and long enough to get in.
    let mut window = chrono::Duration::seconds(1);
    let sale = loop {
        let sale = open(&backend, &NewSale { ends_at: now() + window, ..new_sale(1, 1) }).await;
        reserve(&backend, &sale, &[claim(1)]).await;
        if asked(&backend, &sale, EPOCH).await.is_some() {
            break sale;
        }
        window = window * 2;
    };
    eventually(DEADLINE, async || match asked(&backend, &sale, EPOCH).await {
        None => Ok(()),
        said => Err(said),
    })
    .await;
    assert_eq!(reserve(&backend, &sale, &[claim(2)]).await.decisions, [Decision::Closed]);
}

/// What refuses reservations does not say "sold out" either.
pub async fn a_gate_that_cannot_be_trusted_does_not_say_sold_out(Subject { backend, .. }: Subject) {
    let sale = sold(&backend, &[claim(1)]).await;
    for other in [EPOCH - 1, LATER] {
        assert_eq!(asked(&backend, &sale, other).await, None);
    }
    let unknown = SaleId(sale.id.0 + 1_000);
    assert_eq!(backend.gate.sold_out(unknown, EPOCH).await.unwrap(), None);

    let removed = sold(&backend, &[claim(1)]).await;
    backend.gate.remove(removed.id).await.unwrap();
    assert_eq!(asked(&backend, &removed, EPOCH).await, None);

    backend.gate.fence(sale.id, LATER).await.unwrap();
    for epoch in [EPOCH, LATER] {
        assert_eq!(asked(&backend, &sale, epoch).await, None);
    }
}

/// A gateway that asked before units came back, and again after they were sold, sees that holders have changed.
pub async fn every_return_of_units_is_counted(Subject { backend, .. }: Subject) {
    let batch = [claim(1), claim(2), claim(3)];
    let sale = sold(&backend, &batch).await;
    let first = sold_out(&backend, &sale, EPOCH).await;
    // Nothing comes back: of an order that the ledger had no room for, and of one that nobody holds.
    backend.gate.release(sale.id, &[release(&batch[0], false), release(&claim(2), true)]).await.unwrap();
    assert_eq!(sold_out(&backend, &sale, EPOCH).await, SoldOutSince { holders: 2, ..first });

    let mut seen = vec![first.returns];
    for (gone, next) in [(batch[1], claim(4)), (batch[2], claim(5))] {
        backend.gate.release(sale.id, &[release(&gone, true)]).await.unwrap();
        assert_eq!(asked(&backend, &sale, EPOCH).await, None, "a unit is there, although it is withheld");
        reserved_at_last(&backend, &sale, EPOCH, next).await;
        seen.push(sold_out(&backend, &sale, EPOCH).await.returns);
    }
    // A rebuild, and the gate of another sale of the same id.
    refill(&backend, &sale, LATER, &[claim(6)], 1).await;
    reserved_at_last(&backend, &sale, LATER, claim(7)).await;
    seen.push(sold_out(&backend, &sale, LATER).await.returns);
    backend.gate.remove(sale.id).await.unwrap();
    backend.gate.open(&sale, LATER).await.unwrap();
    backend.gate.reserve(sale.id, LATER, &[], &claims(0..3)).await.unwrap();
    seen.push(sold_out(&backend, &sale, LATER).await.returns);
    assert!(seen.is_sorted_by(|one, next| one < next), "{seen:?}");
}

/// Every gateway has stopped answering from memory before the first unit is sold that came back while none were left.
pub async fn returned_units_are_withheld_while_none_were_left(Subject { backend, .. }: Subject) {
    let mine = claim(1);
    let sale = sold(&backend, &[mine, claim(2), claim(3)]).await;
    let begin = Instant::now();
    backend.gate.release(sale.id, &[release(&mine, true)]).await.unwrap();
    assert_eq!(level(&backend, sale.id).await.remaining, 1, "it is not lost meanwhile");
    let replayed = reserve(&backend, &sale, &[claim(2)]).await.decisions;
    assert!(
        matches!(replayed[..], [Decision::Replayed { .. }]),
        "who holds an order is told so: {replayed:?}"
    );
    reserved_at_last(&backend, &sale, EPOCH, claim(4)).await;
    assert!(begin.elapsed() > SOLD_OUT_LEASE, "sold again after {:?}", begin.elapsed());
    assert_eq!(level(&backend, sale.id).await.remaining, 0);
}

/// Units that come back while others are left are sold at once.
pub async fn units_that_come_back_to_others_are_not_withheld(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 3, 2).await;
    let mine = claim_of(1, 2);
    reserve(&backend, &sale, &[mine]).await;
    backend.gate.release(sale.id, &[release(&mine, true)]).await.unwrap();
    let decisions = reserve(&backend, &sale, &[claim_of(2, 2), claim(3)]).await.decisions;
    assert_eq!(decisions, [Decision::Reserved; 2]);
}

/// A new filling sells later, too, where the one before it had nothing for sale: also while that was withheld.
pub async fn a_new_filling_of_a_sold_out_gate_is_withheld(Subject { backend, .. }: Subject) {
    let sale = sold(&backend, &[claim(1)]).await;
    let begin = Instant::now();
    refill(&backend, &sale, 2, &[], 1).await;
    refill(&backend, &sale, 3, &[], 1).await;
    reserved_at_last(&backend, &sale, 3, claim(2)).await;
    assert!(begin.elapsed() > SOLD_OUT_LEASE, "sold again after {:?}", begin.elapsed());

    let begin = Instant::now();
    backend.gate.open(&sale, 4).await.unwrap();
    reserved_at_last(&backend, &sale, 4, claim(3)).await;
    assert!(begin.elapsed() > SOLD_OUT_LEASE, "sold again after {:?}", begin.elapsed());
}

/// A sale whose units are all set aside for these.
async fn sold(backend: &Backend, batch: &[Claim]) -> Sale {
    let sale = open_sale(backend, u32::try_from(batch.len()).unwrap(), 1).await;
    let decisions = reserve(backend, &sale, batch).await.decisions;
    assert_eq!(decisions, vec![Decision::Reserved; batch.len()]);
    sale
}

async fn asked(backend: &Backend, sale: &Sale, epoch: Epoch) -> Option<SoldOutSince> {
    backend.gate.sold_out(sale.id, epoch).await.unwrap()
}

async fn sold_out(backend: &Backend, sale: &Sale, epoch: Epoch) -> SoldOutSince {
    asked(backend, sale, epoch).await.expect("nothing is left")
}

fn release(claim: &Claim, returns_units: bool) -> Release {
    Release { order_id: claim.order_id, user_id: claim.user_id, returns_units }
}

/// Asks until the unit is for sale. Until then there seems to be none.
async fn reserved_at_last(backend: &Backend, sale: &Sale, epoch: Epoch, claim: Claim) {
    eventually(DEADLINE, async || {
        let reserved = backend.gate.reserve(sale.id, epoch, &[], &[claim]).await.unwrap();
        match reserved.decisions[..] {
            [Decision::Reserved] => Ok(()),
            [Decision::SoldOut { remaining: 0 }] => Err("withheld"),
            ref other => panic!("{other:?}"),
        }
    })
    .await;
}

async fn refill(backend: &Backend, sale: &Sale, epoch: Epoch, holders: &[Claim], remaining: u32) {
    backend.gate.stage_refill(sale.id, epoch, true, holders).await.unwrap();
    backend.gate.finish_refill(sale, epoch, remaining, holders.len() as u64).await.unwrap();
}
