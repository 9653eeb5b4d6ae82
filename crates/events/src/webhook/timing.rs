//! How long to wait for an answer, and before an event is posted again.

use std::time::Duration;

/// The longest pause that a receiver may ask for with `Retry-After`. All attempts together then end before the thirty minutes
/// after which RabbitMQ takes an event away from a reader that does not acknowledge it.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);

/// How long is waited.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// The pause after the first attempt; doubled after each other one.
    pub first_pause: Duration,
    /// The longest pause, however many attempts there were.
    pub longest_pause: Duration,
    /// How long a receiver may take, from the first packet to the head of its answer.
    pub answer_within: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
            answer_within: Duration::from_secs(10),
        }
    }
}

impl Timing {
    /// The pause after the given attempt, counted from 1. `chance`, from 0 to 1, takes up to half of it away, so that receivers that
    /// came back are not asked by everybody at once. What the receiver asked for is never undercut.
    pub(super) fn pause_after(self, attempt: u32, chance: f64, asked_for: Option<Duration>) -> Duration {
        let doubled =
            self.first_pause.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(self.longest_pause);
        let pause = doubled.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 2.0);
        pause.max(asked_for.unwrap_or_default().min(MAX_RETRY_AFTER))
    }
}

/// Reads `Retry-After`: whole seconds, or a moment.
pub(super) fn retry_after(header: &str, now: chrono::DateTime<chrono::Utc>) -> Option<Duration> {
    if let Ok(seconds) = header.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let moment = chrono::DateTime::parse_from_rfc2822(header.trim()).ok()?;
    Some((moment.to_utc() - now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let seconds = |attempt| Timing::default().pause_after(attempt, 0.0, None).as_secs();
        assert_eq!([1, 2, 3, 6, 7, 9, 1_000].map(seconds), [1, 2, 4, 32, 60, 60, 60]);
        assert_eq!(Timing::default().pause_after(2, 1.0, None), Duration::from_secs(1));
    }

    #[test]
    fn a_receiver_may_ask_for_more_time_and_not_for_less() {
        let asked =
            |seconds| Timing::default().pause_after(3, 0.0, Some(Duration::from_secs(seconds))).as_secs();
        assert_eq!([0, 3, 10, 86_400].map(asked), [4, 4, 10, 120]);
    }

    #[test]
    fn retry_after_is_seconds_or_a_moment() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let read = |header| retry_after(header, now);
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Thu, 01 Jan 2026 00:00:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(read("Wed, 31 Dec 2025 23:59:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
    }
}
