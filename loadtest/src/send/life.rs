//! One order after it was promised, and what its buyer knows of it.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::check::verify::Status;
use crate::plan::lifecycle::Behaviour;
use crate::send::run::Order;

/// The first pause before an order is looked at again, and the longest.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The last answer to a buyer's wish, as far as it says something about the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    /// The buyer has asked for nothing.
    Nothing,
    /// Nothing certain: the request is to be sent again, or was not answered.
    Open,
    /// The order's state does not allow it, or the request was refused in another way.
    Refused,
    /// 402: the bank has declined the payment.
    Declined,
    /// 409 `paid-too-late`: the money goes back by itself.
    TooLate,
    /// 200: the order is cancelled.
    Cancelled,
    /// 200: the order is paid.
    Paid,
    /// 202: the money goes back.
    Refunding,
}

/// What comes next for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waits for the commit.
    Commit,
    /// Pays or cancels.
    Act,
    /// Wants the money back.
    GiveBack,
    /// Waits until the order is where it must end.
    End,
    Done,
}

/// One order and what its buyer knows of it.
#[derive(Debug, Clone, Copy)]
pub struct Life {
    pub order: Order,
    pub behaviour: Behaviour,
    /// The order's state when its buyer looked last; `None`: the server has not said one.
    pub status: Option<Status>,
    /// What the order costs, in hundredths; 0: not known.
    pub amount_cents: u64,
    pub told: Told,
    /// The payment's id, where one was told.
    pub payment: Option<Uuid>,
    /// Whether two answers to one payment contradict each other.
    pub contradicted: bool,
    /// Whether it was seen as expired before its window can have been over.
    pub expired_early: bool,
    /// Whether it is where it must end.
    pub ended: bool,
    pub(super) sent: Instant,
    pub(super) stage: Stage,
    pub(super) pause: Duration,
}

impl Life {
    pub(super) fn new(order: Order, behaviour: Behaviour, sent: Instant) -> Self {
        Self {
            order,
            behaviour,
            status: None,
            amount_cents: 0,
            told: Told::Nothing,
            payment: None,
            contradicted: false,
            expired_early: false,
            ended: false,
            sent,
            stage: Stage::Commit,
            pause: FIRST_PAUSE,
        }
    }

    /// Whether nothing more happens to the order by itself.
    pub(super) fn rests(&self) -> bool {
        match self.status {
            Some(Status::Rejected | Status::Refunded | Status::RefundHeld) => true,
            Some(Status::Paid) => self.told != Told::Refunding,
            // Money that came too late is on its way back.
            Some(Status::Cancelled) => self.told != Told::TooLate,
            None | Some(Status::Queued | Status::Committed | Status::Refunding) => false,
        }
    }

    /// The pause before the next look: longer every time.
    pub(super) fn longer_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }

    pub(super) fn enter(&mut self, stage: Stage, wait: Duration) -> Option<Duration> {
        (self.stage, self.pause) = (stage, FIRST_PAUSE);
        Some(wait)
    }

    pub(super) fn moved_from(&self, before: &Self) -> bool {
        (self.stage, self.status, self.told) != (before.stage, before.status, before.told)
    }

    /// Nothing more comes.
    pub(super) fn end(&mut self) -> Option<Duration> {
        (self.stage, self.ended) = (Stage::Done, true);
        None
    }
}
