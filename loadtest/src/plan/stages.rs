//! A rate over time: stages as users write them, and the times at which buyers come.

use std::fmt;
use std::time::Duration;

use crate::error::Error;

/// An example of stages, for error messages.
const EXAMPLE: &str = "5s:200,2s:20000,10s:20000,5s:0";
/// The highest rate, in buyers a second: far more than one machine can send, few enough to count without rounding.
pub(crate) const MAX_RATE: f64 = 10_000_000.0;

/// One stage: the rate moves from where it was to `rate` in a straight line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stage {
    /// How long the stage takes; 0 for a jump.
    pub lasts: Duration,
    /// The rate at its end, in buyers a second: 0 to 10,000,000.
    pub rate: f64,
}

/// Stages, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Stages {
    /// The rate at the start of the first stage, in buyers a second: 0 to 10,000,000.
    pub start_rate: f64,
    pub stages: Vec<Stage>,
}

impl Stages {
    /// The same rate all the time.
    pub fn constant(rate: f64, lasts: Duration) -> Self {
        Self { start_rate: rate, stages: vec![Stage { lasts, rate }] }
    }

    /// Reads `5s:200,2s:20000,10s:20000,5s:0`: within 5 s from no buyers to 200 a second, within 2 s on to 20,000, and so on.
    /// `0s:500` jumps.
    ///
    /// # Errors
    /// [`Error::Malformed`], with the stage that is wrong.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Malformed {
            what: "stages",
            text: text.to_owned(),
            reason,
            example: EXAMPLE,
        };
        let stage = |part: &str| {
            let (lasts, rate) = part
                .split_once(':')
                .ok_or_else(|| wrong(format!("{part:?} has no colon between duration and rate")))?;
            let lasts = parse_duration(lasts).map_err(|reason| wrong(format!("in {part:?}, {reason}")))?;
            let rate = parse_rate(rate).map_err(|reason| wrong(format!("in {part:?}, {reason}")))?;
            Ok(Stage { lasts, rate })
        };
        let stages = text.split(',').map(|part| stage(part.trim())).collect::<Result<Vec<_>, _>>()?;
        let all = Self { start_rate: 0.0, stages };
        if all.buyers() == 0 {
            return Err(wrong("no buyer comes in them".to_owned()));
        }
        Ok(all)
    }

    /// How long all stages take together.
    pub fn duration(&self) -> Duration {
        self.stages.iter().map(|stage| stage.lasts).sum()
    }

    /// The highest rate, in buyers a second.
    pub fn peak(&self) -> f64 {
        self.stages.iter().map(|stage| stage.rate).fold(self.start_rate, f64::max)
    }

    /// The same shape, with its highest rate at `peak`.
    #[must_use]
    pub fn scaled_to(&self, peak: f64) -> Self {
        let factor = peak / self.peak();
        let stages = self.stages.iter().map(|stage| Stage { rate: stage.rate * factor, ..*stage }).collect();
        Self { start_rate: self.start_rate * factor, stages }
    }

    /// How many buyers come.
    pub fn buyers(&self) -> u64 {
        let mut rate = self.start_rate;
        let mut all = 0.0;
        for stage in &self.stages {
            all += area(rate, stage);
            rate = stage.rate;
        }
        whole(all)
    }

    /// The times at which buyers come, in microseconds from the start, in order.
    pub(crate) fn arrivals(&self) -> impl Iterator<Item = u64> {
        let mut from = (0.0, self.start_rate, 0.0);
        let mut next = 0_u64;
        self.stages.iter().flat_map(move |stage| {
            let (began, rate, before) = from;
            let until = before + area(rate, stage);
            let (first, end) = (next, whole(until));
            next = end.max(first);
            from = (began + stage.lasts.as_secs_f64(), stage.rate, until);
            (first..end).map(move |buyer| {
                let after = time_of(buyer as f64 - before, rate, stage);
                ((began + after) * 1e6).round() as u64
            })
        })
    }
}

/// How many buyers, in fractions, come in a stage that begins at `rate`.
fn area(rate: f64, stage: &Stage) -> f64 {
    (rate + stage.rate) / 2.0 * stage.lasts.as_secs_f64()
}

/// How many whole buyers have come when the fractions add up to `sum`. The millionth compensates for rounding.
fn whole(sum: f64) -> u64 {
    (sum - 1e-6).ceil().max(0.0) as u64
}

/// After how many seconds of a stage that begins at `rate` `count` buyers have come: the root of
/// rate t + slope t^2 / 2 = count, in the form that loses no digits where the slope is small.
fn time_of(count: f64, rate: f64, stage: &Stage) -> f64 {
    let lasts = stage.lasts.as_secs_f64();
    if count <= 0.0 || lasts <= 0.0 {
        return 0.0;
    }
    let slope = (stage.rate - rate) / lasts;
    let root = (rate * rate + 2.0 * slope * count).max(0.0).sqrt();
    (2.0 * count / (rate + root)).min(lasts)
}

impl fmt::Display for Stages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, stage) in self.stages.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{}:{}", humantime::format_duration(stage.lasts), stage.rate)?;
        }
        Ok(())
    }
}

/// Reads `500ms`, `1.5s`, `2m`, `1m 30s`.
///
/// # Errors
/// The end of a sentence: what is wrong, and an example of the right form.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if let Ok(duration) = humantime::parse_duration(text) {
        return Ok(duration);
    }
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let scale = match unit {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(format!("{text:?} is no duration; give something like 500ms, 1.5s or 2m")),
    };
    let number: f64 = text[..text.len() - unit.len()]
        .parse()
        .map_err(|_| format!("{text:?} is no duration; give something like 500ms, 1.5s or 2m"))?;
    Duration::try_from_secs_f64(number * scale).map_err(|_| format!("{text:?} is too long"))
}

/// Reads a rate, in a second.
///
/// # Errors
/// The end of a sentence: what is wrong, and an example of the right form.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 =
        text.trim().parse().map_err(|_| format!("{text:?} is no rate; give a number a second, like 5000"))?;
    if (0.0..=MAX_RATE).contains(&rate) {
        Ok(rate)
    } else {
        Err(format!("{text:?} is no rate; allowed are 0 to 10000000 a second"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(text: &str) -> Vec<u64> {
        Stages::parse(text).unwrap().arrivals().collect()
    }

    #[test]
    fn a_constant_rate_is_evenly_spaced() {
        let stages = Stages::constant(1_000.0, Duration::from_secs(10));
        let times: Vec<u64> = stages.arrivals().collect();
        assert_eq!((times.len() as u64, stages.buyers()), (10_000, 10_000));
        assert!(times.iter().enumerate().all(|(at, &time)| time == at as u64 * 1_000));
    }

    #[test]
    fn a_ramp_brings_the_area_under_it_and_speeds_up() {
        let times = arrivals("10s:1000");
        assert_eq!(times.len(), 5_000);
        assert!(times.is_sorted());
        let first_half = times.iter().filter(|&&time| time < 5_000_000).count();
        assert!((1_249..=1_251).contains(&first_half), "a quarter of the area: {first_half}");
        assert!(times.last().unwrap() < &10_000_000);
    }

    #[test]
    fn every_second_of_a_spike_has_its_rate() {
        let times = arrivals("5s:200,2s:20000,10s:20000,5s:0");
        assert_eq!(times.len(), 500 + 20_200 + 200_000 + 50_000);
        assert!(times.is_sorted());
        let within = |from: u64, to: u64| {
            times.iter().filter(|&&t| (from * 1_000_000..to * 1_000_000).contains(&t)).count()
        };
        assert!((179..=181).contains(&within(4, 5)), "{}", within(4, 5));
        for second in 7..17 {
            assert!((19_999..=20_001).contains(&within(second, second + 1)));
        }
        assert!((1_999..=2_001).contains(&within(21, 22)), "{}", within(21, 22));
    }

    #[test]
    fn a_stage_of_zero_seconds_is_a_jump() {
        let times = arrivals("0s:500,2s:500,0s:1000,1s:1000");
        assert_eq!(times.len(), 2_000);
        assert_eq!(times.iter().filter(|&&time| time < 2_000_000).count(), 1_000);
    }

    #[test]
    fn a_shape_is_scaled_by_its_peak() {
        let stages = Stages::parse("5s:200,2s:20000,5s:0").unwrap().scaled_to(1_000.0);
        assert_eq!(stages.to_string(), "5s:10,2s:1000,5s:0");
        assert_eq!(stages.duration(), Duration::from_secs(12));
    }

    #[test]
    fn an_error_in_stages_has_an_example_of_the_right_form() {
        for bad in
            ["", "5s", "5:200", "5s:fast", "5s:-1", "s:1", "5s:200,", "5s:0", "5s:1e9", "5s:NaN", "1e30s:5"]
        {
            let error = Stages::parse(bad).unwrap_err().to_string();
            assert!(error.contains("5s:200,2s:20000"), "{bad}: {error}");
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        let read = |text| parse_duration(text).map(|time| time.as_micros());
        assert_eq!(read("1.5s"), Ok(1_500_000));
        assert_eq!(read("200ms"), Ok(200_000));
        assert_eq!(read("0.5ms"), Ok(500));
        assert_eq!(read("1m 30s"), Ok(90_000_000));
        for bad in ["", "5", "s", "1.2.3s", "-1s", "ms", "5 parsecs"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
