//! The shop after the order: paying, giving back, and money that goes back; and the way there from the live page.

use reqwest::Method;
use serde_json::{Value, json};

use super::demonstration::{Demonstration, On};
use super::page::{assert_quiet, click, fill, open};
use super::shop::{CAN_BUY, open_sale, order_is, shop, shown, step, visit};

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_paid_by_card_and_its_money_comes_back() {
    let demonstration = Demonstration::with_bank(On::Embedded).await;
    let gateway = demonstration.gateway.url();
    let sale = open_sale(&gateway, json!({"payment_window_ms": 3_600_000})).await;
    let browser = visit(&gateway, sale).await;
    browser.wait_for(CAN_BUY).await;
    click(&browser, "buy").await;
    browser.wait_for("!document.getElementById('pay-form').hidden").await;
    assert_eq!(shown(&browser, "pay").await, "Pay $999.00");
    assert!(shown(&browser, "pay-left").await.starts_with("Pay within "));
    fill(&browser, "card", "tok_declined").await;
    click(&browser, "pay").await;
    browser.wait_for("document.getElementById('order-problem').textContent.includes('declined')").await;
    browser.assert_accessible("the shop, with a card that is declined").await;
    fill(&browser, "card", "tok_visa").await;
    click(&browser, "pay").await;
    browser.wait_for(&order_is("paid")).await;
    browser.wait_for(&step("order.paid")).await;
    browser.assert_accessible("the shop, with an order that is paid").await;
    assert_eq!(browser.get("document.getElementById('order-problem').hidden").await, true);
    click(&browser, "refund").await;
    browser.wait_for(&order_is("refunded")).await;
    browser.wait_for(&step("refund.succeeded")).await;
    // One refusal by the bank, charged once, and given back once.
    let bank = demonstration.bank.as_ref().unwrap().url();
    let totals: Value = reqwest::get(format!("{bank}/v1/totals")).await.unwrap().json().await.unwrap();
    assert_eq!(
        (&totals["charged_cents"], &totals["refunded_cents"]),
        (&json!(99_900), &json!(99_900)),
        "{totals}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_without_an_answer_is_sent_again_after_a_reload_and_charged_once() {
    let demonstration = Demonstration::with_bank(On::Embedded).await;
    let gateway = demonstration.gateway.url();
    let sale = open_sale(&gateway, json!({"payment_window_ms": 3_600_000})).await;
    let browser = visit(&gateway, sale).await;
    browser.wait_for(CAN_BUY).await;
    click(&browser, "buy").await;
    browser.wait_for("!document.getElementById('pay-form').hidden").await;
    // Every charge has its effect, and every answer is lost.
    let lose = json!({"amount": 100, "seconds": 60});
    let (status, answer) = demonstration.ask(Method::PUT, "/faults/bank_timeouts", &lose).await;
    assert_eq!(status, 200, "{answer}");
    demonstration.frame(|frame| frame.processes()[0]["faults"] == json!(["bank_timeouts"])).await;
    fill(&browser, "card", "tok_mine").await;
    click(&browser, "pay").await;
    browser
        .wait_for("document.getElementById('order-again').textContent.startsWith('The bank has not')")
        .await;
    let kept =
        "Object.entries(sessionStorage).find(([name]) => name.startsWith('seckill.shop.payment.'))?.[1]";
    let begun = browser.get(kept).await;
    browser.goto(&format!("{gateway}/shop?sale={sale}")).await;
    browser.wait_for("document.getElementById('card').value === 'tok_mine'").await;
    click(&browser, "pay").await;
    browser.wait_for("!document.getElementById('order-again').hidden").await;
    assert_eq!(browser.get(kept).await, begun);
    demonstration.ask(Method::DELETE, "/faults/bank_timeouts", &Value::Null).await;
    browser.wait_for(&order_is("paid")).await;
    let bank = demonstration.bank.as_ref().unwrap().url();
    let totals: Value = reqwest::get(format!("{bank}/v1/totals")).await.unwrap().json().await.unwrap();
    assert_eq!((&totals["charges"], &totals["charged_cents"]), (&json!(1), &json!(99_900)), "{totals}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unpaid_order_is_given_back_and_the_buyer_may_order_again() {
    let (demonstration, _, browser) = shop(json!({"stock": 1, "payment_window_ms": 3_600_000})).await;
    browser.wait_for(CAN_BUY).await;
    click(&browser, "buy").await;
    browser.wait_for("!document.getElementById('cancel-order').hidden").await;
    let first = browser.get("document.getElementById('order').dataset.id").await;
    click(&browser, "cancel-order").await;
    browser.wait_for(&order_is("cancelled")).await;
    assert!(shown(&browser, "order-sentence").await.starts_with("You gave the order back."));
    browser.wait_for(&step("order.cancelled")).await;
    browser.assert_accessible("the shop, with an order that is given back").await;
    browser.wait_for(CAN_BUY).await;
    click(&browser, "buy").await;
    browser.wait_for(&order_is("committed")).await;
    assert_ne!(browser.get("document.getElementById('order').dataset.id").await, first);
    assert_quiet(&browser, &demonstration).await;
}

/// A browser has six connections for all of its tabs.
#[tokio::test(flavor = "multi_thread")]
async fn a_tab_that_nobody_sees_holds_no_stream_and_catches_up_when_it_is_seen() {
    let (demonstration, _, browser) = shop(json!({"payment_window_ms": 3_600_000})).await;
    browser.wait_for(CAN_BUY).await;
    click(&browser, "buy").await;
    browser.wait_for("!document.getElementById('pay-form').hidden").await;
    let ended =
        "performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('/events')).length";
    assert_eq!(browser.get(ended).await, 0, "the order can be paid, so its stream goes on");
    let hide = async |hidden: bool| {
        browser
            .get(&format!(
                "(Object.defineProperty(document, 'hidden', {{ get: () => {hidden}, configurable: true }}), \
                 document.dispatchEvent(new Event('visibilitychange')))"
            ))
            .await;
    };
    hide(true).await;
    browser.wait_for(&format!("{ended} === 1")).await;
    let id = browser.get("document.getElementById('order').dataset.id").await;
    let token = browser.get("sessionStorage.getItem('seckill.shop.token')").await;
    let cancel = format!("{}/api/v1/orders/{}/cancel", demonstration.gateway.url(), id.as_str().unwrap());
    let cancelled = reqwest::Client::new().post(cancel).bearer_auth(token.as_str().unwrap()).send().await;
    assert_eq!(cancelled.unwrap().status(), 200);
    hide(false).await;
    browser.wait_for(&order_is("cancelled")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_sale_is_tried_again_by_itself() {
    let (demonstration, sale, browser) = shop(json!({})).await;
    browser.wait_for(CAN_BUY).await;
    let change = async |what: &str| {
        let path = format!("{}/api/v1/sales/{sale}/{what}", demonstration.gateway.url());
        let sent = reqwest::Client::new().post(path).bearer_auth(crate::process::ADMIN_TOKEN).send().await;
        assert_eq!(sent.unwrap().status(), 200);
    };
    // A page that is not seen does not look at the sale, so this one has yet to hear of the pause.
    browser.get("Object.defineProperty(document, 'hidden', { get: () => true })").await;
    change("pause").await;
    click(&browser, "buy").await;
    browser.wait_for("document.getElementById('work').dataset.step === 'again'").await;
    assert!(shown(&browser, "work-words").await.starts_with("The sale is paused."));
    browser.assert_accessible("the shop, paused").await;
    change("resume").await;
    browser.wait_for(&order_is("committed")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_dies_and_a_sale_that_there_is_not_are_told() {
    let (mut demonstration, _, browser) = shop(json!({})).await;
    browser.goto(&format!("{}/shop?sale=77", demonstration.gateway.url())).await;
    browser
        .wait_for("document.getElementById('notice').textContent.startsWith('There is no such sale.')")
        .await;
    assert_eq!(browser.get("document.getElementById('product').hidden").await, true);
    browser.goto(&format!("{}/shop", demonstration.gateway.url())).await;
    browser.wait_for(CAN_BUY).await;
    demonstration.gateway.kill().await;
    browser
        .wait_for("document.getElementById('notice').textContent.startsWith('The shop does not answer')")
        .await;
    assert_eq!(browser.get("document.getElementById('notice').hidden").await, false);
    browser.assert_accessible("the shop, without its gateway").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_live_page_leads_to_the_shop_of_the_sale_that_it_shows() {
    let demonstration = Demonstration::new(On::Embedded).await;
    let gateway = demonstration.gateway.url();
    let browser = open(&demonstration).await;
    let (status, sale) = demonstration.ask(Method::POST, "/sales", &json!({"stock": 5})).await;
    assert_eq!(status, 201, "{sale}");
    let id = sale["id"].as_u64().unwrap();
    let link = format!("document.getElementById('be-a-buyer').href === '{gateway}/shop?sale={id}'");
    browser.wait_for(&link).await;
    // Without a sale in the address the shop finds the newest one.
    browser.goto(&format!("{gateway}/shop")).await;
    browser.wait_for(CAN_BUY).await;
    click(&browser, "buy").await;
    browser.wait_for(&order_is("committed")).await;
    assert_eq!(demonstration.gateway.audit_at_rest(id).await.committed_orders, 1);
}
