//! What a demo showed: the numbers, and whether every invariant held.

use anyhow::Result;
use console::style;
use loadtest::{End, Latency, Run, Verification};
use seckill_core::{AuditReport, Verdict};
use serde::Serialize;

use super::chart::{self, Series};
use super::limit;
use super::samples::Samples;
use crate::cli::demo::DemoArgs;

/// The outcome of a demo. The fields up to `backend` are an interface: scripts read them.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// Requests sent; each is counted in one of the next five.
    sent: u64,
    /// 202: a new order.
    accepted: u64,
    /// 200: the same order again.
    replayed: u64,
    /// 409 `sold-out`.
    sold_out: u64,
    /// Any other refusal.
    refused: u64,
    /// No answer that says whether there is an order.
    unknown: u64,
    /// Orders in the ledger.
    committed: u64,
    /// Orders that the ledger has rejected.
    rejected: u64,
    /// Units sold above the stock.
    oversold: u64,
    /// Orders answered with 202 that have no final row.
    lost: u64,
    /// Users with two orders, and order ids with two rows.
    duplicates: u64,
    /// Whether every unit of stock is in exactly one place.
    conserved: bool,
    /// From the first request to the last answer.
    arrival_seconds: f64,
    /// From the first request to the last commit.
    drain_seconds: f64,
    /// Accepted orders a second in the busiest second.
    accept_rate_peak: f64,
    /// Commits a second in the busiest second.
    commit_rate_peak: f64,
    /// Commits a second from the first to the last.
    commit_rate_mean: f64,
    /// The rate that was set, in orders a second; `null`: unlimited.
    drain_rate: Option<u32>,
    /// `embedded` or `cluster`.
    backend: &'static str,
    /// From a buyer's intended moment to the answer, over all requests.
    latency: Latency,
    /// Requests that the generator could not send in time.
    late: u64,
    audit: AuditReport,
    #[serde(skip)]
    series: Series,
}

impl Outcome {
    pub(super) fn weigh(
        args: &DemoArgs,
        backend: &'static str,
        run: &Run,
        verification: &Verification,
        samples: &Samples,
        audit: AuditReport,
    ) -> Self {
        let (counts, requests) = (run.counts(), run.series());
        Self {
            sent: counts.sent,
            accepted: counts.accepted,
            replayed: counts.replayed,
            sold_out: counts.sold_out,
            refused: counts.refused + counts.rate_limited + counts.malformed,
            unknown: counts.unknown + counts.timed_out + counts.connection_errors,
            committed: audit.committed_orders,
            rejected: audit.rejected_orders,
            oversold: audit.oversold,
            lost: verification.lost(),
            duplicates: audit.duplicates + verification.buyers_with_two_orders(),
            conserved: audit.conserved && audit.verdict == Verdict::Clean,
            arrival_seconds: run.duration.as_secs_f64(),
            drain_seconds: samples.drain_seconds(),
            accept_rate_peak: peak(&requests.iter().map(|bucket| bucket.accepted).collect::<Vec<_>>()),
            commit_rate_peak: samples.commit_rate_peak(),
            commit_rate_mean: samples.commit_rate_mean(),
            drain_rate: limit(args.drain_rate),
            backend,
            latency: run.latency(),
            late: counts.late,
            audit,
            series: Series::new(&requests, samples),
        }
        .checked(verification)
    }

    /// An order that the ledger has rejected was promised to a buyer: that is no final row anybody asked for.
    fn checked(mut self, verification: &Verification) -> Self {
        self.rejected = self.rejected.max(verification.count(End::Rejected));
        self
    }

    /// Whether every invariant held.
    pub(super) fn holds(&self) -> bool {
        self.oversold == 0 && self.lost == 0 && self.duplicates == 0 && self.conserved
    }

    /// To stdout: one JSON object, or the chart and the verdict.
    pub(super) fn print(&self, json: bool) -> Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        println!("{}", chart::draw(&self.series, self.drain_rate));
        let Self { accepted, replayed, sold_out, refused, unknown, committed, rejected, .. } = self;
        println!(
            "{} requests in {:.1} s: {accepted} accepted, {replayed} replayed, {sold_out} sold out, {refused} refused, {unknown} unknown",
            self.sent, self.arrival_seconds
        );
        println!("latency         {} ms", self.latency);
        println!("accepted        {:>8.0} orders/s in the busiest second", self.accept_rate_peak);
        println!(
            "committed       {:>8.0} orders/s in the busiest second, {:.0} in the mean, for {:.1} s",
            self.commit_rate_peak, self.commit_rate_mean, self.drain_seconds
        );
        println!();
        println!("accepted {accepted}   sold out {sold_out}   committed {committed}   rejected {rejected}");
        println!(
            "oversold {}   lost {}   duplicates {}   conserved {}",
            self.mark(self.oversold),
            self.mark(self.lost),
            self.mark(self.duplicates),
            yes_or_no(self.conserved)
        );
        for finding in &self.audit.findings {
            println!("  {finding}");
        }
        if self.holds() {
            println!("{} every invariant held", style("✔").green());
        } else {
            println!("{} an invariant is violated", style("✘").red());
        }
        Ok(())
    }

    fn mark(&self, count: u64) -> String {
        if count == 0 { style(count).green().to_string() } else { style(count).red().bold().to_string() }
    }
}

fn yes_or_no(holds: bool) -> String {
    if holds { style("yes").green().to_string() } else { style("no").red().bold().to_string() }
}

/// The most in any ten steps in a row, that is in any second; a shorter run is scaled to one.
fn peak(steps: &[u64]) -> f64 {
    if steps.len() < 10 {
        let all: u64 = steps.iter().sum();
        return all as f64 * 10.0 / steps.len().max(1) as f64;
    }
    steps.windows(10).map(|second| second.iter().sum::<u64>()).max().unwrap_or_default() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_of_a_whole_second() {
        let mut steps = [0_u64; 30];
        steps[14] = 50;
        steps[20] = 30;
        steps[26] = 100;
        assert_eq!(peak(&steps), 130.0);
        assert_eq!(peak(&[5, 5]), 50.0);
        assert_eq!(peak(&[]), 0.0);
    }
}
