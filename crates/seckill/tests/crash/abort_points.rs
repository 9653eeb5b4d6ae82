//! A process kills itself at each of the places that `seckill abort-points` lists, a fresh one takes its place, and everything
//! heals.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use seckill_core::{AbortPoint, Claim, OrderBatch, OrderId, SaleId, SaleState, UserId, now};
use seckill_testkit::eventually;
use serde_json::Value;
use sqlx::mysql::MySqlConnection;
use sqlx::{Connection, Executor};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

use crate::after;
use crate::bed::{Bed, GATEWAY, HEALED, QUEUE, died, turn};
use crate::buyers::Buyers;
use crate::check::{check, clean};
use crate::newer::{NEWER, channel, messages, rewrite};
use crate::process::{Role, accepted, run, text};
use crate::sales;

const STOCK: u32 = 60;
const USERS: u64 = 80;
const PAUSE: Duration = Duration::from_millis(10);

/// So many points at a time. Without a turn here are those whose repair mostly waits for a clock.
pub(crate) static BUSY: Semaphore = Semaphore::const_new(3);

#[tokio::test(flavor = "multi_thread")]
async fn every_abort_point_leaves_what_it_says() {
    let _turn = turn("every_abort_point_leaves_what_it_says").await;
    LocalSet::new().run_until(exercise_all()).await;
}

async fn exercise_all() {
    let mut tasks = JoinSet::new();
    let mut points = HashMap::new();
    let only = std::env::var("SECKILL_ABORT_POINTS").unwrap_or_default();
    let chosen = |point: &&AbortPoint| point.name().starts_with(&only);
    for point in AbortPoint::ALL.iter().filter(chosen).copied() {
        points.insert(tasks.spawn_local(exercise(point)).id(), point.name());
    }
    let (mut exercised, mut failed) = (BTreeSet::new(), BTreeSet::new());
    while let Some(ended) = tasks.join_next_with_id().await {
        match ended {
            Ok((id, ())) => exercised.insert(points[&id]),
            Err(error) => failed.insert(points[&error.id()]),
        };
    }
    assert_eq!(failed, BTreeSet::new());
    let listed = AbortPoint::ALL.iter().filter(chosen).map(|point| point.name()).collect();
    assert_eq!(exercised, listed);
}

/// Drives what leads to `point`. A new point does not compile before it has a place here.
async fn exercise(point: AbortPoint) {
    use AbortPoint as P;
    match point {
        P::ReserveBefore | P::ReserveAfter | P::PublishAfter | P::ReplyAfter | P::SettleAfter => {
            let _busy = BUSY.acquire().await;
            gateway_dies_under_load(Bed::start().await, point).await;
        }
        P::RecoverPublished => {
            let _busy = BUSY.acquire().await;
            recoverer_dies(Bed::start().await, point).await;
        }
        P::CommitBefore
        | P::LedgerBegun
        | P::LedgerInserted
        | P::LedgerUpdated
        | P::LedgerCommitted
        | P::AckBefore
        | P::AckAfter => {
            let _busy = BUSY.acquire().await;
            worker_dies_under_load(Bed::start().await, point).await;
        }
        P::ReleaseBefore => worker_dies_before_it_releases(Bed::start().await, point).await,
        P::RebuildBegun
        | P::RebuildFenced
        | P::RebuildResent
        | P::RebuildSettled
        | P::RebuildDrained
        | P::RebuildStaged
        | P::RebuildRefilled
        | P::RebuildOpened => rebuild_owner_dies(Bed::start().await, point).await,
        P::ReconcileMarked | P::ReconcileSent => gateway_dies_reconciling(Bed::start().await, point).await,
        P::RedrivePublished => {
            let _busy = BUSY.acquire().await;
            gateway_dies_redriving(point).await;
        }
        P::NewerSetAside | P::NewerReturned => {
            let _busy = BUSY.acquire().await;
            worker_dies_moving_newer(point).await;
        }
        P::CancelWritten
        | P::CancelCommitted
        | P::RelayClaimed
        | P::RelayPublished
        | P::RelayMarked
        | P::RestockReleased
        | P::InboxWritten
        | P::InboxCommitted
        | P::EventTaken => {
            let _busy = BUSY.acquire().await;
            after::worker_dies_while_orders_expire(point).await;
        }
        P::PayWritten | P::PayBegun | P::PayCharged | P::PaySettling | P::PaySettled => {
            let _busy = BUSY.acquire().await;
            after::gateway_dies_while_an_order_is_paid(point).await;
        }
        P::RefundWritten | P::RefundAssessed | P::RefundGivenBack | P::RefundRecorded | P::RefundFinished => {
            let _busy = BUSY.acquire().await;
            after::somebody_dies_while_money_goes_back(point).await;
        }
        P::SaleCreated => {
            let _busy = BUSY.acquire().await;
            sales::gateway_dies_creating(point).await;
        }
        P::SaleChanged => {
            let _busy = BUSY.acquire().await;
            sales::gateway_dies_changing(point).await;
        }
        P::CloseOutRecorded => gateway_dies_closing_out(point).await,
    }
}

pub(crate) async fn gateway_dies_under_load(bed: Bed, point: AbortPoint) {
    // A lane settles apart from its next batch only where there is none for a while.
    let (nth, first) = if point == AbortPoint::SettleAfter { (1, 20) } else { (2, USERS) };
    let mut victim = bed.urls.armed("gateway", GATEWAY, point, nth).await;
    let _worker = bed.urls.worker(&[]).await;
    let sale = victim.open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&victim]);
    let load = buyers.ordering(1..=first, PAUSE);
    died(&mut victim, point).await;
    let fresh = bed.urls.gateway(GATEWAY).await;
    buyers.send_to(&[&fresh]);
    load.await.unwrap();
    buyers.ordering(first + 1..=USERS, PAUSE).await.unwrap();
    buyers.retry_all().await;
    assert_eq!(check(&bed.urls, &fresh, sale, STOCK, &buyers).await, STOCK);
}

pub(crate) async fn recoverer_dies(bed: Bed, point: AbortPoint) {
    let mut victim = bed.urls.armed("gateway", GATEWAY, point, 1).await;
    let _worker = bed.urls.worker(&[]).await;
    let sale = victim.open_sale(STOCK).await;
    // As a gateway that dies after the reservation.
    let backend = bed.urls.backend();
    let claim = claim(USERS + 1);
    backend.gate.reserve(SaleId(sale), 1, &[], &[claim]).await.unwrap();
    died(&mut victim, point).await;
    let fresh = bed.urls.gateway(GATEWAY).await;
    let buyers = Buyers::of(sale, &[&fresh]);
    assert_eq!(buyers.order(USERS + 1).await, Some(claim.order_id.0));
    buyers.ordering(1..=USERS, PAUSE).await.unwrap();
    assert_eq!(check(&bed.urls, &fresh, sale, STOCK, &buyers).await, STOCK);
}

pub(crate) async fn worker_dies_under_load(bed: Bed, point: AbortPoint) {
    let gateway = bed.urls.gateway(GATEWAY).await;
    let mut victim = bed.urls.armed("worker", &[], point, 2).await;
    let sale = gateway.open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    let load = buyers.ordering(1..=USERS, PAUSE);
    died(&mut victim, point).await;
    let _fresh = bed.urls.worker(&[]).await;
    load.await.unwrap();
    assert_eq!(check(&bed.urls, &gateway, sale, STOCK, &buyers).await, STOCK);
}

/// An order that the ledger has and the gate does not, as a gate that lost data has it: the user's next order is rejected.
pub(crate) async fn worker_dies_before_it_releases(bed: Bed, point: AbortPoint) {
    let gateway = bed.urls.gateway(GATEWAY).await;
    let mut victim = bed.urls.armed("worker", &[], point, 2).await;
    let sale = gateway.open_sale(STOCK).await;
    let backend = bed.urls.backend();
    backend.ledger.id().await.unwrap();
    let first = claim(7);
    let batch = OrderBatch::new(SaleId(sale), 1, vec![first]);
    backend.queue.publisher().await.unwrap().publish(&batch).await.unwrap();
    eventually(HEALED, async || backend.ledger.order(first.order_id).await.unwrap().ok_or("no row")).await;
    let second = accepted(gateway.order(sale, 7).await);
    died(&mut victim, point).await;
    // Recorded, and the gate still holds it.
    let recorded = backend.ledger.order(second).await.unwrap().unwrap();
    assert!(recorded.rejected.is_some(), "{recorded:?}");
    let held = backend.gate.holdings(UserId(7), &[SaleId(sale)]).await.unwrap();
    assert_eq!(held.len(), 1, "{held:?}");
    let _fresh = bed.urls.worker(&[]).await;
    eventually(HEALED, async || {
        let held = backend.gate.holdings(UserId(7), &[SaleId(sale)]).await.unwrap();
        if held.is_empty() { Ok(()) } else { Err(held) }
    })
    .await;
    // The gate is told of the first order by a rebuild.
    repair(&gateway, "rebuild", sale).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    assert_eq!(buyers.order(7).await, Some(first.order_id.0));
    buyers.ordering(101..=100 + USERS, PAUSE).await.unwrap();
    assert_eq!(check(&bed.urls, &gateway, sale, STOCK, &buyers).await, STOCK);
}

pub(crate) async fn rebuild_owner_dies(bed: Bed, point: AbortPoint) {
    let gateway = bed.urls.gateway(GATEWAY).await;
    // So slow that most orders still wait in the queue when it dies.
    let mut victim = bed.urls.armed("worker", &["--drain-rate", "10"], point, 1).await;
    let sale = gateway.open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    buyers.ordering(1..=30, PAUSE).await.unwrap();
    let load = buyers.ordering(31..=USERS, PAUSE);
    // With the old gate there, and without it.
    if matches!(point, AbortPoint::RebuildFenced | AbortPoint::RebuildResent | AbortPoint::RebuildStaged) {
        repair_begins(&gateway, sale).await;
    } else {
        bed.cluster.flush_redis().await;
    }
    died(&mut victim, point).await;
    let _fresh = bed.urls.worker(&[]).await;
    load.await.unwrap();
    buyers.retry_all().await;
    assert_eq!(check(&bed.urls, &gateway, sale, STOCK, &buyers).await, STOCK);
}

pub(crate) async fn gateway_dies_reconciling(bed: Bed, point: AbortPoint) {
    let mut victim = bed.urls.armed("gateway", GATEWAY, point, 1).await;
    // More than one batch is lost.
    let (stock, users) = (400, 300);
    let sale = victim.open_sale(stock).await;
    let buyers = Buyers::of(sale, &[&victim]);
    buyers.ordering(1..=users, Duration::from_millis(2)).await.unwrap();
    bed.lose_queue().await;
    let _worker = bed.urls.worker(&[]).await;
    let asked = run(&["reconcile", &sale.to_string(), "--server", &victim.url()]).await;
    assert!(!asked.status.success(), "{}", text(&asked));
    died(&mut victim, point).await;
    let fresh = bed.urls.gateway(GATEWAY).await;
    buyers.send_to(&[&fresh]);
    let sold = check(&bed.urls, &fresh, sale, stock, &buyers).await;
    assert_eq!(u64::from(sold), users);
    buyers.retry_all().await;
}

async fn gateway_dies_redriving(point: AbortPoint) {
    let bed = Bed::start().await;
    let mut victim = bed.urls.armed("gateway", GATEWAY, point, 1).await;
    let sale = victim.open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&victim]);
    buyers.order(1).await.unwrap();
    bed.cluster.vhost().delete_queue(QUEUE).await;
    buyers.order(1).await.unwrap();
    // User 1's lane has its connection, so nothing declares the queue again: what it publishes is unrouted.
    let parked = eventually(HEALED, async || {
        for user in 2..=20 {
            buyers.order(user).await;
        }
        let list = run(&["parked", "list", "--server", &victim.url(), "--json"]).await;
        let list: Value = serde_json::from_slice(&list.stdout).unwrap_or_default();
        match list["messages"][0]["id"].as_str() {
            Some(id) => Ok(id.to_owned()),
            None => Err(list),
        }
    })
    .await;
    let _worker = bed.urls.worker(&[]).await;
    let redriven = run(&["parked", "redrive", &parked, "--server", &victim.url()]).await;
    assert!(!redriven.status.success(), "{}", text(&redriven));
    died(&mut victim, point).await;
    let fresh = bed.urls.gateway(GATEWAY).await;
    buyers.send_to(&[&fresh]);
    // The message is in both places, and may be moved again; so may all the others.
    let mut moved = 0;
    loop {
        let list = run(&["parked", "list", "--server", &fresh.url(), "--json"]).await;
        let list: Value = serde_json::from_slice(&list.stdout).unwrap();
        let Some(id) = list["messages"][0]["id"].as_str() else { break };
        let redriven = run(&["parked", "redrive", id, "--server", &fresh.url()]).await;
        assert!(redriven.status.success(), "{}", text(&redriven));
        moved += 1;
    }
    assert!(moved > 0, "the message is in the queue and parked");
    buyers.ordering(21..=USERS, PAUSE).await.unwrap();
    assert_eq!(check(&bed.urls, &fresh, sale, STOCK, &buyers).await, STOCK);
}

/// A worker dies between the confirm of a message that it moves and the acknowledgement: the message is in both queues.
async fn worker_dies_moving_newer(point: AbortPoint) {
    let bed = Bed::start().await;
    let gateway = bed.urls.gateway(GATEWAY).await;
    let sale = gateway.open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&gateway]);
    buyers.ordering(1..=USERS, PAUSE).await.unwrap();
    let (connection, channel) = channel(&bed.urls).await;
    // Too new for the worker, or as if a still older one had set it aside.
    let aside = if point == AbortPoint::NewerSetAside { (QUEUE, 4) } else { (NEWER, 3) };
    let written = rewrite(&channel, (QUEUE, 3), aside).await;
    assert!(written > 0);
    connection.close(200, "done".into()).await.unwrap();
    let mut victim = bed.urls.armed("worker", &[], point, 1).await;
    died(&mut victim, point).await;
    let mut fresh = bed.urls.worker(&[]).await;
    if point == AbortPoint::NewerSetAside {
        let (_connection, channel) = self::channel(&bed.urls).await;
        eventually(HEALED, async || match messages(&channel, NEWER).await {
            aside if aside > written => Ok(()),
            aside => Err(aside),
        })
        .await;
        fresh.kill().await;
        assert!(rewrite(&channel, (NEWER, 4), (QUEUE, 3)).await > written, "one of them is there twice");
        fresh = bed.urls.worker(&[]).await;
    }
    assert_eq!(check(&bed.urls, &gateway, sale, STOCK, &buyers).await, STOCK);
    drop(fresh);
}

async fn gateway_dies_closing_out(point: AbortPoint) {
    let bed = Bed::start().await;
    let mut victim = bed.urls.armed("gateway", GATEWAY, point, 1).await;
    let _worker = bed.urls.worker(&[]).await;
    let sale = victim.open_sale(STOCK).await;
    let buyers = Buyers::of(sale, &[&victim]);
    buyers.ordering(1..=USERS, PAUSE).await.unwrap();
    clean(&victim, sale).await;
    // The sale ended two hours ago.
    let mut mysql = MySqlConnection::connect(&bed.urls.mysql).await.unwrap();
    let past =
        "UPDATE sales SET starts_at = starts_at - INTERVAL 3 HOUR, ends_at = starts_at + INTERVAL 1 HOUR";
    mysql.execute(past).await.unwrap();
    died(&mut victim, point).await;
    let fresh = bed.urls.gateway(GATEWAY).await;
    let backend = bed.urls.backend();
    eventually(HEALED, async || match backend.gate.level(SaleId(sale)).await.unwrap() {
        None => Ok(()),
        level => Err(level),
    })
    .await;
    let shown = fresh.sale(sale).await;
    assert_eq!(shown.sale.state, SaleState::ClosedOut, "{shown:?}");
    buyers.send_to(&[&fresh]);
    buyers.retry_all().await;
    assert_eq!(check(&bed.urls, &fresh, sale, STOCK, &buyers).await, STOCK);
}

/// Runs `seckill rebuild` or `seckill reconcile` to its end.
async fn repair(gateway: &Role, command: &str, sale: u64) {
    let output = run(&[command, &sale.to_string(), "--server", &gateway.url()]).await;
    assert!(output.status.success(), "{}", text(&output));
}

/// Asks for a rebuild and does not wait for its end.
async fn repair_begins(gateway: &Role, sale: u64) {
    gateway.admin().rebuild(SaleId(sale)).await.unwrap();
}

fn claim(user: u64) -> Claim {
    Claim { order_id: OrderId::generate(), user_id: UserId(user), quantity: 1, accepted_at: now() }
}
