//! Counters that a caller may sample while a run goes on. They never hold up a request.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::send::latency::{Latency, Times};
use crate::send::outcome::Kind;

/// How far a run is, counted as it goes.
#[derive(Debug, Default)]
pub struct Progress {
    planned: AtomicU64,
    sent: AtomicU64,
    late: AtomicU64,
    by_kind: [AtomicU64; Kind::COUNT],
    /// Latency since it was last taken; `None` until somebody wants it.
    recent: Mutex<Option<Times>>,
}

/// The counters at one moment. While a run goes on they are read one after the other, so they may differ by the few
/// requests that were answered meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Requests of the schedule.
    pub planned: u64,
    /// Requests that have left.
    pub sent: u64,
    /// Of these, requests that left later than they should, because every connection, or this machine, was busy.
    pub late: u64,
    /// 202.
    pub accepted: u64,
    /// 200: the same order as before.
    pub replayed: u64,
    /// 409 `sold-out`.
    pub sold_out: u64,
    /// 429.
    pub rate_limited: u64,
    /// Any other refusal.
    pub refused: u64,
    /// 503 `outcome-unknown`.
    pub unknown: u64,
    /// Successes that do not say what the interface promises.
    pub malformed: u64,
    /// No whole answer in time.
    pub timed_out: u64,
    /// The connection could not be made, or broke.
    pub connection_errors: u64,
}

impl Counts {
    /// Requests that have come to any end.
    pub fn ended(&self) -> u64 {
        self.accepted
            + self.replayed
            + self.sold_out
            + self.rate_limited
            + self.refused
            + self.unknown
            + self.malformed
            + self.timed_out
            + self.connection_errors
    }
}

impl Progress {
    /// All counters at 0, to be shared with a run.
    pub fn shared() -> Arc<Self> {
        Arc::default()
    }

    /// Reads all counters.
    pub fn counts(&self) -> Counts {
        let of = |kind: Kind| self.by_kind[kind as usize].load(Relaxed);
        Counts {
            accepted: of(Kind::Accepted),
            replayed: of(Kind::Replayed),
            sold_out: of(Kind::SoldOut),
            rate_limited: of(Kind::RateLimited),
            refused: of(Kind::Refused),
            unknown: of(Kind::Unknown),
            malformed: of(Kind::Malformed),
            timed_out: of(Kind::TimedOut),
            connection_errors: of(Kind::ConnectionError),
            // Read last, so that no more seem to have ended than were sent.
            sent: self.sent.load(Relaxed),
            late: self.late.load(Relaxed),
            planned: self.planned.load(Relaxed),
        }
    }

    pub(crate) fn plan(&self, requests: usize) {
        self.planned.fetch_add(requests as u64, Relaxed);
    }

    pub(crate) fn sent(&self, late: bool) {
        self.sent.fetch_add(1, Relaxed);
        if late {
            self.late.fetch_add(1, Relaxed);
        }
    }

    /// The latency, from the intended start, of the requests that have ended since the last call. The first call begins
    /// the measurement and gives none: a run that nobody watches does not pay for it.
    pub fn take_recent(&self) -> Latency {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let times = recent.get_or_insert_with(Times::new);
        let latency = times.latency();
        times.clear();
        latency
    }

    pub(crate) fn took(&self, latency_us: u64) {
        if let Some(times) = self.recent.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            times.record(latency_us);
        }
    }

    pub(crate) fn ended(&self, kind: Kind) {
        self.by_kind[kind as usize].fetch_add(1, Relaxed);
    }
}
