//! Each step of an order by itself, for `cargo bench -p seckill-bench`; a part of its name as an argument selects some. Steps of Redis and
//! MySQL start these servers as the tests do. Only times of one machine can be compared; `scripts/instructions.sh` counts instead.

use std::hint::black_box;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use futures_util::future::join_all;
use seckill_bench::{token, verifier};
use seckill_cluster::{ClusterConfig, QueueKind};
use seckill_core::{Backend, Claim, LedgerWriter, Message, Order, SaleId};
use seckill_gateway::intake::{Intake, IntakeConfig};
use seckill_testkit::fixtures::{self, EPOCH};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod confirms;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Units of the sales, more than are ever ordered.
const STOCK: u32 = 100_000_000;
/// Orders in one message, one call of the gate, or one intake.
const BATCHES: [u64; 4] = [1, 16, 64, 256];

fn main() {
    divan::main();
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

#[divan::bench]
fn token_check(bencher: Bencher<'_, '_>) {
    let (verifier, token) = (verifier(), token(7));
    bencher.bench(|| verifier.user(black_box(&token)).expect("a good token"));
}

#[divan::bench(args = BATCHES)]
fn message_write(bencher: Bencher<'_, '_>, orders: u64) {
    let batch = fixtures::batch(SaleId(1), 0..orders);
    bencher.counter(ItemsCount::new(orders)).bench(|| Message::write(black_box(&batch), None));
}

#[divan::bench(args = BATCHES)]
fn message_read(bencher: Bencher<'_, '_>, orders: u64) {
    let message = Message::write(&fixtures::batch(SaleId(1), 0..orders), None);
    let read = || Message::read(black_box(message.as_bytes())).expect("a good message");
    bencher.counter(ItemsCount::new(orders)).bench(read);
}

/// From the claim to the buyer's answer: the lane, the gate in memory, and a queue that confirms at once.
#[divan::bench(args = BATCHES)]
fn claim_to_answer(bencher: Bencher<'_, '_>, orders: u64) {
    let runtime = runtime();
    let folder = tempfile::tempdir().expect("a folder");
    let backend = runtime.block_on(seckill_embedded::open(folder.path())).expect("a back end");
    let sale = runtime.block_on(fixtures::open_sale(&backend, STOCK, 1)).id;
    let backend = Backend { queue: Arc::new(confirms::AtOnce(Arc::clone(&backend.queue))), ..backend };
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let intake = {
        let _runtime = runtime.enter();
        Intake::start(sale, EPOCH, &backend, IntakeConfig::default(), &tracker, &shutdown)
    };
    bencher.counter(ItemsCount::new(orders)).with_inputs(claims(orders)).bench_local_values(|claims| {
        runtime.block_on(join_all(claims.into_iter().map(|claim| intake.submit(claim).expect("room"))))
    });
}

/// The gate's script in Redis.
#[divan::bench(args = BATCHES)]
fn reserve_in_redis(bencher: Bencher<'_, '_>, orders: u64) {
    let runtime = runtime();
    let (backend, sale) = runtime.block_on(cluster());
    let mut settled = Vec::new();
    bencher.counter(ItemsCount::new(orders)).with_inputs(claims(orders)).bench_local_values(|claims| {
        let reserve = backend.gate.reserve(sale, EPOCH, &settled, &claims);
        let reserved = runtime.block_on(reserve).expect("the gate answers");
        settled = reserved.reservation.into_iter().collect();
    });
}

/// The worker's transaction in MySQL.
#[divan::bench(args = [1_u64, 100, 500, 1_000])]
fn commit_in_mysql(bencher: Bencher<'_, '_>, orders: u64) {
    let runtime = runtime();
    let (backend, sale_id) = runtime.block_on(cluster());
    let mut writer: Box<dyn LedgerWriter> = runtime.block_on(backend.ledger.writer()).expect("a writer");
    let claims = claims(orders);
    let orders_of = || -> Vec<Order> {
        claims().into_iter().map(|claim| Order { sale_id, epoch: EPOCH, claim }).collect()
    };
    bencher
        .counter(ItemsCount::new(orders))
        .with_inputs(orders_of)
        .bench_local_values(|orders| runtime.block_on(writer.commit(&orders)).expect("the ledger answers"));
}

/// Claims of users who have not ordered yet.
fn claims(orders: u64) -> impl Fn() -> Vec<Claim> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    move || {
        let first = NEXT.fetch_add(orders, Ordering::Relaxed);
        fixtures::claims(first..first + orders)
    }
}

/// Real servers, which end with the process, and a sale.
async fn cluster() -> (Backend, SaleId) {
    let servers = seckill_testkit::cluster().await;
    seckill_cluster::migrate(&servers.mysql_url).await.expect("the schema");
    let backend = seckill_cluster::connect(&ClusterConfig {
        redis_url: servers.redis_url.clone(),
        amqp_url: servers.amqp_url.clone(),
        mysql_url: servers.mysql_url.clone(),
        redis_pool_size: 4,
        gate_durable: false,
        queue: QueueKind::default(),
        queue_redis_url: None,
    })
    .expect("the addresses can be used");
    let sale = fixtures::open_sale(&backend, STOCK, 1).await;
    (backend, sale.id)
}
