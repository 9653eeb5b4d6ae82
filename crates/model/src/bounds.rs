//! How much may happen in one search. Each number is a limit for the whole run of the model.

/// The size of the system and the number of faults.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Units of the sale, 1 to 3.
    pub stock: u8,
    /// Buyers, 1 to 3.
    pub users: u8,
    /// Order ids that one buyer can be given, 1 or 2.
    pub attempts: u8,
    /// Lanes of gateways, 1 or 2: each takes one claim at a time.
    pub lanes: u8,
    /// Workers, 1 or 2.
    pub workers: u8,
    /// Rebuilds that may begin, the takeover of another owner's rebuild counts.
    pub rebuilds: u8,
    /// Of these, the rebuilds that begin although no store was lost (`seckill rebuild`).
    pub by_hand: u8,
    /// Workers that die.
    pub crashes: u8,
    /// Effects of a frozen worker: the broker closes its channel, the database ends its session, its rebuild is taken
    /// over, it opens a channel on what it knew before it froze.
    pub freezes: u8,
    /// Messages that are delivered twice without a crash.
    pub duplicates: u8,
    /// Times that the gate loses everything.
    pub gate_wiped: u8,
    /// Times that the gate comes back in an older state, on another run.
    pub gate_older: u8,
    /// Times that the queue loses everything.
    pub queue_lost: u8,
    /// Times that the ledger goes back to a backup.
    pub ledger_older: u8,
    /// Whether a store may be lost while the loss of another is being repaired. "Never lost" is not promised then.
    pub overlapping_losses: bool,
}

impl Bounds {
    /// Two buyers, one unit, one lane and one worker, without faults.
    pub const SMALL: Self = Self {
        stock: 1,
        users: 2,
        attempts: 2,
        lanes: 1,
        workers: 1,
        rebuilds: 0,
        by_hand: 0,
        crashes: 0,
        freezes: 0,
        duplicates: 0,
        gate_wiped: 0,
        gate_older: 0,
        queue_lost: 0,
        ledger_older: 0,
        overlapping_losses: false,
    };
}
