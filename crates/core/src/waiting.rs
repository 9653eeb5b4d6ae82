//! The waiting room of a sale: who arrived, in which order they are let in, and how fast. The rules, without any I/O.
//!
//! Arrivals get numbers from 1 on. At the start of the sale the room writes down how many there are, and that is the draw: from
//! then on the position of each of them follows from the seed of the room, see [`draw`]. Who arrives later stands behind them,
//! first come first served. The inlet is one number, `admitted`: everyone up to that position may fetch a ticket.

pub mod draw;

use serde::{Deserialize, Serialize};

pub use draw::Seed;

/// What a room is opened with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomSpec {
    /// Decides the draw. Secret until it has taken place; only its hash is shown before.
    pub seed: Seed,
    /// The start of the sale, and of the draw, in milliseconds since 1970.
    pub starts_ms: u64,
    /// Buyers that the inlet admits in a second, at the most.
    pub rate: u32,
    /// How long a buyer who was admitted has time to order, in milliseconds.
    pub ttl_ms: u64,
    /// When the room may be forgotten, in milliseconds since 1970.
    pub keep_until_ms: u64,
}

/// Buyers that were admitted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Everyone up to this position.
    pub upto: u64,
}

/// A room as its store has it, all of it at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomState {
    /// What it was opened with.
    pub spec: RoomSpec,
    /// The store's clock, in milliseconds since 1970.
    pub now_ms: u64,
    /// Numbers given out.
    pub arrivals: u64,
    /// How many numbers took part in the draw; `None`: it has not taken place.
    pub drawn: Option<u64>,
    /// Everyone up to this position was admitted, and their time is over.
    pub over: u64,
    /// Who was admitted since, oldest first.
    pub steps: Vec<Step>,
}

/// Where a buyer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The draw has not taken place.
    BeforeTheDraw,
    /// Waits at this position.
    Waiting {
        /// Counted from 1.
        position: u64,
    },
    /// May fetch a ticket.
    Admitted {
        /// Counted from 1.
        position: u64,
        /// Until this moment, in milliseconds since 1970.
        until_ms: u64,
    },
    /// Was admitted, and the time is over.
    Expired {
        /// Counted from 1.
        position: u64,
    },
}

impl RoomState {
    /// A room in which nobody is.
    pub fn new(spec: RoomSpec, now_ms: u64) -> Self {
        Self { spec, now_ms, arrivals: 0, drawn: None, over: 0, steps: Vec::new() }
    }

    /// Everyone up to this position has been admitted.
    pub fn admitted(&self) -> u64 {
        self.steps.last().map_or(self.over, |step| step.upto)
    }

    /// Buyers who have not been admitted yet.
    pub fn waiting(&self) -> u64 {
        self.arrivals.saturating_sub(self.admitted())
    }

    /// The position of a number; `None`: the draw has not taken place.
    pub fn position(&self, number: u64) -> Option<u64> {
        let drawn = self.drawn?;
        Some(if number <= drawn { draw::position(&self.spec.seed, drawn, number) } else { number })
    }

    /// Where the holder of a number stands at the moment `now_ms`.
    pub fn standing(&self, number: u64, now_ms: u64) -> Standing {
        let Some(position) = self.position(number) else { return Standing::BeforeTheDraw };
        self.standing_at(position, now_ms)
    }

    /// The same for a position.
    pub fn standing_at(&self, position: u64, now_ms: u64) -> Standing {
        if position <= self.over {
            return Standing::Expired { position };
        }
        let Some(step) = self.steps.iter().find(|step| position <= step.upto) else {
            return Standing::Waiting { position };
        };
        let until_ms = step.at_ms.saturating_add(self.spec.ttl_ms);
        if now_ms < until_ms {
            Standing::Admitted { position, until_ms }
        } else {
            Standing::Expired { position }
        }
    }

    /// Draws, if the start has come and nobody has drawn yet.
    pub fn draw_when_due(&mut self, now_ms: u64) {
        if self.drawn.is_none() && now_ms >= self.spec.starts_ms {
            self.drawn = Some(self.arrivals);
        }
    }
}

/// What the inlet is told when it may let somebody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Whether orders can be taken now. While they cannot, nobody is let in, and the time is not made up for.
    pub open: bool,
    /// Units that are left.
    pub remaining: u64,
    /// Orders of the sale so far.
    pub orders: u64,
}

/// The clock of an inlet: the moment up to which it has used its rate, in microseconds since 1970. Microseconds, so that no rate is
/// rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InletClock(pub u64);

/// An inlet that was not asked for longer than this makes up for [`CREDIT_US`] only.
const FORGOTTEN_US: u64 = 2_000_000;
/// A second.
const CREDIT_US: u64 = 1_000_000;
/// A step takes in who is admitted within this part of the time that they have, so that a room keeps about so many steps.
const STEPS: u64 = 128;

impl RoomState {
    /// Lets in whoever may come in at the moment `now_us`, in microseconds since 1970: as many as the rate allows since the
    /// inlet was asked last, no more than wait, and no more than there are units for those who were admitted and have not
    /// ordered. The same in the script of the Redis back end.
    pub fn advance(&mut self, clock: &mut InletClock, now_us: u64, demand: Demand) {
        let now_ms = now_us / 1_000;
        self.now_ms = now_ms;
        let was_drawn = self.drawn.is_some();
        self.draw_when_due(now_ms);
        let over = self.steps.iter().take_while(|step| step.at_ms + self.spec.ttl_ms <= now_ms).count();
        if let Some(last) = self.steps.drain(..over).next_back() {
            self.over = last.upto;
        }
        if self.drawn.is_none() || !was_drawn || !demand.open {
            clock.0 = now_us;
            return;
        }
        let elapsed = now_us.saturating_sub(clock.0);
        let elapsed = if elapsed > FORGOTTEN_US { CREDIT_US } else { elapsed };
        clock.0 = now_us - elapsed;
        let rate = u64::from(self.spec.rate);
        let allowed = elapsed * rate / 1_000_000;
        let admitted = self.admitted();
        // Two upper bounds of those who were admitted and may still order: whose time is not over, and who has no order.
        let unused = (admitted - self.over).min(admitted.saturating_sub(demand.orders));
        let grant = allowed.min(demand.remaining.saturating_sub(unused)).min(self.waiting());
        if grant < allowed {
            clock.0 = now_us;
        } else {
            clock.0 += (allowed * 1_000_000).div_ceil(rate);
        }
        if grant > 0 {
            self.admit(admitted + grant, now_ms);
        }
    }

    fn admit(&mut self, upto: u64, at_ms: u64) {
        let span = self.spec.ttl_ms / STEPS;
        match self.steps.last_mut() {
            Some(step) if at_ms < step.at_ms + span => step.upto = upto,
            _ => self.steps.push(Step { at_ms, upto }),
        }
    }
}

#[cfg(test)]
mod tests;
