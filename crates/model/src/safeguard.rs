//! The safeguards of the protocol. Each can be taken out, to see what breaks without it.

/// One rule of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Safeguard {
    /// `reserve` writes the pending log in the same step as the deduction. Without: in a second step.
    PendingInReserve,
    /// A buyer is answered 202 (or 200 for a pending order) after the queue's confirm. Without: before.
    AnswerAfterConfirm,
    /// 202 only within the window B after `reserve` was sent. Without: at any time.
    AnswerWindow,
    /// `reserve` fails on a gate that was filled in another run.
    RunCheck,
    /// `reserve` fails on a gate of another epoch.
    EpochCheck,
    /// The commit rejects an order of an older epoch.
    StaleCheck,
    /// The commit decides this in its own transaction. Without: the worker decides when it takes the message.
    StaleCheckInCommit,
    /// "Older" is measured by the epoch that was last *open*, also while a rebuild runs. Without: the sale's epoch is
    /// compared, and only while the sale is open.
    StaleByOpenEpoch,
    /// A rejection as stale is not final: the same order with a current epoch takes its place.
    StaleYields,
    /// Unique key: one active order of a user.
    UniqueUser,
    /// Primary key on the order id, over orders and rejections.
    PrimaryKey,
    /// `sold + n <= stock` in the commit.
    StockLimit,
    /// A message is acknowledged after its commit. Without: when it is taken.
    AckAfterCommit,
    /// The unit of a rejected order is returned only where the gate's holder is that very order.
    ReturnByOrderId,
    /// An order that the gate holds, and that neither the ledger nor the queue has, is sent again.
    Reconcile,
    /// Each owner of a rebuild gets an epoch of its own, by compare-and-set. Without: who takes a rebuild over, or
    /// begins one at the same time, uses the same epoch.
    OwnEpoch,
    /// The owner's epoch is also above every epoch that the gate knows.
    EpochAboveGate,
    /// The owner closes the old gate before anything else.
    CloseGate,
    /// The owner sends again everything that the old gate holds.
    SendHeldAgain,
    /// An old gate that was filled before the sale was last opened is not sent again: it holds no promise that the
    /// ledger lacks, and what it sends is stale for ever.
    IgnoreOlderGate,
    /// The owner publishes a marker and drains to it before it fills the gate.
    Marker,
    /// The other consumers close their channels before the marker is published, and none is there when it comes.
    StepAside,
    /// A consumer opens its channel only within B of having asked the ledger whether a rebuild runs.
    ConsumeWindow,
    /// A marker counts only on the channel of the owner that was open when it was published.
    MarkerPerChannel,
    /// Under the lock of the fill, every order that the old gate holds has a row. Without: nobody looks.
    HeldRecorded,
    /// The sale is marked open in the transaction that holds the lock under which `stock - sold` was read.
    OpenUnderLock,
    /// The transaction that reads `stock - sold` makes every older epoch stale. No lock is needed after it.
    StaleFromRead,
    /// The gate refuses to be filled with an epoch that is not newer than its own, or that it was not closed for.
    FillGuard,
    /// No commit while the gate is of a newer epoch than the ledger was last open in; a rebuild adopts the gate's epoch.
    LedgerNotOlder,
}

impl Safeguard {
    /// Every safeguard.
    pub const ALL: [Self; 29] = [
        Self::PendingInReserve,
        Self::AnswerAfterConfirm,
        Self::AnswerWindow,
        Self::RunCheck,
        Self::EpochCheck,
        Self::StaleCheck,
        Self::StaleCheckInCommit,
        Self::StaleByOpenEpoch,
        Self::StaleYields,
        Self::UniqueUser,
        Self::PrimaryKey,
        Self::StockLimit,
        Self::AckAfterCommit,
        Self::ReturnByOrderId,
        Self::Reconcile,
        Self::OwnEpoch,
        Self::EpochAboveGate,
        Self::CloseGate,
        Self::SendHeldAgain,
        Self::IgnoreOlderGate,
        Self::Marker,
        Self::StepAside,
        Self::ConsumeWindow,
        Self::MarkerPerChannel,
        Self::HeldRecorded,
        Self::OpenUnderLock,
        Self::StaleFromRead,
        Self::FillGuard,
        Self::LedgerNotOlder,
    ];
}

/// The safeguards that are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Safeguards(u32);

impl Safeguards {
    pub fn all() -> Self {
        Self(Safeguard::ALL.iter().fold(0, |set, safeguard| set | 1 << *safeguard as u32))
    }

    /// These without `safeguard`.
    #[must_use]
    pub fn without(self, safeguard: Safeguard) -> Self {
        Self(self.0 & !(1 << safeguard as u32))
    }

    /// Whether `safeguard` is in force.
    pub fn has(self, safeguard: Safeguard) -> bool {
        self.0 & 1 << safeguard as u32 != 0
    }
}
