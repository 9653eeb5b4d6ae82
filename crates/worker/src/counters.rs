//! Counters that are there from the start, at 0. Prometheus takes the first value that it sees for the beginning, so without this the
//! first increase of each would be missing in every rate.

use seckill_core::RejectReason;

/// Shows the counters of a worker.
pub(crate) fn show() {
    for reason in RejectReason::ALL {
        metrics::counter!("seckill_orders_rejected_total", "reason" => reason.as_str()).increment(0);
    }
    for name in [
        "seckill_orders_committed_total",
        "seckill_orders_redelivered_total",
        "seckill_worker_faults_total",
        "seckill_parked_messages_total",
        "seckill_newer_messages_total",
        "seckill_rebuilds_total",
        "seckill_rebuild_faults_total",
    ] {
        metrics::counter!(name).increment(0);
    }
}
