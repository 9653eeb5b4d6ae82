//! `--admin-listen`, `--drain-delay` and TLS files, as an operator gives them.

use seckill_testkit::eventually;
use serde_json::Value;

use crate::process::{ADMIN_TOKEN, Role, SOON, accepted, run, text};

/// Where the gateway serves admins, as it logs it.
pub(crate) fn admin_url(gateway: &Role) -> String {
    let log = gateway.log();
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let address = lines.find_map(|line| Some(line.get("admin_address")?.as_str()?.to_owned()));
    format!("http://{}", address.unwrap_or_else(|| panic!("no address for admins in {log}")))
}

async fn status(url: String) -> u16 {
    let request = reqwest::Client::new().get(url).bearer_auth(ADMIN_TOKEN);
    request.send().await.expect("an answer").status().as_u16()
}

#[tokio::test]
async fn with_a_listener_for_admins_buyers_see_neither_page_nor_metrics_nor_controls() {
    let folder = tempfile::tempdir().unwrap();
    let args =
        ["--data-dir", folder.path().to_str().unwrap(), "--admin-listen", "127.0.0.1:0", "--demo-controls"];
    let gateway = Role::start("gateway", &args, &[]).await;
    let admin = admin_url(&gateway);
    for path in ["/", "/labs", "/metrics", "/api/v1/live", "/api/v1/control", "/api/v1/parked"] {
        assert_eq!(status(format!("{}{path}", gateway.url())).await, 404, "{path}");
        assert_eq!(status(format!("{admin}{path}")).await, 200, "{path}");
    }
    for door in [&gateway.url(), &admin] {
        assert_eq!(status(format!("{door}/shop")).await, 200, "buyers reach the shop at every door");
        assert_eq!(status(format!("{door}/shop/proof-worker.js")).await, 200);
        assert_eq!(
            status(format!("{door}/shop/app.js")).await,
            404,
            "the live page's files are not the shop's"
        );
    }
    let create = ["sale", "create", "--name", "test", "--stock", "10", "--server"];
    let refused = run(&[&create[..], &[&gateway.url()]].concat()).await;
    assert!(!refused.status.success(), "{}", text(&refused));
    let created = run(&[&create[..], &[&admin, "--json"]].concat()).await;
    assert!(created.status.success(), "{}", text(&created));
    let sale: Value = serde_json::from_slice(&created.stdout).unwrap();
    accepted(gateway.order(sale["id"].as_u64().unwrap(), 7).await);
    let log = gateway.log();
    assert!(log.contains("demonstration controls are on"), "{log}");
}

#[tokio::test]
async fn after_sigterm_orders_go_on_until_the_delay_is_over_or_a_second_signal_comes() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["--data-dir", folder.path().to_str().unwrap(), "--drain-delay", "10m"];
    let mut gateway = Role::start("gateway", &args, &[]).await;
    let sale = gateway.open_sale(10).await;
    gateway.terminate().await;
    eventually(SOON, async || match gateway.get("/readyz").await {
        (503, report) if report["status"] == "draining" => Ok(()),
        other => Err(other),
    })
    .await;
    accepted(gateway.order(sale, 7).await);
    gateway.terminate().await;
    assert!(gateway.ended(SOON).await.success());
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_reported_with_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cert.pem");
    let file = file.to_str().unwrap();
    let data_dir = folder.path().join("data");
    let gateway = ["gateway", "--listen", "127.0.0.1:0", "--data-dir", data_dir.to_str().unwrap()];
    let half = run(&[&gateway[..], &["--tls-cert-file", file]].concat()).await;
    assert_eq!(half.status.code(), Some(2), "{}", text(&half));
    let missing = run(&[&gateway[..], &["--tls-cert-file", file, "--tls-key-file", file]].concat()).await;
    assert_eq!(missing.status.code(), Some(1), "{}", text(&missing));
    assert!(text(&missing).contains(file), "{}", text(&missing));
    let proxies = run(&[&gateway[..], &["--trusted-proxies", "everyone"]].concat()).await;
    assert!(text(&proxies).contains("such as 10.0.0.0/8"), "{}", text(&proxies));
}
