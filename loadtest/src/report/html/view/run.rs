//! The page's tables: the plan, what became of the orders, and the run second by second.

use super::super::charts;
use super::super::format::{count, number, percent, rate, seconds, time_us};
use super::Row;
use crate::report::schema::{
    BehaviourReport, LifecycleReport, Method, Model, PlanReport, Report, Second, VerificationReport,
};

/// The plan and the target.
pub(super) fn rows(report: &Report) -> Vec<Row> {
    let plan = &report.plan;
    let mut rows = vec![
        ("Target", report.target.clone()),
        ("Sale", sale(report)),
        ("Began", report.started_at.clone()),
        ("Until the last answer", seconds(report.duration_seconds)),
        ("Scenario", plan.scenario.clone().unwrap_or_else(|| "none: flags only".to_owned())),
        ("Model", model(plan)),
        ("Buyers", format!("{}, from user {}, seed {}", count(plan.buyers), plan.first_user, plan.seed)),
        ("Units of each order", count(plan.quantity.into())),
        ("Requests planned", plan.requests.map_or_else(|| "not limited".to_owned(), count)),
        ("Connections", format!("{} to {}", count(plan.connections), count(plan.max_connections))),
        ("Warm-up left out", seconds(plan.warmup_seconds)),
        ("Time-out", seconds(plan.timeout_seconds)),
        ("Mean rates", means(report)),
    ];
    if plan.copies > 1 {
        rows.push(("Requests of each buyer at once", count(plan.copies.into())));
    }
    if plan.retry_ratio > 0.0 {
        rows.push(("Buyers who send again", percent(plan.retry_ratio)));
    }
    if plan.bots > 0.0 {
        let each = count(plan.bot_requests.into());
        rows.push(("Bots", format!("{} of the buyers, {each} requests each", percent(plan.bots))));
    }
    named(rows)
}

fn named(rows: Vec<(&str, String)>) -> Vec<Row> {
    rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn sale(report: &Report) -> String {
    let stock = report
        .sale
        .stock
        .map_or_else(|| "stock not known".to_owned(), |stock| format!("{} units", count(stock)));
    let made = if report.sale.created { ", made for this run" } else { "" };
    format!("{}: {stock}{made}", report.sale.id)
}

fn model(plan: &PlanReport) -> String {
    if plan.model == Model::Closed {
        return "closed: each connection sends as soon as it has an answer".to_owned();
    }
    let start = plan.start_rate.map(rate);
    let stages =
        plan.stages.iter().map(|stage| format!("{} in {} s", rate(stage.rate), number(stage.seconds)));
    let path: Vec<String> = start.into_iter().chain(stages).collect();
    format!("open: {}", path.join(" → "))
}

fn means(report: &Report) -> String {
    let rates = &report.rates;
    format!("{} sent, {} answered, {} accepted", rate(rates.sent), rate(rates.answered), rate(rates.accepted))
}

/// What became of the orders.
pub(super) fn verification(checked: &VerificationReport) -> Vec<Row> {
    let unknown = &checked.unknown;
    let mut rows = vec![
        ("Orders promised", count(checked.promised)),
        ("Of these in the ledger", count(checked.committed)),
        ("Of these recorded as rejected", count(checked.rejected)),
        ("Of these lost", count(checked.lost)),
        ("Of these still in flight", count(checked.in_flight)),
        ("Looked up", method(checked.method).to_owned()),
        (
            "The sale’s audit",
            checked
                .audit_verdict
                .as_ref()
                .map_or("the server has none".to_owned(), |word| word.replace('_', " ")),
        ),
        ("Drained", checked.drain_seconds.map_or_else(|| "not within the time given".to_owned(), seconds)),
    ];
    if unknown.orders > 0 {
        let ends = format!(
            "{}: {} committed, {} rejected, {} without an order, {} not known",
            count(unknown.orders),
            count(unknown.committed),
            count(unknown.rejected),
            count(unknown.absent),
            count(unknown.open)
        );
        rows.push(("Outcome unknown at first", ends));
    }
    if checked.unclear > 0 {
        rows.push(("Not known", count(checked.unclear)));
    }
    if !checked.audit_findings.is_empty() {
        rows.push(("The audit found", checked.audit_findings.join("; ")));
    }
    if checked.cancelled {
        rows.push(("Ended early", "yes: not every order was looked up".to_owned()));
    }
    named(rows)
}

/// What the buyers did after the order.
pub(super) fn lifecycle(after: &LifecycleReport) -> Vec<Row> {
    let of = |one: &BehaviourReport| {
        let ends = [
            (one.paid, "paid"),
            (one.cancelled, "cancelled"),
            (one.refunded, "refunded"),
            (one.refund_held, "held"),
            (one.rejected, "rejected"),
            (one.open, "not ended"),
            (one.off_plan, "off plan"),
        ];
        let ends = ends.into_iter().filter(|(orders, _)| *orders > 0);
        let ends: Vec<String> = ends.map(|(orders, word)| format!("{} {word}", count(orders))).collect();
        (format!("To {}", one.behaviour.word()), format!("{}: {}", count(one.orders), ends.join(", ")))
    };
    let mut rows: Vec<Row> = after.behaviours.iter().filter(|one| one.orders > 0).map(of).collect();
    if let Some(money) = &after.money {
        let (charged, refunded) = (count(money.charged_cents), count(money.refunded_cents));
        let paid = count(money.paid_cents);
        let text = format!("{charged} charged, {refunded} refunded, {paid} for paid orders");
        rows.push(("Money in cents, by the audit".to_owned(), text));
    }
    if let Some(bank) = &after.bank {
        let (charged, refunded) = (count(bank.charged_cents), count(bank.refunded_cents));
        let text = format!("{charged} charged, {refunded} refunded, in {} charges", count(bank.charges));
        rows.push(("Money in cents, by the bank".to_owned(), text));
    }
    rows.push(("Effects of refund events".to_owned(), after.effects_line()));
    rows
}

fn method(method: Method) -> &'static str {
    match method {
        Method::Bulk => "all in one answer",
        Method::Each => "one by one",
    }
}

/// The columns of [`seconds_table`].
pub(in crate::report::html) const COLUMNS: [&str; 11] = [
    "second", "due", "sent", "accepted", "replayed", "sold out", "errors", "p50", "p99", "commits", "backlog",
];

/// The run second by second, as the charts show it.
pub(super) fn seconds_table(report: &Report) -> Vec<[String; 11]> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    let row = |(second, commits): (&Second, Option<f64>)| {
        [
            number(second.at_ms as f64 / 1e3),
            count(second.due),
            count(second.sent),
            count(second.accepted),
            count(second.replayed),
            count(second.sold_out),
            count(second.errors),
            or_dash(second.p50_us.map(time_us)),
            or_dash(second.p99_us.map(time_us)),
            or_dash(commits.map(|commits| count(commits.round() as u64))),
            or_dash(second.backlog.map(count)),
        ]
    };
    report.series.iter().zip(charts::commits(report)).map(row).collect()
}
