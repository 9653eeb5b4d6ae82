//! What buyers do after the order, against a gateway and a bank that are honest or lie about money.

use futures_util::StreamExt;
use loadtest::{Behaviour, BehaviourReport, LifecycleReport, Report, Verdict};

use crate::command::{admin, run};
use crate::gateway::Lie;

const PASS: (i32, Verdict) = (0, Verdict::Pass);
const UNCLEAR: (i32, Verdict) = (4, Verdict::Unclear);
const VIOLATED: (i32, Verdict) = (3, Verdict::Violated);

/// 100 orders with a window of two seconds, in a sale of the run's own.
async fn play(lie: Lie) -> ((i32, Verdict), Report, String) {
    play_with(lie, "-n 100 --payment-window 2s").await
}

async fn play_with(lie: Lie, flags: &str) -> ((i32, Verdict), Report, String) {
    let (code, report, printed) =
        run(lie, &format!("lifecycle --rate 1000 --price 250 --bank {{target}} {} {flags}", admin())).await;
    ((code, report.verdict), report, printed)
}

/// Not all at once: a busy machine would let the windows run out.
async fn few_at_a_time(runs: impl IntoIterator<Item = impl Future<Output = ()>>) {
    futures_util::stream::iter(runs).buffer_unordered(3).collect::<()>().await;
}

fn after(report: &Report) -> &LifecycleReport {
    report.lifecycle.as_ref().unwrap()
}

fn of(report: &Report, behaviour: Behaviour) -> BehaviourReport {
    *after(report).behaviours.iter().find(|one| one.behaviour == behaviour).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_order_of_an_honest_gateway_ends_where_it_must() {
    let (verdict, report, printed) = play(Lie::Nothing).await;
    assert_eq!(verdict, PASS, "{printed}");
    let paid = [Behaviour::Pay, Behaviour::PayTwice].map(|one| of(&report, one));
    let cancelled = [Behaviour::PayLate, Behaviour::Expire, Behaviour::Cancel].map(|one| of(&report, one));
    let refund = of(&report, Behaviour::Refund);
    assert!(paid.iter().all(|one| one.orders > 0 && one.paid == one.orders), "{printed}");
    assert!(cancelled.iter().all(|one| one.orders > 0 && one.cancelled == one.orders), "{printed}");
    assert!(refund.orders > 0 && refund.refunded == refund.orders, "{printed}");
    assert_eq!(after(&report).behaviours.iter().map(|one| one.orders).sum::<u64>(), 100);
    let (money, bank) = (after(&report).money.unwrap(), after(&report).bank.unwrap());
    let kept = paid.iter().map(|one| one.paid).sum::<u64>() * 250;
    assert_eq!((money.paid_cents, money.refunded_cents), (kept, refund.refunded * 250));
    assert_eq!((bank.charged_cents, bank.refunded_cents), (money.charged_cents, money.refunded_cents));
    // The late ones, and nobody else.
    assert_eq!(after(&report).refusals["409 order-state"], of(&report, Behaviour::PayLate).orders);
    assert_eq!((after(&report).retries, after(&report).off_plan()), (0, 0), "{printed}");
    let once = "effects     each refund event once at each of 4 subscribers";
    for shown in
        ["after the order", "pay twice", "money       charged", "bank        ", once, "verdict     pass"]
    {
        assert!(printed.contains(shown), "{shown:?} is not in\n{printed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_to_be_sent_again_is_sent_again_under_the_same_key() {
    let (verdict, report, printed) = play_with(Lie::Busy, "--payment-window 8s -n 60").await;
    assert_eq!(verdict, PASS, "{printed}");
    assert_eq!(after(&report).off_plan(), 0, "{printed}");
    // Each payment at least twice, even where two were sent at once.
    let paying = [Behaviour::Pay, Behaviour::PayTwice, Behaviour::Refund].map(|one| of(&report, one).orders);
    assert!(after(&report).retries >= 2 * paying.iter().sum::<u64>(), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_that_comes_too_late_goes_back() {
    let (verdict, report, printed) = play(Lie::TakesLate).await;
    let late = of(&report, Behaviour::PayLate);
    assert_eq!((verdict, late.refunded, late.off_plan), (PASS, late.orders, 0), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_lie_about_money_is_a_finding() {
    let lies = [
        (Lie::TellsPaid, "paid: "),
        (Lie::TellsCancelled, "cancelled: "),
        (Lie::DeclinesAndCharges, "not paid for: "),
        (Lie::TwoAnswers, "one key, two answers: "),
        (Lie::PaysUnasked, "not paid for: "),
        (Lie::ChargesTwice, "charged twice: "),
        (Lie::ChargesOthers, "other orders: the bank has 1 charges"),
        (Lie::KeepsRefunds, "refunded, not given back: "),
        (Lie::KeepsLate, "refunded, not given back: "),
        (Lie::WrongSum, "money: "),
        (Lie::Unbalanced, "entries: they sum to 1"),
        (Lie::CountsTwice, "effects: funnel has had "),
        (Lie::GivesPointsTwice, "effects: loyalty has had "),
        (Lie::ForgetsNotice, "effects: notifications has had "),
    ];
    let runs = lies.map(|(lie, finding)| async move {
        let (verdict, report, printed) = play(lie).await;
        assert_eq!(verdict, VIOLATED, "{printed}\n{lie:?}");
        let findings = &after(&report).findings;
        assert!(findings.iter().any(|one| one.starts_with(finding)), "{lie:?}: {findings:?}");
        assert!(findings.iter().all(|one| report.reasons.contains(one)), "{lie:?}: {printed}");
    });
    few_at_a_time(runs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn effects_that_come_a_moment_later_are_waited_for() {
    let (verdict, report, printed) = play(Lie::EffectsLater).await;
    assert_eq!(verdict, PASS, "{printed}");
    let effects = after(&report).effects.as_ref().unwrap();
    assert!(effects.len() == 7 && effects.iter().all(|one| one.expected == one.actual), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_counts_of_effects_nothing_is_said_of_them() {
    let (verdict, report, printed) = play(Lie::NoEffects).await;
    assert_eq!((verdict, &after(&report).effects), (PASS, &None), "{printed}");
    assert!(printed.contains("effects     not checked: "), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_expires_before_its_time_is_a_finding() {
    let (verdict, report, printed) = play_with(Lie::ExpiresEarly, "-n 50 --payment-window 4s").await;
    assert_eq!(verdict, VIOLATED, "{printed}");
    assert!(after(&report).findings.iter().any(|one| one.starts_with("expired too early: ")), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_known_is_unclear() {
    let open = [
        (Lie::NeverExpires, "not ended: "),
        (Lie::HoldsRefunds, "refunds held: "),
        (Lie::NeverReturns, "returning: 1 units"),
        (Lie::NoMoney, "whether the money adds up is not known"),
        (Lie::NoAudit, "whether the money adds up is not known"),
        (Lie::EffectsAway, "effects: whether each refund event had one effect is not known: "),
    ];
    let runs = open.map(|(lie, reason)| async move {
        let (verdict, report, printed) = play(lie).await;
        assert_eq!(verdict, UNCLEAR, "{lie:?}: {printed}");
        assert!(report.reasons.iter().any(|one| one.starts_with(reason)), "{lie:?}: {printed}");
    });
    few_at_a_time(runs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_cannot_go_on_after_the_order_is_refused_before_it() {
    let refused = [
        (2, "lifecycle --sale 1 --pay 0.9", "add up to 1"),
        (2, "lifecycle --sale 1 --payment-window 10ms", "1s or more"),
        (2, "lifecycle --sale 1 --price 0", "1..="),
        (1, "lifecycle --sale 1", "cannot be paid"),
        (1, "lifecycle --bank http://127.0.0.1:9", "cannot connect to http://127.0.0.1:9"),
        (2, "lifecycle --bank 127.0.0.1", "like http://127.0.0.1:8080"),
    ];
    let target = crate::gateway::gateway(Lie::Nothing).await;
    for (code, flags, sentence) in refused {
        let flags =
            format!("run {flags} --target {target} --jwt-secret {} {}", crate::gateway::SECRET, admin());
        let output = crate::command::output(flags.split_whitespace().map(str::to_owned).collect()).await;
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && text.contains(sentence), "{flags}: {text}");
    }
}
