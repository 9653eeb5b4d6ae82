//! Every metric that Prometheus and Grafana use (`deploy/`) is one that a gateway or a worker has.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use seckill_core::{Claim, Decision, OrderBatch, OrderId, SaleId, UserId, now};
use seckill_testkit::eventually;
use sqlx::{Connection, MySqlConnection};

use crate::process::{Role, SOON, Urls, accepted};

/// Every word of `text` that is named as seckill's metrics are.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("seckill_") || word.starts_with("http_server_")).collect()
}

/// The names in all files below `folder`.
fn wanted(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            wanted(&entry.path(), found);
        } else {
            let text = fs::read_to_string(entry.path()).unwrap();
            found.extend(names(&text).into_iter().map(str::to_owned));
        }
    }
}

async fn metrics(role: &Role) -> String {
    role.client().metrics().await.unwrap()
}

async fn sql(urls: &Urls, sql: &'static str) {
    let mut mysql = MySqlConnection::connect(&urls.mysql).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut mysql).await.unwrap();
}

/// Makes everything happen that is counted: orders of users 1 to 3, one of them rejected, one delivered twice, one stranded;
/// a message that cannot be read; a database without a table.
async fn make_everything_happen(urls: &Urls, gateway: &Role, worker: &Role) {
    let sale = gateway.open_sale(10).await;
    accepted(gateway.order(sale, 1).await);
    let backend = urls.backend();
    let claim = |user| Claim {
        order_id: OrderId::generate(),
        user_id: UserId(user),
        quantity: 1,
        accepted_at: now(),
    };
    let mut publisher = backend.queue.publisher().await.unwrap();
    let batch = |orders| OrderBatch::new(SaleId(sale), 1, orders);
    // A message without orders, which cannot be read. Then a second order of a user, and an order that comes twice.
    publisher.publish(&batch(Vec::new())).await.unwrap();
    let twice = batch(vec![claim(1), claim(2)]);
    publisher.publish(&twice).await.unwrap();
    publisher.publish(&twice).await.unwrap();
    // An order that is reserved and not published.
    let reserved = backend.gate.reserve(SaleId(sale), 1, &[], &[claim(3)]).await.unwrap();
    assert_eq!(reserved.decisions, [Decision::Reserved]);
    gateway.client().audit(SaleId(sale)).await.unwrap();

    let counted = async |name: &str| {
        eventually(SOON, async || {
            let shown = metrics(worker).await;
            let mut values = shown.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
            if values.any(|(_, value)| value != "0") {
                Ok(())
            } else {
                Err(format!("{name} is 0 in {shown}"))
            }
        })
        .await;
    };
    counted("seckill_orders_redelivered_total").await;
    sql(urls, "RENAME TABLE orders TO hidden").await;
    publisher.publish(&batch(vec![claim(4)])).await.unwrap();
    counted("seckill_worker_faults_total").await;
    sql(urls, "RENAME TABLE hidden TO orders").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_of_the_dashboard_and_the_alerts_exists() {
    let mut named = BTreeSet::new();
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    for part in ["grafana", "prometheus"] {
        wanted(&deploy.join(part), &mut named);
    }
    assert!(named.len() >= 10, "the files are not found or name hardly anything: {named:?}");

    let cluster = seckill_testkit::cluster().await;
    let urls = Urls::from(&cluster);
    urls.migrate().await;
    let gateway = urls.gateway(&["--stranded-after", "1s"]).await;
    let worker = urls.worker(&[]).await;
    make_everything_happen(&urls, &gateway, &worker).await;
    eventually(SOON, async || {
        let shown = metrics(&gateway).await + &metrics(&worker).await;
        let shown = names(&shown);
        let missing: Vec<_> = named.iter().filter(|name| !shown.contains(name.as_str())).collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("no process shows {missing:?}; they show {shown:?}"))
        }
    })
    .await;
}

/// A counter that appears with its first increase has no increase for Prometheus.
#[tokio::test(flavor = "multi_thread")]
async fn counters_begin_at_0_and_a_process_says_what_it_is_and_what_it_takes() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Role::start("gateway", &["--data-dir", folder.path().to_str().unwrap()], &[]).await;
    let wanted = [
        "seckill_claims_total{outcome=\"accepted\"} 0",
        "seckill_claims_total{outcome=\"outcome-unknown\"} 0",
        "seckill_order_requests_total 0",
        "seckill_orders_resent_total 0",
        "seckill_lane_panics_total 0",
        "seckill_order_reads_total{source=\"ledger\"} 0",
        "seckill_orders_committed_total 0",
        "seckill_orders_rejected_total{reason=\"stale_epoch\"} 0",
        "seckill_worker_faults_total 0",
        "seckill_parked_messages_total 0",
        "seckill_events_sent_total 0",
        "seckill_events_taken_total{subscriber=\"restock\",outcome=\"repeated\"} 0",
        "seckill_events_taken_total{subscriber=\"transfers\",outcome=\"parked\"} 0",
        "seckill_payments_total{outcome=\"declined\"} 0",
        concat!("seckill_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\",commit=\""),
        "process_resident_memory_bytes ",
        "process_cpu_seconds_total ",
        "process_open_fds ",
        "process_start_time_seconds ",
    ];
    eventually(SOON, async || {
        let shown = metrics(&gateway).await;
        let missing: Vec<_> =
            wanted.iter().filter(|line| !shown.lines().any(|shown| shown.starts_with(*line))).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?} are not in {shown}")) }
    })
    .await;
}

#[test]
fn there_is_an_alert_for_every_kind_of_violation() {
    let alerts = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/prometheus/alerts.yml");
    let alerts = fs::read_to_string(alerts).unwrap();
    for kind in ["oversold", "duplicate", "not_conserved", "money"] {
        assert!(alerts.contains(&format!("seckill_invariant_violations{{kind=\"{kind}\"}}")), "{kind}");
    }
}
