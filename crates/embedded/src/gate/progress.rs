//! How far the queue has got with one sale: markers, what workers hold, what was compared with the ledger. Pure: the clock is
//! the caller's.

use std::collections::HashMap;
use std::time::Duration;

use seckill_core::{Marker, QueueProgress};
use uuid::Uuid;

/// How long a worker's report of what it holds is believed, in milliseconds.
const HELD_MS: u64 = 10_000;

/// Moments are in milliseconds since 1970.
#[derive(Default)]
pub(crate) struct Progress {
    last_set_aside_ms: u64,
    /// When the newest marker was made, by a clock that never goes back.
    marked_ms: u64,
    /// When somebody asked for it.
    asked_ms: u64,
    /// The newest marker that came through: when it was made, and when it came.
    came: Option<(u64, u64)>,
    /// By worker: when its oldest order was set aside, and when it reported that.
    held: HashMap<Uuid, (u64, u64)>,
    reconciled_ms: u64,
}

impl Progress {
    /// Nothing is set aside at an earlier moment than this.
    pub(crate) fn marked_ms(&self) -> u64 {
        self.marked_ms
    }

    pub(crate) fn set_aside(&mut self, at_ms: u64) {
        self.last_set_aside_ms = self.last_set_aside_ms.max(at_ms);
    }

    /// An entry that was written at `written_ms` is in the queue now.
    pub(crate) fn settled(&mut self, now_ms: u64, written_ms: u64) {
        // Published perhaps after that marker, so the marker says nothing about it.
        if written_ms <= self.marked_ms {
            self.resending(now_ms);
        }
    }

    pub(crate) fn resending(&mut self, now_ms: u64) {
        self.set_aside(now_ms.max(self.marked_ms));
    }

    pub(crate) fn make_marker(&mut self, now_ms: u64, every: Duration) -> Option<Marker> {
        let came = self.came.map_or(0, |(made, _)| made);
        // A clock that was set back must not stop the markers.
        let since = now_ms.checked_sub(self.asked_ms);
        let recent = since.is_some_and(|since| u128::from(since) < every.as_millis());
        if self.last_set_aside_ms == 0 || self.last_set_aside_ms < came || recent {
            return None;
        }
        self.asked_ms = now_ms;
        self.marked_ms = now_ms.max(self.last_set_aside_ms + 1).max(self.marked_ms);
        Some(Marker::new(self.marked_ms))
    }

    pub(crate) fn marker_passed(&mut self, now_ms: u64, marker: &Marker) {
        if self.came.is_none_or(|(made, _)| made < marker.made_ms) {
            self.came = Some((marker.made_ms, now_ms));
        }
    }

    pub(crate) fn report_held(&mut self, now_ms: u64, worker: Uuid, oldest_ms: Option<u64>) {
        self.held.retain(|_, (_, reported)| is_recent(now_ms, *reported));
        match oldest_ms {
            Some(oldest) => self.held.insert(worker, (oldest, now_ms)),
            None => self.held.remove(&worker),
        };
    }

    pub(crate) fn reconciled(&mut self, before_ms: u64) {
        self.reconciled_ms = self.reconciled_ms.max(before_ms);
    }

    pub(crate) fn read(&self, now_ms: u64) -> QueueProgress {
        let believed = self.held.values().filter(|(_, reported)| is_recent(now_ms, *reported));
        QueueProgress {
            now_ms,
            last_set_aside_ms: self.last_set_aside_ms,
            marker: self.came,
            oldest_held_ms: believed.map(|(oldest, _)| *oldest).min(),
            reconciled_ms: self.reconciled_ms,
        }
    }
}

fn is_recent(now_ms: u64, reported_ms: u64) -> bool {
    now_ms.abs_diff(reported_ms) <= HELD_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(100);

    #[test]
    fn a_report_of_what_a_worker_holds_is_forgotten_after_ten_seconds() {
        let mut progress = Progress::default();
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        progress.report_held(20_000, one, Some(5));
        progress.report_held(25_000, two, Some(7));
        assert_eq!(progress.read(30_000).oldest_held_ms, Some(5));
        assert_eq!(progress.read(30_001).oldest_held_ms, Some(7));
        assert_eq!(progress.read(35_001).oldest_held_ms, None);
        progress.report_held(30_001, two, None);
        assert!(progress.held.is_empty());
    }

    #[test]
    fn a_marker_is_later_than_what_was_set_aside_also_when_the_clock_is_set_back() {
        let mut progress = Progress::default();
        progress.set_aside(1_000);
        let first = progress.make_marker(1_000, EVERY).unwrap();
        assert_eq!(first.made_ms, 1_001);
        assert_eq!(progress.make_marker(1_099, EVERY), None);
        let second = progress.make_marker(500, EVERY).unwrap();
        assert_eq!((second.made_ms, progress.marked_ms()), (1_001, 1_001));
    }

    #[test]
    fn what_is_settled_after_a_marker_was_made_wants_another_marker() {
        let mut progress = Progress::default();
        progress.set_aside(1_000);
        let first = progress.make_marker(1_500, EVERY).unwrap();
        progress.marker_passed(1_600, &first);
        assert_eq!(progress.make_marker(9_000, EVERY), None);
        progress.settled(2_000, 1_000);
        assert_eq!(progress.read(9_000).last_set_aside_ms, 2_000);
        assert!(progress.make_marker(9_000, EVERY).is_some());
    }
}
