//! Reports as a run writes them: one that went well, one that went wrong, one full of hostile names.

use loadtest::{
    Counts, GeneratorReport, Latencies, Latency, LatencyReport, Method, Model, PlanReport, RatesReport,
    Report, SCHEMA_VERSION, SaleReport, Second, StageReport, ThresholdReport, UnknownReport, Verdict,
    VerificationReport,
};

/// Text that would break out of an element, an attribute, a script or a string if it were not escaped.
pub(crate) const HOSTILE: &str =
    "</script><script>window.pwned=1</script><img src=x onerror=\"window.pwned=1\">'\"&<!--${pwned}{{pwned}}";

/// A spike over a sale of 10,000 units that drains at 2,000 orders/s, every promise kept.
pub(crate) fn good() -> Report {
    Report {
        schema_version: SCHEMA_VERSION,
        tool_version: "0.1.0".into(),
        target: "http://127.0.0.1:8080".into(),
        sale: SaleReport { id: 7, stock: Some(10_000), created: true },
        plan: plan(),
        started_at: "2026-11-11T00:00:00.000Z".into(),
        duration_seconds: 5.02,
        counts: counts(),
        refusals: [("403 not-open".to_owned(), 12)].into(),
        connection_error: None,
        rates: RatesReport { sent: 4_400.0, answered: 4_400.0, accepted: 2_000.0 },
        latency: LatencyReport { corrected: latencies(1_400), uncorrected: latencies(1_100) },
        series: series(),
        generator: generator(),
        verification: Some(verification()),
        lifecycle: None,
        thresholds: vec![
            ThresholdReport { text: "p99<200ms".into(), measured: Some(41_000.0), kept: true },
            ThresholdReport { text: "accepted_rate>1000".into(), measured: Some(2_000.0), kept: true },
        ],
        verdict: Verdict::Pass,
        reasons: Vec::new(),
    }
}

/// The same run against a gateway that oversold, lost orders and gave one buyer two.
pub(crate) fn violated() -> Report {
    let mut report = good();
    report.verdict = Verdict::Violated;
    report.reasons = vec!["10 of 10,000 promised orders are lost".into(), "3 units are oversold".into()];
    report.verification = Some(VerificationReport {
        lost: 10,
        oversold: 3,
        duplicates: 1,
        conserved: Some(false),
        audit_verdict: Some("violated".into()),
        audit_findings: vec!["3 units are sold above the stock of 10000".into()],
        ..verification()
    });
    report.generator.saturated = true;
    report
}

/// The good run, but its workers are paused and its gate is being rebuilt.
pub(crate) fn unclear() -> Report {
    let mut report = good();
    report.verdict = Verdict::Unclear;
    report.reasons = vec!["still in flight: 10 of 10,000 promised orders".into()];
    report.verification = Some(VerificationReport {
        committed: 9_990,
        in_flight: 10,
        conserved: None,
        rebuilding: true,
        audit_verdict: Some("rebuilding".into()),
        drain_seconds: None,
        ..verification()
    });
    report
}

/// The bad run, with [`HOSTILE`] wherever the report has text.
pub(crate) fn hostile() -> Report {
    let mut report = violated();
    let text = || HOSTILE.to_owned();
    report.target = text();
    report.started_at = text();
    report.tool_version = text();
    report.plan.scenario = Some(text());
    report.refusals = [(text(), 3)].into();
    report.connection_error = Some(text());
    report.reasons = vec![text()];
    report.thresholds = vec![ThresholdReport { text: text(), measured: None, kept: false }];
    if let Some(checked) = &mut report.verification {
        checked.audit_verdict = Some(text());
        checked.audit_findings = vec![text()];
    }
    report
}

/// A run that was cut short before it had begun to be anything.
pub(crate) fn empty() -> Report {
    Report {
        counts: Counts::default(),
        refusals: Default::default(),
        series: Vec::new(),
        verification: None,
        thresholds: Vec::new(),
        verdict: Verdict::Interrupted,
        latency: LatencyReport::default(),
        ..good()
    }
}

fn plan() -> PlanReport {
    let stage = |seconds, rate| StageReport { seconds, rate };
    PlanReport {
        scenario: Some("spike".into()),
        model: Model::Open,
        start_rate: Some(0.0),
        stages: vec![stage(1.0, 500.0), stage(0.0, 9_000.0), stage(2.0, 9_000.0), stage(2.0, 0.0)],
        requests: Some(22_000),
        buyers: 20_000,
        first_user: 1,
        seed: 1,
        copies: 1,
        retry_ratio: 0.1,
        bots: 0.0,
        bot_requests: 0,
        quantity: 1,
        connections: 64,
        max_connections: 1_024,
        warmup_seconds: 0.0,
        timeout_seconds: 10.0,
    }
}

fn counts() -> Counts {
    Counts {
        planned: 22_000,
        sent: 22_000,
        late: 31,
        accepted: 10_000,
        replayed: 940,
        sold_out: 11_040,
        refused: 12,
        unknown: 8,
        ..Counts::default()
    }
}

fn latency(p50_us: u64, count: u64) -> Latency {
    Latency {
        count,
        p50_us,
        p90_us: p50_us * 8,
        p95_us: p50_us * 14,
        p99_us: p50_us * 29,
        p999_us: p50_us * 40,
        max_us: p50_us * 55,
    }
}

fn latencies(p50_us: u64) -> Latencies {
    Latencies { all: latency(p50_us, 22_000), accepted: latency(p50_us * 2, 10_000) }
}

fn generator() -> GeneratorReport {
    GeneratorReport {
        cpu_share: Some(0.63),
        saturated: false,
        late: 31,
        late_share: 0.0014,
        late_after_ms: 5.0,
        lag: latency(40, 22_000),
        connections: 212,
    }
}

fn verification() -> VerificationReport {
    VerificationReport {
        method: Method::Bulk,
        promised: 10_000,
        committed: 10_000,
        rejected: 0,
        lost: 0,
        in_flight: 0,
        unclear: 0,
        unknown: UnknownReport { orders: 8, committed: 5, rejected: 0, absent: 3, open: 0 },
        oversold: 0,
        duplicates: 0,
        conserved: Some(true),
        has_gate: true,
        rebuilding: false,
        audit_verdict: Some("clean".into()),
        audit_findings: Vec::new(),
        end_to_end: latency(130_000, 10_000),
        drain_seconds: Some(2.4),
        cancelled: false,
    }
}

/// Five seconds of buyers, and three more until the queue is empty.
fn series() -> Vec<Second> {
    let sent = [250, 9_000, 8_400, 3_300, 1_050, 0, 0, 0];
    let accepted = [250, 8_600, 1_150, 0, 0, 0, 0, 0];
    let committed = [240, 2_240, 4_250, 6_240, 8_240, 9_600, 10_000, 10_000];
    let mut promised = 0;
    let second = |at: usize| {
        promised += accepted[at];
        Second {
            at_ms: at as u64 * 1_000,
            due: sent[at],
            sent: sent[at],
            accepted: accepted[at],
            replayed: sent[at] / 23,
            sold_out: sent[at].saturating_sub(accepted[at] + sent[at] / 23),
            errors: 0,
            p50_us: (sent[at] > 0).then_some(900 + sent[at] / 4),
            p99_us: (sent[at] > 0).then_some(2_000 + sent[at] * 4),
            committed: Some(committed[at]),
            backlog: Some(promised - committed[at]),
            remaining: Some(10_000 - promised),
        }
    };
    (0..sent.len()).map(second).collect()
}
