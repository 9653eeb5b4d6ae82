//! Requests a second by user. By user and not by address: behind a proxy all buyers share one.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use seckill_core::UserId;

use super::problem::Refusal;

/// A limit that holds for each user by themselves; `None` limits nobody.
pub(crate) struct UserLimit {
    limiter: Option<DefaultKeyedRateLimiter<UserId>>,
    clock: DefaultClock,
}

impl UserLimit {
    /// `rate` requests a second, and twice as many at once. 0: no limit.
    pub(crate) fn new(rate: u32) -> Self {
        let quota =
            NonZeroU32::new(rate).map(|rate| Quota::per_second(rate).allow_burst(rate.saturating_mul(two())));
        Self { limiter: quota.map(RateLimiter::keyed), clock: DefaultClock::default() }
    }

    /// Counts one request of `user`.
    pub(crate) fn check(&self, user: UserId) -> Result<(), Refusal> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        limiter.check_key(&user).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            Refusal::RateLimited { seconds: wait.as_secs() + u64::from(wait.subsec_nanos() > 0) }
        })
    }

    /// Forgets users who have not sent for as long as their quota takes to fill up, two seconds. So what is kept is
    /// bounded by the requests of about three seconds.
    pub(crate) async fn forget_the_idle(&self) {
        let Some(limiter) = &self.limiter else { return std::future::pending().await };
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }
}

fn two() -> NonZeroU32 {
    const { NonZeroU32::new(2).expect("two is not zero") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_is_limited_and_another_is_not() {
        let limit = UserLimit::new(1);
        assert!(limit.check(UserId(1)).is_ok());
        assert!(limit.check(UserId(1)).is_ok());
        let refusal = limit.check(UserId(1)).unwrap_err();
        assert!(matches!(refusal, Refusal::RateLimited { seconds: 1 }), "{refusal:?}");
        assert!(limit.check(UserId(2)).is_ok());
    }

    #[test]
    fn zero_limits_nobody() {
        let limit = UserLimit::new(0);
        assert!((0..1_000).all(|_| limit.check(UserId(1)).is_ok()));
    }
}
