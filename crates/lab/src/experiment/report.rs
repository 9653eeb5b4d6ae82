//! What an experiment has found: expected against actual, and a verdict.

use std::fmt;

use serde::Serialize;

use super::{About, Line, Needs, Side, Store, Text};

/// What a count must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    Exactly(u64),
    AtMost(u64),
}

impl Expected {
    fn holds(self, actual: u64) -> bool {
        match self {
            Self::Exactly(expected) => actual == expected,
            Self::AtMost(most) => actual <= most,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(expected) | Self::AtMost(expected @ 0) => write!(f, "{expected}"),
            Self::AtMost(most) => write!(f, "≤ {most}"),
        }
    }
}

/// Expected against actual.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Count {
    pub what: Text,
    pub expected: Expected,
    pub actual: u64,
    pub holds: bool,
}

/// A number that is shown beside the counts and that nothing is expected of, such as a time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measure {
    pub what: Text,
    pub value: f64,
    /// Such as `ms`; empty for a plain number.
    pub unit: &'static str,
}

/// What one side has found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    counts: Vec<Count>,
    measures: Vec<Measure>,
}

impl Findings {
    pub(crate) fn exactly(self, what: Text, expected: u64, actual: u64) -> Self {
        self.count(what, Expected::Exactly(expected), actual)
    }

    pub(crate) fn at_most(self, what: Text, most: u64, actual: u64) -> Self {
        self.count(what, Expected::AtMost(most), actual)
    }

    /// Adds a number that nothing is expected of.
    pub(crate) fn measure(mut self, what: Text, value: f64, unit: &'static str) -> Self {
        self.measures.push(Measure { what, value, unit });
        self
    }

    fn count(mut self, what: Text, expected: Expected, actual: u64) -> Self {
        self.counts.push(Count { what, expected, actual, holds: expected.holds(actual) });
        self
    }
}

/// One side, run.
#[derive(Debug, Clone, Serialize)]
pub struct Arm {
    pub side: Side,
    pub counts: Vec<Count>,
    pub measures: Vec<Measure>,
    /// Whether every count is as expected.
    pub holds: bool,
    pub seconds: f64,
}

impl Arm {
    pub(super) fn new(side: Side, findings: Findings, seconds: f64) -> Self {
        let Findings { counts, measures } = findings;
        let holds = counts.iter().all(|count| count.holds);
        Self { side, counts, measures, holds, seconds }
    }
}

/// What the two sides say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Without the safeguard a count is off, and with it all are as expected.
    AsPredicted,
    /// The faults of this seed did no harm without the safeguard either: try another seed.
    NotShown,
    /// A count is off with the safeguard.
    Broken,
    /// Both sides hold, as they have to, and can be compared.
    Compared,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AsPredicted => "as predicted: it breaks without the safeguard, and holds with it",
            Self::NotShown => {
                "not shown: these faults did no harm without the safeguard either; try another --seed"
            }
            Self::Compared => "compared: both hold; the numbers are of this machine and these settings",
            Self::Broken => {
                "broken: a number is off although the safeguard is on; this is a fault of seckill"
            }
        })
    }
}

/// An experiment, run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub name: &'static str,
    pub question: Text,
    pub prediction: Text,
    pub store: Store,
    pub needs: Needs,
    /// See [`About::columns`].
    pub columns: Option<[Text; 2]>,
    pub seed: u64,
    pub without: Arm,
    pub with: Arm,
    pub verdict: Verdict,
    /// Where this project has the safeguard.
    pub safeguard: Option<Line>,
}

impl Report {
    pub(super) fn new(about: &About, store: Store, seed: u64, without: Arm, with: Arm) -> Self {
        let verdict = match (without.holds, with.holds) {
            (_, false) => Verdict::Broken,
            (true, true) if about.columns.is_some() => Verdict::Compared,
            (false, true) if about.columns.is_some() => Verdict::Broken,
            (true, true) => Verdict::NotShown,
            (false, true) => Verdict::AsPredicted,
        };
        Self {
            name: about.name,
            question: about.question,
            prediction: about.prediction,
            store,
            needs: about.needs,
            columns: about.columns,
            seed,
            without,
            with,
            verdict,
            safeguard: about.safeguard.line(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::text;

    #[test]
    fn the_verdict_follows_from_the_counts() {
        let what = text("effects", "");
        let arm = |side, actual| {
            Arm::new(side, Findings::default().exactly(what, 3, actual).at_most(what, 5, 5), 0.0)
        };
        let about = crate::experiments::ALL[0].about();
        let verdict = |without, with| {
            Report::new(about, Store::Embedded, 1, arm(Side::Without, without), arm(Side::With, with)).verdict
        };
        assert_eq!(verdict(4, 3), Verdict::AsPredicted);
        assert_eq!(verdict(3, 3), Verdict::NotShown);
        assert_eq!(verdict(4, 2), Verdict::Broken);
        let about = crate::experiments::find("which-broker").expect("it is one").about();
        let verdict = |without, with| {
            Report::new(about, Store::Cluster, 1, arm(Side::Without, without), arm(Side::With, with)).verdict
        };
        assert_eq!((verdict(3, 3), verdict(4, 3)), (Verdict::Compared, Verdict::Broken));
        let most = Findings::default().at_most(what, 2, 3).measure(what, 1.5, "ms");
        assert!(!Arm::new(Side::With, most, 0.0).holds);
    }
}
