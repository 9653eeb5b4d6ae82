//! What is said of a waiting room: the document that is the same for everybody, and where one buyer stands.

use axum::body::Bytes;
use seckill_core::waiting::{RoomState, Seed, Standing};
use seckill_core::{Sale, SaleId, Timestamp};
use serde::Serialize;

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
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Gathering => "gathering",
            Self::Admitting => "admitting",
            Self::Paused(_) => "paused",
            Self::SoldOut => "sold_out",
            Self::Ended => "ended",
        }
    }
}

/// A room, the same for everybody.
#[derive(Debug, Serialize)]
struct Document {
    sale_id: SaleId,
    /// `upcoming`: not open yet; or what the inlet does.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    opens_at: Option<Timestamp>,
    starts_at: Timestamp,
    ends_at: Timestamp,
    /// The SHA-256 of the seed; from the opening of the room on.
    seed_hash: Option<String>,
    /// The seed itself; from the draw on.
    seed: Option<Seed>,
    /// Arrivals that took part in the draw.
    drawn: Option<u64>,
    arrivals: u64,
    admitted: u64,
    waiting: u64,
    rate_per_second: u32,
    /// How long somebody who arrives now will wait; `null`: not known.
    estimated_wait_seconds: Option<u64>,
    refresh_interval_seconds: u64,
    /// The store's clock.
    as_of: Option<Timestamp>,
}

/// The document of a room, as JSON.
pub(crate) fn document(sale: &Sale, state: &RoomState, inlet: Inlet) -> Bytes {
    json(&Document {
        state: inlet.as_str(),
        reason: match inlet {
            Inlet::Paused(why) => Some(why),
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

fn upcoming(sale: &Sale) -> Document {
    Document {
        sale_id: sale.id,
        state: "upcoming",
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

fn json(document: &Document) -> Bytes {
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

/// Where one buyer stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Me {
    sale_id: SaleId,
    /// `waiting`, `admitted` or `expired`.
    state: &'static str,
    /// What the inlet does.
    room: &'static str,
    /// The number of the arrival, from 1 on.
    number: u64,
    /// Counted from 1; `null` before the draw.
    position: Option<u64>,
    /// Buyers in front of this one.
    ahead: Option<u64>,
    estimated_wait_seconds: Option<u64>,
    /// Until when a ticket can be fetched and used.
    #[serde(skip_serializing_if = "Option::is_none")]
    admitted_until: Option<Timestamp>,
    /// The same by the names that clients of Cloudflare's waiting room know.
    #[serde(rename = "cfWaitingRoom")]
    known_names: KnownNames,
}

/// A part of Cloudflare's `cfWaitingRoom`. Times are whole minutes there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct KnownNames {
    in_waiting_room: bool,
    wait_time_known: bool,
    wait_time: u64,
    wait_time_formatted: String,
    queue_is_full: bool,
    queue_all: bool,
    last_updated: Option<Timestamp>,
    refresh_interval_seconds: u64,
    queueing_method: &'static str,
    #[serde(rename = "isFIFOQueue")]
    is_fifo_queue: bool,
    is_random_queue: bool,
    is_event_active: bool,
    is_event_prequeueing: bool,
    time_until_event_start: u64,
}

/// Where the holder of a number stands.
pub(crate) fn me(sale: &Sale, latest: &Latest, number: u64) -> Me {
    let (state, inlet) = (&latest.state, latest.inlet);
    let (word, position, until_ms) = match latest.standing(number) {
        Standing::BeforeTheDraw => ("waiting", None, None),
        Standing::Waiting { position } => ("waiting", Some(position), None),
        Standing::Admitted { position, until_ms } => ("admitted", Some(position), Some(until_ms)),
        Standing::Expired { position } => ("expired", Some(position), None),
    };
    let waits = word == "waiting";
    let ahead = position.filter(|_| waits).map(|position| position.saturating_sub(state.admitted() + 1));
    // Before the draw every position is as likely as any other: the middle one is what to expect.
    let expected = ahead.unwrap_or(state.waiting() / 2);
    let wait = if waits { wait_seconds(state, inlet, expected + 1) } else { Some(0) };
    let refresh = if waits { wait.unwrap_or(5).div_ceil(10).clamp(1, MAX_REFRESH_SECONDS) } else { 1 };
    let minutes = wait.unwrap_or(0).div_ceil(60);
    let drawn = position.is_some_and(|position| state.drawn.is_some_and(|drawn| position <= drawn));
    let gathering = state.drawn.is_none();
    Me {
        sale_id: sale.id,
        state: word,
        room: inlet.as_str(),
        number,
        position,
        ahead,
        estimated_wait_seconds: wait,
        admitted_until: until_ms.and_then(moment),
        known_names: KnownNames {
            in_waiting_room: waits,
            wait_time_known: wait.is_some(),
            wait_time: minutes,
            wait_time_formatted: wait.map_or_else(|| "unknown".into(), |_| format!("{minutes} minutes")),
            queue_is_full: false,
            queue_all: true,
            last_updated: moment(state.now_ms),
            refresh_interval_seconds: refresh,
            queueing_method: if gathering || drawn { "random" } else { "fifo" },
            is_fifo_queue: !gathering && !drawn,
            is_random_queue: gathering || drawn,
            is_event_active: !gathering,
            is_event_prequeueing: gathering,
            time_until_event_start: state.spec.starts_ms.saturating_sub(state.now_ms).div_ceil(60_000),
        },
    }
}

impl Me {
    /// Whether an event stream that has shown `last` has something new to show now.
    pub(crate) fn is_news_after(&self, last: &Self) -> bool {
        (self.state, self.room, self.position, self.admitted_until)
            != (last.state, last.room, last.position, last.admitted_until)
    }

    /// Seconds after which to ask again.
    pub(crate) fn refresh_seconds(&self) -> u64 {
        self.known_names.refresh_interval_seconds
    }
}
