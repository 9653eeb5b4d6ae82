//! What only MySQL can get wrong when a sale changes under a batch, when a session is frozen, and when an answer does not
//! come.

use std::time::Duration;

use seckill_core::{
    Epoch, Fate, Fault, Ledger, LedgerWriter, LockedSale, Mode, Order, RebuildStep, RejectReason, SaleId,
    SaleState,
};
use seckill_testkit::proxy::{Direction, Flow};
use seckill_testkit::{FaultProxy, TestMySql, eventually};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection};
use tokio::time::timeout;
use uuid::Uuid;

use crate::setup::{SOON, ledger, ledger_at, new_sale, order};

/// Longer than a session may be idle, with all that may come on top.
const AFTER_IDLE: Duration = Duration::from_secs(60);

async fn run(connection: &mut MySqlConnection, sql: impl Into<String>) {
    sqlx::raw_sql(AssertSqlSafe(sql.into())).execute(connection).await.unwrap();
}

/// A stranger's transaction that has the sale's row locked.
async fn lock_by_hand(mysql: &TestMySql, sale: SaleId) -> MySqlConnection {
    let mut connection = MySqlConnection::connect(&mysql.url).await.unwrap();
    run(&mut connection, "START TRANSACTION").await;
    run(&mut connection, format!("SELECT * FROM sales WHERE id = {sale} FOR UPDATE")).await;
    connection
}

/// Returns once a statement like this waits for a lock of the sale.
async fn until_one_waits<T>(mysql: &TestMySql, like: &str, task: &tokio::task::JoinHandle<T>) {
    let mut stranger = MySqlConnection::connect(&mysql.url).await.unwrap();
    // (InnoDB's own list of transactions is not refreshed while several tests ask for it all the time.)
    const WAITING: &str = "SELECT COUNT(*) FROM information_schema.processlist \
         WHERE db = DATABASE() AND info LIKE ? AND time >= 1";
    eventually(SOON, async || {
        // MySQL refuses to show any statement while one runs, also in another test, that has bytes in it which are no text.
        let waiting = sqlx::query_scalar::<_, i64>(WAITING).bind(like).fetch_one(&mut stranger).await;
        if matches!(waiting, Ok(1)) {
            Ok(())
        } else {
            Err(format!("{waiting:?}; finished: {}", task.is_finished()))
        }
    })
    .await;
}

/// Commits in a task of its own, and returns once the commit waits for a lock of the sale.
async fn commit_until_it_waits(
    mysql: &TestMySql,
    ledger: &dyn Ledger,
    order: Order,
) -> tokio::task::JoinHandle<Result<Vec<Fate>, Fault>> {
    let mut writer: Box<dyn LedgerWriter> = ledger.writer().await.unwrap();
    let task = tokio::spawn(async move { writer.commit(&[order]).await });
    // Only an update of the sale waits: the batch has read the sale and inserted its rows by then.
    until_one_waits(mysql, "UPDATE sales%", &task).await;
    task
}

async fn row(ledger: &dyn Ledger, sale: SaleId) -> (u32, u64, u64) {
    let sale = ledger.sale(sale).await.unwrap().unwrap();
    (sale.sold, sale.orders, sale.rejected_orders)
}

async fn locked(ledger: &dyn Ledger, sale: SaleId, from: Epoch) -> Box<dyn LockedSale> {
    let owner = Uuid::now_v7();
    assert!(ledger.begin_rebuild(sale, from, from + 1, 0).await.unwrap());
    let progress = (RebuildStep::Filling, 0, None);
    assert!(ledger.own_rebuild(sale, from + 1, owner, SOON, progress).await.unwrap());
    ledger.lock_for_refill(sale, from + 1, owner).await.unwrap().unwrap()
}

#[tokio::test]
async fn units_sold_between_reading_the_sale_and_updating_it_are_not_sold_again() {
    let mysql = seckill_testkit::mysql().await;
    let ledger = ledger(&mysql).await;
    let sale = ledger.create_sale(&new_sale(1), Mode::Queue).await.unwrap().id;
    // The condition of the update is meant, not the constraint behind it.
    let mut stranger = MySqlConnection::connect(&mysql.url).await.unwrap();
    run(&mut stranger, "ALTER TABLE sales DROP CONSTRAINT sold_within_stock").await;
    let mut other = lock_by_hand(&mysql, sale).await;
    let order = order(sale, 1);
    let commit = commit_until_it_waits(&mysql, &*ledger, order).await;
    run(
        &mut other,
        format!(
            "INSERT INTO orders VALUES \
             (UNHEX(REPLACE(UUID(), '-', '')), {sale}, 2, 1, 250, 'committed', 1, NOW(), NOW(), 1, NULL); \
             UPDATE sales SET sold = 1, orders = 1 WHERE id = {sale}; COMMIT"
        ),
    )
    .await;
    assert_eq!(commit.await.unwrap().unwrap(), [Fate::Rejected(RejectReason::SoldOut)]);
    assert_eq!(row(&*ledger, sale).await, (1, 1, 1));
}

#[tokio::test]
async fn an_order_rejected_between_reading_the_sale_and_updating_it_stays_rejected() {
    let mysql = seckill_testkit::mysql().await;
    let ledger = ledger(&mysql).await;
    let sale = ledger.create_sale(&new_sale(10), Mode::Queue).await.unwrap().id;
    let mut other = lock_by_hand(&mysql, sale).await;
    let order = order(sale, 1);
    let commit = commit_until_it_waits(&mysql, &*ledger, order.clone()).await;
    let id = order.claim.order_id.0.simple();
    run(
        &mut other,
        format!(
            "INSERT INTO rejections VALUES (x'{id}', {sale}, 1, 1, 'sold_out', NOW(), NOW()); \
             UPDATE sales SET rejected_orders = 1 WHERE id = {sale}; COMMIT"
        ),
    )
    .await;
    assert_eq!(commit.await.unwrap().unwrap(), [Fate::AlreadyRejected(RejectReason::SoldOut)]);
    assert_eq!(row(&*ledger, sale).await, (0, 0, 1));
    assert_eq!(ledger.totals(sale).await.unwrap().duplicates, 0);
}

#[tokio::test]
async fn a_refill_that_ends_between_reading_the_sale_and_updating_it_makes_the_order_stale() {
    let mysql = seckill_testkit::mysql().await;
    let ledger = ledger(&mysql).await;
    let sale = ledger.create_sale(&new_sale(10), Mode::Queue).await.unwrap().id;
    let order = order(sale, 1);
    ledger.mark_opened(sale, order.epoch).await.unwrap();
    let mut locked = locked(&*ledger, sale, order.epoch).await;
    // Read while the sale is rebuilding, when the order is not stale yet.
    let commit = commit_until_it_waits(&mysql, &*ledger, order).await;
    assert_eq!(locked.active_orders(None, 10).await.unwrap(), []);
    locked.open().await.unwrap();
    assert_eq!(commit.await.unwrap().unwrap(), [Fate::Rejected(RejectReason::StaleEpoch)]);
    assert_eq!(row(&*ledger, sale).await, (0, 0, 1));
}

#[tokio::test]
async fn an_owner_that_renews_its_lease_while_a_takeover_waits_stays_the_owner() {
    let mysql = seckill_testkit::mysql().await;
    let ledger = ledger(&mysql).await;
    let sale = ledger.create_sale(&new_sale(10), Mode::Queue).await.unwrap().id;
    // Their bytes are text, so that MySQL can show a statement that has them.
    let (owner, next) = (Uuid::from_bytes(*b"the owner so far"), Uuid::from_bytes(*b"who takes over!!"));
    assert!(ledger.begin_rebuild(sale, 0, 1, 0).await.unwrap());
    assert!(
        ledger.own_rebuild(sale, 1, owner, Duration::ZERO, (RebuildStep::Draining, 0, None)).await.unwrap()
    );
    let seen = ledger.sale(sale).await.unwrap().unwrap();
    let mut renewing = lock_by_hand(&mysql, sale).await;
    let takeover = tokio::spawn({
        let ledger = ledger.clone();
        async move { ledger.take_up_rebuild(&seen, (2, 0), next, SOON).await }
    });
    until_one_waits(&mysql, "SELECT id FROM sales%", &takeover).await;
    run(
        &mut renewing,
        format!(
            "UPDATE sales SET rebuild_lease = UTC_TIMESTAMP(3) + INTERVAL 1 HOUR WHERE id = {sale}; COMMIT"
        ),
    )
    .await;
    assert!(!takeover.await.unwrap().unwrap());
    let left = ledger.sale(sale).await.unwrap().unwrap();
    assert_eq!((left.epoch, left.rebuild.unwrap().owner), (1, Some(owner)));
}

#[tokio::test]
async fn a_frozen_session_gives_its_locks_back_and_an_idle_writer_connects_again() {
    let mysql = seckill_testkit::mysql().await;
    let ledger = ledger(&mysql).await;
    let sale = ledger.create_sale(&new_sale(10), Mode::Queue).await.unwrap().id;
    let mut idle = ledger.writer().await.unwrap();
    assert_eq!(idle.commit(&[order(sale, 1)]).await.unwrap(), [Fate::Committed]);
    let sale_epoch = ledger.sale(sale).await.unwrap().unwrap().epoch;
    // Held, and not used any more, as by a process that has been stopped.
    let frozen = locked(&*ledger, sale, sale_epoch).await;
    let mut writer = ledger.writer().await.unwrap();
    let waiting = order(sale, 2);
    let fates = timeout(AFTER_IDLE, async {
        loop {
            match writer.commit(std::slice::from_ref(&waiting)).await {
                Ok(fates) => return fates,
                Err(fault) => assert!(matches!(fault, Fault::Unavailable { .. }), "{fault}"),
            }
        }
    });
    assert_eq!(fates.await.expect("the server ends a session that is idle"), [Fate::Committed]);
    let fault = frozen.open().await.unwrap_err();
    assert!(matches!(fault, Fault::Unavailable { .. }), "{fault}");
    let left = ledger.sale(sale).await.unwrap().unwrap();
    assert_eq!((left.state, left.sold), (SaleState::Rebuilding, 2));
    // The server has ended this one's session, too.
    assert_eq!(idle.commit(&[order(sale, 3)]).await.unwrap(), [Fate::Committed]);
}

#[tokio::test]
async fn a_commit_without_an_answer_is_unknown_and_one_cut_off_before_it_is_not() {
    let mysql = seckill_testkit::mysql().await;
    seckill_cluster::migrate(&mysql.url).await.unwrap();
    let proxy = FaultProxy::start(&mysql.url).await;
    let ledger = ledger_at(&mysql.url).ledger;
    let sale = ledger.create_sale(&new_sale(10), Mode::Queue).await.unwrap().id;
    let mut writer = ledger_at(&proxy.url(&mysql.url)).ledger.writer().await.unwrap();
    writer.commit(&[order(sale, 1)]).await.unwrap();
    let before = proxy.counts().to_client.forwarded;
    writer.commit(&[order(sale, 2)]).await.unwrap();
    let answers = proxy.counts().to_client.forwarded - before;

    // All answers but the last byte of that to COMMIT.
    let lost = order(sale, 3);
    proxy.set(Direction::ToClient, Flow::CutAfter(answers - 1));
    let fault = writer.commit(std::slice::from_ref(&lost)).await.unwrap_err();
    assert!(matches!(fault, Fault::Unknown { .. }), "{fault}");
    proxy.set(Direction::ToClient, Flow::Pass);
    assert_eq!(writer.commit(&[lost]).await.unwrap(), [Fate::AlreadyCommitted]);
    assert_eq!(row(&*ledger, sale).await, (3, 3, 0));

    writer.commit(&[order(sale, 4)]).await.unwrap();
    proxy.set(Direction::ToClient, Flow::CutAfter(answers / 2));
    let early = order(sale, 5);
    let fault = writer.commit(std::slice::from_ref(&early)).await.unwrap_err();
    assert!(matches!(fault, Fault::Unavailable { .. }), "{fault}");
    assert_eq!(ledger.order(early.claim.order_id).await.unwrap(), None);
    proxy.set(Direction::ToClient, Flow::Pass);
    assert_eq!(writer.commit(&[early]).await.unwrap(), [Fate::Committed]);
}

#[tokio::test]
async fn every_call_to_a_server_that_hangs_has_its_deadline() {
    let mysql = seckill_testkit::mysql().await;
    seckill_cluster::migrate(&mysql.url).await.unwrap();
    let proxy = FaultProxy::start(&mysql.url).await;
    let ledger = ledger_at(&proxy.url(&mysql.url)).ledger;
    let sale = ledger.create_sale(&new_sale(10), Mode::Queue).await.unwrap().id;
    let mut writer = ledger.writer().await.unwrap();
    writer.commit(&[order(sale, 1)]).await.unwrap();
    let locked = locked(&*ledger, sale, 0).await;
    proxy.set_both(Flow::Hold);
    let order = [order(sale, 2)];
    let (ping, commit, open) = tokio::join!(ledger.ping(), writer.commit(&order), locked.open());
    for fault in [ping.unwrap_err(), commit.unwrap_err(), open.unwrap_err()] {
        assert!(matches!(fault, Fault::Unavailable { .. }), "{fault}");
        assert!(fault.to_string().contains("did not answer within"), "{fault}");
    }
    proxy.set_both(Flow::Pass);
    eventually(SOON, async || ledger.ping().await).await;
}

#[tokio::test]
async fn an_order_that_the_database_refuses_for_its_values_is_corrupt_and_no_outage() {
    let mysql = seckill_testkit::mysql().await;
    let ledger = ledger(&mysql).await;
    let sale = ledger.create_sale(&new_sale(10), Mode::Queue).await.unwrap().id;
    let mut stranger = MySqlConnection::connect(&mysql.url).await.unwrap();
    run(&mut stranger, "ALTER TABLE orders ADD CONSTRAINT not_13 CHECK (user_id <> 13)").await;
    let mut late = order(sale, 2);
    late.claim.accepted_at = "+12000-01-01T00:00:00Z".parse().unwrap();
    let mut writer = ledger.writer().await.unwrap();
    for bad in [late, order(sale, 13)] {
        let fault = writer.commit(&[order(sale, 1), bad]).await.unwrap_err();
        assert!(matches!(fault, Fault::Corrupt { .. }), "{fault}");
    }
    assert_eq!(writer.commit(&[order(sale, 1)]).await.unwrap(), [Fate::Committed]);
}

#[tokio::test]
async fn a_database_of_the_first_version_is_migrated_without_loss_and_as_often_as_needed() {
    let mysql = seckill_testkit::mysql().await;
    let mut stranger = MySqlConnection::connect(&mysql.url).await.unwrap();
    run(&mut stranger, include_str!("../../../../migrations/mysql/0001_sales_orders_rejections.sql")).await;
    run(
        &mut stranger,
        "INSERT INTO sales VALUES (7, 'old', 'phone', 5, 2, 1, 0, 250, 'USD', 2, NOW(), NOW() + INTERVAL 1 DAY, 3, NOW()); \
         INSERT INTO orders VALUES (x'00000000000000000000000000000001', 7, 1, 2, 500, 'committed', 1, NOW(), NOW()); \
         INSERT INTO rejections VALUES (x'00000000000000000000000000000002', 7, 2, 1, 'unknown_sale', NOW(), NOW())",
    )
    .await;
    let ledger = ledger(&mysql).await;
    let old = ledger.sale(SaleId(7)).await.unwrap().unwrap();
    assert_eq!((old.state, old.rebuild, old.epoch, old.sold), (SaleState::Open, None, 3, 2));
    let totals = ledger.totals(SaleId(7)).await.unwrap();
    assert_eq!((totals.orders, totals.units, totals.rejected_orders), (1, 2, 1));
    assert_eq!(old.rejected_orders, 1, "the rejection that came before its sale is counted");

    // Interrupted after the last statement, and run again.
    let id = ledger.id().await.unwrap();
    run(&mut stranger, "DELETE FROM _sqlx_migrations WHERE version = 2").await;
    seckill_cluster::migrate(&mysql.url).await.unwrap();
    // Interrupted before that.
    run(&mut stranger, "DELETE FROM _sqlx_migrations WHERE version = 2; DROP TABLE ledger_identity").await;
    let fault = ledger_at(&mysql.url).ledger.ping().await.unwrap_err();
    assert!(matches!(fault, Fault::Misconfigured { .. }), "{fault}");
    assert!(fault.to_string().contains("run `seckill migrate`"), "{fault}");
    seckill_cluster::migrate(&mysql.url).await.unwrap();
    assert_ne!(ledger_at(&mysql.url).ledger.id().await.unwrap(), id);
    // To a process that has worked with the first id this is another database.
    let fault = ledger.id().await.unwrap_err();
    assert!(matches!(fault, Fault::Misconfigured { .. }), "{fault}");
    assert!(fault.to_string().contains("start this process again"), "{fault}");
}
