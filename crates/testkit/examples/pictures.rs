//! Takes the pictures of the dashboard in docs/: fires a load from the page of a demonstration, with the direct run before it,
//! and takes the page at the peak (on a laptop), drained, in the dark and presented (on a projector), and on a phone.
//! `cargo run -p seckill-testkit --features browser --example pictures -- http://127.0.0.1:8080 docs`; see `scripts/screenshots.sh --dashboard`.

#![expect(clippy::unwrap_used, reason = "without a picture there is nothing to go on with")]

use std::path::PathBuf;

use seckill_testkit::Browser;

const VERDICT: &str = "['pass', 'fail'].includes(document.getElementById('verdict').dataset.state) && \
                       !document.getElementById('verdict').hidden";
const BACKLOG: &str = "Number(document.getElementById('backlog').dataset.value)";

async fn set(browser: &Browser, id: &str, value: &str) {
    let change = "dispatchEvent(new Event('change', { bubbles: true }))";
    browser
        .get(&format!(
            "(() => {{ const it = document.getElementById({id:?}); it.value = {value:?}; it.{change}; }})()"
        ))
        .await;
}

async fn click(browser: &Browser, id: &str) {
    browser.get(&format!("document.getElementById({id:?}).click()")).await;
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(address), Some(folder)) = (args.next(), args.next()) else {
        eprintln!("usage: pictures ADDRESS FOLDER, like pictures http://127.0.0.1:8080 docs");
        std::process::exit(2);
    };
    let folder = PathBuf::from(folder);
    let browser = Browser::start().await;
    let keep = async |name: &str| {
        // What has just changed is drawn within a second.
        tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
        std::fs::write(folder.join(name), browser.picture().await).unwrap();
        println!("{}", folder.join(name).display());
    };
    browser.resize(1366, 768).await;
    browser.goto(&address).await;
    browser.wait_for("document.querySelector('#chart-hero .main-svg')").await;
    set(&browser, "theme", "light").await;
    set(&browser, "load-preset", "spike").await;
    // The direct run ends in its own time: a stock that it can write.
    set(&browser, "load-stock", "10000").await;
    click(&browser, "load-direct").await;
    browser.wait_for("document.getElementById('verdict').hidden").await;
    browser.wait_for(VERDICT).await;
    click(&browser, "load-start").await;
    browser.wait_for(&format!("{BACKLOG} > 5000")).await;
    keep("dashboard-spike.png").await;
    browser.wait_for(VERDICT).await;
    browser.resize(1920, 1080).await;
    keep("dashboard-drained.png").await;
    set(&browser, "theme", "dark").await;
    keep("dashboard-dark.png").await;
    set(&browser, "theme", "light").await;
    click(&browser, "present").await;
    keep("dashboard-presented.png").await;
    click(&browser, "present").await;
    browser.resize(390, 1900).await;
    keep("dashboard-phone.png").await;
}
