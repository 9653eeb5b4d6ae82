//! The path of an order through all three ports, cut off where a process may be killed. What crosses every cut is the
//! audit: nothing oversold, lost or doubled.

use std::time::Duration;

use seckill_core::{Decision, Delivery, Fate, OrderBatch, UserId, Verdict};
use tokio::time::timeout;

use super::support::{
    DEADLINE, Subject, await_depth, commit_at_last, drain_one, is_empty, next, publish, reserve,
};
use crate::eventually;
use crate::fixtures::{EPOCH, audit, claim, claim_of, claims, level, open_sale};

/// Reserve, publish, settle, consume, commit, acknowledge; the audit sees it come by.
pub async fn an_order_goes_all_the_way(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 10, 2).await;
    assert_eq!(audit(&backend, sale.id).await.verdict, Verdict::Clean);
    let orders = vec![claim_of(1, 2), claim(2)];
    let reservation = reserve(&backend, &sale, &orders).await.reservation.unwrap();
    let report = audit(&backend, sale.id).await;
    assert_eq!(
        (report.verdict, report.in_flight, report.pending_orders),
        (Verdict::InFlight, Some(3), Some(2))
    );

    publish(backend.queue.as_ref(), &[OrderBatch::new(sale.id, EPOCH, orders.clone())]).await;
    backend.gate.settle(sale.id, &[reservation]).await.unwrap();
    await_depth(backend.queue.as_ref(), |depth| depth.ready_batches == 1).await;
    let report = audit(&backend, sale.id).await;
    assert_eq!(
        (report.verdict, report.in_flight, report.pending_orders),
        (Verdict::InFlight, Some(3), Some(0))
    );
    assert_eq!(report.findings, Vec::<String>::new());

    assert_eq!(drain_one(&backend).await, [Fate::Committed; 2]);
    await_depth(backend.queue.as_ref(), is_empty).await;
    let report = audit(&backend, sale.id).await;
    assert_eq!((report.verdict, report.in_flight, report.conserved), (Verdict::Clean, Some(0), true));
    assert_eq!((report.sold, report.committed_orders, report.remaining), (3, 2, Some(7)));
    let found = backend.ledger.order(orders[0].order_id).await.unwrap().unwrap();
    assert_eq!((found.sale_id, found.claim), (sale.id, orders[0]));
}

/// A gateway dies with stock set aside and nothing sent; the recoverer of another one takes it from the pending log.
pub async fn a_crash_between_reserve_and_publish_loses_nothing(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 10, 1).await;
    let orders = claims(0..3);
    {
        // The lane, up to where it dies: all that it knew goes with it.
        let publisher = backend.queue.publisher().await.unwrap();
        reserve(&backend, &sale, &orders).await;
        drop(publisher);
    }
    let age = Duration::from_millis(100);
    let stranded = eventually(DEADLINE, async || {
        let stranded = backend.gate.stranded(sale.id, age, 10).await.map_err(|fault| fault.to_string())?;
        if stranded.is_empty() { Err("nothing is stranded".to_owned()) } else { Ok(stranded) }
    })
    .await;
    assert_eq!(stranded.len(), 1);
    let epoch = level(&backend, sale.id).await.epoch;
    publish(backend.queue.as_ref(), &[OrderBatch::new(sale.id, epoch, stranded[0].claims.clone())]).await;
    backend.gate.settle(sale.id, &[stranded[0].id]).await.unwrap();
    assert_eq!(drain_one(&backend).await, [Fate::Committed; 3]);
    await_depth(backend.queue.as_ref(), is_empty).await;
    for order in &orders {
        assert!(backend.ledger.order(order.order_id).await.unwrap().is_some(), "{order:?} is lost");
    }
    let report = audit(&backend, sale.id).await;
    assert_eq!(
        (report.verdict, report.sold, report.pending_orders),
        (Verdict::Clean, 3, Some(0)),
        "{report:?}"
    );
}

/// A worker dies between commit and acknowledgement.
pub async fn an_ack_that_was_never_sent_doubles_nothing(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 10, 1).await;
    let orders = claims(0..3);
    let reservation = reserve(&backend, &sale, &orders).await.reservation.unwrap();
    publish(backend.queue.as_ref(), &[OrderBatch::new(sale.id, EPOCH, orders)]).await;
    backend.gate.settle(sale.id, &[reservation]).await.unwrap();
    {
        let mut consumer = backend.queue.consumer(1).await.unwrap();
        let mut writer = backend.ledger.writer().await.unwrap();
        let Delivery { batch, tag: _ } = next(consumer.as_mut()).await;
        let orders: Vec<_> = batch.into_orders().collect();
        assert_eq!(writer.commit(&orders).await.unwrap(), [Fate::Committed; 3]);
    }
    assert_eq!(drain_one(&backend).await, [Fate::AlreadyCommitted; 3]);
    await_depth(backend.queue.as_ref(), is_empty).await;
    let report = audit(&backend, sale.id).await;
    assert_eq!((report.verdict, report.sold, report.committed_orders), (Verdict::Clean, 3, 3), "{report:?}");
}

/// A confirm was lost, and the recoverer published the same orders under another batch id.
pub async fn a_batch_published_twice_doubles_nothing(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 10, 1).await;
    let orders = claims(0..3);
    let reservation = reserve(&backend, &sale, &orders).await.reservation.unwrap();
    let twice = [(); 2].map(|()| OrderBatch::new(sale.id, EPOCH, orders.clone()));
    publish(backend.queue.as_ref(), &twice).await;
    backend.gate.settle(sale.id, &[reservation]).await.unwrap();
    assert_eq!(drain_one(&backend).await, [Fate::Committed; 3]);
    assert_eq!(drain_one(&backend).await, [Fate::AlreadyCommitted; 3]);
    await_depth(backend.queue.as_ref(), is_empty).await;
    let report = audit(&backend, sale.id).await;
    assert_eq!((report.verdict, report.sold, report.duplicates), (Verdict::Clean, 3, 0), "{report:?}");
}

/// A commit whose answer nobody heard: the future is dropped at some point, and the orders are committed again.
pub async fn a_batch_committed_without_an_answer_doubles_nothing(Subject { backend, .. }: Subject) {
    const ROUNDS: u64 = 20;
    let sale = open_sale(&backend, 1_000, 1).await;
    for round in 0..ROUNDS {
        let orders = claims(10 * round..10 * round + 10);
        let reservation = reserve(&backend, &sale, &orders).await.reservation.unwrap();
        backend.gate.settle(sale.id, &[reservation]).await.unwrap();
        let orders: Vec<_> = OrderBatch::new(sale.id, EPOCH, orders).into_orders().collect();
        {
            let mut writer = backend.ledger.writer().await.unwrap();
            let patience = Duration::from_micros(200 * round);
            // Whether it was in time makes no difference from here on.
            let _ = timeout(patience, writer.commit(&orders)).await;
        }
        let mut writer = backend.ledger.writer().await.unwrap();
        let fates = commit_at_last(writer.as_mut(), &orders).await;
        let first = fates[0];
        assert!(matches!(first, Fate::Committed | Fate::AlreadyCommitted), "{first:?}");
        assert_eq!(fates, [first; 10], "all or none of a commit takes effect");
    }
    let report = audit(&backend, sale.id).await;
    let sold = (report.verdict, report.sold, report.duplicates);
    assert_eq!(sold, (Verdict::Clean, 10 * ROUNDS, 0), "{report:?}");
}

/// After a restart the gate knows what is sold and what is queued, and its buyers get the same orders.
pub async fn a_reopened_gate_sells_only_what_is_left(subject: Subject) {
    let backend = &subject.backend;
    let sale = open_sale(backend, 6, 2).await;
    let (sold, queued) = (claim_of(1, 2), claim(2));
    for order in [sold, queued] {
        let reservation = reserve(backend, &sale, &[order]).await.reservation.unwrap();
        publish(backend.queue.as_ref(), &[OrderBatch::new(sale.id, EPOCH, vec![order])]).await;
        backend.gate.settle(sale.id, &[reservation]).await.unwrap();
        if order == sold {
            assert_eq!(drain_one(backend).await, [Fate::Committed]);
        }
    }
    let before = level(backend, sale.id).await;
    assert_eq!((before.remaining, before.orders, before.pending_orders), (3, 2, 0));

    let subject = subject.reopen().await;
    let backend = &subject.backend;
    assert_eq!(level(backend, sale.id).await, before);
    let batch = [claim(1), claim(2), claim_of(3, 2), claim_of(4, 2), claim(5)];
    let replayed = |order: seckill_core::Claim| Decision::Replayed {
        order_id: order.order_id,
        quantity: order.quantity,
        pending: false,
        accepted_at: order.accepted_at,
    };
    let decisions = reserve(backend, &sale, &batch).await.decisions;
    assert_eq!(decisions[..2], [replayed(sold), replayed(queued)]);
    assert_eq!(decisions[2..], [Decision::Reserved, Decision::SoldOut { remaining: 1 }, Decision::Reserved]);
    assert_eq!(drain_one(backend).await, [Fate::Committed]);
    let found = backend.ledger.orders_of(UserId(2), sale.id).await.unwrap();
    assert_eq!(found.iter().map(|order| order.claim).collect::<Vec<_>>(), [queued]);
}
