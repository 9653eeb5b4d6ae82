//! The ledger on MySQL: batches that do not fit, writers in each other's way, and a server that hangs, dies or lacks
//! what it should have.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use seckill_core::{Fate, Fault, Ledger, LedgerTotals, Mode, Order, RejectReason, Sale, SaleId, UserId};
use seckill_testkit::{PrivateMySql, eventually};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection};
use tokio::time::timeout;

use crate::setup::{SOON, ledger, ledger_at, new_sale, order};

async fn run(url: &str, sql: &'static str) {
    let mut connection = MySqlConnection::connect(url).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
}

/// The rows and the running totals agree, and nothing is there twice.
async fn assert_sound(ledger: &dyn Ledger, sale: SaleId) -> (Sale, LedgerTotals) {
    let (sale, totals) = (ledger.sale(sale).await.unwrap().unwrap(), ledger.totals(sale).await.unwrap());
    assert_eq!(totals.duplicates, 0);
    assert_eq!((u64::from(sale.sold), sale.orders), (totals.units, totals.orders));
    assert_eq!(sale.rejected_orders, totals.rejected_orders);
    assert!(sale.sold <= sale.stock);
    (sale, totals)
}

#[tokio::test]
async fn a_mixed_batch_is_sorted_and_every_order_keeps_its_fate() {
    let mysql = seckill_testkit::mysql().await;
    let ledger = ledger(&mysql).await;
    let sale = ledger.create_sale(&new_sale(4), Mode::Queue).await.unwrap();
    let other = ledger.create_sale(&new_sale(1_000), Mode::Queue).await.unwrap();
    let mut writer = ledger.writer().await.unwrap();
    let committed = order(sale.id, 1);
    assert_eq!(writer.commit(std::slice::from_ref(&committed)).await.unwrap(), [Committed]);

    let mut two = order(sale.id, 3);
    two.claim.quantity = 2;
    let (mut none, mut three) = (order(sale.id, 8), order(sale.id, 9));
    (none.claim.quantity, three.claim.quantity) = (0, 3);
    let again = two.clone();
    let mut batch = vec![committed, order(sale.id, 1), two, again, none, three];
    batch.extend([order(sale.id, 4), order(sale.id, 5), order(other.id, 5), order(SaleId(9_999), 6)]);
    use Fate::{AlreadyCommitted, AlreadyRejected, Committed, Rejected};
    use RejectReason::{BadQuantity, SoldOut, UnknownSale, UserHasOrder};
    let fates = writer.commit(&batch).await.unwrap();
    assert_eq!(fates[..4], [AlreadyCommitted, Rejected(UserHasOrder), Committed, AlreadyCommitted]);
    assert_eq!(fates[4..8], [Rejected(BadQuantity), Rejected(BadQuantity), Committed, Rejected(SoldOut)]);
    assert_eq!(fates[8..], [Committed, Rejected(UnknownSale)]);

    let again = ledger.writer().await.unwrap().commit(&batch).await.unwrap();
    let as_before = |fate: &Fate| match fate {
        Committed => AlreadyCommitted,
        Rejected(reason) => AlreadyRejected(*reason),
        fate => *fate,
    };
    assert_eq!(again, fates.iter().map(as_before).collect::<Vec<_>>());
    // A rejected order that comes alone is not committed either, though there would be room for its quantity.
    assert_eq!(writer.commit(&[batch[4].clone()]).await.unwrap(), [AlreadyRejected(BadQuantity)]);

    let (sale, totals) = assert_sound(&*ledger, sale.id).await;
    assert_eq!((totals.orders, totals.units, totals.rejected_orders, totals.rejected_units), (3, 4, 4, 5));
    assert_sound(&*ledger, other.id).await;
    let row = ledger.order(batch[2].claim.order_id).await.unwrap().unwrap();
    assert_eq!((row.sale_id, row.claim), (batch[2].sale_id, batch[2].claim));
    assert_eq!((row.amount_cents, row.rejected), (2 * 12_345, None));
    let row = ledger.order(batch[7].claim.order_id).await.unwrap().unwrap();
    assert_eq!((row.sale_id, row.claim), (batch[7].sale_id, batch[7].claim));
    assert_eq!((row.amount_cents, row.rejected), (0, Some(SoldOut)));
    let of_one = ledger.orders_of(UserId(1), sale.id).await.unwrap();
    let of_one: Vec<_> = of_one.iter().map(|row| (row.sale_id, row.claim)).collect();
    assert_eq!(of_one, [&batch[0], &batch[1]].map(|order| (order.sale_id, order.claim)));
}

#[tokio::test]
async fn writers_in_each_others_way_never_oversell_and_never_sell_twice() {
    let mysql = seckill_testkit::mysql().await;
    let ledger = ledger(&mysql).await;
    let sale = ledger.create_sale(&new_sale(1_000), Mode::Queue).await.unwrap().id;
    // 1,500 users want 1,000 units; each batch reaches two writers, and every user has a second order somewhere.
    let first: Vec<_> = (0..1_500).map(|user| order(sale, user)).collect();
    let second: Vec<_> = (0..1_500).rev().map(|user| order(sale, user)).collect();
    let batches: Vec<&[Order]> =
        [&first, &second, &first].into_iter().flat_map(|orders| orders.chunks(100)).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let lanes = (0..6).map(|_| async {
        let mut writer = ledger.writer().await.unwrap();
        let mut fates = Vec::new();
        while let Some(batch) = batches.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            let done = eventually(SOON, async || writer.commit(batch).await).await;
            fates.extend(batch.iter().map(|order| order.claim.order_id).zip(done));
        }
        fates
    });
    let fates = join_all(lanes).await.concat();
    let committed: Vec<_> = fates.iter().filter(|(_, fate)| *fate == Fate::Committed).collect();
    let distinct: HashSet<_> = committed.iter().map(|(id, _)| id).collect();
    assert_eq!((committed.len(), distinct.len()), (1_000, 1_000));
    let (_, totals) = assert_sound(&*ledger, sale).await;
    assert_eq!((totals.units, totals.orders + totals.rejected_orders), (1_000, 3_000));
}

#[tokio::test]
async fn a_batch_of_many_statements_is_committed_whole() {
    let mysql = seckill_testkit::mysql().await;
    let ledger = ledger(&mysql).await;
    let sale = ledger.create_sale(&new_sale(10_000), Mode::Queue).await.unwrap().id;
    let mut writer = ledger.writer().await.unwrap();
    assert_eq!(writer.commit(&[]).await.unwrap(), []);
    let orders: Vec<_> = (0..9_000).map(|user| order(sale, user)).collect();
    assert!(writer.commit(&orders).await.unwrap().iter().all(|fate| *fate == Fate::Committed));
    assert!(writer.commit(&orders).await.unwrap().iter().all(|fate| *fate == Fate::AlreadyCommitted));
    assert_eq!(assert_sound(&*ledger, sale).await.1.orders, 9_000);
}

#[tokio::test]
async fn a_hanging_or_killed_server_never_leaves_half_a_batch() {
    let mysql = PrivateMySql::start().await;
    seckill_cluster::migrate(&mysql.url()).await.unwrap();
    let ledger = ledger_at(&mysql.url()).ledger;
    let sale = ledger.create_sale(&new_sale(1_000), Mode::Queue).await.unwrap().id;
    let mut writer = ledger.writer().await.unwrap();
    let batches: Vec<Vec<_>> =
        (0..4).map(|n| (n * 50..n * 50 + 50).map(|user| order(sale, user)).collect()).collect();
    writer.commit(&batches[0]).await.unwrap();

    mysql.kill().await;
    assert!(matches!(writer.commit(&batches[1]).await, Err(Fault::Unavailable { .. })));
    let fault = ledger.ping().await.unwrap_err().to_string();
    assert!(fault.contains("cannot be reached") && fault.contains("refused"), "{fault}");
    mysql.start_again().await;
    eventually(SOON, async || ledger.ping().await).await;
    writer.commit(&batches[1]).await.unwrap();

    // Killed in the middle of committing: each batch is there as a whole or not at all.
    let commits = std::cell::Cell::new(0);
    let committing = async {
        for batch in batches.iter().cycle().take(2_000) {
            if writer.commit(batch).await.is_err() {
                return;
            }
            commits.set(commits.get() + 1);
        }
    };
    tokio::join!(committing, async {
        eventually(SOON, async || if commits.get() >= 5 { Ok(()) } else { Err(commits.get()) }).await;
        mysql.kill().await;
    });
    mysql.start_again().await;
    eventually(SOON, async || ledger.ping().await).await;
    let orders = assert_sound(&*ledger, sale).await.1.orders;
    assert!(orders.is_multiple_of(50), "{orders}");
    for batch in &batches {
        eventually(SOON, async || writer.commit(batch).await).await;
    }
    assert_eq!(assert_sound(&*ledger, sale).await.1.orders, 200);
}

#[tokio::test]
async fn what_a_database_lacks_is_reported_without_the_password() {
    let mysql = seckill_testkit::mysql().await;
    let fault = ledger_at(&mysql.url).ledger.ping().await.unwrap_err().to_string();
    assert!(fault.contains("run `seckill migrate`"), "{fault}");
    let database = mysql.url.rsplit('/').next().unwrap();
    let missing = mysql.url.replace(database, "no_such_database");
    for fault in [
        ledger_at(&missing).ledger.ping().await.unwrap_err().to_string(),
        ledger_at(&missing).ledger.writer().await.err().unwrap().to_string(),
        seckill_cluster::migrate(&missing).await.unwrap_err().to_string(),
    ] {
        assert!(fault.contains("has no database \"no_such_database\": create it"), "{fault}");
    }
    let place = mysql.url.rsplit('@').next().unwrap();
    let stranger = format!("mysql://stranger:secret@{place}");
    let fault = ledger_at(&stranger).ledger.ping().await.unwrap_err().to_string();
    assert!(fault.contains("refuses user \"stranger\"") && !fault.contains("secret"), "{fault}");
}

#[tokio::test]
async fn migrating_again_or_at_once_changes_nothing_and_a_foreign_schema_is_reported() {
    let mysql = seckill_testkit::mysql().await;
    let at_once = join_all((0..4).map(|_| seckill_cluster::migrate(&mysql.url))).await;
    assert!(at_once.iter().all(Result::is_ok), "{at_once:?}");
    seckill_cluster::migrate(&mysql.url).await.unwrap();
    run(&mysql.url, "UPDATE _sqlx_migrations SET success = FALSE").await;
    let fault = seckill_cluster::migrate(&mysql.url).await.unwrap_err().to_string();
    assert!(fault.contains("delete row 1 from _sqlx_migrations"), "{fault}");
    run(&mysql.url, "DELETE FROM _sqlx_migrations").await;
    seckill_cluster::migrate(&mysql.url).await.unwrap();
    run(&mysql.url, "INSERT INTO _sqlx_migrations VALUES (9, 'x', NOW(), TRUE, '', 0)").await;
    let fault = seckill_cluster::migrate(&mysql.url).await.unwrap_err().to_string();
    assert!(fault.contains("use the newer seckill"), "{fault}");
}

/// Found on real servers: 54 counts at once behind a pool of 8, because nobody waited for them any more.
#[tokio::test]
async fn counts_whose_askers_hang_up_do_not_pile_up_on_the_server() {
    const COUNTERS: usize = 4;
    let mysql = seckill_testkit::mysql().await;
    let ledger = ledger(&mysql).await;
    let sale = ledger.create_sale(&new_sale(10), Mode::Queue).await.unwrap().id;
    ledger.writer().await.unwrap().commit(&[order(sale, 1)]).await.unwrap();
    // Billions of rows, which take longer to count than this test lasts.
    run(&mysql.url, "CREATE TABLE many AS SELECT 1 AS n FROM information_schema.columns LIMIT 2000").await;
    run(&mysql.url, "RENAME TABLE orders TO few").await;
    run(&mysql.url, "CREATE VIEW orders AS SELECT few.* FROM few, many a, many b, many c").await;
    let mut stranger = MySqlConnection::connect(&mysql.url).await.unwrap();
    let counts = "SELECT CAST(id AS UNSIGNED) FROM information_schema.processlist \
                  WHERE db = DATABASE() AND info LIKE 'SELECT CAST(o.n%'";
    let mut most = 0;
    // Longer than a pooled connection may take to prove that it is alive: one that does not is replaced.
    for _ in 0..4 {
        let crowd = (0..8).map(|_| {
            let ledger = Arc::clone(&ledger);
            tokio::spawn(
                async move { timeout(Duration::from_millis(1_500), ledger.totals(sale)).await.is_err() },
            )
        });
        for asker in crowd.collect::<Vec<_>>() {
            let _ = asker.await.unwrap();
        }
        let at_work: Vec<u64> = sqlx::query_scalar(counts).fetch_all(&mut stranger).await.unwrap();
        most = most.max(at_work.len());
    }
    for id in sqlx::query_scalar::<_, u64>(counts).fetch_all(&mut stranger).await.unwrap() {
        let _ = sqlx::raw_sql(AssertSqlSafe(format!("KILL {id}"))).execute(&mut stranger).await;
    }
    assert!((1..=COUNTERS).contains(&most), "{most} counts were at work at once");
    run(&mysql.url, "DROP VIEW orders").await;
    run(&mysql.url, "RENAME TABLE few TO orders").await;
    eventually(SOON, async || ledger.totals(sale).await).await;
}
