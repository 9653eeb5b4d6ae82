//! The two times that let gateways answer "sold out" from memory, and what a gate says that has nothing left.

use std::time::Duration;

/// How long the gate withholds units that came back while none were left.
///
/// A gateway that answers "sold out" from its memory must never say so to a buyer who holds an order. While nothing is left
/// nobody becomes a holder, so a gateway that has read all holders in that time knows whom to let through. This is over as
/// soon as returned units are sold to buyers whom that gateway does not know. Two times keep both apart, whatever the gateways
/// do meanwhile:
///
/// - A gateway answers from memory for [`SOLD_OUT_LEASE`] at the most, counted from the moment *before* it asked the gate
///   whether still nothing is left, and nothing has come back since the holders were read.
/// - The gate sells units that came back while none were left only after `RETURN_HOLD`.
///
/// Say units come back at the moment t. A question that the gate answered before t was sent before t, so its lease ends before
/// t + `SOLD_OUT_LEASE`. A question that it answers after t ends the answers from memory. The first returned unit is sold at
/// t + `RETURN_HOLD`, when no gateway answers from memory any more. No message between gateways is needed, and a gateway that
/// is slow, or cut off, only stops earlier.
///
/// The gate counts this time on its own clock, and each gateway counts its lease on its own: lengths are compared, never
/// moments. Only a clock of the gate that is *set forward* during these milliseconds shortens the hold.
pub const RETURN_HOLD: Duration = Duration::from_millis(60);

/// How long a gateway may answer "sold out" from memory after it has sent the question whose answer allows it; why that is
/// safe is said at [`RETURN_HOLD`].
pub const SOLD_OUT_LEASE: Duration = Duration::from_millis(40);

/// What the two times may differ by: clocks that run at different speeds, and a gate that cuts its time to the millisecond.
const SLACK: Duration = Duration::from_millis(10);

const _: () = assert!(RETURN_HOLD.as_millis() >= SOLD_OUT_LEASE.as_millis() + SLACK.as_millis());

/// What a gate says that has no unit left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SoldOutSince {
    /// Rises whenever units come back, and whenever the gate is filled. So between two equal numbers no unit was sold, and
    /// nobody has become a holder.
    pub returns: u64,
    /// Users who hold an order.
    pub holders: u64,
}
