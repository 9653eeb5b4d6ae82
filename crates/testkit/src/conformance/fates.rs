//! What a [`Fates`](seckill_core::Fates) has to do: tell every listener what the ledger has done with orders.

use std::collections::HashSet;

use seckill_core::{
    Backend, CancelReason, FateNews, FatesListener, Heard, LedgerOrder, NewSale, OrderId, OrderStatus, Step,
};
use tokio::time::timeout;

use super::support::{DEADLINE, NEVER, Subject};
use crate::fixtures::{new_sale, open, order, order_of};

/// The next news that tell of this order. What was announced just before somebody listens may be heard, too.
async fn news_of(order: OrderId, listener: &mut Box<dyn FatesListener>) -> FateNews {
    loop {
        let heard = timeout(DEADLINE, listener.next()).await.expect("something is heard").unwrap();
        let Heard::News(news) = heard else { panic!("nothing was dropped") };
        if news.changed.contains(&order) || news.orders.iter().any(|told| told.claim.order_id == order) {
            return news;
        }
    }
}

/// The orders as the ledger has them, in the order of `ids`.
async fn in_ledger(backend: &Backend, ids: &[OrderId]) -> Vec<LedgerOrder> {
    let mut found = backend.ledger.orders(ids).await.unwrap();
    found.sort_by_key(|order| ids.iter().position(|id| *id == order.claim.order_id));
    found
}

/// Each listener hears of a batch once, all that there is to know of each order, as the ledger then says it.
pub async fn every_listener_hears_what_became_of_a_batch(Subject { backend, .. }: Subject) {
    let sale = open(&backend, &new_sale(10, 2)).await;
    let mut listeners = [backend.fates.listen().await.unwrap(), backend.fates.listen().await.unwrap()];
    let batch = [order(sale.id, 1), order_of(sale.id, 2, 3), order_of(sale.id, 3, 2)];
    backend.ledger.writer().await.unwrap().commit(&batch).await.unwrap();
    let ids = batch.each_ref().map(|order| order.claim.order_id);
    let orders = in_ledger(&backend, &ids).await;
    assert_eq!(
        orders.iter().map(|order| order.status).collect::<Vec<_>>(),
        [OrderStatus::Committed, OrderStatus::Rejected, OrderStatus::Committed]
    );
    for listener in &mut listeners {
        assert_eq!(news_of(ids[0], listener).await, FateNews { orders: orders.clone(), changed: Vec::new() });
    }
}

/// The order may be further on than it was after its first delivery.
pub async fn a_redelivered_order_is_said_to_have_changed(Subject { backend, .. }: Subject) {
    let sale = open(&backend, &new_sale(10, 1)).await;
    let (first, later) = (order(sale.id, 1), order(sale.id, 2));
    let mut writer = backend.ledger.writer().await.unwrap();
    writer.commit(std::slice::from_ref(&first)).await.unwrap();
    let mut listener = backend.fates.listen().await.unwrap();
    writer.commit(&[first.clone(), later.clone()]).await.unwrap();
    let orders = in_ledger(&backend, &[later.claim.order_id]).await;
    let heard = news_of(later.claim.order_id, &mut listener).await;
    assert_eq!(heard, FateNews { orders, changed: vec![first.claim.order_id] });
}

/// Whoever makes the change, and nothing of one that was not made.
pub async fn changes_after_the_commit_are_heard(Subject { backend, .. }: Subject) {
    let new = NewSale { payment_window_ms: Some(3_600_000), ..new_sale(10, 1) };
    let sale = open(&backend, &new).await;
    let batch = [order(sale.id, 1), order(sale.id, 2)];
    backend.ledger.writer().await.unwrap().commit(&batch).await.unwrap();
    let ids = batch.each_ref().map(|order| order.claim.order_id);
    let mut listener = backend.fates.listen().await.unwrap();
    for commit in [false, true] {
        let mut transaction = backend.lifecycle.begin().await.unwrap();
        let from = transaction.lock_orders(&ids, false).await.unwrap();
        let cancelled = Some(CancelReason::Buyer);
        let to: Vec<_> = from.iter().map(|order| order.after(Step::Cancel, cancelled).unwrap()).collect();
        transaction.move_orders(&from, &to).await.unwrap();
        if commit {
            transaction.commit().await.unwrap();
        }
    }
    let orders = in_ledger(&backend, &ids).await;
    assert!(orders.iter().all(|order| order.status == OrderStatus::Cancelled && order.sequence == 2));
    let heard = loop {
        let news = news_of(ids[0], &mut listener).await;
        if news.orders.iter().all(|order| order.sequence > 1) {
            break news;
        }
    };
    let by_id = |orders: Vec<LedgerOrder>| -> HashSet<OrderId> {
        orders.into_iter().map(|order| order.claim.order_id).collect()
    };
    assert!(heard.orders.iter().all(|order| orders.contains(order)), "{heard:?}");
    assert_eq!((by_id(heard.orders), heard.changed), (by_id(orders), Vec::new()));
    let more = timeout(NEVER, listener.next()).await;
    assert!(more.is_err(), "the transaction that was dropped is told of: {more:?}");
}

/// A largest commit is one message, and nobody needs to listen.
pub async fn a_large_batch_is_heard_whole(Subject { backend, .. }: Subject) {
    let sale = open(&backend, &new_sale(1_000, 1)).await;
    let batch = |users: std::ops::Range<u64>| -> Vec<_> { users.map(|user| order(sale.id, user)).collect() };
    let mut writer = backend.ledger.writer().await.unwrap();
    writer.commit(&batch(0..1)).await.unwrap();
    let mut listener = backend.fates.listen().await.unwrap();
    let large = batch(1..501);
    writer.commit(&large).await.unwrap();
    let heard = news_of(large[0].claim.order_id, &mut listener).await;
    assert_eq!((heard.orders.len(), heard.changed.len()), (500, 0));
}
