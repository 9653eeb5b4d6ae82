//! The result of a demo: its numbers, and whether every invariant held.

use anyhow::{Context, Result};
use console::style;
use loadtest::{Audit, AuditState, Latency, Played};
use seckill_worker::DrainRate;
use serde::Serialize;

use super::chart::{self, Series};
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
    /// No answer, or one that leaves open whether there is an order.
    unknown: u64,
    /// Orders in the ledger.
    committed: u64,
    /// Orders that the ledger has rejected.
    rejected: u64,
    /// Units sold above the stock.
    oversold: u64,
    /// Accepted orders without a final row.
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
    /// From the intended moment of a request to its answer, over all requests.
    latency: Latency,
    /// Requests that the generator could not send in time.
    late: u64,
    /// As the gateway sent it.
    audit: Audit,
    #[serde(skip)]
    series: Series,
}

impl Outcome {
    /// # Errors
    /// The session has no verification or no audit, so there is no verdict.
    pub(super) fn of(args: &DemoArgs, backend: &'static str, played: Played) -> Result<Self> {
        let series = Series::new(&played);
        let drain_seconds = played.commit_seconds();
        let (accept_rate_peak, commit_rate_peak) = (played.accepted_rate_peak(), played.commit_rate_peak());
        let commit_rate_mean = played.commit_rate_mean();
        let Played { report, audit, .. } = played;
        let checked = report.verification.context("the orders could not be looked up")?;
        let audit = audit.context("the sale's audit could not be read")?;
        let counts = report.counts;
        Ok(Self {
            sent: counts.sent,
            accepted: counts.accepted,
            replayed: counts.replayed,
            sold_out: counts.sold_out,
            refused: counts.refused + counts.rate_limited + counts.malformed,
            unknown: counts.unknown + counts.timed_out + counts.connection_errors,
            committed: audit.committed_orders().unwrap_or(checked.committed + checked.unknown.committed),
            // An order that was accepted and then rejected by the ledger counts, even if the audit does not show it yet.
            rejected: audit
                .rejected_orders()
                .unwrap_or_default()
                .max(checked.rejected + checked.unknown.rejected),
            oversold: checked.oversold,
            lost: checked.lost,
            duplicates: checked.duplicates,
            conserved: audit.conserved && audit.state() == AuditState::Clean,
            arrival_seconds: report.duration_seconds,
            drain_seconds,
            accept_rate_peak,
            commit_rate_peak,
            commit_rate_mean,
            drain_rate: limit(args.drain_rate),
            backend,
            latency: report.latency.corrected.all,
            late: counts.late,
            audit,
            series,
        })
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

/// The drain rate as a number; `None` without a limit.
fn limit(rate: DrainRate) -> Option<u32> {
    match rate {
        DrainRate::PerSecond(rate) => Some(rate.get()),
        DrainRate::Unlimited | DrainRate::Paused | DrainRate::Auto => None,
    }
}
