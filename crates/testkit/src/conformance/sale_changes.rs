//! What operators may do with a sale: create it once under a key, and change it in the ledger first and at the gate second,
//! whatever dies in between.

use chrono::Duration;
use seckill_core::{
    Backend, CreatedOnce, Decision, Fate, Mode, NewSale, NotChanged, RequestKey, Sale, SaleChange,
    SaleChanged, SaleId, SaleState, Verdict, change_sale, now,
};

use super::support::{DEADLINE, Subject, reserve};
use crate::eventually;
use crate::fixtures::{self, EPOCH, claim, claims, level, new_sale, open_sale, order};

fn key(key: &str, hash: u8) -> RequestKey {
    RequestKey { key: key.to_owned(), hash: [hash; 32] }
}

/// Changes the sale in the ledger only, as a process does that is killed before it reaches the gate.
async fn change(backend: &Backend, sale: &Sale, change: SaleChange) -> Sale {
    match backend.ledger.change_sale(sale.id, &change).await.unwrap() {
        SaleChanged::Done(sale) => *sale,
        other => panic!("{other:?}"),
    }
}

fn stock(stock: u32) -> SaleChange {
    SaleChange { stock: Some(stock), ..SaleChange::default() }
}

fn paused(paused: bool) -> SaleChange {
    SaleChange { paused: Some(paused), ..SaleChange::default() }
}

fn close() -> SaleChange {
    SaleChange { close: true, ..SaleChange::default() }
}

/// However often, and from how many gateways at once.
pub async fn a_key_creates_one_sale(Subject { backend, .. }: Subject) {
    let ledger = &backend.ledger;
    let longest = "~".repeat(255);
    assert_eq!(ledger.sale_of_key(&longest).await.unwrap(), None);
    let new = new_sale(5, 1);
    let mut many = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (backend, new) = (backend.clone(), new.clone());
        many.spawn(async move {
            backend.ledger.create_sale_once(&new, Mode::Queue, &key("same", 1)).await.unwrap()
        });
    }
    let created = |answer| match answer {
        CreatedOnce::Created(sale) => Some(*sale),
        CreatedOnce::KeyTaken | CreatedOnce::UnderWay => None,
    };
    let mut created: Vec<Sale> = many.join_all().await.into_iter().filter_map(created).collect();
    let sale = created.pop().unwrap();
    assert_eq!(created, []);
    assert_eq!(ledger.sales(10).await.unwrap(), std::slice::from_ref(&sale));
    // The ledger compares no hashes; the caller does.
    let again = ledger.create_sale_once(&new_sale(9, 1), Mode::Direct, &key("same", 2)).await.unwrap();
    assert_eq!(again, CreatedOnce::KeyTaken);
    assert_eq!(ledger.sale_of_key("same").await.unwrap(), Some((sale, [1; 32])));
    // Keys differ by case, and a sale without a key stands in nobody's way.
    for other in ["Same", longest.as_str()] {
        let answer = ledger.create_sale_once(&new, Mode::Queue, &key(other, 1)).await.unwrap();
        assert!(matches!(answer, CreatedOnce::Created(_)), "{answer:?}");
    }
    ledger.create_sale(&new, Mode::Queue).await.unwrap();
    ledger.create_sale(&new, Mode::Queue).await.unwrap();
    assert_eq!(ledger.sales(10).await.unwrap().len(), 5);
}

/// What was asked for is there, and what was not asked for stays.
pub async fn a_change_reads_back_as_made(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 5, 1).await;
    let before = backend.ledger.sale(sale.id).await.unwrap().unwrap();
    let ends_at = now() + Duration::hours(5);
    let all = SaleChange {
        name: Some("秒杀 🎉".to_owned()),
        product: Some("tablet".to_owned()),
        stock: Some(NewSale::MAX_STOCK),
        ends_at: Some(ends_at),
        paused: Some(true),
        close: false,
    };
    let expected = Sale {
        name: "秒杀 🎉".to_owned(),
        product: "tablet".to_owned(),
        stock: NewSale::MAX_STOCK,
        ends_at,
        paused: true,
        revision: 1,
        ..before
    };
    for _ in 0..2 {
        assert_eq!(
            change(&backend, &sale, all.clone()).await,
            expected,
            "the second time nothing is different"
        );
        assert_eq!(backend.ledger.sale(sale.id).await.unwrap().as_ref(), Some(&expected));
    }
    let resumed = Sale { paused: false, revision: 2, ..expected };
    assert_eq!(change(&backend, &sale, paused(false)).await, resumed);
    let unknown = backend.ledger.change_sale(SaleId(4_000_000_000), &paused(true)).await.unwrap();
    assert_eq!(unknown, SaleChanged::NoSuchSale);
}

/// Two operators at once: each of their changes holds.
pub async fn changes_at_once_all_hold(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 5, 1).await;
    let rename = SaleChange { name: Some("new".to_owned()), ..SaleChange::default() };
    tokio::join!(
        change(&backend, &sale, rename),
        change(&backend, &sale, stock(7)),
        change(&backend, &sale, paused(true))
    );
    let after = backend.ledger.sale(sale.id).await.unwrap().unwrap();
    assert_eq!((after.name.as_str(), after.stock, after.paused, after.revision), ("new", 7, true, 3));
}

/// Fewer units than before, an end in the past, a sale that is closed out.
pub async fn a_change_that_is_not_allowed_changes_nothing(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 5, 1).await;
    let before = backend.ledger.sale(sale.id).await.unwrap();
    let wrong =
        SaleChange { ends_at: Some(now() - Duration::minutes(1)), name: Some("new".into()), ..stock(4) };
    let refused = backend.ledger.change_sale(sale.id, &wrong).await.unwrap();
    let SaleChanged::Refused(NotChanged::Invalid(fields)) = refused else { panic!("{refused:?}") };
    assert_eq!(fields.iter().map(|field| field.field).collect::<Vec<_>>(), ["stock", "ends_at"]);
    assert_eq!(backend.ledger.sale(sale.id).await.unwrap(), before);
    assert!(backend.ledger.close_out(sale.id, 0).await.unwrap());
    let refused = backend.ledger.change_sale(sale.id, &stock(6)).await.unwrap();
    assert_eq!(refused, SaleChanged::Refused(NotChanged::ClosedOut));
}

/// A sale whose end was moved while somebody looked whether it can be closed out.
pub async fn a_sale_that_was_changed_meanwhile_is_not_closed_out(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 5, 1).await;
    let changed = change(&backend, &sale, stock(6)).await;
    assert!(!backend.ledger.close_out(sale.id, sale.revision).await.unwrap());
    assert_eq!(backend.ledger.sale(sale.id).await.unwrap().unwrap().state, SaleState::Open);
    assert!(backend.ledger.close_out(sale.id, changed.revision).await.unwrap());
}

/// A ledger that came back from a backup gets the changes that it has lost from those who know them.
pub async fn a_lost_change_is_restored(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 5, 1).await;
    let known = Sale { name: "new".to_owned(), stock: 8, paused: true, revision: 3, ..sale.clone() };
    let other = Sale { created_at: sale.created_at + Duration::seconds(1), ..known.clone() };
    backend.ledger.restore_sale(&other).await.unwrap();
    assert_eq!(backend.ledger.sale(sale.id).await.unwrap().unwrap().revision, 0, "another sale of that id");
    backend.ledger.restore_sale(&known).await.unwrap();
    let older = Sale { name: "old".to_owned(), revision: 2, ..known.clone() };
    backend.ledger.restore_sale(&older).await.unwrap();
    let after = backend.ledger.sale(sale.id).await.unwrap().unwrap();
    assert_eq!((after.name.as_str(), after.stock, after.paused, after.revision), ("new", 8, true, 3));
    // What a sale loses altogether comes back with its changes.
    let lost = Sale { id: SaleId(sale.id.0 + 7), ..known };
    backend.ledger.restore_sale(&lost).await.unwrap();
    let after = backend.ledger.sale(lost.id).await.unwrap().unwrap();
    assert_eq!((after.stock, after.paused, after.revision), (8, true, 3));
}

/// Buyers have to wait, holders have not.
pub async fn a_paused_sale_answers_its_holders_only(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 5, 1).await;
    let mine = claim(1);
    reserve(&backend, &sale, &[mine]).await;
    let pause = change(&backend, &sale, paused(true)).await;
    backend.gate.apply_change(&pause).await.unwrap();
    let decisions = reserve(&backend, &sale, &[claim(2), claim(1), mine]).await.decisions;
    let [Decision::Paused, Decision::Replayed { order_id, .. }, Decision::Reserved] = decisions[..] else {
        panic!("{decisions:?}")
    };
    assert_eq!((order_id, level(&backend, sale.id).await.remaining), (mine.order_id, 4));
    let resume = change(&backend, &sale, paused(false)).await;
    backend.gate.apply_change(&resume).await.unwrap();
    // The pause arrives late, from a process that was slow.
    backend.gate.apply_change(&pause).await.unwrap();
    assert_eq!(reserve(&backend, &sale, &[claim(2)]).await.decisions, [Decision::Reserved]);
}

/// Closed early, also before its start, and opened again.
pub async fn the_gate_follows_the_end_of_a_sale(Subject { backend, .. }: Subject) {
    let upcoming = NewSale { starts_at: now() + Duration::minutes(30), ..new_sale(5, 1) };
    for (new, first) in [(new_sale(5, 1), Decision::Reserved), (upcoming, Decision::NotOpen)] {
        let sale = fixtures::open(&backend, &new).await;
        assert_eq!(reserve(&backend, &sale, &[claim(1)]).await.decisions, [first]);
        let closed = change(&backend, &sale, close()).await;
        backend.gate.apply_change(&closed).await.unwrap();
        assert_eq!(reserve(&backend, &sale, &[claim(2)]).await.decisions, [Decision::Closed]);
        let later = SaleChange { ends_at: Some(new.ends_at), ..SaleChange::default() };
        let later = change(&backend, &sale, later).await;
        backend.gate.apply_change(&later).await.unwrap();
        assert_eq!(reserve(&backend, &sale, &[claim(2)]).await.decisions, [first]);
    }
}

/// Each unit once: applied twice, too late, or by several gateways at once.
pub async fn a_raise_adds_its_units_once(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 5, 1).await;
    reserve(&backend, &sale, &claims(0..5)).await;
    let first = change(&backend, &sale, stock(8)).await;
    let second = change(&backend, &sale, stock(10)).await;
    let (one, two) = tokio::join!(backend.gate.apply_change(&first), backend.gate.apply_change(&second));
    one.and(two).unwrap();
    for stale in [&second, &first, &sale] {
        backend.gate.apply_change(stale).await.unwrap();
    }
    let now = level(&backend, sale.id).await;
    assert_eq!((now.remaining, now.orders), (5, 5));
    // The gate withholds the new units for a moment, because none were left. The same claims again deduct once.
    let more = claims(5..11);
    let decisions = eventually(DEADLINE, async || {
        let decisions = reserve(&backend, &sale, &more).await.decisions;
        if decisions[0] == Decision::Reserved { Ok(decisions) } else { Err(decisions) }
    })
    .await;
    let taken = decisions.iter().filter(|decision| **decision == Decision::Reserved).count();
    assert_eq!((taken, decisions[5]), (5, Decision::SoldOut { remaining: 0 }));
}

/// A sale that was changed before its gate was filled, and one whose gate is filled again.
pub async fn a_filled_gate_has_the_changes_of_its_sale(Subject { backend, .. }: Subject) {
    let sale = backend.ledger.create_sale(&new_sale(5, 1), Mode::Queue).await.unwrap();
    let raised = change(&backend, &sale, stock(8)).await;
    backend.gate.apply_change(&raised).await.unwrap();
    assert_eq!(backend.gate.level(sale.id).await.unwrap(), None, "a gate without data stays so");
    // Filled by a gateway that had read the sale before the change.
    backend.gate.open(&sale, EPOCH).await.unwrap();
    backend.gate.apply_change(&raised).await.unwrap();
    assert_eq!(level(&backend, sale.id).await.remaining, 8);
    backend.gate.remove(sale.id).await.unwrap();
    backend.gate.open(&raised, EPOCH).await.unwrap();
    backend.gate.apply_change(&raised).await.unwrap();
    assert_eq!(level(&backend, sale.id).await.remaining, 8);

    let more = change(&backend, &sale, SaleChange { paused: Some(true), ..stock(9) }).await;
    backend.gate.stage_refill(sale.id, EPOCH + 1, true, &[claim(1)]).await.unwrap();
    backend.gate.finish_refill(&more, EPOCH + 1, 8, 1).await.unwrap();
    backend.gate.apply_change(&raised).await.unwrap();
    backend.gate.apply_change(&more).await.unwrap();
    assert_eq!(level(&backend, sale.id).await.remaining, 8);
    let decided = backend.gate.reserve(sale.id, EPOCH + 1, &[], &[claim(2)]).await.unwrap();
    assert_eq!(decided.decisions, [Decision::Paused]);
    let resumed = change(&backend, &sale, SaleChange { paused: Some(false), ..stock(11) }).await;
    backend.gate.apply_change(&resumed).await.unwrap();
    assert_eq!(level(&backend, sale.id).await.remaining, 10);
}

/// Another sale of the same id, of a database that was restored since.
pub async fn a_change_of_another_sale_is_left_alone(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 5, 1).await;
    let created_at = sale.created_at + Duration::seconds(1);
    let other = Sale { stock: 50, paused: true, revision: 9, created_at, ..sale.clone() };
    backend.gate.apply_change(&other).await.unwrap();
    assert_eq!(level(&backend, sale.id).await.remaining, 5);
    assert_eq!(reserve(&backend, &sale, &[claim(1)]).await.decisions, [Decision::Reserved]);
}

/// Killed between ledger and gate, the new units are nobody's for a moment, and no promise is broken.
pub async fn a_change_that_never_reached_the_gate_heals(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 2, 1).await;
    let raised = change(&backend, &sale, stock(4)).await;
    let report = fixtures::audit(&backend, sale.id).await;
    assert_eq!(
        (report.verdict, report.stock, report.in_flight),
        (Verdict::InFlight, 4, Some(2)),
        "{report:?}"
    );
    backend.gate.apply_change(&raised).await.unwrap();
    let report = fixtures::audit(&backend, sale.id).await;
    assert_eq!((report.verdict, report.remaining), (Verdict::Clean, Some(4)), "{report:?}");
    // The same with the ledger already sold out, which takes the new orders.
    let orders: Vec<_> = (0..4).map(|user| order(sale.id, user)).collect();
    let mut writer = backend.ledger.writer().await.unwrap();
    assert_eq!(writer.commit(&orders[..4]).await.unwrap(), [Fate::Committed; 4]);
    change(&backend, &sale, stock(5)).await;
    let fates = writer.commit(&[order(sale.id, 9), order(sale.id, 10)]).await.unwrap();
    assert_eq!(fates[0], Fate::Committed);
    assert!(matches!(fates[1], Fate::Rejected(_)), "{fates:?}");
}

/// At every moment between the first raise and the last, while buyers take the units.
pub async fn the_audit_stays_good_while_stock_is_raised_under_load(Subject { backend, .. }: Subject) {
    const RAISES: u32 = 20;
    let sale = open_sale(&backend, 10, 1).await;
    let raising = async {
        for step in 1..=RAISES {
            let change = change_sale(&backend, sale.id, &stock(10 + step * 10)).await.unwrap();
            assert!(change.unapplied.is_none(), "{change:?}");
        }
    };
    let total = 10 + RAISES * 10;
    let buying = async {
        let mut writer = backend.ledger.writer().await.unwrap();
        let mut user = 0;
        // As gateway and worker do it together, without a queue between them.
        while user < u64::from(total) {
            let some = claims(user..user + 5);
            let decisions = reserve(&backend, &sale, &some).await.decisions;
            let reserved =
                some.iter().zip(&decisions).filter(|(_, decision)| **decision == Decision::Reserved);
            let orders: Vec<_> = reserved
                .map(|(claim, _)| seckill_core::Order { sale_id: sale.id, epoch: EPOCH, claim: *claim })
                .collect();
            let fates = writer.commit(&orders).await.unwrap();
            assert!(fates.iter().all(|fate| *fate == Fate::Committed), "{fates:?}");
            user += orders.len() as u64;
        }
    };
    let watching = async {
        loop {
            let report = fixtures::audit(&backend, sale.id).await;
            assert!(!report.verdict.is_bad(), "{report:?}");
        }
    };
    tokio::select! {
        _ = async { tokio::join!(raising, buying) } => {}
        () = watching => {}
    }
    let now = level(&backend, sale.id).await;
    let totals = backend.ledger.totals(sale.id).await.unwrap();
    assert_eq!((now.remaining, totals.units), (0, u64::from(total)));
}
