//! Numbers and times as people read them. Knows nothing of the report.

/// `1234567` as `1,234,567`.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 unit`, `2,000 units`.
pub(super) fn counted(number: u64, one: &str, more: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { more })
}

/// A number a second: whole from 10 on, below that with one decimal.
pub(super) fn rate(per_second: f64) -> String {
    if per_second != 0.0 && per_second < 9.95 {
        format!("{per_second:.1}/s")
    } else {
        format!("{}/s", whole(per_second))
    }
}

/// Microseconds in the unit that leaves three digits or so: `850 µs`, `12.3 ms`, `4.56 s`.
pub(super) fn time_us(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..9_995 => format!("{:.2} ms", us as f64 / 1e3),
        9_995..99_950 => format!("{:.1} ms", us as f64 / 1e3),
        99_950..999_500 => format!("{:.0} ms", us as f64 / 1e3),
        _ => seconds(us as f64 / 1e6),
    }
}

/// Seconds: `0.25 s`, `4.56 s`, `12.3 s`, and from two minutes on `3 min 5 s`.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds {
        0.0 => "0 s".to_owned(),
        ..9.995 => format!("{seconds:.2} s"),
        ..119.95 => format!("{seconds:.1} s"),
        _ => format!("{} min {} s", (seconds / 60.0).floor(), (seconds % 60.0).floor()),
    }
}

/// A share of 1 in percent; a share that is not quite 0 or 1 never reads as if it were.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        0.0 => "0 %".to_owned(),
        ..0.01 => "under 0.01 %".to_owned(),
        ..1.0 => format!("{percent:.2} %"),
        ..99.95 => format!("{percent:.1} %"),
        ..100.0 => "over 99.9 %".to_owned(),
        _ => format!("{percent:.0} %"),
    }
}

/// `part` of `whole` in percent; nothing of nothing is 0.
pub(super) fn part(part: u64, whole: u64) -> String {
    percent(if whole == 0 { 0.0 } else { part as f64 / whole as f64 })
}

/// A number that may have a fraction, with no more digits than it needs.
pub(super) fn number(number: f64) -> String {
    if number.fract() == 0.0 && number >= 0.0 { whole(number) } else { format!("{number:.3}") }
}

fn whole(number: f64) -> String {
    count(number.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn times_have_the_unit_that_suits_them() {
        let times = [0, 999, 1_000, 12_345, 99_949, 123_456, 999_499, 999_500, 12_345_678, 185_000_000];
        let texts = [
            "0 µs",
            "999 µs",
            "1.00 ms",
            "12.3 ms",
            "99.9 ms",
            "123 ms",
            "999 ms",
            "1.00 s",
            "12.3 s",
            "3 min 5 s",
        ];
        assert_eq!(times.map(time_us), texts);
    }

    #[test]
    fn a_small_share_does_not_read_as_none_and_a_large_one_not_as_all() {
        let shares = [0.0, 0.000_001, 0.004_2, 0.455, 0.999_9, 1.0];
        assert_eq!(shares.map(percent), ["0 %", "under 0.01 %", "0.42 %", "45.5 %", "over 99.9 %", "100 %"]);
        assert_eq!(part(0, 0), "0 %");
    }

    #[test]
    fn numbers_have_the_digits_that_they_need() {
        assert_eq!([0.0, 3_000.0, 0.012_34].map(number), ["0", "3,000", "0.012"]);
        assert_eq!([0.0, 9.94, 9.96, 2_012.4].map(rate), ["0/s", "9.9/s", "10/s", "2,012/s"]);
    }
}
