//! What a [`Ledger`](seckill_core::Ledger) has to do: one end for every order, whatever arrives, in whatever order, how
//! often, and from how many writers.

use seckill_core::{
    Admission, Backend, Claim, Fate, LedgerOrder, LedgerTotals, Mode, NewSale, Order, OrderId, RejectReason,
    RoomTerms, Sale, SaleId, UserId,
};

use super::support::{Subject, assert_totals};
use crate::fixtures::{self, EPOCH, claim_of, new_sale, order, order_of};

/// Sales that no ledger of a test gets to.
const UNKNOWN: SaleId = SaleId(4_000_000_000);

/// Every field, at the ends of its range.
pub async fn a_sale_reads_back_as_written(Subject { backend, .. }: Subject) {
    let ledger = &backend.ledger;
    ledger.ping().await.unwrap();
    let plain = new_sale(5, 1);
    let longest = NewSale {
        name: "秒".repeat(NewSale::MAX_NAME_CHARS - 1) + "🎉",
        product: Some("🎉".repeat(NewSale::MAX_NAME_CHARS)),
        stock: NewSale::MAX_STOCK,
        price_cents: NewSale::MAX_PRICE_CENTS,
        currency: "CNY".to_owned(),
        per_user_limit: NewSale::MAX_PER_USER_LIMIT,
        starts_at: "2000-01-01T00:00:00.001Z".parse().unwrap(),
        ends_at: "2999-12-31T23:59:59.999Z".parse().unwrap(),
        payment_window_ms: Some(NewSale::MAX_PAYMENT_WINDOW_MS),
        require_ticket: true,
        tickets_from: None,
        ticket_ttl_ms: Some(Admission::MAX_TICKET_TTL_MS),
        proof_of_work: true,
        waiting_room: Some(RoomTerms {
            opens_before_ms: Admission::MAX_OPENS_BEFORE_MS,
            rate_per_second: Admission::MAX_RATE_PER_SECOND,
        }),
    };
    for (new, mode) in [(plain, Mode::Queue), (longest, Mode::Direct)] {
        assert_eq!(new.check(), Ok(()));
        let sale = ledger.create_sale(&new, mode).await.unwrap();
        let age = seckill_core::now() - sale.created_at;
        assert!(
            age.abs() < chrono::Duration::minutes(10),
            "created {age} ago: is the ledger's clock in UTC?"
        );
        let expected = Sale { mode, created_at: sale.created_at, ..Sale::new(sale.id, new) };
        assert_eq!(sale, expected);
        assert_eq!(ledger.sale(sale.id).await.unwrap(), Some(expected));
        assert_eq!(ledger.totals(sale.id).await.unwrap(), LedgerTotals::default());
    }
    assert_eq!(ledger.sale(UNKNOWN).await.unwrap(), None);
}

/// Ids count up, and the list counts down.
pub async fn sales_are_listed_newest_first(Subject { backend, .. }: Subject) {
    assert_eq!(backend.ledger.sales(10).await.unwrap(), Vec::<Sale>::new());
    let mut sales = Vec::new();
    for stock in 1..=4 {
        sales.insert(0, backend.ledger.create_sale(&new_sale(stock, 1), Mode::Queue).await.unwrap());
    }
    assert!(sales.iter().map(|sale| sale.id).is_sorted_by(|newer, older| newer > older));
    assert_eq!(backend.ledger.sales(10).await.unwrap(), sales);
    assert_eq!(backend.ledger.sales(3).await.unwrap(), sales[..3]);
    assert_eq!(backend.ledger.sales(0).await.unwrap(), Vec::<Sale>::new());
}

/// Of two who open a sale, the one on the later epoch has the last word.
pub async fn an_epoch_is_never_lowered(Subject { backend, .. }: Subject) {
    let sale = backend.ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
    for (marked, epoch) in [(1, 1), (1, 1), (3, 3), (2, 3)] {
        backend.ledger.mark_opened(sale.id, marked).await.unwrap();
        let expected = Sale { epoch, ..sale.clone() };
        assert_eq!(backend.ledger.sale(sale.id).await.unwrap(), Some(expected));
    }
}

/// The usual case.
pub async fn a_new_order_is_committed(Subject { backend, .. }: Subject) {
    let sale = backend.ledger.create_sale(&new_sale(5, 2), Mode::Queue).await.unwrap();
    let orders = [order_of(sale.id, 1, 2), order(sale.id, 2)];
    assert_eq!(commit(&backend, &orders).await, [Fate::Committed; 2]);
    for order in &orders {
        let found = backend.ledger.order(order.claim.order_id).await.unwrap().unwrap();
        assert_eq!((found.sale_id, found.claim), (order.sale_id, order.claim));
        assert_eq!(found.amount_cents, u64::from(order.claim.quantity) * sale.price_cents);
        assert_eq!(found.rejected, None);
        let age = seckill_core::now() - found.recorded_at;
        assert!(
            age.abs() < chrono::Duration::minutes(10),
            "recorded {age} ago: is the ledger's clock in UTC?"
        );
        let mine = backend.ledger.orders_of(order.claim.user_id, sale.id).await.unwrap();
        assert_eq!(mine, [found]);
    }
    let totals = LedgerTotals { orders: 2, units: 3, ..LedgerTotals::default() };
    assert_totals(&backend, &sale, totals).await;
}

/// The queue delivers at least once.
pub async fn a_redelivered_order_is_answered_and_changes_nothing(Subject { backend, .. }: Subject) {
    let sale = backend.ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
    let old = [order(sale.id, 1), order(sale.id, 2)];
    commit(&backend, &old).await;
    let before = backend.ledger.order(old[0].claim.order_id).await.unwrap();
    // With another writer, and among new ones.
    let mixed = [old[1].clone(), order(sale.id, 3), old[0].clone()];
    let fates = commit(&backend, &mixed).await;
    assert_eq!(fates, [Fate::AlreadyCommitted, Fate::Committed, Fate::AlreadyCommitted]);
    assert_eq!(backend.ledger.order(old[0].claim.order_id).await.unwrap(), before);
    let totals = LedgerTotals { orders: 3, units: 3, ..LedgerTotals::default() };
    assert_totals(&backend, &sale, totals).await;
}

/// A batch gathers several messages, and one of them may be a duplicate.
pub async fn an_order_id_twice_in_a_batch_is_one_order(Subject { backend, .. }: Subject) {
    let sale = backend.ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
    let twice = order(sale.id, 1);
    let bad = order_of(sale.id, 2, 0);
    let fates = commit(&backend, &[twice.clone(), bad.clone(), twice, bad]).await;
    let reason = RejectReason::BadQuantity;
    assert_eq!(
        fates,
        [Fate::Committed, Fate::Rejected(reason), Fate::AlreadyCommitted, Fate::AlreadyRejected(reason)]
    );
    let totals = LedgerTotals { orders: 1, units: 1, rejected_orders: 1, ..LedgerTotals::default() };
    assert_totals(&backend, &sale, totals).await;
}

/// Two orders of a user: in one batch, and in two.
pub async fn a_user_has_one_order_in_a_sale(Subject { backend, .. }: Subject) {
    let sale = backend.ledger.create_sale(&new_sale(9, 2), Mode::Queue).await.unwrap();
    let reason = Fate::Rejected(RejectReason::UserHasOrder);
    let fates = commit(&backend, &[order(sale.id, 1), order(sale.id, 2), order_of(sale.id, 1, 2)]).await;
    assert_eq!(fates, [Fate::Committed, Fate::Committed, reason]);
    let fates = commit(&backend, &[order(sale.id, 3), order_of(sale.id, 2, 2)]).await;
    assert_eq!(fates, [Fate::Committed, reason]);
    let totals = LedgerTotals { orders: 3, units: 3, rejected_orders: 2, rejected_units: 4, duplicates: 0 };
    assert_totals(&backend, &sale, totals).await;
}

/// The ledger has the last word on the stock, and sells what is left to whom it is enough for.
pub async fn what_would_oversell_is_rejected(Subject { backend, .. }: Subject) {
    let sale = backend.ledger.create_sale(&new_sale(4, 3), Mode::Queue).await.unwrap();
    let sold_out = Fate::Rejected(RejectReason::SoldOut);
    let batch = [order_of(sale.id, 1, 3), order_of(sale.id, 2, 2), order(sale.id, 3), order(sale.id, 4)];
    let fates = commit(&backend, &batch).await;
    assert_eq!(fates, [Fate::Committed, sold_out, Fate::Committed, sold_out]);
    assert_eq!(commit(&backend, &[order(sale.id, 5)]).await, [sold_out]);
    let totals = LedgerTotals { orders: 2, units: 4, rejected_orders: 3, rejected_units: 4, duplicates: 0 };
    assert_totals(&backend, &sale, totals).await;
}

/// One bad order takes nobody with it.
pub async fn a_bad_order_is_rejected_alone(Subject { backend, .. }: Subject) {
    let sale = backend.ledger.create_sale(&new_sale(1_000, 2), Mode::Queue).await.unwrap();
    for (bad, reason) in [
        (order_of(sale.id, 1, 0), RejectReason::BadQuantity),
        (order_of(sale.id, 2, 3), RejectReason::BadQuantity),
        (order_of(sale.id, 3, u32::MAX), RejectReason::BadQuantity),
        (order(UNKNOWN, 4), RejectReason::UnknownSale),
    ] {
        let user = 10 * bad.claim.user_id.0;
        let good = [order(sale.id, user), order_of(sale.id, user + 1, 2)];
        let fates = commit(&backend, &[good[0].clone(), bad.clone(), good[1].clone()]).await;
        assert_eq!(fates, [Fate::Committed, Fate::Rejected(reason), Fate::Committed]);
        let found = backend.ledger.order(bad.claim.order_id).await.unwrap().unwrap();
        assert_eq!((found.sale_id, found.claim), (bad.sale_id, bad.claim));
        assert_eq!((found.amount_cents, found.rejected), (0, Some(reason)));
    }
    let totals = LedgerTotals {
        orders: 8,
        units: 12,
        rejected_orders: 3,
        rejected_units: 3 + u64::from(u32::MAX),
        duplicates: 0,
    };
    assert_totals(&backend, &sale, totals).await;
}

/// An order that was refused once is not let in later, although the reason may have gone.
pub async fn a_rejection_is_final(Subject { backend, .. }: Subject) {
    let sale = backend.ledger.create_sale(&new_sale(2, 2), Mode::Queue).await.unwrap();
    let too_many = order_of(sale.id, 2, 2);
    let unknown = order(SaleId(sale.id.0 + 1), 3);
    let fates = commit(&backend, &[order(sale.id, 1), too_many.clone(), unknown.clone()]).await;
    let (sold_out, no_sale) = (RejectReason::SoldOut, RejectReason::UnknownSale);
    assert_eq!(fates, [Fate::Committed, Fate::Rejected(sold_out), Fate::Rejected(no_sale)]);
    let later = backend.ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
    assert!(later.id > sale.id);
    for _ in 0..2 {
        let fates = commit(&backend, &[too_many.clone(), unknown.clone(), order(sale.id, 1)]).await;
        let has_order = Fate::Rejected(RejectReason::UserHasOrder);
        assert_eq!(fates, [Fate::AlreadyRejected(sold_out), Fate::AlreadyRejected(no_sale), has_order]);
    }
    // A rejected user may still buy, by another order.
    assert_eq!(commit(&backend, &[order(sale.id, 2)]).await, [Fate::Committed]);
}

/// A worker's batch is gathered from messages of any sale.
pub async fn a_batch_may_hold_orders_of_several_sales(Subject { backend, .. }: Subject) {
    let mut sales = Vec::new();
    for stock in [5, 1, 5] {
        sales.push(backend.ledger.create_sale(&new_sale(stock, 1), Mode::Queue).await.unwrap());
    }
    let [one, two, three] = [0, 1, 2].map(|at: usize| sales[at].id);
    let batch =
        [order(three, 1), order(one, 1), order(two, 1), order(three, 2), order(two, 2), order(one, 1)];
    use Fate::{Committed, Rejected};
    let fates = commit(&backend, &batch).await;
    let (sold_out, has_order) = (RejectReason::SoldOut, RejectReason::UserHasOrder);
    assert_eq!(fates, [Committed, Committed, Committed, Committed, Rejected(sold_out), Rejected(has_order)]);
    for (sale, (orders, rejected_orders)) in sales.iter().zip([(1, 1), (1, 1), (2, 0)]) {
        let totals = LedgerTotals {
            orders,
            units: orders,
            rejected_orders,
            rejected_units: rejected_orders,
            duplicates: 0,
        };
        assert_totals(&backend, sale, totals).await;
    }
}

/// An order id has one row in the whole ledger, also should it turn up under two sales.
pub async fn an_order_belongs_to_the_sale_it_was_first_given_for(Subject { backend, .. }: Subject) {
    let one = backend.ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
    let two = backend.ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
    let first = order(one.id, 1);
    let strayed = Order { sale_id: two.id, ..first.clone() };
    assert_eq!(commit(&backend, std::slice::from_ref(&first)).await, [Fate::Committed]);
    assert_eq!(commit(&backend, &[strayed]).await, [Fate::AlreadyCommitted]);
    let found = backend.ledger.order(first.claim.order_id).await.unwrap().unwrap();
    assert_eq!((found.sale_id, found.claim), (first.sale_id, first.claim));
    assert_totals(&backend, &two, LedgerTotals::default()).await;
}

/// What a buyer sees of a sale: committed and rejected orders, the oldest first, not without end.
pub async fn a_users_orders_come_oldest_first(Subject { backend, .. }: Subject) {
    let sale = backend.ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
    let of_mine = async || backend.ledger.orders_of(UserId(1), sale.id).await.unwrap();
    assert_eq!(of_mine().await, Vec::<LedgerOrder>::new());
    let mut ids = Vec::new();
    for _ in 0..3 {
        let (mine, other) = (order(sale.id, 1), order(sale.id, 2));
        commit(&backend, &[mine.clone(), other]).await;
        ids.push(mine.claim.order_id);
    }
    let found = of_mine().await;
    assert_eq!(found.iter().map(|order| order.claim.order_id).collect::<Vec<_>>(), ids);
    let has_order = Some(RejectReason::UserHasOrder);
    assert_eq!(found.iter().map(|order| order.rejected).collect::<Vec<_>>(), [None, has_order, has_order]);

    let more: Vec<_> = (0..120).map(|_| order(sale.id, 1)).collect();
    commit(&backend, &more).await;
    let found = of_mine().await;
    assert_eq!(found.len(), 100);
    assert_eq!(found[..3].iter().map(|order| order.claim.order_id).collect::<Vec<_>>(), ids);
}

/// Committed and rejected orders of one sale, by id, each on exactly one page.
pub async fn a_sales_orders_come_page_by_page(Subject { backend, .. }: Subject) {
    let sale = backend.ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
    let other = backend.ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
    assert_eq!(backend.ledger.orders_after(sale.id, None, 3).await.unwrap(), Vec::<LedgerOrder>::new());
    let orders: Vec<_> = (0..8).map(|user| order(sale.id, user)).collect();
    for order in &orders {
        commit(&backend, std::slice::from_ref(order)).await;
        commit(&backend, &[fixtures::order(other.id, order.claim.user_id.0)]).await;
    }
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = backend.ledger.orders_after(sale.id, after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.claim.order_id);
        found.extend(page);
    }
    assert!(found.iter().all(|order| order.sale_id == sale.id));
    let claims: Vec<_> = orders.iter().map(|order| order.claim).collect();
    assert_eq!(found.iter().map(|order| order.claim).collect::<Vec<_>>(), claims);
    let rejected: Vec<_> = found.iter().map(|order| order.rejected.is_some()).collect();
    assert_eq!(rejected, [false, false, false, false, false, true, true, true]);
}

/// An order that is still on its way looks to the ledger like one that was never made.
pub async fn an_unknown_order_is_none(Subject { backend, .. }: Subject) {
    assert_eq!(backend.ledger.order(OrderId::generate()).await.unwrap(), None);
    assert_eq!(backend.ledger.orders_of(UserId(1), UNKNOWN).await.unwrap(), Vec::<LedgerOrder>::new());
}

/// Committed and rejected ones, as [`Ledger::order`](seckill_core::Ledger::order) says each; more than one statement looks up.
pub async fn many_orders_are_looked_up_at_once(Subject { backend, .. }: Subject) {
    assert_eq!(backend.ledger.orders(&[]).await.unwrap(), []);
    let sale = backend.ledger.create_sale(&new_sale(600, 1), Mode::Queue).await.unwrap();
    let mut orders: Vec<_> = (0..600).map(|user| order(sale.id, user)).collect();
    orders.push(order(sale.id, 0));
    commit(&backend, &orders).await;
    let mut ids: Vec<_> = orders.iter().map(|order| order.claim.order_id).collect();
    ids.insert(0, OrderId::generate());
    let mut found = backend.ledger.orders(&ids).await.unwrap();
    found.sort_by_key(|order| order.claim.order_id);
    assert_eq!(found.iter().map(|order| order.claim.order_id).collect::<Vec<_>>(), ids[1..]);
    for order in [&found[0], &found[600]] {
        assert_eq!(backend.ledger.order(order.claim.order_id).await.unwrap().as_ref(), Some(order));
    }
    assert_eq!((found[0].sequence, found[600].sequence), (1, 0));
}

/// The ends of the ranges: 64-bit user ids, the largest amount, the ends of the order ids.
pub async fn the_largest_values_are_kept(Subject { backend, .. }: Subject) {
    let new = NewSale {
        price_cents: NewSale::MAX_PRICE_CENTS,
        ..new_sale(NewSale::MAX_STOCK, NewSale::MAX_PER_USER_LIMIT)
    };
    let sale = backend.ledger.create_sale(&new, Mode::Queue).await.unwrap();
    let id = |id| OrderId(uuid::Uuid::from_u128(id));
    let largest = |order_id, user| Claim { order_id, ..claim_of(user, NewSale::MAX_PER_USER_LIMIT) };
    let orders =
        [largest(id(u128::MAX), u64::MAX), largest(id(0), 0), largest(id(1 << 127), i64::MAX as u64 + 1)]
            .map(|claim| Order { sale_id: sale.id, epoch: EPOCH, claim });
    assert_eq!(commit(&backend, &orders).await, [Fate::Committed; 3]);
    for order in &orders {
        let found = backend.ledger.order(order.claim.order_id).await.unwrap().unwrap();
        assert_eq!((found.sale_id, found.claim), (order.sale_id, order.claim));
        assert_eq!(found.amount_cents, NewSale::MAX_PRICE_CENTS * u64::from(NewSale::MAX_PER_USER_LIMIT));
        assert_eq!(backend.ledger.orders_of(order.claim.user_id, sale.id).await.unwrap(), [found]);
    }
    assert_eq!(commit(&backend, &orders).await, [Fate::AlreadyCommitted; 3]);
    let again = Order { sale_id: sale.id, epoch: EPOCH, claim: largest(OrderId::generate(), u64::MAX) };
    assert_eq!(commit(&backend, &[again]).await, [Fate::Rejected(RejectReason::UserHasOrder)]);
}

/// No orders, no fates.
pub async fn an_empty_batch_is_nothing(Subject { backend, .. }: Subject) {
    assert_eq!(commit(&backend, &[]).await, []);
}

/// More rows than one statement may bind values, with duplicates and strays among them.
pub async fn a_large_batch_is_committed_whole(Subject { backend, .. }: Subject) {
    const ORDERS: u64 = 10_000;
    let sale =
        backend.ledger.create_sale(&new_sale(u32::try_from(ORDERS).unwrap(), 1), Mode::Queue).await.unwrap();
    let mut orders: Vec<_> = (0..ORDERS).map(|user| order(sale.id, user)).collect();
    assert_eq!(commit(&backend, &orders).await, vec![Fate::Committed; orders.len()]);
    // The slow path too, in which every order is looked up.
    orders.push(order(sale.id, 0));
    let fates = commit(&backend, &orders).await;
    let (last, others) = fates.split_last().unwrap();
    assert!(others.iter().all(|fate| *fate == Fate::AlreadyCommitted));
    assert_eq!(*last, Fate::Rejected(RejectReason::UserHasOrder));
    let totals =
        LedgerTotals { orders: ORDERS, units: ORDERS, rejected_orders: 1, rejected_units: 1, duplicates: 0 };
    assert_totals(&backend, &sale, totals).await;
}

/// Committed is durable.
pub async fn orders_survive_a_reopen(subject: Subject) {
    let sale = subject.backend.ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
    let (good, bad) = (order(sale.id, 1), order_of(sale.id, 2, 0));
    commit(&subject.backend, &[good.clone(), bad.clone()]).await;
    let before = subject.backend.ledger.sale(sale.id).await.unwrap();

    let subject = subject.reopen().await;
    let backend = &subject.backend;
    assert_eq!(backend.ledger.sale(sale.id).await.unwrap(), before);
    let again = commit(backend, &[good, bad]).await;
    assert_eq!(again, [Fate::AlreadyCommitted, Fate::AlreadyRejected(RejectReason::BadQuantity)]);
    let totals = LedgerTotals { orders: 1, units: 1, rejected_orders: 1, ..LedgerTotals::default() };
    assert_totals(backend, &sale, totals).await;
}

/// Commits by a writer of its own.
async fn commit(backend: &Backend, orders: &[Order]) -> Vec<Fate> {
    backend.ledger.writer().await.unwrap().commit(orders).await.unwrap()
}
