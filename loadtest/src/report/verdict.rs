//! The verdict of a report, with its reasons in sentences.

use crate::report::schema::{Report, ThresholdReport, Verdict, VerificationReport};
use crate::report::threshold::Threshold;

impl Report {
    /// Evaluates the thresholds, and sets the verdict with its reasons.
    pub fn set_verdict(&mut self, thresholds: &[Threshold], interrupted: bool) {
        self.thresholds = thresholds.iter().map(|threshold| threshold.evaluate(self)).collect();
        let broken = self.broken();
        let missed: Vec<String> = self.thresholds.iter().filter(|one| !one.kept).map(missed).collect();
        let unclear = self.unclear();
        (self.verdict, self.reasons) = if !broken.is_empty() {
            (Verdict::Violated, broken)
        } else if interrupted {
            (
                Verdict::Interrupted,
                vec!["the run was interrupted; the numbers are of the part that ran".to_owned()],
            )
        } else if !unclear.is_empty() {
            (Verdict::Unclear, unclear)
        } else if !missed.is_empty() {
            (Verdict::ThresholdMissed, missed)
        } else if self.verification.is_none() {
            (Verdict::Unverified, vec!["the orders were not looked up".to_owned()])
        } else {
            (Verdict::Pass, Vec::new())
        };
    }

    /// The broken promises, in sentences.
    fn broken(&self) -> Vec<String> {
        let mut broken = self.lifecycle.as_ref().map(|one| one.findings.clone()).unwrap_or_default();
        let Some(checked) = &self.verification else { return broken };
        if checked.lost > 0 && !checked.cancelled {
            let (lost, promised) = (checked.lost, checked.promised);
            broken.push(format!("lost: {lost} of {promised} promised orders have no final row"));
        }
        if checked.oversold > 0 {
            broken.push(format!("oversold: {} units are sold above the stock", checked.oversold));
        }
        if checked.duplicates > 0 {
            broken.push(format!("duplicates: {} buyers were given two orders", checked.duplicates));
        }
        if checked.conserved == Some(false) {
            broken.push(
                "not conserved: the sale's audit does not find every unit of stock in exactly one place"
                    .to_owned(),
            );
        }
        if !broken.is_empty() {
            broken.extend(checked.audit_findings.iter().map(|finding| format!("the audit found: {finding}")));
        }
        broken
    }

    /// Why it is not known whether the promises were kept, in sentences.
    fn unclear(&self) -> Vec<String> {
        let counts = &self.counts;
        let mut unclear = Vec::new();
        if counts.accepted + counts.replayed + counts.sold_out == 0 {
            let most = self.refusals.iter().max_by_key(|(_, count)| **count);
            let most = most.map_or_else(String::new, |(problem, count)| {
                format!("; {count} were refused with {problem}")
            });
            unclear.push(format!(
                "none of the {} requests was answered with an order or sold out{most}",
                counts.sent
            ));
        }
        unclear.extend(self.lifecycle.iter().flat_map(|one| one.unclear.clone()));
        if let Some(checked) = &self.verification {
            if checked.in_flight > 0 {
                unclear.push(format!(
                    "still in flight: {} of {} promised orders have no final row yet and still wait for the workers",
                    checked.in_flight, checked.promised
                ));
            }
            if checked.unclear > 0 {
                unclear.push(format!(
                    "the server did not say what became of {} promised orders",
                    checked.unclear
                ));
            }
            unclear.extend(conservation_not_known(checked));
            if checked.cancelled {
                unclear.push(
                    "the check was cancelled, so it is not known whether every promise was kept".to_owned(),
                );
            }
        }
        unclear
    }
}

/// Why it is not known whether stock is conserved. `None`: it is known, or the sale has no gate to compare with.
fn conservation_not_known(checked: &VerificationReport) -> Option<String> {
    if checked.conserved.is_some() || !checked.has_gate {
        return None;
    }
    let why = match checked.audit_verdict.as_deref() {
        _ if checked.rebuilding => "the sale's gate is being rebuilt".to_owned(),
        None => "the server has no audit of the sale, or did not answer".to_owned(),
        Some("gate_missing") => "the sale's gate has no data".to_owned(),
        Some(word) => format!("the audit's verdict is {}", word.replace('_', " ")),
    };
    Some(format!("whether stock is conserved is not known: {why}"))
}

fn missed(threshold: &ThresholdReport) -> String {
    match threshold.measured {
        Some(_) => format!("threshold missed: {}, measured {}", threshold.text, threshold.shown()),
        None => format!("threshold missed: {}, but nothing was measured", threshold.text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::report;
    use crate::report::schema::LifecycleReport;

    #[test]
    fn the_verdict_is_the_worst_that_applies() {
        let missed: [Threshold; 1] = ["p50<1us".parse().unwrap()];
        let verdict = |spoil: fn(&mut Report), thresholds: &[Threshold], interrupted| {
            let mut report = report();
            spoil(&mut report);
            report.set_verdict(thresholds, interrupted);
            assert_eq!(report.reasons.is_empty(), report.verdict == Verdict::Pass, "{:?}", report.reasons);
            report.verdict
        };
        fn checked(report: &mut Report) -> &mut VerificationReport {
            report.verification.as_mut().unwrap()
        }
        assert_eq!(verdict(|_| {}, &[], false), Verdict::Pass);
        assert_eq!(verdict(|_| {}, &missed, false), Verdict::ThresholdMissed);
        assert_eq!(verdict(|_| {}, &missed, true), Verdict::Interrupted);
        assert_eq!(verdict(|report| report.verification = None, &[], false), Verdict::Unverified);
        let spoiled: [fn(&mut Report); 4] = [
            |report| checked(report).lost = 1,
            |report| checked(report).oversold = 1,
            |report| checked(report).duplicates = 1,
            |report| checked(report).conserved = Some(false),
        ];
        for spoil in spoiled {
            assert_eq!(verdict(spoil, &missed, true), Verdict::Violated);
        }
        fn lifecycle(report: &mut Report) -> &mut LifecycleReport {
            report.lifecycle.get_or_insert_default()
        }
        let found = |report: &mut Report| lifecycle(report).findings.push("money".to_owned());
        assert_eq!(verdict(found, &missed, true), Verdict::Violated);
        let unclear: [fn(&mut Report); 6] = [
            |report| lifecycle(report).unclear.push("bank".to_owned()),
            |report| checked(report).unclear = 1,
            |report| checked(report).in_flight = 1,
            |report| checked(report).conserved = None,
            |report| (checked(report).lost, checked(report).cancelled) = (5, true),
            |report| (report.counts.accepted, report.counts.sold_out, report.counts.refused) = (0, 0, 2_000),
        ];
        for spoil in unclear {
            assert_eq!(verdict(spoil, &missed, false), Verdict::Unclear);
        }
    }

    #[test]
    fn a_sale_without_a_gate_needs_no_audit_of_the_gate() {
        let mut report = report();
        let checked = report.verification.as_mut().unwrap();
        (checked.has_gate, checked.conserved) = (false, None);
        report.set_verdict(&[], false);
        assert_eq!(report.verdict, Verdict::Pass);
    }
}
