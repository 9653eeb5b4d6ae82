//! The shop in a real browser, from the button to the order.

use std::time::Duration;

use reqwest::{Client, Method};
use seckill_core::{Timestamp, Verdict, now};
use seckill_testkit::Browser;
use serde_json::{Value, json};

use super::demonstration::{Demonstration, On};
use super::page::{assert_quiet, click, fill};
use crate::process::{ADMIN_TOKEN, Role, token};

/// The keys as WebDriver names them.
const TAB: &str = "\u{e004}";
const ENTER: &str = "\u{e007}";

pub(crate) const CAN_BUY: &str = "document.getElementById('buy').getAttribute('aria-disabled') === 'false' && \
                                  !document.getElementById('buy-form').hidden";

pub(crate) fn order_is(status: &str) -> String {
    format!(
        "!document.getElementById('order').hidden && document.getElementById('order').dataset.status === {status:?}"
    )
}

pub(crate) fn step(what: &str) -> String {
    format!("document.querySelector('[data-step=\"{what}\"]')")
}

pub(crate) async fn shown(browser: &Browser, id: &str) -> String {
    let shown = browser.get(&format!("document.getElementById({id:?}).innerText")).await;
    shown.as_str().unwrap_or_default().to_owned()
}

/// Opens a sale with these fields beside those that every sale has; its id.
pub(crate) async fn open_sale(gateway: &str, fields: Value) -> u64 {
    let mut sale = json!({
        "name": "Starlight phone", "stock": 10, "price_cents": 99_900, "ends_at": "2999-01-01T00:00:00Z",
    });
    sale.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let made = Client::new().post(format!("{gateway}/api/v1/sales")).bearer_auth(ADMIN_TOKEN).json(&sale);
    let made: Value = made.send().await.unwrap().json().await.unwrap();
    made["id"].as_u64().unwrap_or_else(|| panic!("{made}"))
}

/// A browser of a phone's size in the shop of this sale.
pub(crate) async fn visit(gateway: &str, sale: u64) -> Browser {
    let browser = Browser::start().await;
    browser.resize(390, 844).await;
    browser.goto(&format!("{gateway}/shop?sale={sale}")).await;
    browser.wait_for("!document.getElementById('product').hidden").await;
    browser
}

/// A demonstration, a sale of it with these fields, and its shop.
pub(crate) async fn shop(fields: Value) -> (Demonstration, u64, Browser) {
    let demonstration = Demonstration::new(On::Embedded).await;
    let gateway = demonstration.gateway.url();
    let sale = open_sale(&gateway, fields).await;
    let browser = visit(&gateway, sale).await;
    (demonstration, sale, browser)
}

fn soon(seconds: u64) -> Timestamp {
    now() + Duration::from_secs(seconds)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tap_on_a_phone_buys_and_the_order_is_pushed_until_it_is_committed_and_found_again() {
    let (demonstration, sale, browser) = shop(json!({"per_user_limit": 3})).await;
    let pause = async |paused: bool| {
        demonstration.ask(Method::PUT, "/workers", &json!({"paused": paused})).await;
    };
    pause(true).await;
    demonstration.frame(|frame| frame.drain_rates() == ["paused"]).await;
    browser.wait_for(CAN_BUY).await;
    assert_eq!(shown(&browser, "left").await, "10 left");
    assert_eq!(shown(&browser, "price").await, "$999.00");
    browser.assert_accessible("the shop, before the order").await;
    // Never more than one buyer may have.
    for _ in 0..4 {
        click(&browser, "more").await;
    }
    assert_eq!(browser.get("document.getElementById('quantity').value").await, "3");
    click(&browser, "less").await;
    click(&browser, "buy").await;
    browser.wait_for(&order_is("queued")).await;
    browser.assert_accessible("the shop, with an order that is queued").await;
    pause(false).await;
    browser.wait_for(&order_is("committed")).await;
    for what in ["clicked", "order.accepted", "answered", "order.committed"] {
        browser.wait_for(&step(what)).await;
    }
    browser.assert_accessible("the shop, with an order and its timeline").await;
    let overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
    assert_eq!(browser.get(overflow).await, 0);
    let id = browser.get("document.getElementById('order').dataset.id").await;
    browser.goto(&format!("{}/shop?sale={sale}", demonstration.gateway.url())).await;
    browser.wait_for(&order_is("committed")).await;
    assert_eq!(browser.get("document.getElementById('order').dataset.id").await, id);
    browser.wait_for(&step("clicked")).await;
    assert_eq!(browser.get("document.getElementById('buy-form').hidden").await, true);
    let audit = demonstration.gateway.audit_at_rest(sale).await;
    assert_eq!((audit.committed_orders, audit.sold, audit.verdict), (1, 2, Verdict::Clean));
    assert_quiet(&browser, &demonstration).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ticket_is_paid_for_with_work_in_a_thread_of_its_own_which_can_be_stopped() {
    let (demonstration, _, browser) = shop(json!({"require_ticket": true, "proof_of_work": true})).await;
    browser.wait_for(CAN_BUY).await;
    // Stops in the moment in which the work is shown for the first time.
    browser
        .get(
            "(() => { const work = document.getElementById('work'); const stop = new MutationObserver(() => { \
             if (work.dataset.step !== 'proof') return; stop.disconnect(); \
             document.getElementById('cancel-work').click(); }); \
             stop.observe(work, { attributes: true }); document.getElementById('buy').click(); })()",
        )
        .await;
    browser.wait_for("document.getElementById('announcer').textContent === 'Stopped.'").await;
    browser.wait_for(CAN_BUY).await;
    assert_eq!(
        browser
            .get("[document.getElementById('order').hidden, document.getElementById('problem').hidden]")
            .await,
        json!([true, true])
    );
    // The most that the bar showed, and every step.
    browser
        .get(
            "(() => { const work = document.getElementById('work'); window.seen = []; \
             new MutationObserver(() => window.seen.push(work.dataset.step)).observe(work, { attributes: true }); \
             document.getElementById('buy').click(); })()",
        )
        .await;
    browser.wait_for(&order_is("committed")).await;
    let seen = browser.get("window.seen").await;
    for step in ["proof", "ticket", "order"] {
        assert!(seen.as_array().unwrap().contains(&json!(step)), "{step} is not among {seen}");
    }
    assert_quiet(&browser, &demonstration).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_in_the_room_sees_the_place_and_is_let_in_to_buy() {
    let admission = |opens_before_ms: u64, starts_at: Timestamp| {
        json!({
            "starts_at": starts_at, "require_ticket": true, "proof_of_work": true,
            "waiting_room": {"opens_before_ms": opens_before_ms, "rate_per_second": 1},
        })
    };
    // Before the draw.
    let (demonstration, _, browser) = shop(admission(7_200_000, soon(3_600))).await;
    browser.wait_for(CAN_BUY).await;
    assert_eq!(shown(&browser, "buy").await, "Enter the waiting room");
    click(&browser, "buy").await;
    browser.wait_for("document.getElementById('place').dataset.state === 'waiting'").await;
    assert_eq!(shown(&browser, "position").await, "–");
    assert!(shown(&browser, "work-words").await.starts_with("The order is drawn at the start"));
    browser.assert_accessible("the shop, in the waiting room").await;
    click(&browser, "cancel-work").await;
    browser.wait_for(CAN_BUY).await;
    // After the start, behind others.
    let gateway = demonstration.gateway.url();
    let sale = open_sale(&gateway, admission(0, now())).await;
    browser.goto(&format!("{gateway}/shop?sale={sale}")).await;
    browser.wait_for(CAN_BUY).await;
    for user in 1..=4 {
        let enter = Client::new().post(format!("{gateway}/api/v1/sales/{sale}/waiting-room"));
        assert_eq!(enter.bearer_auth(token(user)).send().await.unwrap().status(), 200);
    }
    click(&browser, "buy").await;
    // The place is known once the order is drawn. Who entered before may be in already.
    browser.wait_for("/^[1-5]$/.test(document.getElementById('position').textContent)").await;
    assert_eq!(browser.get("document.getElementById('place').dataset.state").await, "waiting");
    browser.wait_for(&order_is("committed")).await;
    assert_quiet(&browser, &demonstration).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_start_the_servers_clock_counts_down_however_wrong_the_devices_is() {
    let demonstration = Demonstration::new(On::Embedded).await;
    let gateway = demonstration.gateway.url();
    let browser = Browser::start().await;
    browser.run_first("{ const real = Date.now; Date.now = () => real() + 7200e3; }").await;
    let sale = open_sale(&gateway, json!({"starts_at": soon(3_600)})).await;
    browser.goto(&format!("{gateway}/shop?sale={sale}")).await;
    browser.wait_for("document.getElementById('phase').dataset.phase === 'upcoming'").await;
    let left = browser.get("Number(document.getElementById('countdown').dataset.left)").await;
    assert!(left.as_f64().is_some_and(|left| (3_500.0..=3_601.0).contains(&left)), "{left}");
    assert_eq!(browser.get(CAN_BUY).await, false);
    browser.assert_accessible("the shop, counting down").await;
    let starts = soon(4);
    let sale = open_sale(&gateway, json!({"starts_at": starts})).await;
    browser.goto(&format!("{gateway}/shop?sale={sale}")).await;
    browser.wait_for(CAN_BUY).await;
    assert!(now() >= starts, "the button was there before the start");
    click(&browser, "buy").await;
    browser.wait_for(&order_is("committed")).await;
    assert_quiet(&browser, &demonstration).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sold_out_is_said_and_a_unit_that_comes_back_can_be_bought() {
    let demonstration = Demonstration::new(On::Embedded).await;
    let gateway = &demonstration.gateway;
    let sale = open_sale(&gateway.url(), json!({"stock": 1, "payment_window_ms": 3_600_000})).await;
    let faster = gateway.order(sale, 1).await.unwrap().value;
    let browser = visit(&gateway.url(), sale).await;
    browser.wait_for("document.getElementById('phase').dataset.phase === 'sold_out'").await;
    assert_eq!(browser.get(CAN_BUY).await, false);
    assert_eq!(shown(&browser, "buy").await, "Sold out");
    browser.assert_accessible("the shop, sold out").await;
    let cancel = format!("{}/api/v1/orders/{}/cancel", gateway.url(), faster.order_id);
    seckill_testkit::eventually(crate::process::SOON, async || {
        let answer = Client::new().post(&cancel).bearer_auth(token(1)).send().await.unwrap();
        if answer.status().is_success() { Ok(()) } else { Err(answer) }
    })
    .await;
    browser.wait_for(CAN_BUY).await;
    click(&browser, "buy").await;
    browser.wait_for(&order_is("committed")).await;
    assert_quiet(&browser, &demonstration).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_alone_buys_and_the_focus_follows() {
    let (demonstration, _, browser) = shop(json!({})).await;
    browser.wait_for(CAN_BUY).await;
    browser.get("(document.activeElement.blur(), window.scrollTo(0, 0))").await;
    for _ in 0..12 {
        browser.press(TAB).await;
        if browser.get("document.activeElement.id").await == "buy" {
            break;
        }
    }
    assert_eq!(browser.get("document.activeElement.id").await, "buy");
    let focus = browser.get("getComputedStyle(document.activeElement).outlineStyle").await;
    assert_ne!(focus, json!("none"), "the focus is seen");
    browser.press(ENTER).await;
    browser.wait_for(&order_is("committed")).await;
    browser.wait_for("document.activeElement.id === 'order-title'").await;
    browser.wait_for("document.getElementById('announcer').textContent.startsWith('Done.')").await;
    assert_quiet(&browser, &demonstration).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shop_speaks_chinese_and_has_a_sentence_for_every_problem_of_its_calls() {
    let (demonstration, _, browser) = shop(json!({"name": "手机", "require_ticket": true})).await;
    browser.wait_for(CAN_BUY).await;
    let background = "getComputedStyle(document.body).backgroundColor";
    fill(&browser, "theme", "light").await;
    let light = browser.get(background).await;
    fill(&browser, "theme", "dark").await;
    assert_ne!(browser.get(background).await, light);
    fill(&browser, "language", "zh").await;
    assert_eq!(browser.get("document.documentElement.lang").await, "zh-CN");
    assert_eq!(shown(&browser, "buy").await, "立即抢购");
    click(&browser, "buy").await;
    browser.wait_for(&order_is("committed")).await;
    browser.wait_for(&step("order.committed")).await;
    browser.assert_accessible("the shop, dark, in Chinese").await;
    let page = browser.get("document.getElementById('main').innerText").await;
    let english =
        |text: &str| text.split(|letter: char| !letter.is_ascii_alphabetic()).any(|word| word.len() > 9);
    assert!(!english(page.as_str().unwrap()), "{page}");
    // The texts are loaded by a module, which a script can wait for but not answer.
    browser
        .get(
            "void (async () => { const load = async (name) => (await import(name)).default; \
             const texts = [await load('./shop/en.js'), await load('./shop/zh.js')]; \
             const untold = (keys) => keys.filter((key) => texts.some((text) => !text[key])); \
             const { paths } = await (await fetch('/openapi.json')).json(); \
             const calls = ['/api/v1/sales', '/api/v1/sales/{id}', '/api/v1/sales/{id}/orders', '/api/v1/sales/{id}/orders/mine', \
               '/api/v1/sales/{id}/ticket', '/api/v1/sales/{id}/challenge', '/api/v1/sales/{id}/waiting-room', \
               '/api/v1/sales/{id}/waiting-room/events', '/api/v1/orders/{id}/events', '/api/v1/orders/{id}/timeline', \
               '/api/v1/orders/{id}', '/api/v1/orders/{id}/payment', '/api/v1/orders/{id}/cancel', '/api/v1/orders/{id}/refund']; \
             const own = (call, method) => !(call === '/api/v1/sales' && method === 'post') && \
               !(call === '/api/v1/sales/{id}' && method === 'patch'); \
             const problems = calls.flatMap((call) => Object.entries(paths[call]).filter(([method]) => own(call, method)) \
               .flatMap(([, { responses }]) => Object.values(responses).flatMap(({ content }) => \
                 Object.keys(content?.['application/problem+json']?.examples ?? {})))); \
             const same = untold(Object.keys({ ...texts[0], ...texts[1] })).filter((key) => !key.endsWith('.words')); \
             window.checked = [problems.length > 50, untold([...new Set(problems)].map((slug) => `problem.${slug}`)), same]; })()",
        )
        .await;
    browser.wait_for("window.checked").await;
    assert_eq!(browser.get("window.checked").await, json!([true, [], []]));
    assert_quiet(&browser, &demonstration).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_demonstration_and_with_a_listener_for_admins_a_token_from_elsewhere_buys() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["--data-dir", folder.path().to_str().unwrap(), "--admin-listen", "127.0.0.1:0"];
    let gateway = Role::start("gateway", &args, &[]).await;
    let admin = crate::doors::admin_url(&gateway);
    let sale = open_sale(&admin, json!({})).await;
    let browser = visit(&gateway.url(), sale).await;
    browser.wait_for(CAN_BUY).await;
    click(&browser, "buy").await;
    browser.wait_for("document.activeElement.id === 'token'").await;
    assert!(shown(&browser, "problem").await.contains("sign in"));
    fill(&browser, "token", "no token").await;
    browser.press(ENTER).await;
    browser.wait_for(CAN_BUY).await;
    click(&browser, "buy").await;
    browser.wait_for("document.getElementById('problem').textContent.includes('not valid')").await;
    browser.assert_accessible("the shop, with a token that is refused").await;
    fill(&browser, "token", &token(42)).await;
    browser.get("document.getElementById('token').focus()").await;
    browser.press(ENTER).await;
    browser.wait_for("document.getElementById('account').dataset.user === '42'").await;
    browser.wait_for(CAN_BUY).await;
    click(&browser, "buy").await;
    browser.wait_for(&order_is("committed")).await;
    // Kept for this tab only.
    assert_eq!(browser.get("JSON.stringify(localStorage).includes('ey')").await, false);
    let elsewhere = |url: &String| !url.starts_with(&gateway.url());
    assert_eq!(
        browser.requests().await.into_iter().filter(elsewhere).collect::<Vec<_>>(),
        Vec::<String>::new()
    );
}
