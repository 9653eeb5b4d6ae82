//! Thresholds: conditions on a report as users write them, such as `p99<200ms`.

use std::str::FromStr;

use crate::error::Error;
use crate::plan::stages::parse_duration;
use crate::report::schema::{Report, ThresholdReport};
use crate::send::latency::Latency;

/// Examples of thresholds, for error messages.
const EXAMPLE: &str = "'p99<200ms', 'oversold==0', 'accepted_rate>3000' or 'late_share<1%'";

/// One condition on a report.
#[derive(Debug, Clone)]
pub struct Threshold {
    text: String,
    metric: &'static Metric,
    comparison: Comparison,
    bound: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    More,
    AtLeast,
    Equal,
    NotEqual,
}

/// Every comparison. Those of two characters are first, because they begin with another one.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<", Comparison::Less),
    (">", Comparison::More),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Microseconds; bounds are written with a unit.
    Time,
    /// Seconds; bounds are written with a unit.
    Seconds,
    /// Bounds are bare numbers.
    Number,
    /// 0 to 1; bounds are bare numbers or per cent.
    Share,
}

#[derive(Debug)]
struct Metric {
    name: &'static str,
    unit: Unit,
    /// `None`: nothing was measured.
    of: fn(&Report) -> Option<f64>,
}

/// The time at a percentile; `None` where there was nothing to measure.
macro_rules! time {
    ($name:literal, $($path:ident).+, $field:ident) => {
        Metric { name: $name, unit: Unit::Time, of: |r| time(&r.$($path).+, |l| l.$field) }
    };
}

macro_rules! end_to_end {
    ($name:literal, $field:ident) => {
        Metric {
            name: $name,
            unit: Unit::Time,
            of: |r| time(&r.verification.as_ref()?.end_to_end, |l| l.$field),
        }
    };
}

macro_rules! count {
    ($name:literal, |$report:ident| $value:expr) => {
        Metric { name: $name, unit: Unit::Number, of: |$report| Some($value as f64) }
    };
}

macro_rules! verified {
    ($name:ident) => {
        Metric {
            name: stringify!($name),
            unit: Unit::Number,
            of: |r| r.verification.as_ref().filter(|v| !v.cancelled).map(|v| v.$name as f64),
        }
    };
}

/// Everything that a threshold can be set on.
static METRICS: [Metric; 42] = [
    time!("p50", latency.corrected.all, p50_us),
    time!("p90", latency.corrected.all, p90_us),
    time!("p95", latency.corrected.all, p95_us),
    time!("p99", latency.corrected.all, p99_us),
    time!("p99.9", latency.corrected.all, p999_us),
    time!("max", latency.corrected.all, max_us),
    time!("accepted_p50", latency.corrected.accepted, p50_us),
    time!("accepted_p90", latency.corrected.accepted, p90_us),
    time!("accepted_p95", latency.corrected.accepted, p95_us),
    time!("accepted_p99", latency.corrected.accepted, p99_us),
    time!("accepted_p99.9", latency.corrected.accepted, p999_us),
    time!("accepted_max", latency.corrected.accepted, max_us),
    time!("uncorrected_p99", latency.uncorrected.all, p99_us),
    end_to_end!("end_to_end_p50", p50_us),
    end_to_end!("end_to_end_p99", p99_us),
    end_to_end!("end_to_end_max", max_us),
    count!("sent", |r| r.counts.sent),
    count!("accepted", |r| r.counts.accepted),
    count!("replayed", |r| r.counts.replayed),
    count!("sold_out", |r| r.counts.sold_out),
    count!("rate_limited", |r| r.counts.rate_limited),
    count!("refused", |r| r.counts.refused),
    count!("unknown", |r| r.counts.unknown),
    count!("malformed", |r| r.counts.malformed),
    count!("timed_out", |r| r.counts.timed_out),
    count!("connection_errors", |r| r.counts.connection_errors),
    count!("errors", |r| errors(r)),
    Metric { name: "error_share", unit: Unit::Share, of: |r| share(errors(r), r.counts.sent) },
    Metric { name: "late_share", unit: Unit::Share, of: |r| share(r.generator.late, r.counts.sent) },
    count!("sent_rate", |r| r.rates.sent),
    count!("answered_rate", |r| r.rates.answered),
    count!("accepted_rate", |r| r.rates.accepted),
    verified!(committed),
    verified!(rejected),
    verified!(lost),
    verified!(in_flight),
    verified!(oversold),
    verified!(duplicates),
    Metric {
        name: "off_plan",
        unit: Unit::Number,
        of: |r| r.lifecycle.as_ref().map(|l| l.off_plan() as f64),
    },
    Metric { name: "not_ended", unit: Unit::Number, of: |r| r.lifecycle.as_ref().map(|l| l.open() as f64) },
    Metric { name: "cpu_share", unit: Unit::Share, of: |r| r.generator.cpu_share },
    Metric { name: "drain", unit: Unit::Seconds, of: |r| r.verification.as_ref()?.drain_seconds },
];

fn time(latency: &Latency, value: fn(&Latency) -> u64) -> Option<f64> {
    (latency.count > 0).then(|| value(latency) as f64)
}

/// Requests without an order or sold out for an answer: refused, unknown, malformed, timed out, or on a broken connection.
fn errors(report: &Report) -> u64 {
    let counts = &report.counts;
    counts.refused + counts.unknown + counts.malformed + counts.timed_out + counts.connection_errors
}

fn share(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

impl PartialEq for Threshold {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl FromStr for Threshold {
    type Err = Error;

    /// Reads `p99<200ms`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Malformed {
            what: "threshold",
            text: text.to_owned(),
            reason,
            example: EXAMPLE,
        };
        let at = text.find(['<', '>', '=', '!']).ok_or_else(|| wrong("it has no comparison".to_owned()))?;
        let (name, rest) = (text[..at].trim(), &text[at..]);
        let (sign, comparison) = COMPARISONS
            .into_iter()
            .find(|(sign, _)| rest.starts_with(sign))
            .ok_or_else(|| wrong("allowed are <, <=, >, >=, == and !=".to_owned()))?;
        let metric = METRICS.iter().find(|metric| metric.name == name).ok_or_else(|| {
            let names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
            wrong(format!("{name:?} is not measured; measured are {}", names.join(", ")))
        })?;
        let bound = metric.unit.read(rest[sign.len()..].trim()).map_err(wrong)?;
        Ok(Self { text: text.to_owned(), metric, comparison, bound })
    }
}

impl Unit {
    fn read(self, text: &str) -> Result<f64, String> {
        let number = |text: &str| {
            let number: Option<f64> = text.trim().parse().ok().filter(|number: &f64| number.is_finite());
            number.ok_or_else(|| format!("{text:?} is no number"))
        };
        match self {
            Self::Time => parse_duration(text).map(|time| time.as_secs_f64() * 1e6),
            Self::Seconds => parse_duration(text).map(|time| time.as_secs_f64()),
            Self::Number => number(text),
            Self::Share => match text.strip_suffix('%') {
                Some(percent) => number(percent).map(|percent| percent / 100.0),
                None => number(text),
            },
        }
    }
}

impl Threshold {
    /// Evaluates the threshold on a report. Where nothing was measured the threshold is missed.
    pub fn evaluate(&self, report: &Report) -> ThresholdReport {
        let measured = (self.metric.of)(report);
        let kept = measured.is_some_and(|measured| match self.comparison {
            Comparison::Less => measured < self.bound,
            Comparison::AtMost => measured <= self.bound,
            Comparison::More => measured > self.bound,
            Comparison::AtLeast => measured >= self.bound,
            Comparison::Equal => measured == self.bound,
            Comparison::NotEqual => measured != self.bound,
        });
        ThresholdReport { text: self.text.clone(), measured, kept }
    }
}

impl ThresholdReport {
    /// The measured value, with its unit.
    pub fn shown(&self) -> String {
        let Some(measured) = self.measured else { return "nothing".to_owned() };
        let unit = self.text.parse().map_or(Unit::Number, |threshold: Threshold| threshold.metric.unit);
        match unit {
            Unit::Time => format!("{:.1} ms", measured / 1e3),
            Unit::Seconds => format!("{measured:.1} s"),
            Unit::Share => format!("{:.2} %", measured * 100.0),
            Unit::Number if measured.fract() == 0.0 => format!("{measured}"),
            Unit::Number => format!("{measured:.1}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample::report;

    fn evaluated(text: &str) -> ThresholdReport {
        text.parse::<Threshold>().unwrap().evaluate(&report())
    }

    #[test]
    fn a_report_is_compared_with_the_bound() {
        for kept in [
            "p99<200ms",
            "p99 <= 0.1s",
            "p99>=100000us",
            "oversold==0",
            "accepted_rate>3000",
            "late_share<1%",
        ] {
            assert!(evaluated(kept).kept, "{kept}: {:?}", evaluated(kept));
        }
        for missed in ["p99<100ms", "lost!=0", "accepted>=1001", "late_share<0.001", "drain<1s"] {
            assert!(!evaluated(missed).kept, "{missed}: {:?}", evaluated(missed));
        }
        assert_eq!(evaluated("p99<1ms").shown(), "100.0 ms");
        assert_eq!(evaluated("late_share<1%").shown(), "0.20 %");
    }

    #[test]
    fn a_threshold_without_a_measurement_is_not_kept() {
        let mut report = report();
        report.verification = None;
        let evaluated = "lost==0".parse::<Threshold>().unwrap().evaluate(&report);
        assert_eq!((evaluated.measured, evaluated.kept), (None, false));
    }

    #[test]
    fn an_error_in_a_threshold_has_an_example_of_the_right_form() {
        for bad in [
            "",
            "p99",
            "p99<",
            "p99<200",
            "p98<1ms",
            "<5",
            "lost=0",
            "lost==none",
            "late_share<x%",
            "p99<>1ms",
        ] {
            let error = bad.parse::<Threshold>().unwrap_err().to_string();
            assert!(error.contains("p99<200ms"), "{bad}: {error}");
        }
    }
}
