//! Money: sagas, entries, balances, coupons, and requests that are answered once.

use seckill_core::effects::RefundEffects;
use seckill_core::money::{Entry, Money, Request, Saga, SagaKind, SagaState, Way, entries, sale_account};
use seckill_core::{
    Backend, CancelReason, Effect, FunnelCount, LifecycleTransaction, Notice, OrderId, SaleId, Step, UserId,
    now,
};
use uuid::Uuid;

use super::support::Subject;
use crate::fixtures::{new_sale, open, order};

const USER: UserId = UserId(u64::MAX);

async fn begin(backend: &Backend) -> Box<dyn LifecycleTransaction> {
    backend.lifecycle.begin().await.unwrap()
}

fn saga(order_id: OrderId, state: SagaState, due_in_ms: Option<i64>) -> Saga {
    Saga {
        kind: SagaKind::Payment,
        order_id,
        state,
        due_at: due_in_ms.map(|millis| now() + chrono::Duration::milliseconds(millis)),
        attempts: 3,
        body: r#"{"秒杀":"it's \\ \"quoted\""}"#.to_owned(),
    }
}

/// A saga reads back as written, the newest state counts, and each kind is for itself.
pub async fn a_saga_reads_back_as_written(Subject { backend, .. }: Subject) {
    let id = OrderId::generate();
    let (first, second) = (saga(id, SagaState::Running, Some(60_000)), saga(id, SagaState::Succeeded, None));
    let refund = Saga { kind: SagaKind::Refund, ..saga(id, SagaState::Held, None) };
    let mut transaction = begin(&backend).await;
    assert_eq!(transaction.saga(SagaKind::Payment, id).await.unwrap(), None);
    transaction.put_saga(&first).await.unwrap();
    assert_eq!(transaction.saga(SagaKind::Payment, id).await.unwrap(), Some(first));
    transaction.put_saga(&refund).await.unwrap();
    transaction.put_saga(&second).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(backend.lifecycle.find_saga(SagaKind::Payment, id).await.unwrap(), Some(second));
    assert_eq!(backend.lifecycle.find_saga(SagaKind::Refund, id).await.unwrap(), Some(refund.clone()));
    assert_eq!(backend.lifecycle.sagas(SagaKind::Refund, SagaState::Held, 10).await.unwrap(), [refund]);
    assert_eq!(backend.lifecycle.sagas(SagaKind::Refund, SagaState::Running, 10).await.unwrap(), []);
}

/// Only running sagas whose time has come are due.
pub async fn running_sagas_are_due_when_their_time_has_come(Subject { backend, .. }: Subject) {
    let ids: Vec<_> = (0..5).map(|_| OrderId::generate()).collect();
    let mut transaction = begin(&backend).await;
    for (id, state, due) in [
        (ids[0], SagaState::Running, Some(-600_000)),
        (ids[1], SagaState::Running, Some(-1_200_000)),
        (ids[2], SagaState::Running, Some(3_600_000)),
        (ids[3], SagaState::Held, Some(-600_000)),
        (ids[4], SagaState::Running, None),
    ] {
        transaction.put_saga(&saga(id, state, due)).await.unwrap();
    }
    transaction.commit().await.unwrap();
    assert_eq!(backend.lifecycle.due_sagas(SagaKind::Payment, 10).await.unwrap(), [ids[1], ids[0]]);
    assert_eq!(backend.lifecycle.due_sagas(SagaKind::Payment, 1).await.unwrap(), ids[1..2]);
    assert_eq!(backend.lifecycle.due_sagas(SagaKind::Refund, 10).await.unwrap(), []);
}

/// Refunds that run or are held, and no other sagas.
pub async fn refunds_that_have_not_ended_are_counted_and_the_newest_shown(Subject { backend, .. }: Subject) {
    let none = backend.lifecycle.open_refunds(8).await.unwrap();
    assert_eq!((none.running, none.held, none.oldest_held, none.newest), (0, 0, None, Vec::new()));
    let refund =
        |state, due_in_ms| Saga { kind: SagaKind::Refund, ..saga(OrderId::generate(), state, due_in_ms) };
    let running: Vec<_> = (0..3).map(|_| refund(SagaState::Running, None)).collect();
    let held = [refund(SagaState::Held, Some(-600_000)), refund(SagaState::Held, Some(-7_200_000))];
    let others = [
        refund(SagaState::Succeeded, None),
        refund(SagaState::Failed, Some(-9_000_000)),
        saga(OrderId::generate(), SagaState::Held, Some(-9_000_000)),
    ];
    let mut transaction = begin(&backend).await;
    for saga in running.iter().chain(&held).chain(&others) {
        transaction.put_saga(saga).await.unwrap();
    }
    transaction.commit().await.unwrap();
    let open = backend.lifecycle.open_refunds(2).await.unwrap();
    assert_eq!((open.running, open.held, open.oldest_held), (3, 2, held[1].due_at));
    let newest = [&running[2], &running[1], &held[1], &held[0]].map(Clone::clone);
    assert_eq!(open.newest, newest);
    assert!((open.now - now()).num_seconds().abs() < 60, "{open:?}");
    let counted = backend.lifecycle.open_refunds(0).await.unwrap();
    assert_eq!((counted.running, counted.held, counted.newest), (3, 2, Vec::new()));
}

/// A balance never goes below zero.
pub async fn a_balance_is_never_overdrawn(Subject { backend, .. }: Subject) {
    let mut transaction = begin(&backend).await;
    assert!(!transaction.change_balance(USER, -1).await.unwrap());
    assert!(transaction.change_balance(USER, 500).await.unwrap());
    assert!(!transaction.change_balance(USER, -501).await.unwrap());
    assert!(transaction.change_balance(USER, -200).await.unwrap());
    transaction.commit().await.unwrap();
    assert_eq!(backend.lifecycle.balance(USER).await.unwrap(), 300);
    assert_eq!(backend.lifecycle.balance(UserId(1)).await.unwrap(), 0);
    drop(begin(&backend).await);
    let mut transaction = begin(&backend).await;
    assert!(transaction.change_balance(USER, -300).await.unwrap());
    drop(transaction);
    assert_eq!(backend.lifecycle.balance(USER).await.unwrap(), 300);
}

/// A coupon is used for one order, as a whole.
pub async fn a_coupon_is_used_for_one_order(Subject { backend, .. }: Subject) {
    let (one, two) = (OrderId::generate(), OrderId::generate());
    let mut transaction = begin(&backend).await;
    assert!(transaction.add_coupon("SPRING-5", 500).await.unwrap());
    assert!(!transaction.add_coupon("SPRING-5", 900).await.unwrap());
    assert_eq!(transaction.use_coupon("spring-5", one).await.unwrap(), None, "codes are exact");
    assert_eq!(transaction.use_coupon("SPRING-5", one).await.unwrap(), Some(500));
    assert_eq!(transaction.use_coupon("SPRING-5", two).await.unwrap(), None);
    transaction.free_coupon("SPRING-5", two).await.unwrap();
    assert_eq!(transaction.use_coupon("SPRING-5", two).await.unwrap(), None);
    transaction.free_coupon("SPRING-5", one).await.unwrap();
    assert_eq!(transaction.use_coupon("SPRING-5", two).await.unwrap(), Some(500));
    transaction.commit().await.unwrap();
}

/// A key has one request and one answer; of two that come at once, one is new.
pub async fn a_request_is_new_once(Subject { backend, .. }: Subject) {
    let (hash, other) = ([7; 32], [8; 32]);
    let ask = async |answer: &str| loop {
        let mut transaction = begin(&backend).await;
        match transaction.request(USER, "key-1", &hash).await {
            Ok(Request::New) => {
                transaction.answer_request(USER, "key-1", answer).await.unwrap();
                transaction.commit().await.unwrap();
                return Request::New;
            }
            Ok(known) => return known,
            // Another one was in the way.
            Err(_) => continue,
        }
    };
    let (a, b) = tokio::join!(ask("first"), ask("second"));
    let (new, repeated) = if a == Request::New { (a, b) } else { (b, a) };
    assert_eq!(new, Request::New);
    assert!(matches!(repeated, Request::Repeated(Some(_))), "{repeated:?}");
    assert_eq!(ask("third").await, repeated);
    let mut transaction = begin(&backend).await;
    assert_eq!(transaction.request(USER, "key-1", &other).await.unwrap(), Request::Differs);
    // The same key of another user is another key.
    assert_eq!(transaction.request(UserId(1), "key-1", &other).await.unwrap(), Request::New);
    transaction.commit().await.unwrap();
    let mut transaction = begin(&backend).await;
    assert_eq!(transaction.request(UserId(1), "key-1", &other).await.unwrap(), Request::Repeated(None));
}

/// Entries add up to the money of their sale, and a transfer is written once.
pub async fn entries_add_up_to_the_money_of_a_sale(Subject { backend, .. }: Subject) {
    let new = seckill_core::NewSale { payment_window_ms: Some(3_600_000), ..new_sale(10, 1) };
    let sale = open(&backend, &new).await.id;
    assert_eq!(backend.lifecycle.money(sale).await.unwrap(), Money::default());
    let (one, two) = (order(sale, 1), order(sale, 2));
    backend.ledger.writer().await.unwrap().commit(&[one.clone(), two.clone()]).await.unwrap();
    let (one, two) = (one.claim.order_id, two.claim.order_id);
    let (charge, back) = (Uuid::now_v7(), Uuid::now_v7());
    let ways = [(Way::Card, 12_000), (Way::Balance, 345)];
    let mut transaction = begin(&backend).await;
    for id in [one, two] {
        let from = transaction.lock_orders(&[id], false).await.unwrap();
        let to = vec![from[0].after(Step::Pay, None).unwrap()];
        transaction.move_orders(&from, &to).await.unwrap();
        let transfer = if id == one { charge } else { Uuid::now_v7() };
        let lines = entries(transfer, id, sale, UserId(1), ways.into_iter(), 1);
        transaction.add_entries(&lines).await.unwrap();
    }
    let from = transaction.lock_orders(&[two], false).await.unwrap();
    let to = vec![from[0].after(Step::RequestRefund, None).unwrap()];
    transaction.move_orders(&from, &to).await.unwrap();
    let lines = entries(back, two, sale, UserId(1), ways[..1].iter().copied(), -1);
    transaction.add_entries(&lines).await.unwrap();
    transaction.commit().await.unwrap();
    let money = backend.lifecycle.money(sale).await.unwrap();
    let expected = Money {
        charged_cents: 24_690,
        refunded_cents: 12_000,
        paid_cents: 12_345,
        refunding_cents: 12_345,
        entries_sum: 0,
        unbalanced: 0,
    };
    assert_eq!(money, expected);
    assert_eq!(money.findings(), [] as [String; 0]);

    let mut transaction = begin(&backend).await;
    let twice =
        Entry { transfer: charge, order_id: one, sale_id: sale, account: sale_account(sale), cents: -1 };
    assert!(transaction.add_entries(&[twice]).await.is_err());
    drop(transaction);
    let mut transaction = begin(&backend).await;
    let lone =
        Entry { transfer: Uuid::now_v7(), order_id: one, sale_id: sale, account: "bank".into(), cents: 5 };
    transaction.add_entries(&[lone]).await.unwrap();
    transaction.commit().await.unwrap();
    let money = backend.lifecycle.money(sale).await.unwrap();
    assert_eq!((money.entries_sum, money.unbalanced), (5, 1));
}

/// Takes an order a step on.
async fn step(transaction: &mut dyn LifecycleTransaction, order: OrderId, step: Step) {
    let from = transaction.lock_orders(&[order], false).await.unwrap();
    let reason = (step == Step::Cancel).then_some(CancelReason::Buyer);
    let to = vec![from[0].after(step, reason).unwrap()];
    transaction.move_orders(&from, &to).await.unwrap();
}

/// What the funnel and the notices get to know of one event about an order of `sale`.
fn told(sale: SaleId, order_id: OrderId, event: &str) -> [Effect; 2] {
    let count = FunnelCount { stage: event.to_owned(), orders: 1, units: 1, amount_cents: 12_345 };
    let notice = Notice { order_id, user_id: USER, kind: event.to_owned(), sequence: 2, at: now() };
    [Effect::Counted { sale, count }, Effect::Notices(vec![notice])]
}

async fn apply(backend: &Backend, effects: &[Effect]) {
    let mut transaction = begin(backend).await;
    for effect in effects {
        transaction.apply(effect).await.unwrap();
    }
    transaction.commit().await.unwrap();
}

/// The comparisons that fail: subscriber, event, by how many too many.
async fn wrong(backend: &Backend, sale: SaleId) -> Vec<(String, String, i64)> {
    let checks = backend.lifecycle.refund_effects(sale).await.unwrap().checks();
    let wrong = checks.into_iter().filter(|check| check.actual != check.expected);
    wrong.map(|check| (check.subscriber, check.event, check.actual - check.expected)).collect()
}

/// Two sales with payments, and the orders of users 1 to 5 in the first. One is paid; one is refunded in two parts; one refund is held
/// and one denied; one order was paid for after it had been cancelled, and is refunded. Buyer 1 has paid in the second sale, too, and
/// so has somebody else.
async fn refunds(backend: &Backend) -> (SaleId, Vec<OrderId>) {
    let new = seckill_core::NewSale { payment_window_ms: Some(3_600_000), ..new_sale(10, 1) };
    let (sale, other) = (open(backend, &new).await.id, open(backend, &new).await.id);
    let mut orders: Vec<_> = (1..=5).map(|user| order(sale, user)).collect();
    orders.extend([order(other, 1), order(other, 9)]);
    backend.ledger.writer().await.unwrap().commit(&orders).await.unwrap();
    let ids: Vec<OrderId> = orders.iter().map(|order| order.claim.order_id).collect();
    let steps: [&[Step]; 7] = [
        &[Step::Pay],
        &[Step::Pay, Step::RequestRefund, Step::FinishRefund],
        &[Step::Pay, Step::RequestRefund, Step::HoldRefund],
        &[Step::Pay, Step::RequestRefund, Step::HoldRefund, Step::DenyRefund],
        &[Step::Cancel, Step::Pay, Step::FinishRefund],
        &[Step::Pay],
        &[Step::Pay],
    ];
    let mut transaction = begin(backend).await;
    for (id, steps) in ids.iter().zip(steps) {
        for one in steps {
            step(transaction.as_mut(), *id, *one).await;
        }
    }
    let states = [SagaState::Succeeded, SagaState::Held, SagaState::Failed, SagaState::Succeeded];
    for (id, state) in ids[1..].iter().zip(states) {
        transaction.put_saga(&Saga { kind: SagaKind::Refund, ..saga(*id, state, None) }).await.unwrap();
        transaction.put_saga(&saga(*id, SagaState::Succeeded, None)).await.unwrap();
    }
    for (id, ways) in
        [(ids[1], vec![(Way::Card, 12_000), (Way::Balance, 345)]), (ids[4], vec![(Way::Card, 12_345)])]
    {
        let charge = entries(Uuid::now_v7(), id, sale, USER, ways.iter().copied(), 1);
        transaction.add_entries(&charge).await.unwrap();
        for way in ways {
            let back = entries(Uuid::now_v7(), id, sale, USER, [way].into_iter(), -1);
            transaction.add_entries(&back).await.unwrap();
        }
    }
    transaction.commit().await.unwrap();
    (sale, ids[..5].to_vec())
}

/// What the subscribers have written is counted beside what has happened, and an effect that is missing or there twice is seen.
pub async fn effects_of_refund_events_are_counted(Subject { backend, .. }: Subject) {
    let none = backend.lifecycle.refund_effects(SaleId(77)).await.unwrap();
    assert_eq!(none, RefundEffects::default());
    let (sale, ids) = refunds(&backend).await;
    let found = backend.lifecycle.refund_effects(sale).await.unwrap();
    // 123 points for each of the orders that are paid or whose refund is not through: 1 in both sales, 3 and 4.
    let truth = RefundEffects {
        transfers: 3,
        succeeded: 2,
        open_refunds: 1,
        ended_orders: 2,
        points_due: 492,
        ..RefundEffects::default()
    };
    assert_eq!(found, truth);

    let events = [
        (1, "requested approved transferred transferred succeeded"),
        (2, "requested held"),
        (3, "requested held denied"),
        (4, "requested approved transferred succeeded"),
    ];
    let mut effects = vec![
        Effect::Returned { sale, orders: 2, units: 2 },
        Effect::Points { user: UserId(9), points: 123 },
        Effect::Points { user: UserId(1), points: 246 },
    ];
    effects.extend([3, 4].map(|user| Effect::Points { user: UserId(user), points: 123 }));
    effects.extend([123, -123].map(|points| Effect::Points { user: UserId(2), points }));
    for (at, events) in events {
        for event in events.split(' ') {
            effects.extend(told(sale, ids[at], &format!("refund.{event}")));
        }
    }
    // Other events and other sales are none of its business.
    effects.extend(told(sale, ids[0], "order.paid"));
    effects.extend(told(SaleId(78), OrderId::generate(), "refund.held"));
    apply(&backend, &effects).await;
    let found = backend.lifecycle.refund_effects(sale).await.unwrap();
    assert_eq!((found.returned_orders, found.points), (2, 492));
    let counts = [("approved", 2), ("denied", 1), ("held", 2), ("requested", 4), ("succeeded", 2)];
    let counts = counts.into_iter().chain([("transferred", 3)]);
    let counts = counts.map(|(event, count)| (format!("refund.{event}"), count)).collect();
    assert_eq!((&found.funnel, &found.notifications), (&counts, &counts));
    assert_eq!(wrong(&backend, sale).await, []);

    apply(&backend, &told(sale, ids[1], "refund.transferred")).await;
    let (points, returned) =
        (Effect::Points { user: UserId(2), points: -123 }, Effect::Returned { sale, orders: 1, units: 1 });
    apply(&backend, &[points, returned]).await;
    let twice = [
        ("funnel", "refund.transferred", 1),
        ("notifications", "refund.transferred", 1),
        ("restock", "order.cancelled, refund.succeeded", 1),
        ("loyalty", "order.paid, refund.succeeded", -123),
    ];
    let twice = twice.map(|(subscriber, event, by)| (subscriber.to_owned(), event.to_owned(), by));
    assert_eq!(wrong(&backend, sale).await, twice);
}
