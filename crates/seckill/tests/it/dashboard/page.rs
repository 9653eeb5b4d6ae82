//! The page in a real browser.

use seckill_testkit::Browser;
use serde_json::{Value, json};

use super::demonstration::{Demonstration, On};
use crate::process::{ADMIN_TOKEN, accepted, token};

/// The keys as WebDriver names them.
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";
const RIGHT: &str = "\u{e014}";

/// True once the first chart is drawn. The other charts are drawn when they come into view.
const DRAWN: &str = "document.querySelector('#chart-hero .main-svg')";
/// Opens all that can be unfolded.
pub(crate) const ALL_OPEN: &str = "document.querySelectorAll('details').forEach((one) => (one.open = true))";
const CHARTS: [&str; 5] = ["hero", "latency", "outcomes", "stock", "commit"];

/// A number that the page shows.
pub(crate) fn number(selector: &str) -> String {
    format!("Number(document.querySelector({selector:?}).dataset.value)")
}

fn pills(state: &str) -> String {
    format!(
        "['oversold', 'lost', 'duplicates', 'conserved'].every(name => \
         document.getElementById('pill-' + name).dataset.state === {state:?})"
    )
}

/// Whether the large chart has a mark with this text.
pub(crate) fn marked(text: &str) -> String {
    format!("document.getElementById('chart-hero').layout.annotations.some((mark) => mark.text === {text:?})")
}

/// A browser that shows the live page.
pub(crate) async fn open(demonstration: &Demonstration) -> Browser {
    let browser = Browser::start().await;
    browser.goto(&demonstration.gateway.url()).await;
    browser.wait_for("document.getElementById('connection').dataset.state === 'live'").await;
    browser.wait_for(DRAWN).await;
    browser.wait_for("!document.getElementById('load-form').hidden").await;
    browser
}

/// Replaces the text of a field, with the events that typing has.
pub(crate) async fn fill(browser: &Browser, id: &str, value: &str) {
    browser
        .get(&format!(
            "(() => {{ const field = document.getElementById({id:?}); field.value = {value:?}; \
             field.dispatchEvent(new Event('input', {{ bubbles: true }})); \
             field.dispatchEvent(new Event('change', {{ bubbles: true }})); }})()"
        ))
        .await;
}

pub(crate) async fn click(browser: &Browser, id: &str) {
    browser.get(&format!("document.getElementById({id:?}).click()")).await;
}

/// Sends a spike of so many buyers for as many units.
pub(crate) async fn fire(browser: &Browser, buyers: u32) {
    fill(browser, "load-preset", "spike").await;
    fill(browser, "load-rate", "3000").await;
    fill(browser, "load-buyers", &buyers.to_string()).await;
    fill(browser, "load-stock", &buyers.to_string()).await;
    click(browser, "load-start").await;
}

pub(crate) async fn wait_for_pass(browser: &Browser) {
    browser.wait_for("['pass', 'fail'].includes(document.getElementById('verdict').dataset.state)").await;
    let verdict = browser.get("document.getElementById('verdict').innerText").await;
    let state = browser.get("document.getElementById('verdict').dataset.state").await;
    assert_eq!(state, "pass", "{verdict}");
}

/// The console has no error, and every request went to the gateway.
pub(crate) async fn assert_quiet(browser: &Browser, demonstration: &Demonstration) {
    assert_eq!(browser.console().await, Vec::<Value>::new());
    let home = demonstration.gateway.url();
    let strange: Vec<_> =
        browser.requests().await.into_iter().filter(|url| !url.starts_with(&home)).collect();
    assert_eq!(strange, Vec::<String>::new(), "requests that leave the host");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spike_raises_the_backlog_the_worker_drains_it_and_the_verdict_is_clean() {
    for on in [On::Embedded, On::Cluster] {
        let demonstration = Demonstration::new(on).await;
        let browser = open(&demonstration).await;
        demonstration.drain(200).await;
        fire(&browser, 5_000).await;
        browser.wait_for(&format!("{} > 500", number("#backlog"))).await;
        browser.wait_for(&format!("{} > 0", number("#stage-database .rate"))).await;
        browser.assert_accessible("during a run").await;
        demonstration.drain("unlimited").await;
        browser.wait_for(&format!("{} === 0", number("#backlog"))).await;
        wait_for_pass(&browser).await;
        browser.wait_for(&pills("ok")).await;
        for text in ["Load spike", "Load ended"] {
            browser.wait_for(&marked(text)).await;
        }
        for chart in CHARTS {
            browser.get(&format!("document.getElementById('chart-{chart}').scrollIntoView()")).await;
            browser.wait_for(&format!("document.querySelector('#chart-{chart} path.js-line')")).await;
        }
        browser.get(ALL_OPEN).await;
        browser.assert_accessible("after a run, with its tables").await;
        let command = browser.get("document.getElementById('load-command').textContent").await;
        let command = command.as_str().unwrap();
        let same = command.contains("loadtest")
            && command.contains(" run spike ")
            && command.contains(" --rate 3000 -n 5000 ");
        assert!(same, "{command}");
        assert_quiet(&browser, &demonstration).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_of_orders_is_shown_where_they_are_to_be_paid() {
    for on in [On::Embedded, On::Cluster] {
        let demonstration = Demonstration::new(on).await;
        let (gateway, client) = (&demonstration.gateway, reqwest::Client::new());
        let browser = open(&demonstration).await;
        assert_eq!(browser.get("document.getElementById('after').hidden").await, true);
        let sale = json!({
            "name": "paid", "stock": 10, "price_cents": 999, "payment_window_ms": 3_000,
            "ends_at": "2999-01-01T00:00:00Z",
        });
        let made = client.post(format!("{}/api/v1/sales", gateway.url())).bearer_auth(ADMIN_TOKEN);
        let sale: Value = made.json(&sale).send().await.unwrap().json().await.unwrap();
        let sale = sale["id"].as_u64().unwrap();
        browser.wait_for("!document.getElementById('after').hidden").await;
        let given_back = accepted(gateway.order(sale, 1).await);
        accepted(gateway.order(sale, 2).await);
        browser.wait_for(&format!("{} === 2", number("[data-step=committed] b"))).await;
        gateway.buyer(1).cancel(given_back).await.unwrap();
        for (step, orders) in
            [("accepted", 2), ("paid", 0), ("cancelled", 1), ("expired", 1), ("refunded", 0)]
        {
            browser.wait_for(&format!("{} === {orders}", number(&format!("[data-step={step}] b")))).await;
        }
        browser.assert_accessible("with what comes after the order").await;
        // The events of all of this have been taken in.
        browser.wait_for(&format!("{} === 0", number("#outbox"))).await;
        for name in
            ["restock", "loyalty", "notifications", "funnel", "risk-control", "transfers", "refund-end"]
        {
            browser.wait_for(&format!("{} === 0", number(&format!("[data-subscriber={name}] b")))).await;
        }
        assert_quiet(&browser, &demonstration).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_waiting_room_of_a_sale_is_shown_as_buyers_see_it() {
    let demonstration = Demonstration::new(On::Embedded).await;
    let (gateway, client) = (&demonstration.gateway, reqwest::Client::new());
    let browser = open(&demonstration).await;
    assert_eq!(browser.get("document.getElementById('room').hidden").await, true);
    let post = |path: &str, token: &str| client.post(format!("{}{path}", gateway.url())).bearer_auth(token);
    let sale = json!({
        "name": "queue", "stock": 10, "ends_at": "2999-01-01T00:00:00Z", "require_ticket": true,
        "waiting_room": {"opens_before_ms": 60_000, "rate_per_second": 5},
    });
    let made = post("/api/v1/sales", ADMIN_TOKEN).json(&sale).send().await.unwrap();
    let made: Value = made.json().await.unwrap();
    let sale = made["id"].as_u64().unwrap_or_else(|| panic!("{made}"));
    for user in 1..=3 {
        let entered = post(&format!("/api/v1/sales/{sale}/waiting-room"), &token(user)).send().await.unwrap();
        assert!(entered.status().is_success(), "{entered:?}");
    }
    browser.wait_for("!document.getElementById('room').hidden").await;
    for (name, buyers) in [("arrivals", 3), ("admitted", 3), ("waiting", 0)] {
        browser.wait_for(&format!("{} === {buyers}", number(&format!("[data-count={name}]")))).await;
    }
    browser.wait_for("document.getElementById('room').dataset.state === 'admitting'").await;
    browser.assert_accessible("with a waiting room").await;
    assert_quiet(&browser, &demonstration).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slider_changes_what_the_workers_report_and_what_is_written() {
    let demonstration = Demonstration::new(On::Cluster).await;
    let browser = open(&demonstration).await;
    browser.wait_for("document.getElementById('drain-reported').dataset.value === '1000'").await;
    demonstration.drain(100).await;
    browser.wait_for("document.getElementById('drain-reported').dataset.value === '100'").await;
    fire(&browser, 6_000).await;
    browser.wait_for(&format!("{} > 2500", number("#backlog"))).await;
    // By the keyboard, notch by notch, up to 600 for both workers.
    browser.get("document.getElementById('drain-slider').focus()").await;
    for _ in 0..30 {
        if browser.get("document.getElementById('drain-slider').dataset.value").await == "600" {
            break;
        }
        browser.press(RIGHT).await;
    }
    browser.wait_for("document.getElementById('drain-reported').dataset.value === '600'").await;
    let rate = number("#stage-database .rate");
    browser.wait_for(&format!("{rate} > 500 && {rate} < 700 && {} > 500", number("#backlog"))).await;
    browser.press(&RIGHT.repeat(16)).await;
    browser.wait_for("document.getElementById('drain-reported').dataset.value === 'unlimited'").await;
    wait_for_pass(&browser).await;
    // The last notch: the workers find the rate by themselves, and the page says which one they have found.
    browser.press(RIGHT).await;
    for (id, text) in [("drain-chosen", "auto"), ("drain-reported", "auto, now")] {
        browser.wait_for(&format!("document.getElementById({id:?}).textContent.includes({text:?})")).await;
    }
    browser
        .wait_for("document.getElementById('strip-drain').selectedOptions[0].textContent === 'auto'")
        .await;
    fill(&browser, "language", "zh").await;
    browser.wait_for("document.getElementById('drain-reported').textContent.includes('自动，当前')").await;
    assert_quiet(&browser, &demonstration).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crashing_the_worker_keeps_the_invariants_and_a_dead_process_vanishes() {
    let mut demonstration = Demonstration::new(On::Cluster).await;
    let browser = open(&demonstration).await;
    browser.wait_for("document.querySelectorAll('[data-process]').length === 3").await;
    demonstration.drain(100).await;
    fire(&browser, 4_000).await;
    browser.wait_for(&format!("{} > 300", number("#backlog"))).await;
    click(&browser, "fault-worker_crash").await;
    browser.wait_for("document.querySelectorAll('[data-process]').length === 2").await;
    demonstration.drain("unlimited").await;
    wait_for_pass(&browser).await;
    browser.wait_for(&pills("ok")).await;
    for worker in &mut demonstration.workers {
        worker.kill().await;
    }
    browser.wait_for("document.querySelectorAll('[data-process]').length === 1").await;
    browser.wait_for("document.querySelectorAll('[data-code=process_vanished]').length === 2").await;
    browser.get("document.querySelector('#window input[value=\"120\"]').click()").await;
    for text in ["Worker crash", "worker gone"] {
        browser.wait_for(&marked(text)).await;
    }
    browser.wait_for("document.getElementById('stage-worker').dataset.health === 'bad'").await;
    browser.assert_accessible("without a worker").await;
    assert_quiet(&browser, &demonstration).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_a_gateway_that_dies_is_offline() {
    let mut demonstration = Demonstration::new(On::Embedded).await;
    let browser = open(&demonstration).await;
    demonstration.gateway.kill().await;
    browser.wait_for("document.getElementById('connection').dataset.state === 'offline'").await;
    browser.assert_accessible("offline").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_speaks_two_languages_has_two_looks_and_fits_a_phone() {
    let demonstration = Demonstration::new(On::Embedded).await;
    let browser = open(&demonstration).await;
    let background = "getComputedStyle(document.body).backgroundColor";
    fill(&browser, "theme", "light").await;
    let light = browser.get(background).await;
    browser.get(ALL_OPEN).await;
    browser.assert_accessible("idle, light").await;
    fill(&browser, "theme", "dark").await;
    assert_ne!(browser.get(background).await, light);
    browser.assert_accessible("idle, dark").await;
    let english = browser.get("document.body.innerText").await;
    fill(&browser, "language", "zh").await;
    assert_eq!(browser.get("document.documentElement.lang").await, "zh-CN");
    let chinese = browser.get("document.body.innerText").await;
    assert!(
        english.as_str().unwrap().contains("The shaved peak")
            && !chinese.as_str().unwrap().contains("The shaved peak")
    );
    // Both are remembered.
    browser.goto(&demonstration.gateway.url()).await;
    browser.wait_for("document.documentElement.lang === 'zh-CN'").await;
    assert_ne!(browser.get(background).await, light);
    browser.resize(360, 740).await;
    let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    browser.wait_for(&format!("{overflow} === 0")).await;
    browser.assert_accessible("idle, on a phone, in Chinese").await;
    assert_quiet(&browser, &demonstration).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_alone_fires_a_load() {
    let demonstration = Demonstration::new(On::Embedded).await;
    let browser = open(&demonstration).await;
    fill(&browser, "load-rate", "1000").await;
    fill(&browser, "load-buyers", "300").await;
    fill(&browser, "load-stock", "100").await;
    // From the top of the page; the fields hold what the load needs, so Tab leads past them to the button.
    browser.get("(document.activeElement.blur(), window.scrollTo(0, 0))").await;
    for _ in 0..60 {
        browser.press(TAB).await;
        if browser.get("document.activeElement.id").await == "load-start" {
            break;
        }
    }
    assert_eq!(browser.get("document.activeElement.id").await, "load-start");
    let focus = browser.get("getComputedStyle(document.activeElement).outlineStyle").await;
    assert_ne!(focus, json!("none"), "the focus is seen");
    browser.press(ENTER).await;
    wait_for_pass(&browser).await;
    browser.wait_for("document.querySelector('#stage-database .inside').dataset.value === '100'").await;
}
