//! The gate on a Redis that has lost data, was started again, or refuses writes; and what it must never need to read.

use std::time::Duration;

use deadpool_redis::redis::{self, Value};
use seckill_core::{Decision, Epoch, Fault, GateCondition, GateLevel, SaleId, StockGate};
use seckill_testkit::{PrivateRedis, eventually};

use crate::gate::{contents, run};
use crate::setup::{LEDGER, SOON, claim, durable_gate_at, gate_at, know_ledger, ready_gate_at, sale};

const SALE: SaleId = SaleId(7);
const EPOCH: Epoch = 1;

fn key(name: &str) -> String {
    format!("seckill:{{{LEDGER}:{SALE}}}:{name}")
}

/// `text` with the user `limited`.
fn as_limited(url: &str) -> String {
    url.replace("redis://", "redis://limited:secret@")
}

async fn open(gate: &dyn StockGate) {
    gate.open(&sale(SALE.0, 10), EPOCH).await.unwrap();
    let reserved = gate.reserve(SALE, EPOCH, &[], &[claim(1)]).await.unwrap();
    assert_eq!(reserved.decisions, [Decision::Reserved]);
}

#[tokio::test]
async fn a_gate_that_lacks_a_part_fails_closed() {
    let redis = seckill_testkit::redis().await;
    let gate = ready_gate_at(&redis.url).await;
    for part in ["meta", "stock", "buyers", "pending"] {
        open(&*gate).await;
        assert_eq!(gate.condition(SALE, EPOCH).await.unwrap(), GateCondition::Sound);
        assert_eq!(run(&redis.url, &["DEL", &key(part)]).await, Value::Int(1), "{part}");
        let before = contents(&redis.url).await;
        let refused = gate.reserve(SALE, EPOCH, &[], &[claim(2)]).await;
        assert!(matches!(refused, Err(Fault::Lost { .. })), "{part}: {refused:?}");
        assert_eq!(gate.condition(SALE, EPOCH).await.unwrap(), GateCondition::Missing, "{part}");
        assert_eq!(gate.level(SALE).await.unwrap(), None, "{part}");
        assert_eq!(contents(&redis.url).await, before, "{part}");
        gate.remove(SALE).await.unwrap();
    }
    // Also before the first order: an opened gate has all its parts.
    gate.open(&sale(SALE.0, 10), EPOCH).await.unwrap();
    run(&redis.url, &["DEL", &key("buyers")]).await;
    assert_eq!(gate.condition(SALE, EPOCH).await.unwrap(), GateCondition::Missing);
}

#[tokio::test]
async fn a_gate_whose_server_was_started_again_fails_closed_unless_it_is_durable() {
    let redis = PrivateRedis::start().await;
    let (gate, durable) = (ready_gate_at(&redis.url()).await, durable_gate_at(&redis.url()).gate);
    open(&*gate).await;
    redis.stop().await;
    redis.start_again().await;
    eventually(SOON, async || gate.ping().await).await;

    let refused = gate.reserve(SALE, EPOCH, &[], &[claim(2)]).await;
    assert!(
        matches!(&refused, Err(Fault::Lost { reason, .. }) if reason.contains("started again")),
        "{refused:?}"
    );
    assert_eq!(gate.condition(SALE, EPOCH).await.unwrap(), GateCondition::OtherRun { epoch: EPOCH });
    // What it holds can be read all the same.
    assert_eq!(gate.holders(SALE, None, 10).await.unwrap().holders.len(), 1);
    assert_eq!(gate.stranded(SALE, Duration::ZERO, 10).await.unwrap().len(), 1);

    assert_eq!(durable.condition(SALE, EPOCH).await.unwrap(), GateCondition::Sound);
    let reserved = durable.reserve(SALE, EPOCH, &[], &[claim(2)]).await.unwrap();
    assert_eq!(reserved.decisions, [Decision::Reserved]);

    gate.stage_refill(SALE, EPOCH + 1, true, &[claim(1)]).await.unwrap();
    gate.finish_refill(&sale(SALE.0, 10), EPOCH + 1, 9, 1).await.unwrap();
    assert_eq!(gate.condition(SALE, EPOCH + 1).await.unwrap(), GateCondition::Sound);
    let reserved = gate.reserve(SALE, EPOCH + 1, &[], &[claim(2)]).await.unwrap();
    assert_eq!(reserved.decisions, [Decision::Reserved]);
}

#[tokio::test]
async fn a_user_who_lacks_the_right_to_a_write_changes_nothing() {
    let redis = PrivateRedis::start().await;
    let gate = ready_gate_at(&redis.url()).await;
    open(&*gate).await;
    let pending = gate.stranded(SALE, Duration::ZERO, 1).await.unwrap()[0].id;
    let before = contents(&redis.url()).await;
    let limited = gate_at(&as_limited(&redis.url())).gate;
    for denied in ["hset", "decrby", "xadd", "xdel"] {
        let rule = format!("-{denied}");
        run(&redis.url(), &["ACL", "SETUSER", "limited", "reset", "on", ">secret", "~*", "+@all", &rule])
            .await;
        let refused = limited.reserve(SALE, EPOCH, &[pending], &[claim(2)]).await;
        let Err(Fault::Misconfigured { reason, .. }) = &refused else { panic!("{denied}: {refused:?}") };
        assert!(reason.contains("right") && !reason.contains("script: "), "{denied}: {reason}");
        assert_eq!(contents(&redis.url()).await, before, "{denied}");
    }
}

#[tokio::test]
async fn a_redis_that_refuses_writes_is_unavailable_and_unchanged() {
    let redis = PrivateRedis::start().await;
    let gate = ready_gate_at(&redis.url()).await;
    open(&*gate).await;
    gate.ping().await.unwrap();
    let pending = [gate.stranded(SALE, Duration::ZERO, 1).await.unwrap()[0].id];
    run(&redis.url(), &["DEL", "seckill:probe"]).await;
    let before = contents(&redis.url()).await;
    for (refusing, again, said) in [
        (&["CONFIG", "SET", "maxmemory", "1"][..], &["CONFIG", "SET", "maxmemory", "0"][..], "OOM"),
        (&["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"], "read only replica"),
    ] {
        run(&redis.url(), refusing).await;
        let faults = [
            gate.ping().await,
            gate.reserve(SALE, EPOCH, &pending, &[claim(2)]).await.map(drop),
            gate.open(&sale(8, 1), EPOCH).await,
        ];
        for fault in faults {
            let Err(Fault::Unavailable { reason, .. }) = &fault else { panic!("{said}: {fault:?}") };
            assert!(reason.contains(said) && !reason.contains("script: "), "{reason}");
        }
        run(&redis.url(), again).await;
        assert_eq!(contents(&redis.url()).await, before, "{said}");
    }
    gate.ping().await.unwrap();
}

#[tokio::test]
async fn where_a_gate_stands_is_read_without_its_pending_log_or_its_buyers() {
    let redis = PrivateRedis::start().await;
    let gate = ready_gate_at(&redis.url()).await;
    open(&*gate).await;
    // A user who may not read a list of anything.
    let rules = ["+@all", "-xrange", "-xrevrange", "-xread", "-hgetall", "-hscan", "-hkeys", "-scan"];
    run(&redis.url(), &[&["ACL", "SETUSER", "limited", "reset", "on", ">secret", "~*"][..], &rules].concat())
        .await;
    let limited = gate_at(&as_limited(&redis.url())).gate;
    let level = GateLevel { epoch: EPOCH, remaining: 9, orders: 1, pending_orders: 1 };
    assert_eq!(limited.level(SALE).await.unwrap(), Some(level));
    assert!(limited.progress(SALE).await.unwrap().is_some());
    assert_eq!(limited.condition(SALE, EPOCH).await.unwrap(), GateCondition::Sound);
    let pending = gate.stranded(SALE, Duration::ZERO, 1).await.unwrap()[0].id;
    limited.settle(SALE, &[pending]).await.unwrap();
    assert_eq!(limited.level(SALE).await.unwrap(), Some(GateLevel { pending_orders: 0, ..level }));
}

#[tokio::test]
async fn the_gates_of_two_ledgers_on_one_redis_do_not_touch_each_other() {
    let redis = seckill_testkit::redis().await;
    let first = ready_gate_at(&redis.url).await;
    open(&*first).await;
    let other =
        seckill_core::KnownSales { ledger_id: seckill_core::LedgerId(uuid::Uuid::now_v7()), sales: vec![] };
    first.keep_known_sales(&other).await.unwrap();
    let second = gate_at(&redis.url).gate;
    assert_eq!(second.level(SALE).await.unwrap(), None);
    assert_eq!(first.level(SALE).await.unwrap().unwrap().orders, 1);
}

#[tokio::test]
async fn a_gate_that_does_not_know_its_ledger_waits_for_it() {
    let redis = seckill_testkit::redis().await;
    let backend = gate_at(&redis.url);
    assert_eq!(backend.gate.known_sales().await.unwrap(), None);
    let refused = backend.gate.reserve(SALE, EPOCH, &[], &[claim(1)]).await;
    assert!(
        matches!(&refused, Err(Fault::Unavailable { reason, .. }) if reason.contains("ledger's id")),
        "{refused:?}"
    );
    know_ledger(&backend).await;
    open(&*backend.gate).await;
    let mut connection =
        redis::Client::open(redis.url.as_str()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("sale:*").query_async(&mut connection).await.unwrap();
    assert_eq!(keys, Vec::<String>::new());
}
