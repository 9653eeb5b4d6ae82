//! Money: sagas, entries, balances, coupons, and requests that are answered once.

use seckill_core::money::{Entry, Money, Request, Saga, SagaKind, SagaState, Way, entries, sale_account};
use seckill_core::{Backend, LifecycleTransaction, OrderId, Step, UserId, now};
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
