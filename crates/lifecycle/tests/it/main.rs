//! Orders after their commit, on the embedded back end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod money;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use seckill_core::{
    Backend, CancelReason, Changed, EventBody, NewSale, OrderId, OrderService, OrderStatus, OutboxState,
    Sale, SaleId, Step,
};
use seckill_lifecycle::{Service, expire};
use seckill_testkit::eventually;
use seckill_testkit::fixtures::{EPOCH, audit, new_sale, open, order};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(30);

async fn back_end() -> (TempDir, Backend) {
    let folder = tempfile::tempdir().unwrap();
    let backend = seckill_embedded::open(folder.path()).await.unwrap();
    (folder, backend)
}

async fn sale(backend: &Backend, window: Duration) -> Sale {
    let window = u64::try_from(window.as_millis()).unwrap();
    open(backend, &NewSale { payment_window_ms: Some(window), ..new_sale(5_000, 1) }).await
}

async fn commit(backend: &Backend, sale: SaleId, users: std::ops::Range<u64>) -> Vec<OrderId> {
    let orders: Vec<_> = users.map(|user| order(sale, user)).collect();
    let claims: Vec<_> = orders.iter().map(|order| order.claim).collect();
    let reserved = backend.gate.reserve(sale, EPOCH, &[], &claims).await.unwrap();
    backend.gate.settle(sale, &[reserved.reservation.unwrap()]).await.unwrap();
    backend.ledger.writer().await.unwrap().commit(&orders).await.unwrap();
    orders.iter().map(|order| order.claim.order_id).collect()
}

async fn take_a_step(backend: &Backend, order: OrderId, step: Step) {
    let mut transaction = backend.lifecycle.begin().await.unwrap();
    let from = transaction.lock_orders(&[order], false).await.unwrap();
    let to = vec![from[0].after(step, None).unwrap()];
    transaction.move_orders(&from, &to).await.unwrap();
    transaction.commit().await.unwrap();
}

fn expiry(backend: &Backend, stop: &CancellationToken) -> JoinHandle<()> {
    let config = expire::Config { rate: NonZeroU32::new(1_000_000).unwrap() };
    tokio::spawn(expire::run(backend.clone(), config, stop.clone()))
}

/// How often each order was said to be cancelled, and for which reason.
async fn told(backend: &Backend) -> BTreeMap<OrderId, Vec<(Option<CancelReason>, u32)>> {
    let mut told: BTreeMap<OrderId, Vec<_>> = BTreeMap::new();
    for event in backend.outbox.list(OutboxState::Pending, 10_000).await.unwrap() {
        if let EventBody::OrderCancelled(orders) = event.message.event().unwrap().body {
            for order in orders.orders {
                told.entry(order.order_id).or_default().push((orders.reason, order.sequence));
            }
        }
    }
    told
}

async fn wait_until_ended(backend: &Backend, sale: SaleId, orders: u64) {
    eventually(SOON, async || {
        let sale = backend.ledger.sale(sale).await.unwrap().unwrap();
        if sale.ended.orders == orders { Ok(()) } else { Err(sale) }
    })
    .await;
}

#[tokio::test]
async fn orders_that_are_not_paid_in_time_are_cancelled_each_once_by_however_many_processes() {
    let (_folder, backend) = back_end().await;
    let (soon, later) = (sale(&backend, Duration::from_millis(1)).await, sale(&backend, SOON * 100).await);
    let ids = commit(&backend, soon.id, 0..1_200).await;
    let in_time = commit(&backend, later.id, 0..3).await;
    let stop = CancellationToken::new();
    let running = [expiry(&backend, &stop), expiry(&backend, &stop)];
    wait_until_ended(&backend, soon.id, 1_200).await;
    // Orders that come now expire as well.
    let more = commit(&backend, soon.id, 2_000..2_010).await;
    wait_until_ended(&backend, soon.id, 1_210).await;
    stop.cancel();
    for task in running {
        task.await.unwrap();
    }
    let told = told(&backend).await;
    assert_eq!(told.len(), 1_210);
    assert!(told.values().all(|said| said == &[(Some(CancelReason::Expired), 2)]), "{told:?}");
    assert!(ids.iter().chain(&more).all(|id| told.contains_key(id)));
    let sale = backend.ledger.sale(soon.id).await.unwrap().unwrap();
    assert_eq!((sale.sold, sale.orders, sale.ended.returning_units()), (0, 0, 1_210));
    let order = backend.ledger.order(in_time[0]).await.unwrap().unwrap();
    assert_eq!(order.status, OrderStatus::Committed);
}

#[tokio::test]
async fn a_paid_order_does_not_expire() {
    let (_folder, backend) = back_end().await;
    let sale = sale(&backend, Duration::from_millis(1)).await;
    let ids = commit(&backend, sale.id, 0..2).await;
    take_a_step(&backend, ids[0], Step::Pay).await;
    let stop = CancellationToken::new();
    let running = expiry(&backend, &stop);
    wait_until_ended(&backend, sale.id, 1).await;
    stop.cancel();
    running.await.unwrap();
    assert_eq!(backend.ledger.order(ids[0]).await.unwrap().unwrap().status, OrderStatus::Paid);
    assert_eq!(backend.ledger.order(ids[1]).await.unwrap().unwrap().status, OrderStatus::Cancelled);
}

#[tokio::test]
async fn a_buyer_cancels_once_however_often_it_is_asked_for() {
    let (_folder, backend) = back_end().await;
    let sale = sale(&backend, SOON * 100).await;
    let ids = commit(&backend, sale.id, 0..2).await;
    let service = Service::new(backend.clone(), None);
    for _ in 0..3 {
        assert_eq!(service.cancel(ids[0]).await.unwrap(), Changed::Done);
    }
    assert_eq!(told(&backend).await, BTreeMap::from([(ids[0], vec![(Some(CancelReason::Buyer), 2)])]));
    take_a_step(&backend, ids[1], Step::Pay).await;
    assert_eq!(service.cancel(ids[1]).await.unwrap(), Changed::NotPossible(OrderStatus::Paid));
    assert_eq!(service.cancel(OrderId::generate()).await.unwrap(), Changed::NoSuchOrder);
    // The units wait for the gate to take them back; none is lost, and nothing is called violated.
    let report = audit(&backend, sale.id).await;
    assert_eq!((report.sold, report.returning), (1, 1), "{report:?}");
}
