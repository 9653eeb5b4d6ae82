//! Reads a process's own metrics from the text that Prometheus reads, so that the page and Prometheus have the same numbers.

use std::collections::BTreeMap;

use seckill_core::Histogram;

/// The series of `/metrics` that the page shows.
const SERIES: [&str; 19] = [
    "seckill_order_requests_total",
    "seckill_claims_total",
    "seckill_orders_committed_total",
    "seckill_orders_rejected_total",
    "seckill_orders_redelivered_total",
    "seckill_orders_recovered_total",
    "seckill_parked_messages_total",
    "seckill_held_orders",
    "seckill_worker_faults_total",
    "seckill_payments_total",
    "seckill_orders_cancelled_total",
    "seckill_refunds_total",
    "seckill_refunds_denied_total",
    "seckill_events_taken_total",
    "seckill_outbox_pending_events",
    "seckill_outbox_parked_events",
    "seckill_outbox_age_seconds",
    "seckill_subscriber_waiting_events",
    "seckill_subscriber_parked_events",
];
const HISTOGRAMS: [&str; 3] = ["seckill_intake_batch_orders", "seckill_commit_batch_orders", COMMIT_SECONDS];
/// How long each ledger transaction took.
pub(crate) const COMMIT_SECONDS: &str = "seckill_commit_seconds";
/// The route of orders: the only one whose latency the page shows.
const ORDERS_ROUTE: &str = "http_route=\"/api/v1/sales/{id}/orders\"";
const ORDERS_METHOD: &str = "http_request_method=\"POST\"";
const REQUESTS: &str = "http_server_request_duration_seconds";
/// The name of their histogram in a snapshot.
pub(crate) const ACCEPT_SECONDS: &str = "accept_seconds";

/// The parts of `/metrics` that the page shows: series by name with labels, histograms by name over all labels.
pub(crate) fn scrape(exposition: &str) -> (BTreeMap<String, f64>, BTreeMap<String, Histogram>) {
    let (mut series, mut histograms) = (BTreeMap::new(), BTreeMap::<String, Histogram>::new());
    for line in exposition.lines().filter(|line| !line.starts_with('#')) {
        let Some((key, value)) = line.rsplit_once(' ') else { continue };
        let Ok(value) = value.parse::<f64>() else { continue };
        let (name, labels) = key.split_once('{').unwrap_or((key, ""));
        if SERIES.contains(&name) {
            series.insert(key.to_owned(), value);
        } else if let Some(base) = base_of(name) {
            if base == REQUESTS {
                if labels.contains(ORDERS_ROUTE) && labels.contains(ORDERS_METHOD) {
                    add(histograms.entry(ACCEPT_SECONDS.to_owned()).or_default(), name, labels, value);
                }
            } else if HISTOGRAMS.contains(&base) {
                add(histograms.entry(base.to_owned()).or_default(), name, labels, value);
            }
        }
    }
    (series, histograms)
}

fn base_of(name: &str) -> Option<&str> {
    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end))
}

fn add(histogram: &mut Histogram, name: &str, labels: &str, value: f64) {
    if name.ends_with("_sum") {
        histogram.sum += value;
    } else if name.ends_with("_count") {
        histogram.count += value;
    } else if let Some(bound) = bound(labels) {
        match histogram.buckets.iter_mut().find(|(known, _)| *known == bound) {
            Some((_, count)) => *count += value,
            None => histogram.buckets.push((bound, value)),
        }
    }
}

/// The upper bound of a bucket; `None` for the infinite one, whose value is the count.
fn bound(labels: &str) -> Option<f64> {
    let (_, rest) = labels.split_once("le=\"")?;
    rest.split_once('"')?.0.parse().ok().filter(|bound: &f64| bound.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# TYPE seckill_claims_total counter
seckill_claims_total{outcome="accepted"} 7
seckill_claims_total{outcome="sold_out"} 3
other_total 9
http_server_request_duration_seconds_bucket{http_request_method="POST",http_route="/api/v1/sales/{id}/orders",http_response_status_code="202",le="0.001"} 4
http_server_request_duration_seconds_bucket{http_request_method="POST",http_route="/api/v1/sales/{id}/orders",http_response_status_code="409",le="0.001"} 2
http_server_request_duration_seconds_bucket{http_request_method="POST",http_route="/api/v1/sales/{id}/orders",http_response_status_code="409",le="+Inf"} 3
http_server_request_duration_seconds_count{http_request_method="POST",http_route="/api/v1/sales/{id}/orders",http_response_status_code="409"} 3
http_server_request_duration_seconds_count{http_request_method="GET",http_route="/api/v1/sales/{id}",http_response_status_code="200"} 5
seckill_commit_seconds_sum 1.5
seckill_commit_seconds_count 30
"#;

    #[test]
    fn series_keep_their_labels_and_histograms_lose_them() {
        let (series, histograms) = scrape(TEXT);
        assert_eq!(series[r#"seckill_claims_total{outcome="accepted"}"#], 7.0);
        assert!(!series.contains_key("other_total"));
        let accept = &histograms[ACCEPT_SECONDS];
        assert_eq!((accept.buckets.as_slice(), accept.count), ([(0.001, 6.0)].as_slice(), 3.0));
        assert_eq!(histograms["seckill_commit_seconds"].sum, 1.5);
    }
}
