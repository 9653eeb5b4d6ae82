//! The page of experiments in a real browser.

use seckill_testkit::Browser;

use super::demonstration::{Demonstration, On};
use super::page::{assert_quiet, click, fill};

const LABS: &str = "!document.getElementById('labs').hidden";

async fn open(demonstration: &Demonstration, name: &str) -> Browser {
    let browser = Browser::start().await;
    browser.goto(&format!("{}/labs#{name}", demonstration.gateway.url())).await;
    browser.wait_for(LABS).await;
    browser
}

async fn shown(browser: &Browser, id: &str) -> String {
    let shown = browser.get(&format!("document.getElementById({id:?}).innerText")).await;
    shown.as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_experiment_runs_beside_its_explanation_and_ends_with_a_verdict() {
    for on in [On::Embedded, On::Cluster] {
        let demonstration = Demonstration::new(on).await;
        let browser = open(&demonstration, "check-then-act").await;
        assert!(shown(&browser, "lab-question").await.contains("A message may come twice"));
        assert!(shown(&browser, "lab-line").await.contains("crates/events/src/inbox.rs:"));
        fill(&browser, "lab-seed", "2").await;
        assert!(shown(&browser, "lab-command").await.starts_with("seckill lab run check-then-act --seed 2"));
        click(&browser, "lab-run").await;
        browser.wait_for("document.getElementById('lab-run').disabled").await;
        browser.wait_for("document.getElementById('lab-verdict').dataset.state === 'as_predicted'").await;
        let off =
            "[...document.querySelectorAll('#lab-result [data-state=off]')].map(cell => cell.cellIndex)";
        let off = browser.get(off).await;
        assert!(
            off.as_array().is_some_and(|off| !off.is_empty() && off.iter().all(|column| column == 2)),
            "{off}"
        );
        assert_eq!(browser.get("document.getElementById('lab-run').disabled").await, false);
        browser.assert_accessible("the labs, with a result").await;
        assert_quiet(&browser, &demonstration).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_speaks_chinese_fits_a_phone_and_says_what_needs_servers() {
    let demonstration = Demonstration::new(On::Embedded).await;
    let browser = open(&demonstration, "").await;
    fill(&browser, "language", "zh").await;
    assert!(shown(&browser, "lab-question").await.chars().any(|letter| letter > '\u{4e00}'));
    assert_eq!(shown(&browser, "lab-run").await, "两种都跑");
    // Every key of the page has a text.
    let untranslated = "[...document.querySelectorAll('[data-i18n]')].map(one => one.textContent).filter(text => /^[a-z_]+(\\.[a-z_]+)+$/.test(text))";
    assert_eq!(browser.get(untranslated).await, serde_json::json!([]));
    fill(&browser, "language", "en").await;
    browser.get("location.hash = '#redis-dedup'").await;
    browser.wait_for("document.getElementById('lab-state').textContent.includes('Needs Redis')").await;
    assert_eq!(browser.get("document.getElementById('lab-run').disabled").await, true);
    browser.resize(360, 740).await;
    browser.wait_for("document.documentElement.scrollWidth <= 360").await;
    fill(&browser, "theme", "dark").await;
    browser.assert_accessible("the labs, on a phone, dark").await;
    assert_quiet(&browser, &demonstration).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_page_leads_there_and_a_gateway_without_demonstrations_says_so() {
    let demonstration = Demonstration::new(On::Embedded).await;
    let browser = Browser::start().await;
    browser.goto(&demonstration.gateway.url()).await;
    browser.get("document.querySelector('.tabs a[href=labs]').click()").await;
    browser.wait_for(LABS).await;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().display().to_string();
    let plain = crate::process::Role::start("gateway", &["--data-dir", &data], &[]).await;
    browser.goto(&format!("{}/labs", plain.url())).await;
    browser
        .wait_for("!document.getElementById('no-labs').hidden && document.getElementById('labs').hidden")
        .await;
    browser.assert_accessible("the labs, without a demonstration").await;
}
