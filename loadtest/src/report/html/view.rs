//! The texts of the page: the report's numbers in words, in the order of the page.

mod run;

pub(super) use run::COLUMNS;

use super::charts;
use super::format::{count, counted, number, part, percent, rate, seconds, time_us};
use crate::report::schema::{GeneratorReport, Report, ThresholdReport, Verdict, VerificationReport};
use crate::send::latency::Latency;
use crate::send::progress::Counts;

/// Whether a result is good. It is shown by a sign and a word, never by its colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Good,
    Bad,
    /// Needs attention, or is not known.
    Warn,
}

impl Mark {
    fn good_if(good: bool) -> Self {
        if good { Self::Good } else { Self::Bad }
    }

    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Warn => "warn",
        }
    }

    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Good => "✓",
            Self::Bad => "✗",
            Self::Warn => "!",
        }
    }
}

pub(super) struct Check {
    pub(super) mark: Mark,
    pub(super) name: &'static str,
    pub(super) value: String,
}

/// One number that is shown large.
pub(super) struct Tile {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) note: String,
}

/// One way in which requests ended.
pub(super) struct Bar {
    pub(super) name: &'static str,
    pub(super) meaning: &'static str,
    pub(super) count: String,
    pub(super) share: String,
    /// The bar's length in percent of the whole.
    pub(super) width: f64,
    /// Whether requests end like this in a sale that goes well, too.
    pub(super) right: bool,
}

/// One distribution of times: p50, p90, p95, p99, p99.9 and the longest.
pub(super) struct Times {
    pub(super) name: &'static str,
    pub(super) times: [String; 6],
}

pub(super) struct Threshold {
    pub(super) mark: Mark,
    pub(super) text: String,
    pub(super) measured: String,
    pub(super) word: &'static str,
}

/// A name and its value.
pub(super) type Row = (String, String);

/// All texts of the page.
pub(super) struct View {
    pub(super) mark: Mark,
    pub(super) verdict: &'static str,
    pub(super) reasons: Vec<String>,
    pub(super) checks: [Check; 4],
    pub(super) tiles: [Tile; 6],
    pub(super) bars: Vec<Bar>,
    /// Ways in which no request ended.
    pub(super) no_bars: String,
    pub(super) refusals: Vec<Row>,
    pub(super) connection_error: Option<String>,
    pub(super) times: Vec<Times>,
    pub(super) thresholds: Vec<Threshold>,
    pub(super) generator: Check,
    pub(super) health: Vec<Row>,
    pub(super) verification: Vec<Row>,
    pub(super) run: Vec<Row>,
    pub(super) seconds: Vec<[String; 11]>,
    pub(super) started_at: String,
    pub(super) target: String,
    pub(super) tool_version: String,
}

impl View {
    pub(super) fn of(report: &Report) -> Self {
        let checked = report.verification.as_ref();
        let (mark, verdict) = verdict(report.verdict);
        let (bars, no_bars) = bars(&report.counts);
        Self {
            mark,
            verdict,
            reasons: report.reasons.clone(),
            checks: checks(checked),
            tiles: tiles(report),
            bars,
            no_bars,
            refusals: report.refusals.iter().map(|(name, &times)| (name.clone(), count(times))).collect(),
            connection_error: report.connection_error.clone(),
            times: times(report),
            thresholds: report.thresholds.iter().map(threshold).collect(),
            generator: generator(&report.generator),
            health: health(&report.generator),
            verification: checked
                .map(run::verification)
                .into_iter()
                .chain(report.lifecycle.as_ref().map(run::lifecycle))
                .flatten()
                .collect(),
            run: run::rows(report),
            seconds: run::seconds_table(report),
            started_at: report.started_at.clone(),
            target: report.target.clone(),
            tool_version: report.tool_version.clone(),
        }
    }
}

fn verdict(verdict: Verdict) -> (Mark, &'static str) {
    match verdict {
        Verdict::Pass => (Mark::Good, "Pass: every promise was kept"),
        Verdict::Unverified => (Mark::Warn, "Not verified: the orders were not looked up"),
        Verdict::ThresholdMissed => (Mark::Bad, "Threshold missed"),
        Verdict::Interrupted => (Mark::Warn, "Interrupted: the numbers are of the part that ran"),
        Verdict::Unclear => (Mark::Warn, "Unclear: it is not known whether every promise was kept"),
        Verdict::Violated => (Mark::Bad, "Violated: a promise was broken"),
    }
}

/// The four promises.
fn checks(checked: Option<&VerificationReport>) -> [Check; 4] {
    let names = ["Oversold", "Lost", "Duplicates", "Conserved"];
    let Some(checked) = checked else {
        return names.map(|name| Check { mark: Mark::Warn, name, value: "not checked".to_owned() });
    };
    let conserved = match checked.conserved {
        Some(true) => (Mark::Good, "yes: every unit is in one place"),
        Some(false) => (Mark::Bad, "no: units are unaccounted for"),
        None => (Mark::Warn, "not known"),
    };
    let findings = [
        (Mark::good_if(checked.oversold == 0), counted(checked.oversold, "unit", "units")),
        lost(checked),
        (
            Mark::good_if(checked.duplicates == 0),
            counted(checked.duplicates, "buyer with two orders", "buyers with two orders"),
        ),
        (conserved.0, conserved.1.to_owned()),
    ];
    let mut names = names.into_iter();
    findings.map(|(mark, value)| Check { mark, name: names.next().unwrap_or_default(), value })
}

/// Lost orders. A look-up that was ended early, or that left orders open, is no proof in either direction.
fn lost(checked: &VerificationReport) -> (Mark, String) {
    let value = format!("{} of {} promised orders", count(checked.lost), count(checked.promised));
    match checked {
        _ if checked.cancelled && checked.lost + checked.unclear > 0 => {
            (Mark::Warn, format!("not known: ended with {} open", count(checked.lost + checked.unclear)))
        }
        _ if checked.lost > 0 => (Mark::Bad, value),
        _ if checked.in_flight > 0 => {
            (Mark::Warn, format!("{value}, {} still in flight", count(checked.in_flight)))
        }
        _ if checked.unclear > 0 => (Mark::Warn, format!("{value}, {} not known", count(checked.unclear))),
        _ => (Mark::Good, value),
    }
}

fn tiles(report: &Report) -> [Tile; 6] {
    let (counts, checked) = (&report.counts, report.verification.as_ref());
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    let end_to_end = checked.filter(|checked| checked.end_to_end.count > 0);
    let drain = checked.and_then(|checked| checked.drain_seconds);
    let tile = |name, value, note: &str| Tile { name, value, note: note.to_owned() };
    [
        tile("Peak arrivals", rate(charts::peak(&report.series) as f64), "requests in the busiest second"),
        tile(
            "Peak commits",
            or_dash(charts::peak_commits(report).map(rate)),
            "orders into the ledger in the busiest second",
        ),
        Tile {
            name: "Accepted",
            value: count(counts.accepted),
            note: format!("of {} requests", count(counts.sent)),
        },
        tile(
            "Latency p99",
            time_us(report.latency.corrected.all.p99_us),
            "from the intended start to the answer",
        ),
        tile(
            "End to end p99",
            or_dash(end_to_end.map(|checked| time_us(checked.end_to_end.p99_us))),
            "from the intended start to the ledger",
        ),
        tile("Drained in", or_dash(drain.map(seconds)), "after the last answer"),
    ]
}

/// The ways in which any request ended, and the names of those in which none did.
fn bars(counts: &Counts) -> (Vec<Bar>, String) {
    let kinds = [
        ("Accepted", "202: the order is promised", counts.accepted, true),
        ("Replayed", "200: the same order as before", counts.replayed, true),
        ("Sold out", "409: no stock left, a right answer", counts.sold_out, true),
        ("Rate limited", "429: this buyer sends too fast", counts.rate_limited, true),
        ("Refused", "any other refusal", counts.refused, false),
        ("Unknown", "503: the queue did not confirm in time", counts.unknown, false),
        ("Timed out", "no whole answer in time", counts.timed_out, false),
        ("Connection error", "not made, or broken", counts.connection_errors, false),
        ("Malformed", "a success that breaks the interface", counts.malformed, false),
    ];
    let all = counts.ended();
    let (some, none): (Vec<_>, Vec<_>) = kinds.into_iter().partition(|kind| kind.2 > 0);
    let bar = |(name, meaning, times, right)| Bar {
        name,
        meaning,
        count: count(times),
        share: part(times, all),
        width: times as f64 * 100.0 / all as f64,
        right,
    };
    let none: Vec<String> = none.into_iter().map(|kind| kind.0.to_lowercase()).collect();
    (some.into_iter().map(bar).collect(), none.join(", "))
}

fn times(report: &Report) -> Vec<Times> {
    let (corrected, uncorrected) = (&report.latency.corrected, &report.latency.uncorrected);
    let mut rows = vec![
        ("All, from the intended start", corrected.all),
        ("All, from the actual send", uncorrected.all),
        ("Accepted, from the intended start", corrected.accepted),
        ("Accepted, from the actual send", uncorrected.accepted),
    ];
    if let Some(checked) = &report.verification {
        rows.push(("End to end, until the commit", checked.end_to_end));
    }
    let times = |latency: Latency| {
        let Latency { p50_us, p90_us, p95_us, p99_us, p999_us, max_us, count } = latency;
        let text = |us| if count == 0 { "–".to_owned() } else { time_us(us) };
        [p50_us, p90_us, p95_us, p99_us, p999_us, max_us].map(text)
    };
    rows.into_iter().map(|(name, latency)| Times { name, times: times(latency) }).collect()
}

fn threshold(threshold: &ThresholdReport) -> Threshold {
    Threshold {
        mark: Mark::good_if(threshold.kept),
        text: threshold.text.clone(),
        measured: threshold.measured.map_or_else(|| "nothing".to_owned(), |_| threshold.shown()),
        word: if threshold.kept { "kept" } else { "missed" },
    }
}

fn generator(generator: &GeneratorReport) -> Check {
    let late = format!(
        "{} of the requests left more than {} ms late",
        percent(generator.late_share),
        number(generator.late_after_ms)
    );
    if generator.saturated {
        let value = format!("saturated: {late}, so the load was less than asked for");
        Check { mark: Mark::Warn, name: "Load generator", value }
    } else {
        Check { mark: Mark::Good, name: "Load generator", value: format!("kept up: {late}") }
    }
}

fn health(generator: &GeneratorReport) -> Vec<Row> {
    let lag = &generator.lag;
    let cpu = generator.cpu_share.map(|share| format!("{} of one core", percent(share)));
    let lags = format!("{} / {} / {}", time_us(lag.p50_us), time_us(lag.p99_us), time_us(lag.max_us));
    vec![
        ("CPU".to_owned(), cpu.unwrap_or_else(|| "not known".to_owned())),
        ("Requests that left late".to_owned(), count(generator.late)),
        ("Behind the schedule, p50 / p99 / max".to_owned(), lags),
        ("Most connections open".to_owned(), count(generator.connections)),
    ]
}
