use super::*;

const START_US: u64 = 1_000_000_000_000;
const PLENTY: Demand = Demand { open: true, remaining: 1_000_000, orders: 0 };

/// A room in which so many wait, just drawn.
fn room(arrivals: u64, rate: u32, ttl_ms: u64) -> (RoomState, InletClock) {
    let spec =
        RoomSpec { seed: Seed([7; 32]), starts_ms: START_US / 1_000, rate, ttl_ms, keep_until_ms: u64::MAX };
    let mut room = RoomState { arrivals, ..RoomState::new(spec, 0) };
    let mut clock = InletClock(0);
    room.advance(&mut clock, START_US, PLENTY);
    (room, clock)
}

#[test]
fn the_draw_takes_place_at_the_start_and_once() {
    let (mut room, mut clock) = room(10, 1, 60_000);
    assert_eq!((room.drawn, room.admitted()), (Some(10), 0));
    room.arrivals += 1;
    room.advance(&mut clock, START_US + 1, PLENTY);
    assert_eq!(room.drawn, Some(10));
    // Later arrivals stand behind everyone who was drawn.
    assert_eq!(room.position(11), Some(11));
    let early = RoomState { drawn: None, ..room };
    assert_eq!(early.standing(1, 0), Standing::BeforeTheDraw);
}

#[test]
fn the_inlet_keeps_its_rate_however_often_it_is_asked() {
    for (rate, every_us) in [(1, 250_000), (3, 170_001), (7, 333_333), (100, 1), (997, 50_003), (100_000, 99)]
    {
        let (mut room, mut clock) = room(u64::MAX / 2, rate, 3_600_000);
        let seconds = if every_us < 100 { 1 } else { 60 };
        let mut now = START_US;
        while now < START_US + seconds * 1_000_000 {
            now += every_us;
            room.advance(&mut clock, now, PLENTY);
        }
        let expected = u64::from(rate) * (now - START_US) / 1_000_000;
        // A rate that is no whole number of microseconds may fall short by one in some thousands.
        let short = expected - room.admitted();
        assert!(
            short <= 1 + expected / 1_000,
            "{rate}/s every {every_us} µs: {} of {expected}",
            room.admitted()
        );
    }
}

#[test]
fn time_without_an_inlet_is_not_made_up_for() {
    let (mut room, mut clock) = room(1_000, 10, 3_600_000);
    room.advance(&mut clock, START_US + 1_000_000, PLENTY);
    assert_eq!(room.admitted(), 10);
    let shut = Demand { open: false, ..PLENTY };
    room.advance(&mut clock, START_US + 3_000_000, shut);
    room.advance(&mut clock, START_US + 3_000_001, PLENTY);
    assert_eq!(room.admitted(), 10);
    // Nobody asked for an hour: one second's worth, not an hour's.
    room.advance(&mut clock, START_US + 3_600_000_000, PLENTY);
    assert_eq!(room.admitted(), 20);
    // A clock that goes back lets nobody in, and everyone keeps their place.
    room.advance(&mut clock, START_US, PLENTY);
    assert_eq!(room.admitted(), 20);
}

#[test]
fn no_more_are_admitted_than_there_are_units_for_them() {
    let (mut room, mut clock) = room(1_000, 1_000, 10_000);
    let mut now = START_US;
    let mut step = |room: &mut RoomState, demand| {
        now += 1_000_000;
        room.advance(&mut clock, now, demand);
    };
    let demand = |remaining, orders| Demand { open: true, remaining, orders };
    step(&mut room, demand(5, 0));
    assert_eq!(room.admitted(), 5);
    // They have not ordered, so nobody else comes in.
    step(&mut room, demand(5, 0));
    assert_eq!(room.admitted(), 5);
    // Two of them have: three units, three who may take them.
    step(&mut room, demand(3, 2));
    assert_eq!(room.admitted(), 5);
    // A unit comes back.
    step(&mut room, demand(4, 2));
    assert_eq!(room.admitted(), 6);
    // The time of the first five is over: whoever of them did not order has given the place to the next.
    for _ in 0..7 {
        step(&mut room, demand(4, 2));
    }
    assert_eq!((room.over, room.admitted()), (5, 9));
    step(&mut room, demand(0, 6));
    assert_eq!(room.admitted(), 9);
}

#[test]
fn an_admission_has_an_end() {
    let (mut room, mut clock) = room(10, 2, 1_280);
    room.advance(&mut clock, START_US + 500_000, PLENTY);
    let at_ms = START_US / 1_000 + 500;
    assert_eq!(room.standing_at(1, at_ms), Standing::Admitted { position: 1, until_ms: at_ms + 1_280 });
    assert_eq!(room.standing_at(2, at_ms), Standing::Waiting { position: 2 });
    assert_eq!(room.standing_at(1, at_ms + 1_280), Standing::Expired { position: 1 });
    // Also once the room has forgotten when that was.
    room.advance(&mut clock, START_US + 1_780_000, PLENTY);
    assert_eq!((room.over, room.standing_at(1, 0)), (1, Standing::Expired { position: 1 }));
}

#[test]
fn a_room_keeps_few_steps() {
    let (mut room, mut clock) = room(1_000_000, 1_000, 128_000);
    for tick in 1..=2_000_u64 {
        room.advance(&mut clock, START_US + tick * 100_000, PLENTY);
        assert!(room.steps.len() <= 130, "{}", room.steps.len());
    }
    assert_eq!(room.admitted(), 200_000);
}
