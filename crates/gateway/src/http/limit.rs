//! Requests a second by whoever sends them: by user, and by address for what comes before a user is known. Users behind a proxy
//! share an address, so a user's own requests are never counted by it.

use std::cell::Cell;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use seckill_core::UserId;

use super::problem::Refusal;

/// Quotas up to this one have their headers written beforehand.
const USUAL_QUOTA: u32 = 100;

type Limiter<K> = RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock, StateInformationMiddleware>;

/// A limit that holds for each sender by themselves.
pub(crate) struct RateLimit<K: Hash + Eq + Clone> {
    /// As `RateLimit` and the metrics have it.
    name: &'static str,
    rate: u32,
    /// What `RateLimit-Policy` says.
    policy: HeaderValue,
    /// What `RateLimit` says while so many requests may be sent now, for as many as a buyer's limit usually allows.
    standings: Box<[HeaderValue]>,
    /// `None` limits nobody.
    limiter: Option<Limiter<K>>,
    clock: DefaultClock,
}

/// A limit of users.
pub(crate) type UserLimit = RateLimit<UserId>;

tokio::task_local! {
    /// Where the sender of the request of this task stands with the limit that was checked last.
    static STANDING: Cell<Option<Standing>>;
}

/// Where a sender stands with a limit, as `RateLimit-Policy` and `RateLimit` say it.
struct Standing {
    policy: HeaderValue,
    standing: HeaderValue,
}

impl<K: Hash + Eq + Clone> RateLimit<K> {
    /// `rate` requests a second, and twice as many at once. 0: no limit.
    pub(crate) fn new(name: &'static str, rate: u32) -> Self {
        let quota =
            NonZeroU32::new(rate).map(|rate| Quota::per_second(rate).allow_burst(rate.saturating_mul(two())));
        let limiter = quota.map(|quota| RateLimiter::keyed(quota).with_middleware());
        let policy = plain(format!("\"{name}\";q={};w=2", rate.saturating_mul(2)));
        let usual = 0..=rate.saturating_mul(2).min(USUAL_QUOTA);
        let standings = usual.map(|left| standing(name, rate, left)).collect();
        Self { name, rate, policy, standings, limiter, clock: DefaultClock::default() }
    }

    /// Counts one request of this sender.
    ///
    /// # Errors
    /// Whole seconds after which the next one is allowed.
    pub(crate) fn count(&self, sender: &K) -> Result<(), u64> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        let (left, answer) = match limiter.check_key(sender) {
            Ok(state) => (state.remaining_burst_capacity(), Ok(())),
            Err(until) => {
                let wait = until.wait_time_from(self.clock.now());
                (0, Err((wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)))
            }
        };
        let usual = self.standings.get(left as usize).cloned();
        let standing = usual.unwrap_or_else(|| standing(self.name, self.rate, left));
        let standing = Standing { policy: self.policy.clone(), standing };
        // Outside of a request there is nobody to tell.
        let _ = STANDING.try_with(|told| told.set(Some(standing)));
        answer
    }

    /// Forgets senders who have not sent for as long as their quota takes to fill up, two seconds. So what is kept is
    /// bounded by the requests of about three seconds.
    pub(crate) async fn forget_the_idle(&self) {
        let Some(limiter) = &self.limiter else { return std::future::pending().await };
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            limiter.retain_recent();
            limiter.shrink_to_fit();
            let kept = u32::try_from(limiter.len()).unwrap_or(u32::MAX);
            metrics::gauge!("seckill_limited_senders", "limit" => self.name).set(kept);
        }
    }
}

impl UserLimit {
    /// Counts one request of `user`.
    pub(crate) fn check(&self, user: UserId) -> Result<(), Refusal> {
        self.count(&user).map_err(|seconds| Refusal::RateLimited { seconds })
    }
}

/// Answers a request and says in `RateLimit` where its sender stands, if a limit was checked
/// (draft-ietf-httpapi-ratelimit-headers-10).
pub(crate) fn told<F: Future<Output = Response>>(
    answer: impl FnOnce() -> F,
) -> impl Future<Output = Response> {
    STANDING.scope(Cell::new(None), async move {
        let mut response = answer().await;
        if let Some(standing) = STANDING.with(Cell::take) {
            standing.tell(&mut response);
        }
        response
    })
}

impl Standing {
    fn tell(self, response: &mut Response) {
        let headers = response.headers_mut();
        headers.insert(const { HeaderName::from_static("ratelimit-policy") }, self.policy);
        headers.insert(const { HeaderName::from_static("ratelimit") }, self.standing);
    }
}

/// `rate`: requests a second; `left`: requests that may be sent now.
fn standing(name: &str, rate: u32, left: u32) -> HeaderValue {
    // A full quota is twice the rate, and fills up in two seconds.
    let quota = rate.saturating_mul(2);
    let until_full = quota.saturating_sub(left).div_ceil(rate.max(1));
    plain(format!("\"{name}\";r={left};t={until_full}"))
}

fn plain(value: String) -> HeaderValue {
    HeaderValue::try_from(value).expect("names and numbers are plain text")
}

fn two() -> NonZeroU32 {
    const { NonZeroU32::new(2).expect("two is not zero") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_is_limited_and_another_is_not() {
        let limit = UserLimit::new("orders", 1);
        assert!(limit.check(UserId(1)).is_ok());
        assert!(limit.check(UserId(1)).is_ok());
        let refusal = limit.check(UserId(1)).unwrap_err();
        assert!(matches!(refusal, Refusal::RateLimited { seconds: 1 }), "{refusal:?}");
        assert!(limit.check(UserId(2)).is_ok());
    }

    #[test]
    fn zero_limits_nobody() {
        let limit = UserLimit::new("orders", 0);
        assert!((0..1_000).all(|_| limit.check(UserId(1)).is_ok()));
    }

    #[tokio::test]
    async fn a_crowd_of_distinct_users_is_forgotten_once_it_is_gone() {
        let limit = UserLimit::new("orders", 10);
        let kept = || limit.limiter.as_ref().unwrap().len();
        for user in 0..100_000 {
            limit.check(UserId(user)).unwrap();
        }
        assert_eq!(kept(), 100_000);
        let all_gone = async {
            while kept() > 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = limit.forget_the_idle() => {}
            () = all_gone => {}
            () = tokio::time::sleep(Duration::from_secs(20)) => panic!("{} are still remembered", kept()),
        }
    }

    #[tokio::test]
    async fn the_answer_says_where_the_sender_stands() {
        let limit = UserLimit::new("orders", 2);
        for (left, until_full) in [(3, 1), (2, 1), (1, 2), (0, 2), (0, 2)] {
            let response = told(async || {
                let _ = limit.check(UserId(7));
                Response::default()
            });
            let headers = response.await.headers().clone();
            assert_eq!(headers["ratelimit-policy"], "\"orders\";q=4;w=2");
            assert_eq!(headers["ratelimit"], format!("\"orders\";r={left};t={until_full}"));
        }
        assert_eq!(told(async || Response::default()).await.headers().len(), 0, "nothing was limited");
    }
}
