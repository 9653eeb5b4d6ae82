//! Waiting for a condition, with a deadline and a last word.

use std::fmt::Debug;
use std::panic::Location;
use std::time::{Duration, Instant};

/// How long to wait from one look to the next.
const PAUSE: Duration = Duration::from_millis(20);

/// Looks again and again until `check` gives `Ok`, and returns what it gave.
///
/// # Panics
/// When that has not happened within `deadline`: with the place of the call and what the last look saw.
#[track_caller]
pub fn eventually<T, E: Debug>(
    deadline: Duration,
    mut check: impl AsyncFnMut() -> Result<T, E>,
) -> impl Future<Output = T> {
    let place = Location::caller();
    async move {
        let end = Instant::now() + deadline;
        let mut last = None;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, check()).await {
                Ok(Ok(value)) => return value,
                Ok(Err(seen)) if left.is_zero() => {
                    panic!("not within {deadline:?} at {place}; last seen: {seen:?}")
                }
                Ok(Err(seen)) => last = Some(seen),
                Err(_) => match last {
                    Some(seen) => panic!("not within {deadline:?} at {place}; last seen: {seen:?}"),
                    None => panic!("not within {deadline:?} at {place}; no look came to an end"),
                },
            }
            tokio::time::sleep(PAUSE.min(end.saturating_duration_since(Instant::now()))).await;
        }
    }
}
