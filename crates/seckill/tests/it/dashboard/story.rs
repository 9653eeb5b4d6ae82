//! The page tells the story of a run: its time fits the run, runs are kept and compared, and a projector shows one sentence.

use reqwest::Method;
use seckill_testkit::Browser;
use serde_json::{Value, json};

use super::demonstration::{Demonstration, On};
use super::page::{ALL_OPEN, assert_quiet, click, fill, fire, number, open, wait_for_pass};

const P: &str = "p";
const ESCAPE: &str = "\u{e00c}";
const RANGE: &str = "document.getElementById('chart-hero').layout.xaxis.range";
/// How many points the curve of arrivals has.
const POINTS: &str =
    "document.getElementById('chart-hero').data.find(({ name }) => name === 'arrivals').x.length";

async fn text(browser: &Browser, id: &str) -> String {
    let shown = browser.get(&format!("document.getElementById({id:?}).innerText")).await;
    shown.as_str().unwrap_or_default().to_owned()
}

/// Waits until the feed has gone on for so long.
async fn seconds_later(demonstration: &Demonstration, seconds: f64) {
    let now = demonstration.frame(|_| true).await.number("t").unwrap();
    demonstration.frame(|frame| frame.number("t") > Some(now + seconds)).await;
}

/// Whether an element is on the screen as a whole.
fn in_sight(selector: &str) -> String {
    format!(
        "(() => {{ const box = document.querySelector({selector:?}).getBoundingClientRect(); \
         return box.height > 0 && box.top >= 0 && box.bottom <= innerHeight && box.right <= innerWidth; }})()"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_shown_fits_the_run_stays_and_can_be_frozen_and_zoomed() {
    let demonstration = Demonstration::new(On::Embedded).await;
    let browser = open(&demonstration).await;
    assert!(text(&browser, "waiting").await.contains("Waiting for the first order"));
    fire(&browser, 2_000).await;
    browser.wait_for("document.getElementById('waiting').hidden").await;
    click(&browser, "freeze").await;
    seconds_later(&demonstration, 1.0).await;
    let frozen = browser.get(POINTS).await;
    seconds_later(&demonstration, 2.0).await;
    assert_eq!(browser.get(POINTS).await, frozen, "a frozen chart has moved");
    click(&browser, "freeze").await;
    wait_for_pass(&browser).await;
    browser.wait_for("document.getElementById('freeze').dataset.on === 'no'").await;
    // The run has a beginning and an end, and stays although time goes on.
    let until_rest = "document.getElementById('stage-buyers').dataset.flow === '0'";
    browser.wait_for(until_rest).await;
    demonstration.frame(|frame| frame.number("committed") == Some(0.0)).await;
    seconds_later(&demonstration, 2.0).await;
    browser.wait_for(&format!("{RANGE}[1] === 0 && {RANGE}[0] > -59")).await;
    let shown = (browser.get(RANGE).await, browser.get(POINTS).await);
    seconds_later(&demonstration, 3.0).await;
    assert_eq!((browser.get(RANGE).await, browser.get(POINTS).await), shown);
    assert_eq!(browser.get("document.querySelector('#chart-hero .xtick text').textContent").await, "0 s");
    assert!(text(&browser, "shaved").await.contains("Buyers peaked at"));
    // What is dragged over fills the chart. The event is the one that a drag has.
    assert_eq!(browser.get("document.getElementById('chart-hero').layout.dragmode").await, "zoom");
    browser.get("Plotly.relayout('chart-hero', { 'xaxis.range[0]': -3, 'xaxis.range[1]': 0 }) && true").await;
    browser.wait_for("document.getElementById('freeze').dataset.on === 'yes'").await;
    browser.wait_for(&format!("{RANGE}[0] === -3 && {RANGE}[1] === 0")).await;
    // A stretch without a request: nobody reads that nothing has come yet.
    browser
        .get("Plotly.relayout('chart-hero', { 'xaxis.range[0]': -0.3, 'xaxis.range[1]': 0 }) && true")
        .await;
    browser.wait_for("!document.getElementById('waiting').hidden").await;
    assert_eq!(text(&browser, "waiting").await, "No requests in the time shown; 2,000 have come so far.");
    click(&browser, "freeze").await;
    browser.wait_for(&format!("{RANGE}[0] < -3")).await;
    assert_quiet(&browser, &demonstration).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_kept_opened_compared_and_saved_and_only_the_same_load_is_called_so() {
    let demonstration = Demonstration::new(On::Embedded).await;
    let browser = open(&demonstration).await;
    fire(&browser, 1_000).await;
    wait_for_pass(&browser).await;
    click(&browser, "load-direct").await;
    // The direct run is drawn while it is under way.
    let live = "document.getElementById('chart-hero').data.some(({ name, y }) => name === 'its database writes' && y.some(n => n > 0))";
    browser.wait_for(live).await;
    let state = "document.querySelector('#kept tbody tr')?.dataset.state";
    browser.wait_for("document.querySelectorAll('#kept tbody tr').length === 2").await;
    assert_eq!(browser.get(state).await, "pass");
    browser.wait_for("document.getElementById('compare').dataset.same === 'yes'").await;
    let gain = text(&browser, "gain").await;
    assert!(gain.contains("transactions instead of"), "{gain}");
    assert!(!gain.contains(" 0 instead of 0 "), "{gain}");
    let better = browser.get("document.querySelector('[data-way=queue] td:nth-child(4)').className").await;
    assert_eq!(better, "better", "fewer transactions are better: {gain}");
    assert_eq!(
        browser.get("document.querySelectorAll('[data-way=direct] td:nth-child(4).better').length").await,
        0
    );
    // The curve of the direct run lies behind the one with the same load.
    let shadow = "document.getElementById('chart-hero').data.some(({ name }) => name.includes('same load'))";
    browser.get("document.querySelectorAll('#kept button')[1].click()").await;
    browser.wait_for("!document.getElementById('opened').hidden").await;
    browser.wait_for(shadow).await;
    browser.get(ALL_OPEN).await;
    browser.assert_accessible("with runs that are compared and one that is opened").await;
    click(&browser, "freeze").await;
    browser.wait_for("document.getElementById('opened').hidden").await;
    // Another load: never called the same, and nothing is coloured.
    fire(&browser, 700).await;
    browser.wait_for("document.querySelectorAll('#kept tbody tr').length === 3").await;
    browser.wait_for("document.getElementById('compare').dataset.same === 'no'").await;
    assert_eq!(browser.get("document.querySelectorAll('#compare .better').length").await, 0);
    assert_eq!(text(&browser, "compare-load").await, "Different loads");
    browser.get("[2, 1].forEach(at => document.querySelectorAll('#kept input')[at].click())").await;
    browser.wait_for("document.getElementById('compare').dataset.same === 'yes'").await;
    // The report of a run is the page that `loadtest --html` writes.
    let link = browser.get("document.querySelector('#kept a').href").await;
    let saved = reqwest::get(link.as_str().unwrap()).await.unwrap();
    assert!(saved.headers()["content-disposition"].to_str().unwrap().starts_with("attachment"));
    let page = saved.text().await.unwrap();
    assert!(page.contains("plotly.js v") && page.contains("Content-Security-Policy"), "{}", &page[..400]);
    assert_quiet(&browser, &demonstration).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_the_form_allows_is_never_refused_and_one_that_it_forbids_is_told_once() {
    let demonstration = Demonstration::new(On::Embedded).await;
    let browser = open(&demonstration).await;
    let (_, control) = demonstration.ask(Method::GET, "", &Value::Null).await;
    // The one whose requests are many, and the one whose rate is high.
    let presets = control["presets"].as_array().unwrap().iter();
    for preset in presets.filter(|preset| ["soak", "spike"].contains(&preset["name"].as_str().unwrap())) {
        let body = json!({"preset": preset["name"], "peak_rate": preset["max_rate"], "stock": 1});
        let (status, answer) = demonstration.ask(Method::POST, "/load", &body).await;
        assert_eq!(status, 202, "{answer}");
        demonstration.ask(Method::DELETE, "/load", &Value::Null).await;
        demonstration.load_over().await;
        let more = preset["max_rate"].as_f64().unwrap() + 1.0;
        let body = json!({"preset": preset["name"], "peak_rate": more});
        assert_eq!(demonstration.ask(Method::POST, "/load", &body).await.0, 422, "{preset}");
    }
    let error = "document.querySelector('#load-form .error').textContent";
    fill(&browser, "load-rate", "60000").await;
    click(&browser, "load-start").await;
    browser
        .wait_for(&format!("{error} === '“Peak rate, requests/s” must be a number from 1 to 50,000.'"))
        .await;
    browser.assert_accessible("with a field that is refused").await;
    fill(&browser, "language", "zh").await;
    click(&browser, "load-start").await;
    browser.wait_for(&format!("{error} === '“峰值，请求/秒”必须是 1 到 50,000 之间的数字。'")).await;
    assert_eq!(browser.get("document.querySelector('#stage-worker h3').textContent").await, "写库进程");
    assert_eq!(browser.get("document.querySelector('#stage-gate h3').textContent").await, "库存闸门（预扣）");
    assert_quiet(&browser, &demonstration).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projector_shows_one_sentence_the_chart_and_the_invariants() {
    let demonstration = Demonstration::new(On::Embedded).await;
    let browser = open(&demonstration).await;
    browser.resize(1920, 1080).await;
    fire(&browser, 1_000).await;
    wait_for_pass(&browser).await;
    browser.press(P).await;
    browser.wait_for("document.body.dataset.present === 'yes'").await;
    let size = "parseFloat(getComputedStyle(document.getElementById('headline')).fontSize)";
    assert_eq!(browser.get(size).await.as_f64(), Some(48.0));
    let headline = text(&browser, "headline").await;
    assert!(headline.contains("requests/s in") && headline.contains("writes/s out"), "{headline}");
    for selector in
        ["#headline", "#chart-hero", "#pill-oversold", "#pill-lost", "#pill-duplicates", "#pill-conserved"]
    {
        browser.wait_for(&in_sight(selector)).await;
    }
    let forms =
        "[...document.querySelectorAll('form, select, input')].filter(one => one.checkVisibility()).length";
    assert_eq!(browser.get(forms).await, 0);
    assert_eq!(browser.get("document.querySelector('#pill-lost .short').innerText").await, "0");
    browser.assert_accessible("presented").await;
    // Each invariant keeps to one line, also on a smaller screen.
    let one_line = "[...document.querySelectorAll('.pills li')].every((pill) => { const [name, value] = ['b', '.short'].map((part) => \
                    pill.querySelector(part).getBoundingClientRect().top); return Math.abs(name - value) < 2; })";
    for (width, height) in [(1920, 1080), (1366, 768), (1200, 675)] {
        browser.resize(width, height).await;
        browser.wait_for(one_line).await;
    }
    browser.press(ESCAPE).await;
    browser.wait_for("document.getElementById('load-form').checkVisibility()").await;
    // By its address, and by the button.
    browser.goto(&format!("{}/#present", demonstration.gateway.url())).await;
    browser.wait_for("document.body.dataset.present === 'yes'").await;
    click(&browser, "present").await;
    browser.wait_for("document.body.dataset.present === 'no'").await;
    // A letter in a field is a letter.
    browser.get("document.getElementById('sale-title').focus()").await;
    browser.press(P).await;
    assert_eq!(browser.get("document.body.dataset.present").await, "no");
    assert_quiet(&browser, &demonstration).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_laptop_load_drain_rate_faults_and_verdict_are_in_sight_and_work() {
    let demonstration = Demonstration::new(On::Embedded).await;
    let browser = open(&demonstration).await;
    browser.resize(1366, 768).await;
    fill(&browser, "load-rate", "1000").await;
    fill(&browser, "load-buyers", "400").await;
    fill(&browser, "load-stock", "400").await;
    for selector in
        ["#strip-fire", "#strip-drain", "#strip-pause", "#strip-faults", "#strip-verdict", ".pills"]
    {
        browser.wait_for(&in_sight(selector)).await;
    }
    browser
        .wait_for("document.getElementById('chart-hero').getBoundingClientRect().top < innerHeight - 200")
        .await;
    fill(&browser, "strip-drain", "200").await;
    browser.wait_for("document.getElementById('drain-reported').dataset.value === '200'").await;
    click(&browser, "strip-fire").await;
    browser.wait_for("document.getElementById('strip-verdict').dataset.state === 'running'").await;
    browser.get("document.querySelector('[data-strip-fault=slow_commits]').click()").await;
    browser.wait_for("document.querySelector('[data-strip-fault=slow_commits]').dataset.on === 'yes'").await;
    browser.assert_accessible("on a laptop, with a fault in force").await;
    fill(&browser, "strip-drain", "unlimited").await;
    browser.wait_for("document.getElementById('strip-verdict').dataset.state === 'pass'").await;
    browser.wait_for(&format!("{} === 400", number("#stage-database .inside"))).await;
    // What the page counts is what was sent.
    let frame = demonstration.frame(|frame| frame.number("arrivals") == Some(0.0)).await;
    let shown = browser.get("Number(document.querySelector('#stage-buyers .inside').dataset.value)").await;
    assert_eq!((&shown, &frame.data["load"]["sent"]), (&json!(400), &json!(400)));
    assert_quiet(&browser, &demonstration).await;
}
