//! Waiting rooms.

use std::time::Duration;

use seckill_core::waiting::{Demand, RoomSpec, RoomState, Seed, Standing};
use seckill_core::{Arrival, Backend, SaleId, UserId, now};

use super::support::{DEADLINE, Subject};
use crate::eventually;

const SALE: SaleId = SaleId(7);
const PLENTY: Demand = Demand { open: true, remaining: 1_000_000, orders: 0 };

/// A room whose sale starts in so many milliseconds, by this machine's clock.
fn spec(starts_in_ms: i64, rate: u32, ttl_ms: u64) -> RoomSpec {
    let starts_ms = (now().timestamp_millis() + starts_in_ms).unsigned_abs();
    RoomSpec { seed: Seed([9; 32]), starts_ms, rate, ttl_ms, keep_until_ms: starts_ms + 3_600_000 }
}

/// As every process does at its start: rooms on Redis have to know whose sales they are for.
async fn know_the_ledger(backend: &Backend) {
    backend.ledger.id().await.unwrap();
}

async fn arrive(backend: &Backend, user: u64) -> u64 {
    match backend.waiting.arrive(SALE, UserId(user), None).await.unwrap() {
        Arrival::Number(number) => number,
        other => panic!("{other:?}"),
    }
}

async fn advance(backend: &Backend, demand: Demand) -> RoomState {
    backend.waiting.advance(SALE, demand).await.unwrap().expect("the room is there")
}

/// Advances until the room is as `is_right` wants it.
async fn advance_until(
    backend: &Backend,
    demand: Demand,
    is_right: impl Fn(&RoomState) -> bool,
) -> RoomState {
    eventually(DEADLINE, async || {
        let state = advance(backend, demand).await;
        if is_right(&state) { Ok(state) } else { Err(state) }
    })
    .await
}

/// The first seed stays, so that what was committed to can be kept.
pub async fn a_room_is_opened_once(Subject { backend, .. }: Subject) {
    know_the_ledger(&backend).await;
    let first = spec(60_000, 10, 1_000);
    let other = RoomSpec { seed: Seed([1; 32]), rate: 99, ..first.clone() };
    let opened = backend.waiting.open_room(SALE, &first).await.unwrap();
    assert_eq!(opened, RoomState::new(first.clone(), opened.now_ms));
    assert_eq!(backend.waiting.open_room(SALE, &other).await.unwrap().spec, first);
    assert_eq!(backend.waiting.room(SALE).await.unwrap().unwrap().spec, first);
    assert!(opened.now_ms.abs_diff(now().timestamp_millis().unsigned_abs()) < 600_000);
}

/// However often somebody comes, and however many come at once; and another number only in place of one whose time is over.
pub async fn an_arrival_keeps_its_number(Subject { backend, .. }: Subject) {
    know_the_ledger(&backend).await;
    backend.waiting.open_room(SALE, &spec(60_000, 10, 1_000)).await.unwrap();
    assert_eq!(
        (arrive(&backend, 70).await, arrive(&backend, 80).await, arrive(&backend, 70).await),
        (1, 2, 1)
    );
    let crowd = (1..=50).map(|user| {
        let backend = backend.clone();
        tokio::spawn(async move { arrive(&backend, user).await })
    });
    let mut numbers = Vec::new();
    for arrival in crowd.collect::<Vec<_>>() {
        numbers.push(arrival.await.unwrap());
    }
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(3..=52));
    let instead = async |of| backend.waiting.arrive(SALE, UserId(70), Some(of)).await.unwrap();
    assert_eq!(instead(2).await, Arrival::Number(1));
    assert_eq!(instead(1).await, Arrival::Number(53));
    assert_eq!(instead(1).await, Arrival::Number(53));
    assert_eq!(backend.waiting.number(SALE, UserId(70)).await.unwrap(), Some(53));
    assert_eq!(backend.waiting.number(SALE, UserId(99)).await.unwrap(), None);
    assert_eq!(backend.waiting.room(SALE).await.unwrap().unwrap().arrivals, 53);
}

/// Of those who came before it, also when the first call after the start is an arrival; and nobody is let in before it.
pub async fn the_draw_takes_place_at_the_start(Subject { backend, .. }: Subject) {
    know_the_ledger(&backend).await;
    backend.waiting.open_room(SALE, &spec(4_000, 1_000, 60_000)).await.unwrap();
    for user in 1..=10 {
        arrive(&backend, user).await;
    }
    let before = advance(&backend, PLENTY).await;
    assert_eq!((before.drawn, before.admitted(), before.standing(1, 0)), (None, 0, Standing::BeforeTheDraw));
    let starts_ms = before.spec.starts_ms;
    eventually(DEADLINE, async || {
        let now = backend.waiting.room(SALE).await.unwrap().unwrap().now_ms;
        if now >= starts_ms { Ok(()) } else { Err(now) }
    })
    .await;
    assert_eq!(arrive(&backend, 11).await, 11);
    let drawn = backend.waiting.room(SALE).await.unwrap().unwrap();
    assert_eq!((drawn.drawn, drawn.position(11)), (Some(10), Some(11)));
    let all = advance_until(&backend, PLENTY, |state| state.admitted() == 11).await;
    assert!(matches!(all.standing(11, all.now_ms), Standing::Admitted { position: 11, .. }));
}

/// Several who ask as fast as they can let in as many as one: within 5 % of the rate, by the store's own clock.
pub async fn the_inlet_follows_its_rate_whoever_asks(Subject { backend, .. }: Subject) {
    know_the_ledger(&backend).await;
    const RATE: u32 = 40;
    backend.waiting.open_room(SALE, &spec(-1, RATE, 3_600_000)).await.unwrap();
    for user in 1..=500 {
        arrive(&backend, user).await;
    }
    let begin = advance(&backend, PLENTY).await;
    let gateways = (0..3).map(|_| {
        let backend = backend.clone();
        tokio::spawn(async move {
            loop {
                let state = advance(&backend, PLENTY).await;
                if state.admitted() >= 200 {
                    return state;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    });
    let mut ends = Vec::new();
    for gateway in gateways.collect::<Vec<_>>() {
        ends.push(tokio::time::timeout(DEADLINE, gateway).await.expect("the inlet lets them in").unwrap());
    }
    let end = ends.into_iter().min_by_key(|state| state.now_ms).unwrap();
    let allowed = (end.now_ms - begin.now_ms) as f64 / 1_000.0 * f64::from(RATE);
    let admitted = (end.admitted() - begin.admitted()) as f64;
    assert!((admitted / allowed - 1.0).abs() < 0.05, "{admitted} of {allowed}");
}

/// Nobody is let in while the gate cannot sell, and no more than there are units for.
pub async fn the_inlet_follows_the_stock_and_the_gate(Subject { backend, .. }: Subject) {
    know_the_ledger(&backend).await;
    backend.waiting.open_room(SALE, &spec(-1, 100_000, 3_600_000)).await.unwrap();
    for user in 1..=20 {
        arrive(&backend, user).await;
    }
    let shut = Demand { open: false, ..PLENTY };
    for _ in 0..5 {
        assert_eq!(advance(&backend, shut).await.admitted(), 0);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let five = Demand { open: true, remaining: 5, orders: 0 };
    advance_until(&backend, five, |state| state.admitted() == 5).await;
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(advance(&backend, five).await.admitted(), 5);
    }
    // Two have ordered, and one unit has come back.
    let later = Demand { open: true, remaining: 4, orders: 2 };
    advance_until(&backend, later, |state| state.admitted() == 6).await;
    advance_until(&backend, PLENTY, |state| state.admitted() == 20).await;
}

/// Who does not come in time makes room for the next, and may queue again behind everyone.
pub async fn a_place_that_was_not_used_goes_on(Subject { backend, .. }: Subject) {
    know_the_ledger(&backend).await;
    backend.waiting.open_room(SALE, &spec(-1, 100_000, 1_000)).await.unwrap();
    for user in 1..=5 {
        arrive(&backend, user).await;
    }
    let two = Demand { open: true, remaining: 2, orders: 0 };
    let first = advance_until(&backend, two, |state| state.admitted() == 2).await;
    assert!(matches!(first.standing_at(2, first.now_ms), Standing::Admitted { .. }));
    let next = advance_until(&backend, two, |state| state.admitted() == 4).await;
    assert_eq!(next.standing_at(2, next.now_ms), Standing::Expired { position: 2 });
    assert!(next.now_ms >= first.now_ms + 900, "{first:?} {next:?}");
    assert_eq!(backend.waiting.arrive(SALE, UserId(1), Some(1)).await.unwrap(), Arrival::Number(6));
    advance_until(&backend, two, |state| state.admitted() == 6).await;
}

/// Nothing is made up for a sale that has none.
pub async fn an_unknown_room_is_none(Subject { backend, .. }: Subject) {
    know_the_ledger(&backend).await;
    let waiting = &backend.waiting;
    assert_eq!(waiting.room(SALE).await.unwrap(), None);
    assert_eq!(waiting.advance(SALE, PLENTY).await.unwrap(), None);
    assert_eq!(waiting.arrive(SALE, UserId(1), None).await.unwrap(), Arrival::NoRoom);
    assert_eq!(waiting.number(SALE, UserId(1)).await.unwrap(), None);
}

/// Everyone has the place that they had.
pub async fn places_survive_a_reopen(subject: Subject) {
    let backend = &subject.backend;
    know_the_ledger(backend).await;
    backend.waiting.open_room(SALE, &spec(-1, 100_000, 3_600_000)).await.unwrap();
    for user in 1..=10 {
        arrive(backend, user).await;
    }
    let three = Demand { open: true, remaining: 3, orders: 0 };
    let before = advance_until(backend, three, |state| state.admitted() == 3).await;
    arrive(backend, 11).await;
    let subject = subject.reopen().await;
    let backend = &subject.backend;
    let after = backend.waiting.room(SALE).await.unwrap().expect("the room is there");
    assert_eq!(after, RoomState { now_ms: after.now_ms, arrivals: 11, ..before });
    assert_eq!((arrive(backend, 4).await, arrive(backend, 12).await), (4, 12));
}

/// By whoever is first, and again once it is forgotten.
pub async fn a_word_is_spent_once(Subject { backend, .. }: Subject) {
    know_the_ledger(&backend).await;
    let spend = async |sale, word, ttl| backend.waiting.spend(SaleId(sale), word, ttl).await.unwrap();
    let long = Duration::from_secs(600);
    assert!(spend(1, "one", long).await);
    assert!(!spend(1, "one", long).await);
    assert!(spend(1, "two", long).await && spend(2, "one", long).await);
    assert!(spend(1, "short", Duration::from_millis(100)).await);
    eventually(DEADLINE, async || if spend(1, "short", long).await { Ok(()) } else { Err("still spent") })
        .await;
}
