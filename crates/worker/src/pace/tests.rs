use seckill_core::capacity::CapacityGrant;

use super::*;

fn per_second(rate: u32) -> DrainRate {
    DrainRate::PerSecond(NonZeroU32::new(rate).unwrap())
}

#[tokio::test]
async fn a_change_reaches_a_lane_that_waits_and_gives_nothing_away() {
    let pace = Arc::new(Pace::new(DrainRate::Paused, MAX_BATCH));
    let waiting = tokio::spawn({
        let pace = Arc::clone(&pace);
        async move { pace.admit(500).await }
    });
    // A new limit lets the first batch go after half a second at the earliest; the next change comes before that.
    for rate in (1..=2).cycle().take(50) {
        pace.set(per_second(rate));
        pace.hold(rate);
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished(), "orders were admitted at once by changing the rate");
    pace.set(DrainRate::Unlimited);
    let admitted = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
    assert_eq!(admitted, 500);
    assert_eq!(pace.admit(10_000).await, MAX_BATCH.get() as usize, "one batch at the most");
}

#[tokio::test]
async fn without_a_share_nothing_is_admitted_and_an_unlimited_worker_needs_none() {
    let pace = Pace::new(per_second(1_000), MAX_BATCH);
    let admitted = async |held| tokio::time::timeout(Duration::from_millis(50), pace.admit(held)).await;
    assert!(admitted(1).await.is_err());
    pace.set(DrainRate::Unlimited);
    assert_eq!(admitted(1).await.unwrap(), 1);
    // What a worker had no share of, it has none of afterwards either.
    pace.set(per_second(1_000));
    assert!(admitted(1).await.is_err());
    assert_eq!((pace.told(), pace.rate()), (per_second(1_000), per_second(1)));
}

#[tokio::test]
async fn a_lease_that_has_ended_admits_nothing_though_nobody_noticed() {
    let pace = Pace::new(per_second(1_000), MAX_BATCH);
    pace.hold(1_000);
    // The limiter has saved up a batch by then; a process that was frozen may not use it.
    pace.lock().until = Some(Instant::now() + Duration::from_millis(50));
    std::thread::sleep(Duration::from_millis(200));
    let admitted = tokio::time::timeout(Duration::from_millis(50), pace.admit(1)).await;
    assert!(admitted.is_err(), "{admitted:?}");
    pace.hold(1_000);
    assert_eq!(pace.admit(1).await, 1);
}

impl Pace {
    /// A share, as if it had been leased.
    fn hold(&self, orders: u32) {
        let share = Capacity::per_second(orders);
        let grant = CapacityGrant { share, safe: share, workers: 1, learning: false };
        self.take(&grant, self.told(), Instant::now());
    }
}
