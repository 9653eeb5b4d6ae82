//! `Retry-After` of what is refused because of the state of the system: the worse the state, the longer, and never the same for
//! everyone, so that a crowd that was refused at once does not come back at once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::Response;
use tokio::time::Instant;

/// The longest wait that is asked for, in seconds.
const LONGEST: u64 = 10;
/// After so long without a refusal for a part that is away, that part was back in between.
const FORGOTTEN: Duration = Duration::from_secs(15);

/// Marks an answer whose `Retry-After` depends on the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Until there is less to do.
    Overloaded,
    /// Until a part of the system is back.
    Away,
    /// Until something that takes a moment is over.
    Moment,
}

/// Since when a part of the system has been away, by the refusals.
#[derive(Default)]
pub(crate) struct Patience(Mutex<Option<Outage>>);

#[derive(Clone, Copy)]
struct Outage {
    since: Instant,
    last: Instant,
}

impl Patience {
    /// Sets the `Retry-After` of an answer that wants one; `load` is the part, 0 to 1, of the work that may be under way.
    pub(crate) fn set(&self, response: &mut Response, load: f64) {
        let Some(wait) = response.extensions().get::<Wait>().copied() else { return };
        let least = match wait {
            Wait::Overloaded => overloaded(load),
            Wait::Away => away(self.away_for(Instant::now())),
            Wait::Moment => 1,
        };
        let seconds = spread(least, rand::random());
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }

    fn away_for(&self, now: Instant) -> Duration {
        let mut outage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_on = outage.filter(|outage| now.duration_since(outage.last) < FORGOTTEN);
        let since = goes_on.map_or(now, |outage| outage.since);
        *outage = Some(Outage { since, last: now });
        now.duration_since(since)
    }
}

/// Seconds, 1 to 7, that grow with the load.
fn overloaded(load: f64) -> u64 {
    // In range after `clamp`, so the cast loses nothing.
    1 + (load.clamp(0.0, 1.0) * 6.0) as u64
}

/// Seconds, 1 to 7: what has been away for long will hardly be back at once.
fn away(lasts: Duration) -> u64 {
    (lasts.as_secs() / 2).clamp(1, 7)
}

/// Between `least` seconds and half as much again, two at the least, ten at the most; by `chance`, 0 to 1.
fn spread(least: u64, chance: f64) -> u64 {
    let more = (least / 2).max(1) + 1;
    // Below `more`, because `chance` is below 1.
    (least + (chance * more as f64) as u64).clamp(1, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_with_the_load_and_with_the_outage() {
        assert_eq!([0.0, 0.5, 1.0, 9.0].map(overloaded), [1, 4, 7, 7]);
        assert_eq!([0, 1, 4, 10, 3_600].map(|s| away(Duration::from_secs(s))), [1, 1, 2, 5, 7]);
    }

    #[test]
    fn it_is_spread_within_its_bounds() {
        for least in 1..=7 {
            let all: Vec<_> = (0..100).map(|percent| spread(least, f64::from(percent) / 100.0)).collect();
            assert_eq!(all[0], least);
            assert!(all.iter().all(|seconds| (1..=LONGEST).contains(seconds)), "{all:?}");
            assert!(all[99] > least, "{all:?}");
        }
    }

    #[test]
    fn an_outage_lasts_from_its_first_refusal_and_is_forgotten_after_a_pause() {
        let (patience, begin) = (Patience::default(), Instant::now());
        let at = |seconds| patience.away_for(begin + Duration::from_secs(seconds)).as_secs();
        assert_eq!([at(0), at(10), at(20), at(20 + FORGOTTEN.as_secs()), at(40)], [0, 10, 20, 0, 5]);
    }
}
