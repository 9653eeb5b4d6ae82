//! Two gateways and two workers on one sale: 30,000 buyers for 10,000 units, a tenth of the requests sent twice.

use std::collections::HashSet;
use std::time::Duration;

use loadtest::{CancellationToken, Clients, Job, Outcome, Plan, Progress, Run, Target, Tokens};
use seckill_core::Verdict;
use sqlx::mysql::MySqlConnection;
use sqlx::{Connection, Row};
use uuid::Uuid;

use crate::process::{Role, Urls, token};

const STOCK: u32 = 10_000;

/// Sends `buyers` users, counting up from `first_user`, and every tenth of them twice.
pub(crate) async fn send(gateway: &str, sale: u64, first_user: u64, buyers: u64, arrival: Duration) -> Run {
    let plan = Plan { retry_ratio: 0.1, seed: first_user, ..Plan::spread(buyers, first_user, arrival) };
    let tokens = Tokens::sign(&plan, token).unwrap();
    let mut clients = Clients::connect(Target::parse(gateway).unwrap(), 64).await.unwrap();
    let job = Job::new(plan, sale, tokens);
    loadtest::run(&mut clients, &job, &Progress::shared(), &CancellationToken::new()).await.unwrap()
}

/// The orders that were answered with 202 or 200.
pub(crate) fn promised(runs: &[Run]) -> HashSet<Uuid> {
    runs.iter().flat_map(Run::orders).filter(|order| order.promised).map(|order| order.order_id).collect()
}

/// The invariants of the ledger, in SQL, and every promised order in it.
pub(crate) async fn check_in_sql(urls: &Urls, sale: u64, promised: &HashSet<Uuid>) {
    let mut mysql = MySqlConnection::connect(&urls.mysql).await.unwrap();
    let count = async |mysql: &mut MySqlConnection, sql: &'static str| -> i64 {
        sqlx::query_scalar(sql).bind(sale).fetch_one(mysql).await.unwrap()
    };
    let sold = count(
        &mut mysql,
        "SELECT CAST(COALESCE(SUM(quantity), 0) AS SIGNED) FROM orders WHERE sale_id = ? AND active = 1",
    )
    .await;
    assert!(sold <= i64::from(STOCK), "oversold: {sold} units");
    let total = count(&mut mysql, "SELECT CAST(sold AS SIGNED) FROM sales WHERE id = ?").await;
    assert_eq!(total, sold, "the running total is wrong");
    let twice = "SELECT COUNT(*) FROM (SELECT user_id FROM orders WHERE sale_id = ? AND active = 1 \
                 GROUP BY user_id HAVING COUNT(*) > 1) AS twice";
    assert_eq!(count(&mut mysql, twice).await, 0, "a user has two orders");
    let rejected = count(&mut mysql, "SELECT COUNT(*) FROM rejections WHERE sale_id = ?").await;
    assert_eq!(rejected, 0, "orders were rejected with a gate that lost nothing");
    let rows = sqlx::query("SELECT id FROM orders WHERE sale_id = ?").bind(sale);
    let rows = rows.fetch_all(&mut mysql).await.unwrap();
    let found: HashSet<Uuid> =
        rows.iter().map(|row| Uuid::from_slice(row.get::<&[u8], _>(0)).unwrap()).collect();
    let lost: Vec<_> = promised.difference(&found).collect();
    assert!(lost.is_empty(), "{} promised orders have no row: {lost:?}", lost.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_and_two_workers_keep_every_invariant() {
    let cluster = seckill_testkit::cluster().await;
    let urls = Urls::from(&cluster);
    urls.migrate().await;
    let gateways: [Role; 2] = [urls.gateway(&[]).await, urls.gateway(&[]).await];
    let _workers =
        [urls.worker(&["--drain-rate", "6000"]).await, urls.worker(&["--drain-rate", "6000"]).await];
    let sale = gateways[0].open_sale(STOCK).await;
    // Of 30,000 users 3,000 send to both gateways, and of each gateway's a tenth sends twice.
    let [one, two] = gateways.each_ref().map(Role::url);
    let arrival = Duration::from_secs(4);
    let (one, two) =
        tokio::join!(send(&one, sale, 1, 16_500, arrival), send(&two, sale, 13_501, 16_500, arrival));
    let runs = [one, two];
    for run in &runs {
        let odd = |record: &&loadtest::Record| {
            !matches!(record.outcome, Outcome::Accepted { .. } | Outcome::Replayed { .. } | Outcome::SoldOut)
        };
        let odd: Vec<_> = run.records.iter().filter(odd).take(5).collect();
        assert!(odd.is_empty(), "answers that a healthy system does not give: {odd:?}");
    }
    let promised = promised(&runs);
    assert_eq!(promised.len(), STOCK as usize, "every unit has found a buyer");
    let report = gateways[1].audit_at_rest(sale).await;
    assert_eq!((report.verdict, report.sold), (Verdict::Clean, u64::from(STOCK)), "{report:?}");
    check_in_sql(&urls, sale, &promised).await;
}
