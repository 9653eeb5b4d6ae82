//! Reconciling: what the gate has set aside and neither queue nor ledger has is sent again from the gate, under its own order
//! ids. So a queue that was purged or lost, messages that were parked, and a ledger restored from a backup heal by themselves.
//! And closing out: an hour after its end a sale whose every order is recorded gives its gate back.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use seckill_api::Reconciled;
use seckill_core::{
    AbortPoint, AuditReport, Backend, Claim, Dependency, Fault, GateCondition, HolderPage, MAX_BATCH_ORDERS,
    OrderBatch, Sale, SaleId, SaleState, Verdict, abort_point,
};
use tokio::time::Instant;

use crate::directory::Directory;

/// Pause between two looks at all sales.
const INTERVAL: Duration = Duration::from_secs(5);
/// A sale's holders are compared one by one no more often than this.
const AGAIN: Duration = Duration::from_secs(60);
/// The pause after a comparison is at least so many times as long as the comparison: it takes at most a twentieth of the time.
const REST: u32 = 19;
/// Holders that one page reads, and order ids that one question to the ledger has.
const PAGE: usize = 400;
/// How long after its end a sale is closed out at the earliest.
const CLOSE_OUT_AFTER: chrono::Duration = chrono::Duration::hours(1);

/// Looks after every sale of `directory`; never returns. May be dropped at any point: what was sent again is taken once.
pub async fn run(backend: Backend, directory: &Directory) {
    let mut scanned = Scanned::default();
    let mut removed: HashSet<SaleId> = HashSet::new();
    let mut lost: HashMap<SaleId, u64> = HashMap::new();
    loop {
        for desk in directory.desks().into_iter().filter(|desk| desk.sale.state == SaleState::ClosedOut) {
            // Once a process and sale: whoever closed it out may have been killed before this.
            if !removed.contains(&desk.sale.id) && backend.gate.remove(desk.sale.id).await.is_ok() {
                removed.insert(desk.sale.id);
            }
        }
        for desk in directory.desks().into_iter().filter(|desk| desk.has_gate()) {
            if desk.sale.state != SaleState::Open {
                continue;
            }
            match look_after(&backend, &desk.sale, &mut scanned).await {
                Ok(Look::Unchanged) => {}
                Ok(Look::Lost(orders)) => {
                    lost.insert(desk.sale.id, orders);
                    if orders > 0 {
                        tracing::warn!(sale_id = %desk.sale.id, orders, "orders are lost and are sent again");
                    }
                }
                Err(fault) => {
                    tracing::warn!(sale_id = %desk.sale.id, error = %fault, "a sale cannot be reconciled");
                }
            }
        }
        lost.retain(|sale, _| directory.get(*sale).is_some_and(|desk| desk.has_gate()));
        metrics::gauge!("seckill_lost_orders").set(lost.values().sum::<u64>() as f64);
        tokio::time::sleep(INTERVAL).await;
    }
}

/// What one look at a sale has found.
enum Look {
    /// Orders are on their way, so nothing new is known.
    Unchanged,
    /// So many orders are at the gate and not in the ledger, and nothing can bring them any more.
    Lost(u64),
}

async fn look_after(backend: &Backend, sale: &Sale, scanned: &mut Scanned) -> Result<Look, Fault> {
    let Some(progress) = backend.gate.progress(sale.id).await? else { return Ok(Look::Unchanged) };
    if progress.nothing_can_arrive() {
        // At rest the counts tell whether anything is missing, and how much. Not only once a marker: the ledger may have been
        // restored from a backup since.
        let Some(level) = backend.gate.level(sale.id).await? else { return Ok(Look::Unchanged) };
        let recorded = backend.ledger.sale(sale.id).await?.map_or(0, |sale| sale.orders);
        let lost = level.orders.saturating_sub(level.pending_orders + recorded);
        if lost == 0 {
            scanned.remove(&sale.id);
            close_out(backend, sale).await?;
        } else if scanned.is_due(sale.id, Instant::now())
            && let Err(fault) = compare(backend, sale, progress.settled_before_ms(), scanned).await
        {
            // They are lost all the same.
            tracing::warn!(sale_id = %sale.id, error = %fault, "lost orders cannot be sent again yet");
        }
        return Ok(Look::Lost(lost));
    }
    let due = progress.settled_before_ms().filter(|before| *before > progress.reconciled_ms);
    if let Some(before) = due
        && scanned.is_due(sale.id, Instant::now())
    {
        return Ok(Look::Lost(compare(backend, sale, Some(before), scanned).await?.sent_again));
    }
    Ok(Look::Unchanged)
}

/// Reconciles a sale, and notes when, for how long and with what result.
async fn compare(
    backend: &Backend,
    sale: &Sale,
    before_ms: Option<u64>,
    scanned: &mut Scanned,
) -> Result<Reconciled, Fault> {
    let began = Instant::now();
    let done = reconcile(backend, sale, before_ms).await;
    let found = match &done {
        Ok(Reconciled { sent_again: 0, .. }) => Found::NothingMissing,
        Ok(_) => Found::Missing,
        Err(_) => Found::Unknown,
    };
    let now = Instant::now();
    scanned.note(sale.id, now, now - began, found);
    done
}

/// What a comparison of a sale's holders with the ledger came to.
#[derive(Clone, Copy)]
enum Found {
    /// The ledger has every order.
    NothingMissing,
    /// Orders were sent again.
    Missing,
    /// A fault ended it.
    Unknown,
}

/// When each sale's holders were last compared one by one, and when that is due again.
#[derive(Default)]
struct Scanned(HashMap<SaleId, Scan>);

#[derive(Clone, Copy)]
struct Scan {
    at: Instant,
    pause: Duration,
    /// How often in a row orders were missing.
    in_vain: u32,
}

impl Scanned {
    fn is_due(&self, sale: SaleId, now: Instant) -> bool {
        self.0.get(&sale).is_none_or(|scan| now.duration_since(scan.at) >= scan.pause)
    }

    /// After orders were sent again the pauses grow from one minute to 32: an order that never arrives, because the ledger
    /// cannot take it, must not go round for ever. Where nothing was missing, a long comparison is followed by a long pause.
    fn note(&mut self, sale: SaleId, now: Instant, took: Duration, found: Found) {
        let in_vain = self.0.get(&sale).map_or(0, |scan| scan.in_vain);
        let (pause, in_vain) = match found {
            Found::NothingMissing => (AGAIN.max(took * REST), 0),
            Found::Missing => (AGAIN * 2_u32.pow(in_vain.min(5)), in_vain + 1),
            Found::Unknown => (AGAIN, in_vain),
        };
        self.0.insert(sale, Scan { at: now, pause, in_vain });
    }

    fn remove(&mut self, sale: &SaleId) {
        self.0.remove(sale);
    }
}

/// Compares the sale's holders with the ledger and sends again what is missing: those set aside before `before_ms` by the gate's
/// clock, or all. An order that only waits in the queue is sent a second time then, which is harmless.
///
/// # Errors
/// A part of the system is away. What was sent again so far may arrive; calling it again is safe.
pub async fn reconcile(backend: &Backend, sale: &Sale, before_ms: Option<u64>) -> Result<Reconciled, Fault> {
    let mut done = Reconciled::default();
    let mut publisher = None;
    let mut cursor = None;
    loop {
        let HolderPage { holders, next } = backend.gate.holders(sale.id, cursor, PAGE).await?;
        let old = holders.iter().filter(|holder| before_ms.is_none_or(|before| holder.set_aside_ms < before));
        let claims: Vec<Claim> = old.map(|holder| holder.claim).collect();
        for some in claims.chunks(PAGE) {
            done.compared += some.len() as u64;
            let ids: Vec<_> = some.iter().map(|claim| claim.order_id).collect();
            let missing = backend.ledger.missing_among(&ids).await?;
            let lost: Vec<Claim> =
                some.iter().filter(|claim| missing.contains(&claim.order_id)).copied().collect();
            for part in lost.chunks(MAX_BATCH_ORDERS) {
                // Before the message: killed in between, the sale only waits for one more marker.
                backend.gate.mark_resending(sale.id).await?;
                abort_point(AbortPoint::ReconcileMarked);
                let sender = match &mut publisher {
                    Some(sender) => sender,
                    none => none.insert(backend.queue.publisher().await?),
                };
                if !sender.accepting() {
                    return Err(Fault::unavailable(Dependency::Queue, "it takes no orders at the moment"));
                }
                sender.publish(&OrderBatch::new(sale.id, sale.epoch, part.to_vec())).await?;
                abort_point(AbortPoint::ReconcileSent);
                done.sent_again += part.len() as u64;
                metrics::counter!("seckill_orders_resent_total").increment(part.len() as u64);
            }
        }
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    if let (0, Some(before)) = (done.sent_again, before_ms) {
        backend.gate.mark_reconciled(sale.id, before).await?;
    }
    Ok(done)
}

/// Gives the gate of a sale back that is over, an hour after its end and with a clean audit. Killed between the two steps, the
/// ledger has the sale closed out, and the next look of any gateway removes what the gate still has.
async fn close_out(backend: &Backend, sale: &Sale) -> Result<(), Fault> {
    if sale.ends_at + CLOSE_OUT_AFTER > seckill_core::now() {
        return Ok(());
    }
    let clean =
        AuditReport::read(backend, sale.id).await?.is_some_and(|audit| audit.verdict == Verdict::Clean);
    // An older copy of the gate may agree with the ledger by chance, while orders wait in the queue.
    let sound = backend.gate.condition(sale.id, sale.epoch).await? == GateCondition::Sound;
    if clean && sound && backend.ledger.close_out(sale.id, sale.revision).await? {
        abort_point(AbortPoint::CloseOutRecorded);
        backend.gate.remove(sale.id).await?;
        tracing::info!(sale_id = %sale.id, "a sale is closed out");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use seckill_testkit::fixtures;

    use super::*;

    const SALE: SaleId = SaleId(1);
    const QUICK: Duration = Duration::from_millis(10);

    /// The pause after `found`, in seconds.
    fn pause_after(scanned: &mut Scanned, took: Duration, found: Found) -> u64 {
        let now = Instant::now();
        scanned.note(SALE, now, took, found);
        let due = |seconds: &u64| scanned.is_due(SALE, now + Duration::from_secs(*seconds));
        (0..10_000).find(due).expect("every pause ends")
    }

    #[test]
    fn a_sale_that_was_never_compared_is_due() {
        assert!(Scanned::default().is_due(SALE, Instant::now()));
    }

    #[test]
    fn pauses_grow_while_orders_are_missing_again_and_again() {
        let mut scanned = Scanned::default();
        for minutes in [1, 2, 4, 8, 16, 32, 32] {
            assert_eq!(pause_after(&mut scanned, QUICK, Found::Missing), 60 * minutes);
        }
        assert_eq!(pause_after(&mut scanned, QUICK, Found::NothingMissing), 60);
        assert_eq!(pause_after(&mut scanned, QUICK, Found::Missing), 60);
    }

    #[test]
    fn a_long_sale_without_losses_and_faults_make_no_pause_longer() {
        let mut scanned = Scanned::default();
        for _ in 0..10 {
            assert_eq!(pause_after(&mut scanned, QUICK, Found::NothingMissing), 60);
            assert_eq!(pause_after(&mut scanned, QUICK, Found::Unknown), 60);
        }
    }

    #[test]
    fn a_comparison_takes_a_twentieth_of_the_time_at_the_most() {
        let mut scanned = Scanned::default();
        assert_eq!(pause_after(&mut scanned, Duration::from_secs(10), Found::NothingMissing), 190);
    }

    /// As an older copy of a gate that agrees with the ledger by chance, while a rebuild is due.
    #[tokio::test]
    async fn a_sale_whose_gate_is_not_sound_is_not_closed_out_though_its_audit_is_clean() {
        let folder = tempfile::tempdir().expect("a folder");
        let backend = seckill_embedded::open(folder.path()).await.expect("the folder can be opened");
        for sound in [false, true] {
            let sale = fixtures::open_sale(&backend, 10, 1).await;
            let over = Sale { ends_at: seckill_core::now() - chrono::Duration::hours(2), ..sale.clone() };
            if !sound {
                backend.gate.fence(sale.id, sale.epoch + 1).await.expect("the gate is there");
            }
            assert_eq!(fixtures::audit(&backend, sale.id).await.verdict, Verdict::Clean);
            close_out(&backend, &over).await.expect("the back end works");
            let state = backend.ledger.sale(sale.id).await.expect("the ledger works").map(|sale| sale.state);
            assert_eq!(state, Some(if sound { SaleState::ClosedOut } else { SaleState::Open }));
        }
    }
}
