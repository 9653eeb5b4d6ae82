//! What a [`Ledger`](seckill_core::Ledger) has to do while a sale's gate is lost and filled again, and after it has lost
//! sales itself.

use std::collections::HashSet;
use std::time::Duration;

use seckill_core::{
    Backend, Fate, LedgerTotals, LockedSale, Mode, NewSale, Order, OrderId, Rebuild, RebuildStep,
    RejectReason, Sale, SaleId, SaleState,
};
use tokio::time::timeout;
use uuid::Uuid;

use super::support::{DEADLINE, NEVER, Subject, assert_totals, commit_at_last};
use crate::eventually;
use crate::fixtures::{EPOCH, claim_of as claim, new_sale, order_of as order};

const NEXT: u32 = EPOCH + 1;
/// A lease that holds until the check is over.
const LONG: Duration = Duration::from_secs(600);
/// Where a rebuild begins.
const START: (RebuildStep, u64, Option<u64>) = (RebuildStep::Resending, 0, None);
const STALE: Fate = Fate::Rejected(RejectReason::StaleEpoch);

/// The id names the ledger, so it stays for as long as the data does.
pub async fn the_ledgers_id_survives_a_reopen(subject: Subject) {
    let id = subject.backend.ledger.id().await.unwrap();
    assert_eq!(subject.backend.ledger.id().await.unwrap(), id);
    assert_ne!(id.0, Uuid::nil());
    let subject = subject.reopen().await;
    assert_eq!(subject.backend.ledger.id().await.unwrap(), id);
}

/// Only from the epoch that the caller has seen.
pub async fn a_rebuild_begins_from_the_epoch_it_names(Subject { backend, .. }: Subject) {
    let ledger = &backend.ledger;
    let sale = sale_on(&backend, EPOCH, 5).await;
    for (from, to) in [(0, NEXT), (NEXT, NEXT + 1), (EPOCH, EPOCH)] {
        assert!(!ledger.begin_rebuild(sale.id, from, to, 0).await.unwrap(), "{from} to {to}");
    }
    assert_eq!(ledger.sale(sale.id).await.unwrap(), Some(sale.clone()));

    assert!(ledger.begin_rebuild(sale.id, EPOCH, NEXT, 0).await.unwrap());
    let rebuilding = read(&backend, sale.id).await;
    let Rebuild { since, .. } = rebuilding.rebuild.unwrap();
    let waiting = Rebuild { step: RebuildStep::Waiting, done: 0, total: None, since, owner: None };
    let expected = Sale { epoch: NEXT, state: SaleState::Rebuilding, rebuild: Some(waiting), ..sale.clone() };
    assert_eq!(rebuilding, expected);
    let age = seckill_core::now() - since;
    assert!(age.abs() < chrono::Duration::minutes(10), "began {age} ago: is the ledger's clock in UTC?");

    // The gate may be lost again before it is filled.
    assert!(!ledger.begin_rebuild(sale.id, EPOCH, NEXT, 0).await.unwrap());
    assert!(ledger.own_rebuild(sale.id, NEXT, Uuid::now_v7(), LONG, START).await.unwrap());
    assert!(ledger.begin_rebuild(sale.id, NEXT, NEXT + 3, 0).await.unwrap());
    let again = read(&backend, sale.id).await;
    assert_eq!((again.epoch, again.rebuild.unwrap().owner), (NEXT + 3, None));
    let unknown = SaleId(sale.id.0 + 1);
    assert!(!ledger.begin_rebuild(unknown, 0, 1, 0).await.unwrap());
    let direct = ledger.create_sale(&new_sale(5, 1), Mode::Direct).await.unwrap();
    assert!(!ledger.begin_rebuild(direct.id, 0, 1, 0).await.unwrap(), "a direct sale has no gate");
}

/// Several workers find out at the same moment that a gate is lost.
pub async fn of_rebuilds_begun_at_once_one_wins(Subject { backend, .. }: Subject) {
    let sale = sale_on(&backend, EPOCH, 5).await;
    let mut at_once = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (ledger, id) = (backend.ledger.clone(), sale.id);
        at_once.spawn(async move { ledger.begin_rebuild(id, EPOCH, NEXT, 0).await.unwrap() });
    }
    let won = at_once.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
    assert_eq!(read(&backend, sale.id).await.epoch, NEXT);
}

/// When Redis is emptied all gates are lost, and every worker finds that out. They would wait for each other's consumers if each had
/// a part.
pub async fn of_workers_that_take_up_rebuilds_at_once_one_gets_them_all(Subject { backend, .. }: Subject) {
    let mut sales = Vec::new();
    for _ in 0..3 {
        sales.push(sale_on(&backend, EPOCH, 5).await);
    }
    let mut at_once = tokio::task::JoinSet::new();
    for first in 0..6 {
        let (ledger, mut sales, worker) = (backend.ledger.clone(), sales.clone(), Uuid::now_v7());
        sales.rotate_left(first % 3);
        at_once.spawn(async move {
            let mut taken = 0;
            for sale in &sales {
                let epochs = (NEXT, EPOCH);
                taken += u32::from(ledger.take_up_rebuild(sale, epochs, worker, LONG).await.unwrap());
            }
            (taken, worker)
        });
    }
    let takers = at_once.join_all().await;
    let owner = takers.iter().find(|(taken, _)| *taken == 3).expect("one worker has them all").1;
    assert_eq!(takers.iter().map(|(taken, _)| taken).sum::<u32>(), 3, "{takers:?}");
    let mut seen = Vec::new();
    for sale in &sales {
        let now = read(&backend, sale.id).await;
        assert_eq!((now.epoch, now.open_epoch, now.rebuild.unwrap().owner), (NEXT, EPOCH, Some(owner)));
        seen.push(now);
    }

    // The owner begins again itself; another worker once it is gone.
    let (ledger, epochs, other) = (&backend.ledger, (NEXT + 1, 0), Uuid::now_v7());
    let soon = Duration::from_millis(200);
    assert!(ledger.take_up_rebuild(&seen[0], epochs, owner, soon).await.unwrap());
    assert!(!ledger.take_up_rebuild(&seen[1], epochs, other, LONG).await.unwrap());
    let earlier = Sale { epoch: EPOCH, ..seen[1].clone() };
    assert!(!ledger.take_up_rebuild(&earlier, epochs, owner, LONG).await.unwrap(), "another epoch");
    assert!(!ledger.take_up_rebuild(&sales[1], epochs, owner, LONG).await.unwrap(), "it was open then");
    for sale in &seen[1..] {
        assert!(ledger.own_rebuild(sale.id, NEXT, owner, soon, START).await.unwrap());
    }
    eventually(DEADLINE, async || match ledger.take_up_rebuild(&seen[1], epochs, other, LONG).await {
        Ok(true) => Ok(()),
        not_yet => Err(format!("{not_yet:?}")),
    })
    .await;
    assert_eq!(read(&backend, seen[1].id).await.rebuild.unwrap().owner, Some(other));
}

/// The lease of an owner that fills a gate cannot be renewed, because the sale is locked. Whoever wants to replace that owner
/// waits for the lock, and finds the sale open.
pub async fn a_takeover_that_waited_for_a_refill_changes_nothing(Subject { backend, .. }: Subject) {
    let ledger = &backend.ledger;
    let sale = sale_on(&backend, EPOCH, 5).await;
    let (owner, other) = (Uuid::now_v7(), Uuid::now_v7());
    assert!(ledger.begin_rebuild(sale.id, EPOCH, NEXT, EPOCH).await.unwrap());
    assert!(ledger.own_rebuild(sale.id, NEXT, owner, Duration::ZERO, START).await.unwrap());
    let seen = read(&backend, sale.id).await;
    assert_eq!((seen.state, seen.rebuild.unwrap().owner), (SaleState::Rebuilding, None), "no lease holds");
    let locked = ledger.lock_for_refill(sale.id, NEXT, owner).await.unwrap().unwrap();
    let mut waiting = tokio::spawn({
        let (ledger, seen) = (ledger.clone(), seen.clone());
        async move { ledger.take_up_rebuild(&seen, (NEXT + 1, EPOCH), other, LONG).await }
    });
    assert!(timeout(NEVER, &mut waiting).await.is_err(), "a takeover passed a sale that is locked");
    locked.open().await.unwrap();
    assert!(!waiting.await.unwrap().unwrap());
    assert!(!ledger.take_up_rebuild(&seen, (NEXT + 1, EPOCH), other, LONG).await.unwrap(), "nor later");
    let opened = read(&backend, sale.id).await;
    assert_eq!((opened.state, opened.epoch, opened.rebuild), (SaleState::Open, NEXT, None));
}

/// One worker rebuilds, and is replaced when it does not come back.
pub async fn a_rebuild_has_one_owner_while_its_lease_holds(Subject { backend, .. }: Subject) {
    let ledger = &backend.ledger;
    let sale = sale_on(&backend, EPOCH, 5).await;
    let (one, two) = (Uuid::now_v7(), Uuid::now_v7());
    assert!(!ledger.own_rebuild(sale.id, EPOCH, one, LONG, START).await.unwrap(), "nothing to rebuild");
    assert!(ledger.begin_rebuild(sale.id, EPOCH, NEXT, 0).await.unwrap());
    assert!(!ledger.own_rebuild(sale.id, EPOCH, one, LONG, START).await.unwrap(), "another epoch");

    assert!(ledger.own_rebuild(sale.id, NEXT, one, LONG, START).await.unwrap());
    assert!(!ledger.own_rebuild(sale.id, NEXT, two, LONG, START).await.unwrap(), "the lease holds");
    let progress = (RebuildStep::Filling, 7, Some(u64::from(u32::MAX) + 1));
    assert!(ledger.own_rebuild(sale.id, NEXT, one, LONG, progress).await.unwrap(), "renewed");
    let rebuild = read(&backend, sale.id).await.rebuild.unwrap();
    assert_eq!((rebuild.step, rebuild.done, rebuild.total), progress);
    assert_eq!(rebuild.owner, Some(one));

    assert!(ledger.own_rebuild(sale.id, NEXT, one, Duration::from_millis(200), START).await.unwrap());
    eventually(DEADLINE, async || {
        let rebuild = read(&backend, sale.id).await.rebuild.unwrap();
        let gone = rebuild.owner.is_none() && rebuild.step == RebuildStep::Waiting;
        if gone { Ok(()) } else { Err(format!("{rebuild:?}")) }
    })
    .await;
    assert!(ledger.own_rebuild(sale.id, NEXT, two, LONG, START).await.unwrap(), "taken over");
    assert!(!ledger.own_rebuild(sale.id, NEXT, one, LONG, START).await.unwrap(), "the first one is late");
    assert_eq!(read(&backend, sale.id).await.rebuild.unwrap().owner, Some(two));
    assert!(ledger.lock_for_refill(sale.id, NEXT, one).await.unwrap().is_none());
    assert!(ledger.lock_for_refill(sale.id, NEXT, two).await.unwrap().is_some());
}

/// Orders of the gate that was lost are taken until it is filled again, and not after that.
pub async fn orders_of_an_earlier_epoch_are_stale_once_the_sale_is_open(Subject { backend, .. }: Subject) {
    let sale = sale_on(&backend, EPOCH, 5).await;
    let of = |epoch, user| Order { epoch, ..order(sale.id, user, 1) };
    let old = of(EPOCH, 1);
    assert_eq!(commit(&backend, &[old.clone(), of(0, 2)]).await, [Fate::Committed, STALE]);
    backend.ledger.begin_rebuild(sale.id, EPOCH, NEXT, 0).await.unwrap();
    assert_eq!(commit(&backend, &[of(0, 3), of(EPOCH, 4)]).await, [Fate::Committed; 2]);

    let locked = lock(&backend, sale.id, NEXT).await;
    assert_eq!((locked.sale().sold, locked.sale().epoch), (3, NEXT));
    locked.open().await.unwrap();
    let opened = read(&backend, sale.id).await;
    assert_eq!((opened.state, opened.rebuild, opened.epoch), (SaleState::Open, None, NEXT));
    let late = of(EPOCH, 5);
    assert_eq!(commit(&backend, std::slice::from_ref(&late)).await, [STALE]);
    let fates = commit(&backend, &[late, of(NEXT, 5), old]).await;
    let before = Fate::AlreadyRejected(RejectReason::StaleEpoch);
    assert_eq!(fates, [before, Fate::Committed, Fate::AlreadyCommitted]);
    let totals = LedgerTotals { orders: 4, units: 4, rejected_orders: 2, rejected_units: 2, duplicates: 0 };
    assert_totals(&backend, &sale, totals).await;
}

/// A commit that comes while the gate is filled is decided after that.
pub async fn a_commit_waits_for_the_refill_and_is_decided_after_it(Subject { backend, .. }: Subject) {
    let sale = sale_on(&backend, EPOCH, 50).await;
    backend.ledger.begin_rebuild(sale.id, EPOCH, NEXT, 0).await.unwrap();
    let locked = lock(&backend, sale.id, NEXT).await;
    let stale = order(sale.id, 1, 1);
    let (ledger, orders) = (backend.ledger.clone(), [stale]);
    let mut committing = tokio::spawn(async move {
        let mut writer = ledger.writer().await.unwrap();
        commit_at_last(writer.as_mut(), &orders).await
    });
    assert!(timeout(NEVER, &mut committing).await.is_err(), "a commit passed a sale that is locked");
    locked.open().await.unwrap();
    assert_eq!(committing.await.unwrap(), [STALE]);
    let totals = LedgerTotals { rejected_orders: 1, rejected_units: 1, ..LedgerTotals::default() };
    assert_totals(&backend, &sale, totals).await;
}

/// Whatever writers do meanwhile, what the lock shows is all that the ledger ever has of the old gate.
pub async fn no_commit_slips_in_between_the_refill_and_the_opening(Subject { backend, .. }: Subject) {
    const WRITERS: u64 = 4;
    let sale = sale_on(&backend, EPOCH, 100_000).await;
    backend.ledger.begin_rebuild(sale.id, EPOCH, NEXT, 0).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for lane in 0..WRITERS {
        let (ledger, id) = (backend.ledger.clone(), sale.id);
        writers.spawn(async move {
            let mut writer = ledger.writer().await.unwrap();
            let mut committed = 0;
            for round in 0_u64.. {
                let user = |n| lane * 1_000_000 + round * 10 + n;
                let orders: Vec<_> = (0..10).map(|n| order(id, user(n), 1)).collect();
                let fates = commit_at_last(writer.as_mut(), &orders).await;
                committed += fates.iter().filter(|fate| **fate == Fate::Committed).count();
                if fates.contains(&STALE) {
                    break;
                }
            }
            committed
        });
    }
    eventually(DEADLINE, async || {
        let orders = read(&backend, sale.id).await.orders;
        if orders >= 100 { Ok(()) } else { Err(orders) }
    })
    .await;
    let mut locked = lock(&backend, sale.id, NEXT).await;
    let held = all_active(locked.as_mut(), 100).await;
    assert_eq!((held.len() as u64, locked.sale().sold as usize), (locked.sale().orders, held.len()));
    locked.open().await.unwrap();
    let committed: usize = writers.join_all().await.into_iter().sum();
    assert_eq!(committed, held.len());
    assert_eq!(backend.ledger.totals(sale.id).await.unwrap().orders, held.len() as u64);
}

/// A worker that dies with the lock leaves the rebuild to the next one.
pub async fn a_lock_that_is_dropped_leaves_the_sale_rebuilding(Subject { backend, .. }: Subject) {
    let sale = sale_on(&backend, EPOCH, 5).await;
    backend.ledger.begin_rebuild(sale.id, EPOCH, NEXT, 0).await.unwrap();
    let mut locked = lock(&backend, sale.id, NEXT).await;
    locked.active_orders(None, 10).await.unwrap();
    drop(locked);
    let mut writer = backend.ledger.writer().await.unwrap();
    assert_eq!(commit_at_last(writer.as_mut(), &[order(sale.id, 1, 1)]).await, [Fate::Committed]);
    let left = read(&backend, sale.id).await;
    assert_eq!((left.state, left.epoch, left.sold), (SaleState::Rebuilding, NEXT, 1));
}

/// Only the owner, on the right epoch, of a rebuild that is still wanted.
pub async fn only_the_owner_of_a_rebuild_gets_the_lock(Subject { backend, .. }: Subject) {
    let ledger = &backend.ledger;
    let sale = sale_on(&backend, EPOCH, 5).await;
    let owner = Uuid::now_v7();
    let got = async |epoch, owner| ledger.lock_for_refill(sale.id, epoch, owner).await.unwrap().is_some();
    assert!(!got(EPOCH, owner).await, "the sale is open");
    ledger.begin_rebuild(sale.id, EPOCH, NEXT, 0).await.unwrap();
    assert!(!got(NEXT, owner).await, "nobody owns it");
    assert!(ledger.own_rebuild(sale.id, NEXT, owner, LONG, START).await.unwrap());
    assert!(!got(NEXT, Uuid::now_v7()).await, "somebody else owns it");
    assert!(!got(EPOCH, owner).await, "another epoch");
    assert!(got(NEXT, owner).await);
    let unknown = ledger.lock_for_refill(SaleId(sale.id.0 + 1), NEXT, owner).await.unwrap();
    assert!(unknown.is_none());
    let locked = ledger.lock_for_refill(sale.id, NEXT, owner).await.unwrap().unwrap();
    locked.open().await.unwrap();
    assert!(!got(NEXT, owner).await, "it is done");
}

/// Every active order of this sale, by id, and no rejected one.
pub async fn a_locked_sales_active_orders_come_page_by_page(Subject { backend, .. }: Subject) {
    let sale = sale_on(&backend, EPOCH, 25).await;
    let other = sale_on(&backend, EPOCH, 25).await;
    let id = |id: u128| OrderId(Uuid::from_u128(id));
    let mut orders: Vec<_> = (0..21).map(|user| order(sale.id, user, 1)).collect();
    (orders[3].claim.order_id, orders[8].claim.order_id) = (id(0), id(u128::MAX));
    assert_eq!(commit(&backend, &orders).await, [Fate::Committed; 21]);
    let others: Vec<_> = (0..21).map(|user| order(other.id, user, 1)).collect();
    commit(&backend, &others).await;
    let again = Fate::Rejected(RejectReason::UserHasOrder);
    assert_eq!(commit(&backend, &[order(sale.id, 1, 1)]).await, [again]);

    backend.ledger.begin_rebuild(sale.id, EPOCH, NEXT, 0).await.unwrap();
    let mut locked = lock(&backend, sale.id, NEXT).await;
    let mut claims: Vec<_> = orders.iter().map(|order| order.claim).collect();
    claims.sort_by_key(|claim| claim.order_id);
    for limit in [1, 4, 21, 1_000] {
        assert_eq!(all_active(locked.as_mut(), limit).await, claims);
    }
}

/// What a gate still knows of a sale is enough to sell on.
pub async fn a_lost_sale_is_restored_under_its_id(Subject { backend, .. }: Subject) {
    let ledger = &backend.ledger;
    let here = sale_on(&backend, EPOCH, 5).await;
    commit(&backend, &[order(here.id, 1, 1)]).await;
    let before = read(&backend, here.id).await;
    let other = Sale { name: "another".to_owned(), stock: 9, epoch: 9, ..here.clone() };
    ledger.restore_sale(&other).await.unwrap();
    assert_eq!(read(&backend, here.id).await, before, "a sale that is there stays as it is");

    let id = SaleId(here.id.0 + 41);
    let early = order(id, 1, 1);
    let unknown = RejectReason::UnknownSale;
    assert_eq!(commit(&backend, std::slice::from_ref(&early)).await, [Fate::Rejected(unknown)]);
    let lost = Sale { id, sold: 3, orders: 2, rejected_orders: 7, epoch: 6, ..here.clone() };
    for _ in 0..2 {
        ledger.restore_sale(&lost).await.unwrap();
        let expected = Sale { sold: 0, orders: 0, rejected_orders: 1, ..lost.clone() };
        assert_eq!(read(&backend, id).await, expected);
    }
    let direct = Sale { id: SaleId(id.0 + 1), mode: Mode::Direct, epoch: 0, ..here.clone() };
    ledger.restore_sale(&direct).await.unwrap();
    let expected = Sale { sold: 0, orders: 0, rejected_orders: 0, ..direct.clone() };
    assert_eq!(read(&backend, direct.id).await, expected);
    let since = seckill_core::now() - chrono::Duration::hours(1);
    let waiting = Rebuild { step: RebuildStep::Waiting, done: 0, total: None, since, owner: None };
    let rebuilding = Sale {
        id: SaleId(id.0 + 2),
        state: SaleState::Rebuilding,
        rebuild: Some(Rebuild { owner: Some(Uuid::now_v7()), step: RebuildStep::Filling, ..waiting }),
        ..here.clone()
    };
    ledger.restore_sale(&rebuilding).await.unwrap();
    let restored = read(&backend, rebuilding.id).await;
    assert_eq!((restored.state, restored.rebuild), (SaleState::Rebuilding, Some(waiting)));

    let next = ledger.create_sale(&new_sale(1, 1), Mode::Queue).await.unwrap();
    assert!(next.id > rebuilding.id, "ids go on above what was restored: {}", next.id);
    let orders = [early, Order { epoch: 6, ..order(id, 2, 1) }];
    assert_eq!(commit(&backend, &orders).await, [Fate::AlreadyRejected(unknown), Fate::Committed]);
}

/// A rejection counts for its sale, although the sale came later.
pub async fn what_was_rejected_before_its_sale_existed_is_counted(Subject { backend, .. }: Subject) {
    let first = backend.ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
    let next = SaleId(first.id.0 + 1);
    let early: Vec<_> = (0..3).map(|user| order(next, user, 1)).collect();
    let reason = RejectReason::UnknownSale;
    assert_eq!(commit(&backend, &early).await, [Fate::Rejected(reason); 3]);
    let sale = backend.ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
    assert_eq!((sale.id, sale.rejected_orders), (next, 3));
    let totals = LedgerTotals { rejected_orders: 3, rejected_units: 3, ..LedgerTotals::default() };
    assert_totals(&backend, &sale, totals).await;
    // Alone, so that nothing but the count can give them away.
    assert_eq!(commit(&backend, &early).await, [Fate::AlreadyRejected(reason); 3]);
}

/// What is neither a row here nor a row there.
pub async fn missing_orders_are_those_without_an_end(Subject { backend, .. }: Subject) {
    let sale = sale_on(&backend, EPOCH, 5).await;
    let (good, bad) = (order(sale.id, 1, 1), order(sale.id, 2, 0));
    commit(&backend, &[good.clone(), bad.clone()]).await;
    let mut asked: Vec<_> = (0..998).map(|user| claim(user, 1).order_id).collect();
    let missing: HashSet<_> = asked.iter().copied().collect();
    asked.insert(0, good.claim.order_id);
    asked.push(bad.claim.order_id);
    assert_eq!(backend.ledger.missing_among(&asked).await.unwrap(), missing);
    assert_eq!(backend.ledger.missing_among(&[]).await.unwrap(), HashSet::new());
}

/// A closed sale keeps its rows and takes no rebuild any more.
pub async fn an_open_sale_is_closed_out_and_a_rebuilding_one_is_not(Subject { backend, .. }: Subject) {
    let ledger = &backend.ledger;
    let sale = sale_on(&backend, EPOCH, 5).await;
    commit(&backend, &[order(sale.id, 1, 1)]).await;
    assert!(ledger.begin_rebuild(sale.id, EPOCH, NEXT, 0).await.unwrap());
    assert!(!ledger.close_out(sale.id, 0).await.unwrap());
    assert_eq!(read(&backend, sale.id).await.state, SaleState::Rebuilding);
    lock(&backend, sale.id, NEXT).await.open().await.unwrap();
    // The call may be made again, since its answer may be lost.
    for _ in 0..2 {
        assert!(ledger.close_out(sale.id, 0).await.unwrap());
        let closed = read(&backend, sale.id).await;
        assert_eq!((closed.state, closed.epoch, closed.sold), (SaleState::ClosedOut, NEXT, 1));
    }
    assert!(!ledger.begin_rebuild(sale.id, NEXT, NEXT + 1, 0).await.unwrap());
    assert_eq!(commit(&backend, &[order(sale.id, 2, 1)]).await, [STALE]);
}

/// What a process that starts has to look after.
pub async fn unfinished_sales_come_page_by_page(Subject { backend, .. }: Subject) {
    let ledger = &backend.ledger;
    assert_eq!(ledger.unfinished_sales(None, 10).await.unwrap(), Vec::<Sale>::new());
    let mut expected = Vec::new();
    for n in 0..9_u32 {
        let sale = sale_on(&backend, EPOCH, 5).await;
        match n % 3 {
            0 => assert!(ledger.close_out(sale.id, 0).await.unwrap()),
            1 => {
                assert!(ledger.begin_rebuild(sale.id, EPOCH, NEXT, 0).await.unwrap());
                expected.push(read(&backend, sale.id).await);
            }
            _ => expected.push(sale),
        }
        let direct = NewSale { name: "direct".to_owned(), ..new_sale(5, 1) };
        ledger.create_sale(&direct, Mode::Direct).await.unwrap();
    }
    for limit in [1, 4, 6, 100] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = ledger.unfinished_sales(after, limit).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            found.extend(page);
        }
        assert_eq!(found, expected);
    }
}

/// A sale in the ledger alone: the gate is not asked here.
async fn sale_on(backend: &Backend, epoch: u32, stock: u32) -> Sale {
    let sale = backend.ledger.create_sale(&new_sale(stock, 1), Mode::Queue).await.unwrap();
    backend.ledger.mark_opened(sale.id, epoch).await.unwrap();
    Sale { epoch, ..sale }
}

async fn read(backend: &Backend, sale: SaleId) -> Sale {
    backend.ledger.sale(sale).await.unwrap().unwrap()
}

/// Owns the rebuild and locks the sale; again after a fault, since a busy ledger may be late.
async fn lock(backend: &Backend, sale: SaleId, epoch: u32) -> Box<dyn LockedSale> {
    let owner = Uuid::now_v7();
    eventually(DEADLINE, async || backend.ledger.own_rebuild(sale, epoch, owner, LONG, START).await).await;
    let locked =
        eventually(DEADLINE, async || backend.ledger.lock_for_refill(sale, epoch, owner).await).await;
    locked.expect("the owner of the rebuild gets the lock")
}

/// Every active order, in pages of `limit`.
async fn all_active(locked: &mut dyn LockedSale, limit: u32) -> Vec<seckill_core::Claim> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = locked.active_orders(after, limit).await.unwrap();
        assert!(page.len() <= limit as usize);
        let Some(last) = page.last() else { return found };
        after = Some(last.order_id);
        found.extend(page);
    }
}

/// Commits by a writer of its own.
async fn commit(backend: &Backend, orders: &[Order]) -> Vec<Fate> {
    backend.ledger.writer().await.unwrap().commit(orders).await.unwrap()
}
