//! The promises, checked in SQL and against what the buyers were answered.

use std::collections::{BTreeMap, HashSet};

use seckill_core::{AuditReport, Verdict};
use seckill_testkit::eventually;
use serde_json::Value;
use sqlx::mysql::MySqlConnection;
use sqlx::{Connection, Row};
use uuid::Uuid;

use crate::bed::HEALED;
use crate::buyers::Buyers;
use crate::process::{Role, Urls, run, text};

/// Waits until `seckill audit --wait` calls the sale clean, with exit code 0, and every order is settled.
pub(crate) async fn clean(gateway: &Role, sale: u64) -> AuditReport {
    let (sale, server) = (sale.to_string(), gateway.url());
    eventually(HEALED, async || {
        let output = run(&["audit", &sale, "--wait", "10s", "--server", &server, "--json"]).await;
        let report: Option<AuditReport> = serde_json::from_slice(&output.stdout).ok();
        match report {
            Some(report)
                if report.verdict == Verdict::Clean
                    && report.pending_orders.unwrap_or(0) == 0
                    && output.status.success() =>
            {
                Ok(report)
            }
            _ => Err(text(&output)),
        }
    })
    .await
}

/// New buyers order, from `first` on, until one is answered that the sale is sold out: units that came back are sold again.
pub(crate) async fn sell_out(buyers: &Buyers, first: u64) {
    let mut user = first;
    while buyers.order(user).await.is_some() {
        user += 1;
    }
}

/// Waits until `/readyz` is 503, and returns its report.
pub(crate) async fn unready(gateway: &Role) -> Value {
    eventually(HEALED, async || match gateway.get("/readyz").await {
        (503, report) if report["status"] == "unready" => Ok(report),
        other => Err(other),
    })
    .await
}

/// Waits until `/readyz` reports that nothing is wrong.
pub(crate) async fn ready(role: &Role) {
    eventually(HEALED, async || match role.get("/readyz").await {
        (200, report) if report["status"] == "ready" => Ok(()),
        other => Err(other),
    })
    .await;
}

/// Exit code and verdict of `seckill audit` now.
pub(crate) async fn audit_now(gateway: &Role, sale: u64) -> (Option<i32>, AuditReport) {
    let output = run(&["audit", &sale.to_string(), "--server", &gateway.url(), "--json"]).await;
    let report = serde_json::from_slice(&output.stdout);
    (output.status.code(), report.unwrap_or_else(|_| panic!("{}", text(&output))))
}

/// Waits until the sale is clean, and checks every promise: each promised order is exactly one row of its buyer, no user has two,
/// nothing is oversold, and every unit is at the gate or sold. Returns the units sold.
pub(crate) async fn check(urls: &Urls, gateway: &Role, sale: u64, stock: u32, buyers: &Buyers) -> u32 {
    let report = clean(gateway, sale).await;
    let sold = check_in_sql(urls, sale, stock, buyers).await;
    assert_eq!(report.sold, u64::from(sold), "{report:?}");
    if let Some(remaining) = report.remaining {
        assert_eq!(remaining + sold, stock, "{report:?}");
    }
    sold
}

/// The same without the gateway's word: what holds at every moment, once all rows are there.
pub(crate) async fn check_in_sql(urls: &Urls, sale: u64, stock: u32, buyers: &Buyers) -> u32 {
    let mut mysql = MySqlConnection::connect(&urls.mysql).await.unwrap();
    let rows = sqlx::query(
        "SELECT id, user_id, CAST(quantity AS UNSIGNED) FROM orders WHERE sale_id = ? AND active = 1",
    )
    .bind(sale)
    .fetch_all(&mut mysql)
    .await
    .unwrap();
    let mut users = HashSet::new();
    let (mut units, mut owners) = (0, BTreeMap::new());
    for row in &rows {
        let (id, user) = (Uuid::from_slice(row.get::<&[u8], _>(0)).unwrap(), row.get::<u64, _>(1));
        assert!(users.insert(user), "user {user} has two active orders");
        owners.insert(id, user);
        units += u32::try_from(row.get::<u64, _>(2)).unwrap();
    }
    assert!(units <= stock, "{units} units are sold of {stock}");
    let wrong: Vec<_> =
        buyers.promised().into_iter().filter(|(id, user)| owners.get(id) != Some(user)).collect();
    assert!(wrong.is_empty(), "{} promised orders have no row: {wrong:?}", wrong.len());
    let totals = sqlx::query("SELECT CAST(sold AS UNSIGNED), orders FROM sales WHERE id = ?").bind(sale);
    let totals = totals.fetch_one(&mut mysql).await.unwrap();
    let totals = (totals.get::<u64, _>(0), totals.get::<u64, _>(1));
    assert_eq!(totals, (u64::from(units), rows.len() as u64), "the running totals of the sale are wrong");
    units
}
