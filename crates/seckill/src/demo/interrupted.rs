//! What a demo shows that was ended by Ctrl-C: what was seen until then, and the audit at that moment.

use std::process::ExitCode;

use anyhow::{Context, Result};
use loadtest::{Latency, Played};
use seckill_client::Client;
use seckill_core::{AuditReport, SaleId, Verdict};
use serde::Serialize;

use super::curves::Curves;
use super::system::System;
use super::{chart, verdict};
use crate::{client, terminal};

/// 128 + SIGINT, as a shell would report it.
pub(super) fn exit_code() -> ExitCode {
    ExitCode::from(130)
}

#[derive(Debug, Serialize)]
pub(super) struct Interrupted {
    interrupted: bool,
    /// `null`: nothing was counted until then.
    #[serde(flatten)]
    seen: Option<Seen>,
    /// Counted after the last answer. Orders may be on their way.
    audit: AuditReport,
}

#[derive(Debug, Serialize)]
struct Seen {
    sent: u64,
    accepted: u64,
    replayed: u64,
    sold_out: u64,
    refused: u64,
    unknown: u64,
    arrival_seconds: f64,
    latency: Latency,
    #[serde(skip)]
    curves: Curves,
    #[serde(skip)]
    drain_rate: Option<u32>,
}

impl Interrupted {
    /// `played`: the part that ran, where it was counted.
    ///
    /// # Errors
    /// The sale cannot be audited.
    pub(super) async fn of(
        system: &System,
        sale: SaleId,
        played: Option<&Played>,
        drain_rate: Option<u32>,
    ) -> Result<Self> {
        let admin = Client::new(system.server.clone())?.admin(system.admin_token.clone());
        let audit = admin.fresh_audit(sale).await.context("the sale cannot be audited")?.report;
        let seen = played.map(|played| {
            let counts = played.report.counts;
            Seen {
                sent: counts.sent,
                accepted: counts.accepted,
                replayed: counts.replayed,
                sold_out: counts.sold_out,
                refused: verdict::refused(&counts),
                unknown: verdict::unknown(&counts),
                arrival_seconds: played.report.duration_seconds,
                latency: played.report.latency.corrected.all,
                curves: Curves::played(played),
                drain_rate,
            }
        });
        Ok(Self { interrupted: true, seen, audit })
    }

    /// To stdout: one JSON object, or the chart so far and the audit.
    pub(super) fn print(&self, json: bool) -> Result<()> {
        let room = terminal::stdout();
        if !json {
            if let Some(seen) = &self.seen {
                println!("{}", chart::draw(&seen.curves, seen.drain_rate, room));
                let Seen { sent, accepted, replayed, sold_out, refused, unknown, .. } = seen;
                let answers = [*accepted, *replayed, *sold_out, *refused, *unknown];
                verdict::print_answers(*sent, seen.arrival_seconds, answers, &seen.latency);
            }
            let told =
                "Ended early. The audit at this moment; orders that are on their way were not waited for:";
            println!("\n{}", terminal::fill(told, room));
        }
        client::print(json, self, || client::audit_table(&self.audit))
    }

    /// Whether an invariant is violated already.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self.audit.verdict, Verdict::Violated | Verdict::Lost)
    }
}
