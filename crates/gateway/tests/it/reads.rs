//! What it costs that a crowd asks for its orders, and what it is told while announcements come or are lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use seckill_core::{
    Backend, Claim, Dependency, FateNews, Fates, FatesListener, Fault, OrderId, SaleId, UserId, now,
};
use seckill_gateway::Config;
use seckill_gateway::status::StatusConfig;
use seckill_testkit::eventually;
use seckill_testkit::faults::{Call, Mishap};
use seckill_testkit::fixtures::EPOCH;
use serde_json::{Value, json};

use crate::gateway::{Gateway, config, sale, sale_id};
use crate::status::Events;
use crate::test_bed::{SOON, TestBed};

/// Announcements that nobody hears.
struct Unheard;

#[async_trait]
impl Fates for Unheard {
    fn announce(&self, _: FateNews) {}

    async fn listen(&self) -> Result<Box<dyn FatesListener>, Fault> {
        Err(Fault::unavailable(Dependency::ControlPlane, "this test loses what is announced"))
    }
}

/// The same back end; what becomes of orders is not heard.
fn deaf(backend: &Backend) -> Backend {
    Backend { fates: Arc::new(Unheard), ..backend.clone() }
}

fn with_status(change: impl FnOnce(&mut StatusConfig)) -> Config {
    let mut status = StatusConfig::default();
    change(&mut status);
    Config { status, ..config() }
}

async fn until_status(gateway: &Gateway, user: u64, order: OrderId, status: &str) -> Value {
    eventually(SOON, async || {
        let reply = gateway.order(user, order).await;
        if reply.json["status"] == status { Ok(reply.json) } else { Err(reply) }
    })
    .await
}

/// Statements that read orders by their ids, so far.
fn order_reads(bed: &TestBed) -> usize {
    bed.faults.asked(Call::ReadOrders)
}

/// 64 connections that poll different queued orders without a pause.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_polls_costs_the_ledger_no_more_than_the_limit() {
    const LIMIT: usize = 20;
    let bed = TestBed::new().await;
    let config =
        with_status(|status| status.ledger_reads = u32::try_from(LIMIT).unwrap().try_into().unwrap());
    let gateway = Arc::new(Gateway::with(&bed.backend, config).await);
    let sale = gateway.open_sale(100).await;
    let mut orders = Vec::new();
    for user in 0..64 {
        orders.push((user, gateway.buy(sale, user).await.expect(202).order_id()));
    }
    let (begin, before) = (Instant::now(), order_reads(&bed));
    let polls = Arc::new(AtomicUsize::new(0));
    let poll = |(user, order): (u64, OrderId)| {
        let (gateway, polls) = (Arc::clone(&gateway), Arc::clone(&polls));
        tokio::spawn(async move {
            while begin.elapsed() < Duration::from_secs(3) {
                assert_eq!(gateway.order(user, order).await.expect(200).json["status"], "queued");
                polls.fetch_add(1, Relaxed);
            }
        })
    };
    for poller in orders.into_iter().map(poll).collect::<Vec<_>>() {
        poller.await.unwrap();
    }
    let (polls, reads) = (polls.load(Relaxed), order_reads(&bed) - before);
    let most = LIMIT * (begin.elapsed().as_secs() as usize + 2);
    assert!(
        reads > 0 && reads <= most && polls > 10 * reads,
        "{polls} polls, {reads} statements, {most} allowed"
    );
}

/// One order that many connections of its buyer ask for at once is read once.
#[tokio::test]
async fn those_who_ask_for_one_order_at_once_share_the_answer() {
    let bed = TestBed::new().await;
    let (here, there) = (Gateway::start(&bed.backend).await, Gateway::start(&bed.backend).await);
    let sale = here.open_sale(10).await;
    let id = here.buy(sale, 7).await.expect(202).order_id();
    let gate_reads = |bed: &TestBed| bed.faults.asked(Call::ReadGate);
    bed.faults.always(Call::ReadOrders, Mishap::Held);
    let before = order_reads(&bed);
    let polls = (0..50).map(|_| there.order(7, id));
    let answers = async {
        let answers = futures_util::future::join_all(polls).await;
        for answer in answers {
            assert_eq!(answer.expect(200).json["status"], "queued");
        }
    };
    let heal = async {
        eventually(SOON, async || if order_reads(&bed) > before { Ok(()) } else { Err(gate_reads(&bed)) })
            .await;
        bed.faults.heal(Call::ReadOrders);
    };
    tokio::join!(answers, heal);
    assert!(order_reads(&bed) - before <= 2, "{} reads", order_reads(&bed) - before);
}

/// Nothing to tell: no gate and no ledger is asked, but for the check that comes seldom and takes 200 orders at a time.
#[tokio::test(flavor = "multi_thread")]
async fn streams_with_nothing_to_tell_cost_no_reads() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&bed.backend, with_status(|status| status.check_every = 10 * SOON)).await;
    let sale = gateway.open_sale(1_000).await;
    let id = gateway.buy(sale, 7).await.expect(202).order_id();
    let mut streams = Vec::new();
    for _ in 0..500 {
        let mut events = Events::open(&gateway, 7, id).await;
        events.expect_status(id, "queued").await;
        streams.push(events);
    }
    let (before, holdings) = (order_reads(&bed), bed.faults.asked(Call::ReadLedger));
    let refreshes = 3;
    // The directory is read once a second, whoever waits.
    let past = async || {
        let reads = bed.faults.asked(Call::ReadLedger) - holdings;
        if reads >= 2 * refreshes { Ok(()) } else { Err(reads) }
    };
    eventually(SOON, past).await;
    assert_eq!(order_reads(&bed), before, "a stream has asked the ledger");
    bed.drain().await;
    for events in &mut streams {
        events.expect_status(id, "committed").await;
        assert_eq!(events.next().await, None);
    }
    assert!(order_reads(&bed) - before <= 1, "500 streams were told from memory");
}

#[tokio::test]
async fn a_stream_is_told_by_the_check_where_the_announcement_was_lost() {
    let bed = TestBed::new().await;
    let config = with_status(|status| status.check_every = Duration::from_millis(100));
    let gateway = Gateway::with(&deaf(&bed.backend), config).await;
    let sale = gateway.open_sale(10).await;
    let id = gateway.buy(sale, 7).await.expect(202).order_id();
    let mut events = Events::open(&gateway, 7, id).await;
    events.expect_status(id, "queued").await;
    bed.faults.away(Dependency::Ledger);
    let before = order_reads(&bed);
    eventually(SOON, async || if order_reads(&bed) > before { Ok(()) } else { Err(before) }).await;
    bed.drain().await;
    bed.faults.back(Dependency::Ledger);
    events.expect_status(id, "committed").await;
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_poll_is_right_within_a_second_where_the_announcement_was_lost() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&deaf(&bed.backend), config()).await;
    let sale = gateway.open_sale(10).await;
    let id = gateway.buy(sale, 7).await.expect(202).order_id();
    bed.drain().await;
    until_status(&gateway, 7, id, "committed").await;
}

/// Without the announcement the stream would wait for the check, which does not come in this test.
#[tokio::test]
async fn a_stream_is_told_by_the_announcement() {
    let bed = TestBed::new().await;
    let gateway = Gateway::with(&bed.backend, with_status(|status| status.check_every = 10 * SOON)).await;
    let sale = gateway.open_sale(10).await;
    let id = gateway.buy(sale, 7).await.expect(202).order_id();
    let mut events = Events::open(&gateway, 7, id).await;
    events.expect_status(id, "queued").await;
    bed.drain().await;
    events.expect_status(id, "committed").await;
}

#[tokio::test]
async fn what_is_committed_is_told_from_memory_while_gate_and_ledger_are_away() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    let id = gateway.buy(sale, 7).await.expect(202).order_id();
    bed.drain().await;
    let row = bed.ledger_order(id).await.expect("it is in the ledger");
    let known = until_status(&gateway, 7, id, "committed").await;
    bed.faults.away(Dependency::Ledger);
    bed.faults.away(Dependency::Gate);
    for _ in 0..3 {
        let reply = gateway.order(7, id).await.expect(200).json;
        assert_eq!(reply, known);
    }
    assert_eq!((&known["recorded_at"], &known["amount_cents"]), (&json!(row.recorded_at), &json!(250)));
    gateway.order(8, id).await.expect_problem(404, "not-found");
}

/// Neither the sale nor the order has been seen by the second gateway.
#[tokio::test]
async fn a_second_gateway_knows_an_order_at_once() {
    let bed = TestBed::new().await;
    let (here, there) = (Gateway::start(&bed.backend).await, Gateway::start(&bed.backend).await);
    for _ in 0..5 {
        let sale = here.open_sale(10).await;
        let id = here.buy(sale, 7).await.expect(202).order_id();
        assert_eq!(there.order(7, id).await.expect(200).json["status"], "queued");
        there.order(8, id).await.expect_problem(404, "not-found");
    }
}

#[tokio::test]
async fn a_repeated_request_after_the_commit_says_committed() {
    let bed = TestBed::new().await;
    let (here, deaf) = (Gateway::start(&bed.backend).await, Gateway::start(&deaf(&bed.backend)).await);
    let sale = here.open_sale(10).await;
    let first = here.buy(sale, 7).await.expect(202);
    assert_eq!(here.buy(sale, 7).await.expect(200).json["status"], "queued");
    bed.drain().await;
    for gateway in [&here, &deaf] {
        eventually(SOON, async || {
            let again = gateway.buy(sale, 7).await.expect(200);
            assert_eq!(again.order_id(), first.order_id());
            if again.json["status"] == "committed" { Ok(()) } else { Err(again) }
        })
        .await;
    }
    // The ledger is asked, and not needed.
    bed.faults.away(Dependency::Ledger);
    deaf.buy(sale, 7).await.expect(200);
}

/// An id of an older version names no sale.
#[tokio::test]
async fn an_order_whose_id_names_no_sale_is_found() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sales = [gateway.open_sale(10).await, gateway.open_sale(10).await];
    let order_id = OrderId::generate();
    let claim = Claim { order_id, user_id: UserId(7), quantity: 1, accepted_at: now() };
    bed.real.gate.reserve(sales[0], EPOCH, &[], &[claim]).await.unwrap();
    assert_eq!(gateway.order(7, order_id).await.expect(200).json["status"], "queued");
    gateway.order(8, order_id).await.expect_problem(404, "not-found");
}

/// Somebody makes ids up, from as many accounts as they like.
#[tokio::test(flavor = "multi_thread")]
async fn invented_ids_cost_their_own_limit_and_those_who_ordered_are_answered() {
    let bed = TestBed::new().await;
    let config = with_status(|status| {
        status.unknown_reads = 5.try_into().unwrap();
        status.patience = Duration::from_millis(300);
    });
    let gateway = Arc::new(Gateway::with(&bed.backend, config).await);
    let sale = gateway.open_sale(10).await;
    let id = gateway.buy(sale, 7).await.expect(202).order_id();
    let (begin, before) = (Instant::now(), order_reads(&bed));
    let mut inventors = Vec::new();
    for user in 100..140 {
        let gateway = Arc::clone(&gateway);
        inventors.push(tokio::spawn(async move {
            let mut refused = 0;
            while begin.elapsed() < Duration::from_secs(2) {
                let reply = gateway.order(user, OrderId::generate_for(sale)).await;
                assert!([404, 503].contains(&reply.status), "{reply:?}");
                refused += usize::from(reply.status == 503);
            }
            refused
        }));
    }
    while begin.elapsed() < Duration::from_secs(2) {
        gateway.order(7, id).await.expect(200);
    }
    let mut refused = 0;
    for inventor in inventors {
        refused += inventor.await.unwrap();
    }
    let (reads, most) = (order_reads(&bed) - before, 5 * (begin.elapsed().as_secs() as usize + 2) + 10);
    assert!(refused > 0 && reads <= most, "{refused} refused, {reads} statements, {most} allowed");
}

/// The same id again costs nothing for a second.
#[tokio::test]
async fn a_miss_is_remembered() {
    let bed = TestBed::new().await;
    let gateway = Gateway::start(&bed.backend).await;
    let sale = gateway.open_sale(10).await;
    let (id, before) = (OrderId::generate_for(sale), order_reads(&bed));
    for _ in 0..20 {
        gateway.order(7, id).await.expect_problem(404, "not-found");
    }
    assert!(order_reads(&bed) - before <= 3, "{} reads", order_reads(&bed) - before);
}

/// A ledger that does not answer keeps nobody waiting.
#[tokio::test]
async fn polls_that_wait_too_long_are_refused_as_overloaded() {
    let bed = TestBed::new().await;
    let config = with_status(|status| {
        status.patience = Duration::from_millis(200);
        status.remembered = 0;
    });
    let gateway = Gateway::with(&bed.backend, config).await;
    let sale = gateway.open_sale(10).await;
    let id = gateway.buy(sale, 7).await.expect(202).order_id();
    bed.faults.always(Call::ReadOrders, Mishap::Held);
    let refused = gateway.order(7, id).await;
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    refused.expect_problem(503, "overloaded");
    bed.faults.heal(Call::ReadOrders);
    gateway.order(7, id).await.expect(200);
}

/// An order that can be paid, changed through another gateway.
#[tokio::test]
async fn a_change_through_one_gateway_is_seen_at_the_other() {
    let bed = TestBed::new().await;
    let (here, there) = (Gateway::start(&bed.backend).await, Gateway::start(&bed.backend).await);
    let mut body = sale(10, -3_600, 3_600);
    body["payment_window_ms"] = json!(600_000);
    let sale: SaleId = sale_id(&here.create_sale(&body).await.expect(201));
    let id = here.buy(sale, 7).await.expect(202).order_id();
    bed.drain().await;
    let known = until_status(&there, 7, id, "committed").await;
    assert!(known["pay_by"].is_string(), "{known}");
    let mut events = Events::open(&there, 7, id).await;
    events.expect_status(id, "committed").await;
    let cancelled = here.request(reqwest::Method::POST, &format!("/api/v1/orders/{id}/cancel"));
    let cancelled = crate::gateway::send(cancelled.bearer_auth(crate::gateway::token(7))).await.expect(200);
    assert_eq!(cancelled.json["status"], "cancelled");
    assert_eq!(here.order(7, id).await.expect(200).json["status"], "cancelled");
    events.expect_status(id, "cancelled").await;
    until_status(&there, 7, id, "cancelled").await;
}
