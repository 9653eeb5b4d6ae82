//! The report's page in a real browser: its charts, its texts, and that it requests nothing but itself.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails the test, as the test itself would")]

mod sample;

use loadtest::{Report, html};
use seckill_testkit::Browser;
use serde_json::json;

/// True once both charts are drawn.
const DRAWN: &str = "document.querySelectorAll('.chart .main-svg').length >= 2";

/// A browser that shows the report with its charts drawn, and the page's address.
async fn show(report: &Report) -> (Browser, String) {
    let browser = Browser::start().await;
    let address = browser.open(&html::render(report)).await;
    browser.wait_for(DRAWN).await;
    (browser, address)
}

async fn text(browser: &Browser, selector: &str) -> String {
    let text = browser.get(&format!("document.querySelector({selector:?}).innerText")).await;
    text.as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_page_draws_its_charts_and_shows_the_verdict() {
    let (browser, address) = show(&sample::good()).await;

    assert_eq!(text(&browser, "#verdict").await, "Pass: every promise was kept");
    let checks = text(&browser, "#checks").await;
    for word in ["Oversold", "0 units", "Lost", "0 of 10,000", "Duplicates", "Conserved", "yes"] {
        assert!(checks.contains(word), "{word} is missing in {checks}");
    }
    assert_eq!(browser.get("document.querySelectorAll('#checks .sign').length").await, json!(4));
    // Eight bars of arrivals; commits, backlog, p99 and p50 as lines with an outline of their own.
    let paths = "Array.from(document.querySelectorAll('.chart .bars path')).filter(p => p.getBBox().height > 0).length";
    assert_eq!(browser.get(paths).await, json!(5), "seconds in which requests left");
    let lines = "Array.from(document.querySelectorAll('.chart path.js-line')).filter(p => p.getTotalLength() > 50).length";
    assert_eq!(browser.get(lines).await, json!(4));
    assert!(text(&browser, "#thresholds").await.contains("41.0 ms"));
    assert!(text(&browser, "#outcomes").await.contains("11,040"));
    assert_eq!(browser.get("document.querySelectorAll('#seconds tbody tr').length").await, json!(8));
    browser.assert_accessible("a report that passes").await;

    assert_eq!(browser.requests().await, [address], "only the file itself");
    assert_eq!(browser.console().await, Vec::<serde_json::Value>::new());
}

#[tokio::test]
async fn a_broken_promise_is_shown_in_words() {
    let (browser, _) = show(&sample::violated()).await;
    assert_eq!(text(&browser, "#verdict").await, "Violated: a promise was broken");
    let header = text(&browser, "header").await;
    assert!(header.contains("✗") && header.contains("10 of 10,000 promised orders are lost"), "{header}");
    let checks = text(&browser, "#checks").await;
    for word in [
        "3 units",
        "10 of 10,000 promised orders",
        "1 buyer with two orders",
        "no: units are unaccounted for",
    ] {
        assert!(checks.contains(word), "{word} is missing in {checks}");
    }
    assert!(text(&browser, "#generator").await.contains("saturated"));
    browser.assert_accessible("a report of a promise that is broken").await;
}

#[tokio::test]
async fn an_unclear_verdict_is_a_warning_with_the_orders_in_flight() {
    let (browser, _) = show(&sample::unclear()).await;
    assert!(text(&browser, "#verdict").await.starts_with("Unclear"));
    assert!(text(&browser, "header").await.contains('!'));
    let checks = text(&browser, "#checks").await;
    for word in ["0 of 10,000 promised orders, 10 still in flight", "not known"] {
        assert!(checks.contains(word), "{word} is missing in {checks}");
    }
    browser.assert_accessible("a report that is unclear").await;
}

#[tokio::test]
async fn text_of_the_report_is_never_markup() {
    let (browser, address) = show(&sample::hostile()).await;
    assert_eq!(browser.get("typeof window.pwned").await, json!("undefined"));
    assert_eq!(browser.get("document.querySelectorAll('img').length").await, json!(0));
    let header = text(&browser, "header").await;
    assert!(header.contains(sample::HOSTILE), "the text is shown as it is: {header}");
    assert_eq!(browser.requests().await, [address]);
    assert_eq!(browser.console().await, Vec::<serde_json::Value>::new());
}

#[tokio::test]
async fn a_phone_needs_no_sideways_scrolling() {
    for report in [sample::good(), sample::hostile()] {
        let browser = Browser::start().await;
        browser.resize(360, 740).await;
        browser.open(&html::render(&report)).await;
        browser.wait_for(DRAWN).await;
        browser.get("document.querySelector('details').open = true").await;
        let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(browser.get(overflow).await, json!(0));
        let width = "document.querySelector('#peak .main-svg').getBoundingClientRect().right";
        assert!(browser.get(width).await.as_f64().unwrap() <= 360.0, "the chart fits");
        browser.assert_accessible("a report on a phone").await;
    }
}

#[tokio::test]
async fn the_charts_follow_the_dark_mode() {
    let (browser, _) = show(&sample::good()).await;
    let colours = "[getComputedStyle(document.body).backgroundColor, \
                   document.querySelector('.chart .ytitle').style.fill]";
    browser.prefer("light").await;
    browser.wait_for("!matchMedia('(prefers-color-scheme: dark)').matches").await;
    let light = browser.get(colours).await;
    browser.prefer("dark").await;
    browser.wait_for("matchMedia('(prefers-color-scheme: dark)').matches").await;
    browser.wait_for(&format!("{colours}[1] !== {}", light[1])).await;
    let dark = browser.get(colours).await;
    assert_ne!(light[0], dark[0], "the page");
    assert_ne!(light[1], dark[1], "the charts");
    browser.assert_accessible("a report in the dark").await;
    assert_eq!(browser.console().await, Vec::<serde_json::Value>::new());
}

#[tokio::test]
#[should_panic(expected = "image-alt")]
async fn a_page_that_keeps_people_out_is_found() {
    let browser = Browser::start().await;
    browser
        .open("<!doctype html><html lang=en><title>A page</title><main><h1>A page</h1><img src=#></main>")
        .await;
    browser.assert_accessible("without a word for its picture").await;
}

#[tokio::test]
async fn a_run_without_a_single_request_has_a_page_too() {
    let (browser, _) = show(&sample::empty()).await;
    assert!(text(&browser, "#verdict").await.starts_with("Interrupted"));
    assert!(text(&browser, "#checks").await.contains("not checked"));
    browser.assert_accessible("a report without a request").await;
    assert_eq!(browser.console().await, Vec::<serde_json::Value>::new());
}
