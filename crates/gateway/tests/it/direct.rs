//! A gateway in direct mode: past gate and queue, every order straight into the ledger.

use seckill_core::{AuditReport, Dependency, Mode, SaleId, Verdict};
use seckill_gateway::Config;
use seckill_testkit::eventually;
use seckill_testkit::faults::{Call, Mishap};
use serde_json::json;

use crate::gateway::{Gateway, config, sale, sale_id};
use crate::test_bed::{SOON, TestBed};

async fn start(bed: &TestBed) -> Gateway {
    Gateway::with(&bed.backend, Config { mode: Mode::Direct, ..config() }).await
}

/// A direct gateway with a sale of so many units, two a user.
async fn open(stock: u32) -> (TestBed, Gateway, SaleId) {
    let bed = TestBed::new().await;
    let gateway = start(&bed).await;
    let sale = gateway.open_sale(stock).await;
    (bed, gateway, sale)
}

/// Expects so many orders in the ledger, none of them doubtful, and nothing at the gate or in the queue.
async fn expect_ledger(bed: &TestBed, sale: SaleId, orders: u64) {
    let report = AuditReport::read(&bed.real, sale).await.expect("the back end answers");
    let report = report.expect("the sale exists");
    assert_eq!(
        (report.verdict, report.committed_orders, report.oversold, report.duplicates),
        (Verdict::GateMissing, orders, 0, 0),
        "{report:?}"
    );
    assert_eq!((report.findings.as_slice(), report.remaining, bed.queued().await), (&[][..], None, 0));
}

#[tokio::test]
async fn an_order_is_committed_when_it_is_answered_and_a_retry_gets_the_same_one() {
    let (bed, gateway, sale) = open(10).await;
    let first = gateway.buy_with(sale, 7, json!({"quantity": 2})).await.expect(202);
    let id = first.order_id();
    assert_eq!(first.json, json!({"order_id": id, "sale_id": sale, "quantity": 2, "status": "committed"}));
    assert_eq!(gateway.order(7, id).await.expect(200).json["status"], "committed");
    let mine = gateway.get_as(7, &format!("/api/v1/sales/{sale}/orders/mine")).await.expect(200);
    assert_eq!(mine.json["orders"][0]["order_id"], json!(id));
    let again = gateway.buy_with(sale, 7, json!({"quantity": 2})).await.expect(200);
    assert_eq!((again.order_id(), again.header("idempotent-replayed")), (id, Some("true")));
    let other = gateway.buy(sale, 7).await.expect_problem(409, "order-differs");
    assert_eq!(other.order_id(), id);
    expect_ledger(&bed, sale, 1).await;
    let audit = gateway.get(&format!("/api/v1/sales/{sale}/audit")).await.expect(200);
    assert_eq!((&audit.json["verdict"], &audit.json["sold"]), (&json!("gate_missing"), &json!(2)));
    gateway.stop().await;
}

#[tokio::test]
async fn sold_out_costs_no_write_and_a_holder_still_gets_the_order() {
    let (bed, gateway, sale) = open(3).await;
    let first = gateway.buy_with(sale, 1, json!({"quantity": 2})).await.expect(202);
    let refused = gateway.buy_with(sale, 2, json!({"quantity": 2})).await.expect_problem(409, "sold-out");
    assert_eq!(refused.json["remaining"], 1);
    gateway.buy(sale, 2).await.expect(202);
    let commits = bed.faults.asked(Call::Commit);
    assert_eq!(gateway.buy(sale, 3).await.expect_problem(409, "sold-out").json["remaining"], 0);
    let again = gateway.buy_with(sale, 1, json!({"quantity": 2})).await.expect(200);
    assert_eq!(again.order_id(), first.order_id());
    assert_eq!(bed.faults.asked(Call::Commit), commits, "a look at the sale was enough");
    assert_eq!(bed.totals(sale).await.rejected_orders, 0);
    expect_ledger(&bed, sale, 2).await;
}

#[tokio::test]
async fn outside_its_time_a_sale_takes_no_orders() {
    let bed = TestBed::new().await;
    let gateway = start(&bed).await;
    let closed = gateway.closed_sale().await;
    gateway.buy(closed, 1).await.expect_problem(403, "closed");
    let upcoming = sale_id(&gateway.create_sale(&sale(10, 60, 3_600)).await.expect(201));
    gateway.buy(upcoming, 1).await.expect_problem(403, "not-open");
    expect_ledger(&bed, closed, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hundred_buyers_who_come_at_once_fifty_get_the_fifty_units() {
    let (bed, gateway, sale) = open(50).await;
    let gateway = std::sync::Arc::new(gateway);
    let buying: tokio::task::JoinSet<_> = (0..200)
        .map(|user| {
            let gateway = std::sync::Arc::clone(&gateway);
            // Each twice at the same moment: one of the two is the retry of the other.
            async move { tokio::join!(gateway.buy(sale, user), gateway.buy(sale, user)) }
        })
        .collect();
    let mut accepted = 0;
    for (one, other) in buying.join_all().await {
        match (one.status, other.status) {
            (202, 200) | (200, 202) => assert_eq!(one.order_id(), other.order_id()),
            // The unit that was left went to the buyer between the two looks at the sale.
            (409, 409) => continue,
            _ => panic!("{one:?} {other:?}"),
        }
        accepted += 1;
    }
    assert_eq!(accepted, 50);
    expect_ledger(&bed, sale, 50).await;
}

#[tokio::test]
async fn without_its_ledger_nothing_is_sold_and_with_it_everything_goes_on() {
    let (bed, gateway, sale) = open(10).await;
    gateway.buy(sale, 1).await.expect(202);
    bed.faults.away(Dependency::Ledger);
    gateway.buy(sale, 2).await.expect_problem(503, "unavailable");
    eventually(SOON, async || match gateway.get("/readyz").await {
        reply if reply.status == 503 => Ok(()),
        reply => Err(reply),
    })
    .await;
    bed.faults.back(Dependency::Ledger);
    // Gate and queue are not missed.
    bed.faults.away(Dependency::Gate);
    bed.faults.away(Dependency::Queue);
    eventually(SOON, async || match gateway.get("/readyz").await {
        reply if reply.status == 200 => Ok(()),
        reply => Err(reply),
    })
    .await;
    let id = gateway.buy(sale, 2).await.expect(202).order_id();
    gateway.order(2, id).await.expect(200);
    gateway.get_as(2, &format!("/api/v1/sales/{sale}/orders/mine")).await.expect(200);
    gateway.get(&format!("/api/v1/sales/{sale}/audit")).await.expect(200);
    gateway.get(&format!("/api/v1/sales/{sale}")).await.expect(200);
    expect_ledger(&bed, sale, 2).await;
}

#[tokio::test]
async fn a_commit_whose_end_is_not_known_is_tried_again_and_counts_once() {
    let (bed, gateway, sale) = open(10).await;
    bed.faults.next(Call::Commit, [Mishap::AnswerLost, Mishap::NeverArrived]);
    let id = gateway.buy(sale, 1).await.expect(202).order_id();
    assert!(bed.ledger_order(id).await.is_some());
    bed.faults.always(Call::Commit, Mishap::AnswerLost);
    let unknown = gateway.buy(sale, 2).await.expect_problem(503, "outcome-unknown").order_id();
    bed.faults.heal(Call::Commit);
    assert_eq!(gateway.buy(sale, 2).await.expect(200).order_id(), unknown);
    expect_ledger(&bed, sale, 2).await;
}

#[tokio::test]
async fn orders_that_find_no_room_in_line_are_refused_and_those_in_it_are_answered_before_the_end() {
    let bed = TestBed::new().await;
    let mut config = Config { mode: Mode::Direct, ..config() };
    (config.direct.writers, config.direct.capacity) = (1, 1);
    let gateway = Gateway::with(&bed.backend, config).await;
    let sale = gateway.open_sale(10).await;
    bed.faults.always(Call::Commit, Mishap::Held);
    let buy = |user| tokio::spawn(gateway.buying(sale, user).send());
    let first = buy(1);
    eventually(SOON, async || match bed.faults.asked(Call::Commit) {
        1.. => Ok(()),
        none => Err(none),
    })
    .await;
    // One is in the writer's hands and one in line: of these two, one is refused.
    let mut others = [buy(2), buy(3)];
    let [two, three] = &mut others;
    let refused = tokio::select! { answer = two => answer, answer = three => answer };
    assert_eq!(refused.unwrap().unwrap().status(), 503);
    gateway.shutdown.cancel();
    bed.faults.heal(Call::Commit);
    assert_eq!(first.await.unwrap().unwrap().status(), 202);
    for other in others.into_iter().filter(|other| !other.is_finished()) {
        assert_eq!(other.await.unwrap().unwrap().status(), 202);
    }
    tokio::time::timeout(SOON, gateway.run).await.expect("within its grace time").unwrap();
    expect_ledger(&bed, sale, 2).await;
}

#[tokio::test]
async fn a_sale_is_sold_by_gateways_of_the_mode_that_opened_it() {
    let (bed, direct, ungated) = open(10).await;
    let queue = Gateway::start(&bed.backend).await;
    let gated = queue.open_sale(10).await;
    let shown = queue.get(&format!("/api/v1/sales/{ungated}")).await.expect(200);
    assert_eq!((&shown.json["mode"], &shown.json["remaining"]), (&json!("direct"), &json!(null)));
    for (gateway, sale) in [(&queue, ungated), (&direct, gated)] {
        let refused = gateway.buy(sale, 1).await.expect_problem(503, "unavailable");
        assert!(refused.json["detail"].as_str().unwrap().contains("direct mode"), "{refused:?}");
    }
    direct.buy(ungated, 1).await.expect(202);
    queue.buy(gated, 1).await.expect(202);
    bed.expect_at_rest(gated, 1).await;
    expect_ledger(&bed, ungated, 1).await;
}
