//! The report as text for a terminal or a log.

use std::fmt;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};

use crate::report::schema::{Method, Model, Report, VerificationReport};
use crate::send::latency::Latency;
use crate::send::progress::Counts;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { planned, sent, .. } = self.counts;
        let of = if sent < planned { format!(" of {planned}") } else { String::new() };
        writeln!(
            f,
            "{sent}{of} requests to sale {} at {} in {:.1} s",
            self.sale.id, self.target, self.duration_seconds
        )?;
        writeln!(f, "\n{}", outcomes(self))?;
        if let Some(reason) = &self.connection_error {
            writeln!(f, "first connection error: {reason}")?;
        }
        writeln!(f, "\n{}", latencies(self))?;
        let rates = &self.rates;
        writeln!(
            f,
            "rates       {:.0} sent, {:.0} answered, {:.0} accepted a second",
            rates.sent, rates.answered, rates.accepted
        )?;
        self.generator_line(f)?;
        if let Some(checked) = &self.verification {
            write!(f, "\n{checked}")?;
        }
        if let Some(lifecycle) = &self.lifecycle {
            write!(f, "\n{lifecycle}")?;
        }
        if !self.thresholds.is_empty() {
            writeln!(f)?;
        }
        for threshold in &self.thresholds {
            let mark = if threshold.kept { "kept  " } else { "MISSED" };
            writeln!(f, "threshold   {mark}  {}   measured {}", threshold.text, threshold.shown())?;
        }
        write!(f, "\nverdict     {}", self.verdict)?;
        self.reasons.iter().try_for_each(|reason| write!(f, "\n  {reason}"))
    }
}

impl Report {
    fn generator_line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generator = &self.generator;
        let cpu = generator
            .cpu_share
            .map_or("CPU not known".to_owned(), |cpu| format!("{:.0} % of one core", cpu * 100.0));
        writeln!(
            f,
            "generator   {cpu}, {} connections, {} late ({:.2} %)",
            generator.connections,
            generator.late,
            generator.late_share * 100.0
        )?;
        if generator.saturated {
            // Without this line a slow generator could be mistaken for a slow server, or a slow server for a small load.
            writeln!(
                f,
                "            GENERATOR SATURATED: {:.1} % of the requests left more than {} ms late (p99 {}, max {}): \
                 the load was not the one asked for",
                generator.late_share * 100.0,
                generator.late_after_ms,
                ms(generator.lag.p99_us),
                ms(generator.lag.max_us)
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for VerificationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.method {
            Method::Bulk => "in the list of all recorded orders",
            Method::Each => "one by one",
        };
        writeln!(f, "orders      {} promised, looked up {how}", self.promised)?;
        write!(f, "            {} committed, {} rejected", self.committed, self.rejected)?;
        if self.in_flight > 0 {
            write!(f, ", {} still in flight", self.in_flight)?;
        }
        if self.unclear > 0 {
            write!(f, ", {} not known", self.unclear)?;
        }
        let unknown = &self.unknown;
        if unknown.orders > 0 {
            write!(
                f,
                "\nunknown     {} orders: {} committed, {} rejected, {} without an order, {} not known",
                unknown.orders, unknown.committed, unknown.rejected, unknown.absent, unknown.open
            )?;
        }
        let lost = if self.cancelled { "not known".to_owned() } else { self.lost.to_string() };
        let conserved = self.conserved.map_or("not known", |conserved| if conserved { "yes" } else { "NO" });
        write!(
            f,
            "\ninvariants  oversold {}   lost {lost}   duplicates {}   conserved {conserved}",
            self.oversold, self.duplicates
        )?;
        if let Some(verdict) = &self.audit_verdict {
            write!(f, "   (audit: {})", verdict.replace('_', " "))?;
        }
        if self.end_to_end.count > 0 {
            let Latency { p50_us, p99_us, max_us, .. } = self.end_to_end;
            write!(
                f,
                "\nend to end  p50 {}   p99 {}   max {}   (intended start to commit)",
                ms(p50_us),
                ms(p99_us),
                ms(max_us)
            )?;
        }
        if let Some(seconds) = self.drain_seconds {
            write!(f, "\ndrain       {seconds:.1} s after the last answer")?;
        }
        writeln!(f)
    }
}

fn outcomes(report: &Report) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_header(["outcome", "requests", "share"]);
    let counts = &report.counts;
    let all = counts.ended().max(1) as f64;
    let mut row = |name: &str, count: u64| {
        table.add_row([name.to_owned(), count.to_string(), format!("{:.2} %", count as f64 / all * 100.0)]);
    };
    row("accepted", counts.accepted);
    row("replayed", counts.replayed);
    row("sold out", counts.sold_out);
    row("rate limited", counts.rate_limited);
    row("refused", counts.refused);
    row("unknown", counts.unknown);
    row("time-out", counts.timed_out);
    row("connection error", counts.connection_errors);
    if counts.malformed > 0 {
        row("malformed", counts.malformed);
    }
    report.refusals.iter().for_each(|(problem, count)| row(&format!("  {problem}"), *count));
    align_numbers(&mut table);
    table
}

fn latencies(report: &Report) -> Table {
    let mut table = Table::new();
    let head = ["latency, ms", "p50", "p90", "p95", "p99", "p99.9", "max"];
    table.load_style(UTF8_BORDERS_ONLY).set_header(head);
    let mut row = |name: &str, latency: &Latency| {
        let Latency { count, p50_us, p90_us, p95_us, p99_us, p999_us, max_us } = *latency;
        if count > 0 {
            let number = |us: u64| format!("{:.1}", us as f64 / 1_000.0);
            let numbers = [p50_us, p90_us, p95_us, p99_us, p999_us, max_us].map(number);
            table.add_row(std::iter::once(name.to_owned()).chain(numbers));
        }
    };
    let latency = &report.latency;
    match report.plan.model {
        Model::Open => {
            row("from the intended start", &latency.corrected.all);
            row("  accepted", &latency.corrected.accepted);
            row("from the actual send", &latency.uncorrected.all);
            row("  accepted", &latency.uncorrected.accepted);
        }
        // A closed run has no intended starts: during a stall the requests are not sent that would show it.
        Model::Closed => {
            row("from the send (closed model: hides stalls)", &latency.uncorrected.all);
            row("  accepted", &latency.uncorrected.accepted);
        }
    }
    align_numbers(&mut table);
    table
}

pub(crate) fn align_numbers(table: &mut Table) {
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
}

fn ms(us: u64) -> String {
    format!("{:.1} ms", us as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use crate::report::sample::report;

    #[test]
    fn the_text_has_the_numbers_and_the_verdict() {
        let mut report = report();
        let text = report.to_string();
        for part in [
            "accepted",
            "from the intended start",
            "oversold 0   lost 0   duplicates 0   conserved yes",
            "verdict     pass",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains("SATURATED"));
        report.generator.saturated = true;
        report.generator.late_share = 0.25;
        assert!(report.to_string().contains("GENERATOR SATURATED: 25.0 %"));
    }
}
