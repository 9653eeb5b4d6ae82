//! What audits may cost: nothing for those who are nobody, and little for admins.

use std::time::Duration;

use reqwest::Method;
use seckill_core::SaleId;
use seckill_testkit::eventually;
use seckill_testkit::faults::{Call, Mishap};
use serde_json::json;

use crate::gateway::{ADMIN_TOKEN, Gateway, send};
use crate::test_bed::{SOON, TestBed};

fn fresh(gateway: &Gateway, sale: SaleId) -> reqwest::RequestBuilder {
    gateway.request(Method::GET, &format!("/api/v1/sales/{sale}/audit?fresh=true")).bearer_auth(ADMIN_TOKEN)
}

/// Calls with which the gateway itself reads the ledger once in a while, while all of them are held.
const ITS_OWN: usize = 2;

#[tokio::test]
async fn anonymous_audits_that_hang_up_are_one_read_however_many_they_are() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    bed.faults.always(Call::ReadLedger, Mishap::Held);
    let before = bed.faults.asked(Call::ReadLedger);
    let path = format!("/api/v1/sales/{sale}/audit");
    for _ in 0..30 {
        let audit = gateway.request(Method::GET, &path).timeout(Duration::from_millis(30)).send();
        assert!(audit.await.is_err(), "the ledger does not answer");
    }
    let asked = bed.faults.asked(Call::ReadLedger) - before;
    assert!((1..=1 + ITS_OWN).contains(&asked), "{asked} reads");
    bed.faults.heal(Call::ReadLedger);
    let audit = gateway.get(&path).await.expect(200).json;
    assert_eq!((&audit["verdict"], audit["as_of"].is_string()), (&json!("clean"), true), "{audit}");
    gateway.stop().await;
}

#[tokio::test]
async fn an_audit_that_is_read_anew_is_for_admins() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    let path = format!("/api/v1/sales/{sale}/audit?fresh=true");
    gateway.get(&path).await.expect_problem(401, "unauthenticated");
    gateway.get_as(7, &path).await.expect_problem(401, "unauthenticated");
    gateway.get(&format!("/api/v1/sales/{sale}/audit?fresh=maybe")).await.expect_problem(400, "malformed");
    for path in ["audit/orders", "audit/effects"] {
        gateway
            .get_as(7, &format!("/api/v1/sales/{sale}/{path}"))
            .await
            .expect_problem(401, "unauthenticated");
    }
    // No older than the question: it has the order that was placed just before, each time.
    for user in 1..=3 {
        gateway.buy(sale, user).await.expect(202);
        let audit = send(fresh(&gateway, sale)).await.expect(200).json;
        assert_eq!(audit["reserved_orders"], user, "{audit}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn full_audits_are_few_also_where_their_admins_hang_up() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    bed.faults.always(Call::ReadLedger, Mishap::Held);
    let before = bed.faults.asked(Call::ReadLedger);
    for _ in 0..2 {
        assert!(fresh(&gateway, sale).timeout(Duration::from_millis(300)).send().await.is_err());
    }
    for _ in 0..10 {
        send(fresh(&gateway, sale)).await.expect_problem(503, "overloaded");
    }
    let orders = format!("/api/v1/sales/{sale}/audit/orders");
    let orders = gateway.request(Method::GET, &orders).bearer_auth(ADMIN_TOKEN);
    send(orders).await.expect_problem(503, "overloaded");
    let asked = bed.faults.asked(Call::ReadLedger) - before;
    assert!((2..=2 + ITS_OWN).contains(&asked), "{asked} reads");
    bed.faults.heal(Call::ReadLedger);
    eventually(SOON, async || match send(fresh(&gateway, sale)).await {
        audit if audit.status == 200 => Ok(()),
        refused => Err(refused),
    })
    .await;
    gateway.stop().await;
}

/// A client that takes the list of orders and does not read it holds up no other for long.
#[tokio::test]
async fn a_list_of_orders_that_nobody_reads_is_given_up() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    let orders = format!("/api/v1/sales/{sale}/audit/orders");
    for _ in 0..10 {
        let list = gateway.request(Method::GET, &orders).bearer_auth(ADMIN_TOKEN).send().await.unwrap();
        drop(list);
    }
    eventually(SOON, async || match send(fresh(&gateway, sale)).await {
        audit if audit.status == 200 => Ok(()),
        refused => Err(refused),
    })
    .await;
    gateway.stop().await;
}
