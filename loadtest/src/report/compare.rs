//! Two reports side by side. Weighs nothing: which of two numbers is better, the reader knows.

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;

use crate::report::schema::{Report, Verdict};
use crate::report::text::align_numbers;
use crate::send::latency::Latency;

/// A table of both reports' numbers, with how many times A each of B's is.
pub fn compare(a: &Report, b: &Report) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(["", "A", "B", "B / A"]);
    for (name, of) in rows() {
        let (a, b) = (of(a), of(b));
        if a.is_none() && b.is_none() {
            continue;
        }
        let ratio = match (a, b) {
            (Some(a), Some(b)) if a != 0.0 => format!("{:.2}", b / a),
            (Some(0.0), Some(0.0)) => "1.00".to_owned(),
            _ => "-".to_owned(),
        };
        table.add_row([name.to_owned(), number(a), number(b), ratio]);
    }
    let word = |report: &Report| report.verdict.to_string();
    let same = if a.verdict == b.verdict { "same" } else { "differs" };
    table.add_row(["verdict".to_owned(), word(a), word(b), same.to_owned()]);
    align_numbers(&mut table);
    format!("{}\n{table}", notes(a, b).join("\n"))
}

type Row = (&'static str, fn(&Report) -> Option<f64>);

fn rows() -> [Row; 22] {
    fn ms(latency: &Latency, of: fn(&Latency) -> u64) -> Option<f64> {
        (latency.count > 0).then(|| of(latency) as f64 / 1e3)
    }
    [
        ("requests", |r| Some(r.counts.sent as f64)),
        ("accepted", |r| Some(r.counts.accepted as f64)),
        ("replayed", |r| Some(r.counts.replayed as f64)),
        ("sold out", |r| Some(r.counts.sold_out as f64)),
        ("rate limited", |r| Some(r.counts.rate_limited as f64)),
        ("refused", |r| Some(r.counts.refused as f64)),
        ("unknown", |r| Some(r.counts.unknown as f64)),
        ("time-outs and connection errors", |r| {
            Some((r.counts.timed_out + r.counts.connection_errors) as f64)
        }),
        ("sent a second", |r| Some(r.rates.sent)),
        ("accepted a second", |r| Some(r.rates.accepted)),
        ("p50, ms, from the intended start", |r| ms(&r.latency.corrected.all, |l| l.p50_us)),
        ("p90", |r| ms(&r.latency.corrected.all, |l| l.p90_us)),
        ("p95", |r| ms(&r.latency.corrected.all, |l| l.p95_us)),
        ("p99", |r| ms(&r.latency.corrected.all, |l| l.p99_us)),
        ("p99.9", |r| ms(&r.latency.corrected.all, |l| l.p999_us)),
        ("max", |r| ms(&r.latency.corrected.all, |l| l.max_us)),
        ("p99, ms, from the actual send", |r| ms(&r.latency.uncorrected.all, |l| l.p99_us)),
        ("end to end p99, ms", |r| ms(&r.verification.as_ref()?.end_to_end, |l| l.p99_us)),
        ("drain, s", |r| r.verification.as_ref()?.drain_seconds),
        ("lost", |r| r.verification.as_ref().map(|checked| checked.lost as f64)),
        ("late, %", |r| Some(r.generator.late_share * 100.0)),
        ("generator, % of one core", |r| r.generator.cpu_share.map(|cpu| cpu * 100.0)),
    ]
}

fn number(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| {
        if value.fract() == 0.0 { format!("{value}") } else { format!("{value:.1}") }
    })
}

/// What must be known before the numbers are believed.
fn notes(a: &Report, b: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    for (name, report) in [("A", a), ("B", b)] {
        let (target, started) = (&report.target, &report.started_at);
        notes.push(format!("{name}: sale {} at {target}, {started}", report.sale.id));
        if report.generator.saturated {
            notes.push(format!("{name}'s generator was saturated: its load was not the one asked for"));
        }
        if report.verdict == Verdict::Interrupted {
            notes.push(format!("{name} was interrupted"));
        }
    }
    let shape = |report: &Report| {
        (report.plan.model, report.plan.stages.clone(), report.plan.copies, report.plan.quantity)
    };
    if shape(a) != shape(b) {
        notes.push("the plans differ, so the ratios compare different loads".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::report;

    #[test]
    fn ratios_are_of_b_to_a() {
        let (a, mut b) = (report(), report());
        b.counts.accepted = 500;
        b.latency.corrected.all.p99_us = 300_000;
        b.generator.saturated = true;
        let text = compare(&a, &b);
        let row = |name: &str| {
            let mut rows = text.lines().map(|line| line.trim_matches(['│', ' ']));
            let row = rows.find(|row| row.starts_with(name)).unwrap_or_default();
            row.split_whitespace().rev().take(3).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(row("accepted "), ["0.50", "500", "1000"]);
        assert_eq!(row("p99 "), ["3.00", "300", "100"]);
        assert!(text.contains("B's generator was saturated") && !text.contains("plans differ"));
        b.plan.copies = 3;
        assert!(compare(&a, &b).contains("the plans differ"));
    }
}
