//! The gate on Redis: what is left after wrong keys, lost data, lost scripts, and a server that hangs or is full.

use std::time::Duration;

use deadpool_redis::redis::{self, Value};
use seckill_core::{Decision, Fault, Sale, SaleId, UserId};
use seckill_testkit::{FaultProxy, PrivateRedis, eventually};

use crate::setup::{SOON, claim, gate_at, know_ledger, ready_gate_at, ready_gate_with_one_connection, sale};

const SALE: SaleId = SaleId(7);

pub(crate) async fn run(url: &str, words: &[&str]) -> Value {
    let mut connection = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.unwrap()
}

/// Everything in the database, byte for byte.
pub(crate) async fn contents(url: &str) -> Vec<(String, Value)> {
    let mut keys: Vec<String> = redis::from_redis_value(run(url, &["KEYS", "*"]).await).unwrap();
    keys.sort();
    let mut contents = Vec::new();
    for key in keys {
        let dump = run(url, &["DUMP", &key]).await;
        contents.push((key, dump));
    }
    contents
}

#[tokio::test]
async fn a_key_that_is_not_as_seckill_writes_it_makes_reserve_change_nothing() {
    let redis = seckill_testkit::redis().await;
    let backend = gate_at(&redis.url);
    let gate = &backend.gate;
    for damage in [
        &["SET", "seckill:{00000000-0000-0000-0000-000000000007:7}:meta", "x"][..],
        &["HDEL", "seckill:{00000000-0000-0000-0000-000000000007:7}:meta", "ends_at"],
        &["HSET", "seckill:{00000000-0000-0000-0000-000000000007:7}:meta", "per_user_limit", "-1"],
        &["SET", "seckill:{00000000-0000-0000-0000-000000000007:7}:stock", "many"],
        &["SET", "seckill:{00000000-0000-0000-0000-000000000007:7}:stock", "-5"],
        &["DEL", "seckill:{00000000-0000-0000-0000-000000000007:7}:stock"],
        &["HSET", "seckill:{00000000-0000-0000-0000-000000000007:7}:stock", "a", "b"],
        &["SET", "seckill:{00000000-0000-0000-0000-000000000007:7}:buyers", "x"],
        &["HSET", "seckill:{00000000-0000-0000-0000-000000000007:7}:buyers", "2", "x:y"],
        &["SET", "seckill:{00000000-0000-0000-0000-000000000007:7}:pending", "x"],
    ] {
        redis.flush().await;
        know_ledger(&backend).await;
        gate.open(&sale(7, 10), 1).await.unwrap();
        let first = gate.reserve(SALE, 1, &[], &[claim(1)]).await.unwrap();
        if damage[0] != "HSET" && damage[0] != "HDEL" {
            run(&redis.url, &["DEL", damage[1]]).await;
        }
        if damage[1].ends_with("stock") {
            run(&redis.url, &["DEL", damage[1]]).await;
        }
        run(&redis.url, damage).await;
        let before = contents(&redis.url).await;
        let settled = [first.reservation.unwrap()];
        let fault = gate.reserve(SALE, 1, &settled, &[claim(3), claim(2)]).await.unwrap_err();
        let expected = if damage[0] == "DEL" {
            matches!(fault, Fault::Lost { .. })
        } else {
            matches!(fault, Fault::Corrupt { .. })
        };
        assert!(expected, "{damage:?}: {fault}");
        assert_eq!(contents(&redis.url).await, before, "{damage:?}");
    }
}

#[tokio::test]
async fn a_gate_that_lost_its_data_or_has_another_epoch_fails_closed() {
    let redis = seckill_testkit::redis().await;
    let gate = ready_gate_at(&redis.url).await;
    let opened = sale(7, 10);
    gate.open(&opened, 2).await.unwrap();
    gate.reserve(SALE, 2, &[], &[claim(1)]).await.unwrap();

    let other = gate.reserve(SALE, 3, &[], &[claim(2)]).await.unwrap_err();
    assert!(matches!(&other, Fault::Lost { reason, .. } if reason.contains("another epoch, 2")), "{other}");
    // An older or the same epoch leaves the gate as it is.
    gate.open(&Sale { stock: 99, ..opened.clone() }, 1).await.unwrap();
    gate.open(&Sale { stock: 99, ..opened }, 2).await.unwrap();
    assert_eq!(gate.level(SALE).await.unwrap().unwrap().remaining, 9);

    redis.flush().await;
    let lost = gate.reserve(SALE, 2, &[], &[claim(2)]).await.unwrap_err();
    assert!(matches!(&lost, Fault::Lost { reason, .. } if reason.contains("no data")), "{lost}");
    assert_eq!(gate.level(SALE).await.unwrap(), None);
    assert_eq!(run(&redis.url, &["DBSIZE"]).await, Value::Int(0));

    gate.open(&sale(7, 5), 3).await.unwrap();
    let level = gate.level(SALE).await.unwrap().unwrap();
    assert_eq!((level.epoch, level.remaining, level.orders, level.pending_orders), (3, 5, 0, 0));
}

#[tokio::test]
async fn the_same_call_run_again_deducts_once_also_when_redis_forgot_its_scripts() {
    let redis = seckill_testkit::redis().await;
    let gate = ready_gate_at(&redis.url).await;
    gate.open(&sale(7, 10), 1).await.unwrap();
    let (first, second, other) = (claim(1), claim(2), claim(1));
    let claims = [first, other, second];
    let once = gate.reserve(SALE, 1, &[], &claims).await.unwrap();
    let before = contents(&redis.url).await;

    run(&redis.url, &["SCRIPT", "FLUSH"]).await;
    let again = gate.reserve(SALE, 1, &[], &claims).await.unwrap();
    assert_eq!(again.decisions, once.decisions);
    assert!(once.reservation.is_some() && again.reservation.is_none());
    assert_eq!(contents(&redis.url).await, before);
    let replayed = Decision::Replayed {
        order_id: first.order_id,
        quantity: 1,
        pending: false,
        accepted_at: first.accepted_at,
    };
    assert_eq!(once.decisions, [Decision::Reserved, replayed, Decision::Reserved]);

    // From another call it is pending until settled; settling in that very call is soon enough.
    let pending = gate.reserve(SALE, 1, &[], &[other]).await.unwrap().decisions;
    assert!(matches!(pending[0], Decision::Replayed { pending: true, .. }));
    let settled = gate.reserve(SALE, 1, &[once.reservation.unwrap()], &[other]).await.unwrap().decisions;
    assert_eq!(settled[0], replayed);
    assert_eq!(gate.level(SALE).await.unwrap().unwrap().pending_orders, 0);
}

#[tokio::test]
async fn holdings_are_found_among_many_sales() {
    let redis = seckill_testkit::redis().await;
    let gate = ready_gate_at(&redis.url).await;
    let claims = [claim(1), claim(u64::MAX)];
    for id in [3, 700, 1_199] {
        gate.open(&sale(id, 2), 1).await.unwrap();
        gate.reserve(SaleId(id), 1, &[], &claims).await.unwrap();
    }
    let sales: Vec<_> = (0..1_200).map(SaleId).collect();
    let holdings = gate.holdings(UserId(u64::MAX), &sales).await.unwrap();
    let found: Vec<_> = holdings.iter().map(|holding| (holding.sale_id.0, holding.order_id)).collect();
    assert_eq!(found, [3, 700, 1_199].map(|id| (id, claims[1].order_id)));
    assert_eq!(holdings[0].accepted_at, claims[1].accepted_at);
}

#[tokio::test]
async fn a_full_redis_refuses_and_changes_nothing() {
    let redis = PrivateRedis::start().await;
    let gate = ready_gate_at(&redis.url()).await;
    gate.open(&sale(7, 10), 1).await.unwrap();
    gate.reserve(SALE, 1, &[], &[claim(1)]).await.unwrap();
    let before = contents(&redis.url()).await;
    run(&redis.url(), &["CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1"]).await;
    let fault = gate.reserve(SALE, 1, &[], &[claim(2)]).await.unwrap_err();
    assert!(matches!(&fault, Fault::Unavailable { reason, .. } if reason.contains("OOM")), "{fault}");
    run(&redis.url(), &["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(contents(&redis.url()).await, before);
}

#[tokio::test]
async fn a_hanging_redis_leaves_the_outcome_unknown_and_a_dead_one_is_unavailable_at_once() {
    let redis = PrivateRedis::start().await;
    let gate = ready_gate_at(&redis.url()).await;
    gate.open(&sale(7, 10), 1).await.unwrap();
    let taken = claim(1);

    redis.freeze().await;
    let fault = gate.reserve(SALE, 1, &[], &[taken]).await.unwrap_err();
    // The pool's look at the connection fails first: nothing was sent.
    assert!(matches!(fault, Fault::Unavailable { .. }), "{fault}");
    redis.thaw().await;
    eventually(SOON, async || gate.ping().await).await;
    let again = gate.reserve(SALE, 1, &[], &[taken]).await.unwrap();
    assert_eq!(again.decisions, [Decision::Reserved]);
    assert_eq!(gate.level(SALE).await.unwrap().unwrap().orders, 1);

    redis.kill().await;
    let fault = gate.reserve(SALE, 1, &[], &[claim(2)]).await.unwrap_err();
    // Refused, and not a time-out: nothing was waited for.
    assert!(matches!(&fault, Fault::Unavailable { reason, .. } if reason.contains("refused")), "{fault}");
    redis.start_again().await;
    eventually(SOON, async || gate.ping().await).await;
}

/// Somebody else's answer is still under way on it.
#[tokio::test]
async fn a_connection_whose_answer_did_not_come_in_time_is_not_used_again() {
    let redis = PrivateRedis::start().await;
    let proxy = FaultProxy::start(redis.url()).await;
    let gate = ready_gate_with_one_connection(&proxy.url(redis.url())).await;
    gate.open(&sale(7, 10), 1).await.unwrap();
    let before = proxy.counts().connections;
    gate.stranded(SALE, Duration::ZERO, 1).await.unwrap();
    assert_eq!(proxy.counts().connections, before, "without a fault the connection is used again");
    // It still answers whoever asks whether the connection is alive.
    run(&redis.url(), &["CLIENT", "PAUSE", "60000", "WRITE"]).await;
    let fault = gate.reserve(SALE, 1, &[], &[claim(1)]).await.unwrap_err();
    assert!(matches!(fault, Fault::Unknown { .. }), "{fault:?}");
    run(&redis.url(), &["CLIENT", "UNPAUSE"]).await;
    let pending = gate.stranded(SALE, Duration::ZERO, 10).await.unwrap();
    assert!(pending.len() <= 1, "{pending:?}");
    assert_eq!(proxy.counts().connections, before + 1, "the next request has a new connection");
}

/// However many ask what they hold, no claim waits for a connection because of them.
#[tokio::test]
async fn polls_have_connections_of_their_own() {
    let redis = PrivateRedis::start().await;
    let proxy = FaultProxy::start(redis.url()).await;
    let gate = ready_gate_with_one_connection(&proxy.url(redis.url())).await;
    gate.open(&sale(7, 10), 1).await.unwrap();
    let before = proxy.counts().connections;
    gate.reserve(SALE, 1, &[], &[claim(1)]).await.unwrap();
    assert_eq!(proxy.counts().connections, before, "the one connection is used again");
    assert_eq!(gate.holdings(UserId(1), &[SALE]).await.unwrap().len(), 1);
    gate.level(SALE).await.unwrap();
    gate.condition(SALE, 1).await.unwrap();
    assert_eq!(proxy.counts().connections, before + 1, "the reads share another one");
}
