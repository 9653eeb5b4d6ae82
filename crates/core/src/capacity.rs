//! The rules by which workers share one drain rate. The scheme is that of Doorman, Google's cooperative rate limiter: a worker leases
//! capacity, refreshes the lease, and says with each request what it wants and what it uses.
//!
//! Two rules keep the sum of what all workers use within the total. Nobody gets more than the total less what the others may still
//! use. And what a worker has to give up counts as used until the worker itself says that it no longer uses it, or until its lease
//! has ended: an answer may be lost on its way.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::DrainRate;
use crate::ports::CAPACITY_LEASE;

/// Orders a second that a worker may write, in whole thousandths. Not floating point: the sum of shares must never round up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Capacity(u64);

impl Capacity {
    /// None.
    pub const ZERO: Self = Self(0);
    /// More than any rate: who asks with this total limits nobody.
    pub const MAX: Self = Self(1 << 52);

    /// So many orders a second.
    pub const fn per_second(orders: u32) -> Self {
        Self(orders as u64 * 1_000)
    }

    /// So many thousandths of an order a second, [`MAX`](Self::MAX) at the most.
    pub const fn from_thousandths(thousandths: u64) -> Self {
        if thousandths > Self::MAX.0 { Self::MAX } else { Self(thousandths) }
    }

    /// In thousandths of an order a second.
    pub const fn thousandths(self) -> u64 {
        self.0
    }

    /// In orders a second.
    #[expect(clippy::cast_precision_loss, reason = "at most 2^52")]
    pub fn orders(self) -> f64 {
        self.0 as f64 / 1_000.0
    }

    /// One part of so many equal parts.
    #[must_use]
    pub fn part(self, parts: u32) -> Self {
        Self(self.0 / u64::from(parts.max(1)))
    }
}

impl std::fmt::Display for Capacity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} orders/s", self.orders())
    }
}

/// What a worker says when it leases capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapacityRequest {
    /// Which worker.
    pub worker: Uuid,
    /// Higher with each request of this worker: one that comes late, after a newer one, is not heeded.
    pub number: u64,
    /// The drain rate that this worker was told, which is for all workers together. Where workers were told different ones, the lowest
    /// counts. [`Capacity::MAX`]: a worker that takes no share, because it is paused or not limited.
    pub total: Capacity,
    /// How much it could use.
    pub wants: Capacity,
    /// How much it uses until it has the answer.
    pub has: Capacity,
}

/// What it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CapacityGrant {
    /// How much it may use as long as the lease lasts.
    pub share: Capacity,
    /// How much it may use after that while it cannot reach the store: an equal part, and no more than `share`.
    pub safe: Capacity,
    /// Workers with a lease, this one too.
    pub workers: u32,
    /// Whether the store has lost the leases and is learning them again.
    pub learning: bool,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    number: u64,
    total: Capacity,
    wants: Capacity,
    share: Capacity,
    /// The most that the worker may be using.
    used: Capacity,
    until_ms: u64,
}

/// All leases. The script of the cluster back end does the same; the conformance check holds the two against each other.
#[derive(Debug, Clone, Default)]
pub struct CapacityTable {
    leases: BTreeMap<Uuid, Lease>,
    learns_until_ms: u64,
}

impl CapacityTable {
    /// Forgets all leases, and learns them anew from `now_ms` on.
    pub fn lose(&mut self, now_ms: u64) {
        self.leases.clear();
        self.learns_until_ms = now_ms + lease_ms();
    }

    /// As [`CapacityLeases::lease`](crate::CapacityLeases::lease), at this moment of a clock that never goes back.
    pub fn lease(&mut self, now_ms: u64, request: &CapacityRequest) -> CapacityGrant {
        self.leases.retain(|_, lease| lease.until_ms > now_ms);
        let learning = now_ms < self.learns_until_ms;
        let others = || self.leases.iter().filter(|(worker, _)| **worker != request.worker);
        let total = others().map(|(_, lease)| lease.total).fold(request.total, Ord::min);
        let known = self.leases.get(&request.worker);
        if let Some(known) = known.filter(|known| known.number >= request.number) {
            let safe = known.share.min(total.part(self.workers()));
            return CapacityGrant { share: known.share, safe, workers: self.workers(), learning };
        }
        let used: u64 = others().map(|(_, lease)| lease.used.0).sum();
        let wants: Vec<_> = others().map(|(_, lease)| lease.wants).collect();
        let target = if learning { request.has } else { fair_share(total, request.wants, &wants) };
        let share = target.min(Capacity(total.0.saturating_sub(used)));
        let lease = Lease {
            number: request.number,
            total: request.total,
            wants: request.wants,
            share,
            used: share.max(request.has),
            until_ms: now_ms + lease_ms(),
        };
        self.leases.insert(request.worker, lease);
        let workers = self.workers();
        CapacityGrant { share, safe: share.min(total.part(workers)), workers, learning }
    }

    /// As [`CapacityLeases::release`](crate::CapacityLeases::release).
    pub fn release(&mut self, worker: Uuid) {
        self.leases.remove(&worker);
    }

    fn workers(&self) -> u32 {
        u32::try_from(self.leases.len()).unwrap_or(u32::MAX)
    }
}

fn lease_ms() -> u64 {
    u64::try_from(CAPACITY_LEASE.as_millis()).unwrap_or(u64::MAX)
}

/// The share of one who wants `own` beside `others`: max-min fairness, which Doorman calls `FAIR_SHARE`. Nobody gets more than they
/// want while somebody who wants more has less. What is left over when everybody has what they want is divided equally among those
/// who want anything, so that their first order in a peak need not wait.
fn fair_share(total: Capacity, own: Capacity, others: &[Capacity]) -> Capacity {
    if own == Capacity::ZERO {
        return Capacity::ZERO;
    }
    let mut wants: Vec<u64> = others.iter().map(|wants| wants.0).filter(|wants| *wants > 0).collect();
    wants.push(own.0);
    wants.sort_unstable();
    let asking = wants.len() as u64;
    let mut left = total.0;
    for (wants, asking_left) in wants.into_iter().zip((1..=asking).rev()) {
        let level = left / asking_left;
        if wants > level {
            return own.min(Capacity(level));
        }
        left -= wants;
    }
    Capacity(own.0 + left / asking)
}

impl DrainRate {
    /// What all workers together may write; [`Capacity::MAX`] where nothing has to be shared.
    pub fn total(self, auto_max: Capacity) -> Capacity {
        match self {
            Self::PerSecond(rate) => Capacity::per_second(rate.get()),
            Self::Auto => auto_max,
            Self::Unlimited | Self::Paused => Capacity::MAX,
        }
    }
}

#[cfg(test)]
mod tests;
