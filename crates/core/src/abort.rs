//! Abort points: named places between every two steps that can fail, where a process can be made to kill itself. They are
//! always compiled in, and cost one relaxed load each while none is switched on. `SECKILL_ABORT_AT=name[:nth]` switches one on.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

macro_rules! abort_points {
    ($($variant:ident $name:literal $holds:literal;)*) => {
        /// A place at which a process can be made to kill itself.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "`holds` says of each what a kill there must leave behind")]
        pub enum AbortPoint {
            $($variant,)*
        }

        impl AbortPoint {
            /// All of them, in the order of an order's path.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name, as `SECKILL_ABORT_AT` takes it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// What must hold when a process is killed there.
            pub fn holds(self) -> &'static str {
                match self {
                    $(Self::$variant => $holds,)*
                }
            }
        }
    };
}

abort_points! {
    ReserveBefore "reserve.before" "Nothing was deducted; the buyer tries again.";
    ReserveAfter "reserve.after" "Deducted and in the pending log; nobody was answered 202; the recoverer publishes it.";
    PublishAfter "publish.after" "Queued and pending; the buyer does not know; the order is committed, a retry gets its id.";
    ReplyAfter "reply.after" "Queued, answered, and still pending; the recoverer publishes it once more, the ledger takes it once.";
    SettleAfter "settle.after" "Queued and settled; nothing is left to do for the gateway.";
    RecoverPublished "recover.published" "Published by the recoverer and still pending; it is published once more.";
    CommitBefore "commit.before" "Nothing was written; the messages come again.";
    LedgerBegun "ledger.begun" "The transaction ends with the connection; nothing was written; the messages come again.";
    LedgerInserted "ledger.inserted" "The rows are rolled back with the connection; the messages come again.";
    LedgerUpdated "ledger.updated" "Rows and totals are rolled back together; the messages come again.";
    LedgerCommitted "ledger.committed" "The rows are there; the messages come again and are found in the ledger.";
    ReleaseBefore "release.before" "Rejected orders are recorded and still at the gate; redelivery releases them.";
    AckBefore "ack.before" "The rows are there; the messages come again and are found in the ledger.";
    AckAfter "ack.after" "Rows are there and acknowledged; nothing comes again.";
    RebuildBegun "rebuild.begun" "The sale is rebuilding, and nobody does it; another worker takes it up once the lease is over.";
    RebuildFenced "rebuild.fenced" "The old gate reserves nothing more; another worker begins again after the lease.";
    RebuildResent "rebuild.resent" "What the old gate held is sent again; a second sending is taken once.";
    RebuildSettled "rebuild.settled" "No gateway can promise an order of the old gate any more.";
    RebuildDrained "rebuild.drained" "Every promise is in the ledger; another worker drains again.";
    RebuildStaged "rebuild.staged" "The new filling is unused; the next owner stages it again.";
    RebuildRefilled "rebuild.refilled" "The gate is on the new epoch, the ledger says rebuilding; no order is taken before it is opened.";
    RebuildOpened "rebuild.opened" "The sale is open on the new epoch.";
    ReconcileMarked "reconcile.marked" "Nothing was sent again yet; the sale waits for one more marker.";
    ReconcileSent "reconcile.sent" "Some lost orders are sent again; the next reconciliation compares all once more.";
    RedrivePublished "redrive.published" "The message is in the queue and parked; it can be redriven again, the ledger takes it once.";
    NewerSetAside "newer.set_aside" "The message is set aside and still in the queue; it is set aside once more, the ledger takes it once.";
    NewerReturned "newer.returned" "The message is in the queue and set aside; it is moved back once more, the ledger takes it once.";
    CancelWritten "cancel.written" "State, totals and events are rolled back together; the order is cancelled by the next try.";
    CancelCommitted "cancel.committed" "The order is cancelled, and the event waits in the outbox.";
    RelayClaimed "relay.claimed" "The events are not published; another relay takes them once the lease is over.";
    RelayPublished "relay.published" "The bus has the events and the outbox calls them pending; they are published again, each subscriber takes each once.";
    RelayMarked "relay.marked" "The events are published and marked as sent; nothing comes again.";
    RestockReleased "restock.released" "The units are on sale, the ledger calls them returning; the event comes again, the gate forgets an order once.";
    InboxWritten "inbox.written" "Effect and record are rolled back together; the event comes again.";
    InboxCommitted "inbox.committed" "The event has had its effect and comes again; the record keeps it from a second one.";
    EventTaken "event.taken" "The same, before the acknowledgement.";
    PayWritten "pay.written" "Request, parts and saga are rolled back together; nothing is charged.";
    PayBegun "pay.begun" "The saga is there and the bank has not been asked; whoever looks after it asks, and charges under its key.";
    PayCharged "pay.charged" "The bank has charged and the saga is running; whoever looks after it finds the charge by its key.";
    PaySettling "pay.settling" "State, entries and event are rolled back together; the bank is asked again.";
    PaySettled "pay.settled" "The order is paid, and its event waits in the outbox; the same request gets the same answer.";
    RefundWritten "refund.written" "State, saga and event are rolled back together; nobody has asked for the money.";
    RefundAssessed "refund.assessed" "The decision is rolled back with the record of the event, which comes again.";
    RefundGivenBack "refund.given_back" "The bank has given a part back and nobody has recorded it; the event comes again, and the bank is asked what it knows of the key.";
    RefundRecorded "refund.recorded" "Entries and event are rolled back together; the event before comes again, and the transfer is recorded once.";
    RefundFinished "refund.finished" "The end is rolled back with the record of the event, which comes again.";
    SaleCreated "sale.created" "The sale is in the ledger with its key and has no gate; any gateway fills it, and the same key finds the sale.";
    SaleChanged "sale.changed" "The ledger has the change and the gate lacks it; the next look of any gateway applies it once.";
    CloseOutRecorded "close_out.recorded" "The ledger calls the sale closed out; the next look removes what the gate has.";
}

static ARMED: AtomicBool = AtomicBool::new(false);
static PASSES: AtomicU64 = AtomicU64::new(0);
static TARGET: OnceLock<Target> = OnceLock::new();

struct Target {
    point: AbortPoint,
    nth: u64,
    kill: fn(),
}

/// Marks a place. Where it is the one that is switched on, and this is the time that was asked for, the process is killed.
#[inline]
pub fn abort_point(point: AbortPoint) {
    if ARMED.load(Relaxed) {
        pass(point);
    }
}

#[cold]
fn pass(point: AbortPoint) {
    let Some(target) = TARGET.get().filter(|target| target.point == point) else { return };
    if PASSES.fetch_add(1, Relaxed) + 1 == target.nth {
        (target.kill)();
    }
}

/// Switches one point on, for the rest of the process's life: `name`, or `name:nth` for the nth time that it is passed. `kill` ends
/// the process at once.
///
/// # Errors
/// A sentence, where there is no such point, or one is switched on already.
pub fn arm_abort_point(text: &str, kill: fn()) -> Result<(), String> {
    let (name, nth) = text.split_once(':').unwrap_or((text, "1"));
    let point = AbortPoint::ALL.iter().copied().find(|point| point.name() == name);
    let point = point
        .ok_or_else(|| format!("there is no abort point {name:?}; `seckill abort-points` lists them"))?;
    let nth = nth.parse().ok().filter(|nth| *nth > 0);
    let nth =
        nth.ok_or_else(|| format!("{text:?} must be a name, or a name and a number from 1, like {name}:3"))?;
    TARGET
        .set(Target { point, nth, kill })
        .map_err(|_| "an abort point is switched on already".to_owned())?;
    ARMED.store(true, Relaxed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_point_has_a_name_of_its_own() {
        let names: HashSet<_> = AbortPoint::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), AbortPoint::ALL.len());
    }

    #[test]
    fn the_nth_time_kills_and_wrong_names_are_refused() {
        static KILLED: AtomicU64 = AtomicU64::new(0);
        let kill = || {
            KILLED.fetch_add(1, Relaxed);
        };
        assert!(arm_abort_point("nonsense", kill).unwrap_err().contains("abort-points"));
        assert!(arm_abort_point("ack.after:0", kill).unwrap_err().contains("from 1"));
        arm_abort_point("ack.after:2", kill).unwrap();
        abort_point(AbortPoint::AckBefore);
        abort_point(AbortPoint::AckAfter);
        assert_eq!(KILLED.load(Relaxed), 0);
        abort_point(AbortPoint::AckAfter);
        abort_point(AbortPoint::AckAfter);
        assert_eq!(KILLED.load(Relaxed), 1);
        assert!(arm_abort_point("ack.after", kill).is_err());
    }
}
