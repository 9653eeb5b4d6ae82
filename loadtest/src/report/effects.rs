//! Whether each refund event had one effect at each of the server's own subscribers: judged, and shown.

use std::collections::BTreeSet;

use crate::check::effects::EffectCheck;
use crate::report::lifecycle::LifecycleAftermath;
use crate::report::schema::LifecycleReport;

/// What was wrong with one comparison.
fn sentence(check: &EffectCheck) -> String {
    let EffectCheck { subscriber, event, expected, actual } = check;
    let what = if subscriber == "loyalty" { "points" } else { "effects" };
    format!("{subscriber} has had {actual} {what} of {event} and not {expected}")
}

impl LifecycleReport {
    /// Judges the effects. While orders are open their events are on their way, and in a sale of others there are always some: what may
    /// still become right is unclear then.
    pub(super) fn judge_effects(&mut self, aftermath: &LifecycleAftermath<'_>) {
        let effects = match aftermath.effects {
            None | Some(Ok(None)) => return,
            Some(Err(why)) => {
                self.unclear
                    .push(format!("effects: whether each refund event had one effect is not known: {why}"));
                return;
            }
            Some(Ok(Some(effects))) => effects,
        };
        if effects.is_empty() {
            self.unclear.push("effects: the server has compared none".to_owned());
        }
        let at_rest = aftermath.created && self.open() == 0;
        for check in effects.iter().filter(|check| !check.is_right()) {
            let list =
                if at_rest || check.is_certainly_wrong() { &mut self.findings } else { &mut self.unclear };
            list.push(format!("effects: {}", sentence(check)));
        }
        self.effects = Some(effects.clone());
    }

    /// The effects in one line.
    pub(super) fn effects_line(&self) -> String {
        let Some(effects) = &self.effects else {
            return "not checked: it takes the admin token, and a server that has the counts".to_owned();
        };
        let wrong: Vec<String> = effects.iter().filter(|check| !check.is_right()).map(sentence).collect();
        if !wrong.is_empty() {
            return wrong.join("; ");
        }
        let subscribers: BTreeSet<&str> = effects.iter().map(|check| check.subscriber.as_str()).collect();
        format!("each refund event once at each of {} subscribers", subscribers.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::lifecycle::Behaviour;
    use crate::report::schema::BehaviourReport;

    type Effects = Result<Option<Vec<EffectCheck>>, String>;

    fn check(subscriber: &str, event: &str, expected: i64, actual: i64) -> EffectCheck {
        EffectCheck { subscriber: subscriber.to_owned(), event: event.to_owned(), expected, actual }
    }

    fn judged(effects: Option<&Effects>, created: bool, open: u64) -> LifecycleReport {
        let behaviours = vec![BehaviourReport { open, ..BehaviourReport::of(Behaviour::Refund) }];
        let mut report = LifecycleReport { behaviours, ..LifecycleReport::default() };
        let aftermath =
            LifecycleAftermath { checks: &[], audit: None, has_gate: true, created, bank: None, effects };
        report.judge_effects(&aftermath);
        report
    }

    fn counts(effects: &Effects, created: bool, open: u64) -> (usize, usize) {
        let report = judged(Some(effects), created, open);
        (report.findings.len(), report.unclear.len())
    }

    #[test]
    fn one_effect_each_is_right_and_what_was_not_read_is_not_judged() {
        let right = vec![check("funnel", "refund.held", 2, 2), check("restock", "order.cancelled", 3, 3)];
        let report = judged(Some(&Ok(Some(right.clone()))), true, 0);
        assert_eq!((report.findings.len(), report.unclear.len(), &report.effects), (0, 0, &Some(right)));
        assert_eq!(report.effects_line(), "each refund event once at each of 2 subscribers");
        for none in [None, Some(&Ok(None))] {
            let report = judged(none, true, 0);
            assert_eq!((report.findings.len(), report.unclear.len(), &report.effects), (0, 0, &None));
            assert!(report.effects_line().starts_with("not checked: "));
        }
        assert_eq!(counts(&Err("no answer".to_owned()), true, 0), (0, 1));
        assert_eq!(counts(&Ok(Some(Vec::new())), true, 0), (0, 1));
    }

    #[test]
    fn a_report_from_before_the_effects_were_checked_still_reads() {
        let older = serde_json::to_value(judged(None, true, 0)).unwrap();
        assert!(older.get("effects").is_none(), "{older}");
        assert_eq!(serde_json::from_value::<LifecycleReport>(older).unwrap().effects, None);
        let newer = judged(Some(&Ok(Some(vec![check("funnel", "refund.held", 2, 2)]))), true, 0);
        let json = serde_json::to_value(&newer).unwrap();
        assert_eq!(serde_json::from_value::<LifecycleReport>(json).unwrap(), newer);
    }

    #[test]
    fn what_may_still_become_right_is_unclear_while_orders_are_open() {
        let more = || Ok(Some(vec![check("loyalty", "order.paid, refund.succeeded", 10, 12)]));
        let fewer = || Ok(Some(vec![check("funnel", "refund.succeeded", 3, 2)]));
        let certain = || Ok(Some(vec![check("funnel", "refund.succeeded", 3, 4)]));
        for (created, open, expected) in [(true, 0, (1, 0)), (true, 1, (0, 1)), (false, 0, (0, 1))] {
            assert_eq!(counts(&more(), created, open), expected);
            assert_eq!(counts(&fewer(), created, open), expected);
            assert_eq!(counts(&certain(), created, open), (1, 0));
        }
        let report = judged(Some(&more()), true, 0);
        let sentence = "loyalty has had 12 points of order.paid, refund.succeeded and not 10";
        assert_eq!(report.findings, [format!("effects: {sentence}")]);
        assert_eq!(report.effects_line(), sentence);
    }
}
