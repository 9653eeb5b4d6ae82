//! Counters that are there from the start, at 0. Prometheus takes the first value that it sees for the beginning, so without this the
//! first increase of each would be missing in every rate.

use seckill_core::Mode;

/// How a request for an order can end that has a gate or a queue behind it, beside what anybody may do wrong.
const OUTCOMES: [&str; 12] = [
    "accepted",
    "replayed",
    "sold-out",
    "order-differs",
    "not-open",
    "closed",
    "paused",
    "rate-limited",
    "overloaded",
    "unavailable",
    "rebuilding",
    "outcome-unknown",
];

/// Shows the counters of a gateway of this mode.
pub(crate) fn show(mode: Mode) {
    let claims = match mode {
        Mode::Queue => "seckill_claims_total",
        Mode::Direct => "seckill_direct_claims_total",
    };
    for outcome in OUTCOMES {
        metrics::counter!(claims, "outcome" => outcome).increment(0);
    }
    for source in ["memory", "gate", "ledger"] {
        metrics::counter!("seckill_order_reads_total", "source" => source).increment(0);
    }
    for name in [
        "seckill_order_requests_total",
        "seckill_sold_out_from_memory_total",
        "seckill_connections_refused_total",
        "seckill_lane_panics_total",
        "seckill_orders_recovered_total",
        "seckill_orders_resent_total",
        "seckill_queue_refusals_total",
        "seckill_fates_heard_total",
        "seckill_fates_dropped_total",
        "seckill_tickets_total",
    ] {
        metrics::counter!(name).increment(0);
    }
}
