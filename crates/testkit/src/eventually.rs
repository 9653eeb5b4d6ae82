//! Waiting for a condition, with a deadline and a last word.

use std::fmt::Debug;
use std::panic::Location;
use std::time::Duration;

use tokio::time::Instant;

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
            match tokio::time::timeout_at(end, check()).await {
                Ok(Ok(value)) => return value,
                Ok(Err(seen)) => last = Some(seen),
                Err(_) => {}
            }
            // A look that never waits is never too late for the time-out.
            if Instant::now() >= end {
                match last {
                    Some(seen) => panic!("not within {deadline:?} at {place}; last seen: {seen:?}"),
                    None => panic!("not within {deadline:?} at {place}; no look came to an end"),
                }
            }
            tokio::time::sleep_until(end.min(Instant::now() + PAUSE)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_true_is_returned() {
        let mut looks = 0;
        let counted = eventually(Duration::from_secs(60), async || {
            looks += 1;
            if looks < 3 { Err(looks) } else { Ok(looks) }
        });
        assert_eq!(counted.await, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "last seen: \"no\"")]
    async fn a_look_that_never_waits_meets_the_deadline() {
        eventually(Duration::from_millis(50), async || Err::<(), _>("no")).await;
    }

    #[tokio::test]
    #[should_panic(expected = "no look came to an end")]
    async fn a_look_that_never_ends_meets_the_deadline() {
        eventually(Duration::from_millis(50), async || std::future::pending::<Result<(), ()>>().await).await;
    }
}
