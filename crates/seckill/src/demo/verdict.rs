//! The result of a demo: its numbers, and whether every invariant held.

use anyhow::{Context, Result};
use console::style;
use loadtest::{Audit, AuditState, Counts, Latency, Played};
use seckill_worker::DrainRate;
use serde::Serialize;

use super::chart;
use super::curves::Curves;
use crate::cli::demo::DemoArgs;
use crate::terminal;

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
    curves: Curves,
}

impl Outcome {
    /// # Errors
    /// The session has no verification or no audit, so there is no verdict.
    pub(super) fn of(args: &DemoArgs, backend: &'static str, played: Played) -> Result<Self> {
        let curves = Curves::played(&played);
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
            refused: refused(&counts),
            unknown: unknown(&counts),
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
            curves,
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
        let room = terminal::stdout();
        println!("{}", chart::draw(&self.curves, self.drain_rate, room));
        let Self { accepted, replayed, sold_out, refused, unknown, committed, rejected, .. } = self;
        let answers = [*accepted, *replayed, *sold_out, *refused, *unknown];
        print_answers(self.sent, self.arrival_seconds, answers, &self.latency);
        print_parts(
            &format!("{:<16}", "accepted"),
            &[format!("{:>8.0} orders/s in the busiest second", self.accept_rate_peak)],
        );
        print_parts(
            &format!("{:<16}", "committed"),
            &[
                format!("{:>8.0} orders/s in the busiest second,", self.commit_rate_peak),
                format!("{:.0} in the mean, for {:.1} s", self.commit_rate_mean, self.drain_seconds),
            ],
        );
        println!();
        print_counts(&[
            format!("accepted {accepted}"),
            format!("sold out {sold_out}"),
            format!("committed {committed}"),
            format!("rejected {rejected}"),
        ]);
        print_counts(&[
            format!("oversold {}", self.mark(self.oversold)),
            format!("lost {}", self.mark(self.lost)),
            format!("duplicates {}", self.mark(self.duplicates)),
            format!("conserved {}", yes_or_no(self.conserved)),
        ]);
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

/// Requests that were refused for another reason than that everything is sold.
pub(super) fn refused(counts: &Counts) -> u64 {
    counts.refused + counts.rate_limited + counts.malformed
}

/// Requests after which nobody knows whether there is an order.
pub(super) fn unknown(counts: &Counts) -> u64 {
    counts.unknown + counts.timed_out + counts.connection_errors
}

/// How the requests were answered: accepted, replayed, sold out, refused, unknown; and how fast.
pub(super) fn print_answers(sent: u64, seconds: f64, answers: [u64; 5], latency: &Latency) {
    let names = ["accepted,", "replayed,", "sold out,", "refused,", "unknown"];
    let answers = answers.iter().zip(names).map(|(count, name)| format!("{count} {name}"));
    print_parts(&format!("{sent} requests in {seconds:.1} s: "), &answers.collect::<Vec<_>>());
    let latency = format!("{latency} ms");
    let parts: Vec<_> = latency.split("   ").collect();
    print_with(&format!("{:<16}", "latency"), &parts, "   ");
}

/// A line of numbers, or several where the terminal is narrow.
fn print_counts(parts: &[String]) {
    print_with("", parts, "   ");
}

fn print_parts(head: &str, parts: &[String]) {
    print_with(head, parts, " ");
}

/// `head` and the parts after it; where they do not fit, the next lines begin below the first part.
fn print_with<Part: AsRef<str>>(head: &str, parts: &[Part], gap: &str) {
    let columns = terminal::stdout().map_or(usize::MAX, |size| size.columns - 1);
    // In a terminal that is very narrow there is no room to begin below the first part.
    let indent = if columns < 60 { 2.min(head.len()) } else { head.len() };
    let mut lines = terminal::lines(parts, gap, columns.saturating_sub(indent)).into_iter();
    let first = lines.next().unwrap_or_default();
    if head.len() + textwrap::core::display_width(&first) <= columns {
        println!("{head}{first}");
    } else {
        println!("{}\n{:indent$}{}", head.trim_end(), "", first.trim_start());
    }
    for line in lines {
        println!("{:indent$}{}", "", line.trim_start());
    }
}

fn yes_or_no(holds: bool) -> String {
    if holds { style("yes").green().to_string() } else { style("no").red().bold().to_string() }
}

/// The drain rate as a number; `None` without a limit.
pub(super) fn limit(rate: DrainRate) -> Option<u32> {
    match rate {
        DrainRate::PerSecond(rate) => Some(rate.get()),
        DrainRate::Unlimited | DrainRate::Paused | DrainRate::Auto => None,
    }
}
