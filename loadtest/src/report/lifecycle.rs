//! What became of the orders after they were promised: where each has ended, and whether the buyers, the audit and the bank agree.

use std::fmt;

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;

use crate::check::bank::Charges;
use crate::check::effects::EffectCheck;
use crate::check::shop::{Audit, AuditState, Money};
use crate::check::verify::{Check, Status};
use crate::plan::lifecycle::{Behaviour, LifecyclePlan};
use crate::report::schema::{BankReport, BehaviourReport, LifecycleReport};
use crate::report::text::align_numbers;
use crate::send::life::{Life, Told};
use crate::send::lifecycle::Lives;

/// With a larger share of orders that have ended elsewhere than planned, the run has not tested what it was meant to.
const MOST_OFF_PLAN: f64 = 0.1;

/// What is known beside the buyers' own records.
#[derive(Debug, Clone, Copy)]
pub struct LifecycleAftermath<'a> {
    /// The orders as they were looked up at the end, by buyer and order id.
    pub checks: &'a [Check],
    /// The sale's audit; `None`: the server has none, or did not answer.
    pub audit: Option<&'a Audit>,
    /// Whether the sale has a gate; a direct sale has none.
    pub has_gate: bool,
    /// Whether the sale was made for this run, so that nobody else buys in it.
    pub created: bool,
    /// The bank's charges, or why they could not be read; `None`: no bank was named.
    pub bank: Option<&'a Result<Charges, String>>,
    /// The effects of the refund events, `Ok(None)` where the server does not count them, or why they could not be read; `None`: there
    /// is no admin token.
    pub effects: Option<&'a Result<Option<Vec<EffectCheck>>, String>>,
}

/// Orders of which the same can be said: how many, and the first of them.
#[derive(Default)]
struct Group {
    count: u64,
    first: String,
}

impl Group {
    fn add(&mut self, order: &Ended<'_>) {
        if self.count == 0 {
            self.first = format!("order {}, which is {}", order.life.order.order_id, order.word());
        }
        self.count += 1;
    }

    /// A sentence with the number and the first order; `None`: there are none.
    fn say(&self, sentence: impl FnOnce(u64) -> String) -> Option<String> {
        (self.count > 0).then(|| format!("{}; the first is {}", sentence(self.count), self.first))
    }
}

/// One order at the end of the run.
struct Ended<'a> {
    life: &'a Life,
    /// Its state at the end; `None`: not known.
    status: Option<Status>,
}

impl Ended<'_> {
    fn word(&self) -> &'static str {
        self.status.map_or("not known", Status::word)
    }

    /// Whether nothing more happens to it by itself.
    fn rests(&self) -> bool {
        self.life.ended
    }

    /// Whether money has come in for it.
    fn has_money(&self) -> bool {
        matches!(self.status, Some(Status::Paid | Status::Refunding | Status::RefundHeld | Status::Refunded))
    }

    /// Whether the last answer to its buyer fits its state.
    fn fits_the_answer(&self) -> bool {
        let Some(status) = self.status else { return true };
        match self.life.told {
            Told::Open => true,
            Told::Nothing | Told::Refused | Told::Declined => !self.has_money(),
            Told::Cancelled => status == Status::Cancelled,
            Told::TooLate => matches!(status, Status::Refunding | Status::Refunded),
            Told::Refunding => matches!(status, Status::Refunding | Status::RefundHeld | Status::Refunded),
            // The answer to the wish for the money may have got lost.
            Told::Paid if self.life.behaviour == Behaviour::Refund => self.has_money(),
            Told::Paid => status == Status::Paid,
        }
    }

    /// Whether it has ended where an order of this behaviour must.
    fn is_as_planned(&self) -> bool {
        match self.life.behaviour {
            Behaviour::Pay | Behaviour::PayTwice => self.status == Some(Status::Paid),
            Behaviour::PayLate => matches!(self.status, Some(Status::Cancelled | Status::Refunded)),
            Behaviour::Expire | Behaviour::Cancel => self.status == Some(Status::Cancelled),
            Behaviour::Refund => matches!(self.status, Some(Status::Refunded | Status::RefundHeld)),
        }
    }
}

impl LifecycleReport {
    /// Counts where the orders ended. With what is known beside the buyers' own records it is also judged whether all agree; without,
    /// nothing is judged.
    pub fn of(plan: &LifecyclePlan, lives: &Lives, aftermath: Option<&LifecycleAftermath<'_>>) -> Self {
        let checks = aftermath.map_or(&[][..], |aftermath| aftermath.checks);
        let status = |life: &Life| {
            let order = (life.order.buyer, life.order.order_id);
            let at = checks.binary_search_by_key(&order, |check| (check.order.buyer, check.order.order_id));
            at.ok().and_then(|at| checks[at].status).or(life.status)
        };
        let ended = || lives.lives.iter().map(|life| Ended { life, status: status(life) });
        let mut report = Self {
            window_seconds: plan.window.as_secs_f64(),
            behaviours: Behaviour::ALL.map(|of| behaviour(plan, of, ended())).to_vec(),
            requests: lives.requests,
            retries: lives.retries,
            refusals: lives.refusals.clone(),
            ..Self::default()
        };
        let Some(aftermath) = aftermath else { return report };
        report.judge_plan();
        report.judge_buyers(ended());
        report.judge_audit(ended(), aftermath);
        report.judge_bank(ended(), aftermath);
        report.judge_effects(aftermath);
        report
    }

    /// Orders that have ended elsewhere than their behaviour says, such as those of buyers who came too late.
    pub fn off_plan(&self) -> u64 {
        self.behaviours.iter().map(|behaviour| behaviour.off_plan).sum()
    }

    /// Orders that have not ended.
    pub fn open(&self) -> u64 {
        self.behaviours.iter().map(|behaviour| behaviour.open).sum()
    }

    /// A run of buyers who come too late finds nothing wrong with payments, because there are none.
    fn judge_plan(&mut self) {
        let orders: u64 = self.behaviours.iter().map(|behaviour| behaviour.orders).sum();
        let off_plan = self.off_plan();
        if off_plan as f64 > orders as f64 * MOST_OFF_PLAN {
            self.unclear.push(format!(
                "off plan: {off_plan} of {orders} orders have ended elsewhere than planned, so less was tested than asked for; give a \
                 longer --payment-window, or a lower --rate"
            ));
        }
    }

    /// Compares the last answer to each buyer with the state of the order.
    fn judge_buyers<'a>(&mut self, orders: impl Iterator<Item = Ended<'a>>) {
        let (mut told_paid, mut told_cancelled, mut told_back, mut told_late) = <_>::default();
        let (mut not_paid_for, mut contradicted, mut early, mut changed) = <_>::default();
        let (mut open, mut held): (Group, Group) = <_>::default();
        for order in orders {
            if !order.fits_the_answer() {
                let kind: &mut Group = match order.life.told {
                    Told::Paid => &mut told_paid,
                    Told::Cancelled => &mut told_cancelled,
                    Told::Refunding => &mut told_back,
                    Told::TooLate => &mut told_late,
                    _ => &mut not_paid_for,
                };
                kind.add(&order);
            }
            let flags: [(bool, &mut Group); 5] = [
                (order.life.contradicted, &mut contradicted),
                (order.life.expired_early, &mut early),
                (order.rests() && order.status != order.life.status, &mut changed),
                (!order.rests(), &mut open),
                (order.rests() && order.status == Some(Status::RefundHeld), &mut held),
            ];
            for (_, kind) in flags.into_iter().filter(|(holds, _)| *holds) {
                kind.add(&order);
            }
        }
        let findings = [
            told_paid.say(|n| {
                format!("paid: {n} buyers were told that they had paid, and their orders are not paid")
            }),
            told_late.say(|n| {
                format!("paid too late: {n} buyers were told that their money goes back, and it does not")
            }),
            told_cancelled.say(|n| {
                format!("cancelled: {n} buyers were told that their orders are cancelled, and they are not")
            }),
            told_back
                .say(|n| format!("refunded: {n} buyers were promised their money, and it does not go back")),
            not_paid_for
                .say(|n| format!("not paid for: {n} orders are paid whose buyers were never told so")),
            contradicted.say(|n| format!("one key, two answers: {n} payments were answered in two ways")),
            early.say(|n| {
                format!("expired too early: {n} orders ran out before their payment window was over")
            }),
            changed.say(|n| format!("not final: {n} orders have changed after they had ended")),
        ];
        self.findings.extend(findings.into_iter().flatten());
        let unclear = [
            open.say(|n| {
                format!("not ended: {n} orders were not where they must end when the time was over")
            }),
            held.say(|n| format!("refunds held: {n} wait for a human, who approves or denies them")),
        ];
        self.unclear.extend(unclear.into_iter().flatten());
    }

    /// Checks the money that the audit adds up, and compares it with what the buyers saw.
    fn judge_audit<'a>(
        &mut self,
        orders: impl Iterator<Item = Ended<'a>>,
        aftermath: &LifecycleAftermath<'_>,
    ) {
        let Some(audit) = aftermath.audit else {
            self.unclear.push("whether the money adds up is not known: the server has no audit of the sale, or did not answer".to_owned());
            return;
        };
        self.returning = Some(audit.returning_units());
        match audit.state() {
            AuditState::Clean => {}
            AuditState::Broken => {
                self.findings.push(format!("the audit: its verdict is {}", audit.verdict.replace('_', " ")));
            }
            AuditState::NotKnown if !aftermath.has_gate => {}
            _ => self.unclear.push(format!("the audit: its verdict is {}", audit.verdict.replace('_', " "))),
        }
        if audit.returning_units() > 0 {
            let units = audit.returning_units();
            self.unclear.push(format!("returning: {units} units of ended orders are not on sale again yet"));
        }
        let Some(money) = audit.money() else {
            self.unclear
                .push("whether the money adds up is not known: the audit has no money in it".to_owned());
            return;
        };
        self.money = Some(money);
        self.findings.extend(money_findings(&money));
        let (mut paid_cents, mut all_known) = (0_u64, self.open() == 0);
        for order in orders.filter(|order| order.status == Some(Status::Paid)) {
            paid_cents = paid_cents.saturating_add(order.life.amount_cents);
            all_known &= order.life.amount_cents > 0;
        }
        if !aftermath.created {
            return;
        }
        if !all_known {
            self.unclear.push(
                "not every order's end and amount is known, so the audit's sums cannot be compared"
                    .to_owned(),
            );
        } else if paid_cents != money.paid_cents {
            self.findings.push(format!(
                "paid orders: the buyers have paid {paid_cents} cents by their own record, and the audit says {}",
                money.paid_cents
            ));
        }
    }

    /// Compares the bank's charges with the orders, and with the audit.
    fn judge_bank<'a>(
        &mut self,
        orders: impl Iterator<Item = Ended<'a>>,
        aftermath: &LifecycleAftermath<'_>,
    ) {
        let charges = match aftermath.bank {
            None => return,
            Some(Err(why)) => return self.unclear.push(format!("the bank's charges are not known: {why}")),
            Some(Ok(charges)) => charges,
        };
        let (mut twice, mut uncharged, mut kept, mut owed): (Group, Group, Group, Group) = <_>::default();
        for order in orders {
            let of = charges.of.get(&order.life.order.order_id).copied().unwrap_or_default();
            let left = i128::from(of.charged_cents) - i128::from(of.refunded_cents);
            if of.succeeded > 1 {
                twice.add(&order);
            }
            match order.status.filter(|_| order.rests()) {
                Some(Status::Paid) if left != i128::from(order.life.amount_cents) => uncharged.add(&order),
                Some(Status::Cancelled | Status::Rejected) if left != 0 => kept.add(&order),
                Some(Status::Refunded) if left != 0 || of.succeeded == 0 => owed.add(&order),
                _ => {}
            }
        }
        let findings = [
            twice.say(|n| format!("charged twice: the bank has charged {n} orders more than once")),
            uncharged.say(|n| {
                format!("paid, not charged: for {n} paid orders the bank does not have their amount")
            }),
            kept.say(|n| format!("charged, not paid: the bank has money for {n} orders that are not paid")),
            owed.say(|n| {
                format!("refunded, not given back: the bank has not given back what {n} orders cost")
            }),
        ];
        self.findings.extend(findings.into_iter().flatten());
        if let (true, Some(other)) = (aftermath.created, charges.other) {
            let n = charges.others;
            self.findings.push(format!(
                "other orders: the bank has {n} charges that belong to no order of this run; the first is of order {other}"
            ));
        }
        let sum = charges.totals();
        self.bank = Some(BankReport {
            charges: sum.succeeded,
            charged_cents: sum.charged_cents,
            refunded_cents: sum.refunded_cents,
            others: charges.others,
        });
        let Some(money) = self.money.filter(|_| aftermath.created && self.open() == 0) else { return };
        let (audit, bank) =
            ((money.charged_cents, money.refunded_cents), (sum.charged_cents, sum.refunded_cents));
        // Every payment of the run is by card alone.
        if audit != bank {
            self.findings.push(format!(
                "bank and audit: the bank has charged {} cents and given back {}, and the audit says {} and {}",
                bank.0, bank.1, audit.0, audit.1
            ));
        }
    }
}

fn behaviour<'a>(
    plan: &LifecyclePlan,
    behaviour: Behaviour,
    orders: impl Iterator<Item = Ended<'a>>,
) -> BehaviourReport {
    let share = plan.shares.of(behaviour);
    let mut report = BehaviourReport { behaviour, share, ..BehaviourReport::of(behaviour) };
    for order in orders.filter(|order| order.life.behaviour == behaviour) {
        report.orders += 1;
        if !order.rests() {
            report.open += 1;
            continue;
        }
        match order.status {
            Some(Status::Paid) => report.paid += 1,
            Some(Status::Cancelled) => report.cancelled += 1,
            Some(Status::Refunded) => report.refunded += 1,
            Some(Status::RefundHeld) => report.refund_held += 1,
            Some(Status::Rejected) => report.rejected += 1,
            _ => {}
        }
        let off_plan = !order.is_as_planned() && order.status != Some(Status::Rejected);
        report.off_plan += u64::from(off_plan);
    }
    report
}

/// What is wrong with the money of an audit, in sentences. While money goes back, a part of it may have gone already.
fn money_findings(money: &Money) -> Vec<String> {
    let Money { charged_cents, refunded_cents, paid_cents, refunding_cents, entries_sum, unbalanced } =
        *money;
    let mut findings = Vec::new();
    if entries_sum != 0 || unbalanced != 0 {
        findings.push(format!(
            "entries: they sum to {entries_sum} and not to 0, and {unbalanced} transfers are unbalanced"
        ));
    }
    let held = i128::from(charged_cents) - i128::from(refunded_cents);
    let least = i128::from(paid_cents);
    if held < least || held > least + i128::from(refunding_cents) {
        findings.push(format!(
            "money: {charged_cents} cents were charged and {refunded_cents} refunded, but the paid orders amount to \
             {paid_cents} and {refunding_cents} are going back"
        ));
    }
    findings
}

impl fmt::Display for LifecycleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        let head = [
            "after the order",
            "orders",
            "paid",
            "cancelled",
            "refunded",
            "held",
            "rejected",
            "open",
            "off plan",
        ];
        table.load_style(UTF8_BORDERS_ONLY).set_header(head);
        for row in &self.behaviours {
            let BehaviourReport {
                orders,
                paid,
                cancelled,
                refunded,
                refund_held,
                rejected,
                open,
                off_plan,
                ..
            } = row;
            let counts = [orders, paid, cancelled, refunded, refund_held, rejected, open, off_plan];
            let name = row.behaviour.word().to_owned();
            table.add_row(std::iter::once(name).chain(counts.map(u64::to_string)));
        }
        align_numbers(&mut table);
        writeln!(f, "{table}")?;
        let refused: Vec<String> =
            self.refusals.iter().map(|(name, count)| format!("{count} {name}")).collect();
        let refused = if refused.is_empty() { "nothing".to_owned() } else { refused.join(", ") };
        writeln!(
            f,
            "requests    {} after the order, {} of them again; refused: {refused}",
            self.requests, self.retries
        )?;
        if let Some(money) = &self.money {
            writeln!(
                f,
                "money       charged {}   refunded {}   paid {}   going back {}   entries {}   unbalanced {}",
                money.charged_cents,
                money.refunded_cents,
                money.paid_cents,
                money.refunding_cents,
                money.entries_sum,
                money.unbalanced
            )?;
        }
        if let Some(bank) = &self.bank {
            writeln!(
                f,
                "bank        {} charges   charged {}   refunded {}   of other orders {}",
                bank.charges, bank.charged_cents, bank.refunded_cents, bank.others
            )?;
        }
        writeln!(f, "effects     {}", self.effects_line())?;
        if self.off_plan() > 0 {
            writeln!(
                f,
                "off plan    {} orders have ended elsewhere than planned: they were not paid in time",
                self.off_plan()
            )?;
        }
        Ok(())
    }
}
