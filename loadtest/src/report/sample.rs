//! A report for the tests.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::plan::schedule::Plan;
use crate::report::schema::{
    GeneratorReport, Latencies, LatencyReport, Method, PlanReport, RatesReport, Report, SCHEMA_VERSION,
    SaleReport, Second, ThresholdReport, UnknownReport, Verdict, VerificationReport,
};
use crate::send::latency::Latency;
use crate::send::progress::Counts;

/// A report of a run that went well: 1,000 accepted in a quarter of a second.
pub(crate) fn report() -> Report {
    let latency = Latency {
        count: 2_000,
        p50_us: 10_000,
        p90_us: 50_000,
        p95_us: 70_000,
        p99_us: 100_000,
        p999_us: 150_000,
        max_us: 160_000,
    };
    let latencies = Latencies { all: latency, accepted: latency };
    Report {
        schema_version: SCHEMA_VERSION,
        tool_version: "0".to_owned(),
        target: "http://127.0.0.1:8080".to_owned(),
        sale: SaleReport { id: 1, stock: Some(1_000), created: true },
        plan: PlanReport::of(&Plan::spread(2_000, 1, Duration::from_millis(250))),
        started_at: "2026-01-01T00:00:00.000Z".to_owned(),
        duration_seconds: 0.25,
        counts: Counts {
            planned: 2_000,
            sent: 2_000,
            late: 4,
            accepted: 1_000,
            sold_out: 1_000,
            ..Counts::default()
        },
        refusals: BTreeMap::new(),
        connection_error: None,
        rates: RatesReport { sent: 8_000.0, answered: 8_000.0, accepted: 4_000.0 },
        latency: LatencyReport { corrected: latencies, uncorrected: latencies },
        series: vec![Second {
            sent: 2_000,
            accepted: 1_000,
            sold_out: 1_000,
            p50_us: Some(1),
            ..Second::default()
        }],
        generator: GeneratorReport { late: 4, late_share: 0.002, ..GeneratorReport::default() },
        verification: Some(VerificationReport {
            method: Method::Bulk,
            promised: 1_000,
            committed: 1_000,
            rejected: 0,
            lost: 0,
            in_flight: 0,
            unclear: 0,
            unknown: UnknownReport::default(),
            oversold: 0,
            duplicates: 0,
            conserved: Some(true),
            has_gate: true,
            rebuilding: false,
            audit_verdict: Some("clean".to_owned()),
            audit_findings: Vec::new(),
            end_to_end: latency,
            drain_seconds: Some(2.5),
            cancelled: false,
        }),
        lifecycle: None,
        thresholds: vec![ThresholdReport { text: "p99<200ms".to_owned(), measured: Some(1e5), kept: true }],
        verdict: Verdict::Pass,
        reasons: Vec::new(),
    }
}
