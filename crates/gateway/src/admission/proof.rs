//! Proof of work before a ticket: how much of it, and that each is used once.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use seckill_core::{SaleId, UserId, WaitingRooms};
use seckill_token::challenge::{Challenge, Challenger, ProofError};
use secrecy::ExposeSecret;
use tokio::time::Instant;

use crate::Config;

/// How long a challenge is good, in seconds.
const GOOD_FOR: u64 = 120;
/// The range of the number to be found while few tickets are asked for: some hundredths of a second of a browser.
const EASY: u32 = 50_000;
/// The most, however many are asked for: some seconds of a browser.
const HARD: u32 = 2_000_000;
/// Challenges a second, at one gateway, up to which they are easy. Above, the work grows with the number of challenges.
const EASY_PER_SECOND: f64 = 50.0;
/// Solutions that a gateway remembers while the store that gateways share is away.
const REMEMBERED: u64 = 100_000;

/// Makes challenges and takes solutions.
pub(crate) struct Proofs {
    challenger: Challenger,
    asked: Mutex<Rate>,
    /// What was used here.
    used: Cache<String, ()>,
}

impl Proofs {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            challenger: Challenger::derived([config.admission_secret.expose_secret()]),
            asked: Mutex::new(Rate { per_second: 0.0, at: Instant::now() }),
            used: Cache::builder()
                .max_capacity(REMEMBERED)
                .eviction_policy(EvictionPolicy::lru())
                .time_to_live(Duration::from_secs(GOOD_FOR))
                .build(),
        }
    }

    /// A challenge as hard as the number of challenges asked for in the last seconds makes it.
    pub(crate) fn challenge(&self, sale: SaleId, user: UserId) -> Challenge {
        let now = Instant::now();
        let rate = self.asked.lock().unwrap_or_else(PoisonError::into_inner).count(now);
        self.challenger.make(user.0, sale.0, maxnumber(rate), seconds_now() + GOOD_FOR)
    }

    /// Takes a solution, unless it was used before.
    ///
    /// While the store is away a solution could be used once at each gateway. That is accepted: the work is a price, and whoever has
    /// to be kept out is kept out by the token, the waiting room and the limits.
    pub(crate) async fn take(
        &self,
        store: &dyn WaitingRooms,
        payload: &str,
        sale: SaleId,
        user: UserId,
    ) -> Result<(), NoProof> {
        let now = seconds_now();
        let proof = self.challenger.check(payload, user.0, sale.0, now).map_err(NoProof::Wrong)?;
        let first_here = self.used.entry(proof.nonce.clone()).or_insert(()).is_fresh();
        if !first_here {
            return Err(NoProof::Used);
        }
        let left = Duration::from_secs(proof.expires.saturating_sub(now) + 1);
        match store.spend(sale, &proof.nonce, left).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(NoProof::Used),
            Err(fault) => {
                tracing::warn!(error = %fault, "whether a proof of work was used elsewhere cannot be found out");
                Ok(())
            }
        }
    }
}

/// Why a solution is not taken.
#[derive(Debug)]
pub(crate) enum NoProof {
    Wrong(ProofError),
    Used,
}

/// How many a second, on average over the last few seconds.
struct Rate {
    per_second: f64,
    at: Instant,
}

impl Rate {
    /// Counts one, and gives the rate.
    fn count(&mut self, now: Instant) -> f64 {
        const OVER_SECONDS: f64 = 5.0;
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.per_second = self.per_second * (-passed / OVER_SECONDS).exp() + 1.0 / OVER_SECONDS;
        self.at = now;
        self.per_second
    }
}

fn maxnumber(per_second: f64) -> u32 {
    let times = (per_second / EASY_PER_SECOND).max(1.0);
    // A float that is too large becomes the largest number.
    ((f64::from(EASY) * times) as u32).min(HARD)
}

fn seconds_now() -> u64 {
    seckill_core::now().timestamp().max(0).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_grows_with_the_crowd_and_falls_again() {
        let mut rate = Rate { per_second: 0.0, at: Instant::now() };
        let mut now = rate.at;
        let mut ask = |times: u32, every: Duration| {
            (0..times).fold(0.0, |_, _| {
                now += every;
                rate.count(now)
            })
        };
        let few = ask(100, Duration::from_millis(100));
        assert_eq!(maxnumber(few), EASY, "{few}");
        let many = ask(20_000, Duration::from_millis(1));
        assert!((900.0..1_100.0).contains(&many), "{many}");
        assert!((15 * EASY..=25 * EASY).contains(&maxnumber(many)), "{many}");
        let few = ask(100, Duration::from_secs(1));
        assert_eq!(maxnumber(few), EASY, "{few}");
        assert_eq!(maxnumber(f64::MAX), HARD);
    }
}
