//! What does not work is red, with the reason: pauses, faults, runs whose gateway is gone. Servers are in `servers`.

use reqwest::Method;
use seckill_testkit::Browser;
use serde_json::{Value, json};

use super::demonstration::{Demonstration, On};
use super::page::{assert_quiet, click, marked, number, open};
use crate::process::Role;

const DEMO: (&str, &str) = ("SECKILL_DEMO", "1");

pub(crate) fn health(station: &str, state: &str) -> String {
    format!("document.getElementById('stage-{station}').dataset.health === '{state}'")
}

pub(crate) fn banner(key: &str) -> String {
    format!("document.querySelector('[data-trouble={key:?}]')")
}

pub(crate) async fn reason(browser: &Browser, station: &str) -> String {
    let why = browser.get(&format!("document.querySelector('#stage-{station} .why').textContent")).await;
    why.as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn pauses_and_faults_are_announced_and_marked_and_their_labels_do_not_overlap() {
    let demonstration = Demonstration::new(On::Embedded).await;
    let browser = open(&demonstration).await;
    // Not the window of the run: that ends soon after the only order, which may be before the last fault.
    browser.get("document.querySelector('#window input[value=\"120\"]').click()").await;
    click(&browser, "pause").await;
    browser.wait_for(&health("worker", "bad")).await;
    browser.wait_for(&banner("workers paused")).await;
    assert_eq!(reason(&browser, "worker").await, "Paused");
    // One order, so that one waits.
    let sale = demonstration.ask(Method::POST, "/sales", &json!({"stock": 5})).await.1;
    demonstration.gateway.order(sale["id"].as_u64().unwrap(), 1).await.unwrap();
    browser.wait_for(&format!("{} === 1", number("#backlog"))).await;
    browser
        .wait_for("document.querySelector('#stage-queue .what').textContent === 'order waits (backlog)'")
        .await;
    click(&browser, "pause").await;
    browser.wait_for(&health("worker", "ok")).await;
    for fault in ["slow_commits", "duplicate_deliveries", "lost_confirms"] {
        click(&browser, &format!("fault-{fault}")).await;
        browser.wait_for(&banner(&format!("fault {fault}"))).await;
        click(&browser, &format!("fault-{fault}")).await;
        browser.wait_for(&format!("!{}", banner(&format!("fault {fault}")))).await;
    }
    for text in ["Paused", "Resumed", "Slow commits", "Reverted"] {
        browser.wait_for(&marked(text)).await;
    }
    let labels =
        "[...document.querySelectorAll('#chart-hero .annotation')].map(one => one.getBoundingClientRect())";
    browser.wait_for("document.querySelectorAll('#chart-hero .annotation').length >= 4").await;
    browser.wait_for("document.getElementById('chart-hero').layout.shapes.length >= 8").await;
    let overlaps = format!(
        "(() => {{ const all = {labels}; return all.some((a, i) => all.some((b, j) => i < j && a.left < b.right - 1 && \
         b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)); }})()"
    );
    browser.assert_accessible("with marks").await;
    assert_eq!(browser.get(&overlaps).await, false, "{}", browser.get(labels).await);
    assert_quiet(&browser, &demonstration).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_has_what_readyz_answers_for_every_process() {
    for on in [On::Embedded, On::Cluster] {
        let demonstration = Demonstration::new(on).await;
        let frame = demonstration
            .frame(|frame| {
                frame.processes().len() == 1 + demonstration.workers.len()
                    && frame.processes().iter().all(|process| process["readiness"]["status"] == "ready")
            })
            .await;
        assert_eq!(frame.data["cut_off"], false);
        assert!(frame.processes().iter().all(|process| process["readiness"]["down"] == json!({})));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_counts_when_it_arrives_and_not_when_it_is_answered() {
    use tokio::io::AsyncWriteExt;
    let demonstration = Demonstration::new(On::Embedded).await;
    let gateway = &demonstration.gateway;
    let sale = gateway.open_sale(5).await;
    let mut stream = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    // Its body never comes, so nobody answers yet.
    let head = format!(
        "POST /api/v1/sales/{sale}/orders HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 14\r\n\r\n",
        gateway.address,
        crate::process::token(1)
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let frame = demonstration.frame(|frame| frame.data["totals"]["arrivals"] == 1).await;
    for outcome in ["accepted", "replayed", "sold_out", "refused", "unknown"] {
        assert_eq!(frame.data["totals"][outcome], 0, "{outcome}: {}", frame.data["totals"]);
    }
    stream.write_all(b"{\"quantity\":1}").await.unwrap();
    demonstration.frame(|frame| frame.data["totals"]["accepted"] == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_admin_token_is_called_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().display().to_string();
    let gateway = Role::start("gateway", &["--data-dir", &data, "--listen", "0.0.0.0:0"], &[DEMO]).await;
    let url = format!("http://127.0.0.1:{}", gateway.address.port());
    let pause =
        reqwest::Client::new().put(format!("{url}/api/v1/control/workers")).json(&json!({"paused": true}));
    let problem: Value = pause.bearer_auth("wrong").send().await.unwrap().json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("This admin token is wrong"), "{problem}");
    let browser = Browser::start().await;
    browser.goto(&url).await;
    browser.wait_for("!document.getElementById('token-card').hidden").await;
    super::page::fill(&browser, "token", "wrong").await;
    click(&browser, "pause").await;
    let error = "document.querySelector('#drain .error').textContent";
    browser.wait_for(&format!("{error}.includes('admin token is wrong')")).await;
    browser.assert_accessible("with a wrong admin token").await;
    super::page::fill(&browser, "language", "zh").await;
    click(&browser, "pause").await;
    browser.wait_for(&format!("{error}.includes('管理令牌不对')")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_gateway_was_killed_has_failed_after_the_restart() {
    for on in [On::Embedded, On::Cluster] {
        let mut demonstration = Demonstration::new(on).await;
        let browser = open(&demonstration).await;
        super::page::fill(&browser, "load-preset", "spike").await;
        super::page::fill(&browser, "load-rate", "1000").await;
        click(&browser, "load-start").await;
        browser.wait_for("document.getElementById('load-state').textContent === 'Sending'").await;
        demonstration.restart_gateway().await;
        browser.wait_for("document.getElementById('load-state').textContent === 'Failed'").await;
        let message = "document.querySelector('#verdict .message').textContent";
        browser.wait_for(&format!("{message}.includes('gateway that ran it is gone')")).await;
        browser.assert_accessible("with a run that has failed").await;
        // Also for a page that did not see it, and for whoever asks.
        let frame = demonstration.frame(|frame| frame.data["load"].is_object()).await;
        let (_, asked) = demonstration.ask(Method::GET, "/load", &Value::Null).await;
        for load in [&frame.data["load"], &asked] {
            let failed = (&load["state"], &load["failure"]["code"]);
            assert_eq!(failed, (&json!("failed"), &json!("gateway_gone")), "{on:?}: {load}");
        }
        // It does not keep the next one from being started.
        let body = json!({"preset": "spike", "peak_rate": 500, "buyers": 50, "stock": 50});
        assert_eq!(demonstration.ask(Method::POST, "/load", &body).await.0, 202);
        assert_eq!(demonstration.load_over().await["state"], "done");
    }
}
