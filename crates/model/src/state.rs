//! One state of the whole system: three stores, the lanes of the gateways, the workers, and what the buyers were
//! answered. Everything is small and `Copy`, because the checker keeps millions of these.

use crate::{Bounds, Safeguard, Safeguards};

/// Users of the largest model.
pub(crate) const USERS: usize = 3;
/// Order ids of the largest model, two for each user.
pub(crate) const ORDERS: usize = 2 * USERS;

pub(crate) const fn user(order: u8) -> usize {
    order as usize / 2
}

/// What the ledger has recorded about one order id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Row {
    /// Nothing.
    #[default]
    Missing,
    Active,
    /// Rejected: an order of an older epoch.
    Stale,
    /// Rejected: the user has another active order.
    UserHasOrder,
    /// Rejected: no unit is left.
    SoldOut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ledger {
    /// One entry for each order id.
    pub rows: [Row; ORDERS],
    /// The sale's epoch.
    pub epoch: u8,
    /// The epoch in which the sale was last opened.
    pub open_epoch: u8,
    /// The owner of the rebuild that runs.
    pub owner: Option<u8>,
    /// An order id has got a second row.
    pub second_row: bool,
}

impl Ledger {
    pub(crate) fn orders(&self, row: Row) -> u8 {
        (0..ORDERS).filter(|order| self.rows[*order] == row).fold(0, |orders, order| orders | 1 << order)
    }

    pub(crate) fn without_row(&self, safeguards: Safeguards) -> u8 {
        let stale = if safeguards.has(Safeguard::StaleYields) { self.orders(Row::Stale) } else { 0 };
        self.orders(Row::Missing) | stale
    }

    pub(crate) fn sold(&self) -> u8 {
        self.orders(Row::Active).count_ones() as u8
    }
}

/// The gate. Epoch 0: it has no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Gate {
    pub epoch: u8,
    /// It came back from a restart, so its run is another one.
    pub other_run: bool,
    /// The epoch of the rebuild that has closed it.
    pub closed_for: u8,
    /// Units left.
    pub left: u8,
    /// A bit for each order that holds a unit.
    pub holders: u8,
    /// A bit for each reservation whose confirm has not been settled.
    pub pending: u8,
}

impl Gate {
    pub(crate) fn holder(&self, user: usize) -> Option<u8> {
        bits(self.holders & 0b11 << (2 * user)).next()
    }
}

/// Orders as the bits of a byte.
pub(crate) fn bits(set: u8) -> impl Iterator<Item = u8> {
    (0..ORDERS as u8).filter(move |order| set & 1 << order != 0)
}

/// An order in the queue, with the epoch it was made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Message {
    pub order: u8,
    /// Epoch of the gate that reserved it.
    pub epoch: u8,
}

/// A set of messages. Delivery is in any order; a second copy is a delivery that leaves the message where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Messages(u32);

impl Messages {
    fn bit(message: Message) -> u32 {
        assert!((1..=5).contains(&message.epoch), "the model has five epochs");
        1 << (5 * message.order + message.epoch - 1)
    }

    pub(crate) fn add(&mut self, message: Message) {
        self.0 |= Self::bit(message);
    }

    pub(crate) fn remove(&mut self, message: Message) {
        self.0 &= !Self::bit(message);
    }

    pub(crate) fn append(&mut self, more: Self) {
        self.0 |= more.0;
    }

    /// The same messages with the users renamed.
    pub(crate) fn renamed(self, names: [u8; 3]) -> Self {
        let user = |user: usize| (self.0 >> (10 * user) & 0x3ff) << (10 * names[user]);
        Self(user(0) | user(1) | user(2))
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = Message> {
        (0..30_u8)
            .filter(move |at| self.0 & 1 << at != 0)
            .map(|at| Message { order: at / 5, epoch: at % 5 + 1 })
    }
}

/// The queue. Without a marker, everything is in `front`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Queue {
    /// Before the marker.
    pub front: Messages,
    pub marker: Option<u8>,
    /// Behind the marker.
    pub back: Messages,
}

impl Queue {
    /// A new message, or one that a closed channel gives back: both come behind a marker that is there.
    pub(crate) fn push(&mut self, message: Message) {
        if self.marker.is_some() { self.back.add(message) } else { self.front.add(message) }
    }

    pub(crate) fn remove_marker(&mut self) {
        self.marker = None;
        self.front.append(self.back);
        self.back = Messages::default();
    }

    pub(crate) fn has(&self, order: u8) -> bool {
        self.front.iter().chain(self.back.iter()).any(|message| message.order == order)
    }
}

/// How far a lane is with its claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Deducted, and not yet in the pending log. Only without [`Safeguard::PendingInReserve`].
    Deducted,
    /// Reserved, not yet published.
    Reserved,
    Confirmed,
    /// The gate said that the order is there already, and confirmed: the answer is 200.
    Replayed,
}

/// What a lane of a gateway works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    pub phase: Phase,
    /// The order, with the epoch it is published with.
    pub message: Message,
    /// A buyer waits, and the window is open.
    pub answers: bool,
}

/// The next step of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Close the old gate.
    Close,
    /// Send again what the old gate holds.
    SendAgain,
    /// Wait until no gateway can say 202 for what was reserved before.
    Wait,
    /// Publish the marker.
    Mark,
    /// Drain until the marker comes.
    Drain,
    /// Lock the sale, check that it has a row for every order that the old gate holds, and read it.
    Read,
    /// Fill the gate with these active orders.
    Fill(u8),
    /// Mark the sale open.
    Open,
}

/// A rebuild as its owner sees it. The owner may be the owner no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rebuild {
    /// The owner's epoch.
    pub epoch: u8,
    /// What it does next.
    pub step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Worker {
    /// It has a consumer at the broker.
    pub consumes: bool,
    /// The order in its memory.
    pub hand: Option<Message>,
    pub committed: bool,
    /// The broker waits for the acknowledgement.
    pub unacked: bool,
    /// Found stale when taken. Only without [`Safeguard::StaleCheckInCommit`].
    pub stale: bool,
    /// The rebuild that it owns, as far as it knows.
    pub rebuild: Option<Rebuild>,
}

/// What may still happen: counted down from [`Bounds`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Left {
    pub(crate) rebuilds: u8,
    pub(crate) by_hand: u8,
    pub(crate) crashes: u8,
    pub(crate) freezes: u8,
    pub(crate) duplicates: u8,
    pub(crate) gate_wiped: u8,
    pub(crate) gate_older: u8,
    pub(crate) queue_lost: u8,
    pub(crate) ledger_older: u8,
}

/// The whole system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct State {
    pub ledger: Ledger,
    /// The sale row is locked by the transaction of this owner.
    pub lock: Option<u8>,
    pub backup: Option<Ledger>,
    pub gate: Gate,
    /// What the gate may go back to.
    pub older_gate: Option<Gate>,
    pub queue: Queue,
    /// The lanes, one claim each.
    pub lanes: [Option<Lane>; 2],
    pub workers: [Worker; 2],
    /// Order ids that are given out.
    pub used: u8,
    /// Order ids that a buyer was promised: 202, or 200.
    pub promised: u8,
    /// A bit for each epoch in which the sale was ever open. A gateway may believe in any of them.
    pub opened: u8,
    pub lost: bool,
    /// What may still happen.
    pub left: Left,
}

impl State {
    pub(crate) fn initial(bounds: &Bounds) -> Self {
        let worker = |at: u8| Worker { consumes: at < bounds.workers, ..Worker::default() };
        let ledger =
            Ledger { rows: [Row::Missing; ORDERS], epoch: 1, open_epoch: 1, owner: None, second_row: false };
        let gate = Gate { epoch: 1, left: bounds.stock, ..Gate::default() };
        Self {
            ledger,
            lock: None,
            backup: None,
            gate,
            older_gate: None,
            queue: Queue::default(),
            lanes: [None; 2],
            workers: [worker(0), worker(1)],
            used: 0,
            promised: 0,
            opened: 1 << 1,
            lost: false,
            left: Left {
                rebuilds: bounds.rebuilds,
                by_hand: bounds.by_hand,
                crashes: bounds.crashes,
                freezes: bounds.freezes,
                duplicates: bounds.duplicates,
                gate_wiped: bounds.gate_wiped,
                gate_older: bounds.gate_older,
                queue_lost: bounds.queue_lost,
                ledger_older: bounds.ledger_older,
            },
        }
    }

    /// The gate can sell, and ledger and gate agree on the epoch.
    pub(crate) fn is_open(&self, safeguards: Safeguards) -> bool {
        let right_run = !self.gate.other_run || !safeguards.has(Safeguard::RunCheck);
        self.ledger.owner.is_none()
            && right_run
            && self.gate.epoch == self.ledger.epoch
            && self.gate.closed_for == 0
    }

    /// Orders that the gate holds and the ledger has no final row for.
    pub(crate) fn held_without_row(&self, safeguards: Safeguards) -> u8 {
        self.gate.holders & self.ledger.without_row(safeguards)
    }

    /// No loss has anything left to repair: gate and ledger are open, and every order that was promised, or that a lane
    /// may still promise, is held by the gate, and is in the ledger or safe in the queue.
    pub(crate) fn is_whole(&self, safeguards: Safeguards) -> bool {
        let confirmed =
            self.lanes.iter().flatten().filter(|lane| lane.answers && lane.phase != Phase::Reserved);
        let promised = confirmed.fold(self.promised, |orders, lane| orders | 1 << lane.message.order);
        let done_elsewhere = |order| {
            self.workers.iter().any(|it| it.committed && it.hand.is_some_and(|hand| hand.order == order))
        };
        self.is_open(safeguards)
            && promised & !self.gate.holders == 0
            && bits(promised & !self.ledger.orders(Row::Active))
                .all(|order| self.is_queued(order) && !done_elsewhere(order))
    }

    /// The broker has the order: waiting, or unacknowledged.
    pub(crate) fn is_queued(&self, order: u8) -> bool {
        let unacked = |worker: &Worker| worker.unacked && worker.hand.is_some_and(|hand| hand.order == order);
        self.queue.has(order) || self.workers.iter().any(unacked)
    }

    /// Nothing is in flight and nobody has anything to do.
    pub(crate) fn is_at_rest(&self, safeguards: Safeguards) -> bool {
        let queue_is_empty =
            self.queue.front.is_empty() && self.queue.back.is_empty() && self.queue.marker.is_none();
        let nothing_to_send = self.held_without_row(safeguards) == 0 || !safeguards.has(Safeguard::Reconcile);
        queue_is_empty
            && self.lanes.iter().all(Option::is_none)
            && self.workers.iter().all(|worker| worker.hand.is_none() && worker.rebuild.is_none())
            && self.is_open(safeguards)
            && self.gate.pending == 0
            && nothing_to_send
    }
}
