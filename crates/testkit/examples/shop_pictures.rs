//! Takes the picture of the shop in docs/: opens a sale in a demonstration, buys on a phone, and follows the order.
//! `cargo run -p seckill-testkit --features browser --example shop_pictures -- http://127.0.0.1:8080 docs`; see
//! `scripts/screenshots.sh --dashboard`.

#![expect(clippy::unwrap_used, reason = "without a picture there is nothing to go on with")]

use std::path::PathBuf;

use seckill_testkit::Browser;

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(address), Some(folder)) = (args.next(), args.next()) else {
        eprintln!("usage: shop_pictures ADDRESS FOLDER, like shop_pictures http://127.0.0.1:8080 docs");
        std::process::exit(2);
    };
    let address = address.trim_end_matches('/');
    let browser = Browser::start().await;
    browser.resize(390, 980).await;
    browser.goto(&format!("{address}/shop")).await;
    browser
        .get(
            "void fetch('api/v1/control/sales', { method: 'POST', headers: { 'Content-Type': 'application/json' }, \
             body: JSON.stringify({ name: 'Starlight phone', stock: 100 }) })",
        )
        .await;
    browser.wait_for("document.getElementById('buy').getAttribute('aria-disabled') === 'false'").await;
    browser.wait_for("document.getElementById('name').textContent === 'Starlight phone'").await;
    browser.get("document.getElementById('buy').click()").await;
    browser.wait_for("document.querySelector('[data-step=\"order.committed\"]')").await;
    browser.wait_for("document.getElementById('left').dataset.value === '99'").await;
    let file = PathBuf::from(folder).join("shop-phone.png");
    std::fs::write(&file, browser.picture().await).unwrap();
    println!("{}", file.display());
}
