//! What is said of a waiting room: the document that is the same for everybody, and where one buyer stands.

use axum::body::Bytes;
use seckill_api::{CloudflareView, InletState, PlaceState, PlaceView, QueueingMethod, RoomView};
use seckill_core::waiting::{RoomState, Standing};
use seckill_core::{Sale, Timestamp};

use super::rooms::{Latest, opens_at};

/// The longest time after which to ask again, in seconds.
const MAX_REFRESH_SECONDS: u64 = 20;

/// What an inlet does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inlet {
    /// The sale has not started.
    Gathering,
    Admitting,
    /// Orders cannot be taken at the moment; why.
    Paused(&'static str),
    /// No unit is left. One that comes back is sold to the next.
    SoldOut,
    /// The sale is over.
    Ended,
}

impl Inlet {
    fn state(self) -> InletState {
        match self {
            Self::Gathering => InletState::Gathering,
            Self::Admitting => InletState::Admitting,
            Self::Paused(_) => InletState::Paused,
            Self::SoldOut => InletState::SoldOut,
            Self::Ended => InletState::Ended,
        }
    }
}

/// The document of a room, as JSON.
pub(crate) fn document(sale: &Sale, state: &RoomState, inlet: Inlet) -> Bytes {
    json(&RoomView {
        state: inlet.state(),
        reason: match inlet {
            Inlet::Paused(why) => Some(why.to_owned()),
            _ => None,
        },
        seed_hash: Some(state.spec.seed.hash()),
        // Before the draw it would tell everybody which number to come as.
        seed: state.drawn.map(|_| state.spec.seed),
        drawn: state.drawn,
        arrivals: state.arrivals,
        admitted: state.admitted(),
        waiting: state.waiting(),
        rate_per_second: state.spec.rate,
        estimated_wait_seconds: wait_seconds(state, inlet, state.waiting()),
        refresh_interval_seconds: 1,
        as_of: moment(state.now_ms),
        ..upcoming(sale)
    })
}

/// The document of a room that is not open yet, as JSON.
pub(crate) fn upcoming_document(sale: &Sale) -> Bytes {
    json(&upcoming(sale))
}

fn upcoming(sale: &Sale) -> RoomView {
    RoomView {
        sale_id: sale.id,
        state: InletState::Upcoming,
        reason: None,
        opens_at: opens_at(sale),
        starts_at: sale.starts_at,
        ends_at: sale.ends_at,
        seed_hash: None,
        seed: None,
        drawn: None,
        arrivals: 0,
        admitted: 0,
        waiting: 0,
        rate_per_second: sale.admission.waiting_room.map_or(0, |terms| terms.rate_per_second),
        estimated_wait_seconds: None,
        refresh_interval_seconds: MAX_REFRESH_SECONDS,
        as_of: None,
    }
}

fn json(document: &RoomView) -> Bytes {
    serde_json::to_vec(document).expect("plain fields can be written as JSON").into()
}

fn moment(ms: u64) -> Option<Timestamp> {
    Timestamp::from_timestamp_millis(i64::try_from(ms).ok()?)
}

/// How long it takes until so many more are admitted; `None`: not known.
fn wait_seconds(state: &RoomState, inlet: Inlet, ahead: u64) -> Option<u64> {
    let turn = ahead.div_ceil(u64::from(state.spec.rate.max(1)));
    match inlet {
        Inlet::Admitting => Some(turn),
        Inlet::Gathering => {
            Some(state.spec.starts_ms.saturating_sub(state.now_ms).div_ceil(1_000).saturating_add(turn))
        }
        Inlet::Paused(_) | Inlet::SoldOut | Inlet::Ended => None,
    }
}

/// Where the holder of a number stands.
pub(crate) fn me(sale: &Sale, latest: &Latest, number: u64) -> PlaceView {
    let (state, inlet) = (&latest.state, latest.inlet);
    let (place, position, until_ms) = match latest.standing(number) {
        Standing::BeforeTheDraw => (PlaceState::Waiting, None, None),
        Standing::Waiting { position } => (PlaceState::Waiting, Some(position), None),
        Standing::Admitted { position, until_ms } => (PlaceState::Admitted, Some(position), Some(until_ms)),
        Standing::Expired { position } => (PlaceState::Expired, Some(position), None),
    };
    let waits = place == PlaceState::Waiting;
    let ahead = position.filter(|_| waits).map(|position| position.saturating_sub(state.admitted() + 1));
    // Before the draw every position is as likely as any other: the middle one is what to expect.
    let expected = ahead.unwrap_or(state.waiting() / 2);
    let wait = if waits { wait_seconds(state, inlet, expected + 1) } else { Some(0) };
    let refresh = if waits { wait.unwrap_or(5).div_ceil(10).clamp(1, MAX_REFRESH_SECONDS) } else { 1 };
    let minutes = wait.unwrap_or(0).div_ceil(60);
    let drawn = position.is_some_and(|position| state.drawn.is_some_and(|drawn| position <= drawn));
    let gathering = state.drawn.is_none();
    PlaceView {
        sale_id: sale.id,
        state: place,
        room: inlet.state(),
        number,
        position,
        ahead,
        estimated_wait_seconds: wait,
        admitted_until: until_ms.and_then(moment),
        cloudflare: CloudflareView {
            in_waiting_room: waits,
            wait_time_known: wait.is_some(),
            wait_time: minutes,
            wait_time_formatted: wait.map_or_else(|| "unknown".into(), |_| format!("{minutes} minutes")),
            queue_is_full: false,
            queue_all: true,
            last_updated: moment(state.now_ms),
            refresh_interval_seconds: refresh,
            queueing_method: if gathering || drawn { QueueingMethod::Random } else { QueueingMethod::Fifo },
            is_fifo_queue: !gathering && !drawn,
            is_random_queue: gathering || drawn,
            is_event_active: !gathering,
            is_event_prequeueing: gathering,
            time_until_event_start: state.spec.starts_ms.saturating_sub(state.now_ms).div_ceil(60_000),
        },
    }
}

/// Whether an event stream that has shown `last` has something new to show now.
pub(crate) fn is_news(now: &PlaceView, last: &PlaceView) -> bool {
    (now.state, now.room, now.position, now.admitted_until)
        != (last.state, last.room, last.position, last.admitted_until)
}
