//! Orders after their commit: state, totals, effects and events in one transaction.

use std::time::Duration;

use seckill_core::{
    Backend, CancelReason, Effect, Event, EventBody, EventOrder, Fate, Fault, FunnelCount, Notice, OrderId,
    OrderRecord, OrderStatus, Orders, OutboxState, Sale, SaleId, Step, UserId, now,
};
use uuid::Uuid;

use super::support::{DEADLINE, Subject};
use crate::eventually;
use crate::fixtures::{new_sale, open, order, order_of};

/// A sale whose orders can be paid for so long.
async fn sale_with_window(backend: &Backend, window: Duration) -> Sale {
    let window = u64::try_from(window.as_millis()).unwrap();
    open(backend, &seckill_core::NewSale { payment_window_ms: Some(window), ..new_sale(1_000, 2) }).await
}

/// Commits orders of one unit for so many users.
async fn commit(backend: &Backend, sale: SaleId, users: std::ops::Range<u64>) -> Vec<OrderId> {
    let orders: Vec<_> = users.map(|user| order(sale, user)).collect();
    let fates = backend.ledger.writer().await.unwrap().commit(&orders).await.unwrap();
    assert!(fates.iter().all(|fate| *fate == Fate::Committed), "{fates:?}");
    orders.iter().map(|order| order.claim.order_id).collect()
}

/// One transaction that takes orders a step on and tells of it; the orders as they are then.
async fn step(
    backend: &Backend,
    orders: &[OrderId],
    step: Step,
    reason: Option<CancelReason>,
) -> Result<Vec<OrderRecord>, Fault> {
    let mut transaction = backend.lifecycle.begin().await?;
    let from = transaction.lock_orders(orders, false).await?;
    let to: Vec<_> = from.iter().map(|order| order.after(step, reason).unwrap()).collect();
    transaction.move_orders(&from, &to).await?;
    transaction.commit().await?;
    Ok(to)
}

fn event(sale: SaleId) -> Event {
    let order = EventOrder {
        order_id: OrderId::generate(),
        user_id: UserId(1),
        quantity: 1,
        amount_cents: 5,
        sequence: 2,
    };
    let orders = Orders { sale_id: sale, reason: None, orders: vec![order] };
    Event::new(seckill_core::LedgerId(Uuid::nil()), EventBody::OrderPaid(orders))
}

async fn pending(backend: &Backend) -> Vec<Event> {
    let events = backend.outbox.list(OutboxState::Pending, 1_000).await.unwrap();
    events.iter().map(|event| event.message.event().unwrap()).collect()
}

/// The orders of a commit are in the outbox with the commit, a hundred in an event.
pub async fn a_commit_writes_its_events_with_its_orders(Subject { backend, .. }: Subject) {
    let sale = sale_with_window(&backend, Duration::from_secs(3_600)).await;
    let ids = commit(&backend, sale.id, 0..150).await;
    let events = pending(&backend).await;
    assert_eq!(events.len(), 2);
    let mut told = Vec::new();
    for event in &events {
        let EventBody::OrderCommitted(orders) = &event.body else { panic!("{event:?}") };
        assert_eq!((orders.sale_id, orders.reason), (sale.id, None));
        assert!(orders.orders.iter().all(|order| order.sequence == 1 && order.amount_cents == 12_345));
        told.extend(orders.orders.iter().map(|order| order.order_id));
    }
    told.sort_unstable();
    assert_eq!(told, ids);
    assert_eq!(events[0].source, format!("/seckill/{}", backend.ledger.id().await.unwrap()));
    // Redelivered orders have their events already, and of rejected ones nothing is told.
    let again = order_of(sale.id, 7, 2);
    let fates = backend.ledger.writer().await.unwrap().commit(&[again]).await.unwrap();
    assert!(matches!(fates[..], [Fate::Rejected(_)]), "{fates:?}");
    assert_eq!(pending(&backend).await.len(), 2);
}

/// A batch of which some orders are there already tells of the others alone.
pub async fn a_batch_that_is_partly_known_tells_of_the_rest(Subject { backend, .. }: Subject) {
    let sale = sale_with_window(&backend, Duration::from_secs(3_600)).await;
    let orders: Vec<_> = (0..4).map(|user| order(sale.id, user)).collect();
    let mut writer = backend.ledger.writer().await.unwrap();
    writer.commit(&orders[..2]).await.unwrap();
    writer.commit(&orders).await.unwrap();
    let told: Vec<_> = pending(&backend)
        .await
        .iter()
        .map(|event| match &event.body {
            EventBody::OrderCommitted(orders) => orders.orders.len(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [2, 2]);
}

/// Without a payment window a sale has no events and no deadlines.
pub async fn a_sale_without_a_window_tells_nothing(Subject { backend, .. }: Subject) {
    let sale = open(&backend, &new_sale(10, 1)).await;
    commit(&backend, sale.id, 0..3).await;
    assert_eq!(pending(&backend).await, []);
    assert_eq!(backend.lifecycle.overdue(None, 10).await.unwrap(), []);
    let found = backend.ledger.sale(sale.id).await.unwrap().unwrap();
    assert_eq!((found.payment_window_ms, found.ended.is_none()), (None, true));
}

/// Orders are overdue once their window is over, soonest first, a page at a time.
pub async fn overdue_orders_come_page_by_page(Subject { backend, .. }: Subject) {
    let later = sale_with_window(&backend, Duration::from_secs(3_600)).await;
    commit(&backend, later.id, 0..2).await;
    let soon = sale_with_window(&backend, Duration::from_millis(1)).await;
    let mut ids = commit(&backend, soon.id, 0..3).await;
    ids.extend(commit(&backend, soon.id, 3..5).await);
    let all = eventually(DEADLINE, async || {
        let all = backend.lifecycle.overdue(None, 10).await.unwrap();
        if all.len() == 5 { Ok(all) } else { Err(all) }
    })
    .await;
    assert!(all.is_sorted());
    let mut found: Vec<_> = all.iter().map(|overdue| overdue.order_id).collect();
    found.sort_unstable();
    assert_eq!(found, ids);
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = backend.lifecycle.overdue(after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(*last);
        pages.extend(page);
    }
    assert_eq!(pages, all);
}

/// A cancelled order gives its units back in the ledger, and the buyer may order again.
pub async fn a_cancelled_order_is_returning_until_the_gate_has_taken_it_back(
    Subject { backend, .. }: Subject,
) {
    let sale = sale_with_window(&backend, Duration::from_millis(1)).await;
    let ids = commit(&backend, sale.id, 0..3).await;
    let to = step(&backend, &ids[..2], Step::Cancel, Some(CancelReason::Expired)).await.unwrap();
    assert_eq!(to.iter().map(|order| order.sequence).collect::<Vec<_>>(), [2, 2]);
    let found = backend.ledger.sale(sale.id).await.unwrap().unwrap();
    assert_eq!((found.sold, found.orders), (1, 1));
    assert_eq!((found.ended.returning_orders(), found.ended.returning_units()), (2, 2));
    let totals = backend.ledger.totals(sale.id).await.unwrap();
    assert_eq!((totals.orders, totals.units, totals.duplicates), (1, 1, 0));
    let order = backend.ledger.order(ids[0]).await.unwrap().unwrap();
    assert_eq!((order.status, order.cancelled), (OrderStatus::Cancelled, Some(CancelReason::Expired)));
    // It has no deadline any more; the third has.
    eventually(DEADLINE, async || {
        let overdue = backend.lifecycle.overdue(None, 10).await.unwrap();
        let overdue: Vec<_> = overdue.iter().map(|overdue| overdue.order_id).collect();
        if overdue == ids[2..] { Ok(()) } else { Err(overdue) }
    })
    .await;
    // Delivered again it is what it is: it had its row.
    let again = seckill_core::Order { sale_id: sale.id, epoch: crate::fixtures::EPOCH, claim: to[0].claim };
    let mut writer = backend.ledger.writer().await.unwrap();
    assert_eq!(writer.commit(&[again]).await.unwrap(), [Fate::AlreadyCommitted]);
    // The same user may have another one.
    assert_eq!(writer.commit(&[crate::fixtures::order(sale.id, 0)]).await.unwrap(), [Fate::Committed]);
    assert_eq!(backend.ledger.orders_of(UserId(0), sale.id).await.unwrap().len(), 2);

    let mut transaction = backend.lifecycle.begin().await.unwrap();
    transaction.apply(&Effect::Returned { sale: sale.id, orders: 2, units: 2 }).await.unwrap();
    transaction.commit().await.unwrap();
    let found = backend.ledger.sale(sale.id).await.unwrap().unwrap();
    assert_eq!((found.sold, found.ended.returning_orders(), found.ended.returned_units), (2, 0, 2));
}

/// A paid order keeps its units until its money has gone back.
pub async fn a_paid_order_keeps_its_units_until_it_is_refunded(Subject { backend, .. }: Subject) {
    let sale = sale_with_window(&backend, Duration::from_millis(1)).await;
    let ids = commit(&backend, sale.id, 0..1).await;
    let status = async || backend.ledger.order(ids[0]).await.unwrap().unwrap().status;
    let sold = async || backend.ledger.sale(sale.id).await.unwrap().unwrap().sold;
    for (next, expected) in [
        (Step::Pay, OrderStatus::Paid),
        (Step::RequestRefund, OrderStatus::Refunding),
        (Step::HoldRefund, OrderStatus::RefundHeld),
        (Step::ApproveRefund, OrderStatus::Refunding),
    ] {
        step(&backend, &ids, next, None).await.unwrap();
        assert_eq!((status().await, sold().await), (expected, 1));
        assert_eq!(backend.lifecycle.overdue(None, 10).await.unwrap(), [], "it is paid");
    }
    step(&backend, &ids, Step::FinishRefund, None).await.unwrap();
    assert_eq!((status().await, sold().await), (OrderStatus::Refunded, 0));
}

/// Nothing of a transaction is there before its commit, and nothing of it stays without one.
pub async fn a_transaction_that_is_dropped_changes_nothing(Subject { backend, .. }: Subject) {
    let sale = sale_with_window(&backend, Duration::from_secs(3_600)).await;
    let ids = commit(&backend, sale.id, 0..1).await;
    let before = backend.ledger.sale(sale.id).await.unwrap();
    let told = event(sale.id);
    let all_of_it = async |ends: bool| {
        let mut transaction = backend.lifecycle.begin().await.unwrap();
        let from = transaction.lock_orders(&ids, false).await.unwrap();
        let to: Vec<_> =
            from.iter().map(|o| o.after(Step::Cancel, Some(CancelReason::Buyer)).unwrap()).collect();
        transaction.move_orders(&from, &to).await.unwrap();
        transaction.add_event(&told).await.unwrap();
        assert!(transaction.first_time("reader", told.id).await.unwrap());
        transaction.apply(&Effect::Points { user: UserId(9), points: 5 }).await.unwrap();
        if ends {
            transaction.commit().await.unwrap();
        }
    };
    all_of_it(false).await;
    assert_eq!(backend.ledger.sale(sale.id).await.unwrap(), before);
    assert_eq!(backend.ledger.order(ids[0]).await.unwrap().unwrap().status, OrderStatus::Committed);
    assert_eq!(backend.outbox.find(told.id).await.unwrap(), None);
    assert_eq!(backend.lifecycle.points(UserId(9)).await.unwrap(), 0);
    all_of_it(true).await;
    assert_eq!(backend.ledger.sale(sale.id).await.unwrap().unwrap().sold, 0);
    assert_eq!(backend.outbox.find(told.id).await.unwrap().unwrap().message, told.message());
    assert_eq!(backend.lifecycle.points(UserId(9)).await.unwrap(), 5);
}

/// Unknown orders are left out, and the others come in the order of their ids.
pub async fn locked_orders_come_by_id_and_unknown_ones_not_at_all(Subject { backend, .. }: Subject) {
    let sale = sale_with_window(&backend, Duration::from_secs(3_600)).await;
    let ids = commit(&backend, sale.id, 0..3).await;
    let asked = [ids[2], OrderId::generate(), ids[0], ids[1]];
    let mut transaction = backend.lifecycle.begin().await.unwrap();
    let found = transaction.lock_orders(&asked, true).await.unwrap();
    assert_eq!(found.iter().map(|order| order.claim.order_id).collect::<Vec<_>>(), ids);
    let first = &found[0];
    assert_eq!((first.sale_id, first.claim.user_id, first.amount_cents), (sale.id, UserId(0), 12_345));
    assert_eq!((first.state, first.sequence), (seckill_core::OrderState::COMMITTED, 1));
    assert!(transaction.lock_orders(&[], false).await.unwrap().is_empty());
}

/// One event has one effect at each consumer, also where several deliveries of it are taken in at once.
pub async fn an_event_is_taken_in_once(Subject { backend, .. }: Subject) {
    let event = Uuid::now_v7();
    let take_in = async |consumer: &str| loop {
        let mut transaction = match backend.lifecycle.begin().await {
            Ok(transaction) => transaction,
            Err(fault) => panic!("{fault}"),
        };
        match transaction.first_time(consumer, event).await {
            Ok(false) => return false,
            Ok(true) => {}
            // Another one was in the way.
            Err(_) => continue,
        }
        transaction.apply(&Effect::Points { user: UserId(7), points: 1 }).await.unwrap();
        transaction.commit().await.unwrap();
        return true;
    };
    let (a, b, c) = tokio::join!(take_in("one"), take_in("one"), take_in("one"));
    assert_eq!([a, b, c].iter().filter(|first| **first).count(), 1);
    assert!(!take_in("one").await);
    assert_eq!(backend.lifecycle.points(UserId(7)).await.unwrap(), 1);
    assert!(take_in("two").await, "another consumer takes it in for itself");
    assert_eq!(backend.lifecycle.points(UserId(7)).await.unwrap(), 2);
}

/// Why the inbox is needed: two deliveries of one event that look first and act later both act.
pub async fn a_consumer_that_looks_before_it_acts_acts_twice(Subject { backend, .. }: Subject) {
    let (user, points) = (UserId(3), 10);
    let both_have_looked = tokio::sync::Barrier::new(2);
    let naive = async || {
        let seen = backend.lifecycle.points(user).await.unwrap() > 0;
        both_have_looked.wait().await;
        if !seen {
            let mut transaction = backend.lifecycle.begin().await.unwrap();
            transaction.apply(&Effect::Points { user, points }).await.unwrap();
            transaction.commit().await.unwrap();
        }
    };
    tokio::join!(naive(), naive());
    assert_eq!(backend.lifecycle.points(user).await.unwrap(), 2 * points);
}

/// What subscribers have written is read back.
pub async fn effects_add_up(Subject { backend, .. }: Subject) {
    let (sale, order) = (open(&backend, &new_sale(10, 1)).await.id, OrderId::generate());
    let notice = |sequence, kind: &str| Notice {
        order_id: order,
        user_id: UserId(u64::MAX),
        kind: kind.to_owned(),
        sequence,
        at: now(),
    };
    let notices = [notice(2, "order.paid"), notice(3, "refund.requested")];
    let count = |orders| FunnelCount {
        stage: "order.paid".to_owned(),
        orders,
        units: 2 * orders,
        amount_cents: 100 * orders,
    };
    let effects = [
        Effect::Points { user: UserId(u64::MAX), points: 5 },
        Effect::Points { user: UserId(u64::MAX), points: -7 },
        Effect::Notices(notices.to_vec()),
        Effect::Counted { sale, count: count(3) },
        Effect::Counted { sale, count: count(4) },
    ];
    let mut transaction = backend.lifecycle.begin().await.unwrap();
    for effect in &effects {
        transaction.apply(effect).await.unwrap();
    }
    transaction.commit().await.unwrap();
    assert_eq!(backend.lifecycle.points(UserId(u64::MAX)).await.unwrap(), -2);
    assert_eq!(backend.lifecycle.points(UserId(1)).await.unwrap(), 0);
    assert_eq!(backend.lifecycle.notices(order).await.unwrap(), notices);
    assert_eq!(backend.lifecycle.notices(OrderId::generate()).await.unwrap(), []);
    assert_eq!(backend.lifecycle.funnel(sale).await.unwrap(), [count(7)]);
}

/// States, effects and the outbox are in the ledger's files.
pub async fn states_survive_a_reopen(subject: Subject) {
    let sale = sale_with_window(&subject.backend, Duration::from_secs(3_600)).await;
    let ids = commit(&subject.backend, sale.id, 0..2).await;
    step(&subject.backend, &ids[..1], Step::Cancel, Some(CancelReason::Buyer)).await.unwrap();
    let before = subject.backend.ledger.sale(sale.id).await.unwrap();
    let events = pending(&subject.backend).await;
    let subject = subject.reopen().await;
    let backend = &subject.backend;
    assert_eq!(backend.ledger.sale(sale.id).await.unwrap(), before);
    assert_eq!(backend.ledger.order(ids[0]).await.unwrap().unwrap().cancelled, Some(CancelReason::Buyer));
    assert_eq!(pending(backend).await, events);
}
