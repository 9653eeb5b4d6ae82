//! What is left when the back end is dropped in the midst of its work and opened again.

use seckill_core::{Decision, GateLevel, Mode, Order, OrderBatch, Verdict};

use crate::harness::*;

#[test]
fn queued_orders_survive_and_the_gate_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let committed = [claim(1), claim(2)];
    let queued = [claim(3), claim(4)];
    let sale = in_a_process_of_its_own(async {
        let backend = open(dir.path()).await;
        let sale = opened_sale(&backend, 10).await;
        accept(&backend, &sale, &committed).await;
        let mut consumer = backend.queue.consumer(1).await.unwrap();
        let orders: Vec<_> = next(&mut consumer).await.batch.into_orders().collect();
        // Committed and never acknowledged: it comes again.
        backend.ledger.writer().await.unwrap().commit(&orders).await.unwrap();
        accept(&backend, &sale, &queued).await;
        // Published twice, as a recoverer may do.
        let twice = OrderBatch::new(sale.id, EPOCH, queued.to_vec());
        backend.queue.publisher().await.unwrap().publish(&twice).await.unwrap();
        // Reserved, and its gateway dies before it publishes.
        assert_eq!(reserve(&backend, &sale, &[claim(5)]).await.decisions, [Decision::Reserved]);
        sale
    });

    in_a_process_of_its_own(async {
        let backend = open(dir.path()).await;
        let level = backend.gate.level(sale.id).await.unwrap();
        assert_eq!(level, Some(GateLevel { epoch: EPOCH, remaining: 6, orders: 4, pending_orders: 0 }));
        let depth = backend.queue.depth().await.unwrap();
        assert_eq!((depth.ready_batches, depth.orders), (3, Some(6)));
        // A stale attempt to open the sale anew changes nothing.
        backend.gate.open(&sale, EPOCH).await.unwrap();

        let again: Vec<_> = (1..=20).map(claim).collect();
        let accepted = accept(&backend, &sale, &again).await;
        assert_eq!(accepted, again[4..10], "six units are left, and who had an order has none of them");
        let replays = reserve(&backend, &sale, &again[..4]).await.decisions;
        for (first, replay) in committed.iter().chain(&queued).zip(replays) {
            let expected = Decision::Replayed {
                order_id: first.order_id,
                quantity: 1,
                pending: false,
                accepted_at: first.accepted_at,
            };
            assert_eq!(replay, expected);
        }

        drain(&backend).await;
        let report = audit(&backend, sale.id).await;
        assert_eq!(
            (report.verdict, report.sold, report.remaining),
            (Verdict::Clean, 10, Some(0)),
            "{report:?}"
        );
    });
}

#[test]
fn rejected_orders_give_their_units_back_and_their_users_may_buy() {
    let dir = tempfile::tempdir().unwrap();
    let sale = in_a_process_of_its_own(async {
        let backend = open(dir.path()).await;
        let sale = opened_sale(&backend, 10).await;
        let mut unfit = claim(7);
        unfit.quantity = 3;
        let order = |claim| Order { sale_id: sale.id, epoch: EPOCH, claim };
        let orders = [order(claim(1)), order(unfit)];
        backend.ledger.writer().await.unwrap().commit(&orders).await.unwrap();
        // It waits in the queue as well, committed and rejected, and is not to be counted twice.
        let batch = OrderBatch::new(sale.id, EPOCH, orders.map(|order| order.claim).to_vec());
        backend.queue.publisher().await.unwrap().publish(&batch).await.unwrap();
        sale
    });

    in_a_process_of_its_own(async {
        let backend = open(dir.path()).await;
        let level = backend.gate.level(sale.id).await.unwrap();
        assert_eq!(level, Some(GateLevel { epoch: EPOCH, remaining: 9, orders: 1, pending_orders: 0 }));
        let decisions = reserve(&backend, &sale, &[claim(7)]).await.decisions;
        assert_eq!(decisions, [Decision::Reserved]);
    });
    in_a_process_of_its_own(async {
        let backend = open(dir.path()).await;
        drain(&backend).await;
        let report = audit(&backend, sale.id).await;
        assert_eq!(
            (report.verdict, report.sold, report.rejected_orders),
            (Verdict::Clean, 1, 1),
            "{report:?}"
        );
    });
}

#[tokio::test]
async fn a_sale_that_was_never_opened_has_no_gate_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let backend = open(dir.path()).await;
    let sale = opened_sale(&backend, 1).await;
    let mut never = sale.clone();
    never.id = seckill_core::SaleId(sale.id.0 + 1);
    backend.gate.open(&never, EPOCH).await.unwrap();
    drop(backend);

    // At once: the writer of the one before may be ending just now.
    let backend = open(dir.path()).await;
    assert!(backend.gate.level(sale.id).await.unwrap().is_some());
    assert!(backend.gate.level(never.id).await.unwrap().is_none());
}

#[test]
fn a_sale_without_a_gate_gets_none_by_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let sale = in_a_process_of_its_own(async {
        let backend = open(dir.path()).await;
        let gated = opened_sale(&backend, 10).await;
        let sale = backend.ledger.create_sale(&new_sale(10, 2), Mode::Direct).await.unwrap();
        assert!(backend.gate.level(gated.id).await.unwrap().is_some());
        sale
    });
    in_a_process_of_its_own(async {
        let backend = open(dir.path()).await;
        assert_eq!(backend.gate.level(sale.id).await.unwrap(), None);
        assert_eq!(backend.ledger.sale(sale.id).await.unwrap().unwrap().mode, Mode::Direct);
    });
}
