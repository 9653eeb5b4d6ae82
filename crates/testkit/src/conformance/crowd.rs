//! Many at once: what each port has to keep under a crowd, and the whole path under one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use seckill_core::{
    Backend, Claim, Decision, Delivery, Fate, GateLevel, LedgerTotals, Mode, Order, OrderBatch, OrderId,
    RejectReason, Sale, UserId, Verdict,
};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::support::{DEADLINE, NEVER, Subject, assert_totals, commit_at_last, is_empty, reserve_at_last};
use crate::eventually;
use crate::fixtures::{EPOCH, audit, claim_of, claims, level, new_sale, open_sale, order_of};

/// A thousand lanes at once, with batches of every size, users who come twice, and calls that are made again: every
/// unit is in one place, and nobody has two orders.
pub async fn a_thousand_tasks_do_not_oversell(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 2_500, 3).await;
    let mut tasks = JoinSet::new();
    for task in 0..1_000_u64 {
        let (gate, sale) = (Arc::clone(&backend.gate), sale.id);
        // Of two tasks in a row each user may be in both.
        let claims: Vec<_> = (0..=task % 8)
            .map(|at| claim_of(task / 2 * 8 + at, u32::try_from(1 + (task + at) % 3).unwrap()))
            .collect();
        tasks.spawn(async move {
            let mut decisions = reserve_at_last(gate.as_ref(), sale, &[], &claims).await.decisions;
            if task % 4 == 0 {
                let first = decisions;
                decisions = reserve_at_last(gate.as_ref(), sale, &[], &claims).await.decisions;
                let is_reserved = |decision: &Decision| *decision == Decision::Reserved;
                assert!(first.iter().map(is_reserved).eq(decisions.iter().map(is_reserved)));
            }
            (claims, decisions)
        });
    }
    let mut buyers = Buyers::default();
    while let Some(ended) = tasks.join_next().await {
        let (claims, decisions) = ended.unwrap();
        assert_eq!(claims.len(), decisions.len());
        claims.iter().zip(decisions).for_each(|(claim, decision)| buyers.note(claim, decision));
    }
    let (orders, units) = buyers.count();
    let now = GateLevel { epoch: EPOCH, remaining: sale.stock - units, orders, pending_orders: orders };
    assert_eq!(level(&backend, sale.id).await, now);
    assert!(now.remaining < 3, "{now:?}: units are left that somebody wanted");
    let pending = backend.gate.stranded(sale.id, Duration::ZERO, 10_000).await.unwrap();
    let pending: u32 = pending.iter().flat_map(|entry| &entry.claims).map(|claim| claim.quantity).sum();
    assert_eq!(pending, units, "the pending log holds exactly what is set aside");
}

/// The answers to the buyers of one sale.
#[derive(Default)]
struct Buyers {
    /// Units by user, of those whose own claim was reserved.
    reserved: HashMap<UserId, u32>,
    /// The order in the answers to each user, reserved or replayed, and its units.
    answered: HashMap<UserId, (OrderId, u32)>,
}

impl Buyers {
    fn note(&mut self, claim: &Claim, decision: Decision) {
        let held = match decision {
            Decision::Reserved => {
                let another = self.reserved.insert(claim.user_id, claim.quantity);
                assert_eq!(another, None, "two orders of one user");
                (claim.order_id, claim.quantity)
            }
            Decision::Replayed { order_id, quantity, .. } => (order_id, quantity),
            Decision::SoldOut { remaining } => return assert!(remaining < claim.quantity),
            other => panic!("{claim:?} was {other:?}"),
        };
        assert_eq!(*self.answered.entry(claim.user_id).or_insert(held), held, "a user got two orders");
    }

    /// Orders and units that were reserved.
    fn count(&self) -> (u64, u32) {
        let replayed_only = self.answered.keys().find(|user| !self.reserved.contains_key(user));
        assert_eq!(replayed_only, None, "this user got an order that nobody reserved");
        (self.reserved.len() as u64, self.reserved.values().sum())
    }
}

/// Workers that are each given the same orders, in different order and cut: each order has one end, and every
/// writer gets the same one.
pub async fn concurrent_writers_give_each_order_one_end(Subject { backend, .. }: Subject) {
    const WRITERS: usize = 8;
    let mut sales = Vec::new();
    for stock in [100, 60] {
        sales.push(backend.ledger.create_sale(&new_sale(stock, 2), Mode::Queue).await.unwrap());
    }
    // Several orders of each user, and more users in either sale than it has units.
    let orders: Vec<_> = (0..480_u64)
        .map(|at| {
            let sale = &sales[usize::from(at % 3 == 0)];
            order_of(sale.id, at / 2 % 120, u32::try_from(1 + at % 2).unwrap())
        })
        .collect();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let mut orders = orders.clone();
        orders.rotate_left(writer * 57);
        if writer % 2 == 1 {
            orders.reverse();
        }
        writers.spawn(commit_in_batches(backend.clone(), orders));
    }
    let mut fates: HashMap<OrderId, Vec<Fate>> = HashMap::new();
    for (id, fate) in writers.join_all().await.into_iter().flatten() {
        fates.entry(id).or_default().push(fate);
    }
    let mut expected = vec![LedgerTotals::default(); sales.len()];
    for order in &orders {
        let fates = &fates[&order.claim.order_id];
        assert_eq!(fates.len(), WRITERS);
        let reason = the_one_end(fates);
        let found = backend.ledger.order(order.claim.order_id).await.unwrap().unwrap();
        let kept = (found.sale_id, found.claim, found.rejected);
        assert_eq!(kept, (order.sale_id, order.claim, reason), "the writers got {fates:?}");
        let totals = &mut expected[usize::from(order.sale_id == sales[1].id)];
        let units = u64::from(order.claim.quantity);
        match reason {
            None => (totals.orders, totals.units) = (totals.orders + 1, totals.units + units),
            Some(_) => {
                totals.rejected_orders += 1;
                totals.rejected_units += units;
            }
        }
    }
    for (sale, expected) in sales.iter().zip(expected) {
        assert_totals(&backend, sale, expected).await;
        assert!(expected.units <= u64::from(sale.stock), "{expected:?} of {}", sale.stock);
        assert!(
            expected.units + 2 > u64::from(sale.stock),
            "{expected:?}: units are left that somebody wanted"
        );
    }
}

async fn commit_in_batches(backend: Backend, orders: Vec<Order>) -> Vec<(OrderId, Fate)> {
    let mut writer = backend.ledger.writer().await.unwrap();
    let mut fates = Vec::new();
    for batch in orders.chunks(40) {
        let new = commit_at_last(writer.as_mut(), batch).await;
        fates.extend(batch.iter().map(|order| order.claim.order_id).zip(new));
    }
    fates
}

/// Why the order was rejected, on which all writers have to agree; one of them at the most was there first. No answer
/// says so where the answer to that one was lost.
fn the_one_end(fates: &[Fate]) -> Option<RejectReason> {
    let firsts = fates.iter().filter(|fate| matches!(fate, Fate::Committed | Fate::Rejected(_)));
    assert!(firsts.count() <= 1, "{fates:?}");
    let reason = |fate: &Fate| match *fate {
        Fate::Committed | Fate::AlreadyCommitted => None,
        Fate::Rejected(reason) | Fate::AlreadyRejected(reason) => Some(reason),
    };
    let ends = fates.iter().map(reason);
    assert!(ends.clone().all(|end| end == reason(&fates[0])), "{fates:?}");
    reason(&fates[0])
}

/// A small flash sale: lanes and workers at once, more buyers than units, retries and redeliveries among them.
pub async fn buyers_at_once_get_every_unit_and_no_more(Subject { backend, .. }: Subject) {
    let sale = open_sale(&backend, 500, 1).await;
    let mut lanes = JoinSet::new();
    for lane in 0..8 {
        // Neighbouring lanes have half of their buyers in common.
        lanes.spawn(run_lane(backend.clone(), sale.clone(), lane * 100));
    }
    let mut workers = JoinSet::new();
    for _ in 0..3 {
        workers.spawn(run_worker(backend.clone()));
    }
    while let Some(lane) = lanes.join_next().await {
        lane.unwrap();
    }
    eventually(DEADLINE, async || {
        let report = audit(&backend, sale.id).await;
        assert_ne!(report.verdict, Verdict::Violated, "{report:?}");
        let depth = backend.queue.depth().await.map_err(|fault| fault.to_string())?;
        let done = report.verdict == Verdict::Clean && is_empty(depth);
        if done { Ok(()) } else { Err(format!("{depth:?}, {report:?}")) }
    })
    .await;
    workers.abort_all();
    while let Some(end) = workers.join_next().await {
        assert!(end.is_err_and(|error| error.is_cancelled()), "a worker panicked");
    }
    let report = audit(&backend, sale.id).await;
    assert_eq!(
        (report.verdict, report.sold, report.committed_orders, report.rejected_orders, report.remaining),
        (Verdict::Clean, 500, 500, 0, Some(0)),
        "{report:?}"
    );
}

/// What a gateway lane does for 200 buyers, 20 at a time.
async fn run_lane(backend: Backend, sale: Sale, first_user: u64) {
    let mut publisher = backend.queue.publisher().await.unwrap();
    let mut settled = Vec::new();
    for first in (first_user..first_user + 200).step_by(20) {
        let claims = claims(first..first + 20);
        let reserved = reserve_at_last(backend.gate.as_ref(), sale.id, &settled, &claims).await;
        settled.clear();
        let orders: Vec<_> = claims
            .iter()
            .zip(&reserved.decisions)
            .filter_map(|(claim, decision)| (*decision == Decision::Reserved).then_some(*claim))
            .collect();
        if !orders.is_empty() {
            publisher.publish(&OrderBatch::new(sale.id, EPOCH, orders)).await.unwrap();
            settled.extend(reserved.reservation);
        }
    }
    backend.gate.settle(sale.id, &settled).await.unwrap();
}

/// A worker that leaves a delivery unacknowledged now and then, and after five of them takes a new consumer: what the
/// old one held is delivered again.
async fn run_worker(backend: Backend) {
    let mut writer = backend.ledger.writer().await.unwrap();
    for turn in 0_u32.. {
        let mut consumer = backend.queue.consumer(4).await.unwrap();
        for at in 0..5 {
            // Nothing more for a while: it may be held back here, unacknowledged.
            let Ok(delivery) = timeout(NEVER, consumer.next()).await else { break };
            let Delivery { batch, tag } = delivery.unwrap();
            let orders: Vec<_> = batch.into_orders().collect();
            commit_at_last(writer.as_mut(), &orders).await;
            if (turn + at) % 4 != 3 {
                consumer.ack(tag).await.unwrap();
            }
        }
    }
}
