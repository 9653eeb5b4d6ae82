//! Sales and workers, as operators handle them by the command line: on both back ends, without a demonstration.

use std::time::Duration;

use seckill_client::ProblemKind;
use seckill_core::{SaleId, Verdict};
use seckill_testkit::eventually;
use serde_json::{Value, json};

use crate::process::{Role, Urls, accepted, refusal, run, text};

const SOON: Duration = Duration::from_secs(60);

/// Runs a command against the gateway; the JSON that it prints.
async fn ask(gateway: &Role, more: &[&str], args: &[&str]) -> Value {
    let server = gateway.url();
    let output = run(&[args, &["--json", "--server", &server], more].concat()).await;
    assert!(output.status.success(), "{args:?}: {}", text(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs a command that is refused with these words.
async fn refused(gateway: &Role, more: &[&str], args: &[&str], words: &str) {
    let server = gateway.url();
    let output = run(&[args, &["--server", &server], more].concat()).await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", text(&output));
    assert!(stderr.contains(words), "{args:?}: {stderr}");
}

/// From the first unit to the last.
async fn a_sale_is_changed_while_it_runs(gateway: &Role, more: &[&str]) {
    let create = ["sale", "create", "--name", "phone", "--stock", "1", "--idempotency-key", "release-7"];
    let create =
        [&create[..], &["--starts-at", "2026-01-01T00:00:00Z", "--ends-at", "2999-01-01T00:00:00Z"]].concat();
    let sale = ask(gateway, more, &create).await["id"].as_u64().unwrap();
    assert_eq!(ask(gateway, more, &create).await["id"], sale, "the key opens one sale");
    let id = sale.to_string();
    accepted(gateway.order(sale, 1).await);
    assert_eq!(refusal(gateway.order(sale, 2).await), ProblemKind::SoldOut);

    assert_eq!(ask(gateway, more, &["sale", "raise-stock", &id, "--to", "3"]).await["remaining"], 2);
    assert_eq!(ask(gateway, more, &["sale", "raise-stock", &id, "--to", "3"]).await["remaining"], 2);
    // Units that come to a sale that was sold out are withheld for a moment.
    eventually(SOON, async || gateway.order(sale, 2).await).await;
    refused(gateway, more, &["sale", "raise-stock", &id, "--to", "2"], "can only get more").await;

    assert_eq!(ask(gateway, more, &["sale", "pause", &id]).await["paused"], true);
    assert_eq!(refusal(gateway.order(sale, 3).await), ProblemKind::Paused);
    assert!(gateway.order(sale, 1).await.unwrap().replayed, "a holder gets the order again");
    ask(gateway, more, &["sale", "resume", &id]).await;

    let set = ["sale", "set", &id, "--name", "tablet", "--ends-at", "2998-01-01T00:00:00Z"];
    let shown = ask(gateway, more, &set).await;
    assert_eq!((&shown["name"], &shown["product"]), (&json!("tablet"), &json!("phone")));
    refused(gateway, more, &["sale", "set", &id, "--ends-at", "2026-01-02T00:00:00Z"], "which is over").await;
    refused(gateway, more, &["sale", "pause", "999"], "There is no sale 999").await;

    assert_eq!(ask(gateway, more, &["sale", "close", &id]).await["phase"], "closed");
    assert_eq!(refusal(gateway.order(sale, 3).await), ProblemKind::Closed);
    let report = gateway.audit_at_rest(sale).await;
    assert_eq!((report.verdict, report.stock, report.sold), (Verdict::Clean, 3, 2), "{report:?}");
}

/// What every worker does, once each of them does it.
async fn every_worker_does(gateway: &Role, more: &[&str], rate: &str) -> Value {
    eventually(SOON, async || {
        let shown = ask(gateway, more, &["drain", "show"]).await;
        let workers = shown["workers"].as_array().unwrap();
        if !workers.is_empty() && workers.iter().all(|worker| worker["drain_rate"] == rate) {
            Ok(shown)
        } else {
            Err(shown)
        }
    })
    .await
}

async fn workers_are_paused_and_set(gateway: &Role, more: &[&str]) {
    let create = ["sale", "create", "--name", "drained", "--stock", "5"];
    let sale = ask(gateway, more, &create).await["id"].as_u64().unwrap();
    every_worker_does(gateway, more, "unlimited").await;
    ask(gateway, more, &["drain", "pause"]).await;
    every_worker_does(gateway, more, "paused").await;
    accepted(gateway.order(sale, 1).await);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let audit = gateway.client().audit(SaleId(sale)).await.unwrap().report;
    assert_eq!((audit.committed_orders, audit.in_flight), (0, Some(1)), "{audit:?}");
    assert_eq!(ask(gateway, more, &["drain", "set", "--rate", "2000"]).await["paused"], true);
    ask(gateway, more, &["drain", "resume"]).await;
    every_worker_does(gateway, more, "2000").await;
    assert_eq!(gateway.audit_at_rest(sale).await.sold, 1);
    assert!(ask(gateway, more, &["drain", "set", "--rate", "default"]).await["drain_rate"].is_null());
    every_worker_does(gateway, more, "unlimited").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_change_sales_and_workers_of_the_embedded_back_end() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let gateway = Role::start("gateway", &["--data-dir", data_dir, "--drain-rate", "unlimited"], &[]).await;
    let more = ["--data-dir", data_dir];
    a_sale_is_changed_while_it_runs(&gateway, &more).await;
    workers_are_paused_and_set(&gateway, &more).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_change_sales_and_workers_of_the_cluster() {
    let cluster = seckill_testkit::cluster().await;
    let urls = Urls::from(&cluster);
    urls.migrate().await;
    let gateway = urls.gateway(&[]).await;
    let worker = urls.worker(&["--drain-rate", "unlimited"]).await;
    a_sale_is_changed_while_it_runs(&gateway, &[]).await;
    workers_are_paused_and_set(&gateway, &[]).await;
    // What the workers are told outlives a worker.
    ask(&gateway, &[], &["drain", "pause"]).await;
    drop(worker);
    let _fresh = urls.worker(&["--drain-rate", "unlimited"]).await;
    let shown = every_worker_does(&gateway, &[], "paused").await;
    assert_eq!(shown["workers"].as_array().unwrap().len(), 1, "{shown}");
}
