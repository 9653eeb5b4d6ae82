//! "Sold out" from memory: the gate is spared, and whoever holds an order is told so, through whichever gateway. On the
//! embedded back end, and where gateways do not share a process's memory, on real servers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use seckill_cluster::{ClusterConfig, QueueKind};
use seckill_core::{Backend, OrderId, Release, SOLD_OUT_LEASE, SaleId, UserId, now};
use seckill_testkit::faults::{Call, Faults, Mishap};
use seckill_testkit::{TestCluster, eventually};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::gateway::{Gateway, sale, sale_id};
use crate::test_bed::{SOON, TestBed};

/// Who holds no order in these tests.
const STRANGERS: std::ops::Range<u64> = 1_000_000..1_000_010;

/// A gateway, and the count of its calls.
struct Counted {
    gateway: Gateway,
    faults: Arc<Faults>,
}

impl Counted {
    async fn start(real: &Backend) -> Self {
        let (backend, faults) = Faults::wrap(real);
        Self { gateway: Gateway::start(&backend).await, faults }
    }

    fn reserves(&self) -> usize {
        self.faults.asked(Call::Reserve)
    }

    /// Waits until those who hold no order are refused without a call to the gate.
    async fn answers_from_memory(&self, sale: SaleId) {
        eventually(SOON, async || {
            let before = self.reserves();
            for stranger in STRANGERS {
                self.refuses(sale, stranger).await;
            }
            let asked = self.reserves() - before;
            if asked == 0 { Ok(()) } else { Err(asked) }
        })
        .await;
    }

    async fn refuses(&self, sale: SaleId, stranger: u64) {
        let refused = self.gateway.buy(sale, stranger).await.expect_problem(409, "sold-out");
        assert_eq!(refused.json["remaining"], 0);
    }

    /// Expects that this user is told of their order.
    async fn replays(&self, sale: SaleId, user: u64, order: OrderId) {
        let replayed = self.gateway.buy(sale, user).await.expect(200);
        assert_eq!(replayed.header("idempotent-replayed"), Some("true"));
        assert_eq!(replayed.order_id(), order, "{replayed:?}");
    }
}

/// Two gateways that know nothing of each other.
async fn two(first: &Backend, second: &Backend) -> [Counted; 2] {
    [Counted::start(first).await, Counted::start(second).await]
}

fn release(user: u64, order_id: OrderId) -> Release {
    Release { order_id, user_id: UserId(user), returns_units: true }
}

/// A back end on the servers of a test, as one process has it.
fn connect(cluster: &TestCluster) -> Backend {
    let config = ClusterConfig {
        redis_url: cluster.redis_url.clone(),
        amqp_url: cluster.amqp_url.clone(),
        mysql_url: cluster.mysql_url.clone(),
        redis_pool_size: 4,
        gate_durable: false,
        queue: QueueKind::default(),
        queue_redis_url: None,
    };
    seckill_cluster::connect(&config).expect("the addresses are right")
}

async fn cluster() -> TestCluster {
    let cluster = seckill_testkit::cluster().await;
    seckill_cluster::migrate(&cluster.mysql_url).await.expect("an empty database takes the schema");
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn winners_are_replayed_and_others_refused_without_a_call() {
    let bed = TestBed::new().await;
    winners_and_others(&bed.real, &bed.real).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn winners_are_replayed_and_others_refused_on_real_servers() {
    let cluster = cluster().await;
    winners_and_others(&connect(&cluster), &connect(&cluster)).await;
}

async fn winners_and_others(first: &Backend, second: &Backend) {
    let gateways = two(first, second).await;
    let sale = gateways[0].gateway.open_sale(6).await;
    let mut winners = Vec::new();
    for user in 1..=5 {
        let gateway = &gateways[user as usize % 2].gateway;
        winners.push((user, gateway.buy(sale, user).await.expect(202).order_id()));
    }
    // The last one holds an order of which the queue has not said that it has it.
    gateways[0].faults.next(Call::Publish, [Mishap::AnswerLost]);
    let unconfirmed =
        gateways[0].gateway.buy(sale, 6).await.expect_problem(503, "outcome-unknown").order_id();
    winners.push((6, unconfirmed));
    for gateway in &gateways {
        gateway.answers_from_memory(sale).await;
    }
    for (user, order) in winners {
        for gateway in &gateways {
            gateway.replays(sale, user, order).await;
            let differs = gateway.gateway.buy_with(sale, user, json!({"quantity": 2})).await;
            differs.expect_problem(409, "order-differs");
        }
    }
    gateways[1].answers_from_memory(sale).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_got_a_returned_unit_is_never_told_that_it_is_sold_out() {
    let bed = TestBed::new().await;
    returned_units(&bed.real, &bed.real, 4, 25).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_got_a_returned_unit_on_real_servers_is_never_told_that_it_is_sold_out() {
    let cluster = cluster().await;
    returned_units(&connect(&cluster), &connect(&cluster), 2, 25).await;
}

/// In several sales at once: a unit comes back while both gateways take the sale for sold out, one gateway sells it, and its
/// buyer goes to the other one at once.
async fn returned_units(first: &Backend, second: &Backend, sales: u64, rounds: u64) {
    join_all((0..sales).map(async |_| {
        let gateways = two(first, second).await;
        let sale = gateways[0].gateway.open_sale(1).await;
        let mut held = (0, gateways[0].gateway.buy(sale, 0).await.expect(202).order_id());
        for user in 1..=rounds {
            for gateway in &gateways {
                gateway.answers_from_memory(sale).await;
            }
            first.gate.release(sale, &[release(held.0, held.1)]).await.expect("the gate answers");
            let sells = user as usize % 2;
            let order = buy_at_last(&gateways[sells].gateway, sale, user).await;
            gateways[1 - sells].replays(sale, user, order).await;
            gateways[1 - sells].refuses(sale, held.0).await;
            held = (user, order);
        }
    }))
    .await;
}

/// Asks for a unit until there is one.
async fn buy_at_last(gateway: &Gateway, sale: SaleId, user: u64) -> OrderId {
    let end = Instant::now() + SOON;
    loop {
        let reply = gateway.buy(sale, user).await;
        if reply.status == 202 {
            return reply.order_id();
        }
        reply.expect_problem(409, "sold-out");
        assert!(Instant::now() < end, "the unit was not sold again");
        sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_gate_is_not_sold_out() {
    let bed = TestBed::new().await;
    let gateway = Counted::start(&bed.real).await;
    let sale = gateway.gateway.open_sale(1).await;
    gateway.gateway.buy(sale, 1).await.expect(202);
    gateway.answers_from_memory(sale).await;
    bed.real.gate.remove(sale).await.unwrap();
    sleep(SOLD_OUT_LEASE).await;
    for user in [1, 2] {
        gateway.gateway.buy(sale, user).await.expect_problem(503, "rebuilding");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_has_lost_everything_is_not_sold_out() {
    let cluster = cluster().await;
    let gateway = Counted::start(&connect(&cluster)).await;
    let sale = gateway.gateway.open_sale(1).await;
    gateway.gateway.buy(sale, 1).await.expect(202);
    gateway.answers_from_memory(sale).await;
    cluster.flush_redis().await;
    sleep(SOLD_OUT_LEASE).await;
    for user in [1, 2] {
        gateway.gateway.buy(sale, user).await.expect_problem(503, "rebuilding");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_is_silent_ends_the_answers_from_memory() {
    let bed = TestBed::new().await;
    let gateway = Counted::start(&bed.real).await;
    let sale = gateway.gateway.open_sale(1).await;
    gateway.gateway.buy(sale, 1).await.expect(202);
    gateway.answers_from_memory(sale).await;
    gateway.faults.always(Call::SoldOut, Mishap::Held);
    sleep(SOLD_OUT_LEASE).await;
    for stranger in STRANGERS {
        let before = gateway.reserves();
        gateway.refuses(sale, stranger).await;
        assert_eq!(gateway.reserves(), before + 1, "nobody can know what has come back meanwhile");
    }
    gateway.faults.heal(Call::SoldOut);
    gateway.answers_from_memory(sale).await;
}

/// What it knew is not right any more, although nothing is left, as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_was_cut_off_learns_who_has_bought_meanwhile() {
    let bed = TestBed::new().await;
    let [cut_off, other] = two(&bed.real, &bed.real).await;
    let sale = other.gateway.open_sale(1).await;
    let first = other.gateway.buy(sale, 1).await.expect(202).order_id();
    cut_off.answers_from_memory(sale).await;
    cut_off.faults.always(Call::SoldOut, Mishap::Held);
    bed.real.gate.release(sale, &[release(1, first)]).await.unwrap();
    let order = buy_at_last(&other.gateway, sale, 2).await;
    cut_off.faults.heal(Call::SoldOut);
    for _ in 0..50 {
        cut_off.replays(sale, 2, order).await;
        sleep(Duration::from_millis(2)).await;
    }
    cut_off.answers_from_memory(sale).await;
    cut_off.replays(sale, 2, order).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holders_who_changed_while_they_were_read_are_not_used() {
    let bed = TestBed::new().await;
    let [reads, other] = two(&bed.real, &bed.real).await;
    let sale = other.gateway.open_sale(1).await;
    let first = other.gateway.buy(sale, 1).await.expect(202).order_id();
    // The question before the reading is answered, and the one after it waits.
    reads.faults.next(Call::SoldOut, [Mishap::None]);
    reads.faults.always(Call::SoldOut, Mishap::Held);
    reads.refuses(sale, STRANGERS.start).await;
    eventually(SOON, async || match reads.faults.asked(Call::SoldOut) {
        2 => Ok(()),
        asked => Err(asked),
    })
    .await;
    bed.real.gate.release(sale, &[release(1, first)]).await.unwrap();
    let order = buy_at_last(&other.gateway, sale, 2).await;
    reads.faults.heal(Call::SoldOut);
    for _ in 0..50 {
        reads.replays(sale, 2, order).await;
        sleep(Duration::from_millis(2)).await;
    }
    reads.answers_from_memory(sale).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sold_out_sale_that_is_over_is_closed() {
    let bed = TestBed::new().await;
    let gateway = Counted::start(&bed.real).await;
    // Long enough to sell its unit, on whatever machine this is.
    let seconds = 5;
    let body = sale(1, -10, seconds);
    let ends_at = now() + chrono::TimeDelta::seconds(seconds);
    let sale = sale_id(&gateway.gateway.create_sale(&body).await.expect(201));
    let order = gateway.gateway.buy(sale, 1).await.expect(202).order_id();
    gateway.answers_from_memory(sale).await;
    while now() < ends_at {
        let reply = gateway.gateway.buy(sale, 2).await;
        assert!(matches!(reply.status, 409 | 403), "{reply:?}");
        sleep(Duration::from_millis(5)).await;
    }
    gateway.gateway.buy(sale, 2).await.expect_problem(403, "closed");
    gateway.replays(sale, 1, order).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sale_with_too_few_units_for_one_buyer_is_not_sold_out_for_all() {
    let bed = TestBed::new().await;
    let gateway = Counted::start(&bed.real).await;
    let sale = gateway.gateway.open_sale(1).await;
    for user in STRANGERS {
        let refused = gateway.gateway.buy_with(sale, user, json!({"quantity": 2})).await;
        assert_eq!(refused.expect_problem(409, "sold-out").json["remaining"], 1);
    }
    assert_eq!(gateway.faults.asked(Call::SoldOut), 0);
    gateway.gateway.buy(sale, 1).await.expect(202);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sale_that_nobody_asks_for_costs_no_calls() {
    let bed = TestBed::new().await;
    let gateway = Counted::start(&bed.real).await;
    let sale = gateway.gateway.open_sale(1).await;
    gateway.gateway.buy(sale, 1).await.expect(202);
    gateway.answers_from_memory(sale).await;
    let asked = || gateway.faults.asked(Call::SoldOut);
    eventually(SOON, async || {
        let before = asked();
        sleep(Duration::from_millis(500)).await;
        if asked() == before { Ok(()) } else { Err(asked() - before) }
    })
    .await;
    gateway.answers_from_memory(sale).await;
}
